//! Ends one SSH connection: sshd's monitor process, its unprivileged child, and everything that runs for it.
//!
//! Must never touch anybody else's connection, a listener, a control group that is not a login session's own scope,
//! or a process that merely has a pid that one of ours had. Never sleeps: it signals and returns; what is still dying
//! is asked for with [`ProcessId::is_alive`].

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use lockdown_core::sessions::{Ended, How};
use rustix::process::Signal;

use super::processes::{
    CgroupPath, Handle as _, PidFd, Process, ProcessError, ProcessId, audit_session, climb, identity, snapshot,
};

/// Where the unified hierarchy is mounted: alone, or beside those of v1.
pub(super) const UNIFIED_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where systemd's own v1 hierarchy is mounted.
const LEGACY_ROOTS: [&str; 1] = ["/sys/fs/cgroup/systemd"];
/// How often a scope or a tree is looked through again for processes that were forked meanwhile.
const MAX_ROUNDS: usize = 16;
/// How deep a session's scope may be divided. logind does not divide it at all.
const MAX_CGROUP_DEPTH: usize = 8;

/// A connection could not be ended, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// A process could not be read, held or signalled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Processes of the connection kept appearing.
    #[error("connection of process {pid}: still forking after {MAX_ROUNDS} rounds")]
    StillForking {
        /// sshd's monitor of the connection.
        pid: i32,
    },
    /// The same, where the session's scope had to be emptied process by process.
    #[error("{dir}: still forking after {MAX_ROUNDS} rounds")]
    StillForkingInScope {
        /// The scope's control group.
        dir: PathBuf,
    },
}

/// Who must live on.
#[derive(Debug, Clone, Default)]
pub struct Spared {
    /// Listeners of root's sshds ([`super::sshd::listener::Listener::process`]).
    pub listeners: HashSet<ProcessId>,
    /// The monitors of other connections.
    pub monitors: HashSet<ProcessId>,
}

impl Spared {
    fn all(&self, except: ProcessId) -> HashSet<ProcessId> {
        self.listeners.union(&self.monitors).copied().filter(|id| *id != except).collect()
    }
}

/// Ends the connection whose privileged sshd process is `monitor`, with `SIGKILL`: nothing in it is asked, so nothing
/// can stay. (So sshd does not close its PAM session either; logind sees the end of its leader by itself.)
///
/// Where logind has made a `session-*.scope` with the monitor in it and nobody of `spared`, all of the scope ends,
/// processes that have left the process tree included. Elsewhere (`UsePAM no`, no `pam_systemd`) it is the tree below
/// the monitor and whatever has the monitor's own audit session. Takes a few milliseconds.
///
/// # Errors
/// When the kernel refuses a handle or a signal, or the processes fork faster than they are stopped; what could be
/// killed has been killed then.
pub fn end(monitor: ProcessId, spared: &Spared) -> Result<Ended, EndError> {
    let Some(handle) = monitor.open()? else { return Ok(Ended { how: How::AlreadyGone, killed: 0 }) };
    let Some(process) = Process::read(monitor.pid).filter(|process| process.id == monitor) else {
        return Ok(Ended { how: How::AlreadyGone, killed: 0 });
    };
    let others = spared.all(monitor);
    // Looked at while it is whole: systemd takes an empty scope away within milliseconds.
    let scope = process.cgroup.as_ref().and_then(session_scope).filter(|scope| !scope.holds_any(&others));
    let audit = own_audit_session(&process, spared);
    let mut killed = HashSet::new();
    // What the kernel ends in one go is not stopped one by one: somebody may have thousands of processes there.
    let left = scope.as_ref().filter(|scope| scope.has_switch()).map_or(Left::none(), Left::to);
    let in_one_go = left.pids.len();
    // The scope ends before anything around it is looked at. Without an audit session of its own what has left the scope
    // is known by its ancestors alone, and those must still be there.
    let first = audit.and(scope.as_ref()).filter(|_| left.scope.is_some()).map(|scope| scope.kill(&mut killed));
    if first.is_some() {
        handle.signal(Signal::KILL)?;
    }
    let tree = Tree { monitor, spared: &others, audit, left }.kill(&mut killed);
    let scope = first.unwrap_or_else(|| scope.as_ref().map_or(Ok(How::Tree), |scope| scope.kill(&mut killed)));
    // Both are tried whatever becomes of the other, and the monitor ends in any case.
    handle.signal(Signal::KILL)?;
    let how = scope?;
    match (tree, how) {
        // Whoever forked faster than the tree was stopped was in the scope.
        (Err(EndError::StillForking { .. }), How::Scope | How::ScopeMembers) | (Ok(()), _) => {}
        (Err(error), _) => return Err(error),
    }
    Ok(Ended { how, killed: killed.len() + in_one_go })
}

