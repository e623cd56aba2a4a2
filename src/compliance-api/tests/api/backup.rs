//! A backup that is taken while hosts ship is a server that verifies, and goes on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use record::{Depth, SignedReceipt, Trust, Verifier};
use ssh_key::PublicKey;
use tempfile::TempDir;

use crate::common::{
    Host, Server,
    acme::{acme_with_host, heard, hearing, ids, post, published, reader},
    company::{document, lockdown, of_acme, signed},
    soon,
};

/// The command, on this state directory.
fn command(state: &Path, args: &[&str]) -> Output {
    let config = state.parent().unwrap().join(format!("{}.toml", state.file_name().unwrap().to_str().unwrap()));
    fs::write(&config, format!("state = {state:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
    command.arg("--config").arg(config).args(args).output().unwrap()
}

fn works(state: &Path, args: &[&str]) {
    let done = command(state, args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn fails(state: &Path, args: &[&str]) -> String {
    let done = command(state, args);
    assert!(!done.status.success(), "{args:?}");
    String::from_utf8(done.stderr).unwrap()
}

/// Ships a host's records a few at a time until it is told to end. How far it got counts in `acknowledged`.
fn ship(server: &Server, host: &Host, acknowledged: &AtomicU64, end: &AtomicBool) {
    let mut next = 3;
    while !end.load(Ordering::Relaxed) && next + 19 < host.lines.len() as u64 {
        assert_eq!(server.client().ingest(&host.batch(next..next + 20)).status, 200);
        next += 20;
        acknowledged.store(next - 1, Ordering::Relaxed);
    }
}

/// Every chain of a database as its own verifier sees it: each host's lines, and the server's.
fn verifies(state: &Path, hosts: &[Host]) -> Vec<u64> {
    let database = rusqlite::Connection::open(state.join(compliance_api::store::FILE)).unwrap();
    let lines = |sql: &str, ledger: &str| -> Vec<Vec<u8>> {
        let mut rows = database.prepare(sql).unwrap();
        rows.query_map([ledger], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let check = |lines: &[Vec<u8>], key: PublicKey| {
        let mut verifier = Verifier::new(Depth::Full, Trust::Key(Box::new(key)));
        for line in lines {
            verifier.line(&[line, &b"\n"[..]].concat());
        }
        let verdict = verifier.finish();
        assert!(verdict.is_clean(), "{:?}", verdict.findings);
    };
    let own: Vec<Vec<u8>> = lines("SELECT bytes FROM records WHERE kind = 'server' AND ?1 = '' ORDER BY seq", "");
    let key: String =
        database.query_row("SELECT public_key FROM server_keys ORDER BY id LIMIT 1", [], |r| r.get(0)).unwrap();
    check(&own, PublicKey::from_openssh(&key).unwrap());
    let of_host = |host: &Host| {
        let stored = lines("SELECT bytes FROM records WHERE ledger = ?1 ORDER BY seq", host.ledger.as_str());
        assert!(stored.iter().zip(&host.lines).all(|(stored, line)| stored == line.as_str().trim_end().as_bytes()));
        check(&stored, host.key.public_key().clone());
        stored.len() as u64
    };
    hosts.iter().map(of_host).collect()
}

#[test]
fn a_backup_under_load_restores_to_a_server_that_verifies_and_goes_on() {
    let server = Server::start();
    let hosts: Vec<Host> = (0..3)
        .map(|n| {
            let mut host = server.host(&format!("i-{n}"));
            host.logins(4000);
            host
        })
        .collect();
    let acknowledged: Vec<AtomicU64> = hosts.iter().map(|_| AtomicU64::new(2)).collect();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("backup");
    let end = AtomicBool::new(false);
    let (before, after) = thread::scope(|scope| {
        for (host, acknowledged) in hosts.iter().zip(&acknowledged) {
            let (server, end) = (&server, &end);
            scope.spawn(move || ship(server, host, acknowledged, end));
        }
        // So much that it is copied in several steps.
        soon("they ship", || acknowledged.iter().all(|count| count.load(Ordering::Relaxed) > 1000));
        let now = || acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = now();
        works(server.state.path(), &["backup", to.to_str().unwrap()]);
        let after = now();
        thread::sleep(Duration::from_millis(300));
        end.store(true, Ordering::Relaxed);
        (before, after)
    });
    assert!(
        before.iter().zip(&after).all(|(before, after)| before < after),
        "they shipped meanwhile: {before:?} {after:?}"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&to), mode(&to.join("compliance-api.sqlite")), mode(&to.join("server_key"))),
        (0o700, 0o600, 0o600)
    );
    let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["compliance-api.sqlite", "server_key", "server_key.pub"]);
    // The server is lost, and with it what came after.
    drop(server);
    let state = TempDir::new_in(place.path()).unwrap();
    works(state.path(), &["restore", to.to_str().unwrap()]);
    let held = verifies(state.path(), &hosts);
    assert!(held.iter().zip(&before).all(|(held, before)| held >= before), "{held:?} {before:?}");
    let server = Server::start_in(state, compliance_api::config::Config::default());
    let key = server.client().get("/v1/server").json()["public_key"].as_str().unwrap().to_owned();
    let key = PublicKey::from_openssh(&key).unwrap();
    for (host, held) in hosts.iter().zip(&held) {
        let gap = server.client().ingest(&host.batch(held + 2..held + 3));
        assert_eq!(gap.outcome(), (409, "gap".to_owned()), "{gap:?}");
        assert_eq!(gap.json()["head"]["seq"], *held, "where to go on");
        let mut next = held + 1;
        while next <= host.lines.len() as u64 {
            let last = (next + 499).min(host.lines.len() as u64);
            let answer = server.client().ingest(&host.batch(next..=last));
            assert_eq!(answer.status, 200, "{answer:?}");
            let receipt = SignedReceipt::parse(answer.json()["receipt"].to_string().as_bytes()).unwrap();
            assert!(receipt.is_signed_by(&key));
            next = last + 1;
        }
    }
    assert_eq!(verifies(server.state.path(), &hosts), [4002; 3]);
    let said =
        |kind: &str| server.count(&format!("SELECT count(*) FROM records WHERE kind = 'server' AND type = '{kind}'"));
    assert_eq!((said("backup.made"), said("server.restored")), (1, 1));
}

#[test]
fn documents_and_tokens_of_a_backup_are_in_force_again_and_hosts_begin_their_feed_anew() {
    let (server, ..) = acme_with_host();
    let (auditor, closing) = (reader(&server), signed(&document(lockdown("web", true)), &["alice approves"]));
    let kept = published(&server, &closing)["id"].as_str().unwrap().to_owned();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("backup");
    works(server.state.path(), &["backup", to.to_str().unwrap()]);
    let (_, token) = hearing(&server, "i-2", "web");
    let lost = signed(&document(lockdown("*", true)), &["alice approves"]);
    published(&server, &lost);
    let next = heard(&auditor, "stack=web")["next"].as_u64().unwrap();
    drop(server);
    let state = TempDir::new_in(place.path()).unwrap();
    works(state.path(), &["restore", to.to_str().unwrap()]);
    let mut config = compliance_api::config::Config::default();
    of_acme(&mut config);
    let server = Server::start_in(state, config);
    let auditor = server.client().with(auditor.token.as_deref().unwrap());
    assert!(ids(&heard(&auditor, "stack=web")).contains(&kept), "a token and a lockdown from before");
    assert_eq!(auditor.get(&format!("/v1/feed?stack=web&after={next}")).outcome(), (409, "feed_shorter".to_owned()));
    assert_eq!(server.client().with(&token).get("/v1/feed?stack=web").status, 401, "it has to send its records again");
    assert_eq!(post(&server, &lost).json()["state"], "published", "whoever has it posts it again");
}

#[test]
fn nothing_is_overwritten_and_what_is_no_whole_backup_is_refused() {
    let mut server = Server::start();
    server.host("i-1");
    server.end();
    let (state, place) = (server.state.path(), tempfile::tempdir().unwrap());
    let at = |name: &str| place.path().join(name);
    let (to, other) = (at("backup"), at("other"));
    works(state, &["backup", to.to_str().unwrap()]);
    assert!(fails(state, &["backup", to.to_str().unwrap()]).contains("nothing is overwritten"));
    assert!(fails(state, &["restore", to.to_str().unwrap()]).contains("nothing is overwritten"));
    assert!(fails(&at("nothing"), &["backup", other.to_str().unwrap()]).contains("no database"));
    assert!(!at("nothing").exists() && !other.exists());
    let refused = |what: &str, spoil: &dyn Fn(&Path)| {
        let spoilt = at("spoilt");
        fs::create_dir(&spoilt).unwrap();
        for name in ["compliance-api.sqlite", "server_key"] {
            fs::copy(to.join(name), spoilt.join(name)).unwrap();
        }
        spoil(&spoilt);
        let said = fails(&at("new"), &["restore", spoilt.to_str().unwrap()]);
        assert!(said.contains(what), "{what}: {said}");
        assert!(!at("new").join("compliance-api.sqlite").exists() && !at("new").join("server_key").exists(), "{what}");
        fs::remove_dir_all(spoilt).unwrap();
    };
    let database = |spoilt: &Path| spoilt.join("compliance-api.sqlite");
    refused("no whole backup", &|spoilt| {
        fs::rename(database(spoilt), spoilt.join("compliance-api.sqlite.partial")).unwrap();
    });
    refused("server_key is missing", &|spoilt| fs::remove_file(spoilt.join("server_key")).unwrap());
    refused("are signed with", &|spoilt| {
        fs::remove_file(spoilt.join("server_key")).unwrap();
        compliance_api::identity::load_or_make(spoilt).unwrap();
    });
    refused("not whole", &|spoilt| {
        // The first page of what it has of artifacts.
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'artifacts'";
        let page: usize =
            rusqlite::Connection::open(database(spoilt)).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
        let mut bytes = fs::read(database(spoilt)).unwrap();
        bytes[(page - 1) * 8192..page * 8192].fill(0x5a);
        fs::write(database(spoilt), bytes).unwrap();
    });
    refused("compliance-api:", &|spoilt| {
        let bytes = fs::read(database(spoilt)).unwrap();
        fs::write(database(spoilt), &bytes[..bytes.len() / 2]).unwrap();
    });
    let left = at("new/compliance-api.sqlite-wal");
    fs::write(&left, "of another database").unwrap();
    assert!(fails(&at("new"), &["restore", to.to_str().unwrap()]).contains("sqlite-wal already"));
    fs::remove_file(left).unwrap();
    works(&at("new"), &["restore", to.to_str().unwrap()]);
}
