//! From a draft to what will stand in one or more records: escaped, checked, split to size. Knows no position, no key.

use serde_json::{Map, Value};

use crate::{
    Draft, Person,
    escape::{cut, escape_text, json_len},
    line::{MAX_INTEGER, MAX_LINE},
};

/// Bytes left for `v`, `ledger`, `seq`, `host`, `stack`, `boot`, `time`, `prev` and `signature`, at their longest.
pub(crate) const POSITION_BYTES: usize = 1100;
/// The longest `reason`, as JSON.
pub const MAX_REASON: usize = 1024;
/// The longest `actor.exe`, as JSON.
pub const MAX_EXE: usize = 512;
/// The longest string in a statement that has to be split, as JSON.
pub const MAX_SPLIT_STRING: usize = 1024;
/// How deep `detail` may nest.
pub const MAX_DEPTH: usize = 8;
/// The most parts one statement goes out in; what is beyond is counted in `detail.left_out`.
pub const MAX_PARTS: usize = 64;
/// Room for `"detail":{…}`, `"part":64,"parts":64,"left_out":9007199254740991,` and the comma before.
const PART_BYTES: usize = 96;

/// A draft that cannot be stated: a mistake in the program, never in what it saw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// A key of `detail` is not a fixed word.
    #[error("detail has the key {0:?}; keys are fixed words [a-z0-9_]+, never data")]
    Key(String),
    /// `part`, `parts` and `left_out` are the ledger's own.
    #[error("detail has the key {0:?}, which is kept for statements in parts")]
    Reserved(String),
    /// A number with a fraction.
    #[error("detail.{0} is a float; records hold integers only")]
    Float(String),
    /// Nested beyond [`MAX_DEPTH`].
    #[error("detail.{0} nests deeper than {MAX_DEPTH}")]
    Depth(String),
}

/// The fields of one record that come from a draft, ready to be given a position.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Body(pub(crate) Map<String, Value>);

impl Body {
    /// A statement of a type that is not a host's: the compliance API's own ledger has words of its own. Text is raw, and
    /// escaped here, once; otherwise as [`Draft::bodies`].
    ///
    /// # Errors
    /// As [`Draft::bodies`].
    pub fn statement(
        word: &'static str,
        person: Option<&Person>,
        reason: &str,
        detail: &Map<String, Value>,
    ) -> Result<Vec<Self>, DraftError> {
        let mut head = Map::new();
        head.insert("type".to_owned(), word.into());
        if let Some(person) = person {
            head.insert("person".to_owned(), escape_text(person.as_str()).into());
        }
        head.insert("reason".to_owned(), cut(&escape_text(reason), MAX_REASON).into());
        bodies(head, detail)
    }
}

impl Draft {
    /// What stands in the records of this statement: one body, or numbered parts where one line cannot hold it.
    ///
    /// Text is escaped here, once. Integers beyond ±(2^53−1) become strings of their digits, nulls are left out: what
    /// was seen decides neither whether nor that it is recorded. In a statement that needs parts, arrays are split
    /// between elements and strings over [`MAX_SPLIT_STRING`] are cut, with `\cut:N` at their end.
    ///
    /// # Errors
    /// Only for what no input can cause: a key that is not a fixed word, a float, bottomless nesting.
    pub fn bodies(&self) -> Result<Vec<Body>, DraftError> {
        bodies(self.head(), &self.detail)
    }

    /// Every field but `detail`. Each is bounded: names by their types, text here.
    fn head(&self) -> Map<String, Value> {
        let mut head = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                head.insert(key.to_owned(), value);
            }
        };
        let name = |text: &str| Some(Value::String(escape_text(text)));
        put("type", name(self.kind.as_str()));
        put("person", self.person.as_ref().and_then(|p| name(p.as_str())));
        put("account", self.account.as_ref().and_then(|a| name(a.as_str())));
        put("grant", self.grant.as_ref().and_then(|g| name(g.as_str())));
        put("session", self.session.as_ref().and_then(|s| name(s.as_str())));
        put("fingerprint", self.fingerprint.as_ref().and_then(|f| name(f.as_str())));
        put("reason", Some(Value::String(cut(&escape_text(&self.reason), MAX_REASON))));
        put(
            "source",
            self.source.as_ref().map(|s| {
                object([("address", s.address.map(|a| a.to_string().into())), ("port", s.port.map(Value::from))])
            }),
        );
        put(
            "actor",
            self.actor.as_ref().map(|a| {
                object([
                    ("uid", a.uid.map(Value::from)),
                    ("login_uid", a.login_uid.map(Value::from)),
                    ("person", a.person.as_ref().map(|p| p.as_str().into())),
                    ("exe", a.exe.as_ref().map(|e| cut(&escape_text(e), MAX_EXE).into())),
                    ("pid", a.pid.map(Value::from)),
                ])
            }),
        );
        head
    }
}

