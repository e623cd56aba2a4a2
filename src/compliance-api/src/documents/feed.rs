//! `GET /v1/feed`: the documents of one stack in their order, with the server's signed word on how many there are.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Extension, FromRequestParts, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use document::{Id, Kind, StackPattern};
use hyper::body::Bytes;
use jiff::Timestamp;
use record::Stack;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    Documents,
    answer::raw,
    applying,
    judging::{Standing, mattering, parse, with_rosters},
    statement,
};
use crate::{
    App,
    auth::{self, Reader},
    problem::Problem,
    read::{Asked, LedgerFacts, Standing as HowItStands, standing},
    serve::Held,
    store::{Error, Room, Tx, documents::Document, feeds::FeedHost},
    verdict::Why,
};

/// How long one question may wait for an answer.
pub const MAX_WAIT: Duration = Duration::from_secs(300);
/// Documents of one answer.
const MAX_DOCUMENTS: usize = 64;
/// Bytes of them, if there is more than one.
const MAX_BYTES: usize = 4 << 20;
/// Hex digits of a host's token.
const TOKEN: usize = 64;

/// Which documents.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Of which stack.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: String,
    /// Those after this place: `next` of the answer before. Without it, those that matter still.
    #[serde(default)]
    #[param(minimum = 0)]
    after: Option<u64>,
    /// How many seconds to wait for one, where there is none yet.
    #[serde(default)]
    #[param(minimum = 0, maximum = 300)]
    wait: u64,
}

/// A part of a feed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeedPart)]
struct Part<'a> {
    /// Whose documents.
    organization: &'a str,
    /// Of which stack.
    stack: &'a str,
    /// After which place; null for what matters still.
    after: Option<u64>,
    /// The place of the last one, to go on after.
    #[schema(minimum = 0)]
    next: u64,
    /// The documents.
    documents: Vec<Placed>,
    /// The envelope of a `feed` document: what the server says that this feed holds, signed by its key for receipts.
    #[schema(value_type = Object)]
    statement: Box<RawValue>,
}

/// A document in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeedDocument)]
struct Placed {
    /// Its place, from 1; absent among those that matter still.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Its id.
    id: String,
    /// It.
    #[schema(value_type = Object)]
    envelope: Box<RawValue>,
}

/// The documents of a stack, in order.
///
/// A host asks with the token of its feed, whose SHA-256 its newest `daemon.started` names, and gets its own stack's; a reader
/// gets any. An answer has at most 64 documents, or 4 MiB of them, and one at least where there is one.
#[utoipa::path(get, path = "/v1/feed", tag = "documents", params(Query),
    responses((status = 200, description = "A part of the feed", body = Part)),
    security(("bearer" = [])))]
pub(super) async fn hear(
    State(app): State<Arc<App>>,
    held: Option<Extension<Held>>,
    caller: Caller,
    Asked { query, stated }: Asked<Query>,
) -> Result<Response, Problem> {
    let documents = app.documents()?;
    drop(stated);
    let Query { stack, after, wait } = query;
    let stack: Stack = stack.parse().map_err(|e: record::NameError| Problem::malformed(e.to_string()))?;
    if wait > MAX_WAIT.as_secs() {
        return Err(Problem::malformed(format!("wait has to be 0 to {} seconds", MAX_WAIT.as_secs())));
    }
    // Thousands wait here: what is done before and after that has its memory for that long.
    let count = Box::pin(admitted(&app, documents, &caller, &stack, after)).await?;
    if after == Some(count) && wait > 0 {
        let _place = documents.feeds.place().ok_or_else(|| {
            Problem::busy("as many hosts wait here as may (limits.polls); ask again after the time in Retry-After")
        })?;
        // It waits for others: that keeps nobody from its own address out.
        if let Some(Extension(held)) = held {
            held.give_back();
        }
        documents.feeds.wait(&stack, count, Duration::from_secs(wait)).await;
        Box::pin(caller.still_may(&app, documents, &stack)).await?;
    }
    Box::pin(answer(&app, documents, &stack, after)).await
}

