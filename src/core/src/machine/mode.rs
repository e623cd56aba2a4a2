//! Observe and enforce: entering, leaving, the trial, and what stands in the way.
//!
//! Entering is refused where it would not hold or would lock everybody out. Once in, what breaks later weakens one layer:
//! the rest stays in force, and the break is recorded and shown.

use std::{collections::BTreeMap, time::Duration};

use control::{Answer, EnforceAnswer, Refusal, RefusalCode};
use record::{Actor, ArtifactType, Draft};
use serde::{Deserialize, Serialize};

use super::{
    Core, Effect, Severity, Token, Waiting,
    checks::{Entry, Leaving, Task},
};
use crate::policy::time::{Deadline, Now};

/// sshd's drop-in.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-lockdownd.conf";

/// The mode that is in force.
#[derive(Debug, Clone, Default)]
pub struct Mode {
    /// Whether enforce is.
    pub enforces: bool,
    /// What the last run left is not taken up yet, so that which keys the store has to hold is not known.
    pub is_unread: bool,
    /// Enforce is in force, and whether it will stay so is not known yet.
    pub is_entering: bool,
    /// When enforce came into force, on the boot clock; nothing in observe. Zero where it was before this boot.
    pub since: Option<Duration>,
    /// When the trial of it ends.
    pub trial: Option<Deadline>,
}

impl Mode {
    /// Since when enforce is in force without a break, on the boot clock: zero where it was before this boot.
    #[must_use]
    pub fn in_force_since(&self) -> Option<Duration> {
        self.since.filter(|_| self.enforces)
    }

    /// Whether key files in homes go: not while it is uncertain whether enforce holds.
    #[must_use]
    pub fn removes_keys(&self) -> bool {
        self.enforces && !self.is_entering
    }
}

/// One thing in the way, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The same text as long as the same thing is in the way.
    pub identity: String,
    /// The sentence.
    pub told: String,
    /// Whether nobody but exempt accounts can log in because of it.
    pub keeps_all_out: bool,
}

impl Obstacle {
    pub(super) fn new(told: String) -> Self {
        Self { identity: told.clone(), told, keeps_all_out: false }
    }
}

/// The marker of enforce that the last run left.
#[derive(Debug)]
pub enum MarkerLeft {
    /// None.
    Nothing,
    /// This stands in it.
    Holds(Vec<u8>),
    /// It cannot be read.
    Unreadable,
}

/// What stands in the marker of enforce: nothing but braces, or when the trial ends.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Marker {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trial: Option<Trial>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since: Option<Since>,
}

/// When enforce came into force, on the boot clock of one boot.
#[derive(Debug, Serialize, Deserialize)]
struct Since {
    boot: Duration,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    until: Deadline,
    boot_id: String,
}

