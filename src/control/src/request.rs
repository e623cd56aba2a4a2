//! Everything that may be asked, with the bounds on each part. What comes off a socket is used only after
//! [`Request::check`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use record::{Account, ArtifactType, GrantId, Person, SessionId};
use serde::{Deserialize, Serialize};

use crate::Cidr;

/// The most bytes in a reason: a sentence and a ticket, not a document.
pub const MAX_REASON: usize = 1000;
/// The most address ranges in one grant.
pub const MAX_FROM: usize = 16;
/// The most bytes in what is to be revoked.
pub const MAX_TARGET: usize = 64;
/// The most bytes in the id of a quarantined item.
pub const MAX_QUARANTINE_ID: usize = 64;
/// The shortest duration that can be asked for, in seconds.
pub const MIN_DURATION_SECS: u64 = 1;
/// The longest duration that can be asked for, in seconds (ten years of 365 days); the configuration bounds it further.
pub const MAX_DURATION_SECS: u64 = 10 * 365 * 86_400;
/// The most records in one answer.
pub const MAX_RECORDS: u32 = 500;
/// The most bytes of record lines in one answer. A line at most doubles inside JSON, so that twice this fits a frame;
/// the daemon stops before it and says that there is more.
pub const MAX_RECORDS_BYTES: usize = 500 * 1024;
/// How many records `lockdownctl` asks for at a time.
pub const DEFAULT_RECORDS: u32 = 100;

/// All that may be asked of the daemon over `control.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How things stand → [`crate::Answer::Status`].
    Status,
    /// Permit a person to log in → [`crate::Answer::Allow`].
    Allow(Allow),
    /// End one grant, all of a person's, or one session → [`crate::Answer::Revoke`].
    Revoke(Revoke),
    /// End every grant and granted session → [`crate::Answer::Lockdown`].
    Lockdown(Lockdown),
    /// Try enforce for a while → [`crate::Answer::Enforce`].
    Enforce(Enforce),
    /// List grants → [`crate::Answer::Grants`].
    Grants(Grants),
    /// List live sessions → [`crate::Answer::Sessions`].
    Sessions,
    /// List who exists → [`crate::Answer::People`].
    People,
    /// What enforce would change now → [`crate::Answer::Plan`].
    Plan,
    /// Read records that are on disk → [`crate::Answer::Records`].
    Records(Records),
    /// List what was removed and kept → [`crate::Answer::Quarantine`].
    QuarantineList,
    /// One kept item with its content → [`crate::Answer::QuarantineItem`].
    QuarantineShow(Quarantined),
    /// Put one kept item back → [`crate::Answer::Restore`].
    QuarantineRestore(Quarantined),
    /// Remove the keys of an account that was exempt until lately → [`crate::Answer::Retired`].
    QuarantineNow(FormerlyExempt),
    /// Whether each exempt account could log in now → [`crate::Answer::BreakGlass`].
    BreakGlassTest,
    /// Read the configuration again and put it in force → [`crate::Answer::Reload`].
    Reload,
    /// Look at every way in, or close those that are open → [`crate::Answer::WaysIn`].
    WaysIn(WaysIn),
    /// Take a signed document → [`crate::Answer::Apply`].
    Apply(Apply),
}

/// A signed document, from root's hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Its envelope, as it stands in the file.
    pub envelope: String,
}

/// What to do about the ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaysIn {
    /// List them, with the drop-in that would close them.
    Look,
    /// Put that drop-in into sshd's configuration.
    Close,
    /// Take it away.
    Undo,
}

/// Permission for `person` to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Who.
    pub person: Person,
    /// To which account; `None`: the account named as the person, else the only one they may have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<Account>,
    /// For how many seconds; `None`: the configured default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration: Option<u64>,
    /// From when on; `None`: now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Timestamp>,
    /// From which addresses only; empty: from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub from: Vec<Cidr>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The end of one grant, of all of a person's, or of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The id of a grant or session, or a person's name; see [`Target`].
    pub target: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What a [`Revoke`] ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One grant.
    Grant(GrantId),
    /// Every active or waiting grant of a person.
    Person(Person),
    /// One live session; its grant goes on.
    Session(SessionId),
}