/// The audit session that this login alone has. Without `pam_loginuid` a connection has its listener's, and that of an
/// administrator who started the listener by hand is theirs: so the two must differ, and the listener be there to tell.
fn own_audit_session(monitor: &Process, spared: &Spared) -> Option<u32> {
    let parent = identity(monitor.ppid).filter(|parent| spared.listeners.contains(parent))?;
    monitor.audit_session.filter(|own| audit_session(parent) != Some(*own))
}

/// The monitor, all that is below it or in its audit session, and nobody who is, or is below, one of `spared`.
struct Tree<'a> {
    monitor: ProcessId,
    spared: &'a HashSet<ProcessId>,
    audit: Option<u32>,
    left: Left<'a>,
}

impl Tree<'_> {
    /// Kills everybody in it who is not left to the scope.
    fn kill(mut self, killed: &mut HashSet<ProcessId>) -> Result<(), EndError> {
        let mut stopped: HashMap<ProcessId, PidFd> = HashMap::new();
        let mut all_stopped = false;
        // A process that has a signal waiting cannot fork: once a look finds nobody new, nobody new can come.
        for _ in 0..MAX_ROUNDS {
            let new = self.members_but(&stopped)?;
            all_stopped = new.is_empty();
            if all_stopped {
                break;
            }
            for id in new {
                if let Some(handle) = id.open()? {
                    handle.signal(Signal::STOP)?;
                    stopped.insert(id, handle);
                }
            }
        }
        for (id, handle) in &stopped {
            if handle.signal(Signal::KILL)? {
                killed.insert(*id);
            }
        }
        match all_stopped || self.members_but(&stopped)?.is_empty() {
            true => Ok(()),
            false => Err(EndError::StillForking { pid: self.monitor.pid }),
        }
    }

    fn members_but(&mut self, stopped: &HashMap<ProcessId, PidFd>) -> Result<Vec<ProcessId>, EndError> {
        let all = snapshot()?;
        let others = all.values().map(|(id, _)| *id).filter(|id| !stopped.contains_key(id) && !self.left.knows(*id));
        let ours = others.filter(|id| belongs(*id, &all, self.monitor, self.spared, self.audit));
        Ok(ours.collect::<Vec<_>>().into_iter().filter(|id| !self.left.takes(*id)).collect())
    }
}

/// Whose end is left to a scope that ends all of its processes in one go.
struct Left<'a> {
    scope: Option<&'a Scope>,
    pids: HashSet<i32>,
}

impl<'a> Left<'a> {
    fn none() -> Self {
        Self { scope: None, pids: HashSet::new() }
    }

    fn to(scope: &'a Scope) -> Self {
        Self { scope: Some(scope), pids: scope.pids().unwrap_or_default().into_iter().collect() }
    }

    fn knows(&self, id: ProcessId) -> bool {
        self.pids.contains(&id.pid)
    }

    /// Whether the scope has this process, which may have been forked since it was looked through.
    fn takes(&mut self, id: ProcessId) -> bool {
        let within = |scope: &Scope| Process::read(id.pid).is_some_and(|now| now.id == id && scope.is_around(&now));
        self.scope.is_some_and(within) && self.pids.insert(id.pid)
    }
}

