//! Which connections the gate was answered about: by this a login in sshd's log is known to have come through it.
//!
//! One line each, appended, so that a login costs a write of forty bytes; it outlives the daemon and the boot, since
//! sshd's lines are read later than they are written. Losing some to a power cut loses nothing that journald still has.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use lockdown_core::attempts::{Gap, Gate};
use lockdown_host::paths::{self, Durability};

use crate::attempts::Unheard;

/// Where they are kept.
pub const ANSWERED: &str = "/var/lib/lockdownd/answered";
/// How many answers are known; the oldest go first. More than sshd lets in within a minute.
pub const MAX_ANSWERS: usize = 8_192;
/// How long the gate's answer may come after sshd's line, or before it: it waits ten seconds for a daemon that hangs.
pub const AROUND: SignedDuration = SignedDuration::from_secs(30);
/// Of how many connections it is known that their session step is still to come; the oldest go first. Not kept on disk:
/// where it is not known, a connection that nobody was asked about is only waited for less long.
pub const MAX_EXPECTED: usize = 1_024;
/// The longest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// One answer. Of a connection that was found instead, `from` is when its process began and `until` when it was found: any
/// line of that process in between is this connection's, however long somebody took to type a password.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    pid: i32,
    from: Timestamp,
    until: Timestamp,
    refused: bool,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
    answers: VecDeque<Answer>,
    expected: VecDeque<(i32, Timestamp)>,
    unheard: Unheard,
}

/// The answers, shared with who reads the log.
#[derive(Debug, Clone)]
pub struct Answered(Arc<Mutex<Inner>>);

impl Answered {
    /// Takes up what the last run left. What cannot be read is not known, and the caller says so.
    #[must_use]
    pub fn open(path: &Path) -> (Self, Option<io::Error>) {
        let (text, error) = match paths::read_path(path, MAX_FILE) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), None),
            Err(error) => (String::new(), Some(error)),
        };
        let mut answers: VecDeque<Answer> = text.lines().filter_map(Answer::parse).collect();
        answers.drain(..answers.len().saturating_sub(MAX_ANSWERS));
        let mut inner = Inner {
            path: path.to_owned(),
            file: None,
            lines: usize::MAX,
            answers,
            expected: VecDeque::new(),
            unheard: Unheard::default(),
        };
        inner.save();
        (Self(Arc::new(Mutex::new(inner))), error)
    }

    /// Notes one answer.
    pub fn note(&self, pid: i32, at: Timestamp, refused: bool) {
        self.add(Answer { pid, from: at, until: at, refused });
    }

    /// Notes that this process's connection is on record already: it began then, and has been found by now.
    pub fn note_found(&self, pid: i32, began: Timestamp, found: Timestamp) {
        self.add(Answer { pid, from: began, until: found.max(began), refused: false });
    }

    fn add(&self, answer: Answer) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.answers.contains(&answer) {
            inner.note(answer);
        }
    }

    /// Notes that this process's connection has passed the account step: the gate is about to be asked again.
    pub fn expect(&self, pid: i32, at: Timestamp) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.expected.len() >= MAX_EXPECTED {
            inner.expected.pop_front();
        }
        inner.expected.push_back((pid, at));
    }

    /// Notes that the gate has let in this process's connection: sshd's log has to say so too.
    pub fn let_in(&self, pid: i32, at: Timestamp) {
        self.unheard(|unheard| unheard.let_in(pid, at, Instant::now()));
    }

    /// sshd's log says that this process has let somebody in.
    pub fn line(&self, pid: i32, time: Timestamp) {
        self.unheard(|unheard| unheard.line(pid, time));
    }

    /// Everything in sshd's log has been read: the gap, where a line has just been found missing.
    #[must_use]
    pub fn all_is_read(&self) -> Option<Gap> {
        self.unheard(|unheard| unheard.all_is_read(Instant::now()))
    }

    /// Whether a line of sshd's is awaited.
    #[must_use]
    pub fn awaits_lines(&self) -> bool {
        self.unheard(|unheard| unheard.awaits())
    }

    /// Since when sshd's log lacks lines on logins that the gate has let in; `None` where it is whole.
    #[must_use]
    pub fn unheard_since(&self) -> Option<Timestamp> {
        self.unheard(|unheard| unheard.since())
    }

    fn unheard<T>(&self, act: impl FnOnce(&mut Unheard) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).unheard)
    }

    /// Whether the gate is about to be asked about this process's connection, as of around then.
    #[must_use]
    pub fn expects(&self, pid: i32, time: Timestamp) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.expected.iter().any(|(of, at)| *of == pid && at.duration_since(time).abs() <= AROUND)
    }

    /// Whether the gate was answered about this process's connection around then.
    #[must_use]
    pub fn knows(&self, pid: i32, time: Timestamp) -> bool {
        self.find(pid, time).is_some()
    }

    fn find(&self, pid: i32, time: Timestamp) -> Option<Answer> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_near = |a: &Answer| a.from.duration_since(time) <= AROUND && time.duration_since(a.until) <= AROUND;
        let of = |a: &&Answer| a.pid == pid && is_near(a);
        inner.answers.iter().rev().find(of).cloned()
    }
}

