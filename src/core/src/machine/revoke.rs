//! `lockdownctl revoke` and `lockdown`: what ends access.

use control::{Answer, LockdownAnswer, Refusal, RefusalCode, Response, Revoke, RevokeAnswer, Target};
use record::{GrantId, Person, SessionId};

use super::{Asker, Core, Effect, Ending, Token, grant_view};
use crate::{
    policy::{
        grant::{EndCause, Origin},
        time::Now,
    },
    sessions::{Cause, End, Session},
};

impl Core {
    /// Ends a grant, a person's grants, or one session.
    pub(super) fn revoke(&mut self, token: Token, asked: &Revoke, asker: Asker, now: Now) {
        match self.revoked(asked, asker, now) {
            Ok(answer) => self.answer_when_looked(token, answer, now),
            refused => self.push(Effect::Answer(token, refused)),
        }
    }

    fn revoked(&mut self, asked: &Revoke, asker: Asker, now: Now) -> Response {
        let target = asked.target().map_err(|e| Refusal::new(RefusalCode::Malformed, e.to_string()))?;
        let reason = revoked_by(asked, &asker);
        let open = match &target {
            Target::Session(id) => return self.revoke_session(id, reason, asker, now),
            Target::Grant(id) => self.open_grant(id),
            Target::Person(person) => self.open_grants_of(person),
        };
        let ids = open.or_else(|refusal| self.grants_are_known().and(Err(refusal)))?;
        let ending = Ending { cause: EndCause::Revoked, reason, actor: Some(asker.actor) };
        let sessions = self.end_grants(&ids, &ending, now);
        self.pass(now);
        let notes = self.where_rendered(&ids);
        Ok(Answer::Revoke(RevokeAnswer { grants: self.views(&ids, now), sessions, left_off: 0, notes }))
    }

    fn open_grant(&self, id: &GrantId) -> Result<Vec<GrantId>, Refusal> {
        match self.grants.get(id) {
            Some(grant) if grant.is_open() => Ok(vec![id.clone()]),
            Some(_) => Err(no_grant(format!("the grant {id} has ended already"))),
            None => Err(no_grant(format!("there is no grant {id}"))),
        }
    }

    fn open_grants_of(&self, person: &Person) -> Result<Vec<GrantId>, Refusal> {
        let theirs: Vec<GrantId> =
            self.grants.open_ones().filter(|grant| grant.person == *person).map(|grant| grant.id.clone()).collect();
        match theirs.is_empty() {
            false => Ok(theirs),
            true if self.knows(person) => Err(no_grant(format!("{person} has no open grant"))),
            true => Err(mistyped_id(person).unwrap_or_else(|| self.unknown_person(person))),
        }
    }

    /// Ends one connection. Its grant goes on, so that the person may log in again.
    fn revoke_session(&mut self, id: &SessionId, reason: String, asker: Asker, now: Now) -> Response {
        let session = self.sessions.get(id).ok_or_else(|| {
            Refusal::new(RefusalCode::UnknownSession, format!("there is no live session {id}"))
                .hint("lockdownctl sessions lists those there are")
        })?;
        may_be_revoked(session, self.is_spared(session), self.enforces())?;
        let grant = session.grant().and_then(|id| self.grants.get(id)).filter(|grant| grant.is_active(now));
        let notes = grant.map(|grant| {
            format!(
                "{}'s grant goes on: they can log in to {} again until {:.0}; lockdownctl revoke {} ends that",
                grant.person, grant.account, grant.ends.wall, grant.id
            )
        });
        let notes = notes.into_iter().collect();
        let sessions = self.end_sessions(vec![(id.clone(), End::new(Cause::Revoked, reason, Some(asker.actor)))]);
        Ok(Answer::Revoke(RevokeAnswer { grants: Vec::new(), sessions, left_off: 0, notes }))
    }

    /// For rendered grants: where to remove them for good.
    fn where_rendered(&self, ids: &[GrantId]) -> Vec<String> {
        let origins = ids.iter().filter_map(|id| self.grants.get(id)).map(|grant| (&grant.id, &grant.origin));
        origins
            .filter_map(|(id, origin)| match origin {
                Origin::Config { place, .. } => Some(format!(
                    "{id} is rendered by {place}: it stays ended until its content changes; remove it there for good"
                )),
                Origin::Operator { .. } | Origin::Document(_) => None,
            })
            .collect()
    }

