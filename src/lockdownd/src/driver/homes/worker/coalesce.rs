//! Tells a repeated trouble once, then its exact count at most once per period.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The most troubles that are counted apart; those beyond are counted together.
const MAX_TROUBLES: usize = 65_536;
/// The least time between two looks at what is due, where not all of it could be told.
const PAUSE: Duration = Duration::from_secs(1);

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
    /// How many came beyond [`MAX_TROUBLES`].
    beyond: u64,
}

impl<K: Eq + Hash + Clone, V> Coalescer<K, V> {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, counted: HashMap::new(), next_due: None, beyond: 0 }
    }

    /// Notes one occurrence. `true` means to tell it now: it is the first in a period, and may be told.
    pub(super) fn note(&mut self, key: K, value: V, may_tell: bool, now: Instant) -> bool {
        self.next_due.get_or_insert(now + self.period);
        if let Some(counted) = self.counted.get_mut(&key) {
            counted.since += 1;
            counted.last = value;
            return false;
        }
        if self.counted.len() >= MAX_TROUBLES {
            self.beyond += 1;
            return false;
        }
        self.counted.insert(key, Counted { told_at: now, since: u64::from(!may_tell), last: value });
        may_tell
    }

    /// When [`Coalescer::take_due`] has something to do, at the earliest.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// What has happened again since it was told a period ago, so many at most; what has not is forgotten.
    pub(super) fn take_due(&mut self, most: usize, now: Instant) -> Vec<(K, V, u64)> {
        let is_due = |counted: &Counted<V>| now.saturating_duration_since(counted.told_at) >= self.period;
        self.counted.retain(|_, counted| counted.since > 0 || !is_due(counted));
        let due = self.counted.iter().filter(|(_, counted)| is_due(counted)).take(most);
        let keys: Vec<K> = due.map(|(key, _)| key.clone()).collect();
        let taken = keys.into_iter().filter_map(|key| self.counted.remove(&key).map(|c| (key, c.last, c.since)));
        let taken = taken.collect();
        let next = self.counted.values().map(|counted| counted.told_at + self.period).min();
        self.next_due = next.map(|due| due.max(now + PAUSE)).or((self.beyond > 0).then(|| now + PAUSE));
        taken
    }

    /// How many came beyond what is counted apart, since that was told last.
    pub(super) fn take_beyond(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.beyond)).filter(|beyond| *beyond > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_an_exact_count_after_the_period() {
        let start = Instant::now();
        let mut coalescer = Coalescer::new(Duration::from_secs(60));
        assert!(coalescer.note("a", 1, true, start));
        for value in 2..=500 {
            assert!(!coalescer.note("a", value, true, start + Duration::from_secs(1)));
        }
        assert!(coalescer.note("b", 7, true, start + Duration::from_secs(2)));
        assert!(coalescer.take_due(9, start + Duration::from_secs(59)).is_empty());
        assert_eq!(coalescer.take_due(9, start + Duration::from_secs(61)), [("a", 500, 499)]);
        assert_eq!(coalescer.next_due(), Some(start + Duration::from_secs(62)));
        assert!(coalescer.take_due(9, start + Duration::from_secs(70)).is_empty());
        assert_eq!(coalescer.next_due(), None);
        assert!(coalescer.note("a", 9, true, start + Duration::from_secs(71)));
    }

    #[test]
    fn what_may_not_be_told_is_counted_and_told_when_there_is_room() {
        let (start, later) = (Instant::now(), Instant::now() + Duration::from_secs(61));
        let mut coalescer = Coalescer::new(Duration::from_secs(60));
        for key in 0..3 {
            assert!(!coalescer.note(key, (), false, start));
        }
        assert!(coalescer.take_due(0, later).is_empty());
        assert_eq!(coalescer.next_due(), Some(later + PAUSE), "not at once, over and over");
        assert_eq!(coalescer.take_due(2, later).len(), 2);
        assert_eq!(coalescer.take_due(2, later).iter().map(|(_, (), times)| times).sum::<u64>(), 1);
    }

    #[test]
    fn beyond_the_bound_nothing_is_held_and_nothing_is_hidden() {
        let now = Instant::now();
        let mut coalescer = Coalescer::new(Duration::from_secs(60));
        for key in 0..MAX_TROUBLES + 10 {
            assert_eq!(coalescer.note(key, (), true, now), key < MAX_TROUBLES);
        }
        assert_eq!(coalescer.counted.len(), MAX_TROUBLES);
        assert_eq!((coalescer.take_beyond(), coalescer.take_beyond()), (Some(10), None));
    }
}
