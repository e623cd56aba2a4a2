//! `grants`: who may log in, to what, until when, on whose word.

use control::{Answer, GrantState, GrantView, GrantsAnswer, Origin, Request};
use jiff::Timestamp;
use record::{Actor, Person};

use super::{Context, known_person, left_off};
use crate::{
    ask::Failure,
    cli,
    moment::{absolute, both, relative},
    output::{Done, show},
    paint::Paint,
    table::{Table, or_dash},
};

/// Lists them.
pub(crate) fn run(args: &cli::Grants, context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Grants(control::Grants { all: args.all }))? {
        Answer::Grants(mut answer) => {
            answer.grants.retain(|grant| args.whose.fits(Some(&grant.person), &grant.account));
            if answer.grants.is_empty() {
                known_person(args.whose.person.as_ref(), "grant of one", context)?;
            }
            Ok(show(context.json, &answer, |answer| words(answer, args, context.now, context.paint)))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &GrantsAnswer, args: &cli::Grants, now: Timestamp, paint: Paint) -> String {
    if answer.grants.is_empty() {
        let hint = if args.all { "" } else { "; lockdownctl grants --all lists those that have ended" };
        return format!("no grants{}{hint}\n", args.whose.words()) + &left_off(answer.left_off);
    }
    let mut table = Table::new(&["GRANT", "PERSON", "ACCOUNT", "STATE", "WHEN", "AT", "FROM", "BY", "REASON"])
        .spare(&["AT", "BY", "FROM"])
        .cut(&["PERSON", "ACCOUNT", "REASON"]);
    for grant in &answer.grants {
        let from: Vec<String> = grant.from.iter().map(ToString::to_string).collect();
        table.row([
            grant.id.to_string(),
            grant.person.to_string(),
            grant.account.to_string(),
            state(grant).to_owned(),
            when(grant, answer.next_lockdown, now),
            exactly(grant, answer.next_lockdown),
            if from.is_empty() { "anywhere".to_owned() } else { from.join(" ") },
            origin(&grant.origin),
            or_dash(grant.reason.as_ref()),
        ]);
    }
    table.render_in(paint) + &lockdown_ahead(answer.next_lockdown, now, paint) + &left_off(answer.left_off)
}

fn state(grant: &GrantView) -> &'static str {
    use control::EndWhy::{Config, Expired, Identity, Lockdown, Revoked};
    match (grant.state, grant.end.as_ref().map(|end| end.why)) {
        (GrantState::Waiting, _) => "waiting",
        (GrantState::Active, _) => "active",
        (GrantState::Ended, None) => "ended",
        (GrantState::Ended, Some(Expired)) => "expired",
        (GrantState::Ended, Some(Revoked)) => "revoked",
        (GrantState::Ended, Some(Lockdown)) => "lockdown",
        (GrantState::Ended, Some(Config)) => "config",
        (GrantState::Ended, Some(Identity)) => "identity",
    }
}

/// The scheduled lockdown, which nothing outlasts.
pub(super) fn lockdown_ahead(next: Option<Timestamp>, now: Timestamp, paint: Paint) -> String {
    let told = |at| format!("{}\n", paint.wrap(&format!("a lockdown is scheduled for {}", both(at, now)), 0));
    next.map(told).unwrap_or_default()
}

/// The end that counts: a scheduled lockdown may come before the one that was asked for.
pub(super) fn sooner(end: Timestamp, lockdown: Option<Timestamp>) -> Timestamp {
    lockdown.map_or(end, |lockdown| lockdown.min(end))
}

/// What comes next of it, or came last, and how far off that is.
fn when(grant: &GrantView, lockdown: Option<Timestamp>, now: Timestamp) -> String {
    match (&grant.end, grant.state) {
        (Some(end), _) => format!("ended {}", relative(end.at, now)),
        (None, GrantState::Waiting) if lockdown.is_none_or(|lockdown| lockdown > grant.starts_at) => {
            format!("begins {}", relative(grant.starts_at, now))
        }
        (None, _) => format!("ends {}", relative(sooner(grant.expires_at, lockdown), now)),
    }
}

/// When exactly.
fn exactly(grant: &GrantView, lockdown: Option<Timestamp>) -> String {
    let ends = absolute(sooner(grant.expires_at, lockdown));
    match (&grant.end, grant.state) {
        (Some(end), _) => absolute(end.at),
        (None, GrantState::Waiting) => format!("{} to {ends}", absolute(grant.starts_at)),
        (None, _) => ends,
    }
}

