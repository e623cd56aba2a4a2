//! `POST /v1/documents` and `GET /v1/documents/{id}`: documents come in, and are looked at.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
};
use document::{Envelope, Id, Kind, MAX_ENVELOPE, Malformed, Refusal, Sealed};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Documents, MAX_BODY,
    answer::{Kept, Taken},
    applying::{Applied, apply},
    deciding::{Decided, as_it_is, decide, refused},
    telling::tell,
};
use crate::{
    App,
    auth::{Peer, Reader},
    incidents::{self, Incident},
    network::Network,
    problem::Problem,
    serve::Place,
    store::Room,
    verdict::Why,
};

/// The judge's word for it.
const OTHER_BYTES: &str = "other_bytes";

/// Takes a document.
///
/// The body is one envelope, by docs/DOCUMENTS.md; it counts for its signatures, and takes no token. What no host would accept is
/// refused with the host's own word and sentence. A grant that has too few approvals, or that the person asked for, waits for
/// them: post the same line again with another signature.
#[utoipa::path(post, path = "/v1/documents", tag = "documents",
    request_body(content((Object = "application/json"))),
    responses((status = 200, description = "It is in the feeds of its stacks, or waits for approvals", body = Taken)))]
pub(super) async fn take(State(app): State<Arc<App>>, request: Request) -> Result<Json<Taken>, Problem> {
    let documents = app.documents()?;
    let (mut parts, body) = request.into_parts();
    is_json(&parts.headers)?;
    let sender = Network::of(Peer::from_request_parts(&mut parts, &app).await?.0.ip());
    let (body, place) = read(documents, sender, body).await?;
    let judging = Arc::clone(documents);
    let judged = app.store.checkers().run(move |tx| {
        let posted = match open(&judging, &body) {
            Ok(posted) => posted,
            Err(problem) => return Ok(Err(problem)),
        };
        drop(body);
        let decided = decide(tx, &judging.judges, &posted)?;
        Ok(decided.map(|decision| (decision, posted)))
    });
    let (decision, posted) = judged.await?.inspect_err(|problem| note(&app, problem))?;
    if !decision.changes {
        return Ok(Json(Taken::of(decision)));
    }
    let taken = keep(&app, documents, posted).await;
    drop(place);
    taken.map(|applied| Json(Taken::of(applied.decision)))
}

/// Whether a request says that it brings JSON: a page in a browser cannot have one sent that does, without being asked first.
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Problem::new(Why::MediaType, "a document is sent as application/json: set Content-Type"))
}

/// Two signed rosters of one version: somebody has to find out who signed the other.
fn note(app: &App, problem: &Problem) {
    if problem.code() == OTHER_BYTES {
        app.gathered.note(Incident::new(incidents::Kind::TwoRosters, "roster").with("why", problem.detail()));
    }
}

/// Decides again, in the transaction that keeps it: meanwhile another may have come.
async fn keep(app: &App, documents: &Arc<Documents>, posted: Envelope) -> Result<Applied, Problem> {
    let judging = Arc::clone(documents);
    let applied = app.store.write_in(Room::Documents, move |tx| {
        tx.drop_pending_over()?;
        match decide(tx, &judging.judges, &posted)? {
            Ok(decision) => {
                if decision.is_new
                    && let Err(problem) = judging.pace.count(&posted, &decision.facts.signers, tx.now())
                {
                    return Ok(Err(*problem));
                }
                apply(tx, decision).map(Ok)
            }
            Err(problem) => Ok(Err(problem)),
        }
    });
    let applied = applied.await??;
    documents.judges.remember(applied.standings.iter().cloned());
    for standing in &applied.standings {
        if let Ok(stack) = standing.stack.as_str().parse() {
            documents.feeds.heard(&stack, standing.count);
        }
    }
    tell(&app.hook, &applied.decision);
    Ok(applied)
}

/// Reads a body. One that is longer than any document but a roster needs a place, of which there are few.
async fn read(
    documents: &Documents,
    sender: Network,
    mut body: Body,
) -> Result<(Bytes, Option<(Place<Network>, OwnedSemaphorePermit)>), Problem> {
    let (mut all, mut place) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::malformed(format!("the body did not come whole: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        if all.len() + data.len() > MAX_ENVELOPE && place.is_none() {
            let permit = Arc::clone(&documents.rosters).try_acquire_owned().ok();
            place = Some(documents.senders.take(sender).zip(permit).ok_or_else(|| {
                Problem::busy("other rosters are being taken in; send the same again after the time in Retry-After")
            })?);
        }
        all.extend_from_slice(&data);
    }
    Ok((all.into(), place))
}

pub(super) fn too_large() -> Problem {
    Problem::new(Why::TooLarge, format!("the body is over {MAX_BODY} bytes: no document is that long"))
}

/// Reads an envelope. A roster is read only where one of the keys for rosters has signed it.
fn open(documents: &Documents, body: &[u8]) -> Result<Envelope, Problem> {
    let malformed = |why: Malformed| Problem::malformed(format!("this is no document: {why}"));
    let sealed = Sealed::parse(body).map_err(malformed)?;
    if sealed.kind() != Kind::Roster {
        return sealed.open().map_err(malformed);
    }
    let settings = documents.judges.settings();
    let keys = settings.roster_signers();
    if !sealed.is_signed_by_any(&keys) {
        return Err(refused(&Refusal::Threshold { counted: 0, needed: settings.threshold() }));
    }
    let envelope = sealed.open().map_err(malformed)?;
    // Each stack's judge looks at each signature: those by others are left out before.
    let by_known = envelope.signatures().iter().filter(|armored| {
        let read = document::signature::read(armored);
        read.is_ok_and(|read| keys.iter().any(|key| key.fingerprint() == read.fingerprint()))
    });
    Envelope::new(envelope.document().clone(), by_known.cloned().collect()).map_err(malformed)
}

/// A document that was taken, with what became of it.
#[utoipa::path(get, path = "/v1/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "The SHA-256 of its line", pattern = "^[0-9a-f]{64}$")),
    responses((status = 200, description = "It", body = Kept)),
    security(("bearer" = [])))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    reader: Reader,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Kept>, Problem> {
    app.documents()?;
    let id = id_of(id)?;
    reader.states(&app, "documents", &[("id", &id.to_string())]).await?;
    let found: Option<Decided> = app
        .store
        .readers()
        .run(move |tx| match tx.document(id)? {
            Some(document) => as_it_is(tx, &document).map(Ok).map(Some),
            None => Ok(None),
        })
        .await?;
    let decision = found.ok_or_else(|| unknown(id))??;
    if !reader.may_any(&decision.stacks) {
        return Err(unknown(id));
    }
    Ok(Json(Kept::of(decision)?))
}

/// The id in a path.
pub(super) fn id_of(given: Result<Path<String>, PathRejection>) -> Result<Id, Problem> {
    let id = given.ok().and_then(|Path(id)| id.parse().ok());
    id.ok_or_else(|| Problem::malformed("a document's id is 64 hex digits, the SHA-256 of its line"))
}

/// There is no such document, or none for this reader.
pub(super) fn unknown(id: Id) -> Problem {
    Problem::not_found(format!("there is no document {id} here, or it is for other stacks than yours"))
}
