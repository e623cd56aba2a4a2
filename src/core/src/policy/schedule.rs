//! What recurs by the wall clock: which of its moments are done, and which are due.
//!
//! What is due is computed from the moment up to which everything is done, never from a timer: so nothing is lost when
//! the daemon was stopped or the clock jumped, and nothing is done twice.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::time::BELIEVED_STEP_BACK;
use crate::config::Cron;

/// How many moments are counted that went by undone; beyond, this number stands for all of them.
pub const MAX_MISSED: u64 = 1_000;

/// Something that is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The last of its moments that has passed.
    pub at: Timestamp,
    /// How many earlier ones have passed as well, at most [`MAX_MISSED`].
    pub missed: u64,
}

/// Something that recurs.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurring {
    cron: Cron,
    done_to: Timestamp,
    next: Option<Timestamp>,
}

impl Recurring {
    /// Recurs at the moments of this pattern after `done_to`.
    #[must_use]
    pub fn new(cron: Cron, done_to: Timestamp) -> Self {
        let next = cron.next_after(done_to);
        Self { cron, done_to, next }
    }

    /// The first moment that is not done.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// What is due, if anything is; it counts as done from then on.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        // Otherwise a clock that was once in 2030 would keep anything from being due until then. What NTP corrects is
        // left alone: the same moment would be done twice.
        if now.saturating_add(BELIEVED_STEP_BACK).is_ok_and(|believed| self.done_to > believed) {
            self.do_to(now);
        }
        let mut due: Option<Due> = None;
        while let Some(at) = self.next.filter(|at| *at <= now) {
            let missed = due.map_or(0, |due| due.missed + 1);
            if missed >= MAX_MISSED {
                let at = self.cron.last_by(now).unwrap_or(now);
                due = Some(Due { at, missed });
                self.do_to(at);
                break;
            }
            due = Some(Due { at, missed });
            self.do_to(at);
        }
        due
    }

    /// Goes on by another pattern, from now.
    pub fn change(&mut self, cron: &Cron, now: Timestamp) -> bool {
        let changes = self.cron != *cron;
        if changes {
            *self = Self::new(cron.clone(), now);
        }
        changes
    }

    fn do_to(&mut self, moment: Timestamp) {
        self.done_to = moment;
        self.next = self.cron.next_after(moment);
    }
}

/// Up to which moment scheduled lockdowns are done, and by which pattern: what outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLockdown {
    /// Up to when.
    pub done_to: Timestamp,
    /// The pattern.
    pub cron: String,
}

impl LastLockdown {
    /// What to keep of this schedule.
    #[must_use]
    pub fn of(lockdown: &Recurring) -> Self {
        Self { done_to: lockdown.done_to, cron: lockdown.cron.as_str().to_owned() }
    }

