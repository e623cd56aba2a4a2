//! A public key's blob: base64 and the binary form of RFC 4253, section 6.6, as forgiving as sshd is.
//!
//! sshd takes spellings that no tool writes (blanks inside base64, short names and a trailing NUL in the blob's type,
//! leading zeros in numbers) and compares keys by value. So does this module: whatever the spelling, the same key gives
//! the same [`KeyData`]. It must never call a blob unreadable that sshd reads, but for an application of a security key
//! that is not UTF-8.

use base64ct::{Base64, Encoding as _};
use ssh_key::{
    Mpint,
    public::{DsaPublicKey, EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey, SkEcdsaSha2NistP256, SkEd25519},
};

/// The most bits sshd takes in one number of a key (`SSHBUF_MAX_BIGNUM`).
pub const MAX_NUMBER_BITS: usize = 16_384;

/// The fewest bits of an RSA key that sshd takes unless `RequiredRSASize` says more.
pub const MIN_RSA_BITS: usize = 1024;

/// Why a key's blob cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Not base64 as sshd reads it.
    #[error("the key is not base64")]
    Base64,
    /// Shorter than it says, longer than it says, or with a part that cannot be.
    #[error("the key's data is damaged")]
    Damaged,
    /// A type that this program does not know.
    #[error("the key's data is of an unknown type")]
    UnknownType,
    /// An OpenSSH certificate.
    #[error("a certificate stands in a key's place")]
    Certificate,
    /// An RSA key below [`MIN_RSA_BITS`].
    #[error("an RSA key of {0} bits, and sshd takes none below {MIN_RSA_BITS}")]
    ShortRsa(usize),
}

/// The type of a key as the word before the base64 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    Ed25519,
    Rsa,
    Dsa,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    SkEd25519,
    SkEcdsaP256,
    Certificate,
}

impl KeyType {
    /// The type that sshd sees in the word before the base64: exact, case and all. The names of signature algorithms
    /// pass for those of keys, in sshd too.
    pub(super) fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"ssh-ed25519" => Self::Ed25519,
            b"ssh-rsa" | b"rsa-sha2-256" | b"rsa-sha2-512" => Self::Rsa,
            b"ssh-dss" => Self::Dsa,
            b"ecdsa-sha2-nistp256" => Self::EcdsaP256,
            b"ecdsa-sha2-nistp384" => Self::EcdsaP384,
            b"ecdsa-sha2-nistp521" => Self::EcdsaP521,
            b"sk-ssh-ed25519@openssh.com" => Self::SkEd25519,
            b"sk-ecdsa-sha2-nistp256@openssh.com" | b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com" => Self::SkEcdsaP256,
            _ if is_certificate_name(word) => Self::Certificate,
            _ => return None,
        })
    }

    /// The type inside the blob, where sshd also takes the short names that its own messages use.
    fn from_blob(name: &[u8]) -> Option<Self> {
        const SHORT: [(&[u8], KeyType); 4] = [
            (b"ED25519", KeyType::Ed25519),
            (b"RSA", KeyType::Rsa),
            (b"DSA", KeyType::Dsa),
            (b"ED25519-SK", KeyType::SkEd25519),
        ];
        Self::from_word(name)
            .or_else(|| SHORT.iter().find(|(short, _)| name.eq_ignore_ascii_case(short)).map(|(_, found)| *found))
    }
}

/// Whether this names one of OpenSSH's certificate types.
pub(super) fn is_certificate_name(word: &[u8]) -> bool {
    word.ends_with(b"-cert-v01@openssh.com")
}

/// Reads the base64 of a key and what it holds. White space of any kind inside it counts for nothing, as in
/// `b64_pton`(3).
pub(super) fn read_base64(text: &[u8]) -> Result<(KeyType, KeyData), BlobError> {
    let squeezed: Vec<u8> = text.iter().copied().filter(|byte| !is_space(*byte)).collect();
    let squeezed = std::str::from_utf8(&squeezed).map_err(|_| BlobError::Base64)?;
    read(&Base64::decode_vec(squeezed).map_err(|_| BlobError::Base64)?)
}

