//! Documents come to the hosts of a stack.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use document::Envelope;
use record::{ArtifactType, Draft};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Host, SOON, Server, company};

/// A server for documents of acme, with its enrolment token.
pub fn of_acme(dir: &Path) -> (Server, String) {
    let ceo = company::key_of("ceo").public_key().to_openssh().unwrap();
    let stack = format!(
        "[stack]\norganization = \"acme\"\nplain_approvers = true\norigin = \"https://a.example\"\n\
         [stack.roster]\nthreshold = 1\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{ceo}\"\n"
    );
    let mut server = Server::new(dir, &stack);
    let token = server.token();
    server.start();
    (server, token)
}

/// Hands a document to the server.
pub fn post(server: &Server, envelope: &Envelope) {
    let body = envelope.to_json();
    let begun = Instant::now();
    loop {
        let answered = TcpStream::connect(server.address).and_then(|mut stream| {
            let head = "POST /v1/documents HTTP/1.0\r\nContent-Type: application/json\r\n";
            write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        match answered {
            Ok(answer) => return assert!(answer.starts_with("HTTP/1.0 200"), "{answer}"),
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The daemon has started: its record names the token of its feed.
fn start_daemon(host: &mut Host, token: &str) {
    let digest = format!("{:x}", Sha256::digest(token));
    host.write(&Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("feed_token_sha256", digest));
    host.publish();
    let path = host.paths.daemon_run.join("feed_token");
    fs::write(path.with_extension("new"), token).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// A host that ships, and hears the feed of the same server.
pub struct Hearing {
    pub host: Host,
    inbox: PathBuf,
    run: PathBuf,
    url: String,
}

impl Hearing {
    pub fn begin(home: &Path, server: &Server, token: &str) -> Self {
        let url = format!("http://{}", server.address);
        let mut host = Host::begin(home, 0, &url, token);
        let stack = json!({ "organization": "acme", "stack": "web", "feeds": [url] });
        let ship = json!({ "v": 1, "api": { "url": url }, "stack": stack });
        fs::write(home.join("daemon-run/ship.json"), ship.to_string()).unwrap();
        start_daemon(&mut host, &"a".repeat(64));
        host.ship();
        Self { host, inbox: home.join("state/inbox"), run: home.join("daemon-run"), url }
    }

    pub fn arrives(&self, envelope: &Envelope) {
        let path = self.inbox.join(format!("{}.json", envelope.document().id()));
        self.host.soon("it arrives", |_| path.exists());
        assert_eq!(fs::read_to_string(path).unwrap(), envelope.to_json());
    }

    /// What the daemon says once it has heard all up to there.
    pub fn has_heard(&self, position: u64) {
        let path = self.run.join("inbox.json");
        let said = json!({ "v": 1, "done": [], "waiting": [], "feeds": [{ "feed": self.url, "position": position }] });
        fs::write(path.with_extension("new"), said.to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// The answer that the shipper leaves to the daemon is about what comes after this place, up to that one.
    pub fn is_answered(&self, after: &Value, next: u64) {
        let file = self.inbox.join("feed.json");
        let read = || serde_json::from_slice(&fs::read(&file).unwrap_or_default()).unwrap_or(Value::Null);
        self.host.soon("the feed answers", |_| read()["after"] == *after && read()["next"] == next);
        assert_eq!(read()["ids"].as_array().unwrap().len() as u64, next - after.as_u64().unwrap_or(0));
    }
}

#[test]
fn documents_reach_the_hosts_of_their_stack_and_go_on_after_either_side_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, token) = of_acme(dir.path());
    let mut hearing = Hearing::begin(&dir.path().join("0"), &server, &token);
    let roster = company::signed(&company::document(company::roster(1)), &["ceo"]);
    post(&server, &roster);
    hearing.arrives(&roster);
    hearing.is_answered(&Value::Null, 1);
    hearing.has_heard(1);
    let grant = company::signed(&company::document(company::grant("deploy", "INC-42")), &["alice approves"]);
    post(&server, &grant);
    hearing.arrives(&grant);
    hearing.is_answered(&json!(1), 2);
    // The server goes, and then the shipper; the daemon has not said anything meanwhile.
    server.kill();
    server.start();
    hearing.host.ship();
    let revoke = company::signed(&company::document(company::revoke(grant.document().id())), &["bob approves"]);
    post(&server, &revoke);
    hearing.arrives(&revoke);
    hearing.is_answered(&json!(1), 3);
    hearing.has_heard(3);
    // A daemon that starts anew has another token, and the old one is worth nothing.
    start_daemon(&mut hearing.host, &"b".repeat(64));
    let lockdown = company::signed(&company::document(company::lockdown("web", false)), &["alice approves"]);
    post(&server, &lockdown);
    hearing.arrives(&lockdown);
}
