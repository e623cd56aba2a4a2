use std::{fs, path::Path, sync::mpsc::channel};

use lockdown_host::writers::Writers;

use super::*;
use crate::driver::homes::{HomeSpec, KeyFilePath, lanes::Keeper};

/// More than the kernel queues for one inotify instance.
fn more_than_the_queue_holds() -> u64 {
    let bound = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    bound.trim().parse::<u64>().unwrap() + 10
}

fn spec(name: &str) -> HomeSpec {
    let home = Path::new("/home").join(name);
    let key_files = vec![KeyFilePath::file(home.join(".ssh/authorized_keys"))];
    HomeSpec { account: AccountName::parse(name.as_bytes()), uid: 0, home, key_files }
}

fn worker(machine: &Path, mounts: &Path, intake: Intake, jobs: std::sync::mpsc::Sender<Job>) -> Worker {
    worker_for(Reach::Local, machine, mounts, intake, jobs)
}

fn worker_for(
    reach: Reach,
    machine: &Path,
    mounts: &Path,
    intake: Intake,
    jobs: std::sync::mpsc::Sender<Job>,
) -> Worker {
    let watch = HomeWatch::open(Writers::nobody()).unwrap();
    Worker::new(
        Root::open(machine).unwrap(),
        watch,
        intake,
        Mounts::open(mounts).unwrap(),
        Outbox::new(jobs, Arc::default()),
        Post::new(reach, Keeper::new().unwrap()).unwrap(),
    )
}

#[test]
fn after_the_queue_has_overflowed_everything_is_looked_at_again() {
    let machine = tempfile::tempdir().unwrap();
    for name in ["flooder", "frank"] {
        fs::create_dir_all(machine.path().join("home").join(name).join(".ssh")).unwrap();
    }
    let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
    let (jobs, told) = channel();
    let mut worker = worker(machine.path(), "/dev/null".as_ref(), intake, jobs);
    let homes = vec![spec("flooder"), spec("frank")];
    worker.take_territory(Territory { mode: Mode::Enforce, homes, shared: Vec::new() });
    worker.work_round();
    assert_eq!(worker.watch.watched(), 4);
    for count in 0..more_than_the_queue_holds() {
        let path = machine.path().join(format!("home/flooder/{count}"));
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
    }
    let keys = machine.path().join("home/frank/.ssh/authorized_keys");
    fs::write(&keys, "a line that is no comment").unwrap();
    while worker.routine.is_empty() {
        worker.hear();
    }
    assert!(matches!(told.try_recv(), Ok(Job::Tell(Finding::Overflow { times: 1 }))));
    worker.work_round();
    assert!(!keys.exists());
}

#[test]
fn a_smaller_territory_leaves_no_watch_behind() {
    let machine = tempfile::tempdir().unwrap();
    for name in ["anna", "bob", "carl"] {
        fs::create_dir_all(machine.path().join("home").join(name).join(".ssh")).unwrap();
    }
    let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
    let (jobs, _told) = channel();
    let mut worker = worker(machine.path(), "/dev/null".as_ref(), intake, jobs);
    for (names, watched) in [(&["anna", "bob", "carl"][..], 6), (&["carl"], 2), (&["bob", "anna"], 4), (&[], 0)] {
        let homes = names.iter().map(|name| spec(name)).collect();
        worker.take_territory(Territory { mode: Mode::Enforce, homes, shared: Vec::new() });
        worker.work_round();
        assert_eq!(worker.watch.watched(), watched, "{names:?}");
    }
}

#[test]
fn watches_do_not_pile_up_when_a_directory_is_replaced_again_and_again() {
    let machine = tempfile::tempdir().unwrap();
    let ssh = machine.path().join("home/frank/.ssh");
    fs::create_dir_all(&ssh).unwrap();
    let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
    let (jobs, _told) = channel();
    let mut worker = worker(machine.path(), "/dev/null".as_ref(), intake, jobs);
    let homes = vec![spec("frank"), spec("missing"), spec("missing2")];
    worker.take_territory(Territory { mode: Mode::Enforce, homes, shared: Vec::new() });
    worker.work_round();
    for count in 0..50 {
        fs::rename(&ssh, machine.path().join(format!("home/frank/old{count}"))).unwrap();
        fs::create_dir(&ssh).unwrap();
        worker.hear();
        worker.work_round();
    }
    assert_eq!(worker.watch.watched(), 3, "home, .ssh, and /home for those that are missing");
}

