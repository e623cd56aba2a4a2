//! Several servers on one database of PostgreSQL. Without one (tests/with-postgresql) there is nothing to test.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use compliance_api::{config::Config, store::Store};
use record::{ArtifactType, Depth, Draft, SignedReceipt, Trust, Verifier};
use ssh_key::{Algorithm, PrivateKey, PublicKey, rand_core::OsRng};
use tempfile::TempDir;

use crate::common::{
    Client, Host, Server,
    acme::{acme_with_host, heard, ids, post},
    company::{document, lockdown, signed},
    database::{Database, Two, on_postgres},
    soon,
};

/// Whether there is a server of PostgreSQL; these tests are passed by without.
fn is_there() -> bool {
    on_postgres().is_some()
}

/// One more server on this one's database, with its key.
fn beside(server: &Server) -> Server {
    let state = tempfile::tempdir().unwrap();
    fs::copy(server.state.path().join("server_key"), state.path().join("server_key")).unwrap();
    Server::start_beside(state, server.config.clone())
}

/// The server's own ledger holds from its first record to its last, by the one key, without a gap.
pub fn own_ledger_holds(database: &Database) -> usize {
    let chains: u64 = database.one("SELECT count(*) FROM ledgers WHERE kind = 'server'");
    assert_eq!(chains, 1, "one own ledger");
    let rows: Vec<Two<u64, Vec<u8>>> =
        database.all("SELECT seq, bytes FROM records WHERE kind = 'server' ORDER BY seq");
    assert!(rows.iter().map(|Two(seq, _)| *seq).eq(1..=rows.len() as u64), "no gap");
    let key: String = database.one("SELECT public_key FROM server_keys ORDER BY id LIMIT 1");
    let mut verifier = Verifier::new(Depth::Full, Trust::Key(Box::new(PublicKey::from_openssh(&key).unwrap())));
    for Two(_, bytes) in &rows {
        verifier.line(&[bytes, &b"\n"[..]].concat());
    }
    let verdict = verifier.finish();
    assert!(verdict.is_clean(), "{:?}", verdict.findings);
    rows.len()
}

/// How many records of a host are stored: exactly its ledger's beginning.
fn stored(database: &Database, host: &Host) -> u64 {
    let sql = format!("SELECT seq, bytes FROM records WHERE ledger = '{}' ORDER BY seq", host.ledger);
    let rows: Vec<Two<u64, Vec<u8>>> = database.all(&sql);
    for (Two(seq, bytes), wanted) in rows.iter().zip(1..) {
        assert_eq!(*seq, wanted, "none is missing, none twice");
        assert_eq!(bytes, host.line(*seq).as_str().trim_end().as_bytes());
    }
    rows.len() as u64
}

#[test]
fn the_same_batch_to_several_servers_at_once_is_stored_once_and_receipted_alike() {
    if !is_there() {
        return;
    }
    let server = Server::start_with(|config| config.limits.batches_per_source = 8);
    let others = [beside(&server), beside(&server)];
    let mut host = server.host("i-1");
    host.logins(50);
    let batch = host.all();
    let clients = [server.client(), others[0].client(), others[1].client()];
    thread::scope(|scope| {
        for n in 0..9 {
            let (batch, client) = (&batch, &clients[n % 3]);
            scope.spawn(move || {
                let answer = client.ingest(batch);
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["receipt"]["seq"], 52);
            });
        }
    });
    assert_eq!(stored(&server.database(), &host), 52);
    let receipts = |client: &Client| {
        let receipt = client.ingest(&host.batch(52..=52)).json()["receipt"].to_string();
        SignedReceipt::parse(receipt.as_bytes()).unwrap();
        receipt
    };
    assert_eq!(receipts(&clients[0]), receipts(&clients[1]), "one key, one receipt");
    own_ledger_holds(&server.database());
}

