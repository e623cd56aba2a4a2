//! Whether a roster is taken: the threshold of the configuration's keys, counted in people, and never back.

use std::{collections::BTreeSet, sync::Arc};

use record::Person;

use super::{Book, Checking, Judge, Mark, NotAccepted, Refusal, RosterTaken};
use crate::{
    Checked, Envelope, Id, Member, Roster, Signer, Source, Who, roster::same_person, signers::different_people,
};

/// How far ahead of the roster in force the version of an automatic one may be: whoever has its key cannot take the last
/// version there is, and a host that missed many still takes the latest.
pub const MAX_AUTOMATIC_AHEAD: u64 = 1 << 20;

impl Judge {
    /// Whether a roster may be taken; if so, whether a key of `automatic` was enough.
    pub(super) fn check_roster(&self, roster: &Roster, id: Id, signers: &[Signer]) -> Checking<bool> {
        let automatic = self.check_signed_roster(roster, signers)?;
        let (version, min) = (roster.version, self.settings.roster.min_version);
        if version.number() < min {
            return Err(Refusal::BelowMinimum { version, min }.into());
        }
        match self.state.roster.or(self.state.missing) {
            Some(last) if version < last.version => Err(Refusal::Rollback { version, held: last.version }.into()),
            Some(last) if version == last.version && id != last.id => {
                Err(Refusal::OtherBytes { version, held: last.id }.into())
            }
            Some(last) if version == last.version && self.state.roster.is_some() => Err(NotAccepted::Known),
            _ => Ok(automatic),
        }
    }

    fn check_signed_roster(&self, roster: &Roster, signers: &[Signer]) -> Result<bool, Refusal> {
        let Err(short) = by_threshold(&self.settings, signers) else { return Ok(false) };
        let mut problem = None;
        for signer in signers.iter().filter(|signer| signer.who == Who::Automatic) {
            let held = self.book.roster.as_deref();
            let bound =
                held.ok_or("this host has no roster yet, from which it could differ".to_owned()).and_then(|held| {
                    let source = self.book.feeds(&signer.fingerprint);
                    let source = source
                        .ok_or("the roster in force names no feeder with this key, so it has no source".to_owned())?;
                    let last = held.version.number().saturating_add(MAX_AUTOMATIC_AHEAD);
                    if roster.version.number() > last {
                        return Err(format!("its version is {}, and may be {last} at most", roster.version));
                    }
                    differs_only_in(held, roster, &BTreeSet::from([source]), &self.settings)
                });
            match bound {
                Ok(()) => return Ok(true),
                Err(why) => problem = Some(Refusal::Automatic(why)),
            }
        }
        Err(problem.unwrap_or(short))
    }

    /// Puts a roster into force.
    pub(super) fn take_roster(&mut self, envelope: &Envelope, roster: &Arc<Roster>, automatic: bool) -> RosterTaken {
        Arc::make_mut(&mut self.rosters).take(envelope, automatic);
        self.state.roster = Some(Mark { version: roster.version, id: envelope.document().id() });
        self.state.missing = None;
        let heard = self.state.too_many_holds.is_some_and(|since| automatic || roster.issued_at <= since);
        if !heard {
            self.state.too_many_holds = None;
        }
        self.state.too_many_of.retain(|_, since| automatic || roster.issued_at <= *since);
        if self.state.too_many_holds.is_none() && self.state.too_many_of.is_empty() {
            self.state.beyond.clear();
        }
        self.book = Arc::new(Book::new(Some(Arc::clone(roster)), &self.place));
        self.learn_keys();
        RosterTaken { version: roster.version, automatic, lost: self.book.lost().to_vec() }
    }

    /// A held person's keys stay held once the roster does not name them any more.
    pub(super) fn learn_keys(&mut self) {
        for closed in self.state.lockdowns.values_mut() {
            if let Some(person) = &closed.person {
                let keys = self.book.all_keys(&self.place, person);
                closed.learn(&keys);
            }
        }
    }
}

/// Whether enough different people of the configuration have signed a roster.
pub(super) fn by_threshold(settings: &Checked, signers: &[Signer]) -> Result<(), Refusal> {
    let counted = different_people(signers.iter().filter(|signer| matches!(signer.who, Who::RosterKey(_))));
    let needed = settings.threshold();
    // A threshold of 0 cannot be configured; if it could, nobody's word would be enough.
    if counted >= needed && counted > 0 { Ok(()) } else { Err(Refusal::Threshold { counted, needed }) }
}

/// Whether a roster differs from another one in its version, its date, and people of these sources alone, who approve and
/// feed nothing.
pub(super) fn differs_only_in(
    held: &Roster,
    new: &Roster,
    sources: &BTreeSet<&Source>,
    settings: &Checked,
) -> Result<(), String> {
    let same_frame = held.organization == new.organization
        && held.expires_at == new.expires_at
        && held.approvers == new.approvers
        && held.rules == new.rules
        && held.feeders == new.feeders
        && held.holds == new.holds;
    if !same_frame {
        return Err("it changes more than people: approvers, rules, feeders, holds or its end".to_owned());
    }
    let others = |member: &&Member| !sources.contains(&member.source);
    if !held.people.iter().filter(others).eq(new.people.iter().filter(others)) {
        return Err("it adds, changes or removes people of another source".to_owned());
    }
    for member in new.people.iter().chain(&held.people).filter(|member| sources.contains(&member.source)) {
        let unchanged = entry(held, &member.name) == entry(new, &member.name);
        let approves = new.approvers.iter().any(|approver| same_person(&approver.person, &member.name));
        let signs_rosters = settings.roster.keys.iter().any(|entry| same_person(&entry.person, &member.name));
        if !unchanged && (approves || signs_rosters) {
            return Err(format!("it adds, changes or removes {}, who approves or signs rosters", member.name));
        }
        let signer = settings.roster_signers().into_iter().find(|key| member.keys.contains(key));
        if let Some(key) = signer.filter(|_| !unchanged) {
            return Err(format!("it gives {} the key {}, which signs rosters", member.name, key.fingerprint()));
        }
    }
    Ok(())
}

/// The entry of that very name; they are sorted by it.
fn entry<'a>(roster: &'a Roster, name: &Person) -> Option<&'a Member> {
    let at = roster.people.binary_search_by(|member| member.name.as_str().cmp(name.as_str())).ok()?;
    roster.people.get(at)
}
