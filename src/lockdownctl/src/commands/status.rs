//! `status`: how things stand, the worst first.

use control::{Answer, LedgerState, Mode, Request, Severity, SinkState, StackView, Status};
use jiff::Timestamp;

use super::{Context, count, grants::sooner};
use crate::{
    ask::Failure,
    moment::{absolute, both, relative},
    output::{Done, bullets, plain, show},
    paint::{Paint, Tone},
};

/// How many files are shown that people and grants come from, and how many names of each.
const SHOWN_FILES: usize = 8;
const SHOWN_NAMES: usize = 6;

/// Shows it.
pub(crate) fn run(context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Status)? {
        Answer::Status(status) => Ok(show(context.json, &status, |status| words(status, context.now, context.paint))),
        _ => Err(Failure::mismatch()),
    }
}

fn words(status: &Status, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    for (name, value) in lines(status, now) {
        let heading = paint.tone(Tone::Quiet, &format!("{name:<9}"));
        let value = paint.wrap(&plain(&value), 10);
        text.push_str(&format!("{heading} {}\n", paint.maybe(tone(name, status), &value)));
    }
    text + &attention(status, paint)
}

/// How a line is to the eye: whether all is as it should be shows without reading.
fn tone(name: &str, status: &Status) -> Option<Tone> {
    let bad_sessions = status.unattributed_sessions + status.emergency_sessions > 0;
    Some(match name {
        "mode" if status.mode != status.configured_mode && status.trial_until.is_none() => Tone::Bad,
        "mode" if status.mode == Mode::Observe || status.trial_until.is_some() => Tone::Notice,
        "mode" => Tone::Good,
        "sessions" if bad_sessions => Tone::Bad,
        "ways in" if status.ways_open.is_some_and(|open| open > 0) => match status.mode {
            Mode::Enforce => Tone::Bad,
            Mode::Observe => Tone::Notice,
        },
        "config" if status.config.last_good || status.config.refused.is_some() => Tone::Bad,
        "ledger" if status.ledger.as_ref().is_none_or(|ledger| ledger.failing.is_some()) => Tone::Bad,
        "lockdown" | "host" | "accounts" | "people" | "grants" | "sessions" | "ways in" | "sweep" | "shipping" => {
            return None;
        }
        _ => Tone::Quiet,
    })
}

fn lines(status: &Status, now: Timestamp) -> Vec<(&'static str, String)> {
    let moment = |moment: Option<Timestamp>, none: &str| moment.map_or_else(|| none.to_owned(), |m| both(m, now));
    let exempt: Vec<&str> = status.exempt.iter().map(|account| account.as_str()).collect();
    let exempt = if exempt.is_empty() { "none".to_owned() } else { exempt.join(" ") };
    let mut lines = vec![
        ("mode", mode(status, now)),
        ("host", format!("{}, stack {}", status.host, status.stack.as_ref().map_or("(none)", |stack| stack.as_str()))),
        ("config", config(status)),
        ("accounts", format!("{} watched, exempt: {exempt}", status.accounts)),
    ];
    lines.extend(not_enumerated(status).map(|line| ("", line)));
    lines.push(("people", status.people.to_string()));
    lines.extend(sources(status).into_iter().enumerate().map(|(n, line)| (if n == 0 { "from" } else { "" }, line)));
    lines.extend(status.documents.iter().map(|stack| ("stack", documents(stack, now))));
    lines.extend([
        ("grants", grants(status, now)),
        ("sessions", sessions(status)),
        ("ways in", ways_in(status)),
        (
            "kept",
            format!(
                "{} in quarantine",
                count(usize::try_from(status.quarantined).unwrap_or(usize::MAX), "removed file")
            ),
        ),
        ("sweep", format!("last {}, next {}", moment(status.last_sweep, "never"), moment(status.next_sweep, "none"))),
        ("lockdown", moment(status.next_lockdown, "none scheduled")),
        ("ledger", status.ledger.as_ref().map_or_else(|| "not open".to_owned(), ledger)),
        ("daemon", {
            let sshd = status.openssh.as_deref().unwrap_or("no OpenSSH found");
            format!("{} since {}, with {sshd}", status.version, absolute(status.started_at))
        }),
    ]);
    let at = lines.len() - 1;
    let durable = status.ledger.as_ref().map_or(0, |ledger| ledger.durable);
    lines.splice(at..at, status.shipping.iter().map(|sink| ("shipping", shipping(sink, durable, now))));
    lines
}

