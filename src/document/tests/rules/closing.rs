//! Rows about what closes.

use std::time::Duration;

use crate::common::*;
use document::{judge::LOCKDOWN_REFUSES, *};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A judge in which Frank's grant is open.
fn with_grant(it: &Company) -> Judge {
    let mut judge = it.judge();
    terms(judge.judge(&signed(it.grant(), &[&it.alice, &it.bob]), noon()));
    judge
}

fn subject_of<'a>(grant: &'a OpenGrant) -> Subject<'a> {
    Subject { person: &grant.person, fingerprints: &grant.fingerprints }
}

#[test]
fn one_approver_revokes_and_a_revoke_is_kept_even_when_its_grant_is_unknown() {
    let it = company();
    let mut judge = with_grant(&it);
    let open = open_grant(&it.grant());
    for nobody in [&it.stranger, &it.frank_login, &it.iam, &it.ceo] {
        let judged = judge.judge(&signed(it.revoke(open.id), &[nobody]), noon());
        assert!(!matches!(judged.verdict, Verdict::Accepted(_)), "{judged:?}");
    }
    assert!(judge.stands(&open, noon()).is_ok());
    let judged = judge.judge(&signed(it.revoke(open.id), &[&it.carol]), noon());
    assert_eq!(judged.verdict, Verdict::Accepted(Accepted::Revoke { grant: open.id, was_known: true }));
    assert_eq!(judge.stands(&open, noon()), Err(Ended::Revoked));

    let mut judge = it.judge();
    let judged = judge.judge(&signed(it.revoke(open.id), &[&it.frank_approves]), noon());
    assert_eq!(judged.verdict, Verdict::Accepted(Accepted::Revoke { grant: open.id, was_known: false }));
    assert_eq!(judge.judge(&signed(it.revoke(open.id), &[&it.alice]), noon()).verdict, Verdict::Known);
    assert_eq!(refusal(judge.judge(&signed(it.grant(), &[&it.alice, &it.bob]), noon())), Refusal::Revoked);
}

#[test]
fn roster_revoke_lockdown_and_lift_are_taken_at_any_age_and_whatever_the_hosts_clock_says() {
    let it = company();
    for now in [Moment::FIRST, began(), noon().after(400 * DAY), Moment::LAST] {
        let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), now);
        assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), now));
        let hold = document(it.hold_frank()).id();
        assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), now));
        assert_accepted(&judge.judge(&signed(it.revoke(hold), &[&it.alice]), now));
        assert!(judge.holds_back(subject_of(&open_grant(&it.grant()))).is_some());
        assert_accepted(&judge.judge(&signed(it.lift(hold), &[&it.alice, &it.bob]), now));
    }
}

#[test]
fn a_lockdown_ends_every_grant_in_its_scope_that_does_not_name_it_and_refuses_them_for_a_day() {
    let it = company();
    let mut judge = with_grant(&it);
    let open = open_grant(&it.grant());
    let lockdown = document(it.lockdown());
    let judged = judge.judge(&signed(it.lockdown(), &[&it.alice]), noon());
    assert_eq!(judged.verdict, Verdict::Accepted(Accepted::Lockdown { here: true, hold: false }));
    assert_eq!(judge.stands(&open, noon()), Err(Ended::LockedDown(lockdown.id())));
    assert!(judge.ends_local(lockdown.id(), subject_of(&open)));
    assert_eq!(judge.holds_back(subject_of(&open)), None, "what is given anew by lockdownctl may begin");

    let by = [&it.alice, &it.bob];
    // Whoever's clock was off: by its own word this grant is from after the lockdown.
    let late = |after: &[Id]| {
        let issued_at = noon().after(10 * MINUTE);
        Grant {
            issued_at,
            starts_at: issued_at,
            accept_until: issued_at.after(DAY),
            expires_at: issued_at.after(2 * HOUR),
            after: after.iter().copied().collect(),
            ..it.grant()
        }
    };
    let now = noon().after(15 * MINUTE);
    assert_eq!(refusal(judge.judge(&signed(late(&[]), &by), now)), Refusal::LockedDown(lockdown.id()));
    let named = late(&[lockdown.id()]);
    terms(judge.judge(&signed(named.clone(), &by), now));
    assert!(judge.stands(&open_grant(&named), now).is_ok());
    // By the host's clock it refuses for 24 h and skew, and by then no grant from before can be accepted.
    let last = noon().after(LOCKDOWN_REFUSES).before(Duration::from_secs(1));
    assert_eq!(judge.stands(&open, last), Err(Ended::LockedDown(lockdown.id())));
    assert!(judge.stands(&open, noon().after(LOCKDOWN_REFUSES)).is_ok());
    judge.tidy(noon().after(LOCKDOWN_REFUSES));
    assert!(
        judge.judge(&signed(it.lockdown(), &[&it.alice]), now).verdict == Verdict::Known,
        "a replay closes nothing"
    );
    assert!(matches!(
        refusal(judge.judge(&signed(Grant { reason: w("older"), ..it.grant() }, &by), noon())),
        Refusal::BeforeState { .. }
    ));
}

