//! A stack's approvers, the documents that they sign, and whoever carries them: twice, late, in any order, or forged.

use std::collections::{BTreeMap, BTreeSet};

use control::{ApplyAnswer, ApplyOutcome};
use document::{Body, Document, Envelope, Id, Moment};
use lockdown_core::machine::{
    Event, Token,
    documents::{DocumentsOnRecord, DocumentsRead, InboxRead, MAX_A_PASS},
};
use record::{ArtifactType, Person};
use serde_json::{Value, json};
use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};

use super::world::{Operator, World};

/// What somebody signed.
#[derive(Debug, Clone)]
enum Made {
    /// Whether an approver did who may, and lockdowns that it names.
    Grant {
        proper: bool,
        after: BTreeSet<Id>,
    },
    Revoke(Id),
    Lockdown {
        person: Option<&'static str>,
        hold: bool,
    },
    Lift(Id),
    Roster,
}

/// What is outside of the host.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    pub(crate) is_on: bool,
    made: BTreeMap<Id, (Made, Envelope)>,
    inbox: BTreeMap<Id, Envelope>,
    /// What the shipper was told is needed no more.
    done: BTreeSet<Id>,
    /// Of those that root applied, what was not on record when it was answered for.
    not_on_record: BTreeSet<Id>,
    version: u64,
}

impl Stack {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    /// Whoever applied a document was answered: it holds from now on, whatever the disk does.
    pub(crate) fn applied(&mut self, answer: &ApplyAnswer) {
        if matches!(answer.outcome, ApplyOutcome::Accepted | ApplyOutcome::Known) {
            let id = answer.document.parse().expect("an id");
            if self.done.insert(id) && !answer.notes.is_empty() {
                self.not_on_record.insert(id);
            }
        }
    }

    /// What the disk had not taken is gone with a power cut: whoever applied it was told so.
    pub(crate) fn rebooted(&mut self) {
        let lost = std::mem::take(&mut self.not_on_record);
        self.done.retain(|id| !lost.contains(id));
    }
}

