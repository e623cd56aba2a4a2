//! The sink against a server that answers from a script: whatever goes wrong on the way, each record arrives once, in
//! order, and the cursor never passes what a receipt covers.

use std::time::Duration;

use record::Hash;
use serde_json::json;

use super::*;
use crate::testing::{self, Ledger, Reply, Rig, SERVER, Server};

/// What was stored is the ledger, to the byte.
fn assert_whole(server: &Server, ledger: &Ledger, paths: &Paths) {
    assert_same(&server.stored(&ledger.id), &lines_in(&paths.ledger()));
}

fn assert_same(stored: &[Vec<u8>], on_disk: &[Vec<u8>]) {
    assert_eq!(stored.len(), on_disk.len());
    assert!(stored == on_disk, "other bytes are stored than are on disk");
}

fn lines_in(dir: &std::path::Path) -> Vec<Vec<u8>> {
    let starts = ledger::segment_starts(dir);
    let text: String =
        starts.iter().map(|s| std::fs::read_to_string(dir.join(format!("{s:012}.jsonl"))).unwrap()).collect();
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

fn arrived(rig: &Rig, server: &Server, ledger: &Ledger) {
    let held = || server.stored(&ledger.id).len() as u64 == ledger.seq;
    rig.until("all records", || held() && saved(&rig.paths) == ledger.seq);
}

fn saved(paths: &Paths) -> u64 {
    crate::cursor::read(&paths.cursor(NAME)).unwrap().map_or(0, |at| at.seq)
}

/// Serves these in turn, and then stores everything.
fn first(replies: Vec<Reply>) -> Server {
    Server::start(move |request| replies.get(request.number).cloned().unwrap_or(Reply::Store))
}

#[test]
fn records_arrive_in_order_with_a_receipt_kept_and_follow_as_they_come() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(700);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    for _ in 0..3 {
        ledger.append(2);
        ledger.rotate();
        ledger.publish();
        arrived(&rig, &server, &ledger);
    }
    rig.until("the status", || rig.status()["sinks"][NAME]["acknowledged_seq"] == ledger.seq);
    rig.state(NAME, "idle");
    let status = rig.status();
    assert_eq!(
        (&status["sinks"][NAME]["enrolment"], &status["sinks"][NAME]["waiting"]),
        (&json!("enrolled"), &json!(0))
    );
    assert!(status["sinks"].get("syslog").is_none());
    let kept = receipts::furthest(&paths, &ledger.id).unwrap().unwrap();
    assert_eq!((kept.receipt().seq, kept.receipt().hash), (ledger.seq, ledger.hash));
    assert!(kept.is_signed_by(testing::key(SERVER).public_key()));
    assert_whole(&server, &ledger, &paths);
    assert!(rig.stop(false, Duration::from_secs(5)) < Duration::from_secs(1));
    assert!(server.asked().iter().all(|request| request.authorization.is_none() && request.events.len() <= 500));
}

#[test]
fn whatever_goes_wrong_on_the_way_nothing_is_lost_and_nothing_is_stored_twice() {
    let lost = |reply: Reply| Reply::StoreBut(Box::new(reply));
    let retry = |status, after: &str| Reply::Say(status, vec![("Retry-After", after.to_owned())], vec![]);
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"receipt\":".to_vec();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 1024 * 1024]].concat();
    let faults = [
        ("500", Reply::status(500)),
        ("500 after storing", lost(Reply::status(500))),
        ("503", retry(503, "0")),
        ("429", retry(429, "0")),
        ("a closed connection", Reply::Nothing),
        ("a closed connection after storing", lost(Reply::Nothing)),
        ("an answer cut in the middle", lost(Reply::Raw(whole))),
        ("garbage", Reply::Raw(b"\x00\xff\r\n\r\nSSH-2.0-OpenSSH\r\n".to_vec())),
        ("a huge answer", lost(Reply::Raw(endless))),
        ("a captive portal", Reply::Say(200, vec![], b"<html>log in</html>".to_vec())),
        ("200 with nothing in it", Reply::status(200)),
        ("413", Reply::status(413)),
    ];
    for (name, fault) in faults {
        let (_dir, paths) = testing::paths();
        let mut ledger = Ledger::begin(&paths, 1);
        ledger.append(10);
        let server = first(vec![fault]);
        server.settings(&paths);
        let rig = Rig::start(&paths);
        arrived(&rig, &server, &ledger);
        assert_whole(&server, &ledger, &paths);
        assert_eq!(server.asked().len(), if name == "413" { 3 } else { 2 }, "{name}");
        rig.stop(false, Duration::from_secs(5));
    }
}

