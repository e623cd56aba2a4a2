//! What needs somebody now, and where everything stands; of all stacks, or of one.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Html};
use jiff::Timestamp;
use maud::{Markup, html};
use record::Stack;

use super::{
    Named, frame,
    host::{Now, is_wanted, now, open_ways},
    session::Visitor,
    stated,
    words::{Tone, grant_link, link, link_any, mark, nothing, stands, when, when_any},
};
use crate::{
    App,
    problem::Problem,
    read::{
        Standing,
        hosts::{self, HostStanding},
        params,
    },
    store::{Error, incidents::Wanted as Incidents, standings::Wanted},
};

/// Hosts that are listed.
const MOST_HOSTS: u32 = 500;
/// Incidents that are told of here; all have a page of their own.
const MOST_INCIDENTS: u32 = 20;

/// What is read for it.
struct Read {
    hosts: Vec<HostStanding>,
    more: bool,
    now: Vec<Now>,
    /// How many incidents are open; none where the token reads of one stack or window alone.
    incidents: Option<usize>,
}

/// The page that one begins at.
pub(super) async fn show(State(app): State<Arc<App>>, visitor: Visitor) -> Result<Html<String>, Problem> {
    stated(&app, &visitor, "overview", &[]).await?;
    let read = read(&app, &visitor, None).await?;
    let body = html! {
        h1 { "Overview" }
        (numbers(&read))
        h2 { "Needs somebody now" } (urgent(&read, &visitor))
        h2 { "Stacks" } (stacks(&read))
    };
    Ok(frame::page("Overview", Some(&visitor), "/", &body))
}

/// The page of one stack.
pub(super) async fn stack(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named(name): Named<String>,
) -> Result<Html<String>, Problem> {
    let stack: Option<Stack> = params::name(Some(&name))?;
    stated(&app, &visitor, "stack", &[("stack", Some(&name))]).await?;
    let read = read(&app, &visitor, stack).await?;
    if read.hosts.is_empty() {
        return Err(Problem::not_found("no host of this stack is known here"));
    }
    let body = html! {
        p.crumbs { "Stack" }
        h1 { bdi { (name) } }
        (numbers(&read))
        h2 { "Needs somebody now" } (urgent(&read, &visitor))
        h2 { "Hosts" } (hosts_table(&read.hosts.iter().collect::<Vec<_>>(), &read.now))
        h2 { "Who can get in now" } (grants(&read.now))
        h2 { "Who is in now" } (sessions(&read.now))
    };
    Ok(frame::page(&name, Some(&visitor), "", &body))
}

async fn read(app: &App, visitor: &Visitor, stack: Option<Stack>) -> Result<Read, Problem> {
    let stack = visitor.auditor.stack(stack)?;
    let all = visitor.auditor.everything().is_ok();
    let (auditor, limits) = (visitor.auditor.clone(), app.config.limits.clone());
    let read = app.store.readers().run(move |tx| {
        let wanted = Wanted { host: None, stack: stack.clone(), after: None, most: MOST_HOSTS };
        let (hosts, next) = hosts::page(tx, &wanted, &limits, Timestamp::now())?;
        let now = now(tx, &auditor, stack.as_ref().map(Stack::as_str))?;
        let open = Incidents {
            open: Some(true),
            kind: None,
            host: None,
            ledger: None,
            before: i64::MAX,
            most: MOST_INCIDENTS,
        };
        let incidents = if all { Some(tx.incidents(&open)?.len()) } else { None };
        Ok::<_, Error>(Read { hosts, more: next.is_some(), now, incidents })
    });
    Ok(read.await?)
}

fn numbers(read: &Read) -> Markup {
    let count = |standing| read.hosts.iter().filter(|host| host.state == standing).count();
    let one = |number: String, says: &str| html! { li { b { (number) } " " (says) } };
    let sum = |of: fn(&Now) -> usize| read.now.iter().map(of).sum::<usize>().to_string();
    html! {
        ul.numbers {
            (one(format!("{}{}", read.hosts.len(), if read.more { "+" } else { "" }), "hosts"))
            (one(count(Standing::Live).to_string(), "live"))
            (one(count(Standing::Silent).to_string(), "silent"))
            @if !read.now.is_empty() {
                (one(sum(|now| now.grants.len()), "grants in force"))
                (one(sum(|now| now.sessions.len()), "people logged in"))
            }
        }
    }
}

