//! Drives the core: what happens becomes its events, and its effects are carried out (`carry_out`).
//!
//! What is not in the core yet is decided here: the looks at the host and at ways in, and what is shipped.

mod carry_out;
mod checks;
mod emergency;
mod found;
pub mod homes;
pub(crate) mod jobs;
mod left_behind;
mod listeners;
mod logins;
mod looks;
mod on_disk;
mod reload;
mod retired;
mod shipped;
mod shipping;
mod sshd_log;
mod start;
mod state;
mod store;
mod sweep;
mod unread;
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
use lockdown_core::{
    machine::{Core, Event},
    penalties::Knocks,
    policy::time::Now,
    recent::RecentLogins,
};
use lockdown_host::{key_store::KeyStore, readiness::RescueWatch, writers::Writers};
use tokio::sync::mpsc;

use self::{carry_out::Held, homes::Homes, shipped::Shipped, ways::WaysState, world::World};
pub use self::{
    checks::Checked, jobs::Brought, listeners::WhoListens, start::StartError, users_sshd::UsersSshds, ways::Seen,
    world::Looked,
};
#[cfg(test)]
pub(crate) use self::{
    on_disk::LAST_COMMITS,
    start::{JOURNAL_LIMIT, LAST_ANSWERS},
};
pub(crate) use self::{shipped::NEARLY_FULL_REMEDY, shipping::shipping_problems, start::renamed};
use crate::{
    answered::Answered,
    attempts::{Follower, LogReport},
    disk::Disk,
    kept::Kept,
    ledger::View,
    operator::admitted::Asked,
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
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    /// The ledger as it was when the disk thread last was done with something; nothing until it is open.
    pub(crate) ledger: Option<View>,
    pub(crate) held: Held,
    pub(crate) kept: Kept,
    pub(crate) world: Arc<World>,
    pub(crate) looks: looks::Looks,
    /// Tells of changes of exempt accounts' key files.
    pub(crate) rescue: Option<RescueWatch>,
    pub(crate) ways: WaysState,
    pub(crate) users_sshds: users_sshd::Looks,
    pub(crate) listening: listeners::Listening,
    pub(crate) came: left_behind::Came,
    /// Notes of logins to exempt accounts whose records are on their way to the disk.
    pub(crate) notes_under_way: BTreeSet<PathBuf>,
    pub(crate) shipped: Shipped,
    pub(crate) store: KeyStore,
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
    pub(crate) last_sweep: Option<Timestamp>,
    /// What has failed lately, for which sshd may shut addresses out.
    pub(crate) knocks: Knocks,
    pub(crate) retired: retired::Retired,
    pub(crate) asked: Asked,
}

impl Engine {
    /// Acts on one reason.
    pub fn act(&mut self, reason: Reason, now: Now) -> Next {
        let next = self.decide(reason, now);
        self.follow(now);
        next
    }

    fn decide(&mut self, reason: Reason, now: Now) -> Next {
        match reason {
            Reason::Login { question, gate, answer } => self.login_asked(question, gate, answer, now),
            Reason::ClientFound { question, gate, answer, maker } => {
                self.answer_login(question, gate, Some(maker), answer, now);
            }
            Reason::Disk => return self.disk_told(now),
            Reason::NotesDropped(notes) => self.notes_dropped(&notes),
            Reason::LedgerBegun(begun) => self.ledger_begun(begun, now),
            Reason::Asked { request, peer, reply } => self.answer_operator(request, peer, reply, now),
            Reason::Deadline => self.meet_deadlines(now),
            Reason::ClockSet => self.clock_was_set(now),
            Reason::Tick => self.meet_schedule(now),
            Reason::Reload => self.step(Event::Reload(None), now),
            Reason::Admitted { id, note } => self.admitted(id, note),
            Reason::Stop => {
                self.stop(now);
                return Next::Stop;
            }
            Reason::Found(finding) => self.found(finding, now),
            Reason::Log(report) => self.log_told(report, now),
            Reason::Touched(Place::Store) => self.step(Event::Pass, now),
            Reason::Touched(Place::State) => self.core.keep_state_files(),
            Reason::Touched(Place::Shipper) => self.look_at_shipper(now),
            Reason::Touched(Place::Rescue | Place::Gate) => self.step(Event::RescueTouched, now),
            Reason::Touched(place) => self.world_touched(place, now),
            Reason::Looked(looked) => self.looked(*looked, now),
            Reason::Listening(listening) => self.heard_who_listens(listening, now),
            Reason::Job { id, brought } => return self.job_came(id, brought, now),
            Reason::Checked(checked) => self.checked(*checked, now),
            Reason::WaysSeen(seen) => self.ways_seen(&seen, now),
            Reason::UsersSshdsEnded(found) => self.users_sshds_ended(found, now),
            Reason::WaysClosed { outcome, asked } => self.ways_closed(outcome, asked, now),
            Reason::Gone(session) => self.step(Event::Gone(session), now),
            Reason::LookAt(session) => self.look_at(&session, now),
            Reason::Restored { outcome, asker, token } => self.restored(*outcome, asker, token, now),
        }
        if self.shipped.in_pieces { Next::Stop } else { Next::GoOn }
    }

    /// Whether systemd still waits for what came of a SIGHUP.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        self.core.is_reloading()
    }

    /// The next moment at which something is due, on the wall clock and on the boot clock.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> (Option<Timestamp>, Option<Duration>) {
        let (wall, boot) = self.core.next_deadline(now);
        let looks = [
            self.ways.due(),
            self.ways.ungated,
            self.users_sshds.due(),
            self.listening.due(),
            self.looks.due(),
            self.asked.due(),
            self.retired.due(),
        ];
        (wall, looks.into_iter().chain([boot]).flatten().min())
    }

    /// A deadline has passed on one of the clocks: everything that may be due is looked at.
    fn meet_deadlines(&mut self, now: Now) {
        self.before_lockdown(now);
        self.step(Event::Deadline, now);
        self.end_newness(now);
        self.answer_unasked(now);
        self.meet_schedule(now);
        self.attest_if_due(now);
        self.look_if_due(now);
        self.look_who_listens_if_due(now);
        self.end_users_sshds_if_due(now);
        self.find_ungated_if_due(now);
    }
}
