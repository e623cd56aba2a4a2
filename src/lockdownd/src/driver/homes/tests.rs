use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Instant,
};

use control::Mode;
use lockdown_host::{
    quarantine::{Content, ItemKind, list},
    writers::Writers,
};
use tempfile::TempDir;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHMzbIKLxIz9G0FfFEIfFWxnh5nYVWWSF6WBRk4N7hJ frank\n";
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine of its own below a temporary directory.
struct Stage {
    machine: TempDir,
    names: Vec<String>,
    homes: Homes,
    findings: Receiver<Finding>,
}

impl Stage {
    fn new(names: &[&str]) -> Self {
        Self::listening(names, |_| {})
    }

    fn listening(names: &[&str], mut also: impl FnMut(&Finding) + Send + 'static) -> Self {
        let machine = tempfile::tempdir().unwrap();
        fs::create_dir_all(machine.path().join("home")).unwrap();
        let (tell, findings) = channel();
        let homes = Homes::start(Setup {
            root: machine.path().to_owned(),
            mounts: "/dev/null".into(),
            quarantine: machine.path().join("quarantine"),
            writers: Writers::nobody(),
            on_finding: Box::new(move |finding| {
                also(&finding);
                let _ = tell.send(finding);
            }),
        })
        .unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        for name in &names {
            fs::create_dir_all(machine.path().join("home").join(name).join(".ssh")).unwrap();
        }
        Self { machine, names, homes, findings }
    }

    fn enforcing(names: &[&str]) -> Self {
        let stage = Self::new(names);
        stage.give(Mode::Enforce, ".ssh/authorized_keys");
        stage.sweep();
        stage
    }

    fn at(&self, path: &str) -> PathBuf {
        self.machine.path().join(path)
    }

    fn keys_of(&self, name: &str) -> PathBuf {
        self.at(&format!("home/{name}/.ssh/authorized_keys"))
    }

    fn territory(&self, mode: Mode, pattern: &str) -> Territory {
        let spec = |name: &String| HomeSpec {
            account: AccountName::parse(name.as_bytes()),
            uid: nix::unistd::geteuid().as_raw(),
            home: PathBuf::from("/home").join(name),
            key_files: vec![
                KeyFilePath::pattern(PathBuf::from("/home").join(name).join(pattern)),
                KeyFilePath::file(PathBuf::from("/home").join(name).join(".ssh/authorized_keys2")),
                KeyFilePath::file(PathBuf::from("/etc/ssh/keys").join(name)),
            ],
        };
        Territory {
            mode,
            homes: self.names.iter().map(spec).collect(),
            shared: vec![KeyFilePath::file("/etc/ssh/everybody".into())],
        }
    }

    fn give(&self, mode: Mode, pattern: &str) {
        let territory = self.territory(mode, pattern);
        self.homes.send(Command::Territory(Plot::new(move || territory.clone())));
    }

    /// Sweeps, and gives what was told until it was done.
    fn sweep(&self) -> (SweepReport, Vec<Finding>) {
        self.homes.send(Command::Sweep { id: 7 });
        let mut before = Vec::new();
        loop {
            match self.findings.recv_timeout(PATIENCE).unwrap() {
                Finding::Swept(report) => return (report, before),
                finding => before.push(finding),
            }
        }
    }

    fn next_removed(&self) -> Removed {
        loop {
            match self.findings.recv_timeout(PATIENCE) {
                Ok(Finding::Removed(removed)) => return *removed,
                Ok(_) => {}
                Err(error) => panic!("nothing was removed: {error}"),
            }
        }
    }

