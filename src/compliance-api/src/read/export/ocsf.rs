//! Events of the Open Cybersecurity Schema Framework: logins as Authentication (3002), grants as User Access Management (3005), and
//! all else as API Activity (6003). What has no attribute there stands in `unmapped`.

use jiff::Timestamp;
use record::{ArtifactType, Severity};
use serde_json::{Map, Value, json};

use super::{Stated, What, pruned};
use crate::evidence::SourceKind;

/// The version of the schema.
pub(super) const VERSION: &str = "1.5.0";
const AUTHENTICATION: i64 = 3002;
const USER_ACCESS: i64 = 3005;
const API_ACTIVITY: i64 = 6003;
/// What stands for a user whom nobody named.
const UNKNOWN: &str = "Unknown";
/// Of a record, what proves its bytes, and says nothing without them: `raw_data` has it.
const PROOF: [&str; 3] = ["v", "prev", "signature"];

/// Class and activity, and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) class: i64,
    pub(super) activity: i64,
    /// 1 for success, 2 for failure, 0 where nobody says.
    pub(super) status: i64,
}

const fn class(class: i64, activity: i64, status: i64) -> Class {
    Class { class, activity, status }
}

/// A host's record, by its type.
pub(super) fn of_host(kind: ArtifactType) -> Class {
    use ArtifactType as T;
    match kind {
        // Logon, logoff.
        T::SessionOpened | T::EmergencyLogin => class(AUTHENTICATION, 1, 1),
        T::SessionRefused | T::LoginFailed => class(AUTHENTICATION, 1, 2),
        T::SessionClosed | T::SessionTerminated => class(AUTHENTICATION, 2, 1),
        // Assign, revoke privileges.
        T::GrantCreated => class(USER_ACCESS, 1, 1),
        T::GrantEnded => class(USER_ACCESS, 2, 1),
        // Create, read, update, delete, other.
        T::LedgerOpened | T::LedgerSegment | T::QuarantineRestored => class(API_ACTIVITY, 1, 1),
        T::SweepAttested => class(API_ACTIVITY, 2, 1),
        T::KeyRotated | T::ConfigLoaded | T::ModeChanged | T::ClockStepped | T::SshdChanged | T::DocumentAccepted => {
            class(API_ACTIVITY, 3, 1)
        }
        T::ConfigRefused | T::DocumentRefused => class(API_ACTIVITY, 3, 2),
        T::LedgerPruned | T::Lockdown | T::KeyRemoved => class(API_ACTIVITY, 4, 1),
        T::RemovalFailed => class(API_ACTIVITY, 4, 2),
        T::DaemonStarted | T::DaemonStopped => class(API_ACTIVITY, 99, 1),
        T::JournalGap | T::ShipDropped => class(API_ACTIVITY, 99, 2),
    }
}

fn of(stated: &Stated<'_>) -> Class {
    match stated.what {
        What::Host(kind) => of_host(kind),
        What::Server(word) => match word {
            "ledger.opened" | "token.created" | "ledger.enrolled" | "reviewer.added" | "reader.admitted" => {
                class(API_ACTIVITY, 1, 1)
            }
            "evidence.read" | "backup.made" | "server.checkpoint" => class(API_ACTIVITY, 2, 1),
            "key.rotated" | "ledger.approved" | "document.published" | "server.restored" => class(API_ACTIVITY, 3, 1),
            "token.revoked" | "reviewer.revoked" => class(API_ACTIVITY, 4, 1),
            _ => class(API_ACTIVITY, 99, 1),
        },
        What::Login => {
            let status = stated.login_succeeded().map_or(0, |good| if good { 1 } else { 2 });
            class(AUTHENTICATION, 1, status)
        }
        What::Review => class(API_ACTIVITY, 2, 1),
        What::Other => class(API_ACTIVITY, 99, 0),
    }
}

