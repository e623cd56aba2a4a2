//! The feed of a stack: who hears it, what is in it, and waiting for what is new.

use std::{
    thread,
    time::{Duration, Instant},
};

use compliance_api::{admin::Wanted, token::Role};
use document::{Envelope, Feed, Lockdown, Roster, chain};
use record::{ArtifactType, Draft, Hash};
use serde_json::{Value, json};

use crate::common::{
    Host,
    acme::{acme_with_host, heard, hearing, ids, post, published, state_token, stated, taken},
    company::{self, document, grant, lift, lockdown, roster, signed, w},
    database::on_postgres,
    server::wanted,
};

#[test]
fn a_stack_that_is_heard_of_later_begins_with_what_closes_everywhere_and_the_roster() {
    let (server, ..) = acme_with_host();
    let person = Lockdown { person: Some(w("frank")), ..lockdown("*", true) };
    let everywhere = document(person);
    published(&server, &signed(&everywhere, &["alice approves"]));
    let here = document(lockdown("web", true));
    published(&server, &signed(&here, &["alice approves"]));
    let (_, token) = hearing(&server, "i-9", "new");
    let part = heard(&server.client().with(&token), "stack=new&after=0");
    let wanted = [signed(&document(roster(1)), &["ceo"]).document().id().to_string(), everywhere.id().to_string()];
    assert_eq!(ids(&part)[1..], wanted[1..], "{part}");
    assert_eq!(ids(&part).len(), 2);
    assert_eq!(heard(&server.client().with(&token), "stack=new")["next"], 2);
}

#[test]
fn holds_that_a_roster_names_come_to_every_stack_and_to_who_begins_for_as_long_as_it_names_them() {
    let (server, _, token) = acme_with_host();
    let elsewhere = document(Lockdown { person: Some(w("grace")), ..lockdown("db", true) });
    published(&server, &signed(&elsewhere, &["carol approves"]));
    let never = document(lockdown("db", true));
    let naming = |version, holds: &[document::Id]| {
        document(Roster { holds: holds.iter().copied().collect(), ..roster(version) })
    };
    let unknown = post(&server, &signed(&naming(2, &[elsewhere.id(), never.id()]), &["ceo"]));
    assert_eq!(unknown.outcome(), (409, "hold_unknown".to_owned()));
    let second = naming(2, &[elsewhere.id()]);
    published(&server, &signed(&second, &["ceo"]));
    let in_web = ids(&heard(&server.client().with(&token), "stack=web&after=0"));
    assert_eq!(in_web[1..], [elsewhere.id().to_string(), second.id().to_string()]);
    published(&server, &signed(&document(grant("deploy", "INC-42")), &["alice approves"]));
    let lift = document(lift(elsewhere.id()));
    published(&server, &signed(&lift, &["ceo"]));
    // Long after.
    server.database().run("UPDATE documents SET matters = 1 WHERE type IN ('lift', 'lockdown')");
    let (_, new) = hearing(&server, "i-9", "new");
    for (token, stack) in [(&token, "web"), (&new, "new")] {
        let begun = ids(&heard(&server.client().with(token), &format!("stack={stack}")));
        for document in [&elsewhere, &lift] {
            assert!(begun.contains(&document.id().to_string()), "{stack}: {begun:?}");
        }
    }
}

