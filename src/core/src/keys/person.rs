//! A person's key as the configuration gives it: stricter than sshd, so that it has one reading only.
//!
//! It must never let through an option, a second line, or a key that stands for other keys.

use record::Fingerprint;
use serde::{Deserialize, Serialize};

use super::{
    key::Key,
    options,
    wire::{self, BlobError, KeyType, MAX_NUMBER_BITS},
};

/// The longest text of one key, in bytes: an RSA key of 16,384 bits needs 2,800.
pub const MAX_TEXT: usize = 8192;

/// The fewest bits of a person's RSA key. sshd's own bound is 1024; NIST SP 800-131A has disallowed that since 2014.
pub const MIN_RSA_BITS: usize = 2048;

/// The types of key that sit in a security device.
pub const HARDWARE_TYPES: [&str; 2] = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];

/// The types of key that a person may have.
const TYPES: &str = "ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, ssh-rsa, \
                     sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com";

/// A public key that belongs to one person. Two are equal when their numbers are; comments do not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonKey(Key);

impl TryFrom<String> for PersonKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::parse(&text)
    }
}

impl From<PersonKey> for String {
    fn from(key: PersonKey) -> Self {
        format!("{} {}", key.algorithm(), key.base64())
    }
}

/// Why a text is no key for a person, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the key is empty: give the content of its .pub file, TYPE BASE64 COMMENT")]
    Empty,
    /// More than [`MAX_TEXT`].
    #[error("the key has {0} bytes, more than {MAX_TEXT}: give the content of one .pub file")]
    TooLong(usize),
    /// A line end or another control character inside.
    #[error("the key is not one line of plain text: give each key as a string of its own, TYPE BASE64 COMMENT")]
    NotOneLine,
    /// A PEM file or one of RFC 4716.
    #[error(
        "this is not OpenSSH's format for public keys: give the .pub file (ssh-keygen -y -f KEY prints it, ssh-keygen -i converts others)"
    )]
    OtherFormat,
    /// Options stand before the key.
    #[error(
        "options before a key are not taken here: give TYPE BASE64 COMMENT alone, and limit a grant with --from and --for"
    )]
    Options,
    /// A type of key that people cannot have.
    #[error("{0:?} is not a type of key that is taken: use {TYPES}")]
    Type(String),
    /// A certificate.
    #[error("a certificate is not taken: give the plain key that it certifies, from its .pub file")]
    Certificate,
    /// DSA.
    #[error("DSA keys are not taken, sshd refuses them too: make one with ssh-keygen -t ed25519")]
    Dsa,
    /// Too short an RSA key.
    #[error(
        "an RSA key of {0} bits is too short: use {MIN_RSA_BITS} to {MAX_NUMBER_BITS} bits, or ssh-keygen -t ed25519"
    )]
    ShortRsa(usize),
    /// The second word is missing or damaged, or holds another type than the first says.
    #[error("the base64 after {0} does not hold such a key: copy the whole line of the .pub file again")]
    Damaged(String),
    /// Readable, but spelt as no tool spells it.
    #[error("the key is not spelt as ssh-keygen spells it: write {0} instead")]
    Spelling(String),
}

