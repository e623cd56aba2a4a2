//! Putting a judged batch of a host into the store, inside the writer's transaction: what is new and follows is stored,
//! what is there already is accepted, what contradicts it is kept apart.
//!
//! It never takes a record that does not follow the stored head, and never changes one that is stored.

use crate::evidence::SourceKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use super::{
    answer::Outcome,
    batch::{Batch, Enrol, Pruned, Refusal, Row},
    heard,
    host::UNNAMED_STACK,
    verify,
};
use crate::{
    incidents::{Incident, Kind},
    moment::is_clock_off,
    noting,
    own_ledger::{self, By, Word},
    store::{
        Error, Tx,
        ledgers::{self, Artifact, CLOCK_OFF, Ledger, UNKNOWN_TYPE},
    },
    verdict::{Verdict, Why},
};

/// Stores what can be stored of it; none when it has to be judged again, because the ledger was enrolled or its key rotated
/// since it was judged.
///
/// # Errors
/// SQLite's; then nothing is.
pub(super) fn settle(tx: &mut dyn Tx, batch: &Batch) -> Result<Option<Outcome>, Error> {
    let found = tx.ledger(&batch.ledger)?;
    let judged_by = batch.enrol.is_none().then_some(batch.key_epoch);
    if found.as_ref().map(|ledger| ledger.key_epoch) != judged_by {
        return Ok(None);
    }
    take(tx, batch, found).map(Some)
}

fn take(tx: &mut dyn Tx, batch: &Batch, found: Option<Ledger>) -> Result<Outcome, Error> {
    let refusal = batch.refusal.clone().map(|r| r.about(&batch.ledger));
    if batch.rows.is_empty() {
        // Where a ledger stands is no matter of whoever showed no authentic record of it.
        return Ok(Outcome { accepted: 0, stored: 0, head: None, refusal });
    }
    let mut ledger = match (found, &batch.enrol) {
        (Some(ledger), _) => ledger,
        (None, Some(enrol)) => match begin(tx, batch, enrol)? {
            Ok(ledger) => ledger,
            Err(problem) => return Ok(refused(batch, 0, 0, None, problem)),
        },
        (None, None) => return Err(Error::Unsound("no ledger where one was just found".to_owned())),
    };
    let settled = rows(tx, batch, &mut ledger)?;
    // Anybody can send what was read on its way once: only what is new, in a ledger that counts, says that the host lives.
    if settled.stored > 0 && !ledger.pending {
        tx.end_incident(Kind::Silent, &ledger.name)?;
    }
    // What is beside the rows in the body, but was taken with them.
    let accepted = if settled.accepted > 0 { settled.accepted + batch.preface.len() } else { 0 };
    let refusal = match settled.problem {
        Some(problem) => return Ok(refused(batch, accepted, settled.stored, Some(ledger), problem)),
        None => refusal,
    };
    Ok(Outcome { accepted, stored: settled.stored, head: Some(ledger), refusal })
}

fn refused(batch: &Batch, accepted: usize, stored: usize, head: Option<Ledger>, problem: Verdict) -> Outcome {
    let row = batch.rows.get(accepted.saturating_sub(batch.preface.len()));
    let id = row.map(|row| format!("{}/{}", batch.ledger, row.seq));
    let index = if accepted == 0 { batch.preface.len() } else { accepted };
    Outcome { accepted, stored, head, refusal: Some(Refusal { index, id, problem }) }
}

/// How far one got with the rows.
struct Settled {
    accepted: usize,
    stored: usize,
    problem: Option<Verdict>,
}

fn rows(tx: &mut dyn Tx, batch: &Batch, ledger: &mut Ledger) -> Result<Settled, Error> {
    let mut at = 0;
    while let Some(row) = batch.rows.get(at).filter(|row| row.seq <= ledger.head_seq) {
        match tx.record_at(ledger.row, row.seq)? {
            Some(stored) if stored == row.bytes(&batch.body) => at += 1,
            Some(_) => return fork(tx, batch, ledger, at, 0),
            None => return Ok(Settled { accepted: at, stored: 0, problem: Some(pruned_long_ago(row)) }),
        }
    }
    let Some(next) = batch.rows.get(at) else { return Ok(Settled { accepted: at, stored: 0, problem: None }) };
    if next.seq > ledger.head_seq + 1 {
        if !covered(&batch.preface, ledger.head_seq, next) {
            return Ok(Settled { accepted: at, stored: 0, problem: Some(gap(ledger, next)) });
        }
        leap(tx, batch, ledger, next)?;
    }
    if next.prev != ledger.head_hash {
        return fork(tx, batch, ledger, at, 0);
    }
    let end = batch.fork.filter(|fork| *fork > at).unwrap_or(batch.rows.len());
    append(tx, batch, ledger, &batch.rows[at..end])?;
    if end < batch.rows.len() {
        return fork(tx, batch, ledger, end, end - at);
    }
    Ok(Settled { accepted: end, stored: end - at, problem: None })
}

