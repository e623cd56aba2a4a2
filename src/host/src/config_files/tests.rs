//! Which files are read and which are believed.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use lockdown_core::{
    config::Mode,
    keys::test_keys::{ED25519, P256},
};
use nix::{sys::stat::Mode as FileMode, unistd::mkfifo};
use record::Account;
use tempfile::TempDir;

use super::{
    check::{check_as_in, check_file},
    *,
};

/// A configuration directory that belongs to whoever runs the test.
struct Dir(TempDir);

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = Self(TempDir::new().expect("a directory"));
        fs::create_dir(dir.0.path().join("conf.d")).expect("a directory");
        dir.chmod("conf.d", 0o755);
        for (name, text) in files {
            dir.put(name, text.as_bytes());
        }
        dir
    }

    fn put(&self, name: &str, text: &[u8]) {
        fs::write(self.0.path().join(name), text).expect("written");
        self.chmod(name, 0o644);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.path().join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn owner(&self) -> u32 {
        fs::metadata(self.0.path()).expect("it is there").uid()
    }

    fn load(&self) -> Result<Config, Error> {
        load_of(self.0.path(), Owner::Only(self.owner()))
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        let error = self.load().expect_err("refused").to_string();
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
}

const ENFORCE: &str = "mode = \"enforce\"\n";

const FRANK: &str =
    "mode = \"enforce\"\n[[person]]\nname = \"frank\"\nkeys = []\naccounts = [\"ubuntu\", \"deploy\"]\n";

fn good(text: &str) -> Config {
    Config::parse(&[("c.toml", text)]).unwrap_or_else(|error| unreachable!("{text}\n{error}"))
}

#[test]
fn later_files_replace_settings_and_add_people() {
    let dir = Dir::new(&[
        ("config.toml", "mode = \"observe\"\n[accounts]\nexempt = [\"a\"]\n[[person]]\nname = \"frank\"\n"),
        ("conf.d/20-x.toml", "mode = \"enforce\"\n[accounts]\nexempt = [\"b\"]\n[[person]]\nname = \"eve\"\n"),
        ("conf.d/10-x.toml", "mode = \"observe\"\n[grants]\nself = true\n"),
        ("conf.d/.30-x.toml", "this is no TOML"),
        ("conf.d/30-x.toml.bak", "nor is this"),
    ]);
    let config = dir.load().expect("good");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.accounts.exempt.iter().map(Account::as_str).collect::<Vec<_>>(), ["b"]);
    assert!(config.grants.self_grants);
    let (eve, frank) =
        (&config.people[&"eve".parse().expect("valid")], &config.people[&"frank".parse().expect("valid")]);
    assert!(eve.place.to_string().ends_with("conf.d/20-x.toml:5:8"), "{}", eve.place);
    assert!(frank.place.to_string().ends_with("config.toml:5:8"), "{}", frank.place);
}

#[test]
fn a_key_that_two_files_claim_names_both() {
    let person = |name: &str| format!("[[person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", ED25519);
    let dir = Dir::new(&[("config.toml", ENFORCE), ("conf.d/a.toml", &person("a")), ("conf.d/b.toml", &person("b"))]);
    let error = dir.load().expect_err("refused").to_string();
    assert!(
        error.contains("conf.d/b.toml:3:9: key SHA256:")
            && error.contains("by a at ")
            && error.contains("conf.d/a.toml:3:9")
    );
}

#[test]
fn conf_d_may_be_missing_and_config_toml_may_not() {
    let dir = Dir::new(&[("config.toml", ENFORCE)]);
    fs::remove_dir(dir.0.path().join("conf.d")).expect("removed");
    assert!(dir.load().is_ok());
    fs::remove_file(dir.0.path().join("config.toml")).expect("removed");
    dir.refused("config.toml: it cannot be read: No such file");
}

