//! Taking access away: ending grants, and ending the connections that stood on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::SessionView;
use lockdown_core::policy::time::Now;
use lockdown_core::{
    config::BeforeEnforce,
    policy::{
        grant::{self, EndCause},
        session::{self, Began, Verdict},
    },
};
use lockdown_host::{
    connection::{self, How, Spared},
    sshd::listener,
};
use record::{Actor, ArtifactType, Draft, GrantId, SessionId};

use super::{Engine, farewell::READING_TIME, logins::with_uses};
use crate::{
    operator::look,
    sessions::{Cause, Cut, End, Session, Standing},
    trigger::Reason,
};

/// How long after its end a connection is looked at again, the first [`QUICK_TRIES`] times and then.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// After so many tries it is said that a connection cannot be ended, and tried less often.
pub(crate) const QUICK_TRIES: u32 = 3;
/// Every so many further tries it is said again.
const SAID_EVERY: u32 = 60;

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
            let end = grant::End {
                cause: *cause,
                at: now.wall,
                reason: reason.clone(),
                actor: actor.clone(),
                recorded: false,
            };
            if self.grants.end(id, end) {
                ended.push(id.clone());
            }
        }
        if ended.is_empty() {
            return Vec::new();
        }
        self.grants_unsaved = true;
        self.grants.note_ends();
        self.take_out_of_store(&ended, now);
        self.set_store_right(now);
        let sessions = self.end_unbacked_sessions(now);
        // What has ended stays ended, whatever happens while the disk takes it, and while what was left behind is looked
        // through. A record that a crash prevents is made up by the next start.
        self.save_grants(now);
        self.note_ends_later(&ended, now);
        sessions
    }

    /// Ends every session that no grant backs any more.
    pub(super) fn end_unbacked_sessions(&mut self, now: Now) -> Vec<SessionView> {
        if !self.enforces() {
            return Vec::new();
        }
        let judged = self.sessions.live().iter().filter(|session| session.ending.is_none());
        let judged = judged.filter_map(|session| Some((session.id.clone(), self.judged_over(session, now)?)));
        let judged: Vec<(SessionId, End)> = judged.collect();
        self.end_sessions(judged)
    }

    /// Why a session is to end, if it is.
    pub(crate) fn judged_over(&self, session: &Session, now: Now) -> Option<End> {
        let (verdict, cause) = match session.grant() {
            None => {
                let keeps = session.operators_own || self.config.sessions.before_enforce == BeforeEnforce::Keep;
                let began = match (self.began_in_force(session.monitor), keeps) {
                    (true, _) => Began::InForce,
                    (false, true) => Began::BeforeAndKept,
                    (false, false) => Began::BeforeAndEnded,
                };
                (session::judge_ungranted(&session.standing, began), Cause::NoGrant)
            }
            Some(_) if !self.config.sessions.end_with_grant => return None,
            Some(id) => {
                let grant = self.grants.get(id);
                let ended_by = grant.and_then(|grant| grant.end.as_ref()).map(|end| end.cause);
                let cause = if ended_by == Some(EndCause::Lockdown) { Cause::Lockdown } else { Cause::Grant };
                (session::judge(&session.standing, grant, &self.people, now), cause)
            }
        };
        match verdict {
            Verdict::Keep => None,
            Verdict::End(reason) => Some(End::new(cause, reason, None)),
        }
    }

    /// Ends these connections, and nobody else's: at once, or where a terminal was told why, a moment later.
    pub(crate) fn end_sessions(&mut self, which: Vec<(SessionId, End)>) -> Vec<SessionView> {
        if which.is_empty() {
            return Vec::new();
        }
        let mut which: BTreeMap<SessionId, End> = which.into_iter().collect();
        let ending: Vec<Session> =
            self.sessions.live().iter().filter(|session| which.contains_key(&session.id)).cloned().collect();
        let (mut views, mut silent) = (Vec::new(), Vec::new());
        for session in &ending {
            let told = which.get(&session.id).is_some_and(|end| self.say_farewell(session, &end.reason));
            views.push(look::session_view(session, None));
            match told {
                true => self.look_again_in(READING_TIME, session.id.clone()),
                false => silent.push(session.id.clone()),
            }
        }
        self.sessions.change_all(|session| {
            if let Some(end) = which.remove(&session.id) {
                session.ending = Some(end);
            }
        });
        self.cut(&silent);
        views
    }

    /// Cuts connections that are to end, with one look at who is spared. What that did goes on record when they are gone.
    fn cut(&mut self, ids: &[SessionId]) {
        if ids.is_empty() {
            return;
        }
        let spared = self.spared();
        let ids: BTreeSet<&SessionId> = ids.iter().collect();
        let of = |session: &Session| Some((session.id.clone(), session.monitor, session.ending.as_ref()?.tries + 1));
        let to_cut: Vec<_> =
            self.sessions.live().iter().filter(|session| ids.contains(&session.id)).filter_map(of).collect();
        let mut outcomes = BTreeMap::new();
        for (id, monitor, tries) in to_cut {
            let outcome = connection::end(monitor, &spared).map_err(|error| error.to_string());
            if tries >= QUICK_TRIES && (tries - QUICK_TRIES).is_multiple_of(SAID_EVERY) {
                let why = outcome.as_ref().err().map_or("it was killed and is still there", String::as_str);
                tracing::error!(session = %id, pid = monitor.pid, tries, why, "a connection cannot be ended; it is tried again");
            }
            self.look_again_in(LOOK_AGAIN[usize::from(tries >= QUICK_TRIES)], id.clone());
            outcomes.insert(id, outcome);
        }
        self.sessions.change_all(|session| {
            if let (Some(outcome), Some(end)) = (outcomes.remove(&session.id), &mut session.ending) {
                end.tried(outcome);
            }
        });
    }

    /// Who must live on when a connection ends: sshd's listeners and every other session's connection.
    pub(super) fn spared(&self) -> Spared {
        let monitors = self.sessions.live().iter().map(|session| session.monitor).collect();
        Spared { listeners: listener_processes(), monitors }
    }

    fn look_again_in(&self, wait: Duration, id: SessionId) {
        let reasons = self.reasons.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Nobody receives once the daemon stops; the next start looks at every session anyway.
            let _ = reasons.send(Reason::LookAgain(id)).await;
        });
    }

    /// A connection that was to end and still lives is ended, again until it is gone.
    pub(super) fn look_again(&mut self, id: &SessionId, now: Now) {
        let Some(session) = self.sessions.get(id) else { return };
        if session.ending.is_none() {
            return;
        }
        if !session.monitor.is_alive() {
            return self.session_gone(id, now);
        }
        self.cut(std::slice::from_ref(id));
    }

    /// Ends every grant and every session but those of exempt accounts; answers with what it ended.
    pub(crate) fn lockdown(
        &mut self,
        reason: String,
        actor: Option<Actor>,
        now: Now,
    ) -> (Vec<GrantId>, Vec<SessionView>) {
        let ids = self.open_grants();
        let mut draft = Draft::new(ArtifactType::Lockdown, reason.clone());
        draft.actor.clone_from(&actor);
        let sessions = self.lock_down(&ids, &Ending { cause: EndCause::Lockdown, reason, actor }, draft, now);
        (ids, sessions)
    }

    /// Ends these grants and every session but those of exempt accounts, and records it with this draft. Answers with the
    /// sessions that it ended.
    pub(super) fn lock_down(&mut self, ids: &[GrantId], ending: &Ending, draft: Draft, now: Now) -> Vec<SessionView> {
        self.note_unread_lockdown(ending);
        self.find_logins(now);
        self.look_behind_traced();
        let mut sessions = self.end_grants(ids, ending, now);
        sessions.extend(self.end_unbacked_sessions(now));
        if self.enforces() {
            let left = self.sessions.live().iter().filter(|s| s.ending.is_none() && s.standing != Standing::Emergency);
            let end = || {
                let Ending { reason, actor, .. } = ending.clone();
                End::new(Cause::Lockdown, reason, actor)
            };
            let left = left.map(|session| (session.id.clone(), end())).collect();
            sessions.extend(self.end_sessions(left));
        }
        let draft = draft
            .with("grants", ids.iter().map(|id| id.as_str().into()).collect::<Vec<serde_json::Value>>())
            .with("sessions", sessions.iter().map(|s| s.id.as_str().into()).collect::<Vec<serde_json::Value>>());
        self.recorder.note(draft);
        self.begin_look_behind(now);
        self.pass(now);
        sessions
    }

    /// The grants that have not ended.
    pub(super) fn open_grants(&self) -> Vec<GrantId> {
        self.grants.open_ones().map(|grant| grant.id.clone()).collect()
    }

    /// A session's connection is gone.
    pub(super) fn session_gone(&mut self, id: &SessionId, now: Now) {
        self.session_gone_by(id, Ended::ByItself, now);
    }

    /// The same, with what is known of how it ended.
    pub(super) fn session_gone_by(&mut self, id: &SessionId, how: Ended, now: Now) {
        let Some(session) = self.sessions.gone(id) else { return };
        self.note_session_end(&session, how, now);
        self.commit(now);
    }

    /// Notes the end of a session whose connection is gone.
    pub(super) fn note_session_end(&mut self, session: &Session, how: Ended, now: Now) {
        self.recorder.note(match &session.ending {
            None => closed(session, how, now),
            Some(end) => terminated(session, end, now),
        });
    }
}

