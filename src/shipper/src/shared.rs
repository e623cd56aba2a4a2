//! What the follower tells the sinks, and what they tell it: how far the ledger is on disk, where to ship, when to end.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{cursor::Cursor, settings::Settings};

/// The sinks, one thread each.
pub(crate) const SINKS: [&str; 2] = ["syslog", "api"];

/// The shipper is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Not a moment longer than this.
    pub(crate) until: Instant,
    /// The instance is going down: the ledger's last word will be `daemon.stopped`, and it may still have to come.
    pub(crate) instance: bool,
}

/// The world as the follower sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// How far the ledger is on disk for good; unknown until the daemon has said so since the boot.
    pub(crate) mark: Option<Cursor>,
    /// Where to ship.
    pub(crate) settings: Arc<Settings>,
    /// Whether to stop.
    pub(crate) ending: Option<Ending>,
    /// Grows with each change.
    pub(crate) version: u64,
}

impl World {
    /// Whether a wait that began in `other` is still worth waiting: neither the end, nor another place to ship to, nor
    /// another ledger has come meanwhile.
    pub(crate) fn is_still(&self, other: &Self) -> bool {
        let ledger = |world: &Self| world.mark.as_ref().map(|mark| mark.ledger.clone());
        self.ending == other.ending && self.settings == other.settings && ledger(self) == ledger(other)
    }
}

/// One for all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    beats: Mutex<[Instant; SINKS.len()]>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let beats = Mutex::new([Instant::now(); SINKS.len()]);
        Self { world: Mutex::default(), changed: Condvar::new(), beats }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A panic elsewhere leaves plain values behind, each whole.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world now.
    pub(crate) fn look(&self) -> World {
        self.lock().clone()
    }

    /// Changes it, and wakes whoever waits if that changed anything.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.lock();
        let before = world.clone();
        change(&mut world);
        if world.mark != before.mark || world.settings != before.settings || world.ending != before.ending {
            world.version += 1;
            self.changed.notify_all();
        }
    }

    /// Waits until the world is another than `seen`, or this long.
    pub(crate) fn wait(&self, seen: u64, most: Duration) -> World {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |world| world.version == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Waits this long whatever records come meanwhile, as long as [`World::is_still`].
    pub(crate) fn pause(&self, seen: &World, most: Duration) -> World {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |world| world.is_still(seen));
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// A sink says that it is alive.
    pub(crate) fn beat(&self, sink: usize) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)[sink] = Instant::now();
    }

    /// Whether every sink was alive within this time.
    pub(crate) fn alive(&self, within: Duration) -> bool {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().all(|beat| beat.elapsed() <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_wakes_nobody() {
        let shared = Shared::new();
        shared.tell(|_| {});
        assert_eq!(shared.look().version, 0);
        let start = Instant::now();
        shared.wait(0, Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        shared.tell(|world| world.ending = Some(Ending { until: Instant::now(), instance: true }));
        assert_eq!(shared.wait(0, Duration::from_secs(60)).version, 1);
    }

    #[test]
    fn a_pause_lasts_while_records_come_and_ends_when_the_shipper_is_to_stop() {
        let shared = Arc::new(Shared::new());
        let start = Cursor::start("000102030405060708090a0b0c0d0e0f".parse().unwrap());
        shared.tell(|world| world.mark = Some(start.clone()));
        let before = shared.look();
        shared.tell(|world| world.mark = Some(Cursor { seq: 1, ..start }));
        let start = Instant::now();
        shared.pause(&before, Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        let other = shared.clone();
        let teller = std::thread::spawn(move || {
            other.tell(|world| world.ending = Some(Ending { until: Instant::now(), instance: false }));
        });
        shared.pause(&before, Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
        teller.join().unwrap();
    }
}
