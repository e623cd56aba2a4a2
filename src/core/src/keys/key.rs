//! One public key, compared by what it is and never by how it was written.
//!
//! It must never print a key's body other than as a line of a key file.

use std::fmt;

use record::Fingerprint;
use ssh_key::{Algorithm, HashAlg, PublicKey, public::KeyData};

use super::wire;

/// A public key of a type that some sshd takes in `authorized_keys`: Ed25519, ECDSA, RSA of 1024 bits and more, their
/// kin on security keys, and DSA, which sshd lets in only where its configuration asks for it (OpenSSH before 10).
///
/// Two keys are equal when their numbers are, whatever their spelling was.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(KeyData);

impl Key {
    pub(super) fn new(data: KeyData) -> Self {
        Self(data)
    }

    /// The SHA-256 fingerprint as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let printed = self.0.fingerprint(HashAlg::Sha256).to_string();
        printed.parse().expect("ssh-key prints SHA-256 fingerprints as ssh-keygen does")
    }

    /// The name of the key's type, as `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.0.algorithm().as_str().to_owned()
    }

    /// The key's data in base64, in the one spelling that ssh-keygen writes: the second word of a `.pub` file.
    #[must_use]
    pub fn base64(&self) -> String {
        let printed = PublicKey::from(self.0.clone()).to_openssh().expect("a public key held in memory can be written");
        printed.split(' ').nth(1).expect("a key is written as its type, a blank and its base64").to_owned()
    }

    /// The bits of an RSA key's modulus; `None` for all other types.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<usize> {
        self.0.rsa().map(|rsa| wire::bits(&rsa.n))
    }

    /// Whether this is a key of a security device (FIDO).
    #[must_use]
    pub fn is_hardware(&self) -> bool {
        matches!(self.0.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
    }

    /// Whether this is a DSA key.
    #[must_use]
    pub fn is_dsa(&self) -> bool {
        matches!(self.0.algorithm(), Algorithm::Dsa)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.algorithm(), self.fingerprint())
    }
}
