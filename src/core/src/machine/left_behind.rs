//! What a person leaves running on an account when their grant ends: when it is looked for, and what is on record of it.
//!
//! Looking takes the longer the more there is, so it is done in a job, one at a time; connections have been cut before. The
//! record of a grant's end follows the look. A crash in between loses none: the next start finds the grant ended and not on
//! record, and looks again.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use record::{Account, ArtifactType, Draft, GrantId, SessionId};
use serde_json::Value;

use self::answers::Waiting;
use super::{
    Core, Effect,
    jobs::{Job, Kind},
};
use crate::{
    config::LeftBehind,
    policy::{
        grant::Grant,
        left_behind::{Over, occupied_since},
        time::Now,
    },
    process::ProcessId,
    sessions::Session,
};

/// How many things one record names; the others are counted.
pub const MAX_NAMED: usize = 64;
/// How long after a grant's end it is looked again for what its person left: for what was just being forked, for what
/// waited a moment, and for what cron and timers start each minute. While anything of theirs is found it goes on.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(45)];
/// How long all of that takes. What is installed later than that is only theirs if something of theirs lived until then.
const LOOKS_TAKE: SignedDuration = SignedDuration::from_secs(60);
/// How soon it is looked again after something was found, the first [`QUICK_LOOKS`] times and then.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
const QUICK_LOOKS: u32 = 10;
/// How long no look is begun after one that did not come back.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long a service manager that does not linger gets to end by itself before it is killed.
const GENTLE: SignedDuration = SignedDuration::from_secs(4);

/// What is to be looked for.
#[derive(Debug)]
pub struct LookBehind {
    /// Whether what is found ends.
    pub ends: bool,
    /// Whether it is asked which audit sessions are still in use.
    pub forget: bool,
    /// Under which grants.
    pub cases: Vec<Case>,
    /// The audit sessions of every granted connection that is remembered.
    pub audits: BTreeSet<u32>,
    /// When it is asked.
    pub now: Timestamp,
}

/// One grant that has ended.
#[derive(Debug)]
pub struct Case {
    /// Which.
    pub id: GrantId,
    /// On which account.
    pub account: Account,
    /// What matters of it.
    pub over: Over,
    /// Jobs that changed between these are theirs.
    pub since: Timestamp,
    /// Until then.
    pub until: Timestamp,
    /// Whether a service manager that does not linger is asked to end before it is killed.
    pub gently: bool,
    /// Its connections that go on (`end_with_grant = false`, observe).
    pub live: Vec<ProcessId>,
}

/// What a look has found.
#[derive(Debug)]
pub struct LookedBehind {
    /// Whether what was found was ended.
    pub ends: bool,
    /// Under each grant.
    pub cases: Vec<Looked>,
    /// Which of the audit sessions that were asked about are still in use, where that was asked.
    pub used: Option<BTreeSet<u32>>,
    /// Those that were asked about.
    pub asked: BTreeSet<u32>,
}

/// What was found under one grant.
#[derive(Debug)]
pub struct Looked {
    /// Which.
    pub id: GrantId,
    /// Whether anything of theirs was there, or could not be looked for.
    pub alive: bool,
    /// How much was ended.
    pub ended: u64,
    /// What a record says of it.
    pub told: Vec<(&'static str, Value)>,
    /// Processes that go on, [`MAX_NAMED`] of them.
    pub goes_on: Vec<GoesOn>,
    /// How many there are.
    pub all_going_on: u64,
}

/// A process that goes on.
#[derive(Debug, Clone)]
pub struct GoesOn {
    /// Which.
    pub pid: i32,
    /// Its program, where that is known.
    pub program: Option<String>,
    /// By what it was started.
    pub by: &'static str,
}

/// What is to be looked for under one grant.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    /// Also what the account runs by itself, which later may be of others; else what its connections started alone.
    whole: bool,
    /// The end is not on record yet.
    first: bool,
}

