//! What a person leaves running: whose it is, and whether it may be ended when their grant is over.
//!
//! The audit session (one per login, and no process can change its own) tells what a connection started, wherever it
//! went. What cron, at and the account's own service manager start has a session of its own: it is the account's, and
//! as long as anybody else may be on that account, nobody can tell whose.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::grant::Grant;

/// Where cron's jobs run.
pub const CRON: &str = "/system.slice/cron.service";
/// Where at's do.
pub const AT: &str = "/system.slice/atd.service";

/// Where logind puts all that a user id's logins and service manager run.
#[must_use]
pub fn user_slice(uid: u32) -> String {
    format!("/user.slice/user-{uid}.slice")
}

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
    /// Since when somebody could be on the account without a break ([`occupied_since`]), on the boot clock.
    pub since: Duration,
    /// Whether anybody else may be on the account: a grant, a connection of whatever kind.
    pub shared: bool,
    /// Whether the persons' connections alone are looked after, not what the account runs by itself.
    pub connections_alone: bool,
    /// Whether somebody is logged in to the account in another way than by a connection that is known: its service manager
    /// is theirs too.
    pub attended: bool,
    /// Whether the account's service manager is left to go by itself, as it does without logind's linger unless somebody
    /// sees to it that it does not.
    pub manager_goes: bool,
    /// Whether anybody came in since then: what they told a service manager that ran before nobody can tell, nor take back.
    pub used: bool,
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

impl Left {
    /// The same while somebody else may be on the account.
    pub fn shared(self) -> Self {
        match self {
            Self::Theirs(by) => Self::Accounts(by),
            other => other,
        }
    }
}

/// Judges one process. `live` are the audit sessions of connections that go on.
pub fn judge(seen: Seen<'_>, over: &Over, live: &BTreeSet<u32>) -> Left {
    if seen.audit.is_some_and(|audit| live.contains(&audit)) {
        return Left::Nothing;
    }
    if seen.audit.is_some_and(|audit| over.audits.contains(&audit)) {
        return Left::Theirs(By::Session);
    }
    if over.connections_alone {
        return Left::Nothing;
    }
    let manager = format!("{}/user@{}.service", user_slice(over.uid), over.uid);
    let by = if is_within(seen.cgroup, &manager) {
        if over.manager_goes || seen.login_uid.is_some_and(|uid| uid != over.uid) {
            return Left::Nothing;
        }
        By::UserManager
    } else if seen.login_uid != Some(over.uid) {
        return Left::Nothing;
    } else if is_within(seen.cgroup, CRON) {
        By::Cron
    } else if is_within(seen.cgroup, AT) {
        By::At
    } else {
        // A console, another way in: not of this grant.
        return Left::Nothing;
    };
    let told = by == By::UserManager && over.used;
    let shared = over.shared || (by == By::UserManager && over.attended);
    if shared || (seen.began < over.since && !told) { Left::Accounts(by) } else { Left::Theirs(by) }
}

/// Since when somebody could be on this grant's account without a break, up to its end. What one person put there while
/// others had grants too stays when theirs ends; the last one to go takes it along, also where their own grant is younger.
#[must_use]
pub fn occupied_since<'a>(grant: &Grant, all: impl Iterator<Item = &'a Grant> + Clone) -> Timestamp {
    let spans = all.filter(|other| other.account == grant.account && other.recorded).map(|other| {
        let end = other.end.as_ref().map_or(other.ends.wall, |end| end.at);
        (begins(other), end)
    });
    let mut since = begins(grant);
    while let Some(earlier) =
        spans.clone().filter(|(begin, end)| *begin < since && *end >= since).map(|(begin, _)| begin).min()
    {
        since = earlier;
    }
    since
}

/// Nobody can use a grant before it is given, nor before it begins.
fn begins(grant: &Grant) -> Timestamp {
    grant.starts_at.max(grant.created_at)
}

