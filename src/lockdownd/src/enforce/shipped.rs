//! What comes back from shipping: how far a server has acknowledged the ledger, and the hint that it knows another one.
//!
//! Nothing that the shipper says is believed. A receipt counts if a trusted key signed it, and by the host's own record
//! under its number. What a server outage, a broken shipper or a lie can do is keep records here for longer.

use std::{collections::BTreeSet, path::Path, time::Duration};

use lockdown_core::{
    machine::Ending,
    policy::{
        grant::EndCause,
        receipt::{Says, Signer, Trust, says},
        time::Now,
    },
};
use lockdown_host::{identity, paths, shipper::Shipper};
use record::{ArtifactType, Draft, Hash, Receipt, SignedReceipt};
use serde_json::Value;
use ssh_key::{HashAlg, PublicKey};

use super::Engine;
use crate::{
    disk::{Store, identity_by},
    ledger::Full,
    trigger::Reason,
};

/// The server's key, as pinned by the first receipt that held.
const PINNED: &str = "/var/lib/lockdownd/receipt_key.pub";
/// What to do where the ledger is nearly full.
pub(crate) const NEARLY_FULL_REMEDY: &str =
    "see with lockdownctl status why records are not shipped, make room, or raise ledger.max_size and reload";
/// The most that is read of it, in bytes.
const MAX_PINNED: u64 = 4096;
/// How many receipts are looked at in one go, the newest first.
const MAX_LOOKED_AT: usize = 16;
/// How many keys that are not trusted are told of.
const MAX_OTHER_KEYS: usize = 16;

/// The shipper can say new nonsense as often as it likes; it is told of so often at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What is known about shipping.
#[derive(Debug)]
pub(crate) struct Shipped {
    pub(crate) shipper: Shipper,
    /// The pinned key; `Err` where there is one that cannot be read: then nobody's receipts count.
    pinned: Result<Option<PublicKey>, String>,
    /// Keys that signed receipts and are not trusted.
    pub(crate) other_keys: BTreeSet<String>,
    /// The hint that was last found to prove nothing.
    told: Option<Hash>,
    /// When something of the shipper's was last told to be ignored, by the boot clock.
    told_at: Option<Duration>,
    /// Why no new grants are given, as told.
    pub(crate) full: Option<Full>,
    /// Whether another ledger is being begun.
    begins_anew: bool,
    /// Whether the ledger is in pieces, so that only another start can mend it.
    pub(super) in_pieces: bool,
}

impl Default for Shipped {
    /// Before the pinned key is read: no receipt is looked at.
    fn default() -> Self {
        Self {
            shipper: Shipper::default(),
            pinned: Ok(None),
            other_keys: BTreeSet::new(),
            told: None,
            told_at: None,
            full: None,
            begins_anew: false,
            in_pieces: false,
        }
    }
}

impl Shipped {
    /// Reads the pinned key.
    pub(super) fn open() -> Self {
        let pinned = pinned(Path::new(PINNED));
        if let Err(why) = &pinned {
            tracing::error!("{PINNED} is no key: {why}; no receipt counts until it is mended, or removed to pin anew");
        }
        Self { pinned, ..Self::default() }
    }
}

/// Whether it is time to tell again; then it is told at `now`.
fn may_tell(told_at: &mut Option<Duration>, now: Duration) -> bool {
    let due = told_at.is_none_or(|at| now.saturating_sub(at) >= TOLD_EVERY);
    if due {
        *told_at = Some(now);
    }
    due
}

fn pinned(path: &Path) -> Result<Option<PublicKey>, String> {
    let bytes = match paths::read_path(path, MAX_PINNED) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    PublicKey::from_openssh(text).map(Some).map_err(|error| error.to_string())
}

impl Engine {
    /// Looks at what the shipper has left; if another ledger begins by it, that one says at once how things stand.
    pub(crate) fn look_at_shipper(&mut self, now: Now) {
        self.heed_shipper(now);
    }

    /// Looks at receipts and hint. If a receipt contradicts the ledger, another begins.
    pub(super) fn heed_shipper(&mut self, now: Now) {
        if self.core.is_unread()
            || self.core.config.ship.api.is_none()
            || self.shipped.in_pieces
            || self.shipped.begins_anew
        {
            return;
        }
        let contradicting = self.contradicting_hint(now).or_else(|| self.heed_receipts(now));
        if let Some(receipt) = contradicting
            && let Err(error) = self.begin_anew(&receipt, now)
        {
            self.ledger_begun(Err(crate::ledger::describe(&error)), now);
        }
    }