/// Whether a process is the connection's: the nearest of its ancestors that is anybody's decides.
fn belongs(
    id: ProcessId,
    all: &HashMap<i32, (ProcessId, i32)>,
    monitor: ProcessId,
    spared: &HashSet<ProcessId>,
    audit: Option<u32>,
) -> bool {
    let line = std::iter::once(id).chain(climb(all, id.pid));
    match line.into_iter().find(|above| *above == monitor || spared.contains(above)) {
        Some(nearest) => nearest == monitor,
        None => audit.is_some() && audit_session(id) == audit,
    }
}

/// A login session's own control group.
struct Scope {
    dir: PathBuf,
    cgroup: CgroupPath,
}

/// The scope of a login session; `None` for any other control group, that of `ssh.service` included.
fn session_scope(cgroup: &CgroupPath) -> Option<Scope> {
    if is_session_scope(&cgroup.path) { scope_at(cgroup) } else { None }
}

fn scope_at(cgroup: &CgroupPath) -> Option<Scope> {
    let roots: &[&str] = if cgroup.unified { &UNIFIED_ROOTS } else { &LEGACY_ROOTS };
    let mut dirs = roots.iter().map(|root| Path::new(root).join(cgroup.path.trim_start_matches('/')));
    dirs.find(|dir| dir.join("cgroup.procs").exists()).map(|dir| Scope { dir, cgroup: cgroup.clone() })
}

/// Every process in the login session's own scope that `process` is in, itself included; none when it is in no such scope.
/// Only root can move a process into another's.
#[must_use]
pub fn scope_members(process: &Process) -> Vec<ProcessId> {
    let scope = process.cgroup.as_ref().and_then(session_scope);
    scope.and_then(|scope| scope.members()).unwrap_or_default()
}

/// Every other process in our own control group; none where we are in none of our own.
#[must_use]
pub fn beside_us() -> Vec<ProcessId> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let cgroup = Process::read(own).and_then(|process| process.cgroup).filter(|cgroup| cgroup.path != "/");
    let members = cgroup.as_ref().and_then(scope_at).and_then(|scope| scope.members()).unwrap_or_default();
    members.into_iter().filter(|id| id.pid != own).collect()
}

/// Whether a control group is a login session's own.
#[must_use]
pub fn is_session_scope(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let id = parts.next().and_then(|name| name.strip_prefix("session-")?.strip_suffix(".scope"));
    let slice = parts.next().unwrap_or_default();
    let is_id = id.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    is_id && slice.starts_with("user-") && slice.ends_with(".slice") && !path.contains("/../")
}

impl Scope {
    /// Whether one of these is in the scope; also when that cannot be told.
    fn holds_any(&self, spared: &HashSet<ProcessId>) -> bool {
        let Some(pids) = self.pids() else { return true };
        let pids: HashSet<i32> = pids.into_iter().collect();
        spared.iter().any(|id| pids.contains(&id.pid) && identity(id.pid) == Some(*id))
    }

    /// Whether the kernel can end all of it in one go.
    fn has_switch(&self) -> bool {
        self.switch().is_ok()
    }

