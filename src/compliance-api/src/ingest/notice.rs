//! What a host's record says of how the host stands now: its mode, its live grants and sessions, and what became of documents.

use std::borrow::Cow;

use jiff::Timestamp;
use record::{ArtifactType, InPlace, Source};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::store::live::{LiveGrant, LiveSession, Notice};

/// What of a sweep's attestation is kept.
const OF_SWEEPS: [&str; 4] = ["mode", "roster", "feed", "ways_open"];

/// Members of a record beside those that every batch is read for.
#[derive(Deserialize)]
struct Rest<'a> {
    #[serde(borrow, default)]
    grant: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(default)]
    source: Option<Source>,
}

/// What a record says, if it is of a type that says anything.
pub(super) fn of(kind: Option<ArtifactType>, record: &InPlace<'_>) -> Vec<Notice> {
    use ArtifactType as T;
    let Some(kind) = kind else { return Vec::new() };
    let one = |notice: Option<Notice>| notice.into_iter().collect();
    match kind {
        T::DaemonStarted => {
            let detail = detail(record);
            let lost = detail.contains_key("sessions_lost").then_some(Notice::SessionsLost);
            [Notice::Started(text(&detail, "version"))].into_iter().chain(lost).collect()
        }
        T::LedgerOpened => one(detail(record).contains_key("grants_void").then_some(Notice::GrantsVoid)),
        T::ConfigLoaded | T::ModeChanged => one(text(&detail(record), "mode").map(Notice::Mode)),
        T::SweepAttested => one(Some(sweep(detail(record)))),
        T::GrantCreated => one(grant(record)),
        T::GrantEnded => one(rest(record).and_then(|rest| rest.grant).map(|grant| Notice::GrantEnded(grant.into()))),
        T::SessionOpened => one(session(record)),
        T::SessionClosed | T::SessionTerminated => {
            one(rest(record).and_then(|rest| rest.session).map(|session| Notice::SessionEnded(session.into())))
        }
        T::DocumentAccepted | T::DocumentRefused => one(outcome(record, kind == T::DocumentRefused)),
        _ => Vec::new(),
    }
}

fn detail(record: &InPlace<'_>) -> Map<String, Value> {
    record.detail().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn text(detail: &Map<String, Value>, name: &str) -> Option<String> {
    detail.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn moment(detail: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    detail.get(name)?.as_str()?.parse().ok()
}

fn rest<'a>(record: &InPlace<'a>) -> Option<Rest<'a>> {
    serde_json::from_str(record.line()).ok()
}

fn sweep(mut detail: Map<String, Value>) -> Notice {
    let first = detail.get("part").is_none_or(|part| part == 1);
    detail.retain(|name, _| OF_SWEEPS.contains(&name.as_str()));
    Notice::Sweep { first, said: detail }
}

/// Where it goes out in parts, each says a part: the first has the names, and the end too.
fn grant(record: &InPlace<'_>) -> Option<Notice> {
    let detail = detail(record);
    if detail.get("part").is_some_and(|part| part != 1) {
        return None;
    }
    let approvers = detail
        .get("approvers")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    Some(Notice::Grant(LiveGrant {
        grant: rest(record)?.grant?.into(),
        person: record.person().map(Cow::into_owned),
        account: record.account().map(Cow::into_owned),
        expires: moment(&detail, "expires_at"),
        document: text(&detail, "document"),
        approvers: approvers.unwrap_or_default(),
        why: text(&detail, "why"),
    }))
}

fn session(record: &InPlace<'_>) -> Option<Notice> {
    let rest = rest(record)?;
    Some(Notice::Session(LiveSession {
        session: rest.session?.into(),
        person: record.person().map(Cow::into_owned),
        account: record.account().map(Cow::into_owned),
        source: rest.source.and_then(|source| source.address).map(|address| address.to_string()),
        opened: record.time(),
    }))
}

/// Of a statement in parts, the one that names the document.
fn outcome(record: &InPlace<'_>, refused: bool) -> Option<Notice> {
    let detail = detail(record);
    let document = detail.get("document")?.as_str()?.parse().ok()?;
    let said = || (text(&detail, "code").unwrap_or_default(), text(&detail, "why").unwrap_or_default());
    Some(Notice::Outcome { document, refused: refused.then(said), at: record.time() })
}
