//! One question to a feed and its answer, every part of it bounded in time and size.

use std::time::Duration;

use ureq::{
    Agent, Error,
    http::{
        StatusCode,
        header::{AUTHORIZATION, ETAG, IF_NONE_MATCH, RETRY_AFTER},
    },
};

use super::answer::MAX_ANSWER;
use crate::{
    http,
    paths::Paths,
    settings::{Feed, Feeds},
};

/// How long the server may think, beyond what it was asked to wait.
const THINK: Duration = Duration::from_secs(30);
/// How long its answer may take to arrive, once it has begun.
const RECEIVE: Duration = Duration::from_secs(60);
/// How long all of it may take, beyond what it was asked to wait.
const WHOLE: Duration = Duration::from_secs(120);
/// The longest refusal that is read, in bytes.
const MAX_PROBLEM: u64 = 16 * 1024;
/// How much of the server's own words is repeated, in characters.
const MAX_QUOTE: usize = 200;
/// The longest tag that is sent back, in bytes.
const MAX_TAG: usize = 256;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Got {
    /// An answer, and its tag where it has one.
    Body(Vec<u8>, Option<String>),
    /// Nothing is new.
    Same,
    /// The feed holds fewer documents than were heard of it.
    Shorter,
    /// Not now: when, if it says so, and why.
    Later(Option<Duration>, String),
    /// Somebody has to change something.
    Refused(String),
}

/// A feed, and how to ask it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    is_static: bool,
    without_certificate: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates. The error says what would work.
    pub(super) fn new(feed: &Feed, of: &Feeds, paths: &Paths) -> Result<Self, String> {
        let server = feed.server.as_ref().map_err(Clone::clone)?;
        let config = server.agent(paths)?.timeout_recv_body(Some(RECEIVE));
        let path = if feed.is_static() { format!("{}.json", of.stack) } else { "v1/feed".to_owned() };
        Ok(Self {
            agent: config.build().new_agent(),
            url: format!("{}/{path}", server.url),
            is_static: feed.is_static(),
            without_certificate: server.without_certificate(),
        })
    }

    /// What cuts short a question that is on its way.
    pub(super) fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// Asks for all after `after`, or for a beginning, and waits for it as long as `wait`. The error says what kept it.
    pub(super) fn ask(&self, of: &Feeds, after: Option<u64>, wait: Duration, with: With<'_>) -> Result<Got, String> {
        let mut request = self.agent.get(&self.url);
        if !self.is_static {
            request = request.query("stack", of.stack.as_str()).query("wait", wait.as_secs().to_string());
            if let Some(after) = after {
                request = request.query("after", after.to_string());
            }
        }
        request = match with {
            With::Nothing => request,
            With::Token(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            With::Tag(tag) => request.header(IF_NONE_MATCH, tag),
        };
        let sent = request
            .config()
            .timeout_recv_response(Some(wait + THINK))
            .timeout_global(Some(wait + WHOLE))
            .build()
            .call();
        let mut response = sent.map_err(|error| self.describe(&error))?;
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (status, tag) = (response.status(), header(ETAG).filter(|tag| tag.len() <= MAX_TAG));
        let retry_after = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let most = if status == StatusCode::OK { MAX_ANSWER } else { MAX_PROBLEM };
        // A longer answer is refused while it is read.
        let read = response.body_mut().with_config().limit(most).read_to_vec();
        match (status, read) {
            (StatusCode::OK, Ok(body)) => Ok(Got::Body(body, tag)),
            (StatusCode::NOT_MODIFIED, _) if self.is_static => Ok(Got::Same),
            (StatusCode::OK, Err(error)) => Err(self.describe(&error)),
            (_, read) => Ok(self.refused(status, retry_after, &read.unwrap_or_default())),
        }
    }

    fn refused(&self, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Got {
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let word = |name: &str| problem[name].as_str().unwrap_or_default().chars().take(MAX_QUOTE).collect::<String>();
        let (code, detail) = (word("code"), word("detail"));
        let why = format!("{} answers {} {code} {detail}", self.url, status.as_u16()).trim_end().to_owned();
        match status.as_u16() {
            409 if code == "feed_shorter" => Got::Shorter,
            // Its token is known as soon as the record of the daemon's start is there.
            401 => Got::Later(retry_after, why),
            408 | 425 | 429 | 500.. => Got::Later(retry_after, why),
            _ => Got::Refused(why),
        }
    }

    fn describe(&self, error: &Error) -> String {
        match error {
            Error::BodyExceedsLimit(_) => format!("{} answers at more length than {MAX_ANSWER} bytes", self.url),
            error => http::describe(&self.url, self.without_certificate, error),
        }
    }
}

/// What goes with a question.
#[derive(Debug, Clone, Copy)]
pub(super) enum With<'a> {
    /// A place for files is shown nothing of ours.
    Nothing,
    /// The host's token.
    Token(&'a str),
    /// What the last answer was tagged with.
    Tag(&'a str),
}
