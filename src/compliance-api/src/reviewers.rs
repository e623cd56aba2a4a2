//! `/v1/reviewers`: whose signed reviews are taken. An admin says so, and the server's own ledger keeps it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    routing::{delete, get},
};
use record::Person;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use ssh_key::{HashAlg, PublicKey};
use utoipa::ToSchema;

use crate::{
    App,
    admin::Body,
    auth::Admin,
    moment::Moment,
    own_ledger::{self, Word},
    problem::Problem,
    review,
    store::{Error, Room, reviewers},
    verdict::Why,
};

/// The endpoints.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/v1/reviewers", get(list).post(add)).route("/v1/reviewers/{person}", delete(revoke))
}

/// What is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, add, revoke))]
pub struct Described;

/// A key to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReviewer {
    /// Whose it is: a name as in records.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$", example = "alice")]
    person: String,
    /// A line of OpenSSH's format: `ssh-ed25519 AAAA…`.
    #[schema(max_length = 1024)]
    public_key: String,
}

/// One key of one person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReviewerKey {
    /// Whose it is.
    person: String,
    /// The key, without a comment.
    public_key: String,
    /// Its fingerprint, as `ssh-keygen -l` prints it.
    fingerprint: String,
    /// When it was registered.
    added: Moment,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Moment>,
}

/// Every key that was ever registered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReviewerKeys {
    /// In order of the people's names.
    reviewers: Vec<ReviewerKey>,
}

/// Whose reviews were taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevokedReviewer {
    /// Who.
    person: String,
    /// How many keys.
    #[schema(minimum = 1)]
    keys: usize,
}

/// Whose signed reviews are taken, and were.
#[utoipa::path(
    get,
    path = "/v1/reviewers",
    tag = "admin",
    responses((status = 200, description = "Every key", body = ReviewerKeys)),
    security(("bearer" = []))
)]
pub(crate) async fn list(State(app): State<Arc<App>>, _: Admin) -> Result<Json<ReviewerKeys>, Problem> {
    let all = app.store.readers().run(|tx| tx.reviewers(None)).await?;
    let reviewers = all
        .into_iter()
        .map(|r| ReviewerKey {
            fingerprint: r.public_key.fingerprint(HashAlg::Sha256).to_string(),
            public_key: r.public_key.to_openssh().unwrap_or_default(),
            person: r.person,
            added: Moment(r.added),
            revoked: r.revoked.map(Moment),
        })
        .collect();
    Ok(Json(ReviewerKeys { reviewers }))
}

/// Registers a person's key for reviews.
///
/// 201 when it is new, 200 when it was in force already.
#[utoipa::path(
    post,
    path = "/v1/reviewers",
    tag = "admin",
    request_body = NewReviewer,
    responses(
        (status = 201, description = "It is registered", body = ReviewerKey),
        (status = 200, description = "It was in force already", body = ReviewerKey),
    ),
    security(("bearer" = []))
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Body(new): Body<NewReviewer>,
) -> Result<(StatusCode, Json<ReviewerKey>), Problem> {
    let person: Person = new.person.parse().map_err(|e| Problem::malformed(format!("{e}")))?;
    let key = PublicKey::from_openssh(&new.public_key).map_err(|e| {
        Problem::malformed(format!("public_key is no line of OpenSSH's format, as in id_ed25519.pub: {e}"))
    })?;
    review::check_key(&key).map_err(Problem::malformed)?;
    let key = PublicKey::from(key.key_data().clone());
    let public_key = key.to_openssh().map_err(|e| Problem::internal(&e))?;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let (who, line, print) = (person.clone(), public_key.clone(), fingerprint.clone());
    let by = caller.by();
    let added = caller.write(&app, Room::Server, move |tx| {
        if tx.reviewer_keys(&who)?.len() >= reviewers::MAX_KEYS {
            return Ok(None);
        }
        let is_new = tx.add_reviewer(&who, &line)?;
        if is_new {
            let mut detail = Map::new();
            detail.insert("person".to_owned(), who.as_str().into());
            detail.insert("fingerprint".to_owned(), print.as_str().into());
            let reason = "a person's key may sign reviews from now on";
            own_ledger::state(tx, Word::ReviewerAdded, &by, reason, detail)?;
        }
        let of_key = |r: &reviewers::Reviewer| r.public_key.to_openssh().is_ok_and(|l| l == line);
        let row = tx.reviewers(Some(&who))?.into_iter().find(of_key);
        let row = row.ok_or_else(|| Error::Unsound("no reviewer where one was just registered".to_owned()))?;
        Ok(Some((is_new, row.added)))
    });
    let Some((is_new, added)) = added.await? else {
        let detail =
            format!("{person} has {} keys; DELETE /v1/reviewers/{person} takes them all back", reviewers::MAX_KEYS);
        return Err(Problem::new(Why::TooManyKeys, detail));
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let key = ReviewerKey { person: person.into(), public_key, fingerprint, added: Moment(added), revoked: None };
    Ok((status, Json(key)))
}

/// Takes back all keys of a person. Reviews that were taken before stay.
#[utoipa::path(
    delete,
    path = "/v1/reviewers/{person}",
    tag = "admin",
    params(("person" = String, Path, description = "Who", max_length = 64)),
    responses((status = 200, description = "They are taken back", body = RevokedReviewer)),
    security(("bearer" = []))
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    person: Result<Path<String>, PathRejection>,
) -> Result<Json<RevokedReviewer>, Problem> {
    let Path(person) = person.map_err(|e| Problem::malformed(e.body_text()))?;
    let person: Person = person.parse().map_err(|e| Problem::malformed(format!("{e}")))?;
    let who = person.clone();
    let by = caller.by();
    let revoked = caller.write(&app, Room::Server, move |tx| {
        let keys = tx.revoke_reviewer(&who)?;
        if keys > 0 {
            let mut detail = Map::new();
            detail.insert("person".to_owned(), who.as_str().into());
            detail.insert("keys".to_owned(), keys.into());
            let reason = "a person's keys may sign reviews no longer";
            own_ledger::state(tx, Word::ReviewerRevoked, &by, reason, detail)?;
        }
        Ok(keys)
    });
    match revoked.await? {
        0 => Err(Problem::not_found("no key of this person is in force; GET /v1/reviewers lists them")),
        keys => Ok(Json(RevokedReviewer { person: person.into(), keys })),
    }
}
