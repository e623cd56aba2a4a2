//! `GET /v1/artifacts`: what is stored, by what it is about; as pages, or all of it as JSON lines.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use record::{Account, Host, LedgerId, Person, Stack};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    Asked,
    cursor::Cursor,
    export::{Stated, ecs, ocsf},
    params,
    seen::Selection,
    stated,
    stream::{self, CHUNK, Chunk, Maker, NDJSON, Streams},
    walk::{Keep, Step, Walk},
};
use crate::{
    App,
    auth::Auditor,
    evidence::{SourceKind, Window},
    moment::Moment,
    problem::Problem,
    requirements::{Row, TypePattern},
    store::{self, Error, Tx, artifacts::By, ledgers::Named, micros, moment},
};

pub(super) use crate::store::artifacts::Found;

/// A host's chains that are walked one by one; a host with more is found among all chains' artifacts.
const MAX_LEDGERS: usize = 256;
/// Steps that one page takes at most: then it comes with fewer rows than it could have, and says where to go on.
const STEPS_PER_PAGE: usize = 16;

/// What is asked for. All that is given has to hold.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// The person it is about.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$", example = "frank")]
    person: Option<String>,
    /// The Unix account it is about.
    #[param(max_length = 255)]
    account: Option<String>,
    /// The host that stated it.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    host: Option<String>,
    /// The client that posted it.
    #[param(max_length = 64)]
    client: Option<String>,
    /// The stack of the host that stated it.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Its type; `session.*` for all that begin so.
    #[serde(rename = "type")]
    #[param(max_length = 64, example = "session.*")]
    kind: Option<String>,
    /// What it is evidence of, by either relation: `164.312(d)`, `45-cfr-164.312(d)`, `AC-2`.
    #[param(max_length = 128)]
    requirement: Option<String>,
    /// The chain it is in. The answer is then in the chain's own order.
    #[param(pattern = "^[0-9a-f]{32}$")]
    ledger: Option<String>,
    /// Not before this moment, by its own time: RFC 3339, or a day for its beginning in UTC.
    #[param(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$",
        example = "2026-11-01"
    )]
    from: Option<String>,
    /// Before this moment.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$")]
    to: Option<String>,
    /// Also from ledgers that an admin has yet to approve.
    pending: Option<bool>,
    /// Where to go on: `next` of the page before, with the same query.
    #[param(max_length = 128)]
    cursor: Option<String>,
    /// The most rows of a page. JSON lines go on to the end without it.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// In JSON lines: `event` for each as in a page, `record` for its exact bytes alone, `ecs` for a document of the Elastic
    /// Common Schema, `ocsf` for an event of OCSF.
    form: Option<Form>,
}

/// What stands in a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// The artifact with all that the server knows of it.
    #[default]
    Event,
    /// Its exact bytes: of a host's ledger, these are its lines.
    Record,
    /// A document of the Elastic Common Schema 8.11; `event.original` is its exact bytes.
    Ecs,
    /// An event of OCSF 1.5: Authentication, User Access Management or API Activity. `raw_data` is its exact bytes, and what has
    /// no attribute stands in `unmapped`.
    Ocsf,
}

impl Form {
    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Record => "record",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
        }
    }
}

/// One artifact: a CloudEvent as it was posted, with what the server adds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Artifact<'a> {
    /// Always `1.0`.
    pub(super) specversion: &'static str,
    /// `LEDGER/SEQ`, or the id that a client gave it.
    pub(super) id: String,
    /// `/stacks/STACK/hosts/HOST`, `/clients/NAME`, `/people/PERSON` or `/server`.
    pub(super) source: String,
    /// The artifact type.
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    /// When it was stated, by the source's clock.
    pub(super) time: Moment,
    /// Always `application/json`.
    pub(super) datacontenttype: &'static str,
    /// When it was stored, by the server's clock.
    pub(super) received: Moment,
    /// The chain it is in.
    pub(super) ledger: &'a str,
    /// Its number there.
    #[schema(minimum = 1)]
    pub(super) seq: i64,
    /// There, and true, when its time was far from the server's clock.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub(super) clockoff: bool,
    /// There, and true, when an admin has yet to approve its chain.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub(super) pending: bool,
    /// Where the server keeps the chain: its line over this artifact. A receipt covers this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(super) entry: Option<&'a RawValue>,
    /// The artifact's exact bytes: a host's record verifies as it stands here.
    #[schema(value_type = Object)]
    pub(super) data: &'a RawValue,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    /// In order of their time, then of their being stored.
    #[schema(value_type = Vec<Artifact<'static>>)]
    artifacts: Vec<Box<RawValue>>,
    /// There, when there may be more: the next page's `cursor`. A page may have fewer rows than its limit, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What is stored, by what it is about.
