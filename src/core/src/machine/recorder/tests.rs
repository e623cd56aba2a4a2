//! What waits for the disk holds nobody up, and the queue stays short however long that is.

use record::ArtifactType;

use super::*;
use crate::{
    machine::login::tests::pending,
    policy::test_grants::{id, later, now},
};

fn opened() -> Recorder {
    let mut recorder = Recorder::new(now());
    recorder.learn(Known::default());
    recorder.opened(None);
    recorder
}

fn refusal() -> Draft {
    Draft::new(ArtifactType::SessionRefused, "login refused")
}

fn note(recorder: &mut Recorder, now: Now) {
    recorder.note(refusal());
    recorder.commit(None, Covered::default(), now);
}

fn first(recorder: &mut Recorder, first: First, now: Now) {
    recorder.commit_first((vec![refusal()], Room::Free), None, Covered::default(), first, now);
}

/// The disk takes all that it is given; how many statements that were.
fn drain(recorder: &mut Recorder, now: Now) -> usize {
    let mut taken = 0;
    loop {
        let Some(task) = recorder.next_task(now) else { return taken };
        let written = match task {
            Task::Commit(commit, _) => {
                taken += commit.noted.len() + commit.first.as_ref().map_or(0, |(drafts, _)| drafts.len());
                Some(Written { ended: None, noted: true, first: Ok(()) })
            }
            Task::Work(..) => None,
        };
        recorder.done(written, now);
    }
}

#[test]
fn what_a_commit_that_failed_was_to_cover_the_next_that_succeeds_does() {
    let mut recorder = opened();
    recorder.note(refusal());
    recorder.commit(None, Covered { ends: [id(7)].into(), ..Covered::default() }, now());
    assert!(matches!(recorder.next_task(now()), Some(Task::Commit(..))));
    recorder.learn(Known { owed: 1, failing: Some("no space".to_owned()), ..Known::default() });
    let (settled, _) = recorder.done(Some(Written { ended: None, noted: false, first: Ok(()) }), now());
    assert!(settled.is_some_and(|settled| settled.covered.is_empty()), "it is not on record");
    assert_eq!(recorder.failing(), Some("no space"));
    // What the ledger owes is tried again with the next commit, though nothing new is noted.
    recorder.commit(None, Covered::default(), now());
    assert!(recorder.next_task(now()).is_some());
    recorder.learn(Known::default());
    let (settled, _) = recorder.done(Some(Written { ended: None, noted: true, first: Ok(()) }), now());
    assert_eq!(settled.map(|settled| settled.covered.ends), Some([id(7)].into()));
    recorder.commit(None, Covered::default(), now());
    assert!(recorder.next_task(now()).is_none(), "nothing is owed any more");
}

#[test]
fn a_disk_that_stands_still_holds_up_nothing_and_what_there_is_no_room_for_is_counted() {
    let mut recorder = opened();
    recorder.work(WorkId(1)).expect("there is room");
    assert!(matches!(recorder.next_task(now()), Some(Task::Work(WorkId(1), _))));
    for _ in 0..MAX_OWED + 10 {
        note(&mut recorder, now());
    }
    first(&mut recorder, First::Rendered(id(1)), now());
    assert!(recorder.next_task(now()).is_none() && recorder.queue.len() == 1, "one commit takes it all");
    assert!(recorder.stalled_for(now()).is_none() && recorder.due() == Some(now().boot + STALLED));
    assert_eq!(recorder.stalled_for(later(3)), Some(Duration::from_secs(3)));
    assert_eq!((recorder.tells_stall(later(3)), recorder.tells_stall(later(4))), (Some(Stall::Begun), None));
    let newest = recorder.newest();
    assert!(!recorder.was_tried(newest));
    // A rendered grant waits for as long as it takes.
    assert!(recorder.withdraw_overdue(later(3_600)).is_empty() && recorder.firsts().count() == 1);
    assert_eq!(recorder.done(None, later(5)).1, Some(Stall::Over(Duration::from_secs(5))));
    let Some(Task::Commit(commit, _)) = recorder.next_task(later(5)) else { panic!("the commit") };
    assert_eq!((commit.noted.len(), commit.lost.map(|(count, _)| count)), (MAX_OWED, Some(10)));
    let (settled, _) = recorder.done(Some(Written { ended: None, noted: true, first: Ok(()) }), later(5));
    assert!(recorder.was_tried(newest) && settled.is_some_and(|settled| settled.first.is_some()));
}

