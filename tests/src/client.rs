//! Real ssh clients that run on the host, in the instance's network, as somebody's laptop would.
//!
//! Each login comes from a loopback address of its own: Debian 13's sshd shuts an address out after a few refusals, which
//! is not what most tests are about. A test that is says [`Ssh::from`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::host::{Output, eventually, finish_within, host_command, status_number};
use crate::instance::Instance;

/// What a login with a command may take; a refused one takes about a second.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// Making an RSA key takes longest.
const KEYGEN_LIMIT: Duration = Duration::from_secs(60);
/// Prints the password to ssh, from its environment: a script that a test wrote could not be run while another one writes it.
const ASKPASS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/askpass");
/// How often a client is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A key pair on the host.
#[derive(Debug, Clone)]
pub struct Key {
    path: PathBuf,
    public: String,
    fingerprint: OnceLock<String>,
}

impl Key {
    /// Makes a pair of `kind` (as `ssh-keygen -t` names it) in `dir`, its comment `NAME@laptop`.
    ///
    /// # Panics
    /// When ssh-keygen fails.
    #[must_use]
    pub fn generate(dir: &Path, name: &str, kind: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::make(dir.join(format!("key-{}-{name}", COUNT.fetch_add(1, Ordering::Relaxed))), name, kind)
    }

    /// The same at this path.
    pub(crate) fn make(path: PathBuf, name: &str, kind: &str) -> Self {
        let (file, comment) = (path.display().to_string(), format!("{name}@laptop"));
        host_command(KEYGEN_LIMIT, "ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", &comment, "-f", &file])
            .expect_ok();
        Self::at(path)
    }

    /// A copy at `to` of the pair whose private key is at `from`.
    pub(crate) fn copy(from: &Path, to: PathBuf) -> Self {
        for (from, to) in [(from, &to), (&from.with_extension("pub"), &to.with_extension("pub"))] {
            fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        }
        Self::at(to)
    }

    fn at(path: PathBuf) -> Self {
        let public = fs::read_to_string(path.with_extension("pub")).expect("ssh-keygen wrote it");
        Self { path, public: public.trim_end().to_owned(), fingerprint: OnceLock::new() }
    }

    pub(crate) fn of_device(path: PathBuf, public: String) -> Self {
        Self { path, public, fingerprint: OnceLock::new() }
    }

    /// The private key's file on the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key as one line: type, base64, comment.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The fingerprint as `ssh-keygen -l` prints it.
    ///
    /// # Panics
    /// When ssh-keygen fails.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let asked = || {
            let file = self.path.display().to_string();
            let line = host_command(KEYGEN_LIMIT, "ssh-keygen", &["-l", "-f", &file]).expect_ok();
            line.split_whitespace().nth(1).expect("bits, fingerprint, comment, type").to_owned()
        };
        self.fingerprint.get_or_init(asked).clone()
    }
}

/// One login to be made: `instance.ssh("ubuntu").key(&frank).run("id")`.
#[derive(Debug, Clone)]
#[must_use]
pub struct Ssh<'a> {
    instance: &'a Instance,
    account: String,
    source: String,
    args: Vec<String>,
    password: Option<String>,
    far: bool,
}

/// The other network that [`Instance::far_network`](crate::Instance) makes, by its name in the instance.
pub(crate) const FAR: &str = "far";
/// The instance's address there.
pub(crate) const FAR_SERVER: &str = "192.0.2.1";
/// The client's address there.
pub(crate) const FAR_CLIENT: &str = "192.0.2.2";

impl<'a> Ssh<'a> {
    pub(crate) fn new(instance: &'a Instance, account: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let [_, high, middle, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let source = format!("127.{}.{}.{}", 1 + high, middle, low.max(1));
        Self { instance, account: account.to_owned(), source, args: Vec::new(), password: None, far: false }
    }

    /// Offers this key.
    pub fn key(self, key: &Key) -> Self {
        let path = key.path.display().to_string();
        self.arg("-i").arg(&path)
    }

    /// Offers the key in this security device.
    pub fn device(self, device: &Device) -> Self {
        let agent = format!("IdentityAgent={}", device.socket().display());
        self.key(device.key()).option(&agent)
    }

    /// Logs in by this key, and answers keyboard-interactive with this code.
    pub fn key_and_code(self, key: &Key, code: &str) -> Self {
        self.key(key).option("PreferredAuthentications=publickey,keyboard-interactive").password(code)
    }

