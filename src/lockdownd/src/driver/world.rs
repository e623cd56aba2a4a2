//! What the daemon knows of the host around it: accounts, sshd's and PAM's configuration.

mod reading;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lockdown_core::{
    keys::store::ExpiryStyle,
    machine::Around,
    policy::observation::{Known, Missing},
};
use lockdown_host::{
    accounts::{AccountName, Accounts, PasswdEntry},
    clock::local_zone,
    file_state::FileState,
    key_store::KEY_STORE,
    sshd::scan::{self, Scan},
};
use record::Account;

pub use self::reading::Looked;
use super::homes::{HomeSpec, KeyFilePath, Territory};

/// The host as it counts after the last look: what a look did not see whole is as the one before had it.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// As passwd lists them.
    listed: Arc<Accounts>,
    /// Of which file, when it was last seen whole, and which account was its last.
    passwd: Option<(FileState, Option<AccountName>)>,
    missing: Missing<AccountName>,
    /// When passwd was first seen whole, on the boot clock.
    first_whole: Option<Duration>,
    /// Those which only another source of the name service switch knows.
    named: Vec<PasswdEntry>,
    named_missing: Missing<AccountName>,
    /// Whether the name service has answered since the start: before, an account that passwd lacks may be one of its.
    names_asked: bool,
    /// Sources of accounts that are not listed.
    sources: Vec<String>,
    known: Arc<Known>,
    config_files: BTreeSet<PathBuf>,
    sshd: Arc<Vec<Scan>>,
    /// Every pattern of key files that any sshd's configuration names or could name.
    patterns: Vec<String>,
    patterns_missing: Missing<String>,
    pam: Option<[u8; 32]>,
    program: Option<FileState>,
    version: Option<(u32, u32)>,
    /// What could not be seen whole, a sentence each.
    partial: Vec<String>,
}

/// The first OpenSSH that takes an `expiry-time` in UTC (release notes of 9.1).
const UTC_EXPIRY: (u32, u32) = (9, 1);
/// The first OpenSSH whose `AuthorizedKeysFile` may be a glob (release notes of 10.0).
const GLOBS: (u32, u32) = (10, 0);

