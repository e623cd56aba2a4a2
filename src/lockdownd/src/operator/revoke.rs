//! `lockdownctl revoke`, `lockdown` and `enforce --for`: what ends access, and what tries the ending out.

use std::time::Duration;

use control::{Answer, Enforce, LockdownAnswer, Refusal, RefusalCode, Response, Revoke, RevokeAnswer, Target};
use lockdown_core::policy::time::Now;
use lockdown_core::{
    policy::grant::{EndCause, Origin},
    policy::time::Deadline,
};
use record::GrantId;

use super::{Asker, look};
use crate::{
    enforce::{Ending, Engine},
    trigger::Reply,
};

/// The longest trial of enforce.
pub(super) const MAX_TRIAL: Duration = Duration::from_secs(86_400);

impl Engine {
    pub(super) fn revoke(&mut self, asked: &Revoke, asker: Asker, now: Now) -> Response {
        let target = asked.target().map_err(|e| Refusal::new(RefusalCode::Malformed, e.to_string()))?;
        let ids: Vec<GrantId> = match &target {
            Target::Grant(id) => self.grants.open_ones().map(|g| &g.id).filter(|open| *open == id).cloned().collect(),
            Target::Person(person) => {
                self.grants.open_ones().filter(|g| g.person == *person).map(|g| g.id.clone()).collect()
            }
        };
        if ids.is_empty() {
            let message = match &target {
                Target::Grant(id) => match self.grants.get(id) {
                    Some(_) => format!("the grant {id} has ended already"),
                    None => format!("there is no grant {id}"),
                },
                Target::Person(person) if !self.config.people.contains_key(person) => {
                    return Err(self.unknown_person(person));
                }
                Target::Person(person) => format!("{person} has no open grant"),
            };
            return Err(
                Refusal::new(RefusalCode::UnknownGrant, message).hint("lockdownctl grants lists those there are")
            );
        }
        let who = asker.person().map_or_else(|| "an operator".to_owned(), ToString::to_string);
        let said = asked.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let ending =
            Ending { cause: EndCause::Revoked, reason: format!("revoked by {who}{said}"), actor: Some(asker.actor) };
        let sessions = self.end_grants(&ids, &ending, now);
        self.pass(now);
        let notes = self.where_rendered(&ids);
        Ok(Answer::Revoke(RevokeAnswer { grants: self.views(&ids, now), sessions, left_off: 0, notes }))
    }

    /// For rendered grants: where to remove them for good.
    fn where_rendered(&self, ids: &[GrantId]) -> Vec<String> {
        let origins = ids.iter().filter_map(|id| self.grants.get(id)).map(|grant| (&grant.id, &grant.origin));
        origins
            .filter_map(|(id, origin)| match origin {
                Origin::Config { place, .. } => Some(format!(
                    "{id} is rendered by {place}: it stays ended until its content changes; remove it there for good"
                )),
                Origin::Operator { .. } => None,
            })
            .collect()
    }

    fn views(&self, ids: &[GrantId], now: Now) -> Vec<control::GrantView> {
        ids.iter().filter_map(|id| self.grants.get(id)).map(|grant| look::grant_view(grant, now)).collect()
    }

    pub(super) fn lockdown_asked(&mut self, asked: control::Lockdown, asker: Asker, now: Now) -> Answer {
        let said = asked.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let who = asker.person().map_or_else(|| "an operator".to_owned(), ToString::to_string);
        let (ids, sessions) = self.lockdown(format!("lockdown by {who}{said}"), Some(asker.actor), now);
        let notes = self.where_rendered(&ids);
        let grants = self.views(&ids, now);
        Answer::Lockdown(LockdownAnswer {
            grants,
            sessions,
            left_off: 0,
            left_running: Vec::new(),
            more_left_running: 0,
            notes,
        })
    }

    pub(super) fn try_enforce(&mut self, asked: &Enforce, asker: Asker, reply: Reply, now: Now) {
        let span = Duration::from_secs(asked.seconds);
        if span > MAX_TRIAL {
            let most = control::format_duration(MAX_TRIAL);
            return reply.send(Err(Refusal::new(RefusalCode::BadTime, "that is no trial any more")
                .hint(format!("try at most {most}; set mode = \"enforce\" in the configuration to make it last"))));
        }
        if self.config.mode == control::Mode::Enforce {
            return reply.send(Err(Refusal::new(RefusalCode::NothingToDo, "the configuration says enforce already")
                .hint("lockdownctl status shows whether it is in force")));
        }
        // Whoever tries enforce out must not be cut off by that: the session they ask from is theirs.
        self.find_logins(now);
        if let Some(id) = self.session_asking(&asker) {
            self.sessions.change(&id, |session| session.operators_own = true);
        }
        self.begin_trial(Deadline::after(span, now), asker.actor, reply, now);
    }
}