impl Core {
    /// What stands in the way of enforcing, or weakens it, when last looked at.
    #[must_use]
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.checks.obstacles
    }

    /// The same, as an operator sees it.
    #[must_use]
    pub fn obstacle_views(&self) -> Vec<String> {
        self.obstacles().iter().map(|obstacle| obstacle.told.clone()).collect()
    }

    /// Takes up the mode that the last run left, then the one that the configuration wants.
    pub fn resume_mode(&mut self, left: MarkerLeft, now: Now) {
        self.mode.is_unread = false;
        match left {
            MarkerLeft::Nothing => {}
            MarkerLeft::Holds(bytes) => {
                // A marker that cannot be understood says enforce all the same; it has no trial that could still be on.
                let marker: Marker = serde_json::from_slice(&bytes).unwrap_or_default();
                self.mode.enforces = true;
                self.mode.since = Some(match marker.since {
                    Some(since) if since.boot_id == self.boot_id => since.boot,
                    Some(_) => Duration::ZERO,
                    None => now.boot,
                });
                let same_boot = marker.trial.filter(|trial| trial.boot_id == self.boot_id);
                self.mode.trial = same_boot.map(|trial| trial.until).filter(|until| !until.has_passed(now));
            }
            MarkerLeft::Unreadable => {
                self.mode.enforces = true;
                self.mode.since = Some(now.boot);
            }
        }
        self.settle_mode(now);
    }

    /// Something changed: brings the mode to what the configuration wants, or the trial, and has everything looked at that
    /// enforce stands on.
    pub fn settle_mode(&mut self, now: Now) {
        self.checks.touched = true;
        self.checks.put_failed = false;
        self.advance_mode(now);
    }

    /// Begins what the mode needs next, unless something is under way.
    pub(super) fn advance_mode(&mut self, now: Now) {
        while !self.checks.is_busy() {
            // Where enforce is to be left, whoever tries it enters it anew, with a look at what stands in the way.
            let may_try = self.is_wanted() || !self.mode.enforces || !self.checks.touched;
            if may_try && let Some(entry) = self.checks.tries.pop_front() {
                self.try_entry(entry, now);
            } else if std::mem::take(&mut self.checks.touched) {
                self.bring_about(now);
            } else if self.checks.anybody_waits() {
                self.begin_task(Task::Look, now);
            } else {
                return self.reload_is_over(now);
            }
        }
    }

    /// Whether enforce is, by the configuration or for a trial.
    pub(super) fn is_wanted(&self) -> bool {
        self.config.mode == control::Mode::Enforce || self.mode.trial.is_some()
    }

    fn bring_about(&mut self, now: Now) {
        // Whether a trial is on stands in the state. The mode stays what it is until that is read.
        if self.is_unread() {
            return;
        }
        match (self.is_wanted(), self.mode.enforces) {
            (true, true) => {
                // The drop-in and the marker are as they must be, whoever took them away.
                self.keep_state_files();
                self.begin_task(Task::Keep, now);
            }
            (true, false) => self.begin_task(Task::Enter(Entry { trial: None, asked: None }), now),
            (false, true) => {
                let why = std::mem::take(&mut self.checks.trial_over).then_some("the trial is over");
                let why = Some(why.unwrap_or("the configuration says observe"));
                self.begin_task(Task::TakeOut(Leaving { why, found: Vec::new(), token: None }), now);
            }
            // A job that was given up may have put the drop-in there late.
            (false, false) => self.begin_task(Task::Seek, now),
        }
    }

    /// In observe: whether the drop-in stands there is known.
    pub(super) fn drop_in_seen(&mut self, stands: bool, now: Now) {
        if !self.checks.take_seek() {
            return;
        }
        if stands {
            self.begin_task(Task::TakeOut(Leaving { why: None, found: Vec::new(), token: None }), now);
        } else if self.checks.take_wanted() {
            self.begin_task(Task::Look, now);
        }
        self.advance_mode(now);
    }

    /// An operator tries enforce, or prolongs the trial.
    pub(super) fn begin_trial(&mut self, until: Deadline, actor: Actor, token: Token, now: Now) {
        self.checks.tries.push_back(Entry { trial: Some(until), asked: Some((actor, token)) });
        self.advance_mode(now);
    }

    fn try_entry(&mut self, entry: Entry, now: Now) {
        if !self.mode.enforces {
            return self.begin_task(Task::Enter(entry), now);
        }
        self.mode.trial = entry.trial;
        self.keep_state_files();
        let actor = entry.asked.as_ref().map(|(actor, _)| actor.clone());
        self.note_mode("enforce", "an operator gives the trial another end", entry.trial, actor);
        self.commit(now);
        self.answer_entry(entry, Ok(Vec::new()), now);
    }

    /// Where the trial's time is over: back to what the configuration says.
    pub(super) fn end_trial_if_over(&mut self, now: Now) {
        if !self.mode.trial.is_some_and(|end| end.has_passed(now)) {
            return;
        }
        self.mode.trial = None;
        if self.config.mode == control::Mode::Enforce {
            self.keep_state_files();
        } else {
            self.checks.trial_over = true;
            self.settle_mode(now);
        }
    }

    /// What was looked at, with nothing else to be done about it.
    pub(super) fn note_obstacles(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        // What stood in the way is gone, and nothing had told of it.
        let mended = obstacles.is_empty() && self.is_wanted() && !self.mode.enforces && !self.checks.put_failed;
        self.checks.touched |= mended;
        self.report_obstacles(obstacles, now);
    }

    /// Enters enforce if nothing stands in the way, once it is known who is there.
    pub(super) fn enter(&mut self, entry: Entry, obstacles: Vec<Obstacle>, now: Now) {
        if !obstacles.is_empty() {
            let sentences = obstacles.iter().map(|obstacle| obstacle.told.clone()).collect();
            self.report_obstacles(obstacles, now);
            return self.answer_entry(entry, Err(sentences), now);
        }
        if entry.asked.is_some() || self.config.mode == control::Mode::Enforce {
            self.begin_task(Task::FindLogins(entry), now);
        }
    }

    /// Who is there is known, and enforce is entered. Keys first, then the gate, then sshd: nobody with a grant is refused in
    /// between.
    pub(super) fn enter_knowing_logins(&mut self, now: Now) {
        let Some(entry) = self.checks.take_entry() else { return };
        self.mode.since = Some(now.boot);
        self.mode.enforces = true;
        self.mode.is_entering = true;
        self.mode.trial = entry.trial;
        self.checks.obstacles.clear();
        self.set_store_right(now);
        self.begin_task(Task::PutIn(entry), now);
    }

    /// The drop-in is in place, and whether enforce holds was looked at.
    pub(super) fn put_in(&mut self, entry: Entry, put: Result<(), String>, mut found: Vec<Obstacle>, now: Now) {
        if let Err(why) = put {
            found.insert(0, Obstacle::new(format!("{DROP_IN}: {why}")));
        }
        if !found.is_empty() {
            return self.go_back(entry, found, now);
        }
        self.mode.is_entering = false;
        self.push(Effect::TellHomes);
        let (reason, actor) = match &entry.asked {
            Some((actor, _)) => ("an operator tries enforce", Some(actor.clone())),
            None => ("the configuration says enforce", None),
        };
        self.note_mode("enforce", reason, entry.trial, actor);
        self.pass(now);
        let changed = [
            format!("{DROP_IN} tells sshd to read keys from the key store alone"),
            "the gate refuses whoever has no grant".to_owned(),
            "key files that no grant backs go to quarantine".to_owned(),
        ];
        self.answer_entry(entry, Ok(changed.into()), now);
    }

    /// Tells an operator what came of the trial that they asked for, once that is on record.
    fn answer_entry(&mut self, entry: Entry, done: Result<Vec<String>, Vec<String>>, now: Now) {
        let (Some((_, token)), Some(until)) = (entry.asked, entry.trial) else { return };
        let notes = vec!["it ends by itself; set mode = \"enforce\" in the configuration to make it last".to_owned()];
        let answer = done.map(|changed| Answer::Enforce(EnforceAnswer { until: until.wall, changed, notes }));
        self.answer_on_record(Waiting::Operator(token, answer.map_err(not_ready)), now);
    }

    fn go_back(&mut self, entry: Entry, found: Vec<Obstacle>, now: Now) {
        self.checks.put_failed = true;
        // Or it would be entered anew at once.
        self.mode.trial = None;
        let token = entry.asked.map(|(_, token)| token);
        self.begin_task(Task::TakeOut(Leaving { why: None, found, token }), now);
    }

    /// sshd does without the drop-in, so that homes' keys work again: now the store is emptied and the gate lets everybody by.
    pub(super) fn left(&mut self, leaving: Leaving, taken_out: Result<(), String>, now: Now) {
        let Leaving { why, found, token } = leaving;
        if let Err(error) = taken_out {
            let what = format!("sshd's drop-in could not be removed: keys in homes stay without effect: {error}");
            self.say(Severity::Err, what);
        }
        self.mode = Mode::default();
        self.keep_state_files();
        self.set_store_right(now);
        self.push(Effect::TellHomes);
        if let Some(why) = why {
            self.note_mode("observe", why, None, None);
            self.commit(now);
        }
        if !found.is_empty() {
            let sentences = found.iter().map(|obstacle| obstacle.told.clone()).collect();
            self.report_obstacles(found, now);
            if let Some(token) = token {
                self.push(Effect::Answer(token, Err(not_ready(sentences))));
            }
        }
    }

    /// Records what has newly broken, and what is whole again.
    fn report_obstacles(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        let sentences = |of: &[Obstacle]| -> BTreeMap<String, String> {
            of.iter().map(|obstacle| (obstacle.identity.clone(), obstacle.told.clone())).collect()
        };
        let after = sentences(&obstacles);
        // What was seen while nobody wanted enforce is on no record.
        let before = if self.checks.obstacles_told { sentences(&self.checks.obstacles) } else { BTreeMap::new() };
        self.checks.obstacles = obstacles;
        let enforces = self.enforces();
        self.checks.obstacles_told = enforces || self.config.mode == control::Mode::Enforce;
        if !self.checks.obstacles_told || before.keys().eq(after.keys()) {
            return;
        }
        let what = if enforces { "weakens enforce" } else { "stands in the way of enforce" };
        for (_, broken) in after.iter().filter(|(identity, _)| !before.contains_key(*identity)) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("something {what}: {broken}"));
            self.recorder.note(draft.with("broken", broken.as_str()).with("enforces", enforces));
        }
        for (_, mended) in before.iter().filter(|(identity, _)| !after.contains_key(*identity)) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("no longer {what}: {mended}"));
            self.recorder.note(draft.with("mended", mended.as_str()).with("enforces", enforces));
        }
        self.commit(now);
    }

    /// Has the files kept that PAM and the gate go by when the daemon does not answer: the exempt accounts, and the marker of
    /// enforce.
    pub fn keep_state_files(&mut self) {
        // While enforce is being entered, whoever puts it in force writes the marker. Before the state is read it is not known.
        let is_known = !self.mode.is_entering && !self.is_unread();
        let marker = is_known.then(|| self.enforces().then(|| self.marker()));
        self.push(Effect::KeepStateFiles { marker });
    }

    /// What the marker of enforce says.
    pub(super) fn marker(&self) -> Vec<u8> {
        let trial = self.mode.trial.map(|until| Trial { until, boot_id: self.boot_id.clone() });
        let since = self.mode.since.map(|boot| Since { boot, boot_id: self.boot_id.clone() });
        serde_json::to_vec(&Marker { trial, since }).expect("a marker has string keys only")
    }

    fn note_mode(&mut self, mode: &str, reason: &str, trial: Option<Deadline>, actor: Option<Actor>) {
        let mut draft =
            Draft::new(ArtifactType::ModeChanged, format!("mode is now {mode}: {reason}")).with("mode", mode);
        if let Some(until) = trial {
            draft = draft.with("trial_until", until.wall.to_string());
        }
        draft.actor = actor;
        self.recorder.note(draft);
    }
}

fn not_ready(obstacles: Vec<String>) -> Refusal {
    let refusal = Refusal::new(RefusalCode::NotReady, "enforce would not be safe on this host yet")
        .hint("mend these, then try again:");
    obstacles.into_iter().fold(refusal, Refusal::detail)
}

#[cfg(test)]
mod tests;
