//! Who signed: people, never keys, are what is counted.

use std::collections::{BTreeMap, BTreeSet};

use record::{Fingerprint, Person};
use serde::{Deserialize, Serialize};

use crate::{Device, Envelope, Namespace, Valid, signature};

/// Somebody whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Who, and as what.
    pub who: Who,
    /// By which key.
    pub fingerprint: Fingerprint,
    /// What their security device said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
}

/// As what somebody signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A key of the configuration for rosters.
    RosterKey(Person),
    /// An approver by the roster.
    Approver(Person),
    /// A feeder by the roster, for people of this source.
    Feeder(crate::Source),
    /// A key of `automatic` in the configuration.
    Automatic,
    /// Somebody who logs in with this key.
    Login(Person),
}

impl Who {
    /// The person, where it is one.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::RosterKey(person) | Self::Approver(person) | Self::Login(person) => Some(person),
            Self::Feeder(_) | Self::Automatic => None,
        }
    }
}

/// How many different people these are. One person's two keys, a signature that is there twice, and a name in other
/// case are one person; what is no person is none. Whoever counts approvals counts here.
#[must_use]
pub fn different_people<'a>(signers: impl IntoIterator<Item = &'a Signer>) -> usize {
    let names = signers.into_iter().filter_map(|signer| signer.who.person());
    names.map(|person| person.as_str().to_ascii_lowercase()).collect::<BTreeSet<_>>().len()
}

/// The signatures of an envelope that hold in this namespace, of keys that are known, each key once. Those of others are not
/// verified: whatever they say, it takes time, and anybody can make them.
pub(crate) fn valid(envelope: &Envelope, namespace: Namespace, is_known: impl Fn(&Fingerprint) -> bool) -> Vec<Valid> {
    let mut valid: BTreeMap<Fingerprint, Valid> = BTreeMap::new();
    for read in envelope.signatures().iter().filter_map(|armored| signature::read(armored).ok()) {
        if is_known(read.fingerprint())
            && !valid.contains_key(read.fingerprint())
            && let Ok(one) = read.verify(namespace, envelope.document().line())
        {
            valid.insert(one.fingerprint.clone(), one);
        }
    }
    valid.into_values().collect()
}

/// The keys that the signatures of an envelope name, whether they hold or not.
pub(crate) fn claimed(envelope: &Envelope) -> impl Iterator<Item = Fingerprint> {
    let read = envelope.signatures().iter().filter_map(|armored| signature::read(armored).ok());
    read.map(|read| read.fingerprint().clone())
}
