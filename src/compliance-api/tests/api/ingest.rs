//! What hosts send, and what becomes of it: outcomes, receipts, enrolment, gaps, forks.

use crate::common::{Host, Server, database::Two, server::wanted};
use compliance_api::{
    admin::{Ends, Wanted},
    token::Role,
};
use record::{ArtifactType, Draft, Hash, SignedReceipt, Verifier};
use serde_json::{Value, json};
use ssh_key::{HashAlg, PublicKey};

/// The server's key, as it says.
fn server_key(server: &Server) -> PublicKey {
    PublicKey::from_openssh(server.client().get("/v1/server").json()["public_key"].as_str().unwrap()).unwrap()
}

fn receipt(answer: &Value) -> SignedReceipt {
    SignedReceipt::parse(answer["receipt"].to_string().as_bytes()).unwrap()
}

#[test]
fn records_are_stored_byte_by_byte_and_answered_with_a_receipt_that_holds() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(20);
    let answer = server.client().ingest(&host.batch(3..=22));
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["accepted"], &json["stored"], &json["enrolment"]), (&json!(20), &json!(20), &json!("enrolled")));
    assert_eq!(json["head"], json!({"ledger": host.ledger.as_str(), "seq": 22, "hash": host.head().to_string()}));
    let receipt = receipt(&json);
    assert!(receipt.is_signed_by(&server_key(&server)));
    assert_eq!((receipt.receipt().seq, receipt.receipt().hash), (22, host.head()));
    let signer = host.key.public_key().fingerprint(HashAlg::Sha256).to_string();
    assert_eq!(receipt.receipt().signer.as_ref().unwrap().as_str(), signer, "it says whose ledger it is over");
    let database = server.database();
    let rows: Vec<Vec<u8>> = database.all("SELECT bytes FROM records WHERE kind = 'host' ORDER BY seq");
    let lines: Vec<Vec<u8>> = host.lines.iter().map(|l| l.as_str().trim_end().as_bytes().to_vec()).collect();
    assert_eq!(rows, lines);
}

#[test]
fn what_comes_again_is_accepted_and_stored_once() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(5);
    assert_eq!(server.client().ingest(&host.batch(3..=5)).json()["stored"], 3);
    let again = server.client().ingest(&host.batch(1..=7)).json();
    assert_eq!((&again["accepted"], &again["stored"], &again["head"]["seq"]), (&json!(7), &json!(2), &json!(7)));
    let all = server.client().ingest(&host.batch(1..=4)).json();
    assert_eq!((&all["accepted"], &all["stored"], &all["head"]["seq"]), (&json!(4), &json!(0), &json!(7)));
    assert_eq!(receipt(&all).receipt().hash, host.head());
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'host'"), 7);
    assert_eq!(server.count("SELECT count(*) FROM incidents"), 0);
}

#[test]
fn each_refusal_says_what_is_wrong_and_the_prefix_is_stored_first() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(6);
    let line = |seq: u64| host.line(seq).as_str().trim_end().to_owned();
    let event = |data: &str| host.event_of(data);
    let good = host.event(host.line(3));
    let cases = [
        ("a changed byte", event(&line(4).replace("frank logged", "grank logged")), 422, "not_authentic"),
        (
            "another order of keys",
            event(
                &line(4)
                    .replacen("{\"account\":\"ubuntu\",", "{", 1)
                    .replace("\"v\":1", "\"v\":1,\"account\":\"ubuntu\""),
            ),
            422,
            "not_canonical",
        ),
        ("a key twice", event(&line(4).replacen('{', "{\"account\":\"ubuntu\",", 1)), 422, "not_canonical"),
        ("a space", event(&line(4).replacen(':', ": ", 1)), 422, "not_canonical"),
        ("another host's source", event(&line(4)).replace("/hosts/i-1", "/hosts/i-2"), 422, "wrong_host"),
        ("another stack's source", event(&line(4)).replace("/stacks/web", "/stacks/db"), 422, "wrong_host"),
        ("another number in id", event(&line(4)).replace("/4\"", "/5\""), 422, "mismatch"),
        (
            "another type",
            event(&line(4)).replace("\"type\":\"session.opened\",\"time\"", "\"type\":\"session.closed\",\"time\""),
            422,
            "mismatch",
        ),
        ("a number left out", event(&line(5)), 409, "gap"),
        ("an attribute twice", event(&line(4)).replacen("\"id\"", "\"id\":\"x\",\"id\"", 1), 400, "malformed"),
        ("data that is text", event(&line(4)).replace(&line(4), "\"x\""), 422, "not_canonical"),
        ("data with a NUL", event(&line(4).replace("frank logged", "frank\\u0000logged")), 422, "not_canonical"),
    ];
    for (what, second, status, code) in cases {
        let answer = server.client().ingest(&format!("[{good},{second}]"));
        assert_eq!(answer.outcome(), (status, code.to_owned()), "{what}: {answer:?}");
        let json = answer.json();
        assert_eq!(
            (&json["index"], &json["accepted"], &json["head"]["seq"]),
            (&json!(1), &json!(1), &json!(3)),
            "{what}"
        );
        assert_eq!(receipt(&json).receipt().seq, 3, "{what}");
        assert!(answer.headers.contains("application/problem+json"), "{what}");
    }
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'host'"), 3);
    assert_eq!(server.client().ingest(&host.batch(4..=8)).status, 200, "the chain is not wedged");
}

