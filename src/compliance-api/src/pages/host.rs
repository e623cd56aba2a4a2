//! A host: who can get in, who is in, what stands open, and what happened.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Html,
};
use jiff::Timestamp;
use maud::{Markup, html};
use record::Host;
use serde_json::Value;

use super::{
    MOST_RECORDS, Named, Shown, frame, given, person, record as records,
    session::Visitor,
    stated,
    story::{KINDS, Story},
    timeline::{Lanes, timeline, windows},
    words::{Tone, grant_link, link, link_any, mark, nothing, record_link, stands, when, when_any},
};
use crate::{
    App,
    auth::Auditor,
    problem::Problem,
    read::{
        hosts::{self, HostStanding},
        params,
        seen::seen,
    },
    store::{
        Error, Tx,
        live::{HostState, LiveGrant, LiveSession},
        standings::Wanted,
    },
};

/// Grants and sessions of one host that are listed.
const LISTED: usize = 256;

/// What is so on a host now, where the reader may know about now.
pub(super) struct Now {
    pub(super) state: HostState,
    pub(super) grants: Vec<LiveGrant>,
    pub(super) sessions: Vec<LiveSession>,
}

/// What is so on these hosts now; nothing where the token reads of another time alone.
pub(super) fn now(tx: &mut dyn Tx, auditor: &Auditor, stack: Option<&str>) -> Result<Vec<Now>, Error> {
    let token = &auditor.0.token;
    if token.from.is_some() || token.to.is_some() {
        return Ok(Vec::new());
    }
    let one = |state: HostState, tx: &mut dyn Tx| {
        let (grants, sessions) = (tx.live_grants(state.ledger, LISTED)?, tx.live_sessions(state.ledger, LISTED)?);
        Ok(Now { state, grants, sessions })
    };
    let states = tx.host_states(stack)?;
    states.into_iter().map(|state| one(state, tx)).collect()
}

/// The page of one host.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named(name): Named<String>,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let host: Option<Host> = params::name(Some(&name))?;
    let (mut selection, drawn) = shown.selection(&visitor)?;
    let about = [("host", Some(name.as_str())), ("from", given(&shown.from)), ("to", given(&shown.to))];
    stated(&app, &visitor, "host", &about).await?;
    selection.host = host.clone();
    let selection = selection.kinds(KINDS);
    let (auditor, limits, wanted) = (visitor.auditor.clone(), app.config.limits.clone(), name.clone());
    let asked = Wanted { host, stack: auditor.stack(None)?, after: None, most: 1 };
    let read = app.store.readers().run(move |tx| {
        let (mut found, _) = hosts::page(tx, &asked, &limits, Timestamp::now())?;
        let Some(standing) = found.pop() else { return Ok(None) };
        let now = now(tx, &auditor, Some(&standing.stack))?.into_iter().find(|now| now.state.host == wanted);
        let (records, more) = seen(tx, &selection, MOST_RECORDS, |_| true)?;
        Ok(Some((standing, now, records, more)))
    });
    let Some((standing, now, all, more)) = read.await? else {
        return Err(Problem::not_found("no host of this name is known here, or your token does not read about it"));
    };
    let story = Story::of(&all);
    let body = html! {
        p.crumbs { (link("stacks", &standing.stack)) " · host" }
        h1 { bdi { (name) } }
        (about_host(&standing, now.as_ref()))
        @if let Some(now) = &now { (live(now)) (ways(&now.state)) }
        h2 { "What happened" }
        (windows(drawn))
        (records::cut_short(more))
        @if story.is_empty() { (nothing("Nobody was granted anything, logged in or was refused in this time.")) }
        @else { (timeline(&story, Lanes::People, drawn, &format!("everybody on {name}"))) }
        h2 { "Grants" } (person::grants(&story, true))
        h2 { "Sessions" } (person::sessions(&story, true))
        h2 { "Every record" } (records::table(&all, "No records in this time."))
        (ledgers(&standing))
    };
    Ok(frame::page(&name, Some(&visitor), "", &body))
}

