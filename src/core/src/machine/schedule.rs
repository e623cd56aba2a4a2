//! Scheduled sweeps and lockdowns.
//!
//! What is due is computed from what was done last (`policy::schedule`). The daemon's own timer fires at the next moment;
//! the cron library's ticks only have the same looked at once more, and an early one does nothing.

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, GrantId};

use super::{Core, Ending, found::Then};
use crate::{
    config::Config,
    policy::{
        grant::EndCause,
        schedule::{Due, LastLockdown, Recurring},
        time::Now,
    },
};

/// How long after a sweep's time its attestation must have come: `next_by` promises that.
pub const ATTEST_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// How late a scheduled lockdown may be before its record calls it late.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// The schedule of this host.
#[derive(Debug)]
pub struct Schedule {
    sweep: Recurring,
    lockdown: Option<Recurring>,
}

impl Schedule {
    /// The schedule that the configuration sets, counted from now.
    #[must_use]
    pub fn new(config: &Config, now: Now) -> Self {
        Self {
            sweep: Recurring::new(config.schedule.sweep.clone(), now.wall),
            lockdown: config.schedule.lockdown.clone().map(|cron| Recurring::new(cron, now.wall)),
        }
    }

    /// The schedule of the last run, brought to what the configuration sets; with the lockdown that fell due meanwhile.
    /// A start sweeps in any case.
    pub fn resume(
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
    pub fn change(&mut self, config: &Config, now: Now) -> bool {
        match (&mut self.lockdown, &config.schedule.lockdown) {
            (Some(lockdown), Some(cron)) => drop(lockdown.change(cron, now.wall)),
            (lockdown, cron) => *lockdown = cron.clone().map(|cron| Recurring::new(cron, now.wall)),
        }
        self.sweep.change(&config.schedule.sweep, now.wall)
    }

    /// The sweep that is due, if one is: then it counts as done.
    pub fn take_sweep(&mut self, now: Now) -> Option<Due> {
        self.sweep.take_due(now.wall)
    }

    /// The lockdown that is due, if one is: then it counts as done.
    fn take_lockdown(&mut self, now: Now) -> Option<Due> {
        self.lockdown.as_mut()?.take_due(now.wall)
    }

    /// When the next sweep is due.
    #[must_use]
    pub fn next_sweep(&self) -> Option<Timestamp> {
        self.sweep.next()
    }

    /// When the next lockdown is due.
    #[must_use]
    pub fn next_lockdown(&self) -> Option<Timestamp> {
        self.lockdown.as_ref().and_then(Recurring::next)
    }

    /// Whether a lockdown is due.
    #[must_use]
    pub fn lockdown_is_due(&self, now: Now) -> bool {
        self.next_lockdown().is_some_and(|at| at <= now.wall)
    }

    /// The schedule of lockdowns, if there is one.
    #[must_use]
    pub fn lockdowns(&self) -> Option<&Recurring> {
        self.lockdown.as_ref()
    }
}

impl Core {
    /// Carries out the scheduled lockdown that is due, if one is, once it is known who is there: it ends connections too that
    /// came past the gate.
    pub(super) fn meet_lockdown(&mut self, now: Now) {
        if self.schedule.lockdown_is_due(now) && !std::mem::replace(&mut self.lockdown_waits, true) {
            self.find_logins(Then::MeetLockdown);
        }
    }

    pub(super) fn meet_lockdown_knowing_logins(&mut self, now: Now) {
        self.lockdown_waits = false;
        if let Some(due) = self.schedule.take_lockdown(now) {
            self.scheduled_lockdown(&self.open_grants(), due, now);
        }
    }

    /// Takes up the schedule of the last run, unless that was done already; with the lockdown that fell due meanwhile, whose
    /// grants are ended: before the configuration gives anything new. The caller finishes it with
    /// [`Core::scheduled_lockdown`] once sessions are known.
    pub fn resume_schedule(&mut self, recorded: Option<Timestamp>, now: Now) -> Option<(Vec<GrantId>, Due)> {
        let (schedule, missed) = Schedule::resume(&self.config, self.grants.last_lockdown(), recorded, now);
        self.schedule = schedule;
        let due = missed?;
        let grants = self.open_grants();
        let ending = Ending { cause: EndCause::Lockdown, reason: sentence(due, now), actor: None };
        // The mode is not taken up yet, so that no session ends here.
        let _ = self.end_grants(&grants, &ending, now);
        Some((grants, due))
    }

    /// Carries out a scheduled lockdown, which ends these grants and every granted session.
    pub fn scheduled_lockdown(&mut self, grants: &[GrantId], due: Due, now: Now) {
        let ending = Ending { cause: EndCause::Lockdown, reason: sentence(due, now), actor: None };
        let draft = Draft::new(ArtifactType::Lockdown, ending.reason.clone())
            .with("due", due.at.to_string())
            .with("missed", due.missed);
        let _ = self.lock_down(grants, &ending, draft, now);
    }
}

fn sentence(due: Due, now: Now) -> String {
    match now.wall.duration_since(due.at) > LATE {
        true => format!("the scheduled lockdown, which was due at {:.0}", due.at),
        false => "the scheduled lockdown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{Around, Moment},
        policy::test_grants::{later, now},
        sessions::Sessions,
    };

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
    fn whoever_is_given_a_grant_can_be_told_of_the_next_lockdown() {
        let next = |config| {
            let moment = Moment { now: now(), random: 1 };
            Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), moment).next_lockdown()
        };
        assert_eq!((next(hourly()), next(config(""))), (Some(later(3_600).wall), None));
    }

    #[test]
    fn a_lockdown_that_comes_late_says_when_it_was_due() {
        let due = Due { at: now().wall, missed: 0 };
        assert_eq!(sentence(due, now()), "the scheduled lockdown");
        let late = Now { wall: now().wall + LATE + SECOND, ..now() };
        assert_eq!(sentence(due, late), "the scheduled lockdown, which was due at 2027-01-15T08:00:00Z");
    }
}
