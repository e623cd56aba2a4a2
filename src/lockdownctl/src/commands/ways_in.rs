//! `ways-in`: every way in, whether it is open, and what closes it.

use control::{Answer, Exit, Mode, Request, Way, WayState, WaysIn, WaysInAnswer};

use super::{Context, left_off};
use crate::{
    ask::Failure,
    cli,
    output::{Done, plain, show},
    paint::{Paint, Tone},
};

/// How wide lines are that hold a sentence: a terminal of the usual width.
const WIDTH: usize = 80;
const WARNING: &str = "WARNING";

/// Lists them (exit status 1 while one is open that nobody wants open), prints what would close them, closes or undoes.
pub(crate) fn run(args: &cli::WaysIn, context: &Context<'_>) -> Result<Done, Failure> {
    let request = match (args.close && args.apply, args.undo) {
        (true, _) => WaysIn::Close,
        (_, true) => WaysIn::Undo,
        _ => WaysIn::Look,
    };
    let Answer::WaysIn(answer) = context.ask(&Request::WaysIn(request))? else { return Err(Failure::mismatch()) };
    if args.close && !args.apply {
        return Ok(show(context.json, &answer.closing, |_| drop_in(&answer)));
    }
    let done = show(context.json, &*answer, |answer| words(answer, context.paint));
    let open = answer.ways.iter().any(|way| way.state == WayState::Open && !way.wanted);
    Ok(if open && request == WaysIn::Look { done.exiting(Exit::Refused) } else { done })
}

/// The drop-in's own text, so that it can be redirected into a file.
fn drop_in(answer: &WaysInAnswer) -> String {
    let lines = |text: &String| text.lines().map(|line| format!("{}\n", plain(line))).collect();
    let nothing = || format!("# Nothing is open that {} could close.\n", answer.closing.path);
    answer.closing.text.as_ref().map_or_else(nothing, lines)
}

fn words(answer: &WaysInAnswer, paint: Paint) -> String {
    let mut text: String = answer.changed.iter().map(|sentence| wrapped(&plain(sentence), 0)).collect();
    if answer.mode == Mode::Observe {
        text.push_str("mode observe: the gate lets everybody by, and keys in homes count\n");
    }
    text.push_str(&format!("{}\n", summary(answer, paint)));
    let mut servers: Vec<&str> = answer.servers.iter().map(|server| server.name.as_str()).collect();
    for way in &answer.ways {
        if !servers.contains(&way.server.as_str()) {
            servers.push(&way.server);
        }
    }
    servers.dedup();
    for server in servers {
        let ways: Vec<&Way> = answer.ways.iter().filter(|way| way.server == server).collect();
        if ways.is_empty() {
            continue;
        }
        let listens = answer.servers.iter().find(|known| known.name == server).map(|known| known.listens.join(", "));
        let listens =
            listens.filter(|at| !at.is_empty()).map_or(String::new(), |at| format!("  listens at {}\n", plain(&at)));
        text.push_str(&format!(
            "\n{}\n{}",
            paint.tone(Tone::Strong, &plain(server)),
            paint.tone(Tone::Quiet, &listens)
        ));
        text.push_str(&by_state(&ways, paint));
    }
    text.push_str(&left_off(answer.left_off));
    for warning in &answer.warnings {
        // Painted only once the lines are broken, as below.
        let lines = wrapped(&plain(&format!("{WARNING}: {warning}")), 2);
        let rest = lines.trim_start().strip_prefix(WARNING).unwrap_or_default();
        text.push_str(&format!("\n{}{rest}", paint.tone(Tone::Notice, WARNING)));
    }
    text.push_str(&format!("\n{}\n", paint.tone(Tone::Strong, "Not looked at, because it is not SSH")));
    text.push_str(&answer.not_covered.iter().map(|what| wrapped(&plain(what), 2)).collect::<String>());
    text + &advice(answer)
}

