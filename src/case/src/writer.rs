//! Writing a case file, member by member: what is not taken away yet is all that is held of it.

use jiff::Timestamp;
use record::Hash;
use ssh_key::PrivateKey;

use crate::{
    manifest::{FileEntry, Manifest, ManifestError},
    member::Member,
    tar,
};

/// What verifies a case file with stock tools.
pub const VERIFY_SCRIPT: &str = include_str!("../verify.sh");

/// A case file that is being written.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    files: Vec<FileEntry>,
    time: u64,
}

impl Writer {
    /// Nothing is in it yet.
    #[must_use]
    pub fn new(made: Timestamp) -> Self {
        Self { out: Vec::new(), files: Vec::new(), time: u64::try_from(made.as_second()).unwrap_or(0) }
    }

    /// Adds a member.
    pub fn add(&mut self, member: &Member, bytes: &[u8]) {
        let name = member.name();
        self.put(&member.path(), bytes);
        self.files.push(FileEntry { name, size: bytes.len() as u64, sha256: Hash::of(bytes) });
    }

    fn put(&mut self, path: &str, bytes: &[u8]) {
        let size = bytes.len() as u64;
        self.out.extend_from_slice(&tar::header(path, size, self.time));
        self.out.extend_from_slice(bytes);
        self.out.resize(self.out.len() + tar::filling(size), 0);
    }

    /// Adds the manifest, which gets the list of all members, its signature, and the end.
    ///
    /// # Errors
    /// A key that does not sign.
    pub fn finish(&mut self, mut manifest: Manifest, key: &PrivateKey) -> Result<(), ManifestError> {
        manifest.files = std::mem::take(&mut self.files);
        let (text, signature) = manifest.sign(key)?;
        self.put(&Member::Manifest.path(), &text);
        self.put(&Member::Signature.path(), signature.as_bytes());
        self.out.extend_from_slice(&tar::end());
        Ok(())
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Takes them.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}
