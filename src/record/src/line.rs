//! One record as one line: canonical bytes, signature, hash; written from a body and a position, read back strictly.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

use crate::{
    ArtifactType, Host, LedgerId, Stack,
    armor::{read_armored, verify_armored},
    body::{Body, fits, is_word},
    escape::is_escaped,
};

/// The version of the format: `v`.
pub const VERSION: u64 = 1;
/// The namespace of a record's signature, as in `ssh-keygen -Y verify -n`.
pub const NAMESPACE: &str = "ssh-access-record";
/// The longest line, newline included, in bytes.
pub const MAX_LINE: usize = 6 * 1024;
/// The largest integer in a record, either sign: what every JSON reader keeps exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// SHA-256 of one line with its newline; as text, 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands in `prev` of `seq` 1.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a line, given with its newline.
    #[must_use]
    pub fn of(line_with_newline: &[u8]) -> Self {
        Self(Sha256::digest(line_with_newline).into())
    }

    /// The hash of a line, given without its newline.
    #[must_use]
    pub fn of_unended(line: &[u8]) -> Self {
        Self(Sha256::new().chain_update(line).chain_update(b"\n").finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = NotAHash;
    fn try_from(text: String) -> Result<Self, NotAHash> {
        text.parse()
    }
}

impl FromStr for Hash {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            return Err(NotAHash);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).expect("checked to be hex digits");
            *byte = u8::from_str_radix(pair, 16).expect("checked to be hex digits");
        }
        Ok(Self(out))
    }
}

/// Not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 lower-case hex digits")]
pub struct NotAHash;

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// The ledger it is in.
    pub ledger: &'a LedgerId,
    /// Its number, from 1.
    pub seq: u64,
    /// Whose ledger it is.
    pub host: &'a Host,
    /// The stack the host is in.
    pub stack: &'a Stack,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// When it was stated.
    pub time: Timestamp,
    /// The hash of the line before.
    pub prev: Hash,
}

/// A record that could not be sealed. Nothing has been written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key is of another kind.
    #[error("records are signed with ed25519 keys only; this is a key of type {0}")]
    Algorithm(String),
    /// The library failed to sign.
    #[error("signing record {seq} failed")]
    Sign {
        /// The record's number.
        seq: u64,
        /// What the library said.
        source: ssh_key::Error,
    },
    /// We signed, and the signature does not hold.
    #[error("the signature just made over record {seq} does not verify")]
    Unsound {
        /// The record's number.
        seq: u64,
        /// What the library said.
        source: ssh_key::Error,
    },
    /// `seq` beyond what a record can hold, or a line over [`MAX_LINE`].
    #[error("record {seq} would take {bytes} bytes; at most {MAX_LINE} are allowed")]
    TooLong {
        /// The record's number.
        seq: u64,
        /// The line's length.
        bytes: usize,
    },
}

/// A signed, canonical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    seq: u64,
    hash: Hash,
    text: String,
}