#[test]
fn scheduled_and_local_lockdowns_count_by_the_hosts_clock() {
    let it = company();
    let mut judge = it.judge();
    judge.lock_down_locally(noon());
    let by = [&it.alice, &it.bob];
    assert!(matches!(refusal(judge.judge(&signed(it.grant(), &by), noon())), Refusal::BeforeLocalLockdown { .. }));
    let at = |issued_at: Moment| Grant {
        issued_at,
        starts_at: issued_at,
        accept_until: issued_at.after(HOUR),
        expires_at: issued_at.after(HOUR),
        ..it.grant()
    };
    let second = Duration::from_secs(1);
    let early = at(noon().after(2 * MINUTE - second));
    let now = noon().after(3 * MINUTE);
    assert!(matches!(refusal(judge.judge(&signed(early, &by), now)), Refusal::BeforeLocalLockdown { .. }));
    terms(judge.judge(&signed(at(noon().after(2 * MINUTE)), &by), now));
    // A clock that was set back makes it none the earlier.
    judge.lock_down_locally(began());
    assert!(matches!(refusal(judge.judge(&signed(it.grant(), &by), noon())), Refusal::BeforeLocalLockdown { .. }));
}

#[test]
fn a_hold_ends_and_blocks_every_grant_in_scope_wherever_it_came_from_by_name_and_by_key() {
    let it = company();
    let mut judge = with_grant(&it);
    let open = open_grant(&it.grant());
    let hold = document(it.hold_frank()).id();
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.carol]), noon()));
    assert_eq!(judge.stands(&open, noon()), Err(Ended::Held(hold)));
    let by = [&it.alice, &it.bob];
    let named = Grant { after: [hold].into(), ..it.grant() };
    assert_eq!(refusal(judge.judge(&signed(named, &by), noon())), Refusal::Held(hold));
    // Chef's and lockdownctl's too, by name in any case, and by key under another name.
    let (frank, other) = (w::<record::Person>("FRANK"), w::<record::Person>("grace"));
    let (keys, none) = ([it.frank_device.fingerprint()].into(), [it.grace_login.fingerprint()].into());
    for (person, fingerprints, held) in [(&frank, &none, true), (&other, &keys, true), (&other, &none, false)] {
        assert_eq!(judge.holds_back(Subject { person, fingerprints }).is_some(), held);
    }
    // It outlives a restart, a year, and the roster that named his keys.
    let mut gone = Roster { version: version(2), ..it.roster() };
    gone.people.remove(0);
    assert_accepted(&judge.judge(&signed(gone, &[&it.ceo]), noon()));
    let year = noon().after(365 * DAY);
    let (mut judge, dropped) = restarted(&judge, it.settings(), it.place(), year);
    judge.tidy(year);
    assert_eq!(dropped, []);
    assert!(judge.holds_back(Subject { person: &other, fingerprints: &keys }).is_some());
    assert_accepted(&judge.judge(&signed(it.lift(hold), &by), year));
    assert_eq!(judge.holds_back(Subject { person: &frank, fingerprints: &keys }), None);
    assert_eq!(judge.judge(&signed(it.hold_frank(), &[&it.carol]), year).verdict, Verdict::Known, "lifted is lifted");
}

