//! The judge of each stack, as hosts have one: kept in the store with the stack's feed, and in memory while nobody else has
//! changed it there.
//!
//! Nothing is remembered in memory before it is on disk: what a transaction that fails would have changed is gone with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use document::{
    Accepted, Body, Checked, Envelope, Id, Judge, Judged, Kind, Moment, Place, Roster, StackPattern, State, Verdict,
    chain, judge::Kept,
};
use record::{Hash, Stack};

use crate::store::{Error, Tx, documents::Document, feeds::Feed};

/// The most documents that are handed to a stack that is heard of for the first time, rosters aside.
pub(super) const MAX_HANDED_ON: usize = 2_560;
/// The most stacks that have a feed. No more are begun.
pub(super) const MAX_STACKS: usize = 1_024;
/// What stands for a stack where the judge is that of every one.
const EVERY_STACK: &str = "-";

/// The feed that holds what goes into every other one.
pub(super) fn every() -> StackPattern {
    document::ANY.parse().expect("every stack")
}

/// A feed and its judge at a moment.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// Of which stack.
    pub(super) stack: StackPattern,
    /// Moves with every change.
    version: i64,
    /// How many documents it holds.
    pub(super) count: u64,
    /// The head of the chain over their ids.
    pub(super) head: Hash,
    /// Who judges what comes.
    pub(super) judge: Judge,
}

/// Every judge.
#[derive(Debug)]
pub(super) struct Judges {
    settings: Checked,
    remembered: Mutex<BTreeMap<StackPattern, Arc<Standing>>>,
}

impl Judges {
    pub(super) fn new(settings: Checked) -> Self {
        Self { settings, remembered: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &Checked {
        &self.settings
    }

    fn remembered(&self, stack: &StackPattern) -> Option<Arc<Standing>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(stack).cloned()
    }

    /// Keeps in memory what is on disk.
    pub(super) fn remember(&self, all: impl IntoIterator<Item = Arc<Standing>>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        for standing in all {
            let newer = remembered.get(&standing.stack).is_none_or(|known| known.version < standing.version);
            if newer {
                remembered.insert(standing.stack.clone(), standing);
            }
        }
    }

    /// The feed of this stack with its judge, as this transaction has it.
    pub(super) fn of(&self, tx: &mut dyn Tx, stack: &StackPattern) -> Result<Option<Arc<Standing>>, Error> {
        let Some(version) = tx.feed_version(stack)? else { return Ok(None) };
        if let Some(known) = self.remembered(stack).filter(|known| known.version == version) {
            return Ok(Some(known));
        }
        let Some(feed) = tx.feed(stack)? else { return Ok(None) };
        self.load(tx, feed).map(Arc::new).map(Some)
    }

    /// The same outside of a transaction that writes: what it finds is on disk, and is remembered.
    pub(super) fn read(&self, tx: &mut dyn Tx, stack: &StackPattern) -> Result<Option<Arc<Standing>>, Error> {
        let found = self.of(tx, stack)?;
        self.remember(found.clone());
        Ok(found)
    }

    fn load(&self, tx: &mut dyn Tx, feed: Feed) -> Result<Standing, Error> {
        let state: State = serde_json::from_str(&feed.state).map_err(|why| {
            Error::Unsound(format!("the state of the feed of {}, which cannot be read: {why}", feed.stack))
        })?;
        let rosters = Kept { signed: envelope(tx, feed.signed)?, automatic: envelope(tx, feed.automatic)? };
        let now = Moment::of(tx.now());
        let (mut judge, dropped) = Judge::load(self.settings.clone(), place(&feed.stack), state, rosters, now);
        for what in dropped {
            tracing::warn!(stack = feed.stack.as_str(), "{what}");
        }
        self.share(&mut judge);
        Ok(Standing { stack: feed.stack, version: feed.version, count: feed.count, head: feed.head, judge })
    }

    /// Has this judge share the roster in memory.
    fn share(&self, judge: &mut Judge) {
        if let Some(base) = self.remembered(&every()) {
            judge.share_roster(&base.judge);
        }
    }

    /// The feed of this stack, to be changed: as it is, or, where the stack is heard of for the first time, with what every
    /// stack has.
    pub(super) fn open(&self, tx: &mut dyn Tx, stack: &StackPattern) -> Result<Draft, Error> {
        if let Some(standing) = self.of(tx, stack)? {
            return Ok(Draft { standing: (*standing).clone(), joined: Vec::new() });
        }
        let now = Moment::of(tx.now());
        let judge = Judge::begin(self.settings.clone(), place(stack), now);
        let standing = Standing { stack: stack.clone(), version: 0, count: 0, head: Hash::ZERO, judge };
        let mut draft = Draft { standing, joined: Vec::new() };
        if stack.is_any() {
            return Ok(draft);
        }
        if let Some(base) = self.of(tx, &every())? {
            for envelope in handed_on(tx, &base)? {
                // What every stack's judge has taken, this one takes or has no use for.
                let _ = draft.judge(&envelope, now);
            }
            draft.standing.judge.share_roster(&base.judge);
        }
        Ok(draft)
    }

    /// Every stack that has a feed, that hosts are in, or that the roster in force names, in order.
    pub(super) fn stacks(&self, tx: &mut dyn Tx) -> Result<Vec<StackPattern>, Error> {
        let base = self.of(tx, &every())?;
        let named = base.iter().filter_map(|base| base.judge.roster()).flat_map(named_by).collect();
        self.stacks_and(tx, named)
    }

    /// The same, with these.
    pub(super) fn stacks_and(&self, tx: &mut dyn Tx, named: Vec<StackPattern>) -> Result<Vec<StackPattern>, Error> {
        let feeds: Vec<StackPattern> = tx.feed_counts()?.into_iter().map(|(stack, _)| stack).collect();
        let hosts = tx.stacks_of_hosts(MAX_STACKS)?;
        let others = hosts.iter().map(StackPattern::from).chain(named);
        let mut all = feeds.clone();
        // Those that have a feed stay; of others as many as there is room for.
        for stack in others.filter(|stack| !stack.is_any()) {
            if all.len() < MAX_STACKS && !all.contains(&stack) {
                all.push(stack);
            }
        }
        all.retain(|stack| !stack.is_any());
        all.sort();
        Ok(all)
    }
}

/// The stacks that a roster names.
pub(super) fn named_by(roster: &Roster) -> impl Iterator<Item = StackPattern> + '_ {
    let people = roster.people.iter().flat_map(|member| member.accounts.keys());
    let approvers = roster.approvers.iter().flat_map(|approver| &approver.stacks);
    people.chain(approvers).chain(roster.rules.iter().map(|rule| &rule.stack)).filter(|stack| !stack.is_any()).cloned()
}

