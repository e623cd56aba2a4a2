//! What every command has: the configuration, the server, and somebody's keys. Whatever the server says is verified in `known`.

use std::{cell::OnceCell, time::Duration};

use document::{
    Checked, Document, Envelope, IsSession, Key, Kind, MAX_ROSTER_ENVELOPE, Moment, Namespace, Sealed, Session, V1,
};
use jiff::Timestamp;
use record::Stack;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    answers::{Challenge, Feed, RosterAnswer, Session as Given, Status},
    cache::{Cache, Token, is_token},
    config::Config,
    failure::Failure,
    keys::{Purpose, Ring},
    known::Known,
    make,
    output::Voice,
    server::{Server, UNAUTHORIZED, WHOLE},
    show,
    sign::{self, SigningKey},
};

/// The stack by which a roster is judged where none is named: rosters are judged alike in all.
const NO_STACK: &str = "-";
/// The most stacks whose feeds are read for one command.
const MAX_STACKS: usize = 64;

/// What every command has.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: Config,
    pub(crate) voice: Voice,
    pub(crate) now: Timestamp,
    pub(crate) cache: Cache,
    key: Option<String>,
    server: OnceCell<Server>,
    ring: OnceCell<Ring>,
}

impl Client {
    /// Nothing is asked or sent yet.
    pub(crate) fn new(config: Config, cache: Cache, key: Option<String>, voice: Voice, now: Timestamp) -> Self {
        Self { config, voice, now, cache, key, server: OnceCell::new(), ring: OnceCell::new() }
    }

    /// Now, in whole seconds.
    pub(crate) fn moment(&self) -> Moment {
        Moment::of(self.now)
    }

    /// Whom the configuration trusts.
    pub(crate) fn trust(&self) -> &Checked {
        &self.config.trust
    }

    /// The server.
    pub(crate) fn server(&self) -> Result<&Server, Failure> {
        if self.server.get().is_none() {
            let _ = self.server.set(Server::new(&self.config)?);
        }
        self.server.get().ok_or_else(|| Failure::unavailable("there is no server"))
    }

    fn ring(&self) -> Result<&Ring, Failure> {
        if self.ring.get().is_none() {
            let agent = sign::agent_keys();
            let named = |text: &Option<String>| text.as_deref().map(|text| sign::named(text, &agent)).transpose();
            let ring = Ring { named: named(&self.key)?, configured: named(&self.config.key)?, agent: agent.clone() };
            let _ = self.ring.set(ring);
        }
        self.ring.get().ok_or_else(|| Failure::refused("no_key", "there is no key"))
    }

