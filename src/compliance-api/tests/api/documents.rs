//! Documents: what is taken, what waits, what is refused, and in which words.

use std::thread;

use document::{Envelope, Roster, chain};
use record::Hash;
use serde_json::json;

use crate::common::{
    Server,
    acme::{acme, acme_with_host, heard, hearing, ids, post, published, reader, stated, taken},
    company::{self, asked, document, grant, lift, lockdown, revoke, roster, signed, w},
};

#[test]
fn a_server_without_stack_keeps_no_documents() {
    let server = Server::start();
    let (auditor, envelope) = (reader(&server), signed(&document(roster(1)), &["ceo"]));
    assert_eq!(post(&server, &envelope).outcome(), (404, "no_stack".to_owned()));
    for path in ["/v1/feed?stack=web", &format!("/v1/documents/{}", envelope.document().id())] {
        assert_eq!(auditor.get(path).outcome(), (404, "no_stack".to_owned()), "{path}");
    }
}

#[test]
fn a_roster_goes_to_every_stack_that_hosts_are_in_or_that_it_names_and_its_host_hears_it() {
    let server = acme();
    let (_, token) = hearing(&server, "i-1", "cache");
    let envelope = signed(&document(roster(1)), &["ceo", "alice approves"]);
    let state = published(&server, &envelope);
    assert_eq!(state["stacks"], json!(["cache", "db", "web"]), "{state}");
    assert_eq!((&state["type"], &state["has"], &state["approvers"]), (&json!("roster"), &json!(1), &json!(["ceo"])));
    assert_eq!(published(&server, &envelope), state, "known already: the same answer");
    let part = heard(&server.client().with(&token), "stack=cache&after=0");
    let id = envelope.document().id();
    assert_eq!(ids(&part), [id.to_string()]);
    assert_eq!((&part["after"], &part["next"]), (&json!(0), &json!(1)));
    let statement = stated(&server, &part);
    assert_eq!((statement.count, statement.head), (1, chain(Hash::ZERO, id)));
    // What nobody here knows is not handed on.
    let sent = Envelope::parse(part["documents"][0]["envelope"].to_string().as_bytes()).unwrap();
    assert_eq!(sent.signatures(), &envelope.signatures()[..1]);
}

#[test]
fn a_roster_that_none_of_its_keys_signed_is_refused_before_it_is_read() {
    let server = acme();
    for by in [&["alice approves"][..], &[]] {
        let answer = post(&server, &signed(&document(roster(1)), by));
        assert_eq!(answer.outcome(), (422, "threshold".to_owned()), "{answer:?}");
    }
    let other = Roster { organization: w("evil"), ..roster(1) };
    let answer = post(&server, &signed(&document(other), &["ceo"]));
    assert_eq!(answer.outcome(), (422, "organization".to_owned()), "{answer:?}");
    assert_eq!(server.count("SELECT count(*) FROM documents"), 0);
}

#[test]
fn an_older_roster_and_another_one_of_the_same_version_are_refused() {
    let (server, ..) = acme_with_host();
    published(&server, &signed(&document(roster(3)), &["cto"]));
    let word = |roster: Roster| post(&server, &signed(&document(roster), &["ceo"])).outcome();
    assert_eq!(word(roster(2)), (422, "rollback".to_owned()));
    let other = Roster { people: vec![], ..roster(3) };
    assert_eq!(word(other), (422, "other_bytes".to_owned()));
}

#[test]
fn a_grant_with_all_its_approvals_is_published_at_once_to_its_stack_alone() {
    let (server, _, token) = acme_with_host();
    let envelope = signed(&document(grant("deploy", "INC-42")), &["alice approves"]);
    let state = published(&server, &envelope);
    assert_eq!(state["stacks"], json!(["web"]), "{state}");
    assert_eq!((&state["has"], &state["needs"], &state["asked"]), (&json!(1), &json!(1), &json!(false)));
    let part = heard(&server.client().with(&token), "stack=web&after=1");
    assert_eq!(ids(&part), [envelope.document().id().to_string()]);
    let part = heard(&reader(&server), "stack=db&after=0");
    assert_eq!(ids(&part).len(), 1, "the roster alone");
}