#[test]
fn of_two_ledgers_of_a_new_host_that_come_to_two_servers_at_once_one_waits_for_approval() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let other = beside(&server);
    let token = server.enrol_token("web");
    for n in 0..8 {
        let name = format!("i-{n}");
        let (one, two) = (Host::new(&name, "web"), Host::new(&name, "web"));
        let enrolled = thread::scope(|scope| {
            let asked = [(&server, &one), (&other, &two)].map(|(server, host)| {
                let client = server.client().with(&token);
                scope.spawn(move || client.ingest(&host.all()).json()["enrolment"].as_str().unwrap().to_owned())
            });
            asked.map(|asked| asked.join().unwrap())
        });
        let pending = enrolled.iter().filter(|enrolment| *enrolment == "pending").count();
        assert_eq!(pending, 1, "{enrolled:?}");
    }
    own_ledger_holds(&server.database());
}

#[test]
fn a_client_that_posts_first_to_two_servers_at_once_has_one_chain() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let other = beside(&server);
    for n in 0..6 {
        let name = format!("app{n}");
        let token = server.token(compliance_api::admin::Wanted {
            name: Some(name.clone()),
            ..crate::common::server::wanted(compliance_api::token::Role::Client)
        });
        thread::scope(|scope| {
            for m in 0..8 {
                let client = [&server, &other][m % 2].client().with(&token);
                let event = format!(
                    "[{{\"specversion\":\"1.0\",\"id\":\"{m}\",\"source\":\"/clients/{name}\",\"type\":\"app.a\",\"data\":{{}}}}]"
                );
                scope.spawn(move || soon("it is stored", || client.ingest(&event).status == 200));
            }
        });
    }
    assert_eq!(server.count("SELECT count(*) FROM ledgers WHERE kind = 'client'"), 6);
    assert_eq!(server.count("SELECT count(*) FROM records WHERE kind = 'client'"), 48);
    assert_eq!(server.count("SELECT max(head_seq) FROM ledgers WHERE kind = 'client'"), 8);
}

#[test]
fn a_key_that_is_rotated_on_one_server_signs_nothing_old_on_another() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let other = beside(&server);
    for n in 0..6 {
        let mut host = server.host(&format!("i-{n}"));
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
        let public_key = PublicKey::from(key.public_key().key_data().clone()).to_openssh().unwrap();
        host.state(&Draft::new(ArtifactType::KeyRotated, "the key was rotated").with("public_key", public_key));
        let mut by_old = host.clone();
        by_old.logins(1);
        let (rotated, old) = thread::scope(|scope| {
            let rotated = scope.spawn(|| server.client().ingest(&host.batch(3..=3)).status);
            let old = scope.spawn(|| other.client().ingest(&by_old.batch(4..=4)).outcome());
            (rotated.join().unwrap(), old.join().unwrap())
        });
        assert_eq!(rotated, 200);
        // Before the rotation it follows nothing; after it, it is by a key that signs no longer.
        assert!([(409, "gap".to_owned()), (422, "not_authentic".to_owned())].contains(&old), "{old:?}");
        assert_eq!(stored(&server.database(), &host), 3);
    }
}

#[test]
fn a_lockdown_that_one_server_took_is_heard_from_another_within_seconds() {
    if !is_there() {
        return;
    }
    let (server, _, token) = acme_with_host();
    let other = beside(&server);
    let begun = heard(&other.client().with(&token), "stack=web");
    let next = begun["next"].as_u64().unwrap();
    let closing = signed(&document(lockdown("web", true)), &["alice approves"]);
    let heard_there = thread::scope(|scope| {
        let waiting = scope.spawn(|| heard(&other.client().with(&token), &format!("stack=web&after={next}&wait=20")));
        thread::sleep(Duration::from_millis(500));
        assert_eq!(post(&server, &closing).status, 200);
        waiting.join().unwrap()
    });
    assert_eq!(ids(&heard_there), [closing.document().id().to_string()]);
}

#[test]
fn sixteen_writers_on_two_servers_leave_one_own_ledger_without_a_gap() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let other = beside(&server);
    let auditor = server.token(crate::common::server::wanted(compliance_api::token::Role::Auditor));
    let before = own_ledger_holds(&server.database());
    thread::scope(|scope| {
        for n in 0..16 {
            let client = [&server, &other][n % 2].client().with(&auditor);
            scope.spawn(move || (0..10).for_each(|_| soon("it is read", || client.get("/v1/hosts").status == 200)));
        }
    });
    assert!(own_ledger_holds(&server.database()) >= before + 160);
}

