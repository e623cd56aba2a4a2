//! What a record is: its types, canonical bytes, signature and place in the chain, and how all of that is verified.
//!
//! This library never does I/O and never reads a clock: time and bytes come in as arguments.

mod armor;
mod body;
pub mod checkpoint;
mod cidr;
mod draft;
mod duration;
mod escape;
mod in_place;
mod kind;
mod line;
mod names;
mod receipt;
mod severity;
mod signatory;
mod signers;
mod verify;

pub use armor::{read_armored, verify_armored, write_armored};
pub use body::{Body, DraftError, MAX_DEPTH, MAX_EXE, MAX_PARTS, MAX_REASON, MAX_SPLIT_STRING};
pub use cidr::{Cidr, CidrError};
pub use draft::{Actor, Draft, Source};
pub use duration::{DurationError, MAX_DURATION, format_duration, parse_duration};
pub use escape::{escape, is_plain, outside};
pub use in_place::InPlace;
pub use kind::{ArtifactType, UnknownType};
pub use line::{
    Hash, Line, MAX_INTEGER, MAX_LINE, Malformed, NAMESPACE, NotAHash, Position, Record, SealError, VERSION, seal,
};
pub use names::{Account, Fingerprint, GrantId, Host, LedgerId, NameError, Person, SessionId, Stack};
pub use receipt::{MAX_RECEIPT, RECEIPT_NAMESPACE, Receipt, ReceiptError, SignedReceipt};
pub use severity::Severity;
pub use signatory::Signatory;
pub use signers::{AllowedSigner, SignersError};
pub use verify::{BadReceipt, Depth, Fault, Finding, MAX_FINDINGS, MAX_RECEIPTS, Receipts, Trust, Verdict, Verifier};
