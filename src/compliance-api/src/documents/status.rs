//! `GET /v1/status`: every stack's hosts, and what is going on there, as their own records say.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;
use record::Stack;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    requests::OfStack,
    runs::{self, OneFeeder},
};
use crate::{
    App,
    auth::Reader,
    config::Limits,
    moment::Moment,
    problem::Problem,
    read::{Asked, LedgerFacts, Standing, standing},
    store::{
        Error, Tx,
        live::{HostState, LiveGrant, LiveSession},
    },
};

/// Grants and sessions of one host that are listed.
const LISTED: usize = 256;

/// How a host stands, for whoever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It is heard of.
    Live,
    /// It should have been.
    Silent,
    /// It stopped in good order, or has been silent for a day.
    Gone,
}

/// How it stands at this moment.
pub(super) fn how(host: &HostState, now: Timestamp, limits: &Limits) -> How {
    let facts = LedgerFacts {
        pending: false,
        last_type: &host.last_type,
        received: host.received,
        next_by: host.next_by,
        superseded: false,
    };
    match standing(&facts, now, limits.silence_grace, limits.silent_after) {
        Standing::Live => How::Live,
        Standing::Silent => How::Silent,
        Standing::Stopped | Standing::TailUnknown | Standing::Pending => How::Gone,
    }
}

/// Every stack.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StacksStatus)]
pub(super) struct Stacks {
    /// In order of their names.
    stacks: Vec<OneStack>,
    /// The feeders of the roster in force, in order of their sources.
    feeders: Vec<OneFeeder>,
}

/// One stack.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StackStatus)]
struct OneStack {
    /// Its name.
    stack: String,
    /// The hosts that are heard of, or were within a day, in order of their names.
    hosts: Vec<OneHost>,
}

/// One host. What it has not said since this server came to version 4 of its database is absent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HostStatus)]
struct OneHost {
    /// Its name.
    host: String,
    /// Its mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// When it was last heard of.
    last_heard: Moment,
    /// Whether it should have been heard of by now.
    silent: bool,
    /// The version of its daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The roster in force there, by its newest sweep: `version`, `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    roster: Option<Value>,
    /// When it heard its feed, by its newest sweep: `heard_at`, `vouched`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    feed: Option<Value>,
    /// Grants that have not ended, those that end first at the front.
    grants: Vec<OneGrant>,
    /// Sessions that have not ended, the oldest first.
    sessions: Vec<OneSession>,
    /// Ways in that are open, by its newest sweep.
    #[schema(value_type = Vec<Object>)]
    ways_in_open: Vec<Value>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantStatus)]
struct OneGrant {
    /// Its id on the host.
    grant: String,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// The document that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    /// Who approved that.
    approvers: Vec<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionStatus)]
struct OneSession {
    /// Its id on the host.
    session: String,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Since when.
    opened_at: Moment,
}

/// Every stack's hosts, and what is going on there.
#[utoipa::path(get, path = "/v1/status", tag = "documents", params(OfStack),
    responses((status = 200, description = "The stacks", body = Stacks)),
    security(("bearer" = [])))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    reader: Reader,
    asked: Asked<OfStack>,
) -> Result<Json<Stacks>, Problem> {
    let documents = Arc::clone(app.documents()?);
    let stack = asked.query.checked(&reader)?;
    let named = stack.as_ref().map_or("", Stack::as_str).to_owned();
    reader.states(&app, "status", &[("stack", &named)]).await?;
    let limits = app.config.limits.clone();
    let reading = app.store.readers().run(move |tx| {
        let stacks = stacks(tx, stack.as_ref(), &reader, &limits)?;
        Ok(Stacks { stacks, feeders: runs::feeders(tx, &documents, limits.reader_silent_after)? })
    });
    Ok(Json(reading.await?))
}

fn stacks(tx: &mut dyn Tx, stack: Option<&Stack>, reader: &Reader, limits: &Limits) -> Result<Vec<OneStack>, Error> {
    let now = tx.now();
    let mut stacks: BTreeMap<String, Vec<OneHost>> = BTreeMap::new();
    for host in tx.host_states(stack.map(Stack::as_str))? {
        let stands = how(&host, now, limits);
        if stands != How::Gone && reader.reads(&host.stack) {
            let stack = host.stack.clone();
            stacks.entry(stack).or_default().push(one(tx, host, stands == How::Silent)?);
        }
    }
    Ok(stacks.into_iter().map(|(stack, hosts)| OneStack { stack, hosts }).collect())
}

fn one(tx: &mut dyn Tx, host: HostState, silent: bool) -> Result<OneHost, Error> {
    let grants = tx.live_grants(host.ledger, LISTED)?.into_iter().map(grant).collect();
    let sessions = tx.live_sessions(host.ledger, LISTED)?.into_iter().map(session).collect();
    let mut sweep: Map<String, Value> = host.sweep;
    let ways_in_open = match sweep.remove("ways_open") {
        Some(Value::Array(ways)) => ways,
        _ => Vec::new(),
    };
    Ok(OneHost {
        host: host.host,
        mode: host.mode,
        last_heard: Moment(host.received),
        silent,
        version: host.version,
        roster: sweep.remove("roster"),
        feed: sweep.remove("feed"),
        grants,
        sessions,
        ways_in_open,
    })
}

fn grant(grant: LiveGrant) -> OneGrant {
    OneGrant {
        grant: grant.grant,
        person: grant.person,
        account: grant.account,
        expires_at: grant.expires.map(Moment),
        document: grant.document,
        approvers: grant.approvers,
        reason: grant.why,
    }
}

fn session(session: LiveSession) -> OneSession {
    OneSession {
        session: session.session,
        person: session.person,
        account: session.account,
        source: session.source,
        opened_at: Moment(session.opened),
    }
}
