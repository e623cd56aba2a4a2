//! The daemon around the core, as `lockdownd` is: it starts, crashes, and carries out what the core decides.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use control::{Answer, gate};
use jiff::Timestamp;
use lockdown_core::{
    machine::{
        Core, CutOrder, CutTried, Effect, Event, StoreSeen, Token,
        checks::Waits,
        documents::KeptDocuments,
        found::{LoginsFound, SessionsSeen},
        recorder,
    },
    sessions::{Ended, How, Session, Sessions, Uses},
};
use record::{Account, ArtifactType, SessionId};

use super::{
    disk::{self, Disk, Run},
    world::{ACCOUNTS, Later, World, config},
};

/// When the last scheduled lockdown was due that the disk has not taken.
fn last_lockdown(owed: &[recorder::Stated]) -> Option<Timestamp> {
    let lockdowns = owed.iter().filter(|(_, draft)| draft.kind == ArtifactType::Lockdown);
    lockdowns.filter_map(|(_, draft)| draft.detail.get("due")?.as_str()?.parse().ok()).max()
}

impl World {
    pub(crate) fn start(&mut self) {
        let live: Vec<Session> = serde_json::from_slice(&self.run.sessions).unwrap_or_default();
        let boot = format!("boot-{}", self.boots);
        let moment = self.moment();
        self.core =
            Core::new(config(self.config, self.stack.is_on), self.etc.around(), boot, Sessions::left(live), moment);
        self.core.mode.is_unread = true;
        if let Some(traces) = &self.run.traces {
            self.core.traces = serde_json::from_slice(traces).expect("what was written is read");
        }
        self.log("the daemon starts".to_owned());
        match self.disk.open(&mut self.run) {
            Ok(()) => {
                let known = Some(self.disk.known());
                self.act(Event::Disk(recorder::Done::Opened(None), known));
                self.take_up();
            }
            Err(why) => {
                self.act(Event::Disk(recorder::Done::NotOpened(why), None));
                let copy = self.run.copy.as_ref().map(|_| self.wake(self.run.copy.as_ref()));
                self.core.begin_unread(copy, self.run.locked_down.clone());
                self.core.recall_documents(self.copied_documents(), self.now);
                self.core.judge_unread("web-1".parse().expect("a name"), self.now);
                self.core.mode.is_unread = false;
                self.core.mode.enforces = self.etc.drop_in;
                self.core.mode.since = Some(self.now.boot);
                let knows = self.core.unread.as_ref().is_some_and(lockdown_core::machine::Unread::knows_grants);
                let last = last_lockdown(&self.run.owed);
                let missed = if knows { self.core.resume_schedule(last, self.now) } else { None };
                self.core.back_grants(self.now);
                self.watch_left();
                if let Some((grants, due)) = missed {
                    self.core.scheduled_lockdown(&grants, due, self.now);
                }
                self.later.push((self.elapsed + Duration::from_secs(2), Later::Open));
                self.act(Event::Pass);
                self.resume_looks_behind();
            }
        }
    }

    fn resume_looks_behind(&mut self) {
        self.core.resume_looks_behind(self.now);
        let effects = self.core.take_effects(self.now);
        self.carry_out(effects);
    }

    pub(crate) fn open(&mut self) {
        if self.disk.is_open {
            return;
        }
        if let Err(why) = self.disk.open(&mut self.run) {
            self.later.push((self.elapsed + Duration::from_secs(2), Later::Open));
            return self.act(Event::Disk(recorder::Done::NotOpened(why), None));
        }
        self.log("the state is read".to_owned());
        let known = Some(self.disk.known());
        self.act(Event::Disk(recorder::Done::Opened(None), known));
        if self.core.is_unread() {
            self.take_up();
        }
    }

    fn wake(&self, bytes: Option<&Vec<u8>>) -> lockdown_core::grants::Grants {
        Disk::wake(bytes, &self.run.ended, self.core.boot_id(), self.now)
    }

    fn take_up(&mut self) {
        let grants = self.wake(self.disk.grants.as_ref());
        self.core.take_up_grants(grants);
        let on_record = self.disk.on_record();
        let unread = self.core.reconcile(&on_record, self.now);
        if unread.is_none() {
            self.core.recall_documents(self.copied_documents(), self.now);
        }
        self.take_up_documents(&on_record.documents);
        let left = self.run.locked_down.take();
        self.core.end_what_was_locked_down(unread.as_ref(), left, self.now);
        let missed = match &unread {
            Some(unread) if unread.has_schedule() => None,
            _ => self.core.resume_schedule(on_record.lockdown, self.now),
        };
        self.core.back_grants(self.now);
        self.core.resume_mode(self.etc.marker_left(), self.now);
        if unread.is_none() {
            self.watch_left();
        }
        self.core.close_gone(&on_record, self.now);
        if let Some((grants, due)) = missed {
            self.core.scheduled_lockdown(&grants, due, self.now);
        }
        self.act(Event::Pass);
        self.resume_looks_behind();
    }

