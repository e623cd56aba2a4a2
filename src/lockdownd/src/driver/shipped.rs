//! What the shipper leaves: receipts of how far a server has the ledger, and the hint that it knows another one. What
//! they come to, the core says.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use lockdown_core::{
    machine::{
        Event,
        receipts::{MAX_LOOKED_AT, ReceiptSeen, ShipperSeen},
    },
    policy::{
        receipt::{Says, says},
        time::Now,
    },
};
use lockdown_host::{
    paths,
    shipper::{SHIPPER, Shipper},
};
use record::{Hash, Receipt, SignedReceipt};
use serde_json::Value;
use ssh_key::{HashAlg, PublicKey};

use super::{Driver, shipping::NEARLY_FULL_REMEDY};
use crate::{
    disk::{Store, identity_by},
    ledger::{View, describe},
    trigger::Reason,
};

/// The server's key, as pinned by the first receipt that held.
const PINNED: &str = "/var/lib/lockdownd/receipt_key.pub";
/// The most that is read of it, in bytes.
const MAX_PINNED: u64 = 4096;

/// The pinned key; why it cannot be read, where there is one that cannot.
pub(super) fn pinned() -> Result<Option<PublicKey>, String> {
    let read = pinned_at(Path::new(PINNED));
    if let Err(why) = &read {
        tracing::error!("{PINNED} is no key: {why}; no receipt counts until it is mended, or removed to pin anew");
    }
    read
}

fn pinned_at(path: &Path) -> Result<Option<PublicKey>, String> {
    let bytes = match paths::read_path(path, MAX_PINNED) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    PublicKey::from_openssh(text).map(Some).map_err(|error| error.to_string())
}

/// How long what the shipper left is waited for: another user's directory may lie on a file system that does not answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Work in the shipper's directory, each on a thread of its own. Where one does not come back, no other begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside(Arc<AtomicBool>);

impl Beside {
    /// Begins work. What it comes to is sent; nothing where it is not begun.
    fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<mpsc::Receiver<T>> {
        if self.0.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let busy = Arc::clone(&self.0);
        let run = move || {
            let came = work();
            busy.store(false, Ordering::Release);
            // Nobody receives what came too late.
            let _ = answer.send(came);
        };
        let begun = thread::Builder::new().name("shipper".to_owned()).spawn(run);
        begun.inspect_err(|_| self.0.store(false, Ordering::Release)).ok().map(|_| answered)
    }

    /// What work comes to, where it does in time.
    fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let answer = self.begin(work)?.recv_timeout(PATIENCE);
        answer
            .inspect_err(|_| tracing::error!("{SHIPPER} does not answer: what the shipper leaves there is not seen"))
            .ok()
    }
}

impl Driver {
    /// Has the core act on what the shipper has left.
    pub(crate) fn heed_shipper(&mut self, now: Now) {
        let seen = self.see_shipper();
        self.step(Event::ShipperSeen(seen), now);
    }

    /// What the shipper has left, where it is looked at.
    pub(super) fn see_shipper(&self) -> ShipperSeen {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.core.heeds_shipper()) else {
            return ShipperSeen::default();
        };
        let (shipper, ledger) = (self.shipper.clone(), ledger.clone());
        self.beside.ask(move || see(&shipper, &ledger)).unwrap_or_default()
    }

    /// A server has the ledger up to this record.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        let acknowledge = move |store: &mut Store| {
            store.ledger.acknowledge(seq);
            None
        };
        self.work_anew("receipts", Box::new(acknowledge));
    }

    /// Keeps the server's key.
    pub(super) fn pin_receipt_key(&mut self, line: &str) {
        self.write_state(PINNED, format!("{line}\n").into_bytes(), 0o644);
    }

    /// Puts the ledger away, and begins another. What comes of that at once.
    pub(super) fn begin_ledger_anew(&mut self, why: String, now: Now) -> Option<Event> {
        let host = self.ledger.as_ref()?.host.clone();
        let mut identity = match identity_by(&self.core.config.host.name) {
            Ok(identity) => identity,
            Err(error) => return Some(Event::LedgerBegun(Err(describe(&error)))),
        };
        identity.name = host;
        let succeed = move |store: &mut Store| {
            let begun = store.ledger.succeed(&identity, why, now.wall);
            Some(Reason::LedgerBegun(begun.map_err(|error| describe(&error))))
        };
        self.work("beginning another ledger", Box::new(succeed));
        None
    }

    /// The shipper's hint has been acted on.
    pub(super) fn drop_hint(&self) {
        let shipper = self.shipper.clone();
        let remove = move || {
            if let Err(error) = shipper.remove_hint() {
                tracing::warn!(%error, "the shipper's hint has been acted on and cannot be removed");
            }
        };
        // Where it is not begun, the hint is seen again, and told of once.
        drop(self.beside.begin(remove));
    }

    /// Removes what has been kept for long enough.
    pub(super) fn prune(&mut self, now: Now) {
        let prune = move |store: &mut Store| {
            if let Err(error) = store.ledger.prune(now.wall) {
                tracing::error!(%error, "old segments of the ledger could not be pruned");
            }
            if let Ok(Some(what)) = store.ledger.view().nearly_full() {
                tracing::warn!("{what}; {NEARLY_FULL_REMEDY}");
            }
            None
        };
        self.work_anew("pruning", Box::new(prune));
    }
}

fn see(shipper: &Shipper, ledger: &View) -> ShipperSeen {
    let read = |what: &str, read: io::Result<Option<Vec<u8>>>| {
        read.inspect_err(|error| tracing::warn!(%error, "the shipper's {what} cannot be read")).ok().flatten()
    };
    let hint = read("hint", shipper.hint());
    let hint = hint.map(|bytes| (Hash::of(&bytes), receipt_in(&bytes).map(|receipt| seen(receipt, ledger))));
    let bytes = read("receipts", shipper.receipts(&ledger.id)).unwrap_or_default();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').rev().take(MAX_LOOKED_AT);
    let parsed = lines.filter_map(|line| SignedReceipt::parse(line).ok());
    let newer = parsed.take_while(|receipt| receipt.receipt().seq > ledger.acknowledged);
    ShipperSeen { hint, receipts: newer.map(|receipt| seen(receipt, ledger)).collect() }
}

fn seen(receipt: SignedReceipt, ledger: &View) -> ReceiptSeen {
    let says = held_against(receipt.receipt(), ledger);
    ReceiptSeen { receipt, says }
}

/// What a receipt says about the ledger, if that can be read.
fn held_against(stated: &Receipt, ledger: &View) -> Option<Says> {
    if stated.ledger != ledger.id {
        return Some(Says::OtherLedger);
    }
    let own = ledger.hash_at(stated.seq);
    let own = own.inspect_err(|error| tracing::warn!(%error, "a receipt cannot be held against the ledger")).ok()?;
    let key = PublicKey::from_openssh(&ledger.public_key).ok()?.fingerprint(HashAlg::Sha256).to_string();
    Some(says(stated, &ledger.id, &key, ledger.head.seq, own))
}

/// The receipt in a hint of the kind `fork`.
fn receipt_in(hint: &[u8]) -> Option<SignedReceipt> {
    let hint: Value = serde_json::from_slice(hint).ok()?;
    let known = hint.get("v")?.as_u64() == Some(1) && hint.get("kind")?.as_str() == Some("fork");
    let receipt = known.then(|| hint.get("receipt"))??;
    SignedReceipt::parse(receipt.to_string().as_bytes()).ok()
}
