//! How a request carries its events: the three content modes of the CloudEvents HTTP binding, version 1.0.
//!
//! A batch and a single structured event are JSON; of an event in binary mode the attributes are headers (`ce-…`, percent-encoded)
//! and the body is its data.

use axum::http::{HeaderMap, HeaderValue, header};

use super::event::is_json;
use crate::{problem::Problem, verdict::Why};

/// The media type of a batch.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";
/// The media type of one event, structured.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
/// What the name of an attribute's header begins with.
const PREFIX: &str = "ce-";

/// How the events of one request are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// A JSON array of events.
    Batch,
    /// One event, a JSON object.
    Structured,
    /// One event: these are its attributes, and the body is its data.
    Binary(Vec<(String, String)>),
}

impl Mode {
    /// The mode, as the headers say.
    ///
    /// # Errors
    /// 415 for none of the three; 400 for an attribute that is not text.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let said = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            BATCH => Ok(Self::Batch),
            STRUCTURED => Ok(Self::Structured),
            // What other formats the binding knows is no event in binary mode, whatever headers there are.
            other if other.starts_with("application/cloudevents") => Err(refused()),
            other if headers.contains_key("ce-specversion") && (other.is_empty() || is_json(other)) => {
                attributes(headers).map(Self::Binary)
            }
            _ => Err(refused()),
        }
    }
}

fn refused() -> Problem {
    let detail = format!(
        "send a batch (`Content-Type: {BATCH}`), one event (`{STRUCTURED}`), or one in binary mode: `ce-specversion` and the \
         other attributes as headers, and `Content-Type: application/json`"
    );
    Problem::new(Why::MediaType, detail)
}

fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let named = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix(PREFIX)?, value)));
    let decoded = named.map(|(name, value)| {
        let text = decoded(value).ok_or_else(|| {
            Problem::malformed(format!(
                "the header {PREFIX}{name} is no text: write UTF-8, percent-encoded where it is not ASCII"
            ))
        });
        text.map(|text| (name.to_owned(), text))
    });
    decoded.collect()
}

/// The text of a header's value: an escape that is none stands for itself.
fn decoded(value: &HeaderValue) -> Option<String> {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let escaped = hex.and_then(|hex| Some(digit(hex[0])? * 16 + digit(hex[1])?));
        out.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &[u8])]) -> HeaderMap {
        let one = |(name, value): &(&str, &[u8])| {
            (name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap())
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn the_media_type_says_the_mode_and_headers_make_a_binary_one_only_without_it() {
        for (media, wanted) in [
            ("application/cloudevents-batch+json", Some(Mode::Batch)),
            ("Application/CloudEvents+JSON; charset=utf-8", Some(Mode::Structured)),
            ("application/cloudevents+avro", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Mode::of(&headers(&[("content-type", media.as_bytes())])).ok(), wanted, "{media}");
            let both = Mode::of(&headers(&[("content-type", media.as_bytes()), ("ce-specversion", b"1.0")])).ok();
            let binary = Mode::Binary(vec![("specversion".to_owned(), "1.0".to_owned())]);
            let json = media.is_empty() || media == "application/json";
            assert_eq!(both, if json { Some(binary) } else { wanted }, "{media}");
        }
        assert!(Mode::of(&headers(&[("content-type", b"text/plain"), ("ce-specversion", b"1.0")])).is_err());
    }

    #[test]
    fn attributes_are_decoded_once_and_have_to_be_text() {
        for (value, wanted) in [
            (&b"login 1"[..], Some("login 1")),
            (b"Euro%20%E2%82%AC%20%F0%9F%98%80", Some("Euro \u{20ac} \u{1f600}")),
            ("ä".as_bytes(), Some("ä")),
            (b"%2541", Some("%41")),
            (b"100%", Some("100%")),
            (b"%+1%zz", Some("%+1%zz")),
            (b"%ff", None),
            (b"\xe4", None),
        ] {
            assert_eq!(decoded(&HeaderValue::from_bytes(value).unwrap()).as_deref(), wanted, "{value:?}");
        }
    }
}
