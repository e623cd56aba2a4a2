//! What an observation of the host counts for.
//!
//! A file that is being written is seen empty or cut, and a look can fail. So an observation is whole, partial or failed,
//! and only a whole one changes anything. What a whole one no longer shows counts as gone once a later one, at least
//! [`GONE_AFTER`] apart, does not show it either: a file can be cut exactly at the end of a line.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use record::Account;

/// The least time between the two observations that something has to be missing from before it counts as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(1);
/// The same for accounts that only a name service knows: its server may be away for a while, and then it knows nobody.
pub const SERVICE_GONE_AFTER: Duration = Duration::from_secs(600);
/// How soon a partial observation is repeated at first.
pub const FIRST_REPEAT: Duration = Duration::from_millis(250);
/// How late it is repeated at most.
pub const LAST_REPEAT: Duration = Duration::from_secs(30);

/// How long to wait before looking again after so many partial observations in a row.
#[must_use]
pub fn repeat_after(partial: u32) -> Duration {
    FIRST_REPEAT.saturating_mul(1 << partial.saturating_sub(1).min(16)).min(LAST_REPEAT)
}

/// Why the bytes of a passwd(5) file are not the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// Its last line is cut.
    #[error("its last line is cut")]
    Cut,
    /// No line names root.
    #[error("root is not in it")]
    NoRoot,
}

/// Whether the bytes of a passwd(5) file can be the whole of it.
///
/// # Errors
/// [`NotWhole`].
pub fn passwd_is_whole(bytes: &[u8]) -> Result<(), NotWhole> {
    let is_entry = |line: &[u8]| line.split(|byte| *byte == b':').count() == 7;
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if bytes.is_empty() {
        return Err(NotWhole::Empty);
    }
    if lines.next_back().is_some_and(|last| !last.is_empty() && !is_entry(last)) {
        return Err(NotWhole::Cut);
    }
    let names_root = |line: &[u8]| line.starts_with(b"root:") && is_entry(line);
    if bytes.split(|byte| *byte == b'\n').any(names_root) { Ok(()) } else { Err(NotWhole::NoRoot) }
}

/// What is no longer seen, and since when, on the boot clock.
pub type Missing<K> = BTreeMap<K, Duration>;

/// What counts after a whole observation that was made at `at`: all that is seen, and what was there `before` and is not
/// gone yet. Answers with that, and with what is missing now.
#[must_use]
pub fn hold<T: Clone, K: Ord + Clone>(
    before: &[T],
    mut seen: Vec<T>,
    key: impl Fn(&T) -> K,
    missing: &Missing<K>,
    gone_after: Duration,
    at: Duration,
) -> (Vec<T>, Missing<K>) {
    let shown: BTreeSet<K> = seen.iter().map(&key).collect();
    let mut still = Missing::new();
    for thing in before {
        let key = key(thing);
        if shown.contains(&key) {
            continue;
        }
        let since = missing.get(&key).copied().unwrap_or(at);
        if at.saturating_sub(since) < gone_after {
            still.insert(key, since);
            seen.push(thing.clone());
        }
    }
    (seen, still)
}

/// The accounts of this host, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Every account's user id.
    pub uids: BTreeMap<Account, u32>,
    /// Whether an account that is not among them is certain not to exist: there were two whole observations that far apart.
    pub settled: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\n# a comment\n\nfrank:x:1000:1000:Frank:/home/frank:/bin/sh\n";

    #[test]
    fn passwd_is_whole_only_with_root_in_it_and_no_line_cut() {
        for (text, whole) in [
            (PASSWD, Ok(())),
            (PASSWD.trim_end(), Ok(())),
            ("", Err(NotWhole::Empty)),
            ("root:x:0:0:root:/root:/bin/bash\nfrank:x:10", Err(NotWhole::Cut)),
            ("root:x:0", Err(NotWhole::Cut)),
            ("\n", Err(NotWhole::NoRoot)),
            ("frank:x:1000:1000:Frank:/home/frank:/bin/sh\n", Err(NotWhole::NoRoot)),
            ("rooty:x:1000:1000:Frank:/home/frank:/bin/sh\n", Err(NotWhole::NoRoot)),
        ] {
            assert_eq!(passwd_is_whole(text.as_bytes()), whole, "{text:?}");
        }
    }

    #[test]
    fn a_repeat_comes_soon_at_first_and_then_later_and_later_up_to_a_bound() {
        assert_eq!((repeat_after(1), repeat_after(2)), (FIRST_REPEAT, FIRST_REPEAT * 2));
        assert!((1..100).all(|n| repeat_after(n) <= repeat_after(n + 1)));
        assert_eq!(repeat_after(u32::MAX), LAST_REPEAT);
    }

    /// One whole observation after the other, at these milliseconds: what counts after each.
    fn observe(looks: &[(u64, &[&str])]) -> Vec<Vec<String>> {
        let (mut held, mut missing) = (Vec::new(), Missing::new());
        let mut after = Vec::new();
        for (at, seen) in looks {
            let seen = seen.iter().map(|name| (*name).to_owned()).collect();
            (held, missing) = hold(&held, seen, String::clone, &missing, GONE_AFTER, Duration::from_millis(*at));
            let mut sorted = held.clone();
            sorted.sort();
            after.push(sorted);
        }
        after
    }

    #[test]
    fn what_is_missing_is_gone_after_two_whole_observations_that_are_a_second_apart() {
        let counts = observe(&[(0, &["a", "b"]), (500, &["a"]), (1_400, &["a"]), (1_500, &["a"])]);
        assert_eq!(counts, [vec!["a", "b"], vec!["a", "b"], vec!["a", "b"], vec!["a"]]);
        let back = observe(&[(0, &["a", "b"]), (500, &["a"]), (1_000, &["a", "b"]), (1_600, &["a"]), (2_500, &["a"])]);
        assert_eq!(back.last().expect("five"), &["a", "b"], "it was seen in between");
        assert_eq!(observe(&[(0, &["a"]), (60_000, &[])]), [["a"], ["a"]], "one observation is not enough");
    }

    proptest! {
        #[test]
        fn nothing_that_is_seen_is_lost_and_nothing_that_is_not_seen_for_long_stays(
            looks in prop::collection::vec((0u64..900, prop::collection::btree_set(0u8..6, 0..6)), 1..60),
        ) {
            let (mut held, mut missing, mut at) = (Vec::<u8>::new(), Missing::new(), 0);
            let mut last_seen = BTreeMap::new();
            let mut first_missed = BTreeMap::new();
            for (wait, seen) in looks {
                at += wait;
                for thing in 0..6u8 {
                    if seen.contains(&thing) {
                        last_seen.insert(thing, at);
                        first_missed.remove(&thing);
                    } else {
                        first_missed.entry(thing).or_insert(at);
                    }
                }
                let seen_now: Vec<u8> = seen.iter().copied().collect();
                (held, missing) = hold(&held, seen_now, |thing| *thing, &missing, GONE_AFTER, Duration::from_millis(at));
                for thing in 0..6u8 {
                    let missed_for = first_missed.get(&thing).map(|first| at - first);
                    let is_held = held.contains(&thing);
                    prop_assert_eq!(
                        is_held,
                        last_seen.contains_key(&thing) && missed_for.is_none_or(|missed| missed < 1_000),
                        "{} at {}", thing, at
                    );
                }
            }
        }
    }
}
