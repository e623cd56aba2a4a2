//! What gives and takes access, as one state machine: an event and a moment in, effects out.
//!
//! Nothing here waits, reads a clock or touches the operating system: whoever drives it carries the effects out in order and
//! tells what became of them by further events. What takes access away comes first and waits for nothing. What gives access
//! takes effect only once the disk has it.

mod admitted;
mod allow;
mod backing;
pub mod checks;
mod clock;
mod covered;
pub mod documents;
mod effect;
mod ending;
mod farewell;
pub mod found;
mod giving;
mod ids;
pub mod jobs;
pub mod left_behind;
mod login;
pub mod looks;
pub mod mode;
pub mod notes;
mod on_disk;
pub mod past_gate;
pub mod receipts;
pub mod recorder;
pub mod reload;
pub mod retired;
mod revoke;
mod schedule;
mod start;
mod store;
pub mod sweep;
mod unstored;
pub mod users_sshds;
mod views;
pub mod ways;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use record::{Account, Draft, Fingerprint, GrantId, Person, SessionId};

use self::{
    admitted::Admissions,
    checks::Checks,
    documents::Documents,
    found::Then,
    ids::Ids,
    jobs::Jobs,
    left_behind::Behind,
    looks::Looks,
    notes::Notes,
    on_disk::Unrecorded,
    receipts::Receipts,
    recorder::Recorder,
    reload::{ConfigState, Reloads},
    retired::Retired,
    store::Store,
    ways::Ways,
};
pub use self::{
    admitted::Granted,
    allow::{Asker, PendingAllow, grant_created},
    covered::Covered,
    documents::PendingDocument,
    effect::{CutOrder, CutTried, Effect, Event, Moment, Owed, Severity, StoreSeen, Tell, Token, Warn},
    ending::{Ended, Ending, QUICK_TRIES, grant_ended, with_uses},
    giving::NotInForce,
    login::{Holder, LoginAsked, Maker, PendingLogin, key_of, methods, placed, source_of},
    looks::Around,
    mode::Mode,
    on_disk::{First, PATIENCE, Waiting, disk_refusal},
    schedule::{ATTEST_WITHIN, Schedule},
    start::{OnRecord, Unread},
    store::{KEY_STORE, in_store, missing_persons},
    views::{MAX_LISTED, grant_view, session_view},
};
use crate::{
    config::Config,
    emergencies::Emergencies,
    grants::Grants,
    policy::{self, login::KeyOwners, time::Now},
    recent::RecentLogins,
    sessions::{Session, Sessions},
    traces::Traces,
};

/// Who gives and takes access.
#[derive(Debug)]
pub struct Core {
    /// The configuration in force; change it by [`Core::replace_config`].
    pub config: Config,
    /// The fingerprints of the keys of everybody in the configuration, and whose they are.
    pub people: BTreeMap<Fingerprint, Person>,
    /// What is known of the host.
    pub around: Around,
    /// The mode.
    pub mode: Mode,
    /// What stands in the way of the mode that is wanted, and what is done about it.
    pub checks: Checks,
    /// Which configuration is in force.
    pub config_state: ConfigState,
    reloads: Reloads,
    /// When sweeps and lockdowns are due.
    pub schedule: Schedule,
    /// The lockdown that is due waits until it is known who is there.
    lockdown_waits: bool,
    /// When it was swept last.
    pub last_sweep: Option<Timestamp>,
    looks: Looks,
    /// Accounts whose key files are left alone, though they are not exempt.
    pub retired: Retired,
    users_sshds: users_sshds::Looks,
    /// The ways in.
    pub ways: Ways,
    /// Signed documents.
    pub documents: Documents,
    /// The grants.
    pub grants: Grants,
    grants_unsaved: bool,
    /// Whether ends may be noted in memory that outlives the daemon: after a start, those of the run before.
    notes_ends: bool,
    /// Until the state that the last run left is read.
    pub unread: Option<Unread>,
    /// What comes back from shipping.
    pub receipts: Receipts,
    admissions: Admissions,
    /// The sessions.
    pub sessions: Sessions,
    recent: RecentLogins,
    /// What follows each look for connections that is under way.
    after_logins: VecDeque<Then>,
    /// Notes of the gate's.
    pub notes: Notes,
    /// When this run began.
    pub started_at: Timestamp,
    /// Those from before whose connection was gone at the start, until it is known whether their end is to be noted.
    unclosed: Vec<Session>,
    /// Whether the table of sessions could be kept when that was tried last.
    sessions_kept: bool,
    /// Which audit sessions the connections of which grant had.
    pub traces: Traces,
    /// Work beside whoever drives this.
    pub jobs: Jobs,
    behind: Behind,
    /// When a session that is to end is cut again, on the boot clock.
    retries: BTreeMap<SessionId, Duration>,
    /// What is to be recorded.
    pub recorder: Recorder,
    /// What the next commit covers beside what is told by the tables.
    pub covered: Covered,
    /// Ends of grants that the next commit states, and all that are stated and not known to be on disk.
    ends_noted: BTreeSet<GrantId>,
    ends_stated: BTreeSet<GrantId>,
    /// Answers that wait for records.
    unrecorded: Vec<Unrecorded>,
    /// Logins to exempt accounts that the next attestation tells of.
    pub emergencies: Emergencies,
    store: Store,
    /// Up to which moment warnings of an end have been given.
    warned_to: Timestamp,
    clock_offset: i128,
    boot_id: String,
    ids: Ids,
    effects: Vec<Effect>,
}

