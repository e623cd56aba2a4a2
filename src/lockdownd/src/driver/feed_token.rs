//! The token by which the shipper may read the feed of documents: new at each start, and its hash is on record, so that the
//! server knows it by what this host has signed.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ledger;

/// Where it is.
const FEED_TOKEN: &str = "/run/lockdownd/feed_token";

/// Writes a new one. Its SHA-256 in hex; nothing where it could not be written.
pub(super) fn renew() -> Option<String> {
    let token: String = (0..4).map(|_| format!("{:016x}", lockdown_host::random())).collect();
    match ledger::write_for_shipper(Path::new(FEED_TOKEN), token.as_bytes()) {
        Ok(()) => Some(Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect()),
        Err(error) => {
            tracing::error!(%error, "no document is fetched until the daemon is started again");
            None
        }
    }
}