///
/// In order of time, of what was stored when the first page was asked for. With `Accept: application/x-ndjson` all of it,
/// one artifact a line.
#[utoipa::path(
    get,
    path = "/v1/artifacts",
    tag = "reading",
    params(Query),
    responses(
        (status = 200, description = "A page, or all as JSON lines", content(
            (Page = "application/json"),
            (String = "application/x-ndjson"),
        )),
    ),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    Extension(streams): Extension<Streams>,
    headers: HeaderMap,
    asked: Asked<Query>,
) -> Result<Response, Problem> {
    let mut wanted = Wanted::of(&app, &asked.query)?;
    (wanted.stack, wanted.window) = (auditor.stack(wanted.stack)?, auditor.window(wanted.window)?);
    let wanted = Arc::new(wanted);
    let lines = wants_lines(&headers);
    let query = asked.query;
    if let Some(form) = query.form.filter(|form| *form != Form::Event && !lines) {
        return Err(Problem::malformed(format!(
            "form={} is for JSON lines: send Accept: application/x-ndjson, or leave it out",
            form.as_str()
        )));
    }
    let limit = match (lines, query.limit) {
        (true, None) => None,
        (_, given) => Some(params::limit(given)? as usize),
    };
    stated(&app, &auditor, "artifacts", asked.stated).await?;
    let begin = Arc::clone(&wanted);
    let ahead = limit.map_or(64, |n| n + 1);
    let walk = app.store.readers().run(move |c| begin.walk(c, ahead)).await?.map_err(Problem::not_found)?;
    if lines {
        let maker = Liner { walk, form: query.form.unwrap_or_default(), left: limit.unwrap_or(usize::MAX) };
        return stream::answer(&streams, app.store.readers(), maker).await;
    }
    let page = app.store.readers().run(move |c| page(c, walk, limit.unwrap_or_default())).await?;
    Ok(Json(page).into_response())
}

/// Whether JSON lines are asked for.
pub(super) fn wants_lines(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|h| h.to_str().ok()).flat_map(|h| h.split(','));
    accepts.map(|a| a.split(';').next().unwrap_or_default().trim()).any(|a| a.eq_ignore_ascii_case(NDJSON))
}

/// A query whose every word has been checked, before the store is asked.
#[derive(Debug)]
struct Wanted {
    person: Option<Person>,
    account: Option<Account>,
    host: Option<Host>,
    client: Option<String>,
    stack: Option<Stack>,
    kind: Option<TypePattern>,
    /// The types that are evidence of the requirement.
    evidence: Option<Vec<TypePattern>>,
    ledger: Option<LedgerId>,
    window: Window,
    pending: bool,
    cursor: Option<Cursor>,
}

impl Wanted {
    fn of(app: &App, query: &Query) -> Result<Self, Problem> {
        let kind = match query.kind.as_deref() {
            None => None,
            Some(text) => Some(TypePattern::parse(text).ok_or_else(|| {
                Problem::malformed("type is no artifact type: words of a-z 0-9 _ parted by dots, and .* at the end for all that begin so")
            })?),
        };
        let evidence = match query.requirement.as_deref() {
            None => None,
            Some(id) => {
                let requirement = app.catalog.find(id).map_err(|e| Problem::not_found(e.to_string()))?;
                Some(app.catalog.rows_for(requirement).iter().flat_map(|r: &&Row| r.types.clone()).collect())
            }
        };
        Ok(Self {
            person: params::name(query.person.as_deref())?,
            account: params::name(query.account.as_deref())?,
            host: params::name(query.host.as_deref())?,
            client: query.client.clone(),
            stack: params::name(query.stack.as_deref())?,
            kind,
            evidence,
            ledger: params::name(query.ledger.as_deref())?,
            window: params::window(query.from.as_deref(), query.to.as_deref())?,
            pending: query.pending.unwrap_or(false),
            cursor: query
                .cursor
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(|e: super::cursor::NotACursor| Problem::malformed(e.to_string()))?,
        })
    }

