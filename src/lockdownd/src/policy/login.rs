//! Whether a login may go on.
//!
//! PAM asks twice: in the account step, when sshd tells nothing about the key yet, whether anybody has a grant on the
//! account; in the session step about the very key that sshd has just verified. Deny on doubt: every path that does
//! not find an active grant ends in a refusal with its reason.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use record::{Account, Fingerprint, GrantId, Person};

use super::grant::Grant;
use super::time::Now;
use crate::keys::auth_info;

/// A login that goes on: whose it is and on which grant it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who logs in.
    pub person: Person,
    /// On which grant.
    pub grant: GrantId,
    /// With which key.
    pub fingerprint: Fingerprint,
}

/// Why a login does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has an active grant on the account.
    NoGrantOnAccount,
    /// passwd(5) does not list the account.
    UnknownAccount,
    /// What sshd verified is not exactly one plain public key.
    NotOnePlainKey(auth_info::Why),
    /// The key is nobody's.
    UnknownKey(Fingerprint),
    /// The key's person has no active grant on the account.
    NoGrantForPerson(Person, Fingerprint),
    /// The person's grants on the account hold for other addresses only.
    OtherAddress(Person, Fingerprint),
    /// The host could not tell which connection asks.
    UnknownConnection,
    /// The session could not be put on record, and what is not on record does not happen.
    NotRecorded,
}

impl Refused {
    /// The key that was refused, where there was one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::UnknownKey(key) | Self::NoGrantForPerson(_, key) | Self::OtherAddress(_, key) => Some(key),
            _ => None,
        }
    }

    /// The person who was refused, where the key named one.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::NoGrantForPerson(person, _) | Self::OtherAddress(person, _) => Some(person),
            _ => None,
        }
    }

    /// One fixed word for the record.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoGrantOnAccount => "no_grant_on_account",
            Self::UnknownAccount => "unknown_account",
            Self::NotOnePlainKey(_) => "not_one_plain_key",
            Self::UnknownKey(_) => "unknown_key",
            Self::NoGrantForPerson(..) => "no_grant_for_person",
            Self::OtherAddress(..) => "other_address",
            Self::UnknownConnection => "unknown_connection",
            Self::NotRecorded => "not_recorded",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGrantOnAccount => write!(f, "nobody has an active grant on this account"),
            Self::UnknownAccount => write!(f, "this account does not stand in /etc/passwd"),
            Self::NotOnePlainKey(why) => write!(f, "{why}"),
            Self::UnknownKey(key) => write!(f, "the key {key} belongs to nobody whom the configuration names"),
            Self::NoGrantForPerson(person, _) => write!(f, "{person} has no active grant on this account"),
            Self::OtherAddress(person, _) => write!(f, "{person}'s grant does not hold for this address"),
            Self::UnknownConnection => write!(f, "the connection that asks could not be told"),
            Self::NotRecorded => write!(f, "the login could not be recorded"),
        }
    }
}

/// The account step: whether anybody may log in to this account now.
///
/// # Errors
/// Why not.
pub fn judge_account<'a>(
    account: &Account,
    uid: Option<u32>,
    grants: impl IntoIterator<Item = &'a Grant>,
    now: Now,
) -> Result<(), Refused> {
    let uid = uid.ok_or(Refused::UnknownAccount)?;
    let open = grants.into_iter().any(|grant| grant.account == *account && grant.uid == uid && grant.is_active(now));
    if open { Ok(()) } else { Err(Refused::NoGrantOnAccount) }
}

/// What the session step has to judge by.
pub struct Attempt<'a> {
    /// The account that is logged in to.
    pub account: &'a Account,
    /// Its user id now; absent where passwd(5) does not list it.
    pub uid: Option<u32>,
    /// `SSH_AUTH_INFO_0`: what sshd has verified.
    pub auth_info: &'a str,
    /// Where the connection comes from; absent for a local socket.
    pub address: Option<IpAddr>,
}

/// The session step: whether the key that sshd has verified stands on an active grant.
///
/// Of several grants that hold, the one that ends last carries the session.
///
/// # Errors
/// Why not.
pub fn judge_session<'a>(
    attempt: &Attempt<'_>,
    people: &BTreeMap<Fingerprint, Person>,
    grants: impl IntoIterator<Item = &'a Grant>,
    now: Now,
) -> Result<Admitted, Refused> {
    let uid = attempt.uid.ok_or(Refused::UnknownAccount)?;
    let fingerprint = auth_info::parse(attempt.auth_info).single_plain_key().map_err(Refused::NotOnePlainKey)?;
    let person = people.get(&fingerprint).ok_or_else(|| Refused::UnknownKey(fingerprint.clone()))?.clone();
    let theirs: Vec<&Grant> = grants
        .into_iter()
        .filter(|g| g.person == person && g.account == *attempt.account && g.uid == uid && g.is_active(now))
        .collect();
    if theirs.is_empty() {
        return Err(Refused::NoGrantForPerson(person, fingerprint));
    }
    match theirs.into_iter().filter(|grant| holds_from(grant, attempt.address)).max_by_key(|grant| grant.ends.wall) {
        Some(grant) => Ok(Admitted { grant: grant.id.clone(), person, fingerprint }),
        None => Err(Refused::OtherAddress(person, fingerprint)),
    }
}

/// Whether a grant holds for this address: one without `from` for every one, one with it never for an unknown one.
#[must_use]
pub fn holds_from(grant: &Grant, address: Option<IpAddr>) -> bool {
    grant.from.is_empty() || address.is_some_and(|address| grant.from.iter().any(|range| range.contains(address)))
}
