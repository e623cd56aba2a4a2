//! Heads, refusals and read errors that prove nothing lose nothing.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    cursor::Kept,
    testing::{self, Ledger, Reply, Rig, Server},
};

fn arrived(rig: &Rig, server: &Server, ledger: &LedgerId, upto: u64) {
    let saved = || crate::cursor::read(&rig.paths.cursor("api")).unwrap();
    let there = || saved().is_some_and(|at| at.ledger == *ledger && at.seq == upto);
    rig.until("all records", || there() && server.stored(ledger).len() as u64 == upto);
}

#[test]
fn a_head_that_is_not_in_this_ledger_moves_nothing_and_the_server_is_asked_again() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let said = |seq: u64| {
        let head = json!({ "seq": seq, "hash": Hash::of(b"made up").to_string() });
        Reply::problem(409, json!({ "code": "gap", "head": head }))
    };
    let server = Server::start(move |request| match request.number {
        0 => Reply::Store,
        1 => said(10_000),
        2 => said(3),
        3 => said(7),
        _ => Reply::Store,
    });
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger.id, ledger.seq);
    ledger.append(3);
    rig.until("a wait", || rig.status()["sinks"]["api"]["why"].to_string().contains("does not fit this ledger"));
    arrived(&rig, &server, &ledger.id, ledger.seq);
    assert!(!paths.hint().exists());
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_cursor_beyond_the_ledger_goes_back_to_the_receipt_that_agrees_with_it() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(5);
    let server = Server::start(|_| Reply::Store);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger.id, ledger.seq);
    rig.stop(false, Duration::from_secs(5));
    let mut kept = Kept::open(paths.cursor("api")).unwrap();
    kept.set(Cursor { ledger: ledger.id.clone(), seq: 10_000, hash: Hash::of(b"made up") });
    kept.save().unwrap();
    ledger.append(3);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &ledger.id, ledger.seq);
    assert!(!paths.hint().exists());
    rig.stop(false, Duration::from_secs(5));
}

/// Ships seven records, appends three, and sets the ledger aside for another.
fn set_aside(paths: &crate::paths::Paths, server: &Server) -> (LedgerId, std::path::PathBuf, Ledger) {
    let mut old = Ledger::begin(paths, 1);
    old.append(5);
    server.settings(paths);
    let rig = Rig::start(paths);
    arrived(&rig, server, &old.id, 7);
    rig.stop(false, Duration::from_secs(5));
    old.append(3);
    let id = old.id.clone();
    let dir = old.set_aside("20260101T000000.000000000Z");
    let mut new = Ledger::begin(paths, 2);
    new.append(2);
    (id, dir.join("ledger/000000000001.jsonl"), new)
}

#[test]
fn a_proxys_refusal_leaves_nothing_of_a_ledger_that_was_set_aside() {
    for status in [409, 413, 422] {
        let (_dir, paths) = testing::paths();
        let server = Server::start(|_| Reply::Store);
        let (old, _, new) = set_aside(&paths, &server);
        let proxy = Server::start(move |_| Reply::Say(status, vec![], b"<html>blocked</html>".to_vec()));
        proxy.settings(&paths);
        let rig = Rig::start(&paths);
        rig.state("api", "refused");
        assert_eq!(rig.status()["sinks"]["api"]["ledger"], old.to_string());
        server.settings(&paths);
        arrived(&rig, &server, &new.id, new.seq);
        assert_eq!(server.stored(&old).len(), 10);
        rig.stop(false, Duration::from_secs(5));
    }
}

#[test]
fn a_ledger_set_aside_that_cannot_be_opened_now_is_shipped_once_it_can() {
    let (_dir, paths) = testing::paths();
    let server = Server::start(|_| Reply::Store);
    let (old, segment, new) = set_aside(&paths, &server);
    // A link is an error of the system, as EIO and EMFILE are.
    let away = segment.with_extension("away");
    std::fs::rename(&segment, &away).unwrap();
    std::os::unix::fs::symlink(&away, &segment).unwrap();
    let rig = Rig::start(&paths);
    assert!(rig.state("api", "waiting").contains("cannot open"));
    std::fs::rename(&away, &segment).unwrap();
    arrived(&rig, &server, &new.id, new.seq);
    assert_eq!(server.stored(&old).len(), 10);
    rig.stop(false, Duration::from_secs(5));
}

#[test]
fn a_ledger_set_aside_before_anything_was_acknowledged_is_shipped_first() {
    let (_dir, paths) = testing::paths();
    let mut old = Ledger::begin(&paths, 1);
    old.append(5);
    let id = old.id.clone();
    old.set_aside("20260101T000000.000000000Z");
    let mut new = Ledger::begin(&paths, 2);
    new.append(2);
    let server = Server::start(|_| Reply::Store);
    server.settings(&paths);
    let rig = Rig::start(&paths);
    arrived(&rig, &server, &new.id, new.seq);
    assert_eq!(server.stored(&id).len(), 7);
    rig.stop(false, Duration::from_secs(5));
}
