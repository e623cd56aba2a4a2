//! Reads which accounts this machine has, from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! Every entry counts, system accounts included: sshd lets a `nologin` account authenticate and forward ports. A bad
//! line never stops the rest, and is never silently dropped. Nothing here asks the network.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use record::Account;
use serde::{Deserialize, Serialize};

use super::file_state::FileState;

/// Where accounts are listed.
pub const PASSWD: &str = "/etc/passwd";
/// Where groups are listed.
pub const GROUP: &str = "/etc/group";
/// The longest account or group file that is read, in bytes (32 MiB: some 400,000 accounts).
pub const MAX_FILE: u64 = 32 << 20;
/// Skipped lines that are named; more are only counted.
pub const MAX_NAMED_SKIPS: usize = 16;

/// Why the accounts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is longer than [`MAX_FILE`].
    #[error("{path}: longer than {MAX_FILE} bytes", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

/// What passwd calls an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccountName {
    /// A name that can be granted.
    Named(Account),
    /// A name that no grant and no record can hold, escaped for a screen; its home is swept all the same.
    Odd(String),
}

impl AccountName {
    /// The name as passwd holds it, or as an escaped name is shown.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Self {
        match std::str::from_utf8(raw).ok().and_then(|name| name.parse().ok()) {
            Some(account) => Self::Named(account),
            None => Self::Odd(record::escape(raw)),
        }
    }

    /// The account, if a grant can name it.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::Named(account) => Some(account),
            Self::Odd(_) => None,
        }
    }

    /// The name as text, safe for a screen.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Named(account) => account.as_str(),
            Self::Odd(escaped) => escaped,
        }
    }
}

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdEntry {
    /// The login name.
    pub name: AccountName,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the primary group.
    pub gid: u32,
    /// Home directory: absolute, else `/` as login(1) would use.
    pub home: PathBuf,
    /// Login shell; empty means `/bin/sh`.
    pub shell: PathBuf,
}

/// Every account of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// In the file's order. A name listed twice stands here twice: sshd takes the first, the sweep takes both homes.
    pub entries: Vec<PasswdEntry>,
    /// Lines that are no entry, as "line N: why", at most [`MAX_NAMED_SKIPS`].
    pub skipped: Vec<String>,
    /// How many lines were skipped in all.
    pub skipped_count: usize,
}

impl Accounts {
    /// Reads [`PASSWD`].
    ///
    /// # Errors
    /// [`AccountsError`] if the file cannot be read whole.
    pub fn read() -> Result<Self, AccountsError> {
        Ok(Self::parse(&read_passwd()?))
    }

    /// Parses the bytes of a passwd(5) file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut accounts = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match parse_line(line) {
                Ok(entry) => accounts.entries.push(entry),
                Err(why) => {
                    accounts.skipped_count += 1;
                    if accounts.skipped.len() < MAX_NAMED_SKIPS {
                        accounts.skipped.push(format!("line {}: {why}", index + 1));
                    }
                }
            }
        }
        accounts
    }

    /// The entry that getpwnam(3) would give for this name: the first.
    #[must_use]
    pub fn by_name(&self, account: &Account) -> Option<&PasswdEntry> {
        self.entries.iter().find(|entry| entry.name.account() == Some(account))
    }

    /// The entry that getpwuid(3) would give for this user id: the first.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<&PasswdEntry> {
        self.entries.iter().find(|entry| entry.uid == uid)
    }
}

fn parse_line(line: &[u8]) -> Result<PasswdEntry, &'static str> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, _password, uid, gid, _gecos, home, shell] = fields.as_slice() else {
        return Err("not seven fields");
    };
    if name.is_empty() || matches!(name[0], b'+' | b'-') {
        return Err("no login name");
    }
    let home = Path::new(OsStr::from_bytes(home));
    Ok(PasswdEntry {
        name: AccountName::parse(name),
        uid: parse_id(uid).ok_or("the user id is no number")?,
        gid: parse_id(gid).ok_or("the group id is no number")?,
        home: if home.is_absolute() { home.to_owned() } else { PathBuf::from("/") },
        shell: PathBuf::from(OsStr::from_bytes(shell)),
    })
}

fn parse_id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The bytes of [`PASSWD`], at most [`MAX_FILE`], and the file that they are of: `None` where it was written meanwhile.
///
/// # Errors
/// [`AccountsError`] if the file cannot be read whole.
pub fn read_passwd_of() -> Result<Option<(FileState, Vec<u8>)>, AccountsError> {
    let path = Path::new(PASSWD);
    let failed = |source| AccountsError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let state = |file: &File| file.metadata().map(|meta| FileState::from(&meta)).map_err(failed);
    let before = state(&file)?;
    let bytes = read_to_bound(&mut file, path)?;
    Ok((state(&file)? == before).then_some((before, bytes)))
}

