//! A roster: who there is, who approves, by what rules, and who may close without approving.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use record::Person;
use serde::{Deserialize, Serialize};

use crate::{
    AccountName, AccountPattern, Approvals, IamArn, IamName, Id, Key, Malformed, Moment, Organization, Source,
    StackPattern, Version,
    kind::{IsRoster, V1},
};

/// The most people in a roster.
pub const MAX_PEOPLE: usize = 20_000;
/// The most keys of one person.
pub const MAX_PERSON_KEYS: usize = 32;
/// The most stacks on which one person may be given accounts, or may approve.
pub const MAX_PERSON_STACKS: usize = 256;
/// The most accounts that one person may be given on one stack, or may approve.
pub const MAX_STACK_ACCOUNTS: usize = 256;
/// The most approvers.
pub const MAX_APPROVERS: usize = 1_000;
/// The most rules.
pub const MAX_RULES: usize = 1_000;
/// The most feeders.
pub const MAX_FEEDERS: usize = 64;
/// The most lockdowns that a roster says stand.
pub const MAX_ROSTER_HOLDS: usize = 1_024;
/// The longest duration that a rule may allow, in seconds: 366 days.
pub const MAX_RULE_SECONDS: u64 = 366 * 24 * 3600;

/// Who there is, and who may approve what. Signed by the threshold of the keys in the host's own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Who may approve, by their names.
    pub approvers: Vec<Approver>,
    /// From when it opens nothing any more. What closes is taken after that too.
    pub expires_at: Moment,
    /// Who may hold people of one source.
    pub feeders: Vec<Feeder>,
    /// The lockdowns with `hold` that stood when it was made.
    pub holds: BTreeSet<Id>,
    /// When it was made.
    pub issued_at: Moment,
    /// Whose it is.
    pub organization: Organization,
    /// Everybody, by their names.
    pub people: Vec<Member>,
    /// How many approvals what needs, by stack and account. What none fits is refused.
    pub rules: Vec<Rule>,
    /// `roster`.
    #[serde(rename = "type")]
    pub kind: IsRoster,
    /// 1.
    pub v: V1,
    /// Its version: a host never goes back to a lower one.
    pub version: Version,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The accounts that they may be given, by stack.
    pub accounts: BTreeMap<StackPattern, BTreeSet<AccountName>>,
    /// Who that is in IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<IamUser>,
    /// The keys that they log in with.
    pub keys: BTreeSet<Key>,
    /// Their name.
    pub name: Person,
    /// Where this entry comes from.
    pub source: Source,
}

/// A person in IAM: the user id is who it is, the name is what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IamUser {
    /// Where it is: the account of AWS, and its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<IamArn>,
    /// `UserId`: never given to another user.
    pub id: IamName,
    /// `UserName`.
    pub name: IamName,
}

/// Who may approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// The accounts for which they may.
    pub accounts: BTreeSet<AccountPattern>,
    /// Keys for this alone: nobody logs in with one.
    pub keys: BTreeSet<Key>,
    /// Their name.
    pub person: Person,
    /// The stacks in which they may.
    pub stacks: BTreeSet<StackPattern>,
}

/// What a grant needs on some accounts of some stacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which accounts.
    pub account: AccountPattern,
    /// How many different people have to approve.
    pub approvals: Approvals,
    /// With what they have to sign.
    pub approve_with: ApproveWith,
    /// With what the person has to log in.
    pub login_with: LoginWith,
    /// How long a grant may last.
    pub max_seconds: u64,
    /// Which stacks.
    pub stack: StackPattern,
}

/// A program that may close: hold one person of its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feeder {
    /// Its key.
    pub key: Key,
    /// Whose people.
    pub source: Source,
}

/// With what an approver has to sign; the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApproveWith {
    /// Whatever key the host's configuration takes from approvers.
    Key,
    /// A key in a security device, which is touched.
    Hardware,
    /// The same, unlocked by PIN or fingerprint.
    HardwarePin,
}

impl fmt::Display for ApproveWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "any key of theirs",
            Self::Hardware => "a security device, touched",
            Self::HardwarePin => "a security device, touched and unlocked by PIN or fingerprint",
        })
    }
}

/// With what a person has to log in: the words of `accounts.require`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginWith {
    /// One plain public key.
    Key,
    /// A key, and then keyboard-interactive.
    SecondMethod,
    /// A key in a device that has to be touched.
    Hardware,
    /// The same, unlocked by PIN or fingerprint.
    HardwarePin,
}

impl LoginWith {
    /// Whether only keys of security devices will do.
    #[must_use]
    pub fn is_hardware(self) -> bool {
        matches!(self, Self::Hardware | Self::HardwarePin)
    }
}

impl Rule {
    /// How long a grant may last.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_secs(self.max_seconds)
    }
}

impl Member {
    /// Whether they may be given this account on this stack.
    #[must_use]
    pub fn may_have(&self, account: &AccountName, stack: &record::Stack) -> bool {
        self.accounts.iter().any(|(stacks, accounts)| stacks.fits(stack) && accounts.contains(account))
    }
}

/// The same person, whatever the case: names that differ in nothing else are refused within a roster.
#[must_use]
pub fn same_person(one: &Person, other: &Person) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

