//! How hosts stand by what they last said: kept with each record that says something of it, so that nobody has to read a
//! ledger for it.

use document::Id;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Error,
    documents::blob,
    engine::{Connection, Params, params},
    ledgers::Ledger,
    micros, moment,
    transaction::Transaction,
};

/// The most open ways in that are kept of a host.
const MAX_WAYS: usize = 64;

/// What a record says of how its host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The daemon started: its version.
    Started(Option<String>),
    /// The mode.
    Mode(String),
    /// A part of a sweep's attestation.
    Sweep {
        /// Whether it is the first part.
        first: bool,
        /// `mode`, `roster`, `feed` and `ways_open`, as far as this part has them.
        said: Map<String, Value>,
    },
    /// A grant.
    Grant(LiveGrant),
    /// It ended.
    GrantEnded(String),
    /// No grant of before counts any more.
    GrantsVoid,
    /// A session.
    Session(LiveSession),
    /// It ended.
    SessionEnded(String),
    /// Which sessions of before live is not known any more.
    SessionsLost,
    /// What became of a document.
    Outcome {
        /// Which.
        document: Id,
        /// Why it was refused: a word and a sentence; none where it was accepted.
        refused: Option<(String, String)>,
        /// When.
        at: Timestamp,
    },
}

/// A grant that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveGrant {
    /// Its id.
    pub grant: String,
    /// Whom it is for.
    pub person: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// The document that it comes from.
    pub document: Option<String>,
    /// Who approved that.
    pub approvers: Vec<String>,
    /// Why.
    pub why: Option<String>,
}

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id.
    pub session: String,
    /// Who.
    pub person: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// From where.
    pub source: Option<String>,
    /// Since when.
    pub opened: Timestamp,
}

/// How a host stands, by its newest approved ledger.
#[derive(Debug, Clone)]
pub struct HostState {
    /// The ledger's row.
    pub ledger: i64,
    /// Its name.
    pub host: String,
    /// The stack of its newest record.
    pub stack: String,
    /// The type of its last record.
    pub last_type: String,
    /// When that was stored.
    pub received: Timestamp,
    /// When the next sweep has to come.
    pub next_by: Option<Timestamp>,
    /// Whether it named a token for a feed.
    pub hears: bool,
    /// The version of its daemon.
    pub version: Option<String>,
    /// The mode.
    pub mode: Option<String>,
    /// What its newest sweep said.
    pub sweep: Map<String, Value>,
}

/// What became of a document on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The ledger's row.
    pub ledger: i64,
    /// The host.
    pub host: String,
    /// The stack of its newest record.
    pub stack: String,
    /// Whether it was accepted.
    pub accepted: bool,
    /// Why it was refused.
    pub code: Option<String>,
    /// In a sentence.
    pub why: Option<String>,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// Grows with each.
    pub version: i64,
}

/// Keeps what a record of this ledger says.
pub(super) fn keep(writing: &Transaction<'_>, ledger: &Ledger, notice: &Notice) -> Result<(), Error> {
    let row = ledger.row;
    match notice {
        Notice::Started(version) => state(writing, row, version.as_deref(), None, None),
        Notice::Mode(mode) => state(writing, row, None, Some(mode), None),
        Notice::Sweep { first, said } => sweep(writing, row, *first, said),
        Notice::Grant(grant) => keep_grant(writing, row, grant),
        Notice::Session(session) => keep_session(writing, row, session),
        Notice::GrantEnded(grant) => {
            execute(writing, "DELETE FROM live_grants WHERE ledger = ?1 AND grant_id = ?2", params![row, grant])
        }
        Notice::GrantsVoid => execute(writing, "DELETE FROM live_grants WHERE ledger = ?1", params![row]),
        Notice::SessionEnded(session) => {
            execute(writing, "DELETE FROM live_sessions WHERE ledger = ?1 AND session = ?2", params![row, session])
        }
        Notice::SessionsLost => execute(writing, "DELETE FROM live_sessions WHERE ledger = ?1", params![row]),
        Notice::Outcome { document, refused, at } => keep_outcome(writing, row, *document, refused.as_ref(), *at),
    }
}

fn execute(writing: &Transaction<'_>, sql: &str, given: impl Params) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached(sql)
        .and_then(|mut s| s.execute(given))
        .map_err(Error::database("keeping how a host stands"))?;
    Ok(())
}

