//! Taking access away: ending grants, and ending the connections that stood on them.

use control::SessionView;
use record::{Actor, ArtifactType, Draft, GrantId, SessionId};

use super::Engine;
use crate::{
    host::{
        clock::Now,
        connection::{self, Spared},
        sshd::listener,
    },
    operator::look,
    policy::{
        grant::{End, EndCause},
        session::{self, Verdict},
    },
    sessions::{Session, Standing},
    trigger::Reason,
};

/// How long after its end a connection is looked at again.
pub(super) const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(300);

/// Why grants end, and on whose word.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The word for it.
    pub cause: EndCause,
    /// The sentence.
    pub reason: String,
    /// Who ended them, where somebody did.
    pub actor: Option<Actor>,
}

impl Ending {
    /// Their time is over.
    #[must_use]
    pub fn expired() -> Self {
        Self { cause: EndCause::Expired, reason: "its time is over".to_owned(), actor: None }
    }

    /// The configuration no longer backs them.
    #[must_use]
    pub fn by_config(reason: String) -> Self {
        Self { cause: EndCause::Config, reason, actor: None }
    }
}

impl Engine {
    /// Ends these grants: their keys leave the store, their connections end, and it is noted. The caller commits.
    /// Answers with the sessions that it ended.
    pub(crate) fn end_grants(&mut self, ids: &[GrantId], ending: &Ending, now: Now) -> Vec<SessionView> {
        let Ending { cause, reason, actor } = ending;
        let mut ended = Vec::new();
        for id in ids {
            let end =
                End { cause: *cause, at: now.wall, reason: reason.clone(), actor: actor.clone(), recorded: false };
            if self.grants.end(id, end) {
                ended.push(id.clone());
            }
        }
        if ended.is_empty() {
            return Vec::new();
        }
        self.grants_unsaved = true;
        self.set_store_right(now);
        let sessions = self.end_unbacked_sessions(now);
        for grant in ended.iter().filter_map(|id| self.grants.get(id)) {
            if let Some(draft) = grant_ended(grant) {
                self.recorder.note(draft);
            }
        }
        sessions
    }

    /// Ends every session that no grant backs any more.
    pub(super) fn end_unbacked_sessions(&mut self, now: Now) -> Vec<SessionView> {
        if !self.enforces() || !self.config.sessions.end_with_grant {
            return Vec::new();
        }
        let judged = self.sessions.live().iter().filter(|session| session.ending.is_none()).filter_map(|session| {
            let grant = session.grant().and_then(|id| self.grants.get(id));
            match session::judge(&session.standing, grant, &self.people, now) {
                Verdict::Keep => None,
                Verdict::End(reason) => Some((session.id.clone(), reason)),
            }
        });
        let judged: Vec<(SessionId, String)> = judged.collect();
        self.end_sessions(judged, None)
    }

    /// Ends these connections, and nobody else's.
    fn end_sessions(&mut self, which: Vec<(SessionId, String)>, actor: Option<&Actor>) -> Vec<SessionView> {
        if which.is_empty() {
            return Vec::new();
        }
        let spared = self.spared();
        let mut views = Vec::new();
        for (id, reason) in which {
            let Some(session) = self.sessions.get(&id).cloned() else { continue };
            let outcome = connection::end(session.monitor, &spared);
            self.sessions.mark_ending(&id, &reason);
            self.recorder.note(terminated(&session, &reason, &outcome, actor));
            if let Err(error) = outcome {
                tracing::error!(session = %id, %error, "a connection could not be ended; it is tried again");
            }
            self.look_again_soon(id);
            views.push(look::session_view(&session, None));
        }
        views
    }

    /// Who must live on when a connection ends: sshd's listeners and every other session's connection.
    fn spared(&self) -> Spared {
        let monitors = self.sessions.live().iter().map(|session| session.monitor).collect();
        Spared { listeners: listener_processes(), monitors }
    }

