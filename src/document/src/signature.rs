//! One signature: an armored SSHSIG, read strictly, and what a security device says in it.
//!
//! `ssh-keygen -Y verify` and ssh-key 0.6 ignore the flags of a security device. They are judged here.

use record::{Fingerprint, read_armored};
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, PublicKey, SshSig, public::KeyData};

use crate::{
    Key, KeyError, MAX_SIGNATURE, Namespace, Unfit,
    key::{algorithm, fit},
};

/// The device was touched.
const TOUCHED: u8 = 0x01;
/// The device was unlocked by PIN or fingerprint.
const UNLOCKED: u8 = 0x04;

/// Why a signature does not count. That is no ground to refuse what others signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Over [`MAX_SIGNATURE`].
    #[error("it has {0} bytes, more than {MAX_SIGNATURE}")]
    TooLong(usize),
    /// Not an armored SSHSIG as ssh-keygen writes it.
    #[error("it is no armored SSHSIG as `ssh-keygen -Y sign` writes it, with nothing in its reserved field")]
    NotSshsig,
    /// A key that nobody may have: a certificate, DSA, an unsound one.
    #[error("{0}")]
    Key(KeyError),
    /// A key that cannot sign documents.
    #[error("{0}")]
    Unfit(Unfit),
    /// Signed as something else.
    #[error("it was made for the namespace {found:?}, not {wanted}: sign with `ssh-keygen -Y sign -n {wanted}`")]
    Namespace {
        /// What it was made for.
        found: String,
        /// What it has to be made for.
        wanted: Namespace,
    },
    /// SHA-256 of the message, or an algorithm that is not the key's.
    #[error("it was not made over SHA-512, with the key's own algorithm, for RSA rsa-sha2-512")]
    Algorithm,
    /// Another message, another key.
    #[error("it does not hold over these bytes")]
    DoesNotHold,
    /// The device made it without anybody there.
    #[error("the security device was not touched: make the key without `-O no-touch-required`")]
    NotTouched,
}

/// What a security device says of itself in a signature, which was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Whether it was unlocked by PIN or fingerprint.
    pub unlocked: bool,
    /// How many signatures it has made, as it counts. Some always say 0.
    pub counter: u32,
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    /// By which key.
    pub fingerprint: Fingerprint,
    /// What the device said, where the key is in one.
    pub device: Option<Device>,
}

/// A signature that could be read; whether it holds, [`Read::verify`] says.
#[derive(Debug, Clone)]
pub struct Read {
    signature: SshSig,
    fingerprint: Fingerprint,
}

/// Reads a signature, and which key it says that it is by.
///
/// # Errors
/// [`Invalid`].
pub fn read(armored: &str) -> Result<Read, Invalid> {
    if armored.len() > MAX_SIGNATURE {
        return Err(Invalid::TooLong(armored.len()));
    }
    let signature = read_armored(armored).map_err(|_| Invalid::NotSshsig)?;
    let key = Key::from_data(signature.public_key()).map_err(Invalid::Key)?;
    Ok(Read { signature, fingerprint: key.fingerprint().clone() })
}

impl Read {
    /// The fingerprint of the key that it names.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether it holds over exactly this line, for this purpose.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn verify(self, namespace: Namespace, line: &str) -> Result<Valid, Invalid> {
        let data = self.signature.public_key();
        fit(data).map_err(Invalid::Unfit)?;
        if self.signature.namespace() != namespace.as_str() {
            let found = record::escape(self.signature.namespace().as_bytes()).chars().take(64).collect();
            return Err(Invalid::Namespace { found, wanted: namespace });
        }
        if self.signature.hash_alg() != HashAlg::Sha512 || self.signature.algorithm() != algorithm(data) {
            return Err(Invalid::Algorithm);
        }
        let key = PublicKey::from(data.clone());
        key.verify(namespace.as_str(), line.as_bytes(), &self.signature).map_err(|_| Invalid::DoesNotHold)?;
        let device = self.device()?;
        Ok(Valid { fingerprint: self.fingerprint, device })
    }

    /// The last five bytes of a device's signature: flags, and a counter.
    fn device(&self) -> Result<Option<Device>, Invalid> {
        if !matches!(self.signature.public_key(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_)) {
            return Ok(None);
        }
        let [.., flags, a, b, c, d] = self.signature.signature_bytes() else { return Err(Invalid::NotSshsig) };
        if flags & TOUCHED == 0 {
            return Err(Invalid::NotTouched);
        }
        Ok(Some(Device { unlocked: flags & UNLOCKED != 0, counter: u32::from_be_bytes([*a, *b, *c, *d]) }))
    }
}
