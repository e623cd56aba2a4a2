//! What an answer of the server means: one pure function from the answer to the next step.
//!
//! Nothing is believed here but what the protocol says; whether a receipt is the server's own and matches the ledger is
//! checked by whoever takes the step.

use std::time::Duration;

use jiff::Timestamp;
use record::{Hash, LedgerId, SignedReceipt};
use serde::Deserialize;
use serde_json::Value;

/// The longest answer that is read, in bytes.
pub(super) const MAX_ANSWER: u64 = 64 * 1024;
/// How much of the server's own words is repeated, in characters.
const MAX_QUOTE: usize = 300;
/// What the protocol calls an event that will never be taken. Anything else may be a proxy's word.
const NEVER_TAKEN: [&str; 6] =
    ["not_authentic", "not_canonical", "wrong_host", "mismatch", "malformed", "malformed_review"];

/// Credentials are read by systemd, when it starts the unit.
pub(super) const NEW_TOKEN: &str = "put the stack's enrolment token into /etc/lockdownd/credentials/enrolment-token, \
                                    then: systemctl restart lockdownd-shipper";

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
}

/// What had been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) ledger: &'a LedgerId,
    /// How many events.
    pub(super) events: usize,
    /// With the enrolment token.
    pub(super) with_token: bool,
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Address, token, certificate, or a server that speaks otherwise: it may be the same for every ledger.
    Setup,
    /// This ledger's records.
    Records,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The server says that it has them: check the receipt, keep it, go on.
    Acknowledged { receipt: SignedReceipt, enrolment: Option<String> },
    /// The server does not know this ledger: begin at the first record, with the enrolment token.
    Enrol,
    /// The server misses records before these: go back to what it has. `None`: it has nothing.
    Back { head: Option<(u64, Hash)> },
    /// The server holds other records under these numbers.
    Fork { receipt: Option<SignedReceipt>, why: String },
    /// Send at most so many events.
    Shorter { at_most: usize, why: String },
    /// The same again, later.
    Later { after: Option<Duration>, why: String },
    /// Nothing to be done before somebody changes something.
    Refused { blame: Blame, why: String },
}

#[derive(Deserialize, Default)]
struct Accepted {
    receipt: Option<Value>,
    enrolment: Option<String>,
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    index: Option<usize>,
    head: Option<Value>,
    receipt: Option<Value>,
}

#[derive(Deserialize)]
struct Head {
    seq: u64,
    hash: String,
}

/// The step after this answer.
pub(super) fn step(answer: &Answer, asked: Asked<'_>, now: Timestamp) -> Step {
    match answer.status {
        200 => accepted(answer, asked),
        301..=399 => Step::Refused {
            blame: Blame::Setup,
            why: format!(
                "the server answers {} and points elsewhere, which is not followed: let ship.api.url name the place itself",
                answer.status
            ),
        },
        400..=499 => refused(answer, asked, now),
        status => Step::Later {
            after: retry_after(answer, now),
            why: format!("the server answers {status}{}", quoted(&problem(answer).detail)),
        },
    }
}

fn accepted(answer: &Answer, asked: Asked<'_>) -> Step {
    let unbelieved = |what: &str| Step::Later { after: None, why: format!("the server answers 200, but {what}") };
    let Ok(accepted) = serde_json::from_slice::<Accepted>(&answer.body) else {
        return unbelieved("what it says is no answer of a compliance API");
    };
    match accepted.receipt.as_ref().map(signed) {
        None => unbelieved("without a receipt"),
        Some(None) => unbelieved("its receipt cannot be read as one"),
        Some(Some(receipt)) if receipt.receipt().ledger != *asked.ledger => {
            unbelieved("its receipt is over another ledger")
        }
        Some(Some(receipt)) => Step::Acknowledged { receipt, enrolment: accepted.enrolment },
    }
}

fn refused(answer: &Answer, asked: Asked<'_>, now: Timestamp) -> Step {
    let problem = problem(answer);
    let said = quoted(&problem.detail);
    let why = |what: &str| format!("{what}{said}");
    match (answer.status, problem.code.as_str()) {
        (401, "unknown_ledger") if !asked.with_token => Step::Enrol,
        (401, "unknown_ledger" | "bad_token") => Step::Refused {
            blame: Blame::Setup,
            why: format!("the enrolment token is not accepted{said}: {NEW_TOKEN}"),
        },
        (409, "gap") => match problem.head.as_ref().map(head) {
            None => Step::Back { head: None },
            Some(Some((0, _))) => Step::Back { head: None },
            Some(Some(head)) => Step::Back { head: Some(head) },
            Some(None) => Step::Later { after: None, why: why("the server misses records, and does not say which") },
        },
        (409, "fork") => Step::Fork {
            receipt: problem.receipt.as_ref().and_then(signed).filter(|r| r.receipt().ledger == *asked.ledger),
            why: why("the server holds other records under these numbers"),
        },
        (413, _) if asked.events > 1 => {
            Step::Shorter { at_most: asked.events / 2, why: why("the batch is too large for the server") }
        }
        (408 | 425 | 429, _) => {
            Step::Later { after: retry_after(answer, now), why: why("the server asks for patience") }
        }
        // The ones before it are stored: alone they get their receipt.
        (400 | 409 | 422, _) if problem.index.is_some_and(|index| (1..asked.events).contains(&index)) => {
            Step::Shorter { at_most: problem.index.unwrap_or(1), why: why("the server refuses a record") }
        }
        (status @ (409 | 413 | 422), code) => Step::Refused {
            // Only of these is the rest of a ledger ever left: the server itself has said it, and of which event.
            blame: match status == 422 && NEVER_TAKEN.contains(&code) && problem.index == Some(0) {
                true => Blame::Records,
                false => Blame::Setup,
            },
            why: why(&format!("the server refuses the next record ({status} {})", short(code))),
        },
        (status, code) => {
            Step::Refused { blame: Blame::Setup, why: why(&format!("the server refuses ({status} {})", short(code))) }
        }
    }
}

fn problem(answer: &Answer) -> Problem {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The receipt in its canonical form, whatever white space or order it came in: its signature is over its values.
fn signed(value: &Value) -> Option<SignedReceipt> {
    SignedReceipt::parse(serde_json::to_string(value).ok()?.as_bytes()).ok()
}

fn head(value: &Value) -> Option<(u64, Hash)> {
    let head: Head = serde_json::from_value(value.clone()).ok()?;
    Some((head.seq, head.hash.parse().ok()?))
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {}", short(said)) }
}

fn short(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTE).collect()
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let text = answer.retry_after.as_deref()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests;
