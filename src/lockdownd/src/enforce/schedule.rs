//! Scheduled sweeps and lockdowns.
//!
//! What is due is computed from what was done last (`policy::schedule`). The daemon's own timer fires at the next moment;
//! the cron library's ticks only have the same looked at once more, and an early one does nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lockdown_core::policy::time::Now;
use lockdown_core::{
    config::Config,
    policy::{
        grant::EndCause,
        schedule::{Due, LastLockdown, Recurring},
    },
};
use record::{ArtifactType, Draft, GrantId};

use super::{
    Ending, Engine,
    homes::SweepReport,
    unread::Unread,
    ways::{self, Seen},
};

/// How long after a sweep's time its attestation must have come: `next_by` promises that.
pub(super) const ATTEST_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// The smallest step of the wall clock that is recorded; NTP's slewing never is one.
pub(super) const SMALLEST_STEP: Duration = Duration::from_millis(500);

/// How late a scheduled lockdown may be before its record calls it late.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// The schedule of this host.
#[derive(Debug)]
pub(crate) struct Schedule {
    sweep: Recurring,
    lockdown: Option<Recurring>,
}

impl Schedule {
    /// The schedule that the configuration sets, counted from now.
    #[must_use]
    pub(crate) fn new(config: &Config, now: Now) -> Self {
        Self {
            sweep: Recurring::new(config.schedule.sweep.clone(), now.wall),
            lockdown: config.schedule.lockdown.clone().map(|cron| Recurring::new(cron, now.wall)),
        }
    }

    /// The schedule of the last run, brought to what the configuration sets; with the lockdown that fell due meanwhile.
    /// A start sweeps in any case.
    pub(crate) fn resume(
        config: &Config,
        left: Option<&LastLockdown>,
        recorded: Option<Timestamp>,
        now: Now,
    ) -> (Self, Option<Due>) {
        let mut schedule = Self::new(config, now);
        let left = left.and_then(|left| left.resumed(recorded, now.wall));
        let due = left.and_then(|mut left| {
            let due = left.take_due(now.wall);
            schedule.lockdown = Some(left);
            due
        });
        schedule.change(config, now);
        (schedule, due)
    }

    /// Goes on by what the configuration sets now; a pattern that is new counts from now. Whether sweeps have a new one.
    pub(crate) fn change(&mut self, config: &Config, now: Now) -> bool {
        match (&mut self.lockdown, &config.schedule.lockdown) {
            (Some(lockdown), Some(cron)) => drop(lockdown.change(cron, now.wall)),
            (lockdown, cron) => *lockdown = cron.clone().map(|cron| Recurring::new(cron, now.wall)),
        }
        self.sweep.change(&config.schedule.sweep, now.wall)
    }

    /// The sweep that is due, if one is: then it counts as done.
    fn take_sweep(&mut self, now: Now) -> Option<Due> {
        self.sweep.take_due(now.wall)
    }

    /// The lockdown that is due, if one is: then it counts as done.
    fn take_lockdown(&mut self, now: Now) -> Option<Due> {
        self.lockdown.as_mut()?.take_due(now.wall)
    }

    /// When the next sweep is due.
    #[must_use]
    pub(crate) fn next_sweep(&self) -> Option<Timestamp> {
        self.sweep.next()
    }

    /// When the next lockdown is due.
    #[must_use]
    pub(crate) fn next_lockdown(&self) -> Option<Timestamp> {
        self.lockdown.as_ref().and_then(Recurring::next)
    }

    /// The schedule of lockdowns, if there is one.
    pub(super) fn lockdowns(&self) -> Option<&Recurring> {
        self.lockdown.as_ref()
    }
}

impl Engine {
    /// Does what the schedule says is due, if anything is.
    pub(super) fn meet_schedule(&mut self, now: Now) {
        if let Some(due) = self.schedule.take_lockdown(now) {
            self.scheduled_lockdown(self.open_grants(), due, now);
        }
        if self.schedule.take_sweep(now).is_some() {
            self.begin_sweep(now);
        }
    }

    /// Takes up the schedule of the last run, unless that was done already; with the lockdown that fell due meanwhile, whose
    /// grants are ended.
    pub(super) fn resume_schedule(
        &mut self,
        recorded: Option<Timestamp>,
        unread: Option<&Unread>,
        now: Now,
    ) -> Option<(Vec<GrantId>, Due)> {
        if unread.is_some_and(Unread::has_schedule) {
            return None;
        }
        let (schedule, missed) = Schedule::resume(&self.config, self.grants.last_lockdown(), recorded, now);
        self.schedule = schedule;
        self.begin_missed_lockdown(missed, now)
    }

