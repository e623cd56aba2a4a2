//! When the next sweep and the next scheduled lockdown are due.
//!
//! The cron library's ticks only say "now may be the time". A tick before its time is passed over, and when a tick does
//! not come (the library's ticks stop after the clock was set back), the boot clock, which nobody can set, does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft};

use super::{
    Engine,
    homes::{Command, SweepReport},
    ways::{self, Seen},
};
use crate::{
    config::{Config, Cron},
    host::clock::Now,
    policy::time::Deadline,
    trigger::Place,
};

/// How much earlier than its time a tick may come: the cron library was seen to fire 0.3 s early.
pub(super) const EARLY: SignedDuration = SignedDuration::from_secs(1);
/// How long after its time a tick is waited for.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long after a sweep's time its attestation must have come: `next_by` promises that.
pub(super) const ATTEST_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// The smallest step of the wall clock that is recorded; NTP's slewing never is one.
pub(super) const SMALLEST_STEP: Duration = Duration::from_millis(500);

/// One recurring thing.
#[derive(Debug)]
struct Recurring {
    cron: Cron,
    due: Option<Deadline>,
}

impl Recurring {
    fn new(cron: Cron, now: Now) -> Self {
        let mut recurring = Self { cron, due: None };
        recurring.plan(now.wall, now);
        recurring
    }

    /// Plans the first moment after `after`.
    fn plan(&mut self, after: Timestamp, now: Now) {
        self.due = self.cron.next_after(after).map(|wall| Deadline::at(wall, now));
    }

    /// Whether a tick that has come counts: then the next is planned.
    fn tick(&mut self, now: Now) -> bool {
        let counts = self.due.is_some_and(|due| due.wall.duration_since(now.wall) <= EARLY);
        if counts {
            self.advance(now);
        }
        counts
    }

    /// Whether its time was over so long ago that the tick is given up: then the next is planned.
    fn overdue(&mut self, now: Now) -> bool {
        let overdue = self.watchdog().is_some_and(|at| now.boot >= at);
        if overdue {
            self.advance(now);
        }
        overdue
    }

    fn advance(&mut self, now: Now) {
        let after = self.due.map_or(now.wall, |due| due.wall.max(now.wall));
        self.plan(after, now);
    }

    fn watchdog(&self) -> Option<Duration> {
        self.due.map(|due| due.boot.saturating_add(GRACE))
    }
}

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
            sweep: Recurring::new(config.schedule.sweep.clone(), now),
            lockdown: config.schedule.lockdown.clone().map(|cron| Recurring::new(cron, now)),
        }
    }

    /// A tick for a sweep: whether it counts.
    pub(crate) fn sweep_ticked(&mut self, now: Now) -> bool {
        self.sweep.tick(now)
    }

    /// A tick for a lockdown: whether it counts.
    pub(crate) fn lockdown_ticked(&mut self, now: Now) -> bool {
        self.lockdown.as_mut().is_some_and(|lockdown| lockdown.tick(now))
    }

    /// Whether a sweep is overdue.
    pub(crate) fn sweep_overdue(&mut self, now: Now) -> bool {
        self.sweep.overdue(now)
    }

    /// Whether a lockdown is overdue.
    pub(crate) fn lockdown_overdue(&mut self, now: Now) -> bool {
        self.lockdown.as_mut().is_some_and(|lockdown| lockdown.overdue(now))
    }

    /// Plans anew after the wall clock was set.
    pub(crate) fn clock_was_set(&mut self, now: Now) {
        self.sweep.plan(now.wall, now);
        if let Some(lockdown) = &mut self.lockdown {
            lockdown.plan(now.wall, now);
        }
    }

    /// When the next sweep is due.
    #[must_use]
    pub(crate) fn next_sweep(&self) -> Option<Timestamp> {
        self.sweep.due.map(|due| due.wall)
    }

    /// When the next lockdown is due.
    #[must_use]
    pub(crate) fn next_lockdown(&self) -> Option<Timestamp> {
        self.lockdown.as_ref().and_then(|lockdown| lockdown.due).map(|due| due.wall)
    }

    /// When the watchdog has to look, on the boot clock.
    #[must_use]
    pub(crate) fn next_boot(&self) -> Option<Duration> {
        [self.sweep.watchdog(), self.lockdown.as_ref().and_then(Recurring::watchdog)].into_iter().flatten().min()
    }
}

