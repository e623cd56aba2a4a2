//! SSH servers other than those that `host::sshd` knows: whatever listens and has a program that can greet as one.
//!
//! A program is known by its name, or by the greeting in it (RFC 4253, section 4.2). One that is interpreted (a script)
//! cannot be told from any other program of its language.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::{
    host::{
        listening,
        processes::Process,
        sshd::{
            listener::{self, Listener},
            units::OnDemand,
        },
    },
    policy::ways_in::OtherServer,
};

/// Programs that are SSH servers, by name.
const NAMES: [&str; 9] =
    ["dropbear", "dropbearmulti", "tinysshd", "lshd", "wolfsshd", "teleport", "tailscaled", "openssh-server", "sshd"];
/// What an SSH server says first, as it stands in a program.
const GREETINGS: [&[u8]; 2] = [b"SSH-2.0-", b"SSH-%d.%d-"];
/// Programs of OpenSSH's that greet, and listen only for what somebody let in forwards.
const NO_SERVERS: [&str; 4] =
    ["/usr/bin/ssh", "/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth", listener::DEFAULT_BINARY];
/// The most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 96 * 1024 * 1024;
/// The most different programs that are looked through in one go.
const MAX_PROGRAMS: usize = 512;
/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// Every other server: running ones, and those that a socket unit would start.
pub(super) fn find(known: &[Listener], on_demand: &[OnDemand], unseen: &mut Vec<String>) -> Vec<OtherServer> {
    let known: HashSet<i32> = known.iter().filter_map(|listener| listener.process).map(|id| id.pid).collect();
    let (all, too_many) = listening::everybody().unwrap_or_else(|error| {
        unseen.push(format!("who listens on this host cannot be told: {error}"));
        (Vec::new(), false)
    });
    if too_many {
        unseen
            .push(format!("more than {} processes: not all were looked at for SSH servers", listening::MAX_PROCESSES));
    }
    let mut programs = Programs::default();
    let mut found = Vec::new();
    for mut process in all.into_iter().filter(|process| process.pid != 1 && !known.contains(&process.pid)) {
        // Who reaches a local socket is in already; those that lead to an sshd are systemd's.
        process.at.retain(|at| !at.starts_with(['/', '@']));
        if process.at.is_empty() {
            continue;
        }
        let Some(read) = Process::read(process.pid) else { continue };
        let Some(exe) = read.exe.as_deref() else { continue };
        if !programs.is_server(process.pid, exe) {
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
    if programs.left_out > 0 {
        unseen.push(format!("{} programs that listen were not looked at for SSH servers: too many", programs.left_out));
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

/// Which programs were found to be servers, by device and inode.
#[derive(Default)]
struct Programs {
    seen: HashMap<(u64, u64), bool>,
    left_out: usize,
}

impl Programs {
    fn is_server(&mut self, pid: i32, exe: &Path) -> bool {
        if NO_SERVERS.iter().any(|known| exe == Path::new(known)) {
            return false;
        }
        if is_named(exe) {
            return true;
        }
        // The very file that runs, whatever stands at its path now.
        let Ok(mut file) = File::open(format!("/proc/{pid}/exe")) else { return false };
        let Ok(meta) = file.metadata() else { return false };
        let key = (meta.dev(), meta.ino());
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        if self.seen.len() >= MAX_PROGRAMS {
            self.left_out += 1;
            return false;
        }
        let greets = greets(&mut (&mut file).take(MAX_PROGRAM));
        self.seen.insert(key, greets);
        greets
    }
}

fn is_named(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| NAMES.contains(&name))
}

/// Whether a greeting stands anywhere in a program.
fn greets(program: &mut impl Read) -> bool {
    let longest = GREETINGS.iter().map(|greeting| greeting.len()).max().unwrap_or(0);
    let mut window = Vec::with_capacity(CHUNK + longest);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match program.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        window.extend_from_slice(&chunk[..count]);
        if GREETINGS.iter().any(|greeting| window.windows(greeting.len()).any(|bytes| bytes == *greeting)) {
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
