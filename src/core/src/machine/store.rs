//! The key store: exactly the keys of active grants in enforce, and nothing in observe.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    time::Duration,
};

use record::{Account, GrantId, Person};

use super::{Core, Effect, Severity, StoreSeen, unstored::Unstored};
use crate::{
    config::{AgentForwarding, Demand},
    keys::{person::PersonKey, store::ExpiryStyle},
    policy::{
        self,
        grant::Grant,
        store::{MAX_STORE_FILE, Rules, Wanted},
        time::Now,
    },
};

/// Where the key store is. Its name stands for all of it where it cannot be looked at.
pub const KEY_STORE: &str = "/run/lockdownd/keys";
/// How many people one problem of the key store names.
const MAX_NAMED: usize = 5;
/// How many grants that end at once have their keys taken out of the store one account after the other.
const MAX_TAKEN_OUT: usize = 16;

/// What is known of the key store.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// What it was left holding; `None` while that is not known.
    stored: Option<BTreeMap<Account, Vec<u8>>>,
    unstored: Unstored,
    /// Grants with keys that have no room in it.
    left_out: BTreeSet<GrantId>,
}

impl Store {
    /// When what failed is tried again, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.unstored.due()
    }
}

impl Core {
    /// What the store was left holding; nothing while that is not known.
    #[must_use]
    pub fn stored(&self) -> Option<&BTreeMap<Account, Vec<u8>>> {
        self.store.stored.as_ref()
    }

    /// Has the key store put right.
    pub fn set_store_right(&mut self, now: Now) {
        // A start in enforce would take everybody's keys out, and put them back a moment later.
        if self.mode.is_unread {
            return;
        }
        let wanted = if self.enforces() { self.wanted_store(now) } else { Wanted::default() };
        self.say_what_is_left_out(wanted.left_out);
        let wanted = wanted.files;
        if !self.store.unstored.may_try(OsStr::new(KEY_STORE), None, now) {
            return;
        }
        let paused = self.store.unstored.paused(|name| in_store(&wanted, name).map(Vec::as_slice), now);
        let set = Effect::SetStore { wanted, paused };
        // One look at it is enough for an event: where the first was to come.
        match self.effects.iter_mut().find(|effect| matches!(effect, Effect::SetStore { .. })) {
            Some(earlier) => *earlier = set,
            None => self.push(set),
        }
    }

    /// Has the keys of grants that have ended taken out of the store, before anything else is looked at: reading the whole
    /// store takes the longer the more there is in it. What cannot be done here [`Core::set_store_right`] does.
    pub(super) fn take_out_of_store(&mut self, ended: &[GrantId], now: Now) {
        // For many of them at once, one look at everything is the shorter way.
        if !self.enforces() || self.store.stored.is_none() || ended.len() > MAX_TAKEN_OUT {
            return;
        }
        let grants = ended.iter().filter_map(|id| self.grants.get(id));
        let accounts: BTreeSet<Account> = grants.map(|grant| grant.account.clone()).collect();
        for account in accounts {
            let open = self.grants.open_ones().filter(|grant| grant.account == account);
            let bytes = self.wanted_of(open, now).files.remove(&account);
            self.push(Effect::PutKeys { account, bytes });
        }
    }

    /// One file of the store was put.
    pub(super) fn keys_put(&mut self, account: Account, bytes: Option<Vec<u8>>) {
        let Some(stored) = &mut self.store.stored else { return };
        match bytes {
            Some(bytes) => drop(stored.insert(account, bytes)),
            None => drop(stored.remove(&account)),
        }
    }

    /// The store was looked at, and put right as far as that was possible.
    pub(super) fn store_seen(&mut self, seen: StoreSeen, now: Now) {
        let StoreSeen { wanted, unseen, names, right, failed, foreign } = seen;
        let whole = OsStr::new(KEY_STORE);
        if let Some(why) = unseen {
            self.store.unstored.failed(whole, None, why, persons_in(&wanted));
            let said = self.store.unstored.pass_is_over(|_| true, true, now);
            said.into_iter().for_each(|(severity, what)| self.say(severity, what));
            return;
        }
        let unstored = &mut self.store.unstored;
        unstored.is_right(whole);
        right.iter().for_each(|name| unstored.is_right(name));
        let has_failed = !failed.is_empty();
        for (name, (why, missing)) in failed {
            let wanted = in_store(&wanted, &name).map(Vec::as_slice);
            unstored.failed(&name, wanted, why, missing);
        }
        let matters = |name: &OsStr| names.contains(name) || in_store(&wanted, name).is_some();
        let said = unstored.pass_is_over(matters, has_failed, now);
        let is_right = unstored.due().is_none();
        self.store.stored = is_right.then_some(wanted);
        said.into_iter().for_each(|(severity, what)| self.say(severity, what));
        foreign.into_iter().for_each(|draft| self.recorder.note_often(draft, 1, now));
        self.commit(now);
    }

