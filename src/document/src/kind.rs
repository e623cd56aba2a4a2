//! The types of documents, and the namespaces in which they are signed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What kind of document something is: its member `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who there is, and who may approve what.
    Roster,
    /// Permission for one person on one account.
    Grant,
    /// A grant ends, or never begins.
    Revoke,
    /// All grants in its scope end.
    Lockdown,
    /// A lockdown does not hold any more.
    Lift,
    /// A client's answer to the server's challenge.
    Session,
    /// The server's statement of what its feed holds.
    Feed,
    /// A feeder's word on one look at its source.
    Run,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Roster, Self::Grant, Self::Revoke, Self::Lockdown, Self::Lift, Self::Session, Self::Feed, Self::Run];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Roster => "roster",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Lockdown => "lockdown",
            Self::Lift => "lift",
            Self::Session => "session",
            Self::Feed => "feed",
            Self::Run => "run",
        }
    }

    /// The kind that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The longest line, in bytes.
    #[must_use]
    pub fn max_line(self) -> usize {
        match self {
            Self::Roster => crate::MAX_ROSTER,
            _ => crate::MAX_DOCUMENT,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a signature is for, as in `ssh-keygen -Y sign -n`: `ssh-access-TYPE`. A signature for one is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// A document of this kind holds.
    Of(Kind),
    /// The person whom a grant is for asks for it, over the very line that approvers sign.
    Request,
}

impl Namespace {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Of(Kind::Roster) => "ssh-access-roster",
            Self::Of(Kind::Grant) => "ssh-access-grant",
            Self::Of(Kind::Revoke) => "ssh-access-revoke",
            Self::Of(Kind::Lockdown) => "ssh-access-lockdown",
            Self::Of(Kind::Lift) => "ssh-access-lift",
            Self::Of(Kind::Session) => "ssh-access-session",
            Self::Of(Kind::Feed) => "ssh-access-feed",
            Self::Of(Kind::Run) => "ssh-access-run",
            Self::Request => "ssh-access-request",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The member `v`: 1, and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct V1;

/// The version of the format.
const VERSION: u64 = 1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(VERSION)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            VERSION => Ok(Self),
            other => Err(D::Error::custom(format_args!("v is {other}, and only {VERSION} is known"))),
        }
    }
}

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $kind:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name;

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(Kind::$kind.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                if word == Kind::$kind.as_str() {
                    Ok(Self)
                } else {
                    Err(D::Error::custom(format_args!("type is not {}", Kind::$kind)))
                }
            }
        }
    )* };
}

types! {
    /// The member `type` of a roster.
    IsRoster = Roster,
    /// The member `type` of a grant.
    IsGrant = Grant,
    /// The member `type` of a revoke.
    IsRevoke = Revoke,
    /// The member `type` of a lockdown.
    IsLockdown = Lockdown,
    /// The member `type` of a lift.
    IsLift = Lift,
    /// The member `type` of a session.
    IsSession = Session,
    /// The member `type` of a feed's statement.
    IsFeed = Feed,
    /// The member `type` of a feeder's run.
    IsRun = Run,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_word_and_its_namespace() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.as_str()), Some(kind));
            assert_eq!(Namespace::Of(kind).as_str(), format!("ssh-access-{kind}"));
        }
        assert_eq!(Kind::from_word("request"), None);
    }
}
