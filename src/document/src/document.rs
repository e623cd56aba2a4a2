//! A document: one line, what it says, and its id.

use std::sync::Arc;

use record::Stack;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Feed, Grant, Id, Kind, Lift, Lockdown, Malformed, Moment, Namespace, Organization, Revoke, Roster, Run, Session,
};

/// The longest line of a roster, in bytes: 5,000 people with RSA keys take 4.3 MiB.
pub const MAX_ROSTER: usize = 8 << 20;
/// The most strings in a roster, names of members among them: 20,000 people take 18 each.
pub const MAX_ROSTER_STRINGS: usize = 400_000;
/// The longest line of any other document, in bytes.
pub const MAX_DOCUMENT: usize = 8 << 10;

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Who there is.
    Roster(Arc<Roster>),
    /// Permission.
    Grant(Box<Grant>),
    /// A grant ends.
    Revoke(Revoke),
    /// All in scope ends.
    Lockdown(Lockdown),
    /// A lockdown does not hold any more.
    Lift(Lift),
    /// A client's answer to a challenge.
    Session(Session),
    /// What the server's feed holds.
    Feed(Feed),
    /// What a feeder found and did.
    Run(Run),
}

/// A document in the one way that it can be written. Whether anybody signed it is for its envelope to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    line: String,
    id: Id,
    body: Body,
}

/// The one member that has to be known before the others.
#[derive(Deserialize)]
struct Peek {
    #[serde(rename = "type")]
    kind: String,
}

impl Document {
    /// Reads a line, which has no newline.
    ///
    /// # Errors
    /// [`Malformed`] for anything but a known type in canonical form, within its bounds.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let body = match Self::peek(line)? {
            Kind::Roster => Body::Roster(Arc::new(exact(line)?)),
            Kind::Grant => Body::Grant(Box::new(exact(line)?)),
            Kind::Revoke => Body::Revoke(exact(line)?),
            Kind::Lockdown => Body::Lockdown(exact(line)?),
            Kind::Lift => Body::Lift(exact(line)?),
            Kind::Session => Body::Session(exact(line)?),
            Kind::Feed => Body::Feed(exact(line)?),
            Kind::Run => Body::Run(exact(line)?),
        };
        body.check()?;
        Ok(Self { line: line.to_owned(), id: Id::of(line), body })
    }

    /// What kind of document a line says that it is, where it is no longer than that may be.
    pub(crate) fn peek(line: &str) -> Result<Kind, Malformed> {
        bounded("a document", line, MAX_ROSTER)?;
        let peek: Peek = serde_json::from_str(line).map_err(|error| Malformed::json(&error))?;
        let unknown = || Malformed::Kind(record::escape(peek.kind.as_bytes()).chars().take(64).collect());
        let kind = Kind::from_word(&peek.kind).ok_or_else(unknown)?;
        bounded(kind.as_str(), line, kind.max_line())?;
        // What a parsed one takes in memory is by its strings, far more than by its bytes.
        let strings = line.bytes().filter(|byte| *byte == b'"').count() / 2;
        match strings > MAX_ROSTER_STRINGS {
            true => {
                Err(Malformed::Shape(format!("it has {strings} strings, and at most {MAX_ROSTER_STRINGS} are taken")))
            }
            false => Ok(kind),
        }
    }

    /// Writes a document. What comes out is what [`Document::parse`] reads, and nothing else can be signed.
    ///
    /// # Errors
    /// [`Malformed`] for what says what cannot be, or is too long.
    pub fn new(body: impl Into<Body>) -> Result<Self, Malformed> {
        let body = body.into();
        let line = match &body {
            Body::Roster(roster) => written(roster.as_ref()),
            Body::Grant(grant) => written(grant),
            Body::Revoke(revoke) => written(revoke),
            Body::Lockdown(lockdown) => written(lockdown),
            Body::Lift(lift) => written(lift),
            Body::Session(session) => written(session),
            Body::Feed(feed) => written(feed),
            Body::Run(run) => written(run),
        }?;
        Self::parse(&line)
    }

    /// The line: the bytes that are signed, which `ssh-keygen -Y sign` takes as its input.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The SHA-256 of the line.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// In which namespace it is signed.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::Of(self.kind())
    }

    /// Whose it is.
    #[must_use]
    pub fn organization(&self) -> &Organization {
        match &self.body {
            Body::Roster(it) => &it.organization,
            Body::Grant(it) => &it.organization,
            Body::Revoke(it) => &it.organization,
            Body::Lockdown(it) => &it.organization,
            Body::Lift(it) => &it.organization,
            Body::Session(it) => &it.organization,
            Body::Feed(it) => &it.organization,
            Body::Run(it) => &it.organization,
        }
    }

    /// When it was made, by the clock of who made it.
    #[must_use]
    pub fn issued_at(&self) -> Moment {
        match &self.body {
            Body::Roster(it) => it.issued_at,
            Body::Grant(it) => it.issued_at,
            Body::Revoke(it) => it.issued_at,
            Body::Lockdown(it) => it.issued_at,
            Body::Lift(it) => it.issued_at,
            Body::Session(it) => it.issued_at,
            Body::Feed(it) => it.issued_at,
            Body::Run(it) => it.issued_at,
        }
    }

    /// The stack that it names, where it names one.
    #[must_use]
    pub fn stack(&self) -> Option<&Stack> {
        match &self.body {
            Body::Grant(it) => Some(&it.stack),
            Body::Feed(it) => Some(&it.stack),
            _ => None,
        }
    }
}