/// By which roster documents are judged, and whether the feeds are heard.
fn documents(stack: &StackView, now: Timestamp) -> String {
    let roster = stack.roster.as_ref().map_or_else(
        || "no roster yet".to_owned(),
        |roster| format!("roster {} of {} until {}", roster.version, stack.organization, both(roster.expires_at, now)),
    );
    let holds = match stack.holds.len() {
        0 => String::new(),
        holds => format!(", {} in force", count(holds, "hold")),
    };
    let waiting = match stack.waiting.len() {
        0 => String::new(),
        waiting => format!(", {} waiting", count(waiting, "document")),
    };
    let heard = stack.feeds.iter().filter_map(|feed| feed.heard_at).max();
    let vouched = stack.feeds.iter().any(|feed| feed.vouched);
    let feeds = match (stack.feeds.is_empty(), heard) {
        (true, _) => "no feed".to_owned(),
        (false, None) => "no feed heard yet".to_owned(),
        (false, Some(at)) => format!("feed heard {}{}", relative(at, now), if vouched { "" } else { " (unvouched)" }),
    };
    format!("{roster}{holds}{waiting}, {feeds}")
}

fn ledger(ledger: &LedgerState) -> String {
    let head = ledger.hash.get(..12).unwrap_or(&ledger.hash);
    format!("{} at {}, on disk to {}, head {head}", ledger.id, ledger.seq, ledger.durable)
}

/// Which accounts are watched of the sources that cannot be listed.
fn not_enumerated(status: &Status) -> Option<String> {
    let sources = status.not_enumerated.join(", ");
    (!sources.is_empty()).then(|| {
        format!(
            "not listed: {sources} (nsswitch.conf); watched there: accounts in the configuration, grants and sessions"
        )
    })
}

/// The states in which nothing is in the way.
const HEALTHY: [&str; 2] = ["idle", "shipping"];

/// How many there are, and when the first of them ends.
fn grants(status: &Status, now: Timestamp) -> String {
    let end = status.next_end.map(|end| sooner(end, status.next_lockdown));
    let ends = end.map(|end| format!(" (the first ends {})", relative(end, now)));
    format!("{} active{}, {} waiting", status.active_grants, ends.unwrap_or_default(), status.waiting_grants)
}

/// How many are open, by the last look.
fn ways_in(status: &Status) -> String {
    match status.ways_open {
        None => "being looked at".to_owned(),
        Some(0) => "none open without a grant".to_owned(),
        Some(open) => format!("{open} open without a grant: lockdownctl ways-in"),
    }
}

/// How many there are, and how many of them nobody granted.
fn sessions(status: &Status) -> String {
    let kinds = [(status.unattributed_sessions, "unattributed"), (status.emergency_sessions, "emergency")];
    let kinds: Vec<String> =
        kinds.into_iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    match kinds.is_empty() {
        true => status.sessions.to_string(),
        false => format!("{}, of which {}", status.sessions, kinds.join(" and ")),
    }
}

/// What waits to be shipped to one place, since when and why, and how far a server has acknowledged it.
fn shipping(sink: &SinkState, durable: u64, now: Timestamp) -> String {
    let mut text = format!("{} {}: ", sink.name, sink.to);
    match &sink.state {
        None => text.push_str("lockdownd-shipper says nothing (systemctl status lockdownd-shipper)"),
        // A sink that does not go on may count nothing as waiting and yet have nothing sent.
        Some(state) if sink.waiting == 0 && HEALTHY.contains(&state.as_str()) => {
            text.push_str(&format!("all sent, to {}", sink.sent));
        }
        Some(state) => {
            text.push_str(&format!("{state}, sent to {}, {} waiting", sink.sent, sink.waiting));
            if let Some(since) = sink.since {
                text.push_str(&format!(" since {}", both(since, now)));
            }
        }
    }
    if let Some(why) = sink.why.as_ref().filter(|_| sink.state.is_some()) {
        text.push_str(&format!(": {why}"));
    }
    if let Some(to) = sink.acknowledged {
        text.push_str(&format!("; acknowledged to {to}"));
        // What counts is what the ledger holds, whatever the shipper says that it has sent.
        match durable.saturating_sub(to) {
            0 => {}
            missing => text.push_str(&format!(", {missing} not yet")),
        }
    }
    if let Some(enrolment) = sink.enrolment.as_ref().filter(|word| *word != "enrolled") {
        text.push_str(&format!("; enrolment {enrolment}"));
    }
    text
}

