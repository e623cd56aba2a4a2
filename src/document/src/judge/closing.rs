//! Whether a revoke or a lockdown is taken: at any age, whatever the clock says, also under an expired roster.

use super::{
    Checking, Judge, NotAccepted, Refusal, Wait,
    closed::{Closed, Taken},
};
use crate::{Envelope, Id, Kind, Lockdown, Moment, Revoke, Signer, Source, StackPattern, Who};

impl Judge {
    /// Whether a revoke may be taken: one approver of this host's stack is enough. Being held, or a key in no security
    /// device, keeps nobody from closing.
    pub(super) fn check_revoke(
        &self,
        revoke: &Revoke,
        envelope: &Envelope,
        signers: &[Signer],
        now: Moment,
    ) -> Checking<Taken> {
        if self.state.revoked.contains_key(&revoke.grant) {
            return Err(NotAccepted::Known);
        }
        let stack = StackPattern::from(&self.place.stack);
        if signers.iter().any(|signer| self.approves_for(signer, &stack)) {
            return Ok(Taken { at: now, issued_at: revoke.issued_at });
        }
        Err(self.unsigned(envelope, signers, Kind::Revoke, &stack))
    }

    /// Whether a lockdown may be taken, and what it closes here.
    pub(super) fn check_lockdown(
        &self,
        lockdown: &Lockdown,
        id: Id,
        envelope: &Envelope,
        signers: &[Signer],
        now: Moment,
    ) -> Checking<Closed> {
        let may = signers.iter().any(|signer| match &signer.who {
            Who::RosterKey(_) => true,
            Who::Approver(_) => self.approves_for(signer, &lockdown.stack),
            Who::Feeder(_) | Who::Automatic | Who::Login(_) => false,
        });
        // With a feeder's signature alone it was a feeder's; a person's makes it more. Hosts learn of that, whoever carries it.
        let was_less = || may && self.place.host.is_some() && self.state.is_of_feeder(id);
        if (self.state.knows(id) || self.state.is_beyond(id)) && !was_less() {
            return Err(NotAccepted::Known);
        }
        let source = match (may, self.is_vouched_for(id)) {
            (true, _) => None,
            // A feeder's word stays a feeder's: it holds nobody whom the configuration has.
            (false, true) => match self.check_feeder(lockdown, signers) {
                Some(Err(refused @ NotAccepted::Refused(_))) => return Err(refused),
                Some(Ok(source)) => Some(source),
                Some(Err(_)) | None => None,
            },
            (false, false) => self
                .check_feeder(lockdown, signers)
                .unwrap_or_else(|| Err(self.unsigned(envelope, signers, Kind::Lockdown, &lockdown.stack)))
                .map(Some)?,
        };
        let person = lockdown.person.as_ref();
        let keys = person.map(|person| self.book.all_keys(&self.place, person)).unwrap_or_default();
        Ok(Closed { source, ..Closed::of(lockdown, self.place.host.as_ref(), keys, now) })
    }

    /// Whether the roster in force says that a lockdown stands: its id is all of it. Who signed it, or whom it holds, may have left
    /// the roster since.
    fn is_vouched_for(&self, lockdown: Id) -> bool {
        self.book.roster.as_ref().is_some_and(|roster| roster.holds.contains(&lockdown))
    }

    /// Whether a feeder may have signed it, and of which source; nothing where none has.
    fn check_feeder(&self, lockdown: &Lockdown, signers: &[Signer]) -> Option<Checking<Source>> {
        let sources: Vec<&Source> = signers
            .iter()
            .filter_map(|signer| match &signer.who {
                Who::Feeder(source) => Some(source),
                _ => None,
            })
            .collect();
        let source = *sources.first()?;
        let refuse = |what| Some(Err(Refusal::Feeder { source_of: source.clone(), what }.into()));
        let Some(person) = &lockdown.person else { return refuse("it names no person") };
        if lockdown.fingerprint.is_some() {
            return refuse("it names a key besides");
        }
        if self.book.is_local(person) {
            return refuse("the host's configuration has that person");
        }
        if let Some(member) = self.book.member(person).filter(|member| sources.contains(&&member.source)) {
            return Some(Ok(member.source.clone()));
        }
        // The roster that says so may be on its way.
        Some(Err(Wait::NotOfSource { person: person.clone(), source_of: source.clone() }.into()))
    }

    /// Whether this is the signature of an approver whose stacks cover that one.
    pub(super) fn approves_for(&self, signer: &Signer, stack: &StackPattern) -> bool {
        let Who::Approver(_) = &signer.who else { return false };
        let approver = self.book.approver(&signer.fingerprint);
        approver.is_some_and(|approver| approver.stacks.iter().any(|stacks| stacks.covers(stack)))
    }

    /// Why what closes is not taken. Signed by somebody unknown, it waits: the roster that names them may be on its way.
    fn unsigned(&self, envelope: &Envelope, signers: &[Signer], kind: Kind, stack: &StackPattern) -> NotAccepted {
        let approver = signers.iter().find_map(|signer| match &signer.who {
            Who::Approver(person) => Some(person.clone()),
            _ => None,
        });
        match approver {
            Some(person) => Wait::Stacks { person, stack: stack.clone() }.into(),
            None if signers.is_empty() && self.book.has_unknown(&self.settings, &self.place, envelope) => {
                Wait::SignerUnknown.into()
            }
            None => {
                let who = match kind {
                    Kind::Lockdown => "it takes one approver whose stacks cover it, or one key of [[stack.roster.key]]",
                    _ => "it takes one approver of this stack",
                };
                Refusal::NotSigned { kind, who }.into()
            }
        }
    }
}
