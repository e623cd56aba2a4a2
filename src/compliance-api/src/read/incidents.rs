//! `GET /v1/incidents`: what was not as it should be, each explained.

use std::sync::Arc;

use axum::{Json, extract::State};
use record::{Host, LedgerId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{Asked, params, stated};
use crate::{
    App,
    auth::Auditor,
    incidents::Kind,
    moment::Moment,
    problem::Problem,
    store::{
        Error, Tx,
        incidents::{Kept, Wanted},
        moment,
    },
};

/// Which incidents.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Only those that are open, or only those that are over.
    open: Option<bool>,
    /// Only of this kind.
    #[param(max_length = 64)]
    kind: Option<String>,
    /// Only about this host.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    host: Option<String>,
    /// Only about this ledger.
    #[param(pattern = "^[0-9a-f]{32}$")]
    ledger: Option<String>,
    /// Only those before this number: `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// The most rows of a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// One page of incidents, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Incidents {
    /// The incidents.
    incidents: Vec<Incident>,
    /// There, when there are more: the next page's `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// One thing that was not as it should be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Incident {
    /// Its number.
    id: i64,
    /// Its kind, a word.
    kind: String,
    /// What happened, in a few words.
    title: &'static str,
    /// What it means.
    means: &'static str,
    /// What to do about it.
    what_to_do: &'static str,
    /// What it is about.
    subject: String,
    /// The host, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// The ledger, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<String>,
    /// When it was first seen.
    first_seen: Moment,
    /// When it was last seen.
    last_seen: Moment,
    /// How often.
    #[schema(minimum = 1)]
    count: i64,
    /// When it was over, where that can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Moment>,
    /// What is known of its newest occurrence.
    #[schema(value_type = Object)]
    detail: Map<String, Value>,
}

/// What was not as it should be, each explained; newest first.
#[utoipa::path(
    get,
    path = "/v1/incidents",
    tag = "reading",
    params(Query),
    responses((status = 200, description = "A page of incidents", body = Incidents)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    asked: Asked<Query>,
) -> Result<Json<Incidents>, Problem> {
    auditor.everything()?;
    let query = asked.query;
    let host: Option<Host> = params::name(query.host.as_deref())?;
    let ledger: Option<LedgerId> = params::name(query.ledger.as_deref())?;
    let limit = params::limit(query.limit)?;
    if query.kind.as_deref().is_some_and(|word| kind(word).is_none()) {
        let all: Vec<&str> = Kind::ALL.iter().map(|k| k.as_str()).collect();
        return Err(Problem::malformed(format!("there is no such kind of incident; there are: {}", all.join(" "))));
    }
    let before = query.before.unwrap_or(i64::MAX);
    if before < 1 {
        return Err(Problem::malformed("before has to be 1 or more: `next` of the page before"));
    }
    stated(&app, &auditor, "incidents", asked.stated).await?;
    let wanted = Wanted {
        open: query.open,
        kind: query.kind,
        host: host.map(Into::into),
        ledger: ledger.map(Into::into),
        before,
        most: limit,
    };
    let incidents = app.store.readers().run(move |tx| page(tx, &wanted)).await?;
    Ok(Json(incidents))
}

fn page(tx: &mut dyn Tx, wanted: &Wanted) -> Result<Incidents, Error> {
    let rows = tx.incidents(wanted)?;
    let mut incidents = rows.into_iter().map(incident).collect::<Result<Vec<_>, _>>()?;
    let more = incidents.len() > wanted.most as usize;
    incidents.truncate(wanted.most as usize);
    let next = incidents.last().filter(|_| more).map(|i| i.id);
    Ok(Incidents { incidents, next })
}

fn kind(word: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|k| k.as_str() == word)
}

fn incident(row: Kept) -> Result<Incident, Error> {
    let kind = kind(&row.kind).ok_or_else(|| Error::Unsound(format!("an incident of kind {:?}", row.kind)))?;
    Ok(Incident {
        id: row.id,
        kind: row.kind,
        title: kind.title(),
        means: kind.means(),
        what_to_do: kind.what_to_do(),
        subject: row.subject,
        host: row.host,
        ledger: row.ledger,
        first_seen: Moment(moment(row.first_seen)?),
        last_seen: Moment(moment(row.last_seen)?),
        count: row.count,
        ended: row.ended.map(moment).transpose()?.map(Moment),
        detail: serde_json::from_str(&row.detail)
            .map_err(|_| Error::Unsound("an incident's detail that is not JSON".to_owned()))?,
    })
}
