//! The enforcer as a library; `main.rs` only starts it. `docs/ARCHITECTURE.md` has the picture.

pub mod answered;
pub mod attempts;
pub mod disk;
pub mod driver;
pub mod gate;
pub mod grants;
pub mod journal;
mod kept;
pub mod ledger;
pub mod operator;
pub mod run;
pub mod supervisor;
pub mod trigger;
