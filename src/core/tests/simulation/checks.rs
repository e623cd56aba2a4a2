//! What must hold: after each step, when somebody is let in, and once everything has come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::GrantView;
use lockdown_core::{
    machine::{CutOrder, Effect},
    policy::{session::Standing, time::Now},
    process::ProcessId,
    sessions::{Cause, Session},
};
use record::{ArtifactType, GrantId, SessionId};

use super::{
    disk::{Condition, Disk},
    world::{Gate, World},
};

/// How long a login or an operator waits at most, with what lies between two looks at it.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a power cut and a clock that was set can lengthen a grant by.
const HEARTBEAT: Duration = Duration::from_secs(61);
/// How many batches of connections one step cuts: those whose grants end, those that a lockdown ends besides, and those that
/// are tried again.
const MOST_BATCHES: usize = 3;
/// How long everything takes to come to rest.
const REST: Duration = Duration::from_secs(180);

/// What is true, whatever the core thinks.
#[derive(Debug)]
pub(crate) struct Truth {
    began: Now,
    /// Up to when, since the world began, each grant may last.
    until: BTreeMap<GrantId, Duration>,
    /// Grants that somebody was told have ended, or never began, or whose end outlives the daemon.
    ended: BTreeSet<GrantId>,
    /// Connections that were let in.
    let_in: BTreeSet<ProcessId>,
    /// Sessions that were open when the power was cut: nobody saw them end.
    unseen: BTreeSet<SessionId>,
    boots: u32,
    clock_was_set: bool,
    once: Once,
}

/// What the ledger has stated, as far as it was looked through.
#[derive(Debug, Default)]
struct Once {
    seen: usize,
    created: BTreeSet<Option<GrantId>>,
    ended: BTreeSet<Option<GrantId>>,
    opened: BTreeSet<Option<SessionId>>,
    closed: BTreeSet<Option<SessionId>>,
}

impl Truth {
    pub(crate) fn new(began: Now) -> Self {
        Self {
            began,
            until: BTreeMap::new(),
            ended: BTreeSet::new(),
            let_in: BTreeSet::new(),
            unseen: BTreeSet::new(),
            boots: 0,
            clock_was_set: false,
            once: Once::default(),
        }
    }

    /// How long one that was made after a look, and so later than asked for, may last is not known.
    pub(crate) fn may_last(&mut self, id: &GrantId, until: Duration, is_new: bool) {
        if is_new {
            self.until.insert(id.clone(), until);
        } else if let Some(known) = self.until.get_mut(id) {
            *known = until.max(*known);
        }
    }

    pub(crate) fn let_in(&mut self, connection: ProcessId) {
        self.let_in.insert(connection);
    }

    pub(crate) fn ended(&mut self, ids: &[GrantId]) {
        self.ended.extend(ids.iter().cloned());
    }

    pub(crate) fn ended_views(&mut self, views: &[GrantView]) {
        self.ended.extend(views.iter().map(|view| view.id.clone()));
    }

    /// A power cut while the disk had not taken it brings a grant back; its own end still ends it.
    pub(crate) fn rebooted(&mut self, disk: &Disk) {
        self.boots += 1;
        let (ended, on_record) = (disk.ended(), disk.on_record());
        self.ended.retain(|id| ended.contains(id));
        self.unseen.extend(on_record.opened.difference(&on_record.closed).cloned());
    }

    pub(crate) fn clock_was_set(&mut self) {
        self.clock_was_set = true;
    }
}

impl World {
    /// Somebody was let in: they have a grant, it is on record, and the next daemon would know of them.
    pub(crate) fn may_be_let_in(&self, gate: &Gate) {
        if gate.account == "breakglass" || !self.core.enforces() {
            return;
        }
        let session = self.core.sessions.live().iter().find(|session| session.monitor == gate.monitor);
        let session = session.expect("whoever is in is in the table");
        let kept: Vec<Session> = serde_json::from_slice(&self.run.sessions).expect("it is kept");
        assert!(kept.iter().any(|kept| kept.id == session.id), "{} outlives the daemon", session.id);
        assert!(self.disk.on_record().opened.contains(&session.id), "{} is on record", session.id);
        let grant = session.grant().expect("on a grant");
        assert!(self.disk.grants_of(ArtifactType::GrantCreated).contains(grant), "{grant} is on record");
        self.is_in_force(grant);
    }