#[test]
fn no_flood_of_revokes_or_of_a_feeders_holds_pushes_a_hold_out_of_what_is_handed_on() {
    let (server, _, token) = acme_with_host();
    let held = document(Lockdown { person: Some(w("frank")), ..lockdown("web", true) });
    published(&server, &signed(&held, &["alice approves"]));
    published(&server, &signed(&document(company::revoke(held.id())), &["alice approves"]));
    let many = match on_postgres() {
        Some(_) => {
            "CREATE TEMP TABLE n AS SELECT n, sha256(n::text::bytea) AS id FROM generate_series(1, 3000) n;
             CREATE TEMP TABLE d AS SELECT * FROM documents WHERE type = 'revoke';
             INSERT INTO documents (id, type, state, stack, person, about, received, matters, facts, envelope)
                 SELECT n.id, d.type, d.state, d.stack, d.person, n.id, d.received, d.matters, d.facts, d.envelope FROM n, d;
             INSERT INTO feed (stack, position, document) SELECT 'web', 100 + n, id FROM n;"
        }
        None => {
            "CREATE TEMP TABLE n AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000) SELECT n, randomblob(32) AS id FROM c;
             CREATE TEMP TABLE d AS SELECT * FROM documents WHERE type = 'revoke';
             INSERT INTO documents (id, type, state, stack, person, about, received, matters, facts, envelope)
                 SELECT n.id, d.type, d.state, d.stack, d.person, n.id, d.received, d.matters, d.facts, d.envelope FROM n, d;
             INSERT INTO feed (stack, position, document) SELECT 'web', 100 + n, id FROM n;"
        }
    };
    server.database().run(many);
    let begun = ids(&heard(&server.client().with(&token), "stack=web"));
    assert!(begun.len() > 2_000 && begun.contains(&held.id().to_string()), "{}", begun.len());
}

