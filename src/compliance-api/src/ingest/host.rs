//! Judging a host's batch: which of its records hold. Reads the store, writes nothing.
//!
//! The order is: form, then place in the batch, then signature; the first record that fails ends what is taken. It never
//! takes a key from anywhere but the store, a `key.rotated` signed by the key before, or a new ledger's own beginning.

use axum::body::Bytes;
use jiff::Timestamp;
use record::{ArtifactType, Hash, InPlace, LedgerId, Signatory};
use serde_json::Value;
use ssh_key::HashAlg;

use super::{
    batch::{Batch, Enrol, Pruned, Refusal, Row, Text},
    event::Event,
    notice, verify,
};
use crate::{
    store::{self, Tx, tokens::TokenRow},
    token::Role,
    verdict::{Verdict, Why},
};

/// The stack of a host whose configuration names none: a package's first start, which is before anybody has configured
/// it, writes its first records so. Any stack's token enrols it.
pub(super) const UNNAMED_STACK: &str = "default";

/// Judges the events of one host.
///
/// # Errors
/// When none of it can be taken: an unknown ledger without a good token, a first event that is not a record.
pub(super) fn judge(
    tx: &mut dyn Tx,
    body: &Bytes,
    events: &[Event<'_>],
    token: Option<&TokenRow>,
    helpers: usize,
) -> Result<Batch, Verdict> {
    let (records, refusal) = read(events);
    let Some(first) = records.first() else {
        return Err(refusal.map_or_else(|| Verdict::malformed("the batch is empty"), Refusal::answer));
    };
    let (ledger, host, stack) = (first.ledger(), first.host(), first.stack());
    let id: LedgerId = ledger.parse().map_err(|_| Verdict::malformed("the ledger's id is not one"))?;
    let mut rows: Vec<Row> = records.iter().map(|r| row(body, r)).collect();
    let before = preface_len(&rows);
    let (keys, key_epoch, enrol) = match tx.ledger(&id)? {
        Some(known) => {
            if known.name != host {
                return Err(another_host(ledger, &known.name, host));
            }
            (known_keys(tx, known.row)?, known.key_epoch, None)
        }
        None => {
            let (key, enrol) = enrolment(&id, &records, before, stack, token)?;
            (vec![(0, key)], 0, Some(enrol))
        }
    };
    let (good, fork, broken) = follow(&rows, before);
    let authentic = verify::authentic(&records[..good], &rows, &keys, helpers);
    let refusal = if authentic < good {
        Some(not_authentic(authentic, events))
    } else {
        broken.map(|problem| Refusal { index: good, id: id_of(events, good), problem }).or(refusal)
    };
    rows.truncate(authentic);
    if authentic <= before {
        // What accounts for a gap is of no use without what follows it.
        rows.clear();
    }
    let preface: Vec<Row> = rows.drain(..before.min(rows.len())).collect();
    let fork = fork.map(|at| at - before).filter(|at| *at < rows.len());
    Ok(Batch {
        body: body.clone(),
        ledger: id,
        host: host.to_owned(),
        stack: stack.to_owned(),
        preface,
        rows,
        fork,
        key_epoch,
        enrol,
        refusal,
    })
}

/// Reads records until one is not as it has to be.
fn read<'a>(events: &[Event<'a>]) -> (Vec<InPlace<'a>>, Option<Refusal>) {
    let mut records: Vec<InPlace<'a>> = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let refused = |problem| Some(Refusal { index, id: id_of(events, index), problem });
        let record = match InPlace::parse(event.data.as_bytes()) {
            Ok(record) => record,
            Err(why) => {
                let detail =
                    format!("data is no record: {why}; send each line of the ledger unchanged, without its newline");
                return (records, refused(Verdict::new(Why::NotCanonical, detail)));
            }
        };
        if let Err(problem) = matches(event, &record, records.first()) {
            return (records, refused(problem));
        }
        records.push(record);
    }
    (records, None)
}

