//! The description of the HTTP interface: OpenAPI 3.1, made from the code that serves it.

use std::sync::LazyLock;

use axum::{http::header, response::IntoResponse};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, PathItem, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{admin, documents, ingest, problem, read, reviewers, serve};

/// A refusal (RFC 9457), with a word for programs and a sentence that says what would work.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what problem.rs writes by hand")]
struct Refusal {
    /// Always `about:blank`: `code` says more.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A word for programs: `malformed`, `bad_token`, `unknown_ledger`, `role`, `not_found`, `method`, `gap`, `fork`,
    /// `too_large`, `media_type`, `not_canonical`, `not_authentic`, `wrong_host`, `slow_down`, `busy`, `internal` and others.
    code: String,
    /// A sentence that says what would work.
    detail: String,
    /// `POST /v1/artifacts`: which event, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// `POST /v1/artifacts`: where the ledger stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    head: Option<Value>,
    /// `POST /v1/artifacts`: the receipt over that head.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    receipt: Option<Value>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "compliance-api",
        description = "Takes signed records from hosts and artifacts from other clients, keeps them, and serves them as \
                       evidence by requirement. docs/COMPLIANCE_API.md has the protocol in full.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "reading", description = "For auditors: what there is, and what it is evidence of"),
        (name = "stating", description = "For hosts, clients and reviewers"),
        (name = "documents", description = "For approvers and hosts: what approvers sign, and where it has come to"),
        (name = "admin", description = "Tokens, enrolments, reviewers"),
        (name = "server", description = "Who the server is; open to all"),
    ),
    components(schemas(Refusal)),
    modifiers(&Common),
)]
struct Described;

/// What holds for every operation.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("ca_ROLE_…")
            .description(Some("A token as `compliance-api token create` prints it"))
            .build();
        let refusal = ResponseBuilder::new()
            .description("A refusal, with what would work")
            .content(problem::MEDIA_TYPE, Content::new(Some(Ref::from_schema_name("Refusal"))))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.responses.insert("Refusal".to_owned(), RefOr::T(refusal));
        for (path, item) in &mut api.paths.paths {
            for (method, operation) in operations(item) {
                operation.operation_id = Some(id(method, path));
                let refused = RefOr::Ref(Ref::from_response_name("Refusal"));
                operation.responses.responses.insert("default".to_owned(), refused);
            }
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [("get", &mut path.get), ("post", &mut path.post), ("delete", &mut path.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name for programs, which no other operation has: `get_requirements_id`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty() && *w != "v1");
    words.fold(method.to_owned(), |id, word| id + "_" + word)
}

/// The description as JSON text.
#[must_use]
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut api = Described::openapi();
        api.merge(OfThis::openapi());
        api.merge(ingest::Described::openapi());
        api.merge(admin::Described::openapi());
        api.merge(serve::Described::openapi());
        api.merge(read::Described::openapi());
        api.merge(reviewers::Described::openapi());
        api.merge(documents::Described::openapi());
        Common.modify(&mut api);
        api.to_pretty_json().expect("strings, numbers and maps can always be written")
    });
    &TEXT
}

/// What is described of this module itself.
#[derive(OpenApi)]
#[openapi(paths(serve))]
struct OfThis;

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(crate) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text())
}