#[test]
fn what_is_no_batch_is_refused_whole() {
    let server = Server::start();
    let host = server.host("i-1");
    let batch = host.all();
    let client = server.client();
    let media = "application/cloudevents-batch+json";
    for (what, media, body, status, code) in [
        ("no media type", "text/plain", batch.clone(), 415, "media_type"),
        ("half a body", media, batch[..batch.len() - 2].to_owned(), 400, "malformed"),
        ("one event alone", media, host.event(host.line(1)), 400, "malformed"),
        ("nothing", media, String::new(), 400, "malformed"),
        ("no event", media, "[]".to_owned(), 400, "malformed"),
        ("a NUL", media, batch.replacen('{', "\0{", 1), 400, "malformed"),
        ("no UTF-8 source", media, batch.replace("/stacks/", "/elsewhere/"), 400, "malformed"),
        ("deep nesting", media, format!("[{}", "[".repeat(900_000)), 400, "malformed"),
        (
            "deep data",
            media,
            batch.replacen("\"data\":{", &format!("\"data\":{}{{", "[".repeat(900_000)), 1),
            400,
            "malformed",
        ),
        (
            "more than 500 events",
            media,
            format!(
                "[{}]",
                vec![r#"{"specversion":"1.0","id":"a","source":"/stacks/","type":"t","data":1}"#; 501].join(",")
            ),
            413,
            "too_large",
        ),
        ("more than 1 MiB", media, " ".repeat(1024 * 1024 + 1), 413, "too_large"),
    ] {
        let answer = client.send("POST", "/v1/artifacts", media, body.as_bytes());
        assert_eq!(answer.outcome(), (status, code.to_owned()), "{what}: {answer:?}");
    }
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'host'"), 2);
}

#[test]
fn an_unknown_ledger_is_enrolled_by_a_good_token_of_its_stack_alone() {
    let server = Server::start();
    let host = Host::new("i-1", "web");
    let client = server.client();
    assert_eq!(client.ingest(&host.all()).outcome(), (401, "unknown_ledger".to_owned()));
    let two = server.token(Wanted { uses: Some(2), stack: Some("web".parse().unwrap()), ..wanted(Role::Enrol) });
    for (what, token, status, code) in [
        ("made up", format!("ca_enrol_{}", "A".repeat(43)), 401, "bad_token"),
        ("garbage", "x".to_owned(), 401, "bad_token"),
        ("another stack's", server.enrol_token("db"), 403, "role"),
        ("an auditor's", server.token(wanted(Role::Auditor)), 403, "role"),
    ] {
        assert_eq!(client.with(&token).ingest(&host.all()).outcome(), (status, code.to_owned()), "{what}");
    }
    let mut other = Host::new("i-2", "web");
    other.logins(1);
    let late = client.with(&two).ingest(&other.batch(2..=3));
    assert_eq!(late.outcome(), (409, "gap".to_owned()), "it has to begin at the first record");
    assert_eq!(late.json()["head"]["seq"], 0);
    let forged = host.all().replace("a ledger begins", "a ledger begyns");
    let half = client.with(&two).ingest(&forged);
    assert_eq!(half.outcome(), (422, "not_authentic".to_owned()));
    assert_eq!(client.ingest(&host.all()).status, 200, "its first record was good, and enrolled it");
    assert_eq!(client.with(&two).ingest(&other.all()).status, 200);
    let third = Host::new("i-3", "web");
    assert_eq!(client.with(&two).ingest(&third.all()).outcome(), (401, "bad_token".to_owned()), "no use is left");
}

#[test]
fn a_host_that_was_configured_only_after_its_first_start_enrols_with_its_stacks_token() {
    let server = Server::start();
    let mut host = Host::new("i-1", "default");
    let unnamed = host.batch(1..=2);
    host.stack = "web".to_owned();
    host.logins(1);
    let named = host.batch(3..=3);
    let batch = format!("{},{}", unnamed.trim_end_matches(']'), named.trim_start_matches('['));
    let answer = server.client().with(&server.enrol_token("web")).ingest(&batch);
    assert_eq!(answer.status, 200, "{answer:?}");
    let enrolled = "SELECT count(*) FROM ledgers WHERE name = 'i-1' AND state = 'enrolled' AND stack = 'web'";
    assert_eq!(server.count(enrolled), 1);
}

#[test]
fn a_token_that_has_ended_or_was_revoked_opens_nothing() {
    let server = Server::start();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1500);
    let short = server.token(Wanted { expires: Some(Ends::At(soon)), ..wanted(Role::Admin) });
    let client = server.client().with(&short);
    assert_eq!(client.get("/v1/tokens").status, 200);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(client.get("/v1/tokens").outcome(), (401, "bad_token".to_owned()));
    let admin = server.admin();
    let made = admin.post("/v1/tokens", &json!({"role": "auditor", "name": "eve"}));
    assert_eq!(made.status, 201, "{made:?}");
    let (id, token) = (made.json()["id"].clone(), made.json()["token"].clone());
    let eve = server.client().with(token.as_str().unwrap());
    assert_eq!(eve.get("/v1/tokens").outcome(), (403, "role".to_owned()));
    let listed = admin.get("/v1/tokens");
    assert!(listed.body.contains("\"eve\"") && !listed.body.contains(token.as_str().unwrap()));
    let path = format!("/v1/tokens/{}", id.as_str().unwrap());
    assert_eq!(admin.delete(&path).status, 204);
    assert_eq!(admin.delete(&path).status, 404);
    assert_eq!(eve.get("/v1/tokens").outcome(), (401, "bad_token".to_owned()));
    for bad in
        [json!({"role": "enrol"}), json!({"role": "client"}), json!({"role": "king"}), json!({"role": "admin", "x": 1})]
    {
        assert_eq!(admin.post("/v1/tokens", &bad).outcome(), (400, "malformed".to_owned()), "{bad}");
    }
}

