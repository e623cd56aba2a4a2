//! `GET /v1/case`: what there is about a person or a host in a window, as a file that is verified without this server.
//!
//! It is made while it is sent: of a ledger a part is held at a time, whatever the ledger's length.

mod chain;
mod chosen;
mod found;

use std::{collections::VecDeque, sync::Arc};

use ::case::{Asked as About, Index, Manifest, Member, Requirement, Writer, index};
use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use jiff::Timestamp;
use record::{Host, Person, Stack};
use serde::Deserialize;
use utoipa::IntoParams;

use self::{
    chain::Walking,
    chosen::{Chosen, choose, keys},
    found::Findings,
};
use super::{
    Asked,
    facts::Scope,
    params, requirements, stated,
    stream::{self, CHUNK, Chunk, Maker, Streams},
};
use crate::{
    App,
    auth::Auditor,
    checkpoints::{Leaves, numbered},
    evidence::Window,
    problem::Problem,
    store::{Error, Tx, micros},
};

/// Cases that are made at a time: each holds a part of a ledger, or a document, in memory.
const CASES: usize = 4;
/// The media type of tar.
const TAR: &str = "application/x-tar";
/// Documents that are named by records and not kept here, and are told of one by one.
const TOLD: usize = 20;

/// About whom or what. One of `person` and `host` has to be given.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// The person: every ledger that says something about them in the window.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$", example = "frank")]
    person: Option<String>,
    /// The host: every ledger of it.
    #[param(pattern = "^[A-Za-z0-9.-]{1,64}$")]
    host: Option<String>,
    /// Only records of this stack.
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    stack: Option<String>,
    /// Not before this moment, by the records' own time: RFC 3339, or a day for its beginning in UTC.
    #[param(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$",
        example = "2026-11-01"
    )]
    from: Option<String>,
    /// Before this moment.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2}))?$")]
    to: Option<String>,
}

/// How many more cases there may be.
#[derive(Debug, Clone)]
pub(super) struct Cases(Streams);

impl Default for Cases {
    fn default() -> Self {
        Self(Streams::of(CASES))
    }
}

/// What is asked for, with every word checked.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    person: Option<Person>,
    host: Option<Host>,
    /// Records of this stack alone.
    stack: Option<Stack>,
    window: Window,
    /// Records outside of this are not shown, though they stand between others that are.
    shown: Window,
}