    fn look_again_soon(&self, id: SessionId) {
        let reasons = self.reasons.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            // Nobody receives once the daemon stops; the next start looks at every session anyway.
            let _ = reasons.send(Reason::LookAgain(id)).await;
        });
    }

    /// A connection that was to end and still lives is ended again, until it is gone.
    pub(super) fn look_again(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get(id).cloned() else { return };
        if session.ending.is_none() || !session.monitor.is_alive() {
            return;
        }
        match connection::end(session.monitor, &self.spared()) {
            Ok(_) => tracing::warn!(session = %id, "a connection outlived its ending and was ended again"),
            Err(error) => tracing::error!(session = %id, %error, "a connection could not be ended; it is tried again"),
        }
        self.look_again_soon(id.clone());
    }

    /// Ends every grant and every session but those of exempt accounts; answers with what it ended.
    pub(crate) fn lockdown(
        &mut self,
        reason: String,
        actor: Option<Actor>,
        now: Now,
    ) -> (Vec<GrantId>, Vec<SessionView>) {
        let ids: Vec<GrantId> = self.grants.open_ones().map(|grant| grant.id.clone()).collect();
        let ending = Ending { cause: EndCause::Lockdown, reason: reason.clone(), actor: actor.clone() };
        let mut sessions = self.end_grants(&ids, &ending, now);
        if self.enforces() {
            let left = self.sessions.live().iter().filter(|s| s.ending.is_none() && s.standing != Standing::Emergency);
            let left = left.map(|session| (session.id.clone(), reason.clone())).collect();
            sessions.extend(self.end_sessions(left, actor.as_ref()));
        }
        let mut draft = Draft::new(ArtifactType::Lockdown, reason)
            .with("grants", ids.iter().map(|id| id.as_str().into()).collect::<Vec<serde_json::Value>>())
            .with("sessions", sessions.iter().map(|s| s.id.as_str().into()).collect::<Vec<serde_json::Value>>());
        draft.actor = actor;
        self.recorder.note(draft);
        self.pass(now);
        (ids, sessions)
    }

    /// A session's connection is gone.
    pub(super) fn session_gone(&mut self, id: &SessionId, now: Now) {
        let Some(session) = self.sessions.remove(id) else { return };
        if session.ending.is_none() {
            self.recorder.note(closed(&session, now));
        }
        self.commit(now);
    }
}

/// The listeners of root's sshds: whoever names a process of their own like one must not save it by that. When they
/// cannot be found the answer is empty: a session's own scope never holds one that was started as a service.
fn listener_processes() -> std::collections::HashSet<crate::host::processes::ProcessId> {
    listener::running_as_root().into_iter().flatten().filter_map(|listener| listener.process).collect()
}

/// The `grant.ended` record of a grant that has ended.
pub(crate) fn grant_ended(grant: &crate::policy::grant::Grant) -> Option<Draft> {
    let end = grant.end.as_ref()?;
    let (person, account) = (&grant.person, &grant.account);
    let mut draft =
        Draft::new(ArtifactType::GrantEnded, format!("{person}'s grant on {account} ended: {}", end.reason))
            .with("ended", end.cause.to_string())
            .with("at", end.at.to_string())
            .with("expires_at", grant.ends.wall.to_string());
    draft.person = Some(person.clone());
    draft.account = Some(account.clone());
    draft.grant = Some(grant.id.clone());
    draft.actor.clone_from(&end.actor);
    Some(draft)
}

fn terminated(
    session: &Session,
    reason: &str,
    outcome: &Result<connection::Ended, connection::EndError>,
    actor: Option<&Actor>,
) -> Draft {
    let whose = session.person().map_or_else(|| "a session".to_owned(), |person| format!("{person}'s session"));
    let sentence = format!("{whose} on {} was ended: {reason}", session.account);
    let mut draft = of_session(Draft::new(ArtifactType::SessionTerminated, sentence), session);
    draft = match outcome {
        Ok(ended) => draft.with("killed", ended.killed as u64).with("by", ended.how.word()),
        Err(error) => draft.with("failed", error.to_string()),
    };
    draft.actor = actor.cloned();
    draft
}

fn closed(session: &Session, now: Now) -> Draft {
    let whose = session.person().map_or_else(|| "a session".to_owned(), |person| format!("{person}'s session"));
    let sentence = format!("{whose} on {} ended by itself", session.account);
    let lasted = now.wall.duration_since(session.opened_at).as_secs().max(0);
    of_session(Draft::new(ArtifactType::SessionClosed, sentence), session).with("seconds", lasted)
}

fn of_session(mut draft: Draft, session: &Session) -> Draft {
    draft.person = session.person().cloned();
    draft.account = Some(session.account.clone());
    draft.grant = session.grant().cloned();
    draft.session = Some(session.id.clone());
    draft.fingerprint = session.fingerprint().cloned();
    draft.source = Some(session.source.clone());
    draft
}
