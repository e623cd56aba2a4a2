//! One batch and its answer, every part of it bounded in time and size.

use std::time::Duration;

use ureq::{
    Agent, Error,
    http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};

use super::answer::{Answer, MAX_ANSWER, NEW_TOKEN};
use crate::{
    http::{self, SOURCE},
    paths::Paths,
    settings::Api,
};

/// How long the server may think, once it has the batch.
const THINK: Duration = Duration::from_secs(30);
/// How long its answer may take to arrive, once it has begun.
const RECEIVE: Duration = Duration::from_secs(10);
/// How long all of it may take.
pub(super) const WHOLE: Duration = Duration::from_secs(60);
/// The credential that holds a stack's enrolment token.
const TOKEN: &str = "enrolment-token";

/// A server, and how to speak to it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// TLS, and no certificate of ours to show.
    without_certificate: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates. The error says what would work.
    pub(super) fn new(api: &Api, paths: &Paths) -> Result<Self, String> {
        let config = api.server.agent(paths)?.timeout_recv_response(Some(THINK)).timeout_recv_body(Some(RECEIVE));
        Ok(Self {
            agent: config.build().new_agent(),
            url: format!("{}/v1/artifacts", api.server.url),
            without_certificate: api.server.without_certificate(),
        })
    }

    /// Sends a batch and waits for the answer, at most `within`. The error says what kept it.
    pub(super) fn send(&self, body: &str, token: Option<&str>, within: Duration) -> Result<Answer, String> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/cloudevents-batch+json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let sent = request.config().timeout_global(Some(within.min(WHOLE))).build().send(body);
        let mut response = sent.map_err(|error| http::describe(&self.url, self.without_certificate, &error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let body = read.map_err(|error| match error {
            Error::BodyExceedsLimit(_) => format!("{} answers at more length than {MAX_ANSWER} bytes", self.url),
            error => http::describe(&self.url, self.without_certificate, &error),
        })?;
        Ok(Answer { status, retry_after, body })
    }
}

/// The enrolment token, where there is one. The error says what would work.
pub(super) fn enrolment_token(paths: &Paths) -> Result<String, String> {
    let missing = || format!("the server does not know this host: {NEW_TOKEN}");
    let token = http::credential(paths, TOKEN)?.ok_or_else(missing)?;
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err(format!("{SOURCE}/{TOKEN} holds no token: it has white space or other characters in it"))
    }
}

#[cfg(test)]
mod tests;
