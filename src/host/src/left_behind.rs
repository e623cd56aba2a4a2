//! Every process that belongs to some login, and ending those that are picked out.
//!
//! What is picked is stopped first, look after look until nobody new is found, and only then killed: so nothing can
//! fork itself out. Listeners of root's sshds and connections that go on are never picked, nor anything below them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use rustix::process::Signal;

use super::processes::{self, Handle as _, PidFd, ProcDir, Process, ProcessError, ProcessId, climb, snapshot};

/// How often processes are looked through again for those that were forked meanwhile.
const MAX_ROUNDS: usize = 16;

/// A process that a login, or an account's own service manager, has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: ProcessId,
    /// Real user id.
    pub uid: u32,
    /// The audit login uid.
    pub login_uid: Option<u32>,
    /// The audit session.
    pub audit: Option<u32>,
    /// The program file.
    pub exe: Option<PathBuf>,
    /// The path of its control group; empty where it is not known.
    pub cgroup: String,
}

/// Every process that has a login uid or is in an account's service manager, but for `spared` and what is below them,
/// and for this very process.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn survey(spared: &HashSet<ProcessId>) -> Result<Vec<Found>, ProcessError> {
    let all = snapshot()?;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let pids = all.keys().copied().filter(|pid| *pid != 1 && *pid != own);
    let ours = pids.filter(|pid| is_of_a_login(*pid)).collect::<Vec<_>>();
    Ok(ours.into_iter().filter(|pid| !is_spared(*pid, &all, spared)).filter_map(found).collect())
}

/// Most processes are of no login: those are told by one or two small files each.
fn is_of_a_login(pid: i32) -> bool {
    let Some(dir) = ProcDir::open_living(pid) else { return false };
    let manager = |text: &[u8]| text.windows(6).any(|part| part == b"/user@");
    dir.number("loginuid").is_some() || dir.read("cgroup").is_some_and(|text| manager(&text))
}

fn is_spared(pid: i32, all: &HashMap<i32, (ProcessId, i32)>, spared: &HashSet<ProcessId>) -> bool {
    let line = all.get(&pid).map(|(id, _)| *id).into_iter().chain(climb(all, pid));
    line.into_iter().any(|id| spared.contains(&id))
}

fn found(pid: i32) -> Option<Found> {
    let Process { id, uid, login_uid, audit_session, exe, cgroup, .. } = Process::read(pid)?;
    let cgroup = cgroup.map(|cgroup| cgroup.path).unwrap_or_default();
    Some(Found { id, uid, login_uid, audit: audit_session, exe, cgroup })
}

/// Ends every process that is picked; those that it killed.
///
/// # Errors
/// When the kernel refuses a handle or a signal; what was stopped until then is killed all the same.
pub fn end(spared: &HashSet<ProcessId>, picked: impl Fn(&Found) -> bool) -> Result<Vec<Found>, ProcessError> {
    let mut stopped: HashMap<ProcessId, (PidFd, Found)> = HashMap::new();
    let done = stop_all(spared, &picked, &mut stopped);
    let mut killed = Vec::new();
    let mut failed = None;
    for (handle, found) in stopped.into_values() {
        match handle.signal(Signal::KILL) {
            Ok(true) => killed.push(found),
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    }
    match (done, failed) {
        (Err(error), _) | (Ok(()), Some(error)) => Err(error),
        (Ok(()), None) => Ok(killed),
    }
}

fn stop_all(
    spared: &HashSet<ProcessId>,
    picked: &impl Fn(&Found) -> bool,
    stopped: &mut HashMap<ProcessId, (PidFd, Found)>,
) -> Result<(), ProcessError> {
    for _ in 0..MAX_ROUNDS {
        let new = survey(spared)?.into_iter().filter(|found| !stopped.contains_key(&found.id) && picked(found));
        let new: Vec<Found> = new.collect();
        if new.is_empty() {
            break;
        }
        for found in new {
            let Some(handle) = found.id.open()? else { continue };
            handle.signal(Signal::STOP)?;
            stopped.insert(found.id, (handle, found));
        }
    }
    Ok(())
}

/// The audit session that a connection alone has; nothing where it has its listener's, or none (`UsePAM no`).
#[must_use]
pub fn own_audit_session(monitor: ProcessId) -> Option<u32> {
    let process = Process::read(monitor.pid).filter(|process| process.id == monitor)?;
    let parents = processes::identity(process.ppid).and_then(processes::audit_session);
    process.audit_session.filter(|own| parents != Some(*own))
}

/// Those of these audit sessions that any process still has.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn still_in_use(audits: &BTreeSet<u32>) -> Result<BTreeSet<u32>, ProcessError> {
    if audits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let all = snapshot()?;
    let of = |id: &ProcessId| processes::audit_session(*id);
    Ok(all.values().filter_map(|(id, _)| of(id)).filter(|audit| audits.contains(audit)).collect())
}
