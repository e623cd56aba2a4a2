//! The feeds' threads against a server that answers from a script, good or bad: documents arrive, nothing else does, and
//! what is bad costs the others nothing.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::testing::{
    Doc, Fate, FeedRig, Shelf, answer, grant, inbox, listen_to, lockdown, new_token, query, roster, say,
};
use crate::testing::{self, Ledger, Reply, Rig, Server, ship_to};

fn done(_: &Value) -> Fate {
    Fate::Done
}

/// Whether an envelope holds a document of this type.
fn is(envelope: &Value, kind: &str) -> bool {
    envelope["document"].as_str().unwrap().contains(&format!("\"type\":\"{kind}\""))
}

/// Serves these in turn, and then what is on the shelf.
fn first(replies: Vec<Reply>, shelf: &Shelf) -> Server {
    let shelf = shelf.clone();
    Server::start(move |request| replies.get(request.number).cloned().unwrap_or_else(|| shelf.reply(request)))
}

#[test]
fn documents_arrive_from_the_beginning_and_then_as_they_come_and_are_taken_away_again() {
    let (_dir, paths) = testing::paths();
    let shelf = Shelf::of(vec![roster(1), grant(2)]);
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, done);
    rig.until("the beginning", || rig.has_seen(&roster(1)) && rig.has_seen(&grant(2)));
    rig.until("its position", || rig.feed(0)["position"] == 2);
    for n in 0..5 {
        let published = Instant::now();
        shelf.publish(lockdown(n));
        rig.until("the next", || rig.has_seen(&lockdown(n)));
        assert!(published.elapsed() < Duration::from_secs(2), "{:?}", published.elapsed());
    }
    rig.until("its position", || rig.feed(0)["position"] == 7);
    rig.until("an empty inbox", || inbox(&paths).0.is_empty());
    let feed = rig.feed(0);
    assert_eq!((&feed["feed"], &feed["state"], &feed["dropped"]), (&json!(server.url), &json!("listening"), &json!(0)));
    assert!(feed["heard"].is_string() && feed.get("why").is_none(), "{feed}");
    assert!(rig.seen.lock().unwrap().values().all(|times| *times == 1));
    let asked = server.asked();
    assert!(asked[0].path.starts_with("/v1/feed?stack=web&wait=0"), "{}", asked[0].path);
    assert_eq!(asked[0].authorization.as_deref(), Some(format!("Bearer {}", "a".repeat(64)).as_str()));
    let last = asked.last().unwrap();
    assert_eq!((query(last, "after"), query(last, "wait")), (Some(6), Some(50)));
    assert!(rig.stop() < Duration::from_secs(2), "a question on its way is cut short");
}

#[test]
fn whatever_a_server_does_nothing_but_documents_lies_there_and_what_is_good_arrives_after_it() {
    let with = |member: &str, value: Value| {
        let mut bad = answer(None, &[lockdown(666)]);
        bad[member] = value;
        say(&bad)
    };
    let mut forged = lockdown(666);
    forged.envelope["document"] = lockdown(667).envelope["document"].clone();
    let faults = [
        ("a forged id", say(&answer(None, &[forged])), 1),
        ("another stack's", with("stack", json!("db")), 0),
        ("another organization's", with("organization", json!("evil")), 0),
        ("no statement", with("statement", json!(null)), 0),
        ("a position that was not asked for", with("after", json!(7)), 0),
        ("no list", with("documents", json!("x")), 0),
        ("200 with nothing in it", Reply::status(200), 0),
        ("a captive portal", Reply::Say(200, vec![], b"<html>log in</html>".to_vec()), 0),
        ("deep nesting", Reply::Say(200, vec![], "[".repeat(1 << 20).into_bytes()), 0),
        ("garbage", Reply::Raw(b"\x00\xff\r\n\r\nSSH-2.0-OpenSSH\r\n".to_vec()), 0),
        ("a closed connection", Reply::Nothing, 0),
        ("500", Reply::status(500), 0),
        ("an unknown token", Reply::problem(401, json!({ "code": "unknown_token" })), 0),
        ("too many", Reply::Say(429, vec![("Retry-After", "0".to_owned())], vec![]), 0),
    ];
    for (name, fault, dropped) in faults {
        let (_dir, paths) = testing::paths();
        let shelf = Shelf::of(vec![lockdown(1)]);
        let server = first(vec![fault], &shelf);
        listen_to(&paths, &[&server.url]);
        let rig = FeedRig::start(&paths, done);
        rig.until(name, || rig.has_seen(&lockdown(1)) || rig.feed(0)["dropped"] == 1);
        if dropped == 1 {
            // The daemon cannot hear what did not come, and it is asked for again.
            rig.until(name, || rig.has_seen(&lockdown(1)));
        }
        assert_eq!(rig.feed(0)["dropped"], dropped, "{name}");
        assert_eq!(rig.seen.lock().unwrap().len(), 1, "{name}");
        rig.stop();
    }
}

