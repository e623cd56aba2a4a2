//! The sink of syslog: each record to rsyslog's socket, the signed line as the message.
//!
//! syslog acknowledges nothing: what the socket has taken counts as sent, and after each new connection the last
//! [`AGAIN`] records are sent once more, because whoever listened before may have lost them.

mod frame;
mod socket;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use record::{Hash, LedgerId};

use self::socket::{Sent, Socket};
use crate::{
    cursor::{Cursor, Kept},
    files::FileError,
    ledger::{self, Entry, ReadError, Reader},
    log,
    paths::Paths,
    shared::{Ending, Shared, World},
    status::{SinkStatus, State, Status},
};

/// How many records are sent again after a new connection.
pub(crate) const AGAIN: u64 = 100;
/// How long to wait before connecting anew, at first and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often the cursor is written while records flow. What was sent since is sent again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long nothing is done while nothing changes.
const IDLE: Duration = Duration::from_secs(60);
/// How many records go out before the world is looked at again.
const BURST: usize = 256;
const NAME: &str = "syslog";
const NUMBER: usize = 0;

/// The sink.
#[derive(Debug)]
pub(crate) struct SyslogSink {
    paths: Paths,
    shared: Arc<Shared>,
    status: Arc<Status>,
    cursor: Kept,
    saved: Instant,
    address: Option<PathBuf>,
    socket: Option<Socket>,
    reader: Option<Reader>,
    /// A record that the socket has not taken yet.
    held: Option<Entry>,
    failures: u32,
}

/// What a turn came to.
enum Turn {
    /// There is more.
    Again,
    /// Nothing waits.
    Done,
    /// Not now; why.
    Later(Duration, String),
}

impl SyslogSink {
    /// Reads its cursor.
    pub(crate) fn open(paths: Paths, shared: Arc<Shared>, status: Arc<Status>) -> Result<Self, FileError> {
        Ok(Self {
            cursor: Kept::open(paths.cursor(NAME))?,
            paths,
            shared,
            status,
            saved: Instant::now(),
            address: None,
            socket: None,
            reader: None,
            held: None,
            failures: 0,
        })
    }

    /// Ships until the shipper ends.
    pub(crate) fn run(mut self) {
        let mut world = self.shared.look();
        loop {
            self.shared.beat(NUMBER);
            if self.address != world.settings.syslog {
                (self.address, self.socket, self.failures) = (world.settings.syslog.clone(), None, 0);
            }
            let turn = if self.address.is_some() { self.turn(&world) } else { Turn::Done };
            self.tell(&world, &turn);
            if self.saved.elapsed() >= SAVE_EVERY || !matches!(turn, Turn::Again) {
                self.save();
            }
            if world.ending.is_some_and(|ending| self.may_end(&turn, &world, ending)) {
                return;
            }
            world = match turn {
                Turn::Again => self.shared.look(),
                Turn::Done => self.shared.wait(world.version, IDLE),
                Turn::Later(time, _) => self.shared.pause(&world, time),
            };
        }
    }

    fn may_end(&self, turn: &Turn, world: &World, ending: Ending) -> bool {
        let at_stop = self.reader.as_ref().is_some_and(Reader::at_stop);
        let done = matches!(turn, Turn::Done)
            && (!ending.instance || at_stop || self.address.is_none() || world.mark.is_none());
        done || Instant::now() >= ending.until
    }

    fn turn(&mut self, world: &World) -> Turn {
        let Some(mark) = &world.mark else { return Turn::Done };
        if self.socket.is_none() && (self.has_more(mark) || self.cursor.at().is_none()) {
            let address = self.address.clone().unwrap_or_default();
            match Socket::connect(&address) {
                Ok(socket) => {
                    (self.socket, self.reader, self.held) = (Some(socket), None, None);
                    self.step_back();
                }
                Err(error) => {
                    return self.later(format!("{} cannot be connected to: {error}", address.display()));
                }
            }
        }
        for _ in 0..BURST {
            match self.one(mark) {
                Ok(Turn::Again) => {}
                Ok(other) => return other,
                Err(error) => return self.on_read_error(&error, mark),
            }
        }
        Turn::Again
    }

    fn has_more(&self, mark: &Cursor) -> bool {
        self.cursor.at().is_none_or(|at| at.ledger != mark.ledger || at.seq != mark.seq)
    }

