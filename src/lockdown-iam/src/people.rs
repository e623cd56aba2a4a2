//! What IAM says, as people: who, with which keys, for which accounts. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use document::{AccountName, IamName, Key, StackPattern, roster::MAX_PERSON_KEYS};
use record::Person;

use crate::{
    config::Config,
    memory::User,
    reading::{Reading, group_key},
};

/// The most bytes of a key that are shown.
const SHOWN: usize = 40;

/// A user of IAM who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// `UserId`
    pub(crate) id: IamName,
    /// `UserName`
    pub(crate) name: IamName,
    /// What a roster would call them.
    pub(crate) person: Person,
    /// The account of AWS.
    pub(crate) account: String,
    pub(crate) arn: String,
    /// Whether the tag says so.
    pub(crate) disabled: bool,
    /// Their keys; none where that was not read yet.
    pub(crate) keys: Option<BTreeSet<Key>>,
    /// What they may be given.
    pub(crate) accounts: BTreeMap<StackPattern, BTreeSet<AccountName>>,
}

/// By `UserId`.
pub(crate) type Candidates = BTreeMap<String, Candidate>;

/// Everybody in a mapped group. What is wrong with somebody is noted, and closes nothing.
pub(crate) fn candidates(config: &Config, reading: &Reading, notes: &mut Vec<String>) -> Candidates {
    let mut all = Candidates::new();
    for (id, user) in &reading.users {
        match candidate(config, reading, id, user, notes) {
            Ok(candidate) => drop(all.insert(id.clone(), candidate)),
            Err(why) => notes.push(format!("{}: {why}", user.arn)),
        }
    }
    all
}

fn candidate(
    config: &Config,
    reading: &Reading,
    id: &str,
    user: &User,
    notes: &mut Vec<String>,
) -> Result<Candidate, String> {
    let name: IamName = user.name.parse().map_err(|error: record::NameError| error.to_string())?;
    Ok(Candidate {
        id: id.parse().map_err(|error: record::NameError| error.to_string())?,
        person: person(name.as_str())?,
        name,
        account: user.account.clone(),
        arn: user.arn.clone(),
        disabled: user.detail.as_ref().is_some_and(|detail| detail.disabled),
        keys: user.detail.as_ref().map(|_| keys(user, notes)),
        accounts: accounts(config, reading, id),
    })
}

/// What a roster calls a user of this name: the name itself where a person may have it, else with `-` for what they may not have.
pub(crate) fn person(name: &str) -> Result<Person, String> {
    let good = |c: char| if c.is_ascii_alphanumeric() || "._@+-".contains(c) { c } else { '-' };
    let mapped: String = name.chars().map(good).collect();
    let mapped = if mapped.starts_with(|c: char| c.is_ascii_alphanumeric()) { mapped } else { format!("iam{mapped}") };
    mapped.parse().map_err(|error: record::NameError| error.to_string())
}

/// Somebody's keys: those of IAM's store, and those in tags.
fn keys(user: &User, notes: &mut Vec<String>) -> BTreeSet<Key> {
    let detail = user.detail.iter();
    let written = detail.flat_map(|detail| detail.keys.iter().chain(&detail.tags));
    let mut keys = BTreeSet::new();
    for (place, text) in written {
        let text = text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
        match text.parse::<Key>() {
            Ok(key) if keys.len() < MAX_PERSON_KEYS || keys.contains(&key) => drop(keys.insert(key)),
            Ok(_) => notes.push(format!("{}: {place} is left out: {MAX_PERSON_KEYS} keys are taken", user.arn)),
            Err(error) => {
                let shown: String = text.chars().take(SHOWN).collect();
                notes.push(format!("{}: {place} is left out, {shown:?}…: {error}", user.arn));
            }
        }
    }
    keys
}

fn accounts(config: &Config, reading: &Reading, id: &str) -> BTreeMap<StackPattern, BTreeSet<AccountName>> {
    let mut all: BTreeMap<StackPattern, BTreeSet<AccountName>> = BTreeMap::new();
    for account in &config.accounts {
        for group in &account.groups {
            if reading.groups.get(&group_key(&account.id, group)).is_some_and(|members| members.contains(id)) {
                for (stack, names) in &group.accounts {
                    all.entry(stack.clone()).or_default().extend(names.iter().cloned());
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_person_may_have_are_mapped() {
        for (name, mapped) in [
            ("frank", "frank"),
            ("ana.b@example.com", "ana.b@example.com"),
            ("a+b=c,d", "a+b-c-d"),
            ("=x", "iam-x"),
            (".x", "iam.x"),
            ("Zoë", "Zo-"),
        ] {
            assert_eq!(person(name).unwrap().as_str(), mapped);
        }
        assert!(person(&"x".repeat(65)).is_err());
        assert!(person(&format!("={}", "x".repeat(63))).is_err());
    }
}
