//! How fast a feed is taken, whatever its server does. Pure: the time comes in as an argument.

use std::time::{Duration, Instant};

/// What is taken at once, before the pace counts: a request is one, and so are 64 documents, and 1 MiB.
const BURST: f64 = 20.0;
/// What comes back in a second.
const PER_SECOND: f64 = 1.0;
/// The longest that one answer delays the next request: a lockdown may be in that.
const MAX_DEBT: Duration = Duration::from_secs(30);
/// How many documents, and how many bytes, count as one request.
const DOCUMENTS: usize = 64;
const BYTES: usize = 1 << 20;

/// What is left to be taken.
#[derive(Debug)]
pub(super) struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// How long to wait before the next request.
    pub(super) fn due(&mut self, now: Instant) -> Duration {
        let grown = now.saturating_duration_since(self.since).as_secs_f64() * PER_SECOND;
        (self.left, self.since) = ((self.left + grown).min(BURST), now);
        Duration::from_secs_f64(((1.0 - self.left) / PER_SECOND).max(0.0))
    }

    /// A request was made.
    pub(super) fn asked(&mut self) {
        self.left -= 1.0;
    }

    /// And so much came.
    pub(super) fn took(&mut self, documents: usize, bytes: usize) {
        let cost = documents as f64 / DOCUMENTS as f64 + bytes as f64 / BYTES as f64;
        self.left = (self.left - cost).max(-MAX_DEBT.as_secs_f64() * PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_requests_wait_for_nothing_and_one_a_second_comes_after_them() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..20 {
            assert_eq!(pace.due(now), Duration::ZERO);
            pace.asked();
        }
        assert_eq!(pace.due(now), Duration::from_secs(1));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.due(later), Duration::ZERO);
        pace.asked();
        assert_eq!(pace.due(later), Duration::from_secs(1));
        assert_eq!(pace.due(later + Duration::from_secs(3600)), Duration::ZERO);
        assert!(pace.left <= BURST);
    }

    #[test]
    fn much_at_once_is_waited_for_within_a_bound() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.took(640, 5 << 20);
        assert_eq!(pace.due(now), Duration::ZERO);
        pace.took(50_000, 32 << 20);
        assert_eq!(pace.due(now), MAX_DEBT + Duration::from_secs(1));
    }
}