#[test]
fn a_server_that_hangs_is_given_up_and_the_other_sink_does_not_notice() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(10);
    let server = Server::start(|_| Reply::Hang(Duration::from_secs(60)));
    let socket = dir.path().join("log");
    let syslog = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let address = format!("unix:{}", socket.display());
    testing::ship_to(&paths, &json!({ "v": 1, "api": { "url": server.url }, "syslog": { "address": address } }));
    let rig = Rig::start(&paths);
    syslog.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 8192];
    for _ in 0..ledger.seq {
        syslog.recv(&mut buffer).unwrap();
    }
    rig.until("a request", || !server.asked().is_empty());
    assert_eq!(saved(&paths), 0);
    // A request that hangs does not hold up the end either: the main thread leaves when time is over.
    drop(rig);
}

#[test]
fn a_receipt_that_is_not_the_servers_or_not_over_what_was_sent_is_not_believed() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let (id, seq, hash) = (ledger.id.clone(), ledger.seq, ledger.hash);
    let by = |seed, seq, hash| {
        let receipt: serde_json::Value =
            serde_json::from_str(testing::receipt(&id, seq, hash, &testing::key(seed)).as_str()).unwrap();
        Reply::Say(200, vec![], json!({ "receipt": receipt }).to_string().into_bytes())
    };
    let lies = vec![by(7, seq, hash), by(SERVER, seq, Hash::of(b"other")), by(7, seq + 5, Hash::of(b"beyond"))];
    let server = first(lies);
    let key = testing::key(SERVER).public_key().to_openssh().unwrap();
    testing::ship_to(&paths, &json!({ "v": 1, "api": { "url": server.url, "receipt_keys": [key] } }));
    let rig = Rig::start(&paths);
    rig.until("three lies", || server.asked().len() == 3);
    assert_eq!(saved(&paths), 0);
    arrived(&rig, &server, &ledger);
    assert!(!paths.hint().exists());
    let kept = std::fs::read_to_string(paths.receipts_of(&id)).unwrap();
    assert_eq!(kept.lines().count(), 1);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_redirect_is_not_followed_and_is_tried_again_slowly() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let trap = Server::start(|_| Reply::Store);
    let to = format!("{}/v1/artifacts", trap.url);
    let server = Server::start(move |_| Reply::Say(307, vec![("Location", to.clone())], vec![]));
    server.settings(&paths);
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "refused").contains("not followed"));
    thread::sleep(Duration::from_millis(500));
    assert_eq!((server.asked().len(), trap.asked().len()), (1, 0));
    // The new address is tried at once, whatever wait was on.
    trap.settings(&paths);
    arrived(&rig, &trap, &ledger);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn an_unknown_ledger_is_enrolled_with_the_token_from_its_first_record_on() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(30);
    std::fs::write(paths.credential("enrolment-token").unwrap(), "ca_enrol_secret\n").unwrap();
    // It had been shipped elsewhere before.
    let mut kept = Kept::open(paths.cursor(NAME)).unwrap();
    kept.set(Cursor { ledger: ledger.id.clone(), seq: 32, hash: ledger.hash });
    kept.save().unwrap();
    ledger.append(3);
    let server = Server::start(|request| match request.authorization.as_deref() {
        Some("Bearer ca_enrol_secret") => Reply::Store,
        None if request.number > 1 => Reply::Store,
        _ => Reply::problem(401, json!({ "code": "unknown_ledger" })),
    });
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    ledger.append(3);
    arrived(&rig, &server, &ledger);
    assert_whole(&server, &ledger, &paths);
    let tokens: Vec<_> = server.asked().iter().map(|request| request.authorization.is_some()).collect();
    assert_eq!(tokens, [false, true, false]);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn without_a_token_or_with_a_bad_one_the_status_says_what_to_do() {
    for (token, says) in [("", "/etc/lockdownd/credentials/enrolment-token"), ("old", "not accepted: ask for another")]
    {
        let (_dir, paths) = testing::paths();
        let mut ledger = Ledger::begin(&paths, 1);
        ledger.append(3);
        std::fs::write(paths.credential("enrolment-token").unwrap(), token).unwrap();
        let server =
            Server::start(|_| Reply::problem(401, json!({ "code": "unknown_ledger", "detail": "ask for another" })));
        server.settings(&paths);
        let rig = Rig::start(&paths);
        let why = rig.state(NAME, "refused");
        assert!(why.contains(says), "{why}");
        assert!(!why.contains("old"));
        thread::sleep(Duration::from_millis(300));
        assert!(server.asked().len() <= 2);
        assert!(rig.stop(false, Duration::from_secs(5)) < Duration::from_secs(1));
    }
}

