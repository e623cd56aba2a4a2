//! All that is stored moves from one engine to the other and back, and the server goes on. Without a server of PostgreSQL
//! (tests/with-postgresql) there is nothing to test.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use compliance_api::config::Config;
use tempfile::TempDir;

use crate::replicas::own_ledger_holds;

use crate::common::{
    Server,
    acme::{heard, ids, post, published},
    company::{document, lockdown, of_acme, roster, signed},
    database::{Database, on_postgres, store_of},
    server::wanted,
};

fn migrate(place: &Path, config: &Config, to: &str) -> Child {
    let file = place.join("config.toml");
    let store = config.store.as_ref().map_or_else(String::new, |store| format!("[store]\nurl = {:?}\n", store.url));
    fs::write(&file, format!("state = {:?}\n{store}", config.state)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
    command.arg("--config").arg(&file).args(["migrate", "--to", to]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn moved(place: &Path, config: &Config, to: &str) -> Output {
    migrate(place, config, to).wait_with_output().unwrap()
}

#[test]
fn all_that_is_stored_moves_to_postgresql_and_back_is_compared_and_gone_on_with() {
    if on_postgres().is_none() {
        return;
    }
    let mut config = Config::default();
    of_acme(&mut config);
    let mut server = Server::start_beside(tempfile::tempdir().unwrap(), config);
    published(&server, &signed(&document(roster(1)), &["ceo"]));
    let closing = signed(&document(lockdown("web", true)), &["alice approves"]);
    published(&server, &closing);
    let mut host = server.host("i-1");
    host.logins(6000);
    for first in (3..6000).step_by(400) {
        assert_eq!(server.client().ingest(&host.batch(first..first + 400)).status, 200);
    }
    let auditor = server.token(wanted(compliance_api::token::Role::Auditor));
    let before = server.client().with(&auditor).get("/v1/artifacts?type=session.opened&limit=100").json();
    server.end();
    let place = tempfile::tempdir().unwrap();
    let state = server.state.path();
    let store = store_of(state).unwrap();
    // Stopped somewhere in the middle, and gone on with.
    for wait in [30, 90, 200] {
        let mut child = migrate(place.path(), &server.config, &store.url);
        thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let done = moved(place.path(), &server.config, &store.url);
    assert!(done.status.success(), "{done:?}");
    let again = moved(place.path(), &server.config, &store.url);
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is overwritten"), "{again:?}");
    let copy = TempDir::new_in(place.path()).unwrap();
    fs::copy(state.join("server_key"), copy.path().join("server_key")).unwrap();
    let mut on_postgres = Server::start_beside(copy, Config { store: Some(store), ..server.config.clone() });
    let client = on_postgres.client().with(&auditor);
    let after = client.get("/v1/artifacts?type=session.opened&limit=100").json();
    assert_eq!(before["artifacts"], after["artifacts"], "the same in the same order");
    assert!(ids(&heard(&client, "stack=web")).contains(&closing.document().id().to_string()));
    assert_eq!(post(&on_postgres, &closing).status, 200, "known already");
    let next = host.lines.len() as u64 + 1;
    host.logins(2);
    assert_eq!(on_postgres.client().ingest(&host.batch(next..=next)).status, 200);
    own_ledger_holds(&Database::of(state));
    on_postgres.end();
    let back = place.path().join("back");
    let done = moved(place.path(), &on_postgres.config, &format!("sqlite:{}", back.display()));
    assert!(done.status.success(), "{done:?}");
    let there = TempDir::new_in(place.path()).unwrap();
    for name in ["compliance-api.sqlite", "server_key"] {
        fs::copy(back.join(name), there.path().join(name)).unwrap();
    }
    let on_sqlite = Server::start_beside(there, Config { store: None, ..server.config.clone() });
    assert_eq!(on_sqlite.client().ingest(&host.batch(next..=next + 1)).json()["stored"], 1);
    assert_eq!(on_sqlite.client().with(&auditor).get("/v1/hosts").status, 200);
}

#[test]
fn it_is_moved_to_another_engine_alone_and_from_a_database_that_is_there() {
    let place = tempfile::tempdir().unwrap();
    let config = Config { state: place.path().join("state"), ..Config::default() };
    fs::create_dir(&config.state).unwrap();
    let said = |to: &str| String::from_utf8(moved(place.path(), &config, to).stderr).unwrap();
    assert!(said(&format!("sqlite:{}", place.path().join("new").display())).contains("from SQLite to PostgreSQL"));
    assert!(said("postgresql://localhost:1/x").contains("there is no database"));
    assert!(said("postgresql://db.example/x").contains("sslmode=require"));
    assert!(!place.path().join("new").exists() && !config.state.join("compliance-api.sqlite").exists());
}
