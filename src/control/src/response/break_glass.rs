//! Whether each exempt account could log in now.

use record::{Account, Fingerprint};
use serde::{Deserialize, Serialize};

/// The exempt accounts, tried without logging in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlassAnswer {
    /// Each of them.
    pub accounts: Vec<BreakGlassView>,
    /// What keeps all of them out, or some who come from certain addresses: a sentence each, with what to do.
    pub problems: Vec<String>,
    /// What is worth knowing and keeps nobody out.
    pub notes: Vec<String>,
}

impl BreakGlassAnswer {
    /// Whether every one of them could log in, from anywhere; false where there is none.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.accounts.is_empty() && self.problems.is_empty() && self.accounts.iter().all(|one| one.why.is_none())
    }
}

/// One exempt account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakGlassView {
    /// Its name.
    pub account: Account,
    /// Why it could not log in, and what to do; absent where it could.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// The keys that would let it in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub keys: Vec<Fingerprint>,
    /// What is worth knowing of it: that it gets no plain shell, that it needs more than its key.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}
