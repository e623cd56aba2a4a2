//! What a shell completes: commands and options by their definition, and names by asking the running daemon. A daemon that does not
//! answer at once completes nothing: whoever types waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::builder::StyledStr;
use clap_complete::{CompleteEnv, CompletionCandidate};
use control::{Answer, Client, GrantView, GrantsAnswer, PeopleAnswer, Request, SessionsAnswer};
use jiff::Timestamp;
use record::{Account, ArtifactType, Person};

use crate::{cli, moment::relative};

/// In which environment variable the scripts of `generate completions` name their shell. A name that nobody else sets: with it set,
/// nothing but completion happens.
pub(crate) const VAR: &str = "LOCKDOWNCTL_COMPLETE";
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most names of a kind: more than anybody reads, and a shell slows down.
const MAX_NAMES: usize = 1000;

/// Completes and exits, if it is a shell that asks.
pub(crate) fn for_a_shell() {
    CompleteEnv::with_factory(cli::public).var(VAR).complete();
}

/// The people there are.
pub(crate) fn people() -> Vec<CompletionCandidate> {
    candidates(people_of(asked(Request::People)))
}

/// The accounts that people may be given.
pub(crate) fn accounts() -> Vec<CompletionCandidate> {
    candidates(accounts_of(&[asked(Request::People)]))
}

/// The accounts that anything is known of.
pub(crate) fn known_accounts() -> Vec<CompletionCandidate> {
    let all = control::Grants { all: true };
    candidates(accounts_of(&[asked(Request::People), asked(Request::Sessions), asked(Request::Grants(all))]))
}

/// Whatever can be revoked.
pub(crate) fn to_revoke() -> Vec<CompletionCandidate> {
    let active = control::Grants { all: false };
    let mut all = people_of(asked(Request::People));
    all.extend(grants_of(asked(Request::Grants(active)), Timestamp::now()));
    all.extend(sessions_of(asked(Request::Sessions), Timestamp::now()));
    candidates(all)
}

/// Every grant, the ended ones last.
pub(crate) fn grants() -> Vec<CompletionCandidate> {
    candidates(grants_of(asked(Request::Grants(control::Grants { all: true })), Timestamp::now()))
}

/// What is in quarantine.
pub(crate) fn quarantined() -> Vec<CompletionCandidate> {
    let Some(Answer::Quarantine(answer)) = asked(Request::QuarantineList) else { return Vec::new() };
    let one = |item: control::QuarantineItem| (item.id, Some(format!("{} of {}", item.path, item.account)));
    candidates(answer.items.into_iter().map(one).collect())
}

/// The types of records, and what stands for several that begin alike.
pub(crate) fn kinds() -> Vec<CompletionCandidate> {
    let mut groups = BTreeMap::new();
    for (group, _) in ArtifactType::ALL.iter().filter_map(|kind| kind.as_str().split_once('.')) {
        *groups.entry(group).or_insert(0) += 1;
    }
    let groups = groups.into_iter().filter(|(_, types)| *types > 1).map(|(group, _)| format!("{group}.*"));
    let words = ArtifactType::ALL.iter().map(|kind| kind.as_str().to_owned()).chain(groups);
    candidates(words.map(|word| (word, None)).collect())
}

/// A name, and what a shell that can shows beside it.
type Named = (String, Option<String>);

fn people_of(answer: Option<Answer>) -> Vec<Named> {
    let Some(Answer::People(PeopleAnswer { people, .. })) = answer else { return Vec::new() };
    let one = |person: control::PersonView| {
        let accounts: Vec<&str> = person.accounts.iter().map(Account::as_str).collect();
        (person.name.to_string(), Some(format!("person, may be given {}", accounts.join(", "))))
    };
    people.into_iter().map(one).collect()
}

fn accounts_of(answers: &[Option<Answer>]) -> Vec<Named> {
    let mut accounts = BTreeSet::new();
    for answer in answers.iter().flatten() {
        match answer {
            Answer::People(answer) => accounts.extend(answer.people.iter().flat_map(|person| &person.accounts)),
            Answer::Grants(answer) => accounts.extend(answer.grants.iter().map(|grant| &grant.account)),
            Answer::Sessions(answer) => accounts.extend(answer.sessions.iter().map(|session| &session.account)),
            _ => {}
        }
    }
    accounts.into_iter().map(|account| (account.to_string(), None)).collect()
}

fn grants_of(answer: Option<Answer>, now: Timestamp) -> Vec<Named> {
    let Some(Answer::Grants(GrantsAnswer { mut grants, .. })) = answer else { return Vec::new() };
    grants.sort_by_key(|grant| grant.end.is_some());
    let when = |grant: &GrantView| match &grant.end {
        Some(end) => format!("ended {}", relative(end.at, now)),
        None => format!("ends {}", relative(grant.expires_at, now)),
    };
    let one = |grant: GrantView| {
        let help = format!("grant: {} on {}, {}", grant.person, grant.account, when(&grant));
        (grant.id.to_string(), Some(help))
    };
    grants.into_iter().map(one).collect()
}