/// The event.
pub(in crate::read) fn event(stated: &Stated<'_>) -> Value {
    let (artifact, class) = (stated.artifact, of(stated));
    let category = class.class / 1000;
    let start = stated.moment(&["detail", "since"]).or_else(|| stated.moment(&["detail", "began_at"]));
    let seconds = stated.number(&["detail", "seconds"]).filter(|_| class.class == AUTHENTICATION);
    let mut event = pruned(json!({
        "category_uid": category,
        "class_uid": class.class,
        "activity_id": class.activity,
        // An activity of its own has to be named.
        "activity_name": (class.activity == 99).then_some(artifact.kind),
        "type_uid": class.class * 100 + class.activity,
        "time": milliseconds(artifact.time.0),
        "start_time": start.map(milliseconds),
        "end_time": stated.moment(&["detail", "until"]).map(milliseconds),
        "duration": seconds.and_then(|s| s.checked_mul(1000)),
        "count": stated.number(&["detail", "count"]),
        "severity_id": severity(stated.severity()),
        "status_id": class.status,
        "status_code": stated.text(&["detail", "why"]).or_else(|| stated.text(&["detail", "ended"])),
        "message": stated.sentence(),
        "metadata": metadata(stated),
        "src_endpoint": src_endpoint(stated, class.class),
    }));
    let own = match class.class {
        AUTHENTICATION => authentication(stated),
        USER_ACCESS => user_access(stated),
        _ => api_activity(stated),
    };
    if let (Value::Object(event), Value::Object(own)) = (&mut event, pruned(own)) {
        event.extend(own);
    }
    event["raw_data"] = artifact.data.get().into();
    event["unmapped"] = unmapped(stated);
    event
}

fn milliseconds(time: Timestamp) -> i64 {
    time.as_millisecond()
}

fn severity(severity: Option<Severity>) -> i64 {
    match severity {
        None => 0,
        Some(Severity::Info | Severity::Notice) => 1,
        Some(Severity::Warning) => 3,
        Some(Severity::Error) => 4,
        Some(Severity::Critical) => 5,
    }
}

fn metadata(stated: &Stated<'_>) -> Value {
    let artifact = stated.artifact;
    let product = if stated.by == SourceKind::Host { "lockdownd" } else { "compliance-api" };
    json!({
        "version": VERSION,
        "product": {"name": product, "vendor_name": "lockdownd"},
        "uid": artifact.id,
        "event_code": artifact.kind,
        "sequence": artifact.seq,
        "log_name": artifact.ledger,
        "log_provider": artifact.source,
        "original_time": artifact.time,
        "logged_time": milliseconds(artifact.received.0),
        // What belongs to one grant belongs together.
        "correlation_uid": stated.text(&["grant"]),
    })
}

/// Where it came from: the client's end of a connection, else whoever states it.
fn src_endpoint(stated: &Stated<'_>, class: i64) -> Value {
    if let Some(address) = stated.address() {
        return json!({"ip": address, "port": stated.number(&["source", "port"])});
    }
    match stated.by {
        // Without an address it is not known, or a local socket.
        _ if class != API_ACTIVITY => Value::Null,
        SourceKind::Host | SourceKind::Server => json!({"hostname": stated.text(&["host"]).unwrap_or(stated.name)}),
        SourceKind::Client | SourceKind::Person => json!({"name": stated.artifact.source}),
    }
}

/// The end that was logged in to, or acted upon.
fn dst_endpoint(stated: &Stated<'_>) -> Value {
    let from_host = stated.by == SourceKind::Host;
    json!({"hostname": stated.text(&["host"]).filter(|_| from_host)})
}

fn authentication(stated: &Stated<'_>) -> Value {
    let ssh = stated.by == SourceKind::Host;
    json!({
        "user": target(stated),
        "actor": {"user": {"name": stated.text(&["person"])}},
        "service": {"name": if ssh { "sshd" } else { stated.name }},
        "dst_endpoint": dst_endpoint(stated),
        "auth_protocol_id": if ssh { 99 } else { 0 },
        "auth_protocol": ssh.then_some("SSH"),
        "logon_type_id": ssh.then_some(3),
        "is_remote": ssh.then(|| stated.address().is_some()),
        "session": {
            "uid": stated.text(&["session"]),
            "credential_uid": stated.text(&["fingerprint"]),
            "expiration_reason": stated.text(&["detail", "ended"]),
        },
    })
}

