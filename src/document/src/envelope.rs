//! The envelope: a document's line and the signatures over it. It is what is sent and kept; nothing signs it.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::{Document, Id, Key, Kind, Malformed, Namespace, signature};

/// The most signatures of one document.
pub const MAX_SIGNATURES: usize = 16;
/// The longest signature that is looked at, in bytes; one by an RSA key of 4,096 bits takes 1,600.
pub const MAX_SIGNATURE: usize = 4096;
/// The longest envelope of a roster, in bytes: each byte of the line may be escaped by another one.
pub const MAX_ROSTER_ENVELOPE: usize = 2 * crate::MAX_ROSTER + SIGNATURES;
/// The longest envelope of any other document, in bytes.
pub const MAX_ENVELOPE: usize = 2 * crate::MAX_DOCUMENT + SIGNATURES;
/// Room for signatures at their longest, and for what stands around them.
const SIGNATURES: usize = MAX_SIGNATURES * (MAX_SIGNATURE + 1024);

/// A document and its signatures: `{"document":"LINE","signatures":["-----BEGIN SSH SIGNATURE-----…"]}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    document: Document,
    signatures: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    document: String,
    #[serde(deserialize_with = "few")]
    signatures: Vec<String>,
}

/// An envelope whose document has not been read yet, but for its type.
///
/// Reading a roster takes several times its size in memory. What comes from anywhere is first asked
/// [`Sealed::is_signed_by_any`] of the keys that the configuration has for rosters.
#[derive(Debug, Clone)]
pub struct Sealed {
    line: String,
    kind: Kind,
    signatures: Vec<String>,
}

impl Sealed {
    /// Reads an envelope; white space and the order of its two members do not count.
    ///
    /// # Errors
    /// [`Malformed`]: over a bound, not these two members, or a type that is not known.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let bounded = |what, most| match bytes.len() {
            given if given > most => Err(Malformed::TooLong { what, given, most }),
            _ => Ok(()),
        };
        bounded("an envelope", MAX_ROSTER_ENVELOPE)?;
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| Malformed::json(&error))?;
        let kind = Document::peek(&wire.document)?;
        if kind != Kind::Roster {
            bounded("an envelope of this type", MAX_ENVELOPE)?;
        }
        few_bytes(&wire.signatures)?;
        Ok(Self { line: wire.document, kind, signatures: wire.signatures })
    }

    /// What kind of document is in it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id that the document has, if it is one.
    #[must_use]
    pub fn id(&self) -> Id {
        Id::of(&self.line)
    }

    /// Whether one of these keys signed it, as what it says that it is.
    #[must_use]
    pub fn is_signed_by_any(&self, keys: &[&Key]) -> bool {
        let by_one = |armored: &String| {
            let read = signature::read(armored).ok();
            let read = read.filter(|read| keys.iter().any(|key| key.fingerprint() == read.fingerprint()));
            read.is_some_and(|read| read.verify(Namespace::Of(self.kind), &self.line).is_ok())
        };
        self.signatures.iter().any(by_one)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn open(self) -> Result<Envelope, Malformed> {
        Ok(Envelope { document: Document::parse(&self.line)?, signatures: self.signatures })
    }
}

impl Envelope {
    /// An envelope around a document.
    ///
    /// # Errors
    /// More than [`MAX_SIGNATURES`], or more of [`MAX_SIGNATURE`] bytes together.
    pub fn new(document: Document, signatures: Vec<String>) -> Result<Self, Malformed> {
        if signatures.len() > MAX_SIGNATURES {
            return Err(Malformed::TooManySignatures(signatures.len()));
        }
        few_bytes(&signatures)?;
        Ok(Self { document, signatures })
    }

    /// Reads an envelope and its document. What its signatures are is not looked at.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Sealed::parse(bytes)?.open()
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The signatures, as they were given.
    #[must_use]
    pub fn signatures(&self) -> &[String] {
        &self.signatures
    }

    /// Whether one of these keys made the first of the signatures, as what the document says that it is. The others are not looked
    /// at: 16 take their time, and whoever makes a document signs it first.
    #[must_use]
    pub fn is_first_signed_by(&self, keys: &[Key]) -> bool {
        let read = self.signatures.first().and_then(|armored| signature::read(armored).ok());
        let read = read.filter(|read| keys.iter().any(|key| key.fingerprint() == read.fingerprint()));
        read.is_some_and(|read| read.verify(self.document.namespace(), self.document.line()).is_ok())
    }

    /// The envelope as it is sent and kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        let wire = Wire { document: self.document.line().to_owned(), signatures: self.signatures.clone() };
        serde_json::to_string(&wire).expect("two strings can always be written")
    }
}

fn few_bytes(signatures: &[String]) -> Result<(), Malformed> {
    let (given, most) = (signatures.iter().map(String::len).sum(), MAX_SIGNATURES * MAX_SIGNATURE);
    if given > most { Err(Malformed::TooLong { what: "all signatures together", given, most }) } else { Ok(()) }
}

/// Reads no more signatures than are taken: millions of empty ones fit into an envelope.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of {MAX_SIGNATURES} signatures at most")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
            let mut signatures = Vec::new();
            while let Some(signature) = sequence.next_element()? {
                if signatures.len() == MAX_SIGNATURES {
                    return Err(A::Error::custom(format_args!(
                        "more than {MAX_SIGNATURES} signatures: leave out those that do not count"
                    )));
                }
                signatures.push(signature);
            }
            Ok(signatures)
        }
    }
    deserializer.deserialize_seq(Few)
}
