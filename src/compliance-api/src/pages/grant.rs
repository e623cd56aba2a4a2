//! A grant: from the word that gave it to the end of the last connection on it, each step with its record.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Html,
};
use document::Id;
use jiff::SignedDuration;
use maud::{Markup, html};
use record::Host;
use serde_json::Value;

use super::{
    MOST_RECORDS, Named, Shown, frame, given,
    person::how,
    session::Visitor,
    stated,
    story::Story,
    words::{link, link_any, record_link, when, when_any},
};
use crate::{
    App,
    evidence::Window,
    problem::Problem,
    read::{
        params,
        seen::{Seen, Selection, seen},
    },
    store::{Error, Tx},
};

/// Records of a grant's beginning, changes and end that are read, at most.
const MOST_GIVEN: usize = 64;
/// How long after a grant's end its last connection may be recorded.
const AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The page of one grant.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named(id): Named<String>,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let host: Option<Host> = params::name(given(&shown.host))?;
    stated(&app, &visitor, "grant", &[("grant", Some(&id)), ("host", given(&shown.host))]).await?;
    let mut selection = Selection::of(&visitor.auditor, None, Window::default())?;
    selection.host = host;
    let (wanted, keeps) = (id.clone(), app.documents.is_some());
    let read = app.store.readers().run(move |tx| {
        let (steps, more) = steps(tx, &selection, &wanted)?;
        let id = steps.iter().find_map(|step| step.said("document")).and_then(|id| id.parse::<Id>().ok());
        let document = match id.filter(|_| keeps) {
            Some(id) => tx.document(id)?.map(|document| document.envelope),
            None => None,
        };
        Ok((steps, more, document))
    });
    let (steps, more, document) = read.await?;
    if steps.is_empty() {
        return Err(Problem::not_found(if more {
            "this grant was not found, and not every record could be looked at: go there from the page of its host, or of its person"
        } else {
            "no grant of this id is known here, or your token does not read about it"
        }));
    }
    let title = format!("Grant {id}");
    Ok(frame::page(&title, Some(&visitor), "", &page(&id, &steps, more, document.as_deref())))
}

/// All records that name the grant, and whether there may be more.
fn steps(tx: &mut dyn Tx, all: &Selection, id: &str) -> Result<(Vec<Seen>, bool), Error> {
    let names = |record: &Seen| record.text("grant") == Some(id);
    let given = all.clone().kinds(&["grant.created", "grant.ended"]);
    let (first, cut) = seen(tx, &given, MOST_GIVEN, names)?;
    let Some(begin) = first.first() else { return Ok((first, cut)) };
    let until = first.iter().filter_map(|record| record.said_at("expires_at")).max().unwrap_or(begin.time);
    let until = until.max(first.iter().map(|record| record.time).max().unwrap_or(until));
    let mut others = all.within(begin.time, until.saturating_add(AFTER).unwrap_or(until)).kinds(&["session.*"]);
    others.person = begin.text("person").and_then(|person| person.parse().ok());
    let (sessions, more) = seen(tx, &others, MOST_RECORDS, names)?;
    let mut steps: Vec<Seen> = first.into_iter().chain(sessions).collect();
    steps.sort_by_key(|step| (step.time, step.seq));
    Ok((steps, cut || more))
}

fn page(id: &str, steps: &[Seen], more: bool, document: Option<&str>) -> Markup {
    let story = Story::of(steps);
    html! {
        p.crumbs { "Grant" }
        h1.id { (id) }
        @for grant in &story.grants {
            dl.facts data-own {
                dt { "Person" } dd { (link_any("people", grant.person.as_deref())) }
                dt { "On" } dd { (link("hosts", &grant.host)) ", account " bdi { (grant.account.as_deref().unwrap_or("—")) } }
                dt { "From" } dd { (when_any(grant.starts)) }
                dt { "To" } dd { (when_any(grant.until())) " · " (how(grant)) }
                dt { "Why" } dd { bdi { (grant.why.as_deref().unwrap_or("no reason is on record")) } }
                dt { "On whose word" } dd { (word(grant.approvers.as_slice(), steps)) }
            }
        }
        h2 { "Step by step" }
        @if more { p.notice { span.mark.warn aria-hidden="true" { "▲" } " Not every record could be looked at: steps may be missing. The page of its host shows any time whole." } }
        ol.steps data-own {
            @for step in steps {
                li {
                    p { (when(step.time)) " · " b { (step.kind) } " on " (link("hosts", &step.name)) }
                    p { bdi { (step.text("reason").unwrap_or_default()) } }
                    p.hint { @if let Some(address) = step.address() { "from " bdi { (address) } " · " } @if let Some(key) = step.text("fingerprint") { "key " span.id { (key) } " · " } (record_link(&step.ledger, step.seq)) }
                }
            }
        }
        @if let Some(document) = document {
            h2 { "The document, as approvers signed it" }
            p { "Each signature is an armored SSH signature over the line in it; docs/DOCUMENTS.md has the steps that check them with " code { "ssh-keygen -Y verify" } "." }
            details { summary { "Its envelope" } pre.bytes tabindex="0" { (document) } }
        }
    }
}

/// Who gave it: approvers of its document, else whoever ran the command, else the configuration.
fn word(approvers: &[String], steps: &[Seen]) -> Markup {
    let created = steps.iter().find(|step| step.kind == "grant.created");
    let actor = created.and_then(|step| step.get("actor"));
    let person = actor.and_then(|actor| actor.get("person")).and_then(Value::as_str);
    let uid = actor.and_then(|actor| actor.get("login_uid").or(actor.get("uid"))).and_then(Value::as_u64);
    let place = created.and_then(|step| step.said("place"));
    let document = created.and_then(|step| step.said("document"));
    html! {
        @if !approvers.is_empty() {
            @for (n, approver) in approvers.iter().enumerate() { @if n > 0 { ", " } (link("people", approver)) }
            @if let Some(document) = document { ", by document " span.id { (document) } }
        } @else if let Some(person) = person { (link("people", person)) ", by lockdownctl in a session of their own" }
        @else if let Some(place) = place { "the host's configuration, at " code { (place) } }
        @else if let Some(uid) = uid { "whoever had the login uid " (uid) " on the host" }
        @else { "not on record" }
    }
}
