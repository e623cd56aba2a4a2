//! What an admin does over HTTP: tokens and enrolments.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// The endpoints.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
