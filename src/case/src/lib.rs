//! A case file: what a server has about a person or a host in a window of time, as one tar archive that is verified without
//! the server.
//!
//! The server writes it member by member ([`Writer`]); whoever gets it verifies it in one pass ([`verify`]). Ledgers are in it
//! as contiguous runs of their lines, never as chosen rows, so that nothing within a run can be left out. This library never
//! opens a file, and never reads a clock.

mod about;
mod html;
mod keys;
mod manifest;
mod member;
mod pages;
mod tar;
mod verify;
mod writer;

pub use about::{About, AboutKey};
pub use keys::{NoKeys, keys};
pub use manifest::{Asked, FileEntry, LedgerEntry, Manifest, ManifestError, NAMESPACE, Run};
pub use member::{MAX_PART, Member, Range};
pub use pages::{Grant, Index, Requirement, Row, Timeline, index};
pub use tar::TarError;
pub use verify::{LedgerReport, Report, UNKNOWABLE, verify};
pub use writer::{VERIFY_SCRIPT, Writer};
