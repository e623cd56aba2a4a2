//! What whoever runs the server sees of it: metrics, and a log in which each request can be found.

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Child, Command},
};

use compliance_api::token::Role;
use serde_json::{Value, json};

use crate::common::{
    Client, Server,
    acme::{acme_with_host, hearing},
    database::store_toml,
    http::{Answer, read_answer},
    server::wanted,
    soon,
};

/// A request with this header, as it stands.
fn with_header(client: &Client, method: &str, path: &str, header: &str) -> Answer {
    let mut stream = client.connect();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n{header}\r\n\r\n")
        .unwrap();
    read_answer(stream).unwrap()
}

/// The value of a sample.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_count_what_was_asked_stored_and_waits_and_are_for_monitors_and_admins_alone() {
    let (server, mut host, _) = acme_with_host();
    let monitor = server.client().with(&server.token(wanted(Role::Monitor)));
    let (_, waiting) = hearing(&server, "i-2", "web");
    host.logins(2);
    let last = host.all().matches("specversion").count() as u64;
    assert_eq!(server.client().ingest(&host.batch(last - 1..=last)).status, 200);
    let stored =
        server.count("SELECT count(*) FROM artifacts a JOIN ledgers l ON l.id = a.ledger WHERE l.kind = 'host'");
    let mut poll = server.client().connect();
    write!(
        poll,
        "GET /v1/feed?stack=web&after=1&wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {waiting}\r\n\r\n"
    )
    .unwrap();
    with_header(&server.client(), "BREW", "/coffee", "X-Pot: 1");
    server.client().get("/v1/hosts");
    soon("the incident is written", || server.count("SELECT count(*) FROM incidents") == 0);
    let metrics = |client: &Client| client.get("/metrics");
    soon("somebody waits for a feed", || sample(&metrics(&monitor).body, "compliance_api_feeds_waiting") == Some(1.0));
    let answer = metrics(&monitor);
    assert!(answer.headers.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", answer.headers);
    let text = answer.body;
    let value = |name: &str| sample(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
    assert_eq!(value("compliance_api_artifacts_stored_total{kind=\"host\"}"), stored as f64);
    assert_eq!(value("compliance_api_requests_total{method=\"other\",route=\"none\",status=\"404\"}"), 1.0);
    assert_eq!(value("compliance_api_requests_total{method=\"GET\",route=\"/v1/hosts\",status=\"401\"}"), 1.0);
    assert!(value("compliance_api_commit_duration_seconds_count") >= 3.0);
    assert_eq!(value("compliance_api_writes_waiting{kind=\"documents\"}"), 0.0);
    assert!(value("compliance_api_database_bytes") > 0.0 && value("compliance_api_disk_free_bytes") > 0.0);
    assert!(value("compliance_api_connections") >= 2.0);
    assert!(text.ends_with("# EOF\n"));
    for secret in ["i-1", "i-2", "web\"", "coffee", "alice"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(metrics(&server.admin()).status, 200);
    for role in [Role::Auditor, Role::Enrol] {
        let stack = (role == Role::Enrol).then(|| "web".parse().unwrap());
        let other = server.token(compliance_api::admin::Wanted { stack, ..wanted(role) });
        assert_eq!(metrics(&server.client().with(&other)).outcome(), (403, "role".to_owned()));
    }
    assert_eq!(metrics(&server.client()).outcome(), (401, "bad_token".to_owned()));
    assert_eq!(monitor.get("/v1/hosts").outcome(), (403, "role".to_owned()), "it reads no evidence");
    let reads = "SELECT count(*) FROM records WHERE type = 'evidence.read'";
    assert_eq!(server.count(reads), 0, "metrics are none");
}

#[test]
fn each_answer_has_the_id_of_its_request_or_one_of_its_own() {
    let server = Server::start();
    let id = |header: &str| {
        let answer = with_header(&server.client(), "GET", "/livez", header);
        answer.headers.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim().to_owned()
    };
    assert_eq!(id("X-Request-Id: 7f3a.b_c-1"), "7f3a.b_c-1");
    let long = "a".repeat(65);
    let made: Vec<String> =
        ["X: y", "X-Request-Id: ", "X-Request-Id: a b", "X-Request-Id: {\"a\":1}", &format!("X-Request-Id: {long}")]
            .map(id)
            .into();
    for id in &made {
        assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{made:?}");
    }
    assert_ne!(made[0], made[1]);
}

/// A server of its own process with this in its configuration, and its log.
fn logged(log: &str) -> (tempfile::TempDir, Child, Client) {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("config.toml");
    fs::write(
        &config,
        format!("listen = \"127.0.0.1:0\"\nstate = {:?}\n{log}\n{}", state.path(), store_toml(state.path())),
    )
    .unwrap();
    let stderr = state.path().join("stderr");
    let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
    command
        .arg("--config")
        .arg(config)
        .arg("serve")
        .env_remove("JOURNAL_STREAM")
        .stderr(File::create(&stderr).unwrap());
    let child = command.spawn().unwrap();
    let address = || {
        let text = fs::read_to_string(&stderr).unwrap();
        let line = text.lines().find(|line| line.contains("serving"))?.to_owned();
        let digits = line.split("127.0.0.1:").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        format!("127.0.0.1:{digits}").parse().ok()
    };
    soon("it serves", || address().is_some());
    let address = address().unwrap();
    (state, child, Client { address, token: None })
}

#[test]
fn a_log_in_json_has_a_line_for_each_request_with_its_id_and_nothing_that_was_asked() {
    let (state, mut child, client) = logged("[log]\nformat = \"json\"\nrequests = \"all\"\n");
    with_header(&client, "GET", "/v1/artifacts?person=frank", "X-Request-Id: of-frank");
    with_header(&client, "GET", "/nowhere/frank", "X-Request-Id: nowhere");
    let read = || fs::read_to_string(state.path().join("stderr")).unwrap();
    soon("both are logged", || read().matches("answered").count() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines: Vec<Value> = read().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |id: &str| lines.iter().find(|line| line["span"]["id"] == id).unwrap();
    let first = of("of-frank");
    assert_eq!(
        (&first["route"], &first["status"], &first["method"]),
        (&json!("/v1/artifacts"), &json!(401), &json!("GET"))
    );
    assert_eq!((&first["from"], &first["level"]), (&json!("127.0.0.1"), &json!("INFO")));
    assert!(first["ms"].is_u64() && first["timestamp"].as_str().unwrap().ends_with('Z'), "{first}");
    assert_eq!((&of("nowhere")["route"], &of("nowhere")["status"]), (&json!("none"), &json!(404)));
    assert!(lines.iter().any(|line| line["message"] == "serving" && line["address"].is_string()), "{lines:?}");
    assert!(
        !read().contains("person=frank") && !read().contains("nowhere/frank"),
        "who was asked about is no matter of the log"
    );
}

#[test]
fn a_log_for_people_has_what_failed_alone() {
    let (state, mut child, client) = logged("");
    assert_eq!(with_header(&client, "GET", "/v1/hosts", "X-Request-Id: refused").status, 401);
    let held = crate::common::database::Database::of(state.path());
    held.hold();
    assert_eq!(with_header(&client, "GET", "/readyz", "X-Request-Id: failed").status, 503);
    held.let_go();
    let read = || fs::read_to_string(state.path().join("stderr")).unwrap();
    soon("it is logged", || read().contains("request{id=\"failed\"}: answered"));
    assert!(read().contains("status=503") && !read().contains("refused"), "{}", read());
    child.kill().unwrap();
    child.wait().unwrap();
}