#[test]
fn a_second_key_for_a_known_host_is_stored_and_waits_for_an_admin() {
    let server = Server::start();
    server.host("i-1");
    let mut second = Host::new("i-1", "web");
    let token = server.enrol_token("web");
    let answer = server.client().with(&token).ingest(&second.all());
    assert_eq!((answer.status, &answer.json()["enrolment"]), (200, &json!("pending")));
    second.logins(1);
    assert_eq!(server.client().ingest(&second.batch(3..=3)).json()["enrolment"], "pending", "and goes on being stored");
    assert_eq!(server.count("SELECT count(*) FROM records WHERE pending"), 3);
    assert_eq!(server.count("SELECT count(*) FROM incidents WHERE kind = 'second_ledger' AND ended IS NULL"), 1);
    let admin = server.admin();
    let listed = admin.get("/v1/enrolments").json();
    assert_eq!(listed["enrolments"][0]["ledger"], second.ledger.as_str());
    assert_eq!(listed["enrolments"][0]["public_key"], second.public_key());
    let path = format!("/v1/enrolments/{}/approve", second.ledger);
    assert_eq!(server.client().with(&token).post(&path, &json!({})).outcome(), (403, "role".to_owned()));
    assert_eq!(admin.post(&path, &json!({})).status, 200);
    assert_eq!(admin.post(&path, &json!({})).status, 404, "once");
    assert_eq!(server.count("SELECT count(*) FROM records WHERE pending"), 0);
    assert_eq!(server.count("SELECT count(*) FROM incidents WHERE kind = 'second_ledger' AND ended IS NULL"), 0);
}