#[test]
fn a_server_that_has_lost_records_gets_them_again() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(30);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    server.store.lock().unwrap().lines.get_mut(&ledger.id).unwrap().truncate(12);
    ledger.append(1);
    arrived(&rig, &server, &ledger);
    assert_whole(&server, &ledger, &paths);
    assert_eq!(server.store.lock().unwrap().repeats, 0);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_gap_left_by_pruning_passes_with_the_records_that_account_for_it() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    rig.stop(false, Duration::from_secs(5));
    // Down, while the daemon drops what was not shipped.
    ledger.append(3);
    ledger.rotate();
    ledger.append(3);
    ledger.rotate();
    let second = ledger.seq;
    ledger.append(3);
    ledger.prune_before(second);
    let (shown, seen) = (server.stored(&ledger.id).len(), lines_in(&paths.ledger()));
    let fresh = Server::start(|_| Reply::Store);
    for (server, had) in [(&server, shown), (&fresh, 0)] {
        if had > 0 {
            // The small server keeps one run of numbers; it takes what comes after the gap as a run of its own.
            let mut store = server.store.lock().unwrap();
            store.gaps.insert(ledger.id.clone(), second - 1);
            store.lines.get_mut(&ledger.id).unwrap().clear();
        } else {
            drop(std::fs::remove_file(paths.cursor(NAME)));
        }
        server.settings(&paths);
        let rig = Rig::start(&paths);
        rig.until("the rest", || saved(&paths) == ledger.seq);
        assert_same(&server.stored(&ledger.id), &seen);
        let permitted = server
            .asked()
            .iter()
            .any(|r| r.events[0]["type"] == "ledger.pruned" && r.events[1]["type"] == "ledger.segment");
        assert!(permitted);
        rig.stop(false, Duration::from_secs(5));
    }
}

