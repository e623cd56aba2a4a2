//! Observe and enforce: entering, leaving, the trial, and what stands in the way.
//!
//! Entering is refused where it would not hold or would lock everybody out. Once in, what breaks later weakens one layer:
//! the rest stays in force, and the break is recorded and shown.

use std::{collections::BTreeSet, fs, io, time::Duration};

use record::{Account, Actor, ArtifactType, Draft};
use serde::{Deserialize, Serialize};

use super::{Engine, jobs::Kind, state::remove_marker};
use crate::{
    host::{
        clock::Now,
        readiness::{self, Obstacle, ReadinessInput, When},
        sshd::{
            drop_in,
            listener::{self, Listener},
        },
    },
    policy::time::Deadline,
    trigger::Reason,
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

/// The mode that is in force.
#[derive(Debug, Default)]
pub(crate) struct ModeState {
    enforces: bool,
    /// When enforce came into force, on the boot clock; nothing in observe.
    since: Option<Duration>,
    trial: Option<Deadline>,
    obstacles: Vec<Obstacle>,
    checking: bool,
}

impl ModeState {
    pub(crate) fn enforces(&self) -> bool {
        self.enforces
    }

    /// Since when enforce is in force without a break, on the boot clock: zero where it was before this boot.
    pub(crate) fn in_force_since(&self) -> Option<Duration> {
        self.since.filter(|_| self.enforces)
    }

    /// A look at what stands in the way is over.
    pub(super) fn checked(&mut self) {
        self.checking = false;
    }

    pub(crate) fn trial_ends(&self) -> Option<Deadline> {
        self.trial
    }
}

impl Engine {
    /// What stands in the way of enforcing, or weakens it, when last looked at.
    #[must_use]
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.mode.obstacles
    }

    /// Takes up the mode that the last run left, then the one that the configuration wants.
    pub(super) fn resume_mode(&mut self, boot_id: &str, now: Now) {
        let path = control::gate::ENFORCING;
        match fs::read(path) {
            Ok(bytes) => {
                // A marker that cannot be read says enforce all the same; it has no trial that could still be on.
                let marker: Marker = serde_json::from_slice(&bytes).unwrap_or_default();
                self.mode.enforces = true;
                self.mode.since = Some(match marker.since {
                    Some(since) if since.boot_id == boot_id => since.boot,
                    Some(_) => Duration::ZERO,
                    None => now.boot,
                });
                let same_boot = marker.trial.filter(|trial| trial.boot_id == boot_id);
                self.mode.trial = same_boot.map(|trial| trial.until).filter(|until| !until.has_passed(now));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, "{path} cannot be read: the daemon goes on as if enforce had been on");
                self.mode.enforces = true;
                self.mode.since = Some(now.boot);
            }
        }
        self.settle_mode(now);
    }

    /// Brings the mode to what the configuration wants, or the trial.
    pub(super) fn settle_mode(&mut self, now: Now) {
        let wanted = (self.config.mode == control::Mode::Enforce) || self.mode.trial.is_some();
        match (wanted, self.mode.enforces) {
            (true, true) => self.keep_in_force(now),
            (true, false) => {
                let before = self.mode.obstacles.clone();
                if self.enter(None, "the configuration says enforce", None, now).is_err() {
                    let found = std::mem::replace(&mut self.mode.obstacles, before);
                    self.report_obstacles(found, now);
                }
            }
            (false, true) => self.leave("the configuration says observe", now),
            (false, false) => {}
        }
    }

    /// Begins a trial; answers with what it changed.
    ///
    /// # Errors
    /// What stands in the way, a sentence each.
    pub(crate) fn begin_trial(&mut self, until: Deadline, actor: Actor, now: Now) -> Result<Vec<String>, Vec<String>> {
        if self.mode.enforces {
            self.mode.trial = Some(until);
            self.write_marker().map_err(|error| vec![unmarked(&error)])?;
            return Ok(Vec::new());
        }
        self.enter(Some(until), "an operator tries enforce", Some(actor), now)
    }

    /// The trial's time is over: back to what the configuration says.
    pub(super) fn end_trial(&mut self, now: Now) {
        self.mode.trial = None;
        if self.config.mode == control::Mode::Enforce {
            if let Err(error) = self.write_marker() {
                tracing::error!(%error, "the marker of enforce cannot be written");
            }
        } else {
            self.leave("the trial is over", now);
        }
    }

    /// Enters enforce. Keys first, then the gate, then sshd: nobody with a grant is refused in between.
    fn enter(
        &mut self,
        trial: Option<Deadline>,
        reason: &str,
        actor: Option<Actor>,
        now: Now,
    ) -> Result<Vec<String>, Vec<String>> {
        self.unobstructed(When::Before)?;
        self.find_logins(now);
        self.mode.since = Some(now.boot);
        self.mode.enforces = true;
        self.mode.trial = trial;
        self.set_store_right(now);
        let put = self
            .write_marker()
            .map_err(|error| vec![unmarked(&error)])
            .and_then(|()| self.put_drop_in().map_err(|error| vec![error]))
            .and_then(|()| self.unobstructed(When::InForce));
        if let Err(obstacles) = put {
            self.undo_enforce(now);
            return Err(obstacles);
        }
        self.mode.obstacles.clear();
        self.tell_homes();
        self.note_mode("enforce", reason, trial, actor);
        self.pass(now);
        Ok(vec![
            format!("{} tells sshd to read keys from the key store alone", drop_in::PATH),
            "the gate refuses whoever has no grant".to_owned(),
            "key files that no grant backs go to quarantine".to_owned(),
        ])
    }

    /// Nothing, or what stands in the way.
    fn unobstructed(&mut self, when: When) -> Result<(), Vec<String>> {
        let obstacles = self.question().ask(when);
        if obstacles.is_empty() {
            return Ok(());
        }
        let sentences = obstacles.iter().map(ToString::to_string).collect();
        self.mode.obstacles = obstacles;
        Err(sentences)
    }

    /// Writes sshd's drop-in and has every sshd read it.
    fn put_drop_in(&self) -> Result<(), String> {
        let exempt: Vec<Account> = self.exempt().iter().cloned().collect();
        let done = drop_in::install(&exempt, &self.listeners()).map_err(|error| error.to_string())?;
        match done.reloads.iter().find(|reload| !reload.well) {
            Some(reload) => Err(format!("{} did not come back after it read its configuration again", reload.listener)),
            None => Ok(()),
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        listener::sshd_listeners().unwrap_or_else(|error| {
            tracing::error!(%error, "running sshds cannot be found");
            Vec::new()
        })
    }

    /// What is asked of the host, to be asked here or on another thread.
    fn question(&self) -> Question {
        Question {
            exempt: self.exempt().iter().cloned().collect(),
            no_exempt: self.config.accounts.no_exempt,
            listeners: self.listeners(),
        }
    }

    fn leave(&mut self, reason: &str, now: Now) {
        self.undo_enforce(now);
        self.tell_homes();
        self.note_mode("observe", reason, None, None);
        self.commit(now);
    }

    /// Takes enforce back: sshd first, so that homes' keys work again before the store is emptied.
    fn undo_enforce(&mut self, now: Now) {
        if let Err(error) = drop_in::remove(&self.listeners()) {
            tracing::error!(%error, "sshd's drop-in could not be removed: keys in homes stay without effect");
        }
        if let Err(error) = remove_marker() {
            tracing::error!(%error, "the marker of enforce could not be removed: the gate refuses when the daemon is down");
        }
        self.mode.enforces = false;
        self.mode.since = None;
        self.mode.trial = None;
        self.set_store_right(now);
    }

    /// Enforce is on: the drop-in and the marker are as they must be, whoever took them away.
    fn keep_in_force(&mut self, now: Now) {
        self.keep_state_files();
        if let Err(error) = self.put_drop_in() {
            tracing::error!(%error, "sshd's drop-in could not be put right");
        }
        self.check_soon(now);
    }

    /// Looks at what weakens enforce, beside the main thread because it runs sshd.
    pub(super) fn check_soon(&mut self, now: Now) {
        if std::mem::replace(&mut self.mode.checking, true) {
            return;
        }
        let when = if self.mode.enforces { When::InForce } else { When::Before };
        let question = self.question();
        self.begin_job(Kind::Obstacles, None, now, move || Some(Reason::Checked(question.ask(when))));
    }

    /// What was looked at beside the main thread.
    pub(super) fn checked(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        self.mode.checked();
        self.report_obstacles(obstacles, now);
    }

    /// Records what has newly broken, and what is whole again.
    fn report_obstacles(&mut self, obstacles: Vec<Obstacle>, now: Now) {
        let before: BTreeSet<String> = self.mode.obstacles.iter().map(ToString::to_string).collect();
        let after: BTreeSet<String> = obstacles.iter().map(ToString::to_string).collect();
        self.mode.obstacles = obstacles;
        if before == after || !(self.enforces() || (self.config.mode == control::Mode::Enforce)) {
            return;
        }
        let what = if self.enforces() { "weakens enforce" } else { "stands in the way of enforce" };
        for broken in after.difference(&before) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("something {what}: {broken}"));
            self.recorder.note(draft.with("broken", broken.as_str()).with("enforces", self.enforces()));
        }
        for mended in before.difference(&after) {
            let draft = Draft::new(ArtifactType::SshdChanged, format!("no longer {what}: {mended}"));
            self.recorder.note(draft.with("mended", mended.as_str()).with("enforces", self.enforces()));
        }
        self.commit(now);
    }

    /// What the marker of enforce says.
    pub(super) fn marker(&self) -> Vec<u8> {
        let trial = self.mode.trial.map(|until| Trial { until, boot_id: self.world.boot_id().to_owned() });
        let since = self.mode.since.map(|boot| Since { boot, boot_id: self.world.boot_id().to_owned() });
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

/// What is asked of the host before and while enforce is on.
struct Question {
    exempt: Vec<Account>,
    no_exempt: bool,
    listeners: Vec<Listener>,
}

impl Question {
    fn ask(&self, when: When) -> Vec<Obstacle> {
        let Self { exempt, no_exempt, listeners } = self;
        readiness::check(&ReadinessInput { exempt, no_exempt: *no_exempt, listeners, when })
    }
}

fn unmarked(error: &io::Error) -> String {
    format!(
        "{} cannot be written: {error}; make room or mend the file system, then try again",
        control::gate::ENFORCING
    )
}