    /// The schedule that was left, with the last moment whose lockdown is on record. None if its pattern is none any more.
    #[must_use]
    pub fn resumed(&self, recorded: Option<Timestamp>, now: Timestamp) -> Option<Recurring> {
        // One that is ahead of now is from before the clock was set back.
        let done_to = recorded.filter(|at| *at <= now).map_or(self.done_to, |at| at.max(self.done_to));
        Some(Recurring::new(self.cron.parse().ok()?, done_to))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::test_grants::{later, now};

    /// Every ten seconds; now is such a moment.
    fn every_ten() -> Recurring {
        Recurring::new("*/10 * * * * *".parse().expect("a pattern"), now().wall)
    }

    fn at(second: i64) -> Timestamp {
        now().wall + SignedDuration::from_secs(second)
    }

    #[test]
    fn a_moment_is_due_when_it_has_come_not_earlier_and_once() {
        let mut recurring = every_ten();
        assert_eq!(recurring.next(), Some(later(10).wall));
        assert_eq!(recurring.take_due(at(10) - SignedDuration::from_nanos(1)), None);
        assert_eq!(recurring.take_due(at(10)), Some(Due { at: at(10), missed: 0 }));
        assert_eq!(recurring.take_due(at(10)), None);
        assert_eq!(recurring.take_due(at(45)), Some(Due { at: at(40), missed: 2 }));
        assert_eq!(recurring.next(), Some(at(50)));
    }

    #[test]
    fn a_clock_that_was_ahead_for_years_loses_no_further_moment_and_what_ntp_corrects_repeats_none() {
        let mut recurring = every_ten();
        let far = at(4 * 365 * 86_400);
        assert_eq!(recurring.take_due(far).map(|due| due.missed), Some(MAX_MISSED));
        assert_eq!(recurring.take_due(far), None);
        assert_eq!(recurring.take_due(at(3)), None);
        assert_eq!(recurring.take_due(at(10)), Some(Due { at: at(10), missed: 0 }));
        assert_eq!(recurring.take_due(at(7)), None, "set back by three seconds");
        assert_eq!(recurring.take_due(at(10)), None, "the same moment again");
        assert_eq!(recurring.take_due(at(20)).map(|due| due.missed), Some(0));
    }

    #[test]
    fn a_new_pattern_counts_from_when_it_is_set_and_the_same_one_changes_nothing() {
        let mut recurring = every_ten();
        assert!(!recurring.change(&"*/10 * * * * *".parse().expect("a pattern"), at(9)));
        assert_eq!(recurring.next(), Some(at(10)));
        assert!(recurring.change(&"*/4 * * * * *".parse().expect("a pattern"), at(9)));
        assert_eq!((recurring.take_due(at(11)), recurring.next()), (None, Some(at(12))));
    }

    /// What happens to a host.
    #[derive(Debug, Clone)]
    enum Happens {
        /// Time passes, and the daemon looks.
        Passes(i64),
        /// Time passes while it is stopped; what it had done last may be in the ledger alone.
        Stopped(i64, bool),
        /// The configuration is read again.
        Reloads,
        /// The clock is set forward, or back by more than is believed.
        Set(i64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (0i64..25).prop_map(Happens::Passes),
            ((0i64..40), prop::bool::ANY).prop_map(|(seconds, saved)| Happens::Stopped(seconds, saved)),
            Just(Happens::Reloads),
            (1i64..50).prop_map(Happens::Set),
            (16i64..50).prop_map(|back| Happens::Set(-back)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn through_reloads_stops_reboots_and_clocks_that_are_set_each_moment_that_passes_is_done_once(
            story in prop::collection::vec(happens(), 1..60),
        ) {
            let mut recurring = every_ten();
            let mut kept = LastLockdown::of(&recurring);
            let (mut clock, mut done, mut passed) = (0i64, 0i64, 0i64);
            for event in story {
                let before = clock;
                let mut ledger = None;
                match event {
                    Happens::Passes(seconds) | Happens::Set(seconds) => clock += seconds,
                    Happens::Stopped(seconds, saved) => {
                        clock += seconds;
                        if saved { kept = LastLockdown::of(&recurring) } else { ledger = Some(recurring.done_to) }
                        recurring = kept.resumed(ledger, at(clock)).expect("a pattern");
                    }
                    Happens::Reloads => {
                        prop_assert!(!recurring.change(&"*/10 * * * * *".parse().expect("a pattern"), at(clock)));
                    }
                }
                // How many moments the clock has passed on its way; none on a way back.
                passed += (clock.div_euclid(10) - before.div_euclid(10)).max(0);
                if let Some(due) = recurring.take_due(at(clock)) {
                    prop_assert!(due.at <= at(clock) && at(clock).duration_since(due.at).as_secs() < 10);
                    done += 1 + i64::try_from(due.missed).expect("few");
                }
                if matches!(event, Happens::Set(_)) {
                    kept = LastLockdown::of(&recurring);
                }
                prop_assert_eq!(done, passed, "at {}", clock);
            }
        }
    }
}
