//! `check`: the daemon's own reader judges a configuration, so that there is one reader only.

use std::{io, path::Path, process::Command};

use control::Exit;
use serde_json::json;

use super::Context;
use crate::{
    ask::Failure,
    cli,
    output::{Done, plain, pretty},
};

/// The program that reads configurations.
const LOCKDOWND: &str = "/usr/sbin/lockdownd";

/// Asks it, and passes on what it says.
pub(crate) fn run(args: &cli::Check, context: &Context<'_>) -> Result<Done, Failure> {
    let proposed = args.proposed.chunks_exact(2).flat_map(|pair| [Path::new("--as"), &pair[0], &pair[1]]);
    let arguments: Vec<&Path> = args.file.as_deref().into_iter().chain(proposed).collect();
    check_by(Path::new(LOCKDOWND), &arguments, context.json)
}

fn check_by(program: &Path, arguments: &[&Path], json: bool) -> Result<Done, Failure> {
    let output = Command::new(program).arg("--check").args(arguments).output().map_err(|error| Failure::Here {
        message: format!("{}: {error}", program.display()),
        hint: (error.kind() == io::ErrorKind::NotFound)
            .then(|| "the package lockdownd is not installed whole: apt-get install --reinstall lockdownd".to_owned()),
        exit: Exit::Unavailable,
    })?;
    let exit = match output.status.code() {
        Some(0) => Exit::Done,
        Some(code) if code == Exit::Config as i32 => Exit::Config,
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::here(format!("{} --check: {}: {}", program.display(), output.status, said.trim())));
        }
    };
    let said: Vec<String> = [output.stdout, output.stderr]
        .iter()
        .flat_map(|bytes| String::from_utf8_lossy(bytes).lines().map(plain).collect::<Vec<_>>())
        .collect();
    let text = if json {
        pretty(&json!({ "good": exit == Exit::Done, "said": said }))
    } else {
        said.iter().map(|line| format!("{line}\n")).collect()
    };
    Ok(Done::new(text).exiting(exit))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    /// A stand-in for the daemon's program: whatever it says and exits with is passed on.
    fn program(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("lockdownd");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn what_the_reader_says_and_its_status_are_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let bad = program(dir.path(), r#"echo "$1 $2:3:5: unknown key" >&2; exit 78"#);
        let done = check_by(&bad, &[Path::new("/etc/c.toml")], false).unwrap();
        assert_eq!(done, Done::new("--check /etc/c.toml:3:5: unknown key\n".to_owned()).exiting(Exit::Config));
        let done = check_by(&bad, &[Path::new("c")], true).unwrap();
        assert_eq!(done.text, "{\n  \"good\": false,\n  \"said\": [\n    \"--check c:3:5: unknown key\"\n  ]\n}\n");
        let good = program(dir.path(), r#"echo "$#""#);
        assert_eq!(check_by(&good, &[], false).unwrap(), Done::new("1\n".to_owned()));
    }

    #[test]
    fn a_reader_that_is_missing_or_fails_is_never_taken_for_a_good_config() {
        let missing = check_by(Path::new("/nonexistent/lockdownd"), &[], false).unwrap_err();
        assert_eq!(missing.exit(), Exit::Unavailable);
        let dir = tempfile::tempdir().unwrap();
        let killed = check_by(&program(dir.path(), "kill -9 $$"), &[], false).unwrap_err();
        assert_eq!(killed.exit(), Exit::Refused);
        assert!(killed.words().contains("signal: 9"), "{}", killed.words());
    }
}