#[test]
fn an_answer_without_end_is_given_up_while_it_is_read_and_records_are_shipped_meanwhile() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    let api = Server::start(|_| Reply::Store);
    let shelf = Shelf::of(vec![lockdown(1)]);
    let (flood, hang) = (Reply::Endless(1 << 20, Duration::ZERO), Reply::Hang(Duration::from_secs(600)));
    let servers = [first(vec![flood], &shelf), first(vec![hang], &shelf)];
    let drip = Server::start(|_| Reply::Endless(1, Duration::from_millis(50)));
    let stack = json!({ "organization": "acme", "stack": "web", "feeds": [servers[0].url, servers[1].url, drip.url] });
    ship_to(&paths, &json!({ "v": 1, "api": { "url": api.url }, "stack": stack }));
    let (rig, sinks) = (FeedRig::start(&paths, done), Rig::start(&paths));
    for _ in 0..5 {
        let begun = Instant::now();
        ledger.append(100);
        sinks.until("the records", || api.stored(&ledger.id).len() as u64 == ledger.seq);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    rig.until("the document", || rig.has_seen(&lockdown(1)));
    assert!(servers[0].asked().len() >= 2 && inbox(&paths).1 < 1 << 20);
    sinks.stop(false, Duration::from_secs(5));
    assert!(rig.stop() < Duration::from_secs(2), "a server that hangs or drips holds nothing up");
}

#[test]
fn an_answer_longer_than_the_bound_is_refused_and_said() {
    let (_dir, paths) = testing::paths();
    let server = Server::start(|_| Reply::Endless(1 << 20, Duration::ZERO));
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, done);
    rig.until("the refusal", || rig.feed(0)["state"] == "waiting");
    assert!(rig.feed(0)["why"].as_str().unwrap().contains("more length than 33554432 bytes"));
    rig.stop();
}

#[test]
fn a_server_that_answers_at_once_with_nothing_is_asked_once_a_second() {
    let (_dir, paths) = testing::paths();
    let server = Server::start(|request| say(&answer(query(request, "after"), &[])));
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, done);
    let begun = Instant::now();
    rig.until("many questions", || server.asked().len() >= 23);
    thread::sleep(Duration::from_secs(1));
    let most = 22 + begun.elapsed().as_secs() as usize;
    assert!(server.asked().len() <= most, "{} of {most}", server.asked().len());
    assert_eq!(rig.feed(0)["state"], "listening");
    rig.stop();
}

#[test]
fn a_flood_lies_there_within_bounds_and_all_of_it_arrives_when_the_daemon_takes_it() {
    let (_dir, paths) = testing::paths();
    let mut flood: Vec<_> = (0..2000).map(grant).collect();
    flood.push(lockdown(1));
    let shelf = Shelf::of(flood.clone());
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, |_| Fate::Unseen);
    rig.until("a full inbox", || inbox(&paths).0.len() == 256);
    rig.until("the reason", || rig.feed(0)["why"].as_str().is_some_and(|why| why.contains("inbox is full")));
    assert!(inbox(&paths).0.contains(&format!("{}.json", lockdown(1).id)), "what closes lies there first");
    assert_eq!(server.asked().len(), 1);
    rig.stop();
    // The daemon is back, and the shipper was started again meanwhile.
    let rig = FeedRig::start(&paths, done);
    rig.until("all of it", || flood.iter().all(|document| rig.has_seen(document)));
    rig.until("its position", || rig.feed(0)["position"] == 2001);
    rig.until("an empty inbox", || inbox(&paths).0.is_empty());
    rig.stop();
}

