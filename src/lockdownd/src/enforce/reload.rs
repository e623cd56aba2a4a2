//! Reading the configuration again, and putting it in force unless it would lock everybody out.
//!
//! The files are read, and the exempt accounts are looked at, in a job. Of several reloads the last one counts: what was read
//! before it was asked for is not put in force.

use std::{collections::BTreeSet, fs, path::Path, sync::mpsc, thread, time::Duration};

use control::{Answer, Refusal, RefusalCode, ReloadAnswer};
use lockdown_core::config::{self, Accounts, Config};
use lockdown_core::machine::Token;
use lockdown_core::{machine::Waiting, policy::time::Now};
use lockdown_host::{config_files, readiness};
use record::{Account, ArtifactType, Draft};

use super::{ConfigState, Engine, jobs::Kind, start::LAST_GOOD};
use crate::{
    disk::{Store, keeping},
    trigger::Reason,
};

/// How long the start waits to learn whether an exempt account could log in. Without an answer it starts on the last good
/// configuration.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// What a job has read.
#[derive(Debug)]
pub struct Loaded {
    config: Result<Config, config::Error>,
    /// Why nobody could come to the rescue with it; `None` where somebody could, or it does not change who could.
    locks_out: Option<String>,
}

/// Reloads that are under way or asked for.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    under_way: bool,
    /// Another was asked for since the one under way began.
    again: bool,
    /// systemd waits to hear that a SIGHUP was dealt with.
    signalled: bool,
    /// Operators who wait for the next one.
    waiting: Vec<Token>,
    /// Operators who wait for the one under way.
    waited: Vec<Token>,
    /// Operators whose configuration is in force, and who wait for the mode to follow.
    settling: Vec<Token>,
}

/// Whether a change of the exempt accounts takes something away that might be the last way in.
fn takes_away(before: &Accounts, after: &Accounts) -> bool {
    !after.no_exempt && (before.no_exempt || !before.exempt.is_subset(&after.exempt))
}

/// Why nobody could come to the rescue with these accounts. Runs sshd.
fn locks_out(after: &Accounts) -> Option<String> {
    let exempt: Vec<Account> = after.exempt.iter().cloned().collect();
    match readiness::without_rescue(&exempt, after.no_exempt) {
        Ok(obstacle) => obstacle.map(|obstacle| obstacle.to_string()),
        Err(error) => Some(format!("whether an exempt account could log in cannot be told: {error}")),
    }
}

impl Engine {
    /// SIGHUP.
    pub(super) fn reload_signalled(&mut self, now: Now) {
        self.reloads.signalled = true;
        self.begin_reload(now);
    }

    /// `lockdownd --reload`: as a SIGHUP, and says what came of it.
    pub(crate) fn reload_asked(&mut self, token: Token, now: Now) {
        self.reloads.waiting.push(token);
        self.begin_reload(now);
    }

