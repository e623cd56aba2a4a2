//! Artifacts as pages look at them: parsed, of one selection, and so many at most.

use jiff::Timestamp;
use record::{Host, LedgerId, Person, Stack};
use serde_json::{Map, Value};

use super::{
    artifacts::{Found, shown_of},
    cursor::Cursor,
    walk::{Step, Walk},
};
use crate::{
    auth::Auditor,
    evidence::{SourceKind, Window},
    problem::Problem,
    requirements::TypePattern,
    store::{Error, Tx, artifacts::Place, moment},
};

/// Steps that one selection takes at most: what was not looked at by then is said to be missing.
const STEPS: usize = 16;

/// Which artifacts. Its stack and window are those that the reader may read about.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(super) stack: Option<Stack>,
    pub(super) window: Window,
    /// About this person.
    pub(crate) person: Option<Person>,
    /// Stated by this host.
    pub(crate) host: Option<Host>,
    /// In this chain.
    pub(crate) ledger: Option<LedgerId>,
    /// Of these types, and evidence; none for all.
    pub(crate) kinds: Option<Vec<TypePattern>>,
}

impl Selection {
    /// All that this reader may read about, within the window and the stack that are asked for.
    ///
    /// # Errors
    /// 403 for a stack or a window beyond theirs.
    pub(crate) fn of(auditor: &Auditor, stack: Option<Stack>, window: Window) -> Result<Self, Problem> {
        let (stack, window) = (auditor.stack(stack)?, auditor.window(window)?);
        Ok(Self { stack, window, person: None, host: None, ledger: None, kinds: None })
    }

    /// Only these types: `session.*` for all that begin so.
    pub(crate) fn kinds(mut self, words: &[&str]) -> Self {
        self.kinds = Some(words.iter().filter_map(|word| TypePattern::parse(word)).collect());
        self
    }

    /// What of it is within these moments.
    pub(crate) fn within(&self, from: Timestamp, to: Timestamp) -> Self {
        let Window { from: own, to: end } = self.window;
        let window =
            Window { from: Some(own.map_or(from, |own| own.max(from))), to: Some(end.map_or(to, |end| end.min(to))) };
        Self { window, ..self.clone() }
    }
}

/// One artifact.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) ledger: String,
    pub(crate) seq: i64,
    pub(crate) source: SourceKind,
    /// Its source's name: the host's, the client's, the person's.
    pub(crate) name: String,
    pub(crate) stack: String,
    pub(crate) kind: String,
    pub(crate) time: Timestamp,
    pub(crate) received: Timestamp,
    pub(crate) clock_off: bool,
    pub(crate) bytes: String,
    fields: Map<String, Value>,
}

impl Seen {
    fn of(found: &Found<'_>) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(found.bytes).into_owned();
        Ok(Self {
            ledger: found.ledger.to_owned(),
            seq: found.seq,
            source: found.source,
            name: found.name.to_owned(),
            stack: found.stack.to_owned(),
            kind: found.kind.to_owned(),
            time: moment(found.time)?,
            received: moment(found.received)?,
            clock_off: found.is_clock_off(),
            fields: serde_json::from_str(&text).unwrap_or_default(),
            bytes: text,
        })
    }

    /// A member that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// Any member.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A member of `detail`.
    pub(crate) fn detail(&self, name: &str) -> Option<&Value> {
        self.fields.get("detail")?.get(name)
    }

    /// A member of `detail` that is text.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.detail(name)?.as_str()
    }

    /// A member of `detail` that is a moment.
    pub(crate) fn said_at(&self, name: &str) -> Option<Timestamp> {
        self.said(name)?.parse().ok()
    }

    /// The address that it is from.
    pub(crate) fn address(&self) -> Option<&str> {
        self.fields.get("source")?.get("address")?.as_str()
    }

    /// How many it stands for.
    pub(crate) fn count(&self) -> u64 {
        self.detail("count").and_then(Value::as_u64).unwrap_or(1)
    }
}

/// What there is of a selection, in order of time; and whether there may be more.
pub(crate) fn seen(
    tx: &mut dyn Tx,
    selection: &Selection,
    most: usize,
    keep: impl Fn(&Seen) -> bool,
) -> Result<(Vec<Seen>, bool), Error> {
    let Some(walk) = shown_of(tx, selection, None, most)? else { return Ok((Vec::new(), false)) };
    gather(tx, walk, most, keep)
}

/// The record of a chain with this number.
pub(crate) fn one(tx: &mut dyn Tx, selection: &Selection, seq: i64) -> Result<Option<Seen>, Error> {
    let after = Place { at: seq.saturating_sub(1), id: i64::MAX };
    let from = Cursor { newest: i64::MAX, after };
    let Some(mut walk) = shown_of(tx, selection, Some(from), 1)? else { return Ok(None) };
    let mut result = None;
    walk.step(tx, |found| {
        result = Some(Seen::of(found));
        false
    })?;
    Ok(result.transpose()?.filter(|found| found.seq == seq))
}

fn gather(
    tx: &mut dyn Tx,
    mut walk: Walk,
    most: usize,
    keep: impl Fn(&Seen) -> bool,
) -> Result<(Vec<Seen>, bool), Error> {
    let mut all = Vec::new();
    for _ in 0..STEPS {
        let mut failed = None;
        let step = walk.step(tx, |found| {
            match Seen::of(found) {
                Ok(one) if keep(&one) => all.push(one),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none() && all.len() < most
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if step == Step::End {
            return Ok((all, false));
        }
        if all.len() >= most {
            break;
        }
    }
    Ok((all, true))
}
