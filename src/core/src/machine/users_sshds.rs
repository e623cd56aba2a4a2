//! When users' own SSH servers are looked for, and what is on record of those that were ended.
//!
//! Looking costs a walk through `/proc`, and anybody can be the cause of it. So it is done beside whoever drives the core,
//! once for everybody who waits for it, and takes a small share of the time at most. Outside of enforce they are only told
//! of, as ways in.

use std::{collections::BTreeSet, time::Duration};

use record::{Account, ArtifactType, Draft};

use super::{
    Core,
    jobs::{Job, Kind},
    ways::PAUSE as ACCOUNTS_PAUSE,
};
use crate::policy::time::Now;

/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A look that took long is followed by a pause so many times as long.
const SHARE: u32 = 10;
/// And no longer than this: where a user's threads make looks slow, their servers must not run on for that.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What was ended of one user's.
#[derive(Debug)]
pub struct EndedSshd {
    /// Whose: the real user id.
    pub uid: u32,
    /// The account that this is.
    pub account: Option<Account>,
    /// One of their servers.
    pub pid: i32,
    /// Its program, as a record shows it.
    pub program: String,
    /// How many processes were killed, those below the servers included.
    pub killed: u64,
    /// Why some could not be, the last time.
    pub failed: Option<String>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct UsersSshds {
    /// What was ended.
    pub ended: Vec<EndedSshd>,
    /// Whether programs were left out.
    pub incomplete: bool,
    /// How long it took.
    pub took: Duration,
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub(super) struct Looks {
    under_way: bool,
    due: Option<Duration>,
    earliest: Duration,
}

impl Looks {
    /// When the next look is due, on the boot clock; while one is under way, none.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.filter(|_| !self.under_way)
    }

    /// Plans a look in so long, or when the pause after the last one is over.
    fn want(&mut self, wait: Duration, now: Now) {
        let at = (now.boot + wait).max(self.earliest);
        self.due = Some(self.due.map_or(at, |planned| planned.min(at)));
    }

    /// Whether a look is to begin now.
    fn begins(&mut self, now: Now) -> bool {
        let begins = self.due().is_some_and(|due| now.boot >= due);
        if begins {
            (self.under_way, self.due) = (true, None);
        }
        begins
    }

    fn ended(&mut self, took: Duration, now: Now) {
        self.under_way = false;
        self.earliest = now.boot + PAUSE.max(took * SHARE).min(MAX_PAUSE);
        self.due = self.due.map(|due| due.max(self.earliest));
    }
}

impl Core {
    /// Something says that users' own servers may run: they are looked for, and ended.
    pub(super) fn look_for_users_sshds(&mut self, now: Now) {
        if self.enforces() {
            self.users_sshds.want(Duration::ZERO, now);
        }
    }

    /// One of them has logged something.
    pub(super) fn users_sshd_logged(&mut self, now: Now) {
        match self.enforces() {
            true => self.look_for_users_sshds(now),
            false => self.ways.changed(ACCOUNTS_PAUSE, now),
        }
    }

    /// Has them looked for and ended, if that is due.
    pub(super) fn end_users_sshds_if_due(&mut self, now: Now) {
        if !self.users_sshds.begins(now) {
            return;
        }
        if !self.enforces() {
            return self.users_sshds.ended(Duration::ZERO, now);
        }
        let spared: BTreeSet<u32> = self.exempt().iter().filter_map(|account| self.uid_of(account)).collect();
        self.start_job(Kind::UsersSshds, Job::EndUsersSshds(spared), now);
    }

    /// A look is over: what was ended is on record, and it is looked again until there is nothing more.
    pub(super) fn users_sshds_ended(&mut self, found: UsersSshds, now: Now) {
        self.users_sshds.ended(found.took, now);
        if !found.ended.is_empty() {
            self.users_sshds.want(PAUSE, now);
        } else if found.incomplete {
            self.users_sshds.want(MAX_PAUSE, now);
        }
        self.record_ended_sshds(found, now);
    }

    /// What was ended is on record, however late that is known.
    pub(super) fn record_ended_sshds(&mut self, found: UsersSshds, now: Now) {
        for ended in found.ended {
            self.recorder.note_often(record_of(ended), 1, now);
        }
        self.commit(now);
    }

    /// The look never came back.
    pub(super) fn users_sshds_lost(&mut self, now: Now) {
        self.users_sshds.ended(Kind::UsersSshds.limit(), now);
    }
}

/// The record of it: whose it was, which process, which program. Nothing that it has said.
fn record_of(EndedSshd { uid, account, pid, program, killed, failed }: EndedSshd) -> Draft {
    let whom = account.as_ref().map_or_else(|| format!("uid {uid}"), ToString::to_string);
    let sentence = match &failed {
        None => format!("an SSH server that {whom} runs was ended: it lets people in past the gate"),
        Some(error) => format!("an SSH server that {whom} runs could not be ended wholly: {error}"),
    };
    let mut draft = Draft::new(ArtifactType::SessionTerminated, sentence)
        .with("ended", "users_own_sshd")
        .with("uid", uid)
        .with("pid", pid)
        .with("program", program)
        .with("killed", killed);
    if let Some(error) = failed {
        draft = draft.with("failed", error);
    }
    draft.account = account;
    draft
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn one_look_serves_all_who_wait_and_there_is_a_pause_after_it() {
        let mut looks = Looks::default();
        assert_eq!((looks.due(), looks.begins(now())), (None, false));
        (0..1_000).for_each(|_| looks.want(Duration::ZERO, now()));
        assert!(looks.begins(now()) && !looks.begins(now()), "once");
        // What comes while it is under way is looked at by the next one, and not before this has ended.
        (0..1_000).for_each(|_| looks.want(Duration::ZERO, now()));
        assert_eq!((looks.due(), looks.begins(later(9))), (None, false));
        looks.ended(Duration::from_millis(300), later(10));
        assert_eq!(looks.due(), Some(later(13).boot), "ten times as long as the look took");
        assert!(!looks.begins(later(12)) && looks.begins(later(13)));
        looks.ended(Duration::ZERO, later(13));
        assert_eq!(looks.due(), None);
        looks.want(Duration::ZERO, later(13));
        assert_eq!(looks.due(), Some(later(14).boot));
    }
}