#[test]
fn what_another_could_have_written_is_not_believed() {
    for (name, mode) in [("config.toml", 0o664), ("conf.d/a.toml", 0o646), ("conf.d", 0o775), ("", 0o777)] {
        let dir = Dir::new(&[("config.toml", ENFORCE), ("conf.d/a.toml", "#\n")]);
        assert!(dir.load().is_ok());
        dir.chmod(name, mode);
        dir.refused("lets others write it; chmod go-w ");
    }
    let dir = Dir::new(&[("config.toml", ENFORCE)]);
    let error = load_of(dir.0.path(), Owner::Only(dir.owner() + 1)).expect_err("refused").to_string();
    assert!(error.contains("it belongs to user"), "{error}");
    assert!(load_file_of(&dir.0.path().join("config.toml"), Owner::Only(dir.owner() + 1)).is_err());
    assert!(load_file_of(&dir.0.path().join("config.toml"), Owner::Only(dir.owner())).is_ok());
}

#[test]
fn only_regular_files_are_read_and_nothing_is_waited_for() {
    let dir = Dir::new(&[("config.toml", ENFORCE), ("real.toml", "")]);
    let odd = dir.0.path().join("conf.d/x.toml");
    symlink(dir.0.path().join("real.toml"), &odd).expect("a link");
    dir.refused("conf.d/x.toml: it is a symbolic link");
    fs::remove_file(&odd).expect("removed");
    mkfifo(&odd, FileMode::from_bits_truncate(0o600)).expect("a FIFO");
    dir.refused("conf.d/x.toml: it is no regular file");
    fs::remove_file(&odd).expect("removed");
    fs::create_dir(&odd).expect("a directory");
    dir.refused("conf.d/x.toml: it is no regular file");
}

#[test]
fn too_large_too_many_and_no_text_are_refused() {
    let dir = Dir::new(&[("config.toml", ENFORCE)]);
    let comment = |length: u64| vec![b'#'; usize::try_from(length).expect("small")];
    dir.put("conf.d/a.toml", &comment(MAX_FILE));
    assert!(dir.load().is_ok());
    dir.put("conf.d/a.toml", &comment(MAX_FILE + 1));
    dir.refused("conf.d/a.toml: it is too large; at most 1048576 bytes");
    dir.put("conf.d/a.toml", b"\n\n# \xff");
    dir.refused("conf.d/a.toml: it is not UTF-8 in line 3");
    for i in 0..8 {
        dir.put(&format!("conf.d/{i}.toml"), &comment(MAX_FILE - 1));
    }
    dir.put("conf.d/a.toml", b"# a few bytes more");
    dir.refused("conf.d/7.toml: with this file the configuration has more than 8388608 bytes");
    let dir = Dir::new(&[("config.toml", ENFORCE)]);
    for i in 0..MAX_FILES {
        dir.put(&format!("conf.d/{i}.toml"), b"");
    }
    dir.refused("there are 1001 files; at most 1000 are read");
}

#[test]
fn a_file_that_is_missing_from_the_picture_makes_no_false_accusations() {
    let dir = Dir::new(&[
        ("config.toml", ENFORCE),
        ("conf.d/a.toml", "broken"),
        (
            "conf.d/b.toml",
            "[[grant]]\nperson = \"frank\"\naccount = \"u\"\nreason = \"x\"\nexpires_at = \"2026-12-01T18:00:00Z\"\n",
        ),
    ]);
    let error = dir.load().expect_err("refused");
    assert!(error.problems().iter().all(|p| p.place.file.ends_with("a.toml")), "{error}");
}

#[test]
fn one_file_is_checked_with_the_people_who_are_installed() {
    let installed = good(&format!("{FRANK}[grants]\nrequire_reason = false\n"));
    let grant = "[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nexpires_at = \"2026-12-01T18:00:00Z\"\n";
    // Chef's temporary file: hidden, and no matter whose.
    let dir = Dir::new(&[("conf.d/.chef-grants20261201-1-x.toml", grant)]);
    dir.chmod("conf.d/.chef-grants20261201-1-x.toml", 0o666);
    let path = dir.0.path().join("conf.d/.chef-grants20261201-1-x.toml");
    assert!(check_file(&path, Some(&installed)).is_ok());
    let error = check_file(&path, None).expect_err("frank is unknown").to_string();
    assert!(error.contains("there is no person frank") && error.contains("reason is missing"), "{error}");
    dir.put("bad.toml", grant.replace("ubuntu", "root").as_bytes());
    let error = check_file(&dir.0.path().join("bad.toml"), Some(&installed)).expect_err("refused").to_string();
    assert!(error.contains("frank may not be given root"), "{error}");
}

