//! A signed document on its way: to a file, or to the server and on to the hosts, which are shown as they answer.

use std::{
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

use document::{Envelope, Kind};
use jiff::Timestamp;
use serde::Serialize;
use terminal::{complain, paint::Tone, plain, pretty, print};

use crate::{
    answers::{Hosts, Posted, State},
    cli::Delivery,
    client::Client,
    failure::{Exit, Failure},
    files,
    output::Done,
    progress::{Progress, Summary},
};

/// How long the server is asked to wait for something new, at most.
const POLL: Duration = Duration::from_secs(20);
/// How much longer an answer may take than that.
const GRACE: Duration = Duration::from_secs(5);
/// The least time between two questions: a server that answers at once with nothing new is not asked at once again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long is waited after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the hosts are asked for in spite of failures.
const TRIES: u32 = 3;

/// What a program is told of a document.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    posted: &'a Posted,
    #[serde(flatten)]
    summary: Option<Summary<'a>>,
}

/// Writes an envelope to a file, or to standard output, for `lockdownctl apply`.
pub(crate) fn write(envelope: &Envelope, path: &std::path::Path, client: &Client) -> Result<Done, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Done::new(format!("{}\n", envelope.to_json())));
    }
    files::write_named(path, format!("{}\n", envelope.to_json()).as_bytes())?;
    let id = envelope.document().id();
    let value = serde_json::json!({ "id": id, "type": envelope.document().kind().as_str(), "file": path });
    Ok(client.voice.show(&value, |_| {
        let (kind, name) = (envelope.document().kind(), plain(&path.display().to_string()));
        format!("{kind} {id}\n  written to {name}; on a host: lockdownctl apply {name}\n")
    }))
}

/// Sends an envelope to the server.
pub(crate) fn post(envelope: &Envelope, client: &Client) -> Result<Posted, Failure> {
    let answer = client.server()?.post("/v1/documents", &envelope.to_json());
    let posted: Posted = answer.map_err(|failure: Failure| match failure.exit {
        Exit::Unavailable => failure.detail("without a server: --out FILE, and on each host lockdownctl apply FILE"),
        _ => failure,
    })?;
    if posted.id != envelope.document().id() {
        return Err(Failure::unavailable(format!(
            "the server answers about document {}, and {} was sent: it may not have it",
            posted.id,
            envelope.document().id()
        )));
    }
    Ok(posted)
}

/// Sends an envelope and follows it, or writes it to a file.
pub(crate) fn deliver(envelope: &Envelope, delivery: &Delivery, client: &Client) -> Result<Done, Failure> {
    deliver_or(envelope, delivery, client, None)
}

/// The same. What is said, at once, where no host is known that it is for.
pub(crate) fn deliver_or(
    envelope: &Envelope,
    delivery: &Delivery,
    client: &Client,
    nobody: Option<&dyn Fn() -> String>,
) -> Result<Done, Failure> {
    if let Some(path) = &delivery.out {
        return write(envelope, path, client);
    }
    let posted = post(envelope, client)?;
    follow_or(envelope.document().kind(), &posted, delivery.wait, client, nobody)
}

/// Says where a document is, and shows the hosts.
pub(crate) fn follow(kind: Kind, posted: &Posted, wait: Duration, client: &Client) -> Result<Done, Failure> {
    follow_or(kind, posted, wait, client, None)
}

fn follow_or(
    kind: Kind,
    posted: &Posted,
    wait: Duration,
    client: &Client,
    nobody: Option<&dyn Fn() -> String>,
) -> Result<Done, Failure> {
    if posted.state == State::Pending {
        return Ok(told(posted, None, client, String::new()).exiting(Exit::NotAll));
    }
    if !client.voice.json {
        let stacks: Vec<String> = posted.stacks.iter().map(ToString::to_string).collect();
        let stacks = if stacks.is_empty() { "no stack that is known".to_owned() } else { stacks.join(", ") };
        say(&format!("{kind} {}\n  published for {stacks}\n", posted.id));
    }
    if wait.is_zero() {
        return Ok(told(posted, None, client, String::new()));
    }
    let mut progress = Progress::new(kind);
    if let Err(failure) = watch(posted, wait, client, &mut progress, nobody.is_some()) {
        // It is on its way all the same.
        let note = format!(
            "note: it was published, and what the hosts make of it cannot be seen from here:\n{}",
            failure.words()
        );
        client.voice.say(&note);
        return Ok(told(posted, Some(&progress), client, String::new()).exiting(Exit::NotAll));
    }
    if let Some(nobody) = nobody.filter(|_| progress.is_nobody()) {
        client.voice.say(&format!("{}\n", client.voice.aside.tone(Tone::Bad, &nobody())));
    }
    let end = progress.end(Timestamp::now(), client.voice.paint);
    Ok(told(posted, Some(&progress), client, end).exiting(progress.exit()))
}

fn told(posted: &Posted, progress: Option<&Progress>, client: &Client, text: String) -> Done {
    let summary = progress.map(Progress::summary);
    Done::new(if client.voice.json { pretty(&Told { posted, summary }) } else { text })
}

/// Asks for the hosts until all have answered or the time is up; or, where that is worth an alarm, there are none.
fn watch(
    posted: &Posted,
    wait: Duration,
    client: &Client,
    progress: &mut Progress,
    is_alarm: bool,
) -> Result<(), Failure> {
    let until = Instant::now() + wait;
    let (mut version, mut failed) = (None, 0);
    let screen = Screen::new(client);
    while !progress.is_over() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() && version.is_some() {
            break;
        }
        let (asked, is_first) = (Instant::now(), version.is_none() && failed == 0);
        let poll = left.min(POLL).as_secs();
        let after = version.map(|version: u64| format!("&after={version}")).unwrap_or_default();
        let path =
            format!("/v1/documents/{}/hosts?wait={}{after}", posted.id, if version.is_some() { poll } else { 0 });
        match client.get::<Hosts>(&path, left.min(POLL) + GRACE) {
            Ok(answer) => {
                failed = 0;
                version = Some(answer.version);
                screen.show(&progress.take(answer, client.voice.paint), progress);
                if is_alarm && progress.is_nobody() {
                    break;
                }
            }
            Err(failure) => {
                failed += 1;
                if failed >= TRIES || failure.exit != Exit::Unavailable || Instant::now() >= until {
                    screen.clear();
                    return Err(failure);
                }
                thread::sleep(AFTER_FAILURE.min(until.saturating_duration_since(Instant::now())));
            }
        }
        if !progress.is_over() && !is_first {
            thread::sleep(PAUSE.saturating_sub(asked.elapsed()).min(until.saturating_duration_since(Instant::now())));
        }
    }
    screen.clear();
    Ok(())
}

/// A terminal, where the last line is written over.
struct Screen<'a> {
    client: &'a Client,
    is_terminal: bool,
}

impl<'a> Screen<'a> {
    fn new(client: &'a Client) -> Self {
        Self { client, is_terminal: !client.voice.json && io::stdout().is_terminal() && io::stderr().is_terminal() }
    }

    fn show(&self, lines: &str, progress: &Progress) {
        self.clear();
        if !self.client.voice.json && !lines.is_empty() {
            say(lines);
        }
        if self.is_terminal {
            let paint = self.client.voice.paint;
            complain(&paint.tone(Tone::Quiet, &progress.bar(paint)));
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            complain("\r\x1b[K");
        }
    }
}

/// Writes to standard output at once. A reader who has left misses nothing that matters: the exit status says it.
fn say(text: &str) {
    let _ = print(text);
}
