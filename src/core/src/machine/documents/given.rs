//! What a document gives: one grant, which takes effect once it is on disk.

use std::time::Duration;

use control::{Answer, ApplyAnswer, ApplyOutcome};
use document::{Envelope, Id, Moment, Signer, judge::Terms, roster::same_person};
use record::{Account, GrantId, Person};

use super::{Became, Core, stated};
use crate::{
    config::Demand,
    keys::person::PersonKey,
    machine::{
        Effect, First, NotInForce, PATIENCE, Token, disk_refusal, grant_created, grant_view, recorder::NotWritten,
    },
    policy::{
        admission,
        grant::{FromDocument, Grant, Origin},
        time::{Deadline, Now},
    },
};

/// A grant of a document's that is on its way to the disk.
#[derive(Debug)]
pub struct PendingDocument {
    grant: GrantId,
    document: Id,
    /// How it was taken, in words.
    sentence: String,
    /// When whoever waits is told that nothing was granted, on the boot clock; nobody waits for one from the inbox.
    pub until: Option<Duration>,
    reply: Option<Token>,
    /// Somebody was told that nothing was granted, and so it stays.
    given_up: bool,
}

impl Core {
    /// A document was accepted that gives a grant. What this host alone can have against it is looked at now.
    pub(super) fn give_document(
        &mut self,
        envelope: &Envelope,
        terms: &Terms,
        signers: &[Signer],
        reply: Option<Token>,
        now: Now,
    ) -> Became {
        let document = envelope.document();
        let grant = match self.made_from(document, terms, now) {
            Ok(grant) => grant,
            Err((code, why)) => {
                self.note_refused(envelope, signers, code, &why, now);
                // What this host has against it may be mended.
                self.take_document_back(document.id());
                self.commit(now);
                return Became::Done(ApplyOutcome::Refused, why);
            }
        };
        // It may end here before the document says.
        let terms = Terms { expires_at: Moment::of(grant.ends.wall), ..terms.clone() };
        let sentence = stated::sentence(envelope, &document::Accepted::Grant(Box::new(terms)), signers);
        let required = self.required_of(&grant.account).and(grant.demand()).for_record();
        let approvers: Vec<&str> = approvers_of(&grant).iter().map(Person::as_str).collect();
        let created = grant_created(&grant, sentence.clone())
            .with("document", document.id().to_string())
            .with_some("iam", self.iam_of(&grant.person))
            .with("approvers", approvers)
            .with_some("required", required);
        let number = self.documents.next_number();
        let drafts = vec![created, stated::accepted(envelope, signers, sentence.clone(), number)];
        let (id, until) = (document.id(), reply.map(|_| now.boot + PATIENCE));
        let pending =
            PendingDocument { grant: grant.id.clone(), document: id, sentence, until, reply, given_up: false };
        match self.give(grant, drafts, First::Document(Box::new(pending)), now) {
            Ok(()) => Became::Pending,
            Err(why) => {
                self.take_document_back(id);
                self.commit(now);
                Became::Waits(why.to_string())
            }
        }
    }

    /// The grant that a document gives on this host; else a word and a sentence on why none.
    fn made_from(
        &mut self,
        document: &document::Document,
        terms: &Terms,
        now: Now,
    ) -> Result<Grant, (&'static str, String)> {
        let name = &terms.account;
        let account: Account =
            name.as_str().parse().map_err(|_| ("no_account", format!("{name} is no account's name")))?;
        let uid = self.may_be_granted(&account)?;
        let required = terms.login_with.iter().fold(self.required_of(&account), |all, with| all.and(Demand::of(*with)));
        let keys = terms.keys.iter().filter_map(|key| PersonKey::parse(key.as_str()).ok());
        let keys: Vec<PersonKey> = keys.filter(|key| required.takes(key)).collect();
        // By the name that this host knows them by, whatever its case.
        let person = keys.first().and_then(|key| self.owner(&key.fingerprint())).cloned();
        let Some(person) = person else {
            let why = format!("none of the keys that it names opens {account}, which requires {required} here");
            return Err(("no_hardware", why));
        };
        let starts_at = terms.starts_at.timestamp().max(now.wall);
        let most = jiff::SignedDuration::try_from(self.config.grants.max_duration).unwrap_or(jiff::SignedDuration::MAX);
        let ceiling = starts_at.checked_add(most).unwrap_or(jiff::Timestamp::MAX);
        let mut approvers: Vec<Person> =
            terms.approvers.iter().filter_map(|signer| signer.who.person().cloned()).collect();
        approvers.sort_unstable();
        approvers.dedup();
        let from = FromDocument {
            document: document.id(),
            approvers,
            keys,
            login_with: terms.login_with.clone(),
            after: terms.after.clone(),
            issued_at: document.issued_at(),
        };
        Ok(Grant {
            id: self.new_grant_id(),
            person,
            account,
            uid,
            from: terms.from.clone(),
            reason: terms.reason.to_string(),
            origin: Origin::Document(Box::new(from)),
            created_at: now.wall,
            starts_at,
            ends: Deadline::at(terms.expires_at.timestamp().min(ceiling), now),
            ceiling: Deadline::at(ceiling, now),
            recorded: false,
            end: None,
        })
    }

