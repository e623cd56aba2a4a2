//! What comes back from shipping: how far a server has acknowledged the ledger, and the hint that it knows another one.
//!
//! Nothing that the shipper says is believed. A receipt counts if a trusted key signed it, and by the host's own record
//! under its number. What a server outage, a broken shipper or a lie can do is keep records here for longer.

use std::{collections::BTreeSet, time::Duration};

use record::{ArtifactType, Draft, Hash, SignedReceipt};
use ssh_key::{HashAlg, PublicKey};

use super::{Core, Effect, Ending, Severity};
use crate::policy::{
    grant::EndCause,
    receipt::{Says, Signer, Trust},
    time::Now,
};

/// How many receipts are looked at in one go, the newest first.
pub const MAX_LOOKED_AT: usize = 16;
/// How many keys that are not trusted are told of.
const MAX_OTHER_KEYS: usize = 16;
/// The shipper can say new nonsense as often as it likes; it is told of so often at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A receipt that the shipper has left, and what it says by the host's own record; nothing where that cannot be read.
#[derive(Debug)]
pub struct ReceiptSeen {
    /// The receipt.
    pub receipt: SignedReceipt,
    /// What it says about this ledger, whoever signed it.
    pub says: Option<Says>,
}

/// What the shipper has left.
#[derive(Debug, Default)]
pub struct ShipperSeen {
    /// Its hint that the server knows another ledger: by its bytes, and the receipt in it.
    pub hint: Option<(Hash, Option<ReceiptSeen>)>,
    /// Receipts for more than is acknowledged, the newest first, [`MAX_LOOKED_AT`] of them.
    pub receipts: Vec<ReceiptSeen>,
}

/// What is known about receipts.
#[derive(Debug)]
pub struct Receipts {
    /// The pinned key; `Err` where there is one that cannot be read: then nobody's receipts count.
    pub pinned: Result<Option<PublicKey>, String>,
    /// Keys that signed receipts and are not trusted.
    other_keys: BTreeSet<String>,
    /// The hint that was last found to prove nothing.
    told: Option<Hash>,
    /// When something of the shipper's was last told to be ignored, by the boot clock.
    told_at: Option<Duration>,
    /// Whether another ledger is being begun, or could not be.
    begins_anew: bool,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { pinned: Ok(None), other_keys: BTreeSet::new(), told: None, told_at: None, begins_anew: false }
    }
}

impl Receipts {
    /// Keys that signed receipts and are not trusted.
    #[must_use]
    pub fn other_keys(&self) -> &BTreeSet<String> {
        &self.other_keys
    }

    /// Whether it is time to tell again; then it is told now.
    fn may_tell(&mut self, now: Duration) -> bool {
        let due = self.told_at.is_none_or(|at| now.saturating_sub(at) >= TOLD_EVERY);
        if due {
            self.told_at = Some(now);
        }
        due
    }
}

impl Core {
    /// Whether what the shipper leaves is looked at.
    #[must_use]
    pub fn heeds_shipper(&self) -> bool {
        !self.is_unread() && self.config.ship.api.is_some() && !self.receipts.begins_anew
    }

    /// Before a new grant: where the ledger is full, perhaps a server has what is in it by now.
    pub(super) fn see_to_room(&mut self) {
        if self.recorder.known().is_some_and(|known| known.full.is_some()) {
            self.push(Effect::HeedShipper);
        }
    }

    /// The shipper's hint and receipts were read. If one that counts contradicts the ledger, another begins.
    pub(super) fn shipper_seen(&mut self, seen: ShipperSeen, now: Now) {
        if !self.heeds_shipper() {
            return;
        }
        let ShipperSeen { hint, receipts } = seen;
        let contradicting = self.contradicting_hint(hint, now).or_else(|| self.heed_receipts(receipts, now));
        if let Some(receipt) = contradicting {
            self.begin_ledger_anew(&receipt, now);
        }
    }

    /// Takes note of how far the newest receipt that holds covers the ledger. Answers with one that contradicts it.
    fn heed_receipts(&mut self, receipts: Vec<ReceiptSeen>, now: Now) -> Option<SignedReceipt> {
        for seen in receipts {
            match self.weigh(&seen, now) {
                Some(Says::Acknowledged) => {
                    self.push(Effect::Acknowledge(seen.receipt.receipt().seq));
                    return None;
                }
                Some(Says::Contradicted) => return Some(seen.receipt),
                _ => {}
            }
        }
        None
    }

    /// The receipt in the hint, where it is one that counts and contradicts the ledger; told once where it is not.
    fn contradicting_hint(&mut self, hint: Option<(Hash, Option<ReceiptSeen>)>, now: Now) -> Option<SignedReceipt> {
        let (hash, seen) = hint?;
        if let Some(seen) = seen
            && self.weigh(&seen, now) == Some(Says::Contradicted)
        {
            return Some(seen.receipt);
        }
        if self.receipts.told != Some(hash) && self.receipts.may_tell(now.boot) {
            self.receipts.told = Some(hash);
            let what = "a hint of the shipper is ignored: it holds no receipt of a trusted server that contradicts this ledger";
            self.say(Severity::Warning, what);
        }
        None
    }

