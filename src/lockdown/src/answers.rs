//! What the server says. It is believed in nothing that opens anything; what it names is parsed to what it has to be, and free text
//! is made safe where it is shown.

use document::{AccountName, Id, Moment, Nonce, Origin, Source};
use jiff::Timestamp;
use record::{Host, Person, Stack};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::hosts::KnownHost;

/// Where a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// In the feed.
    Published,
    /// More people have to sign it.
    Pending,
}

/// `POST /v1/documents`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) id: Id,
    pub(crate) state: State,
    #[serde(default)]
    pub(crate) stacks: Vec<Stack>,
    #[serde(default)]
    pub(crate) has: u64,
    #[serde(default)]
    pub(crate) needs: u64,
    #[serde(default)]
    pub(crate) approvers: Vec<Person>,
}

/// `GET /v1/documents/{id}`, and one of `GET /v1/requests`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stored {
    pub(crate) envelope: Box<RawValue>,
    #[serde(default)]
    pub(crate) asked: bool,
}

/// `GET /v1/requests`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Requests {
    pub(crate) requests: Vec<Stored>,
}

/// `GET /v1/documents/{id}/hosts`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Hosts {
    #[serde(default)]
    pub(crate) version: u64,
    pub(crate) hosts: Vec<HostAnswer>,
}

/// What became of a document on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostAnswer {
    pub(crate) host: Host,
    pub(crate) stack: Stack,
    pub(crate) state: HostState,
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
    #[serde(default)]
    pub(crate) last_heard: Option<Timestamp>,
    #[serde(default)]
    pub(crate) silent: bool,
}

/// The same in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostState {
    /// It is in force there.
    Accepted,
    /// It never will be.
    Refused,
    /// The host has not answered yet.
    Waiting,
    /// Nothing is heard of the host, or it hears no feed.
    Unheard,
}

/// `GET /v1/feed` without `after`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Feed {
    pub(crate) documents: Vec<FeedEntry>,
}

/// One document of a feed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FeedEntry {
    pub(crate) envelope: Box<RawValue>,
}

/// `POST /v1/sessions/challenge`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) nonce: Nonce,
    pub(crate) origin: Origin,
}

/// `POST /v1/sessions`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
}

/// `GET /v1/roster`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RosterAnswer {
    pub(crate) envelope: Box<RawValue>,
}

/// `GET /v1/status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) stacks: Vec<StackStatus>,
    /// None of a server that does not say.
    #[serde(default)]
    pub(crate) feeders: Vec<FeederStatus>,
}

/// A feeder, and how it looks at its source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FeederStatus {
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) silent: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) last_complete: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) last_run: Option<RunStatus>,
}

/// What a feeder said of one look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunStatus {
    pub(crate) received_at: Timestamp,
    pub(crate) users: u64,
    pub(crate) proposed: u64,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) failed: Option<String>,
}

/// A stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StackStatus {
    pub(crate) stack: Stack,
    pub(crate) hosts: Vec<HostStatus>,
}

impl Status {
    /// Every host, and what people call it.
    pub(crate) fn known(&self) -> Vec<KnownHost> {
        let of = |one: &StackStatus| {
            let known = |host: &HostStatus| KnownHost {
                host: host.host.clone(),
                name: host.name.clone(),
                stack: one.stack.clone(),
            };
            one.hosts.iter().map(known).collect::<Vec<_>>()
        };
        self.stacks.iter().flat_map(of).collect()
    }
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostStatus {
    pub(crate) host: Host,
    /// What people call it, where it says so.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) mode: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) last_heard: Option<Timestamp>,
    #[serde(default)]
    pub(crate) silent: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) version: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) roster: Option<HostRoster>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) feed: Option<HostFeed>,
    #[serde(default)]
    pub(crate) grants: Vec<GrantStatus>,
    #[serde(default)]
    pub(crate) sessions: Vec<SessionStatus>,
    #[serde(default)]
    pub(crate) ways_in_open: Vec<serde_json::Value>,
}

/// Which roster a host has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostRoster {
    pub(crate) version: u64,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) id: Option<Id>,
}

/// When a host has heard its feed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostFeed {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) heard_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) vouched: bool,
}

/// A grant in force on a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GrantStatus {
    pub(crate) grant: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) person: Option<Person>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) account: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) expires_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) document: Option<Id>,
    #[serde(default)]
    pub(crate) approvers: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) reason: Option<String>,
}

/// A session on a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionStatus {
    pub(crate) session: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) person: Option<Person>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) account: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) source: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) opened_at: Option<Timestamp>,
}

/// What a host says of itself may be anything: what is not as it should be is left out, and takes nothing with it.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(from)?).ok())
}

/// `application/problem+json`
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
}

/// A grant that waits, as it is listed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Waiting {
    pub(crate) id: Id,
    pub(crate) person: Person,
    pub(crate) account: AccountName,
    pub(crate) stack: Stack,
    pub(crate) asked: bool,
    pub(crate) has: usize,
    pub(crate) needs: usize,
    pub(crate) approvers: Vec<Person>,
    pub(crate) starts_at: Moment,
    pub(crate) expires_at: Moment,
    pub(crate) accept_until: Moment,
    pub(crate) reason: String,
}
