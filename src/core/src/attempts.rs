//! Logins as sshd's log tells of them: which connections never got in, and which did.
//!
//! Pure: lines come in with the time that journald gave them, statements and logins come out. One connection that never
//! got in is one failure, whatever number of lines it left; it is stated alone while few come, and with all others of its
//! minute when many do. Everything here is bounded, and every bound keeps the counts exact. The whole of it is kept on
//! disk beside the place in the journal that it stands for, so that a line is counted once and not twice.

mod minute;
mod names;
mod unheard;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, Fingerprint, Source};
use serde::{Deserialize, Serialize};

pub use self::{
    minute::{Failure, MAX_ACCOUNTS, MAX_SOURCES, Minute, WINDOW},
    names::{Named, Names},
    unheard::{LINE_WITHIN, MAX_AWAITED, Unheard},
};
use crate::{
    penalties::Knock,
    sshd_log::{Line, User, What, Why},
};

/// Connections that are under way at most; sshd's `MaxStartups` is far below. Past it the oldest counts as over.
pub const MAX_OPEN: usize = 4_096;
/// Ended connections whose further lines are still known to be theirs.
pub const MAX_ENDED: usize = 256;
/// How long a further line of an ended connection is taken for that: a process id is not used again so soon.
pub const STRAGGLE: SignedDuration = SignedDuration::from_secs(5);
/// A connection that sshd has said nothing more of for so long is over, whatever became of it.
pub const SILENT: SignedDuration = SignedDuration::from_mins(10);
/// Failures that are stated one by one in a burst; the others are summed up by the minute.
pub const SINGLES: u32 = 30;
/// How long until one more may be stated alone.
pub const SINGLE_EVERY: SignedDuration = SignedDuration::from_secs(30);
/// Statements that wait for the ledger at most; while it cannot be written, all further failures go into the minute.
pub const MAX_OUT: usize = 64;
/// Logins that wait to be looked at, at most; the reader waits when they are this many.
pub const MAX_LOGINS: usize = 256;

/// A connection that has not got in yet and has failed at something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    first: Timestamp,
    last: Timestamp,
    user: Option<(String, bool)>,
    source: Option<Source>,
    why: Option<Why>,
    tries: u32,
    method: Option<String>,
}

/// Somebody got in, as sshd says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Counts them, so that the answer can name one.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// sshd's process for the connection.
    pub pid: i32,
    /// The account, as sshd wrote it.
    pub account: String,
    /// By which method.
    pub method: String,
    /// With which key.
    pub fingerprint: Option<Fingerprint>,
    /// From where.
    pub source: Option<Source>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What happened, in words.
    pub what: String,
    /// The last entry that was read before it.
    pub after: Option<Timestamp>,
    /// The first that was read behind it.
    pub until: Option<Timestamp>,
    /// How many entries are missing at most, of whatever program; or exactly, where journald says it.
    pub entries: Option<u64>,
}

impl Gap {
    fn take(&mut self, later: Self) {
        self.until = later.until;
        self.entries = self.entries.zip(later.entries).map(|(one, other)| one.saturating_add(other));
    }

    /// The record of it, as part of a batch.
    fn draft(&self, batch: u64) -> Draft {
        let mut draft = Draft::new(ArtifactType::JournalGap, format!("part of sshd's log is missing: {}", self.what))
            .with("what", self.what.as_str())
            .with("batch", batch);
        if let Some(after) = self.after {
            draft = draft.with("after", after.to_string());
        }
        if let Some(until) = self.until {
            draft = draft.with("until", until.to_string());
        }
        if let Some(entries) = self.entries {
            draft = draft.with("entries_at_most", entries);
        }
        draft
    }
}

/// What is ready to be put on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// One connection that never got in.
    Failed(Failure),
    /// Many, within a minute.
    Sum(Minute),
    /// Something could not be read.
    Gap(Gap),
}