    /// The lockdown that fell due while the daemon was down, as far as it can be carried out before the configuration gives
    /// anything new: the grants of then end. Answers with what is to be done of it once sessions are known.
    fn begin_missed_lockdown(&mut self, due: Option<Due>, now: Now) -> Option<(Vec<GrantId>, Due)> {
        let due = due?;
        let grants = self.open_grants();
        let ending = Ending { cause: EndCause::Lockdown, reason: sentence(due, now), actor: None };
        // The mode is not taken up yet, so that no session ends here.
        let _ = self.end_grants(&grants, &ending, now);
        Some((grants, due))
    }

    /// Carries out a scheduled lockdown, which ends these grants and every granted session.
    pub(super) fn scheduled_lockdown(&mut self, grants: Vec<GrantId>, due: Due, now: Now) {
        let ending = Ending { cause: EndCause::Lockdown, reason: sentence(due, now), actor: None };
        let draft = Draft::new(ArtifactType::Lockdown, ending.reason.clone())
            .with("due", due.at.to_string())
            .with("missed", due.missed);
        let _ = self.lock_down(&grants, &ending, draft, now);
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
        self.keep_state_files(now);
        self.back_grants(now);
        for session in self.sessions.live().to_vec() {
            if session.monitor.is_alive() {
                self.look_at(&session.id, now);
            } else {
                self.session_gone(&session.id, now);
            }
        }
        self.record_emergency_notes(now);
        self.find_logins(now);
        self.look_behind_all(now);
        self.grants_unsaved = true;
        self.pass(now);
        self.prune(now);
        self.attests_now();
        self.sweep_homes(now);
    }

    /// Attests what a sweep has found.
    pub(super) fn attest(&mut self, report: &SweepReport, seen: Result<&Seen, &str>, now: Now) {
        self.last_sweep = Some(now.wall);
        let next_by = self.schedule.next_sweep().and_then(|next| next.checked_add(ATTEST_WITHIN).ok());
        let obstacles: Vec<String> = self.obstacles().iter().map(ToString::to_string).collect();
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
            .with("mode", if self.enforces() { "enforce" } else { "observe" })
            .with("accounts", report.accounts)
            .with("files", report.files)
            .with("keys", report.keys)
            .with("removed", report.removed)
            .with("failed", report.failed)
            .with("unreadable", report.unreadable)
            .with("not_mounted", report.not_mounted)
            .with("grants", self.grants.open_ones().filter(|grant| grant.is_active(now)).count() as u64)
            .with("sessions", self.sessions.live().len() as u64)
            .with(
                "exempt",
                self.exempt().iter().map(|account| account.as_str().into()).collect::<Vec<serde_json::Value>>(),
            )
            .with("weakened_by", obstacles)
            .with("config", self.config.digest.as_str())
            .with("milliseconds", u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX));
        if let (Some(_), Some(ledger)) = (&self.config.ship.api, self.recorder.ledger()) {
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
        let draft = self.emergencies.attested(draft, self.sessions.live());
        self.recorder.note(match seen {
            Ok(seen) => ways::attested(draft, seen),
            Err(why) => draft.with("ways_unknown", why),
        });
        self.commit(now);
    }

    /// The wall clock was set: what is over is ended, and everything is planned anew.
    pub(super) fn clock_was_set(&mut self, now: Now) {
        let offset = offset(now);
        let step = offset - self.clock_offset;
        self.clock_offset = offset;
        if step.unsigned_abs() >= SMALLEST_STEP.as_nanos() {
            let seconds = i64::try_from(step / 1_000_000_000).unwrap_or(i64::MAX);
            let way = if step < 0 { "back" } else { "forward" };
            let sentence = format!("the wall clock was set {way} by {} s", seconds.unsigned_abs());
            self.recorder.note(Draft::new(ArtifactType::ClockStepped, sentence).with("seconds", seconds));
        }
        // What it has jumped over is due; a warning, too.
        self.warned_to = self.warned_to.min(now.wall);
        self.pass(now);
        self.meet_schedule(now);
        if step < 0 && step.unsigned_abs() >= SMALLEST_STEP.as_nanos() {
            // The next sweep comes later than the last attestation has promised by `next_by`.
            self.begin_sweep(now);
        }
    }
}