/// At a glance: how many ways are in which state.
fn summary(answer: &WaysInAnswer, paint: Paint) -> String {
    let count = |state, wanted| answer.ways.iter().filter(|way| way.state == state && way.wanted == wanted).count();
    let open = count(WayState::Open, false);
    let tone = if open > 0 { Tone::Bad } else { Tone::Good };
    let wanted = match count(WayState::Open, true) {
        0 => String::new(),
        on_purpose => format!(", {on_purpose} on purpose"),
    };
    let (by_gate, closed) = (count(WayState::ClosedByGate, false), count(WayState::Closed, false));
    format!(
        "{}{wanted}; {by_gate} closed by the gate, {closed} closed",
        paint.tone(tone, &if open == 1 { "1 way in is open".to_owned() } else { format!("{open} ways in are open") })
    )
}

fn by_state(ways: &[&Way], paint: Paint) -> String {
    let mut text = String::new();
    let label = |way: &Way| match (way.state, way.wanted) {
        (WayState::Open, false) => ("OPEN", Tone::Bad),
        (WayState::Open, true) => ("open on purpose", Tone::Notice),
        (WayState::ClosedByGate, _) => ("closed by the gate", Tone::Good),
        (WayState::Closed, _) => ("closed", Tone::Good),
    };
    let mut standing: Vec<&&Way> = ways.iter().filter(|way| way.state != WayState::Closed).collect();
    standing.sort_by_key(|way| (way.state, way.wanted));
    for way in standing {
        let (label, tone) = label(way);
        let what = plain(&format!("{}, {}", way.kind.replace('_', " "), way.whom));
        // The label is painted only once the lines are broken: colour takes no room.
        let heading = wrapped(&format!("{label}: {what}"), 4);
        let rest = heading.trim_start().strip_prefix(label).unwrap_or_default();
        text.push_str(&format!("  {}{rest}", paint.tone(tone, label)));
        text.push_str(&wrapped(&plain(&way.why), 6));
        if let Some(closes) = &way.closes {
            // In one line however long: it is there to be copied.
            text.push_str(&format!("      {} {}\n", paint.tone(Tone::Quiet, "to close it:"), plain(closes)));
        }
    }
    // What stands for one login is not closed because it is for others.
    let stands = |kind: &str| ways.iter().any(|way| way.state != WayState::Closed && way.kind == kind);
    let closed = ways.iter().filter(|way| way.state == WayState::Closed && !stands(&way.kind));
    let mut closed: Vec<String> = closed.map(|way| way.kind.replace('_', " ")).collect();
    closed.dedup();
    if !closed.is_empty() {
        let list = wrapped(&plain(&closed.join(", ")), 10);
        text.push_str(&format!("  {}: {}", paint.tone(Tone::Good, "closed"), list.trim_start()));
    }
    text
}

/// A sentence in lines of [`WIDTH`], each behind so many blanks. Words are never cut.
fn wrapped(sentence: &str, indent: usize) -> String {
    let mut lines = vec![" ".repeat(indent)];
    for word in sentence.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if line.len() > indent && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{}{word}", " ".repeat(indent)));
            continue;
        }
        if line.len() > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

