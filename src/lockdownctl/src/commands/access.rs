//! `allow`, `revoke` and `lockdown`: giving access and ending it.

use control::{AllowedAnswer, Answer, EndCause, GrantState, GrantView, LockdownAnswer, Request, SessionView};

use super::{Context, count, left_off};
use crate::{
    ask::Failure,
    cli,
    moment::{absolute, both, relative},
    output::{Done, bullets, plain, show},
    table::or_dash,
};

/// Grants a person access.
pub(crate) fn allow(args: cli::Allow, context: &Context<'_>) -> Result<Done, Failure> {
    let request = Request::Allow(control::Allow {
        person: args.person,
        account: args.account,
        duration: args.duration.map(|length| length.as_secs()),
        at: args.at.map(|at| at.resolve(context.now)),
        from: args.from,
        reason: args.reason,
    });
    match context.ask(&request)? {
        Answer::Allow(answer) => Ok(show(context.json, &answer, |answer| allowed(answer, context))),
        _ => Err(Failure::mismatch()),
    }
}

fn allowed(answer: &AllowedAnswer, context: &Context<'_>) -> String {
    let grant = &answer.grant;
    let (person, account) = (&grant.person, &grant.account);
    let mut text = match answer.extended {
        true => format!("{person}'s grant on {account} was extended: grant {}\n", grant.id),
        false => format!("{person} may log in as {account}: grant {}\n", grant.id),
    };
    if grant.state == GrantState::Waiting {
        text.push_str(&format!("  begins {}\n", both(grant.starts_at, context.now)));
    }
    let why = match answer.ends.cause {
        EndCause::Asked => String::new(),
        EndCause::DefaultDuration => ", the configured default".to_owned(),
        EndCause::AlreadyLater => ", as it did before: asking for less does not shorten it".to_owned(),
        EndCause::ScheduledLockdown => format!(": a scheduled lockdown comes before {}", absolute(grant.expires_at)),
    };
    let ends = format!("{}{why}", both(answer.ends.at, context.now));
    text.push_str(&format!("  ends   {}\n", context.paint.wrap(&ends, 9)));
    if !grant.from.is_empty() {
        let ranges: Vec<String> = grant.from.iter().map(ToString::to_string).collect();
        text.push_str(&format!("  from   {} only\n", ranges.join(", ")));
    }
    text + &bullets(&answer.notes, context.paint)
}

/// Ends one grant, all of a person's, or one session.
pub(crate) fn revoke(args: cli::Revoke, context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Revoke(control::Revoke { target: args.target, reason: args.reason }))? {
        Answer::Revoke(answer) => Ok(show(context.json, &answer, |answer| {
            ended("revoked", &answer.grants, &answer.sessions, answer.left_off, &answer.notes, context)
        })),
        _ => Err(Failure::mismatch()),
    }
}

/// Ends everything.
pub(crate) fn lockdown(args: cli::Lockdown, context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Lockdown(control::Lockdown { reason: args.reason }))? {
        Answer::Lockdown(answer) => Ok(show(context.json, &answer, |answer| {
            let notes = &answer.notes;
            ended("locked down", &answer.grants, &answer.sessions, answer.left_off, notes, context) + &goes_on(answer)
        })),
        _ => Err(Failure::mismatch()),
    }
}

/// What goes on in spite of a lockdown.
fn goes_on(answer: &LockdownAnswer) -> String {
    let named = answer.left_running.len();
    if named == 0 {
        return String::new();
    }
    let all = named + usize::try_from(answer.more_left_running).unwrap_or(usize::MAX);
    let mut text =
        format!("still running: {}\n", if all == 1 { "1 process".to_owned() } else { format!("{all} processes") });
    for left in &answer.left_running {
        let program = plain(left.program.as_deref().unwrap_or("-"));
        text.push_str(&format!("  pid {} {program}, left by {} on {}\n", left.pid, left.person, left.account));
    }
    text + &left_off(answer.more_left_running)
}

