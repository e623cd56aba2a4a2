//! Reading the configuration, and what the driver keeps of it. Which is in force, the core decides.

use std::{collections::BTreeSet, fs, path::Path, sync::mpsc, thread, time::Duration};

use lockdown_core::{
    config::{Accounts, Config},
    machine::reload::{Loaded, takes_away, would_lock_out},
    policy::time::Now,
};
use lockdown_host::{config_files, readiness};
use record::Account;

use super::{Driver, start::LAST_GOOD};
use crate::disk::{Store, keeping};

/// How long the start waits to learn whether an exempt account could log in. Without an answer it starts on the last good
/// configuration.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Reads the configuration, for a job.
pub(super) fn read(before: &Accounts) -> Loaded {
    let config = config_files::load(Path::new(config_files::CONFIG_DIR));
    let accounts = config.as_ref().ok().map(|config| &config.accounts);
    let locks_out = accounts.filter(|after| takes_away(before, after)).and_then(locks_out);
    Loaded { config, locks_out }
}

/// Why nobody could come to the rescue with these accounts. Runs sshd.
fn locks_out(after: &Accounts) -> Option<String> {
    let exempt: Vec<Account> = after.exempt.iter().cloned().collect();
    match readiness::without_rescue(&exempt, after.no_exempt) {
        Ok(obstacle) => obstacle.map(|obstacle| obstacle.to_string()),
        Err(error) => Some(format!("whether an exempt account could log in cannot be told: {error}")),
    }
}

impl Driver {
    /// Another configuration is in force.
    pub(super) fn config_changed(&mut self, before: &BTreeSet<Account>, sweeps_change: bool, now: Now) {
        let (stack, keeping) = (self.core.config.host.stack.clone(), keeping(&self.core.config));
        let set = move |store: &mut Store| {
            store.ledger.set(stack, keeping);
            None
        };
        self.work("telling the ledger what to keep", Box::new(set));
        self.core.retire(before, now);
        self.put_config_in_force(now);
        self.renew_closing(now);
        if sweeps_change {
            // The last attestation has promised the next by the old pattern.
            self.core.begin_sweep(now);
        }
    }
}

/// Why the daemon must not start on this configuration though it checks out: enforce is on, and with it nobody could come
/// to the rescue.
pub(super) fn locks_out_at_start(config: &Config, last_good: &Config) -> Option<String> {
    let enforced = Path::new(control::gate::ENFORCING).exists() && config.mode == control::Mode::Enforce;
    // The exempt accounts of one that leaves enforce were taken unseen.
    let was_judged = last_good.mode == control::Mode::Enforce;
    if !enforced || (was_judged && !takes_away(&last_good.accounts, &config.accounts)) {
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
