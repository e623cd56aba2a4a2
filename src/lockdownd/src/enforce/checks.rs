//! Looks at what stands in the way of enforce, and the changes of sshd's drop-in: one after the other, in jobs, because
//! both run sshd.
//!
//! Nobody is answered from an old look without being told so: whoever asks waits, for a bounded time, for one that began
//! after they asked.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use control::{Cidr, Problem, Severity};
use lockdown_core::machine::Token;
use lockdown_core::policy::time::Deadline;
use lockdown_core::policy::time::Now;
use lockdown_host::{
    readiness::{self, ExemptKeys, Obstacle, ReadinessInput, RescueWatch, Seen, When},
    sshd::{
        drop_in,
        listener::{self, Listener},
    },
    ways_in,
};
use record::{Account, Actor, ArtifactType, Draft};

use super::{Engine, jobs::Kind, state::mark_enforce};
use crate::{
    operator::admitted::not_honoured,
    trigger::{Place, Reason},
};

/// How long `status` waits for a fresh look before it answers from the last one.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How long `plan` does; without a fresh look it says that it does not know.
const PLAN_PATIENCE: Duration = Duration::from_secs(20);
/// How long the directories of exempt accounts' keys are left to settle before they are looked at: also the least time
/// between two looks that changes in them bring about.
const SETTLE: Duration = Duration::from_secs(1);

/// How many keys, and how many files, one record of changed keys names; all are counted.
const MAX_KEYS_NAMED: usize = 16;

/// Who waits for a fresh look.
#[derive(Debug)]
pub(crate) enum Waits {
    /// `lockdownctl status`.
    Status(Token),
    /// `lockdownctl plan`.
    Plan(Token),
}

#[derive(Debug)]
struct Waiter {
    whose: Waits,
    /// On the boot clock.
    until: Duration,
}

/// Somebody, or the configuration, wants enforce.
#[derive(Debug)]
pub(super) struct Entry {
    /// When the trial ends, where it is one.
    pub(super) trial: Option<Deadline>,
    /// Who asked, and where the answer goes; `None`: the configuration says so.
    pub(super) asked: Option<(Actor, Token)>,
}

/// The way back to observe.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Why, for the record; `None` where enforce was not really entered.
    pub(super) why: Option<&'static str>,
    /// What kept enforce from being entered.
    pub(super) found: Vec<Obstacle>,
    /// Who tried to enter it.
    pub(super) token: Option<Token>,
}

/// What is being done in a job.
#[derive(Debug)]
pub(super) enum Task {
    /// Only looking.
    Look,
    /// The drop-in is put right; then a look.
    Keep,
    /// The look before enforce is entered.
    Enter(Entry),
    /// The drop-in is put in place; then a look whether enforce really holds.
    PutIn(Entry),
    /// The drop-in is taken away.
    TakeOut(Leaving),
}

/// What a job does of it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Look(When),
    Put,
    /// The marker of enforce is written first.
    PutIn,
    TakeOut,
}

/// What a job brings.
#[derive(Debug)]
pub struct Checked {
    /// What came of changing the drop-in.
    pub(super) put: Result<(), String>,
    /// What stands in the way.
    pub(super) obstacles: Vec<Obstacle>,
    /// The grants that sshd does not honour, and the exempt accounts that get no plain shell, a sentence each.
    not_honoured: Vec<String>,
    /// The keys of exempt accounts, as far as they could be read whole.
    exempt_keys: BTreeMap<Account, ExemptKeys>,
    /// Tells of changes from before the look on.
    rescue: Option<RescueWatch>,
}

/// Looks that are under way or wanted.
#[derive(Debug, Default)]
pub(super) struct Looks {
    task: Option<Task>,
    /// When it began, on the boot clock.
    began: Duration,
    /// When the last look that came back began.
    last: Option<Duration>,
    /// Those for whom the next look will do.
    waiting: Vec<Waiter>,
    /// Those for whom the one under way will do.
    waited: Vec<Waiter>,
    /// Something changed: the mode has to be settled anew.
    pub(super) touched: bool,
    /// In observe, where no mode has to be settled: something changed that is to be looked at.
    pub(super) wanted: bool,
    /// When a change of an exempt account's key files is looked at.
    due: Option<Duration>,
    rescue: Option<RescueWatch>,
    /// The keys of exempt accounts, as they were last seen whole.
    exempt_keys: BTreeMap<Account, ExemptKeys>,
    /// Operators who try enforce, in turn.
    pub(super) tries: VecDeque<Entry>,
}

