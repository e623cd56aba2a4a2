//! Hosts over time: silent ones, those that stopped, types that nobody knows yet, reviews by people, TLS.

use std::{fs, io::Write, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use record::{ArtifactType, Draft};
use serde_json::json;
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::common::{Host, Server, http::read_answer, soon};
use compliance_api::config::{ClientCertificates, Config, Tls};

#[test]
fn a_host_past_its_next_by_is_silent_until_it_is_heard_of_and_one_that_stopped_is_not() {
    let server = Server::start_with(|c| c.limits.silence_grace = Duration::from_millis(300));
    let (mut silent, mut stopped, mut fresh) =
        (server.host("i-silent"), server.host("i-stopped"), server.host("i-fresh"));
    let sweep = |next: i64| {
        let next = Timestamp::now() + SignedDuration::from_secs(next);
        Draft::new(ArtifactType::SweepAttested, "all is well").with("next_by", format!("{next:.6}"))
    };
    silent.state(&sweep(-5));
    stopped.state(&sweep(-5));
    stopped.state(&Draft::new(ArtifactType::DaemonStopped, "it stopped"));
    fresh.state(&sweep(3600));
    for host in [&silent, &stopped, &fresh] {
        assert_eq!(server.client().ingest(&host.all()).status, 200);
    }
    std::thread::sleep(Duration::from_millis(500));
    // Looked for at the start, and each minute.
    let server = server.restart();
    std::thread::sleep(Duration::from_millis(1000));
    let open = "SELECT max(subject) FROM incidents WHERE kind = 'silent' AND ended IS NULL";
    let who: Option<String> = server.one(open);
    assert_eq!(who.as_deref(), Some("i-silent"));
    let mut forked = silent.clone();
    silent.logins(1);
    let second = Host::new("i-silent", "web");
    let client = server.client();
    assert_eq!(client.ingest(&silent.batch(1..=3)).status, 200);
    assert_eq!(client.with(&server.enrol_token("web")).ingest(&second.all()).json()["enrolment"], "pending");
    forked.lines.truncate(2);
    forked.logins(1);
    assert_eq!(client.ingest(&forked.batch(3..=3)).outcome(), (409, "fork".to_owned()));
    let who: Option<String> = server.one(open);
    assert_eq!(who.as_deref(), Some("i-silent"), "a replay, a fork and a ledger that waits do not end it");
    assert_eq!(client.ingest(&silent.batch(4..=4)).status, 200);
    let who: Option<String> = server.one(open);
    assert_eq!(who, None, "it is over, and stays listed");
    assert_eq!(server.count("SELECT count(*) FROM incidents WHERE kind = 'silent'"), 1);
}

#[test]
fn a_type_that_this_server_does_not_know_is_stored_and_flagged() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.state_as("disk.melted");
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(3..=4)).status, 200);
    assert_eq!(server.count("SELECT count(*) FROM records WHERE type = 'disk.melted' AND flags = 2"), 1);
    assert_eq!(
        server.count("SELECT count(*) FROM incidents WHERE kind = 'unknown_type' AND subject = 'disk.melted'"),
        1
    );
}

/// An authority, and a certificate by it for this name, all in PEM.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates(name: &str) -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    Certificates { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Asks over TLS, with this certificate if any. The status, or that it did not come about.
fn asked(server: &Server, trusted: &str, own: Option<&Certificates>) -> Option<u16> {
    let mut stream = connected(server, trusted, own);
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    read_answer(stream).ok().map(|answer| answer.status)
}

fn connected(
    server: &Server,
    trusted: &str,
    own: Option<&Certificates>,
) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap()).unwrap()
        }
    };
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, server.client().connect())
}

#[test]
fn tls_asks_for_a_clients_certificate_as_configured_and_plain_http_is_refused() {
    let (own, clients, strangers) = (certificates("localhost"), certificates("i-1"), certificates("i-1"));
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(files.path().join(name), text).unwrap();
        files.path().join(name)
    };
    let (certificate, key) = (file("tls.crt", &own.certificate), file("tls.key", &own.key));
    let authority = file("clients.crt", &clients.authority);
    let with = |client_certificates| {
        move |c: &mut Config| {
            c.tls = Some(Tls {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: Some(authority.clone()),
                client_certificates,
            });
            c.limits.header_timeout = Duration::from_secs(2);
        }
    };
    let required = Server::start_with(with.clone()(ClientCertificates::Required));
    assert_eq!(asked(&required, &own.authority, Some(&clients)), Some(200));
    assert_eq!(asked(&required, &own.authority, None), None);
    assert_eq!(asked(&required, &own.authority, Some(&strangers)), None);
    assert!(required.client().try_send("GET", "/healthz", "", b"").is_err(), "plain HTTP gets no answer");
    let optional = Server::start_with(with(ClientCertificates::Optional));
    assert_eq!(asked(&optional, &own.authority, None), Some(200));
    assert_eq!(asked(&optional, &own.authority, Some(&clients)), Some(200));
    assert_eq!(asked(&optional, &own.authority, Some(&strangers)), None, "one that is shown is checked");
}