    fn goes(&self, path: &Path) {
        let start = Instant::now();
        while fs::symlink_metadata(path).is_ok() {
            assert!(start.elapsed() < PATIENCE, "{} still stands", path.display());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing is told for a while.
    fn stays_quiet(&self) {
        match self.findings.recv_timeout(Duration::from_millis(200)) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("told {other:?}"),
        }
    }
}

#[test]
fn a_key_that_is_written_goes_at_once_and_is_told_with_its_fingerprint() {
    let stage = Stage::enforcing(&["frank"]);
    fs::write(stage.keys_of("frank"), KEY).unwrap();
    let removed = stage.next_removed();
    stage.goes(&stage.keys_of("frank"));
    assert_eq!(removed.whose, Some(AccountName::parse(b"frank")));
    assert_eq!(removed.path, Path::new("/home/frank/.ssh/authorized_keys"));
    assert_eq!(removed.why, Some(WhyRemoved::HoldsKeys));
    assert_eq!((removed.item.fingerprints.len(), removed.item.content), (1, Content::Kept));
    assert_eq!(removed.not_settled, None);
    assert_eq!(fs::read(stage.at("quarantine").join(removed.item.id.as_str())).unwrap(), KEY.as_bytes());
    assert_eq!(fs::read_dir(stage.at("quarantine/incoming")).unwrap().count(), 0);
}

#[test]
fn a_file_of_comments_stays_and_wakes_nobody_for_ever() {
    let stage = Stage::enforcing(&["frank"]);
    fs::write(stage.keys_of("frank"), "# none\n\n").unwrap();
    stage.stays_quiet();
    assert!(stage.keys_of("frank").exists());
    let (report, before) = stage.sweep();
    assert_eq!((report.id, report.accounts, report.files, report.removed), (7, 1, 1, 0));
    assert_eq!(before, []);
}

#[test]
fn keys_go_wherever_sshd_could_read_them_however_they_come() {
    let stage = Stage::enforcing(&["frank"]);
    type Way = (&'static str, fn(&Path));
    let ways: &[Way] = &[
        ("home/frank/.ssh/authorized_keys2", |path| fs::write(path, KEY).unwrap()),
        ("home/frank/.ssh/authorized_keys", |path| {
            fs::write(path.with_extension("new"), KEY).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("home/frank/.ssh/authorized_keys", |path| {
            fs::write(path.with_extension("other"), KEY).unwrap();
            fs::hard_link(path.with_extension("other"), path).unwrap();
        }),
        ("home/frank/.ssh/authorized_keys", |path| {
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, KEY).unwrap();
        }),
        ("home/frank/.ssh/authorized_keys", |path| {
            let home = path.parent().unwrap().parent().unwrap();
            fs::create_dir(home.join("made")).unwrap();
            fs::write(home.join("made/authorized_keys"), KEY).unwrap();
            fs::rename(home.join(".ssh"), home.join("old")).unwrap();
            fs::rename(home.join("made"), home.join(".ssh")).unwrap();
        }),
        ("home/frank/.ssh/authorized_keys", |path| {
            let home = path.parent().unwrap().parent().unwrap();
            fs::rename(home, home.with_extension("moved")).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, KEY).unwrap();
        }),
        ("etc/ssh/keys/frank", |path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, KEY).unwrap();
        }),
        ("etc/ssh/everybody", |path| fs::write(path, KEY).unwrap()),
    ];
    for (round, (path, put)) in ways.iter().enumerate() {
        put(&stage.at(path));
        let removed = stage.next_removed();
        assert_eq!(removed.path, Path::new("/").join(path), "round {round}");
        stage.goes(&stage.at(path));
        assert!(removed.item.fingerprints.len() == 1 || removed.item.times > 1);
    }
}

#[test]
fn a_home_that_is_made_later_is_watched() {
    let stage = Stage::new(&["frank"]);
    fs::remove_dir_all(stage.at("home")).unwrap();
    stage.give(Mode::Enforce, ".ssh/authorized_keys");
    stage.sweep();
    fs::create_dir_all(stage.at("home/frank/.ssh")).unwrap();
    fs::write(stage.keys_of("frank"), KEY).unwrap();
    stage.goes(&stage.keys_of("frank"));
}

#[test]
fn a_link_goes_itself_and_what_it_leads_to_is_untouched() {
    let stage = Stage::enforcing(&["frank"]);
    fs::write(stage.at("victim"), KEY).unwrap();
    fs::create_dir(stage.at("elsewhere")).unwrap();
    fs::write(stage.at("elsewhere/authorized_keys"), KEY).unwrap();
    symlink(stage.at("victim"), stage.keys_of("frank")).unwrap();
    let removed = stage.next_removed();
    assert_eq!(removed.item.kind, ItemKind::Symlink { target: stage.at("victim").to_str().unwrap().to_owned() });
    assert_eq!(removed.path, Path::new("/home/frank/.ssh/authorized_keys"));
    let ssh = stage.at("home/frank/.ssh");
    for target in [stage.at("elsewhere"), ssh.clone(), "/etc/shadow".into()] {
        let _ = fs::remove_dir(&ssh);
        symlink(&target, &ssh).unwrap();
        let removed = stage.next_removed();
        assert_eq!((removed.path.as_path(), removed.why), (Path::new("/home/frank/.ssh"), Some(WhyRemoved::IsLink)));
        stage.goes(&ssh);
    }
    assert_eq!(fs::read(stage.at("victim")).unwrap(), KEY.as_bytes());
    assert_eq!(fs::read(stage.at("elsewhere/authorized_keys")).unwrap(), KEY.as_bytes());
}