impl Statement {
    /// The record of it, as part of a batch.
    pub fn draft(&self, batch: u64) -> Draft {
        match self {
            Self::Failed(failure) => failure.draft(batch),
            Self::Sum(minute) => minute.draft(batch),
            Self::Gap(gap) => gap.draft(batch),
        }
    }
}

/// Where an entry of root's sshd stands: when journald took it, in which boot, and which process wrote it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// When.
    pub time: Timestamp,
    /// The boot's id, as records write it.
    pub boot: &'a str,
    /// The process.
    pub pid: i32,
}

/// What the gate has refused is on record by that; the log's line about it says nothing new.
pub trait Gate {
    /// Whether the gate refused this process's connection around this time.
    fn refused(&self, pid: i32, time: Timestamp) -> bool;
}

/// All that is known from the log and not yet on record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    boot: String,
    open: BTreeMap<i32, Open>,
    ended: VecDeque<(i32, Timestamp, Option<Source>)>,
    minute: Option<Minute>,
    singles: u32,
    refilled: Option<Timestamp>,
    next_login: u64,
    /// Logins that have not been looked at yet.
    pub logins: Vec<Login>,
    /// What failed since it was last told of: sshd may shut its address out for that.
    #[serde(skip)]
    pub knocks: Vec<Knock>,
    /// What waits for the ledger, in order.
    pub out: Vec<Statement>,
}

impl Book {
    /// Takes one line.
    pub fn take(&mut self, line: Line, place: Place<'_>, names: &Names, gate: &dyn Gate) {
        self.enter(place, names);
        let Line { what, user, source } = line;
        match what {
            What::Accepted { method, fingerprint } => {
                if let Some(open) = self.open.remove(&place.pid).filter(|open| open.tries > 0) {
                    self.fail(open, place.pid, true, names);
                }
                self.remember_end(place.pid, place.time, source.clone());
                self.accepted(method, fingerprint, user, source, place);
            }
            What::Tried { method } => {
                let why = match method.as_str() {
                    "password" | "keyboard-interactive/pam" | "keyboard-interactive" => Some(Why::WrongPassword),
                    _ => None,
                };
                let open = self.opened(place, user, source, names);
                open.tries = open.tries.saturating_add(u32::from(method != "none"));
                why.into_iter().for_each(|why| open.because(why));
                open.method = Some(method);
            }
            What::Noted(why) => {
                self.opened(place, user, source, names).because(why);
            }
            What::Over(why) => self.over(why, user, source, place.pid, place, names, gate),
            What::OverFor { pid, why } => self.over(why, user, source, pid, place, names, gate),
            What::Dropped(why) => {
                self.knocked(source.as_ref(), place.time, why);
                let open = Open { why: Some(why), ..self.blank(place, None, source) };
                self.fail(open, place.pid, false, names);
            }
        }
    }

    /// Notes that something could not be read.
    pub fn gap(&mut self, gap: Gap) {
        let full = self.out.len() >= MAX_OUT;
        match self.out.last_mut() {
            // While nothing can be recorded, one gap takes all.
            Some(Statement::Gap(last)) if full => last.take(gap),
            _ => self.out.push(Statement::Gap(gap)),
        }
    }

    /// Time has passed and nothing came: connections that are over without a word, and the minute, are closed.
    pub fn tick(&mut self, now: Timestamp, names: &Names, is_gone: impl Fn(i32) -> bool) {
        let over = |open: &Open, pid| {
            let silent = now.duration_since(open.last);
            silent >= SILENT || (silent >= STRAGGLE && is_gone(pid))
        };
        let over: Vec<i32> = self.open.iter().filter(|(pid, open)| over(open, **pid)).map(|(pid, _)| *pid).collect();
        for pid in over {
            self.close(pid, names);
        }
        self.close_minute(now);
    }

