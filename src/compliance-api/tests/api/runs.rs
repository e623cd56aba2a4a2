//! Runs: what feeders say of each look at their source, who sees that, and what becomes of one that says nothing any more.

use std::time::Duration;

use compliance_api::config::Config;
use document::{Envelope, Feeder, IsRun, MAX_ENVELOPE, Roster, Run, V1};
use serde_json::{Value, json};

use crate::common::{
    Server,
    acme::{published, reader},
    company::{MINUTE, document, lockdown, now, of_acme, public, roster, signed, w},
    http::Answer,
    soon,
};

/// Two feeders: of iam, and of hr.
fn fed(version: u64) -> Roster {
    let feeder = |key: &str, source: &str| Feeder { key: public(key), source: w(source) };
    let mut feeders = vec![feeder("iam", "iam"), feeder("hr", "hr")];
    feeders.sort();
    Roster { feeders, ..roster(version) }
}

fn server(configure: impl Fn(&mut Config)) -> Server {
    let server = Server::start_with(|config| {
        of_acme(config);
        configure(config);
    });
    published(&server, &signed(&document(fed(1)), &["ceo"]));
    server
}

fn run() -> Run {
    Run {
        automatic: None,
        failed: None,
        holds: [].into(),
        issued_at: now(),
        organization: w("acme"),
        proposed: 0,
        source: w("iam"),
        kind: IsRun,
        users: 12,
        v: V1,
    }
}

fn tell(server: &Server, envelope: &Envelope) -> Answer {
    server.client().send("POST", "/v1/runs", "application/json", envelope.to_json().as_bytes())
}

#[track_caller]
fn told(server: &Server, run: Run) -> Value {
    let answer = tell(server, &signed(&document(run), &["iam"]));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn each_run_of_a_feeder_is_shown_with_what_it_changed_and_how_old_it_is() {
    let server = server(|_| {});
    let hold = document(lockdown("web", true)).id();
    let first = Run { holds: [hold].into(), proposed: 3, issued_at: now().before(MINUTE), ..run() };
    told(&server, first.clone());
    // Twice is once.
    told(&server, first);
    let failed = Run { failed: Some(w("IAM throttles")), users: 0, issued_at: now().before(MINUTE / 2), ..run() };
    told(&server, failed);
    told(&server, Run { automatic: Some(2.try_into().unwrap()), ..run() });
    let reader = reader(&server);
    let listed = reader.get("/v1/runs?source=iam").json();
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{listed}");
    assert_eq!((&runs[0]["automatic"], &runs[0]["users"]), (&json!(2), &json!(12)), "{listed}");
    assert_eq!(runs[1]["failed"], "IAM throttles", "{listed}");
    assert_eq!((&runs[2]["holds"], &runs[2]["proposed"]), (&json!([hold.to_string()]), &json!(3)), "{listed}");
    assert_eq!(reader.get("/v1/runs").json(), listed);
    assert_eq!(reader.get("/v1/runs?source=hr").json(), json!({ "runs": [] }));
    assert_eq!(reader.get("/v1/runs?source=a%20b").status, 400);
    assert_eq!(server.client().get("/v1/runs").status, 401);
    let feeders = reader.get("/v1/status").json()["feeders"].clone();
    assert_eq!(feeders[0], json!({ "source": "hr", "silent": false }), "{feeders}");
    assert_eq!((&feeders[1]["source"], &feeders[1]["silent"]), (&json!("iam"), &json!(false)), "{feeders}");
    assert_eq!(feeders[1]["last_complete"], feeders[1]["last_run"]["received_at"], "{feeders}");
    assert_eq!(feeders[1]["last_run"], runs[0]);
}

#[test]
fn a_run_is_the_word_of_the_feeder_of_its_source_alone() {
    let server = server(|_| {});
    let refused = |envelope: &Envelope| tell(&server, envelope).outcome();
    let run_of = |run: Run, by: &[&str]| signed(&document(run), by);
    for by in ["hr", "ceo", "alice approves", "frank", "mallory"] {
        assert_eq!(refused(&run_of(run(), &[by])), (422, "run".to_owned()), "{by}");
    }
    let old = Run { issued_at: now().before(6 * MINUTE), ..run() };
    assert_eq!(refused(&run_of(old, &["iam"])), (422, "run".to_owned()));
    assert_eq!(refused(&run_of(Run { organization: w("other"), ..run() }, &["iam"])), (422, "run".to_owned()));
    assert_eq!(refused(&run_of(Run { source: w("hr"), ..run() }, &["iam"])), (422, "run".to_owned()));
    assert_eq!(refused(&signed(&document(lockdown("web", true)), &["iam"])), (422, "run".to_owned()));
    // It is no document for hosts, and gets into no feed.
    let posted = crate::common::acme::post(&server, &run_of(run(), &["iam"]));
    assert_eq!(posted.outcome(), (422, "not_for_hosts".to_owned()));
    assert_eq!(reader(&server).get("/v1/runs").json(), json!({ "runs": [] }));
    let sent = |media: &str, body: &[u8]| server.client().send("POST", "/v1/runs", media, body).status;
    assert_eq!(sent("application/json", b"{}"), 400);
    assert_eq!(sent("text/plain", run_of(run(), &["iam"]).to_json().as_bytes()), 415);
    assert_eq!(sent("application/json", &vec![b' '; MAX_ENVELOPE + 1]), 413);
}

#[test]
fn no_more_than_60_runs_of_a_source_are_taken_within_a_minute() {
    let server = server(|_| {});
    for users in 0..60 {
        told(&server, Run { users, ..run() });
    }
    let more = tell(&server, &signed(&document(Run { users: 60, ..run() }), &["iam"]));
    assert_eq!(more.outcome(), (429, "slow_down".to_owned()));
    let other = tell(&server, &signed(&document(Run { source: w("hr"), ..run() }), &["hr"]));
    assert_eq!(other.status, 200, "{other:?}");
}

#[test]
fn a_feeder_that_does_not_look_any_more_is_an_incident_until_it_does_again() {
    let server = server(|config| config.limits.reader_silent_after = Duration::from_secs(1));
    let first = run();
    told(&server, first.clone());
    // That it fails, it says; that is not looking.
    std::thread::sleep(Duration::from_millis(1100));
    told(&server, Run { failed: Some(w("IAM throttles")), ..run() });
    let server = server.restart();
    let reader = reader(&server);
    let open = || reader.get("/v1/incidents?open=true&kind=reader_silent").json()["incidents"].clone();
    soon("it is an incident", || open() != json!([]));
    let incident = open()[0].clone();
    assert_eq!((&incident["subject"], &incident["detail"]["failed"]), (&json!("iam"), &json!("IAM throttles")));
    assert!(incident["detail"]["last_complete"].is_string() && open()[1].is_null(), "{incident}");
    let feeders = reader.get("/v1/status").json()["feeders"].clone();
    assert_eq!((&feeders[0]["silent"], &feeders[1]["silent"]), (&json!(false), &json!(true)), "{feeders}");
    // What it said before says nothing about now, whoever says it again.
    told(&server, first);
    assert_eq!(open()[0]["subject"], "iam");
    told(&server, run());
    assert_eq!(open(), json!([]));
}
