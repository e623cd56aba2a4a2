//! What the quarantine gives back is written by a child that has become the account. These tests need root.
#![cfg(test)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use lockdown_core::policy::key_file::WhyRemoved;
use lockdown_host::quarantine::{
    Arrival, Intake, Item, Prey, RESTORE_ARGUMENT, RestoreError, RestoreTo, Settler, restore,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lockdownd");
/// The account of these tests: in no passwd, so that it is in no group.
const UID: u32 = 54_321;
const CONTENT: &str = "ssh-ed25519 AAAA… frank\n";

struct Stage {
    machine: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let machine = tempfile::tempdir().unwrap();
        fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stage = Self { machine };
        fs::create_dir_all(stage.ssh()).unwrap();
        for path in [stage.home(), stage.ssh()] {
            chown(&path, Some(UID), Some(UID)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        stage
    }

    fn home(&self) -> PathBuf {
        self.machine.path().join("home")
    }

    fn ssh(&self) -> PathBuf {
        self.home().join(".ssh")
    }

    fn quarantine(&self) -> PathBuf {
        self.machine.path().join("quarantine")
    }

    /// Has a key file of this owner removed and kept.
    fn removed(&self, owner: u32) -> Item {
        let path = self.ssh().join("authorized_keys");
        fs::write(&path, CONTENT).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        let now = jiff::Timestamp::now();
        let arrival = Arrival::new("frank", &path, None, WhyRemoved::HoldsUnreadableLines, now).unwrap();
        let directory = fs::File::open(self.ssh()).unwrap();
        let name = path.file_name().unwrap();
        let mut intake = Intake::open(&self.quarantine()).unwrap();
        intake.take(std::os::fd::AsFd::as_fd(&directory), name, &arrival.name, Prey::Unread).unwrap();
        let (item, settled) = Settler::open(&self.quarantine()).unwrap().settle(&arrival);
        settled.unwrap();
        item
    }

    fn restore(&self, item: &Item, under_old_name: bool) -> Result<PathBuf, RestoreError> {
        let home = self.home();
        let to = RestoreTo { uid: UID, gid: UID, home: &home, under_old_name };
        restore(&self.quarantine(), &item.id, to, Path::new(PROGRAM))
    }
}

#[test]
fn a_file_comes_back_as_the_accounts_own_beside_its_old_name() {
    let stage = Stage::new();
    let item = stage.removed(UID);
    let place = stage.restore(&item, false).unwrap();
    assert_eq!(place, stage.ssh().join(format!("authorized_keys.restored-{}", item.id)));
    let seen = fs::symlink_metadata(&place).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (UID, UID, 0o600));
    assert_eq!(fs::read_to_string(&place).unwrap(), CONTENT);
    assert_eq!(stage.restore(&item, true).unwrap(), stage.ssh().join("authorized_keys"));
    let again = stage.restore(&item, true).unwrap_err();
    assert!(again.to_string().contains("File exists"), "{again}");
}

#[test]
fn a_file_of_another_owner_is_not_given_to_the_account() {
    let stage = Stage::new();
    let item = stage.removed(0);
    assert!(matches!(stage.restore(&item, false), Err(RestoreError::NotTheirs { owner: 0, uid: UID, .. })));
    assert_eq!(fs::read_dir(stage.ssh()).unwrap().count(), 0);
}

#[test]
fn no_link_that_the_account_plants_leads_the_hand_elsewhere() {
    let stage = Stage::new();
    let item = stage.removed(UID);
    let elsewhere = stage.machine.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
    fs::rename(stage.ssh(), stage.home().join("aside")).unwrap();
    symlink(&elsewhere, stage.ssh()).unwrap();
    assert!(stage.restore(&item, true).unwrap_err().to_string().contains("symbolic links"));
    fs::remove_file(stage.ssh()).unwrap();
    fs::create_dir(stage.ssh()).unwrap();
    symlink(elsewhere.join("made"), stage.ssh().join("authorized_keys")).unwrap();
    assert!(stage.restore(&item, true).is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_the_account_may_not_write_root_does_not_write_for_it() {
    let stage = Stage::new();
    let item = stage.removed(UID);
    chown(stage.ssh(), Some(0), Some(0)).unwrap();
    assert!(
        matches!(stage.restore(&item, false), Err(RestoreError::Refused(why)) if why.contains("Permission denied"))
    );
}

#[test]
fn a_file_that_stood_outside_of_the_home_is_not_given_back() {
    let stage = Stage::new();
    let item = stage.removed(UID);
    let elsewhere = stage.machine.path().join("other");
    let to = RestoreTo { uid: UID, gid: UID, home: &elsewhere, under_old_name: true };
    let refused = restore(&stage.quarantine(), &item.id, to, Path::new(PROGRAM));
    assert!(matches!(refused, Err(RestoreError::OutsideHome { .. })));
}

#[test]
fn the_child_writes_nothing_while_it_is_anything_but_the_account() {
    let stage = Stage::new();
    let place = stage.machine.path().join("as-root");
    let output = Command::new(PROGRAM).args([RESTORE_ARGUMENT, "54321", "54321"]).arg(&place).output().unwrap();
    assert!(!output.status.success() && !place.exists());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was written"));
}
