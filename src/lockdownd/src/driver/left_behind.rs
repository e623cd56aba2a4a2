//! One look for what was left behind, and its end where the configuration says so. Runs in a job, beside the main thread.
//!
//! Never touched: what other people's live grants or connections may have started, what was there before the grant, and
//! services that no login started.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lockdown_core::{
    machine::left_behind::{self, GoesOn, LookBehind, Looked, LookedBehind, MAX_NAMED},
    policy::left_behind::{AT, By, CRON, Left, Seen, is_within, judge, user_slice},
};
use lockdown_host::{
    connection::{Spared, is_session_scope},
    held::Held,
    jobs::{self, Aside, Job, Kind},
    left_behind::{self as survey, Found},
    processes::{Handle as _, ProcessId},
};
use record::{Account, GrantId};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Driver;

/// How many jobs one record names: what somebody queues must not hide what they left running.
const MAX_NAMED_JOBS: usize = 32;
/// How long one look takes jobs out of their spools. The next one goes on, until none is left: how much somebody queues is
/// theirs to choose.
const MAX_TAKING: Duration = Duration::from_secs(10);
/// The control groups, besides the account's own, in which what a person left may run: what cron and at start.
const STARTERS: [&str; 2] = [CRON, AT];
/// Where a service manager itself is, below its own control group.
const MANAGERS_OWN: &str = "/init.scope";

/// What is to be looked for.
pub(super) struct Question {
    /// Whether what is found ends.
    ends: bool,
    /// Whether it is asked which audit sessions are still in use.
    forget: bool,
    cases: Vec<Case>,
    spared: HashSet<ProcessId>,
    /// The audit sessions of every granted connection that is remembered.
    audits: BTreeSet<u32>,
    /// Accounts that somebody comes to meanwhile.
    came: Came,
    now: Timestamp,
}

/// One grant that has ended, and what is found of it.
struct Case {
    asked: left_behind::Case,
    /// The audit sessions of its connections that go on.
    live: BTreeSet<u32>,
    findings: Findings,
}

/// Accounts that somebody has come to since a look began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Came(Arc<Mutex<BTreeSet<Account>>>);

impl Came {
    /// Somebody may be on this account from now on: what it runs by itself is nobody's to end.
    pub(super) fn note(&self, account: &Account) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone());
    }

    fn begin(&self) -> Self {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.clone()
    }

    fn has(&self, account: &Account) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(account)
    }
}

impl Driver {
    /// What a look needs to know besides. Connections end by themselves: their processes are spared, and the listeners of
    /// root's sshds.
    pub(super) fn question_behind(&self, look: LookBehind) -> Question {
        let Spared { mut listeners, monitors } = self.spared();
        listeners.extend(monitors);
        let LookBehind { ends, forget, cases, audits, now } = look;
        let case = |asked: left_behind::Case| Case {
            live: asked.live.iter().filter_map(|monitor| survey::own_audit_session(*monitor)).collect(),
            asked,
            findings: Findings::default(),
        };
        let cases = cases.into_iter().map(case).collect();
        Question { ends, forget, cases, spared: listeners, audits, came: self.came.begin(), now }
    }
}

/// What was found, and what of it was ended.
#[derive(Debug, Default)]
struct Findings {
    items: Vec<Value>,
    /// Things that are counted and not named.
    more: u64,
    jobs: usize,
    ended: u64,
    goes_on: Vec<GoesOn>,
    all_going_on: u64,
    alive: bool,
}

/// Finds what was left behind under grants that have ended, and ends it where that is asked for.
pub(super) fn look(mut question: Question) -> LookedBehind {
    let used = match question.forget {
        true => survey::still_in_use(&question.audits)
            .inspect_err(|error| tracing::error!(%error, "what was left behind cannot be looked for"))
            .ok(),
        false => None,
    };
    take_jobs(&mut question);
    look_at_processes(&mut question);
    let cases = question.cases.into_iter().map(|case| case.findings.told(case.asked.id)).collect();
    LookedBehind { ends: question.ends, cases, used, asked: question.audits }
}