#[test]
fn a_lockdown_gets_in_where_grants_wait() {
    let (_dir, paths) = testing::paths();
    let shelf = Shelf::of((0..300).map(grant).collect());
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, |it| if is(it, "grant") { Fate::Waiting } else { Fate::Done });
    rig.until("its position", || rig.feed(0)["position"] == 300);
    assert_eq!(inbox(&paths).0.len(), 256);
    shelf.publish(lockdown(1));
    rig.until("the lockdown", || rig.has_seen(&lockdown(1)));
    rig.stop();
}

#[test]
fn a_hostile_feed_keeps_nothing_of_another_out() {
    let (_dir, paths) = testing::paths();
    let count = std::sync::atomic::AtomicU64::new(0);
    // Ever more of what closes, all of which waits.
    let hostile = Server::start(move |request| {
        let from = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 64;
        let documents: Vec<_> = (from..from + 64).map(|n| lockdown(1_000_000 + n)).collect();
        say(&answer(query(request, "after"), &documents))
    });
    let shelf = Shelf::of(vec![roster(1)]);
    let good = first(vec![], &shelf);
    listen_to(&paths, &[&hostile.url, &good.url]);
    let own = |it: &Value| it["document"].as_str().unwrap().contains("\"reason\":\"1000");
    let rig = FeedRig::start(&paths, move |it| if own(it) { Fate::Waiting } else { Fate::Done });
    rig.until("a full share", || inbox(&paths).0.len() >= 128);
    for n in 0..3 {
        let published = Instant::now();
        shelf.publish(lockdown(n));
        rig.until("the lockdown", || rig.has_seen(&lockdown(n)));
        assert!(published.elapsed() < Duration::from_secs(5), "{:?}", published.elapsed());
    }
    assert!(inbox(&paths).0.len() <= 256);
    // It is paced: a flood costs the daemon little.
    assert!(hostile.asked().len() < 60, "{}", hostile.asked().len());
    rig.stop();
}

#[test]
fn without_its_token_a_feed_is_not_asked_and_a_new_one_is_used_at_once() {
    let (_dir, paths) = testing::paths();
    let shelf = Shelf::of(vec![lockdown(1)]);
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    fs::write(paths.feed_token(), "short").unwrap();
    let rig = FeedRig::start(&paths, done);
    rig.until("the reason", || rig.feed(0)["why"].as_str().is_some_and(|why| why.contains("holds no token")));
    fs::remove_file(paths.feed_token()).unwrap();
    rig.until("the reason", || rig.feed(0)["why"].as_str().is_some_and(|why| why.contains("has not written")));
    assert!(server.asked().is_empty());
    new_token(&paths, 'b');
    rig.until("the document", || rig.has_seen(&lockdown(1)));
    rig.until("a long question", || server.asked().iter().any(|request| query(request, "after").is_none()));
    thread::sleep(Duration::from_millis(300));
    // The daemon was started anew: what is on its way is asked again, with the new token.
    new_token(&paths, 'c');
    let with_new = Some(format!("Bearer {}", "c".repeat(64)));
    shelf.publish(lockdown(2));
    rig.until("the next", || rig.has_seen(&lockdown(2)));
    shelf.publish(lockdown(3));
    rig.until("the one after", || rig.has_seen(&lockdown(3)));
    assert!(server.asked().iter().any(|request| request.authorization == with_new));
    rig.stop();
}

#[test]
fn started_again_at_any_moment_it_loses_nothing() {
    let (_dir, paths) = testing::paths();
    let documents: Vec<Doc> = (0..400).map(|n| if n % 3 == 0 { lockdown(n) } else { grant(n) }).collect();
    let shelf = Shelf::of(documents.clone());
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..8 {
        let rig = FeedRig::start(&paths, done);
        thread::sleep(Duration::from_millis(15 * n));
        let kept = rig.seen.clone();
        rig.stop();
        seen.extend(kept.lock().unwrap().keys().cloned());
    }
    let rig = FeedRig::start(&paths, done);
    rig.until("the rest", || {
        let now = rig.seen.lock().unwrap();
        documents.iter().map(|d| d.id.to_string()).all(|id| seen.contains(&id) || now.contains_key(&id))
    });
    rig.until("its position", || rig.feed(0)["position"] == 400);
    rig.stop();
}