impl Revoke {
    /// What is to end. A text that has the form of an id is one, even where a person is named so.
    ///
    /// # Errors
    /// [`CheckError::Target`] where it is none of these.
    pub fn target(&self) -> Result<Target, CheckError> {
        let bad = || CheckError::Target(self.target.chars().take(MAX_TARGET).collect());
        let text = &self.target;
        let id = text.parse().map(Target::Grant).or_else(|_| text.parse().map(Target::Session));
        id.or_else(|_| text.parse().map(Target::Person)).map_err(|_| bad())
    }
}

/// The end of every grant and granted session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockdown {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// A trial of enforce that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforce {
    /// For how long.
    pub seconds: u64,
}

/// Which grants to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Those that have ended too, as far as they are still kept.
    pub all: bool,
}

/// Which records to read: those after `after` that match every filter, in the ledger's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Only records with a higher `seq`; 0: from the first that is still kept.
    pub after: u64,
    /// Only records of this time or later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// Only records from before this time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// Only records of this person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<Person>,
    /// Only records of this account.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<Account>,
    /// Only records of this grant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant: Option<GrantId>,
    /// Only records of these types; empty: of every type.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub kinds: BTreeSet<ArtifactType>,
    /// At most so many in the answer: 1 to [`MAX_RECORDS`]. It may hold fewer and say that there are more.
    pub limit: u32,
}

/// An account that was exempt, whose keys are still kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerlyExempt {
    /// Which.
    pub account: Account,
}

/// One item in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Its id as `lockdownctl quarantine list` prints it: `[A-Za-z0-9-]`, so that it is one path component at most.
    pub id: String,
}

/// A request that breaks a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Too long a reason.
    #[error("the reason has {0} bytes; at most {MAX_REASON} are kept")]
    Reason(usize),
    /// Too many address ranges.
    #[error("{0} address ranges; at most {MAX_FROM} fit one grant")]
    From(usize),
    /// A duration outside the bounds.
    #[error("a duration of {0} seconds; give {MIN_DURATION_SECS} to {MAX_DURATION_SECS}")]
    Duration(u64),
    /// No grant, session or person.
    #[error(
        "{0:?} is no id of a grant (g- and 16 hex digits, as `lockdownctl grants` prints it) or of a session (s- and 16 \
         hex digits, as `lockdownctl sessions --json` prints it), and no person's name"
    )]
    Target(String),
    /// Too many or no records.
    #[error("a limit of {0} records; give 1 to {MAX_RECORDS}")]
    Limit(u32),
    /// No such form of id.
    #[error("{0:?} is no id of a quarantined item: take one that `lockdownctl quarantine list` prints")]
    Id(String),
}

impl Request {
    /// Checks every bound that the types themselves do not. The daemon calls this before it does anything.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), CheckError> {
        match self {
            Self::Status
            | Self::Reload
            | Self::QuarantineNow(_)
            | Self::Grants(_)
            | Self::Sessions
            | Self::People
            | Self::Plan
            | Self::BreakGlassTest
            | Self::QuarantineList
            | Self::Apply(_)
            | Self::WaysIn(_) => Ok(()),
            Self::Allow(allow) => {
                if allow.from.len() > MAX_FROM {
                    return Err(CheckError::From(allow.from.len()));
                }
                allow.duration.map_or(Ok(()), duration)?;
                reason(allow.reason.as_deref())
            }
            Self::Revoke(revoke) => {
                revoke.target()?;
                reason(revoke.reason.as_deref())
            }
            Self::Lockdown(lockdown) => reason(lockdown.reason.as_deref()),
            Self::Enforce(enforce) => duration(enforce.seconds),
            Self::Records(records) if (1..=MAX_RECORDS).contains(&records.limit) => Ok(()),
            Self::Records(records) => Err(CheckError::Limit(records.limit)),
            Self::QuarantineShow(item) | Self::QuarantineRestore(item) => quarantine_id(&item.id),
        }
    }

    /// Whether it changes anything: such requests are recorded, with who asked.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(
            self,
            Self::Allow(_)
                | Self::Revoke(_)
                | Self::Lockdown(_)
                | Self::Enforce(_)
                | Self::QuarantineRestore(_)
                | Self::QuarantineNow(_)
                | Self::Reload
                | Self::Apply(_)
                | Self::WaysIn(WaysIn::Close | WaysIn::Undo)
        )
    }
}

