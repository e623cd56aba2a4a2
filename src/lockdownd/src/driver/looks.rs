//! The host as it was last looked at, and what homes are told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use lockdown_core::{
    machine::{Event, looks},
    policy::time::Now,
    writers::Change,
};
use lockdown_host::{key_store::KEY_STORE, writers::Writers};
use record::{Account, Draft};

use super::{
    Driver,
    homes::{Command, Hanging, Homes, Plot},
    world::{Looked, World},
};
use crate::trigger::{Place, place_of};

/// Up to which change of each part of the host's configuration the core has been told who made it.
#[derive(Debug, Default)]
pub(crate) struct ChangesTold(BTreeMap<&'static str, u64>);

impl ChangesTold {
    /// Who changed these parts since.
    fn take(&mut self, parts: &[&'static str], writers: &Writers) -> Vec<Change> {
        let mut changes = Vec::new();
        for part in parts {
            let wanted = match *part {
                "accounts" => Place::Accounts,
                "pam" => Place::Pam,
                _ => Place::Sshd,
            };
            let since = self.0.get(part).copied().unwrap_or_default();
            let (new, last) = writers.changes(since, |path| place_of(path) == Some(wanted));
            self.0.insert(part, last);
            changes.extend(new);
        }
        changes
    }
}

impl Driver {
    /// The host was looked at: from now on it counts as it was seen.
    pub(super) fn looked(&mut self, looked: Looked, now: Now) {
        let Looked { world, changed, again } = looked;
        let before = std::mem::replace(&mut self.world, Arc::new(world));
        let watches_others = self.world.directories() != before.directories();
        self.directories_moved |= watches_others;
        let changes = self.changes_told.take(&changed, &self.writers);
        let renamed = self.world.renamed(&before);
        let around = self.world.around();
        let looked = looks::Looked { around, changed, changes, renamed, watches_others, again };
        self.step(Event::Looked(Box::new(looked)), now);
    }

    /// States who was the last to write into the key store besides the daemon.
    pub(super) fn by_store_writers(&self, draft: Draft, name: &std::ffi::OsStr) -> Draft {
        let file = std::path::Path::new(KEY_STORE).join(name);
        let (mut changes, _) = self.writers.changes(0, |path| path == file);
        changes.retain(|(_, writer)| writer.as_ref().is_none_or(|writer| writer.pid != std::process::id()));
        self.core.by_changes(draft, changes.last().map_or(&[], std::slice::from_ref))
    }

    /// Tells the homes thread which key files there are and whether to act on them.
    pub(super) fn tell_homes(&self) {
        if let Some(homes) = &self.homes {
            homes.send(Command::Territory(self.plot()));
        }
    }

    /// Has the homes looked at as if nothing had been watched.
    pub(super) fn sweep_homes(&self) {
        if let Some(homes) = &self.homes {
            homes.send(Command::Sweep { id: 0 });
        }
    }

    /// The homes that do not answer.
    pub(crate) fn hanging_homes(&self) -> Vec<Hanging> {
        self.homes.as_ref().map_or_else(Vec::new, Homes::hanging)
    }

    /// What is to be kept free of keys, worked out where it is needed: with many accounts that takes a while.
    pub(crate) fn plot(&self) -> Plot {
        let mode = if self.core.mode.removes_keys() { control::Mode::Enforce } else { control::Mode::Observe };
        let spared: BTreeSet<Account> = self.core.exempt().iter().chain(self.core.retired.spared()).cloned().collect();
        let world: Arc<World> = Arc::clone(&self.world);
        Plot::new(move || world.territory(&spared, mode))
    }

    /// The directories to watch besides the fixed ones: wherever sshd's configuration was read from.
    #[must_use]
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        self.world.directories().into_iter().cloned().collect()
    }

    /// Whether these may be others than when it was last asked.
    pub fn take_directories_moved(&mut self) -> bool {
        std::mem::take(&mut self.directories_moved)
    }
}
