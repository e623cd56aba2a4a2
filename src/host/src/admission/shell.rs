//! Whether an account's shell would run: as sshd's `allowed_user` looks at it, and for an account that has to work, by running it
//! as that account.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use lockdown_core::policy::admission::BadShell;

use crate::{
    accounts::PasswdEntry,
    child::{self, Bounds},
};

/// What an empty shell in passwd(5) means.
const DEFAULT_SHELL: &str = "/bin/sh";
/// Programs that end at once when they are somebody's shell, or end more than that. None of them is run.
pub(super) const REFUSING: [&str; 8] = ["nologin", "false", "true", "sync", "halt", "poweroff", "reboot", "shutdown"];
/// Runs a program as another user, with all of their groups (util-linux), and one that runs another: the first still has root's
/// privileges when it starts something.
const SETPRIV: &str = "/usr/bin/setpriv";
const ENV: &str = "/usr/bin/env";
/// What a shell is to print; nothing that a start-up file would.
const MARK: &str = "lockdownd-shell-runs";
/// How long it may take, and how much it may print.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), output: 64 << 10 };

/// The shell that sshd starts.
fn of(entry: &PasswdEntry) -> &Path {
    if entry.shell.as_os_str().is_empty() { Path::new(DEFAULT_SHELL) } else { &entry.shell }
}

/// What is wrong with a shell, if anything, as far as its file tells.
pub(super) fn bad(entry: &PasswdEntry) -> Option<BadShell> {
    let shell = of(entry);
    let shown = record::escape(shell.as_os_str().as_encoded_bytes());
    match fs::metadata(shell) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            let name = shell.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            REFUSING.contains(&name).then_some(BadShell::Refuses(shown))
        }
        _ => Some(BadShell::Missing(shown)),
    }
}

/// Runs the shell as the account, for one line that it is to print: what is wrong with it, else what cannot be told.
pub(super) fn run(entry: &PasswdEntry) -> Result<Option<String>, BadShell> {
    let shell = of(entry);
    let shown = record::escape(shell.as_os_str().as_encoded_bytes());
    let not_known = |why: String| Ok(Some(format!("whether its shell {shown} runs cannot be told: {why}")));
    let (user, group) = (format!("--reuid={}", entry.uid), format!("--regid={}", entry.gid));
    let mut command = child::command(Path::new(SETPRIV), [&*user, &group, "--init-groups", "--", ENV, "--"]);
    command.arg(shell).args(["-c", &format!("echo {MARK}")]);
    let output = match child::run(command, BOUNDS) {
        Ok(Some(output)) => output,
        Ok(None) => return not_known("it does not end".to_owned()),
        Err(error) => return not_known(format!("{SETPRIV}: {error}")),
    };
    if String::from_utf8_lossy(&output.stdout).contains(MARK) {
        return Ok(None);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let why = |text: &str| record::escape(text.rsplit(": ").next().unwrap_or_default().trim().as_bytes());
    match (complaint.split_once("env: '"), complaint.strip_prefix("setpriv: ")) {
        (Some((_, text)), _) => Err(BadShell::Fails(shown, why(text))),
        (_, Some(text)) => not_known(why(text)),
        _ => Ok(Some(format!(
            "its shell {shown} runs no command, as `ssh ACCOUNT COMMAND` has it run one: whether it lets anybody work was not tried"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(shell: &str) -> PasswdEntry {
        let line = format!("root:x:0:0::/root:{shell}\n");
        crate::accounts::Accounts::parse(line.as_bytes()).entries.remove(0)
    }

    #[test]
    fn a_shell_that_is_missing_or_lets_nobody_work_is_told() {
        for shell in ["/bin/sh", ""] {
            assert_eq!(bad(&with(shell)), None);
        }
        for shell in ["/nonexistent/sh", "/etc/passwd"] {
            assert!(matches!(bad(&with(shell)), Some(BadShell::Missing(_))), "{shell}");
        }
        for shell in ["/bin/false", "/bin/true", "/bin/sync"] {
            assert!(matches!(bad(&with(shell)), Some(BadShell::Refuses(_))), "{shell}");
        }
    }

    #[test]
    fn a_shell_that_does_not_run_is_told_and_one_that_runs_nothing_is_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("shell");
        let shell = |text: &str| {
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
            run(&with(path.to_str().expect("a path")))
        };
        assert_eq!(run(&with("/bin/sh")), Ok(None));
        assert!(matches!(shell("#!/nonexistent\n"), Err(BadShell::Fails(_, why)) if why.contains("No such file")));
        assert!(matches!(shell("#!/bin/sh\necho a menu\n"), Ok(Some(note)) if note.contains("runs no command")));
    }
}
