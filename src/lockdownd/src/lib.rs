//! The enforcer as a library; `main.rs` only starts it.

pub mod host;
pub mod keys;
