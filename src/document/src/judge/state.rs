//! What a host remembers of documents: kept on disk, and bounded in every table.
//!
//! Whatever is forgotten leaves a moment behind from which on it cannot matter: forgetting never opens.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use record::{Person, Stack};
use serde::{Deserialize, Serialize};

use super::closed::{Closed, SaidBefore, Taken};
use crate::{
    Grant, Id, Lockdown, MAX_ACCEPTANCE, Moment, Organization, Source, Version,
    kind::V1,
    roster::{MAX_FEEDERS, same_person},
};

/// By how much the clocks of those who sign and those who judge may differ.
pub const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// How long a lockdown without a hold refuses grants that do not name it, by the host's clock.
pub const LOCKDOWN_REFUSES: Duration = Duration::from_secs(24 * 3600 + 120);
/// How long a revoke is kept at least while there is room, by the host's clock.
pub const REVOKE_KEPT: Duration = Duration::from_secs(32 * 24 * 3600);
/// The most accepted grants that are remembered.
pub const MAX_REMEMBERED: usize = 4_096;
/// The most revokes that are remembered.
pub const MAX_REVOKES: usize = 4_096;
/// The most lockdowns without a hold that are remembered.
pub const MAX_LOCKDOWNS: usize = 1_024;
/// The most holds of approvers that are remembered one by one. More hold everything.
pub const MAX_HOLDS: usize = 1_024;
/// The most holds of one source's feeders that are remembered one by one. More hold everybody of that source.
pub const MAX_FEEDER_HOLDS: usize = 1_024;
/// The same of all feeders together.
pub(super) const MAX_ALL_FEEDER_HOLDS: usize = 4 * MAX_FEEDER_HOLDS;
/// The most lockdowns that are remembered as over.
pub const MAX_SPENT: usize = 4_096;
/// The most keys that one hold remembers of a person; those beyond are held by the person's name.
pub const MAX_HELD_KEYS: usize = 128;

/// What a host remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    v: V1,
    pub(super) organization: Organization,
    pub(super) stack: Stack,
    /// When it began, or began anew.
    pub(super) began: Moment,
    /// Grants with an `accept_until` up to this may have been accepted and forgotten.
    pub(super) forgotten_until: Moment,
    /// Grants from before this may have been closed by something that is forgotten.
    pub(super) closed_before: Moment,
    /// The last lockdown by the host alone: its schedule, or its operator.
    pub(super) local_lockdown: Option<Moment>,
    /// Accepted grants, each with its `accept_until`.
    pub(super) accepted: BTreeMap<Id, Moment>,
    /// Grants that end, or never begin, each with when that was taken.
    pub(super) revoked: BTreeMap<Id, Taken>,
    pub(super) lockdowns: BTreeMap<Id, Closed>,
    /// Lockdowns that were lifted or are over, oldest first: they do not close again.
    pub(super) spent: VecDeque<Id>,
    /// More holds came than can be kept: all is held until a roster that was issued after this.
    pub(super) too_many_holds: Option<Moment>,
    /// The same of feeders: everybody of their source is held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) too_many_of: BTreeMap<Source, Moment>,
    /// Holds that came beyond what can be kept, oldest first: they are not taken again while all of theirs is held anyway.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) beyond: VecDeque<Id>,
    /// Holds that hold nobody here, oldest first: a feeder's of somebody whom the configuration has, and those of other hosts that
    /// gave way.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) passed: VecDeque<Id>,
    /// Of those, whom a feeder would have held. A carrier may have brought a person's hold with a feeder's signature alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) passed_for: BTreeMap<Id, Person>,
    pub(super) roster: Option<Mark>,
    /// The roster that was in force, where it was not kept: none comes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<Mark>,
}

/// Which roster is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its version.
    pub version: Version,
    /// Its id.
    pub id: Id,
}

impl State {
    /// The state of a host that remembers nothing: a new one, or one whose state is void.
    #[must_use]
    pub fn begin(organization: Organization, stack: Stack, now: Moment) -> Self {
        Self {
            v: V1,
            organization,
            stack,
            began: now,
            forgotten_until: Moment::FIRST,
            closed_before: now.after(CLOCK_SKEW),
            local_lockdown: None,
            accepted: BTreeMap::new(),
            revoked: BTreeMap::new(),
            lockdowns: BTreeMap::new(),
            spent: VecDeque::new(),
            too_many_holds: None,
            too_many_of: BTreeMap::new(),
            beyond: VecDeque::new(),
            passed: VecDeque::new(),
            passed_for: BTreeMap::new(),
            roster: None,
            missing: None,
        }
    }

