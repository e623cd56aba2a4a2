//! Artifacts of clients and people, whose chain this server keeps: it numbers them and links each to the one before by a
//! line of its own. For a client's the receipt over that chain is the only proof; a person's review carries a signature.
//!
//! The first under an id stands for ever.

use crate::evidence::SourceKind;
use std::ops::Range;

use axum::body::Bytes;
use jiff::Timestamp;
use record::{ArtifactType, Hash, Person};
use serde_json::{Map, Value};
use ssh_key::{HashAlg, PublicKey};

use super::{answer::Outcome, batch::Refusal, event::Event, json, settle::clock_flag};
use crate::{
    incidents::{Incident, Kind},
    noting, own_ledger,
    review::{self, Review, ReviewError},
    store::{
        Error, Tx,
        kept::Kept,
        ledgers::{Artifact, Ledger},
        micros,
        tokens::TokenRow,
    },
    token::{MAX_TYPE, Role, is_type},
    verdict::{Verdict, Why},
};

/// The longest id of an event, in bytes.
const MAX_ID: usize = 128;
/// First words of types that are the server's own or people's.
const RESERVED: &[&str] = &["review", "server", "token", "evidence", "incident", "reviewer"];

/// One artifact on its way into the store.
#[derive(Debug)]
pub(super) struct Statement {
    id: String,
    word: String,
    time: Option<Timestamp>,
    data: Range<usize>,
    found: json::Found,
    review: Option<Review>,
}

/// The artifacts of one client or person, judged.
#[derive(Debug)]
pub(super) struct Statements {
    body: Bytes,
    pub(super) kind: SourceKind,
    pub(super) name: String,
    /// The client's token.
    token: Option<String>,
    /// The keys that the person's reviews were judged by.
    keys: Vec<PublicKey>,
    all: Vec<Statement>,
    pub(super) refusal: Option<Refusal>,
}

impl Statements {
    fn source(&self) -> String {
        let root = if self.kind == SourceKind::Person { "people" } else { "clients" };
        format!("/{root}/{}", self.name)
    }
}

/// Judges a client's events.
///
/// # Errors
/// When none can be taken: no token, or another's name.
pub(super) fn client(body: &Bytes, events: &[Event<'_>], token: Option<&TokenRow>) -> Result<Statements, Verdict> {
    let token = token.ok_or_else(|| {
        Verdict::bad_token("posting under /clients/NAME takes a client token: `Authorization: Bearer ca_client_…`")
    })?;
    if token.role != Role::Client {
        let detail =
            format!("posting under /clients/NAME takes a token of role client; the one sent is of role {}", token.role);
        return Err(Verdict::new(Why::Role, detail));
    }
    let source = format!("/clients/{}", token.name);
    let judge = |event: &Event<'_>| {
        if event.source != source {
            let detail = format!("this token posts as {source}; `source` has to be that");
            return Err(Verdict::new(Why::Role, detail));
        }
        check_type(&event.kind, token)?;
        Ok((json::check(event.data).map_err(unprocessable)?, None))
    };
    let judged = each(body, events, SourceKind::Client, &token.name, judge);
    Ok(Statements { token: Some(token.id.clone()), ..judged })
}

/// Judges a person's reviews. The signature is the proof: no token is needed.
///
/// # Errors
/// A name that no person can have; SQLite's.
pub(super) fn person(tx: &mut dyn Tx, body: &Bytes, events: &[Event<'_>], name: &str) -> Result<Statements, Verdict> {
    let person: Person = name.parse().map_err(|e| unprocessable(format!("`source` names no person: {e}")))?;
    let keys = tx.reviewer_keys(&person)?;
    let source = format!("/people/{person}");
    let judge = |event: &Event<'_>| {
        if event.source != source || event.kind != review::TYPE {
            let detail = format!("under {source} there are events of type {} alone, one person a batch", review::TYPE);
            return Err(unprocessable(detail));
        }
        let mut found = json::check(event.data).map_err(unprocessable)?;
        let review =
            Review::parse_and_verify(event.data.as_bytes(), &person, &keys, Timestamp::now()).map_err(|e| {
                let forged = matches!(e, ReviewError::NotAuthentic { .. });
                Verdict::new(if forged { Why::NotAuthentic } else { Why::MalformedReview }, e.to_string())
            })?;
        found.fingerprint = Some(review.key.fingerprint(HashAlg::Sha256).to_string());
        Ok((found, Some(review)))
    };
    let judged = each(body, events, SourceKind::Person, person.as_str(), judge);
    Ok(Statements { keys, ..judged })
}