    /// Whether anything is under way for which [`Book::tick`] has to be called.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty() || self.minute.is_some()
    }

    /// Whether no more may be taken until what waits has gone.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.logins.len() >= MAX_LOGINS
    }

    /// After a boot nobody of the last one is still connected; and a minute is over by the entries' own time.
    fn enter(&mut self, place: Place<'_>, names: &Names) {
        if self.boot != place.boot {
            let open: Vec<i32> = self.open.keys().copied().collect();
            open.into_iter().for_each(|pid| self.close(pid, names));
            self.ended.clear();
            place.boot.clone_into(&mut self.boot);
        }
        self.close_minute(place.time);
    }

    fn blank(&self, place: Place<'_>, user: Option<User>, source: Option<Source>) -> Open {
        let user = user.map(|user| (user.name, user.valid));
        Open { first: place.time, last: place.time, user, source, why: None, tries: 0, method: None }
    }

    /// The connection of this process, with what a line adds to what is known of it. One from elsewhere is another: the
    /// process id is used again.
    fn opened(&mut self, place: Place<'_>, user: Option<User>, source: Option<Source>, names: &Names) -> &mut Open {
        if self.open.get(&place.pid).is_some_and(|open| open.is_from_elsewhere(source.as_ref())) {
            self.close(place.pid, names);
        }
        if !self.open.contains_key(&place.pid) {
            self.make_room(names);
        }
        let blank = self.blank(place, user.clone(), source.clone());
        let open = self.open.entry(place.pid).or_insert(blank);
        open.learn(place.time, user, source);
        open
    }

    #[allow(clippy::too_many_arguments)]
    fn over(
        &mut self,
        why: Why,
        user: Option<User>,
        source: Option<Source>,
        pid: i32,
        place: Place<'_>,
        names: &Names,
        gate: &dyn Gate,
    ) {
        if self.open.get(&pid).is_some_and(|open| open.is_from_elsewhere(source.as_ref())) {
            self.close(pid, names);
        }
        let known = self.open.remove(&pid);
        if known.is_none() && self.has_ended(pid, place.time, source.as_ref()) {
            return;
        }
        let at = known.as_ref().and_then(|open| open.source.clone()).or_else(|| source.clone());
        self.remember_end(pid, place.time, at.clone());
        self.knocked(at.as_ref(), place.time, known.as_ref().and_then(|open| open.why).unwrap_or(why));
        if gate.refused(pid, place.time) {
            return;
        }
        let mut open = known.unwrap_or_else(|| self.blank(place, user.clone(), source.clone()));
        open.learn(place.time, user, source);
        open.because(why);
        self.fail(open, pid, false, names);
    }

    /// Past the bound nothing is told of: whoever follows the log takes them after every few lines.
    fn knocked(&mut self, source: Option<&Source>, time: Timestamp, why: Why) {
        let address = source.and_then(|source| source.address);
        if let Some(address) = address.filter(|_| self.knocks.len() < MAX_OPEN) {
            self.knocks.push(Knock { address, time, why });
        }
    }

    fn has_ended(&self, pid: i32, time: Timestamp, source: Option<&Source>) -> bool {
        let is_it = |(ended, at, from): &(i32, Timestamp, Option<Source>)| {
            *ended == pid && time.duration_since(*at).abs() < STRAGGLE && !differ(from.as_ref(), source)
        };
        self.ended.iter().any(is_it)
    }

    fn remember_end(&mut self, pid: i32, time: Timestamp, source: Option<Source>) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((pid, time, source));
    }

    /// A connection is over without a line that says so.
    fn close(&mut self, pid: i32, names: &Names) {
        let Some(open) = self.open.remove(&pid) else { return };
        self.remember_end(pid, open.last, open.source.clone());
        self.fail(open, pid, false, names);
    }

    /// One connection never got in (or failed first): stated alone or in the minute.
    fn fail(&mut self, open: Open, pid: i32, got_in: bool, names: &Names) {
        let time = open.last;
        let failure = Failure::new(open.into(), pid, got_in, names);
        self.refill(time);
        let minute = self.minute.get_or_insert_with(|| Minute::begin(time));
        let first = minute.is_first_from(failure.source.as_ref());
        if first && self.singles > 0 && self.out.len() < MAX_OUT {
            self.singles -= 1;
            minute.seen(failure.source.as_ref());
            self.out.push(Statement::Failed(failure));
        } else {
            minute.add(&failure);
        }
    }

    /// Makes room for one more connection: the oldest count as over, many at once since looking for them takes a while.
    fn make_room(&mut self, names: &Names) {
        if self.open.len() < MAX_OPEN {
            return;
        }
        let mut by_age: Vec<(Timestamp, i32)> = self.open.iter().map(|(pid, open)| (open.last, *pid)).collect();
        by_age.sort_unstable();
        by_age.into_iter().take(MAX_OPEN / 16).for_each(|(_, pid)| self.close(pid, names));
    }

    fn refill(&mut self, now: Timestamp) {
        let since = *self.refilled.get_or_insert_with(|| {
            self.singles = SINGLES;
            now
        });
        let passed = now.duration_since(since).as_secs() / SINGLE_EVERY.as_secs();
        if passed != 0 {
            self.singles =
                u32::try_from(passed).map_or(self.singles, |more| self.singles.saturating_add(more)).min(SINGLES);
            self.refilled = Some(now);
        }
    }

    fn close_minute(&mut self, now: Timestamp) {
        let is_over = |minute: &Minute| now.duration_since(minute.since).abs() >= WINDOW;
        // While nothing can be recorded, one minute takes all.
        if self.out.len() >= MAX_OUT || !self.minute.as_ref().is_some_and(is_over) {
            return;
        }
        let minute = self.minute.take().filter(|minute| minute.count > 0);
        self.out.extend(minute.map(Statement::Sum));
    }

    fn accepted(
        &mut self,
        method: String,
        fingerprint: Option<Fingerprint>,
        user: Option<User>,
        source: Option<Source>,
        place: Place<'_>,
    ) {
        self.next_login += 1;
        let account = user.map(|user| user.name).unwrap_or_default();
        let (id, time, pid) = (self.next_login, place.time, place.pid);
        self.logins.push(Login { id, time, pid, account, method, fingerprint, source });
    }
}