impl Looks {
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    /// Whether observe has to look by itself: nothing is watched yet, or something of it has changed.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wanted) || self.rescue.is_none()
    }

    pub(super) fn anybody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When something is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        let waiters = self.waiting.iter().chain(&self.waited).map(|waiter| waiter.until);
        waiters.chain(self.due).min()
    }

    fn begin(&mut self, task: Task, now: Now) {
        self.task = Some(task);
        self.began = now.boot;
        self.waited.append(&mut self.waiting);
    }

    /// Those whose patience is over.
    fn impatient(&mut self, now: Now) -> Vec<Waits> {
        let is_over = |waiter: &mut Waiter| now.boot >= waiter.until;
        let over = self.waiting.extract_if(.., is_over).chain(self.waited.extract_if(.., is_over));
        over.map(|waiter| waiter.whose).collect()
    }
}

impl Engine {
    /// Answers once there is a fresh look, or after a while without.
    pub(crate) fn answer_after_look(&mut self, whose: Waits, now: Now) {
        let patience = match whose {
            Waits::Status(_) => STATUS_PATIENCE,
            Waits::Plan(_) => PLAN_PATIENCE,
        };
        self.mode.looks.waiting.push(Waiter { whose, until: now.boot + patience });
        self.advance_mode(now);
    }

    /// Something changed on which it depends whether exempt accounts can log in, or anybody else.
    pub(super) fn rescue_touched(&mut self, now: Now) {
        self.mode.looks.due.get_or_insert(now.boot + SETTLE);
    }

    /// What kept everybody but exempt accounts out was put right, a sentence each.
    pub(crate) fn reached_again(&mut self, mended: Vec<String>, now: Now) {
        for what in mended {
            tracing::error!("nobody but exempt accounts could log in: {what}");
            let sentence = format!("nobody but exempt accounts could log in: {what}");
            let draft = Draft::new(ArtifactType::SshdChanged, sentence).with("mended", what);
            self.core.recorder.note_often(draft, 1, now);
            self.core.commit(now);
        }
    }

    /// Looks again where that is due, and answers those who have waited long enough.
    pub(super) fn check_if_due(&mut self, now: Now) {
        if self.mode.looks.due.is_some_and(|due| now.boot >= due) {
            self.mode.looks.due = None;
            self.mode.looks.wanted = true;
            self.settle_mode(now);
        }
        for whose in self.mode.looks.impatient(now) {
            self.answer_waiting(whose, false, now);
        }
    }

    /// Begins a job.
    pub(super) fn begin_task(&mut self, task: Task, now: Now) {
        let step = match &task {
            Task::Look if self.core.enforces() => Step::Look(When::InForce),
            Task::Look | Task::Enter(_) => Step::Look(When::Before),
            Task::Keep => Step::Put,
            Task::PutIn(_) => Step::PutIn,
            Task::TakeOut(_) => Step::TakeOut,
        };
        self.mode.looks.begin(task, now);
        let question = Question {
            exempt: self.core.exempt().iter().cloned().collect(),
            penalty_exempt: self.core.config.sshd.penalty_exempt.iter().copied().collect(),
            no_exempt: self.core.config.accounts.no_exempt,
        };
        let granted = self.granted(now);
        let marker = self.marker();
        let reasons = self.reasons.clone();
        self.begin_job(Kind::Obstacles, None, now, move || {
            let rescue = question.watch(reasons, step);
            let (put, obstacles) = question.carry_out(step, &marker);
            let mut not_honoured = not_honoured(&granted);
            not_honoured.extend(readiness::confined(&question.exempt));
            let exempt_keys = question.exempt_keys();
            Reason::Checked(Box::new(Checked { put, obstacles, not_honoured, exempt_keys, rescue })).into()
        });
    }

    /// A job is back: what is next is done, and whoever waited for it is answered.
    pub(super) fn checked(&mut self, looked: Checked, now: Now) {
        let Some(task) = self.mode.looks.task.take() else { return };
        let Checked { put, obstacles, not_honoured, exempt_keys, rescue } = looked;
        self.mode.not_honoured = not_honoured;
        let passed = self.mode.looks.rescue.as_ref().map(RescueWatch::take).unwrap_or_default();
        self.note_exempt_keys(exempt_keys, &passed, now);
        if rescue.is_some() {
            self.mode.looks.rescue = rescue;
        }
        let looks = !matches!(task, Task::TakeOut(_));
        if looks {
            self.mode.looks.last = Some(self.mode.looks.began);
        }
        match task {
            Task::Look | Task::Keep => {
                if let Err(error) = put {
                    tracing::error!("sshd's drop-in could not be put right: {error}");
                }
                self.note_obstacles(obstacles, now);
            }
            Task::Enter(entry) => self.enter(entry, obstacles, now),
            Task::PutIn(entry) => self.put_in(entry, put, obstacles, now),
            Task::TakeOut(leaving) => self.left(leaving, put, now),
        }
        self.answer_waited(looks, now);
        self.advance_mode(now);
    }

