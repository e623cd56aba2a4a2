//! The compliance API: what is published there, and what is handed to it. It is believed in nothing that a signature does not say.

use std::time::Duration;

use document::{Envelope, Id, Kind, Origin, Sealed, StackPattern};
use record::Stack;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use ureq::{
    Agent, Body, Error,
    http::{
        Response,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
};

use crate::{failure::Failure, http};

/// The longest answer that is read, in bytes: a feed with a roster, signed and automatic.
const MAX_ANSWER: u64 = 64 << 20;
/// The longest answer that is read about a failure, in bytes.
const MAX_PROBLEM: u64 = 64 << 10;
/// How much of what the server says about a failure is shown, in characters.
const MAX_SAID: usize = 1000;
/// How long one request may take: a roster has several MiB.
const WITHIN: Duration = Duration::from_secs(60);

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    agent: Agent,
    origin: Origin,
    token: String,
}

#[derive(Deserialize)]
struct Feed {
    documents: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    envelope: Box<RawValue>,
}

#[derive(Deserialize)]
struct Status {
    stacks: Vec<OfStack>,
}

#[derive(Deserialize)]
struct OfStack {
    stack: Stack,
}

#[derive(Deserialize)]
struct Posted {
    id: Id,
    state: String,
}

#[derive(Default, Deserialize)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
}

impl Server {
    /// Nothing is sent yet.
    pub(crate) fn new(agent: Agent, origin: Origin, token: String) -> Self {
        Self { agent, origin, token }
    }

    /// What still matters of the feed of one stack, without what is kept: a hold on somebody everywhere is in all of them.
    pub(crate) fn feed<'a>(
        &self,
        stacks: impl Iterator<Item = &'a StackPattern>,
        signers: &[&document::Key],
        is_kept: impl Fn(Id) -> bool,
    ) -> Result<Vec<Envelope>, Failure> {
        let named = stacks.filter_map(|stack| stack.as_str().parse::<Stack>().ok()).find_map(|stack| {
            match self.get::<Feed>(&format!("/v1/feed?stack={stack}")) {
                // Not known there yet, or the token is for another one alone.
                Err((403 | 404, _)) => None,
                answer => Some(answer),
            }
        });
        let answer = match named {
            Some(found) => found,
            // It names none of those that are there.
            None => {
                let status: Status = self.get("/v1/status").map_err(|(_, failure)| failure)?;
                let stack = status.stacks.into_iter().next().map(|one| one.stack).ok_or_else(|| {
                    Failure::refused(format!("{} knows no stack yet that this token reads about", self.origin))
                        .but("lockdown roster publish; a host that joins makes its stack known, too")
                })?;
                self.get::<Feed>(&format!("/v1/feed?stack={stack}"))
            }
        };
        let feed = answer.map_err(|(_, failure)| failure)?;
        let open = |entry: Entry| {
            let sealed = Sealed::parse(entry.envelope.get().as_bytes()).ok()?;
            // A roster that nobody has signed, or that is known, is not even read: that takes several times its size.
            let is_theirs = sealed.kind() != Kind::Roster || sealed.is_signed_by_any(signers);
            let is_new = !is_kept(sealed.id());
            (is_theirs && is_new).then(|| sealed.open().ok()).flatten()
        };
        Ok(feed.documents.into_iter().filter_map(open).collect())
    }

    /// Tells it of a run.
    pub(crate) fn tell(&self, run: &Envelope) -> Result<(), Failure> {
        let path = "/v1/runs";
        let request = self.agent.post(format!("{}{path}", self.origin)).header(CONTENT_TYPE, "application/json");
        let sent = request.config().timeout_global(Some(WITHIN)).build().send(run.to_json());
        self.read::<IgnoredAny>(path, sent).map(drop).map_err(|(_, failure)| failure)
    }

    /// Hands it a document.
    pub(crate) fn post(&self, envelope: &Envelope) -> Result<(), Failure> {
        let path = "/v1/documents";
        let request = self.agent.post(format!("{}{path}", self.origin)).header(CONTENT_TYPE, "application/json");
        let sent = request.config().timeout_global(Some(WITHIN)).build().send(envelope.to_json());
        let posted: Posted = self.read(path, sent).map_err(|(_, failure)| failure)?;
        if posted.id == envelope.document().id() && posted.state == "published" {
            return Ok(());
        }
        Err(Failure::unavailable(format!("{} takes document {} for {}", self.origin, posted.id, posted.state)))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, (u16, Failure)> {
        let request = self.agent.get(format!("{}{path}", self.origin));
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        self.read(path, request.config().timeout_global(Some(WITHIN)).build().call())
    }

    fn read<T: DeserializeOwned>(&self, path: &str, sent: Result<Response<Body>, Error>) -> Result<T, (u16, Failure)> {
        let at = format!("{}{path}", self.origin);
        let failed = |error: &Error| (0, Failure::unavailable(http::describe(&at, error)));
        let mut response = sent.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config();
        if status != 200 {
            let body = body.limit(MAX_PROBLEM).read_to_vec().unwrap_or_default();
            return Err((status, refusal(&at, status, &body)));
        }
        let body = body.limit(MAX_ANSWER).read_to_vec().map_err(|error| failed(&error))?;
        serde_json::from_slice(&body)
            .map_err(|error| (status, Failure::unavailable(format!("{at} does not answer as it should: {error}"))))
    }
}

fn refusal(at: &str, status: u16, body: &[u8]) -> Failure {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let cut = |text: String| text.chars().take(MAX_SAID).collect::<String>();
    let code = cut(problem.code.unwrap_or_else(|| format!("http_{status}")));
    let said = problem.detail.map_or_else(|| format!("HTTP status {status}"), cut);
    let message = format!("{at}: {said} ({code})");
    match status {
        401 | 403 => Failure::refused(message).but(
            "the token is an auditor's: compliance-api token create --role auditor --stack STACK --name lockdown-iam",
        ),
        500.. => Failure::unavailable(message),
        _ => Failure::refused(message),
    }
}
