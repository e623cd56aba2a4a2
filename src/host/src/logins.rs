//! SSH connections as the kernel shows them: which processes stand for a login that is past authentication, to which
//! account, from where; and what a connection is used for.
//!
//! Nothing here rests on what a user could have written: titles are believed of root's processes alone, and everything
//! else is what the kernel says of a process, its children and its descriptors.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

pub use lockdown_core::sessions::Uses;
use record::Source;

use super::{
    processes::{ProcDir, Process, ProcessError, ProcessId, children, pids, real_uid},
    sockets::{self, Sockets},
    terminal,
};

/// How the title of sshd's privileged process for a connection ends.
const PRIVILEGED: &[u8] = b" [priv]";
/// The account that sshd's process before authentication runs as (Debian's `openssh-server`).
pub const PRIVSEP: &str = "sshd";
/// How many of a connection's own processes are looked at to see what it is used for.
const MAX_LOOKED_AT: usize = 256;

/// A connection that is past authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// sshd's privileged process for it.
    pub monitor: ProcessId,
    /// The account's user id.
    pub uid: u32,
    /// The account's name, as sshd's title has it.
    pub name: Option<String>,
    /// The other end.
    pub source: Source,
}

/// Every SSH connection of root's sshds that is past authentication and past PAM, whoever listens for it, also where
/// nothing listens any more. `privsep` is the user id of [`PRIVSEP`].
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn find(privsep: Option<u32>) -> Result<Vec<Login>, ProcessError> {
    let of_root = pids()?.into_iter().filter(|pid| real_uid(*pid) == Some(0));
    let of_root: Vec<i32> = of_root.collect();
    let mut sockets = Sockets::default();
    Ok(of_root.into_iter().filter_map(|pid| login(pid, privsep, &mut sockets)).collect())
}

fn login(pid: i32, privsep: Option<u32>, sockets: &mut Sockets) -> Option<Login> {
    let process = Process::read(pid)?;
    let title = sshd_title(&process)?;
    let uid = match title {
        // sshd forks the process that runs as the account once PAM has opened the session, and not before.
        Title::Privileged(_) => user_below(&process, privsep)?,
        // For an account of user id 0 OpenSSH before 9.8 forks none: its own process has another title then.
        Title::Users(_) => match Process::read(process.ppid).as_ref().and_then(sshd_title) {
            Some(Title::Privileged(_)) => return None,
            _ => 0,
        },
    };
    let (Title::Privileged(name) | Title::Users(name)) = title;
    Some(Login { monitor: process.id, uid, name: Some(name), source: other_end(process.id, sockets) })
}

/// Whose connection a process of root's sshd is for, by its title, past the name's being known.
#[derive(Debug, PartialEq, Eq)]
enum Title {
    /// sshd's privileged process.
    Privileged(String),
    /// The process that runs as the account.
    Users(String),
}

fn sshd_title(process: &Process) -> Option<Title> {
    let is_sshd = process.exe.as_ref()?.file_name()?.as_bytes().windows(4).any(|part| part == b"sshd");
    let cmdline = is_sshd.then(|| process.command_line_of_root()).flatten().filter(|cmdline| is_title(cmdline))?;
    let title = cmdline.first()?.as_bytes().trim_ascii_end();
    let name = name_in(title)?;
    Some(if title.ends_with(PRIVILEGED) { Title::Privileged(name) } else { Title::Users(name) })
}

/// Whether the command line is one text, as sshd sets it: padded with NULs, where the arguments were longer.
fn is_title(cmdline: &[OsString]) -> bool {
    cmdline.iter().skip(1).all(|rest| rest.is_empty())
}

/// The account's name in a title: `sshd: NAME [priv]`, `sshd-session: NAME@pts/0`, `sshd: NAME`.
fn name_in(title: &[u8]) -> Option<String> {
    let colon = title.windows(2).position(|part| part == b": ")?;
    let rest = &title[colon + 2..];
    let name = match rest.strip_suffix(PRIVILEGED) {
        Some(name) => name,
        // `[listener]`, `[accepted]`, `[net]`, and `/usr/sbin/sshd -D [listener]`.
        None if rest.contains(&b'[') || rest.starts_with(b"/") => return None,
        None => rest.split(|b| *b == b'@').next()?,
    };
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && !name.contains(' ')).then(|| name.to_owned())
}

/// The user id of the account's own process below a privileged one; `None` before there is one.
fn user_below(monitor: &Process, privsep: Option<u32>) -> Option<u32> {
    let below = children(monitor.id.pid).into_iter().take(MAX_LOOKED_AT).filter_map(Process::read);
    let is_users = |child: &Process| child.uid != 0 || matches!(sshd_title(child), Some(Title::Users(_)));
    let users = below.filter(|child| is_users(child) && child.exe == monitor.exe && child.ppid == monitor.id.pid);
    // Before authentication the process that talks to the network is the privsep account's, in a root directory of its own.
    let is_before = |child: &Process| Some(child.uid) == privsep && !in_root_of(child.id.pid, monitor.id.pid);
    users.filter(|child| !is_before(child)).map(|child| child.uid).next()
}

