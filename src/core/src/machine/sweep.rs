//! Sweeps: everything is looked at as if nothing had been watched, and attested.

use std::time::Duration;

use record::{ArtifactType, Draft};
use serde_json::Value;

use super::{
    Core, Effect,
    found::Then,
    looks,
    schedule::ATTEST_WITHIN,
    ways::{self, Seen},
};
use crate::policy::time::Now;

/// What a sweep of the homes has found.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Accounts looked at.
    pub accounts: u64,
    /// Key files found: regular files, links, and things that could not be read.
    pub files: u64,
    /// Lines that are keys in those that had to go.
    pub keys: u64,
    /// Files removed by the sweep itself.
    pub removed: u64,
    /// Files or directories where removal or reading of the way failed.
    pub failed: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// Accounts whose home is not looked at, since that would mount it (autofs).
    pub not_mounted: u64,
    /// From the sweep's start to its end.
    pub took: Duration,
    /// Homes that do not answer, as a record shows them.
    pub hanging: Vec<String>,
}

impl Core {
    /// Does what the schedule says is due, if anything is.
    pub(super) fn meet_schedule(&mut self, now: Now) {
        self.meet_lockdown(now);
        if self.schedule.take_sweep(now).is_some() {
            self.begin_sweep(now);
        }
    }

    /// Looks at the host as if nothing had been watched, checks every live connection, and has every home looked at; what is
    /// found is attested when the homes are done.
    pub fn begin_sweep(&mut self, now: Now) {
        self.push(Effect::HeedShipper);
        self.end_retirement(now);
        self.look_and_sweep(now);
    }

    /// The same without what is on a disk that is not read.
    pub fn look_and_sweep(&mut self, now: Now) {
        self.checks.want();
        self.look_for(looks::Then { settle: true, sweep: true }, now);
    }

    /// Goes on with a sweep once the host has been looked at.
    pub(super) fn sweep_on(&mut self, now: Now) {
        self.keep_state_files();
        self.back_grants(now);
        self.look_into_inbox(now);
        self.push(Effect::LookAtSessions(self.sessions.live().iter().map(|session| session.id.clone()).collect()));
        self.find_logins(Then::GoOnSweeping);
    }

    /// Goes on once every connection is known.
    pub(super) fn sweep_further(&mut self, now: Now) {
        self.look_behind_all(now);
        self.grants_changed();
        self.pass(now);
        self.push(Effect::Prune);
        self.ways.are_swept();
        self.sweep_homes(now);
    }

    /// Has the homes swept, once there is anybody to do it; what they find is attested.
    pub(super) fn sweep_homes(&mut self, now: Now) {
        if !self.is_unread() {
            self.jobs.expect_sweep(now);
            self.push(Effect::SweepHomes);
        }
    }

    /// The homes are done.
    pub(super) fn swept(&mut self, swept: Swept, now: Now) {
        self.jobs.swept();
        self.look_at_ways(swept, now);
    }

    /// Attests what a sweep has found.
    pub(super) fn attest(&mut self, swept: &Swept, seen: Result<&Seen, &str>, now: Now) {
        self.last_sweep = Some(now.wall);
        let open = seen.map(Seen::open);
        let ways =
            open.map_or_else(|_| "ways in not looked at".to_owned(), |open| format!("ways in that are open {open}"));
        let Swept { accounts, files, keys, removed, .. } = swept;
        let sentence = format!(
            "sweep: accounts {accounts}, key files {files}, keys outside the store {keys}, removed {removed}, {ways}"
        );
        let exempt: Vec<Value> = self.exempt().iter().map(|account| account.as_str().into()).collect();
        let draft = Draft::new(ArtifactType::SweepAttested, sentence)
            .with("mode", if self.enforces() { "enforce" } else { "observe" })
            .with("accounts", *accounts)
            .with("files", *files)
            .with("keys", *keys)
            .with("removed", *removed)
            .with("failed", swept.failed)
            .with("unreadable", swept.unreadable)
            .with("not_mounted", swept.not_mounted)
            .with("grants", self.grants.open_ones().filter(|grant| grant.is_active(now)).count() as u64)
            .with("sessions", self.sessions.live().len() as u64)
            .with("exempt", exempt)
            .with("weakened_by", self.obstacle_views())
            .with("config", self.config.digest.as_str())
            .with("milliseconds", u64::try_from(swept.took.as_millis()).unwrap_or(u64::MAX));
        let draft = self.emergencies.attested(self.with_doubts(draft, swept), self.sessions.live());
        self.recorder.note(match seen {
            Ok(seen) => ways::attested(draft, seen),
            Err(why) => draft.with("ways_unknown", why),
        });
        self.commit(now);
    }

    /// What an attestation says only where there is such a thing.
    fn with_doubts(&self, mut draft: Draft, swept: &Swept) -> Draft {
        let known = self.recorder.known();
        if let (Some(_), Some(known)) = (&self.config.ship.api, known) {
            draft = draft.with("acknowledged", known.acknowledged);
        }
        if let Some(full) = known.and_then(|known| known.full) {
            draft = draft.with("ledger_full", full.to_string());
        }
        let next_by = self.schedule.next_sweep().and_then(|next| next.checked_add(ATTEST_WITHIN).ok());
        if let Some(next_by) = next_by {
            draft = draft.with("next_by", next_by.to_string());
        }
        for (name, value) in self.attested_documents() {
            draft = draft.with(name, value);
        }
        let not_seen: Vec<String> = self.not_seen_whole().map(str::to_owned).collect();
        let sources = &self.around.not_enumerated;
        for (name, list) in [("hanging", &swept.hanging), ("not_seen_whole", &not_seen), ("not_enumerated", sources)] {
            if !list.is_empty() {
                draft = draft.with(name, list.clone());
            }
        }
        draft
    }
}
