//! One booted instance: its life from boot to removal, and what a test may do inside it.
//!
//! An instance lives in `CACHE/instances/NAME` (overlay, scratch files, console) and in cgroups of its own. A lock on
//! `NAME/lock` says that its test is alive; what a killed test left behind is removed when the next one starts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::client::{Key, Ssh};
use crate::control_groups::{self, ControlGroups};
use crate::host::{Output, cache_dir, demand_a_fit_host, eventually, finish_within, host_command};
use crate::layers::{self, Release};
use crate::mount::{Overlay, unmount};

/// A boot takes 1 to 2 s on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// A shutdown waits for every unit to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
/// Killing a cgroup takes milliseconds, and longer while a process sits in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// What a command inside may take unless the test says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How often a boot is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of the journal is shown when a test fails.
const SHOWN_LINES: &str = "120";

/// Joins the control groups whose `cgroup.procs` come before `--`, and becomes what comes after it.
const JOIN: &str = "while [ \"$1\" != -- ]; do echo $$ >\"$1\" || exit; shift; done; shift; exec \"$@\"";

/// How an instance's control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// All in one (v2): what every release has by default.
    Unified,
    /// systemd's own in v2, the controllers in v1. Debian 12's systemd is the last that boots so by itself.
    Hybrid,
    /// v1 alone; the same.
    Legacy,
}

impl Hierarchy {
    /// For systemd-nspawn: without a word it goes by the host, and the host of these tests is hybrid or unified.
    fn variable(self) -> Option<&'static str> {
        match self {
            Self::Unified => Some("1"),
            Self::Hybrid => None,
            Self::Legacy => Some("0"),
        }
    }
}

/// A running instance. Dropping it ends everything in it and removes it.
#[derive(Debug)]
pub struct Instance {
    name: String,
    release: Release,
    hierarchy: Hierarchy,
    dir: PathBuf,
    cgroups: ControlGroups,
    overlay: Option<Overlay>,
    nspawn: Option<Child>,
    /// Process id, on the host, of the instance's PID 1.
    leader: i32,
    _alive: Flock<File>,
}

impl Instance {
    /// Boots a fresh instance of `release` with the built package installed.
    ///
    /// # Panics
    /// When the host is unfit, the package is not built, or a unit failed to start.
    #[must_use]
    pub fn boot(release: Release) -> Self {
        Self::boot_in(release, Hierarchy::Unified)
    }

    /// The same with its control groups mounted like this.
    ///
    /// # Panics
    /// As [`Instance::boot`].
    #[must_use]
    pub fn boot_in(release: Release, hierarchy: Hierarchy) -> Self {
        demand_a_fit_host();
        let layers = layers::with_package(release, &layers::built_package());
        Self::boot_layers(release, hierarchy, &layers, |_| {})
    }

    /// Boots one with people in it, after `prepare` has seen its root and the directory with their keys.
    pub(crate) fn boot_peopled(release: Release, prepare: impl FnOnce(&Self, &Path)) -> Self {
        demand_a_fit_host();
        let (layers, keys) = layers::with_people(release, &layers::built_package());
        Self::boot_layers(release, Hierarchy::Unified, &layers, |instance| prepare(instance, &keys))
    }

    /// Boots a fresh instance of `release` without the package.
    ///
    /// # Panics
    /// As [`Instance::boot`].
    #[must_use]
    pub fn boot_bare(release: Release) -> Self {
        demand_a_fit_host();
        Self::boot_layers(release, Hierarchy::Unified, &[layers::root(release)], |_| {})
    }

    fn boot_layers(release: Release, hierarchy: Hierarchy, lowers: &[PathBuf], prepare: impl FnOnce(&Self)) -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(remove_leftovers);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ld-{release}-{}-{count}", std::process::id());