/// Whether the event says of the record what the record says of itself.
fn matches(event: &Event<'_>, record: &InPlace<'_>, first: Option<&InPlace<'_>>) -> Result<(), Verdict> {
    if first.is_some_and(|first| first.ledger() != record.ledger()) {
        return Err(Verdict::malformed("a batch holds records of one ledger; send this one in a batch of its own"));
    }
    let source = event.source.strip_prefix("/stacks/").and_then(|s| s.split_once("/hosts/"));
    if source != Some((record.stack(), record.host())) || first.is_some_and(|first| first.host() != record.host()) {
        let (stack, host) = (record.stack(), record.host());
        let detail = format!(
            "the record is about host {host} of stack {stack}: `source` has to be /stacks/{stack}/hosts/{host}"
        );
        return Err(Verdict::new(Why::WrongHost, detail));
    }
    let id = event.id.rsplit_once('/');
    if !id.is_some_and(|(ledger, seq)| ledger == record.ledger() && seq == record.seq().to_string()) {
        let detail = format!("`id` has to be {}/{}, as the record says", record.ledger(), record.seq());
        return Err(Verdict::new(Why::Mismatch, detail));
    }
    if event.kind != record.type_word() {
        return Err(Verdict::new(
            Why::Mismatch,
            format!("`type` has to be {}, as the record says", record.type_word()),
        ));
    }
    Ok(())
}