impl World {
    /// What the core knows of it.
    pub(super) fn around(&self) -> Around {
        Around {
            known: Arc::clone(&self.known),
            style: Some(self.expiry_style()),
            globs: self.globs(),
            not_enumerated: self.sources.clone(),
            not_seen_whole: self.partial.clone(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &PasswdEntry> {
        self.listed.entries.iter().chain(&self.named)
    }

    /// The user id of a name that need not be one which a grant can name.
    pub(crate) fn uid_by_name(&self, name: &str) -> Option<u32> {
        self.entries().find(|entry| entry.name.as_str() == name).map(|entry| entry.uid)
    }

    /// The first account with this user id.
    pub(crate) fn account_by_uid(&self, uid: u32) -> Option<Account> {
        let entries = self.entries().filter(|entry| entry.uid == uid);
        entries.filter_map(|entry| entry.name.account().cloned()).next()
    }

    pub(crate) fn entry(&self, account: &Account) -> Option<&PasswdEntry> {
        self.entries().find(|entry| entry.name.account() == Some(account))
    }

    /// Accounts that are gone since `before`, each with the one that has its user id and home now.
    pub(super) fn renamed(&self, before: &Self) -> Vec<(Account, Account)> {
        let names: HashSet<&AccountName> = self.entries().map(|entry| &entry.name).collect();
        let gone: Vec<&PasswdEntry> = before.entries().filter(|entry| !names.contains(&entry.name)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let mut now: HashMap<(u32, &Path), &Account> = HashMap::new();
        for entry in self.entries() {
            if let Some(account) = entry.name.account() {
                now.entry((entry.uid, &entry.home)).or_insert(account);
            }
        }
        let renamed = |old: &PasswdEntry| {
            let new = *now.get(&(old.uid, old.home.as_path()))?;
            Some((old.name.account()?.clone(), new.clone()))
        };
        gone.into_iter().filter_map(renamed).collect()
    }

    /// The first account with this user id, as passwd has it.
    pub(crate) fn entry_by_uid(&self, uid: u32) -> Option<&PasswdEntry> {
        self.entries().find(|entry| entry.uid == uid)
    }

    pub(crate) fn accounts_count(&self) -> u64 {
        self.entries().count() as u64
    }

    /// Sources of accounts, by the names that nsswitch.conf has for them, of which only named accounts are known.
    pub(crate) fn not_enumerated(&self) -> &[String] {
        &self.sources
    }

    /// Every directory that sshd's configuration was read from.
    pub(super) fn directories(&self) -> BTreeSet<&PathBuf> {
        self.sshd.iter().flat_map(|scan| &scan.dirs).collect()
    }

    pub(crate) fn version(&self) -> Option<String> {
        self.version.map(|(major, minor)| format!("OpenSSH {major}.{minor}"))
    }

    /// Whether this host's sshd takes the name of an account for a pattern of key files.
    pub(crate) fn globs(&self) -> bool {
        self.version.is_none_or(|version| version >= GLOBS)
    }

    /// How an end is written so that this host's sshd reads it right (sshd(8), `expiry-time`).
    pub(crate) fn expiry_style(&self) -> ExpiryStyle {
        match self.version {
            Some(version) if version >= UTC_EXPIRY => ExpiryStyle::Utc,
            _ => ExpiryStyle::LocalRoundedDown(local_zone()),
        }
    }

    /// Which parts differ from an earlier look, as words for the record.
    fn differs_from(&self, before: &Self) -> Vec<&'static str> {
        let digests = |world: &Self| world.sshd.iter().map(|scan| scan.digest).collect::<Vec<_>>();
        let accounts_differ = self.listed != before.listed || self.named != before.named;
        let sshd_differs = digests(self) != digests(before)
            || self.patterns != before.patterns
            || self.version != before.version
            || self.program != before.program;
        let parts = [("accounts", accounts_differ), ("sshd", sshd_differs), ("pam", self.pam != before.pam)];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(word, _)| word).collect()
    }

    /// The patterns of key files, without our own store's.
    fn key_file_patterns(&self) -> BTreeSet<String> {
        let defaults = scan::DEFAULT_KEY_FILES.map(str::to_owned);
        let mut patterns: BTreeSet<String> = self.patterns.iter().cloned().chain(defaults).collect();
        patterns.retain(|pattern| !Path::new(pattern).starts_with(KEY_STORE));
        patterns
    }

    /// Where one account's keys could stand outside the store.
    fn key_files(&self, entry: &PasswdEntry, patterns: &BTreeSet<String>) -> Vec<KeyFilePath> {
        let globs = self.globs();
        let expanded = patterns.iter().filter_map(|p| scan::expand(p, entry.name.as_str(), &entry.home, entry.uid));
        let files = expanded.map(|file| match file.is_glob && globs {
            true => KeyFilePath::pattern(file.path),
            false => KeyFilePath::file(file.path),
        });
        files.collect()
    }

    /// Everything that is to be kept free of keys: all accounts but the exempt ones, and no file that one of those reads.
    pub(super) fn territory(&self, exempt: &BTreeSet<Account>, mode: control::Mode) -> Territory {
        let patterns = self.key_file_patterns();
        let (own, shared): (BTreeSet<String>, BTreeSet<String>) = patterns.into_iter().partition(|p| is_per_account(p));
        let is_exempt = |entry: &&PasswdEntry| entry.name.account().is_some_and(|account| exempt.contains(account));
        // Thousands, where as many accounts were just made.
        let spared: HashSet<KeyFilePath> =
            self.entries().filter(is_exempt).flat_map(|entry| self.key_files(entry, &own)).collect();
        let homes = self.entries().filter(|entry| !is_exempt(entry)).map(|entry| HomeSpec {
            account: entry.name.clone(),
            uid: entry.uid,
            home: entry.home.clone(),
            key_files: self.key_files(entry, &own).into_iter().filter(|file| !spared.contains(file)).collect(),
        });
        // A file that every account reads is an exempt account's too.
        let anybody_exempt = self.entries().any(|entry| is_exempt(&entry));
        let shared = match self.entries().next() {
            Some(any) if !anybody_exempt => self.key_files(any, &shared),
            _ => Vec::new(),
        };
        Territory { mode, homes: homes.collect(), shared }
    }
}

/// Whether a pattern means another file for each account.
fn is_per_account(pattern: &str) -> bool {
    !pattern.starts_with('/') || ["%h", "%u", "%U"].iter().any(|token| pattern.contains(token))
}