fn sessions_of(answer: Option<Answer>, now: Timestamp) -> Vec<Named> {
    let Some(Answer::Sessions(SessionsAnswer { sessions, .. })) = answer else { return Vec::new() };
    let one = |session: control::SessionView| {
        let person = session.person.as_ref().map_or("somebody", Person::as_str);
        let help = format!("session: {person} on {}, since {}", session.account, relative(session.opened_at, now));
        (session.id.to_string(), Some(help))
    };
    sessions.into_iter().map(one).collect()
}

/// What a shell takes as it is; it would take a backslash or a blank in a name for its own.
fn candidates(names: Vec<Named>) -> Vec<CompletionCandidate> {
    let is_plain = |(name, _): &Named| name.chars().all(|c| c.is_alphanumeric() || "._-@+*:".contains(c));
    let one = |(name, help): Named| {
        CompletionCandidate::new(name).help(help.map(|help| StyledStr::from(crate::output::plain(&help))))
    };
    names.into_iter().filter(is_plain).take(MAX_NAMES).map(one).collect()
}

fn asked(request: Request) -> Option<Answer> {
    ask(Path::new(control::SOCKET), request)
}

/// The answer, if there is one in time. Connecting may wait as well, and has no bound of its own.
fn ask(socket: &Path, request: Request) -> Option<Answer> {
    let (told, answer) = mpsc::channel();
    let socket = socket.to_owned();
    thread::spawn(move || {
        let response = Client::connect_within(socket, PATIENCE).and_then(|client| client.ask(&request));
        // Nobody listens any more once the time is up.
        let _ = told.send(response.ok().and_then(Result::ok));
    });
    answer.recv_timeout(PATIENCE).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Instant};

    use super::*;
    use crate::commands::{grants::tests::grant, sessions::tests::session, testing::*};

    fn names(named: &[Named]) -> Vec<&str> {
        named.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn grants_and_sessions_are_told_apart_by_what_stands_beside_them() {
        let end = control::EndView { why: control::EndWhy::Revoked, at: at("2026-11-23T17:59:00Z"), reason: None };
        let ended = GrantView { id: "g-00000000000000aa".parse().unwrap(), end: Some(end), ..grant() };
        let answer = Answer::Grants(GrantsAnswer { grants: vec![ended, grant()], next_lockdown: None, left_off: 0 });
        let grants = grants_of(Some(answer), at(NOW));
        assert_eq!(names(&grants), ["g-0123456789abcdef", "g-00000000000000aa"]);
        assert_eq!(grants[0].1.as_deref(), Some("grant: frank on ubuntu, ends in 2 h"));
        assert_eq!(grants[1].1.as_deref(), Some("grant: frank on ubuntu, ended 1 min ago"));
        let answer = Answer::Sessions(SessionsAnswer { sessions: vec![session()], next_lockdown: None, left_off: 0 });
        let sessions = sessions_of(Some(answer.clone()), at(NOW));
        assert_eq!(sessions[0].1.as_deref(), Some("session: frank on ubuntu, since 1 h ago"));
        assert_eq!(names(&accounts_of(&[Some(answer), None])), ["ubuntu"]);
    }

    #[test]
    fn types_are_completed_without_a_daemon_and_so_is_what_stands_for_several() {
        let kinds: Vec<_> = kinds().iter().map(|kind| kind.get_value().to_str().unwrap().to_owned()).collect();
        assert!(
            ["session.opened", "session.*", "lockdown"].iter().all(|kind| kinds.contains(&(*kind).to_owned())),
            "{kinds:?}"
        );
        assert!(kinds.iter().all(|kind| kind.parse::<crate::commands::records::Kinds>().is_ok()), "{kinds:?}");
    }

    #[test]
    fn a_name_that_a_shell_would_read_otherwise_is_not_offered() {
        let named = ["frank", "CORP\\jane", "a b", "$(id)"].map(|name| (name.to_owned(), None));
        let offered = candidates(named.into());
        assert_eq!(offered.len(), 1);
        assert_eq!(offered[0].get_value(), "frank");
    }

    #[test]
    fn nobody_waits_for_a_daemon_that_is_not_there_or_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let began = Instant::now();
        assert_eq!(ask(&socket, Request::People), None);
        assert!(began.elapsed() < PATIENCE);
        let _silent = UnixListener::bind(&socket).unwrap();
        assert_eq!(ask(&socket, Request::People), None);
        assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
    }
}
