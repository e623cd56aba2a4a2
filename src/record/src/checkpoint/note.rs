//! The signed note: C2SP `tlog-checkpoint` within C2SP `signed-note`, with an Ed25519 signature (type 0x01).

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use ssh_key::{PrivateKey, PublicKey};

use crate::line::{Hash, MAX_INTEGER, time_text};

/// The longest note, in bytes: room for the signatures of some who witnessed it.
pub const MAX_CHECKPOINT: usize = 16 * 1024;
/// The longest origin, in bytes.
pub const MAX_ORIGIN: usize = 128;
/// Signatures of a note that are looked at.
const MAX_SIGNATURES: usize = 32;
/// Before each signature.
const DASH: &str = "\u{2014} ";
/// The type of a plain Ed25519 signature.
const ED25519: u8 = 1;
/// Bytes of a key's id.
const KEY_ID: usize = 4;

/// What a checkpoint says. Alone it proves nothing: see [`SignedCheckpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose: the first line, and the name of the key that signs.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Which of the server's checkpoints: one more than the one before.
    pub number: u64,
    /// When, by the server's clock; finer than a microsecond is cut off.
    pub time: Timestamp,
}

/// Why there is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Over [`MAX_CHECKPOINT`].
    #[error("it is {0} bytes long; a checkpoint has at most {MAX_CHECKPOINT}")]
    TooLong(usize),
    /// Not a signed note.
    #[error("it is no signed note: {0}")]
    Note(&'static str),
    /// A line of it is not what it has to be.
    #[error("its {0} is missing or not as it has to be")]
    Line(&'static str),
    /// The key is of another kind.
    #[error("checkpoints are signed with ed25519 keys only")]
    Algorithm,
}

impl Checkpoint {
    /// The text that is signed: five lines, each with its newline.
    #[must_use]
    pub fn text(&self) -> String {
        let root = Base64::encode_string(self.root.as_bytes());
        let Self { origin, size, number, .. } = self;
        format!("{origin}\n{size}\n{root}\ncheckpoint {number}\ntime {}\n", time_text(self.time))
    }

    /// Signs it. A text that is signed so is never one that an SSHSIG is over: those begin with `SSHSIG` and a zero byte,
    /// and no note has one.
    ///
    /// # Errors
    /// A key that is not ed25519, or an origin that no note can have.
    pub fn sign(&self, key: &PrivateKey) -> Result<SignedCheckpoint, CheckpointError> {
        let pair = key.key_data().ed25519().ok_or(CheckpointError::Algorithm)?;
        let signing = SigningKey::from_bytes(&pair.private.to_bytes());
        let text = self.text();
        let mut signature = key_id(&self.origin, signing.verifying_key().as_bytes()).to_vec();
        signature.extend_from_slice(&signing.sign(text.as_bytes()).to_bytes());
        let note = format!("{text}\n{DASH}{} {}\n", self.origin, Base64::encode_string(&signature));
        SignedCheckpoint::parse(note.as_bytes())
    }

    fn read(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut line = |what| lines.next().ok_or(CheckpointError::Line(what));
        let origin = line("origin")?.to_owned();
        let size = number(line("tree size")?).ok_or(CheckpointError::Line("tree size"))?;
        let root = line("root hash")?;
        let root: [u8; 32] = Base64::decode_vec(root)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(CheckpointError::Line("root hash"))?;
        let count = line("number")?.strip_prefix("checkpoint ").and_then(number);
        let count = count.filter(|n| *n > 0).ok_or(CheckpointError::Line("number"))?;
        let time = line("time")?.strip_prefix("time ").ok_or(CheckpointError::Line("time"))?;
        let time: Timestamp = time.parse().map_err(|_| CheckpointError::Line("time"))?;
        let read = Self { origin, size, root: Hash::from(root), number: count, time };
        if !is_origin(&read.origin) {
            return Err(CheckpointError::Line("origin"));
        }
        // There is one way to write each, and nothing more.
        if read.text() == text { Ok(read) } else { Err(CheckpointError::Line("form")) }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| *n <= MAX_INTEGER && n.to_string() == text)
}

/// What may stand as a key's name in a note.
fn is_origin(text: &str) -> bool {
    (1..=MAX_ORIGIN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'+')
}

/// What a signature names its key by, beside the name.
fn key_id(name: &str, key: &[u8; 32]) -> [u8; KEY_ID] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A checkpoint with its signatures. Whether one of them is by the server, [`SignedCheckpoint::is_signed_by`] says: nothing is
/// to be believed before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    /// Each by name, and with the key's id before it.
    signatures: Vec<(String, Vec<u8>)>,
    note: String,
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// [`CheckpointError`] for anything but a checkpoint of such a server.
    pub fn parse(note: &[u8]) -> Result<Self, CheckpointError> {
        if note.len() > MAX_CHECKPOINT {
            return Err(CheckpointError::TooLong(note.len()));
        }
        let note = std::str::from_utf8(note).map_err(|_| CheckpointError::Note("it is not text"))?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(CheckpointError::Note("it has control characters"));
        }
        let (text, signed) = note.rsplit_once("\n\n").ok_or(CheckpointError::Note("no signatures stand below it"))?;
        let signed = signed.strip_suffix('\n').ok_or(CheckpointError::Note("its end is missing"))?;
        let signatures: Vec<_> = signed
            .split('\n')
            .take(MAX_SIGNATURES + 1)
            .map(signature)
            .collect::<Option<_>>()
            .ok_or(CheckpointError::Note("a signature is written otherwise than as a dash, a name and base64"))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(CheckpointError::Note("it has more signatures than are looked at"));
        }
        Ok(Self { checkpoint: Checkpoint::read(&format!("{text}\n"))?, signatures, note: note.to_owned() })
    }

    /// What it says.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note: exactly what is sent and kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.note
    }

    /// Whether a signature in the name of its origin is this key's, over exactly what it says.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Some(public) = key.key_data().ed25519() else { return false };
        let Ok(verifying) = VerifyingKey::from_bytes(&public.0) else { return false };
        let Checkpoint { origin, .. } = &self.checkpoint;
        let id = key_id(origin, &public.0);
        let text = self.checkpoint.text();
        self.signatures.iter().filter(|(name, bytes)| name == origin && bytes.starts_with(&id)).any(|(_, bytes)| {
            let signature = Signature::from_slice(&bytes[KEY_ID..]);
            signature.is_ok_and(|signature| verifying.verify_strict(text.as_bytes(), &signature).is_ok())
        })
    }
}

/// The name in a line below a note, and what stands behind it.
fn signature(line: &str) -> Option<(String, Vec<u8>)> {
    let (name, base64) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = Base64::decode_vec(base64).ok().filter(|bytes| bytes.len() > KEY_ID)?;
    is_origin(name).then(|| (name.to_owned(), bytes))
}