    fn watch_left(&mut self) {
        let alive = &self.alive;
        self.core.watch_left(|monitor| alive.contains(&monitor), self.now);
    }

    pub(crate) fn crash(&mut self, how: &str, reboot: bool) {
        self.log(format!("the daemon is {how}"));
        self.crash_after = None;
        let how_far = self.random.below(3);
        self.disk.crash(how_far, &mut self.run);
        self.later.retain(|(_, later)| matches!(later, Later::Gone(_)) && !reboot);
        // Whoever waits for an answer gets none: the gate refuses, and who asked does not know.
        let gates = std::mem::take(&mut self.gates);
        self.alive.retain(|monitor| gates.values().all(|gate| gate.monitor != *monitor));
        self.operators.clear();
        self.jobs.crashed();
        if self.random.percent(30) {
            let down = Duration::from_millis(self.random.below(1_500_000));
            self.forward(down);
        }
        if reboot {
            self.boots += 1;
            self.run = Run::default();
            self.stack.rebooted();
            self.alive.clear();
            self.now.boot = Duration::from_secs(5);
            self.truth.rebooted(&self.disk);
        }
        self.start();
    }

    pub(crate) fn act(&mut self, event: Event) {
        let moment = self.moment();
        let effects = self.core.step(event, moment);
        self.carry_out(effects);
    }

    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>) {
        Self::are_cut_together(&effects);
        let mut left: VecDeque<Effect> = effects.into();
        loop {
            let Some(effect) = left.pop_front() else {
                left.extend(self.core.take_effects(self.now));
                if left.is_empty() {
                    return;
                }
                continue;
            };
            match &mut self.crash_after {
                Some(0) => return self.crash("killed in the midst", false),
                Some(after) => *after -= 1,
                None => {}
            }
            if let Some(event) = self.carry(effect) {
                let moment = self.moment();
                left.extend(self.core.step(event, moment));
            }
        }
    }

    fn carry(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::NoteEnded(ids) => {
                self.truth.ended(&ids.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
                self.run.ended = ids;
            }
            Effect::NoteLockdown(reason, actor) => self.run.locked_down = Some((reason, actor)),
            Effect::KeepOwed(owed) => self.run.owed.extend(owed.stated),
            Effect::DropOwed => self.run.owed.clear(),
            Effect::PutKeys { account, bytes } => {
                if self.store_fails {
                    return None;
                }
                self.put(&account, bytes.clone());
                return Some(Event::KeysPut { account, bytes });
            }
            Effect::SetStore { wanted, paused: _ } => return Some(self.set_store(wanted)),
            Effect::Disk(task) => {
                self.log(disk::told(&task));
                self.disk.give(task);
                self.in_a_moment(200, Later::Disk);
            }
            Effect::KeepSessions(bytes) => {
                self.run.sessions = bytes;
                return Some(Event::SessionsKept(true));
            }
            Effect::Cut(orders) => return Some(Event::Cut(self.cut(orders))),
            Effect::Watch(session, monitor) => {
                if !self.alive.contains(&monitor) {
                    self.in_a_moment(50, Later::Gone(session));
                }
            }
            Effect::Warn(warn) => {
                let (session, ends_at) = (warn.session, warn.ends_at);
                return Some(Event::Warned { session, ends_at, terminals: vec![1] });
            }
            Effect::Begin(id, job) => return self.begin(id, job),
            Effect::SeekDropIn => return Some(Event::DropInSeen(self.etc.drop_in)),
            Effect::FindLogins => return Some(Event::LoginsFound(LoginsFound::default())),
            Effect::LookAtSessions(ids) => return Some(Event::SessionsSeen(self.see_sessions(ids))),
            Effect::SweepHomes => self.in_a_moment(2_000, Later::Swept),
            Effect::TellHomes => self.homes_are_told(),
            Effect::KeepStateFiles { marker } => {
                if let Some(marker) = marker {
                    self.etc.marker = marker;
                }
            }
            Effect::ConfigChanged { .. } => {
                self.config_changes();
                return Some(Event::ConfigFollowed);
            }
            Effect::AnswerLooked(Waits::Status(token) | Waits::Plan(token), _) => {
                assert!(self.job_answered(token, None), "whoever asks for a look is answered once");
            }
            Effect::KeepTraces(bytes) => self.run.traces = Some(bytes),
            Effect::Opened(session) => {
                let granted = self.core.sessions.get(&session).is_some_and(|session| session.grant().is_some());
                let audit = u32::try_from(self.number()).expect("small");
                return granted.then_some(Event::Traced(session, audit));
            }
            Effect::Answer(token, response) => {
                if !self.job_answered(token, response.as_ref().err().map(|refusal| refusal.code)) {
                    self.operator_answered(token, response.as_ref().ok(), response.is_err());
                }
            }
            Effect::AnswerGate { token, answer, .. } => self.gate_answered(token, &answer),
            Effect::CopyDocuments(KeptDocuments { state, rosters }) => {
                self.run.documents = Some(state);
                self.run.rosters = rosters.or(self.run.rosters.take());
            }
            Effect::AnswerInbox(bytes) => self.inbox_answered(&bytes),
            Effect::Say(_, what) => self.log(format!("says: {what}")),
            Effect::Comes(_)
            | Effect::KnowAsked { .. }
            | Effect::KnowFound { .. }
            | Effect::LookedAtLogin(_)
            | Effect::LookAtLoginAgain(..)
            | Effect::HeedShipper
            | Effect::Acknowledge(_)
            | Effect::PinReceiptKey(_)
            | Effect::BeginLedgerAnew(_)
            | Effect::DropHint
            | Effect::StartOver(_)
            | Effect::Prune
            | Effect::KeepRetired(_)
            | Effect::Tell(_)
            | Effect::ReadNotes
            | Effect::OnRecord(_)
            | Effect::Reloaded
            | Effect::DropWork(_)
            | Effect::ReadRecords(..) => {}
        }
        None
    }

    fn see_sessions(&self, ids: Vec<SessionId>) -> SessionsSeen {
        let monitor = |id: &SessionId| self.core.sessions.get(id).map(|session| session.monitor);
        let is_alive = |id: &SessionId| monitor(id).is_some_and(|monitor| self.alive.contains(&monitor));
        let (live, gone): (Vec<_>, Vec<_>) = ids.into_iter().partition(is_alive);
        SessionsSeen { gone, live: live.into_iter().map(|id| (id, Uses::default(), None)).collect() }
    }

    fn put(&mut self, account: &Account, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => drop(self.run.store.insert(account.clone(), bytes)),
            None => drop(self.run.store.remove(account)),
        }
    }

    fn set_store(&mut self, wanted: BTreeMap<Account, Vec<u8>>) -> Event {
        let names = self.run.store.keys().map(|account| account.as_str().into()).collect();
        let mut seen = StoreSeen { names, ..StoreSeen::default() };
        for account in ACCOUNTS.iter().map(|name| name.parse::<Account>().expect("an account")) {
            let bytes = wanted.get(&account);
            if self.run.store.get(&account) == bytes {
                seen.right.insert(account.as_str().into());
            } else if self.store_fails {
                seen.failed.insert(account.as_str().into(), ("no space".to_owned(), BTreeSet::new()));
            } else {
                self.put(&account, bytes.cloned());
                seen.right.insert(account.as_str().into());
            }
        }
        seen.wanted = wanted;
        Event::StoreSeen(Box::new(seen))
    }

    fn cut(&mut self, orders: Vec<CutOrder>) -> CutTried {
        let mut tried = CutTried::default();
        for order in orders {
            self.is_to_end(&order);
            if order.farewell.is_some() && self.random.percent(40) {
                tried.told.push(order.session);
            } else if !self.alive.contains(&order.monitor) {
                match order.tries {
                    0 => tried.cut.push((order.session, Ok(Ended { how: How::AlreadyGone, killed: 0 }))),
                    _ => tried.gone.push(order.session),
                }
            } else if self.random.percent(85) {
                self.alive.remove(&order.monitor);
                self.in_a_moment(400, Later::Gone(order.session.clone()));
                tried.cut.push((order.session, Ok(Ended { how: How::Scope, killed: 2 })));
            } else {
                tried.cut.push((order.session, Err("it cannot be killed now".to_owned())));
            }
        }
        tried
    }

    fn operator_answered(&mut self, token: Token, answer: Option<&Answer>, refused: bool) {
        self.log(format!("{} answered{}", token.0, if refused { ": refused" } else { "" }));
        let operator = self.operators.remove(&token).expect("an operator is answered once");
        match (answer, operator.grant) {
            // Whoever was told that nothing was granted is right.
            (_, Some(grant)) if refused => self.truth.ended(&[grant]),
            (Some(Answer::Allow(answer)), _) => {
                let id = &answer.grant.id;
                assert!(self.disk.grants_of(ArtifactType::GrantCreated).contains(id), "{id} is on record");
            }
            (Some(Answer::Revoke(answer)), _) => self.truth.ended_views(&answer.grants),
            (Some(Answer::Lockdown(answer)), _) => self.truth.ended_views(&answer.grants),
            (Some(Answer::Apply(answer)), _) => self.stack.applied(answer),
            _ => {}
        }
    }

    fn gate_answered(&mut self, token: Token, answer: &gate::Answer) {
        let gate = self.gates.remove(&token).expect("a login is answered once");
        match answer {
            gate::Answer::Allow { .. } => {
                self.log(format!("{} is in", token.0));
                self.may_be_let_in(&gate);
                self.truth.let_in(gate.monitor);
            }
            gate::Answer::Refuse { .. } => {
                self.log(format!("{} is refused", token.0));
                self.end_connection(gate.monitor);
            }
        }
    }
}
