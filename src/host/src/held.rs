//! Holding control groups still while they are looked through: what forks, or starts itself anew, faster than it can be
//! looked at cannot get away, and nobody in it can wake what was stopped.
//!
//! On the unified hierarchy alone (`cgroup.freeze`, Linux 5.2); elsewhere nothing is held, and processes are stopped one
//! by one. What is held is written down first, so that a daemon that is killed meanwhile lets it go when it comes back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    connection::UNIFIED_ROOTS,
    paths::{self, Durability},
};

/// What is held now: directories of control groups, one a line.
pub const NOTE: &str = "/run/lockdownd/held";
/// How long it is waited for all of a group to stand still. A process deep in the kernel takes longer; it forks nothing
/// meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a group is asked whether it stands still.
const POLL: Duration = Duration::from_millis(1);
/// The largest note that is read.
const MAX_NOTE: u64 = 64 * 1024;

/// Control groups that stand still until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Held {
    dirs: Vec<PathBuf>,
    note: PathBuf,
}

impl Held {
    /// Holds these groups (paths as `/proc/PID/cgroup` has them), those of them that are there.
    pub fn hold<'a>(groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self::hold_in(&UNIFIED_ROOTS.map(Path::new), groups, Path::new(NOTE))
    }

    fn hold_in<'a>(roots: &[&Path], groups: impl IntoIterator<Item = &'a str>, note: &Path) -> Self {
        let dir = |group: &str| {
            let dirs = roots.iter().map(|root| root.join(group.trim_start_matches('/')));
            // One that somebody else holds is theirs to let go.
            dirs.into_iter().find(|dir| switch(dir).is_ok_and(|now| now == "0"))
        };
        let mut held = Self { dirs: Vec::new(), note: note.to_owned() };
        let dirs: Vec<PathBuf> = groups.into_iter().filter_map(dir).collect();
        if dirs.is_empty() {
            return held;
        }
        let lines: String = dirs.iter().map(|dir| format!("{}\n", dir.display())).collect();
        if let Err(error) = paths::replace_path(note, lines.as_bytes(), 0o600, Durability::Volatile) {
            tracing::warn!(%error, "nothing is held still: what is held could not be written down");
            return held;
        }
        held.dirs = dirs;
        for dir in &held.dirs {
            if let Err(error) = fs::write(dir.join("cgroup.freeze"), "1") {
                tracing::warn!(dir = %dir.display(), %error, "a control group could not be held still");
            }
        }
        let until = Instant::now() + PATIENCE;
        while !held.dirs.iter().all(|dir| stands_still(dir)) && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let_go(&self.dirs) && !self.dirs.is_empty() {
            // What it names is let go; a second time would do no harm.
            let _ = fs::remove_file(&self.note);
        }
    }
}

/// Lets go what a run before held when it was killed.
pub fn let_go_of_before() {
    let Ok(bytes) = paths::read_path(Path::new(NOTE), MAX_NOTE) else { return };
    let dirs: Vec<PathBuf> = String::from_utf8_lossy(&bytes).lines().map(PathBuf::from).collect();
    tracing::warn!(?dirs, "the run before was killed while it held these still; they go on");
    if let_go(&dirs) {
        let _ = fs::remove_file(NOTE);
    }
}

/// Whether all of them go on, or are gone.
fn let_go(dirs: &[PathBuf]) -> bool {
    let mut all = true;
    for dir in dirs {
        match fs::write(dir.join("cgroup.freeze"), "0") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(dir = %dir.display(), %error, "a control group that was held still could not be let go");
                all = false;
            }
            _ => {}
        }
    }
    all
}

fn switch(dir: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(dir.join("cgroup.freeze"))?.trim_end().to_owned())
}

fn stands_still(dir: &Path) -> bool {
    fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_held_and_let_go_and_one_that_another_holds_is_left() {
        let root = tempfile::tempdir().expect("a directory");
        let group = |name: &str, freeze: &str| {
            let dir = root.path().join(name);
            fs::create_dir(&dir).expect("made");
            fs::write(dir.join("cgroup.freeze"), freeze).expect("written");
            fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 1\n").expect("written");
            dir
        };
        let (ours, theirs, note) = (group("ours", "0\n"), group("theirs", "1\n"), root.path().join("held"));
        let now = |dir: &Path| fs::read_to_string(dir.join("cgroup.freeze")).expect("there").trim_end().to_owned();
        let held = Held::hold_in(&[root.path()], ["/ours", "/theirs", "/gone"], &note);
        assert_eq!((now(&ours).as_str(), now(&theirs).as_str()), ("1", "1"));
        assert_eq!(fs::read_to_string(&note).expect("written down"), format!("{}\n", ours.display()));
        drop(held);
        assert_eq!((now(&ours).as_str(), now(&theirs).as_str()), ("0", "1"));
        assert!(!note.exists());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_held() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("ours");
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("cgroup.freeze"), "0\n").expect("written");
        drop(Held::hold_in(&[root.path()], ["/ours"], &root.path().join("nowhere/held")));
        assert_eq!(fs::read_to_string(dir.join("cgroup.freeze")).expect("there"), "0\n");
    }
}