/// What waits to run on their accounts comes first, since it would start things anew.
fn take_jobs(question: &mut Question) {
    let (ends, now) = (question.ends, question.now);
    let mut waiting: BTreeMap<(Account, u32), Vec<Job>> = BTreeMap::new();
    let mut taking = Taking { takes: ends, aside: None, until: Instant::now() + MAX_TAKING, now };
    for case in question.cases.iter_mut().filter(|case| !case.asked.over.connections_alone) {
        let account = (case.asked.account.clone(), case.asked.over.uid);
        let jobs = waiting.entry(account).or_insert_with_key(|(account, uid)| jobs::of(account, *uid));
        case.asked.over.manager_goes = !ends && jobs.iter().all(|job| job.kind != Kind::Linger);
        case.asked.gently &= jobs.iter().all(|job| job.kind != Kind::Linger);
        let (shared, span) = (case.asked.over.shared, case.asked.since..=case.asked.until);
        let theirs = |job: &Job| !shared && span.contains(&job.changed_at);
        jobs.retain(|job| !case.findings.job(job, theirs(job), &mut taking));
        case.findings.alive |= taking.is_over() && jobs.iter().any(theirs);
    }
}

fn look_at_processes(question: &mut Question) {
    let Question { ends, cases, spared, audits, came, .. } = question;
    if cases.iter().all(|case| case.asked.over.connections_alone && case.asked.over.audits.is_empty()) {
        return;
    }
    let slices: BTreeSet<String> = cases.iter().map(|case| user_slice(case.asked.over.uid)).collect();
    let groups = slices.iter().map(String::as_str).chain(STARTERS).filter(|_| *ends);
    let held = Held::hold(groups);
    let found = match survey::survey(spared) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "what was left behind cannot be looked for");
            return cases.iter_mut().for_each(|case| case.findings.alive = true);
        }
    };
    for case in cases.iter_mut() {
        case.asked.over.attended = is_attended(&found, case.asked.over.uid, audits);
    }
    let judged: Vec<((usize, Left), Found)> =
        found.into_iter().filter_map(|found| Some((judged(&found, cases, came)?, found))).collect();
    let killed = match *ends && judged.iter().any(|((_, left), _)| matches!(left, Left::Theirs(_))) {
        true => end(spared, cases, came),
        false => Vec::new(),
    };
    tell(cases, &judged, &killed, came);
    drop(held);
    if *ends {
        ask_managers_to_end(cases, &judged);
    }
}

/// Whether somebody is logged in to the account in another way than by a granted connection, as on a console.
fn is_attended(found: &[Found], uid: u32, audits: &BTreeSet<u32>) -> bool {
    let slice = user_slice(uid);
    let manager = format!("{slice}/user@{uid}.service");
    // What the service manager starts, a session that su(1) opens from there included, is not somebody else.
    let managers: BTreeSet<u32> =
        found.iter().filter(|found| is_within(&found.cgroup, &manager)).filter_map(|found| found.audit).collect();
    let is_others = |audit: u32| !audits.contains(&audit) && !managers.contains(&audit);
    let in_session = |found: &&Found| is_within(&found.cgroup, &slice) && is_session_scope(&found.cgroup);
    found.iter().filter(in_session).any(|found| found.audit.is_some_and(is_others))
}

/// Whose a process is, by its place among the cases: somebody's before everybody's.
fn judged(found: &Found, cases: &[Case], came: &Came) -> Option<(usize, Left)> {
    let began = found.id.began();
    let seen = Seen { audit: found.audit, login_uid: found.login_uid, cgroup: &found.cgroup, began };
    let judged = cases.iter().map(|case| judge(seen, &case.asked.over, &case.live)).enumerate();
    let mut judged = judged.filter(|(_, left)| *left != Left::Nothing);
    let first = judged.next()?;
    let is_theirs = |(_, left): &(usize, Left)| matches!(left, Left::Theirs(_));
    let (case, left) = if is_theirs(&first) { first } else { judged.find(is_theirs).unwrap_or(first) };
    let has_company = || came.has(&cases[case].asked.account);
    Some((case, if left == Left::Theirs(By::Session) || !has_company() { left } else { left.shared() }))
}

/// A service manager that does not linger: it is asked to end, so that its unit does not fail, and only then killed.
fn is_asked(case: &Case, found: &Found) -> bool {
    case.asked.gently && found.cgroup.ends_with(MANAGERS_OWN)
}

fn end(spared: &HashSet<ProcessId>, cases: &[Case], came: &Came) -> Vec<Found> {
    let picked = |found: &Found| match judged(found, cases, came) {
        Some((case, Left::Theirs(by))) => by != By::UserManager || !is_asked(&cases[case], found),
        _ => false,
    };
    survey::end(spared, picked).unwrap_or_else(|error| {
        tracing::error!(%error, "what was left behind could not be ended whole; it is tried again");
        Vec::new()
    })
}