/// Whether the caller may hear this feed, and how many documents it holds.
async fn admitted(
    app: &App,
    documents: &Arc<Documents>,
    caller: &Caller,
    stack: &Stack,
    after: Option<u64>,
) -> Result<u64, Problem> {
    caller.may(app, stack).await?;
    if let Caller::Reader(reader) = caller {
        reader.states(app, "feed", &[("stack", stack.as_str())]).await?;
    }
    match documents.feeds.count(stack).filter(|count| after.is_none_or(|after| after <= *count)) {
        Some(count) => Ok(count),
        None => begin(app, documents, stack, caller.room()).await,
    }
}

async fn answer(app: &App, documents: &Arc<Documents>, stack: &Stack, after: Option<u64>) -> Result<Response, Problem> {
    let answer = documents.feeds.answer(stack, after);
    let body = answer.get_or_try_init(|| make(app, documents, stack, after)).await?;
    let mut response = body.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The feed of a stack that nobody has asked for in this process: it may have to be begun.
async fn begin(app: &App, documents: &Arc<Documents>, stack: &Stack, room: Room) -> Result<u64, Problem> {
    let pattern = StackPattern::from(stack);
    let (judging, reading) = (Arc::clone(documents), pattern.clone());
    let known = app.store.feeds().run(move |tx| judging.judges.read(tx, &reading)).await?;
    let standing = match known {
        Some(standing) => standing,
        None => {
            let judging = Arc::clone(documents);
            let begun = app.store.write_in(room, move |tx| applying::begin(tx, &judging.judges, &pattern)).await?;
            begun.ok_or_else(|| {
                Problem::not_found(format!("no host is in the stack {stack}, and the roster does not name it"))
            })?
        }
    };
    documents.judges.remember([Arc::clone(&standing)]);
    documents.feeds.heard(stack, standing.count);
    Ok(standing.count)
}

/// Reads a part of a feed, once for all who want it.
async fn make(app: &App, documents: &Arc<Documents>, stack: &Stack, after: Option<u64>) -> Result<Bytes, Problem> {
    let (reading, stack) = (Arc::clone(documents), stack.clone());
    let made = app.store.feeds().run(move |tx| {
        let pattern = StackPattern::from(&stack);
        let Some(standing) = reading.judges.read(tx, &pattern)? else {
            return Err(Error::Unsound(format!("no feed of {stack} where there was one")));
        };
        match after {
            Some(after) if after > standing.count => Ok(Err(shorter(after, standing.count))),
            _ => part(tx, &reading, &stack, &standing, after).map(Ok),
        }
    });
    made.await?
}

fn shorter(after: u64, count: u64) -> Problem {
    let detail = format!(
        "this feed holds {count} documents, and `after` is {after}: it is another feed, or the server was set back; begin \
         anew, without `after`"
    );
    Problem::new(Why::FeedShorter, detail).with("count", count)
}

fn part(
    tx: &mut dyn Tx,
    documents: &Documents,
    stack: &Stack,
    standing: &Standing,
    after: Option<u64>,
) -> Result<Bytes, Error> {
    let placed = match after {
        Some(after) => following(tx, stack, standing, after)?,
        None => beginning(tx, standing)?,
    };
    let next = match after {
        Some(after) => placed.last().and_then(|last| last.position).unwrap_or(after),
        None => standing.count,
    };
    let now = super::now(tx);
    let holds = (standing.count, standing.head);
    let statement = statement::state(&tx.server().key, documents.organization(), stack, holds, now)?;
    let part = Part {
        organization: documents.organization().as_str(),
        stack: stack.as_str(),
        after,
        next,
        documents: placed,
        statement: raw(statement.to_json())?,
    };
    let text =
        serde_json::to_vec(&part).map_err(|why| Error::Unsound(format!("a feed that cannot be written: {why}")))?;
    Ok(text.into())
}

fn following(tx: &mut dyn Tx, stack: &Stack, standing: &Standing, after: u64) -> Result<Vec<Placed>, Error> {
    // What joined since then is not in the statement.
    let left = usize::try_from(standing.count - after).unwrap_or(usize::MAX);
    let found = tx.feed_after(stack, after, (left.min(MAX_DOCUMENTS), MAX_BYTES))?;
    let place = |found: crate::store::documents::Placed| {
        Ok(Placed { position: Some(found.position), id: found.id.to_string(), envelope: raw(found.envelope)? })
    };
    found.into_iter().map(place).collect()
}

/// What matters still to a host that knows nothing: rosters and what closes, then what opens.
fn beginning(tx: &mut dyn Tx, standing: &Standing) -> Result<Vec<Placed>, Error> {
    let mattering = mattering(tx, standing)?;
    let lockdowns: Vec<Id> =
        mattering.iter().filter(|document| document.kind == Kind::Lockdown).map(|document| document.id).collect();
    // A lift whose lockdown does not come would wait for ever.
    let comes = |document: &&Document| {
        document.kind != Kind::Lift || document.about.is_some_and(|lockdown| lockdowns.contains(&lockdown))
    };
    let (opening, closing): (Vec<&Document>, Vec<&Document>) =
        mattering.iter().filter(comes).partition(|document| document.kind == Kind::Grant);
    let read = closing.iter().map(|document| Ok((document.id, parse(&document.envelope)?)));
    let read = read.collect::<Result<Vec<_>, Error>>()?;
    let mut all = Vec::new();
    for envelope in with_rosters(tx, standing, read)? {
        let id = envelope.document().id().to_string();
        all.push(Placed { position: None, id, envelope: raw(envelope.to_json())? });
    }
    for document in opening {
        all.push(Placed { position: None, id: document.id.to_string(), envelope: raw(document.envelope.clone())? });
    }
    Ok(all)
}

/// Who asks for a feed.
#[derive(Debug)]
pub(super) enum Caller {
    /// A host, by the hash of its token.
    Host([u8; 32]),
    /// Anybody who may read.
    Reader(Box<Reader>),
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match token(parts) {
            Some(token) => Ok(Self::Host(Sha256::digest(token).into())),
            None => Box::pin(Reader::from_request_parts(parts, app)).await.map(Box::new).map(Self::Reader),
        }
    }
}

