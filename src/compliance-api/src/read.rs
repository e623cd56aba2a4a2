//! Reading: endpoints that serve evidence to auditors.
//!
//! Nothing is read before the server's own ledger says, durably, who asked for what. Long answers are made chunk by
//! chunk, so that memory stays flat and no question holds the database for long.

mod artifacts;
mod cursor;
mod facts;
mod hosts;
mod incidents;
mod params;
mod receipts;
mod requirements;
mod standing;
mod stream;
mod walk;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Query},
    http::request::Parts,
    routing::get,
};
use serde::de::DeserializeOwned;

pub use self::standing::{LedgerFacts, Standing, standing};
use crate::{App, auth::Auditor, evidence::Status, own_ledger, problem::Problem};

/// The endpoints of this module.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/artifacts", get(artifacts::list))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/receipts", get(receipts::list))
        .route("/v1/requirements", get(requirements::list))
        .route("/v1/requirements/{id}", get(requirements::one))
        .layer(Extension(stream::Streams::default()))
}

/// Everything that is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(artifacts::list, hosts::list, incidents::list, receipts::list, requirements::list, requirements::one),
    components(schemas(artifacts::Form, Standing, Status))
)]
pub struct Described;

/// A request's query, with the words of the refusal in our own form, and as text for the server's own ledger.
#[derive(Debug)]
struct Asked<T> {
    query: T,
    text: String,
}

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|e| Problem::malformed(deepest(&e)))?;
        Ok(Self { query, text: parts.uri.query().unwrap_or_default().to_owned() })
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

/// States who asks for what, before anything is read.
async fn stated(app: &App, auditor: &Auditor, what: &'static str, query: &str) -> Result<(), Problem> {
    own_ledger::audit(&app.store, auditor.0.by(), what, query).await
}
