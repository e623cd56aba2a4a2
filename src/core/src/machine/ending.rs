//! Taking access away: ending grants, and ending the connections that stood on them.

use std::{collections::BTreeMap, time::Duration};

use control::SessionView;
use record::{Actor, ArtifactType, Draft, GrantId, SessionId};

use super::{Core, CutOrder, CutTried, Effect, Severity, session_view};
use crate::{
    config::BeforeEnforce,
    policy::{
        grant::{self, EndCause},
        session::{self, Began, Verdict},
        time::Now,
    },
    process::ProcessId,
    sessions::{self, Cause, Cut, End, How, Session, Standing},
};

/// How long a connection whose terminal was told why it ends goes on, so that the words can reach the person.
const READING_TIME: Duration = Duration::from_millis(100);
/// How long after it was cut a connection is cut again if it is still there, the first [`QUICK_TRIES`] times and then.
const CUT_AGAIN: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// After so many tries it is said that a connection cannot be ended, and tried less often.
pub const QUICK_TRIES: u32 = 3;
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

impl Core {
    /// Ends these grants: their keys leave the store, their connections end, and it is noted. The caller commits.
    /// Answers with the sessions that it ended.
    pub fn end_grants(&mut self, ids: &[GrantId], ending: &Ending, now: Now) -> Vec<SessionView> {
        self.end_each(ids.iter().map(|id| (id.clone(), ending.clone())).collect(), now)
    }

    /// The same, each for a reason of its own: all their ends are noted before the first connection is cut.
    pub(super) fn end_each(&mut self, ends: Vec<(GrantId, Ending)>, now: Now) -> Vec<SessionView> {
        let mut ended = Vec::new();
        for (id, Ending { cause, reason, actor }) in ends {
            if self.grants.end(&id, grant::End { cause, at: now.wall, reason, actor, recorded: false }) {
                ended.push(id);
            }
        }
        if ended.is_empty() {
            return Vec::new();
        }
        self.grants_unsaved = true;
        self.note_ends();
        self.take_out_of_store(&ended, now);
        self.set_store_right(now);
        let sessions = self.end_unbacked_sessions(now);
        // What has ended stays ended, whatever happens while the disk takes it, and while what was left behind is looked
        // through. A record that a crash prevents is made up by the next start.
        self.save_grants(now);
        self.look_behind(&ended, now);
        sessions
    }

    /// Ends every session that no grant backs any more.
    pub fn end_unbacked_sessions(&mut self, now: Now) -> Vec<SessionView> {
        if !self.enforces() {
            return Vec::new();
        }
        let judged = self.sessions.live().iter().filter(|session| session.ending.is_none());
        let judged = judged.filter_map(|session| Some((session.id.clone(), self.judged_over(session, now)?)));
        let judged: Vec<(SessionId, End)> = judged.collect();
        self.end_sessions(judged)
    }

    /// Whether a process began while enforce was in force.
    #[must_use]
    pub fn began_in_force(&self, process: ProcessId) -> bool {
        self.mode.in_force_since().is_some_and(|since| process.began() >= since)
    }

