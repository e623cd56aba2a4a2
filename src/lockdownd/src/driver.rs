//! Drives the core: what happens becomes its events (`Driver::act`), and its effects are carried out (`carry_out`). Nothing is
//! decided here.

mod admission;
mod carry_out;
mod checks;
mod emergency;
mod feed_token;
mod found;
pub mod homes;
pub(crate) mod jobs;
mod left_behind;
mod listeners;
mod logins;
mod looks;
mod on_disk;
mod reload;
mod shipped;
mod shipping;
mod sshd_log;
mod start;
mod state;
mod store;
mod unread;
mod world;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use lockdown_core::{
    machine::{Core, Event},
    penalties::Knocks,
    policy::time::Now,
};
use lockdown_host::{key_store::KeyStore, readiness::RescueWatch, shipper::Shipper, writers::Writers};
use tokio::sync::mpsc;

use self::{carry_out::Held, homes::Homes, listeners::Listeners, looks::ChangesTold, world::World};
pub use self::{checks::Checked, jobs::Brought, start::StartError, world::Looked};
#[cfg(test)]
pub(crate) use self::{
    on_disk::LAST_COMMITS,
    start::{JOURNAL_LIMIT, LAST_ANSWERS},
};
pub(crate) use self::{
    shipping::{NEARLY_FULL_REMEDY, shipping_problems},
    start::renamed,
};
use crate::{
    answered::Answered,
    attempts::{Follower, LogReport},
    disk::Disk,
    kept::Kept,
    ledger::View,
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
pub struct Driver {
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    /// The ledger as it was when the disk thread last was done with something; nothing until it is open.
    pub(crate) ledger: Option<View>,
    pub(crate) held: Held,
    pub(crate) kept: Kept,
    pub(crate) world: Arc<World>,
    /// Whether other directories may have to be watched than before.
    pub(crate) directories_moved: bool,
    /// Tells of changes of exempt accounts' key files.
    pub(crate) rescue: Option<RescueWatch>,
    pub(crate) listeners: Listeners,
    pub(crate) came: left_behind::Came,
    pub(crate) shipper: Shipper,
    beside: shipped::Beside,
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
    pub(crate) changes_told: ChangesTold,
    pub(crate) reasons: mpsc::Sender<Reason>,
    /// What is told of sshd's log: it waits until nobody else does.
    pub(crate) reports: mpsc::Sender<LogReport>,
    /// What has failed lately, for which sshd may shut addresses out.
    pub(crate) knocks: Knocks,
    /// Only another start can mend what this one cannot.
    pub(crate) starts_over: bool,
}

impl Driver {
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
            Reason::NotesDropped(notes) => self.step(Event::NotesGone(notes), now),
            Reason::LedgerBegun(begun) => self.step(Event::LedgerBegun(begun), now),
            Reason::Asked { request, peer, reply } => self.answer_operator(request, peer, reply, now),
            Reason::Deadline => self.step(Event::Deadline, now),
            Reason::ClockSet => self.step(Event::ClockSet, now),
            Reason::Tick => self.step(Event::Deadline, now),
            Reason::Reload => self.step(Event::Reload(None), now),
            Reason::Stop => {
                self.stop(now);
                return Next::Stop;
            }
            Reason::Found(finding) => self.found(finding, now),
            Reason::Log(report) => self.log_told(report, now),
            Reason::Touched(Place::Store) => self.step(Event::Pass, now),
            Reason::Touched(Place::State) => self.core.keep_state_files(),
            Reason::Touched(Place::Shipper) => self.heed_shipper(now),
            Reason::Touched(Place::Inbox) => self.step(Event::InboxTouched, now),
            Reason::Touched(Place::Rescue | Place::Gate) => self.step(Event::RescueTouched, now),
            Reason::Touched(place) => self.step(Event::Touched { anything: place == Place::Anywhere }, now),
            Reason::Looked(looked) => self.looked(*looked, now),
            Reason::Heard { heard, sshds } => {
                self.listeners.sshds = sshds;
                self.step(Event::Heard(heard), now);
            }
            Reason::Job { id, brought } => return self.job_came(id, brought, now),
            Reason::Checked(checked) => self.checked(*checked, now),
            Reason::WaysClosed { outcome, asked } => self.ways_closed(outcome, asked, now),
            Reason::Gone(session) => self.step(Event::Gone(session), now),
            Reason::LookAt(session) => {
                let seen = self.see_sessions(&[session]);
                self.step(Event::SessionsSeen(seen), now);
            }
            Reason::Restored { outcome, asker, token } => self.restored(*outcome, asker, token, now),
        }
        if self.starts_over { Next::Stop } else { Next::GoOn }
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
        (wall, boot)
    }
}