/// The flag of a record with a time that no clock which is right can say.
pub(super) fn clock_flag(tx: &dyn Tx, time: Timestamp) -> u32 {
    if is_clock_off(time, tx.now(), tx.server().limits.clock_ahead) { CLOCK_OFF } else { 0 }
}

/// When the next sweep has to come, by this server's clock: as the record says, and no later than any schedule allows. Where
/// its clock is off, its promise holds from now on.
fn next_by(tx: &dyn Tx, row: &Row) -> Option<Timestamp> {
    let most = tx.now().saturating_add(tx.server().limits.next_by_ahead).unwrap_or(Timestamp::MAX);
    let promised = row.next_by?;
    if clock_flag(tx, row.time) == 0 {
        return Some(promised.min(most));
    }
    let from_now = promised.duration_since(row.time).max(SignedDuration::ZERO);
    Some(tx.now().saturating_add(from_now).unwrap_or(Timestamp::MAX).min(most))
}

fn append(tx: &mut dyn Tx, batch: &Batch, ledger: &mut Ledger, rows: &[Row]) -> Result<(), Error> {
    let now: &dyn Tx = tx;
    let flags = |row: &Row| clock_flag(now, row.time) | if row.known { 0 } else { UNKNOWN_TYPE };
    let artifact = |row| Artifact { next_by: next_by(now, row), ..row.artifact(&batch.body, flags(row)) };
    let artifacts: Vec<Artifact<'_>> = rows.iter().map(artifact).collect();
    ledgers::append(tx, ledger, &artifacts)?;
    for row in rows {
        if let Some(key) = row.next_key.as_ref().filter(|text| verify::signatory(text).is_some()) {
            tx.bind_key(ledger, row.seq + 1, key)?;
        }
    }
    if let Some(token) = rows.iter().rev().find_map(|row| row.feed_token) {
        tx.keep_feed_token(ledger, token)?;
    }
    for notice in rows.iter().flat_map(|row| &row.notices) {
        tx.notice(ledger, notice)?;
    }
    heard::compare(tx, batch, rows)?;
    let off = artifacts.iter().filter(|a| a.flags & CLOCK_OFF != 0);
    if let Some(last) = off.clone().next_back() {
        let incident = about(batch, Kind::ClockOff, &batch.host)
            .with("seq", last.seq)
            .with("time", last.time.to_string())
            .with("received", tx.now().to_string());
        noting::note(tx, &Incident { count: off.count() as u64, ..incident })?;
    }
    for row in artifacts.iter().filter(|a| a.flags & UNKNOWN_TYPE != 0) {
        noting::note(tx, &about(batch, Kind::UnknownType, row.word).with("seq", row.seq))?;
    }
    note_other_stack(tx, batch, ledger, &artifacts)
}

