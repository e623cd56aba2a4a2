//! Whether the server runs, and whether it can take anything in: for whoever watches it, and open to all.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::State;
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex;

use crate::{
    App,
    problem::Problem,
    store::{Error, Store},
};

/// How long the thread that writes has to come to it.
const WRITER_ANSWERS: Duration = Duration::from_secs(5);
/// Bytes that have to be free where the database is: the write-ahead log may take half of that before it is moved.
const FREE: u64 = 64 * 1024 * 1024;

/// Whether the server runs.
#[utoipa::path(get, path = "/livez", tag = "server",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether the server can take anything in: the thread that writes answers, and the disk has room.
#[utoipa::path(get, path = "/readyz", tag = "server",
    responses((status = 200, description = "It can", body = String, content_type = "text/plain")))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    is_ready(&app).await
}

/// The same as /readyz.
#[utoipa::path(get, path = "/healthz", tag = "server",
    responses((status = 200, description = "It can", body = String, content_type = "text/plain")))]
pub(super) async fn healthy(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    is_ready(&app).await
}

/// How much room there was the last time that somebody asked. One asks at a time, and the answer is for all who waited for
/// it: anybody may ask, and many at a time fill no queue.
#[derive(Debug, Default)]
pub struct Readiness(Arc<Mutex<Option<(Instant, u64)>>>);

async fn is_ready(app: &App) -> Result<&'static str, Problem> {
    let free = tokio::time::timeout(WRITER_ANSWERS, free(app)).await;
    match free {
        Err(_) => Err(Problem::busy("the thread that writes does not answer: nothing can be stored")),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(free)) if free < FREE => {
            Err(Problem::busy(format!("the disk has {free} bytes left, and {FREE} have to be free: make room")))
        }
        Ok(Ok(_)) => Ok("ok\n"),
    }
}

/// How much room there is, found out by the thread that writes: so that it is known to answer.
async fn free(app: &App) -> Result<u64, Error> {
    let asked = Instant::now();
    let mut known = Arc::clone(&app.readiness.0).lock_owned().await;
    if let Some((_, free)) = known.filter(|(found, _)| *found > asked) {
        return Ok(free);
    }
    let (store, state) = (app.store.clone(), app.config.state.clone());
    // Whoever asked may go meanwhile: the next one still waits for this answer.
    let looking = tokio::spawn(async move {
        let free = look(&store, state).await?;
        *known = Some((Instant::now(), free));
        Ok(free)
    });
    looking.await.map_err(|_| Error::Closed)?
}

async fn look(store: &Store, state: PathBuf) -> Result<u64, Error> {
    store.write(move |_| left(&state)).await
}

/// How many bytes are left where this directory is.
pub(crate) fn left(state: &Path) -> Result<u64, Error> {
    let found = statvfs(state).map_err(|e| Error::Io { doing: "look at", path: state.to_owned(), source: e.into() })?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}
