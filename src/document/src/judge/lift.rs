//! Whether a lift is taken: the approvals of the strictest rule in the lockdown's scope, or the roster's threshold.

use super::{Checking, Judge, NotAccepted, Refusal, Taken, Wait, grant::strictest};
use crate::{ApproveWith, Lift, Moment, Signer, Who, signers::different_people};

impl Judge {
    /// Whether a lift may be taken. Who is held does not count, neither as an approver nor by a key for rosters; but a feeder's
    /// hold takes nothing from a key for rosters. Those say who feeds, and one machine's key would else take from everybody what
    /// undoes its holds.
    pub(super) fn check_lift(&self, lift: &Lift, signers: &[Signer], now: Moment) -> Checking<Taken> {
        if self.state.is_over(lift.lockdown) || self.state.is_passed(lift.lockdown) {
            return Err(NotAccepted::Known);
        }
        let closed = self.state.lockdowns.get(&lift.lockdown).ok_or(Wait::LockdownUnknown(lift.lockdown))?;
        let taken = Taken { at: now, issued_at: lift.issued_at };
        // Nor does whom the lockdown itself names, also where it holds nobody.
        let free = |signer: &&Signer| {
            let held = |person| {
                self.is_held(person, &signer.fingerprint) || self.is_named(closed, person, &signer.fingerprint)
            };
            !signer.who.person().is_some_and(held)
        };
        let free_of_people = |signer: &&Signer| {
            let held = |person| {
                self.is_held_by_people(person, &signer.fingerprint)
                    || (closed.source.is_none() && self.is_named(closed, person, &signer.fingerprint))
            };
            !signer.who.person().is_some_and(held)
        };
        let roster_keys = signers.iter().filter(|signer| matches!(signer.who, Who::RosterKey(_)));
        let by_roster_keys = roster_keys.filter(free_of_people);
        if different_people(by_roster_keys) >= self.settings.threshold() {
            return Ok(taken);
        }
        let rules = self.book.roster.iter().flat_map(|roster| &roster.rules);
        let demand = strictest(rules.filter(|rule| rule.stack.meets(&closed.stack)));
        let (needed, with) = demand.map_or((usize::MAX, ApproveWith::Key), |demand| (demand.approvals, demand.with));
        let counts = |signer: &&Signer| self.approves_for(signer, &closed.stack) && self.opens(signer, with);
        let approvers: Vec<&Signer> = signers.iter().filter(free).filter(counts).collect();
        let counted = different_people(approvers.iter().copied());
        if counted >= needed {
            return Ok(taken);
        }
        let needed = if needed == usize::MAX { self.settings.threshold() } else { needed };
        let by: std::collections::BTreeSet<_> =
            approvers.iter().filter_map(|signer| signer.who.person().cloned()).collect();
        Err(Refusal::Approvals { counted, needed, with, by: by.into_iter().collect() }.into())
    }
}
