//! The sink against sockets that listen, stop, come back, and do not keep up.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::{UnixDatagram, UnixListener},
    path::Path,
};

use serde_json::json;

use super::*;
use crate::testing::{self, Ledger, Rig};

fn listen(path: &Path) -> UnixDatagram {
    drop(std::fs::remove_file(path));
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn ship(paths: &Paths, socket: &Path) {
    testing::ship_to(paths, &json!({ "v": 1, "syslog": { "address": format!("unix:{}", socket.display()) } }));
}

fn seq_of(message: &str) -> u64 {
    let line = message.split_once("]: ").unwrap().1;
    record::Record::parse(line.as_bytes()).unwrap().seq()
}

fn receive(socket: &UnixDatagram) -> u64 {
    let mut buffer = [0; 8192];
    let length = socket.recv(&mut buffer).unwrap();
    seq_of(std::str::from_utf8(&buffer[..length]).unwrap())
}

fn saved(paths: &Paths) -> u64 {
    crate::cursor::read(&paths.cursor(NAME)).unwrap().map_or(0, |at| at.seq)
}

#[test]
fn every_record_is_sent_once_in_order_while_the_socket_stays() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(300);
    let path = dir.path().join("log");
    let socket = listen(&path);
    ship(&paths, &path);
    let rig = Rig::start(&paths);
    for seq in 1..=ledger.seq {
        assert_eq!(receive(&socket), seq);
    }
    ledger.append(1);
    assert_eq!(receive(&socket), ledger.seq);
    rig.until("the cursor", || saved(&paths) == ledger.seq);
    rig.state(NAME, "idle");
    assert!(rig.stop(false, Duration::from_secs(5)) < Duration::from_secs(1));
}

#[test]
fn after_a_new_connection_the_last_records_are_sent_again() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(200);
    let path = dir.path().join("log");
    let socket = listen(&path);
    ship(&paths, &path);
    let rig = Rig::start(&paths);
    for seq in 1..=ledger.seq {
        assert_eq!(receive(&socket), seq);
    }
    rig.until("the cursor", || saved(&paths) == ledger.seq);
    // Restarted: what came meanwhile, and the last ones before, come over the new socket.
    drop(socket);
    ledger.append(3);
    rig.state(NAME, "waiting");
    let socket = listen(&path);
    for seq in ledger.seq - 3 - AGAIN + 1..=ledger.seq {
        assert_eq!(receive(&socket), seq);
    }
    rig.until("the cursor", || saved(&paths) == ledger.seq);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_listener_that_does_not_keep_up_loses_nothing() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(600);
    let path = dir.path().join("log");
    let socket = listen(&path);
    ship(&paths, &path);
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "waiting").contains("full"));
    for seq in 1..=ledger.seq {
        assert_eq!(receive(&socket), seq);
    }
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_socket_that_never_comes_delays_the_end_no_longer_than_its_time() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(2);
    ship(&paths, &dir.path().join("none"));
    let rig = Rig::start(&paths);
    assert!(rig.state(NAME, "waiting").contains("cannot be connected to"));
    assert!(rig.stop(false, Duration::from_millis(300)) < Duration::from_secs(2));
}

#[test]
fn a_stream_gets_one_message_a_line() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(20);
    let path = dir.path().join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    ship(&paths, &path);
    let rig = Rig::start(&paths);
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream).lines();
    for seq in 1..=ledger.seq {
        assert_eq!(seq_of(&lines.next().unwrap().unwrap()), seq);
    }
    rig.until("the cursor", || saved(&paths) == ledger.seq);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn what_was_pruned_is_passed_over_and_a_ledger_put_back_is_sent_from_where_it_is_whole() {
    let (dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let path = dir.path().join("log");
    let socket = listen(&path);
    ship(&paths, &path);
    ledger.rotate();
    let kept = ledger.seq;
    ledger.append(3);
    ledger.prune_before(kept);
    let rig = Rig::start(&paths);
    for seq in kept..=ledger.seq {
        assert_eq!(receive(&socket), seq);
    }
    rig.until("the cursor", || saved(&paths) == ledger.seq);
    rig.stop(false, Duration::from_secs(5));
    std::fs::remove_dir_all(paths.ledger()).unwrap();
    let mut short = Ledger::begin(&paths, 1);
    short.append(1);
    let rig = Rig::start(&paths);
    for seq in 1..=short.seq {
        assert_eq!(receive(&socket), seq);
    }
    rig.until("the cursor", || saved(&paths) == short.seq);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_ledger_that_was_set_aside_is_sent_to_its_end_before_the_next() {
    let (dir, paths) = testing::paths();
    let mut old = Ledger::begin(&paths, 1);
    let path = dir.path().join("log");
    let socket = listen(&path);
    ship(&paths, &path);
    let rig = Rig::start(&paths);
    assert_eq!((receive(&socket), receive(&socket)), (1, 2));
    rig.until("the cursor", || saved(&paths) == 2);
    rig.stop(false, Duration::from_secs(5));
    old.append(3);
    old.set_aside("20260101T000000.000000000Z");
    let new = Ledger::begin(&paths, 2);
    let rig = Rig::start(&paths);
    // The first two again, as over any new connection.
    let seen: Vec<u64> = (0..7).map(|_| receive(&socket)).collect();
    assert_eq!(seen, [1, 2, 3, 4, 5, 1, 2]);
    rig.until("the cursor", || crate::cursor::read(&paths.cursor(NAME)).unwrap().is_some_and(|at| at.ledger == new.id));
    rig.stop(false, Duration::from_secs(5));
}
