//! Documents from what was typed and what is known. No I/O, no clock: all that can be refused is refused before anybody signs.

use std::{collections::BTreeSet, time::Duration};

use document::{
    AccountName, Approvals, Document, Envelope, Grant, Hosts, Id, IsGrant, IsLift, IsLockdown, IsRevoke, Lift,
    Lockdown, MAX_ACCEPTANCE, MAX_AFTER, Malformed, Member, Moment, Organization, Reason, Refusal, Revoke, Roster,
    StackPattern, V1, Verdict, roster::same_person,
};
use jiff::Timestamp;
use record::{Cidr, Fingerprint, Host, Person, Stack, format_duration};

use crate::{
    failure::Failure,
    known::{Known, refused, waits},
};

/// How long a grant lasts where nobody says.
const DEFAULT_DURATION: Duration = Duration::from_secs(3600);
/// How many names a failure suggests.
const SUGGESTED: usize = 8;

/// What somebody wants a person to be given.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) person: Person,
    pub(crate) stack: Stack,
    pub(crate) account: Option<AccountName>,
    pub(crate) hosts: Hosts,
    pub(crate) duration: Option<Duration>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) from: Vec<Cidr>,
    pub(crate) accept_within: Option<Duration>,
    pub(crate) reason: Reason,
}

/// A grant that hosts will take once enough people have signed it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) grant: Grant,
    pub(crate) document: Document,
    /// How many different people have to approve.
    pub(crate) needed: usize,
}

/// The grant that was wanted, as every host of the stack would take it.
pub(crate) fn grant(wanted: &Wanted, known: &Known, now: Moment) -> Result<Planned, Failure> {
    let roster = known.roster()?;
    let member = member(roster, &wanted.person)?;
    let account = account(wanted, member, roster)?;
    let starts_at = starts_at(wanted, now)?;
    let mut grant = Grant {
        accept_until: now,
        account,
        after: BTreeSet::new(),
        approvals: Approvals::try_from(1).map_err(|error| Failure::usage(error.to_string()))?,
        expires_at: starts_at.after(wanted.duration.unwrap_or(DEFAULT_DURATION)),
        fingerprints: member.keys.iter().map(|key| key.fingerprint().clone()).collect(),
        from: wanted.from.clone(),
        hosts: wanted.hosts.clone(),
        issued_at: now,
        organization: roster.organization.clone(),
        person: member.name.clone(),
        reason: wanted.reason.clone(),
        roster: roster.version,
        stack: wanted.stack.clone(),
        starts_at,
        kind: IsGrant,
        v: V1,
    };
    if grant.fingerprints.is_empty() {
        return Err(Failure::refused("no_keys", format!("{} has no key in roster {}", member.name, roster.version))
            .but("give them one: lockdown roster edit"));
    }
    grant.after = on_named_hosts(&grant, member, known, now);
    // Each turn adds what a host would miss; only so much can be missing.
    for _ in 0..MAX_AFTER + 4 {
        grant.accept_until = accept_until(wanted, &grant, now);
        let document = made(grant.clone())?;
        let envelope = Envelope::new(document.clone(), Vec::new()).map_err(|error| malformed(&error))?;
        match known.verdict(&envelope, now) {
            Verdict::Refused(Refusal::Approvals { needed, .. }) if grant.approvals.number() == needed => {
                return Ok(Planned { grant, document, needed });
            }
            Verdict::Refused(Refusal::Approvals { needed, .. }) => {
                let number = Approvals::try_from(needed as u64);
                grant.approvals = number.map_err(|error| Failure::refused("approvals", error.to_string()))?;
            }
            Verdict::Refused(Refusal::LockedDown(id)) if grant.after.insert(id) => {}
            Verdict::Refused(Refusal::TooLong { most, .. }) if wanted.duration.is_none() => {
                grant.expires_at = grant.starts_at.after(most);
            }
            Verdict::Refused(refusal) => return Err(because(&refusal, known)),
            Verdict::Waits(wait) => return Err(waits(&wait)),
            Verdict::Accepted(_) | Verdict::Known => break,
        }
    }
    Err(Failure::refused("grant", "no grant can be made that hosts would take")
        .but("lift what is over: lockdown status lists it"))
}