impl Core {
    /// Nothing given yet, in observe, with the state still to be read.
    #[must_use]
    pub fn new(config: Config, around: Around, boot_id: String, sessions: Sessions, moment: Moment) -> Self {
        let Moment { now, random } = moment;
        Self {
            people: index_people(&config),
            documents: Documents::default(),
            schedule: Schedule::new(&config, now),
            config,
            around,
            mode: Mode::default(),
            lockdown_waits: false,
            last_sweep: None,
            looks: Looks::default(),
            retired: Retired::default(),
            users_sshds: users_sshds::Looks::default(),
            ways: Ways::default(),
            checks: Checks::default(),
            config_state: ConfigState { loaded_at: now.wall, last_good: false, refused: None },
            reloads: Reloads::default(),
            grants: Grants::default(),
            grants_unsaved: true,
            notes_ends: true,
            unread: None,
            receipts: Receipts::default(),
            admissions: Admissions::default(),
            sessions,
            recent: RecentLogins::since(now.wall),
            after_logins: VecDeque::new(),
            notes: Notes::default(),
            started_at: now.wall,
            unclosed: Vec::new(),
            sessions_kept: true,
            traces: Traces::default(),
            jobs: Jobs::default(),
            behind: Behind::default(),
            retries: BTreeMap::new(),
            recorder: Recorder::new(now),
            covered: Covered::default(),
            ends_noted: BTreeSet::new(),
            ends_stated: BTreeSet::new(),
            unrecorded: Vec::new(),
            emergencies: Emergencies::default(),
            store: Store::default(),
            // What fell due while the daemon was down is told now; who was told already is not told again.
            warned_to: Timestamp::MIN,
            clock_offset: clock::offset(now),
            boot_id,
            ids: Ids(random),
            effects: Vec::new(),
        }
    }

    /// Acts on one event: what is to be carried out, in order.
    pub fn step(&mut self, event: Event, moment: Moment) -> Vec<Effect> {
        let now = self.begin(moment);
        self.act(event, now);
        self.take_effects(now)
    }