/// A host's token: 64 hex digits.
fn token(parts: &Parts) -> Option<&str> {
    let text = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    let fits = token.len() == TOKEN && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

impl Caller {
    /// Whether it may hear the feed of this stack.
    async fn may(&self, app: &App, stack: &Stack) -> Result<(), Problem> {
        match self {
            Self::Reader(reader) => reader.may(stack),
            Self::Host(hash) => {
                let hash = *hash;
                let hosts = app.store.feeds().run(move |tx| tx.feed_hosts(Some(hash))).await?;
                let hosts: Vec<&FeedHost> = hosts.iter().map(|(_, host)| host).collect();
                admit(app, &hosts, stack)
            }
        }
    }

    /// Where it waits for what has to be written.
    fn room(&self) -> Room {
        match self {
            Self::Host(_) => Room::Hosts,
            Self::Reader(_) => Room::Readers,
        }
    }

    /// Whether it still may, after it has waited. Many are asked about at a time: all hosts are looked up at once.
    async fn still_may(&self, app: &App, documents: &Documents, stack: &Stack) -> Result<(), Problem> {
        match self {
            Self::Reader(reader) => reader.may(stack),
            Self::Host(hash) => {
                let all = documents.feeds.hosts(app).await?;
                let hosts: Vec<&FeedHost> = all.get(hash).into_iter().flatten().collect();
                admit(app, &hosts, stack)
            }
        }
    }
}

/// Whether one of the hosts that name a token is a live one of this stack.
fn admit(app: &App, hosts: &[&FeedHost], stack: &Stack) -> Result<(), Problem> {
    let limits = &app.config.limits;
    let live = |host: &&&FeedHost| {
        let facts = LedgerFacts {
            pending: false,
            last_type: &host.last_type,
            received: host.received,
            next_by: host.next_by,
            superseded: false,
        };
        let stands = standing(&facts, Timestamp::now(), limits.silence_grace, limits.silent_after);
        matches!(stands, HowItStands::Live | HowItStands::Silent)
    };
    let live: Vec<&&FeedHost> = hosts.iter().filter(live).collect();
    if live.iter().any(|host| host.stack == stack.as_str()) {
        return Ok(());
    }
    match live.first() {
        Some(host) => {
            let detail = format!("this host is in the stack {}, and hears that stack's feed alone", host.stack);
            Err(Problem::new(Why::Role, detail))
        }
        None => Err(auth::unknown_feed_token()),
    }
}
