//! A person: what they were granted, what they used, and what was refused them, on every host.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Html,
};
use maud::{Markup, html};
use record::Person;

use super::{
    MOST_RECORDS, MOST_ROWS, Named, Shown, frame, given, record as records,
    session::Visitor,
    stated,
    story::{Grant, KINDS, Session, Story},
    timeline::{Lanes, timeline, windows},
    words::{Tone, grant_link, link, link_any, mark, nothing, record_link, span, when_any},
};
use crate::{
    App,
    problem::Problem,
    read::{params, seen::seen},
};

/// The page of one person.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named(name): Named<String>,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let person: Option<Person> = params::name(Some(&name))?;
    let (mut selection, drawn) = shown.selection(&visitor)?;
    let about = [("person", Some(name.as_str())), ("from", given(&shown.from)), ("to", given(&shown.to))];
    stated(&app, &visitor, "person", &about).await?;
    selection.person = person;
    let (all, more) = app.store.readers().run(move |tx| seen(tx, &selection, MOST_RECORDS, |_| true)).await?;
    let mattering: Vec<_> = all.into_iter().filter(|record| is_of_story(&record.kind)).collect();
    let story = Story::of(&mattering);
    let body = html! {
        p.crumbs { "Person" }
        h1 { bdi { (name) } }
        p.lead { (summary(&story)) }
        (windows(drawn))
        (records::cut_short(more))
        @if story.is_empty() {
            (nothing("No record that you may read names this person in this time. Try a longer time, or look at how the name is written."))
        } @else {
            (timeline(&story, Lanes::Hosts, drawn, &format!("{name} on every host")))
        }
        h2 { "Grants" } (grants(&story, false))
        h2 { "Sessions" } (sessions(&story, false))
        h2 { "Every record" } (records::table(&mattering, "No records in this time."))
    };
    Ok(frame::page(&name, Some(&visitor), "", &body))
}

fn is_of_story(kind: &str) -> bool {
    KINDS.iter().any(|known| known.strip_suffix('*').map_or(kind == *known, |start| kind.starts_with(start)))
}

fn summary(story: &Story) -> String {
    let cut = story.grants.iter().filter(|grant| grant.is_cut()).count();
    let refused: u64 = story.events.iter().filter(|e| e.what == super::story::What::Refused).map(|e| e.count).sum();
    let unused = story.unused().count();
    format!(
        "In this time: {} grants ({cut} ended early, {unused} without a login), {} sessions, {refused} refusals.",
        story.grants.len(),
        story.sessions.len(),
    )
}

/// Grants, the newest first. On a host's page each names its person, on a person's its host.
pub(super) fn grants(story: &Story, of_host: bool) -> Markup {
    if story.grants.is_empty() {
        return nothing("No grants in this time.");
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Grants" {
            table {
                thead { tr {
                    th scope="col" { "Grant" } th scope="col" { (if of_host { "Person" } else { "Host" }) } th scope="col" { "Account" }
                    th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "How it ended" } th scope="col" { "On whose word, and why" }
                } }
                tbody { @for grant in story.grants.iter().rev().take(MOST_ROWS) { (grant_row(grant, of_host)) } }
            }
        }
        @if story.grants.len() > MOST_ROWS { p.hint { "The newest " (MOST_ROWS) " of " (story.grants.len()) "." } }
    }
}

fn grant_row(grant: &Grant, of_host: bool) -> Markup {
    html! {
        tr {
            td { (grant_link(&grant.host, &grant.id)) }
            td { @if of_host { (link_any("people", grant.person.as_deref())) } @else { (link("hosts", &grant.host)) } }
            td { bdi { (grant.account.as_deref().unwrap_or("—")) } }
            td.moment { (when_any(grant.starts)) }
            td.moment { (when_any(grant.until())) }
            td { (how(grant)) }
            td.says {
                @if !grant.approvers.is_empty() { "approved by " (grant.approvers.join(", ")) ": " }
                bdi { (grant.why.as_deref().unwrap_or("—")) }
            }
        }
    }
}

/// How a grant ended, as far as is known.
pub(super) fn how(grant: &Grant) -> Markup {
    match &grant.ended {
        None => mark(Tone::Good, "not ended"),
        Some((_, how)) if how == "expired" => mark(Tone::Idle, "expired"),
        Some((_, how)) => mark(Tone::Warn, &format!("cut off: {how}")),
    }
}

/// Sessions, the newest first.
pub(super) fn sessions(story: &Story, of_host: bool) -> Markup {
    if story.sessions.is_empty() {
        return nothing("No sessions in this time.");
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Sessions" {
            table {
                thead { tr {
                    th scope="col" { "Opened" } th scope="col" { (if of_host { "Person" } else { "Host" }) } th scope="col" { "Account" } th scope="col" { "From" }
                    th scope="col" { "Ended" } th scope="col" { "How" } th scope="col" { "Grant" } th scope="col" { "Record" }
                } }
                tbody { @for session in story.sessions.iter().rev().take(MOST_ROWS) { (session_row(session, of_host)) } }
            }
        }
        @if story.sessions.len() > MOST_ROWS { p.hint { "The newest " (MOST_ROWS) " of " (story.sessions.len()) "." } }
    }
}

fn session_row(session: &Session, of_host: bool) -> Markup {
    let lasted = session.opened.zip(session.ended).map(|(from, (to, _))| span(to.as_second() - from.as_second()));
    html! {
        tr {
            td.moment { (when_any(session.opened)) }
            td { @if of_host { (link_any("people", session.person.as_deref())) } @else { (link("hosts", &session.host)) } }
            td { bdi { (session.account.as_deref().unwrap_or("—")) } }
            td { bdi { (session.address.as_deref().unwrap_or("—")) } }
            td.moment { (when_any(session.ended.map(|(at, _)| at))) }
            td {
                @match session.ended {
                    None => (mark(Tone::Good, "not ended")),
                    Some((_, true)) => (mark(Tone::Warn, "cut off")),
                    Some((_, false)) => (mark(Tone::Idle, "closed")),
                }
                @if let Some(lasted) = lasted { ", " (lasted) }
            }
            td { @if let Some(grant) = &session.grant { (grant_link(&session.host, grant)) } @else { span.none { "no grant" } } }
            td { @if let Some(by) = &session.record { (record_link(&by.ledger, by.seq)) } }
        }
    }
}
