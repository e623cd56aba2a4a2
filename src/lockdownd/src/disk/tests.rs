//! The store with a real ledger, and the thread in front of it.

use std::path::PathBuf;

use lockdown_core::{
    grants::Grants,
    machine::documents::DocumentsRead,
    policy::test_grants::{grant, later, now},
};
use lockdown_host::identity::Identity;
use record::{ArtifactType, Record};

use super::*;
use crate::ledger::{Keeping, Opening, Paths};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Desk {
    dir: tempfile::TempDir,
    store: Store,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let identity =
            Identity { instance: None, product: None, machine: None, name: "web-1".parse().expect("a name") };
        let opening = Opening {
            paths: Paths { state: dir.path().join("lib"), run: dir.path().join("run") },
            host: identity.name.clone(),
            stack: "web".parse().expect("a stack"),
            identity: &identity,
            boot: "b".to_owned(),
            keeping: Keeping {
                retain: Duration::from_secs(86_400),
                max_size: 1 << 30,
                drop_oldest: false,
                acknowledged_first: false,
            },
            now: now().wall,
            journal: None,
        };
        let ledger = Ledger::open(opening).expect("opens").ledger;
        let store = Store::new(ledger, GrantsFile::new(&dir.path().join("lib/grants.json")));
        Self { dir, store }
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("lib/ledger")
    }
}

fn refusal() -> Draft {
    Draft::new(ArtifactType::SessionRefused, "login refused")
}

fn noted() -> Commit {
    Commit { noted: vec![(now().wall, refusal())], ..Commit::default() }
}

/// How many refusals are on disk.
fn refusals(view: &View) -> usize {
    let lines = view.lines_after(0, usize::MAX).expect("readable");
    let records = lines.iter().map(|line| Record::parse(line.as_bytes()).expect("a record"));
    records.filter(|record| record.kind() == Some(ArtifactType::SessionRefused)).count()
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_and_what_was_noted_follows_when_it_can() {
    let mut desk = Desk::new();
    let (ledger, away) = (desk.ledger(), desk.dir.path().join("away"));
    // A file stands in the place of its directory.
    std::fs::rename(&ledger, &away).expect("own directory");
    std::fs::write(&ledger, "").expect("own directory");
    let tomorrow = later(86_400).wall;
    let written = desk.store.commit(noted(), tomorrow);
    assert!(!written.noted && desk.store.known().failing.is_some() && desk.store.known().owed == 1);
    let first = Commit { first: Some((vec![refusal()], Room::Free)), ..Commit::default() };
    let refused = desk.store.commit(first, tomorrow).first.expect_err("this one must not happen").to_string();
    assert!(refused.contains("Not a directory"), "the cause is told: {refused}");
    std::fs::remove_file(&ledger).and_then(|()| std::fs::rename(&away, &ledger)).expect("own directory");
    let written = desk.store.commit(Commit::default(), tomorrow);
    assert!(written.noted && desk.store.known().failing.is_none());
    assert_eq!(refusals(&desk.store.ledger.view()), 1, "what must not happen is not recorded");
}

#[test]
fn a_statement_on_a_grant_that_could_not_be_saved_is_not_made() {
    let mut desk = Desk::new();
    std::fs::create_dir_all(desk.dir.path().join("lib/grants.json/in the way")).expect("own directory");
    let mut grants = Grants::default();
    grants.add(grant(1, "frank", "ubuntu")).expect("there is room");
    let state = Some(Snapshot { kept: grants.to_keep("b", now()), ended: Vec::new(), documents: None });
    let commit = Commit { state, first: Some((vec![refusal()], Room::Free)), ..noted() };
    let written = desk.store.commit(commit, now().wall);
    assert!(written.ended.is_none() && written.noted && matches!(written.first, Err(NotWritten::Failed(_))));
    assert_eq!(refusals(&desk.store.ledger.view()), 1, "what has happened is on record all the same");
}

#[test]
fn the_thread_opens_the_store_however_often_it_has_to_try_and_does_one_piece_after_the_other() {
    let desk = Desk::new();
    let left = Left { grants: Grants::default(), documents: DocumentsRead::default(), found: Found::default() };
    let not_mounted = || Err(NotOpened::NotMounted("/var/lib/lockdownd".into()));
    let mut opened = [not_mounted(), Ok((desk.store, left))].into_iter();
    let disk = Disk::start(Box::new(move || opened.next().expect("it is opened once")), || ()).expect("a thread");
    let next = || {
        assert!(disk.wait(LONG), "it is done some day");
        disk.told().expect("something is told")
    };
    assert!(matches!(next(), Told::NotOpened(NotOpened::NotMounted(_))));
    let Told::Done(done) = next() else { panic!("it is open") };
    assert!(matches!(done.0, Done::Opened(_)));
    disk.give(Task::Commit(Box::new(noted()), now().wall));
    let Told::Done(done) = next() else { panic!("it is written") };
    assert!(matches!(done.0, Done::Written(_)) && refusals(&done.1) == 1);
    disk.give(Task::Work(Box::new(|_| Some(Reason::Tick)), now().wall));
    let Told::Done(done) = next() else { panic!("it is done") };
    assert!(matches!(&done.0, Done::Brought(Some(reason)) if matches!(**reason, Reason::Tick)));
    assert!(disk.is_alive());
}