#[test]
fn renewed_certificates_are_read_at_a_reload_and_bad_ones_change_nothing() {
    let (old, new) = (certificates("localhost"), certificates("localhost"));
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    let put = |of: &Certificates| {
        fs::write(&certificate, &of.certificate).unwrap();
        fs::write(&key, &of.key).unwrap();
    };
    put(&old);
    let tls = Tls {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: None,
        client_certificates: ClientCertificates::Optional,
    };
    let server = Server::start_with(|c| c.tls = Some(tls));
    assert_eq!(asked(&server, &old.authority, None), Some(200));
    let reload = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    fs::write(&certificate, "no certificate").unwrap();
    assert!(compliance_api::serve::check(&server.config).is_err(), "`check`, and so the unit's reload, says so");
    reload();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(asked(&server, &old.authority, None), Some(200), "those before stay in force");
    let mut open = connected(&server, &old.authority, None);
    let mut ask = || {
        open.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_answer(&mut open).unwrap().status
    };
    assert_eq!(ask(), 200);
    put(&new);
    compliance_api::serve::check(&server.config).unwrap();
    reload();
    soon("the new ones are in force", || asked(&server, &new.authority, None) == Some(200));
    assert_eq!(ask(), 200, "a connection that is open stays so");
    assert_eq!(asked(&server, &old.authority, None), None);
}

/// A review by alice, signed with this key, as a batch.
fn review(id: &str, key: &PrivateKey) -> String {
    let ago = |hours| format!("{:.0}", Timestamp::now() - SignedDuration::from_hours(hours));
    let mut fields = json!({
        "v": 1, "person": "alice", "from": ago(800), "to": ago(80), "time": ago(2), "statement": "I read every session"
    });
    let message = serde_json_canonicalizer::to_string(&fields).unwrap();
    let signature = key.sign("ssh-access-review", HashAlg::Sha512, message.as_bytes()).unwrap();
    fields["signature"] = signature.to_pem(LineEnding::LF).unwrap().into();
    let data = serde_json_canonicalizer::to_string(&fields).unwrap();
    format!(
        "[{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/people/alice\",\"type\":\"review.completed\",\"data\":{data}}}]"
    )
}

#[test]
fn a_review_is_taken_when_its_persons_registered_key_signed_it_and_needs_no_token() {
    let server = Server::start();
    let (alice, other) = (Host::new("x", "web").key, Host::new("y", "web").key);
    let client = server.client();
    assert_eq!(
        client.ingest(&review("r-1", &alice)).outcome(),
        (422, "not_authentic".to_owned()),
        "not registered yet"
    );
    let public_key = alice.public_key().to_openssh().unwrap();
    let added = server.admin().post("/v1/reviewers", &json!({"person": "alice", "public_key": public_key}));
    assert_eq!(added.status, 201, "{added:?}");
    let signed = review("r-1", &alice);
    assert_eq!(client.ingest(&review("r-1", &other)).outcome(), (422, "not_authentic".to_owned()));
    let taken = client.ingest(&signed);
    assert_eq!((taken.status, &taken.json()["head"]["seq"]), (200, &json!(1)), "{taken:?}");
    assert_eq!(client.ingest(&signed).json()["stored"], 0);
    let mallory = review("r-2", &alice).replace("/people/alice", "/people/mallory");
    assert_eq!(client.ingest(&mallory).outcome(), (422, "malformed_review".to_owned()), "it is a review by alice");
    assert_eq!(
        server.count("SELECT count(*) FROM reviews JOIN records ON records.id = artifact AND kind = 'person'"),
        1
    );
}