    /// Another ledger has begun, and says at once how things stand; or it could not be begun.
    pub(super) fn ledger_begun(&mut self, begun: Result<(), String>, now: Now) {
        self.shipped.begins_anew = false;
        if let Err(why) = begun {
            tracing::error!("the ledger could not be begun anew, and the daemon has to start again for it: {why}");
            self.shipped.in_pieces = true;
            return;
        }
        if let Err(error) = self.shipped.shipper.remove_hint() {
            tracing::warn!(%error, "the shipper's hint has been acted on and cannot be removed");
        }
        self.core.commit(now);
        self.core.begin_sweep(now);
    }

    /// Takes note of how far the newest receipt that holds covers the ledger. Answers with one that contradicts it.
    fn heed_receipts(&mut self, now: Now) -> Option<SignedReceipt> {
        let (id, acknowledged) = self.ledger.as_ref().map(|ledger| (ledger.id.clone(), ledger.acknowledged))?;
        let bytes = match self.shipped.shipper.receipts(&id) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "the shipper's receipts cannot be read");
                return None;
            }
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n').rev().take(MAX_LOOKED_AT) {
            let Ok(receipt) = SignedReceipt::parse(line) else { continue };
            if receipt.receipt().seq <= acknowledged {
                return None;
            }
            match self.weigh(&receipt, now) {
                Some(Says::Acknowledged) => {
                    let seq = receipt.receipt().seq;
                    let acknowledge = move |store: &mut Store| {
                        store.ledger.acknowledge(seq);
                        None
                    };
                    self.work_anew("receipts", Box::new(acknowledge));
                    return None;
                }
                Some(Says::Contradicted) => return Some(receipt),
                _ => {}
            }
        }
        None
    }

    /// The receipt in the hint, where it is one that counts and contradicts the ledger; told once where it is not.
    fn contradicting_hint(&mut self, now: Now) -> Option<SignedReceipt> {
        let bytes = match self.shipped.shipper.hint() {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "the shipper's hint cannot be read");
                return None;
            }
        };
        if let Some(receipt) = receipt_in(&bytes)
            && self.weigh(&receipt, now) == Some(Says::Contradicted)
        {
            return Some(receipt);
        }
        let hash = Hash::of(&bytes);
        if self.shipped.told != Some(hash) && may_tell(&mut self.shipped.told_at, now.boot) {
            self.shipped.told = Some(hash);
            tracing::warn!(
                "a hint of the shipper is ignored: it holds no receipt of a trusted server that contradicts this ledger"
            );
        }
        None
    }

    /// What a receipt says, if it counts. The first one that holds has its key pinned; one by another key is told of.
    fn weigh(&mut self, receipt: &SignedReceipt, now: Now) -> Option<Says> {
        let stated = receipt.receipt();
        if stated.ledger != self.ledger.as_ref()?.id {
            return Some(Says::OtherLedger);
        }
        let configured = self.core.config.ship.api.as_ref().map_or(&[][..], |api| &api.receipt_keys);
        let pinned = match &self.shipped.pinned {
            Err(_) if configured.is_empty() => return None,
            Err(_) => None,
            Ok(pinned) => pinned.as_ref(),
        };
        let signer = Trust { configured, pinned }.signer(receipt);
        match signer {
            Signer::Nobody => None,
            Signer::Trusted => self.held_against(stated),
            Signer::Pinned => {
                let says = self.held_against(stated)?.by_pinned();
                if says == Says::Unvouched {
                    self.tell_unvouched(now);
                }
                Some(says)
            }
            Signer::First(key) => {
                let acknowledged = self.held_against(stated)? == Says::Acknowledged;
                (acknowledged && self.pin(key, now)).then_some(Says::Acknowledged)
            }
            Signer::Other(fingerprint) => {
                self.refuse_key(fingerprint, now);
                None
            }
        }
    }

    /// What a receipt of a key that may count says about the ledger, if that can be read.
    fn held_against(&self, stated: &Receipt) -> Option<Says> {
        let ledger = self.ledger.as_ref()?;
        let own = ledger.hash_at(stated.seq);
        let own =
            own.inspect_err(|error| tracing::warn!(%error, "a receipt cannot be held against the ledger")).ok()?;
        let key = PublicKey::from_openssh(&ledger.public_key).ok()?.fingerprint(HashAlg::Sha256).to_string();
        Some(says(stated, &ledger.id, &key, ledger.head.seq, own))
    }

    fn tell_unvouched(&mut self, now: Now) {
        if may_tell(&mut self.shipped.told_at, now.boot) {
            tracing::warn!(
                "a receipt contradicts this ledger, and is ignored: its key was only pinned when it was first seen; if it is the server's, set ship.api.receipt_keys, and another ledger begins"
            );
        }
    }

    /// Pins the server's key. Whether it is pinned.
    fn pin(&mut self, key: PublicKey, now: Now) -> bool {
        let line = key.to_openssh().expect("an ed25519 key can always be written");
        self.write_state(PINNED, format!("{line}\n").into_bytes(), 0o644);
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let sentence = format!("the server's key for receipts is pinned, {fingerprint}: from now on no other counts");
        tracing::info!("{sentence}");
        let draft = Draft::new(ArtifactType::ConfigLoaded, sentence)
            .with("digest", self.core.config.digest.as_str())
            .with("mode", self.core.config.mode.as_str())
            .with("people", self.core.config.people.len() as u64)
            .with("grants", self.core.config.rendered.len() as u64)
            .with("receipt_key", line);
        self.shipped.pinned = Ok(Some(key));
        self.core.recorder.note(draft);
        self.core.commit(now);
        true
    }

    /// Tells of a key that signed a receipt and is not trusted, once.
    fn refuse_key(&mut self, fingerprint: String, now: Now) {
        if self.shipped.other_keys.len() >= MAX_OTHER_KEYS || self.shipped.other_keys.contains(&fingerprint) {
            return;
        }
        let sentence =
            format!("a receipt is signed by {fingerprint}, which is not the server's key as {}", self.trusted_by());
        tracing::error!("{sentence}; it counts for nothing");
        self.core.recorder.note(
            Draft::new(ArtifactType::ConfigRefused, sentence.clone()).with("problems", vec![sentence]).with("count", 1),
        );
        self.shipped.other_keys.insert(fingerprint);
        self.core.commit(now);
    }

    /// What says which key is the server's.
    pub(crate) fn trusted_by(&self) -> &'static str {
        match self.core.config.ship.api.as_ref().is_some_and(|api| !api.receipt_keys.is_empty()) {
            true => "ship.api.receipt_keys names it",
            false => "/var/lib/lockdownd/receipt_key.pub has it pinned",
        }
    }

    /// What stands here is not what the server has: the disk went back to an earlier day, or somebody wrote the ledger
    /// anew. Every grant ends, for what was revoked since cannot be known; the ledger is put away whole, and another begins.
    fn begin_anew(&mut self, receipt: &SignedReceipt, now: Now) -> Result<(), identity::Error> {
        let Some((head, host)) = self.ledger.as_ref().map(|ledger| (ledger.head.seq, ledger.host.clone())) else {
            return Ok(());
        };
        let seq = receipt.receipt().seq;
        let found = if seq > head { format!("ends at record {head}") } else { "has another there".to_owned() };
        let why = format!(
            "the server has acknowledged record {seq}, and the ledger here {found}: the disk went back to an earlier day, or the ledger was written anew"
        );
        tracing::error!("every grant ends and a new ledger begins: {why}");
        let mut identity = identity_by(&self.core.config.host.name)?;
        identity.name = host;
        let open: Vec<_> = self.core.grants.open_ones().map(|grant| grant.id.clone()).collect();
        let reason = "this host's state is not the latest: what was revoked since cannot be known".to_owned();
        self.core.end_grants(&open, &Ending { cause: EndCause::Identity, reason, actor: None }, now);
        self.shipped.begins_anew = true;
        let succeed = move |store: &mut Store| {
            let begun = store.ledger.succeed(&identity, why, now.wall);
            Some(Reason::LedgerBegun(begun.map_err(|error| crate::ledger::describe(&error))))
        };
        self.work("beginning another ledger", Box::new(succeed));
        Ok(())
    }

    /// Before a new grant: where the ledger is full, perhaps a server has what is in it by now.
    pub(crate) fn see_to_room(&mut self, now: Now) {
        if self.ledger.as_ref().is_some_and(|ledger| ledger.full.is_some()) {
            self.look_at_shipper(now);
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

/// The receipt in a hint of the kind `fork`.
fn receipt_in(hint: &[u8]) -> Option<SignedReceipt> {
    let hint: Value = serde_json::from_slice(hint).ok()?;
    let known = hint.get("v")?.as_u64() == Some(1) && hint.get("kind")?.as_str() == Some("fork");
    let receipt = known.then(|| hint.get("receipt"))??;
    SignedReceipt::parse(receipt.to_string().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_the_shipper_leaves_another_hint_that_is_told_of_once_a_minute() {
        let mut told_at = None;
        let told = (100..400).filter(|second| may_tell(&mut told_at, Duration::from_secs(*second))).count();
        assert_eq!(told, 5);
    }
}
