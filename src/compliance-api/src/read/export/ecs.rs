//! Documents of the Elastic Common Schema. `packaging/elastic` has an index template with the types of all their fields, and makes
//! the same documents of what rsyslog gets.

use record::{ArtifactType, Severity};
use serde_json::{Map, Value, json};

use super::{Stated, What, pruned};
use crate::evidence::SourceKind;

/// The version of the schema.
pub(super) const VERSION: &str = "8.11.0";
/// Nanoseconds in a second, as `event.duration` counts.
const NANOSECONDS: i64 = 1_000_000_000;

/// What kind of event it is, in the schema's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) kind: &'static str,
    pub(super) category: &'static [&'static str],
    pub(super) kinds: &'static [&'static str],
    pub(super) outcome: &'static str,
}

const fn class(
    kind: &'static str,
    category: &'static [&'static str],
    kinds: &'static [&'static str],
    outcome: &'static str,
) -> Class {
    Class { kind, category, kinds, outcome }
}

/// A host's record, by its type.
pub(super) fn of_host(kind: ArtifactType) -> Class {
    use ArtifactType as T;
    match kind {
        T::LedgerOpened | T::LedgerSegment => class("event", &[], &["info"], "success"),
        T::LedgerPruned => class("event", &[], &["deletion"], "success"),
        T::KeyRotated => class("event", &[], &["change"], "success"),
        T::DaemonStarted => class("event", &["process"], &["start"], "success"),
        T::DaemonStopped => class("event", &["process"], &["end"], "success"),
        T::ConfigLoaded | T::ModeChanged | T::SshdChanged => class("event", &["configuration"], &["change"], "success"),
        T::ConfigRefused => class("event", &["configuration"], &["change"], "failure"),
        T::ClockStepped => class("event", &["host"], &["change"], "success"),
        T::GrantCreated => class("event", &["iam"], &["user", "creation"], "success"),
        T::GrantEnded | T::Lockdown => class("event", &["iam"], &["user", "deletion"], "success"),
        T::KeyRemoved => class("alert", &["file", "intrusion_detection"], &["deletion"], "success"),
        T::RemovalFailed => class("alert", &["file", "intrusion_detection"], &["deletion"], "failure"),
        T::QuarantineRestored => class("event", &["file"], &["creation"], "success"),
        T::SessionOpened => class("event", &["authentication", "session"], &["start"], "success"),
        T::SessionClosed | T::SessionTerminated => class("event", &["session"], &["end"], "success"),
        T::SessionRefused | T::LoginFailed => class("event", &["authentication"], &["start"], "failure"),
        T::JournalGap => class("event", &[], &["error"], "failure"),
        T::ShipDropped => class("event", &[], &["error", "deletion"], "failure"),
        T::SweepAttested => class("state", &["host"], &["info"], "success"),
        T::EmergencyLogin => class("alert", &["authentication", "session"], &["start"], "success"),
        T::DocumentAccepted => class("event", &["iam"], &["admin", "change"], "success"),
        T::DocumentRefused => class("event", &["iam"], &["admin", "change"], "failure"),
    }
}

fn of(stated: &Stated<'_>) -> Class {
    match stated.what {
        What::Host(kind) => of_host(kind),
        What::Server(word) => match word {
            "server.started" => class("event", &["process"], &["start"], "success"),
            "server.restored" => class("event", &["configuration"], &["change"], "success"),
            "server.stopped" => class("event", &["process"], &["end"], "success"),
            "server.checkpoint" => class("state", &[], &["info"], "success"),
            "token.created" | "ledger.enrolled" | "reviewer.added" => {
                class("event", &["iam"], &["admin", "creation"], "success")
            }
            "token.revoked" | "reviewer.revoked" => class("event", &["iam"], &["admin", "deletion"], "success"),
            "ledger.approved" | "document.published" => class("event", &["iam"], &["admin", "change"], "success"),
            "evidence.read" | "backup.made" | "reader.admitted" => class("event", &["api"], &["access"], "success"),
            "incident.opened" => class("alert", &["intrusion_detection"], &["info"], "unknown"),
            "key.rotated" => of_host(ArtifactType::KeyRotated),
            _ => class("event", &[], &["info"], "success"),
        },
        What::Login => {
            let outcome = match stated.login_succeeded() {
                Some(true) => "success",
                Some(false) => "failure",
                None => "unknown",
            };
            class("event", &["authentication"], &["start"], outcome)
        }
        What::Review => class("event", &[], &["info"], "success"),
        What::Other => class("event", &[], &["info"], "unknown"),
    }
}