        let dir = instances().join(&name);
        let alive = {
            let _no_sweep = layers::lock(&instances().join("sweep.lock"));
            fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            layers::lock(&dir.join("lock"))
        };
        let cgroups = ControlGroups::of(&name);
        let overlay = Some(Overlay::mount(&dir, lowers));
        let mut instance =
            Self { name, release, hierarchy, dir, cgroups, overlay, nspawn: None, leader: 0, _alive: alive };
        instance.spare_updates();
        prepare(&instance);
        if instance.start() != "running" {
            let failed = instance.sh("systemctl list-units --failed --plain --no-legend");
            panic!("units failed at the first boot:\n{failed}\n{}", instance.sh("journalctl -b -p err"));
        }
        instance
    }

    /// Nothing in /usr is newer than /etc and /var, so that the first boot has no catalog, cache or user to bring up to date
    /// (systemd-update-done.service(8)): what an image builder does.
    fn spare_updates(&self) {
        for place in ["/etc/.updated", "/var/.updated"] {
            File::create(self.outside(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
        }
    }

    /// Has the homes in the instance's own layer: overlayfs renames no directory that comes from one below.
    pub(crate) fn own_homes(&self) {
        let root = self.outside("/").display().to_string();
        let script = "cp -a \"$0/home\" \"$0/home.own\" && rm -r \"$0/home\" && mv \"$0/home.own\" \"$0/home\"";
        host_command(COMMAND_LIMIT, "sh", &["-c", script, &root]).expect_ok();
    }

    /// Starts nspawn on the overlay and waits until systemd inside is up: with "running", or "degraded" where a unit failed.
    fn start(&mut self) -> String {
        self.cgroups.make();
        let console =
            File::options().create(true).append(true).open(self.dir.join("console.log")).expect("own directory");
        let merged = self.overlay.as_ref().expect("mounted until dropped").path();
        let nspawn = Command::new("sh")
            .args(["-c", JOIN, "sh"])
            .args(self.cgroups.doors())
            .args(["--", "systemd-nspawn"])
            .args(["-q", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no", "--private-network"])
            .args(["--resolv-conf=off", "--timezone=off", "--hostname=web1", "-b"])
            // A machine of its own has them; nspawn alone would refuse them.
            .arg("--system-call-filter=fanotify_init fanotify_mark landlock_create_ruleset landlock_add_rule landlock_restrict_self")
            .arg(format!("--machine={}", self.name))
            .arg("-D")
            .arg(merged)
            .env_remove("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY")
            .envs(self.hierarchy.variable().map(|word| ("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", word)))
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a descriptor to spare"))
            .stderr(console)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start systemd-nspawn: {e}"));
        let nspawn = self.nspawn.insert(nspawn);

        let start = Instant::now();
        let pid = nspawn.id();
        loop {
            if let Some(leader) = leader_of(pid).filter(|leader| Path::new(&listens(*leader)).exists()) {
                self.leader = leader;
                let state = self.run_for(COMMAND_LIMIT, "systemctl is-system-running --wait", b"").stdout;
                if matches!(state.trim(), "running" | "degraded") {
                    return state.trim().to_owned();
                }
            }
            let ended = self.nspawn.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let late = start.elapsed() > BOOT_LIMIT;
            assert!(ended.is_none() && !late, "{} did not boot ({ended:?}):\n{}", self.name, self.console());
            thread::sleep(POLL);
        }
    }

    /// The release it runs.
    #[must_use]
    pub fn release(&self) -> Release {
        self.release
    }

    /// Process id, on the host, of the instance's PID 1.
    #[must_use]
    pub fn leader(&self) -> i32 {
        self.leader
    }

    /// Where, on the host, a path of the instance is.
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        self.overlay.as_ref().expect("mounted until dropped").path().join(path.trim_start_matches('/'))
    }

    /// A directory on the host for files of this test; removed with the instance.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        let dir = self.dir.join("scratch");
        fs::create_dir_all(&dir).expect("own directory");
        dir
    }

    /// Runs a shell script inside as root, whatever its status.
    #[must_use]
    pub fn run(&self, script: &str) -> Output {
        self.run_for(COMMAND_LIMIT, script, b"")
    }

    /// Runs a shell script inside as root that has to succeed, and gives its trimmed standard output.
    ///
    /// # Panics
    /// When it does not succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(script).expect_ok()
    }

    /// Runs a shell script inside as `user`, in their home.
    #[must_use]
    pub fn run_as(&self, user: &str, script: &str) -> Output {
        let enter = format!(
            "HOME=$(getent passwd {user} | cut -d: -f6); export HOME; cd \"$HOME\"; exec runuser -u {user} -- sh -c \"$(cat)\""
        );
        let output = self.run_for(COMMAND_LIMIT, &enter, script.as_bytes());
        Output { command: format!("(as {user}) {script}"), ..output }
    }

    /// Runs a shell script inside as root for at most `limit`, with `input` on its standard input.
    #[must_use]
    pub fn run_for(&self, limit: Duration, script: &str, input: &[u8]) -> Output {
        // Into the instance's own cgroups, and without the login uid of whoever runs the tests: what runs inside must
        // look to the daemon like what runs inside.
        let enter = "test -d \"$0/harness.scope\" || mkdir -p \"$0/harness.scope\"; echo $$ >\"$0/harness.scope/cgroup.procs\"; \
                     while [ \"$1\" != -- ]; do for at in \"$1/payload\" \"$1\"; do \
                     test -d \"$at\" && echo $$ >\"$at/cgroup.procs\" && break; done; shift; done; shift; \
                     echo 4294967295 >/proc/self/loginuid; exec 2>&3; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 3>&2 2>/dev/null; {enter}")]);
        command.arg(self.cgroups.unified.join("payload")).args(&self.cgroups.v1).arg("--");
        command.args(["nsenter", "-t"]);
        command.arg(self.leader.to_string()).args(["-m", "-u", "-i", "-n", "-p", "-C", "--", "/bin/sh", "-c"]);
        command.arg(format!("cd /root && {{ {script}\n}}"));
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        finish_within(limit, command, script, input)
    }

    /// Opens a login shell of root inside, on the terminal of whoever runs this, and waits for its end.
    pub fn shell(&self) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--"]);
        // script(1) gives it a terminal that exists inside.
        command.args(["env", "-i", "HOME=/root", "SHELL=/bin/bash", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.arg(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())));
        command.args(["script", "-q", "-c", "cd; exec bash -l", "/dev/null"]);
        // How a person's shell ended is their own affair.
        let _ = command.status();
    }

    /// Makes a second network with one machine in it: see [`Ssh::from_far`].
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn far_network(&self) {
        let far = crate::client::FAR;
        self.sh(&format!(
            "ip netns add {far} && ip link add near0 type veth peer name far0 netns {far} && ip address add {}/24 dev near0 && \
             ip link set near0 up && ip -n {far} address add {}/24 dev far0 && ip -n {far} link set far0 up",
            crate::client::FAR_SERVER,
            crate::client::FAR_CLIENT
        ));
    }

    /// A login to `account` with a real ssh client, to be completed and run.
    pub fn ssh(&self, account: &str) -> Ssh<'_> {
        Ssh::new(self, account)
    }

    /// Makes an ed25519 key pair on the host whose comment is `NAME@laptop`.
    #[must_use]
    pub fn keygen(&self, name: &str) -> Key {
        Key::generate(&self.scratch(), name, "ed25519")
    }

    /// Adds an account with a home and bash, whose password is unusable but which is not locked.
    pub fn useradd(&self, account: &str) {
        self.sh(&format!("useradd -m -s /bin/bash -p '*' {account}"));
    }

    /// Puts `key` into the account's `~/.ssh/authorized_keys`, as the account.
    pub fn authorize(&self, account: &str, key: &Key) {
        let script = format!("umask 077; mkdir -p .ssh; echo '{}' >>.ssh/authorized_keys", key.public());
        self.run_as(account, &script).expect_ok();
    }

    /// Writes a file inside as root, 0644, with its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let dir = Path::new(path).parent().unwrap_or(Path::new("/")).display();
        let script = format!("{{ [ -d '{dir}' ] || mkdir -p '{dir}'; }} && cat >'{path}'");
        self.run_for(COMMAND_LIMIT, &script, content.as_ref()).expect_ok();
    }

    /// Copies a file of the host to `path` inside.
    pub fn copy_in(&self, from: &Path, path: &str) {
        self.write(path, fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())));
    }

    /// Whether something, a dangling symbolic link included, is at `path` inside.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.run(&format!("test -e '{path}' || test -L '{path}'")).ok()
    }

    /// Installs a .deb of the host into the running instance with dpkg.
    pub fn install(&self, package: &Path) -> Output {
        self.copy_in(package, "/root/under-test.deb");
        self.run("DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /root/under-test.deb")
    }

    /// Everything in the journal, or with `matches` (such as `-u lockdownd`) what matches.
    #[must_use]
    pub fn journal(&self, matches: &str) -> String {
        self.sh(&format!("journalctl --no-pager -o short-precise {matches}"))
    }

    /// Every record of the ledger, in order; one that is just being written is left out.
    ///
    /// # Panics
    /// When a line is not JSON, and when there is no ledger.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        // As the instance has it mounted. Read from the host: most of what is waited for is a record.
        let ledger = PathBuf::from(format!("/proc/{}/root/var/lib/lockdownd/ledger", self.leader));
        let entries = fs::read_dir(&ledger).unwrap_or_else(|e| panic!("{}: {e}", ledger.display()));
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        assert!(!files.is_empty(), "{}: no ledger", ledger.display());
        let read = |path: &PathBuf| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let text = files.iter().flat_map(read).collect::<Vec<u8>>();
        let text = String::from_utf8_lossy(&text);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("not a record ({e}): {line}"));
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(parse).collect()
    }

    /// The records of one artifact type, in order.
    #[must_use]
    pub fn records_of(&self, artifact: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["type"] == artifact);
        records
    }

    /// Ends the instance as a power cut would, without a word to anything in it, and boots it again on the same disk.
    pub fn power_cut(&mut self) {
        for part in ["payload", "supervisor"] {
            control_groups::kill(&self.cgroups.unified.join(part));
        }
        self.reap(KILL_LIMIT);
        self.cgroups.forget_boot();
        self.start();
    }

    /// Shuts the instance down in good order and boots it again on the same disk.
    pub fn reboot(&mut self) {
        // The command may be ended by the very shutdown that it asks for.
        let _ = self.run("systemctl --no-block reboot");
        self.reap(SHUTDOWN_LIMIT);
        control_groups::kill(&self.cgroups.unified.join("payload"));
        self.cgroups.forget_boot();
        self.start();
    }

    /// Waits until nspawn has ended.
    fn reap(&mut self, limit: Duration) {
        let mut child = self.nspawn.take().expect("a started instance has its nspawn");
        eventually("systemd-nspawn has ended", limit, || child.try_wait().is_ok_and(|status| status.is_some()));
    }

    /// What the instance wrote to its console.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read_to_string(self.dir.join("console.log")).unwrap_or_default()
    }

    /// To be completed by a program, and its arguments, that runs on the host beside the instance: whatever it leaves running ends
    /// with the instance, also where the test is killed.
    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(self.cgroups.unified.join("clients"));
        command
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if thread::panicking() && self.nspawn.is_some() {
            let tail = self.run(&format!("journalctl -b --no-pager -o short-precise -n {SHOWN_LINES}"));
            eprintln!("--- the end of the journal of {}:\n{}---", self.name, tail.stdout);
        }
        control_groups::kill(&self.cgroups.unified);
        if let Some(mut child) = self.nspawn.take() {
            let _ = child.wait();
        }
        self.overlay.take();
        remove(&self.name);
    }
}

