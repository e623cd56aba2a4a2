//! What a person leaves running on an account when their grant ends: found, on record, and ended where config says so.
//!
//! Never touched: what other people's live grants or connections may have started, what was there before the grant, and
//! services that no login started.
//!
//! Looking takes the longer the more there is, so it is done in a job, one at a time ([`look`]); connections have been
//! cut before. The record of a grant's end follows the look. A crash in between loses none: the next start finds the
//! grant ended and not on record, and looks again.

mod answers;
mod look;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lockdown_core::policy::time::Now;
use lockdown_core::{
    config::LeftBehind,
    policy::{
        grant::Grant,
        left_behind::{Over, occupied_since},
    },
    sessions::Session,
};
use lockdown_host::{left_behind, processes::ProcessId};
use record::{Account, ArtifactType, Draft, GrantId};

pub use self::look::LookedBehind;
pub(crate) use self::look::MAX_NAMED;
use self::{
    answers::Waiting,
    look::{Case, Findings, Looked, Question},
};
use super::{Engine, jobs::Kind};
use crate::trigger::Reason;

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
pub(crate) struct Behind {
    waiting: BTreeMap<GrantId, Wish>,
    under_way: Option<BTreeMap<GrantId, Wish>>,
    earliest: Duration,
    watched: BTreeMap<GrantId, Watched>,
    /// Whether traces that lead nowhere are to be forgotten.
    forget: bool,
    /// Accounts that somebody has come to since the look that is under way began.
    came: Arc<Mutex<BTreeSet<Account>>>,
    answers: Vec<Waiting>,
}

impl Behind {
    /// When something is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        let begins = (self.under_way.is_none() && !self.waiting.is_empty()).then_some(self.earliest);
        let watched = self.watched.values().filter_map(|watched| watched.due).min();
        let answers = self.answers.iter().map(|answer| answer.due).min();
        [begins, watched, answers].into_iter().flatten().min()
    }

    /// These grants have ended, and their ends are not on record.
    pub(super) fn note_first(&mut self, ids: &[GrantId]) {
        ids.iter().for_each(|id| self.want(id, Wish { whole: true, first: true }));
    }

    fn want(&mut self, id: &GrantId, wish: Wish) {
        let wanted = self.waiting.entry(id.clone()).or_default();
        *wanted = Wish { whole: wanted.whole || wish.whole, first: wanted.first || wish.first };
    }

    /// Somebody may be on this account from now on: what it runs by itself is nobody's to end.
    pub(super) fn somebody_comes(&self, account: &Account) {
        if self.under_way.is_some() {
            self.came.lock().unwrap_or_else(PoisonError::into_inner).insert(account.clone());
        }
    }
}

impl Engine {
    /// Whether what is left behind is ended, and not only told of.
    fn ends_left_behind(&self) -> bool {
        let sessions = &self.core.config.sessions;
        self.core.enforces() && sessions.end_with_grant && sessions.left_behind == LeftBehind::End
    }

    /// Has it looked for what these grants that have ended left behind; then their ends are on record.
    pub(crate) fn note_ends_later(&mut self, ids: &[GrantId], now: Now) {
        self.behind.note_first(ids);
        self.begin_look_behind(now);
    }

    /// A lockdown: also under grants that ended before, what their connections started may go on.
    pub(crate) fn look_behind_traced(&mut self) {
        let traced = self.traces.grants();
        let ended = self.core.grants.all().iter().filter(|grant| grant.end.is_some() && traced.contains(&grant.id));
        let ended: Vec<GrantId> = ended.map(|grant| grant.id.clone()).collect();
        ended.iter().for_each(|id| self.behind.want(id, Wish::default()));
    }

    /// After a start: what ended just before it is looked after as if there had been none.
    pub(super) fn resume_looks_behind(&mut self, now: Now) {
        let just = |at: Timestamp| now.wall.duration_since(at) < LOOKS_TAKE;
        let ended = self.core.grants.all().iter().filter(|grant| grant.end.as_ref().is_some_and(|end| just(end.at)));
        let ended: Vec<GrantId> = ended.map(|grant| grant.id.clone()).collect();
        ended.iter().for_each(|id| self.behind.want(id, Wish { whole: true, first: false }));
        self.begin_look_behind(now);
    }

    /// Each sweep: forgets traces that lead nowhere, and looks after grants that have ended, for what their connections
    /// left.
    pub(super) fn look_behind_all(&mut self, now: Now) {
        self.behind.forget = true;
        self.look_behind_traced();
        self.begin_look_behind(now);
    }

    /// Begins the looks that are due, and answers whoever has waited for one for long enough.
    pub(super) fn look_behind_if_due(&mut self, now: Now) {
        let is_due = |watched: &Watched| watched.due.is_some_and(|due| now.boot >= due);
        let due: Vec<GrantId> =
            self.behind.watched.iter().filter(|(_, w)| is_due(w)).map(|(id, _)| id.clone()).collect();
        for id in &due {
            self.behind.want(id, Wish { whole: true, first: false });
            self.behind.watched.entry(id.clone()).and_modify(|watched| watched.due = None);
        }
        self.begin_look_behind(now);
        self.answer_who_waited(now);
    }

