//! Artifacts by the batch: one statement for all of them.

use crate::store::{Error, engine::Fault, ledgers::Artifact, micros};

use super::Postgres;

/// What one batch says, column by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<i64>,
    seqs: Vec<i64>,
    types: Vec<i64>,
    stacks: Vec<i64>,
    times: Vec<i64>,
    flags: Vec<i64>,
    people: Vec<Option<String>>,
    accounts: Vec<Option<String>>,
    fingerprints: Vec<Option<String>>,
    client_ids: Vec<Option<String>>,
    bytes: Vec<&'a [u8]>,
    entries: Vec<Option<&'a [u8]>>,
    hashes: Vec<&'a [u8]>,
}

const INSERT: &str = "INSERT INTO artifacts (ledger, received, id, seq, type, stack, time, flags, person, account,
    fingerprint, client_id, bytes, entry, hash)
    SELECT $1::bigint, $2::bigint, u.* FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::bytea[], $15::bytea[]) AS u";

/// Inserts a batch of one ledger; each with its id, type and stack.
pub(in crate::store) fn insert(
    postgres: &Postgres,
    (ledger, received): (i64, i64),
    batch: &[(i64, i64, i64, &Artifact<'_>)],
) -> Result<(), Error> {
    let storing = Error::database("storing an artifact");
    let mut all = Columns::default();
    // PostgreSQL's texts have no NUL; see engine/value.rs.
    let text = |text: Option<&str>| text.map(|text| text.replace('\0', "\u{FFFD}"));
    for (id, word, stack, artifact) in batch {
        let (client_id, entry) = artifact.kept.unzip();
        let Ok(seq) = i64::try_from(artifact.seq) else { return Err(storing(Fault::Number(artifact.seq))) };
        all.ids.push(*id);
        all.seqs.push(seq);
        all.types.push(*word);
        all.stacks.push(*stack);
        all.times.push(micros(artifact.time));
        all.flags.push(artifact.flags.into());
        all.people.push(text(artifact.person));
        all.accounts.push(text(artifact.account));
        all.fingerprints.push(text(artifact.fingerprint));
        all.client_ids.push(text(client_id));
        all.bytes.push(artifact.bytes);
        all.entries.push(entry);
        all.hashes.push(artifact.hash.as_bytes());
    }
    let done = postgres.prepare(INSERT).and_then(|statement| {
        postgres.with(|client| {
            client.execute(
                &statement,
                &[
                    &ledger,
                    &received,
                    &all.ids,
                    &all.seqs,
                    &all.types,
                    &all.stacks,
                    &all.times,
                    &all.flags,
                    &all.people,
                    &all.accounts,
                    &all.fingerprints,
                    &all.client_ids,
                    &all.bytes,
                    &all.entries,
                    &all.hashes,
                ],
            )
        })
    });
    done.map(|_| ()).map_err(storing)
}
