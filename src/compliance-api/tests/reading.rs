//! What an auditor reads, over real HTTP from a real server on real SQLite.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test tells of a failure by panicking")]

mod common;

use common::{Server, host_lines, store_client, store_host};
use compliance_api::store::Tx;
use record::{ArtifactType, Record};
use serde_json::{Value, json};

const LOGINS: [(ArtifactType, Option<&str>, &str); 6] = [
    (ArtifactType::LedgerSegment, None, "2026-05-26T12:00:00Z"),
    (ArtifactType::SessionOpened, Some("frank"), "2026-05-26T12:00:01Z"),
    (ArtifactType::SweepAttested, None, "2026-05-26T12:00:02Z"),
    (ArtifactType::SessionOpened, Some("alice"), "2026-06-26T12:00:03Z"),
    // The clock was set back.
    (ArtifactType::ClockStepped, None, "2026-06-01T00:00:00Z"),
    (ArtifactType::DaemonStopped, None, "2026-06-01T00:00:01Z"),
];
const POSTED: [(&str, &str); 2] = [
    ("{\"user\": \"p1\", \"ok\": true}", "2026-05-26T12:00:01.5Z"),
    ("{\"user\":\"<b>'; DROP TABLE artifacts; --\"}", "2026-05-27T00:00:00Z"),
];

struct World {
    server: Server,
    lines: Vec<String>,
    ledger: String,
}

fn world() -> World {
    let (key, lines) = host_lines("i-1", &LOGINS);
    let (_, copied) = host_lines("i-22", &LOGINS[..2]);
    let mut ledger = String::new();
    let server = Server::start(|store| {
        ledger = store_host(store, "i-1", false, &lines);
        let (bound, public) = (ledger.clone(), key.public_key().to_openssh().unwrap());
        let bind = move |tx: &mut dyn Tx| {
            let ledger = tx.ledger(&bound.parse().unwrap())?.unwrap();
            tx.bind_key(&ledger, 1, &public)
        };
        store.write_blocking(bind).unwrap();
        store_host(store, "i-22", true, &copied);
        store_client(store, "portal", "app.authentication", &POSTED);
    });
    World { server, lines, ledger }
}

fn ids(page: &Value) -> Vec<String> {
    let all = page["artifacts"].as_array().unwrap();
    all.iter().map(|a| format!("{} {}", a["type"].as_str().unwrap(), a["time"].as_str().unwrap())).collect()
}

#[test]
fn a_month_of_one_requirement_holds_what_hosts_and_clients_stated_in_order_of_time() {
    let World { server, lines, .. } = world();
    let page = server.get("/v1/artifacts?requirement=164.312(d)&from=2026-05-01&to=2026-06-01").json();
    assert_eq!(
        ids(&page),
        [
            "session.opened 2026-05-26T12:00:01.000000Z",
            "app.authentication 2026-05-26T12:00:01.500000Z",
            "app.authentication 2026-05-27T00:00:00.000000Z"
        ]
    );
    let first = &page["artifacts"][0];
    assert_eq!(first["source"], "/stacks/web/hosts/i-1");
    assert_eq!(page["artifacts"][1]["source"], "/clients/portal");
    assert_eq!(page["artifacts"][1]["id"], "event-0");
    assert!(page.get("next").is_none());
    // The bytes are the record's own: it verifies as it was read here.
    let text = server.get("/v1/artifacts?person=frank").text();
    assert!(text.contains(&lines[1]) && text.contains(lines[1].as_str()));
}

