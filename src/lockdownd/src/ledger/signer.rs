//! Gives bodies their place in the sequence and signs them. Writes nothing; the head moves only once they are on disk.

use jiff::Timestamp;
use record::{Body, Host, LedgerId, Line, Position, Stack, seal};
use ssh_key::PrivateKey;

use super::{Error, Head, key::public_line};

/// Everything in a record's position that does not change from one record to the next, and the key.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) key: PrivateKey,
    pub(super) ledger: LedgerId,
    pub(super) host: Host,
    pub(super) stack: Stack,
    pub(super) boot: String,
}

impl Signer {
    /// The bodies as the records that come after `head`, and the head after them.
    pub(super) fn seal(&self, mut head: Head, bodies: &[(Timestamp, Body)]) -> Result<(Vec<Line>, Head), Error> {
        let mut lines = Vec::with_capacity(bodies.len());
        for (time, body) in bodies {
            let place = Position {
                ledger: &self.ledger,
                seq: head.seq + 1,
                host: &self.host,
                stack: &self.stack,
                boot: &self.boot,
                time: *time,
                prev: head.hash,
            };
            let line = seal(body, &place, &self.key)?;
            head = Head { seq: line.seq(), hash: line.hash() };
            lines.push(line);
        }
        Ok((lines, head))
    }

    /// The public key as a line of OpenSSH's format, without a comment.
    pub(super) fn public_key(&self) -> String {
        public_line(&self.key, false)
    }
}
