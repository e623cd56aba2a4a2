//! The sshds that people who log in reach, and what the one that runs goes by.
//!
//! An sshd goes by what it has read, and `sshd -T` tells what is on the disk. What each was asked while both were the same is
//! remembered, so that it is known once they are not.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use crate::{
    child::{self, Bounds},
    listening,
    processes::ProcessId,
    sshd::{
        drop_in,
        effective::{Effective, Spec, effective},
        listener::{self, Invocation, Listener},
        probe::Probe,
        scan::{self, Disk, Overlay, Scan},
        units,
    },
    ways_in,
};

/// How often, and after which pause, it is looked again whether anybody listens: an sshd that is started anew does not for a
/// moment.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// Tells what systemd is about to start.
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(3), output: 64 << 10 };
/// How many answers of running sshds are remembered: some 8 KiB each.
const MAX_REMEMBERED: usize = 256;

/// What running sshds go by.
static LOADED: Mutex<BTreeMap<ProcessId, HashMap<Spec, Effective>>> = Mutex::new(BTreeMap::new());

/// Every sshd that is reached over the network.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) sshds: Vec<Reached>,
    /// What restricts who reaches them, a sentence each.
    pub(super) notes: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) listener: Listener,
    /// Its configuration without our drop-in: that is about key files alone, and about exempt accounts' it only repeats it.
    probe: Probe,
    pub(super) scan: Scan,
    /// A port at which it listens.
    port: u16,
    /// What of its configuration changed since it read that.
    unread: Option<String>,
    /// What it was asked.
    asked: RefCell<HashMap<Spec, Effective>>,
}

/// What an sshd has for a login.
#[derive(Debug)]
pub(super) struct Answers {
    /// By what is on the disk.
    pub(super) on_disk: Effective,
    /// By what it has read, where it has not read that, and it is known.
    pub(super) running: Option<Effective>,
    /// What it has not read, where what it goes by is not known.
    pub(super) unknown: Option<String>,
}

impl Reach {
    /// Remembers what was asked.
    pub(super) fn remember(&self) {
        self.sshds.iter().for_each(Reached::remember);
    }

    /// Looks who is reached now. Waits for up to two seconds where nobody is.
    ///
    /// # Errors
    /// Nobody is, or that cannot be told.
    pub(super) fn now() -> Result<Self, String> {
        let mut found = reached()?;
        for _ in 1..LOOKS {
            if !found.is_empty() {
                break;
            }
            sleep(PAUSE);
            found = reached()?;
        }
        let mut notes = Vec::new();
        if found.is_empty() {
            if !is_being_started() {
                return Err("no sshd listens for connections from the network: systemctl start ssh".to_owned());
            }
            notes.push("sshd is only being started: whether it listens was not seen".to_owned());
            found.extend(on_demand().map(|listener| (listener, Vec::new())));
        }
        let at: Vec<SocketAddr> = found.iter().flat_map(|(_, at)| at.iter().copied()).collect();
        notes.extend(narrow(&at));
        let sshds = found.into_iter().map(|(listener, at)| Reached::of(listener, &at)).collect::<Result<_, _>>()?;
        Ok(Self { sshds, notes })
    }
}

/// What it means where sshd listens, unless it does so at every address.
fn narrow(at: &[SocketAddr]) -> Option<String> {
    if at.is_empty() || at.iter().any(|at| at.ip().is_unspecified()) {
        return None;
    }
    let told: Vec<String> = at.iter().map(SocketAddr::to_string).collect();
    let only = match at.iter().all(|at| at.ip().is_loopback()) {
        true => ", which nobody reaches but through a program on this host",
        false => "",
    };
    Some(format!("sshd listens at {} alone{only}", told.join(", ")))
}

fn reached() -> Result<Vec<(Listener, Vec<SocketAddr>)>, String> {
    let listeners = listener::sshd_listeners().map_err(|error| format!("which sshds run cannot be told: {error}"))?;
    let of_root = listeners.into_iter().filter(|listener| listener.uid == 0);
    let with_sockets = of_root.map(|listener| {
        let at = match listener.process {
            Some(process) => network(process.pid),
            None => held_by_systemd(&listener.invocation),
        };
        (listener, at)
    });
    Ok(with_sockets.filter(|(_, at)| !at.is_empty()).collect())
}

/// Where a process listens for connections from the network.
fn network(pid: i32) -> Vec<SocketAddr> {
    listening::addresses(pid).iter().filter_map(|at| at.parse().ok()).collect()
}

