//! `status` and `who`: how hosts say that things stand.

use std::{
    io::IsTerminal,
    thread,
    time::{Duration, Instant},
};

use document::{Id, Lockdown, Signer, roster::same_person};
use jiff::Timestamp;
use record::{Host, Person, Stack};
use serde::Serialize;
use terminal::{
    moment::relative,
    paint::{Paint, Tone},
    plain, print,
    table::{Table, or_dash},
};

use crate::{
    answers::{FeederStatus, HostStatus, SessionStatus, StackStatus, Status},
    cli,
    client::Client,
    failure::Failure,
    known::{Closing, Known},
    output::Done,
    server::WHOLE,
    show::in_short,
};

/// How often it is shown again.
const WATCH: Duration = Duration::from_secs(2);
/// How often the feeds are read again for that: a roster is in each.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// How many digits of an id are shown.
const DIGITS: usize = 12;

/// Shows how things stand, once or until somebody has seen enough.
pub(crate) fn status(args: &cli::Status, client: &Client) -> Result<Done, Failure> {
    let status = fetch(args.stack.as_ref(), client)?;
    let mut known = client.closings(&status)?;
    let mut shown = show(&status, &known, client);
    if !args.watch {
        return Ok(shown);
    }
    let is_terminal = std::io::stdout().is_terminal() && !client.voice.json;
    let (mut last, mut read) = (String::new(), Instant::now());
    loop {
        let clear = if is_terminal { "\x1b[H\x1b[2J" } else { "" };
        if shown.text != last && !print(&format!("{clear}{}", shown.text)).unwrap_or(false) {
            return Ok(Done::new(""));
        }
        last = shown.text;
        thread::sleep(WATCH);
        let status = fetch(args.stack.as_ref(), client)?;
        if read.elapsed() > READ_AGAIN {
            (known, read) = (client.closings(&status)?, Instant::now());
        }
        shown = show(&status, &known, client);
    }
}

/// What a program is told: what hosts say, and the lockdowns that hold by what was verified here.
#[derive(Serialize)]
struct Everything<'a> {
    #[serde(flatten)]
    status: &'a Status,
    holds: Vec<Hold<'a>>,
}

#[derive(Serialize)]
struct Hold<'a> {
    id: Id,
    lockdown: &'a Lockdown,
    signers: &'a [Signer],
}

fn show(status: &Status, known: &Known, client: &Client) -> Done {
    let holds = known.holds().map(|(id, Closing { lockdown, signers })| Hold { id, lockdown, signers }).collect();
    client.voice.show(&Everything { status, holds }, |_| page(status, known, Timestamp::now(), client.voice.paint))
}

fn fetch(stack: Option<&Stack>, client: &Client) -> Result<Status, Failure> {
    let query = stack.map(|stack| format!("?stack={stack}")).unwrap_or_default();
    if query.is_empty() { client.status(WHOLE) } else { client.get(&format!("/v1/status{query}"), WHOLE) }
}

