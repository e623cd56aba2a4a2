//! What is known of each request afterwards: its id, in the answer and in the log, and what is counted of it.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::Response,
};
use ssh_key::rand_core::{OsRng, RngCore};
use tracing::Instrument as _;

use crate::{App, auth::Peer, config::LogRequests};

/// The header of an id, of a request and of its answer.
const ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an id that a sender chose.
const MAX_ID: usize = 64;

/// Gives each request an id, and counts and logs how it was answered.
pub(super) async fn observed(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request.headers().get(ID).filter(|id| is_id(id)).cloned().unwrap_or_else(make_id);
    let route = request.extensions().get::<MatchedPath>().map(|path| Arc::<str>::from(path.as_str()));
    let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    let method = request.method().clone();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    // Thousands of these wait: what is needed for a moment has its memory for that long.
    let mut response = Box::pin(next.run(request).instrument(span.clone())).await;
    response.headers_mut().insert(ID, id);
    let (status, took) = (response.status(), begun.elapsed());
    app.metrics.answered(&method, route.as_ref(), status.as_u16(), took);
    if is_logged(app.config.log.requests, status) {
        let (ms, status) = (u64::try_from(took.as_millis()).unwrap_or(u64::MAX), status.as_u16());
        let (route, from) = (route.as_deref().unwrap_or("none"), from.map(|ip| ip.to_string()).unwrap_or_default());
        span.in_scope(|| tracing::info!(%method, route, status, ms, from, "answered"));
    }
    response
}

fn is_logged(wanted: LogRequests, status: StatusCode) -> bool {
    match wanted {
        LogRequests::None => false,
        LogRequests::Failed => status.is_server_error(),
        LogRequests::All => true,
    }
}

/// Whether a sender's id is one that can stand in a log: short, and without anything that could be taken for more.
fn is_id(id: &HeaderValue) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

fn make_id() -> HeaderValue {
    let mut bytes = [0; 8];
    OsRng.fill_bytes(&mut bytes);
    let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    HeaderValue::from_str(&id).expect("hex digits")
}