/// A grant that is looked after since its end.
#[derive(Debug, Clone, Copy)]
struct Watched {
    ended: Duration,
    due: Option<Duration>,
    /// When something of theirs was last seen alive.
    alive: Option<Timestamp>,
    found: u32,
}

impl Watched {
    fn looked(&mut self, found: bool, now: Now) {
        let elapsed = now.boot.saturating_sub(self.ended);
        let planned = LOOKS.into_iter().find(|look| *look > elapsed).map(|look| self.ended + look);
        self.due = planned;
        if found {
            self.found += 1;
            let again = now.boot + AGAIN[usize::from(self.found > QUICK_LOOKS)];
            self.due = Some(planned.map_or(again, |planned| planned.min(again)));
            self.alive = Some(now.wall);
        }
    }
}

/// Looks for what was left behind: wanted, under way, and to come.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Whether the start is over: before that it is not known whether what is found ends.
    may_begin: bool,
    waiting: BTreeMap<GrantId, Wish>,
    under_way: Option<BTreeMap<GrantId, Wish>>,
    earliest: Duration,
    watched: BTreeMap<GrantId, Watched>,
    /// Whether traces that lead nowhere are to be forgotten.
    forget: bool,
    answers: Vec<Waiting>,
}

impl Behind {
    /// When something is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        let begins = self.may_begin && self.under_way.is_none() && !self.waiting.is_empty();
        let begins = begins.then_some(self.earliest);
        let watched = self.watched.values().filter_map(|watched| watched.due).min();
        let answers = self.answers.iter().map(|answer| answer.due).min();
        [begins, watched, answers].into_iter().flatten().min()
    }

    fn want(&mut self, id: &GrantId, wish: Wish) {
        let wanted = self.waiting.entry(id.clone()).or_default();
        *wanted = Wish { whole: wanted.whole || wish.whole, first: wanted.first || wish.first };
    }
}

impl Core {
    /// Whether what is left behind is ended, and not only told of.
    fn ends_left_behind(&self) -> bool {
        let sessions = &self.config.sessions;
        self.enforces() && sessions.end_with_grant && sessions.left_behind == LeftBehind::End
    }

    /// Has it looked for what these grants that have ended left behind; then their ends are on record.
    pub(super) fn look_behind(&mut self, ids: &[GrantId], now: Now) {
        ids.iter().for_each(|id| self.behind.want(id, Wish { whole: true, first: true }));
        self.begin_look_behind(now);
    }

    /// A lockdown: also under grants that ended before, what their connections started may go on.
    pub(super) fn look_behind_traced(&mut self) {
        let traced = self.traces.grants();
        let ended = self.grants.all().iter().filter(|grant| grant.end.is_some() && traced.contains(&grant.id));
        ended.for_each(|grant| self.behind.want(&grant.id, Wish::default()));
    }

    /// A start is over: what ended just before it is looked after as if there had been none.
    pub fn resume_looks_behind(&mut self, now: Now) {
        self.behind.may_begin = true;
        let just = |at: Timestamp| now.wall.duration_since(at) < LOOKS_TAKE;
        let ended = self.grants.all().iter().filter(|grant| grant.end.as_ref().is_some_and(|end| just(end.at)));
        ended.for_each(|grant| self.behind.want(&grant.id, Wish { whole: true, first: false }));
        self.begin_look_behind(now);
    }

    /// Each sweep: forgets traces that lead nowhere, and looks after grants that have ended, for what their connections
    /// left.
    pub fn look_behind_all(&mut self, now: Now) {
        self.behind.forget = true;
        self.look_behind_traced();
        self.begin_look_behind(now);
    }

    /// Begins the looks that are due, and answers whoever has waited for one for long enough.
    pub(super) fn look_behind_if_due(&mut self, now: Now) {
        for (id, watched) in &mut self.behind.watched {
            if watched.due.take_if(|due| now.boot >= *due).is_some() {
                let wanted = self.behind.waiting.entry(id.clone()).or_default();
                wanted.whole = true;
            }
        }
        self.begin_look_behind(now);
        self.answer_who_waited(now);
    }

