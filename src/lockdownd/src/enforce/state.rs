//! The two files that PAM and the gate go by when the daemon does not answer: the exempt accounts and the marker of
//! enforce. They are put right when anybody touches them, and by each sweep.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use lockdown_host::paths::{self, Durability};

use super::Engine;

/// Type and permission bits of both: a regular file, 0600.
const SOUND: u32 = 0o100_600;

impl Engine {
    /// Writes the exempt accounts and, in enforce, the marker, where they are not as they must be.
    pub(super) fn keep_state_files(&mut self) {
        self.keep_exempt_file();
        let kept = if self.enforces() { self.write_marker() } else { remove_marker() };
        if let Err(error) = kept {
            tracing::error!(%error, "{} cannot be put right", control::gate::ENFORCING);
        }
    }

    /// Writes again what somebody removed of what has to outlive a restart and not a boot.
    pub(crate) fn keep_run_files(&self) {
        self.sessions.keep_file();
        self.traces.keep_file();
        self.publish_shipping();
    }

    /// Writes the exempt accounts, one a line.
    pub(super) fn keep_exempt_file(&self) {
        let exempt: String = self.exempt().iter().map(|account| format!("{account}\n")).collect();
        if let Err(error) = keep(control::gate::EXEMPT, exempt.as_bytes()) {
            tracing::error!(%error, "{} cannot be put right", control::gate::EXEMPT);
        }
    }

    /// Writes the marker of enforce.
    pub(super) fn write_marker(&self) -> io::Result<()> {
        keep(control::gate::ENFORCING, &self.marker())
    }
}

/// Removes the marker of enforce; none is fine.
pub(super) fn remove_marker() -> io::Result<()> {
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
