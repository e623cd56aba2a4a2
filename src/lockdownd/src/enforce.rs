//! Enforcement: one owner of all state, one reason to act at a time, and one pass that reads top to bottom.
//!
//! What takes access away comes first and waits for nobody: the key leaves the store, the connection ends, and only then
//! are files written and records made. What gives access is on disk and on record before it takes effect.

mod checks;
mod emergency;
mod ending;
mod farewell;
mod found;
mod giving;
pub mod homes;
pub(crate) mod jobs;
mod left_behind;
mod listeners;
mod logins;
mod looks;
mod mode;
mod on_disk;
mod recent;
mod reload;
mod retired;
mod schedule;
mod shipped;
mod shipping;
mod sshd_log;
mod start;
mod state;
mod store;
mod unread;
mod unstored;
mod users_sshd;
mod ways;
mod world;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use lockdown_core::config::Config;
use lockdown_core::policy::{self, time::Now};
use lockdown_host::{key_store::KeyStore, writers::Writers};
use record::{Account, Fingerprint, GrantId, Person, SessionId};
use tokio::sync::mpsc;

pub(crate) use self::ending::QUICK_TRIES;
pub(crate) use self::jobs::Kind;
pub use self::on_disk::First;
pub(crate) use self::on_disk::{LAST_COMMITS, PATIENCE, Waiting, came_late, disk_refusal};
#[cfg(test)]
pub(crate) use self::start::{JOURNAL_LIMIT, LAST_ANSWERS};
pub use self::{
    checks::Checked, ending::Ending, jobs::Came, left_behind::LookedBehind, listeners::WhoListens, reload::Loaded,
    start::StartError, users_sshd::UsersSshds, ways::Seen, world::Looked,
};
pub(crate) use self::{
    checks::Waits, giving::NotInForce, shipped::NEARLY_FULL_REMEDY, shipping::shipping_problems, start::renamed,
};
use self::{
    homes::Homes, jobs::Jobs, mode::ModeState, recent::RecentLogins, schedule::Schedule, shipped::Shipped,
    unstored::Unstored, ways::WaysState, world::World,
};
use crate::{
    answered::Answered,
    attempts::{Follower, LogReport},
    emergencies::Emergencies,
    grants::GrantsOnDisk,
    operator::admitted::Asked,
    recorder::{Covered, Recorder},
    sessions::Sessions,
    traces::TracesOnDisk,
    trigger::{Place, Reason},
};

/// Whether the daemon goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// It waits for the next reason.
    GoOn,
    /// It stops.
    Stop,
}

/// The owner of all state. Every method is synchronous; whoever waits does so outside.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) config_state: ConfigState,
    pub(crate) people: BTreeMap<Fingerprint, Person>,
    pub(crate) world: Arc<World>,
    pub(crate) looks: looks::Looks,
    pub(crate) mode: ModeState,
    pub(crate) schedule: Schedule,
    pub(crate) ways: WaysState,
    pub(crate) users_sshds: users_sshd::Looks,
    pub(crate) listening: listeners::Listening,
    pub(crate) jobs: Jobs,
    pub(crate) grants: GrantsOnDisk,
    pub(crate) grants_unsaved: bool,
    /// Until the state that the last run left is read.
    pub(crate) unread: Option<unread::Unread>,
    pub(crate) sessions: Sessions,
    pub(crate) traces: TracesOnDisk,
    pub(crate) behind: left_behind::Behind,
    pub(crate) recorder: Recorder,
    /// What the next commit covers beside what is told by the tables.
    pub(crate) covered: Covered,
    /// Answers that wait for records.
    pub(crate) unrecorded: Vec<on_disk::Unrecorded>,
    /// Notes of logins to exempt accounts whose records are on their way to the disk.
    pub(crate) notes_under_way: BTreeSet<PathBuf>,
    pub(crate) emergencies: Emergencies,
    pub(crate) shipped: Shipped,
    pub(crate) store: KeyStore,
    /// What the store was left holding; `None` while that is not known.
    pub(crate) stored: Option<BTreeMap<Account, Vec<u8>>>,
    pub(crate) unstored: Unstored,
    /// Grants with keys that have no room in the store.
    pub(crate) left_out: BTreeSet<GrantId>,
    /// Once the state is read: the quarantine is part of it.
    pub(crate) homes: Option<Homes>,
    /// Where the threads of homes are to tell what they find, until they are started.
    pub(crate) findings: Option<mpsc::Sender<homes::Finding>>,
    /// How many key files stand because the quarantine cannot keep them, and why.
    pub(crate) homes_unkept: Option<(u64, String)>,
    pub(crate) answered: Answered,
    /// Once the state is read: up to where sshd's log was followed is part of it.
    pub(crate) follower: Option<Follower>,
    pub(crate) writers: Arc<Writers>,
    /// Up to which change each part of the configuration has been told of.
    pub(crate) changes_told: BTreeMap<&'static str, u64>,
    pub(crate) recent: RecentLogins,
    pub(crate) reasons: mpsc::Sender<Reason>,
    /// What is told of sshd's log: it waits until nobody else does.
    pub(crate) reports: mpsc::Sender<LogReport>,
    pub(crate) started_at: Timestamp,
    pub(crate) clock_offset: i128,
    pub(crate) last_sweep: Option<Timestamp>,
    /// Up to which moment warnings of an end have been given.
    pub(crate) warned_to: Timestamp,
    /// sshd's processes of the exempt logins that the gate left notes of, as long as they run.
    pub(crate) emergencies_noted: BTreeSet<i32>,
    pub(crate) reloads: reload::Reloads,
    pub(crate) retired: retired::Retired,
    pub(crate) asked: Asked,
}

