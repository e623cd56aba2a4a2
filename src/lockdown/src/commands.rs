//! Each command: one module each, or each kind; this one only picks it.

mod allow;
mod approve;
mod case;
mod check;
mod closing;
mod generate;
mod roster;
mod status;

use document::{Envelope, Id, Moment};
use jiff::Timestamp;
use terminal::moment;

use crate::{
    cache::Cache,
    cli::{self, Cli, Command},
    client::Client,
    config::Config,
    failure::{Exit, Failure},
    known::Known,
    make,
    output::{Done, Voice, finish},
};

/// Does what was typed, tells how it went, and returns the exit status.
pub(crate) fn run(cli: Cli) -> Exit {
    if cli.time == cli::Zone::Local
        && let Err(error) = moment::use_local_zone()
    {
        return finish(cli.json, Err(Failure::usage(format!("the local time zone: {error}"))));
    }
    finish(cli.json, one(cli))
}

fn one(cli: Cli) -> Result<Done, Failure> {
    let voice = Voice::of(cli.json);
    match cli.command {
        Command::Generate(args) => return generate::run(&args),
        Command::Check => return check::run(cli.key, voice),
        Command::Verify(args) => return case::verify(&args, voice),
        _ => {}
    }
    let config = Config::load()?;
    let cache = Cache::of(&config);
    let client = Client::new(config, cache, cli.key, voice, Timestamp::now());
    match cli.command {
        Command::Allow(args) => allow::allow(args, &client),
        Command::Request(args) => allow::request(args, &client),
        Command::Requests(args) => approve::list(&args, &client),
        Command::Approve(args) => approve::approve(&args, &client),
        Command::Deny(args) => approve::deny(&args, &client),
        Command::Revoke(args) => closing::revoke(&args, &client),
        Command::Lockdown(args) => closing::lockdown(&args, &client),
        Command::Lift(args) => closing::lift(&args, &client),
        Command::Status(args) => status::status(&args, &client),
        Command::Who(args) => status::who(&args, &client),
        Command::Case(args) => case::fetch(&args, &client),
        Command::Roster(args) => roster::run(&args.command, &client),
        Command::Check | Command::Generate(_) | Command::Verify(_) => Ok(Done::new(String::new())),
    }
}

/// The fewest digits of an id that stand for it.
const LEAST_DIGITS: usize = 4;

/// Whether this is the beginning of an id, or a whole one.
fn is_beginning(text: &str) -> bool {
    (LEAST_DIGITS..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The one of these ids that begins so.
fn beginning<'a>(typed: &str, what: &str, ids: impl Iterator<Item = &'a Id>) -> Result<Id, Failure> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    if !is_beginning(typed) {
        return Err(Failure::usage(format!(
            "{typed:?} is no id of a {what}: 64 hex digits are, or the first {LEAST_DIGITS} or more"
        )));
    }
    let found: std::collections::BTreeSet<&Id> = ids.filter(|id| id.to_string().starts_with(typed)).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(*id),
        (None, _) => Err(Failure::refused("unknown_id", format!("no {what} that is known begins with {typed}"))
            .but("type the whole id, which needs no look-up")),
        (Some(_), Some(_)) => {
            Err(Failure::refused("ambiguous_id", format!("several begin with {typed}")).but("type more of it"))
        }
    }
}

/// Warns of what will not do for long.
fn warn_of_roster(known: &Known, client: &Client) {
    const EARLY: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 3600);
    let Some(roster) = known.any_roster() else { return };
    let now = client.moment();
    if roster.expires_at <= now.after(EARLY) && roster.expires_at > now {
        let when = moment::both(roster.expires_at.timestamp(), client.now);
        client
            .voice
            .say(&format!("note: roster {} expires {when}: lockdown roster edit, sign, publish\n", roster.version));
    }
}

/// An envelope with these signatures.
fn envelope(document: document::Document, signatures: Vec<String>) -> Result<Envelope, Failure> {
    Envelope::new(document, signatures).map_err(|error| make::malformed(&error))
}

/// In words, how far off a moment is.
fn distance(at: Moment, now: Timestamp) -> String {
    moment::relative(at.timestamp(), now)
}
