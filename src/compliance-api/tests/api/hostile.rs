//! Clients that mean no good, or are broken: each is refused clearly or cut off, and the others are served.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::common::{Client, Host, Server, database::Two, http::read_answer, server::wanted};
use compliance_api::{admin::Wanted, token::Role};

/// Whether the server answers within two seconds.
fn is_served(client: &Client) -> bool {
    let begin = Instant::now();
    client.get("/livez").status == 200 && begin.elapsed() < Duration::from_secs(2)
}

/// Waits for the other end to close, at most so long. How long that took.
fn closed(stream: &mut TcpStream) -> Duration {
    let begin = Instant::now();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut Vec::new());
    begin.elapsed()
}

#[test]
fn half_open_connections_and_slow_headers_are_cut_off_and_others_are_served() {
    let server = Server::start_with(|c| {
        c.limits.header_timeout = Duration::from_millis(600);
        c.limits.connections = 64;
    });
    let client = server.client();
    let mut open: Vec<TcpStream> = (0..40).map(|_| client.connect()).collect();
    for (n, stream) in open.iter_mut().enumerate() {
        if n % 2 == 0 {
            stream.write_all(b"POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
        }
    }
    assert!(is_served(&client));
    for mut stream in open {
        assert!(closed(&mut stream) < Duration::from_secs(3));
    }
    assert!(is_served(&client));
}

#[test]
fn a_connection_that_drips_bytes_has_no_longer_than_others() {
    let server = Server::start_with(|c| c.limits.header_timeout = Duration::from_millis(600));
    let mut stream = server.client().connect();
    let begin = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").unwrap();
    while begin.elapsed() < Duration::from_secs(5) && stream.write_all(b"a").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn a_slow_body_is_answered_with_408_and_stores_nothing() {
    let server = Server::start_with(|c| c.limits.request_timeout = Duration::from_millis(500));
    let mut stream = server.client().connect();
    let head = "POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 1000\r\n\r\n[{";
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert_eq!(answer.outcome(), (408, "too_slow".to_owned()), "{answer:?}");
    assert!(is_served(&server.client()));
}

#[test]
fn one_address_cannot_take_every_place() {
    let server = Server::start_with(|c| {
        c.limits.connections_per_address = 4;
        c.limits.connections = 8;
    });
    let mut open: Vec<TcpStream> = (0..4).map(|_| server.client().connect()).collect();
    thread::sleep(Duration::from_millis(200));
    let mut more = server.client().connect();
    assert!(closed(&mut more) < Duration::from_secs(1));
    open.pop();
    thread::sleep(Duration::from_millis(200));
    assert!(is_served(&server.client()));
}

#[test]
fn when_it_is_full_who_has_sent_no_whole_request_makes_room() {
    let server = Server::start_with(|c| c.limits.connections = 8);
    let client = server.client();
    let mut open: Vec<TcpStream> = (0..8).map(|_| client.connect()).collect();
    open[0].write_all(b"POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    // A header that is there, and a body that is not.
    let header = b"POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 1000\r\n\r\n[{";
    open[1].write_all(header).unwrap();
    thread::sleep(Duration::from_millis(200));
    // Each keeps its place, so the next one needs another.
    let _served: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = client.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut stream).unwrap().status, 200, "others hold every place");
            stream
        })
        .collect();
    assert!(closed(&mut open[0]) < Duration::from_secs(1), "the oldest goes");
    assert!(closed(&mut open[1]) < Duration::from_secs(1), "and the next");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let server = Server::start_with(|c| {
        c.limits.stall_timeout = Duration::from_millis(500);
        c.limits.connections = 4;
    });
    let request = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let mut open: Vec<TcpStream> = (0..4).map(|_| server.client().connect()).collect();
    for stream in &mut open {
        nix::sys::socket::setsockopt(&*stream, nix::sys::socket::sockopt::RcvBuf, &2048).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        while stream.write_all(&request).is_ok() {}
    }
    // What fits in the kernel's buffers is answered first.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(15) {
        let served = server.client().try_send("GET", "/healthz", "", b"").is_ok_and(|answer| answer.status == 200);
        if served {
            break;
        }
    }
    assert!(is_served(&server.client()), "their places are free again");
}

#[test]
fn what_is_no_http_is_refused() {
    let server = Server::start();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500));
    for request in ["\0\0\0\0\r\n\r\n", "HELO there\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long, &many] {
        let mut stream = server.client().connect();
        // The server may hang up while we still write.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"), "{answer}");
    }
    assert!(is_served(&server.client()));
}

