//! Whether a grant is taken: each row of the table of rules that is about opening.

use std::collections::BTreeSet;

use super::{
    CLOCK_SKEW, Checking, Judge, NotAccepted, Refusal, Subject, Terms, Wait, book::Entry, closed::fingerprints,
};
use crate::{
    ApproveWith, Grant, Hosts, Id, Key, LoginWith, Moment, Roster, Rule, Signer, Who, roster::same_person,
    signers::different_people,
};

/// What the rules that fit ask for together: of several, the strictest.
pub(super) struct Demand {
    pub(super) approvals: usize,
    pub(super) with: ApproveWith,
    login_with: BTreeSet<LoginWith>,
    longest: std::time::Duration,
}

/// What these rules ask for together; none: nobody can meet it.
pub(super) fn strictest<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Option<Demand> {
    rules.into_iter().fold(None, |demand, rule| {
        let one = Demand {
            approvals: rule.approvals.number(),
            with: rule.approve_with,
            login_with: BTreeSet::from([rule.login_with]),
            longest: rule.longest(),
        };
        Some(match demand {
            None => one,
            Some(demand) => Demand {
                approvals: demand.approvals.max(one.approvals),
                with: demand.with.max(one.with),
                login_with: demand.login_with.into_iter().chain(one.login_with).collect(),
                longest: demand.longest.min(one.longest),
            },
        })
    })
}

impl Judge {
    /// Whether a grant may be taken, and on what terms.
    pub(super) fn check_grant(&self, grant: &Grant, id: Id, signers: &[Signer], now: Moment) -> Checking<Terms> {
        self.check_place(grant)?;
        if self.state.accepted.contains_key(&id) {
            return Err(NotAccepted::Known);
        }
        self.check_times(grant, now)?;
        self.check_memory(grant, id)?;
        let roster = self.check_roster_of(grant, now)?;
        if let Some(nothing) = self.opens_nothing() {
            return Err(nothing);
        }
        if let Some(hold) = self.doubtful_hold(&grant.person) {
            return Err(Wait::HoldUnknown(hold).into());
        }
        self.check_closed(grant, now)?;
        let (keys, demand) = self.check_person(grant, roster)?;
        let needed = demand.approvals.max(grant.approvals.number());
        let approvers = self.check_approvals(grant, signers, needed, demand.with)?;
        if !self.state.has_room_for(grant) {
            return Err(Refusal::Full.into());
        }
        Ok(Terms {
            person: grant.person.clone(),
            account: grant.account.clone(),
            keys,
            starts_at: grant.starts_at,
            expires_at: grant.expires_at,
            from: grant.from.clone(),
            reason: grant.reason.clone(),
            login_with: demand.login_with,
            approvers,
            needed,
            after: grant.after.clone(),
        })
    }

    /// Whether it is for this host.
    fn check_place(&self, grant: &Grant) -> Checking<()> {
        let own = &self.place.stack;
        if grant.stack != *own {
            return Err(Refusal::Stack { found: grant.stack.clone(), own: own.clone() }.into());
        }
        let Some(host) = &self.place.host else { return Ok(()) };
        if !grant.hosts.include(host) {
            return Err(Refusal::Host(host.clone()).into());
        }
        let (issued_at, began) = (grant.issued_at, self.state.began);
        if grant.hosts == Hosts::All && began >= issued_at.after(CLOCK_SKEW) {
            return Err(Refusal::HostIsNewer { issued_at, began }.into());
        }
        Ok(())
    }

    fn check_times(&self, grant: &Grant, now: Moment) -> Checking<()> {
        let (issued_at, accept_until, expires_at) = (grant.issued_at, grant.accept_until, grant.expires_at);
        if expires_at <= now {
            return Err(Refusal::Over { expires_at, now }.into());
        }
        if accept_until.after(CLOCK_SKEW) < now {
            return Err(Refusal::TooLate { accept_until, now }.into());
        }
        if issued_at > now.after(CLOCK_SKEW) {
            return Err(Wait::FromTheFuture { issued_at, now }.into());
        }
        Ok(())
    }

    /// Whether this host would know if it had been accepted, revoked or locked down before.
    fn check_memory(&self, grant: &Grant, id: Id) -> Checking<()> {
        let issued_at = grant.issued_at;
        if self.state.revoked.contains_key(&id) {
            return Err(Refusal::Revoked.into());
        }
        if issued_at < self.state.closed_before {
            return Err(Refusal::BeforeState { issued_at, from: self.state.closed_before }.into());
        }
        if let Some(at) = self.state.local_lockdown {
            let from = at.after(CLOCK_SKEW);
            if issued_at < from {
                return Err(Refusal::BeforeLocalLockdown { issued_at, at, from }.into());
            }
        }
        let forgotten_until = self.state.forgotten_until;
        if grant.accept_until <= forgotten_until {
            return Err(Refusal::Forgotten { forgotten_until }.into());
        }
        Ok(())
    }