/// How many rosters back it is looked for the one by which something that closes was taken.
const MAX_ROSTERS_BACK: usize = 64;

/// What a stack that is heard of later begins with: rosters, and what closes everywhere.
fn handed_on(tx: &mut dyn Tx, base: &Standing) -> Result<Vec<Envelope>, Error> {
    let mattering = mattering(tx, base)?;
    let closing = mattering.iter().map(|document| Ok((document.id, parse(&document.envelope)?)));
    with_rosters(tx, base, closing.collect::<Result<_, Error>>()?)
}

/// What has to be known still of a feed, in its order; and first the lockdowns that the rosters in force name in `holds`, with their
/// lifts, for as long as they do: nothing opens on a host that does not know them.
pub(super) fn mattering(tx: &mut dyn Tx, standing: &Standing) -> Result<Vec<Document>, Error> {
    let all = tx.feed_mattering(&standing.stack, MAX_HANDED_ON)?;
    let there: BTreeSet<Id> = all.iter().map(|document| document.id).collect();
    let holds = standing.judge.roster().map(|roster| roster.holds.clone()).unwrap_or_default();
    let mut named = Vec::new();
    for hold in holds {
        let lift = tx.document_about(Kind::Lift, hold)?;
        for id in [Some(hold), lift].into_iter().flatten().filter(|id| !there.contains(id)) {
            named.extend(tx.document(id)?.filter(|document| !document.pending));
        }
    }
    named.extend(all);
    Ok(named)
}

/// What closes, and the rosters that it takes, for a host that knows nothing: each roster, and what it knows the signers of, before
/// the next one that may not.
pub(super) fn with_rosters(
    tx: &mut dyn Tx,
    standing: &Standing,
    closing: Vec<(Id, Envelope)>,
) -> Result<Vec<Envelope>, Error> {
    let rosters = rosters(tx, standing, &closing)?;
    let mut left: Vec<Envelope> = closing.into_iter().map(|(_, envelope)| envelope).collect();
    let mut all = Vec::new();
    for roster in rosters {
        all.push(roster.clone());
        let is_taken =
            |envelope: &mut Envelope| is_taken_by(standing, std::slice::from_ref(&roster), envelope, super::now(tx));
        all.extend(left.extract_if(.., is_taken));
    }
    all.append(&mut left);
    Ok(all)
}

/// Whether nobody who signed this closes anything by the rosters in force any more: a host that has these, and did not hear it in
/// time, never takes it.
pub(super) fn has_left(tx: &mut dyn Tx, standing: &Standing, closing: &Envelope) -> bool {
    let rosters = standing.judge.rosters();
    let in_force: Vec<Envelope> = rosters.signed.iter().chain(&rosters.automatic).cloned().collect();
    !is_taken_by(standing, &in_force, closing, super::now(tx))
}