#[test]
fn a_hold_remembers_every_key_that_the_person_had_while_it_stood() {
    let it = company();
    let mut judge = it.judge();
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    let mut second = Roster { version: version(2), ..it.roster() };
    second.people[0].keys = [it.stranger.key()].into();
    let mut third = Roster { version: version(3), ..it.roster() };
    third.people.remove(0);
    for roster in [second, third] {
        assert_accepted(&judge.judge(&signed(roster, &[&it.ceo]), noon()));
    }
    let eve = w::<record::Person>("eve");
    // However often they are changed, the present ones are held too.
    let mut churned = judge.clone();
    for number in 4..10 {
        let mut roster = Roster { version: version(number), ..it.roster() };
        let seeds = (0..26).map(|n| Signing::plain(u8::try_from(number - 4).unwrap() * 26 + 50 + n).key());
        roster.people[0].keys = seeds.collect();
        assert_accepted(&churned.judge(&signed(roster.clone(), &[&it.ceo]), noon()));
        let fingerprints = [roster.people[0].keys.last().unwrap().fingerprint().clone()].into();
        assert!(churned.holds_back(Subject { person: &eve, fingerprints: &fingerprints }).is_some());
        assert!(churned.state().is_bounded());
    }
    for (key, held) in [(&it.frank_login, true), (&it.stranger, true), (&it.grace_login, false)] {
        let fingerprints = [key.fingerprint()].into();
        assert_eq!(judge.holds_back(Subject { person: &eve, fingerprints: &fingerprints }).is_some(), held);
    }
}

#[test]
fn a_hold_of_a_key_holds_that_key_and_one_of_everybody_holds_everybody() {
    let it = company();
    let mut judge = with_grant(&it);
    let laptop = Lockdown { hold: true, fingerprint: Some(it.frank_login.fingerprint()), ..it.lockdown() };
    assert_accepted(&judge.judge(&signed(laptop, &[&it.alice]), noon()));
    assert!(matches!(judge.stands(&open_grant(&it.grant()), noon()), Err(Ended::Held(_))));
    let by = [&it.alice, &it.bob];
    let device = Grant { fingerprints: [it.frank_device.fingerprint()].into(), ..it.grant() };
    terms(judge.judge(&signed(device.clone(), &by), noon()));
    let all = Lockdown { hold: true, stack: w("*"), ..it.lockdown() };
    assert!(matches!(wait(judge.judge(&signed(all.clone(), &[&it.alice]), noon())), Wait::Stacks { .. }));
    assert_accepted(&judge.judge(&signed(all, &[&it.ceo]), noon()));
    assert!(matches!(judge.stands(&open_grant(&device), noon()), Err(Ended::Held(_))));
}

#[test]
fn a_held_approvers_signature_only_closes() {
    let it = company();
    let mut judge = it.judge();
    let bob = Lockdown { hold: true, person: Some(w("bob")), ..it.lockdown() };
    let hold = document(bob.clone()).id();
    assert_accepted(&judge.judge(&signed(bob, &[&it.alice]), noon()));
    let grant = signed(it.grant(), &[&it.alice, &it.bob]);
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::Approvals { counted: 1, .. }));
    let lift = refusal(judge.judge(&signed(it.lift(hold), &[&it.alice.with_flags(1), &it.bob]), noon()));
    assert!(matches!(lift, Refusal::Approvals { counted: 0, needed: 2, .. }), "nobody lifts what holds them: {lift}");
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.bob]), noon()));
    // By key alone: that key of hers counts no more, her other one does.
    let key = Lockdown { hold: true, fingerprint: Some(it.alice.fingerprint()), ..it.lockdown() };
    let mut judge = it.judge();
    assert_accepted(&judge.judge(&signed(key, &[&it.bob]), noon()));
    assert!(matches!(refusal(judge.judge(&grant, noon())), Refusal::Approvals { counted: 1, .. }));
    terms(judge.judge(&signed(it.grant(), &[&it.alice_spare, &it.bob]), noon()));
}

