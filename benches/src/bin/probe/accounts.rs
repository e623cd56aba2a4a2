//! Accounts by the thousand, written straight into passwd: useradd(8) would take minutes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};

use crate::Failure;

/// User id of the first account.
const FIRST_UID: u32 = 20_000;
/// What stands in both key files of each account: nothing that opens anything, so that they stay and are read.
const HARMLESS: &str = "# Nobody's keys are kept here any more; they are granted by lockdownd.\n";
/// The key files that sshd reads by default.
pub(crate) const KEY_FILES: [&str; 2] = ["authorized_keys", "authorized_keys2"];

/// The home of account `index`.
pub(crate) fn home(index: u32) -> String {
    format!("/home/b{index:05}")
}

/// The directory that the floor watches in place of account `index`'s.
pub(crate) fn floor_directory(index: u32) -> String {
    format!("/home/.floor/b{index:05}")
}

/// Sees to it that accounts 0 to `count` are there, with homes and harmless key files, and as many directories of the
/// floor.
pub(crate) fn make(count: u32) -> Result<(), Failure> {
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    for index in 0..count {
        let is_new = !fs::exists(home(index))?;
        if is_new {
            make_home(index)?;
        }
        put_key_files(index)?;
        if !is_new {
            continue;
        }
        let uid = FIRST_UID + index;
        writeln!(passwd, "b{index:05}:x:{uid}:{uid}::{}:/bin/bash", home(index))?;
    }
    // At once, as an account tool does it.
    fs::write("/etc/passwd.new", passwd)?;
    fs::set_permissions("/etc/passwd.new", fs::Permissions::from_mode(0o644))?;
    fs::rename("/etc/passwd.new", "/etc/passwd")?;
    Ok(())
}

fn make_home(index: u32) -> Result<(), Failure> {
    let owner = Some(FIRST_UID + index);
    let ssh = format!("{}/.ssh", home(index));
    for directory in [&home(index), &ssh] {
        fs::DirBuilder::new().mode(0o700).create(directory)?;
        chown(directory, owner, owner)?;
    }
    fs::create_dir_all(floor_directory(index))?;
    Ok(())
}

/// Both key files, where they are missing.
fn put_key_files(index: u32) -> Result<(), Failure> {
    let owner = Some(FIRST_UID + index);
    for name in KEY_FILES {
        let file = format!("{}/.ssh/{name}", home(index));
        if !fs::exists(&file)? {
            fs::write(&file, HARMLESS)?;
            chown(&file, owner, owner)?;
        }
    }
    Ok(())
}