#[test]
fn a_review_that_is_posted_again_under_other_ids_is_stored_once() {
    let server = Server::start();
    let alice = Host::new("x", "web").key;
    let public_key = alice.public_key().to_openssh().unwrap();
    let added = server.admin().post("/v1/reviewers", &json!({"person": "alice", "public_key": public_key}));
    assert_eq!(added.status, 201, "{added:?}");
    let signed = review("r-0", &alice);
    let client = server.client();
    assert_eq!(client.ingest(&signed).json()["stored"], 1);
    for n in 1..20 {
        let copy = client.ingest(&signed.replace("\"r-0\"", &format!("\"r-{n}\"")));
        assert_eq!((copy.status, &copy.json()["accepted"], &copy.json()["stored"]), (200, &json!(1), &json!(0)));
    }
    let twice = signed.replace("\"r-0\"", "\"r-90\"").replace("}}]", &format!("}}}},{}", &signed[1..]));
    assert_eq!(client.ingest(&twice).json()["stored"], 0, "nor within a batch");
    assert_eq!(server.count("SELECT count(*) FROM records WHERE type = 'review.completed'"), 1);
    assert_eq!(server.count("SELECT count(*) FROM reviews"), 1);
    let asked = server.admin().get("/v1/requirements/164.308(a)(1)(ii)(D)").json();
    assert_eq!(asked["people"], 1);
    let reviewed = asked["evidence"].as_array().unwrap().iter().find_map(|e| e["reviewed"]["reviews"].as_array());
    assert_eq!(reviewed.unwrap().len(), 1, "{asked}");
}

#[test]
fn one_record_that_names_another_stack_moves_no_history_and_no_date_keeps_a_host_fresh() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(3);
    assert_eq!(server.client().ingest(&host.batch(3..=5)).status, 200);
    host.stack = "db".to_owned();
    let next_by = "2100-01-01T00:00:00.000000Z";
    host.state(&Draft::new(ArtifactType::SweepAttested, "all is well").with("next_by", next_by));
    assert_eq!(server.client().ingest(&host.batch(6..=6)).status, 200);
    let admin = server.admin();
    let logins =
        |stack: &str| admin.get(&format!("/v1/requirements/164.312(d)?stack={stack}")).json()["artifacts"].clone();
    assert_eq!((logins("web"), logins("db")), (json!(3), json!(0)));
    for stack in ["web", "db"] {
        let listed = admin.get(&format!("/v1/hosts?stack={stack}")).json();
        assert_eq!(listed["hosts"][0]["host"], "i-1", "it is still one of the stack that it was enrolled for");
        let sweeps = admin.get(&format!("/v1/requirements/164.312(a)(1)?stack={stack}")).json();
        let due = sweeps["evidence"].as_array().unwrap().iter().find(|e| e["expected"]["from"] == "each_host").unwrap();
        assert_eq!(due["sources"][0]["name"], "i-1", "{due}");
        let ledger = &listed["hosts"][0]["ledgers"][0];
        let promised: Timestamp = ledger["next_by"].as_str().unwrap().parse().unwrap();
        assert!(promised <= Timestamp::now() + SignedDuration::from_hours(25), "{ledger}");
    }
    // A clock in 2099: its sweep counts, and its promise holds from when it came.
    host.time = "2099-01-01T00:00:00Z".parse().unwrap();
    let sweep = Draft::new(ArtifactType::SweepAttested, "all is well").with("next_by", "2099-01-01T00:15:01.000000Z");
    host.state(&sweep);
    host.state(&Draft::new(ArtifactType::DaemonStopped, "it stopped"));
    assert_eq!(server.client().ingest(&host.batch(7..=8)).status, 200);
    let sweeps = admin.get("/v1/requirements/164.312(a)(1)").json();
    let due = sweeps["evidence"].as_array().unwrap().iter().find(|e| e["expected"]["from"] == "each_host").unwrap();
    assert_eq!((&due["artifacts"], &due["clockoff"]), (&json!(2), &json!(1)), "{due}");
    assert!(!due["last"].as_str().unwrap().starts_with("2099"), "{due}");
    let listed = admin.get("/v1/hosts").json();
    let promised: Timestamp = listed["hosts"][0]["ledgers"][0]["next_by"].as_str().unwrap().parse().unwrap();
    assert!(promised <= Timestamp::now() + SignedDuration::from_mins(15), "{listed}");
}

#[test]
fn reviews_without_a_key_are_one_incident_whatever_their_ids() {
    let server = Server::start();
    let nobody = Host::new("x", "web").key;
    for id in ["r-1", "r-2", "r-3"] {
        assert_eq!(server.client().ingest(&review(id, &nobody)).outcome(), (422, "not_authentic".to_owned()));
    }
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'not_authentic' AND subject = '/people'"), 3);
    assert_eq!(server.count("SELECT count(*) FROM incidents"), 1);
}
