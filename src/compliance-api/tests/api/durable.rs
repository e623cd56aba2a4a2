//! What was acknowledged is there, whatever happened to the server; once, in order, byte by byte.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use document::{Envelope, Id, chain};
use record::Hash;

use crate::common::{
    Client, Host, Server,
    company::{document, lockdown, public, signed, w},
    database::{Database, Two, on_postgres, store_toml},
};

/// The real program on this state directory, and where it listens.
fn serve(state: &Path) -> (Child, SocketAddr) {
    let mut child = command(state).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        line.split("address=").nth(1).map(|a| a.trim().parse().unwrap())
    });
    thread::spawn(move || lines.for_each(drop));
    (child, address.expect("it says where it listens"))
}

fn command(state: &Path) -> Command {
    let config = state.join("config.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate = {:?}\n[stack]\norganization = \"acme\"\n[[stack.roster.key]]\nperson = \"ceo\"\n\
         key = \"{}\"\n{}",
        state.to_str().unwrap(),
        public("ceo").as_str(),
        store_toml(state)
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
    command.arg("--config").arg(config).env_remove("JOURNAL_STREAM");
    command
}

fn enrol_token(state: &Path) -> String {
    let out = command(state).args(["token", "create", "--role", "enrol", "--stack", "web"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Sends what is not acknowledged, a few at a time, until it is or the server is gone. How far it got.
fn ship(client: &Client, host: &Host, mut acknowledged: u64) -> u64 {
    let last = host.lines.len() as u64;
    while acknowledged < last {
        // From a little further back each time: what is there already does no harm.
        let from = acknowledged.saturating_sub(1).max(1);
        let batch = host.batch(from..=(acknowledged + 3).min(last));
        let sent = client.try_send("POST", "/v1/artifacts", "application/cloudevents-batch+json", batch.as_bytes());
        match sent {
            Ok(answer) if answer.status == 200 => acknowledged = answer.json()["receipt"]["seq"].as_u64().unwrap(),
            Ok(answer) if answer.status == 503 => {}
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => return acknowledged,
        }
    }
    acknowledged
}

/// The stored records of a host: exactly its ledger's beginning, so long.
fn stored(database: &Database, host: &Host) -> u64 {
    let sql = format!("SELECT seq, bytes FROM records WHERE host = '{}' ORDER BY seq", host.name);
    let rows: Vec<Two<u64, Vec<u8>>> = database.all(&sql);
    let mut count = 0;
    for Two(seq, bytes) in rows {
        count += 1;
        assert_eq!(seq, count, "none is missing, none twice");
        assert_eq!(bytes, host.line(seq).as_str().trim_end().as_bytes());
    }
    count
}

#[test]
fn a_server_killed_at_any_moment_has_all_that_it_acknowledged_once() {
    let state = tempfile::tempdir().unwrap();
    let token = enrol_token(state.path());
    let mut hosts: Vec<Host> = (0..4).map(|n| Host::new(&format!("i-{n}"), "web")).collect();
    thread::scope(|scope| hosts.iter_mut().for_each(|host| drop(scope.spawn(|| host.logins(400)))));
    let mut acknowledged = [0; 4];
    for round in 0..6 {
        let (mut child, address) = serve(state.path());
        let client = Client { address, token: None }.with(&token);
        thread::scope(|scope| {
            for (host, acknowledged) in hosts.iter().zip(&mut acknowledged) {
                scope.spawn(|| *acknowledged = ship(&client, host, *acknowledged));
            }
            thread::sleep(Duration::from_millis(150 + 70 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let database = Database::of(state.path());
        for (host, acknowledged) in hosts.iter().zip(acknowledged) {
            assert!(stored(&database, host) >= acknowledged, "round {round}: {}", host.name);
        }
    }
    let (mut child, address) = serve(state.path());
    let client = Client { address, token: None }.with(&token);
    for (host, acknowledged) in hosts.iter().zip(acknowledged) {
        assert_eq!(ship(&client, host, acknowledged), host.lines.len() as u64);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(child.wait().unwrap().success(), "it stops in good order");
    let database = Database::of(state.path());
    for host in &hosts {
        assert_eq!(stored(&database, host), host.lines.len() as u64);
    }
    if on_postgres().is_none() {
        assert_eq!(database.one::<String>("PRAGMA integrity_check"), "ok");
    }
}

/// The feed of a stack: its places without a gap, its head, and what its judge knows, all of one moment.
fn feed(database: &Database, stack: &str) -> Vec<Id> {
    let sql = format!("SELECT position, document FROM feed WHERE stack = '{stack}' ORDER BY position");
    let rows: Vec<Two<u64, [u8; 32]>> = database.all(&sql);
    assert!(rows.iter().map(|Two(position, _)| *position).eq(1..=rows.len() as u64), "no gap");
    let ids: Vec<Id> = rows.iter().map(|Two(_, id)| Hash::from(*id).to_string().parse().unwrap()).collect();
    let head = ids.iter().fold(Hash::ZERO, |head, id| chain(head, *id));
    let sql = format!("SELECT count, head, state FROM feeds WHERE stack = '{stack}'");
    let kept: Vec<Two<u64, Two<[u8; 32], String>>> = database.all(&sql);
    let [Two(count, Two(kept_head, state))] = &kept[..] else {
        assert!(ids.is_empty());
        return ids;
    };
    assert_eq!((*count, Hash::from(*kept_head)), (ids.len() as u64, head));
    let state: serde_json::Value = serde_json::from_str(state).unwrap();
    let mut known: Vec<String> = state["lockdowns"].as_object().unwrap().keys().cloned().collect();
    let mut wanted: Vec<String> = ids.iter().map(ToString::to_string).collect();
    known.sort();
    wanted.sort();
    assert_eq!(known, wanted);
    ids
}

#[test]
fn a_server_killed_at_any_moment_has_each_document_that_it_acknowledged_in_the_feed_and_in_its_judge_once() {
    let state = tempfile::tempdir().unwrap();
    let made = |poster: usize, n: usize| {
        let closes = document::Lockdown { reason: w(&format!("{poster} {n}")), ..lockdown("web", false) };
        signed(&document(closes), &["ceo"])
    };
    let all: Vec<Vec<Envelope>> = (0..3).map(|poster| (0..40).map(|n| made(poster, n)).collect()).collect();
    let post = |client: &Client, envelope: &Envelope| {
        client.try_send("POST", "/v1/documents", "application/json", envelope.to_json().as_bytes())
    };
    let mut acknowledged = [0; 3];
    for round in 0..5 {
        let (mut child, address) = serve(state.path());
        let client = Client { address, token: None };
        thread::scope(|scope| {
            for (mine, acknowledged) in all.iter().zip(&mut acknowledged) {
                let client = &client;
                scope.spawn(move || {
                    // The one before once more: what is known already does no harm.
                    for envelope in &mine[usize::saturating_sub(*acknowledged, 1)..] {
                        match post(client, envelope) {
                            Ok(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
                            Err(_) => return,
                        }
                        let at = mine.iter().position(|one| one == envelope).unwrap() + 1;
                        *acknowledged = at.max(*acknowledged);
                    }
                });
            }
            thread::sleep(Duration::from_millis(60 + 50 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let ids = feed(&Database::of(state.path()), "web");
        for (mine, acknowledged) in all.iter().zip(acknowledged) {
            let missing = mine[..acknowledged].iter().find(|envelope| !ids.contains(&envelope.document().id()));
            assert!(missing.is_none(), "round {round}: {missing:?}");
        }
    }
    let (mut child, address) = serve(state.path());
    for envelope in all.iter().flatten() {
        assert_eq!(post(&Client { address, token: None }, envelope).unwrap().status, 200);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(feed(&Database::of(state.path()), "web").len(), 120);
}

#[test]
fn ten_hosts_at_once_are_stored_whole_and_a_restart_goes_on_where_it_was() {
    let server = Server::start();
    let token = server.enrol_token("web");
    let mut hosts: Vec<Host> = (0..10).map(|n| Host::new(&format!("i-{n}"), "web")).collect();
    thread::scope(|scope| hosts.iter_mut().for_each(|host| drop(scope.spawn(|| host.logins(60)))));
    let client = server.client().with(&token);
    thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| assert_eq!(ship(&client, host, 0), 62));
        }
    });
    let server = server.restart();
    let client = server.client();
    hosts.iter_mut().for_each(|host| host.logins(5));
    thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| assert_eq!(ship(&client, host, 62), 67));
        }
    });
    let database = server.database();
    hosts.iter().for_each(|host| assert_eq!(stored(&database, host), 67));
    assert_eq!(server.count("SELECT count(*) FROM incidents"), 0);
}

#[test]
fn the_same_batch_from_many_at_once_is_stored_once() {
    let server = Server::start_with(|config| config.limits.batches_per_source = 8);
    let mut host = server.host("i-1");
    host.logins(50);
    let batch = host.all();
    let client = server.client();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(client.ingest(&batch).status, 200));
        }
    });
    assert_eq!(stored(&server.database(), &host), 52);
}

#[test]
fn a_second_program_on_the_same_database_makes_tokens_while_it_serves() {
    let state = tempfile::tempdir().unwrap();
    let (mut child, address) = serve(state.path());
    let out = command(state.path()).args(["token", "create", "--role", "admin", "--expires", "1h"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let token = String::from_utf8(out.stdout).unwrap();
    let admin = Client { address, token: Some(token.trim().to_owned()) };
    let listed = admin.get("/v1/tokens").json();
    let id = listed["tokens"][0]["id"].as_str().unwrap().to_owned();
    // Looking at the list is no use that counts; what it makes is.
    assert!(listed["tokens"][0]["used"].is_null(), "{listed}");
    assert_eq!(admin.post("/v1/tokens", &serde_json::json!({ "role": "auditor", "name": "ann" })).status, 201);
    let listed = admin.get("/v1/tokens").json();
    let ours = listed["tokens"].as_array().unwrap().iter().find(|token| token["id"] == id.as_str()).unwrap();
    assert!(ours["used"].as_str().is_some_and(|used| used.contains(":00:00")), "{listed}");
    let list = command(state.path()).args(["token", "list"]).output().unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains(&id));
    assert!(command(state.path()).args(["token", "revoke", &id]).status().unwrap().success());
    assert!(!command(state.path()).args(["token", "revoke", &id]).status().unwrap().success());
    let begin = Instant::now();
    assert_eq!(admin.get("/v1/tokens").status, 401);
    assert!(begin.elapsed() < Duration::from_secs(5));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn systemds_watchdog_is_told_for_as_long_as_the_thread_that_writes_answers() {
    let state = tempfile::tempdir().unwrap();
    let systemd = UnixDatagram::bind(state.path().join("notify")).unwrap();
    let mut server = command(state.path());
    server.arg("serve").stderr(Stdio::null()).env("WATCHDOG_USEC", "400000");
    let mut child = server.env("NOTIFY_SOCKET", state.path().join("notify")).spawn().unwrap();
    let told_within = |time: Duration| {
        let begin = Instant::now();
        let mut text = [0; 256];
        while let Some(left) = time.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            systemd.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = systemd.recv(&mut text) else { return false };
            if String::from_utf8_lossy(&text[..length]).contains("WATCHDOG=1") {
                return true;
            }
        }
        false
    };
    for _ in 0..3 {
        assert!(told_within(Duration::from_secs(30)), "idle, and not told");
    }
    let database = Database::of(state.path());
    database.hold();
    // What was on its way.
    told_within(Duration::from_millis(600));
    assert!(!told_within(Duration::from_secs(3)), "told, and the thread that writes hangs");
    database.let_go();
    assert!(told_within(Duration::from_secs(30)), "not told, and it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}
