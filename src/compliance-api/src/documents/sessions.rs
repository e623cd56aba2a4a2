//! `POST /v1/sessions`: people whom the roster names read for an hour, for a challenge that they sign with their own key.
//!
//! The server keeps nothing of a challenge: it signs what it gave, and takes each answer once.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use document::{
    Body, Envelope, Judge, MAX_ENVELOPE, Nonce, Origin, Roster, SESSION_LIFE, Session, StackPattern, Subject, Wait,
};
use jiff::Timestamp;
use record::{Fingerprint, Person, Stack};
use serde::Serialize;
use serde_json::Map;
use sha2::{Digest as _, Sha256};
use ssh_key::{
    Algorithm, HashAlg, Signature, SshSig,
    rand_core::{OsRng, RngCore},
};
use utoipa::ToSchema;

use super::{
    Documents,
    deciding::waits,
    judging::{Judges, every},
};
use crate::{
    App,
    moment::Moment,
    own_ledger::{self, By, Word},
    problem::Problem,
    store::{Error, Room, ServerKey, Tx, reading::Reading},
    verdict::Why,
};

/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(3600);
/// Sessions of one person at a time, and of all.
const MOST: (u64, u64) = (64, 10_000);
/// Random bytes of a challenge.
const RANDOM: usize = 16;
/// Bytes of a challenge before its signature: a moment in seconds, and the random ones.
const UNSIGNED: usize = 8 + RANDOM;
/// What the server's signature of a challenge is for, and nothing else.
const NAMESPACE: &str = "compliance-api-challenge";
/// How a session's token begins.
const TOKEN: &str = "ca_session_";
/// Characters after that: 32 bytes in base64url.
const TOKEN_CHARS: usize = 43;

/// What to sign.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Challenge {
    /// The `nonce` of the session.
    nonce: String,
    /// Its `origin`: this server, as its clients reach it.
    origin: String,
    /// For how many seconds.
    #[schema(minimum = 1)]
    expires_in: u64,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionGiven)]
pub(super) struct Given {
    /// To be sent as `Authorization: Bearer`; shown once.
    token: String,
    /// Who reads.
    person: String,
    /// Until when.
    expires_at: Moment,
}

/// A challenge for a session, to be answered within 60 s.
#[utoipa::path(post, path = "/v1/sessions/challenge", tag = "documents",
    responses((status = 200, description = "What to sign", body = Challenge)))]
pub(super) async fn challenge(State(app): State<Arc<App>>) -> Result<Json<Challenge>, Problem> {
    let documents = app.documents()?;
    let nonce = make_nonce(app.store.key(), Timestamp::now())?;
    Ok(Json(Challenge { nonce, origin: documents.origin.as_str().to_owned(), expires_in: SESSION_LIFE.as_secs() }))
}

/// Begins a session.
///
/// The body is the envelope of a `session` document that somebody signed whom the roster names: an approver reads about the stacks
/// that they approve for, and whoever logs in about those where they have accounts. A session lasts an hour and changes nothing.
#[utoipa::path(post, path = "/v1/sessions", tag = "documents",
    request_body(content((Object = "application/json"))),
    responses((status = 200, description = "The session", body = Given)))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Given>, Problem> {
    let documents = Arc::clone(app.documents()?);
    let body = body.map_err(|error| Problem::malformed(error.to_string()))?;
    if body.len() > MAX_ENVELOPE {
        return Err(Problem::too_large(MAX_ENVELOPE));
    }
    let envelope = Envelope::parse(&body).map_err(|why| Problem::malformed(format!("this is no document: {why}")))?;
    let key = app.store.key().clone();
    let judged = app.store.checkers().run(move |tx| judge(tx, &documents, &key, &envelope));
    let (session, reading) = judged.await??;
    let token = make_token();
    let (hash, keeping) = (hash_of(&token), reading.clone());
    let kept = app.store.write_in(Room::Readers, move |tx| keep(tx, hash, &session.nonce, &keeping)).await?;
    kept?;
    Ok(Json(Given { token, person: reading.person.as_str().to_owned(), expires_at: Moment(reading.expires) }))
}

