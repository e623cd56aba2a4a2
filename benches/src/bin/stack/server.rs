//! A compliance API of the release build that keeps acme's documents, with hosts that have tokens for their feed.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use document::Envelope;
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{SysconfVar, sysconf},
};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

/// The hosts' stack.
pub(crate) const STACK: &str = "web";
/// How long it may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    state: PathBuf,
    pub(crate) address: SocketAddr,
}

/// As many open files as the kernel lets us have: here, and for the server.
pub(crate) fn allow_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("it may be raised to that");
}

/// The token of the nth host.
pub(crate) fn token(n: usize) -> String {
    format!("{:064x}", n + 1)
}

impl Server {
    /// Starts it with this table `[stack]`.
    pub(crate) fn start(state: &Path, stack: &str) -> Self {
        fs::create_dir_all(state).expect("a directory");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let config = state.with_extension("toml");
        let text = format!(
            "listen = \"{address}\"\nstate = {:?}\n{stack}\n[limits]\nconnections = 15000\nconnections_per_address = 15000\n\
             polls = 11000\nrequests_per_address = 15000\nheader_timeout = \"60s\"\n",
            state.display().to_string(),
        );
        fs::write(&config, text).expect("the configuration");
        let child = command(&config, &["serve"]).stderr(Stdio::null()).spawn().expect("the server starts");
        let server = Self { child, state: state.to_owned(), address };
        let start = Instant::now();
        while agent().get(format!("http://{address}/healthz")).call().is_err() {
            assert!(start.elapsed() < START_LIMIT, "the server does not answer");
            sleep(Duration::from_millis(20));
        }
        server
    }

    /// Posts a document, which has to be published.
    pub(crate) fn post(&self, envelope: &Envelope) {
        let url = format!("http://{}/v1/documents", self.address);
        let mut answer =
            agent().post(url).content_type("application/json").send(envelope.to_json()).expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        assert!(body.contains("published"), "{body}");
    }

    /// What it answers to whoever has this token.
    pub(crate) fn get(&self, path: &str, token: &str) -> serde_json::Value {
        let asked =
            agent().get(format!("http://{}{path}", self.address)).header("Authorization", format!("Bearer {token}"));
        let text = asked.call().expect("an answer").body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Makes a token of a role and gives its text.
    pub(crate) fn token(&self, words: &[&str]) -> String {
        let words = [&["token", "create", "--role"], words].concat();
        let out = command(&self.state.with_extension("toml"), &words).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        let is_token = |word: &&str| word.starts_with("ca_");
        said.split_whitespace().find(is_token).unwrap_or_else(|| panic!("no token in: {said}")).to_owned()
    }

    /// A number of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Processor time that it has used, by all its threads, those that ended too.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running process");
        // Behind the name, which may hold anything.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let ticks = rest.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum::<u64>();
        let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).expect("a rate");
        Duration::from_millis(ticks * 1000 / a_second)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its state goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("COMPLIANCE_API").map_or_else(beside, PathBuf::from));
    command.arg("--config").arg(config).args(words);
    command
}

/// The server's program, which is built beside this one.
fn beside() -> PathBuf {
    std::env::current_exe().expect("a running program has a path").with_file_name("compliance-api")
}

/// Enrols so many hosts of the stack, straight by SQL, each with the token of its feed.
pub(crate) fn make_hosts(server: &Server, count: usize) {
    let mut db = Connection::open(server.state.join("compliance-api.sqlite")).expect("the database");
    let now = jiff::Timestamp::now().as_microsecond();
    let all = db.transaction().expect("a transaction");
    for n in 0..count {
        let hash: [u8; 32] = Sha256::digest(token(n)).into();
        all.execute(
            "INSERT INTO ledgers (ledger, kind, name, stack, state, created, head_seq, head_hash, head_received, last_type,
             last_time, next_by, feed_token)
             VALUES (?1, 'host', ?2, ?3, 'enrolled', ?4, 1, zeroblob(32), ?4, 'sweep.attested', ?4, ?5, ?6)",
            params![format!("{n:032x}"), format!("i-{n}"), STACK, now, now + HOUR, hash],
        )
        .expect("a host");
    }
    all.commit().expect("they are there");
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into()
}
