//! Which connections the gate was answered about: by this a login in sshd's log is known to have come through it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// How many answers are known; the oldest go first. More than sshd lets in within a minute.
pub const MAX_ANSWERS: usize = 8_192;
/// How long the gate's answer may come after sshd's line, or before it: it waits ten seconds for a daemon that hangs.
pub const AROUND: SignedDuration = SignedDuration::from_secs(30);
/// Of how many connections it is known that their session step is still to come; the oldest go first.
pub const MAX_EXPECTED: usize = 1_024;

/// One answer. Of a connection that was found instead, `from` is when its process began and `until` when it was found: any
/// line of that process in between is this connection's, however long somebody took to type a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The connection's process.
    pub pid: i32,
    /// When, or from when on.
    pub from: Timestamp,
    /// The same, or until when.
    pub until: Timestamp,
    /// Whether it was refused.
    pub refused: bool,
}

impl Answer {
    /// Reads [`Answer::line`].
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
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

    /// One line of text, as it is kept.
    #[must_use]
    pub fn line(&self) -> String {
        let word = if self.refused { "refused" } else { "let_by" };
        format!("{} {} {} {word}\n", self.pid, self.from.as_microsecond(), self.until.as_microsecond())
    }
}

/// A connection that the gate is about to ask about again, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The connection's process.
    pub pid: i32,
    /// When it passed the account step.
    pub at: Timestamp,
}

impl Expected {
    /// Reads [`Expected::line`].
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(' ')?;
        let at = Timestamp::from_microsecond(rest.strip_suffix(" expected")?.parse().ok()?).ok()?;
        Some(Self { pid: pid.parse().ok()?, at })
    }

    fn is(&self, pid: i32, time: Timestamp) -> bool {
        self.pid == pid && self.at.duration_since(time).abs() <= AROUND
    }

    /// One line of text.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} expected\n", self.pid, self.at.as_microsecond())
    }
}

/// The newest answers, and the connections that the gate is about to ask about again.
#[derive(Debug, Default)]
pub struct Answers {
    answers: VecDeque<Answer>,
    expected: VecDeque<Expected>,
    /// Those of the run before.
    expected_before: VecDeque<Expected>,
}

impl Answers {
    /// Adds an answer; whether it is news.
    pub fn add(&mut self, answer: Answer) -> bool {
        if self.answers.contains(&answer) {
            return false;
        }
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
        true
    }

    /// Takes up those of an earlier run, oldest first: they come before those that are known, and of more than
    /// [`MAX_ANSWERS`] the newest stay.
    pub fn take_up(&mut self, earlier: impl IntoIterator<Item = Answer>) {
        let known = std::mem::take(&mut self.answers);
        self.answers.extend(earlier.into_iter().chain(known));
        self.answers.drain(..self.answers.len().saturating_sub(MAX_ANSWERS));
    }

    /// Every answer, oldest first.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Answer> {
        self.answers.iter()
    }

    /// This process's connection has passed the account step: the gate is about to be asked again.
    pub fn expect(&mut self, expected: Expected) {
        keep_newest(&mut self.expected, expected);
    }

    /// The same, in the run before.
    pub fn was_expected(&mut self, expected: Expected) {
        keep_newest(&mut self.expected_before, expected);
    }

    /// Every connection whose session step is still to come, as far as known.
    pub fn all_expected(&self) -> impl ExactSizeIterator<Item = &Expected> {
        self.expected.iter()
    }

    /// Whether the gate is about to be asked about this process's connection, as of around then.
    #[must_use]
    pub fn expects(&self, pid: i32, time: Timestamp) -> bool {
        self.expects_here(pid, time) || self.expected_before.iter().any(|expected| expected.is(pid, time))
    }

    /// The same, by what this run was asked.
    #[must_use]
    pub fn expects_here(&self, pid: i32, time: Timestamp) -> bool {
        self.expected.iter().any(|expected| expected.is(pid, time))
    }

    /// What the gate was answered about this process's connection around then; the newest.
    #[must_use]
    pub fn find(&self, pid: i32, time: Timestamp) -> Option<&Answer> {
        self.answers.iter().rev().find(|answer| answer.pid == pid && is_near(answer, time))
    }

    /// Whether it is known otherwise than by the gate's note of this moment that this process's connection was let in: by an
    /// answer at its session step, or since it was found.
    #[must_use]
    pub fn knows_without_note(&self, pid: i32, time: Timestamp) -> bool {
        let is_notes = |answer: &Answer| answer.from == time && answer.until == time;
        let is_its = |answer: &&Answer| answer.pid == pid && !answer.refused && is_near(answer, time);
        self.answers.iter().filter(is_its).any(|answer| !is_notes(answer))
    }
}

