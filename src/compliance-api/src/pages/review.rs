//! What of a window a person has to look at, and the statement by which they sign that they did.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Html,
};
use jiff::{Timestamp, tz::Offset};
use maud::{Markup, html};
use record::Stack;
use serde_json::{Map, Value};

use super::{
    MOST_RECORDS, Shown, frame, given,
    host::{Now, is_wanted, now, open_ways},
    record as records,
    session::Visitor,
    stated,
    story::{Grant, KINDS, Session, Story, What},
    timeline::windows,
    words::{grant_link, link, link_any, nothing, record_link, when_any},
};
use crate::{
    App,
    problem::Problem,
    read::{
        Standing,
        hosts::{self, HostStanding},
        params,
        seen::{Seen, seen},
    },
    review::NAMESPACE,
    store::standings::Wanted,
};

/// Failures that are one flood, at least.
const FLOOD: u64 = 10;
/// Hosts that are looked at.
const MOST_HOSTS: u32 = 500;
/// The hours of a day, in UTC, at which people are expected to work.
const DAY: std::ops::Range<i8> = 6..20;
/// What else is looked at.
const OTHERS: &[&str] =
    &["removal.failed", "journal.gap", "ship.dropped", "clock.stepped", "mode.changed", "config.refused"];

/// The page of a review.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let (selection, drawn) = shown.selection(&visitor)?;
    let about = [("stack", given(&shown.stack)), ("from", given(&shown.from)), ("to", given(&shown.to))];
    stated(&app, &visitor, "review", &about).await?;
    let kinds: Vec<&str> = KINDS.iter().chain(OTHERS).copied().collect();
    let selection = selection.kinds(&kinds);
    let (auditor, limits, asked) =
        (visitor.auditor.clone(), app.config.limits.clone(), given(&shown.stack).map(str::to_owned));
    let stack = auditor.stack(params::name(asked.as_deref())?)?;
    let read = app.store.readers().run(move |tx| {
        let (all, more) = seen(tx, &selection, MOST_RECORDS, |_| true)?;
        let wanted = Wanted { host: None, stack: stack.clone(), after: None, most: MOST_HOSTS };
        let (hosts, _) = hosts::page(tx, &wanted, &limits, Timestamp::now())?;
        let now = now(tx, &auditor, stack.as_ref().map(Stack::as_str))?;
        Ok((all, more, hosts, now))
    });
    let (all, more, hosts, now) = read.await?;
    let story = Story::of(&all);
    let stack = visitor.auditor.0.token.stack.as_ref().map(|stack| stack.as_str()).or(given(&shown.stack));
    let body = html! {
        h1 { "Review" }
        p.lead { "What of this time somebody has to look at. Go through it, then sign that you did: your signature is evidence for activity review." }
        (windows(drawn))
        (records::cut_short(more))
        (standing(&hosts, &now))
        (exceptions(&story, &all))
        h2 { "Sign" }
        (to_sign(drawn.from, drawn.to.min(drawn.now), stack))
    };
    Ok(frame::page("Review", Some(&visitor), "/review", &body))
}

fn exceptions(story: &Story, all: &[Seen]) -> Markup {
    let events = |what: What| story.events.iter().filter(move |event| event.what == what);
    let of = |kinds: &[&str], least: u64| -> Vec<Seen> {
        all.iter().filter(|r| kinds.contains(&r.kind.as_str()) && r.count() >= least).cloned().collect()
    };
    let unused: Vec<&Grant> = story.unused().collect();
    let odd: Vec<&Session> = story.sessions.iter().filter(|s| s.opened.is_some_and(is_odd)).collect();
    let (emergencies, removed) = (events(What::Emergency).count(), events(What::KeyRemoved).count());
    html! {
        (part("Emergency logins", emergencies, "to accounts that no lockdown closes", &records::table(&of(&["emergency.login"], 0), "None.")))
        (part("Keys removed", removed, "that no grant backed", &records::table(&of(&["key.removed", "removal.failed"], 0), "None.")))
        @let floods = of(&["login.failed", "session.refused"], FLOOD);
        (part("Floods of failures", floods.len(), "ten or more within a minute", &records::table(&floods, "None.")))
        (part("Grants without use", unused.len(), "somebody could get in, and nobody did", &unused_grants(&unused)))
        (part("Sessions at odd hours", odd.len(), "opened before 06:00 or after 20:00 UTC, or on a weekend", &odd_sessions(&odd)))
        @let others = of(OTHERS, 0);
        (part("Gaps and changes", others.len(), "what could not be read or kept; clocks, modes and configurations", &records::table(&others, "None.")))
    }
}

