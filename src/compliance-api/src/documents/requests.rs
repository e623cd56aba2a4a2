//! `GET /v1/requests`: grants that wait for approvals. `GET /v1/roster`: the roster in force.

use std::sync::Arc;

use axum::{Json, extract::State};
use document::{Body, Kind};
use record::Stack;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    answer::{Kept, raw},
    deciding::as_it_is,
    judging::{every, parse},
};
use crate::{
    App,
    auth::Reader,
    problem::Problem,
    read::Asked,
    store::{Error, Tx, documents::Document},
};

/// Which requests, or hosts.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfStack {
    /// Only this stack's.
    #[serde(default)]
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
}

impl OfStack {
    /// The stack, where one is named; this reader may read about it.
    pub(super) fn checked(self, reader: &Reader) -> Result<Option<Stack>, Problem> {
        let Some(name) = self.stack else { return Ok(None) };
        let stack: Stack = name.parse().map_err(|e: record::NameError| Problem::malformed(e.to_string()))?;
        reader.may(&stack)?;
        Ok(Some(stack))
    }
}

/// Grants that wait for approvals, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Requests {
    requests: Vec<Request>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantRequest)]
struct Request {
    #[serde(flatten)]
    kept: Kept,
    /// Whom it is for.
    person: String,
    /// The account.
    account: String,
    /// The stack.
    stack: String,
    /// The hosts; `*` for all of it.
    #[schema(value_type = Vec<String>)]
    hosts: document::Hosts,
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    starts_at: document::Moment,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: document::Moment,
    /// Until when hosts may accept it.
    #[schema(value_type = String, format = DateTime)]
    accept_until: document::Moment,
    /// Why.
    reason: String,
}

/// Grants that wait for approvals.
#[utoipa::path(get, path = "/v1/requests", tag = "documents", params(OfStack),
    responses((status = 200, description = "All that wait", body = Requests)),
    security(("bearer" = [])))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    reader: Reader,
    asked: Asked<OfStack>,
) -> Result<Json<Requests>, Problem> {
    app.documents()?;
    let stack = asked.query.checked(&reader)?;
    let named = stack.as_ref().map_or("", Stack::as_str).to_owned();
    reader.states(&app, "requests", &[("stack", &named)]).await?;
    let reading = app.store.readers().run(move |tx| {
        let all = tx.pending_documents(stack.as_ref().map(Stack::as_str))?;
        let now = tx.now();
        let mine = |document: &Document| {
            let stack = document.stack.as_deref().unwrap_or_default();
            document.matters.is_none_or(|until| until > now) && reader.reads(stack)
        };
        all.into_iter().filter(mine).map(|document| request(tx, &document)).collect::<Result<Vec<_>, Error>>()
    });
    Ok(Json(Requests { requests: reading.await? }))
}

fn request(tx: &mut dyn Tx, document: &Document) -> Result<Request, Error> {
    let envelope = parse(&document.envelope)?;
    let Body::Grant(grant) = envelope.document().body() else {
        return Err(Error::Unsound(format!("a {} that waits for approvals", Kind::Grant)));
    };
    let grant = (**grant).clone();
    Ok(Request {
        kept: Kept::of(as_it_is(tx, document)?)?,
        person: grant.person.into(),
        account: grant.account.into(),
        stack: grant.stack.into(),
        hosts: grant.hosts,
        starts_at: grant.starts_at,
        expires_at: grant.expires_at,
        accept_until: grant.accept_until,
        reason: grant.reason.into(),
    })
}

/// The roster in force.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RosterInForce)]
pub(super) struct InForce {
    /// Its version.
    #[schema(minimum = 1)]
    version: u64,
    /// Its id.
    id: String,
    /// It.
    #[schema(value_type = Object)]
    envelope: Box<RawValue>,
}

/// The roster in force.
#[utoipa::path(get, path = "/v1/roster", tag = "documents",
    responses((status = 200, description = "It", body = InForce)),
    security(("bearer" = [])))]
pub(super) async fn roster(State(app): State<Arc<App>>, reader: Reader) -> Result<Json<InForce>, Problem> {
    let documents = Arc::clone(app.documents()?);
    reader.states(&app, "roster", &[]).await?;
    let found = app.store.readers().run(move |tx| {
        let Some(base) = documents.judges.read(tx, &every())? else { return Ok(None) };
        let kept = base.judge.rosters();
        let (Some(roster), Some(envelope)) = (base.judge.roster(), kept.automatic.as_ref().or(kept.signed.as_ref()))
        else {
            return Ok(None);
        };
        let id = envelope.document().id().to_string();
        Ok(Some(InForce { version: roster.version.number(), id, envelope: raw(envelope.to_json())? }))
    });
    let none = || Problem::not_found("there is no roster yet: `lockdown roster publish` publishes one");
    found.await?.map(Json).ok_or_else(none)
}
