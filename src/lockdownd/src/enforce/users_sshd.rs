//! When users' own SSH servers are looked for, and what is on record of those that were ended.
//!
//! Looking costs a walk through `/proc`, and anybody can be the cause of it. So it is done beside the main thread, once for
//! everybody who waits for it, and takes a small share of the time at most. Outside of enforce they are only told of, as
//! ways in.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lockdown_core::policy::time::Now;
use lockdown_host::users_sshd::{self, Ended};
use record::{ArtifactType, Draft};

use super::{Engine, jobs::Kind};
use crate::trigger::Reason;

/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A look that took long is followed by a pause so many times as long.
const SHARE: u32 = 10;
/// And no longer than this: where a user's threads make looks slow, their servers must not run on for that.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What a look has found.
#[derive(Debug)]
pub struct UsersSshds {
    ended: Vec<Ended>,
    /// Whether programs were left out.
    incomplete: bool,
    took: Duration,
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub(crate) struct Looks {
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

    pub(super) fn ended(&mut self, took: Duration, now: Now) {
        self.under_way = false;
        self.earliest = now.boot + PAUSE.max(took * SHARE).min(MAX_PAUSE);
        self.due = self.due.map(|due| due.max(self.earliest));
    }
}

impl Engine {
    /// Something says that users' own servers may run: they are looked for, and ended.
    pub(super) fn look_for_users_sshds(&mut self, now: Now) {
        if self.core.enforces() {
            self.users_sshds.want(Duration::ZERO, now);
        }
    }

    /// One of them has logged something.
    pub(super) fn users_sshd_logged(&mut self, now: Now) {
        match self.core.enforces() {
            true => self.look_for_users_sshds(now),
            false => self.attest_soon(true, now),
        }
    }

    /// Has them looked for and ended, if that is due.
    pub(super) fn end_users_sshds_if_due(&mut self, now: Now) {
        if !self.users_sshds.begins(now) {
            return;
        }
        if !self.core.enforces() {
            return self.users_sshds.ended(Duration::ZERO, now);
        }
        let spared: BTreeSet<u32> = self.core.exempt().iter().filter_map(|account| self.core.uid_of(account)).collect();
        self.begin_job(Kind::UsersSshds, None, now, move || {
            let began = Instant::now();
            let (ended, incomplete) = users_sshd::end_all(&spared).unwrap_or_else(|error| {
                tracing::error!(%error, "users' own SSH servers cannot be looked for");
                (Vec::new(), false)
            });
            Reason::UsersSshdsEnded(UsersSshds { ended, incomplete, took: began.elapsed() }).into()
        });
    }

    /// A look is over: what was ended is on record, and it is looked again until there is nothing more.
    pub(super) fn users_sshds_ended(&mut self, found: UsersSshds, now: Now) {
        self.users_sshds.ended(found.took, now);
        if !found.ended.is_empty() {
            self.users_sshds.want(PAUSE, now);
        } else if found.incomplete {
            self.users_sshds.want(MAX_PAUSE, now);
        }
        for ended in found.ended {
            let draft = self.ended_users_sshd(&ended);
            self.core.recorder.note_often(draft, 1, now);
        }
        self.core.commit(now);
    }

    /// The record of it: whose it was, which process, which program. Nothing that it has said.
    fn ended_users_sshd(&self, Ended { server, killed, failed }: &Ended) -> Draft {
        let account = self.world.account_by_uid(server.uid);
        let whom = account.as_ref().map_or_else(|| format!("uid {}", server.uid), ToString::to_string);
        let sentence = match failed {
            None => format!("an SSH server that {whom} runs was ended: it lets people in past the gate"),
            Some(error) => format!("an SSH server that {whom} runs could not be ended wholly: {error}"),
        };
        let mut draft = Draft::new(ArtifactType::SessionTerminated, sentence)
            .with("ended", "users_own_sshd")
            .with("uid", server.uid)
            .with("pid", server.id.pid)
            .with("program", record::outside(server.program.as_os_str().as_encoded_bytes()))
            .with("killed", *killed as u64);
        if let Some(error) = failed {
            draft = draft.with("failed", error.as_str());
        }
        draft.account = account;
        draft
    }
}

#[cfg(test)]
mod tests {
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

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
