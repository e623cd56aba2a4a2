//! lockdownd-shipper: follows the ledger up to what is on disk for good, and sends each record to syslog and to the
//! compliance API, each with a durable cursor of its own. The other way, it fetches signed documents from feeds and lays
//! them into an inbox for the daemon, who alone judges them. See lockdownd-shipper(8).
//!
//! It never signs, never changes the ledger, and never runs as root. Blocking threads: one follows, one for each sink, one
//! for each feed, so that one that is down never holds up the other.

mod api;
mod backoff;
mod cursor;
mod feeds;
mod files;
mod http;
mod ledger;
mod log;
pub mod paths;
pub mod run;
mod settings;
mod shared;
mod status;
mod syslog;

#[cfg(test)]
mod testing;
