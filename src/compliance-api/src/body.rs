//! A request's JSON body, refused in our own words when it is none.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The largest body that a person's or an operator's request needs, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A body of type `application/json`, read into `T`.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body has to be JSON: send Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
        }
        let body = Bytes::from_request(request, state).await.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => Problem::malformed("the body did not come whole"),
        })?;
        if body.len() > MAX_BODY {
            return Err(too_large());
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|e| Problem::malformed(format!("the body cannot be read: {e}; /openapi.json says what it holds")))
    }
}

fn too_large() -> Problem {
    let detail = format!("the body is over {MAX_BODY} bytes; nothing that is asked here needs as much");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