fn state(
    writing: &Transaction<'_>,
    row: i64,
    version: Option<&str>,
    mode: Option<&str>,
    sweep: Option<&str>,
) -> Result<(), Error> {
    execute(
        writing,
        "INSERT INTO host_states (ledger, version, mode, sweep) VALUES (?1, ?2, ?3, coalesce(?4, '{}'))
         ON CONFLICT (ledger) DO UPDATE SET version = coalesce(?2, host_states.version),
         mode = coalesce(?3, host_states.mode), sweep = coalesce(?4, host_states.sweep)",
        params![row, version, mode, sweep],
    )
}

fn sweep(writing: &Transaction<'_>, row: i64, first: bool, said: &Map<String, Value>) -> Result<(), Error> {
    let mut known = if first { Map::new() } else { known_sweep(writing.connection, row)? };
    for (name, value) in said {
        match (known.get_mut(name).and_then(Value::as_array_mut), value) {
            (Some(before), Value::Array(more)) => before.extend(more.iter().cloned()),
            _ => {
                known.insert(name.clone(), value.clone());
            }
        }
    }
    known.values_mut().filter_map(Value::as_array_mut).for_each(|all| all.truncate(MAX_WAYS));
    let mode = known.get("mode").and_then(Value::as_str).map(str::to_owned);
    state(writing, row, None, mode.as_deref(), Some(&Value::Object(known).to_string()))
}

fn known_sweep(connection: &Connection, row: i64) -> Result<Map<String, Value>, Error> {
    let mut statement = connection
        .prepare_cached("SELECT sweep FROM host_states WHERE ledger = ?1")
        .map_err(Error::database("looking up a sweep"))?;
    let mut rows = statement.query_map([row], |r| r.get::<String>(0)).map_err(Error::database("looking up a sweep"))?;
    let text = rows.next().transpose().map_err(Error::database("looking up a sweep"))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn keep_grant(writing: &Transaction<'_>, row: i64, grant: &LiveGrant) -> Result<(), Error> {
    execute(
        writing,
        "INSERT INTO live_grants (ledger, grant_id, person, account, expires, document, approvers, why)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (ledger, grant_id) DO UPDATE SET person = excluded.person, account = excluded.account,
         expires = excluded.expires, document = excluded.document, approvers = excluded.approvers, why = excluded.why",
        params![
            row,
            grant.grant,
            grant.person,
            grant.account,
            grant.expires.map(micros),
            grant.document,
            Value::from(grant.approvers.clone()).to_string(),
            grant.why
        ],
    )
}

fn keep_session(writing: &Transaction<'_>, row: i64, session: &LiveSession) -> Result<(), Error> {
    execute(
        writing,
        "INSERT INTO live_sessions (ledger, session, person, account, source, opened)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (ledger, session) DO UPDATE SET person = excluded.person, account = excluded.account,
         source = excluded.source, opened = excluded.opened",
        params![row, session.session, session.person, session.account, session.source, micros(session.opened)],
    )
}

/// The first acceptance stands; of refusals the last.
fn keep_outcome(
    writing: &Transaction<'_>,
    row: i64,
    document: Id,
    refused: Option<&(String, String)>,
    at: Timestamp,
) -> Result<(), Error> {
    let version: i64 = writing
        .connection
        .prepare_cached("UPDATE counters SET last = last + 1 WHERE name = 'outcomes' RETURNING last")
        .and_then(|mut s| s.query_row(params![], |r| r.get(0)))
        .map_err(Error::database("numbering outcomes"))?;
    let (code, why) = refused.map(|(code, why)| (code, why)).unzip();
    execute(
        writing,
        "INSERT INTO outcomes (document, ledger, accepted, code, why, at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (document, ledger) DO UPDATE SET accepted = ?3, code = ?4, why = ?5, at = ?6, version = ?7
         WHERE outcomes.accepted = 0",
        params![blob(document), row, refused.is_none(), code, why, micros(at), version],
    )
}

/// What became of a document on the hosts of approved ledgers.
pub(super) fn outcomes(connection: &Connection, document: Id) -> Result<Vec<Outcome>, Error> {
    let listing = "listing what became of a document";
    let mut statement = connection
        .prepare_cached(
            "SELECT l.id, l.name, l.stack, o.accepted, o.code, o.why, o.at, o.version FROM outcomes o
             JOIN ledgers l ON l.id = o.ledger WHERE o.document = ?1 AND l.state = 'enrolled' ORDER BY l.name, l.id",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map([blob(document)], |r| {
            let outcome = Outcome {
                ledger: r.get(0)?,
                host: r.get(1)?,
                stack: r.get(2)?,
                accepted: r.get(3)?,
                code: r.get(4)?,
                why: r.get(5)?,
                at: Timestamp::UNIX_EPOCH,
                version: r.get(7)?,
            };
            Ok((outcome, r.get::<i64>(6)?))
        })
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (outcome, at) = row.map_err(Error::database(listing))?;
        Ok(Outcome { at: moment(at)?, ..outcome })
    })
    .collect()
}

