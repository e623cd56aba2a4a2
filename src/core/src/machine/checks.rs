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
use record::{Account, Actor, ArtifactType, Draft};

use super::{
    Core, Effect, Granted, Token,
    found::Then,
    jobs::{Job, Kind},
    mode::Obstacle,
};
use crate::policy::time::{Deadline, Now};

/// How long `status` waits for a fresh look before it answers from the last one.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How long `plan` does; without a fresh look it says that it does not know.
const PLAN_PATIENCE: Duration = Duration::from_secs(20);
/// How long the directories of exempt accounts' keys are left to settle before they are looked at: also the least time
/// between two looks that changes in them bring about.
const SETTLE: Duration = Duration::from_secs(1);
/// How many keys, and how many files, one record of changed keys names; all are counted.
const MAX_KEYS_NAMED: usize = 16;

/// The keys of one exempt account, by the file in which each stands.
pub type ExemptKeys = BTreeMap<String, BTreeSet<String>>;

/// Who waits for a fresh look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
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

/// What is being done.
#[derive(Debug)]
pub(super) enum Task {
    /// In observe: whether the drop-in stands there.
    Seek,
    /// Only looking.
    Look,
    /// The drop-in is put right; then a look.
    Keep,
    /// The look before enforce is entered.
    Enter(Entry),
    /// Whoever is there is found before enforce is entered.
    FindLogins(Entry),
    /// The drop-in is put in place; then a look whether enforce really holds.
    PutIn(Entry),
    /// The drop-in is taken away.
    TakeOut(Leaving),
}

/// What a job does of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Looks what stands in the way of entering.
    LookBefore,
    /// Looks what weakens enforce while it is in force.
    LookInForce,
    /// Puts the drop-in right, and looks.
    Put,
    /// The same; the marker of enforce is written first.
    PutIn,
    /// Takes the drop-in away.
    TakeOut,
}

/// What a job is to do about it.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub step: Step,
    /// The exempt accounts.
    pub exempt: Vec<Account>,
    /// The addresses that sshd is to spare from its penalties.
    pub penalty_exempt: Vec<Cidr>,
    /// Whether none is wanted.
    pub no_exempt: bool,
    /// The active grants: whether sshd honours them is looked at too.
    pub granted: Vec<Granted>,
    /// What the marker of enforce says.
    pub marker: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// What came of changing the drop-in.
    pub put: Result<(), String>,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
    /// The grants that sshd does not honour, and the exempt accounts that get no plain shell, a sentence each.
    pub not_honoured: Vec<String>,
    /// The keys of exempt accounts, as far as they could be read whole.
    pub exempt_keys: BTreeMap<Account, ExemptKeys>,
    /// Those that stood there since the look before.
    pub passed: BTreeMap<Account, ExemptKeys>,
    /// Whether changes are told of from before the look on.
    pub is_watched: bool,
}

/// Looks that are under way or wanted, and what was found.
#[derive(Debug, Default)]
pub struct Checks {
    /// What is to be left is a trial whose time is over.
    pub(super) trial_over: bool,
    /// Entering failed although nothing had stood in the way: it is not tried again before something changes.
    pub(super) put_failed: bool,
    pub(super) obstacles: Vec<Obstacle>,
    /// Whether these were told of on record: enforce was on or wanted then.
    pub(super) obstacles_told: bool,
    /// The grants that sshd does not honour, a sentence each, when last looked at.
    pub not_honoured: Vec<String>,
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
    wanted: bool,
    /// When a change of an exempt account's key files is looked at.
    due: Option<Duration>,
    is_watched: bool,
    /// The keys of exempt accounts, as they were last seen whole.
    exempt_keys: BTreeMap<Account, ExemptKeys>,
    /// Operators who try enforce, in turn.
    pub(super) tries: VecDeque<Entry>,
}

impl Checks {
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    /// Whether it was asked whether the drop-in stands there: then that is done.
    pub(super) fn take_seek(&mut self) -> bool {
        self.task.take_if(|task| matches!(task, Task::Seek)).is_some()
    }

    /// Who enters enforce now that whoever is there was found.
    pub(super) fn take_entry(&mut self) -> Option<Entry> {
        match self.task.take() {
            Some(Task::FindLogins(entry)) => Some(entry),
            other => {
                self.task = other;
                None
            }
        }
    }

