//! What lockdownd decides, and the configuration that it decides by. `docs/ARCHITECTURE.md` has the picture.
//!
//! Nothing here does I/O, reads a clock or awaits: everything it needs to know is passed in.

pub mod answered;
pub mod attempts;
pub mod config;
pub mod emergencies;
pub mod grants;
pub mod keys;
pub mod machine;
pub mod penalties;
pub mod policy;
pub mod process;
pub mod recent;
pub mod sessions;
pub mod sshd_log;
pub mod traces;
pub mod windows;
pub mod writers;
