//! The keys in one file that sshd would read for an account, by its own rules for key files (`StrictModes`).

use std::path::Path;

use lockdown_core::keys::{file::lines, line::Line};

use crate::{
    admission::Candidate,
    paths::{Facts, Root, Sight},
};

/// As whom sshd reads a key file.
pub(super) struct Login<'a> {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: &'a Path,
    /// Whether nobody but the account is in a group, for a file of this owner's.
    pub(super) is_own_group: &'a dyn Fn(u32, u32) -> bool,
}

impl Login<'_> {
    /// Whether it has this permission (4: read, 1: search) by owner, group and mode; access lists are not looked at.
    fn may(&self, permission: u32, there: &Facts) -> bool {
        let bits = match () {
            () if there.uid == self.uid => there.mode >> 6,
            () if self.groups.contains(&there.gid) => there.mode >> 3,
            () => there.mode,
        };
        self.uid == 0 || bits & permission != 0
    }

    /// Whether `StrictModes` takes it, as Debian's sshd has it (user-group-modes.patch): it is the account's or root's, and
    /// nobody else can write it.
    fn trusts(&self, there: &Facts) -> bool {
        let group_is_own = || (self.is_own_group)(there.gid, there.uid);
        [0, self.uid].contains(&there.uid) && there.mode & 0o002 == 0 && (there.mode & 0o020 == 0 || group_is_own())
    }
}

/// The keys in one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) keys: Vec<Candidate>,
    /// How many of them run a command instead of a shell.
    pub(super) commands: usize,
    /// How many of them count from some addresses only.
    pub(super) from: usize,
}

/// The keys in a file that sshd would read.
pub(super) fn file_is_usable(root: &Root, path: &Path, login: &Login<'_>, strict: bool) -> Result<Keys, &'static str> {
    let real = root.resolve(path).map_err(|_| "is behind a symbolic link that a user can change")?;
    let mut content = Vec::new();
    let facts = match root.look(&real, &mut content) {
        Sight::File(facts) => facts,
        Sight::Absent => return Err("is not there"),
        Sight::Link => return Err("is a symbolic link"),
        Sight::Inert => return Err("is not a regular file"),
        Sight::Long(_) => return Err("is too long"),
        Sight::Unreadable(_) => return Err("cannot be read"),
    };
    let entries: Vec<_> = lines(&content)
        .filter_map(|line| match line {
            Line::Entry(entry) => Some(entry),
            _ => None,
        })
        .collect();
    if entries.is_empty() {
        return Err("has no key in it");
    }
    // A key with an expiry-time= is none for an emergency: whether it has passed depends on the day.
    let entries: Vec<_> = entries.into_iter().filter(|entry| !entry.options.expires).collect();
    if entries.is_empty() {
        return Err("has only keys with an expiry-time= in it");
    }
    if !login.may(4, &facts) {
        return Err("cannot be read by the account, as which sshd reads it: give it to the account (chown)");
    }
    if strict && !login.trusts(&facts) {
        return Err("is another's, or writable by others (StrictModes)");
    }
    let searchable = |dir: &Path| root.identify(dir).is_ok_and(|there| login.may(1, &there));
    if !real.ancestors().skip(1).all(searchable) {
        return Err(
            "is in a directory that the account, as which sshd reads it, cannot search: mend its owner or mode",
        );
    }
    // As in sshd's safe_path: every directory, up to the home or to the root.
    let home = root.resolve(login.home).unwrap_or_else(|_| login.home.to_owned());
    for dir in real.ancestors().skip(1) {
        match root.identify(dir) {
            Ok(facts) if !strict || login.trusts(&facts) => {}
            _ => return Err("is in a directory that is another's, or writable by others (StrictModes)"),
        }
        if dir == home {
            break;
        }
    }
    let commands = entries.iter().filter(|entry| entry.options.command).count();
    let from = entries.iter().filter(|entry| entry.options.from).count();
    let candidates = entries.into_iter();
    let keys = candidates.map(|entry| Candidate { key: entry.key, authority: entry.options.cert_authority }).collect();
    Ok(Keys { keys, commands, from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBY3dtgj1bMXVN7BAh9P0lHfvlAwQXBZPvMd1ByKv4zD a\n";

    #[test]
    fn a_key_file_is_usable_only_as_strictmodes_would_have_it() {
        let home = tempfile::tempdir().expect("a home");
        let root = Root::open(Path::new("/")).expect("/");
        let own = fs::metadata(home.path()).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).expect("an owner");
        let (dir, path) = (home.path().join(".ssh"), home.path().join(".ssh/authorized_keys"));
        let with_group = |is_own_group: &dyn Fn(u32, u32) -> bool, strict| {
            let login = Login { uid: own, groups: Vec::new(), home: home.path(), is_own_group };
            file_is_usable(&root, &path, &login, strict)
        };
        let usable = |strict| with_group(&|_, _| false, strict);
        assert_eq!(usable(true), Err("is not there"));
        fs::create_dir(&dir).expect("a directory");
        fs::write(&path, "# none\n").expect("a file");
        assert_eq!(usable(true), Err("has no key in it"));
        fs::write(&path, KEY).expect("a file");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(&path, 0o600);
        mode(&dir, 0o700);
        let found = usable(true).expect("a key");
        let [Candidate { key, authority: false }] = found.keys.as_slice() else { panic!("{found:?}") };
        assert_eq!((key.algorithm().as_str(), found.commands), ("ssh-ed25519", 0));
        fs::write(&path, format!("{KEY}command=\"/usr/bin/recorder\" {KEY}")).expect("a file");
        let found = usable(true).expect("two keys");
        assert_eq!((found.keys.len(), found.commands), (2, 1));
        mode(&path, 0o620);
        assert!(usable(true).is_err());
        assert!(usable(false).is_ok());
        mode(&path, 0o600);
        mode(&dir, 0o770);
        assert!(usable(true).is_err() && with_group(&|_, owner| owner == own, true).is_ok());
        mode(&dir, 0o772);
        assert!(with_group(&|_, _| true, true).is_err());
        fs::rename(&path, dir.join("moved")).expect("moved");
        std::os::unix::fs::symlink(dir.join("moved"), &path).expect("a link");
        assert!(usable(false).is_err());
    }
}
