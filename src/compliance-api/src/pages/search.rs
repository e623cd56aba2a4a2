//! One box that finds a person, a host, a stack, a key, a ticket or a grant, and leads there.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use record::{Host, Person, Stack};
use serde::Deserialize;

use super::{
    frame,
    session::{Visitor, see_other},
    stated,
    words::{grant_path, nothing, path_of},
};
use crate::{
    App,
    auth::Auditor,
    config::Limits,
    evidence::Window,
    problem::Problem,
    read::{
        hosts,
        seen::{Seen, Selection, seen},
    },
    store::{Error, Tx, standings::Wanted},
};

/// What is looked for, in bytes.
const LONGEST: usize = 128;
/// Of each kind, what is listed at most.
const MOST: usize = 50;

/// What is looked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
}

/// Where something is, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    kind: &'static str,
    name: String,
    path: String,
    says: String,
}

/// Finds it.
pub(super) async fn find(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let text = asked.q.trim().to_owned();
    if text.len() > LONGEST {
        return Err(Problem::malformed(format!("what is looked for has {LONGEST} bytes at most")));
    }
    stated(&app, &visitor, "search", &[("q", Some(&text))]).await?;
    let all = Selection::of(&visitor.auditor, None, Window::default())?;
    let (auditor, limits, wanted) = (visitor.auditor.clone(), app.config.limits.clone(), text.clone());
    let (hits, more) = if text.is_empty() {
        (BTreeSet::new(), false)
    } else {
        app.store.readers().run(move |tx| look(tx, &all, &auditor, &limits, &wanted)).await?
    };
    if let (1, Some(hit), false) = (hits.len(), hits.first(), more) {
        return Ok(see_other(&hit.path));
    }
    Ok(frame::page("Search", Some(&visitor), "", &page(&text, &hits, more)).into_response())
}

/// What there is of this name, and whether there may be more.
fn look(
    tx: &mut dyn Tx,
    all: &Selection,
    auditor: &Auditor,
    limits: &Limits,
    text: &str,
) -> Result<(BTreeSet<Hit>, bool), Error> {
    let mut hits = BTreeSet::new();
    if let Ok(person) = text.parse::<Person>() {
        let mut of = all.clone();
        of.person = Some(person);
        if !seen(tx, &of, 1, |_| true)?.0.is_empty() {
            let path = format!("/people/{}", path_of(text));
            hits.insert(Hit { kind: "person", name: text.to_owned(), path, says: "all hosts".to_owned() });
        }
    }
    let own = auditor.0.token.stack.clone();
    if let Ok(host) = text.parse::<Host>() {
        let wanted = Wanted { host: Some(host), stack: own.clone(), after: None, most: 1 };
        for found in hosts::page(tx, &wanted, limits, Timestamp::now())?.0 {
            let path = format!("/hosts/{}", path_of(&found.host));
            hits.insert(Hit { kind: "host", path, says: format!("stack {}", found.stack), name: found.host });
        }
    }
    if let Some(stack) = text.parse::<Stack>().ok().filter(|stack| own.as_ref().is_none_or(|own| own == stack)) {
        let wanted = Wanted { host: None, stack: Some(stack), after: None, most: 1 };
        if !tx.host_names(&wanted)?.is_empty() {
            let path = format!("/stacks/{}", path_of(text));
            hits.insert(Hit { kind: "stack", name: text.to_owned(), path, says: "its hosts".to_owned() });
        }
    }
    let mut more = grants(tx, all, text, &mut hits)?;
    if text.starts_with("SHA256:") {
        more |= keys(tx, all, text, &mut hits)?;
    }
    Ok((hits, more))
}

/// Grants of this id, of a document of this id, or for a reason that names this. Whether there may be more.
fn grants(tx: &mut dyn Tx, all: &Selection, text: &str, hits: &mut BTreeSet<Hit>) -> Result<bool, Error> {
    let ticket = text.to_lowercase();
    let is_meant = |record: &Seen| {
        record.text("grant") == Some(text)
            || record.said("document") == Some(text)
            || record.said("why").is_some_and(|why| why.to_lowercase().contains(&ticket))
    };
    let (found, more) = seen(tx, &all.clone().kinds(&["grant.created"]), MOST, is_meant)?;
    hits.extend(found.iter().filter_map(|record| {
        let grant = record.text("grant")?;
        let (person, why) = (record.text("person").unwrap_or("?"), record.said("why").unwrap_or(""));
        let says = format!("{person} on {}, {:.0}: {why}", record.name, record.time);
        Some(Hit { kind: "grant", name: grant.to_owned(), path: grant_path(&record.name, grant), says })
    }));
    Ok(more)
}

/// People who logged in by this key, and whether it was removed somewhere. Whether there may be more.
fn keys(tx: &mut dyn Tx, all: &Selection, text: &str, hits: &mut BTreeSet<Hit>) -> Result<bool, Error> {
    let removed = |record: &Seen| {
        let all = record.detail("fingerprints").and_then(|all| all.as_array()).into_iter().flatten();
        all.filter_map(|one| one.as_str()).any(|one| one == text)
    };
    let is_meant = |record: &Seen| record.text("fingerprint") == Some(text) || removed(record);
    let kinds = all.clone().kinds(&["session.opened", "session.refused", "key.removed", "emergency.login"]);
    let (found, more) = seen(tx, &kinds, MOST, is_meant)?;
    hits.extend(found.iter().map(|record| match record.text("person") {
        Some(person) if record.kind == "session.opened" => {
            let path = format!("/people/{}", path_of(person));
            Hit { kind: "person", name: person.to_owned(), path, says: "logged in by this key".to_owned() }
        }
        _ => {
            let path = format!("/records/{}/{}", path_of(&record.ledger), record.seq);
            let says = record.text("reason").unwrap_or_default().to_owned();
            Hit { kind: "record", name: format!("{} on {}", record.kind, record.name), path, says }
        }
    }));
    Ok(more)
}

fn page(text: &str, hits: &BTreeSet<Hit>, more: bool) -> Markup {
    html! {
        h1 { "Search" }
        @if more { p.notice { span.mark.warn aria-hidden="true" { "▲" } " Not every record could be looked at: there may be more, later ones above all. A person's or a host's page shows any time whole." } }
        @if text.is_empty() { (nothing("Write the name of a person, a host or a stack, a key's fingerprint (SHA256:…), a ticket, or a grant's id.")) }
        @else if hits.is_empty() {
            p.lead { (if more { "Nothing found yet that is called " } else { "Nothing that you may read is called " }) b { bdi { (text) } } "." }
            (nothing("Names have to be whole; of a ticket, a part of the reason will do."))
        } @else {
            p.lead { (hits.len()) " places for " b { bdi { (text) } } "." }
            ul.plain.hits { @for hit in hits { li { span.kind { (hit.kind) } " " a href=(hit.path) { bdi { (hit.name) } } " " span.hint { bdi { (hit.says) } } } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_not_every_record_was_looked_at_nothing_is_said_not_to_be_there() {
        let said = |more| page("INC-42", &BTreeSet::new(), more).into_string();
        assert!(said(false).contains("Nothing that you may read") && !said(false).contains("Not every record"));
        assert!(!said(true).contains("Nothing that you may read") && said(true).contains("Not every record"));
    }
}
