//! The store of grants: durable and atomic, in `/var/lib/lockdownd/grants.json`.
//!
//! Everything that must survive a crash is on disk when a method returns. This room keeps grants and never decides
//! about them: `policy` does. It never touches a key.

mod ended;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use lockdown_core::policy::{
    grant::{End, EndCause, Grant, Origin, Standing},
    schedule::{LastLockdown, Recurring},
    time::{BELIEVED_STEP_BACK, Now},
};
use lockdown_host::paths;
use record::GrantId;
use serde::{Deserialize, Serialize};

use self::ended::EndedRoom;

/// The most grants that may be open at once.
pub const MAX_OPEN: usize = 10_000;
/// How many ended grants are kept for `lockdownctl grants --all`; the ledger keeps them all.
pub const MAX_ENDED_KEPT: usize = 1_000;
/// How often the clocks are written while a grant is open: what a power cut and a clock set back can lengthen it by.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// The largest `grants.json` that is read: [`MAX_OPEN`] and [`MAX_ENDED_KEPT`] grants at their largest fit well.
pub const MAX_FILE: u64 = 64 << 20;

/// What went wrong with `grants.json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written; what stood there before still does.
    #[error("cannot write {path}: {source}; no grant takes effect until it can be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this daemon wrote.
    #[error("{path} cannot be understood: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// [`MAX_OPEN`] grants are open.
    #[error("{MAX_OPEN} grants are open already, and that is the bound; revoke some first")]
    Full,
}

/// The two clocks when the store was last written, to carry deadlines across a reboot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    wall: Timestamp,
    boot: Duration,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    seen: Seen,
    /// Absent where no lockdown is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_lockdown: Option<LastLockdown>,
    grants: Vec<Grant>,
}

/// What reading the store after a start has found out.
#[derive(Debug, Default)]
pub struct Woken {
    /// The wall clock stands further back than this host has seen it before the boot: every open grant was ended.
    pub clock_was_set_back: bool,
}

/// The grants of this host.
#[derive(Debug)]
pub struct Grants {
    path: PathBuf,
    boot_id: String,
    all: Vec<Grant>,
    rendered: BTreeSet<String>,
    unsaved_ends: Vec<GrantId>,
    ended_room: EndedRoom,
    seen: Duration,
    last_lockdown: Option<LastLockdown>,
}

impl Grants {
    /// Reads the store, carrying every deadline over from an earlier boot. A missing file is an empty store.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood. Nobody is let in on a guess: the caller sets it aside and
    /// starts with [`Grants::empty`].
    pub fn open(path: &Path, boot_id: &str, now: Now) -> Result<(Self, Woken), Error> {
        let mut store = Self::empty(path, boot_id);
        let Some(file) = read(path)? else { return Ok((store, Woken::default())) };
        store.all = file.grants;
        store.last_lockdown = file.last_lockdown;
        store.end_what_could_not_be_saved(now);
        let mut woken = Woken::default();
        if file.seen.boot_id != boot_id {
            woken.clock_was_set_back =
                now.wall.saturating_add(BELIEVED_STEP_BACK).is_ok_and(|wall| wall < file.seen.wall);
            store.carry_over_reboot(&file.seen, now, woken.clock_was_set_back);
        }
        Ok((store, woken))
    }

    /// A store with no grants in it. Nothing is written until something changes.
    #[must_use]
    pub fn empty(path: &Path, boot_id: &str) -> Self {
        Self {
            path: path.to_owned(),
            boot_id: boot_id.to_owned(),
            all: Vec::new(),
            rendered: BTreeSet::new(),
            unsaved_ends: Vec::new(),
            ended_room: EndedRoom::beside(path).0,
            seen: Duration::ZERO,
            last_lockdown: None,
        }
    }

    /// Ends what had ended before a crash while the store could not be written.
    fn end_what_could_not_be_saved(&mut self, now: Now) {
        for id in EndedRoom::beside(&self.path).1 {
            // The cause that brings nothing back: what it was is not known any more.
            let reason = "it had ended while the disk was full, before a crash".to_owned();
            self.end(&id, End { cause: EndCause::Revoked, at: now.wall, reason, actor: None, recorded: false });
        }
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

    /// One grant, to be changed; call [`Grants::save`] afterwards.
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

    /// Adds a grant; call [`Grants::save`] before it takes effect.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add(&mut self, grant: Grant) -> Result<(), Error> {
        if self.open_ones().count() >= MAX_OPEN {
            return Err(Error::Full);
        }
        self.all.push(grant);
        Ok(())
    }

    /// Takes a grant out again that never took effect.
    pub fn take_back(&mut self, id: &GrantId) {
        self.all.retain(|grant| grant.id != *id || grant.recorded);
    }

    /// Ends an open grant in memory; whether it was open. Call [`Grants::save`] afterwards.
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

    /// Keeps up to when scheduled lockdowns are done; whether that is news. Call [`Grants::save`] afterwards.
    pub fn keep_last_lockdown(&mut self, lockdown: Option<&Recurring>) -> bool {
        let is_kept = match (&self.last_lockdown, lockdown) {
            (Some(kept), Some(lockdown)) => kept.is_of(lockdown),
            (kept, lockdown) => kept.is_none() && lockdown.is_none(),
        };
        if !is_kept {
            self.last_lockdown = lockdown.map(LastLockdown::of);
        }
        !is_kept
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

    /// When the clocks in the file will be a [`HEARTBEAT`] old, on the boot clock: as long as a grant is open.
    #[must_use]
    pub fn next_heartbeat(&self) -> Option<Duration> {
        self.open_ones().next().map(|_| self.seen.saturating_add(HEARTBEAT))
    }

    /// Says which contents the configuration renders now: these are never forgotten, so that what was revoked stays
    /// revoked for as long as it is rendered.
    pub fn keep_contents(&mut self, rendered: BTreeSet<String>) {
        self.rendered = rendered;
    }

    /// Writes the store, whole and atomically, and waits until it is on disk.
    ///
    /// # Errors
    /// It could not be written; the file then holds what it held before, and what has ended since is noted in room kept
    /// for that.
    pub fn save(&mut self, now: Now) -> Result<(), Error> {
        self.forget_old();
        // Whether it succeeds or not: a full disk is not tried again at once.
        self.seen = now.boot;
        let seen = Seen { wall: now.wall, boot: now.boot, boot_id: self.boot_id.clone() };
        let file = File { version: 1, seen, last_lockdown: self.last_lockdown.clone(), grants: self.all.clone() };
        let bytes = serde_json::to_vec(&file).expect("grants have string keys only");
        match paths::replace_path(&self.path, &bytes, 0o600, paths::Durability::Flushed) {
            Ok(()) => {
                self.unsaved_ends.clear();
                self.ended_room.clear();
                Ok(())
            }
            Err(source) => {
                self.hold_ends();
                Err(Error::Write { path: self.path.clone(), source: io::Error::other(source) })
            }
        }
    }

    fn hold_ends(&mut self) {
        if self.unsaved_ends.is_empty() {
            return;
        }
        if let Err(error) = self.ended_room.hold(&self.unsaved_ends) {
            tracing::error!(%error, "ends of grants can nowhere be saved: a restart now would bring back what was revoked");
        }
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

fn read(path: &Path) -> Result<Option<File>, Error> {
    let broken = |why: String| Error::Broken { path: path.to_owned(), why };
    let bytes = match paths::read_path(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if file.version != 1 {
        return Err(broken(format!("version {} is not one that this daemon knows", file.version)));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests;
