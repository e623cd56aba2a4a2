//! The store of grants on a real disk: crashes, reboots, bounds.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use lockdown_core::{
    grants::MAX_OPEN,
    policy::{
        grant::{EndCause, Grant},
        test_grants::{ended, grant, id, later, now},
    },
};

use super::*;

const BOOT: &str = "boot-1";

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir_in("/dev/shm").expect("a directory in memory") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("grants.json")
    }

    /// The file of ends in memory that outlives the daemon.
    fn meanwhile(&self) -> PathBuf {
        self.dir.path().join("run-ended")
    }

    fn try_open(&self, boot: &str, now: Now) -> Result<(Both, Woken), Error> {
        let (grants, file, woken) = super::open(&self.path(), &self.meanwhile(), boot, now)?;
        let meanwhile = EndedMeanwhile::open(&self.meanwhile()).0;
        Ok((Both { grants, meanwhile, file }, woken))
    }

    fn open(&self, boot: &str, now: Now) -> (Both, Woken) {
        self.try_open(boot, now).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The grants with their files, as the core, the main thread and the disk thread have them.
#[derive(Debug)]
struct Both {
    grants: Grants,
    meanwhile: EndedMeanwhile,
    file: GrantsFile,
}

impl Both {
    fn save(&mut self, now: Now) -> Result<(), Error> {
        let snapshot = self.snapshot(now);
        self.saved(snapshot)
    }

    fn snapshot(&mut self, now: Now) -> Snapshot {
        let ended = self.grants.unsaved_ends().to_vec();
        Snapshot { kept: self.grants.to_keep(BOOT, now), ended, documents: None }
    }

    fn saved(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let ended = self.file.save(snapshot)?;
        self.grants.ends_kept(&ended);
        self.note_ends();
        Ok(())
    }

    fn note_ends(&mut self) {
        let end_of = |id: &GrantId| Some((id.clone(), self.grants.get(id)?.end.clone()?));
        let ended: Vec<_> = self.grants.unsaved_ends().iter().filter_map(end_of).collect();
        self.meanwhile.note(&ended);
    }
}

impl Deref for Both {
    type Target = Grants;
    fn deref(&self) -> &Grants {
        &self.grants
    }
}

impl DerefMut for Both {
    fn deref_mut(&mut self) -> &mut Grants {
        &mut self.grants
    }
}

fn with(disk: &Disk, grants: impl IntoIterator<Item = Grant>) -> Both {
    let (mut store, _) = disk.open(BOOT, now());
    for grant in grants {
        store.add(grant).expect("there is room");
    }
    store.save(now()).expect("it is written");
    store
}

fn ids(grants: &Grants) -> Vec<&str> {
    grants.open_ones().map(|grant| grant.id.as_str()).collect()
}

#[test]
fn what_was_saved_is_there_after_a_crash_and_what_was_not_is_not() {
    let disk = Disk::new();
    let mut store = with(&disk, [grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu")]);
    store.add(grant(3, "frank", "frank")).expect("there is room");
    drop(store);
    let (store, woken) = disk.open(BOOT, later(10));
    assert_eq!(store.all(), [grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu")]);
    assert!(!woken.clock_was_set_back);
}

#[test]
fn a_reboot_never_leaves_more_time_and_a_clock_far_behind_ends_everything() {
    let disk = Disk::new();
    with(&disk, [grant(1, "frank", "ubuntu")]);
    let after = |seconds: i64, boot: u64| Now {
        wall: now().wall + jiff::SignedDuration::from_secs(seconds),
        boot: Duration::from_secs(boot),
    };
    let (store, woken) = disk.open("boot-2", after(600, 7));
    assert_eq!(store.all()[0].ends.remaining(after(600, 7)), Duration::from_secs(3_000));
    assert!(!woken.clock_was_set_back);
    let (store, woken) = disk.open("boot-2", after(-3, 7));
    assert_eq!(store.all()[0].ends.remaining(after(-3, 7)), Duration::from_secs(3_600), "what NTP corrects");
    assert!(!woken.clock_was_set_back);
    let (store, woken) = disk.open("boot-2", after(-6, 7));
    assert!(woken.clock_was_set_back && ids(&store).is_empty());
    let (store, _) = disk.open("boot-2", after(7_200, 7));
    assert_eq!(store.over(after(7_200, 7)), [id(1)]);
}

#[test]
fn a_file_that_is_not_ours_or_too_new_is_refused_and_a_missing_one_is_empty() {
    let disk = Disk::new();
    assert!(disk.open(BOOT, now()).0.all().is_empty());
    for content in ["", "{}", "[]", "{\"version\":1}", "\0"] {
        std::fs::write(disk.path(), content).expect("own directory");
        let error = disk.try_open(BOOT, now()).expect_err("broken").to_string();
        assert!(error.contains("grants.json cannot be understood"), "{content:?}: {error}");
    }
    with(&Disk::new(), []);
    let newer = Disk::new();
    with(&newer, [grant(1, "frank", "ubuntu")]);
    let text = std::fs::read_to_string(newer.path()).expect("own file").replace("\"version\":1", "\"version\":2");
    std::fs::write(newer.path(), text).expect("own file");
    assert!(matches!(newer.try_open(BOOT, now()), Err(Error::Broken { why, .. }) if why.contains("version 2")));
}

#[test]
fn what_ended_while_the_store_could_not_be_written_stays_ended_after_a_crash() {
    let disk = Disk::new();
    let mut store = with(&disk, [grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu")]);
    // A directory of this name keeps the new file from being put in place.
    let (file, aside) = (disk.path(), disk.dir.path().join("aside"));
    std::fs::rename(&file, &aside).expect("own directory");
    std::fs::create_dir_all(file.join("in the way")).expect("own directory");
    let end = ended(grant(1, "frank", "ubuntu"), EndCause::Expired, false).end.expect("ended");
    assert!(store.end(&id(1), end) && store.save(now()).is_err());
    std::fs::remove_dir_all(&file).expect("own directory");
    std::fs::rename(&aside, &file).expect("own directory");

    let (mut store, _) = disk.open(BOOT, now());
    assert_eq!(ids(&store), [id(2).as_str()]);
    assert!(store.get(&id(1)).and_then(|grant| grant.end.as_ref()).is_some_and(|end| !end.recorded));
    store.save(now()).expect("there is room again");
    let room = std::fs::read(disk.path().with_extension("ended")).expect("the room is kept");
    assert!(room.len() == MAX_OPEN * 19 && room.iter().all(|byte| *byte == 0), "and holds nothing");
    assert_eq!(ids(&disk.open(BOOT, now()).0), [id(2).as_str()]);
}

#[test]
fn what_cannot_be_written_leaves_what_stood_there() {
    let disk = Disk::new();
    let mut store = with(&disk, [grant(1, "frank", "ubuntu")]);
    store.file.path = disk.dir.path().join("missing/grants.json");
    let error = store.save(now()).expect_err("no directory").to_string();
    assert!(error.contains("no grant takes effect until it can be written"), "{error}");
    assert_eq!(disk.open(BOOT, now()).0.all().len(), 1);
}

#[test]
fn what_ended_while_the_disk_stood_still_stays_ended_after_a_restart_and_is_forgotten_once_it_is_saved() {
    let disk = Disk::new();
    let mut store = with(&disk, [grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu")]);
    let end = || ended(grant(1, "frank", "ubuntu"), EndCause::Revoked, false).end.expect("ended");
    assert!(store.end(&id(1), end()));
    store.note_ends();
    // The daemon is killed before the disk has taken it.
    let (mut store, _) = disk.open(BOOT, now());
    assert_eq!(ids(&store), [id(2).as_str()]);
    assert_eq!(store.get(&id(1)).and_then(|grant| grant.end.clone()), Some(end()), "as it ended");
    store.save(now()).expect("the disk is back");
    assert!(!disk.meanwhile().exists(), "it is on disk now");
    assert_eq!(ids(&disk.open(BOOT, now()).0), [id(2).as_str()]);
    // What ends while a save is under way is still noted after it.
    let (mut store, _) = disk.open(BOOT, now());
    let snapshot = store.snapshot(now());
    assert!(store.end(&id(2), end()));
    store.note_ends();
    store.saved(snapshot).expect("it is written");
    assert!(ids(&disk.open(BOOT, now()).0).is_empty());
}
