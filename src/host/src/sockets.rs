//! The kernel's tables of sockets, read once for each network and not once for each process: they are as long as there are
//! connections, and whoever looks at every connection would read them as often.
//!
//! What a process holds is in them if it held it before they were read: list processes first, and keep these for one look.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
};

use super::processes::ProcDir;

/// The state of an established connection in `/proc/net/tcp`.
const ESTABLISHED: &[u8] = b"01";
/// The state of a listening socket there.
const LISTEN: &[u8] = b"0A";
/// The flag `__SO_ACCEPTCON` in `/proc/net/unix`.
const ACCEPTS: &[u8] = b"00010000";

/// The sockets of every network that was asked about.
#[derive(Debug, Default)]
pub struct Sockets {
    networks: HashMap<(u64, u64), Network>,
    /// Where it cannot be told which network a process is in, its tables are read each time.
    unknown: Network,
}

/// The sockets of one network, by their inodes.
#[derive(Debug, Default)]
pub(crate) struct Network {
    tcp: HashMap<Vec<u8>, Option<(IpAddr, u16)>>,
    listening: HashSet<Vec<u8>>,
}

impl Sockets {
    /// The sockets of the network that this process is in.
    pub(crate) fn of(&mut self, dir: &ProcDir) -> &Network {
        let Some(network) = dir.node("ns/net") else {
            self.unknown = Network::read(dir);
            return &self.unknown;
        };
        self.networks.entry(network).or_insert_with(|| Network::read(dir))
    }
}

impl Network {
    fn read(dir: &ProcDir) -> Self {
        let mut read = Self::default();
        for table in ["net/tcp", "net/tcp6"] {
            read.take_tcp(&dir.read_whole(table).unwrap_or_default());
        }
        read.take_unix(&dir.read_whole("net/unix").unwrap_or_default());
        read
    }

    fn take_tcp(&mut self, table: &[u8]) {
        for line in lines(table) {
            let mut fields = fields(line);
            let (Some(far), Some(state), Some(inode)) = (fields.nth(2), fields.next(), fields.nth(5)) else { continue };
            if state == LISTEN {
                self.listening.insert(inode.to_vec());
            }
            let far = std::str::from_utf8(far).ok().filter(|_| state == ESTABLISHED);
            self.tcp.insert(inode.to_vec(), far.and_then(end_in));
        }
    }

    fn take_unix(&mut self, table: &[u8]) {
        for line in lines(table) {
            let mut fields = fields(line);
            if let (Some(ACCEPTS), Some(inode)) = (fields.nth(3), fields.nth(2)) {
                self.listening.insert(inode.to_vec());
            }
        }
    }

    /// Whether this is a TCP socket.
    pub(crate) fn has_tcp(&self, inode: &[u8]) -> bool {
        self.tcp.contains_key(inode)
    }

    /// The far end of a connection.
    pub(crate) fn far_end(&self, inode: &[u8]) -> Option<(IpAddr, u16)> {
        *self.tcp.get(inode)?
    }

    /// Whether this socket takes connections.
    pub(crate) fn listens(&self, inode: &[u8]) -> bool {
        self.listening.contains(inode)
    }
}

fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table.split(|b| *b == b'\n').skip(1)
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// The sockets that a process holds, by their inodes; `None` when we may not look.
pub(crate) fn held_by(dir: &ProcDir) -> Option<Vec<Vec<u8>>> {
    Some(dir.descriptors()?.iter().filter_map(|link| inode(link)).collect())
}

fn inode(link: &OsStr) -> Option<Vec<u8>> {
    Some(link.as_bytes().strip_prefix(b"socket:[")?.strip_suffix(b"]")?.to_vec())
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

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
        1: 0100007F:0016 070200C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100\n   \
        2: 0100007F:0016 070200C0:9C41 06 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100\n";
    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 4720 /run/a\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 4721\n";

    #[test]
    fn far_ends_and_listeners_are_read_from_the_kernels_tables() {
        let mut network = Network::default();
        network.take_tcp(TCP.as_bytes());
        network.take_unix(UNIX.as_bytes());
        assert_eq!(network.far_end(b"4712"), Some(("192.0.2.7".parse().expect("an address"), 40_000)));
        let no_end = |inode: &[u8]| network.has_tcp(inode) && network.far_end(inode).is_none();
        assert!(no_end(b"4711") && no_end(b"4713"), "one listens, one is closing");
        let listening = [b"4711", b"4712", b"4713", b"4720", b"4721"].map(|inode| network.listens(inode));
        assert_eq!(listening, [true, false, false, true, false]);
        assert!(!network.has_tcp(b"471") && !network.has_tcp(b"4720"));
        let mapped = "0000000000000000FFFF0000070200C0:0016";
        assert_eq!(end_in(mapped), Some(("192.0.2.7".parse().expect("an address"), 22)));
        assert_eq!(end_in("0100:1"), None);
    }

    #[test]
    fn a_networks_tables_are_read_once_and_those_of_this_process_name_its_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let dir = ProcDir::open(std::process::id().cast_signed()).expect("its own");
        let (mut sockets, held) = (Sockets::default(), held_by(&dir).expect("its own"));
        assert!(held.iter().any(|inode| sockets.of(&dir).listens(inode)));
        let later = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let new: Vec<Vec<u8>> =
            held_by(&dir).expect("its own").into_iter().filter(|inode| !held.contains(inode)).collect();
        assert!(!new.iter().any(|inode| sockets.of(&dir).listens(inode)), "not before another look");
        assert!(new.iter().any(|inode| Sockets::default().of(&dir).listens(inode)));
        drop((listener, later));
    }
}
