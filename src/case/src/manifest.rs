//! The manifest: what was asked, which runs of which ledgers there are, what is missing, and the hash of every other member;
//! signed with the server's key so that `ssh-keygen -Y verify` says so too.

use jiff::Timestamp;
use record::{Hash, LedgerId, verify_armored};
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};

/// The namespace of the signature over a manifest, as in `ssh-keygen -Y verify -n`.
pub const NAMESPACE: &str = "ssh-access-case";
/// The version of the form.
const VERSION: u64 = 1;

/// `manifest.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the form: 1.
    pub v: u64,
    /// When it was made, by the server's clock. All members have this moment, in whole seconds.
    pub made: Timestamp,
    /// The server's name.
    pub server: String,
    /// What was asked.
    pub asked: Asked,
    /// The number of the checkpoint, where there is one.
    pub checkpoint: Option<u64>,
    /// The ledgers.
    pub ledgers: Vec<LedgerEntry>,
    /// What is not in it, by the server's word, each in a sentence.
    pub missing: Vec<String>,
    /// Every other member, in the order of the archive.
    pub files: Vec<FileEntry>,
}

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// About whom.
    pub person: Option<String>,
    /// About which host.
    pub host: Option<String>,
    /// Which stack's alone.
    pub stack: Option<String>,
    /// From when, by the records' own time.
    pub from: Option<Timestamp>,
    /// Until when.
    pub to: Option<Timestamp>,
}

/// A ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// Its id.
    pub ledger: LedgerId,
    /// Whose it is: `host`, `client` or `person`.
    pub kind: String,
    /// Their name.
    pub name: String,
    /// How it stands, in a sentence.
    pub stands: String,
    /// Its runs, in order.
    pub runs: Vec<Run>,
}

/// Lines without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The first record's number.
    pub first: u64,
    /// The last one's.
    pub last: u64,
    /// The SHA-256 of the last one's line.
    pub hash: Hash,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub size: u64,
    /// The SHA-256 of it.
    pub sha256: Hash,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is none.
    #[error("manifest.json is none: {0}")]
    Malformed(String),
    /// It could not be signed.
    #[error("the manifest could not be signed")]
    Sign(#[source] ssh_key::Error),
}

impl Manifest {
    /// A manifest without files.
    #[must_use]
    pub fn new(made: Timestamp, server: &str, asked: Asked) -> Self {
        Self {
            v: VERSION,
            made,
            server: server.to_owned(),
            asked,
            checkpoint: None,
            ledgers: Vec::new(),
            missing: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The bytes that are signed, and the armored signature.
    ///
    /// # Errors
    /// A key that does not sign.
    pub fn sign(&self, key: &PrivateKey) -> Result<(Vec<u8>, String), ManifestError> {
        let mut text = serde_json::to_vec(self).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        text.push(b'\n');
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, &text).map_err(ManifestError::Sign)?;
        Ok((text, signature.to_pem(LineEnding::LF).map_err(ManifestError::Sign)?))
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        match manifest.v {
            VERSION => Ok(manifest),
            v => Err(ManifestError::Malformed(format!("version {v}, and {VERSION} is known here"))),
        }
    }
}

/// The one of these keys that signed these bytes as a manifest.
pub(crate) fn signer<'a>(bytes: &[u8], armored: &[u8], keys: &'a [PublicKey]) -> Option<&'a PublicKey> {
    let armored = std::str::from_utf8(armored).ok()?;
    keys.iter().find(|key| verify_armored(key, NAMESPACE, armored, bytes).is_ok())
}
