//! What a person leaves running on an account when their grant ends: found, on record, and ended where config says so.
//!
//! Never touched: what other people's live grants or connections may have started, what was there before the grant, and
//! services that no login started.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use record::{Account, ArtifactType, Draft, GrantId};
use serde_json::{Value, json};

use super::{Engine, ending::grant_ended};
use crate::{
    config::LeftBehind,
    host::{
        clock::Now,
        held::Held,
        jobs::{self, Aside, Job, Kind},
        left_behind::{self, Found},
        processes::{self, ProcessId},
    },
    policy::{
        grant::Grant,
        left_behind::{AT, CRON, Left, Over, Seen, judge, occupied_since, user_slice},
    },
    trigger::Reason,
};

/// How long after a grant's end it is looked again for what its person left: for what was just being forked, for what
/// waited a moment, and for what cron and timers start each minute.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(45)];
/// How long all of that takes.
const LOOKS_TAKE: SignedDuration = SignedDuration::from_secs(60);
/// How many things one record names; the others are counted.
pub(crate) const MAX_NAMED: usize = 64;
/// How many jobs one record names: what somebody queues must not hide what they left running.
const MAX_NAMED_JOBS: usize = 32;
/// How long one look takes jobs out of their spools. It goes on after [`PAUSE`], so that logins are not kept waiting, until
/// none is left: how much somebody queues is theirs to choose.
const MAX_TAKING: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// The control groups, besides the account's own, in which what a person left may run: what cron and at start.
const STARTERS: [&str; 2] = [CRON, AT];

/// What was found, and what of it was ended.
#[derive(Debug, Default)]
pub(super) struct Findings {
    items: Vec<Value>,
    /// Jobs that are counted and not named.
    more: u64,
    jobs: usize,
    ended: u64,
}

/// One grant that has ended, and what is found of it.
struct Case {
    id: GrantId,
    over: Over,
    /// The audit sessions of its connections that go on (`end_with_grant = false`, observe).
    live: BTreeSet<u32>,
    findings: Findings,
}

impl Engine {
    /// Whether what is left behind is ended, and not only told of.
    fn ends_left_behind(&self) -> bool {
        let sessions = &self.config.sessions;
        self.enforces() && sessions.end_with_grant && sessions.left_behind == LeftBehind::End
    }

    /// Notes that these grants have ended, with what each left behind; that ends too where config says so.
    pub(super) fn note_ends(&mut self, ids: &[GrantId], now: Now) {
        for Case { id, findings, .. } in self.settle_left_behind(ids, true, now) {
            if let Some(draft) = self.grants.get(&id).and_then(grant_ended) {
                self.recorder.note(findings.told_by(draft));
            }
        }
        self.look_behind_later(ids);
    }

    fn look_behind_later(&self, ids: &[GrantId]) {
        if ids.is_empty() || !self.ends_left_behind() {
            return;
        }
        LOOKS.into_iter().for_each(|wait| self.look_behind_after(wait, ids.to_vec(), true));
    }

