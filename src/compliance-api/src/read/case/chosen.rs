//! Which ledgers matter for a case.

use std::collections::{BTreeMap, BTreeSet};

use ::case::AboutKey;
use jiff::Timestamp;
use record::{LedgerId, Stack};

use super::{
    super::{hosts::stands, standing::Standing},
    Wanted,
};
use crate::{
    config::Limits,
    evidence::SourceKind,
    store::{
        Error, Tx,
        artifacts::{By, Place, Stretch},
        ledgers::Named,
        micros,
    },
};

/// Ledgers of one case; more are told of.
const MAX_LEDGERS: usize = 2000;
/// Rows about a person that are looked up at a time.
const AT_A_TIME: usize = 1024;

/// A ledger.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) row: i64,
    pub(super) id: LedgerId,
    pub(super) kind: SourceKind,
    pub(super) name: String,
    /// How it stands, in a sentence.
    pub(super) stands: String,
    /// Whether where it stands now is for whoever asks: its newest record is of their stack.
    pub(super) is_theirs: bool,
}

impl Chosen {
    pub(super) fn is_host(&self) -> bool {
        self.kind == SourceKind::Host
    }
}

/// The keys of a ledger, as they stand beside its lines.
pub(super) fn keys(tx: &mut dyn Tx, chosen: &Chosen) -> Result<Vec<AboutKey>, Error> {
    let all = tx.keys(chosen.row)?;
    all.into_iter()
        .map(|(first_seq, key)| {
            let public_key = key.to_openssh().map_err(|_| Error::Unsound("a key that cannot be written".to_owned()))?;
            Ok(AboutKey { first_seq, public_key })
        })
        .collect()
}

/// The ledgers that matter, in order of their ids, and what is left out.
pub(super) fn choose(
    tx: &mut dyn Tx,
    wanted: &Wanted,
    newest: i64,
    limits: &Limits,
    now: Timestamp,
    missing: &mut Vec<String>,
) -> Result<Vec<Chosen>, Error> {
    let mut all = match &wanted.host {
        Some(host) => of_host(tx, host.as_str())?,
        None => about_person(tx, wanted, newest)?,
    };
    if let Some(stack) = &wanted.stack {
        let theirs = with_records_of(tx, stack, wanted)?;
        all.retain(|_, one| theirs.contains(&one.row));
    }
    if all.is_empty() {
        missing.push("No ledger has a record of what was asked that whoever asked may read.".to_owned());
    }
    if all.len() > MAX_LEDGERS {
        missing.push(format!("{} more ledgers: ask about one host, or a shorter window.", all.len() - MAX_LEDGERS));
    }
    while all.len() > MAX_LEDGERS {
        all.pop_last();
    }
    let mut chosen = Vec::new();
    for (_, mut one) in all {
        if one.is_host() && !tell(tx, &mut one, wanted, limits, now, missing)? {
            continue;
        }
        chosen.push(one);
    }
    Ok(chosen)
}

/// The ledgers that have a record of this stack in the window: nothing is said of any other.
fn with_records_of(tx: &mut dyn Tx, stack: &Stack, wanted: &Wanted) -> Result<BTreeSet<i64>, Error> {
    let mut all = BTreeSet::new();
    let Some(word) = tx.word(stack.as_str())? else { return Ok(all) };
    let (from, to) = (wanted.window.from.map_or(i64::MIN, micros), wanted.window.to.map_or(i64::MAX, micros));
    for (kind, _) in tx.types()? {
        all.extend(tx.tallies(kind, from, to)?.into_keys().filter(|of| of.stack == word).map(|of| of.ledger));
    }
    Ok(all)
}

fn of_host(tx: &mut dyn Tx, host: &str) -> Result<BTreeMap<LedgerId, Chosen>, Error> {
    let one = |(row, id): (i64, LedgerId)| {
        let (name, stands) = (host.to_owned(), String::new());
        (id.clone(), Chosen { row, id, kind: SourceKind::Host, name, stands, is_theirs: true })
    };
    Ok(tx.ledgers_named(Named::Host(host))?.into_iter().map(one).collect())
}

/// Every ledger but the server's that has a record about them in the window.
fn about_person(tx: &mut dyn Tx, wanted: &Wanted, newest: i64) -> Result<BTreeMap<LedgerId, Chosen>, Error> {
    let mut all = BTreeMap::new();
    let Some(person) = &wanted.person else { return Ok(all) };
    let by = By::Person(person.as_str().to_owned());
    let before = wanted.window.to.map_or(i64::MAX, micros);
    let mut after = Place { at: wanted.window.from.map_or(i64::MIN, micros), id: i64::MIN };
    loop {
        let places = tx.places(&by, Stretch { after, before, newest, most: AT_A_TIME })?;
        for place in &places {
            tx.look(place.id, &mut |found| {
                let is_theirs = wanted.stack.as_ref().is_none_or(|stack| stack.as_str() == found.stack);
                let Ok(id) = found.ledger.parse::<LedgerId>() else { return };
                if is_theirs && found.source != SourceKind::Server && !all.contains_key(&id) {
                    let name = found.name.to_owned();
                    let stands = format!("This server keeps it for the {} {name}.", found.source.as_str());
                    all.insert(
                        id.clone(),
                        Chosen { row: found.chain, id, kind: found.source, name, stands, is_theirs: true },
                    );
                }
            })?;
        }
        match places.last() {
            Some(last) if places.len() == AT_A_TIME => after = *last,
            _ => return Ok(all),
        }
    }
}

/// Says how a host's ledger stands and what of it is missing. Whether it counts.
fn tell(
    tx: &mut dyn Tx,
    one: &mut Chosen,
    wanted: &Wanted,
    limits: &Limits,
    now: Timestamp,
    missing: &mut Vec<String>,
) -> Result<bool, Error> {
    let mut superseded = false;
    for raw in tx.host_ledgers(&one.name)? {
        let was_superseded = superseded;
        superseded |= !raw.pending;
        if raw.ledger != one.id.as_str() {
            continue;
        }
        one.is_theirs = wanted.stack.as_ref().is_none_or(|stack| stack.as_str() == raw.stack);
        if !one.is_theirs {
            one.stands = "Its newest records are of another stack.".to_owned();
            return Ok(!raw.pending);
        }
        let state = stands(&raw, limits, now, was_superseded)?.state;
        one.stands = state.sentence().to_owned();
        if raw.pending {
            missing
                .push(format!("Ledger {} of {} waits for an admin's approval, and is no evidence.", one.id, one.name));
            return Ok(false);
        }
        if matches!(state, Standing::TailUnknown | Standing::Silent) {
            missing.push(format!("Host {}: {}", one.name, state.sentence()));
        }
        if raw.never_received > 0 {
            let count = raw.never_received;
            missing.push(format!(
                "Host {}: {count} records of ledger {} were pruned before they came here.",
                one.name, one.id
            ));
        }
        if raw.forked > 0 {
            let count = raw.forked;
            missing.push(format!(
                "Host {}: {count} authentic records contradict ledger {}: see incidents.",
                one.name, one.id
            ));
        }
    }
    Ok(true)
}
