//! Sessions: who may read for an hour, by whose signature, and about what. And what they read.

use document::{Envelope, IsSession, Lockdown, Session, V1};
use serde_json::{Value, json};

use crate::common::{
    Client, Server,
    acme::{acme, acme_with_host, hearing, ids, published, taken},
    company::{asked, document, grant, lockdown, now, roster, signed, w},
    http::Answer,
};

/// Answers a challenge of this server's.
fn answered(server: &Server, by: &str) -> Envelope {
    let challenge = server.client().post("/v1/sessions/challenge", &json!({})).json();
    assert_eq!(challenge["expires_in"], 60);
    let session = Session {
        issued_at: now(),
        nonce: w(challenge["nonce"].as_str().unwrap()),
        organization: w("acme"),
        origin: w(challenge["origin"].as_str().unwrap()),
        kind: IsSession,
        v: V1,
    };
    signed(&document(session), &[by])
}

fn begin(server: &Server, envelope: &Envelope) -> Answer {
    server.client().send("POST", "/v1/sessions", "application/json", envelope.to_json().as_bytes())
}

/// A client in a session of this key.
fn session(server: &Server, by: &str) -> Client {
    let given = begin(server, &answered(server, by));
    assert_eq!(given.status, 200, "{given:?}");
    server.client().with(given.json()["token"].as_str().unwrap())
}

fn stacks(status: &Value) -> Vec<&str> {
    status["stacks"].as_array().unwrap().iter().map(|stack| stack["stack"].as_str().unwrap()).collect()
}

#[test]
fn before_there_is_a_roster_nobody_begins_a_session() {
    let server = acme();
    assert_eq!(begin(&server, &answered(&server, "alice approves")).outcome(), (409, "no_roster".to_owned()));
}

#[test]
fn a_session_is_for_whom_the_roster_names_and_reads_about_their_stacks_alone() {
    let (server, ..) = acme_with_host();
    hearing(&server, "i-2", "db");
    for by in ["mallory", "ceo"] {
        assert_eq!(begin(&server, &answered(&server, by)).outcome(), (422, "session".to_owned()), "{by}");
    }
    let given = begin(&server, &answered(&server, "carol approves")).json();
    assert_eq!(given["person"], "carol", "{given}");
    let carol = server.client().with(given["token"].as_str().unwrap());
    let (alice, frank, grace) =
        (session(&server, "alice approves"), session(&server, "frank"), session(&server, "grace"));
    for (client, wanted) in
        [(&carol, &["db"][..]), (&alice, &["db", "web"]), (&frank, &["web"]), (&grace, &["db", "web"])]
    {
        assert_eq!(stacks(&client.get("/v1/status").json()), wanted);
    }
    assert_eq!(frank.get("/v1/status?stack=db").outcome(), (403, "role".to_owned()));
    assert_eq!(frank.get("/v1/requests?stack=db").outcome(), (403, "role".to_owned()));
    assert_eq!(frank.get("/v1/feed?stack=db").outcome(), (403, "role".to_owned()));
    assert_eq!(ids(&frank.get("/v1/feed?stack=web&after=0").json()).len(), 1);
    let of_db = document::Grant {
        stack: w("db"),
        person: w("grace"),
        fingerprints: [crate::common::company::fingerprint("grace")].into(),
        ..grant("deploy", "for db")
    };
    let envelope = signed(&document(of_db), &["carol approves"]);
    published(&server, &envelope);
    let path = format!("/v1/documents/{}", envelope.document().id());
    assert_eq!((carol.get(&path).status, frank.get(&path).status), (200, 404));
    assert_eq!(frank.get(&format!("{path}/hosts")).status, 404);
}

#[test]
fn a_session_reads_and_does_nothing_else() {
    let (server, ..) = acme_with_host();
    let alice = session(&server, "alice approves");
    for path in ["/v1/artifacts", "/v1/hosts", "/v1/incidents", "/v1/requirements", "/v1/tokens", "/v1/enrolments"] {
        assert_eq!(alice.get(path).outcome(), (401, "bad_token".to_owned()), "{path}");
    }
    assert_eq!(alice.post("/v1/tokens", &json!({"role": "admin"})).status, 401);
}

