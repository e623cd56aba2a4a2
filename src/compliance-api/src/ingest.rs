//! `POST /v1/artifacts`: what hosts, clients and reviewers state.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// The endpoint.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