impl PersonKey {
    /// Reads `TYPE BASE64 [COMMENT]`, one line; white space around it does not count, so that the content of a `.pub`
    /// file can be given as it is.
    ///
    /// # Errors
    /// [`KeyError`], which says what would have worked.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::TooLong(text.len()));
        }
        let text = text.trim_ascii();
        if text.starts_with("--") {
            return Err(KeyError::OtherFormat);
        }
        if text.contains(char::is_control) {
            return Err(KeyError::NotOneLine);
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let base64 = rest.trim_start().split(' ').next().unwrap_or_default();
        match KeyType::from_word(word.as_bytes()) {
            None if word.is_empty() => Err(KeyError::Empty),
            None if options::parse(text.as_bytes()).is_ok() => Err(KeyError::Options),
            None => Err(KeyError::Type(word.chars().take(64).collect())),
            Some(KeyType::Certificate) => Err(KeyError::Certificate),
            Some(KeyType::Dsa) => Err(KeyError::Dsa),
            Some(named) => Self::from_words(named, word, base64),
        }
    }

    fn from_words(named: KeyType, word: &str, base64: &str) -> Result<Self, KeyError> {
        let damaged = || KeyError::Damaged(word.to_owned());
        let (found, data) = wire::read_base64(base64.as_bytes()).map_err(|error| match error {
            BlobError::ShortRsa(bits) => KeyError::ShortRsa(bits),
            BlobError::Certificate => KeyError::Certificate,
            _ => damaged(),
        })?;
        if found != named {
            return Err(damaged());
        }
        let key = Key::new(data);
        if let Some(bits) = key.rsa_bits().filter(|bits| *bits < MIN_RSA_BITS) {
            return Err(KeyError::ShortRsa(bits));
        }
        let key = Self(key);
        if key.algorithm() != word || key.base64() != base64 {
            return Err(KeyError::Spelling(format!("{} {}", key.algorithm(), key.base64())));
        }
        Ok(key)
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0
    }

    /// Whether it sits in a security device (FIDO): sshd then asks for a touch.
    #[must_use]
    pub fn is_hardware(&self) -> bool {
        self.0.is_hardware()
    }

    /// The SHA-256 fingerprint as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    /// The key's type, the first word of its line.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.0.algorithm()
    }

    /// The key's data, the second word of its line.
    #[must_use]
    pub fn base64(&self) -> String {
        self.0.base64()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::test_keys::{
        CERTIFICATE, DSA, ED25519, ED25519_FINGERPRINT, P256, RSA, RSA_1024, RSA_FINGERPRINT,
    };

    fn refused(text: &str) -> KeyError {
        PersonKey::parse(text).expect_err(text)
    }

    #[test]
    fn the_content_of_a_pub_file_is_taken_as_it_is() {
        for text in [ED25519.to_owned(), format!("{ED25519} frank@laptop, at home\n"), format!("  {ED25519}  x\r\n")] {
            let key = PersonKey::parse(&text).expect(&text);
            assert_eq!(key.fingerprint().as_str(), ED25519_FINGERPRINT);
            assert_eq!(format!("{} {}", key.algorithm(), key.base64()), ED25519);
            assert_eq!(Ok(key), PersonKey::parse(ED25519));
        }
        assert_eq!(PersonKey::parse(RSA).expect("2048 bits").fingerprint().as_str(), RSA_FINGERPRINT);
        assert!(PersonKey::parse(P256).is_ok());
    }

    #[test]
    fn what_is_no_plain_strong_key_is_refused_by_name() {
        assert_eq!(refused(" \n"), KeyError::Empty);
        assert_eq!(refused(CERTIFICATE), KeyError::Certificate);
        assert_eq!(refused(DSA), KeyError::Dsa);
        assert_eq!(refused(RSA_1024), KeyError::ShortRsa(1024));
        assert_eq!(refused(&format!("restrict {ED25519}")), KeyError::Options);
        assert_eq!(refused(&format!("cert-authority {ED25519}")), KeyError::Options);
        assert_eq!(refused(&format!("from=\"10.0.0.0/8\" {ED25519}")), KeyError::Options);
        assert_eq!(refused(&format!("{ED25519}\n{P256}")), KeyError::NotOneLine);
        assert_eq!(refused(&format!("{ED25519} x\u{85}y")), KeyError::NotOneLine);
        assert_eq!(refused("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"), KeyError::OtherFormat);
        assert_eq!(refused("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n"), KeyError::OtherFormat);
        assert_eq!(refused("hello world"), KeyError::Type("hello".to_owned()));
        assert_eq!(refused("ssh-ed25519"), KeyError::Damaged("ssh-ed25519".to_owned()));
        assert_eq!(refused(&ED25519[..40]), KeyError::Damaged("ssh-ed25519".to_owned()));
        assert_eq!(
            refused(&format!("{ED25519} {}", "x".repeat(MAX_TEXT))),
            KeyError::TooLong(MAX_TEXT + 1 + ED25519.len())
        );
    }

    #[test]
    fn a_spelling_that_only_sshd_takes_is_answered_with_the_right_one() {
        assert_eq!(refused(&RSA.replace("ssh-rsa ", "rsa-sha2-512 ")), KeyError::Spelling(RSA.to_owned()));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_answered(text in "\\PC{0,200}") {
            let _ = PersonKey::parse(&text);
        }

        #[test]
        fn no_single_changed_byte_gives_another_spelling_of_the_key(at in 0..ED25519.len(), byte in b' '..=b'~') {
            let mut text = ED25519.as_bytes().to_vec();
            text[at] = byte;
            let text = String::from_utf8(text).expect("ASCII");
            if let Ok(key) = PersonKey::parse(&text) {
                prop_assert_eq!(key == PersonKey::parse(ED25519).expect("a key"), text == ED25519);
            }
        }
    }
}