#[test]
fn sql_html_and_nul_in_every_field_are_kept_as_they_are_or_refused() {
    let server = Server::start();
    let nasty = "'; DROP TABLE artifacts; --<script>alert(1)</script>\\";
    let token = server.token(Wanted { name: Some("app".to_owned()), ..wanted(Role::Client) });
    let client = server.client().with(&token);
    let event = |id: &str, data: &str| {
        json!([{"specversion": "1.0", "id": id, "source": "/clients/app", "type": "app.authentication", "data": 0}])
            .to_string()
            .replace(":0,", &format!(":{data},"))
            .replace(":0}", &format!(":{data}}}"))
    };
    let data = json!({"person": nasty, "account": nasty, "x": nasty}).to_string();
    let answer = client.ingest(&event(nasty, &data));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'client'"), 1);
    let quoted = nasty.replace('\'', "''");
    let stored: Vec<u8> = server.one(&format!(
        "SELECT bytes FROM records WHERE kind = 'client' AND person = '{quoted}' AND client_id = '{quoted}'"
    ));
    assert_eq!(stored, data.as_bytes());
    for (what, id, data, status) in [
        ("a NUL in the id", "a\0b", "{}", 422),
        ("text turned around in the id", "a\u{202e}b", "{}", 422),
        ("nothing to see in the id", "a\u{200b}b", "{}", 422),
        ("a NUL in data", "b", "{\"a\":\"\\u0000\"}", 422),
        ("a key twice", "c", "{\"a\":1,\"a\":2}", 422),
        ("not an object", "d", "[1]", 422),
        ("more than one line", "e", "{\"a\":\n1}", 422),
        ("deep", "f", &format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000)), 422),
    ] {
        let answer = client.ingest(&event(id, data));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    for path in [
        "/v1/tokens/'%20OR%201=1--",
        "/v1/enrolments/%00/approve",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/artifacts/<script>",
    ] {
        let answer = server.admin().send(if path.contains("approve") { "POST" } else { "DELETE" }, path, "", b"");
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.body.contains("<script>"), "{path}");
    }
}

#[test]
fn a_client_posts_under_its_own_name_and_its_own_types_alone() {
    let server = Server::start();
    let types = Some(vec!["app.authentication".to_owned()]);
    let token = server.token(Wanted { name: Some("app".to_owned()), types, ..wanted(Role::Client) });
    let free = server.token(Wanted { name: Some("other".to_owned()), ..wanted(Role::Client) });
    let event = |name: &str, kind: &str| {
        json!([{"specversion": "1.0", "id": "1", "source": format!("/clients/{name}"), "type": kind, "data": {"person": "ann"}}]).to_string()
    };
    let client = server.client();
    for (token, name, kind, status, code) in [
        (Some(&token), "other", "app.authentication", 403, "role"),
        (Some(&token), "app", "app.other", 403, "role"),
        (Some(&free), "other", "session.opened", 422, "malformed"),
        (Some(&free), "other", "ledger.own", 422, "malformed"),
        (Some(&free), "other", "review.completed", 422, "malformed"),
        (Some(&free), "other", "server.started", 422, "malformed"),
        (Some(&free), "other", "lockdown", 422, "malformed"),
        (Some(&free), "other", "App.X", 422, "malformed"),
        (None, "app", "app.authentication", 401, "bad_token"),
        (Some(&server.enrol_token("web")), "app", "app.authentication", 403, "role"),
    ] {
        let client = token.map_or_else(|| client.clone(), |t| client.with(t));
        assert_eq!(client.ingest(&event(name, kind)).outcome(), (status, code.to_owned()), "{name} {kind}");
    }
    assert_eq!(client.with(&token).ingest(&event("app", "app.authentication")).status, 200);
    assert_eq!(client.with(&free).ingest(&event("other", "app.authentication")).status, 200);
}

