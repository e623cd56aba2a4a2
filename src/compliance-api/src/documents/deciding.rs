//! What becomes of a document that was posted. It reads alone: a server that answers "no" writes nothing.

use std::collections::BTreeSet;

use document::{
    Accepted, Body, Envelope, Grant, Id, Judge, Judged, Kind, Moment, Namespace, Refusal, Signer, StackPattern,
    Verdict, Wait, Who, different_people,
    judge::{CLOCK_SKEW, LOCKDOWN_REFUSES, REVOKE_KEPT, SaidBefore},
    signature,
};
use record::Fingerprint;
use serde::{Deserialize, Serialize};

use super::judging::{Draft, Judges, every, has_left, named_by, parse};
use crate::{
    store::{Error, Tx, documents::Document},
    verdict::{Verdict as Problem, Why},
};

/// The most grants that wait for approvals.
pub const MAX_PENDING: u64 = 1_024;
/// The most of them for one person.
pub const MAX_PENDING_EACH: u64 = 10;
/// How long a lift, and the lockdown that it lifts, are handed to hosts that begin.
const LIFT_KEPT: std::time::Duration = REVOKE_KEPT;

/// What was judged about a document, as it is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// How many different people's signatures count.
    pub(super) has: usize,
    /// How many have to.
    pub(super) needs: usize,
    /// Who they are.
    pub(super) approvers: Vec<String>,
    /// Whether the person asked for it.
    pub(super) asked: bool,
    /// Everybody known who signed it.
    pub(super) signers: Vec<Signer>,
    /// Another document that had said the same before: this one changed nothing, and is in no feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) same_as: Option<Id>,
}

/// What becomes of a document.
#[derive(Debug)]
pub(super) struct Decision {
    /// It, as it is to be kept.
    pub(super) document: Document,
    /// The same for programs.
    pub(super) facts: Facts,
    /// In which feeds it is then, or, of one that waits, would be.
    pub(super) stacks: Vec<String>,
    /// The feeds that it joins.
    pub(super) drafts: Vec<Draft>,
    /// Whether anything of this is new.
    pub(super) changes: bool,
    /// Whether nothing was known of it.
    pub(super) is_new: bool,
}

/// Either it is taken, or refused.
pub(super) type Decided = Result<Decision, Problem>;

/// Decides what becomes of it.
pub(super) fn decide(tx: &mut dyn Tx, judges: &Judges, posted: &Envelope) -> Result<Decided, Error> {
    let document = posted.document();
    let known = tx.document(document.id())?;
    if let Some(published) = known.as_ref().filter(|known| !known.pending) {
        let decision = as_it_is(tx, published)?;
        // In no feed: it was there before the feeds began anew.
        if !decision.stacks.is_empty() || tx.document_feeds(document.id())?.len() == 1 {
            return Ok(Ok(decision));
        }
    }
    let known = known.filter(|known| known.pending);
    match document.body() {
        Body::Grant(grant) => decide_grant(tx, judges, posted, grant, known.as_ref()),
        Body::Session(_) | Body::Feed(_) | Body::Run(_) => Ok(Err(refused(&Refusal::NotForHosts(document.kind())))),
        Body::Roster(_) | Body::Revoke(_) | Body::Lockdown(_) | Body::Lift(_) => {
            match targets(tx, judges, document.body())? {
                Ok(stacks) => decide_in(tx, judges, posted, &stacks),
                Err(problem) => Ok(Err(problem)),
            }
        }
    }
}

/// A document that is kept already, unchanged.
pub(super) fn as_it_is(tx: &mut dyn Tx, document: &Document) -> Result<Decision, Error> {
    let facts = facts_of(document)?;
    let stacks = match (&document.stack, document.pending) {
        (Some(stack), true) => vec![stack.clone()],
        _ => {
            let feeds = tx.document_feeds(facts.same_as.unwrap_or(document.id))?;
            feeds.into_iter().filter(|stack| stack != document::ANY).collect()
        }
    };
    Ok(Decision { document: document.clone(), facts, stacks, drafts: Vec::new(), changes: false, is_new: false })
}

/// What was judged about a document that is kept.
pub(super) fn facts_of(document: &Document) -> Result<Facts, Error> {
    serde_json::from_str(&document.facts)
        .map_err(|why| Error::Unsound(format!("what was judged of document {}: {why}", document.id)))
}

