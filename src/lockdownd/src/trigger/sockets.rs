//! `gate.sock` and `control.sock`, passed by systemd so that they go on listening while the daemon is replaced.
//!
//! One question, one answer per connection. Everything that comes in is bounded: connections, bytes and time.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixListener as StdListener,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use control::{Refusal, RefusalCode, Request, frame, gate};
use listenfd::ListenFd;
use lockdown_host::{
    doors::{self, Door},
    peer::Peer,
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{Reason, Reply};

/// How many gates are answered at a time; others wait in the socket's backlog.
pub(super) const MAX_GATES: usize = 256;
/// How many requests of root are answered at a time; a further one is refused.
pub(super) const MAX_OF_ROOT: usize = 256;
/// How many requests of each other login are answered at a time; a further one is refused at once. Anybody may connect:
/// nobody may keep root or another login from being heard.
pub(super) const MAX_PER_LOGIN: usize = 8;
/// How many requests that are not root's are answered at a time, so that memory stays bounded.
pub(super) const MAX_OF_OTHERS: usize = 512;
/// How many of them may come from processes that belong to no login: less than all, since these are told apart by user
/// id alone, and a user can have many of those (subuid(5)).
pub(super) const MAX_WITHOUT_LOGIN: usize = 128;
/// The most bytes of a request: a reason and networks, and room to spare.
pub(super) const MAX_REQUEST: usize = 64 * 1024;
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

/// Both sockets, and the paths at which they are found.
#[derive(Debug)]
pub struct Sockets {
    sockets: [Socket; 2],
    /// Why the directory could not be put right, when that was last tried.
    failing: Option<String>,
}

#[derive(Debug)]
struct Socket {
    path: &'static str,
    asks: Asks,
    reasons: mpsc::Sender<Reason>,
    door: Door,
    /// Answers on the listener that the daemon made last. systemd's own is answered on all the while.
    own: Option<JoinHandle<()>>,
    /// Why it could not be made again, when that was last tried.
    failing: Option<String>,
}

/// Who asks on a socket.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Gate,
    Operators,
}

impl Asks {
    /// The mode of the socket, as its unit has it.
    fn mode(self) -> u32 {
        match self {
            Self::Gate => 0o600,
            Self::Operators => 0o666,
        }
    }

    fn answer(self, listener: UnixListener, reasons: mpsc::Sender<Reason>) -> JoinHandle<()> {
        match self {
            Self::Gate => tokio::spawn(accept(listener, MAX_GATES, reasons, answer_gate)),
            Self::Operators => tokio::spawn(accept_operators(listener, reasons)),
        }
    }
}

impl Sockets {
    /// Makes again whatever was taken away of the daemon's directory and of the paths in it; what was, a sentence each. What
    /// cannot be made is tried again by the next call.
    pub fn keep(&mut self) -> Vec<String> {
        let mut kept = Vec::new();
        match doors::keep_directory(Path::new(doors::RUN)) {
            Ok(true) => {
                kept.push(format!("{} was missing, or not root's with mode 0755, and was put right", doors::RUN))
            }
            Ok(false) => {}
            Err(error) => tell_once(&mut self.failing, format!("{} cannot be put right: {error}", doors::RUN)),
        }
        kept.extend(self.sockets.iter_mut().filter_map(Socket::keep));
        kept
    }
}

impl Socket {
    fn new(asks: Asks, path: &'static str, listener: StdListener, reasons: mpsc::Sender<Reason>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let door = Door::new(Path::new(path), asks.mode(), &listener)?;
        drop(asks.answer(UnixListener::from_std(listener)?, reasons.clone()));
        Ok(Self { path, asks, reasons, door, own: None, failing: None })
    }

    fn keep(&mut self) -> Option<String> {
        match self.door.keep().and_then(|made| made.map(UnixListener::from_std).transpose()) {
            Ok(made) => {
                self.failing = None;
                let answering = self.asks.answer(made?, self.reasons.clone());
                if let Some(before) = self.own.replace(answering) {
                    before.abort();
                }
                Some(format!(
                    "{} was removed or replaced, and was made again; after `systemctl restart lockdownd-gate.socket \
                     lockdownd-control.socket` whoever asks while the daemon restarts waits again, instead of being refused",
                    self.path
                ))
            }
            Err(error) => {
                let what = format!("{} was removed or replaced, and cannot be made again: {error}", self.path);
                tell_once(&mut self.failing, what);
                None
            }
        }
    }
}

/// Logs what fails, unless it was the last to fail.
fn tell_once(failing: &mut Option<String>, what: String) {
    if failing.as_ref() != Some(&what) {
        tracing::error!("{what}");
        *failing = Some(what);
    }
}

/// Answers on both sockets, for as long as somebody receives the reasons.
///
/// # Errors
/// systemd did not pass both.
pub fn serve(logins: mpsc::Sender<Reason>, operators: mpsc::Sender<Reason>) -> Result<Sockets, SocketError> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        // What is no socket is somebody else's: the watch for writers.
        listeners.extend(passed.take_unix_listener(index).ok().flatten());
    }
    let mut take = |path: &'static str| {
        let found = listeners.iter().position(|listener| listens_at(listener, path));
        Ok::<_, SocketError>(listeners.swap_remove(found.ok_or(SocketError::Missing(path))?))
    };
    let (gate, control) = (take(gate::SOCKET)?, take(control::SOCKET)?);
    let gate = Socket::new(Asks::Gate, gate::SOCKET, gate, logins)?;
    let control = Socket::new(Asks::Operators, control::SOCKET, control, operators)?;
    Ok(Sockets { sockets: [gate, control], failing: None })
}