#[test]
fn a_lift_takes_the_approvals_of_the_strictest_rule_in_scope_or_the_rosters_threshold() {
    let it = company();
    let hold = document(it.hold_frank()).id();
    let mut judge = it.judge();
    let lifted = |judge: &Judge, by: &[&Signing]| judge.clone().judge(&signed(it.lift(hold), by), noon());
    assert_eq!(wait(lifted(&judge, &[&it.alice, &it.bob])), Wait::LockdownUnknown(hold));
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    // `ubuntu` takes two approvals, `deploy` a PIN: the strictest is both.
    for short in [
        &[&it.alice][..],
        &[&it.alice, &it.alice_spare],
        &[&it.alice, &it.bob.with_flags(1)],
        &[&it.alice, &it.frank_approves],
        &[&it.alice, &it.stranger, &it.iam],
    ] {
        assert!(matches!(refusal(lifted(&judge, short)), Refusal::Approvals { counted: 1, needed: 2, .. }));
    }
    assert_accepted(&lifted(&judge, &[&it.alice, &it.bob]));
    assert_accepted(&lifted(&judge, &[&it.ceo]));
    // Never who is held, by a key for rosters either.
    let ceo = Lockdown { hold: true, person: Some(w("ceo")), ..it.lockdown() };
    assert_accepted(&judge.judge(&signed(ceo, &[&it.alice]), noon()));
    assert!(matches!(refusal(lifted(&judge, &[&it.ceo])), Refusal::Approvals { counted: 0, .. }));
    assert_accepted(&lifted(&judge, &[&it.cto]));
    // A feeder alone takes that from no key for rosters: else its holds could be lifted by nobody.
    let mut roster = it.roster();
    let grace = roster.people.iter().find(|member| member.name.as_str() == "grace").unwrap().clone();
    let like = |name: &str, key: &Signing| Member { name: w(name), keys: [key.key()].into(), ..grace.clone() };
    roster.people.extend([like("ceo", &it.stranger), like("cto", &Signing::plain(99))]);
    roster.people.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let mut fed = it.judge_with(it.settings(), it.place(), roster);
    let holds = ["ceo", "cto"].map(|name| Lockdown { hold: true, person: Some(w(name)), ..it.lockdown() });
    for hold in &holds {
        assert_accepted(&fed.judge(&signed(hold.clone(), &[&it.iam]), noon()));
    }
    let lift = it.lift(document(holds[0].clone()).id());
    assert_accepted(&fed.clone().judge(&signed(lift.clone(), &[&it.ceo]), noon()));
    assert_accepted(&fed.judge(&signed(lift, &[&it.cto]), noon()));
    // Nor whom a lockdown without a hold names.
    let bob = Lockdown { person: Some(w("bob")), ..it.lockdown() };
    let id = document(bob.clone()).id();
    assert_accepted(&judge.judge(&signed(bob, &[&it.alice]), noon()));
    let own = refusal(judge.judge(&signed(it.lift(id), &[&it.alice, &it.bob]), noon()));
    assert!(matches!(own, Refusal::Approvals { counted: 1, .. }));
    assert_accepted(&judge.judge(&signed(it.lift(id), &[&it.alice, &it.carol]), noon()));
    // Nor who approves for other stacks.
    let mut roster = it.roster();
    roster.approvers[1].stacks = set(&["db"]);
    let mut judge = it.judge_with(it.settings(), it.place(), roster);
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    assert!(matches!(refusal(lifted(&judge, &[&it.alice, &it.bob])), Refusal::Approvals { counted: 1, .. }));
    // A rule of another stack is not in scope, one of every stack is.
    let with_rule = |stack: &str| {
        let mut rules = it.roster().rules;
        let rule = Rule { stack: w(stack), approvals: approvals(3), ..rules[0].clone() };
        rules.insert(0, rule);
        let mut judge = it.judge_with(it.settings(), it.place(), Roster { rules, ..it.roster() });
        assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
        lifted(&judge, &[&it.alice, &it.bob])
    };
    assert_accepted(&with_rule("db"));
    assert!(matches!(refusal(with_rule("*")), Refusal::Approvals { counted: 2, needed: 3, .. }));
    // Without a rule in scope only the roster's keys lift.
    let mut judge = it.judge_with(it.settings(), it.place(), Roster { rules: vec![], ..it.roster() });
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    refusal(lifted(&judge, &[&it.alice, &it.bob, &it.carol]));
    assert_accepted(&lifted(&judge, &[&it.ceo]));
}

