//! What became of a document on each host, as it comes in. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use document::Kind;
use jiff::Timestamp;
use record::Host;
use serde::Serialize;
use terminal::{
    paint::{Paint, Tone},
    plain,
};

use crate::{
    answers::{HostAnswer, HostState, Hosts},
    failure::Exit,
};

/// The most hosts that are followed.
pub(crate) const MAX_HOSTS: usize = 20_000;
/// How much of what a host says is shown, in characters.
const MAX_SAID: usize = 400;
/// How wide the bar is, in characters.
const BAR: usize = 24;
/// How many hosts are named on a terminal, or at the end, one by one.
const NAMED: usize = 40;

/// The hosts, as far as they have answered.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    kind: Kind,
    hosts: BTreeMap<Host, HostAnswer>,
    /// Those of which a line has told.
    told: BTreeSet<Host>,
}

/// What a program is told.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    pub(crate) done: usize,
    pub(crate) of: usize,
    pub(crate) hosts: Vec<&'a HostAnswer>,
}

impl Progress {
    /// Nobody has answered yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, hosts: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// Takes an answer of the server; the lines for what is final now and was not before.
    pub(crate) fn take(&mut self, answer: Hosts, paint: Paint) -> String {
        let mut text = String::new();
        // On a terminal a bar says how far many hosts are; what is piped has a line for each.
        let too_many = paint.columns().is_some() && answer.hosts.len() > NAMED;
        // Only what it says now counts: with other hosts each time it would fill the memory.
        self.hosts.clear();
        for one in answer.hosts.into_iter().take(MAX_HOSTS) {
            let is_told = one.state == HostState::Refused || !too_many;
            if is_final(one.state) && is_told && self.told.len() < MAX_HOSTS && self.told.insert(one.host.clone()) {
                text.push_str(&self.line(&one, paint));
            }
            self.hosts.insert(one.host.clone(), one);
        }
        text
    }

    fn line(&self, one: &HostAnswer, paint: Paint) -> String {
        let (tone, said) = match one.state {
            HostState::Accepted => (Tone::Good, done(self.kind).to_owned()),
            _ => (Tone::Bad, format!("refused: {}", why(one))),
        };
        format!("  {}  {}\n", one.host, paint.tone(tone, &plain(&said)))
    }

    /// Whether there is nothing to wait for: each host has said yes or no.
    pub(crate) fn is_over(&self) -> bool {
        !self.hosts.is_empty() && self.hosts.values().all(|one| is_final(one.state))
    }

    /// Whether no host is known that it is for.
    pub(crate) fn is_nobody(&self) -> bool {
        self.hosts.is_empty()
    }

    fn accepted(&self) -> usize {
        self.hosts.values().filter(|one| one.state == HostState::Accepted).count()
    }

    /// A line that is written over while it goes on.
    pub(crate) fn bar(&self, paint: Paint) -> String {
        let (done, of) = (self.accepted(), self.hosts.len());
        let full = (BAR * done).checked_div(of).unwrap_or(0);
        let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full));
        let text = format!("  {bar} {done} of {of} hosts: {}", crate::progress::done(self.kind));
        let room = paint.columns().unwrap_or(usize::MAX).saturating_sub(1);
        text.chars().take(room).collect()
    }

    /// What it came to, with each host that has not done it, and why.
    pub(crate) fn end(&self, now: Timestamp, paint: Paint) -> String {
        let (done, of) = (self.accepted(), self.hosts.len());
        if of == 0 {
            return "no host is known that it is for\n".to_owned();
        }
        let mut text = String::new();
        let missing: Vec<&HostAnswer> = self.hosts.values().filter(|one| !is_final(one.state)).collect();
        for one in missing.iter().take(NAMED) {
            text.push_str(&format!("  {}  {}\n", one.host, paint.tone(Tone::Notice, &plain(&not_yet(one, now)))));
        }
        if let Some(more @ 1..) = missing.len().checked_sub(NAMED) {
            text.push_str(&format!("  and {more} more that have not answered\n"));
        }
        let all = if done == of { Tone::Good } else { Tone::Notice };
        let sum =
            format!("{done} of {of} {}: {}", if of == 1 { "host" } else { "hosts" }, crate::progress::done(self.kind));
        text + &format!("{}\n", paint.tone(all, &sum))
    }

    /// The exit status that says so.
    pub(crate) fn exit(&self) -> Exit {
        let refused = self.hosts.values().filter(|one| one.state == HostState::Refused).count();
        match (self.accepted(), self.hosts.len()) {
            (done, of) if done == of && of > 0 => Exit::Done,
            (0, of) if of > 0 && refused == of => Exit::Refused,
            _ => Exit::NotAll,
        }
    }

    /// The same for programs.
    pub(crate) fn summary(&self) -> Summary<'_> {
        Summary { done: self.accepted(), of: self.hosts.len(), hosts: self.hosts.values().collect() }
    }
}

fn is_final(state: HostState) -> bool {
    matches!(state, HostState::Accepted | HostState::Refused)
}

/// What a host has done that has accepted it.
pub(crate) fn done(kind: Kind) -> &'static str {
    match kind {
        Kind::Grant => "granted",
        Kind::Revoke => "revoked",
        Kind::Lockdown => "locked down",
        Kind::Lift => "lifted",
        Kind::Roster => "taken",
        Kind::Session | Kind::Feed | Kind::Run => "read",
    }
}

fn why(one: &HostAnswer) -> String {
    let said = one.detail.as_ref().or(one.code.as_ref());
    said.map_or_else(|| "it does not say why".to_owned(), |said| said.chars().take(MAX_SAID).collect())
}