/// Which configuration is in force, and since when.
#[derive(Debug, Clone)]
pub struct ConfigState {
    /// Since when.
    pub loaded_at: Timestamp,
    /// It is the last good one: the files do not check out.
    pub last_good: bool,
    /// Why the files were refused, where they were.
    pub refused: Option<String>,
}

impl Engine {
    /// Acts on one reason.
    pub fn act(&mut self, reason: Reason, now: Now) -> Next {
        match reason {
            Reason::Login { question, gate, answer } => self.login_asked(question, gate, answer, now),
            Reason::ClientFound { question, gate, answer, maker } => {
                self.answer_login(question, gate, Some(&maker), answer, now);
            }
            Reason::Disk => return self.disk_told(now),
            Reason::NotesDropped(notes) => self.notes_dropped(&notes),
            Reason::LedgerBegun(begun) => self.ledger_begun(begun, now),
            Reason::Asked { request, peer, reply } => self.answer_operator(request, peer, reply, now),
            Reason::Deadline => self.meet_deadlines(now),
            Reason::ClockSet => self.clock_was_set(now),
            Reason::Tick => self.meet_schedule(now),
            Reason::Reload => self.reload_signalled(now),
            Reason::Admitted { id, note } => self.admitted(id, note),
            Reason::Loaded(loaded) => self.loaded(*loaded, now),
            Reason::Stop => {
                self.stop(now);
                return Next::Stop;
            }
            Reason::Found(finding) => self.found(finding, now),
            Reason::Log(report) => self.log_told(report, now),
            Reason::Touched(Place::Store) => self.pass(now),
            Reason::Touched(Place::State) => self.keep_state_files(now),
            Reason::Touched(Place::Shipper) => self.look_at_shipper(now),
            Reason::Touched(Place::Rescue | Place::Gate) => self.rescue_touched(now),
            Reason::Touched(place) => self.world_touched(place, now),
            Reason::Looked(looked) => self.looked(*looked, now),
            Reason::Listening(listening) => self.heard_who_listens(listening, now),
            Reason::Job { id, came } => return self.job_came(id, came, now),
            Reason::Checked(checked) => self.checked(*checked, now),
            Reason::WaysSeen(seen) => self.ways_seen(&seen, now),
            Reason::UsersSshdsEnded(found) => self.users_sshds_ended(found, now),
            Reason::WaysClosed { outcome, asked } => self.ways_closed(outcome, asked, now),
            Reason::Gone(session) => self.session_gone(&session, now),
            Reason::LookAgain(session) => self.look_again(&session, now),
            Reason::LookedBehind(looked) => self.looked_behind(*looked, now),
            Reason::LookAt(session) => self.look_at(&session, now),
            Reason::Restored { outcome, asker, reply } => self.restored(*outcome, asker, reply, now),
        }
        if self.shipped.in_pieces { Next::Stop } else { Next::GoOn }
    }

