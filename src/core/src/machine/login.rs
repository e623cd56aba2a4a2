//! The answer to a login.
//!
//! The gate asks twice (see `policy::login`); what was decided is put on record, and only then answered. The answer is never
//! "allow" for a session of a grant's that is not on record and in the table.

mod said;

use std::time::Duration;

use control::gate::{Answer, Question, Step};
use record::{Account, ArtifactType, Draft, GrantId, Person, SessionId, Source};

pub use self::said::{key_of, methods, placed, source_of};
use super::{Core, Effect, First, PATIENCE, Token, Waiting, on_disk::came_late, recorder::Room};
use crate::{
    policy::{
        login::{self, Admitted, Attempt, Behind, NotFound, Refused},
        time::Now,
    },
    process::ProcessId,
    sessions::{Session, Standing},
};

/// A question of the gate's, with what the host knows of whoever asks.
#[derive(Debug)]
pub struct LoginAsked {
    /// What PAM asks.
    pub question: Question,
    /// Where the answer goes.
    pub token: Token,
    /// sshd's process for the connection, which waits for the gate; nothing where the gate is gone, or nobody's child.
    pub monitor: Option<ProcessId>,
    /// Whether the gate that asks is still there.
    pub gate_waits: bool,
    /// Who made the connection, where it comes from this host and the answer depends on that.
    pub made_here: Option<Result<Maker, NotFound>>,
}

/// Who made a connection on this host.
#[derive(Debug)]
pub enum Maker {
    /// Root, which can hide from us.
    UnseenRoot,
    /// These hold its other end.
    Held(Vec<Holder>),
}

/// A process that holds the other end of a connection.
#[derive(Debug)]
pub struct Holder {
    /// Itself and what it descends from, nearest first.
    pub above: Vec<ProcessId>,
    /// Every process in its login session's scope.
    pub beside: Vec<ProcessId>,
    /// The grant whose connection its audit session began with.
    pub left_by: Option<GrantId>,
    /// The account that its login uid is.
    pub account: Option<Account>,
}

/// What became of a question.
enum Verdict {
    /// This is the answer.
    Answer(Answer),
    /// The session may be let in once this is on record.
    OnceRecorded(Box<Session>, Box<Draft>),
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// A login that waits for its record.
#[derive(Debug)]
pub struct PendingLogin {
    question: Question,
    monitor: Option<i32>,
    /// Its session.
    pub session: SessionId,
    /// The account that is logged in to.
    pub account: Account,
    /// Who logs in.
    pub person: Option<Person>,
    /// On which grant.
    pub grant: Option<GrantId>,
    /// When it is refused, on the boot clock; `None` once it was.
    pub until: Option<Duration>,
    to: Option<Token>,
    /// The record of its end, where its connection was gone before this: no end is on record before its beginning.
    pub(super) over: Option<Draft>,
}

impl Core {
    /// Answers the gate, now or once what the answer depends on is on disk.
    pub(super) fn login(&mut self, asked: LoginAsked, now: Now) {
        match self.judge_login(&asked, now) {
            Verdict::Answer(answer) => {
                let LoginAsked { question, token, monitor, .. } = asked;
                self.give_answer(question.step, monitor.map(|monitor| monitor.pid), answer, token, now);
            }
            Verdict::OnceRecorded(session, draft) => {
                let LoginAsked { question, token, monitor, .. } = asked;
                let login = PendingLogin {
                    question,
                    monitor: monitor.map(|monitor| monitor.pid),
                    account: session.account.clone(),
                    person: session.person().cloned(),
                    grant: session.grant().cloned(),
                    session: session.id,
                    until: Some(now.boot + PATIENCE),
                    to: Some(token),
                    over: None,
                };
                self.commit_first(vec![*draft], Room::Reserved, First::Login(Box::new(login)), now);
            }
        }
    }

    /// Gives the answer; whoever is refused can wait for the record of it.
    fn give_answer(&mut self, step: Step, monitor: Option<i32>, answer: Answer, token: Token, now: Now) {
        match answer {
            Answer::Refuse { .. } => self.answer_on_record(Waiting::Gate { token, answer, monitor, step }, now),
            Answer::Allow { .. } => self.push(Effect::AnswerGate { token, answer, monitor, step }),
        }
    }

