//! A sweep: one look at everything as if nothing had been watched, a few accounts between two readings of the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Need, Worker, as_unit};
use crate::enforce::homes::{Finding, SweepReport};

/// A sweep that runs.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Everybody who asked before it began.
    ids: BTreeSet<u64>,
    next: usize,
    began: Instant,
    pub(super) report: SweepReport,
    /// Where the directory above each base really was, found out once for all that share it.
    above: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl Sweep {
    fn new(ids: BTreeSet<u64>) -> Self {
        Self { ids, next: 0, began: Instant::now(), report: SweepReport::default(), above: BTreeMap::new() }
    }
}

impl Worker {
    /// What was found so far counts for nothing: the territory is another.
    pub(super) fn restart_sweep(&mut self) {
        if let Some(sweep) = self.sweeping.take() {
            self.sweeping = Some(Sweep { began: sweep.began, ..Sweep::new(sweep.ids) });
        }
    }

    /// Sweeps the next `count` accounts, if a sweep runs or is asked for.
    pub(super) fn sweep_some(&mut self, count: usize) {
        if self.sweeping.is_none() && !self.sweeps_asked.is_empty() {
            let ids = std::mem::take(&mut self.sweeps_asked);
            self.sweeping = Some(Sweep::new(ids));
            self.sweeps += 1;
            self.mounts_told.changed(Instant::now());
            self.look_at_mounts();
        }
        let Some(mut sweep) = self.sweeping.take() else { return };
        let end = self.wards.len().min(sweep.next + count);
        for index in sweep.next..end {
            let changed = self.ways_have_changed(index, &mut sweep).then_some(Need::Ways);
            // What it waits for is done with this look.
            let need = self.wards[index].need.take().max(changed).unwrap_or(Need::Files);
            sweep.report.accounts += u64::from(self.wards[index].whose.is_some());
            // `pass` counts into the running sweep.
            self.sweeping = Some(sweep);
            self.pass(as_unit(index), need);
            let Some(running) = self.sweeping.take() else { return };
            sweep = running;
        }
        sweep.next = end;
        if end < self.wards.len() {
            self.sweeping = Some(sweep);
            return;
        }
        for id in sweep.ids {
            self.tell(Finding::Swept(SweepReport { id, took: sweep.began.elapsed(), ..sweep.report }));
        }
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
                    let now = self.mounts.resolve(&self.root, above).ok();
                    sweep.above.entry(above.to_owned()).or_insert(now)
                }
            };
            now.as_deref().is_none_or(|now| real.parent() != Some(now) || real.file_name() != Some(name))
                && !self.still_leads(&candidate.base, real)
        })
    }

    fn still_leads(&self, base: &Path, real: &Path) -> bool {
        self.mounts.resolve(&self.root, base).is_ok_and(|now| now == real)
    }
}
