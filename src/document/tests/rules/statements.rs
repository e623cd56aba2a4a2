//! Requests, sessions and what the server says of its feed.

use crate::common::*;
use document::{judge::*, *};

#[test]
fn a_request_is_the_grants_very_line_signed_by_the_person_it_is_for() {
    let it = company();
    let judge = it.judge();
    let line = document(it.grant());
    let asked = |document: Document, by: &[&Signing]| signed_as(document, Some(Namespace::Request), by);
    let request = asked(line.clone(), &[&it.frank_login]);
    assert_eq!(judge.judge_request(&request, noon()).unwrap().person, w("frank"));
    // The same bytes, approved.
    let signatures = [&it.alice, &it.bob].map(|key| key.sign(Namespace::Of(Kind::Grant), line.line()));
    let approved = Envelope::new(request.document().clone(), signatures.into()).unwrap();
    terms(judge.clone().judge(&approved, noon()));

    for by in [&it.grace_login, &it.stranger, &it.alice, &it.frank_approves] {
        let judged = judge.judge_request(&asked(line.clone(), &[by]), noon()).unwrap_err();
        assert_eq!(judged, NoRequest::NotTheirs(w("frank")));
    }
    let as_grant = signed(it.grant(), &[&it.frank_login]);
    assert_eq!(judge.judge_request(&as_grant, noon()).unwrap_err(), NoRequest::NotTheirs(w("frank")));
    let root = asked(document(Grant { account: w("root"), ..it.grant() }), &[&it.frank_login]);
    assert!(matches!(judge.judge_request(&root, noon()), Err(NoRequest::Refused(_))));
    let not = signed(it.lockdown(), &[&it.frank_login]);
    assert_eq!(judge.judge_request(&not, noon()).unwrap_err(), NoRequest::Kind(Kind::Lockdown));
    // "No" is a revoke, and outlasts every approval.
    let mut judge = judge;
    assert_accepted(&judge.judge(&signed(it.revoke(line.id()), &[&it.carol]), noon()));
    assert_eq!(refusal(judge.judge(&approved, noon())), Refusal::Revoked);
}

#[test]
fn a_session_answers_this_servers_challenge_for_60_seconds() {
    let it = company();
    let judge = it.judge();
    let origin: Origin = w("https://compliance.example.com");
    let nonce: Nonce = w(&"n".repeat(43));
    let session = Session {
        issued_at: noon(),
        nonce: nonce.clone(),
        organization: w("acme"),
        origin: origin.clone(),
        kind: IsSession,
        v: V1,
    };
    let judged = |session: &Session, by: &[&Signing], now| {
        judge.judge_session(&signed(session.clone(), by), &origin, &nonce, now)
    };
    assert_eq!(judged(&session, &[&it.frank_login], noon()), Ok(w("frank")));
    assert_eq!(judged(&session, &[&it.alice], noon().after(MINUTE)), Ok(w("alice")));
    assert!(matches!(judged(&session, &[&it.alice], noon().after(2 * MINUTE)), Err(NoSession::Time { .. })));
    assert!(matches!(judged(&session, &[&it.alice], noon().before(2 * MINUTE)), Err(NoSession::Time { .. })));
    assert_eq!(judged(&session, &[&it.stranger, &it.ceo, &it.iam], noon()), Err(NoSession::Unknown));
    for other in [
        Session { organization: w("other"), ..session.clone() },
        Session { origin: w("https://evil.example.com"), ..session.clone() },
        Session { nonce: w(&"m".repeat(43)), ..session.clone() },
    ] {
        assert!(matches!(judged(&other, &[&it.alice], noon()), Err(NoSession::Elsewhere(_))));
    }
    let mut held = judge.clone();
    assert_accepted(&held.judge(&signed(it.hold_frank(), &[&it.alice]), noon()));
    let judged = held.judge_session(&signed(session, &[&it.frank_login]), &origin, &nonce, noon());
    assert_eq!(judged, Err(NoSession::Held(w("frank"))));
}