    /// Why a session is to end, if it is.
    #[must_use]
    pub fn judged_over(&self, session: &Session, now: Now) -> Option<End> {
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
                (session::judge(&session.standing, grant, self, now), cause)
            }
        };
        match verdict {
            Verdict::Keep => None,
            Verdict::End(reason) => Some(End::new(cause, reason, None)),
        }
    }

    /// Ends these connections, and nobody else's: at once, or where a terminal is told why, a moment later.
    pub fn end_sessions(&mut self, which: Vec<(SessionId, End)>) -> Vec<SessionView> {
        if which.is_empty() {
            return Vec::new();
        }
        let mut which: BTreeMap<SessionId, End> = which.into_iter().collect();
        let ending = self.sessions.live().iter().filter(|session| which.contains_key(&session.id));
        let mut views = Vec::new();
        let mut orders = Vec::new();
        for session in ending {
            views.push(session_view(session, None));
            let farewell = self.uid_of(&session.account).zip(which.get(&session.id));
            let farewell = farewell.map(|(owner, end)| (owner, super::farewell::farewell(session, end)));
            orders.push(CutOrder { session: session.id.clone(), monitor: session.monitor, farewell, tries: 0 });
        }
        self.sessions.change_all(|session| {
            if let Some(end) = which.remove(&session.id) {
                session.ending = Some(end);
            }
        });
        self.push(Effect::Cut(orders));
        views
    }

    /// Cuts those again that are to end, whose connection is still there.
    pub(super) fn cut_again(&mut self, now: Now) {
        let due: Vec<SessionId> =
            self.retries.iter().filter(|(_, due)| now.boot >= **due).map(|(id, _)| id.clone()).collect();
        self.retries.retain(|_, due| now.boot < *due);
        let order = |session: &Session| {
            let tries = session.ending.as_ref()?.tries;
            Some(CutOrder { session: session.id.clone(), monitor: session.monitor, farewell: None, tries })
        };
        let orders: Vec<CutOrder> = due.iter().filter_map(|id| order(self.sessions.get(id)?)).collect();
        if !orders.is_empty() {
            self.push(Effect::Cut(orders));
        }
    }

    /// Connections were cut: each is looked at again until it is gone. What that did goes on record then.
    pub(super) fn cut_tried(&mut self, tried: CutTried, now: Now) {
        let CutTried { told, cut, gone } = tried;
        self.retries.extend(told.into_iter().map(|id| (id, now.boot + READING_TIME)));
        let mut outcomes: BTreeMap<SessionId, _> = cut.into_iter().collect();
        let mut cannot = Vec::new();
        let retries = &mut self.retries;
        self.sessions.change_all(|session| {
            let Some((outcome, end)) = outcomes.remove(&session.id).zip(session.ending.as_mut()) else { return };
            end.tried(outcome);
            let tries = end.tries;
            retries.insert(session.id.clone(), now.boot + CUT_AGAIN[usize::from(tries >= QUICK_TRIES)]);
            if tries >= QUICK_TRIES && (tries - QUICK_TRIES).is_multiple_of(SAID_EVERY) {
                let why = match &end.cut {
                    Some(Cut::Failed(why)) => why.as_str(),
                    _ => "it was killed and is still there",
                };
                let (id, pid) = (&session.id, session.monitor.pid);
                cannot.push(format!(
                    "the connection of process {pid} ({id}) cannot be ended after {tries} tries, and is tried again: {why}"
                ));
            }
        });
        cannot.into_iter().for_each(|what| self.say(Severity::Err, what));
        gone.iter().for_each(|id| self.session_gone(id, now));
    }

    /// Ends every grant and every session but those of exempt accounts; answers with what it ended.
    pub fn lockdown(&mut self, reason: String, actor: Option<Actor>, now: Now) -> (Vec<GrantId>, Vec<SessionView>) {
        let ids = self.open_grants();
        let mut draft = Draft::new(ArtifactType::Lockdown, reason.clone());
        draft.actor.clone_from(&actor);
        let sessions = self.lock_down(&ids, &Ending { cause: EndCause::Lockdown, reason, actor }, draft, now);
        (ids, sessions)
    }

    /// Ends these grants and every session but those of exempt accounts, and records it with this draft. Answers with the
    /// sessions that it ended.
    pub fn lock_down(&mut self, ids: &[GrantId], ending: &Ending, draft: Draft, now: Now) -> Vec<SessionView> {
        self.note_unread_lockdown(ending);
        self.look_behind_traced();
        let mut sessions = self.end_grants(ids, ending, now);
        sessions.extend(self.end_all_but_backed(ending, now));
        self.documents_locked_down(now);
        let draft = draft
            .with("grants", ids.iter().map(|id| id.as_str().into()).collect::<Vec<serde_json::Value>>())
            .with("sessions", sessions.iter().map(|s| s.id.as_str().into()).collect::<Vec<serde_json::Value>>());
        self.recorder.note(draft);
        self.begin_look_behind(now);
        self.pass(now);
        sessions
    }

    /// Ends every session but those of exempt accounts, and those whose grant goes on.
    pub(super) fn end_all_but_backed(&mut self, ending: &Ending, now: Now) -> Vec<SessionView> {
        let mut sessions = self.end_unbacked_sessions(now);
        if self.enforces() {
            let is_backed = |session: &Session| {
                let grant = session.grant().and_then(|id| self.grants.get(id));
                grant.is_some_and(grant::Grant::is_open)
            };
            let left = self.sessions.live().iter();
            let left = left.filter(|s| s.ending.is_none() && !self.is_spared(s) && !is_backed(s));
            let end = || {
                let Ending { reason, actor, .. } = ending.clone();
                End::new(Cause::Lockdown, reason, actor)
            };
            let left = left.map(|session| (session.id.clone(), end())).collect();
            sessions.extend(self.end_sessions(left));
        }
        sessions
    }

    /// Whether nobody cuts this connection off: it is one to an account that is exempt still.
    pub(super) fn is_spared(&self, session: &Session) -> bool {
        let account = &session.account;
        session.standing == Standing::Emergency
            && (self.exempt().contains(account)
                || self.uid_of(account).is_some_and(|uid| self.has_exempt(account, uid)))
    }

    /// Connections to accounts that were exempt when they began, and are no more: nothing but a lockdown ends them.
    pub fn no_longer_exempt(&self) -> impl Iterator<Item = &Session> {
        let live = self.sessions.live().iter();
        live.filter(|session| session.standing == Standing::Emergency && !self.is_spared(session))
    }

    /// A session's connection is gone.
    pub fn session_gone(&mut self, id: &SessionId, now: Now) {
        self.session_gone_by(id, Ended::ByItself, now);
    }

    /// The same, with what is known of how it ended.
    pub fn session_gone_by(&mut self, id: &SessionId, how: Ended, now: Now) {
        let Some(session) = self.sessions.gone(id) else { return };
        self.retries.remove(id);
        let end = session_end(&session, how, now);
        match self.recorder.login_under_way(id) {
            // Its beginning comes first, or never.
            Some(login) => login.over = Some(end),
            None => self.recorder.note(end),
        }
        self.commit(now);
    }

    /// What was left behind under a grant that has ended was looked for: its end is on record with the next commit, unless it
    /// is already. Of a grant that is still on its way onto the disk, its beginning comes first.
    pub(super) fn note_grant_end(&mut self, id: &GrantId, told: Vec<(&'static str, serde_json::Value)>) {
        let is_due = |grant: &&grant::Grant| grant.recorded && grant.end.as_ref().is_some_and(|end| !end.recorded);
        if self.ends_stated.contains(id) {
            return;
        }
        if let Some(draft) = self.grants.get(id).filter(is_due).and_then(grant_ended) {
            self.recorder.note(told.into_iter().fold(draft, |draft, (name, value)| draft.with(name, value)));
            self.ends_noted.insert(id.clone());
            self.ends_stated.insert(id.clone());
        }
    }

    /// Notes a login; one to an exempt account is told of by the next attestation too.
    pub fn note_login(&mut self, draft: Draft, now: Now) {
        // Before the state is read it is told from there: it is put on record before anything is read.
        if draft.kind == ArtifactType::EmergencyLogin && !self.is_unread() {
            self.emergencies.note(&draft, now.wall);
        }
        self.recorder.note(draft);
    }
}

/// The record of the end of a session whose connection is gone.
pub(super) fn session_end(session: &Session, how: Ended, now: Now) -> Draft {
    match &session.ending {
        None => closed(session, how, now),
        Some(end) => terminated(session, end, now),
    }
}

/// How a session ended that we did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
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

/// The `grant.ended` record of a grant that has ended.
pub fn grant_ended(grant: &grant::Grant) -> Option<Draft> {
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
    draft = match end.cut.as_ref().unwrap_or(&Cut::Ended(sessions::Ended { how: How::AlreadyGone, killed: 0 })) {
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

/// Adds what a session has been seen to be used for.
pub fn with_uses(draft: Draft, session: &Session) -> Draft {
    let words = session.uses.words();
    if words.is_empty() {
        return draft;
    }
    let draft = draft.with("uses", words);
    if session.uses.terminals.is_empty() { draft } else { draft.with("terminals", session.uses.terminal_names()) }
}
