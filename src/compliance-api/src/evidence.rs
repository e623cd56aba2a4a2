//! Judging: what the stored artifacts say about a requirement, and what they leave open.
//!
//! Pure: counts, sources and moments come in as arguments. It never says that a requirement is met: that is for a person.

mod coverage;
mod source;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use coverage::{Coverage, ReviewSpan, Span};
pub use source::{SourceKind, counts};

use crate::{
    moment::Moment,
    requirements::{Catalog, ExpectedFrom, Kind, Need, Relation, Requirement, Row},
};

/// The most sources that one row of evidence lists; more are counted.
pub const MAX_SOURCES: usize = 1000;
/// The type of a person's signed review.
pub const REVIEW_COMPLETED: &str = "review.completed";

/// One that states things: a host over all its ledgers, a client, a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// Its stack, for a host.
    pub stack: Option<String>,
    /// When its first ledger began.
    pub begun: Timestamp,
    /// When it stopped in good order, if it has.
    pub stopped: Option<Timestamp>,
    /// Whether what has to keep coming is expected from it: a host of the stack that was asked about.
    pub expected: bool,
}

/// One source's artifacts of one type within the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The type.
    pub kind: String,
    /// Which source, by its place among the sources.
    pub source: usize,
    /// How many.
    pub count: u64,
    /// Whether their time was far from this server's clock: they are counted, and their time says nothing.
    pub clock_off: bool,
    /// The earliest, by its own time.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
}

/// From this moment, and before that one; either may be open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// From.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// Everything that a judgement rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Every source that may be counted.
    pub sources: &'a [Source],
    /// Counts within the window.
    pub tallies: &'a [Tally],
    /// Reviews whose windows touch the window.
    pub reviews: &'a [ReviewSpan],
    /// The window.
    pub window: Window,
    /// The moment of asking.
    pub now: Timestamp,
}

impl Facts<'_> {
    /// The moment as of which freshness is judged: the window's end, or now.
    fn as_of(&self) -> Timestamp {
        self.window.to.map_or(self.now, |to| to.min(self.now))
    }
}

/// What there is for a requirement, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Direct evidence that the safeguard operated, within the scopes given with it.
    Direct,
    /// Supporting evidence alone.
    Supporting,
    /// None in this window, though there are types that would say something.
    None,
    /// No artifact type speaks to this requirement: its evidence has to be kept elsewhere.
    NoType,
}

impl Status {
    fn sentence(self) -> &'static str {
        match self {
            Self::Direct => {
                "There is direct evidence that the safeguard operated, within the scopes given with it. Whether the \
                 requirement is met is for a person to judge."
            }
            Self::Supporting => {
                "There is supporting evidence alone: it helps to show that the requirement is met, beside other evidence."
            }
            Self::None => {
                "There is no evidence in this window. Artifacts of the types listed would say something about it."
            }
            Self::NoType => "No artifact type speaks to this requirement: its evidence has to be kept elsewhere.",
        }
    }
}

/// One requirement and what there is for it, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RequirementSummary {
    /// Its id in its framework.
    #[schema(example = "164.312(a)(2)(i)")]
    pub id: String,
    /// Its full reference: the framework's prefix and its id.
    #[schema(example = "45-cfr-164.312(a)(2)(i)")]
    pub reference: String,
    /// Its framework's id.
    #[schema(example = "hipaa")]
    pub framework: String,
    /// Its name.
    pub name: String,
    /// What it is called in its framework.
    pub kind: Kind,
    /// The id of the standard or control it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// How binding it is, where its framework says; a standard that is met by its specifications has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// What it asks for, in our own words.
    pub text: String,
    /// What a reader has to know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What there is.
    pub status: Status,
    /// The same in a sentence.
    pub says: String,
    /// Whether something that has to keep coming has not come in time.
    pub stale: bool,
    /// How many artifacts bear on it.
    pub artifacts: u64,
    /// How many of them carry a time far from this server's clock. Their times count for nothing: not for `first`, `last`
    /// and `stale`.
    pub clockoff: u64,
    /// The time of the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Moment>,
    /// The time of the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Moment>,
    /// How many hosts they are from.
    pub hosts: u64,
    /// How many clients.
    pub clients: u64,
    /// How many people.
    pub people: u64,
}

