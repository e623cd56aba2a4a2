//! Rows about what a host remembers, and what follows from what it has forgotten.

use std::time::Duration;

use crate::common::*;
use document::{
    judge::{MAX_FEEDER_HOLDS, MAX_HOLDS, MAX_LOCKDOWNS, MAX_REVOKES},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn by(it: &Company) -> [&Signing; 2] {
    [&it.alice, &it.bob]
}

/// The nth of many different grants.
fn nth(it: &Company, n: usize) -> Grant {
    Grant { reason: w(&format!("number {n}")), ..it.grant() }
}

#[test]
fn accepted_grants_are_remembered_until_accept_until_and_skew_also_across_clock_steps() {
    let it = company();
    let grant = signed(it.grant(), &by(&it));
    let mut judge = it.judge();
    terms(judge.judge(&grant, noon()));
    let last = it.grant().accept_until.after(2 * MINUTE);
    judge.tidy(last);
    assert_eq!(judge.judge(&grant, last).verdict, Verdict::Known);
    // The clock runs ahead, the grant is forgotten, and the clock is set back.
    let junk = signed(it.grant(), &[]);
    assert!(matches!(refusal(judge.judge(&junk, noon().after(DAY))), Refusal::Over { .. }));
    let (mut judge, _) = restarted(&judge, it.settings(), it.place(), noon());
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::Forgotten { .. }));
    let later = Grant { accept_until: it.grant().accept_until.after(Duration::from_secs(1)), ..it.grant() };
    terms(judge.judge(&signed(later, &by(&it)), noon()));
}

#[test]
fn a_full_table_forgets_the_same_way() {
    let it = company();
    let rules = vec![Rule { approvals: approvals(1), approve_with: ApproveWith::Key, ..it.roster().rules[1].clone() }];
    let settings = Settings { plain_approvers: true, ..it.settings() };
    let mut roster = Roster { rules, ..it.roster() };
    // One plain key: the fastest to sign with.
    roster.approvers[0].keys = [it.stranger.key()].into();
    let mut judge = it.judge_with(settings, it.place(), roster);
    let until = |n: usize| Grant {
        accept_until: it.grant().issued_at.after(HOUR + Duration::from_secs(n.try_into().unwrap())),
        ..nth(&it, n)
    };
    for n in 1..=MAX_REMEMBERED {
        terms(judge.judge(&signed(until(n), &[&it.stranger]), noon()));
    }
    let first = signed(until(1), &[&it.stranger]);
    assert_eq!(judge.judge(&first, noon()).verdict, Verdict::Known);
    // Nothing is forgotten for one that would be forgotten first itself.
    assert_eq!(refusal(judge.judge(&signed(until(0), &[&it.stranger]), noon())), Refusal::Full);
    let equal = Grant { reason: w("as long as the first"), ..until(1) };
    assert_eq!(refusal(judge.judge(&signed(equal, &[&it.stranger]), noon())), Refusal::Full);
    terms(judge.judge(&signed(until(MAX_REMEMBERED + 1), &[&it.stranger]), noon()));
    assert!(matches!(refusal(judge.judge(&first, noon())), Refusal::Forgotten { .. }));
    assert_eq!(judge.judge(&signed(until(2), &[&it.stranger]), noon()).verdict, Verdict::Known);
    assert!(judge.state().is_bounded());
    let size = serde_json::to_vec(judge.state()).unwrap().len();
    assert!(size < 1 << 20, "{size}");
}

#[test]
fn state_that_is_new_or_void_refuses_grants_issued_before_it_began() {
    let it = company();
    let issued_at = it.grant().issued_at;
    let named = signed(Grant { hosts: Hosts::Named(set(&["i-1"])), ..it.grant() }, &by(&it));
    let judged = |began: Moment| {
        let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), began);
        assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), noon()));
        judge.judge(&named, noon())
    };
    let second = Duration::from_secs(1);
    assert!(matches!(refusal(judged(noon())), Refusal::BeforeState { .. }));
    assert!(matches!(refusal(judged(issued_at.before(2 * MINUTE - second))), Refusal::BeforeState { .. }));
    terms(judged(issued_at.before(2 * MINUTE)));
}

