//! Every grant of this host, open and ended.
//!
//! This room keeps grants and never decides about them: `policy` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use record::GrantId;
use serde::{Deserialize, Serialize};

use crate::policy::{
    grant::{End, EndCause, Grant, Origin, Standing},
    schedule::LastLockdown,
    time::{BELIEVED_STEP_BACK, Now},
};

/// The most grants that may be open at once.
pub const MAX_OPEN: usize = 10_000;
/// How many ended grants are kept for `lockdownctl grants --all`; the ledger keeps them all.
pub const MAX_ENDED_KEPT: usize = 1_000;
/// How often the clocks are written while a grant is open: what a power cut and a clock set back can lengthen it by.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// [`MAX_OPEN`] grants are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_OPEN} grants are open already, and that is the bound; revoke some first")]
pub struct Full;

/// The two clocks when the grants were last kept, to carry deadlines across a reboot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    wall: Timestamp,
    boot: Duration,
    boot_id: String,
}

/// What is kept of the grants, on disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The version of its format.
    pub version: u32,
    seen: Seen,
    /// Absent where no lockdown is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_lockdown: Option<LastLockdown>,
    grants: Vec<Grant>,
}

/// What taking up the grants after a start has found out.
#[derive(Debug, Default)]
pub struct Woken {
    /// The wall clock stands further back than this host has seen it before the boot: every open grant was ended.
    pub clock_was_set_back: bool,
}

/// The grants of this host.
#[derive(Debug, Default)]
pub struct Grants {
    all: Vec<Grant>,
    rendered: BTreeSet<String>,
    unsaved_ends: Vec<GrantId>,
    seen: Duration,
    last_lockdown: Option<LastLockdown>,
}

impl Grants {
    /// Takes up what was kept, carrying every deadline over from an earlier boot. `ended` are those that had ended while
    /// the grants could not be kept, each with its end where that is known.
    #[must_use]
    pub fn wake(
        kept: Kept,
        ended: impl IntoIterator<Item = (GrantId, Option<End>)>,
        boot_id: &str,
        now: Now,
    ) -> (Self, Woken) {
        let mut grants = Self { all: kept.grants, last_lockdown: kept.last_lockdown, ..Self::default() };
        for (id, end) in ended {
            let end = end.unwrap_or_else(|| {
                // The cause that brings nothing back: what it was is not known any more.
                let reason = "it had ended before a crash, and the disk had not taken that".to_owned();
                End { cause: EndCause::Revoked, at: now.wall, reason, actor: None, recorded: false }
            });
            grants.end(&id, End { recorded: false, ..end });
        }
        let mut woken = Woken::default();
        if kept.seen.boot_id != boot_id {
            woken.clock_was_set_back =
                now.wall.saturating_add(BELIEVED_STEP_BACK).is_ok_and(|wall| wall < kept.seen.wall);
            grants.carry_over_reboot(&kept.seen, now, woken.clock_was_set_back);
        }
        (grants, woken)
    }

    fn carry_over_reboot(&mut self, seen: &Seen, now: Now, doubtful: bool) {
        let last_seen = Now { wall: seen.wall, boot: seen.boot };
        for grant in self.all.iter_mut().filter(|grant| grant.is_open()) {
            grant.ends = grant.ends.after_reboot(last_seen, now);
            grant.ceiling = grant.ceiling.after_reboot(last_seen, now);
            if doubtful {
                let reason = format!(
                    "the clock now says {}, yet this host had already seen {} before the boot: what is left of the grant cannot be known",
                    now.wall, seen.wall
                );
                grant.end = Some(End { cause: EndCause::Expired, at: now.wall, reason, actor: None, recorded: false });
            }
        }
    }

