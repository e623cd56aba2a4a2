//! The index template of packaging/elastic, as far as it says which documents Elasticsearch takes: what is wrong with one, field
//! by field. Stricter than Elasticsearch, which would turn text into a number, and leave out a field that has no type.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

const TEMPLATE: &str = include_str!("../../../packaging/elastic/index-template.json");

/// What is wrong with a document; nothing where every field is of its type.
pub(crate) fn problems(document: &Value) -> Vec<String> {
    let template: Value = serde_json::from_str(TEMPLATE).expect("the template is JSON");
    let mut found = Vec::new();
    look(&template["template"]["mappings"], document, "", &mut found);
    found
}

fn look(mapping: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(properties) = mapping.get("properties") {
        let Some(fields) = value.as_object() else {
            found.push(format!("{at}: no object: {value}"));
            return;
        };
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match properties.get(name) {
                Some(mapping) => look(mapping, value, &at, found),
                None => found.push(format!("{at}: no such field: {value}")),
            }
        }
        return;
    }
    let kind = mapping["type"].as_str().expect("a field has a type");
    let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    for one in &all {
        if !fits(kind, one) {
            found.push(format!("{at}: no {kind}: {one}"));
        }
        let too_long = one.as_str().zip(mapping["ignore_above"].as_u64());
        if too_long.is_some_and(|(text, most)| text.chars().count() as u64 > most) {
            found.push(format!("{at}: too long to be found: {one}"));
        }
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    match kind {
        "keyword" | "constant_keyword" | "match_only_text" => value.is_string(),
        "long" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<Timestamp>().is_ok()),
        "flattened" => value.is_object(),
        _ => false,
    }
}

/// Whether the template gives a type to this field: `user.target.name`.
#[allow(dead_code, reason = "one of the two that share this file asks")]
pub(crate) fn has(field: &str) -> bool {
    let template: Value = serde_json::from_str(TEMPLATE).expect("the template is JSON");
    let path = field.split('.').map(|name| format!("/properties/{name}")).collect::<String>();
    template["template"]["mappings"].pointer(&path).is_some_and(|mapping| mapping.get("type").is_some())
}
