//! Which part of a window people's reviews cover, and which part nobody reviewed.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Window;
use crate::moment::Moment;

/// The most reviews that one answer lists, newest first; more are counted.
pub(super) const MAX_REVIEWS: usize = 200;

/// One review: who, of which window, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewSpan {
    /// Who signed it.
    pub person: String,
    /// From this moment.
    pub from: Timestamp,
    /// Before that one.
    pub to: Timestamp,
    /// When it was signed, as the person says.
    pub signed: Timestamp,
    /// The one stack that it is about, where it is not about all.
    pub stack: Option<String>,
}

/// A stretch of time: from one moment, and before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Span {
    /// From.
    pub from: Moment,
    /// Before.
    pub to: Moment,
}

/// One review in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reviewed {
    /// Who signed it.
    pub person: String,
    /// From this moment.
    pub from: Moment,
    /// Before that one.
    pub to: Moment,
    /// When it was signed, as the person says.
    pub signed: Moment,
    /// The one stack that it is about, where it is not about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// What reviews cover of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Coverage {
    /// Reviews that touch the window, newest first.
    pub reviews: Vec<Reviewed>,
    /// How many are not listed.
    pub more_reviews: u64,
    /// Where the window asked for has both ends: what no review covers. Without ends: the gaps between reviews.
    pub not_reviewed: Vec<Span>,
}

/// What these reviews cover of this window, as of this moment: the future needs no review yet.
pub(super) fn of(reviews: &[ReviewSpan], window: Window, as_of: Timestamp) -> Coverage {
    let end = window.to.map_or(as_of, |to| to.min(as_of));
    let touches =
        |r: &&ReviewSpan| window.from.is_none_or(|from| r.to > from) && window.to.is_none_or(|to| r.from < to);
    let mut inside: Vec<&ReviewSpan> = reviews.iter().filter(touches).collect();
    inside.sort_by_key(|r| r.from);
    let mut not_reviewed = Vec::new();
    let mut covered_to = window.from.or(inside.first().map(|r| r.from));
    for review in &inside {
        let at = covered_to.expect("there is a first review");
        if review.from > at {
            not_reviewed.push(Span { from: Moment(at), to: Moment(review.from.min(end)) });
        }
        covered_to = Some(at.max(review.to));
    }
    if let Some(at) = covered_to.filter(|at| *at < end) {
        not_reviewed.push(Span { from: Moment(at), to: Moment(end) });
    }
    not_reviewed.retain(|gap| gap.from < gap.to);
    inside.sort_by_key(|r| std::cmp::Reverse(r.signed));
    Coverage {
        more_reviews: inside.len().saturating_sub(MAX_REVIEWS) as u64,
        reviews: inside
            .into_iter()
            .take(MAX_REVIEWS)
            .map(|r| Reviewed {
                person: r.person.clone(),
                from: Moment(r.from),
                to: Moment(r.to),
                signed: Moment(r.signed),
                stack: r.stack.clone(),
            })
            .collect(),
        not_reviewed,
    }
}
