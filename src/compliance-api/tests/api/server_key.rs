//! The server's key: it is what the database says, or the server does not start; and it is replaced by its owner alone.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
};

use compliance_api::{
    config::Config,
    identity::{self, KEY_FILE},
    store::Store,
};
use record::SignedReceipt;
use ssh_key::PublicKey;

use crate::common::{Server, database::store_toml};

fn refused(config: &Config) -> String {
    let error = Store::open(config).unwrap_err();
    compliance_api::describe::describe(&error)
}

#[test]
fn a_server_whose_key_is_lost_or_another_does_not_start_and_says_which_is_missing() {
    let mut server = Server::start();
    server.host("i-1");
    server.end();
    let (path, config) = (server.state.path().join(KEY_FILE), server.config.clone());
    let kept = fs::read(&path).unwrap();
    let public = PublicKey::read_openssh_file(&server.state.path().join("server_key.pub")).unwrap();
    let wanted = public.fingerprint(ssh_key::HashAlg::Sha256).to_string();
    fs::remove_file(&path).unwrap();
    let said = refused(&config);
    assert!(said.contains("server_key is missing") && said.contains(&wanted) && said.contains("backup"), "{said}");
    assert!(!path.exists(), "none was made in its place");
    let other = tempfile::tempdir().unwrap();
    identity::load_or_make(other.path()).unwrap();
    fs::copy(other.path().join(KEY_FILE), &path).unwrap();
    let said = refused(&config);
    assert!(said.contains(&wanted) && said.contains("restore"), "{said}");
    fs::write(&path, kept).unwrap();
    Store::open(&config).unwrap().close();
}

#[test]
fn a_key_is_replaced_by_a_command_and_what_the_one_before_signed_stays_as_it_was() {
    let server = Server::start();
    let mut host = server.host("i-1");
    let admin = server.admin();
    let key = |of: &str| PublicKey::from_openssh(of).unwrap();
    let public = |server: &Server| server.client().get("/v1/server").json()["public_key"].as_str().unwrap().to_owned();
    let before = public(&server);
    let receipts = format!("/v1/receipts?ledger={}", host.ledger);
    let config = server.state.path().join("config.toml");
    fs::write(&config, format!("state = {:?}\n{}", server.state.path(), store_toml(server.state.path()))).unwrap();
    let rotate = || {
        let program = env!("CARGO_BIN_EXE_compliance-api");
        Command::new(program).args(["--config", config.to_str().unwrap(), "server-key", "rotate"]).output().unwrap()
    };
    let done = rotate();
    assert!(done.status.success(), "{done:?}");
    let first = admin.get(&receipts);
    assert_eq!(first.status, 503, "a server that has the old key states nothing more: {first:?}");
    let server = server.restart();
    let admin = server.admin();
    let after = public(&server);
    assert_ne!(before, after);
    let said = server.client().get("/v1/server").json();
    assert_eq!(said["former_keys"][0]["public_key"], before.as_str(), "{said}");
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(3..=3)).status, 200);
    let mut stream = admin.connect();
    let token = admin.token.unwrap();
    let head =
        format!("GET {receipts} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    // It comes in chunks, with their sizes between the lines.
    let all = all.lines().filter(|line| line.starts_with('{'));
    let all: Vec<SignedReceipt> = all.map(|line| SignedReceipt::parse(line.as_bytes()).unwrap()).collect();
    assert_eq!(all.len(), 2);
    assert!(all[0].is_signed_by(&key(&before)) && all[1].is_signed_by(&key(&after)));
    // The server's own ledger holds from its first record to its last.
    let database = server.database();
    let rows: Vec<Vec<u8>> = database.all("SELECT bytes FROM records WHERE kind = 'server' ORDER BY seq");
    let mut verifier = record::Verifier::new(record::Depth::Full, record::Trust::Key(Box::new(key(&before))));
    for bytes in &rows {
        verifier.line(&[bytes, &b"\n"[..]].concat());
    }
    let verdict = verifier.finish();
    assert!(verdict.is_clean(), "{:?}", verdict.findings);
}

#[test]
fn hosts_can_know_the_next_key_before_it_signs() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(2);
    let config = server.state.path().join("config.toml");
    fs::write(&config, format!("state = {:?}\n{}", server.state.path(), store_toml(server.state.path()))).unwrap();
    let run = |command: &str| {
        let program = env!("CARGO_BIN_EXE_compliance-api");
        let done = Command::new(program).args(["--config", config.to_str().unwrap(), "server-key", command]).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let next = run("next");
    assert_eq!(run("next"), next, "it stays the next one");
    let key = PublicKey::from_openssh(&next).unwrap();
    let receipt = |server: &Server, seq: u64| {
        let answer = server.client().ingest(&host.batch(seq..=seq));
        assert_eq!(answer.status, 200, "{answer:?}");
        SignedReceipt::parse(answer.json()["receipt"].to_string().as_bytes()).unwrap()
    };
    assert!(!receipt(&server, 3).is_signed_by(&key), "it signs nothing yet");
    assert_eq!(run("rotate"), key.fingerprint(ssh_key::HashAlg::Sha256).to_string());
    let server = server.restart();
    assert!(receipt(&server, 4).is_signed_by(&key));
    assert_ne!(run("next"), next, "the one after it");
    assert!(receipt(&server, 4).is_signed_by(&key));
}
