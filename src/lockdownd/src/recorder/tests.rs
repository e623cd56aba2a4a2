//! The recorder with a real ledger and a real thread behind it: what cannot be written is told, and follows; what waits for
//! the disk holds nobody up.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
};

use lockdown_core::policy::test_grants::{id, later, now};
use lockdown_host::identity::Identity;
use record::{ArtifactType, Record};

use super::*;
use crate::{
    disk::{Found, Store},
    gate::tests::pending,
    grants::GrantsOnDisk,
    ledger::{Keeping, Ledger, Opening, Paths},
};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Desk {
    dir: tempfile::TempDir,
    recorder: Recorder,
}

impl Desk {
    /// One whose store is open once each of these has kept it from that.
    fn opened_after(tries: Vec<NotOpened>) -> Self {
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
        let (grants, file) = GrantsOnDisk::empty(&dir.path().join("lib/grants.json"), &dir.path().join("ended"), "b");
        let left = Left { grants, found: Found::default() };
        let mut opened = tries.into_iter().map(Err).chain([Ok((Store::new(ledger, file), left))]);
        let open = move || opened.next().expect("it is opened once");
        let owed = dir.path().join("owed.jsonl");
        let recorder = Recorder::new(Disk::start(Box::new(open), || ()).expect("a thread"), owed, now());
        Self { dir, recorder }
    }

    fn new() -> Self {
        let mut desk = Self::opened_after(Vec::new());
        assert!(desk.recorder.opened(LONG, now()).is_some());
        desk
    }

    /// What the disk thread does next.
    fn next(&mut self, now: Now) -> Settled {
        assert!(self.recorder.wait(LONG), "it is done some day");
        self.recorder.done(now).expect("something is done")
    }

    /// Has a grant's statement written; whether it was.
    fn commit_first(&mut self, now: Now) -> bool {
        self.recorder.commit_first(refusal(), Room::Free, None, Covered::default(), First::Rendered(id(1)), now);
        written(&self.next(now)).first.is_ok()
    }

    /// Has the disk thread stand still until the answer is dropped.
    fn stand_still(&mut self) -> Still {
        let still = Still(Arc::new((Mutex::new(true), Condvar::new())));
        let stands = Arc::clone(&still.0);
        let stand = move |_: &mut Store| {
            let (stands, told) = &*stands;
            drop(told.wait_while(stands.lock().expect("not poisoned"), |stands| *stands));
            None
        };
        self.recorder.work("standing still", Box::new(stand), now());
        still
    }

    /// How many refusals are on disk.
    fn refusals(&self) -> usize {
        let lines = self.recorder.ledger().expect("it is open").lines_after(0, usize::MAX).expect("readable");
        let records = lines.iter().map(|line| Record::parse(line.as_bytes()).expect("a record"));
        records.filter(|record| record.kind() == Some(ArtifactType::SessionRefused)).count()
    }

    fn segment(&self) -> PathBuf {
        self.dir.path().join("lib/ledger")
    }
}

