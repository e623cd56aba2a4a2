//! The two files that PAM and the gate go by when the daemon does not answer: the exempt accounts and the marker of
//! enforce. They are put right when anybody touches them, and by each sweep.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use jiff::Timestamp;
use lockdown_host::paths::{self, Durability};
use record::Account;

use super::Driver;
use crate::{disk::Store, kept::TRACES};

/// The accounts that were exempt, for the next start.
pub(super) const RETIRED: &str = "/var/lib/lockdownd/formerly_exempt.json";
/// The most bytes of that file that are read.
const MAX_RETIRED: u64 = 1 << 20;
/// Type and permission bits of both: a regular file, 0600.
const SOUND: u32 = 0o100_600;

impl Driver {
    /// Has the exempt accounts written, and the marker of enforce, where they are not as they must be.
    pub(super) fn keep_state_files(&mut self, marker: Option<Option<Vec<u8>>>) {
        self.keep_exempt_file();
        let Some(marker) = marker else { return };
        let keep = move |_: &mut Store| {
            if let Err(error) = marker.map_or_else(remove_marker, |marker| keep(control::gate::ENFORCING, &marker)) {
                tracing::error!(%error, "{} cannot be put right", control::gate::ENFORCING);
            }
            None
        };
        self.work_anew("the marker of enforce", Box::new(keep));
    }

    /// Has the exempt accounts written, one a line.
    pub(super) fn keep_exempt_file(&mut self) {
        let exempt: String = self.core.exempt().iter().map(|account| format!("{account}\n")).collect();
        let keep = move |_: &mut Store| {
            if let Err(error) = keep(control::gate::EXEMPT, exempt.as_bytes()) {
                tracing::error!(%error, "{} cannot be put right", control::gate::EXEMPT);
            }
            None
        };
        self.work_anew("the exempt accounts", Box::new(keep));
    }

    /// Has a file of the daemon's own written, whole, where it is not as it must be.
    pub(super) fn keep_state(&mut self, path: &'static str, bytes: Vec<u8>) {
        let write = move |_: &mut Store| {
            if let Err(error) = keep(path, &bytes) {
                tracing::error!(%error, "{path} cannot be put right");
            }
            None
        };
        self.work_anew(path, Box::new(write));
    }

    /// Has a file of the daemon's own written, whole.
    pub(super) fn write_state(&mut self, path: &'static str, bytes: Vec<u8>, mode: u32) {
        let write = move |_: &mut Store| {
            if let Err(error) = paths::replace_path(Path::new(path), &bytes, mode, Durability::Flushed) {
                tracing::error!(%error, "{path} could not be written");
            }
            None
        };
        self.work_anew(path, Box::new(write));
    }

    /// Writes again what somebody removed of what has to outlive a restart and not a boot.
    pub(crate) fn keep_run_files(&mut self) {
        if self.kept.lacks_sessions() {
            self.core.sessions.keep_anew();
        }
        if !Path::new(TRACES).exists() {
            self.core.keep_traces();
        }
        self.publish_shipping();
    }
}

/// The accounts that were exempt, as the last run left them. A file that cannot be read is said, and as if there were none.
pub(super) fn retired() -> BTreeMap<Account, Timestamp> {
    let read = paths::read_path(Path::new(RETIRED), MAX_RETIRED)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
    read.unwrap_or_else(|error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::error!(%error, "{RETIRED} cannot be read: keys of accounts that were exempt are not kept any longer");
        }
        BTreeMap::new()
    })
}

/// Writes the marker of enforce.
///
/// # Errors
/// Why it cannot be written, and what to do.
pub(super) fn mark_enforce(marker: &[u8]) -> Result<(), String> {
    let path = control::gate::ENFORCING;
    keep(path, marker).map_err(|error| {
        format!("{path} cannot be written: {error}; make room or mend the file system, then try again")
    })
}

/// Removes the marker of enforce; none is fine.
fn remove_marker() -> io::Result<()> {
    match fs::remove_file(control::gate::ENFORCING) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file of the daemon's own, unless it is there already as it must be: each writing wakes who watches.
fn keep(path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = Path::new(path);
    let is_right = fs::symlink_metadata(path)
        .is_ok_and(|meta| (meta.mode(), meta.uid(), meta.nlink()) == (SOUND, 0, 1))
        && fs::read(path).is_ok_and(|stands| stands == bytes);
    if is_right {
        return Ok(());
    }
    paths::replace_path(path, bytes, 0o600, Durability::Flushed).map_err(io::Error::other)
}
