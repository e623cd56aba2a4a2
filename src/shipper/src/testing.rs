//! For tests: ledgers as the daemon writes them, and a server that answers from a script.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use record::{ArtifactType, Draft, Hash, LedgerId, Position, Receipt, Record, SignedReceipt, seal};
use serde_json::{Value, json};
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use crate::{
    api::ApiSink,
    cursor,
    paths::Paths,
    settings,
    shared::{Ending, Shared},
    status::Status,
    syslog::SyslogSink,
};

/// Empty directories, as the package makes them.
pub(crate) fn paths() -> (tempfile::TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        dir.path().join(name)
    };
    made("daemon/ledger");
    made("state/receipts");
    let paths = Paths {
        daemon_state: made("daemon"),
        daemon_run: made("daemon-run"),
        state: made("state"),
        run: made("run"),
        credentials: Some(made("credentials")),
        system_authorities: dir.path().join("authorities.pem"),
    };
    (dir, paths)
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

pub(crate) fn ledger_id() -> LedgerId {
    "000102030405060708090a0b0c0d0e0f".parse().unwrap()
}

pub(crate) fn receipt(ledger: &LedgerId, seq: u64, hash: Hash, key: &PrivateKey) -> SignedReceipt {
    let received = "2026-05-26T12:00:02.123456Z".parse().unwrap();
    Receipt { ledger: ledger.clone(), seq, hash, received, signer: None }.seal(key).unwrap()
}

/// A ledger on disk.
pub(crate) struct Ledger {
    paths: Paths,
    pub(crate) id: LedgerId,
    key: PrivateKey,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    segment: u64,
}

impl Ledger {
    /// One with `ledger.segment` and `ledger.opened` in it.
    pub(crate) fn begin(paths: &Paths, seed: u8) -> Self {
        let id: LedgerId = format!("{seed:02x}").repeat(16).parse().unwrap();
        fs::create_dir_all(paths.ledger()).unwrap();
        let mut ledger = Self { paths: paths.clone(), id, key: key(seed), seq: 0, hash: Hash::ZERO, segment: 1 };
        ledger.rotate();
        let public = ledger.public_key();
        ledger.write(&Draft::new(ArtifactType::LedgerOpened, "a ledger began").with("public_key", public));
        ledger.publish();
        ledger
    }

    fn public_key(&self) -> String {
        self.key.public_key().to_openssh().unwrap()
    }

    /// Begins a segment.
    pub(crate) fn rotate(&mut self) {
        self.segment = self.seq + 1;
        let draft = Draft::new(ArtifactType::LedgerSegment, "a segment begins")
            .with("public_key", self.public_key())
            .with("previous", json!({ "seq": self.seq, "hash": self.hash.to_string() }));
        self.write(&draft);
    }

    pub(crate) fn path(&self, first: u64) -> PathBuf {
        self.paths.ledger().join(format!("{first:012}.jsonl"))
    }

    /// One record, in the file, but not said to be durable yet.
    pub(crate) fn write(&mut self, draft: &Draft) -> String {
        let body = draft.bodies().unwrap().remove(0);
        let at = Position {
            ledger: &self.id,
            seq: self.seq + 1,
            host: &"i-0123".parse().unwrap(),
            stack: &"web".parse().unwrap(),
            boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
            time: "2026-05-26T12:00:02.123456Z".parse().unwrap(),
            prev: self.hash,
        };
        let line = seal(&body, &at, &self.key).unwrap();
        (self.seq, self.hash) = (line.seq(), line.hash());
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.path(self.segment)).unwrap();
        file.write_all(line.as_str().as_bytes()).unwrap();
        line.as_str().to_owned()
    }

    /// Says how far it is durable.
    pub(crate) fn publish(&self) {
        let text = json!({ "hash": self.hash.to_string(), "ledger": self.id, "seq": self.seq });
        let new = self.paths.durable().with_extension("new");
        fs::write(&new, format!("{text}\n")).unwrap();
        fs::rename(new, self.paths.durable()).unwrap();
    }

    /// So many records, durable.
    pub(crate) fn append(&mut self, count: u64) {
        for n in 0..count {
            self.write(&Draft::new(ArtifactType::SessionClosed, format!("session {n} ended")).with("seconds", n));
        }
        self.publish();
    }

    pub(crate) fn stop(&mut self) {
        self.write(&Draft::new(ArtifactType::DaemonStopped, "the daemon stopped"));
        self.publish();
    }

    /// Removes the segments before the one that begins with `first`, and says so before, as the daemon does.
    pub(crate) fn prune_before(&mut self, first: u64) {
        let starts: Vec<u64> = crate::ledger::segment_starts(&self.paths.ledger());
        let line = fs::read_to_string(self.path(first)).unwrap();
        let prev = Record::parse(line.lines().next().unwrap().as_bytes()).unwrap().prev();
        let draft = Draft::new(ArtifactType::LedgerPruned, "removed")
            .with("first", starts[0])
            .with("last", first - 1)
            .with("last_hash", prev.to_string());
        self.write(&draft);
        self.publish();
        starts.iter().filter(|start| **start < first).for_each(|start| fs::remove_file(self.path(*start)).unwrap());
    }

    /// What the daemon does when a ledger cannot go on.
    pub(crate) fn set_aside(self, time: &str) -> PathBuf {
        let dir = self.paths.set_aside().join(format!("{time}-{}", self.id));
        fs::create_dir_all(&dir).unwrap();
        fs::rename(self.paths.ledger(), dir.join("ledger")).unwrap();
        dir
    }
}

