//! Case files: what is in one, who gets what, and that it holds without the server.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
};

use case::{Report, verify};
use compliance_api::{admin::Wanted, token::Role};
use jiff::{SignedDuration, Timestamp};
use record::{ArtifactType, Draft};
use serde_json::{Value, json};
use ssh_key::PublicKey;

use crate::common::{
    Client, Host, Server,
    acme::{acme_with_host, published},
    company::{document, grant, signed},
    server::wanted,
};

/// An answer of any length, as its bytes.
fn fetch(client: &Client, query: &str) -> (u16, Vec<u8>) {
    let mut stream = client.connect();
    let token = client.token.as_deref().unwrap_or_default();
    let head = format!(
        "GET /v1/case?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (mut rest, mut body) = (&all[end + 4..], Vec::new());
    if !head.contains("transfer-encoding: chunked") {
        return (status, rest.to_vec());
    }
    assert!(head.contains("content-type: application/x-tar"), "{head}");
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
        if size == 0 {
            return (status, body);
        }
    }
}

fn server_key(server: &Server) -> PublicKey {
    PublicKey::from_openssh(server.client().get("/v1/server").json()["public_key"].as_str().unwrap()).unwrap()
}

/// A case that was given, and what verifying it says.
#[track_caller]
fn given(server: &Server, client: &Client, query: &str) -> (Vec<u8>, Report) {
    let (status, archive) = fetch(client, query);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&archive));
    let report = verify(&*archive, Some(vec![server_key(server)]));
    (archive, report)
}

fn auditor(server: &Server) -> Client {
    server.client().with(&server.token(wanted(Role::Auditor)))
}