#[test]
fn a_whole_ledger_as_json_lines_is_the_hosts_own_file() {
    let World { server, lines, ledger } = world();
    let answer = server.lines(&format!("/v1/artifacts?ledger={ledger}&form=record"));
    assert!(answer.head.to_ascii_lowercase().contains("content-type: application/x-ndjson"), "{}", answer.head);
    assert_eq!(answer.text(), lines.join("\n") + "\n");
    assert!(answer.text().lines().all(|line| Record::parse(line.as_bytes()).is_ok()));
    // In others' words, with the same bytes within.
    for (form, bytes) in [("ecs", "/event/original"), ("ocsf", "/raw_data")] {
        let found = server.lines(&format!("/v1/artifacts?ledger={ledger}&form={form}")).text();
        let found: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            found.iter().map(|one| one.pointer(bytes).unwrap()).collect::<Vec<_>>(),
            lines.iter().collect::<Vec<_>>()
        );
    }
    // As events, each with what the server knows of it, and the same bytes within.
    let events = server.lines(&format!("/v1/artifacts?ledger={ledger}&limit=2")).text();
    assert_eq!(events.lines().count(), 2);
    assert!(events.lines().zip(&lines).all(|(event, line)| event.ends_with(&format!("\"data\":{line}}}"))));
}

#[test]
fn pages_go_on_where_the_one_before_ended() {
    let World { server, .. } = world();
    let (mut path, mut all) = ("/v1/artifacts?limit=2".to_owned(), Vec::new());
    loop {
        let page = server.get(&path).json();
        all.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/artifacts?limit=2&cursor={next}");
    }
    assert_eq!(all.len(), 8);
    let mut sorted = all.clone();
    sorted.sort_by_key(|id| id.split(' ').nth(1).unwrap().to_owned());
    assert_eq!(all, sorted);
}

#[test]
fn a_pending_ledger_is_left_out_unless_it_is_asked_for() {
    let World { server, .. } = world();
    assert_eq!(ids(&server.get("/v1/artifacts?host=i-22").json()).len(), 0);
    let page = server.get("/v1/artifacts?host=i-22&pending=true").json();
    assert_eq!(ids(&page).len(), 2);
    assert_eq!(page["artifacts"][0]["pending"], true);
}

#[test]
fn a_requirement_says_what_there_is_and_what_it_does_not_show() {
    let World { server, .. } = world();
    let one = server.get("/v1/requirements/45-cfr-164.312(d)?from=2026-05-26T12:00:01Z&to=2026-06-01").json();
    assert_eq!(one["id"], "164.312(d)");
    assert_eq!(one["status"], "direct");
    assert_eq!(
        (one["artifacts"].as_u64(), one["hosts"].as_u64(), one["clients"].as_u64()),
        (Some(3), Some(1), Some(1))
    );
    assert_eq!(one["last"], "2026-05-27T00:00:00.000000Z");
    let rows = one["evidence"].as_array().unwrap();
    let row = |kind: &str| rows.iter().find(|r| r["types"][0] == kind).unwrap();
    assert_eq!(row("app.authentication")["relation"], "satisfies");
    assert!(row("app.authentication")["proof"][0]["proof"].as_str().unwrap().contains("receipt alone"));
    assert!(row("session.opened")["does_not_show"].as_str().unwrap().contains("second factor"));
    assert_eq!(row("session.opened")["sources"][0]["name"], "i-1");
    // Encoded as a browser does.
    assert_eq!(server.get("/v1/requirements/164.312%28d%29").json()["id"], "164.312(d)");
}

#[test]
fn the_list_of_requirements_has_every_one_and_says_where_there_is_nothing() {
    let World { server, .. } = world();
    let all = server.get("/v1/requirements?framework=hipaa").json();
    let list = all["requirements"].as_array().unwrap();
    assert_eq!(list.len(), 69);
    let status = |id: &str| list.iter().find(|r| r["id"] == id).unwrap()["status"].as_str().unwrap();
    assert_eq!(
        (status("164.312(a)(1)"), status("164.312(b)"), status("164.308(a)(1)(ii)(D)"), status("164.312(c)(2)")),
        ("direct", "supporting", "none", "no_type")
    );
    assert!(all["frameworks"][0]["note"].as_str().unwrap().contains("not in force"));
    let none = server.get("/v1/requirements?status=no_type&framework=nist-800-53-r5").json();
    assert!(none["requirements"].as_array().unwrap().iter().any(|r| r["id"] == "IA-2(1)"));
}

