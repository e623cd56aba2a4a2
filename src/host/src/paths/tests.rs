use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

/// A directory in the place of `/`, root's alone to change.
fn machine() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::open(directory.path()).unwrap();
    (directory, root)
}

#[test]
fn a_link_of_roots_is_followed_where_root_alone_can_change_the_way() {
    let (machine, root) = machine();
    fs::create_dir_all(machine.path().join("data/home/frank")).unwrap();
    symlink("/data/home", machine.path().join("home")).unwrap();
    symlink("../data/./home", machine.path().join("data/again")).unwrap();
    assert_eq!(root.resolve(Path::new("/home/frank")).unwrap(), Path::new("/data/home/frank"));
    assert_eq!(root.resolve(Path::new("/data/again/frank/../x/y")).unwrap(), Path::new("/data/home/x/y"));
    assert_eq!(root.resolve(Path::new("/")).unwrap(), Path::new("/"));
    assert_eq!(root.resolve(Path::new("/../..")).unwrap(), Path::new("/"));
}

#[test]
fn what_stops_the_way_is_not_looked_at_nor_what_is_below_it() {
    let (machine, root) = machine();
    fs::create_dir_all(machine.path().join("auto")).unwrap();
    symlink("/auto", machine.path().join("home")).unwrap();
    // Looked at, it would be an error.
    symlink("/", machine.path().join("auto/frank")).unwrap();
    std::os::unix::fs::lchown(machine.path().join("auto/frank"), Some(1000), Some(1000)).unwrap();
    assert!(root.resolve(Path::new("/home/frank/a/b")).is_err());
    let until = |path| root.resolve_until(Path::new(path), |here| here == Path::new("/auto/frank")).unwrap();
    assert_eq!(until("/home/frank/a/b"), Path::new("/auto/frank/a/b"));
    assert_eq!(until("/home/grace"), Path::new("/auto/grace"));
}

#[test]
fn a_link_that_a_user_owns_or_could_replace_is_not_followed() {
    let (machine, root) = machine();
    let at = |path: &str| machine.path().join(path);
    fs::create_dir_all(at("shared")).unwrap();
    fs::create_dir_all(at("grouped")).unwrap();
    fs::create_dir_all(at("users")).unwrap();
    for link in ["shared/home", "grouped/home", "users/home", "theirs"] {
        symlink("/", at(link)).unwrap();
    }
    fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(at("grouped"), fs::Permissions::from_mode(0o775)).unwrap();
    chown(at("users"), Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::lchown(at("theirs"), Some(1000), Some(1000)).unwrap();
    for path in ["/shared/home/x", "/grouped/home/x", "/users/home/x", "/theirs/x"] {
        let error = root.resolve(Path::new(path)).unwrap_err();
        assert!(matches!(error, PathError::PlantedLink { .. }), "{path}: {error}");
    }
}

#[test]
fn links_in_a_circle_end_in_an_error_and_links_never_leave_the_root() {
    let (machine, root) = machine();
    symlink("b", machine.path().join("a")).unwrap();
    symlink("a", machine.path().join("b")).unwrap();
    assert!(matches!(root.resolve(Path::new("/a/x")), Err(PathError::TooManyLinks { .. })));
    symlink("../../../../etc", machine.path().join("out")).unwrap();
    assert_eq!(root.resolve(Path::new("/out/passwd")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(root.look(Path::new("/etc/passwd"), &mut Vec::new()), Sight::Absent);
}

#[test]
fn a_look_tells_every_kind_of_thing_apart_and_waits_for_none() {
    let (machine, root) = machine();
    let at = |path: &str| machine.path().join(path);
    fs::write(at("file"), "content").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::File::create(at("long")).unwrap().set_len(MAX_KEY_FILE as u64 + 1).unwrap();
    fs::write(at("full"), vec![b'#'; MAX_KEY_FILE]).unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("file", at("link")).unwrap();
    symlink("directory", at("way")).unwrap();
    unistd::mkfifo(&at("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let start = Instant::now();
    let mut content = Vec::new();
    let mut look = |path: &str| (root.look(Path::new(path), &mut content), content.clone());
    assert!(matches!(look("/file"), (Sight::File(facts), content) if facts.size == 7 && content == b"content"));
    assert!(matches!(look("/empty"), (Sight::File(_), content) if content.is_empty()));
    assert!(matches!(look("/long"), (Sight::Long(_), content) if content.is_empty()));
    assert!(matches!(look("/full"), (Sight::File(_), content) if content.len() == MAX_KEY_FILE));
    for inert in ["/directory", "/fifo", "/socket", "/"] {
        assert_eq!(look(inert).0, Sight::Inert, "{inert}");
    }
    for link in ["/link", "/way/file", "/way"] {
        assert_eq!(look(link).0, Sight::Link, "{link}");
    }
    for absent in ["/nothing", "/nothing/below", "/file/below"] {
        assert_eq!(look(absent).0, Sight::Absent, "{absent}");
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_to_its_end_or_not_at_all() {
    let (machine, root) = machine();
    let path = machine.path().join("grows");
    fs::write(&path, "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            for _ in 0..20_000 {
                file.write_all(b"0123456789\n").unwrap();
            }
        });
        let mut content = Vec::new();
        let mut last = 0;
        while last < 200_000 {
            assert!(matches!(root.look(Path::new("/grows"), &mut content), Sight::File(_)));
            // A write across two pages shows in two steps.
            assert!(content.len() >= last && (content.len() % 11 == 0 || content.len() % 4096 == 0));
            last = content.len();
        }
    });
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_a_link_in_its_place_is_not_followed() {
    let (machine, root) = machine();
    let directory = root.open_directory(Path::new("/")).unwrap();
    let victim = machine.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, machine.path().join("grants.json")).unwrap();
    // What a crash left, and a trap in its place.
    symlink(&victim, machine.path().join(".grants.json.0.tmp")).unwrap();
    let name = OsStr::new("grants.json");
    replace_file(directory.as_fd(), name, b"one", 0o640, Durability::Flushed).unwrap();
    replace_file(directory.as_fd(), name, b"two", 0o600, Durability::Flushed).unwrap();
    let seen = fs::symlink_metadata(machine.path().join(name)).unwrap();
    assert!(seen.is_file() && seen.mode() & 0o7777 == 0o600 && seen.nlink() == 1);
    assert_eq!(fs::read(machine.path().join(name)).unwrap(), b"two");
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    let names: Vec<_> = fs::read_dir(machine.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_replacement_that_fails_leaves_the_old_file_and_no_temporary() {
    let (machine, root) = machine();
    let directory = root.open_directory(Path::new("/")).unwrap();
    fs::create_dir_all(machine.path().join("taken/inner")).unwrap();
    let error = replace_file(directory.as_fd(), OsStr::new("taken"), b"x", 0o600, Durability::Volatile).unwrap_err();
    assert!(error.to_string().starts_with("taken: "), "{error}");
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 1);
}

proptest! {
    #[test]
    fn what_a_record_escapes_can_be_read_back(raw in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(unescape(&record::escape(&raw)).map(OsStringExt::into_vec), Some(raw));
    }

    #[test]
    fn a_text_that_was_not_made_by_escaping_never_panics(text in "[\\\\x0-9a-fz]{0,12}") {
        let _ = unescape(&text);
    }
}