#[test]
fn what_sshd_never_reads_is_left_alone_and_counted() {
    let stage = Stage::enforcing(&["anna", "bob", "carl"]);
    fs::create_dir(stage.keys_of("anna")).unwrap();
    nix::unistd::mkfifo(&stage.keys_of("bob"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(stage.keys_of("carl")).unwrap();
    let (report, before) = stage.sweep();
    assert_eq!((report.inert, report.removed, report.failed), (3, 0, 0));
    assert_eq!(before, []);
    assert!(stage.keys_of("anna").is_dir());
}

#[test]
fn odd_and_huge_files_go_without_being_read_whole() {
    let stage = Stage::enforcing(&["frank"]);
    let huge = fs::File::create(stage.at("huge")).unwrap();
    huge.set_len(1 << 30).unwrap();
    fs::rename(stage.at("huge"), stage.keys_of("frank")).unwrap();
    let removed = stage.next_removed();
    assert_eq!((removed.why, removed.item.content), (Some(WhyRemoved::TooLong), Content::Truncated));
    assert_eq!(removed.item.size, 1 << 30);
    for odd in [&b"\xff\xfe\0\0"[..], b"\0", b"junk", b"# ok\n\rssh-ed25519"] {
        fs::write(stage.keys_of("frank"), odd).unwrap();
        stage.goes(&stage.keys_of("frank"));
    }
}

#[test]
fn observe_tells_each_state_once_and_touches_nothing() {
    let stage = Stage::new(&["frank"]);
    stage.give(Mode::Observe, ".ssh/authorized_keys");
    stage.sweep();
    fs::write(stage.keys_of("frank"), KEY).unwrap();
    let Finding::WouldRemove { standing, .. } = stage.findings.recv_timeout(PATIENCE).unwrap() else { panic!() };
    assert_eq!((standing.why, standing.fingerprints.len()), (WhyRemoved::HoldsKeys, 1));
    let (report, _) = stage.sweep();
    assert_eq!((report.standing, report.keys, report.removed), (1, 1, 0));
    let (_, before) = stage.sweep();
    assert_eq!(before, []);
    let root = Root::open(stage.machine.path()).unwrap();
    let planned = plan(
        &root,
        &Mounts::open(Path::new("/dev/null")).unwrap(),
        &stage.territory(Mode::Observe, ".ssh/authorized_keys"),
    );
    assert_eq!(planned, [standing]);
    assert!(stage.keys_of("frank").exists());
    stage.give(Mode::Enforce, ".ssh/authorized_keys");
    stage.goes(&stage.keys_of("frank"));
}

#[test]
fn every_file_that_a_pattern_matches_is_kept_free_of_keys() {
    let stage = Stage::new(&["frank"]);
    stage.give(Mode::Enforce, ".ssh/*_keys/k[0-9]?");
    stage.sweep();
    for name in ["a_keys/k1x", "b_keys/k22"] {
        let path = stage.at("home/frank/.ssh").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, KEY).unwrap();
        stage.goes(&path);
    }
    let other = stage.at("home/frank/.ssh/a_keys/kxx");
    fs::write(&other, KEY).unwrap();
    symlink(stage.at("home/frank"), stage.at("home/frank/.ssh/c_keys")).unwrap();
    stage.goes(&stage.at("home/frank/.ssh/c_keys"));
    assert!(other.exists());
}

#[test]
fn an_immutable_directory_is_told_once_and_counted() {
    let stage = Stage::enforcing(&["frank"]);
    let ssh = stage.at("home/frank/.ssh");
    let chattr = |flag: &str| std::process::Command::new("chattr").arg(flag).arg(&ssh).status().unwrap().success();
    fs::write(stage.keys_of("frank"), "# nothing yet\n").unwrap();
    assert!(chattr("+i"), "this test needs root and a file system with attributes");
    fs::write(stage.keys_of("frank"), KEY).unwrap();
    let told = stage.findings.recv_timeout(PATIENCE);
    let (report, before) = stage.sweep();
    assert!(chattr("-i"));
    let Finding::Failed { path, times: 1, .. } = told.unwrap() else { panic!() };
    assert_eq!(path, Path::new("/home/frank/.ssh/authorized_keys"));
    assert_eq!((report.failed, report.removed, before.len()), (1, 0, 0));
    assert_eq!(stage.sweep().0.removed, 1);
    assert!(!stage.keys_of("frank").exists());
}

#[test]
fn one_owners_flood_does_not_delay_the_others() {
    let stage = Stage::enforcing(&["flooder", "frank"]);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = thread::spawn({
        let (stop, ssh) = (Arc::clone(&stop), stage.at("home/flooder/.ssh"));
        move || {
            let mut written = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::write(ssh.join("new"), format!("{KEY}# {written}\n"));
                let _ = fs::rename(ssh.join("new"), ssh.join("authorized_keys"));
                written += 1;
            }
            written
        }
    });
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let start = Instant::now();
        fs::write(stage.keys_of("frank"), KEY).unwrap();
        stage.goes(&stage.keys_of("frank"));
        slowest = slowest.max(start.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let written = flood.join().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?} while {written} files came");
    stage.sweep();
    let kept = list(&stage.at("quarantine")).unwrap();
    let of = |name: &str| kept.iter().filter(|item| item.account == name).count();
    assert!(of("flooder") <= lockdown_host::quarantine::MAX_ITEMS_PER_ACCOUNT, "{} of {written}", of("flooder"));
    assert_eq!(of("frank"), 1, "the same bytes are kept once");
    assert!(!stage.at("home/flooder/.ssh/authorized_keys").exists());
}

