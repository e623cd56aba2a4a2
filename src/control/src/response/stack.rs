//! What becomes of signed documents, and how the host stands with its stack.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::GrantView;

/// What became of a document that root brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyAnswer {
    /// Its id.
    pub document: String,
    /// What kind it is, in its word.
    pub kind: String,
    /// What became of it.
    pub outcome: ApplyOutcome,
    /// The same in a sentence.
    pub why: String,
    /// The grant that it gave.
    #[serde(default)]
    pub grant: Option<GrantView>,
    /// What else there is to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyOutcome {
    /// It is in force.
    Accepted,
    /// It was before.
    Known,
    /// It may be taken later, and is not kept.
    Waits,
    /// It never will be.
    Refused,
}

/// How the host stands with its stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackView {
    /// Whose documents are taken.
    pub organization: String,
    /// The roster in force.
    pub roster: Option<RosterView>,
    /// The lockdowns that hold.
    pub holds: Vec<String>,
    /// Where documents come from.
    pub feeds: Vec<FeedView>,
    /// Documents that may be taken later.
    pub waiting: Vec<WaitingDocument>,
    /// Why no grant from a document opens at present, where none does.
    pub silent: Option<String>,
    /// Why the inbox, into which the shipper brings documents, was not read whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<String>,
}

/// The roster in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterView {
    /// Its version.
    pub version: u64,
    /// Its id.
    pub id: String,
    /// When it stops opening.
    pub expires_at: Timestamp,
    /// How many people it has.
    pub people: u64,
}

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedView {
    /// Its URL.
    pub feed: String,
    /// When it was heard last.
    pub heard_at: Option<Timestamp>,
    /// Whether the server's statement vouches for all that was brought of it, by a key in `ship.api.receipt_keys`.
    pub vouched: bool,
    /// Up to which document it is vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The head of the chain over their ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A document that may be taken later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingDocument {
    /// Its id.
    pub document: String,
    /// Why not now.
    pub why: String,
}
