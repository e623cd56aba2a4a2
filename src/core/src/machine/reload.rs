//! Reading the configuration again, and putting it in force unless it would lock everybody out.
//!
//! The files are read, and the exempt accounts are looked at, in a job. Of several reloads the last one counts: what was read
//! before it was asked for is not put in force.

use std::collections::BTreeSet;

use control::{Answer, Mode, Refusal, RefusalCode, ReloadAnswer};
use jiff::Timestamp;
use record::{Account, ArtifactType, Draft};

use super::{
    Core, Effect, Severity, Token, Waiting,
    jobs::{Job, Kind},
};
use crate::{
    config::{self, Accounts, Config},
    policy::time::Now,
};

/// What a job has read.
#[derive(Debug)]
pub struct Loaded {
    /// What the files say.
    pub config: Result<Config, config::Error>,
    /// Why nobody could come to the rescue with it; `None` where somebody could, or it does not change who could.
    pub locks_out: Option<String>,
}

/// Which configuration is in force, and since when.
#[derive(Debug, Clone)]
pub struct ConfigState {
    /// Since when.
    pub loaded_at: Timestamp,
    /// It is the last good one: the files do not check out.
    pub last_good: bool,
    /// Why the files were refused, where they were.
    pub refused: Option<String>,
}

/// Reloads that are under way or asked for.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    under_way: bool,
    /// Another was asked for since the one under way began.
    again: bool,
    /// systemd waits to hear that a SIGHUP was dealt with.
    pub(super) signalled: bool,
    /// Operators who wait for the next one.
    waiting: Vec<Token>,
    /// Operators who wait for the one under way.
    waited: Vec<Token>,
    /// Operators whose configuration is in force, and who wait for the mode to follow.
    settling: Vec<Token>,
}

/// Whether a change of the exempt accounts takes something away that might be the last way in.
#[must_use]
pub fn takes_away(before: &Accounts, after: &Accounts) -> bool {
    !after.no_exempt && (before.no_exempt || !before.exempt.is_subset(&after.exempt))
}

/// Why a configuration is refused with which nobody could come to the rescue.
#[must_use]
pub fn would_lock_out(why: &str) -> String {
    format!("with these exempt accounts nobody could log in without a grant while enforce is on: {why}")
}

impl Core {
    /// The configuration is to be read again: by a signal, or for an operator, who is told what came of it.
    pub(super) fn reload(&mut self, asked: Option<Token>, now: Now) {
        match asked {
            Some(token) => self.reloads.waiting.push(token),
            None => self.reloads.signalled = true,
        }
        self.begin_reload(now);
    }

    fn begin_reload(&mut self, now: Now) {
        if std::mem::replace(&mut self.reloads.under_way, true) {
            self.reloads.again = true;
            return;
        }
        self.reloads.again = false;
        self.reloads.waited.append(&mut self.reloads.waiting);
        let mut before = self.config.accounts.clone();
        // The exempt accounts of one that leaves enforce were taken unseen: whatever stays in enforce is looked at.
        before.no_exempt |= self.enforces() && !self.is_wanted();
        self.start_job(Kind::Reload, Job::ReadConfig(Box::new(before)), now);
    }

    /// The files were read. A configuration that does not check out, or would lock everybody out, never replaces the one in
    /// force.
    pub(super) fn loaded(&mut self, loaded: Loaded, now: Now) {
        if self.reloads.again {
            self.reloads.under_way = false;
            self.reloads.waiting.append(&mut self.reloads.waited);
            return self.begin_reload(now);
        }
        let Loaded { config, locks_out } = loaded;
        match config {
            Ok(config) => {
                // Where enforce ends with it, everybody's own keys work again.
                let stays = self.enforces() && (config.mode == Mode::Enforce || self.mode.trial.is_some());
                match locks_out.filter(|_| stays) {
                    Some(why) => {
                        let why = would_lock_out(&why);
                        let what = "the configuration is refused, and the one from before stays in force";
                        self.say(Severity::Err, format!("{what}: {why}"));
                        self.refuse_config(why.clone(), &[why], 1, now);
                        self.spare_named(config.accounts.exempt);
                        self.reload_dealt_with(now);
                    }
                    None => self.put_new_config_in_force(config, now),
                }
            }
            Err(error) => {
                let what = "the configuration is refused, and the one from before stays in force";
                self.say(Severity::Err, format!("{what}:\n{error}"));
                let problems: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
                self.refuse_config(error.summary(), &problems, error.count(), now);
                self.reload_dealt_with(now);
            }
        }
    }

