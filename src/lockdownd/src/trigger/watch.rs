//! Watches the places that only root writes: key store, accounts, sshd's and PAM's configuration.
//!
//! Homes are not watched here: their directories can be moved and replaced by their owners, so they are watched by
//! descriptor in [`lockdown_host::home_watch`]. A symbolic link in these places was made by root.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use lockdown_host::{
    doors::RUN,
    inbox::INBOX,
    key_store::KEY_STORE,
    pam::GATE,
    shipper::{HINT, SHIPPER},
    writers::Writers,
};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::sync::mpsc;

use super::{Place, Reason};

/// Files in `/etc` that say which accounts there are and which of them may log in.
const ACCOUNT_FILES: [&str; 5] = ["passwd", "group", "shadow", "nologin", "nsswitch.conf"];
/// What matters in `/etc` itself.
const IN_ETC: [&str; 8] = ["passwd", "group", "shadow", "nologin", "nsswitch.conf", "ssh", "pam.d", "pam.conf"];
/// Where the gate's program is.
const PROGRAMS: &str = "/usr/lib/lockdownd";
/// What the daemon's own directory is in: sshd walks it, too. Nothing else in it matters.
const ABOVE_RUN: &str = "/run";
/// PAM's directory.
const PAM: &str = "/etc/pam.d";
/// What the daemon keeps in its directory of one boot: written again where somebody removes it.
const KEPT: [&str; 3] = ["/run/lockdownd/sessions.json", "/run/lockdownd/traces.json", "/run/lockdownd/ship.json"];
/// The daemon's own directory: most of what changes there is its own doing.
const STATE: &str = "/var/lib/lockdownd";

/// The watches.
pub struct Watch {
    fixed: Watcher,
    /// Those outside of `/etc` that sshd's configuration names.
    elsewhere: Lane,
    /// Another user's.
    shippers: Lane,
    told: Told,
}

/// Which places are on their way to be looked at.
type Told = Arc<Mutex<BTreeSet<Place>>>;

/// Its device and its number.
type Inode = (u64, u64);

/// One inotify instance, and what it could not watch.
struct Watcher {
    inotify: RecommendedWatcher,
    writers: Arc<Writers>,
    failing: BTreeSet<PathBuf>,
}

/// Directories that are watched by a thread of their own. One of them may lie on a file system that does not answer: then changes
/// in all of these are seen by sweeps alone, and nothing else waits.
struct Lane {
    wanted: Arc<(Mutex<Option<Vec<PathBuf>>>, Condvar)>,
}

impl Watch {
    /// Starts watching nothing yet. Of what is configuration, `writers` is told to expect changes.
    ///
    /// # Errors
    /// No inotify instance can be had (inotify(7): `max_user_instances`).
    pub fn new(reasons: &mpsc::Sender<Reason>, writers: &Arc<Writers>) -> notify::Result<Self> {
        let told = Told::default();
        let watcher = || Watcher::new(reasons.clone(), Arc::clone(&told), Arc::clone(writers));
        let fixed = watcher()?;
        let lane = |is_configuration, places: &'static [Place]| {
            let (reasons, told) = (reasons.clone(), Arc::clone(&told));
            // What is watched from now on may have changed before.
            let news = move || places.iter().for_each(|place| tell(&reasons, &told, *place));
            Lane::start(watcher()?, is_configuration, news).map_err(notify::Error::io)
        };
        let elsewhere = lane(true, &[Place::Sshd])?;
        let shippers = lane(false, &[Place::Shipper, Place::Inbox])?;
        Ok(Self { fixed, elsewhere, shippers, told })
    }

    /// A place is about to be looked at: what touches it from now on is told again.
    pub fn seen(&self, place: Place) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }

    /// Watches these directories besides the fixed ones, and anew those that were replaced.
    pub fn renew(&mut self, directories: Vec<PathBuf>) {
        let Watcher { writers, .. } = &self.fixed;
        writers.expect_configuration(Path::new("/etc"), Some(&IN_ETC));
        for directory in [PAM, KEY_STORE] {
            writers.expect_configuration(Path::new(directory), None);
        }
        for directory in ["/etc", PAM, ABOVE_RUN, RUN, KEY_STORE, STATE, PROGRAMS] {
            self.fixed.watch(Path::new(directory));
        }
        let (in_etc, elsewhere): (Vec<_>, Vec<_>) =
            directories.into_iter().partition(|directory| directory.starts_with("/etc"));
        for directory in in_etc {
            self.fixed.writers.expect_configuration(&directory, None);
            self.fixed.watch(&directory);
        }
        self.elsewhere.watch(elsewhere);
        self.shippers.watch([SHIPPER, INBOX].map(PathBuf::from).to_vec());
    }
}