#[test]
fn a_clients_chain_goes_on_and_the_first_under_an_id_stands() {
    let server = Server::start();
    let token = server.token(Wanted { name: Some("app".to_owned()), ..wanted(Role::Client) });
    let client = server.client().with(&token);
    let event = |id: u32, who: &str| {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/clients/app\",\"type\":\"app.authentication\",\"time\":\"2026-11-01T12:00:00Z\",\"data\":{{\"person\": \"{who}\"}}}}"
        )
    };
    let first = client.ingest(&format!("[{},{}]", event(1, "ann"), event(2, "bob"))).json();
    assert_eq!((&first["stored"], &first["head"]["seq"]), (&json!(2), &json!(2)));
    let again = client.ingest(&format!("[{},{}]", event(2, "bob"), event(3, "cat"))).json();
    assert_eq!((&again["accepted"], &again["stored"], &again["head"]["seq"]), (&json!(2), &json!(1), &json!(3)));
    let other = client.ingest(&format!("[{},{},{}]", event(4, "dan"), event(1, "eve"), event(5, "fay")));
    assert_eq!(other.outcome(), (409, "conflict".to_owned()));
    assert_eq!(
        (&other.json()["index"], &other.json()["stored"], &other.json()["id"]),
        (&json!(1), &json!(1), &json!("1"))
    );
    let at = |time: &str| event(1, "ann").replace(",\"time\":\"2026-11-01T12:00:00Z\"", time);
    let dated = |time: &str| client.ingest(&format!("[{}]", at(time)));
    assert_eq!(dated(",\"time\":\"2026-11-01T12:00:01Z\"").outcome(), (409, "conflict".to_owned()), "another time");
    assert_eq!(dated(",\"time\":\"2026-11-01T13:00:00.0+01:00\"").json()["stored"], 0, "the same, written otherwise");
    assert_eq!(dated("").json()["stored"], 0, "it claims no other");
    assert_eq!(server.count("SELECT CAST(sum(count) AS BIGINT) FROM incidents WHERE kind = 'conflict'"), 2);
    let database = server.database();
    let rows: Vec<Two<Vec<u8>, Vec<u8>>> =
        database.all("SELECT entry, bytes FROM records WHERE kind = 'client' ORDER BY seq");
    let mut prev = record::Hash::ZERO;
    for (n, Two(entry, bytes)) in rows.iter().enumerate() {
        let fields: serde_json::Value = serde_json::from_slice(entry).unwrap();
        assert_eq!((&fields["seq"], &fields["prev"]), (&json!(n + 1), &json!(prev.to_string())));
        let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
        assert_eq!(fields["data_sha256"], record::Hash::from(<[u8; 32]>::from(digest)).to_string());
        prev = record::Hash::of_unended(entry);
    }
    assert_eq!(other.json()["head"]["hash"], prev.to_string());
    assert_eq!(rows.len(), 4);
}

#[test]
fn bad_tokens_are_counted_by_address_and_listed_once() {
    let server = Server::start();
    for n in 0..20 {
        let token = format!("ca_auditor_{n:043}");
        // On every route that looks at tokens.
        let client = server.client().with(&token);
        let answer =
            if n % 2 == 0 { client.ingest("[]") } else { client.get(["/v1/artifacts", "/v1/tokens"][n / 2 % 2]) };
        assert_eq!(answer.status, 401);
    }
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(server.count("SELECT count(*) FROM incidents"), 1);
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'bad_token' AND subject = '127.0.0.1'"), 20);
}

/// A connection that a proxy forwards from this address, and what it answers to a request with a bad token.
fn forwarded(client: &Client, from: [u8; 4]) -> (TcpStream, Option<u16>) {
    let mut stream = client.connect();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&from);
    header.extend_from_slice(&[127, 0, 0, 1, 0x1f, 0x90, 0x21, 0]);
    let token = format!("ca_auditor_{:043}", 1);
    header.extend_from_slice(
        format!("GET /v1/hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
    );
    // It may be closed before all of it is sent.
    let _ = stream.write_all(&header);
    let answer = read_answer(&mut stream).ok().map(|answer| answer.status);
    (stream, answer)
}

#[test]
fn behind_a_proxy_each_client_counts_by_its_own_address() {
    let server = Server::start_with(|c| {
        c.proxies = vec!["127.0.0.1".parse().unwrap()];
        c.limits.connections_per_address = 2;
    });
    let client = server.client();
    let all: Vec<(TcpStream, Option<u16>)> =
        [1, 2, 1, 2, 1, 3].into_iter().map(|n| forwarded(&client, [192, 0, 2, n])).collect();
    let answered: Vec<Option<u16>> = all.iter().map(|(_, status)| *status).collect();
    assert_eq!(answered, [Some(401), Some(401), Some(401), Some(401), None, Some(401)], "the third of 192.0.2.1");
    drop(all);
    assert!(client.try_send("GET", "/livez", "", b"").is_err(), "a proxy has to say whom it forwards");
    crate::common::soon("incidents are by the clients' own addresses", || {
        server.count("SELECT count(*) FROM incidents WHERE kind = 'bad_token' AND subject LIKE '192.0.2.%'") == 3
    });
    assert_eq!(server.count("SELECT count(*) FROM incidents"), 3);
    let plain = Server::start();
    let (_stream, answer) = forwarded(&plain.client(), [192, 0, 2, 1]);
    assert_eq!(answer, Some(400), "nobody else can say that he is another");
}

