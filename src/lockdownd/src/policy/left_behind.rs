//! What a person leaves running: whose it is, and whether it may be ended when their grant is over.
//!
//! The audit session (one per login, and no process can change its own) tells what a connection started, wherever it
//! went. What cron, at and the account's own service manager start has a session of its own: it is the account's, and
//! as long as anybody else may be on that account, nobody can tell whose.

use std::{collections::BTreeSet, time::Duration};

/// What is known of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its audit session.
    pub audit: Option<u32>,
    /// Its audit login uid.
    pub login_uid: Option<u32>,
    /// Its control group's path.
    pub cgroup: &'a str,
    /// When it began, on the boot clock.
    pub began: Duration,
}

/// A grant that has ended, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// The account's user id.
    pub uid: u32,
    /// The audit sessions of the connections that it let in.
    pub audits: BTreeSet<u32>,
    /// Since when it was in force, on the boot clock.
    pub since: Duration,
    /// Whether anybody else may be on the account: a grant, a connection of whatever kind.
    pub shared: bool,
    /// Whether the account's service manager outlives its connections (logind's linger).
    pub lingers: bool,
}

/// By what it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A connection on the grant.
    Session,
    /// The account's own service manager.
    UserManager,
    /// cron.
    Cron,
    /// at.
    At,
}

impl By {
    /// The word for the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::UserManager => "user_manager",
            Self::Cron => "cron",
            Self::At => "at",
        }
    }
}

/// What a process is to a grant that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Left {
    /// Nothing.
    Nothing,
    /// It was left behind under the grant, and may be ended.
    Theirs(By),
    /// The account's, from before the grant or while others may be on the account: it is told of, and left alone.
    Accounts(By),
}

/// Judges one process. `live` are the audit sessions of connections that go on.
pub fn judge(seen: Seen<'_>, over: &Over, live: &BTreeSet<u32>) -> Left {
    if seen.audit.is_some_and(|audit| live.contains(&audit)) {
        return Left::Nothing;
    }
    if seen.audit.is_some_and(|audit| over.audits.contains(&audit)) {
        return Left::Theirs(By::Session);
    }
    let manager = format!("/user.slice/user-{uid}.slice/user@{uid}.service", uid = over.uid);
    let by = if is_within(seen.cgroup, &manager) {
        // Without linger it goes by itself once nobody is logged in.
        if !over.lingers || seen.login_uid.is_some_and(|uid| uid != over.uid) {
            return Left::Nothing;
        }
        By::UserManager
    } else if seen.login_uid != Some(over.uid) {
        return Left::Nothing;
    } else if is_within(seen.cgroup, "/system.slice/cron.service") {
        By::Cron
    } else if is_within(seen.cgroup, "/system.slice/atd.service") {
        By::At
    } else {
        // A console, another way in: not of this grant.
        return Left::Nothing;
    };
    if over.shared || seen.began < over.since { Left::Accounts(by) } else { Left::Theirs(by) }
}

fn is_within(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGER: &str = "/user.slice/user-1001.slice/user@1001.service/app.slice/run-1.service";
    const CRON: &str = "/system.slice/cron.service";

    fn over() -> Over {
        Over {
            uid: 1001,
            audits: BTreeSet::from([7, 8]),
            since: Duration::from_secs(100),
            shared: false,
            lingers: true,
        }
    }

    fn seen(audit: u32, login_uid: u32, cgroup: &str) -> Seen<'_> {
        Seen { audit: Some(audit), login_uid: Some(login_uid), cgroup, began: Duration::from_secs(150) }
    }

    #[test]
    fn what_a_connection_started_is_its_persons_wherever_it_went() {
        let live = BTreeSet::from([8, 9]);
        let judged = |audit, uid, cgroup| judge(seen(audit, uid, cgroup), &over(), &live);
        for cgroup in ["/user.slice/user-1001.slice/session-3.scope", CRON, "/", "/system.slice/other.service"] {
            assert_eq!(judged(7, 1001, cgroup), Left::Theirs(By::Session), "{cgroup}");
        }
        // Of a connection that goes on, of somebody else's, of another login: nothing.
        assert_eq!(judged(8, 1001, "/"), Left::Nothing);
        assert_eq!(judged(9, 1001, CRON), Left::Nothing);
        assert_eq!(judged(10, 1001, "/user.slice/user-1001.slice/session-4.scope"), Left::Nothing);
        assert_eq!(judged(10, 1002, CRON), Left::Nothing);
    }

    #[test]
    fn what_the_account_runs_by_itself_ends_only_if_it_is_new_and_nobody_elses() {
        let none = BTreeSet::new();
        for (cgroup, by) in [(MANAGER, By::UserManager), (CRON, By::Cron), ("/system.slice/atd.service", By::At)] {
            assert_eq!(judge(seen(20, 1001, cgroup), &over(), &none), Left::Theirs(by));
            let shared = Over { shared: true, ..over() };
            assert_eq!(judge(seen(20, 1001, cgroup), &shared, &none), Left::Accounts(by));
            let old = Seen { began: Duration::from_secs(99), ..seen(20, 1001, cgroup) };
            assert_eq!(judge(old, &over(), &none), Left::Accounts(by));
        }
    }

    #[test]
    fn services_without_a_login_uid_are_spared_but_for_the_accounts_own_manager() {
        let none = BTreeSet::new();
        let unset = |cgroup| Seen { audit: None, login_uid: None, cgroup, began: Duration::from_secs(150) };
        assert_eq!(judge(unset(MANAGER), &over(), &none), Left::Theirs(By::UserManager));
        assert_eq!(judge(unset(MANAGER), &Over { lingers: false, ..over() }, &none), Left::Nothing);
        for cgroup in [CRON, "/system.slice/app.service", "/user.slice/user-1002.slice/user@1002.service", "/"] {
            assert_eq!(judge(unset(cgroup), &over(), &none), Left::Nothing, "{cgroup}");
        }
        let longer = "/user.slice/user-1001.slice/user@1001.service.d/x";
        assert_eq!(judge(unset(longer), &over(), &none), Left::Nothing);
    }
}
