//! Tokens in the store: by their hash alone.

use jiff::Timestamp;
use record::Stack;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Error,
    engine::{Connection, Fault, OptionalExtension, Row, params},
    micros, moment,
    transaction::Transaction,
};
use crate::{
    moment::Moment,
    token::{Role, TokenHash},
};

/// A token as kept: everything but its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenRow {
    /// Names it in lists, records and `token revoke`; no secret.
    pub id: String,
    /// What it lets its bearer do.
    pub role: Role,
    /// A client's name; else what it is for.
    pub name: String,
    /// For enrolment: of this stack's hosts. For an auditor: reads about this stack alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stack: Option<Stack>,
    /// For an auditor: reads evidence from this moment on alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub from: Option<Timestamp>,
    /// For an auditor: reads evidence from before this moment alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub to: Option<Timestamp>,
    /// For a client: the only types that it may post.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// For enrolment: how many are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
    /// When it was made.
    #[schema(value_type = Moment)]
    pub created: Timestamp,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub revoked: Option<Timestamp>,
    /// When it last stored, changed or read evidence, to the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Moment>)]
    pub used: Option<Timestamp>,
}

impl TokenRow {
    /// Whether it opens anything at this moment. Uses are counted where one is used.
    #[must_use]
    pub fn is_good_at(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }
}

const COLUMNS: &str = "id, role, name, stack, types, uses, created, expires, revoked, used, reads_from, reads_to";

fn row(row: &Row<'_>) -> Result<Result<TokenRow, Error>, Fault> {
    let unsound = |what: &str| Error::Unsound(format!("a token with {what} that cannot be read"));
    let (role, stack, types): (String, Option<String>, Option<String>) = (row.get(1)?, row.get(3)?, row.get(4)?);
    let (id, name, uses): (String, String, Option<u64>) = (row.get(0)?, row.get(2)?, row.get(5)?);
    let (created, expires): (i64, Option<i64>) = (row.get(6)?, row.get(7)?);
    let (revoked, used): (Option<i64>, Option<i64>) = (row.get(8)?, row.get(9)?);
    let (from, to): (Option<i64>, Option<i64>) = (row.get(10)?, row.get(11)?);
    Ok((|| {
        Ok(TokenRow {
            id,
            role: role.parse().map_err(|_| unsound("a role"))?,
            name,
            stack: stack.map(|s| s.parse()).transpose().map_err(|_| unsound("a stack"))?,
            from: from.map(moment).transpose()?,
            to: to.map(moment).transpose()?,
            types: types.map(|t| serde_json::from_str(&t)).transpose().map_err(|_| unsound("types"))?,
            uses,
            created: moment(created)?,
            expires: expires.map(moment).transpose()?,
            revoked: revoked.map(moment).transpose()?,
            used: used.map(moment).transpose()?,
        })
    })())
}

/// The token with this hash, whatever its state.
///
/// # Errors
/// The database's.
pub(super) fn find(connection: &Connection, hash: TokenHash) -> Result<Option<TokenRow>, Error> {
    let looking = "looking up a token";
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))
        .and_then(|mut s| s.query_row(params![hash.0], row).optional())
        .map_err(Error::database(looking))?
        .transpose()
}

/// Every token there ever was, newest first.
///
/// # Errors
/// The database's.
pub(super) fn list(connection: &Connection) -> Result<Vec<TokenRow>, Error> {
    let listing = "listing tokens";
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created DESC, id"))
        .map_err(Error::database(listing))?;
    let rows = statement.query_map(params![], row).map_err(Error::database(listing))?;
    rows.map(|r| r.map_err(Error::database(listing))?).collect()
}

/// Keeps a new token.
///
/// # Errors
/// The database's.
pub(super) fn insert(writing: &Transaction<'_>, token: &TokenRow, hash: TokenHash) -> Result<(), Error> {
    let types = token.types.as_ref().map(|t| serde_json::Value::from(t.clone()).to_string());
    writing
        .connection
        .execute(
            "INSERT INTO tokens (id, hash, role, name, stack, types, uses, created, expires, reads_from, reads_to)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                token.id,
                hash.0,
                token.role.as_str(),
                token.name,
                token.stack.as_ref().map(Stack::as_str),
                types,
                token.uses,
                micros(token.created),
                token.expires.map(micros),
                token.from.map(micros),
                token.to.map(micros),
            ],
        )
        .map_err(Error::database("keeping a token"))?;
    Ok(())
}

/// Ends a token. Whether it was there and in force.
///
/// # Errors
/// The database's.
pub(super) fn revoke(writing: &Transaction<'_>, id: &str) -> Result<bool, Error> {
    let changed = writing
        .connection
        .execute("UPDATE tokens SET revoked = ?1 WHERE id = ?2 AND revoked IS NULL", params![micros(writing.now), id])
        .map_err(Error::database("revoking a token"))?;
    Ok(changed == 1)
}

/// To what a use is kept, so that hardly any writes one: an hour, in microseconds.
const USED_STEP: i64 = 3_600_000_000;

/// Whether the token with this id is in force now; that it is used is kept.
///
/// # Errors
/// The database's.
pub(super) fn admit(writing: &Transaction<'_>, id: &str) -> Result<bool, Error> {
    let hour = micros(writing.now) / USED_STEP * USED_STEP;
    writing
        .connection
        .prepare_cached(
            "UPDATE tokens SET used = ?2 WHERE id = ?1 AND revoked IS NULL AND (expires IS NULL OR expires > ?3)
             AND (used IS NULL OR used < ?2)",
        )
        .and_then(|mut s| s.execute(params![id, hour, micros(writing.now)]))
        .map_err(Error::database("noting the use of a token"))?;
    writing
        .connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM tokens WHERE id = ?1 AND revoked IS NULL AND (expires IS NULL OR expires > ?2))",
        )
        .and_then(|mut s| s.query_row(params![id, micros(writing.now)], |r| r.get(0)))
        .map_err(Error::database("looking up a token"))
}

/// Takes one use of an enrolment token, if it is in force and has one left. Whether it had.
///
/// # Errors
/// The database's.
pub(super) fn take_use(writing: &Transaction<'_>, id: &str) -> Result<bool, Error> {
    let changed = writing
        .connection
        .execute(
            "UPDATE tokens SET uses = uses - 1, used = ?3 WHERE id = ?1 AND role = 'enrol' AND revoked IS NULL
             AND (expires IS NULL OR expires > ?2) AND (uses IS NULL OR uses > 0)",
            params![id, micros(writing.now), micros(writing.now) / USED_STEP * USED_STEP],
        )
        .map_err(Error::database("using a token"))?;
    Ok(changed == 1)
}