#[test]
fn who_writes_now_overtakes_those_who_wait_for_a_routine_look() {
    let machine = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..3 * ROUTINE_PER_ROUND).map(|number| format!("u{number}")).collect();
    for name in &names {
        fs::create_dir_all(machine.path().join("home").join(name).join(".ssh")).unwrap();
    }
    let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
    let (jobs, _told) = channel();
    let mut worker = worker(machine.path(), "/dev/null".as_ref(), intake, jobs);
    let homes = names.iter().map(|name| spec(name)).collect();
    worker.take_territory(Territory { mode: Mode::Enforce, homes, shared: Vec::new() });
    while !worker.routine.is_empty() {
        worker.work_round();
    }
    worker.need_everything();
    let keys = machine.path().join("home").join(names.last().unwrap()).join(".ssh/authorized_keys");
    fs::write(&keys, "a line that is no comment").unwrap();
    worker.hear();
    worker.work_round();
    assert!(!keys.exists());
    while !worker.routine.is_empty() {
        worker.work_round();
    }
    assert!(worker.wards.iter().all(|ward| ward.need.is_none() && !ward.is_urgent));
}

#[test]
fn a_home_is_not_mounted_by_a_sweep_and_a_shared_one_is_named_before_anything_is_removed_there() {
    let machine = tempfile::tempdir().unwrap();
    let (keys, table) = (machine.path().join("home/frank/.ssh/authorized_keys"), machine.path().join("mountinfo"));
    fs::create_dir_all(keys.parent().unwrap()).unwrap();
    fs::write(&keys, "a line that is no comment").unwrap();
    let automount = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 21 0:40 / /home rw - autofs auto.home rw\n";
    fs::write(&table, automount).unwrap();
    let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
    let (jobs, told) = channel();
    let mut worker = worker_for(Reach::Remote, machine.path(), &table, intake, jobs);
    // By a link, too.
    std::os::unix::fs::symlink("/home/grace", machine.path().join("grace")).unwrap();
    let linked = HomeSpec {
        home: "/grace".into(),
        key_files: vec![KeyFilePath::file("/grace/.ssh/authorized_keys".into())],
        ..spec("grace")
    };
    worker.take_territory(Territory { mode: Mode::Enforce, homes: vec![spec("frank"), linked], shared: Vec::new() });
    worker.is_to_sweep = true;
    worker.work_round();
    let report = worker.post.take_swept().unwrap();
    assert_eq!((report.not_mounted, report.files, worker.watch.watched()), (2, 0, 0), "nothing was touched");
    // Somebody goes there: what was mounted is looked at, and named.
    fs::write(&table, format!("{automount}41 40 0:41 /frank /home/frank rw - nfs4 files:/frank rw\n")).unwrap();
    worker.mounts_told = MountsTold::default();
    worker.mounts_told.changed(Instant::now());
    worker.look_at_mounts();
    assert!(!worker.urgent.is_empty(), "whom it concerns is looked at");
    for _ in 0..3 {
        worker.need_everything();
        worker.work_round();
    }
    let named: Vec<Job> = told.try_iter().collect();
    assert!(keys.exists() && named.len() == 1, "it is named once");
    assert!(matches!(&named[0], Job::Tell(Finding::Failed { error, .. }) if error.contains("/home/frank (nfs4)")));
    worker.is_to_sweep = true;
    worker.work_round();
    assert!(keys.exists(), "the table of mounts was read just now, and has to be read again first");
    std::thread::sleep(std::time::Duration::from_secs(1));
    worker.look_at_mounts();
    worker.work_round();
    assert!(!keys.exists(), "the next sweep removes it");
    assert_eq!(worker.post.take_swept().unwrap().not_mounted, 1, "hers is asleep");
}

#[test]
fn a_home_on_a_remote_file_system_is_left_to_the_lane_for_those_and_no_step_is_taken_towards_it() {
    let machine = tempfile::tempdir().unwrap();
    let names = ["frank", "grace", "heidi"];
    let keys = names.map(|name| machine.path().join("home").join(name).join(".ssh/authorized_keys"));
    for keys in &keys {
        fs::create_dir_all(keys.parent().unwrap()).unwrap();
        fs::write(keys, "planted").unwrap();
    }
    let table = machine.path().join("mountinfo");
    let root = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let remote = "40 21 0:40 / /home/frank rw - fuse.any x rw\n41 21 0:41 / /home/heidi/.ssh rw - fuse.any x rw\n";
    fs::write(&table, format!("{root}{remote}")).unwrap();
    let homes: Vec<HomeSpec> = names.map(spec).into();
    let theirs = |whom: &[&str]| whom.iter().map(|name| Some(AccountName::parse(name.as_bytes()))).collect();
    for (reach, gone, beyond) in [
        (Reach::Local, [false, true, false], theirs(&["frank", "heidi"])),
        (Reach::Remote, [true, true, true], theirs(&["grace"])),
    ] {
        let intake = Intake::open(&machine.path().join("quarantine")).unwrap();
        let (jobs, _told) = channel();
        let mut worker = worker_for(reach, machine.path(), &table, intake, jobs);
        worker.take_territory(Territory { mode: Mode::Enforce, homes: homes.clone(), shared: Vec::new() });
        worker.work_round();
        assert_eq!(keys.each_ref().map(|keys| !keys.exists()), gone, "{reach:?}");
        assert_eq!(worker.post.beyond(), beyond, "{reach:?}");
    }
}
