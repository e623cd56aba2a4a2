//! Whether an exempt account could really log in with a key: what sshd and PAM say of the account ([`Admission`]), and sshd's
//! own rules for key files (`StrictModes`).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use lockdown_core::keys::{
    file::{lines, survey},
    line::Line,
};
use record::{Account, Fingerprint};

use super::{ExemptKeys, Obstacle};
use crate::{
    accounts::Accounts,
    admission::{Admission, Candidate, Wanted},
    name_service,
    pam::{self, Step},
    paths::{Facts, Root, Sight},
    quarantine::{self, Content, Item, ItemId, ItemKind, QUARANTINE},
    sshd::{
        drop_in::{self, DropInError, ExemptKeyFiles},
        effective::{Spec, effective},
        listener::Invocation,
        scan::{Disk, expand},
    },
};

/// What is in the way if none of them could log in.
pub(super) fn obstacle(exempt: &[Account], files: &ExemptKeyFiles) -> Option<Obstacle> {
    if exempt.is_empty() {
        return Some(Obstacle::NobodyExempt);
    }
    let host = match Admission::read() {
        Ok(host) => host,
        Err(error) => return Some(Obstacle::NoUsableExempt { why: vec![error] }),
    };
    let mut why = Vec::new();
    for account in exempt {
        match usable(&host, account, files.get(account).map_or(&[], Vec::as_slice)) {
            Ok(_) => return None,
            Err(reason) => why.push(format!("{account}: {reason}")),
        }
    }
    Some(Obstacle::NoUsableExempt { why })
}

/// What those of them that could log in get instead of a shell, a sentence each.
pub(super) fn confined(exempt: &[Account]) -> Vec<String> {
    let files = drop_in::exempt_key_files(&Invocation::standard(), exempt).unwrap_or_default();
    // What cannot be read is an obstacle, and told as that.
    let Ok(host) = Admission::read() else { return Vec::new() };
    let of = |account: &Account| {
        let way = usable(&host, account, files.get(account).map_or(&[], Vec::as_slice));
        way.map(|way| way.confined).unwrap_or_default()
    };
    let told = exempt.iter().flat_map(|account| of(account).into_iter().map(move |what| (account, what)));
    told.map(|(account, what)| format!("the exempt account {account} gets in, and gets no plain shell: {what}"))
        .collect()
}

/// Whether one exempt account could log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescue {
    /// Which.
    pub account: Account,
    /// By what, else why not.
    pub found: Result<WayIn, String>,
}

/// By what an exempt account could log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WayIn {
    /// The keys in its files that are plain ones.
    pub keys: Vec<Fingerprint>,
    /// What it gets instead of a shell, a sentence each.
    pub confined: Vec<String>,
    /// What else is worth knowing, a sentence each.
    pub notes: Vec<String>,
}

/// Modules of the account step that let everybody by, or are judged.
const JUDGED_MODULES: [&str; 8] = [
    "pam_deny.so",
    "pam_exec.so",
    "pam_listfile.so",
    "pam_localuser.so",
    "pam_nologin.so",
    "pam_permit.so",
    "pam_succeed_if.so",
    "pam_unix.so",
];

pub(super) fn rescue(exempt: &[Account], enforces: bool) -> Result<Vec<Rescue>, String> {
    let files =
        drop_in::exempt_key_files(&Invocation::standard(), exempt).map_err(|error: DropInError| error.to_string())?;
    let host = Admission::read()?;
    let unjudged = unjudged_modules();
    let of = |account: &Account| {
        let patterns = files.get(account).map_or(&[][..], Vec::as_slice);
        let found = usable(&host, account, patterns).and_then(|way| {
            let effective = effective(&Invocation::standard(), &Spec::of(account.as_str()));
            let effective = effective.map_err(|error| error.to_string())?;
            let reads = effective.key_files();
            if reads != patterns {
                return Err(format!("sshd reads its keys from {}, not from {}", reads.join(" "), patterns.join(" ")));
            }
            let mut notes = way.confined.clone();
            notes.extend(asked_besides(effective.get("authenticationmethods").unwrap_or_default()));
            notes.extend(unjudged.clone());
            if enforces && !is_listed(account) {
                let list = control::gate::EXEMPT;
                notes.push(format!(
                    "{list} does not name it, so that it depends on the daemon: systemctl restart lockdownd"
                ));
            }
            Ok(WayIn { notes, ..way })
        });
        Rescue { account: account.clone(), found }
    };
    Ok(exempt.iter().map(of).collect())
}