fn bodies(head: Map<String, Value>, detail: &Map<String, Value>) -> Result<Vec<Body>, DraftError> {
    for own in ["part", "parts", "left_out"] {
        if detail.contains_key(own) {
            return Err(DraftError::Reserved(own.to_owned()));
        }
    }
    let detail = escaped_map(detail, "", 0)?;
    let room = MAX_LINE - 1 - POSITION_BYTES - size(&Value::Object(head.clone()));
    if detail.is_empty() {
        return Ok(vec![Body(head)]);
    }
    let whole = Value::Object(detail);
    if size(&whole) + PART_BYTES <= room {
        let mut body = head;
        body.insert("detail".to_owned(), whole);
        return Ok(vec![Body(body)]);
    }
    let Value::Object(detail) = whole else { unreachable!("made an object above") };
    Ok(split(&head, detail, room.saturating_sub(PART_BYTES)))
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect())
}

fn escaped_map(map: &Map<String, Value>, at: &str, depth: usize) -> Result<Map<String, Value>, DraftError> {
    let mut out = Map::new();
    for (key, value) in map {
        if !is_word(key) {
            return Err(DraftError::Key(key.clone()));
        }
        let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        if let Some(value) = escaped(value, &at, depth + 1)? {
            out.insert(key.clone(), value);
        }
    }
    Ok(out)
}

fn escaped(value: &Value, at: &str, depth: usize) -> Result<Option<Value>, DraftError> {
    if depth > MAX_DEPTH {
        return Err(DraftError::Depth(at.to_owned()));
    }
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(_) => value.clone(),
        Value::String(raw) => Value::String(escape_text(raw)),
        Value::Number(n) if fits(n) => value.clone(),
        Value::Number(n) if n.is_i64() || n.is_u64() => Value::String(n.to_string()),
        Value::Number(_) => return Err(DraftError::Float(at.to_owned())),
        Value::Array(all) => {
            let all = all.iter().map(|v| escaped(v, at, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            Value::Array(all.into_iter().flatten().collect())
        }
        Value::Object(map) => Value::Object(escaped_map(map, at, depth)?),
    }))
}

/// Whether a number is an integer within ±(2^53−1).
pub(crate) fn fits(n: &serde_json::Number) -> bool {
    n.as_i64().is_some_and(|i| i.unsigned_abs() <= MAX_INTEGER)
}

/// Whether a key is a fixed word.
pub(crate) fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Bytes of an escaped value as canonical JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(b) => 5 - usize::from(*b),
        Value::Number(n) => n.to_string().len(),
        Value::String(text) => json_len(text),
        Value::Array(all) => 2 + all.iter().map(|v| size(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>(),
    }
}

/// One thing that has to stand in a single line: where it belongs in `detail`, and whether it is one of an array.
struct Atom {
    path: Vec<String>,
    element: bool,
    value: Value,
}

impl Atom {
    fn cost(&self) -> usize {
        self.path.iter().map(|k| k.len() + 7).sum::<usize>() + size(&self.value) + 3
    }
}

fn split(head: &Map<String, Value>, detail: Map<String, Value>, room: usize) -> Vec<Body> {
    let mut atoms = Vec::new();
    take_apart(Value::Object(detail), &mut Vec::new(), &mut atoms);
    let mut shares: Vec<(Map<String, Value>, usize)> = vec![(Map::new(), 0)];
    let mut left_out = 0u64;
    for mut atom in atoms {
        shrink_to(&mut atom, room);
        let cost = atom.cost();
        if shares.last().is_some_and(|(_, used)| used + cost > room) {
            if shares.len() == MAX_PARTS {
                left_out += 1;
                continue;
            }
            shares.push((Map::new(), 0));
        }
        let (share, used) = shares.last_mut().expect("never empty");
        *used += cost;
        place(share, atom);
    }
    let parts = shares.len();
    let number = |(n, (mut share, _)): (usize, (Map<String, Value>, usize))| {
        share.insert("part".to_owned(), (n + 1).into());
        share.insert("parts".to_owned(), parts.into());
        if left_out > 0 && n + 1 == parts {
            share.insert("left_out".to_owned(), left_out.into());
        }
        let mut body = head.clone();
        body.insert("detail".to_owned(), Value::Object(share));
        Body(body)
    };
    shares.into_iter().enumerate().map(number).collect()
}

/// Objects are walked, the arrays in them become one atom per element, all else is one atom.
fn take_apart(value: Value, path: &mut Vec<String>, out: &mut Vec<Atom>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key);
                take_apart(value, path, out);
                path.pop();
            }
        }
        Value::Array(all) if !all.is_empty() => {
            out.extend(all.into_iter().map(|value| Atom { path: path.clone(), element: true, value }));
        }
        value => out.push(Atom { path: path.clone(), element: false, value }),
    }
}