fn not_yet(one: &HostAnswer, now: Timestamp) -> String {
    let heard = one.last_heard.map(|at| terminal::moment::relative(at, now));
    let reason = one.detail.as_ref().map(|_| format!(": {}", why(one))).unwrap_or_default();
    match heard {
        None => "was never heard from".to_owned(),
        Some(heard) if one.silent => format!("silent: last heard from {heard}"),
        Some(heard) if one.state == HostState::Unheard => format!("hears no feed, or is gone; last heard from {heard}"),
        Some(heard) => format!("has not answered yet; last heard from {heard}{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn one(host: &str, state: HostState) -> HostAnswer {
        HostAnswer {
            host: host.parse().unwrap(),
            stack: "web".parse().unwrap(),
            state,
            code: None,
            detail: None,
            last_heard: Some(at("2026-11-30T11:57:00Z")),
            silent: false,
        }
    }

    fn answer(hosts: Vec<HostAnswer>) -> Hosts {
        Hosts { version: 1, hosts }
    }

    const NOON: &str = "2026-11-30T12:00:00Z";

    #[test]
    fn each_host_is_told_of_once_as_it_answers() {
        let mut progress = Progress::new(Kind::Grant);
        let first = vec![one("i-1", HostState::Accepted), one("i-2", HostState::Unheard)];
        assert_eq!(progress.take(answer(first.clone()), Paint::NONE), "  i-1  granted\n");
        assert_eq!(progress.take(answer(first), Paint::NONE), "");
        assert!(!progress.is_over());
        let second = vec![one("i-1", HostState::Accepted), one("i-2", HostState::Accepted)];
        assert_eq!(progress.take(answer(second), Paint::NONE), "  i-2  granted\n");
        assert!(progress.is_over());
        assert_eq!(progress.end(at(NOON), Paint::NONE), "2 of 2 hosts: granted\n");
        assert_eq!(progress.exit(), Exit::Done);
    }

    #[test]
    fn a_host_that_has_not_answered_is_named_with_when_it_was_heard_from() {
        let mut progress = Progress::new(Kind::Grant);
        let waits = HostAnswer { detail: Some("it waits for a roster".to_owned()), ..one("i-3", HostState::Waiting) };
        let silent = HostAnswer { silent: true, ..one("i-2", HostState::Unheard) };
        let never = HostAnswer { last_heard: None, ..one("i-4", HostState::Unheard) };
        progress.take(
            answer(vec![one("i-1", HostState::Accepted), silent, waits, never, one("i-5", HostState::Unheard)]),
            Paint::NONE,
        );
        let end = progress.end(at(NOON), Paint::NONE);
        for said in [
            "i-2  silent: last heard from 3 min ago\n",
            "i-3  has not answered yet; last heard from 3 min ago: it waits for a roster\n",
            "i-4  was never heard from\n",
            "i-5  hears no feed, or is gone; last heard from 3 min ago\n",
            "1 of 5 hosts: granted\n",
        ] {
            assert!(end.contains(said), "{end}");
        }
        assert_eq!(progress.exit(), Exit::NotAll);
    }

    #[test]
    fn a_server_that_lies_neither_colours_the_screen_nor_fills_it() {
        let mut progress = Progress::new(Kind::Lockdown);
        let odd = HostAnswer { detail: Some("\x1b[2J\u{202e}".repeat(10_000)), ..one("i-1", HostState::Refused) };
        let text = progress.take(answer(vec![odd]), Paint::NONE);
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}') && text.len() < 8000, "{text}");
        assert_eq!(progress.exit(), Exit::Refused);
    }

    #[test]
    fn of_many_hosts_a_terminal_names_only_those_that_refuse_and_what_is_piped_names_all() {
        let many = || {
            let mut hosts: Vec<HostAnswer> = (0..100).map(|n| one(&format!("i-{n}"), HostState::Accepted)).collect();
            hosts.push(one("i-no", HostState::Refused));
            answer(hosts)
        };
        let terminal = Progress::new(Kind::Grant).take(many(), Paint::of_columns(80));
        assert_eq!(terminal.lines().count(), 1, "{terminal}");
        assert!(terminal.contains("i-no"));
        assert_eq!(Progress::new(Kind::Grant).take(many(), Paint::NONE).lines().count(), 101);
    }

    #[test]
    fn a_server_that_names_other_hosts_each_time_fills_no_memory() {
        let mut progress = Progress::new(Kind::Grant);
        for round in 0..3 {
            let hosts = (0..MAX_HOSTS + 1).map(|n| one(&format!("i-{round}-{n}"), HostState::Accepted)).collect();
            progress.take(answer(hosts), Paint::NONE);
        }
        assert_eq!((progress.hosts.len(), progress.told.len()), (MAX_HOSTS, MAX_HOSTS));
    }

    #[test]
    fn no_host_at_all_is_not_success() {
        let progress = Progress::new(Kind::Grant);
        assert_eq!(progress.exit(), Exit::NotAll);
        assert!(!progress.is_over());
    }

    #[test]
    fn the_bar_fits_the_terminal() {
        let mut progress = Progress::new(Kind::Grant);
        progress.take(answer(vec![one("i-1", HostState::Accepted), one("i-2", HostState::Unheard)]), Paint::NONE);
        assert_eq!(progress.bar(Paint::NONE), "  [############------------] 1 of 2 hosts: granted");
        assert_eq!(progress.bar(Paint::of_columns(20)).chars().count(), 19);
    }
}
