//! The keys of a server, as somebody has them in a file.

use record::{AllowedSigner, SignersError};
use ssh_key::PublicKey;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// The file has none.
    #[error("no key stands in it: GET /v1/server of the compliance API tells the server's")]
    Empty,
    /// It has something else.
    #[error(transparent)]
    Signers(#[from] SignersError),
}

/// Public keys one a line, or those of an allowed_signers file.
///
/// # Errors
/// There is none, or a line is something else.
pub fn keys(text: &str) -> Result<Vec<PublicKey>, NoKeys> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let plain: Result<Vec<_>, _> = lines.map(PublicKey::from_openssh).collect();
    let keys = match plain {
        Ok(keys) => keys,
        Err(_) => AllowedSigner::parse_file(text)?.iter().map(|signer| signer.key().clone()).collect(),
    };
    if keys.is_empty() { Err(NoKeys::Empty) } else { Ok(keys) }
}
