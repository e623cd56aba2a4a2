//! Observe and enforce: entering, leaving, the trial, and what stands in the way.
//!
//! Entering is refused where it would not hold or would lock everybody out. Once in, what breaks later weakens one layer:
//! the rest stays in force, and the break is recorded and shown.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use control::{Answer, EnforceAnswer, Refusal, RefusalCode};
use lockdown_core::machine::Token;
use lockdown_core::policy::time::Deadline;
use lockdown_core::policy::time::Now;
use lockdown_host::{readiness::Obstacle, sshd::drop_in};
use record::{Actor, ArtifactType, Draft};
use serde::{Deserialize, Serialize};

use super::{
    Engine,
    checks::{Entry, Leaving, Looks, Task},
};

/// What stands in `/var/lib/lockdownd/enforcing`: nothing but braces, or when the trial ends.
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

/// What stands in the way of the mode that is wanted, and what is done about it.
#[derive(Debug, Default)]
pub(crate) struct ModeState {
    /// What is to be left is a trial whose time is over.
    trial_over: bool,
    /// Entering failed although nothing had stood in the way: it is not tried again before something changes.
    put_failed: bool,
    obstacles: Vec<Obstacle>,
    /// Whether these were told of on record: enforce was on or wanted then.
    obstacles_told: bool,
    /// The grants that sshd does not honour, a sentence each, when last looked at.
    pub(crate) not_honoured: Vec<String>,
    pub(super) looks: Looks,
}

impl ModeState {
    /// When something is due about it, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.looks.due()
    }
}