    /// Says once which grants have keys that do not fit into their account's file.
    fn say_what_is_left_out(&mut self, left_out: BTreeSet<GrantId>) {
        if let Some(one) = left_out.iter().find(|grant| !self.store.left_out.contains(*grant)) {
            let count = left_out.len();
            self.say(
                Severity::Err,
                format!(
                    "keys of {count} grants, {one} among them, do not fit into their account's file in the key store"
                ),
            );
        }
        self.store.left_out = left_out;
    }

    /// Why a person's key is not in place on an account where a grant says that it is.
    pub(super) fn not_in_place(&self, grant: &Grant) -> Option<String> {
        let Store { unstored, left_out, .. } = &self.store;
        if left_out.contains(&grant.id) {
            return Some(format!("the file of {} in the key store has no room for more keys", grant.account));
        }
        let of_account = unstored.of(OsStr::new(grant.account.as_str()));
        let failing = match unstored.of(OsStr::new(KEY_STORE)) {
            Some(whole) => whole,
            None => of_account.filter(|failing| failing.missing.contains(grant.person.as_str()))?,
        };
        Some(format!("the key store cannot be written: {}", failing.why))
    }

    /// What of the key store is not as it must be, a sentence each.
    #[must_use]
    pub fn store_problems(&self) -> Vec<String> {
        let Store { unstored, left_out, .. } = &self.store;
        let mut problems = Vec::new();
        for (name, failing) in unstored.failing() {
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
        if !left_out.is_empty() {
            problems.push(format!(
                "{} grant(s) have keys for which their account's file in the key store has no room ({MAX_STORE_FILE} bytes)",
                left_out.len()
            ));
        }
        problems
    }

    /// Whether the file of the grant's account has room for its keys too, beside those of all grants that are open.
    pub(super) fn has_store_room(&self, grant: &Grant) -> bool {
        let same = self.grants.open_ones().filter(|open| open.account == grant.account && open.id != grant.id);
        let bytes: usize = same.chain([grant]).map(|g| policy::store::most_bytes(g, self.keys_of(g))).sum();
        bytes <= MAX_STORE_FILE
    }

    /// The keys that a grant is for: those that were approved with it, or its person's by the configuration.
    pub(super) fn keys_of<'a>(&'a self, grant: &'a Grant) -> &'a [PersonKey] {
        match grant.origin.document() {
            Some(from) => &from.keys,
            None => self.config.people.get(&grant.person).map_or(&[], |entry| entry.keys.as_slice()),
        }
    }

    /// What the store has to hold now, in enforce.
    #[must_use]
    pub fn wanted_store(&self, now: Now) -> Wanted {
        self.wanted_of(self.grants.open_ones(), now)
    }

    fn wanted_of<'a>(&'a self, grants: impl Iterator<Item = &'a Grant>, now: Now) -> Wanted {
        let keys_of = |grant: &'a Grant| self.keys_of(grant);
        let holders = self.holders();
        let rules = |account: &Account| Rules {
            may_forward_agents: match self.config.accounts.agent_forwarding {
                AgentForwarding::Own => holders.get(&self.by_uid(account)).is_none_or(|people| people.len() < 2),
                AgentForwarding::Yes => true,
                AgentForwarding::No => false,
            },
            demand: self.required_of(account),
        };
        let style = self.around.style.as_ref().unwrap_or(&ExpiryStyle::Utc);
        policy::store::wanted(grants, keys_of, rules, style, now)
    }
}

/// An account, by whatever name: to the kernel two that have one user id are one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ByUid<'a> {
    Uid(u32),
    /// One that there is not.
    Name(&'a Account),
}

