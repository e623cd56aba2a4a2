//! Public keys as documents and the configuration give them: `TYPE BASE64`, in the one spelling that ssh-keygen writes.

use std::{fmt, hash::Hash, str::FromStr};

use record::Fingerprint;
use serde::{Deserialize, Serialize};
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, PublicKey,
    public::{Ed25519PublicKey, KeyData},
};

/// The longest text of a key, in bytes: an RSA key of 16,384 bits needs 2,800.
pub const MAX_KEY: usize = 4096;
/// The fewest bits of an RSA key that logs in.
pub const MIN_RSA_BITS: usize = 2048;
/// The fewest bits of an RSA key that signs documents.
pub const MIN_SIGNING_RSA_BITS: usize = 3072;
/// The most bits of an RSA key that signs documents: longer ones cost more time than they are worth.
pub const MAX_SIGNING_RSA_BITS: usize = 4096;
/// The application of a security device's key that signs documents, as `ssh-keygen -t ed25519-sk` sets it.
pub const APPLICATION: &str = "ssh:";

/// A public key. Two are equal when their texts are: there is one for each.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    text: String,
    fingerprint: Fingerprint,
}

/// Why a text is no key that is taken, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Over [`MAX_KEY`].
    #[error("the key has {0} bytes, more than {MAX_KEY}: give TYPE BASE64 of one .pub file")]
    TooLong(usize),
    /// Not a public key, or one with a comment, options or needless blanks.
    #[error("this is not TYPE BASE64 as a .pub file of ssh-keygen has it, without the comment: {0:?}")]
    Spelling(String),
    /// DSA, a certificate, a type that nobody knows.
    #[error("keys of type {0:?} are not taken: use ssh-keygen -t ed25519, or ed25519-sk")]
    Type(String),
    /// A point that anybody can sign for, or that is no point.
    #[error("the key is not sound: make another one with ssh-keygen -t ed25519")]
    Unsound,
    /// Too few bits.
    #[error("an RSA key of {0} bits is too short: use {MIN_RSA_BITS} bits and more, or ssh-keygen -t ed25519")]
    ShortRsa(usize),
}

/// Why a key that may log in cannot sign documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too short or too long.
    #[error(
        "an RSA key of {0} bits signs no documents: use {MIN_SIGNING_RSA_BITS} to {MAX_SIGNING_RSA_BITS} bits, or ssh-keygen -t ed25519-sk"
    )]
    Rsa(usize),
    /// Another application.
    #[error(
        "the application of this security device's key is {0:?}, not {APPLICATION:?}: make it with ssh-keygen -t ed25519-sk"
    )]
    Application(String),
    /// P-384, P-521.
    #[error("keys of type {0} sign no documents: use ssh-keygen -t ed25519-sk, ed25519 or ecdsa")]
    Type(String),
}

impl Key {
    /// The key of these numbers.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_data(data: &KeyData) -> Result<Self, KeyError> {
        check(data)?;
        let text = PublicKey::from(data.clone()).to_openssh().map_err(|_| KeyError::Unsound)?;
        let fingerprint = data.fingerprint(HashAlg::Sha256).to_string().parse().map_err(|_| KeyError::Unsound)?;
        Ok(Self { text, fingerprint })
    }

    /// `TYPE BASE64`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The SHA-256 fingerprint as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether it sits in a security device, which has to be touched.
    #[must_use]
    pub fn is_hardware(&self) -> bool {
        self.text.starts_with("sk-")
    }

    /// The numbers.
    ///
    /// # Errors
    /// None: what this was made of had been read.
    pub fn data(&self) -> Result<KeyData, KeyError> {
        let key = PublicKey::from_openssh(&self.text).map_err(|_| KeyError::Unsound)?;
        Ok(key.key_data().clone())
    }

    /// Whether it can sign documents.
    ///
    /// # Errors
    /// [`Unfit`], which says what would have worked.
    pub fn signs(&self) -> Result<(), Unfit> {
        match self.data() {
            Ok(data) => fit(&data),
            Err(_) => Err(Unfit::Type(self.text.chars().take_while(|c| *c != ' ').collect())),
        }
    }
}

