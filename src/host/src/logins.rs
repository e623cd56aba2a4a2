//! SSH connections as the kernel shows them: which processes stand for a login that is past authentication, to which
//! account, from where; and what a connection is used for.
//!
//! Nothing here rests on what a user could have written: titles are believed of root's processes alone, and everything
//! else is what the kernel says of a process, its children and its descriptors.

use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
};

pub use lockdown_core::sessions::Uses;
use record::Source;

use super::{
    processes::{ProcDir, Process, ProcessError, ProcessId, children, pids, real_uid},
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
    Ok(of_root.filter_map(|pid| login(pid, privsep)).collect())
}

fn login(pid: i32, privsep: Option<u32>) -> Option<Login> {
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
    Some(Login { monitor: process.id, uid, name: Some(name), source: other_end(process.id) })
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

/// What a connection is used for now; nothing when it is gone.
#[must_use]
pub fn uses(monitor: ProcessId) -> Uses {
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
    let forward = forwards(monitor, &own);
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
fn forwards(monitor: ProcessId, own: &[Process]) -> bool {
    let sockets = |id: ProcessId| -> Vec<Vec<u8>> {
        let held = ProcDir::open(id.pid).filter(|dir| dir.is(id)).and_then(|dir| dir.descriptors());
        held.into_iter().flatten().filter_map(|link| socket_inode(&link)).collect()
    };
    let connection = sockets(monitor);
    let added = |process: &Process| {
        let added: Vec<Vec<u8>> = sockets(process.id).into_iter().filter(|inode| !connection.contains(inode)).collect();
        let tables =
            || ["net/tcp", "net/tcp6"].into_iter().filter_map(|table| ProcDir::open(process.id.pid)?.read_whole(table));
        !added.is_empty() && tables().any(|table| holds_any(&table, &added))
    };
    own.iter().take(MAX_LOOKED_AT).any(added)
}

/// Whether one of these sockets stands in `/proc/net/tcp` or `tcp6`.
fn holds_any(table: &[u8], held: &[Vec<u8>]) -> bool {
    let inode =
        |line: &[u8]| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(9).map(<[u8]>::to_vec);
    table.split(|b| *b == b'\n').skip(1).filter_map(inode).any(|inode| held.contains(&inode))
}

/// The other end of the connection whose socket this process holds; empty where it is none of TCP (a local socket).
fn other_end(monitor: ProcessId) -> Source {
    let found = ProcDir::open(monitor.pid).filter(|dir| dir.is(monitor)).and_then(|dir| {
        let held: Vec<Vec<u8>> = dir.descriptors()?.iter().filter_map(|link| socket_inode(link)).collect();
        let tables = ["net/tcp", "net/tcp6"].map(|table| dir.read_whole(table).unwrap_or_default());
        tables.iter().find_map(|table| established(table, &held))
    });
    let (address, port) = found.map_or((None, None), |(address, port)| (Some(address), Some(port)));
    Source { address, port }
}

fn socket_inode(link: &OsStr) -> Option<Vec<u8>> {
    Some(link.as_bytes().strip_prefix(b"socket:[")?.strip_suffix(b"]")?.to_vec())
}

/// The far end of the first established socket among `held` in `/proc/net/tcp` or `tcp6` (state `01`).
fn established(table: &[u8], held: &[Vec<u8>]) -> Option<(IpAddr, u16)> {
    table.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
        let (far, state, inode) = (fields.get(2)?, fields.get(3)?, fields.get(9)?);
        (*state == "01" && held.iter().any(|held| held == inode.as_bytes())).then(|| end_in(far)).flatten()
    })
}

/// `0100007F:9C40`: each group of four bytes as this machine stores a number, then the port.
pub(super) fn end_in(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()
        }
        _ => return None,
    };
    Some((address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
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
    fn the_far_end_is_read_from_the_kernels_tables() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
            1: 0100007F:0016 070200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n";
        let held = [b"4711".to_vec(), b"4712".to_vec()];
        assert_eq!(established(tcp.as_bytes(), &held), Some(("192.0.2.7".parse().expect("an address"), 40_000)));
        assert_eq!(established(tcp.as_bytes(), &held[..1]), None);
        assert!(holds_any(tcp.as_bytes(), &held[..1]) && !holds_any(tcp.as_bytes(), &[b"471".to_vec()]));
        let mapped = "0000000000000000FFFF0000070200C0:0016";
        assert_eq!(end_in(mapped), Some(("192.0.2.7".parse().expect("an address"), 22)));
        assert_eq!(end_in("0100:1"), None);
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