fn page(status: &Status, known: &Known, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    for stack in &status.stacks {
        text.push_str(&of_stack(stack, now, paint));
    }
    if status.stacks.is_empty() {
        text.push_str("no stack is known: hosts say which is theirs in their records\n");
    }
    for feeder in &status.feeders {
        let line = plain(&of_feeder(feeder, now));
        let line = if feeder.silent { paint.tone(Tone::Bad, &line) } else { line };
        text.push_str(&format!("{line}\n"));
    }
    let mut standing: Vec<String> =
        known.holds().map(|(id, closing)| format!("{id}\n    {}", plain(&in_short(closing, now)))).collect();
    standing.sort();
    if !standing.is_empty() {
        text.push_str(&paint.tone(Tone::Strong, "lockdowns that hold"));
        text.push('\n');
        standing.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn of_stack(stack: &StackStatus, now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["HOST", "MODE", "HEARD", "ROSTER", "FEED", "GRANTS", "SESSIONS", "OPEN"])
        .spare(&["FEED", "ROSTER"])
        .cut(&["HOST"]);
    for host in &stack.hosts {
        let open = host.ways_in_open.len();
        let tone = match host {
            host if host.silent || open > 0 => Some(Tone::Bad),
            host if host.mode.as_deref() != Some("enforce") => Some(Tone::Notice),
            _ => None,
        };
        table.row_in(
            tone,
            [
                host.name.as_ref().map_or_else(|| host.host.to_string(), |name| format!("{} ({name})", host.host)),
                or_dash(host.mode.as_ref()),
                heard(host, now),
                or_dash(host.roster.as_ref().map(|roster| roster.version)),
                feed(host, now),
                host.grants.len().to_string(),
                host.sessions.len().to_string(),
                if open == 0 { "-".to_owned() } else { open.to_string() },
            ],
        );
    }
    let hosts = stack.hosts.len();
    let silent = stack.hosts.iter().filter(|host| host.silent).count();
    let title = format!("{}: {hosts} {}, {silent} silent", stack.stack, if hosts == 1 { "host" } else { "hosts" });
    let mut text = format!("{}\n{}", paint.tone(Tone::Strong, &title), table.render_in(paint));
    for host in &stack.hosts {
        for session in &host.sessions {
            text.push_str(&format!("  {}  {}\n", host.host, plain(&in_a_line(session, now))));
        }
    }
    text.push('\n');
    text
}

/// When a feeder looked at its source, and what came of it.
fn of_feeder(feeder: &FeederStatus, now: Timestamp) -> String {
    let source = &feeder.source;
    let Some(run) = &feeder.last_run else { return format!("{source}: its feeder has not said that it looked there") };
    let when = feeder.last_complete.map_or_else(|| "never".to_owned(), |at| relative(at, now));
    let mut line = match feeder.silent {
        true => format!("{source}: silent, last looked at {when}"),
        false => format!("{source}: looked at {when}, {} people", run.users),
    };
    if let Some(failed) = &run.failed {
        line.push_str(&format!("; {}: {failed}", relative(run.received_at, now)));
    }
    if run.proposed > 0 {
        line.push_str(&format!("; of {} what is proposed waits to be signed: lockdown roster diff", run.proposed));
    }
    line
}

fn heard(host: &HostStatus, now: Timestamp) -> String {
    let when = host.last_heard.map_or_else(|| "never".to_owned(), |at| relative(at, now));
    if host.silent { format!("silent, {when}") } else { when }
}

fn feed(host: &HostStatus, now: Timestamp) -> String {
    let Some(feed) = &host.feed else { return "-".to_owned() };
    let when = feed.heard_at.map_or_else(|| "never".to_owned(), |at| relative(at, now));
    if feed.vouched { when } else { format!("{when}, unvouched") }
}

fn in_a_line(session: &SessionStatus, now: Timestamp) -> String {
    let person = session.person.as_ref().map_or("somebody", Person::as_str);
    let from = session.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
    let since = session.opened_at.map(|at| format!(", since {}", relative(at, now))).unwrap_or_default();
    let account = session.account.as_deref().unwrap_or("an account that is not known");
    format!("{person} is in as {account}{from}{since} ({})", session.session)
}

/// One way in that a person has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CanGetIn {
    person: Option<Person>,
    account: Option<String>,
    stack: Stack,
    hosts: Vec<Host>,
    expires_at: Option<Timestamp>,
    approvers: Vec<String>,
    reason: Option<String>,
    document: Option<Id>,
    grants: Vec<String>,
}

/// Shows who can get in now.
pub(crate) fn who(args: &cli::WhoCan, client: &Client) -> Result<Done, Failure> {
    let status = fetch(args.stack.as_ref(), client)?;
    let mut all = gathered(&status);
    if let Some(person) = &args.person {
        all.retain(|one| one.person.as_ref().is_some_and(|found| same_person(found, person)));
    }
    if let (Some(person), true) = (&args.person, all.is_empty()) {
        is_known(person, client)?;
    }
    Ok(client.voice.show(&all, |all| of_all(all, args, client)))
}

/// A mistyped name is an error, and never taken for "nobody".
fn is_known(person: &Person, client: &Client) -> Result<(), Failure> {
    let known = client.known_roster()?;
    let roster = known.roster()?;
    if roster.people.iter().any(|member| same_person(&member.name, person)) {
        return Ok(());
    }
    let names: Vec<&str> = roster.people.iter().map(|member| member.name.as_str()).collect();
    let better = crate::make::suggestion(person.as_str(), &names, "lockdown roster show lists everybody");
    Err(Failure::refused(
        "unknown_person",
        format!("there is no {person} in roster {}, and no host says that they can get in", roster.version),
    )
    .but(better))
}

/// Grants of one document are one line, whatever the number of hosts.
fn gathered(status: &Status) -> Vec<CanGetIn> {
    let mut all: Vec<CanGetIn> = Vec::new();
    for stack in &status.stacks {
        for (host, grant) in
            stack.hosts.iter().flat_map(|host| host.grants.iter().map(move |grant| (&host.host, grant)))
        {
            let same = |one: &&mut CanGetIn| {
                one.document.is_some()
                    && one.document == grant.document
                    && one.stack == stack.stack
                    && one.account == grant.account
            };
            if let Some(one) = all.iter_mut().find(same) {
                one.hosts.push(host.clone());
                one.grants.push(grant.grant.clone());
                continue;
            }
            all.push(CanGetIn {
                person: grant.person.clone(),
                account: grant.account.clone(),
                stack: stack.stack.clone(),
                hosts: vec![host.clone()],
                expires_at: grant.expires_at,
                approvers: grant.approvers.clone(),
                reason: grant.reason.clone(),
                document: grant.document,
                grants: vec![grant.grant.clone()],
            });
        }
    }
    all
}

