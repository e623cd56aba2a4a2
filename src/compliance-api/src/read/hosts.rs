//! `GET /v1/hosts`: every host, its ledgers, and how it stands.

use std::sync::Arc;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Asked, params,
    standing::{LedgerFacts, Standing, standing},
    stated,
};
use crate::{
    App,
    auth::Auditor,
    config::Limits,
    moment::Moment,
    problem::Problem,
    store::{
        Error, Tx, moment,
        standings::{RawLedger, Wanted},
    },
};

/// A host's ledgers that are listed, newest first; more are counted.
const MAX_LEDGERS: usize = 100;

/// Which hosts.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Only this one.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    host: Option<String>,
    /// Only this stack's: those that were enrolled for it, and those whose newest record names it.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Only those that stand so. A page then has fewer rows than its limit.
    state: Option<Standing>,
    /// Only those after this name: `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    after: Option<String>,
    /// The most rows of a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// One page of hosts, in order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hosts {
    /// When it was asked.
    as_of: Moment,
    /// The hosts.
    hosts: Vec<HostStanding>,
    /// There, when there are more: the next page's `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostStanding {
    /// Its name.
    pub(crate) host: String,
    /// Its stack, as its newest record says.
    pub(crate) stack: String,
    /// How it stands: as its newest approved ledger does.
    pub(crate) state: Standing,
    /// The same in a sentence.
    pub(crate) says: &'static str,
    /// Its ledgers, newest first. More than one: its disk or image was copied, set back or moved, or it was renamed.
    pub(crate) ledgers: Vec<LedgerStanding>,
    /// How many are not listed.
    pub(crate) more_ledgers: usize,
}

/// One ledger.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LedgerStanding {
    /// Its id.
    pub(crate) ledger: String,
    /// How it stands.
    pub(crate) state: Standing,
    /// The last record's number.
    #[schema(minimum = 0)]
    pub(crate) seq: i64,
    /// SHA-256 of its line, in hex.
    pub(crate) hash: String,
    /// How many of its records are stored.
    #[schema(minimum = 0)]
    pub(crate) records: i64,
    /// When it was enrolled.
    pub(crate) enrolled: Moment,
    /// When an admin approved it, where one had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approved: Option<Moment>,
    /// When the last record was stored.
    pub(crate) last_received: Moment,
    /// The last record's own time.
    pub(crate) last_time: Moment,
    /// The last record's type.
    pub(crate) last_type: String,
    /// When the next sweep has to come, as the newest one said, within `limits.next_by_ahead`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_by: Option<Moment>,
    /// How many records the host pruned before they came here.
    #[schema(minimum = 0)]
    pub(crate) never_received: i64,
    /// How many authentic records contradict what is stored.
    #[schema(minimum = 0)]
    pub(crate) forked: i64,
}

/// Every host, its ledgers, and how it stands.
#[utoipa::path(
    get,
    path = "/v1/hosts",
    tag = "reading",
    params(Query),
    responses((status = 200, description = "A page of hosts", body = Hosts)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    asked: Asked<Query>,
) -> Result<Json<Hosts>, Problem> {
    let query = asked.query;
    let wanted = Wanted {
        host: params::name(query.host.as_deref())?,
        stack: auditor.stack(params::name(query.stack.as_deref())?)?,
        after: params::name(query.after.as_deref())?,
        most: params::limit(query.limit)?,
    };
    stated(&app, &auditor, "hosts", asked.stated).await?;
    let now = Timestamp::now();
    let limits = app.config.limits.clone();
    let (mut hosts, next) = app.store.readers().run(move |tx| page(tx, &wanted, &limits, now)).await?;
    if let Some(state) = query.state {
        hosts.retain(|h| h.state == state);
    }
    Ok(Json(Hosts { as_of: Moment(now), hosts, next }))
}

pub(crate) fn page(
    tx: &mut dyn Tx,
    wanted: &Wanted,
    limits: &Limits,
    now: Timestamp,
) -> Result<(Vec<HostStanding>, Option<String>), Error> {
    let mut names = tx.host_names(wanted)?;
    let more = names.len() > wanted.most as usize;
    names.truncate(wanted.most as usize);
    let next = names.last().filter(|_| more).cloned();
    let hosts = names.into_iter().map(|name| host(tx, name, limits, now)).collect::<Result<_, _>>()?;
    Ok((hosts, next))
}

fn host(tx: &mut dyn Tx, name: String, limits: &Limits, now: Timestamp) -> Result<HostStanding, Error> {
    let (mut ledgers, mut stack, mut more, mut superseded) = (Vec::new(), None, 0, false);
    let mut state = None;
    for raw in tx.host_ledgers(&name)? {
        let ledger = stands(&raw, limits, now, superseded)?;
        // A pending ledger says nothing about the one before it: it may be a copy of it.
        superseded |= !raw.pending;
        stack.get_or_insert(raw.stack);
        if ledger.state != Standing::Pending {
            state.get_or_insert(ledger.state);
        }
        if ledgers.len() < MAX_LEDGERS { ledgers.push(ledger) } else { more += 1 }
    }
    let state = state.unwrap_or(Standing::Pending);
    let stack = stack.unwrap_or_default();
    Ok(HostStanding { host: name, stack, state, says: state.sentence(), ledgers, more_ledgers: more })
}

pub(super) fn stands(
    raw: &RawLedger,
    limits: &Limits,
    now: Timestamp,
    superseded: bool,
) -> Result<LedgerStanding, Error> {
    let (received, next_by) = (moment(raw.received)?, raw.next_by.map(moment).transpose()?);
    let facts = LedgerFacts { pending: raw.pending, last_type: &raw.last_type, received, next_by, superseded };
    Ok(LedgerStanding {
        ledger: raw.ledger.clone(),
        state: standing(&facts, now, limits.silence_grace, limits.silent_after),
        seq: raw.seq,
        hash: record::Hash::from(raw.hash).to_string(),
        records: raw.records,
        enrolled: Moment(moment(raw.created)?),
        approved: raw.approved.map(moment).transpose()?.map(Moment),
        last_received: Moment(received),
        last_time: Moment(moment(raw.last_time)?),
        last_type: raw.last_type.clone(),
        next_by: next_by.map(Moment),
        never_received: raw.never_received,
        forked: raw.forked,
    })
}