/// A token of one stack lets no host state records of another unseen: what is asked by stack would show them.
fn note_other_stack(tx: &mut dyn Tx, batch: &Batch, ledger: &Ledger, artifacts: &[Artifact<'_>]) -> Result<(), Error> {
    let Some(enrolled) = &ledger.token_stack else { return Ok(()) };
    let others = artifacts.iter().filter(|a| ![enrolled, UNNAMED_STACK].contains(&a.stack));
    let Some(last) = others.clone().next_back() else { return Ok(()) };
    let incident = about(batch, Kind::OtherStack, batch.ledger.as_str())
        .with("seq", last.seq)
        .with("stack", last.stack)
        .with("enrolled_by_stack", enrolled.as_str());
    noting::note(tx, &Incident { count: others.count() as u64, ..incident })
}

pub(super) fn about(batch: &Batch, kind: Kind, subject: &str) -> Incident {
    Incident::new(kind, subject).host(&batch.host).ledger(batch.ledger.as_str())
}

/// Keeps what is authentic and contradicts the store, from this row on, and says so.
fn fork(tx: &mut dyn Tx, batch: &Batch, ledger: &Ledger, at: usize, stored: usize) -> Result<Settled, Error> {
    let first = batch.rows[at].seq;
    for row in &batch.rows[at..] {
        let bytes = row.bytes(&batch.body);
        let same =
            row.seq <= ledger.head_seq && tx.record_at(ledger.row, row.seq)?.is_some_and(|stored| stored == bytes);
        if !same {
            tx.keep_fork(ledger, row.seq, row.hash, bytes)?;
        }
    }
    let incident = about(batch, Kind::Fork, batch.ledger.as_str())
        .with("first_seq", first)
        .with("head_seq", ledger.head_seq)
        .with("head_hash", ledger.head_hash.to_string());
    noting::note(tx, &incident)?;
    let detail = format!(
        "record {first} contradicts what is stored, which goes to {} and stands; it is kept apart. This ledger is at an \
         end: begin a new one",
        ledger.head_seq
    );
    let problem = Verdict::new(Why::Fork, detail);
    Ok(Settled { accepted: at, stored, problem: Some(problem) })
}

fn gap(ledger: &Ledger, next: &Row) -> Verdict {
    let detail = format!(
        "record {} cannot come after record {}, the last one stored: send from {} on, or first the ledger.pruned \
         records that account for what is missing",
        next.seq,
        ledger.head_seq,
        ledger.head_seq + 1
    );
    Verdict::new(Why::Gap, detail)
}

/// A record of a range that was passed over: what comes now would have no place in the chain.
fn pruned_long_ago(row: &Row) -> Verdict {
    let detail = format!(
        "record {} lies in a range that the host's ledger.pruned accounted for; it is passed over for good: go on after \
         the head",
        row.seq
    );
    Verdict::new(Why::Gap, detail)
}

/// Whether these `ledger.pruned` account for all from behind the head to before this row, which names the last one's hash.
fn covered(preface: &[Row], head: u64, next: &Row) -> bool {
    let ranges: Vec<Pruned> = preface.iter().filter_map(|row| row.pruned).collect();
    let last = next.seq - 1;
    let mut reached = head;
    while reached < last {
        let furthest = ranges.iter().filter(|r| r.first <= reached + 1 && r.last > reached).map(|r| r.last).max();
        match furthest {
            Some(furthest) => reached = furthest,
            None => return false,
        }
    }
    reached == last && ranges.iter().any(|r| r.last == last && r.last_hash == next.prev)
}

/// Moves the head over a range that will never come.
fn leap(tx: &mut dyn Tx, batch: &Batch, ledger: &mut Ledger, next: &Row) -> Result<(), Error> {
    let last = next.seq - 1;
    let accounts = batch.preface.iter().find(|row| row.pruned.is_some_and(|p| p.last == last));
    let bytes = accounts.map_or(&[][..], |row| row.bytes(&batch.body));
    tx.keep_gap(ledger, last, next.prev, bytes)?;
    let incident =
        about(batch, Kind::Pruned, batch.ledger.as_str()).with("first_seq", ledger.head_seq + 1).with("last_seq", last);
    noting::note(tx, &incident)?;
    (ledger.head_seq, ledger.head_hash) = (last, next.prev);
    Ok(())
}

/// Binds a new ledger to its key, by one use of the token. For a host that is known already it waits for an admin.
fn begin(tx: &mut dyn Tx, batch: &Batch, enrol: &Enrol) -> Result<Result<Ledger, Verdict>, Error> {
    if let Some(first) = batch.rows.first().filter(|r| r.seq > 1 && !covered(&batch.preface, 0, r)) {
        let nothing = json!({"ledger": batch.ledger.as_str(), "seq": 0, "hash": record::Hash::ZERO.to_string()});
        let detail = format!(
            "nothing of this ledger is stored, and record {} is not its first: send from 1 on, or first the ledger.pruned \
             records that account for what is missing",
            first.seq
        );
        return Ok(Err(Verdict::new(Why::Gap, detail).with("head", nothing)));
    }
    if !tx.use_token(&enrol.token)? {
        return Ok(Err(Verdict::bad_token(
            "this enrolment token has ended or has no use left; ask an admin for a new one",
        )));
    }
    let pending = tx.is_known_host(&batch.host)?;
    let mut ledger = tx.begin_ledger(SourceKind::Host, &batch.ledger, &batch.host, pending)?;
    tx.keep_token_stack(&mut ledger, &enrol.stack)?;
    tx.bind_key(&ledger, 1, &enrol.public_key)?;
    let mut detail = Map::new();
    for (name, value) in [
        ("ledger", batch.ledger.as_str()),
        ("host", &batch.host),
        ("stack", &batch.stack),
        ("fingerprint", &enrol.fingerprint),
        ("token", &enrol.token),
        ("enrolment", if pending { "pending" } else { "enrolled" }),
    ] {
        detail.insert(name.to_owned(), value.into());
    }
    let reason = if pending { "another ledger of a known host waits for approval" } else { "a host was enrolled" };
    own_ledger::state(tx, Word::LedgerEnrolled, &By::Server, reason, detail)?;
    if pending {
        let incident =
            about(batch, Kind::SecondLedger, batch.ledger.as_str()).with("fingerprint", enrol.fingerprint.as_str());
        noting::note(tx, &incident)?;
    }
    Ok(Ok(ledger))
}
