//! Room in memory for one long answer: most are short, and eight long ones at once would be more than the unit may take.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

#[derive(Debug, Default)]
pub(super) struct Slot {
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// The room, for as long as this is kept.
#[derive(Debug)]
pub(super) struct Permit(Arc<Slot>);

impl Slot {
    /// The room, if it is free within this time.
    pub(super) fn take(self: &Arc<Self>, within: Duration) -> Option<Permit> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_timeout_while(taken, within, |taken| *taken);
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *taken {
            return None;
        }
        *taken = true;
        Some(Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_and_for_the_next_once_it_is_given_back() {
        let slot = Arc::new(Slot::default());
        let first = slot.take(Duration::ZERO).unwrap();
        assert!(slot.take(Duration::from_millis(20)).is_none());
        let waits = {
            let slot = slot.clone();
            std::thread::spawn(move || slot.take(Duration::from_secs(20)).is_some())
        };
        drop(first);
        assert!(waits.join().unwrap());
        assert!(slot.take(Duration::ZERO).is_some());
    }
}