    /// All keys that are here.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, Failure> {
        let ring = self.ring()?;
        let files = ring.named.iter().chain(&ring.configured).map(|one| one.key.clone());
        let all: std::collections::BTreeSet<Key> = files.chain(ring.agent.iter().cloned()).collect();
        Ok(all.into_iter().collect())
    }

    /// The key to sign with.
    pub(crate) fn key(&self, purpose: Purpose<'_>, known: &Known) -> Result<SigningKey, Failure> {
        self.ring()?.choose(purpose, known.any_roster(), self.trust())
    }

    /// Shows a document.
    pub(crate) fn show(&self, document: &Document, known: &Known) {
        let rows = show::rows(document, Some(known), self.moment().timestamp());
        self.voice.say(&show::render(&rows, self.voice.aside));
    }

    /// The same for one that others made, or that was found by a part of its id: somebody has to say yes to it.
    pub(crate) fn sign_if_confirmed(
        &self,
        document: &Document,
        key: &SigningKey,
        known: &Known,
        is_meant: bool,
        otherwise: &str,
    ) -> Result<String, Failure> {
        self.show(document, known);
        if !is_meant {
            self.voice.confirm(otherwise)?;
        }
        sign::sign(key, document.namespace(), document, self.voice)
    }

    /// Shows a document, and then has it signed.
    pub(crate) fn sign(
        &self,
        document: &Document,
        namespace: Namespace,
        key: &SigningKey,
        known: &Known,
    ) -> Result<String, Failure> {
        self.show(document, known);
        sign::sign(key, namespace, document, self.voice)
    }

    /// What is known without asking anybody: rosters that were seen before.
    pub(crate) fn remembered(&self, stack: Option<&Stack>) -> Result<Known, Failure> {
        let stack = match stack {
            Some(stack) => stack.clone(),
            None => NO_STACK.parse().map_err(|error: record::NameError| Failure::usage(error.to_string()))?,
        };
        let mut known = Known::begin(self.trust().clone(), stack, self.moment());
        known.remember(&self.cache.rosters(), self.moment());
        Ok(known)
    }

    /// What is known of a stack once the server was asked: the roster, and what closes.
    pub(crate) fn known(&self, stack: &Stack) -> Result<Known, Failure> {
        let feed: Feed = self.get(&format!("/v1/feed?stack={stack}"), WHOLE)?;
        let envelopes = feed.documents.iter().map(|entry| self.open(&entry.envelope)).collect::<Vec<_>>();
        let mut known = self.remembered(Some(stack))?;
        self.learn(&mut known, &envelopes.into_iter().flatten().collect::<Vec<_>>())?;
        Ok(known)
    }

    /// The roster in force, once the server was asked.
    pub(crate) fn known_roster(&self) -> Result<Known, Failure> {
        let answer: RosterAnswer = self.get("/v1/roster", WHOLE)?;
        let envelope = self.open(&answer.envelope);
        let mut known = self.remembered(None)?;
        self.learn(&mut known, &envelope.into_iter().collect::<Vec<_>>())?;
        Ok(known)
    }

    /// How every host stands. What they are called is kept.
    pub(crate) fn status(&self, within: Duration) -> Result<Status, Failure> {
        let status: Status = self.get("/v1/status", within)?;
        self.cache.keep_hosts(status.known(), Timestamp::now());
        Ok(status)
    }

    /// What is known of every stack that the server names: what closes, wherever it does.
    pub(crate) fn stacks_known(&self) -> Result<Known, Failure> {
        self.closings(&self.status(WHOLE)?)
    }

    /// What is known of these stacks: what closes.
    pub(crate) fn closings(&self, status: &Status) -> Result<Known, Failure> {
        let mut known = self.remembered(None)?;
        for one in status.stacks.iter().take(MAX_STACKS) {
            let feed: Feed = self.get(&format!("/v1/feed?stack={}", one.stack), WHOLE)?;
            let envelopes: Vec<Envelope> =
                feed.documents.iter().filter_map(|entry| self.open(&entry.envelope)).collect();
            self.learn(&mut known, &envelopes)?;
        }
        Ok(known)
    }

    /// Whether `--key` is no fingerprint: with `lockdown` that could be meant as the key to close.
    pub(crate) fn is_no_fingerprint(&self) -> Result<(), Failure> {
        match self.key.as_ref().filter(|key| key.starts_with("SHA256:")) {
            Some(key) => {
                Err(Failure::usage(format!("--key {key}: is that the key to close, or the key to sign with?"))
                    .but("to close one key: --fingerprint; to sign with a key of the agent: --key and its .pub file"))
            }
            None => Ok(()),
        }
    }

    /// Takes what a server or a file says, and keeps a roster that is newer than what was seen.
    pub(crate) fn learn(&self, known: &mut Known, envelopes: &[Envelope]) -> Result<(), Failure> {
        let before = known.version();
        known.learn(envelopes, self.moment())?;
        if known.version() != before {
            let kept = known.rosters();
            self.cache.keep_rosters(kept.signed.as_ref(), kept.automatic.as_ref());
        }
        Ok(())
    }

    /// An envelope from the server, where it is one. A roster that nobody has signed is not even read.
    fn open(&self, raw: &RawValue) -> Option<Envelope> {
        let sealed = Sealed::parse(raw.get().as_bytes()).ok()?;
        if sealed.kind() == Kind::Roster && !sealed.is_signed_by_any(&self.trust().roster_signers()) {
            return None;
        }
        sealed.open().ok()
    }

    /// Asks the server for something, as somebody whom the roster names.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<T, Failure> {
        let token = self.token()?;
        match self.server()?.get(path, &token.token, within) {
            Err(failure) if failure.code == UNAUTHORIZED => {
                self.cache.drop_token();
                let token = self.token()?;
                self.server()?.get(path, &token.token, within)
            }
            result => result,
        }
    }

    /// A token: the one that is kept while it is good, else another one for a signed challenge.
    fn token(&self) -> Result<Token, Failure> {
        if let Some(token) = self.cache.token(Timestamp::now()) {
            return Ok(token);
        }
        let server = self.server()?;
        let challenge: Challenge = server.post("/v1/sessions/challenge", "{}")?;
        if challenge.origin != *server.origin() {
            return Err(Failure::refused(
                "origin",
                format!(
                    "the server at {} calls itself {}, and nothing is signed for that",
                    server.origin(),
                    challenge.origin
                ),
            )
            .but("stack.origin of compliance-api has to be what server is in this configuration"));
        }
        let document = make::made(Session {
            issued_at: Moment::of(Timestamp::now()),
            nonce: challenge.nonce,
            organization: self.trust().organization.clone(),
            origin: server.origin().clone(),
            kind: IsSession,
            v: V1,
        })?;
        let known = self.remembered(None)?;
        let key = self.key(Purpose::Read, &known)?;
        let signature = self.sign(&document, document.namespace(), &key, &known)?;
        let envelope = Envelope::new(document, vec![signature]).map_err(|error| make::malformed(&error))?;
        let given: Given = server.post("/v1/sessions", &envelope.to_json())?;
        if !is_token(&given.token) {
            return Err(Failure::unavailable("the server gives a token that is none"));
        }
        let token = Token { token: given.token, expires_at: given.expires_at };
        self.cache.keep_token(&token);
        Ok(token)
    }
}

/// An envelope in a file: what `--out` wrote.
pub(crate) fn envelope_in(path: &std::path::Path) -> Result<Envelope, Failure> {
    let bytes = crate::files::read_named(path, MAX_ROSTER_ENVELOPE)?;
    Envelope::parse(&bytes).map_err(|error| {
        Failure::refused("malformed", format!("{}: {error}", path.display())).but("name a file that --out wrote")
    })
}