impl Gate for Answered {
    fn refused(&self, pid: i32, time: Timestamp) -> bool {
        self.find(pid, time).is_some_and(|answer| answer.refused)
    }
}

impl Answer {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (pid, from, until, refused) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let moment = |word: &str| Timestamp::from_microsecond(word.parse().ok()?).ok();
        let refused = match refused {
            "refused" => true,
            "let_by" => false,
            _ => return None,
        };
        Some(Self { pid: pid.parse().ok()?, from: moment(from)?, until: moment(until)?, refused })
    }

    fn line(&self) -> String {
        let word = if self.refused { "refused" } else { "let_by" };
        format!("{} {} {} {word}\n", self.pid, self.from.as_microsecond(), self.until.as_microsecond())
    }
}

impl Inner {
    fn note(&mut self, answer: Answer) {
        let line = answer.line();
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
        self.lines = self.lines.saturating_add(1);
        if self.lines > 2 * MAX_ANSWERS {
            return self.save();
        }
        let written = self.file.as_mut().map(|file| file.write_all(line.as_bytes()));
        if let Some(Err(error)) = written {
            tracing::warn!(path = %self.path.display(), %error, "an answer to the gate could not be noted");
            // A torn line must not swallow the next one.
            self.lines = usize::MAX;
        }
    }

    /// Writes the file anew, and goes on at its end.
    fn save(&mut self) {
        let text: String = self.answers.iter().map(Answer::line).collect();
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
        let saved =
            paths::replace_path(&self.path, text.as_bytes(), 0o600, Durability::Volatile).map_err(io::Error::other);
        let file = saved
            .and_then(|()| OpenOptions::new().append(true).custom_flags(flags.bits()).open(&self.path))
            .inspect_err(|error| tracing::warn!(path = %self.path.display(), %error, "the answers to the gate could not be kept"));
        (self.file, self.lines) = (file.ok(), self.answers.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_458_591 + seconds).expect("a moment")
    }

    fn open(dir: &Path) -> Answered {
        let (answered, error) = Answered::open(&dir.join("answered"));
        assert!(error.is_none());
        answered
    }

    #[test]
    fn an_answer_is_known_by_process_and_time_also_to_the_next_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.note(7, at(0), false);
        answered.note(8, at(0), true);
        for answered in [answered, open(dir.path())] {
            assert!(answered.knows(7, at(10)) && answered.knows(7, at(-10)));
            assert!(!answered.knows(7, at(31)) && !answered.knows(9, at(0)) && !answered.knows(7, at(31)));
            assert!(answered.refused(8, at(1)) && !answered.refused(7, at(1)));
        }
    }

    #[test]
    fn a_connection_that_was_found_is_known_from_its_beginning_until_then() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.note_found(7, at(0), at(600));
        answered.note_found(7, at(0), at(600));
        for answered in [answered, open(dir.path())] {
            assert!([-20, 0, 300, 600, 620].into_iter().all(|time| answered.knows(7, at(time))));
            assert!(!answered.knows(7, at(-31)) && !answered.knows(7, at(631)) && !answered.knows(8, at(300)));
        }
        let text = std::fs::read_to_string(dir.path().join("answered")).expect("there");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn memory_and_file_are_bounded_and_the_newest_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        let many = 3 * i32::try_from(MAX_ANSWERS).expect("small") + 5;
        (0..many).for_each(|pid| answered.note(pid, at(0), false));
        assert!(answered.knows(many - 1, at(0)) && !answered.knows(0, at(0)));
        let lines = std::fs::read_to_string(dir.path().join("answered")).expect("there").lines().count();
        assert!(lines <= 2 * MAX_ANSWERS + 1, "{lines}");
        assert!(open(dir.path()).knows(many - 1, at(0)));
    }

    #[test]
    fn a_connection_past_the_account_step_is_expected_back_and_only_so_many_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.expect(7, at(0));
        assert!(answered.expects(7, at(20)) && !answered.knows(7, at(0)));
        assert!(!answered.expects(7, at(31)) && !answered.expects(8, at(0)));
        (0..i32::try_from(MAX_EXPECTED).expect("small")).for_each(|pid| answered.expect(10_000 + pid, at(0)));
        assert!(!answered.expects(7, at(0)) && answered.expects(10_000, at(0)));
    }

    #[test]
    fn a_torn_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("answered"), "7 1795458591000000 1795458591000000 let_by\n8 17954585")
            .expect("own file");
        let answered = open(dir.path());
        answered.note(9, at(0), false);
        assert!(open(dir.path()).knows(7, at(0)) && open(dir.path()).knows(9, at(0)));
    }
}
