//! Requirements: what the evidence shows, and what it does not.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::Html,
};
use jiff::Timestamp;
use maud::{Markup, html};
use record::Stack;

use super::{
    Named, Shown, frame, given,
    session::Visitor,
    stated,
    words::{Tone, link, mark, nothing, path_of, span, when, when_any},
};
use crate::{
    App,
    evidence::{RequirementDetail, RowEvidence, SourceKind, Status, judge},
    problem::Problem,
    read::{
        facts::{Gathered, Scope, gather},
        params,
        requirements::READING,
    },
    requirements::{Relation, TypePattern},
};

/// The page of all requirements.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let scope = scope(&app, &visitor, &shown, None)?;
    stated(&app, &visitor, "requirements", &asked(&shown)).await?;
    let gathered = app.store.readers().run(move |tx| gather(tx, &scope)).await?;
    let judging = Arc::clone(&app);
    let judged = tokio::task::spawn_blocking(move || all(&judging, &gathered)).await;
    let judged = judged.map_err(|e| Problem::internal(&e))?;
    let body = html! {
        h1 { "Requirements" }
        p.lead { (READING.replace('`', "")) }
        @for (framework, rows) in &judged {
            h2 { (framework) }
            div.scroll tabindex="0" role="region" aria-label=(framework) {
                table {
                    thead { tr { th scope="col" { "Id" } th scope="col" { "What it asks for" } th scope="col" { "Evidence" } th.number scope="col" { "Artifacts" } th scope="col" { "Latest" } } }
                    tbody { @for one in rows {
                        @let one = &one.summary;
                        tr {
                            td { a.id href=(format!("/requirements/{}", path_of(&one.reference))) { (one.id) } }
                            td.says { b { (one.name) } br; span.hint { (one.text) } }
                            td { (status(one.status)) @if one.stale { br; (mark(Tone::Bad, "stale")) } }
                            td.number { (one.artifacts) } td.moment { (when_any(one.last.map(|last| last.0))) }
                        }
                    } }
                }
            }
        }
    };
    Ok(frame::page("Requirements", Some(&visitor), "/requirements", &body))
}

fn all(app: &App, gathered: &Gathered) -> Vec<(String, Vec<RequirementDetail>)> {
    let facts = gathered.facts(Timestamp::now());
    let frameworks = app.catalog.frameworks().iter().enumerate();
    let of = |at: usize| app.catalog.requirements().iter().filter(move |r| r.framework == at);
    frameworks.map(|(at, f)| (f.name.clone(), of(at).map(|r| judge(&app.catalog, r, &facts)).collect())).collect()
}

/// The page of one requirement.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Named(id): Named<String>,
    Query(shown): Query<Shown>,
) -> Result<Html<String>, Problem> {
    let requirement = app.catalog.find(&id).map_err(|e| Problem::not_found(e.to_string()))?;
    let types = app.catalog.rows_for(requirement).iter().flat_map(|row| row.types.clone()).collect();
    let scope = scope(&app, &visitor, &shown, Some(types))?;
    let reference = app.catalog.reference(requirement);
    let mut about = asked(&shown).to_vec();
    about.push(("requirement", Some(&reference)));
    stated(&app, &visitor, "requirement", &about).await?;
    let gathered = app.store.readers().run(move |tx| gather(tx, &scope)).await?;
    let judged = judge(&app.catalog, requirement, &gathered.facts(Timestamp::now()));
    let title = format!("{} {}", judged.summary.id, judged.summary.name);
    Ok(frame::page(&title, Some(&visitor), "/requirements", &page(&judged)))
}

fn scope(app: &App, visitor: &Visitor, shown: &Shown, types: Option<Vec<TypePattern>>) -> Result<Scope, Problem> {
    let stack: Option<Stack> = visitor.auditor.stack(params::name(given(&shown.stack))?)?;
    Ok(Scope {
        types,
        stack: stack.map(Into::into),
        window: visitor.auditor.window(params::window(given(&shown.from), given(&shown.to))?)?,
        pending: false,
        clock_ahead: app.config.limits.clock_ahead,
    })
}

