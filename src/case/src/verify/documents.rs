//! Signed documents of a case file. Whether a signer might sign is judged by rosters, and not here.

use document::{Id, MAX_SIGNATURES, Namespace, Sealed, signature};
use serde::Deserialize;

#[derive(Deserialize)]
struct Wire {
    document: String,
    signatures: Vec<String>,
}

/// How many signatures of a document hold; all have to.
pub(super) fn check(id: Id, bytes: &[u8]) -> Result<u64, String> {
    let sealed = Sealed::parse(bytes).map_err(|error| error.to_string())?;
    if sealed.id() != id {
        return Err("it is another document than its name says".to_owned());
    }
    let wire: Wire = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut count = 0;
    for armored in wire.signatures.iter().take(MAX_SIGNATURES) {
        let holds = |namespace| {
            signature::read(armored)
                .and_then(|read| read.verify(namespace, &wire.document))
                .map_err(|error| error.to_string())
        };
        holds(Namespace::Of(sealed.kind())).or_else(|why| holds(Namespace::Request).map_err(|_| why))?;
        count += 1;
    }
    if count == 0 { Err("nobody has signed it".to_owned()) } else { Ok(count) }
}
