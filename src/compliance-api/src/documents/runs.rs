//! `POST /v1/runs` and `GET /v1/runs`: what feeders, such as lockdown-iam, say of each look at their source. It gives and takes
//! nothing: it is how somebody sees that one looks no more.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use document::{Body, Envelope, Id, MAX_ENVELOPE, Run, Source};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Documents,
    deciding::waits,
    judging::{Judges, every, parse},
    posting::is_json,
};
use crate::{
    App,
    auth::Reader,
    incidents::{Incident, Kind},
    moment::Moment,
    noting,
    problem::Problem,
    read::Asked,
    store::{
        Error, Room, Tx,
        incidents::Wanted,
        runs::{Keeping, Kept, MAX_RUNS_A_MINUTE},
    },
    verdict::Why,
};

/// The most runs of one answer.
const MAX_LISTED: usize = 200;
/// The most open incidents that are looked at: twice the feeders of a roster.
const MAX_OPEN: u32 = 128;

/// A run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeederRun)]
pub(super) struct OneRun {
    /// The SHA-256 of its line.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    id: String,
    /// Where the feeder looked.
    source: String,
    /// When it ended, by the feeder's clock.
    ended_at: Moment,
    /// When it was told here.
    received_at: Moment,
    /// How many people are there.
    users: u64,
    /// Of how many people the entry waits for somebody to sign it.
    proposed: u64,
    /// The holds that it signed.
    holds: Vec<String>,
    /// The roster that its own key signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    automatic: Option<u64>,
    /// Why it did not do all that it should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Runs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeederRuns)]
pub(super) struct Runs {
    runs: Vec<OneRun>,
}

/// Which runs.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfSource {
    /// Only this source's.
    #[serde(default)]
    #[param(pattern = "^[A-Za-z0-9._-]{1,128}$")]
    source: Option<String>,
}

/// A feeder, and how it looks at its source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeederStatus)]
pub(super) struct OneFeeder {
    /// Its source.
    source: String,
    /// Whether it should have looked there by now.
    silent: bool,
    /// When it last did all that it should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_complete: Option<Moment>,
    /// What it said last; absent where it never said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<OneRun>,
}

/// A feeder says what came of one look at its source.
///
/// The body is the envelope of a `run` document that a feeder of its source signed, by the roster in force; it takes no token.
#[utoipa::path(post, path = "/v1/runs", tag = "documents",
    request_body(content((Object = "application/json"))),
    responses((status = 200, description = "It is kept", body = OneRun)))]
pub(super) async fn take(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OneRun>, Problem> {
    let documents = Arc::clone(app.documents()?);
    is_json(&headers)?;
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Why::TooLarge, format!("the body is over {MAX_ENVELOPE} bytes: no run is that long"))
        }
        _ => Problem::malformed(error.to_string()),
    })?;
    let envelope = Envelope::parse(&body).map_err(|why| Problem::malformed(format!("this is no document: {why}")))?;
    let judging = Arc::clone(&documents);
    let judged = app.store.checkers().run(move |tx| judge(tx, &judging.judges, &envelope));
    let (run, envelope) = judged.await??;
    let (id, text) = (envelope.document().id(), envelope.to_json());
    let keeping = run.clone();
    let keep = move |tx: &mut dyn Tx| {
        let source = &keeping.source;
        let kept = tx.keep_run(id, &keeping, &text)?;
        // What was said before says nothing about now.
        if matches!(kept, Keeping::New) && keeping.failed.is_none() {
            tx.end_incident(Kind::ReaderSilent, source.as_str())?;
        }
        Ok(match kept {
            Keeping::New => Ok(tx.now()),
            Keeping::Known(received) => Ok(received),
            Keeping::TooMany => {
                let detail = format!("{MAX_RUNS_A_MINUTE} runs of {source} came within a minute: one is enough");
                Err(Problem::new(Why::SlowDown, detail))
            }
        })
    };
    let received = app.store.write_in(Room::Documents, keep).await??;
    Ok(Json(one(id, run, received)))
}

/// Whether it is the word of the feeder of its source; with that one's signature alone, then: others are not kept.
fn judge(tx: &mut dyn Tx, judges: &Judges, envelope: &Envelope) -> Result<Result<(Run, Envelope), Problem>, Error> {
    let Some(base) = judges.read(tx, &every())? else { return Ok(Err(waits(&document::Wait::NoRoster))) };
    let now = super::now(tx);
    let refused = |why: document::judge::NoRun| Problem::new(Why::Refused, why.to_string()).word("run");
    Ok(base.judge.judge_run(envelope, now).map_err(refused).map(|run| {
        let alone = |signature: &String| Envelope::new(envelope.document().clone(), vec![signature.clone()]).ok();
        let mut each = envelope.signatures().iter().filter_map(alone);
        let own = each.find(|one| base.judge.judge_run(one, now).is_ok());
        (run.clone(), own.unwrap_or_else(|| envelope.clone()))
    }))
}

