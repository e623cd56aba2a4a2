//! Writing incidents down. One that comes again is counted, not listed again: nobody can fill the list. What anybody can
//! cause at will is gathered in memory first, and written once a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Map;

use crate::{
    describe::describe,
    incidents::{Incident, Kind},
    own_ledger::{self, By, Word},
    store::{Error, Store, Tx},
};

/// `subject` of the incident that counts what is beyond the bound.
pub const OTHERS: &str = "(others)";

/// Open incidents of a kind that anybody can cause under ever new subjects, whatever the configuration says.
const ANYBODYS: u64 = 1000;
/// Subjects of one kind that are gathered between two writings; more are counted under their kind alone.
const MAX_GATHERED: usize = 1000;
/// How long an unknown ledger has for its enrolment, which begins with a request that is refused.
const ENROLMENT_TIME: Duration = Duration::from_secs(60);

/// Opens an incident, or counts it where it is open.
///
/// # Errors
/// The store's; a record of the server that cannot be sealed.
pub fn note(tx: &mut dyn Tx, incident: &Incident) -> Result<(), Error> {
    if tx.count_incident(incident, &incident.subject)? {
        return Ok(());
    }
    // By kind: whoever fills one leaves the others as they are.
    let beyond = tx.open_incidents(incident.kind)? >= most(tx, incident.kind);
    if beyond && tx.count_incident(incident, OTHERS)? {
        return Ok(());
    }
    let mut opened = incident.clone();
    if beyond {
        opened = Incident { subject: OTHERS.to_owned(), host: None, ledger: None, ..opened };
    }
    tx.insert_incident(&opened)?;
    let mut detail = Map::new();
    detail.insert("kind".to_owned(), incident.kind.as_str().into());
    detail.insert("subject".to_owned(), opened.subject.into());
    own_ledger::state(tx, Word::IncidentOpened, &By::Server, incident.kind.title(), detail)
}

/// How many of a kind may be open.
fn most(tx: &mut dyn Tx, kind: Kind) -> u64 {
    let most = tx.server().limits.incidents;
    if kind.is_anybodys() { most.min(ANYBODYS) } else { most }
}

/// What anybody can cause, gathered until the next writing.
#[derive(Debug, Default)]
pub struct Gathered(Mutex<HashMap<(Kind, String), (Instant, Incident)>>);

impl Gathered {
    /// Counts one.
    pub fn note(&self, incident: Incident) {
        self.put(Instant::now(), incident);
    }

    fn put(&self, since: Instant, incident: Incident) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (incident.kind, incident.subject.clone());
        if !all.contains_key(&key) && all.keys().filter(|(kind, _)| *kind == key.0).count() >= MAX_GATHERED {
            key.1 = OTHERS.to_owned();
        }
        let mut incident = Incident { subject: key.1.clone(), ..incident };
        let (_, known) = all.entry(key).or_insert_with(|| (since, Incident { count: 0, ..incident.clone() }));
        incident.count = incident.count.saturating_add(known.count);
        *known = incident;
    }

    fn take_ripe(&self) -> Vec<(Instant, Incident)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extract_if(|(kind, _), (since, _)| *kind != Kind::UnknownSigner || since.elapsed() >= ENROLMENT_TIME)
            .map(|(_, gathered)| gathered)
            .collect()
    }

    /// Writes what was gathered. What cannot be written is kept for the next time, as far as there is room.
    pub async fn write(&self, store: &Store) {
        let all = self.take_ripe();
        if all.is_empty() {
            return;
        }
        let again = all.clone();
        let written = store.write(move |tx| {
            for (_, incident) in &all {
                // What is no id of a ledger names none.
                let ledger = incident.subject.parse().ok().filter(|_| incident.kind == Kind::UnknownSigner);
                let enrolled = ledger.map(|id| tx.ledger(&id)).transpose()?.flatten().is_some();
                if !enrolled {
                    note(tx, incident)?;
                }
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!(error = %describe(&error), "incidents could not be written");
            again.into_iter().for_each(|(since, incident)| self.put(since, incident));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_counted_and_what_is_too_much_is_counted_together() {
        let gathered = Gathered::default();
        (0..3).for_each(|_| gathered.note(Incident::new(Kind::BadToken, "192.0.2.1")));
        (0..5000).for_each(|n| gathered.note(Incident::new(Kind::BadToken, &n.to_string())));
        gathered.note(Incident::new(Kind::NotAuthentic, "ledger"));
        let all = gathered.take_ripe();
        assert_eq!(all.len(), MAX_GATHERED + 2);
        assert!(all.iter().any(|(_, i)| i.subject == "ledger"), "one kind leaves the others room");
        let count = |subject: &str| all.iter().find(|(_, i)| i.subject == subject).unwrap().1.count;
        assert_eq!(count("192.0.2.1"), 3);
        assert_eq!(count(OTHERS), 5000 - (MAX_GATHERED as u64 - 1));
    }

    #[test]
    fn an_unknown_ledger_has_a_minute_to_be_enrolled() {
        let gathered = Gathered::default();
        gathered.note(Incident::new(Kind::UnknownSigner, "ledger"));
        assert_eq!(gathered.take_ripe(), []);
        let Some(then) = Instant::now().checked_sub(ENROLMENT_TIME) else { return };
        gathered.put(then, Incident::new(Kind::UnknownSigner, "another"));
        assert_eq!(gathered.take_ripe().len(), 1);
    }
}
