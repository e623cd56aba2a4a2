//! SSH servers that ordinary users run for themselves: found and ended by what the kernel says of processes alone.
//!
//! What such a server logs, or calls itself, proves nothing: its user can make it say anything, in anybody's name. It is
//! known by its program: one of OpenSSH's where the distribution has it, or, where it listens, a file that has in it what
//! only OpenSSH's server has, by whatever name (a copy). Other servers, and a copy that was edited, are not told from any
//! other program here. Nothing is ever ended but processes of the very user.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use lockdown_core::sshd_log::PROGRAMS;
use memchr::memmem;
use rustix::process::Signal;

use super::{
    processes::{Handle as _, ProcDir, Process, ProcessError, ProcessId, children, identity, pids, real_uid},
    programs::{Bounds, Programs},
    sockets::Sockets,
    sshd::listener,
    ways_in,
};

/// What stands in the program of OpenSSH's server alone: how its listener titles itself.
const LISTENERS_TITLE: &[u8] = b"[listener] %d of %d-%d startups";
/// How much of programs is looked through in one look; Debian's sshd has one to two million bytes.
const BOUNDS: Bounds = Bounds { program: 16 << 20, programs: 128, user: 64 << 20, time: Duration::from_secs(1) };
/// The most processes that are ended below one server in one look; the next look takes the others.
const MAX_ENDED: usize = 4_096;

/// A process that is an ordinary user's own SSH server, or serves a connection of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which.
    pub id: ProcessId,
    /// Whose: its real user id.
    pub uid: u32,
    /// Its program.
    pub program: PathBuf,
}

/// What was ended of one user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// One of their servers.
    pub server: Server,
    /// How many processes were killed, those below the servers included.
    pub killed: usize,
    /// Why some could not be, the last time.
    pub failed: Option<String>,
}

/// Ends every ordinary user's own SSH server and what runs below it, but those of these users; what was ended, by user, and
/// whether programs were left out.
/// Looks through all of `/proc`: never on the main thread.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn end_all(spared: &BTreeSet<u32>) -> Result<(Vec<Ended>, bool), ProcessError> {
    let users = pids()?.into_iter().filter(|pid| real_uid(*pid).is_some_and(|uid| uid != 0 && !spared.contains(&uid)));
    let runs_installed = |pid: &i32| {
        ProcDir::open_living(*pid)
            .and_then(|dir| dir.link("exe"))
            .is_some_and(|program| is_installed(Path::new(&program)))
    };
    // What its path tells is ended first: it must not wait until everybody's programs have been looked through.
    let (installed, mut others): (Vec<i32>, Vec<i32>) = users.partition(runs_installed);
    // Each look begins elsewhere, so that nobody's programs are always the ones that are left out.
    let begin = usize::try_from(super::random()).unwrap_or_default().checked_rem(others.len()).unwrap_or_default();
    others.rotate_left(begin);
    let (mut programs, mut sockets) = (Programs::new(BOUNDS), Sockets::default());
    let mut ended: BTreeMap<u32, Ended> = BTreeMap::new();
    for pid in installed.into_iter().chain(others) {
        let Some(server) = server(pid, &mut programs, &mut sockets) else { continue };
        let outcome = end(&server);
        let entry = ended.entry(server.uid).or_insert(Ended { server, killed: 0, failed: None });
        match outcome {
            Ok(killed) => entry.killed += killed,
            Err(error) => entry.failed = Some(error.to_string()),
        }
    }
    if programs.left_out() > 0 {
        tracing::warn!(
            left_out = programs.left_out(),
            "programs that users listen with were not looked at for SSH servers: too many, or too large"
        );
    }
    // What had ended by itself before we came was not ended by us.
    let ended = ended.into_values().filter(|ended| ended.killed > 0 || ended.failed.is_some()).collect();
    Ok((ended, programs.left_out() > 0))
}

fn server(pid: i32, programs: &mut Programs, sockets: &mut Sockets) -> Option<Server> {
    let dir = ProcDir::open_living(pid)?;
    let program = dir.link("exe")?;
    let installed = is_installed(Path::new(&program));
    let id = identity(pid)?;
    let listens = listener::is_listening(id, sockets) == Some(true);
    if !(installed || listens && programs.is(pid, real_uid(pid)?, is_openssh)) || in_container(&dir) {
        return None;
    }
    let process = Process::read(pid).filter(|process| process.id == id && process.uid != 0)?;
    if serves_roots(&process, listens) || ways_in::is_the_surveys(&process) {
        return None;
    }
    Some(Server { id, uid: process.uid, program: process.exe? })
}