/// On whose word: an operator's, or the place in the configuration.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Config { file, line: Some(line) } => format!("{file}:{line}"),
        Origin::Config { file, line: None } => file.clone(),
        Origin::Operator(actor) => who(actor),
        Origin::Document { approvers, .. } => approvers.iter().map(Person::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// A person where one is known, else the login uid, else the uid.
pub(super) fn who(actor: &Actor) -> String {
    match (&actor.person, actor.login_uid, actor.uid) {
        (Some(person), _, _) => person.to_string(),
        (None, Some(login), Some(uid)) if login != uid => format!("uid {uid} (login uid {login})"),
        (None, _, Some(uid)) => format!("uid {uid}"),
        (None, login, None) => or_dash(login.map(|login| format!("login uid {login}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::commands::testing::*;
    use control::{EndView, EndWhy};

    pub(crate) fn grant() -> GrantView {
        GrantView {
            id: "g-0123456789abcdef".parse().unwrap(),
            person: "frank".parse().unwrap(),
            account: "ubuntu".parse().unwrap(),
            state: GrantState::Active,
            created_at: at(NOW),
            starts_at: at(NOW),
            expires_at: at("2026-11-23T20:00:00Z"),
            from: Vec::new(),
            reason: Some("INC-42".to_owned()),
            origin: Origin::Operator(Actor { uid: Some(0), login_uid: Some(1000), ..Actor::default() }),
            end: None,
        }
    }

    #[test]
    fn grants_stand_in_a_table_with_what_counts_for_each() {
        let rendered = Origin::Config { file: "/etc/lockdownd/conf.d/web.toml".to_owned(), line: Some(7) };
        let waiting = GrantView {
            state: GrantState::Waiting,
            starts_at: at("2026-11-24T18:00:00Z"),
            expires_at: at("2026-11-24T19:00:00Z"),
            from: vec!["10.0.0.0/8".parse().unwrap()],
            origin: rendered,
            reason: None,
            ..grant()
        };
        let end = EndView { why: EndWhy::Revoked, at: at("2026-11-23T17:59:00Z"), reason: None };
        let ended = GrantView { state: GrantState::Ended, end: Some(end), ..grant() };
        let answer = GrantsAnswer { grants: vec![grant(), waiting, ended], next_lockdown: None, left_off: 0 };
        let args = cli::Grants { all: true, whose: cli::Whose::default() };
        let (_, done) = against(vec![Ok(Answer::Grants(answer))], |context| run(&args, context));
        assert_eq!(
            done.unwrap().text,
            "\
GRANT               PERSON  ACCOUNT  STATE    WHEN             AT                                                  FROM        BY                                REASON
g-0123456789abcdef  frank   ubuntu   active   ends in 2 h      2026-11-23 20:00:00 UTC                             anywhere    uid 0 (login uid 1000)            INC-42
g-0123456789abcdef  frank   ubuntu   waiting  begins in 1 d    2026-11-24 18:00:00 UTC to 2026-11-24 19:00:00 UTC  10.0.0.0/8  /etc/lockdownd/conf.d/web.toml:7  -
g-0123456789abcdef  frank   ubuntu   revoked  ended 1 min ago  2026-11-23 17:59:00 UTC                             anywhere    uid 0 (login uid 1000)            INC-42
"
        );
    }

    #[test]
    fn a_scheduled_lockdown_that_comes_first_is_the_end_that_is_shown() {
        let lasting = GrantView { expires_at: at("2026-11-23T18:30:00Z"), ..grant() };
        let grants = vec![grant(), lasting];
        let answer = GrantsAnswer { grants, next_lockdown: Some(at("2026-11-23T19:00:00Z")), left_off: 0 };
        let text = words(&answer, &every(), at(NOW), Paint::NONE);
        assert!(text.lines().nth(1).unwrap().contains("ends in 1 h     2026-11-23 19:00:00 UTC"), "{text}");
        assert!(text.lines().nth(2).unwrap().contains("ends in 30 min  2026-11-23 18:30:00 UTC"), "{text}");
        assert!(text.ends_with("\na lockdown is scheduled for 2026-11-23 19:00:00 UTC (in 1 h)\n"), "{text}");
    }

    fn every() -> cli::Grants {
        cli::Grants { all: true, whose: cli::Whose::default() }
    }

    #[test]
    fn those_of_a_person_or_on_an_account_alone_are_shown_and_a_person_whom_nobody_knows_is_an_error() {
        let grace = GrantView { person: "grace".parse().unwrap(), account: "deploy".parse().unwrap(), ..grant() };
        let answer = GrantsAnswer { grants: vec![grant(), grace], next_lockdown: None, left_off: 0 };
        let nobody = control::PeopleAnswer { people: Vec::new(), left_off: 0 };
        let asked = |person: Option<&str>, account: Option<&str>| {
            let [person, account] = [person, account].map(|name| name.map(str::to_owned));
            let whose = cli::Whose {
                person: person.map(|name| name.parse().unwrap()),
                account: account.map(|name| name.parse().unwrap()),
            };
            let is_known = whose.person.as_ref().is_none_or(|name| ["frank", "grace"].contains(&name.as_str()));
            let mut answers = vec![Ok(Answer::Grants(answer.clone()))];
            answers.extend((!is_known).then(|| Ok(Answer::People(nobody.clone()))));
            against(answers, |context| run(&cli::Grants { whose, ..every() }, context)).1
        };
        let text = asked(Some("grace"), None).unwrap().text;
        assert!(text.contains("grace") && !text.contains("frank"), "{text}");
        assert_eq!(asked(None, Some("ubuntu")).unwrap().text.lines().count(), 2);
        assert_eq!(asked(None, Some("mail")).unwrap().text, "no grants on mail\n");
        let said = asked(Some("typo"), None).unwrap_err().words();
        assert!(said.contains("there is no person typo"), "{said}");
    }

    #[test]
    fn on_a_narrow_terminal_no_line_is_longer_than_it_and_what_is_cut_is_seen() {
        let grant = GrantView { reason: Some("a word ".repeat(30)), ..grant() };
        let text = words(
            &GrantsAnswer { grants: vec![grant], next_lockdown: None, left_off: 0 },
            &every(),
            at(NOW),
            Paint::of_columns(80),
        );
        let first = text.lines().nth(1).unwrap();
        assert!(
            first.starts_with("g-0123456789abcdef  frank   ubuntu   active  ends in 2 h") && first.ends_with('…'),
            "{text}"
        );
        assert!(text.lines().all(|line| crate::paint::width(line) <= 80), "{text}");
    }

    #[test]
    fn no_grants_is_said_in_words() {
        let none = GrantsAnswer { grants: Vec::new(), next_lockdown: None, left_off: 0 };
        let args = cli::Grants { all: false, ..every() };
        assert_eq!(
            words(&none, &args, at(NOW), Paint::NONE),
            "no grants; lockdownctl grants --all lists those that have ended\n"
        );
    }
}
