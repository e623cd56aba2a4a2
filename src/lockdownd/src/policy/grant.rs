//! A grant: leave for one person to log in to one account with their keys, until a moment.
//!
//! Its end is judged by two clocks at once, so that setting the wall clock back never lengthens it: the wall clock,
//! and the boot clock (CLOCK_BOOTTIME, clock_gettime(2)), which nobody can set. The boot clock starts anew at every
//! boot; [`Deadline::after_reboot`] carries what was left across.

use std::{fmt, time::Duration};

use control::Cidr;
use jiff::{SignedDuration, Timestamp};
use record::{Account, Actor, GrantId, Person};
use serde::{Deserialize, Serialize};

use crate::host::clock::Now;

/// How far the wall clock may stand behind the last moment this host has seen before a boot, and still be believed:
/// what NTP corrects between a shutdown and a start.
pub const BELIEVED_STEP_BACK: SignedDuration = SignedDuration::from_secs(5);

/// A moment on both clocks; it has passed as soon as either says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// On the wall clock.
    pub wall: Timestamp,
    /// On this boot's CLOCK_BOOTTIME.
    pub boot: Duration,
}

impl Deadline {
    /// The moment the wall clock names, taken on both clocks as they stand now.
    #[must_use]
    pub fn at(wall: Timestamp, now: Now) -> Self {
        Self { wall, boot: now.boot.saturating_add(until(now.wall, wall)) }
    }

    /// The moment so long after now.
    #[must_use]
    pub fn after(span: Duration, now: Now) -> Self {
        Self { wall: later(now.wall, span), boot: now.boot.saturating_add(span) }
    }

    /// Whether it has passed on either clock.
    #[must_use]
    pub fn has_passed(self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    /// How long until it passes on the first of both clocks; zero once it has.
    #[must_use]
    pub fn remaining(self, now: Now) -> Duration {
        until(now.wall, self.wall).min(self.boot.saturating_sub(now.boot))
    }

    /// The earlier of the two, clock by clock.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), boot: self.boot.min(other.boot) }
    }

    /// The same deadline on the boot clock of a new boot: never more is left than when the old boot was last seen.
    #[must_use]
    pub fn after_reboot(self, last_seen: Now, now: Now) -> Self {
        let left = self.remaining(last_seen).min(until(now.wall, self.wall));
        Self { wall: self.wall, boot: now.boot.saturating_add(left) }
    }
}

/// The span from one moment to a later one; zero if it is not later.
fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn later(from: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| from.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

/// On whose word a grant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// An operator asked through `lockdownctl`.
    Operator {
        /// Who.
        actor: Actor,
    },
    /// A `[[grant]]` in the configuration.
    Config {
        /// Where it stands: file and line.
        place: String,
        /// SHA-256 of its terms: a rendered grant that was revoked stays so until its content changes.
        content: String,
    },
}

impl Origin {
    /// The digest of a rendered grant's terms.
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::Config { content, .. } => Some(content),
            Self::Operator { .. } => None,
        }
    }
}

/// Why a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Its time was over.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// A lockdown ended it.
    Lockdown,
    /// The configuration no longer backs it: the grant, the person, their leave for the account, or the account is gone.
    Config,
    /// The host is not the one it was given on.
    Identity,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Lockdown => "lockdown",
            Self::Config => "config",
            Self::Identity => "identity",
        })
    }
}

/// A grant's end, once it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub cause: EndCause,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// One sentence that a person can read.
    pub reason: String,
    /// Who ended it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<Actor>,
    /// Whether its `grant.ended` record is on disk.
    pub recorded: bool,
}

/// Leave for one person to log in to one account with their keys, until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who may log in.
    pub person: Person,
    /// To which account.
    pub account: Account,
    /// The account's user id when the grant was given: a login of the same name made anew is another account.
    pub uid: u32,
    /// Where from; empty: from anywhere. (An empty list of *people* or *accounts* means nobody; sshd's `from=` is a
    /// restriction that is either there or not.)
    pub from: Vec<Cidr>,
    /// Why it was given.
    pub reason: String,
    /// On whose word.
    pub origin: Origin,
    /// When it was given: `max_duration` counts from here.
    pub created_at: Timestamp,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends: Deadline,
    /// The latest end that `max_duration` lets any extension reach.
    pub ceiling: Deadline,
    /// Whether its `grant.created` record is on disk: it has no effect before.
    pub recorded: bool,
    /// How it ended; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<End>,
}

/// Where a grant stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its beginning is still to come.
    Waiting,
    /// It lets its person in.
    Active,
    /// It is over, or has ended.
    Over,
}

impl Grant {
    /// Where it stands now. Only [`Standing::Active`] lets anybody in.
    #[must_use]
    pub fn standing(&self, now: Now) -> Standing {
        if self.end.is_some() || self.ends.has_passed(now) {
            Standing::Over
        } else if !self.recorded || now.wall < self.starts_at {
            Standing::Waiting
        } else {
            Standing::Active
        }
    }

    /// Whether it lets its person in now.
    #[must_use]
    pub fn is_active(&self, now: Now) -> bool {
        self.standing(now) == Standing::Active
    }

    /// Whether it has not ended: its time may be over all the same, until a pass has ended it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now(wall: i64, boot: u64) -> Now {
        Now { wall: Timestamp::from_second(wall).expect("in range"), boot: Duration::from_secs(boot) }
    }

    #[test]
    fn a_deadline_passes_on_whichever_clock_reaches_it_first() {
        let deadline = Deadline::after(Duration::from_secs(100), now(1_000, 50));
        assert!(!deadline.has_passed(now(1_099, 149)));
        assert!(deadline.has_passed(now(1_100, 60)), "the wall clock was set forward");
        assert!(deadline.has_passed(now(200, 150)), "the wall clock was set back");
    }

    proptest! {
        #[test]
        fn a_clock_set_to_anything_never_lengthens_a_deadline(span in 0u64..1_000_000, ran in 0u64..2_000_000, wall in 0i64..4_000_000_000) {
            let deadline = Deadline::after(Duration::from_secs(span), now(2_000_000_000, 77));
            if ran >= span {
                prop_assert!(deadline.has_passed(now(wall, 77 + ran)));
            }
        }

        #[test]
        fn a_reboot_never_leaves_more_than_was_left(span in 1u64..1_000_000, ran in 0u64..1_000_000, wall in 0i64..4_000_000_000, boot in 0u64..1_000) {
            let start = now(2_000_000_000, 500);
            let seen = now(2_000_000_000 + i64::try_from(ran).expect("small"), 500 + ran);
            let deadline = Deadline::after(Duration::from_secs(span), start);
            let left = deadline.remaining(seen);
            let carried = deadline.after_reboot(seen, now(wall, boot));
            prop_assert!(carried.remaining(now(wall, boot)) <= left);
        }
    }
}