/// What sshd asks for beside a key, where no key alone will do.
fn asked_besides(methods: &str) -> Option<String> {
    let mut lists = methods.split_ascii_whitespace();
    let by_key_alone = |list: &str| list == "any" || list == "publickey";
    (!methods.is_empty() && !lists.any(by_key_alone)).then(|| {
        format!("sshd asks for {methods} (AuthenticationMethods): what is asked for beside a key was not tried")
    })
}

/// What PAM's account step asks that cannot be told from here.
fn unjudged_modules() -> Option<String> {
    let stack = match pam::resolve(&Disk, "sshd", Step::Account) {
        Ok(stack) => stack,
        Err(why) => return Some(format!("what PAM makes of it cannot be told: {why}")),
    };
    let name = |module: &str| module.rsplit('/').next().unwrap_or(module).to_owned();
    let others: BTreeSet<String> = stack.lines.iter().map(|line| name(&line.module)).collect();
    let others: Vec<String> = others.into_iter().filter(|name| !JUDGED_MODULES.contains(&name.as_str())).collect();
    (!others.is_empty()).then(|| format!("PAM's account step asks {}, which was not tried", others.join(", ")))
}

/// Whether PAM itself lets the account by.
fn is_listed(account: &Account) -> bool {
    let list = std::fs::read_to_string(control::gate::EXEMPT).unwrap_or_default();
    list.lines().any(|line| line == account.as_str())
}

/// Each key file that sshd would read for an exempt account by its own configuration, with the keys' fingerprints, and
/// whether all of them could be read; `None` where it cannot be told which there are.
pub(super) fn keys(account: &Account) -> Option<(ExemptKeys, bool)> {
    let accounts = Accounts::read().ok()?;
    let files = drop_in::exempt_key_files(&Invocation::standard(), std::slice::from_ref(account)).ok()?;
    let root = Root::open(Path::new("/")).ok()?;
    let entry = name_service::entry(&accounts, account).ok()??;
    let (mut found, mut whole) = (ExemptKeys::new(), true);
    for pattern in files.values().flatten() {
        let Some(expanded) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
        let mut content = Vec::new();
        // sshd reads none that is behind a user's link, is no file or is not there.
        let Ok(real) = root.resolve(&expanded.path) else { continue };
        match root.look(&real, &mut content) {
            Sight::File(_) => {}
            // Its keys are not known; that it is there is.
            Sight::Long(_) => content.clear(),
            Sight::Unreadable(_) => {
                whole = false;
                continue;
            }
            Sight::Absent | Sight::Link | Sight::Inert => continue,
        }
        found.insert(shown(&expanded.path), fingerprints(&content));
    }
    Some((found, whole))
}

/// Where it shows that something changes on which it depends whether these accounts can log in.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The directories of their key files, what they are in up to the home, and that of a list of revoked keys.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Each key file by its real path: whose it is, and the path as it is told.
    pub(super) files: BTreeMap<PathBuf, (Account, String)>,
}

pub(super) fn places(exempt: &[Account]) -> Places {
    let mut places = Places::default();
    let found = &mut places.directories;
    let (Ok(accounts), Ok(root)) = (Accounts::read(), Root::open(Path::new("/"))) else { return places };
    let files = drop_in::exempt_key_files(&Invocation::standard(), exempt).unwrap_or_default();
    for (account, patterns) in &files {
        let Ok(Some(entry)) = name_service::entry(&accounts, account) else { continue };
        let rules = effective(&Invocation::standard(), &Spec::of(account.as_str())).ok();
        let revoked = rules.as_ref().and_then(|rules| Path::new(rules.get("revokedkeys")?).parent());
        found.extend(revoked.filter(|dir| dir.is_absolute()).and_then(|dir| root.resolve(dir).ok()));
        for pattern in patterns {
            let Some(key) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
            // A link is followed only where no user can change it, as for the keys themselves.
            let within = |dir: &&Path| dir.starts_with(&entry.home) && **dir != entry.home;
            let dirs = key.path.ancestors().skip(1).take_while(within).chain([entry.home.as_path()]);
            let outside = (!key.path.starts_with(&entry.home)).then(|| key.path.parent()).flatten();
            found.extend(dirs.chain(outside).filter_map(|dir| root.resolve(dir).ok()));
            if let Ok(real) = root.resolve(&key.path) {
                places.files.insert(real, (account.clone(), shown(&key.path)));
            }
        }
    }
    places
}