fn holds(archive: &[u8], text: &str) -> bool {
    archive.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Two hosts of two stacks on which frank was, a third where he was not, and an application that he used.
fn company() -> (Server, Vec<Host>) {
    let server = Server::start();
    let mut hosts = Vec::new();
    for (name, stack) in [("i-web", "web"), ("i-db", "db"), ("i-idle", "web")] {
        let mut host = Host::new(name, stack);
        if name != "i-idle" {
            host.logins(20);
        }
        let enrolled = server.client().with(&server.enrol_token(stack)).ingest(&host.all());
        assert_eq!(enrolled.status, 200, "{enrolled:?}");
        hosts.push(host);
    }
    let portal = server.token(Wanted { name: Some("portal".to_owned()), ..wanted(Role::Client) });
    let event = |n: u64| {
        json!({"specversion": "1.0", "id": format!("login-{n}"), "source": "/clients/portal", "type": "app.authentication",
            "time": Timestamp::now().to_string(), "data": {"person": "frank", "result": "<script>alert(1)</script>"}})
    };
    let events = Value::from((1..=5).map(event).collect::<Vec<_>>());
    assert_eq!(server.client().with(&portal).ingest(&events.to_string()).status, 200);
    (server.restart(), hosts)
}

#[test]
fn a_case_about_a_person_has_every_ledger_that_matters_and_holds_without_the_server() {
    let (server, hosts) = company();
    let (archive, report) = given(&server, &auditor(&server), "person=frank");
    assert!(report.good, "{:?}", report.findings);
    let mut ledgers: Vec<_> =
        report.ledgers.iter().map(|one| (one.name.as_str(), one.records, one.acknowledged_to)).collect();
    ledgers.sort_unstable();
    assert_eq!(ledgers, [("i-db", 22, 22), ("i-web", 22, 22), ("portal", 5, 5)]);
    assert_eq!(report.checkpoint.is_some(), report.ledgers.iter().all(|one| one.checkpoint_at.is_some()));
    for line in &hosts[0].lines {
        assert!(holds(&archive, line.as_str()), "record {}", line.seq());
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("case.tar"), &archive).unwrap();
    fs::write(dir.path().join("keys"), format!("server {}\n", server_key(&server).to_openssh().unwrap())).unwrap();
    let tools = |program: &str, args: &[&str]| {
        let ran = Command::new(program).args(args).current_dir(dir.path()).output().unwrap();
        (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
    };
    assert!(tools("tar", &["xf", "case.tar"]).0);
    let (good, said) = tools("sh", &["case/verify.sh", "keys"]);
    assert!(good && said.contains("good: 49 records"), "{said}");
    let index = fs::read_to_string(dir.path().join("case/index.html")).unwrap();
    assert!(index.contains("person frank") && index.contains("164.312(d)") && !index.contains("<script"), "{index}");
    let judged: Value = serde_json::from_slice(&fs::read(dir.path().join("case/requirements.json")).unwrap()).unwrap();
    assert!(judged["frameworks"].as_array().unwrap().iter().all(|one| one["edition"].is_string()));
    let data = fs::read_dir(dir.path().join("case/timeline")).unwrap().count();
    assert_eq!(data, 3, "a page for each ledger");
    let reads = server.admin().get("/v1/artifacts?type=evidence.read").json();
    let of_cases: Vec<&Value> = reads["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["data"]["detail"])
        .filter(|detail| detail["what"] == "case")
        .collect();
    assert_eq!(of_cases.len(), 1);
    assert_eq!(of_cases[0]["query"], json!({"person": "frank"}));
}

#[test]
fn an_auditor_of_one_stack_gets_nothing_of_another_in_a_case() {
    let (server, hosts) = company();
    let of_web = Wanted { stack: Some("web".parse().unwrap()), ..wanted(Role::Auditor) };
    let of_web = server.client().with(&server.token(of_web));
    let (archive, report) = given(&server, &of_web, "person=frank");
    assert!(report.good, "{:?}", report.findings);
    assert_eq!(report.ledgers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["i-web"]);
    for secret in ["i-db", hosts[1].ledger.as_str(), "portal", &hosts[1].public_key()] {
        assert!(!holds(&archive, secret), "{secret}");
    }
    let (others, report) = given(&server, &of_web, "host=i-db");
    assert!(report.good && report.ledgers.is_empty(), "{:?}", report.findings);
    for secret in [hosts[1].ledger.as_str(), &hosts[1].public_key()] {
        assert!(!holds(&others, secret), "{secret}");
    }
    assert_eq!(fetch(&of_web, "person=frank&stack=db").0, 403);
}

#[test]
fn of_a_host_that_went_to_another_stack_an_auditor_of_the_first_gets_what_it_stated_there() {
    let (server, mut hosts) = company();
    let host = &mut hosts[0];
    host.stack = "db".to_owned();
    host.logins(3);
    assert_eq!(server.client().ingest(&host.batch(23..=25)).status, 200);
    let of_web = Wanted { stack: Some("web".parse().unwrap()), ..wanted(Role::Auditor) };
    let of_web = server.client().with(&server.token(of_web));
    let (archive, report) = given(&server, &of_web, "host=i-web");
    assert!(report.good, "{:?}", report.findings);
    assert_eq!((report.ledgers[0].records, report.ledgers[0].acknowledged_to), (22, 0), "by the manifest alone");
    assert!(holds(&archive, host.line(22).as_str()) && !holds(&archive, host.line(23).as_str()));
    assert!(!holds(&archive, &host.head().to_string()));
    let (_, report) = given(&server, &auditor(&server), "host=i-web");
    assert!(report.good && report.ledgers[0].records == 25, "{report:?}");
}

#[test]
fn a_case_of_a_window_begins_and_ends_in_the_middle_of_a_ledger_and_holds() {
    let (server, hosts) = company();
    let begin = hosts[0].time - SignedDuration::from_secs(15);
    let query = format!("host=i-web&from={begin}&to={}", begin + SignedDuration::from_secs(6));
    let (_, report) = given(&server, &auditor(&server), &query);
    assert!(report.good, "{:?}", report.findings);
    assert_eq!((report.ledgers[0].records, report.ledgers[0].runs), (6, 1));
    let within = Wanted { from: Some(begin), ..wanted(Role::Auditor) };
    let within = server.client().with(&server.token(within));
    let (archive, report) = given(&server, &within, "host=i-web");
    assert!(report.good && report.ledgers[0].records == 16, "{report:?}");
    assert!(!holds(&archive, hosts[0].line(5).as_str()), "what was before is not shown");
    assert_eq!(fetch(&within, "host=i-web&from=2024-01-01").0, 403);
}

#[test]
fn a_case_has_the_documents_that_opened_access_with_their_approvers_signatures() {
    let (server, mut host, _) = acme_with_host();
    let document = document(grant("ubuntu", "INC-42 <script>"));
    published(&server, &signed(&document, &["alice approves", "bob approves"]));
    let mut draft = Draft::new(ArtifactType::GrantCreated, "frank may log in to ubuntu");
    draft.person = Some("frank".parse().unwrap());
    let draft = draft
        .with("document", document.id().to_string())
        .with("approvers", json!(["alice", "bob"]))
        .with("expires_at", "2026-12-01T00:00:00Z")
        .with("why", "INC-42 <script>");
    let first = host.lines.len() as u64 + 1;
    host.state(&draft);
    let unknown = Draft::new(ArtifactType::GrantCreated, "another").with("document", "ab".repeat(32));
    host.state(&unknown);
    assert_eq!(server.client().ingest(&host.batch(first..=first + 1)).status, 200);
    let (archive, report) = given(&server, &auditor(&server), "person=frank");
    assert!(report.good, "{:?}", report.findings);
    assert_eq!((report.documents, report.signatures), (1, 2));
    assert!(report.missing.iter().any(|one| one.contains(&"ab".repeat(32))), "{:?}", report.missing);
    assert!(holds(&archive, "alice, bob") && holds(&archive, "INC-42 &lt;script&gt;"));
}

#[test]
fn who_may_not_read_gets_no_case_and_a_question_about_nobody_is_refused() {
    let (server, _) = company();
    let auditor = auditor(&server);
    for (query, status) in [
        ("", 400),
        ("from=2026-01-01", 400),
        ("person=frank&from=2026-02-01&to=2026-01-01", 400),
        ("person=..%2F", 400),
        ("person=frank&person=ann", 400),
        ("person=frank&form=record", 400),
    ] {
        assert_eq!(fetch(&auditor, query).0, status, "{query}");
    }
    assert_eq!(fetch(&server.client(), "person=frank").0, 401);
    let client = server.token(Wanted { name: Some("x".to_owned()), ..wanted(Role::Client) });
    assert_eq!(fetch(&server.client().with(&client), "person=frank").0, 403);
    let (_, report) = given(&server, &auditor, "person=nobody");
    assert!(report.good && report.ledgers.is_empty());
}
