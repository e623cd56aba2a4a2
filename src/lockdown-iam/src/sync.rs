//! One run: IAM is looked at, who left is held, and who is new or changed is proposed.

use std::{collections::BTreeSet, fs::File, path::Path};

use document::{
    Body, Document, Envelope, IamUser, Id, IsLockdown, IsRoster, IsRun, Lockdown, MAX_HOLDS, Member, Moment, Reason,
    Roster, Run, V1, Version,
};
use jiff::Timestamp;
use record::Person;
use rustix::fs::{FlockOperation, flock};

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
/// Held by the run that goes on.
const LOCK: &str = "lock";
/// The most holds of one run.
const MOST_HOLDS: usize = document::MAX_RUN_HOLDS;
/// How many holds have to be free on the hosts: more than they take hold everybody.
const FREE_HOLDS: usize = 100;

/// What is said of a run that failed without words.
const FAILED: &str = "it has failed";

/// One run, of which the server is told. What was found is in the report also where something could not be done.
pub(crate) fn run(context: &Context, dry: bool, report: &mut Report) -> Result<(), Failure> {
    if dry {
        return once(context, dry, report);
    }
    // Two at a time would both hold the same people.
    let _alone = alone(&context.state)?;
    let done = once(context, dry, report);
    if let Err(failure) = tell(context, report, done.as_ref().err()) {
        report.notes.push(format!("the server was not told of this run: {}", failure.message()));
    }
    done
}

/// Tells the server what came of a run: one that is not told for too long is an incident there.
fn tell(context: &Context, report: &Report, failed: Option<&Failure>) -> Result<(), Failure> {
    let run = Run {
        automatic: report.signed,
        failed: failed.map(|failure| reason(failure.message())),
        holds: report.holds.iter().map(|(_, id)| *id).collect(),
        issued_at: Moment::of(Timestamp::now()),
        organization: context.trust.organization.clone(),
        proposed: report.proposed.as_ref().map_or(0, Vec::len) as u64,
        source: context.config.source.clone(),
        kind: IsRun,
        users: report.users as u64,
        v: V1,
    };
    context.server.tell(&context.key.sign(made(run)?)?)
}

/// Words that somebody else may have chosen, as far as a document takes them.
fn reason(words: &str) -> Reason {
    let mut room = document::MAX_REASON;
    let shown = words.chars().map(|c| if record::is_plain(c) { c } else { '?' });
    let fitting = shown.map_while(|c| {
        room = room.checked_sub(c.len_utf8())?;
        Some(c)
    });
    let said = fitting.collect::<String>().parse().ok();
    said.unwrap_or_else(|| FAILED.parse().expect("three words are a reason"))
}

fn once(context: &Context, dry: bool, report: &mut Report) -> Result<(), Failure> {
    let mut memory = Memory::load(&context.state)?;
    let mut known = context.known(!dry)?;
    let expected: Vec<Expected> = expected(context, known.roster()?);
    let mut calls = Calls::new();
    let reading = look(context, &expected, &mut memory, &mut calls, report);
    report.calls = calls;
    let mut reading = reading?;
    report.notes.append(&mut reading.notes);
    let candidates = people::candidates(&context.config, &reading, &mut report.notes);
    let lifted = known.lifted();
    memory.holds.values_mut().filter(|held| lifted.contains(&held.document)).for_each(|held| held.lifted = true);
    let (judge, standing) = (known.judge(), known.standing());
    let facts = Facts {
        roster: judge.roster().unwrap_or(known.roster()?),
        trust: &context.trust,
        source: &context.config.source,
        candidates: &candidates,
        gone: &reading.gone,
        memory: &memory,
        standing: &standing,
        now: Moment::of(Timestamp::now()),
    };
    let mut plan = plan::plan(&facts);
    report.notes.append(&mut plan.notes);
    let rosters = rosters(context, &facts, report)?;
    drop((candidates, judge));
    remember(&mut memory, reading, &plan, &expected);
    if !dry {
        memory.save(&context.state)?;
    }
    let held = hold(context, &plan, &mut known, &mut memory, dry, report);
    let proposed = if dry { Ok(()) } else { put(context, rosters, &mut known, report) };
    held.and(proposed)
}

