//! Looks at what stands in the way of enforce, and changes sshd's drop-in, in a job, because both run sshd.

use std::collections::BTreeMap;

use lockdown_core::{
    machine::{
        self, Event,
        checks::{Check, Step},
        mode::Obstacle,
    },
    policy::time::Now,
};

use lockdown_host::{
    readiness::{self, ReadinessInput, RescueWatch, When},
    sshd::{
        drop_in,
        listener::{self, Listener},
    },
    ways_in,
};
use record::{Account, ArtifactType, Draft};
use tokio::sync::mpsc::Sender;

use super::{Driver, admission::not_honoured, state::mark_enforce};
use crate::trigger::{Place, Reason};

/// What a job brings.
#[derive(Debug)]
pub struct Checked {
    seen: machine::checks::Checked,
    /// Tells of changes from before the look on.
    rescue: Option<RescueWatch>,
}

impl Driver {
    /// The work of such a job.
    pub(super) fn check(&self, check: Check) -> impl FnOnce() -> Reason + Send + use<> {
        let reasons = self.reasons.clone();
        move || Reason::Checked(Box::new(carry_out(&check, reasons)))
    }

    /// It is back.
    pub(super) fn checked(&mut self, looked: Checked, now: Now) {
        let Checked { mut seen, rescue } = looked;
        seen.passed = self.rescue.as_ref().map(RescueWatch::take).unwrap_or_default();
        if rescue.is_some() {
            self.rescue = rescue;
        }
        self.step(Event::Checked(Box::new(seen)), now);
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
}

/// Carries it out. Watches from before the look on, so that no change falls between the two.
fn carry_out(check: &Check, reasons: Sender<Reason>) -> Checked {
    let watch = || {
        RescueWatch::start(&check.exempt, move || {
            // Nobody receives once the daemon stops.
            let _ = reasons.blocking_send(Reason::Touched(Place::Rescue));
        })
    };
    let rescue = if check.step == Step::TakeOut { None } else { watch() };
    let (put, obstacles) = change(check);
    let mut not_honoured = not_honoured(&check.granted);
    not_honoured.extend(readiness::confined(&check.exempt));
    let whole = |account: &Account| readiness::exempt_keys(account).filter(|(_, whole)| *whole).map(|(keys, _)| keys);
    let keys = check.exempt.iter().filter_map(|account| Some((account.clone(), whole(account)?)));
    let exempt_keys = keys.collect();
    let is_watched = rescue.is_some();
    let obstacles = obstacles.iter().map(as_told).collect();
    let seen =
        machine::checks::Checked { put, obstacles, not_honoured, exempt_keys, passed: BTreeMap::new(), is_watched };
    Checked { seen, rescue }
}

fn as_told(obstacle: &readiness::Obstacle) -> Obstacle {
    Obstacle {
        identity: identity(&obstacle.identity()),
        told: obstacle.to_string(),
        keeps_all_out: obstacle.keeps_all_out(),
    }
}

/// The same text as long as the same thing is in the way: files that sshd is tried with have another name each time.
fn identity(text: &str) -> String {
    const PROBES: &str = "/run/lockdownd/probe/";
    match text.split_once(PROBES) {
        Some((before, after)) => {
            let name = |character: char| character.is_ascii_alphanumeric() || character == '.';
            format!("{before}{PROBES}{}", after.trim_start_matches(name))
        }
        None => text.to_owned(),
    }
}

fn change(check: &Check) -> (Result<(), String>, Vec<readiness::Obstacle>) {
    let listeners = listener::sshd_listeners().unwrap_or_else(|error| {
        tracing::error!(%error, "running sshds cannot be found");
        Vec::new()
    });
    let ask = |when, listeners: &[Listener]| {
        let Check { exempt, penalty_exempt, no_exempt, .. } = check;
        readiness::check(&ReadinessInput { exempt, penalty_exempt, no_exempt: *no_exempt, listeners, when })
    };
    match check.step {
        Step::LookBefore => (Ok(()), ask(When::Before, &listeners)),
        Step::LookInForce => (Ok(()), ask(When::InForce, &listeners)),
        Step::Put | Step::PutIn => {
            // The gate is told first: nobody gets in by a key in their home, and then past it.
            let marked = if check.step == Step::PutIn { mark_enforce(&check.marker) } else { Ok(()) };
            let put = marked.and_then(|()| put_drop_in(check, &listeners));
            // sshd may have been started anew by that.
            let listeners = listener::sshd_listeners().unwrap_or(listeners);
            (put, ask(When::InForce, &listeners))
        }
        Step::TakeOut => (drop_in::remove(&listeners).map(drop).map_err(|error| error.to_string()), Vec::new()),
    }
}

/// Writes sshd's drop-in and has every sshd read it.
fn put_drop_in(check: &Check, listeners: &[Listener]) -> Result<(), String> {
    let done = drop_in::install(&check.exempt, &check.penalty_exempt, listeners).map_err(|error| error.to_string())?;
    let reloads = match done.changed {
        true => done.reloads,
        false => drop_in::catch_up(listeners, ways_in::missed_drop_in).map_err(|error| error.to_string())?,
    };
    match reloads.iter().find(|reload| !reload.well) {
        Some(reload) => Err(format!("{} did not come back after it read its configuration again", reload.listener)),
        None => Ok(()),
    }
}
