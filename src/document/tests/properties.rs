//! What holds for every set of documents in every order, and for all bytes.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use common::{keys::UNLOCKED, *};
use document::{judge::LOCKDOWN_REFUSES, *};
use proptest::{prelude::*, sample::Index};

/// Signers, each with the person whom it counts as when it opens: an approver who was there.
fn signers(it: &Company) -> Vec<(Signing, Option<&'static str>)> {
    vec![
        (it.alice.clone(), Some("alice")),
        (it.alice_spare.clone(), Some("alice")),
        (it.bob.clone(), Some("bob")),
        (it.carol.clone(), Some("carol")),
        (it.frank_approves.clone(), Some("frank")),
        (it.bob.with_flags(UNLOCKED), None),
        (it.frank_login.clone(), None),
        (it.iam.clone(), None),
        (it.stranger.clone(), None),
        (it.ceo.clone(), None),
    ]
}

const FRANK: usize = 4;
const CEO: usize = 9;

/// Everything that is delivered in these tests, before it is signed.
fn bodies(it: &Company) -> Vec<Body> {
    let lockdown = document(it.lockdown()).id();
    let hold = document(it.hold_frank()).id();
    let bob = Lockdown { hold: true, person: Some(w("bob")), ..it.lockdown() };
    let key = Lockdown { hold: true, fingerprint: Some(it.grace_login.fingerprint()), ..it.lockdown() };
    let frank = it.grant();
    let named = Grant { after: [lockdown].into(), ..it.grant() };
    let grace = Grant { person: w("grace"), fingerprints: [it.grace_login.fingerprint()].into(), ..it.grant() };
    let second = Grant { roster: version(2), reason: w("second"), ..it.grant() };
    let revokes = [&frank, &named, &grace].map(|grant| Body::from(it.revoke(document(grant.clone()).id())));
    let lifts = [lockdown, hold, document(bob.clone()).id()].map(|id| Body::from(it.lift(id)));
    let grants = [frank, named, grace, second].map(Body::from);
    let closing = [it.lockdown(), it.hold_frank(), bob, key].map(Body::from);
    // By the first roster Carol approves elsewhere: what she closes then waits for the second one.
    let mut first = it.roster();
    first.approvers[2].stacks = set(&["db"]);
    let rosters = [first, Roster { version: version(2), ..it.roster() }].map(Body::from);
    [&rosters[..], &grants, &revokes, &closing, &lifts].concat()
}

/// One delivery: which document, and who signed it.
#[derive(Debug, Clone)]
struct Delivery {
    body: usize,
    by: BTreeSet<usize>,
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let bodies = bodies(&company()).len();
    // Most rosters are signed by whom they have to be signed by: without one there is little to see.
    let by = prop_oneof![
        3 => prop::collection::btree_set(0..=CEO, 0..5),
        1 => Just(BTreeSet::from([0, 2, CEO])),
    ];
    prop::collection::vec((0..bodies, by).prop_map(|(body, by)| Delivery { body, by }), 1..24)
}

/// What came of delivering all of it, again and again while something changes.
struct Outcome {
    judge: Judge,
    ever_open: BTreeSet<Id>,
    open: BTreeMap<Id, OpenGrant>,
}

fn deliver(envelopes: &[Envelope]) -> Outcome {
    let it = company();
    let judge = Judge::begin(it.settings().check().unwrap(), it.place(), began());
    let mut all = Outcome { judge, ever_open: BTreeSet::new(), open: BTreeMap::new() };
    loop {
        let mut changed = false;
        for envelope in envelopes {
            let judged = all.judge.judge(envelope, noon());
            let Verdict::Accepted(accepted) = judged.verdict else { continue };
            changed = true;
            if let (Accepted::Grant(_), Body::Grant(grant)) = (accepted, envelope.document().body()) {
                assert!(all.ever_open.insert(judged.id), "no grant is accepted twice");
                all.open.insert(judged.id, open_grant(grant));
            }
            let judge = &all.judge;
            all.open.retain(|_, grant| judge.stands(grant, noon()).is_ok());
        }
        if !changed {
            return all;
        }
    }
}

/// Every document with everybody's signature: signing takes longer than judging.
static SIGNED: LazyLock<Vec<(Document, Vec<String>)>> = LazyLock::new(|| {
    let it = company();
    let signers = signers(&it);
    let all = |document: Document| {
        let by = signers.iter().map(|(key, _)| key.sign(document.namespace(), document.line())).collect();
        (document, by)
    };
    bodies(&it).into_iter().map(|body| all(document(body))).collect()
});

fn envelopes(deliveries: &[Delivery]) -> Vec<Envelope> {
    let envelope = |delivery: &Delivery| {
        let (document, signatures) = &SIGNED[delivery.body];
        let by = delivery.by.iter().map(|n| signatures[*n].clone()).collect();
        Envelope::new(document.clone(), by).unwrap()
    };
    deliveries.iter().map(envelope).collect()
}

