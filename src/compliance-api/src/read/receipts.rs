//! `GET /v1/receipts`: every receipt that was given for a ledger, as JSON lines, for `lockdownctl verify --receipts FILE`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use record::{Host, LedgerId, Stack};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Asked, params, stated,
    stream::{self, Chunk, Maker, Streams},
};
use crate::{
    App,
    auth::Auditor,
    problem::Problem,
    store::{Error, Tx, ledgers::Named},
};

/// Receipts in one chunk: each is signed anew, which takes time.
const PER_CHUNK: u32 = 128;

/// Of which ledger, or of which host's.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// The ledger.
    #[param(pattern = "^[0-9a-f]{32}$")]
    ledger: Option<String>,
    /// The host: all its ledgers.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    host: Option<String>,
}

/// Every receipt that was given for a ledger, oldest first; one canonical JSON object a line.
///
/// One of `ledger` and `host` has to be given.
#[utoipa::path(
    get,
    path = "/v1/receipts",
    tag = "reading",
    params(Query),
    responses((status = 200, description = "Receipts, one a line", body = String, content_type = "application/x-ndjson")),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    Extension(streams): Extension<Streams>,
    asked: Asked<Query>,
) -> Result<Response, Problem> {
    let ledger: Option<LedgerId> = params::name(asked.query.ledger.as_deref())?;
    let host: Option<Host> = params::name(asked.query.host.as_deref())?;
    if ledger.is_some() == host.is_some() {
        return Err(Problem::malformed("give one of ledger=LEDGER and host=HOST; GET /v1/hosts lists both"));
    }
    stated(&app, &auditor, "receipts", asked.stated).await?;
    let stack = auditor.stack(None)?;
    let chains = app.store.readers().run(move |tx| {
        let mut chains = match (&ledger, &host) {
            (Some(ledger), _) => tx.ledgers_named(Named::Id(ledger))?,
            (None, Some(host)) => tx.ledgers_named(Named::Host(host.as_str()))?,
            (None, None) => Vec::new(),
        };
        if let Some(stack) = stack {
            let of_stack = chains.iter().map(|(_, id)| is_of(tx, id, &stack)).collect::<Result<Vec<_>, Error>>()?;
            let mut of_stack = of_stack.into_iter();
            chains.retain(|_| of_stack.next().unwrap_or(false));
        }
        Ok(chains)
    });
    let chains = chains.await?;
    if chains.is_empty() {
        return Err(Problem::not_found("no such ledger or host is known; GET /v1/hosts lists both"));
    }
    let maker = Receipts { chains, after: 0 };
    stream::answer(&streams, app.store.readers(), maker).await
}

/// Whether a ledger is of a host whose newest record names this stack.
pub(super) fn is_of(tx: &mut dyn Tx, id: &LedgerId, stack: &Stack) -> Result<bool, Error> {
    let Some(ledger) = tx.ledger(id)? else { return Ok(false) };
    let all = tx.host_ledgers(&ledger.name)?;
    let is_hosts = all.iter().any(|one| one.ledger == id.as_str());
    Ok(is_hosts && all.first().is_some_and(|newest| newest.stack == stack.as_str()))
}

/// Goes through the chains one by one.
struct Receipts {
    /// What is left, the next one last.
    chains: Vec<(i64, LedgerId)>,
    after: u64,
}

impl Maker for Receipts {
    fn chunk(&mut self, tx: &mut dyn Tx) -> Result<Chunk, Error> {
        let Some((row, ledger)) = self.chains.last() else { return Ok(Chunk { lines: Vec::new(), end: true }) };
        let part = tx.receipts((*row, ledger), self.after, PER_CHUNK)?;
        self.after = part.last.unwrap_or(0);
        if part.last.is_none() {
            self.chains.pop();
        }
        Ok(Chunk { lines: part.lines, end: self.chains.is_empty() })
    }
}
