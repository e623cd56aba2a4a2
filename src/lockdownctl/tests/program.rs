//! The program itself: exit status, output that nobody reads any more, and what it says when no daemon runs.

use std::{
    fs::OpenOptions,
    io::Read,
    path::Path,
    process::{Command, Output, Stdio},
};

fn lockdownctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockdownctl")).args(arguments).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

#[test]
fn help_is_status_0_and_wrong_usage_status_2() {
    assert_eq!(lockdownctl(&["--help"]).status.code(), Some(0));
    assert_eq!(lockdownctl(&["--version"]).status.code(), Some(0));
    for wrong in [&["allow"][..], &["allow", "frank", "--for", "soon"], &["nonsense"], &[], &["revoke", "a b"]] {
        assert_eq!(lockdownctl(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_duration_that_is_none_is_refused_with_what_would_have_worked() {
    let said = stderr(&lockdownctl(&["allow", "frank", "--for", "2 hours"]));
    assert!(said.contains("90m, 1h30m or 400d"), "{said}");
}

#[test]
fn without_a_daemon_the_status_is_69_in_words_and_in_json() {
    if Path::new(control::SOCKET).exists() {
        return; // A host that runs the product: the instance tests cover it.
    }
    let output = lockdownctl(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("/run/lockdownd/control.sock: No such file"), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["refusal"]["code"], "unavailable");
}

#[test]
fn a_reader_who_has_left_is_no_error_of_its_own() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdownctl"))
        .args(["verify", "--ledger", "/nonexistent", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!said.contains("panicked") && !said.contains("roken pipe"), "{said}");
}

#[test]
fn output_that_is_lost_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lockdownctl"))
        .args(["verify", "--ledger", "/nonexistent", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("standard output: No space left"), "{}", stderr(&output));
}

#[test]
fn man_pages_and_completions_are_written_and_bash_can_read_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(lockdownctl(&["generate", "man", path]).status.success());
    assert!(lockdownctl(&["generate", "completions", path]).status.success());
    let bash = Command::new("bash").arg("-n").arg(dir.path().join("lockdownctl.bash")).status().unwrap();
    assert!(bash.success());
    assert!(dir.path().join("lockdownctl.1").exists() && dir.path().join("_lockdownctl").exists());
}
