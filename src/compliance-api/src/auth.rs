//! Who asks: the bearer token of a request, looked up by its hash, and what its role lets it do.
//!
//! It never says whether a token exists: unknown, ended and revoked ones are answered alike.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use jiff::Timestamp;
use record::Stack;

use crate::{
    App,
    documents::sessions::{self, InSession},
    evidence::Window,
    incidents::{Incident, Kind},
    network::Network,
    own_ledger::By,
    problem::Problem,
    read,
    store::{self, Room, Tx, tokens::TokenRow},
    token::{Role, Token},
    verdict::Why,
};

/// What is said of every token that opens nothing.
const ENDED: &str = "this token is unknown, has ended or was revoked; ask an admin for a new one";

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl FromRequestParts<Arc<App>> for Peer {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Self>().copied();
        peer.ok_or_else(|| Problem::malformed("the request came over no connection"))
    }
}

/// The bearer of a token in force, of any role.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its token, as kept.
    pub token: TokenRow,
}

impl Caller {
    /// How the server's own ledger names it.
    #[must_use]
    pub fn by(&self) -> By {
        By::Token { id: self.token.id.clone(), role: self.token.role, name: self.token.name.clone() }
    }

    /// Looks up a request's token; none is `Ok(None)`.
    ///
    /// # Errors
    /// 401 for a token that is not in force; 503 when that cannot be found out.
    pub async fn find(app: &App, parts: &Parts) -> Result<Option<Self>, Problem> {
        let Some(header) = parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let text = header.to_str().ok().and_then(|h| h.split_once(' '));
        let token: Token = text
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| token.trim().parse().ok())
            .ok_or_else(|| {
                Problem::bad_token("the Authorization header holds no token; send `Bearer ca_ROLE_…` as it was made")
            })?;
        let (hash, claimed) = (token.hash(), token.role());
        let found = app.store.readers().run(move |tx| tx.token(hash)).await?;
        match found.filter(|t| t.role == claimed && t.is_good_at(Timestamp::now())) {
            Some(token) => Ok(Some(Self { token })),
            None => Err(Problem::bad_token(ENDED)),
        }
    }

    /// Writes in this token's name, if it is in force still when that comes to be done.
    ///
    /// # Errors
    /// As [`Caller::find`]; what `job` returns.
    pub async fn write<T: Send + 'static>(
        &self,
        app: &App,
        room: Room,
        job: impl Fn(&mut dyn Tx) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let id = self.token.id.clone();
        let done = app.store.write_in(room, move |tx| tx.admit_token(&id)?.then(|| job(tx)).transpose());
        done.await?.ok_or_else(|| Problem::bad_token(ENDED))
    }

    async fn one_of(parts: &Parts, app: &App, roles: &[Role]) -> Result<Self, Problem> {
        let words = roles.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(" or ");
        let caller = Self::find(app, parts).await.inspect_err(|_| note(app, parts))?;
        let caller = caller.ok_or_else(|| {
            Problem::bad_token(format!("this takes an Authorization header with a token of role {words}"))
        })?;
        if roles.contains(&caller.token.role) {
            return Ok(caller);
        }
        let detail = format!("this takes a token of role {words}; the one sent is of role {}", caller.token.role);
        Err(Problem::new(Why::Role, detail))
    }
}

/// A token that opens nothing is an incident of whoever sent it, as at ingest.
fn note(app: &App, parts: &Parts) {
    if let Some(peer) = parts.extensions.get() {
        note_from(app, *peer);
    }
}

/// The same of whoever this is.
pub(crate) fn note_from(app: &App, Peer(peer): Peer) {
    app.gathered.note(Incident::new(Kind::BadToken, &Network::of(peer.ip()).to_string()).from(peer.ip()));
}

/// Somebody who may read evidence: an auditor or an admin.
#[derive(Debug, Clone)]
pub struct Auditor(pub Caller);

/// Somebody who may read what is going on in stacks.
#[derive(Debug, Clone)]
pub enum Reader {
    /// An auditor or an admin: all of it, or what their token is for.
    Auditor(Auditor),
    /// Somebody whom the roster names, in a session: about their stacks.
    Session(InSession),
}

impl Auditor {
    /// The stack that an answer is about: what was asked for, or what the token is for alone.
    ///
    /// # Errors
    /// 403 for another one than the token's.
    pub fn stack(&self, asked: Option<Stack>) -> Result<Option<Stack>, Problem> {
        match (&self.0.token.stack, asked) {
            (Some(own), Some(asked)) if *own != asked => {
                Err(Self::beyond(&format!("reads about the stack {own} alone")))
            }
            (own, asked) => Ok(asked.or_else(|| own.clone())),
        }
    }

