//! The world that the core is in: people, accounts, connections, clocks, and whoever drives the core.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    thread,
    time::Duration,
};

use control::{Revoke, gate};
use jiff::{SignedDuration, Timestamp};
use lockdown_core::{
    config::Config,
    machine::{
        Around, Asker, Core, Event, LoginAsked, Moment, Token,
        jobs::{Came, JobId},
        sweep::Swept,
    },
    policy::{
        grant::{Grant, Origin},
        observation::Known,
        time::Now,
    },
    process::ProcessId,
    sessions::Sessions,
};
use record::{Account, Actor, GrantId, SessionId};

use super::{
    checks::Truth,
    disk::{Condition, Disk, Run},
    jobs::Jobs,
    mode::Etc,
    stack::Stack,
};

const FRANK: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkd9Og1m9De7DZPdBm2Y9bX57ZB1owN+SKXnYRLfdTg";
const GRACE: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBH1SgjqfUbRzhKLFXVrqzShTMgnJKIvhr60Tf98JLYzK3KEFK8PR7RlCbDw+aRdcPYxUPmWLwgE+p9pKyhb0Jtw=";
pub(crate) const ACCOUNTS: [&str; 3] = ["ubuntu", "frank", "breakglass"];
/// How many steps a failure prints.
const TRACED: usize = 6000;

/// A source of numbers (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
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
pub(crate) struct Operator {
    /// The grant that was made for it.
    pub(crate) grant: Option<GrantId>,
    pub(crate) since: Duration,
}

/// What comes a moment later.
#[derive(Debug)]
pub(crate) enum Later {
    Gone(SessionId),
    Job(JobId, Came),
    Disk,
    Open,
    Swept,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) now: Now,
    /// Since the world began, whatever the clocks say.
    pub(crate) elapsed: Duration,
    pub(crate) boots: u32,
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    pub(crate) run: Run,
    pub(crate) alive: BTreeSet<ProcessId>,
    pub(crate) gates: BTreeMap<Token, Gate>,
    pub(crate) operators: BTreeMap<Token, Operator>,
    pub(crate) later: Vec<(Duration, Later)>,
    pub(crate) jobs: Jobs,
    pub(crate) stack: Stack,
    pub(crate) etc: Etc,
    pub(crate) numbers: u64,
    pub(crate) config: usize,
    pub(crate) store_fails: bool,
    /// Whether clocks are set and disks read-only or gone in this world: it then cannot be said how many lockdowns there are.
    pub(crate) is_wild: bool,
    /// Whether the disk always works in this world.
    pub(crate) is_calm: bool,
    /// Whether jobs mostly come late or never in this world.
    pub(crate) is_slow: bool,
    /// Whether the mode changes in this world.
    pub(crate) is_moody: bool,
    /// Faults have stopped.
    pub(crate) is_at_rest: bool,
    pub(crate) crash_after: Option<u64>,
    pub(crate) truth: Truth,
    pub(crate) trace: VecDeque<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            println!(
                "seed {}: SIMULATE_SEED={} cargo nextest run -p lockdown-core --test simulation",
                self.seed, self.seed
            );
            self.trace.iter().for_each(|line| println!("{line}"));
        }
    }
}

pub(crate) fn config(which: usize, is_stacked: bool) -> Config {
    let grace = "[[person]]\nname = \"grace\"\naccounts = [\"ubuntu\"]\n";
    let more = match which {
        0 => format!("{grace}keys = [\"{GRACE}\"]\n"),
        1 => String::new(),
        _ => format!(
            "{grace}keys = [\"{GRACE}\"]\n[[grant]]\nperson = \"grace\"\naccount = \"ubuntu\"\nexpires_at = \"2027-01-15T09:00:00Z\"\nreason = \"rendered\"\n"
        ),
    };
    let mode = if which == 3 { "observe" } else { "enforce" };
    // One of them takes no documents.
    let stack = if is_stacked && which != 2 { super::stack::settings() } else { String::new() };
    let rescue = if which == 1 { ", \"rescue\"" } else { "" };
    let text = format!(
        "mode = \"{mode}\"\n[accounts]\nexempt = [\"breakglass\"{rescue}]\n[sessions]\nleft_behind = \"end\"\n[schedule]\nlockdown = \"0 */20 * * * *\"\n[[person]]\nname = \
         \"frank\"\nkeys = [\"{FRANK}\"]\naccounts = [\"ubuntu\", \"frank\"]\noperator = true\n{more}{stack}"
    );
    Config::parse(&[("config.toml", &text)]).expect("a good configuration")
}