/// How a session ended that we did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Before our eyes: the person left, or the line broke.
    ByItself,
    /// While the daemon was down: how long it lasted is not known, only how long at most.
    Unseen,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Self::ByItself => "by_itself",
            Self::Unseen => "unseen",
        }
    }
}

/// The listeners of root's sshds: whoever names a process of their own like one must not save it by that. When they
/// cannot be found the answer is empty: a session's own scope never holds one that was started as a service.
fn listener_processes() -> std::collections::HashSet<lockdown_host::processes::ProcessId> {
    listener::running_as_root().into_iter().flatten().filter_map(|listener| listener.process).collect()
}

/// The `grant.ended` record of a grant that has ended.
pub(crate) fn grant_ended(grant: &lockdown_core::policy::grant::Grant) -> Option<Draft> {
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

fn terminated(session: &Session, end: &End, now: Now) -> Draft {
    let sentence = format!("{} on {} was ended: {}", whose(session), session.account, end.reason);
    let mut draft = of_session(Draft::new(ArtifactType::SessionTerminated, sentence), session, now);
    draft = draft.with("ended", end.cause.word());
    // Where nothing was tried it was to end a moment later, and ended by itself meanwhile.
    draft = match end.cut.as_ref().unwrap_or(&Cut::Ended(connection::Ended { how: How::AlreadyGone, killed: 0 })) {
        Cut::Ended(ended) => draft.with("killed", ended.killed as u64).with("by", ended.how.word()),
        Cut::Failed(error) => draft.with("failed", error.as_str()),
    };
    draft.actor.clone_from(&end.actor);
    draft
}

fn closed(session: &Session, how: Ended, now: Now) -> Draft {
    let sentence = match how {
        Ended::ByItself => format!("{} on {} ended by itself", whose(session), session.account),
        Ended::Unseen => format!("{} on {} ended while the daemon was down", whose(session), session.account),
    };
    of_session(Draft::new(ArtifactType::SessionClosed, sentence), session, now).with("ended", how.word())
}

fn whose(session: &Session) -> String {
    session.person().map_or_else(|| "a session".to_owned(), |person| format!("{person}'s session"))
}

fn of_session(draft: Draft, session: &Session, now: Now) -> Draft {
    let lasted = now.wall.duration_since(session.opened_at).as_secs().max(0);
    let mut draft = with_uses(draft.with("seconds", lasted), session);
    draft.person = session.person().cloned();
    draft.account = Some(session.account.clone());
    draft.grant = session.grant().cloned();
    draft.session = Some(session.id.clone());
    draft.fingerprint = session.fingerprint().cloned();
    draft.source = Some(session.source.clone());
    draft
}
