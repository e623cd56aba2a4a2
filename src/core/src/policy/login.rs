//! Whether a login may go on.
//!
//! PAM asks twice: in the account step, when sshd tells nothing about the key yet, whether anybody has a grant on the
//! account; in the session step about the very key that sshd has just verified. Deny on doubt: every path that does
//! not find an active grant ends in a refusal with its reason.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use record::{Account, Fingerprint, GrantId, Person, SessionId};

use super::grant::Grant;
use super::time::Now;
use crate::{
    config::Demand,
    keys::{auth_info, key::Key},
};

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
    /// The account has the user id of this one, which is exempt or root.
    SharedUserId(Account),
    /// What sshd verified is not plain public keys of one person.
    NotOnePlainKey(auth_info::Why),
    /// The key is nobody's.
    UnknownKey(Fingerprint),
    /// The key's person has no active grant on the account.
    NoGrantForPerson(Person, Fingerprint),
    /// The person's grants on the account are for other keys of theirs.
    OtherKey(Person, Fingerprint),
    /// The account requires a key in a security device, and this is none.
    NotHardware(Person, Fingerprint, Demand),
    /// The account requires keyboard-interactive beside the key, and sshd did not ask for it.
    NoSecondMethod(Person, Fingerprint),
    /// The person's grants on the account hold for other addresses only.
    OtherAddress(Person, Fingerprint),
    /// The connection comes from this host, out of another person's session: on an account that several people have, whoever
    /// forwards an agent lends it to all of them.
    ThroughSession {
        /// Whose key it is.
        person: Person,
        /// The key.
        fingerprint: Fingerprint,
        /// Whose session it is; `None` where it may be several people's.
        of: Option<Person>,
        /// Which session, where it is live.
        session: Option<SessionId>,
    },
    /// The connection comes from this host, and the process that made it was not found.
    UnknownClient(Person, Fingerprint, NotFound),
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
            Self::UnknownKey(key)
            | Self::NoGrantForPerson(_, key)
            | Self::OtherKey(_, key)
            | Self::NotHardware(_, key, _)
            | Self::NoSecondMethod(_, key)
            | Self::OtherAddress(_, key)
            | Self::UnknownClient(_, key, _)
            | Self::ThroughSession { fingerprint: key, .. } => Some(key),
            _ => None,
        }
    }

    /// The person who was refused, where the key named one.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::NoGrantForPerson(person, _)
            | Self::OtherKey(person, _)
            | Self::NotHardware(person, ..)
            | Self::NoSecondMethod(person, _)
            | Self::OtherAddress(person, _)
            | Self::UnknownClient(person, ..)
            | Self::ThroughSession { person, .. } => Some(person),
            _ => None,
        }
    }

    /// One fixed word for the record.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoGrantOnAccount => "no_grant_on_account",
            Self::UnknownAccount => "unknown_account",
            Self::SharedUserId(_) => "shared_user_id",
            Self::NotOnePlainKey(_) => "not_one_plain_key",
            Self::UnknownKey(_) => "unknown_key",
            Self::NoGrantForPerson(..) => "no_grant_for_person",
            Self::OtherKey(..) => "other_key",
            Self::NotHardware(..) => "not_hardware",
            Self::NoSecondMethod(..) => "no_second_method",
            Self::OtherAddress(..) => "other_address",
            Self::ThroughSession { .. } => "through_session",
            Self::UnknownClient(..) => "unknown_client",
            Self::UnknownConnection => "unknown_connection",
            Self::NotRecorded => "not_recorded",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGrantOnAccount => write!(f, "nobody has an active grant on this account"),
            Self::UnknownAccount => write!(f, "this account is not in /etc/passwd"),
            Self::SharedUserId(other) => {
                write!(f, "this account has the user id of {other}, and so its powers and files")
            }
            Self::NotOnePlainKey(why) => write!(f, "{why}"),
            Self::UnknownKey(key) => write!(f, "the key {key} belongs to nobody whom the configuration names"),
            Self::NoGrantForPerson(person, _) => write!(f, "{person} has no active grant on this account"),
            Self::OtherKey(person, _) => {
                write!(f, "{person}'s grant on this account was approved for other keys of theirs than this one")
            }
            Self::NotHardware(person, _, demand) => {
                write!(f, "this account requires {demand}, and {person}'s key is none")
            }
            Self::NoSecondMethod(..) => {
                write!(f, "this account requires keyboard-interactive beside the key, and sshd did not ask for it")
            }
            Self::OtherAddress(person, _) => write!(f, "{person}'s grant does not hold for this address"),
            Self::ThroughSession { person, of: Some(of), .. } => {
                write!(f, "this connection with {person}'s key was made on this host in a session of {of}")
            }
            Self::ThroughSession { person, of: None, .. } => {
                write!(
                    f,
                    "this connection with {person}'s key was made on this host by a process that may be somebody else's"
                )
            }
            Self::UnknownClient(person, _, why) => {
                write!(
                    f,
                    "this connection with {person}'s key was made on this host, and the process that made it was not found: {why}"
                )
            }
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
    /// What the account requires beside a grant.
    pub demand: Demand,
    /// Where the connection comes from; absent for a local socket.
    pub address: Option<IpAddr>,
}

/// Whose each key is.
pub trait KeyOwners {
    /// The person whose key this is.
    fn owner(&self, key: &Fingerprint) -> Option<&Person>;
}

