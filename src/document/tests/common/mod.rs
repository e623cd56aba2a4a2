//! A small company for tests: people, approvers, keys and devices, and documents that they sign.
#![allow(dead_code, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

pub mod keys;

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use document::{judge::Kept, *};
pub use keys::Signing;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const MINUTE: Duration = Duration::from_secs(60);

/// The moment at which the tests' host began.
pub fn began() -> Moment {
    "2026-11-30T06:00:00Z".parse().unwrap()
}

/// The moment at which the tests judge.
pub fn noon() -> Moment {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

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

pub fn version(number: u64) -> Version {
    number.try_into().unwrap()
}

pub fn approvals(number: u64) -> Approvals {
    number.try_into().unwrap()
}

/// The keys of everybody. Approvers sign with devices.
#[derive(Debug, Clone)]
pub struct Company {
    pub ceo: Signing,
    pub cto: Signing,
    pub alice: Signing,
    pub alice_spare: Signing,
    pub bob: Signing,
    pub carol: Signing,
    pub frank_login: Signing,
    pub frank_device: Signing,
    pub frank_approves: Signing,
    pub grace_login: Signing,
    pub iam: Signing,
    pub stranger: Signing,
}

/// Made once: keys of P-256 take their time without optimisation.
pub fn company() -> Company {
    static COMPANY: LazyLock<Company> = LazyLock::new(make);
    COMPANY.clone()
}

fn make() -> Company {
    Company {
        ceo: Signing::plain(1),
        cto: Signing::plain(2),
        alice: Signing::device(3),
        alice_spare: Signing::p256_device(4),
        bob: Signing::device(5),
        carol: Signing::device(6),
        frank_login: Signing::plain(7),
        frank_device: Signing::device(8),
        frank_approves: Signing::device(9),
        grace_login: Signing::plain(10),
        iam: Signing::plain(11),
        stranger: Signing::plain(12),
    }
}

impl Company {
    /// One roster key is enough.
    pub fn settings(&self) -> Settings {
        let key = |person: &str, key: &Signing| RosterKey { person: w(person), key: key.key() };
        Settings {
            organization: w("acme"),
            feeds: vec!["https://compliance.example.com".to_owned()],
            deny_keys: [].into(),
            plain_approvers: false,
            max_silence: 15 * MINUTE,
            when_silent: WhenSilent::Keep,
            roster: RosterTrust {
                threshold: 1,
                min_version: 0,
                automatic: vec![],
                keys: vec![key("ceo", &self.ceo), key("cto", &self.cto)],
            },
        }
    }

    pub fn place(&self) -> Place {
        Place { host: Some(w("i-1")), stack: w("web"), people: BTreeMap::new() }
    }

    /// Frank and Grace log in to web; Alice, Bob, Carol and Frank approve there; two approvals for `ubuntu`.
    pub fn roster(&self) -> Roster {
        let approver = |person: &str, keys: &[&Signing]| Approver {
            accounts: set(&["*"]),
            keys: keys.iter().map(|key| key.key()).collect(),
            person: w(person),
            stacks: set(&["web"]),
        };
        let member = |name: &str, source: &str, keys: &[&Signing]| Member {
            accounts: [(w("web"), set(&["deploy", "ubuntu"]))].into(),
            iam: None,
            keys: keys.iter().map(|key| key.key()).collect(),
            name: w(name),
            source: w(source),
        };
        let rule = |account: &str, number: u64, with| Rule {
            account: w(account),
            approvals: approvals(number),
            approve_with: with,
            login_with: LoginWith::Key,
            max_seconds: 8 * 3600,
            stack: w("web"),
        };
        Roster {
            approvers: vec![
                approver("alice", &[&self.alice, &self.alice_spare]),
                approver("bob", &[&self.bob]),
                approver("carol", &[&self.carol]),
                approver("frank", &[&self.frank_approves]),
            ],
            expires_at: noon().after(1000 * HOUR),
            feeders: vec![Feeder { key: self.iam.key(), source: w("iam") }],
            holds: [].into(),
            issued_at: began(),
            organization: w("acme"),
            people: vec![
                member("frank", "hand", &[&self.frank_login, &self.frank_device]),
                member("grace", "iam", &[&self.grace_login]),
            ],
            rules: vec![rule("deploy", 1, ApproveWith::HardwarePin), rule("ubuntu", 2, ApproveWith::Hardware)],
            kind: IsRoster,
            v: V1,
            version: version(1),
        }
    }

    /// The feeder has looked, and holds Grace.
    pub fn run(&self) -> Run {
        let hold = Lockdown { person: Some(w("grace")), ..self.hold_frank() };
        Run {
            automatic: None,
            failed: None,
            holds: [document(hold).id()].into(),
            issued_at: noon(),
            organization: w("acme"),
            proposed: 1,
            source: w("iam"),
            kind: IsRun,
            users: 12,
            v: V1,
        }
    }

    /// Two hours on `ubuntu` for Frank, issued five minutes ago.
    pub fn grant(&self) -> Grant {
        let issued_at = noon().before(5 * MINUTE);
        Grant {
            accept_until: issued_at.after(HOUR),
            account: w("ubuntu"),
            after: [].into(),
            approvals: approvals(1),
            expires_at: issued_at.after(2 * HOUR),
            fingerprints: [self.frank_login.fingerprint()].into(),
            from: vec![],
            hosts: Hosts::All,
            issued_at,
            organization: w("acme"),
            person: w("frank"),
            reason: w("INC-42"),
            roster: version(1),
            stack: w("web"),
            starts_at: issued_at,
            kind: IsGrant,
            v: V1,
        }
    }

    pub fn revoke(&self, grant: Id) -> Revoke {
        Revoke { grant, issued_at: noon(), organization: w("acme"), reason: w("done"), kind: IsRevoke, v: V1 }
    }

    /// Everything in web, without a hold.
    pub fn lockdown(&self) -> Lockdown {
        Lockdown {
            fingerprint: None,
            hold: false,
            hosts: None,
            issued_at: noon(),
            organization: w("acme"),
            person: None,
            reason: w("incident"),
            stack: w("web"),
            kind: IsLockdown,
            v: V1,
        }
    }

    /// Frank, until a lift.
    pub fn hold_frank(&self) -> Lockdown {
        Lockdown { hold: true, person: Some(w("frank")), reason: w("left"), ..self.lockdown() }
    }

    pub fn lift(&self, lockdown: Id) -> Lift {
        Lift { issued_at: noon(), lockdown, organization: w("acme"), reason: w("over"), kind: IsLift, v: V1 }
    }

    /// A judge on a host that began at six, with the roster.
    pub fn judge(&self) -> Judge {
        self.judge_with(self.settings(), self.place(), self.roster())
    }

    pub fn judge_with(&self, settings: Settings, place: Place, roster: Roster) -> Judge {
        let mut judge = Judge::begin(settings.check().unwrap(), place, began());
        assert_accepted(&judge.judge(&signed(roster, &[&self.ceo]), began()));
        judge
    }
}

pub fn document(body: impl Into<Body>) -> Document {
    Document::new(body).unwrap()
}

/// A document with the signatures of all of these.
pub fn signed(body: impl Into<Body>, by: &[&Signing]) -> Envelope {
    signed_as(document(body), None, by)
}

/// The same for another purpose than what it is.
pub fn signed_as(document: Document, namespace: Option<Namespace>, by: &[&Signing]) -> Envelope {
    let namespace = namespace.unwrap_or(document.namespace());
    let signatures = by.iter().map(|key| key.sign(namespace, document.line())).collect();
    Envelope::new(document, signatures).unwrap()
}

#[track_caller]
pub fn assert_accepted(judged: &Judged) {
    assert!(matches!(judged.verdict, Verdict::Accepted(_)), "{:?}", judged.verdict);
}

/// The terms of a grant that was accepted.
#[track_caller]
pub fn terms(judged: Judged) -> judge::Terms {
    match judged.verdict {
        Verdict::Accepted(Accepted::Grant(terms)) => *terms,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn refusal(judged: Judged) -> Refusal {
    match judged.verdict {
        Verdict::Refused(refusal) => {
            let sentence = refusal.to_string();
            assert!(sentence.len() > 10 && !sentence.contains('\n'), "{sentence}");
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn wait(judged: Judged) -> Wait {
    match judged.verdict {
        Verdict::Waits(wait) => wait,
        other => panic!("{other:?}"),
    }
}

/// A judge on the same host after a restart: what it remembers goes through its form on disk.
pub fn restarted(judge: &Judge, settings: Settings, place: Place, now: Moment) -> (Judge, Vec<judge::Dropped>) {
    let state = serde_json::from_str(&serde_json::to_string(judge.state()).unwrap()).unwrap();
    let again = |envelope: &Option<Envelope>| {
        envelope.as_ref().map(|envelope| Envelope::parse(envelope.to_json().as_bytes()).unwrap())
    };
    let kept = Kept { signed: again(&judge.rosters().signed), automatic: again(&judge.rosters().automatic) };
    Judge::load(settings.check().unwrap(), place, state, kept, now)
}

/// What the core would note of a grant that was accepted.
pub fn open_grant(grant: &Grant) -> OpenGrant {
    OpenGrant {
        id: document(grant.clone()).id(),
        person: grant.person.clone(),
        account: grant.account.clone(),
        fingerprints: grant.fingerprints.clone(),
        after: grant.after.clone(),
        issued_at: grant.issued_at,
    }
}
