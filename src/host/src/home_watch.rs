//! Watches directories of homes by inotify(7), and says whose key files to look at.
//!
//! A watch is added by descriptor, so that it is on the directory that was opened and no other; no descriptor is held
//! afterwards, so that nothing stops a file system from being unmounted. Reads wake nobody: our own must not.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::Arc,
};

use fanotify::Changes;

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};

use super::writers::Writers;

/// Reads of the queue in one drain (each up to 4 KiB, some 60 to 250 events), so that a flood cannot hold the thread.
pub const MAX_READS: usize = 32;

/// `IN_MASK_ADD` of inotify(7), which nix does not name: a directory that serves two roles is watched for both.
const IN_MASK_ADD: AddWatchFlags = AddWatchFlags::from_bits_retain(0x2000_0000);
/// `IN_EXCL_UNLINK` of inotify(7), which nix does not name: who still writes to a file that is gone wakes nobody.
const IN_EXCL_UNLINK: AddWatchFlags = AddWatchFlags::from_bits_retain(0x0400_0000);

/// Names that are held once, however many directories are watched for them.
const MAX_NAMES: usize = 64;

/// Which account (or group of shared files) a watch serves: its place in the territory.
pub type Unit = u32;

/// What a name in a watched directory is to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A part of the way to key files: when it appears, the way has to be walked anew.
    Way,
    /// A key file: when it appears or is written, it has to be looked at.
    KeyFile,
}

/// What has to be done for a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Look at its key files where they were last seen to be.
    Files,
    /// Walk the ways to its key files anew, then look.
    Ways,
}

/// How a drain of the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// The kernel dropped events: everything has to be looked at.
    pub overflowed: bool,
    /// There may be more to read.
    pub unfinished: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Interest {
    unit: Unit,
    /// `None`: every name.
    name: Option<Arc<OsStr>>,
    role: Role,
}

/// The watches, each on behalf of one or more units.
#[derive(Debug)]
pub struct HomeWatch {
    inotify: Inotify,
    writers: Arc<Writers>,
    interests: HashMap<WatchDescriptor, Vec<Interest>>,
    of_unit: HashMap<Unit, Vec<WatchDescriptor>>,
    names: Names,
}

/// Names that are the same in thousands of homes, each held once.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<Arc<OsStr>>);

impl Names {
    /// The one copy of this name; past [`MAX_NAMES`] another one.
    pub(crate) fn hold(&mut self, name: &OsStr) -> Arc<OsStr> {
        if let Some(held) = self.0.get(name) {
            return Arc::clone(held);
        }
        let held: Arc<OsStr> = name.into();
        if self.0.len() < MAX_NAMES {
            self.0.insert(Arc::clone(&held));
        }
        held
    }
}

impl HomeWatch {
    /// A watch on nothing yet. What it watches, `writers` is told to expect.
    ///
    /// # Errors
    /// What inotify_init1(2) says.
    pub fn open(writers: Arc<Writers>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, writers, interests: HashMap::new(), of_unit: HashMap::new(), names: Names::default() })
    }

    /// How many directories are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.interests.len()
    }

    /// Has writers of directories that are watched no more forgotten, if there are many. `true`: of all directories,
    /// so that the ways have to be walked anew.
    pub fn forget_writers(&mut self) -> bool {
        self.writers.forget_if_many(self.watched())
    }

    /// Replaces all watches of `unit` by those that `walk` adds. Nothing is missed in between: a directory that is
    /// watched before and after stays watched throughout.
    pub fn rewatch<T>(&mut self, unit: Unit, walk: impl FnOnce(&mut Adding<'_>) -> T) -> T {
        let old = self.of_unit.remove(&unit).unwrap_or_default();
        for wd in &old {
            if let Some(interests) = self.interests.get_mut(wd) {
                interests.retain(|interest| interest.unit != unit);
            }
        }
        let answer = walk(&mut Adding { watch: self, unit });
        for wd in old {
            if self.interests.get(&wd).is_some_and(Vec::is_empty) {
                self.interests.remove(&wd);
                // Gone by itself if the directory was deleted.
                let _ = self.inotify.rm_watch(wd);
            }
        }
        answer
    }

    /// Reads what has happened, bounded by [`MAX_READS`], and names each unit that needs something; a unit may be
    /// named more than once.
    ///
    /// # Errors
    /// What read(2) says, except that there is nothing.
    pub fn drain(&mut self, mut wake: impl FnMut(Unit, Need)) -> io::Result<Drained> {
        let mut overflowed = false;
        for _ in 0..MAX_READS {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(Drained { overflowed, unfinished: false }),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in events {
                overflowed |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                self.take_event(&event, &mut wake);
            }
        }
        Ok(Drained { overflowed, unfinished: true })
    }

    fn take_event(&mut self, event: &InotifyEvent, wake: &mut impl FnMut(Unit, Need)) {
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_UNMOUNT;
        let moved = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let Some(interests) = self.interests.get(&event.wd) else { return };
        if event.mask.intersects(gone | moved) {
            interests.iter().for_each(|interest| wake(interest.unit, Need::Ways));
        } else {
            for interest in interests.iter().filter(|interest| interest.concerns(event.name.as_ref())) {
                wake(interest.unit, if interest.role == Role::Way { Need::Ways } else { Need::Files });
            }
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.interests.remove(&event.wd);
        }
    }
}

