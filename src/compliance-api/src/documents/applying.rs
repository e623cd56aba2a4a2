//! Putting what was decided into the store: a document joins its feeds, the judges' states with it, and the server's own
//! ledger says so, in one transaction.

use std::sync::Arc;

use document::{Kind, Moment, Refusal, StackPattern, Verdict, Who};
use serde_json::{Map, Value, json};

use super::{
    deciding::{Decision, Facts},
    judging::{Judges, Standing, parse},
};
use crate::{
    own_ledger::{self, By, Word},
    store::{Error, Tx},
};

/// What was decided, and what is to be remembered once it is on disk.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) decision: Decision,
    pub(super) standings: Vec<Arc<Standing>>,
}

/// Applies it.
pub(super) fn apply(tx: &mut dyn Tx, mut decision: Decision) -> Result<Applied, Error> {
    if !decision.changes {
        return Ok(Applied { decision, standings: Vec::new() });
    }
    let document = decision.document.clone();
    tx.keep_document(&document)?;
    let drafts = std::mem::take(&mut decision.drafts);
    let standings: Vec<Arc<Standing>> = drafts.into_iter().map(|draft| draft.keep(tx)).collect::<Result<_, _>>()?;
    if document.pending {
        return Ok(Applied { decision, standings });
    }
    if let (Kind::Lift, Some(lockdown), Some(until)) = (document.kind, document.about, document.matters) {
        tx.end_document(lockdown, until)?;
    }
    state(tx, &decision)?;
    if document.kind != Kind::Grant {
        for standing in &standings {
            drop_refused(tx, standing)?;
        }
    }
    Ok(Applied { decision, standings })
}

/// Drops the grants that wait for approvals and that this judge takes no more, whoever approves.
fn drop_refused(tx: &mut dyn Tx, standing: &Standing) -> Result<(), Error> {
    if standing.stack.is_any() {
        return Ok(());
    }
    let now = Moment::of(tx.now());
    for document in tx.pending_documents(Some(standing.stack.as_str()))? {
        let verdict = standing.judge.clone().judge(&parse(&document.envelope)?, now).verdict;
        if matches!(verdict, Verdict::Refused(refusal) if !matches!(refusal, Refusal::Approvals { .. })) {
            tx.drop_pending(document.id)?;
        }
    }
    Ok(())
}

/// The server's own ledger says that it was published.
fn state(tx: &mut dyn Tx, decision: &Decision) -> Result<(), Error> {
    let document = &decision.document;
    let everywhere = document.kind == Kind::Roster || document.stack.as_deref() == Some(document::ANY);
    let stacks = if everywhere { vec![document::ANY.to_owned()] } else { decision.stacks.clone() };
    let mut detail = Map::new();
    detail.insert("document".to_owned(), document.id.to_string().into());
    detail.insert("type".to_owned(), document.kind.as_str().into());
    detail.insert("stacks".to_owned(), stacks.into());
    detail.insert("signers".to_owned(), signers(&decision.facts));
    if let Some(same) = decision.facts.same_as {
        detail.insert("same_as".to_owned(), same.to_string().into());
    }
    own_ledger::state(tx, Word::DocumentPublished, &By::Server, "a signed document was published", detail)
}

fn signers(facts: &Facts) -> Value {
    let one = |signer: &document::Signer| {
        let who = match &signer.who {
            Who::RosterKey(_) => "roster_key",
            Who::Approver(_) => "approver",
            Who::Feeder(_) => "feeder",
            Who::Automatic => "automatic",
            Who::Login(_) => "login",
        };
        let mut one = json!({"who": who, "fingerprint": signer.fingerprint.as_str()});
        if let (Some(person), Some(one)) = (signer.who.person(), one.as_object_mut()) {
            one.insert("person".to_owned(), person.as_str().into());
        }
        one
    };
    facts.signers.iter().map(one).collect()
}

/// Begins the feed of a stack in which hosts are.
pub(super) fn begin(tx: &mut dyn Tx, judges: &Judges, stack: &StackPattern) -> Result<Option<Arc<Standing>>, Error> {
    if let Some(standing) = judges.of(tx, stack)? {
        return Ok(Some(standing));
    }
    if !judges.stacks(tx)?.contains(stack) {
        return Ok(None);
    }
    judges.open(tx, stack)?.keep(tx).map(Some)
}