    fn look_behind_after(&self, wait: Duration, ids: Vec<GrantId>, whole: bool) {
        let reasons = self.reasons.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Nobody receives once the daemon stops; the next start takes it up.
            let _ = reasons.send(Reason::LookBehind(ids, whole)).await;
        });
    }

    /// After a start: what ended just before it is looked after as if there had been none.
    pub(super) fn resume_looks_behind(&self, now: Now) {
        let just = |at: Timestamp| now.wall.duration_since(at) < LOOKS_TAKE;
        let ended = self.grants.all().iter().filter(|grant| grant.end.as_ref().is_some_and(|end| just(end.at)));
        self.look_behind_later(&ended.map(|grant| grant.id.clone()).collect::<Vec<_>>());
    }

    /// Looks again for what was left behind under grants that have ended; what is ended now is on record.
    pub(super) fn look_behind(&mut self, ids: &[GrantId], whole: bool, now: Now) {
        if !self.ends_left_behind() {
            return;
        }
        for Case { id, findings, .. } in self.settle_left_behind(ids, whole, now) {
            let Some(grant) = self.grants.get(&id).filter(|_| findings.ended > 0) else { continue };
            let sentence =
                format!("what {} left running on {} was ended: the grant is over", grant.person, grant.account);
            let mut draft = Draft::new(ArtifactType::SessionTerminated, sentence)
                .with("ended", "left_behind")
                .with("killed", findings.ended);
            draft.person = Some(grant.person.clone());
            draft.account = Some(grant.account.clone());
            draft.grant = Some(id);
            self.recorder.note(findings.told_by(draft));
        }
        self.commit(now);
    }

    /// Each sweep: forgets traces that lead nowhere, and looks after grants that have ended: for what their connections
    /// left, and for jobs that wait since then.
    pub(super) fn look_behind_all(&mut self, now: Now) {
        match left_behind::still_in_use(&self.traces.audits()) {
            Ok(used) => {
                let occupied: BTreeSet<&Account> = self.grants.open_ones().map(|grant| &grant.account).collect();
                let account = |id: &GrantId| self.grants.get(id).map(|grant| &grant.account);
                self.traces.keep(&used, |id| account(id).is_some_and(|account| occupied.contains(account)));
            }
            Err(error) => return tracing::error!(%error, "what was left behind cannot be looked for"),
        }
        let ended = self.grants.all().iter().filter(|grant| grant.end.is_some());
        let ended: Vec<GrantId> = ended.map(|grant| grant.id.clone()).collect();
        self.look_behind(&ended, false, now);
    }

    /// Finds what was left behind under grants that have ended, and ends it where config says so. `whole`: with what their
    /// accounts run by themselves, which later may be of others.
    fn settle_left_behind(&self, ids: &[GrantId], whole: bool, now: Now) -> Vec<Case> {
        let ends = self.ends_left_behind();
        let mut cases = self.cases(ids, whole, ends, now);
        if !whole && cases.iter().all(|case| case.over.audits.is_empty()) {
            return cases;
        }
        let slices: BTreeSet<String> = cases.iter().map(|case| user_slice(case.over.uid)).collect();
        let groups = slices.iter().map(String::as_str).chain(STARTERS).filter(|_| ends);
        let _held = Held::hold(groups);
        let spared = self.spared_processes();
        match left_behind::survey(&spared) {
            Ok(found) => {
                let judged = found.into_iter().filter_map(|found| Some((judged(&found, &cases)?, found)));
                let judged: Vec<((usize, Left), Found)> = judged.collect();
                let killed = match ends && judged.iter().any(|((_, left), _)| matches!(left, Left::Theirs(_))) {
                    true => end(&spared, &cases),
                    false => Vec::new(),
                };
                tell(&mut cases, &judged, &killed);
            }
            Err(error) => tracing::error!(%error, "what was left behind cannot be looked for"),
        }
        cases
    }

    /// What there is to know of each of these grants; what waits to run on its account comes first, since it would start
    /// things anew.
    fn cases(&self, ids: &[GrantId], whole: bool, ends: bool, now: Now) -> Vec<Case> {
        let mut by_account: BTreeMap<&Account, Vec<&Grant>> = BTreeMap::new();
        self.grants.all().iter().for_each(|grant| by_account.entry(&grant.account).or_default().push(grant));
        let mut waiting: BTreeMap<(&Account, u32), Vec<Job>> = BTreeMap::new();
        let mut taking = Taking { aside: ends.then(Aside::open), until: Instant::now() + MAX_TAKING, took: false, now };
        let mut unfinished = Vec::new();
        let mut cases = Vec::new();
        for grant in ids.iter().filter_map(|id| self.grants.get(id)) {
            let since = occupied_since(grant, by_account[&grant.account].iter().copied());
            let account = (&grant.account, grant.uid);
            let jobs = waiting.entry(account).or_insert_with(|| jobs::of(account.0, account.1));
            let over = Over { connections_alone: !whole, ..self.over(grant, since, jobs, now) };
            let until =
                grant.end.as_ref().map_or(Timestamp::MAX, |end| end.at.saturating_add(LOOKS_TAKE).unwrap_or(end.at));
            let theirs = |job: &Job| !over.shared && job.changed_at >= since && job.changed_at <= until;
            let mut findings = Findings::default();
            jobs.retain(|job| !findings.job(job, theirs(job), &mut taking));
            if taking.is_over() && jobs.iter().any(theirs) {
                unfinished.push(grant.id.clone());
            }
            cases.push(Case { id: grant.id.clone(), over, live: self.live_audits(&grant.id), findings });
        }
        // Where nothing could be taken, the next sweep tries again.
        if taking.took && !unfinished.is_empty() {
            self.look_behind_after(PAUSE, unfinished, whole);
        }
        cases
    }

    fn over(&self, grant: &Grant, since: Timestamp, waiting: &[Job], now: Now) -> Over {
        let elsewhere = |session: &crate::sessions::Session| {
            session.account == grant.account && session.ending.is_none() && session.grant() != Some(&grant.id)
        };
        let others = self.grants.open_ones().any(|open| open.account == grant.account && open.is_active(now));
        let age = now.wall.duration_since(since);
        Over {
            uid: grant.uid,
            audits: self.traces.of(&grant.id),
            since: now.boot.saturating_sub(Duration::try_from(age).unwrap_or_default()),
            shared: others || self.sessions.live().iter().any(elsewhere),
            connections_alone: false,
            lingers: waiting.iter().any(|job| job.kind == Kind::Linger),
            used: self.used_since(&grant.account, since),
        }
    }

    /// Whether anybody came in on a grant for this account that lasted beyond this moment.
    fn used_since(&self, account: &Account, since: Timestamp) -> bool {
        let used = self.traces.grants();
        let lasted = |grant: &Grant| grant.end.as_ref().is_none_or(|end| end.at >= since);
        self.grants.all().iter().any(|grant| grant.account == *account && lasted(grant) && used.contains(&grant.id))
    }

    /// Listeners of root's sshds and every connection's own processes: connections end by themselves.
    fn spared_processes(&self) -> HashSet<ProcessId> {
        let crate::host::connection::Spared { mut listeners, monitors } = self.spared();
        listeners.extend(monitors);
        listeners
    }

    /// The audit sessions of this grant's connections that go on.
    fn live_audits(&self, id: &GrantId) -> BTreeSet<u32> {
        let live = self.sessions.live().iter().filter(|s| s.ending.is_none() && s.grant() == Some(id));
        live.filter_map(|session| left_behind::own_audit_session(session.monitor)).collect()
    }

    /// Remembers the audit session of a granted connection.
    pub(super) fn trace(&mut self, id: &record::SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        if let (Some(grant), Some(audit)) = (session.grant(), left_behind::own_audit_session(session.monitor)) {
            self.traces.add(grant, audit);
        }
    }
}