fn sentence(due: Due, now: Now) -> String {
    match now.wall.duration_since(due.at) > LATE {
        true => format!("the scheduled lockdown, which was due at {:.0}", due.at),
        false => "the scheduled lockdown".to_owned(),
    }
}

/// How far the wall clock is ahead of the boot clock, in nanoseconds: it changes exactly when the wall clock is set.
pub(super) fn offset(now: Now) -> i128 {
    now.wall.as_nanosecond() - i128::try_from(now.boot.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

    const SECOND: SignedDuration = SignedDuration::from_secs(1);

    fn config(schedule: &str) -> Config {
        Config::parse(&[("c.toml", &format!("mode = \"observe\"\n[schedule]\n{schedule}"))]).expect("good")
    }

    fn hourly() -> Config {
        config("lockdown = \"0 0 * * * *\"")
    }

    fn left(schedule: &Schedule) -> LastLockdown {
        LastLockdown::of(schedule.lockdowns().expect("one is scheduled"))
    }

    #[test]
    fn a_reload_keeps_what_is_due_and_a_pattern_that_is_new_counts_from_it() {
        let mut schedule = Schedule::new(&hourly(), now());
        assert_eq!(schedule.next_lockdown(), Some(later(3_600).wall));
        assert!(!schedule.change(&hourly(), later(3_600)));
        assert!(schedule.take_lockdown(later(3_600)).is_some(), "due in the second of the reload");
        let other = config("sweep = \"0 7 * * * *\"\nlockdown = \"0 30 * * * *\"");
        assert!(schedule.change(&other, later(3_700)), "sweeps have a new pattern");
        assert_eq!(schedule.next_lockdown(), Some(later(3_600 + 1_800).wall));
        schedule.change(&config(""), later(3_700));
        assert!(schedule.next_lockdown().is_none() && schedule.take_lockdown(later(7_200)).is_none());
        schedule.change(&hourly(), later(7_201));
        assert_eq!(schedule.next_lockdown(), Some(later(10_800).wall));
    }

    #[test]
    fn what_fell_due_while_the_daemon_was_down_is_done_once_by_the_pattern_of_then() {
        let left_behind = left(&Schedule::new(&hourly(), now()));
        let (schedule, due) = Schedule::resume(&hourly(), Some(&left_behind), None, later(3 * 3_600 + 60));
        assert_eq!(due, Some(Due { at: later(3 * 3_600).wall, missed: 2 }));
        let (_, again) = Schedule::resume(&hourly(), Some(&left(&schedule)), None, later(3 * 3_600 + 90));
        assert_eq!(again, None);
        let on_record = due.map(|due| due.at);
        let (_, again) = Schedule::resume(&hourly(), Some(&left_behind), on_record, later(3 * 3_600 + 90));
        assert_eq!(again, None, "what could not be kept stands in the ledger");
        let other = config("lockdown = \"0 30 * * * *\"");
        let (schedule, due) = Schedule::resume(&other, Some(&left_behind), None, later(3_660));
        assert_eq!(due, Some(Due { at: later(3_600).wall, missed: 0 }), "by the pattern that was in force");
        assert_eq!(schedule.next_lockdown(), Some(later(3_600 + 1_800).wall));
        let (schedule, due) = Schedule::resume(&config(""), Some(&left_behind), None, later(3_660));
        assert!(due.is_some() && schedule.lockdowns().is_none());
        let (_, due) = Schedule::resume(&hourly(), None, None, later(3_660));
        assert_eq!(due, None, "the first start of all");
    }

    #[test]
    fn a_lockdown_that_comes_late_says_when_it_was_due() {
        let due = Due { at: now().wall, missed: 0 };
        assert_eq!(sentence(due, now()), "the scheduled lockdown");
        let late = Now { wall: now().wall + LATE + SECOND, ..now() };
        assert_eq!(sentence(due, late), "the scheduled lockdown, which was due at 2027-01-15T08:00:00Z");
    }

    #[test]
    fn the_offset_of_the_clocks_changes_exactly_when_the_wall_clock_is_set() {
        assert_eq!(offset(now()), offset(later(1_000_000)));
        let set = Now { wall: now().wall - 7 * SECOND, ..now() };
        assert_eq!(offset(set) - offset(now()), -7_000_000_000);
    }
}
