//! What stands beside a ledger's lines: whose it is, and which keys sign it.

use record::LedgerId;
use serde::{Deserialize, Serialize};

/// `ledgers/ID/ledger.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Which ledger.
    pub ledger: LedgerId,
    /// `host`: its own lines, signed; `client` or `person`: a chain that the server keeps.
    pub kind: String,
    /// The host's, client's or person's name.
    pub name: String,
    /// The keys that sign it, in order; none of a chain that the server keeps.
    pub keys: Vec<AboutKey>,
}

/// A key of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutKey {
    /// The first record that it signs.
    pub first_seq: u64,
    /// As OpenSSH writes it.
    pub public_key: String,
}

impl About {
    /// Whether these are a host's own lines.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.kind == "host"
    }
}
