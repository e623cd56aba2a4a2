//! The shipper and the server, each as a process. Ten hosts ship over a bad network, and shippers and server are killed
//! meanwhile: nothing is lost, nothing is stored twice, and the order is kept, shown by comparing each ledger's files with
//! the store. And over TLS each demands to see who the other is. The other way, documents come to the hosts of a stack. And
//! hosts go on with a server that was put back from a backup, or has another key.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "these are tests")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use record::{ArtifactType, Draft, Hash, LedgerId, Position, Receipt, SignedReceipt, seal};
use serde_json::json;
use shipper::paths::Paths;
use ssh_key::{PrivateKey, private::Ed25519Keypair};

mod documents;
mod set_back;

#[path = "../api/common/company.rs"]
#[allow(dead_code, reason = "it is the other tests' too, which use what this one does not")]
mod company;

/// Which directory a process of this very test is to ship from.
const UNDER_TEST: &str = "SHIPPER_UNDER_TEST";
const HOSTS: u8 = 10;
/// Records of each host, written a few at a time.
const RECORDS: u64 = 300;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(150);
/// How long one step may take.
const SOON: Duration = Duration::from_secs(25);

/// A host: its directories, its ledger, and a process that ships it.
struct Host {
    paths: Paths,
    id: LedgerId,
    key: PrivateKey,
    name: String,
    seq: u64,
    hash: Hash,
    shipper: Option<Child>,
}

/// The daemon says where to ship to.
fn configure(dir: &Path, api: &serde_json::Value) {
    let (new, path) = (dir.join("daemon-run/ship.new"), dir.join("daemon-run/ship.json"));
    fs::write(&new, json!({ "v": 1, "api": api }).to_string()).unwrap();
    fs::rename(new, path).unwrap();
}

fn paths(dir: &Path) -> Paths {
    Paths {
        daemon_state: dir.join("daemon"),
        daemon_run: dir.join("daemon-run"),
        state: dir.join("state"),
        run: dir.join("run"),
        credentials: Some(dir.join("credentials")),
        system_authorities: dir.join("none"),
    }
}

