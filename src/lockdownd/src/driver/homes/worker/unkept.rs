//! Key files that stand because the quarantine cannot take them in. They are tried again after a pause.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lockdown_host::home_watch::Unit;

/// The first pause before they are tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause; each is twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// The most files that are counted; further ones are tried again with these.
const MAX_COUNTED: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Unkept {
    files: BTreeMap<PathBuf, Unit>,
    why: String,
    pause: Duration,
    due: Option<Instant>,
    told: u64,
}

impl Unkept {
    /// A file could not be kept, and stands.
    pub(super) fn note(&mut self, unit: Unit, file: &Path, why: &str) {
        if self.files.len() < MAX_COUNTED || self.files.contains_key(file) {
            self.files.insert(file.to_owned(), unit);
        }
        why.clone_into(&mut self.why);
        if self.due.is_none() {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.due = Some(Instant::now() + self.pause);
        }
    }

    /// Nothing that has to go stands there any more.
    pub(super) fn is_settled(&mut self, file: &Path) {
        if !self.files.is_empty() {
            self.files.remove(file);
        }
    }

    /// When they are to be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Whose files are to be tried again now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Unit> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        if self.files.is_empty() {
            self.pause = Duration::ZERO;
        }
        let mut units: Vec<Unit> = self.files.values().copied().collect();
        units.dedup();
        units
    }

    /// How many stand and why, where that is another number than was told last.
    pub(super) fn news(&mut self) -> Option<(u64, String)> {
        let standing = self.files.len() as u64;
        (std::mem::replace(&mut self.told, standing) != standing).then(|| (standing, self.why.clone()))
    }

    /// The accounts are others now.
    pub(super) fn forget(&mut self) {
        self.files.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_kept_is_tried_again_after_pauses_that_double_and_its_number_is_told_once() {
        let (mut unkept, file) = (Unkept::default(), Path::new("/home/grace/.ssh/authorized_keys"));
        assert!(unkept.next_due().is_none() && unkept.news().is_none());
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            let before = Instant::now();
            unkept.note(7, file, "no space");
            unkept.note(7, file, "no space");
            let due = unkept.next_due().expect("it is planned");
            assert!((pause..pause + 2).contains(&(due - before).as_secs()), "{:?}", due - before);
            assert!(unkept.take_due(before).is_empty());
            assert_eq!(unkept.take_due(due), [7]);
        }
        assert_eq!(unkept.news(), Some((1, "no space".to_owned())));
        assert_eq!(unkept.news(), None);
        unkept.is_settled(file);
        assert_eq!(unkept.news().map(|(standing, _)| standing), Some(0));
    }
}