    /// Begins a look for all that is wanted, unless one is under way.
    pub(super) fn begin_look_behind(&mut self, now: Now) {
        let wanted = !self.behind.waiting.is_empty() || self.behind.forget;
        if self.behind.under_way.is_some() || !wanted || now.boot < self.behind.earliest {
            return;
        }
        self.behind.came.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let wishes = std::mem::take(&mut self.behind.waiting);
        let question = self.question_behind(&wishes, now);
        self.behind.forget = false;
        self.behind.under_way = Some(wishes);
        self.begin_job(Kind::LeftBehind, None, now, move || Some(Reason::LookedBehind(Box::new(look::look(question)))));
    }

    fn question_behind(&self, wishes: &BTreeMap<GrantId, Wish>, now: Now) -> Question {
        let ends = self.ends_left_behind();
        let mut by_account: BTreeMap<&Account, Vec<&Grant>> = BTreeMap::new();
        self.core.grants.all().iter().for_each(|grant| by_account.entry(&grant.account).or_default().push(grant));
        let case = |(id, wish): (&GrantId, &Wish)| {
            let grant = self.core.grants.get(id)?;
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
                live: self.live_audits(id),
                findings: Findings::default(),
            })
        };
        Question {
            ends,
            forget: self.behind.forget,
            cases: wishes.iter().filter_map(case).collect(),
            spared: self.spared_processes(),
            audits: self.traces.audits(),
            came: Arc::clone(&self.behind.came),
            now: now.wall,
        }
    }

    fn over(&self, grant: &Grant, since: Timestamp, now: Now) -> Over {
        let elsewhere = |session: &Session| {
            session.account == grant.account && session.ending.is_none() && session.grant() != Some(&grant.id)
        };
        let others = self.core.grants.open_ones().any(|open| open.account == grant.account && open.is_active(now));
        let age = now.wall.duration_since(since);
        Over {
            uid: grant.uid,
            audits: self.traces.of(&grant.id),
            since: now.boot.saturating_sub(Duration::try_from(age).unwrap_or_default()),
            shared: others || self.core.sessions.live().iter().any(elsewhere),
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
        self.core
            .grants
            .all()
            .iter()
            .any(|grant| grant.account == *account && lasted(grant) && used.contains(&grant.id))
    }

    /// Listeners of root's sshds and every connection's own processes: connections end by themselves.
    fn spared_processes(&self) -> HashSet<ProcessId> {
        let lockdown_host::connection::Spared { mut listeners, monitors } = self.spared();
        listeners.extend(monitors);
        listeners
    }

    /// The audit sessions of this grant's connections that go on.
    fn live_audits(&self, id: &GrantId) -> BTreeSet<u32> {
        let live = self.core.sessions.live().iter().filter(|s| s.ending.is_none() && s.grant() == Some(id));
        live.filter_map(|session| left_behind::own_audit_session(session.monitor)).collect()
    }

    /// Remembers the audit session of a granted connection.
    pub(super) fn trace(&mut self, id: &record::SessionId) {
        let Some(session) = self.core.sessions.get(id) else { return };
        if let (Some(grant), Some(audit)) = (session.grant(), left_behind::own_audit_session(session.monitor)) {
            self.traces.add(grant, audit);
        }
    }

    /// A look is back: what it found is on record, and it is looked again where there may be more.
    pub(super) fn looked_behind(&mut self, looked: LookedBehind, now: Now) {
        let LookedBehind { ends, cases, used, asked } = looked;
        let wishes = self.behind.under_way.take().unwrap_or_default();
        if let Some(mut used) = used {
            let occupied: BTreeSet<&Account> = self.core.grants.open_ones().map(|grant| &grant.account).collect();
            let account = |id: &GrantId| self.core.grants.get(id).map(|grant| &grant.account);
            // Whose connection came while it was looked.
            used.extend(self.traces.audits().difference(&asked));
            self.traces.keep(&used, |id| account(id).is_some_and(|account| occupied.contains(account)));
        }
        for Looked { id, findings, alive } in cases {
            let wish = wishes.get(&id).copied().unwrap_or_default();
            if ends {
                self.watch_behind(&id, wish, alive, now);
            }
            self.behind.answers.iter_mut().for_each(|answer| answer.learn(&id, self.core.grants.get(&id), &findings));
            match wish.first {
                true => self.core.note_grant_end(&id, findings.details()),
                false => self.note_ended_later(&id, findings),
            }
        }
        self.core.commit(now);
        self.begin_look_behind(now);
        self.answer_who_waited(now);
    }

    /// Plans the next look for what is left under a grant; none once the last one has found nothing.
    fn watch_behind(&mut self, id: &GrantId, wish: Wish, alive: bool, now: Now) {
        let Some(end) = self.core.grants.get(id).and_then(|grant| grant.end.as_ref()) else { return };
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
                self.core.note_grant_end(&id, vec![("left_behind_unknown", why.into())]);
            }
            self.behind.want(&id, Wish { first: false, ..wish });
        }
        self.core.commit(now);
    }

    fn note_ended_later(&mut self, id: &GrantId, findings: Findings) {
        let Some(grant) = self.core.grants.get(id).filter(|_| findings.ended() > 0) else { return };
        let sentence = format!("what {} left running on {} was ended: the grant is over", grant.person, grant.account);
        let mut draft = Draft::new(ArtifactType::SessionTerminated, sentence)
            .with("ended", "left_behind")
            .with("killed", findings.ended());
        draft.person = Some(grant.person.clone());
        draft.account = Some(grant.account.clone());
        draft.grant = Some(id.clone());
        let told = findings.details().into_iter();
        self.core.recorder.note(told.fold(draft, |draft, (name, value)| draft.with(name, value)));
    }
}

#[cfg(test)]
mod tests {
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

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