/// The person's entry, or who is called alike.
fn member<'a>(roster: &'a Roster, person: &Person) -> Result<&'a Member, Failure> {
    if let Some(member) = roster.people.iter().find(|member| member.name == *person) {
        return Ok(member);
    }
    let failure = Failure::refused("unknown_person", format!("there is no {person} in roster {}", roster.version));
    if let Some(member) = roster.people.iter().find(|member| same_person(&member.name, person)) {
        return Err(failure.but(format!("did you mean {}?", member.name)));
    }
    let names: Vec<&str> = roster.people.iter().map(|member| member.name.as_str()).collect();
    Err(failure.but(suggestion(person.as_str(), &names, "lockdown roster show lists everybody")))
}

/// Names like the one that was typed; else, where there are few, all.
pub(crate) fn suggestion(typed: &str, names: &[&str], otherwise: &str) -> String {
    let typed = typed.to_ascii_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(&typed, &name.to_ascii_lowercase()), *name))
        .filter(|(distance, name)| *distance <= name.len().max(typed.len()) / 3)
        .collect();
    near.sort_unstable();
    if !near.is_empty() {
        let names: Vec<&str> = near.iter().take(SUGGESTED).map(|(_, name)| *name).collect();
        return format!("did you mean {}?", names.join(", "));
    }
    if (1..=SUGGESTED).contains(&names.len()) {
        return format!("there are: {}", names.join(", "));
    }
    otherwise.to_owned()
}