impl Core {
    fn by_uid<'a>(&self, account: &'a Account) -> ByUid<'a> {
        self.uid_of(account).map_or(ByUid::Name(account), ByUid::Uid)
    }

    /// Who may be given each account, by configuration or roster, or holds a grant on it, in lower case; of a roster's people two of
    /// each at most.
    fn holders(&self) -> BTreeMap<ByUid<'_>, BTreeSet<String>> {
        let mut holders: BTreeMap<ByUid<'_>, BTreeSet<String>> = BTreeMap::new();
        for (person, entry) in &self.config.people {
            for account in &entry.accounts {
                holders.entry(self.by_uid(account)).or_default().insert(person.as_str().to_ascii_lowercase());
            }
        }
        for (account, people) in self.documents.holders() {
            holders.entry(self.by_uid(account)).or_default().extend(people.iter().cloned());
        }
        for grant in self.grants.open_ones() {
            holders.entry(self.by_uid(&grant.account)).or_default().insert(grant.person.as_str().to_ascii_lowercase());
        }
        holders
    }

    /// What a login to this account needs beside a grant: all that is required of it by any of its names.
    #[must_use]
    pub fn required_of(&self, account: &Account) -> Demand {
        let require = &self.config.accounts.require;
        let itself = self.by_uid(account);
        let others = require.of.keys().filter(|other| *other != account && self.by_uid(other) == itself);
        others.fold(require.on(account), |demand, other| demand.and(require.on(other)))
    }

    /// That none of a person's keys is of a type that the account requires, in words.
    #[must_use]
    pub fn unfit(&self, person: &Person, account: &Account) -> Option<String> {
        self.config.unfit(person, account, self.required_of(account))
    }
}

/// What the store has to hold under this name.
#[must_use]
pub fn in_store<'a>(store: &'a BTreeMap<Account, Vec<u8>>, name: &OsStr) -> Option<&'a Vec<u8>> {
    let account: Account = name.to_str()?.parse().ok()?;
    store.get(&account)
}

/// Whose keys of `wanted` are not in what stands. Each line ends in PERSON/GRANT.
#[must_use]
pub fn missing_persons(wanted: &[u8], stands: &[u8]) -> BTreeSet<String> {
    let stands: BTreeSet<&[u8]> = stands.split(|byte| *byte == b'\n').collect();
    let missing = wanted.split(|byte| *byte == b'\n').filter(|line| !stands.contains(line));
    let comments = missing.filter_map(|line| line.rsplit(|byte| *byte == b' ').next());
    let persons = comments.filter_map(|comment| str::from_utf8(comment).ok()?.split_once('/'));
    persons.map(|(person, _)| person.to_owned()).collect()
}

fn persons_in(wanted: &BTreeMap<Account, Vec<u8>>) -> BTreeSet<String> {
    wanted.values().flat_map(|bytes| missing_persons(bytes, b"")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::Config,
        keys::test_keys::{ED25519, SK_ED25519},
        machine::{Around, Moment},
        policy::{
            observation::Known,
            test_grants::{grant, now},
        },
        sessions::Sessions,
    };

    #[test]
    fn what_is_said_of_an_account_holds_by_every_name_of_its_user_id() {
        let text = format!(
            "mode = \"enforce\"\n[accounts]\nexempt = [\"breakglass\"]\n[accounts.require]\nubuntu = \"hardware_pin\"\n[[person]]\nname = \
             \"frank\"\nkeys = [\"{ED25519}\", \"{SK_ED25519}\"]\naccounts = [\"web\", \"db\"]\n[[person]]\nname = \"grace\"\nkeys = \
             []\naccounts = [\"ubuntu\"]\n"
        );
        let config = Config::parse(&[("config.toml", &text)]).expect("good");
        let account = |name: &str| name.parse::<Account>().expect("a name");
        let uids = [("ubuntu", 1_000), ("web", 1_000), ("db", 1_001)].map(|(name, uid)| (account(name), uid));
        let around = Around { known: Arc::new(Known { uids: uids.into(), settled: true }), ..Around::default() };
        let moment = Moment { now: now(), random: 1 };
        let core = Core::new(config, around, "boot".to_owned(), Sessions::default(), moment);
        assert!(core.required_of(&account("web")).pin && !core.required_of(&account("db")).is_more_than_a_key());
        let (web, db) = (grant(1, "frank", "web"), grant(2, "frank", "db"));
        let files = core.wanted_of([&web, &db].into_iter(), now()).files;
        let lines = |name: &str| String::from_utf8(files[&account(name)].clone()).expect("text");
        let web = lines("web");
        assert!(
            web.contains("verify-required") && web.contains("no-agent-forwarding") && web.lines().count() == 1,
            "{web}"
        );
        let db = lines("db");
        assert!(!db.contains("no-agent-forwarding") && db.lines().count() == 2, "{db}");
    }
}
