//! What became of documents on hosts, and what is going on there, as the hosts' own records say.

use std::{thread, time::Duration};

use document::Id;
use record::{ArtifactType, Draft};
use serde_json::{Value, json};

use crate::common::{
    Client, Host, Server,
    acme::{acme_with_host, hearing, published, reader},
    company::{document, grant, signed, w},
};

/// Adds a record, and sends it.
fn say(server: &Server, host: &mut Host, draft: &Draft) {
    let seq = host.state(draft).seq();
    let from = seq + 1 - draft.bodies().unwrap().len() as u64;
    let answer = server.client().ingest(&host.batch(from..=seq));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn accepted(document: Id) -> Draft {
    Draft::new(ArtifactType::DocumentAccepted, "a document is in force").with("document", document.to_string())
}

fn refused(document: Id) -> Draft {
    Draft::new(ArtifactType::DocumentRefused, "a document was refused")
        .with("document", document.to_string())
        .with("code", "too_late")
        .with("why", "it had to be accepted before")
}

fn hosts(client: &Client, document: Id, query: &str) -> Value {
    let answer = client.get(&format!("/v1/documents/{document}/hosts{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn states(progress: &Value) -> Vec<(String, String)> {
    let all = progress["hosts"].as_array().unwrap().iter();
    all.map(|one| (one["host"].as_str().unwrap().to_owned(), one["state"].as_str().unwrap().to_owned())).collect()
}

fn is(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(host, state)| ((*host).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn each_host_in_scope_answers_for_itself() {
    let (server, mut one, _) = acme_with_host();
    let (mut two, _) = hearing(&server, "i-2", "web");
    let _ = (hearing(&server, "i-3", "web"), hearing(&server, "i-4", "db"));
    server.host("i-5");
    let envelope = signed(&document(grant("deploy", "INC-42")), &["alice approves"]);
    published(&server, &envelope);
    let id = envelope.document().id();
    let auditor = reader(&server);
    let before = hosts(&auditor, id, "");
    let wanted = [("i-1", "waiting"), ("i-2", "waiting"), ("i-3", "waiting"), ("i-5", "unheard")];
    assert_eq!((states(&before), &before["version"]), (is(&wanted), &json!(0)), "{before}");
    say(&server, &mut one, &accepted(id));
    say(&server, &mut two, &refused(id));
    let after = hosts(&auditor, id, "?after=0&wait=20");
    let wanted = [("i-1", "accepted"), ("i-2", "refused"), ("i-3", "waiting"), ("i-5", "unheard")];
    assert_eq!(states(&after), is(&wanted), "{after}");
    assert!(after["version"].as_i64().unwrap() > 0);
    let second = &after["hosts"][1];
    assert_eq!((&second["code"], &second["detail"]), (&json!("too_late"), &json!("it had to be accepted before")));
    // It was refused, and then it was not: what was accepted stays so.
    say(&server, &mut two, &accepted(id));
    say(&server, &mut two, &refused(id));
    assert_eq!(states(&hosts(&auditor, id, ""))[1], ("i-2".to_owned(), "accepted".to_owned()));
}

#[test]
fn only_the_named_hosts_are_in_the_scope_of_a_grant_that_names_some() {
    let (server, ..) = acme_with_host();
    hearing(&server, "i-2", "web");
    let named = document::Hosts::Named([w("i-2")].into());
    let envelope = signed(&document(document::Grant { hosts: named, ..grant("deploy", "x") }), &["alice approves"]);
    published(&server, &envelope);
    let progress = hosts(&reader(&server), envelope.document().id(), "");
    assert_eq!(states(&progress), is(&[("i-2", "waiting")]));
}

#[test]
fn who_waits_for_an_answer_is_woken_by_it() {
    let (server, mut host, _) = acme_with_host();
    let envelope = signed(&document(grant("deploy", "INC-42")), &["alice approves"]);
    published(&server, &envelope);
    let (auditor, id) = (reader(&server), envelope.document().id());
    let waiting = thread::spawn(move || hosts(&auditor, id, "?after=0&wait=15"));
    thread::sleep(Duration::from_millis(500));
    say(&server, &mut host, &accepted(id));
    assert_eq!(states(&waiting.join().unwrap()), is(&[("i-1", "accepted")]));
    let auditor = reader(&server);
    let version = hosts(&auditor, id, "")["version"].clone();
    assert_eq!(hosts(&auditor, id, &format!("?after={version}&wait=1"))["version"], version);
    let path = format!("/v1/documents/{id}/hosts?wait=61");
    assert_eq!(auditor.get(&path).outcome(), (400, "malformed".to_owned()));
}

#[test]
fn another_ledger_of_a_host_answers_anew() {
    let (server, mut host, _) = acme_with_host();
    let envelope = signed(&document(grant("deploy", "INC-42")), &["alice approves"]);
    published(&server, &envelope);
    let id = envelope.document().id();
    say(&server, &mut host, &accepted(id));
    let mut copy = Host::new("i-1", "web");
    copy.state(&Draft::new(ArtifactType::DaemonStarted, "x").with("feed_token_sha256", "c".repeat(64)));
    copy.state(&refused(id));
    assert_eq!(server.client().with(&server.enrol_token("web")).ingest(&copy.all()).status, 200);
    assert_eq!(states(&hosts(&reader(&server), id, "")), is(&[("i-1", "accepted")]), "it waits for approval");
    server.admin().post(&format!("/v1/enrolments/{}/approve", copy.ledger), &json!({}));
    assert_eq!(states(&hosts(&reader(&server), id, "")), is(&[("i-1", "refused")]));
}

#[test]
fn status_shows_each_hosts_mode_grants_sessions_and_open_ways_in() {
    let (server, mut host, _) = acme_with_host();
    let auditor = reader(&server);
    let show = || auditor.get("/v1/status?stack=web").json()["stacks"][0]["hosts"][0].clone();
    assert_eq!((&show()["host"], &show()["silent"]), (&json!("i-1"), &json!(false)));
    let way = |n: usize| json!({"kind": "password", "server": "sshd", "whom": format!("{n} {}", "x".repeat(900)), "why": "it is on"});
    let sweep = Draft::new(ArtifactType::SweepAttested, "a sweep")
        .with("mode", "enforce")
        .with("roster", json!({"version": 3, "id": "ab"}))
        .with("feed", json!({"heard_at": "2026-11-30T18:00:00Z", "vouched": true, "behind": 0}))
        .with("ways_open", json!((0..12).map(way).collect::<Vec<_>>()));
    assert!(sweep.bodies().unwrap().len() > 1, "it has to go out in parts");
    say(&server, &mut host, &sweep);
    let mut given = Draft::new(ArtifactType::GrantCreated, "frank may log in");
    given.person = Some(w("frank"));
    given.account = Some(w("ubuntu"));
    given.grant = Some("g-0123456789abcdef".parse().unwrap());
    let given = given
        .with("expires_at", "2126-11-30T18:00:00Z")
        .with("document", "d".repeat(64))
        .with("approvers", json!(["alice", "bob"]))
        .with("why", "INC-42");
    say(&server, &mut host, &given);
    let mut opened = Draft::new(ArtifactType::SessionOpened, "frank logged in");
    opened.person = Some(w("frank"));
    opened.account = Some(w("ubuntu"));
    opened.session = Some("s-0123456789abcdef".parse().unwrap());
    opened.source = Some(record::Source { address: Some("192.0.2.7".parse().unwrap()), port: Some(4711) });
    say(&server, &mut host, &opened);
    let shown = show();
    assert_eq!(
        (&shown["mode"], &shown["roster"]["version"], &shown["feed"]["vouched"]),
        (&json!("enforce"), &json!(3), &json!(true)),
        "{shown}"
    );
    assert_eq!(shown["ways_in_open"].as_array().unwrap().len(), 12);
    let grant = &shown["grants"][0];
    assert_eq!(
        (&grant["person"], &grant["approvers"], &grant["reason"]),
        (&json!("frank"), &json!(["alice", "bob"]), &json!("INC-42"))
    );
    assert_eq!(grant["document"], json!("d".repeat(64)));
    let session = &shown["sessions"][0];
    assert_eq!((&session["person"], &session["source"]), (&json!("frank"), &json!("192.0.2.7")));
    let mut ended = Draft::new(ArtifactType::GrantEnded, "it ended");
    ended.grant = given.grant.clone();
    say(&server, &mut host, &ended);
    let mut closed = Draft::new(ArtifactType::SessionClosed, "it closed");
    closed.session = opened.session.clone();
    say(&server, &mut host, &closed);
    say(
        &server,
        &mut host,
        &Draft::new(ArtifactType::SweepAttested, "a sweep").with("mode", "observe").with("ways_open", json!([])),
    );
    let shown = show();
    assert_eq!((&shown["grants"], &shown["sessions"], &shown["ways_in_open"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!((&shown["mode"], shown.get("roster")), (&json!("observe"), None));
    say(&server, &mut host, &Draft::new(ArtifactType::DaemonStopped, "the daemon stopped"));
    assert_eq!(auditor.get("/v1/status").json()["stacks"], json!([]), "who stopped in good order is gone");
}
