//! Recent logins, open or closed: whose process wrote a key, and who has come in by one.
//!
//! In memory alone: what was before the daemon started is not known, and is said so.

use std::collections::VecDeque;

use jiff::Timestamp;
use record::{Account, Fingerprint, Person, SessionId};

use crate::{process::ProcessId, sessions::Session};

/// The logins that are remembered; past it the oldest is forgotten.
pub const MAX_RECENT: usize = 4096;

/// One login.
#[derive(Debug, Clone)]
struct Login {
    session: SessionId,
    account: Account,
    fingerprint: Option<Fingerprint>,
    person: Option<Person>,
    monitor: ProcessId,
    at: Timestamp,
}

/// The last logins, oldest first.
#[derive(Debug)]
pub struct RecentLogins {
    all: VecDeque<Login>,
    /// From when on none is missing.
    since: Timestamp,
}

/// What is known of the logins with certain keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The sessions that are known, oldest first.
    pub sessions: Vec<SessionId>,
    /// Whether there can be no others.
    pub complete: bool,
}

impl RecentLogins {
    /// Remembers nothing yet.
    #[must_use]
    pub fn since(now: Timestamp) -> Self {
        Self { all: VecDeque::new(), since: now }
    }

    /// Remembers a login.
    pub fn add(&mut self, session: &Session) {
        if self.all.len() >= MAX_RECENT
            && let Some(forgotten) = self.all.pop_front()
        {
            self.since = self.since.max(forgotten.at);
        }
        self.all.push_back(Login {
            session: session.id.clone(),
            account: session.account.clone(),
            fingerprint: session.fingerprint().cloned(),
            person: session.person().cloned(),
            monitor: session.monitor,
            at: session.opened_at,
        });
    }

    /// Whose connection is nearest among these processes.
    #[must_use]
    pub fn person_above(&self, line: &[ProcessId]) -> Option<&Person> {
        let login = line.iter().find_map(|id| self.all.iter().rev().find(|login| login.monitor == *id));
        login.and_then(|login| login.person.as_ref())
    }

    /// Who has logged in with one of these keys since a moment, to one account or any.
    #[must_use]
    pub fn used(&self, keys: &[Fingerprint], account: Option<&Account>, since: Timestamp) -> Used {
        let with_them = self.all.iter().filter(|login| {
            login.at >= since
                && account.is_none_or(|account| login.account == *account)
                && login.fingerprint.as_ref().is_some_and(|key| keys.contains(key))
        });
        Used { sessions: with_them.map(|login| login.session.clone()).collect(), complete: since >= self.since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(number: u64, account: &str, key: &str) -> Login {
        Login {
            session: format!("s-{number:016x}").parse().expect("an id"),
            account: account.parse().expect("a name"),
            fingerprint: Some(key_named(key)),
            person: Some(account.parse().expect("a name")),
            monitor: ProcessId { pid: i32::try_from(number).expect("small"), start_time: number },
            at: at(number),
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).expect("small")).expect("a moment")
    }

    fn key_named(letter: &str) -> Fingerprint {
        format!("SHA256:{}", letter.repeat(43)).parse().expect("a fingerprint")
    }

    #[test]
    fn logins_with_a_key_since_it_stood_are_told_and_whether_that_is_all() {
        let all = VecDeque::from([
            login(5, "frank", "A"),
            login(7, "frank", "A"),
            login(8, "grace", "A"),
            login(9, "frank", "B"),
        ]);
        let recent = RecentLogins { all, since: at(4) };
        let frank = "frank".parse().expect("a name");
        let used = |account, since| {
            let used = recent.used(&[key_named("A")], account, at(since));
            (used.sessions.len(), used.complete)
        };
        assert_eq!(used(Some(&frank), 6), (1, true));
        assert_eq!(used(Some(&frank), 4), (2, true));
        assert_eq!(used(None, 6), (2, true), "a shared file is every account's");
        assert_eq!(used(Some(&frank), 3), (2, false), "before the daemon was there");
        let monitor = |pid| ProcessId { pid, start_time: u64::try_from(pid).expect("positive") };
        assert_eq!(recent.person_above(&[monitor(1), monitor(8), monitor(5)]), Some(&"grace".parse().expect("a name")));
        assert_eq!(recent.person_above(&[monitor(1)]), None);
    }
}