#[test]
fn a_feed_is_what_the_servers_known_keys_say_of_this_stacks_feed() {
    let it = company();
    let ids = [document(it.grant()).id(), document(it.lockdown()).id()];
    let head = ids.into_iter().fold(record::Hash::ZERO, chain);
    let feed =
        Feed { count: 2, head, issued_at: noon(), organization: w("acme"), stack: w("web"), kind: IsFeed, v: V1 };
    let keys = [it.ceo.key()];
    let judged =
        |feed: &Feed, by: &Signing| judge_feed(&signed(feed.clone(), &[by]), &w("acme"), &w("web"), &keys).cloned();
    assert_eq!(judged(&feed, &it.ceo), Ok(feed.clone()));
    assert_eq!(judged(&feed, &it.cto), Err(NoFeed::Unknown));
    assert_eq!(judged(&Feed { stack: w("db"), ..feed.clone() }, &it.ceo), Err(NoFeed::Elsewhere));
    assert_ne!(head, ids.into_iter().rev().fold(record::Hash::ZERO, chain), "the order counts");
    for wrong in [Feed { count: 0, ..feed.clone() }, Feed { head: record::Hash::ZERO, ..feed.clone() }] {
        assert!(Document::new(wrong).is_err());
    }
    // Nothing that client and server state to each other is for hosts.
    assert!(matches!(refusal(it.judge().judge(&signed(feed, &[&it.ceo]), noon())), Refusal::NotForHosts(Kind::Feed)));
}

#[test]
fn a_run_is_the_word_of_the_feeder_of_its_source_for_5_minutes() {
    let it = company();
    let judge = it.judge();
    let judged = |run: &Run, by: &[&Signing], now| judge.judge_run(&signed(run.clone(), by), now).cloned();
    assert_eq!(judged(&it.run(), &[&it.iam], noon()), Ok(it.run()));
    assert_eq!(judged(&it.run(), &[&it.stranger, &it.iam], noon().after(5 * MINUTE)), Ok(it.run()));
    for late in [noon().after(6 * MINUTE), noon().before(6 * MINUTE)] {
        assert!(matches!(judged(&it.run(), &[&it.iam], late), Err(NoRun::Time { .. })));
    }
    let unknown = Err(NoRun::Unknown(w("iam")));
    assert_eq!(judged(&it.run(), &[&it.ceo, &it.alice, &it.grace_login, &it.stranger], noon()), unknown);
    let other = Run { source: w("hand"), ..it.run() };
    assert_eq!(judged(&other, &[&it.iam], noon()), Err(NoRun::Unknown(w("hand"))));
    let other = Run { organization: w("other"), ..it.run() };
    assert!(matches!(judged(&other, &[&it.iam], noon()), Err(NoRun::Elsewhere { .. })));
    let hold = signed(it.hold_frank(), &[&it.iam]);
    assert_eq!(judge.judge_run(&hold, noon()).unwrap_err(), NoRun::Kind(Kind::Lockdown));
    let many = |count: usize| (0..count).map(|n| Id::of(&n.to_string())).collect();
    assert!(Document::new(Run { holds: many(MAX_RUN_HOLDS + 1), ..it.run() }).is_err());
    // The longest one fits.
    let longest = Run {
        automatic: Some(record::MAX_INTEGER.try_into().unwrap()),
        failed: Some(w(&"\"".repeat(document::MAX_REASON))),
        holds: many(MAX_RUN_HOLDS),
        organization: w(&"a".repeat(document::MAX_NAME)),
        proposed: record::MAX_INTEGER,
        source: w(&"a".repeat(document::MAX_NAME)),
        users: record::MAX_INTEGER,
        ..it.run()
    };
    assert!(Document::new(longest.clone()).is_ok(), "{:?}", Document::new(longest).map(|made| made.line().len()));
    // It changes nothing on a host.
    let judged = it.judge().judge(&signed(it.run(), &[&it.iam]), noon());
    assert!(matches!(refusal(judged), Refusal::NotForHosts(Kind::Run)));
}
