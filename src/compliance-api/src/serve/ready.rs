//! Whether the server runs, and whether it can take anything in: for whoever watches it, and open to all.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use nix::sys::statvfs::statvfs;

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

async fn is_ready(app: &App) -> Result<&'static str, Problem> {
    let free = tokio::time::timeout(WRITER_ANSWERS, free(&app.store, app.config.state.clone())).await;
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
async fn free(store: &Store, state: std::path::PathBuf) -> Result<u64, Error> {
    store
        .write(move |_| {
            let found =
                statvfs(&state).map_err(|e| Error::Io { doing: "look at", path: state.clone(), source: e.into() })?;
            Ok(found.blocks_available().saturating_mul(found.fragment_size()))
        })
        .await
}
