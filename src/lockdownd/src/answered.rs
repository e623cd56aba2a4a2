//! Which connections the gate was answered about: by this a login in sshd's log is known to have come through it.
//!
//! One line each, appended, so that a login costs a write of forty bytes; it outlives the daemon and the boot, since
//! sshd's lines are read later than they are written. Losing some to a power cut loses nothing that journald still has. A thread
//! writes them: no login waits for the disk.

use std::{
    collections::{HashSet, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lockdown_core::{
    answered::{Answer, Answers, Expected, MAX_ANSWERS, MAX_EXPECTED},
    attempts::{Gap, Gate, Unheard},
};
use lockdown_host::paths::{self, Durability};

/// Where they are kept while the disk does not take them; for this boot.
pub const ANSWERED_RUN: &str = "/run/lockdownd/answered";
/// Where they are kept.
pub const ANSWERED: &str = "/var/lib/lockdownd/answered";
/// The longest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// How many lines may wait to be written; beyond, the file is written anew once there is room.
const MAX_WAITING: usize = 1_024;

#[derive(Debug)]
struct Inner {
    /// None until what the last run left is taken up.
    files: Vec<ToFile>,
    answers: Answers,
    /// Connections that were found, and are not on record yet.
    unkept: VecDeque<Answer>,
    unheard: Unheard,
    /// What `unheard` counts time from.
    start: Instant,
}

/// One file, and the thread that writes it.
#[derive(Debug)]
struct ToFile {
    path: PathBuf,
    lines: mpsc::SyncSender<Line>,
    /// A line had no room: the file lacks it.
    behind: bool,
}

/// The answers, shared with who reads the log.
#[derive(Debug, Clone)]
pub struct Answered(Arc<Mutex<Inner>>);

impl Answered {
    /// None yet. They are kept in memory alone until those of the last run are taken up.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            files: Vec::new(),
            answers: Answers::default(),
            unkept: VecDeque::new(),
            unheard: Unheard::default(),
            start: Instant::now(),
        })))
    }

    /// Takes up what an earlier run left in these files, and keeps all of them in each from now on: one that is on a disk which
    /// does not answer holds up none of the others.
    ///
    /// # Errors
    /// What could not be read is not known.
    pub fn take_up(&self, paths: &[&Path]) -> io::Result<()> {
        let mut read = Ok(());
        let mut inner = self.inner();
        let mut text = String::new();
        for path in paths {
            if inner.files.iter().any(|file| file.path == **path) {
                continue;
            }
            match paths::read_path(path, MAX_FILE) {
                Ok(bytes) => text.push_str(&format!("{}\n", String::from_utf8_lossy(&bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => read = Err(error),
            }
            if let Some(file) = self.begin(path) {
                inner.files.push(file);
            }
        }
        // Those of this boot are in more than one file.
        let mut seen = HashSet::new();
        let lines: Vec<&str> = text.lines().filter(|line| seen.insert(*line)).collect();
        inner.answers.take_up(lines.iter().filter_map(|line| Answer::parse(line)));
        lines.iter().filter_map(|line| Expected::parse(line)).for_each(|expected| inner.answers.was_expected(expected));
        read
    }

    /// Starts the thread that writes this file.
    fn begin(&self, path: &Path) -> Option<ToFile> {
        let (lines, to_write) = mpsc::sync_channel(MAX_WAITING);
        let kept = Kept { path: path.to_owned(), file: None, lines: usize::MAX, inner: Arc::downgrade(&self.0) };
        let started = thread::Builder::new().name("answers".to_owned()).spawn(move || kept.keep(&to_write));
        started
            .inspect_err(|error| tracing::error!(%error, "the answers to the gate are not kept in {}", path.display()))
            .ok()?;
        Some(ToFile { path: path.to_owned(), lines, behind: false })
    }

    /// Waits until all that was noted is written to every file, this long at most; whether it is.
    #[must_use]
    pub fn flush(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let (done, told) = mpsc::channel();
        // Where there is no file yet, nothing waits to be written.
        let queues: Vec<_> = self.inner().files.iter().map(|file| file.lines.clone()).collect();
        let asked = queues.iter().filter(|lines| lines.try_send(Line::Flush(done.clone())).is_ok()).count();
        let written = || told.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok();
        (0..asked).all(|_| written()) && asked == queues.len()
    }

    /// Notes one answer.
    pub fn note(&self, pid: i32, at: Timestamp, refused: bool) {
        self.inner().note(Answer { pid, from: at, until: at, refused });
    }

    /// Notes that the gate has let one in that is not on record yet: it is not kept, so that a daemon that is killed before
    /// finds it in sshd's log.
    pub fn note_unrecorded(&self, pid: i32, at: Timestamp) {
        self.inner().answers.add(Answer { pid, from: at, until: at, refused: false });
    }

    /// Notes that this process's connection has been found, and is not on record yet: as [`Answered::note_unrecorded`].
    pub fn note_found_unrecorded(&self, pid: i32, began: Timestamp, found: Timestamp) {
        let answer = Answer { pid, from: began, until: found.max(began), refused: false };
        let mut inner = self.inner();
        if inner.answers.add(answer.clone()) {
            if inner.unkept.len() >= MAX_EXPECTED {
                inner.unkept.pop_front();
            }
            inner.unkept.push_back(answer);
        }
    }

    /// Notes that this process's connection is on record already: it began then, and has been found by now.
    pub fn note_found(&self, pid: i32, began: Timestamp, found: Timestamp) {
        let answer = Answer { pid, from: began, until: found.max(began), refused: false };
        let mut inner = self.inner();
        let line = answer.line();
        let is_unkept = inner.unkept.iter().position(|unkept| *unkept == answer);
        is_unkept.map(|index| inner.unkept.remove(index));
        if inner.answers.add(answer) || is_unkept.is_some() {
            inner.write(line);
        }
    }

    /// Notes that this process's connection has passed the account step: the gate is about to be asked again.
    pub fn expect(&self, pid: i32, at: Timestamp) {
        let expected = Expected { pid, at };
        let mut inner = self.inner();
        inner.answers.expect(expected);
        inner.write(expected.line());
    }

    /// Notes that the gate has let in this process's connection: sshd's log has to say so too. Where this run has not seen
    /// its account step, the last run may have read that line already, so that nothing is awaited.
    pub fn let_in(&self, pid: i32, at: Timestamp) {
        let mut inner = self.inner();
        if !inner.answers.expects_here(pid, at) {
            return;
        }
        let now = inner.start.elapsed();
        say_if_whole_again(inner.unheard.let_in(pid, at, now));
    }

    /// sshd's log says that this process has let somebody in.
    pub fn line(&self, pid: i32, time: Timestamp) {
        say_if_whole_again(self.inner().unheard.line(pid, time));
    }

    /// Everything in sshd's log has been read: the gap, where a line has just been found missing.
    #[must_use]
    pub fn all_is_read(&self) -> Option<Gap> {
        let mut inner = self.inner();
        let now = inner.start.elapsed();
        inner.unheard.all_is_read(now)
    }

    /// Whether a line of sshd's is awaited.
    #[must_use]
    pub fn awaits_lines(&self) -> bool {
        self.inner().unheard.awaits()
    }

    /// Since when sshd's log lacks lines on logins that the gate has let in; `None` where it is whole.
    #[must_use]
    pub fn unheard_since(&self) -> Option<Timestamp> {
        self.inner().unheard.since()
    }

    /// Whether the gate is about to be asked about this process's connection, as of around then.
    #[must_use]
    pub fn expects(&self, pid: i32, time: Timestamp) -> bool {
        self.inner().answers.expects(pid, time)
    }

    /// Whether the gate was answered about this process's connection around then.
    #[must_use]
    pub fn knows(&self, pid: i32, time: Timestamp) -> bool {
        self.inner().answers.find(pid, time).is_some()
    }

    /// Whether this process's connection is known otherwise than by the gate's note of this moment.
    #[must_use]
    pub fn knows_without_note(&self, pid: i32, time: Timestamp) -> bool {
        self.inner().answers.knows_without_note(pid, time)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Answered {
    fn refused(&self, pid: i32, time: Timestamp) -> bool {
        self.inner().answers.find(pid, time).is_some_and(|answer| answer.refused)
    }
}

fn say_if_whole_again(is_whole_again: bool) {
    if is_whole_again {
        tracing::warn!("sshd's log is whole again");
    }
}

impl Inner {
    fn note(&mut self, answer: Answer) {
        let line = answer.line();
        if !self.answers.add(answer) {
            return;
        }
        self.write(line);
    }

    fn write(&mut self, line: String) {
        for file in &mut self.files {
            let line = if file.behind { Line::Anew } else { Line::Answer(line.clone()) };
            file.behind = file.lines.try_send(line).is_err();
        }
    }
}

/// What is to be done with the file.
enum Line {
    /// One more.
    Answer(String),
    /// All of them.
    Anew,
    /// Saying when all is written.
    Flush(mpsc::Sender<()>),
}

/// The file, and who writes it.
struct Kept {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
    inner: Weak<Mutex<Inner>>,
}

impl Kept {
    /// Writes what comes, until nobody notes anything any more.
    fn keep(mut self, lines: &mpsc::Receiver<Line>) {
        self.save();
        for line in lines {
            match line {
                Line::Answer(line) => self.add(&line),
                Line::Anew => self.save(),
                // Whoever asked may have given up.
                Line::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn add(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        if self.lines > 2 * MAX_ANSWERS || !self.is_at_its_name() {
            return self.save();
        }
        let written = self.file.as_mut().map(|file| file.write_all(line.as_bytes()));
        if let Some(Err(error)) = written {
            tracing::warn!(path = %self.path.display(), %error, "an answer to the gate could not be noted");
            // A torn line must not swallow the next one.
            self.lines = usize::MAX;
        }
    }

    /// Whether what is written is what the next start will read: somebody may have replaced or removed it.
    fn is_at_its_name(&self) -> bool {
        let place = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let written = self.file.as_ref().and_then(|file| file.metadata().ok()).map(place);
        written.is_some() && written == self.path.symlink_metadata().ok().map(place)
    }

    /// Writes the file anew, and goes on at its end.
    fn save(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return };
        let lines: Vec<String> = {
            let inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.answers.all().map(Answer::line).chain(inner.answers.all_expected().map(Expected::line)).collect()
        };
        drop(inner);
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
        let saved = paths::replace_path(&self.path, lines.concat().as_bytes(), 0o600, Durability::Volatile);
        let file = saved
            .map_err(io::Error::other)
            .and_then(|()| OpenOptions::new().append(true).custom_flags(flags.bits()).open(&self.path))
            .inspect_err(|error| tracing::warn!(path = %self.path.display(), %error, "the answers to the gate could not be kept"));
        (self.file, self.lines) = (file.ok(), lines.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_458_591 + seconds).expect("a moment")
    }

    /// Longer than writing takes on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    fn written(answered: &Answered) {
        assert!(answered.flush(LONG), "it is written some day");
    }

    fn open(dir: &Path) -> Answered {
        let answered = Answered::none();
        answered.take_up(&[&dir.join("answered")]).expect("it reads");
        // What is noted while the file is begun stands in it twice, which says nothing else.
        written(&answered);
        answered
    }

    #[test]
    fn a_line_is_awaited_only_where_the_last_run_cannot_have_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.let_in(7, at(0));
        assert!(!answered.awaits_lines(), "its account step was the last run's");
        answered.expect(8, at(0));
        answered.let_in(8, at(1));
        assert!(answered.awaits_lines());
        answered.line(8, at(0));
        assert!(!answered.awaits_lines());
    }

    #[test]
    fn a_connection_past_the_account_step_is_known_to_the_next_run_which_awaits_no_line_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = open(dir.path());
        before.expect(7, at(0));
        written(&before);
        let answered = open(dir.path());
        assert!(answered.expects(7, at(1)) && !answered.expects(8, at(1)) && !answered.knows(7, at(1)));
        answered.let_in(7, at(1));
        assert!(!answered.awaits_lines());
    }

    #[test]
    fn an_answer_is_known_by_process_and_time_also_to_the_next_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.note(7, at(0), false);
        answered.note(8, at(0), true);
        written(&answered);
        for answered in [answered, open(dir.path())] {
            assert!(answered.knows(7, at(10)) && answered.knows(7, at(-10)));
            assert!(!answered.knows(7, at(31)) && !answered.knows(9, at(0)) && !answered.knows(7, at(31)));
            assert!(answered.refused(8, at(1)) && !answered.refused(7, at(1)));
        }
    }

    #[test]
    fn what_was_noted_outlives_a_file_that_was_replaced_or_removed_meanwhile() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("answered");
        let answered = open(dir.path());
        answered.note(7, at(0), false);
        written(&answered);
        std::fs::copy(&path, dir.path().join("copy")).expect("copied");
        std::fs::rename(dir.path().join("copy"), &path).expect("replaced");
        answered.note(8, at(0), false);
        written(&answered);
        std::fs::remove_file(&path).expect("removed");
        answered.note(9, at(0), false);
        written(&answered);
        let next = open(dir.path());
        assert!([7, 8, 9].into_iter().all(|pid| next.knows(pid, at(0))));
    }

    #[test]
    fn a_connection_that_was_found_is_known_from_its_beginning_until_then() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        answered.note_found(7, at(0), at(600));
        answered.note_found(7, at(0), at(600));
        written(&answered);
        for answered in [answered, open(dir.path())] {
            assert!([-20, 0, 300, 600, 620].into_iter().all(|time| answered.knows(7, at(time))));
            assert!(!answered.knows(7, at(-31)) && !answered.knows(7, at(631)) && !answered.knows(8, at(300)));
        }
        let text = std::fs::read_to_string(dir.path().join("answered")).expect("there");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn what_is_noted_before_the_last_run_is_known_stays_and_comes_into_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = open(dir.path());
        before.note(7, at(0), false);
        written(&before);
        let answered = Answered::none();
        answered.note(8, at(0), false);
        assert!(answered.flush(LONG) && answered.knows(8, at(0)) && !answered.knows(7, at(0)));
        answered.take_up(&[&dir.path().join("answered")]).expect("it reads");
        written(&answered);
        for answered in [answered, open(dir.path())] {
            assert!(answered.knows(7, at(0)) && answered.knows(8, at(0)));
        }
    }

    #[test]
    fn memory_and_file_are_bounded_and_the_newest_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let answered = open(dir.path());
        let many = 3 * i32::try_from(MAX_ANSWERS).expect("small") + 5;
        (0..many).for_each(|pid| answered.note(pid, at(0), false));
        // More than may wait: the rest is made up for with the next.
        written(&answered);
        answered.note(many, at(0), false);
        written(&answered);
        assert!(answered.knows(many - 1, at(0)) && !answered.knows(0, at(0)));
        let lines = std::fs::read_to_string(dir.path().join("answered")).expect("there").lines().count();
        assert!(lines <= 2 * MAX_ANSWERS + 1, "{lines}");
        assert!(open(dir.path()).knows(many - 1, at(0)));
    }

    #[test]
    fn a_torn_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("answered"), "7 1795458591000000 1795458591000000 let_by\n8 17954585")
            .expect("own file");
        let answered = open(dir.path());
        answered.note(9, at(0), false);
        written(&answered);
        assert!(open(dir.path()).knows(7, at(0)) && open(dir.path()).knows(9, at(0)));
    }
}