fn is_near(answer: &Answer, time: Timestamp) -> bool {
    answer.from.duration_since(time) <= AROUND && time.duration_since(answer.until) <= AROUND
}

/// Whether one login can have come to its second step at `later`, where the gate asked about its first at `time`.
#[must_use]
pub fn is_soon_after(later: Timestamp, time: Timestamp) -> bool {
    later > time && later.duration_since(time) <= AROUND
}

fn keep_newest(list: &mut VecDeque<Expected>, expected: Expected) {
    if list.len() >= MAX_EXPECTED {
        list.pop_front();
    }
    list.push_back(expected);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_458_591 + seconds).expect("a moment")
    }

    #[test]
    fn a_connection_past_the_account_step_is_expected_back_and_only_so_many_are() {
        let mut answers = Answers::default();
        let expected = |pid| Expected { pid, at: at(0) };
        answers.expect(expected(7));
        assert_eq!(Expected::parse(expected(7).line().trim_end()), Some(expected(7)));
        assert!(answers.expects(7, at(20)) && answers.find(7, at(0)).is_none());
        assert!(!answers.expects(7, at(31)) && !answers.expects(8, at(0)));
        (0..i32::try_from(MAX_EXPECTED).expect("small")).for_each(|pid| answers.expect(expected(10_000 + pid)));
        assert!(!answers.expects(7, at(0)) && answers.expects(10_000, at(0)));
        answers.was_expected(expected(7));
        assert!(answers.expects(7, at(0)) && !answers.expects_here(7, at(0)), "in the run before");
    }

    #[test]
    fn who_was_let_in_at_the_second_step_or_found_is_told_from_who_only_left_a_note_at_the_first() {
        let mut answers = Answers::default();
        let at_once = |pid, from, refused| Answer { pid, from, until: from, refused };
        answers.add(at_once(7, at(0), false));
        answers.add(at_once(8, at(2), false));
        answers.add(at_once(9, at(2), true));
        answers.add(at_once(10, at(31), false));
        answers.add(Answer { pid: 11, from: at(-2), until: at(1), refused: false });
        answers.add(Answer { pid: 13, from: at(0), until: at(5), refused: false });
        let known = [7, 8, 9, 10, 11, 12, 13].map(|pid| answers.knows_without_note(pid, at(0)));
        assert_eq!(known, [false, true, false, false, true, false, true]);
    }

    #[test]
    fn an_answer_is_found_by_process_and_time_and_those_of_an_earlier_run_come_before() {
        let one = |pid, second, refused| Answer { pid, from: at(second), until: at(second), refused };
        let mut answers = Answers::default();
        for answer in [one(7, 100, true), one(7, 110, false), one(8, 110, true)] {
            assert_eq!(Answer::parse(answer.line().trim_end()), Some(answer.clone()));
            answers.add(answer);
        }
        let found = |answers: &Answers, pid, second| answers.find(pid, at(second)).cloned();
        assert_eq!(found(&answers, 7, 105), Some(one(7, 110, false)), "the newest");
        assert_eq!((found(&answers, 7, 140), found(&answers, 7, 141)), (Some(one(7, 110, false)), None));
        assert_eq!((found(&answers, 7, 70), found(&answers, 7, 69)), (Some(one(7, 100, true)), None));
        assert_eq!(found(&answers, 9, 105), None);
        answers.take_up([one(7, 10, true)]);
        assert_eq!(found(&answers, 7, 10), Some(one(7, 10, true)));
        assert_eq!(answers.all().map(|answer| (answer.pid, answer.from)).next(), Some((7, at(10))));
        answers.take_up((0..MAX_ANSWERS).map(|_| one(1, 0, false)));
        assert!(answers.all().len() == MAX_ANSWERS && found(&answers, 8, 110).is_some(), "the newest stay");
    }

    #[test]
    fn a_second_step_is_of_the_same_login_only_soon_after_the_first() {
        let soon = [(1, 0), (30, 0), (31, 0), (0, 0), (0, 1)].map(|(later, first)| is_soon_after(at(later), at(first)));
        assert_eq!(soon, [true, true, false, false, false]);
    }

    #[test]
    fn an_answer_is_kept_once_and_read_back_as_it_was() {
        let answer = Answer { pid: 7, from: at(0), until: at(600), refused: true };
        assert_eq!(Answer::parse(answer.line().trim_end()), Some(answer.clone()));
        let mut answers = Answers::default();
        assert!(answers.add(answer.clone()) && !answers.add(answer));
        assert_eq!(answers.all().len(), 1);
    }
}
