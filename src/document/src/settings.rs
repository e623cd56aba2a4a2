//! `[stack]` of the configuration: the root of trust, written by root. Without it no document is accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use record::{Fingerprint, Host, Person, Stack};
use serde::Deserialize;

use crate::{AccountName, Key, MAX_SIGNATURES, Organization, Unfit, roster::same_person};

/// The most keys for rosters, and the most automatic ones.
pub const MAX_ROSTER_KEYS: usize = 64;
/// The most fingerprints in `deny_keys`.
pub const MAX_DENY_KEYS: usize = 10_000;

/// How long the feed may be silent unless the configuration says otherwise.
pub const DEFAULT_MAX_SILENCE: Duration = Duration::from_secs(15 * 60);

/// `[stack]`, as it stands in the configuration. [`Settings::check`] makes it usable.
///
/// Server and client read it as it is; what a host has besides, they do not take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whose documents are taken.
    pub organization: Organization,
    /// Where a host's documents come from. The shipper reads it; nothing here depends on it.
    #[serde(skip)]
    pub feeds: Vec<String>,
    /// Keys that sign nothing any more, whatever the roster says.
    #[serde(default)]
    pub deny_keys: BTreeSet<Fingerprint>,
    /// Whether approvers may approve with keys that are in no security device, which a forwarded agent could use.
    #[serde(default)]
    pub plain_approvers: bool,
    /// For how long a host's feed may be silent.
    #[serde(skip, default = "max_silence")]
    pub max_silence: Duration,
    /// What becomes of a host's grants from documents then.
    #[serde(skip)]
    pub when_silent: WhenSilent,
    /// `[stack.roster]`
    pub roster: RosterTrust,
}

/// What becomes of grants from documents when the feed has not been heard for too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenSilent {
    /// They run to their own end.
    #[default]
    Keep,
    /// They end: a lockdown may be withheld.
    End,
}

fn max_silence() -> Duration {
    DEFAULT_MAX_SILENCE
}

/// `[stack.roster]`: whose word on the roster counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterTrust {
    /// How many different people have to sign a roster.
    #[serde(default = "one")]
    pub threshold: u64,
    /// The lowest version that is taken.
    #[serde(default)]
    pub min_version: u64,
    /// Keys whose rosters may differ in people of their own source alone.
    #[serde(default)]
    pub automatic: Vec<Key>,
    /// `[[stack.roster.key]]`
    #[serde(rename = "key")]
    pub keys: Vec<RosterKey>,
}

fn one() -> u64 {
    1
}

/// One `[[stack.roster.key]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterKey {
    /// Whose it is.
    pub person: Person,
    /// The key.
    pub key: Key,
}

/// Why `[stack]` cannot be used, and what would have worked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// 0.
    #[error("stack.roster.threshold is 0, and anybody could sign a roster: write 1, or better 2")]
    ThresholdZero,
    /// More than there are people.
    #[error(
        "stack.roster.threshold is {threshold}, and [[stack.roster.key]] names {people} different people: nobody could ever sign a roster"
    )]
    ThresholdTooHigh {
        /// What was asked for.
        threshold: u64,
        /// Who there is.
        people: usize,
    },
    /// A key that cannot sign.
    #[error("[[stack.roster.key]] of {person}: {unfit}")]
    Unfit {
        /// Whose.
        person: Person,
        /// Why not.
        unfit: Unfit,
    },
    /// An automatic key that cannot sign.
    #[error("stack.roster.automatic: {0}")]
    UnfitAutomatic(Unfit),
    /// One key for two purposes or two people.
    #[error("the key {0} is there twice in [stack.roster]: one key belongs to one person, or is automatic")]
    Twice(Fingerprint),
    /// One person in two spellings.
    #[error("[[stack.roster.key]] names {0} and {1}, which differ only in case: use one name for one person")]
    Case(Person, Person),
    /// Over a bound.
    #[error("{what} has {given} entries, and at most {most} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        given: usize,
        /// The bound.
        most: usize,
    },
}