    fn views(&self, ids: &[GrantId], now: Now) -> Vec<control::GrantView> {
        ids.iter().filter_map(|id| self.grants.get(id)).map(|grant| grant_view(grant, now)).collect()
    }

    /// Ends every grant, and every session but those of exempt accounts.
    pub(super) fn lockdown_asked(&mut self, token: Token, asked: control::Lockdown, asker: Asker, now: Now) {
        let said = asked.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let who = asker.person().map_or_else(|| "an operator".to_owned(), ToString::to_string);
        let (ids, sessions) = self.lockdown(format!("lockdown by {who}{said}"), Some(asker.actor), now);
        let mut notes = self.where_rendered(&ids);
        notes.extend(self.unread_note());
        let grants = self.views(&ids, now);
        let answer =
            LockdownAnswer { grants, sessions, left_off: 0, left_running: Vec::new(), more_left_running: 0, notes };
        self.answer_when_looked(token, Answer::Lockdown(answer), now);
    }
}

fn revoked_by(asked: &Revoke, asker: &Asker) -> String {
    let who = asker.person().map_or("an operator", Person::as_str);
    let said = asked.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("revoked by {who}{said}")
}

/// What is meant as an id, and is none, is not taken for somebody's name alone.
fn mistyped_id(name: &Person) -> Option<Refusal> {
    let (code, what) = match name.as_str().get(..2)? {
        "g-" => (RefusalCode::UnknownGrant, "grant"),
        "s-" => (RefusalCode::UnknownSession, "session"),
        _ => return None,
    };
    let refusal = Refusal::new(code, format!("there is no {what} {name}, and nobody is named so"));
    Some(refusal.hint(format!("lockdownctl {what}s lists those there are")))
}

fn no_grant(message: String) -> Refusal {
    Refusal::new(RefusalCode::UnknownGrant, message).hint("lockdownctl grants lists those there are")
}

/// Whether an operator may end this connection by itself.
fn may_be_revoked(session: &Session, is_spared: bool, enforces: bool) -> Result<(), Refusal> {
    let (id, pid) = (&session.id, session.monitor.pid);
    if let Some(end) = &session.ending {
        return Err(Refusal::new(RefusalCode::NothingToDo, format!("{id} is being ended already: {}", end.reason)));
    }
    if is_spared {
        let message =
            format!("{id} is a login to the exempt account {}, which nobody is cut off from", session.account);
        return Err(Refusal::new(RefusalCode::ExemptAccount, message).hint(format!("root can end it: kill {pid}")));
    }
    if !enforces {
        return Err(Refusal::new(RefusalCode::NothingToDo, "this host only observes: no connection is ended")
            .hint(format!("lockdownctl enforce --for 10m tries enforce; root can end it: kill {pid}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Standing;

    #[test]
    fn a_session_is_ended_by_itself_in_enforce_once_and_never_on_an_exempt_account() {
        let session: Session = serde_json::from_value(serde_json::json!({
            "id": "s-0123456789abcdef", "account": "ubuntu", "standing": "unattributed", "source": {},
            "opened_at": "2026-11-23T18:00:00Z", "monitor": {"pid": 4242, "start_time": 1}, "recorded": true,
        }))
        .unwrap();
        let code = |session: &Session, enforces| {
            let is_spared = session.standing == Standing::Emergency;
            may_be_revoked(session, is_spared, enforces).map_err(|refusal| refusal.code)
        };
        assert_eq!(code(&session, true), Ok(()));
        assert_eq!(code(&session, false), Err(RefusalCode::NothingToDo));
        let emergency = Session { standing: Standing::Emergency, ..session.clone() };
        assert_eq!(code(&emergency, true), Err(RefusalCode::ExemptAccount));
        let ending = Some(End::new(Cause::Grant, "its time is over".to_owned(), None));
        assert_eq!(code(&Session { ending, ..session }, true), Err(RefusalCode::NothingToDo));
    }
}
