//! What an observation of the host counts for.
//!
//! A file that is being written is seen empty or cut, and a look can fail. So an observation is whole, partial or failed,
//! and only a whole one changes anything. What a whole one no longer shows counts as gone once a later one, at least
//! [`GONE_AFTER`] apart, has found the very same and so does not show it either: a file can be cut exactly at the end of a
//! line, again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use record::Account;

/// The least time between the two observations that something has to be missing from before it counts as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(1);
/// How long at most something that is missing from every whole observation is held because what is observed goes on
/// changing: others must not be able to hold it for ever.
pub const GONE_AT_LAST: Duration = Duration::from_secs(30);
/// [`GONE_AFTER`] for accounts that only a name service knows: its server may be away for a while, and then it knows nobody.
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

/// Since when something is not seen any more, on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// The first whole observation that lacked it.
    first: Duration,
    /// The first that saw the same as all later ones.
    same: Duration,
}

impl Absence {
    /// When it counts as gone if the same is seen again.
    #[must_use]
    pub fn gone_at(&self, gone_after: Duration) -> Duration {
        (self.same + gone_after).min(self.first + GONE_AT_LAST.max(gone_after))
    }
}

/// What is no longer seen.
pub type Missing<K> = BTreeMap<K, Absence>;

/// How one whole observation was made.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When, on the boot clock.
    pub at: Duration,
    /// Whether what was observed is what the whole observation before had found.
    pub same: bool,
}

/// What counts after a whole observation: all that it shows, and what was there `before` and is not gone yet. Answers with
/// that, and with what is missing now.
#[must_use]
pub fn hold<T: Clone, K: Ord + Clone>(
    before: &[T],
    mut shown: Vec<T>,
    key: impl Fn(&T) -> K,
    missing: &Missing<K>,
    gone_after: Duration,
    seen: Seen,
) -> (Vec<T>, Missing<K>) {
    let keys: BTreeSet<K> = shown.iter().map(&key).collect();
    let mut still = Missing::new();
    for thing in before {
        let key = key(thing);
        if keys.contains(&key) {
            continue;
        }
        let mut absence = missing.get(&key).copied().unwrap_or(Absence { first: seen.at, same: seen.at });
        if !seen.same {
            absence.same = seen.at;
        }
        if seen.at < absence.gone_at(gone_after) {
            still.insert(key, absence);
            shown.push(thing.clone());
        }
    }
    (shown, still)
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

    /// One whole observation after the other, at these milliseconds, of the same as before or not: what counts after each.
    fn observe(looks: &[(u64, bool, &[&str])]) -> Vec<Vec<String>> {
        let (mut held, mut missing) = (Vec::new(), Missing::new());
        let mut after = Vec::new();
        for (at, same, names) in looks {
            let shown = names.iter().map(|name| (*name).to_owned()).collect();
            let seen = Seen { at: Duration::from_millis(*at), same: *same };
            (held, missing) = hold(&held, shown, String::clone, &missing, GONE_AFTER, seen);
            let mut sorted = held.clone();
            sorted.sort();
            after.push(sorted);
        }
        after
    }

    #[test]
    fn what_is_missing_is_gone_after_two_whole_observations_that_are_a_second_apart() {
        let counts =
            observe(&[(0, false, &["a", "b"]), (500, false, &["a"]), (1_400, true, &["a"]), (1_500, true, &["a"])]);
        assert_eq!(counts, [vec!["a", "b"], vec!["a", "b"], vec!["a", "b"], vec!["a"]]);
        let back = observe(&[
            (0, false, &["a", "b"]),
            (500, false, &["a"]),
            (1_000, false, &["a", "b"]),
            (1_600, false, &["a"]),
            (2_500, true, &["a"]),
        ]);
        assert_eq!(back.last().expect("five"), &["a", "b"], "it was seen in between");
        assert_eq!(observe(&[(0, false, &["a"]), (60_000, false, &[])]), [["a"], ["a"]], "one is not enough");
    }

    #[test]
    fn what_is_missing_from_a_file_that_goes_on_changing_is_held_and_not_for_ever() {
        let looks: Vec<(u64, bool, &[&str])> =
            (0..40).map(|second| (second * 1_000, false, if second == 0 { &["a"][..] } else { &[] })).collect();
        let held: Vec<bool> = observe(&looks).iter().map(|names| !names.is_empty()).collect();
        assert_eq!(held.iter().filter(|held| **held).count(), 31);
        assert!(held[30] && !held[31]);
    }

    proptest! {
        #[test]
        fn nothing_that_is_seen_is_lost_and_nothing_that_is_not_seen_for_long_stays(
            looks in prop::collection::vec((0u64..900, prop::collection::btree_set(0u8..6, 0..6)), 1..60),
        ) {
            let (mut held, mut missing, mut at) = (Vec::<u8>::new(), Missing::new(), 0);
            let (mut ever, mut first_missed) = (BTreeSet::new(), BTreeMap::new());
            for (wait, shown) in looks {
                at += wait;
                ever.extend(shown.iter().copied());
                for thing in 0..6u8 {
                    if shown.contains(&thing) {
                        first_missed.remove(&thing);
                    } else {
                        first_missed.entry(thing).or_insert(at);
                    }
                }
                let now = shown.into_iter().collect();
                let seen = Seen { at: Duration::from_millis(at), same: true };
                (held, missing) = hold(&held, now, |thing| *thing, &missing, GONE_AFTER, seen);
                for &thing in &ever {
                    let missed_for = first_missed.get(&thing).map(|first| at - first);
                    let is_held = missed_for.is_none_or(|missed| missed < 1_000);
                    prop_assert_eq!(held.contains(&thing), is_held, "{} at {}", thing, at);
                }
            }
        }
    }
}