#[test]
fn hosts_are_listed_with_how_they_stand() {
    let World { server, ledger, .. } = world();
    let hosts = server.get("/v1/hosts").json();
    let all = hosts["hosts"].as_array().unwrap();
    let states: Vec<(&str, &str)> =
        all.iter().map(|h| (h["host"].as_str().unwrap(), h["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("i-1", "stopped"), ("i-22", "pending")]);
    assert_eq!(
        (all[0]["ledgers"][0]["ledger"].as_str(), all[0]["ledgers"][0]["seq"].as_u64()),
        (Some(&*ledger), Some(6))
    );
    let first = server.get("/v1/hosts?limit=1").json();
    assert_eq!(first["next"], "i-1");
    assert_eq!(server.get("/v1/hosts?limit=1&after=i-1").json()["hosts"][0]["host"], "i-22");
}

#[test]
fn receipts_verify_with_the_key_that_the_server_names() {
    let World { server, ledger, .. } = world();
    let key = server.ask("GET", "/v1/server", None, &[], "").json()["public_key"].as_str().unwrap().to_owned();
    let key = ssh_key::PublicKey::from_openssh(&key).unwrap();
    for path in [format!("/v1/receipts?ledger={ledger}"), "/v1/receipts?host=i-1".to_owned()] {
        let text = server.get(&path).text();
        let receipts: Vec<_> = text.lines().map(|l| record::SignedReceipt::parse(l.as_bytes()).unwrap()).collect();
        assert_eq!(receipts.len(), 1);
        assert!(receipts[0].is_signed_by(&key));
        assert!(receipts[0].receipt().signer.is_some(), "a host's key signs it");
        assert_eq!((receipts[0].receipt().seq, receipts[0].receipt().ledger.as_str()), (6, ledger.as_str()));
    }
    assert_eq!(server.get("/v1/receipts?host=i-9").status, 404);
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_would_work() {
    let World { server, .. } = world();
    for (path, status, says) in [
        ("/v1/artifacts?from=yesterday", 400, "2026-11-01T00:00:00Z"),
        ("/v1/artifacts?from=2026-02-01&to=2026-01-01", 400, "from has to be before to"),
        ("/v1/artifacts?limit=0", 400, "1 to 1000"),
        ("/v1/artifacts?limit=-1", 400, "invalid digit"),
        ("/v1/artifacts?colour=red", 400, "unknown field"),
        ("/v1/artifacts?person=a&person=b", 400, "duplicate field"),
        ("/v1/artifacts?person=..%2Fetc", 400, "is not a valid person"),
        ("/v1/artifacts?cursor=c1_1_2", 400, "take `next`"),
        ("/v1/artifacts?type=Session", 400, "no artifact type"),
        ("/v1/artifacts?form=record", 400, "application/x-ndjson"),
        ("/v1/artifacts?form=ecs", 400, "form=ecs is for JSON lines"),
        ("/v1/artifacts?form=ocsf", 400, "form=ocsf is for JSON lines"),
        ("/v1/artifacts?requirement=164.999", 404, "GET /v1/requirements lists them"),
        ("/v1/artifacts?host=i-9", 404, "GET /v1/hosts"),
        ("/v1/artifacts?%00=1", 400, "unknown field"),
        ("/v1/receipts", 400, "give one of"),
        ("/v1/requirements?framework=pci", 404, "hipaa nist-800-53-r5"),
        ("/v1/requirements/164.312(z)", 404, "no requirement"),
        ("/v1/requirements/%FF", 400, "UTF-8"),
        ("/v1/hosts?state=asleep", 400, "unknown variant"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{path}: {}", answer.text());
    }
}

#[test]
fn only_auditors_and_admins_read_and_only_admins_register_reviewers() {
    let World { server, .. } = world();
    let paths = [
        "/v1/artifacts",
        "/v1/hosts",
        "/v1/incidents",
        "/v1/receipts?host=i-1",
        "/v1/requirements",
        "/v1/requirements/AC-2",
    ];
    for path in paths {
        assert_eq!(server.ask("GET", path, None, &[], "").status, 401, "{path}");
        assert_eq!(server.ask("GET", path, Some(&server.client), &[], "").status, 403, "{path}");
        assert_eq!(server.ask("GET", path, Some(&server.admin), &[], "").status, 200, "{path}");
    }
    assert_eq!(server.get("/v1/reviewers").status, 403);
}

#[test]
fn every_read_stands_in_the_servers_own_ledger() {
    let World { server, .. } = world();
    server.get("/v1/artifacts?person=frank");
    // Whom it is about stands there, however it is written.
    let padded = format!("/v1/artifacts?{}=&person=%66r%61nk", "%63lient");
    server.get(&padded);
    server.get("/v1/requirements/AC-2");
    let page = server.get("/v1/artifacts?type=evidence.read").json();
    let read: Vec<(&str, Value)> = page["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["data"]["detail"]["what"].as_str().unwrap(), a["data"]["detail"]["query"].clone()))
        .collect();
    assert_eq!(
        read,
        [
            ("artifacts", json!({ "person": "frank" })),
            ("artifacts", json!({ "client": "", "person": "frank" })),
            ("requirement", json!({ "requirement": "nist-800-53-r5-AC-2" })),
            ("artifacts", json!({ "type": "evidence.read" })),
        ]
    );
    assert_eq!(server.get(&format!("/v1/artifacts?client={}", "x".repeat(5000))).status, 400, "nothing is cut off");
    // What the server states is no evidence of what hosts do.
    assert_eq!(server.get("/v1/requirements/AU-9(3)").json()["evidence"][0]["artifacts"], 1);
}

const ALICE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 alice@laptop";

#[test]
fn an_admin_registers_lists_and_takes_back_reviewers() {
    let World { server, .. } = world();
    let admin = |method: &str, path: &str, body: &str| {
        server.ask(method, path, Some(&server.admin), &["Content-Type: application/json"], body)
    };
    let body = format!("{{\"person\":\"alice\",\"public_key\":\"{ALICE}\"}}");
    let first = admin("POST", "/v1/reviewers", &body);
    assert_eq!((first.status, first.json()["person"].as_str()), (201, Some("alice")));
    assert_eq!(admin("POST", "/v1/reviewers", &body).status, 200);
    assert_eq!(admin("GET", "/v1/reviewers", "").json()["reviewers"].as_array().unwrap().len(), 1);
    assert_eq!(admin("DELETE", "/v1/reviewers/alice", "").json()["keys"], 1);
    assert_eq!(admin("DELETE", "/v1/reviewers/alice", "").status, 404);
    assert!(admin("GET", "/v1/reviewers", "").json()["reviewers"][0]["revoked"].is_string());
    assert_eq!(admin("POST", "/v1/reviewers", &body).status, 201);
    for (body, status) in [
        ("{}", 400),
        ("{\"person\":\"alice\",\"public_key\":\"ssh-rsa AAAA\"}", 400),
        ("{\"person\":\"../x\",\"public_key\":\"x\"}", 400),
        ("{\"person\":\"alice\",\"public_key\":\"x\",\"role\":\"admin\"}", 400),
    ] {
        assert_eq!(admin("POST", "/v1/reviewers", body).status, status, "{body}");
    }
    assert_eq!(server.ask("POST", "/v1/reviewers", Some(&server.admin), &[], &body).status, 415);
    let kept = server.get("/v1/artifacts?type=reviewer.*").json();
    assert_eq!(kept["artifacts"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_described_is_what_is_served() {
    let World { server, .. } = world();
    let answer = server.ask("GET", "/openapi.json", None, &[], "");
    let api = answer.json();
    assert_eq!((answer.status, api["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(answer.text(), compliance_api::openapi::text());
    for (path, item) in api["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "AC-2").replace("{person}", "nobody").replace("{ledger}", &"0".repeat(32));
        for method in item.as_object().unwrap().keys() {
            let answer = server.ask(&method.to_uppercase(), &path, None, &[], "");
            // This server has no [stack]: what is about documents says so.
            let served = ![404, 405].contains(&answer.status) || answer.json()["code"] == "no_stack";
            assert!(served, "{method} {path}: {}", answer.status);
        }
    }
    let text = answer.text();
    for reference in text.split("\"$ref\": \"#").skip(1).filter_map(|t| t.split('"').next()) {
        assert!(api.pointer(reference).is_some(), "{reference}");
    }
}