/// The rosters that a beginning takes: those in force, the signed one before the automatic one; and before them those by which
/// something that closes was taken whose signer has left since. Oldest first.
fn rosters(tx: &mut dyn Tx, standing: &Standing, closing: &[(Id, Envelope)]) -> Result<Vec<Envelope>, Error> {
    let now = super::now(tx);
    let in_force = standing.judge.rosters();
    let in_force: Vec<Envelope> = in_force.signed.iter().chain(&in_force.automatic).cloned().collect();
    let mut earlier = BTreeMap::new();
    for (id, envelope) in closing {
        let closes = matches!(envelope.document().kind(), Kind::Revoke | Kind::Lockdown);
        if !closes || is_taken_by(standing, &in_force, envelope, now) {
            continue;
        }
        for document in tx.feed_rosters_before(&standing.stack, *id, MAX_ROSTERS_BACK)? {
            let roster = parse(&document.envelope)?;
            if is_taken_by(standing, std::slice::from_ref(&roster), envelope, now) {
                let Body::Roster(body) = roster.document().body() else { break };
                earlier.insert(body.version, roster);
                break;
            }
        }
    }
    Ok(earlier.into_values().chain(in_force).collect())
}

/// Whether a host that has these rosters, and nothing else, takes a document.
fn is_taken_by(standing: &Standing, rosters: &[Envelope], envelope: &Envelope, now: Moment) -> bool {
    let mut judge = Judge::begin(standing.judge.settings().clone(), standing.judge.place().clone(), now);
    for roster in rosters {
        let _ = judge.judge(roster, now);
    }
    matches!(judge.judge(envelope, now).verdict, Verdict::Accepted(_))
}

fn place(stack: &StackPattern) -> Place {
    let stack: Stack = stack.as_str().parse().unwrap_or_else(|_| EVERY_STACK.parse().expect("a stack's name"));
    Place { host: None, stack, people: BTreeMap::new() }
}

fn envelope(tx: &mut dyn Tx, id: Option<Id>) -> Result<Option<Envelope>, Error> {
    let Some(id) = id else { return Ok(None) };
    let document = tx.document(id)?.ok_or_else(|| Error::Unsound(format!("a feed without its roster {id}")))?;
    parse(&document.envelope).map(Some)
}

/// An envelope from the store.
pub(super) fn parse(text: &str) -> Result<Envelope, Error> {
    Envelope::parse(text.as_bytes()).map_err(|why| Error::Unsound(format!("a document that is none: {why}")))
}

/// A feed that is being changed.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) standing: Standing,
    joined: Vec<Id>,
}

impl Draft {
    /// Judges a document. What is accepted joins the feed.
    pub(super) fn judge(&mut self, envelope: &Envelope, now: Moment) -> Judged {
        let judged = self.standing.judge.judge(envelope, now);
        if let Verdict::Accepted(accepted) = &judged.verdict {
            debug_assert!(!matches!(accepted, Accepted::Grant(_)) || !self.standing.stack.is_any());
            self.join(judged.id);
        }
        judged
    }

    /// Whether this roster would be taken, and names lockdowns in `holds` that the feed does not have.
    pub(super) fn lacks_holds(&self, envelope: &Envelope, roster: &Roster, now: Moment) -> bool {
        let judge = &self.standing.judge;
        roster.holds.iter().any(|hold| !judge.knows_hold(*hold))
            && matches!(judge.clone().judge(envelope, now).verdict, Verdict::Accepted(_))
    }

    /// The lockdowns that a roster names in `holds`, with their lifts, join the feed where it does not have them: one of another
    /// stack holds nobody here, and nothing opens on a host that does not know it. One that is not there at all, if any.
    pub(super) fn bring_holds(&mut self, tx: &mut dyn Tx, roster: &Roster, now: Moment) -> Result<Option<Id>, Error> {
        for hold in &roster.holds {
            if self.standing.judge.knows_hold(*hold) {
                continue;
            }
            let Some(document) = tx.document(*hold)?.filter(|document| !document.pending) else {
                return Ok(Some(*hold));
            };
            let _ = self.judge(&parse(&document.envelope)?, now);
            if let Some(lift) = tx.document_about(Kind::Lift, *hold)?
                && let Some(lift) = tx.document(lift)?
            {
                let _ = self.judge(&parse(&lift.envelope)?, now);
            }
        }
        Ok(None)
    }

    /// A document joins the feed.
    pub(super) fn join(&mut self, id: Id) {
        self.standing.head = chain(self.standing.head, id);
        self.standing.count += 1;
        self.joined.push(id);
    }

    /// Keeps it, in this transaction. To be remembered once that is on disk.
    pub(super) fn keep(mut self, tx: &mut dyn Tx) -> Result<Arc<Standing>, Error> {
        self.standing.version += 1;
        let standing = self.standing;
        let rosters = standing.judge.rosters();
        let id = |envelope: &Option<Envelope>| envelope.as_ref().map(|envelope| envelope.document().id());
        let state = serde_json::to_string(standing.judge.state())
            .map_err(|why| Error::Unsound(format!("a state that cannot be written: {why}")))?;
        let feed = Feed {
            stack: standing.stack.clone(),
            version: standing.version,
            count: standing.count,
            head: standing.head,
            state,
            signed: id(&rosters.signed),
            automatic: id(&rosters.automatic),
        };
        tx.keep_feed(&standing.judge.settings().organization, &feed, &self.joined)?;
        Ok(Arc::new(standing))
    }
}
