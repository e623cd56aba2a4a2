//! What the server counts about itself, for whoever watches it: `GET /metrics`, in the text format of OpenMetrics 1.0.
//!
//! Nothing of it names a host, a person or a token, and no sender can make labels up.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::State,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    App,
    auth::Monitor,
    describe::describe,
    evidence::SourceKind,
    incidents::Kind,
    problem::Problem,
    serve::left,
    store::{self, Store},
};

/// The media type of OpenMetrics.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "compliance_api";
/// Buckets of how long something took, in seconds: a commit takes milliseconds, a feed is waited for up to five minutes.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

/// Answered requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: Route,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routed {
    route: Route,
}

/// A route as the server names it, with its parameters' names.
type Route = Arc<str>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    kind: &'static str,
}

/// All of it. What others count is in their hands, and what stands somewhere is looked up when it is asked for.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    took: Family<Routed, Histogram, fn() -> Histogram>,
    stored: Family<Named, Counter>,
    /// Connections that are open.
    pub connections: Gauge,
    feeds: Gauge,
    waiting: Family<Named, Gauge>,
    incidents: Family<Named, Gauge>,
    database: Gauge,
    free: Gauge,
}

/// How long something took, for [`Store`] and requests.
#[must_use]
pub fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// For a server on this store, which starts now.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let mut all = Self {
            registry: Registry::with_prefix(PREFIX),
            answered: Family::default(),
            took: Family::new_with_constructor(durations),
            stored: Family::default(),
            connections: Gauge::default(),
            feeds: Gauge::default(),
            waiting: Family::default(),
            incidents: Family::default(),
            database: Gauge::default(),
            free: Gauge::default(),
        };
        let registry = &mut all.registry;
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that serves", version);
        let started: Gauge = Gauge::default();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        started.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        registry.register("start_time_seconds", "When it started, in Unix time", started);
        registry.register("requests", "Requests that were answered", all.answered.clone());
        let took = "From a request's header to its answer's, in which a feed may be waited for";
        registry.register_with_unit("request_duration", took, Unit::Seconds, all.took.clone());
        registry.register("artifacts_stored", "Artifacts that were stored, by who states them", all.stored.clone());
        registry.register("connections", "Connections that are open", all.connections.clone());
        registry.register("feeds_waiting", "Hosts and readers that wait for a feed", all.feeds.clone());
        registry.register("writes_waiting", "What waits to be written, by kind", all.waiting.clone());
        let commits = "How long transactions took to be on disk";
        registry.register_with_unit("commit_duration", commits, Unit::Seconds, store.commits());
        registry.register("incidents_open", "Incidents that are open, by kind", all.incidents.clone());
        registry.register_with_unit("database", "The database", Unit::Bytes, all.database.clone());
        registry.register_with_unit("disk_free", "Left where the database is", Unit::Bytes, all.free.clone());
        all
    }

    /// Counts a request. `route` is none where no path fits.
    pub(crate) fn answered(&self, method: &Method, route: Option<&Route>, status: u16, took: Duration) {
        let route = route.map_or_else(|| Arc::from("none"), Arc::clone);
        self.took.get_or_create(&Routed { route: Arc::clone(&route) }).observe(took.as_secs_f64());
        self.answered.get_or_create(&Answered { method: word(method), route, status }).inc();
    }

    /// Counts artifacts that were stored.
    pub(crate) fn stored(&self, kind: SourceKind, count: usize) {
        if count > 0 {
            self.stored.get_or_create(&Named { kind: kind.as_str() }).inc_by(count as u64);
        }
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A method as a label: whatever a sender makes up is one.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// What the server counts about itself, in the text format of OpenMetrics 1.0.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, description = "All of it", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")),
    security(("bearer" = [])))]
pub(crate) async fn serve(State(app): State<Arc<App>>, _: Monitor) -> Result<Response, Problem> {
    let metrics = &app.metrics;
    let asked = app.store.readers().run(|tx| {
        let bytes = tx.database_bytes()?;
        let count = |kind: &Kind| Ok((*kind, tx.open_incidents(*kind)?));
        Ok((bytes, Kind::ALL.iter().map(count).collect::<Result<Vec<_>, store::Error>>()?))
    });
    let (database, open) = asked.await?;
    for (kind, count) in open {
        set(&metrics.incidents.get_or_create(&Named { kind: kind.as_str() }), count);
    }
    for (kind, count) in app.store.waiting() {
        set(&metrics.waiting.get_or_create(&Named { kind }), count as u64);
    }
    set(&metrics.feeds, app.documents.as_ref().map_or(0, |documents| documents.waiting()) as u64);
    let state = app.config.state.clone();
    let looked = tokio::task::spawn_blocking(move || left(&state));
    let free = looked.await.map_err(|_| store::Error::Closed)??;
    set(&metrics.database, database);
    set(&metrics.free, free);
    let text = metrics.text().map_err(|why| {
        let why = describe(&why);
        Problem::internal(&store::Error::Unsound(format!("metrics that cannot be written: {why}")))
    })?;
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(response)
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
