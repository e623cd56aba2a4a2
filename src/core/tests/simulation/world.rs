//! The world that the core is in: people, accounts, connections, clocks, and whoever drives the core.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    thread,
    time::Duration,
};

use control::{Answer, Revoke, gate};
use jiff::{SignedDuration, Timestamp};
use lockdown_core::{
    config::Config,
    machine::{
        Around, Asker, Core, CutOrder, CutTried, Effect, Event, LoginAsked, Moment, StoreSeen, Token, Waiting, recorder,
    },
    policy::{
        grant::{Grant, Origin},
        observation::Known,
        time::Now,
    },
    process::ProcessId,
    sessions::{Ended, How, Session, Sessions},
};
use record::{Account, Actor, GrantId, SessionId};

use super::{
    checks::Truth,
    disk::{Condition, Disk, Run},
};

const FRANK: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkd9Og1m9De7DZPdBm2Y9bX57ZB1owN+SKXnYRLfdTg";
const GRACE: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBH1SgjqfUbRzhKLFXVrqzShTMgnJKIvhr60Tf98JLYzK3KEFK8PR7RlCbDw+aRdcPYxUPmWLwgE+p9pKyhb0Jtw=";
const ACCOUNTS: [&str; 3] = ["ubuntu", "frank", "breakglass"];
/// How many steps a failure prints.
const TRACED: usize = 6000;

/// A source of numbers (SplitMix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A login that waits for its answer.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) account: &'static str,
    pub(crate) monitor: ProcessId,
    pub(crate) since: Duration,
}

/// An operator who waits for an answer.
#[derive(Debug)]
struct Operator {
    /// The grant that was made for it.
    grant: Option<GrantId>,
    since: Duration,
}

/// What comes a moment later.
#[derive(Debug)]
enum Later {
    Gone(SessionId),
    Looked(GrantId),
    Disk,
    Open,
}

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    random: Random,
    pub(crate) now: Now,
    /// Since the world began, whatever the clocks say.
    pub(crate) elapsed: Duration,
    boots: u32,
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    pub(crate) run: Run,
    pub(crate) alive: BTreeSet<ProcessId>,
    gone_unread: Vec<Session>,
    gates: BTreeMap<Token, Gate>,
    operators: BTreeMap<Token, Operator>,
    later: Vec<(Duration, Later)>,
    numbers: u64,
    config: usize,
    pub(crate) store_fails: bool,
    /// Whether clocks are set and disks read-only or gone in this world: it then cannot be said how many lockdowns there are.
    pub(crate) is_wild: bool,
    /// Whether the disk always works in this world.
    is_calm: bool,
    crash_after: Option<u64>,
    pub(crate) truth: Truth,
    trace: VecDeque<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("seed {}: SIMULATE_SEED={} cargo nextest run -p lockdown-core simulation", self.seed, self.seed);
            self.trace.iter().for_each(|line| println!("{line}"));
        }
    }
}

fn config(which: usize) -> Config {
    let grace = "[[person]]\nname = \"grace\"\naccounts = [\"ubuntu\"]\n";
    let more = match which {
        0 => format!("{grace}keys = [\"{GRACE}\"]\n"),
        1 => String::new(),
        _ => format!(
            "{grace}keys = [\"{GRACE}\"]\n[[grant]]\nperson = \"grace\"\naccount = \"ubuntu\"\nexpires_at = \"2027-01-15T09:00:00Z\"\nreason = \"rendered\"\n"
        ),
    };
    let text = format!(
        "mode = \"enforce\"\n[accounts]\nexempt = [\"breakglass\"]\n[schedule]\nlockdown = \"0 */20 * * * *\"\n[[person]]\nname = \
         \"frank\"\nkeys = [\"{FRANK}\"]\naccounts = [\"ubuntu\", \"frank\"]\noperator = true\n{more}"
    );
    Config::parse(&[("config.toml", &text)]).expect("a good configuration")
}

fn around(without: Option<&str>) -> Around {
    let uids = ACCOUNTS.iter().filter(|name| Some(**name) != without).zip(1_000..);
    let uids = uids.map(|(name, uid)| (name.parse::<Account>().expect("an account"), uid)).collect();
    Around { known: Arc::new(Known { uids, settled: true }), ..Around::default() }
}