#[test]
fn a_restored_disk_is_a_fork_at_its_first_other_record_and_the_stored_ones_stand() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(3);
    let mut restored = host.clone();
    host.logins(5);
    assert_eq!(server.client().ingest(&host.all()).status, 200);
    restored.time += jiff::SignedDuration::from_hours(1);
    restored.logins(7);
    let answer = server.client().ingest(&restored.batch(4..=12));
    assert_eq!(answer.outcome(), (409, "fork".to_owned()), "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["index"], &json["accepted"], &json["stored"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!(json["id"], format!("{}/6", host.ledger));
    assert_eq!(json["head"], json!({"ledger": host.ledger.as_str(), "seq": 10, "hash": host.head().to_string()}));
    assert!(receipt(&json).is_signed_by(&server_key(&server)));
    assert_eq!(server.count("SELECT count(*) FROM forks"), 7);
    assert_eq!(server.client().ingest(&restored.batch(4..=12)).status, 409);
    assert_eq!(server.count("SELECT count(*) FROM forks"), 7, "the same is kept once");
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'fork'"), 2);
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(11..=11)).status, 200, "the one that was first goes on");
}

#[test]
fn a_fork_at_the_head_and_one_inside_a_batch_are_found() {
    let server = Server::start();
    let mut host = server.host("i-1");
    let mut twin = host.clone();
    host.logins(2);
    twin.time += jiff::SignedDuration::from_secs(1);
    twin.logins(3);
    let mixed = format!("[{},{}]", host.event(host.line(3)), twin.event(twin.line(4)));
    let answer = server.client().ingest(&mixed);
    assert_eq!(answer.outcome(), (409, "fork".to_owned()));
    assert_eq!((&answer.json()["index"], &answer.json()["head"]["seq"]), (&json!(1), &json!(3)));
    let answer = server.client().ingest(&twin.batch(4..=5));
    assert_eq!((answer.outcome(), &answer.json()["index"]), ((409, "fork".to_owned()), &json!(0)));
    assert_eq!(server.count("SELECT count(*) FROM forks"), 2);
}

#[test]
fn forked_records_are_kept_up_to_a_bound() {
    let server = Server::start_with(|c| c.limits.forks_per_ledger = 3);
    let mut host = server.host("i-1");
    let mut twin = host.clone();
    host.logins(1);
    assert_eq!(server.client().ingest(&host.all()).status, 200);
    twin.time += jiff::SignedDuration::from_secs(1);
    twin.logins(9);
    assert_eq!(server.client().ingest(&twin.batch(3..=11)).status, 409);
    assert_eq!(server.count("SELECT count(*) FROM forks"), 3);
}

#[test]
fn a_gap_passes_only_with_the_records_that_account_for_it() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(8);
    let last = host.lines.last().unwrap().clone();
    host.segment();
    host.logins(2);
    let pruned = |first: u64, last: u64, hash: Hash| {
        Draft::new(ArtifactType::LedgerPruned, "old records go")
            .with("first", first)
            .with("last", last)
            .with("last_hash", hash.to_string())
    };
    let (sixth, wrong) = (host.line(6).hash(), host.line(5).hash());
    host.state(&pruned(1, 6, sixth));
    host.state(&pruned(7, 10, last.hash()));
    host.state(&pruned(7, 10, wrong));
    let send = |seqs: &[u64]| server.client().ingest(&host.batch(seqs.iter().copied()));
    for (what, seqs) in [
        ("nothing", &[11, 12][..]),
        ("a hole", &[15, 11, 12]),
        ("the end missing", &[14, 11, 12]),
        ("another hash", &[14, 16, 11, 12]),
    ] {
        let answer = send(seqs);
        assert_eq!((answer.outcome(), &answer.json()["head"]["seq"]), ((409, "gap".to_owned()), &json!(2)), "{what}");
    }
    let answer = send(&[14, 15, 11, 12, 13, 14]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["accepted"], &json["stored"], &json["head"]["seq"]), (&json!(6), &json!(4), &json!(14)));
    assert_eq!(send(&[15, 16]).json()["stored"], 2, "they come again in their own place");
    assert_eq!(server.count("SELECT first * 1000 + last FROM gaps"), 3010);
    assert_eq!(server.count("SELECT count(*) FROM incidents WHERE kind = 'pruned'"), 1);
    assert_eq!(send(&[5]).outcome(), (409, "gap".to_owned()), "what was passed over has no place any more");
}

