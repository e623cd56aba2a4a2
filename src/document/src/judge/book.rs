//! Who is who, by the roster in force and the host's own configuration: looked up by key and by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use record::{Fingerprint, Person, Stack};

use super::{Subject, closed::Target, outcome::LostKey};
use crate::{
    AccountName, Checked, Device, Envelope, Key, Kind, LocalPerson, Namespace, Place, Roster, Signer, Source, Who,
    roster::same_person, signers,
};

/// The roster in force, and whose each key is.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    pub(super) roster: Option<Arc<Roster>>,
    /// Keys of people, by the roster, that the configuration does not name for others.
    logins: BTreeMap<Fingerprint, usize>,
    approvers: BTreeMap<Fingerprint, usize>,
    feeders: BTreeMap<Fingerprint, usize>,
    /// Everybody by their name in lower case.
    names: BTreeMap<String, Named>,
    /// Whose each key is, in lower case: the configuration's people, and the roster's for keys that those do not have.
    owners: BTreeMap<Fingerprint, BTreeSet<String>>,
    lost: Vec<LostKey>,
}

/// Where a person is found.
#[derive(Debug, Clone, Default)]
struct Named {
    member: Option<usize>,
    approver: Option<usize>,
    local: Option<Person>,
}

fn lower(person: &Person) -> String {
    person.as_str().to_ascii_lowercase()
}

/// A person as this host knows them.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) keys: BTreeSet<&'a Key>,
    accounts: Accounts<'a>,
}