/// The feeds in which a document may belong.
fn targets(tx: &mut dyn Tx, judges: &Judges, body: &Body) -> Result<Result<Vec<StackPattern>, Problem>, Error> {
    let everywhere = |tx: &mut dyn Tx, named| {
        judges.stacks_and(tx, named).map(|stacks| std::iter::once(every()).chain(stacks).collect::<Vec<_>>())
    };
    let of = |tx: &mut dyn Tx, stack: &StackPattern| {
        if !stack.is_any() {
            return Ok(vec![stack.clone()]);
        }
        let known = judges.stacks(tx)?;
        everywhere(tx, known)
    };
    Ok(Ok(match body {
        Body::Roster(roster) => everywhere(tx, named_by(roster).collect())?,
        Body::Lockdown(lockdown) => of(tx, &lockdown.stack)?,
        Body::Revoke(revoke) => match stack_of(tx, revoke.grant, Kind::Grant)? {
            Some(stack) => vec![stack],
            // Nobody says where an unknown grant is for: each stack whose approver signed this is told.
            None => judges.stacks(tx)?,
        },
        Body::Lift(lift) => match stack_of(tx, lift.lockdown, Kind::Lockdown)? {
            Some(stack) => of(tx, &stack)?,
            None => return Ok(Err(waits(&Wait::LockdownUnknown(lift.lockdown)))),
        },
        Body::Grant(_) | Body::Session(_) | Body::Feed(_) | Body::Run(_) => Vec::new(),
    }))
}

fn stack_of(tx: &mut dyn Tx, id: Id, kind: Kind) -> Result<Option<StackPattern>, Error> {
    let found = tx.document(id)?.filter(|found| found.kind == kind);
    Ok(found.and_then(|found| found.stack).and_then(|stack| stack.parse().ok()))
}

/// Has the judge of each of these stacks decide. It is taken where one takes it.
fn decide_in(tx: &mut dyn Tx, judges: &Judges, posted: &Envelope, stacks: &[StackPattern]) -> Result<Decided, Error> {
    let mut drafts = Vec::new();
    let (mut within, mut signers, mut problem): (Vec<String>, Vec<Signer>, Option<Problem>) = Default::default();
    let mut same_as = said_before(tx, posted.document().body())?;
    let revoked = same_as.filter(|_| posted.document().kind() == Kind::Revoke);
    let revoked = revoked.map(|id| tx.document(id)).transpose()?.flatten();
    let revoked = revoked.map(|document| parse(&document.envelope)).transpose()?;
    for stack in stacks {
        let draft = judges.open(tx, stack)?;
        let (judged_signers, here) = decide_here(tx, draft, posted, revoked.as_ref())?;
        let is_base = stack.is_any();
        match here {
            Here::Joins(draft) => drafts.push(*draft),
            Here::Said(by) => same_as = same_as.or(by),
            Here::Not(why) => {
                problem.get_or_insert(why);
                // What every stack's judge does not take, none does.
                if is_base {
                    break;
                }
                continue;
            }
            Here::Nowhere(why) => return Ok(Err(why)),
        }
        signers = judged_signers;
        if !is_base {
            within.push(stack.as_str().to_owned());
        }
    }
    let mut facts = facts_by(judges, posted, signers);
    if drafts.is_empty() {
        facts.same_as = same_as.filter(|_| !within.is_empty());
        if facts.same_as.is_none() {
            return Ok(Err(problem.unwrap_or_else(|| waits(&Wait::NoRoster))));
        }
    }
    let document = kept(tx, &only_known(posted, &facts.signers), &facts, false)?;
    Ok(Ok(Decision { document, facts, stacks: within, drafts, changes: true, is_new: true }))
}

/// What one feed makes of a document.
enum Here {
    /// It joins the feed.
    Joins(Box<Draft>),
    /// The feed has it, or another that says the same.
    Said(Option<Id>),
    /// It is not for this feed.
    Not(Problem),
    /// It is for none.
    Nowhere(Problem),
}