    /// The opening of a session is on disk, or is not: now the gate is answered.
    pub(super) fn login_written(&mut self, login: PendingLogin, written: bool, now: Now) {
        if let Some(over) = login.over {
            return self.login_was_over(login.session, over, login.to.zip(Some(login.question)), written, now);
        }
        let late = login.to.is_none();
        let session = self.sessions.get(&login.session).cloned();
        match (written, late) {
            (true, true) => {
                self.recorder.note(came_late(&login));
                return self.commit(now);
            }
            (false, true) => return self.sessions.forget_gone(&[login.session].into()),
            (true, false) => self.sessions.mark_recorded(&[login.session.clone()].into()),
            (false, false) => drop(self.sessions.remove(&login.session)),
        }
        let never_opened = came_late(&login);
        let PendingLogin { question, monitor, to: Some(to), .. } = login else { return };
        let Some(session) = session else { return };
        // Whom the next start would not know is not let in.
        if written && !self.sessions_kept {
            self.sessions.remove(&session.id);
            self.recorder.note(never_opened);
            let answer = self.refuse(&question, Some(&session.account), &Refused::NotRecorded, now);
            return self.give_answer(question.step, monitor, answer, to, now);
        }
        let over = session.ending.is_some() || self.judged_over(&session, now).is_some();
        let answer = match (written, over) {
            (true, false) => Answer::Allow { text: self.greeting(&session, now) },
            (true, true) => self.refuse(&question, Some(&session.account), &Refused::NoGrantOnAccount, now),
            (false, _) => self.refuse(&question, Some(&session.account), &Refused::NotRecorded, now),
        };
        self.give_answer(question.step, monitor, answer, to, now);
    }

    /// The connection was gone before its beginning could be on record, and with it whoever was to hear the answer.
    fn login_was_over(
        &mut self,
        session: SessionId,
        over: Draft,
        asked: Option<(Token, Question)>,
        written: bool,
        now: Now,
    ) {
        if written {
            self.recorder.note(over);
        } else {
            self.sessions.forget_gone(&[session].into());
        }
        self.commit(now);
        if let Some((token, question)) = asked {
            let answer = Answer::Refuse { text: told(&question.account, &Refused::UnknownConnection) };
            self.push(Effect::AnswerGate { token, answer, monitor: None, step: question.step });
        }
    }

    /// The disk has not answered for long: the login is refused, and what comes late lets nobody in.
    pub(super) fn login_is_late(&mut self, login: &mut PendingLogin, now: Now) {
        login.until = None;
        let Some(to) = login.to.take() else { return };
        let answer = self.refuse(&login.question, Some(&login.account), &Refused::NotRecorded, now);
        self.give_answer(login.question.step, login.monitor, answer, to, now);
    }

    fn judge_login(&mut self, asked: &LoginAsked, now: Now) -> Verdict {
        let question = &asked.question;
        let Ok(account) = question.account.parse::<Account>() else {
            return self.answer_unnameable(question, now).into();
        };
        let exempt = self.config.accounts.exempt.contains(&account);
        match question.step {
            // An exempt account is recorded once, when its session opens.
            Step::Account if exempt => Answer::allow().into(),
            Step::Account => {
                let judged = self
                    .judge_shared(&account)
                    .and_then(|()| login::judge_account(&account, self.uid_of(&account), self.grants.open_ones(), now));
                match judged {
                    Err(why) if self.enforces() => self.refuse(question, Some(&account), &why, now).into(),
                    // Observe lets everybody pass; what enforce would have done is recorded in the session step.
                    _ => Answer::allow().into(),
                }
            }
            Step::Session => {
                let source = source_of(question);
                let judged = match exempt {
                    true => Ok(None),
                    false => self.judge(asked, &account, &source, now).map(Some),
                };
                self.answer_session(asked, account, judged, now)
            }
        }
    }

    /// A login to an account whose name no grant can hold. Observe lets it by as it does everybody.
    fn answer_unnameable(&mut self, question: &Question, now: Now) -> Answer {
        if self.enforces() {
            return self.refuse(question, None, &Refused::UnknownAccount, now);
        }
        if question.step == Step::Session {
            let sentence = "somebody logged in to an account that no grant can name; enforce would have refused";
            let draft = Draft::new(ArtifactType::SessionOpened, sentence)
                .with("methods", methods(question))
                .with("given_account", question.account.as_str())
                .with("would_refuse", true);
            let draft = placed(draft, question);
            self.recorder.note_often(draft, 1, now);
            self.commit(now);
        }
        Answer::allow()
    }

