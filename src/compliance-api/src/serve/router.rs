//! Which request goes where, and what holds for all of them: a bound on time and on the body, and what every answer says.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use document::{Kind, Namespace};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use tower_http::compression::CompressionLayer;
use utoipa::ToSchema;

use super::{
    observed::observed,
    places::{Place, Places},
    ready,
};
use crate::{
    App, admin, auth::Peer, documents, ingest, metrics, moment::Moment, network::Network, openapi, pages,
    problem::Problem, read, reviewers, verdict::Why,
};

/// What is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(paths(server, ready::live, ready::ready, ready::healthy, metrics::serve))]
pub struct Described;

/// Bytes of a body that is too large which are read, and thrown away, before the answer.
const PASSED_OVER: usize = 8 * 1024 * 1024;
/// For how long.
const PASSED_OVER_TIME: Duration = Duration::from_secs(5);

/// All endpoints.
pub(super) fn router(app: Arc<App>) -> Router {
    let body = app.config.limits.body;
    let places = Places::new(app.config.limits.requests_per_address);
    let at_once = |most| Bounds { app: Arc::clone(&app), places: places.clone(), most, waits: Duration::ZERO };
    let waits = Bounds { waits: documents::MAX_WAIT, ..at_once(body) };
    let large = at_once(documents::MAX_BODY);
    Router::new()
        .route("/livez", get(ready::live))
        .route("/readyz", get(ready::ready))
        .route("/healthz", get(ready::healthy))
        .merge(compressed())
        .route("/v1/server", get(server))
        .merge(ingest::router())
        .merge(admin::router())
        .merge(read::router())
        .merge(reviewers::router())
        .merge(pages::router())
        .fallback(async || Problem::not_found("there is nothing at this path; /openapi.json lists what there is"))
        .method_not_allowed_fallback(async || {
            Problem::new(Why::Method, "this path does not take this method; /openapi.json lists what it takes")
        })
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(at_once(body), bounded))
        .merge(documents::router().layer(middleware::from_fn_with_state(large, bounded)))
        .merge(documents::waiting().layer(middleware::from_fn_with_state(waits, bounded)))
        .layer(middleware::from_fn(pages::refusals))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observed))
        .with_state(app)
}

/// What is long, and holds nobody's secret.
fn compressed() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics::serve))
        .route("/openapi.json", get(openapi::serve))
        .layer(CompressionLayer::new().gzip(true))
}

/// Who the server is, for verifying receipts.
#[derive(Debug, Serialize, ToSchema)]
struct Server {
    /// Its name: the principal of its key.
    name: String,
    /// Its version.
    version: &'static str,
    /// The key that signs receipts and the server's own ledger, as OpenSSH writes it.
    public_key: String,
    /// The same as a line of an allowed_signers file (ssh-keygen(1)).
    allowed_signers: String,
    /// The keys before it, oldest first: what they signed verifies with them.
    former_keys: Vec<FormerKey>,
}

/// A key that this server signed with.
#[derive(Debug, Serialize, ToSchema)]
struct FormerKey {
    /// As OpenSSH writes it.
    public_key: String,
    /// When it began to sign.
    since: Moment,
    /// When another took its place.
    until: Moment,
}

/// Who the server is: the key that its receipts verify with.
#[utoipa::path(get, path = "/v1/server", tag = "server",
    responses((status = 200, description = "The server", body = Server)))]
async fn server(State(app): State<Arc<App>>) -> Result<Json<Server>, Problem> {
    let line = app.store.key().public_line()?;
    let keys = app.store.readers().run(|tx| tx.server_keys()).await?;
    let former = keys.iter().zip(keys.iter().skip(1)).map(|((key, since), (_, until))| FormerKey {
        public_key: key.clone(),
        since: Moment(*since),
        until: Moment(*until),
    });
    let name = app.config.name.as_str();
    let feeds = Namespace::Of(Kind::Feed);
    let namespaces = format!("{},{},{},{feeds}", record::RECEIPT_NAMESPACE, record::NAMESPACE, case::NAMESPACE);
    Ok(Json(Server {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        allowed_signers: format!("{name} namespaces=\"{namespaces}\" {line}"),
        public_key: line,
        former_keys: former.collect(),
    }))
}

/// What bounds a request.
#[derive(Clone)]
struct Bounds {
    app: Arc<App>,
    places: Places<Network>,
    /// Bytes of its body.
    most: usize,
    /// How long it may wait for something to answer.
    waits: Duration,
}

/// A request's place among those of its sender. One that only waits can give it back.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Mutex<Option<Place<Network>>>>);

impl Held {
    /// Gives the place back before there is an answer.
    pub(crate) fn give_back(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn bounded(State(bounds): State<Bounds>, mut request: Request, next: Next) -> Response {
    let limits = &bounds.app.config.limits;
    let most = limits.request_timeout.saturating_add(bounds.waits);
    // Without a peer it came over no connection: nothing to be bounded.
    let peer = request.extensions().get::<Peer>().map(|peer| Network::of(peer.0.ip()));
    let place = peer.map(|peer| bounds.places.take(peer));
    let mut response = if matches!(place, Some(None)) {
        Problem::slow_down(limits.requests_per_address).into_response()
    } else if said_length(&request).is_some_and(|length| length > bounds.most as u64) {
        pass_over(request.into_body()).await;
        Problem::too_large(bounds.most).into_response()
    } else {
        let held = Held(Arc::new(Mutex::new(place.flatten())));
        request.extensions_mut().insert(held.clone());
        let response = match tokio::time::timeout(most, next.run(request)).await {
            Ok(response) => response,
            Err(_) => too_slow(limits.request_timeout).into_response(),
        };
        held.give_back();
        response
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Reads on for a while: whoever is still sending when the connection is closed may never see the answer.
async fn pass_over(body: Body) {
    let all = async {
        let mut body = Limited::new(body, PASSED_OVER);
        while let Some(Ok(_)) = body.frame().await {}
    };
    // What takes longer is closed all the same.
    let _ = tokio::time::timeout(PASSED_OVER_TIME, all).await;
}

fn said_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_slow(most: Duration) -> Problem {
    let detail = format!("the request was not there or not done within {} seconds; send it again", most.as_secs());
    Problem::new(Why::TooSlow, detail)
}
