//! Mounts that come and go, which no watch on a directory tells: what they uncover is looked at, what looking would mount is
//! left alone, and a file system that other hosts share is named before anything is removed there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lockdown_host::{home_watch::Unit, mounts::Mount};

use super::{Worker, as_unit};

/// The least time between two looks at the table of mounts: whoever may mount with fusermount3(1) can cause one at will.
const PAUSE: Duration = Duration::from_secs(1);

/// When the table of mounts is read.
#[derive(Debug, Default)]
pub(super) struct MountsTold {
    due: Option<Instant>,
    earliest: Option<Instant>,
    /// Shared file systems that were named, by mount point, and the sweep that was the last to begin then.
    named: std::collections::BTreeMap<PathBuf, u64>,
}

impl MountsTold {
    /// When to read the table.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something came or went.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due.get_or_insert(self.earliest.map_or(now, |earliest| earliest.max(now)));
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due {
            (self.due, self.earliest) = (None, Some(now + PAUSE));
        }
        is_due
    }

    /// Whether something may be removed from the shared file system at `point`: a sweep has begun since it was named. Names
    /// it now if it was not; then the answer is `None`.
    fn may_remove(&mut self, point: &Path, sweeps: u64) -> Option<bool> {
        match self.named.get(point) {
            Some(named) => Some(sweeps > *named),
            None => {
                self.named.insert(point.to_owned(), sweeps);
                None
            }
        }
    }
}

impl Worker {
    /// Reads the table of mounts if it has changed, and has those looked at whose homes a change concerns.
    pub(super) fn look_at_mounts(&mut self) {
        if !self.mounts_told.is_due(Instant::now()) {
            return;
        }
        match self.mounts.renew() {
            Ok(changed) => self.need_ways_at(&changed),
            Err(error) => {
                tracing::warn!(%error, "the table of mounts cannot be read");
                self.need_everything();
            }
        }
    }

    fn need_ways_at(&mut self, changed: &BTreeSet<PathBuf>) {
        if changed.is_empty() {
            return;
        }
        let concerns = |path: &Path| changed.iter().any(|point| path.starts_with(point) || point.starts_with(path));
        let units: Vec<Unit> = self
            .wards
            .iter()
            .enumerate()
            .filter(|(_, ward)| {
                ward.candidates.iter().any(|c| concerns(&c.base) || c.real_base.as_deref().is_some_and(concerns))
            })
            .map(|(index, _)| as_unit(index))
            .collect();
        units.into_iter().for_each(|unit| self.need_ways(unit));
    }

    /// Whether what stands at `file` may be removed as far as its file system goes.
    pub(super) fn may_remove_from_mount(&mut self, unit: Unit, file: &Path) -> bool {
        let Some(Mount { point, kind, .. }) = self.mounts.of(file).filter(|mount| mount.is_shared()).cloned() else {
            return true;
        };
        match self.mounts_told.may_remove(&point, self.sweeps) {
            Some(may) => may,
            None => {
                let point = record::escape(point.as_os_str().as_encoded_bytes());
                self.fail(
                    unit,
                    file.to_owned(),
                    format!("it stands on {point} ({kind}), which other hosts may share: the next sweep begins to remove there"),
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_mounts_change_the_table_is_read_once_a_second() {
        let (mut told, start) = (MountsTold::default(), Instant::now());
        let mut read = 0;
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100) * tenth;
            told.changed(now);
            read += u32::from(told.is_due(now));
        }
        assert_eq!(read, 10);
        assert!(told.due().is_some(), "the last change is looked at, too");
    }

    #[test]
    fn a_shared_file_system_is_named_once_and_nothing_is_removed_there_before_the_next_sweep() {
        let mut told = MountsTold::default();
        let (home, data) = (Path::new("/home"), Path::new("/data"));
        assert_eq!(told.may_remove(home, 3), None);
        assert_eq!(told.may_remove(home, 3), Some(false));
        assert_eq!(told.may_remove(data, 4), None);
        assert_eq!((told.may_remove(home, 4), told.may_remove(data, 4)), (Some(true), Some(false)));
    }
}
