//! What in the key store could not be put right. It is tried again after a pause: each failed try changes the store's
//! directory, which wakes the daemon, so that without one it would try for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::Severity;
use crate::policy::time::Now;

/// The first pause before what failed is tried again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Files of the store that are not as they must be.
#[derive(Debug, Default)]
pub(super) struct Unstored {
    failing: BTreeMap<OsString, Failing>,
    pause: Duration,
    due: Option<Duration>,
    tries: u64,
}

/// One file that is not as it must be.
#[derive(Debug)]
pub(super) struct Failing {
    /// Why.
    pub(super) why: String,
    /// Whose keys are not in place.
    pub(super) missing: BTreeSet<String>,
    tried: u64,
}

impl Unstored {
    /// When the next try is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// What fails, by the name of the file.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&OsStr, &Failing)> {
        self.failing.iter().map(|(name, failing)| (name.as_os_str(), failing))
    }

    /// Why the file of this name is not as it must be.
    pub(super) fn of(&self, name: &OsStr) -> Option<&Failing> {
        self.failing.get(name)
    }

    /// Whether to try `wanted` (`None`: that there is no such file). Not if the same failed and its pause is not over.
    pub(super) fn may_try(&self, name: &OsStr, wanted: Option<&[u8]>, now: Now) -> bool {
        let waits = self.due.is_some_and(|due| now.boot < due);
        !(waits && self.failing.get(name).is_some_and(|failing| failing.tried == digest(wanted)))
    }

    /// The names of files that are not tried now: the same that is wanted of them failed, and its pause is not over.
    pub(super) fn paused<'a>(&self, wanted: impl Fn(&OsStr) -> Option<&'a [u8]>, now: Now) -> BTreeSet<OsString> {
        let names = self.failing.keys().filter(|name| !self.may_try(name, wanted(name), now));
        names.cloned().collect()
    }

    /// A try failed.
    pub(super) fn failed(&mut self, name: &OsStr, wanted: Option<&[u8]>, why: String, missing: BTreeSet<String>) {
        self.failing.insert(name.to_owned(), Failing { why, missing, tried: digest(wanted) });
    }

    /// The file is as it must be.
    pub(super) fn is_right(&mut self, name: &OsStr) {
        self.failing.remove(name);
    }

    /// A pass over the store is over; `failed` says whether a try failed in it, and `matters` which files stand or are
    /// wanted. Plans the next try; gives once what is to be said when something fails, and once when that is over.
    pub(super) fn pass_is_over(
        &mut self,
        matters: impl Fn(&OsStr) -> bool,
        failed: bool,
        now: Now,
    ) -> Option<(Severity, String)> {
        self.failing.retain(|name, _| matters(name));
        let Some((name, failing)) = self.failing.first_key_value() else {
            let tries = std::mem::take(&mut self.tries);
            (self.due, self.pause) = (None, Duration::ZERO);
            let said = format!("the key store is as it must be again, after {tries} failed tries");
            return (tries > 0).then_some((Severity::Warning, said));
        };
        if !failed {
            return None;
        }
        let said = (self.tries == 0).then(|| {
            let (file, others) = (record::escape(name.as_encoded_bytes()), self.failing.len() - 1);
            let others = if others == 0 { String::new() } else { format!(" (and {others} more)") };
            let why = &failing.why;
            (Severity::Err, format!("the key store cannot be put right: {file}: {why}{others}; it is tried again"))
        });
        self.tries += 1;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = Some(now.boot + self.pause);
        said
    }
}

fn digest(wanted: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use crate::policy::test_grants::{later, now};

    use super::*;

    const ALL: fn(&OsStr) -> bool = |_| true;

    fn fail(unstored: &mut Unstored, wanted: &[u8], now: Now) {
        unstored.failed(OsStr::new("ubuntu"), Some(wanted), "no space".to_owned(), BTreeSet::new());
        drop(unstored.pass_is_over(ALL, true, now));
    }

    #[test]
    fn what_failed_is_tried_again_after_pauses_that_double_and_at_once_where_something_else_is_wanted() {
        let (mut unstored, name) = (Unstored::default(), OsStr::new("ubuntu"));
        assert!(unstored.may_try(name, Some(b"a"), now()));
        fail(&mut unstored, b"a", now());
        assert_eq!(unstored.due(), Some(now().boot + FIRST_PAUSE));
        assert!(!unstored.may_try(name, Some(b"a"), now()) && unstored.may_try(name, Some(b"a"), later(1)));
        assert!(unstored.may_try(name, Some(b"b"), now()) && unstored.may_try(name, None, now()));
        assert!(unstored.may_try(OsStr::new("frank"), Some(b"a"), now()), "another file");
        // A pass that did not try does not move the next try.
        assert_eq!(unstored.pass_is_over(ALL, false, now()), None);
        assert_eq!(unstored.due(), Some(now().boot + FIRST_PAUSE));
        let mut at = 0;
        for pause in [2, 4, 8, 16, 16] {
            at += 1;
            fail(&mut unstored, b"a", later(at));
            assert_eq!(unstored.due(), Some(later(at + pause).boot));
        }
        unstored.is_right(name);
        unstored.pass_is_over(ALL, false, later(99));
        assert_eq!((unstored.due(), unstored.failing().count()), (None, 0));
        fail(&mut unstored, b"a", later(100));
        assert_eq!(unstored.due(), Some(later(101).boot), "the pauses begin anew");
    }

    #[test]
    fn what_is_no_longer_there_or_wanted_no_longer_fails() {
        let mut unstored = Unstored::default();
        fail(&mut unstored, b"a", now());
        drop(unstored.pass_is_over(|_| false, false, now()));
        assert!(unstored.due().is_none() && unstored.of(OsStr::new("ubuntu")).is_none());
    }
}
