//! `GET /v1/checkpoint`, `/v1/checkpoints` and `/v1/checkpoints/{number}/proof`: what anybody can keep, and how one ledger
//! is held against it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::header,
    response::{IntoResponse, Response},
};
use record::LedgerId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Asked, params, receipts::is_of, stated};
use crate::{
    App,
    auth::Auditor,
    checkpoints::{Leaves, numbered},
    moment::Moment,
    problem::Problem,
    store::checkpoints::Kept,
};

/// Which ones.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those after this number: `next` of the page before.
    #[param(minimum = 0, maximum = 9007199254740991_i64)]
    after: Option<u64>,
    /// The most of a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// One page of checkpoints, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checkpoints {
    /// The checkpoints.
    checkpoints: Vec<Listed>,
    /// There, when there may be more: the next page's `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    next: Option<u64>,
}

/// One checkpoint.
#[derive(Debug, Serialize, ToSchema)]
struct Listed {
    /// Its number.
    #[schema(minimum = 1)]
    number: u64,
    /// When it was made, by the server's clock.
    made: Moment,
    /// The signed note, as `GET /v1/checkpoint` has it.
    note: String,
}

/// Which ledger's.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ProofQuery {
    /// The ledger.
    #[param(pattern = "^[0-9a-f]{32}$")]
    ledger: String,
}

/// A proof, one canonical JSON object.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what record::checkpoint writes")]
pub(super) struct Proof {
    /// The signed note.
    checkpoint: String,
    /// Where the ledger stood: `hash`, `ledger` and `seq`. In canonical form it is the leaf.
    #[schema(value_type = Object)]
    head: (),
    /// The leaf's place in the tree, from 0.
    #[schema(minimum = 0)]
    index: u64,
    /// The hashes beside the way from the leaf to the root, from below, in hex.
    path: Vec<String>,
    /// Always 1.
    #[schema(minimum = 1, maximum = 1)]
    v: u64,
}

/// The newest checkpoint: a signed note (C2SP tlog-checkpoint) over where every ledger stood.
#[utoipa::path(
    get,
    path = "/v1/checkpoint",
    tag = "server",
    responses((status = 200, description = "A signed note", body = String, content_type = "text/plain")),
)]
pub(super) async fn newest(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let kept = app.store.readers().run(|tx| tx.newest_checkpoint()).await?;
    let kept = kept.ok_or_else(|| Problem::not_found("there is no checkpoint yet; ask again in a moment"))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], kept.note).into_response())
}

/// Every checkpoint there ever was, oldest first.
#[utoipa::path(
    get,
    path = "/v1/checkpoints",
    tag = "server",
    params(ListQuery),
    responses((status = 200, description = "A page of checkpoints", body = Checkpoints)),
)]
pub(super) async fn list(State(app): State<Arc<App>>, asked: Asked<ListQuery>) -> Result<Json<Checkpoints>, Problem> {
    let (after, most) = (asked.query.after.unwrap_or(0), params::limit(asked.query.limit)?);
    if after > record::MAX_INTEGER {
        return Err(Problem::malformed("after is no number that a checkpoint could have"));
    }
    let kept = app.store.readers().run(move |tx| tx.checkpoints(after, most)).await?;
    let next = kept.last().filter(|_| kept.len() == most as usize).map(|kept| kept.number);
    let listed = |Kept { number, made, note, .. }| Listed { number, made: Moment(made), note };
    Ok(Json(Checkpoints { checkpoints: kept.into_iter().map(listed).collect(), next }))
}

/// That one ledger's head is in a checkpoint: for `lockdownctl verify --checkpoint`.
#[utoipa::path(
    get,
    path = "/v1/checkpoints/{number}/proof",
    tag = "reading",
    params(("number" = u64, Path, description = "Which checkpoint", minimum = 1, maximum = 9007199254740991_i64), ProofQuery),
    responses((status = 200, description = "The proof, in canonical form", body = Proof)),
    security(("bearer" = []))
)]
pub(super) async fn proof(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    number: Result<Path<u64>, PathRejection>,
    asked: Asked<ProofQuery>,
) -> Result<Response, Problem> {
    let Path(number) = number.map_err(|error| Problem::malformed(error.body_text()))?;
    let ledger: LedgerId =
        asked.query.ledger.parse().map_err(|error: record::NameError| Problem::malformed(error.to_string()))?;
    let mut what = asked.stated;
    what.insert("checkpoint".to_owned(), number.into());
    stated(&app, &auditor, "proof", what).await?;
    let stack = auditor.stack(None)?;
    let found = app.store.readers().run(move |tx| {
        let is_theirs = match &stack {
            Some(stack) => is_of(tx, &ledger, stack)?,
            None => true,
        };
        let kept = numbered(tx, number)?.filter(|_| is_theirs);
        kept.map(|kept| Ok(Leaves::of(tx, &kept)?.proof(&ledger))).transpose()
    });
    let proof = found.await?.flatten().ok_or_else(|| {
        Problem::not_found(
            "there is no such checkpoint, or this ledger is not in it; GET /v1/checkpoints and /v1/hosts list both",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], proof.text()).into_response())
}
