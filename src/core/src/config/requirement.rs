//! The words of `[accounts.require]`: what a login to an account needs beside a grant.

use std::{collections::BTreeMap, fmt};

use record::Account;

use super::error::quoted;
use crate::keys::person::PersonKey;

/// The name that stands for every account.
pub(super) const EVERY_ACCOUNT: &str = "*";

/// What one entry of `[accounts.require]` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// One plain public key.
    Key,
    /// A key, and then keyboard-interactive.
    SecondMethod,
    /// A key in a device that has to be touched.
    Hardware,
    /// The same, unlocked by PIN or fingerprint.
    HardwarePin,
}

impl Requirement {
    const ALL: [Self; 4] = [Self::Key, Self::SecondMethod, Self::Hardware, Self::HardwarePin];

    /// The word as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::SecondMethod => "second_method",
            Self::Hardware => "hardware",
            Self::HardwarePin => "hardware_pin",
        }
    }
}

/// The requirement that a word stands for.
pub(super) fn requirement(text: &str) -> Result<Requirement, String> {
    Requirement::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
        format!(
            "{} is nothing that can be required; write \"key\", \"second_method\", \"hardware\" or \"hardware_pin\"",
            quoted(text)
        )
    })
}

/// `[accounts.require]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Require {
    /// What holds for every account that takes grants.
    pub everywhere: Option<Requirement>,
    /// What holds for one account besides.
    pub of: BTreeMap<Account, Requirement>,
}

impl Require {
    /// All that a login to this account needs.
    #[must_use]
    pub fn on(&self, account: &Account) -> Demand {
        self.everywhere.iter().chain(self.of.get(account)).fold(Demand::default(), |demand, one| demand.with(*one))
    }
}

/// What a login needs beside a grant and a key: of several entries that fit an account, each one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// keyboard-interactive beside the key.
    pub second_method: bool,
    /// A key that sits in a device, which is touched.
    pub hardware: bool,
    /// One that is unlocked by PIN or fingerprint besides.
    pub pin: bool,
}

impl Demand {
    /// What a rule of a roster asks for.
    #[must_use]
    pub fn of(with: document::LoginWith) -> Self {
        Self::default().with(match with {
            document::LoginWith::Key => Requirement::Key,
            document::LoginWith::SecondMethod => Requirement::SecondMethod,
            document::LoginWith::Hardware => Requirement::Hardware,
            document::LoginWith::HardwarePin => Requirement::HardwarePin,
        })
    }

    fn with(self, requirement: Requirement) -> Self {
        match requirement {
            Requirement::Key => self,
            Requirement::SecondMethod => Self { second_method: true, ..self },
            Requirement::Hardware => Self { hardware: true, ..self },
            Requirement::HardwarePin => Self { hardware: true, pin: true, ..self },
        }
    }

    /// What both ask for.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            second_method: self.second_method || other.second_method,
            hardware: self.hardware || other.hardware,
            pin: self.pin || other.pin,
        }
    }

    /// Whether anything beside a plain key is asked for.
    #[must_use]
    pub fn is_more_than_a_key(self) -> bool {
        self.second_method || self.hardware
    }

    /// Whether a key of this type may open the account.
    #[must_use]
    pub fn takes(self, key: &PersonKey) -> bool {
        !self.hardware || key.is_hardware()
    }

    /// The words of it, as in the configuration.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let hardware = self.hardware.then_some(if self.pin { Requirement::HardwarePin } else { Requirement::Hardware });
        let second = self.second_method.then_some(Requirement::SecondMethod);
        hardware.into_iter().chain(second).map(Requirement::as_str).collect()
    }

    /// The same for a record; nothing where a plain key does.
    #[must_use]
    pub fn for_record(self) -> Option<Vec<&'static str>> {
        self.is_more_than_a_key().then(|| self.words())
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match (self.hardware, self.pin) {
            (true, true) => "a key in a security device, unlocked by PIN or fingerprint",
            (true, false) => "a key in a security device, touched",
            (false, _) => "a key",
        };
        f.write_str(key)?;
        if self.second_method {
            f.write_str(" and keyboard-interactive after it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_fits_an_account_is_required_of_it() {
        let account = |name: &str| name.parse::<Account>().expect("a name");
        use Requirement::{Hardware, HardwarePin, Key, SecondMethod};
        for (everywhere, own, words) in [
            (None, None, &[][..]),
            (Some(Key), None, &[]),
            (None, Some(Hardware), &["hardware"]),
            (Some(Hardware), Some(Key), &["hardware"]),
            (Some(Hardware), Some(HardwarePin), &["hardware_pin"]),
            (Some(HardwarePin), Some(Hardware), &["hardware_pin"]),
            (Some(SecondMethod), Some(HardwarePin), &["hardware_pin", "second_method"]),
            (Some(SecondMethod), None, &["second_method"]),
        ] {
            let of = own.map(|own| (account("root"), own)).into_iter().collect();
            let require = Require { everywhere, of };
            assert_eq!(require.on(&account("root")).words(), words, "{everywhere:?} {own:?}");
            assert_eq!(require.on(&account("root")).is_more_than_a_key(), !words.is_empty());
            let elsewhere = Require { everywhere, of: BTreeMap::new() };
            assert_eq!(require.on(&account("ubuntu")), elsewhere.on(&account("root")));
        }
    }
}
