use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
};

use lockdown_core::policy::key_file::WhyRemoved;
use proptest::prelude::*;

use super::{intake::ArrivalName, *};
use crate::paths::{Facts, MAX_KEY_FILE, Root};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHMzbIKLxIz9G0FfFEIfFWxnh5nYVWWSF6WBRk4N7hJ frank\n";

/// A home and a quarantine, on one file system or two.
struct Stage {
    home: tempfile::TempDir,
    quarantine: tempfile::TempDir,
    intake: Intake,
    settler: Settler,
}

impl Stage {
    fn new() -> Self {
        Self::keeping_at(tempfile::tempdir().unwrap())
    }

    fn across_mounts() -> Self {
        let stage = Self::keeping_at(tempfile::tempdir_in("/dev/shm").unwrap());
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(stage.home.path()), device(stage.quarantine.path()));
        stage
    }

    fn keeping_at(quarantine: tempfile::TempDir) -> Self {
        let intake = Intake::open(quarantine.path()).unwrap();
        let settler = Settler::open(quarantine.path()).unwrap();
        Self { home: tempfile::tempdir().unwrap(), quarantine, intake, settler }
    }

    /// Removes `name` as the homes thread does.
    fn take(&mut self, account: &str, name: &str) -> (Taken, Arrival) {
        let root = Root::open(self.home.path()).unwrap();
        let mut content = Vec::new();
        let (prey, facts) = match root.look(Path::new(name), &mut content) {
            crate::paths::Sight::File(facts) => (Prey::Read(&content), Some(facts)),
            crate::paths::Sight::Long(facts) => (Prey::Unread, Some(facts)),
            crate::paths::Sight::Link => (Prey::Link, None),
            _ => (Prey::Unread, None),
        };
        self.take_as(account, name, prey, facts)
    }

    fn take_as(&mut self, account: &str, name: &str, prey: Prey<'_>, facts: Option<Facts>) -> (Taken, Arrival) {
        let directory = Root::open(self.home.path()).unwrap().open_directory(Path::new("/")).unwrap();
        let path = Path::new("/home").join(account).join(name);
        let mut arrival = Arrival::new(account, &path, facts, WhyRemoved::HoldsKeys, Timestamp::now()).unwrap();
        let taken =
            self.intake.take(std::os::fd::AsFd::as_fd(&directory), OsStr::new(name), &arrival.name, prey).unwrap();
        arrival.is_copy = taken == Taken::Copied;
        (taken, arrival)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.home.path().join(name), content).unwrap();
    }

    fn keep(&mut self, account: &str, name: &str, content: impl AsRef<[u8]>) -> Item {
        self.put(name, content);
        let (_, arrival) = self.take(account, name);
        let (item, settled) = self.settler.settle(&arrival);
        settled.unwrap();
        item
    }

    fn incoming(&self) -> usize {
        fs::read_dir(self.quarantine.path().join(INCOMING)).unwrap().count()
    }
}