impl Engine {
    /// The schedule says that a sweep is due.
    pub(super) fn sweep(&mut self, now: Now) {
        if self.schedule.sweep_ticked(now) {
            self.begin_sweep(now);
        }
    }

    /// The schedule says that a lockdown is due.
    pub(super) fn scheduled_lockdown(&mut self, now: Now) {
        if self.schedule.lockdown_ticked(now) {
            self.lockdown("the scheduled lockdown".to_owned(), None, now);
        }
    }

    /// Does what a tick should long have done.
    pub(super) fn overdue(&mut self, now: Now) {
        if self.schedule.lockdown_overdue(now) {
            tracing::warn!("the tick for the scheduled lockdown did not come; it is done by the watchdog");
            self.lockdown("the scheduled lockdown".to_owned(), None, now);
        }
        if self.schedule.sweep_overdue(now) {
            tracing::warn!("the tick for the sweep did not come; it is done by the watchdog");
            self.begin_sweep(now);
        }
    }

    /// Re-reads the world as if nothing had been watched, checks every live connection, and has every home looked at;
    /// what it found is attested when the homes are done.
    pub(super) fn begin_sweep(&mut self, now: Now) {
        self.heed_shipper(now);
        self.world_changed(Place::Anywhere, now);
        self.keep_state_files();
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
        self.homes.send(Command::Sweep { id: 0 });
    }

    /// Attests what a sweep has found.
    pub(super) fn attest(&mut self, report: &SweepReport, seen: Result<&Seen, &str>, now: Now) {
        self.last_sweep = Some(now.wall);
        let next_by = self.schedule.next_sweep().and_then(|next| next.checked_add(ATTEST_WITHIN).ok());
        let obstacles: Vec<String> = self.obstacles().iter().map(ToString::to_string).collect();
        let sentence = format!(
            "sweep: {} accounts, {} key files, {} keys outside the store, {} removed, {}",
            report.accounts,
            report.files,
            report.keys,
            report.removed,
            seen.map_or_else(|_| "ways in not looked at".to_owned(), |seen| format!("{} ways in open", seen.open()))
        );
        let mut draft = Draft::new(ArtifactType::SweepAttested, sentence)
            .with("mode", if self.enforces() { "enforce" } else { "observe" })
            .with("accounts", report.accounts)
            .with("files", report.files)
            .with("keys", report.keys)
            .with("removed", report.removed)
            .with("failed", report.failed)
            .with("unreadable", report.unreadable)
            .with("grants", self.grants.open_ones().filter(|grant| grant.is_active(now)).count() as u64)
            .with("sessions", self.sessions.live().len() as u64)
            .with(
                "exempt",
                self.exempt().iter().map(|account| account.as_str().into()).collect::<Vec<serde_json::Value>>(),
            )
            .with("weakened_by", obstacles)
            .with("config", self.config.digest.as_str())
            .with("milliseconds", u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX));
        if self.config.ship.api.is_some() {
            draft = draft.with("acknowledged", self.recorder.ledger().acknowledged());
        }
        if let Some(full) = self.shipped.full {
            draft = draft.with("ledger_full", full.to_string());
        }
        if let Some(next_by) = next_by {
            draft = draft.with("next_by", next_by.to_string());
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
        self.schedule.clock_was_set(now);
        self.warned_to = now.wall;
        self.pass(now);
    }
}