impl Host {
    fn begin(dir: &Path, number: u8, url: &str, token: &str) -> Self {
        let paths = paths(dir);
        for made in ["daemon/ledger", "daemon-run", "state/receipts", "run", "credentials"] {
            fs::create_dir_all(dir.join(made)).unwrap();
        }
        fs::write(dir.join("credentials/enrolment-token"), token).unwrap();
        configure(dir, &json!({ "url": url }));
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[number + 1; 32]));
        let id = format!("{:02x}", number + 1).repeat(16).parse().unwrap();
        let (name, hash) = (format!("i-{number}"), Hash::ZERO);
        let mut host = Self { paths, id, key, name, seq: 0, hash, shipper: None };
        let public = host.key.public_key().to_openssh().unwrap();
        for kind in [ArtifactType::LedgerSegment, ArtifactType::LedgerOpened] {
            let draft = Draft::new(kind, "it begins").with("public_key", public.clone());
            host.write(&draft.with("previous", json!({ "seq": 0, "hash": Hash::ZERO.to_string() })));
        }
        host.publish();
        host
    }

    fn ledger(&self) -> PathBuf {
        self.paths.daemon_state.join("ledger/000000000001.jsonl")
    }

    fn write(&mut self, draft: &Draft) {
        let at = Position {
            ledger: &self.id,
            seq: self.seq + 1,
            host: &self.name.parse().unwrap(),
            stack: &"web".parse().unwrap(),
            boot: "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c",
            time: jiff::Timestamp::now(),
            prev: self.hash,
        };
        let line = seal(&draft.bodies().unwrap()[0], &at, &self.key).unwrap();
        (self.seq, self.hash) = (line.seq(), line.hash());
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.ledger()).unwrap();
        file.write_all(line.as_str().as_bytes()).unwrap();
    }

    fn publish(&self) {
        let text = json!({ "hash": self.hash.to_string(), "ledger": self.id, "seq": self.seq }).to_string();
        let new = self.paths.daemon_run.join("durable.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.paths.daemon_run.join("durable")).unwrap();
    }

    fn append(&mut self, count: u64) {
        for _ in 0..count {
            self.write(&Draft::new(ArtifactType::SessionClosed, "a session ended").with("seconds", self.seq));
        }
        self.publish();
    }

    /// A process of its own, so that it can be killed.
    fn ship(&mut self) {
        self.kill();
        let dir = self.paths.state.parent().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "as_a_shipper", "--ignored", "--nocapture"])
            .env(UNDER_TEST, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.shipper = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.shipper.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn acknowledged(&self) -> u64 {
        let bytes = fs::read(self.paths.state.join("api.cursor")).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&bytes).map_or(0, |cursor| cursor["seq"].as_u64().unwrap_or(0))
    }

    fn status(&self) -> String {
        fs::read_to_string(self.paths.run.join("status.json")).unwrap_or_default()
    }

    /// Waits until this is so.
    fn soon(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < SOON, "{what}: {}", self.status());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it says this about itself.
    fn says(&self, what: &str) {
        self.soon(what, |host| host.status().contains(what));
    }

    fn is_acknowledged(&self) {
        self.soon("all is acknowledged", |host| host.acknowledged() == host.seq);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test of its own: what [`Host::ship`] starts.
#[test]
#[ignore = "it is started by the others"]
fn as_a_shipper() {
    if let Some(dir) = std::env::var_os(UNDER_TEST) {
        let _ = shipper::run::daemon(paths(Path::new(&dir)));
    }
}

/// The real server, as a process.
struct Server {
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Server {
    fn new(dir: &Path, more: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!("listen = \"{address}\"\nstate = \"{}\"\n{more}", dir.join("store").display());
        fs::create_dir_all(dir.join("store")).unwrap();
        fs::write(dir.join("config.toml"), text).unwrap();
        Self { dir: dir.to_owned(), address, child: None }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compliance-api"));
        command.args(arguments).arg("--config").arg(self.dir.join("config.toml"));
        command
    }

    /// What a command prints, once it has worked.
    fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn token(&self) -> String {
        self.run(&["token", "create", "--role", "enrol", "--stack", "web", "--uses", "10"])
    }

    fn start(&mut self) {
        let child = self.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Every line of a ledger that is stored, in order of its numbers.
    fn stored(&self, ledger: &LedgerId) -> Vec<(u64, Vec<u8>)> {
        let mut files = fs::read_dir(self.dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| fs::read(path).unwrap().starts_with(b"SQLite format 3\0")).unwrap();
        let connection = rusqlite::Connection::open(file).unwrap();
        let query = "SELECT a.seq, a.bytes FROM artifacts a JOIN ledgers l ON l.id = a.ledger WHERE l.ledger = ? ORDER BY a.seq";
        let mut statement = connection.prepare(query).unwrap();
        let rows = statement.query_map([ledger.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A network that cuts every third connection somewhere, stalls every fifth for a while, and drops every seventh at once.
fn bad_network(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let number = count.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                if number % 7 == 6 {
                    return;
                }
                let Ok(server) = TcpStream::connect(to) else { return };
                let (cut_up, cut_down) = match number % 6 {
                    2 => (Some(number * 997 % 60_000), None),
                    5 => (None, Some(number % 400)),
                    _ => (None, None),
                };
                let pause = if number % 5 == 4 { Duration::from_millis(700) } else { Duration::ZERO };
                let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
                let other = thread::spawn(move || pass(up.0, up.1, cut_up, Duration::ZERO));
                pass(down.0, down.1, cut_down, pause);
                drop(other.join());
            });
        }
    });
    address
}

/// Bytes one way, until the connection ends or this many have passed.
fn pass(mut from: TcpStream, mut to: TcpStream, cut_after: Option<u64>, pause: Duration) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        thread::sleep(pause);
        passed += read as u64;
        if cut_after.is_some_and(|most| passed > most) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(from.shutdown(std::net::Shutdown::Both));
    drop(to.shutdown(std::net::Shutdown::Both));
}

/// What is stored is what stands in the ledger, to the byte, once each, in order.
fn assert_whole(server: &Server, host: &Host) {
    let stored = server.stored(&host.id);
    let on_disk = fs::read_to_string(host.ledger()).unwrap();
    assert_eq!(stored.len() as u64, host.seq, "{}", host.name);
    for (n, ((seq, bytes), line)) in stored.iter().zip(on_disk.lines()).enumerate() {
        assert_eq!(*seq, n as u64 + 1);
        assert!(bytes == line.as_bytes(), "record {seq} of {} is stored otherwise", host.name);
    }
}

/// Each receipt that was kept is true of the ledger.
fn assert_receipts(host: &Host) {
    let kept = fs::read_to_string(host.paths.state.join(format!("receipts/{}.jsonl", host.id))).unwrap();
    let hashes: Vec<Hash> = fs::read_to_string(host.ledger())
        .unwrap()
        .lines()
        .map(|line| Hash::of(format!("{line}\n").as_bytes()))
        .collect();
    let mut last = 0;
    for line in kept.lines().filter(|line| !line.is_empty()) {
        let signed = SignedReceipt::parse(line.as_bytes()).unwrap();
        assert!(signed.is_signed_by(&signed.signer().unwrap()));
        let Receipt { seq, hash, .. } = signed.receipt();
        assert_eq!(hashes[*seq as usize - 1], *hash);
        last = last.max(*seq);
    }
    assert_eq!(last, host.seq);
}

#[test]
fn ten_hosts_over_a_bad_network_with_kills_on_both_sides_lose_nothing_and_store_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(dir.path(), "");
    let token = server.token();
    server.start();
    let url = format!("http://{}", bad_network(server.address));
    let mut hosts: Vec<Host> =
        (0..HOSTS).map(|number| Host::begin(&dir.path().join(number.to_string()), number, &url, &token)).collect();
    hosts.iter_mut().for_each(Host::ship);
    let mut round = 0usize;
    while hosts[0].seq < RECORDS {
        hosts.iter_mut().for_each(|host| host.append(10));
        thread::sleep(Duration::from_millis(100));
        if round % 5 == 2 {
            server.kill();
            thread::sleep(Duration::from_millis(100));
            server.start();
        }
        if round % 3 == 1 {
            hosts[round % HOSTS as usize].ship();
        }
        round += 1;
    }
    let begun = Instant::now();
    while !hosts.iter().all(|host| host.acknowledged() == host.seq) {
        let late: Vec<String> = hosts.iter().map(Host::status).collect();
        assert!(begun.elapsed() < LIMIT, "not all arrived: {late:?}");
        thread::sleep(Duration::from_millis(50));
    }
    for host in &hosts {
        assert_whole(&server, host);
        assert_receipts(host);
    }
}

