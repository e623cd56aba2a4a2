//! lib
pub mod keys;
