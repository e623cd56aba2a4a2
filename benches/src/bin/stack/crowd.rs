//! Hosts that hear of a document, and say in their ledgers what became of it: two connections each, as their shippers have.

use std::{net::SocketAddr, time::Instant};

use benches::ledger::{Writer, batch};
use document::Envelope;
use record::{ArtifactType, Draft, Line};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    connections::Connections,
    hosts::question,
    server::{STACK, token},
};

/// Characters of a piece of a document in a record.
const PIECE: usize = 1_000;

/// Hosts that are connected.
pub(crate) struct Crowd {
    heard: Connections,
    said: Connections,
}

/// The last answers that a host got, whole.
#[derive(Default)]
pub(crate) struct Last {
    pub(crate) document: Vec<u8>,
    pub(crate) receipt: Vec<u8>,
}

impl Crowd {
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Self {
        let [heard, said] = [(); 2].map(|()| Connections::connect(address, count, |_| Vec::new()));
        Self { heard, said }
    }

    /// Each asks for what comes after this place. Those who have something to hear at once hear it.
    pub(crate) fn ask(&mut self, after: u64) {
        (0..self.heard.count()).for_each(|n| self.heard.write(n, &question(n, after)));
    }

    /// What the first who hears something hears, of as many as there are.
    pub(crate) fn hear_all(&mut self) -> Vec<u8> {
        let mut first = Vec::new();
        for _ in 0..self.heard.count() {
            let (_, came) = self.heard.next();
            if first.is_empty() {
                first = came.to_vec();
            }
        }
        first
    }

    /// Each hears of the document that is published now, says what is there, and gets its receipt. When each had the document, in
    /// nanoseconds.
    pub(crate) fn hear_and_say(&mut self, what: &[Vec<u8>], since: Instant) -> (Vec<u64>, Last) {
        let (mut has_it, mut last) = (Vec::new(), Last::default());
        for _ in 0..what.len() {
            let (n, came) = self.heard.next();
            has_it.push(since.elapsed().as_nanos() as u64);
            last.document = came.to_vec();
            self.said.write(n, &what[n]);
        }
        for _ in 0..what.len() {
            last.receipt = self.said.next().1.to_vec();
        }
        (has_it, last)
    }
}

/// Has each host say what is there, and waits for the answers.
pub(crate) fn enrol(address: SocketAddr, what: &[Vec<u8>]) {
    let mut said = Connections::connect(address, what.len(), |n| what[n].clone());
    what.iter().for_each(|_| expect_ok(said.next().1));
}

/// Panics unless an answer says that all is well.
pub(crate) fn expect_ok(answer: &[u8]) {
    assert!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(answer));
}

/// The hosts' ledgers.
pub(crate) fn ledgers(count: usize) -> Vec<Writer> {
    (0..count).map(|n| Writer::new(&format!("i-{n}"), STACK)).collect()
}

/// What each host says first: that it is there, and with which token it hears its feed.
pub(crate) fn beginnings(ledgers: &mut [Writer], enrolment: &str) -> Vec<Vec<u8>> {
    let begin = |(n, ledger): (usize, &mut Writer)| {
        let hash: String = Sha256::digest(token(n)).iter().map(|byte| format!("{byte:02x}")).collect();
        let draft = Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("feed_token_sha256", hash);
        let lines = [ledger.another(), ledger.another(), ledger.seal(&draft)];
        request(&lines, Some(enrolment))
    };
    ledgers.iter_mut().enumerate().map(begin).collect()
}

/// What each host says of a grant that it accepted.
pub(crate) fn acceptances(ledgers: &mut [Writer], envelope: &Envelope) -> Vec<Vec<u8>> {
    let line = envelope.document().line();
    let pieces: Vec<&str> =
        line.as_bytes().chunks(PIECE).map(|piece| std::str::from_utf8(piece).expect("ASCII")).collect();
    let fingerprint = format!("SHA256:{:043}", 1);
    let accepted = Draft::new(ArtifactType::DocumentAccepted, "grant by alice: frank may log in to ubuntu: INC-42")
        .with("document", envelope.document().id().to_string())
        .with("kind", "grant")
        .with("line", json!(pieces))
        .with("signatures", json!([[envelope.signatures()[0].replace('\n', "")]]))
        .with("signers", json!([{ "who": "alice", "fingerprint": fingerprint }]));
    let mut granted = Draft::new(ArtifactType::GrantCreated, "frank may log in to ubuntu: INC-42");
    granted.person = Some("frank".parse().expect("a name"));
    granted.account = Some("ubuntu".parse().expect("a name"));
    granted.grant = Some("g-0123456789abcdef".parse().expect("a grant's id"));
    let granted = granted.with("document", envelope.document().id().to_string());
    let say = |ledger: &mut Writer| request(&[ledger.seal(&accepted), ledger.seal(&granted)], None);
    ledgers.iter_mut().map(say).collect()
}

/// As the shipper sends records.
fn request(lines: &[Line], enrolment: Option<&str>) -> Vec<u8> {
    let body = batch(lines);
    let authorization = enrolment.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!(
        "POST /v1/artifacts HTTP/1.1\r\nHost: bench\r\n{authorization}Content-Type: application/cloudevents-batch+json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Where to go on in the feed, as an answer of it says.
pub(crate) fn next(answer: &[u8]) -> u64 {
    expect_ok(answer);
    let text = std::str::from_utf8(answer).expect("text");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    body["next"].as_u64().expect("a place")
}