#[test]
fn a_rosters_holds_stand_from_its_acceptance() {
    let it = company();
    let hold = document(it.hold_frank()).id();
    let roster = Roster { holds: [hold].into(), ..it.roster() };
    let mut judge = it.judge_with(it.settings(), it.place(), roster);
    // A host that forgot does not know whom it holds: so it opens to nobody.
    let grant = signed(it.grant(), &by(&it));
    assert_eq!(wait(judge.judge(&grant, noon())), Wait::HoldUnknown(hold));
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert_eq!(refusal(judge.judge(&grant, noon())), Refusal::Held(hold));
    let grace = Grant { person: w("grace"), fingerprints: [it.grace_login.fingerprint()].into(), ..it.grant() };
    terms(judge.judge(&signed(grace, &by(&it)), noon()));
    assert_accepted(&judge.judge(&signed(it.lift(hold), &by(&it)), noon()));
    assert_eq!(refusal(judge.judge(&grant, noon())), Refusal::LockedDown(hold));
    let later = Grant { issued_at: noon(), starts_at: noon(), ..it.grant() };
    terms(judge.judge(&signed(later, &by(&it)), noon()));
}

#[test]
fn a_persons_hold_that_a_carrier_brings_with_a_feeders_signature_alone_is_still_to_come() {
    let it = company();
    let of_a_key = Lockdown { fingerprint: Some(it.grace_login.fingerprint()), ..it.hold_frank() };
    let of_all = Lockdown { person: None, ..it.hold_frank() };
    for hold in [of_a_key, of_all] {
        let id = document(hold.clone()).id();
        let roster = Roster { holds: [id].into(), ..it.roster() };
        let mut judge = it.judge_with(it.settings(), it.place(), roster);
        assert!(matches!(refusal(judge.judge(&signed(hold.clone(), &[&it.iam]), noon())), Refusal::Feeder { .. }));
        assert_eq!(wait(judge.judge(&signed(it.grant(), &by(&it)), noon())), Wait::HoldUnknown(id));
        assert_accepted(&judge.judge(&signed(hold, &[&it.alice]), noon()));
    }
    // Where a feeder may sign it, it holds by the feeder's word, and by the approver's once that comes.
    let mut judge = it.judge();
    let hold = Lockdown { person: Some(w("grace")), ..it.hold_frank() };
    let id = document(hold.clone()).id();
    assert_accepted(&judge.judge(&signed(hold.clone(), &[&it.iam]), noon()));
    let source = |judge: &Judge| {
        judge.state().covering(noon()).find(|(it, _)| **it == id).and_then(|(_, closed)| closed.source.clone())
    };
    assert_eq!(source(&judge), Some(w("iam")));
    assert_accepted(&judge.judge(&signed(hold.clone(), &[&it.alice, &it.iam]), noon()));
    assert_eq!(source(&judge), None);
    for by in [&it.alice, &it.iam] {
        assert_eq!(judge.judge(&signed(hold.clone(), &[by]), noon()).verdict, Verdict::Known);
    }
}

