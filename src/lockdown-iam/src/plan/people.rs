//! The people of a next roster: others' as they are, IAM's as IAM says.

use std::collections::{BTreeMap, BTreeSet};

use document::{
    IamUser, Key, Member,
    roster::{MAX_PERSON_KEYS, same_person},
};
use record::Person;

use super::{Facts, Standing, lower};
use crate::people::Candidate;

/// Who signs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// People, who look at it.
    Proposed,
    /// The feeder's own key. It drops nobody: who left is held, and a host that hears of the hold later has to find them in its
    /// roster. It links nobody by name alone, and changes nobody who approves or signs rosters.
    Automatic,
}

/// Somebody whose entry follows IAM.
struct Moving<'a> {
    /// Their entry, whose keys are found last.
    member: Member,
    candidate: &'a Candidate,
    /// The keys that they have by the roster in force.
    before: BTreeSet<Key>,
}

/// A roster in the making.
struct Making<'a> {
    fixed: Vec<Member>,
    moving: Vec<Moving<'a>>,
}

pub(super) fn next(facts: &Facts<'_>, mode: Mode, notes: &mut Vec<String>) -> Vec<Member> {
    let mut making = Making { fixed: Vec::new(), moving: Vec::new() };
    for member in &facts.roster.people {
        if member.source == *facts.source {
            making.keep(facts, mode, member);
        } else {
            making.fixed.push(member.clone());
        }
    }
    making.join(facts, mode, notes);
    let mut people = making.with_keys(facts, notes);
    people.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    people
}

/// Whether nobody but the threshold may change somebody of this name.
fn is_beyond(facts: &Facts<'_>, mode: Mode, person: &Person) -> bool {
    let approves = || facts.roster.approvers.iter().any(|one| same_person(&one.person, person));
    let signs = || facts.trust.roster.keys.iter().any(|one| same_person(&one.person, person));
    mode == Mode::Automatic && (approves() || signs())
}

impl<'a> Making<'a> {
    /// Takes up somebody of IAM's whom the roster has.
    fn keep(&mut self, facts: &Facts<'a>, mode: Mode, member: &Member) {
        let by_name = || {
            let linked =
                |id: &str| facts.mine().any(|other| other.iam.as_ref().is_some_and(|iam| iam.id.as_str() == id));
            let mut found = facts.candidates.values().filter(|one| same_person(&one.person, &member.name));
            found.next().filter(|one| !one.disabled && !linked(one.id.as_str())).filter(|_| found.next().is_none())
        };
        let candidate = match facts.standing_of(member) {
            Standing::Leaving(_) if mode == Mode::Proposed => return,
            Standing::Fine(candidate) => Some(candidate),
            Standing::Unlinked if mode == Mode::Proposed => by_name(),
            Standing::Leaving(_) | Standing::Unsure | Standing::Unlinked => None,
        };
        match candidate.filter(|one| one.keys.is_some() && !is_beyond(facts, mode, &member.name)) {
            // They keep the name that they have in the roster: a hold, and grants, go by it.
            Some(candidate) => self.follow(facts, candidate, member.name.clone(), member.keys.clone()),
            None => self.fixed.push(member.clone()),
        }
    }

    fn follow(&mut self, facts: &Facts<'_>, candidate: &'a Candidate, name: Person, before: BTreeSet<Key>) {
        let member = Member {
            accounts: candidate.accounts.clone(),
            iam: Some(IamUser {
                // A path may have what no document has; it says where somebody is, not who.
                arn: candidate.arn.parse().ok(),
                id: candidate.id.clone(),
                name: candidate.name.clone(),
            }),
            keys: BTreeSet::new(),
            name,
            source: facts.source.clone(),
        };
        self.moving.push(Moving { member, candidate, before });
    }

    /// Takes up those who are new, where their name is nobody else's.
    fn join(&mut self, facts: &Facts<'a>, mode: Mode, notes: &mut Vec<String>) {
        let known: BTreeSet<&str> =
            facts.mine().filter_map(|one| one.iam.as_ref()).map(|iam| iam.id.as_str()).collect();
        let here: BTreeSet<&str> = self.moving.iter().map(|one| one.candidate.id.as_str()).collect();
        let is_new = |one: &&Candidate| {
            let id = one.id.as_str();
            !known.contains(id) && !here.contains(id) && !one.disabled && one.keys.is_some()
        };
        let mut by_name: BTreeMap<String, Vec<&'a Candidate>> = BTreeMap::new();
        for one in facts.candidates.values().filter(is_new) {
            by_name.entry(lower(&one.person)).or_default().push(one);
        }
        let names = self.names(facts);
        for (name, joining) in by_name {
            match (joining.as_slice(), names.get(&name)) {
                ([one], None) if !is_beyond(facts, mode, &one.person) => {
                    self.follow(facts, one, one.person.clone(), BTreeSet::new());
                }
                ([_], None) => {}
                ([one], Some(other)) => notes.push(format!(
                    "{} is left out: {} is taken in the roster, by another one than {}",
                    one.arn, other, one.id
                )),
                (several, _) => {
                    let names: Vec<&str> = several.iter().map(|one| one.arn.as_str()).collect();
                    notes.push(format!("{} are left out: in a roster they would have one name", names.join(" and ")));
                }
            }
        }
    }

    /// Every name that is taken, in lower case. An approver may be a person too, spelt the same way.
    fn names(&self, facts: &Facts<'_>) -> BTreeMap<String, Person> {
        let people = self.fixed.iter().chain(self.moving.iter().map(|one| &one.member)).map(|member| &member.name);
        let spelt_otherwise = facts.roster.approvers.iter().map(|one| &one.person).filter(|approver| {
            facts.candidates.values().any(|one| same_person(&one.person, approver) && one.person != **approver)
        });
        people.chain(spelt_otherwise).map(|person| (lower(person), person.clone())).collect()
    }

    /// Gives each key to one person: to whoever has it, else to whoever alone wants it.
    fn with_keys(mut self, facts: &Facts<'_>, notes: &mut Vec<String>) -> Vec<Member> {
        let roster = facts.roster;
        let mut taken: BTreeSet<Key> = roster.approvers.iter().flat_map(|one| one.keys.iter().cloned()).collect();
        taken.extend(roster.feeders.iter().map(|feeder| feeder.key.clone()));
        taken.extend(facts.trust.roster_signers().into_iter().cloned());
        taken.extend(self.fixed.iter().flat_map(|member| member.keys.iter().cloned()));
        let mut wanted: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (at, one) in self.moving.iter_mut().enumerate() {
            for key in one.candidate.keys.iter().flatten() {
                if one.before.contains(key) && taken.insert(key.clone()) {
                    one.member.keys.insert(key.clone());
                } else {
                    wanted.entry(key.clone()).or_default().push(at);
                }
            }
        }
        for (key, by) in wanted {
            let names: Vec<&str> = by.iter().map(|at| self.moving[*at].candidate.arn.as_str()).collect();
            match by.as_slice() {
                [at] if !taken.contains(&key) => {
                    let keys = &mut self.moving[*at].member.keys;
                    if keys.len() < MAX_PERSON_KEYS {
                        keys.insert(key);
                    }
                }
                _ => notes.push(format!(
                    "{}: the key {} is left out: it is somebody's already, or of several",
                    names.join(", "),
                    key.fingerprint()
                )),
            }
        }
        self.fixed.into_iter().chain(self.moving.into_iter().map(|one| one.member)).collect()
    }
}
