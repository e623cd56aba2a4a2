//! `POST /v1/artifacts`: what hosts, clients and reviewers state. Verified, stored durably, then answered with a receipt.
//!
//! The longest valid prefix of a batch is stored before any answer. What is not authentic is counted, and nothing more.

pub(crate) mod answer;
mod batch;
mod event;
mod heard;
mod host;
mod json;
mod kept;
mod mode;
mod notice;
mod settle;
mod verify;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use record::Fingerprint;

use self::{answer::Outcome, batch::Batch, kept::Statements, mode::Mode};
use crate::{
    App,
    auth::{Caller, Peer},
    evidence::SourceKind,
    incidents::{Incident, Kind},
    network::Network,
    problem::Problem,
    store::{self, Place, Room, Tx, hosts, tokens::TokenRow},
    verdict::Why,
};

/// How often a batch is judged: again where a key or token changed between judging and storing it.
const JUDGED_AT_MOST: usize = 3;

/// The endpoint.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/v1/artifacts", post(take))
}

/// What is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(paths(take))]
pub struct Described;

/// Takes what a host, a client or a person states.
///
/// By the HTTP binding of CloudEvents 1.0: a batch, which is of one source and in order; one structured event; or one in binary
/// mode, whose attributes are headers and whose data is the body. The longest valid prefix is stored, durably, before any answer, a refusal
/// included. A host that is enrolled sends no token: its signatures are the proof. A new host sends its stack's enrolment
/// token; a client its client token; a person's review carries its signature.
#[utoipa::path(post, path = "/v1/artifacts", tag = "stating",
    request_body(content(
        (Vec<event::Described> = "application/cloudevents-batch+json"),
        (event::Described = "application/cloudevents+json"),
        (Object = "application/json"),
    )),
    params(
        ("ce-specversion" = Option<String>, Header, description = "Of an event in binary mode: `1.0`"),
        ("ce-id" = Option<String>, Header, description = "As `id`, percent-encoded, as the rest"),
        ("ce-source" = Option<String>, Header, description = "As `source`"),
        ("ce-type" = Option<String>, Header, description = "As `type`"),
        ("ce-time" = Option<String>, Header, description = "As `time`"),
    ),
    responses((status = 200, description = "All of it is stored", body = answer::Taken)),
    security((), ("bearer" = [])))]
async fn take(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let address = Peer::from_request_parts(&mut parts, &app).await.map(|peer| peer.0.ip())?;
    let taken = batch(&app, &parts, body).await;
    let (problem, events) = match taken {
        Ok((outcome, signer)) => match outcome.answer(&app.store.key().key, signer) {
            Ok(taken) => return Ok(Json(taken).into_response()),
            Err(problem) => (problem, true),
        },
        Err(problem) => (problem, false),
    };
    note(&app, &problem, address, events);
    Err(problem)
}

/// What became of a batch, and the host's key that signs its ledger at the head.
type Taken = (Outcome, Option<Fingerprint>);

async fn batch(app: &App, parts: &Parts, body: axum::body::Body) -> Result<Taken, Problem> {
    let mode = Arc::new(Mode::of(&parts.headers)?);
    let mut caller = Caller::find(app, parts).await?;
    let body = read_body(body, app.config.limits.body).await?;
    let most = app.config.limits.batch;
    for _ in 0..JUDGED_AT_MOST {
        let (body, mode, token) = (body.clone(), Arc::clone(&mode), caller.map(|c| c.token));
        let judged = app
            .store
            .checkers()
            .run_with_helpers(move |tx, helpers| Ok(judge(tx, &body, &mode, most, token.as_ref(), helpers)));
        let judged = judged.await??;
        let outcomes = judged.has_outcomes();
        let (place, kind) = (judged.place(), judged.kind());
        let _source = match judged.source() {
            Some(source) => Some(app.sources.take(source).ok_or_else(|| {
                let most = app.config.limits.batches_per_source;
                let detail =
                    format!("{most} batches of this source wait to be stored; send the same again when they are");
                Problem::new(Why::SlowDown, detail)
            })?),
            None => None,
        };
        if let Some(taken) = app.store.write_in(place, move |tx| judged.settle(tx)).await? {
            app.metrics.stored(kind, taken.0.stored);
            if let Some(documents) = app.documents.as_ref().filter(|_| outcomes) {
                documents.outcomes_came();
            }
            return Ok(taken);
        }
        caller = Caller::find(app, parts).await?;
    }
    Err(Problem::busy("the keys of this ledger change while it is judged; send the same again"))
}

/// What goes to the writer.
enum Judged {
    Host(Batch),
    Kept(Statements),
}