/// An authority, and what it signs for this name, as files in a directory.
fn certificates(dir: &Path, authority: &str, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (what, pem) in [("ca", issuer.pem()), ("cert", certificate.pem()), ("key", key.serialize_pem())] {
        fs::write(dir.join(format!("{authority}.{what}")), pem).unwrap();
    }
}

#[test]
fn over_tls_each_side_has_to_show_a_certificate_that_the_other_trusts() {
    let dir = tempfile::tempdir().unwrap();
    for (authority, name) in [("server", "localhost"), ("client", "i-0"), ("stranger", "localhost")] {
        certificates(dir.path(), authority, name);
    }
    let file = |name: &str| dir.path().join(name).display().to_string();
    let tls = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\nclient_certificates = \"required\"\n",
        file("server.cert"),
        file("server.key"),
        file("client.ca")
    );
    let mut server = Server::new(dir.path(), &tls);
    let token = server.token();
    server.start();
    let url = format!("https://localhost:{}", server.address.port());
    let mut host = Host::begin(&dir.path().join("0"), 0, &url, &token);
    let home = dir.path().join("0");
    fs::copy(file("client.key"), home.join("credentials/client-key")).unwrap();
    host.ship();
    // A server that nobody vouches for, a client without a certificate, one whose key is another's, one of a stranger's.
    configure(&home, &json!({ "url": url, "ca_file": file("stranger.ca"), "client_certificate": file("client.cert") }));
    host.says("ship.api.ca_file names");
    configure(&home, &json!({ "url": url, "ca_file": file("server.ca") }));
    host.says("ship.api.client_certificate names");
    configure(&home, &json!({ "url": url, "ca_file": file("server.ca"), "client_certificate": file("stranger.cert") }));
    host.says("no pair");
    assert_eq!(host.acknowledged(), 0);
    configure(&home, &json!({ "url": url, "ca_file": file("server.ca"), "client_certificate": file("client.cert") }));
    host.append(5);
    host.is_acknowledged();
    assert_whole(&server, &host);
}
