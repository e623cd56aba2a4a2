//! What an admin does over HTTP: tokens and enrolments. Each change is in the server's own ledger, in the transaction
//! that makes it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequest, Path, Request, State},
    http::{StatusCode, header},
    routing::{delete, get, post},
};
use jiff::Timestamp;
use record::{LedgerId, Stack};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use ssh_key::rand_core::{OsRng, RngCore};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Admin,
    incidents::Kind,
    ingest::answer::Enrolled,
    own_ledger::{self, By, Word},
    problem::Problem,
    store::{Error, Room, Tx, hosts::Enrolment, tokens::TokenRow},
    token::{MAX_TYPE, Role, Token, is_type},
    verdict::Why,
};

/// Bytes of a token's name.
const MAX_NAME: usize = 64;
/// Types that a client's token may list.
const MAX_TYPES: usize = 64;
/// Enrolments that are listed.
const MAX_ENROLMENTS: usize = 10_000;

/// The endpoints.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/tokens", post(create_token).get(list_tokens))
        .route("/v1/tokens/{id}", delete(revoke_token))
        .route("/v1/enrolments", get(list_enrolments))
        .route("/v1/enrolments/{ledger}/approve", post(approve))
}

/// What is described in /openapi.json of this module.
#[derive(utoipa::OpenApi)]
#[openapi(paths(create_token, list_tokens, revoke_token, list_enrolments, approve))]
pub struct Described;

/// A token that is wanted.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
pub struct Wanted {
    /// What it lets its bearer do.
    pub role: Role,
    /// A client's name (`/clients/NAME`), which it needs; else what it is for.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9._@-]{1,64}$", example = "portal")]
    pub name: Option<String>,
    /// Role enrol, which needs it: of this stack's hosts. Role auditor: reads about this stack alone.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub stack: Option<Stack>,
    /// Role auditor: reads evidence from this moment on alone, by its own time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Role auditor: reads evidence from before this moment alone.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// Role client: the only types that it may post.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 64)]
    pub types: Option<Vec<String>>,
    /// Role enrol: how many hosts it binds; any number without it.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub uses: Option<u64>,
    /// When it ends: a moment, or `never`. Without it after `limits.token_life`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "2027-01-31T12:00:00Z")]
    pub expires: Option<Ends>,
}

/// When a token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Ends {
    /// When it is revoked alone.
    Never,
    /// At this moment.
    At(Timestamp),
}

impl TryFrom<String> for Ends {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        text.parse().map(Self::At).map_err(|_| "expires is a moment as 2027-01-31T12:00:00Z, or \"never\"".to_owned())
    }
}

impl Wanted {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// A sentence that says what would.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        let enrols = self.role == Role::Enrol;
        let reads = self.role == Role::Auditor;
        if enrols && self.stack.is_none() || self.stack.is_some() && !enrols && !reads {
            return Err(
                "a token of role enrol takes a stack, one of role auditor may have one, and no other does".to_owned()
            );
        }
        if (self.from.is_some() || self.to.is_some()) && !reads {
            return Err("from and to are for tokens of role auditor".to_owned());
        }
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            return Err("from has to be before to".to_owned());
        }
        if self.uses.is_some() && !enrols || self.uses == Some(0) || self.uses.is_some_and(|n| n > i64::MAX as u64) {
            return Err("uses is for tokens of role enrol, from 1 up".to_owned());
        }
        let client = self.role == Role::Client;
        if self.types.is_some() && !client || self.types.as_ref().is_some_and(|t| t.is_empty() || t.len() > MAX_TYPES) {
            return Err(format!("types is for tokens of role client: 1 to {MAX_TYPES} of them"));
        }
        if let Some(bad) = self.types.iter().flatten().find(|kind| !is_type(kind)) {
            return Err(format!(
                "{:?} is no type: two or more words [a-z0-9_]+ with dots between them, at most {MAX_TYPE} bytes",
                bad.chars().take(MAX_TYPE).collect::<String>()
            ));
        }
        let plain = |name: &str| {
            (1..=MAX_NAME).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        };
        if client && self.name.is_none() || self.name.as_deref().is_some_and(|name| !plain(name)) {
            return Err(format!(
                "name has to be 1 to {MAX_NAME} of A-Z a-z 0-9 . _ - @; a token of role client takes one"
            ));
        }
        if self.expires.is_some_and(|ends| matches!(ends, Ends::At(end) if end <= now)) {
            return Err("expires has passed already".to_owned());
        }
        Ok(())
    }
}

