//! Checkpoints: what anybody can keep, how a ledger is held against them, and who gets proofs.

use std::{collections::BTreeMap, time::Duration};

use compliance_api::{admin::Wanted, token::Role};
use record::{
    Hash,
    checkpoint::{BadProof, HeadProof, Kept, LedgerHead, SignedCheckpoint, root},
};
use serde_json::Value;
use ssh_key::PublicKey;

use crate::common::{Client, Host, Server, database::Two, server::wanted, soon};

fn keys(server: &Server) -> Vec<PublicKey> {
    let said = server.client().get("/v1/server").json();
    let former = said["former_keys"].as_array().unwrap().iter().map(|key| &key["public_key"]);
    std::iter::once(&said["public_key"])
        .chain(former)
        .map(|key| PublicKey::from_openssh(key.as_str().unwrap()).unwrap())
        .collect()
}

fn newest(server: &Server) -> SignedCheckpoint {
    soon("the first checkpoint", || server.client().get("/v1/checkpoint").status == 200);
    let answer = server.client().get("/v1/checkpoint");
    SignedCheckpoint::parse(answer.body.as_bytes()).unwrap()
}

fn proof(client: &Client, number: u64, host: &Host) -> HeadProof {
    let answer = client.get(&format!("/v1/checkpoints/{number}/proof?ledger={}", host.ledger));
    assert_eq!(answer.status, 200, "{answer:?}");
    HeadProof::parse(answer.body.as_bytes()).unwrap()
}

fn number(note: &SignedCheckpoint) -> u64 {
    note.checkpoint().number
}

/// With checkpoints that come often.
fn often() -> Server {
    Server::start_with(|config| config.checkpoint.every = Duration::from_millis(200))
}

/// The number of a checkpoint that is made after now.
fn next(server: &Server) -> u64 {
    let now = number(&newest(server));
    soon("another checkpoint", || number(&newest(server)) > now + 1);
    number(&newest(server))
}

#[test]
fn each_ledgers_head_is_proven_in_a_checkpoint_that_was_kept_and_none_goes_back() {
    let server = often();
    let (mut one, two) = (server.host("i-1"), server.host("i-2"));
    let auditor = server.client().with(&server.token(wanted(Role::Auditor)));
    let earlier = next(&server);
    let before = proof(&auditor, earlier, &one);
    assert_eq!((before.head.seq, before.head.hash), (2, one.head()));
    one.logins(3);
    assert_eq!(server.client().ingest(&one.batch(3..=5)).status, 200);
    let later = next(&server);
    let mut kept = Kept::by(keys(&server));
    kept.add_note(&newest(&server)).unwrap();
    kept.add(&before).unwrap();
    kept.add(&proof(&auditor, later, &one)).unwrap();
    kept.add(&proof(&auditor, later, &two)).unwrap();
    // Of a checkpoint from before, what was there then is proven still.
    assert_eq!(proof(&auditor, earlier, &one).text(), before.text());
    let after = proof(&auditor, later, &one);
    assert_eq!((after.head.seq, after.head.hash), (5, one.head()));
    assert!(matches!(Kept::by(vec![]).add(&after), Err(BadProof::Proof(_))));
}

#[test]
fn the_python_of_the_documents_says_the_same_of_a_proof() {
    let server = often();
    let host = server.host("i-1");
    let auditor = server.client().with(&server.token(wanted(Role::Auditor)));
    let proof = proof(&auditor, next(&server), &host);
    let page = include_str!("../../../../docs/COMPLIANCE_API.md");
    let checks = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let other = HeadProof { head: LedgerHead { seq: 1, ..proof.head.clone() }, ..proof.clone() };
    for (proof, holds) in [(proof, true), (other, false)] {
        let file = server.state.path().join("proof");
        std::fs::write(&file, proof.text()).unwrap();
        let ran = std::process::Command::new("python3").args(["-c", checks]).arg(&file).output().unwrap();
        assert_eq!(ran.status.success(), holds, "{ran:?}");
    }
}