    /// Goes on in another stack, of which it has seen nothing: grants from before are as unknown as to a new host.
    pub(super) fn move_to(&mut self, stack: Stack, now: Moment) {
        self.stack = stack;
        self.began = now;
        // Its feed begins anew, and each finds its place by where it is now.
        self.beyond.clear();
        self.passed.clear();
        self.passed_for.clear();
        self.close_before(now.after(CLOCK_SKEW));
    }

    /// What is remembered may be of an earlier day: no grant from before now is taken. What closes stays.
    pub fn begin_again(&mut self, now: Moment) {
        self.move_to(self.stack.clone(), now);
    }

    /// Learns what a copy of the same boot has that closes, and the roster that it goes by where that is newer: whether it
    /// is. The disk may not have taken what was in force. What opens is not learned: it comes again.
    pub fn learn_closed(&mut self, copy: &Self) -> bool {
        if (&copy.organization, &copy.stack) != (&self.organization, &self.stack) {
            return false;
        }
        self.closed_before = self.closed_before.max(copy.closed_before);
        self.local_lockdown = self.local_lockdown.max(copy.local_lockdown);
        let version = |state: &Self| state.roster.map(|mark| mark.version);
        let is_newer = version(copy) > version(self);
        if is_newer {
            (self.roster, self.too_many_holds) = (copy.roster, copy.too_many_holds);
        } else if version(copy) == version(self) {
            self.too_many_holds = self.too_many_holds.max(copy.too_many_holds);
        }
        self.missing = self.missing.into_iter().chain(copy.missing).max_by_key(|mark| mark.version);
        for (source, at) in &copy.too_many_of {
            self.too_many_of.entry(source.clone()).or_insert(*at);
        }
        for (grant, taken) in &copy.revoked {
            if !self.revoked.contains_key(grant) {
                self.revoke(*grant, *taken);
            }
        }
        for (id, closed) in &copy.lockdowns {
            if !self.knows(*id) {
                self.lock_down(*id, closed.clone());
            }
        }
        is_newer
    }

    /// The roster in force is missed, or a later one that was in force: none before it is taken.
    pub fn miss_roster(&mut self, mark: Mark) {
        let known = self.roster.take().into_iter().chain(self.missing);
        self.missing = known.chain([mark]).max_by_key(|mark| mark.version);
    }

