//! Finds every sshd that takes connections for this host's accounts, and how each was started.
//!
//! A command line is only read of a process that is root's by all its uids: any process may write its own, and its user
//! can make whoever reads it wait. This module must never take a connection's own process (`sshd: frank [priv]`, `sshd-session`) for a listener.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use lockdown_core::sshd_log::{IDENTIFIERS, PROGRAMS};

use crate::{
    processes::{ProcDir, Process, ProcessError, ProcessId, pids, real_uid},
    sockets::{self, Sockets},
};

/// Debian's sshd.
pub const DEFAULT_BINARY: &str = "/usr/sbin/sshd";
/// The configuration of an sshd that was started without `-f`.
pub const DEFAULT_CONFIG: &str = "/etc/ssh/sshd_config";
/// What stands for the configuration of an sshd that a user runs: its command line is not read.
const UNKNOWN: &str = "unknown";
/// Options of sshd(8) that take a value, over all releases since 8.4.
const WITH_VALUE: &[u8] = b"CEbcfghkopu";
/// Where an enabled socket unit that starts sshd on demand is linked.
const SOCKET_WANTS: [&str; 3] = [
    "/etc/systemd/system/sockets.target.wants",
    "/run/systemd/system/sockets.target.wants",
    "/run/systemd/generator/sockets.target.wants",
];

/// SIGHUP among the signals of `/proc/PID/status`: the lowest bit is signal 1.
const SIGHUP: u64 = 1;

/// How an sshd is started: all that decides which configuration it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invocation {
    /// The program file.
    pub binary: PathBuf,
    /// The configuration file, from `-f` or the default.
    pub config_file: PathBuf,
    /// Each `-o` option's value, in order: they come before the file's.
    pub options: Vec<String>,
    /// Each `-p` port, in order.
    pub ports: Vec<u16>,
    /// The name it was called by, without directories: the PAM service's name before OpenSSH 9.8, and what it logs as.
    pub service_name: String,
    /// The option that keeps what it logs out of syslog: `-E FILE`, `-e`, `-d`, `-q`.
    pub log_option: Option<String>,
}

impl Invocation {
    /// What Debian's own unit starts.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            binary: DEFAULT_BINARY.into(),
            config_file: DEFAULT_CONFIG.into(),
            options: Vec::new(),
            ports: Vec::new(),
            service_name: "sshd".into(),
            log_option: None,
        }
    }

    /// What about the way it is started keeps its log from who looks for sshd's lines in the journal.
    #[must_use]
    pub fn unlogged(&self) -> Option<String> {
        if let Some(option) = &self.log_option {
            return Some(format!("the option {option}"));
        }
        if self.service_name != IDENTIFIERS[0] {
            return Some(format!("its being called {}", record::escape(self.service_name.as_bytes())));
        }
        let is_known = PROGRAMS.iter().any(|known| self.binary == Path::new(known));
        (!is_known).then(|| format!("its being another program, {},", self.binary.display()))
    }
}

/// One sshd that takes connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its process; `None` when systemd holds the socket and starts sshd when somebody connects.
    pub process: Option<ProcessId>,
    /// Real uid. An sshd that is not root's can only let people in as the user who runs it, past every gate.
    pub uid: u32,
    /// How it was started.
    pub invocation: Invocation,
    /// Whether the command line could be read without doubt. When false, the invocation is a guess.
    pub certain: bool,
    /// Whether it has a root directory of its own, as in a chroot: where its files lead from here is not known, and its
    /// accounts may well be this host's.
    pub elsewhere: bool,
}

impl Listener {
    /// How a person would name it.
    #[must_use]
    pub fn title(&self) -> String {
        let Invocation { binary, config_file, .. } = &self.invocation;
        match self.process {
            Some(id) if self.uid != 0 => format!("{} (process {})", binary.display(), id.pid),
            Some(id) => format!("{} (process {}, {})", binary.display(), id.pid, config_file.display()),
            None => format!("{} (started on demand, {})", binary.display(), config_file.display()),
        }
    }
}