    /// One pass over grants, key store and sessions: observe, decide, apply, record.
    pub fn pass(&mut self, now: Now) {
        let over = self.grants.over(now);
        self.end_grants(&over, &Ending::expired(), now);
        self.set_store_right(now);
        self.end_unbacked_sessions(now);
        self.recorder.close_windows(now, false);
        self.commit(now);
    }

    /// The next moment at which something is due, on the wall clock and on the boot clock.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> (Option<Timestamp>, Option<Duration>) {
        let (wall, boot) = self.grants.next_change(now);
        let trial = self.mode.trial_ends().map(|end| end.boot);
        let windows = self.recorder.next_close();
        let looks = [
            self.ways.due(),
            self.ways.ungated,
            self.users_sshds.due(),
            self.jobs.due(),
            self.listening.due(),
            self.looks.due(),
            self.unstored.due(),
            self.behind.due(),
            self.mode.due(),
            self.asked.due(),
            self.retired.due(),
            self.disk_due(),
        ];
        let boots = [boot, self.grants.next_heartbeat(), trial, windows];
        let scheduled = [self.schedule.next_lockdown(), self.schedule.next_sweep()];
        let walls = [wall, self.mode.trial_ends().map(|d| d.wall), self.next_warning()].into_iter().chain(scheduled);
        (walls.flatten().min(), boots.into_iter().chain(looks).flatten().min())
    }

    /// A deadline has passed on one of the clocks: everything that may be due is looked at.
    fn meet_deadlines(&mut self, now: Now) {
        self.grants_unsaved |= self.grants.next_heartbeat().is_some_and(|due| now.boot >= due);
        self.pass(now);
        if self.mode.trial_ends().is_some_and(|end| end.has_passed(now)) {
            self.end_trial(now);
        }
        self.end_newness(now);
        self.check_if_due(now);
        self.give_up_on_disk(now);
        self.answer_unasked(now);
        self.meet_schedule(now);
        self.give_up_overdue_jobs(now);
        self.look_behind_if_due(now);
        self.warn_sessions(now);
        self.attest_if_due(now);
        self.look_if_due(now);
        self.look_who_listens_if_due(now);
        self.end_users_sshds_if_due(now);
        self.find_ungated_if_due(now);
    }

    /// Whether enforce is on, by configuration or for a trial.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.mode.enforces()
    }

    /// The user id of an account as passwd(5) lists it now.
    #[must_use]
    pub fn uid_of(&self, account: &Account) -> Option<u32> {
        self.world.uid_of(account)
    }

    /// The account that keeps people out of this one, since both have one user id.
    #[must_use]
    pub fn kept_for(&self, account: &Account) -> Option<&Account> {
        policy::shared::kept_for(account, &self.world.known().uids, self.exempt())
    }

    /// When the next scheduled lockdown comes.
    #[must_use]
    pub fn next_lockdown(&self) -> Option<Timestamp> {
        self.schedule.next_lockdown()
    }

    /// A grant's id that no grant has yet.
    pub(crate) fn new_grant_id(&self) -> GrantId {
        loop {
            let id: GrantId = format!("g-{:016x}", lockdown_host::random()).parse().expect("16 hex digits are an id");
            if self.grants.get(&id).is_none() {
                return id;
            }
        }
    }

    /// A session's id that no live session has.
    pub(crate) fn new_session_id(&self) -> SessionId {
        loop {
            let id: SessionId = format!("s-{:016x}", lockdown_host::random()).parse().expect("16 hex digits are an id");
            if self.sessions.get(&id).is_none() {
                return id;
            }
        }
    }

    /// The fingerprints of everybody's keys, and whose they are; the configuration has refused a key that two claim.
    fn index_people(config: &Config) -> BTreeMap<Fingerprint, Person> {
        let people = config.people.iter();
        people.flat_map(|(name, entry)| entry.keys.iter().map(move |key| (key.fingerprint(), name.clone()))).collect()
    }

    /// Exempt accounts as the configuration names them.
    fn exempt(&self) -> &BTreeSet<Account> {
        &self.config.accounts.exempt
    }
}
