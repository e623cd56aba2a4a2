//! SSH servers other than those that lockdown-host's `sshd` knows: whatever listens and has a program that can greet as one.
//!
//! A program is known by its name, or by the greeting in it (RFC 4253, section 4.2). One that is interpreted (a script)
//! cannot be told from any other program of its language.

use std::{collections::HashSet, io::Read, path::Path, time::Duration};

use lockdown_core::policy::ways_in::OtherServer;
use lockdown_host::{
    listening,
    processes::Process,
    programs::{Bounds, Programs},
    sshd::{
        listener::{self, Listener},
        units::OnDemand,
    },
};
use memchr::memmem;

/// Programs that are SSH servers, by name.
const NAMES: [&str; 9] =
    ["dropbear", "dropbearmulti", "tinysshd", "lshd", "wolfsshd", "teleport", "tailscaled", "openssh-server", "sshd"];
/// What an SSH server says first, as it stands in a program: this, and one of these.
const GREETING: &[u8] = b"SSH-";
const VERSIONS: [&[u8]; 2] = [b"2.0-", b"%d.%d-"];
/// Programs of OpenSSH's that greet, and listen only for what somebody let in forwards.
const NO_SERVERS: [&str; 4] =
    ["/usr/bin/ssh", "/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth", listener::DEFAULT_BINARY];
/// How much of programs is looked through in one go.
const BOUNDS: Bounds = Bounds { program: 96 << 20, programs: 512, user: 192 << 20, time: Duration::from_secs(5) };
/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// Every other server: running ones, and those that a socket unit would start.
pub(crate) fn find(known: &[Listener], on_demand: &[OnDemand], unseen: &mut Vec<String>) -> Vec<OtherServer> {
    let known: HashSet<i32> = known.iter().filter_map(|listener| listener.process).map(|id| id.pid).collect();
    let (all, too_many) = listening::everybody().unwrap_or_else(|error| {
        unseen.push(format!("who listens on this host cannot be told: {error}"));
        (Vec::new(), false)
    });
    if too_many {
        unseen
            .push(format!("more than {} processes: not all were looked at for SSH servers", listening::MAX_PROCESSES));
    }
    let mut programs = Programs::new(BOUNDS);
    let mut found = Vec::new();
    let mut listening: Vec<_> = all
        .into_iter()
        .filter(|process| process.pid != 1 && !known.contains(&process.pid))
        .filter_map(|mut process| {
            // Who reaches a local socket is in already; those that lead to an sshd are systemd's.
            process.at.retain(|at| !at.starts_with(['/', '@']));
            let read = Process::read(process.pid).filter(|_| !process.at.is_empty())?;
            Some((process, read))
        })
        .collect();
    // What others run must not use up the time for root's.
    listening.sort_by_key(|(_, read)| read.uid);
    for (process, read) in listening {
        let Some(exe) = read.exe.as_deref() else { continue };
        if !is_server(&mut programs, &read, exe) {
            continue;
        }
        let program = record::outside(exe.as_os_str().as_encoded_bytes());
        let unit = read.cgroup.as_ref().and_then(|cgroup| unit_of(&cgroup.path));
        found.push(OtherServer {
            program,
            pid: Some(process.pid),
            uid: read.uid.max(read.euid),
            listens: process.at,
            unit,
        });
    }
    if programs.left_out() > 0 {
        unseen.push(format!(
            "{} programs that listen were not looked at for SSH servers: too many, or too large",
            programs.left_out()
        ));
    }
    let waiting = on_demand.iter().filter(|unit| unit.sshd.is_none() && is_named(&unit.program));
    found.extend(waiting.map(|unit| OtherServer {
        program: unit.program.display().to_string(),
        pid: None,
        uid: 0,
        listens: unit.listens.clone(),
        unit: Some(unit.unit.clone()),
    }));
    found
}

fn is_server(programs: &mut Programs, process: &Process, exe: &Path) -> bool {
    if NO_SERVERS.iter().any(|known| exe == Path::new(known)) {
        return false;
    }
    is_named(exe) || programs.is(process.id.pid, process.uid, greets)
}

fn is_named(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| NAMES.contains(&name))
}

/// Whether a greeting stands anywhere in a program.
fn greets(program: &mut impl Read) -> bool {
    let longest = GREETING.len() + VERSIONS.iter().map(|version| version.len()).max().unwrap_or(0);
    let finder = memmem::Finder::new(GREETING);
    let mut window = Vec::with_capacity(CHUNK + longest);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match program.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        window.extend_from_slice(&chunk[..count]);
        let has_version = |at: usize| VERSIONS.iter().any(|version| window[at + GREETING.len()..].starts_with(version));
        if finder.find_iter(&window).any(has_version) {
            return true;
        }
        // One that is cut in two by the end of the chunk.
        window.drain(..window.len().saturating_sub(longest));
    }
}

/// The service that a control group belongs to; none for a login's session.
fn unit_of(cgroup: &str) -> Option<String> {
    let last = cgroup.rsplit('/').next()?;
    (last.ends_with(".service") && !cgroup.contains("/user.slice/")).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_found_wherever_it_stands() {
        for before in [0, 1, CHUNK - 4, CHUNK - 1, CHUNK, 3 * CHUNK - 5] {
            let mut program = vec![b'x'; before];
            program.extend_from_slice(b"SSH-2.0-dropbear");
            assert!(greets(&mut program.as_slice()), "{before}");
        }
        assert!(greets(&mut b"..SSH-%d.%d-%.100s".as_slice()));
        assert!(!greets(&mut b"SSH-1.99-old SSH-2.0".as_slice()));
    }

    #[test]
    fn a_unit_is_told_from_a_session() {
        assert_eq!(unit_of("/system.slice/dropbear.service").as_deref(), Some("dropbear.service"));
        assert_eq!(unit_of("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service"), None);
        assert_eq!(unit_of("/user.slice/user-1000.slice/session-3.scope"), None);
    }
}
