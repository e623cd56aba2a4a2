//! Tells when something changes in a directory on which it depends whether an exempt account can log in with a key.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use record::Account;

use super::{
    ExemptKeys,
    exempt::{self, Places},
};
use crate::paths::{Root, Sight};

/// How many different keys one watch remembers; who may write such a file can put in as many as they like.
const MAX_SEEN: usize = 256;

/// The keys of exempt accounts, as they were seen when their files changed.
pub type Seen = BTreeMap<Account, ExemptKeys>;

/// A watch on those directories. It tells of the first change only: after that somebody has to look, and to watch anew.
/// Meanwhile it reads each key file that changes, at once: a key may be gone when somebody looks.
#[derive(Debug)]
pub struct RescueWatch {
    _watcher: RecommendedWatcher,
    seen: Arc<Mutex<Seen>>,
}

impl RescueWatch {
    /// Watches for changes of these accounts' key files. Runs sshd, and opens directories that may hang: never on the main
    /// thread. `None` where nothing can be watched; sweeps look all the same.
    #[must_use]
    pub fn start(accounts: &[Account], on_change: impl Fn() + Send + 'static) -> Option<Self> {
        let Places { directories, files } = exempt::places(accounts);
        let (told, root) = (AtomicBool::new(false), Root::open(Path::new("/")).ok()?);
        let seen = Arc::new(Mutex::new(Seen::new()));
        let sees = Arc::clone(&seen);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !is_change(&event) {
                return;
            }
            for path in event.iter().flat_map(|event| &event.paths) {
                if let Some((account, file)) = files.get(path) {
                    remember(&sees, account, file, &root, path);
                }
            }
            if !told.swap(true, Ordering::Relaxed) {
                on_change();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "exempt accounts' key files cannot be watched; sweeps look at them all the same");
                return None;
            }
        };
        for directory in directories {
            // One that is not there shows in the one above it.
            let _ = watcher.watch(&directory, RecursiveMode::NonRecursive);
        }
        Some(Self { _watcher: watcher, seen })
    }

    /// The keys that it has seen so far, and forgets.
    #[must_use]
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds the keys that stand in a file now.
fn remember(seen: &Mutex<Seen>, account: &Account, file: &str, root: &Root, path: &Path) {
    let mut content = Vec::new();
    if !matches!(root.look(path, &mut content), Sight::File(_)) {
        return;
    }
    let found = exempt::fingerprints(&content);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let room = MAX_SEEN.saturating_sub(seen.values().flat_map(ExemptKeys::values).map(|keys| keys.len()).sum());
    let keys = seen.entry(account.clone()).or_default().entry(file.to_owned()).or_default();
    let new: Vec<String> = found.difference(keys).take(room).cloned().collect();
    keys.extend(new);
}

/// Reading and opening change nothing, or sshd's and our own reading would wake us for ever.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBY3dtgj1bMXVN7BAh9P0lHfvlAwQXBZPvMd1ByKv4zD\n";

    #[test]
    fn keys_that_stood_in_a_file_for_a_moment_are_remembered_up_to_a_bound() {
        let home = tempfile::tempdir().expect("a home");
        let (path, root) = (home.path().join("authorized_keys"), Root::open(Path::new("/")).expect("/"));
        let (seen, account) = (Mutex::new(Seen::new()), "breakglass".parse().expect("a name"));
        let now = |text: &str| {
            fs::write(&path, text).expect("a file");
            remember(&seen, &account, "its file", &root, &path);
            seen.lock().expect("nobody panics")[&account]["its file"].len()
        };
        assert_eq!((now(""), now(KEY), now("")), (0, 1, 1));
        let others = (0..MAX_SEEN).map(|n| n.to_string());
        seen.lock()
            .expect("nobody panics")
            .entry(account.clone())
            .or_default()
            .insert("another".into(), others.collect());
        assert_eq!(now(&KEY.replace("KyKv4zD", "KyKv4zE").replace("By", "Bz")), 1, "there is no room");
    }
}