/// Where instances live.
fn instances() -> PathBuf {
    let dir = cache_dir().join("instances");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}

/// The child of nspawn that is PID 1 in a namespace of its own, if it is there yet.
fn leader_of(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let in_namespaces = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let mut ids = in_namespaces.split_whitespace();
        let (first, last) = (ids.next(), ids.next_back());
        first.is_some() && last == Some("1") && status.starts_with("Name:\tsystemd\n")
    })
}

/// The socket, as the host sees it, by which systemctl(1) inside reaches an instance's PID 1.
fn listens(leader: i32) -> String {
    format!("/proc/{leader}/root/run/systemd/private")
}

/// Removes all that is left of an instance whose processes may still run.
fn remove(name: &str) {
    let dir = instances().join(name);
    ControlGroups::of(name).remove();
    unmount(&dir.join("merged"));
    if fs::remove_dir_all(&dir).is_err() {
        // A test may have left immutable files.
        host_command(KILL_LIMIT, "chattr", &["-R", "-f", "-i", "-a", &dir.join("upper").display().to_string()]);
        let _ = fs::remove_dir_all(&dir);
    }
    let _ = fs::remove_dir_all(Path::new("/run/systemd/nspawn/propagate").join(name));
}

/// Removes instances whose test is no longer there.
pub fn remove_leftovers() {
    let _one_at_a_time = layers::lock(&instances().join("sweep.lock"));
    for entry in fs::read_dir(instances()).into_iter().flatten().flatten() {
        let Ok(file) = File::open(entry.path().join("lock")) else {
            if entry.path().is_dir() {
                remove(&entry.file_name().to_string_lossy());
            }
            continue;
        };
        if let Ok(_dead) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            remove(&entry.file_name().to_string_lossy());
        }
    }
}