#[test]
fn a_server_with_another_key_does_not_start_on_the_database() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    for with_key in [false, true] {
        let state = tempfile::tempdir().unwrap();
        if with_key {
            compliance_api::identity::load_or_make(state.path()).unwrap();
        }
        let config = Config { state: state.path().to_owned(), ..server.config.clone() };
        let refused = compliance_api::describe::describe(&Store::open(&config).unwrap_err());
        let wanted = if with_key { "are signed with" } else { "is missing" };
        assert!(refused.contains(wanted), "{refused}");
    }
}

#[test]
fn the_key_is_backed_up_beside_postgresql_and_restored_to_no_other_database() {
    if !is_there() {
        return;
    }
    let (server, stranger) = (Server::start(), Server::start());
    let place = tempfile::tempdir().unwrap();
    let run = |config: &Config, state: &Path, args: &[&str]| {
        let file = place.path().join("config.toml");
        let url = &config.store.as_ref().unwrap().url;
        fs::write(&file, format!("state = {state:?}\n[store]\nurl = {url:?}\n")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_compliance-api")).arg("--config").arg(&file).args(args).output().unwrap()
    };
    let to = place.path().join("backup");
    let done = run(&server.config, server.state.path(), &["backup", to.to_str().unwrap()]);
    assert!(done.status.success() && String::from_utf8_lossy(&done.stderr).contains("pg_dump"), "{done:?}");
    let new = place.path().join("new");
    let refused = run(&stranger.config, &new, &["restore", to.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("are signed with"), "{refused:?}");
    assert!(!new.join("server_key").exists());
    let done = run(&server.config, &new, &["restore", to.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let key = |state: &Path| fs::read(state.join("server_key.pub")).unwrap();
    assert_eq!(key(&new), key(server.state.path()));
}

/// Sends a host's records a few at a time to any of these until it is told to end, and sends again what was not acknowledged. How
/// far it got counts in `acknowledged`.
fn ship(clients: &[Client], host: &Host, acknowledged: &AtomicU64, end: &AtomicBool) {
    let last = host.lines.len() as u64;
    let mut turn = 0;
    while !end.load(Ordering::Relaxed) {
        let known = acknowledged.load(Ordering::Relaxed);
        if known >= last {
            return;
        }
        turn += 1;
        let batch = host.batch(known.max(1)..=(known + 4).min(last));
        let sent = clients[turn % clients.len()].try_send(
            "POST",
            "/v1/artifacts",
            "application/cloudevents-batch+json",
            batch.as_bytes(),
        );
        match sent {
            Ok(answer) if answer.status == 200 => {
                acknowledged.store(answer.json()["receipt"]["seq"].as_u64().unwrap(), Ordering::Relaxed);
            }
            Ok(answer) if [429, 503].contains(&answer.status) => thread::sleep(Duration::from_millis(20)),
            // Where commits are held up, a request takes longer than it may.
            Ok(answer) => assert_eq!(answer.status, 408, "{answer:?}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Stops PostgreSQL as a machine that fails does, and starts it again.
fn fail_postgres() {
    let bin = std::env::var("TEST_STORE_BIN").unwrap();
    let data = std::env::var("TEST_STORE_DATA").unwrap();
    let log = format!("{data}/../log");
    let mut command = Command::new(format!("{bin}/pg_ctl"));
    if nix::unistd::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
        command.arg(format!("{bin}/pg_ctl"));
    }
    command.args(["--pgdata", &data, "--log", &log, "--mode", "immediate", "--wait", "--silent", "restart"]);
    command.current_dir("/");
    assert!(command.status().unwrap().success());
}

#[test]
fn all_that_was_receipted_is_there_once_though_servers_and_postgresql_are_killed_under_load() {
    // By itself, as tests/run has it: other tests use the same PostgreSQL.
    let Some(kills) = std::env::var("KILLS").ok().filter(|_| is_there()) else { return };
    let kills: u64 = kills.parse().unwrap();
    let server = Server::start();
    let mut hosts: Vec<Host> = (0..4).map(|n| server.host(&format!("i-{n}"))).collect();
    thread::scope(|scope| hosts.iter_mut().for_each(|host| drop(scope.spawn(|| host.logins(3000)))));
    let acknowledged: Vec<AtomicU64> = hosts.iter().map(|_| AtomicU64::new(2)).collect();
    let program = |state: &TempDir| {
        fs::copy(server.state.path().join("server_key"), state.path().join("server_key")).unwrap();
        crate::common::server::program(state.path(), server.config.store.as_ref())
    };
    for kill in 0..kills {
        let state = tempfile::tempdir().unwrap();
        let (mut child, address) = program(&state);
        let clients = [server.client(), Client { address, token: None }];
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            for (host, acknowledged) in hosts.iter().zip(&acknowledged) {
                let (clients, end) = (&clients, &end);
                scope.spawn(move || ship(clients, host, acknowledged, end));
            }
            thread::sleep(Duration::from_millis(300 + 37 * (kill % 11)));
            if kill % 2 == 0 {
                child.kill().unwrap();
            } else {
                fail_postgres();
            }
            thread::sleep(Duration::from_millis(300));
            end.store(true, Ordering::Relaxed);
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let database = server.database();
        for (host, acknowledged) in hosts.iter().zip(&acknowledged) {
            let acknowledged = acknowledged.load(Ordering::Relaxed);
            assert!(stored(&database, host) >= acknowledged, "kill {kill}: {}", host.name);
        }
        own_ledger_holds(&database);
    }
    let got: u64 = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    assert!(got > 4 * 2, "they shipped");
    eprintln!("{kills} kills, {got} records receipted");
    // It goes on by itself.
    let (client, of) = (server.client(), &mut hosts[0]);
    let next = acknowledged[0].load(Ordering::Relaxed) + 1;
    soon("it takes records again", || client.ingest(&of.batch(next..=next)).status == 200);
}

#[test]
fn while_one_server_after_the_other_is_replaced_no_request_fails_that_a_retry_does_not_carry() {
    if !is_there() {
        return;
    }
    // The first makes the database and the key, and takes nothing.
    let server = Server::start();
    let mut hosts: Vec<Host> = (0..4).map(|n| server.host(&format!("i-{n}"))).collect();
    thread::scope(|scope| hosts.iter_mut().for_each(|host| drop(scope.spawn(|| host.logins(2000)))));
    let acknowledged: Vec<AtomicU64> = hosts.iter().map(|_| AtomicU64::new(2)).collect();
    let auditor = server.token(crate::common::server::wanted(compliance_api::token::Role::Auditor));
    let begin = || {
        let state = tempfile::tempdir().unwrap();
        fs::copy(server.state.path().join("server_key"), state.path().join("server_key")).unwrap();
        let (child, address) = crate::common::server::program(state.path(), server.config.store.as_ref());
        (child, Client { address, token: None }, state)
    };
    let mut running = vec![begin(), begin()];
    for _ in 0..2 {
        // Whoever asks still knows the old one's address once it is gone, as behind a balancer that has not noticed.
        let clients = [running[0].1.clone(), running[1].1.clone()];
        let before: u64 = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            for (host, acknowledged) in hosts.iter().zip(&acknowledged) {
                let (clients, end) = (&clients, &end);
                scope.spawn(move || ship(clients, host, acknowledged, end));
            }
            scope.spawn(|| {
                let readers = [clients[0].with(&auditor), clients[1].with(&auditor)];
                while !end.load(Ordering::Relaxed) {
                    let is_read =
                        |reader: &Client| reader.try_send("GET", "/v1/hosts", "", b"").is_ok_and(|a| a.status == 200);
                    assert!(readers.iter().any(is_read), "one of two servers answers");
                }
            });
            running.push(begin());
            thread::sleep(Duration::from_millis(300));
            let (mut old, ..) = running.remove(0);
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(old.id() as i32), nix::sys::signal::SIGTERM).unwrap();
            assert!(old.wait().unwrap().success(), "it stops in good order");
            thread::sleep(Duration::from_millis(300));
            end.store(true, Ordering::Relaxed);
        });
        let after: u64 = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert!(after > before, "they shipped meanwhile");
    }
    for (mut child, ..) in running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for (host, acknowledged) in hosts.iter().zip(&acknowledged) {
        assert!(stored(&server.database(), host) >= acknowledged.load(Ordering::Relaxed), "{}", host.name);
    }
    own_ledger_holds(&server.database());
}
