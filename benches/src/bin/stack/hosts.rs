//! Hosts that wait for their feed: a connection each.

use std::net::SocketAddr;

use crate::{
    connections::Connections,
    server::{STACK, token},
};

/// All of them.
pub(crate) struct Hosts(Connections);

impl Hosts {
    /// Connects so many; each asks for what comes after the beginning, and waits.
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Self {
        Self(Connections::connect(address, count, |n| question(n, 0)))
    }

    /// Each asks for what comes after this place, and waits.
    pub(crate) fn ask(&mut self, after: u64) {
        (0..self.0.count()).for_each(|n| self.0.write(n, &question(n, after)));
    }

    /// Reads an answer of each.
    pub(crate) fn read_all(&mut self) {
        for _ in 0..self.0.count() {
            let (_, answer) = self.0.next();
            let answer = String::from_utf8_lossy(answer);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("\"position\""), "nothing is new in it: {answer}");
        }
    }
}

/// What the nth host asks, to wait for what comes after this place.
pub(crate) fn question(n: usize, after: u64) -> Vec<u8> {
    let question = format!("/v1/feed?stack={STACK}&after={after}&wait=300");
    format!("GET {question} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", token(n)).into_bytes()
}
