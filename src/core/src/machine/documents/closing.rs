//! What documents close: grants end, wherever they came from, and the connections that stood on them.

use std::collections::BTreeSet;

use document::{Body, Ended, Envelope, OpenGrant, Signer, Subject};
use record::{ArtifactType, Draft, Fingerprint, GrantId, SessionId};

use super::{super::found::Then, Core, stated};
use crate::{
    machine::Ending,
    policy::{
        grant::{EndCause, FromDocument, Grant, Origin},
        time::Now,
    },
};

/// A grant, and the keys that are left of it.
type Narrowed = (GrantId, BTreeSet<Fingerprint>);

/// A lockdown by a document that ends everything, and waits until it is known who else is there.
#[derive(Debug)]
pub(crate) struct LockedDown {
    grants: Vec<GrantId>,
    sessions: Vec<SessionId>,
    ending: Ending,
    draft: Draft,
}

impl Core {
    /// Ends grants that documents do not let stand any more, and takes keys out of those that some are gone from.
    pub(super) fn end_by_documents(&mut self, now: Now) {
        let (ends, narrowed) = self.judge_standing(now);
        for (id, keys) in narrowed {
            if let Some(Grant { origin: Origin::Document(from), .. }) = self.grants.get_mut(&id) {
                from.keys.retain(|key| keys.contains(&key.fingerprint()));
                self.grants_unsaved = true;
            }
        }
        self.end_each(ends, now);
        self.end_unbacked_sessions(now);
        self.set_store_right(now);
    }

    /// What is to end, and why; and which keys are left of grants that have lost some.
    fn judge_standing(&self, now: Now) -> (Vec<(GrantId, Ending)>, Vec<Narrowed>) {
        let moment = document::Moment::of(now.wall);
        let silent = self.is_silent(now);
        let (mut ends, mut narrowed) = (Vec::new(), Vec::new());
        for grant in self.grants.open_ones() {
            let ending = match (grant.origin.document(), &self.documents.judge) {
                (Some(_), None) => Some(Ending::by_config("the configuration has no [stack] any more".to_owned())),
                (Some(from), Some(judge)) => match (judge.stands(&open_grant(grant, from), moment), &silent) {
                    (Err(ended), _) => Some(ending_of(&ended)),
                    (Ok(_), Some(why)) => Some(Ending::by_config(why.clone())),
                    (Ok(keys), None) if keys.len() < from.keys.len() => {
                        narrowed.push((grant.id.clone(), keys));
                        None
                    }
                    (Ok(_), None) => None,
                },
                (None, Some(judge)) => {
                    let keys = self.fingerprints_of(grant);
                    let subject = Subject { person: &grant.person, fingerprints: &keys };
                    judge.holds_back(subject).map(|ended| ending_of(&ended))
                }
                (None, None) => None,
            };
            ends.extend(ending.map(|ending| (grant.id.clone(), ending)));
        }
        (ends, narrowed)
    }

    fn fingerprints_of(&self, grant: &Grant) -> BTreeSet<Fingerprint> {
        self.keys_of(grant).iter().map(crate::keys::person::PersonKey::fingerprint).collect()
    }

    /// A lockdown is in force: what is in its scope on this host ends at once. One that names nobody ends every connection that
    /// stands on no grant, too, as an operator's does.
    pub(super) fn lock_down_by_document(&mut self, envelope: &Envelope, here: bool, signers: &[Signer], now: Now) {
        let (Body::Lockdown(lockdown), true) = (envelope.document().body(), here) else { return };
        let id = envelope.document().id();
        let reason = stated::locked_down(lockdown, signers);
        let ending = Ending { cause: EndCause::Lockdown, reason: reason.clone(), actor: None };
        let moment = document::Moment::of(now.wall);
        let Some(judge) = &self.documents.judge else { return };
        let is_over = |grant: &&Grant| match grant.origin.document() {
            Some(from) => judge.stands(&open_grant(grant, from), moment).is_err(),
            None => {
                let keys = self.fingerprints_of(grant);
                let subject = Subject { person: &grant.person, fingerprints: &keys };
                // What there was no room for holds more than it names.
                judge.ends_local(id, subject) || judge.holds_back(subject).is_some()
            }
        };
        let grants: Vec<GrantId> = self.grants.open_ones().filter(is_over).map(|grant| grant.id.clone()).collect();
        let sessions = self.end_grants(&grants, &ending, now);
        let sessions: Vec<SessionId> = sessions.into_iter().map(|session| session.id).collect();
        let mut draft = Draft::new(ArtifactType::Lockdown, reason).with("document", id.to_string());
        draft.person.clone_from(&lockdown.person);
        let locked_down = LockedDown { grants, sessions, ending, draft };
        if lockdown.person.is_none() && lockdown.fingerprint.is_none() {
            self.find_logins(Then::LockedDown(Box::new(locked_down)));
        } else {
            self.note_locked_down(locked_down);
            self.commit(now);
        }
    }

    /// It is known who is there: what is left of a lockdown by a document.
    pub(in crate::machine) fn lock_down_rest(&mut self, mut locked_down: LockedDown, now: Now) {
        let rest = self.end_all_but_backed(&locked_down.ending, now);
        locked_down.sessions.extend(rest.into_iter().map(|session| session.id));
        self.note_locked_down(locked_down);
        self.begin_look_behind(now);
        self.pass(now);
    }

    fn note_locked_down(&mut self, locked_down: LockedDown) {
        let LockedDown { grants, sessions, draft, .. } = locked_down;
        let grants: Vec<serde_json::Value> = grants.iter().map(|id| id.as_str().into()).collect();
        let sessions: Vec<serde_json::Value> = sessions.iter().map(|id| id.as_str().into()).collect();
        self.recorder.note(draft.with("grants", grants).with("sessions", sessions));
    }

    /// What is known of documents may be of an earlier day: nothing from before opens, and what was closed stays closed.
    pub fn documents_are_old(&mut self, now: Now) {
        if let Some(judge) = &mut self.documents.judge {
            judge.begin_again(document::Moment::of(now.wall));
            self.documents.not_saved();
            self.end_by_documents(now);
        }
    }

    /// This host was locked down by its operator or schedule: documents from before open nothing.
    pub(in crate::machine) fn documents_locked_down(&mut self, now: Now) {
        self.documents.lock_down_locally(document::Moment::of(now.wall));
    }
}

fn open_grant(grant: &Grant, from: &FromDocument) -> OpenGrant {
    OpenGrant {
        id: from.document,
        person: grant.person.clone(),
        // A grant from a document is made for such a name alone.
        account: grant.account.as_str().parse().expect("it came from a document"),
        fingerprints: from.keys.iter().map(crate::keys::person::PersonKey::fingerprint).collect(),
        after: from.after.clone(),
        issued_at: from.issued_at,
    }
}

/// Why a grant ends that documents do not let stand.
fn ending_of(ended: &Ended) -> Ending {
    let cause = match ended {
        Ended::Revoked => EndCause::Revoked,
        Ended::LockedDown(_) | Ended::Held(_) | Ended::TooManyHolds | Ended::TooManyOf(_) => EndCause::Lockdown,
        Ended::NoRoster | Ended::Person(_) | Ended::Account(..) | Ended::Keys(_) => EndCause::Config,
    };
    Ending { cause, reason: ended.to_string(), actor: None }
}
