//! With which key: of those that somebody has, the one that the roster names for what is to be signed. No I/O.

use document::{Approver, Checked, Key, Roster, StackPattern, roster::same_person};
use record::{Person, Stack};

use crate::{failure::Failure, sign::SigningKey};

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// A grant for somebody.
    Approve {
        /// Whom it is for.
        person: &'a Person,
        /// Where.
        stack: &'a Stack,
        /// What.
        account: &'a document::AccountName,
    },
    /// A lockdown, or a lift of one, in this scope.
    Close(&'a StackPattern),
    /// A revoke; None: of a grant whose stack is not known.
    Revoke(Option<&'a Stack>),
    /// A request by whoever logs in with the key.
    Ask,
    /// A session, by anybody whom the roster names.
    Read,
    /// A roster.
    Roster,
}

impl Purpose<'_> {
    fn words(self) -> String {
        match self {
            Self::Approve { stack, account, .. } => format!("approve {account} on the stack {stack}"),
            Self::Close(stack) => format!("close the stack {stack}"),
            Self::Revoke(_) => "revoke".to_owned(),
            Self::Ask => "ask for access".to_owned(),
            Self::Read => "read from the server".to_owned(),
            Self::Roster => "sign rosters".to_owned(),
        }
    }
}

/// Why a key cannot sign it, by this roster and the configuration; None: it can.
pub(crate) fn why_not(key: &Key, purpose: Purpose<'_>, roster: Option<&Roster>, trust: &Checked) -> Option<String> {
    let fingerprint = key.fingerprint();
    if trust.deny_keys.contains(fingerprint) {
        return Some(format!("{fingerprint} is in deny_keys of the configuration"));
    }
    let by_configuration = trust.roster.keys.iter().any(|entry| entry.key == *key);
    match purpose {
        Purpose::Roster if by_configuration => return None,
        Purpose::Roster => return Some(format!("{fingerprint} is no [[stack.roster.key]] of the configuration")),
        Purpose::Close(_) if by_configuration => return None,
        _ => {}
    }
    // Nobody knows; the hosts will say.
    let roster = roster?;
    let approver = roster.approvers.iter().find(|approver| approver.keys.contains(key));
    let member = roster.people.iter().find(|member| member.keys.contains(key));
    let no_approver = || Some(format!("{fingerprint} is no approver's key in roster {}", roster.version));
    let version = roster.version;
    match purpose {
        Purpose::Approve { person, stack, account } => match approver {
            None => no_approver(),
            Some(one) if same_person(&one.person, person) => {
                Some(format!("nobody approves for themselves, and {fingerprint} is {person}'s"))
            }
            Some(one)
                if !(one.stacks.iter().any(|stacks| stacks.fits(stack))
                    && one.accounts.iter().any(|fits| fits.fits(account))) =>
            {
                Some(format!("{} does not approve {account} on the stack {stack}, by roster {version}", one.person))
            }
            Some(_) if !key.is_hardware() && !trust.plain_approvers => Some(format!(
                "{fingerprint} is in no security device, and only such keys approve unless plain_approvers = true"
            )),
            Some(_) => None,
        },
        Purpose::Close(scope) => match approver {
            None => no_approver(),
            Some(one) if !one.stacks.iter().any(|stacks| stacks.covers(scope)) => {
                Some(format!("{} approves for other stacks than {scope}, by roster {version}", one.person))
            }
            Some(_) => None,
        },
        Purpose::Revoke(stack) => match approver {
            None => no_approver(),
            Some(one) if stack.is_some_and(|stack| !one.stacks.iter().any(|stacks| stacks.fits(stack))) => {
                Some(format!("{} approves for other stacks, by roster {version}", one.person))
            }
            Some(_) => None,
        },
        Purpose::Ask if member.is_none() => Some(format!("nobody logs in with {fingerprint}, by roster {version}")),
        Purpose::Read if member.is_none() && approver.is_none() => {
            Some(format!("{fingerprint} is nobody's key in roster {version}"))
        }
        Purpose::Ask | Purpose::Read | Purpose::Roster => None,
    }
}

/// Somebody's keys, those that they named first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ring {
    /// By `--key`.
    pub(crate) named: Option<SigningKey>,
    /// By `key` in the configuration.
    pub(crate) configured: Option<SigningKey>,
    /// What the agent has.
    pub(crate) agent: Vec<Key>,
}

