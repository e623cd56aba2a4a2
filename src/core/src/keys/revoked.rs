//! A file of `RevokedKeys` (sshd_config(5)), as sshd reads it.
//!
//! sshd refuses every key where it cannot read the whole file: a line that is in doubt is an error, never passed over.

use std::collections::HashSet;

use super::{
    file::lines,
    key::Key,
    line::{Line, Why},
    wire::BlobError,
};

/// What a key revocation list begins with; every other file is one of plain keys.
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// What a file of `RevokedKeys` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// A key revocation list: ssh-keygen(1) tells what is on it.
    Krl,
    /// These keys, one a line.
    Keys(HashSet<Key>),
}

/// Why it is not known which keys a file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// A line at which sshd stops reading, so that it refuses every key.
    #[error("has a line that is no plain key, line {0}")]
    BadLine(usize),
    /// sshd passes a certificate over, and stops at one that it cannot read or whose signature is wrong. That is not looked at.
    #[error("has a certificate in line {0}")]
    Certificate(usize),
}

impl Revoked {
    /// Reads such a file. `dsa` is whether this sshd knows DSA keys, as before OpenSSH 10.
    ///
    /// # Errors
    /// The first line that sshd cannot read, or for which that is in doubt.
    pub fn read(content: &[u8], dsa: bool) -> Result<Self, NotRead> {
        if content.starts_with(KRL_MAGIC) {
            return Ok(Self::Krl);
        }
        let mut keys = HashSet::new();
        for (index, line) in lines(content).enumerate() {
            match line {
                Line::Entry(entry) if entry.options.raw.is_empty() && (dsa || !entry.key.is_dsa()) => {
                    keys.insert(entry.key);
                }
                Line::Comment(_) => {}
                // sshd takes other white space for the beginning of a key.
                Line::Blank(raw) if raw.iter().all(|byte| b" \t\n".contains(byte)) => {}
                // sshd passes these over.
                Line::Unreadable(unreadable) if matches!(unreadable.why, Why::Blob(BlobError::ShortRsa(_))) => {}
                Line::Unreadable(unreadable) if unreadable.why == Why::Certificate => {
                    return Err(NotRead::Certificate(index + 1));
                }
                _ => return Err(NotRead::BadLine(index + 1)),
            }
        }
        Ok(Self::Keys(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::test_keys::{CERTIFICATE, DSA, ED25519, P256, RSA};

    /// An RSA key of 512 bits.
    const SHORT: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQCAAAAAAAAAAGxvY2tkb3dubG9ja2Rvd25sb2NrZG93bmxvY2tkb3dubG9ja2Rvd25sb2NrZG93bmxvY2tkb3dv";

    fn keys(content: &str) -> Result<HashSet<Key>, NotRead> {
        match Revoked::read(content.as_bytes(), false)? {
            Revoked::Keys(keys) => Ok(keys),
            Revoked::Krl => panic!("{content:?} is no KRL"),
        }
    }

    fn key(line: &str) -> Key {
        match Line::parse(line.as_bytes()) {
            Line::Entry(entry) => entry.key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_of_plain_keys_holds_those_and_no_others() {
        let found = keys(&format!("# stolen\n\n \t\n{ED25519} anna@laptop\n\t{SHORT}\n{P256}")).expect("a list");
        assert_eq!(found, HashSet::from([key(ED25519), key(P256)]));
        assert!(!found.contains(&key(RSA)));
        assert_eq!(keys(""), Ok(HashSet::new()), "an empty file revokes nothing");
        assert_eq!(Revoked::read(b"SSHKRL\n\0\0\0", false), Ok(Revoked::Krl));
    }

    #[test]
    fn a_line_that_sshd_may_not_read_is_told_since_it_refuses_every_key_then() {
        for line in ["hello", "\r", "ssh-ed25519 AAAA", "SSHKRL", DSA] {
            assert_eq!(keys(&format!("{ED25519}\n{line}\n{P256}\n")), Err(NotRead::BadLine(2)), "{line:?}");
        }
        assert_eq!(keys(&format!("restrict {ED25519}\n")), Err(NotRead::BadLine(1)));
        assert_eq!(keys(&format!("{ED25519}\n{CERTIFICATE}\n")), Err(NotRead::Certificate(2)));
        assert!(Revoked::read(DSA.as_bytes(), true).is_ok());
    }
}