/// A key file's path, as it is told.
fn shown(path: &Path) -> String {
    record::outside(path.as_os_str().as_encoded_bytes())
}

/// The fingerprints of the keys in what was read of a key file.
pub(super) fn fingerprints(content: &[u8]) -> BTreeSet<String> {
    survey(content).fingerprints.iter().map(ToString::to_string).collect()
}

/// Whether sshd would let the account in by a key in one of these files.
fn usable(host: &Admission, account: &Account, patterns: &[String]) -> Result<WayIn, String> {
    // Before its keys: what has to be mended first is told first.
    let entry = host.entry(account).map_err(|error| error.to_string())?;
    let effective = host.check(&entry, &[], Wanted::Shell).map_err(|error| error.to_string())?;
    let root = Root::open(Path::new("/")).map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    let (mut keys, mut commands) = (Vec::new(), 0);
    for pattern in patterns {
        let Some(key_path) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
        // OpenSSH 10 takes it for a pattern, which matches its own name unless it has one of these.
        if host.globs() && key_path.path.as_os_str().as_encoded_bytes().iter().any(|byte| b"[\\".contains(byte)) {
            let path = key_path.path.display();
            reasons.push(format!(
                "{path} is taken for a pattern by OpenSSH 10 and later, for its [ or \\ (usermod -d moves the home)"
            ));
            continue;
        }
        let is_own_group = |group, owner| host.is_own_group(group, entry.uid, owner);
        let login =
            Login { uid: entry.uid, groups: host.groups_of(&entry), home: &entry.home, is_own_group: &is_own_group };
        match file_is_usable(&root, &key_path.path, &login, effective.is_yes("strictmodes")) {
            Ok(found) => {
                commands += found.commands;
                keys.extend(found.keys);
            }
            Err(reason) => reasons.push(format!("{} {reason}", key_path.path.display())),
        }
    }
    match (keys.is_empty(), reasons.is_empty()) {
        (true, true) => Err("sshd reads keys for it from no file".to_owned()),
        (true, false) => {
            let lost = removed_from(account).map(|id| format!(", or `lockdownctl quarantine restore {id}`"));
            let lost = lost.unwrap_or_default();
            Err(format!("{}: put a key into its authorized_keys{lost}", reasons.join(", ")))
        }
        (false, _) => {
            let effective = host.check(&entry, &keys, Wanted::Shell).map_err(|error| error.to_string())?;
            let mut confined = host.confinement(&effective, &entry);
            if commands == keys.len() {
                confined.push("each of its keys runs a command of its own (command=)".to_owned());
            }
            let plain = keys.iter().filter(|key| !key.authority);
            Ok(WayIn { keys: plain.map(|key| key.key.fingerprint()).collect(), confined, notes: Vec::new() })
        }
    }
}

/// What was removed last of this account's key files and can be given back.
fn removed_from(account: &Account) -> Option<ItemId> {
    let items = quarantine::list(Path::new(QUARANTINE)).ok()?;
    let whole = |item: &Item| item.kind == ItemKind::File && item.content == Content::Kept;
    let name = record::escape(account.as_str().as_bytes());
    let theirs = |item: &Item| item.account == name && whole(item) && !item.fingerprints.is_empty();
    items.into_iter().rfind(theirs).map(|item| item.id)
}

/// As whom sshd reads a key file.
struct Login<'a> {
    uid: u32,
    groups: Vec<u32>,
    home: &'a Path,
    /// Whether nobody but the account is in a group, for a file of this owner's.
    is_own_group: &'a dyn Fn(u32, u32) -> bool,
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
struct Keys {
    keys: Vec<Candidate>,
    /// How many of them run a command instead of a shell.
    commands: usize,
}

/// The keys in a file that sshd would read.
fn file_is_usable(root: &Root, path: &Path, login: &Login<'_>, strict: bool) -> Result<Keys, &'static str> {
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
    let candidates = entries.into_iter();
    let keys = candidates.map(|entry| Candidate { key: entry.key, authority: entry.options.cert_authority }).collect();
    Ok(Keys { keys, commands })
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
