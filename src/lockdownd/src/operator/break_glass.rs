//! `lockdownctl break-glass test`: whether each exempt account could log in now, without logging in.

use std::collections::BTreeSet;

use control::{Answer, BreakGlassAnswer, BreakGlassView};
use lockdown_core::{
    machine::Token,
    policy::{time::Now, ways_in::PENALTY_EXEMPT},
};
use lockdown_host::{penalties::penalties, readiness};
use record::Account;

use super::shut_out;
use crate::driver::{
    Driver,
    jobs::{Brought, Kind},
};

impl Driver {
    /// Looks at everything anew, beside the main thread.
    pub(super) fn try_break_glass(&mut self, token: Token, now: Now) {
        let exempt: Vec<Account> = self.core.exempt().iter().cloned().collect();
        let enforces = self.core.enforces();
        let refused = self.core.config_state.refused.clone();
        let knocks = self.knocks.clone();
        self.begin_job(Kind::Rescue, Some(token), now, move || {
            let mut accounts = Vec::new();
            let mut problems = Vec::new();
            match readiness::rescue(&exempt, enforces) {
                Ok(found) => {
                    let unread: BTreeSet<String> = found.iter().filter_map(readiness::Rescue::unread).collect();
                    problems.extend(unread);
                    accounts.extend(found.into_iter().map(view));
                }
                Err(error) => problems.push(format!("whether an exempt account could log in cannot be told: {error}")),
            }
            problems.extend(readiness::no_way_to_sshd());
            let mut notes: Vec<String> = refused.map(|why| format!("the configuration was refused: {why}")).into_iter().collect();
            // On a host on the Internet some address always is: from all others it is in.
            let shut_out = shut_out::problems(&knocks, now.wall).into_iter();
            notes.extend(shut_out.map(|one| match one.remedy {
                Some(remedy) => format!("{}; {remedy}", one.what),
                None => one.what,
            }));
            if matches!(penalties(), Ok(Some(penalties)) if penalties.spares_nobody()) {
                notes.push(format!(
                    "logins that fail shut an address out for a while, and exempt accounts with it: {PENALTY_EXEMPT} in \
                     /etc/lockdownd/config.toml spares the one that you would come from"
                ));
            }
            Brought::Answer(Ok(Answer::BreakGlass(BreakGlassAnswer { accounts, problems, notes })))
        });
    }
}

fn view(found: readiness::Rescue) -> BreakGlassView {
    let readiness::Rescue { account, found } = found;
    match found {
        Ok(way) => BreakGlassView { account, why: None, keys: way.keys, notes: way.notes },
        Err(why) => BreakGlassView { account, why: Some(why), keys: Vec::new(), notes: Vec::new() },
    }
}