    fn put_new_config_in_force(&mut self, config: Config, now: Now) {
        // Places count too: what the same settings came from may have moved to another template.
        let same = config == self.config && self.config_state.refused.is_none();
        let before: BTreeSet<Account> = self.exempt().clone();
        let sweeps_change = self.replace_config(config, now);
        if !same {
            self.config_state = ConfigState { loaded_at: now.wall, last_good: false, refused: None };
        }
        if before != *self.exempt() {
            self.checks.want();
        }
        self.push(Effect::ConfigChanged { before, sweeps_change });
    }

    /// What whoever drives the core keeps of the configuration follows the one that is in force now.
    pub(super) fn config_followed(&mut self, now: Now) {
        self.reloads.settling.append(&mut self.reloads.waited);
        self.renew_documents(now);
        self.settle_mode(now);
        self.push(Effect::TellHomes);
        self.reload_dealt_with(now);
    }

    fn reload_dealt_with(&mut self, now: Now) {
        self.reloads.under_way = false;
        self.pass(now);
        if std::mem::take(&mut self.reloads.again) {
            self.begin_reload(now);
        }
        self.advance_mode(now);
    }

    /// What was in force stays; whoever asked is told.
    fn refuse_config(&mut self, summary: String, problems: &[String], count: usize, now: Now) {
        let draft = Draft::new(ArtifactType::ConfigRefused, format!("the configuration was refused: {summary}"))
            .with("problems", problems.to_vec())
            .with("count", count as u64);
        self.recorder.note(draft);
        self.commit(now);
        for token in std::mem::take(&mut self.reloads.waited) {
            let refusal = Refusal::new(RefusalCode::BadConfig, "the configuration is refused; what was in force stays")
                .hint("mend this, then systemctl reload lockdownd:");
            let response = Err(problems.iter().cloned().fold(refusal, Refusal::detail));
            self.answer_on_record(Waiting::Operator(token, response), now);
        }
        self.config_state.refused = Some(summary);
    }

    /// The job that reads the configuration was given up: nothing changes.
    pub(super) fn reload_lost(&mut self, why: &str, now: Now) {
        self.reloads.under_way = false;
        for token in std::mem::take(&mut self.reloads.waited) {
            let refusal = Refusal::new(RefusalCode::Failed, format!("the configuration was not read: {why}"))
                .hint("journalctl -u lockdownd says more; then systemctl reload lockdownd");
            self.push(Effect::Answer(token, Err(refusal)));
        }
        if self.reloads.again && !self.reloads.waiting.is_empty() {
            self.begin_reload(now);
        }
        self.advance_mode(now);
    }

    /// The mode has settled: a reload before it is over.
    pub(super) fn reload_is_over(&mut self, now: Now) {
        if self.reloads.under_way {
            return;
        }
        if std::mem::take(&mut self.reloads.signalled) {
            self.answer_on_record(Waiting::Systemd, now);
        }
        let mut notes = Vec::new();
        if self.config.mode == Mode::Enforce && !self.enforces() {
            notes.push("mode \"enforce\" waits for what stands in its way:".to_owned());
            notes.extend(self.obstacle_views());
        }
        for token in std::mem::take(&mut self.reloads.settling) {
            let answer = Answer::Reload(ReloadAnswer { notes: notes.clone() });
            self.answer_on_record(Waiting::Operator(token, Ok(answer)), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(exempt: &[&str], no_exempt: bool) -> Accounts {
        Accounts {
            exempt: exempt.iter().map(|name| name.parse().expect("a name")).collect(),
            no_exempt,
            agent_forwarding: config::AgentForwarding::default(),
            require: config::Require::default(),
        }
    }

    #[test]
    fn only_what_takes_an_exempt_account_away_could_lock_everybody_out() {
        let (none, one, two) = (accounts(&[], false), accounts(&["a"], false), accounts(&["a", "b"], false));
        let unwanted = accounts(&[], true);
        for (before, after, takes) in [
            (&one, &one, false),
            (&one, &two, false),
            (&none, &one, false),
            (&two, &one, true),
            (&one, &none, true),
            (&one, &unwanted, false),
            (&unwanted, &one, true),
            (&unwanted, &none, true),
        ] {
            assert_eq!(takes_away(before, after), takes, "{before:?} {after:?}");
        }
    }
}
