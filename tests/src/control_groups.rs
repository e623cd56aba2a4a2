//! The control groups of one instance: one of its own in every hierarchy that the host has mounted. Where two shared one, the
//! end of a session in one could reach the other's.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The parent of all groups of tests.
const PARENT: &str = "lockdownd-tests";
/// What a group of the v1 `cpuset` controller has to be told before it takes a process.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// The most processes and threads of one instance. The kernel has 32,768 by default, and one of the instances that run side by
/// side may be one in which a test forks without end.
const TASKS_MAX: &str = "7000";
/// Killing a cgroup takes milliseconds, and longer while a process sits in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// The groups of one instance.
#[derive(Debug)]
pub(crate) struct ControlGroups {
    /// In cgroup v2: all of the instance's processes are below it.
    pub(crate) unified: PathBuf,
    /// In each v1 hierarchy of a hybrid host.
    pub(crate) v1: Vec<PathBuf>,
}

impl ControlGroups {
    /// Where those of the instance called `name` are, made or not.
    pub(crate) fn of(name: &str) -> Self {
        let unified = crate::host::cgroup_root().join(PARENT).join(name);
        Self { unified, v1: v1_roots().into_iter().map(|root| root.join(PARENT).join(name)).collect() }
    }

    /// Makes them.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub(crate) fn make(&self) {
        for part in ["", "clients"] {
            make(&self.unified.join(part));
        }
        // Where the v2 hierarchy has this controller, its parent has to hand it down.
        let parent = self.unified.parent().expect("below the parent of all");
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+pids");
        for group in &self.v1 {
            for made in [group.parent().expect("below the parent of all"), group] {
                make(made);
                inherit_cpuset(made);
            }
        }
        let limits: Vec<_> = self.all().map(|group| group.join("pids.max")).filter(|limit| limit.exists()).collect();
        assert!(!limits.is_empty(), "this host has no pids controller, which keeps a test from taking all processes");
        for limit in limits {
            fs::write(&limit, TASKS_MAX).unwrap_or_else(|e| panic!("{}: {e}", limit.display()));
        }
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.unified).chain(&self.v1)
    }

    /// The files that a process writes its id to in order to be in all of them.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        self.all().map(|group| group.join("cgroup.procs")).collect()
    }

    /// Removes those of the boot that is over. A kernel that counts kills per cgroup would end, as it starts, whatever is put
    /// from a cgroup that was killed into one that is new.
    pub(crate) fn forget_boot(&self) {
        for part in ["payload", "supervisor"] {
            remove(&self.unified.join(part));
        }
        self.v1.iter().for_each(|group| remove(group));
    }

    /// Kills every process of the instance, and removes the groups.
    pub(crate) fn remove(&self) {
        kill(&self.unified);
        remove(&self.unified);
        self.v1.iter().for_each(|group| remove(group));
    }
}

/// Kills every process in a cgroup of v2 and below it, and waits until they are gone.
pub(crate) fn kill(cgroup: &Path) {
    if fs::write(cgroup.join("cgroup.kill"), "1").is_err() {
        return;
    }
    let start = Instant::now();
    let events = cgroup.join("cgroup.events");
    while fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1")) && start.elapsed() < KILL_LIMIT {
        thread::sleep(POLL);
    }
}

fn make(cgroup: &Path) {
    fs::create_dir_all(cgroup).unwrap_or_else(|e| panic!("{}: {e}", cgroup.display()));
}

/// Removes the empty cgroups at and below `cgroup`.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // One that still has a process stays; whoever removes leftovers tries again.
    let _ = fs::remove_dir(cgroup);
}

fn inherit_cpuset(cgroup: &Path) {
    for file in CPUSET {
        let Ok(value) = fs::read(cgroup.join("..").join(file)) else { continue };
        fs::write(cgroup.join(file), value).unwrap_or_else(|e| panic!("{}: {file}: {e}", cgroup.display()));
    }
}

/// The group of this process in each v1 hierarchy: its own limits hold for the instances too.
fn v1_roots() -> Vec<PathBuf> {
    let [own, mounts] =
        ["/proc/self/cgroup", "/proc/self/mounts"].map(|file| fs::read_to_string(file).unwrap_or_default());
    own.lines().filter_map(|line| v1_root(line, &mounts)).collect()
}

/// For a line of `/proc/self/cgroup` such as `3:cpu,cpuacct:/a`; none for that of v2, and where nothing is mounted.
fn v1_root(line: &str, mounts: &str) -> Option<PathBuf> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let first = controllers.split(',').next().filter(|first| !first.is_empty())?;
    let at = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, at, "cgroup", options, ..] = fields.as_slice() else { return None };
        options.split(',').any(|option| option == first).then_some(*at)
    })?;
    Some(Path::new(at).join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v1_hierarchy_is_found_by_its_controllers_and_v2_is_none() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let root = |line| v1_root(line, mounts).map(|path| path.display().to_string());
        assert_eq!(root("3:cpu,cpuacct:/a/b").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!(root("1:name=systemd:/").as_deref(), Some("/sys/fs/cgroup/systemd/"));
        assert_eq!((root("0::/a"), root("9:rdma:/")), (None, None));
    }
}