    fn check_roster_of(&self, grant: &Grant, now: Moment) -> Checking<&Roster> {
        let roster = self.book.roster.as_deref().ok_or(Wait::NoRoster)?;
        let held = roster.version;
        if grant.roster > held {
            return Err(Wait::RosterBehind { wanted: grant.roster, held }.into());
        }
        if roster.expires_at <= now {
            return Err(Wait::RosterExpired { version: held, at: roster.expires_at }.into());
        }
        Ok(roster)
    }

    /// Whether something that stands closes it.
    fn check_closed(&self, grant: &Grant, now: Moment) -> Checking<()> {
        let target = self.book.target(Subject { person: &grant.person, fingerprints: &grant.fingerprints });
        for (id, closed) in self.state.covering(now) {
            if closed.covers(&self.place.stack, &target) && closed.ends(*id, &grant.after, grant.issued_at, now) {
                let refusal = if closed.is_hold() { Refusal::Held(*id) } else { Refusal::LockedDown(*id) };
                return Err(refusal.into());
            }
        }
        match self.held_source(&target) {
            Some(source) => Err(Refusal::TooManyOf(source.clone()).into()),
            None => Ok(()),
        }
    }

    /// Whether the person may have it, with which keys, and what the rules ask for.
    fn check_person(&self, grant: &Grant, roster: &Roster) -> Checking<(BTreeSet<Key>, Demand)> {
        let (person, stack, version) = (&grant.person, &grant.stack, roster.version);
        let entry = self.book.entry(&self.place, person);
        let entry = entry.ok_or_else(|| Refusal::UnknownPerson { person: person.clone(), version })?;
        if !entry.may_have(&grant.account, stack) {
            let may = entry.accounts(stack);
            let (person, account) = (person.clone(), grant.account.clone());
            return Err(Refusal::Account { person, account, stack: stack.clone(), may }.into());
        }
        let fitting = roster.rules.iter().filter(|rule| rule.stack.fits(stack) && rule.account.fits(&grant.account));
        let no_rule = || Refusal::NoRule { account: grant.account.clone(), stack: stack.clone(), version };
        let demand = strictest(fitting).ok_or_else(no_rule)?;
        let (given, most) = (grant.duration(), demand.longest);
        if given > most {
            return Err(Refusal::TooLong { given, most }.into());
        }
        let keys = opening_keys(&entry, grant, &demand)?;
        Ok((keys, demand))
    }

    /// Whether enough different people have approved it, and who.
    fn check_approvals(
        &self,
        grant: &Grant,
        signers: &[Signer],
        needed: usize,
        with: ApproveWith,
    ) -> Checking<Vec<Signer>> {
        let counts = |signer: &&Signer| {
            let Who::Approver(person) = &signer.who else { return false };
            let approver = self.book.approver(&signer.fingerprint);
            let may = approver.is_some_and(|approver| {
                approver.stacks.iter().any(|stacks| stacks.fits(&grant.stack))
                    && approver.accounts.iter().any(|accounts| accounts.fits(&grant.account))
            });
            let for_themselves = same_person(person, &grant.person);
            may && !for_themselves && self.opens(signer, with)
        };
        let approvers: Vec<Signer> = signers.iter().filter(counts).cloned().collect();
        let counted = different_people(&approvers);
        if counted >= needed && counted > 0 {
            return Ok(approvers);
        }
        let by: BTreeSet<_> = approvers.iter().filter_map(|signer| signer.who.person().cloned()).collect();
        let with = if self.settings.plain_approvers { with } else { with.max(ApproveWith::Hardware) };
        Err(Refusal::Approvals { counted, needed, with, by: by.into_iter().collect() }.into())
    }

    /// Whether a signature can open at all: made as the configuration and the rule ask for, by somebody who is not held.
    pub(super) fn opens(&self, signer: &Signer, with: ApproveWith) -> bool {
        let strong = match (signer.device, with) {
            (Some(device), ApproveWith::HardwarePin) => device.unlocked,
            (Some(_), _) => true,
            (None, ApproveWith::Key) => self.settings.plain_approvers,
            (None, _) => false,
        };
        strong && signer.who.person().is_none_or(|person| !self.is_held(person, &signer.fingerprint))
    }
}

/// The keys that are both named by the grant and the person's here, and do for what the rule asks for.
fn opening_keys(entry: &Entry<'_>, grant: &Grant, demand: &Demand) -> Result<BTreeSet<Key>, Refusal> {
    let own = entry.keys.iter().filter(|key| grant.fingerprints.contains(key.fingerprint()));
    let own: BTreeSet<Key> = own.map(|key| (**key).clone()).collect();
    if fingerprints(&own).is_empty() {
        return Err(Refusal::NoKeys(grant.person.clone()));
    }
    if !demand.login_with.iter().any(|with| with.is_hardware()) {
        return Ok(own);
    }
    let hardware: BTreeSet<Key> = own.into_iter().filter(Key::is_hardware).collect();
    if hardware.is_empty() { Err(Refusal::NoHardware(grant.person.clone())) } else { Ok(hardware) }
}
