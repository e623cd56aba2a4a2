//! A sweep: one look at everything as if nothing had been watched, a few accounts between two readings of the queue.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use lockdown_host::paths::PathError;

use super::{Need, Reach, Worker, as_unit};
use crate::driver::homes::SweepReport;

/// A sweep that runs.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: usize,
    pub(super) report: SweepReport,
    /// Where the directory above each base really was, found out once for all that share it.
    above: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl Worker {
    /// What was found so far counts for nothing: the territory is another.
    pub(super) fn restart_sweep(&mut self) {
        if self.sweeping.is_some() {
            self.sweeping = Some(Sweep::default());
        }
    }

    /// Sweeps the next `count` accounts, if a sweep runs or is asked for.
    pub(super) fn sweep_some(&mut self, count: usize) {
        if self.sweeping.is_none() && std::mem::take(&mut self.is_to_sweep) {
            self.sweeping = Some(Sweep::default());
            self.sweeps += 1;
            self.mounts_told.changed(Instant::now());
            self.look_at_mounts();
            if self.is_outdated() {
                return;
            }
        }
        let Some(mut sweep) = self.sweeping.take() else { return };
        let end = self.wards.len().min(sweep.next + count);
        for index in sweep.next..end {
            if self.post.is_replaced() {
                return;
            }
            self.enter(as_unit(index));
            let changed = self.ways_have_changed(index, &mut sweep).then_some(Need::Ways);
            // What it waits for is done with this look.
            let need = self.wards[index].need.take().max(changed).unwrap_or(Need::Files);
            let is_counted = self.post.reach == Reach::Local && self.wards[index].whose.is_some();
            sweep.report.accounts += u64::from(is_counted);
            // `pass` counts into the running sweep.
            self.sweeping = Some(sweep);
            self.pass(as_unit(index), need);
            self.post.leave();
            let Some(running) = self.sweeping.take() else { return };
            sweep = running;
        }
        sweep.next = end;
        if end < self.wards.len() {
            self.sweeping = Some(sweep);
            return;
        }
        self.tell_beyond();
        self.post.swept(sweep.report);
    }

    /// Whether root has led the ways to these files elsewhere, which no watch shows.
    fn ways_have_changed(&self, index: usize, sweep: &mut Sweep) -> bool {
        self.wards[index].candidates.iter().any(|candidate| {
            if self.mounts.would_mount(&candidate.base) {
                return true;
            }
            let Some(real) = &candidate.real_base else { return true };
            let (Some(above), Some(name)) = (candidate.base.parent(), candidate.base.file_name()) else { return false };
            let now = match sweep.above.get(above) {
                Some(now) => now,
                None => {
                    let now = self.resolve(above).ok();
                    sweep.above.entry(above.to_owned()).or_insert(now)
                }
            };
            now.as_deref().is_none_or(|now| real.parent() != Some(now) || real.file_name() != Some(name))
                && !self.still_leads(&candidate.base, real)
        })
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf, PathError> {
        self.mounts.resolve(&self.root, path, self.post.reach == Reach::Remote)
    }

    fn still_leads(&self, base: &Path, real: &Path) -> bool {
        self.resolve(base).is_ok_and(|now| now == real)
    }
}
