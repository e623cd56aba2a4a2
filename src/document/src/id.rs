//! A document's id: nobody chooses one.

use std::{fmt, str::FromStr};

use record::{Hash, NotAHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a document's line; as text, 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(Hash);

impl Id {
    /// The id of this line, which has no newline.
    #[must_use]
    pub fn of(line: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(line).into();
        Self(digest.into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        text.parse().map(Self)
    }
}