/// Has the judge of one feed decide. `revoked`: what had revoked the same grant before.
fn decide_here(
    tx: &mut dyn Tx,
    mut draft: Draft,
    posted: &Envelope,
    revoked: Option<&Envelope>,
) -> Result<(Vec<Signer>, Here), Error> {
    let now = Moment::of(tx.now());
    let names_holds = match posted.document().body() {
        Body::Roster(roster) if draft.lacks_holds(posted, roster, now) => Some(roster),
        _ => None,
    };
    if let Some(roster) = names_holds
        && let Some(missing) = draft.bring_holds(tx, roster, now)?
    {
        return Ok((Vec::new(), Here::Nowhere(waits(&Wait::HoldUnknown(missing)))));
    }
    let is_hold = matches!(posted.document().body(), Body::Lockdown(lockdown) if lockdown.hold);
    let known = is_hold.then(|| draft.standing.judge.clone());
    let judged = draft.judge(posted, now);
    if let (Some(roster), Verdict::Accepted(_)) = (names_holds, &judged.verdict) {
        // Of those whose signer has left, the roster itself says that they stand.
        draft.bring_holds(tx, roster, now)?;
    }
    let again = match (posted.document().body(), &judged.verdict, known) {
        (Body::Lockdown(lockdown), Verdict::Accepted(_), Some(known)) => known.said_before(lockdown, &judged.signers),
        _ => None,
    };
    let here = match (&judged.verdict, again) {
        // A feeder's key alone fills no feed: it holds somebody once.
        (Verdict::Accepted(_), Some(SaidBefore::By(id))) => Here::Said(Some(id)),
        (Verdict::Accepted(_), Some(SaidBefore::ByTooMany)) => Here::Nowhere(full_of_holds()),
        (Verdict::Accepted(_), None) => Here::Joins(Box::new(draft)),
        // Who had revoked it has left since, and hosts that were away then take it from nobody but who says it again.
        (Verdict::Known, _) if revoked.is_some_and(|revoked| has_left(tx, &draft.standing, revoked)) => {
            draft.join(judged.id);
            Here::Joins(Box::new(draft))
        }
        (Verdict::Known, _) => Here::Said(None),
        (Verdict::Waits(wait), _) => Here::Not(waits(wait)),
        (Verdict::Refused(refusal), _) => Here::Not(refused(refusal)),
    };
    Ok((judged.signers, here))
}

fn full_of_holds() -> Problem {
    let detail = "more holds of this feeder stand than are kept, so that all of its people are held already; an approver's holds are \
                  taken, and a roster by the threshold ends it";
    Problem::new(Why::Refused, detail).word("full")
}

/// The document that had revoked this grant, or lifted this lockdown, before.
fn said_before(tx: &mut dyn Tx, body: &Body) -> Result<Option<Id>, Error> {
    match body {
        Body::Revoke(revoke) => tx.document_about(Kind::Revoke, revoke.grant),
        Body::Lift(lift) => tx.document_about(Kind::Lift, lift.lockdown),
        _ => Ok(None),
    }
}

/// The envelope with one signature of each who signed it, and no other: what others put in is not handed on.
fn only_known(envelope: &Envelope, signers: &[Signer]) -> Envelope {
    let document = envelope.document();
    let mut left: BTreeSet<&Fingerprint> = signers.iter().map(|signer| &signer.fingerprint).collect();
    let holds = |armored: &&String| {
        let read = signature::read(armored).ok().filter(|read| left.contains(read.fingerprint()));
        let valid = read.and_then(|read| read.verify(document.namespace(), document.line()).ok());
        valid.is_some_and(|valid| left.remove(&valid.fingerprint))
    };
    let signatures = envelope.signatures().iter().filter(holds).cloned().collect();
    Envelope::new(document.clone(), signatures).unwrap_or_else(|_| envelope.clone())
}

/// What counts of a document that closes, or of a roster, which was taken.
fn facts_by(judges: &Judges, posted: &Envelope, signers: Vec<Signer>) -> Facts {
    let by_role =
        |wanted: fn(&Who) -> bool| signers.iter().filter(move |signer| wanted(&signer.who)).collect::<Vec<_>>();
    let counted = match posted.document().kind() {
        Kind::Roster => by_role(|who| matches!(who, Who::RosterKey(_))),
        _ => by_role(|who| matches!(who, Who::RosterKey(_) | Who::Approver(_))),
    };
    let has = different_people(counted.iter().copied());
    let needs = match posted.document().kind() {
        Kind::Roster => judges.settings().threshold(),
        _ => 1,
    };
    Facts { has, needs: needs.min(has.max(1)), approvers: names(&counted), asked: false, signers, same_as: None }
}