fn ask_managers_to_end(cases: &[Case], judged: &[((usize, Left), Found)]) {
    let managers = judged
        .iter()
        .filter(|((case, left), found)| *left == Left::Theirs(By::UserManager) && is_asked(&cases[*case], found));
    for (_, found) in managers {
        // To systemd(1) this says: end in good order. Its helper beside it ends with it.
        if let Err(error) = found.id.open().and_then(|held| held.map_or(Ok(true), |held| held.signal(Signal::TERM))) {
            tracing::warn!(pid = found.id.pid, %error, "a service manager could not be asked to end; it is killed");
        }
    }
}

/// What was found at the first look, and what was killed: that may be more.
fn tell(cases: &mut [Case], judged: &[((usize, Left), Found)], killed: &[Found], came: &Came) {
    let ended: HashSet<ProcessId> = killed.iter().map(|found| found.id).collect();
    let seen: HashSet<ProcessId> = judged.iter().map(|(_, found)| found.id).collect();
    for ((case, left), found) in judged {
        let case = &mut cases[*case];
        case.findings.alive |= matches!(left, Left::Theirs(_));
        if let Left::Theirs(by) | Left::Accounts(by) = left
            && !(*by == By::UserManager && is_asked(case, found))
        {
            case.findings.process(found, by.word(), ended.contains(&found.id));
        }
    }
    for found in killed.iter().filter(|found| !seen.contains(&found.id)) {
        if let Some((case, Left::Theirs(by))) = self::judged(found, cases, came) {
            cases[case].findings.process(found, by.word(), true);
        }
    }
}

/// Takes jobs out of their spools, for so long; where nothing is ended, there is no place to put them.
struct Taking {
    /// Whether jobs are taken out at all.
    takes: bool,
    /// On the disk, which may stand still: nobody asks for it before there is a job to keep.
    aside: Option<std::io::Result<Aside>>,
    until: Instant,
    now: Timestamp,
}

impl Taking {
    fn is_over(&self) -> bool {
        self.takes && Instant::now() >= self.until
    }

    /// Takes a job out of its spool.
    fn take(&mut self, job: &Job) -> Result<Option<PathBuf>, String> {
        match self.aside.get_or_insert_with(Aside::open) {
            Ok(aside) => aside.set_aside(job, self.now).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Findings {
    /// Notes a job, and takes it out of its spool if it is theirs and may end; whether it did.
    fn job(&mut self, job: &Job, theirs: bool, taking: &mut Taking) -> bool {
        if theirs && taking.is_over() {
            return false;
        }
        self.jobs += 1;
        let named = self.jobs <= MAX_NAMED_JOBS;
        let mut item = if named { told(job) } else { Value::Null };
        let taken = (theirs && taking.takes).then(|| taking.take(job));
        let ended = matches!(taken, Some(Ok(_)));
        self.ended += u64::from(ended);
        if !named {
            self.more += 1;
            return ended;
        }
        item["ended"] = ended.into();
        match taken {
            Some(Ok(Some(kept))) => item["kept_in"] = record::outside(kept.as_os_str().as_encoded_bytes()).into(),
            Some(Err(failed)) => item["failed"] = failed.into(),
            Some(Ok(None)) | None => {}
        }
        self.items.push(item);
        ended
    }

    fn process(&mut self, found: &Found, by: &'static str, ended: bool) {
        self.ended += u64::from(ended);
        let program = found.exe.as_ref().map(|exe| record::outside(exe.as_os_str().as_encoded_bytes()));
        if !ended {
            self.all_going_on += 1;
            if self.goes_on.len() < MAX_NAMED {
                self.goes_on.push(GoesOn { pid: found.id.pid, program: program.clone(), by });
            }
        }
        if self.items.len() >= MAX_NAMED {
            self.more += 1;
            return;
        }
        let mut item = json!({ "what": "process", "by": by, "pid": found.id.pid, "uid": found.uid, "ended": ended });
        if let Some(program) = program {
            item["exe"] = program.into();
        }
        self.items.push(item);
    }

    fn told(self, id: GrantId) -> Looked {
        let Self { items, more, ended, goes_on, all_going_on, alive, jobs: _ } = self;
        let mut told = Vec::new();
        if !items.is_empty() {
            told.push(("left_behind", items.into()));
            told.extend((more > 0).then(|| ("more_left_behind", more.into())));
        }
        Looked { id, alive, ended, told, goes_on, all_going_on }
    }
}

fn told(job: &Job) -> Value {
    let mut item = json!({
        "what": job.kind.word(),
        "path": record::outside(job.path.as_os_str().as_encoded_bytes()),
        "changed_at": job.changed_at.to_string(),
    });
    if let Some(content) = job.content().filter(|_| job.kind != Kind::Linger) {
        item["sha256"] = content.sha256.into();
        item["size"] = content.size.into();
    }
    item
}