/// A case file: ledgers' runs, receipts, a checkpoint, signed documents, judged requirements, and a signed manifest.
///
/// A tar archive; `lockdown verify` and the script in it verify it. An answer that breaks off is no archive.
#[utoipa::path(
    get,
    path = "/v1/case",
    tag = "reading",
    params(Query),
    responses((status = 200, description = "A tar archive", body = Vec<u8>, content_type = "application/x-tar")),
    security(("bearer" = []))
)]
pub(super) async fn case(
    State(app): State<Arc<App>>,
    auditor: Auditor,
    Extension(Cases(streams)): Extension<Cases>,
    asked: Asked<Query>,
) -> Result<Response, Problem> {
    let query = &asked.query;
    let token = &auditor.0.token;
    let wanted = Wanted {
        person: params::name(query.person.as_deref())?,
        host: params::name(query.host.as_deref())?,
        stack: auditor.stack(params::name(query.stack.as_deref())?)?,
        window: auditor.window(params::window(query.from.as_deref(), query.to.as_deref())?)?,
        shown: Window { from: token.from, to: token.to },
    };
    if wanted.person.is_none() && wanted.host.is_none() {
        return Err(Problem::malformed("give person=NAME or host=HOST; GET /v1/hosts lists hosts"));
    }
    stated(&app, &auditor, "case", asked.stated).await?;
    let made = Timestamp::now();
    let begun = Arc::clone(&app);
    let maker = app.store.readers().run(move |tx| Case::begin(begun, tx, wanted, made)).await?;
    let mut response = stream::answer_as(&streams, app.store.readers(), maker, TAR).await?;
    let attached = HeaderValue::from_static("attachment; filename=\"case.tar\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attached);
    Ok(response)
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Chains,
    Documents,
    End,
    Done,
}

/// A case file that is being made.
struct Case {
    app: Arc<App>,
    wanted: Wanted,
    /// Nothing that was stored later is in it.
    newest: i64,
    writer: Writer,
    manifest: Manifest,
    /// Pages of each ledger.
    pages: Vec<u32>,
    found: Findings,
    documents: Vec<(document::Id, String, String)>,
    unkept: usize,
    chains: VecDeque<Chosen>,
    walking: Option<Walking>,
    leaves: Option<Leaves>,
    stage: Stage,
}

impl Case {
    fn begin(app: Arc<App>, tx: &mut dyn Tx, wanted: Wanted, made: Timestamp) -> Result<Self, Error> {
        let newest = tx.newest_artifact()?;
        let name = |text: &Option<String>| text.clone();
        let about = About {
            person: name(&wanted.person.as_ref().map(|one| one.as_str().to_owned())),
            host: name(&wanted.host.as_ref().map(|one| one.as_str().to_owned())),
            stack: name(&wanted.stack.as_ref().map(|one| one.as_str().to_owned())),
            from: wanted.window.from,
            to: wanted.window.to,
        };
        let mut manifest = Manifest::new(made, app.config.name.as_str(), about);
        let mut writer = Writer::new(made);
        writer.add(&Member::Script, ::case::VERIFY_SCRIPT.as_bytes());
        writer.add(&Member::ServerSigners, server_signers(tx)?.as_bytes());
        let chains = choose(tx, &wanted, newest, &app.config.limits, made, &mut manifest.missing)?;
        writer.add(&Member::Signers, signers(tx, &chains)?.as_bytes());
        let leaves = match checkpoint(tx, wanted.window.to)? {
            Some(kept) => Some(Leaves::of(tx, &kept)?),
            None => None,
        };
        manifest.checkpoint = leaves.as_ref().map(|leaves| leaves.signed().checkpoint().number);
        Ok(Self {
            app,
            newest,
            writer,
            manifest,
            pages: Vec::new(),
            found: Findings::of(wanted.person.as_ref()),
            wanted,
            documents: Vec::new(),
            unkept: 0,
            chains: chains.into(),
            walking: None,
            leaves,
            stage: Stage::Chains,
        })
    }

    fn step(&mut self, tx: &mut dyn Tx) -> Result<(), Error> {
        match self.stage {
            Stage::Chains => self.chains(tx),
            Stage::Documents => self.documents(tx),
            Stage::End => self.end(tx),
            Stage::Done => Ok(()),
        }
    }

    fn chains(&mut self, tx: &mut dyn Tx) -> Result<(), Error> {
        if let Some(walking) = &mut self.walking {
            if walking.step(tx, &self.wanted, self.newest, &mut self.writer, &mut self.found)? {
                return Ok(());
            }
            let Some(walking) = self.walking.take() else { return Ok(()) };
            let (entry, pages, missing) = walking.end();
            self.manifest.missing.extend(missing);
            self.manifest.ledgers.push(entry);
            self.pages.push(pages);
            return Ok(());
        }
        match self.chains.pop_front() {
            Some(chosen) => {
                let window = &self.wanted.window;
                let window = (window.from.map_or(i64::MIN, micros), window.to.map_or(i64::MAX, micros));
                let Some(extent) = tx.extent(chosen.row, window, self.newest)? else { return Ok(()) };
                let proof = self.leaves.as_ref().and_then(|leaves| leaves.proof(&chosen.id));
                self.walking = Some(Walking::begin(tx, chosen, extent, proof, &mut self.writer)?);
            }
            None => self.stage = Stage::Documents,
        }
        Ok(())
    }

    fn documents(&mut self, tx: &mut dyn Tx) -> Result<(), Error> {
        let Some(id) = self.found.documents.pop_first() else {
            if self.unkept > TOLD {
                let more = self.unkept - TOLD;
                self.manifest
                    .missing
                    .push(format!("{more} more documents that records name are not kept by this server."));
            }
            self.stage = Stage::End;
            return Ok(());
        };
        match tx.document(id)? {
            Some(document) => {
                self.writer.add(&Member::Document(id), document.envelope.as_bytes());
                self.documents.push((id, document.kind.as_str().to_owned(), found::signers(&document.facts)));
            }
            None => {
                self.unkept += 1;
                if self.unkept <= TOLD {
                    let missing = format!("A record names the document {id}, which is not kept by this server.");
                    self.manifest.missing.push(missing);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, tx: &mut dyn Tx) -> Result<(), Error> {
        let scope = Scope {
            types: None,
            stack: self.wanted.stack.clone().map(Into::into),
            window: self.wanted.window,
            pending: false,
            clock_ahead: self.app.config.limits.clock_ahead,
        };
        let judged = requirements::all(&self.app, tx, &scope, self.manifest.made)?;
        let text = serde_json::to_vec(&judged).map_err(|error| Error::Unsound(format!("requirements: {error}")))?;
        self.writer.add(&Member::Requirements, &text);
        if let Some(leaves) = &self.leaves {
            self.writer.add(&Member::Checkpoint, leaves.signed().as_str().as_bytes());
        } else {
            self.manifest.missing.push("There is no checkpoint from before the window's end.".to_owned());
        }
        let listed = judged.requirements.iter().map(|one| Requirement {
            reference: one.reference.clone(),
            name: one.name.clone(),
            status: serde_json::to_value(one.status)
                .ok()
                .and_then(|s| s.as_str().map(str::to_owned))
                .unwrap_or_default(),
            says: one.says.clone(),
        });
        self.manifest.missing.push(
            "The server's own ledger, and ledgers that say nothing of what was asked, are not in this case.".to_owned(),
        );
        let page = index(&Index {
            manifest: &self.manifest,
            pages: &self.pages,
            grants: &self.found.grants,
            more_grants: self.found.more_grants,
            requirements: &listed.collect::<Vec<_>>(),
            documents: &self.documents,
        });
        self.writer.add(&Member::Index, page.as_bytes());
        self.writer.finish(self.manifest.clone(), &tx.server().key.key)?;
        self.stage = Stage::Done;
        Ok(())
    }
}

impl Maker for Case {
    fn chunk(&mut self, tx: &mut dyn Tx) -> Result<Chunk, Error> {
        while self.stage != Stage::Done && self.writer.waiting() < CHUNK {
            self.step(tx)?;
        }
        Ok(Chunk { lines: self.writer.take(), end: self.stage == Stage::Done })
    }
}

/// The keys that this server signs and signed with, as ssh-keygen(1) reads them.
fn server_signers(tx: &mut dyn Tx) -> Result<String, Error> {
    let namespaces = format!("{},{},{}", ::case::NAMESPACE, record::RECEIPT_NAMESPACE, record::NAMESPACE);
    let line = |(key, _): (String, Timestamp)| format!("server namespaces=\"{namespaces}\" {key}\n");
    Ok(tx.server_keys()?.into_iter().rev().map(line).collect())
}

/// The keys of these hosts' ledgers, likewise.
fn signers(tx: &mut dyn Tx, chains: &[Chosen]) -> Result<String, Error> {
    let mut lines = String::new();
    for chosen in chains.iter().filter(|chosen| chosen.is_host()) {
        for key in keys(tx, chosen)? {
            let line = format!("{} namespaces=\"{}\" {}\n", chosen.name, record::NAMESPACE, key.public_key);
            lines.push_str(&line);
        }
    }
    Ok(lines)
}

/// The last checkpoint from before this moment: ledgers stood there within the window.
fn checkpoint(tx: &mut dyn Tx, to: Option<Timestamp>) -> Result<Option<crate::store::checkpoints::Kept>, Error> {
    let newest = tx.newest_checkpoint()?;
    let (Some(to), Some(last)) = (to, &newest) else { return Ok(newest) };
    // Numbers have no gaps, and the server's clock goes on with them.
    let (mut low, mut high) = (0, last.number);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match numbered(tx, middle)?.filter(|kept| kept.made < to) {
            Some(_) => low = middle,
            None => high = middle - 1,
        }
    }
    numbered(tx, low)
}
