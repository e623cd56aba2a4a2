//! One run's look at IAM: all of it, or none. What did not change is not asked for again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    aws::{CallError, Calls, Iam, KeyStatus, Tags},
    config::{Config, Group, Tag},
    failure::Failure,
    memory::{Detail, Memory, User},
};

/// The most users in all groups together.
pub(crate) const MAX_USERS: usize = 20_000;
/// The most keys of one user in IAM's store: IAM itself takes 5.
const MAX_KEYS: usize = 32;
/// The most users in no list who are asked for by name in one run.
const MAX_ASKED: usize = 200;
/// How long a run looks at tags and keys, who is new among them: who left is to be held within a minute. The next run goes on.
const LOOKING: Duration = Duration::from_secs(40);
/// How a tag with a key begins; a number follows.
const KEY_TAG: &str = "ssh-key-";

/// Somebody of the roster, as IAM knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// What IAM said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Everybody in a mapped group, by `UserId`.
    pub(crate) users: BTreeMap<String, User>,
    /// Who is in which group, by `ACCOUNT/GROUP`.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    /// Those of whom IAM itself says that there is no such user, by `UserId`.
    pub(crate) gone: BTreeSet<String>,
    /// What somebody should know.
    pub(crate) notes: Vec<String>,
}

/// IAM in each account, by its id.
pub(crate) type Accounts = BTreeMap<String, Iam>;

/// The name of a group in what is remembered.
pub(crate) fn group_key(account: &str, group: &Group) -> String {
    format!("{account}/{}", group.name)
}

/// Looks at IAM once. What is remembered of those who are listed moves into what was read.
///
/// # Errors
/// Something is not known: then nothing is.
pub(crate) fn read(
    config: &Config,
    accounts: &Accounts,
    expected: &[Expected],
    memory: &mut Memory,
    calls: &mut Calls,
) -> Result<Reading, Failure> {
    let mut reading = Reading::default();
    for account in &config.accounts {
        let Some(iam) = accounts.get(&account.id) else { continue };
        for group in &account.groups {
            list(iam, &account.id, group, memory, &mut reading, calls)?;
        }
    }
    ask_for_absent(accounts, expected, memory, &mut reading, calls)?;
    explain_empty(config, accounts, memory, &mut reading, calls)?;
    look_closer(config, accounts, memory, &mut reading, calls)?;
    Ok(reading)
}

fn list(
    iam: &Iam,
    account: &str,
    group: &Group,
    memory: &mut Memory,
    reading: &mut Reading,
    calls: &mut Calls,
) -> Result<(), Failure> {
    let place = group_key(account, group);
    let users = iam.group(&group.name, calls).map_err(|error| not_known(&error).detail(place.clone()))?;
    let members = reading.groups.entry(place).or_default();
    for listed in users {
        let is_id = (1..=128).contains(&listed.id.len()) && listed.id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_id || listed.name.is_empty() {
            return Err(Failure::unavailable(format!(
                "IAM lists the user {:?} with the id {:?}",
                listed.name, listed.id
            )));
        }
        members.insert(listed.id.clone());
        if let Some(before) = reading.users.get(&listed.id) {
            if before.account == account && before.name == listed.name && before.arn == listed.arn {
                continue;
            }
            return Err(Failure::unavailable(format!("IAM gives {} in two ways: it changed meanwhile", listed.id)));
        }
        let known = memory.users.remove(&listed.id).filter(|known| known.account == account);
        let (detail, read_in, seen_in) =
            known.map_or((None, 0, memory.runs + 1), |known| (known.detail, known.read_in, known.seen_in));
        let user = User { account: account.to_owned(), name: listed.name, arn: listed.arn, detail, read_in, seen_in };
        reading.users.insert(listed.id, user);
    }
    if reading.users.len() > MAX_USERS {
        return Err(Failure::refused(format!("there are more than {MAX_USERS} users in the mapped groups")));
    }
    Ok(())
}

/// Whether IAM itself says that somebody is gone. Where the account is not known, all of them have to say so.
fn is_gone(accounts: &Accounts, account: Option<&str>, name: &str, calls: &mut Calls) -> Result<bool, Failure> {
    let asked: Vec<&Iam> = match account {
        Some(account) => accounts.get(account).into_iter().collect(),
        None => accounts.values().collect(),
    };
    for iam in &asked {
        match iam.tags(name, calls) {
            Err(CallError::NoSuchEntity(_)) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(not_known(&error)),
        }
    }
    Ok(!asked.is_empty())
}

fn ask_for_absent(
    accounts: &Accounts,
    expected: &[Expected],
    memory: &Memory,
    reading: &mut Reading,
    calls: &mut Calls,
) -> Result<(), Failure> {
    let absent = expected.iter().filter(|one| !reading.users.contains_key(&one.id));
    // Who was found gone before stays so: an id is never given again.
    let absent: Vec<&Expected> = absent.filter(|one| !memory.holds.contains_key(&one.id)).collect();
    for one in absent.iter().take(MAX_ASKED) {
        let known = memory.users.get(&one.id);
        let name = known.map_or(one.name.as_str(), |known| known.name.as_str());
        if is_gone(accounts, known.map(|known| known.account.as_str()), name, calls)? {
            reading.gone.insert(one.id.clone());
        }
    }
    if absent.len() > MAX_ASKED {
        reading.notes.push(format!("{} people are in no list: {MAX_ASKED} were asked for by name", absent.len()));
    }
    Ok(())
}