/// Waits for no other run: there is one each minute.
fn alone(state: &Path) -> Result<File, Failure> {
    let path = state.join(LOCK);
    let failed = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let file = File::create(&path).map_err(|error| failed(error.to_string()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(error) => Err(failed(format!("another run goes on: {error}"))),
    }
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
    memory: &mut Memory,
    calls: &mut Calls,
    report: &mut Report,
) -> Result<Reading, Failure> {
    let accounts = context.accounts(calls)?;
    let reading = reading::read(&context.config, &accounts, expected, memory, calls)?;
    report.users = reading.users.len();
    Ok(reading)
}

fn remember(memory: &mut Memory, reading: Reading, plan: &Plan, expected: &[Expected]) {
    memory.runs += 1;
    memory.groups = reading.groups;
    let kept: BTreeSet<&str> = expected.iter().map(|one| one.id.as_str()).collect();
    memory.users.retain(|id, _| kept.contains(id.as_str()));
    memory.users.extend(reading.users);
    memory.absent = plan.absent.clone();
    memory.holds.retain(|id, _| kept.contains(id.as_str()) && !plan.fine.contains(id));
}

/// Holds who is to be held. What goes wrong with one keeps nobody else from being held.
fn hold(
    context: &Context,
    plan: &Plan,
    known: &mut Known,
    memory: &mut Memory,
    dry: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    if plan.holds.len() > MOST_HOLDS {
        report.notes.push(format!("{} are to be held: {MOST_HOLDS} are in a run", plan.holds.len()));
    }
    let mut done = Ok(());
    for one in plan.holds.iter().take(MOST_HOLDS) {
        match hold_one(context, one, known, dry) {
            Ok(document) => {
                report.holds.push((one.clone(), document));
                if !dry {
                    let held = Held { document, person: one.person.clone(), lifted: false };
                    memory.holds.insert(one.id.clone(), held);
                    memory.save(&context.state)?;
                }
            }
            Err(failure) => {
                report.notes.push(format!("not held: {}: {}", one.person, failure.message()));
                done = done.and(Err(failure));
            }
        }
    }
    done
}

fn hold_one(context: &Context, one: &ToHold, known: &mut Known, dry: bool) -> Result<Id, Failure> {
    if known.holds() + FREE_HOLDS >= MAX_HOLDS {
        return Err(Failure::refused(format!("{} holds stand, and hosts take {MAX_HOLDS}", known.holds()))
            .but("sign what is proposed, which drops who left, and lift their holds: lockdown lift ID"));
    }
    let document = made(lockdown(context, one)?)?;
    if dry {
        return Ok(document.id());
    }
    let envelope = context.key.sign(document)?;
    known.would_take(&envelope)?;
    context.server.post(&envelope)?;
    known.take(&envelope)?;
    let id = envelope.document().id();
    if known.standing().values().any(|standing| *standing == id) {
        return Ok(id);
    }
    // The same words of the same second are the same document.
    Err(Failure::refused("a hold of this very second was lifted already: the next run signs another one"))
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

/// The rosters that follow: what the feeder's own key signs, and what people would.
struct Rosters {
    automatic: Option<Roster>,
    proposed: Option<Roster>,
}

fn rosters(context: &Context, facts: &Facts<'_>, report: &mut Report) -> Result<Rosters, Failure> {
    let mut automatic = None;
    if context.config.add == Add::Automatic {
        let people = plan::next_people(facts, Mode::Automatic, &mut Vec::new());
        if people != facts.roster.people {
            report.automatic = Some(changes(&facts.roster.people, &people));
            automatic = Some(next(facts.roster, people)?);
        }
    }
    let roster = automatic.as_ref().unwrap_or(facts.roster);
    let people = plan::next_people(&Facts { roster, ..*facts }, Mode::Proposed, &mut report.notes);
    if people == roster.people {
        return Ok(Rosters { automatic, proposed: None });
    }
    report.proposed = Some(changes(&roster.people, &people));
    let proposed = Some(next(roster, people)?);
    Ok(Rosters { automatic, proposed })
}

fn put(context: &Context, rosters: Rosters, known: &mut Known, report: &mut Report) -> Result<(), Failure> {
    if let Some(roster) = rosters.automatic {
        let version = roster.version;
        let envelope = context.key.sign(made(roster)?)?;
        known.would_take(&envelope)?;
        context.server.post(&envelope)?;
        known.take(&envelope)?;
        report.signed = Some(version);
    }
    let path = context.state.join(PROPOSAL);
    match rosters.proposed {
        None => remove(&path),
        Some(next) if is_proposed(&path, &next) => Ok(()),
        Some(next) => {
            let envelope = Envelope::new(made(next)?, Vec::new());
            let envelope = envelope.map_err(|error| Failure::refused(error.to_string()))?;
            files::replace(&path, format!("{}\n", envelope.to_json()).as_bytes())
        }
    }
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
    let mut lines = Vec::new();
    for one in after {
        match named(before, &one.name) {
            None => lines.push(format!("+ {}: {}", one.name, in_short(one))),
            Some(old) if old != one => lines.push(format!("~ {}: {}", one.name, in_short(one))),
            Some(_) => {}
        }
    }
    lines.extend(before.iter().filter(|one| named(after, &one.name).is_none()).map(|one| format!("- {}", one.name)));
    lines
}

/// The entry of this name; they are sorted by it.
fn named<'a>(people: &'a [Member], name: &Person) -> Option<&'a Member> {
    let at = people.binary_search_by(|member| member.name.as_str().cmp(name.as_str())).ok()?;
    people.get(at)
}

fn in_short(member: &Member) -> String {
    let of_iam = |user: &IamUser| {
        let arn = user.arn.as_ref().map(|arn| format!(", {arn}")).unwrap_or_default();
        format!("in IAM {} ({}{arn}), ", user.name, user.id)
    };
    let user = member.iam.as_ref().map(of_iam).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_fits_a_document_whoever_chose_the_words() {
        assert_eq!(reason("no answer\u{202e}\n\\").as_str(), "no answer???");
        assert_eq!(reason(&"é".repeat(400)).as_str().len(), document::MAX_REASON);
        assert_eq!(reason("").as_str(), FAILED);
    }
}
