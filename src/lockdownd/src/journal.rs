//! Tells journald each record, and the daemon's own log: from threads of their own, so that a journald that has stopped
//! never holds anybody up.
//!
//! What does not fit in a queue is dropped here, counted, and said once the journal takes entries again: the ledger has
//! the records all the same.

mod catalog;
mod entry;
mod log;

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use record::Line;

pub use self::{
    catalog::{DROPPED_ID, message_id},
    log::{LogError, start_log},
};

/// Where journald listens for native entries (systemd, "Native Journal Protocol").
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// How many records may wait for journald.
pub const QUEUE: usize = 1024;
/// How long one attempt to send waits, and how long the next is put off when journald is not there.
const PATIENCE: Duration = Duration::from_millis(500);

enum Message {
    Record(String),
    Flush(SyncSender<()>),
}

/// The way to the journal. Clones lead to the same queue.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record(_) => "Record",
            Self::Flush(_) => "Flush",
        })
    }
}

impl Journal {
    /// Starts the thread that sends to journald.
    ///
    /// # Errors
    /// No thread or no socket can be made.
    pub fn start() -> io::Result<Self> {
        Self::start_at(Path::new(SOCKET), QUEUE)
    }

    fn start_at(socket: &Path, bound: usize) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(bound);
        let dropped = Arc::new(AtomicU64::new(0));
        let datagram = UnixDatagram::unbound()?;
        datagram.set_write_timeout(Some(PATIENCE))?;
        let sender = Sender { waiting, datagram, socket: socket.to_owned(), dropped: dropped.clone() };
        thread::Builder::new().name("journal".to_owned()).spawn(move || sender.run())?;
        Ok(Self { queue, dropped })
    }

    /// Hands a record over. Never waits: with the queue full it is dropped, and counted.
    pub fn record(&self, line: &Line) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(Message::Record(line.as_str().to_owned()))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over so far has been sent, or this long. Whether it was.
    #[must_use]
    pub fn flush(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let (done, told) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return false;
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        told.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
    }
}

struct Sender {
    waiting: Receiver<Message>,
    datagram: UnixDatagram,
    socket: PathBuf,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    fn run(self) {
        while let Ok(message) = self.waiting.recv() {
            match message {
                Message::Record(line) => {
                    if let Some(entry) = entry::of_record(&line) {
                        self.deliver(&entry);
                    }
                    self.confess();
                }
                // Whoever asked may have gone; nothing to do about it.
                Message::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    /// Sends until journald has taken it; the queue meanwhile fills, and its overflow is counted.
    fn deliver(&self, entry: &[u8]) {
        while let Err(error) = self.datagram.send_to(entry, &self.socket) {
            if error.raw_os_error() == Some(nix::libc::EMSGSIZE) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if error.kind() != io::ErrorKind::WouldBlock {
                thread::sleep(PATIENCE);
            }
        }
    }

    /// Says once how many were dropped.
    fn confess(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.deliver(&entry::of_dropped(dropped));
        }
    }
}

#[cfg(test)]
mod tests;