    /// Something changed that observe has to look at, too.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether observe has to look by itself: nothing is watched yet, or something of it has changed.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wanted) || !self.is_watched
    }

    pub(super) fn anybody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When something is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        let waiters = self.waiting.iter().chain(&self.waited).map(|waiter| waiter.until);
        waiters.chain(self.due).min()
    }

    /// Those whose patience is over.
    fn impatient(&mut self, now: Now) -> Vec<Waits> {
        let is_over = |waiter: &mut Waiter| now.boot >= waiter.until;
        let over = self.waiting.extract_if(.., is_over).chain(self.waited.extract_if(.., is_over));
        over.map(|waiter| waiter.whose).collect()
    }

    /// How old the last look is, as `status` says it.
    fn staleness(&self, now: Now) -> Problem {
        let age = match self.last {
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

impl Core {
    /// Answers once there is a fresh look, or after a while without.
    pub(super) fn answer_after_look(&mut self, whose: Waits, now: Now) {
        let patience = match whose {
            Waits::Status(_) => STATUS_PATIENCE,
            Waits::Plan(_) => PLAN_PATIENCE,
        };
        self.checks.waiting.push(Waiter { whose, until: now.boot + patience });
        self.advance_mode(now);
    }

    /// Something changed on which it depends whether exempt accounts can log in, or anybody else.
    pub(super) fn rescue_touched(&mut self, now: Now) {
        self.checks.due.get_or_insert(now.boot + SETTLE);
    }

    /// Looks again where that is due, and answers those who have waited long enough.
    pub(super) fn check_if_due(&mut self, now: Now) {
        if self.checks.due.take_if(|due| now.boot >= *due).is_some() {
            self.checks.want();
            self.settle_mode(now);
        }
        for whose in self.checks.impatient(now) {
            self.answer_waiting(whose, false, now);
        }
    }

    /// Begins it, most of it in a job.
    pub(super) fn begin_task(&mut self, task: Task, now: Now) {
        let step = match &task {
            Task::Seek | Task::FindLogins(_) => None,
            Task::Look if self.enforces() => Some(Step::LookInForce),
            Task::Look | Task::Enter(_) => Some(Step::LookBefore),
            Task::Keep => Some(Step::Put),
            Task::PutIn(_) => Some(Step::PutIn),
            Task::TakeOut(_) => Some(Step::TakeOut),
        };
        let is_seek = matches!(task, Task::Seek);
        self.checks.task = Some(task);
        let Some(step) = step else {
            return if is_seek { self.push(Effect::SeekDropIn) } else { self.find_logins(Then::Enter) };
        };
        self.checks.began = now.boot;
        let Checks { waited, waiting, .. } = &mut self.checks;
        waited.append(waiting);
        let check = Check {
            step,
            exempt: self.exempt().iter().cloned().collect(),
            penalty_exempt: self.config.sshd.penalty_exempt.iter().copied().collect(),
            no_exempt: self.config.accounts.no_exempt,
            granted: self.granted(now),
            marker: self.marker(),
        };
        self.start_job(Kind::Obstacles, Job::Check(Box::new(check)), now);
    }

    /// A job is back: what is next is done, and whoever waited for it is answered.
    pub(super) fn checked(&mut self, looked: Checked, now: Now) {
        let Some(task) = self.checks.task.take() else { return };
        let Checked { put, obstacles, not_honoured, exempt_keys, passed, is_watched } = looked;
        self.checks.not_honoured = not_honoured;
        self.checks.is_watched |= is_watched;
        self.note_exempt_keys(exempt_keys, &passed, now);
        let looks = !matches!(task, Task::TakeOut(_));
        if looks {
            self.checks.last = Some(self.checks.began);
        }
        let waited = std::mem::take(&mut self.checks.waited);
        match task {
            Task::Seek | Task::FindLogins(_) => {}
            Task::Look | Task::Keep => {
                if let Err(error) = put {
                    self.say(super::Severity::Err, format!("sshd's drop-in could not be put right: {error}"));
                }
                self.note_obstacles(obstacles, now);
            }
            Task::Enter(entry) => self.enter(entry, obstacles, now),
            Task::PutIn(entry) => self.put_in(entry, put, obstacles, now),
            Task::TakeOut(leaving) => self.left(leaving, put, now),
        }
        waited.into_iter().for_each(|waiter| self.answer_waiting(waiter.whose, looks, now));
        self.advance_mode(now);
    }

    /// A job was given up: what depends on it is as if it had failed.
    pub(super) fn check_lost(&mut self, why: &str, now: Now) {
        let lost = || vec![Obstacle::new(why.to_owned())];
        let Some(task) = self.checks.task.take() else { return };
        let waited = std::mem::take(&mut self.checks.waited);
        match task {
            Task::Seek | Task::FindLogins(_) | Task::Look | Task::Keep => {}
            Task::Enter(entry) => self.enter(entry, lost(), now),
            Task::PutIn(entry) => self.put_in(entry, Ok(()), lost(), now),
            Task::TakeOut(leaving) => self.left(leaving, Err(why.to_owned()), now),
        }
        waited.into_iter().for_each(|waiter| self.answer_waiting(waiter.whose, false, now));
        self.advance_mode(now);
    }

    fn answer_waiting(&mut self, whose: Waits, fresh: bool, now: Now) {
        let stale = (!fresh).then(|| self.checks.staleness(now));
        self.push(Effect::AnswerLooked(whose, stale));
    }

    /// Records which keys of exempt accounts came and went since they were last seen. Whoever has such an account can change
    /// them as often as they like.
    /// `passed` are those that stood there in between.
    fn note_exempt_keys(
        &mut self,
        seen: BTreeMap<Account, ExemptKeys>,
        passed: &BTreeMap<Account, ExemptKeys>,
        now: Now,
    ) {
        let nothing = ExemptKeys::new();
        for (account, keys) in seen {
            let before = self.checks.exempt_keys.insert(account.clone(), keys.clone());
            let Some(before) = before else { continue };
            let changed = keys_changed(&account, &before, passed.get(&account).unwrap_or(&nothing), &keys);
            if let Some(draft) = changed {
                self.recorder.note_often(draft, 1, now);
            }
        }
        let exempt = &self.config.accounts.exempt;
        self.checks.exempt_keys.retain(|account, _| exempt.contains(account));
        self.commit(now);
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
