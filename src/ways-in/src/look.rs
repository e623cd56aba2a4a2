//! Looks at every sshd that runs or would be started: what its configuration comes to, for whom.
//!
//! Every sshd is asked for its effective configuration, never guessed at. What could not be looked at is told as unseen, so
//! that it counts as open.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use lockdown_core::policy::ways_in::{CLOSING, Login, RunBy, Settings, Sshd, SurveyOrder, Surveyed};
use lockdown_host::{
    pam::{self, Step},
    readiness::probes,
    sshd::{
        blocks::{self, Values},
        effective::{Effective, Spec, effective},
        listener::{Invocation, Listener},
        probe::Probe,
        scan::{self, Disk, Scan, Setting},
        units::OnDemand,
    },
    ways_in,
};
use record::Account;

use crate::processes::Running;

/// How long all questions to sshd together may take, at some 10 ms each; what is not asked by then is told as unseen.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Where an administrator's drop-ins go.
const DROP_INS: &str = "/etc/ssh/sshd_config.d";

/// Everything there is, of what runs and what would be started.
pub(crate) fn survey(order: &SurveyOrder, running: Running, on_demand: &[OnDemand]) -> Surveyed {
    let Running { sshds: listeners, listens, others, unseen } = running;
    let mut looker = Looker { order, until: Instant::now() + MAX_TIME, gates: HashMap::new(), unseen };
    let listens = |listener: &Listener| match listener.process {
        Some(id) => listens.get(&id).cloned().unwrap_or_default(),
        None => listens_on_demand(listener, on_demand),
    };
    let mut sshds: Vec<Sshd> = listeners.iter().map(|listener| looker.listener(listener, listens(listener))).collect();
    sshds.extend(on_demand.iter().filter_map(|unit| looker.local(unit)));
    Surveyed { sshds, others, unseen: looker.unseen, ..Surveyed::default() }
}

/// Where systemd listens for an sshd that it starts when somebody connects from the network.
fn listens_on_demand(listener: &Listener, on_demand: &[OnDemand]) -> Vec<String> {
    let starts_it = |unit: &&OnDemand| {
        unit.sshd.as_ref().is_some_and(|(sshd, _)| sshd.config_file == listener.invocation.config_file)
    };
    let units = on_demand.iter().filter(starts_it).filter(|unit| !is_local(unit));
    units.flat_map(|unit| unit.listens.clone()).collect()
}

struct Looker<'a> {
    order: &'a SurveyOrder,
    until: Instant,
    /// Whether the gate stands, by PAM service.
    gates: HashMap<String, Result<(), String>>,
    unseen: Vec<String>,
}

impl Looker<'_> {
    fn listener(&mut self, listener: &Listener, listens: Vec<String>) -> Sshd {
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
            sshd.unread_since = ways_in::unread(listener);
        }
        sshd
    }

    /// The sshd behind a socket that only this host's own accounts reach.
    fn local(&mut self, unit: &OnDemand) -> Option<Sshd> {
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
                Err(why) => sshd.unreadable = Some(why),
            }
        }
        sshd
    }

    /// What holds for anybody, root, each exempt account, and a login that fits each `Match` block.
    fn logins(&mut self, invocation: &Invocation, scan: &Scan) -> Result<Vec<Login>, String> {
        let probe = self.stand_in(invocation, scan)?;
        let exempt: Vec<&str> = self.order.exempt.iter().map(Account::as_str).collect();
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
                Some(probe) => probe.effective(spec).map_err(|error| error.to_string())?,
                None => effective(invocation, spec).map_err(|error| error.to_string())?,
            };
            logins.push(self.login(invocation, spec, &settings, &exempt));
            if !exempt.contains(&spec.user.as_str()) {
                shown.push(settings.settings().clone());
            }
        }
        self.blocks(invocation, scan, &exempt, &shown, &mut logins);
        Ok(logins)
    }

    /// Where it is asked as if the closing drop-in were not there, which is part of its configuration: what stands for that.
    fn stand_in(&self, invocation: &Invocation, scan: &Scan) -> Result<Option<Probe>, String> {
        let closing = Path::new(CLOSING);
        if !self.order.unclosed || !scan.files.contains(closing) {
            return Ok(None);
        }
        match self.order.stand_ins.get(&invocation.config_file) {
            Some(config) => Ok(Some(Probe::written_without(invocation, closing, config))),
            None => Err(format!("what it comes to without {CLOSING} was not asked: it came meanwhile")),
        }
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
        let taken_away = |setting: &Setting| self.order.unclosed && setting.place.file == Path::new(CLOSING);
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
fn is_local(unit: &OnDemand) -> bool {
    !unit.listens.is_empty() && unit.listens.iter().all(|at| at.starts_with(['/', '@']) || at.starts_with("vsock:"))
}