    /// Who somebody is in IAM, by the roster in force.
    fn iam_of(&self, person: &Person) -> Option<serde_json::Value> {
        let people = &self.documents.judge.as_ref()?.roster()?.people;
        let member = people.iter().find(|member| same_person(&member.name, person))?;
        serde_json::to_value(member.iam.as_ref()?).ok()
    }

    /// The user id of an account that a grant may be for; else a word and a sentence on why not.
    fn may_be_granted(&self, account: &Account) -> Result<u32, (&'static str, String)> {
        if self.exempt().contains(account) {
            return Err((
                "exempt_account",
                format!("{account} is exempt on this host: it keeps its own keys and takes no grants"),
            ));
        }
        let uid = self
            .uid_of(account)
            .ok_or_else(|| ("no_account", format!("there is no account {account} on this host")))?;
        if let Some(other) = self.kept_for(account) {
            return Err(("shared_user_id", format!("{account} has the user id of {other} on this host")));
        }
        if self.around.globs && admission::is_pattern(account.as_str()) {
            return Err(("no_account", format!("sshd would take the name {account} for a pattern")));
        }
        Ok(uid)
    }

    /// A document's grant never was in force: it may be accepted again.
    pub(super) fn take_document_back(&mut self, id: Id) {
        if let Some(judge) = &mut self.documents.judge {
            judge.take_back(id);
            self.documents.unsaved = true;
        }
    }

    /// Documents of grants that a crash kept off the record, so that they never were in force.
    pub(in crate::machine) fn document_never_given(&mut self, id: Id) {
        self.documents.never_given.push(id);
    }

    /// A document's grant is on disk, or is not.
    pub(in crate::machine) fn document_written(
        &mut self,
        pending: PendingDocument,
        written: Result<(), NotInForce>,
        now: Now,
    ) {
        let PendingDocument { grant: id, document, sentence, reply, given_up, .. } = pending;
        let done = written.and_then(|()| {
            self.takes_effect(&id, now);
            self.in_force(&id)
        });
        let (became, response) = match done {
            // It has ended while it was on its way: that is what came of it.
            Err(NotInForce::Ended(why)) => {
                (Became::Done(ApplyOutcome::Refused, why.clone()), Err(disk_refusal(&NotInForce::Ended(why))))
            }
            Err(why) => {
                self.take_back(&id, now);
                self.take_document_back(document);
                self.commit(now);
                (Became::Waits(why.to_string()), Err(disk_refusal(&why)))
            }
            Ok(grant) => {
                let notes = self.notes_on(&grant, now);
                let answer = ApplyAnswer {
                    document: document.to_string(),
                    kind: document::Kind::Grant.as_str().to_owned(),
                    outcome: ApplyOutcome::Accepted,
                    why: sentence.clone(),
                    grant: Some(grant_view(&grant, now)),
                    notes,
                };
                (Became::Done(ApplyOutcome::Accepted, sentence), Ok(Answer::Apply(Box::new(answer))))
            }
        };
        if given_up {
            return;
        }
        match reply {
            Some(token) => self.push(Effect::Answer(token, response)),
            None => self.document_became(document, became, now),
        }
    }

    /// What is to be said beside a grant.
    fn notes_on(&self, grant: &Grant, now: Now) -> Vec<String> {
        let mut notes: Vec<String> = self.not_in_place_yet(&grant.id).into_iter().collect();
        if !self.enforces() {
            notes.push("this host only observes: the key is put in place once mode is \"enforce\"".to_owned());
        }
        if let Some(at) = self.next_lockdown().filter(|at| *at < grant.ends.wall && *at > now.wall) {
            notes.push(format!("the scheduled lockdown at {at:.0} ends it"));
        }
        notes
    }

    /// The disk has not answered for long: whoever brought the document is told that nothing was granted, and so it stays.
    pub(in crate::machine) fn document_is_late(&mut self, pending: &mut PendingDocument, now: Now) {
        pending.until = None;
        if let Some(token) = pending.reply.take() {
            pending.given_up = true;
            self.give_up_grant(&pending.grant, now);
            self.push(Effect::Answer(token, Err(disk_refusal(&NotWritten::Slow.into()))));
        }
    }
}

fn approvers_of(grant: &Grant) -> &[Person] {
    grant.origin.document().map_or(&[], |from| &from.approvers)
}
