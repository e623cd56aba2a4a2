//! The wall clock, which anybody may set: what follows when it was.

use std::time::Duration;

use record::{ArtifactType, Draft};

use super::Core;
use crate::policy::time::Now;

/// The smallest step of the wall clock that is recorded; NTP's slewing never is one.
const SMALLEST_STEP: Duration = Duration::from_millis(500);

impl Core {
    /// The wall clock was set: what is over is ended, and everything is planned anew.
    pub(super) fn clock_was_set(&mut self, now: Now) {
        let offset = offset(now);
        let step = offset - self.clock_offset;
        self.clock_offset = offset;
        let is_step = step.unsigned_abs() >= SMALLEST_STEP.as_nanos();
        if is_step {
            let seconds = i64::try_from(step / 1_000_000_000).unwrap_or(i64::MAX);
            let way = if step < 0 { "back" } else { "forward" };
            let sentence = format!("the wall clock was set {way} by {} s", seconds.unsigned_abs());
            self.recorder.note(Draft::new(ArtifactType::ClockStepped, sentence).with("seconds", seconds));
        }
        // What it has jumped over is due; a warning, too.
        self.warned_to = self.warned_to.min(now.wall);
        self.pass(now);
        self.meet_schedule(now);
        if step < 0 && is_step {
            // The next sweep comes later than the last attestation has promised by `next_by`.
            self.begin_sweep(now);
        }
    }
}

/// How far the wall clock is ahead of the boot clock, in nanoseconds: it changes exactly when the wall clock is set.
pub(super) fn offset(now: Now) -> i128 {
    now.wall.as_nanosecond() - i128::try_from(now.boot.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn the_offset_of_the_clocks_changes_exactly_when_the_wall_clock_is_set() {
        assert_eq!(offset(now()), offset(later(1_000_000)));
        let set = Now { wall: now().wall - SignedDuration::from_secs(7), ..now() };
        assert_eq!(offset(set) - offset(now()), -7_000_000_000);
    }
}