fn in_root_of(pid: i32, other: i32) -> bool {
    let root = |pid: i32| ProcDir::open(pid).and_then(|dir| dir.node("root"));
    matches!((root(pid), root(other)), (Some(one), Some(other)) if one == other)
}

/// What a connection is used for now; nothing when it is gone. Whoever looks at many hands on what was read of `sockets`.
#[must_use]
pub fn uses(monitor: ProcessId, sockets: &mut Sockets) -> Uses {
    let terminals = terminal::held_by(monitor);
    let Some(process) = Process::read(monitor.pid).filter(|process| process.id == monitor) else {
        return Uses::default();
    };
    let below = |pid: i32| children(pid).into_iter().take(MAX_LOOKED_AT).filter_map(Process::read);
    let (own, direct): (Vec<Process>, Vec<Process>) = below(monitor.pid).partition(|child| child.exe == process.exe);
    // Below an account of user id 0 there is no process between sshd's and what it runs.
    let is_privileged = matches!(sshd_title(&process), Some(Title::Privileged(_)));
    let run = match is_privileged {
        true => own.iter().flat_map(|child| below(child.id.pid)).take(MAX_LOOKED_AT).collect(),
        false => own.iter().cloned().chain(direct).collect::<Vec<_>>(),
    };
    let forward = forwards(monitor, &own, sockets);
    let mut seen = Uses { terminals, forward, ..Uses::default() };
    for child in run {
        let is_sftp = child.exe == process.exe
            || child.exe.as_ref().and_then(|exe| exe.file_name()) == Some(OsStr::new("sftp-server"));
        let on_terminal = child.terminal != 0;
        seen.sftp |= is_sftp;
        seen.command |= !is_sftp && !on_terminal;
    }
    seen
}

/// Whether sshd's process of the account has a TCP socket of its own: a forward that listens here, or one in use. (What
/// the client listens for shows once somebody connects.)
fn forwards(monitor: ProcessId, own: &[Process], sockets: &mut Sockets) -> bool {
    let held = |id: ProcessId| -> Option<(ProcDir, Vec<Vec<u8>>)> {
        let dir = ProcDir::open(id.pid).filter(|dir| dir.is(id))?;
        let held = sockets::held_by(&dir)?;
        Some((dir, held))
    };
    let connection = held(monitor).map(|(_, held)| held).unwrap_or_default();
    own.iter().take(MAX_LOOKED_AT).filter_map(|process| held(process.id)).any(|(dir, held)| {
        let added: Vec<Vec<u8>> = held.into_iter().filter(|inode| !connection.contains(inode)).collect();
        !added.is_empty() && added.iter().any(|inode| sockets.of(&dir).has_tcp(inode))
    })
}

/// The other end of the connection whose socket this process holds; empty where it is none of TCP (a local socket).
fn other_end(monitor: ProcessId, sockets: &mut Sockets) -> Source {
    let found = ProcDir::open(monitor.pid).filter(|dir| dir.is(monitor)).and_then(|dir| {
        let held = sockets::held_by(&dir)?;
        held.iter().find_map(|inode| sockets.of(&dir).far_end(inode))
    });
    let (address, port) = found.map_or((None, None), |(address, port)| (Some(address), Some(port)));
    Source { address, port }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_names_the_account_of_a_connection_and_nothing_else() {
        for (title, name) in [
            ("sshd: frank [priv]", Some("frank")),
            ("sshd-session: frank.s [priv]", Some("frank.s")),
            ("oursshd: root@pts/0", Some("root")),
            ("sshd: root@notty", Some("root")),
            ("sshd-session: root", Some("root")),
            ("sshd: [accepted]", None),
            ("sshd: frank [net]", None),
            ("sshd: root [preauth]", None),
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", None),
            ("/usr/sbin/sshd -D", None),
            ("sshd: /usr/sbin/sshd -D", None),
            ("sshd: a b [priv]", None),
            ("", None),
        ] {
            assert_eq!(name_in(title.as_bytes()).as_deref(), name, "{title}");
        }
    }

    #[test]
    fn what_was_seen_adds_up() {
        let mut seen = Uses::default();
        assert!(seen.words().is_empty());
        assert!(seen.add(Uses { terminals: vec![3], sftp: false, command: true, forward: false }));
        assert!(!seen.add(Uses { terminals: vec![3], sftp: false, command: false, forward: false }));
        assert!(seen.add(Uses { terminals: vec![1], sftp: true, command: false, forward: true }));
        assert_eq!(
            (seen.words(), seen.terminal_names()),
            (vec!["terminal", "sftp", "command", "forward"], vec!["pts/1".to_owned(), "pts/3".to_owned()])
        );
    }
}