#[test]
fn a_feeders_hold_that_holds_nobody_here_keeps_nothing_shut_once_the_roster_names_it() {
    let it = company();
    let local = LocalPerson { keys: [it.carol.key()].into(), accounts: set(&["ubuntu"]) };
    let place = Place { people: [(w("grace"), local)].into(), ..it.place() };
    let hold = |reason: &str| Lockdown { person: Some(w("grace")), reason: w(reason), ..it.hold_frank() };
    let id = document(hold("left")).id();
    let roster = Roster { holds: [id].into(), ..it.roster() };
    let mut judge = it.judge_with(it.settings(), place, roster.clone());
    let grant = signed(it.grant(), &by(&it));
    assert_eq!(wait(judge.judge(&grant, noon())), Wait::HoldUnknown(id));
    // Nor does the roster's word make it more than a feeder's.
    assert!(matches!(refusal(judge.judge(&signed(hold("left"), &[&it.iam]), noon())), Refusal::Feeder { .. }));
    assert_eq!(judge.holds_back(Subject { person: &w("grace"), fingerprints: &[].into() }), None);
    terms(judge.judge(&grant, noon()));
    // Whether it was the feeder's own is not known: nothing is opened to whom it names until an approver's comes.
    let grace = Grant { person: w("grace"), fingerprints: [it.carol.fingerprint()].into(), ..it.grant() };
    assert_eq!(wait(judge.judge(&signed(grace, &by(&it)), noon())), Wait::HoldUnknown(id));
    assert_accepted(&judge.judge(&signed(hold("left"), &[&it.alice]), noon()));
    assert!(judge.holds_back(Subject { person: &w("grace"), fingerprints: &[].into() }).is_some());
    // A server need not publish who is held by the source already.
    let mut judge = it.judge();
    let said = |judge: &Judge, lockdown: Lockdown| {
        let judged = judge.clone().judge(&signed(lockdown.clone(), &[&it.iam]), noon());
        judge.said_before(&lockdown, &judged.signers)
    };
    assert_eq!(said(&judge, hold("left")), None);
    assert_accepted(&judge.judge(&signed(hold("left"), &[&it.iam]), noon()));
    assert_eq!(said(&judge, hold("again")), Some(judge::SaidBefore::By(id)));
    assert_eq!(said(&judge, Lockdown { stack: w("*"), ..hold("wider") }), None);
    // Hosts take both: lifting one leaves the other.
    assert_accepted(&judge.judge(&signed(hold("again"), &[&it.iam]), noon()));
    assert_accepted(&judge.judge(&signed(it.lift(id), &by(&it)), noon()));
    assert!(judge.holds_back(Subject { person: &w("grace"), fingerprints: &[].into() }).is_some());
}

#[test]
fn a_hold_that_the_roster_names_is_taken_when_its_signer_or_whom_it_holds_has_left() {
    let it = company();
    let by_feeder = signed(Lockdown { hold: true, person: Some(w("grace")), ..it.lockdown() }, &[&it.iam]);
    let by_alice = signed(it.hold_frank(), &[&it.alice]);
    let left = |holds: &[Id]| {
        let mut roster = Roster { holds: holds.iter().copied().collect(), ..it.roster() };
        roster.people.retain(|member| member.name.as_str() != "grace");
        roster.approvers.retain(|approver| approver.person.as_str() != "alice");
        it.judge_with(it.settings(), it.place(), roster)
    };
    let mut judge = left(&[by_feeder.document().id(), by_alice.document().id()]);
    assert_accepted(&judge.judge(&by_feeder, noon()));
    assert_accepted(&judge.judge(&by_alice, noon()));
    let mut judge = left(&[]);
    assert!(matches!(wait(judge.judge(&by_feeder, noon())), Wait::NotOfSource { .. }));
    assert_eq!(wait(judge.judge(&by_alice, noon())), Wait::SignerUnknown);
}

#[test]
fn closing_is_never_refused_for_want_of_room_revokes() {
    let it = company();
    let mut judge = it.judge();
    let grant = document(it.grant());
    assert_accepted(&judge.judge(&signed(it.revoke(grant.id()), &[&it.alice]), noon()));
    for n in 0..MAX_REVOKES {
        let other = document(nth(&it, n)).id();
        assert_accepted(&judge.judge(&signed(it.revoke(other), &[&it.alice]), noon().after(Duration::from_secs(1))));
    }
    assert!(judge.state().is_bounded());
    // The first one is forgotten, and with it every grant that could have been meant.
    let refused = refusal(judge.judge(&signed(it.grant(), &by(&it)), noon().after(MINUTE)));
    assert!(matches!(refused, Refusal::BeforeState { .. }), "{refused}");
}