#[derive(Debug, Clone)]
enum Accounts<'a> {
    Local(&'a BTreeSet<AccountName>),
    Roster(&'a crate::Member),
}

impl Entry<'_> {
    pub(super) fn may_have(&self, account: &AccountName, stack: &Stack) -> bool {
        match self.accounts {
            Accounts::Local(accounts) => accounts.contains(account),
            Accounts::Roster(member) => member.may_have(account, stack),
        }
    }

    /// What they may be given on this stack, in words.
    pub(super) fn accounts(&self, stack: &Stack) -> String {
        const MOST: usize = 16;
        let names: BTreeSet<&str> = match self.accounts {
            Accounts::Local(accounts) => accounts.iter().map(AccountName::as_str).collect(),
            Accounts::Roster(member) => {
                let fitting = member.accounts.iter().filter(|(stacks, _)| stacks.fits(stack));
                fitting.flat_map(|(_, accounts)| accounts).map(AccountName::as_str).collect()
            }
        };
        match names.len() {
            0 => "they may be given no account there".to_owned(),
            _ => format!("they may be given {}", names.into_iter().take(MOST).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Book {
    /// The book of this roster at this place.
    pub(super) fn new(roster: Option<Arc<Roster>>, place: &Place) -> Self {
        let mut book = Self::default();
        for (person, local) in &place.people {
            book.names.entry(lower(person)).or_default().local = Some(person.clone());
            book.own(person, &local.keys);
        }
        if let Some(roster) = &roster {
            book.enter(roster, place);
        }
        book.roster = roster;
        book
    }

    fn own<'k>(&mut self, person: &Person, keys: impl IntoIterator<Item = &'k Key>) {
        for key in keys {
            self.owners.entry(key.fingerprint().clone()).or_default().insert(lower(person));
        }
    }

    /// Enters a roster. A key that somebody logs in with by the configuration is theirs, and signs nothing.
    fn enter(&mut self, roster: &Roster, place: &Place) {
        let local = place
            .people
            .iter()
            .flat_map(|(person, local)| local.keys.iter().map(move |key| (key.fingerprint(), person)));
        let local: BTreeMap<&Fingerprint, &Person> = local.collect();
        let mut lost = Vec::new();
        let mut lose = |key: &Key, by_roster: &str| {
            let owner = local.get(key.fingerprint());
            lost.extend(owner.map(|owner| LostKey {
                fingerprint: key.fingerprint().clone(),
                by_roster: by_roster.to_owned(),
                owner: (*owner).clone(),
            }));
            owner.is_some()
        };
        for (n, member) in roster.people.iter().enumerate() {
            self.names.entry(lower(&member.name)).or_default().member = Some(n);
            for key in &member.keys {
                let own = local.get(key.fingerprint()).is_some_and(|owner| same_person(owner, &member.name));
                if own || !lose(key, member.name.as_str()) {
                    self.own(&member.name, [key]);
                    self.logins.insert(key.fingerprint().clone(), n);
                }
            }
        }
        for (n, approver) in roster.approvers.iter().enumerate() {
            self.names.entry(lower(&approver.person)).or_default().approver = Some(n);
            for key in approver.keys.iter().filter(|key| !lose(key, approver.person.as_str())) {
                self.own(&approver.person, [key]);
                self.approvers.insert(key.fingerprint().clone(), n);
            }
        }
        for (n, feeder) in roster.feeders.iter().enumerate() {
            if !lose(&feeder.key, feeder.source.as_str()) {
                self.feeders.insert(feeder.key.fingerprint().clone(), n);
            }
        }
        self.lost = lost;
    }

    /// Keys that entries of the roster lose to the configuration.
    pub(super) fn lost(&self) -> &[LostKey] {
        &self.lost
    }

    /// Who logs in with this key by the roster.
    pub(super) fn person_of(&self, key: &Fingerprint) -> Option<&Person> {
        Some(&self.roster.as_ref()?.people.get(*self.logins.get(key)?)?.name)
    }

    /// A person of the roster, whatever the configuration says.
    pub(super) fn member(&self, person: &Person) -> Option<&crate::Member> {
        let at = self.names.get(&lower(person))?.member?;
        self.roster.as_ref()?.people.get(at)
    }

    /// The source of whom the roster alone has, by a name in lower case.
    pub(super) fn source_of(&self, name: &str) -> Option<&Source> {
        let named = self.names.get(name).filter(|named| named.local.is_none())?;
        Some(&self.roster.as_ref()?.people.get(named.member?)?.source)
    }

    /// Whether the configuration has a person of this name.
    pub(super) fn is_local(&self, person: &Person) -> bool {
        self.names.get(&lower(person)).is_some_and(|named| named.local.is_some())
    }

    fn local<'a>(&self, place: &'a Place, person: &Person) -> Option<&'a LocalPerson> {
        place.people.get(self.names.get(&lower(person))?.local.as_ref()?)
    }

    /// A person: by the host's configuration where it knows them, else by the roster.
    pub(super) fn entry<'a>(&'a self, place: &'a Place, person: &Person) -> Option<Entry<'a>> {
        if let Some(local) = self.local(place, person) {
            return Some(Entry { keys: local.keys.iter().collect(), accounts: Accounts::Local(&local.accounts) });
        }
        let member = self.member(person)?;
        let keys = member.keys.iter().filter(|key| self.logins.contains_key(key.fingerprint())).collect();
        Some(Entry { keys, accounts: Accounts::Roster(member) })
    }

    /// The fingerprints of every key that a person has by the roster or the configuration; not those that the roster's entry has
    /// lost.
    pub(super) fn all_keys(&self, place: &Place, person: &Person) -> BTreeSet<Fingerprint> {
        let local = self.local(place, person).into_iter().flat_map(|local| &local.keys);
        let own = self.member(person).into_iter().flat_map(|member| &member.keys);
        let approver = self.names.get(&lower(person)).and_then(|named| named.approver);
        let approver = approver.and_then(|at| self.roster.as_ref()?.approvers.get(at));
        let approving = approver.into_iter().flat_map(|approver| &approver.keys);
        let is_theirs = |key: &&Key| {
            let name = lower(person);
            self.owners.get(key.fingerprint()).is_some_and(|owners| owners.contains(&name))
        };
        super::closed::fingerprints(local.chain(own).chain(approving).filter(is_theirs))
    }

    /// A grant, with everybody who has one of its keys.
    pub(super) fn target<'a>(&self, subject: Subject<'a>) -> Target<'a> {
        let owners = subject.fingerprints.iter().filter_map(|key| self.owners.get(key));
        Target { subject, owners: owners.flatten().cloned().collect() }
    }

    /// Everybody known who has signed this document for this purpose. Denied keys sign nothing.
    pub(super) fn signers(
        &self,
        settings: &Checked,
        place: &Place,
        envelope: &Envelope,
        namespace: Namespace,
    ) -> Vec<Signer> {
        let roles = |key: &Fingerprint, device| self.roles(settings, place, namespace, key, device);
        let is_known = |key: &Fingerprint| !settings.deny_keys.contains(key) && !roles(key, None).is_empty();
        let valid = signers::valid(envelope, namespace, is_known).into_iter();
        valid.flat_map(|valid| roles(&valid.fingerprint, valid.device)).collect()
    }

    /// Whether a signature names a key that means nothing here, and that a newer roster may name.
    pub(super) fn has_unknown(&self, settings: &Checked, place: &Place, envelope: &Envelope) -> bool {
        let namespace = envelope.document().namespace();
        let is_unknown = |key: &Fingerprint| {
            !settings.deny_keys.contains(key) && self.roles(settings, place, namespace, key, None).is_empty()
        };
        signers::claimed(envelope).any(|key| is_unknown(&key))
    }

    /// As what a key can sign in this namespace.
    fn roles(
        &self,
        settings: &Checked,
        place: &Place,
        namespace: Namespace,
        fingerprint: &Fingerprint,
        device: Option<Device>,
    ) -> Vec<Signer> {
        let mut who = Vec::new();
        let trust = &settings.roster;
        who.extend(
            trust
                .keys
                .iter()
                .filter(|entry| entry.key.fingerprint() == fingerprint)
                .map(|entry| Who::RosterKey(entry.person.clone())),
        );
        if trust.automatic.iter().any(|key| key.fingerprint() == fingerprint) {
            who.push(Who::Automatic);
        }
        if let Some(approver) = self.approver(fingerprint) {
            who.push(Who::Approver(approver.person.clone()));
        }
        if let Some(source) = self.feeds(fingerprint) {
            who.push(Who::Feeder(source.clone()));
        }
        if matches!(namespace, Namespace::Request | Namespace::Of(Kind::Session)) {
            who.extend(self.login(place, fingerprint).map(Who::Login));
        }
        let signer = |who| Signer { who, fingerprint: fingerprint.clone(), device };
        who.into_iter().map(signer).collect()
    }

    /// Whose key for approving this is.
    pub(super) fn approver(&self, fingerprint: &Fingerprint) -> Option<&crate::Approver> {
        self.roster.as_ref()?.approvers.get(*self.approvers.get(fingerprint)?)
    }

    /// Whose people this key may hold.
    pub(super) fn feeds(&self, fingerprint: &Fingerprint) -> Option<&Source> {
        let feeder = self.roster.as_ref()?.feeders.get(*self.feeders.get(fingerprint)?)?;
        Some(&feeder.source)
    }

    /// Who logs in with this key.
    pub(super) fn login(&self, place: &Place, fingerprint: &Fingerprint) -> Option<Person> {
        let owners = self.owners.get(fingerprint)?.iter().filter_map(|name| self.names.get(name)?.local.as_ref());
        let has = |local: &LocalPerson| local.keys.iter().any(|key| key.fingerprint() == fingerprint);
        let mut owners = owners.filter(|person| place.people.get(person).is_some_and(has));
        if let Some(person) = owners.next() {
            return Some(person.clone());
        }
        Some(self.roster.as_ref()?.people.get(*self.logins.get(fingerprint)?)?.name.clone())
    }
}