/// Cuts the strings in an atom, harder and harder, until it fits; what still does not is told by a marker alone.
fn shrink_to(atom: &mut Atom, room: usize) {
    for most in [MAX_SPLIT_STRING, 256, 64] {
        cut_strings(&mut atom.value, most);
        if atom.cost() <= room {
            return;
        }
    }
    atom.value = Value::String(format!("{}{}", crate::escape::CUT, size(&atom.value)));
}

fn cut_strings(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => *text = cut(text, most),
        Value::Array(all) => all.iter_mut().for_each(|v| cut_strings(v, most)),
        Value::Object(map) => map.values_mut().for_each(|v| cut_strings(v, most)),
        _ => {}
    }
}

fn place(share: &mut Map<String, Value>, atom: Atom) {
    let mut path = atom.path;
    let last = path.pop().expect("an atom of an object has a key");
    let mut at = share;
    for key in path {
        let next = at.entry(key).or_insert_with(|| Value::Object(Map::new()));
        at = next.as_object_mut().expect("the same key leads to objects in every part");
    }
    if atom.element {
        let array = at.entry(last).or_insert_with(|| Value::Array(Vec::new()));
        array.as_array_mut().expect("the same key leads to arrays in every part").push(atom.value);
    } else {
        at.insert(last, atom.value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::ArtifactType;

    fn draft(detail: Value) -> Draft {
        let mut draft = Draft::new(ArtifactType::SweepAttested, "swept");
        draft.detail = detail.as_object().unwrap().clone();
        draft
    }

    #[test]
    fn a_small_statement_is_one_body_with_its_text_escaped_once() {
        let bodies = draft(json!({ "path": "/a\\b\n", "n": 3 })).bodies().unwrap();
        assert_eq!(bodies.len(), 1);
        assert_eq!(bodies[0].0["detail"], json!({ "path": "/a\\\\b\\x0a", "n": 3 }));
    }

    #[test]
    fn integers_too_large_become_digits_and_nulls_vanish() {
        let bodies =
            draft(json!({ "size": u64::MAX, "edge": 9_007_199_254_740_991u64, "none": null })).bodies().unwrap();
        assert_eq!(bodies[0].0["detail"], json!({ "size": "18446744073709551615", "edge": 9_007_199_254_740_991u64 }));
    }

    #[test]
    fn keys_that_are_data_floats_and_reserved_words_are_refused() {
        assert_eq!(draft(json!({ "Frank": 1 })).bodies(), Err(DraftError::Key("Frank".into())));
        assert_eq!(draft(json!({ "a": { "x y": 1 } })).bodies(), Err(DraftError::Key("x y".into())));
        assert_eq!(draft(json!({ "a": { "b": 0.5 } })).bodies(), Err(DraftError::Float("a.b".into())));
        assert_eq!(draft(json!({ "part": 1 })).bodies(), Err(DraftError::Reserved("part".into())));
        let deep = (0..10).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(matches!(draft(deep).bodies(), Err(DraftError::Depth(_))));
    }

    #[test]
    fn a_large_statement_is_split_between_elements_and_loses_none() {
        let files: Vec<Value> =
            (0..500).map(|n| json!({ "path": format!("/home/u{n}/.ssh/authorized_keys"), "keys": n })).collect();
        let bodies = draft(json!({ "files": files, "counts": { "accounts": 500 } })).bodies().unwrap();
        assert!(bodies.len() > 3);
        let seen: Vec<Value> =
            bodies.iter().flat_map(|b| b.0["detail"]["files"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!(seen, files);
        for (n, body) in bodies.iter().enumerate() {
            assert_eq!(body.0["detail"]["part"], json!(n + 1));
            assert_eq!(body.0["detail"]["parts"], json!(bodies.len()));
        }
    }

    #[test]
    fn more_than_the_most_parts_is_counted_not_dropped_silently() {
        let many: Vec<String> = (0..2000).map(|n| format!("{n:01000}")).collect();
        let bodies = draft(json!({ "lines": many })).bodies().unwrap();
        assert_eq!(bodies.len(), MAX_PARTS);
        let kept: usize = bodies.iter().map(|b| b.0["detail"]["lines"].as_array().unwrap().len()).sum();
        assert_eq!(bodies[MAX_PARTS - 1].0["detail"]["left_out"], json!(2000 - kept));
    }

    fn any_detail() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-z\\\\\"\u{7f}\u{202e}é]{0,3000}".prop_map(Value::from),
        ];
        let tree = leaf.prop_recursive(3, 64, 12, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_]{1,12}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[a-c]{1,12}", tree, 0..6).prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_body_leaves_room_for_its_position(detail in any_detail(), reason in "\\PC{0,3000}") {
            let mut draft = draft(detail);
            draft.reason = reason;
            for body in draft.bodies().unwrap() {
                let text = serde_json::to_string(&body.0).unwrap();
                prop_assert!(text.len() + POSITION_BYTES < MAX_LINE, "{} bytes", text.len());
            }
        }
    }
}