fn refuse(why: impl ToString) -> Problem {
    Problem::new(Why::Refused, why.to_string()).word("session")
}

/// Who answers a challenge.
fn judge(
    tx: &mut dyn Tx,
    documents: &Documents,
    key: &ServerKey,
    envelope: &Envelope,
) -> Result<Result<(Session, Reading), Problem>, Error> {
    let Body::Session(session) = envelope.document().body() else {
        return Ok(Err(refuse("a session takes the envelope of a `session` document")));
    };
    if !is_ours(key, &session.nonce, tx.now()) {
        let why =
            "its nonce is not one that this server gave within 60 s: ask for a new challenge, and look at both clocks";
        return Ok(Err(refuse(why)));
    }
    let Some(base) = documents.judges.read(tx, &every())? else { return Ok(Err(waits(&Wait::NoRoster))) };
    let now = super::now(tx);
    let person = match base.judge.judge_session(envelope, &documents.origin, &session.nonce, now) {
        Ok(person) => person,
        Err(why) => return Ok(Err(refuse(why))),
    };
    let Some(fingerprint) = key_of(&base.judge, envelope, &person) else {
        return Ok(Err(refuse(document::judge::NoSession::Unknown)));
    };
    let expires = tx.now().saturating_add(LASTS).unwrap_or(Timestamp::MAX);
    Ok(Ok((session.clone(), Reading { person, fingerprint, expires })))
}

/// Every key that somebody has by a roster, to log in or to approve.
fn keys_of<'a>(roster: &'a Roster, person: &'a Person) -> impl Iterator<Item = &'a Fingerprint> {
    let same = |name: &Person| document::roster::same_person(name, person);
    let own = roster.people.iter().filter(move |member| same(&member.name)).flat_map(|member| &member.keys);
    let approvers = roster.approvers.iter().filter(move |approver| same(&approver.person));
    own.chain(approvers.flat_map(|approver| &approver.keys)).map(document::Key::fingerprint)
}

/// With which key of theirs they signed.
fn key_of(judge: &Judge, envelope: &Envelope, person: &Person) -> Option<Fingerprint> {
    let roster = judge.roster()?;
    let document = envelope.document();
    let read = envelope.signatures().iter().filter_map(|armored| document::signature::read(armored).ok());
    let mut valid = read.filter_map(|read| read.verify(document.namespace(), document.line()).ok());
    valid.find(|valid| keys_of(roster, person).any(|key| *key == valid.fingerprint)).map(|valid| valid.fingerprint)
}

fn keep(tx: &mut dyn Tx, hash: [u8; 32], nonce: &Nonce, reading: &Reading) -> Result<Result<(), Problem>, Error> {
    if !tx.has_room_to_read(&reading.person, MOST)? {
        let detail =
            format!("{} has {} sessions, or all have {} together: wait until some end", reading.person, MOST.0, MOST.1);
        return Ok(Err(Problem::new(Why::Busy, detail)));
    }
    if !tx.keep_reading(hash, nonce.as_str(), reading)? {
        return Ok(Err(refuse("its nonce was answered before: ask for a new challenge")));
    }
    let mut detail = Map::new();
    detail.insert("person".to_owned(), reading.person.as_str().into());
    detail.insert("fingerprint".to_owned(), reading.fingerprint.as_str().into());
    detail.insert("expires_at".to_owned(), Moment(reading.expires).to_string().into());
    own_ledger::state(tx, Word::ReaderAdmitted, &By::Server, "somebody whom the roster names may read", detail)?;
    Ok(Ok(()))
}

/// A challenge: the moment, random bytes, and the server's signature over both.
fn make_nonce(key: &ServerKey, now: Timestamp) -> Result<String, Error> {
    let mut bytes = [0; UNSIGNED];
    bytes[..8].copy_from_slice(&now.as_second().to_be_bytes());
    OsRng.fill_bytes(&mut bytes[8..]);
    let failed = |why: ssh_key::Error| Error::Unsound(format!("a challenge that cannot be signed: {why}"));
    let signature = key.key.sign(NAMESPACE, HashAlg::Sha512, &bytes).map_err(failed)?;
    Ok(Base64UrlUnpadded::encode_string(&[&bytes[..], signature.signature_bytes()].concat()))
}