impl Settings {
    /// Makes sure that they can be met, and cannot be met by nobody.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(self) -> Result<Checked, SettingsError> {
        let trust = &self.roster;
        for (what, given, most) in [
            ("[[stack.roster.key]]", trust.keys.len(), MAX_ROSTER_KEYS),
            ("stack.roster.automatic", trust.automatic.len(), MAX_ROSTER_KEYS),
            ("stack.deny_keys", self.deny_keys.len(), MAX_DENY_KEYS),
        ] {
            if given > most {
                return Err(SettingsError::TooMany { what, given, most });
            }
        }
        let mut seen = BTreeSet::new();
        for key in trust.keys.iter().map(|entry| &entry.key).chain(&trust.automatic) {
            if !seen.insert(key.fingerprint()) {
                return Err(SettingsError::Twice(key.fingerprint().clone()));
            }
        }
        for RosterKey { person, key } in &trust.keys {
            key.signs().map_err(|unfit| SettingsError::Unfit { person: person.clone(), unfit })?;
            let other = trust.keys.iter().find(|other| other.person != *person && same_person(&other.person, person));
            if let Some(other) = other {
                return Err(SettingsError::Case(person.clone(), other.person.clone()));
            }
        }
        trust.automatic.iter().try_for_each(|key| key.signs().map_err(SettingsError::UnfitAutomatic))?;
        let people = trust.keys.iter().map(|entry| &entry.person).collect::<BTreeSet<_>>().len().min(MAX_SIGNATURES);
        match usize::try_from(trust.threshold) {
            Ok(0) => Err(SettingsError::ThresholdZero),
            Ok(threshold) if threshold <= people => Ok(Checked { settings: self, threshold }),
            _ => Err(SettingsError::ThresholdTooHigh { threshold: trust.threshold, people }),
        }
    }
}

/// A `[stack]` that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    settings: Settings,
    threshold: usize,
}

impl Checked {
    /// How many different people have to sign a roster; never 0.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Every key whose signature may make a roster.
    #[must_use]
    pub fn roster_signers(&self) -> Vec<&Key> {
        self.roster.keys.iter().map(|entry| &entry.key).chain(&self.roster.automatic).collect()
    }
}

impl std::ops::Deref for Checked {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// What a host knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name. None for the server, which judges for every host of a stack: what hosts alone can know, it leaves to them.
    pub host: Option<Host>,
    /// The stack.
    pub stack: Stack,
    /// The people of its own configuration, who win over the roster.
    pub people: BTreeMap<Person, LocalPerson>,
}

/// A `[[person]]` of the host's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPerson {
    /// Their keys.
    pub keys: BTreeSet<Key>,
    /// The accounts that they may be given.
    pub accounts: BTreeSet<AccountName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

    #[test]
    fn server_and_client_read_the_table_that_hosts_have_too() {
        let read = |text: &str| toml::from_str::<Settings>(text).map_err(|error| error.to_string());
        let least = format!("organization = \"acme\"\n[[roster.key]]\nperson = \"ceo\"\nkey = \"{KEY}\"\n");
        let settings = read(&least).expect("good").check().expect("it can be met");
        assert_eq!((settings.threshold(), settings.plain_approvers), (1, false));
        assert_eq!(settings.max_silence, DEFAULT_MAX_SILENCE);
        for (bad, why) in [
            (least.replace("organization", "organisation"), "organisation"),
            (least.replace("[[roster.key]]", "feeds = []\n[[roster.key]]"), "feeds"),
            (least.replace("person", "persons"), "persons"),
            (least.replace("ssh-ed25519", "ssh-dss"), "ssh-dss"),
            (format!("threshold = 1\n{least}"), "threshold"),
        ] {
            assert!(read(&bad).is_err_and(|error| error.contains(why)), "{why}");
        }
    }
}
