//! Which request goes where, and what holds for all of them: a bound on time and on the body, and what every answer says.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{App, admin, ingest, openapi, problem::Problem, read, reviewers};

/// All endpoints.
pub(super) fn router(app: Arc<App>) -> Router {
    let body = app.config.limits.body;
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/server", get(server))
        .merge(ingest::router())
        .merge(admin::router())
        .merge(read::router())
        .merge(reviewers::router())
        .route("/openapi.json", get(openapi::serve))
        .fallback(async || Problem::not_found("there is nothing at this path; /openapi.json lists what there is"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this path does not take this method; /openapi.json lists what it takes",
            )
        })
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), bounded))
        .with_state(app)
}

/// Who this server is: the key that signs receipts, in the forms that verifying takes.
async fn server(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let key = ssh_key::PublicKey::from(app.store.key().public_key().key_data().clone());
    let line = key.to_openssh().map_err(|e| Problem::internal(&e))?;
    let name = app.config.name.as_str();
    let namespaces = format!("{},{}", record::RECEIPT_NAMESPACE, record::NAMESPACE);
    Ok(Json(json!({
        "name": name,
        "version": env!("CARGO_PKG_VERSION"),
        "public_key": line,
        "allowed_signers": format!("{name} namespaces=\"{namespaces}\" {line}"),
    })))
}

async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let limits = &app.config.limits;
    let mut response = if said_length(&request).is_some_and(|length| length > limits.body as u64) {
        Problem::too_large(limits.body).into_response()
    } else {
        match tokio::time::timeout(limits.request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => too_slow(limits.request_timeout).into_response(),
        }
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn said_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_slow(most: Duration) -> Problem {
    let detail = format!("the request was not there or not done within {} seconds; send it again", most.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail)
}