impl Ring {
    /// The key to sign with.
    pub(crate) fn choose(
        &self,
        purpose: Purpose<'_>,
        roster: Option<&Roster>,
        trust: &Checked,
    ) -> Result<SigningKey, Failure> {
        if let Some(named) = &self.named {
            // Who reads is whoever they are: the key to approve with may be named for the command.
            return match why_not(&named.key, purpose, roster, trust) {
                Some(_) if matches!(purpose, Purpose::Read) => self.unnamed(purpose, roster, trust),
                Some(why) => Err(Failure::refused("key", format!("this key cannot {}: {why}", purpose.words()))
                    .but("name another one with --key, or leave it out to use the one that the roster names")),
                None => Ok(named.clone()),
            };
        }
        self.unnamed(purpose, roster, trust)
    }

    fn unnamed(&self, purpose: Purpose<'_>, roster: Option<&Roster>, trust: &Checked) -> Result<SigningKey, Failure> {
        let agent = self.agent.iter().cloned().map(SigningKey::of_agent);
        let all: Vec<SigningKey> = self.configured.iter().cloned().chain(agent).collect();
        if roster.is_none() && !all.is_empty() {
            return self.without_roster(&all, purpose, trust);
        }
        let mut reasons = Vec::new();
        for one in &all {
            match why_not(&one.key, purpose, roster, trust) {
                None => return Ok(one.clone()),
                Some(why) => reasons.push(why),
            }
        }
        let failure = Failure::refused("no_key", format!("there is no key here that can {}", purpose.words()));
        let failure = reasons.into_iter().fold(failure, Failure::detail);
        Err(failure.but(if all.is_empty() {
            "ssh-agent has no key that signs documents: ssh-add one, or name a file with --key or with key in the configuration".to_owned()
        } else {
            "name a file with --key, or with key in the configuration".to_owned()
        }))
    }

    /// Nothing says whose keys these are but the configuration.
    fn without_roster(&self, all: &[SigningKey], purpose: Purpose<'_>, trust: &Checked) -> Result<SigningKey, Failure> {
        if let Some(configured) = &self.configured {
            return Ok(configured.clone());
        }
        let signs_rosters = |one: &&SigningKey| trust.roster.keys.iter().any(|entry| entry.key == one.key);
        let closes = matches!(purpose, Purpose::Close(_) | Purpose::Roster);
        match (all.iter().find(signs_rosters), all) {
            (Some(one), _) if closes => Ok(one.clone()),
            (_, [only]) if !matches!(purpose, Purpose::Roster) => Ok(only.clone()),
            _ => {
                let failure = Failure::refused(
                    "which_key",
                    format!("no roster is known here yet, so nothing says with which key to {}", purpose.words()),
                );
                let listed = all
                    .iter()
                    .fold(failure, |failure, one| failure.detail(format!("ssh-agent has {}", one.key.fingerprint())));
                Err(listed.but("name one with --key, or with key in the configuration: its fingerprint, or a file"))
            }
        }
    }
}

