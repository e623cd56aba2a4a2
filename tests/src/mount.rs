//! One overlay mount: read-only layers below, one writable directory above.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::host_command;

/// A call to mount(8) or umount(8) takes milliseconds; this only ends what hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A mounted overlay. Dropping it unmounts it and leaves the directories alone.
#[derive(Debug)]
pub(crate) struct Overlay {
    merged: PathBuf,
}

impl Overlay {
    /// Mounts `lowers` (topmost first) under `dir/upper` at `dir/merged`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub(crate) fn mount(dir: &Path, lowers: &[PathBuf]) -> Self {
        let (upper, work, merged) = (dir.join("upper"), dir.join("work"), dir.join("merged"));
        for made in [&upper, &work, &merged] {
            fs::create_dir_all(made).unwrap_or_else(|e| panic!("{}: {e}", made.display()));
        }
        let below: Vec<_> = lowers.iter().map(|path| path.display().to_string()).collect();
        let options = format!("lowerdir={},upperdir={},workdir={}", below.join(":"), upper.display(), work.display());
        let at = merged.display().to_string();
        host_command(LIMIT, "mount", &["-t", "overlay", "lockdownd-test", "-o", &options, &at]).expect_ok();
        Self { merged }
    }

    /// The mounted tree.
    pub(crate) fn path(&self) -> &Path {
        &self.merged
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        unmount(&self.merged);
    }
}

/// Unmounts `at` if something is mounted there, lazily if somebody still holds it.
pub(crate) fn unmount(at: &Path) {
    let at = at.display().to_string();
    if host_command(LIMIT, "mountpoint", &["-q", &at]).ok() && !host_command(LIMIT, "umount", &[&at]).ok() {
        host_command(LIMIT, "umount", &["-l", &at]);
    }
}