#[test]
fn a_lockdown_is_signed_by_one_approver_whose_stacks_cover_it_or_one_roster_key() {
    let it = company();
    let judged = |lockdown: &Lockdown, by: &Signing| it.judge().judge(&signed(lockdown.clone(), &[by]), noon());
    let (web, db) = (it.lockdown(), Lockdown { stack: w("db"), ..it.lockdown() });
    assert_accepted(&judged(&web, &it.alice));
    assert_accepted(&judged(&web, &it.ceo));
    assert!(matches!(wait(judged(&db, &it.alice)), Wait::Stacks { .. }));
    let elsewhere = judged(&db, &it.ceo).verdict;
    assert_eq!(elsewhere, Verdict::Accepted(Accepted::Lockdown { here: false, hold: false }));
    for nobody in [&it.frank_login, &it.stranger] {
        assert_eq!(wait(judged(&web, nobody)), Wait::SignerUnknown);
    }
    let unsigned = it.judge().judge(&signed(web, &[]), noon());
    assert!(matches!(refusal(unsigned), Refusal::NotSigned { .. }));
    let hosts = |names: &[&str]| Lockdown { hosts: Some(Hosts::Named(set(names))), ..it.lockdown() };
    let here = judged(&hosts(&["i-1"]), &it.alice).verdict;
    assert_eq!(here, Verdict::Accepted(Accepted::Lockdown { here: true, hold: false }));
    let not_here = judged(&hosts(&["i-2"]), &it.alice).verdict;
    assert_eq!(not_here, Verdict::Accepted(Accepted::Lockdown { here: false, hold: false }));
    // What is not in its scope stays open, and can be opened.
    let mut judge = with_grant(&it);
    for elsewhere in [hosts(&["i-2"]), Lockdown { hold: true, ..hosts(&["i-2"]) }] {
        assert_accepted(&judge.judge(&signed(elsewhere, &[&it.alice]), noon()));
    }
    for elsewhere in [db.clone(), Lockdown { hold: true, ..db.clone() }] {
        assert_accepted(&judge.judge(&signed(elsewhere, &[&it.ceo]), noon()));
    }
    assert!(judge.stands(&open_grant(&it.grant()), noon()).is_ok());
    terms(judge.judge(&signed(Grant { reason: w("another"), ..it.grant() }, &[&it.alice, &it.bob]), noon()));
}