/// The account that it is about. The schema asks for one: of a try under a name that is no account's there is the keyed hash at most.
fn target(stated: &Stated<'_>) -> Value {
    let linux = if stated.by == SourceKind::Host { 9 } else { 0 };
    match (stated.account(), stated.text(&["detail", "user_hash"])) {
        (Some(account), _) => {
            json!({"name": account, "account": {"name": account, "type_id": linux}})
        }
        (None, Some(hash)) => json!({"name": UNKNOWN, "uid": hash, "type_id": 0}),
        (None, None) => json!({"name": UNKNOWN, "type_id": 0}),
    }
}

fn user_access(stated: &Stated<'_>) -> Value {
    let account = stated.text(&["account"]).unwrap_or(UNKNOWN);
    json!({
        "user": {"name": stated.text(&["person"]).unwrap_or(UNKNOWN)},
        "actor": actor(stated),
        "privileges": [format!("ssh login as {account}")],
        "resources": [{
            "type": "Unix account",
            "name": account,
            "hostname": stated.text(&["host"]),
        }],
    })
}

fn api_activity(stated: &Stated<'_>) -> Value {
    let path = stated.text(&["detail", "path"]).map(|path| json!({"type": "file", "name": path}));
    let account = stated.text(&["account"]).map(|name| json!({"type": "Unix account", "name": name}));
    json!({
        "actor": actor(stated),
        "api": {"operation": stated.artifact.kind, "service": {"name": stated.artifact.source}},
        "dst_endpoint": dst_endpoint(stated),
        "resources": [path, account],
    })
}

/// Who acted, as far as known: else the program that states it.
fn actor(stated: &Stated<'_>) -> Value {
    let uid = stated.number(&["actor", "uid"]).map(|uid| uid.to_string());
    let person = stated.text(&["actor", "person"]);
    let pid = stated.number(&["actor", "pid"]);
    let known = uid.is_some() || person.is_some() || pid.is_some();
    match stated.by {
        SourceKind::Host if known => json!({
            "user": {"name": person, "uid": uid},
            // Without a process id it is none that the schema takes.
            "process": pid.map(|pid| json!({"pid": pid, "path": stated.text(&["actor", "exe"])})),
        }),
        SourceKind::Host => json!({"app_name": "lockdownd"}),
        SourceKind::Server => {
            let by = |name: &str| stated.text(&["detail", "by", name]);
            json!({"app_name": by("name").or(by("who")).unwrap_or("compliance-api"), "app_uid": by("token")})
        }
        SourceKind::Client => json!({"app_name": stated.name}),
        SourceKind::Person => json!({"user": {"name": stated.name}}),
    }
}

/// All of it that has no attribute, as it was stated.
fn unmapped(stated: &Stated<'_>) -> Value {
    let artifact = stated.artifact;
    let mut unmapped = Map::new();
    match stated.by {
        SourceKind::Host | SourceKind::Server => {
            let left = stated.data.iter().filter(|(name, _)| !PROOF.contains(&name.as_str()));
            let mapped = ["ledger", "seq", "time", "type", "reason"];
            unmapped
                .extend(left.filter(|(name, _)| !mapped.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())));
        }
        SourceKind::Client | SourceKind::Person => {
            unmapped.insert("data".to_owned(), Value::Object(stated.data.clone()));
        }
    }
    for (name, flag) in [("clockoff", artifact.clockoff), ("pending", artifact.pending)] {
        if flag {
            unmapped.insert(name.to_owned(), true.into());
        }
    }
    Value::Object(unmapped)
}
