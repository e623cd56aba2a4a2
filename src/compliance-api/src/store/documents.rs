//! Documents that were taken: those in feeds, and grants that wait for approvals.

use document::{Id, Kind};
use jiff::Timestamp;
use record::{Hash, Person};

use super::{
    Error,
    engine::{Connection, Dialect, Fault, OptionalExtension, Params, Row, params},
    micros, moment,
    transaction::Transaction,
};

/// A document as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub id: Id,
    /// What kind.
    pub kind: Kind,
    /// Whether it waits for approvals; else it is in the feeds.
    pub pending: bool,
    /// Of a grant or lockdown: the stack, or `*`.
    pub stack: Option<String>,
    /// Of a grant: whom it is for.
    pub person: Option<String>,
    /// Of a revoke: the grant; of a lift: the lockdown.
    pub about: Option<Id>,
    /// When it was published, or came.
    pub received: Timestamp,
    /// Until when it has to be known, or can be accepted; none means for ever.
    pub matters: Option<Timestamp>,
    /// Approvals and signers as they were judged: a JSON object.
    pub facts: String,
    /// The envelope as it is sent.
    pub envelope: String,
}

const COLUMNS: &str =
    "d.id, d.type, d.state = 'pending', d.stack, d.person, d.about, d.received, d.matters, d.facts, d.envelope";

/// An id as it stands in the database.
pub(super) fn blob(id: Id) -> [u8; 32] {
    let text = id.to_string();
    let hash: Hash = text.parse().unwrap_or(Hash::ZERO);
    *hash.as_bytes()
}

/// An id from the database.
pub(super) fn id(bytes: [u8; 32]) -> Result<Id, Error> {
    let text = Hash::from(bytes).to_string();
    text.parse().map_err(|_| Error::Unsound(format!("a document called {text}")))
}

fn document(row: &Row<'_>) -> Result<Result<Document, Error>, Fault> {
    let (bytes, kind, pending): ([u8; 32], String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (stack, person, about): (Option<String>, Option<String>, Option<[u8; 32]>) =
        (row.get(3)?, row.get(4)?, row.get(5)?);
    let (received, matters, facts, envelope): (i64, Option<i64>, String, String) =
        (row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?);
    Ok((|| {
        Ok(Document {
            id: id(bytes)?,
            kind: Kind::from_word(&kind).ok_or_else(|| Error::Unsound(format!("a document of the type {kind:?}")))?,
            pending,
            stack,
            person,
            about: about.map(id).transpose()?,
            received: moment(received)?,
            matters: matters.map(moment).transpose()?,
            facts,
            envelope,
        })
    })())
}

fn list(connection: &Connection, sql: &str, given: impl Params) -> Result<Vec<Document>, Error> {
    let listing = "listing documents";
    let mut statement = connection.prepare_cached(sql).map_err(Error::database(listing))?;
    let rows = statement.query_map(given, document).map_err(Error::database(listing))?;
    rows.map(|row| row.map_err(Error::database(listing))?).collect()
}

/// The document with this id.
pub(super) fn find(connection: &Connection, id: Id) -> Result<Option<Document>, Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM documents d WHERE id = ?1"))
        .and_then(|mut s| s.query_row([blob(id)], document).optional())
        .map_err(Error::database("looking up a document"))?
        .transpose()
}

/// Keeps a document, in the place of the pending one where there is one.
pub(super) fn keep(writing: &Transaction<'_>, document: &Document) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached(
            "INSERT INTO documents (id, type, state, stack, person, about, received, matters, facts, envelope)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET type = excluded.type, state = excluded.state, stack = excluded.stack,
             person = excluded.person, about = excluded.about, received = excluded.received, matters = excluded.matters,
             facts = excluded.facts, envelope = excluded.envelope",
        )
        .and_then(|mut s| {
            s.execute(params![
                blob(document.id),
                document.kind.as_str(),
                if document.pending { "pending" } else { "published" },
                document.stack,
                document.person,
                document.about.map(blob),
                micros(document.received),
                document.matters.map(micros),
                document.facts,
                document.envelope,
            ])
        })
        .map_err(Error::database("keeping a document"))?;
    Ok(())
}

/// Says until when a document has to be known.
pub(super) fn ends(writing: &Transaction<'_>, id: Id, at: Timestamp) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("UPDATE documents SET matters = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![blob(id), micros(at)]))
        .map_err(Error::database("keeping until when a document matters"))?;
    Ok(())
}

/// Drops a grant that waits for approvals.
pub(super) fn drop_pending(writing: &Transaction<'_>, id: Id) -> Result<(), Error> {
    writing
        .connection
        .prepare_cached("DELETE FROM documents WHERE id = ?1 AND state = 'pending'")
        .and_then(|mut s| s.execute([blob(id)]))
        .map_err(Error::database("dropping a request"))?;
    Ok(())
}

/// Drops the grants that wait for approvals, and that no host could accept any more.
pub(super) fn drop_over(writing: &Transaction<'_>) -> Result<usize, Error> {
    writing
        .connection
        .prepare_cached("DELETE FROM documents WHERE state = 'pending' AND matters <= ?1")
        .and_then(|mut s| s.execute([micros(writing.now)]))
        .map_err(Error::database("dropping requests that are over"))
}