    /// Records which keys of exempt accounts came and went since they were last seen. Whoever has such an account can change
    /// them as often as they like.
    /// `passed` are those that stood there in between.
    fn note_exempt_keys(&mut self, seen: BTreeMap<Account, ExemptKeys>, passed: &Seen, now: Now) {
        let nothing = ExemptKeys::new();
        for (account, keys) in seen {
            let before = self.mode.looks.exempt_keys.insert(account.clone(), keys.clone());
            let Some(before) = before else { continue };
            let changed = keys_changed(&account, &before, passed.get(&account).unwrap_or(&nothing), &keys);
            if let Some(draft) = changed {
                self.core.recorder.note_often(draft, 1, now);
            }
        }
        let exempt = &self.core.config.accounts.exempt;
        self.mode.looks.exempt_keys.retain(|account, _| exempt.contains(account));
        self.core.commit(now);
    }

    /// A job was given up: what depends on it is as if it had failed.
    pub(super) fn check_lost(&mut self, why: &str, now: Now) {
        let lost = || vec![Obstacle::Unknown { why: why.to_owned() }];
        match self.mode.looks.task.take() {
            None => return,
            Some(Task::Look | Task::Keep) => {}
            Some(Task::Enter(entry)) => self.enter(entry, lost(), now),
            Some(Task::PutIn(entry)) => self.put_in(entry, Ok(()), lost(), now),
            Some(Task::TakeOut(leaving)) => self.left(leaving, Err(why.to_owned()), now),
        }
        self.answer_waited(false, now);
        self.advance_mode(now);
    }

    fn answer_waited(&mut self, fresh: bool, now: Now) {
        for waiter in std::mem::take(&mut self.mode.looks.waited) {
            self.answer_waiting(waiter.whose, fresh, now);
        }
    }

    fn answer_waiting(&mut self, whose: Waits, fresh: bool, now: Now) {
        let stale = (!fresh).then(|| self.staleness(now));
        match whose {
            Waits::Status(token) => self.answer_status(token, stale, now),
            Waits::Plan(token) => self.plan(token, stale, now),
        }
    }

    /// How old the last look is, as `status` says it.
    fn staleness(&self, now: Now) -> Problem {
        let age = match self.mode.looks.last {
            Some(last) => {
                let age = Duration::from_secs(now.boot.saturating_sub(last).as_secs());
                format!("what is shown of it is {} old", control::format_duration(age))
            }
            None => "it has not been looked at since the daemon started".to_owned(),
        };
        Problem {
            severity: Severity::Warning,
            what: format!("what stands in the way of enforce could not be looked at in time: {age}"),
            remedy: Some("ask again; journalctl -u lockdownd says more".to_owned()),
        }
    }
}

/// The record of a change of an exempt account's keys. What only stood there `between` came, and is gone.
fn keys_changed(account: &Account, before: &ExemptKeys, between: &ExemptKeys, after: &ExemptKeys) -> Option<Draft> {
    let all = |keys: &ExemptKeys| keys.values().flatten().cloned().collect::<BTreeSet<String>>();
    let (old, new) = (all(before), all(after));
    let passed = &(&all(between) - &old) - &new;
    if before == after && passed.is_empty() {
        return None;
    }
    let (came, went) = (&(&new - &old) | &passed, &(&old - &new) | &passed);
    let some = |keys: &BTreeSet<String>| keys.iter().take(MAX_KEYS_NAMED).cloned().collect::<Vec<_>>();
    let has_passed = |file: &String| between.get(file).is_some_and(|keys| !keys.is_disjoint(&passed));
    let names = before.keys().chain(between.keys()).chain(after.keys());
    let files: BTreeSet<&String> =
        names.filter(|file| before.get(*file) != after.get(*file) || has_passed(file)).collect();
    let (added, gone) = (came.len(), went.len());
    let sentence = format!("the keys of the exempt account {account} have changed: {added} added, {gone} gone");
    let mut draft = Draft::new(ArtifactType::SshdChanged, sentence)
        .with("changed", vec!["exempt_keys"])
        .with("files", files.into_iter().take(MAX_KEYS_NAMED).cloned().collect::<Vec<_>>())
        .with("fingerprints", some(&came))
        .with("fingerprints_gone", some(&went))
        .with("added", added as u64)
        .with("gone", gone as u64);
    draft.account = Some(account.clone());
    Some(draft)
}

