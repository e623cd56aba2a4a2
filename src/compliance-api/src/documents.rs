//! Documents of a stack: what approvers sign, judged as hosts judge, kept, and handed to the hosts of each stack in its feed.
//! docs/DOCUMENTS.md is their format.
//!
//! It never gives anything by itself: a host believes the signatures, and this server none of the hosts' decisions for them.

mod answer;
mod applying;
mod deciding;
mod feed;
mod judging;
mod listening;
mod pace;
mod posting;
mod progress;
mod requests;
mod runs;
pub mod sessions;
mod statement;
mod status;
mod telling;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use document::{MAX_ENVELOPE, MAX_ROSTER_ENVELOPE, Organization, Origin};
use tokio::sync::{Semaphore, watch::Receiver};

pub use self::{
    deciding::{MAX_PENDING, MAX_PENDING_EACH},
    feed::MAX_WAIT,
    listening::listen,
    pace::MAX_CLOSINGS_A_MINUTE,
};
use self::{judging::Judges, listening::Feeds, pace::Pace, progress::Progress};
use crate::{
    App,
    config::Stack,
    network::Network,
    problem::Problem,
    serve::Places,
    store::{self, Store, Tx},
    verdict::Why,
};

/// Bytes of the longest request: the envelope of a roster.
pub const MAX_BODY: usize = MAX_ROSTER_ENVELOPE;
/// Rosters that are taken in at a time; one of each sender's.
const ROSTERS: usize = 4;

/// What the server has of documents.
#[derive(Debug)]
pub struct Documents {
    judges: Judges,
    feeds: Feeds,
    rosters: Arc<Semaphore>,
    senders: Places<Network>,
    origin: Origin,
    progress: Progress,
    pace: Pace,
}

impl Documents {
    /// As the configuration's `[stack]` says, for a server with this address.
    #[must_use]
    pub fn new(stack: &Stack, listen: SocketAddr, polls: usize, stop: Receiver<bool>) -> Self {
        let by_address = || sessions::origin_of(listen).expect("an address is an origin");
        Self {
            origin: stack.origin.clone().unwrap_or_else(by_address),
            progress: Progress::new(stop),
            judges: Judges::new(stack.settings.clone()),
            feeds: Feeds::new(polls),
            rosters: Arc::new(Semaphore::new(ROSTERS)),
            senders: Places::new(1),
            pace: Pace::default(),
        }
    }

    /// Hosts said what became of documents.
    pub fn outcomes_came(&self) {
        self.progress.moved();
    }

    /// How many wait for a feed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.feeds.waiting()
    }

    fn organization(&self) -> &Organization {
        &self.judges.settings().organization
    }

    /// Makes the store ready: feeds of another organization begin anew.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(&self, store: &Store) -> Result<(), store::Error> {
        let organization = self.organization().clone();
        let anew = store.write(move |tx| tx.begin_feeds_anew(&organization)).await?;
        if anew > 0 {
            tracing::warn!(feeds = anew, "feeds of another organization began anew");
        }
        Ok(())
    }
}

impl App {
    /// What the server has of documents.
    ///
    /// # Errors
    /// 404 `no_stack` where it is configured to have none.
    fn documents(&self) -> Result<&Arc<Documents>, Problem> {
        self.documents.as_ref().ok_or_else(|| {
            let detail = "this server keeps no documents: its configuration has no [stack]";
            Problem::new(Why::NoStack, detail)
        })
    }
}

/// The endpoints that answer at once.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/documents", post(posting::take))
        .route("/v1/documents/{id}", get(posting::one))
        .route("/v1/requests", get(requests::list))
        .route("/v1/roster", get(requests::roster))
        .route("/v1/runs", get(runs::list).post(runs::take).layer(DefaultBodyLimit::max(MAX_ENVELOPE)))
        .route("/v1/sessions/challenge", post(sessions::challenge))
        .route("/v1/sessions", post(sessions::begin))
        .route("/v1/status", get(status::list))
}

/// The endpoints that wait until there is something to say.
pub fn waiting() -> Router<Arc<App>> {
    Router::new().route("/v1/feed", get(feed::hear)).route("/v1/documents/{id}/hosts", get(progress::list))
}

/// What is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    posting::take,
    posting::one,
    progress::list,
    feed::hear,
    requests::list,
    requests::roster,
    runs::list,
    runs::take,
    sessions::challenge,
    sessions::begin,
    status::list
))]
pub struct Described;

/// The judge's clock.
fn now(tx: &dyn Tx) -> document::Moment {
    document::Moment::of(tx.now())
}
