//! The key store: exactly the keys of active grants, whoever touched it.
//!
//! What stands there and was not put there by the daemon is on record as a removed key: root alone can have written it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::Path,
};

use lockdown_core::policy::time::Now;
use lockdown_core::{
    keys::{
        file::{Survey, survey},
        person::PersonKey,
    },
    policy::{
        self,
        grant::Grant,
        store::{MAX_STORE_FILE, Wanted},
    },
};
use lockdown_host::{
    key_store::{KEY_STORE, KeyStore, Stored},
    paths::PathError,
};
use record::{Account, ArtifactType, Draft, Fingerprint, GrantId, Person};
use serde_json::Value;

use super::Engine;

/// How many people one problem of the key store names.
const MAX_NAMED: usize = 5;

/// How many grants that end at once have their keys taken out of the store one account after the other.
const MAX_TAKEN_OUT: usize = 16;

impl Engine {
    /// Puts the key store right: exactly the keys of active grants in enforce, and nothing in observe.
    pub(super) fn set_store_right(&mut self, now: Now) {
        let wanted = if self.enforces() { self.wanted_store(now) } else { Wanted::default() };
        self.say_what_is_left_out(&wanted.left_out);
        let wanted = wanted.files;
        let store = OsStr::new(KEY_STORE);
        match self.look_into_store(now) {
            Ok(Some(observed)) => {
                self.unstored.is_right(store);
                let is_right = self.apply_to_store(&wanted, &observed, now);
                self.stored = is_right.then_some(wanted);
            }
            Ok(None) => {}
            Err(error) => {
                self.unstored.failed(store, None, cause(&error), persons_in(&wanted));
                self.unstored.pass_is_over(|_| true, true, now);
            }
        }
    }

    /// Takes the keys of grants that have ended out of the store, before anything else is looked at: reading the whole store
    /// takes the longer the more there is in it. What cannot be done here [`Engine::set_store_right`] does.
    pub(super) fn take_out_of_store(&mut self, ended: &[GrantId], now: Now) {
        // For many of them at once, one look at everything is the shorter way.
        if !self.enforces() || self.stored.is_none() || ended.len() > MAX_TAKEN_OUT {
            return;
        }
        let grants = ended.iter().filter_map(|id| self.grants.get(id));
        let accounts: BTreeSet<Account> = grants.map(|grant| grant.account.clone()).collect();
        for account in accounts {
            let open = self.grants.open_ones().filter(|grant| grant.account == account);
            let keys_of = |person: &Person| self.keys_of(person);
            let may_forward = |account: &Account| self.config.may_forward_agents(account);
            let style = self.world.expiry_style();
            let bytes = policy::store::wanted(open, keys_of, may_forward, &style, now).files.remove(&account);
            let name = OsStr::new(account.as_str());
            let done = match &bytes {
                Some(bytes) => self.store.put(name, bytes),
                None => self.store.remove(name),
            };
            if let (Ok(()), Some(stored)) = (done, &mut self.stored) {
                match bytes {
                    Some(bytes) => drop(stored.insert(account, bytes)),
                    None => drop(stored.remove(&account)),
                }
            }
        }
    }

    /// What stands in the store, which is made anew if it is gone; `None` while a failure to do so is paused.
    fn look_into_store(&mut self, now: Now) -> Result<Option<BTreeMap<OsString, Stored>>, PathError> {
        if !self.unstored.may_try(OsStr::new(KEY_STORE), None, now) {
            return Ok(None);
        }
        if !self.store.still_stands() {
            self.store = KeyStore::open()?;
        }
        self.store.observe().map(Some)
    }

    /// Makes the store hold `wanted`; whether it does.
    fn apply_to_store(
        &mut self,
        wanted: &BTreeMap<Account, Vec<u8>>,
        observed: &BTreeMap<OsString, Stored>,
        now: Now,
    ) -> bool {
        let (mut failed, bytes_of) = (false, |name| in_store(wanted, name).map(Vec::as_slice));
        let looked_at: Vec<_> =
            observed.iter().filter(|(name, _)| self.unstored.may_try(name, bytes_of(name), now)).collect();
        for (name, _) in looked_at.iter().filter(|(name, _)| bytes_of(name).is_none()) {
            if let Err(error) = self.store.remove(name) {
                failed = true;
                self.unstored.failed(name, None, cause(&error), BTreeSet::new());
            }
        }
        for (account, bytes) in wanted {
            let name = OsStr::new(account.as_str());
            let stands = observed.get(name);
            if stands.is_some_and(|stored| stored.sound && stored.bytes == *bytes) {
                self.unstored.is_right(name);
            } else if self.unstored.may_try(name, Some(bytes), now) {
                failed |= !self.put_into_store(name, bytes, stands);
            }
        }
        for (name, stored) in looked_at {
            self.note_if_foreign(name, stored, now);
        }
        let matters = |name: &OsStr| observed.contains_key(name) || in_store(wanted, name).is_some();
        self.unstored.pass_is_over(matters, failed, now);
        self.unstored.due().is_none()
    }

