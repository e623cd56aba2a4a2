//! What the daemon knows of the host around it: accounts, sshd's and PAM's configuration. Read anew when it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use record::{Account, ArtifactType, Draft};

use super::{
    Ending, Engine,
    homes::{Command, HomeSpec, KeyFilePath, Territory},
};
use crate::{
    host::{
        accounts::{Accounts, PasswdEntry},
        clock::{Now, local_zone},
        key_store::KEY_STORE,
        pam,
        sshd::{
            effective, listener,
            scan::{self, Scan},
        },
    },
    keys::store::ExpiryStyle,
    policy::{
        grant::{Grant, Origin},
        rendered,
        time::Deadline,
    },
    trigger::Place,
};

/// The host as last read.
#[derive(Debug)]
pub(crate) struct World {
    boot_id: String,
    accounts: Accounts,
    uids: BTreeMap<Account, u32>,
    sshd: Vec<Scan>,
    pam: [u8; 32],
    version: Option<(u32, u32)>,
}

/// The first OpenSSH that takes an `expiry-time` in UTC (release notes of 9.1).
const UTC_EXPIRY: (u32, u32) = (9, 1);
/// The first OpenSSH whose `AuthorizedKeysFile` may be a glob (release notes of 10.0).
const GLOBS: (u32, u32) = (10, 0);

impl World {
    /// Reads everything. What cannot be read is as if it were empty: nobody gets in by it, and it is said.
    pub(crate) fn read(boot_id: &str) -> Self {
        let accounts = Accounts::read().unwrap_or_else(|error| {
            tracing::error!(%error, "the accounts cannot be read: nobody gets in");
            Accounts::default()
        });
        let mut uids = BTreeMap::new();
        for entry in &accounts.entries {
            // Of two lines with one name the first counts, as for getpwnam(3) and so for sshd.
            if let Some(account) = entry.name.account() {
                uids.entry(account.clone()).or_insert(entry.uid);
            }
        }
        let sshd = config_files().iter().map(|file| scan::scan(&scan::Disk, file)).collect();
        let version = effective::openssh_version(Path::new(listener::DEFAULT_BINARY));
        if let Err(error) = &version {
            tracing::warn!(%error, "sshd's version is not known: ends are written as for an old one");
        }
        Self { boot_id: boot_id.to_owned(), accounts, uids, sshd, pam: pam::digest(), version: version.ok() }
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn uid_of(&self, account: &Account) -> Option<u32> {
        self.uids.get(account).copied()
    }

    /// The user id of a name that need not be one which a grant can name.
    pub(crate) fn uid_by_name(&self, name: &str) -> Option<u32> {
        self.accounts.entries.iter().find(|entry| entry.name.as_str() == name).map(|entry| entry.uid)
    }

    /// The first account with this user id.
    pub(crate) fn account_by_uid(&self, uid: u32) -> Option<Account> {
        let entries = self.accounts.entries.iter().filter(|entry| entry.uid == uid);
        entries.filter_map(|entry| entry.name.account().cloned()).next()
    }

    pub(crate) fn entry(&self, account: &Account) -> Option<&PasswdEntry> {
        self.accounts.by_name(account)
    }

    pub(crate) fn accounts_count(&self) -> u64 {
        self.accounts.entries.len() as u64
    }

    pub(crate) fn version(&self) -> Option<String> {
        self.version.map(|(major, minor)| format!("OpenSSH {major}.{minor}"))
    }

    /// How an end is written so that this host's sshd reads it right (sshd(8), `expiry-time`).
    pub(crate) fn expiry_style(&self) -> ExpiryStyle {
        match self.version {
            Some(version) if version >= UTC_EXPIRY => ExpiryStyle::Utc,
            _ => ExpiryStyle::LocalRoundedDown(local_zone()),
        }
    }

    /// Which parts differ from an earlier reading, as words for the record.
    fn differs_from(&self, before: &Self) -> Vec<&'static str> {
        let digests = |world: &Self| world.sshd.iter().map(|scan| scan.digest).collect::<Vec<_>>();
        let parts = [
            ("accounts", self.accounts != before.accounts),
            ("sshd", digests(self) != digests(before) || self.version != before.version),
            ("pam", self.pam != before.pam),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(word, _)| word).collect()
    }