#[test]
fn a_ledger_may_be_enrolled_where_its_pruned_part_ends() {
    let server = Server::start();
    let mut host = Host::new("i-1", "web");
    host.logins(3);
    let last = host.head();
    host.segment();
    host.logins(1);
    let draft = Draft::new(ArtifactType::LedgerPruned, "old records go").with("first", 1).with("last", 5);
    host.state(&draft.with("last_hash", last.to_string()));
    let client = server.client().with(&server.enrol_token("web"));
    assert_eq!(client.ingest(&host.batch([6, 7])).outcome(), (409, "gap".to_owned()));
    let answer = client.ingest(&host.batch([8, 6, 7]));
    assert_eq!((answer.status, &answer.json()["head"]["seq"]), (200, &json!(7)), "{answer:?}");
    assert_eq!(server.client().ingest(&host.batch([8])).status, 200);
}

#[test]
fn one_forged_record_among_many_by_two_keys_is_found_wherever_it_stands() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(200);
    let next = Host::new("i-1", "web").key;
    let text = ssh_key::PublicKey::from(next.public_key().key_data().clone()).to_openssh().unwrap();
    host.state(&Draft::new(ArtifactType::KeyRotated, "the key changes").with("public_key", text));
    host.key = next;
    host.logins(199);
    let line = |seq: u64| host.line(seq).as_str().trim_end().to_owned();
    for (forged, stored) in [(3, 0), (170, 167), (350, 180)] {
        let forge = |seq| if seq == forged { line(seq).replace("frank logged", "grank logged") } else { line(seq) };
        let events: Vec<_> = (3..=402).map(|seq| host.event_of(&forge(seq))).collect();
        let answer = server.client().ingest(&format!("[{}]", events.join(",")));
        assert_eq!(answer.outcome(), (422, "not_authentic".to_owned()));
        assert_eq!((&answer.json()["index"], &answer.json()["stored"]), (&json!(forged - 3), &json!(stored)));
    }
    assert_eq!(server.client().ingest(&host.batch(3..=402)).json()["stored"], 53);
}

#[test]
fn a_rotated_key_signs_from_the_next_record_on_and_the_old_one_no_more() {
    let server = Server::start();
    let mut host = server.host("i-1");
    let old = host.key.clone();
    let next = Host::new("i-1", "web").key;
    let text = ssh_key::PublicKey::from(next.public_key().key_data().clone()).to_openssh().unwrap();
    host.state(&Draft::new(ArtifactType::KeyRotated, "the key changes").with("public_key", text));
    host.key = next;
    host.logins(2);
    assert_eq!(server.client().ingest(&host.batch(3..=5)).status, 200);
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(6..=6)).status, 200);
    let mut late = host.clone();
    late.key = old;
    late.logins(1);
    assert_eq!(server.client().ingest(&late.batch(7..=7)).outcome(), (422, "not_authentic".to_owned()));
}

#[test]
fn odd_clocks_and_unknown_types_are_stored_and_flagged_and_told_once() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.time += jiff::SignedDuration::from_hours(5);
    host.logins(3);
    host.time = jiff::Timestamp::UNIX_EPOCH;
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(3..=6)).status, 200);
    assert_eq!(server.count("SELECT count(*) FROM records WHERE flags = 1"), 4);
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'clock_off'"), 4);
}

