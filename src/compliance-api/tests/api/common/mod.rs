//! What the tests share: a real server on a loopback port with a real database, hosts with real ledgers, and a client
//! that writes HTTP byte by byte.

pub mod acme;
pub mod company;
#[path = "../../common/database.rs"]
pub mod database;
pub mod http;
pub mod ledger;
pub mod server;

use std::time::{Duration, Instant};

pub use http::Client;
pub use ledger::Host;
pub use server::Server;

/// Waits until it is so: at once as a rule, longer on a busy machine.
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
