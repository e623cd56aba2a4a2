//! `check`: whether a run would find all that it needs, thing by thing.

use std::collections::{BTreeMap, BTreeSet};

use document::{Roster, roster::same_person};
use record::Person;
use terminal::plain;

use crate::{
    aws::{Access, CallError, Calls, Iam, ListedUser},
    config::{Add, AwsAccount},
    context::Context,
    failure::{Exit, Failure},
    people,
};

/// A user whom nobody has: whether one may ask is answered before whether there is such a user.
const NOBODY: &str = "lockdown-iam-check";
/// A key that nobody has.
const NO_KEY: &str = "APKAAAAAAAAAAAAAAAAA";

/// What was found.
#[derive(Default)]
struct Findings {
    text: String,
    is_bad: bool,
}

impl Findings {
    fn good(&mut self, words: &str) {
        self.text += &format!("ok    {}\n", plain(words));
    }

    fn note(&mut self, words: &str) {
        self.text += &format!("note  {}\n", plain(words));
    }

    fn bad(&mut self, words: &str) {
        self.is_bad = true;
        self.text += &format!("WRONG {}\n", plain(words));
    }
}

/// Looks at everything, and says what is wrong with it.
pub(crate) fn run(context: &Context) -> (String, Exit) {
    let mut found = Findings::default();
    let mut calls = Calls::new();
    match context.access() {
        Ok(access) => {
            found.good(&format!("credentials: {}", access.whose()));
            context.config.accounts.iter().for_each(|account| of_account(account, &access, &mut calls, &mut found));
        }
        Err(failure) => found.bad(&format!("credentials: {}", failure.message())),
    }
    if let Err(failure) = of_server(context, &mut found) {
        found.bad(&format!("server: {}", failure.message()));
    }
    let exit = if found.is_bad { Exit::Refused } else { Exit::Done };
    (found.text, exit)
}

fn of_account(account: &AwsAccount, access: &Access, calls: &mut Calls, found: &mut Findings) {
    let id = &account.id;
    let iam = match Iam::of(account, access, calls) {
        Ok(iam) => iam,
        Err(error) => return found.bad(&format!("{id}: {}", missing("sts:AssumeRole", &error))),
    };
    found.good(&format!("{id}: as {}", iam.whose()));
    let mut users: BTreeMap<String, ListedUser> = BTreeMap::new();
    for group in &account.groups {
        match iam.group(&group.name, calls) {
            Ok(listed) => {
                found.good(&format!("{id}/{}: {} users", group.name, listed.len()));
                users.extend(listed.into_iter().map(|user| (user.id.clone(), user)));
            }
            Err(CallError::NoSuchEntity(_)) => found.bad(&format!("{id}: there is no group {}", group.name)),
            Err(error) => found.bad(&format!("{id}/{}: {}", group.name, missing("iam:GetGroup", &error))),
        }
    }
    permissions(id, &iam, users.values().next(), calls, found);
    names(id, users.values(), found);
}

/// Tries each call: that there is no such user is an answer, too.
fn permissions(id: &str, iam: &Iam, user: Option<&ListedUser>, calls: &mut Calls, found: &mut Findings) {
    let name = user.map_or(NOBODY, |user| user.name.as_str());
    let tried = [
        ("iam:ListUserTags", iam.tags(name, calls).map(drop)),
        ("iam:ListSSHPublicKeys", iam.keys(name, calls).map(drop)),
        ("iam:GetSSHPublicKey", iam.key(name, NO_KEY, calls).map(drop)),
    ];
    for (permission, tried) in tried {
        match tried {
            Ok(()) | Err(CallError::NoSuchEntity(_)) => found.good(&format!("{id}: {permission}")),
            Err(error) => found.bad(&format!("{id}: {}", missing(permission, &error))),
        }
    }
}

fn missing(permission: &str, error: &CallError) -> String {
    match error {
        CallError::Denied(words) => format!("the permission {permission} is missing: {words}"),
        error => error.words().to_owned(),
    }
}

/// Names that cannot be, and those that would be one.
fn names<'a>(id: &str, users: impl Iterator<Item = &'a ListedUser>, found: &mut Findings) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for user in users {
        match people::person(&user.name) {
            Err(why) => found.bad(&format!("{id}: {}: {why}", user.arn)),
            Ok(person) => {
                if person.as_str() != user.name {
                    found.good(&format!("{id}: {} is {person} in a roster", user.name));
                }
                if let Some(other) = seen.insert(person.as_str().to_ascii_lowercase(), &user.arn) {
                    found.bad(&format!("{id}: {other} and {} would have one name in a roster", user.arn));
                }
            }
        }
    }
}

fn of_server(context: &Context, found: &mut Findings) -> Result<(), Failure> {
    let known = context.known(false)?;
    let roster = known.roster()?;
    found.good(&format!("server: {}, roster {}", context.config.server, roster.version));
    let (key, source) = (&context.key.key, &context.config.source);
    let fingerprint = key.fingerprint();
    match roster.feeders.iter().find(|feeder| feeder.key == *key) {
        Some(feeder) if feeder.source == *source => found.good(&format!("key: {fingerprint} is the feeder of {source}")),
        Some(feeder) => found.bad(&format!(
            "key: {fingerprint} is the feeder of {} in roster {}, and source is {source}",
            feeder.source, roster.version
        )),
        None => found.bad(&format!(
            "key: roster {} names no feeder with {fingerprint}: lockdown roster edit, [[feeder]] source = \"{source}\", key = \"{key}\"",
            roster.version
        )),
    }
    if context.trust.deny_keys.contains(fingerprint) {
        found.bad(&format!("key: {fingerprint} is in deny_keys"));
    }
    let is_automatic = context.trust.roster.automatic.contains(key);
    if context.config.add == Add::Automatic && !is_automatic {
        found.bad(&format!("key: add is \"automatic\", and stack.roster.automatic does not have {key}"));
    }
    of_signers(context, roster, found);
    Ok(())
}

/// Whether somebody is left who lifts what this key holds, whoever gets it: who is held lifts nothing.
fn of_signers(context: &Context, roster: &Roster, found: &mut Findings) {
    let source = &context.config.source;
    let is_ours = |person: &Person| {
        roster.people.iter().any(|member| member.source == *source && same_person(&member.name, person))
    };
    let signers = context.trust.roster.keys.iter().map(|key| &key.person).filter(|person| !is_ours(person));
    let others: BTreeSet<String> = signers.map(|person| person.as_str().to_ascii_lowercase()).collect();
    let threshold = context.trust.threshold();
    if others.len() < threshold {
        found.note(&format!(
            "key: of those who sign rosters {} are not of {source}, and it takes {threshold}: whoever gets this key can hold the \
             others, and they lift nothing then; no feeder holds whom the hosts' configuration has as [[person]]",
            others.len()
        ));
    }
}
