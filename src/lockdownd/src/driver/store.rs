//! Putting the key store right, as the core wants it.
//!
//! What stands there and was not put there by the daemon is on record as a removed key: root alone can have written it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

use lockdown_core::{
    keys::file::{Survey, survey},
    machine::{Event, StoreSeen, in_store, missing_persons},
};
use lockdown_host::{
    key_store::{KEY_STORE, KeyStore, Stored},
    paths::PathError,
};
use record::{Account, ArtifactType, Draft, Fingerprint};
use serde_json::Value;

use super::Driver;

impl Driver {
    /// Puts one file of the store; nothing where that fails: all of it is looked at next.
    pub(super) fn put_keys(&self, account: Account, bytes: Option<Vec<u8>>) -> Option<Event> {
        let name = OsStr::new(account.as_str());
        let done = match &bytes {
            Some(bytes) => self.store.put(name, bytes),
            None => self.store.remove(name),
        };
        done.is_ok().then_some(Event::KeysPut { account, bytes })
    }

    /// Makes the store hold what is wanted. What is paused is not tried.
    pub(super) fn set_store(&mut self, wanted: BTreeMap<Account, Vec<u8>>, paused: &BTreeSet<OsString>) -> Event {
        let observed = match self.look_into_store() {
            Ok(observed) => observed,
            Err(error) => {
                let unseen = Some(cause(&error));
                return Event::StoreSeen(Box::new(StoreSeen { wanted, unseen, ..StoreSeen::default() }));
            }
        };
        let mut seen = StoreSeen { names: observed.keys().cloned().collect(), ..StoreSeen::default() };
        let looked_at: Vec<_> = observed.iter().filter(|(name, _)| !paused.contains(*name)).collect();
        for (name, _) in looked_at.iter().filter(|(name, _)| in_store(&wanted, name).is_none()) {
            if let Err(error) = self.store.remove(name) {
                seen.failed.insert((*name).clone(), (cause(&error), BTreeSet::new()));
            }
        }
        for (account, bytes) in &wanted {
            let name = OsStr::new(account.as_str());
            let stands = observed.get(name);
            if stands.is_some_and(|stored| stored.sound && stored.bytes == *bytes) {
                seen.right.insert(name.to_owned());
            } else if !paused.contains(name) {
                match put(&self.store, name, bytes, stands) {
                    Ok(()) => drop(seen.right.insert(name.to_owned())),
                    Err(failed) => drop(seen.failed.insert(name.to_owned(), failed)),
                }
            }
        }
        seen.foreign = looked_at.into_iter().filter_map(|(name, stored)| self.foreign(name, stored)).collect();
        seen.wanted = wanted;
        Event::StoreSeen(Box::new(seen))
    }

    /// What stands in the store, which is made anew if it is gone.
    fn look_into_store(&mut self) -> Result<BTreeMap<OsString, Stored>, PathError> {
        if !self.store.still_stands() {
            self.store = KeyStore::open()?;
        }
        self.store.observe()
    }

    /// The statement on what stood in the store and was not what the daemon had put there. After a start it is not known what
    /// that was: then a key that is nobody's tells.
    fn foreign(&self, name: &OsStr, stood: &Stored) -> Option<Draft> {
        let found = survey(&stood.bytes);
        let (why, ours) = match self.core.stored() {
            Some(stored) if stood.sound && in_store(stored, name) == Some(&stood.bytes) => return None,
            Some(stored) => ("it was not as the daemon had left it", in_store(stored, name)),
            None if found.fingerprints.iter().all(|key| self.core.owner(key).is_some()) => return None,
            None => ("it held a key that is nobody's by the configuration in force", None),
        };
        Some(self.by_store_writers(foreign_key(name, why, found, ours), name))
    }
}

/// Puts one file; else why not, and whose keys are missing.
fn put(
    store: &KeyStore,
    name: &OsStr,
    bytes: &[u8],
    stands: Option<&Stored>,
) -> Result<(), (String, BTreeSet<String>)> {
    let mut put = store.put(name, bytes);
    // Better nobody's keys on this account than one that has no business there; and it makes room.
    if put.is_err() && stands.is_some_and(|stored| has_more(stored, bytes)) {
        put = store.remove(name).and_then(|()| store.put(name, bytes));
    }
    let holds = store.observe_one(name);
    let why = match put {
        Ok(()) if holds.sound && holds.bytes == bytes => return Ok(()),
        Ok(()) => "it does not hold what was just written".to_owned(),
        Err(error) => cause(&error),
    };
    Err((why, missing_persons(bytes, &holds.bytes)))
}

/// Why a call failed, without the path: whoever reads it is told the account.
fn cause(error: &PathError) -> String {
    match error {
        PathError::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Whether the file that stands holds a line that is not wanted.
fn has_more(stands: &Stored, wanted: &[u8]) -> bool {
    let wanted: BTreeSet<&[u8]> = wanted.split(|byte| *byte == b'\n').collect();
    !stands.sound || stands.bytes.split(|byte| *byte == b'\n').any(|line| !wanted.contains(line))
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
