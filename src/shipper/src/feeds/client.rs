//! One question to a feed and its answer, every part of it bounded in time and size.

use std::{
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use ureq::{
    Agent, Error,
    http::{
        StatusCode,
        header::{AUTHORIZATION, ETAG, IF_NONE_MATCH, RETRY_AFTER},
    },
};

use super::{
    answer::MAX_ANSWER,
    slot::{Permit, Slot},
};
use crate::{
    http,
    paths::Paths,
    settings::{Feed, Feeds},
};

/// How long the server may think, beyond what it was asked to wait.
const THINK: Duration = Duration::from_secs(15);
/// How long its answer may take to arrive, once it has begun.
const RECEIVE: Duration = Duration::from_secs(60);
/// How long all of it may take, beyond what it was asked to wait.
const WHOLE: Duration = Duration::from_secs(120);
/// The longest answer that is read while others read long ones, in bytes.
const SHORT: u64 = 1 << 20;
/// How long to wait until no other feed reads a long answer.
const TURN: Duration = Duration::from_secs(30);
/// The longest refusal that is read, in bytes.
const MAX_PROBLEM: u64 = 16 * 1024;
/// How much of the server's own words is repeated, in characters.
const MAX_QUOTE: usize = 200;
/// The longest tag that is sent back, in bytes.
const MAX_TAG: usize = 256;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Got {
    /// An answer.
    Body(Whole),
    /// Nothing is new.
    Same,
    /// The feed holds fewer documents than were heard of it.
    Shorter,
    /// It does not know the token: it does as soon as the record of the daemon's start is there.
    NotYet(String),
    /// Not now: when, if it says so, and why.
    Later(Option<Duration>, String),
    /// Somebody has to change something.
    Refused(String),
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) body: Vec<u8>,
    /// Its tag, where it has one.
    pub(super) tag: Option<String>,
    /// To be kept for as long as the body is, where that is long.
    pub(super) room: Option<Permit>,
}

/// A feed, and how to ask it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    is_static: bool,
    without_certificate: bool,
    slot: Arc<Slot>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates. The error says what would work.
    pub(super) fn new(feed: &Feed, of: &Feeds, paths: &Paths, slot: &Arc<Slot>) -> Result<Self, String> {
        Self::within(feed, of, paths, slot, RECEIVE)
    }

    /// One whose answers may take so long to arrive.
    fn within(feed: &Feed, of: &Feeds, paths: &Paths, slot: &Arc<Slot>, receive: Duration) -> Result<Self, String> {
        let server = feed.server.as_ref().map_err(Clone::clone)?;
        let config = server.agent(paths)?.timeout_recv_body(Some(receive));
        let path = if feed.is_static() { format!("{}.json", of.stack) } else { "v1/feed".to_owned() };
        Ok(Self {
            agent: config.build().new_agent(),
            url: format!("{}/{path}", server.url),
            is_static: feed.is_static(),
            without_certificate: server.without_certificate(),
            slot: slot.clone(),
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
        let reader = response.body_mut().with_config().limit(most).reader();
        match (status, self.read(reader)) {
            (StatusCode::OK, read) => {
                let (body, room) = read.map_err(|error| self.describe(&Error::from(error)))?;
                Ok(Got::Body(Whole { body, tag, room }))
            }
            (StatusCode::NOT_MODIFIED, _) if self.is_static => Ok(Got::Same),
            (_, read) => Ok(self.refused(status, retry_after, &read.unwrap_or_default().0)),
        }
    }

    /// One that is too long is refused while it is read.
    fn read(&self, mut reader: impl Read) -> io::Result<(Vec<u8>, Option<Permit>)> {
        let mut body = Vec::new();
        reader.by_ref().take(SHORT).read_to_end(&mut body)?;
        if (body.len() as u64) < SHORT {
            return Ok((body, None));
        }
        let busy = || io::Error::other("long answers of other feeds are being read");
        let room = self.slot.take(TURN).ok_or_else(busy)?;
        reader.read_to_end(&mut body)?;
        Ok((body, Some(room)))
    }

    fn refused(&self, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Got {
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let word = |name: &str| problem[name].as_str().unwrap_or_default().chars().take(MAX_QUOTE).collect::<String>();
        let (code, detail) = (word("code"), word("detail"));
        let why = format!("{} answers {} {code} {detail}", self.url, status.as_u16()).trim_end().to_owned();
        match status.as_u16() {
            409 if code == "feed_shorter" => Got::Shorter,
            401 => Got::NotYet(why),
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{http::Server, testing};

    fn ask(reply: testing::Reply, slot: &Arc<Slot>) -> Result<Got, String> {
        let (_dir, paths) = testing::paths();
        let server = testing::Server::start(move |_| reply.clone());
        let reached = Server { url: server.url.clone(), authorities: None, certificate: None };
        let feed = Feed { name: server.url.clone(), server: Ok(reached) };
        let (organization, stack) = ("acme".parse().unwrap(), "web".parse().unwrap());
        let of = Feeds { organization, stack, feeds: vec![feed.clone()], left_out: 0 };
        let client = Client::within(&feed, &of, &paths, slot, Duration::from_millis(500)).unwrap();
        client.ask(&of, Some(1), Duration::ZERO, With::Token("t"))
    }

    #[test]
    fn an_answer_that_drips_is_given_up() {
        let begun = Instant::now();
        let why = ask(testing::Reply::Endless(1, Duration::from_millis(20)), &Arc::default()).unwrap_err();
        assert!(why.contains("in time") && begun.elapsed() < Duration::from_secs(5), "{why}");
    }

    #[test]
    fn a_long_answer_has_the_room_for_long_ones_and_a_short_one_needs_none() {
        let slot = Arc::<Slot>::default();
        let say = |length| testing::Reply::Say(200, vec![], vec![b'x'; length]);
        let Ok(Got::Body(long)) = ask(say(3 << 20), &slot) else { panic!("an answer") };
        assert!(long.body.len() == 3 << 20 && long.room.is_some());
        let Ok(Got::Body(short)) = ask(say(1000), &slot) else { panic!("an answer") };
        assert!(short.body.len() == 1000 && short.room.is_none());
        drop(long);
        let why = ask(say(33 << 20), &slot).unwrap_err();
        assert!(why.contains("more length than 33554432"), "{why}");
        assert!(slot.take(Duration::ZERO).is_some(), "it was given back");
    }
}