fn of_all(all: &[CanGetIn], args: &cli::WhoCan, client: &Client) -> String {
    if all.is_empty() {
        let whom = args.person.as_ref().map_or("nobody".to_owned(), |person| format!("{person} cannot"));
        return format!(
            "{whom}{} get in{}\n",
            if args.person.is_none() { " can" } else { "" },
            on(args.stack.as_ref())
        );
    }
    let mut table = Table::new(&["PERSON", "ACCOUNT", "STACK", "HOSTS", "ENDS", "BY", "GRANT", "REASON"])
        .spare(&["GRANT"])
        .cut(&["HOSTS", "BY", "REASON"]);
    let now = Timestamp::now();
    for one in all {
        let hosts = match &one.hosts[..] {
            [only] => only.to_string(),
            many => format!("{} hosts", many.len()),
        };
        let id = one.document.map(|id| id.to_string().chars().take(DIGITS).collect::<String>());
        table.row([
            or_dash(one.person.as_ref()),
            or_dash(one.account.as_ref()),
            one.stack.to_string(),
            hosts,
            or_dash(one.expires_at.map(|at| relative(at, now))),
            if one.approvers.is_empty() { "the host's own".to_owned() } else { one.approvers.join(", ") },
            id.or_else(|| one.grants.first().cloned()).unwrap_or_default(),
            one.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render_in(client.voice.paint)
}

fn on(stack: Option<&Stack>) -> String {
    stack.map(|stack| format!(" on the stack {stack}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"stacks":[{"stack":"web","hosts":[
        {"host":"i-1","mode":"enforce","last_heard":"2026-11-30T11:59:30Z","silent":false,"version":"0.1.0",
         "roster":{"version":3,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
         "feed":{"heard_at":"2026-11-30T11:59:59Z","vouched":true},
         "grants":[{"grant":"g-0123456789abcdef","person":"frank","account":"ubuntu","expires_at":"2026-11-30T14:00:00Z",
           "document":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","approvers":["alice"],"reason":"x\u001b[2J"}],
         "sessions":[{"session":"s-1","person":"frank","account":"ubuntu","source":"10.0.0.1","opened_at":"2026-11-30T11:00:00Z"}],
         "ways_in_open":[]},
        {"host":"i-2","mode":"observe","last_heard":null,"silent":true,"roster":{"version":"three"},"feed":7,
         "sessions":[{"session":"s-2","person":"no\u0007name","opened_at":"yesterday"}],"grants":[{"grant":"g-0123456789abcdee","person":"frank",
           "account":"ubuntu","document":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}],"new_member":1}]}]}"#;

    #[test]
    fn a_page_names_hosts_that_are_silent_and_who_is_in() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let page = of_stack(&status.stacks[0], "2026-11-30T12:00:00Z".parse().unwrap(), Paint::NONE);
        for said in [
            "web: 2 hosts, 1 silent",
            "silent, never",
            "30 s ago",
            "frank is in as ubuntu from 10.0.0.1, since 1 h ago",
            "i-2  somebody is in as an account that is not known (s-2)",
        ] {
            assert!(page.contains(said), "{page}");
        }
    }

    #[test]
    fn a_feeder_says_when_it_looked_and_what_waits() {
        let feeders = r#"{"stacks":[],"feeders":[
            {"source":"iam","silent":false,"last_complete":"2026-11-30T11:59:30Z",
             "last_run":{"received_at":"2026-11-30T11:59:30Z","users":12,"proposed":2,"holds":[]}},
            {"source":"ldap","silent":true,"last_complete":"2026-11-30T11:00:00Z",
             "last_run":{"received_at":"2026-11-30T11:59:00Z","users":0,"proposed":0,"failed":"it is throttled","holds":[]}},
            {"source":"hr","silent":false}]}"#;
        let status: Status = serde_json::from_str(feeders).unwrap();
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        let lines: Vec<String> = status.feeders.iter().map(|feeder| of_feeder(feeder, now)).collect();
        assert_eq!(
            lines,
            [
                "iam: looked at 30 s ago, 12 people; of 2 what is proposed waits to be signed: lockdown roster diff",
                "ldap: silent, last looked at 1 h ago; 1 min ago: it is throttled",
                "hr: its feeder has not said that it looked there"
            ]
        );
    }

    #[test]
    fn one_document_is_one_line_however_many_hosts_have_its_grant() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let all = gathered(&status);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].hosts.len(), 2);
    }
}
