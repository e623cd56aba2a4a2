//! What keeps out everybody but exempt accounts, whatever is granted: the gate that PAM runs, the socket where it asks, and
//! the directories that sshd walks to the key store.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use control::gate::{PROBE, PROBED, SOCKET};

use crate::{
    child::{self, Bounds},
    doors::{self, RUN},
    key_store::KEY_STORE,
    pam::GATE,
};

/// What the gate may take to say that it is the gate; it takes a millisecond.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), output: 4_096 };

/// What keeps them out, a sentence each with what to do. Runs the gate.
#[must_use]
pub fn kept_out() -> Vec<String> {
    let directories = Path::new(KEY_STORE).ancestors().filter_map(closed);
    let seen = covered(Path::new(RUN), &Path::new("/proc/1/root").join(RUN.trim_start_matches('/')));
    gate(Path::new(GATE)).into_iter().chain(socket(Path::new(SOCKET))).chain(directories).chain(seen).collect()
}

/// Whether a mount that came or went lies between what the daemon sees here and what everybody else does.
fn covered(here: &Path, there: &Path) -> Option<String> {
    let [ours, others] = [here, there].map(|path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())));
    let name = here.display();
    let differs = || {
        format!(
            "{name} is another directory to the daemon than to sshd: something was mounted there; systemctl restart lockdownd"
        )
    };
    (ours.ok()? != others.ok()?).then(differs)
}

/// What is wrong with the gate's program.
fn gate(program: &Path) -> Option<String> {
    let name = program.display();
    let again = "install the package again: apt-get install --reinstall lockdownd";
    match child::run(child::command(program, [PROBE]), BOUNDS) {
        Ok(Some(output)) if output.stdout.starts_with(PROBED.as_bytes()) => None,
        Ok(Some(_)) => Some(format!("{name} is not the login gate: {again}")),
        Ok(None) => Some(format!("{name} does not end: {again}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("{name} is missing: {again}")),
        Err(error) => Some(format!("{name} cannot be run ({error}): chmod 755 {name}, or {again}")),
    }
}

/// What is wrong with the socket. The daemon makes it again by itself where it can.
fn socket(path: &Path) -> Option<String> {
    let error = doors::is_answered(path).err()?;
    let name = path.display();
    Some(format!("nobody listens at {name} ({error}): systemctl restart lockdownd-gate.socket"))
}

/// What is wrong with one of the directories to the key store: sshd reads it as the account, and trusts no directory that
/// others may write.
fn closed(directory: &Path) -> Option<String> {
    let name = directory.display();
    match fs::symlink_metadata(directory) {
        Ok(meta) if !meta.is_dir() => Some(format!("{name} is no directory: make it one, and restart lockdownd")),
        Ok(meta) if meta.uid() != 0 || meta.mode() & 0o023 != 0o001 => {
            let mode = meta.mode() & 0o7777;
            Some(format!(
                "sshd cannot use {name} (owner {}, mode {mode:04o}) for keys: chown root {name} && chmod 755 {name}",
                meta.uid()
            ))
        }
        Ok(_) => None,
        Err(error) => Some(format!("{name} cannot be looked at ({error}): systemctl restart lockdownd")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_gate_that_is_missing_cannot_be_run_or_is_another_program_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("login-gate");
        assert!(gate(&program).expect("why").contains("is missing"));
        fs::write(&program, format!("#!/bin/sh\n[ \"$*\" = {PROBE} ] && echo '{PROBED} 1'; exit 1\n")).expect("a file");
        let mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(0o644);
        assert!(gate(&program).expect("why").contains("cannot be run"));
        mode(0o755);
        assert_eq!(gate(&program), None);
        fs::write(&program, "#!/bin/sh\nexit 0\n").expect("a file");
        assert!(gate(&program).expect("why").contains("is not the login gate"));
    }

    #[test]
    fn a_directory_that_is_another_one_to_others_is_said() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        assert_eq!(covered(one.path(), one.path()), None);
        assert!(covered(one.path(), other.path()).is_some_and(|why| why.contains("something was mounted there")));
        assert_eq!(covered(one.path(), Path::new("/nonexistent")), None, "not known");
    }

    #[test]
    fn a_socket_at_which_nobody_listens_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gate.sock");
        assert!(socket(&path).expect("why").contains("lockdownd-gate.socket"));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        assert_eq!(socket(&path), None);
        drop(listener);
        assert!(socket(&path).is_some());
    }

    #[test]
    fn a_directory_that_sshd_cannot_search_or_does_not_trust_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, is_closed) in [(0o755, false), (0o711, false), (0o700, true), (0o777, true), (0o775, true)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).expect("a mode");
            assert_eq!(closed(directory.path()).is_some(), is_closed, "{mode:o}");
        }
        assert!(closed(Path::new("/nonexistent")).is_some() && closed(Path::new("/dev/null")).is_some());
    }
}
