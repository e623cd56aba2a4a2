//! Refusals as the reader of an HTTP answer gets them: `application/problem+json` (RFC 9457), with a `code` for programs
//! and a `detail` that says what would work.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

pub use crate::verdict::Verdict as Problem;
use crate::{describe::describe, store, verdict::Why};

/// The media type of every refusal.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// What `Retry-After` says when the server is busy, in seconds.
pub const RETRY_AFTER: u32 = 2;

/// Goes with the answer that refuses something, so that a browser can be told in a page.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The sentence for people.
    pub(crate) detail: String,
}

/// The status that says so over HTTP.
#[must_use]
pub fn status(why: Why) -> StatusCode {
    match why {
        Why::Malformed => StatusCode::BAD_REQUEST,
        Why::BadToken | Why::UnknownLedger => StatusCode::UNAUTHORIZED,
        Why::Role => StatusCode::FORBIDDEN,
        Why::NotFound | Why::NoStack => StatusCode::NOT_FOUND,
        Why::Method => StatusCode::METHOD_NOT_ALLOWED,
        Why::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Why::Gap | Why::Fork | Why::Conflict | Why::TooManyKeys | Why::Waits | Why::FeedShorter => StatusCode::CONFLICT,
        Why::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Why::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Why::MalformedEvent
        | Why::MalformedReview
        | Why::NotCanonical
        | Why::NotAuthentic
        | Why::WrongHost
        | Why::Mismatch
        | Why::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Why::SlowDown => StatusCode::TOO_MANY_REQUESTS,
        Why::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Why::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the same may work a little later: `Retry-After` says when.
fn is_passing(why: Why) -> bool {
    matches!(why, Why::TooSlow | Why::SlowDown | Why::Busy)
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        if error.is_passing() {
            tracing::warn!(error = %describe(&error), "a request was put off");
            return Self::busy("the store cannot take it now; send the same again after the time in Retry-After");
        }
        Self::internal(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status(self.why);
        let mut body = self.more;
        let refusal = Refusal { detail: self.detail.clone() };
        for (name, value) in [
            ("type", Value::from("about:blank")),
            ("title", status.canonical_reason().unwrap_or("Refused").into()),
            ("status", status.as_u16().into()),
            ("code", self.word.into()),
            ("detail", self.detail.into()),
        ] {
            body.insert(name.to_owned(), value);
        }
        let mut response = (status, Value::Object(body).to_string()).into_response();
        response.extensions_mut().insert(refusal);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if is_passing(self.why) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every refusal at ingest is in the page that says what to do about it, and nothing else is.
    #[test]
    fn the_protocols_page_names_every_status_and_code_at_ingest() {
        let page = include_str!("../../../docs/COMPLIANCE_API.md");
        let table = page.split("| status, `code` | do |").nth(1).and_then(|t| t.split("\n\n").next()).unwrap();
        for why in Why::ALL {
            // Of paths, methods, reviewers and failures of the server, the description says enough; what is about documents
            // stands with them.
            let elsewhere = [Why::Refused, Why::Waits, Why::FeedShorter, Why::NoStack];
            if elsewhere.contains(why) || [Why::NotFound, Why::Method, Why::TooManyKeys, Why::Internal].contains(why) {
                continue;
            }
            let (status, word) = (status(*why).as_u16().to_string(), format!("`{}`", why.as_str()));
            let named = table.lines().any(|line| line.contains(&status) && line.contains(&word));
            assert!(named, "{status} {word}");
        }
        for line in table.lines() {
            let words = line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
            for word in words {
                assert!(Why::ALL.iter().any(|why| why.as_str() == word), "{word} is never answered");
            }
        }
    }
}