    /// After a new connection: the last records once more. The cursor's file is left as it is until they are sent.
    fn step_back(&mut self) {
        if let Some(at) = self.cursor.at().cloned() {
            let seq = at.seq.saturating_sub(AGAIN);
            // Without a hash, nothing is checked at the place that is begun from.
            self.reader = self.dir_of(&at).and_then(|dir| {
                let first = ledger::first_left(&dir).ok()?;
                Reader::after(&dir, &at.ledger, seq.max(first - 1), None).ok()
            });
        }
    }

    /// Where the ledger that a cursor is in lies, if it is there and has that record.
    fn dir_of(&self, at: &Cursor) -> Option<PathBuf> {
        let mark = self.shared.look().mark?;
        let dir = match mark.ledger == at.ledger {
            true => self.paths.ledger(),
            false => ledger::past_of(&self.paths, &at.ledger).ok()??.dir,
        };
        let same = at.seq == 0 || ledger::hash_at(&dir, &at.ledger, at.seq).is_ok_and(|hash| hash == at.hash);
        same.then_some(dir)
    }

    /// Sends one record.
    fn one(&mut self, mark: &Cursor) -> Result<Turn, ReadError> {
        let entry = match self.held.take() {
            Some(entry) => entry,
            None => match self.read(mark)? {
                Some(entry) => entry,
                None => return Ok(Turn::Done),
            },
        };
        let Some(socket) = &mut self.socket else {
            self.held = Some(entry);
            return Ok(self.later("it is not connected".to_owned()));
        };
        match socket.send(&frame::of(&entry, std::process::id())) {
            Sent::Taken => {
                self.failures = 0;
                self.pass(&entry);
                Ok(Turn::Again)
            }
            Sent::Full => {
                self.held = Some(entry);
                Ok(Turn::Later(Duration::ZERO, "its socket is full: whoever reads it does not keep up".to_owned()))
            }
            Sent::TooLong => {
                log::error(format_args!(
                    "syslog: the socket takes no message of record {}'s length; passed over",
                    entry.seq
                ));
                self.pass(&entry);
                Ok(Turn::Again)
            }
            Sent::Gone(error) => {
                self.socket = None;
                Ok(self.later(format!("whoever listened is gone: {error}")))
            }
        }
    }

    fn pass(&mut self, entry: &Entry) {
        if let Some(reader) = &self.reader {
            let to = Cursor { ledger: reader.ledger().clone(), seq: entry.seq, hash: entry.hash };
            // What is sent once more does not take the cursor back.
            if self.cursor.at().is_none_or(|at| at.ledger != to.ledger || at.seq <= to.seq) {
                self.cursor.set(to);
            }
        }
    }

