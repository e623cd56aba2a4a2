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

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixListener, thread, time::Instant};

    use super::*;
    use crate::{Answer, GrantsAnswer, encode_response};

    /// A socket that answers the first connection as told, and what the client makes of it.
    fn against(serve: impl FnOnce(UnixStream) + Send + 'static) -> Result<Response, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0));
        let answer = Client::connect_within(&path, Duration::from_millis(300)).unwrap().ask(&Request::Sessions);
        server.join().unwrap();
        answer
    }

    #[test]
    fn a_request_goes_out_and_its_answer_comes_back() {
        let answer = against(|mut stream| {
            assert_eq!(frame::read::<Request>(&mut stream, MAX_FRAME).unwrap(), Request::Sessions);
            let grants = Answer::Grants(GrantsAnswer { grants: Vec::new(), next_lockdown: None, left_off: 3 });
            stream.write_all(&encode_response(Ok(grants))).unwrap();
        });
        assert!(matches!(answer, Ok(Ok(Answer::Grants(GrantsAnswer { left_off: 3, .. })))));
    }

    #[test]
    fn a_daemon_that_closes_or_babbles_is_an_error_that_names_the_socket() {
        let closed = against(|mut stream| {
            let _: Request = frame::read(&mut stream, MAX_FRAME).unwrap();
        });
        assert!(closed.unwrap_err().to_string().contains("control.sock: "));
        let babble = against(|mut stream| {
            let _: Request = frame::read(&mut stream, MAX_FRAME).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        });
        assert!(babble.unwrap_err().to_string().contains("over the limit"));
    }

    #[test]
    fn a_daemon_that_hangs_is_given_up_on() {
        let started = Instant::now();
        let answer = against(|stream| {
            thread::sleep(Duration::from_millis(600));
            drop(stream);
        });
        assert!(matches!(answer, Err(ClientError::Talk { error: FrameError::Io(_), .. })));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn no_socket_is_an_error_that_names_it() {
        let error = Client::connect("/nonexistent/control.sock").unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/control.sock: No such file"), "{error}");
    }
}