    /// Every grant, ended ones that are still kept included, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Grant] {
        &self.all
    }

    /// Those that have not ended.
    pub fn open_ones(&self) -> impl Iterator<Item = &Grant> {
        self.all.iter().filter(|grant| grant.is_open())
    }

    /// One grant.
    #[must_use]
    pub fn get(&self, id: &GrantId) -> Option<&Grant> {
        self.all.iter().find(|grant| grant.id == *id)
    }

    /// One grant, to be changed; have it kept afterwards.
    pub fn get_mut(&mut self, id: &GrantId) -> Option<&mut Grant> {
        self.all.iter_mut().find(|grant| grant.id == *id)
    }

    /// Says where rendered grants stand now.
    pub fn stand_at(&mut self, places: Vec<(GrantId, String)>) {
        let mut places: BTreeMap<GrantId, String> = places.into_iter().collect();
        for grant in &mut self.all {
            if let Origin::Config { place, .. } = &mut grant.origin
                && let Some(now_at) = places.remove(&grant.id)
            {
                *place = now_at;
            }
        }
    }

    /// Adds a grant; have it kept before it takes effect.
    ///
    /// # Errors
    /// [`MAX_OPEN`] are open.
    pub fn add(&mut self, grant: Grant) -> Result<(), Full> {
        if self.open_ones().count() >= MAX_OPEN {
            return Err(Full);
        }
        self.all.push(grant);
        Ok(())
    }

    /// Takes a grant out again that never took effect.
    pub fn take_back(&mut self, id: &GrantId) {
        self.all.retain(|grant| grant.id != *id || grant.recorded);
    }

    /// Ends an open grant in memory; whether it was open. Have it kept afterwards.
    pub fn end(&mut self, id: &GrantId, end: End) -> bool {
        match self.get_mut(id) {
            Some(grant) if grant.is_open() => {
                grant.end = Some(end);
                self.unsaved_ends.push(id.clone());
                true
            }
            _ => false,
        }
    }

    /// Ends a grant as it was ended elsewhere, whatever is known here of its end.
    pub fn end_as(&mut self, id: &GrantId, end: End) {
        if !self.end(id, end.clone())
            && let Some(grant) = self.get_mut(id)
        {
            grant.end = Some(end);
        }
    }

    /// Marks a grant's creation as on record.
    pub fn mark_created_recorded(&mut self, id: &GrantId) {
        if let Some(grant) = self.get_mut(id) {
            grant.recorded = true;
        }
    }

    /// Marks these ends as on record; whether that changed anything.
    pub fn mark_ends_recorded(&mut self, ids: &[GrantId]) -> bool {
        let mut changed = false;
        for grant in self.all.iter_mut().filter(|grant| ids.contains(&grant.id)) {
            changed |= grant.end.as_mut().is_some_and(|end| !std::mem::replace(&mut end.recorded, true));
        }
        changed
    }

    /// Up to when scheduled lockdowns were done when that was kept last.
    #[must_use]
    pub fn last_lockdown(&self) -> Option<&LastLockdown> {
        self.last_lockdown.as_ref()
    }

    /// Keeps up to when scheduled lockdowns are done; whether that is news. Have it kept afterwards.
    pub fn keep_last_lockdown(&mut self, lockdown: Option<LastLockdown>) -> bool {
        let is_news = self.last_lockdown != lockdown;
        self.last_lockdown = lockdown;
        is_news
    }

    /// The ids of grants whose time is over and that have not been ended yet.
    #[must_use]
    pub fn over(&self, now: Now) -> Vec<GrantId> {
        self.open_ones().filter(|grant| grant.standing(now) == Standing::Over).map(|grant| grant.id.clone()).collect()
    }

    /// The next moment at which a grant begins or ends: on the wall clock, and on the boot clock.
    #[must_use]
    pub fn next_change(&self, now: Now) -> (Option<Timestamp>, Option<Duration>) {
        let starts = self.open_ones().map(|grant| grant.starts_at).filter(|start| *start > now.wall);
        let wall = self.open_ones().map(|grant| grant.ends.wall).chain(starts).min();
        (wall, self.open_ones().map(|grant| grant.ends.boot).min())
    }

    /// When the clocks that were kept will be a [`HEARTBEAT`] old, on the boot clock: as long as a grant is open.
    #[must_use]
    pub fn next_heartbeat(&self) -> Option<Duration> {
        self.open_ones().next().map(|_| self.seen.saturating_add(HEARTBEAT))
    }

    /// The clocks were looked at without being kept: the next time is due a [`HEARTBEAT`] later.
    pub fn beat(&mut self, now: Now) {
        self.seen = now.boot;
    }

    /// Says which contents the configuration renders now: these are never forgotten, so that what was revoked stays
    /// revoked for as long as it is rendered.
    pub fn keep_contents(&mut self, rendered: BTreeSet<String>) {
        self.rendered = rendered;
    }

    /// What is to be kept now. Whether that succeeds or not, the next is due a [`HEARTBEAT`] later: a full disk is not tried
    /// again at once.
    pub fn to_keep(&mut self, boot_id: &str, now: Now) -> Kept {
        self.forget_old();
        self.beat(now);
        let seen = Seen { wall: now.wall, boot: now.boot, boot_id: boot_id.to_owned() };
        Kept { version: Kept::VERSION, seen, last_lockdown: self.last_lockdown.clone(), grants: self.all.clone() }
    }

    /// Those that have ended since the grants were kept.
    #[must_use]
    pub fn unsaved_ends(&self) -> &[GrantId] {
        &self.unsaved_ends
    }

    /// These ends have been kept.
    pub fn ends_kept(&mut self, ids: &[GrantId]) {
        let kept: BTreeSet<&GrantId> = ids.iter().collect();
        self.unsaved_ends.retain(|id| !kept.contains(id));
    }

    /// Forgets the oldest ended grants past the bound, but none that says what must not come back.
    fn forget_old(&mut self) {
        let rendered = &self.rendered;
        let mut surplus = self.all.iter().filter(|grant| !grant.is_open()).count().saturating_sub(MAX_ENDED_KEPT);
        self.all.retain(|grant| {
            let recorded = grant.end.as_ref().is_some_and(|end| end.recorded);
            let tombstone = grant.origin.content().is_some_and(|content| rendered.contains(content));
            let forget = surplus > 0 && recorded && !tombstone;
            surplus -= usize::from(forget);
            !forget
        });
    }
}

impl Kept {
    /// The version that this daemon writes, and the only one that it reads.
    pub const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests;
