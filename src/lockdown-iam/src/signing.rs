//! The feeder's key, which signs by `ssh-keygen -Y sign` alone: it may be in a file, an agent or a device.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use document::{Document, Envelope, Key, MAX_SIGNATURE, signature};
use ssh_key::{PrivateKey, PublicKey};

use crate::{failure::Failure, files};

/// The longest key file that is read, in bytes.
const MAX_KEY_FILE: usize = 64 << 10;

/// The feeder's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeederKey {
    /// Its public half.
    pub(crate) key: Key,
    file: PathBuf,
}

impl FeederKey {
    /// Reads the public half: of FILE.pub, of a public one itself, or of a private one in OpenSSH's format, which has it in the clear.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        let text = match files::text(Path::new(&beside), MAX_KEY_FILE) {
            Ok(text) => text,
            Err(_) => files::text(path, MAX_KEY_FILE)?,
        };
        let wrong = |why: String| {
            Failure::config(format!("{}: {why}", path.display()))
                .but("ssh-keygen -t ed25519 -N '' -f FILE makes one; the roster names its public half as a feeder")
        };
        let public = text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let data = match (PrivateKey::from_openssh(&text), PublicKey::from_openssh(&public)) {
            (Ok(private), _) => private.public_key().key_data().clone(),
            (_, Ok(public)) => public.key_data().clone(),
            _ => return Err(wrong("it holds no key in OpenSSH's format".to_owned())),
        };
        let key = Key::from_data(&data).map_err(|error| wrong(error.to_string()))?;
        key.signs().map_err(|unfit| wrong(unfit.to_string()))?;
        Ok(Self { key, file: path.to_owned() })
    }

    /// Signs a document.
    pub(crate) fn sign(&self, document: Document) -> Result<Envelope, Failure> {
        let here = |error: std::io::Error| Failure::refused(format!("a temporary file: {error}"));
        let scratch = tempfile::Builder::new().prefix("lockdown-iam-").tempdir().map_err(here)?;
        let message = scratch.path().join("line");
        fs::write(&message, document.line()).map_err(here)?;
        let namespace = document.namespace();
        let arguments: [&OsStr; 8] = [
            "-q".as_ref(),
            "-Y".as_ref(),
            "sign".as_ref(),
            "-n".as_ref(),
            namespace.as_str().as_ref(),
            "-f".as_ref(),
            self.file.as_os_str(),
            message.as_os_str(),
        ];
        let mut command = Command::new("ssh-keygen");
        let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|error| {
            Failure::refused(format!("ssh-keygen: {error}")).but("install OpenSSH 8.9 or newer: openssh-client")
        })?;
        if !status.success() {
            return Err(Failure::refused(format!("ssh-keygen did not sign with {} ({status})", self.file.display())));
        }
        let armored = files::text(&scratch.path().join("line.sig"), MAX_SIGNATURE)?;
        let odd = |why: String| Failure::refused(format!("what ssh-keygen made does not count: {why}"));
        let read = signature::read(&armored).map_err(|why| odd(why.to_string()))?;
        let valid = read.verify(namespace, document.line()).map_err(|why| odd(why.to_string()))?;
        if valid.fingerprint != *self.key.fingerprint() {
            return Err(odd("it is by another key".to_owned()));
        }
        Envelope::new(document, vec![armored]).map_err(|error| Failure::refused(error.to_string()))
    }
}
