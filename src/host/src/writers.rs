//! Who wrote a file, as fanotify(7) tells it: the process, who logged in for it, and under which connection it runs.
//!
//! What is known is kept per directory and in memory alone. Nobody who removes a key waits here: the one thread that
//! listens looks at a writer as soon as it is told of, since it may end at once, and whoever makes a record asks later.
//! Where the kernel tells nothing, nobody is named.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use fanotify::{Changes, Event, FileId, Watch};
pub use lockdown_core::writers::{Change, Seen, Writer, Written};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr},
};

use super::{
    home_watch::{Names, push_closely},
    processes::{self, Process},
};

/// The name under which systemd keeps the watch for the daemon.
const NAME: &str = "writers";
/// The changes that are remembered of one directory; past it the oldest is forgotten.
pub const PER_DIRECTORY: usize = 16;
/// Readings of the queue in one go, each up to [`fanotify::BUFFER`] bytes.
pub const MAX_READS: usize = 8;
/// How long whoever asks waits for the thread that is looking at writers already.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// Directories that may be remembered besides twice those that are watched: who swaps theirs again and again makes new
/// ones.
pub const SPARE_DIRECTORIES: usize = 4096;

/// Where a file stood, by identities that nobody can forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    directory: FileId,
    above: Option<FileId>,
    file: Option<FileId>,
}

impl Whereabouts {
    /// Those of a file, as far as it can be told, in an opened directory; nothing where the file system has no identities.
    #[must_use]
    pub fn of(file: Option<FileId>, directory: BorrowedFd<'_>) -> Option<Self> {
        let above = FileId::entry(directory, OsStr::new("..")).ok();
        Some(Self { directory: FileId::of(directory).ok()?, above, file })
    }
}

/// What one directory is remembered by.
#[derive(Debug, Default)]
struct Place {
    /// Where it is, if it holds configuration.
    path: Option<Box<Path>>,
    /// The names that matter, sorted; `None` of them: every one.
    names: Option<Vec<Arc<OsStr>>>,
    /// Oldest first, [`PER_DIRECTORY`] at most.
    recent: Vec<Recent>,
}

#[derive(Debug)]
struct Recent {
    number: u64,
    name: OsString,
    file: Option<FileId>,
    writer: Option<Writer>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<FileId, Place>,
    names: Names,
    count: u64,
}

/// What the kernel has told of writers.
#[derive(Debug)]
pub struct Writers {
    watch: io::Result<Watch>,
    known: Mutex<Known>,
    /// Held by whoever reads the queue, so that events are taken in order.
    reading: Mutex<()>,
}

impl Writers {
    /// Takes over the watch that [`keep`] left with systemd; without one, nobody will be named.
    #[must_use]
    pub fn open() -> Arc<Self> {
        Arc::new(Self { watch: Watch::passed(NAME), known: Mutex::default(), reading: Mutex::default() })
    }

    /// One that never knows anybody.
    #[must_use]
    pub fn nobody() -> Arc<Self> {
        let watch = Err(io::ErrorKind::Unsupported.into());
        Arc::new(Self { watch, known: Mutex::default(), reading: Mutex::default() })
    }