/// Every listener: running ones, whatever their name, port or file, also those that users run; and one that is not
/// running, where systemd's socket would start it or where nothing runs at all. Those of containers are left out: their
/// accounts are not this host's; and those in other root directories, which [`elsewhere`] tells.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn sshd_listeners() -> Result<Vec<Listener>, ProcessError> {
    let mut found: Vec<Listener> = running()?.into_iter().filter(|listener| !listener.elsewhere).collect();
    let standard = Invocation::standard();
    let runs_standard = found.iter().any(|l| l.uid == 0 && l.invocation.config_file == standard.config_file);
    let none_of_root = !found.iter().any(|l| l.uid == 0);
    if Path::new(DEFAULT_BINARY).exists() && (none_of_root || (!runs_standard && has_socket_unit())) {
        found.push(Listener { process: None, uid: 0, invocation: standard, certain: true, elsewhere: false });
    }
    Ok(found)
}

/// Every running listener whose root directory is another than this host's and who is in no container.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn elsewhere() -> Result<Vec<Listener>, ProcessError> {
    Ok(running()?.into_iter().filter(|listener| listener.elsewhere).collect())
}

fn running() -> Result<Vec<Listener>, ProcessError> {
    let (all, mut sockets) = (pids()?, Sockets::default());
    Ok(all.into_iter().filter_map(|pid| listener(pid, &mut sockets)).collect())
}

/// The running listeners of root's sshds alone. What others run is hardly looked at, so that nobody with thousands of
/// processes makes this slow.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn running_as_root() -> Result<Vec<Listener>, ProcessError> {
    let of_root: Vec<i32> = pids()?.into_iter().filter(|pid| real_uid(*pid) == Some(0)).collect();
    let mut sockets = Sockets::default();
    let listeners = of_root.into_iter().filter_map(|pid| listener(pid, &mut sockets));
    Ok(listeners.filter(|listener| listener.uid == 0).collect())
}

/// The inodes of every TCP socket that listens in this host's network; `None` where its tables cannot be read.
#[must_use]
pub fn listening_here() -> Option<BTreeSet<Vec<u8>>> {
    let first = ProcDir::open(1)?;
    let mut found = BTreeSet::new();
    // Without IPv6 there is no table of it.
    let tables = [first.read_whole("net/tcp")?, first.read_whole("net/tcp6").unwrap_or_default()];
    tables.iter().for_each(|table| found.extend(listening(table).map(<[u8]>::to_vec)));
    Some(found)
}

/// Whether this process holds a listening socket; `None` when we may not look. Whoever looks at many hands on what was read of
/// `sockets`.
#[must_use]
pub fn is_listening(id: ProcessId, sockets: &mut Sockets) -> Option<bool> {
    listening_among(id, sockets).map(|listening| !listening.is_empty())
}

/// The inodes of this process's listening sockets; `None` when we may not look, or it is gone.
#[must_use]
pub fn listening_sockets(id: ProcessId) -> Option<BTreeSet<Vec<u8>>> {
    listening_among(id, &mut Sockets::default())
}

fn listening_among(id: ProcessId, sockets: &mut Sockets) -> Option<BTreeSet<Vec<u8>>> {
    let dir = ProcDir::open(id.pid)?;
    let held = sockets::held_by(&dir)?;
    let network = sockets.of(&dir);
    Some(held.into_iter().filter(|inode| network.listens(inode)).collect())
}

/// Whether it has a handler for SIGHUP: an sshd that is just reading its configuration ignores one that comes then.
#[must_use]
pub fn heeds_sighup(id: ProcessId) -> bool {
    let dir = ProcDir::open(id.pid).filter(|dir| dir.is(id));
    dir.and_then(|dir| caught(&dir.read("status")?)).is_some_and(|signals| signals & SIGHUP != 0)
}

/// The signals that have a handler, by the text of `/proc/PID/status`.
fn caught(status: &[u8]) -> Option<u64> {
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"SigCgt:"))?;
    u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

