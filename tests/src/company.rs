//! The people of an organization, their keys, and documents that they sign with `ssh-keygen`, as the client does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use document::{
    ANY, AccountPattern, ApproveWith, Approver, Body, Document, Envelope, Grant, Hosts, Id, IsGrant, IsLift,
    IsLockdown, IsRevoke, IsRoster, Lift, Lockdown, LoginWith, Member, Moment, Revoke, Roster, Rule, V1,
};

use crate::client::Key;
use crate::device::Device;
use crate::host::finish;

const MINUTE: Duration = Duration::from_secs(60);

/// acme: the ceo signs rosters; alice and bob approve, with keys that are for this alone; frank and grace log in to `ubuntu`,
/// for which one approval is enough, and to `deploy`, which takes two.
#[derive(Debug)]
pub struct Company {
    dir: PathBuf,
    /// Signs rosters.
    pub ceo: Key,
    /// Approves.
    pub alice: Key,
    /// Approves.
    pub bob: Key,
    /// Logs in.
    pub frank: Key,
    /// Logs in.
    pub grace: Key,
    /// Nobody knows them.
    pub mallory: Key,
}

/// What a test writes as text and a document has as a word of its own.
fn word<T: TryFrom<String>>(text: &str) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(text.to_owned()).expect("a good word")
}

fn now() -> Moment {
    Moment::of(jiff::Timestamp::now())
}

/// A public key as documents have it, without its comment.
pub(crate) fn bare(key: &Key) -> String {
    key.public().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn key(key: &Key) -> document::Key {
    bare(key).parse().expect("a good key")
}

fn sign(document: &Document, key: &Key, device: Option<&Device>) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", document.namespace().as_str(), "-f"]).arg(key.path());
    command.env_remove("SSH_AUTH_SOCK").envs(device.map(|device| ("SSH_AUTH_SOCK", device.socket())));
    finish(command, "ssh-keygen -Y sign", document.line().as_bytes()).expect_ok() + "\n"
}

impl Company {
    /// Makes their keys in a directory.
    #[must_use]
    pub fn found(dir: &Path) -> Self {
        let [ceo, alice, bob, frank, grace, mallory] =
            ["ceo", "alice", "bob", "frank", "grace", "mallory"].map(|name| Key::generate(dir, name, "ed25519"));
        Self { dir: dir.to_owned(), ceo, alice, bob, frank, grace, mallory }
    }

    /// A public key as rosters have it.
    #[must_use]
    pub fn key_of(&self, of: &Key) -> document::Key {
        key(of)
    }

    /// `[stack]` of every configuration, with these lines more at its top.
    #[must_use]
    pub fn table(&self, more: &str) -> String {
        format!(
            "[stack]\norganization = \"acme\"\nplain_approvers = true\n{more}\n[stack.roster]\nthreshold = 1\n\
             [[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
            bare(&self.ceo)
        )
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self, version: u64) -> Roster {
        let member = |name: &str, of: &Key| Member {
            accounts: BTreeMap::from([(word("web"), BTreeSet::from([word("deploy"), word("ubuntu")]))]),
            iam: None,
            keys: [key(of)].into(),
            name: word(name),
            source: word("hand"),
        };
        let approver = |name: &str, of: &Key| Approver {
            accounts: [word::<AccountPattern>(ANY)].into(),
            keys: [key(of)].into(),
            person: word(name),
            stacks: [word(ANY)].into(),
        };
        let rule = |account: &str, approvals: u64| Rule {
            account: word(account),
            approvals: approvals.try_into().expect("a good number"),
            approve_with: ApproveWith::Key,
            login_with: LoginWith::Key,
            max_seconds: 8 * 3600,
            stack: word("web"),
        };
        Roster {
            approvers: vec![approver("alice", &self.alice), approver("bob", &self.bob)],
            expires_at: now().after(1000 * 60 * MINUTE),
            feeders: vec![],
            holds: [].into(),
            issued_at: now(),
            organization: word("acme"),
            people: vec![member("frank", &self.frank), member("grace", &self.grace)],
            rules: vec![rule("deploy", 2), rule("ubuntu", 1)],
            kind: IsRoster,
            v: V1,
            version: version.try_into().expect("a good version"),
        }
    }