    /// Logs in from this loopback address.
    pub fn from(mut self, address: &str) -> Self {
        address.clone_into(&mut self.source);
        self
    }

    /// Logs in from the other network, as from another machine.
    pub fn from_far(mut self) -> Self {
        self.far = true;
        FAR_CLIENT.clone_into(&mut self.source);
        self
    }

    /// Answers with this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds an argument of ssh(1), before the destination.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds `-o OPTION`. The first value of an option wins, and these stand before the harness's own.
    pub fn option(self, option: &str) -> Self {
        self.arg("-o").arg(option)
    }

    /// Logs in and runs `command` there; an empty one asks for a shell, which then reads end of file.
    #[must_use]
    pub fn run(&self, command: &str) -> Output {
        let shown = format!("ssh {} {}@127.0.0.1 {command}", self.args.join(" "), self.account);
        finish_within(LOGIN_LIMIT, self.command(command), &shown, b"")
    }

    /// Whether the login succeeds and runs a command.
    #[must_use]
    pub fn login(&self) -> bool {
        self.run("echo logged-in").stdout.contains("logged-in")
    }

    /// Starts a client that stays; `command` as in [`Ssh::run`], but its standard input stays open.
    #[must_use]
    pub fn spawn(&self, command: &str) -> Client {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = self.instance.scratch().join(format!("client-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let open = |name: &str| {
            let path = log.with_extension(name);
            File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut process = self.command(command);
        process.stdin(Stdio::piped()).stdout(open("out")).stderr(open("err"));
        let mut child = process.spawn().unwrap_or_else(|e| panic!("cannot start ssh: {e}"));
        let stdin = child.stdin.take();
        Client { child, stdin, log, shown: format!("ssh {}@127.0.0.1 {command}", self.account) }
    }

    /// Logs in and stays: gives the client once the login has succeeded.
    ///
    /// # Panics
    /// When it does not succeed.
    #[must_use]
    #[track_caller]
    pub fn stay(&self) -> Client {
        let mut client = self.spawn("echo logged-in; exec sleep 3600");
        let start = Instant::now();
        while !client.stdout().contains("logged-in") {
            assert!(client.is_alive() && start.elapsed() < LOGIN_LIMIT, "should be logged in:\n{}", client.output());
            thread::sleep(POLL);
        }
        client
    }

    fn command(&self, remote: &str) -> Command {
        let mut command = self.instance.client();
        let leader = self.instance.leader();
        let network = match self.far {
            true => format!("/proc/{leader}/root/run/netns/{FAR}"),
            false => format!("/proc/{leader}/ns/net"),
        };
        command.arg("nsenter").arg(format!("--net={network}")).args(["--", "ssh", "-F", "none"]);
        command.args(["-b", &self.source]).args(&self.args);
        if let Some(password) = &self.password {
            command.args([
                "-o",
                "PreferredAuthentications=password,keyboard-interactive",
                "-o",
                "NumberOfPasswordPrompts=1",
            ]);
            command.env("SSH_ASKPASS", ASKPASS).env("SSH_ASKPASS_REQUIRE", "force").env("PASSWORD", password);
        } else {
            command.args(["-o", "BatchMode=yes"]);
        }
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=20",
        ] {
            command.args(["-o", option]);
        }
        if !self.args.iter().any(|arg| arg == "-i") {
            command.args(["-o", "IdentityFile=none"]);
        }
        let server = if self.far { FAR_SERVER } else { "127.0.0.1" };
        command.arg(format!("{}@{server}", self.account));
        if !remote.is_empty() {
            command.arg(remote);
        }
        command
    }
}

/// An ssh client that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
    shown: String,
}

impl Client {
    /// Whether the client still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// What the client has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("out")
    }

    /// What the client has said on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.read("err")
    }

    /// The far side's standard input. Dropping what this returns closes it.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Waits until the client has ended by itself, and says after how long.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn ended_within(&mut self, limit: Duration) -> Duration {
        let start = Instant::now();
        eventually(&format!("has ended: {}", self.shown), limit, || !self.is_alive());
        start.elapsed()
    }

    /// Kills the client, as one whose line breaks.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All that is known of the client now; status -1 while it runs.
    #[must_use]
    pub fn output(&mut self) -> Output {
        let status = self.child.try_wait().ok().flatten().map_or(-1, status_number);
        Output { command: self.shown.clone(), status, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.log.with_extension(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}
