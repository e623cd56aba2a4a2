//! Tells a repeated trouble once, then its exact count at most once per period.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The most troubles that are counted apart; beyond, each is told at once, which bounds memory and hides nothing.
const MAX_TROUBLES: usize = 65_536;

#[derive(Debug)]
struct Counted<V> {
    told_at: Instant,
    since: u64,
    last: V,
}

/// Counts by key.
#[derive(Debug)]
pub(super) struct Coalescer<K, V> {
    period: Duration,
    counted: HashMap<K, Counted<V>>,
    next_due: Option<Instant>,
}

impl<K: Eq + Hash + Clone, V> Coalescer<K, V> {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, counted: HashMap::new(), next_due: None }
    }

    /// Notes one occurrence. `Some(times)` means to tell it now: it is the first in a period.
    pub(super) fn note(&mut self, key: K, value: V, now: Instant) -> Option<u64> {
        if let Some(counted) = self.counted.get_mut(&key) {
            counted.since += 1;
            counted.last = value;
            return None;
        }
        if self.counted.len() < MAX_TROUBLES {
            self.counted.insert(key, Counted { told_at: now, since: 0, last: value });
            self.next_due.get_or_insert(now + self.period);
        }
        Some(1)
    }

    /// When [`Coalescer::take_due`] has something to do, at the earliest.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// What has happened again since it was told a period ago; what has not is forgotten.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(K, V, u64)> {
        let is_due = |counted: &Counted<V>| now.saturating_duration_since(counted.told_at) >= self.period;
        let keys: Vec<K> = self.counted.iter().filter(|(_, c)| is_due(c)).map(|(key, _)| key.clone()).collect();
        let mut due = Vec::new();
        for key in keys {
            let Some(counted) = self.counted.remove(&key) else { continue };
            if counted.since > 0 {
                due.push((key, counted.last, counted.since));
            }
        }
        self.next_due = self.counted.values().map(|counted| counted.told_at + self.period).min();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_an_exact_count_after_the_period() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(Duration::from_secs(60));
        assert_eq!(coalescer.note("a", 1, start), Some(1));
        for value in 2..=500 {
            assert_eq!(coalescer.note("a", value, start + Duration::from_secs(1)), None);
        }
        assert_eq!(coalescer.note("b", 7, start + Duration::from_secs(2)), Some(1));
        assert!(coalescer.take_due(start + Duration::from_secs(59)).is_empty());
        assert_eq!(coalescer.take_due(start + Duration::from_secs(61)), [("a", 500, 499)]);
        assert_eq!(coalescer.next_due(), Some(start + Duration::from_secs(62)));
        assert!(coalescer.take_due(start + Duration::from_secs(70)).is_empty());
        assert_eq!(coalescer.next_due(), None);
        assert_eq!(coalescer.note("a", 9, start + Duration::from_secs(71)), Some(1));
    }

    #[test]
    fn beyond_the_bound_nothing_is_held_and_nothing_is_hidden() {
        let now = Instant::now();
        let mut coalescer = Coalescer::new(Duration::from_secs(60));
        for key in 0..MAX_TROUBLES + 10 {
            assert_eq!(coalescer.note(key, (), now), Some(1));
        }
        assert_eq!(coalescer.counted.len(), MAX_TROUBLES);
        assert_eq!(coalescer.note(MAX_TROUBLES + 5, (), now), Some(1));
    }
}
