use std::{fs, process::Command};

use super::*;

/// As root on a kernel that has it; where a container forbids it there is nothing to be tried. The capability stays with
/// the test's own process.
fn watching(directory: &Path, name: &str, changes: Changes) -> Option<Writers> {
    let watch = Watch::new().ok()?;
    let writers = Writers { watch: Ok(watch), known: Mutex::default(), reading: Mutex::default() };
    writers.expect(File::open(directory).unwrap().as_fd(), Some(OsStr::new(name)), changes).unwrap();
    Some(writers)
}

fn whereabouts(directory: &Path, name: &str) -> Whereabouts {
    let opened = File::open(directory).unwrap();
    let file = FileId::entry(opened.as_fd(), OsStr::new(name)).ok();
    Whereabouts::of(file, opened.as_fd()).unwrap()
}

fn shell(directory: &Path, script: &str) -> u32 {
    let mut shell = Command::new("sh").args(["-c", script]).current_dir(directory).spawn().unwrap();
    shell.wait().unwrap();
    shell.id()
}

#[test]
fn the_last_writer_of_the_very_file_is_named_and_those_before_it() {
    let place = tempfile::tempdir().unwrap();
    let Some(writers) = watching(place.path(), "keys", Changes::Writes) else { return };
    let first = shell(place.path(), "echo a > keys");
    let second = shell(place.path(), "echo b >> keys");
    shell(place.path(), "echo c > other");
    let pids = |written: Written| written.by.into_iter().map(|by| by.unwrap().pid).collect::<Vec<_>>();
    let here = whereabouts(place.path(), "keys");
    assert_eq!(pids(writers.of(&here)), [first, second]);
    assert_eq!(writers.of(&whereabouts(place.path(), "other")), Written { by: vec![], directory: true });
    fs::rename(place.path().join("keys"), place.path().join("taken")).unwrap();
    let third = shell(place.path(), "echo d > new; exec mv new keys");
    assert_eq!(pids(writers.of(&whereabouts(place.path(), "keys"))), [third], "another file in the same place");
    assert_eq!(pids(writers.of(&here)), [first, second]);
}

#[test]
fn who_brought_the_directory_is_named_where_nobody_was_seen_to_write_the_file() {
    let place = tempfile::tempdir().unwrap();
    let Some(writers) = watching(place.path(), ".ssh", Changes::Names) else { return };
    let pid = shell(place.path(), "exec mkdir .ssh");
    fs::write(place.path().join(".ssh/keys"), "key").unwrap();
    let written = writers.of(&whereabouts(&place.path().join(".ssh"), "keys"));
    assert_eq!(written.by.into_iter().map(|by| by.unwrap().pid).collect::<Vec<_>>(), [pid]);
    assert!(written.directory);
}

#[test]
fn a_writer_is_looked_at_while_it_runs() {
    let place = tempfile::tempdir().unwrap();
    let Some(writers) = watching(place.path(), "keys", Changes::Writes) else { return };
    let mut shell = Command::new("sh");
    let mut shell = shell.args(["-c", "echo a > keys; echo; read wait"]).current_dir(place.path());
    shell = shell.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    io::Read::read_exact(&mut shell.stdout.take().unwrap(), &mut [0]).unwrap();
    let written = writers.of(&whereabouts(place.path(), "keys"));
    drop(shell.stdin.take());
    shell.wait().unwrap();
    let [Some(Writer { pid, seen: Some(seen) })] = written.by.as_slice() else { panic!("{written:?}") };
    assert_eq!((*pid, seen.uid), (shell.id(), nix::unistd::geteuid().as_raw()));
    assert!(seen.exe.as_ref().is_some_and(|exe| exe.starts_with("/usr/bin") || exe.starts_with("/bin")), "{seen:?}");
    let lineage: Vec<i32> = seen.line.iter().map(|id| id.pid).collect();
    assert!(lineage.starts_with(&[i32::try_from(*pid).unwrap(), nix::unistd::getpid().as_raw()]), "{lineage:?}");
    assert_eq!(writers.of(&whereabouts(place.path(), "keys")), written, "its end changes nothing");
}

#[test]
fn configuration_is_told_once_by_name_and_what_the_daemon_wrote_itself_is_told_too() {
    let place = tempfile::tempdir().unwrap();
    let Some(writers) = watching(place.path(), "keys", Changes::Names) else { return };
    let etc = place.path().join("etc");
    fs::create_dir(&etc).unwrap();
    writers.expect_configuration(&etc, Some(&["passwd"]));
    let pid = shell(&etc, "echo a > passwd; echo b > shadow");
    let (changes, number) = writers.changes(0, |path| path.ends_with("passwd"));
    assert_eq!(
        changes.iter().map(|(path, by)| (path.clone(), by.as_ref().unwrap().pid)).collect::<Vec<_>>(),
        [(etc.join("passwd"), pid)]
    );
    assert_eq!(writers.changes(number, |_| true).0, []);
    fs::remove_file(etc.join("passwd")).unwrap();
    let (changes, _) = writers.changes(number, |_| true);
    assert_eq!(changes[0].1.as_ref().unwrap().pid, std::process::id());
}

#[test]
fn of_one_directory_so_many_changes_are_remembered_and_the_oldest_goes_first() {
    let mut known = Known::default();
    let place = tempfile::tempdir().unwrap();
    let id = FileId::of(File::open(place.path()).unwrap().as_fd()).unwrap();
    known.places.insert(id.clone(), Place::default());
    for pid in 0..PER_DIRECTORY + 3 {
        let writer = Writer { pid: u32::try_from(pid).unwrap(), seen: None };
        known.remember(&id, "keys".into(), None, Some(writer));
    }
    let recent = &known.places[&id].recent;
    assert_eq!((recent.len(), recent[0].writer.as_ref().unwrap().pid), (PER_DIRECTORY, 3));
}

#[test]
fn directories_that_come_and_go_are_forgotten_past_the_bound() {
    let place = tempfile::tempdir().unwrap();
    let Some(writers) = watching(place.path(), "keys", Changes::Names) else { return };
    writers.expect_configuration(place.path(), Some(&["new"]));
    let name = |count: usize| place.path().join(count.to_string());
    for count in 0..=SPARE_DIRECTORIES {
        fs::create_dir(name(count)).unwrap();
        writers.expect(File::open(name(count)).unwrap().as_fd(), None, Changes::Names).unwrap();
    }
    assert!(!writers.forget_if_many(1));
    assert!(writers.forget_if_many(0));
    assert_eq!(writers.known().places.len(), 1, "what holds configuration stays");
    // More waits than one reading takes.
    (0..4).for_each(|_| writers.catch_up());
    let (_, number) = writers.changes(0, |_| true);
    fs::write(place.path().join("new"), "").unwrap();
    assert_eq!(writers.changes(number, |_| true).0.len(), 1, "and is watched on");
}

#[test]
fn without_fanotify_everything_is_unknown_and_nothing_fails() {
    let place = tempfile::tempdir().unwrap();
    let writers = Writers::nobody();
    writers.expect(File::open(place.path()).unwrap().as_fd(), None, Changes::Writes).unwrap();
    fs::write(place.path().join("keys"), "").unwrap();
    assert_eq!(writers.of(&whereabouts(place.path(), "keys")).by, []);
    assert_eq!(writers.changes(0, |_| true), (vec![], 0));
    assert!(!writers.forget_if_many(0));
}