#[test]
fn closing_is_never_refused_for_want_of_room_lockdowns() {
    let it = company();
    let mut judge = it.judge();
    let frank = Lockdown { person: Some(w("frank")), ..it.lockdown() };
    assert_accepted(&judge.judge(&signed(frank, &[&it.alice]), noon()));
    for n in 0..MAX_LOCKDOWNS {
        let other = Lockdown { person: Some(w(&format!("p{n}"))), ..it.lockdown() };
        assert_accepted(&judge.judge(&signed(other, &[&it.alice]), noon().after(Duration::from_secs(1))));
    }
    assert!(judge.state().is_bounded());
    let refused = refusal(judge.judge(&signed(it.grant(), &by(&it)), noon().after(MINUTE)));
    assert!(matches!(refused, Refusal::BeforeState { .. }), "{refused}");
}

#[test]
fn more_holds_than_can_be_kept_hold_everything_until_a_later_roster() {
    let it = company();
    let mut settings = it.settings();
    settings.roster.automatic = vec![it.iam.key()];
    let mut judge = it.judge_with(settings.clone(), it.place(), it.roster());
    for n in 0..MAX_HOLDS {
        let other = Lockdown { person: Some(w(&format!("p{n}"))), ..it.hold_frank() };
        assert_accepted(&judge.judge(&signed(other, &[&it.alice]), noon()));
    }
    let grace = Grant { person: w("grace"), fingerprints: [it.grace_login.fingerprint()].into(), ..it.grant() };
    let open = open_grant(&grace);
    terms(judge.judge(&signed(grace, &by(&it)), noon()));
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert!(judge.state().is_bounded());
    assert_eq!(judge.stands(&open, noon()), Err(Ended::TooManyHolds));
    assert_eq!(refusal(judge.judge(&signed(it.grant(), &by(&it)), noon())), Refusal::TooManyHolds);
    let (mut judge, _) = restarted(&judge, settings, it.place(), noon());
    assert!(judge.holds_back(Subject { person: &w("eve"), fingerprints: &[].into() }).is_some());
    // One that an automatic key has signed alone changes nothing about it.
    let mut automatic = Roster { version: version(2), issued_at: noon().after(HOUR), ..it.roster() };
    automatic.people[1].keys = [it.stranger.key()].into();
    let mut other = judge.clone();
    assert_accepted(&other.judge(&signed(automatic, &[&it.iam]), noon()));
    assert!(other.holds_back(Subject { person: &w("eve"), fingerprints: &[].into() }).is_some());
    // A roster from before the flood says nothing about it; one from after it says what stands.
    let hold = document(it.hold_frank()).id();
    let roster =
        |number, issued_at| Roster { version: version(number), issued_at, holds: [hold].into(), ..it.roster() };
    assert_accepted(&judge.judge(&signed(roster(2, noon().after(2 * MINUTE)), &[&it.ceo]), noon()));
    assert_eq!(judge.stands(&open, noon()), Err(Ended::TooManyHolds));
    assert_accepted(&judge.judge(&signed(roster(3, noon().after(HOUR)), &[&it.ceo]), noon()));
    assert_eq!(judge.stands(&open, noon()), Ok([it.grace_login.fingerprint()].into()));
    assert_eq!(wait(judge.judge(&signed(it.grant(), &by(&it)), noon())), Wait::HoldUnknown(hold));
}