/// The sinks at work, with what they are told read from the files every few milliseconds.
pub(crate) struct Rig {
    pub(crate) paths: Paths,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Rig {
    /// Both sinks.
    pub(crate) fn start(paths: &Paths) -> Self {
        let (shared, status) = (Arc::new(Shared::new()), Arc::new(Status::new(paths.clone())));
        let stop = Arc::new(AtomicBool::new(false));
        let api = ApiSink::open(paths.clone(), shared.clone(), status.clone()).unwrap();
        let syslog = SyslogSink::open(paths.clone(), shared.clone(), status.clone()).unwrap();
        let (told, over, files) = (shared.clone(), stop.clone(), paths.clone());
        let follower = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let (mark, settings) = (cursor::read(&files.durable()).unwrap(), settings::read(&files));
                told.tell(|world| {
                    world.mark = mark;
                    world.settings = Arc::new(settings.unwrap_or_default());
                });
                status.flush();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let threads = vec![thread::spawn(|| api.run()), thread::spawn(|| syslog.run()), follower];
        Self { paths: paths.clone(), shared, threads, stop }
    }

    /// Waits until this holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come: {}", self.status());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn status(&self) -> Value {
        let bytes = fs::read(self.paths.status()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Waits until a sink's status has this state; says why it is in it.
    pub(crate) fn state(&self, sink: &str, state: &str) -> String {
        self.until(state, || self.status()["sinks"][sink]["state"] == state);
        self.status()["sinks"][sink]["why"].as_str().unwrap_or_default().to_owned()
    }

    /// Stops as on SIGTERM, and says how long that took.
    pub(crate) fn stop(mut self, instance: bool, within: Duration) -> Duration {
        let begun = Instant::now();
        self.shared.tell(|world| world.ending = Some(Ending { until: begun + within, instance }));
        let follower = self.threads.pop().unwrap();
        self.threads.drain(..).for_each(|sink| sink.join().unwrap());
        let took = begun.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        follower.join().unwrap();
        took
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// From 0.
    pub(crate) number: usize,
    /// Path and query.
    pub(crate) path: String,
    /// As it came, in lower case.
    pub(crate) head: String,
    pub(crate) authorization: Option<String>,
    pub(crate) events: Vec<Value>,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// What a compliance API does.
    Store,
    /// Store it, and then behave otherwise: the answer is lost.
    StoreBut(Box<Reply>),
    /// These bytes, and the connection closed.
    Raw(Vec<u8>),
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection closed without an answer.
    Nothing,
    /// No answer, and the connection open for so long.
    Hang(Duration),
    /// A good head, and then bytes without end: so many at a time, this long apart.
    Endless(usize, Duration),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Say(status, Vec::new(), Vec::new())
    }

    pub(crate) fn problem(status: u16, mut fields: Value) -> Self {
        fields["status"] = status.into();
        Self::Say(status, Vec::new(), fields.to_string().into_bytes())
    }
}

type Script = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// What a server holds: every line by ledger and number.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) lines: BTreeMap<LedgerId, Vec<Vec<u8>>>,
    pub(crate) repeats: usize,
    /// The numbers before which a gap was accounted for.
    pub(crate) gaps: BTreeMap<LedgerId, u64>,
}

/// A small server.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
    }
}

impl Server {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(Arc::default(), script)
    }

    /// One that goes on with what another has stored.
    pub(crate) fn start_with(
        store: Arc<Mutex<Store>>,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let script: Arc<Script> = Arc::new(Box::new(script));
        let count = Arc::new(AtomicUsize::new(0));
        let server = Self { url, store: store.clone(), requests: requests.clone(), stop: stop.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (script, store, requests, count) = (script.clone(), store.clone(), requests.clone(), count.clone());
                thread::spawn(move || serve(&stream.unwrap(), &script, &store, &requests, &count));
            }
        });
        server
    }

    pub(crate) fn settings(&self, paths: &Paths) {
        ship_to(paths, &json!({ "v": 1, "api": { "url": self.url, "receipt_keys": [] } }));
    }

    pub(crate) fn asked(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn stored(&self, ledger: &LedgerId) -> Vec<Vec<u8>> {
        self.store.lock().unwrap().lines.get(ledger).cloned().unwrap_or_default()
    }
}

