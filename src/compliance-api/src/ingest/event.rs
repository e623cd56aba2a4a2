//! A batch of CloudEvents 1.0 (JSON batch format), read where it lies. `data` is kept as its exact bytes.
//!
//! It takes nothing twice: an attribute that comes again is refused, known or not.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The media type of a batch.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents-batch+json";
/// Attributes beyond those of the specification that one event may have.
const MAX_EXTENSIONS: usize = 16;

/// One event. Attributes that mean nothing here are left out.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) data: &'a str,
}

/// One artifact: a CloudEvent 1.0.
#[derive(utoipa::ToSchema)]
#[schema(as = Event)]
#[allow(dead_code, reason = "it describes what is read by hand")]
pub(super) struct Described {
    /// Always `1.0`.
    #[schema(pattern = "^1\\.0$", example = "1.0")]
    specversion: String,
    /// A host: `LEDGER/SEQ`. A client or person: an id of its own, by which the same is never stored twice.
    #[schema(min_length = 1, max_length = 128, example = "login-2026-11-23-0001")]
    id: String,
    /// `/stacks/STACK/hosts/HOST`, `/clients/NAME` or `/people/PERSON`.
    #[schema(example = "/clients/portal")]
    source: String,
    /// The artifact type.
    #[schema(rename = "type", max_length = 64, example = "app.authentication")]
    kind: String,
    /// RFC 3339. Without it: when it was received.
    #[schema(format = DateTime, example = "2026-11-23T12:00:00Z")]
    time: Option<String>,
    /// Where it is given: `application/json`.
    #[schema(example = "application/json")]
    datacontenttype: Option<String>,
    /// A host: the record's line, byte by byte, without its newline. Else any JSON object on one line.
    #[schema(value_type = Object, example = json!({"user": "u-1027", "result": "accepted"}))]
    data: serde_json::Value,
}

/// Reads a batch: the events before the first that cannot be read, and why that one cannot.
///
/// # Errors
/// A body that is no JSON array.
pub(super) fn read(body: &[u8]) -> Result<(Vec<Event<'_>>, Option<String>), String> {
    match serde_json::from_slice::<Vec<Event<'_>>>(body) {
        Ok(events) => Ok((events, None)),
        Err(why) => {
            let one_by_one: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| why.to_string())?;
            let mut events = Vec::with_capacity(one_by_one.len());
            for raw in one_by_one {
                match serde_json::from_str(raw.get()) {
                    Ok(event) => events.push(event),
                    Err(why) => return Ok((events, Some(why.to_string()))),
                }
            }
            Err(why.to_string())
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Attributes)
    }
}

/// A name or value, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Attributes;

impl<'de> Visitor<'de> for Attributes {
    type Value = Event<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event of CloudEvents 1.0")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
        let mut found = Found::default();
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "specversion" => once("specversion", &mut found.version, map.next_value()?)?,
                "id" => once("id", &mut found.id, map.next_value()?)?,
                "source" => once("source", &mut found.source, map.next_value()?)?,
                "type" => once("type", &mut found.kind, map.next_value()?)?,
                "time" => once("time", &mut found.time, map.next_value()?)?,
                "datacontenttype" => once("datacontenttype", &mut found.content, map.next_value()?)?,
                "data" => once("data", &mut found.data, map.next_value::<&RawValue>()?)?,
                _ => {
                    if found.others.contains(&name) {
                        return Err(A::Error::custom(format!("the attribute {name:?} is there twice")));
                    }
                    if found.others.len() == MAX_EXTENSIONS {
                        return Err(A::Error::custom(format!(
                            "more than {MAX_EXTENSIONS} attributes that mean nothing here"
                        )));
                    }
                    found.others.push(name);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        found.event().map_err(A::Error::custom)
    }
}

fn once<T, E: serde::de::Error>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), E> {
    if place.replace(value).is_some() { Err(E::duplicate_field(name)) } else { Ok(()) }
}

#[derive(Default)]
struct Found<'a> {
    version: Option<Text<'a>>,
    id: Option<Text<'a>>,
    source: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    time: Option<Text<'a>>,
    content: Option<Text<'a>>,
    data: Option<&'a RawValue>,
    others: Vec<Cow<'a, str>>,
}

impl<'a> Found<'a> {
    fn event(self) -> Result<Event<'a>, String> {
        let needed = |name: &str, value: Option<Text<'a>>| {
            value.map(|t| t.0).filter(|t| !t.is_empty()).ok_or(format!("the attribute \"{name}\" is missing or empty"))
        };
        let version = needed("specversion", self.version)?;
        if version != "1.0" {
            return Err(format!(
                "specversion is {:?}; it has to be \"1.0\"",
                version.chars().take(16).collect::<String>()
            ));
        }
        if self.content.is_some_and(|Text(t)| !t.eq_ignore_ascii_case("application/json")) {
            return Err("datacontenttype has to be \"application/json\"".to_owned());
        }
        let data = self.data.ok_or("the attribute \"data\" is missing: it holds the artifact, a JSON object")?;
        Ok(Event {
            id: needed("id", self.id)?,
            source: needed("source", self.source)?,
            kind: needed("type", self.kind)?,
            time: self.time.map(|t| t.0),
            data: data.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"L/1","source":"/s","type":"t","data":{"a": 1}}"#;

    #[test]
    fn data_keeps_its_exact_bytes_and_unknown_attributes_are_passed_over() {
        let body = format!("[ {EVENT} , {} ]", EVENT.replace("{\"spec", "{\"traceparent\":\"x\",\"n\":[1],\"spec"));
        let (events, why) = read(body.as_bytes()).unwrap();
        assert_eq!((events.len(), why), (2, None));
        assert_eq!((events[1].data, &*events[1].id), ("{\"a\": 1}", "L/1"));
    }

    #[test]
    fn what_is_wrong_with_an_event_is_said_and_those_before_it_are_read() {
        for (from, to, why) in [
            ("\"id\":\"L/1\"", "\"id\":\"L/1\",\"id\":\"L/1\"", "duplicate field `id`"),
            ("\"id\":\"L/1\"", "\"id\":\"L/1\",\"x\":1,\"\\u0078\":1", "\"x\" is there twice"),
            ("\"id\":\"L/1\",", "", "\"id\" is missing"),
            ("\"L/1\"", "7", "invalid type"),
            ("\"1.0\"", "\"0.3\"", "has to be \"1.0\""),
            (",\"data\":{\"a\": 1}", "", "\"data\" is missing"),
            ("\"type\":\"t\"", "\"type\":\"t\",\"datacontenttype\":\"text/xml\"", "application/json"),
        ] {
            let body = format!("[{EVENT},{},{EVENT}]", EVENT.replace(from, to));
            let (events, said) = read(body.as_bytes()).unwrap();
            assert_eq!(events.len(), 1, "{to}");
            assert!(said.as_deref().unwrap().contains(why), "{to}: {said:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_array_is_refused() {
        for body in ["", "{}", "[", "[1", "null", "[{]", "[{\"a\":\u{0}}]", EVENT] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("[{{\"x\":{}", "[".repeat(500_000));
        assert!(read(deep.as_bytes()).is_err());
    }
}
