//! Names that are typed where an account's belongs: an account's own is named, anything else is kept as a keyed hash,
//! since people type passwords there. With the key nobody but root can try names against the hash; and one name has one
//! hash on this host, so that what was tried over and over can be seen.

use std::collections::BTreeSet;

use record::Account;
use sha2::{Digest, Sha256};

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
}

impl Names {
    /// With no account known yet.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, accounts: BTreeSet::new() }
    }

    /// These are the accounts from now on.
    pub fn know(&mut self, accounts: BTreeSet<Account>) {
        self.accounts = accounts;
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
        Self { accounts, ..Self::new([7; 32]) }
    }
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
        let other = Names::new([8; 32]);
        assert_ne!(other.look_up("hunter2", false), Named::Unknown { hash });
        assert!(matches!(names.look_up("no account: can have this", true), Named::Unknown { .. }));
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // RFC 4231 has no key of 32 bytes; this one is from openssl dgst -mac HMAC -macopt hexkey:0707….
        let Named::Unknown { hash } = Names::of(&[]).look_up("bob", false) else { panic!("a hash") };
        assert_eq!(hash, "f92b65beffd1a3bf59ea2e575ff55543");
    }
}