/// An empty list may be a fault: where there were users, it counts only if they are gone for sure.
fn explain_empty(
    config: &Config,
    accounts: &Accounts,
    memory: &Memory,
    reading: &mut Reading,
    calls: &mut Calls,
) -> Result<(), Failure> {
    for account in &config.accounts {
        for group in account.groups.iter().filter(|group| !group.may_be_empty) {
            let place = group_key(&account.id, group);
            if !reading.groups.get(&place).is_some_and(BTreeSet::is_empty) {
                continue;
            }
            let before = memory.groups.get(&place).cloned().unwrap_or_default();
            for id in &before {
                let name = memory.users.get(id).map(|user| user.name.as_str());
                let gone = reading.gone.contains(id)
                    || match name {
                        Some(name) if before.len() <= MAX_ASKED => is_gone(accounts, Some(&account.id), name, calls)?,
                        _ => false,
                    };
                if !gone {
                    return Err(Failure::refused(format!("{place} is empty, and had {} users", before.len()))
                        .but("if that is right: may_be_empty = true in that group's table, or take the group out"));
                }
                reading.gone.insert(id.clone());
            }
        }
    }
    Ok(())
}

/// Reads tags and keys: of those who are new, and of those known already who were not looked at for the longest time.
fn look_closer(
    config: &Config,
    accounts: &Accounts,
    memory: &Memory,
    reading: &mut Reading,
    calls: &mut Calls,
) -> Result<(), Failure> {
    let mut order: Vec<(u64, String)> = reading
        .users
        .iter()
        .map(|(id, user)| (if user.detail.is_some() { user.read_in.max(1) } else { 0 }, id.clone()))
        .collect();
    order.sort();
    let new = order.iter().filter(|(read_in, _)| *read_in == 0).count();
    let until = Instant::now() + LOOKING;
    for (done, (_, id)) in order.into_iter().take(new.saturating_add(config.users_per_run)).enumerate() {
        if Instant::now() >= until {
            if done < new {
                reading.notes.push(format!("{} users who are new are read in the next runs", new - done));
            }
            break;
        }
        let Some(user) = reading.users.get_mut(&id) else { continue };
        let Some(iam) = accounts.get(&user.account) else { continue };
        match detail(config, iam, user, calls) {
            Ok(detail) => (user.detail, user.read_in) = (Some(detail), memory.runs + 1),
            // Listed, and not there: one of both is of another moment, or they were renamed meanwhile. The next run will tell.
            Err(CallError::NoSuchEntity(said)) => {
                reading.notes.push(format!("{} is in a group, and is not there: {said}", user.name));
                reading.users.remove(&id);
            }
            Err(error) => return Err(not_known(&error)),
        }
    }
    Ok(())
}

fn detail(config: &Config, iam: &Iam, user: &User, calls: &mut Calls) -> Result<Detail, CallError> {
    let tags = iam.tags(&user.name, calls)?;
    let listed = iam.keys(&user.name, calls)?;
    let before = user.detail.as_ref();
    let mut keys = BTreeMap::new();
    for key in listed.into_iter().filter(|key| key.status == KeyStatus::Active).take(MAX_KEYS) {
        // What an id stands for never changes.
        let body = match before.and_then(|before| before.keys.get(&key.id)) {
            Some(body) => body.clone(),
            None => match iam.key(&user.name, &key.id, calls) {
                Ok(body) => body,
                // Deleted between two calls.
                Err(CallError::NoSuchEntity(_)) => continue,
                Err(error) => return Err(error),
            },
        };
        keys.insert(key.id, body);
    }
    Ok(Detail { disabled: has(&tags, &config.disabled_tag), tags: keys_in(tags), keys })
}

/// Whether a tag is there. It closes, and IAM itself keeps the case of tags and goes not by it: nor does this.
fn has(tags: &Tags, wanted: &Tag) -> bool {
    let is_it = |(key, value): (&String, &String)| {
        key.eq_ignore_ascii_case(&wanted.key) && value.trim().eq_ignore_ascii_case(&wanted.value)
    };
    tags.iter().any(is_it)
}

fn keys_in(tags: Tags) -> BTreeMap<String, String> {
    let is_key = |tag: &str| {
        let number = tag.strip_prefix(KEY_TAG);
        number.is_some_and(|number| (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()))
    };
    tags.into_iter().filter(|(tag, _)| is_key(tag)).collect()
}

/// Why nothing is known, and so nothing is done.
fn not_known(error: &CallError) -> Failure {
    let failure =
        Failure::unavailable(format!("IAM was not read to its end, and nothing was changed: {}", error.words()));
    match error {
        CallError::Denied(_) => failure.but("lockdown-iam check says which permissions are missing"),
        CallError::NoSuchEntity(_) => failure.but("lockdown-iam check says which groups there are not"),
        CallError::Failed(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_that_disables_counts_in_whichever_case_it_was_written() {
        let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
        for (key, value) in [("ssh-access", "disabled"), ("SSH-Access", "Disabled"), ("ssh-access", "DISABLED ")] {
            assert!(has(&tags(key, value), &Tag::default()), "{key}={value}");
        }
        for (key, value) in [("ssh-access", "enabled"), ("ssh-access", ""), ("access", "disabled")] {
            assert!(!has(&tags(key, value), &Tag::default()), "{key}={value}");
        }
    }

    #[test]
    fn only_numbered_tags_are_keys() {
        let tags: Tags = ["ssh-key-1", "ssh-key-12", "ssh-key-", "ssh-key-x", "ssh-key-123", "SSH-key-1", "team"]
            .into_iter()
            .map(|tag| (tag.to_owned(), String::new()))
            .collect();
        assert_eq!(keys_in(tags).into_keys().collect::<Vec<_>>(), ["ssh-key-1", "ssh-key-12"]);
    }
}