/// Whether this server gave it, within [`SESSION_LIFE`].
fn is_ours(key: &ServerKey, nonce: &Nonce, now: Timestamp) -> bool {
    let Ok(bytes) = Base64UrlUnpadded::decode_vec(nonce.as_str()) else { return false };
    let Some((given, signature)) = bytes.split_at_checked(UNSIGNED) else { return false };
    let Some(second) = given.first_chunk().map(|bytes| i64::from_be_bytes(*bytes)) else { return false };
    let age = now.as_second().saturating_sub(second);
    let life = i64::try_from(SESSION_LIFE.as_secs()).unwrap_or(i64::MAX);
    let public = key.key.public_key();
    let signed = Signature::new(Algorithm::Ed25519, signature)
        .and_then(|signature| SshSig::new(public.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature))
        .is_ok_and(|signed| public.verify(NAMESPACE, given, &signed).is_ok());
    (0..=life).contains(&age) && signed
}

fn make_token() -> String {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    format!("{TOKEN}{}", Base64UrlUnpadded::encode_string(&bytes))
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether a bearer's text is a session's.
pub(crate) fn is_session(text: &str) -> bool {
    text.strip_prefix(TOKEN).is_some_and(|rest| rest.len() == TOKEN_CHARS)
}

/// Somebody in a session.
#[derive(Debug, Clone)]
pub struct InSession {
    /// Who.
    pub person: Person,
    /// About which stacks they read.
    stacks: Vec<StackPattern>,
    /// But not about these, where they are held.
    held: Vec<Stack>,
}

impl InSession {
    /// Who has the session of this token.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn find(app: &App, token: &str) -> Result<Option<Self>, Problem> {
        let documents = Arc::clone(app.documents()?);
        let hash = hash_of(token);
        let found = app.store.readers().run(move |tx| match tx.reading(hash)? {
            Some(reading) => in_session(tx, &documents.judges, reading).map(Some),
            None => Ok(None),
        });
        Ok(found.await?)
    }

    /// Whether they read about this stack.
    #[must_use]
    pub fn may(&self, stack: &Stack) -> bool {
        self.stacks.iter().any(|pattern| pattern.fits(stack)) && !self.held.contains(stack)
    }
}

/// By the roster in force and the holds that stand now, whatever they were when it began.
fn in_session(tx: &mut dyn Tx, judges: &Judges, reading: Reading) -> Result<InSession, Error> {
    let Reading { person, fingerprint, .. } = reading;
    let base = judges.read(tx, &every())?;
    let roster = base.as_ref().and_then(|base| base.judge.roster());
    let mut stacks = Vec::new();
    if let Some(roster) = roster.filter(|roster| keys_of(roster, &person).any(|key| *key == fingerprint)) {
        let same = |name: &Person| document::roster::same_person(name, &person);
        let members = roster.people.iter().filter(|member| same(&member.name));
        stacks.extend(members.flat_map(|member| member.accounts.keys().cloned()));
        let approvers = roster.approvers.iter().filter(|approver| same(&approver.person));
        stacks.extend(approvers.flat_map(|approver| approver.stacks.iter().cloned()));
    }
    let alone = [fingerprint].into();
    let mut held = Vec::new();
    for (pattern, _) in tx.feed_counts()? {
        let Ok(stack) = pattern.as_str().parse::<Stack>() else { continue };
        let Some(standing) = judges.read(tx, &pattern)? else { continue };
        let everybody = standing.judge.state().holds().any(|(_, closed)| closed.means_everybody());
        let subject = Subject { person: &person, fingerprints: &alone };
        if !everybody && standing.judge.holds_back(subject).is_some() {
            held.push(stack);
        }
    }
    Ok(InSession { person, stacks, held })
}

/// The server as its clients reach it, unless the configuration says.
pub(super) fn origin_of(listen: std::net::SocketAddr) -> Option<Origin> {
    format!("https://{listen}").parse().ok()
}
