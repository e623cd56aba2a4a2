//! One run: IAM is looked at, who left is held, and who is new or changed is proposed.

use std::{collections::BTreeSet, path::Path};

use document::{
    Body, Document, Envelope, Id, IsLockdown, IsRoster, Lockdown, MAX_HOLDS, Member, Moment, Reason, Roster, V1,
    Version,
};
use jiff::Timestamp;

use crate::{
    aws::Calls,
    config::Add,
    context::Context,
    failure::Failure,
    files,
    known::Known,
    memory::{Held, Memory},
    people,
    plan::{self, Facts, Mode, Plan, ToHold},
    reading::{self, Expected, Reading},
    report::Report,
};

/// What is proposed, in the state directory.
pub(crate) const PROPOSAL: &str = "roster.proposed";
/// The most holds of one run.
const MOST_HOLDS: usize = 100;
/// How many holds have to be free on the hosts: more than they take hold everybody.
const FREE_HOLDS: usize = 100;

/// One run. What was found is in the report also where something could not be done.
pub(crate) fn run(context: &Context, dry: bool, report: &mut Report) -> Result<(), Failure> {
    let mut memory = Memory::load(&context.state)?;
    let mut known = context.known()?;
    let expected: Vec<Expected> = expected(context, known.roster()?);
    let mut calls = Calls::new();
    let reading = look(context, &expected, &memory, &mut calls, report);
    report.calls = calls;
    let reading = reading?;
    report.notes.extend(reading.notes.iter().cloned());
    let candidates = people::candidates(&context.config, &reading, &mut report.notes);
    let lifted = known.lifted();
    memory.holds.values_mut().filter(|held| lifted.contains(&held.document)).for_each(|held| held.lifted = true);
    let standing = known.standing();
    let now = Moment::of(Timestamp::now());
    let before = memory.clone();
    let roster = known.roster()?.clone();
    let facts = Facts {
        roster: &roster,
        trust: &context.trust,
        source: &context.config.source,
        candidates: &candidates,
        gone: &reading.gone,
        memory: &before,
        standing: &standing,
        now,
    };
    let plan = plan::plan(&facts);
    report.notes.extend(plan.notes.iter().cloned());
    remember(&mut memory, &reading, &plan, &expected);
    if !dry {
        memory.save(&context.state)?;
    }
    let held = hold(context, &plan, &mut known, &mut memory, dry, report);
    let proposed = propose(context, &facts, &mut known, dry, report);
    held.and(proposed)
}

/// People of our source, as IAM knows them.
fn expected(context: &Context, roster: &Roster) -> Vec<Expected> {
    let mine = roster.people.iter().filter(|member| member.source == context.config.source);
    let users = mine.filter_map(|member| member.iam.as_ref());
    users.map(|user| Expected { id: user.id.to_string(), name: user.name.to_string() }).collect()
}

fn look(
    context: &Context,
    expected: &[Expected],
    memory: &Memory,
    calls: &mut Calls,
    report: &mut Report,
) -> Result<Reading, Failure> {
    let accounts = context.accounts(calls)?;
    let reading = reading::read(&context.config, &accounts, expected, memory, calls)?;
    report.users = reading.users.len();
    Ok(reading)
}

fn remember(memory: &mut Memory, reading: &Reading, plan: &Plan, expected: &[Expected]) {
    memory.runs += 1;
    memory.groups = reading.groups.clone();
    let kept: BTreeSet<&str> = expected.iter().map(|one| one.id.as_str()).collect();
    memory.users.retain(|id, _| kept.contains(id.as_str()));
    memory.users.extend(reading.users.clone());
    memory.absent = plan.absent.clone();
    memory.holds.retain(|id, _| !plan.fine.contains(id));
}

fn hold(
    context: &Context,
    plan: &Plan,
    known: &mut Known,
    memory: &mut Memory,
    dry: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    for (done, one) in plan.holds.iter().enumerate() {
        if done >= MOST_HOLDS {
            report.notes.push(format!("{} more are to be held, in the next runs", plan.holds.len() - done));
            break;
        }
        if known.holds() + FREE_HOLDS >= MAX_HOLDS {
            return Err(Failure::refused(format!("{} holds stand, and hosts take {MAX_HOLDS}", known.holds()))
                .but("sign what is proposed, which drops who left, and lift their holds: lockdown lift ID"));
        }
        let document = made(lockdown(context, one)?)?;
        if dry {
            report.holds.push((one.clone(), document.id()));
            continue;
        }
        let envelope = context.key.sign(document)?;
        known.would_take(&envelope)?;
        context.server.post(&envelope)?;
        known.take(&envelope)?;
        let document = envelope.document().id();
        report.holds.push((one.clone(), document));
        memory.holds.insert(one.id.clone(), Held { document, person: one.person.clone(), lifted: false });
        memory.save(&context.state)?;
    }
    Ok(())
}

