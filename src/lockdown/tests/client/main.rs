//! The program as people run it: with its configuration, keys that ssh-keygen made, and files or a server of the test's own.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod after;
mod agent;
mod devices;
mod laptop;
mod liar;
mod lies;
mod offline;
mod real;
mod stack;