impl KeyOwners for BTreeMap<Fingerprint, Person> {
    fn owner(&self, key: &Fingerprint) -> Option<&Person> {
        self.get(key)
    }
}

/// The session step: whether the key that sshd has verified stands on an active grant.
///
/// Of several grants that hold, the one that ends last carries the session.
///
/// # Errors
/// Why not.
pub fn judge_session<'a>(
    attempt: &Attempt<'_>,
    people: &impl KeyOwners,
    grants: impl IntoIterator<Item = &'a Grant>,
    now: Now,
) -> Result<Admitted, Refused> {
    let uid = attempt.uid.ok_or(Refused::UnknownAccount)?;
    let said = auth_info::parse(attempt.auth_info);
    let plain = said.plain_keys().map_err(Refused::NotOnePlainKey)?;
    let keys: Vec<Fingerprint> = plain.iter().map(Key::fingerprint).collect();
    let whose = |key: &Fingerprint| people.owner(key).cloned().ok_or_else(|| Refused::UnknownKey(key.clone()));
    let owners = keys.iter().map(whose).collect::<Result<Vec<_>, _>>()?;
    // sshd's log names the last one, so the record does.
    let (Some(fingerprint), Some(person)) = (keys.last().cloned(), owners.last().cloned()) else {
        return Err(Refused::NotOnePlainKey(auth_info::Why::NoKey));
    };
    if owners.iter().any(|owner| *owner != person) {
        return Err(Refused::NotOnePlainKey(auth_info::Why::SeveralPeople));
    }
    let theirs: Vec<&Grant> = grants
        .into_iter()
        .filter(|g| g.person == person && g.account == *attempt.account && g.uid == uid && g.is_active(now))
        .collect();
    if theirs.is_empty() {
        return Err(Refused::NoGrantForPerson(person, fingerprint));
    }
    let for_key = theirs.into_iter().filter(|grant| keys.iter().all(|key| grant.opens_for(key)));
    // Each may ask for more than the account does.
    let met = |grant: &'a Grant| -> Result<&'a Grant, Refused> {
        let demand = attempt.demand.and(grant.demand());
        if demand.hardware && !plain.iter().all(Key::is_hardware) {
            return Err(Refused::NotHardware(person.clone(), fingerprint.clone(), demand));
        }
        if demand.second_method && !said.has_second_method() {
            return Err(Refused::NoSecondMethod(person.clone(), fingerprint.clone()));
        }
        if holds_from(grant, attempt.address) {
            Ok(grant)
        } else {
            Err(Refused::OtherAddress(person.clone(), fingerprint.clone()))
        }
    };
    let (holding, unmet): (Vec<_>, Vec<_>) = for_key.map(met).partition(Result::is_ok);
    match holding.into_iter().flatten().max_by_key(|grant| grant.ends.wall) {
        Some(grant) => Ok(Admitted { grant: grant.id.clone(), person, fingerprint }),
        None => Err(unmet.into_iter().find_map(Result::err).unwrap_or(Refused::OtherKey(person, fingerprint))),
    }
}

/// Why the process that made a connection on this host was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// sshd's process for the connection is gone.
    NoSshd,
    /// No socket of this host is the connection's other end.
    NoSocket,
    /// There is one, and no process that can be seen has it open.
    Hidden,
    /// Looking took too long.
    TooLong,
    /// Too many such connections were looked into at the same time.
    TooMany,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSshd => "sshd's process for it is gone",
            Self::NoSocket => "its client has closed it",
            Self::Hidden => "no process that can be seen has its socket open",
            Self::TooLong => "looking through the processes took too long",
            Self::TooMany => "too many connections from this host asked at the same time",
        })
    }
}

/// Whose a process is that made a connection on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// It is part of this person's session, or was left behind by one.
    Person(Person, Option<SessionId>),
    /// It comes out of a login to an account that others may be given too.
    Several,
    /// It comes out of no login, or one that nobody else can have made.
    NobodyElse,
}

/// Whether a login may go on that was made on this host, by these processes. One that may be another person's ends it.
///
/// # Errors
/// Whose it is instead, or that nobody was found.
pub fn judge_client(admitted: Admitted, behind: Result<&[Behind], NotFound>) -> Result<Admitted, Refused> {
    let Admitted { person, fingerprint, .. } = admitted.clone();
    let behind = match behind {
        Ok([]) => return Err(Refused::UnknownClient(person, fingerprint, NotFound::Hidden)),
        Ok(behind) => behind,
        Err(why) => return Err(Refused::UnknownClient(person, fingerprint, why)),
    };
    let through = behind.iter().find_map(|behind| match behind {
        Behind::Person(of, session) if *of != person => Some((Some(of.clone()), session.clone())),
        Behind::Several => Some((None, None)),
        Behind::Person(..) | Behind::NobodyElse => None,
    });
    match through {
        Some((of, session)) => Err(Refused::ThroughSession { person, fingerprint, of, session }),
        None => Ok(admitted),
    }
}

/// Whether a grant holds for this address: one without `from` for every one, one with it never for an unknown one.
#[must_use]
pub fn holds_from(grant: &Grant, address: Option<IpAddr>) -> bool {
    grant.from.is_empty() || address.is_some_and(|address| grant.from.iter().any(|range| range.contains(address)))
}

#[cfg(test)]
mod tests;
