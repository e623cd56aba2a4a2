//! Reading: endpoints that serve evidence to auditors.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// The endpoints of this module.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