    /// Every pattern of key files that any sshd's configuration names or could name, without our own store's.
    fn key_file_patterns(&self) -> BTreeSet<String> {
        let mut patterns: BTreeSet<String> = self.sshd.iter().flat_map(Scan::key_file_patterns).collect();
        patterns.extend(scan::DEFAULT_KEY_FILES.map(str::to_owned));
        patterns.retain(|pattern| !Path::new(pattern).starts_with(KEY_STORE));
        patterns
    }

    /// Where one account's keys could stand outside the store.
    fn key_files(&self, entry: &PasswdEntry, patterns: &BTreeSet<String>) -> Vec<KeyFilePath> {
        let globs = self.version.is_none_or(|version| version >= GLOBS);
        let expanded = patterns.iter().filter_map(|p| scan::expand(p, entry.name.as_str(), &entry.home, entry.uid));
        let files = expanded.map(|file| match file.is_glob && globs {
            true => KeyFilePath::pattern(file.path),
            false => KeyFilePath::file(file.path),
        });
        files.collect()
    }

    /// Everything that is to be kept free of keys: all accounts but the exempt ones, and no file that one of those reads.
    fn territory(&self, exempt: &BTreeSet<Account>, mode: control::Mode) -> Territory {
        let patterns = self.key_file_patterns();
        let (own, shared): (BTreeSet<String>, BTreeSet<String>) = patterns.into_iter().partition(|p| is_per_account(p));
        let is_exempt = |entry: &&PasswdEntry| entry.name.account().is_some_and(|account| exempt.contains(account));
        let spared: Vec<KeyFilePath> =
            self.accounts.entries.iter().filter(is_exempt).flat_map(|entry| self.key_files(entry, &own)).collect();
        let homes = self.accounts.entries.iter().filter(|entry| !is_exempt(entry)).map(|entry| HomeSpec {
            account: entry.name.clone(),
            uid: entry.uid,
            home: entry.home.clone(),
            key_files: self.key_files(entry, &own).into_iter().filter(|file| !spared.contains(file)).collect(),
        });
        // A file that every account reads is an exempt account's too.
        let anybody_exempt = self.accounts.entries.iter().any(|entry| is_exempt(&entry));
        let shared = match self.accounts.entries.first() {
            Some(any) if !anybody_exempt => self.key_files(any, &shared),
            _ => Vec::new(),
        };
        Territory { mode, homes: homes.collect(), shared }
    }
}

/// What a word of [`World::differs_from`] stands for.
fn named(part: &str) -> &str {
    match part {
        "accounts" => "the accounts in passwd",
        "sshd" => "sshd's configuration",
        "pam" => "PAM's configuration",
        other => other,
    }
}

/// Whether a pattern means another file for each account.
fn is_per_account(pattern: &str) -> bool {
    !pattern.starts_with('/') || ["%h", "%u", "%U"].iter().any(|token| pattern.contains(token))
}

/// The configuration files of every sshd that runs, and the standard one.
fn config_files() -> BTreeSet<PathBuf> {
    let listeners = listener::sshd_listeners().unwrap_or_else(|error| {
        tracing::error!(%error, "running sshds cannot be found; the standard configuration is looked at");
        Vec::new()
    });
    let named =
        listeners.into_iter().filter(|listener| listener.uid == 0).map(|listener| listener.invocation.config_file);
    named.chain([PathBuf::from(listener::DEFAULT_CONFIG)]).collect()
}