    fn act(&mut self, event: Event, now: Now) {
        match event {
            Event::Login(asked) => self.login(*asked, now),
            Event::Allow { token, asked, asker } => self.allow_after_look(asked, asker, token, now),
            Event::Revoke { token, asked, asker } => self.revoke(token, &asked, asker, now),
            // It ends connections too that came past the gate.
            Event::Lockdown { token, asked, asker } => self.find_logins(Then::LockDown { token, asked, asker }),
            Event::Deadline => self.meet_deadlines(now),
            Event::ClockSet => self.clock_was_set(now),
            Event::Gone(session) => self.session_gone(&session, now),
            Event::Cut(tried) => self.cut_tried(tried, now),
            Event::Warned { session, ends_at, terminals } => self.warned(&session, ends_at, terminals),
            Event::StoreSeen(seen) => self.store_seen(*seen, now),
            Event::KeysPut { account, bytes } => self.keys_put(account, bytes),
            Event::SessionsKept(kept) => self.sessions_kept = kept,
            Event::OwedNotKept(owed) => self.recorder.take_back(owed),
            Event::Disk(done, known) => self.disk_told(done, known, now),
            Event::Job(id, came) => self.job_came(id, came, now),
            Event::LookedBehind(looked) => self.looked_behind(*looked, now),
            Event::Traced(session, audit) => self.traced(&session, audit),
            Event::Touched { anything } => self.touched(anything, now),
            Event::Looked(looked) => self.looked(*looked, now),
            Event::Heard(heard) => self.heard_who_listens(heard, now),
            Event::UsersSshdLogged => self.users_sshd_logged(now),
            Event::UsersSshdsEnded(found) => self.users_sshds_ended(found, now),
            Event::Swept(swept) => self.swept(swept, now),
            Event::WaysSeen(seen) => self.ways_seen(&seen, now),
            Event::WaysUnseen(why) => self.ways_look_failed(&why, now),
            Event::QuarantineNow { token, account, asker } => self.quarantine_now(token, account, asker, now),
            Event::LoggedIn(seen) => self.logged_in(seen, now),
            Event::OpenedBefore(session, login) => self.attribute(&session, &login),
            Event::NotesRead(notes) => self.notes_read(notes, now),
            Event::NotesGone(paths) => self.notes.are_gone(&paths),
            Event::SessionsSeen(seen) => self.sessions_seen(seen, now),
            Event::Admitted(token, note) => self.admitted(token, note),
            Event::ShipperSeen(seen) => self.shipper_seen(seen, now),
            Event::LedgerBegun(begun) => self.ledger_begun(begun, now),
            Event::Note(draft, times) => self.note_found(draft, times, now),
            Event::Trial { until, actor, token } => self.begin_trial(until, actor, token, now),
            Event::Looks(whose) => self.answer_after_look(whose, now),
            Event::Checked(checked) => self.checked(*checked, now),
            Event::DropInSeen(stands) => self.drop_in_seen(stands, now),
            Event::FindLogins => self.find_logins(Then::Rest),
            Event::LoginsFound(found) => self.logins_found(found, now),
            Event::RescueTouched => self.rescue_touched(now),
            Event::Reload(asked) => self.reload(asked, now),
            Event::Loaded(loaded) => self.loaded(*loaded, now),
            Event::ConfigFollowed => self.config_followed(now),
            Event::Apply { token, envelope } => self.apply(&envelope, token, now),
            Event::InboxTouched => self.look_into_inbox(now),
            Event::InboxRead(read) => self.inbox_read(*read, now),
            Event::Pass => self.pass(now),
        }
    }

    /// Begins to act, as of this moment.
    pub fn begin(&mut self, moment: Moment) -> Now {
        self.ids = Ids(moment.random);
        moment.now
    }

    /// What is to be carried out, in order: what changes nothing but tables is kept by it.
    #[must_use]
    pub fn take_effects(&mut self, now: Now) -> Vec<Effect> {
        self.keep_sessions();
        self.give_disk(now);
        std::mem::take(&mut self.effects)
    }

    fn push(&mut self, effect: Effect) {
        // Whoever is let in, or on record, is in the table that outlives the daemon; and whoever is cut stands there as one who is
        // to be.
        if matches!(effect, Effect::AnswerGate { .. } | Effect::Cut(_) | Effect::Disk(_) | Effect::KeepOwed(_)) {
            self.keep_sessions();
        }
        self.effects.push(effect);
    }

    fn keep_sessions(&mut self) {
        self.effects.extend(self.sessions.take_changed().map(Effect::KeepSessions));
    }

    fn say(&mut self, severity: Severity, what: impl Into<String>) {
        self.effects.push(Effect::Say(severity, what.into()));
    }