/// The grants that wait for approvals, the oldest first; of this stack, or of all.
pub(super) fn pending(connection: &Connection, stack: Option<&str>) -> Result<Vec<Document>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM documents d WHERE state = 'pending' AND (stack = ?1 OR ?1 IS NULL) ORDER BY received, id"
    );
    list(connection, &sql, [stack])
}

/// How many grants wait for approvals, and how many of them are for this person, whatever the case of the name.
pub(super) fn pending_count(connection: &Connection, person: &Person) -> Result<(u64, u64), Error> {
    connection
        .prepare_cached(
            "SELECT count(*), count(*) FILTER (WHERE lower(person) = lower(?1)) FROM documents WHERE state = 'pending'",
        )
        .and_then(|mut s| s.query_row([person.as_str()], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(Error::database("counting requests"))
}

/// A document in a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its place, from 1.
    pub position: u64,
    /// Its id.
    pub id: Id,
    /// The envelope as it is sent.
    pub envelope: String,
}

/// The next documents of a feed after this place: so many, and so many bytes, but one at least.
pub(super) fn after(
    connection: &Connection,
    stack: &str,
    after: u64,
    (most, most_bytes): (usize, usize),
) -> Result<Vec<Placed>, Error> {
    let reading = "reading a feed";
    let mut statement = connection
        .prepare_cached(
            "SELECT f.position, f.document, d.envelope FROM feed f JOIN documents d ON d.id = f.document
             WHERE f.stack = ?1 AND f.position > ?2 ORDER BY f.position LIMIT ?3",
        )
        .map_err(Error::database(reading))?;
    let mut rows = statement.query(params![stack, after, most]).map_err(Error::database(reading))?;
    let (mut placed, mut bytes): (Vec<Placed>, usize) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(Error::database(reading))? {
        let read = || Ok::<_, Fault>((row.get(0)?, row.get::<[u8; 32]>(1)?, row.get::<String>(2)?));
        let (position, document, envelope) = read().map_err(Error::database(reading))?;
        bytes = bytes.saturating_add(envelope.len());
        if bytes > most_bytes && !placed.is_empty() {
            break;
        }
        placed.push(Placed { position, id: id(document)?, envelope });
    }
    Ok(placed)
}

/// The documents of a feed, rosters aside, that have to be known still, in its order: of each kind at most so many, the newest.
/// What stands for ever and what does not, and what a feeder alone signed, are of different kinds: none pushes another out.
pub(super) fn mattering(writing: &Transaction<'_>, stack: &str, most: usize) -> Result<Vec<Document>, Error> {
    let no_approver = match writing.connection.dialect() {
        Dialect::Sqlite => "json_extract(facts, '$.approvers') = '[]'",
        Dialect::Postgres => "facts::json ->> 'approvers' = '[]'",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM (
             SELECT document, position, row_number() OVER (
                 PARTITION BY type, matters IS NULL, {no_approver} ORDER BY position DESC
             ) AS back
             FROM feed JOIN documents ON id = document
             WHERE feed.stack = ?1 AND type <> 'roster' AND (matters IS NULL OR matters > ?2)
         ) f JOIN documents d ON d.id = f.document
         WHERE f.back <= ?3 ORDER BY f.position"
    );
    list(writing.connection, &sql, params![stack, micros(writing.now), most])
}

/// The rosters that joined a feed before this document did, the newest first.
pub(super) fn rosters_before(
    connection: &Connection,
    stack: &str,
    id: Id,
    most: usize,
) -> Result<Vec<Document>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM feed f JOIN documents d ON d.id = f.document
         WHERE f.stack = ?1 AND d.type = 'roster'
         AND f.position < (SELECT position FROM feed WHERE stack = ?1 AND document = ?2)
         ORDER BY f.position DESC LIMIT ?3"
    );
    list(connection, &sql, params![stack, blob(id), most])
}

/// The first document of this kind that is about that one, and is in a feed.
pub(super) fn about(connection: &Connection, kind: Kind, about: Id) -> Result<Option<Id>, Error> {
    connection
        .prepare_cached(
            "SELECT id FROM documents d WHERE about = ?1 AND type = ?2
             AND EXISTS (SELECT 1 FROM feed f WHERE f.document = d.id) ORDER BY received LIMIT 1",
        )
        .and_then(|mut s| s.query_row(params![blob(about), kind.as_str()], |row| row.get(0)).optional())
        .map_err(Error::database("looking up a document"))?
        .map(id)
        .transpose()
}

/// In which feeds a document is, in order of their stacks.
pub(super) fn places(connection: &Connection, id: Id) -> Result<Vec<String>, Error> {
    let looking = "looking up where a document is";
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT stack FROM feed WHERE document = ?1 ORDER BY stack")
        .map_err(Error::database(looking))?;
    let rows = statement.query_map([blob(id)], |row| row.get(0)).map_err(Error::database(looking))?;
    rows.collect::<Result<_, _>>().map_err(Error::database(looking))
}