    /// Starts the thread that listens, or says once why nobody will be named.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn listen(self: &Arc<Self>) -> io::Result<()> {
        if let Err(error) = &self.watch {
            tracing::warn!(%error, "the kernel does not tell who writes a file (fanotify): records say that the writer is unknown");
            return Ok(());
        }
        let own = Arc::clone(self);
        thread::Builder::new().name("writers".to_owned()).spawn(move || own.run()).map(drop)
    }

    fn run(&self) {
        while let Ok(watch) = &self.watch {
            // Interrupted or not, what there is to read is found out below.
            let _ = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            let held = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = self.read(watch) {
                return tracing::error!(%error, "who writes files cannot be read any more: records say that the writer is unknown");
            }
            drop(held);
        }
    }

    /// From now on who changes `name` in this directory, or any name, is remembered.
    ///
    /// # Errors
    /// What fanotify_mark(2) says.
    pub fn expect(&self, directory: BorrowedFd<'_>, name: Option<&OsStr>, changes: Changes) -> io::Result<()> {
        self.add(directory, name.map(|name| vec![name]), None, changes)
    }

    /// From now on who changes these names of configuration in a directory, or any name, is remembered. That it cannot
    /// be watched is no trouble of its own: the writer is unknown then.
    pub fn expect_configuration(&self, directory: &Path, names: Option<&[&str]>) {
        let names = names.map(|names| names.iter().map(OsStr::new).collect());
        let Ok(opened) = File::open(directory) else { return };
        if let Err(error) = self.add(opened.as_fd(), names, Some(directory), Changes::Everything) {
            tracing::debug!(path = %directory.display(), %error, "who changes it will not be known");
        }
    }

    fn add(
        &self,
        directory: BorrowedFd<'_>,
        names: Option<Vec<&OsStr>>,
        path: Option<&Path>,
        changes: Changes,
    ) -> io::Result<()> {
        let Ok(watch) = &self.watch else { return Ok(()) };
        let id = FileId::of(directory)?;
        self.known().expect(id, names, path);
        watch.mark(directory, changes)
    }

    /// Forgets every directory but those of configuration if there are many more than `watched`: then they have to be
    /// expected anew.
    pub fn forget_if_many(&self, watched: usize) -> bool {
        let Ok(watch) = &self.watch else { return false };
        let mut known = self.known();
        if known.places.len() <= 2 * watched + SPARE_DIRECTORIES || watch.forget_all().is_err() {
            return false;
        }
        known.places.retain(|_, place| place.path.is_some());
        let paths: Vec<PathBuf> =
            known.places.values().filter_map(|place| Some(place.path.as_deref()?.into())).collect();
        // One may lie on a file system that does not answer: others must not wait for this.
        drop(known);
        for path in paths {
            // As when it was first marked: what cannot be watched is unknown.
            let _ = File::open(path).and_then(|opened| watch.mark(opened.as_fd(), Changes::Everything));
        }
        true
    }

    /// Who wrote a file, or else who brought the directory in which it stood. The daemon itself is left out.
    #[must_use]
    pub fn of(&self, file: &Whereabouts) -> Written {
        self.catch_up();
        let known = self.known();
        let changed = |directory: Option<&FileId>, file: Option<&FileId>| -> Vec<Option<Writer>> {
            let recent = directory.and_then(|id| known.places.get(id)).into_iter().flat_map(|place| &place.recent);
            let of_it = recent.filter(|recent| file.is_some() && recent.file.as_ref() == file);
            of_it.map(|recent| recent.writer.clone()).filter(|writer| !is_ourself(writer.as_ref())).collect()
        };
        let by = changed(Some(&file.directory), file.file.as_ref());
        if !by.is_empty() {
            return Written { by, directory: false };
        }
        Written { by: changed(file.above.as_ref(), Some(&file.directory)), directory: true }
    }

    /// Who changed configuration that `concerns` is true of, after change number `since`, last one last; and the number
    /// of the last change that there was.
    #[must_use]
    pub fn changes(&self, since: u64, concerns: impl Fn(&Path) -> bool) -> (Vec<Change>, u64) {
        self.catch_up();
        let known = self.known();
        let mut found = Vec::new();
        for place in known.places.values() {
            let Some(path) = &place.path else { continue };
            let new = place.recent.iter().filter(|recent| recent.number > since);
            found.extend(new.map(|recent| (recent.number, path.join(&recent.name), recent.writer.clone())));
        }
        found.retain(|(_, path, _)| concerns(path));
        found.sort_by_key(|(number, ..)| *number);
        (found.into_iter().map(|(_, path, writer)| (path, writer)).collect(), known.count)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what waits, unless the thread is at it for longer than [`PATIENCE`].
    fn catch_up(&self) {
        let Ok(watch) = &self.watch else { return };
        let start = Instant::now();
        loop {
            match self.reading.try_lock() {
                // What cannot be read, the thread says.
                Ok(_held) => return drop(self.read(watch)),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PATIENCE / 20),
                Err(_) => return,
            }
        }
    }

    fn read(&self, watch: &Watch) -> io::Result<()> {
        for _ in 0..MAX_READS {
            let events = watch.read()?;
            if events.is_empty() {
                break;
            }
            // One process that writes again and again is looked at once.
            let mut met: HashMap<i32, Writer> = HashMap::new();
            for event in events {
                match event {
                    // What is not known any more must not be guessed.
                    Event::Overflow => self.known().places.values_mut().for_each(|place| place.recent = Vec::new()),
                    Event::Change { directory, name, file, writer } => {
                        if self.matters(&directory, &name) {
                            let writer = look_at(&writer, &mut met);
                            self.known().remember(&directory, name, file, writer);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn matters(&self, directory: &FileId, name: &OsStr) -> bool {
        let known = self.known();
        known
            .places
            .get(directory)
            .is_some_and(|place| place.names.as_ref().is_none_or(|names| find(names, name).is_ok()))
    }
}

/// Makes the watch and leaves it with systemd (sd_pid_notify_with_fds(3)) for the daemon, which so never holds `CAP_SYS_ADMIN`. One that was left
/// before is replaced: what it knew, went with the daemon.
///
/// # Errors
/// What fanotify_init(2) says, or systemd cannot be told.
pub fn keep() -> io::Result<()> {
    let watch = Watch::new()?;
    let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    let systemd = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path.as_os_str())?,
    };
    let tell = |what: &str, passed: &[ControlMessage<'_>]| {
        let message = format!("{what}=1\nFDNAME={NAME}\n");
        let text = [IoSlice::new(message.as_bytes())];
        socket::sendmsg(socket.as_raw_fd(), &text, passed, MsgFlags::MSG_NOSIGNAL, Some(&systemd)).map(drop)
    };
    tell("FDSTOREREMOVE", &[])?;
    Ok(tell("FDSTORE", &[ControlMessage::ScmRights(&[watch.as_fd().as_raw_fd()])])?)
}

impl Known {
    fn expect(&mut self, id: FileId, names: Option<Vec<&OsStr>>, path: Option<&Path>) {
        let Self { places, names: held, .. } = self;
        let is_new = !places.contains_key(&id);
        let place = places.entry(id).or_default();
        match (names, &mut place.names) {
            (None, known) => *known = None,
            (Some(_), None) if !is_new => {}
            (Some(names), known) => {
                let known = known.get_or_insert_default();
                for name in names {
                    if let Err(index) = find(known, name) {
                        known.insert(index, held.hold(name));
                    }
                }
            }
        }
        if let Some(path) = path {
            place.path = Some(path.into());
        }
    }

    fn remember(&mut self, directory: &FileId, name: OsString, file: Option<FileId>, mut writer: Option<Writer>) {
        let Some(place) = self.places.get_mut(directory) else { return };
        let pid = writer.as_ref().map(|writer| writer.pid);
        let same = |recent: &Recent| {
            recent.name == name && recent.file == file && recent.writer.as_ref().map(|writer| writer.pid) == pid
        };
        let changes = &mut place.recent;
        if let Some(index) = changes.iter().position(same) {
            let before = changes.remove(index).writer;
            // Seen at its first change, and gone since.
            writer = writer.filter(|writer| writer.seen.is_some()).or(before);
        } else if changes.len() >= PER_DIRECTORY {
            changes.remove(0);
        }
        self.count += 1;
        push_closely(changes, Recent { number: self.count, name, file, writer });
    }
}

/// Where the name stands among sorted ones, or would.
fn find(names: &[Arc<OsStr>], name: &OsStr) -> Result<usize, usize> {
    names.binary_search_by(|known| (**known).cmp(name))
}

fn is_ourself(writer: Option<&Writer>) -> bool {
    writer.is_some_and(|writer| writer.pid == std::process::id())
}

/// Looks at the process that made a change; `None` for one outside of our pid namespace.
fn look_at(writer: &fanotify::Writer, met: &mut HashMap<i32, Writer>) -> Option<Writer> {
    let pid = u32::try_from(writer.pid).ok().filter(|pid| *pid > 0)?;
    if let Some(known) = met.get(&writer.pid).filter(|known| known.seen.is_some() && writer.is_still_it()) {
        return Some(known.clone());
    }
    let process = Process::read(writer.pid);
    let above = processes::ancestors(writer.pid);
    // Only now is it sure that what was read is about this process and no later one with its pid.
    let seen = process.filter(|_| writer.is_still_it()).map(|process| Seen {
        uid: process.euid,
        login_uid: process.login_uid,
        audit_session: process.audit_session,
        exe: process.exe,
        line: std::iter::once(process.id).chain(above).collect(),
    });
    let found = Writer { pid, seen };
    met.insert(writer.pid, found.clone());
    Some(found)
}

#[cfg(test)]
mod tests;