    /// Puts one file; whether that was done.
    fn put_into_store(&mut self, name: &OsStr, bytes: &[u8], stands: Option<&Stored>) -> bool {
        let mut put = self.store.put(name, bytes);
        // Better nobody's keys on this account than one that has no business there; and it makes room.
        if put.is_err() && stands.is_some_and(|stored| has_more(stored, bytes)) {
            put = self.store.remove(name).and_then(|()| self.store.put(name, bytes));
        }
        let holds = self.store.observe_one(name);
        let why = match put {
            Ok(()) if holds.sound && holds.bytes == bytes => {
                self.unstored.is_right(name);
                return true;
            }
            Ok(()) => "it does not hold what was just written".to_owned(),
            Err(error) => cause(&error),
        };
        self.unstored.failed(name, Some(bytes), why, persons(bytes, &holds.bytes));
        false
    }

    /// Says once which grants have keys that do not fit into their account's file.
    fn say_what_is_left_out(&mut self, left_out: &BTreeSet<GrantId>) {
        if self.left_out == *left_out {
            return;
        }
        if let Some(one) = left_out.iter().find(|grant| !self.left_out.contains(*grant)) {
            tracing::error!(grant = %one, "keys of {} grants do not fit into their account's file in the key store", left_out.len());
        }
        self.left_out.clone_from(left_out);
    }

    /// Why a person's key is not in place on an account where a grant says that it is.
    pub(crate) fn not_in_place(&self, grant: &Grant) -> Option<String> {
        if self.left_out.contains(&grant.id) {
            return Some(format!("the file of {} in the key store has no room for more keys", grant.account));
        }
        let of_account = self.unstored.of(OsStr::new(grant.account.as_str()));
        let failing = match self.unstored.of(OsStr::new(KEY_STORE)) {
            Some(whole) => whole,
            None => of_account.filter(|failing| failing.missing.contains(grant.person.as_str()))?,
        };
        Some(format!("the key store cannot be written: {}", failing.why))
    }

    /// What of the key store is not as it must be, a sentence each.
    pub(crate) fn store_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, failing) in self.unstored.failing() {
            let file = record::escape(name.as_encoded_bytes());
            let persons: Vec<&str> = failing.missing.iter().take(MAX_NAMED).map(String::as_str).collect();
            let more = match failing.missing.len().saturating_sub(persons.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let effect = match persons.is_empty() {
                true => format!("{file} is not as it must be"),
                false => format!("the keys of {}{more} for {file} are not in place", persons.join(", ")),
            };
            problems.push(format!("the key store cannot be written: {}: {effect}", failing.why));
        }
        if !self.left_out.is_empty() {
            problems.push(format!(
                "{} grant(s) have keys for which their account's file in the key store has no room ({MAX_STORE_FILE} bytes)",
                self.left_out.len()
            ));
        }
        problems
    }

    /// Whether the file of the grant's account has room for its keys too, beside those of all grants that are open.
    pub(super) fn has_store_room(&self, grant: &Grant) -> bool {
        let same = self.grants.open_ones().filter(|open| open.account == grant.account && open.id != grant.id);
        let bytes: usize = same.chain([grant]).map(|g| policy::store::most_bytes(g, self.keys_of(&g.person))).sum();
        bytes <= MAX_STORE_FILE
    }

    fn keys_of(&self, person: &Person) -> &[PersonKey] {
        self.config.people.get(person).map_or(&[][..], |entry| entry.keys.as_slice())
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

    fn wanted_store(&self, now: Now) -> Wanted {
        let keys_of = |person: &Person| self.keys_of(person);
        let may_forward = |account: &Account| self.config.may_forward_agents(account);
        policy::store::wanted(self.grants.open_ones(), keys_of, may_forward, &self.world.expiry_style(), now)
    }
}

/// What the store has to hold under this name.
fn in_store<'a>(store: &'a BTreeMap<Account, Vec<u8>>, name: &OsStr) -> Option<&'a Vec<u8>> {
    let account: Account = name.to_str()?.parse().ok()?;
    store.get(&account)
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

/// Whose keys of `wanted` are not in what stands. Each line ends in PERSON/GRANT.
fn persons(wanted: &[u8], stands: &[u8]) -> BTreeSet<String> {
    let stands: BTreeSet<&[u8]> = stands.split(|byte| *byte == b'\n').collect();
    let missing = wanted.split(|byte| *byte == b'\n').filter(|line| !stands.contains(line));
    let comments = missing.filter_map(|line| line.rsplit(|byte| *byte == b' ').next());
    let persons = comments.filter_map(|comment| str::from_utf8(comment).ok()?.split_once('/'));
    persons.map(|(person, _)| person.to_owned()).collect()
}

fn persons_in(wanted: &BTreeMap<Account, Vec<u8>>) -> BTreeSet<String> {
    wanted.values().flat_map(|bytes| persons(bytes, b"")).collect()
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
