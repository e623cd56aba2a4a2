//! `records`: what happened, in the ledger's order, as lines for people or the exact lines of the ledger.

use std::{
    collections::VecDeque,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use control::{Answer, DEFAULT_RECORDS, Exit, RecordsAnswer, Request};
use record::{Actor, ArtifactType, LedgerId, UnknownType};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Context, grants::who, known_person};
use crate::{
    ask::Failure,
    cli,
    moment::absolute,
    output::{Done, complain, plain},
    pager::Output,
    paint::{Paint, Tone, width},
    table::cut,
};

/// How often `--follow` asks for more.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long `--follow` bears a daemon that does not answer: an upgrade takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most records that `-n` asks for: they are kept until all are there.
pub(crate) const MAX_LAST: i64 = 10_000;
/// How many records `--follow` begins with.
const TAIL: u64 = 10;

/// Types of records, as `--type` names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kinds(Vec<ArtifactType>);

impl FromStr for Kinds {
    type Err = UnknownType;
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let unknown = match text.parse() {
            Ok(kind) => return Ok(Self(vec![kind])),
            Err(unknown) => unknown,
        };
        let alike = |kind: &ArtifactType| kind.as_str().split('.').next() == text.strip_suffix(".*");
        let kinds: Vec<_> = ArtifactType::ALL.iter().copied().filter(alike).collect();
        if kinds.is_empty() { Err(unknown) } else { Ok(Self(kinds)) }
    }
}

/// Prints what is there and, if asked, what comes.
pub(crate) fn run(args: cli::Records, context: &Context<'_>) -> Result<Done, Failure> {
    let mut reader = Reader::new(&args, context)?;
    let last = args.last.map(|most| (most as usize, VecDeque::new()));
    let is_paged = context.paint.columns().is_some() && !args.follow && !args.no_pager;
    let mut printer = Printer { last, found: 0, out: Output::new(is_paged), context };
    let mut silent_since = None;
    loop {
        match reader.next_page(context) {
            Ok(page) => {
                silent_since = None;
                if !printer.take(page.lines, page.more)? {
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
            return if printer.found == 0 {
                nothing_found(&args, &reader, context)
            } else {
                Ok(Done::new(String::new()))
            };
        }
        thread::sleep(INTERVAL);
    }
}

/// Prints records as they come, or the last of them once all are there.
struct Printer<'a> {
    last: Option<(usize, VecDeque<String>)>,
    found: u64,
    out: Output,
    context: &'a Context<'a>,
}

impl Printer<'_> {
    /// Takes a page; `false`: nobody reads what is printed any more.
    fn take(&mut self, lines: Vec<String>, more: bool) -> Result<bool, Failure> {
        self.found += lines.len() as u64;
        let lines = match &mut self.last {
            None => lines,
            Some((most, kept)) => {
                kept.extend(lines);
                kept.drain(..kept.len().saturating_sub(*most));
                if more {
                    return Ok(true);
                }
                // What is followed from here on is printed as it comes.
                self.last.take().map(|(_, kept)| kept.into()).unwrap_or_default()
            }
        };
        let text: String = lines.iter().map(|line| one(line, self.context.json, self.context.paint)).collect();
        self.out.print(&text).map_err(|error| Failure::here(format!("standard output: {error}")))
    }
}

/// Says what was searched, so that a mistyped name is not taken for "nothing happened"; a person whom nobody knows is an error.
fn nothing_found(args: &cli::Records, reader: &Reader, context: &Context<'_>) -> Result<Done, Failure> {
    known_person(args.person.as_ref(), "record of one", context)?;
    complain(&format!("lockdownctl: no record up to number {} fits\n", reader.request.after));
    Ok(Done::new(String::new()))
}

/// Where reading stands.
struct Reader {
    request: control::Records,
    ledger: Option<LedgerId>,
}