    /// The next record: of a ledger that has ended, then of the one after it, and at last of the present one.
    fn read(&mut self, mark: &Cursor) -> Result<Option<Entry>, ReadError> {
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => {
                    let reader = self.begin(mark)?;
                    self.reader.insert(reader)
                }
            };
            let present = reader.dir() == self.paths.ledger();
            let upto = if present { mark.seq } else { u64::MAX };
            if present && *reader.ledger() != mark.ledger {
                self.reader = None;
                continue;
            }
            match reader.next(upto)? {
                Some(entry) => return Ok(Some(entry)),
                None if present => return Ok(None),
                None => {
                    let next = ledger::past_of(&self.paths, reader.ledger())?
                        .map(|past| ledger::next_past(&self.paths, &past))
                        .transpose()?
                        .flatten();
                    let ledger = next.map_or_else(|| mark.ledger.clone(), |past| past.ledger);
                    self.cursor.set(Cursor::start(ledger));
                    self.reader = None;
                }
            }
        }
    }

    fn begin(&mut self, mark: &Cursor) -> Result<Reader, ReadError> {
        let at = match self.cursor.at() {
            Some(at) => at.clone(),
            None => {
                let oldest = ledger::oldest(&self.paths)?.unwrap_or_else(|| mark.ledger.clone());
                self.cursor.set(Cursor::start(oldest.clone()));
                Cursor::start(oldest)
            }
        };
        // Zeros where it was moved without looking.
        let hash = (at.hash != Hash::ZERO).then_some(at.hash);
        if at.ledger == mark.ledger {
            if at.seq > mark.seq {
                return Err(ReadError::RolledBack { seq: at.seq });
            }
            return Reader::after(&self.paths.ledger(), &at.ledger, at.seq, hash);
        }
        match ledger::past_of(&self.paths, &at.ledger)? {
            Some(past) => Reader::after(&past.dir, &at.ledger, at.seq, hash),
            None => {
                log::warn(format_args!("syslog: ledger {} is gone; going on with {}", at.ledger, mark.ledger));
                self.cursor.set(Cursor::start(mark.ledger.clone()));
                Reader::after(&self.paths.ledger(), &mark.ledger, 0, None)
            }
        }
    }

    /// syslog wants what there is: what was pruned is passed over, and what was put back is sent from where it is whole.
    fn on_read_error(&mut self, error: &ReadError, mark: &Cursor) -> Turn {
        self.reader = None;
        let at = self.cursor.at().cloned().unwrap_or_else(|| Cursor::start(mark.ledger.clone()));
        let (dir, ledger) = match self.dir_for_jump(&at, mark) {
            Some(found) => found,
            None => return self.later(error.to_string()),
        };
        let from = match error {
            ReadError::Pruned { first } => Some(first - 1),
            // How much of it is new cannot be known: the last two segments are sent.
            ReadError::RolledBack { .. } => {
                ledger::segment_starts(&dir).iter().rev().nth(1).or(Some(&1)).map(|s| s - 1)
            }
            ReadError::Replaced if ledger == mark.ledger => {
                return Turn::Later(Duration::from_millis(10), error.to_string());
            }
            error if ledger != mark.ledger && error.is_final() => None,
            _ => return self.later(error.to_string()),
        };
        match from.map(|from| Reader::after(&dir, &ledger, from, None)) {
            Some(Ok(reader)) => {
                log::warn(format_args!("syslog: {error}; going on after record {}", from.unwrap_or(0)));
                self.cursor.set(Cursor { ledger, seq: from.unwrap_or(0), hash: Hash::ZERO });
                self.reader = Some(reader);
                Turn::Again
            }
            Some(Err(ReadError::Pruned { .. })) => Turn::Again,
            Some(Err(error)) => self.later(error.to_string()),
            // A ledger that has ended and cannot be read to its end holds up no other.
            None => {
                log::error(format_args!("syslog: the rest of ledger {ledger} is not sent: {error}"));
                let next = ledger::past_of(&self.paths, &ledger)
                    .and_then(|past| past.map_or(Ok(None), |past| ledger::next_past(&self.paths, &past)));
                match next {
                    Ok(next) => {
                        self.cursor.set(Cursor::start(next.map_or_else(|| mark.ledger.clone(), |past| past.ledger)));
                        Turn::Again
                    }
                    Err(error) => self.later(error.to_string()),
                }
            }
        }
    }

    fn dir_for_jump(&self, at: &Cursor, mark: &Cursor) -> Option<(PathBuf, LedgerId)> {
        if at.ledger == mark.ledger {
            return Some((self.paths.ledger(), at.ledger.clone()));
        }
        match ledger::past_of(&self.paths, &at.ledger) {
            Ok(Some(past)) => Some((past.dir, past.ledger)),
            _ => None,
        }
    }

    fn later(&mut self, why: String) -> Turn {
        let time = (RECONNECT.0 * 2u32.saturating_pow(self.failures.min(10))).min(RECONNECT.1);
        self.failures += 1;
        Turn::Later(time, why)
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        if let Err(error) = self.cursor.save() {
            // It is sent again after a restart, nothing worse.
            log::warn(format_args!("syslog: {error}"));
        }
    }

    fn tell(&self, world: &World, turn: &Turn) {
        let status = self.address.is_some().then(|| {
            let at = self.cursor.at();
            let waiting = match (&world.mark, at) {
                (Some(mark), Some(at)) if mark.ledger == at.ledger => mark.seq.saturating_sub(at.seq),
                (Some(mark), _) => mark.seq,
                (None, _) => 0,
            };
            let (state, why) = match turn {
                Turn::Again => (State::Shipping, None),
                Turn::Done => (State::Idle, None),
                Turn::Later(_, why) => (State::Waiting, Some(why.clone())),
            };
            SinkStatus {
                ledger: at.map(|at| at.ledger.to_string()),
                seq: at.map_or(0, |at| at.seq),
                waiting,
                waiting_since: self.held.as_ref().map(|entry| entry.time.clone()),
                why,
                ..SinkStatus::new(state)
            }
        });
        self.status.set(NAME, status);
    }
}

#[cfg(test)]
mod tests;