/// Who else can approve: the names of approvers whose word counts, without these people.
pub(crate) fn others_who_approve(
    roster: &Roster,
    stack: &Stack,
    account: &document::AccountName,
    without: &[&Person],
) -> Vec<Person> {
    let may = |one: &&Approver| {
        one.stacks.iter().any(|stacks| stacks.fits(stack))
            && one.accounts.iter().any(|accounts| accounts.fits(account))
            && !without.iter().any(|person| same_person(person, &one.person))
    };
    roster.approvers.iter().filter(may).map(|one| one.person.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use document::{Settings, Version};
    use ssh_key::{private::Ed25519Keypair, public::KeyData};

    use super::*;
    use crate::{
        config::tests::{EXAMPLE, parse},
        draft::Draft,
    };

    fn key(seed: u8) -> Key {
        Key::from_data(&KeyData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]).public)).unwrap()
    }

    /// The configuration's only key is alice's in a device; bob approves web with a key in none, frank logs in.
    fn company(plain: bool) -> (Roster, Checked, Key) {
        let text = EXAMPLE.replace("#plain_approvers = false", &format!("plain_approvers = {plain}"));
        let trust = parse(&text).unwrap().trust;
        let device = trust.roster.keys[0].key.clone();
        let text = format!(
            "expires_at = \"2099-01-01T00:00:00Z\"\n[[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = {{ web = [\"ubuntu\"] }}\n\
             [[approver]]\nperson = \"alice\"\nkeys = [\"{device}\"]\nstacks = [\"*\"]\naccounts = [\"*\"]\n\
             [[approver]]\nperson = \"bob\"\nkeys = [\"{}\"]\nstacks = [\"web\"]\naccounts = [\"ubuntu\"]\n",
            key(1),
            key(2)
        );
        let version = Version::try_from(3).unwrap();
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        (Draft::parse(&text).unwrap().roster(&trust, version, BTreeSet::new(), now).unwrap(), trust, device)
    }

    #[test]
    fn each_key_signs_what_it_is_for_and_nothing_else() {
        let (roster, trust, device) = company(false);
        let (frank, web, db, ubuntu, root) = (
            "frank".parse().unwrap(),
            "web".parse().unwrap(),
            "db".parse().unwrap(),
            "ubuntu".parse().unwrap(),
            "root".parse().unwrap(),
        );
        let (alice, any, only_web) = ("Alice".parse().unwrap(), "*".parse().unwrap(), "web".parse().unwrap());
        let approve = Purpose::Approve { person: &frank, stack: &web, account: &ubuntu };
        let approve_db = Purpose::Approve { person: &frank, stack: &db, account: &root };
        let approve_self = Purpose::Approve { person: &alice, stack: &web, account: &ubuntu };
        for (key, purpose, reason) in [
            (&device, approve, None),
            (&device, approve_db, None),
            (&device, approve_self, Some("nobody approves for themselves")),
            (&key(2), approve, Some("in no security device")),
            (&key(2), approve_db, Some("does not approve root on the stack db")),
            (&key(1), approve, Some("is no approver's key")),
            (&key(2), Purpose::Close(&only_web), None),
            (&key(2), Purpose::Close(&any), Some("approves for other stacks than *")),
            (&device, Purpose::Close(&any), None),
            (&key(1), Purpose::Close(&only_web), Some("is no approver's key")),
            (&key(2), Purpose::Revoke(Some(&web)), None),
            (&key(2), Purpose::Revoke(Some(&db)), Some("other stacks")),
            (&key(1), Purpose::Ask, None),
            (&device, Purpose::Ask, Some("nobody logs in")),
            (&key(1), Purpose::Read, None),
            (&key(9), Purpose::Read, Some("nobody's key")),
            (&device, Purpose::Roster, None),
            (&key(2), Purpose::Roster, Some("is no [[stack.roster.key]]")),
        ] {
            let said = why_not(key, purpose, Some(&roster), &trust);
            assert_eq!(said.is_some(), reason.is_some(), "{purpose:?}: {said:?}");
            assert!(said.unwrap_or_default().contains(reason.unwrap_or_default()), "{purpose:?}");
        }
        let (roster, trust, _) = company(true);
        assert_eq!(why_not(&key(2), approve, Some(&roster), &trust), None, "where the configuration takes plain keys");
        let denied = Settings { deny_keys: [key(2).fingerprint().clone()].into(), ..(*trust).clone() }.check().unwrap();
        assert!(why_not(&key(2), Purpose::Close(&only_web), Some(&roster), &denied).unwrap().contains("deny_keys"));
    }

    #[test]
    fn who_else_can_approve_is_neither_whom_it_is_for_nor_who_has() {
        let (roster, ..) = company(false);
        let others = |account: &str, without: &[&str]| -> Vec<String> {
            let without: Vec<Person> = without.iter().map(|name| name.parse().unwrap()).collect();
            let others = others_who_approve(
                &roster,
                &"web".parse().unwrap(),
                &account.parse().unwrap(),
                &without.iter().collect::<Vec<_>>(),
            );
            others.iter().map(ToString::to_string).collect()
        };
        assert_eq!(others("ubuntu", &[]), ["alice", "bob"]);
        assert_eq!(others("ubuntu", &["ALICE"]), ["bob"]);
        assert_eq!(others("root", &[]), ["alice"]);
    }
}
