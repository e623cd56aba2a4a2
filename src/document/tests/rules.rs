//! The table of rules of the plan: each test is named as its row, and tries what the row stops.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

#[path = "rules/closing.rs"]
mod closing;
mod common;
#[path = "rules/memory.rs"]
mod memory;
#[path = "rules/opening.rs"]
mod opening;
#[path = "rules/rosters.rs"]
mod rosters;
#[path = "rules/signatures.rs"]
mod signatures;
#[path = "rules/statements.rs"]
mod statements;