    /// One pass over grants, key store and sessions.
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
        let boots = [
            boot,
            self.grants.next_heartbeat(),
            self.recorder.next_close(),
            self.store.due(),
            self.disk_due(),
            self.jobs.due(),
            self.behind.due(),
            self.checks.due(),
            self.admissions.due(),
            self.looks.due(),
            self.retired.due(),
            self.users_sshds.due(),
            self.ways.due(),
            self.documents_due(),
            self.mode.trial.map(|end| end.boot),
            self.retries.values().min().copied(),
        ];
        let trial = self.mode.trial.map(|end| end.wall);
        let walls = [wall, self.next_warning(), self.schedule.next_lockdown(), self.schedule.next_sweep(), trial];
        (walls.into_iter().flatten().min(), boots.into_iter().flatten().min())
    }

    /// A deadline has passed on one of the clocks: everything that may be due is looked at.
    fn meet_deadlines(&mut self, now: Now) {
        self.grants_unsaved |= self.grants.next_heartbeat().is_some_and(|due| now.boot >= due);
        self.pass(now);
        self.cut_again(now);
        self.give_up_on_disk(now);
        self.meet_schedule(now);
        self.warn_sessions(now);
        self.end_trial_if_over(now);
        self.check_if_due(now);
        self.give_up_overdue_jobs(now);
        self.look_behind_if_due(now);
        self.end_newness(now);
        self.look_if_due(now);
        self.answer_who_waited_for_look(now);
        self.answer_unasked(now);
        self.end_users_sshds_if_due(now);
        self.attest_if_due(now);
        self.end_if_silent(now);
        self.look_into_inbox_if_due(now);
    }

    /// What somebody has found who looks after homes is on record; what can be caused at will, summed up after the first.
    fn note_found(&mut self, draft: Draft, times: Option<u64>, now: Now) {
        match times {
            Some(times) => self.recorder.note_often(draft, times, now),
            None => self.recorder.note(draft),
        }
        self.commit(now);
    }

    /// Another configuration is in force. What is due is due by the one from before. Answers whether sweeps come by another
    /// pattern from now on.
    pub fn replace_config(&mut self, config: Config, now: Now) -> bool {
        self.meet_lockdown_knowing_logins(now);
        let sweeps_change = self.schedule.change(&config, now);
        self.config = config;
        self.people = index_people(&self.config);
        // How long before an end people are warned may have changed.
        self.warned_to = Timestamp::MIN;
        sweeps_change
    }

    /// Whether enforce is on, by configuration or for a trial.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.mode.enforces
    }

    /// Whether the state has not been read since the start.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread.is_some()
    }

    /// The boot that this runs in.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The user id of an account.
    #[must_use]
    pub fn uid_of(&self, account: &Account) -> Option<u32> {
        self.around.known.uids.get(account).copied()
    }

    /// The account that keeps people out of this one, since both have one user id.
    #[must_use]
    pub fn kept_for(&self, account: &Account) -> Option<&Account> {
        policy::shared::kept_for(account, &self.around.known.uids, self.exempt())
    }

    /// Exempt accounts as the configuration names them.
    #[must_use]
    pub fn exempt(&self) -> &BTreeSet<Account> {
        &self.config.accounts.exempt
    }

    /// When the next scheduled lockdown comes.
    #[must_use]
    pub fn next_lockdown(&self) -> Option<Timestamp> {
        self.schedule.next_lockdown()
    }

    /// The grants that have not ended.
    #[must_use]
    pub fn open_grants(&self) -> Vec<GrantId> {
        self.grants.open_ones().map(|grant| grant.id.clone()).collect()
    }

    /// Has the grants written with the next commit, as something of them has changed.
    pub fn grants_changed(&mut self) {
        self.grants_unsaved = true;
    }

    /// A grant's id that no grant has yet.
    fn new_grant_id(&mut self) -> GrantId {
        loop {
            let id: GrantId = format!("g-{:016x}", self.ids.next()).parse().expect("16 hex digits are an id");
            if self.grants.get(&id).is_none() {
                return id;
            }
        }
    }

    /// A session's id that no live session has.
    pub fn new_session_id(&mut self) -> SessionId {
        loop {
            let id: SessionId = format!("s-{:016x}", self.ids.next()).parse().expect("16 hex digits are an id");
            if self.sessions.get(&id).is_none() {
                return id;
            }
        }
    }
}

/// The fingerprints of the keys of everybody in the configuration, and whose they are; it has refused a key that two claim.
fn index_people(config: &Config) -> BTreeMap<Fingerprint, Person> {
    let people = config.people.iter();
    people.flat_map(|(name, entry)| entry.keys.iter().map(move |key| (key.fingerprint(), name.clone()))).collect()
}

impl Core {
    /// Whose this key is, by configuration or roster.
    #[must_use]
    pub fn owner(&self, key: &Fingerprint) -> Option<&Person> {
        self.people.get(key).or_else(|| self.documents.judge()?.person_of(key))
    }
}

impl KeyOwners for Core {
    fn owner(&self, key: &Fingerprint) -> Option<&Person> {
        Self::owner(self, key)
    }
}