fn ended(
    what: &str,
    grants: &[GrantView],
    sessions: &[SessionView],
    more: u64,
    notes: &[String],
    context: &Context<'_>,
) -> String {
    let (how_many, cut) = (count(grants.len(), "grant"), count(sessions.len(), "session"));
    let mut text = format!("{what}: {how_many} ended, {cut} cut\n");
    for grant in grants {
        let left = relative(grant.expires_at, context.now);
        text.push_str(&format!("  {} {} as {} (would have ended {left})\n", grant.id, grant.person, grant.account));
    }
    for session in sessions {
        let person = plain(&or_dash(session.person.as_ref()));
        text.push_str(&format!("  {} {person} as {}, pid {}\n", session.id, session.account, session.pid));
    }
    text + &left_off(more) + &bullets(notes, context.paint)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use control::{EffectiveEnd, Exit, Refusal, RefusalCode, RevokeAnswer};

    use super::*;
    use crate::{
        cli::{Cli, Command},
        commands::{grants::tests::grant, one, testing::*},
    };

    fn command(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap().command
    }

    fn answer(cause: EndCause, end: &str) -> AllowedAnswer {
        let ends = EffectiveEnd { at: at(end), cause };
        AllowedAnswer { grant: grant(), extended: false, ends, notes: Vec::new() }
    }

    #[test]
    fn an_allow_asks_for_what_was_typed_and_prints_the_effective_end() {
        let answer = answer(EndCause::ScheduledLockdown, "2026-11-23T19:00:00Z");
        let typed = command("lockdownctl allow frank --account ubuntu --for 2h --at 18:30 --reason INC-42");
        let (asked, done) = against(vec![Ok(Answer::Allow(Box::new(answer)))], |context| one(typed, context));
        assert_eq!(
            serde_json::to_value(&asked[0]).unwrap(),
            serde_json::json!({"allow": {"person": "frank", "account": "ubuntu", "duration": 7200,
                "at": "2026-11-23T18:30:00Z", "reason": "INC-42"}})
        );
        assert_eq!(
            done.unwrap().text,
            "frank may log in as ubuntu: grant g-0123456789abcdef\n  \
             ends   2026-11-23 19:00:00 UTC (in 1 h): a scheduled lockdown comes before 2026-11-23 20:00:00 UTC\n"
        );
    }

    #[test]
    fn a_waiting_or_extended_grant_with_ranges_and_notes_says_so() {
        let mut answer = answer(EndCause::Asked, "2026-11-23T20:00:00Z");
        answer.extended = true;
        answer.grant.state = GrantState::Waiting;
        answer.grant.starts_at = at("2026-11-23T18:30:00Z");
        answer.grant.from = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        answer.notes = vec!["the host only observes".to_owned()];
        let context = Context { socket: "".as_ref(), now: at(NOW), json: false, paint: crate::paint::Paint::NONE };
        assert_eq!(
            allowed(&answer, &context),
            "frank's grant on ubuntu was extended: grant g-0123456789abcdef\n  \
             begins 2026-11-23 18:30:00 UTC (in 30 min)\n  \
             ends   2026-11-23 20:00:00 UTC (in 2 h)\n  \
             from   10.0.0.0/8, ::1/128 only\n  - the host only observes\n"
        );
    }

    #[test]
    fn a_refused_allow_is_status_1() {
        let refusal = Refusal::new(RefusalCode::UnknownPerson, "there is no person frank");
        let (_, result) = against(vec![Err(refusal)], |context| one(command("lockdownctl allow frank"), context));
        assert_eq!(result.unwrap_err().exit(), Exit::Refused);
    }

    #[test]
    fn a_revoke_lists_what_ended() {
        let sessions = vec![crate::commands::sessions::tests::session()];
        let answer = RevokeAnswer { grants: vec![grant()], sessions, left_off: 2, notes: Vec::new() };
        let typed = command("lockdownctl revoke frank");
        let (_, done) = against(vec![Ok(Answer::Revoke(answer))], |context| one(typed, context));
        assert_eq!(
            done.unwrap().text,
            "revoked: 1 grant ended, 1 session cut\n  \
             g-0123456789abcdef frank as ubuntu (would have ended in 2 h)\n  \
             s-0123456789abcdef frank as ubuntu, pid 4242\n\
             and 2 more that did not fit the answer\n"
        );
    }

    #[test]
    fn a_lockdown_names_what_goes_on() {
        let running = control::LeftRunning {
            person: "frank".parse().unwrap(),
            account: "ubuntu".parse().unwrap(),
            pid: 77,
            program: Some("/usr/bin/mosh-server".to_owned()),
            by: "session".to_owned(),
        };
        let answer = LockdownAnswer {
            grants: Vec::new(),
            sessions: Vec::new(),
            left_off: 0,
            left_running: vec![running],
            more_left_running: 1,
            notes: Vec::new(),
        };
        let typed = command("lockdownctl lockdown");
        let (_, done) = against(vec![Ok(Answer::Lockdown(answer))], |context| one(typed, context));
        assert_eq!(
            done.unwrap().text,
            "locked down: 0 grants ended, 0 sessions cut\n\
             still running: 2 processes\n  \
             pid 77 /usr/bin/mosh-server, left by frank on ubuntu\n\
             and 1 more that did not fit the answer\n"
        );
    }

    #[test]
    fn a_target_that_is_neither_grant_nor_person_never_reaches_the_daemon() {
        let (asked, result) = against(Vec::new(), |context| one(command("lockdownctl revoke g_1/2"), context));
        assert!(asked.is_empty());
        assert_eq!(result.unwrap_err().exit(), Exit::Usage);
    }
}