    /// Decides which ranges of which index to walk, and what else each row has to be. The inner error says, in a
    /// sentence, what is not known here.
    fn walk(&self, tx: &mut dyn Tx, ahead: usize) -> Result<Result<Walk, String>, Error> {
        let types = types(tx, self)?;
        let ledgers = match self.ledgers(tx)? {
            Ok(ledgers) => ledgers,
            Err(unknown) => return Ok(Err(unknown)),
        };
        let keep = Keep {
            stack: match &self.stack {
                None => None,
                // No artifact has it: none is wanted.
                Some(stack) => Some(tx.word(stack.as_str())?.unwrap_or(i64::MIN)),
            },
            person: self.person.as_ref().map(|p| p.as_str().to_owned()),
            account: self.account.as_ref().map(|a| a.as_str().to_owned()),
            from: self.window.from.map(micros),
            to: self.window.to.map(micros),
            pending: self.pending,
            evidence: self.evidence.is_some(),
            server: self.ledger.is_some() || self.kind.is_some(),
            types: types.clone(),
            ledgers: ledgers.clone(),
        };
        let few = ledgers.filter(|l| l.len() <= MAX_LEDGERS);
        let ranges = match (&self.person, &self.account, few, types) {
            (_, _, Some(ledgers), _) if self.ledger.is_some() => ledgers.into_iter().map(By::Seq).collect(),
            (Some(person), ..) => vec![By::Person(person.as_str().to_owned())],
            (_, Some(account), ..) => vec![By::Account(account.as_str().to_owned())],
            (_, _, Some(ledgers), _) => ledgers.into_iter().map(By::Ledger).collect(),
            (_, _, None, Some(types)) => types.into_iter().map(By::Type).collect(),
            (_, _, None, None) => tx.types()?.into_iter().map(|(row, _)| By::Type(row)).collect(),
        };
        Walk::new(tx, ranges, keep, self.cursor, ahead).map(Ok)
    }

    /// The chains that are asked for by name.
    fn ledgers(&self, tx: &mut dyn Tx) -> Result<Result<Option<Vec<i64>>, String>, Error> {
        let mut all: Option<BTreeSet<i64>> = None;
        let asked = [
            (self.ledger.as_ref().map(Named::Id), "ledger"),
            (self.host.as_ref().map(|host| Named::Host(host.as_str())), "host"),
            (self.client.as_deref().map(Named::Client), "client"),
        ];
        for (named, what) in asked {
            let Some(named) = named else { continue };
            let found: BTreeSet<i64> = tx.ledgers_named(named)?.into_iter().map(|(row, _)| row).collect();
            if found.is_empty() {
                return Ok(Err(format!(
                    "no {what} of this name is known; GET /v1/hosts lists hosts and their ledgers"
                )));
            }
            all = Some(all.map_or(found.clone(), |all| &all & &found));
        }
        Ok(Ok(all.map(|all| all.into_iter().collect())))
    }
}

/// A walk through what a page selects; none where a name in it is not known.
pub(super) fn shown_of(
    tx: &mut dyn Tx,
    selection: &Selection,
    cursor: Option<Cursor>,
    ahead: usize,
) -> Result<Option<Walk>, Error> {
    let Selection { stack, window, person, host, ledger, kinds } = selection.clone();
    let wanted = Wanted {
        person,
        account: None,
        host,
        client: None,
        stack,
        kind: None,
        evidence: kinds,
        ledger,
        window,
        pending: false,
        cursor,
    };
    Ok(wanted.walk(tx, ahead)?.ok())
}

