//! A record as an entry in journald's native protocol: every field by itself, and the signed line whole.

use record::{Record, Severity};
use serde_json::{Map, Value};

use super::catalog::{DROPPED_ID, message_id};

/// syslog's facility `authpriv`.
const FACILITY: &str = "10";
/// What stands before each line in `journalctl`.
pub(super) const IDENTIFIER: &str = "lockdownd";
/// The most fields of a record that stand by themselves; journald takes 1024. All are in `LOCKDOWND_RECORD` anyway.
const MAX_FIELDS: usize = 512;
/// The longest name of a field that journald takes.
const MAX_NAME: usize = 64;
/// What follows the sentence, in this order, where the record has it.
const CONTEXT: &[(&str, &str)] =
    &[("person", "person"), ("account", "account"), ("grant", "grant"), ("session", "session"), ("fingerprint", "key")];

/// The entry for a signed line. Nothing for a line that is no record: the ledger writes none.
pub(super) fn of_record(line: &str) -> Option<Vec<u8>> {
    let record = Record::parse(line.as_bytes()).ok()?;
    let urgency = Severity::of_record(&record);
    let mut out = start(&message(&record), urgency, record.kind().map(message_id));
    put(&mut out, "LOCKDOWND_RECORD", line.trim_end());
    let mut left = MAX_FIELDS;
    put_all(&mut out, "LOCKDOWND", record.fields(), &mut left);
    Some(out)
}

/// The entry that says how many records journald did not get.
pub(super) fn of_dropped(count: u64) -> Vec<u8> {
    let sentence = format!("{count} records did not reach the journal; the ledger has them: lockdownctl records");
    let mut out = start(&sentence, Severity::Warning, Some(DROPPED_ID));
    put(&mut out, "LOCKDOWND_DROPPED", &count.to_string());
    out
}

fn start(message: &str, urgency: Severity, id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8192);
    put(&mut out, "MESSAGE", message);
    put(&mut out, "PRIORITY", &(urgency as u8).to_string());
    put(&mut out, "SYSLOG_FACILITY", FACILITY);
    put(&mut out, "SYSLOG_IDENTIFIER", IDENTIFIER);
    if let Some(id) = id {
        put(&mut out, "MESSAGE_ID", id);
    }
    out
}

/// The sentence, and in brackets what it is about, unless the sentence names it.
fn message(record: &Record) -> String {
    let reason = record.text("reason").unwrap_or_default();
    let mut context: Vec<String> = CONTEXT
        .iter()
        .filter_map(|(field, word)| Some((word, record.text(field)?)))
        .filter(|(_, value)| !reason.contains(value))
        .map(|(word, value)| format!("{word} {value}"))
        .collect();
    let address = record.fields().get("source").and_then(|s| s.get("address")).and_then(Value::as_str);
    context.extend(address.filter(|a| !reason.contains(a)).map(|a| format!("from {a}")));
    if context.is_empty() {
        return format!("{}: {reason}", record.type_word());
    }
    format!("{}: {reason} ({})", record.type_word(), context.join(", "))
}

fn put_all(out: &mut Vec<u8>, prefix: &str, map: &Map<String, Value>, left: &mut usize) {
    for (key, value) in map {
        put_value(out, &format!("{prefix}_{}", key.to_ascii_uppercase()), value, left);
    }
}

/// An object's fields get longer names, an array's elements the same name again: journald keeps all values of a field.
fn put_value(out: &mut Vec<u8>, name: &str, value: &Value, left: &mut usize) {
    if *left == 0 || name.len() > MAX_NAME {
        return;
    }
    let text = match value {
        Value::Object(map) => return put_all(out, name, map, left),
        Value::Array(all) => return all.iter().for_each(|v| put_value(out, name, v, left)),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    *left -= 1;
    put(out, name, &text);
}

/// One field: `NAME=VALUE`, or with its length where the value has a newline in it.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}
