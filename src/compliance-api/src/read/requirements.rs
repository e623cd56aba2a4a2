//! `GET /v1/requirements` and `/v1/requirements/{id}`: what evidence there is of what, how fresh, and what it leaves open.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use jiff::Timestamp;
use record::Stack;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Asked,
    facts::{Scope, gather},
    params, stated,
};
use crate::{
    App,
    auth::Auditor,
    evidence::{RequirementDetail, RequirementSummary, Status, judge},
    moment::Moment,
    problem::Problem,
    requirements::Framework,
    store::{Error, Tx},
};

/// Which evidence.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Only evidence not before this moment, by its own time: RFC 3339, or a day for its beginning in UTC.
    #[param(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$",
        example = "2026-11-01"
    )]
    from: Option<String>,
    /// Only evidence before this moment.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$")]
    to: Option<String>,
    /// Only this stack's hosts, and reviews that are of it or of all.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Also from ledgers that an admin has yet to approve.
    pending: Option<bool>,
}

/// The same, and which requirements.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this framework's.
    #[param(max_length = 64, example = "hipaa")]
    framework: Option<String>,
    /// Only those of this status.
    status: Option<Status>,
    /// Only evidence not before this moment, by its own time: RFC 3339, or a day for its beginning in UTC.
    #[param(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$",
        example = "2026-11-01"
    )]
    from: Option<String>,
    /// Only evidence before this moment.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$")]
    to: Option<String>,
    /// Only this stack's hosts, and reviews that are of it or of all.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Also from ledgers that an admin has yet to approve.
    pending: Option<bool>,
}

/// Requirements, with what there is for each.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Requirements {
    /// When it was asked.
    as_of: Moment,
    /// What "satisfies" means here and what it does not.
    reading: &'static str,
    /// The frameworks they are of, with their editions.
    frameworks: Vec<Framework>,
    /// In the frameworks' own order.
    pub(super) requirements: Vec<RequirementSummary>,
}

/// What has to be said beside every such answer.
pub(crate) const READING: &str = "`satisfies` is direct evidence that the safeguard operated, within the stated scope; `supports` is \
    evidence that helps beside other evidence. Neither is a legal conclusion, and each row says what it does not show.";

/// Every requirement and what evidence there is for it, in short.
#[utoipa::path(
    get,
    path = "/v1/requirements",
    tag = "reading",
    params(ListQuery),
    responses((status = 200, description = "Requirements", body = Requirements)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    asked: Asked<ListQuery>,
) -> Result<Json<Requirements>, Problem> {
    let ListQuery { framework, status, from, to, stack, pending } = asked.query;
    let known = app.catalog.frameworks();
    if framework.as_ref().is_some_and(|given| !known.iter().any(|f| f.id == *given)) {
        let all = known.iter().map(|f| f.id.as_str()).collect::<Vec<_>>().join(" ");
        return Err(Problem::not_found(format!("there is no such framework; there are: {all}")));
    }
    let scope = scope(&app, &auditor, Query { from, to, stack, pending })?;
    stated(&app, &auditor, "requirements", asked.stated).await?;
    let now = Timestamp::now();
    let gathered = app.store.readers().run(move |tx| gather(tx, &scope)).await?;
    let is_wanted = |id: &str| framework.as_ref().is_none_or(|wanted| wanted == id);
    let judging = Arc::clone(&app);
    let judged = tokio::task::spawn_blocking(move || {
        let facts = gathered.facts(now);
        let all = judging.catalog.requirements().iter();
        all.map(|r| judge(&judging.catalog, r, &facts).summary).collect::<Vec<_>>()
    });
    let judged = judged.await.map_err(|e| Problem::internal(&e))?;
    Ok(Json(Requirements {
        as_of: Moment(now),
        reading: READING,
        frameworks: known.iter().filter(|f| is_wanted(&f.id)).cloned().collect(),
        requirements: judged
            .into_iter()
            .filter(|r| is_wanted(&r.framework) && status.is_none_or(|wanted| wanted == r.status))
            .collect(),
    }))
}

/// One requirement, and everything there is for it.
///
/// `id` is its id or full reference, in either case.
#[utoipa::path(
    get,
    path = "/v1/requirements/{id}",
    tag = "reading",
    params(
        ("id" = String, Path, description = "As 164.312(a)(2)(i), 45-cfr-164.312(a)(2)(i) or AC-2", max_length = 128,
         example = "164.312(a)(2)(i)"),
        Query
    ),
    responses((status = 200, description = "The requirement", body = RequirementDetail)),
    security(("bearer" = []))
)]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    id: Result<Path<String>, PathRejection>,
    asked: Asked<Query>,
) -> Result<Json<RequirementDetail>, Problem> {
    let Path(id) = id.map_err(|e| Problem::malformed(e.body_text()))?;
    let requirement = app.catalog.find(&id).map_err(|e| Problem::not_found(e.to_string()))?;
    let mut scope = scope(&app, &auditor, asked.query)?;
    let mut what = asked.stated;
    what.insert("requirement".to_owned(), app.catalog.reference(requirement).into());
    stated(&app, &auditor, "requirement", what).await?;
    let now = Timestamp::now();
    scope.types = Some(app.catalog.rows_for(requirement).iter().flat_map(|row| row.types.clone()).collect());
    let gathered = app.store.readers().run(move |tx| gather(tx, &scope)).await?;
    Ok(Json(judge(&app.catalog, requirement, &gathered.facts(now))))
}

/// All of them, judged on this thread.
pub(super) fn all(app: &App, tx: &mut dyn Tx, scope: &Scope, now: Timestamp) -> Result<Requirements, Error> {
    let gathered = gather(tx, scope)?;
    let facts = gathered.facts(now);
    let catalog = &app.catalog;
    Ok(Requirements {
        as_of: Moment(now),
        reading: READING,
        frameworks: catalog.frameworks().to_vec(),
        requirements: catalog.requirements().iter().map(|r| judge(catalog, r, &facts).summary).collect(),
    })
}

fn scope(app: &App, auditor: &Auditor, query: Query) -> Result<Scope, Problem> {
    let stack: Option<Stack> = auditor.stack(params::name(query.stack.as_deref())?)?;
    Ok(Scope {
        types: None,
        stack: stack.map(Into::into),
        window: auditor.window(params::window(query.from.as_deref(), query.to.as_deref())?)?,
        pending: query.pending.unwrap_or(false),
        clock_ahead: app.config.limits.clock_ahead,
    })
}
