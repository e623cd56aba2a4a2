//! Sweeps: everything is looked at as if nothing had been watched, and attested.

use lockdown_core::{
    machine::{ATTEST_WITHIN, Event},
    policy::time::Now,
};
use lockdown_host::processes::Handle as _;
use record::{ArtifactType, Draft};

use super::{
    Engine,
    homes::SweepReport,
    ways::{self, Seen},
};

impl Engine {
    /// Does what the schedule says is due, if anything is.
    pub(super) fn meet_schedule(&mut self, now: Now) {
        self.before_lockdown(now);
        self.core.meet_lockdown(now);
        if self.core.schedule.take_sweep(now).is_some() {
            self.begin_sweep(now);
        }
    }

    /// Where a lockdown is due: it ends connections too that came past the gate.
    pub(super) fn before_lockdown(&mut self, now: Now) {
        if self.core.schedule.lockdown_is_due(now) {
            self.find_logins(now);
        }
    }

    /// Re-reads the world as if nothing had been watched, checks every live connection, and has every home looked at;
    /// what it found is attested when the homes are done.
    pub(super) fn begin_sweep(&mut self, now: Now) {
        self.heed_shipper(now);
        self.end_retirement(now);
        self.look_and_sweep(now);
    }

    /// Goes on with a sweep once the world has been looked at.
    pub(super) fn sweep_on(&mut self, now: Now) {
        self.core.keep_state_files();
        self.core.back_grants(now);
        for session in self.core.sessions.live().to_vec() {
            if session.monitor.is_alive() {
                self.look_at(&session.id, now);
            } else {
                self.step(Event::Gone(session.id), now);
            }
        }
        self.record_emergency_notes(now);
        self.find_logins(now);
        self.core.look_behind_all(now);
        self.core.grants_changed();
        self.core.pass(now);
        self.prune(now);
        self.attests_now();
        self.sweep_homes(now);
    }

    /// Attests what a sweep has found.
    pub(super) fn attest(&mut self, report: &SweepReport, seen: Result<&Seen, &str>, now: Now) {
        self.last_sweep = Some(now.wall);
        let next_by = self.core.schedule.next_sweep().and_then(|next| next.checked_add(ATTEST_WITHIN).ok());
        let obstacles: Vec<String> = self.core.obstacle_views();
        let sentence = format!(
            "sweep: accounts {}, key files {}, keys outside the store {}, removed {}, {}",
            report.accounts,
            report.files,
            report.keys,
            report.removed,
            seen.map_or_else(
                |_| "ways in not looked at".to_owned(),
                |seen| format!("ways in that are open {}", seen.open())
            )
        );
        let mut draft = Draft::new(ArtifactType::SweepAttested, sentence)
            .with("mode", if self.core.enforces() { "enforce" } else { "observe" })
            .with("accounts", report.accounts)
            .with("files", report.files)
            .with("keys", report.keys)
            .with("removed", report.removed)
            .with("failed", report.failed)
            .with("unreadable", report.unreadable)
            .with("not_mounted", report.not_mounted)
            .with("grants", self.core.grants.open_ones().filter(|grant| grant.is_active(now)).count() as u64)
            .with("sessions", self.core.sessions.live().len() as u64)
            .with(
                "exempt",
                self.core.exempt().iter().map(|account| account.as_str().into()).collect::<Vec<serde_json::Value>>(),
            )
            .with("weakened_by", obstacles)
            .with("config", self.core.config.digest.as_str())
            .with("milliseconds", u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX));
        if let (Some(_), Some(ledger)) = (&self.core.config.ship.api, self.ledger.as_ref()) {
            draft = draft.with("acknowledged", ledger.acknowledged);
        }
        if let Some(full) = self.shipped.full {
            draft = draft.with("ledger_full", full.to_string());
        }
        if let Some(next_by) = next_by {
            draft = draft.with("next_by", next_by.to_string());
        }
        let hanging: Vec<serde_json::Value> = self.hanging_homes().iter().map(|home| home.to_string().into()).collect();
        if !hanging.is_empty() {
            draft = draft.with("hanging", hanging);
        }
        let unseen: Vec<serde_json::Value> = self.not_seen_whole().map(Into::into).collect();
        if !unseen.is_empty() {
            draft = draft.with("not_seen_whole", unseen);
        }
        let sources = self.world.not_enumerated();
        if !sources.is_empty() {
            draft = draft.with("not_enumerated", sources.to_vec());
        }
        let draft = self.core.emergencies.attested(draft, self.core.sessions.live());
        self.core.recorder.note(match seen {
            Ok(seen) => ways::attested(draft, seen),
            Err(why) => draft.with("ways_unknown", why),
        });
        self.core.commit(now);
    }

    /// The wall clock was set: what is over is ended, and everything is planned anew.
    pub(super) fn clock_was_set(&mut self, now: Now) {
        let step = self.core.clock_step(now);
        self.before_lockdown(now);
        self.step(Event::ClockSet, now);
        self.meet_schedule(now);
        if step.is_some_and(|step| step.is_negative()) {
            // The next sweep comes later than the last attestation has promised by `next_by`.
            self.begin_sweep(now);
        }
    }
}
