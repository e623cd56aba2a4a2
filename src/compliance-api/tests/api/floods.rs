//! What others send to keep documents from being taken, or the server from working: floods, huge and slow bodies, hosts that
//! wait in masses.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use compliance_api::config::Config;
use document::{Approver, Envelope, MAX_ROSTER_ENVELOPE, Member, Roster};
use serde_json::json;
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use crate::common::{
    Server,
    acme::{acme_with_host, heard, hearing, ids, post, published, reader},
    company::{asked, document, grant, lockdown, of_acme, roster, signed, w},
    http::read_answer,
    soon,
};

/// The same with other bounds.
fn bounded(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = Server::start_with(|config| {
        of_acme(config);
        change(config);
    });
    let (_, token) = hearing(&server, "i-1", "web");
    published(&server, &signed(&document(roster(1)), &["ceo"]));
    (server, token)
}

/// Sends the head of a document, and as much of its body as is said.
fn begin(server: &Server, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = server.client().connect();
    let head = format!("POST /v1/documents HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The server may have answered, and closed it.
    let _ = stream.write_all(body);
    stream
}

#[test]
fn what_nobody_signed_is_refused_and_never_stored_however_much_comes() {
    let (server, ..) = acme_with_host();
    let words: Vec<String> = thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|flood| {
                let server = &server;
                scope.spawn(move || {
                    let send = |n: usize| {
                        let document = document(grant("deploy", &format!("{flood} {n}")));
                        let envelope = match n % 3 {
                            0 => signed(&document, &["mallory"; 16]),
                            1 => signed(&document, &[]),
                            _ => asked(&document, "mallory"),
                        };
                        post(server, &envelope).code()
                    };
                    (0..60).map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        // Meanwhile what closes gets through.
        let begun = Instant::now();
        published(&server, &signed(&document(lockdown("web", false)), &["alice approves"]));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        floods.into_iter().flat_map(|flood| flood.join().unwrap()).collect()
    });
    assert!(words.iter().all(|word| word == "approvals"), "{words:?}");
    assert_eq!(server.count("SELECT count(*) FROM documents"), 2, "the roster and the lockdown");
}

#[test]
fn a_body_beyond_any_roster_is_refused_whether_it_says_so_or_not() {
    let (server, ..) = acme_with_host();
    let stream = begin(&server, "Content-Length: 1073741824", &[b' '; 1024]);
    assert_eq!(read_answer(stream).unwrap().outcome(), (413, "too_large".to_owned()));
    let mut stream = begin(&server, "Transfer-Encoding: chunked", b"");
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    // It is cut off, at the latest when it is over the bound.
    while stream.write_all(&chunk).is_ok() {
        sent += 1 << 20;
        assert!(sent < 4 * MAX_ROSTER_ENVELOPE, "nobody stops it");
    }
    assert_eq!(post(&server, &signed(&document(lockdown("web", true)), &["alice approves"])).status, 200);
}

#[test]
fn long_bodies_take_turns_and_short_ones_go_by() {
    let (server, ..) = acme_with_host();
    let length = "Content-Length: 1000000";
    let slow = begin(&server, length, &[b' '; 200_000]);
    thread::sleep(Duration::from_millis(1000));
    let second = begin(&server, length, &[b' '; 200_000]);
    assert_eq!(read_answer(second).unwrap().outcome(), (503, "busy".to_owned()));
    published(&server, &signed(&document(lockdown("web", true)), &["alice approves"]));
    drop(slow);
    // Its place is free again.
    soon("the next gets it", || {
        let long = [b" ".repeat(200_000), b"{}".to_vec()].concat();
        let stream = begin(&server, &format!("Content-Length: {}", long.len()), &long);
        read_answer(stream).is_ok_and(|answer| answer.status == 400)
    });
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let (server, _) = bounded(|config| config.limits.request_timeout = Duration::from_secs(1));
    let stream = begin(&server, "Content-Length: 1000", b"{\"document\":");
    assert_eq!(read_answer(stream).unwrap().outcome(), (408, "too_slow".to_owned()));
}

#[test]
fn hosts_that_wait_take_no_place_of_others_from_their_address_and_longer_than_a_request_may() {
    let (server, token) = bounded(|config| {
        config.limits.requests_per_address = 3;
        config.limits.request_timeout = Duration::from_secs(1);
    });
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let host = server.client().with(&token);
            thread::spawn(move || heard(&host, "stack=web&after=1&wait=20"))
        })
        .inspect(|_| thread::sleep(Duration::from_millis(100)))
        .collect();
    thread::sleep(Duration::from_millis(1500));
    let document = document(grant("deploy", "INC-42"));
    published(&server, &signed(&document, &["alice approves"]));
    for one in waiting {
        assert_eq!(ids(&one.join().unwrap()), [document.id().to_string()]);
    }
}