    /// The window that an answer is about: what was asked for, or what the token is for alone.
    ///
    /// # Errors
    /// 403 for one that is not within the token's.
    pub fn window(&self, asked: Window) -> Result<Window, Problem> {
        let (from, to) = (self.0.token.from, self.0.token.to);
        let beyond = from.zip(asked.from).is_some_and(|(own, asked)| asked < own)
            || from.zip(asked.to).is_some_and(|(own, asked)| asked <= own)
            || to.zip(asked.to).is_some_and(|(own, asked)| asked > own)
            || to.zip(asked.from).is_some_and(|(own, asked)| asked >= own);
        if beyond {
            let word = |name: &str, at: Option<Timestamp>| at.map(|at| format!(" {name} {at}")).unwrap_or_default();
            return Err(Self::beyond(&format!("reads evidence{}{} alone", word("from", from), word("to", to))));
        }
        Ok(Window { from: asked.from.or(from), to: asked.to.or(to) })
    }

    /// Whether it may read what is of no stack and no time.
    ///
    /// # Errors
    /// 403 for a token that is for one stack or window alone.
    pub fn everything(&self) -> Result<(), Problem> {
        let token = &self.0.token;
        if token.stack.is_some() || token.from.is_some() || token.to.is_some() {
            return Err(Self::beyond("is for one stack or window alone, and this is about all of them"));
        }
        Ok(())
    }

    fn now(&self) -> Result<(), Problem> {
        if self.0.token.from.is_some() || self.0.token.to.is_some() {
            return Err(Self::beyond("reads evidence of its window alone, and this is about what is going on now"));
        }
        Ok(())
    }

    fn beyond(why: &str) -> Problem {
        Problem::new(Why::Role, format!("the token that was sent {why}; ask an admin for another one"))
    }
}

impl Reader {
    /// Whether they may read about this stack.
    ///
    /// # Errors
    /// 403.
    pub fn may(&self, stack: &Stack) -> Result<(), Problem> {
        match self {
            Self::Auditor(auditor) => auditor.stack(Some(stack.clone())).map(|_| ()),
            Self::Session(session) if session.may(stack) => Ok(()),
            Self::Session(session) => {
                let detail = format!(
                    "{} reads about stacks on which they approve or have accounts, and {stack} is none, or they are held there",
                    session.person
                );
                Err(Problem::new(Why::Role, detail))
            }
        }
    }

    /// Whether they may read about this stack.
    #[must_use]
    pub fn reads(&self, stack: &str) -> bool {
        match self {
            Self::Auditor(auditor) => auditor.0.token.stack.as_ref().is_none_or(|own| own.as_str() == stack),
            Self::Session(session) => stack.parse().is_ok_and(|stack| session.may(&stack)),
        }
    }

    /// Whether they may read about one of these stacks, or there is none.
    #[must_use]
    pub fn may_any(&self, stacks: &[String]) -> bool {
        stacks.is_empty() || stacks.iter().any(|stack| self.reads(stack))
    }

    /// States who reads what, durably, before it is read.
    ///
    /// # Errors
    /// A token that is not in force any more; the store's.
    pub async fn states(&self, app: &App, what: &'static str, asked: &[(&str, &str)]) -> Result<(), Problem> {
        match self {
            Self::Auditor(auditor) => {
                let query = asked.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                read::stated(app, auditor, what, query).await
            }
            // That they may read was stated when the session began.
            Self::Session(_) => Ok(()),
        }
    }
}

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let text = parts.headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
        let token = text.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim());
        let Some(token) = token.filter(|token| sessions::is_session(token)) else {
            let auditor = Auditor::from_request_parts(parts, app).await?;
            auditor.now()?;
            return Ok(Self::Auditor(auditor));
        };
        match InSession::find(app, token).await? {
            Some(session) => Ok(Self::Session(session)),
            None => {
                note(app, parts);
                Err(Problem::bad_token("this session is over, or there was none: begin another one"))
            }
        }
    }
}

/// 401 for a host's token that none of the live hosts names.
pub fn unknown_feed_token() -> Problem {
    let detail = "no live, approved host names this token in its newest daemon.started: send its records first";
    Problem::bad_token(detail)
}

/// An admin.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl FromRequestParts<Arc<App>> for Auditor {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        Caller::one_of(parts, app, &[Role::Auditor, Role::Admin]).await.map(Self)
    }
}

/// Somebody who may read what the server counts about itself.
#[derive(Debug, Clone, Copy)]
pub struct Monitor;

impl FromRequestParts<Arc<App>> for Monitor {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        Caller::one_of(parts, app, &[Role::Monitor, Role::Admin]).await.map(|_| Self)
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        Caller::one_of(parts, app, &[Role::Admin]).await.map(Self)
    }
}
