//! What was judged before something changed that it was judged by: keys, tokens. Writing is held up meanwhile.

use std::{thread, time::Duration};

use record::{ArtifactType, Draft};
use serde_json::json;
use ssh_key::{Algorithm, PrivateKey, rand_core::OsRng};

use crate::common::{Client, Host, Server, http::Answer, server::wanted};
use compliance_api::{admin::Wanted, token::Role};

/// How long a request has to be judged and to wait for the writer. One that takes longer is judged by what is stored by
/// then, to the same end.
const JUDGED: Duration = Duration::from_millis(500);

/// Has these requests judged in turn while nothing can be written, and returns their answers.
fn judged_before_any_is_stored(
    server: &Server,
    requests: Vec<Box<dyn FnOnce(Client) -> Answer + Send>>,
) -> Vec<Answer> {
    let held = server.database();
    held.hold();
    let asked: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let client = server.client();
            let asked = thread::spawn(move || request(client));
            thread::sleep(JUDGED);
            asked
        })
        .collect();
    held.let_go();
    asked.into_iter().map(|asked| asked.join().unwrap()).collect()
}

fn post(batch: String) -> Box<dyn FnOnce(Client) -> Answer + Send> {
    Box::new(move |client| client.ingest(&batch))
}

/// A host, its `key.rotated`, and what comes after by the key before and by the new one.
fn rotated(server: &Server) -> (Host, Host, Host) {
    let mut host = server.host("i-1");
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    let public_key = ssh_key::PublicKey::from(key.public_key().key_data().clone()).to_openssh().unwrap();
    host.state(&Draft::new(ArtifactType::KeyRotated, "the key was rotated").with("public_key", public_key));
    let (mut by_old, mut by_new) = (host.clone(), Host { key, ..host.clone() });
    by_old.logins(1);
    by_new.logins(1);
    (host, by_old, by_new)
}

#[test]
fn a_record_by_a_key_that_is_rotated_out_while_it_is_judged_is_not_taken() {
    let server = Server::start();
    let (host, by_old, _) = rotated(&server);
    let answers = judged_before_any_is_stored(&server, vec![post(host.batch(3..=3)), post(by_old.batch(4..=4))]);
    assert_eq!(answers[0].status, 200, "{:?}", answers[0]);
    assert_eq!(answers[1].outcome(), (422, "not_authentic".to_owned()), "{:?}", answers[1]);
    assert_eq!(server.count("SELECT max(head_seq) FROM ledgers WHERE kind = 'host'"), 3);
}

#[test]
fn a_record_by_the_new_key_is_taken_though_it_was_judged_before_the_rotation() {
    let server = Server::start();
    let (host, _, by_new) = rotated(&server);
    let answers = judged_before_any_is_stored(&server, vec![post(host.batch(3..=3)), post(by_new.batch(4..=4))]);
    assert_eq!(answers[1].outcome(), (200, "ok".to_owned()), "{:?}", answers[1]);
}

#[test]
fn two_who_enrol_a_host_at_one_time_are_one_that_counts_and_one_that_waits() {
    let server = Server::start();
    let token = server.enrol_token("web");
    let (one, two) = (Host::new("i-1", "web"), Host::new("i-1", "web"));
    let enrol = |host: &Host, token: &str| {
        let (batch, token) = (host.all(), token.to_owned());
        Box::new(move |client: Client| client.with(&token).ingest(&batch)) as Box<dyn FnOnce(Client) -> Answer + Send>
    };
    let all = vec![enrol(&one, &token), enrol(&two, &token), enrol(&one, &token)];
    let answers = judged_before_any_is_stored(&server, all);
    let said: Vec<_> = answers.iter().map(|a| a.json()["enrolment"].clone()).collect();
    assert_eq!(said, [json!("enrolled"), json!("pending"), json!("enrolled")], "{answers:?}");
}

#[test]
fn what_a_token_that_is_revoked_meanwhile_asked_for_is_not_done() {
    let server = Server::start();
    let (admin, client) = (server.admin(), Wanted { name: Some("portal".to_owned()), ..wanted(Role::Client) });
    let text = server.token(client);
    let reader = server.token(wanted(Role::Auditor));
    let listed = admin.get("/v1/tokens").json();
    let id = |role: &str| {
        let found = listed["tokens"].as_array().unwrap().iter().find(|t| t["role"] == role).unwrap();
        format!("/v1/tokens/{}", found["id"].as_str().unwrap())
    };
    let (first, second, own) = (id("client"), id("auditor"), id("admin"));
    let batch =
        json!([{"specversion": "1.0", "id": "1", "source": "/clients/portal", "type": "app.login", "data": {}}]);
    let (by, again) = (admin.clone(), admin.clone());
    let (one, other) = (admin.clone(), admin.clone());
    let answers = judged_before_any_is_stored(
        &server,
        vec![
            Box::new(move |_| one.delete(&first)),
            Box::new(move |client| client.with(&text).ingest(&batch.to_string())),
            Box::new(move |_| other.delete(&second)),
            Box::new(move |client| client.with(&reader).get("/v1/hosts")),
            Box::new(move |_| by.delete(&own)),
            Box::new(move |_| again.post("/v1/tokens", &json!({"role": "admin"}))),
        ],
    );
    let statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    assert_eq!(statuses, [204, 401, 204, 401, 204, 401], "{answers:?}");
    assert_eq!(server.count("SELECT count(*) FROM artifacts WHERE client_id IS NOT NULL"), 0);
}
