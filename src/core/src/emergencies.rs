//! Which emergencies an attestation tells of: every login to an exempt account since the last one, and those that live.
//!
//! Taken from what goes on record, so that the two cannot differ; after a start, from the ledger itself.

use jiff::Timestamp;
use record::{Draft, Record, SessionId, Source};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sessions::{Session, Standing};

/// How many of the logins since the last attestation one attestation names, and how many of the sessions that live; the
/// others are counted.
pub const MAX_NAMED: usize = 64;

/// One login, as it is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    account: Option<String>,
    source: Option<Source>,
    session: Option<SessionId>,
    /// The connection's sshd: a login that the gate noted while nobody answered has no session's id.
    pid: Option<i64>,
    at: String,
}

/// The emergencies since the last attestation.
#[derive(Debug, Default)]
pub struct Emergencies {
    logins: Vec<Login>,
    unnamed: u64,
}

impl Emergencies {
    /// Takes up what is on record since the last attestation: these, and so many more, before those that are known.
    pub fn take_up(&mut self, recorded: &[Record], more: u64) {
        let since = std::mem::replace(self, Self { logins: Vec::new(), unnamed: more });
        self.unnamed += since.unnamed;
        for record in recorded {
            let text = |name: &str| record.text(name).map(str::to_owned);
            self.add(Login {
                account: text("account"),
                source: record.fields().get("source").and_then(|source| Source::deserialize(source).ok()),
                session: record.text("session").and_then(|id| id.parse().ok()),
                pid: record.detail("pid").and_then(Value::as_i64),
                at: at(|name| record.detail(name), record.time()),
            });
        }
        since.logins.into_iter().for_each(|login| self.add(login));
    }

    /// One more goes on record.
    pub fn note(&mut self, draft: &Draft, now: Timestamp) {
        self.add(Login {
            account: draft.account.as_ref().map(ToString::to_string),
            source: draft.source.clone(),
            session: draft.session.clone(),
            pid: draft.detail.get("pid").and_then(Value::as_i64),
            at: at(|name| draft.detail.get(name), now),
        });
    }

    fn add(&mut self, login: Login) {
        if self.logins.len() < MAX_NAMED {
            self.logins.push(login);
        } else {
            self.unnamed += 1;
        }
    }

    /// Adds to an attestation what it has to tell of them; the next one begins anew.
    pub fn attested(&mut self, draft: Draft, live: &[Session]) -> Draft {
        let Self { logins, unnamed } = std::mem::take(self);
        let live: Vec<&Session> = live.iter().filter(|session| session.standing == Standing::Emergency).collect();
        let is = |login: &Login, session: &Session| {
            login.session.as_ref() == Some(&session.id)
                || (login.session.is_none() && login.pid == Some(i64::from(session.monitor.pid)))
        };
        let since = logins.len() as u64 + unnamed;
        let new = logins.iter().map(|login| {
            let session = live.iter().find(|session| is(login, session));
            let id = login.session.as_ref().or(session.map(|session| &session.id));
            view(login.account.as_deref(), login.source.as_ref(), id, &login.at, session.is_some())
        });
        let known = |session: &&&Session| logins.iter().any(|login| is(login, session));
        let older: Vec<&&Session> = live.iter().filter(|session| !known(session)).collect();
        let left_out = unnamed + older.len().saturating_sub(MAX_NAMED) as u64;
        let older = older.into_iter().take(MAX_NAMED).map(|session| {
            let account = Some(session.account.as_str());
            view(account, Some(&session.source), Some(&session.id), &session.opened_at.to_string(), true)
        });
        let named: Vec<Value> = new.chain(older).collect();
        let mut draft = draft;
        if since > 0 {
            draft.reason.push_str(&format!(", emergency logins {since}"));
        }
        let draft = draft.with("emergency_logins", since).with("emergency_sessions", live.len() as u64);
        let draft = if named.is_empty() { draft } else { draft.with("emergencies", named) };
        if left_out > 0 { draft.with("more_emergencies", left_out) } else { draft }
    }
}