#[test]
fn a_beginning_has_what_matters_still_and_the_place_to_go_on_from() {
    let (server, _, token) = acme_with_host();
    let lifted = document(lockdown("web", true));
    published(&server, &signed(&lifted, &["alice approves"]));
    published(&server, &signed(&document(lift(lifted.id())), &["ceo"]));
    published(&server, &signed(&document(roster(2)), &["ceo"]));
    let given = document(document::Grant { after: [lifted.id()].into(), ..grant("deploy", "INC-42") });
    published(&server, &signed(&given, &["alice approves"]));
    let part = heard(&server.client().with(&token), "stack=web");
    assert_eq!((&part["after"], &part["next"]), (&Value::Null, &json!(5)), "{part}");
    assert!(part["documents"].as_array().unwrap().iter().all(|one| one.get("position").is_none()));
    let kinds: Vec<String> = part["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| Envelope::parse(one["envelope"].to_string().as_bytes()).unwrap().document().kind().to_string())
        .collect();
    assert_eq!(kinds, ["roster", "lockdown", "lift", "grant"], "the roster before it matters no more");
    assert_eq!(stated(&server, &part).count, 5);
}

#[test]
fn a_beginning_has_the_roster_too_by_which_somebody_closed_who_has_left_since() {
    let (server, _, token) = acme_with_host();
    let held = document(Lockdown { person: Some(w("frank")), ..lockdown("web", true) });
    published(&server, &signed(&held, &["alice approves"]));
    let without = |version: u64| {
        let mut left = roster(version);
        left.approvers.retain(|approver| approver.person.as_str() != "alice");
        document(left)
    };
    let (second, third) = (without(2), without(3));
    published(&server, &signed(&second, &["ceo"]));
    published(&server, &signed(&third, &["ceo"]));
    let first = signed(&document(roster(1)), &["ceo"]).document().id().to_string();
    let part = heard(&server.client().with(&token), "stack=web");
    assert_eq!(
        ids(&part)[1..],
        [held.id().to_string(), third.id().to_string()],
        "before the one that knows its signer no more: {part}"
    );
    assert_eq!(ids(&part).len(), 3);
    let Some(one) = part["documents"].as_array().and_then(|all| all.first()) else { unreachable!("{part}") };
    let envelope = Envelope::parse(one["envelope"].to_string().as_bytes()).unwrap();
    assert!(
        matches!(envelope.document().body(), document::Body::Roster(roster) if roster.version.number() == 1),
        "{first}"
    );
    // A stack that is heard of later takes it in that order.
    let everywhere = document(Lockdown { person: Some(w("grace")), ..lockdown("*", true) });
    published(&server, &signed(&everywhere, &["ceo"]));
    let (_, token) = hearing(&server, "i-9", "new");
    assert!(ids(&heard(&server.client().with(&token), "stack=new")).contains(&everywhere.id().to_string()));
}

#[test]
fn a_feed_is_for_the_hosts_of_its_stack_and_for_readers() {
    let (server, mut host, token) = acme_with_host();
    let client = server.client();
    let ask = |token: &str, stack: &str| client.with(token).get(&format!("/v1/feed?stack={stack}&after=0")).outcome();
    assert_eq!(client.get("/v1/feed?stack=web").outcome(), (401, "bad_token".to_owned()));
    assert_eq!(ask(&"0".repeat(64), "web"), (401, "bad_token".to_owned()));
    assert_eq!(ask(&token, "db"), (403, "role".to_owned()));
    let portal = Wanted { name: Some("portal".to_owned()), ..wanted(Role::Client) };
    assert_eq!(ask(&server.token(portal), "web"), (403, "role".to_owned()));
    assert_eq!(ask(&server.token(wanted(Role::Admin)), "web").0, 200);
    assert_eq!(ask(&server.token(wanted(Role::Admin)), "nowhere"), (404, "not_found".to_owned()));
    // It moves: its token is for the other stack alone.
    host.stack = "db".to_owned();
    state_token(&mut host, &token);
    let answer = client.ingest(&host.batch(4..=4));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((ask(&token, "web").0, ask(&token, "db").0), (403, 200));
    // A new start, a new token.
    state_token(&mut host, &"a".repeat(64));
    assert_eq!(client.ingest(&host.batch(5..=5)).status, 200);
    assert_eq!((ask(&token, "db").0, ask(&"a".repeat(64), "db").0), (401, 200));
    // One that stopped in good order hears nothing more.
    host.state(&Draft::new(ArtifactType::DaemonStopped, "the daemon stopped"));
    assert_eq!(client.ingest(&host.batch(6..=6)).status, 200);
    assert_eq!(ask(&"a".repeat(64), "db"), (401, "bad_token".to_owned()));
}

#[test]
fn a_host_that_waits_for_approval_hears_nothing_and_leaves_the_known_one_its_feed() {
    let (server, _, token) = acme_with_host();
    let mut copy = Host::new("i-1", "web");
    state_token(&mut copy, &"b".repeat(64));
    let enrolled = server.client().with(&server.enrol_token("web")).ingest(&copy.all());
    assert_eq!(enrolled.json()["enrolment"], "pending", "{enrolled:?}");
    let ask = |token: &str| server.client().with(token).get("/v1/feed?stack=web&after=0").status;
    assert_eq!((ask(&"b".repeat(64)), ask(&token)), (401, 200));
    let approved = server.admin().post(&format!("/v1/enrolments/{}/approve", copy.ledger), &json!({}));
    assert_eq!(approved.status, 200, "{approved:?}");
    assert_eq!((ask(&"b".repeat(64)), ask(&token)), (200, 401), "the newest that counts");
}

#[test]
fn who_waits_is_woken_by_what_is_published_and_answered_after_its_time_else() {
    let (server, _, token) = acme_with_host();
    let host = server.client().with(&token);
    let begin = Instant::now();
    let part = heard(&host, "stack=web&after=1&wait=1");
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!((ids(&part).len(), &part["next"]), (0, &json!(1)), "{part}");
    let document = document(grant("deploy", "INC-42"));
    let waiting = thread::spawn(move || {
        let part = heard(&host, "stack=web&after=1&wait=15");
        (ids(&part), Instant::now())
    });
    thread::sleep(Duration::from_millis(500));
    let posted = Instant::now();
    published(&server, &signed(&document, &["alice approves"]));
    let (heard, at) = waiting.join().unwrap();
    assert_eq!(heard, [document.id().to_string()]);
    assert!(at.duration_since(posted) < Duration::from_secs(5), "{:?}", at.duration_since(posted));
}

#[test]
fn what_cannot_be_asked_of_a_feed_is_refused() {
    let (server, _, token) = acme_with_host();
    let ask = |query: &str| server.client().with(&token).get(&format!("/v1/feed?{query}")).outcome();
    let malformed = (400, "malformed".to_owned());
    for query in ["", "stack=w/b", "stack=web&after=x", "stack=web&wait=301", "stack=web&x=1", "stack=web&after=-1"] {
        assert_eq!(ask(query), malformed, "{query}");
    }
    assert_eq!(ask("stack=web&after=2"), (409, "feed_shorter".to_owned()));
    assert_eq!(ask("stack=web&after=9223372036854775808"), (409, "feed_shorter".to_owned()));
}

#[test]
fn a_long_feed_comes_in_parts_in_order() {
    let (server, _, token) = acme_with_host();
    let mut wanted = Vec::new();
    for n in 0..70 {
        let document = document(grant("deploy", &format!("number {n}")));
        published(&server, &signed(&document, &["alice approves"]));
        wanted.push(document.id());
    }
    let host = server.client().with(&token);
    let (first, second) = (heard(&host, "stack=web&after=0"), heard(&host, "stack=web&after=64"));
    assert_eq!((ids(&first).len(), &first["next"], ids(&second).len()), (64, &json!(64), 7));
    assert_eq!(
        stated(&server, &first),
        Feed { issued_at: stated(&server, &first).issued_at, ..stated(&server, &second) }
    );
    let all: Vec<String> = ids(&first).into_iter().chain(ids(&second)).collect();
    assert_eq!(all[1..], wanted.iter().map(ToString::to_string).collect::<Vec<_>>());
    let head = all.iter().fold(Hash::ZERO, |head, id| chain(head, id.parse().unwrap()));
    assert_eq!(stated(&server, &second).head, head);
}

#[test]
fn a_restart_forgets_nothing_and_another_organization_begins_anew() {
    let (mut server, _, token) = acme_with_host();
    let given = document(grant("deploy", "INC-42"));
    published(&server, &signed(&given, &["alice approves"]));
    let waits = document(grant("ubuntu", "INC-42"));
    taken(&server, &signed(&waits, &["alice approves"]));
    let before = heard(&server.client().with(&token), "stack=web&after=0");
    server = server.restart();
    let after = heard(&server.client().with(&token), "stack=web&after=0");
    assert_eq!(
        (&before["documents"], stated(&server, &before).head),
        (&after["documents"], stated(&server, &after).head)
    );
    published(&server, &signed(&waits, &["bob approves"]));
    let other = Roster { people: vec![], ..roster(1) };
    assert_eq!(post(&server, &signed(&document(other), &["ceo"])).outcome(), (422, "other_bytes".to_owned()));
    server.config.stack.as_mut().unwrap().settings = {
        let mut settings = (*server.config.stack.as_ref().unwrap().settings).clone();
        settings.organization = w("acme2");
        settings.check().unwrap()
    };
    server = server.restart();
    let answer = server.client().with(&token).get("/v1/feed?stack=web&after=3");
    assert_eq!(answer.outcome(), (409, "feed_shorter".to_owned()), "{answer:?}");
    assert_eq!(ids(&heard(&server.client().with(&token), "stack=web")), [""; 0]);
}

#[test]
fn a_host_that_attests_another_feed_than_the_one_here_is_an_incident() {
    let (server, mut host, token) = acme_with_host();
    let holds = stated(&server, &heard(&server.client().with(&token), "stack=web&after=0"));
    let key: document::Key = server.client().get("/v1/server").json()["public_key"].as_str().unwrap().parse().unwrap();
    let mut attests = |position: u64, head: String, key: &str| {
        let feeds =
            json!([{ "feed": "https://compliance.example.com", "position": position, "head": head, "key": key }]);
        let sweep = Draft::new(ArtifactType::SweepAttested, "a sweep");
        let seq = host.state(&sweep.with("feed", json!({ "vouched": true, "feeds": feeds }))).seq();
        assert_eq!(server.client().ingest(&host.batch(seq..=seq)).status, 200);
        let reader = server.client().with(&server.token(wanted(Role::Auditor)));
        reader.get("/v1/incidents?open=true&kind=other_feed").json()["incidents"].as_array().unwrap().clone()
    };
    let (own, other) = (key.fingerprint().as_str(), "c".repeat(64));
    assert!(attests(holds.count, holds.head.to_string(), own).is_empty());
    assert!(attests(holds.count - 1, other.clone(), own).is_empty(), "one that is behind is held against it later");
    assert!(attests(holds.count, other.clone(), "SHA256:another").is_empty(), "another server's");
    let first = attests(holds.count, other, own);
    assert_eq!(
        (&first[0]["subject"], &first[0]["detail"]["position"]),
        (&json!("i-1"), &json!(holds.count)),
        "{first:?}"
    );
    let more = attests(holds.count + 1, holds.head.to_string(), own);
    assert_eq!((more.len(), &more[0]["count"]), (1, &json!(2)), "this server was set back: {more:?}");
}
