//! What is answered about a document.

use document::Kind;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::deciding::Decision;
use crate::{moment::Moment, store::Error};

/// What became of a document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DocumentState)]
pub(super) struct State {
    /// The SHA-256 of its line.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    id: String,
    /// What it is.
    #[serde(rename = "type")]
    #[schema(pattern = "^(roster|grant|revoke|lockdown|lift)$")]
    kind: &'static str,
    /// Whether it is in the feeds of its stacks, or waits for approvals.
    #[schema(pattern = "^(published|pending)$")]
    state: &'static str,
    /// Which stacks.
    stacks: Vec<String>,
    /// How many different people's signatures count.
    #[schema(minimum = 0)]
    has: usize,
    /// How many have to.
    #[schema(minimum = 1)]
    needs: usize,
    /// Who they are.
    approvers: Vec<String>,
    /// A grant: whether the person it is for asked for it.
    asked: bool,
}

/// The same, in answer to a document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DocumentTaken)]
pub(super) struct Taken {
    #[serde(flatten)]
    state: State,
    /// The same in a sentence.
    detail: String,
}

/// A document with what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DocumentKept)]
pub(super) struct Kept {
    #[serde(flatten)]
    state: State,
    /// It, with the signatures that count.
    #[schema(value_type = Object)]
    envelope: Box<RawValue>,
    /// When it was published, or came.
    received: Moment,
}

impl State {
    pub(super) fn of(decision: Decision) -> Self {
        let Decision { document, facts, stacks, .. } = decision;
        Self {
            id: document.id.to_string(),
            kind: document.kind.as_str(),
            state: if document.pending { "pending" } else { "published" },
            stacks,
            has: facts.has,
            needs: facts.needs,
            approvers: facts.approvers,
            asked: facts.asked,
        }
    }
}

impl Taken {
    pub(super) fn of(decision: Decision) -> Self {
        let detail = sentence(&decision);
        Self { state: State::of(decision), detail }
    }
}

impl Kept {
    pub(super) fn of(decision: Decision) -> Result<Self, Error> {
        let (envelope, received): (_, Timestamp) =
            (raw(decision.document.envelope.clone())?, decision.document.received);
        Ok(Self { state: State::of(decision), envelope, received: Moment(received) })
    }
}

/// JSON text as it is kept.
pub(super) fn raw(text: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text).map_err(|why| Error::Unsound(format!("an envelope that is no JSON: {why}")))
}

fn sentence(decision: &Decision) -> String {
    let Decision { document, facts, stacks, .. } = decision;
    let stacks = match stacks.as_slice() {
        [] => "no stack yet: it goes to each that is heard of".to_owned(),
        [stack] => format!("the feed of {stack}"),
        more => format!("the feeds of {} stacks", more.len()),
    };
    if let Some(same) = facts.same_as {
        return format!("{same} had said so before: this one changes nothing, and is kept beside it");
    }
    if !document.pending {
        return match document.kind {
            Kind::Grant => format!("it is in {stacks}, approved by {}", facts.approvers.join(" and ")),
            _ => format!("it is in {stacks}"),
        };
    }
    let person = document.person.as_deref().unwrap_or_default();
    let asked = if facts.asked { format!("{person} asked for it; ") } else { String::new() };
    let so_far = if facts.approvers.is_empty() {
        String::new()
    } else {
        format!(" ({} approved)", facts.approvers.join(" and "))
    };
    format!("{asked}it has {} of {} approvals{so_far}: `lockdown approve {}`", facts.has, facts.needs, document.id)
}