/// One requirement and everything there is for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RequirementDetail {
    /// In short.
    #[serde(flatten)]
    pub summary: RequirementSummary,
    /// Which edition of the framework this is.
    pub edition: String,
    /// One for each thing that artifacts say about it, direct evidence first.
    pub evidence: Vec<RowEvidence>,
}

/// What artifacts of some types say about a requirement, and which there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RowEvidence {
    /// The types; `.*` at the end stands for all that begin so.
    pub types: Vec<String>,
    /// How they bear on the requirement.
    pub relation: Relation,
    /// Within what bounds.
    pub scope: String,
    /// What they leave open.
    pub does_not_show: String,
    /// What proves them, for each kind of source that there is.
    pub proof: Vec<Proof>,
    /// How often they have to come, if they do: otherwise they come as things happen, and none may be a good sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expectation>,
    /// Whether they have not come in time.
    pub stale: bool,
    /// How many there are.
    pub artifacts: u64,
    /// How many of them carry a time far from this server's clock. Their times count for nothing: not for `first`, `last`
    /// and `stale`.
    pub clockoff: u64,
    /// The time of the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Moment>,
    /// The time of the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Moment>,
    /// The same by type.
    pub by_type: Vec<TypeCount>,
    /// The same by source; hosts from which they should have come and have not are listed with none.
    pub sources: Vec<SourceEvidence>,
    /// How many sources are not listed.
    pub more_sources: u64,
    /// For reviews: what they cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<Coverage>,
}

/// What proves the artifacts of one kind of source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Proof {
    /// The kind of source.
    pub source: SourceKind,
    /// What proves them.
    pub proof: String,
}

/// How often artifacts have to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Expectation {
    /// At least one in so many seconds.
    pub every_seconds: i64,
    /// From whom.
    pub from: ExpectedFrom,
}

/// How many artifacts of one type there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TypeCount {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many.
    pub artifacts: u64,
    /// The time of the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Moment>,
    /// The time of the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Moment>,
}

/// What one source stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceEvidence {
    /// What it is.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// Its stack, for a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Whether something that has to keep coming from it has not come in time.
    pub stale: bool,
    /// How many.
    pub artifacts: u64,
    /// The time of the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Moment>,
    /// The time of the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Moment>,
}

/// Judges one requirement.
#[must_use]
pub fn judge(catalog: &Catalog, requirement: &Requirement, facts: &Facts<'_>) -> RequirementDetail {
    let rows = catalog.rows_for(requirement);
    let evidence: Vec<RowEvidence> = rows.iter().map(|row| judge_row(row, facts)).collect();
    let is_there = |relation| evidence.iter().any(|e| e.relation == relation && e.is_there());
    let status = match () {
        () if rows.is_empty() => Status::NoType,
        () if is_there(Relation::Satisfies) => Status::Direct,
        () if is_there(Relation::Supports) => Status::Supporting,
        () => Status::None,
    };
    // A type stands in one row for each relation, but patterns of different rows may overlap: count each artifact once.
    let mut all = Sum::default();
    let mut seen = std::collections::BTreeSet::new();
    for tally in facts.tallies.iter().filter(|t| bears(t, facts) && rows.iter().any(|r| matches(r, &t.kind))) {
        all.add(tally);
        seen.insert(tally.source);
    }
    let number = |kind| seen.iter().filter(|s| facts.sources[**s].kind == kind).count() as u64;
    let summary = RequirementSummary {
        id: requirement.id.clone(),
        reference: catalog.reference(requirement),
        framework: catalog.framework_of(requirement).id.clone(),
        name: requirement.name.clone(),
        kind: requirement.kind,
        part_of: requirement.part_of.clone(),
        need: requirement.need,
        text: requirement.text.clone(),
        note: requirement.note.clone(),
        status,
        says: status.sentence().to_owned(),
        stale: evidence.iter().any(|e| e.stale),
        artifacts: all.count,
        clockoff: all.clock_off,
        first: all.first.map(Moment),
        last: all.last.map(Moment),
        hosts: number(SourceKind::Host),
        clients: number(SourceKind::Client),
        people: number(SourceKind::Person),
    };
    RequirementDetail { summary, edition: catalog.framework_of(requirement).edition.clone(), evidence }
}

fn matches(row: &Row, kind: &str) -> bool {
    row.types.iter().any(|t| t.matches(kind))
}

fn bears(tally: &Tally, facts: &Facts<'_>) -> bool {
    counts(&tally.kind, facts.sources[tally.source].kind)
}

