//! The enforcer as a library; `main.rs` only starts it.

pub mod config;
pub mod host;
pub mod keys;