#[test]
fn a_fork_is_proven_to_the_daemon_and_what_it_left_behind_is_offered_before_the_new_ledger() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let yesterday = std::fs::read(ledger.path(1)).unwrap();
    let (seq, hash) = (ledger.seq, ledger.hash);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    ledger.append(3);
    arrived(&rig, &server, &ledger);
    rig.stop(false, Duration::from_secs(5));
    // A disk put back to an earlier day, cursors and receipts too; the daemon goes on from there.
    std::fs::write(ledger.path(1), yesterday).unwrap();
    (ledger.seq, ledger.hash) = (seq, hash);
    ledger.write(&record::Draft::new(record::ArtifactType::DaemonStarted, "again"));
    ledger.publish();
    let mut kept = Kept::open(paths.cursor(NAME)).unwrap();
    kept.set(Cursor { ledger: ledger.id.clone(), seq, hash });
    kept.save().unwrap();
    std::fs::remove_file(paths.receipts_of(&ledger.id)).unwrap();
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "fork").contains("begin a new ledger"));
    let hint: serde_json::Value = serde_json::from_slice(&std::fs::read(paths.hint()).unwrap()).unwrap();
    assert_eq!((&hint["v"], &hint["kind"], &hint["receipt"]["seq"]), (&json!(1), &json!("fork"), &json!(seq + 3)));
    // The daemon sets it aside and begins another: at once, whatever wait was on.
    ledger.set_aside("20260101T000000.000000000Z");
    let mut next = Ledger::begin(&paths, 2);
    next.append(2);
    arrived(&rig, &server, &next);
    assert_whole(&server, &next, &paths);
    rig.until("the hint gone", || !paths.hint().exists());
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_ledger_behind_its_own_cursor_is_a_fork_that_a_kept_receipt_proves() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    rig.stop(false, Duration::from_secs(5));
    // Only the ledger was put back.
    std::fs::remove_dir_all(paths.ledger()).unwrap();
    let short = Ledger::begin(&paths, 1);
    assert!(short.seq < ledger.seq);
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "fork").contains("put back"));
    assert_eq!(receipts::hinted(&paths).unwrap().unwrap(), ledger.id);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn what_was_not_shipped_of_a_ledger_that_was_set_aside_comes_before_the_next() {
    let (_dir, paths) = testing::paths();
    let mut old = Ledger::begin(&paths, 1);
    old.append(5);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &old);
    rig.stop(false, Duration::from_secs(5));
    old.append(600);
    let (id, on_disk) = (old.id.clone(), lines_in(&paths.ledger()));
    old.set_aside("20260101T000000.000000000Z");
    let mut middle = Ledger::begin(&paths, 2);
    middle.append(4);
    let (second, second_on_disk) = (middle.id.clone(), lines_in(&paths.ledger()));
    middle.set_aside("20260102T000000.000000000Z");
    let mut new = Ledger::begin(&paths, 3);
    new.append(4);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &new);
    assert_same(&server.stored(&id), &on_disk);
    assert_same(&server.stored(&second), &second_on_disk);
    assert_whole(&server, &new, &paths);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_ledger_set_aside_that_cannot_be_read_or_is_refused_holds_up_no_other() {
    for broken in [true, false] {
        let (_dir, paths) = testing::paths();
        let mut old = Ledger::begin(&paths, 1);
        old.append(5);
        let server = Server::start(move |request| match request.number {
            1 if !broken => Reply::problem(422, json!({ "code": "not_authentic", "index": 0 })),
            _ => Reply::Store,
        });
        server.settings(&paths);
        let rig = Rig::start(&paths);
        arrived(&rig, &server, &old);
        rig.stop(false, Duration::from_secs(5));
        old.append(5);
        let dir = old.set_aside("20260101T000000.000000000Z").join("ledger/000000000001.jsonl");
        if broken {
            std::fs::write(dir, "no record\n").unwrap();
        }
        let mut new = Ledger::begin(&paths, 3);
        new.append(4);
        let rig = Rig::start(&paths);
        arrived(&rig, &server, &new);
        rig.until("the ledger left behind", || rig.status()["sinks"][NAME]["left"][0].is_string());
        rig.state(NAME, "idle");
        let why = rig.status()["sinks"][NAME]["why"].to_string();
        assert!(why.contains("is not shipped after record 7"), "{why}");
        rig.stop(false, Duration::from_secs(5));
    }
}

#[test]
fn a_record_that_the_server_refuses_stops_the_chain_there_with_all_before_it_acknowledged() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(10);
    let server = Server::start(|request| {
        let refused = request.events.iter().position(|event| event["id"].as_str().unwrap().ends_with("/8"));
        refused.map_or(Reply::Store, |index| Reply::problem(422, json!({ "code": "not_authentic", "index": index })))
    });
    server.settings(&paths);
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "refused").contains("422 not_authentic"));
    assert_eq!((saved(&paths), server.stored(&ledger.id).len()), (7, 7));
    assert_eq!(rig.status()["sinks"][NAME]["waiting"], 5);
    assert_eq!(rig.status()["sinks"][NAME]["waiting_since"], "2026-05-26T12:00:02.123456Z");
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn batches_are_halved_until_the_server_takes_them() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(40);
    let server = Server::start(|request| match request.events.len() {
        0..=6 => Reply::Store,
        _ => Reply::status(413),
    });
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    assert_whole(&server, &ledger, &paths);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn at_the_end_of_the_instance_it_drains_until_the_daemons_last_word() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    let server = first(vec![]);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger);
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(400));
        ledger.stop();
        ledger
    });
    let took = rig.stop(true, Duration::from_secs(20));
    assert!((Duration::from_millis(350)..Duration::from_secs(5)).contains(&took), "{took:?}");
    let ledger = stopper.join().unwrap();
    assert_whole(&server, &ledger, &paths);
    // Started again and stopped again, it knows that nothing more comes.
    let rig = Rig::start(&paths);
    rig.state(NAME, "idle");
    assert!(rig.stop(true, Duration::from_secs(20)) < Duration::from_secs(2));
}

#[test]
fn the_drain_ends_when_its_time_is_over() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let server = Server::start(|_| Reply::status(500));
    server.settings(&paths);
    let rig = Rig::start(&paths);
    rig.state(NAME, "waiting");
    let took = rig.stop(true, Duration::from_millis(800));
    assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&took), "{took:?}");
    // It went on trying meanwhile.
    assert!(server.asked().len() >= 3);
}
