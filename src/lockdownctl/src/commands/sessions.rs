//! `sessions`: who is logged in now, by what right, until when.

use control::{Answer, Request, SessionKind, SessionView, SessionsAnswer};
use jiff::Timestamp;
use record::Source;

use super::{
    Context,
    grants::{lockdown_ahead, sooner},
    known_person, left_off,
};
use crate::{
    ask::Failure,
    cli,
    moment::{absolute, relative},
    output::{Done, show},
    paint::{Paint, Tone},
    table::{Table, or_dash},
};

/// Lists them.
pub(crate) fn run(args: &cli::Sessions, context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Sessions)? {
        Answer::Sessions(mut answer) => {
            answer.sessions.retain(|session| args.whose.fits(session.person.as_ref(), &session.account));
            if answer.sessions.is_empty() {
                known_person(args.whose.person.as_ref(), "session of one", context)?;
            }
            let none = format!("no sessions{}\n", args.whose.words());
            Ok(show(context.json, &answer, |answer| match answer.sessions.is_empty() {
                true => none + &left_off(answer.left_off),
                false => words(answer, context.now, context.paint),
            }))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &SessionsAnswer, now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["SESSION", "PERSON", "ACCOUNT", "BY", "SINCE", "ENDS", "USED FOR", "FROM", "PID"])
        .spare(&["PID", "SINCE", "USED FOR", "FROM"])
        .cut(&["PERSON", "ACCOUNT", "BY"]);
    for session in &answer.sessions {
        let by = match (session.kind, &session.grant) {
            (SessionKind::Granted, Some(grant)) => grant.to_string(),
            (SessionKind::Granted, None) => "grant".to_owned(),
            (SessionKind::Emergency, _) => "EMERGENCY".to_owned(),
            (SessionKind::Observed, _) => "no grant".to_owned(),
            (SessionKind::Unattributed, _) => "unattributed".to_owned(),
        };
        let tone = match (session.kind, &session.ending) {
            (_, Some(_)) => Some(Tone::Quiet),
            (SessionKind::Emergency | SessionKind::Unattributed, None) => Some(Tone::Bad),
            (SessionKind::Observed, None) => Some(Tone::Notice),
            (SessionKind::Granted, None) => None,
        };
        table.row_in(
            tone,
            [
                session.id.to_string(),
                or_dash(session.person.as_ref()),
                session.account.to_string(),
                by,
                absolute(session.opened_at),
                match &session.ending {
                    Some(_) => "now".to_owned(),
                    None => or_dash(session.ends_at.map(|end| relative(sooner(end, answer.next_lockdown), now))),
                },
                used_for(session),
                or_dash(session.source.as_ref().map(address)),
                session.pid.to_string(),
            ],
        );
    }
    table.render_in(paint) + &lockdown_ahead(answer.next_lockdown, now, paint) + &left_off(answer.left_off)
}

/// `pts/0`, `sftp command`, or a dash.
fn used_for(session: &SessionView) -> String {
    let uses = session.uses.iter().filter(|word| *word != "terminal");
    let words: Vec<&str> = session.terminals.iter().chain(uses).map(String::as_str).collect();
    or_dash(Some(words.join(" ")).filter(|words| !words.is_empty()))
}

/// `192.0.2.7:52114`, `[2001:db8::1]:22`; `local` where there is none, and `unknown` where what sshd said is no address.
fn address(source: &Source) -> String {
    match (source.address, source.port) {
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, Some(_)) => "unknown".to_owned(),
        (None, None) => "local".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::commands::testing::*;

    pub(crate) fn session() -> SessionView {
        SessionView {
            id: "s-0123456789abcdef".parse().unwrap(),
            kind: SessionKind::Granted,
            person: Some("frank".parse().unwrap()),
            account: "ubuntu".parse().unwrap(),
            grant: Some("g-0123456789abcdef".parse().unwrap()),
            fingerprint: None,
            source: Some(Source { address: Some("2001:db8::1".parse().unwrap()), port: Some(52114) }),
            opened_at: at("2026-11-23T17:00:00Z"),
            ends_at: Some(at("2026-11-23T18:59:59Z")),
            pid: 4242,
            uses: vec!["terminal".to_owned()],
            terminals: vec!["pts/3".to_owned()],
            ending: None,
        }
    }

    #[test]
    fn sessions_stand_in_a_table_and_emergencies_stand_out() {
        let emergency = SessionView {
            kind: SessionKind::Emergency,
            person: None,
            account: "breakglass".parse().unwrap(),
            grant: None,
            source: Some(Source { address: None, port: None }),
            ends_at: None,
            uses: Vec::new(),
            terminals: Vec::new(),
            ..session()
        };
        let answer = SessionsAnswer { sessions: vec![session(), emergency], next_lockdown: None, left_off: 0 };
        assert_eq!(
            words(&answer, at(NOW), Paint::NONE),
            "\
SESSION             PERSON  ACCOUNT     BY                  SINCE                    ENDS            USED FOR  FROM                 PID
s-0123456789abcdef  frank   ubuntu      g-0123456789abcdef  2026-11-23 17:00:00 UTC  in 59 min 59 s  pts/3     [2001:db8::1]:52114  4242
s-0123456789abcdef  -       breakglass  EMERGENCY           2026-11-23 17:00:00 UTC  -               -         local                4242
"
        );
    }
}