fn about_host(standing: &HostStanding, now: Option<&Now>) -> Markup {
    let state = now.map(|now| &now.state);
    let mode = state.and_then(|state| state.mode.as_deref());
    html! {
        p.lead { (stands(standing.state)) ". " (standing.says) }
        dl.facts data-own {
            dt { "Mode" } dd { @match mode {
                Some("enforce") => (mark(Tone::Good, "enforce")),
                Some(mode) => { (mark(Tone::Warn, mode)) " — it sees and records, and stops nobody" },
                None => span.none { "not known" },
            } }
            dt { "Daemon" } dd { (state.and_then(|state| state.version.as_deref()).unwrap_or("version not known")) }
            dt { "Last heard" } dd { (when_any(standing.ledgers.first().map(|ledger| ledger.last_received.0))) }
            dt { "Next sweep by" } dd { (when_any(standing.ledgers.first().and_then(|ledger| ledger.next_by.map(|by| by.0)))) }
        }
    }
}

fn live(now: &Now) -> Markup {
    html! {
        div.two {
            section {
                h2 { "Who can get in now" }
                @if now.grants.is_empty() { (nothing("Nobody holds a grant on this host.")) }
                @else {
                    ul.plain { @for grant in &now.grants {
                        li { (link_any("people", grant.person.as_deref())) " as " bdi { (grant.account.as_deref().unwrap_or("—")) }
                            " until " (when_any(grant.expires)) " · " (grant_link(&now.state.host, &grant.grant))
                            @if let Some(why) = &grant.why { br; span.hint { bdi { (why) } } } }
                    } }
                }
            }
            section {
                h2 { "Who is in now" }
                @if now.sessions.is_empty() { (nothing("Nobody is logged in.")) }
                @else {
                    ul.plain { @for session in &now.sessions {
                        li { (link_any("people", session.person.as_deref())) " as " bdi { (session.account.as_deref().unwrap_or("—")) }
                            " since " (when(session.opened)) @if let Some(source) = &session.source { " from " bdi { (source) } } }
                    } }
                }
            }
        }
    }
}

/// The ways in that the newest sweep found open.
pub(super) fn open_ways(state: &HostState) -> &[Value] {
    state.sweep.get("ways_open").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether this way in is meant to be open: an exempt account's.
pub(super) fn is_wanted(way: &Value) -> bool {
    way.get("wanted").and_then(Value::as_bool) == Some(true)
}

fn ways(state: &HostState) -> Markup {
    let open = open_ways(state);
    let text = |way: &Value, name: &str| way.get(name).and_then(Value::as_str).unwrap_or("—").to_owned();
    html! {
        h2 { "Ways in that stand open" }
        @if open.is_empty() { (nothing("By its newest sweep, no login succeeds without a grant.")) }
        @else {
            div.scroll tabindex="0" role="region" aria-label="Ways in" {
                table {
                    thead { tr { th scope="col" { "Kind" } th scope="col" { "Server" } th scope="col" { "For whom" } th scope="col" { "Why it is open" } th scope="col" { "What closes it" } } }
                    tbody { @for way in open {
                        tr {
                            td { @if is_wanted(way) { (mark(Tone::Idle, &text(way, "kind"))) " (wanted)" } @else { (mark(Tone::Bad, &text(way, "kind"))) } }
                            td { bdi { (text(way, "server")) } } td { bdi { (text(way, "whom")) } } td.says { bdi { (text(way, "why")) } }
                            td { code { (text(way, "closes")) } }
                        }
                    } }
                }
            }
        }
    }
}

fn ledgers(standing: &HostStanding) -> Markup {
    html! {
        h2 { "Its ledgers" }
        p.hint { "A host has more than one when its disk or image was copied, set back or moved, or when it was renamed." }
        div.scroll tabindex="0" role="region" aria-label="Ledgers" {
            table {
                thead { tr { th scope="col" { "Ledger" } th scope="col" { "State" } th.number scope="col" { "Records" } th scope="col" { "Enrolled" } th scope="col" { "Last record" } th.number scope="col" { "Never received" } th.number scope="col" { "Contradictions" } } }
                tbody { @for ledger in &standing.ledgers {
                    tr {
                        td.id { (ledger.ledger) } td { (stands(ledger.state)) } td.number { (ledger.records) } td.moment { (when(ledger.enrolled.0)) }
                        td { (record_link(&ledger.ledger, ledger.seq)) } td.number { (ledger.never_received) } td.number { (ledger.forked) }
                    }
                } }
            }
        }
        @if standing.more_ledgers > 0 { p.hint { (standing.more_ledgers) " older ones are not listed." } }
    }
}