fn reason(text: Option<&str>) -> Result<(), CheckError> {
    match text.map_or(0, str::len) {
        length if length > MAX_REASON => Err(CheckError::Reason(length)),
        _ => Ok(()),
    }
}

fn duration(seconds: u64) -> Result<(), CheckError> {
    if (MIN_DURATION_SECS..=MAX_DURATION_SECS).contains(&seconds) { Ok(()) } else { Err(CheckError::Duration(seconds)) }
}

fn quarantine_id(id: &str) -> Result<(), CheckError> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain && (1..=MAX_QUARANTINE_ID).contains(&id.len()) {
        Ok(())
    } else {
        Err(CheckError::Id(id.chars().take(MAX_QUARANTINE_ID).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    fn allow() -> Allow {
        let person = "frank".parse().unwrap();
        Allow { person, account: None, duration: None, at: None, from: Vec::new(), reason: None }
    }

    fn revoke(target: &str) -> Request {
        Request::Revoke(Revoke { target: target.to_owned(), reason: None })
    }

    fn item(id: &str) -> Request {
        Request::QuarantineRestore(Quarantined { id: id.to_owned() })
    }

    fn records(limit: u32) -> Request {
        Request::Records(Records {
            after: 0,
            since: None,
            until: None,
            person: None,
            account: None,
            grant: None,
            kinds: BTreeSet::new(),
            limit,
        })
    }

    #[test]
    fn each_bound_is_checked_on_both_sides() {
        let range: Cidr = "10.0.0.0/8".parse().unwrap();
        for (fits, over) in [
            (Allow { duration: Some(MIN_DURATION_SECS), ..allow() }, Allow { duration: Some(0), ..allow() }),
            (
                Allow { duration: Some(MAX_DURATION_SECS), ..allow() },
                Allow { duration: Some(MAX_DURATION_SECS + 1), ..allow() },
            ),
            (Allow { from: vec![range; MAX_FROM], ..allow() }, Allow { from: vec![range; MAX_FROM + 1], ..allow() }),
            (
                Allow { reason: Some("r".repeat(MAX_REASON)), ..allow() },
                Allow { reason: Some("r".repeat(MAX_REASON + 1)), ..allow() },
            ),
        ] {
            assert_eq!(Request::Allow(fits).check(), Ok(()));
            assert!(Request::Allow(over.clone()).check().is_err(), "{over:?}");
        }
        assert_eq!(records(MAX_RECORDS).check(), Ok(()));
        assert_eq!(records(MAX_RECORDS + 1).check(), Err(CheckError::Limit(MAX_RECORDS + 1)));
        assert_eq!(records(0).check(), Err(CheckError::Limit(0)));
    }

    #[test]
    fn a_target_is_a_grant_a_session_or_a_person() {
        let target = |text: &str| Revoke { target: text.to_owned(), reason: None }.target();
        assert!(matches!(target("g-0123456789abcdef"), Ok(Target::Grant(_))));
        assert!(matches!(target("s-0123456789abcdef"), Ok(Target::Session(_))));
        assert!(matches!(target("frank"), Ok(Target::Person(_))));
        assert!(revoke("").check().is_err());
        assert!(revoke(&"f".repeat(MAX_TARGET + 1)).check().is_err());
        assert!(revoke("frank\n").check().is_err());
    }

    #[test]
    fn an_id_that_could_be_a_path_is_refused() {
        assert_eq!(item("20260101-7f").check(), Ok(()));
        for id in ["", "..", "../../etc/shadow", "a/b", "a.b", "a\0", &"a".repeat(MAX_QUARANTINE_ID + 1)] {
            assert!(item(id).check().is_err(), "{id:?}");
        }
    }

    #[test]
    fn what_the_daemon_does_not_know_is_refused_and_never_ignored() {
        for json in [
            r#""reboot""#,
            r#"{"enforce":{"seconds":1,"force":true}}"#,
            r#"{"enforce":{"seconds":-1}}"#,
            r#"{"allow":{"person":"frank\nroot"}}"#,
            r#"{"allow":{"person":"frank","from":["*"]}}"#,
            r#"{"status":{},"plan":{}}"#,
        ] {
            assert!(frame::decode::<Request>(json.as_bytes()).is_err(), "{json}");
        }
        assert_eq!(frame::decode::<Request>(br#""status""#).unwrap(), Request::Status);
    }
}