#[test]
fn an_account_that_the_host_does_not_have_is_warned_of_with_its_place() {
    let dir = Dir::new(&[]);
    let text = "mode = \"observe\"\n[accounts]\nexempt = [\"root\", \"nosuch1\"]\nrequire = { nosuch3 = \"hardware\" }\n\
                [[person]]\nname = \"a\"\nkeys = []\naccounts = [\"nosuch2\", \"nosuch3\"]\n\
                [[grant]]\nperson = \"a\"\naccount = \"nosuch3\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nreason = \"x\"\n";
    let checked = proposed(&dir, &[("config.toml", text)]).expect("good");
    assert!(checked.to_string().contains(": good; mode observe, people: 1, grants: 1"), "{checked}");
    let warnings = checked.warnings();
    let [unfit, first, second, third] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(unfit.contains("config.toml:9:1: warning: a has no key that opens nosuch3"), "{unfit}");
    assert!(first.contains("accounts.exempt names nosuch1"), "{first}");
    assert!(second.contains("config.toml:6:") && second.contains("a may be given nosuch2"), "{second}");
    assert!(third.contains("a may be given nosuch3"), "{third}");
    let text = "mode = \"observe\"\n[accounts.require]\nnosuch4 = \"hardware\"\n";
    let warnings = proposed(&dir, &[("config.toml", text)]).expect("good").warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("accounts.require names nosuch4"), "{warnings:?}");
}

/// What is said of the configuration in `dir` with these texts at these names.
fn proposed(dir: &Dir, files: &[(&str, &str)]) -> Result<Checked, Error> {
    let at = |(i, (destination, text)): (usize, &(&str, &str))| {
        // As Chef has it: beside the destination, hidden, anybody's.
        let name = format!("conf.d/.chef-{i}.toml");
        dir.put(&name, text.as_bytes());
        dir.chmod(&name, 0o666);
        Proposed { destination: dir.0.path().join(destination), file: dir.0.path().join(name) }
    };
    let proposed: Vec<Proposed> = files.iter().enumerate().map(at).collect();
    check_as_in(dir.0.path(), Owner::Only(dir.owner()), &proposed)
}

#[test]
fn a_file_is_judged_in_the_whole_at_the_place_where_it_would_stand() {
    let person =
        |name: &str, key: usize| format!("[[person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", [ED25519, P256][key]);
    let dir = Dir::new(&[("config.toml", ENFORCE), ("conf.d/a.toml", &person("a", 0))]);
    assert!(proposed(&dir, &[("conf.d/b.toml", &person("b", 1))]).is_ok(), "it need not be there yet");
    assert!(proposed(&dir, &[("conf.d/a.toml", &person("b", 0))]).is_ok(), "what stands there now does not count");
    let error = proposed(&dir, &[("conf.d/b.toml", &person("b", 0))]).expect_err("claimed twice").to_string();
    assert!(error.contains("conf.d/b.toml:3:9: key SHA256:") && error.contains("conf.d/a.toml:3:9"), "{error}");
    let error =
        proposed(&dir, &[("config.toml", &format!("{ENFORCE}{}", person("a", 1)))]).expect_err("twice").to_string();
    assert!(error.contains("conf.d/a.toml:2:8: a is a person already at"), "{error}");
    let error = proposed(&dir, &[("config.toml", "#\n")]).expect_err("no mode").to_string();
    assert!(error.contains("mode is missing"), "{error}");
    assert!(dir.load().is_ok(), "nothing was changed, and drafts are no part of it");
}

