//! Failed logins, as sshd would write them, as fast as journald takes them.

use std::os::unix::net::UnixDatagram;

use crate::Failure;

/// Where syslog(3) writes to.
const SOCKET: &str = "/run/systemd/journal/dev-log";

/// Writes `count` of them.
pub(crate) fn run(count: u32) -> Result<(), Failure> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    for n in 0..count {
        let (user, address, port) = (n % 5_000, n % 200, 1 + n % 60_000);
        let line =
            format!("<38>sshd[1]: Failed password for invalid user u{user} from 10.0.{address}.1 port {port} ssh2");
        socket.send(line.as_bytes())?;
    }
    Ok(())
}
