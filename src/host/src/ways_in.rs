//! Everything by which an SSH login could succeed on this host, for `policy::ways_in` to judge.
//!
//! The servers are surveyed by a child process, `/usr/lib/lockdownd/ways-in`, which may do little and is killed once it takes
//! too long. What it prints are facts. One that ends otherwise than well, or prints anything else, is a look that failed:
//! nothing follows from it. What an exempt account's key files hold is read here, as it is for the obstacles.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    time::Duration,
};

use lockdown_core::policy::ways_in::{self as policy, CLOSING, Observed, SurveyOrder, Surveyed};
use record::Account;

use super::{
    accounts::Accounts,
    child::{self, Bounds},
    processes::{CgroupPath, Process},
    readiness,
    sshd::{
        drop_in::{self, DropInError},
        listener::{self, Invocation, Listener},
        probe::Probe,
        scan::{self, Disk},
        units,
    },
};

mod close;
mod loaded;

pub use close::{CloseError, Closed, close, current, proposal, undo};
pub use lockdown_core::policy::ways_in::Question;

/// As whom the survey works: nothing is theirs, and nobody else is them.
pub const ACCOUNT: &str = "_lockdownd-ways-in";
/// What surveys the servers.
const SURVEYOR: &str = "/usr/lib/lockdownd/ways-in";
/// How long it may take: half a minute for all questions to sshd, and what programs that others run take to be read. The most
/// bytes that it may print: some 4 KiB for each kind of login that root's sshds are asked about; users add little.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(45), output: 16 << 20 };
/// How much of its complaint is passed on, in characters.
const MAX_COMPLAINT: usize = 600;

/// Which configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// The one in force.
    InForce,
    /// The same as if the closing drop-in were not there.
    Unclosed,
}

/// The ways in could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The child could not be started, or not be read.
    #[error("{SURVEYOR}: {0}")]
    Run(#[from] io::Error),
    /// It took too long, or printed too much, and was killed.
    #[error("{SURVEYOR} took longer than {:?} or printed more than {} bytes, and was killed", BOUNDS.time, BOUNDS.output)]
    Endless,
    /// It did not end well.
    #[error("{SURVEYOR} failed ({status}): {complaint}")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said about it.
        complaint: String,
    },
    /// It printed what is no survey.
    #[error("{SURVEYOR} printed what is no survey: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// What stands for a configuration without the closing drop-in could not be written.
    #[error(transparent)]
    StandIn(#[from] DropInError),
}

/// Whether a listener has not read the daemon's drop-in since that last changed, though it could have.
#[must_use]
pub fn missed_drop_in(listener: &Listener) -> bool {
    loaded::missed(listener, Path::new(drop_in::PATH))
}

/// Whether a process belongs to a survey that this daemon runs: its account's, and in the daemon's own control group, where nobody
/// but root can put one. An sshd that is asked for its configuration is no user's own server.
#[must_use]
pub fn is_the_surveys(process: &Process) -> bool {
    let own = || i32::try_from(std::process::id()).ok().and_then(Process::read).and_then(|own| own.cgroup);
    let uid = || ACCOUNT.parse().ok().and_then(|name| Some(Accounts::read().ok()?.by_name(&name)?.uid));
    let is_beside_us = |own: &CgroupPath| own.path != "/" && process.cgroup.as_ref() == Some(own);
    own().as_ref().is_some_and(is_beside_us) && uid() == Some(process.uid)
}

/// What changed since this listener has read its configuration.
#[must_use]
pub fn unread(listener: &Listener) -> Option<policy::Unread> {
    loaded::since(listener)
}

/// Everything there is. Takes as long as the child may: never on the main thread.
///
/// # Errors
/// When the servers could not be surveyed. Then nothing is known of them.
pub fn observe(question: &Question, what: As) -> Result<Observed, LookError> {
    let stand_ins = if what == As::Unclosed { stand_ins()? } else { BTreeMap::new() };
    let order = SurveyOrder {
        exempt: question.exempt.clone(),
        unclosed: what == As::Unclosed,
        stand_ins: stand_ins.iter().map(|(config, probe)| (config.into(), probe.config().into())).collect(),
    };
    let servers = survey(&order)?;
    let exempt = question.exempt.iter().map(exempt_account).collect();
    let Question { enforces, root_is_wanted, .. } = *question;
    Ok(Observed { enforces, root_is_wanted, servers, exempt, missing_in_log: None })
}

fn survey(order: &SurveyOrder) -> Result<Surveyed, LookError> {
    let no_arguments: [&str; 0] = [];
    let mut command = child::command(Path::new(SURVEYOR), no_arguments);
    command.stdin(child::input(&serde_json::to_vec(order)?)?).process_group(0);
    let output = child::run_group(command, BOUNDS)?.ok_or(LookError::Endless)?;
    if !output.status.success() {
        let complaint = record::escape(String::from_utf8_lossy(&output.stderr).trim().as_bytes());
        let complaint = complaint.chars().take(MAX_COMPLAINT).collect();
        return Err(LookError::Failed { status: output.status, complaint });
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What stands for each configuration that the closing drop-in is part of, without it, while it is asked about.
fn stand_ins() -> Result<BTreeMap<PathBuf, Probe>, DropInError> {
    let running = listener::sshd_listeners()?.into_iter().filter(|listener| listener.uid == 0 && listener.certain);
    let on_demand = units::on_demand().into_iter().filter_map(|unit| unit.sshd.filter(|(_, certain)| *certain));
    let sshds = running.map(|listener| listener.invocation).chain(on_demand.map(|(invocation, _)| invocation));
    let mut found: BTreeMap<PathBuf, Probe> = BTreeMap::new();
    for sshd in sshds {
        let Invocation { config_file, .. } = &sshd;
        let has_closing = || scan::scan(&Disk, config_file).files.contains(Path::new(CLOSING));
        if !found.contains_key(config_file) && has_closing() {
            let probe = Probe::of_file(&sshd, Path::new(CLOSING), None)?;
            found.insert(config_file.clone(), probe);
        }
    }
    Ok(found)
}

/// An exempt account with the keys that sshd reads for it.
fn exempt_account(exempt: &Account) -> policy::ExemptAccount {
    let (keys, _) = readiness::exempt_keys(exempt).unwrap_or_default();
    let keys = keys.into_iter().map(|(path, keys)| (path, keys.into_iter().collect())).collect();
    policy::ExemptAccount { account: exempt.to_string(), keys }
}