/// Makes a token, which has been checked. Its text is nowhere but in what this returns.
///
/// # Errors
/// SQLite's.
pub fn make_token(tx: &mut dyn Tx, by: &By, wanted: Wanted) -> Result<(TokenRow, Token), Error> {
    let token = Token::random(wanted.role);
    let mut id = [0; 8];
    OsRng.fill_bytes(&mut id);
    let by_itself = || tx.now().saturating_add(tx.server().limits.token_life).unwrap_or(Timestamp::MAX);
    let row = TokenRow {
        id: id.iter().map(|b| format!("{b:02x}")).collect(),
        role: wanted.role,
        name: wanted.name.unwrap_or_else(|| wanted.role.to_string()),
        stack: wanted.stack,
        from: wanted.from,
        to: wanted.to,
        types: wanted.types,
        uses: wanted.uses,
        created: tx.now(),
        expires: match wanted.expires {
            None => Some(by_itself()),
            Some(Ends::Never) => None,
            Some(Ends::At(end)) => Some(end),
        },
        revoked: None,
        used: None,
    };
    tx.insert_token(&row, token.hash())?;
    let mut detail = Map::new();
    detail.insert("token".to_owned(), row.id.clone().into());
    detail.insert("role".to_owned(), row.role.as_str().into());
    detail.insert("name".to_owned(), row.name.clone().into());
    for (name, value) in [
        ("stack", row.stack.as_ref().map(|s| Value::from(s.as_str()))),
        ("types", row.types.clone().map(Value::from)),
        ("uses", row.uses.map(Value::from)),
        ("from", row.from.map(|t| t.to_string().into())),
        ("to", row.to.map(|t| t.to_string().into())),
        ("expires", row.expires.map(|t| t.to_string().into())),
    ] {
        if let Some(value) = value {
            detail.insert(name.to_owned(), value);
        }
    }
    own_ledger::state(tx, Word::TokenCreated, by, "a token was made", detail)?;
    Ok((row, token))
}

/// Ends a token. Whether it was in force.
///
/// # Errors
/// SQLite's.
pub fn end_token(tx: &mut dyn Tx, by: &By, id: &str) -> Result<bool, Error> {
    let revoked = tx.revoke_token(id)?;
    if revoked {
        let mut detail = Map::new();
        detail.insert("token".to_owned(), id.into());
        own_ledger::state(tx, Word::TokenRevoked, by, "a token was revoked", detail)?;
    }
    Ok(revoked)
}

/// A request's body as JSON, refused as a [`Problem`].
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let said = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !said.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let detail = "send `Content-Type: application/json`";
            return Err(Problem::new(Why::MediaType, detail));
        }
        let body = crate::ingest::read_body(request.into_body(), app.config.limits.body).await?;
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|e| Problem::malformed(format!("the body is not as it has to be: {e}")))
    }
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// As kept.
    #[serde(flatten)]
    kept: TokenRow,
    /// Its text, shown this once.
    token: String,
}

/// Every token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Newest first.
    tokens: Vec<TokenRow>,
}

/// Hosts' ledgers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Enrolments {
    /// Those that wait first, then the newest.
    enrolments: Vec<Enrolment>,
}

/// A ledger that was approved.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Approved {
    /// Its id.
    ledger: String,
    /// `enrolled`, from now on.
    enrolment: Enrolled,
}

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "admin", request_body = Wanted,
    responses((status = 201, description = "It is made", body = MadeToken)), security(("bearer" = [])))]
async fn create_token(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Body(wanted): Body<Wanted>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    wanted.check(Timestamp::now()).map_err(Problem::malformed)?;
    let by = caller.by();
    let (row, token) = caller.write(&app, Room::Server, move |tx| make_token(tx, &by, wanted.clone())).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { kept: row, token: token.reveal().to_owned() })))
}

/// Every token there ever was, without its text.
#[utoipa::path(get, path = "/v1/tokens", tag = "admin",
    responses((status = 200, description = "Tokens", body = Tokens)), security(("bearer" = [])))]
async fn list_tokens(State(app): State<Arc<App>>, _: Admin) -> Result<Json<Tokens>, Problem> {
    let all = app.store.readers().run(|tx| tx.tokens()).await?;
    Ok(Json(Tokens { tokens: all }))
}

/// Revokes a token: at once, and for good.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "admin",
    params(("id" = String, Path, description = "Its id, as listed", max_length = 64)),
    responses((status = 204, description = "It is revoked")), security(("bearer" = [])))]
async fn revoke_token(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let by = caller.by();
    if caller.write(&app, Room::Server, move |tx| end_token(tx, &by, &id)).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("no token in force has this id; GET /v1/tokens lists them"))
}

/// Hosts' ledgers, those that wait for an admin first.
#[utoipa::path(get, path = "/v1/enrolments", tag = "admin",
    responses((status = 200, description = "Ledgers", body = Enrolments)), security(("bearer" = [])))]
async fn list_enrolments(State(app): State<Arc<App>>, _: Admin) -> Result<Json<Enrolments>, Problem> {
    let all = app.store.readers().run(|tx| tx.enrolments(MAX_ENROLMENTS)).await?;
    Ok(Json(Enrolments { enrolments: all }))
}

/// Approves a ledger that waits: what it states is evidence from now on, what it has stated included.
#[utoipa::path(post, path = "/v1/enrolments/{ledger}/approve", tag = "admin",
    params(("ledger" = String, Path, description = "Its id", max_length = 64)),
    responses((status = 200, description = "It is approved", body = Approved)), security(("bearer" = [])))]
async fn approve(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(ledger): Path<String>,
) -> Result<Json<Approved>, Problem> {
    let none = || Problem::not_found("no ledger with this id waits for approval; GET /v1/enrolments lists them");
    let id: LedgerId = ledger.parse().map_err(|_| none())?;
    let by = caller.by();
    let approved = caller.write(&app, Room::Server, move |tx| {
        let approved = tx.approve(&id)?;
        if approved {
            tx.end_incident(Kind::SecondLedger, id.as_str())?;
            let mut detail = Map::new();
            detail.insert("ledger".to_owned(), id.as_str().into());
            own_ledger::state(tx, Word::LedgerApproved, &by, "a ledger was approved", detail)?;
        }
        Ok(approved)
    });
    if approved.await? { Ok(Json(Approved { ledger, enrolment: Enrolled::Enrolled })) } else { Err(none()) }
}