impl Engine {
    /// What stands in the way of enforcing, or weakens it, when last looked at.
    #[must_use]
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.mode.obstacles
    }

    /// Takes up the mode that the last run left, then the one that the configuration wants.
    pub(super) fn resume_mode(&mut self, now: Now) {
        let (path, boot_id) = (control::gate::ENFORCING, self.core.boot_id().to_owned());
        match fs::read(path) {
            Ok(bytes) => {
                // A marker that cannot be read says enforce all the same; it has no trial that could still be on.
                let marker: Marker = serde_json::from_slice(&bytes).unwrap_or_default();
                self.core.mode.enforces = true;
                self.core.mode.since = Some(match marker.since {
                    Some(since) if since.boot_id == boot_id => since.boot,
                    Some(_) => Duration::ZERO,
                    None => now.boot,
                });
                let same_boot = marker.trial.filter(|trial| trial.boot_id == boot_id);
                self.core.mode.trial = same_boot.map(|trial| trial.until).filter(|until| !until.has_passed(now));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, "{path} cannot be read: the daemon goes on as if enforce had been on");
                self.core.mode.enforces = true;
                self.core.mode.since = Some(now.boot);
            }
        }
        self.settle_mode(now);
    }

    /// Something changed: brings the mode to what the configuration wants, or the trial, and has everything looked at that
    /// enforce stands on.
    pub(super) fn settle_mode(&mut self, now: Now) {
        self.mode.looks.touched = true;
        self.mode.put_failed = false;
        self.advance_mode(now);
    }

    /// Begins what the mode needs next, unless something is under way.
    pub(super) fn advance_mode(&mut self, now: Now) {
        while !self.mode.looks.is_busy() {
            if let Some(entry) = self.mode.looks.tries.pop_front() {
                self.try_entry(entry, now);
            } else if std::mem::take(&mut self.mode.looks.touched) {
                self.bring_about(now);
            } else if self.mode.looks.anybody_waits() {
                self.begin_task(Task::Look, now);
            } else {
                return self.reload_is_over(now);
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.core.config.mode == control::Mode::Enforce || self.core.mode.trial.is_some()
    }

    fn bring_about(&mut self, now: Now) {
        // Whether a trial is on stands in the state. The mode stays what it is until that is read.
        if self.core.is_unread() {
            return;
        }
        match (self.is_wanted(), self.core.mode.enforces) {
            (true, true) => {
                // The drop-in and the marker are as they must be, whoever took them away.
                self.keep_state_files();
                self.begin_task(Task::Keep, now);
            }
            (true, false) => self.begin_task(Task::Enter(Entry { trial: None, asked: None }), now),
            (false, true) => {
                let why = std::mem::take(&mut self.mode.trial_over).then_some("the trial is over");
                let why = Some(why.unwrap_or("the configuration says observe"));
                self.begin_task(Task::TakeOut(Leaving { why, found: Vec::new(), token: None }), now);
            }
            // A job that was given up may have put it there late.
            (false, false) if Path::new(drop_in::PATH).exists() => {
                self.begin_task(Task::TakeOut(Leaving { why: None, found: Vec::new(), token: None }), now);
            }
            (false, false) if self.mode.looks.take_wanted() => self.begin_task(Task::Look, now),
            (false, false) => {}
        }
    }

    /// An operator tries enforce, or prolongs the trial.
    pub(crate) fn begin_trial(&mut self, until: Deadline, actor: Actor, token: Token, now: Now) {
        self.mode.looks.tries.push_back(Entry { trial: Some(until), asked: Some((actor, token)) });
        self.advance_mode(now);
    }

    fn try_entry(&mut self, entry: Entry, now: Now) {
        if !self.core.mode.enforces {
            return self.begin_task(Task::Enter(entry), now);
        }
        self.core.mode.trial = entry.trial;
        self.keep_state_files();
        let actor = entry.asked.as_ref().map(|(actor, _)| actor.clone());
        self.note_mode("enforce", "an operator gives the trial another end", entry.trial, actor);
        self.core.commit(now);
        self.answer_entry(entry, Ok(Vec::new()), now);
    }

    /// The trial's time is over: back to what the configuration says.
    pub(super) fn end_trial(&mut self, now: Now) {
        self.core.mode.trial = None;
        if self.core.config.mode == control::Mode::Enforce {
            self.keep_state_files();
        } else {
            self.mode.trial_over = true;
            self.settle_mode(now);
        }
    }

    /// What was looked at, with nothing else to be done about it.
    pub(super) fn note_obstacles(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        // What stood in the way is gone, and nothing had told of it.
        let mended = obstacles.is_empty() && self.is_wanted() && !self.core.mode.enforces && !self.mode.put_failed;
        self.mode.looks.touched |= mended;
        self.report_obstacles(obstacles, now);
    }

    /// Enters enforce if nothing stands in the way. Keys first, then the gate, then sshd: nobody with a grant is refused in
    /// between.
    pub(super) fn enter(&mut self, entry: Entry, obstacles: Vec<Obstacle>, now: Now) {
        if !obstacles.is_empty() {
            let sentences = obstacles.iter().map(ToString::to_string).collect();
            self.report_obstacles(obstacles, now);
            return self.answer_entry(entry, Err(sentences), now);
        }
        if entry.asked.is_none() && self.core.config.mode != control::Mode::Enforce {
            return;
        }
        self.find_logins(now);
        self.core.mode.since = Some(now.boot);
        self.core.mode.enforces = true;
        self.core.mode.is_entering = true;
        self.core.mode.trial = entry.trial;
        self.mode.obstacles.clear();
        self.core.set_store_right(now);
        self.follow(now);
        self.begin_task(Task::PutIn(entry), now);
    }

    /// The drop-in is in place, and whether enforce holds was looked at.
    pub(super) fn put_in(&mut self, entry: Entry, put: Result<(), String>, mut found: Vec<Obstacle>, now: Now) {
        if let Err(why) = put {
            found.insert(0, Obstacle::DropIn { listener: drop_in::PATH.to_owned(), why });
        }
        if !found.is_empty() {
            return self.go_back(entry, found, now);
        }
        self.core.mode.is_entering = false;
        self.tell_homes();
        let (reason, actor) = match &entry.asked {
            Some((actor, _)) => ("an operator tries enforce", Some(actor.clone())),
            None => ("the configuration says enforce", None),
        };
        self.note_mode("enforce", reason, entry.trial, actor);
        self.core.pass(now);
        let changed = [
            format!("{} tells sshd to read keys from the key store alone", drop_in::PATH),
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
        self.answer_on_record(token, answer.map_err(not_ready), now);
    }

    fn go_back(&mut self, entry: Entry, found: Vec<Obstacle>, now: Now) {
        self.mode.put_failed = true;
        // Or it would be entered anew at once.
        self.core.mode.trial = None;
        let token = entry.asked.map(|(_, token)| token);
        self.begin_task(Task::TakeOut(Leaving { why: None, found, token }), now);
    }

    /// sshd does without the drop-in, so that homes' keys work again: now the store is emptied and the gate lets everybody by.
    pub(super) fn left(&mut self, leaving: Leaving, taken_out: Result<(), String>, now: Now) {
        let Leaving { why, found, token } = leaving;
        if let Err(error) = taken_out {
            tracing::error!(%error, "sshd's drop-in could not be removed: keys in homes stay without effect");
        }
        self.core.mode.enforces = false;
        self.core.mode.is_entering = false;
        self.core.mode.since = None;
        self.core.mode.trial = None;
        self.keep_state_files();
        self.core.set_store_right(now);
        self.tell_homes();
        if let Some(why) = why {
            self.note_mode("observe", why, None, None);
            self.core.commit(now);
        }
        if !found.is_empty() {
            let sentences = found.iter().map(ToString::to_string).collect();
            self.report_obstacles(found, now);
            if let Some(token) = token {
                self.answer(token, Err(not_ready(sentences)));
            }
        }
    }

    /// Records what has newly broken, and what is whole again.
    fn report_obstacles(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        let sentences = |of: &[Obstacle]| -> BTreeMap<String, String> {
            of.iter().map(|obstacle| (obstacle.identity(), obstacle.to_string())).collect()
        };
        let after = sentences(&obstacles);
        // What was seen while nobody wanted enforce is on no record.
        let before = if self.mode.obstacles_told { sentences(&self.mode.obstacles) } else { BTreeMap::new() };
        self.mode.obstacles = obstacles;
        self.mode.obstacles_told = self.core.enforces() || self.core.config.mode == control::Mode::Enforce;
        if !self.mode.obstacles_told || before.keys().eq(after.keys()) {
            return;
        }
        let what = if self.core.enforces() { "weakens enforce" } else { "stands in the way of enforce" };
        for (_, broken) in after.iter().filter(|(identity, _)| !before.contains_key(*identity)) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("something {what}: {broken}"));
            self.core.recorder.note(draft.with("broken", broken.as_str()).with("enforces", self.core.enforces()));
        }
        for (_, mended) in before.iter().filter(|(identity, _)| !after.contains_key(*identity)) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("no longer {what}: {mended}"));
            self.core.recorder.note(draft.with("mended", mended.as_str()).with("enforces", self.core.enforces()));
        }
        self.core.commit(now);
    }

    /// What the marker of enforce says.
    pub(super) fn marker(&self) -> Vec<u8> {
        let trial = self.core.mode.trial.map(|until| Trial { until, boot_id: self.core.boot_id().to_owned() });
        let since = self.core.mode.since.map(|boot| Since { boot, boot_id: self.core.boot_id().to_owned() });
        serde_json::to_vec(&Marker { trial, since }).expect("a marker has string keys only")
    }

    fn note_mode(&mut self, mode: &str, reason: &str, trial: Option<Deadline>, actor: Option<Actor>) {
        let mut draft =
            Draft::new(ArtifactType::ModeChanged, format!("mode is now {mode}: {reason}")).with("mode", mode);
        if let Some(until) = trial {
            draft = draft.with("trial_until", until.wall.to_string());
        }
        draft.actor = actor;
        self.core.recorder.note(draft);
    }
}

fn not_ready(obstacles: Vec<String>) -> Refusal {
    let refusal = Refusal::new(RefusalCode::NotReady, "enforce would not be safe on this host yet")
        .hint("mend these, then try again:");
    obstacles.into_iter().fold(refusal, Refusal::detail)
}