fn listener(pid: i32, sockets: &mut Sockets) -> Option<Listener> {
    let process = Process::read(pid)?;
    let root = [process.uid, process.euid, process.suid] == [0; 3];
    let called = match root {
        true => read_title(&process.command_line_of_root()?),
        false => Called::Others,
    };
    let is_sshd = process.exe.as_deref().and_then(Path::file_name).map(|name| name == "sshd");
    let looks = match &called {
        Called::Listener { .. } => true,
        Called::Plain { daemon: false, .. } => false,
        Called::Plain { .. } | Called::Others => is_sshd == Some(true) || process.comm == "sshd",
        Called::Connection => return None,
    };
    // A title alone proves nothing; a socket does. Where we may not look (is_listening is None), the title has to do.
    if !looks || is_listening(process.id, sockets) == Some(false) {
        return None;
    }
    let place = place_of(pid)?;
    let (name, args, certain) = match called {
        Called::Listener { name, args, certain } | Called::Plain { name, args, certain, .. } => (name, args, certain),
        Called::Others => (process.comm.clone(), Vec::new(), false),
        Called::Connection => return None,
    };
    let binary = process.exe.clone().unwrap_or_else(|| DEFAULT_BINARY.into());
    let (mut invocation, understood) = invocation(binary, name, &args);
    if !root {
        invocation.config_file = UNKNOWN.into();
    }
    // A program that a user runs set-user-id is root's by its effective uid, and the user's all the same.
    let uid = if root { 0 } else { process.uid.max(process.euid).max(process.suid) };
    let elsewhere = place == Place::Elsewhere;
    Some(Listener { process: Some(process.id), uid, invocation, certain: certain && understood, elsewhere })
}

/// What a command line says its process is.
#[derive(Debug, PartialEq, Eq)]
enum Called {
    /// `sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`
    Listener { name: String, args: Vec<String>, certain: bool },
    /// As it was started, before sshd sets its title, or with a title cut short.
    Plain { name: String, args: Vec<String>, daemon: bool, certain: bool },
    /// `sshd: frank [priv]`, or one that serves the connection on its standard input.
    Connection,
    /// Not read: it is a user's.
    Others,
}

fn read_title(cmdline: &[std::ffi::OsString]) -> Called {
    let lossy = |arg: &OsStr| String::from_utf8_lossy(arg.as_bytes()).into_owned();
    let Some(first) = cmdline.first() else { return Called::Connection };
    let title = lossy(first);
    if cmdline.iter().skip(1).all(|arg| arg.is_empty())
        && let Some((name, rest)) = title.split_once(": ")
    {
        // The kernel's title has the arguments joined by single blanks: one with a blank in it has to be pieced together.
        let Some((command, _)) = rest.rsplit_once(" [listener] ") else { return Called::Connection };
        let mut args = command.split(' ').map(str::to_owned);
        args.next();
        return Called::Listener { name: name.to_owned(), args: args.collect(), certain: true };
    }
    let certain = cmdline.iter().all(|arg| arg.to_str().is_some());
    let args: Vec<String> = cmdline.iter().skip(1).map(|arg| lossy(arg)).collect();
    let flags = |flag: u8| args.iter().any(|arg| is_flag(arg, flag));
    if flags(b'R') || flags(b'i') {
        return Called::Connection;
    }
    let name = title.rsplit('/').next().unwrap_or_default().trim_end_matches(':').to_owned();
    // `-t`, `-T` and the like only print and end.
    Called::Plain { name, daemon: !flags(b't') && !flags(b'T') && !flags(b'G') && !flags(b'V'), args, certain }
}

/// Whether an argument is a cluster of options that has this one before any that takes a value.
fn is_flag(arg: &str, flag: u8) -> bool {
    let Some(cluster) = arg.strip_prefix('-') else { return false };
    cluster.bytes().take_while(|b| !WITH_VALUE.contains(b)).any(|b| b == flag)
}

