//! Whether a running sshd has read its configuration since that last changed.
//!
//! sshd goes by what it has read, and `sshd -T` tells what is on the disk. It writes its pid file anew each time that it has
//! read everything, at its start and at SIGHUP. It must never take an sshd for one that is up to date on doubt.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lockdown_core::policy::ways_in::Unread;
use nix::time::{ClockId, clock_gettime};

use crate::sshd::{
    effective::{Spec, effective},
    listener::Listener,
    scan::{self, Disk, text_of},
};

/// How exactly the start of a process is known: to the tick of its clock.
const TICK: Duration = Duration::from_millis(20);

/// How long sshd may take from its start until it has written its pid file.
const STARTS_WITHIN: Duration = Duration::from_millis(500);

/// What changed since this listener has read its configuration; `None` where nothing did, or sshd reads it for each
/// connection.
pub(super) fn since(listener: &Listener) -> Option<Unread> {
    let process = listener.process?;
    let scan = scan::scan(&Disk, &listener.invocation.config_file);
    let own_file = read_at(listener);
    let read_at = own_file.or_else(|| SystemTime::now().checked_sub(age(process.began())))?;
    // A directory tells of files that are gone: one that an `Include` reads, not whatever comes and goes beside the main file.
    let patterns = || scan.includes.iter().flat_map(|include| &include.patterns);
    let is_read = |dir: &&PathBuf| {
        patterns().any(|(pattern, _)| {
            let parent = Path::new(pattern).parent().unwrap_or(Path::new("/"));
            parent == dir.as_path() || parent.to_string_lossy().contains(['*', '?', '['])
        })
    };
    let mut places = scan.files.iter().chain(scan.dirs.iter().filter(is_read));
    let changed = places.find(|path| changed_at(path).is_some_and(|at| at >= read_at))?;
    let pid = process.pid;
    Some(Unread { path: record::outside(changed.as_os_str().as_encoded_bytes()), pid, tells: own_file.is_some() })
}

/// Whether a listener surely, or by its start at about that time perhaps, has not read this file since it last changed.
pub(super) fn missed(listener: &Listener, path: &Path) -> bool {
    let (Some(process), Some(read_at), Some(changed)) = (listener.process, read_at(listener), changed_at(path)) else {
        return false;
    };
    // At its start it writes its pid file some time after it has read its configuration.
    let began = SystemTime::now().checked_sub(age(process.began()));
    let starts = began.is_some_and(|began| began < changed && began + STARTS_WITHIN > changed);
    read_at < changed || (starts && read_at < changed + STARTS_WITHIN)
}

/// When a listener has last read everything, by its pid file.
fn read_at(listener: &Listener) -> Option<SystemTime> {
    let settings = effective(&listener.invocation, &Spec::of_anybody()).ok()?;
    let path = settings.get("pidfile").filter(|path| *path != "none").map(PathBuf::from)?;
    written_by(&path, listener.process?.pid)
}

/// When a pid file was written, if it is this process's.
fn written_by(path: &Path, pid: i32) -> Option<SystemTime> {
    let text = text_of(path).ok()??;
    if text.trim().parse() != Ok(pid) {
        return None;
    }
    fs::metadata(path).ok()?.modified().ok()
}

/// For how long something has been there that began so long after the boot; more rather than less.
fn age(began: Duration) -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
    now.saturating_sub(began) + TICK
}

/// When a file, its name or its mode last changed: the one time that nobody can set.
fn changed_at(path: &Path) -> Option<SystemTime> {
    let meta = fs::metadata(path).ok()?;
    let (seconds, nanos) = (u64::try_from(meta.ctime()).ok()?, u64::try_from(meta.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
}