/// Where systemd listens for an sshd that it starts when somebody connects: at the ports of its socket units, or of sshd's own
/// configuration, from which Debian's generator makes one.
fn held_by_systemd(sshd: &Invocation) -> Vec<SocketAddr> {
    let is_this = |unit: &units::OnDemand| {
        unit.sshd.as_ref().is_some_and(|(invocation, _)| invocation.config_file == sshd.config_file)
    };
    let units = units::on_demand().into_iter().filter(is_this).flat_map(|unit| unit.listens);
    let settings = effective(sshd, &Spec::of_anybody()).ok();
    let own = settings.iter().flat_map(|settings| settings.all("port")).map(str::to_owned);
    let port = |text: String| text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let ports: Vec<u16> = units.chain(own).filter_map(port).collect();
    network(1).into_iter().filter(|at| ports.contains(&at.port())).collect()
}

/// Whether systemd is about to start an sshd, as at boot.
fn is_being_started() -> bool {
    let jobs = child::run(child::command(Path::new(SYSTEMCTL), ["list-jobs", "--no-legend", "--plain"]), BOUNDS);
    let Ok(Some(jobs)) = jobs else { return false };
    let text = String::from_utf8_lossy(&jobs.stdout);
    text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|unit| unit.starts_with("ssh")) && words.get(2).is_some_and(|what| *what != "stop")
    })
}

fn on_demand() -> Option<Listener> {
    let there = Path::new(listener::DEFAULT_BINARY).exists();
    let invocation = Invocation::standard();
    there.then_some(Listener { process: None, uid: 0, invocation, certain: true, elsewhere: false })
}

impl Reached {
    fn of(listener: Listener, at: &[SocketAddr]) -> Result<Self, String> {
        let ports: Vec<u16> = at.iter().map(SocketAddr::port).collect();
        let port = if ports.is_empty() || ports.contains(&22) { 22 } else { ports[0] };
        let probe = Probe::without_drop_in(&listener.invocation).map_err(|error| error.to_string())?;
        let overlay = Overlay { base: Disk, path: drop_in::PATH.into(), content: None };
        let scan = scan::scan(&overlay, &listener.invocation.config_file);
        let unread = ways_in::unread(&listener).map(|unread| unread.path);
        Ok(Self { listener, probe, scan, port, unread, asked: RefCell::default() })
    }

    /// A login to where it listens.
    pub(super) fn at(&self, spec: Spec) -> Spec {
        let usual = Spec::of(&spec.user).lport;
        Spec { lport: if spec.lport == usual { self.port } else { spec.lport }, ..spec }
    }

    /// What it has for a login.
    ///
    /// # Errors
    /// What sshd says where it cannot be asked.
    pub(super) fn answers(&self, spec: &Spec) -> Result<Answers, String> {
        let on_disk = self.probe.effective(spec).map_err(|error| error.to_string())?;
        let Some(process) = self.listener.process else { return Ok(Answers { on_disk, running: None, unknown: None }) };
        match &self.unread {
            None => {
                self.asked.borrow_mut().insert(spec.clone(), on_disk.clone());
                Ok(Answers { on_disk, running: None, unknown: None })
            }
            Some(path) => {
                let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
                let running = loaded.get(&process).and_then(|known| known.get(spec)).cloned();
                let unknown = running.is_none().then(|| path.clone());
                Ok(Answers { on_disk, running, unknown })
            }
        }
    }

    /// Remembers what it was asked as what the running sshd goes by, unless its configuration has changed meanwhile.
    fn remember(&self) {
        let Some(process) = self.listener.process.filter(|_| self.unread.is_none()) else { return };
        if ways_in::unread(&self.listener).is_some() {
            return;
        }
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.asked.take();
        if loaded.values().map(HashMap::len).sum::<usize>() + asked.len() > MAX_REMEMBERED {
            loaded.clear();
        }
        loaded.entry(process).or_default().extend(asked);
    }

    /// What of its configuration it has not read.
    pub(super) fn unread(&self) -> &str {
        self.unread.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_sshd_listens_is_told_where_that_is_not_everywhere() {
        let told = |at: &[&str]| narrow(&at.iter().map(|at| at.parse().expect("an address")).collect::<Vec<_>>());
        assert_eq!((told(&["0.0.0.0:22", "[::1]:22"]), told(&[])), (None, None));
        assert_eq!(told(&["10.0.0.5:22"]).as_deref(), Some("sshd listens at 10.0.0.5:22 alone"));
        assert!(told(&["127.0.0.1:22", "[::1]:22"]).is_some_and(|told| told.contains("a program on this host")));
    }
}