/// Where people and grants came from: a line for each file, with the first few of each.
fn sources(status: &Status) -> Vec<String> {
    fn some<'n>(mut names: impl ExactSizeIterator<Item = String> + 'n) -> String {
        let count = names.len();
        let shown = names.by_ref().take(SHOWN_NAMES).collect::<Vec<_>>().join(", ");
        if count > SHOWN_NAMES { format!("{shown} and {} more", count - SHOWN_NAMES) } else { shown }
    }
    let mut lines: Vec<String> = status
        .sources
        .iter()
        .map(|source| {
            let people = some(source.people.iter().map(|at| format!("{}:{}", at.person, at.line)));
            let grants = some(source.grants.iter().map(|at| format!("{} as {}:{}", at.person, at.account, at.line)));
            let parts = [("people", people), ("grants", grants)];
            let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
            let parts: Vec<String> = parts.map(|(what, names)| format!("{what} {names}")).collect();
            format!("{}: {}", source.file, parts.join("; "))
        })
        .collect();
    let more = lines.len().saturating_sub(SHOWN_FILES);
    lines.truncate(SHOWN_FILES);
    if more > 0 || status.sources_left_off > 0 {
        lines.push("and more: lockdownctl people, lockdownctl grants".to_owned());
    }
    lines
}

fn mode(status: &Status, now: Timestamp) -> String {
    match (status.mode, status.trial_until) {
        (Mode::Enforce, Some(until)) => {
            format!("enforce on trial until {}, then {}", both(until, now), status.configured_mode.as_str())
        }
        (mode, _) if mode == status.configured_mode => mode.as_str().to_owned(),
        (mode, _) => format!("{}, although the configuration says {}", mode.as_str(), status.configured_mode.as_str()),
    }
}

fn config(status: &Status) -> String {
    let loaded = absolute(status.config.loaded_at);
    let hash = status.config.hash.get(..12).unwrap_or(&status.config.hash);
    match status.config.last_good {
        true => format!("{hash}, the last good one, in force since {loaded}"),
        false => format!("{hash} in force since {loaded}"),
    }
}