fn lockdown(context: &Context, one: &ToHold) -> Result<Lockdown, Failure> {
    let reason: Reason = one.reason.parse().map_err(|error: record::NameError| Failure::refused(error.to_string()))?;
    Ok(Lockdown {
        fingerprint: None,
        hold: true,
        hosts: None,
        issued_at: Moment::of(Timestamp::now()),
        organization: context.trust.organization.clone(),
        person: Some(one.person.clone()),
        reason,
        stack: document::ANY.parse().map_err(|error: record::NameError| Failure::refused(error.to_string()))?,
        kind: IsLockdown,
        v: V1,
    })
}

fn made(body: impl Into<Body>) -> Result<Document, Failure> {
    Document::new(body).map_err(|error| Failure::refused(format!("this cannot be written: {error}")))
}

fn propose(
    context: &Context,
    facts: &Facts<'_>,
    known: &mut Known,
    dry: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut roster = facts.roster.clone();
    if context.config.add == Add::Automatic {
        let people = plan::next_people(facts, Mode::Automatic, &mut Vec::new());
        if people != roster.people {
            report.automatic = Some(changes(&roster.people, &people));
            let next = next(&roster, people)?;
            if !dry {
                let envelope = context.key.sign(made(next.clone())?)?;
                known.would_take(&envelope)?;
                context.server.post(&envelope)?;
                known.take(&envelope)?;
            }
            roster = next;
        }
    }
    let mut notes = Vec::new();
    let facts = Facts { roster: &roster, ..*facts };
    let people = plan::next_people(&facts, Mode::Proposed, &mut notes);
    report.notes.extend(notes);
    let path = context.state.join(PROPOSAL);
    if people == roster.people {
        return if dry { Ok(()) } else { remove(&path) };
    }
    report.proposed = Some(changes(&roster.people, &people));
    let next = next(&roster, people)?;
    if !dry && !is_proposed(&path, &next) {
        let document = made(next)?;
        let envelope = Envelope::new(document, Vec::new()).map_err(|error| Failure::refused(error.to_string()))?;
        files::replace(&path, format!("{}\n", envelope.to_json()).as_bytes())?;
    }
    Ok(())
}

/// The roster after this one.
fn next(roster: &Roster, people: Vec<Member>) -> Result<Roster, Failure> {
    let version =
        Version::try_from(roster.version.number() + 1).map_err(|error| Failure::refused(error.to_string()))?;
    let issued_at = Moment::of(Timestamp::now());
    Ok(Roster { people, version, issued_at, kind: IsRoster, ..roster.clone() })
}

/// Whether the same is proposed already.
fn is_proposed(path: &Path, next: &Roster) -> bool {
    let bytes = files::read(path, document::MAX_ROSTER_ENVELOPE).ok();
    let before = bytes.and_then(|bytes| Envelope::parse(&bytes).ok());
    before.is_some_and(|before| match before.document().body() {
        Body::Roster(roster) => Roster { issued_at: next.issued_at, ..(**roster).clone() } == *next,
        _ => false,
    })
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::refused(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Who is new, changed or dropped, in lines.
fn changes(before: &[Member], after: &[Member]) -> Vec<String> {
    let find = |all: &[Member], one: &Member| all.iter().find(|other| other.name == one.name).cloned();
    let mut lines = Vec::new();
    for one in after {
        match find(before, one) {
            None => lines.push(format!("+ {}: {}", one.name, in_short(one))),
            Some(old) if old != *one => lines.push(format!("~ {}: {}", one.name, in_short(one))),
            Some(_) => {}
        }
    }
    lines.extend(before.iter().filter(|one| find(after, one).is_none()).map(|one| format!("- {}", one.name)));
    lines
}

fn in_short(member: &Member) -> String {
    let user = member.iam.as_ref().map(|user| format!("in IAM {} ({}), ", user.name, user.id)).unwrap_or_default();
    let accounts: Vec<String> = member
        .accounts
        .iter()
        .map(|(stack, accounts)| {
            let names: Vec<&str> = accounts.iter().map(|account| account.as_str()).collect();
            format!("{stack} {}", names.join(" "))
        })
        .collect();
    format!("{user}{} keys; {}", member.keys.len(), accounts.join(", "))
}

/// What a hold is called in a line.
pub(crate) fn held_line(one: &ToHold, id: &Id) -> String {
    format!("{}: {}; {id}", one.person, one.reason)
}