#[test]
fn an_owner_who_swaps_links_files_and_directories_reaches_nothing_outside() {
    let stage = Stage::enforcing(&["mallory"]);
    let victim = stage.at("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("authorized_keys"), KEY).unwrap();
    let before = fs::symlink_metadata(victim.join("authorized_keys")).unwrap();
    let end = Instant::now() + Duration::from_millis(1500);
    let ssh = stage.at("home/mallory/.ssh");
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < end {
                let _ = fs::remove_dir_all(&ssh);
                let _ = symlink(&victim, &ssh);
                let _ = fs::remove_file(&ssh);
                let _ = fs::create_dir(&ssh);
                let _ = fs::write(ssh.join("authorized_keys"), KEY);
            }
        });
        scope.spawn(|| {
            let keys = ssh.join("authorized_keys");
            while Instant::now() < end {
                let _ = symlink(victim.join("authorized_keys"), &keys);
                let _ = fs::create_dir(&keys);
                let _ = fs::remove_dir(&keys);
                let _ = fs::hard_link(victim.join("authorized_keys"), &keys);
            }
        });
    });
    // The owners' last act, so that something is left to be found.
    let _ = fs::remove_dir_all(&ssh);
    let _ = fs::create_dir(&ssh);
    fs::write(ssh.join("authorized_keys"), KEY).unwrap();
    stage.goes(&ssh.join("authorized_keys"));
    stage.sweep();
    let after = fs::symlink_metadata(victim.join("authorized_keys")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.ino(), before.uid(), before.mode()), (after.ino(), after.uid(), after.mode()));
    assert_eq!(fs::read(victim.join("authorized_keys")).unwrap(), KEY.as_bytes());
    assert!(stage.homes.is_alive());
}

#[test]
fn a_listener_that_stands_still_stops_no_removal_and_costs_no_count() {
    let gate = Arc::new((std::sync::Mutex::new(true), std::sync::Condvar::new()));
    let closed = Arc::clone(&gate);
    let stage = Stage::listening(&["frank"], move |finding| {
        if matches!(finding, Finding::Removed(_)) {
            let (shut, bell) = &*closed;
            drop(bell.wait_while(shut.lock().unwrap(), |shut| *shut).unwrap());
        }
    });
    stage.give(Mode::Enforce, ".ssh/authorized_keys");
    stage.sweep();
    for round in 0..100 {
        fs::write(stage.at("new"), format!("{KEY}# {round}\n")).unwrap();
        fs::rename(stage.at("new"), stage.keys_of("frank")).unwrap();
        stage.goes(&stage.keys_of("frank"));
    }
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    let (_, told) = stage.sweep();
    let count = |finding: &Finding| match finding {
        Finding::Removed(_) => 1,
        Finding::RemovedUnkept { times, fingerprints, .. } => {
            assert_eq!(fingerprints.len(), 1);
            *times
        }
        _ => 0,
    };
    assert_eq!(told.iter().map(count).sum::<u64>(), 100);
    assert!(told.len() <= MAX_UNSETTLED_PER_ACCOUNT + 2);
}

