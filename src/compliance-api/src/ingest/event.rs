//! CloudEvents 1.0, read where they lie, in each of the binding's modes. `data` is kept as its exact bytes.
//!
//! It takes nothing twice: an attribute that comes again is refused, known or not.

use std::{borrow::Cow, fmt};

use axum::body::Bytes;
use base64ct::{Base64, Encoding};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::mode::Mode;

/// The media type of every event's data.
const JSON: &str = "application/json";
/// Attributes beyond those of the specification that one event may have.
const MAX_EXTENSIONS: usize = 16;

/// One event. Attributes that mean nothing here are left out.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    pub(super) time: Option<Cow<'a, str>>,
    /// In the body; of one that came in base64 only once [`placed`] has put it there.
    pub(super) data: &'a str,
    decoded: Option<String>,
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

/// Reads events: those before the first that cannot be read, and why that one cannot.
///
/// # Errors
/// A body that is nothing of the kind.
pub(super) fn read<'a>(body: &'a [u8], mode: &'a Mode) -> Result<(Vec<Event<'a>>, Option<String>), String> {
    match mode {
        Mode::Batch => batch(body).map_err(|why| format!("the body is no JSON array of CloudEvents: {why}")),
        Mode::Structured => {
            let raw: &RawValue =
                serde_json::from_slice(body).map_err(|why| format!("the body is no CloudEvent in JSON: {why}"))?;
            Ok(one(serde_json::from_str(raw.get()).map_err(|why| why.to_string())))
        }
        Mode::Binary(attributes) => {
            let data = serde_json::from_slice(body)
                .map_err(|why| format!("the body is no JSON, and so no event's data: {why}"))?;
            Ok(one(of_headers(attributes, data)))
        }
    }
}

fn one<'a>(event: Result<Event<'a>, String>) -> (Vec<Event<'a>>, Option<String>) {
    match event {
        Ok(event) => (vec![event], None),
        Err(why) => (Vec::new(), Some(why)),
    }
}

fn batch(body: &[u8]) -> Result<(Vec<Event<'_>>, Option<String>), String> {
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

fn of_headers<'a>(attributes: &'a [(String, String)], data: &'a RawValue) -> Result<Event<'a>, String> {
    let mut found = Found { data: Some(data), ..Found::default() };
    for (name, value) in attributes {
        let twice = || format!("the attribute {name:?} is there twice");
        match found.place(name) {
            Some(place) if place.is_some() => return Err(twice()),
            Some(place) => *place = Some(Text(Cow::Borrowed(value))),
            None => found.other(Cow::Borrowed(name))?,
        }
    }
    found.event()
}

/// Whether a media type, with whatever parameters, is that of JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON)
}

/// The body with what came in base64 behind it; none where nothing did. So all data lies in one place, as it was stated.
pub(super) fn widened(body: &Bytes, events: &[Event<'_>]) -> Option<Bytes> {
    let decoded = || events.iter().filter_map(|event| event.decoded.as_deref());
    decoded().next()?;
    Some(
        [body]
            .map(|body| &body[..])
            .into_iter()
            .chain(decoded().map(str::as_bytes))
            .collect::<Vec<_>>()
            .concat()
            .into(),
    )
}

/// The same events, with their data in the body that is `wide`.
pub(super) fn placed<'a>(body: &Bytes, wide: &'a Bytes, events: Vec<Event<'a>>) -> Vec<Event<'a>> {
    let mut end = body.len();
    let text = |start: usize, len: usize| std::str::from_utf8(&wide[start..start + len]).expect("copied from text");
    let place = |event: Event<'a>| {
        let data = match &event.decoded {
            Some(decoded) => {
                end += decoded.len();
                text(end - decoded.len(), decoded.len())
            }
            None => text(event.data.as_ptr() as usize - body.as_ptr() as usize, event.data.len()),
        };
        Event { data, ..event }
    };
    events.into_iter().map(place).collect()
}