impl Engine {
    /// A place outside homes was touched: what really changed is read anew, recorded and acted on.
    pub(crate) fn world_changed(&mut self, place: Place, now: Now) {
        let read = World::read(&self.world.boot_id);
        let before = std::mem::replace(&mut self.world, read);
        let changed = self.world.differs_from(&before);
        if !changed.is_empty() {
            let sentence = format!(
                "changed on this host: {}",
                changed.iter().map(|part| named(part)).collect::<Vec<_>>().join(", ")
            );
            let only_accounts = changed == ["accounts"];
            let draft =
                self.by_changers(Draft::new(ArtifactType::SshdChanged, sentence), &changed).with("changed", changed);
            if only_accounts {
                // Anybody can change their own entry as often as they like (chfn(1), chsh(1)).
                self.recorder.note_often(draft, 1, now);
            } else {
                self.recorder.note(draft);
            }
            self.back_grants(now);
            self.tell_homes();
            self.attest_soon(only_accounts, now);
        }
        if place == Place::Anywhere || self.enforces() || (self.config.mode == control::Mode::Enforce) {
            self.settle_mode(now);
        }
        self.pass(now);
    }

    /// Ends grants that configuration and accounts no longer back, and makes those that the configuration renders.
    pub(crate) fn back_grants(&mut self, now: Now) {
        let config = self.config.clone();
        let changes = rendered::judge(&config, &self.world.uids, self.grants.all(), now.wall);
        self.grants_unsaved |= !changes.moved.is_empty();
        self.grants.stand_at(changes.moved);
        for (id, reason) in changes.end {
            self.end_grants(&[id], &Ending::by_config(reason), now);
        }
        for (wanted, first_created) in changes.make {
            self.make_rendered(wanted, first_created, now);
        }
        self.grants.keep_contents(config.rendered.iter().map(rendered::content).collect());
    }

    fn make_rendered(
        &mut self,
        wanted: &crate::config::RenderedGrant,
        first_created: Option<jiff::Timestamp>,
        now: Now,
    ) {
        let Some(uid) = self.world.uid_of(&wanted.account) else { return };
        let created_at = first_created.unwrap_or(now.wall);
        let starts_at = wanted.starts_at.unwrap_or(created_at).max(created_at);
        let most = self.config.grants.max_duration;
        // What is left of its longest life, counted from when this content was first seen.
        let ceiling = jiff::SignedDuration::try_from(most)
            .ok()
            .and_then(|most| starts_at.checked_add(most).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let grant = Grant {
            id: self.new_grant_id(),
            person: wanted.person.clone(),
            account: wanted.account.clone(),
            uid,
            from: wanted.from.clone(),
            reason: wanted.reason.clone().unwrap_or_default(),
            origin: Origin::Config { place: wanted.place.to_string(), content: rendered::content(wanted) },
            created_at,
            starts_at,
            ends: Deadline::at(wanted.expires_at.min(ceiling), now),
            ceiling: Deadline::at(ceiling, now),
            recorded: false,
            end: None,
        };
        if grant.ends.has_passed(now) {
            return;
        }
        let sentence = format!(
            "{} may log in to {} until {:.0}, as {} says",
            grant.person, grant.account, grant.ends.wall, wanted.place
        );
        let draft = crate::operator::allow::grant_created(&grant, sentence);
        if let Err(error) = self.put_in_force(grant, draft, now) {
            tracing::error!(%error, place = %wanted.place, "a rendered grant could not be put in force; the next sweep tries again");
        }
    }

    /// Tells the homes thread which key files there are and whether to act on them.
    pub(crate) fn tell_homes(&self) {
        self.homes.send(Command::Territory(Arc::new(self.territory())));
    }

    pub(crate) fn territory(&self) -> Territory {
        let mode = if self.enforces() { control::Mode::Enforce } else { control::Mode::Observe };
        self.world.territory(self.exempt(), mode)
    }

    /// The directories to watch besides the fixed ones: wherever sshd's configuration was read from.
    #[must_use]
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        let dirs: BTreeSet<&PathBuf> = self.world.sshd.iter().flat_map(|scan| &scan.dirs).collect();
        dirs.into_iter().cloned().collect()
    }
}