#[test]
fn more_holds_of_a_feeder_than_can_be_kept_hold_its_own_people_alone() {
    let it = company();
    let mut roster = it.roster();
    let grace = roster.people.iter().position(|member| member.name.as_str() == "grace").unwrap();
    let like = |name: &str, keys: &[document::Key]| Member {
        name: w(name),
        keys: keys.iter().cloned().collect(),
        ..roster.people[grace].clone()
    };
    let ida = like("ida", &[it.stranger.key()]);
    let others: Vec<Member> = (0..=MAX_FEEDER_HOLDS).map(|n| like(&format!("p{n}"), &[])).collect();
    roster.people.push(ida);
    roster.people.extend(others);
    roster.people.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let mut judge = it.judge_with(it.settings(), it.place(), roster.clone());
    let frank = open_grant(&it.grant());
    for n in 0..=MAX_FEEDER_HOLDS {
        let hold = Lockdown { person: Some(w(&format!("p{n}"))), ..it.hold_frank() };
        assert_accepted(&judge.judge(&signed(hold, &[&it.iam]), noon()));
    }
    assert!(judge.state().is_bounded());
    let last = Lockdown { person: Some(w(&format!("p{MAX_FEEDER_HOLDS}"))), ..it.hold_frank() };
    assert_eq!(judge.judge(&signed(last, &[&it.iam]), noon()).verdict, Verdict::Known, "once on record");
    let of = |judge: &Judge, name: &str| judge.holds_back(Subject { person: &w(name), fingerprints: &[].into() });
    assert_eq!(of(&judge, "ida"), Some(Ended::TooManyOf(w("iam"))));
    assert_eq!((of(&judge, "frank"), of(&judge, "eve")), (None, None));
    let ida = Grant { person: w("ida"), fingerprints: [it.stranger.fingerprint()].into(), ..it.grant() };
    assert_eq!(refusal(judge.judge(&signed(ida, &by(&it)), noon())), Refusal::TooManyOf(w("iam")));
    terms(judge.judge(&signed(it.grant(), &by(&it)), noon()));
    assert!(judge.stands(&frank, noon()).is_ok());
    // What an approver holds has its own room.
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert_eq!(judge.stands(&frank, noon()), Err(Ended::Held(document(it.hold_frank()).id())));
    // A later roster says that it is over.
    let roster = Roster { version: version(2), issued_at: noon().after(HOUR), ..roster };
    assert_accepted(&judge.judge(&signed(roster, &[&it.ceo]), noon()));
    assert_eq!(of(&judge, "ida"), None);
}

#[test]
fn holds_of_other_hosts_give_way_to_those_of_this_one() {
    let it = company();
    let mut judge = it.judge();
    for n in 0..=MAX_HOLDS {
        let other = Lockdown { person: Some(w(&format!("p{n}"))), stack: w("db"), ..it.hold_frank() };
        assert_accepted(&judge.judge(&signed(other, &[&it.ceo]), noon()));
    }
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert!(judge.state().is_bounded());
    let of = |judge: &Judge, name: &str| judge.holds_back(Subject { person: &w(name), fingerprints: &[].into() });
    assert_eq!(of(&judge, "frank"), Some(Ended::Held(document(it.hold_frank()).id())));
    assert_eq!(of(&judge, "grace"), None);
}

#[test]
fn a_lockdown_that_came_while_the_clock_was_wrong_still_refuses_what_was_before_it() {
    let it = company();
    // A board without a battery: it begins in 1970, takes the lockdown, and then learns the time.
    let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), Moment::FIRST);
    assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), Moment::FIRST));
    assert_accepted(&judge.judge(&signed(it.lockdown(), &[&it.alice]), Moment::FIRST));
    let named = Grant { hosts: Hosts::Named(set(&["i-1"])), ..it.grant() };
    assert!(matches!(refusal(judge.judge(&signed(named, &by(&it)), noon())), Refusal::BeforeState { .. }));
}

#[test]
fn a_revoke_that_is_forgotten_leaves_no_grant_that_it_could_have_meant() {
    let it = company();
    let mut judge = it.judge();
    let revoke = signed(it.revoke(document(it.grant()).id()), &[&it.alice]);
    assert_accepted(&judge.judge(&revoke, noon()));
    let grant = signed(it.grant(), &by(&it));
    judge.tidy(noon().after(32 * DAY));
    assert_eq!(refusal(judge.clone().judge(&grant, noon())), Refusal::Revoked);
    judge.tidy(noon().after(33 * DAY));
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::BeforeState { .. }));
    let later = noon().after(2 * MINUTE);
    terms(judge.judge(&signed(Grant { issued_at: later, starts_at: later, ..it.grant() }, &by(&it)), later));
}

#[test]
fn a_lockdown_that_came_late_still_refuses_what_came_before_it_once_it_is_forgotten() {
    let it = company();
    let mut judge = it.judge();
    let late = Lockdown { issued_at: noon().before(DAY), ..it.lockdown() };
    assert_accepted(&judge.judge(&signed(late, &[&it.alice]), noon()));
    judge.tidy(noon().after(2 * DAY));
    let refused = refusal(judge.judge(&signed(it.grant(), &by(&it)), noon()));
    assert!(matches!(refused, Refusal::BeforeState { .. }), "{refused}");
}

