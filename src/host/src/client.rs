//! Which processes of this very host made a connection to its sshd.
//!
//! It looks through `/proc` for a bounded time, so it is for a job. Nothing here waits for a user: sockets are found in the
//! kernel's table, and their holders by the links in `fd`. What may be hidden (a socket that is closed already, one of a
//! thread with descriptors of its own) is not found, and never taken for a connection from elsewhere.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use lockdown_core::policy::login::NotFound;

use super::{
    connection,
    processes::{self, ProcDir, Process, ProcessId},
    sockets::end_in,
};

/// How long the processes of the host may be looked through.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How long the others are looked through once one of the socket's user was found to hold it: that can be as long as any
/// user likes, and adds only to whom it was passed.
const PASSED_ON: Duration = Duration::from_millis(300);
/// How many processes that hold the socket are told.
const MAX_HOLDERS: usize = 16;

/// The two ends of a connection, as sshd tells them: the client's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from.
    pub client: (IpAddr, u16),
    /// Where it goes to.
    pub server: (IpAddr, u16),
}

/// A process that holds the client's end.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// The processes above it, nearest first.
    pub above: Vec<ProcessId>,
    /// The processes in its session scope, if it is in one.
    pub beside: Vec<ProcessId>,
}

/// Who made a connection on this host.
#[derive(Debug, Clone)]
pub enum Maker {
    /// Root, by a process that cannot be seen from here: outside of this pid namespace.
    UnseenRoot,
    /// These processes hold its end.
    Held(Vec<Holder>),
}

/// Whether a connection to this sshd comes from the host itself. Reads two small files that no user can make longer.
#[must_use]
pub fn is_local(monitor: ProcessId, ends: Ends) -> bool {
    let (client, server) = (ends.client.0, ends.server.0);
    let is_own = || {
        let dir = ProcDir::open(monitor.pid).filter(|dir| dir.is(monitor));
        let read = |name| dir.as_ref().and_then(|dir| dir.read_whole(name)).unwrap_or_default();
        match client {
            IpAddr::V4(_) => in_fib(&String::from_utf8_lossy(&read("net/fib_trie")), client),
            IpAddr::V6(client) => in_if_inet6(&String::from_utf8_lossy(&read("net/if_inet6")), client),
        }
    };
    client.is_loopback() || server.is_loopback() || client == server || is_own()
}

/// Whether `/proc/net/fib_trie` names this address as the host's own.
fn in_fib(table: &str, address: IpAddr) -> bool {
    let address = address.to_string();
    let mut last = "";
    table.lines().any(|line| {
        let line = line.trim_start_matches([' ', '|', '+', '-']);
        match line.strip_prefix("/32 host LOCAL") {
            Some(_) => last == address,
            None => {
                last = line;
                false
            }
        }
    })
}

/// Whether `/proc/net/if_inet6` lists this address.
fn in_if_inet6(table: &str, address: Ipv6Addr) -> bool {
    let written = format!("{:032x}", address.to_bits());
    table.lines().any(|line| line.split(' ').next() == Some(&written))
}

/// What came of looking for it.
pub type Found = Result<Maker, NotFound>;

/// Who made a connection to the sshd `monitor`.
///
/// # Errors
/// Nobody was found, or not in time.
pub fn maker(monitor: ProcessId, ends: Ends) -> Found {
    let until = Instant::now() + PATIENCE;
    let dir = ProcDir::open(monitor.pid).filter(|dir| dir.is(monitor)).ok_or(NotFound::NoSshd)?;
    let tables = ["net/tcp", "net/tcp6"].map(|table| dir.read_whole(table).unwrap_or_default());
    let (uid, inode) = tables.iter().find_map(|table| client_end(table, ends)).ok_or(NotFound::NoSocket)?;
    let link = format!("socket:[{inode}]");
    // Whoever made the socket most likely holds it.
    let (likely, others): (Vec<i32>, Vec<i32>) = processes::pids()
        .map_err(|_| NotFound::Hidden)?
        .into_iter()
        .partition(|pid| processes::real_uid(*pid) == Some(uid));
    let mut found = Vec::new();
    if !look_through(&likely, &link, until, &mut found) {
        return Err(NotFound::TooLong);
    }
    let passed_on = if found.is_empty() { until } else { until.min(Instant::now() + PASSED_ON) };
    if !look_through(&others, &link, passed_on, &mut found) && found.is_empty() {
        return Err(NotFound::TooLong);
    }
    // A user can hide a socket, in a thread with descriptors of its own or on its way through another socket; not whose it is.
    match (found.is_empty(), uid) {
        (false, _) => Ok(Maker::Held(found)),
        (true, 0) => Ok(Maker::UnseenRoot),
        (true, _) => Err(NotFound::Hidden),
    }
}