/// The daemon says where to ship to.
pub(crate) fn ship_to(paths: &Paths, value: &Value) {
    let new = paths.settings().with_extension("new");
    fs::write(&new, value.to_string()).unwrap();
    fs::rename(new, paths.settings()).unwrap();
}

fn serve(
    stream: &TcpStream,
    script: &Script,
    store: &Mutex<Store>,
    requests: &Mutex<Vec<Request>>,
    count: &AtomicUsize,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let Some((head, authorization, body)) = read_request(&mut reader) else { return };
        let number = count.fetch_add(1, Ordering::Relaxed);
        let events = serde_json::from_slice(&body).unwrap_or_default();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let request = Request { number, path, head: head.to_ascii_lowercase(), authorization, events };
        let mut reply = script(&request);
        requests.lock().unwrap().push(request);
        if let Reply::StoreBut(other) = reply {
            store_all(store, &body);
            reply = *other;
        }
        let mut out = stream;
        match reply {
            Reply::Store | Reply::StoreBut(_) => {
                let Reply::Say(status, _, body) = store_all(store, &body) else { return };
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                drop(out.write_all(&[head.into_bytes(), body].concat()));
            }
            Reply::Say(status, headers, body) => {
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                drop(out.write_all(&[head.into_bytes(), body].concat()));
            }
            Reply::Raw(bytes) => return drop(out.write_all(&bytes)),
            Reply::Nothing => return,
            Reply::Hang(time) => return thread::sleep(time),
            Reply::Endless(bytes, apart) => {
                drop(out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"));
                while out.write_all(&vec![b'x'; bytes]).is_ok() {
                    thread::sleep(apart);
                }
                return;
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, Option<String>, Vec<u8>)> {
    let (mut length, mut authorization, mut line, mut head) = (0, None, String::new(), String::new());
    loop {
        head += &line;
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        } else if lower.starts_with("authorization:") {
            authorization = Some(line["authorization:".len()..].trim().to_owned());
        } else if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, authorization, body))
}

/// The server's own key is that of seed 200.
pub(crate) const SERVER: u8 = 200;

fn store_all(store: &Mutex<Store>, body: &[u8]) -> Reply {
    let mut store = store.lock().unwrap();
    let text = std::str::from_utf8(body).unwrap();
    let events: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut permitted = 0;
    let mut ledger = None;
    for event in &events {
        // Its exact bytes: keys are sorted in both.
        let line = event["data"].to_string();
        assert!(text.contains(&line), "the record was changed on its way");
        let record = Record::parse(line.as_bytes()).unwrap();
        assert_eq!(event["id"], json!(format!("{}/{}", record.ledger(), record.seq())));
        let id = record.ledger().clone();
        let begun = store.gaps.get(&id).copied().unwrap_or(0);
        let lines = store.lines.entry(id.clone()).or_default();
        let head = begun + lines.len() as u64;
        if record.kind() == Some(ArtifactType::LedgerPruned) && record.seq() > head + 1 {
            permitted = record.detail("last").unwrap().as_u64().unwrap();
            continue;
        }
        if lines.is_empty() && record.seq() == permitted + 1 && permitted > 0 {
            store.gaps.insert(id.clone(), permitted);
        } else if record.seq() <= head {
            let known = lines[(record.seq() - begun) as usize - 1] == line.as_bytes();
            if !known {
                return problem(&store, &id, "fork");
            }
            store.repeats += 1;
            ledger = Some(id);
            continue;
        } else if record.seq() != head + 1 {
            return problem(&store, &id, "gap");
        }
        store.lines.get_mut(&id).unwrap().push(line.into_bytes());
        ledger = Some(id);
    }
    let id = ledger.unwrap();
    let (seq, hash) = head(&store, &id);
    let receipt: Value = serde_json::from_str(receipt(&id, seq, hash, &key(SERVER)).as_str()).unwrap();
    let answer =
        json!({ "accepted": events.len(), "stored": events.len(), "enrolment": "enrolled", "receipt": receipt });
    Reply::Say(200, Vec::new(), answer.to_string().into_bytes())
}

fn head(store: &Store, ledger: &LedgerId) -> (u64, Hash) {
    let lines = &store.lines[ledger];
    let hash = lines.last().map_or(Hash::ZERO, |line| Hash::of(&[line.as_slice(), b"\n"].concat()));
    (store.gaps.get(ledger).copied().unwrap_or(0) + lines.len() as u64, hash)
}

fn problem(store: &Store, ledger: &LedgerId, code: &str) -> Reply {
    let (seq, hash) = head(store, ledger);
    let mut fields = json!({ "code": code, "head": { "ledger": ledger, "seq": seq, "hash": hash.to_string() } });
    if seq > 0 {
        fields["receipt"] = serde_json::from_str(receipt(ledger, seq, hash, &key(SERVER)).as_str()).unwrap();
    }
    Reply::problem(409, fields)
}
