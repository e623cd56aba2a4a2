//! The decisions: grants, people, observed files and now, to what is to be done, each with its reason.
//!
//! Nothing here does I/O, reads a clock or awaits. Whoever asks "why was this key removed", "why was this login
//! refused" or "when does this grant end" finds the answer in one function of this room.

pub mod address;
pub mod admission;
pub mod grant;
pub mod key_file;
pub mod left_behind;
pub mod login;
pub mod observation;
pub mod operator;
pub mod receipt;
pub mod rendered;
pub mod schedule;
pub mod session;
pub mod shared;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod test_grants;
pub mod time;
pub mod ways_in;
