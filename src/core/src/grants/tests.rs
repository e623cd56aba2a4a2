//! The grants as they come, end and are forgotten.

use super::*;
use crate::policy::test_grants::{ended, grant, id, later, now};

const BOOT: &str = "boot-1";

fn with(all: impl IntoIterator<Item = Grant>) -> Grants {
    let mut grants = Grants::default();
    for grant in all {
        grants.add(grant).expect("there is room");
    }
    grants
}

fn ids(grants: &Grants) -> Vec<&str> {
    grants.open_ones().map(|grant| grant.id.as_str()).collect()
}

#[test]
fn a_grant_ends_once_and_the_first_end_stands() {
    let mut grants = with([grant(1, "frank", "ubuntu")]);
    let end = |cause| ended(grant(1, "frank", "ubuntu"), cause, false).end.expect("ended");
    assert!(grants.end(&id(1), end(EndCause::Revoked)));
    assert!(!grants.end(&id(1), end(EndCause::Expired)) && !grants.end(&id(2), end(EndCause::Expired)));
    assert_eq!(grants.get(&id(1)).and_then(|grant| grant.end.clone()).map(|end| end.cause), Some(EndCause::Revoked));
    assert!(!grants.mark_ends_recorded(&[]), "nothing was noted");
    assert!(grants.mark_ends_recorded(&[id(1)]) && !grants.mark_ends_recorded(&[id(1)]));
}

#[test]
fn only_a_grant_that_is_not_on_record_is_taken_back() {
    let mut grants = with([grant(1, "frank", "ubuntu"), Grant { recorded: false, ..grant(2, "grace", "ubuntu") }]);
    grants.take_back(&id(1));
    grants.take_back(&id(2));
    assert_eq!(ids(&grants), [id(1).as_str()]);
    grants.add(Grant { recorded: false, ..grant(3, "grace", "ubuntu") }).expect("there is room");
    grants.mark_created_recorded(&id(3));
    grants.take_back(&id(3));
    assert_eq!(ids(&grants).len(), 2);
}

#[test]
fn the_clocks_are_due_a_minute_after_they_were_written_and_only_while_a_grant_is_open() {
    let mut grants = Grants::default();
    drop(grants.to_keep(BOOT, now()));
    assert_eq!(grants.next_heartbeat(), None);
    grants.add(grant(1, "frank", "ubuntu")).expect("there is room");
    assert_eq!(grants.next_heartbeat(), Some(now().boot + HEARTBEAT));
}

#[test]
fn the_next_change_is_the_first_beginning_or_end() {
    let mut grants = with([grant(1, "frank", "ubuntu")]);
    let end = later(3_600);
    assert_eq!(grants.next_change(now()), (Some(end.wall), Some(end.boot)));
    grants.add(Grant { starts_at: later(60).wall, ..grant(2, "grace", "ubuntu") }).expect("there is room");
    assert_eq!(grants.next_change(now()), (Some(later(60).wall), Some(end.boot)));
    assert_eq!(grants.next_change(later(60)), (Some(end.wall), Some(end.boot)), "it has begun");
}

#[test]
fn the_bound_on_open_grants_holds_and_ended_ones_make_room() {
    let all = (0..MAX_OPEN as u64).map(|number| grant(number, "frank", "ubuntu")).collect();
    let mut grants = Grants { all, ..Grants::default() };
    assert!(matches!(grants.add(grant(999_999, "frank", "ubuntu")), Err(Full)));
    grants.all[0] = ended(grants.all[0].clone(), EndCause::Expired, true);
    grants.add(grant(999_999, "frank", "ubuntu")).expect("one has ended");
}

#[test]
fn old_ended_grants_are_forgotten_but_none_that_must_not_come_back_or_is_not_on_record() {
    let rendered = |number, content: &str| Grant {
        origin: Origin::Config { place: "c:1:1".to_owned(), content: content.to_owned() },
        ..ended(grant(number, "frank", "ubuntu"), EndCause::Revoked, true)
    };
    let mut grants = Grants::default();
    grants.all.push(rendered(1, "still there"));
    grants.all.push(rendered(2, "no longer there"));
    grants.all.push(ended(grant(3, "frank", "ubuntu"), EndCause::Expired, false));
    grants.all.push(grant(4, "frank", "ubuntu"));
    let filler = (10..).map(|number| ended(grant(number, "frank", "ubuntu"), EndCause::Expired, true));
    grants.all.extend(filler.take(MAX_ENDED_KEPT));
    grants.keep_contents(["still there".to_owned()].into());
    let (grants, _) = Grants::wake(grants.to_keep(BOOT, now()), [], BOOT, now());
    let is_kept = |number| grants.get(&id(number)).is_some();
    assert!(is_kept(1) && !is_kept(2) && is_kept(3) && is_kept(4) && !is_kept(10) && !is_kept(11) && is_kept(12));
    assert_eq!(grants.all().iter().filter(|grant| !grant.is_open()).count(), MAX_ENDED_KEPT);
}
