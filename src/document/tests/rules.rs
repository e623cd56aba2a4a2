//! The table of rules of the plan: each test is named as its row.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod common;
#[path = "rules/opening.rs"]
mod opening;
