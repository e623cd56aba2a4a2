//! What the shipper leaves: receipts of how far a server has the ledger, and the hint that it knows another one. What
//! they come to, the core says.

use std::path::Path;

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
use lockdown_host::paths;
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
        let hint = self.shipper.hint().unwrap_or_else(|error| {
            tracing::warn!(%error, "the shipper's hint cannot be read");
            None
        });
        let receipt = |bytes: &[u8]| receipt_in(bytes).map(|receipt| seen(receipt, ledger));
        ShipperSeen { hint: hint.map(|bytes| (Hash::of(&bytes), receipt(&bytes))), receipts: self.receipts(ledger) }
    }

    fn receipts(&self, ledger: &View) -> Vec<ReceiptSeen> {
        let bytes = self.shipper.receipts(&ledger.id).unwrap_or_else(|error| {
            tracing::warn!(%error, "the shipper's receipts cannot be read");
            None
        });
        let bytes = bytes.unwrap_or_default();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').rev().take(MAX_LOOKED_AT);
        let parsed = lines.filter_map(|line| SignedReceipt::parse(line).ok());
        let newer = parsed.take_while(|receipt| receipt.receipt().seq > ledger.acknowledged);
        newer.map(|receipt| seen(receipt, ledger)).collect()
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
        if let Err(error) = self.shipper.remove_hint() {
            tracing::warn!(%error, "the shipper's hint has been acted on and cannot be removed");
        }
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
