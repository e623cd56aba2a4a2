//! The thread that follows sshd's log: journal → [`Book`](lockdown_core::attempts::Book) → statements and logins for the driver.
//!
//! It is slow where the journal, the disk or the driver is, and then simply reads later: what waits, waits in the journal.
//! Nothing is given to the driver before it is on disk here with its place in the journal, and nothing is forgotten before
//! the driver has said that it is on record. A batch whose fate a crash left open is looked for in the ledger.

use std::{
    fmt, io,
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self as std_mpsc, Receiver, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lockdown_core::{
    attempts::{Gap, Login, Place},
    penalties::Knock,
    sshd_log::{self, Writer},
};
use lockdown_host::{
    journal_reader::{DROPPED, Entry, From, Got, Reader},
    processes,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use record::{Draft, SessionId};
use tokio::sync::mpsc;

use super::{NAME_KEY, STATE, names::HostNames, store::State};
use crate::{answered::Answered, run::let_go};

/// How often what happens without a line is looked at: connections that end in silence, the end of a minute.
const TICK: Duration = Duration::from_secs(1);
/// How long an entry is waited for where nothing else is to be done.
const IDLE: Duration = Duration::from_secs(60);
/// How long until a reader that ended is started again.
const START_AGAIN: Duration = Duration::from_secs(1);
/// How many entries are read before the rest is done: a flood must not keep a login waiting.
const AT_ONCE: usize = 512;

/// What the thread tells the driver.
#[derive(Debug)]
pub enum LogReport {
    /// These are to be on record, all or none.
    Statements(Statements),
    /// Somebody got in, and the gate has not been asked yet, as far as is known. To be answered by
    /// [`Follower::looked_at`].
    Login(Box<Login>),
    /// It is time to look at that login again.
    LookAgain(Box<Login>, u32),
    /// An ordinary user's own sshd has logged something: it is time to look for those.
    UsersSshd,
    /// These connections failed: sshd may shut their addresses out.
    Knocks(Vec<Knock>),
    /// What sshd had logged of a connection that was found later.
    Behind(SessionId, Box<Login>),
}

/// A batch of statements.
#[derive(Debug)]
pub struct Statements {
    /// Its number; it stands in each record.
    pub batch: u64,
    /// What is to be recorded.
    pub drafts: Vec<Draft>,
    /// Whether they may be on record already: in this ledger, behind this number.
    pub maybe_behind: Option<(String, u64)>,
    /// Whether that is so at all.
    pub again: bool,
    /// To be told the ledger and its head once they are on disk, or `None` when they are not.
    pub done: SyncSender<Option<(String, u64)>>,
}

/// The running thread. Dropping it stops it.
pub struct Follower {
    /// Holds one answer for each login that was told, which are [`lockdown_core::attempts::MAX_LOGINS`] at most.
    looked_at: Sender<u64>,
    bell: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl Follower {
    /// Starts it where the last run left off. If that is not known although there was one, `lost` says why, and a gap does.
    ///
    /// # Errors
    /// The key for names, the bell or the thread cannot be had.
    pub fn start(reports: mpsc::Sender<LogReport>, gate: Answered, lost: Option<&str>) -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (looked_at, answers) = std_mpsc::channel();
        let names = HostNames::open(Path::new(NAME_KEY))?;
        let worker = Worker {
            state: load(Path::new(STATE), lost, Timestamp::now()),
            names,
            gate,
            reports,
            answers,
            bell: Arc::clone(&bell),
            stop: Arc::clone(&stop),
            told: 0,
            pending: None,
            changed: true,
            saved_at: None,
            failing: false,
            users_sshd_logged: false,
            users_sshd_told: None,
        };
        let thread = thread::Builder::new().name("sshd-log".to_owned()).spawn(move || worker.run())?;
        Ok(Self { looked_at, bell, stop, thread })
    }

    /// A login has been looked at: it need not be told again.
    pub fn looked_at(&self, id: u64) {
        // Both fail only once the thread has ended, which `is_alive` shows.
        let _ = self.looked_at.send(id);
        let _ = self.bell.write(1);
    }

    /// Whether the thread runs: if not, nobody reads sshd's log, and the daemon has to end and be restarted.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.bell.write(1);
        // Where it stands still, at a disk, the next start takes up what was kept last.
        let _ = let_go(&self.thread);
    }
}

/// What the last run left. Where that cannot be read, or is not there although there was one, the log begins with a gap.
fn load(path: &Path, lost: Option<&str>, now: Timestamp) -> State {
    let why = match State::read(path) {
        Ok(Some(state)) => return state,
        Ok(None) => lost.map(str::to_owned),
        Err(error) => Some(error.to_string()),
    };
    let mut state = State::begin(now);
    if let Some(why) = why {
        tracing::error!("how far sshd's log was read is not known any more: {why}");
        let what = format!("how far sshd's log had been read is not known any more: {why}");
        state.book.gap(Gap { what, after: None, until: Some(now), entries: None });
    }
    state
}

struct Worker {
    state: State,
    names: HostNames,
    gate: Answered,
    reports: mpsc::Sender<LogReport>,
    answers: Receiver<u64>,
    bell: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    /// The newest login that the driver was told of in this run.
    told: u64,
    /// Of a reader that has just been started: the entry that must come first.
    pending: Option<String>,
    changed: bool,
    saved_at: Option<Instant>,
    failing: bool,
    /// Whether an ordinary user's own sshd has logged something that the driver was not told of.
    users_sshd_logged: bool,
    users_sshd_told: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        // What a crash left open is settled before anything is read.
        let mut again = self.state.batch > 0 && !self.state.book.out.is_empty();
        self.told = 0;
        let mut reader = None;
        while !self.stop.load(Ordering::Acquire) {
            if !self.flush(again) {
                self.rest(START_AGAIN);
            }
            again = false;
            let Some(running) = reader.as_mut() else {
                reader = self.start_reader();
                continue;
            };
            match self.read(running) {
                Ok(true) => {}
                Ok(false) => self.idle(),
                Err(why) => {
                    if !self.stop.load(Ordering::Acquire) {
                        tracing::warn!("sshd's log is read on in a moment: {why}");
                    }
                    reader = None;
                    self.look_for_lines();
                    self.rest(START_AGAIN);
                }
            }
        }
        self.save();
    }

    fn start_reader(&mut self) -> Option<Reader> {
        let from = self.state.cursor.as_deref().map_or(From::Since(self.state.since), From::Cursor);
        match Reader::follow(from) {
            Ok(reader) => {
                self.pending.clone_from(&self.state.cursor);
                Some(reader)
            }
            Err(error) => {
                tracing::error!(%error, "sshd's log cannot be read; it is tried again");
                self.rest(START_AGAIN);
                None
            }
        }
    }

    /// Reads what there is, up to a bound; whether anything came.
    fn read(&mut self, reader: &mut Reader) -> Result<bool, String> {
        if self.state.book.is_full() {
            self.rest(TICK);
            return Ok(false);
        }
        self.names.refresh();
        for count in 0..AT_ONCE {
            if count > 0 && (!reader.has_more() || self.state.book.is_full() || !self.state.book.out.is_empty()) {
                break;
            }
            match reader.next(self.patience(), self.bell.as_fd()).map_err(|error| error.to_string())? {
                Got::Entry(entry) => self.entry(*entry),
                Got::Nothing => return Ok(count > 0),
                Got::Ended(why) => return Err(why),
            }
        }
        Ok(true)
    }

    /// How long to wait for an entry: no longer than until something else has to be done.
    fn patience(&self) -> Duration {
        let book = &self.state.book;
        let is_idle = !book.is_waiting()
            && book.logins.is_empty()
            && !self.changed
            && !self.users_sshd_logged
            && !self.gate.awaits_lines();
        if is_idle { IDLE } else { TICK }
    }

    fn entry(&mut self, entry: Entry) {
        if let Some(expected) = self.pending.take() {
            if expected == entry.cursor {
                return;
            }
            self.not_where_we_were(&expected, &entry);
        }
        self.changed = true;
        self.state.cursor = Some(entry.cursor.clone());
        self.state.last = Some(entry.time);
        if entry.transport == "driver" && entry.message_id == DROPPED {
            return self.dropped(&entry);
        }
        let Some((pid, writer)) = by_sshd(&entry) else { return };
        if writer == Writer::User {
            // Whatever it says: it is there. Nothing else of it is believed.
            self.users_sshd_logged = true;
            return;
        }
        let Some(line) = sshd_log::parse(&entry.message) else { return };
        if matches!(line.what, sshd_log::What::Accepted { .. }) {
            self.gate.line(pid, entry.said_at());
        }
        let place = Place { time: entry.said_at(), boot: &entry.boot, pid };
        self.state.book.take(line, place, &self.names.names, &self.gate);
    }

    /// The entry that was read last is not there any more, nor is what came between it and this one.
    fn not_where_we_were(&mut self, expected: &str, entry: &Entry) {
        let what = "entries were removed from the journal before they could be read".to_owned();
        let entries = missing(expected, &entry.cursor);
        tracing::warn!(?entries, "{what}");
        self.state.book.gap(Gap { what, after: self.state.last, until: Some(entry.time), entries });
    }

    /// journald says that it has dropped what a unit wrote. Only sshd's units matter here.
    fn dropped(&mut self, entry: &Entry) {
        let Some((count, unit)) = suppressed(&entry.message).filter(|(_, unit)| unit.starts_with("ssh")) else {
            return;
        };
        let what = format!("journald dropped what {unit} wrote, which came too fast");
        let entries = entry.dropped.or(count);
        self.state.book.gap(Gap { what, after: None, until: Some(entry.time), entries });
    }

    /// Nothing more is to be read: whether a line is missing.
    fn look_for_lines(&mut self) {
        if let Some(gap) = self.gate.all_is_read() {
            tracing::error!("{}", gap.what);
            self.state.book.gap(gap);
            self.changed = true;
        }
    }

    /// Nothing has come for a while.
    fn idle(&mut self) {
        let before = self.state.book.is_waiting();
        self.state.book.tick(Timestamp::now(), &self.names.names, |pid| processes::identity(pid).is_none());
        self.changed |= before;
        // While it is full, nothing is read: the lines may be in the journal.
        if !self.state.book.is_full() {
            self.look_for_lines();
        }
        // The bell has told of what `flush` looks at.
        while self.bell.read().is_ok() {}
    }

    /// Gives away what is ready; whether the disk and the ledger took it.
    fn flush(&mut self, again: bool) -> bool {
        let mut answers = self.answers.try_iter().peekable();
        if answers.peek().is_some() {
            let answers: Vec<u64> = answers.collect();
            self.state.book.logins.retain(|login| !answers.contains(&login.id));
            self.changed = true;
        }
        let book = &mut self.state.book;
        let through_the_gate = |login: &Login| self.gate.knows(login.pid, login.time);
        book.logins.retain(|login| !through_the_gate(login));
        let taken = self.record(again);
        if taken && self.saved_at.is_none_or(|at| at.elapsed() >= TICK) && self.changed {
            self.save();
        }
        self.tell_logins();
        self.tell_of_knocks();
        self.tell_of_users_sshds();
        taken
    }

    fn record(&mut self, again: bool) -> bool {
        if self.state.book.out.is_empty() {
            return true;
        }
        if !again && !self.failing {
            self.state.batch += 1;
        }
        if !self.save() {
            self.failing = true;
            return false;
        }
        let batch = self.state.batch;
        let drafts = self.state.book.out.iter().map(|statement| statement.draft(batch)).collect();
        let (done, answer) = std_mpsc::sync_channel(1);
        let maybe_behind = self.state.ledger.clone();
        let statements = Statements { batch, drafts, maybe_behind, again: again || self.failing, done };
        let sent = self.reports.blocking_send(LogReport::Statements(statements));
        // Nobody answers once the daemon stops; what is on disk here is settled by the next start.
        match sent.ok().and_then(|()| answer.recv().ok()).flatten() {
            Some(head) => {
                self.state.ledger = Some(head);
                self.state.book.out.clear();
                (self.changed, self.failing) = (true, false);
                true
            }
            None => {
                self.failing = true;
                false
            }
        }
    }

    fn tell_logins(&mut self) {
        let told = self.told;
        for login in self.state.book.logins.iter().filter(|login| login.id > told) {
            self.told = self.told.max(login.id);
            let report = LogReport::Login(Box::new(login.clone()));
            // Nobody receives once the daemon stops; it is told again by the next start.
            let _ = self.reports.blocking_send(report);
        }
    }

    fn tell_of_knocks(&mut self) {
        let knocks = std::mem::take(&mut self.state.book.knocks);
        if !knocks.is_empty() {
            // Nobody receives once the daemon stops; what waits too long for room is told of no more.
            let _ = self.reports.try_send(LogReport::Knocks(knocks));
        }
    }

    /// Many lines are one reason to look, and what does not fit now is told a moment later.
    fn tell_of_users_sshds(&mut self) {
        if self.users_sshd_logged && self.users_sshd_told.is_none_or(|at| at.elapsed() >= TICK) {
            self.users_sshd_logged = self.reports.try_send(LogReport::UsersSshd).is_err();
            self.users_sshd_told = Some(Instant::now());
        }
    }

    fn save(&mut self) -> bool {
        self.saved_at = Some(Instant::now());
        match self.state.save(Path::new(STATE)) {
            Ok(()) => {
                self.changed = false;
                true
            }
            Err(error) => {
                if !self.failing {
                    tracing::error!(%error, "how far sshd's log is read cannot be kept; it is tried again");
                }
                false
            }
        }
    }

    /// Waits so long, or until the bell rings.
    fn rest(&self, most: Duration) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        // A wait cut short costs a look too early.
        let _ = poll(&mut [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)], timeout);
        while self.bell.read().is_ok() {}
    }
}