    /// Fails on v1, before Linux 5.14, and where the control groups are mounted read-only for us.
    fn switch(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).open(self.dir.join("cgroup.kill"))
    }

    fn kill(&self, killed: &mut HashSet<ProcessId>) -> Result<How, EndError> {
        if self.switch().and_then(|mut file| file.write_all(b"1")).is_ok() {
            return Ok(How::Scope);
        }
        if !self.dir.exists() {
            // Its processes ended with the tree, and systemd was quicker.
            return Ok(How::Scope);
        }
        let mut seen = HashSet::new();
        for _ in 0..MAX_ROUNDS {
            let new: Vec<_> = self.members().unwrap_or_default().into_iter().filter(|id| seen.insert(*id)).collect();
            if new.is_empty() {
                return Ok(How::ScopeMembers);
            }
            for id in new {
                let Some(handle) = id.open()? else { continue };
                // Asked again with the handle in hand: the pid in the list may have passed to a stranger.
                let inside = Process::read(id.pid).is_some_and(|now| now.id == id && self.is_around(&now));
                if inside && handle.signal(Signal::KILL)? {
                    killed.insert(id);
                }
            }
        }
        Err(EndError::StillForkingInScope { dir: self.dir.clone() })
    }

    fn is_around(&self, process: &Process) -> bool {
        process.cgroup.as_ref().is_some_and(|cgroup| {
            let below = cgroup.path.strip_prefix(&self.cgroup.path);
            cgroup.unified == self.cgroup.unified && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Who is in it and below it; `None` when that cannot be told.
    fn members(&self) -> Option<Vec<ProcessId>> {
        Some(self.pids()?.into_iter().filter_map(identity).collect())
    }

    /// The same by pid alone, which is quick.
    fn pids(&self) -> Option<Vec<i32>> {
        let mut found = Vec::new();
        collect_pids(&self.dir, MAX_CGROUP_DEPTH, &mut found).ok()?;
        Some(found)
    }
}

fn collect_pids(dir: &Path, depth: usize, found: &mut Vec<i32>) -> io::Result<()> {
    let pids = fs::read_to_string(dir.join("cgroup.procs"))?;
    found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let Some(depth) = depth.checked_sub(1) else { return Err(rustix::io::Errno::LOOP.into()) };
            collect_pids(&entry.path(), depth, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::descendants;

    #[test]
    fn only_a_login_sessions_own_scope_is_one() {
        for path in ["/user.slice/user-1000.slice/session-3.scope", "/user.slice/user-0.slice/session-c12.scope"] {
            assert!(is_session_scope(path), "{path}");
        }
        for path in [
            "/system.slice/ssh.service",
            "/user.slice/user-1000.slice",
            "/user.slice/user-1000.slice/user@1000.service/session.slice",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/session-3.scope",
            "/user.slice/user-1000.slice/session-.scope",
            "/user.slice/user-1000.slice/session-3.scope/below",
            "/system.slice/session-3.scope",
            "/../../user.slice/user-1000.slice/session-3.scope",
            "/",
            "",
        ] {
            assert!(!is_session_scope(path), "{path}");
        }
    }

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start_time: 1000 + u64::from(pid.unsigned_abs()) }
    }

    #[test]
    fn the_nearest_ancestor_decides_whose_a_process_is() {
        // 10 listener; 20 our monitor with 21, 22; 30 another's monitor with 31; below ours a listener 23 with 24.
        let parents = [(1, 0), (10, 1), (20, 10), (21, 20), (22, 21), (30, 10), (31, 30), (23, 22), (24, 23), (40, 1)];
        let all: HashMap<_, _> = parents.into_iter().map(|(pid, ppid)| (pid, (id(pid), ppid))).collect();
        let spared = HashSet::from([id(10), id(30), id(23)]);
        let ours: Vec<_> =
            parents.iter().map(|(pid, _)| *pid).filter(|pid| belongs(id(*pid), &all, id(20), &spared, None)).collect();
        assert_eq!(ours, [20, 21, 22]);
    }

    #[test]
    fn a_whole_tree_ends_and_its_neighbour_lives() {
        let start = |script: &str| std::process::Command::new("sh").arg("-c").arg(script).spawn().expect("a shell");
        let mut ours = start("(sleep 61 & sleep 62) & sleep 63; true");
        let mut other = start("sleep 64; true");
        let pid = |child: &std::process::Child| i32::try_from(child.id()).expect("a pid");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let below = descendants(pid(&ours)).expect("a tree");
        assert!(below.len() >= 3, "{below:?}");
        let monitor = identity(pid(&ours)).expect("running");
        let ended = end(monitor, &Spared::default()).expect("an end");
        assert!(ended.killed > below.len(), "{ended:?}");
        ours.wait().expect("reaped");
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(below.iter().all(|id| !id.is_alive()));
        assert!(identity(pid(&other)).expect("running").is_alive());
        assert_eq!(end(monitor, &Spared::default()).expect("gone").how, How::AlreadyGone);
        let other_monitor = identity(pid(&other)).expect("running");
        assert_eq!(end(other_monitor, &Spared::default()).expect("an end").how, How::Tree);
        other.wait().expect("reaped");
    }
}
