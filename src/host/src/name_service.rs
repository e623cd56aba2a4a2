//! Accounts that passwd does not list and the name service switch knows all the same: LDAP, SSSD, extrausers
//! (nsswitch.conf(5)).
//!
//! Only accounts that are asked for by name are ever learned of: a directory may hold a whole company, and many services
//! do not list what they have. getent(1) asks, in a process of its own that is nobody's and has a limit, so that no
//! module of theirs is ever loaded into the daemon.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    time::Duration,
};

use record::Account;

use super::{
    accounts::{Accounts, PasswdEntry},
    child::{self, Bounds},
};

/// What says which services are asked.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";
/// The most accounts that are asked for in one look.
pub const MAX_ASKED: usize = 1_024;
/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes read of an answer: some thousand entries.
const MAX_ANSWER: usize = 1 << 20;
/// The longest nsswitch.conf that is read, in bytes.
const MAX_NSSWITCH: u64 = 64 << 10;
/// Asks the name service switch.
const GETENT: &str = "/usr/bin/getent";
/// Asks it for the groups of an account.
const ID: &str = "/usr/bin/id";
/// getent(1): one or more of the names are not known.
const NOT_ALL_FOUND: i32 = 2;
/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

/// The sources of accounts besides passwd, by the names that nsswitch.conf has for them: what they hold is not listed.
///
/// # Errors
/// nsswitch.conf is there and cannot be read.
pub fn sources() -> io::Result<Vec<String>> {
    sources_of(&["passwd"])
}

/// The sources of these databases besides files.
fn sources_of(databases: &[&str]) -> io::Result<Vec<String>> {
    let file = match File::open(NSSWITCH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(MAX_NSSWITCH).read_to_end(&mut text)?;
    Ok(parse_sources(&String::from_utf8_lossy(&text), databases))
}

fn parse_sources(text: &str, databases: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((database, services)) = line.split_once(':') else { continue };
        if !databases.contains(&database.trim()) {
            continue;
        }
        // What to do after an answer stands in brackets.
        let mut in_brackets = false;
        for word in services.split_whitespace() {
            let is_action = in_brackets || word.starts_with('[');
            in_brackets = is_action && !word.ends_with(']');
            if !is_action && word != "files" && !found.iter().any(|known| known == word) {
                found.push(record::escape(word.as_bytes()));
            }
        }
    }
    found
}

/// The entries of those accounts that the name service switch knows, in no order.
///
/// # Errors
/// It could not be asked, or did not answer in time. An account whose service is away is as one that is not known.
pub fn ask(names: &BTreeSet<&Account>) -> io::Result<Vec<PasswdEntry>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.iter().take(MAX_ASKED).map(|name| name.as_str());
    let mut command = child::command(Path::new(GETENT), ["passwd", "--"].into_iter().chain(names));
    command.uid(NOBODY).gid(NOBODY);
    let Some(output) = child::run(command, Bounds { time: LIMIT, output: MAX_ANSWER })? else {
        let limit = control::format_duration(LIMIT);
        return Err(io::Error::other(format!("getent passwd did not answer within {limit}, or said too much")));
    };
    match output.status.code() {
        Some(0 | NOT_ALL_FOUND) => Ok(Accounts::parse(&output.stdout).entries),
        _ => Err(io::Error::other(format!("getent passwd failed: {}", output.status))),
    }
}

/// The account's entry: the first that passwd lists, else another source's; `None` where nobody knows the account.
///
/// # Errors
/// As [`ask`].
pub fn entry(listed: &Accounts, account: &Account) -> io::Result<Option<PasswdEntry>> {
    if let Some(entry) = listed.by_name(account) {
        return Ok(Some(entry.clone()));
    }
    let answer = ask(&BTreeSet::from([account]))?;
    Ok(answer.into_iter().find(|entry| entry.name.account() == Some(account)))
}

/// The names of the groups that an account is in; `None` where groups have no source but group(5).
///
/// # Errors
/// As [`ask`].
pub fn groups(account: &str) -> io::Result<Option<Vec<String>>> {
    if sources_of(&["group", "initgroups"])?.is_empty() {
        return Ok(None);
    }
    let mut command = child::command(Path::new(ID), ["-Gnz", "--", account]);
    command.uid(NOBODY).gid(NOBODY);
    let Some(output) = child::run(command, Bounds { time: LIMIT, output: MAX_ANSWER })? else {
        let limit = control::format_duration(LIMIT);
        return Err(io::Error::other(format!("id {account} did not answer within {limit}, or said too much")));
    };
    // It fails, and still names the others, where one group has no name.
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    match names.is_empty() {
        true => Err(io::Error::other(format!("id {account} failed: {}", output.status))),
        false => Ok(Some(names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_besides_files_is_named_once_and_what_stands_in_brackets_is_none() {
        for (text, sources) in [
            ("passwd: files\ngroup: files sss\n", &[][..]),
            ("passwd:\t\tfiles systemd # sss\n", &["systemd"]),
            ("# passwd: ldap\npasswd: sss [NOTFOUND=return SUCCESS=continue] files ldap sss\n", &["sss", "ldap"]),
            ("passwd : compat [ !UNAVAIL=return ] winbind", &["compat", "winbind"]),
            ("", &[]),
        ] {
            assert_eq!(parse_sources(text, &["passwd"]), sources, "{text}");
        }
    }

    #[test]
    fn sources_of_groups_are_those_of_both_databases() {
        let text = "passwd: files ldap\ngroup: files systemd\ninitgroups: files [SUCCESS=continue] sss\n";
        assert_eq!(parse_sources(text, &["group", "initgroups"]), ["systemd", "sss"]);
    }

    #[test]
    fn nobody_is_asked_for_where_no_account_is_named() {
        assert!(ask(&BTreeSet::new()).expect("nothing to ask").is_empty());
    }
}
