//! Whether sshd's log is whole: each login that the gate let in has a line of sshd's, "Accepted …".
//!
//! What is set in journald or in sshd's unit (`Storage=`, `MaxLevelStore=`, `LogLevelMax=`, `LogNamespace=`) may keep those
//! lines away, and with them those on failed logins. No setting is judged: a line that does not come says it.

use std::{collections::VecDeque, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::Gap;

/// How long after the gate's answer the line may come, once all that is in the journal has been read.
pub const LINE_WITHIN: Duration = Duration::from_secs(15);
/// For how many logins a line is awaited, and how many lines are remembered whose login is not known yet.
pub const MAX_AWAITED: usize = 1_024;
/// How far sshd's clock of a line and the gate's answer may lie apart.
const AROUND: SignedDuration = SignedDuration::from_secs(30);

/// A login that the gate let in.
#[derive(Debug, Clone, Copy)]
struct LetIn {
    pid: i32,
    at: Timestamp,
    answered: Duration,
}

/// Which lines are awaited. `now` is always of one clock that is never set.
#[derive(Debug, Default)]
pub struct Unheard {
    awaited: VecDeque<LetIn>,
    lines: VecDeque<(i32, Timestamp)>,
    /// The newest login whose line did not come, while none has come since.
    missed: Option<LetIn>,
    /// The first of those.
    since: Option<Timestamp>,
}

impl Unheard {
    /// The gate has let in the connection of this process. Whether the log is whole again.
    pub fn let_in(&mut self, pid: i32, at: Timestamp, now: Duration) -> bool {
        let one = LetIn { pid, at, answered: now };
        if self.lines.iter().any(|line| is_of(*line, &one)) {
            return self.came(&one);
        }
        push(&mut self.awaited, one);
        false
    }

    /// sshd's log says that this process has let somebody in. Whether the log is whole again.
    pub fn line(&mut self, pid: i32, time: Timestamp) -> bool {
        push(&mut self.lines, (pid, time));
        let of = self.awaited.iter().position(|one| is_of((pid, time), one));
        of.and_then(|index| self.awaited.remove(index)).is_some_and(|one| self.came(&one))
    }

    fn came(&mut self, one: &LetIn) -> bool {
        let whole_again = self.missed.is_some_and(|missed| missed.answered < one.answered);
        if whole_again {
            (self.missed, self.since) = (None, None);
        }
        whole_again
    }

    /// All that is in the journal has been read. The gap, where the first line is missing now.
    pub fn all_is_read(&mut self, now: Duration) -> Option<Gap> {
        let was_whole = self.missed.is_none();
        while let Some(one) = self.awaited.front().filter(|one| now >= one.answered + LINE_WITHIN) {
            self.since.get_or_insert(one.at);
            self.missed = self.awaited.pop_front();
        }
        let what = "sshd's line about a login that the gate let in did not come".to_owned();
        let gap = Gap { what, after: self.since, until: None, entries: None };
        (was_whole && self.missed.is_some()).then_some(gap)
    }

    /// Whether a line is awaited.
    #[must_use]
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Since when lines do not come; `None` where the log is whole as far as is known.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }
}

fn is_of((pid, time): (i32, Timestamp), one: &LetIn) -> bool {
    one.pid == pid && one.at.duration_since(time).abs() <= AROUND
}

fn push<T>(queue: &mut VecDeque<T>, one: T) {
    if queue.len() >= MAX_AWAITED {
        queue.pop_front();
    }
    queue.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_458_591 + seconds).expect("a moment")
    }

    #[test]
    fn a_line_may_come_before_the_answer_or_after_it_and_one_that_does_not_is_one_gap_until_another_comes() {
        let (mut log, start) = (Unheard::default(), Duration::from_secs(100));
        let after = |seconds| start + Duration::from_secs(seconds);
        log.let_in(7, at(0), start);
        log.line(7, at(0));
        log.line(8, at(1));
        log.let_in(8, at(1), after(1));
        assert!(log.all_is_read(after(60)).is_none() && log.since().is_none());
        log.let_in(9, at(70), after(70));
        assert!(log.all_is_read(after(84)).is_none());
        assert_eq!(log.all_is_read(after(85)).expect("a gap").after, Some(at(70)));
        log.let_in(10, at(90), after(90));
        assert!(log.all_is_read(after(110)).is_none(), "it is the same gap");
        assert_eq!(log.since(), Some(at(70)));
        // A late line of the one that was missed changes nothing; the next that comes in time ends it.
        assert!(!log.line(10, at(90)) && log.since().is_some());
        log.let_in(11, at(120), after(120));
        assert!(log.line(11, at(120)));
        assert!(log.since().is_none());
        log.let_in(12, at(130), after(130));
        assert!(log.all_is_read(after(150)).is_some(), "another one");
    }

    #[test]
    fn a_line_of_another_time_is_another_process_and_memory_is_bounded() {
        let (mut log, start) = (Unheard::default(), Duration::from_secs(100));
        log.line(7, at(-3_600));
        log.let_in(7, at(0), start);
        assert!(log.all_is_read(start + LINE_WITHIN).is_some());
        for pid in 0..3_000 {
            log.let_in(pid, at(1), start);
            log.line(pid + 10_000, at(1));
        }
        assert!(log.awaited.len() <= MAX_AWAITED && log.lines.len() <= MAX_AWAITED);
    }
}