fn id_of(events: &[Event<'_>], index: usize) -> Option<String> {
    events.get(index).map(|e| e.id.chars().take(128).collect())
}

fn another_host(ledger: &str, known: &str, named: &str) -> Verdict {
    let detail = format!("ledger {ledger} is that of host {known}; its records cannot be sent as those of {named}");
    Verdict::new(Why::WrongHost, detail)
}

fn not_authentic(index: usize, events: &[Event<'_>]) -> Refusal {
    let detail =
        "the signature is not that of this ledger's key over these bytes; send each line of the ledger unchanged";
    Refusal { index, id: id_of(events, index), problem: Verdict::new(Why::NotAuthentic, detail) }
}

/// How many records at the beginning are `ledger.pruned` from further on, to account for a gap: only if what follows
/// goes back behind them.
fn preface_len(rows: &[Row]) -> usize {
    let pruned = rows.iter().take_while(|r| r.pruned.is_some()).count();
    match (pruned.checked_sub(1).and_then(|last| rows.get(last)), rows.get(pruned)) {
        (Some(last), Some(next)) if next.seq <= last.seq => pruned,
        _ => 0,
    }
}

/// How many records, preface included, follow one another; where a fork is among them; and why the next is not taken.
fn follow(rows: &[Row], before: usize) -> (usize, Option<usize>, Option<Verdict>) {
    let mut fork = None;
    for at in before + 1..rows.len() {
        let (last, next) = (&rows[at - 1], &rows[at]);
        if next.seq != last.seq + 1 {
            let detail = format!(
                "record {} comes after record {}: a batch goes on number by number, with nothing left out",
                next.seq, last.seq
            );
            let problem = Verdict::new(Why::Gap, detail);
            return (at, fork, Some(problem));
        }
        if next.prev != last.hash && fork.is_none() {
            fork = Some(at);
        }
    }
    (rows.len(), fork, None)
}

fn known_keys(tx: &mut dyn Tx, row: i64) -> Result<Vec<(u64, Signatory)>, Verdict> {
    let unsound = || store::Error::Unsound("a host's key that is not ed25519".to_owned());
    let keys = tx.keys(row)?;
    Ok(keys
        .iter()
        .map(|(first, key)| Ok((*first, Signatory::new(key).ok_or_else(unsound)?)))
        .collect::<Result<_, store::Error>>()?)
}

/// What binds an unknown ledger: a good enrolment token of its stack, and a first record that carries its key.
fn enrolment(
    id: &LedgerId,
    records: &[InPlace<'_>],
    before: usize,
    stack: &str,
    token: Option<&TokenRow>,
) -> Result<(Signatory, Enrol), Verdict> {
    let Some(token) = token else {
        let detail = format!(
            "ledger {id} is not enrolled: send its records from the first on, with the enrolment token of stack {stack} \
             as `Authorization: Bearer ca_enrol_…`"
        );
        return Err(Verdict::new(Why::UnknownLedger, detail).with("ledger", id.as_str()));
    };
    let their = token.stack.as_ref().map_or("", |s| s.as_str());
    if token.role != Role::Enrol || ![their, UNNAMED_STACK].contains(&stack) {
        let detail = if token.role == Role::Enrol {
            format!("this token enrols hosts of stack {their}, and the records begin in stack {stack}")
        } else {
            format!("enrolling a host takes a token of role enrol; the one sent is of role {}", token.role)
        };
        return Err(Verdict::new(Why::Role, detail));
    }
    if token.uses == Some(0) {
        return Err(Verdict::bad_token("this enrolment token has no use left; ask an admin for a new one"));
    }
    let begins = &records[before];
    let kind: Option<ArtifactType> = begins.type_word().parse().ok();
    let carries = matches!(kind, Some(ArtifactType::LedgerSegment | ArtifactType::LedgerOpened));
    let key = carries.then(|| begins.to_record().public_key()).flatten();
    let key = key.as_ref().and_then(Signatory::new).ok_or_else(|| {
        let detail = "a ledger is enrolled by its first record, which carries its public key: send it from there on; \
                      where that is pruned, from a ledger.segment on, with the ledger.pruned that accounts for what is missing before it";
        gap(detail, id)
    })?;
    let public_key = key.public_key().to_openssh().map_err(|e| Verdict::internal(&e))?;
    let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
    Ok((key, Enrol { token: token.id.clone(), stack: their.to_owned(), public_key, fingerprint }))
}

/// 409 `gap` for a ledger of which nothing is stored.
fn gap(detail: &str, id: &LedgerId) -> Verdict {
    let head = serde_json::json!({"ledger": id.as_str(), "seq": 0, "hash": Hash::ZERO.to_string()});
    Verdict::new(Why::Gap, detail).with("head", head)
}

fn row(body: &Bytes, record: &InPlace<'_>) -> Row {
    let text = |text: std::borrow::Cow<'_, str>| match text {
        std::borrow::Cow::Borrowed(part) => Text::In(within(body, part)),
        std::borrow::Cow::Owned(copy) => Text::Copy(copy),
    };
    let word = record.type_word();
    let kind: Option<ArtifactType> = word.parse().ok();
    let detail = |wanted: ArtifactType| (kind == Some(wanted)).then(|| detail(record)).flatten();
    Row {
        seq: record.seq(),
        hash: record.hash(),
        prev: record.prev(),
        time: record.time(),
        line: within(body, record.line()),
        stack: Text::In(within(body, record.stack())),
        person: record.person().map(text),
        account: record.account().map(text),
        fingerprint: record.fingerprint().map(text),
        known: kind.is_some(),
        next_by: detail(ArtifactType::SweepAttested)
            .and_then(|d| d.get("next_by")?.as_str()?.parse::<Timestamp>().ok()),
        next_key: detail(ArtifactType::KeyRotated).and_then(|d| d.get("public_key")?.as_str().map(str::to_owned)),
        pruned: detail(ArtifactType::LedgerPruned).and_then(|d| {
            Some(Pruned {
                first: d.get("first")?.as_u64()?,
                last: d.get("last")?.as_u64()?,
                last_hash: d.get("last_hash")?.as_str()?.parse().ok()?,
            })
        }),
        feed_token: (kind == Some(ArtifactType::DaemonStarted)).then(|| {
            let hash: Hash = detail(ArtifactType::DaemonStarted)?.get("feed_token_sha256")?.as_str()?.parse().ok()?;
            Some(*hash.as_bytes())
        }),
        notices: notice::of(kind, record),
        word: text(word),
    }
}

fn detail(record: &InPlace<'_>) -> Option<Value> {
    serde_json::from_str(record.detail()?).ok()
}

/// Where a part of the body stands in it.
fn within(body: &Bytes, part: &str) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    start..start + part.len()
}

impl Refusal {
    /// The refusal alone, where nothing before it could be taken.
    pub(super) fn answer(self) -> Verdict {
        let mut problem = self.problem.with("index", self.index).with("accepted", 0).with("stored", 0);
        if let Some(id) = self.id {
            problem = problem.with("id", id);
        }
        problem
    }
}