/// The disk stands still as long as it is there.
struct Still(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Still {
    fn drop(&mut self) {
        *self.0.0.lock().expect("not poisoned") = false;
        self.0.1.notify_all();
    }
}

fn written(settled: &Settled) -> &Written {
    let Done::Written(written) = &settled.done else { panic!("a commit: {settled:?}") };
    written
}

fn refusal() -> Draft {
    Draft::new(ArtifactType::SessionRefused, "login refused")
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_and_what_was_noted_follows_when_it_can() {
    let mut desk = Desk::new();
    let (segment, away) = (desk.segment(), desk.dir.path().join("away"));
    // A file stands in the place of its directory.
    std::fs::rename(&segment, &away).expect("own directory");
    std::fs::write(&segment, "").expect("own directory");
    let tomorrow = later(86_400);
    desk.recorder.note(refusal());
    let ends = [id(7)].into();
    desk.recorder.commit(None, Covered { ends, ..Covered::default() }, tomorrow);
    let settled = desk.next(tomorrow);
    assert!(!written(&settled).noted && settled.covered.is_empty(), "it is not on record");
    assert!(desk.recorder.failing().is_some());
    assert!(!desk.commit_first(tomorrow), "this one must not happen");
    std::fs::remove_file(&segment).and_then(|()| std::fs::rename(&away, &segment)).expect("own directory");
    desk.recorder.commit(None, Covered::default(), tomorrow);
    let settled = desk.next(tomorrow);
    assert!(written(&settled).noted && desk.recorder.failing().is_none());
    assert_eq!(settled.covered.ends, [id(7)].into(), "what failed before is on record by it");
    assert_eq!(desk.refusals(), 1, "what must not happen is not recorded");
}

#[test]
fn a_disk_that_stands_still_holds_up_nothing_and_what_waited_too_long_is_never_written() {
    let mut desk = Desk::new();
    let still = desk.stand_still();
    // Many times more than is kept: the rest is counted.
    for _ in 0..MAX_OWED + 10 {
        desk.recorder.note(refusal());
        desk.recorder.commit(None, Covered::default(), now());
    }
    desk.recorder.commit_first(refusal(), Room::Free, None, Covered::default(), First::Rendered(id(1)), now());
    assert!(desk.recorder.done(now()).is_none() && desk.recorder.queue.len() <= 2, "one commit takes it all");
    assert!(desk.recorder.stalled_for(now()).is_none() && desk.recorder.due() == Some(now().boot + STALLED));
    assert_eq!(desk.recorder.stalled_for(later(3)), Some(Duration::from_secs(3)));
    let newest = desk.recorder.newest();
    assert!(!desk.recorder.was_tried(newest));
    // A rendered grant waits for as long as it takes.
    assert!(desk.recorder.withdraw_overdue(later(3_600)).is_empty() && desk.recorder.firsts().count() == 1);
    drop(still);
    while !desk.recorder.was_tried(newest) {
        desk.next(later(3));
    }
    assert!(desk.recorder.stalled_for(later(10)).is_none());
    assert_eq!(desk.refusals(), MAX_OWED + 1);
    let last = desk.recorder.ledger().expect("it is open").lines_after(0, usize::MAX).expect("readable");
    assert!(last.iter().any(|line| line.contains("\"lost\":10")), "what there was no room for is counted");
}

#[test]
fn however_many_are_refused_while_the_disk_stands_still_the_queue_stays_short() {
    let mut desk = Desk::new();
    let still = desk.stand_still();
    for second in 0..100 {
        desk.recorder.note(refusal());
        let first = First::Login(Box::new(pending(later(second).boot)));
        desk.recorder.commit_first(refusal(), Room::Reserved, None, Covered::default(), first, later(second));
        assert_eq!(desk.recorder.withdraw_overdue(later(second)).len(), 1);
        assert!(desk.recorder.queue.len() <= 1, "{:?}", desk.recorder.queue);
    }
    let newest = desk.recorder.newest();
    drop(still);
    while !desk.recorder.was_tried(newest) {
        desk.next(later(100));
    }
    assert_eq!(desk.refusals(), 100, "what was noted, and nothing that was withdrawn");
}

#[test]
fn newer_grants_replace_those_that_wait_and_work_of_one_name_is_done_once() {
    let mut desk = Desk::new();
    let still = desk.stand_still();
    let done = Arc::new(Mutex::new(Vec::new()));
    for n in 0..10 {
        let done = Arc::clone(&done);
        let work = move |_: &mut Store| {
            done.lock().expect("not poisoned").push(n);
            None
        };
        desk.recorder.work_anew("counting", Box::new(work), now());
    }
    let file = desk.dir.path().join("lib/grants.json");
    let (mut grants, _) = GrantsOnDisk::empty(&file, &desk.dir.path().join("ended"), "b");
    for n in 0..3 {
        grants.add(lockdown_core::policy::test_grants::grant(n, "frank", "ubuntu")).expect("there is room");
        let snapshot = grants.snapshot(now());
        desk.recorder.commit(Some(snapshot), Covered::default(), now());
    }
    assert_eq!(desk.recorder.queue.len(), 2);
    drop(still);
    while !desk.recorder.is_idle() {
        desk.next(now());
    }
    assert_eq!(*done.lock().expect("not poisoned"), [9]);
    let saved = std::fs::read_to_string(file).expect("it is saved");
    assert_eq!(saved.matches("\"person\":\"frank\"").count(), 3);
}

#[test]
fn a_disk_that_cannot_be_read_yet_holds_up_nobody_and_takes_all_of_it_in_order_once_it_can() {
    let mut desk = Desk::opened_after(vec![NotOpened::NotMounted("/var/lib/lockdownd".into())]);
    assert!(desk.recorder.opened(LONG, now()).is_none(), "it is said, and tried again");
    assert!(
        desk.recorder.failing().is_some_and(|why| why.contains("is not mounted"))
            && !desk.recorder.takes_another_start()
    );
    assert!(desk.recorder.ledger().is_none() && desk.recorder.is_idle());
    assert_eq!(desk.recorder.stalled_for(later(1)), Some(Duration::from_secs(1)), "nobody need wait for it");
    desk.recorder.note(refusal());
    desk.recorder.commit(None, Covered::default(), now());
    desk.recorder.commit_first(
        refusal(),
        Room::Free,
        None,
        Covered::default(),
        First::Login(Box::new(pending(later(4).boot))),
        now(),
    );
    let over = desk.recorder.withdraw_overdue(later(4));
    assert!(matches!(over.as_slice(), [First::Login(_)]), "whoever waits is answered");
    desk.recorder.note(refusal());
    desk.recorder.commit(None, Covered::default(), later(5));
    assert!(matches!(desk.next(later(6)).done, Done::Opened(_)));
    assert!(desk.recorder.failing().is_none() && desk.recorder.ledger().is_some());
    desk.recorder.commit(None, Covered::default(), later(6));
    assert_eq!(desk.refusals(), 0, "what was read is taken up first");
    desk.recorder.note(refusal());
    desk.recorder.commit(None, Covered::default(), later(6));
    while !desk.recorder.is_idle() {
        desk.next(later(7));
    }
    assert_eq!(desk.refusals(), 3);
}

#[test]
fn another_start_is_asked_for_once_and_only_where_it_helps() {
    let missing = || NotOpened::NotMounted("/var/lib/lockdownd".into());
    let remounted = || NotOpened::Remounted("/var/lib/lockdownd".into());
    for (tries, helps) in [(vec![missing(), remounted()], true), (vec![remounted(), remounted()], false)] {
        let mut desk = Desk::opened_after(tries);
        for _ in 0..2 {
            assert!(desk.recorder.opened(LONG, now()).is_none());
        }
        assert_eq!((desk.recorder.takes_another_start(), desk.recorder.takes_another_start()), (helps, false));
    }
}
