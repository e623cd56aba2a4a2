//! `status.json`: for each sink, how far it is, what waits, since when, and why; for each feed, whether it is heard. For
//! `lockdownctl status`.
//!
//! What somebody should know is written at once; numbers, and whether something is on its way just now, at most once a
//! second.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{files, log, paths::Paths};

/// How often numbers alone are written.
const EVERY: Duration = Duration::from_secs(1);
/// The longest `why`, in characters: part of it comes from the server.
const MAX_WHY: usize = 500;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nothing waits.
    Idle,
    /// Records are on their way.
    Shipping,
    /// The sink is out of reach, or asks for patience; `why` says which. It goes on by itself.
    Waiting,
    /// It does not go on before somebody changes something; `why` says what. Tried again now and then.
    Refused,
    /// The server holds another history of this ledger. The daemon is asked to begin a new one.
    Fork,
}

impl State {
    fn is_healthy(self) -> bool {
        matches!(self, Self::Idle | Self::Shipping)
    }
}

/// One sink's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SinkStatus {
    pub(crate) state: State,
    pub(crate) ledger: Option<String>,
    /// The last record that it has.
    pub(crate) seq: u64,
    /// How many records of the present ledger wait.
    pub(crate) waiting: u64,
    /// The time of the first that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acknowledged_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enrolment: Option<String>,
    /// Ledgers that have ended of which the rest is not shipped, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) left: Vec<String>,
}

impl SinkStatus {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state,
            ledger: None,
            seq: 0,
            waiting: 0,
            waiting_since: None,
            why: None,
            acknowledged_seq: None,
            enrolment: None,
            left: Vec::new(),
        }
    }
}

/// How a feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FeedState {
    /// It is listened to.
    Listening,
    /// The feed is out of reach, or the daemon has still to take what it brought; `why` says which. It goes on by itself.
    Waiting,
    /// It does not go on before somebody changes something; `why` says what. Tried again now and then.
    Refused,
}

/// One feed's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FeedStatus {
    pub(crate) feed: String,
    pub(crate) state: FeedState,
    /// Up to where the daemon has heard it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// When it last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heard: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// How much of what it sent was no document.
    pub(crate) dropped: u64,
}

#[derive(Debug, Default)]
struct Board {
    sinks: BTreeMap<&'static str, SinkStatus>,
    feeds: BTreeMap<usize, FeedStatus>,
    written: Option<Instant>,
    dirty: bool,
    failed: bool,
}

/// All sinks' status, and the file.
#[derive(Debug)]
pub(crate) struct Status {
    paths: Paths,
    board: Mutex<Board>,
    held_back: Condvar,
}

impl Status {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths, board: Mutex::default(), held_back: Condvar::new() }
    }

    /// A sink's status is this now; or it is not configured.
    pub(crate) fn set(&self, sink: &'static str, status: Option<SinkStatus>) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status.map(|mut status| {
            status.why = status.why.map(|why| why.chars().take(MAX_WHY).collect());
            status
        });
        let before = board.sinks.get(sink);
        if before == status.as_ref() && board.written.is_some() {
            return;
        }
        let told = |status: Option<&SinkStatus>| {
            status.map(|s| ((!s.state.is_healthy()).then_some(s.state), s.why.clone(), s.enrolment.clone()))
        };
        let news = told(before) != told(status.as_ref()) || board.written.is_none();
        if news {
            say(sink, before, status.as_ref());
        }
        match status {
            Some(status) => board.sinks.insert(sink, status),
            None => board.sinks.remove(sink),
        };
        self.changed(&mut board, news);
    }

    /// A feed's status is this now; or it is not listened to.
    pub(crate) fn set_feed(&self, number: usize, status: Option<FeedStatus>) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status.map(|mut status| {
            status.why = status.why.map(|why| why.chars().take(MAX_WHY).collect());
            status
        });
        let before = board.feeds.get(&number);
        if before == status.as_ref() {
            return;
        }
        let told = |status: Option<&FeedStatus>| status.map(|s| (s.feed.clone(), s.state, s.why.clone()));
        let news = told(before) != told(status.as_ref());
        if news {
            say_of_feed(before, status.as_ref());
        }
        match status {
            Some(status) => board.feeds.insert(number, status),
            None => board.feeds.remove(&number),
        };
        self.changed(&mut board, news);
    }

    fn changed(&self, board: &mut Board, news: bool) {
        board.dirty = true;
        if news || board.written.is_none_or(|then| then.elapsed() >= EVERY) {
            self.write(board);
        } else {
            self.held_back.notify_all();
        }
    }

    /// Writes what is held back as soon as it may be, for as long as the process lives.
    pub(crate) fn keep_writing(&self) {
        loop {
            let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.held_back.wait_while(board, |board| !board.dirty));
            if let Some(again) = self.flush() {
                thread::sleep(again);
            }
        }
    }

    /// Writes what was held back. Returns when to be called again.
    pub(crate) fn flush(&self) -> Option<Duration> {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let since = board.written.map_or(EVERY, |then| then.elapsed());
        if board.dirty && since >= EVERY {
            self.write(&mut board);
        }
        board.dirty.then(|| EVERY.saturating_sub(since).max(Duration::from_millis(1)))
    }

    fn write(&self, board: &mut Board) {
        #[derive(Serialize)]
        struct Written<'a> {
            v: u64,
            time: String,
            sinks: &'a BTreeMap<&'static str, SinkStatus>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            feeds: Vec<&'a FeedStatus>,
        }
        let (time, feeds) = (format!("{:.6}", Timestamp::now()), board.feeds.values().collect());
        let written = Written { v: 1, time, sinks: &board.sinks, feeds };
        let mut bytes = serde_json::to_vec(&written).expect("text and numbers can always be written");
        bytes.push(b'\n');
        let result = files::replace_fleeting(&self.paths.status(), &bytes);
        if let Err(error) = &result
            && !board.failed
        {
            log::warn(format_args!("{error}"));
        }
        board.failed = result.is_err();
        (board.dirty, board.written) = (false, Some(Instant::now()));
    }
}