#[test]
fn an_answer_to_a_challenge_is_taken_once_and_only_as_this_server_gave_it() {
    let (server, ..) = acme_with_host();
    let answer = answered(&server, "alice approves");
    assert_eq!(begin(&server, &answer).status, 200);
    let refused = (422, "session".to_owned());
    assert_eq!(begin(&server, &answer).outcome(), refused, "again");
    let session = |change: fn(&mut Session)| {
        let envelope = answered(&server, "alice approves");
        let document::Body::Session(session) = envelope.document().body().clone() else { unreachable!() };
        let mut session = session;
        change(&mut session);
        begin(&server, &signed(&document(session), &["alice approves"])).outcome()
    };
    assert_eq!(session(|_| {}), (200, "ok".to_owned()));
    assert_eq!(session(|session| session.origin = w("https://evil.example.com")), refused);
    assert_eq!(session(|session| session.organization = w("evil")), refused);
    assert_eq!(session(|session| session.nonce = w(&"A".repeat(118))), refused);
    assert_eq!(session(|session| session.issued_at = now().before(2 * crate::common::company::MINUTE)), refused);
    let grant = signed(&document(grant("deploy", "no session")), &["alice approves"]);
    assert_eq!(begin(&server, &grant).outcome(), refused);
    let other = acme_with_host().0;
    assert_eq!(begin(&server, &answered(&other, "alice approves")).outcome(), refused, "another server's");
}

#[test]
fn who_is_held_or_left_the_roster_reads_nothing_more() {
    let (server, ..) = acme_with_host();
    let (frank, grace) = (session(&server, "frank"), session(&server, "grace"));
    let hold = Lockdown { person: Some(w("frank")), ..lockdown("*", true) };
    published(&server, &signed(&document(hold), &["alice approves"]));
    assert_eq!(stacks(&frank.get("/v1/status").json()), [""; 0]);
    assert_eq!(frank.get("/v1/status?stack=web").outcome(), (403, "role".to_owned()));
    assert_eq!(begin(&server, &answered(&server, "frank")).outcome(), (422, "session".to_owned()));
    assert_eq!(stacks(&grace.get("/v1/status").json()), ["web"]);
    let mut next = roster(2);
    next.people.retain(|member| member.name.as_str() != "grace");
    published(&server, &signed(&document(next), &["ceo"]));
    assert_eq!(stacks(&grace.get("/v1/status").json()), [""; 0]);
}

#[test]
fn a_session_outlives_a_restart_and_the_servers_ledger_names_who_has_it() {
    let (mut server, ..) = acme_with_host();
    let alice = session(&server, "alice approves");
    server = server.restart();
    let again = server.client().with(alice.token.as_deref().unwrap());
    assert_eq!(stacks(&again.get("/v1/status").json()), ["web"]);
    let found = crate::common::acme::reader(&server).get("/v1/artifacts?type=reader.admitted").json();
    assert!(found.to_string().contains("\"alice\""), "{found}");
    assert_eq!(server.count("SELECT count(*) FROM reading"), 1);
    let made_up = server.client().with(&format!("ca_session_{}", "A".repeat(43)));
    assert_eq!(made_up.get("/v1/status").outcome(), (401, "bad_token".to_owned()));
}

#[test]
fn what_waits_is_listed_with_all_that_an_approver_has_to_know() {
    let (server, ..) = acme_with_host();
    let first = document(grant("deploy", "INC-1"));
    taken(&server, &asked(&first, "frank"));
    let second = document(grant("ubuntu", "INC-2"));
    taken(&server, &signed(&second, &["alice approves"]));
    let bob = session(&server, "bob approves");
    let all = bob.get("/v1/requests").json();
    let all = all["requests"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    let one = all.iter().find(|one| one["id"] == json!(first.id().to_string())).unwrap();
    for (name, value) in [
        ("type", json!("grant")),
        ("state", json!("pending")),
        ("asked", json!(true)),
        ("has", json!(0)),
        ("needs", json!(1)),
        ("person", json!("frank")),
        ("account", json!("deploy")),
        ("stack", json!("web")),
        ("hosts", json!(["*"])),
        ("reason", json!("INC-1")),
    ] {
        assert_eq!(one[name], value, "{name}: {one}");
    }
    assert!(one["starts_at"].is_string() && one["expires_at"].is_string() && one["accept_until"].is_string());
    // What is listed is the very document, to be signed and posted.
    let envelope = Envelope::parse(one["envelope"].to_string().as_bytes()).unwrap();
    published(&server, &signed(envelope.document(), &["bob approves"]));
    assert_eq!(bob.get("/v1/requests?stack=web").json()["requests"].as_array().unwrap().len(), 1);
    assert_eq!(session(&server, "carol approves").get("/v1/requests").json(), json!({"requests": []}));
}

#[test]
fn the_roster_in_force_is_there_for_whom_it_names() {
    let (server, ..) = acme_with_host();
    let envelope = signed(&document(roster(2)), &["cto"]);
    published(&server, &envelope);
    let found = session(&server, "grace").get("/v1/roster").json();
    assert_eq!((&found["version"], &found["id"]), (&json!(2), &json!(envelope.document().id().to_string())));
    assert_eq!(Envelope::parse(found["envelope"].to_string().as_bytes()).unwrap(), envelope);
    assert_eq!(server.client().get("/v1/roster").status, 401);
    let empty = acme();
    assert_eq!(crate::common::acme::reader(&empty).get("/v1/roster").outcome(), (404, "not_found".to_owned()));
}