impl Open {
    /// Of several reasons the one that tells most stays.
    fn because(&mut self, why: Why) {
        self.why = Some(self.why.map_or(why, |known| if why.tells() > known.tells() { why } else { known }));
    }

    /// Whether a line with this source is of another connection: address or port differ.
    fn is_from_elsewhere(&self, source: Option<&Source>) -> bool {
        differ(self.source.as_ref(), source)
    }

    fn learn(&mut self, time: Timestamp, user: Option<User>, source: Option<Source>) {
        self.last = self.last.max(time);
        // sshd takes one name a connection; of two lines the later knows whether it is an account's.
        if let Some(user) = user {
            let known_invalid = self.user.as_ref().is_some_and(|(_, valid)| !valid);
            self.user = Some((user.name, user.valid && !known_invalid));
        }
        match (&mut self.source, source) {
            (Some(known), Some(more)) if known.port.is_none() && more.port.is_some() => *known = more,
            (known @ None, more) => *known = more,
            _ => {}
        }
    }
}

/// Whether two places where connections come from cannot be one.
fn differ(one: Option<&Source>, other: Option<&Source>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.address != other.address || one.port.zip(other.port).is_some_and(|(one, other)| one != other)
}

impl From<Open> for minute::Facts {
    fn from(open: Open) -> Self {
        let Open { first, last, user, source, why, tries, method } = open;
        Self { first, last, user, source, why: why.unwrap_or(Why::Other), tries, method }
    }
}

#[cfg(test)]
mod tests;
