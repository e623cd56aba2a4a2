//! Which processes listen for connections, and where: by the kernel's tables and the descriptors that processes hold.
//!
//! Nobody is ever connected to. Processes in other root directories or networks (containers) are left out.

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt};

use super::processes::{ProcDir, ProcessError, pids};

/// The most processes whose descriptors are looked at: past it, the host is one on which this is not the question.
pub const MAX_PROCESSES: usize = 32_768;
/// The most addresses told of one process.
pub const MAX_ADDRESSES: usize = 16;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Its pid.
    pub pid: i32,
    /// Where: `ADDRESS:PORT`, or the path of a local socket.
    pub at: Vec<String>,
}

/// Where one process listens, in its own network; empty when it does not, or we may not look.
#[must_use]
pub fn addresses(pid: i32) -> Vec<String> {
    let Some(dir) = ProcDir::open_living(pid) else { return Vec::new() };
    held(&dir, &tables(&dir))
}

/// Every process that listens in this host's network and root directory; also whether there were too many to look at.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn everybody() -> Result<(Vec<Listening>, bool), ProcessError> {
    let first = ProcDir::open(1);
    let sockets = first.as_ref().map(tables).unwrap_or_default();
    let place = |dir: &ProcDir| (dir.node("ns/net"), dir.node("root"));
    let here = first.as_ref().map(place);
    let pids = pids()?;
    let too_many = pids.len() > MAX_PROCESSES;
    let look = |pid: i32| {
        let dir = ProcDir::open_living(pid)?;
        let at = (Some(place(&dir)) == here).then(|| held(&dir, &sockets))?;
        (!at.is_empty()).then_some(Listening { pid, at })
    };
    Ok((pids.into_iter().take(MAX_PROCESSES).filter_map(look).collect(), too_many))
}

/// The listening sockets of a process's network: inode to address.
fn tables(dir: &ProcDir) -> HashMap<Vec<u8>, String> {
    let read = |name: &str| dir.read_whole(name).unwrap_or_default();
    let mut all: HashMap<Vec<u8>, String> = internet(&read("net/tcp")).chain(internet(&read("net/tcp6"))).collect();
    all.extend(local(&read("net/unix")));
    all
}

fn held(dir: &ProcDir, sockets: &HashMap<Vec<u8>, String>) -> Vec<String> {
    let inode = |link: &OsStr| link.as_bytes().strip_prefix(b"socket:[")?.strip_suffix(b"]").map(<[u8]>::to_vec);
    let links = dir.descriptors().unwrap_or_default();
    let mut at: Vec<String> = links.iter().filter_map(|link| sockets.get(&inode(link)?).cloned()).collect();
    at.sort();
    at.dedup();
    at.truncate(MAX_ADDRESSES);
    at
}

/// Listening sockets (state `0A`) in `/proc/net/tcp` or `tcp6`.
fn internet(table: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> + use<> {
    let text = String::from_utf8_lossy(table).into_owned();
    let rows: Vec<_> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (*state == "0A").then(|| Some((inode.as_bytes().to_vec(), readable(address)?)))?
        })
        .collect();
    rows.into_iter()
}

/// `0100007F:0016` as `127.0.0.1:22`: groups of four bytes, each in the host's order; the port is not.
fn readable(address: &str) -> Option<String> {
    let (host, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for group in host.as_bytes().chunks(8) {
        let group = u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok()?;
        bytes.extend(group.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(std::net::SocketAddr::from((four, port)).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(std::net::SocketAddr::from((sixteen, port)).to_string())
}

/// Listening sockets (the flag `__SO_ACCEPTCON`) with a name in `/proc/net/unix`.
fn local(table: &[u8]) -> Vec<(Vec<u8>, String)> {
    let row = |line: &[u8]| {
        let text = String::from_utf8_lossy(line).into_owned();
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
        (*flags == "00010000").then(|| (inode.as_bytes().to_vec(), (*path).to_owned()))
    };
    table.split(|b| *b == b'\n').skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_kernels_tables() {
        let tcp =
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
            1: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n";
        assert_eq!(internet(tcp).collect::<Vec<_>>(), [(b"4711".to_vec(), "127.0.0.1:22".to_owned())]);
        assert_eq!(readable("00000000000000000000000000000000:08AE").as_deref(), Some("[::]:2222"));
        assert_eq!(readable("nonsense"), None);
        let table = b"Num RefCount Protocol Flags Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 99 /run/x\n1: 00000002 00000000 00000000 0001 01 98 /run/y\n";
        assert_eq!(local(table), [(b"99".to_vec(), "/run/x".to_owned())]);
    }

    #[test]
    fn a_real_listening_socket_is_found_with_its_address() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let at = socket.local_addr().expect("an address").to_string();
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(addresses(own).contains(&at), "{:?}", addresses(own));
    }
}
