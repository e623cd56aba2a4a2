//! Looks at everything by which an SSH login could succeed on this host, for `policy::ways_in` to judge.
//!
//! Every sshd is asked for its effective configuration, never guessed at; nobody is connected to. What could not be looked
//! at is told as unseen, so that it counts as open. Runs programs and reads `/proc`: never on the main thread.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use lockdown_core::policy::ways_in::{self as policy, CLOSING, Login, Observed, RunBy, Settings, Sshd};
use record::Account;

use super::{
    listening,
    pam::{self, Step},
    readiness::{self, probes},
    sshd::{
        blocks::{self, Values},
        drop_in::{self, DropInError},
        effective::{Effective, Spec, effective},
        listener::{self, Invocation, Listener},
        probe::Probe,
        scan::{self, Disk, Scan, Setting},
        units,
    },
};

mod close;
mod loaded;
mod others;

pub use close::{CloseError, Closed, close, current, proposal, undo};
pub use lockdown_core::policy::ways_in::Question;

/// How long all questions to sshd together may take, at some 10 ms each; what is not asked by then is told as unseen.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Where an administrator's drop-ins go.
const DROP_INS: &str = "/etc/ssh/sshd_config.d";

/// Which configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// The one in force.
    InForce,
    /// The same as if the closing drop-in were not there.
    Unclosed,
}

/// Whether a listener has not read the daemon's drop-in since that last changed, though it could have.
#[must_use]
pub fn missed_drop_in(listener: &Listener) -> bool {
    loaded::missed(listener, Path::new(drop_in::PATH))
}

/// What changed since this listener has read its configuration.
pub(crate) fn unread(listener: &Listener) -> Option<policy::Unread> {
    loaded::since(listener)
}

/// Everything there is.
#[must_use]
pub fn observe(question: &Question, what: As) -> Observed {
    let mut looker =
        Looker { question, what, until: Instant::now() + MAX_TIME, gates: HashMap::new(), unseen: Vec::new() };
    let listeners = listener::sshd_listeners().unwrap_or_else(|error| {
        looker.unseen.push(format!("running sshds cannot be found: {error}"));
        Vec::new()
    });
    let elsewhere = listener::elsewhere().unwrap_or_default();
    let on_demand = units::on_demand();
    let mut sshds: Vec<Sshd> =
        listeners.iter().chain(&elsewhere).map(|listener| looker.listener(listener, &on_demand)).collect();
    sshds.extend(on_demand.iter().filter_map(|unit| looker.local(unit)));
    let others = others::find(&listeners, &on_demand, &mut looker.unseen);
    let exempt = question.exempt.iter().map(exempt_account).collect();
    let (enforces, root_is_wanted, unseen) = (question.enforces, question.root_is_wanted, looker.unseen);
    Observed { enforces, root_is_wanted, sshds, others, exempt, unseen, missing_in_log: None }
}

struct Looker<'a> {
    question: &'a Question,
    what: As,
    until: Instant,
    /// Whether the gate stands, by PAM service.
    gates: HashMap<String, Result<(), String>>,
    unseen: Vec<String>,
}

