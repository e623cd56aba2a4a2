//! Between what happens and the ledger: batches, and the coalescing of what others can cause at will.
//!
//! Removals and endings never wait for the ledger: what cannot be written is owed by it, and follows. What must be on
//! disk before it takes effect (a grant, a login) asks [`Recorder::record_first`] and does not happen if that fails.

use std::time::Duration;

use lockdown_core::policy::time::Now;
use lockdown_core::windows::Windows;
use record::Draft;

use crate::ledger::{self, Ledger};

/// Takes drafts, gives them to the ledger.
#[derive(Debug)]
pub struct Recorder {
    ledger: Ledger,
    noted: Vec<Draft>,
    windows: Windows,
    failing: Option<String>,
}

impl Recorder {
    /// A recorder for this ledger, with nothing noted.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, noted: Vec::new(), windows: Windows::default(), failing: None }
    }

    /// The ledger, to be read.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger, for what is not a record: its stack and its pruning.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Why the ledger cannot be written, while it cannot.
    #[must_use]
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// Notes a draft for the next [`Recorder::commit`], which every reason to act ends with.
    pub fn note(&mut self, draft: Draft) {
        self.noted.push(draft);
    }

    /// Notes a draft of which there may be a flood, which states so many: see [`Windows::take`].
    pub fn note_often(&mut self, draft: Draft, times: u64, now: Now) {
        self.noted.extend(self.windows.take(draft, times, now));
    }

    /// Notes the sums of every window that has closed by now, or of all of them.
    pub fn close_windows(&mut self, now: Now, all: bool) {
        self.noted.extend(self.windows.close(now, all));
    }

    /// When the next window closes, on the boot clock.
    #[must_use]
    pub fn next_close(&self) -> Option<Duration> {
        self.windows.next_close()
    }

    /// Writes everything that was noted, in order, and waits until it is on disk; whether it is. What is not is owed.
    pub fn commit(&mut self, now: Now) -> bool {
        if self.noted.is_empty() && self.ledger.owed() == 0 {
            return true;
        }
        let noted = std::mem::take(&mut self.noted);
        let written = self.ledger.append_or_owe(noted, now.wall).map(drop);
        self.tell(written).is_ok()
    }

    /// Writes one statement of new access, behind everything that was noted, and waits until it is on disk. A ledger
    /// that is full takes none: what is reserved in it is for what cannot be withheld.
    ///
    /// # Errors
    /// It is not on disk, and never will be: what it states must not happen.
    pub fn record_first(&mut self, draft: Draft, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append(vec![draft], now.wall).map(drop);
        match written {
            // What is reserved works: the ledger does not fail, it is full, which is told elsewhere.
            Err(full @ ledger::Error::Full(_)) => Err(full),
            written => self.tell(written),
        }
    }

    /// The same for a login that a grant of before backs: it may use what is reserved.
    ///
    /// # Errors
    /// As [`Recorder::record_first`].
    pub fn record_login(&mut self, draft: Draft, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append_needed(vec![draft], now.wall).map(drop);
        self.tell(written)
    }

    /// Writes these statements, behind everything that was noted, all or none, and waits until they are on disk.
    ///
    /// # Errors
    /// None of them is: whoever states them keeps them and tries again.
    pub fn record_all(&mut self, drafts: Vec<Draft>, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append(drafts, now.wall).map(drop);
        self.tell(written)
    }

    /// Says when the ledger begins to fail, and when it works again.
    fn tell(&mut self, written: Result<(), ledger::Error>) -> Result<(), ledger::Error> {
        match &written {
            Ok(()) if self.failing.take().is_some() => tracing::info!("the ledger can be written again"),
            Ok(()) => {}
            Err(error) => {
                if self.failing.replace(error.to_string()).is_none() {
                    tracing::error!(%error, "the ledger cannot be written: no new grant and no login until it can; removals and endings go on");
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod on_disk;