/// What is so now: a review of an earlier time has to know of it too.
fn standing(hosts: &[HostStanding], now: &[Now]) -> Markup {
    let silent: Vec<_> = hosts.iter().filter(|h| matches!(h.state, Standing::Silent | Standing::TailUnknown)).collect();
    let ways = |now: &Now| open_ways(&now.state).iter().filter(|way| !is_wanted(way)).count();
    let open: Vec<_> = now.iter().map(|now| (&now.state.host, ways(now))).filter(|(_, count)| *count > 0).collect();
    let quiet = html! {
        @if silent.is_empty() { (nothing("None.")) }
        ul.plain { @for host in &silent { li { (link("hosts", &host.host)) ": " (host.says) } } }
    };
    let ways = html! {
        @if open.is_empty() { (nothing("None.")) }
        ul.plain { @for (host, count) in &open { li { (link("hosts", host)) ": " (count) ", each with the line that closes it" } } }
    };
    html! {
        (part("Silent hosts", silent.len(), "that should have been heard of by now", &quiet))
        (part("Hosts with open ways in", open.len(), "by which a login succeeds without a grant, now", &ways))
    }
}

fn is_odd(at: Timestamp) -> bool {
    let at = Offset::UTC.to_datetime(at);
    !DAY.contains(&at.hour()) || at.weekday().to_monday_zero_offset() > 4
}

fn part(name: &str, count: usize, says: &str, body: &Markup) -> Markup {
    html! {
        details.part open[count > 0] {
            summary { b { (name) } " " span.count { (count) } " " span.hint { (says) } }
            (body)
        }
    }
}

fn unused_grants(grants: &[&Grant]) -> Markup {
    html! {
        @if grants.is_empty() { (nothing("None.")) }
        ul.plain { @for grant in grants.iter().rev().take(super::MOST_ROWS) { li {
            (link_any("people", grant.person.as_deref())) " on " (link("hosts", &grant.host)) ", " (when_any(grant.starts)) " to " (when_any(grant.until()))
            " · " (grant_link(&grant.host, &grant.id)) @if let Some(why) = &grant.why { " · " bdi { (why) } }
        } } }
    }
}

fn odd_sessions(sessions: &[&Session]) -> Markup {
    html! {
        @if sessions.is_empty() { (nothing("None.")) }
        ul.plain { @for session in sessions.iter().rev().take(super::MOST_ROWS) { li {
            (when_any(session.opened)) ": " (link_any("people", session.person.as_deref())) " on " (link("hosts", &session.host))
            @if let Some(by) = &session.record { " · " (record_link(&by.ledger, by.seq)) }
        } } }
    }
}

/// The very bytes to sign, but for whoever signs and when, and how.
fn to_sign(from: Timestamp, to: Timestamp, stack: Option<&str>) -> Markup {
    let mut fields = Map::new();
    fields.insert("v".to_owned(), 1.into());
    fields.insert("from".to_owned(), format!("{from:.0}").into());
    fields.insert("to".to_owned(), format!("{to:.0}").into());
    if let Some(stack) = stack {
        fields.insert("stack".to_owned(), stack.into());
    }
    let fixed = Value::Object(fields).to_string();
    html! {
        p { "The statement is one JSON object that you sign with your own SSH key, which an admin has registered for you. Put your name, what you looked at and what you found into these lines:" }
        pre.bytes tabindex="0" {
            "me=YOUR-NAME\n"
            "jq -cjnS --arg me \"$me\" --arg time \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\" '" (fixed.replace('\'', "")) " + {person:$me, time:$time,\n"
            "    statement:\"I went through the exceptions of this time\", findings:\"none\"}' > review.json\n"
            "ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n " (NAMESPACE) " review.json\n"
            "jq -cjS --rawfile signature review.json.sig '.signature = $signature' review.json > signed.json\n"
            "jq -n --arg me \"$me\" --arg id \"review-$(date -u +%s)\" --slurpfile data signed.json \\\n"
            "    '[{specversion:\"1.0\", id:$id, source:\"/people/\\($me)\", type:\"review.completed\", data:$data[0]}]' |\n"
            "    jq -cS . | curl -sS --fail-with-body -H 'Content-Type: application/cloudevents-batch+json' \\\n"
            "    --data-binary @- \"$COMPLIANCE_API/v1/artifacts\""
        }
        p.hint { "Once it is posted, the page of the requirement for activity review names you and this time." }
    }
}