    fn is_in_force(&self, grant: &GrantId) {
        assert!(!self.truth.ended.contains(grant), "{grant} has ended");
        assert!(!self.disk.grants_of(ArtifactType::GrantEnded).contains(grant), "{grant} has ended, on record");
        if let Some(until) = self.truth.until.get(grant) {
            let most = *until + HEARTBEAT * self.truth.boots;
            assert!(self.elapsed <= most, "{grant} lets in at {:?}, and may last until {until:?}", self.elapsed);
        }
    }

    /// However many connections end in one step, they are cut together: each batch takes one look at all processes.
    pub(crate) fn are_cut_together(effects: &[Effect]) {
        let batches = effects.iter().filter(|effect| matches!(effect, Effect::Cut(_))).count();
        assert!(batches <= MOST_BATCHES, "{batches} batches of connections are cut in one step");
    }

    /// A connection is cut that is to end.
    pub(crate) fn is_to_end(&self, order: &CutOrder) {
        // At a start one may be gone by now, or never have been let in.
        let Some(session) = self.core.sessions.get(&order.session) else { return };
        let end = session.ending.as_ref().expect("it is to end");
        assert!(session.standing != Standing::Emergency, "nobody cuts break-glass");
        let grant = session.grant().and_then(|id| self.core.grants.get(id));
        if let Some(grant) = grant.filter(|grant| grant.end.is_some()) {
            let is_noted = self.run.ended.iter().any(|(id, _)| *id == grant.id);
            assert!(is_noted || self.disk.ended().contains(&grant.id), "the end of {} outlives the daemon", grant.id);
        }
        let is_active = grant.is_some_and(|grant| grant.is_active(self.now));
        assert!(
            !is_active || matches!(end.cause, Cause::Revoked) || self.nobodys_key(session),
            "its grant is in force"
        );
    }

    fn nobodys_key(&self, session: &Session) -> bool {
        session.fingerprint().is_none_or(|key| self.core.owner(key) != session.person())
    }

    /// What holds after each step.
    pub(crate) fn truth_holds(&mut self) {
        for session in self.core.sessions.live() {
            let Some(id) = session.grant() else { continue };
            let is_active = self.core.grants.get(id).is_some_and(|grant| grant.is_active(self.now));
            let may_go_on = is_active || session.ending.is_some() || !self.core.mode.removes_keys();
            assert!(may_go_on, "{} goes on without its grant {id}", session.id);
            // Whoever was refused is nobody's session, however late the disk takes its beginning.
            let waits = self.gates.values().any(|gate| gate.monitor == session.monitor);
            let is_in = waits || session.ending.is_some() || self.truth.let_in.contains(&session.monitor);
            assert!(is_in, "{} goes on, and nobody was let in", session.id);
        }
        if let Some(longest) = self.waiting().max() {
            assert!(longest <= PATIENCE, "somebody has waited for {longest:?}");
        }
        if !self.store_fails && self.core.store_problems().is_empty() {
            let created = self.disk.grants_of(ArtifactType::GrantCreated);
            for id in self.in_store() {
                assert!(created.contains(&id), "{id} is in the store and not on record");
                // What is over goes with the next deadline, which is due now.
                let over = self.core.grants.get(&id).is_none_or(|grant| grant.end.is_some());
                assert!(!over, "{id} has ended, and is in the store");
            }
        }
        self.jobs_hold();
        self.documents_hold();
        self.each_once();
    }

    fn in_store(&self) -> BTreeSet<GrantId> {
        let text = self.run.store.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let text: String = text.collect();
        text.lines().filter_map(|line| line.rsplit('/').next()?.parse().ok()).collect()
    }

    /// One record for each beginning and end, none before its fact.
    fn each_once(&mut self) {
        let Once { seen, created, ended, opened, closed } = &mut self.truth.once;
        for (_, draft) in &self.disk.ledger[*seen..] {
            let (grant, session) = (draft.grant.clone(), draft.session.clone());
            match draft.kind {
                // A later end of the same grant is one more record of it.
                ArtifactType::GrantCreated => drop(created.insert(grant)),
                ArtifactType::GrantEnded => {
                    assert!(created.contains(&grant), "{grant:?} ended before it began");
                    assert!(ended.insert(grant.clone()), "{grant:?} ended twice");
                }
                ArtifactType::SessionOpened | ArtifactType::EmergencyLogin => {
                    assert!(opened.insert(session.clone()), "{session:?} opened twice");
                }
                ArtifactType::SessionClosed | ArtifactType::SessionTerminated if session.is_some() => {
                    assert!(opened.contains(&session), "{session:?} is over before it began");
                    assert!(closed.insert(session.clone()), "{session:?} is over twice");
                }
                _ => {}
            }
        }
        *seen = self.disk.ledger.len();
    }

