//! Reviews: a person's statement, signed with their own SSH key, that they reviewed the records of a window.
//!
//! Pure. It never takes a review for one whose key an admin has not registered, nor anything but the exact bytes that
//! were signed.

use jiff::Timestamp;
use record::{Hash, Person, Stack, escape, verify_armored};
use serde_json::{Map, Value};
use ssh_key::{Algorithm, PublicKey};

/// The artifact type.
pub use crate::evidence::REVIEW_COMPLETED as TYPE;

/// The namespace of a review's signature, as in `ssh-keygen -Y sign -n`.
pub const NAMESPACE: &str = "ssh-access-review";
/// The version of the format: `v`.
const VERSION: u64 = 1;
/// The longest `statement` or `findings`, in bytes.
pub const MAX_TEXT: usize = 2048;
/// How far in the future `to` and `time` may be, for clocks that are a little off, in seconds.
const MAX_AHEAD: i64 = 300;
/// Everything that may stand in a review.
const FIELDS: [&str; 9] = ["v", "person", "from", "to", "time", "stack", "statement", "findings", "signature"];

/// A review that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Who signed it.
    pub person: Person,
    /// The window: from this moment,
    pub from: Timestamp,
    /// and before that one.
    pub to: Timestamp,
    /// When it was signed, as the person says.
    pub time: Timestamp,
    /// The one stack that it is about; none for all.
    pub stack: Option<Stack>,
    /// The key that signed it.
    pub key: PublicKey,
    /// SHA-256 of what was signed: the same is one review, whatever id it is posted under and however its signature is
    /// written down.
    pub message: Hash,
}

/// What a review says, before its signature is verified.
struct Fields {
    person: Person,
    from: Timestamp,
    to: Timestamp,
    time: Timestamp,
    stack: Option<Stack>,
}

/// SHA-256 of what the signature of a review is over, from its exact bytes.
///
/// # Errors
/// What is no JSON object.
pub fn message(data: &[u8]) -> Result<Hash, String> {
    let mut fields: Map<String, Value> = serde_json::from_slice(data).map_err(|e| e.to_string())?;
    fields.remove("signature");
    Ok(Hash::of(canonical(&fields)?.as_bytes()))
}

/// Why a review is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, not canonical, or with members that it may not have.
    #[error("{0}; docs/COMPLIANCE_API.md, \"Reviews\", has the steps")]
    Malformed(String),
    /// It is about somebody else.
    #[error("it is a review by {found}; `source` has to be /people/{found}")]
    OtherPerson {
        /// Who it says.
        found: Person,
    },
    /// No registered key of this person made the signature.
    #[error(
        "the signature is of no key registered for {person}: sign with `ssh-keygen -Y sign -n {NAMESPACE}` over the exact \
         canonical bytes, and have an admin register the key by POST /v1/reviewers"
    )]
    NotAuthentic {
        /// Who it says.
        person: Person,
    },
}

/// Whether a key can be registered for reviews.
///
/// # Errors
/// A sentence that says which kinds are taken.
pub fn check_key(key: &PublicKey) -> Result<(), String> {
    match key.algorithm() {
        Algorithm::Ed25519 => Ok(()),
        other => Err(format!(
            "reviews are signed with ssh-ed25519 keys, and this is a key of type {other}; make one with `ssh-keygen -t ed25519`"
        )),
    }
}

impl Review {
    /// Reads a review from its exact bytes and verifies it against the keys that are registered for this person.
    ///
    /// # Errors
    /// [`ReviewError`]: anything but a canonical object with the members of [`Review`], about a window that has ended,
    /// signed by one of the keys.
    pub fn parse_and_verify(
        data: &[u8],
        person: &Person,
        keys: &[PublicKey],
        now: Timestamp,
    ) -> Result<Self, ReviewError> {
        let malformed = |what: String| ReviewError::Malformed(what);
        let mut fields: Map<String, Value> =
            serde_json::from_slice(data).map_err(|e| malformed(format!("a review is a JSON object: {e}")))?;
        check_canonical(&fields, data).map_err(malformed)?;
        let review = Fields::read(&fields, now).map_err(malformed)?;
        if review.person != *person {
            return Err(ReviewError::OtherPerson { found: review.person });
        }
        let signature = fields.remove("signature");
        let message = canonical(&fields).map_err(malformed)?;
        let signature = signature.as_ref().and_then(Value::as_str).unwrap_or_default();
        let signed_by = |key: &&PublicKey| verify_armored(key, NAMESPACE, signature, message.as_bytes()).is_ok();
        let key = keys.iter().find(signed_by).ok_or(ReviewError::NotAuthentic { person: review.person.clone() })?;
        let Fields { person, from, to, time, stack } = review;
        Ok(Self { person, from, to, time, stack, key: key.clone(), message: Hash::of(message.as_bytes()) })
    }
}

impl Fields {
    fn read(fields: &Map<String, Value>, now: Timestamp) -> Result<Self, String> {
        if let Some(unknown) = fields.keys().find(|k| !FIELDS.contains(&k.as_str())) {
            return Err(format!("a review has no member {unknown:?}; it has {}", FIELDS.join(", ")));
        }
        if fields.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(format!("\"v\" has to be {VERSION}"));
        }
        let text = |name: &str| match fields.get(name).map(Value::as_str) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(format!("{name:?} has to be a string")),
            None => Err(format!("{name:?} is missing")),
        };
        let moment = |name: &str| {
            let text = text(name)?;
            let fits = text.ends_with('Z').then(|| text.parse::<Timestamp>().ok()).flatten();
            fits.ok_or_else(|| format!("{name:?} has to be a moment in UTC, as 2026-11-01T00:00:00Z"))
        };
        let (from, to, time) = (moment("from")?, moment("to")?, moment("time")?);
        let latest = now.as_second().saturating_add(MAX_AHEAD);
        if from >= to || to > time {
            return Err(
                "\"from\" has to be before \"to\", and \"to\" not after \"time\": a review is of what has been"
                    .to_owned(),
            );
        }
        if time.as_second() > latest {
            return Err("\"time\" is in the future".to_owned());
        }
        sentence("statement", text("statement")?)?;
        if fields.contains_key("findings") {
            sentence("findings", text("findings")?)?;
        }
        text("signature")?;
        Ok(Self {
            person: text("person")?.parse().map_err(|e| format!("{e}"))?,
            from,
            to,
            time,
            stack: match fields.get("stack") {
                None => None,
                Some(_) => Some(text("stack")?.parse().map_err(|e| format!("{e}"))?),
            },
        })
    }
}

/// Text that means on a screen what it means in the file.
fn sentence(name: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(format!("{name:?} has to be 1 to {MAX_TEXT} bytes of text"));
    }
    if escape(text.as_bytes()) != text {
        return Err(format!("{name:?} may hold no backslash, no line break and no invisible character"));
    }
    Ok(())
}

fn canonical(fields: &Map<String, Value>) -> Result<String, String> {
    serde_json_canonicalizer::to_string(fields).map_err(|e| format!("it cannot be written canonically: {e}"))
}

fn check_canonical(fields: &Map<String, Value>, data: &[u8]) -> Result<(), String> {
    if canonical(fields)?.as_bytes() == data {
        return Ok(());
    }
    Err("a review is in canonical form, as `jq -cS .` prints it, without a newline at its end".to_owned())
}

#[cfg(test)]
mod tests;