/// Each change of state is a line in the log.
fn say(sink: &str, before: Option<&SinkStatus>, now: Option<&SinkStatus>) {
    let Some(now) = now else {
        if before.is_some() {
            log::info(format_args!("{sink}: not configured any more"));
        }
        return;
    };
    let why = now.why.as_deref().unwrap_or("no reason known");
    match now.state {
        State::Idle | State::Shipping => {
            if before.is_none_or(|before| !before.state.is_healthy()) {
                log::info(format_args!("{sink}: shipping, record {} is there", now.seq));
            }
        }
        State::Waiting => log::warn(format_args!("{sink}: waits: {why}")),
        State::Refused | State::Fork => log::error(format_args!("{sink}: does not go on: {why}")),
    }
}

/// The same of feeds.
fn say_of_feed(before: Option<&FeedStatus>, now: Option<&FeedStatus>) {
    let Some(now) = now else {
        if let Some(before) = before {
            log::info(format_args!("feed {}: not listened to any more", before.feed));
        }
        return;
    };
    let why = now.why.as_deref().unwrap_or("no reason known");
    match now.state {
        FeedState::Listening if before.is_some_and(|b| b.feed == now.feed && b.state == now.state) => {}
        FeedState::Listening => log::info(format_args!("feed {}: listened to", now.feed)),
        FeedState::Waiting => log::warn(format_args!("feed {}: waits: {why}", now.feed)),
        FeedState::Refused => log::error(format_args!("feed {}: does not go on: {why}", now.feed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(paths: &Paths) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(paths.status()).unwrap()).unwrap()
    }

    #[test]
    fn states_are_written_at_once_and_numbers_once_a_second() {
        let (_dir, paths) = crate::testing::paths();
        let status = Status::new(paths.clone());
        status.set("api", Some(SinkStatus { seq: 1, ..SinkStatus::new(State::Shipping) }));
        assert_eq!(written(&paths)["sinks"]["api"]["seq"], 1);
        status.set("api", Some(SinkStatus { seq: 2, ..SinkStatus::new(State::Shipping) }));
        assert_eq!(written(&paths)["sinks"]["api"]["seq"], 1);
        assert!(status.flush().is_some_and(|again| again <= EVERY));
        let why = Some("w".repeat(MAX_WHY + 1));
        status.set("api", Some(SinkStatus { seq: 3, why, ..SinkStatus::new(State::Waiting) }));
        let now = written(&paths);
        assert_eq!((&now["sinks"]["api"]["seq"], &now["sinks"]["api"]["state"]), (&3.into(), &"waiting".into()));
        assert_eq!(now["sinks"]["api"]["why"].as_str().unwrap().len(), MAX_WHY);
        assert!(now["sinks"].get("syslog").is_none() && now["v"] == 1);
        assert_eq!(status.flush(), None);
        status.set("api", None);
        assert_eq!(written(&paths)["sinks"], serde_json::json!({}));
    }

    #[test]
    fn what_was_held_back_is_written_without_anything_else_happening() {
        let (_dir, paths) = crate::testing::paths();
        let status = std::sync::Arc::new(Status::new(paths.clone()));
        let writer = status.clone();
        thread::spawn(move || writer.keep_writing());
        for seq in 1..=5 {
            status.set("api", Some(SinkStatus { seq, ..SinkStatus::new(State::Idle) }));
        }
        let begun = Instant::now();
        while written(&paths)["sinks"]["api"]["seq"] != 5 {
            assert!(begun.elapsed() < 10 * EVERY, "{}", written(&paths));
            thread::sleep(Duration::from_millis(20));
        }
    }
}