#[test]
fn what_a_crash_left_in_incoming_is_settled_and_told_at_the_next_start() {
    let machine = tempfile::tempdir().unwrap();
    let incoming = machine.path().join("quarantine/incoming");
    fs::create_dir_all(&incoming).unwrap();
    fs::write(incoming.join("q-0123456789abcdef,frank,%2fhome%2ffrank%2f.ssh%2fauthorized_keys"), KEY).unwrap();
    let (tell, findings) = channel();
    let _homes = Homes::start(Setup {
        root: machine.path().to_owned(),
        mounts: "/dev/null".into(),
        quarantine: machine.path().join("quarantine"),
        writers: Writers::nobody(),
        on_finding: Box::new(move |finding| drop(tell.send(finding))),
    })
    .unwrap();
    let Finding::Removed(removed) = findings.recv_timeout(PATIENCE).unwrap() else { panic!() };
    assert_eq!((removed.whose, removed.why), (Some(AccountName::parse(b"frank")), None));
    assert_eq!(removed.path, Path::new("/home/frank/.ssh/authorized_keys"));
    assert_eq!((removed.item.id.as_str(), removed.item.content), ("q-0123456789abcdef", Content::Kept));
    assert_eq!(fs::read_dir(&incoming).unwrap().count(), 0);
}

#[test]
fn homes_whose_listener_never_returns_hold_up_no_end() {
    let (keep, hang) = channel::<()>();
    let stage = Stage::listening(&["frank"], move |_| hang.recv().unwrap_or_default());
    stage.give(Mode::Enforce, ".ssh/authorized_keys");
    stage.homes.send(Command::Sweep { id: 7 });
    let began = std::time::Instant::now();
    drop(stage);
    assert!(began.elapsed() < PATIENCE);
    drop(keep);
}

#[test]
fn observe_tells_a_listener_that_stands_still_of_a_flood_once_with_its_exact_count() {
    let gate = Arc::new((std::sync::Mutex::new(true), std::sync::Condvar::new()));
    let closed = Arc::clone(&gate);
    let stage = Stage::listening(&["frank", "grace"], move |finding| {
        if matches!(finding, Finding::WouldRemove { .. }) {
            let (shut, bell) = &*closed;
            drop(bell.wait_while(shut.lock().unwrap(), |shut| *shut).unwrap());
        }
    });
    stage.give(Mode::Observe, ".ssh/keys/*");
    stage.sweep();
    fs::create_dir(stage.at("home/frank/.ssh/keys")).unwrap();
    fs::create_dir(stage.at("home/grace/.ssh/keys")).unwrap();
    // One holds the listener up; then many names, each changed often.
    fs::write(stage.at("home/grace/.ssh/keys/first"), KEY).unwrap();
    for round in 0..20 {
        for name in 0..2 * MAX_STANDING_PER_ACCOUNT {
            fs::write(stage.at("new"), format!("{KEY}# {round}\n")).unwrap();
            fs::rename(stage.at("new"), stage.at(&format!("home/frank/.ssh/keys/{name}"))).unwrap();
        }
    }
    *gate.0.lock().unwrap() = false;
    gate.1.notify_all();
    let (report, told) = stage.sweep();
    assert_eq!(report.standing, 2 * MAX_STANDING_PER_ACCOUNT as u64 + 1);
    let changes = |finding: &Finding| match finding {
        Finding::WouldRemove { times, .. } => *times,
        _ => 0,
    };
    assert!(told.len() <= 4 * MAX_STANDING_PER_ACCOUNT, "{} of 2,560 changes", told.len());
    // Its twenty changes, the look at a new directory, and the sweep's.
    let most = told.iter().map(changes).max();
    assert!(most <= Some(22), "{most:?}");
    // Whoever had no room is told by the sweep.
    let (_, more) = stage.sweep();
    let whom: std::collections::BTreeSet<PathBuf> = told
        .iter()
        .chain(&more)
        .filter_map(|finding| match finding {
            Finding::WouldRemove { standing, .. } => Some(standing.path.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(whom.len(), 2 * MAX_STANDING_PER_ACCOUNT + 1);
}

#[test]
fn orders_that_nobody_takes_are_one_of_a_kind() {
    let orders = Orders::default();
    for id in 0..10_000 {
        orders.give(Command::Sweep { id });
        orders.give(Command::Territory(Plot::new(|| Territory {
            mode: Mode::Observe,
            homes: Vec::new(),
            shared: Vec::new(),
        })));
    }
    let waiting = orders.take();
    assert!(waiting.territory.is_some() && waiting.sweeps.len() == MAX_SWEEPS && !waiting.stop);
    assert!(orders.take().sweeps.is_empty());
}
