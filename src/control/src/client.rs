//! The blocking client: one connection, one request, one response.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Request, Response,
    frame::{self, FrameError, MAX_FRAME},
};

/// How long each read and write may take: longer than the slowest sweep, so that silence means that nobody is there.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the daemon that has not been used yet.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be connected to.
    #[error("{}: {error}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The daemon took the connection and then did not answer as agreed.
    #[error("{}: {error}", path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: FrameError,
    },
}

impl Client {
    /// Connects to the daemon's socket at `path`, usually [`crate::SOCKET`].
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::connect_within(path, ANSWER_TIMEOUT)
    }

    /// As [`Client::connect`], with another bound on how long each read and write may take.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect_within(path: impl AsRef<Path>, patience: Duration) -> Result<Self, ClientError> {
        let path = path.as_ref().to_owned();
        let open = || {
            let stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        };
        match open() {
            Ok(stream) => Ok(Self { path, stream }),
            Err(error) => Err(ClientError::Connect { path, error }),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Talk`].
    pub fn ask(mut self, request: &Request) -> Result<Response, ClientError> {
        let result =
            frame::write(&mut self.stream, request, MAX_FRAME).and_then(|()| frame::read(&mut self.stream, MAX_FRAME));
        result.map_err(|error| ClientError::Talk { path: self.path, error })
    }
}
