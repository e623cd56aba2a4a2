//! Each command: what it asks the daemon, and how the answer reads. One module per command; this one only picks it.

mod access;
mod apply;
mod break_glass;
mod check;
mod enforce;
mod generate;
pub(crate) mod grants;
mod metrics;
mod people;
mod plan;
mod quarantine;
pub(crate) mod records;
pub(crate) mod sessions;
mod status;
pub(crate) mod verify;
mod ways_in;

use std::path::Path;

use control::{Answer, Exit, Request};
use jiff::Timestamp;
use record::{Account, Person};

use crate::{
    ask::{self, Failure},
    cli::{self, Cli, Command},
    moment,
    output::{Done, finish},
    paint::Paint,
};

/// What every command needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Where the daemon listens.
    pub(crate) socket: &'a Path,
    /// What "now" means for clock times and distances.
    pub(crate) now: Timestamp,
    /// Whether a program reads the output.
    pub(crate) json: bool,
    /// Whether standard output shows colour.
    pub(crate) paint: Paint,
}

impl Context<'_> {
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        ask::ask(self.socket, request)
    }
}

/// Does what was typed, tells how it went, and returns the exit status.
pub(crate) fn run(cli: Cli, socket: &Path) -> Exit {
    if cli.time == cli::Zone::Local
        && let Err(error) = moment::use_local_zone()
    {
        return finish(cli.json, Err(Failure::here(format!("the local time zone: {error}"))));
    }
    let context = Context { socket, now: Timestamp::now(), json: cli.json, paint: Paint::of_stdout(cli.json) };
    finish(cli.json, one(cli.command, &context))
}

fn one(command: Command, context: &Context<'_>) -> Result<Done, Failure> {
    match command {
        Command::Status => status::run(context),
        Command::Allow(args) => access::allow(args, context),
        Command::Revoke(args) => access::revoke(args, context),
        Command::Lockdown(args) => access::lockdown(args, context),
        Command::Apply(args) => apply::run(&args, context),
        Command::Enforce(args) => enforce::run(&args, context),
        Command::Grants(args) => grants::run(&args, context),
        Command::Sessions(args) => sessions::run(&args, context),
        Command::People => people::run(context),
        Command::Plan => plan::run(context),
        Command::WaysIn(args) => ways_in::run(&args, context),
        Command::Records(args) => records::run(args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Quarantine(args) => quarantine::run(args, context),
        Command::BreakGlass(args) => break_glass::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Metrics(args) => metrics::run(&args, context),
        Command::Generate(args) => generate::run(&args),
    }
}

/// How many things a cut list does not show.
fn left_off(count: u64) -> String {
    if count == 0 { String::new() } else { format!("and {count} more that did not fit the answer\n") }
}

impl cli::Whose {
    /// Whether one with this person and account is to be shown.
    fn fits(&self, person: Option<&Person>, account: &Account) -> bool {
        self.person.as_ref().is_none_or(|wanted| person == Some(wanted))
            && self.account.as_ref().is_none_or(|wanted| account == wanted)
    }

    /// What the list was narrowed to, for a sentence that says that nothing is left.
    fn words(&self) -> String {
        let person = self.person.as_ref().map(|person| format!(" of {person}"));
        let account = self.account.as_ref().map(|account| format!(" on {account}"));
        person.into_iter().chain(account).collect()
    }
}

/// Where nothing was found for a person: a mistyped name is an error, and never taken for "nothing happened".
fn known_person(person: Option<&Person>, what: &str, context: &Context<'_>) -> Result<(), Failure> {
    let Some(person) = person else { return Ok(()) };
    let Answer::People(known) = context.ask(&Request::People)? else { return Err(Failure::mismatch()) };
    if known.left_off == 0 && known.people.iter().all(|one| one.name != *person) {
        let failure = Failure::here(format!("there is no person {person}, and no {what}"));
        return Err(failure.but("lockdownctl people lists them"));
    }
    Ok(())
}

/// `1 grant`, `2 grants`.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of commands share: a daemon of one answer behind a real socket.

    use std::{io::Write, os::unix::net::UnixListener, thread};

    use control::{
        Response, encode_response,
        frame::{self, MAX_FRAME},
    };

    use super::*;

    pub(crate) const NOW: &str = "2026-11-23T18:00:00Z";

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Runs `command` against a socket that gives `responses`, one a connection; what it asked, and how it went.
    pub(crate) fn against<T>(responses: Vec<Response>, command: impl FnOnce(&Context<'_>) -> T) -> (Vec<Request>, T) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let answer = |response| {
                let mut stream = listener.accept().unwrap().0;
                let request: Request = frame::read(&mut stream, MAX_FRAME).unwrap();
                stream.write_all(&encode_response(response)).unwrap();
                request
            };
            responses.into_iter().map(answer).collect()
        });
        let result = command(&Context { socket: &socket, now: at(NOW), json: false, paint: Paint::NONE });
        (server.join().unwrap(), result)
    }
}
