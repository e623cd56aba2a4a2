//! What the tests share: a real server on a loopback port with a real database, hosts with real ledgers, and a client
//! that writes HTTP byte by byte.

pub mod http;
pub mod ledger;
pub mod server;

pub use http::Client;
pub use ledger::Host;
pub use server::Server;