fn asker() -> Asker {
    Asker { actor: Actor { uid: Some(0), ..Actor::default() } }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let now =
            Now { wall: Timestamp::from_second(1_800_000_000).expect("in range"), boot: Duration::from_secs(100) };
        let core =
            Core::new(config(0), around(None), "boot-0".to_owned(), Sessions::default(), Moment { now, random: 1 });
        let kind = random.below(100);
        let (is_wild, is_calm) = (kind < 45, kind >= 75);
        let mut world = Self {
            seed,
            random,
            now,
            elapsed: Duration::ZERO,
            boots: 0,
            core,
            disk: Disk::new(),
            run: Run::default(),
            alive: BTreeSet::new(),
            gone_unread: Vec::new(),
            gates: BTreeMap::new(),
            operators: BTreeMap::new(),
            later: Vec::new(),
            numbers: 0,
            config: 0,
            store_fails: false,
            is_wild,
            is_calm,
            crash_after: None,
            truth: Truth::new(now),
            trace: VecDeque::new(),
        };
        world.start();
        // The first start of all is over: from when on lockdowns are scheduled is on disk.
        world.pass_time(Duration::from_secs(1));
        world
    }

    fn log(&mut self, what: String) {
        if self.trace.len() >= TRACED {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>10.3} s {} {what}", self.elapsed.as_secs_f64(), self.now.wall));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn moment(&mut self) -> Moment {
        Moment { now: self.now, random: self.random.next() }
    }

    fn in_a_moment(&mut self, most: u64, what: Later) {
        let wait = Duration::from_millis(self.random.below(most));
        self.later.push((self.elapsed + wait, what));
    }

    // --- what happens

    pub(crate) fn random_step(&mut self) {
        if self.crash_after.is_none() && self.random.percent(4) {
            self.crash_after = Some(self.random.below(12));
        }
        match self.random.below(100) {
            0..20 => self.login(),
            20..34 => self.allow(),
            34..40 => self.revoke(),
            40..42 => self.lockdown(),
            42..68 => {
                let most = if self.random.percent(10) { 600_000 } else { 4_000 };
                let span = Duration::from_millis(self.random.below(most));
                self.pass_time(span);
            }
            68..74 => self.somebody_leaves(),
            74..80 => self.reload(),
            80..83 => self.account_comes_or_goes(),
            83..88 => self.disk_changes(),
            88..90 => self.store_fails = !self.store_fails,
            90..93 if self.is_wild => self.set_clock(),
            93..96 => self.crash("killed", false),
            96..98 => self.crash("the power is cut", true),
            _ => self.act(Event::Pass),
        }
        self.truth_holds();
    }

    fn login(&mut self) {
        let account = ACCOUNTS[usize::try_from(self.random.below(3)).expect("small")];
        let key = if self.random.percent(50) { FRANK } else { GRACE };
        let pid = i32::try_from(1_000 + self.number()).expect("small");
        let ticks = u64::try_from(self.now.boot.as_millis() / 10).expect("small");
        let monitor = ProcessId { pid, start_time: ticks };
        let token = Token(self.number());
        self.alive.insert(monitor);
        self.gates.insert(token, Gate { account, monitor, since: self.elapsed });
        let question = gate::Question {
            step: gate::Step::Session,
            account: account.to_owned(),
            remote_host: None,
            connection: Some("192.0.2.7 4711 192.0.2.1 22".to_owned()),
            auth_info: Some(format!("publickey {key}\n")),
            service: None,
            tty: None,
        };
        self.log(format!("{} logs in to {account} with {}", token.0, &key[..8]));
        let asked = LoginAsked { question, token, monitor: Some(monitor), gate_waits: true, made_here: None };
        self.act(Event::Login(Box::new(asked)));
        if account == "breakglass" {
            assert!(!self.gates.contains_key(&token), "break-glass waits for nothing");
        }
    }

    fn allow(&mut self) {
        let (person, account) = match self.random.below(3) {
            0 => ("frank", "ubuntu"),
            1 => ("frank", "frank"),
            _ => ("grace", "ubuntu"),
        };
        let most = if self.random.percent(50) { 10 } else { 600 };
        let seconds = 1 + self.random.below(most);
        let asked = control::Allow {
            person: person.parse().expect("a person"),
            account: Some(account.parse().expect("an account")),
            duration: Some(seconds),
            at: None,
            reason: Some("INC-42".to_owned()),
            from: Vec::new(),
        };
        let token = Token(self.number());
        self.log(format!("{} allow {person} --account {account} --for {seconds}s", token.0));
        let before: BTreeSet<GrantId> = self.core.grants.all().iter().map(|grant| grant.id.clone()).collect();
        let effects = self.core.step(
            Event::Allow { token, asked: Box::new(asked), asker: asker() },
            Moment { now: self.now, random: self.random.next() },
        );
        let of_it = |grant: &&Grant| {
            let is_operators = matches!(grant.origin, Origin::Operator { .. });
            is_operators && grant.person.as_str() == person && grant.account.as_str() == account && grant.is_open()
        };
        let until = self.elapsed + Duration::from_secs(seconds);
        let mut new = None;
        for grant in self.core.grants.all().iter().filter(of_it) {
            self.truth.may_last(&grant.id, until);
            new = new.or_else(|| (!before.contains(&grant.id)).then(|| grant.id.clone()));
        }
        self.operators.insert(token, Operator { grant: new, since: self.elapsed });
        self.carry_out(effects);
    }

    fn revoke(&mut self) {
        let grants: Vec<GrantId> = self.core.open_grants();
        let target = match grants.get(usize::try_from(self.random.below(4)).expect("small")) {
            Some(grant) => grant.to_string(),
            None => "frank".to_owned(),
        };
        let token = Token(self.number());
        self.operators.insert(token, Operator { grant: None, since: self.elapsed });
        self.log(format!("{} revoke {target}", token.0));
        let asked = Revoke { target, reason: Some("over".to_owned()) };
        self.act(Event::Revoke { token, asked, asker: asker() });
    }

    fn lockdown(&mut self) {
        let token = Token(self.number());
        self.operators.insert(token, Operator { grant: None, since: self.elapsed });
        self.log(format!("{} lockdown", token.0));
        self.act(Event::Lockdown { token, asked: control::Lockdown { reason: None }, asker: asker() });
    }

    fn somebody_leaves(&mut self) {
        let many = self.alive.len() as u64;
        if many == 0 {
            return;
        }
        let which = usize::try_from(self.random.below(many)).expect("small");
        let monitor = *self.alive.iter().nth(which).expect("there are so many");
        self.log(format!("the connection of {} ends by itself", monitor.pid));
        self.end_connection(monitor);
    }

    fn end_connection(&mut self, monitor: ProcessId) {
        self.alive.remove(&monitor);
        let session = self.core.sessions.live().iter().find(|session| session.monitor == monitor);
        if let Some(id) = session.map(|session| session.id.clone()) {
            self.in_a_moment(50, Later::Gone(id));
        }
    }

    fn reload(&mut self) {
        self.config = usize::try_from(self.random.below(3)).expect("small");
        // In the very second in which a lockdown falls due, and before any timer has said so.
        let lockdown = self.core.next_lockdown().filter(|_| self.waiting().next().is_none());
        if let Some(at) = lockdown.filter(|_| self.random.percent(20)) {
            self.forward(Duration::try_from(at.duration_since(self.now.wall)).unwrap_or_default());
        }
        self.log(format!("reload: configuration {}", self.config));
        let moment = self.moment();
        self.core.begin(moment);
        let _ = self.core.replace_config(config(self.config), self.now);
        self.core.back_grants(self.now);
        self.act(Event::Pass);
    }

    fn account_comes_or_goes(&mut self) {
        let without = self.random.percent(50).then_some("ubuntu");
        self.log(format!("accounts without {without:?}"));
        self.act(Event::Seen(around(without)));
    }

    fn disk_changes(&mut self) {
        self.disk.condition = match self.random.below(4) {
            _ if self.is_calm => Condition::Works,
            0 => Condition::StandsStill,
            1 if self.is_wild => Condition::ReadOnly,
            _ => Condition::Works,
        };
        self.disk.has_failed |= self.disk.condition != Condition::Works;
        self.log(format!("the disk: {:?}", self.disk.condition));
    }

    fn set_clock(&mut self) {
        let step = i64::try_from(self.random.below(7_200)).expect("small") - 3_600;
        self.log(format!("the wall clock is set by {step} s"));
        self.now.wall += SignedDuration::from_secs(step);
        self.truth.clock_was_set();
        self.act(Event::ClockSet);
    }

    // --- time

    fn forward(&mut self, span: Duration) {
        self.elapsed += span;
        self.now.boot += span;
        self.now.wall += SignedDuration::try_from(span).expect("short");
    }

    pub(crate) fn pass_time(&mut self, span: Duration) {
        let until = self.elapsed + span;
        let mut at_once = 0;
        loop {
            let (wall, boot) = self.core.next_deadline(self.now);
            let wall = wall.map(|at| Duration::try_from(at.duration_since(self.now.wall)).unwrap_or_default());
            let boot = boot.map(|at| at.saturating_sub(self.now.boot));
            let due = [wall, boot].into_iter().flatten().min();
            let later = self.later.iter().map(|(at, _)| at.saturating_sub(self.elapsed)).min();
            let left = until.saturating_sub(self.elapsed);
            let next = [due, later].into_iter().flatten().min().filter(|next| *next <= left);
            let Some(next) = next else { return self.forward(left) };
            at_once = if next.is_zero() { at_once + 1 } else { 0 };
            assert!(at_once < 300, "it never rests: next {wall:?} {boot:?}");
            self.forward(next);
            if later == Some(next) {
                self.what_came_later();
            } else {
                self.log("a deadline".to_owned());
                self.act(Event::Deadline);
                if self.core.schedule.take_sweep(self.now).is_some() {
                    self.act(Event::Pass);
                }
            }
            self.truth_holds();
        }
    }

    fn what_came_later(&mut self) {
        let Some(index) = self.later.iter().position(|(at, _)| *at <= self.elapsed) else { return };
        match self.later.swap_remove(index).1 {
            Later::Gone(session) => {
                self.log(format!("{session} is gone"));
                self.act(Event::Gone(session));
            }
            Later::Looked(grant) => {
                self.log(format!("looked what was left behind under {grant}"));
                self.act(Event::EndLooked { grant, told: Vec::new() });
                self.commit();
            }
            Later::Disk => match self.disk.done(&mut self.run) {
                Some(done) => {
                    self.log(format!("the disk thread is done: {done:?}").chars().take(200).collect());
                    let known = Some(self.disk.known());
                    self.act(Event::Disk(done, known));
                }
                None if self.disk.is_idle() => {}
                None => self.in_a_moment(500, Later::Disk),
            },
            Later::Open => self.open(),
        }
    }

    fn commit(&mut self) {
        self.core.commit(self.now);
        let effects = self.core.take_effects(self.now);
        self.carry_out(effects);
    }

    // --- the daemon around the core, as `lockdownd` does it

    fn start(&mut self) {
        let live: Vec<Session> = serde_json::from_slice(&self.run.sessions).unwrap_or_default();
        let boot = format!("boot-{}", self.boots);
        let moment = self.moment();
        self.core = Core::new(config(self.config), around(None), boot, Sessions::left(live), moment);
        self.gone_unread.clear();
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
                self.enforce();
                let knows = self.core.unread.as_ref().is_some_and(lockdown_core::machine::Unread::knows_grants);
                let missed = if knows { self.core.resume_schedule(None, self.now) } else { None };
                self.core.back_grants(self.now);
                self.gone_unread = self.watch_sessions();
                if let Some((grants, due)) = missed {
                    self.core.scheduled_lockdown(&grants, due, self.now);
                }
                self.later.push((self.elapsed + Duration::from_secs(2), Later::Open));
                self.act(Event::Pass);
            }
        }
    }

    fn enforce(&mut self) {
        self.core.mode.enforces = true;
        self.core.mode.since = Some(Duration::ZERO);
    }

    fn open(&mut self) {
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
        let left = self.run.locked_down.take();
        self.core.end_what_was_locked_down(unread.as_ref(), left, self.now);
        let missed = match &unread {
            Some(unread) if unread.has_schedule() => None,
            _ => self.core.resume_schedule(on_record.lockdown, self.now),
        };
        self.core.back_grants(self.now);
        self.enforce();
        let gone = match unread {
            Some(_) => std::mem::take(&mut self.gone_unread),
            None => self.watch_sessions(),
        };
        self.core.close_gone(&gone, &on_record, self.now);
        if let Some((grants, due)) = missed {
            self.core.scheduled_lockdown(&grants, due, self.now);
        }
        self.act(Event::Pass);
    }

    fn watch_sessions(&mut self) -> Vec<Session> {
        let mut gone = Vec::new();
        for session in self.core.sessions.live().to_vec() {
            match self.alive.contains(&session.monitor) {
                true => self.core.resume_session(&session, self.now),
                false => gone.extend(self.core.sessions.gone(&session.id)),
            }
        }
        gone
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
        if self.random.percent(30) {
            let down = Duration::from_millis(self.random.below(1_500_000));
            self.forward(down);
        }
        if reboot {
            self.boots += 1;
            self.run = Run::default();
            self.alive.clear();
            self.now.boot = Duration::from_secs(5);
            self.truth.rebooted(&self.disk.ended());
        }
        self.start();
    }

    pub(crate) fn act(&mut self, event: Event) {
        let moment = self.moment();
        let effects = self.core.step(event, moment);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
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
            Effect::KeepOwed(stated) => self.run.owed.extend(stated),
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
            Effect::LookBehind(ids) => {
                let most = if self.random.percent(5) { 60_000 } else { 500 };
                ids.into_iter().for_each(|id| self.in_a_moment(most, Later::Looked(id)));
            }
            Effect::Answer(token, response) => self.operator_answered(token, response.as_ref().ok(), response.is_err()),
            Effect::AnswerOnceLooked(token, answer) => {
                self.core.answer_on_record(Waiting::Operator(token, Ok(answer)), self.now);
            }
            Effect::AnswerAllowed(token, answer) => {
                let id = &answer.grant.id;
                assert!(self.disk.grants_of(record::ArtifactType::GrantCreated).contains(id), "{id} is on record");
                self.operator_answered(token, None, false);
            }
            Effect::AnswerGate { token, answer, .. } => self.gate_answered(token, &answer),
            Effect::Say(_, what) => self.log(format!("says: {what}")),
            Effect::Comes(_)
            | Effect::Opened(_)
            | Effect::Tell(_)
            | Effect::ReadNotes
            | Effect::OnRecord(_)
            | Effect::Reloaded
            | Effect::DropWork(_)
            | Effect::ReadRecords(..) => {}
        }
        None
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
        let Some(operator) = self.operators.remove(&token) else { return };
        match (answer, operator.grant) {
            // Whoever was told that nothing was granted is right.
            (_, Some(grant)) if refused => self.truth.ended(&[grant]),
            (Some(Answer::Revoke(answer)), _) => self.truth.ended_views(&answer.grants),
            (Some(Answer::Lockdown(answer)), _) => self.truth.ended_views(&answer.grants),
            _ => {}
        }
    }

    fn gate_answered(&mut self, token: Token, answer: &gate::Answer) {
        let Some(gate) = self.gates.remove(&token) else { return };
        self.log(format!(
            "{} {}",
            token.0,
            if matches!(answer, gate::Answer::Allow { .. }) { "is in" } else { "is refused" }
        ));
        match answer {
            gate::Answer::Allow { .. } => self.may_be_let_in(&gate),
            gate::Answer::Refuse { .. } => self.end_connection(gate.monitor),
        }
    }

    /// Whether something comes a moment later.
    pub(crate) fn is_anything_to_come(&self) -> bool {
        !self.later.is_empty()
    }

    /// Those who wait, and for how long.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Duration> {
        let gates = self.gates.values().map(|gate| gate.since);
        let operators = self.operators.values().map(|operator| operator.since);
        gates.chain(operators).map(|since| self.elapsed.saturating_sub(since))
    }
}