/// The bytes of [`PASSWD`], at most [`MAX_FILE`].
///
/// # Errors
/// [`AccountsError`] if the file cannot be read whole.
pub fn read_passwd() -> Result<Vec<u8>, AccountsError> {
    read_bounded(Path::new(PASSWD))
}

/// Whether the account `entry` is a member of `group`, by its primary group or by name, as [`GROUP`] is now; an unknown
/// group has no members.
///
/// # Errors
/// [`AccountsError`] if the file cannot be read: then the answer must be taken as no.
pub fn is_member(entry: &PasswdEntry, group: &str) -> Result<bool, AccountsError> {
    Ok(group_holds(&read_bounded(Path::new(GROUP))?, group, entry))
}

/// Whether `group` in the bytes of a group(5) file is this account's primary one or lists its name.
fn group_holds(bytes: &[u8], group: &str, entry: &PasswdEntry) -> bool {
    let Some(account) = entry.name.account() else { return false };
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, _password, id, members] = fields.as_slice() else { return false };
        *name == group.as_bytes()
            && (parse_id(id) == Some(entry.gid)
                || members.split(|byte| *byte == b',').any(|member| member == account.as_str().as_bytes()))
    })
}

/// The groups in the text of a group(5) file: each one's name, its number and those whom it lists.
pub(super) fn groups(text: &str) -> Vec<(String, u32, Vec<String>)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields.as_slice() else { return None };
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Some(((*name).to_owned(), gid.parse().ok()?, members))
    };
    text.lines().filter_map(parse).collect()
}

pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, AccountsError> {
    let mut file = File::open(path).map_err(|source| AccountsError::Io { path: path.to_owned(), source })?;
    read_to_bound(&mut file, path)
}

fn read_to_bound(file: &mut File, path: &Path) -> Result<Vec<u8>, AccountsError> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|source| AccountsError::Io { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(AccountsError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n\
        \n# a comment\n\
        big:x:99999999999:1::/home/big:/bin/sh\n\
        od\xffd name:x:1001:1001::/home/odd:/bin/sh\n\
        +@netgroup::::::\n\
        frank:x:1000:1000:Frank:/home/frank:/bin/bash\n\
        frank:x:1002:1002:Second:/home/frank2:\n\
        rel:x:1003:1003::home:/bin/sh";

    #[test]
    fn a_bad_line_never_stops_the_rest() {
        let accounts = Accounts::parse(PASSWD);
        let names: Vec<&str> = accounts.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["root", "nobody", "od\\xffd name", "frank", "frank", "rel"]);
        assert_eq!(accounts.skipped_count, 3);
        assert_eq!(accounts.skipped[0], "line 2: not seven fields");
    }

    #[test]
    fn a_name_listed_twice_means_its_first_entry_and_both_homes_are_seen() {
        let accounts = Accounts::parse(PASSWD);
        let frank = "frank".parse().unwrap();
        assert_eq!(accounts.by_name(&frank).unwrap().uid, 1000);
        assert!(accounts.entries.iter().any(|entry| entry.home == Path::new("/home/frank2")));
        assert_eq!(accounts.by_uid(1002).unwrap().home, Path::new("/home/frank2"));
    }

    #[test]
    fn a_relative_home_is_the_root_directory() {
        assert_eq!(Accounts::parse(PASSWD).entries[5].home, Path::new("/"));
    }

    #[test]
    fn many_skipped_lines_are_counted_and_only_the_first_are_named() {
        let accounts = Accounts::parse("bad\n".repeat(1000).as_bytes());
        assert_eq!((accounts.skipped_count, accounts.skipped.len()), (1000, MAX_NAMED_SKIPS));
    }

    #[test]
    fn membership_is_by_primary_group_or_by_exact_name() {
        let group = b"adm:x:4:frank\nlockdown-operators:x:990:ops,anna\nlockdown-operators2:x:1:eve\n";
        let holds = |group_name: &str, name: &str, gid: u32| {
            let line = format!("{name}:x:1000:{gid}::/home/{name}:/bin/sh");
            group_holds(group, group_name, &Accounts::parse(line.as_bytes()).entries[0])
        };
        assert!(holds(control::OPERATORS, "frank", 990));
        assert!(holds(control::OPERATORS, "anna", 1000));
        assert!(!holds(control::OPERATORS, "ann", 1000));
        assert!(!holds(control::OPERATORS, "frank", 4));
        assert!(!holds(control::OPERATORS, "eve", 1));
        assert!(!holds("missing", "anna", 990));
    }

    #[test]
    fn this_machines_accounts_are_read() {
        assert!(Accounts::read().unwrap().by_uid(0).is_some());
        let root = Accounts::read().unwrap().by_uid(0).cloned().unwrap();
        assert!(!is_member(&root, "no-such-group").unwrap());
    }
}
