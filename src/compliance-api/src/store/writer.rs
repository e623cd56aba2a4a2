//! The one thread that writes. It takes all that waits, up to a bound, into one transaction, and answers after the
//! commit: many requests share one fsync.
//!
//! It never answers before the commit, and one job's failure never takes another's work with it.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Error, Server, Tx, server_keys, sqlite::Sqlite};

/// Jobs of one transaction. More wait for the next: a commit should not keep its first job waiting long.
const JOBS_PER_COMMIT: usize = 64;

/// A mistake in the program, sysexits.h.
const EXIT_SOFTWARE: i32 = 70;

/// Runs inside the transaction, and leaves behind what is to be done once it is known whether that was committed.
type Job = Box<dyn FnOnce(&mut Sqlite<'_>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The way to the thread. Cloning it is cheap.
#[derive(Clone)]
pub(super) struct Writer {
    queue: Arc<Mutex<Option<mpsc::Sender<Job>>>>,
    thread: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, queue: usize, server: Arc<Server>) -> Result<Self, Error> {
        let (send, receive) = mpsc::channel(queue);
        let desk = Desk { connection, server };
        let thread = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                if panic::catch_unwind(AssertUnwindSafe(|| desk.work(receive))).is_err() {
                    // Better to be started anew than to go on without writing. Nothing unfinished was answered.
                    tracing::error!("the thread that writes has failed: the server ends");
                    process::exit(EXIT_SOFTWARE);
                }
            })
            .map_err(|source| Error::Io {
                doing: "start the thread that writes to",
                path: super::FILE.into(),
                source,
            })?;
        Ok(Self { queue: Arc::new(Mutex::new(Some(send))), thread: Arc::new(Mutex::new(Some(thread))) })
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.hand_in(job)?.await.map_err(|_| Error::Closed)?
    }

    pub(super) fn write_blocking<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.hand_in(job)?.blocking_recv().map_err(|_| Error::Closed)?
    }

    fn hand_in<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
        let (job, answered) = with_answer(job);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or(Error::Closed)?.try_send(job).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        Ok(answered)
    }

    /// Waits for room in the queue, and then until the thread has come to it, whatever becomes of the transaction.
    pub(super) async fn answers(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(queue) = queue else { return };
        let (job, answered) = with_answer(|_: &mut dyn Tx| Ok(()));
        if queue.send(job).await.is_ok() {
            // Dropped unanswered where no transaction could be begun: the thread came to it all the same.
            let _ = answered.await;
        }
    }

    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread is in the log already.
            let _ = thread.join();
        }
    }
}

/// A job, and where what it returned comes once the transaction is over.
fn with_answer<T: Send + 'static>(
    job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, Error>>) {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |writing| {
        let result = by_itself(writing, job);
        Box::new(move |committed| {
            let result = match committed {
                Ok(()) => result,
                Err(why) => Err(Error::NotCommitted(why)),
            };
            // Nobody waits any more: what was stored stays stored.
            let _ = answer.send(result);
        })
    });
    (job, answered)
}

/// Runs one job in a savepoint: what fails leaves nothing behind.
fn by_itself<T>(writing: &mut Sqlite<'_>, job: impl Fn(&mut dyn Tx) -> Result<T, Error>) -> Result<T, Error> {
    let connection = writing.connection;
    let run = |sql: &str| {
        connection.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(Error::sqlite("keeping jobs apart"))
    };
    run("SAVEPOINT job")?;
    let result = job(writing);
    if result.is_err() {
        run("ROLLBACK TO job")?;
    }
    run("RELEASE job")?;
    result
}

/// All that the thread owns.
struct Desk {
    connection: Connection,
    server: Arc<Server>,
}

impl Desk {
    fn work(self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(JOBS_PER_COMMIT);
        loop {
            jobs.clear();
            if queue.blocking_recv_many(&mut jobs, JOBS_PER_COMMIT) == 0 {
                break;
            }
            self.commit(&mut jobs);
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);") {
            tracing::warn!(%error, "the database was closed without moving the write-ahead log into it");
        }
    }

    fn commit(&self, jobs: &mut Vec<Job>) {
        let mut finishes: Vec<Finish> = Vec::with_capacity(jobs.len());
        let committed = self.transaction(jobs, &mut finishes).map_err(|error| {
            let why = crate::describe::describe(&error);
            tracing::error!(error = %why, jobs = finishes.len() + jobs.len(), "a transaction was not committed");
            why
        });
        for finish in finishes {
            finish(committed.clone());
        }
        // What was not begun is dropped, and its sender told that the store is closed.
        jobs.clear();
    }

    fn transaction(&self, jobs: &mut Vec<Job>, finishes: &mut Vec<Finish>) -> Result<(), Error> {
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, rusqlite::TransactionBehavior::Immediate)
                .map_err(Error::sqlite("beginning a transaction"))?;
        let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("the clock's own time");
        let mut writing = Sqlite { connection: &transaction, now, server: Arc::clone(&self.server) };
        if server_keys::newest(&transaction)?.is_some_and(|(id, _)| id != self.server.key.id) {
            return Err(Error::KeyReplaced);
        }
        for job in jobs.drain(..) {
            finishes.push(job(&mut writing));
            if transaction.is_autocommit() {
                // A full disk and the like: SQLite has rolled back everything by itself.
                return Err(Error::NotCommitted("the database rolled it back".to_owned()));
            }
        }
        transaction.commit().map_err(Error::sqlite("committing a transaction"))
    }
}
