//! What was not as it should be, what it means, and what to do.

use std::sync::Arc;

use axum::{extract::State, response::Html};
use maud::{Markup, html};

use super::{
    MOST_ROWS, frame,
    session::Visitor,
    stated,
    words::{Tone, link, mark, nothing, when},
};
use crate::{
    App,
    incidents::Kind,
    problem::Problem,
    store::{
        incidents::{Kept, Wanted},
        moment,
    },
};

/// The page of incidents.
pub(super) async fn show(State(app): State<Arc<App>>, visitor: Visitor) -> Result<Html<String>, Problem> {
    visitor.auditor.everything()?;
    stated(&app, &visitor, "incidents", &[]).await?;
    let most = u32::try_from(MOST_ROWS).unwrap_or(u32::MAX);
    let wanted = Wanted { open: None, kind: None, host: None, ledger: None, before: i64::MAX, most };
    let all = app.store.readers().run(move |tx| tx.incidents(&wanted)).await?;
    let (open, over): (Vec<_>, Vec<_>) = all.into_iter().partition(|incident| incident.ended.is_none());
    let body = html! {
        h1 { "Incidents" }
        p.lead { "What this server found not to be as it should be. It is over when the server sees so; it stays listed." }
        h2 { "Open" } @if open.is_empty() { (nothing("None is open.")) } @for one in &open { (card(one)) }
        h2 { "Over" } @if over.is_empty() { (nothing("None.")) } @for one in &over { (card(one)) }
    };
    Ok(frame::page("Incidents", Some(&visitor), "/incidents", &body))
}

fn card(incident: &Kept) -> Markup {
    let Some(kind) = Kind::ALL.iter().find(|kind| kind.as_str() == incident.kind) else { return html! {} };
    let at = |micros: i64| moment(micros).ok();
    html! {
        article.card {
            h3 { @if incident.ended.is_none() { (mark(Tone::Bad, kind.title())) } @else { (mark(Tone::Idle, kind.title())) } " · " bdi { (incident.subject) } }
            p { (kind.means()) }
            p { b { "What to do: " } (kind.what_to_do()) }
            p.hint {
                @if let Some(host) = &incident.host { (link("hosts", host)) " · " }
                (incident.count) "×, first " @if let Some(first) = at(incident.first_seen) { (when(first)) }
                ", last " @if let Some(last) = at(incident.last_seen) { (when(last)) }
                @if let Some(end) = incident.ended.and_then(at) { ", over " (when(end)) }
            }
        }
    }
}
