//! Connections that only read, a few, each used by one question at a time on a thread that may block.
//!
//! They never write: the database itself refuses. A question holds a snapshot, and the write-ahead log grows behind it: so
//! long answers are asked for page by page, never as one statement left open.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Error, Server, Tx, engine::Connection, place::Where, transaction::Transaction};

/// The pool. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
    server: Arc<Server>,
}

impl Readers {
    pub(super) fn open(database: &Where, count: usize, server: Arc<Server>) -> Result<Self, Error> {
        let all = (0..count).map(|_| database.connect()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(all)), turns: Arc::new(Semaphore::new(count)), server })
    }

    /// Asks on a blocking thread, when a connection is free. `question` sees a transaction that cannot write.
    ///
    /// # Errors
    /// What `question` returns.
    pub async fn run<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Tx) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.run_with_helpers(move |tx, _| question(tx)).await
    }

    /// The same; `question` is also told how many more are free at the moment, for work that can be shared out.
    ///
    /// # Errors
    /// What `question` returns.
    pub async fn run_with_helpers<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Tx, usize) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Error::Closed)?;
        let free = self.turns.available_permits();
        let (idle, server) = (Arc::clone(&self.idle), Arc::clone(&self.server));
        let asked = tokio::task::spawn_blocking(move || {
            let connection = Borrowed::take(idle)?;
            let begun = connection.get().begin_reading().map_err(Error::database("beginning to read"))?;
            let mut reading = Transaction { connection: begun.connection, now: begun.now, server };
            let answer = question(&mut reading, free);
            drop(begun);
            drop(connection);
            drop(turn);
            answer
        });
        asked.await.map_err(|_| Error::Closed)?
    }
}

/// A connection that goes back when it is dropped, a panic of the question included.
struct Borrowed {
    connection: Option<Connection>,
    home: Arc<Mutex<Vec<Connection>>>,
}

impl Borrowed {
    fn take(home: Arc<Mutex<Vec<Connection>>>) -> Result<Self, Error> {
        let connection = home.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(Error::Closed)?;
        Ok(Self { connection: Some(connection), home })
    }

    fn get(&self) -> &Connection {
        self.connection.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.home.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