#[cfg(test)]
pub(super) fn serve_gate(listener: UnixListener, logins: mpsc::Sender<Reason>) {
    Asks::Gate.answer(listener, logins);
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

/// Nobody waits for a place here: who has too many already is told so.
async fn accept_operators(listener: UnixListener, reasons: mpsc::Sender<Reason>) {
    let desk = Desk::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Who has ended waits for no answer.
        let Ok(peer) = Peer::of(&stream) else { continue };
        let Some(place) = desk.place(Login::of(&peer)) else {
            let refusal = Refusal::new(RefusalCode::LimitReached, "too many requests are under way already")
                .hint("wait for the answers to yours, then ask again");
            // Into a fresh socket's empty buffer; a peer that does not take it is not waited for.
            let _ = stream.try_write(&control::encode_response(Err(refusal)));
            continue;
        };
        let answering = answer_operator(stream, peer, reasons.clone());
        tokio::spawn(async move {
            if let Err(error) = answering.await {
                tracing::debug!(%error, "a peer was not answered");
            }
            drop(place);
        });
    }
}

/// Who is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Login {
    Root,
    /// Whoever logged in as this user, whatever user ids they take: nobody chooses their login uid.
    Of(u32),
    /// A process of this user that belongs to no login.
    None(u32),
}

impl Login {
    fn of(peer: &Peer) -> Self {
        match (peer.uid, peer.login_uid) {
            (0, _) => Self::Root,
            (_, Some(login_uid)) => Self::Of(login_uid),
            (uid, None) => Self::None(uid),
        }
    }
}

/// How many requests each login has under way.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<HashMap<Login, usize>>>);

/// One request under way; dropped when it is over.
struct DeskPlace {
    desk: Desk,
    login: Login,
}

impl Desk {
    fn place(&self, login: Login) -> Option<DeskPlace> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |which: fn(&Login) -> bool| -> usize {
            taken.iter().filter(|(login, _)| which(login)).map(|(_, count)| count).sum()
        };
        let is_full = match login {
            Login::Root => false,
            Login::Of(_) => count(|login| *login != Login::Root) >= MAX_OF_OTHERS,
            Login::None(_) => count(|login| matches!(login, Login::None(_))) >= MAX_WITHOUT_LOGIN,
        };
        let most = if login == Login::Root { MAX_OF_ROOT } else { MAX_PER_LOGIN };
        if is_full || taken.get(&login).is_some_and(|count| *count >= most) {
            return None;
        }
        *taken.entry(login).or_default() += 1;
        Some(DeskPlace { desk: self.clone(), login })
    }
}

impl Drop for DeskPlace {
    fn drop(&mut self) {
        let mut taken = self.desk.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.login) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.login)),
        }
    }
}

async fn answer_gate(mut stream: UnixStream, reasons: mpsc::Sender<Reason>) -> Result<(), frame::FrameError> {
    let gate = Peer::of(&stream)?.pid;
    let question = read(&mut stream, gate::MAX_FRAME).await?;
    let (answer, answered) = oneshot::channel();
    // Without an driver there is no answer, and the gate refuses.
    if reasons.send(Reason::Login { question, gate, answer }).await.is_err() {
        return Ok(());
    }
    let Ok(answer) = answered.await else { return Ok(()) };
    write(&mut stream, &frame::encode(&answer, gate::MAX_FRAME)?).await
}

async fn answer_operator(
    mut stream: UnixStream,
    peer: Peer,
    reasons: mpsc::Sender<Reason>,
) -> Result<(), frame::FrameError> {
    let request: Request = read(&mut stream, MAX_REQUEST).await?;
    let (reply, replied) = oneshot::channel();
    if reasons.send(Reason::Asked { request, peer, reply: Reply(reply) }).await.is_err() {
        return Ok(());
    }
    let Ok(response) = replied.await else { return Ok(()) };
    write(&mut stream, &control::encode_response(response)).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_many_requests_nor_many_user_ids_keep_root_or_another_login_from_being_heard() {
        let desk = Desk::default();
        let mut held: Vec<DeskPlace> = (0..MAX_PER_LOGIN).filter_map(|_| desk.place(Login::Of(1000))).collect();
        assert!(held.len() == MAX_PER_LOGIN && desk.place(Login::Of(1000)).is_none());
        held.extend((100_000..165_536).filter_map(|uid| desk.place(Login::None(uid))));
        assert_eq!(held.len(), MAX_PER_LOGIN + MAX_WITHOUT_LOGIN, "however many user ids somebody has");
        let operator = desk.place(Login::Of(1001)).expect("another login is heard");
        held.extend((2000..4000).filter_map(|uid| desk.place(Login::Of(uid))));
        assert!(held.len() < MAX_OF_OTHERS && desk.place(Login::Of(4000)).is_none());
        assert!(desk.place(Login::Root).is_some());
        drop(operator);
        assert!(desk.place(Login::Of(4000)).is_some(), "a place is given back");
        drop(held);
        assert!(desk.0.lock().unwrap().is_empty(), "nothing is remembered of whom nothing is under way");
    }
}
