//! Carrying out what the core decides: the one place where its effects meet the host.
//!
//! Effects are carried out in order, and what comes of one goes back to the core at once.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    path::Path,
};

use control::{Response, gate};
use lockdown_core::{
    machine::{
        Covered, CutOrder, CutTried, Effect, Event, Moment, Severity, Tell, Token, Waiting, Warn, checks::Waits,
        recorder,
    },
    policy::time::Now,
};
use lockdown_host::{
    connection::{self, Spared},
    paths::{self, Durability},
    processes::{self, Handle as _, Process, ProcessId},
    sshd::{drop_in, listener},
    terminal,
};
use record::SessionId;
use tokio::sync::oneshot;

use super::{Driver, state::RETIRED};
use crate::{
    disk::{GRANTS_COPY, Task, Work, owed},
    grants,
    kept::{self, TRACES},
    trigger::{Reason, Reply},
};

/// What the shipper is told of the inbox.
const INBOX_ANSWER: &str = "/run/lockdownd/inbox.json";

/// Where answers go that the core gives, and work that waits for its turn on the disk.
#[derive(Default)]
pub(crate) struct Held {
    replies: BTreeMap<Token, Reply>,
    gates: BTreeMap<Token, oneshot::Sender<gate::Answer>>,
    works: BTreeMap<recorder::WorkId, Work>,
    /// What is dealt with once everything else is carried out.
    later: VecDeque<Effect>,
    last: u64,
}

impl Held {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps where an operator's answer goes.
    pub(crate) fn reply(&mut self, reply: Reply) -> Token {
        let token = Token(self.next());
        self.replies.insert(token, reply);
        token
    }

    /// Keeps where the gate's answer goes.
    pub(crate) fn gate(&mut self, to: oneshot::Sender<gate::Answer>) -> Token {
        let token = Token(self.next());
        self.gates.insert(token, to);
        token
    }

    /// Keeps work for the disk thread.
    pub(super) fn work(&mut self, work: Work) -> recorder::WorkId {
        let id = recorder::WorkId(self.next());
        self.works.insert(id, work);
        id
    }
}

impl Driver {
    /// Has the core act on an event, and carries out what follows.
    pub(crate) fn step(&mut self, event: Event, now: Now) {
        let effects = self.core.step(event, moment(now));
        self.carry_out(effects, now);
        self.follow(now);
    }

    /// Carries out all that the core has decided since that was last done.
    pub(crate) fn follow(&mut self, now: Now) {
        loop {
            let effects = self.core.take_effects(now);
            if !effects.is_empty() {
                self.carry_out(effects, now);
            } else if let Some(effect) = self.held.later.pop_front() {
                self.deal_with(effect, now);
            } else {
                return;
            }
        }
    }