/// How many outcomes there ever were, of any document.
pub(super) fn last_outcome(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached("SELECT last FROM counters WHERE name = 'outcomes'")
        .and_then(|mut s| s.query_row(params![], |r| r.get(0)))
        .map_err(Error::database("looking for outcomes"))
}

/// How the hosts of this stack, or of all, stand, in order of their names.
pub(super) fn hosts(connection: &Connection, stack: Option<&str>) -> Result<Vec<HostState>, Error> {
    let listing = "listing how hosts stand";
    let mut statement = connection
        .prepare_cached(
            "SELECT l.id, l.name, l.stack, l.last_type, l.feed_token IS NOT NULL, s.version, s.mode, s.sweep,
             l.head_received, l.next_by FROM ledgers l LEFT JOIN host_states s ON s.ledger = l.id
             WHERE l.kind = 'host' AND l.state = 'enrolled' AND l.head_seq > 0 AND (l.stack = ?1 OR ?1 IS NULL) AND l.id =
               (SELECT max(id) FROM ledgers n WHERE n.kind = 'host' AND n.name = l.name AND n.state = 'enrolled')
             ORDER BY l.name",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map([stack], |r| {
            let sweep: Option<String> = r.get(7)?;
            let (received, next_by): (i64, Option<i64>) = (r.get(8)?, r.get(9)?);
            let state = HostState {
                ledger: r.get(0)?,
                host: r.get(1)?,
                stack: r.get(2)?,
                last_type: r.get(3)?,
                received: Timestamp::UNIX_EPOCH,
                next_by: None,
                hears: r.get(4)?,
                version: r.get(5)?,
                mode: r.get(6)?,
                sweep: sweep.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            };
            Ok((state, received, next_by))
        })
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (state, received, next_by) = row.map_err(Error::database(listing))?;
        Ok(HostState { received: moment(received)?, next_by: next_by.map(moment).transpose()?, ..state })
    })
    .collect()
}

/// The grants of this ledger that have not ended, those that end first at the front.
pub(super) fn grants(reading: &Transaction<'_>, ledger: i64, most: usize) -> Result<Vec<LiveGrant>, Error> {
    let listing = "listing grants";
    let mut statement = reading
        .connection
        .prepare_cached(
            "SELECT grant_id, person, account, expires, document, approvers, why FROM live_grants
             WHERE ledger = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY expires NULLS FIRST, grant_id LIMIT ?3",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map(params![ledger, micros(reading.now), most], |r| {
            let (expires, approvers): (Option<i64>, String) = (r.get(3)?, r.get(5)?);
            let grant = LiveGrant {
                grant: r.get(0)?,
                person: r.get(1)?,
                account: r.get(2)?,
                expires: None,
                document: r.get(4)?,
                approvers: serde_json::from_str(&approvers).unwrap_or_default(),
                why: r.get(6)?,
            };
            Ok((grant, expires))
        })
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (grant, expires) = row.map_err(Error::database(listing))?;
        Ok(LiveGrant { expires: expires.map(moment).transpose()?, ..grant })
    })
    .collect()
}

/// The sessions of this ledger that have not ended, the oldest first.
pub(super) fn sessions(connection: &Connection, ledger: i64, most: usize) -> Result<Vec<LiveSession>, Error> {
    let listing = "listing sessions";
    let mut statement = connection
        .prepare_cached(
            "SELECT session, person, account, source, opened FROM live_sessions WHERE ledger = ?1
             ORDER BY opened, session LIMIT ?2",
        )
        .map_err(Error::database(listing))?;
    let rows = statement
        .query_map(params![ledger, most], |r| {
            let session = LiveSession {
                session: r.get(0)?,
                person: r.get(1)?,
                account: r.get(2)?,
                source: r.get(3)?,
                opened: Timestamp::UNIX_EPOCH,
            };
            Ok((session, r.get::<i64>(4)?))
        })
        .map_err(Error::database(listing))?;
    rows.map(|row| {
        let (session, opened) = row.map_err(Error::database(listing))?;
        Ok(LiveSession { opened: moment(opened)?, ..session })
    })
    .collect()
}
