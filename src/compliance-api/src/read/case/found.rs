//! What the records of a case say, for its pages, and which signed documents they name.

use std::collections::BTreeSet;

use ::case::{Grant, Row};
use document::Id;
use record::Person;
use serde_json::Value;

use crate::store::artifacts::Found;

/// Grants that are listed; more are counted.
const MAX_GRANTS: usize = 1000;
/// Documents that are looked up; records may name more.
const MAX_DOCUMENTS: usize = 10_000;
/// Types that say, over and over, that nothing has changed.
const REGULAR: &[&str] = &["sweep.attested", "ledger.segment"];
/// Types that name documents.
const OF_DOCUMENTS: &[&str] =
    &["document.accepted", "document.refused", "grant.created", "grant.ended", "lockdown.ended"];

/// What was found so far.
#[derive(Debug)]
pub(super) struct Findings {
    person: Option<String>,
    pub(super) grants: Vec<Grant>,
    pub(super) more_grants: u64,
    pub(super) documents: BTreeSet<Id>,
    /// Of which ledger the roster in force at its beginning is known.
    rostered: Option<i64>,
}

impl Findings {
    /// Nothing yet: about this person, or about everybody.
    pub(super) fn of(person: Option<&Person>) -> Self {
        let person = person.map(|person| person.as_str().to_owned());
        Self { person, grants: Vec::new(), more_grants: 0, documents: BTreeSet::new(), rostered: None }
    }

    /// Looks at a record; what is shown of it, if it is about what was asked.
    pub(super) fn see(&mut self, found: &Found<'_>) -> Option<Row> {
        let is_about = match &self.person {
            Some(person) => found.person == Some(person.as_str()),
            None => !REGULAR.contains(&found.kind),
        };
        // Each sweep says which roster is in force: the first one is enough, as the next roster has a record of its own.
        let names_roster = found.kind == "sweep.attested" && self.rostered != Some(found.chain);
        if !is_about && !names_roster && !OF_DOCUMENTS.contains(&found.kind) {
            return None;
        }
        let record: Value = serde_json::from_slice(found.bytes).ok()?;
        self.name(&record["detail"]["document"]);
        if names_roster && self.name(&record["detail"]["roster"]["id"]) {
            self.rostered = Some(found.chain);
        }
        if !is_about {
            return None;
        }
        let word = word(&record);
        if found.kind == "grant.created" {
            self.grant(found, &record, &word);
        }
        Some(Row {
            seq: u64::try_from(found.seq).unwrap_or_default(),
            time: text(&record["time"]),
            kind: found.kind.to_owned(),
            person: found.person.unwrap_or_default().to_owned(),
            account: found.account.unwrap_or_default().to_owned(),
            reason: text(&record["reason"]),
            word,
        })
    }

    fn name(&mut self, id: &Value) -> bool {
        let id: Option<Id> = id.as_str().and_then(|id| id.parse().ok());
        let Some(id) = id.filter(|_| self.documents.len() < MAX_DOCUMENTS) else { return false };
        self.documents.insert(id);
        true
    }

    fn grant(&mut self, found: &Found<'_>, record: &Value, word: &str) {
        if self.grants.len() >= MAX_GRANTS {
            self.more_grants += 1;
            return;
        }
        let detail = &record["detail"];
        let starts = text(&detail["starts_at"]);
        self.grants.push(Grant {
            time: if starts.is_empty() { text(&record["time"]) } else { starts },
            host: found.name.to_owned(),
            person: found.person.unwrap_or_default().to_owned(),
            account: found.account.unwrap_or_default().to_owned(),
            until: text(&detail["expires_at"]),
            word: word.to_owned(),
            why: text(&detail["why"]),
        });
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// On whose word: of approvers, or of whoever was at the host.
fn word(record: &Value) -> String {
    let approvers: Vec<&str> =
        record["detail"]["approvers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !approvers.is_empty() {
        return approvers.join(", ");
    }
    text(&record["actor"]["person"])
}

/// Who signed a document, by what the server judged then.
pub(super) fn signers(facts: &str) -> String {
    let facts: Value = serde_json::from_str(facts).unwrap_or_default();
    let names = |key: &str| facts[key].as_array().cloned().unwrap_or_default();
    let of_signer = |one: &Value| {
        let person = one["person"].as_str().or_else(|| one.as_str()).or_else(|| one["who"].as_str())?;
        let key = one["fingerprint"].as_str().map(|key| format!(" ({key})")).unwrap_or_default();
        Some(format!("{person}{key}"))
    };
    let signers: Vec<String> = names("signers").iter().filter_map(of_signer).collect();
    if !signers.is_empty() {
        return signers.join(", ");
    }
    names("approvers").iter().filter_map(of_signer).collect::<Vec<_>>().join(", ")
}