/// When the login was: it may have been put on record later.
fn at<'v>(detail: impl Fn(&str) -> Option<&'v Value>, recorded: Timestamp) -> String {
    let told = ["at", "began_at"].into_iter().find_map(|name| detail(name)?.as_str().map(str::to_owned));
    told.unwrap_or_else(|| recorded.to_string())
}

fn view(account: Option<&str>, source: Option<&Source>, id: Option<&SessionId>, at: &str, live: bool) -> Value {
    let mut view = json!({ "at": at, "live": live });
    if let Some(account) = account {
        view["account"] = account.into();
    }
    if let Some(address) = source.and_then(|source| source.address) {
        view["address"] = address.to_string().into();
    }
    if let Some(id) = id {
        view["session"] = id.as_str().into();
    }
    view
}

#[cfg(test)]
mod tests {
    use record::ArtifactType;

    use super::*;
    use crate::process::ProcessId;

    fn login(account: &str, number: u8) -> Draft {
        let mut draft = Draft::new(ArtifactType::EmergencyLogin, "login to the exempt account");
        draft.account = Some(account.parse().expect("an account"));
        draft.session = Some(id(number));
        draft.source = Some(source());
        draft
    }

    fn id(number: u8) -> SessionId {
        format!("s-{number:016x}").parse().expect("an id")
    }

    fn source() -> Source {
        Source { address: Some("192.0.2.1".parse().expect("an address")), port: Some(22) }
    }

    fn session(number: u8, standing: Standing) -> Session {
        let monitor = ProcessId { pid: i32::from(number), start_time: 1 };
        let account = "breakglass".parse().expect("an account");
        let opened = Session::new(id(number), account, standing, source(), Timestamp::UNIX_EPOCH, monitor);
        Session { recorded: true, ..opened }
    }

    fn attested(emergencies: &mut Emergencies, live: &[Session]) -> serde_json::Map<String, Value> {
        emergencies.attested(Draft::new(ArtifactType::SweepAttested, "sweep"), live).detail
    }

    #[test]
    fn each_login_is_told_of_once_and_each_session_as_long_as_it_lives() {
        let mut emergencies = Emergencies::default();
        emergencies.note(&login("breakglass", 1), Timestamp::UNIX_EPOCH);
        // As a note of the gate's becomes a record: no session, and an hour ago.
        let mut noted = login("rescue", 2).with("at", "1970-01-01T01:00:00Z").with("pid", 2);
        noted.session = None;
        emergencies.note(&noted, Timestamp::UNIX_EPOCH);
        let live =
            [session(2, Standing::Emergency), session(3, Standing::Emergency), session(4, Standing::Unattributed)];
        let told = attested(&mut emergencies, &live);
        assert_eq!((&told["emergency_logins"], &told["emergency_sessions"]), (&json!(2), &json!(2)));
        let one = |account: &str, at: &str, number: u8, live: bool| json!({"account": account, "address": "192.0.2.1", "at": at, "live": live, "session": id(number).as_str()});
        let zero = "1970-01-01T00:00:00Z";
        let all = json!([
            one("breakglass", zero, 1, false),
            one("rescue", "1970-01-01T01:00:00Z", 2, true),
            one("breakglass", zero, 3, true)
        ]);
        assert_eq!(told["emergencies"], all);
        let told = attested(&mut emergencies, &live[1..]);
        assert_eq!((&told["emergency_logins"], &told["emergency_sessions"]), (&json!(0), &json!(1)));
        assert_eq!(told["emergencies"], json!([one("breakglass", zero, 3, true)]));
        let told = attested(&mut emergencies, &[]);
        assert!(
            !told.contains_key("emergencies") && told["emergency_sessions"] == 0,
            "that there was none is told too"
        );
    }

    #[test]
    fn past_the_bound_they_are_counted() {
        let mut emergencies = Emergencies::default();
        let many = MAX_NAMED + 7;
        (0..many).for_each(|_| emergencies.note(&login("breakglass", 1), Timestamp::UNIX_EPOCH));
        let told = attested(&mut emergencies, &[]);
        assert_eq!((&told["emergency_logins"], &told["more_emergencies"]), (&json!(many), &json!(7)));
        assert_eq!(told["emergencies"].as_array().map(Vec::len), Some(MAX_NAMED));
    }
}
