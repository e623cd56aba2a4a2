//! A roster as people write it, in TOML: what is sorted, spelt or set by itself in the document need not be here. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use document::{
    AccountName, AccountPattern, Approvals, ApproveWith, Approver, Checked, Feeder, IamUser, Id, IsRoster, Key,
    KeyError, LoginWith, Member, Moment, Roster, Rule, Source, StackPattern, V1, Version,
};
use record::{Person, format_duration, parse_duration};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, sign::without_comment};

/// The source of people who are written by hand.
const BY_HAND: &str = "hand";
/// How long a first roster is good.
const FIRST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What stands in a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// From when it opens nothing any more.
    expires_at: Moment,
    /// The lockdowns that hold; without it, those that the server's feeds show when it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holds: Option<BTreeSet<Id>>,
    #[serde(default, rename = "person")]
    people: Vec<DraftPerson>,
    #[serde(default, rename = "approver")]
    approvers: Vec<DraftApprover>,
    #[serde(default, rename = "rule")]
    rules: Vec<DraftRule>,
    #[serde(default, rename = "feeder")]
    feeders: Vec<DraftFeeder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftPerson {
    name: Person,
    #[serde(default = "by_hand")]
    source: String,
    keys: Vec<String>,
    accounts: BTreeMap<StackPattern, BTreeSet<AccountName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iam: Option<IamUser>,
}

fn by_hand() -> String {
    BY_HAND.to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftApprover {
    person: Person,
    keys: Vec<String>,
    stacks: BTreeSet<StackPattern>,
    accounts: BTreeSet<AccountPattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftRule {
    stack: StackPattern,
    account: AccountPattern,
    approvals: Approvals,
    approve_with: ApproveWith,
    login_with: LoginWith,
    longest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftFeeder {
    source: Source,
    key: String,
}

impl Draft {
    /// Reads a draft.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            Failure::refused("draft", format!("{place}{}", error.message()))
        })
    }

    /// The draft that makes this roster.
    pub(crate) fn of(roster: &Roster) -> Self {
        let texts = |keys: &BTreeSet<Key>| keys.iter().map(ToString::to_string).collect();
        let person = |member: &Member| DraftPerson {
            name: member.name.clone(),
            source: member.source.to_string(),
            keys: texts(&member.keys),
            accounts: member.accounts.clone(),
            iam: member.iam.clone(),
        };
        let approver = |one: &Approver| DraftApprover {
            person: one.person.clone(),
            keys: texts(&one.keys),
            stacks: one.stacks.clone(),
            accounts: one.accounts.clone(),
        };
        let rule = |rule: &Rule| DraftRule {
            stack: rule.stack.clone(),
            account: rule.account.clone(),
            approvals: rule.approvals,
            approve_with: rule.approve_with,
            login_with: rule.login_with,
            longest: format_duration(rule.longest()),
        };
        Self {
            expires_at: roster.expires_at,
            holds: None,
            people: roster.people.iter().map(person).collect(),
            approvers: roster.approvers.iter().map(approver).collect(),
            rules: roster.rules.iter().map(rule).collect(),
            feeders: roster
                .feeders
                .iter()
                .map(|one| DraftFeeder { source: one.source.clone(), key: one.key.to_string() })
                .collect(),
        }
    }

    /// As text.
    pub(crate) fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|error| Failure::refused("draft", error.to_string()))
    }

    /// The roster that it makes.
    pub(crate) fn roster(
        self,
        trust: &Checked,
        version: Version,
        holds: BTreeSet<Id>,
        now: Moment,
    ) -> Result<Roster, Failure> {
        let mut people: Vec<Member> = self.people.into_iter().map(DraftPerson::member).collect::<Result<_, _>>()?;
        let mut approvers: Vec<Approver> =
            self.approvers.into_iter().map(DraftApprover::approver).collect::<Result<_, _>>()?;
        let mut rules: Vec<Rule> = self.rules.into_iter().map(DraftRule::rule).collect::<Result<_, _>>()?;
        let mut feeders: Vec<Feeder> = self.feeders.into_iter().map(DraftFeeder::feeder).collect::<Result<_, _>>()?;
        people.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        approvers.sort_by(|one, other| one.person.as_str().cmp(other.person.as_str()));
        rules.sort_by(|one, other| {
            (one.stack.as_str(), one.account.as_str()).cmp(&(other.stack.as_str(), other.account.as_str()))
        });
        feeders.sort_by(|one, other| one.key.as_str().cmp(other.key.as_str()));
        Ok(Roster {
            approvers,
            expires_at: self.expires_at,
            feeders,
            holds: self.holds.unwrap_or(holds),
            issued_at: now,
            organization: trust.organization.clone(),
            people,
            rules,
            kind: IsRoster,
            v: V1,
            version,
        })
    }
}

impl DraftPerson {
    fn member(self) -> Result<Member, Failure> {
        Ok(Member {
            keys: keys(&self.keys, self.name.as_str())?,
            accounts: self.accounts,
            iam: self.iam,
            source: self
                .source
                .parse()
                .map_err(|error: record::NameError| Failure::refused("draft", error.to_string()))?,
            name: self.name,
        })
    }
}

impl DraftApprover {
    fn approver(self) -> Result<Approver, Failure> {
        let keys = keys(&self.keys, self.person.as_str())?;
        Ok(Approver { accounts: self.accounts, keys, person: self.person, stacks: self.stacks })
    }
}

impl DraftRule {
    fn rule(self) -> Result<Rule, Failure> {
        let longest = parse_duration(&self.longest);
        let longest = longest.map_err(|error| {
            Failure::refused("draft", format!("longest of the rule for {} on {}: {error}", self.account, self.stack))
        })?;
        Ok(Rule {
            account: self.account,
            approvals: self.approvals,
            approve_with: self.approve_with,
            login_with: self.login_with,
            max_seconds: longest.as_secs(),
            stack: self.stack,
        })
    }
}