impl Line {
    /// The record's number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What the next record's `prev` has to be.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The line, newline included: exactly what goes to disk.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Signs a body at its place. The signature is verified before the line is handed out.
///
/// # Errors
/// A key that is not ed25519, a signature that fails or does not hold, a position too long to fit.
pub fn seal(body: &Body, at: &Position<'_>, key: &PrivateKey) -> Result<Line, SealError> {
    let seq = at.seq;
    if key.algorithm() != Algorithm::Ed25519 {
        return Err(SealError::Algorithm(key.algorithm().to_string()));
    }
    let mut fields = body.0.clone();
    for (name, value) in [
        ("v", Value::from(VERSION)),
        ("ledger", at.ledger.as_str().into()),
        ("seq", seq.into()),
        ("host", at.host.as_str().into()),
        ("stack", at.stack.as_str().into()),
        ("boot", at.boot.into()),
        ("time", time_text(at.time).into()),
        ("prev", at.prev.to_string().into()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    let message = canonical(&fields);
    let sign = |source| SealError::Sign { seq, source };
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, message.as_bytes()).map_err(sign)?;
    let armored = signature.to_pem(LineEnding::LF).map_err(sign)?;
    verify_armored(key.public_key(), NAMESPACE, &armored, message.as_bytes())
        .map_err(|source| SealError::Unsound { seq, source })?;
    fields.insert("signature".to_owned(), armored.into());
    let mut text = canonical(&fields);
    text.push('\n');
    if text.len() > MAX_LINE || seq > MAX_INTEGER {
        return Err(SealError::TooLong { seq, bytes: text.len() });
    }
    Ok(Line { seq, hash: Hash::of(text.as_bytes()), text })
}

/// RFC 3339 in UTC with exactly six digits of a second.
pub(crate) fn time_text(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// RFC 8785. It equals `jq -cS` here: keys are ASCII words, numbers small integers, and U+007F is always escaped.
pub(crate) fn canonical(fields: &Map<String, Value>) -> String {
    serde_json_canonicalizer::to_string(fields).expect("integers, strings and words can always be written")
}

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Over [`MAX_LINE`].
    #[error("it is {0} bytes long; at most {MAX_LINE} are allowed")]
    TooLong(usize),
    /// Not a JSON object in UTF-8.
    #[error("it is not a JSON object: {0}")]
    NotJson(String),
    /// The same object is written otherwise: spaces, key order, a key twice, needless escapes.
    #[error("it is not in canonical form")]
    NotCanonical,
    /// A field is missing or not what it has to be.
    #[error("its field {0:?} is missing or not as it has to be")]
    Field(&'static str),
    /// A value that no record can hold: a float, a null, an integer out of range, a key with data, unescaped text.
    #[error("it holds {0}")]
    Value(&'static str),
}

/// A record as read back from its line. Its bytes are canonical; whether they are *authentic* is for the verifier to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    seq: u64,
    ledger: LedgerId,
    host: Host,
    time: Timestamp,
    prev: Hash,
    kind: String,
    signature: String,
    fields: Map<String, Value>,
    hash: Hash,
}

impl Record {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`Malformed`] for anything that the format does not allow: there is one way to write a record.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() >= MAX_LINE {
            return Err(Malformed::TooLong(line.len() + 1));
        }
        let fields: Map<String, Value> = serde_json::from_slice(line).map_err(|e| Malformed::NotJson(e.to_string()))?;
        check_values(&fields)?;
        if canonical(&fields).as_bytes() != line {
            return Err(Malformed::NotCanonical);
        }
        if fields.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(Malformed::Field("v"));
        }
        let text = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(Malformed::Field(name));
        let time = text("time")?.parse().map_err(|_| Malformed::Field("time"))?;
        if time_text(time) != text("time")? {
            return Err(Malformed::Field("time"));
        }
        text("stack")?.parse::<Stack>().map_err(|_| Malformed::Field("stack"))?;
        for name in ["boot", "reason"] {
            text(name)?;
        }
        Ok(Self {
            seq: fields.get("seq").and_then(Value::as_u64).filter(|n| *n > 0).ok_or(Malformed::Field("seq"))?,
            ledger: text("ledger")?.parse().map_err(|_| Malformed::Field("ledger"))?,
            host: text("host")?.parse().map_err(|_| Malformed::Field("host"))?,
            time,
            prev: text("prev")?.parse().map_err(|_| Malformed::Field("prev"))?,
            kind: text("type")?.to_owned(),
            signature: text("signature")?.to_owned(),
            hash: Hash::of_unended(line),
            fields,
        })
    }

    /// Its number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The ledger it is in.
    #[must_use]
    pub fn ledger(&self) -> &LedgerId {
        &self.ledger
    }

    /// The host it is about.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// When it was stated.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The hash of the line before it.
    #[must_use]
    pub fn prev(&self) -> Hash {
        self.prev
    }

    /// The hash of its own line.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its type as written; a later version may know more types than this one.
    #[must_use]
    pub fn type_word(&self) -> &str {
        &self.kind
    }

    /// Its type, if this version knows it.
    #[must_use]
    pub fn kind(&self) -> Option<ArtifactType> {
        self.kind.parse().ok()
    }

    /// Every field, as written.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// A field of text at the top: `person`, `account`, `grant`, `reason` and the like, as written (escaped).
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// A field of `detail`.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<&Value> {
        self.fields.get("detail")?.get(name)
    }

    /// The public key that this record introduces, in `detail.public_key`.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        let key = PublicKey::from_openssh(self.detail("public_key")?.as_str()?).ok()?;
        (key.algorithm() == Algorithm::Ed25519).then_some(key)
    }

    /// The key that its signature names; whether that key signed this, [`Record::is_signed_by`] says.
    pub(crate) fn signer(&self) -> Option<PublicKey> {
        read_armored(&self.signature).ok().map(|signature| PublicKey::from(signature.public_key().clone()))
    }

    /// Whether its signature is this key's, over exactly these bytes.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let mut message = self.fields.clone();
        message.remove("signature");
        verify_armored(key, NAMESPACE, &self.signature, canonical(&message).as_bytes()).is_ok()
    }
}

fn check_values(fields: &Map<String, Value>) -> Result<(), Malformed> {
    for (key, value) in fields {
        if !is_word(key) {
            return Err(Malformed::Value("a key that is not a fixed word"));
        }
        // The armored signature is ours and has newlines in it.
        if key != "signature" {
            check_value(value)?;
        }
    }
    Ok(())
}

fn check_value(value: &Value) -> Result<(), Malformed> {
    match value {
        Value::Null => Err(Malformed::Value("a null")),
        Value::Number(n) if !fits(n) => Err(Malformed::Value("a number that is not an integer within ±(2^53−1)")),
        Value::String(text) if !is_escaped(text) => Err(Malformed::Value("text that is not escaped")),
        Value::Array(all) => all.iter().try_for_each(check_value),
        Value::Object(map) => check_values_inside(map),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Below the top, a key called `signature` is nothing special.
fn check_values_inside(map: &Map<String, Value>) -> Result<(), Malformed> {
    for (key, value) in map {
        if !is_word(key) {
            return Err(Malformed::Value("a key that is not a fixed word"));
        }
        check_value(value)?;
    }
    Ok(())
}