#[test]
fn files_that_only_hold_together_are_judged_together() {
    let frank = |accounts: &str| format!("[[person]]\nname = \"frank\"\naccounts = [{accounts}]\n");
    let exempt = |account: &str| format!("{ENFORCE}[accounts]\nexempt = [\"{account}\"]\n");
    let dir = Dir::new(&[("config.toml", &exempt("x")), ("conf.d/a.toml", &frank("\"y\""))]);
    // Neither goes first: frank would have an exempt account in between.
    let (config, people) = (exempt("y"), frank("\"x\""));
    assert!(proposed(&dir, &[("config.toml", &config)]).is_err());
    assert!(proposed(&dir, &[("conf.d/a.toml", &people)]).is_err());
    assert!(proposed(&dir, &[("config.toml", &config), ("conf.d/a.toml", &people)]).is_ok());
    let error = proposed(&dir, &[("conf.d/a.toml", ""), ("conf.d/a.toml", "")]).expect_err("twice").to_string();
    assert!(error.contains("two files are to stand here"), "{error}");
}

#[test]
fn a_destination_is_a_file_that_would_be_read() {
    let dir = Dir::new(&[("config.toml", ENFORCE)]);
    for elsewhere in ["other.toml", "conf.d/.a.toml", "conf.d/a", "conf.d/b/a.toml", "conf.d/../config.toml", "conf.d"]
    {
        let error = proposed(&dir, &[(elsewhere, "")]).expect_err(elsewhere).to_string();
        assert!(error.contains("no file of the configuration") && error.contains("conf.d/NAME.toml"), "{error}");
    }
    // The first file of all, where there is not even a directory for it.
    fs::remove_dir_all(dir.0.path().join("conf.d")).expect("removed");
    dir.put("people", b"#\n");
    let people = Proposed { destination: dir.0.path().join("conf.d/a.toml"), file: dir.0.path().join("people") };
    let check = || check_as_in(dir.0.path(), Owner::Only(dir.owner()), std::slice::from_ref(&people));
    assert!(check().is_ok());
    fs::remove_file(dir.0.path().join("config.toml")).expect("removed");
    let error = check().expect_err("no config.toml").to_string();
    assert!(error.contains("it is not there yet; write it first, or check both together: --as "), "{error}");
}

#[test]
fn the_last_good_configuration_loads_again() {
    let config = good(&FRANK.replace("[]", &format!("[\"{}\"]", P256)));
    let dir = Dir::new(&[("last-good.toml", &config.to_toml())]);
    let again = load_file_of(&dir.0.path().join("last-good.toml"), Owner::Only(dir.owner())).expect("good");
    assert_eq!(again.digest, config.digest);
}

#[test]
fn an_empty_file_is_taken_for_one_that_is_being_written() {
    let dir = Dir::new(&[("config.toml", ENFORCE), ("conf.d/10-x.toml", "# nothing yet\n")]);
    dir.load().expect("a comment is enough");
    dir.put("conf.d/10-x.toml", b"");
    dir.refused("10-x.toml: it is empty");
}

#[test]
fn a_configuration_that_is_being_written_is_taken_whole_or_not_at_all() {
    let person = "[[person]]\nname = \"frank\"\n";
    let dir = Dir::new(&[("config.toml", ENFORCE), ("conf.d/10-x.toml", person)]);
    let path = dir.0.path().join("conf.d/10-x.toml");
    let (done, stood) = (AtomicBool::new(false), AtomicBool::new(false));
    let read: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // As a slow `cat >FILE` with two writes.
                let began = Instant::now();
                fs::write(&path, "# frank is next\n").expect("written");
                std::thread::sleep(Duration::from_millis(20));
                fs::write(&path, person).expect("written");
                // On a busy machine half of it may stand for long enough to be taken for all.
                stood.fetch_or(began.elapsed() >= APART, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let read = (0..3).map(|_| load_steady(dir.0.path(), Owner::Only(dir.owner()))).collect();
        done.store(true, Ordering::Relaxed);
        read
    });
    let whole = |config: &Config| config.people.len() == 1;
    let refused = |error: &Error| error.to_string().contains("being written");
    let all_or_nothing = read.iter().all(|read| read.as_ref().map_or_else(refused, whole));
    assert!(stood.into_inner() || (all_or_nothing && read.iter().any(Result::is_err)), "{read:?}");
    fs::write(&path, person).expect("written");
    assert_eq!(load_steady(dir.0.path(), Owner::Only(dir.owner())).expect("whole").people.len(), 1);
}