impl Body {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Roster(_) => Kind::Roster,
            Self::Grant(_) => Kind::Grant,
            Self::Revoke(_) => Kind::Revoke,
            Self::Lockdown(_) => Kind::Lockdown,
            Self::Lift(_) => Kind::Lift,
            Self::Session(_) => Kind::Session,
            Self::Feed(_) => Kind::Feed,
            Self::Run(_) => Kind::Run,
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        match self {
            Self::Roster(roster) => roster.check(),
            Self::Grant(grant) => grant.check(),
            Self::Lockdown(lockdown) => lockdown.check(),
            Self::Feed(feed) => feed.check(),
            Self::Run(run) => run.check(),
            Self::Revoke(_) | Self::Lift(_) | Self::Session(_) => Ok(()),
        }
    }
}

macro_rules! bodies {
    ($($type:ident: $body:expr),* $(,)?) => { $(
        impl From<$type> for Body {
            fn from(it: $type) -> Self {
                let body: fn($type) -> Self = $body;
                body(it)
            }
        }
    )* };
}

bodies! {
    Roster: |it| Self::Roster(Arc::new(it)),
    Grant: |it| Self::Grant(Box::new(it)),
    Revoke: Self::Revoke,
    Lockdown: Self::Lockdown,
    Lift: Self::Lift,
    Session: Self::Session,
    Feed: Self::Feed,
    Run: Self::Run,
}

fn bounded(what: &'static str, line: &str, most: usize) -> Result<(), Malformed> {
    if line.len() > most { Err(Malformed::TooLong { what, given: line.len(), most }) } else { Ok(()) }
}

/// What a line says, if it is written in the one way that says it.
fn exact<T: Serialize + DeserializeOwned>(line: &str) -> Result<T, Malformed> {
    let it: T = serde_json::from_str(line).map_err(|error| Malformed::json(&error))?;
    if written(&it)? == line { Ok(it) } else { Err(Malformed::NotCanonical) }
}

/// RFC 8785. `jq -cS` prints the same: members and keys are ASCII, numbers small integers, and no character that JSON
/// has to escape is taken but `"`.
fn written(it: &impl Serialize) -> Result<String, Malformed> {
    serde_json_canonicalizer::to_string(it).map_err(|error| Malformed::json(&error))
}