#[test]
fn a_place_for_files_is_shown_no_token_and_answers_that_nothing_is_new() {
    let (_dir, paths) = testing::paths();
    let server = Server::start(|_| {
        let tag = vec![("ETag", "\"1\"".to_owned())];
        Reply::Say(200, tag, answer(None, &[lockdown(1), roster(1)]).to_string().into_bytes())
    });
    let url = format!("{}/bucket/", server.url);
    listen_to(&paths, &[&url]);
    let rig = FeedRig::start(&paths, done);
    rig.until("the documents", || rig.has_seen(&lockdown(1)) && rig.has_seen(&roster(1)));
    rig.until("its position", || rig.feed(0)["position"] == 2);
    rig.until("an empty inbox", || inbox(&paths).0.is_empty());
    assert_eq!(rig.feed(0)["feed"], json!(url));
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0].path.as_str(), &asked[0].authorization), (1, "/bucket/web.json", &None));
    assert!(!asked[0].head.contains(&"a".repeat(64)) && !asked[0].head.contains("if-none-match"));
    rig.stop();
}

#[test]
fn a_feed_that_holds_fewer_documents_than_before_is_heard_from_the_beginning() {
    let (_dir, paths) = testing::paths();
    let shelf = Shelf::of((0..5).map(lockdown).collect());
    let server = first(vec![], &shelf);
    listen_to(&paths, &[&server.url]);
    let rig = FeedRig::start(&paths, done);
    rig.until("its position", || rig.feed(0)["position"] == 5);
    rig.stop();
    *shelf.0.lock().unwrap() = vec![lockdown(0), lockdown(77)];
    let before = server.asked().len();
    let position = json!({ "v": 1, "feeds": [{ "feed": server.url, "position": 5 }] });
    fs::write(paths.heard(), position.to_string()).unwrap();
    // A daemon that has still to read it keeps its answer.
    let rig = FeedRig::start(&paths, done);
    rig.until("what is new", || rig.has_seen(&lockdown(77)));
    rig.until("its position", || rig.feed(0)["position"] == 2);
    assert!(server.asked().len() > before);
    rig.stop();
}

#[test]
fn what_refuses_to_answer_is_said_with_its_reason() {
    let (_dir, paths) = testing::paths();
    let none = Server::start(|_| Reply::problem(404, json!({ "code": "no_stack", "detail": "there is no [stack]" })));
    let elsewhere = Server::start(|_| Reply::Say(302, vec![("Location", "https://a".to_owned())], vec![]));
    listen_to(&paths, &[&none.url, &elsewhere.url, "http://a.example"]);
    let rig = FeedRig::start(&paths, done);
    for (number, says) in [(0, "404 no_stack there is no [stack]"), (1, "answers 302"), (2, "is not https")] {
        rig.until(says, || rig.feed(number)["state"] == "refused");
        let why = rig.feed(number)["why"].as_str().unwrap().to_owned();
        assert!(why.contains(says), "{why}");
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!((none.asked().len(), elsewhere.asked().len()), (1, 1));
    assert!(rig.stop() < Duration::from_secs(2));
}

#[test]
fn another_configuration_counts_at_once_and_without_a_stack_nothing_is_left() {
    let (_dir, paths) = testing::paths();
    let shelves = [Shelf::of(vec![grant(1)]), Shelf::of(vec![grant(2)])];
    let servers = [first(vec![], &shelves[0]), first(vec![], &shelves[1])];
    listen_to(&paths, &[&servers[0].url]);
    let rig = FeedRig::start(&paths, |_| Fate::Waiting);
    rig.until("the first", || rig.has_seen(&grant(1)));
    let begun = Instant::now();
    listen_to(&paths, &[&servers[1].url, &servers[0].url]);
    rig.until("the second", || rig.has_seen(&grant(2)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    rig.until("both", || rig.status()["feeds"].as_array().is_some_and(|feeds| feeds.len() == 2));
    rig.until("what the other said", || paths.inbox().join("feed-2.json").exists());
    ship_to(&paths, &json!({ "v": 1 }));
    rig.until("nothing", || fs::read_dir(paths.inbox()).unwrap().count() == 0 && rig.status().get("feeds").is_none());
    rig.stop();
}
