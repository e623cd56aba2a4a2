//! Samples of one thing, in nanoseconds, and what is told of them.

use std::collections::BTreeMap;
use std::time::Duration;

/// Samples by name, as the probe prints them: `NAME NUMBER`, one a line.
#[derive(Debug, Default)]
pub struct Printed(BTreeMap<String, Vec<u64>>);

impl Printed {
    /// Reads what the probe printed.
    ///
    /// # Panics
    /// When it is anything else.
    pub fn parse(text: &str) -> Self {
        let mut printed = Self::default();
        for line in text.lines() {
            let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            let number = number.parse().unwrap_or_else(|e| panic!("not a sample ({e}): {line}"));
            printed.0.entry(name.to_owned()).or_default().push(number);
        }
        printed
    }

    /// The samples called `name`.
    ///
    /// # Panics
    /// When there are none.
    pub fn take(&self, name: &str) -> Samples {
        Samples::new(self.0.get(name).cloned().unwrap_or_default())
    }

    /// The one number called `name`.
    ///
    /// # Panics
    /// When there is none.
    pub fn one(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|numbers| numbers.first().copied()).unwrap_or_else(|| panic!("no {name} was printed"))
    }
}

/// At least one sample, in order of size.
#[derive(Debug)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Orders them.
    ///
    /// # Panics
    /// When there are none.
    pub fn new(mut nanoseconds: Vec<u64>) -> Self {
        assert!(!nanoseconds.is_empty(), "nothing was measured");
        nanoseconds.sort_unstable();
        Self(nanoseconds)
    }

    /// The smallest sample that at least `percent` of a hundred do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        Duration::from_nanos(self.0[rank - 1])
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_of_its_rank() {
        let hundred = Samples::new((1..=100).rev().collect());
        assert_eq!(hundred.percentile(50), Duration::from_nanos(50));
        assert_eq!(hundred.percentile(99), Duration::from_nanos(99));
        let three = Samples::new(vec![30, 10, 20]);
        assert_eq!(three.median(), Duration::from_nanos(20));
        assert_eq!(three.percentile(99), Duration::from_nanos(30));
    }

    #[test]
    fn samples_are_told_apart_by_name() {
        let printed = Printed::parse("ours 3\nfloor 1\nours 2\n");
        assert_eq!(printed.take("ours").median(), Duration::from_nanos(2));
        assert_eq!(printed.one("floor"), 1);
    }
}