/// Everything that an operator should act on, the worst first; empty where there is nothing.
fn attention(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let mut problems: Vec<_> = status.problems.iter().collect();
    problems.sort_by_key(|problem| problem.severity);
    for problem in problems {
        let (word, tone) = match problem.severity {
            Severity::Crit => ("CRIT", Tone::Bad),
            Severity::Err => ("ERR", Tone::Bad),
            Severity::Warning => ("WARNING", Tone::Notice),
        };
        text.push_str(&format!(
            "\n{}: {}\n",
            paint.tone(tone, word),
            paint.wrap(&plain(&problem.what), word.len() + 2)
        ));
        if let Some(remedy) = &problem.remedy {
            text.push_str(&format!("  {}\n", paint.wrap(&plain(remedy), 2)));
        }
    }
    if status.mode == Mode::Observe && !status.obstacles.is_empty() {
        text.push_str(&format!("\n{}\n", paint.tone(Tone::Notice, "In the way of enforce:")));
        text.push_str(&bullets(&status.obstacles, paint));
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use control::{ConfigSource, ConfigState, GrantLine, PersonLine, Problem};

    use super::*;
    use crate::commands::testing::*;

    pub(crate) fn status() -> Status {
        Status {
            documents: None,
            mode: Mode::Enforce,
            trial_until: None,
            configured_mode: Mode::Enforce,
            host: "i-0abc".parse().unwrap(),
            stack: Some("web".parse().unwrap()),
            version: "0.1.0".to_owned(),
            openssh: Some("OpenSSH 9.2".to_owned()),
            started_at: at("2026-11-23T06:00:00Z"),
            config: ConfigState {
                loaded_at: at("2026-11-23T06:00:00Z"),
                hash: "ab".repeat(32),
                last_good: false,
                refused: None,
            },
            accounts: 31,
            not_enumerated: Vec::new(),
            exempt: vec!["breakglass".parse().unwrap()],
            people: 4,
            sources: vec![
                ConfigSource {
                    file: "/etc/lockdownd/conf.d/chef.toml".to_owned(),
                    people: (1..=8)
                        .map(|n| PersonLine { line: 10 * n, person: format!("p{n}").parse().unwrap() })
                        .collect(),
                    grants: vec![GrantLine {
                        line: 95,
                        person: "p1".parse().unwrap(),
                        account: "ubuntu".parse().unwrap(),
                    }],
                },
                ConfigSource {
                    file: "/etc/lockdownd/config.toml".to_owned(),
                    people: vec![PersonLine { line: 12, person: "frank".parse().unwrap() }],
                    grants: Vec::new(),
                },
            ],
            sources_left_off: 0,
            active_grants: 2,
            next_end: Some(at("2026-11-23T18:40:00Z")),
            waiting_grants: 1,
            sessions: 2,
            ways_open: Some(0),
            unattributed_sessions: 0,
            emergency_sessions: 0,
            quarantined: 3,
            obstacles: Vec::new(),
            ledger: Some(LedgerState {
                id: "0".repeat(32).parse().unwrap(),
                seq: 90,
                hash: "cd".repeat(32),
                durable: 89,
                failing: None,
            }),
            problems: Vec::new(),
            last_sweep: Some(at("2026-11-23T17:45:00Z")),
            next_sweep: Some(at("2026-11-23T18:15:00Z")),
            next_lockdown: None,
            shipping: Vec::new(),
        }
    }

    #[test]
    fn a_host_in_order_takes_a_line_for_each_thing_and_each_file() {
        let (asked, done) = against(vec![Ok(Answer::Status(Box::new(status())))], run);
        assert_eq!(asked, [Request::Status]);
        assert_eq!(
            done.unwrap().text,
            format!(
                "\
mode      enforce
host      i-0abc, stack web
config    abababababab in force since 2026-11-23 06:00:00 UTC
accounts  31 watched, exempt: breakglass
people    4
from      /etc/lockdownd/conf.d/chef.toml: people p1:10, p2:20, p3:30, p4:40, p5:50, p6:60 and 2 more; grants p1 as ubuntu:95
          /etc/lockdownd/config.toml: people frank:12
grants    2 active (the first ends in 40 min), 1 waiting
sessions  2
ways in   none open without a grant
kept      3 removed files in quarantine
sweep     last 2026-11-23 17:45:00 UTC (15 min ago), next 2026-11-23 18:15:00 UTC (in 15 min)
lockdown  none scheduled
ledger    {} at 90, on disk to 89, head {}
daemon    0.1.0 since 2026-11-23 06:00:00 UTC, with OpenSSH 9.2
",
                "0".repeat(32),
                "cd".repeat(6)
            )
        );
    }

    #[test]
    fn sources_of_accounts_that_cannot_be_listed_are_named_below_the_accounts() {
        let status = Status { not_enumerated: vec!["sss".to_owned(), "systemd".to_owned()], ..status() };
        let text = words(&status, at(NOW), Paint::NONE);
        let line = "accounts  31 watched, exempt: breakglass\n          not listed: sss, systemd (nsswitch.conf); watched there: ";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_waits_to_be_shipped_is_told_with_since_when_and_why() {
        let quiet = SinkState {
            name: "syslog".to_owned(),
            to: "unix:/run/x".to_owned(),
            state: Some("idle".to_owned()),
            sent: 90,
            waiting: 0,
            since: None,
            why: None,
            enrolment: None,
            acknowledged: None,
        };
        let waiting = SinkState {
            name: "api".to_owned(),
            to: "https://c".to_owned(),
            state: Some("retrying".to_owned()),
            sent: 78,
            waiting: 12,
            since: Some(at("2026-11-23T17:57:00Z")),
            why: Some("connection refused".to_owned()),
            enrolment: Some("pending".to_owned()),
            acknowledged: Some(78),
        };
        let silent = SinkState { state: None, ..waiting.clone() };
        let status = Status { shipping: vec![quiet, waiting, silent], ..status() };
        let text = words(&status, at(NOW), Paint::NONE);
        for line in [
            "shipping  syslog unix:/run/x: all sent, to 90\n",
            "shipping  api https://c: retrying, sent to 78, 12 waiting since 2026-11-23 17:57:00 UTC (3 min ago): connection refused; acknowledged to 78, 11 not yet; enrolment pending\n",
            "shipping  api https://c: lockdownd-shipper says nothing (systemctl status lockdownd-shipper); acknowledged to 78, 11 not yet; enrolment pending\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_sink_that_does_not_go_on_is_never_told_as_all_sent() {
        let stuck = |state: &str| SinkState {
            name: "api".to_owned(),
            to: "https://c".to_owned(),
            state: Some(state.to_owned()),
            sent: 10_000,
            waiting: 0,
            since: None,
            why: Some("another history".to_owned()),
            enrolment: None,
            acknowledged: Some(78),
        };
        for state in ["fork", "refused", "waiting"] {
            assert_eq!(
                shipping(&stuck(state), 89, at(NOW)),
                format!(
                    "api https://c: {state}, sent to 10000, 0 waiting: another history; acknowledged to 78, 11 not yet"
                )
            );
        }
        assert_eq!(
            shipping(&SinkState { acknowledged: Some(89), ..stuck("idle") }, 89, at(NOW)),
            "api https://c: all sent, to 10000: another history; acknowledged to 89"
        );
    }

    #[test]
    fn what_needs_an_operator_follows_with_the_worst_first() {
        let mut status = status();
        let problem = |severity, what: &str, remedy: Option<&str>| Problem {
            severity,
            what: what.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        status.problems = vec![problem(Severity::Warning, "small", None), problem(Severity::Crit, "big", Some("act"))];
        status.obstacles = vec!["UsePAM is off: set it".to_owned()];
        let problems = "\nCRIT: big\n  act\n\nWARNING: small\n";
        assert_eq!(
            attention(&status, Paint::NONE),
            problems,
            "in enforce the daemon lists what broke among the problems"
        );
        status.mode = Mode::Observe;
        let in_the_way = "\nIn the way of enforce:\n  - UsePAM is off: set it\n";
        assert_eq!(attention(&status, Paint::NONE), format!("{problems}{in_the_way}"));
    }

    #[test]
    fn ways_in_that_are_open_stand_out_the_more_where_they_should_not_be() {
        let mut status = status();
        assert_eq!(tone("ways in", &status), None);
        status.ways_open = Some(2);
        assert_eq!(ways_in(&status), "2 open without a grant: lockdownctl ways-in");
        assert_eq!(tone("ways in", &status), Some(Tone::Bad));
        status.mode = Mode::Observe;
        assert_eq!(tone("ways in", &status), Some(Tone::Notice));
        status.ways_open = None;
        assert_eq!(ways_in(&status), "being looked at");
    }

    #[test]
    fn sessions_that_nobody_granted_stand_out() {
        let mut status = status();
        status.unattributed_sessions = 1;
        assert_eq!(sessions(&status), "2, of which 1 unattributed");
        status.emergency_sessions = 1;
        assert_eq!(sessions(&status), "2, of which 1 unattributed and 1 emergency");
        assert_eq!((tone("sessions", &status), tone("mode", &status)), (Some(Tone::Bad), Some(Tone::Good)));
    }

    #[test]
    fn a_trial_says_how_it_ends_and_a_mode_that_differs_stands_out() {
        let mut status = status();
        status.configured_mode = Mode::Observe;
        status.trial_until = Some(at("2026-11-23T18:10:00Z"));
        assert_eq!(mode(&status, at(NOW)), "enforce on trial until 2026-11-23 18:10:00 UTC (in 10 min), then observe");
        status.mode = Mode::Observe;
        status.configured_mode = Mode::Enforce;
        status.trial_until = None;
        assert_eq!(mode(&status, at(NOW)), "observe, although the configuration says enforce");
    }
}