    /// Faults stop; after a while everything is as it must be.
    pub(crate) fn come_to_rest(&mut self) {
        self.disk.condition = Condition::Works;
        self.store_fails = false;
        self.crash_after = None;
        self.is_at_rest = true;
        (self.etc.in_the_way, self.etc.put_fails) = (false, false);
        self.core.settle_mode(self.now);
        // As the next sweep does: it may be that nobody told of what came.
        self.act(lockdown_core::machine::Event::InboxTouched);
        self.pass_time(REST);
        // A job that was under way may have failed entering enforce once more: it is tried again once something changes.
        self.core.settle_mode(self.now);
        self.act(lockdown_core::machine::Event::Pass);
        // What a deadline has just begun may still be under way.
        for _ in 0..1_000 {
            self.pass_time(Duration::from_millis(300));
            if self.disk.is_idle() && !self.is_anything_to_come() {
                break;
            }
        }
        assert!(self.disk.is_open && self.disk.is_idle() && self.disk.known().owed == 0, "nothing is owed");
        assert!(self.run.owed.is_empty() && self.run.ended.is_empty(), "nothing waits in /run: {:?}", self.run.ended);
        for session in self.core.sessions.live() {
            assert!(self.alive.contains(&session.monitor), "{} is gone and still in the table", session.id);
            assert!(session.ending.is_none() && session.recorded, "{} is at rest", session.id);
        }
        let on_record = self.disk.on_record();
        let live: BTreeSet<_> = self.core.sessions.live().iter().map(|session| session.id.clone()).collect();
        // What a power cut ends nobody sees: its table is gone with it.
        let is_known = |id: &&SessionId| live.contains(*id) || self.truth.unseen.contains(*id);
        let lost: Vec<_> = on_record.opened.difference(&on_record.closed).filter(|id| !is_known(id)).collect();
        assert!(lost.is_empty(), "{lost:?} are over or were never let in, and no record says so");
        let active: BTreeSet<GrantId> = self
            .core
            .grants
            .open_ones()
            .filter(|grant| grant.is_active(self.now))
            .map(|grant| grant.id.clone())
            .collect();
        let with_keys: BTreeSet<GrantId> = active.iter().filter(|id| self.has_keys(id)).cloned().collect();
        let with_keys = if self.core.enforces() { with_keys } else { BTreeSet::new() };
        assert_eq!(self.in_store(), with_keys, "the store holds exactly the keys of grants in force");
        for grant in self.core.grants.all() {
            assert!(grant.is_open() || on_record.ended.contains(&grant.id), "the end of {} is on record", grant.id);
        }
        self.each_lockdown_once();
        self.jobs_rest();
        self.documents_rest();
        self.mode_rests();
    }

    fn has_keys(&self, id: &GrantId) -> bool {
        self.core.grants.get(id).is_some_and(|grant| {
            grant.origin.document().is_some() || self.core.config.people.contains_key(&grant.person)
        })
    }

    fn each_lockdown_once(&self) {
        // What a power cut takes that the disk had not taken is made up for by the next one.
        let is_lost = self.truth.boots > 0 && self.disk.has_failed;
        if self.is_wild || self.truth.clock_was_set || is_lost {
            return;
        }
        let counted = self.disk.records(ArtifactType::Lockdown).filter(|draft| draft.detail.contains_key("due"));
        let missed =
            counted.map(|draft| 1 + draft.detail.get("missed").and_then(serde_json::Value::as_u64).unwrap_or(0));
        let every = 20 * 60;
        let fell_due = self.now.wall.as_second() / every - self.truth.began.wall.as_second() / every;
        let due: Vec<_> =
            self.disk.records(ArtifactType::Lockdown).filter_map(|draft| draft.detail.get("due")).collect();
        assert_eq!(missed.sum::<u64>(), fell_due.unsigned_abs(), "scheduled lockdowns: {due:?}");
    }
}
