//! sshd as it runs here: its listeners, what their configuration says, and our drop-in in it.

pub mod blocks;
pub mod drop_in;
pub mod effective;
pub mod glob;
pub mod key_files;
pub mod listener;
pub mod probe;
pub mod scan;
pub(crate) mod stays;
pub mod syntax;
pub mod units;