/// How far the wall clock is ahead of the boot clock, in nanoseconds: it changes exactly when the wall clock is set.
pub(super) fn offset(now: Now) -> i128 {
    now.wall.as_nanosecond() - i128::try_from(now.boot.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::test_grants::{later, now};

    /// Every ten seconds; now is such a moment.
    fn every_ten() -> Recurring {
        Recurring::new("*/10 * * * * *".parse().expect("a pattern"), now())
    }

    /// The same boot, with the wall clock this far off.
    fn set(by: i64, at: Now) -> Now {
        Now { wall: at.wall + SignedDuration::from_secs(by), boot: at.boot }
    }

    #[test]
    fn a_tick_counts_at_its_time_or_a_little_early_and_only_once() {
        let mut recurring = every_ten();
        assert_eq!(recurring.due.map(|due| due.wall), Some(later(10).wall));
        assert!(!recurring.tick(later(8)), "too early");
        assert!(recurring.tick(later(9)), "as early as the library may be");
        assert_eq!(recurring.due.map(|due| due.wall), Some(later(20).wall), "not the same moment again");
        assert!(!recurring.tick(later(10)), "the moment that has been");
        assert!(recurring.tick(later(24)), "late");
        assert_eq!(recurring.due.map(|due| due.wall), Some(later(30).wall));
    }

    #[test]
    fn a_tick_that_does_not_come_is_given_up_on_the_boot_clock_even_if_the_wall_clock_was_set_back() {
        let mut recurring = every_ten();
        assert_eq!(recurring.watchdog(), Some(later(10).boot + GRACE));
        assert!(!recurring.overdue(later(14)));
        assert!(recurring.overdue(set(-3_600, later(15))));
        assert!(recurring.due.is_some_and(|due| due.wall > later(10).wall));
        assert!(!recurring.overdue(set(-3_600, later(15))), "once");
    }

    #[test]
    fn a_schedule_is_planned_anew_when_the_clock_is_set() {
        let text = "mode = \"observe\"\n[schedule]\nsweep = \"0 0 * * * *\"\nlockdown = \"0 30 * * * *\"";
        let config = Config::parse(&[("c.toml", text)]).expect("good");
        let mut schedule = Schedule::new(&config, now());
        let (hour, half) = (later(3_600).wall, later(1_800).wall);
        assert_eq!((schedule.next_sweep(), schedule.next_lockdown()), (Some(hour), Some(half)));
        assert_eq!(schedule.next_boot(), Some(later(1_800).boot + GRACE));
        let ahead = set(3_000, now());
        schedule.clock_was_set(ahead);
        assert_eq!((schedule.next_sweep(), schedule.next_lockdown()), (Some(hour), Some(later(5_400).wall)));
        assert_eq!(schedule.next_boot(), Some(later(600).boot + GRACE), "ten minutes are left to the hour");
        assert!(!schedule.sweep_ticked(ahead) && !schedule.lockdown_ticked(ahead));
        let none = Config::parse(&[("c.toml", "mode = \"observe\"")]).expect("good");
        let mut schedule = Schedule::new(&none, now());
        assert!(
            schedule.next_lockdown().is_none() && !schedule.lockdown_ticked(now()) && !schedule.lockdown_overdue(now())
        );
    }

    #[test]
    fn the_offset_of_the_clocks_changes_exactly_when_the_wall_clock_is_set() {
        assert_eq!(offset(now()), offset(later(1_000_000)));
        assert_eq!(offset(set(-7, now())) - offset(now()), -7_000_000_000);
    }

    proptest! {
        #[test]
        fn whatever_the_ticks_and_the_wall_clock_do_nothing_is_done_twice_for_one_moment_and_none_is_later_than_grace(
            steps in prop::collection::vec((1u64..8, prop::bool::ANY), 1..100),
        ) {
            let mut recurring = every_ten();
            let (mut elapsed, mut done) = (0, 0u64);
            for (wait, ticks) in steps {
                elapsed += wait;
                let now = later(elapsed);
                let due = recurring.due.expect("it recurs for ever");
                let did = (ticks && recurring.tick(now)) || recurring.overdue(now);
                done += u64::from(did);
                if now.boot >= due.boot + GRACE {
                    prop_assert!(did, "overdue at {elapsed}");
                }
                prop_assert!(done <= (elapsed + 1) / 10);
            }
        }
    }
}
