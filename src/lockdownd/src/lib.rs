//! The enforcer as a library; `main.rs` only starts it.

pub mod config;
pub mod enforce;
pub mod host;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod policy;