#[test]
fn a_feeder_holds_only_one_person_of_its_own_source() {
    let it = company();
    let hold = |person: Option<&str>| Lockdown { hold: true, person: person.map(w), ..it.lockdown() };
    let judged = |lockdown: Lockdown| it.judge().judge(&signed(lockdown, &[&it.iam]), noon());
    assert_accepted(&judged(hold(Some("grace"))));
    assert!(matches!(refusal(judged(hold(None))), Refusal::Feeder { .. }));
    assert!(matches!(wait(judged(hold(Some("frank")))), Wait::NotOfSource { .. }));
    let key = Lockdown { fingerprint: Some(it.frank_login.fingerprint()), ..hold(Some("grace")) };
    assert!(matches!(refusal(judged(key)), Refusal::Feeder { .. }));
    assert!(matches!(wait(judged(hold(Some("heidi")))), Wait::NotOfSource { .. }));
    let grant = document(it.grant()).id();
    let revoke = it.judge().judge(&signed(it.revoke(grant), &[&it.iam]), noon());
    assert!(matches!(refusal(revoke), Refusal::NotSigned { .. }));
    let mut judge = it.judge();
    let id = document(hold(Some("grace"))).id();
    assert_accepted(&judge.judge(&signed(hold(Some("grace")), &[&it.iam]), noon()));
    refusal(judge.judge(&signed(it.lift(id), &[&it.iam]), noon()));
}

#[test]
fn a_feeder_touches_nobody_whom_the_hosts_own_configuration_has_neither_by_name_nor_by_key() {
    let it = company();
    let local = |key: &Signing| LocalPerson { keys: [key.key()].into(), accounts: set(&["ubuntu"]) };
    let people = [(w("Hans"), local(&it.stranger)), (w("ida"), local(&it.bob))].into();
    let place = Place { people, ..it.place() };
    // Whoever has the source adds a namesake, and somebody with another's key.
    let like =
        |name: &str, key: &Signing| Member { name: w(name), keys: [key.key()].into(), ..it.roster().people[1].clone() };
    let mut roster = it.roster();
    roster.people = vec![like("grace", &it.grace_login), like("hans", &it.carol), like("zed", &it.stranger)];
    roster.approvers.retain(|approver| !["bob", "carol"].contains(&approver.person.as_str()));
    let mut judge = it.judge_with(it.settings(), place, roster);
    let hold = |person: &str| Lockdown { hold: true, person: Some(w(person)), ..it.lockdown() };
    assert!(matches!(refusal(judge.judge(&signed(hold("hans"), &[&it.iam]), noon())), Refusal::Feeder { .. }));
    assert_accepted(&judge.judge(&signed(hold("zed"), &[&it.iam]), noon()));
    let fingerprints = [it.stranger.fingerprint()].into();
    let of_hans = Subject { person: &w("Hans"), fingerprints: &fingerprints };
    assert_eq!(judge.holds_back(of_hans), None, "the key is Hans' by the configuration");
    // An approver can.
    assert_accepted(&judge.judge(&signed(hold("hans"), &[&it.alice]), noon()));
    assert!(judge.holds_back(of_hans).is_some());
}

#[test]
fn what_closes_waits_for_the_roster_that_names_its_signer() {
    let it = company();
    let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), began());
    let lockdown = signed(it.hold_frank(), &[&it.alice]);
    let revoke = signed(it.revoke(document(it.grant()).id()), &[&it.bob]);
    assert_eq!(wait(judge.judge(&lockdown, noon())), Wait::SignerUnknown);
    assert_eq!(wait(judge.judge(&revoke, noon())), Wait::SignerUnknown);
    assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), noon()));
    assert_accepted(&judge.judge(&lockdown, noon()));
    assert_accepted(&judge.judge(&revoke, noon()));
}

#[test]
fn signatures_of_unknown_keys_are_not_verified_and_wait() {
    let it = company();
    let mut judge = it.judge();
    // Those of known keys are: one that does not hold is none, whoever else is named.
    let made_for_another = signed(Lockdown { reason: w("another"), ..it.hold_frank() }, &[&it.stranger, &it.alice]);
    let [by_stranger, by_alice] = made_for_another.signatures() else { unreachable!("two signed") };
    let hold = document(it.hold_frank());
    let unknown = Envelope::new(hold.clone(), vec![by_stranger.clone()]).unwrap();
    assert_eq!(wait(judge.judge(&unknown, noon())), Wait::SignerUnknown);
    let forged = Envelope::new(hold, vec![by_alice.clone()]).unwrap();
    assert!(matches!(refusal(judge.judge(&forged, noon())), Refusal::NotSigned { .. }));
    assert_eq!(judge.holds_back(subject_of(&open_grant(&it.grant()))), None);
}