    /// Begins a look for all that is wanted, unless one is under way.
    pub(super) fn begin_look_behind(&mut self, now: Now) {
        let wanted = self.behind.may_begin && (!self.behind.waiting.is_empty() || self.behind.forget);
        if self.behind.under_way.is_some() || !wanted || now.boot < self.behind.earliest {
            return;
        }
        let wishes = std::mem::take(&mut self.behind.waiting);
        let look = self.question_behind(&wishes, now);
        self.behind.forget = false;
        self.behind.under_way = Some(wishes);
        self.start_job(Kind::LeftBehind, Job::LookBehind(Box::new(look)), now);
    }

    fn question_behind(&self, wishes: &BTreeMap<GrantId, Wish>, now: Now) -> LookBehind {
        let mut by_account: BTreeMap<&Account, Vec<&Grant>> = BTreeMap::new();
        self.grants.all().iter().for_each(|grant| by_account.entry(&grant.account).or_default().push(grant));
        let case = |(id, wish): (&GrantId, &Wish)| {
            let grant = self.grants.get(id)?;
            let since = occupied_since(grant, by_account[&grant.account].iter().copied());
            let over = Over { connections_alone: !wish.whole, ..self.over(grant, since, now) };
            let ended = grant.end.as_ref()?.at;
            let alive = self.behind.watched.get(id).and_then(|watched| watched.alive);
            Some(Case {
                id: id.clone(),
                account: grant.account.clone(),
                over,
                since,
                until: ended.saturating_add(LOOKS_TAKE).unwrap_or(ended).max(alive.unwrap_or(ended)),
                gently: now.wall.duration_since(ended) < GENTLE,
                live: self.live_connections(id),
            })
        };
        LookBehind {
            ends: self.ends_left_behind(),
            forget: self.behind.forget,
            cases: wishes.iter().filter_map(case).collect(),
            audits: self.traces.audits(),
            now: now.wall,
        }
    }

    fn over(&self, grant: &Grant, since: Timestamp, now: Now) -> Over {
        let elsewhere = |session: &Session| {
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
            attended: false,
            manager_goes: false,
            used: self.used_since(&grant.account, since),
        }
    }

    /// Whether anybody came in on a grant for this account that lasted beyond this moment.
    fn used_since(&self, account: &Account, since: Timestamp) -> bool {
        let used = self.traces.grants();
        let lasted = |grant: &Grant| grant.end.as_ref().is_none_or(|end| end.at >= since);
        let mut grants = self.grants.all().iter();
        grants.any(|grant| grant.account == *account && lasted(grant) && used.contains(&grant.id))
    }

    /// This grant's connections that go on.
    fn live_connections(&self, id: &GrantId) -> Vec<ProcessId> {
        let live = self.sessions.live().iter().filter(|s| s.ending.is_none() && s.grant() == Some(id));
        live.map(|session| session.monitor).collect()
    }

    /// A granted connection has this audit session.
    pub(super) fn traced(&mut self, session: &SessionId, audit: u32) {
        let grant = self.sessions.get(session).and_then(Session::grant);
        if grant.is_some_and(|grant| self.traces.add(grant, audit)) {
            self.keep_traces();
        }
    }

    /// Has the traces kept, in memory that outlives the daemon.
    pub fn keep_traces(&mut self) {
        let bytes = serde_json::to_vec(&self.traces).expect("traces have string keys only");
        self.push(Effect::KeepTraces(bytes));
    }

    /// A look is back: what it found is on record, and it is looked again where there may be more.
    pub(super) fn looked_behind(&mut self, looked: LookedBehind, now: Now) {
        let LookedBehind { ends, cases, used, asked } = looked;
        let wishes = self.behind.under_way.take().unwrap_or_default();
        if let Some(used) = used {
            self.forget_traces(used, &asked);
        }
        for looked in cases {
            let wish = wishes.get(&looked.id).copied().unwrap_or_default();
            if ends {
                self.watch_behind(&looked.id, wish, looked.alive, now);
            }
            self.behind.answers.iter_mut().for_each(|answer| answer.learn(&looked, &self.grants));
            match wish.first {
                true => self.note_grant_end(&looked.id, looked.told),
                false => self.note_ended_later(looked),
            }
        }
        self.commit(now);
        self.begin_look_behind(now);
        self.answer_who_waited(now);
    }