#[test]
fn more_than_may_wait_are_told_to_come_again_and_what_is_new_they_get_all_the_same() {
    let (server, token) = bounded(|config| config.limits.polls = 2);
    let host = server.client().with(&token);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let host = host.clone();
            thread::spawn(move || heard(&host, "stack=web&after=1&wait=20"))
        })
        .collect();
    thread::sleep(Duration::from_millis(1000));
    let third = host.get("/v1/feed?stack=web&after=1&wait=1");
    assert!(third.status == 503 && third.headers.contains("retry-after"), "{third:?}");
    assert_eq!(ids(&heard(&host, "stack=web&after=0&wait=15")).len(), 1);
    published(&server, &signed(&document(lockdown("web", true)), &["alice approves"]));
    waiting.into_iter().for_each(|one| assert_eq!(ids(&one.join().unwrap()).len(), 1));
}

#[test]
fn a_server_that_stops_answers_who_waits() {
    let (mut server, token) = bounded(|_| {});
    let host = server.client().with(&token);
    let waiting = thread::spawn(move || heard(&host, "stack=web&after=1&wait=300"));
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    server.end();
    assert_eq!(ids(&waiting.join().unwrap()), [""; 0]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_host_that_moves_while_it_waits_hears_nothing_of_the_stack_that_it_left() {
    let (server, mut host, token) = acme_with_host();
    let asking = server.client().with(&token);
    let waiting = thread::spawn(move || asking.get("/v1/feed?stack=web&after=1&wait=20"));
    thread::sleep(Duration::from_millis(500));
    host.stack = "db".to_owned();
    crate::common::acme::state_token(&mut host, &token);
    assert_eq!(server.client().ingest(&host.batch(4..=4)).status, 200);
    thread::sleep(Duration::from_millis(1200));
    published(&server, &signed(&document(lockdown("web", true)), &["alice approves"]));
    assert_eq!(waiting.join().unwrap().outcome(), (403, "role".to_owned()));
}

#[test]
fn a_roster_of_thousands_goes_through() {
    let (server, _, token) = acme_with_host();
    let accounts: std::collections::BTreeSet<_> = (0..8).map(|n| w(&format!("{n}{}", "a".repeat(250)))).collect();
    let people = (0..2_400_u32).map(|n| {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        Member {
            accounts: [(w("web"), accounts.clone())].into(),
            iam: None,
            keys: [document::Key::from_data(key.public_key().key_data()).unwrap()].into(),
            name: w(&format!("p{n:05}{}", "x".repeat(58))),
            source: w(&"s".repeat(128)),
        }
    });
    let mut large = roster(2);
    large.people.extend(people);
    large.people.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    let envelope = signed(&document(large), &["ceo"]);
    assert!(envelope.document().line().len() > 4 << 20, "{}", envelope.document().line().len());
    let state = published(&server, &envelope);
    assert_eq!(state["stacks"], json!(["db", "web"]));
    let host = server.client().with(&token);
    let part = heard(&host, "stack=web&after=1");
    assert_eq!(ids(&part), [envelope.document().id().to_string()], "one at least, however long");
    assert_eq!(Envelope::parse(part["documents"][0]["envelope"].to_string().as_bytes()).unwrap(), envelope);
    assert_eq!(heard(&host, "stack=web")["next"], 2);
    let server = server.restart();
    assert_eq!(reader(&server).get("/v1/roster").json()["version"], 2);
    published(&server, &signed(&document(grant("deploy", "INC-42")), &["alice approves"]));
}

#[test]
fn an_automatic_roster_is_kept_beside_the_signed_one_and_both_are_handed_on() {
    let server = Server::start_with(|config| {
        of_acme(config);
        let stack = config.stack.as_mut().unwrap();
        let mut settings = (*stack.settings).clone();
        settings.roster.automatic = vec![crate::common::company::public("iam")];
        stack.settings = settings.check().unwrap();
    });
    let (_, token) = hearing(&server, "i-1", "web");
    let feeder = document::Feeder { key: crate::common::company::public("iam"), source: w("iam") };
    let by_hand = Roster { feeders: vec![feeder], ..roster(1) };
    let first = signed(&document(by_hand.clone()), &["ceo"]);
    published(&server, &first);
    let joins = Member {
        name: w("zoe"),
        source: w("iam"),
        keys: [crate::common::company::public("zoe")].into(),
        ..by_hand.people[0].clone()
    };
    let people = [by_hand.people.clone(), vec![joins]].concat();
    let second = signed(&document(Roster { people, version: 2.try_into().unwrap(), ..by_hand.clone() }), &["iam"]);
    published(&server, &second);
    let more = Approver {
        person: w("zoe"),
        keys: [crate::common::company::public("zoe approves")].into(),
        ..by_hand.approvers[0].clone()
    };
    let approvers = [by_hand.approvers.clone(), vec![more]].concat();
    let third = signed(&document(Roster { approvers, version: 3.try_into().unwrap(), ..by_hand }), &["iam"]);
    assert_eq!(post(&server, &third).outcome(), (422, "automatic".to_owned()));
    let server = server.restart();
    let part = heard(&server.client().with(&token), "stack=web");
    let both = [&first, &second].map(|envelope| envelope.document().id().to_string());
    assert_eq!(ids(&part), both);
    let (_, token) = hearing(&server, "i-2", "later");
    assert_eq!(ids(&heard(&server.client().with(&token), "stack=later&after=0")), both);
}

#[test]
fn readers_who_fill_the_queue_for_writing_hold_up_no_lockdown_and_no_hosts_records() {
    let (server, _) = bounded(|config| {
        config.limits.write_queue = 4;
        config.limits.requests_per_address = 256;
    });
    let mut host = server.host("i-2");
    host.logins(1);
    let auditor = reader(&server);
    // What is read is stated first: that fills the queue as long as nothing can be written.
    let held = server.database();
    held.hold();
    let read = |n: usize| auditor.get(["/v1/feed?stack=web", "/v1/hosts", "/v1/status?stack=web"][n % 3]).outcome();
    let (lockdown, records, read) = thread::scope(|scope| {
        let reads: Vec<_> = (0..120).map(|n| scope.spawn(move || read(n))).collect();
        soon("there is no room for reads", || reads.iter().any(|read| read.is_finished()));
        assert_eq!(read(0), (503, "busy".to_owned()), "what this is about");
        let lockdown = scope.spawn(|| post(&server, &signed(&document(lockdown("web", true)), &["alice approves"])));
        let records = scope.spawn(|| server.client().ingest(&host.batch(3..=3)));
        // Judged, and waiting to be stored.
        thread::sleep(Duration::from_millis(500));
        held.let_go();
        let read: Vec<_> = reads.into_iter().map(|read| read.join().unwrap()).collect();
        (lockdown.join().unwrap(), records.join().unwrap(), read)
    });
    assert_eq!((lockdown.status, records.status), (200, 200), "{lockdown:?} {records:?}");
    let refused = read.iter().filter(|outcome| **outcome == (503, "busy".to_owned())).count();
    assert!((1..120).contains(&refused), "{refused} of 120");
}

#[test]
fn many_who_ask_whether_it_is_ready_fill_no_queue() {
    let (server, _) = bounded(|config| {
        config.limits.write_queue = 4;
        config.limits.requests_per_address = 256;
    });
    let asked: Vec<u16> = thread::scope(|scope| {
        let ask = || server.client().get("/readyz").status;
        let asking: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(asked.iter().all(|status| *status == 200), "{asked:?}");
}

#[test]
fn a_host_that_sends_the_same_many_times_is_told_to_slow_down_and_takes_no_other_hosts_place() {
    let (server, _) = bounded(|config| {
        config.limits.batches_per_source = 2;
        config.limits.write_queue = 3;
    });
    let (mut busy, mut other) = (server.host("i-2"), server.host("i-3"));
    busy.logins(1);
    other.logins(1);
    let held = server.database();
    held.hold();
    let send = |batch: String| server.client().ingest(&batch);
    let (mut sent, others) = thread::scope(|scope| {
        let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send(busy.batch(3..=3)))).collect();
        soon("the others are told", || sent.iter().filter(|sent| sent.is_finished()).count() == 6);
        let others = scope.spawn(|| send(other.batch(3..=3)));
        thread::sleep(Duration::from_millis(500));
        held.let_go();
        (sent.into_iter().map(|sent| sent.join().unwrap()).collect::<Vec<_>>(), others.join().unwrap())
    });
    assert_eq!(others.status, 200, "{others:?}");
    sent.retain(|answer| answer.status != 200);
    assert_eq!(sent.len(), 6);
    for answer in sent {
        assert_eq!(answer.outcome(), (429, "slow_down".to_owned()));
        assert!(answer.headers.contains("retry-after:"), "{answer:?}");
    }
    assert_eq!(server.client().ingest(&busy.batch(3..=3)).json()["accepted"], 1, "there is room again");
}