fn check(data: &KeyData) -> Result<(), KeyError> {
    match data {
        KeyData::Ed25519(key) => sound(key),
        KeyData::SkEd25519(key) => sound(key.public_key()),
        KeyData::Ecdsa(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) => match bits(&rsa.n) {
            short if short < MIN_RSA_BITS => Err(KeyError::ShortRsa(short)),
            _ => Ok(()),
        },
        other => Err(KeyError::Type(other.algorithm().to_string())),
    }
}

/// A point of small order has signatures that hold for any message.
fn sound(key: &Ed25519PublicKey) -> Result<(), KeyError> {
    match ed25519_dalek::VerifyingKey::from_bytes(&key.0) {
        Ok(key) if !key.is_weak() => Ok(()),
        _ => Err(KeyError::Unsound),
    }
}

/// Whether signatures by a key of these numbers can be verified here.
pub(crate) fn fit(data: &KeyData) -> Result<(), Unfit> {
    let application = match data {
        KeyData::Ed25519(_) => None,
        KeyData::Ecdsa(key) if key.curve() == EcdsaCurve::NistP256 => None,
        KeyData::SkEd25519(key) => Some(key.application()),
        KeyData::SkEcdsaSha2NistP256(key) => Some(key.application()),
        KeyData::Rsa(rsa) => match bits(&rsa.n) {
            MIN_SIGNING_RSA_BITS..=MAX_SIGNING_RSA_BITS => None,
            bits => return Err(Unfit::Rsa(bits)),
        },
        other => return Err(Unfit::Type(other.algorithm().to_string())),
    };
    match application {
        Some(other) if other != APPLICATION => Err(Unfit::Application(other.chars().take(64).collect())),
        _ => Ok(()),
    }
}

/// The algorithm that signatures by a key of these numbers have to name.
pub(crate) fn algorithm(data: &KeyData) -> Algorithm {
    match data {
        KeyData::Rsa(_) => Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        other => other.algorithm(),
    }
}

/// The length of a number in bits, without leading zeros.
fn bits(number: &ssh_key::Mpint) -> usize {
    match number.as_positive_bytes().unwrap_or_default() {
        [] => 0,
        bytes @ [first, ..] => bytes.len() * 8 - first.leading_zeros() as usize,
    }
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY {
            return Err(KeyError::TooLong(text.len()));
        }
        let spelling = || KeyError::Spelling(text.chars().take(64).collect());
        let word = text.split(' ').next().unwrap_or_default();
        if word.contains("-cert-v0") || word == "ssh-dss" {
            return Err(KeyError::Type(word.chars().take(64).collect()));
        }
        let key = PublicKey::from_openssh(text).map_err(|_| spelling())?;
        let key = Self::from_data(key.key_data())?;
        if key.text == text { Ok(key) } else { Err(spelling()) }
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.text
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

    #[test]
    fn a_key_has_one_spelling() {
        let key: Key = ED25519.parse().unwrap();
        assert_eq!(key.as_str(), ED25519);
        assert!(!key.is_hardware() && key.signs().is_ok());
        for other in [
            format!("{ED25519} frank@laptop"),
            format!(" {ED25519}"),
            format!("{ED25519}\n"),
            ED25519.replace(' ', "  "),
            format!("restrict {ED25519}"),
            ED25519[..ED25519.len() - 4].to_owned(),
            "ssh-ed25519".to_owned(),
            String::new(),
        ] {
            assert!(matches!(other.parse::<Key>(), Err(KeyError::Spelling(_))), "{other:?}");
        }
        assert_eq!("x".repeat(MAX_KEY + 1).parse::<Key>(), Err(KeyError::TooLong(MAX_KEY + 1)));
    }

    #[test]
    fn a_key_whose_signatures_anybody_can_make_is_none() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        for point in [neutral, [0; 32]] {
            let data = KeyData::Ed25519(Ed25519PublicKey(point));
            assert_eq!(Key::from_data(&data), Err(KeyError::Unsound));
            let device = ssh_key::public::SkEd25519::new(Ed25519PublicKey(point), APPLICATION);
            assert_eq!(Key::from_data(&KeyData::SkEd25519(device)), Err(KeyError::Unsound));
        }
    }
}