    /// Two hours on an account for frank, on every host; to be taken up for so long.
    #[must_use]
    pub fn grant(&self, account: &str, accept_within: Duration) -> Grant {
        let issued_at = now();
        Grant {
            accept_until: issued_at.after(accept_within),
            account: word(account),
            after: [].into(),
            approvals: 1.try_into().expect("a good number"),
            expires_at: issued_at.after(120 * MINUTE),
            fingerprints: [word(&self.frank.fingerprint())].into(),
            from: vec![],
            hosts: Hosts::All,
            issued_at,
            organization: word("acme"),
            person: word("frank"),
            reason: word("INC-42"),
            roster: 1.try_into().expect("a good version"),
            stack: word("web"),
            starts_at: issued_at,
            kind: IsGrant,
            v: V1,
        }
    }

    /// The same for grace.
    #[must_use]
    pub fn grant_to_grace(&self, account: &str, accept_within: Duration) -> Grant {
        let fingerprints = [word(&self.grace.fingerprint())].into();
        Grant { person: word("grace"), fingerprints, ..self.grant(account, accept_within) }
    }

    /// A grant ends.
    #[must_use]
    pub fn revoke(&self, grant: Id) -> Revoke {
        Revoke { grant, issued_at: now(), organization: word("acme"), reason: word("done"), kind: IsRevoke, v: V1 }
    }

    /// Everything of the stack ends, or of one person.
    #[must_use]
    pub fn lockdown(&self, person: Option<&str>, hold: bool) -> Lockdown {
        Lockdown {
            fingerprint: None,
            hold,
            hosts: None,
            issued_at: now(),
            organization: word("acme"),
            person: person.map(word),
            reason: word("incident"),
            stack: word("web"),
            kind: IsLockdown,
            v: V1,
        }
    }

    /// A lockdown holds no more.
    #[must_use]
    pub fn lift(&self, lockdown: Id) -> Lift {
        Lift { issued_at: now(), lockdown, organization: word("acme"), reason: word("over"), kind: IsLift, v: V1 }
    }

    /// A document with the signatures of these keys, by `ssh-keygen -Y sign`.
    ///
    /// # Panics
    /// When it is no document, or ssh-keygen fails.
    #[must_use]
    pub fn signed(&self, body: impl Into<Body>, by: &[&Key]) -> Envelope {
        let document = Document::new(body).expect("a good document");
        let signatures = by.iter().map(|key| sign(&document, key, None)).collect();
        Envelope::new(document, signatures).expect("a good envelope")
    }

    /// The same by a security device.
    ///
    /// # Panics
    /// As [`Company::signed`].
    #[must_use]
    pub fn signed_with(&self, body: impl Into<Body>, device: &Device) -> Envelope {
        let document = Document::new(body).expect("a good document");
        let signature = sign(&document, device.key(), Some(device));
        Envelope::new(document, vec![signature]).expect("a good envelope")
    }

    /// The roster in which alice approves with this device, and what is approved for `ubuntu` has to be touched.
    #[must_use]
    pub fn roster_with(&self, version: u64, device: &Device) -> Roster {
        let mut roster = self.roster(version);
        roster.approvers[0].keys = [key(device.key())].into();
        roster.rules[1].approve_with = ApproveWith::Hardware;
        roster
    }

    /// Writes an envelope into a file of the host.
    ///
    /// # Panics
    /// When the disk is full.
    #[must_use]
    pub fn file(&self, envelope: &Envelope) -> PathBuf {
        let path = self.dir.join(format!("{}.json", envelope.document().id()));
        std::fs::write(&path, envelope.to_json()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}
