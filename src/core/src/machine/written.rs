//! Who wrote what is recorded: the kernel's word on the process, and whose connection that runs under.

use std::path::Path;

use jiff::Timestamp;
use record::{Account, Actor, Draft, Fingerprint, Person};
use serde_json::{Map, Value, json};

use super::Core;
use crate::writers::{Change, Seen, Writer, Written};

/// Writers that one record names; the last ones, if there were more.
const MAX_WRITERS: usize = 8;
/// Sessions that one record names as opened with a key that was removed.
const MAX_SESSIONS_NAMED: usize = 8;

impl Core {
    /// States who wrote a file.
    pub fn by_writers(&self, draft: Draft, written: &Written) -> Draft {
        let writers: Vec<_> = written.by.iter().map(|writer| (None, writer.as_ref())).collect();
        self.by(draft, &writers, if written.directory { "directory" } else { "file" })
    }

    /// States who made these changes of files.
    pub fn by_changes(&self, draft: Draft, changes: &[Change]) -> Draft {
        let writers: Vec<_> = changes.iter().map(|(path, writer)| (Some(path.as_path()), writer.as_ref())).collect();
        self.by(draft, &writers, "file")
    }

    /// The last writer is the actor; where there were several, each is named, so that nobody hides behind another.
    fn by(&self, mut draft: Draft, writers: &[(Option<&Path>, Option<&Writer>)], of: &str) -> Draft {
        let Some((_, Some(last))) = writers.last() else { return draft.with("writer", "unknown") };
        draft.actor = Some(self.actor(last));
        draft = draft.with("writer", of);
        if writers.len() > 1 {
            let named = writers.iter().skip(writers.len().saturating_sub(MAX_WRITERS));
            let named: Vec<Value> = named.map(|(path, writer)| self.named(*path, *writer)).collect();
            draft = draft.with("writers", named);
        }
        draft
    }

    fn named(&self, path: Option<&Path>, writer: Option<&Writer>) -> Value {
        let actor = writer.map(|writer| self.actor(writer));
        let mut named = match actor.map(|actor| json!(actor)) {
            Some(Value::Object(fields)) => fields,
            _ => Map::from_iter([("writer".to_owned(), "unknown".into())]),
        };
        if let Some(path) = path {
            named.insert("path".to_owned(), record::outside(path.as_os_str().as_encoded_bytes()).into());
        }
        named.into()
    }

    fn actor(&self, writer: &Writer) -> Actor {
        let pid = Some(writer.pid);
        let Some(seen) = &writer.seen else { return Actor { pid, ..Actor::default() } };
        Actor {
            uid: Some(seen.uid),
            login_uid: seen.login_uid,
            person: self.person_behind(seen),
            exe: seen.exe.as_ref().map(|exe| record::outside(exe.as_os_str().as_encoded_bytes())),
            pid,
        }
    }

    /// The person under whose connection a writer ran, or whose connection its audit session began with (`nohup`, cron
    /// from a shell, `su`).
    fn person_behind(&self, seen: &Seen) -> Option<Person> {
        let by_audit = || {
            let grant = self.traces.grant_of(seen.audit_session?)?;
            self.grants.get(grant).map(|grant| grant.person.clone())
        };
        self.recent.person_above(&seen.line).cloned().or_else(by_audit)
    }

    /// States which logins came by these keys since a moment, to one account or any. `are_all` is false where the removed
    /// file held further keys.
    pub fn with_logins(
        &self,
        draft: Draft,
        keys: &[Fingerprint],
        are_all: bool,
        account: Option<&Account>,
        since: Timestamp,
    ) -> Draft {
        let used = self.recent.used(keys, account, since);
        // Keys that are not named, and a file that another's time is on, may have been used unseen.
        let draft = match used.complete && are_all {
            true => draft.with("logins", used.sessions.len() as u64),
            false => draft.with("logins", "unknown"),
        };
        if used.sessions.is_empty() {
            return draft;
        }
        let named = used.sessions.iter().rev().take(MAX_SESSIONS_NAMED);
        draft.with("sessions", named.map(|session| session.as_str().into()).collect::<Vec<Value>>())
    }
}