    fn forget_traces(&mut self, mut used: BTreeSet<u32>, asked: &BTreeSet<u32>) {
        let occupied: BTreeSet<&Account> = self.grants.open_ones().map(|grant| &grant.account).collect();
        let account = |id: &GrantId| self.grants.get(id).map(|grant| &grant.account);
        // Whose connection came while it was looked.
        used.extend(self.traces.audits().difference(asked));
        if self.traces.keep(&used, |id| account(id).is_some_and(|account| occupied.contains(account))) {
            self.keep_traces();
        }
    }

    /// Plans the next look for what is left under a grant; none once the last one has found nothing.
    fn watch_behind(&mut self, id: &GrantId, wish: Wish, alive: bool, now: Now) {
        let Some(end) = self.grants.get(id).and_then(|grant| grant.end.as_ref()) else { return };
        let ago = Duration::try_from(now.wall.duration_since(end.at)).unwrap_or_default();
        // What a sweep or a lockdown finds long after the end is looked after from now on.
        if wish.whole || alive || self.behind.watched.contains_key(id) {
            let new = Watched { ended: now.boot.saturating_sub(ago), due: None, alive: None, found: 0 };
            let watched = self.behind.watched.entry(id.clone()).or_insert(new);
            watched.looked(alive, now);
            if watched.due.is_none() {
                self.behind.watched.remove(id);
            }
        }
    }

    /// A look did not come back: ends are on record without it.
    pub(super) fn not_looked_behind(&mut self, why: &str, now: Now) {
        self.behind.earliest = now.boot + AFTER_FAILURE;
        for (id, wish) in self.behind.under_way.take().unwrap_or_default() {
            if wish.first {
                self.note_grant_end(&id, vec![("left_behind_unknown", why.into())]);
            }
            self.behind.want(&id, Wish { first: false, ..wish });
        }
        self.commit(now);
    }

    /// A look is back after it was given up: what it ended is on record, and nothing else follows from it.
    pub(super) fn looked_behind_late(&mut self, looked: LookedBehind, now: Now) {
        looked.cases.into_iter().for_each(|looked| self.note_ended_later(looked));
        self.commit(now);
    }

    fn note_ended_later(&mut self, looked: Looked) {
        let Looked { id, ended, told, .. } = looked;
        let Some(grant) = self.grants.get(&id).filter(|_| ended > 0) else { return };
        let sentence = format!("what {} left running on {} was ended: the grant is over", grant.person, grant.account);
        let mut draft =
            Draft::new(ArtifactType::SessionTerminated, sentence).with("ended", "left_behind").with("killed", ended);
        draft.person = Some(grant.person.clone());
        draft.account = Some(grant.account.clone());
        draft.grant = Some(id);
        self.recorder.note(told.into_iter().fold(draft, |draft, (name, value)| draft.with(name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn it_is_looked_again_as_long_as_anything_is_found_and_three_times_where_nothing_is() {
        let mut watched = Watched { ended: now().boot, due: None, alive: None, found: 0 };
        for (at, next) in [(0, Some(1)), (1, Some(10)), (10, Some(45)), (45, None)] {
            watched.looked(false, later(at));
            assert_eq!(watched.due, next.map(|next| later(next).boot), "{at}");
        }
        assert_eq!(watched.alive, None);
        for at in 100..110 {
            watched.looked(true, later(at));
            assert_eq!((watched.due, watched.alive), (Some(later(at + 1).boot), Some(later(at).wall)));
        }
        watched.looked(true, later(200));
        assert_eq!(watched.due, Some(later(210).boot), "at a pace that costs little");
        watched.looked(false, later(210));
        assert_eq!((watched.due, watched.alive), (None, Some(later(200).wall)));
    }
}