/// Reads a batch and judges it by who states it.
fn judge(
    tx: &mut dyn Tx,
    body: &Bytes,
    mode: &Mode,
    most: usize,
    token: Option<&TokenRow>,
    helpers: usize,
) -> Result<Judged, Problem> {
    let wide;
    let (mut events, broken) = event::read(body, mode)
        .map_err(|why| Problem::malformed(format!("{why}; docs/COMPLIANCE_API.md has an example")))?;
    let body = match event::widened(body, &events) {
        None => body,
        Some(bytes) => {
            wide = bytes;
            events = event::placed(body, &wide, events);
            &wide
        }
    };
    if events.len() > most {
        let detail = format!("the batch has {} events; at most {most} are taken: send half as many", events.len());
        return Err(Problem::new(Why::TooLarge, detail));
    }
    let source = events.first().map_or("", |e| &*e.source);
    let mut judged = if source.starts_with("/stacks/") {
        Judged::Host(host::judge(tx, body, &events, token, helpers)?)
    } else if source.starts_with("/clients/") {
        Judged::Kept(kept::client(body, &events, token)?)
    } else if let Some(person) = source.strip_prefix("/people/") {
        Judged::Kept(kept::person(tx, body, &events, person)?)
    } else {
        let detail = match (events.is_empty(), &broken) {
            (true, Some(why)) => format!("the first event cannot be read: {why}"),
            (true, None) => "the batch is empty: send at least one event".to_owned(),
            _ => "`source` has to be /stacks/STACK/hosts/HOST, /clients/NAME or /people/PERSON".to_owned(),
        };
        return Err(Problem::malformed(detail).with("index", 0));
    };
    if let Some(why) = broken {
        let problem = Problem::malformed(format!("an event cannot be read: {why}"));
        judged.or_refuse(events.len(), problem);
    }
    Ok(judged)
}

impl Judged {
    /// Stores it; none where what it was judged by has changed since.
    fn settle(&self, tx: &mut dyn Tx) -> Result<Option<Taken>, store::Error> {
        let settled = match self {
            Self::Host(batch) => settle::settle(tx, batch)?,
            Self::Kept(all) => kept::settle(tx, all)?,
        };
        let Some(outcome) = settled else { return Ok(None) };
        let signer = match &outcome.head {
            Some(head) => hosts::signer_at(&tx.signers(head.row)?, head.head_seq),
            None => None,
        };
        Ok(Some((outcome, signer)))
    }

    fn kind(&self) -> SourceKind {
        match self {
            Self::Host(_) => SourceKind::Host,
            Self::Kept(all) => all.kind,
        }
    }

    /// Whose it is; none for what holds nothing that was verified.
    fn source(&self) -> Option<String> {
        match self {
            Self::Host(batch) if batch.rows.is_empty() => None,
            Self::Host(batch) => Some(batch.ledger.to_string()),
            Self::Kept(all) => Some(format!("{}/{}", all.kind.as_str(), all.name)),
        }
    }

    /// Where it waits to be stored. What holds nothing that was verified can be anybody's.
    fn place(&self) -> Place {
        match self {
            Self::Host(batch) if !batch.rows.is_empty() => Room::Hosts.of(batch.rows.len()),
            Self::Host(_) => Room::Readers.into(),
            Self::Kept(_) => Room::Clients.into(),
        }
    }

    /// Whether it says what became of documents.
    fn has_outcomes(&self) -> bool {
        match self {
            Self::Host(batch) => batch.has_outcomes(),
            Self::Kept(_) => false,
        }
    }

    /// The event behind all that could be read is refused, if nothing before it is.
    fn or_refuse(&mut self, index: usize, problem: Problem) {
        let refusal = match self {
            Self::Host(batch) => &mut batch.refusal,
            Self::Kept(all) => &mut all.refusal,
        };
        refusal.get_or_insert(batch::Refusal { index, id: None, problem });
    }
}

pub(crate) async fn read_body(body: axum::body::Body, most: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, most).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(most)),
        Err(error) => Err(Problem::malformed(format!("the body did not come whole: {error}"))),
    }
}

/// What a refusal says about whoever sent it. `stated`: it is about one event of a batch that was judged.
fn note(app: &App, problem: &Problem, address: IpAddr, stated: bool) {
    let text = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    // Not by full IPv6 address, of which a sender has plenty.
    let sender = Network::of(address).to_string();
    let incident = match problem.why() {
        Why::BadToken => Incident::new(Kind::BadToken, &sender),
        Why::UnknownLedger => Incident::new(Kind::UnknownSigner, &text("ledger")).ledger(&text("ledger")),
        Why::WrongHost => Incident::new(Kind::WrongHost, &sender).with("why", problem.detail()),
        Why::NotAuthentic | Why::NotCanonical if stated => match text("ledger") {
            // No ledger is known, nor a token: whoever sent it chose its id, and could fill the list.
            unknown if unknown.is_empty() => Incident::new(Kind::NotAuthentic, "/people").with("id", text("id")),
            ledger => Incident::new(Kind::NotAuthentic, &ledger).ledger(&ledger).with("id", text("id")),
        },
        _ => return,
    };
    app.gathered.note(incident.from(address));
}
