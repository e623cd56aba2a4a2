//! Whether an exempt account could really log in with a key, by sshd's own rules for key files (`StrictModes`).

use std::path::Path;

use super::{ExemptAccount, Obstacle};
use crate::{
    host::{
        paths::{Root, Sight},
        sshd::{
            drop_in::{self, ExemptKeyFiles},
            effective::{Effective, Spec, effective},
            glob,
            listener::Invocation,
            scan::expand,
        },
    },
    keys::file::survey,
};

/// What is in the way if none of them could log in.
pub(super) fn obstacle(exempt: &[ExemptAccount], files: &ExemptKeyFiles) -> Option<Obstacle> {
    if exempt.is_empty() {
        return Some(Obstacle::NobodyExempt);
    }
    let mut why = Vec::new();
    for account in exempt {
        match usable(account, files.get(&account.account).map_or(&[], Vec::as_slice)) {
            Ok(()) => return None,
            Err(reason) => why.push(format!("{}: {reason}", account.account)),
        }
    }
    Some(Obstacle::NoUsableExempt { why })
}

/// Each key file that sshd would read for an exempt account by its own configuration, with the keys' fingerprints.
pub(super) fn keys(exempt: &ExemptAccount) -> Vec<(String, Vec<String>)> {
    let Some((uid, home)) = &exempt.login else { return Vec::new() };
    let name = exempt.account.clone();
    let (Ok(files), Ok(root)) =
        (drop_in::exempt_key_files(&Invocation::standard(), &[name]), Root::open(Path::new("/")))
    else {
        return Vec::new();
    };
    let of_file = |pattern: &String| {
        let path = expand(pattern, exempt.account.as_str(), home, *uid)?.path;
        let mut content = Vec::new();
        let Sight::File(_) = root.look(&root.resolve(&path).ok()?, &mut content) else { return None };
        let keys = survey(&content).fingerprints.iter().map(ToString::to_string).collect();
        Some((record::outside(path.as_os_str().as_encoded_bytes()), keys))
    };
    files.values().flatten().filter_map(of_file).collect()
}

fn usable(exempt: &ExemptAccount, patterns: &[String]) -> Result<(), String> {
    let name = exempt.account.as_str();
    let (uid, home) = exempt.login.as_ref().ok_or("there is no such account")?;
    let effective = effective(&Invocation::standard(), &Spec::of(name)).map_err(|error| error.to_string())?;
    may_log_in(&effective, name, *uid)?;
    let root = Root::open(Path::new("/")).map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    for pattern in patterns {
        let Some(key_path) = expand(pattern, name, home, *uid) else { continue };
        // OpenSSH 10 may take it as a pattern; what stands there by that very name is read by every release.
        match file_is_usable(&root, &key_path.path, home, *uid, effective.is_yes("strictmodes")) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("{} {reason}", key_path.path.display())),
        }
    }
    match reasons.is_empty() {
        true => Err("sshd reads keys for it from no file".to_owned()),
        false => Err(reasons.join(", ")),
    }
}

/// What sshd refuses before it looks at keys.
fn may_log_in(effective: &Effective, name: &str, uid: u32) -> Result<(), String> {
    if !effective.is_yes("pubkeyauthentication") {
        return Err("PubkeyAuthentication is off".to_owned());
    }
    if uid == 0 && effective.get("permitrootlogin") == Some("no") {
        return Err("PermitRootLogin is off".to_owned());
    }
    let listed = |keyword: &str| {
        let of = |pattern: &str| glob::matches(pattern.split('@').next().unwrap_or_default(), name);
        let mut patterns = effective.all(keyword).flat_map(str::split_ascii_whitespace).peekable();
        (patterns.peek().is_some(), patterns.any(of))
    };
    if listed("denyusers").1 {
        return Err("DenyUsers names it".to_owned());
    }
    match listed("allowusers") {
        (true, false) => Err("AllowUsers does not name it".to_owned()),
        _ => Ok(()),
    }
}

fn file_is_usable(root: &Root, path: &Path, home: &Path, uid: u32, strict: bool) -> Result<(), &'static str> {
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
    if survey(&content).entries == 0 {
        return Err("has no key in it");
    }
    let is_safe = |uid_there: u32, mode: u32| (uid_there == 0 || uid_there == uid) && mode & 0o022 == 0;
    if strict && !is_safe(facts.uid, facts.mode) {
        return Err("is another's, or writable by others (StrictModes)");
    }
    // As in sshd's safe_path: every directory, up to the home or to the root.
    let home = root.resolve(home).unwrap_or_else(|_| home.to_owned());
    for dir in real.ancestors().skip(1) {
        match root.identify(dir) {
            Ok(facts) if !strict || is_safe(facts.uid, facts.mode) => {}
            _ => return Err("is in a directory that is another's, or writable by others (StrictModes)"),
        }
        if dir == home {
            break;
        }
    }
    Ok(())
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
        let usable = |strict| file_is_usable(&root, &path, home.path(), own, strict);
        assert_eq!(usable(true), Err("is not there"));
        fs::create_dir(&dir).expect("a directory");
        fs::write(&path, "# none\n").expect("a file");
        assert_eq!(usable(true), Err("has no key in it"));
        fs::write(&path, KEY).expect("a file");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(&path, 0o600);
        mode(&dir, 0o700);
        assert_eq!(usable(true), Ok(()));
        mode(&path, 0o620);
        assert!(usable(true).is_err());
        assert_eq!(usable(false), Ok(()));
        mode(&path, 0o600);
        mode(&dir, 0o770);
        assert!(usable(true).is_err());
        fs::rename(&path, dir.join("moved")).expect("moved");
        std::os::unix::fs::symlink(dir.join("moved"), &path).expect("a link");
        assert!(usable(false).is_err());
    }

    #[test]
    fn what_sshd_refuses_before_any_key_is_found() {
        let with = |text: &str| may_log_in(&Effective::parse(&format!("pubkeyauthentication yes\n{text}")), "root", 0);
        assert!(with("").is_ok());
        assert!(with("allowusers root@10.0.0.0/8\n").is_ok());
        assert!(with("allowusers r* anna\n").is_ok());
        for text in ["permitrootlogin no", "denyusers ro?t", "allowusers anna\nallowusers frank"] {
            assert!(with(text).is_err(), "{text}");
        }
        assert!(may_log_in(&Effective::parse("pubkeyauthentication no"), "a", 1).is_err());
    }
}
