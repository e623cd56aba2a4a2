//! The key store: exactly the keys of active grants, whoever touched it.
//!
//! What stands there and was not put there by the daemon is on record as a removed key: root alone can have written it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

use record::{Account, ArtifactType, Draft, Fingerprint, Person};
use serde_json::Value;

use super::Engine;
use crate::{
    host::{
        clock::Now,
        key_store::{KEY_STORE, KeyStore, Stored},
    },
    keys::file::{Survey, survey},
    policy,
};

impl Engine {
    /// Puts the key store right: exactly the keys of active grants in enforce, and nothing in observe.
    pub(super) fn set_store_right(&mut self, now: Now) {
        let wanted = if self.enforces() { self.wanted_store(now) } else { BTreeMap::new() };
        if !self.store.still_stands() {
            match KeyStore::open() {
                Ok(store) => self.store = store,
                Err(error) => return tracing::error!(%error, "the key store cannot be made anew: nobody gets in"),
            }
        }
        let observed = match self.store.observe() {
            Ok(observed) => observed,
            Err(error) => return tracing::error!(%error, "the key store cannot be read"),
        };
        let is_right = self.apply_to_store(&wanted, &observed);
        for (name, stored) in &observed {
            self.note_if_foreign(name, stored, now);
        }
        self.stored = is_right.then_some(wanted);
    }

    /// Makes the store hold `wanted`; whether it does.
    fn apply_to_store(&self, wanted: &BTreeMap<Account, Vec<u8>>, observed: &BTreeMap<OsString, Stored>) -> bool {
        let mut is_right = true;
        for name in observed.keys().filter(|name| in_store(wanted, name).is_none()) {
            if let Err(error) = self.store.remove(name) {
                tracing::error!(%error, "a file in the key store cannot be removed");
                is_right = false;
            }
        }
        for (account, bytes) in wanted {
            let stands = observed.get(OsStr::new(account.as_str()));
            if stands.is_some_and(|stored| stored.sound && stored.bytes == *bytes) {
                continue;
            }
            if let Err(error) = self.store.put(account, bytes) {
                tracing::error!(%error, "a file in the key store cannot be written");
                is_right = false;
            }
        }
        is_right
    }

    /// Notes what stood in the store and was not what the daemon had put there. After a start it is not known what that
    /// was: then a key that is nobody's tells.
    fn note_if_foreign(&mut self, name: &OsStr, stood: &Stored, now: Now) {
        let found = survey(&stood.bytes);
        let foreign = match &self.stored {
            Some(stored) => !stood.sound || in_store(stored, name) != Some(&stood.bytes),
            None => found.fingerprints.iter().any(|fingerprint| !self.people.contains_key(fingerprint)),
        };
        if foreign {
            let (why, ours) = match &self.stored {
                Some(stored) => ("it was not as the daemon had left it", in_store(stored, name)),
                None => ("it held a key that is nobody's by the configuration in force", None),
            };
            let draft = self.by_store_writers(foreign_key(name, why, found, ours), name);
            self.recorder.note_often(draft, 1, now);
        }
    }

    fn wanted_store(&self, now: Now) -> BTreeMap<Account, Vec<u8>> {
        let keys_of = |person: &Person| self.config.people.get(person).map_or(&[][..], |entry| entry.keys.as_slice());
        policy::store::wanted(self.grants.open_ones(), keys_of, &self.world.expiry_style(), now)
    }
}

/// What the store has to hold under this name.
fn in_store<'a>(store: &'a BTreeMap<Account, Vec<u8>>, name: &OsStr) -> Option<&'a Vec<u8>> {
    let account: Account = name.to_str()?.parse().ok()?;
    store.get(&account)
}

/// The statement on what stood at `name` in place of `ours`; the keys that stand there by right are not named.
fn foreign_key(name: &OsStr, why: &str, found: Survey, ours: Option<&Vec<u8>>) -> Draft {
    let path = record::outside(Path::new(KEY_STORE).join(name).as_os_str().as_encoded_bytes());
    let by_right: BTreeSet<Fingerprint> =
        ours.map(|bytes| survey(bytes).fingerprints.into_iter().collect()).unwrap_or_default();
    let keys: Vec<Value> = found
        .fingerprints
        .iter()
        .filter(|fingerprint| !by_right.contains(fingerprint))
        .map(|fingerprint| fingerprint.as_str().into())
        .collect();
    let sentence = format!("{path} was put right: {why}");
    let mut draft = Draft::new(ArtifactType::KeyRemoved, sentence)
        .with("path", path)
        .with("fingerprints", keys)
        .with("more_fingerprints", found.more)
        .with("unreadable_lines", found.unreadable)
        .with("kept", "none");
    draft.account = name.to_str().and_then(|name| name.parse().ok());
    draft
}
