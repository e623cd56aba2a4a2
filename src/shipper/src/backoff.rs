//! How long to wait before the next try. Pure: chance comes in as an argument.

use std::time::Duration;

/// The first wait after something failed.
pub(crate) const MIN: Duration = Duration::from_millis(250);
/// The longest wait for a server that is out of reach or busy, and the longest `Retry-After` that is honoured.
pub(crate) const MAX: Duration = Duration::from_secs(60);
/// The first wait after a refusal that only a person can mend.
pub(crate) const SLOW_MIN: Duration = Duration::from_secs(10);
/// The longest of those.
pub(crate) const SLOW_MAX: Duration = Duration::from_secs(600);
/// The longest wait while the shipper is to stop.
pub(crate) const ENDING_MAX: Duration = Duration::from_millis(500);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait, doubled with each failure, `chance` (0 to 1) deciding over its second half: ten thousand hosts
    /// must not come back in one instant. What the server asked for is the least, as far as it is not over [`MAX`].
    pub(crate) fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let wait = self.grown(MIN, MAX, chance);
        asked.map_or(wait, |asked| wait.max(asked.min(MAX)))
    }

    /// The same after a refusal.
    pub(crate) fn next_slow(&mut self, chance: f64) -> Duration {
        self.grown(SLOW_MIN, SLOW_MAX, chance)
    }

    fn grown(&mut self, min: Duration, max: Duration, chance: f64) -> Duration {
        let whole = min.saturating_mul(2u32.saturating_pow(self.failures)).min(max);
        self.failures = self.failures.saturating_add(1).min(20);
        (whole / 2) + (whole / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// A number from 0 to 1 that differs from host to host and from call to call. Nothing secret hangs on it.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::time::Instant::now());
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_from_the_least_to_the_most_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.0), MIN / 2);
    }

    #[test]
    fn what_the_server_asks_for_is_kept_up_to_a_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(7)), 0.5), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400)), 0.5), MAX);
        assert!(backoff.next(Some(Duration::ZERO), 0.5) >= MIN / 2);
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_or_longer_than_its_bounds(failures in 0u32..100, chance in -1.0..2.0f64, asked in proptest::option::of(0u64..1_000_000)) {
            let mut backoff = Backoff::default();
            for _ in 0..failures { backoff.next(None, chance); }
            let wait = backoff.next(asked.map(Duration::from_secs), chance);
            prop_assert!((MIN / 2..=MAX).contains(&wait));
            let slow = backoff.next_slow(chance);
            prop_assert!((SLOW_MIN / 2..=SLOW_MAX).contains(&slow));
        }

        #[test]
        fn chance_is_between_nought_and_one(_ in 0..20) {
            prop_assert!((0.0..=1.0).contains(&chance()));
        }
    }
}
