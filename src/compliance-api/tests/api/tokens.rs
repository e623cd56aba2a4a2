//! What a token is for: one stack, one window, metrics alone; and that it ends.

use std::time::Duration;

use compliance_api::{
    admin::{Ends, Wanted},
    token::Role,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{
    Client, Host, Server,
    acme::{acme_with_host, reader},
    server::wanted,
    soon,
};

/// A server with a host of each of two stacks, and what an application stated in January and in June.
fn server() -> (Server, Host, Host) {
    let server = Server::start();
    let of = |name: &str, stack: &str| {
        let host = Host::new(name, stack);
        assert_eq!(server.client().with(&server.enrol_token(stack)).ingest(&host.all()).status, 200);
        host
    };
    let (web, db) = (of("i-web", "web"), of("i-db", "db"));
    let portal = server.token(Wanted { name: Some("portal".to_owned()), ..wanted(Role::Client) });
    let event = |id: &str, time: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/clients/portal", "type": "app.authentication", "time": time,
            "data": {"person": "ann"}})
    };
    let events = json!([event("winter", "2026-01-15T12:00:00Z"), event("summer", "2026-06-15T12:00:00Z")]);
    assert_eq!(server.client().with(&portal).ingest(&events.to_string()).status, 200);
    (server, web, db)
}

fn sources(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("/v1/artifacts{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let artifacts = answer.json();
    let mut all: Vec<String> = artifacts["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["source"].as_str().unwrap().to_owned())
        .collect();
    all.dedup();
    all
}

fn refused(client: &Client, path: &str) {
    let answer = client.get(path);
    assert_eq!(answer.outcome(), (403, "role".to_owned()), "{path}: {answer:?}");
}

#[test]
fn a_token_for_one_stack_reads_about_it_alone() {
    let (server, web, db) = server();
    let auditor = Wanted { stack: Some("web".parse().unwrap()), ..wanted(Role::Auditor) };
    let auditor = server.client().with(&server.token(auditor));
    assert_eq!(sources(&auditor, ""), ["/stacks/web/hosts/i-web"]);
    assert_eq!(sources(&auditor, "?stack=web"), ["/stacks/web/hosts/i-web"]);
    for query in ["?host=i-db".to_owned(), format!("?ledger={}", db.ledger), "?client=portal".to_owned()] {
        assert_eq!(sources(&auditor, &query), [""; 0], "{query}");
    }
    for path in ["/v1/artifacts?stack=db", "/v1/requirements?stack=db", "/v1/requirements/164.312(d)?stack=db"] {
        refused(&auditor, path);
    }
    refused(&auditor, "/v1/hosts?stack=db");
    refused(&auditor, "/v1/incidents");
    refused(&auditor, "/metrics");
    let hosts = auditor.get("/v1/hosts").json();
    assert_eq!(hosts["hosts"].as_array().unwrap().len(), 1, "{hosts}");
    assert_eq!(hosts["hosts"][0]["host"], "i-web");
    let evidence = auditor.get("/v1/requirements/164.308(a)(5)(ii)(C)").json().to_string();
    assert!(!evidence.contains("portal") && !evidence.contains("i-db"), "{evidence}");
    for (query, status) in [
        (format!("host={}", web.name), 200),
        (format!("ledger={}", web.ledger), 200),
        (format!("host={}", db.name), 404),
        (format!("ledger={}", db.ledger), 404),
    ] {
        assert_eq!(auditor.get(&format!("/v1/receipts?{query}")).status, status, "{query}");
    }
}

#[test]
fn a_token_for_one_stack_hears_its_feed_and_no_other() {
    let (server, ..) = acme_with_host();
    let auditor = Wanted { stack: Some("web".parse().unwrap()), ..wanted(Role::Auditor) };
    let auditor = server.client().with(&server.token(auditor));
    for path in ["/v1/feed?stack=web", "/v1/status?stack=web", "/v1/status", "/v1/requests?stack=web"] {
        assert_eq!(auditor.get(path).status, 200, "{path}");
    }
    for path in ["/v1/feed?stack=db", "/v1/status?stack=db", "/v1/requests?stack=db"] {
        refused(&auditor, path);
    }
    let of_year = Wanted { from: Some("2026-01-01T00:00:00Z".parse().unwrap()), ..wanted(Role::Auditor) };
    let of_year = server.client().with(&server.token(of_year));
    for path in ["/v1/feed?stack=web", "/v1/status", "/v1/requests", "/v1/roster"] {
        refused(&of_year, path);
    }
    assert_eq!(reader(&server).get("/v1/roster").status, 200);
}

#[test]
fn a_token_for_one_window_reads_evidence_of_it_alone() {
    let (server, ..) = server();
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
    let auditor = server.client().with(&server.token(Wanted { from, to, ..wanted(Role::Auditor) }));
    let ids = |query: &str| {
        let answer = auditor.get(&format!("/v1/artifacts{query}"));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let ids = answer.json()["artifacts"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        Value::Array(ids)
    };
    assert_eq!(ids(""), json!(["winter"]));
    assert_eq!(ids("?from=2026-01-15&to=2026-02-01"), json!(["winter"]));
    assert_eq!(ids("?from=2026-03-01"), json!([]));
    for window in
        ["?from=2025-12-31", "?to=2026-04-02", "?from=2026-05-01", "?to=2025-01-01", "?from=2026-02-01&to=2027-01-01"]
    {
        refused(&auditor, &format!("/v1/artifacts{window}"));
        refused(&auditor, &format!("/v1/requirements{window}"));
        refused(&auditor, &format!("/v1/requirements/164.312(d){window}"));
    }
    let evidence = auditor.get("/v1/requirements/164.312(d)").json();
    assert!(evidence.to_string().contains("2026-01-15") && !evidence.to_string().contains("2026-06-15"), "{evidence}");
    refused(&auditor, "/v1/incidents");
}

#[test]
fn a_token_ends_by_itself_unless_it_is_said_never_to() {
    let server = Server::start_with(|c| c.limits.token_life = Duration::from_secs(4));
    let admin = server.client().with(&server.token(Wanted { expires: Some(Ends::Never), ..wanted(Role::Admin) }));
    let made = |wanted: Value| {
        let answer = admin.post("/v1/tokens", &wanted);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let by_itself = made(json!({"role": "auditor"}));
    let ends: Timestamp = by_itself["expires"].as_str().unwrap().parse().unwrap();
    let created: Timestamp = by_itself["created"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.duration_since(created).as_secs(), 4);
    assert!(made(json!({"role": "auditor", "expires": "never"}))["expires"].is_null());
    assert_eq!(made(json!({"role": "auditor", "expires": "2100-01-01T00:00:00Z"}))["expires"], "2100-01-01T00:00:00Z");
    let reader = server.client().with(by_itself["token"].as_str().unwrap());
    assert_eq!(reader.get("/v1/hosts").status, 200);
    soon("it has ended", || reader.get("/v1/hosts").outcome() == (401, "bad_token".to_owned()));
    assert_eq!(admin.get("/v1/hosts").status, 200);
    for bad in [
        json!({"role": "auditor", "expires": "soon"}),
        json!({"role": "auditor", "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
        json!({"role": "admin", "from": "2026-02-01T00:00:00Z"}),
        json!({"role": "client", "name": "portal", "stack": "web"}),
        json!({"role": "monitor", "stack": "web"}),
    ] {
        assert_eq!(admin.post("/v1/tokens", &bad).outcome(), (400, "malformed".to_owned()), "{bad}");
    }
}