fn key(of: &str) -> PrivateKey {
    let mut seed = [7; 32];
    seed[..of.len()].copy_from_slice(of.as_bytes());
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// Without a comment.
pub(crate) fn public(of: &str) -> String {
    key(of).public_key().to_openssh().expect("it can be written").trim().to_owned()
}

/// What the configuration says of the stack.
pub(crate) fn settings() -> String {
    format!(
        "[stack]\norganization = \"acme\"\nplain_approvers = true\n[[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
        public("ceo")
    )
}

fn sign(line: &str, namespace: &str, by: &[&str]) -> Vec<String> {
    let one = |of: &&str| {
        let signature = SshSig::sign(&key(of), namespace, HashAlg::Sha512, line.as_bytes()).expect("signed");
        record::write_armored(&signature).expect("written")
    };
    by.iter().map(one).collect()
}

/// Members sorted, as RFC 8785 has them: so serde_json writes its maps.
fn envelope(body: &Value, by: &[&str]) -> Envelope {
    let line = body.to_string();
    let document = Document::parse(&line).expect("a good document");
    let namespace = document.namespace().to_string();
    Envelope::new(document, sign(&line, &namespace, by)).expect("few signatures")
}

impl World {
    fn moment_now(&self) -> Moment {
        Moment::of(self.now.wall)
    }

    /// Somebody signs something, or somebody brings something once more.
    pub(crate) fn document_step(&mut self) {
        let (what, made, envelope) = match self.random.below(12) {
            _ if self.stack.version == 0 => self.make_roster(),
            0 if self.random.percent(30) => self.make_roster(),
            0..7 => self.make_grant(),
            7 => self.make_revoke(),
            8 if self.random.percent(50) => self.make_lockdown(),
            8..10 => self.make_lift(),
            _ => return self.bring_again(),
        };
        let id = envelope.document().id();
        self.log(format!("{what} is document {}", &id.to_string()[..12]));
        self.stack.made.insert(id, (made, envelope.clone()));
        self.bring(envelope);
    }

    fn bring_again(&mut self) {
        let many = self.stack.made.len() as u64;
        let which = usize::try_from(self.random.below(many.max(1))).expect("small");
        let Some((_, (_, envelope))) = self.stack.made.iter().nth(which) else { return };
        let envelope = envelope.clone();
        self.log(format!("document {} comes again", &envelope.document().id().to_string()[..12]));
        self.bring(envelope);
    }

    fn bring(&mut self, envelope: Envelope) {
        if self.random.percent(25) {
            let token = Token(self.number());
            self.operators.insert(token, Operator { grant: None, since: self.elapsed });
            self.log(format!("{} apply", token.0));
            return self.act(Event::Apply { token, envelope: Box::new(envelope) });
        }
        self.stack.inbox.insert(envelope.document().id(), envelope);
        if self.random.percent(90) {
            self.act(Event::InboxTouched);
        }
    }

    fn common(&self, kind: &str) -> Value {
        json!({ "v": 1, "type": kind, "organization": "acme", "issued_at": self.moment_now().to_string() })
    }

    fn make_roster(&mut self) -> (String, Made, Envelope) {
        let forged = self.stack.version > 0 && self.random.percent(20);
        if !forged {
            self.stack.version += 1;
        }
        let version = if forged { self.stack.version + 7 } else { self.stack.version };
        let person = |name: &str| json!({ "name": name, "source": "hand", "keys": [public(name)], "accounts": { "default": ["ubuntu"] } });
        let with_heidi = version == 1 || self.random.percent(70);
        let people: Vec<Value> = if with_heidi { vec![person("heidi")] } else { Vec::new() };
        let approver =
            |name: &str| json!({ "person": name, "keys": [public(name)], "stacks": ["*"], "accounts": ["*"] });
        let rule = json!({
            "stack": "*", "account": "*", "approvals": 1, "approve_with": "key", "login_with": "key", "max_seconds": 36_000,
        });
        let mut body = self.common("roster");
        let more = json!({
            "version": version, "expires_at": "2030-01-01T00:00:00Z", "people": people,
            "approvers": [approver("ana"), approver("ben")], "rules": [rule], "feeders": [], "holds": [],
        });
        merge(&mut body, more);
        let by = if forged { "ana" } else { "ceo" };
        (format!("roster {version} by {by}, with heidi: {with_heidi},"), Made::Roster, envelope(&body, &[by]))
    }

    fn make_grant(&mut self) -> (String, Made, Envelope) {
        let (person, key) = match self.random.below(3) {
            0 => ("frank", self.fingerprint_of_frank()),
            _ => ("heidi", fingerprint(&public("heidi"))),
        };
        let by: &[&str] = match self.random.below(10) {
            0 => &[],
            1 => &["heidi"],
            2 => &["mallory", "heidi"],
            3 => &["ceo"],
            4..7 => &["ben"],
            _ => &["ana", "mallory"],
        };
        let proper = by.iter().any(|name| ["ana", "ben"].contains(name));
        let (now, span) = (self.moment_now(), 60 + self.random.below(7_200));
        let seconds = std::time::Duration::from_secs;
        let starts_at = now.after(seconds(self.random.below(4) * 20));
        let lockdowns = self.stack.made.iter().filter(|(_, (made, _))| matches!(made, Made::Lockdown { .. }));
        let after: BTreeSet<Id> = lockdowns.map(|(id, _)| *id).take(64).collect();
        let after = if self.random.percent(70) { after } else { BTreeSet::new() };
        let mut body = self.common("grant");
        let more = json!({
            "accept_until": now.after(seconds(120 + self.random.below(3_600))).to_string(), "stack": "default", "hosts": ["*"],
            "person": person, "fingerprints": [key], "account": "ubuntu", "starts_at": starts_at.to_string(),
            "expires_at": starts_at.after(seconds(span)).to_string(), "from": [], "reason": format!("INC-{}", self.number()),
            "approvals": 1, "after": after.iter().map(ToString::to_string).collect::<Vec<_>>(), "roster": 1,
        });
        merge(&mut body, more);
        (format!("a grant for {person} by {by:?}"), Made::Grant { proper, after }, envelope(&body, by))
    }

    fn fingerprint_of_frank(&self) -> String {
        let entry = self.core.config.people.get(&"frank".parse::<Person>().expect("a name")).expect("he is there");
        entry.keys[0].fingerprint().to_string()
    }

    fn one_made(&mut self, is_it: impl Fn(&Made) -> bool) -> Option<Id> {
        let fitting: Vec<Id> = self.stack.made.iter().filter(|(_, (made, _))| is_it(made)).map(|(id, _)| *id).collect();
        let which = usize::try_from(self.random.below(fitting.len().max(1) as u64)).expect("small");
        fitting.get(which).copied()
    }

    fn make_revoke(&mut self) -> (String, Made, Envelope) {
        let grant = self.one_made(|made| matches!(made, Made::Grant { .. })).unwrap_or_else(|| Id::of("none"));
        let mut body = self.common("revoke");
        merge(&mut body, json!({ "grant": grant.to_string(), "reason": format!("over {}", self.number()) }));
        (format!("a revoke of {}", &grant.to_string()[..12]), Made::Revoke(grant), envelope(&body, &["ben"]))
    }

    fn make_lockdown(&mut self) -> (String, Made, Envelope) {
        let person = [None, Some("frank"), Some("heidi")][usize::try_from(self.random.below(3)).expect("small")];
        let hold = person.is_some() && self.random.percent(50);
        let mut body = self.common("lockdown");
        merge(&mut body, json!({ "stack": "*", "hold": hold, "reason": format!("laptop {}", self.number()) }));
        if let Some(person) = person {
            body["person"] = person.into();
        }
        let what = format!("a lockdown of {person:?}, hold: {hold},");
        (what, Made::Lockdown { person, hold }, envelope(&body, &["ana"]))
    }

    fn make_lift(&mut self) -> (String, Made, Envelope) {
        let lockdown = self.one_made(|made| matches!(made, Made::Lockdown { .. })).unwrap_or_else(|| Id::of("none"));
        let mut body = self.common("lift");
        merge(&mut body, json!({ "lockdown": lockdown.to_string(), "reason": format!("found {}", self.number()) }));
        (format!("a lift of {}", &lockdown.to_string()[..12]), Made::Lift(lockdown), envelope(&body, &["ben"]))
    }

    /// The inbox, as the job reads it.
    pub(crate) fn read_inbox(&self, settled: &BTreeSet<Id>) -> InboxRead {
        let rank = |envelope: &Envelope| match envelope.document().body() {
            Body::Roster(roster) => (1, roster.version.number()),
            Body::Grant(_) => (2, 0),
            _ => (0, 0),
        };
        let new = self.stack.inbox.iter().filter(|(id, _)| !settled.contains(*id));
        let mut offered: Vec<Envelope> = new.map(|(_, envelope)| envelope.clone()).collect();
        offered.sort_by_key(rank);
        let roster = offered.iter().position(|envelope| matches!(envelope.document().body(), Body::Roster(_)));
        let most = roster.map_or(MAX_A_PASS, |at| MAX_A_PASS.min(at + 1));
        let more = offered.len() > most;
        offered.truncate(most);
        InboxRead { present: self.stack.inbox.keys().copied().collect(), offered, more, ..InboxRead::default() }
    }

    /// The shipper is told what is needed no more.
    pub(crate) fn inbox_answered(&mut self, bytes: &[u8]) {
        let answer: Value = serde_json::from_slice(bytes).expect("JSON");
        let done = answer["done"].as_array().expect("a list").iter();
        let done: Vec<Id> = done.map(|id| id.as_str().expect("an id").parse().expect("an id")).collect();
        for id in done {
            if self.stack.done.insert(id) {
                self.log(format!("document {} is done", &id.to_string()[..12]));
            }
            self.stack.inbox.remove(&id);
        }
    }

    /// What an earlier run of this boot left of documents.
    pub(crate) fn copied_documents(&self) -> DocumentsRead {
        DocumentsRead::parse(self.run.documents.as_deref(), self.run.rosters.as_deref().as_slice())
    }

    /// What a start reads of documents.
    pub(crate) fn take_up_documents(&mut self, on_record: &DocumentsOnRecord) {
        let read = DocumentsRead::parse(self.disk.documents.as_deref(), self.disk.rosters.as_deref().as_slice());
        assert!(read.broken.is_none(), "{:?}", read.broken);
        self.core.take_up_documents(read, on_record, "web-1".parse().expect("a name"), self.now);
    }

    /// What holds of documents after each step.
    pub(crate) fn documents_hold(&self) {
        let judged = self.core.documents.judge().is_some();
        let made = |id: &Id| self.stack.made.get(id).map(|(made, _)| made);
        let lifted: BTreeSet<Id> = self
            .stack
            .made
            .values()
            .filter_map(|(made, _)| match made {
                Made::Lift(lockdown) => Some(*lockdown),
                _ => None,
            })
            .collect();
        let closed = self.stack.done.iter().filter_map(|id| Some((id, made(id)?)));
        let closed: Vec<(&Id, &Made)> = closed.filter(|(id, _)| !lifted.contains(*id)).collect();
        for grant in self.core.grants.open_ones() {
            let document = grant.origin.document().map(|from| (from.document, made(&from.document)));
            if let Some((id, made)) = document {
                let Some(Made::Grant { proper, .. }) = made else { unreachable!("{id} is no grant of ours") };
                assert!(*proper, "{id} was approved by nobody who may");
            }
            for (id, closing) in &closed {
                let names = |person: &Option<&str>| person.is_none_or(|person| person == grant.person.as_str());
                match (closing, document) {
                    (Made::Revoke(revoked), Some((document, _))) => {
                        assert!(*revoked != document, "{document} was revoked, and is open");
                    }
                    (Made::Lockdown { person, hold: true }, _) if judged => {
                        assert!(!names(person), "{} is open, and {id} holds {person:?}", grant.id);
                    }
                    (Made::Lockdown { person, hold: false }, Some((document, Some(Made::Grant { after, .. })))) => {
                        let is_old = self.elapsed > std::time::Duration::from_secs(20 * 3_600);
                        let may_be_forgotten = is_old || self.is_wild;
                        assert!(
                            !names(person) || after.contains(id) || may_be_forgotten,
                            "{document} is open after {id}"
                        );
                    }
                    _ => {}
                }
            }
        }
        let mut given = BTreeSet::new();
        for draft in self.disk.records(ArtifactType::GrantCreated) {
            if let Some(document) = draft.detail.get("document") {
                assert!(given.insert(document.to_string()), "document {document} gave two grants");
            }
        }
    }

    /// How many documents gave a grant.
    pub(crate) fn documents_given(&self) -> usize {
        let created = self.disk.records(ArtifactType::GrantCreated);
        created.filter(|draft| draft.detail.contains_key("document")).count()
    }

    /// What holds of documents once everything has come to rest.
    pub(crate) fn documents_rest(&self) {
        let waiting = self.core.stack_view(self.now).map(|view| view.waiting).unwrap_or_default();
        let waits = |id: &Id| waiting.iter().any(|waiting| waiting.document == id.to_string());
        let left: Vec<&Id> = self.stack.inbox.keys().filter(|id| !waits(id)).collect();
        let judged = self.core.documents.judge().is_some();
        assert!(
            left.is_empty() || !judged || self.inbox_is_stuck(),
            "documents that nobody answered for: {left:?}; {waiting:?} wait"
        );
    }
}

fn merge(body: &mut Value, more: Value) {
    let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) else { unreachable!("both are objects") };
    body.extend(more);
}

fn fingerprint(key: &str) -> String {
    key.parse::<document::Key>().expect("a key").fingerprint().to_string()
}
