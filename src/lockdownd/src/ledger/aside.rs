//! One ledger ends and another begins: the old state is put away whole, never deleted, and the new one says why.
//!
//! A power cut at any moment in between is survived: what is being done is written to `succession` first, is done again
//! from there at the next start, and is over when the new identity file names it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lockdown_host::identity::Identity;
use record::{LedgerId, Record};
use serde::{Deserialize, Serialize};

use super::{
    Error, Head,
    files::{self, Paths, Readers, at},
    inspect::Lines,
};

/// Why and where to: written before the first file moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Succession {
    /// The directory under `set-aside/`.
    pub(super) dir: String,
    /// One sentence: what broke.
    pub(super) why: String,
    /// Whether it is another machine now: then grants and quarantine go too.
    pub(super) machine_changed: bool,
    /// Whether every grant is void although they stay where they are: the caller has ended them.
    #[serde(default)]
    pub(super) grants_void: bool,
    /// The last record of the ledger before, where one could be read.
    pub(super) ancestor: Option<Ancestor>,
}

/// The last that is known of the ledger before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ancestor {
    pub(super) ledger: LedgerId,
    pub(super) seq: u64,
    pub(super) hash: String,
}

/// What the identity file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) identity: Identity,
    pub(super) ledger: LedgerId,
    /// The succession that made this ledger, by its directory.
    pub(super) after: Option<String>,
}

impl Bound {
    /// Reads the identity file. One that cannot be understood counts as none: then nothing is believed of what it bound.
    pub(super) fn read(paths: &Paths) -> Result<Option<Self>, Error> {
        Ok(files::read_small(&paths.identity())?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(super) fn write(&self, paths: &Paths) -> Result<(), Error> {
        files::replace(&paths.identity(), &json(self), Readers::Root)
    }
}

impl Succession {
    pub(super) fn new(now: Timestamp, why: String, machine_changed: bool, last: Option<(LedgerId, Head)>) -> Self {
        let ancestor = last.map(|(ledger, head)| Ancestor { ledger, seq: head.seq, hash: head.hash.to_string() });
        let old = ancestor.as_ref().map_or("unknown", |a| a.ledger.as_str());
        // Nanoseconds, so that two in one second do not meet.
        let time = now.strftime("%Y%m%dT%H%M%S.%9fZ");
        Self { dir: format!("{time}-{old}"), why, machine_changed, grants_void: machine_changed, ancestor }
    }

    /// One that was begun and not finished.
    pub(super) fn pending(paths: &Paths) -> Result<Option<Self>, Error> {
        let Some(text) = files::read_small(&paths.succession())? else { return Ok(None) };
        let path = paths.succession();
        let begun: Self = at("understand", &path, serde_json::from_str(&text).map_err(Into::into))?;
        if Bound::read(paths)?.is_some_and(|b| b.after.as_ref() == Some(&begun.dir)) {
            files::remove_if_there(&path)?;
            return Ok(None);
        }
        Ok(Some(begun))
    }

    /// Puts the old state away. May be called again after a crash at any point of it.
    pub(super) fn put_away(&self, paths: &Paths) -> Result<PathBuf, Error> {
        files::replace(&paths.succession(), &json(self), Readers::Root)?;
        // The shipper may look in: what it has not shipped of the ledger yet, it still ships. Everything but the ledger is
        // root's alone by its own mode.
        files::make_dir(&paths.set_aside(), 0o750, Readers::Shipper)?;
        let dir = paths.set_aside().join(&self.dir);
        files::make_dir(&dir, 0o750, Readers::Shipper)?;
        let machine = [
            "grants.json",
            "quarantine",
            "receipt_key.pub",
            "log.json",
            "answered",
            "name_key",
            "documents.json",
            "rosters.json",
            "rosters.new.json",
        ];
        let own = ["ledger", "signing_key", "signing_key.pub", "identity"];
        for name in own.into_iter().chain(machine.into_iter().filter(|_| self.machine_changed)) {
            let from = paths.state.join(name);
            if from.symlink_metadata().is_ok() {
                at("put away", &from, relocate(&from, &free(&dir, name)))?;
            }
        }
        files::sync_parent(&dir.join("any"))?;
        files::sync_parent(&paths.identity())?;
        Ok(dir)
    }

    /// The new ledger stands and its identity file names this succession.
    pub(super) fn over(paths: &Paths) -> Result<(), Error> {
        files::remove_if_there(&paths.succession())
    }
}

/// Moves a file or directory. Where the file system cannot move a directory itself (one that stands in the lower layer of
/// an overlay gives EXDEV), what is in it is moved, and it stays behind empty.
fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices && from.is_dir() => {
            fs::create_dir_all(to)?;
            let as_before = from.metadata()?;
            chown(to, None, Some(as_before.gid()))?;
            fs::set_permissions(to, as_before.permissions())?;
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                relocate(&from.join(&name), &to.join(&name))?;
            }
            Ok(())
        }
        moved => moved,
    }
}

/// A name that is free: what a crash left half-made is kept beside what it was to replace.
pub(super) fn free(dir: &Path, name: &str) -> PathBuf {
    let numbered = (1..).map(|n| dir.join(format!("{name}.{n}")));
    let mut names = std::iter::once(dir.join(name)).chain(numbered);
    names.find(|p| p.symlink_metadata().is_err()).expect("one of all numbers is free")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("structs of text can always be written");
    bytes.push(b'\n');
    bytes
}

/// The last record that can be read in the ledger as it lies there, nothing verified: to name it, not to trust it.
pub(super) fn last_legible(paths: &Paths) -> Result<Option<(LedgerId, Head)>, Error> {
    for first in files::segments(paths)?.into_iter().rev() {
        let (mut lines, mut last) = (Lines::open(paths, first)?, None);
        while let Some(line) = lines.next_line()? {
            if let Ok(record) = Record::parse(&line) {
                last = Some((record.ledger().clone(), Head { seq: record.seq(), hash: record.hash() }));
            }
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// Whether there is anything that a ledger, or a host with grants, may have left. The package makes an empty `ledger/`.
pub(super) fn anything_there(paths: &Paths) -> Result<bool, Error> {
    let left = [paths.key(), paths.public_key(), paths.identity(), paths.state.join("grants.json")];
    Ok(left.iter().any(|path| path.symlink_metadata().is_ok()) || !files::segments(paths)?.is_empty())
}