impl Interest {
    fn concerns(&self, name: Option<&OsString>) -> bool {
        match (&self.name, name) {
            (None, _) => true,
            (Some(wanted), Some(name)) => **wanted == **name,
            (Some(_), None) => false,
        }
    }
}

impl AsFd for HomeWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Adds watches on behalf of one unit, within [`HomeWatch::rewatch`].
#[derive(Debug)]
pub struct Adding<'a> {
    watch: &'a mut HomeWatch,
    unit: Unit,
}

impl Adding<'_> {
    /// Watches an opened directory for `name`, or for every name.
    ///
    /// # Errors
    /// What inotify_add_watch(2) says: `ENOSPC` where `fs.inotify.max_user_watches` is reached.
    pub fn add(&mut self, directory: BorrowedFd<'_>, name: Option<&OsStr>, role: Role) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let wd = self.watch.inotify.add_watch(path.as_str(), mask(role))?;
        let changes = if role == Role::Way { Changes::Names } else { Changes::Writes };
        if let Err(error) = self.watch.writers.expect(directory, name, changes) {
            tracing::debug!(%error, "who writes keys in a directory will not be known");
        }
        let name = name.map(|name| self.watch.names.hold(name));
        let interest = Interest { unit: self.unit, name, role };
        let interests = self.watch.interests.entry(wd).or_default();
        // Those of one unit are added one after the other.
        if !interests.iter().rev().take_while(|other| other.unit == self.unit).any(|other| *other == interest) {
            push_closely(interests, interest);
        }
        let of_unit = self.watch.of_unit.entry(self.unit).or_default();
        if !of_unit.contains(&wd) {
            push_closely(of_unit, wd);
        }
        Ok(())
    }
}

/// Without spare room while there are few: there are thousands of such lists.
pub(crate) fn push_closely<T>(list: &mut Vec<T>, item: T) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
    list.push(item);
}

/// Only a directory of key files is watched for writes: in `/dev`, the home of `sys`, everybody writes all the time.
fn mask(role: Role) -> AddWatchFlags {
    let way = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
        | IN_MASK_ADD;
    match role {
        Role::Way => way,
        Role::KeyFile => way | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE | IN_EXCL_UNLINK,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, path::Path};

    use super::*;

    fn heard(watch: &mut HomeWatch) -> Vec<(Unit, Need)> {
        let mut heard = Vec::new();
        watch.drain(|unit, need| heard.push((unit, need))).unwrap();
        heard.dedup();
        heard
    }

    fn add(watch: &mut HomeWatch, unit: Unit, directory: &Path, name: &str, role: Role) {
        let opened = File::open(directory).unwrap();
        watch.rewatch(unit, |adding| adding.add(opened.as_fd(), Some(OsStr::new(name)), role)).unwrap();
    }

    #[test]
    fn only_whom_a_name_concerns_is_woken_and_reading_wakes_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = HomeWatch::open(Writers::nobody()).unwrap();
        add(&mut watch, 1, directory.path(), "keys", Role::KeyFile);
        add(&mut watch, 2, directory.path(), ".ssh", Role::Way);
        assert_eq!(watch.watched(), 1);
        fs::write(directory.path().join("other"), "x").unwrap();
        assert_eq!(heard(&mut watch), []);
        fs::write(directory.path().join("keys"), "x").unwrap();
        assert_eq!(heard(&mut watch), [(1, Need::Files)]);
        fs::read(directory.path().join("keys")).unwrap();
        fs::read_dir(directory.path()).unwrap().for_each(drop);
        assert_eq!(heard(&mut watch), []);
        fs::create_dir(directory.path().join(".ssh")).unwrap();
        assert_eq!(heard(&mut watch), [(2, Need::Ways)]);
    }

    #[test]
    fn a_directory_that_only_leads_on_is_not_watched_for_writes() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".ssh"), "").unwrap();
        let mut watch = HomeWatch::open(Writers::nobody()).unwrap();
        add(&mut watch, 1, directory.path(), ".ssh", Role::Way);
        fs::write(directory.path().join(".ssh"), "written").unwrap();
        assert_eq!(heard(&mut watch), []);
    }

    #[test]
    fn a_directory_that_moves_or_goes_wakes_everybody_it_served_and_is_forgotten() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("home");
        fs::create_dir(&directory).unwrap();
        let mut watch = HomeWatch::open(Writers::nobody()).unwrap();
        for unit in [1, 2] {
            add(&mut watch, unit, &directory, "keys", Role::KeyFile);
        }
        fs::rename(&directory, above.path().join("moved")).unwrap();
        assert_eq!(heard(&mut watch), [(1, Need::Ways), (2, Need::Ways)]);
        fs::remove_dir(above.path().join("moved")).unwrap();
        assert!(heard(&mut watch).starts_with(&[(1, Need::Ways), (2, Need::Ways)]));
        assert_eq!(watch.watched(), 0);
    }
}