/// Sends a reason, unless one is on its way already, which will be acted on after this.
fn tell(reasons: &mpsc::Sender<Reason>, told: &Told, place: Place) {
    if told.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
        // The watcher's own thread may wait: what is not read yet stays in the kernel's queue.
        let _ = reasons.blocking_send(Reason::Touched(place));
    }
}

impl Watcher {
    fn new(reasons: mpsc::Sender<Reason>, told: Told, writers: Arc<Writers>) -> notify::Result<Self> {
        let inotify = notify::recommended_watcher(move |event: notify::Result<Event>| {
            touched(event).into_iter().for_each(|place| tell(&reasons, &told, place));
        })?;
        Ok(Self { inotify, writers, failing: BTreeSet::new() })
    }

    /// Watches a directory; again, which changes nothing where it is the same. Whether it is watched.
    fn watch(&mut self, directory: &Path) -> bool {
        match self.inotify.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.failing.remove(directory);
                return true;
            }
            Err(error) if self.failing.insert(directory.to_owned()) => {
                tracing::warn!(path = %directory.display(), %error, "cannot be watched; sweeps look at it all the same");
            }
            Err(_) => {}
        }
        false
    }
}

impl Lane {
    /// Starts the thread; `news` is called when it watches a directory that it did not watch before.
    fn start(mut watcher: Watcher, is_configuration: bool, news: impl Fn() + Send + 'static) -> io::Result<Self> {
        let wanted = Arc::new((Mutex::new(None::<Vec<PathBuf>>), Condvar::new()));
        let its = Arc::clone(&wanted);
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut watched: BTreeMap<PathBuf, Inode> = BTreeMap::new();
            let (wanted, changed) = &*its;
            loop {
                let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                let wanted = changed.wait_while(wanted, |wanted| wanted.is_none()).map(|mut wanted| wanted.take());
                let Ok(Some(directories)) = wanted else { return };
                let before = std::mem::take(&mut watched);
                for directory in directories {
                    if is_configuration {
                        watcher.writers.expect_configuration(&directory, None);
                    }
                    // One that is absent is as one that says nothing.
                    let Ok(there) = fs::metadata(&directory) else { continue };
                    if watcher.watch(&directory) {
                        watched.insert(directory, (there.dev(), there.ino()));
                    }
                }
                if watched.iter().any(|(directory, inode)| before.get(directory) != Some(inode)) {
                    news();
                }
            }
        })?;
        Ok(Self { wanted })
    }

    /// Has these directories watched, in place of those that are wanted and were not come to yet.
    fn watch(&self, directories: Vec<PathBuf>) {
        let (wanted, changed) = &*self.wanted;
        *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(directories);
        changed.notify_one();
    }
}

/// What an event means. Reading and opening mean nothing, or our own reading would wake us for ever.
fn touched(event: notify::Result<Event>) -> BTreeSet<Place> {
    let Ok(event) = event else { return BTreeSet::from([Place::Anywhere]) };
    if event.need_rescan() {
        return BTreeSet::from([Place::Anywhere]);
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return BTreeSet::new(),
        _ => {}
    }
    let went = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)));
    // The daemon itself replaces what it keeps there; only that somebody took it away means anything.
    let taken = |path: &Path| (went && KEPT.map(Path::new).contains(&path)).then_some(Place::Gate);
    event.paths.iter().filter_map(|path| place_of(path).or_else(|| taken(path))).collect()
}