/// Reads sshd's arguments as getopt(3) does; false when something was left over that cannot be placed.
pub(super) fn invocation(binary: PathBuf, name: String, args: &[String]) -> (Invocation, bool) {
    let mut values: Vec<(u8, String)> = Vec::new();
    let (mut understood, mut silent) = (true, None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !cluster.is_empty()) else {
            // sshd refuses arguments that are not options, so this is the rest of a value that had a blank in it.
            match values.last_mut() {
                Some((_, value)) => *value = format!("{value} {arg}"),
                None => understood = false,
            }
            continue;
        };
        silent =
            b"edq".iter().find(|flag| is_flag(arg, **flag)).map(|flag| format!("-{}", char::from(*flag))).or(silent);
        let Some(at) = cluster.bytes().position(|b| WITH_VALUE.contains(&b)) else { continue };
        let option = cluster.as_bytes()[at];
        let value = match &cluster[at + 1..] {
            "" => rest.next().cloned().unwrap_or_default(),
            attached => attached.to_owned(),
        };
        values.push((option, value));
    }
    let all = |option: u8| values.iter().filter(move |(o, _)| *o == option).map(|(_, value)| value.clone());
    let config_file = all(b'f').next_back().unwrap_or_else(|| DEFAULT_CONFIG.into());
    // sshd has gone to `/` since: where a relative name led cannot be told.
    understood &= config_file.starts_with('/');
    let ports = all(b'p').filter_map(|port| port.parse().ok()).collect();
    let log_option = all(b'E').next_back().map(|file| format!("-E {file}")).or(silent);
    let (config_file, options) = (config_file.into(), all(b'o').collect());
    (Invocation { binary, config_file, options, ports, service_name: name, log_option }, understood)
}

/// Where a process sees its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Elsewhere,
}

/// Where a listener is; `None` for a container's, which has namespaces of its own besides another root directory, that of
/// the network too: what listens on this host's own addresses is this host's.
fn place_of(pid: i32) -> Option<Place> {
    let differs = |name: &str| {
        let node = |pid: i32| ProcDir::open(pid).and_then(|dir| dir.node(name));
        matches!((node(pid), node(1)), (Some(theirs), Some(ours)) if theirs != ours)
    };
    match (differs("root"), ["ns/pid", "ns/mnt", "ns/net"].into_iter().all(differs)) {
        (false, _) => Some(Place::Here),
        (true, false) => Some(Place::Elsewhere),
        (true, true) => None,
    }
}

fn has_socket_unit() -> bool {
    socket_units().any(|name| name.starts_with("ssh"))
}

/// Whether systemd itself listens for Debian's sshd and starts it when somebody connects (`ssh.socket`).
#[must_use]
pub fn is_started_on_demand() -> bool {
    socket_units().any(|name| matches!(name.as_str(), "ssh.socket" | "sshd.socket"))
}

/// Every socket unit that is enabled, by its name.
pub(super) fn socket_units() -> impl Iterator<Item = String> {
    let entries = SOCKET_WANTS.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(".socket"))
}