fn advice(answer: &WaysInAnswer) -> String {
    let closing = &answer.closing;
    match (&closing.text, closing.installed, closing.differs) {
        (_, true, _) => format!("\n{} is in place.\nTo take it away: lockdownctl ways-in --undo\n", closing.path),
        (_, _, true) => format!(
            "\n{} says something else than it would now.\nTo renew it: lockdownctl ways-in --close --apply\n",
            closing.path
        ),
        (Some(_), ..) => "\nTo close in sshd itself what no grant needs:\n  lockdownctl ways-in --close            shows the drop-in\n  \
             lockdownctl ways-in --close --apply    installs it\n"
            .to_owned(),
        (None, ..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use control::{Closing, Server};

    use super::*;
    use crate::commands::testing::*;

    const SSHD: &str = "/usr/sbin/sshd (process 7, /etc/ssh/sshd_config)";

    fn way(kind: &str, state: WayState, wanted: bool, closes: Option<&str>) -> Way {
        Way {
            kind: kind.to_owned(),
            server: SSHD.to_owned(),
            whom: "any account".to_owned(),
            state,
            wanted,
            why: format!("{kind} yes"),
            closes: closes.map(str::to_owned),
        }
    }

    fn answer(ways: Vec<Way>) -> WaysInAnswer {
        WaysInAnswer {
            mode: Mode::Enforce,
            servers: vec![Server { name: SSHD.to_owned(), listens: vec!["0.0.0.0:22".to_owned()] }],
            ways,
            left_off: 0,
            warnings: Vec::new(),
            not_covered: vec!["the console".to_owned()],
            closing: Closing {
                path: "/etc/ssh/01.conf".to_owned(),
                text: Some("Match all\n    X no\n".to_owned()),
                installed: false,
                differs: false,
            },
            changed: Vec::new(),
        }
    }

    fn asked(args: cli::WaysIn, answer: WaysInAnswer) -> (Vec<Request>, Done) {
        let (asked, done) = against(vec![Ok(Answer::WaysIn(Box::new(answer)))], |context| run(&args, context));
        (asked, done.unwrap())
    }

    fn args(close: bool, apply: bool, undo: bool) -> cli::WaysIn {
        cli::WaysIn { close, apply, undo }
    }

    #[test]
    fn open_ways_come_first_with_what_closes_them_and_the_status_is_1() {
        let ways = vec![
            way("gssapi", WayState::Closed, false, None),
            way("password", WayState::Closed, false, None),
            way("password", WayState::ClosedByGate, false, Some("PasswordAuthentication no")),
            way("exempt", WayState::Open, true, None),
            way("other_server", WayState::Open, false, Some("kill 9")),
        ];
        let (request, done) = asked(args(false, false, false), answer(ways));
        assert_eq!(request, [Request::WaysIn(WaysIn::Look)]);
        assert_eq!(done.exit, Exit::Refused);
        let expected = format!(
            "1 way in is open, 1 on purpose; 1 closed by the gate, 2 closed\n\n{SSHD}\n  listens at 0.0.0.0:22\n  \
             OPEN: other server, any account\n      other_server yes\n      to close it: kill 9\n  \
             open on purpose: exempt, any account\n      exempt yes\n  \
             closed by the gate: password, any account\n      password yes\n      to close it: PasswordAuthentication no\n  \
             closed: gssapi\n\nNot looked at, because it is not SSH\n  the console\n"
        );
        assert!(done.text.starts_with(&expected), "{}", done.text);
    }

    #[test]
    fn sentences_are_broken_between_words_at_eighty_columns() {
        let text = wrapped(&"word ".repeat(40), 6);
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("      word")), "{text}");
        assert_eq!(wrapped(&"x".repeat(100), 2), format!("  {}\n", "x".repeat(100)), "what is copied stays whole");
    }

    #[test]
    fn a_host_with_nothing_open_but_what_is_wanted_is_in_order() {
        let (_, done) = asked(args(false, false, false), answer(vec![way("exempt", WayState::Open, true, None)]));
        assert_eq!(done.exit, Exit::Done);
    }

    #[test]
    fn close_alone_prints_the_drop_in_and_changes_nothing() {
        let (request, done) = asked(args(true, false, false), answer(Vec::new()));
        assert_eq!((request, done.text.as_str()), (vec![Request::WaysIn(WaysIn::Look)], "Match all\n    X no\n"));
        let (request, _) = asked(args(true, true, false), answer(Vec::new()));
        assert_eq!(request, [Request::WaysIn(WaysIn::Close)]);
        let (request, _) = asked(args(false, false, true), answer(Vec::new()));
        assert_eq!(request, [Request::WaysIn(WaysIn::Undo)]);
    }
}