pub(crate) fn around(without: Option<&str>) -> Around {
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
        let is_stacked = seed.is_multiple_of(3);
        let core = Core::new(
            config(0, is_stacked),
            around(None),
            "boot-0".to_owned(),
            Sessions::default(),
            Moment { now, random: 1 },
        );
        let kind = random.below(100);
        let (is_wild, is_calm, is_slow) = (kind < 45, kind >= 75, kind.is_multiple_of(10));
        let is_moody = kind % 4 == 1;
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
            gates: BTreeMap::new(),
            operators: BTreeMap::new(),
            later: Vec::new(),
            jobs: Jobs::default(),
            stack: Stack::new(is_stacked),
            etc: Etc::new(),
            numbers: 0,
            config: 0,
            store_fails: false,
            is_wild,
            is_calm,
            is_slow,
            is_moody,
            is_at_rest: false,
            crash_after: None,
            truth: Truth::new(now),
            trace: VecDeque::new(),
        };
        world.start();
        // The first start of all is over: from when on lockdowns are scheduled is on disk.
        world.pass_time(Duration::from_secs(1));
        if is_stacked {
            // Nothing from before the state began opens, by whatever clock.
            world.pass_time(Duration::from_secs(180));
        }
        world
    }

    pub(crate) fn log(&mut self, what: String) {
        if self.trace.len() >= TRACED {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>10.3} s {} {what}", self.elapsed.as_secs_f64(), self.now.wall));
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn moment(&mut self) -> Moment {
        Moment { now: self.now, random: self.random.next() }
    }

    pub(crate) fn in_a_moment(&mut self, most: u64, what: Later) {
        let wait = Duration::from_millis(self.random.below(most));
        self.later.push((self.elapsed + wait, what));
    }

    // --- what happens

    pub(crate) fn random_step(&mut self) {
        if self.crash_after.is_none() && self.random.percent(4) {
            self.crash_after = Some(self.random.below(12));
        }
        if self.stack.is_on && self.random.percent(30) {
            self.document_step();
            return self.truth_holds();
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
            80..82 => self.account_comes_or_goes(),
            82 => self.something_changes(),
            83..87 => self.disk_changes(),
            87..88 if !self.is_calm => self.disk_stands_still_under_a_login(),
            88..90 => self.store_fails = !self.store_fails,
            90..93 if self.is_wild => self.set_clock(),
            93..96 => self.crash("killed", false),
            96..98 => self.crash("the power is cut", true),
            98 if self.is_slow && self.random.percent(20) => self.jobs_hang(),
            98 if self.is_moody => self.try_enforce(),
            98 if self.random.percent(50) => self.look(),
            98 => self.ask_for_a_job(),
            _ => self.act(Event::Pass),
        }
        self.truth_holds();
    }

    fn login(&mut self) {
        let account = ACCOUNTS[usize::try_from(self.random.below(3)).expect("small")];
        let heidi = super::stack::public("heidi");
        let key = match self.random.below(100) {
            0..50 => FRANK,
            50..75 if self.stack.is_on => &heidi,
            _ => GRACE,
        };
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
            let is_new = !before.contains(&grant.id);
            self.truth.may_last(&grant.id, until, is_new);
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

    pub(crate) fn end_connection(&mut self, monitor: ProcessId) {
        self.alive.remove(&monitor);
        let session = self.core.sessions.live().iter().find(|session| session.monitor == monitor);
        if let Some(id) = session.map(|session| session.id.clone()) {
            self.in_a_moment(50, Later::Gone(id));
        }
    }

    fn reload(&mut self) {
        let many = if self.is_moody { 4 } else { 3 };
        self.config = usize::try_from(self.random.below(many)).expect("small");
        // In the very second in which a lockdown falls due, and before any timer has said so.
        let lockdown =
            self.core.next_lockdown().filter(|_| self.waiting().next().is_none() && !self.jobs.anybody_waits());
        if let Some(at) = lockdown.filter(|_| self.random.percent(20)) {
            self.forward(Duration::try_from(at.duration_since(self.now.wall)).unwrap_or_default());
        }
        self.reload_by_job();
        self.act(Event::Pass);
    }

    fn account_comes_or_goes(&mut self) {
        self.etc.without = self.random.percent(50).then_some("ubuntu");
        self.log(format!("accounts without {:?}", self.etc.without));
        self.act(Event::Touched { anything: false });
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

    /// As long as anybody waits for it, and a little longer.
    fn disk_stands_still_under_a_login(&mut self) {
        self.disk.condition = Condition::StandsStill;
        self.disk.has_failed = true;
        self.login();
        let span = Duration::from_millis(3_000 + self.random.below(3_000));
        self.pass_time(span);
        self.disk.condition = Condition::Works;
    }

    fn set_clock(&mut self) {
        let step = i64::try_from(self.random.below(7_200)).expect("small") - 3_600;
        self.log(format!("the wall clock is set by {step} s"));
        self.now.wall += SignedDuration::from_secs(step);
        self.truth.clock_was_set();
        self.act(Event::ClockSet);
    }

    // --- time

    pub(crate) fn forward(&mut self, span: Duration) {
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
            // Of what comes at the same moment, a deadline comes first: it is what must not be late.
            if due != Some(next) {
                self.what_came_later();
            } else {
                self.log("a deadline".to_owned());
                self.act(Event::Deadline);
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
            Later::Job(id, came) => self.job_came(id, came),
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
            Later::Swept => self.act(Event::Swept(Swept::default())),
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