fn names(signers: &[&Signer]) -> Vec<String> {
    let people: BTreeSet<_> = signers.iter().filter_map(|signer| signer.who.person()).collect();
    people.into_iter().map(|person| person.as_str().to_owned()).collect()
}

fn decide_grant(
    tx: &mut dyn Tx,
    judges: &Judges,
    posted: &Envelope,
    grant: &Grant,
    known: Option<&Document>,
) -> Result<Decided, Error> {
    let stack = StackPattern::from(&grant.stack);
    let Some(base) = judges.of(tx, &every())? else { return Ok(Err(waits(&Wait::NoRoster))) };
    if base.judge.roster().is_some() && counted(&base.judge, posted, grant).is_empty() {
        let detail = "nobody whom the roster knows has signed it: it takes an approver's signature, or that of the person \
                      it is for in the namespace ssh-access-request";
        return Ok(Err(Problem::new(Why::Refused, detail).word("approvals")));
    }
    if let Some(problem) = unknown_stack(tx, judges, &stack)? {
        return Ok(Err(problem));
    }
    let mut draft = judges.open(tx, &stack)?;
    let before = draft.standing.judge.clone();
    let now = Moment::of(tx.now());
    let held = known.map(|known| parse(&known.envelope)).transpose()?;
    let merged = merge(&before, held.as_ref(), posted, grant);
    let asked = before.judge_request(&merged, now).is_ok();
    let Judged { signers, verdict, .. } = draft.judge(&merged, now);
    let (has, needs, approvers) = match verdict {
        Verdict::Waits(wait) => return Ok(Err(waits(&wait))),
        Verdict::Accepted(Accepted::Grant(terms)) => {
            let approvers: Vec<&Signer> = terms.approvers.iter().collect();
            let (has, needs, approvers) =
                (different_people(approvers.iter().copied()), terms.needed, names(&approvers));
            let facts = Facts { has, needs, approvers, asked, signers, same_as: None };
            let document = kept(tx, &merged, &facts, false)?;
            let stacks = vec![stack.as_str().to_owned()];
            return Ok(Ok(Decision {
                document,
                facts,
                stacks,
                drafts: vec![draft],
                changes: true,
                is_new: known.is_none(),
            }));
        }
        Verdict::Refused(Refusal::Approvals { counted, needed, ref by, .. }) if counted > 0 || asked => {
            (counted, needed, by.iter().map(|person| person.as_str().to_owned()).collect())
        }
        Verdict::Refused(refusal) => return Ok(Err(refused(&refusal))),
        Verdict::Accepted(_) | Verdict::Known => {
            let id = posted.document().id();
            return Err(Error::Unsound(format!("a grant {id} that was accepted and is not kept")));
        }
    };
    let changes = held.as_ref() != Some(&merged);
    if known.is_none()
        && let Some(problem) = too_many(tx, grant)?
    {
        return Ok(Err(problem));
    }
    let facts = Facts { has, needs, approvers, asked, signers, same_as: None };
    let document = kept(tx, &merged, &facts, true)?;
    Ok(Ok(Decision {
        document,
        facts,
        stacks: vec![stack.as_str().to_owned()],
        drafts: Vec::new(),
        changes,
        is_new: known.is_none(),
    }))
}

/// A stack that no host is in and no roster names is a typing error.
fn unknown_stack(tx: &mut dyn Tx, judges: &Judges, stack: &StackPattern) -> Result<Option<Problem>, Error> {
    const LISTED: usize = 16;
    if tx.feed_version(stack)?.is_some() {
        return Ok(None);
    }
    let known = judges.stacks(tx)?;
    if known.contains(stack) {
        return Ok(None);
    }
    let some: Vec<&str> = known.iter().take(LISTED).map(StackPattern::as_str).collect();
    let known = if some.is_empty() { "none is".to_owned() } else { format!("known are {}", some.join(", ")) };
    let detail = format!("no host is in the stack {stack}, and the roster does not name it; {known}");
    Ok(Some(Problem::new(Why::Refused, detail).word("stack")))
}

fn too_many(tx: &mut dyn Tx, grant: &Grant) -> Result<Option<Problem>, Error> {
    let (all, theirs) = tx.count_pending(&grant.person)?;
    let detail = match (all >= MAX_PENDING, theirs >= MAX_PENDING_EACH) {
        (_, true) => format!("{theirs} grants for {} wait for approvals: approve or deny some first", grant.person),
        (true, _) => format!("{all} grants wait for approvals: approve or deny some first"),
        _ => return Ok(None),
    };
    Ok(Some(Problem::new(Why::Refused, detail).word("full")))
}