impl Roster {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        self.check_bounds()?;
        if self.expires_at <= self.issued_at {
            return Err(Malformed::shape("expires_at has to be after issued_at"));
        }
        sorted("people", self.people.iter().map(|member| member.name.as_str()))?;
        sorted("approvers", self.approvers.iter().map(|approver| approver.person.as_str()))?;
        sorted("rules", self.rules.iter().map(|rule| (rule.stack.as_str(), rule.account.as_str())))?;
        sorted("feeders", self.feeders.iter().map(|feeder| feeder.key.as_str()))?;
        self.check_names()?;
        self.check_keys()?;
        self.check_approvers()
    }

    fn check_bounds(&self) -> Result<(), Malformed> {
        for (what, given, most) in [
            ("people", self.people.len(), MAX_PEOPLE),
            ("approvers", self.approvers.len(), MAX_APPROVERS),
            ("rules", self.rules.len(), MAX_RULES),
            ("feeders", self.feeders.len(), MAX_FEEDERS),
            ("holds", self.holds.len(), MAX_ROSTER_HOLDS),
        ] {
            if given > most {
                return Err(Malformed::Shape(format!("it has {given} {what}, and at most {most} are taken")));
            }
        }
        for (person, keys) in self.keys_by_person() {
            if keys.len() > MAX_PERSON_KEYS {
                let given = keys.len();
                return Err(Malformed::Shape(format!(
                    "{person} has {given} keys, and at most {MAX_PERSON_KEYS} are taken"
                )));
            }
        }
        let of_members = self.people.iter().flat_map(|member| {
            let most = member.accounts.values().map(BTreeSet::len).max().unwrap_or_default();
            [(&member.name, "stacks", member.accounts.len()), (&member.name, "accounts on one stack", most)]
        });
        let of_approvers = self.approvers.iter().flat_map(|one| {
            [(&one.person, "stacks", one.stacks.len()), (&one.person, "accounts on one stack", one.accounts.len())]
        });
        for (person, what, given) in of_members.chain(of_approvers) {
            let most = if what == "stacks" { MAX_PERSON_STACKS } else { MAX_STACK_ACCOUNTS };
            if given > most {
                return Err(Malformed::Shape(format!("{person} has {given} {what}, and at most {most} are taken")));
            }
        }
        match self.rules.iter().find(|rule| !(1..=MAX_RULE_SECONDS).contains(&rule.max_seconds)) {
            Some(rule) => Err(Malformed::Shape(format!(
                "max_seconds of the rule for {} on {} has to be from 1 to {MAX_RULE_SECONDS}",
                rule.account, rule.stack
            ))),
            None => Ok(()),
        }
    }

    fn keys_by_person(&self) -> impl Iterator<Item = (&Person, &BTreeSet<Key>)> {
        let members = self.people.iter().map(|member| (&member.name, &member.keys));
        members.chain(self.approvers.iter().map(|approver| (&approver.person, &approver.keys)))
    }

    /// Nobody is there under two names, nor spelt one way as an approver and another way as a person.
    fn check_names(&self) -> Result<(), Malformed> {
        let mut seen: BTreeMap<String, &Person> = BTreeMap::new();
        for (person, _) in self.keys_by_person() {
            if let Some(other) =
                seen.insert(person.as_str().to_ascii_lowercase(), person).filter(|other| *other != person)
            {
                return Err(Malformed::Shape(format!(
                    "{other} and {person} differ only in case: use one name for one person"
                )));
            }
        }
        Ok(())
    }

    /// Each key is there once: for one person, and for logging in or for approving, never both.
    fn check_keys(&self) -> Result<(), Malformed> {
        let mut seen = BTreeSet::new();
        let own = self.keys_by_person().flat_map(|(_, keys)| keys);
        for key in own.chain(self.feeders.iter().map(|feeder| &feeder.key)) {
            if !seen.insert(key) {
                return Err(Malformed::Shape(format!(
                    "the key {} is there twice: one key belongs to one person, and approves or logs in",
                    key.fingerprint()
                )));
            }
        }
        Ok(())
    }

    fn check_approvers(&self) -> Result<(), Malformed> {
        let approving =
            self.approvers.iter().flat_map(|approver| approver.keys.iter().map(|key| (approver.person.as_str(), key)));
        for (whose, key) in approving.chain(self.feeders.iter().map(|feeder| (feeder.source.as_str(), &feeder.key))) {
            if let Err(unfit) = key.signs() {
                return Err(Malformed::Shape(format!("the key {} of {whose}: {unfit}", key.fingerprint())));
            }
        }
        match self.approvers.iter().find(|one| one.keys.is_empty() || one.stacks.is_empty() || one.accounts.is_empty())
        {
            Some(approver) => Err(Malformed::Shape(format!(
                "the approver {} needs a key, a stack and an account each; * stands for every stack or account",
                approver.person
            ))),
            None => Ok(()),
        }
    }
}

/// Each entry is there once, in the order of their names: there is one way to write a roster.
fn sorted<T: PartialOrd>(what: &str, names: impl Iterator<Item = T>) -> Result<(), Malformed> {
    let names: Vec<T> = names.collect();
    if names.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err(Malformed::Shape(format!("{what} have to be sorted, each there once")))
    }
}
