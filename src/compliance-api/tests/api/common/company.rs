//! A small company: people, approvers, their keys, and documents that they sign now.

use std::{collections::BTreeMap, time::Duration};

use compliance_api::config::{Config, Stack};
use document::{
    AccountPattern, ApproveWith, Approver, Body, Document, Envelope, Grant, Hosts, Id, IsGrant, IsLift, IsLockdown,
    IsRevoke, IsRoster, Key, Lift, Lockdown, LoginWith, Member, Moment, Namespace, Revoke, Roster, RosterKey,
    RosterTrust, Rule, Settings, V1, WhenSilent,
};
use jiff::Timestamp;
use record::Fingerprint;
use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

/// Whatever a test writes as text and a document has as a word of its own.
pub fn w<T: TryFrom<String>>(text: &str) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(text.to_owned()).unwrap()
}

/// A set of such words.
pub fn set<T: TryFrom<String> + Ord>(texts: &[&str]) -> std::collections::BTreeSet<T>
where
    T::Error: std::fmt::Debug,
{
    texts.iter().map(|text| w(text)).collect()
}

pub fn now() -> Moment {
    Moment::of(Timestamp::now())
}

/// Somebody's key.
pub fn key_of(name: &str) -> PrivateKey {
    let mut seed = [7; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// The same as documents have it.
pub fn public(name: &str) -> Key {
    Key::from_data(key_of(name).public_key().key_data()).unwrap()
}

pub fn fingerprint(name: &str) -> Fingerprint {
    public(name).fingerprint().clone()
}

/// Has this server keep documents of acme, whose rosters ceo and cto sign.
pub fn of_acme(config: &mut Config) {
    let key = |person: &str| RosterKey { person: w(person), key: public(person) };
    let settings = Settings {
        organization: w("acme"),
        feeds: vec![],
        deny_keys: [].into(),
        plain_approvers: true,
        max_silence: 15 * MINUTE,
        when_silent: WhenSilent::Keep,
        roster: RosterTrust { threshold: 1, min_version: 0, automatic: vec![], keys: vec![key("ceo"), key("cto")] },
    };
    let origin = Some(w("https://compliance.example.com"));
    config.stack = Some(Stack { settings: settings.check().unwrap(), origin });
}

/// Frank and Grace log in to web, and Grace to db; Alice and Bob approve everywhere, Carol in db. `ubuntu` takes two.
pub fn roster(version: u64) -> Roster {
    let member = |name: &str, stacks: &[&str]| Member {
        accounts: stacks.iter().map(|stack| (w(stack), set(&["deploy", "ubuntu"]))).collect::<BTreeMap<_, _>>(),
        iam: None,
        keys: [public(name)].into(),
        name: w(name),
        source: w("hand"),
    };
    let approver = |name: &str, stacks: &[&str]| Approver {
        accounts: [w::<AccountPattern>("*")].into(),
        keys: [public(&format!("{name} approves"))].into(),
        person: w(name),
        stacks: set(stacks),
    };
    let rule = |account: &str, approvals: u64| Rule {
        account: w(account),
        approvals: approvals.try_into().unwrap(),
        approve_with: ApproveWith::Key,
        login_with: LoginWith::Key,
        max_seconds: 8 * 3600,
        stack: w("*"),
    };
    Roster {
        approvers: vec![approver("alice", &["*"]), approver("bob", &["*"]), approver("carol", &["db"])],
        expires_at: now().after(1000 * HOUR),
        feeders: vec![],
        holds: [].into(),
        issued_at: now(),
        organization: w("acme"),
        people: vec![member("frank", &["web"]), member("grace", &["db", "web"])],
        rules: vec![rule("deploy", 1), rule("ubuntu", 2)],
        kind: IsRoster,
        v: V1,
        version: version.try_into().unwrap(),
    }
}

/// Two hours on an account of web for Frank, from now.
pub fn grant(account: &str, reason: &str) -> Grant {
    let issued_at = now();
    Grant {
        accept_until: issued_at.after(HOUR),
        account: w(account),
        after: [].into(),
        approvals: 1.try_into().unwrap(),
        expires_at: issued_at.after(2 * HOUR),
        fingerprints: [fingerprint("frank")].into(),
        from: vec![],
        hosts: Hosts::All,
        issued_at,
        organization: w("acme"),
        person: w("frank"),
        reason: w(reason),
        roster: 1.try_into().unwrap(),
        stack: w("web"),
        starts_at: issued_at,
        kind: IsGrant,
        v: V1,
    }
}

pub fn revoke(grant: Id) -> Revoke {
    Revoke { grant, issued_at: now(), organization: w("acme"), reason: w("done"), kind: IsRevoke, v: V1 }
}

pub fn lockdown(stack: &str, hold: bool) -> Lockdown {
    Lockdown {
        fingerprint: None,
        hold,
        hosts: None,
        issued_at: now(),
        organization: w("acme"),
        person: None,
        reason: w("incident"),
        stack: w(stack),
        kind: IsLockdown,
        v: V1,
    }
}

pub fn lift(lockdown: Id) -> Lift {
    Lift { issued_at: now(), lockdown, organization: w("acme"), reason: w("over"), kind: IsLift, v: V1 }
}

/// A document.
pub fn document(body: impl Into<Body>) -> Document {
    Document::new(body).unwrap()
}

/// A signature as `ssh-keygen -Y sign` makes it.
pub fn sign(by: &str, namespace: Namespace, line: &str) -> String {
    let signature = key_of(by).sign(namespace.as_str(), HashAlg::Sha512, line.as_bytes()).unwrap();
    record::write_armored(&signature).unwrap()
}

/// A document with the signatures of these.
pub fn signed(document: &Document, by: &[&str]) -> Envelope {
    let one = |by: &&str| sign(by, document.namespace(), document.line());
    Envelope::new(document.clone(), by.iter().map(one).collect()).unwrap()
}

/// A grant that the person asks for.
pub fn asked(document: &Document, by: &str) -> Envelope {
    Envelope::new(document.clone(), vec![sign(by, Namespace::Request, document.line())]).unwrap()
}