#[test]
fn another_hosts_records_are_not_taken_under_any_name() {
    let server = Server::start();
    let (one, two) = (server.host("i-1"), server.host("i-2"));
    let mut replay = one.clone();
    replay.name = "i-2".to_owned();
    let as_two = one.all().replace("/hosts/i-1", "/hosts/i-2");
    assert_eq!(server.client().ingest(&as_two).outcome(), (422, "wrong_host".to_owned()));
    replay.logins(1);
    let answer = server.client().ingest(&format!("[{}]", replay.event(replay.line(3))));
    assert_eq!(answer.outcome(), (422, "wrong_host".to_owned()), "signed by one, about the other");
    assert_eq!(server.client().ingest(&two.all()).status, 200);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'wrong_host'"), 2);
}

#[test]
fn the_servers_own_ledger_verifies_and_tells_what_was_done() {
    let server = Server::start();
    server.host("i-1");
    let key = server_key(&server);
    let server = server.restart();
    let database = server.database();
    let rows: Vec<Two<String, Vec<u8>>> =
        database.all("SELECT type, bytes FROM records WHERE kind = 'server' ORDER BY seq");
    let mut verifier = Verifier::new(record::Depth::Full, record::Trust::Key(Box::new(key)));
    for Two(_, bytes) in &rows {
        let mut line = bytes.clone();
        line.push(b'\n');
        verifier.line(&line);
    }
    let verdict = verifier.finish();
    assert!(verdict.is_clean(), "{:?}", verdict.findings);
    let words: Vec<&str> = rows.iter().map(|Two(word, _)| word.as_str()).collect();
    for word in
        ["ledger.opened", "server.started", "token.created", "ledger.enrolled", "server.checkpoint", "server.stopped"]
    {
        assert!(words.contains(&word), "{word}: {words:?}");
    }
}

#[test]
fn a_host_that_states_records_of_another_stack_than_its_tokens_is_told_of() {
    let server = Server::start();
    let mut host = server.host("i-1");
    let mut first = Host::new("i-2", "default");
    assert_eq!(server.client().with(&server.enrol_token("web")).ingest(&first.all()).status, 200);
    let incidents = "SELECT count(*) FROM incidents WHERE kind = 'other_stack'";
    assert_eq!(server.count(incidents), 0, "the stack of a host that nobody has configured yet is no other stack");
    first.stack = "web".to_owned();
    first.logins(1);
    assert_eq!(server.client().ingest(&first.batch(3..=3)).status, 200);
    host.stack = "prod".to_owned();
    host.logins(3);
    for seqs in [3..=4, 3..=5] {
        assert_eq!(server.client().ingest(&host.batch(seqs)).status, 200, "stored all the same");
    }
    assert_eq!(server.count(incidents), 1);
    let counted = format!("SELECT count FROM incidents WHERE host = 'i-1' AND ledger = '{}'", host.ledger);
    assert_eq!(server.count(&counted), 3);
    let detail: String = server.one("SELECT detail FROM incidents WHERE kind = 'other_stack'");
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(detail, json!({"seq": 5, "stack": "prod", "enrolled_by_stack": "web"}));
}

#[test]
fn a_checkpoint_lists_what_moved_though_the_clock_was_in_2030_at_the_one_before() {
    let server = Server::start();
    let mut host = server.host("i-1");
    let server = server.restart();
    // As if it had stood in 2030 for a while.
    let database = server.database();
    database.run("UPDATE artifacts SET time = 1900000000000000, received = 1900000000000000");
    drop(database);
    host.logins(1);
    assert_eq!(server.client().ingest(&host.batch(3..=3)).status, 200);
    let server = server.restart();
    let listed = |seq: u64| {
        let all: Vec<Vec<u8>> = server.database().all("SELECT bytes FROM records WHERE type = 'server.checkpoint'");
        let lists = |bytes: &&Vec<u8>| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(&format!("\"seq\":{seq}}}")) && text.contains(host.ledger.as_str())
        };
        all.iter().filter(lists).count()
    };
    assert_eq!((listed(2), listed(3)), (1, 1), "each head once: when it had moved");
}
