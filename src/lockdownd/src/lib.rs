//! The enforcer as a library; `main.rs` only starts it. `docs/ARCHITECTURE.md` has the picture.

pub mod answered;
pub mod attempts;
pub mod disk;
pub mod emergencies;
pub mod enforce;
pub mod gate;
pub mod grants;
pub mod journal;
pub mod ledger;
pub mod operator;
pub mod recorder;
pub mod run;
pub mod sessions;
pub mod traces;
pub mod trigger;
