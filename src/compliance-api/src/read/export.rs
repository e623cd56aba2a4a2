//! Artifacts in the words of other systems: as documents of the Elastic Common Schema, and as events of OCSF. Pure: what stands
//! in one is decided by the artifact alone.
//!
//! It never stands in for the artifact: each carries its exact bytes too, which is what signatures and receipts are over.

pub(super) mod ecs;
pub(super) mod ocsf;

use jiff::Timestamp;
use record::{ArtifactType, Record, Severity};
use serde_json::{Map, Value};

use super::artifacts::Artifact;
use crate::{
    evidence::SourceKind,
    store::{Error, artifacts::Found},
};

/// What means the same at the top of every artifact that is no record.
const WORDS: [&str; 7] = ["person", "account", "fingerprint", "user", "result", "address", "statement"];

/// One artifact, taken apart.
#[derive(Debug)]
pub(super) struct Stated<'a> {
    pub(super) artifact: &'a Artifact<'a>,
    pub(super) by: SourceKind,
    /// The source's name: a host's, a client's, a person's.
    pub(super) name: &'a str,
    pub(super) stack: &'a str,
    pub(super) data: Map<String, Value>,
    what: What<'a>,
}

/// What it states, by who states it: a client may use any words but a host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// A host's record of a type that is known.
    Host(ArtifactType),
    /// The server's own record.
    Server(&'a str),
    /// An application's login or try of one.
    Login,
    /// A signed review.
    Review,
    /// Anything else.
    Other,
}

impl<'a> Stated<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// Stored bytes that are no JSON object.
    pub(super) fn of(found: &Found<'a>, artifact: &'a Artifact<'a>) -> Result<Self, Error> {
        Self::new(found.source, found.name, found.stack, artifact)
    }

    fn new(by: SourceKind, name: &'a str, stack: &'a str, artifact: &'a Artifact<'a>) -> Result<Self, Error> {
        let data: Map<String, Value> = serde_json::from_str(artifact.data.get())
            .map_err(|_| Error::Unsound("an artifact that is no JSON object".to_owned()))?;
        let what = match (by, artifact.kind.parse::<ArtifactType>()) {
            (SourceKind::Host, Ok(kind)) => What::Host(kind),
            (SourceKind::Server, _) => What::Server(artifact.kind),
            (SourceKind::Person, _) => What::Review,
            (SourceKind::Client, _) if artifact.kind.split('.').any(|word| word == "authentication") => What::Login,
            _ => What::Other,
        };
        Ok(Self { artifact, by, name, stack, data, what })
    }

    /// Text at this place.
    fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn number(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    /// What stands at this place. What an application calls as a record does is its own affair, but for the words that its
    /// artifacts are found by, and those of a login.
    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let is_record = matches!(self.by, SourceKind::Host | SourceKind::Server);
        let is_word = rest.is_empty() && WORDS.contains(first);
        if !is_record && !is_word {
            return None;
        }
        rest.iter().try_fold(self.data.get(*first)?, |at, name| at.get(name))
    }

    /// A moment, where there is one at this place.
    fn moment(&self, path: &[&str]) -> Option<Timestamp> {
        self.text(path)?.parse().ok()
    }

    /// The one sentence that a person reads.
    fn sentence(&self) -> &str {
        let said = match self.by {
            SourceKind::Host | SourceKind::Server => self.text(&["reason"]),
            SourceKind::Person => self.text(&["statement"]),
            SourceKind::Client => None,
        };
        said.unwrap_or(self.artifact.kind)
    }

    /// The account that somebody logged in to, or tried to.
    fn account(&self) -> Option<&str> {
        match self.what {
            What::Login => self.text(&["account"]).or_else(|| self.text(&["user"])),
            _ => self.text(&["account"]).or_else(|| self.text(&["detail", "given_account"])),
        }
    }

    /// The address that somebody came from.
    fn address(&self) -> Option<&str> {
        let address = match self.what {
            What::Login => self.text(&["address"]),
            _ => self.text(&["source", "address"]),
        };
        address.filter(|address| address.parse::<std::net::IpAddr>().is_ok())
    }

    /// How urgent it is; applications do not say.
    fn severity(&self) -> Option<Severity> {
        match self.by {
            SourceKind::Host => {
                let record = Record::parse(self.artifact.data.get().as_bytes()).ok()?;
                Some(Severity::of_record(&record))
            }
            SourceKind::Server if self.artifact.kind == "incident.opened" => Some(Severity::Warning),
            SourceKind::Server | SourceKind::Person => Some(Severity::Info),
            SourceKind::Client => None,
        }
    }

    /// Whether somebody got in, or tried to.
    fn is_login(&self) -> bool {
        match self.what {
            What::Host(kind) => matches!(
                kind,
                ArtifactType::SessionOpened
                    | ArtifactType::SessionClosed
                    | ArtifactType::SessionTerminated
                    | ArtifactType::SessionRefused
                    | ArtifactType::LoginFailed
                    | ArtifactType::EmergencyLogin
            ),
            What::Login => true,
            _ => false,
        }
    }

    /// How an application's login went.
    fn login_succeeded(&self) -> Option<bool> {
        match self.text(&["result"])? {
            "accepted" | "success" | "succeeded" => Some(true),
            "refused" | "failure" | "failed" | "denied" => Some(false),
            _ => None,
        }
    }
}

/// The same without what is not there: nulls, and what holds nothing.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(name, value)| (name, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(all) => all.into_iter().map(pruned).filter(|value| !is_empty(value)).collect(),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