    /// Whether anything is closed that somebody signed.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        !self.lockdowns.is_empty() || !self.revoked.is_empty() || self.too_many_holds.is_some()
    }

    /// The last lockdown by the host alone.
    #[must_use]
    pub fn local_lockdown(&self) -> Option<Moment> {
        self.local_lockdown
    }

    /// Whose documents it is about.
    #[must_use]
    pub fn organization(&self) -> &Organization {
        &self.organization
    }

    /// Whether each table is within its bound: what was read from disk is used only then.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let holds = self.holds().count();
        let feeders = self.holds().filter(|(_, closed)| closed.source.is_some()).count();
        self.accepted.len() <= MAX_REMEMBERED
            && self.revoked.len() <= MAX_REVOKES
            && holds - feeders <= MAX_HOLDS
            && feeders <= MAX_ALL_FEEDER_HOLDS
            && self.too_many_of.len() <= MAX_FEEDERS
            && self.lockdowns.len() - holds <= MAX_LOCKDOWNS
            && self.spent.len() <= MAX_SPENT
            && self.beyond.len() <= MAX_SPENT
            && self.passed.len() <= MAX_SPENT
            && self.passed_for.len() <= MAX_SPENT
            && self.lockdowns.values().all(|closed| closed.keys.len() <= MAX_HELD_KEYS)
    }

    /// When it began.
    #[must_use]
    pub fn began(&self) -> Moment {
        self.began
    }

    /// Which roster is in force.
    #[must_use]
    pub fn roster(&self) -> Option<Mark> {
        self.roster
    }

    /// The one that was in force and is missed, before which none is taken.
    #[must_use]
    pub fn missing(&self) -> Option<Mark> {
        self.missing
    }

    /// The holds that stand.
    pub fn holds(&self) -> impl Iterator<Item = (&Id, &Closed)> {
        self.lockdowns.iter().filter(|(_, closed)| closed.is_hold())
    }

    /// The lockdowns that refuse grants, holds and lifted ones among them.
    pub fn covering(&self, now: Moment) -> impl Iterator<Item = (&Id, &Closed)> {
        let refuses = move |closed: &Closed| now < closed.lifted.unwrap_or(closed.taken).at.after(LOCKDOWN_REFUSES);
        self.lockdowns.iter().filter(move |(_, closed)| closed.is_hold() || refuses(closed))
    }

    /// Says that the host's clock was ahead and is right now: no moment here stays ahead of it. For root alone, on record;
    /// until then grants from before those moments are refused.
    pub fn clock_was_ahead(&mut self, now: Moment) {
        let latest = now.after(CLOCK_SKEW);
        self.began = self.began.min(now);
        self.closed_before = self.closed_before.min(latest);
        self.forgotten_until = self.forgotten_until.min(latest);
        self.local_lockdown = self.local_lockdown.map(|at| at.min(now));
    }

    /// Notes a lockdown by the host's schedule or operator.
    pub fn lock_down_locally(&mut self, now: Moment) {
        self.local_lockdown = self.local_lockdown.max(Some(now));
    }

    /// Remembers an accepted grant; the caller has asked [`State::has_room_for`].
    pub(super) fn remember(&mut self, id: Id, grant: &Grant) {
        if self.accepted.len() >= MAX_REMEMBERED
            && let Some((first, until)) = self.first_forgotten()
        {
            self.accepted.remove(&first);
            self.forgotten_until = self.forgotten_until.max(until);
        }
        self.accepted.insert(id, grant.accept_until);
    }

    /// Whether a grant can be remembered: a full table forgets the one that can be accepted for the shortest time, and no
    /// grant is taken that would be it.
    pub(super) fn has_room_for(&self, grant: &Grant) -> bool {
        self.accepted.len() < MAX_REMEMBERED
            || self.first_forgotten().is_none_or(|(_, until)| grant.accept_until > until)
    }

    fn first_forgotten(&self) -> Option<(Id, Moment)> {
        self.accepted.iter().map(|(id, until)| (*id, *until)).min_by_key(|(id, until)| (*until, *id))
    }

    /// Remembers a revoke, whether or not its grant is known. There is always room.
    pub(super) fn revoke(&mut self, grant: Id, taken: Taken) {
        if self.revoked.len() >= MAX_REVOKES {
            let oldest =
                self.revoked.iter().min_by_key(|(id, taken)| (taken.at, **id)).map(|(id, taken)| (*id, *taken));
            if let Some((id, oldest)) = oldest {
                self.revoked.remove(&id);
                self.close_before(oldest.covers_until(taken.at));
            }
        }
        self.revoked.insert(grant, taken);
    }

    /// Remembers a lockdown. There is always room.
    pub(super) fn lock_down(&mut self, id: Id, closed: Closed) {
        let now = closed.taken.at;
        if !closed.is_hold() {
            self.make_room_for_lockdown(now);
        } else if !self.has_room_for_hold(&closed) {
            let until = closed.taken.covers_until(now);
            match closed.source {
                // A feeder's key alone holds its own people, however often it signs.
                Some(source) if self.too_many_of.len() < MAX_FEEDERS || self.too_many_of.contains_key(&source) => {
                    let at = self.too_many_of.entry(source).or_insert(until);
                    *at = until.max(*at);
                }
                // One of other hosts closes nothing here; should this host be theirs one day, its feed begins anew.
                None if !closed.is_here(&self.stack) => return self.pass(id, None),
                _ => self.too_many_holds = self.too_many_holds.max(Some(until)),
            }
            push_bounded(&mut self.beyond, id);
            return;
        }
        self.lockdowns.insert(id, closed);
    }

    fn has_room_for_hold(&mut self, closed: &Closed) -> bool {
        let count = |is_it: &dyn Fn(&Closed) -> bool| self.holds().filter(|(_, closed)| is_it(closed)).count();
        if closed.source.is_some() {
            return count(&|other| other.source == closed.source) < MAX_FEEDER_HOLDS
                && count(&|other| other.source.is_some()) < MAX_ALL_FEEDER_HOLDS;
        }
        if count(&|other| other.source.is_none()) < MAX_HOLDS {
            return true;
        }
        let elsewhere = |(_, other): &(&Id, &Closed)| other.source.is_none() && !other.is_here(&self.stack);
        let first = self.holds().find(elsewhere).map(|(id, _)| *id).filter(|_| closed.is_here(&self.stack));
        let Some(first) = first else { return false };
        self.pass(first, None);
        self.lockdowns.remove(&first).is_some()
    }

    /// Ends a lockdown that was lifted. What it ended stays so.
    pub(super) fn lift(&mut self, id: Id, taken: Taken) {
        if self.lockdowns.get(&id).is_some_and(Closed::is_hold) {
            self.make_room_for_lockdown(taken.at);
        }
        if let Some(closed) = self.lockdowns.get_mut(&id) {
            closed.lifted = Some(taken);
        }
    }

    fn make_room_for_lockdown(&mut self, now: Moment) {
        let others = || self.lockdowns.iter().filter(|(_, other)| !other.is_hold());
        if others().count() >= MAX_LOCKDOWNS
            && let Some(oldest) = others().min_by_key(|(id, other)| (other.taken.at, **id)).map(|(id, _)| *id)
        {
            self.forget_lockdown(oldest, now);
        }
    }

    fn forget_lockdown(&mut self, id: Id, now: Moment) {
        if let Some(closed) = self.lockdowns.remove(&id) {
            self.close_before(closed.lifted.unwrap_or(closed.taken).covers_until(now));
            self.spend(id);
        }
    }

    fn spend(&mut self, id: Id) {
        // A lockdown that is forgotten here closes again when somebody sends it again.
        push_bounded(&mut self.spent, id);
    }

    fn close_before(&mut self, moment: Moment) {
        self.closed_before = self.closed_before.max(moment);
    }

    /// Forgets what cannot matter any more by the host's clock. If that is wrong, what was forgotten opens nothing.
    pub fn tidy(&mut self, now: Moment) {
        let over: Vec<Moment> = self.accepted.values().copied().filter(|until| until.after(CLOCK_SKEW) < now).collect();
        self.accepted.retain(|_, until| until.after(CLOCK_SKEW) >= now);
        self.forgotten_until = over.into_iter().fold(self.forgotten_until, Moment::max);
        let old: Vec<Taken> = self.revoked.values().copied().filter(|taken| is_old(*taken, now)).collect();
        self.revoked.retain(|_, taken| !is_old(*taken, now));
        old.into_iter().for_each(|taken| self.close_before(taken.covers_until(now)));
        let covering: BTreeSet<Id> = self.covering(now).map(|(id, _)| *id).collect();
        let over: Vec<Id> = self.lockdowns.keys().copied().filter(|id| !covering.contains(id)).collect();
        over.into_iter().for_each(|id| self.forget_lockdown(id, now));
    }

    /// Whether a hold came before, and could not be kept.
    pub(super) fn is_beyond(&self, hold: Id) -> bool {
        self.beyond.contains(&hold)
    }

    /// Notes a hold that holds nobody here; and whom it would, where a feeder signed it.
    pub(super) fn pass(&mut self, hold: Id, person: Option<&Person>) {
        if self.passed.len() >= MAX_SPENT
            && let Some(first) = self.passed.pop_front()
        {
            self.passed_for.remove(&first);
        }
        self.passed.push_back(hold);
        self.passed_for.extend(person.map(|person| (hold, person.clone())));
    }

    /// Whether a hold is known to hold nobody here.
    pub(super) fn is_passed(&self, hold: Id) -> bool {
        self.passed.contains(&hold)
    }

    /// Whether a lockdown stands by a feeder's word alone.
    pub(super) fn is_of_feeder(&self, lockdown: Id) -> bool {
        let closed = self.lockdowns.get(&lockdown);
        closed.is_some_and(|closed| closed.source.is_some() && closed.lifted.is_none())
    }

    /// Whether this source holds already whom it would hold by this, or everybody of its own.
    pub(super) fn said_before(&self, source: &Source, lockdown: &Lockdown) -> Option<SaidBefore> {
        let is_wider = |closed: &Closed| {
            closed.source.as_ref() == Some(source)
                && closed.this_host
                && closed.stack.covers(&lockdown.stack)
                && closed
                    .person
                    .as_ref()
                    .zip(lockdown.person.as_ref())
                    .is_some_and(|(one, other)| same_person(one, other))
        };
        if !lockdown.hold {
            return None;
        }
        let same = self.holds().find(|(_, closed)| is_wider(closed)).map(|(id, _)| SaidBefore::By(*id));
        same.or_else(|| self.too_many_of.contains_key(source).then_some(SaidBefore::ByTooMany))
    }

    /// Whether a lockdown was lifted or is over.
    pub(super) fn is_over(&self, lockdown: Id) -> bool {
        self.lockdowns.get(&lockdown).is_some_and(|closed| closed.lifted.is_some()) || self.spent.contains(&lockdown)
    }

    /// Whether a lockdown is known, standing or over.
    pub(super) fn knows(&self, lockdown: Id) -> bool {
        self.lockdowns.contains_key(&lockdown) || self.spent.contains(&lockdown)
    }
}

fn push_bounded(ids: &mut VecDeque<Id>, id: Id) {
    if ids.len() >= MAX_SPENT {
        ids.pop_front();
    }
    ids.push_back(id);
}

fn is_old(taken: Taken, now: Moment) -> bool {
    taken.at.after(REVOKE_KEPT) < now
}

// The longest that a grant can be accepted bounds how long what closes has to refuse.
const _: () = assert!(LOCKDOWN_REFUSES.as_secs() == MAX_ACCEPTANCE.as_secs() + CLOCK_SKEW.as_secs());
const _: () = assert!(REVOKE_KEPT.as_secs() > LOCKDOWN_REFUSES.as_secs());