fn asked(shown: &Shown) -> [(&'static str, Option<&str>); 3] {
    [("stack", given(&shown.stack)), ("from", given(&shown.from)), ("to", given(&shown.to))]
}

fn status(status: Status) -> Markup {
    match status {
        Status::Direct => mark(Tone::Good, "direct"),
        Status::Supporting => mark(Tone::Warn, "supporting"),
        Status::None => mark(Tone::Bad, "none in this time"),
        Status::NoType => mark(Tone::Idle, "kept elsewhere"),
    }
}

fn page(judged: &RequirementDetail) -> Markup {
    let summary = &judged.summary;
    html! {
        p.crumbs { a href="/requirements" { "Requirements" } " · " (judged.edition) }
        h1 { span.id { (summary.id) } " " (summary.name) }
        p.lead { (summary.text) }
        @if let Some(note) = &summary.note { p { (note) } }
        p { (status(summary.status)) @if summary.stale { " " (mark(Tone::Bad, "stale")) } " · " (summary.says) }
        form.window method="get" {
            label for="from" { "From" } input #from type="date" name="from";
            label for="to" { "To" } input #to type="date" name="to";
            button type="submit" { "Show this time" }
        }
        @if judged.evidence.is_empty() { (nothing("No artifact type speaks to this requirement.")) }
        @for row in &judged.evidence { (evidence(row)) }
    }
}

/// How a row bears on its requirement; what is not there is not shown as if it were.
fn bears(direct: bool, is_there: bool) -> Markup {
    match (direct, is_there) {
        (true, true) => mark(Tone::Good, "direct evidence"),
        (false, true) => mark(Tone::Warn, "supporting evidence"),
        (true, false) => mark(Tone::Idle, "would be direct evidence: none in this time"),
        (false, false) => mark(Tone::Idle, "would be supporting evidence: none in this time"),
    }
}

fn evidence(row: &RowEvidence) -> Markup {
    let direct = row.relation == Relation::Satisfies;
    let is_there = row.reviewed.as_ref().map_or(row.artifacts > 0, |reviewed| !reviewed.reviews.is_empty());
    html! {
        article.card {
            h2 { (bears(direct, is_there)) @if row.stale { " " (mark(Tone::Bad, "stale")) } }
            p.hint { @for (n, kind) in row.types.iter().enumerate() { @if n > 0 { ", " } code { (kind) } } }
            div.two {
                section { h3 { "What it shows" } p { (row.scope) } }
                section { h3 { "What it does not show" } p { (row.does_not_show) } }
            }
            p { (row.artifacts) " artifacts" @if row.clockoff > 0 { ", " (row.clockoff) " of them with a clock that was off" }
                ", first " (when_any(row.first.map(|at| at.0))) ", latest " (when_any(row.last.map(|at| at.0))) "."
                @if let Some(expected) = row.expected { " At least one is expected every " (span(expected.every_seconds)) "." } }
            @for proof in &row.proof { p.hint { (proof.source.as_str()) ": " (proof.proof) } }
            @if let Some(reviewed) = &row.reviewed { (reviews(reviewed)) }
            @if !row.sources.is_empty() {
                details {
                    summary { (row.sources.len() as u64 + row.more_sources) " sources" @if row.sources.iter().any(|source| source.stale) { ", some stale" } }
                    ul.plain { @for source in &row.sources { li {
                        @if source.stale { (mark(Tone::Bad, "stale")) " " }
                        @if source.kind == SourceKind::Host { (link("hosts", &source.name)) } @else { (source.kind.as_str()) " " bdi { (source.name) } }
                        ": " (source.artifacts) ", latest " (when_any(source.last.map(|at| at.0)))
                    } } }
                }
            }
        }
    }
}

fn reviews(coverage: &crate::evidence::Coverage) -> Markup {
    html! {
        h3 { "Who reviewed it" }
        @if coverage.reviews.is_empty() { (nothing("Nobody has signed a review of this time.")) }
        ul.plain { @for review in &coverage.reviews { li { (link("people", &review.person)) ": " (when(review.from.0)) " to " (when(review.to.0)) } } }
    }
}