/// C's `isspace` in the POSIX locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads a whole blob; anything left over makes it damaged.
fn read(blob: &[u8]) -> Result<(KeyType, KeyData), BlobError> {
    let mut rest = Fields(blob);
    let found = KeyType::from_blob(rest.text()?).ok_or(BlobError::UnknownType)?;
    let key = match found {
        KeyType::Ed25519 => KeyData::Ed25519(ed25519(&mut rest)?),
        KeyType::Rsa => KeyData::Rsa(rsa(&mut rest)?),
        KeyType::Dsa => {
            KeyData::Dsa(DsaPublicKey { p: rest.number()?, q: rest.number()?, g: rest.number()?, y: rest.number()? })
        }
        KeyType::EcdsaP256 => KeyData::Ecdsa(ecdsa(&mut rest, b"nistp256")?),
        KeyType::EcdsaP384 => KeyData::Ecdsa(ecdsa(&mut rest, b"nistp384")?),
        KeyType::EcdsaP521 => KeyData::Ecdsa(ecdsa(&mut rest, b"nistp521")?),
        KeyType::SkEd25519 => {
            let key = ed25519(&mut rest)?;
            KeyData::SkEd25519(SkEd25519::new(key, rest.application()?))
        }
        KeyType::SkEcdsaP256 => {
            let EcdsaPublicKey::NistP256(point) = ecdsa(&mut rest, b"nistp256")? else {
                return Err(BlobError::Damaged);
            };
            KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(point, rest.application()?))
        }
        KeyType::Certificate => return Err(BlobError::Certificate),
    };
    if rest.0.is_empty() { Ok((found, key)) } else { Err(BlobError::Damaged) }
}

fn ed25519(rest: &mut Fields<'_>) -> Result<Ed25519PublicKey, BlobError> {
    Ed25519PublicKey::try_from(rest.string()?).map_err(|_| BlobError::Damaged)
}

fn rsa(rest: &mut Fields<'_>) -> Result<RsaPublicKey, BlobError> {
    let key = RsaPublicKey { e: rest.number()?, n: rest.number()? };
    match bits(&key.n) {
        short if short < MIN_RSA_BITS => Err(BlobError::ShortRsa(short)),
        _ => Ok(key),
    }
}

/// The length of a number in bits, without leading zeros.
pub(super) fn bits(number: &Mpint) -> usize {
    match number.as_positive_bytes().unwrap_or_default() {
        [] => 0,
        bytes @ [first, ..] => bytes.len() * 8 - first.leading_zeros() as usize,
    }
}

/// A curve's name and an uncompressed point. That the point lies on the curve is not looked at: nobody holds a private
/// key to one that does not.
fn ecdsa(rest: &mut Fields<'_>, curve: &[u8]) -> Result<EcdsaPublicKey, BlobError> {
    if rest.text()? != curve {
        return Err(BlobError::Damaged);
    }
    let key = EcdsaPublicKey::from_sec1_bytes(rest.string()?).map_err(|_| BlobError::Damaged)?;
    if key.curve().as_str().as_bytes() == curve { Ok(key) } else { Err(BlobError::Damaged) }
}

/// What of the blob is still unread.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// A length of four bytes, big-endian, and that many bytes (RFC 4251, section 5).
    fn string(&mut self) -> Result<&'a [u8], BlobError> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(BlobError::Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BlobError::Damaged)?;
        let (string, rest) = rest.split_at_checked(length).ok_or(BlobError::Damaged)?;
        self.0 = rest;
        Ok(string)
    }

    /// A string without NUL, but that sshd lets pass as the last byte.
    fn text(&mut self) -> Result<&'a [u8], BlobError> {
        let string = self.string()?;
        let text = string.strip_suffix(b"\0").unwrap_or(string);
        if text.contains(&0) { Err(BlobError::Damaged) } else { Ok(text) }
    }

    /// The application of a security key, as in `ssh:`.
    fn application(&mut self) -> Result<&'a str, BlobError> {
        std::str::from_utf8(self.text()?).map_err(|_| BlobError::Damaged)
    }

    /// A number that is not negative, of at most [`MAX_NUMBER_BITS`]; leading zeros fall away.
    fn number(&mut self) -> Result<Mpint, BlobError> {
        let string = self.string()?;
        let digits = &string[string.iter().take_while(|byte| **byte == 0).count()..];
        let negative = string.first().is_some_and(|first| first & 0x80 != 0);
        if negative || digits.len() > MAX_NUMBER_BITS / 8 {
            return Err(BlobError::Damaged);
        }
        Mpint::from_positive_bytes(digits).map_err(|_| BlobError::Damaged)
    }
}
