//! Tells when something changes in a directory on which it depends whether an exempt account can log in with a key.

use std::sync::atomic::{AtomicBool, Ordering};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use record::Account;

use super::exempt;

/// A watch on those directories. It tells of the first change only: after that somebody has to look, and to watch anew.
#[derive(Debug)]
pub struct RescueWatch {
    _watcher: RecommendedWatcher,
}

impl RescueWatch {
    /// Watches for changes of these accounts' key files. Runs sshd, and opens directories that may hang: never on the main
    /// thread. `None` where nothing can be watched; sweeps look all the same.
    #[must_use]
    pub fn start(accounts: &[Account], on_change: impl Fn() + Send + 'static) -> Option<Self> {
        let told = AtomicBool::new(false);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if is_change(&event) && !told.swap(true, Ordering::Relaxed) {
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
        for directory in exempt::directories(accounts) {
            // One that is not there shows in the one above it.
            let _ = watcher.watch(&directory, RecursiveMode::NonRecursive);
        }
        Some(Self { _watcher: watcher })
    }
}

/// Reading and opening change nothing, or sshd's and our own reading would wake us for ever.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)),
        Err(_) => true,
    }
}
