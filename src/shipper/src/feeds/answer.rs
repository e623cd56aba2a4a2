//! What a feed answers, taken apart: pure. Nothing is believed of it here. Whether a document holds is the daemon's to
//! judge; what is no document at all is left out, so that it costs nobody anything.

use std::{collections::BTreeSet, fmt, ops::Range};

use document::{Envelope, Id, Kind, Sealed};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::settings::Feeds;

/// The longest answer that is read, in bytes. A roster at its longest takes 16 MiB of it.
pub(super) const MAX_ANSWER: u64 = 32 << 20;
/// The most documents of one answer that goes on from a position.
const MAX_PAGE: usize = 64;
/// The most documents of a beginning: what still counts on a stack, each table of the judge full.
const MAX_BEGINNING: usize = 16_384;
/// The most ids that the daemon is told of one answer.
const MAX_LISTED: usize = 256;

/// Which documents may take others' room in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Others may hang on it.
    Roster,
    /// It closes.
    Closing,
    /// It opens.
    Grant,
}

impl Rank {
    /// None for what is not for hosts.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Roster => Some(Self::Roster),
            Kind::Revoke | Kind::Lockdown | Kind::Lift => Some(Self::Closing),
            Kind::Grant => Some(Self::Grant),
            Kind::Session | Kind::Feed | Kind::Run => None,
        }
    }
}

/// A document of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) id: Id,
    pub(super) rank: Rank,
    /// Where its envelope is in the answer.
    envelope: Range<usize>,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    body: String,
    /// From where; nothing for a beginning.
    pub(super) after: Option<u64>,
    /// How many documents the feed has behind these.
    pub(super) next: u64,
    /// Which documents the daemon has to know once all lie there, those that were left out too. After a position all, in the
    /// order of the feed, since they make its chain. Of a beginning, which has none, those that are laid down last: the others
    /// the daemon is done with by then, or they wait there.
    pub(super) ids: Vec<Id>,
    /// How many documents there were.
    pub(super) count: usize,
    /// Those that are documents, the first to be laid down first: as the feed has them, and grants behind all others. Whoever
    /// closed something may have left with the next roster.
    pub(super) documents: Vec<Offered>,
    statement: Range<usize>,
    /// How many were left out, and why the last one was.
    pub(super) dropped: Option<(u64, String)>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    organization: String,
    stack: String,
    after: Option<u64>,
    next: u64,
    #[serde(borrow, deserialize_with = "few")]
    documents: Vec<WireDocument<'a>>,
    #[serde(borrow)]
    statement: &'a RawValue,
}

#[derive(Deserialize)]
struct WireDocument<'a> {
    position: Option<u64>,
    id: Id,
    #[serde(borrow)]
    envelope: &'a RawValue,
}

impl Answer {
    /// Reads the answer to a request for all after `after`. The error says what is wrong with it.
    pub(super) fn parse(body: Vec<u8>, asked: &Feeds, after: Option<u64>) -> Result<Self, String> {
        let body = String::from_utf8(body).map_err(|_| "it is not text".to_owned())?;
        let wire: Wire<'_> = serde_json::from_str(&body).map_err(|error| format!("it cannot be read: {error}"))?;
        if wire.organization != asked.organization.as_str() || wire.stack != asked.stack.as_str() {
            return Err("it is about another stack, or another organization".to_owned());
        }
        if wire.after != after {
            return Err(format!("it begins after {:?}, and {after:?} was asked for", wire.after));
        }
        in_order(&wire, after)?;
        let statement = Envelope::parse(wire.statement.get().as_bytes());
        let statement = statement.map_err(|error| format!("its statement is no document: {error}"))?;
        if statement.document().kind() != Kind::Feed {
            return Err(format!("its statement is a {}", statement.document().kind()));
        }
        let within = |raw: &RawValue| {
            let begin = raw.get().as_ptr() as usize - body.as_ptr() as usize;
            begin..begin + raw.get().len()
        };
        let (mut documents, mut dropped) = (Vec::new(), None);
        for document in &wire.documents {
            match rank(document) {
                Ok(rank) => {
                    documents.push(Offered { id: document.id, rank, envelope: within(document.envelope) });
                }
                Err(why) => dropped = Some((dropped.map_or(0, |(count, _)| count) + 1, why)),
            }
        }
        documents.sort_by_key(|offered| offered.rank == Rank::Grant);
        let mut ids: Vec<Id> = wire.documents.iter().map(|document| document.id).collect();
        if after.is_none() {
            let laid: BTreeSet<Id> = documents.iter().map(|offered| offered.id).collect();
            ids.retain(|id| !laid.contains(id));
            ids.truncate(MAX_LISTED);
            let last = documents.iter().rev().take(MAX_LISTED - ids.len());
            ids.extend(last.map(|offered| offered.id));
        }
        let (count, next, statement) = (wire.documents.len(), wire.next, within(wire.statement));
        drop(wire);
        Ok(Self { body, after, next, ids, count, documents, statement, dropped })
    }

    /// A document's envelope, as it came.
    pub(super) fn envelope(&self, offered: &Offered) -> &str {
        &self.body[offered.envelope.clone()]
    }

    /// The envelope of the server's statement, as it came.
    pub(super) fn statement(&self) -> &RawValue {
        serde_json::from_str(&self.body[self.statement.clone()]).expect("it was read as JSON already")
    }
}

fn in_order(wire: &Wire<'_>, after: Option<u64>) -> Result<(), String> {
    let Some(after) = after else { return Ok(()) };
    if wire.documents.len() > MAX_PAGE {
        return Err(format!("it holds {} documents, and {MAX_PAGE} are taken at once", wire.documents.len()));
    }
    let place = |documents: usize| after.checked_add(documents as u64);
    let consecutive = wire.documents.iter().zip(1..).all(|(it, n)| it.position.is_some() && it.position == place(n));
    if consecutive && place(wire.documents.len()) == Some(wire.next) {
        Ok(())
    } else {
        Err("its documents are not those that follow in the feed".to_owned())
    }
}

/// Where a document stands among others, if it is one. A roster is not read whole: that takes several times its size,
/// and the daemon asks first who signed it.
fn rank(document: &WireDocument<'_>) -> Result<Rank, String> {
    let sealed = Sealed::parse(document.envelope.get().as_bytes()).map_err(|error| error.to_string())?;
    let rank = Rank::of(sealed.kind()).ok_or_else(|| format!("it is a {}, which is not for hosts", sealed.kind()))?;
    if sealed.id() != document.id {
        return Err(format!("its id is {}, and not {}", sealed.id(), document.id));
    }
    if rank != Rank::Roster {
        sealed.open().map_err(|error| error.to_string())?;
    }
    Ok(rank)
}

/// Reads no more documents than are taken.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WireDocument<'de>>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<WireDocument<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of {MAX_BEGINNING} documents at most")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut documents = Vec::new();
            while let Some(document) = sequence.next_element()? {
                if documents.len() == MAX_BEGINNING {
                    return Err(A::Error::custom(format_args!("more than {MAX_BEGINNING} documents")));
                }
                documents.push(document);
            }
            Ok(documents)
        }
    }
    deserializer.deserialize_seq(Few)
}

#[cfg(test)]
mod tests;