#[test]
fn a_checkpoint_is_over_every_ledger_and_stands_in_the_servers_own() {
    let server = often();
    let host = server.host("i-1");
    let numbered = next(&server);
    let database = server.database();
    let Two(newest, note): Two<i64, String> =
        database.one(&format!("SELECT newest, note FROM checkpoints WHERE number = {numbered}"));
    let sql = format!("SELECT ledger, seq, bytes FROM records WHERE id <= {newest} ORDER BY id");
    let rows: Vec<Two<String, Two<u64, Vec<u8>>>> = database.all(&sql);
    let mut heads = BTreeMap::new();
    for row in rows {
        let Two(ledger, Two(seq, mut line)) = row;
        line.push(b'\n');
        heads.insert(ledger.clone(), LedgerHead { ledger: ledger.parse().unwrap(), seq, hash: Hash::of(&line) });
    }
    assert!(heads.contains_key(host.ledger.as_str()) && heads.len() == 2, "its own, and the host's: {heads:?}");
    let leaves: Vec<Hash> = heads.values().map(LedgerHead::leaf).collect();
    let signed = SignedCheckpoint::parse(note.as_bytes()).unwrap();
    assert!(signed.is_signed_by(&keys(&server)[0]));
    assert_eq!((signed.checkpoint().size, signed.checkpoint().root), (2, root(&leaves)));
    let stated: Vec<Vec<u8>> = database.all("SELECT bytes FROM records WHERE type = 'server.checkpoint'");
    let named = format!("\"checkpoint\":{numbered},");
    assert_eq!(stated.iter().filter(|line| String::from_utf8_lossy(line).contains(&named)).count(), 1);
}

#[test]
fn checkpoints_are_listed_to_anybody_and_stay_after_a_restart() {
    let server = often();
    let last = next(&server);
    let page = server.client().get("/v1/checkpoints?limit=2").json();
    let numbers: Vec<u64> =
        page["checkpoints"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers, page["next"].as_u64()), (vec![1, 2], Some(2)));
    let server = server.restart();
    let rest = server.client().get(&format!("/v1/checkpoints?after={}&limit=1000", last - 1)).json();
    assert_eq!(rest["checkpoints"][0]["number"].as_u64(), Some(last));
    for query in ["after=-1", "after=9007199254740992", "limit=0", "before=1"] {
        assert_eq!(server.client().get(&format!("/v1/checkpoints?{query}")).status, 400, "{query}");
    }
}

#[test]
fn an_auditor_of_one_stack_gets_no_proof_of_anothers_ledger_and_each_is_on_record() {
    let server = Server::start();
    let (web, db) = (server.host("i-1"), Host::new("i-2", "db"));
    assert_eq!(server.client().with(&server.enrol_token("db")).ingest(&db.all()).status, 200);
    let server = server.restart();
    let number = number(&newest(&server));
    let of_web = Wanted { stack: Some("web".parse().unwrap()), ..wanted(Role::Auditor) };
    let of_web = server.client().with(&server.token(of_web));
    proof(&of_web, number, &web);
    let path = |number: u64, ledger: &str| format!("/v1/checkpoints/{number}/proof?ledger={ledger}");
    assert_eq!(of_web.get(&path(number, db.ledger.as_str())).status, 404);
    assert_eq!(of_web.get(&path(number + 1000, web.ledger.as_str())).status, 404);
    assert_eq!(of_web.get(&path(number, &"0".repeat(32))).status, 404);
    assert_eq!(of_web.get(&path(number, "..")).status, 400);
    assert_eq!(server.client().get(&path(number, web.ledger.as_str())).status, 401);
    let reads = server.admin().get("/v1/artifacts?type=evidence.read").json();
    let of_proofs = |one: &&Value| one["data"]["detail"]["what"] == "proof";
    assert_eq!(reads["artifacts"].as_array().unwrap().iter().filter(of_proofs).count(), 4);
}

#[test]
fn a_database_that_was_changed_behind_a_checkpoint_gives_no_proof_for_it() {
    let server = Server::start();
    let host = server.host("i-1");
    let server = server.restart();
    let number = number(&newest(&server));
    let auditor = server.client().with(&server.token(wanted(Role::Auditor)));
    proof(&auditor, number, &host);
    let of_host = format!("SELECT id FROM records WHERE ledger = '{}' AND seq = 2", host.ledger);
    let id: i64 = server.one(&of_host);
    // As good a hash as any: that of the first record.
    server
        .database()
        .run(&format!("UPDATE artifacts SET hash = (SELECT hash FROM artifacts WHERE id = 1) WHERE id = {id}"));
    let answer = auditor.get(&format!("/v1/checkpoints/{number}/proof?ledger={}", host.ledger));
    assert_eq!(answer.status, 500, "{answer:?}");
}
