//! What judging rests on, read from the store: sources, counts and reviews within a window.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    evidence::{Facts, ReviewSpan, Source, SourceKind, Tally, Window},
    moment::is_clock_off,
    requirements::TypePattern,
    store::{Error, Tx, micros, moment, sources::Chain},
};

/// The most reviews that are read for one answer, newest first.
const MAX_REVIEWS: usize = 10_000;

/// Which facts are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// The types that matter; none for all.
    pub(crate) types: Option<Vec<TypePattern>>,
    /// Only what hosts state as being of this stack, and reviews that are of it or of all. Clients belong to no stack.
    pub(crate) stack: Option<String>,
    /// Within this window.
    pub(crate) window: Window,
    /// Also from ledgers that an admin has yet to approve.
    pub(crate) pending: bool,
    /// How far a time may be from this server's clock.
    pub(crate) clock_ahead: Duration,
}

/// Facts, owned.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) sources: Vec<Source>,
    pub(crate) tallies: Vec<Tally>,
    reviews: Vec<ReviewSpan>,
    window: Window,
}

impl Gathered {
    /// For judging, as of this moment.
    pub(crate) fn facts(&self, now: Timestamp) -> Facts<'_> {
        Facts { sources: &self.sources, tallies: &self.tallies, reviews: &self.reviews, window: self.window, now }
    }
}

/// Reads them.
pub(crate) fn gather(tx: &mut dyn Tx, scope: &Scope) -> Result<Gathered, Error> {
    let (sources, of_ledger) = sources(tx, scope)?;
    let from = scope.window.from.map_or(i64::MIN, micros);
    let to = scope.window.to.map_or(i64::MAX, micros);
    let is_wanted = |word: &str| scope.types.as_ref().is_none_or(|all| all.iter().any(|t| t.matches(word)));
    let stacks = Stacks::of(tx, scope)?;
    let mut all = Vec::new();
    for (row, kind) in tx.types()?.into_iter().filter(|(_, word)| is_wanted(word)) {
        let mut by_source: BTreeMap<(usize, bool), Tally> = BTreeMap::new();
        for (of, found) in tx.tallies(row, from, to)? {
            let Some(source) = of_ledger.get(&of.ledger).copied() else { continue };
            if !stacks.wants(sources[source].kind, of.stack) {
                continue;
            }
            let (first, last) = (moment(found.first)?, moment(found.last)?);
            let clock_off = of.clock_off;
            let one = Tally { kind: kind.clone(), source, count: found.count, clock_off, first, last };
            by_source
                .entry((source, clock_off))
                .and_modify(|t| {
                    (t.count, t.first, t.last) = (t.count + one.count, t.first.min(first), t.last.max(last));
                })
                .or_insert(one);
        }
        all.extend(by_source.into_values());
    }
    let reviews = tx.reviews(scope.stack.as_deref(), from, to, MAX_REVIEWS)?;
    Ok(Gathered { sources, tallies: all, reviews, window: scope.window })
}

/// Which stacks' artifacts are wanted, by their words' rows; none for all.
struct Stacks(Option<(i64, i64)>);

impl Stacks {
    fn of(tx: &mut dyn Tx, scope: &Scope) -> Result<Self, Error> {
        // No artifact has a word that is not there.
        let Some(stack) = &scope.stack else { return Ok(Self(None)) };
        Ok(Self(Some((tx.word(stack)?.unwrap_or(i64::MIN), tx.word("")?.unwrap_or(i64::MIN)))))
    }

    /// What a host states is of the stack that it names there; a review is of one, or of all.
    fn wants(&self, kind: SourceKind, stack: i64) -> bool {
        self.0.is_none_or(|(wanted, none)| stack == wanted || (kind == SourceKind::Person && stack == none))
    }
}

/// Sources, and which chain belongs to which.
fn sources(tx: &mut dyn Tx, scope: &Scope) -> Result<(Vec<Source>, HashMap<i64, usize>), Error> {
    let mut sources: Vec<Source> = Vec::new();
    let (mut of_name, mut of_ledger) = (HashMap::new(), HashMap::new());
    for chain in tx.sources(scope.pending)? {
        let is_host = chain.kind == SourceKind::Host;
        if scope.stack.is_some() && chain.kind == SourceKind::Client {
            continue;
        }
        let at = *of_name.entry((chain.kind, chain.name.clone())).or_insert(sources.len());
        of_ledger.insert(chain.row, at);
        if at == sources.len() {
            sources.push(Source {
                kind: chain.kind,
                name: chain.name.clone(),
                stack: None,
                begun: moment(chain.created)?,
                stopped: None,
                expected: false,
            });
        }
        // The newest chain says where its host is, and whether it stopped. A host is expected of the stack that it was
        // enrolled for, whatever it says of itself, and of the one that it says.
        let source = &mut sources[at];
        let is_of = |stack: &String| chain.stack == *stack || chain.token_stack.as_ref() == Some(stack);
        source.expected = is_host && scope.stack.as_ref().is_none_or(is_of);
        let has_stopped = is_host && chain.last_type == record::ArtifactType::DaemonStopped.as_str();
        source.stopped = if has_stopped { Some(stopped(&chain, scope.clock_ahead)?) } else { None };
        source.stack = is_host.then_some(chain.stack);
    }
    Ok((sources, of_ledger))
}

/// When a chain stopped, as it says; where it says what cannot be, when that was heard.
fn stopped(chain: &Chain, clock_ahead: Duration) -> Result<Timestamp, Error> {
    let (said, heard) = (moment(chain.last_time)?, moment(chain.received)?);
    Ok(if is_clock_off(said, heard, clock_ahead) { heard } else { said })
}