/// The signatures of both that count, each key's once: whoever posts others does not crowd these out.
fn merge(judge: &Judge, held: Option<&Envelope>, posted: &Envelope, grant: &Grant) -> Envelope {
    let mut seen = BTreeSet::new();
    let all = held.into_iter().chain([posted]);
    let counted = all.flat_map(|envelope| counted(judge, envelope, grant));
    let (mut approvals, mut requests) = (Vec::new(), Vec::new());
    for (namespace, fingerprint, armored) in counted {
        if seen.insert((namespace, fingerprint)) {
            if namespace == Namespace::Request { &mut requests } else { &mut approvals }.push(armored);
        }
    }
    approvals.extend(requests);
    approvals.truncate(document::MAX_SIGNATURES);
    let document = posted.document().clone();
    Envelope::new(document, approvals).unwrap_or_else(|_| held.unwrap_or(posted).clone())
}

/// The signatures of an envelope by who may approve, and by who asks.
fn counted(judge: &Judge, envelope: &Envelope, grant: &Grant) -> Vec<(Namespace, Fingerprint, String)> {
    let line = envelope.document().line();
    let Some(roster) = judge.roster() else { return Vec::new() };
    let denied = &judge.settings().deny_keys;
    let approves = |key: &Fingerprint| {
        let mut approvers = roster.approvers.iter().flat_map(|approver| &approver.keys);
        approvers.any(|approver| approver.fingerprint() == key)
    };
    let asks = |key: &Fingerprint| {
        let person = roster.people.iter().find(|member| document::roster::same_person(&member.name, &grant.person));
        person.is_some_and(|member| member.keys.iter().any(|own| own.fingerprint() == key))
    };
    let mut found = Vec::new();
    for armored in envelope.signatures() {
        let Ok(read) = signature::read(armored) else { continue };
        let key = read.fingerprint().clone();
        let namespace = match (approves(&key), asks(&key)) {
            _ if denied.contains(&key) => continue,
            (true, _) => Namespace::Of(Kind::Grant),
            (_, true) => Namespace::Request,
            _ => continue,
        };
        if read.verify(namespace, line).is_ok() {
            found.push((namespace, key, armored.clone()));
        }
    }
    found
}

/// The document as it is to be kept: with the signatures of those whom somebody here knows.
fn kept(tx: &mut dyn Tx, envelope: &Envelope, facts: &Facts, pending: bool) -> Result<Document, Error> {
    let document = envelope.document();
    let now = tx.now();
    let after = |time| Some(Moment::of(now).after(time).timestamp());
    let (stack, person, about, matters) = match document.body() {
        Body::Grant(grant) => {
            let last = grant.accept_until.after(CLOCK_SKEW).min(grant.expires_at);
            let person = grant.person.as_str().to_owned();
            (Some(grant.stack.as_str().to_owned()), Some(person), None, Some(last.timestamp()))
        }
        Body::Revoke(revoke) => (None, None, Some(revoke.grant), after(REVOKE_KEPT)),
        Body::Lockdown(lockdown) => {
            let matters = if lockdown.hold { None } else { after(LOCKDOWN_REFUSES) };
            (Some(lockdown.stack.as_str().to_owned()), None, None, matters)
        }
        Body::Lift(lift) => (None, None, Some(lift.lockdown), after(LIFT_KEPT)),
        Body::Roster(_) | Body::Session(_) | Body::Feed(_) | Body::Run(_) => (None, None, None, None),
    };
    let facts = serde_json::to_string(facts)
        .map_err(|why| Error::Unsound(format!("what was judged cannot be written: {why}")))?;
    Ok(Document {
        id: document.id(),
        kind: document.kind(),
        pending,
        stack,
        person,
        about,
        received: now,
        matters,
        facts,
        envelope: envelope.to_json(),
    })
}

/// 422, in the judge's words.
pub(super) fn refused(refusal: &Refusal) -> Problem {
    Problem::new(Why::Refused, refusal.to_string()).word(refusal.word())
}

/// 409, in the judge's words.
pub(super) fn waits(wait: &Wait) -> Problem {
    Problem::new(Why::Waits, wait.to_string()).word(wait.word())
}