#[test]
fn a_file_is_kept_described_and_listed_on_one_mount_and_across_two() {
    for mut stage in [Stage::new(), Stage::across_mounts()] {
        let item = stage.keep("frank", "authorized_keys", KEY);
        assert!(!stage.home.path().join("authorized_keys").exists());
        assert_eq!((item.content, item.fingerprints.len(), item.size), (Content::Kept, 1, KEY.len() as u64));
        assert_eq!((item.owner, item.path.as_str()), (unistd::geteuid().as_raw(), "/home/frank/authorized_keys"));
        assert_eq!(fs::read_to_string(stage.quarantine.path().join(item.id.as_str())).unwrap(), KEY);
        assert_eq!(list(stage.quarantine.path()).unwrap().first(), Some(&item));
        assert_eq!(show(stage.quarantine.path(), &item.id).unwrap(), item);
        assert_eq!(stage.incoming(), 0);
        assert_eq!(fs::metadata(stage.quarantine.path()).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn a_link_is_kept_by_its_target_on_one_mount_and_across_two() {
    for mut stage in [Stage::new(), Stage::across_mounts()] {
        symlink("/etc/shadow", stage.home.path().join("link")).unwrap();
        let (_, arrival) = stage.take("frank", "link");
        let (item, settled) = stage.settler.settle(&arrival);
        settled.unwrap();
        assert_eq!(item.kind, ItemKind::Symlink { target: "/etc/shadow".to_owned() });
        assert_eq!(item.content, Content::None);
        assert!(fs::symlink_metadata(stage.home.path().join("link")).is_err());
    }
}

#[test]
fn of_a_long_file_only_the_start_is_kept() {
    for mut stage in [Stage::new(), Stage::across_mounts()] {
        let item = stage.keep("frank", "long", vec![b'x'; MAX_KEY_FILE + 5]);
        assert_eq!((item.content, item.size), (Content::Truncated, MAX_KEY_FILE as u64 + 5));
        let kept = fs::metadata(stage.quarantine.path().join(item.id.as_str())).unwrap();
        assert_eq!(kept.len(), MAX_KEY_FILE as u64);
    }
}

#[test]
fn one_account_fills_its_own_share_only() {
    let mut stage = Stage::new();
    for count in 0..MAX_ITEMS_PER_ACCOUNT + 10 {
        let item = stage.keep("flooder", "authorized_keys", format!("{KEY}# {count}\n"));
        let expected = if count < MAX_ITEMS_PER_ACCOUNT { Content::Kept } else { Content::OverQuota };
        assert_eq!((item.content, item.fingerprints.len()), (expected, 1), "{count}");
    }
    assert_eq!(stage.keep("frank", "authorized_keys", KEY).content, Content::Kept);
    assert_eq!(list(stage.quarantine.path()).unwrap().len(), MAX_ITEMS_PER_ACCOUNT + 1);
    // The shares are known again after a restart.
    stage.settler = Settler::open(stage.quarantine.path()).unwrap();
    assert_eq!(stage.keep("flooder", "authorized_keys", "another").content, Content::OverQuota);
}

#[test]
fn past_its_share_of_bytes_an_account_keeps_descriptions_without_content() {
    let mut stage = Stage::new();
    let room = usize::try_from(MAX_BYTES_PER_ACCOUNT).unwrap() / MAX_KEY_FILE;
    for count in 0..room {
        let item = stage.keep("frank", "long", [vec![b'x'; MAX_KEY_FILE - 1], vec![b'a' + count as u8]].concat());
        assert_eq!(item.content, Content::Kept);
    }
    let item = stage.keep("frank", "authorized_keys", KEY);
    assert_eq!((item.content, item.fingerprints.len()), (Content::OverQuota, 1));
    assert!(show(stage.quarantine.path(), &item.id).is_ok());
    assert!(!stage.quarantine.path().join(item.id.as_str()).exists());
}

#[test]
fn the_same_bytes_from_the_same_place_are_kept_once_and_counted() {
    let mut stage = Stage::new();
    let first = stage.keep("frank", "authorized_keys", KEY);
    let second = stage.keep("frank", "authorized_keys", KEY);
    assert_eq!((second.id, second.times), (first.id, 2));
    assert_ne!(stage.keep("frank", "authorized_keys2", KEY).times, 2);
    stage.settler = Settler::open(stage.quarantine.path()).unwrap();
    assert_eq!(stage.keep("frank", "authorized_keys", KEY).times, 3);
    assert_eq!(list(stage.quarantine.path()).unwrap().len(), 2);
}

#[test]
fn a_directory_swapped_in_at_the_last_instant_is_given_back() {
    let mut stage = Stage::new();
    let directory = stage.home.path().join("authorized_keys");
    fs::create_dir_all(directory.join("inner")).unwrap();
    let (taken, _) = stage.take_as("frank", "authorized_keys", Prey::Read(b"what was judged"), None);
    assert_eq!(taken, Taken::Harmless);
    assert!(directory.join("inner").is_dir());
    assert_eq!(stage.incoming(), 0);
}

#[test]
fn the_owner_of_what_was_swapped_in_is_believed_not_that_of_what_was_judged() {
    let mut stage = Stage::new();
    stage.put("mine", "mine");
    let mut judged = Facts::from(&stat::stat(&stage.home.path().join("mine")).unwrap());
    judged.uid = 1000;
    // A hard link to root's file came between the look and the rename.
    stage.put("roots", "secret");
    fs::hard_link(stage.home.path().join("roots"), stage.home.path().join("authorized_keys")).unwrap();
    let (taken, arrival) = stage.take_as("frank", "authorized_keys", Prey::Read(b"mine"), Some(judged));
    assert_eq!(taken, Taken::Moved);
    let (item, settled) = stage.settler.settle(&arrival);
    settled.unwrap();
    assert_eq!(item.owner, unistd::geteuid().as_raw());
    assert_eq!(fs::read_to_string(stage.home.path().join("roots")).unwrap(), "secret");
    let to = RestoreTo { uid: 1000, gid: 1000, home: Path::new("/home/frank"), under_old_name: true };
    let refused = restore(stage.quarantine.path(), &item.id, to, Path::new("/nonexistent"));
    assert!(matches!(refused, Err(RestoreError::NotTheirs { owner: 0, uid: 1000, .. })), "{refused:?}");
}

#[test]
fn a_key_is_kept_even_if_incoming_is_gone() {
    let mut stage = Stage::new();
    fs::remove_dir(stage.quarantine.path().join(INCOMING)).unwrap();
    let (_, arrival) = {
        stage.put("authorized_keys", KEY);
        stage.take("frank", "authorized_keys")
    };
    assert!(!stage.home.path().join("authorized_keys").exists());
    let (item, _) = stage.settler.settle(&arrival);
    assert_eq!((item.content, item.size), (Content::Kept, KEY.len() as u64));
}

#[test]
fn what_is_not_there_is_harmless_and_an_unknown_item_is_named() {
    let mut stage = Stage::new();
    assert_eq!(stage.take("frank", "nothing").0, Taken::Harmless);
    let id: ItemId = "q-0000000000000000".parse().unwrap();
    let error = show(stage.quarantine.path(), &id).unwrap_err();
    assert!(error.to_string().contains("lockdownctl quarantine list"), "{error}");
    assert!("q-00".parse::<ItemId>().is_err() && "../etc/passwd".parse::<ItemId>().is_err());
}

#[test]
fn a_description_that_cannot_be_read_does_not_hide_the_others() {
    let mut stage = Stage::new();
    stage.keep("frank", "authorized_keys", KEY);
    fs::write(stage.quarantine.path().join("q-0000000000000000.json"), "{").unwrap();
    assert_eq!(list(stage.quarantine.path()).unwrap().len(), 1);
    Settler::open(stage.quarantine.path()).unwrap();
}

proptest! {
    #[test]
    fn an_arrivals_name_says_whose_it_was_and_where_or_leaves_it_out(
        account in "[a-zA-Z0-9.%,_-]{1,40}",
        parts in prop::collection::vec("[^/\0]{1,60}", 1..6),
    ) {
        let id = ItemId::random().unwrap();
        let path = Path::new("/").join(parts.join("/"));
        let name = ArrivalName::new(&id, &account, &path);
        prop_assert!(name.as_os_str().len() <= 255 && !name.as_os_str().as_bytes().contains(&b'/'));
        let (same, whose, place) = name.parse().unwrap();
        prop_assert_eq!((same, whose), (id, account));
        prop_assert!(place == path || place.as_os_str().is_empty());
    }
}

#[test]
fn a_quarantine_that_is_gone_is_made_anew_and_nothing_goes_unkept() {
    let mut stage = Stage::new();
    fs::remove_dir_all(stage.quarantine.path()).unwrap();
    let item = stage.keep("frank", "authorized_keys", "ssh-ed25519 AAAA\n");
    assert_eq!(item.content, Content::Kept);
    assert_eq!(content(stage.quarantine.path(), &item.id).unwrap(), b"ssh-ed25519 AAAA\n");
}

#[test]
fn what_the_quarantine_cannot_take_in_stands() {
    let mut stage = Stage::across_mounts();
    stage.put("authorized_keys", "ssh-ed25519 AAAA\n");
    // A file where the quarantine was: nothing can be made in it.
    fs::remove_dir_all(stage.quarantine.path()).unwrap();
    fs::write(stage.quarantine.path(), "").unwrap();
    let directory = Root::open(stage.home.path()).unwrap().open_directory(Path::new("/")).unwrap();
    let now = Timestamp::now();
    let arrival = Arrival::new("frank", Path::new("/x"), None, WhyRemoved::HoldsKeys, now).unwrap();
    let directory = std::os::fd::AsFd::as_fd(&directory);
    let taken = stage.intake.take(directory, OsStr::new("authorized_keys"), &arrival.name, Prey::Unread);
    assert!(matches!(taken, Err(NotTaken::Unkept(_))), "{taken:?}");
    assert!(stage.home.path().join("authorized_keys").exists());
    fs::remove_file(stage.quarantine.path()).unwrap();
    fs::create_dir(stage.quarantine.path()).unwrap();
}