/// Adds those of these processes that hold the socket; whether all were looked through in time.
fn look_through(pids: &[i32], link: &str, until: Instant, found: &mut Vec<Holder>) -> bool {
    for &pid in pids {
        if found.len() >= MAX_HOLDERS {
            break;
        }
        if Instant::now() >= until {
            return false;
        }
        let holds = ProcDir::open(pid).and_then(|dir| dir.descriptors_to(|target| target == link.as_bytes()));
        if holds.is_some_and(|held| !held.is_empty())
            && let Some(process) = Process::read(pid)
        {
            let (above, beside) = (processes::ancestors(pid), connection::scope_members(&process));
            found.push(Holder { process, above, beside });
        }
    }
    true
}

/// User id and inode of the client's end in `/proc/net/tcp` or `tcp6`; none for one that nobody holds any more.
fn client_end(table: &[u8], ends: Ends) -> Option<(u32, u64)> {
    table.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split_ascii_whitespace().collect();
        let [near, far] = [fields.get(1)?, fields.get(2)?].map(|end| end_in(end));
        let inode = fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?;
        (near? == ends.client && far? == ends.server).then_some((fields.get(7)?.parse().ok()?, inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        let end = |text: &str| {
            let end: std::net::SocketAddr = text.parse().unwrap();
            (end.ip(), end.port())
        };
        Ends { client: end(client), server: end(server) }
    }

    #[test]
    fn the_process_that_connected_is_found_and_nobody_once_it_has_closed() {
        let own = processes::identity(i32::try_from(std::process::id()).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let both = ends(&client.local_addr().unwrap().to_string(), &client.peer_addr().unwrap().to_string());
        assert!(is_local(own, both));
        let Ok(Maker::Held(found)) = maker(own, both) else { panic!("somebody") };
        assert_eq!(found.iter().map(|holder| holder.process.id).collect::<Vec<_>>(), [own]);
        drop(client);
        assert!(matches!(maker(own, both), Err(NotFound::NoSocket)));
    }

    #[test]
    fn the_hosts_own_addresses_are_read_from_the_kernels_tables() {
        let fib = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n  +-- 10.0.0.0/24 2 0 2\n     \
                   |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        \
                   /32 link BROADCAST\n";
        assert!(in_fib(fib, "10.0.0.5".parse().unwrap()));
        for other in ["10.0.0.50", "10.0.0.0", "10.0.0.255", "192.0.2.7"] {
            assert!(!in_fib(fib, other.parse().unwrap()), "{other}");
        }
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe8000000000000000000000000000aa 02 40 20 80     eth0\n";
        assert!(in_if_inet6(inet6, "fe80::aa".parse().unwrap()) && !in_if_inet6(inet6, "fe80::a".parse().unwrap()));
    }

    #[test]
    fn the_clients_end_is_the_one_that_mirrors_the_servers() {
        let table =
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n   \
            1: 0100007F:9C40 0100007F:0016 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 100\n   \
            2: 0100007F:9C41 0100007F:0016 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100\n";
        assert_eq!(client_end(table, ends("127.0.0.1:40000", "127.0.0.1:22")), Some((1000, 4712)));
        assert_eq!(client_end(table, ends("127.0.0.1:40001", "127.0.0.1:22")), None, "closed already");
    }
}
