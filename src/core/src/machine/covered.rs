//! What a commit makes known as being on record.

use std::{collections::BTreeSet, path::PathBuf};

use jiff::Timestamp;
use record::{GrantId, SessionId};

use crate::policy::schedule::LastLockdown;

/// The most of each that is remembered while the disk does not take it. What is beyond is, after a restart, looked for in the
/// ledger.
const MAX_EACH: usize = 16_384;

/// What is on record once a commit is on disk.
#[derive(Debug, Default)]
pub struct Covered {
    /// Grants whose end is.
    pub ends: BTreeSet<GrantId>,
    /// Sessions whose opening is.
    pub sessions: BTreeSet<SessionId>,
    /// Sessions whose end is.
    pub gone: BTreeSet<SessionId>,
    /// Up to when scheduled lockdowns are.
    pub lockdown: Option<Option<LastLockdown>>,
    /// Notes of logins to exempt accounts that are.
    pub notes: BTreeSet<PathBuf>,
    /// Logins that came past the gate and are: sshd's process, and when.
    pub logins: Vec<(i32, Timestamp)>,
    /// Connections that were found and are: sshd's process, since when it is there, and when that was.
    pub found: Vec<(i32, Timestamp, Timestamp)>,
}

impl Covered {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { ends, sessions, gone, lockdown, notes, logins, found } = self;
        (ends.is_empty() && sessions.is_empty() && gone.is_empty() && lockdown.is_none())
            && (notes.is_empty() && logins.is_empty() && found.is_empty())
    }

    /// Whether it has something that others than the core keep.
    pub(super) fn tells_others(&self) -> bool {
        !(self.notes.is_empty() && self.logins.is_empty() && self.found.is_empty())
    }

    /// Adds what a later commit covers, or an earlier one that has failed.
    pub fn merge(&mut self, other: Self) {
        let Self { ends, sessions, gone, lockdown, notes, logins, found } = other;
        add(&mut self.ends, ends);
        add(&mut self.sessions, sessions);
        add(&mut self.gone, gone);
        add(&mut self.notes, notes);
        add_in_order(&mut self.logins, logins);
        add_in_order(&mut self.found, found);
        // The later one: scheduled lockdowns go forward, and the schedule may have been taken away.
        self.lockdown = match (self.lockdown.take(), lockdown) {
            (Some(Some(one)), Some(Some(other))) if one.done_to > other.done_to => Some(Some(one)),
            (one, other) => other.or(one),
        };
    }
}

fn add<T: Ord>(to: &mut BTreeSet<T>, more: BTreeSet<T>) {
    let room = MAX_EACH.saturating_sub(to.len());
    to.extend(more.into_iter().take(room));
}

fn add_in_order<T>(to: &mut Vec<T>, more: Vec<T>) {
    let room = MAX_EACH.saturating_sub(to.len());
    to.extend(more.into_iter().take(room));
}
