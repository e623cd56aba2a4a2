//! `GET /v1/documents/{id}/hosts`: what became of a document on each host, as the hosts' own records say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Extension, Path, State, rejection::PathRejection},
};
use document::{Body, Hosts, Id};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use utoipa::{IntoParams, ToSchema};

use super::{
    deciding::facts_of,
    judging::parse,
    posting::{id_of, unknown},
    status::{How, how},
};
use crate::{
    App,
    auth::Reader,
    config::Limits,
    moment::Moment,
    problem::Problem,
    read::Asked,
    serve::Held,
    store::{
        Error, Tx,
        live::{HostState, Outcome},
    },
    watch::stopped,
};

/// How long one question may wait.
const MAX_WAIT: u64 = 60;
/// How long more outcomes are waited for once one has come: a stack of hosts answers at about one time.
const TOGETHER: Duration = Duration::from_millis(50);

/// Wakes those who wait for outcomes.
#[derive(Debug)]
pub(super) struct Progress {
    moved: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
}

impl Progress {
    pub(super) fn new(stop: watch::Receiver<bool>) -> Self {
        Self { moved: watch::Sender::new(0), stop }
    }

    /// Some came.
    pub(super) fn moved(&self) {
        self.moved.send_modify(|times| *times = times.wrapping_add(1));
    }
}

/// Since when, and for how long.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Only once there is more than in the answer with this version.
    #[serde(default)]
    #[param(minimum = 0)]
    after: Option<i64>,
    /// How many seconds to wait for that.
    #[serde(default)]
    #[param(minimum = 0, maximum = 60)]
    wait: u64,
}

/// What became of a document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DocumentHosts)]
pub(super) struct Everywhere {
    /// The document.
    id: String,
    /// Grows with each host that answers.
    version: i64,
    /// The hosts in its scope, in order of their names.
    hosts: Vec<OnHost>,
}

/// What became of it on one host.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DocumentOnHost)]
struct OnHost {
    /// The host.
    host: String,
    /// Its stack.
    stack: String,
    /// `accepted` and `refused` by its own record; `waiting`: it has not answered yet; `unheard`: nothing is heard of it, or it
    /// hears no feed.
    #[schema(pattern = "^(accepted|refused|waiting|unheard)$")]
    state: &'static str,
    /// Why it refused: a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When it said so, by its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Moment>,
    /// When it was last heard of.
    last_heard: Moment,
    /// Whether it should have been heard of by now.
    silent: bool,
}

/// What became of a document on each host in its scope.
#[utoipa::path(get, path = "/v1/documents/{id}/hosts", tag = "documents",
    params(("id" = String, Path, description = "The document's id", pattern = "^[0-9a-f]{64}$"), Query),
    responses((status = 200, description = "Each host", body = Everywhere)),
    security(("bearer" = [])))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    held: Option<Extension<Held>>,
    reader: Reader,
    id: Result<Path<String>, PathRejection>,
    asked: Asked<Query>,
) -> Result<Json<Everywhere>, Problem> {
    let documents = app.documents()?;
    let id = id_of(id)?;
    let Query { after, wait } = asked.query;
    if wait > MAX_WAIT {
        return Err(Problem::malformed(format!("wait has to be 0 to {MAX_WAIT} seconds")));
    }
    reader.states(&app, "document_hosts", &[("id", &id.to_string())]).await?;
    let until = Instant::now() + Duration::from_secs(wait);
    let (mut moved, mut stop) = (documents.progress.moved.subscribe(), documents.progress.stop.clone());
    let mut place = None;
    loop {
        moved.borrow_and_update();
        let found = read(&app, id, &reader).await?;
        if after.is_none_or(|after| found.version > after) || Instant::now() >= until || *stop.borrow() {
            return Ok(Json(found));
        }
        if place.is_none() {
            place = Some(documents.feeds.place().ok_or_else(|| {
                Problem::busy("as many wait here as may (limits.polls); ask again after the time in Retry-After")
            })?);
            if let Some(Extension(held)) = &held {
                held.give_back();
            }
        }
        let waited = async {
            tokio::select! {
                // An error means that nobody will say more.
                _ = moved.changed() => sleep(TOGETHER).await,
                () = stopped(&mut stop) => {}
            }
        };
        // Whether it was worth it, the next look says.
        let _ = timeout_at(until, waited).await;
    }
}

async fn read(app: &App, id: Id, reader: &Reader) -> Result<Everywhere, Problem> {
    let (limits, asking) = (app.config.limits.clone(), reader.clone());
    let found = app.store.readers().run(move |tx| everywhere(tx, id, &asking, &limits)).await?;
    found.ok_or_else(|| unknown(id))
}

fn everywhere(tx: &mut dyn Tx, id: Id, reader: &Reader, limits: &Limits) -> Result<Option<Everywhere>, Error> {
    let Some(document) = tx.document(id)? else { return Ok(None) };
    let in_feeds = facts_of(&document)?.same_as.unwrap_or(id);
    let mut stacks = if document.pending { Vec::new() } else { tx.document_feeds(in_feeds)? };
    stacks.extend(document.stack.clone().filter(|_| document.pending));
    stacks.retain(|stack| stack != document::ANY);
    let any = stacks.is_empty();
    stacks.retain(|stack| reader.reads(stack));
    if stacks.is_empty() && !any {
        return Ok(None);
    }
    let envelope = parse(&document.envelope)?;
    let named = match envelope.document().body() {
        Body::Grant(grant) => Some(&grant.hosts),
        Body::Lockdown(lockdown) => lockdown.hosts.as_ref(),
        _ => None,
    };
    let outcomes = tx.outcomes(in_feeds)?;
    let version = outcomes.iter().map(|outcome| outcome.version).max().unwrap_or(0);
    let by_ledger: BTreeMap<i64, &Outcome> = outcomes.iter().map(|outcome| (outcome.ledger, outcome)).collect();
    let now = tx.now();
    let mut hosts = Vec::new();
    let only = stacks.first().filter(|_| stacks.len() == 1).cloned();
    for state in tx.host_states(only.as_deref())? {
        let outcome = by_ledger.get(&state.ledger).copied();
        let in_scope = stacks.contains(&state.stack) && is_named(named, &state.host);
        let stands = how(&state, now, limits);
        if in_scope && (outcome.is_some() || stands != How::Gone) {
            hosts.push(on_host(state, outcome, stands));
        }
    }
    Ok(Some(Everywhere { id: id.to_string(), version, hosts }))
}

fn is_named(named: Option<&Hosts>, host: &str) -> bool {
    named.is_none_or(|hosts| host.parse().is_ok_and(|host| hosts.include(&host)))
}

fn on_host(host: HostState, outcome: Option<&Outcome>, stands: How) -> OnHost {
    let silent = stands != How::Live;
    let (state, detail) = match outcome {
        Some(outcome) if outcome.accepted => ("accepted", None),
        Some(outcome) => ("refused", outcome.why.clone()),
        None if silent => ("unheard", Some("it is silent: nothing is heard of it".to_owned())),
        None if !host.hears => {
            let why = "it hears no feed: its configuration has no [stack], or its daemon has not said so yet";
            ("unheard", Some(why.to_owned()))
        }
        None => ("waiting", None),
    };
    OnHost {
        host: host.host,
        stack: host.stack,
        state,
        code: outcome.and_then(|outcome| outcome.code.clone()),
        detail,
        at: outcome.map(|outcome| Moment(outcome.at)),
        last_heard: Moment(host.received),
        silent,
    }
}
