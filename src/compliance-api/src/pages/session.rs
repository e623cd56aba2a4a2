//! Who reads pages: signs in with an auditor's token, and is then known by a cookie.
//!
//! The cookie holds which token it stands for, until when, and the server's signature over both: no secret of the token's,
//! and nothing that the store has to keep. The token itself is looked up at each page, so that revoking it ends the session.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Form,
    extract::{FromRequestParts, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::{SignedDuration, Timestamp};
use maud::html;
use serde::Deserialize;
use serde_json::Map;
use sha2::{Digest as _, Sha256};
use ssh_key::{
    Algorithm, HashAlg, Signature, SshSig,
    rand_core::{OsRng, RngCore},
};

use super::{frame, words::path_of};
use crate::{
    App,
    auth::{self, Auditor, Caller},
    moment::Moment,
    own_ledger::{self, Word},
    problem::Problem,
    store::{Error, Room, ServerKey},
    token::{Role, Token, TokenHash},
    verdict::Why,
};

/// The cookie. Browsers take one of this name only over TLS, for this host and all of its paths.
pub(super) const COOKIE: &str = "__Host-lockdown";
/// How long somebody stays signed in.
const LASTS: SignedDuration = SignedDuration::from_hours(8);
/// Sessions that were signed out of and are remembered until they would have ended.
const MOST_ENDED: usize = 10_000;
/// Bytes of a cookie before the signature: its end in seconds, random ones, and the hash of the token.
const UNSIGNED: usize = 8 + RANDOM + 32;
/// Random bytes of a cookie.
const RANDOM: usize = 16;
/// What the server's signature of a cookie is for, and nothing else.
const NAMESPACE: &str = "compliance-api-pages";

/// Sessions that were signed out of on this server, by the random bytes of their cookies, each with its end.
#[derive(Debug, Default)]
pub struct Ended(Mutex<BTreeMap<[u8; RANDOM], i64>>);

impl Ended {
    fn add(&self, session: &Cookie, now: Timestamp) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MOST_ENDED {
            ended.retain(|_, end| *end > now.as_second());
        }
        if ended.len() < MOST_ENDED {
            ended.insert(session.random, session.expires);
        }
    }

    fn has(&self, session: &Cookie) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&session.random)
    }
}

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cookie {
    expires: i64,
    random: [u8; RANDOM],
    token: [u8; 32],
}

impl Cookie {
    fn new(token: TokenHash, now: Timestamp) -> Self {
        let mut random = [0; RANDOM];
        OsRng.fill_bytes(&mut random);
        Self { expires: now.as_second() + LASTS.as_secs(), random, token: token.0 }
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.expires.to_be_bytes()[..], &self.random, &self.token].concat()
    }

    fn seal(&self, key: &ServerKey) -> Result<String, Error> {
        let failed = |why: ssh_key::Error| Error::Unsound(format!("a cookie that cannot be signed: {why}"));
        let bytes = self.bytes();
        let signature = key.key.sign(NAMESPACE, HashAlg::Sha512, &bytes).map_err(failed)?;
        Ok(Base64UrlUnpadded::encode_string(&[&bytes[..], signature.signature_bytes()].concat()))
    }

    /// What this server signed, and has not ended.
    fn open(text: &str, key: &ServerKey, now: Timestamp) -> Option<Self> {
        let bytes = Base64UrlUnpadded::decode_vec(text).ok()?;
        let (said, signature) = bytes.split_at_checked(UNSIGNED)?;
        let public = key.key.public_key();
        let signature = Signature::new(Algorithm::Ed25519, signature).ok()?;
        let signed = SshSig::new(public.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature).ok()?;
        public.verify(NAMESPACE, said, &signed).ok()?;
        let cookie = Self {
            expires: i64::from_be_bytes(*said.first_chunk()?),
            random: *said.get(8..)?.first_chunk()?,
            token: *said.last_chunk()?,
        };
        (now.as_second() < cookie.expires).then_some(cookie)
    }

    /// What its forms carry: nobody who does not have the cookie can tell it.
    fn form_key(&self) -> String {
        let digest = Sha256::new().chain_update("form\0").chain_update(self.bytes()).finalize();
        Base64UrlUnpadded::encode_string(&digest[..])
    }
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) auditor: Auditor,
    /// What every form of theirs has to carry.
    pub(super) form_key: String,
    cookie: Cookie,
}

impl Visitor {
    /// Whether a form is one that this server gave them.
    ///
    /// # Errors
    /// 403.
    pub(super) fn gave(&self, form_key: &str) -> Result<(), Problem> {
        // Of random text, and compared by digests: how long it takes says nothing.
        if Sha256::digest(&self.form_key) == Sha256::digest(form_key) {
            return Ok(());
        }
        Err(Problem::new(Why::Role, "this form is of another session: go back, load the page again, and send it anew"))
    }

    async fn find(app: &App, headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(text) = cookie_of(headers) else { return Ok(None) };
        let found = Cookie::open(text, app.store.key(), Timestamp::now());
        let Some(cookie) = found.filter(|cookie| !app.signed_out.has(cookie)) else { return Ok(None) };
        let token = app.store.readers().run(move |tx| tx.token(TokenHash(cookie.token))).await?;
        let good = token.filter(|token| token.is_good_at(Timestamp::now()) && reads(token.role));
        Ok(good.map(|token| Self { auditor: Auditor(Caller { token }), form_key: cookie.form_key(), cookie }))
    }
}

fn reads(role: Role) -> bool {
    matches!(role, Role::Auditor | Role::Admin)
}

fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|l| l.split(';'));
    all.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        if let Some(visitor) = Self::find(app, &parts.headers).await.map_err(IntoResponse::into_response)? {
            return Ok(visitor);
        }
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // Browsers leave the cookie out where another site's link leads here. From here it leads on with it.
        let site = parts.headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        if cookie_of(&parts.headers).is_none() && matches!(site, Some("cross-site" | "same-site")) {
            return Err(frame::forward(here).into_response());
        }
        Err(see_other(&format!("/sign-in?to={}", path_of(here))))
    }
}

/// Leads a browser to another page, by GET.
pub(super) fn see_other(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response(),
        Err(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static("/"))]).into_response(),
    }
}

/// Refuses what another site has a browser send.
pub(super) async fn own_forms_alone(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_own(request.headers()) {
        return next.run(request).await;
    }
    Problem::new(Why::Role, "a page of another site sent this: open this server's own page, and send it from there")
        .into_response()
}

fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, host)| Some(host) == text("host")),
        (None, None) => true,
    }
}

/// Where to go on after signing in.
#[derive(Debug, Deserialize)]
pub(super) struct To {
    #[serde(default)]
    to: String,
}

impl To {
    /// A path of this server's; anything else is its first page.
    fn path(&self) -> &str {
        let own = self.to.starts_with('/') && !self.to[1..].starts_with(['/', '\\']);
        let plain = self.to.bytes().all(|b| b.is_ascii_graphic());
        if own && plain && self.to.len() <= 4096 { &self.to } else { "/" }
    }
}

/// The page on which somebody signs in.
pub(super) async fn ask(Query(to): Query<To>) -> Response {
    form(StatusCode::OK, to.path(), None)
}

fn form(status: StatusCode, to: &str, wrong: Option<&str>) -> Response {
    let body = html! {
        section.narrow {
            h1 { "Sign in" }
            p { "These pages show who could log in to which host, who did, on whose word and until when. What you read is stated in the server's own ledger, under your token's name." }
            @if let Some(wrong) = wrong {
                p.notice role="alert" id="wrong" { span.mark.bad aria-hidden="true" { "✕" } " " (wrong) }
            }
            form method="post" action="/sign-in" {
                input type="hidden" name="to" value=(to);
                label for="token" { "Token" }
                input #token type="password" name="token" required autofocus autocomplete="off" spellcheck="false"
                    aria-describedby=(if wrong.is_some() { "wrong hint" } else { "hint" });
                p.hint #hint { "It begins with " code { "ca_auditor_" } ". Whoever runs this server makes one with " code { "compliance-api token create --role auditor" } "." }
                button type="submit" { "Sign in" }
            }
        }
    };
    (status, frame::page("Sign in", None, "", &body)).into_response()
}

/// What is typed there.
#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
    #[serde(flatten)]
    to: To,
}

/// Signs somebody in.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    peer: Option<axum::Extension<auth::Peer>>,
    Form(given): Form<SignIn>,
) -> Result<Response, Problem> {
    let wrong = |why| Ok(form(StatusCode::UNAUTHORIZED, given.to.path(), Some(why)));
    let Ok(token) = given.token.trim().parse::<Token>() else {
        return wrong(
            "This is no token. Copy the whole of it: it begins with ca_ and is more than 50 characters long.",
        );
    };
    let (hash, now) = (token.hash(), Timestamp::now());
    let found = app.store.readers().run(move |tx| tx.token(hash)).await?;
    let Some(row) = found.filter(|row| row.role == token.role() && row.is_good_at(now)) else {
        if let Some(axum::Extension(peer)) = peer {
            auth::note_from(&app, peer);
        }
        return wrong("This token is unknown, has ended or was revoked. Ask an admin for a new one.");
    };
    if !reads(row.role) {
        return wrong("This token does not read evidence. Ask an admin for one of the role auditor.");
    }
    let caller = Caller { token: row };
    let cookie = Cookie::new(hash, now);
    let by = caller.by();
    let until = Moment(now.saturating_add(LASTS).unwrap_or(Timestamp::MAX)).to_string();
    let stated = caller.write(&app, Room::Readers, move |tx| {
        let mut detail = Map::new();
        detail.insert("expires_at".to_owned(), until.clone().into());
        own_ledger::state(tx, Word::ReaderAdmitted, &by, "a token's bearer signed in to read pages", detail)
    });
    stated.await?;
    let sealed = cookie.seal(app.store.key())?;
    let seconds = LASTS.as_secs();
    Ok(set_cookie(see_other(given.to.path()), &sealed, seconds))
}

fn set_cookie(mut response: Response, value: &str, seconds: i64) -> Response {
    let line = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(line) = HeaderValue::from_str(&line) {
        response.headers_mut().insert(header::SET_COOKIE, line);
    }
    response
}

/// A form that only says who it is from.
#[derive(Deserialize)]
pub(super) struct Keyed {
    #[serde(default)]
    form_key: String,
}

/// Ends a session.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Form(given): Form<Keyed>,
) -> Result<Response, Problem> {
    visitor.gave(&given.form_key)?;
    app.signed_out.add(&visitor.cookie, Timestamp::now());
    Ok(set_cookie(see_other("/sign-in"), "", 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_to_a_path_of_this_server_alone() {
        for (given, wanted) in [
            ("/people/frank?from=2026-11-01", "/people/frank?from=2026-11-01"),
            ("//evil.example.com", "/"),
            ("/\\evil.example.com", "/"),
            ("https://evil.example.com", "/"),
            ("javascript:alert(1)", "/"),
            ("/a\r\nSet-Cookie: b", "/"),
            ("", "/"),
        ] {
            assert_eq!(To { to: given.to_owned() }.path(), wanted, "{given}");
        }
    }
}