fn is_installed(program: &Path) -> bool {
    PROGRAMS.iter().any(|known| program == Path::new(known))
}

/// Whether this is root's sshd at work for an account: its child, or the file transfer that this forks from itself. A
/// server that somebody starts in the place of their login shell is below such a child too, and listens.
fn serves_roots(process: &Process, listens: bool) -> bool {
    let alike = |one: &Process, other: &Process| {
        let of = |process: &Process| process.exe.as_deref().is_some_and(is_installed);
        one.exe == other.exe || (of(one) && of(other))
    };
    let Some(parent) = Process::read(process.ppid).filter(|parent| alike(parent, process)) else { return false };
    if parent.uid == 0 {
        return true;
    }
    let above = || Process::read(parent.ppid).is_some_and(|above| above.uid == 0 && alike(&above, &parent));
    !listens && parent.exe == process.exe && above()
}

/// Whether a process is a container's: its accounts are not this host's, nor are the addresses it listens on. Any user can
/// have all of these but cannot be reached from outside by them.
fn in_container(dir: &ProcDir) -> bool {
    let differs = |name: &str| ProcDir::open(1).and_then(|first| first.node(name)) != dir.node(name);
    ["ns/pid", "ns/mnt", "ns/net", "root"].into_iter().all(differs)
}

fn is_openssh(file: &mut impl Read) -> bool {
    let mut program = Vec::new();
    file.read_to_end(&mut program).is_ok() && has_title(&program)
}

fn has_title(program: &[u8]) -> bool {
    memmem::find(program, LISTENERS_TITLE).is_some()
}

/// Ends one server and what runs below it, as far as it is the same user's; how many processes.
fn end(server: &Server) -> Result<usize, ProcessError> {
    let is_theirs = |id: ProcessId| {
        Process::read(id.pid).is_some_and(|now| now.id == id && now.uid == server.uid && now.euid == server.uid)
    };
    let (mut stopped, mut waiting) = (Vec::new(), vec![server.id]);
    while let Some(id) = waiting.pop().filter(|_| stopped.len() < MAX_ENDED) {
        let Some(handle) = id.open()?.filter(|_| is_theirs(id)) else { continue };
        // One with a signal waiting cannot fork: whom it has forked by now is all.
        handle.signal(Signal::STOP)?;
        waiting.extend(children(id.pid).into_iter().filter_map(identity));
        stopped.push(handle);
    }
    let mut killed = 0;
    for handle in stopped {
        killed += usize::from(handle.signal(Signal::KILL)?);
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssh_is_known_by_its_title_wherever_that_stands() {
        for before in [0, 1, 70_000] {
            let mut program = vec![b'x'; before];
            program.extend_from_slice(b"\0%s [listener] %d of %d-%d startups\0");
            assert!(has_title(&program), "{before}");
        }
        assert!(!has_title(b"SSH-2.0-Go sshd: /usr/sbin/sshd [listener] 0 of 10-100 startups"));
    }

    #[test]
    fn only_the_installed_programs_count_by_their_path() {
        assert!(is_installed(Path::new("/usr/sbin/sshd")) && is_installed(Path::new("/usr/lib/openssh/sshd-session")));
        assert!(!is_installed(Path::new("/home/grace/usr/sbin/sshd")) && !is_installed(Path::new("/usr/bin/ssh")));
    }

    #[test]
    fn a_server_ends_with_what_is_below_it_and_nobody_elses_processes() {
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg("(sleep 61 & sleep 62) & sleep 63; true")
            .spawn()
            .expect("a shell");
        let eventually = |holds: &dyn Fn() -> bool| {
            (0..600).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                holds()
            })
        };
        let id = identity(i32::try_from(child.id()).expect("a pid")).expect("running");
        let tree = || super::super::processes::descendants(id.pid).expect("a tree");
        assert!(eventually(&|| tree().len() >= 3), "{:?}", tree());
        let below = tree();
        let own = Process::read(id.pid).expect("running").uid;
        let server = |uid| Server { id, uid, program: "/bin/sh".into() };
        assert_eq!(end(&server(own + 1)).expect("looked at"), 0, "another's");
        assert!(id.is_alive());
        assert_eq!(end(&server(own)).expect("an end"), below.len() + 1);
        child.wait().expect("reaped");
        assert!(eventually(&|| below.iter().all(|id| !id.is_alive())));
    }
}