/// Judges event after event until one does not pass.
fn each(
    body: &Bytes,
    events: &[Event<'_>],
    kind: SourceKind,
    name: &str,
    judge: impl Fn(&Event<'_>) -> Result<(json::Found, Option<Review>), Verdict>,
) -> Statements {
    let mut all = Vec::with_capacity(events.len());
    let mut refusal = None;
    for (index, event) in events.iter().enumerate() {
        let judged = check_id(&event.id).and_then(|()| Ok((judge(event)?, time(event)?)));
        match judged {
            Ok(((found, review), time)) => {
                let start = event.data.as_ptr() as usize - body.as_ptr() as usize;
                let time = review.as_ref().map(|r| r.time).or(time);
                all.push(Statement {
                    id: event.id.to_string(),
                    word: event.kind.to_string(),
                    time,
                    data: start..start + event.data.len(),
                    found,
                    review,
                });
            }
            Err(problem) => {
                refusal = Some(Refusal { index, id: Some(event.id.chars().take(MAX_ID).collect()), problem });
                break;
            }
        }
    }
    Statements { body: body.clone(), kind, name: name.to_owned(), token: None, keys: Vec::new(), all, refusal }
}

fn unprocessable(detail: impl Into<String>) -> Verdict {
    Verdict::new(Why::MalformedEvent, detail)
}

fn check_id(id: &str) -> Result<(), Verdict> {
    // Nothing that hides or turns text around where somebody reads the id; a backslash alone does neither.
    let shown = id.replace('\\', "/");
    if id.len() > MAX_ID || record::escape(shown.as_bytes()) != shown {
        let detail = format!("`id` has to be 1 to {MAX_ID} bytes without control and format characters");
        return Err(unprocessable(detail));
    }
    Ok(())
}

fn time(event: &Event<'_>) -> Result<Option<Timestamp>, Verdict> {
    let Some(text) = &event.time else { return Ok(None) };
    text.parse().map(Some).map_err(|_| unprocessable("`time` has to be RFC 3339, as 2026-11-01T12:00:00Z"))
}

/// Whether a client may post this type: one of its own, in words as `app.authentication`.
fn check_type(kind: &str, token: &TokenRow) -> Result<(), Verdict> {
    if !is_type(kind) {
        return Err(unprocessable(format!(
            "`type` has to be two or more words [a-z0-9_]+ with dots between them, at most {MAX_TYPE} bytes: app.authentication"
        )));
    }
    let first = |kind: &str| kind.split('.').next().unwrap_or_default().to_owned();
    let own = first(kind);
    if RESERVED.contains(&own.as_str()) || ArtifactType::ALL.iter().any(|t| first(t.as_str()) == own) {
        return Err(unprocessable(format!(
            "types that begin with {own:?} are stated by hosts, people or this server; use one of your own: app.…"
        )));
    }
    match &token.types {
        Some(types) if !types.iter().any(|t| t == kind) => {
            let detail = format!("this token may post {}; not {kind}", types.join(", "));
            Err(Verdict::new(Why::Role, detail))
        }
        _ => Ok(()),
    }
}

/// Whether it would be judged as it was: the client's token or the person's keys may have been taken back since.
fn holds_still(tx: &mut dyn Tx, statements: &Statements) -> Result<bool, Error> {
    if let Some(token) = &statements.token {
        return tx.admit_token(token);
    }
    let person: Person = statements.name.parse().map_err(|_| Error::Unsound("a person of no name".to_owned()))?;
    Ok(tx.reviewer_keys(&person)? == statements.keys)
}

/// Stores what is new of it; none when it has to be judged again.
///
/// # Errors
/// SQLite's; then nothing is.
pub(super) fn settle(tx: &mut dyn Tx, statements: &Statements) -> Result<Option<Outcome>, Error> {
    if !holds_still(tx, statements)? {
        return Ok(None);
    }
    let mut refusal = statements.refusal.clone();
    let found = tx.ledger_named(statements.kind, &statements.name)?;
    if statements.all.is_empty() {
        // A client showed its token; a person is anybody, before a review of theirs holds.
        let head = found.filter(|_| statements.kind == SourceKind::Client);
        return Ok(Some(Outcome { accepted: 0, stored: 0, head, refusal }));
    }
    let mut ledger = match found {
        Some(ledger) => ledger,
        None => tx.begin_ledger(statements.kind, &own_ledger::random_ledger(), &statements.name, false)?,
    };
    let (mut accepted, mut stored) = (0, 0);
    for statement in &statements.all {
        let data = &statements.body[statement.data.clone()];
        match tx.kept(ledger.row, &statement.id)? {
            None if is_copy(tx, statement)? => {}
            None => {
                add(tx, statements, statement, &mut ledger)?;
                stored += 1;
            }
            Some(kept) if is_same(&kept, statement, data) => {}
            Some(_) => {
                refusal = Some(conflict(tx, statements, statement, accepted)?);
                break;
            }
        }
        accepted += 1;
    }
    if stored > 0 {
        tx.keep_receipt(&ledger)?;
    }
    Ok(Some(Outcome { accepted, stored, head: Some(ledger), refusal }))
}

/// Whether a review is stored under another id: the id is not signed, and anybody who has read a review can post it.
fn is_copy(tx: &mut dyn Tx, statement: &Statement) -> Result<bool, Error> {
    statement.review.as_ref().map_or(Ok(false), |review| tx.is_review_kept(review))
}

/// Whether this is what is stored, sent once more. One that names no time has the one that it was received at.
fn is_same(kept: &Kept, statement: &Statement, data: &[u8]) -> bool {
    kept.word == statement.word && kept.bytes == data && statement.time.is_none_or(|time| micros(time) == kept.time)
}

fn add(tx: &mut dyn Tx, all: &Statements, statement: &Statement, ledger: &mut Ledger) -> Result<(), Error> {
    let data = &all.body[statement.data.clone()];
    let time = statement.time.unwrap_or(tx.now());
    let entry = entry(tx, all, statement, ledger, time);
    let artifact = Artifact {
        seq: ledger.head_seq + 1,
        hash: Hash::of_unended(entry.as_bytes()),
        word: &statement.word,
        stack: statement.review.as_ref().and_then(|r| r.stack.as_ref()).map_or("", |s| s.as_str()),
        time,
        person: statement.review.as_ref().map(|r| r.person.as_str()).or(statement.found.person.as_deref()),
        account: statement.found.account.as_deref(),
        fingerprint: statement.found.fingerprint.as_deref(),
        flags: clock_flag(tx, time),
        next_by: None,
        bytes: data,
        kept: Some((&statement.id, entry.as_bytes())),
    };
    if artifact.flags != 0 {
        let incident = Incident::new(Kind::ClockOff, &all.source()).ledger(ledger.id.as_str());
        noting::note(tx, &incident.with("id", statement.id.as_str()).with("time", time.to_string()))?;
    }
    let row = tx.add_artifacts(ledger, &[artifact])?;
    match (row, &statement.review) {
        (Some(row), Some(review)) => tx.keep_review(row, review),
        _ => Ok(()),
    }
}

/// The chain's line over one artifact, canonical, without its newline: see docs/COMPLIANCE_API.md.
fn entry(tx: &mut dyn Tx, all: &Statements, statement: &Statement, ledger: &Ledger, time: Timestamp) -> String {
    let data = &all.body[statement.data.clone()];
    let digest = <sha2::Sha256 as sha2::Digest>::digest(data);
    let sha256 = Hash::from(<[u8; 32]>::from(digest)).to_string();
    let fields: Map<String, Value> = [
        ("v", Value::from(1)),
        ("ledger", ledger.id.as_str().into()),
        ("seq", (ledger.head_seq + 1).into()),
        ("prev", ledger.head_hash.to_string().into()),
        ("id", statement.id.as_str().into()),
        ("source", all.source().into()),
        ("type", statement.word.as_str().into()),
        ("time", format!("{time:.6}").into()),
        ("received", format!("{:.6}", tx.now()).into()),
        ("data_sha256", sha256.into()),
    ]
    .into_iter()
    .map(|(name, value): (&str, Value)| (name.to_owned(), value))
    .collect();
    serde_json_canonicalizer::to_string(&fields).expect("strings and small integers can always be written")
}

fn conflict(tx: &mut dyn Tx, all: &Statements, statement: &Statement, index: usize) -> Result<Refusal, Error> {
    let subject = format!("{} {}", all.name, statement.id);
    noting::note(tx, &Incident::new(Kind::Conflict, &subject).with("id", statement.id.as_str()))?;
    let detail = "another type, time or data is stored under this id, and stands; give each artifact an id of its own";
    let problem = Verdict::new(Why::Conflict, detail);
    Ok(Refusal { index, id: Some(statement.id.clone()), problem })
}