#[test]
fn however_many_are_refused_while_the_disk_stands_still_the_queue_stays_short() {
    let mut recorder = opened();
    recorder.work(WorkId(1)).expect("there is room");
    assert!(recorder.next_task(now()).is_some());
    for second in 0..100 {
        recorder.note(refusal());
        first(&mut recorder, First::Login(Box::new(pending(later(second).boot))), later(second));
        assert_eq!(recorder.withdraw_overdue(later(second)).len(), 1);
        assert!(recorder.queue.len() <= 1, "{:?}", recorder.queue);
    }
    recorder.done(None, later(100));
    assert_eq!(drain(&mut recorder, later(100)), 100, "what was noted, and nothing that was withdrawn");
}

#[test]
fn work_of_one_name_is_done_once_and_more_than_there_is_room_for_is_refused() {
    let mut recorder = opened();
    recorder.work(WorkId(1)).expect("there is room");
    assert!(recorder.next_task(now()).is_some());
    let replaced: Vec<Option<WorkId>> = (2..5).map(|n| recorder.work_anew("counting", WorkId(n))).collect();
    assert_eq!(replaced, [None, Some(WorkId(2)), Some(WorkId(3))]);
    for n in 0..MAX_WORK as u64 {
        recorder.work(WorkId(100 + n)).expect("there is room");
    }
    assert_eq!(recorder.work(WorkId(1_000)), Err(TooMuchWork));
    assert_eq!(recorder.queue.len(), MAX_WORK + 1);
}

#[test]
fn before_the_ledger_is_open_statements_are_kept_elsewhere_and_whoever_waits_is_answered() {
    let mut recorder = Recorder::new(now());
    recorder.not_opened(NotOpened { why: "it is not mounted".to_owned(), starts_again: false });
    assert!(recorder.failing() == Some("it is not mounted") && !recorder.takes_another_start());
    assert_eq!(recorder.stalled_for(later(1)), Some(Duration::from_secs(1)), "nobody need wait for it");
    recorder.note(refusal());
    assert_eq!(recorder.take_unopened(now()).len(), 1);
    recorder.commit(None, Covered::default(), now());
    assert!(recorder.newest() == 1 && !recorder.was_tried(1), "it is not on record by that");
    recorder.take_back(Owed { stated: vec![(now().wall, refusal())], is_queued: false });
    first(&mut recorder, First::Login(Box::new(pending(later(4).boot))), now());
    assert!(recorder.next_task(now()).is_none());
    assert!(matches!(recorder.withdraw_overdue(later(4)).as_slice(), [First::Login(_)]));
    recorder.learn(Known::default());
    recorder.opened(Some(WorkId(1)));
    assert!(matches!(recorder.next_task(later(6)), Some(Task::Work(WorkId(1), _))), "what was kept comes first");
    recorder.done(None, later(6));
    assert_eq!(drain(&mut recorder, later(6)), 1, "what could not be kept elsewhere");
}

#[test]
fn another_start_is_asked_for_once_and_only_where_it_helps() {
    let why = |starts_again| NotOpened { why: "not now".to_owned(), starts_again };
    for (tries, helps) in [([false, true], true), ([true, true], false)] {
        let mut recorder = Recorder::new(now());
        tries.into_iter().for_each(|again| recorder.not_opened(why(again)));
        assert_eq!((recorder.takes_another_start(), recorder.takes_another_start()), (helps, false));
    }
}

#[test]
fn what_cannot_be_kept_elsewhere_is_tried_again_and_is_in_the_queue_once() {
    let mut recorder = Recorder::new(now());
    recorder.learn(Known::default());
    recorder.note(refusal());
    recorder.commit(None, Covered::default(), now());
    assert!(recorder.next_task(now()).is_some(), "the disk is at it, and does not answer");
    recorder.note(refusal());
    recorder.commit(None, Covered::default(), later(1));
    let stated = recorder.take_unkept(true, later(1));
    assert_eq!(stated.len(), 2);
    recorder.take_back(Owed { stated, is_queued: true });
    assert_eq!(recorder.take_unkept(false, later(2)).len(), 2, "it is tried again");
    recorder.done(Some(Written { ended: None, noted: true, first: Ok(()) }), later(3));
    let Some(Task::Commit(commit, _)) = recorder.next_task(later(3)) else { panic!("the other waits") };
    assert_eq!(commit.noted.len(), 1);
    recorder.done(Some(Written { ended: None, noted: true, first: Ok(()) }), later(4));
    assert!(recorder.next_task(later(4)).is_none() && recorder.takes_kept());
    assert!(recorder.take_unkept(false, later(5)).is_empty(), "the disk has all of it");
}