/// Which place a path is part of; nothing where it means nothing.
pub(crate) fn place_of(path: &Path) -> Option<Place> {
    let store = Path::new(KEY_STORE);
    if path.starts_with(store) {
        return Some(Place::Store);
    }
    if path == Path::new(INBOX) {
        // Replaced by another, which is watched from now on.
        return Some(Place::Inbox);
    }
    if path.starts_with(INBOX) {
        // What is written there is renamed into place.
        return path.extension().is_some_and(|extension| extension == "json").then_some(Place::Inbox);
    }
    if path.starts_with(SHIPPER) {
        // Its cursors move all the time; only the hint asks for something.
        return (path.parent() == Some(Path::new(SHIPPER)) && path.ends_with(HINT)).then_some(Place::Shipper);
    }
    if path == Path::new(ABOVE_RUN) {
        return Some(Place::Gate);
    }
    if path.parent() == Some(Path::new(ABOVE_RUN)) && path != Path::new(RUN) {
        return None;
    }
    if path.starts_with(RUN) || path.starts_with(PROGRAMS) {
        let is_the_gates = [RUN, control::gate::SOCKET, control::SOCKET, PROGRAMS, GATE].map(Path::new).contains(&path);
        return is_the_gates.then_some(Place::Gate);
    }
    if path.starts_with(STATE) {
        let is_read_elsewhere = [control::gate::EXEMPT, control::gate::ENFORCING].map(Path::new).contains(&path);
        return is_read_elsewhere.then_some(Place::State);
    }
    if path.starts_with(PAM) {
        return Some(Place::Pam);
    }
    if path.parent() == Some(Path::new("/etc")) {
        let name = path.file_name()?.to_str()?;
        return match name {
            _ if ACCOUNT_FILES.contains(&name) => Some(Place::Accounts),
            "ssh" => Some(Place::Sshd),
            "pam.d" | "pam.conf" => Some(Place::Pam),
            _ => None,
        };
    }
    Some(Place::Sshd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_keeps_for_a_restart_matters_when_it_goes_and_not_when_it_is_replaced() {
        let event = |kind, path: &str| touched(Ok(Event::new(kind).add_path(path.into())));
        let removed = EventKind::Remove(notify::event::RemoveKind::File);
        let moved = |mode| EventKind::Modify(ModifyKind::Name(mode));
        for path in KEPT {
            assert_eq!(event(removed, path), [Place::Gate].into());
            assert_eq!(event(moved(RenameMode::From), path), [Place::Gate].into());
            assert_eq!(event(moved(RenameMode::To), path), BTreeSet::new(), "replaced by the daemon");
        }
        assert_eq!(event(removed, "/run/lockdownd/held"), BTreeSet::new());
    }

    #[test]
    fn each_path_means_its_place() {
        for (path, place) in [
            ("/run/lockdownd/keys/ubuntu", Some(Place::Store)),
            ("/run/lockdownd/keys", Some(Place::Store)),
            ("/run/lockdownd/sessions.json", None),
            ("/run", Some(Place::Gate)),
            ("/run/utmp", None),
            ("/run/lockdownd", Some(Place::Gate)),
            ("/run/lockdownd/gate.sock", Some(Place::Gate)),
            ("/run/lockdownd/control.sock", Some(Place::Gate)),
            ("/run/lockdownd/.gate.sock.new", None),
            ("/usr/lib/lockdownd/login-gate", Some(Place::Gate)),
            ("/usr/lib/lockdownd/other", None),
            ("/var/lib/lockdownd/exempt", Some(Place::State)),
            ("/var/lib/lockdownd/enforcing", Some(Place::State)),
            ("/var/lib/lockdownd/grants.json", None),
            ("/var/lib/lockdownd-shipper/hint.json", Some(Place::Shipper)),
            ("/var/lib/lockdownd-shipper/inbox", Some(Place::Inbox)),
            ("/var/lib/lockdownd-shipper/inbox/feed.json", Some(Place::Inbox)),
            ("/var/lib/lockdownd-shipper/inbox/.feed.tmp", None),
            ("/var/lib/lockdownd-shipper/api.cursor", None),
            ("/var/lib/lockdownd-shipper/receipts/hint.json", None),
            ("/etc/passwd", Some(Place::Accounts)),
            ("/etc/shadow", Some(Place::Accounts)),
            ("/etc/nologin", Some(Place::Accounts)),
            ("/etc/passwd.lock", None),
            ("/etc/hosts", None),
            ("/etc/ssh/sshd_config", Some(Place::Sshd)),
            ("/etc/ssh/sshd_config.d/50-cloud-init.conf", Some(Place::Sshd)),
            ("/etc/pam.d/common-session", Some(Place::Pam)),
            ("/opt/sshd/second.conf", Some(Place::Sshd)),
        ] {
            assert_eq!(place_of(Path::new(path)), place, "{path}");
        }
    }

    #[test]
    fn reading_wakes_nobody_and_a_full_queue_wakes_for_everything() {
        let at = |kind| Event::new(kind).add_path("/etc/passwd".into());
        let opened = at(EventKind::Access(AccessKind::Open(AccessMode::Any)));
        assert!(touched(Ok(opened)).is_empty());
        let written = at(EventKind::Access(AccessKind::Close(AccessMode::Write)));
        assert_eq!(touched(Ok(written)), BTreeSet::from([Place::Accounts]));
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(touched(Ok(overflow)), BTreeSet::from([Place::Anywhere]));
    }
}
