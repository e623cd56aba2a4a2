//! syslog's socket: datagrams, or a stream where that is what listens there.

use std::{
    io::{self, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    time::Duration,
};

use nix::libc;

/// How long one attempt to send waits for room.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait when the kernel has no memory for a message, which is not what waiting for room covers.
const NO_BUFFERS: Duration = Duration::from_millis(50);

/// A connection.
#[derive(Debug)]
pub(super) enum Socket {
    /// Each message is a datagram.
    Datagram(UnixDatagram),
    /// With what of the last message has not been taken yet.
    Stream(UnixStream, Vec<u8>),
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is in the socket.
    Taken,
    /// There was no room for it.
    Full,
    /// No message of that length is taken.
    TooLong,
    /// The connection is over.
    Gone(io::Error),
}

impl Socket {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let datagram = UnixDatagram::unbound()?;
        datagram.set_write_timeout(Some(PATIENCE))?;
        match datagram.connect(path) {
            Ok(()) => Ok(Self::Datagram(datagram)),
            Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Stream(stream, Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one message. After [`Sent::Full`] the same one has to be sent again.
    pub(super) fn send(&mut self, message: &str) -> Sent {
        let result = match self {
            Self::Datagram(socket) => socket.send(message.as_bytes()).map(|_| ()),
            Self::Stream(socket, rest) => {
                if rest.is_empty() {
                    // In a stream, a newline ends a message; there is none in a line.
                    *rest = format!("{message}\n").into_bytes();
                }
                send_all(socket, rest)
            }
        };
        let Err(error) = result else { return Sent::Taken };
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Sent::Full,
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                std::thread::sleep(NO_BUFFERS);
                Sent::Full
            }
            Some(libc::EMSGSIZE) => Sent::TooLong,
            _ => Sent::Gone(error),
        }
    }
}

fn send_all(socket: &mut UnixStream, rest: &mut Vec<u8>) -> io::Result<()> {
    while !rest.is_empty() {
        match socket.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => drop(rest.drain(..n)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