    /// What a receipt says, if it counts. The first one that holds has its key pinned; one by another key is told of.
    fn weigh(&mut self, seen: &ReceiptSeen, now: Now) -> Option<Says> {
        if seen.says == Some(Says::OtherLedger) {
            return seen.says;
        }
        let configured = self.config.ship.api.as_ref().map_or(&[][..], |api| &api.receipt_keys);
        let pinned = match &self.receipts.pinned {
            Err(_) if configured.is_empty() => return None,
            Err(_) => None,
            Ok(pinned) => pinned.as_ref(),
        };
        let signer = Trust { configured, pinned }.signer(&seen.receipt);
        match signer {
            Signer::Nobody => None,
            Signer::Trusted => seen.says,
            Signer::Pinned => {
                let says = seen.says?.by_pinned();
                if says == Says::Unvouched && self.receipts.may_tell(now.boot) {
                    let what = "a receipt contradicts this ledger, and is ignored: its key was only pinned when it was first seen; if it is the server's, set ship.api.receipt_keys, and another ledger begins";
                    self.say(Severity::Warning, what);
                }
                Some(says)
            }
            Signer::First(key) => {
                let acknowledged = seen.says? == Says::Acknowledged;
                if acknowledged {
                    self.pin(key, now);
                }
                acknowledged.then_some(Says::Acknowledged)
            }
            Signer::Other(fingerprint) => {
                self.refuse_key(fingerprint, now);
                None
            }
        }
    }

    /// Pins the server's key.
    fn pin(&mut self, key: PublicKey, now: Now) {
        let line = key.to_openssh().expect("an ed25519 key can always be written");
        self.push(Effect::PinReceiptKey(line.clone()));
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let sentence = format!("the server's key for receipts is pinned, {fingerprint}: from now on no other counts");
        self.say(Severity::Info, sentence.clone());
        let draft = Draft::new(ArtifactType::ConfigLoaded, sentence)
            .with("digest", self.config.digest.as_str())
            .with("mode", self.config.mode.as_str())
            .with("people", self.config.people.len() as u64)
            .with("grants", self.config.rendered.len() as u64)
            .with("receipt_key", line);
        self.receipts.pinned = Ok(Some(key));
        self.recorder.note(draft);
        self.commit(now);
    }

    /// Tells of a key that signed a receipt and is not trusted, once.
    fn refuse_key(&mut self, fingerprint: String, now: Now) {
        if self.receipts.other_keys.len() >= MAX_OTHER_KEYS || self.receipts.other_keys.contains(&fingerprint) {
            return;
        }
        let sentence =
            format!("a receipt is signed by {fingerprint}, which is not the server's key as {}", self.trusted_by());
        self.say(Severity::Err, format!("{sentence}; it counts for nothing"));
        let draft = Draft::new(ArtifactType::ConfigRefused, sentence.clone()).with("problems", vec![sentence]);
        self.recorder.note(draft.with("count", 1));
        self.receipts.other_keys.insert(fingerprint);
        self.commit(now);
    }

    /// What says which key is the server's.
    #[must_use]
    pub fn trusted_by(&self) -> &'static str {
        match self.config.ship.api.as_ref().is_some_and(|api| !api.receipt_keys.is_empty()) {
            true => "ship.api.receipt_keys names it",
            false => "/var/lib/lockdownd/receipt_key.pub has it pinned",
        }
    }

    /// What stands here is not what the server has: the disk went back to an earlier day, or somebody wrote the ledger
    /// anew. Every grant ends, for what was revoked since cannot be known; the ledger is put away whole, and another begins.
    fn begin_ledger_anew(&mut self, receipt: &SignedReceipt, now: Now) {
        let Some(head) = self.recorder.known().map(|known| known.head) else { return };
        let seq = receipt.receipt().seq;
        let found = if seq > head { format!("ends at record {head}") } else { "has another there".to_owned() };
        let why = format!(
            "the server has acknowledged record {seq}, and the ledger here {found}: the disk went back to an earlier day, or the ledger was written anew"
        );
        self.say(Severity::Err, format!("every grant ends and a new ledger begins: {why}"));
        let reason = "this host's state is not the latest: what was revoked since cannot be known".to_owned();
        self.end_grants(&self.open_grants(), &Ending { cause: EndCause::Identity, reason, actor: None }, now);
        self.documents_are_old(now);
        self.receipts.begins_anew = true;
        self.push(Effect::BeginLedgerAnew(why));
    }

    /// Another ledger has begun, and says at once how things stand. Where it could not be begun, another start has to.
    pub(super) fn ledger_begun(&mut self, begun: Result<(), String>, now: Now) {
        match begun {
            Ok(()) => {
                self.receipts.begins_anew = false;
                self.push(Effect::DropHint);
                self.commit(now);
                self.begin_sweep(now);
            }
            Err(why) => self.push(Effect::StartOver(format!("the ledger could not be begun anew: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_the_shipper_leaves_another_hint_that_is_told_of_once_a_minute() {
        let mut receipts = Receipts::default();
        let told = (100..400).filter(|second| receipts.may_tell(Duration::from_secs(*second))).count();
        assert_eq!(told, 5);
    }
}
