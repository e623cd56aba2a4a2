//! Names that are typed where an account's belongs: an account's own is named, anything else is kept as a keyed hash,
//! since people type passwords there. With the key nobody but root can try names against the hash; and one name has one
//! hash on this host, so that what was tried over and over can be seen.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use record::Account;
use sha2::{Digest, Sha256};

use crate::host::{
    self,
    accounts::{Accounts, PASSWD},
    paths::{self, Durability},
};

/// Where the key is.
pub const NAME_KEY: &str = "/var/lib/lockdownd/name_key";
/// How much of a hash stands in a record, in bytes.
const HASH_BYTES: usize = 16;
/// The block of SHA-256, which HMAC (RFC 2104) fills.
const BLOCK: usize = 64;

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// An account's.
    Account(Account),
    /// No account's.
    Unknown {
        /// Its keyed hash, hex.
        hash: String,
    },
}

/// The accounts there are, and the key.
#[derive(Debug)]
pub struct Names {
    key: [u8; 32],
    accounts: BTreeSet<Account>,
    read_at: Option<SystemTime>,
}

impl Names {
    /// Reads the key, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut names = Self::with_key(read_or_make(path)?);
        names.refresh();
        Ok(names)
    }

    fn with_key(key: [u8; 32]) -> Self {
        Self { key, accounts: BTreeSet::new(), read_at: None }
    }

    /// Reads the accounts again if they have changed.
    pub fn refresh(&mut self) {
        let changed_at = std::fs::metadata(PASSWD).and_then(|meta| meta.modified()).ok();
        if changed_at.is_none() || changed_at == self.read_at {
            return;
        }
        match Accounts::read() {
            Ok(accounts) => {
                let named = accounts.entries.iter().filter_map(|entry| entry.name.account().cloned());
                (self.accounts, self.read_at) = (named.collect(), changed_at);
            }
            Err(error) => tracing::warn!(%error, "the accounts cannot be read; names in sshd's log are hashed"),
        }
    }

    /// What this name is. Of one that sshd calls valid it is sshd's word that there is such an account.
    #[must_use]
    pub fn look_up(&self, name: &str, valid: bool) -> Named {
        match name.parse::<Account>() {
            Ok(account) if valid || self.accounts.contains(&account) => Named::Account(account),
            _ => Named::Unknown { hash: self.hash(name) },
        }
    }

    /// HMAC-SHA-256 (RFC 2104), its first half in hex.
    fn hash(&self, name: &str) -> String {
        let pad = |with: u8| {
            let mut block = [with; BLOCK];
            block.iter_mut().zip(self.key).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(name).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        outer[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[cfg(test)]
    pub(super) fn of(accounts: &[&str]) -> Self {
        let accounts = accounts.iter().map(|name| name.parse().expect("an account")).collect();
        Self { accounts, ..Self::with_key([7; 32]) }
    }
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match paths::read_path(path, 32) {
        Ok(bytes) => {
            let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no key", path.display()));
            return bytes.try_into().map_err(wrong);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&host::random().to_ne_bytes()));
    paths::replace_path(&PathBuf::from(path), &key, 0o600, Durability::Flushed).map_err(io::Error::other)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_and_anything_else_is_a_hash_that_only_the_key_can_make() {
        let names = Names::of(&["frank"]);
        let frank = Named::Account("frank".parse().expect("an account"));
        assert_eq!(names.look_up("frank", false), frank, "there is such an account, though sshd does not let it in");
        assert!(matches!(names.look_up("ldap-user", true), Named::Account(_)));
        let Named::Unknown { hash } = names.look_up("hunter2", false) else { panic!("a hash") };
        assert!(hash.len() == 32 && !hash.contains("hunter2"));
        assert_eq!(names.look_up("hunter2", false), Named::Unknown { hash: hash.clone() });
        let other = Names::with_key([8; 32]);
        assert_ne!(other.look_up("hunter2", false), Named::Unknown { hash });
        assert!(matches!(names.look_up("no account: can have this", true), Named::Unknown { .. }));
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // RFC 4231 has no key of 32 bytes; this one is from openssl dgst -mac HMAC -macopt hexkey:0707….
        let Named::Unknown { hash } = Names::of(&[]).look_up("bob", false) else { panic!("a hash") };
        assert_eq!(hash, "f92b65beffd1a3bf59ea2e575ff55543");
    }

    #[test]
    fn the_key_is_made_once_and_is_roots_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("name_key");
        let key = read_or_make(&path).expect("made");
        assert_eq!(read_or_make(&path).expect("read"), key);
        assert_ne!(key, [0; 32]);
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").expect("own file");
        assert!(read_or_make(&path).is_err(), "what is no key is not overwritten");
    }
}