    /// Whether systemd still waits for what came of a SIGHUP.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        self.reloads.signalled || self.core.is_reloading()
    }

    fn begin_reload(&mut self, now: Now) {
        if std::mem::replace(&mut self.reloads.under_way, true) {
            self.reloads.again = true;
            return;
        }
        self.reloads.again = false;
        self.reloads.waited.append(&mut self.reloads.waiting);
        let before = self.core.config.accounts.clone();
        self.begin_job(Kind::Reload, None, now, move || {
            let config = config_files::load(Path::new(config_files::CONFIG_DIR));
            let accounts = config.as_ref().ok().map(|config| &config.accounts);
            let locks_out = accounts.filter(|after| takes_away(&before, after)).and_then(locks_out);
            Reason::Loaded(Box::new(Loaded { config, locks_out })).into()
        });
    }

    /// The files were read. A configuration that does not check out, or would lock everybody out, never replaces the one in
    /// force.
    pub(super) fn loaded(&mut self, loaded: Loaded, now: Now) {
        self.reloads.under_way = false;
        if self.reloads.again {
            self.reloads.waiting.append(&mut self.reloads.waited);
            return self.begin_reload(now);
        }
        let Loaded { config, locks_out } = loaded;
        match config {
            Ok(config) => {
                // Where enforce ends with it, everybody's own keys work again.
                let stays =
                    self.core.enforces() && (config.mode == control::Mode::Enforce || self.core.mode.trial.is_some());
                match locks_out.filter(|_| stays) {
                    Some(why) => {
                        let why = would_lock_out(&why);
                        tracing::error!("the configuration is refused, and the one from before stays in force: {why}");
                        self.refuse_config(why.clone(), &[why], 1, now);
                        self.spare_named(config.accounts.exempt);
                    }
                    None => {
                        let sweeps_change = self.put_new_config_in_force(config, now);
                        self.reloads.settling.append(&mut self.reloads.waited);
                        self.settle_mode(now);
                        self.tell_homes();
                        self.renew_closing(now);
                        if sweeps_change {
                            // The last attestation has promised the next by the old pattern.
                            self.begin_sweep(now);
                        }
                    }
                }
            }
            Err(error) => {
                tracing::error!("the configuration is refused, and the one from before stays in force:\n{error}");
                let problems: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
                self.refuse_config(error.summary(), &problems, error.count(), now);
            }
        }
        self.core.pass(now);
        self.advance_mode(now);
    }

    /// Answers whether sweeps come by another pattern from now on.
    fn put_new_config_in_force(&mut self, config: Config, now: Now) -> bool {
        // What is due is due by the configuration in force until now.
        self.meet_schedule(now);
        // Places count too: what the same settings came from may have moved to another template.
        let same = config == self.core.config && self.config_state.refused.is_none();
        let (stack, keeping) = (config.host.stack.clone(), keeping(&config));
        let set = move |store: &mut Store| {
            store.ledger.set(stack, keeping);
            None
        };
        self.work("telling the ledger what to keep", Box::new(set));
        let before = self.core.config.accounts.exempt.clone();
        let sweeps_change = self.core.replace_config(config, now);
        if !same {
            self.config_state = ConfigState { loaded_at: now.wall, last_good: false, refused: None };
        }
        self.retire(&before, now);
        self.put_config_in_force(now);
        sweeps_change
    }

    /// What was in force stays; whoever asked is told.
    fn refuse_config(&mut self, summary: String, problems: &[String], count: usize, now: Now) {
        let draft = Draft::new(ArtifactType::ConfigRefused, format!("the configuration was refused: {summary}"))
            .with("problems", problems.to_vec())
            .with("count", count as u64);
        self.core.recorder.note(draft);
        self.core.commit(now);
        for token in std::mem::take(&mut self.reloads.waited) {
            let refusal = Refusal::new(RefusalCode::BadConfig, "the configuration is refused; what was in force stays")
                .hint("mend this, then systemctl reload lockdownd:");
            let response = Err(problems.iter().cloned().fold(refusal, Refusal::detail));
            self.answer_on_record(token, response, now);
        }
        self.config_state.refused = Some(summary);
    }

    /// The job that reads the configuration was given up: nothing changes.
    pub(super) fn reload_lost(&mut self, why: &str, now: Now) {
        self.reloads.under_way = false;
        for token in std::mem::take(&mut self.reloads.waited) {
            let refusal = Refusal::new(RefusalCode::Failed, format!("the configuration was not read: {why}"));
            self.answer(token, Err(refusal.hint("journalctl -u lockdownd says more; then systemctl reload lockdownd")));
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
            self.core.answer_on_record(Waiting::Systemd, now);
        }
        let wanted = self.core.config.mode;
        let mut notes = Vec::new();
        if wanted == control::Mode::Enforce && !self.core.enforces() {
            notes.push("mode \"enforce\" waits for what stands in its way:".to_owned());
            notes.extend(self.obstacle_views());
        }
        for token in std::mem::take(&mut self.reloads.settling) {
            let answer = Answer::Reload(ReloadAnswer { notes: notes.clone() });
            self.answer_on_record(token, Ok(answer), now);
        }
    }
}

fn would_lock_out(why: &str) -> String {
    format!("with these exempt accounts nobody could log in without a grant while enforce is on: {why}")
}

/// Why the daemon must not start on this configuration though it checks out: enforce is on, and with it nobody could come
/// to the rescue.
pub(super) fn locks_out_at_start(config: &Config, last_good: &Accounts) -> Option<String> {
    let enforced = Path::new(control::gate::ENFORCING).exists() && config.mode == control::Mode::Enforce;
    if !enforced || !takes_away(last_good, &config.accounts) {
        return None;
    }
    let (send, found) = mpsc::channel();
    let accounts = config.accounts.clone();
    let look = move || drop(send.send(locks_out(&accounts)));
    let begun = thread::Builder::new().name("rescue".to_owned()).spawn(look);
    let found = match begun {
        Ok(_) => found.recv_timeout(START_PATIENCE).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    found
        .unwrap_or_else(|error| Some(format!("whether an exempt account could log in cannot be told: {error}")))
        .map(|why| would_lock_out(&why))
}

/// The accounts that were exempt when the daemon ran last: by the gate's list, or where somebody removed that, by the
/// configuration that was in force.
pub(super) fn exempt_before() -> BTreeSet<Account> {
    match fs::read_to_string(control::gate::EXEMPT) {
        Ok(text) => text.lines().filter_map(|line| line.parse().ok()).collect(),
        Err(_) => {
            config_files::load_file(Path::new(LAST_GOOD)).map_or_else(|_| BTreeSet::new(), |last| last.accounts.exempt)
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
            agent_forwarding: lockdown_core::config::AgentForwarding::default(),
            require: lockdown_core::config::Require::default(),
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