#[test]
fn more_requests_at_a_time_than_one_address_may_have_are_told_to_slow_down() {
    let server = Server::start_with(|c| c.limits.requests_per_address = 2);
    let client = server.client();
    let half = b"POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 1000\r\n\r\n[{";
    let begin = || {
        let mut stream = client.connect();
        stream.write_all(half).unwrap();
        stream
    };
    let mut open: Vec<TcpStream> = vec![begin(), begin()];
    crate::common::soon("two are under way", || {
        let is_full = client.get("/livez").status == 429;
        if !is_full {
            // Asking takes a place too: one of the two may have been turned away for it.
            open.push(begin());
        }
        is_full
    });
    let answer = client.get("/livez");
    assert_eq!((answer.status, answer.code()), (429, "slow_down".to_owned()));
    assert!(answer.headers.contains("retry-after:"), "{answer:?}");
    drop(open);
    crate::common::soon("there is room again", || client.get("/livez").status == 200);
}

#[test]
fn a_server_that_cannot_write_says_that_it_is_not_ready() {
    let server = Server::start();
    let client = server.client();
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    let held = server.database();
    held.hold();
    let answer = client.get("/readyz");
    assert_eq!((answer.status, answer.code()), (503, "busy".to_owned()), "{answer:?}");
    assert_eq!(client.get("/livez").status, 200, "it runs");
    held.let_go();
    crate::common::soon("it is ready again", || client.get("/readyz").status == 200);
}

#[test]
fn whoever_fills_one_kind_of_incident_leaves_room_for_the_others() {
    let server = Server::start_with(|c| c.limits.incidents = 3);
    let mut host = server.host("i-1");
    let token = server.token(Wanted { name: Some("app".to_owned()), ..wanted(Role::Client) });
    let client = server.client().with(&token);
    let event = |id: u32, data: &str| {
        format!(
            "[{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/clients/app\",\"type\":\"app.a\",\"data\":{data}}}]"
        )
    };
    for id in 0..5 {
        assert_eq!(client.ingest(&event(id, "{}")).status, 200);
        assert_eq!(client.ingest(&event(id, "{\"other\":1}")).status, 409);
    }
    let conflicts = "SELECT count(*) FROM incidents WHERE kind = 'conflict'";
    assert_eq!(server.count(conflicts), 4, "three, and one that counts the others");
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'conflict' AND subject = '(others)'"), 2);
    let mut twin = host.clone();
    host.logins(1);
    assert_eq!(server.client().ingest(&host.all()).status, 200);
    twin.time += jiff::SignedDuration::from_secs(60);
    twin.logins(1);
    assert_eq!(server.client().ingest(&twin.all()).status, 409);
    let fork =
        format!("SELECT count(*) FROM incidents WHERE kind = 'fork' AND host = 'i-1' AND ledger = '{}'", host.ledger);
    assert_eq!(server.count(&fork), 1);
}

#[test]
fn where_a_chain_stands_is_told_to_whoever_holds_a_record_of_it_alone() {
    let server = Server::start();
    let host = server.host("i-1");
    let mut forger = Host::new("i-1", "web");
    forger.ledger = host.ledger.clone();
    forger.logins(1);
    let told = |body: &str| {
        let answer = server.client().ingest(body);
        assert_eq!(answer.outcome(), (422, "not_authentic".to_owned()), "{answer:?}");
        (answer.json()["head"].is_object(), answer.json()["receipt"].is_object())
    };
    assert_eq!(told(&forger.batch(3..=3)), (false, false), "the ledger's id alone shows nothing");
    let after_a_real_one = format!("[{},{}]", host.event(host.line(2)), forger.event(forger.line(3)));
    assert_eq!(told(&after_a_real_one), (true, true));
}

#[test]
fn a_clients_odd_time_is_flagged_and_told_of() {
    let server = Server::start();
    let token = server.token(Wanted { name: Some("app".to_owned()), ..wanted(Role::Client) });
    for (id, time) in [("1", "0000-01-01T00:00:00Z"), ("2", "9999-12-30T00:00:00Z"), ("3", "2026-01-01T00:00:00Z")] {
        let event = json!([{"specversion": "1.0", "id": id, "source": "/clients/app", "type": "app.a", "time": time,
            "data": {}}]);
        assert_eq!(server.client().with(&token).ingest(&event.to_string()).status, 200, "{time}");
    }
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'client' AND flags = 1"), 2);
    assert_eq!(server.count("SELECT count FROM incidents WHERE kind = 'clock_off' AND subject = '/clients/app'"), 2);
}

#[test]
fn a_token_lists_no_type_that_nobody_can_post() {
    let server = Server::start();
    let long = format!("app.{}", "a".repeat(61));
    for kind in ["", "app", "App.x", "app.x\u{202e}", "app..x", &long] {
        let wanted = json!({"role": "client", "name": "app", "types": ["app.a", kind]});
        assert_eq!(server.admin().post("/v1/tokens", &wanted).outcome(), (400, "malformed".to_owned()), "{kind}");
    }
    let wanted = json!({"role": "client", "name": "app", "types": ["app.a", &long[..64]]});
    assert_eq!(server.admin().post("/v1/tokens", &wanted).status, 201);
}
