//! Refusals as the reader of an HTTP answer gets them: `application/problem+json` (RFC 9457), with a `code` for programs
//! and a `detail` that says what would work.
//!
//! It never carries what an operator alone may see (paths, SQL, another client's data): those go to the log.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use crate::store;

/// The media type of every refusal.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// What `Retry-After` says when the server is busy, in seconds.
pub const RETRY_AFTER: u32 = 2;

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a refusal that is not answered refuses nothing"]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<u32>,
    more: Map<String, Value>,
}

impl Problem {
    /// A refusal with this status, word for programs, and sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, more: Map::new() }
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 503 with `Retry-After`: the request may be good; the server cannot take it now.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail) }
    }

    /// 429 with `Retry-After`: the sender has as many requests under way as it may.
    pub fn slow_down(most: usize) -> Self {
        let detail =
            format!("{most} requests from this address are under way already; send this one again a little later");
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", detail) }
    }

    /// 500. What went wrong is logged here, and not told.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %describe(error), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed at this; its log says why; try again later",
        )
    }

    /// Adds a member beside the standard ones.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// 413: the body is over its bound.
    pub fn too_large(most: usize) -> Self {
        let detail = format!("the body is over {most} bytes; send half as many events at a time");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A member beside the standard ones.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.more.get(name)
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// An error and what caused it, on one line.
#[must_use]
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
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
        let mut body = self.more;
        for (name, value) in [
            ("type", Value::from("about:blank")),
            ("title", self.status.canonical_reason().unwrap_or("Refused").into()),
            ("status", self.status.as_u16().into()),
            ("code", self.code.into()),
            ("detail", self.detail.into()),
        ] {
            body.insert(name.to_owned(), value);
        }
        let mut response = (self.status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