/// What a `data_base64` holds.
fn decode(base64: &str) -> Result<String, String> {
    let bytes = Base64::decode_vec(base64).map_err(|_| "data_base64 is no base64".to_owned())?;
    let data: &RawValue = serde_json::from_slice(&bytes).map_err(|why| format!("data_base64 holds no JSON: {why}"))?;
    Ok(data.get().to_owned())
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
            match (&*name, found.place(&name)) {
                (_, Some(place)) => once(&name, place, map.next_value()?)?,
                ("data", _) => once("data", &mut found.data, map.next_value::<&RawValue>()?)?,
                ("data_base64", _) => once("data_base64", &mut found.base64, map.next_value()?)?,
                _ => {
                    found.other(name).map_err(A::Error::custom)?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        found.event().map_err(A::Error::custom)
    }
}

fn once<T, E: serde::de::Error>(name: &str, place: &mut Option<T>, value: T) -> Result<(), E> {
    if place.replace(value).is_some() {
        Err(E::custom(format!("the attribute {name:?} is there twice")))
    } else {
        Ok(())
    }
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
    base64: Option<Text<'a>>,
    others: Vec<Cow<'a, str>>,
}

impl<'a> Found<'a> {
    /// Where an attribute that means something here goes.
    fn place(&mut self, name: &str) -> Option<&mut Option<Text<'a>>> {
        Some(match name {
            "specversion" => &mut self.version,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.content,
            _ => return None,
        })
    }

    /// Takes note of one that means nothing here.
    fn other(&mut self, name: Cow<'a, str>) -> Result<(), String> {
        if self.others.contains(&name) {
            return Err(format!("the attribute {name:?} is there twice"));
        }
        if self.others.len() == MAX_EXTENSIONS {
            return Err(format!("more than {MAX_EXTENSIONS} attributes that mean nothing here"));
        }
        self.others.push(name);
        Ok(())
    }

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
        if self.content.is_some_and(|Text(t)| !is_json(&t)) {
            return Err("datacontenttype has to be \"application/json\"".to_owned());
        }
        let (data, decoded) = match (self.data, self.base64) {
            (Some(data), None) => (data.get(), None),
            (None, Some(Text(base64))) => ("", Some(decode(&base64)?)),
            (Some(_), Some(_)) => return Err("an event has \"data\" or \"data_base64\", not both".to_owned()),
            (None, None) => {
                return Err("the attribute \"data\" is missing: it holds the artifact, a JSON object".to_owned());
            }
        };
        Ok(Event {
            id: needed("id", self.id)?,
            source: needed("source", self.source)?,
            kind: needed("type", self.kind)?,
            time: self.time.map(|t| t.0),
            data,
            decoded,
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
        let (events, why) = read(body.as_bytes(), &Mode::Batch).unwrap();
        assert_eq!((events.len(), why), (2, None));
        assert_eq!((events[1].data, &*events[1].id), ("{\"a\": 1}", "L/1"));
    }

    #[test]
    fn what_is_wrong_with_an_event_is_said_and_those_before_it_are_read() {
        for (from, to, why) in [
            ("\"id\":\"L/1\"", "\"id\":\"L/1\",\"id\":\"L/1\"", "\"id\" is there twice"),
            ("\"id\":\"L/1\"", "\"id\":\"L/1\",\"x\":1,\"\\u0078\":1", "\"x\" is there twice"),
            ("\"id\":\"L/1\",", "", "\"id\" is missing"),
            ("\"L/1\"", "7", "invalid type"),
            ("\"1.0\"", "\"0.3\"", "has to be \"1.0\""),
            (",\"data\":{\"a\": 1}", "", "\"data\" is missing"),
            ("\"type\":\"t\"", "\"type\":\"t\",\"datacontenttype\":\"text/xml\"", "application/json"),
        ] {
            let body = format!("[{EVENT},{},{EVENT}]", EVENT.replace(from, to));
            let (events, said) = read(body.as_bytes(), &Mode::Batch).unwrap();
            assert_eq!(events.len(), 1, "{to}");
            assert!(said.as_deref().unwrap().contains(why), "{to}: {said:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_array_is_refused() {
        for body in ["", "{}", "[", "[1", "null", "[{]", "[{\"a\":\u{0}}]", EVENT] {
            assert!(read(body.as_bytes(), &Mode::Batch).is_err(), "{body}");
        }
        let deep = format!("[{{\"x\":{}", "[".repeat(500_000));
        assert!(read(deep.as_bytes(), &Mode::Batch).is_err());
        for body in ["", "{", "x"] {
            assert!(read(body.as_bytes(), &Mode::Structured).is_err(), "{body}");
            assert!(read(body.as_bytes(), &Mode::Binary(Vec::new())).is_err(), "{body}");
        }
    }

    #[test]
    fn one_event_is_read_alike_however_it_is_carried() {
        let attributes = |more: &[(&str, &str)]| {
            let all = [("specversion", "1.0"), ("id", "L/1"), ("source", "/s"), ("type", "t")];
            Mode::Binary(all.iter().chain(more).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
        };
        for (body, mode) in [
            (EVENT, Mode::Structured),
            (" {\"a\": 1}\n", attributes(&[])),
            ("{\"a\": 1}", attributes(&[("traceparent", "x"), ("time", "2026-11-01T00:00:00Z")])),
        ] {
            let (events, why) = read(body.as_bytes(), &mode).unwrap();
            assert_eq!((events.len(), why), (1, None), "{body}");
            let event = &events[0];
            assert_eq!((&*event.id, &*event.source, &*event.kind, event.data), ("L/1", "/s", "t", "{\"a\": 1}"));
        }
        for (body, mode, wanted) in [
            ("{}", Mode::Structured, "\"specversion\" is missing"),
            ("[]", Mode::Structured, "invalid type"),
            ("{}", attributes(&[("id", "L/2")]), "\"id\" is there twice"),
            ("{}", attributes(&[("x", "1"), ("x", "2")]), "\"x\" is there twice"),
            ("{}", Mode::Binary(vec![("specversion".to_owned(), "1.0".to_owned())]), "\"id\" is missing"),
        ] {
            let (events, why) = read(body.as_bytes(), &mode).unwrap();
            assert!(events.is_empty() && why.as_deref().unwrap().contains(wanted), "{body}: {why:?}");
        }
    }

    #[test]
    fn data_in_base64_is_what_it_holds_and_lies_behind_the_body() {
        let coded = |base64: &str| EVENT.replace("\"data\":{\"a\": 1}", &format!("\"data_base64\":\"{base64}\""));
        let body = Bytes::from(format!("[{EVENT},{},{EVENT},{}]", coded("eyJiIjogMn0="), coded("eyJjIjozfQo=")));
        let (events, why) = read(&body, &Mode::Batch).unwrap();
        assert_eq!((events.len(), why), (4, None));
        let wide = widened(&body, &events).unwrap();
        let events = placed(&body, &wide, events);
        let data: Vec<&str> = events.iter().map(|event| event.data).collect();
        assert_eq!(data, ["{\"a\": 1}", "{\"b\": 2}", "{\"a\": 1}", "{\"c\":3}"]);
        assert!(data.iter().all(|data| wide.as_ptr_range().contains(&data.as_ptr())));
        let plain = format!("[{EVENT}]").into();
        assert_eq!(widened(&plain, &read(&plain, &Mode::Batch).unwrap().0), None);
        for (base64, wanted) in [("e", "no base64"), ("/w==", "no JSON"), ("", "no JSON"), ("e30", "no base64")] {
            let body = format!("[{}]", coded(base64));
            let why = read(body.as_bytes(), &Mode::Batch).unwrap().1;
            assert!(why.as_deref().unwrap().contains(wanted), "{base64}: {why:?}");
        }
        let both = format!("[{}]", EVENT.replace(",\"data\"", ",\"data_base64\":\"e30=\",\"data\""));
        assert!(read(both.as_bytes(), &Mode::Batch).unwrap().1.unwrap().contains("not both"));
    }
}
