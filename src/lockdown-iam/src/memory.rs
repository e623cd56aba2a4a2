//! What is remembered between runs, in the state directory. Losing it opens nothing: who is absent is then seen so twice anew, and a
//! hold that was lifted may be signed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use document::{Id, Moment};
use record::Person;
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, files};

/// The file.
const FILE: &str = "memory.json";
/// The longest one, in bytes: 20,000 users with several keys each.
const MAX_MEMORY: usize = 128 << 20;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// How many runs were complete.
    pub(crate) runs: u64,
    /// Who was in each group, by `ACCOUNT/GROUP`, in the last complete run.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    /// Users, by their `UserId`.
    pub(crate) users: BTreeMap<String, User>,
    /// Who was in no list, by their `UserId`.
    pub(crate) absent: BTreeMap<String, Absent>,
    /// Holds that were signed here, by the `UserId` of whom they hold.
    pub(crate) holds: BTreeMap<String, Held>,
}

/// A user of IAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// The account of AWS.
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    /// What was read of them; none yet.
    pub(crate) detail: Option<Detail>,
    /// In which run that was.
    pub(crate) read_in: u64,
    /// In which run they were listed first.
    pub(crate) seen_in: u64,
}

/// What `ListUserTags`, `ListSSHPublicKeys` and `GetSSHPublicKey` say of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Detail {
    /// Whether the tag says so.
    pub(crate) disabled: bool,
    /// Keys in tags, by the tag.
    pub(crate) tags: BTreeMap<String, String>,
    /// Active keys in IAM's store, by their id.
    pub(crate) keys: BTreeMap<String, String>,
}

/// In how many complete runs somebody was in no list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Absent {
    pub(crate) runs: u64,
    /// When that was counted last.
    pub(crate) at: Moment,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    pub(crate) document: Id,
    pub(crate) person: Person,
    /// Whether an approver lifted it: their word counts until the user is as they should be, and then is not again.
    pub(crate) lifted: bool,
}

impl Memory {
    /// Reads it; nothing where there is none.
    pub(crate) fn load(state: &Path) -> Result<Self, Failure> {
        let path = state.join(FILE);
        let bytes = match files::read(&path, MAX_MEMORY) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::refused(format!("{}: {error}", path.display()))),
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::refused(format!("{}: {error}", path.display()))
                .but("it is another version's or was damaged: remove it, and the next runs learn it anew")
        })
    }

    /// Keeps it.
    pub(crate) fn save(&self, state: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(self).map_err(|error| Failure::refused(error.to_string()))?;
        files::replace(&state.join(FILE), &bytes)
    }
}
