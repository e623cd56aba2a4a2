//! A compliance API of the release build, on SQLite, on loopback.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    child: Child,
    config: std::path::PathBuf,
    pub(crate) url: String,
}

impl Server {
    /// Starts it on the database in `state`, which is made if need be.
    pub(crate) fn start(state: &Path) -> Self {
        fs::create_dir_all(state).expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let config = state.with_extension("toml");
        let text = format!("listen = \"{free}\"\nstate = {:?}\n", state.display().to_string());
        fs::write(&config, text).expect("the configuration");
        let child = command(&config, &["serve"]).stderr(Stdio::null()).spawn().expect("the server starts");
        let server = Self { child, config, url: format!("http://{free}") };
        let start = Instant::now();
        while agent().get(format!("{}/healthz", server.url)).call().is_err() {
            assert!(start.elapsed() < START_LIMIT, "the server does not answer");
            sleep(Duration::from_millis(20));
        }
        server
    }

    /// Makes a token and gives its text.
    pub(crate) fn token(&self, words: &[&str]) -> String {
        let out = command(&self.config, &[&["token", "create", "--role"], words].concat()).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        let is_token = |word: &&str| word.starts_with("ca_");
        said.split_whitespace().find(is_token).unwrap_or_else(|| panic!("no token in: {said}")).to_owned()
    }

    /// The processors' time that it has taken until now.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&format!("/proc/{}", self.child.id()))
    }

    /// A number of `/proc/PID/status`, in bytes: `VmRSS` or `VmHWM`.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        memory(self.child.id(), name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        // In good order, so that the next start finds a database without leftovers.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The processors' time that a process has taken until now, in user and kernel mode, of all its threads.
pub(crate) fn processor_time(process: &str) -> Duration {
    /// USER_HZ, which is the same on every architecture of Debian's.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("{process}/stat")).expect("a running process");
    // Behind the name, which may hold anything: utime and stime are the 12th and 13th.
    let behind = stat.rsplit_once(')').expect("the kernel names it").1;
    let ticks: u32 = behind.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().expect("a number")).sum();
    TICK * ticks
}

/// A number of `/proc/PID/status`, in bytes.
pub(crate) fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
}

/// A client that keeps its connection and gives errors of the server as answers.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(300)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn command(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(super::target_directory().join("compliance-api"));
    command.arg("--config").arg(config).args(words);
    command
}