#[test]
fn what_no_host_would_accept_is_refused_in_the_hosts_words() {
    let (server, ..) = acme_with_host();
    let word = |grant, by: &[&str]| post(&server, &signed(&document(grant), by)).outcome();
    let good = || grant("deploy", "INC-42");
    let approves = &["alice approves"][..];
    let refused = |word: &str| (422, word.to_owned());
    assert_eq!(word(document::Grant { stack: w("wbe"), ..good() }, approves), refused("stack"));
    assert_eq!(word(document::Grant { person: w("fran"), ..good() }, approves), refused("unknown_person"));
    assert_eq!(word(document::Grant { account: w("root"), ..good() }, approves), refused("account"));
    let expires_at = good().starts_at.after(9 * company::HOUR);
    assert_eq!(word(document::Grant { expires_at, ..good() }, approves), refused("too_long"));
    assert_eq!(word(document::Grant { organization: w("evil"), ..good() }, approves), refused("organization"));
    assert_eq!(word(good(), &["carol approves"]), refused("approvals"));
    assert_eq!(word(good(), &["mallory"]), refused("approvals"));
    assert_eq!(word(good(), &[]), refused("approvals"));
    let newer = document::Grant { roster: 2.try_into().unwrap(), ..good() };
    assert_eq!(word(newer, approves), (409, "roster_behind".to_owned()));
    let feed = Envelope::parse(heard(&reader(&server), "stack=web")["statement"].to_string().as_bytes()).unwrap();
    assert_eq!(post(&server, &feed).outcome(), refused("not_for_hosts"));
    for body in ["", "{}", "[]", "{\"document\":\"{}\",\"signatures\":[]}"] {
        let answer = server.client().send("POST", "/v1/documents", "application/json", body.as_bytes());
        assert_eq!(answer.outcome(), (400, "malformed".to_owned()), "{body}");
    }
    assert_eq!(server.client().send("POST", "/v1/documents", "text/plain", b"{}").status, 415);
}

#[test]
fn before_there_is_a_roster_a_grant_waits_and_a_lockdown_by_a_roster_key_is_taken() {
    let server = acme();
    let (_, token) = hearing(&server, "i-1", "web");
    let answer = post(&server, &signed(&document(grant("deploy", "INC-42")), &["alice approves"]));
    assert_eq!(answer.outcome(), (409, "no_roster".to_owned()), "{answer:?}");
    let all = signed(&document(lockdown("*", true)), &["ceo"]);
    published(&server, &all);
    // The stack was heard of before it, and begins with it.
    assert_eq!(ids(&heard(&server.client().with(&token), "stack=web&after=0")), [all.document().id().to_string()]);
}

#[test]
fn two_approvals_come_one_by_one_and_the_second_publishes() {
    let (server, ..) = acme_with_host();
    let document = document(grant("ubuntu", "INC-42"));
    let state = taken(&server, &signed(&document, &["alice approves"]));
    assert_eq!((&state["state"], &state["has"], &state["needs"]), (&json!("pending"), &json!(1), &json!(2)), "{state}");
    assert_eq!(state["approvers"], json!(["alice"]));
    // The same again, and hers twice, are one.
    let again = taken(&server, &signed(&document, &["alice approves", "alice approves"]));
    assert_eq!((&again["state"], &again["has"]), (&json!("pending"), &json!(1)), "{again}");
    assert_eq!(ids(&heard(&reader(&server), "stack=web&after=1")), [""; 0]);
    let state = published(&server, &signed(&document, &["bob approves"]));
    assert_eq!((&state["has"], &state["approvers"]), (&json!(2), &json!(["alice", "bob"])), "{state}");
    let kept = reader(&server).get(&format!("/v1/documents/{}", document.id())).json();
    assert_eq!((&kept["state"], &kept["stacks"]), (&json!("published"), &json!(["web"])));
    let envelope = Envelope::parse(kept["envelope"].to_string().as_bytes()).unwrap();
    assert_eq!(envelope, signed(&document, &["alice approves", "bob approves"]));
}

