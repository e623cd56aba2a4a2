//! Which grants the configuration and the accounts back: it renders some, and ends others.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Core, Ending, First, Severity, grant_created};
use crate::{
    config::RenderedGrant,
    policy::{
        grant::{Grant, Origin},
        rendered,
        time::{Deadline, Now},
    },
};

impl Core {
    /// Ends grants that configuration and accounts no longer back, and makes those that the configuration renders.
    pub fn back_grants(&mut self, now: Now) {
        let (config, known) = (self.config.clone(), Arc::clone(&self.around.known));
        let changes = rendered::judge(&config, &known, self.grants.all(), now.wall);
        self.grants_unsaved |= !changes.moved.is_empty();
        self.grants.stand_at(changes.moved);
        self.end_each(changes.end.into_iter().map(|(id, reason)| (id, Ending::by_config(reason))).collect(), now);
        for (wanted, first_created) in changes.make {
            self.make_rendered(wanted, first_created, now);
        }
        self.grants.keep_contents(config.rendered.iter().map(rendered::content).collect());
    }

    /// Makes a grant that the configuration renders, where its account exists.
    fn make_rendered(&mut self, wanted: &RenderedGrant, first_created: Option<Timestamp>, now: Now) {
        // It may be one that the state has already.
        if self.is_unread() {
            return;
        }
        let Some(uid) = self.uid_of(&wanted.account) else { return };
        let entry = self.config.people.get(&wanted.person);
        if entry.is_none_or(|entry| self.held_back(&wanted.person, entry).is_err()) {
            return;
        }
        let created_at = first_created.unwrap_or(now.wall);
        let starts_at = wanted.starts_at.unwrap_or(created_at).max(created_at);
        let most = self.config.grants.max_duration;
        // What is left of its longest life, counted from when this content was first seen.
        let ceiling = SignedDuration::try_from(most)
            .ok()
            .and_then(|most| starts_at.checked_add(most).ok())
            .unwrap_or(Timestamp::MAX);
        let grant = Grant {
            id: self.new_grant_id(),
            person: wanted.person.clone(),
            account: wanted.account.clone(),
            uid,
            from: wanted.from.clone(),
            reason: wanted.reason.clone().unwrap_or_default(),
            origin: Origin::Config { place: wanted.place.to_string(), content: rendered::content(wanted) },
            created_at,
            starts_at,
            ends: Deadline::at(wanted.expires_at.min(ceiling), now),
            ceiling: Deadline::at(ceiling, now),
            recorded: false,
            end: None,
        };
        if grant.ends.has_passed(now) {
            return;
        }
        let sentence = format!(
            "{} may log in to {} until {:.0}, as {} says",
            grant.person, grant.account, grant.ends.wall, wanted.place
        );
        let required = self.required_of(&grant.account).for_record();
        let draft = grant_created(&grant, sentence).with_some("required", required);
        let first = First::Rendered(grant.id.clone());
        if let Err(error) = self.give(grant, vec![draft], first, now) {
            let place = &wanted.place;
            let what =
                format!("the grant at {place} could not be put in force, and the next sweep tries again: {error}");
            self.say(Severity::Err, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        machine::{Around, Effect, Moment},
        policy::test_grants::{grant, now},
        sessions::Sessions,
    };

    #[test]
    fn what_a_configuration_ends_is_noted_all_at_once_before_anybody_is_cut() {
        let config = Config::parse(&[("c.toml", "mode = \"enforce\"\n[accounts]\nno_exempt = true\n")]).expect("good");
        let moment = Moment { now: now(), random: 1 };
        let mut core = Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), moment);
        for (number, person) in [(1, "frank"), (2, "grace")] {
            core.grants.add(grant(number, person, "ubuntu")).expect("there is room");
        }
        core.back_grants(now());
        let noted = core.take_effects(now()).into_iter().find_map(|effect| match effect {
            Effect::NoteEnded(ended) => Some(ended),
            _ => None,
        });
        let noted = noted.expect("their people are named no more");
        let why: Vec<&str> = noted.iter().map(|(_, end)| end.reason.as_str()).collect();
        assert!(why.len() == 2 && why[0] != why[1], "each for its own reason: {why:?}");
    }
}