#[test]
fn a_lockdown_by_a_clock_that_is_ahead_refuses_no_longer_than_another() {
    let it = company();
    let mut judge = it.judge();
    let ahead = Lockdown { issued_at: noon().after(400 * DAY), ..it.lockdown() };
    assert_accepted(&judge.judge(&signed(ahead, &[&it.alice]), noon()));
    let later = noon().after(2 * DAY);
    let grant = Grant {
        issued_at: later,
        starts_at: later,
        accept_until: later.after(HOUR),
        expires_at: later.after(HOUR),
        ..it.grant()
    };
    terms(judge.judge(&signed(grant, &by(&it)), later.after(MINUTE)));
}

#[test]
fn a_clock_that_was_ahead_can_be_owned_up_to() {
    let it = company();
    let ahead = noon().after(1000 * DAY);
    let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), ahead);
    assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), ahead));
    judge.lock_down_locally(ahead);
    let now = noon().after(5 * MINUTE);
    let issued_at = now.after(2 * MINUTE);
    let grant = Grant { issued_at, starts_at: issued_at, ..it.grant() };
    refusal(judge.judge(&signed(grant.clone(), &by(&it)), now));
    judge.clock_was_ahead(now);
    assert!(matches!(refusal(judge.judge(&signed(it.grant(), &by(&it)), now)), Refusal::HostIsNewer { .. }));
    terms(judge.judge(&signed(grant, &by(&it)), now));
}

#[test]
fn state_that_is_not_as_this_program_writes_it_is_not_taken_up() {
    let it = company();
    let judge = it.judge();
    let text = serde_json::to_string(judge.state()).unwrap();
    assert!(serde_json::from_str::<State>(&text.replace("\"v\":1", "\"v\":2")).is_err());
    assert!(serde_json::from_str::<State>(&text.replace("\"v\":1", "\"v\":1,\"x\":1")).is_err());
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = document(it.grant()).id().to_string();
    value["spent"] = vec![id; judge::MAX_SPENT + 1].into();
    let state: State = serde_json::from_value(value).unwrap();
    let (judge, dropped) =
        Judge::load(it.settings().check().unwrap(), it.place(), state, judge.rosters().clone(), noon());
    assert_eq!(dropped, [judge::Dropped::Unbounded]);
    assert_eq!((judge.state().began(), judge.state().roster()), (noon(), None));
}

#[test]
fn a_server_takes_what_was_issued_before_it_began_and_leaves_that_rule_to_the_hosts() {
    let it = company();
    let begin = |place| {
        let mut judge = Judge::begin(it.settings().check().unwrap(), place, noon());
        assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), noon()));
        judge
    };
    let grant = signed(it.grant(), &by(&it));
    assert!(matches!(refusal(begin(it.place()).judge(&grant, noon())), Refusal::HostIsNewer { .. }));
    let mut server = begin(Place { host: None, ..it.place() });
    terms(server.judge(&grant, noon()));
    assert_eq!(server.judge(&grant, noon()).verdict, Verdict::Known);
}

#[test]
fn judges_share_a_roster_only_where_both_have_it_and_go_on_by_themselves() {
    let it = company();
    let of = |stack: &str| Place { host: None, stack: w(stack), ..it.place() };
    let (web, mut other) =
        (it.judge_with(it.settings(), of("web"), it.roster()), it.judge_with(it.settings(), of("db"), it.roster()));
    other.share_roster(&web);
    assert!(std::ptr::eq(other.roster().unwrap(), web.roster().unwrap()));
    let mut copy = other.clone();
    let next = Roster { version: version(2), people: vec![], ..it.roster() };
    assert_accepted(&copy.judge(&signed(next, &[&it.ceo]), noon()));
    assert_eq!((web.roster().unwrap().people.len(), other.roster().unwrap().people.len()), (2, 2));
    copy.share_roster(&web);
    assert!(copy.roster().unwrap().people.is_empty(), "another roster is not replaced");
}
