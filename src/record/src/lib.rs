//! What a record is: its types, canonical bytes, signature and place in the chain, and how all of that is verified.
//!
//! This library never does I/O and never reads a clock: time and bytes come in as arguments.

mod draft;
mod kind;
mod names;

pub use draft::{Actor, Draft, Source};
pub use kind::{ArtifactType, UnknownType};
pub use names::{Account, Fingerprint, GrantId, Host, LedgerId, NameError, Person, SessionId, Stack};
