//! `gate.sock` and `control.sock`, passed by systemd so that they go on listening while the daemon is replaced.
//!
//! One question, one answer per connection. Everything that comes in is bounded: connections, bytes and time.

use std::{io, os::unix::net::UnixListener as StdListener, path::Path, sync::Arc, time::Duration};

use control::{Request, frame, gate};
use listenfd::ListenFd;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{Peer, Reason, Reply};

/// How many gates are answered at a time; others wait in the socket's backlog.
pub(super) const MAX_GATES: usize = 256;
/// How many operators are answered at a time; others wait in the socket's backlog.
pub(super) const MAX_OPERATORS: usize = 32;
/// How long a peer has to send its question, and to take its answer.
pub(super) const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before accepting again when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The sockets are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// systemd did not pass a socket.
    #[error(
        "systemd did not pass {0}: start the daemon with `systemctl start lockdownd`, which takes its sockets along"
    )]
    Missing(&'static str),
    /// A socket cannot be used.
    #[error("the passed sockets cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// Answers on both sockets, for as long as somebody receives the reasons.
///
/// # Errors
/// systemd did not pass both.
pub fn serve(reasons: &mpsc::Sender<Reason>) -> Result<(), SocketError> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        listeners.extend(passed.take_unix_listener(index)?);
    }
    let mut take = |path: &'static str| {
        let found = listeners.iter().position(|listener| listens_at(listener, path));
        let listener = listeners.swap_remove(found.ok_or(SocketError::Missing(path))?);
        listener.set_nonblocking(true)?;
        Ok::<_, SocketError>(UnixListener::from_std(listener)?)
    };
    let gate = take(gate::SOCKET)?;
    let control = take(control::SOCKET)?;
    tokio::spawn(accept(gate, MAX_GATES, reasons.clone(), answer_gate));
    tokio::spawn(accept(control, MAX_OPERATORS, reasons.clone(), answer_operator));
    Ok(())
}

fn listens_at(listener: &StdListener, path: &str) -> bool {
    listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(Path::new(path)))
}

async fn accept<F, A>(listener: UnixListener, most: usize, reasons: mpsc::Sender<Reason>, answer: F)
where
    F: Fn(UnixStream, mpsc::Sender<Reason>) -> A + Send + 'static,
    A: Future<Output = Result<(), frame::FrameError>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let answering = answer(stream, reasons.clone());
                tokio::spawn(async move {
                    // A peer that goes away or talks nonsense gets no answer: the gate refuses, lockdownctl says so.
                    if let Err(error) = answering.await {
                        tracing::debug!(%error, "a peer was not answered");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_gate(mut stream: UnixStream, reasons: mpsc::Sender<Reason>) -> Result<(), frame::FrameError> {
    let gate = peer(&stream)?.pid;
    let question = read(&mut stream, gate::MAX_FRAME).await?;
    let (answer, answered) = oneshot::channel();
    // Without an engine there is no answer, and the gate refuses.
    if reasons.send(Reason::Login { question, gate, answer }).await.is_err() {
        return Ok(());
    }
    let Ok(answer) = answered.await else { return Ok(()) };
    write(&mut stream, &frame::encode(&answer, gate::MAX_FRAME)?).await
}

async fn answer_operator(mut stream: UnixStream, reasons: mpsc::Sender<Reason>) -> Result<(), frame::FrameError> {
    let peer = peer(&stream)?;
    let request: Request = read(&mut stream, frame::MAX_FRAME).await?;
    let (reply, replied) = oneshot::channel();
    if reasons.send(Reason::Asked { request, peer, reply: Reply(reply) }).await.is_err() {
        return Ok(());
    }
    let Ok(response) = replied.await else { return Ok(()) };
    write(&mut stream, &control::encode_response(response)).await
}

fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let peer = stream.peer_cred()?;
    let pid = peer
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .ok_or_else(|| io::Error::other("the kernel does not say which process asks"))?;
    Ok(Peer { pid, uid: peer.uid() })
}

async fn read<T: DeserializeOwned>(stream: &mut UnixStream, limit: usize) -> Result<T, frame::FrameError> {
    let reading = async {
        let mut header = [0; frame::HEADER];
        stream.read_exact(&mut header).await?;
        let length = frame::decode_length(header, limit)?;
        // Grows with what really arrives, not with what the header promises.
        let mut json = Vec::new();
        let got = stream.take(length as u64).read_to_end(&mut json).await?;
        if got < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        frame::decode(&json)
    };
    timeout(PEER_PATIENCE, reading).await.map_err(io::Error::from)?
}

async fn write(stream: &mut UnixStream, bytes: &[u8]) -> Result<(), frame::FrameError> {
    Ok(timeout(PEER_PATIENCE, stream.write_all(bytes)).await.map_err(io::Error::from)??)
}