#[test]
fn two_approvals_at_one_moment_publish_once() {
    let (server, ..) = acme_with_host();
    let document = document(grant("ubuntu", "INC-42"));
    let states: Vec<String> = thread::scope(|scope| {
        let posts: Vec<_> = ["alice approves", "bob approves"]
            .map(|by| scope.spawn(|| taken(&server, &signed(&document, &[by]))["state"].as_str().unwrap().to_owned()))
            .into_iter()
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(states.iter().filter(|state| *state == "published").count(), 1, "{states:?}");
    assert_eq!(ids(&heard(&reader(&server), "stack=web&after=1")), [document.id().to_string()]);
}

#[test]
fn a_request_waits_for_its_approval_and_signatures_of_nobody_do_not_crowd_it_out() {
    let (server, ..) = acme_with_host();
    let document = document(grant("deploy", "INC-42"));
    assert_eq!(post(&server, &asked(&document, "grace")).outcome(), (422, "approvals".to_owned()), "not hers");
    let state = taken(&server, &asked(&document, "frank"));
    assert_eq!(
        (&state["state"], &state["asked"], &state["has"]),
        (&json!("pending"), &json!(true), &json!(0)),
        "{state}"
    );
    // Sixteen that hold over other bytes, or are by nobody.
    let other = company::document(grant("deploy", "another"));
    let forged = signed(&other, &["alice approves"; 16]).signatures().to_vec();
    let forged = Envelope::new(document.clone(), forged).unwrap();
    assert_eq!(post(&server, &forged).outcome(), (422, "approvals".to_owned()));
    let state = published(&server, &signed(&document, &["alice approves"]));
    assert_eq!((&state["asked"], &state["approvers"]), (&json!(true), &json!(["alice"])), "{state}");
}

#[test]
fn a_denied_request_is_gone_and_does_not_come_back() {
    let (server, ..) = acme_with_host();
    let document = document(grant("deploy", "INC-42"));
    taken(&server, &asked(&document, "frank"));
    let denial = signed(&company::document(revoke(document.id())), &["bob approves"]);
    assert_eq!(published(&server, &denial)["stacks"], json!(["web"]));
    assert_eq!(reader(&server).get(&format!("/v1/documents/{}", document.id())).status, 404);
    let answer = post(&server, &signed(&document, &["alice approves"]));
    assert_eq!(answer.outcome(), (422, "revoked".to_owned()), "{answer:?}");
}

#[test]
fn who_revokes_again_changes_nothing_and_is_kept_beside_the_first() {
    let (server, ..) = acme_with_host();
    let given = document(grant("deploy", "INC-42"));
    published(&server, &signed(&given, &["alice approves"]));
    let first = signed(&document(revoke(given.id())), &["alice approves"]);
    let again = document::Revoke { reason: w("again"), ..revoke(given.id()) };
    let second = signed(&document(again), &["bob approves"]);
    assert_eq!(published(&server, &first)["stacks"], json!(["web"]));
    let state = published(&server, &second);
    assert!(state["detail"].as_str().unwrap().contains(&first.document().id().to_string()), "{state}");
    assert_eq!((&state["stacks"], &state["approvers"]), (&json!(["web"]), &json!(["bob"])));
    assert_eq!(published(&server, &second), state, "known already: the same answer");
    assert_eq!(ids(&heard(&reader(&server), "stack=web&after=0")).len(), 3);
}

#[test]
fn who_revokes_what_somebody_revoked_who_has_left_is_heard_by_hosts_that_were_away() {
    let (server, ..) = acme_with_host();
    let given = document(grant("deploy", "INC-42"));
    published(&server, &signed(&given, &["alice approves"]));
    published(&server, &signed(&document(revoke(given.id())), &["alice approves"]));
    let mut left = roster(2);
    left.approvers.retain(|approver| approver.person.as_str() != "alice");
    published(&server, &signed(&document(left), &["ceo"]));
    let again = document(document::Revoke { reason: w("again"), ..revoke(given.id()) });
    published(&server, &signed(&again, &["bob approves"]));
    let heard = ids(&heard(&reader(&server), "stack=web&after=0"));
    assert_eq!((heard.len(), heard.last()), (5, Some(&again.id().to_string())), "{heard:?}");
}

#[test]
fn a_person_asks_for_no_more_than_ten_at_a_time() {
    let (server, ..) = acme_with_host();
    let made = |n: u64| asked(&document(grant("deploy", &format!("number {n}"))), "frank");
    let all: Vec<_> = (0..compliance_api::documents::MAX_PENDING_EACH).map(made).collect();
    for (n, one) in all.iter().enumerate() {
        assert_eq!(post(&server, one).status, 200, "{n}");
    }
    assert_eq!(post(&server, &made(99)).outcome(), (422, "full".to_owned()));
    assert_eq!(post(&server, &all[1]).status, 200, "known already");
}

#[test]
fn a_lockdown_ends_what_waits_and_a_lift_takes_the_approvals_of_the_strictest_rule() {
    let (server, _, token) = acme_with_host();
    let waits = document(grant("ubuntu", "INC-42"));
    taken(&server, &signed(&waits, &["alice approves"]));
    let closes = document(lockdown("web", true));
    published(&server, &signed(&closes, &["alice approves"]));
    assert_eq!(reader(&server).get(&format!("/v1/documents/{}", waits.id())).status, 404);
    let answer = post(&server, &signed(&document(grant("deploy", "now")), &["bob approves"]));
    assert_eq!(answer.outcome(), (422, "held".to_owned()));
    let lifts = document(lift(closes.id()));
    assert_eq!(post(&server, &signed(&lifts, &["bob approves"])).outcome(), (422, "approvals".to_owned()));
    published(&server, &signed(&lifts, &["bob approves", "alice approves"]));
    let after = document::Grant { after: [closes.id()].into(), ..grant("deploy", "now") };
    published(&server, &signed(&document(after), &["bob approves"]));
    let part = heard(&server.client().with(&token), "stack=web&after=0");
    assert_eq!(ids(&part).len(), 4, "roster, lockdown, lift, grant");
    assert_eq!(stated(&server, &part).count, 4);
    let unknown = document(lift(waits.id()));
    assert_eq!(post(&server, &signed(&unknown, &["ceo"])).outcome(), (409, "lockdown_unknown".to_owned()));
}

#[test]
fn a_revoke_of_an_unknown_grant_goes_to_each_stack_whose_approver_signed_it() {
    let (server, ..) = acme_with_host();
    let unknown = document(grant("deploy", "never posted")).id();
    let by = |who: &str| published(&server, &signed(&document(revoke(unknown)), &[who]));
    assert_eq!(by("carol approves")["stacks"], json!(["db"]));
    let answer = post(&server, &signed(&document(revoke(document(grant("ubuntu", "x")).id())), &["mallory"]));
    assert_eq!(answer.outcome(), (409, "signer_unknown".to_owned()));
}

#[test]
fn a_key_that_is_denied_in_the_configuration_signs_nothing_after_a_restart() {
    let (mut server, ..) = acme_with_host();
    let mut settings = (*server.config.stack.as_ref().unwrap().settings).clone();
    settings.deny_keys = [company::fingerprint("alice approves")].into();
    server.config.stack.as_mut().unwrap().settings = settings.check().unwrap();
    server = server.restart();
    let answer = post(&server, &signed(&document(grant("deploy", "INC-42")), &["alice approves"]));
    assert_eq!(answer.outcome(), (422, "approvals".to_owned()), "{answer:?}");
    published(&server, &signed(&document(grant("deploy", "INC-42")), &["bob approves"]));
}

#[test]
fn the_servers_own_ledger_says_what_was_published_by_whom() {
    let (server, ..) = acme_with_host();
    let document = document(grant("deploy", "INC-42"));
    published(&server, &signed(&document, &["alice approves"]));
    let found = reader(&server).get("/v1/artifacts?type=document.published").json();
    let all = found["artifacts"].as_array().unwrap_or_else(|| panic!("{found}"));
    assert_eq!(all.len(), 2, "{found}");
    let text = found.to_string();
    let alice = company::fingerprint("alice approves");
    for word in [document.id().to_string().as_str(), "alice", alice.as_str(), "\"roster\""] {
        assert!(text.contains(word), "{word}: {found}");
    }
}

#[test]
fn one_key_closes_so_much_in_a_minute_and_whole_stacks_always() {
    let (server, ..) = acme_with_host();
    let most = compliance_api::documents::MAX_CLOSINGS_A_MINUTE;
    let revoked = |n: u32| {
        let unknown = document::Id::of(&n.to_string());
        post(&server, &signed(&document(revoke(unknown)), &["alice approves"])).outcome()
    };
    // A minute may begin meanwhile.
    let refused = (0..=2 * most).map(revoked).find(|outcome| outcome.0 != 200);
    assert_eq!(refused, Some((429, "slow_down".to_owned())));
    published(&server, &signed(&document(lockdown("web", false)), &["alice approves"]));
    published(&server, &signed(&document(revoke(document::Id::of("x"))), &["bob approves"]));
}

#[test]
fn a_feeder_that_holds_somebody_again_fills_no_feed() {
    let (server, ..) = acme_with_host();
    let mut fed = roster(2);
    fed.feeders = vec![document::Feeder { key: company::public("mallory"), source: w("hand") }];
    published(&server, &signed(&document(fed), &["ceo"]));
    let hold = |reason: &str| {
        document(document::Lockdown { person: Some(w("frank")), reason: w(reason), ..lockdown("*", true) })
    };
    let (first, again) = (hold("left"), hold("left again"));
    let by = |document: &document::Document, who: &str| signed(document, &[who]);
    published(&server, &by(&first, "mallory"));
    let count = || ids(&heard(&reader(&server), "stack=web&after=0")).len();
    let before = count();
    let said = published(&server, &by(&again, "mallory"));
    assert!(said["detail"].as_str().unwrap().contains(&first.id().to_string()), "{said}");
    assert_eq!(count(), before);
    // An approver may, and so may the feeder once it was lifted.
    published(&server, &by(&hold("stolen"), "alice approves"));
    published(&server, &signed(&document(lift(first.id())), &["ceo"]));
    published(&server, &by(&hold("left once more"), "mallory"));
    assert_eq!(count(), before + 3);
}
