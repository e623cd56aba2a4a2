//! Ledgers as a host writes them: signed, chained, with what a working day records.

use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft, Hash, Host, LedgerId, Line, Position, Source, Stack};
use ssh_key::{Algorithm, PrivateKey, rand_core::OsRng};

/// One line's newline included, a batch holds at most so many: the protocol's bound.
pub const BATCH: usize = 500;

/// Writes one ledger.
#[derive(Debug)]
pub struct Writer {
    key: PrivateKey,
    ledger: LedgerId,
    host: Host,
    stack: Stack,
    seq: u64,
    prev: Hash,
    time: Timestamp,
}

impl Writer {
    /// An empty ledger of a host called `host`, of a stack.
    ///
    /// # Panics
    /// When it is no name.
    #[must_use]
    pub fn new(host: &str, stack: &str) -> Self {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key");
        let id: String = key.public_key().fingerprint(ssh_key::HashAlg::Sha256).as_bytes()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            key,
            ledger: id.parse().expect("32 hex digits"),
            host: host.parse().expect("a host's name"),
            stack: stack.parse().expect("a stack's name"),
            seq: 0,
            prev: Hash::ZERO,
            time: Timestamp::now(),
        }
    }

    /// Its host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// Its id.
    #[must_use]
    pub fn ledger(&self) -> &str {
        self.ledger.as_str()
    }

    /// What its records verify with.
    #[must_use]
    pub fn key(&self) -> &ssh_key::PublicKey {
        self.key.public_key()
    }

    /// The next record of a working day.
    ///
    /// # Panics
    /// When the key cannot sign.
    pub fn another(&mut self) -> Line {
        let draft = match self.seq {
            0 => self.segment(),
            1 => Draft::new(ArtifactType::LedgerOpened, "a ledger began").with("public_key", self.public_key()),
            n => statement(n),
        };
        self.seal(&draft)
    }

    /// A `ledger.segment`, with which each file begins.
    ///
    /// # Panics
    /// When the key cannot sign.
    pub fn next_segment(&mut self) -> Line {
        let draft = self.segment();
        self.seal(&draft)
    }

    fn public_key(&self) -> String {
        self.key.public_key().to_openssh().expect("a public key in OpenSSH's format")
    }

    fn segment(&self) -> Draft {
        let previous = serde_json::json!({"seq": self.seq, "hash": self.prev.to_string()});
        Draft::new(ArtifactType::LedgerSegment, format!("a segment begins after record {}", self.seq))
            .with("public_key", self.public_key())
            .with("previous", previous)
    }

    /// A record of this statement, which has to fit into one.
    ///
    /// # Panics
    /// When it does not, or the key cannot sign.
    pub fn seal(&mut self, draft: &Draft) -> Line {
        let bodies = draft.bodies().expect("a valid statement");
        let at = Position {
            ledger: &self.ledger,
            seq: self.seq + 1,
            host: &self.host,
            stack: &self.stack,
            boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
            time: self.time,
            prev: self.prev,
        };
        let line = record::seal(&bodies[0], &at, &self.key).expect("a record");
        self.seq = line.seq();
        self.prev = line.hash();
        self.time += SignedDuration::from_millis(1);
        line
    }
}

/// What a host records all day: people come, go, and are given leave to.
fn statement(n: u64) -> Draft {
    let person = format!("person{}", n % 40);
    let (kind, what) = match n % 4 {
        0 => (ArtifactType::GrantCreated, "may log in to ubuntu"),
        1 => (ArtifactType::SessionOpened, "logged in to ubuntu"),
        2 => (ArtifactType::SessionClosed, "left ubuntu"),
        _ => (ArtifactType::GrantEnded, "may not log in to ubuntu any more"),
    };
    let mut draft = Draft::new(kind, format!("{person} {what}"));
    draft.person = Some(person.parse().expect("a person's name"));
    draft.account = Some("ubuntu".parse().expect("an account's name"));
    draft.grant = Some(format!("g-{:016x}", n / 4).parse().expect("a grant's id"));
    draft.fingerprint = Some(format!("SHA256:{:043}", n % 40).parse().expect("a fingerprint"));
    draft.source = Some(Source { address: "192.0.2.7".parse().ok(), port: Some(50_022) });
    draft.with("methods", serde_json::json!(["publickey"]))
}

/// The body of one request: lines as a batch of CloudEvents.
///
/// # Panics
/// When they are no records.
#[must_use]
pub fn batch(lines: &[Line]) -> Vec<u8> {
    let mut body = b"[".to_vec();
    for (n, line) in lines.iter().enumerate() {
        let text = line.as_str().trim_end();
        let record: serde_json::Value = serde_json::from_str(text).expect("a record is JSON");
        let envelope = format!(
            r#"{}{{"specversion":"1.0","id":"{}/{}","source":"/stacks/{}/hosts/{}","type":{},"data":{text}}}"#,
            if n > 0 { "," } else { "" },
            record["ledger"].as_str().expect("a ledger's id"),
            line.seq(),
            record["stack"].as_str().expect("a stack"),
            record["host"].as_str().expect("a host"),
            record["type"],
        );
        body.extend_from_slice(envelope.as_bytes());
    }
    body.push(b']');
    body
}
