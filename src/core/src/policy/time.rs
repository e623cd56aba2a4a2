//! Moments on two clocks at once: the wall clock, and the boot clock (CLOCK_BOOTTIME, clock_gettime(2)), which nobody can
//! set. So setting the wall clock back never lengthens anything. The boot clock starts anew at every boot;
//! [`Deadline::after_reboot`] carries what was left across.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far the wall clock may stand behind the last moment this host has seen before a boot, and still be believed:
/// what NTP corrects between a shutdown and a start.
pub const BELIEVED_STEP_BACK: SignedDuration = SignedDuration::from_secs(5);

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_REALTIME`: what a person's watch says; can be set.
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME`: since this boot, suspension included; cannot be set.
    pub boot: Duration,
}

/// A moment on both clocks; it has passed as soon as either says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// On the wall clock.
    pub wall: Timestamp,
    /// On this boot's CLOCK_BOOTTIME.
    pub boot: Duration,
}

impl Deadline {
    /// The moment the wall clock names, taken on both clocks as they stand now.
    #[must_use]
    pub fn at(wall: Timestamp, now: Now) -> Self {
        Self { wall, boot: now.boot.saturating_add(until(now.wall, wall)) }
    }

    /// The moment so long after now.
    #[must_use]
    pub fn after(span: Duration, now: Now) -> Self {
        Self { wall: later(now.wall, span), boot: now.boot.saturating_add(span) }
    }

    /// Whether it has passed on either clock.
    #[must_use]
    pub fn has_passed(self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    /// How long until it passes on the first of both clocks; zero once it has.
    #[must_use]
    pub fn remaining(self, now: Now) -> Duration {
        until(now.wall, self.wall).min(self.boot.saturating_sub(now.boot))
    }

    /// The earlier of the two, clock by clock.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), boot: self.boot.min(other.boot) }
    }

    /// The same deadline on the boot clock of a new boot: never more is left than when the old boot was last seen.
    #[must_use]
    pub fn after_reboot(self, last_seen: Now, now: Now) -> Self {
        let left = self.remaining(last_seen).min(until(now.wall, self.wall));
        Self { wall: self.wall, boot: now.boot.saturating_add(left) }
    }
}

/// The span from one moment to a later one; zero if it is not later.
fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn later(from: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| from.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now(wall: i64, boot: u64) -> Now {
        Now { wall: Timestamp::from_second(wall).expect("in range"), boot: Duration::from_secs(boot) }
    }

    #[test]
    fn a_deadline_passes_on_whichever_clock_reaches_it_first() {
        let deadline = Deadline::after(Duration::from_secs(100), now(1_000, 50));
        assert!(!deadline.has_passed(now(1_099, 149)));
        assert!(deadline.has_passed(now(1_100, 60)), "the wall clock was set forward");
        assert!(deadline.has_passed(now(200, 150)), "the wall clock was set back");
    }

    proptest! {
        #[test]
        fn a_clock_set_to_anything_never_lengthens_a_deadline(span in 0u64..1_000_000, ran in 0u64..2_000_000, wall in 0i64..4_000_000_000) {
            let deadline = Deadline::after(Duration::from_secs(span), now(2_000_000_000, 77));
            if ran >= span {
                prop_assert!(deadline.has_passed(now(wall, 77 + ran)));
            }
        }

        #[test]
        fn a_reboot_never_leaves_more_than_was_left(span in 1u64..1_000_000, ran in 0u64..1_000_000, wall in 0i64..4_000_000_000, boot in 0u64..1_000) {
            let start = now(2_000_000_000, 500);
            let seen = now(2_000_000_000 + i64::try_from(ran).expect("small"), 500 + ran);
            let deadline = Deadline::after(Duration::from_secs(span), start);
            let left = deadline.remaining(seen);
            let carried = deadline.after_reboot(seen, now(wall, boot));
            prop_assert!(carried.remaining(now(wall, boot)) <= left);
        }
    }
}