/// The types that are asked for, as far as anything of them is stored; none when all are.
fn types(tx: &mut dyn Tx, wanted: &Wanted) -> Result<Option<Vec<i64>>, Error> {
    if wanted.kind.is_none() && wanted.evidence.is_none() {
        return Ok(None);
    }
    let is_wanted = |word: &str| {
        wanted.kind.as_ref().is_none_or(|k| k.matches(word))
            && wanted.evidence.as_ref().is_none_or(|all| all.iter().any(|t| t.matches(word)))
    };
    let all = tx.types()?;
    Ok(Some(all.into_iter().filter(|(_, word)| is_wanted(word)).map(|(row, _)| row).collect()))
}

/// How an artifact is shown.
fn shown<'a>(found: &Found<'a>) -> Result<Artifact<'a>, Error> {
    let raw = |bytes: &'a [u8]| {
        serde_json::from_slice::<&RawValue>(bytes)
            .map_err(|_| Error::Unsound("an artifact that is not JSON".to_owned()))
    };
    Ok(Artifact {
        specversion: "1.0",
        id: found.client_id.map_or_else(|| format!("{}/{}", found.ledger, found.seq), str::to_owned),
        source: match found.source {
            SourceKind::Host => format!("/stacks/{}/hosts/{}", found.stack, found.name),
            SourceKind::Client => format!("/clients/{}", found.name),
            SourceKind::Person => format!("/people/{}", found.name),
            SourceKind::Server => "/server".to_owned(),
        },
        kind: found.kind,
        time: Moment(moment(found.time)?),
        datacontenttype: "application/json",
        received: Moment(moment(found.received)?),
        ledger: found.ledger,
        seq: found.seq,
        clockoff: found.is_clock_off(),
        pending: found.pending,
        entry: found.entry.map(raw).transpose()?,
        data: raw(found.bytes)?,
    })
}

fn page(tx: &mut dyn Tx, mut walk: Walk, limit: usize) -> Result<Page, Error> {
    let mut artifacts = Vec::with_capacity(limit);
    let mut failed = None;
    for _ in 0..STEPS_PER_PAGE {
        let step = walk.step(tx, |found| {
            match shown(found).map(|a| serde_json::value::to_raw_value(&a)) {
                Ok(Ok(raw)) => artifacts.push(raw),
                Ok(Err(e)) => failed = Some(Error::Unsound(format!("an artifact that cannot be shown: {e}"))),
                Err(e) => failed = Some(e),
            }
            artifacts.len() < limit && failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if step == Step::End {
            return Ok(Page { artifacts, next: None });
        }
        if artifacts.len() >= limit {
            break;
        }
    }
    Ok(Page { artifacts, next: Some(walk.cursor().to_string()) })
}

/// Makes JSON lines of a walk.
struct Liner {
    walk: Walk,
    form: Form,
    left: usize,
}

impl Maker for Liner {
    fn chunk(&mut self, tx: &mut dyn Tx) -> Result<Chunk, store::Error> {
        let mut lines = Vec::with_capacity(CHUNK + CHUNK / 4);
        let mut failed = None;
        let (form, left) = (self.form, &mut self.left);
        let step = self.walk.step(tx, |found| {
            let written = write(&mut lines, found, form);
            lines.push(b'\n');
            *left -= 1;
            failed = written.err();
            failed.is_none() && *left > 0 && lines.len() < CHUNK
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Chunk { lines, end: step == Step::End || self.left == 0 }),
        }
    }
}

/// Writes one artifact, in one line without its end.
fn write(lines: &mut Vec<u8>, found: &Found<'_>, form: Form) -> Result<(), Error> {
    if form == Form::Record {
        lines.extend_from_slice(found.bytes);
        return Ok(());
    }
    let artifact = shown(found)?;
    let written = match form {
        Form::Ecs => serde_json::to_writer(lines, &ecs::document(&Stated::of(found, &artifact)?)),
        Form::Ocsf => serde_json::to_writer(lines, &ocsf::event(&Stated::of(found, &artifact)?)),
        Form::Event | Form::Record => serde_json::to_writer(lines, &artifact),
    };
    written.map_err(|e| Error::Unsound(format!("an artifact that cannot be shown: {e}")))
}

#[cfg(test)]
mod tests;