/// The inodes of listening sockets in `/proc/net/tcp` or `tcp6` (state `0A`).
fn listening(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table.split(|b| *b == b'\n').skip(1).filter_map(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let state = fields.nth(3)?;
        (state == b"0A").then(|| fields.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use std::ffi::OsString;

    fn called(args: &[&str]) -> Called {
        read_title(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn started(args: &[&str]) -> (Invocation, bool) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        invocation("/usr/sbin/sshd".into(), "sshd".into(), &args)
    }

    #[test]
    fn a_listeners_title_gives_its_arguments_back() {
        let title = "oursshd: /opt/oursshd -D -f /etc/ssh/other -o UsePAM=no [listener] 0 of 10-100 startups";
        let args = ["-D", "-f", "/etc/ssh/other", "-o", "UsePAM=no"].map(str::to_owned).to_vec();
        let expected = Called::Listener { name: "oursshd".into(), args, certain: true };
        assert_eq!(called(&[title]), expected);
        assert!(matches!(called(&[title, "", ""]), Called::Listener { .. }), "padded with NULs");
    }

    #[test]
    fn a_connections_processes_are_no_listeners() {
        for title in ["sshd: frank [priv]", "sshd: frank@pts/0", "sshd: [accepted]", "sshd-session: frank [priv]"] {
            assert_eq!(called(&[title]), Called::Connection, "{title}");
        }
        assert_eq!(called(&["/usr/sbin/sshd", "-D", "-R"]), Called::Connection);
        assert_eq!(called(&["/usr/sbin/sshd", "-i"]), Called::Connection);
        assert_eq!(called(&[]), Called::Connection);
    }

    #[test]
    fn an_sshd_that_has_no_title_yet_is_read_from_its_arguments() {
        let args = ["-D", "-oInclude=/x"].map(str::to_owned).to_vec();
        let expected = Called::Plain { name: "sshd".into(), args, daemon: true, certain: true };
        assert_eq!(called(&["/usr/sbin/sshd", "-D", "-oInclude=/x"]), expected);
        assert!(matches!(called(&["/usr/sbin/sshd", "-T"]), Called::Plain { daemon: false, .. }));
        assert!(matches!(called(&["/usr/sbin/sshd", "-ddt"]), Called::Plain { daemon: false, .. }));
    }

    #[test]
    fn arguments_are_read_as_getopt_does() {
        let (read, understood) = started(&["-De", "-p2222", "-p", "2223", "-f/x", "-o", "A", "b", "-oC=d", "-f", "/y"]);
        assert!(understood);
        assert_eq!(read.ports, [2222, 2223]);
        assert_eq!(read.config_file, Path::new("/y"));
        assert_eq!(read.options, ["A b", "C=d"], "a value's blank was put back");
        assert!(!started(&["-f", "relative"]).1);
        assert!(!started(&["stray"]).1);
        assert_eq!(started(&[]).0.config_file, Path::new(DEFAULT_CONFIG));
    }

    #[test]
    fn what_keeps_a_log_out_of_the_journal_is_told() {
        let unlogged = |args: &[&str]| started(args).0.unlogged();
        assert_eq!(unlogged(&["-D", "-f/etc/ssh/equal", "-o", "LogLevel=QUIET"]), None, "that is asked of sshd itself");
        assert_eq!(unlogged(&["-D", "-E", "/var/log/odd"]).as_deref(), Some("the option -E /var/log/odd"));
        assert_eq!(unlogged(&["-De"]).as_deref(), Some("the option -e"));
        assert_eq!(unlogged(&["-q", "-p22"]).as_deref(), Some("the option -q"));
        let called = |binary: &str, name: &str| invocation(binary.into(), name.into(), &[]).0.unlogged();
        assert!(called("/usr/sbin/sshd", "oursshd").is_some() && called("/opt/sshd", "sshd").is_some());
        assert_eq!(called("/usr/sbin/sshd", "sshd"), None);
    }

    #[test]
    fn listening_sockets_are_found_in_the_kernels_tables() {
        let tcp =
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
            1: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n";
        assert_eq!(listening(tcp).collect::<Vec<_>>(), [b"4711"]);
    }

    #[test]
    fn whether_a_process_heeds_sighup_is_read_from_its_status() {
        let status = |bits: &str| format!("SigIgn:\t0000000000000001\nSigCgt:\t{bits}\n");
        assert_eq!(caught(status("0000000180014005").as_bytes()), Some(0x1_8001_4005));
        assert_eq!((caught(b"SigIgn:\t0000000000000001\n"), caught(status("x").as_bytes())), (None, None));
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", "trap : HUP; echo; read _"]);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let said = std::io::Read::read(&mut child.stdout.take().expect("piped"), &mut [0]);
        let id = |pid: u32| crate::processes::identity(i32::try_from(pid).expect("a pid")).expect("it runs");
        assert!(said.is_ok() && heeds_sighup(id(child.id())) && !heeds_sighup(id(std::process::id())));
        let _ = child.kill();
        let _ = child.wait();
    }

    #[test]
    fn a_real_listening_socket_is_seen() {
        let own = crate::processes::identity(i32::try_from(std::process::id()).expect("a pid")).expect("myself");
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        assert_eq!(is_listening(own, &mut Sockets::default()), Some(true));
        drop(socket);
    }
}