/// Whether a control group's path is this group's, or below it.
#[must_use]
pub fn is_within(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        grant::EndCause,
        test_grants::{ended, grant, lasts, later},
    };

    const MANAGER: &str = "/user.slice/user-1001.slice/user@1001.service/app.slice/run-1.service";

    fn over() -> Over {
        Over {
            uid: 1001,
            audits: BTreeSet::from([7, 8]),
            since: Duration::from_secs(100),
            shared: false,
            connections_alone: false,
            attended: false,
            manager_goes: false,
            used: false,
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
        for (cgroup, by) in [(MANAGER, By::UserManager), (CRON, By::Cron), (AT, By::At)] {
            assert_eq!(judge(seen(20, 1001, cgroup), &over(), &none), Left::Theirs(by));
            let shared = Over { shared: true, ..over() };
            assert_eq!(judge(seen(20, 1001, cgroup), &shared, &none), Left::Accounts(by));
            let later = Over { connections_alone: true, ..over() };
            assert_eq!(judge(seen(20, 1001, cgroup), &later, &none), Left::Nothing);
            let old = Seen { began: Duration::from_secs(99), ..seen(20, 1001, cgroup) };
            assert_eq!(judge(old, &over(), &none), Left::Accounts(by));
            let told = judge(old, &Over { used: true, ..over() }, &none);
            assert_eq!(matches!(told, Left::Theirs(_)), by == By::UserManager, "what they told it goes with it");
            assert_eq!(judge(old, &Over { used: true, shared: true, ..over() }, &none), Left::Accounts(by));
        }
    }

    #[test]
    fn what_was_put_there_under_an_earlier_grant_is_the_last_ones_to_take_along() {
        let span = |number, person: &str, from: u64, to: u64, over: bool| {
            let (begin, ends) = (later(from).wall, lasts(to));
            let grant = Grant { created_at: begin, starts_at: begin, ends, ..grant(number, person, "ubuntu") };
            let mut grant = if over { ended(grant, EndCause::Revoked, true) } else { grant };
            grant.end.iter_mut().for_each(|end| end.at = ends.wall);
            grant
        };
        let last = span(1, "frank", 500, 900, false);
        let since = |others: Vec<Grant>| {
            let all = [vec![last.clone()], others].concat();
            occupied_since(&last, all.iter())
        };
        assert_eq!(since(vec![]), later(500).wall);
        let chain = vec![span(2, "frank", 300, 501, true), span(3, "grace", 100, 300, true)];
        assert_eq!(since(chain.clone()), later(100).wall);
        assert_eq!(since(vec![span(2, "frank", 300, 499, true), chain[1].clone()]), later(500).wall, "a break");
        assert_eq!(since(vec![span(2, "grace", 600, 700, false)]), later(500).wall, "younger");
        let elsewhere = Grant { account: "grace".parse().expect("an account"), ..chain[0].clone() };
        let never = Grant { recorded: false, ..chain[0].clone() };
        assert_eq!(since(vec![elsewhere, never]), later(500).wall);
        // Given ahead of its time it holds nobody's place before it begins.
        let ahead = Grant { created_at: later(100).wall, ..last.clone() };
        assert_eq!(occupied_since(&ahead, std::iter::once(&ahead)), later(500).wall);
    }

    #[test]
    fn services_without_a_login_uid_are_spared_but_for_the_accounts_own_manager() {
        let none = BTreeSet::new();
        let unset = |cgroup| Seen { audit: None, login_uid: None, cgroup, began: Duration::from_secs(150) };
        assert_eq!(judge(unset(MANAGER), &over(), &none), Left::Theirs(By::UserManager));
        let attended = judge(unset(MANAGER), &Over { attended: true, ..over() }, &none);
        assert_eq!(attended, Left::Accounts(By::UserManager), "somebody on the console");
        assert_eq!(judge(unset(MANAGER), &Over { manager_goes: true, ..over() }, &none), Left::Nothing);
        for cgroup in [CRON, "/system.slice/app.service", "/user.slice/user-1002.slice/user@1002.service", "/"] {
            assert_eq!(judge(unset(cgroup), &over(), &none), Left::Nothing, "{cgroup}");
        }
        let longer = "/user.slice/user-1001.slice/user@1001.service.d/x";
        assert_eq!(judge(unset(longer), &over(), &none), Left::Nothing);
    }
}
