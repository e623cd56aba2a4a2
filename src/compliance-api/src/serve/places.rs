//! How much of something each sender may have at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// The places of all senders, by what tells them apart. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Places<K: Hash + Eq + Clone> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    each: usize,
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// So many for each sender.
    pub(crate) fn new(each: usize) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// One for this sender; none when it has as many as it may.
    pub(crate) fn take(&self, sender: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(sender.clone()).or_insert(0);
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { sender, of: self.clone() })
    }
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Hash + Eq + Clone> {
    sender: K,
    of: Places<K>,
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn each_sender_has_its_places_and_who_is_gone_is_forgotten() {
        let places = Places::new(2);
        let of = |text: &str| Network::of(text.parse().unwrap());
        let (one, two) = (places.take(of("192.0.2.1")), places.take(of("192.0.2.1")));
        assert!(one.is_some() && two.is_some() && places.take(of("192.0.2.1")).is_none());
        assert!(places.take(of("192.0.2.2")).is_some(), "another's are others");
        drop(one);
        assert!(places.take(of("192.0.2.1")).is_some());
        drop(two);
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
