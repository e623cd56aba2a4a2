//! What another client's `data` has to be: one JSON object on one line that every reader reads alike.
//!
//! It never changes a byte: what is refused is refused whole.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// The longest `data`, in bytes.
pub(super) const MAX_DATA: usize = 6 * 1024;
/// How deep it may nest, itself included.
const MAX_DEPTH: usize = 16;

/// The fields at the top of `data` that artifacts are found by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) person: Option<String>,
    pub(super) account: Option<String>,
    pub(super) fingerprint: Option<String>,
}

/// Checks it all.
///
/// # Errors
/// A sentence that says what it has to be.
pub(super) fn check(data: &str) -> Result<Found, String> {
    if data.len() > MAX_DATA {
        return Err(format!(
            "data is {} bytes long; at most {MAX_DATA} are taken: say it in several artifacts",
            data.len()
        ));
    }
    if !data.starts_with('{') {
        return Err("data has to be a JSON object".to_owned());
    }
    if data.contains(['\n', '\r']) {
        return Err("data has to be on one line: write the JSON without newlines between its parts".to_owned());
    }
    let mut found = Found::default();
    let mut from = serde_json::Deserializer::from_str(data);
    let inside = Inside { depth: 1, found: Some(&mut found) };
    inside.deserialize(&mut from).and_then(|()| from.end()).map_err(|e| format!("data: {e}"))?;
    Ok(found)
}

/// One value, so deep inside.
struct Inside<'a> {
    depth: usize,
    found: Option<&'a mut Found>,
}

impl<'de> DeserializeSeed<'de> for Inside<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        no_nul(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        while all.next_element_seed(Inside { depth, found: None })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        let mut seen = std::collections::HashSet::new();
        let mut found = self.found;
        while let Some(key) = map.next_key::<String>()? {
            no_nul(&key)?;
            let place = match (&mut found, key.as_str()) {
                (Some(found), "person") => Some(&mut found.person),
                (Some(found), "account") => Some(&mut found.account),
                (Some(found), "fingerprint") => Some(&mut found.fingerprint),
                _ => None,
            };
            match place {
                Some(place) => {
                    let text: String =
                        map.next_value().map_err(|_| A::Error::custom(format!("{key:?} has to be text")))?;
                    no_nul(&text)?;
                    *place = Some(text);
                }
                None => map.next_value_seed(Inside { depth, found: None })?,
            }
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
        }
        Ok(())
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth > MAX_DEPTH { Err(E::custom(format!("it nests deeper than {MAX_DEPTH}"))) } else { Ok(depth + 1) }
}

fn no_nul<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("it holds a NUL character")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_artifact_is_found_by_stands_at_the_top() {
        let found = check(r#"{"person":"ann","x":{"account":"no"},"account":"app","n":[1,2.5,null,true]}"#).unwrap();
        assert_eq!(found, Found { person: Some("ann".into()), account: Some("app".into()), fingerprint: None });
    }

    #[test]
    fn what_readers_would_read_differently_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(16), "]".repeat(16));
        for (bad, why) in [
            (r#"{"a":1,"a":1}"#, "\"a\" is there twice"),
            (r#"{"b":[{"a":1,"\u0061":2}]}"#, "\"a\" is there twice"),
            (r#"{"a":"\u0000"}"#, "NUL"),
            (r#"{"a\u0000":1}"#, "NUL"),
            (r#"{"person":"\u0000"}"#, "NUL"),
            (r#"{"person":1}"#, "has to be text"),
            ("{\"a\":\n1}", "one line"),
            ("[1]", "JSON object"),
            ("\"a\"", "JSON object"),
            (deep.as_str(), "nests deeper"),
            (r#"{"a":1e999}"#, "number out of range"),
        ] {
            let said = check(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
        assert!(check(&format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DATA))).is_err());
        assert!(check(&deep.replacen('[', "", 1).replacen(']', "", 1)).is_ok());
    }
}
