//! The program as its service runs it: the real compliance API over TLS, hosts that judge what it publishes, and an IAM.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod automatic;
mod fake;
mod faults;
mod moto;
mod office;
mod serving;
mod simple;