fn one(id: Id, run: Run, received: Timestamp) -> OneRun {
    OneRun {
        id: id.to_string(),
        source: run.source.into(),
        ended_at: Moment(run.issued_at.timestamp()),
        received_at: Moment(received),
        users: run.users,
        proposed: run.proposed,
        holds: run.holds.iter().map(Id::to_string).collect(),
        automatic: run.automatic.map(document::Version::number),
        failed: run.failed.map(Into::into),
    }
}

fn read(kept: &Kept) -> Result<OneRun, Error> {
    let envelope = parse(&kept.envelope)?;
    match envelope.document().body() {
        Body::Run(run) => Ok(one(envelope.document().id(), run.clone(), kept.received)),
        other => Err(Error::Unsound(format!("a {} among the runs", other.kind()))),
    }
}

/// What feeders said of each look at their source, the newest first.
///
/// The last 200, or fewer. Kept are the last 1,000 of each source in which somebody was held, a roster signed or something failed,
/// and as many of the others.
#[utoipa::path(get, path = "/v1/runs", tag = "documents", params(OfSource),
    responses((status = 200, description = "Runs", body = Runs)),
    security(("bearer" = [])))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    reader: Reader,
    asked: Asked<OfSource>,
) -> Result<Json<Runs>, Problem> {
    app.documents()?;
    let parsed = asked.query.source.map(|name| name.parse::<Source>()).transpose();
    let source = parsed.map_err(|error| Problem::malformed(error.to_string()))?;
    let named = source.as_ref().map_or("", Source::as_str).to_owned();
    reader.states(&app, "runs", &[("source", &named)]).await?;
    let reading = app.store.readers().run(move |tx| {
        let kept = tx.runs(source.as_ref(), MAX_LISTED)?;
        kept.iter().map(read).collect::<Result<Vec<_>, Error>>()
    });
    Ok(Json(Runs { runs: reading.await? }))
}

/// The feeders of the roster in force.
pub(super) fn feeders(tx: &mut dyn Tx, documents: &Documents, after: Duration) -> Result<Vec<OneFeeder>, Error> {
    let sources = documents.sources(tx)?;
    let now = tx.now();
    let of = |source: Source| {
        let newest = tx.newest_run(&source)?;
        Ok(OneFeeder {
            silent: newest.as_ref().is_some_and(|newest| is_silent(newest.complete, now, after)),
            last_complete: newest.as_ref().and_then(|newest| newest.complete).map(Moment),
            last_run: newest.map(|newest| read(&newest.last)).transpose()?,
            source: source.into(),
        })
    };
    sources.into_iter().map(of).collect()
}

/// Whether it is too long ago that a feeder did all that it should have.
fn is_silent(complete: Option<Timestamp>, now: Timestamp, after: Duration) -> bool {
    complete.is_none_or(|at| now.duration_since(at) > jiff::SignedDuration::try_from(after).unwrap_or_default())
}

impl Documents {
    /// Whose people feeders hold, by the roster in force.
    fn sources(&self, tx: &mut dyn Tx) -> Result<Vec<Source>, Error> {
        let base = self.judges.of(tx, &every())?;
        let roster = base.as_ref().and_then(|base| base.judge.roster());
        let mut sources: Vec<Source> =
            roster.iter().flat_map(|roster| &roster.feeders).map(|feeder| feeder.source.clone()).collect();
        sources.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        sources.dedup();
        Ok(sources)
    }

    /// Opens an incident for each feeder that was heard of once, and has not looked at its source for too long. It ends with the next
    /// run that does all that it should, or when no roster names a feeder of that source.
    ///
    /// # Errors
    /// The store's.
    pub fn note_silent_feeders(&self, tx: &mut dyn Tx) -> Result<(), Error> {
        let (now, after) = (tx.now(), tx.server().limits.reader_silent_after);
        let sources = self.sources(tx)?;
        let kind = Some(Kind::ReaderSilent.as_str().to_owned());
        let wanted = Wanted { open: Some(true), kind, host: None, ledger: None, before: i64::MAX, most: MAX_OPEN };
        for open in tx.incidents(&wanted)? {
            if !sources.iter().any(|source| source.as_str() == open.subject) {
                tx.end_incident(Kind::ReaderSilent, &open.subject)?;
            }
        }
        for source in sources {
            let Some(newest) = tx.newest_run(&source)? else { continue };
            let is_known = tx.is_incident_open(Kind::ReaderSilent, source.as_str())?;
            if is_known || !is_silent(newest.complete, now, after) {
                continue;
            }
            let last = read(&newest.last)?;
            let mut incident =
                Incident::new(Kind::ReaderSilent, source.as_str()).with("last_heard", newest.last.received.to_string());
            if let Some(complete) = newest.complete {
                incident = incident.with("last_complete", complete.to_string());
            }
            if let Some(failed) = last.failed {
                incident = incident.with("failed", failed);
            }
            noting::note(tx, &incident)?;
        }
        Ok(())
    }
}