/// What a job needs to know.
struct Question {
    exempt: Vec<Account>,
    penalty_exempt: Vec<Cidr>,
    no_exempt: bool,
}

impl Question {
    /// Watches from before the look on, so that no change falls between the two.
    fn watch(&self, reasons: tokio::sync::mpsc::Sender<Reason>, step: Step) -> Option<RescueWatch> {
        if matches!(step, Step::TakeOut) {
            return None;
        }
        RescueWatch::start(&self.exempt, move || {
            // Nobody receives once the daemon stops.
            let _ = reasons.blocking_send(Reason::Touched(Place::Rescue));
        })
    }

    fn exempt_keys(&self) -> BTreeMap<Account, ExemptKeys> {
        let whole =
            |account: &Account| readiness::exempt_keys(account).filter(|(_, whole)| *whole).map(|(keys, _)| keys);
        self.exempt.iter().filter_map(|account| Some((account.clone(), whole(account)?))).collect()
    }

    fn carry_out(&self, step: Step, marker: &[u8]) -> (Result<(), String>, Vec<Obstacle>) {
        let listeners = listener::sshd_listeners().unwrap_or_else(|error| {
            tracing::error!(%error, "running sshds cannot be found");
            Vec::new()
        });
        match step {
            Step::Look(when) => (Ok(()), self.ask(when, &listeners)),
            Step::Put | Step::PutIn => {
                // The gate is told first: nobody gets in by a key in their home, and then past it.
                let marked = if matches!(step, Step::PutIn) { mark_enforce(marker) } else { Ok(()) };
                let put = marked.and_then(|()| self.put_drop_in(&listeners));
                // sshd may have been started anew by that.
                let listeners = listener::sshd_listeners().unwrap_or(listeners);
                (put, self.ask(When::InForce, &listeners))
            }
            Step::TakeOut => (drop_in::remove(&listeners).map(drop).map_err(|error| error.to_string()), Vec::new()),
        }
    }

    fn ask(&self, when: When, listeners: &[Listener]) -> Vec<Obstacle> {
        let Self { exempt, penalty_exempt, no_exempt } = self;
        readiness::check(&ReadinessInput { exempt, penalty_exempt, no_exempt: *no_exempt, listeners, when })
    }

    /// Writes sshd's drop-in and has every sshd read it.
    fn put_drop_in(&self, listeners: &[Listener]) -> Result<(), String> {
        let done =
            drop_in::install(&self.exempt, &self.penalty_exempt, listeners).map_err(|error| error.to_string())?;
        let reloads = match done.changed {
            true => done.reloads,
            false => drop_in::catch_up(listeners, ways_in::missed_drop_in).map_err(|error| error.to_string())?,
        };
        match reloads.iter().find(|reload| !reload.well) {
            Some(reload) => Err(format!("{} did not come back after it read its configuration again", reload.listener)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_of_an_exempt_accounts_keys_is_told_with_what_came_and_went_and_no_more_than_fits() {
        let keys =
            |keys: &[&str]| ExemptKeys::from([("/k".to_owned(), keys.iter().map(|k| (*k).to_owned()).collect())]);
        let account: Account = "breakglass".parse().expect("an account");
        let told = |before: &ExemptKeys, between: &[&str], after: &ExemptKeys| {
            keys_changed(&account, before, &keys(between), after)
        };
        let draft = told(&keys(&["a", "b"]), &[], &keys(&["b", "c"])).expect("a change");
        assert_eq!(draft.account, Some(account.clone()));
        assert_eq!(draft.detail["fingerprints"], json!(["c"]));
        assert_eq!(draft.detail["fingerprints_gone"], json!(["a"]));
        assert_eq!(draft.detail["files"], json!(["/k"]));
        let many: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let draft = told(&keys(&[]), &[], &keys(&many)).expect("a change");
        assert_eq!(draft.detail["fingerprints"].as_array().map(Vec::len), Some(MAX_KEYS_NAMED));
        assert_eq!(draft.detail["added"], 1_000);
        // What stood there for a moment came and went; what was or is there anyway did not.
        assert!(told(&keys(&["a"]), &["a"], &keys(&["a"])).is_none());
        let draft = told(&keys(&["a"]), &["a", "x"], &keys(&["a"])).expect("a change");
        let lists = ["fingerprints", "fingerprints_gone", "files"].map(|name| draft.detail[name].clone());
        assert_eq!(lists, [json!(["x"]), json!(["x"]), json!(["/k"])]);
    }
}