/// How many letters have to be changed, left out, put in, or swapped with the next one to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (n, c) in one.iter().enumerate() {
        let mut row = vec![n + 1];
        for (m, d) in other.iter().enumerate() {
            let mut least = (above[m] + usize::from(c != d)).min(above[m + 1] + 1).min(row[m] + 1);
            if n > 0 && m > 0 && *c == other[m - 1] && one[n - 1] == *d {
                least = least.min(before[m - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

/// The account that was named, else the one named as the person, else the only one they may have on the stack.
fn account(wanted: &Wanted, member: &Member, roster: &Roster) -> Result<AccountName, Failure> {
    let (person, stack) = (&member.name, &wanted.stack);
    let fitting = member.accounts.iter().filter(|(stacks, _)| stacks.fits(stack));
    let may: BTreeSet<&AccountName> = fitting.flat_map(|(_, accounts)| accounts).collect();
    let names: Vec<&str> = may.iter().map(|account| account.as_str()).collect();
    if may.is_empty() {
        let failure = Failure::refused(
            "account",
            format!("{person} may be given no account on the stack {stack}, by roster {}", roster.version),
        );
        let stacks: Vec<&str> = member.accounts.keys().map(StackPattern::as_str).collect();
        return Err(failure.but(match stacks[..] {
            [] => format!("{person} may be given no account anywhere: lockdown roster edit"),
            _ => format!("they may be given accounts on: {}", stacks.join(", ")),
        }));
    }
    match &wanted.account {
        Some(account) if may.contains(account) => Ok(account.clone()),
        Some(account) => Err(Failure::refused(
            "account",
            format!("{person} may not be given {account} on the stack {stack}, by roster {}", roster.version),
        )
        .but(format!("they may be given {}", names.join(", ")))),
        None => {
            let own = may.iter().find(|account| account.as_str() == person.as_str());
            match (own, &names[..]) {
                (Some(own), _) => Ok((**own).clone()),
                (None, [only]) => only.parse().map_err(|error: record::NameError| Failure::usage(error.to_string())),
                (None, _) => {
                    Err(Failure::usage(format!("{person} may be given several accounts on the stack {stack}"))
                        .but(format!("say which: --account {}", names.join(", or --account "))))
                }
            }
        }
    }
}

fn starts_at(wanted: &Wanted, now: Moment) -> Result<Moment, Failure> {
    let Some(at) = wanted.at.map(Moment::of) else { return Ok(now) };
    if at < now {
        return Err(Failure::usage(format!("{at} is over, and it is {now}")).but("leave --at out to begin now"));
    }
    if at.since(now) > MAX_ACCEPTANCE {
        return Err(Failure::usage(format!("{at} is more than {} ahead", format_duration(MAX_ACCEPTANCE)))
            .but("hosts take a grant within a day of its signatures: sign it on that day"));
    }
    Ok(at)
}

/// Until when hosts may take it: as was asked for, else until it ends; never before it begins, nor more than a day from now.
fn accept_until(wanted: &Wanted, grant: &Grant, now: Moment) -> Moment {
    let asked = wanted.accept_within.map_or(grant.expires_at, |within| now.after(within));
    asked.max(grant.starts_at).min(now.after(MAX_ACCEPTANCE)).max(now.after(Duration::from_secs(1)))
}

/// Lockdowns of hosts that it names, or may name: each of these hosts would refuse it, and no other.
fn on_named_hosts(grant: &Grant, member: &Member, known: &Known, now: Moment) -> BTreeSet<Id> {
    let covers = |lockdown: &Lockdown| {
        let Some(Hosts::Named(hosts)) = &lockdown.hosts else { return false };
        let here = lockdown.stack.fits(&grant.stack) && hosts.iter().any(|host| grant.hosts.include(host));
        let everybody = lockdown.person.is_none() && lockdown.fingerprint.is_none();
        let person = lockdown.person.as_ref().is_some_and(|person| same_person(person, &member.name));
        let key = lockdown.fingerprint.as_ref().is_some_and(|key| grant.fingerprints.contains(key));
        here && (everybody || person || key)
    };
    let holds: BTreeSet<Id> = known.holds().map(|(id, _)| id).collect();
    let covering = known.covering(now).filter(|(id, closing)| covers(&closing.lockdown) && !holds.contains(id));
    covering.map(|(id, _)| id).take(MAX_AFTER).collect()
}

/// What a host would refuse, with what can be done about it here.
fn because(refusal: &Refusal, known: &Known) -> Failure {
    let failure = refused(refusal);
    match refusal {
        Refusal::Held(id) => {
            let why = known.lockdown(*id).map(|closing| format!(": {}", closing.lockdown.reason)).unwrap_or_default();
            failure.detail(format!("lockdown {id}{why}")).but(format!("lockdown lift {id}"))
        }
        Refusal::TooLong { most, .. } => failure.but(format!("the longest is --for {}", format_duration(*most))),
        Refusal::NoRule { .. } => failure.but("a roster with a rule for it: lockdown roster edit"),
        _ => failure,
    }
}

/// What is over is over.
pub(crate) fn revoke(
    organization: &Organization,
    grant: Id,
    reason: &Reason,
    now: Moment,
) -> Result<Document, Failure> {
    made(Revoke {
        grant,
        issued_at: now,
        organization: organization.clone(),
        reason: reason.clone(),
        kind: IsRevoke,
        v: V1,
    })
}

/// What somebody wants closed.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) stack: StackPattern,
    pub(crate) hosts: Vec<Host>,
    pub(crate) person: Option<Person>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) hold: bool,
}

/// The lockdown of a scope.
pub(crate) fn lockdown(
    organization: &Organization,
    scope: &Scope,
    reason: &Reason,
    now: Moment,
) -> Result<Document, Failure> {
    let hosts: BTreeSet<Host> = scope.hosts.iter().cloned().collect();
    made(Lockdown {
        fingerprint: scope.fingerprint.clone(),
        hold: scope.hold,
        hosts: (!hosts.is_empty()).then_some(Hosts::Named(hosts)),
        issued_at: now,
        organization: organization.clone(),
        person: scope.person.clone(),
        reason: reason.clone(),
        stack: scope.stack.clone(),
        kind: IsLockdown,
        v: V1,
    })
}

/// The lift of a lockdown.
pub(crate) fn lift(
    organization: &Organization,
    lockdown: Id,
    reason: &Reason,
    now: Moment,
) -> Result<Document, Failure> {
    made(Lift {
        issued_at: now,
        lockdown,
        organization: organization.clone(),
        reason: reason.clone(),
        kind: IsLift,
        v: V1,
    })
}

/// A document, if there can be one that says this.
pub(crate) fn made(body: impl Into<document::Body>) -> Result<Document, Failure> {
    Document::new(body).map_err(|error| malformed(&error))
}

/// Why something is no document.
pub(crate) fn malformed(error: &Malformed) -> Failure {
    let failure = Failure::refused("malformed", error.to_string());
    match error {
        Malformed::TooLong { .. } => failure.but("name fewer hosts: without --host all of the stack are meant"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_one_is_suggested_and_few_are_listed() {
        for (typed, names, said) in [
            ("franc", &["frank", "grace"][..], "did you mean frank?"),
            ("FRANK", &["frank"], "did you mean frank?"),
            ("zoe", &["frank", "grace"], "there are: frank, grace"),
            ("zoe", &[], "look there"),
        ] {
            assert_eq!(suggestion(typed, names, "look there"), said);
        }
    }

    #[test]
    fn letters_are_counted_that_would_have_to_change() {
        for (one, other, distance) in
            [("", "", 0), ("a", "", 1), ("frank", "franc", 1), ("wbe", "web", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(super::distance(one, other), distance, "{one} {other}");
        }
    }
}
