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
    time::Instant,
};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use super::{
    Error, Server, Tx,
    engine::{Connection, Dialect},
    queue::{Place, Queue, Room},
    server_keys,
    transaction::Transaction,
};

/// Jobs of one transaction. More wait for the next: a commit should not keep its first job waiting long.
const JOBS_PER_COMMIT: usize = 64;

/// A mistake in the program, sysexits.h.
const EXIT_SOFTWARE: i32 = 70;

/// Runs inside the transaction, and leaves behind what is to be done once it is known whether that was committed.
type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The way to the thread. Cloning it is cheap.
#[derive(Clone)]
pub(super) struct Writer(Arc<Way>);

/// The thread ends once nobody has a way to it any more.
struct Way {
    queue: Arc<Queue<Job>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// With room for so many jobs of each kind, and for so many batches of so many records.
    pub(super) fn start(
        connection: Connection,
        (room, batch): (usize, usize),
        server: Arc<Server>,
        commits: Histogram,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue::new(room, batch));
        let desk = Desk { connection, server, commits };
        let waiting = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                if panic::catch_unwind(AssertUnwindSafe(|| desk.work(&waiting))).is_err() {
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
        Ok(Self(Arc::new(Way { queue, thread: Mutex::new(Some(thread)) })))
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        place: Place,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (job, answered) = with_answer(job);
        self.0.queue.put(place, job)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub(super) fn write_blocking<T: Send + 'static>(
        &self,
        job: impl Fn(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (job, answered) = with_answer(job);
        self.0.queue.put(Room::Server, job)?;
        answered.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Waits until the thread has come to it, whatever waits before it and whatever becomes of the transaction. For one at a
    /// time: it has a place however full the queue is.
    pub(super) async fn answers(&self) {
        let (job, answered) = with_answer(|_: &mut dyn Tx| Ok(()));
        if self.0.queue.put_anyway(Room::Server, job).is_ok() {
            // Dropped unanswered where no transaction could be begun: the thread came to it all the same.
            let _ = answered.await;
        }
    }

    /// How many jobs wait, of each kind.
    pub(super) fn waiting(&self) -> Vec<(&'static str, usize)> {
        self.0.queue.lengths()
    }

    pub(super) fn close(&self) {
        self.0.queue.close();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
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
fn by_itself<T>(writing: &mut Transaction<'_>, job: impl Fn(&mut dyn Tx) -> Result<T, Error>) -> Result<T, Error> {
    let (connection, apart) = (writing.connection, "keeping jobs apart");
    connection.mark("SAVEPOINT job").map_err(Error::database(apart))?;
    let result = job(writing);
    if result.is_err() {
        connection.roll_back_to("job").map_err(Error::database(apart))?;
    }
    connection.mark("RELEASE job").map_err(Error::database(apart))?;
    result
}

/// All that the thread owns.
struct Desk {
    connection: Connection,
    server: Arc<Server>,
    commits: Histogram,
}

impl Desk {
    fn work(self, queue: &Queue<Job>) {
        let mut jobs = Vec::with_capacity(JOBS_PER_COMMIT);
        loop {
            queue.take(JOBS_PER_COMMIT, &mut jobs);
            if jobs.is_empty() {
                break;
            }
            self.commit(&mut jobs);
        }
        if self.connection.dialect() == Dialect::Postgres {
            return;
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);") {
            tracing::warn!(%error, "the database was closed without moving the write-ahead log into it");
        }
    }

    fn commit(&self, jobs: &mut Vec<Job>) {
        let mut finishes: Vec<Finish> = Vec::with_capacity(jobs.len());
        let begun = Instant::now();
        let committed = self.transaction(jobs, &mut finishes).map_err(|error| {
            let why = crate::describe::describe(&error);
            tracing::error!(error = %why, jobs = finishes.len() + jobs.len(), "a transaction was not committed");
            why
        });
        self.commits.observe(begun.elapsed().as_secs_f64());
        for finish in finishes {
            finish(committed.clone());
        }
        // What was not begun is dropped, and its sender told that the store is closed.
        jobs.clear();
    }

    fn transaction(&self, jobs: &mut Vec<Job>, finishes: &mut Vec<Finish>) -> Result<(), Error> {
        let transaction = self.connection.begin_writing().map_err(Error::database("beginning a transaction"))?;
        let (connection, now) = (transaction.connection, transaction.now);
        let mut writing = Transaction { connection, now, server: Arc::clone(&self.server) };
        if server_keys::newest(connection)?.is_some_and(|(id, _)| id != self.server.key.id) {
            return Err(Error::KeyReplaced);
        }
        for job in jobs.drain(..) {
            finishes.push(job(&mut writing));
            if connection.has_given_up() {
                // A full disk, a lost connection and the like: everything was rolled back already.
                return Err(Error::NotCommitted("the database rolled it back".to_owned()));
            }
        }
        transaction.commit().map_err(Error::database("committing a transaction"))
    }
}
