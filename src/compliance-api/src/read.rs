//! Reading: endpoints that serve evidence to auditors.
//!
//! Nothing is read before the server's own ledger says, durably, who asked for what. Long answers are made chunk by
//! chunk, so that memory stays flat and no question holds the database for long.

mod artifacts;
mod case;
mod checkpoints;
mod cursor;
mod export;
pub(crate) mod facts;
pub(crate) mod hosts;
mod incidents;
pub(crate) mod params;
mod receipts;
pub(crate) mod requirements;
pub(crate) mod seen;
mod standing;
mod stream;
mod walk;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Query, rejection::QueryRejection},
    http::request::Parts,
    routing::get,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tower_http::compression::CompressionLayer;

pub use self::standing::{LedgerFacts, Standing, standing};
use crate::{
    App,
    auth::Auditor,
    evidence::Status,
    own_ledger::{self, Word},
    problem::Problem,
    store::Room,
};

/// The endpoints of this module.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/artifacts", get(artifacts::list))
        .route("/v1/case", get(case::case))
        .route("/v1/checkpoint", get(checkpoints::newest))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/checkpoints/{number}/proof", get(checkpoints::proof))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/receipts", get(receipts::list))
        .route("/v1/requirements", get(requirements::list))
        .route("/v1/requirements/{id}", get(requirements::one))
        .layer(Extension(stream::Streams::default()))
        .layer(Extension(case::Cases::default()))
        // Nothing in them is a secret by which anybody gets in: their length may say what they hold.
        .layer(CompressionLayer::new().gzip(true))
}

/// Everything that is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        artifacts::list,
        case::case,
        checkpoints::newest,
        checkpoints::list,
        checkpoints::proof,
        hosts::list,
        incidents::list,
        receipts::list,
        requirements::list,
        requirements::one
    ),
    components(schemas(artifacts::Form, Standing, Status))
)]
pub struct Described;

/// A request's query, with the words of the refusal in our own form, and as the server's own ledger states it.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    pub(crate) query: T,
    pub(crate) stated: Map<String, Value>,
}

/// How long the values of a query may be together, decoded, so that each can be stated whole, bytes.
const MAX_QUERY: usize = 4096;

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let unread = |e: QueryRejection| Problem::malformed(deepest(&e));
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(unread)?;
        // Decoded: however it is written, whom it is about can be searched for.
        let Query(pairs): Query<Vec<(String, String)>> = Query::try_from_uri(&parts.uri).map_err(unread)?;
        if pairs.iter().map(|(_, value)| value.len()).sum::<usize>() > MAX_QUERY {
            return Err(Problem::malformed(format!("the query is longer than {MAX_QUERY} bytes")));
        }
        Ok(Self { query, stated: pairs.into_iter().map(|(name, value)| (name, value.into())).collect() })
    }
}

/// What is really wrong: the outer errors only say that something is.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    format!("the query cannot be read: {at}; /openapi.json lists the parameters")
}

/// States who asks for what, durably, before anything is read: no record, no read.
///
/// `what` names the endpoint (`artifacts`, `hosts`, …); `query` is what was asked, decoded, by parameter.
pub(crate) async fn stated(
    app: &App,
    auditor: &Auditor,
    what: &'static str,
    query: Map<String, Value>,
) -> Result<(), Problem> {
    let by = auditor.0.by();
    let stated = auditor.0.write(app, Room::Readers, move |tx| {
        let mut detail = Map::new();
        detail.insert("what".to_owned(), what.into());
        detail.insert("query".to_owned(), query.clone().into());
        own_ledger::state(tx, Word::EvidenceRead, &by, "evidence was read", detail)
    });
    stated.await
}
