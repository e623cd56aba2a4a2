//! A server that keeps acme's documents, and what tests do with it.

use compliance_api::token::Role;
use document::{Envelope, Feed, Key, judge::judge_feed};
use record::{ArtifactType, Draft};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Client, Host, Server,
    company::{document, of_acme, roster, signed, w},
    http::Answer,
    server::wanted,
};

pub fn acme() -> Server {
    Server::start_with(of_acme)
}

/// The same with a host of web, which hears its feed by this token, and the first roster.
pub fn acme_with_host() -> (Server, Host, String) {
    let server = acme();
    let (host, token) = hearing(&server, "i-1", "web");
    taken(&server, &signed(&document(roster(1)), &["ceo"]));
    (server, host, token)
}

/// A host that hears its feed by a token of its own.
pub fn hearing(server: &Server, name: &str, stack: &str) -> (Host, String) {
    let mut host = Host::new(name, stack);
    let token = format!("{:x}", Sha256::digest(format!("{name} {stack}")));
    state_token(&mut host, &token);
    let enrolled = server.client().with(&server.enrol_token(stack)).ingest(&host.all());
    assert_eq!(enrolled.status, 200, "{enrolled:?}");
    (host, token)
}

pub fn state_token(host: &mut Host, token: &str) {
    let hash = format!("{:x}", Sha256::digest(token));
    host.state(&Draft::new(ArtifactType::DaemonStarted, "the daemon started").with("feed_token_sha256", hash));
}

pub fn post(server: &Server, envelope: &Envelope) -> Answer {
    server.client().send("POST", "/v1/documents", "application/json", envelope.to_json().as_bytes())
}

#[track_caller]
pub fn taken(server: &Server, envelope: &Envelope) -> Value {
    let answer = post(server, envelope);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[track_caller]
pub fn published(server: &Server, envelope: &Envelope) -> Value {
    let state = taken(server, envelope);
    assert_eq!(state["state"], "published", "{state}");
    state
}

pub fn reader(server: &Server) -> Client {
    server.client().with(&server.token(wanted(Role::Auditor)))
}

#[track_caller]
pub fn heard(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/feed?{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

pub fn ids(part: &Value) -> Vec<String> {
    part["documents"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// What a feed's statement says, by the server's own key.
pub fn stated(server: &Server, part: &Value) -> Feed {
    let key = server.client().get("/v1/server").json()["public_key"].as_str().unwrap().to_owned();
    let key: Key = key.parse().unwrap();
    let envelope = Envelope::parse(part["statement"].to_string().as_bytes()).unwrap();
    let stack = part["stack"].as_str().unwrap().parse().unwrap();
    judge_feed(&envelope, &w("acme"), &stack, &[key]).unwrap().clone()
}
