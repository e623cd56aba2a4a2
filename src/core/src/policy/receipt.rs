//! What a server's receipt comes to: whose it is, and what it says about this host's own ledger.
//!
//! A receipt is handed over by the shipper, which nobody has to believe: only a key that is trusted makes it count, and
//! only this host's own record under that number makes it an acknowledgement.

use record::{Fingerprint, Hash, LedgerId, Receipt, SignedReceipt};
use ssh_key::{HashAlg, PublicKey};

/// Whose receipts count.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// The keys that the configuration names.
    pub configured: &'a [PublicKey],
    /// The key that was pinned; it counts where the configuration names none.
    pub pinned: Option<&'a PublicKey>,
}

/// Who signed a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Signer {
    /// A key that the configuration names.
    Trusted,
    /// The key that was pinned, and none is named: see [`Says::by_pinned`].
    Pinned,
    /// A key that may be pinned: none is named and none is pinned yet.
    First(PublicKey),
    /// Another key than those that are trusted, by its fingerprint.
    Other(String),
    /// Nobody: its signature does not hold.
    Nobody,
}

impl Trust<'_> {
    /// Who signed this receipt.
    pub fn signer(&self, receipt: &SignedReceipt) -> Signer {
        let Some(key) = receipt.signer().filter(|key| receipt.is_signed_by(key)) else { return Signer::Nobody };
        let trusted = if self.configured.is_empty() {
            self.pinned.map_or(&[][..], std::slice::from_ref)
        } else {
            self.configured
        };
        if trusted.iter().any(|one| one.key_data() == key.key_data()) {
            if self.configured.is_empty() { Signer::Pinned } else { Signer::Trusted }
        } else if trusted.is_empty() {
            Signer::First(key)
        } else {
            Signer::Other(key.fingerprint(HashAlg::Sha256).to_string())
        }
    }
}

/// What a receipt that counts says about this host's own ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Says {
    /// Nothing: it is about another ledger.
    OtherLedger,
    /// Nothing: it is about records under this ledger's id that another key signs, or does not say which. Anybody who may
    /// enrol can get one before this ledger is enrolled.
    OtherSigner,
    /// The server has all of it up to that record.
    Acknowledged,
    /// The server has a record that this host does not have, or another one under that number: what stands here is not
    /// what was shipped.
    Contradicted,
    /// The same, by a key that nobody vouches for: nothing is done by it.
    Unvouched,
    /// Nothing: its record has been removed from this host.
    Gone,
}

impl Says {
    /// What it comes to by a key that was merely the first: the shipper can have made it itself. It may acknowledge; it
    /// must not end every grant.
    pub fn by_pinned(self) -> Self {
        if self == Self::Contradicted { Self::Unvouched } else { self }
    }
}

/// What a receipt says about the ledger of this id, signed by `key`, that ends in record `head`; `own` is the hash of the host's own record
/// under the receipt's number.
pub fn says(receipt: &Receipt, ledger: &LedgerId, key: &str, head: u64, own: Option<Hash>) -> Says {
    match own {
        _ if receipt.ledger != *ledger => Says::OtherLedger,
        _ if receipt.signer.as_ref().map(Fingerprint::as_str) != Some(key) => Says::OtherSigner,
        _ if receipt.seq > head => Says::Contradicted,
        None => Says::Gone,
        Some(own) if own == receipt.hash => Says::Acknowledged,
        Some(_) => Says::Contradicted,
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::{PrivateKey, private::Ed25519Keypair};

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn receipt(seq: u64, line: &[u8]) -> Receipt {
        let received = jiff::Timestamp::UNIX_EPOCH;
        Receipt { ledger: ledger(), seq, hash: Hash::of(line), received, signer: own_key().parse().ok() }
    }

    fn own_key() -> String {
        key(7).public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    fn says(receipt: &Receipt, ledger: &LedgerId, head: u64, own: Option<Hash>) -> Says {
        super::says(receipt, ledger, &own_key(), head, own)
    }

    fn ledger() -> LedgerId {
        "0123456789abcdef0123456789abcdef".parse().expect("an id")
    }

    #[test]
    fn only_a_trusted_key_counts_and_the_first_may_be_pinned() {
        let sealed = receipt(1, b"x").seal(&key(1)).expect("sealed");
        let (one, two) = (key(1).public_key().clone(), key(2).public_key().clone());
        let fingerprint = Signer::Other(one.fingerprint(HashAlg::Sha256).to_string());
        let cases: [(&[PublicKey], Option<&PublicKey>, Signer); 6] = [
            (&[], None, Signer::First(one.clone())),
            (&[], Some(&one), Signer::Pinned),
            (&[], Some(&two), fingerprint.clone()),
            (&[two.clone(), one.clone()], None, Signer::Trusted),
            (std::slice::from_ref(&one), Some(&two), Signer::Trusted),
            (std::slice::from_ref(&two), Some(&one), fingerprint),
        ];
        for (configured, pinned, wanted) in cases {
            assert_eq!(Trust { configured, pinned }.signer(&sealed), wanted);
        }
        let forged = sealed.as_str().replace("\"seq\":1,", "\"seq\":2,");
        let forged = SignedReceipt::parse(forged.as_bytes()).expect("a receipt");
        assert_eq!(Trust { configured: &[], pinned: None }.signer(&forged), Signer::Nobody);
    }

    #[test]
    fn a_receipt_over_records_that_another_key_signs_says_nothing_about_this_ledger() {
        let own = Some(Hash::of(b"line"));
        let other = key(8).public_key().fingerprint(HashAlg::Sha256).to_string().parse().ok();
        for signer in [None, other] {
            for (seq, line) in [(3, &b"line"[..]), (3, b"other"), (6, b"line")] {
                let receipt = Receipt { signer: signer.clone(), ..receipt(seq, line) };
                assert_eq!(says(&receipt, &ledger(), 5, own), Says::OtherSigner);
            }
        }
    }

    #[test]
    fn a_key_that_was_only_pinned_acknowledges_and_its_contradiction_begins_no_ledger() {
        assert_eq!(Says::Acknowledged.by_pinned(), Says::Acknowledged);
        assert_eq!(Says::Contradicted.by_pinned(), Says::Unvouched);
    }

    #[test]
    fn a_receipt_acknowledges_what_stands_here_and_contradicts_what_does_not() {
        let own = Some(Hash::of(b"line"));
        let other: LedgerId = "f".repeat(32).parse().expect("an id");
        assert_eq!(says(&receipt(3, b"line"), &ledger(), 5, own), Says::Acknowledged);
        assert_eq!(says(&receipt(3, b"line"), &ledger(), 3, own), Says::Acknowledged);
        assert_eq!(says(&receipt(3, b"other"), &ledger(), 5, own), Says::Contradicted);
        assert_eq!(says(&receipt(6, b"line"), &ledger(), 5, None), Says::Contradicted);
        assert_eq!(says(&receipt(3, b"line"), &ledger(), 5, None), Says::Gone);
        assert_eq!(says(&receipt(9, b"line"), &other, 5, own), Says::OtherLedger);
    }
}