/// Whose a process is, by its place among the cases: somebody's before everybody's.
fn judged(found: &Found, cases: &[Case]) -> Option<(usize, Left)> {
    let began = processes::began(found.id);
    let seen = Seen { audit: found.audit, login_uid: found.login_uid, cgroup: &found.cgroup, began };
    let judged = cases.iter().map(|case| judge(seen, &case.over, &case.live)).enumerate();
    let mut judged = judged.filter(|(_, left)| *left != Left::Nothing);
    let first = judged.next()?;
    let is_theirs = |(_, left): &(usize, Left)| matches!(left, Left::Theirs(_));
    Some(if is_theirs(&first) { first } else { judged.find(is_theirs).unwrap_or(first) })
}

fn end(spared: &HashSet<ProcessId>, cases: &[Case]) -> Vec<Found> {
    left_behind::end(spared, |found| matches!(judged(found, cases), Some((_, Left::Theirs(_))))).unwrap_or_else(
        |error| {
            tracing::error!(%error, "what was left behind could not be ended whole; it is tried again");
            Vec::new()
        },
    )
}

/// What was found at the first look, and what was killed: that may be more.
fn tell(cases: &mut [Case], judged: &[((usize, Left), Found)], killed: &[Found]) {
    let ended: HashSet<ProcessId> = killed.iter().map(|found| found.id).collect();
    let seen: HashSet<ProcessId> = judged.iter().map(|(_, found)| found.id).collect();
    for ((case, left), found) in judged {
        if let Left::Theirs(by) | Left::Accounts(by) = left {
            cases[*case].findings.process(found, by.word(), ended.contains(&found.id));
        }
    }
    for found in killed.iter().filter(|found| !seen.contains(&found.id)) {
        if let Some((case, Left::Theirs(by))) = self::judged(found, cases) {
            cases[case].findings.process(found, by.word(), true);
        }
    }
}

/// Takes jobs out of their spools, for so long; where nothing is ended, there is no place to put them.
struct Taking {
    aside: Option<std::io::Result<Aside>>,
    until: Instant,
    took: bool,
    now: Now,
}

impl Taking {
    fn is_over(&self) -> bool {
        self.aside.is_some() && Instant::now() >= self.until
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
        let taken = match taking.aside.as_mut().filter(|_| theirs) {
            None => None,
            Some(Ok(aside)) => Some(aside.set_aside(job, taking.now.wall).map_err(|error| error.to_string())),
            Some(Err(error)) => Some(Err(error.to_string())),
        };
        let ended = matches!(taken, Some(Ok(_)));
        taking.took |= ended;
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

    fn process(&mut self, found: &Found, by: &str, ended: bool) {
        self.ended += u64::from(ended);
        self.items.push(process(found, by, ended));
    }

    /// The draft with what was found; what is not named is counted.
    fn told_by(mut self, draft: Draft) -> Draft {
        let more = self.more + self.items.len().saturating_sub(MAX_NAMED) as u64;
        if self.items.is_empty() {
            return draft;
        }
        self.items.truncate(MAX_NAMED);
        let draft = draft.with("left_behind", self.items);
        if more > 0 { draft.with("more_left_behind", more) } else { draft }
    }
}

fn process(found: &Found, by: &str, ended: bool) -> Value {
    let mut item = json!({ "what": "process", "by": by, "pid": found.id.pid, "uid": found.uid, "ended": ended });
    if let Some(exe) = &found.exe {
        item["exe"] = record::outside(exe.as_os_str().as_encoded_bytes()).into();
    }
    item
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