/// Who may approve by this delivery's signatures, by names alone.
fn approvers(it: &Company, delivery: &Delivery, but: Option<&str>) -> usize {
    let signers = signers(it);
    let names = delivery.by.iter().filter_map(|n| signers[*n].1).filter(|name| Some(*name) != but);
    names.collect::<BTreeSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_opens_but_what_valid_signatures_opened_whatever_the_order(
        first in deliveries(),
        again in prop::collection::vec(any::<Index>(), 0..12),
        seed in any::<u64>(),
    ) {
        let it = company();
        let mut all = first.clone();
        all.extend(again.iter().map(|index| index.get(&first).clone()));
        shuffle(&mut all, seed);
        let outcome = deliver(&envelopes(&all));
        let bodies = bodies(&it);
        let has_roster = all.iter().any(|delivery| delivery.body < 2 && delivery.by.contains(&CEO));
        for id in &outcome.ever_open {
            prop_assert!(has_roster);
            let enough = all.iter().any(|delivery| {
                let Body::Grant(grant) = &bodies[delivery.body] else { return false };
                SIGNED[delivery.body].0.id() == *id
                    && approvers(&it, delivery, Some(grant.person.as_str())) >= 2
            });
            prop_assert!(enough, "{id} was opened by too few");
        }
    }

    #[test]
    fn closing_is_never_lost_by_order(first in deliveries(), seed in any::<u64>()) {
        let it = company();
        let mut all = first;
        // With a roster, so that whoever closes is known in the end.
        all.push(Delivery { body: 1, by: [CEO].into() });
        shuffle(&mut all, seed);
        let outcome = deliver(&envelopes(&all));
        let bodies = bodies(&it);
        let state = outcome.judge.state();
        for delivery in &all {
            let id = SIGNED[delivery.body].0.id();
            let by_approver = delivery.by.iter().any(|n| signers(&it)[*n].1.is_some());
            match &bodies[delivery.body] {
                Body::Revoke(revoke) if by_approver => prop_assert!(!outcome.open.contains_key(&revoke.grant)),
                Body::Lockdown(lockdown) if by_approver || delivery.by.contains(&CEO) => {
                    let lifted = all.iter().any(|delivery| {
                        matches!(&bodies[delivery.body], Body::Lift(lift) if lift.lockdown == id)
                            && (approvers(&it, delivery, None) >= 2 || delivery.by.contains(&CEO))
                    });
                    let stands = state.covering(noon()).any(|(standing, _)| *standing == id);
                    prop_assert!(stands || lifted);
                    let covered = |grant: &OpenGrant| {
                        lockdown.person.as_ref().is_none_or(|person| *person == grant.person)
                            && lockdown.fingerprint.as_ref().is_none_or(|key| grant.fingerprints.contains(key))
                            && (lockdown.hold || !grant.after.contains(&id))
                    };
                    prop_assert!(lifted || !outcome.open.values().any(covered));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn without_lifts_and_held_approvers_every_order_comes_to_the_same(first in deliveries(), seed in any::<u64>()) {
        let it = company();
        let bodies = bodies(&it);
        let mut all = first;
        all.retain(|delivery| match &bodies[delivery.body] {
            Body::Lift(_) => false,
            Body::Lockdown(lockdown) => lockdown.person != Some(w("bob")),
            _ => true,
        });
        // A hold of Frank may be among them. Approvals are judged once: what he approved before it stands, and what he
        // approves after it opens nothing.
        for delivery in &mut all {
            delivery.by.remove(&FRANK);
        }
        let one = deliver(&envelopes(&all));
        shuffle(&mut all, seed);
        let other = deliver(&envelopes(&all));
        prop_assert_eq!(one.open, other.open);
        prop_assert_eq!(one.judge.state().roster(), other.judge.state().roster());
        let holds = |judge: &Judge| judge.state().holds().map(|(id, _)| *id).collect::<Vec<_>>();
        prop_assert_eq!(holds(&one.judge), holds(&other.judge));
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(first in deliveries(), at in any::<Index>()) {
        let it = company();
        let envelopes = envelopes(&first);
        let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), began());
        let mut other = judge.clone();
        for (n, envelope) in envelopes.iter().enumerate() {
            if n == at.index(envelopes.len()) {
                let (again, dropped) = restarted(&other, it.settings(), it.place(), noon());
                prop_assert_eq!(dropped, vec![]);
                other = again;
            }
            prop_assert_eq!(judge.judge(envelope, noon()), other.judge(envelope, noon()));
        }
        prop_assert_eq!(judge.state(), other.state());
    }

    #[test]
    fn whatever_the_clock_does_no_grant_opens_twice_and_none_that_was_closed(
        first in deliveries(),
        clock in prop::collection::vec(-200_i64..200, 24),
    ) {
        let it = company();
        let mut judge = Judge::begin(it.settings().check().unwrap(), it.place(), began());
        assert_accepted(&judge.judge(&signed(it.roster(), &[&it.ceo]), noon()));
        let envelopes = envelopes(&first);
        let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
        for (n, hours) in clock.iter().enumerate() {
            let span = std::time::Duration::from_secs(hours.unsigned_abs() * 3600);
            judge.tidy(if *hours < 0 { noon().before(span) } else { noon().after(span) });
            for envelope in envelopes.iter().skip(n % envelopes.len()).take(3) {
                match judge.judge(envelope, noon()).verdict {
                    Verdict::Accepted(Accepted::Grant(_)) => {
                        let id = envelope.document().id();
                        prop_assert!(opened.insert(id) && !closed.contains(&id));
                    }
                    Verdict::Accepted(Accepted::Revoke { grant, .. }) => drop(closed.replace(grant)),
                    _ => {}
                }
            }
        }
        prop_assert!(judge.state().is_bounded());
    }
}

/// An order that a number stands for.
fn shuffle<T>(all: &mut [T], mut seed: u64) {
    for n in (1..all.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bound = u64::try_from(n + 1).unwrap();
        all.swap(n, usize::try_from((seed >> 33) % bound).unwrap());
    }
}

#[test]
fn a_lockdown_refuses_for_longer_than_any_grant_from_before_it_can_be_accepted() {
    assert!(LOCKDOWN_REFUSES > MAX_ACCEPTANCE);
}