fn urgent(read: &Read, visitor: &Visitor) -> Markup {
    let token = &visitor.auditor.0.token;
    let silent: Vec<_> =
        read.hosts.iter().filter(|h| matches!(h.state, Standing::Silent | Standing::TailUnknown)).collect();
    let pending: Vec<_> = read.hosts.iter().filter(|h| h.state == Standing::Pending).collect();
    let ways = |now: &&Now| open_ways(&now.state).iter().any(|way| !is_wanted(way));
    let open: Vec<_> = read.now.iter().filter(ways).collect();
    let observing: Vec<_> = read.now.iter().filter(|now| now.state.mode.as_deref() == Some("observe")).collect();
    let incidents = read.incidents.unwrap_or(0);
    let calm = silent.is_empty() && pending.is_empty() && open.is_empty() && observing.is_empty() && incidents == 0;
    html! {
        @if token.from.is_some() || token.to.is_some() {
            p.hint { "Your token reads evidence of a time of its own" @if let Some(from) = token.from { ", from " (when(from)) } @if let Some(to) = token.to { ", to " (when(to)) } ": who is in now is not shown." }
        }
        @if calm { p.calm { (mark(Tone::Good, "Nothing.")) " Every host is heard of, and no way in stands open that a grant does not open." } }
        @else {
            ul.urgent {
                @for host in &silent { li { (stands(host.state)) ": " (link("hosts", &host.host)) " — " (host.says) } }
                @for host in &pending { li { (stands(host.state)) ": " (link("hosts", &host.host)) " — its records are kept, and no evidence until an admin approves it." } }
                @for now in &open {
                    @let count = open_ways(&now.state).iter().filter(|way| !is_wanted(way)).count();
                    li { (mark(Tone::Bad, "open")) ": " (link("hosts", &now.state.host)) " — " (count) @if count == 1 { " way" } @else { " ways" } " in without a grant; its page names the line that closes each." }
                }
                @for now in &observing { li { (mark(Tone::Warn, "observe")) ": " (link("hosts", &now.state.host)) " — it sees and records, and stops nobody." } }
                @if incidents > 0 { li { (mark(Tone::Bad, "incidents")) ": " a href="/incidents" { @if incidents > MOST_INCIDENTS as usize { "more than " (MOST_INCIDENTS) } @else { (incidents) } " open" } } }
            }
        }
    }
}

fn stacks(read: &Read) -> Markup {
    let mut all: BTreeMap<&str, Vec<&HostStanding>> = BTreeMap::new();
    for host in &read.hosts {
        all.entry(&host.stack).or_default().push(host);
    }
    html! {
        @if all.is_empty() { (nothing("No host has sent records yet. Make an enrolment token (compliance-api token create --role enrol --stack NAME) and give it to a host as [ship.api] token.")) }
        @for (stack, hosts) in &all {
            h3 { (link("stacks", stack)) }
            (hosts_table(hosts, &read.now))
        }
        @if read.more { p.hint { "The first " (MOST_HOSTS) " hosts, by name. The search box finds the others." } }
    }
}

fn hosts_table(hosts: &[&HostStanding], now: &[Now]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Hosts" {
            table {
                thead { tr { th scope="col" { "Host" } th scope="col" { "State" } th scope="col" { "Mode" } th.number scope="col" { "Grants" } th.number scope="col" { "Logged in" } th.number scope="col" { "Open ways in" } th scope="col" { "Last heard" } } }
                tbody { @for host in hosts {
                    @let now = now.iter().find(|now| now.state.host == host.host);
                    tr {
                        td { (link("hosts", &host.host)) } td { (stands(host.state)) }
                        td { (now.and_then(|now| now.state.mode.as_deref()).unwrap_or("—")) }
                        td.number { @if let Some(now) = now { (now.grants.len()) } @else { "—" } }
                        td.number { @if let Some(now) = now { (now.sessions.len()) } @else { "—" } }
                        td.number { @if let Some(now) = now { (open_ways(&now.state).iter().filter(|way| !is_wanted(way)).count()) } @else { "—" } }
                        td.moment { (when_any(host.ledgers.first().map(|ledger| ledger.last_received.0))) }
                    }
                } }
            }
        }
    }
}

fn grants(now: &[Now]) -> Markup {
    let all: Vec<_> = now.iter().flat_map(|now| now.grants.iter().map(move |grant| (now, grant))).collect();
    html! {
        @if all.is_empty() { (nothing("Nobody holds a grant.")) } @else {
            div.scroll tabindex="0" role="region" aria-label="Grants in force" {
                table {
                    thead { tr { th scope="col" { "Person" } th scope="col" { "Host" } th scope="col" { "Account" } th scope="col" { "Until" } th scope="col" { "Grant" } th scope="col" { "Why" } } }
                    tbody { @for (now, grant) in all { tr {
                        td { (link_any("people", grant.person.as_deref())) } td { (link("hosts", &now.state.host)) } td { bdi { (grant.account.as_deref().unwrap_or("—")) } }
                        td.moment { (when_any(grant.expires)) } td { (grant_link(&now.state.host, &grant.grant)) } td.says { bdi { (grant.why.as_deref().unwrap_or("—")) } }
                    } } }
                }
            }
        }
    }
}

fn sessions(now: &[Now]) -> Markup {
    let all: Vec<_> = now.iter().flat_map(|now| now.sessions.iter().map(move |session| (now, session))).collect();
    html! {
        @if all.is_empty() { (nothing("Nobody is logged in.")) } @else {
            div.scroll tabindex="0" role="region" aria-label="People logged in" {
                table {
                    thead { tr { th scope="col" { "Person" } th scope="col" { "Host" } th scope="col" { "Account" } th scope="col" { "Since" } th scope="col" { "From" } } }
                    tbody { @for (now, session) in all { tr {
                        td { (link_any("people", session.person.as_deref())) } td { (link("hosts", &now.state.host)) } td { bdi { (session.account.as_deref().unwrap_or("—")) } }
                        td.moment { (when(session.opened)) } td { bdi { (session.source.as_deref().unwrap_or("—")) } }
                    } } }
                }
            }
        }
    }
}