    fn answer_session(
        &mut self,
        asked: &LoginAsked,
        account: Account,
        judged: Result<Option<Admitted>, Refused>,
        now: Now,
    ) -> Verdict {
        let question = &asked.question;
        let source = source_of(question);
        // Who may come in by a grant is not known for certain, and it could not be recorded.
        let judged = judged.and_then(|admitted| match &admitted {
            Some(_) if self.is_unread() => Err(Refused::NotRecorded),
            _ => Ok(admitted),
        });
        let standing = match judged {
            Ok(None) => Standing::Emergency,
            Ok(Some(Admitted { person, grant, fingerprint })) => Standing::Granted { grant, person, fingerprint },
            Err(why) if self.enforces() => return self.refuse(question, Some(&account), &why, now).into(),
            Err(why) => Standing::Unbacked { person: why.person().cloned(), fingerprint: why.fingerprint().cloned() },
        };
        let Some(monitor) = asked.monitor else {
            return match standing {
                // Break-glass works whatever else does not: PAM lets it by anyway, so it is recorded even unbound.
                Standing::Emergency => {
                    match asked.gate_waits {
                        true => self.record_emergency(question, &account, now),
                        // A gate that has given up waiting has left a note of it, or sshd's log knows of it.
                        false => self.push(Effect::ReadNotes),
                    }
                    Answer::allow().into()
                }
                _ if self.enforces() => self.refuse(question, Some(&account), &Refused::UnknownConnection, now).into(),
                _ => Answer::allow().into(),
            };
        };
        let must_be_recorded = self.enforces() && standing != Standing::Emergency;
        let is_answered = |known: &Session| known.account == account && (known.recorded || !must_be_recorded);
        if self.sessions.nearest(&[monitor]).is_some_and(is_answered) {
            // The gate asks again because the daemon was replaced before it could answer; it has just been judged anew.
            return Answer::allow().into();
        }
        let session = Session::new(self.new_session_id(), account, standing, source, now.wall, monitor);
        self.open_session(question, session, now)
    }

    fn judge(&self, asked: &LoginAsked, account: &Account, source: &Source, now: Now) -> Result<Admitted, Refused> {
        self.judge_shared(account)?;
        let auth_info = asked.question.auth_info.as_deref().unwrap_or_default();
        let demand = self.required_of(account);
        let attempt = Attempt { account, uid: self.uid_of(account), auth_info, demand, address: source.address };
        let admitted = login::judge_session(&attempt, self, self.grants.open_ones(), now)?;
        let Some(maker) = &asked.made_here else { return Ok(admitted) };
        let behind = maker.as_ref().map(|maker| self.all_behind(maker, &admitted.person));
        login::judge_client(admitted, behind.as_deref().map_err(|why| **why))
    }

    /// Whose the processes are that made a connection with `person`'s key.
    fn all_behind(&self, maker: &Maker, person: &Person) -> Vec<Behind> {
        match maker {
            Maker::UnseenRoot => vec![Behind::NobodyElse],
            Maker::Held(holders) => holders.iter().map(|holder| self.behind(holder, person)).collect(),
        }
    }

    fn behind(&self, holder: &Holder, person: &Person) -> Behind {
        let session = self.sessions.nearest(&holder.above).or_else(|| match self.sessions.all_of(&holder.beside)[..] {
            [only] => Some(only),
            _ => None,
        });
        if let Some(session) = session
            && let Some(of) = session.person()
        {
            return Behind::Person(of.clone(), Some(session.id.clone()));
        }
        if let Some(grant) = holder.left_by.as_ref().and_then(|id| self.grants.get(id)) {
            return Behind::Person(grant.person.clone(), None);
        }
        let may_be_others = |account: &Account| {
            let mut others = self.config.people.iter().filter(|(name, _)| *name != person);
            others.any(|(_, entry)| entry.accounts.contains(account))
                || self.documents.others(account, person)
                || self.grants.open_ones().any(|grant| grant.account == *account && grant.person != *person)
        };
        if holder.account.as_ref().is_some_and(may_be_others) { Behind::Several } else { Behind::NobodyElse }
    }

    fn judge_shared(&self, account: &Account) -> Result<(), Refused> {
        self.kept_for(account).map_or(Ok(()), |other| Err(Refused::SharedUserId(other.clone())))
    }

    /// Table, then record, then answer: a session that is let in is always known, and on record. Break-glass and
    /// observe let it in at once; its record follows.
    fn open_session(&mut self, question: &Question, session: Session, now: Now) -> Verdict {
        let must_be_recorded = self.enforces() && session.standing != Standing::Emergency;
        let draft = opened(question, &session).with_some("required", self.required_words(&session));
        let kept = self.keep_session(session.clone());
        match (must_be_recorded, kept) {
            (true, true) => Verdict::OnceRecorded(Box::new(session), Box::new(draft)),
            (true, false) => self.refuse(question, Some(&session.account), &Refused::NotRecorded, now).into(),
            (false, _) => {
                self.note_login(draft, now);
                self.commit(now);
                self.keep_at_once(now);
                Answer::allow().into()
            }
        }
    }