impl RowEvidence {
    /// A review is evidence for the window that it names, whenever it was posted.
    fn is_there(&self) -> bool {
        match &self.reviewed {
            Some(coverage) => !coverage.reviews.is_empty(),
            None => self.artifacts > 0,
        }
    }
}

/// A count with its first and last moment.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    count: u64,
    clock_off: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Sum {
    fn add(&mut self, tally: &Tally) {
        self.count += tally.count;
        if tally.clock_off {
            self.clock_off += tally.count;
            return;
        }
        self.first = Some(self.first.map_or(tally.first, |f| f.min(tally.first)));
        self.last = self.last.max(Some(tally.last));
    }
}

fn judge_row(row: &Row, facts: &Facts<'_>) -> RowEvidence {
    let mut all = Sum::default();
    let mut by_type: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut by_source: BTreeMap<usize, Sum> = BTreeMap::new();
    for tally in facts.tallies.iter().filter(|t| matches(row, &t.kind) && bears(t, facts)) {
        all.add(tally);
        by_type.entry(&tally.kind).or_default().add(tally);
        by_source.entry(tally.source).or_default().add(tally);
    }
    let each_host = row.expected.filter(|e| e.from == ExpectedFrom::EachHost);
    if each_host.is_some() {
        for (at, _) in facts.sources.iter().enumerate().filter(|(_, s)| is_running(s, facts.as_of())) {
            by_source.entry(at).or_default();
        }
    }
    let mut sources: Vec<SourceEvidence> = by_source
        .iter()
        .map(|(at, span)| {
            let source = &facts.sources[*at];
            let due = each_host.filter(|_| is_running(source, facts.as_of())).map(|e| e.every);
            source_evidence(
                source,
                span,
                due.is_some_and(|every| is_late(Some(span.last.unwrap_or(source.begun)), every, facts)),
            )
        })
        .collect();
    sources.sort_by(|a, b| (!a.stale, a.kind, &a.name).cmp(&(!b.stale, b.kind, &b.name)));
    let stale = match row.expected {
        None => false,
        Some(e) if e.from == ExpectedFrom::Anyone => is_late(all.last, e.every, facts),
        Some(_) => sources.iter().any(|s| s.stale),
    };
    let reviewed = row.types.iter().any(|t| t.as_str() == REVIEW_COMPLETED);
    let mut kinds: Vec<SourceKind> = sources.iter().filter(|s| s.artifacts > 0).map(|s| s.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let more_sources = sources.len().saturating_sub(MAX_SOURCES) as u64;
    sources.truncate(MAX_SOURCES);
    RowEvidence {
        types: row.types.iter().map(|t| t.as_str().to_owned()).collect(),
        relation: row.relation,
        scope: row.scope.clone(),
        does_not_show: row.does_not_show.clone(),
        proof: kinds.into_iter().map(|source| Proof { source, proof: source.proof().to_owned() }).collect(),
        expected: row.expected.map(|e| Expectation { every_seconds: e.every.as_secs(), from: e.from }),
        stale,
        artifacts: all.count,
        clockoff: all.clock_off,
        first: all.first.map(Moment),
        last: all.last.map(Moment),
        by_type: by_type.into_iter().map(|(kind, span)| type_count(kind, &span)).collect(),
        sources,
        more_sources,
        reviewed: reviewed.then(|| coverage::of(facts.reviews, facts.window, facts.as_of())),
    }
}

/// Whether this host ran at that moment, as far as it said.
fn is_running(source: &Source, at: Timestamp) -> bool {
    source.kind == SourceKind::Host
        && source.expected
        && source.begun <= at
        && source.stopped.is_none_or(|stopped| stopped > at)
}

fn is_late(last: Option<Timestamp>, every: jiff::SignedDuration, facts: &Facts<'_>) -> bool {
    last.is_none_or(|last| facts.as_of().duration_since(last) > every)
}

fn type_count(kind: &str, span: &Sum) -> TypeCount {
    TypeCount {
        kind: kind.to_owned(),
        artifacts: span.count,
        first: span.first.map(Moment),
        last: span.last.map(Moment),
    }
}

fn source_evidence(source: &Source, span: &Sum, stale: bool) -> SourceEvidence {
    SourceEvidence {
        kind: source.kind,
        name: source.name.clone(),
        stack: source.stack.clone(),
        stale,
        artifacts: span.count,
        first: span.first.map(Moment),
        last: span.last.map(Moment),
    }
}

#[cfg(test)]
mod tests;