/// Which process of whose sshd wrote this, if one did: by syslog(3), or to its standard error. Native entries are
/// somebody else's.
pub(super) fn by_sshd(entry: &Entry) -> Option<(i32, Writer)> {
    let as_sshd_does = matches!(entry.transport.as_str(), "syslog" | "stdout");
    let (uid, pid) = entry.uid.zip(entry.pid).filter(|_| as_sshd_does)?;
    Some((pid, sshd_log::writer(uid, entry.exe.as_deref(), &entry.identifier)?))
}

/// How many entries lie between two cursors, where both are of one sequence.
fn missing(from: &str, to: &str) -> Option<u64> {
    let part = |cursor: &str, name: &str| {
        cursor.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let number = |cursor: &str| u64::from_str_radix(&part(cursor, "i")?, 16).ok();
    if part(from, "s")? != part(to, "s")? {
        return None;
    }
    number(to)?.checked_sub(number(from)? + 1)
}

/// `Suppressed N messages from UNIT`.
fn suppressed(message: &str) -> Option<(Option<u64>, &str)> {
    let (count, unit) = message.strip_prefix("Suppressed ")?.split_once(" messages from ")?;
    Some((count.parse().ok(), unit))
}

#[cfg(test)]
mod tests {
    use lockdown_core::attempts::Statement;

    use super::*;

    #[test]
    fn a_log_whose_place_is_lost_begins_with_a_gap_and_the_first_one_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, now) = (dir.path().join("log.json"), Timestamp::now());
        assert!(load(&path, None, now).book.out.is_empty());
        let gap = |lost| match load(&path, lost, now).book.out.as_slice() {
            [Statement::Gap(gap)] => gap.clone(),
            other => panic!("{other:?}"),
        };
        assert!(gap(Some("this is another host")).what.ends_with("any more: this is another host"));
        std::fs::write(&path, "{}").expect("own file");
        assert_eq!(gap(None).until, Some(now));
    }

    #[test]
    fn what_is_missing_is_counted_where_both_cursors_are_of_one_sequence() {
        assert_eq!(missing("s=a;i=10;b=1", "s=a;i=1f;b=2"), Some(14));
        assert_eq!(missing("s=a;i=10;b=1", "s=a;i=11;b=2"), Some(0));
        assert_eq!(missing("s=a;i=10;b=1", "s=b;i=1f;b=2"), None);
        assert_eq!(missing("s=a;i=10", "s=a;i=9"), None);
        assert_eq!(missing("", "s=a;i=9"), None);
    }

    #[test]
    fn what_journald_dropped_is_read_with_its_unit() {
        assert_eq!(suppressed("Suppressed 25000 messages from ssh.service"), Some((Some(25_000), "ssh.service")));
        assert_eq!(suppressed("Forwarding to syslog missed 3 messages."), None);
    }
}
