//! Whose receipts are believed: the configured keys', else the first one seen, which is pinned.

use record::SignedReceipt;
use ssh_key::{Algorithm, HashAlg, PublicKey};

use crate::{
    files::{self, FileError},
    log,
    paths::Paths,
};

/// The longest key file that is read, in bytes.
const MAX_KEY: u64 = 4096;

/// Why a receipt is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    /// Its signature is by none of the keys, or does not hold.
    #[error("the receipt is not signed by a key in ship.api.receipt_keys")]
    NotConfigured,
    /// The same, with the pinned key.
    #[error(
        "the receipt is not signed by the server's key as first seen, {pinned}; if the server has a new key, name it in ship.api.receipt_keys"
    )]
    NotPinned {
        /// The pinned key's fingerprint.
        pinned: String,
    },
    /// Not even by the key that it names itself.
    #[error("the receipt's signature does not hold")]
    NotSigned,
    /// The pinned key cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{0} holds no ssh-ed25519 public key; name the server's in ship.api.receipt_keys")]
    NoKey(String),
}

/// Checks a receipt's signature. Where no key is configured and none is pinned, the one that signed it is pinned.
pub(super) fn check(paths: &Paths, configured: &[PublicKey], receipt: &SignedReceipt) -> Result<(), Distrust> {
    if !configured.is_empty() {
        let signed = configured.iter().any(|key| receipt.is_signed_by(key));
        return if signed { Ok(()) } else { Err(Distrust::NotConfigured) };
    }
    if let Some(key) = pinned(paths)? {
        if receipt.is_signed_by(&key) {
            return Ok(());
        }
        return Err(Distrust::NotPinned { pinned: key.fingerprint(HashAlg::Sha256).to_string() });
    }
    let key = receipt.signer().filter(|key| receipt.is_signed_by(key)).ok_or(Distrust::NotSigned)?;
    let text = key.to_openssh().map_err(|_| Distrust::NotSigned)?;
    files::replace(&paths.pinned_key(), format!("{text}\n").as_bytes())?;
    log::info(format_args!(
        "api: the server's receipts are signed by {}, from now on by no other",
        key.fingerprint(HashAlg::Sha256)
    ));
    Ok(())
}

fn pinned(paths: &Paths) -> Result<Option<PublicKey>, Distrust> {
    let path = paths.pinned_key();
    let Some(bytes) = files::read(&path, MAX_KEY)? else { return Ok(None) };
    let key = std::str::from_utf8(&bytes).ok().and_then(|text| PublicKey::from_openssh(text.trim()).ok());
    let key = key.filter(|key| key.algorithm() == Algorithm::Ed25519);
    key.map(Some).ok_or_else(|| Distrust::NoKey(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_key_is_pinned_and_no_other_is_believed_after_it() {
        let (_dir, paths) = testing::paths();
        let [first, second] = [1, 2].map(testing::key);
        let by = |key| testing::receipt(&testing::ledger_id(), 3, record::Hash::of(b"x"), key);
        check(&paths, &[], &by(&first)).unwrap();
        check(&paths, &[], &by(&first)).unwrap();
        let refused = check(&paths, &[], &by(&second)).unwrap_err().to_string();
        assert!(refused.contains("SHA256:") && refused.contains("receipt_keys"), "{refused}");
        // What is configured counts alone.
        check(&paths, &[second.public_key().clone()], &by(&second)).unwrap();
        assert!(matches!(check(&paths, &[second.public_key().clone()], &by(&first)), Err(Distrust::NotConfigured)));
    }

    #[test]
    fn while_the_servers_key_changes_both_are_believed_and_no_third() {
        let (_dir, paths) = testing::paths();
        let [old, new, other] = [1, 2, 3].map(testing::key);
        let by = |key| testing::receipt(&testing::ledger_id(), 3, record::Hash::of(b"x"), key);
        let both = [old.public_key().clone(), new.public_key().clone()];
        check(&paths, &both, &by(&old)).unwrap();
        check(&paths, &both, &by(&new)).unwrap();
        assert!(matches!(check(&paths, &both, &by(&other)), Err(Distrust::NotConfigured)));
        assert!(!paths.pinned_key().exists());
    }

    #[test]
    fn a_forged_receipt_pins_nothing_and_a_broken_pin_believes_nobody() {
        let (_dir, paths) = testing::paths();
        let good = testing::receipt(&testing::ledger_id(), 3, record::Hash::of(b"x"), &testing::key(1));
        let forged = good.as_str().replace("\"seq\":3", "\"seq\":4");
        let forged = SignedReceipt::parse(forged.as_bytes()).unwrap();
        assert!(matches!(check(&paths, &[], &forged), Err(Distrust::NotSigned)));
        assert!(!paths.pinned_key().exists());
        std::fs::write(paths.pinned_key(), "ssh-rsa AAAA").unwrap();
        assert!(matches!(check(&paths, &[], &good), Err(Distrust::NoKey(_))));
    }
}