#[test]
fn a_lift_brings_back_nothing_that_was_issued_before_it() {
    let it = company();
    let by = [&it.alice, &it.bob];
    let second = Duration::from_secs(1);
    let issued = |issued_at: Moment, after: &[Id]| Grant {
        issued_at,
        starts_at: issued_at,
        accept_until: issued_at.after(DAY),
        expires_at: issued_at.after(2 * HOUR),
        after: after.iter().copied().collect(),
        ..it.grant()
    };
    for closing in [it.hold_frank(), it.lockdown()] {
        let id = document(closing.clone()).id();
        let mut judge = it.judge();
        assert_accepted(&judge.judge(&signed(closing, &[&it.alice]), noon()));
        let lift = Lift { issued_at: noon().after(HOUR), ..it.lift(id) };
        let now = noon().after(HOUR + MINUTE);
        assert_accepted(&judge.judge(&signed(lift.clone(), &by), now));
        assert_eq!(judge.judge(&signed(lift.clone(), &[&it.ceo]), now).verdict, Verdict::Known);
        // Whoever kept one back cannot deliver it now, whether or not its signers knew that it was held.
        let kept = signed(issued(lift.issued_at.before(second), &[]), &by);
        assert_eq!(refusal(judge.judge(&kept, now)), Refusal::LockedDown(id));
        let (judge, _) = restarted(&judge, it.settings(), it.place(), now);
        assert!(judge.stands(&open_grant(&it.grant()), now).is_err());
        terms(judge.clone().judge(&signed(issued(lift.issued_at, &[]), &by), now));
        terms(judge.clone().judge(&signed(issued(lift.issued_at.before(second), &[id]), &by), now));
        // It is remembered for as long as one from before it could be accepted.
        let mut judge = judge;
        judge.tidy(now.after(LOCKDOWN_REFUSES));
        assert_eq!(judge.state().covering(now).count(), 0);
        assert!(matches!(refusal(judge.judge(&kept, now)), Refusal::BeforeState { .. }));
    }
    // The day counts from the lift, however long the hold had stood.
    let mut judge = it.judge();
    let id = document(it.hold_frank()).id();
    assert_accepted(&judge.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    let lift = Lift { issued_at: noon().after(3 * DAY), ..it.lift(id) };
    assert_accepted(&judge.judge(&signed(lift, &by), noon().after(3 * DAY)));
    let kept = signed(issued(noon().after(3 * DAY - HOUR), &[]), &by);
    assert_eq!(refusal(judge.judge(&kept, noon().after(3 * DAY + MINUTE))), Refusal::LockedDown(id));
    let grace = Grant {
        person: w("grace"),
        fingerprints: [it.grace_login.fingerprint()].into(),
        ..issued(noon().after(3 * DAY - HOUR), &[])
    };
    terms(judge.judge(&signed(grace, &by), noon().after(3 * DAY + MINUTE)));
    // A lift by a clock that is ahead refuses for no longer than one by a clock that is right.
    let mut judge = it.judge();
    let id = document(it.lockdown()).id();
    assert_accepted(&judge.judge(&signed(it.lockdown(), &[&it.alice]), noon()));
    let ahead = Lift { issued_at: noon().after(400 * DAY), ..it.lift(id) };
    assert_accepted(&judge.judge(&signed(ahead, &by), noon()));
    terms(judge.judge(&signed(issued(noon(), &[]), &by), noon()));
}

#[test]
fn a_denied_key_neither_closes_nor_waits() {
    let it = company();
    let settings = Settings { deny_keys: [it.bob.fingerprint()].into(), ..it.settings() };
    let mut judge = it.judge_with(settings, it.place(), it.roster());
    let judged = judge.judge(&signed(it.lockdown(), &[&it.bob]), noon());
    assert!(matches!(refusal(judged), Refusal::NotSigned { .. }));
}
