//! A real server on a real database, filled through the store, and asked over real HTTP.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread::{self, JoinHandle},
};

#[path = "database.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is the other tests' too, which use what this one does not")]
mod database;

use compliance_api::{
    config::Config,
    evidence::SourceKind,
    own_ledger::random_ledger,
    serve,
    store::{
        Store,
        ledgers::{self, Artifact},
        tokens::TokenRow,
    },
    token::{Role, Token},
};
use jiff::Timestamp;
use record::{ArtifactType, Body, Hash, Position, seal};
use ssh_key::{PrivateKey, private::Ed25519Keypair};
use tempfile::TempDir;
use tokio::sync::watch;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A configuration with a state directory of its own and any free port.
pub(crate) fn config(state: &Path) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        state: state.to_owned(),
        store: database::store_of(state),
        requirements: state.join("requirements.d"),
        ..Config::default()
    }
}

/// A token of this role, put into the store.
pub(crate) fn token(store: &Store, role: Role, name: &str) -> String {
    let token = Token::random(role);
    let hash = token.hash();
    let row = TokenRow {
        id: format!("{name:0>16}"),
        role,
        name: name.to_owned(),
        stack: None,
        from: None,
        to: None,
        types: None,
        uses: None,
        created: Timestamp::now(),
        expires: None,
        revoked: None,
        used: None,
    };
    store.write_blocking(move |w| w.insert_token(&row, hash)).unwrap();
    token.reveal().to_owned()
}

/// A host's key, ledger and records, as its daemon would write them.
pub(crate) fn host_lines(host: &str, records: &[(ArtifactType, Option<&str>, &str)]) -> (PrivateKey, Vec<String>) {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[host.len() as u8; 32]));
    let (ledger, host, stack) = (random_ledger(), host.parse().unwrap(), "web".parse().unwrap());
    let mut prev = Hash::ZERO;
    let mut lines = Vec::new();
    for (kind, person, time) in records {
        let mut draft = record::Draft::new(*kind, "as it is stated");
        draft.person = person.map(|p| p.parse().unwrap());
        draft.account = person.map(|_| "ubuntu".parse().unwrap());
        let body: Body = draft.bodies().unwrap().remove(0);
        let time: Timestamp = time.parse().unwrap();
        let at = Position {
            ledger: &ledger,
            seq: lines.len() as u64 + 1,
            host: &host,
            stack: &stack,
            boot: "b",
            time,
            prev,
        };
        let line = seal(&body, &at, &key).unwrap();
        prev = line.hash();
        lines.push(line.as_str().trim_end().to_owned());
    }
    (key, lines)
}

/// Stores a host's lines as ingest does once it has verified them.
pub(crate) fn store_host(store: &Store, host: &str, pending: bool, lines: &[String]) -> String {
    let (host, lines) = (host.to_owned(), lines.to_vec());
    store
        .write_blocking(move |w| {
            let first = record::Record::parse(lines[0].as_bytes()).expect("a record");
            let mut ledger = w.begin_ledger(SourceKind::Host, first.ledger(), &host, pending)?;
            let records: Vec<record::Record> =
                lines.iter().map(|l| record::Record::parse(l.as_bytes()).expect("a record")).collect();
            let artifacts: Vec<Artifact<'_>> = records
                .iter()
                .zip(&lines)
                .map(|(r, line)| Artifact {
                    seq: r.seq(),
                    hash: r.hash(),
                    word: r.type_word(),
                    stack: r.text("stack").expect("a stack"),
                    time: r.time(),
                    person: r.text("person"),
                    account: r.text("account"),
                    fingerprint: None,
                    flags: 0,
                    next_by: None,
                    bytes: line.as_bytes(),
                    kept: None,
                })
                .collect();
            ledgers::append(w, &mut ledger, &artifacts)?;
            Ok(ledger.id.to_string())
        })
        .unwrap()
}

/// Stores what a client posted.
pub(crate) fn store_client(store: &Store, client: &str, kind: &'static str, posted: &[(&'static str, &str)]) {
    let client = client.to_owned();
    let posted: Vec<(&'static str, Timestamp)> = posted.iter().map(|(data, t)| (*data, t.parse().unwrap())).collect();
    store
        .write_blocking(move |w| {
            let mut ledger = w.begin_ledger(SourceKind::Client, &random_ledger(), &client, false)?;
            for (n, (data, time)) in posted.iter().enumerate() {
                let id = format!("event-{n}");
                let artifact = Artifact {
                    seq: n as u64 + 1,
                    hash: Hash::of(data.as_bytes()),
                    word: kind,
                    stack: "",
                    time: *time,
                    person: None,
                    account: None,
                    fingerprint: None,
                    flags: 0,
                    next_by: None,
                    bytes: data.as_bytes(),
                    kept: Some((&id, b"{\"entry\":1}")),
                };
                ledgers::append(w, &mut ledger, &[artifact])?;
            }
            Ok(())
        })
        .unwrap();
}

/// A running server. It stops in good order when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) auditor: String,
    pub(crate) admin: String,
    pub(crate) client: String,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    state: TempDir,
}

impl Server {
    /// Starts one, after `fill` has filled its store.
    pub(crate) fn start(fill: impl FnOnce(&Store)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = config(state.path());
        let store = Store::open(&config).unwrap();
        let auditor = token(&store, Role::Auditor, "auditor");
        let admin = token(&store, Role::Admin, "admin");
        let client = token(&store, Role::Client, "portal");
        fill(&store);
        store.close();
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(serve::serve(config, stopped, move |address| ready.send(address).unwrap())).unwrap();
        });
        let address = is_ready.recv().unwrap();
        Self { address, auditor, admin, client, stop, thread: Some(thread), state }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn ask(&self, method: &str, path: &str, token: Option<&str>, headers: &[&str], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if let Some(token) = token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        answer(&all)
    }

    /// Reads as the auditor.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Some(&self.auditor), &[], "")
    }

    /// Reads as the auditor, and all as JSON lines.
    pub(crate) fn lines(&self, path: &str) -> Answer {
        self.ask("GET", path, Some(&self.auditor), &["Accept: application/x-ndjson"], "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking());
        }
        database::drop_store_of(self.state.path());
    }
}

fn answer(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = &all[end + 4..];
    let mut whole = Vec::new();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        loop {
            let line = body.windows(2).position(|w| w == b"\r\n").expect("a chunk's size");
            let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
            whole.extend_from_slice(&body[line + 2..line + 2 + size]);
            body = &body[line + 4 + size..];
            if size == 0 {
                break;
            }
        }
    } else {
        whole.extend_from_slice(body);
    }
    Answer { status, head, body: whole }
}