    /// What the account required of a login that stands on a grant; nothing where a key did.
    fn required_words(&self, session: &Session) -> Option<Vec<&'static str>> {
        session.grant().and_then(|_| self.required_of(&session.account).for_record())
    }

    fn record_emergency(&mut self, question: &Question, account: &Account, now: Now) {
        let mut draft = Draft::new(ArtifactType::EmergencyLogin, format!("login to the exempt account {account}"))
            .with("methods", methods(question));
        draft.account = Some(account.clone());
        draft.fingerprint = key_of(question);
        let draft = placed(draft, question);
        self.note_login(draft, now);
        self.commit(now);
        self.keep_at_once(now);
    }

    fn refuse(&mut self, question: &Question, account: Option<&Account>, why: &Refused, now: Now) -> Answer {
        let step = match question.step {
            Step::Account => "account",
            Step::Session => "session",
        };
        let mut draft = Draft::new(ArtifactType::SessionRefused, format!("login refused: {why}"))
            .with("why", why.word())
            .with("step", step)
            .with("methods", methods(question));
        if account.is_none() {
            draft = draft.with("given_account", question.account.as_str());
        }
        if let Refused::ThroughSession { session: Some(session), .. } = why {
            draft = draft.with("through_session", session.as_str());
        }
        draft.account = account.cloned();
        draft.person = why.person().cloned();
        draft.fingerprint = why.fingerprint().cloned();
        self.recorder.note_often(placed(draft, question), 1, now);
        self.commit(now);
        Answer::Refuse { text: told(&question.account, why) }
    }
}

/// What a refused person reads on their terminal.
fn told(account: &str, why: &Refused) -> String {
    let account = record::escape(account.as_bytes());
    let person = why.person().map_or("PERSON", |person| person.as_str());
    let remedy = match why {
        Refused::NotRecorded => "An operator has to look at this instance: lockdownctl status".to_owned(),
        Refused::ThroughSession { .. } | Refused::UnknownClient(..) => {
            "Log in from your own machine, or from a session of your own. Who forwards an agent (ssh -A) to an account lends it \
             to everybody there."
                .to_owned()
        }
        Refused::SharedUserId(_) => "Ask an operator for an account with a user id of its own.".to_owned(),
        Refused::NotHardware(..) => "Log in with the key in your security device (ssh -i); an operator sees which of your keys fit: \
             lockdownctl people"
            .to_owned(),
        Refused::NoSecondMethod(..) => format!(
            "An operator has to tell sshd: AuthenticationMethods publickey,keyboard-interactive, in a block Match User {account}"
        ),
        Refused::UnknownKey(_) => "Ask an operator to add your key to the configuration.".to_owned(),
        _ => format!("Ask an operator: lockdownctl allow {person} --account {account} --for 2h --reason TICKET"),
    };
    format!("lockdownd: login to {account} refused: {why}.\n{remedy}\n")
}

fn opened(question: &Question, session: &Session) -> Draft {
    let account = &session.account;
    let (kind, reason) = match &session.standing {
        Standing::Granted { grant, person, .. } => {
            (ArtifactType::SessionOpened, format!("{person} logged in to {account} on grant {grant}"))
        }
        Standing::Emergency => (ArtifactType::EmergencyLogin, format!("login to the exempt account {account}")),
        Standing::Unbacked { .. } | Standing::Unattributed => {
            let who = session.person().map_or("somebody", |person| person.as_str());
            let reason = format!("{who} logged in to {account} without a grant; enforce would have refused");
            (ArtifactType::SessionOpened, reason)
        }
    };
    let mut draft = Draft::new(kind, reason).with("methods", methods(question)).with("pid", session.monitor.pid);
    if matches!(session.standing, Standing::Unbacked { .. }) {
        draft = draft.with("would_refuse", true);
    }
    draft.person = session.person().cloned();
    draft.account = Some(account.clone());
    draft.grant = session.grant().cloned();
    draft.session = Some(session.id.clone());
    draft.fingerprint = session.fingerprint().cloned();
    if session.standing == Standing::Emergency {
        draft.fingerprint = key_of(question);
    }
    placed(draft, question)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A login that is refused at this time.
    pub(in crate::machine) fn pending(until: Duration) -> PendingLogin {
        PendingLogin {
            question: question(""),
            monitor: None,
            session: "s-0123456789abcdef".parse().expect("an id"),
            account: "ubuntu".parse().expect("an account"),
            person: None,
            grant: None,
            until: Some(until),
            to: None,
            over: None,
        }
    }

    pub(super) fn question(connection: &str) -> Question {
        Question {
            step: Step::Session,
            account: "ubuntu".to_owned(),
            remote_host: None,
            connection: Some(connection.to_owned()),
            auth_info: None,
            service: None,
            tty: None,
        }
    }
}