    fn deal_with(&mut self, effect: Effect, now: Now) {
        match effect {
            Effect::ConfigChanged { before, sweeps_change } => {
                self.config_changed(&before, sweeps_change, now);
                self.step(Event::ConfigFollowed, now);
            }
            Effect::AnswerLooked(Waits::Status(token), stale) => self.answer_status(token, stale, now),
            Effect::AnswerLooked(Waits::Plan(token), stale) => self.plan(token, stale, now),
            _ => {}
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now) {
        let mut left: VecDeque<Effect> = effects.into();
        while let Some(effect) = left.pop_front() {
            if let Some(event) = self.carry(effect, now) {
                left.extend(self.core.step(event, moment(now)));
            }
        }
    }

    fn carry(&mut self, effect: Effect, now: Now) -> Option<Event> {
        match effect {
            Effect::NoteEnded(ids) => self.kept.ended.note(&ids),
            Effect::NoteLockdown(reason, actor) => kept::note_lockdown(&reason, actor.as_ref()),
            Effect::KeepOwed(owed) => {
                if self.kept.keep_owed(&owed.stated) {
                    return None;
                }
                return Some(Event::OwedNotKept(owed));
            }
            Effect::DropOwed => owed::drop_kept(&self.kept.owed),
            Effect::PutKeys { account, bytes } => return self.put_keys(account, bytes),
            Effect::SetStore { wanted, paused } => return Some(self.set_store(wanted, &paused)),
            Effect::Disk(task) => self.give_disk(task),
            Effect::DropWork(id) => drop(self.held.works.remove(&id)),
            Effect::KeepSessions(bytes) => {
                let kept = self.kept.keep_sessions(&bytes);
                return Some(Event::SessionsKept(kept));
            }
            Effect::Cut(orders) => return Some(Event::Cut(self.cut(orders))),
            Effect::Watch(session, monitor) => self.watch_session(session, monitor),
            Effect::Comes(account) => self.came.note(&account),
            Effect::Opened(session) => return self.session_opened(&session),
            Effect::FindLogins => return Some(Event::LoginsFound(self.find_logins())),
            Effect::LookAtSessions(ids) => return Some(Event::SessionsSeen(self.see_sessions(&ids))),
            Effect::LookAtLoginAgain(login, looks) => self.look_at_login_again(login, looks),
            Effect::LookedAtLogin(id) => self.looked_at_login(id),
            Effect::KnowAsked { pid, at } => self.answered.note(pid, at, false),
            Effect::KnowFound { pid, began, found } => self.answered.note_found_unrecorded(pid, began, found),
            Effect::Tell(tell) => {
                tell_all(&tell, &[]);
            }
            Effect::Warn(warn) => return warn_terminals(warn),
            Effect::Begin(id, job) => return self.run(id, job),
            Effect::SeekDropIn => return Some(Event::DropInSeen(Path::new(drop_in::PATH).exists())),
            Effect::TellHomes => self.tell_homes(),
            Effect::SweepHomes => self.sweep_homes(),
            Effect::KeepRetired(bytes) => self.keep_state(RETIRED, bytes),
            Effect::Prune => self.prune(now),
            Effect::KeepStateFiles { marker } => self.keep_state_files(marker),
            // More than one thing follows from these: they are dealt with once everything else is carried out.
            Effect::ConfigChanged { .. } | Effect::AnswerLooked(..) => self.held.later.push_back(effect),
            Effect::HeedShipper => return Some(Event::ShipperSeen(self.see_shipper())),
            Effect::Acknowledge(seq) => self.acknowledge(seq),
            Effect::PinReceiptKey(line) => self.pin_receipt_key(&line),
            Effect::BeginLedgerAnew(why) => return self.begin_ledger_anew(why, now),
            Effect::DropHint => self.drop_hint(),
            Effect::StartOver(why) => {
                tracing::error!("the daemon has to start again: {why}");
                self.starts_over = true;
            }
            Effect::KeepTraces(bytes) => kept::keep_traces(Path::new(TRACES), &bytes),
            Effect::ReadNotes => return Some(Event::NotesRead(self.read_notes())),
            Effect::OnRecord(covered) => self.others_on_record(covered),
            Effect::Answer(token, response) => self.answer(token, response),
            Effect::ReadRecords(token, asked) => self.read_records(asked, token, now),
            // It is asked for whether one is under way.
            Effect::Reloaded => {}
            Effect::CopyDocuments(documents) => grants::copy_documents(Path::new(GRANTS_COPY), &documents),
            Effect::AnswerInbox(bytes) => answer_inbox(&bytes),
            Effect::AnswerGate { token, answer, monitor, step } => self.answer_gate(token, answer, monitor, step, now),
            Effect::Say(severity, what) => say(severity, &what),
        }
        None
    }

    fn give_disk(&mut self, task: recorder::Task) {
        self.disk.give(match task {
            recorder::Task::Commit(commit, now) => Task::Commit(commit, now),
            recorder::Task::Work(id, now) => {
                let work = self.held.works.remove(&id).unwrap_or_else(|| Box::new(|_| None));
                Task::Work(work, now)
            }
        });
    }

    /// Has other work done on the disk, in its turn.
    pub(crate) fn work(&mut self, name: &str, work: Work) {
        let id = self.held.work(work);
        self.core.work(name, id);
    }

    /// The same; work of this name that still waits is not done.
    pub(crate) fn work_anew(&mut self, name: &'static str, work: Work) {
        let id = self.held.work(work);
        self.core.work_anew(name, id);
    }

    /// Answers an operator.
    pub(crate) fn answer(&mut self, token: Token, response: Response) {
        if let Some(reply) = self.held.replies.remove(&token) {
            reply.send(response);
        }
    }

    /// Answers an operator once all that is noted is on record; a moment later at the latest.
    pub(crate) fn answer_on_record(&mut self, token: Token, response: Response, now: Now) {
        self.core.answer_on_record(Waiting::Operator(token, response), now);
    }

    /// What others than the core keep of what is on record now.
    fn others_on_record(&mut self, covered: Covered) {
        let Covered { notes, logins, found, .. } = covered;
        logins.into_iter().for_each(|(pid, time)| self.answered.note(pid, time, false));
        found.into_iter().for_each(|(pid, since, until)| self.answered.note_found(pid, since, until));
        self.drop_notes(notes);
    }

    /// Sends the gate's answer, and remembers that the connection was answered.
    fn answer_gate(&mut self, token: Token, answer: gate::Answer, monitor: Option<i32>, step: gate::Step, now: Now) {
        let is_refused = matches!(answer, gate::Answer::Refuse { .. });
        match (monitor, step) {
            (Some(pid), _) if is_refused => self.answered.note(pid, now.wall, true),
            (Some(pid), gate::Step::Session) => {
                match self.core.is_unread() {
                    true => self.answered.note_unrecorded(pid, now.wall),
                    false => self.answered.note(pid, now.wall, false),
                }
                self.answered.let_in(pid, now.wall);
            }
            // A connection that passes the account step has its session step to come.
            (Some(pid), gate::Step::Account) => self.answered.expect(pid, now.wall),
            (None, _) => {}
        }
        if let Some(to) = self.held.gates.remove(&token) {
            // Whoever asked may have given up; that changes nothing here.
            let _ = to.send(answer);
        }
    }

    /// Ends connections, with one look at who is spared: at once, or where a terminal was told why, a moment later.
    fn cut(&self, orders: Vec<CutOrder>) -> CutTried {
        let mut tried = CutTried::default();
        let mut silent = Vec::new();
        for order in orders {
            let tell = order.farewell.map(|(owner, text)| Tell { monitor: order.monitor, owner, text });
            // Each terminal is told, whatever becomes of the others.
            match tell.is_some_and(|tell| !tell_all(&tell, &[]).is_empty()) {
                true => tried.told.push(order.session),
                false => silent.push((order.session, order.monitor, order.tries)),
            }
        }
        if silent.is_empty() {
            return tried;
        }
        let spared = self.spared_by(silent.iter().map(|(_, monitor, _)| *monitor));
        for (session, monitor, tries) in silent {
            if tries > 0 && !monitor.is_alive() {
                tried.gone.push(session);
                continue;
            }
            let outcome = connection::end(monitor, &spared).map_err(|error| error.to_string());
            tried.cut.push((session, outcome));
        }
        tried
    }

    /// Who must live on when a connection ends: sshd's listeners and every other session's connection.
    pub(super) fn spared(&self) -> Spared {
        Spared { listeners: listener_processes(), monitors: self.monitors() }
    }

    /// The same where these connections are cut: looking through all processes takes the longer the more somebody runs, so the
    /// listeners of the last look are taken where each connection is below one of them.
    fn spared_by(&self, mut connections: impl Iterator<Item = ProcessId>) -> Spared {
        let known = &self.listeners.sshds;
        let parent = |monitor: ProcessId| Process::read(monitor.pid).filter(|process| process.id == monitor);
        let is_below = |monitor| match parent(monitor) {
            Some(process) => processes::identity(process.ppid).is_some_and(|parent| known.contains(&parent)),
            None => true,
        };
        match connections.all(is_below) {
            true => Spared { listeners: known.iter().copied().collect(), monitors: self.monitors() },
            false => self.spared(),
        }
    }

    fn monitors(&self) -> HashSet<ProcessId> {
        self.core.sessions.live().iter().map(|session| session.monitor).collect()
    }

    /// Tells the core when a connection is gone. One that is gone already is told at once.
    fn watch_session(&self, id: SessionId, monitor: ProcessId) {
        let reasons = self.reasons.clone();
        tokio::spawn(async move {
            match monitor.open() {
                Ok(Some(held)) => {
                    if let Err(error) = held.exited().await {
                        tracing::error!(session = %id, %error, "the end of a connection cannot be waited for");
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(session = %id, %error, "a connection cannot be watched");
                    return;
                }
            }
            // Nobody receives once the daemon stops; the next start looks at every session anyway.
            let _ = reasons.send(Reason::Gone(id)).await;
        });
    }
}

/// Tells every terminal of a connection but these; those that were told.
fn tell_all(tell: &Tell, but: &[u32]) -> Vec<u32> {
    let mut told = terminal::held_by(tell.monitor);
    told.retain(|number| {
        !but.contains(number)
            && terminal::write(*number, tell.owner, &tell.text)
                .inspect_err(|error| {
                    tracing::debug!(pid = tell.monitor.pid, terminal = number, %error, "a terminal could not be told");
                })
                .is_ok()
    });
    told
}

fn warn_terminals(warn: Warn) -> Option<Event> {
    let Warn { session, ends_at, tell, told: mut terminals } = warn;
    let told = tell_all(&tell, &terminals);
    if told.is_empty() {
        return None;
    }
    terminals.extend(told);
    Some(Event::Warned { session, ends_at, terminals })
}

/// The listeners of root's sshds: whoever names a process of their own like one must not save it by that. When they
/// cannot be found the answer is empty: a session's own scope never holds one that was started as a service.
fn listener_processes() -> HashSet<ProcessId> {
    listener::running_as_root().into_iter().flatten().filter_map(|listener| listener.process).collect()
}

/// Tells the shipper which documents are needed no more.
fn answer_inbox(bytes: &[u8]) {
    if let Err(error) = paths::replace_path(Path::new(INBOX_ANSWER), bytes, 0o644, Durability::Volatile) {
        tracing::error!(%error, "the shipper cannot be told what is done with its documents");
    }
}

fn say(severity: Severity, what: &str) {
    match severity {
        Severity::Info => tracing::info!("{what}"),
        Severity::Warning => tracing::warn!("{what}"),
        Severity::Err => tracing::error!("{what}"),
    }
}

/// This moment, with a number that nobody can foresee.
pub(super) fn moment(now: Now) -> Moment {
    Moment { now, random: lockdown_host::random() }
}
