//! A host with a key and a ledger, as lockdownd makes them.

use jiff::Timestamp;
use record::{ArtifactType, Body, Draft, Hash, LedgerId, Line, Position, seal};
use serde_json::json;
use ssh_key::{Algorithm, PrivateKey, rand_core::OsRng};

/// A host.
#[derive(Clone)]
pub struct Host {
    pub key: PrivateKey,
    pub ledger: LedgerId,
    pub name: String,
    pub stack: String,
    pub lines: Vec<Line>,
    /// Every record's time, one second apart from this.
    pub time: Timestamp,
}

impl Host {
    /// A host with the first two records of its ledger.
    pub fn new(name: &str, stack: &str) -> Self {
        let mut host = Self {
            key: PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap(),
            ledger: compliance_api::own_ledger::random_ledger(),
            name: name.to_owned(),
            stack: stack.to_owned(),
            lines: Vec::new(),
            time: Timestamp::now() - jiff::SignedDuration::from_hours(1),
        };
        host.segment();
        let opened = Draft::new(ArtifactType::LedgerOpened, "a ledger begins").with("public_key", host.public_key());
        host.state(&opened);
        host
    }

    pub fn public_key(&self) -> String {
        ssh_key::PublicKey::from(self.key.public_key().key_data().clone()).to_openssh().unwrap()
    }

    /// Begins a segment.
    pub fn segment(&mut self) {
        let previous = json!({"seq": self.lines.last().map_or(0, Line::seq), "hash": self.head().to_string()});
        let draft = Draft::new(ArtifactType::LedgerSegment, "a segment begins")
            .with("public_key", self.public_key())
            .with("previous", previous);
        self.state(&draft);
    }

    pub fn head(&self) -> Hash {
        self.lines.last().map_or(Hash::ZERO, Line::hash)
    }

    /// Adds a record.
    pub fn state(&mut self, draft: &Draft) -> &Line {
        self.seal(draft.bodies().unwrap())
    }

    /// Adds a record of a type that no version knows.
    pub fn state_as(&mut self, word: &'static str) -> &Line {
        self.seal(Body::statement(word, None, "something of the future", &serde_json::Map::new()).unwrap())
    }

    fn seal(&mut self, bodies: Vec<Body>) -> &Line {
        self.time += jiff::SignedDuration::from_secs(1);
        let (ledger, host, stack) = (self.ledger.clone(), self.name.parse().unwrap(), self.stack.parse().unwrap());
        for body in bodies {
            let at = Position {
                ledger: &ledger,
                seq: self.lines.last().map_or(0, Line::seq) + 1,
                host: &host,
                stack: &stack,
                boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
                time: self.time,
                prev: self.head(),
            };
            self.lines.push(seal(&body, &at, &self.key).unwrap());
        }
        self.lines.last().unwrap()
    }

    /// Adds so many logins.
    pub fn logins(&mut self, count: usize) {
        for n in 0..count {
            let mut draft = Draft::new(ArtifactType::SessionOpened, format!("frank logged in to ubuntu, {n}"));
            draft.person = Some("frank".parse().unwrap());
            draft.account = Some("ubuntu".parse().unwrap());
            self.state(&draft.with("methods", json!(["publickey"])));
        }
    }

    /// A record's line, by number.
    pub fn line(&self, seq: u64) -> &Line {
        &self.lines[usize::try_from(seq).unwrap() - 1]
    }

    pub fn event(&self, line: &Line) -> String {
        self.event_of(line.as_str().trim_end())
    }

    /// An event for any bytes.
    pub fn event_of(&self, data: &str) -> String {
        let fields: serde_json::Value = serde_json::from_str(data).unwrap();
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{}/{}\",\"source\":\"/stacks/{}/hosts/{}\",\"type\":{},\"time\":{},\
             \"datacontenttype\":\"application/json\",\"data\":{data}}}",
            self.ledger, fields["seq"], self.stack, self.name, fields["type"], fields["time"]
        )
    }

    /// A batch of these records, by number.
    pub fn batch(&self, seqs: impl IntoIterator<Item = u64>) -> String {
        let events: Vec<String> = seqs.into_iter().map(|seq| self.event(self.line(seq))).collect();
        format!("[{}]", events.join(","))
    }

    /// A batch of everything.
    pub fn all(&self) -> String {
        self.batch(1..=self.lines.len() as u64)
    }
}
