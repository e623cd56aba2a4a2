//! The server as its clients meet it: over real connections, on a real database.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "these are tests")]

mod backup;
mod case;
mod checkpoints;
mod common;
mod compressed;
mod documents;
mod durable;
mod feed;
mod floods;
mod hostile;
mod hosts;
mod ingest;
mod modes;
mod moving;
mod pages;
mod progress;
mod races;
mod replicas;
mod runs;
mod server_key;
mod sessions;
mod tokens;
mod watched;
mod webhook;
