//! A server that was put back from a backup, and one with another key: what hosts that go on make of it.

use std::fs;

use record::SignedReceipt;
use serde_json::{Value, json};
use ssh_key::PublicKey;

use crate::{
    Host, Server, assert_receipts, assert_whole, company, configure,
    documents::{Hearing, of_acme, post},
};

#[test]
fn from_a_backup_a_server_gets_again_what_shippers_have_and_their_feed_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, token) = of_acme(dir.path());
    let mut hearing = Hearing::begin(&dir.path().join("0"), &server, &token);
    let roster = company::signed(&company::document(company::roster(1)), &["ceo"]);
    post(&server, &roster);
    hearing.is_answered(&Value::Null, 1);
    hearing.has_heard(1);
    hearing.host.append(30);
    hearing.host.is_acknowledged();
    let backup = dir.path().join("backup").display().to_string();
    server.run(&["backup", &backup]);
    // What is lost with the server.
    let grant = company::signed(&company::document(company::grant("deploy", "INC-42")), &["alice approves"]);
    post(&server, &grant);
    hearing.is_answered(&json!(1), 2);
    hearing.has_heard(2);
    hearing.host.append(30);
    hearing.host.is_acknowledged();
    server.kill();
    fs::rename(dir.path().join("store"), dir.path().join("lost")).unwrap();
    server.run(&["restore", &backup]);
    let restored = server.stored(&hearing.host.id).len() as u64;
    assert_eq!(restored, hearing.host.seq - 30);
    server.start();
    hearing.host.says("it holds fewer documents than were heard of it");
    hearing.is_answered(&Value::Null, 1);
    // With its next record it sends again what it had a receipt for.
    hearing.host.append(1);
    hearing.host.is_acknowledged();
    assert_whole(&server, &hearing.host);
    assert_receipts(&hearing.host);
}

/// By which key the newest receipt is that a host has kept.
fn newest_signer(host: &Host) -> PublicKey {
    let kept = fs::read(host.paths.state.join(format!("receipts/{}.jsonl", host.id))).unwrap();
    let line = kept.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
    let signed = SignedReceipt::parse(line).unwrap();
    let signer = signed.signer().unwrap();
    assert!(signed.is_signed_by(&signer) && signed.receipt().seq == host.seq);
    signer
}

#[test]
fn hosts_that_know_the_next_key_go_on_when_the_servers_key_is_replaced_and_others_keep_what_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "");
    let token = server.token();
    server.start();
    let url = format!("http://{}", server.address);
    let home = |number: u8| dir.path().join(number.to_string());
    let mut hosts = [0, 1].map(|number| Host::begin(&home(number), number, &url, &token));
    let known_to = |number: u8, keys: &[&str]| {
        configure(&home(number), &json!({ "url": url, "receipt_keys": keys }));
    };
    for host in &mut hosts {
        host.ship();
        host.is_acknowledged();
    }
    let old = fs::read_to_string(dir.path().join("store/server_key.pub")).unwrap().trim().to_owned();
    let next = server.run(&["server-key", "next"]);
    let key = |text: &str| PublicKey::from_openssh(text).unwrap().key_data().clone();
    known_to(0, &[&old, &next]);
    known_to(1, &[&old]);
    for host in &mut hosts {
        host.append(5);
        host.is_acknowledged();
        assert_eq!(*newest_signer(host).key_data(), key(&old), "the next key signs nothing yet");
    }
    server.run(&["server-key", "rotate"]);
    server.kill();
    server.start();
    hosts.iter_mut().for_each(|host| host.append(5));
    hosts[0].is_acknowledged();
    assert_eq!(*newest_signer(&hosts[0]).key_data(), key(&next));
    hosts[1].says("not signed by a key in ship.api.receipt_keys");
    assert_eq!(hosts[1].acknowledged(), hosts[1].seq - 5, "it has no receipt that it believes");
    // The old key is taken out; whoever had not heard of the new one learns of it.
    for (number, host) in (0..).zip(&mut hosts) {
        known_to(number, &[&next]);
        host.append(5);
        host.is_acknowledged();
        assert_eq!(*newest_signer(host).key_data(), key(&next));
        assert_whole(&server, host);
        assert_receipts(host);
    }
}
