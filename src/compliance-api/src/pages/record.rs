//! One record, as it was signed, and lists of them.

use std::sync::Arc;

use axum::{extract::State, response::Html};
use maud::{Markup, html};
use record::LedgerId;
use serde_json::Value;

use super::{
    MOST_ROWS, Named, frame,
    session::Visitor,
    stated,
    words::{grant_link, link, link_any, nothing, record_link, when},
};
use crate::{
    App,
    evidence::{SourceKind, Window},
    problem::Problem,
    read::{
        params,
        seen::{Seen, Selection, one},
    },
};

/// The page of one record.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named((ledger, seq)): Named<(String, i64)>,
) -> Result<Html<String>, Problem> {
    let id: Option<LedgerId> = params::name(Some(&ledger))?;
    let number = seq.to_string();
    stated(&app, &visitor, "record", &[("ledger", Some(&ledger)), ("seq", Some(&number))]).await?;
    let mut selection = Selection::of(&visitor.auditor, None, Window::default())?;
    selection.ledger = id;
    let found = app.store.readers().run(move |tx| one(tx, &selection, seq)).await?;
    let record = found.ok_or_else(|| Problem::not_found("no record of this number is known in this ledger"))?;
    let title = format!("{} {}", record.kind, seq);
    Ok(frame::page(&title, Some(&visitor), "", &page(&record)))
}

fn page(record: &Seen) -> Markup {
    let proof = record.source.proof();
    html! {
        p.crumbs { (source(record)) " · record " (record.seq) }
        h1 { (record.kind) }
        p.lead { (record.text("reason").unwrap_or_default()) }
        dl.facts data-own {
            dt { "When" } dd { (when(record.time)) @if record.clock_off { " (its clock was far from this server's)" } }
            dt { "Stored here" } dd { (when(record.received)) }
            dt { "Stated by" } dd { (source(record)) }
            @if !record.stack.is_empty() { dt { "Stack" } dd { (link("stacks", &record.stack)) } }
            @if let Some(person) = record.text("person") { dt { "Person" } dd { (link("people", person)) } }
            @if let Some(account) = record.text("account") { dt { "Account" } dd { bdi { (account) } } }
            @if let Some(grant) = record.text("grant") { dt { "Grant" } dd { (grant_link(&record.name, grant)) } }
            @if let Some(key) = record.text("fingerprint") { dt { "Key" } dd.id { (key) } }
            @if let Some(address) = record.address() { dt { "From" } dd { bdi { (address) } } }
        }
        @if let Some(Value::Object(detail)) = record.get("detail") {
            h2 { "What it says" }
            dl.facts { @for (name, value) in detail { dt { (name.replace('_', " ")) } dd { (shown(value)) } } }
        }
        h2 { "What proves it" }
        p { (capital(proof)) ". It stands in ledger " code { (record.ledger) } " as number " (record.seq) ". "
            code { "GET /v1/artifacts?ledger=" (record.ledger) "&form=record" } " gives the whole chain, and docs/RECORDS.md the steps that verify it with " code { "jq" } " and " code { "ssh-keygen" } " alone." }
        details { summary { "Its exact bytes" } pre.bytes tabindex="0" { (record.bytes) } }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn source(record: &Seen) -> Markup {
    match record.source {
        SourceKind::Host => link("hosts", &record.name),
        SourceKind::Person => link("people", &record.name),
        SourceKind::Client | SourceKind::Server => html! { bdi { (record.name) } },
    }
}

/// A value, as people read it.
fn shown(value: &Value) -> Markup {
    match value {
        Value::String(text) => html! { bdi { (text) } },
        Value::Array(all) if all.is_empty() => html! { "none" },
        Value::Array(all) => html! { ul { @for one in all { li { (shown(one)) } } } },
        Value::Object(all) => {
            html! { @for (name, one) in all { span.pair { b { (name.replace('_', " ")) } " " (shown(one)) } " " } }
        }
        other => html! { (other.to_string()) },
    }
}

/// A table of records, the newest first.
pub(super) fn table(records: &[Seen], empty: &str) -> Markup {
    if records.is_empty() {
        return nothing(empty);
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Records" {
            table {
                thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Person" } th scope="col" { "Host" } th scope="col" { "In words" } th scope="col" { "Record" } } }
                tbody {
                    @for record in records.iter().rev().take(MOST_ROWS) {
                        tr {
                            td.moment { (when(record.time)) }
                            td { (record.kind) @if record.count() > 1 { " ×" (record.count()) } }
                            td { (link_any("people", record.text("person"))) }
                            td { (source(record)) }
                            td.says { bdi { (record.text("reason").unwrap_or_default()) } }
                            td { (record_link(&record.ledger, record.seq)) }
                        }
                    }
                }
            }
        }
        @if records.len() > MOST_ROWS { p.hint { "The newest " (MOST_ROWS) " of " (records.len()) ". Choose a shorter time for the others." } }
    }
}

/// What is said where not all could be looked at.
pub(super) fn cut_short(more: bool) -> Markup {
    html! { @if more { p.notice { span.mark.warn aria-hidden="true" { "▲" } " There is more in this time than one page is made of: what is shown is the first part. Choose a shorter time." } } }
}
