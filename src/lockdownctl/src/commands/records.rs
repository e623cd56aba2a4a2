//! `records`: what happened, in the ledger's order, as lines for people or the exact lines of the ledger.

use std::{
    thread,
    time::{Duration, Instant},
};

use control::{Answer, DEFAULT_RECORDS, Exit, RecordsAnswer, Request};
use record::{Actor, ArtifactType, LedgerId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Context, grants::who};
use crate::{
    ask::Failure,
    cli,
    moment::absolute,
    output::{Done, complain, plain, print},
    paint::{Paint, Tone},
};

/// How often `--follow` asks for more.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long `--follow` bears a daemon that does not answer: an upgrade takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many records `--follow` begins with.
const TAIL: u64 = 10;

/// Prints what is there and, if asked, what comes.
pub(crate) fn run(args: cli::Records, context: &Context<'_>) -> Result<Done, Failure> {
    let mut reader = Reader::new(&args, context)?;
    let mut silent_since = None;
    loop {
        match reader.next_page(context) {
            Ok(page) => {
                silent_since = None;
                let lines: String = page.lines.iter().map(|line| one(line, context.json, context.paint)).collect();
                if !print(&lines).map_err(|error| Failure::here(format!("standard output: {error}")))? {
                    return Ok(Done::new(String::new()));
                }
                if page.more {
                    continue;
                }
            }
            Err(failure) if args.follow && failure.exit() == Exit::Unavailable => {
                let since = *silent_since.get_or_insert_with(|| {
                    complain("lockdownctl: the daemon does not answer, trying again\n");
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        if !args.follow {
            return Ok(Done::new(String::new()));
        }
        thread::sleep(INTERVAL);
    }
}

/// Where reading stands.
struct Reader {
    request: control::Records,
    ledger: Option<LedgerId>,
}

impl Reader {
    fn new(args: &cli::Records, context: &Context<'_>) -> Result<Self, Failure> {
        let after = match (args.follow, args.since) {
            (true, None) => match context.ask(&Request::Status)? {
                Answer::Status(status) => status.ledger.durable.saturating_sub(TAIL),
                _ => return Err(Failure::mismatch()),
            },
            _ => 0,
        };
        let request = control::Records {
            after,
            since: args.since.map(|since| since.resolve(context.now)),
            person: args.person.clone(),
            account: args.account.clone(),
            kind: args.kind,
            limit: DEFAULT_RECORDS,
        };
        Ok(Self { request, ledger: None })
    }

    /// The next records that are on disk; none where there are no more yet.
    fn next_page(&mut self, context: &Context<'_>) -> Result<RecordsAnswer, Failure> {
        let Answer::Records(page) = context.ask(&Request::Records(self.request.clone()))? else {
            return Err(Failure::mismatch());
        };
        if self.ledger.as_ref().is_some_and(|ledger| *ledger != page.ledger) {
            complain(&format!("lockdownctl: a new ledger began: {}\n", page.ledger));
            self.request.after = 0;
            self.ledger = Some(page.ledger.clone());
            return Ok(RecordsAnswer { lines: Vec::new(), more: true, ..page });
        }
        // A page that brings nothing new and claims that there is more would be asked for without end.
        let more = page.more && page.after > self.request.after;
        self.request.after = page.after.max(self.request.after);
        self.ledger = Some(page.ledger.clone());
        Ok(RecordsAnswer { more, ..page })
    }
}

/// One record as a line: exactly as in the ledger for programs; when, number, type, who and what for people.
fn one(line: &str, json: bool, paint: Paint) -> String {
    if json {
        return format!("{line}\n");
    }
    let fields: Map<String, Value> = match serde_json::from_str(line) {
        Ok(fields) => fields,
        Err(_) => return format!("not a record: {}\n", plain(line)),
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("-");
    let when = text("time").parse().map_or_else(|_| text("time").to_owned(), absolute);
    let seq = fields.get("seq").and_then(Value::as_u64).unwrap_or(0);
    let whom = match (text("person"), text("account")) {
        ("-", "-") => "-".to_owned(),
        (person, account) => format!("{person}/{account}"),
    };
    let kind = text("type");
    let place = plain(&format!("{when} {seq:>7}"));
    let words = plain(&format!("{kind:<19}  {whom:<16}  {}{}", text("reason"), by(&fields)));
    format!("{}  {}\n", paint.tone(Tone::Quiet, &place), paint.maybe(tone(kind), &words))
}

/// How a type of record is to the eye: what took access away or was tried, what somebody should look at, what is usual.
fn tone(kind: &str) -> Option<Tone> {
    Some(match kind.parse().ok()? {
        ArtifactType::EmergencyLogin
        | ArtifactType::Lockdown
        | ArtifactType::RemovalFailed
        | ArtifactType::JournalGap
        | ArtifactType::ShipDropped
        | ArtifactType::ConfigRefused
        | ArtifactType::ClockStepped => Tone::Bad,
        ArtifactType::KeyRemoved
        | ArtifactType::SessionRefused
        | ArtifactType::SessionTerminated
        | ArtifactType::LoginFailed
        | ArtifactType::SshdChanged
        | ArtifactType::ModeChanged => Tone::Notice,
        ArtifactType::GrantCreated | ArtifactType::SessionOpened => Tone::Good,
        ArtifactType::LedgerSegment | ArtifactType::SweepAttested => Tone::Quiet,
        _ => return None,
    })
}

/// On whose word and from where, in brackets, where the record knows it.
fn by(fields: &Map<String, Value>) -> String {
    let actor = fields.get("actor").and_then(|actor| Actor::deserialize(actor).ok());
    let says = fields.get("reason").and_then(Value::as_str).unwrap_or_default();
    let address = fields.get("source").and_then(|source| source.get("address")).and_then(Value::as_str);
    let address = address.filter(|address| !says.contains(address));
    let known = [actor.map(|actor| format!("by {}", who(&actor))), address.map(|address| format!("from {address}"))];
    let known: Vec<String> = known.into_iter().flatten().collect();
    if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use control::Refusal;

    use super::*;
    use crate::commands::testing::*;

    const LINE: &str = r#"{"account":"ubuntu","person":"frank","reason":"frank may log in\\x0a","seq":7,"time":"2026-11-23T18:00:00.123456Z","type":"grant.created"}"#;

    fn args() -> cli::Records {
        cli::Records { follow: false, since: None, person: None, account: None, kind: None }
    }

    fn page(after: u64, more: bool, ledger: char) -> RecordsAnswer {
        let ledger = ledger.to_string().repeat(32).parse().unwrap();
        RecordsAnswer { lines: Vec::new(), after, more, ledger }
    }

    fn asked_after(requests: &[Request]) -> Vec<u64> {
        requests.iter().filter_map(|r| if let Request::Records(r) = r { Some(r.after) } else { None }).collect()
    }

    #[test]
    fn a_record_is_one_line_for_people_and_the_exact_line_for_programs() {
        assert_eq!(one(LINE, true, Paint::NONE), format!("{LINE}\n"));
        assert_eq!(
            one(LINE, false, Paint::NONE),
            "2026-11-23 18:00:00 UTC       7  grant.created        frank/ubuntu      frank may log in\\x0a\n"
        );
        let told =
            LINE.replacen('{', r#"{"actor":{"uid":0,"login_uid":1000},"source":{"address":"192.0.2.7","port":5},"#, 1);
        assert!(one(&told, false, Paint::NONE).ends_with("log in\\x0a (by uid 0 (login uid 1000), from 192.0.2.7)\n"));
        let said = told.replace("frank may log in", "a login from 192.0.2.7 failed");
        assert_eq!(one(&said, false, Paint::NONE).matches("192.0.2.7").count(), 1);
        assert_eq!(one("{\x1b[2J", false, Paint::NONE), "not a record: {\\x1b[2J\n");
    }

    #[test]
    fn pages_are_asked_for_until_there_is_no_more() {
        let pages = vec![page(100, true, 'a'), page(150, true, 'a'), page(151, false, 'a')];
        let responses = pages.into_iter().map(|page| Ok(Answer::Records(page))).collect();
        let since = Some("2h".parse().unwrap());
        let (asked, done) = against(responses, |context| run(cli::Records { since, ..args() }, context));
        assert_eq!(asked_after(&asked), [0, 100, 150]);
        let Request::Records(first) = &asked[0] else { panic!("{asked:?}") };
        assert_eq!(first.since, Some(at("2026-11-23T16:00:00Z")));
        assert_eq!(done.unwrap(), Done::new(String::new()));
    }

    #[test]
    fn a_page_that_gets_nowhere_ends_the_reading() {
        let stuck = vec![Ok(Answer::Records(page(0, true, 'a')))];
        let (asked, done) = against(stuck, |context| run(args(), context));
        assert_eq!((asked.len(), done.unwrap().exit), (1, Exit::Done));
    }

    #[test]
    fn a_new_ledger_is_read_from_its_start() {
        let pages = vec![page(90, true, 'a'), page(90, false, 'b'), page(3, false, 'b')];
        let responses = pages.into_iter().map(|page| Ok(Answer::Records(page))).collect();
        let (asked, _) = against(responses, |context| run(args(), context));
        assert_eq!(asked_after(&asked), [0, 90, 0]);
    }

    #[test]
    fn a_refusal_ends_the_reading() {
        let refusal = Refusal::new(control::RefusalCode::NotPermitted, "no");
        let (_, result) = against(vec![Err(refusal)], |context| run(args(), context));
        assert_eq!(result.unwrap_err().exit(), Exit::Refused);
    }
}