/// The document.
pub(in crate::read) fn document(stated: &Stated<'_>) -> Value {
    let artifact = stated.artifact;
    let mut document = pruned(json!({
        "@timestamp": artifact.time,
        "ecs": {"version": VERSION},
        "message": stated.sentence(),
        "event": event(stated),
        "log": {"level": stated.severity().map(level)},
        "host": {"name": stated.text(&["host"]), "hostname": stated.text(&["host"])},
        "service": {"name": (stated.by == SourceKind::Client).then_some(stated.name)},
        "source": {
            "address": stated.address(),
            "ip": stated.address(),
            "port": stated.number(&["source", "port"]),
        },
        "process": {"pid": stated.number(&["actor", "pid"]), "executable": stated.text(&["actor", "exe"])},
        "file": {"path": stated.text(&["detail", "path"])},
        "user": user(stated),
        "related": related(stated),
        "lockdownd": own(stated),
    }));
    // As it was stated, with all that is null or empty in it.
    match stated.by {
        SourceKind::Host | SourceKind::Server => {
            if let Some(detail) = stated.data.get("detail") {
                document["lockdownd"]["detail"] = detail.clone();
            }
        }
        SourceKind::Client | SourceKind::Person => {
            document["lockdownd"]["data"] = Value::Object(stated.data.clone());
        }
    }
    document
}

fn event(stated: &Stated<'_>) -> Value {
    let (artifact, class) = (stated.artifact, of(stated));
    let from_host = stated.by == SourceKind::Host;
    // A step of the clock has seconds too, and lasts none.
    let seconds = stated.number(&["detail", "seconds"]).filter(|_| stated.is_login());
    json!({
        "id": artifact.id,
        "kind": class.kind,
        "category": class.category,
        "type": class.kinds,
        "outcome": class.outcome,
        "action": artifact.kind,
        "module": if from_host { "lockdownd" } else { "compliance" },
        "dataset": if from_host { "lockdownd.record" } else { "compliance.artifact" },
        "sequence": artifact.seq,
        "severity": stated.severity().map(|s| s as i64),
        "reason": stated.text(&["detail", "why"]).or_else(|| stated.text(&["detail", "ended"])),
        "start": stated.text(&["detail", "since"]),
        "end": stated.text(&["detail", "until"]),
        "duration": seconds.and_then(|s| s.checked_mul(NANOSECONDS)),
        "ingested": artifact.received,
        "original": artifact.data.get(),
    })
}

/// Who did it, and to whose account. Of a login it is the account that somebody came in by; else the one who acted.
fn user(stated: &Stated<'_>) -> Value {
    if stated.is_login() {
        return json!({"name": stated.account()});
    }
    json!({
        "name": stated.text(&["actor", "person"]),
        "id": stated.number(&["actor", "uid"]).map(|uid| uid.to_string()),
        "target": {"name": stated.account()},
    })
}

fn related(stated: &Stated<'_>) -> Value {
    let mut users: Vec<&str> =
        [stated.text(&["person"]), stated.account(), stated.text(&["actor", "person"])].into_iter().flatten().collect();
    users.sort_unstable();
    users.dedup();
    json!({"user": users, "ip": [stated.address()], "hosts": [stated.text(&["host"])]})
}

/// What the schema has no field for.
fn own(stated: &Stated<'_>) -> Value {
    let artifact = stated.artifact;
    let mut own = Map::new();
    for (name, value) in [
        ("source", json!(artifact.source)),
        ("ledger", json!(artifact.ledger)),
        ("stack", json!(Some(stated.stack).filter(|stack| !stack.is_empty()))),
        ("person", json!(stated.text(&["person"]))),
        ("account", json!(stated.text(&["account"]))),
        ("fingerprint", json!(stated.text(&["fingerprint"]))),
        ("clockoff", json!(Some(true).filter(|_| artifact.clockoff))),
        ("pending", json!(Some(true).filter(|_| artifact.pending))),
    ] {
        own.insert(name.to_owned(), value);
    }
    if stated.by == SourceKind::Host {
        for name in ["boot", "grant", "session"] {
            own.insert(name.to_owned(), json!(stated.text(&[name])));
        }
        own.insert("count".to_owned(), json!(stated.number(&["detail", "count"]).unwrap_or(1)));
        let uid = |name: &str| stated.number(&["actor", name]);
        own.insert(
            "actor".to_owned(),
            json!({"uid": uid("uid"), "login_uid": uid("login_uid"), "person": stated.text(&["actor", "person"])}),
        );
    }
    Value::Object(own)
}

/// The severity as syslog names it.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "crit",
        Severity::Error => "err",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
        Severity::Info => "info",
    }
}