impl Reader {
    fn new(args: &cli::Records, context: &Context<'_>) -> Result<Self, Failure> {
        let unfiltered =
            args.person.is_none() && args.account.is_none() && args.grant.is_none() && args.kinds.is_empty();
        let tail = match args.last {
            None if args.follow => Some(TAIL),
            // The last of those that fit may be anywhere.
            last => last.filter(|_| unfiltered && args.until.is_none()).map(u64::from),
        };
        let after = match (tail, args.since) {
            (Some(tail), None) => match context.ask(&Request::Status)? {
                Answer::Status(status) => status.ledger.map_or(0, |ledger| ledger.durable).saturating_sub(tail),
                _ => return Err(Failure::mismatch()),
            },
            _ => 0,
        };
        let request = control::Records {
            after,
            since: args.since.map(|since| since.resolve(context.now)),
            until: args.until.map(|until| until.resolve(context.now)),
            person: args.person.clone(),
            account: args.account.clone(),
            grant: args.grant.clone(),
            kinds: args.kinds.iter().flat_map(|kinds| kinds.0.iter().copied()).collect(),
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
    let (head, reason) = (format!("{kind:<19}  {whom:<16}"), plain(&format!("{}{}", text("reason"), by(&fields))));
    let head = plain(&head);
    let needed = [&place, &head, &reason].into_iter().map(|part| width(part) + 2).sum::<usize>() - 2;
    let words = match paint.columns() {
        // A line of its own, where it does not fit into what is left of this one.
        Some(room) if needed > room => {
            let left = room.saturating_sub(width(&place) + 2);
            format!("{}\n    {}", cut(head.trim_end(), left), paint.wrap(&reason, 4))
        }
        _ => format!("{head}  {reason}"),
    };
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
    // What is known of an actor may be its process alone.
    let actor = actor.map(|actor| who(&actor)).filter(|who| who != "-");
    let known = [actor.map(|who| format!("by {who}")), address.map(|address| format!("from {address}"))];
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
        cli::Records {
            follow: false,
            no_pager: false,
            since: None,
            until: None,
            last: None,
            person: None,
            account: None,
            grant: None,
            kinds: Vec::new(),
        }
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
        let narrow = one(LINE, false, Paint::of_columns(80));
        assert_eq!(
            narrow,
            "2026-11-23 18:00:00 UTC       7  grant.created        frank/ubuntu\n    frank may log in\\x0a\n"
        );
        assert_eq!(one(LINE, false, Paint::of_columns(120)), one(LINE, false, Paint::NONE));
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
    fn the_last_so_many_are_kept_over_pages_and_types_may_begin_alike() {
        let (asked, _) = against(
            vec![Ok(Answer::Records(page(100, true, 'a'))), Ok(Answer::Records(page(150, false, 'a')))],
            |context| run(cli::Records { last: Some(3), kinds: vec!["session.*".parse().unwrap()], ..args() }, context),
        );
        let Request::Records(first) = &asked[0] else { panic!("{asked:?}") };
        assert!(first.kinds.len() > 2 && first.kinds.iter().all(|kind| kind.as_str().starts_with("session.")));
        assert_eq!(asked_after(&asked), [0, 100], "the last of a type may be anywhere");

        let context = &Context { socket: "/nonexistent".as_ref(), now: at(NOW), json: false, paint: Paint::NONE };
        let mut printer = Printer { last: Some((2, VecDeque::new())), found: 0, out: Output::new(false), context };
        let lines = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect();
        assert!(printer.take(lines(&[1, 2, 3]), true).unwrap() && printer.take(lines(&[4]), true).unwrap());
        assert_eq!(printer.last.as_ref().map(|(_, kept)| kept.clone().into()), Some(lines(&[3, 4])));
        assert!("sessio.*".parse::<Kinds>().unwrap_err().to_string().contains("session.opened"));
        assert!("session".parse::<Kinds>().is_err());
    }

    #[test]
    fn a_person_whom_nobody_knows_is_an_error_where_nothing_was_found() {
        let people = |names: &[&str]| {
            let person = |name: &&str| control::PersonView {
                name: name.parse().unwrap(),
                keys: Vec::new(),
                accounts: Vec::new(),
                missing_accounts: Vec::new(),
                required: Vec::new(),
                grants: Vec::new(),
                operator: false,
                file: String::new(),
                line: 1,
            };
            Ok(Answer::People(control::PeopleAnswer { people: names.iter().map(person).collect(), left_off: 0 }))
        };
        let asked = |known: &[&str]| {
            let responses = vec![Ok(Answer::Records(page(9, false, 'a'))), people(known)];
            against(responses, |context| {
                run(cli::Records { person: Some("frank".parse().unwrap()), ..args() }, context)
            })
            .1
        };
        assert!(asked(&["grace"]).unwrap_err().words().contains("there is no person frank"));
        assert_eq!(asked(&["frank"]).unwrap().exit, Exit::Done);
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