impl DraftFeeder {
    fn feeder(self) -> Result<Feeder, Failure> {
        Ok(Feeder { key: key(&self.key, self.source.as_str())?, source: self.source })
    }
}

fn keys(texts: &[String], whose: &str) -> Result<BTreeSet<Key>, Failure> {
    texts.iter().map(|text| key(text, whose)).collect()
}

/// A key as a .pub file has it: what it was called there is left out.
fn key(text: &str, whose: &str) -> Result<Key, Failure> {
    without_comment(text)
        .parse()
        .map_err(|error: KeyError| Failure::refused("draft", format!("a key of {whose}: {error}")))
}

/// A first draft: whoever signs rosters approves everything, until somebody says otherwise.
pub(crate) fn first(trust: &Checked, now: Moment) -> String {
    let with = if trust.plain_approvers { "key" } else { "hardware" };
    let mut text = format!(
        "# The roster of {organization}: who there is, who approves, by what rules. docs/DOCUMENTS.md has every member.\n\
         # Then: lockdown roster sign FILE; lockdown roster publish FILE.json\n\n\
         # From then on it opens nothing. What closes is taken after that too.\n\
         expires_at = \"{expires}\"\n\n\
         # Everybody who logs in: their keys as in .pub files, and the accounts that they may be given, by stack (\"*\": every stack).\n\
         #[[person]]\n\
         #name = \"frank\"\n\
         #keys = [\"ssh-ed25519 AAAA... frank@laptop\"]\n\
         #accounts = {{ web = [\"ubuntu\"] }}\n\n\
         # Who approves, with keys that nobody logs in with.\n",
        organization = trust.organization,
        expires = now.after(FIRST),
    );
    let mut people: BTreeMap<&Person, Vec<&Key>> = BTreeMap::new();
    let fits = |key: &&Key| trust.plain_approvers || key.is_hardware();
    for entry in trust.roster.keys.iter().filter(|entry| fits(&&entry.key)) {
        people.entry(&entry.person).or_default().push(&entry.key);
    }
    for (person, keys) in &people {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        text.push_str(&format!(
            "[[approver]]\nperson = \"{person}\"\nkeys = [{}]\nstacks = [\"*\"]\naccounts = [\"*\"]\n\n",
            keys.join(", ")
        ));
    }
    if people.is_empty() {
        text.push_str(
            "# No key of [[stack.roster.key]] is in a security device, and only such keys approve (plain_approvers = false).\n\
             #[[approver]]\n#person = \"alice\"\n#keys = [\"sk-ssh-ed25519@openssh.com AAAA...\"]\n#stacks = [\"*\"]\n#accounts = [\"*\"]\n\n",
        );
    }
    text + &format!(
        "# What a grant takes. Of several rules that fit, the strictest counts; what none fits, nobody can be given.\n\
         # approve_with: key, hardware, hardware_pin; login_with: key, second_method, hardware, hardware_pin.\n\
         [[rule]]\nstack = \"*\"\naccount = \"*\"\napprovals = 1\napprove_with = \"{with}\"\nlogin_with = \"key\"\nlongest = \"8h\"\n"
    )
}

#[cfg(test)]
mod tests {
    use document::Document;

    use super::*;
    use crate::config::tests::{EXAMPLE, parse};

    fn now() -> Moment {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn version(number: u64) -> Version {
        number.try_into().unwrap()
    }

    #[test]
    fn the_first_draft_makes_a_roster_that_can_be_signed_as_it_is() {
        let trust = parse(EXAMPLE).unwrap().trust;
        let draft = Draft::parse(&first(&trust, now())).unwrap();
        let roster = draft.roster(&trust, version(1), [].into(), now()).unwrap();
        assert_eq!(roster.approvers.len(), 1);
        let document = Document::new(roster.clone()).unwrap();
        assert_eq!(document.body(), &document::Body::Roster(std::sync::Arc::new(roster)));
    }

    #[test]
    fn a_roster_made_into_a_draft_makes_the_same_roster() {
        let trust = parse(EXAMPLE).unwrap().trust;
        let text = first(&trust, now()).replace('#', "").replace(
            "AAAA... frank@laptop",
            "AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 frank@laptop",
        );
        let uncommented: String = text
            .lines()
            .filter(|line| line.contains('=') || line.starts_with('['))
            .map(|line| format!("{line}\n"))
            .collect();
        let draft = Draft::parse(&uncommented).unwrap();
        let roster = draft.roster(&trust, version(2), [].into(), now()).unwrap();
        assert_eq!(roster.people.len(), 1);
        let again = Draft::parse(&Draft::of(&roster).to_toml().unwrap()).unwrap();
        assert_eq!(again.roster(&trust, version(2), [].into(), now()).unwrap(), roster);
    }

    #[test]
    fn what_is_wrong_in_a_draft_is_named_with_its_line_or_whose_it_is() {
        let trust = parse(EXAMPLE).unwrap().trust;
        let failure = Draft::parse("expires_at = \"2027-01-01T00:00:00Z\"\n[[persn]]\n").unwrap_err();
        assert!(failure.words().contains("line 2") && failure.words().contains("persn"), "{}", failure.words());
        let text = "expires_at = \"2027-01-01T00:00:00Z\"\n[[person]]\nname = \"frank\"\nkeys = [\"ssh-ed25519 AAAA\"]\naccounts = {}\n";
        let failure = Draft::parse(text).unwrap().roster(&trust, version(1), [].into(), now()).unwrap_err();
        assert!(failure.words().contains("a key of frank"), "{}", failure.words());
    }
}