impl Looker<'_> {
    fn listener(&mut self, listener: &Listener, on_demand: &[units::OnDemand]) -> Sshd {
        let by_unit = |unit: &&units::OnDemand| {
            unit.sshd.as_ref().is_some_and(|(sshd, _)| sshd.config_file == listener.invocation.config_file)
        };
        let listens = match listener.process {
            Some(id) => listening::addresses(id.pid),
            None => on_demand
                .iter()
                .filter(by_unit)
                .filter(|unit| !is_local(unit))
                .flat_map(|unit| unit.listens.clone())
                .collect(),
        };
        let run_by = match (listener.uid, listener.process) {
            (0, _) | (_, None) => RunBy::Root,
            (uid, Some(id)) => RunBy::User { uid, pid: id.pid },
        };
        let unreadable = match (listener.elsewhere, listener.certain) {
            (true, _) => {
                Some("it has a root directory of its own, and what it reads is not looked at there".to_owned())
            }
            (false, false) => Some("its command line cannot be read for certain".to_owned()),
            (false, true) => None,
        };
        let found = Found { listens, run_by, local_socket: None, unreadable };
        let mut sshd = self.sshd(listener.title(), &listener.invocation, found);
        if sshd.run_by == RunBy::Root && sshd.unreadable.is_none() {
            sshd.unread_since = loaded::since(listener);
        }
        sshd
    }

    /// The sshd behind a socket that only this host's own accounts reach.
    fn local(&mut self, unit: &units::OnDemand) -> Option<Sshd> {
        let (invocation, certain) = unit.sshd.as_ref().filter(|_| is_local(unit))?;
        let unreadable = (!certain).then(|| format!("the command line in {} cannot be read for certain", unit.unit));
        let name = format!("{} ({})", invocation.binary.display(), unit.unit);
        let local_socket = Some(unit.unit.clone());
        Some(self.sshd(
            name,
            invocation,
            Found { listens: unit.listens.clone(), run_by: RunBy::Root, local_socket, unreadable },
        ))
    }

    fn sshd(&mut self, name: String, invocation: &Invocation, found: Found) -> Sshd {
        let Found { listens, run_by, local_socket, unreadable } = found;
        let config = invocation.config_file.display().to_string();
        let mut sshd = Sshd {
            name,
            config,
            listens,
            run_by,
            local_socket,
            unread_since: None,
            reads_drop_ins: false,
            has_closing: false,
            unlogged: None,
            unreadable,
            logins: Vec::new(),
        };
        if sshd.run_by == RunBy::Root && sshd.unreadable.is_none() {
            sshd.unlogged = invocation.unlogged();
            let scan = scan::scan(&Disk, &invocation.config_file);
            sshd.reads_drop_ins = scan.dirs.contains(Path::new(DROP_INS));
            sshd.has_closing = scan.files.contains(Path::new(CLOSING));
            match self.logins(invocation, &scan) {
                Ok(logins) => sshd.logins = logins,
                Err(error) => sshd.unreadable = Some(error.to_string()),
            }
        }
        sshd
    }

    /// What holds for anybody, root, each exempt account, and a login that fits each `Match` block.
    fn logins(&mut self, invocation: &Invocation, scan: &Scan) -> Result<Vec<Login>, DropInError> {
        let closes = self.what == As::Unclosed && scan.files.contains(Path::new(CLOSING));
        let probe = if closes { Some(Probe::of_file(invocation, Path::new(CLOSING), None)?) } else { None };
        let exempt: Vec<&str> = self.question.exempt.iter().map(Account::as_str).collect();
        let more = exempt.iter().copied().chain(["root"]);
        let probes::Specs { asked: specs, left_out } = probes::specs(scan, more);
        if left_out > 0 {
            self.unseen.push(format!(
                "{}: {left_out} kinds of logins that its Match blocks stand for are not looked at, past the first {}",
                invocation.config_file.display(),
                specs.len()
            ));
        }
        let (mut logins, mut shown) = (Vec::new(), Vec::new());
        for (asked, spec) in specs.iter().enumerate() {
            if Instant::now() > self.until {
                self.unseen.push(format!(
                    "{}: only {asked} of {} kinds of logins could be asked about in {MAX_TIME:?}",
                    invocation.config_file.display(),
                    specs.len()
                ));
                break;
            }
            let settings = match &probe {
                Some(probe) => probe.effective(spec)?,
                None => effective(invocation, spec)?,
            };
            logins.push(self.login(invocation, spec, &settings, &exempt));
            if !exempt.contains(&spec.user.as_str()) {
                shown.push(settings.settings().clone());
            }
        }
        self.blocks(invocation, scan, &exempt, &shown, &mut logins);
        Ok(logins)
    }

    /// What a `Match` block says that no login has shown: it counts as holding for somebody.
    fn blocks(
        &mut self,
        invocation: &Invocation,
        scan: &Scan,
        exempt: &[&str],
        shown: &[Values],
        logins: &mut Vec<Login>,
    ) {
        // The first is anybody's.
        let Some(anybody) = shown.first() else { return };
        let taken_away = |setting: &Setting| self.what == As::Unclosed && setting.place.file == Path::new(CLOSING);
        let (blocks, more) = blocks::blocks(scan, anybody, exempt, taken_away);
        if more > 0 {
            let file = invocation.config_file.display();
            self.unseen.push(format!("{file}: {more} Match blocks are not looked at, past the first {}", blocks.len()));
        }
        for block in blocks {
            if shown.iter().any(|values| blocks::agree(values, &block.values)) {
                continue;
            }
            let service = block.values.get("pamservicename").and_then(|values| values.first());
            let gate = self.gate(service.unwrap_or(&invocation.service_name));
            let whom = format!("whomever {} ({}) is about", block.line, block.place);
            let settings = Settings::new(block.values);
            logins.push(Login { whom, root: block.root, exempt: false, settings, gate });
        }
    }

    fn login(&mut self, invocation: &Invocation, spec: &Spec, effective: &Effective, exempt: &[&str]) -> Login {
        let gate = self.gate(effective.get("pamservicename").unwrap_or(&invocation.service_name));
        let settings = Settings::new(effective.settings().clone());
        let exempt = exempt.contains(&spec.user.as_str());
        Login { whom: probes::describe(spec), root: spec.user == "root", exempt, settings, gate }
    }

    /// Whether the gate stands in the stack of a PAM service.
    fn gate(&mut self, service: &str) -> Result<(), String> {
        let stands = || {
            [Step::Account, Step::Session]
                .iter()
                .try_for_each(|step| pam::gate_stands_for(service, *step).map_err(|why| why.to_string()))
        };
        self.gates.entry(service.to_owned()).or_insert_with(stands).clone()
    }
}

/// What is known of an sshd before it is asked.
struct Found {
    listens: Vec<String>,
    run_by: RunBy,
    local_socket: Option<String>,
    unreadable: Option<String>,
}

/// Whether a unit listens on sockets of this host alone.
fn is_local(unit: &units::OnDemand) -> bool {
    !unit.listens.is_empty() && unit.listens.iter().all(|at| at.starts_with(['/', '@']) || at.starts_with("vsock:"))
}

/// An exempt account with the keys that sshd reads for it.
fn exempt_account(exempt: &Account) -> policy::ExemptAccount {
    let (keys, _) = readiness::exempt_keys(exempt).unwrap_or_default();
    let keys = keys.into_iter().map(|(path, keys)| (path, keys.into_iter().collect())).collect();
    policy::ExemptAccount { account: exempt.to_string(), keys }
}
