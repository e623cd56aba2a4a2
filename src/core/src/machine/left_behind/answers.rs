//! Operators who end grants are told what goes on: so their answer waits for the look, a moment at most.

use std::{collections::BTreeSet, time::Duration};

use control::{Answer, LeftRunning};
use record::GrantId;

use super::{Behind, Looked, MAX_NAMED};
use crate::{
    grants::Grants,
    machine::{Core, Token, on_disk},
    policy::time::Now,
};

/// How long an answer waits for a look. What has ended has ended by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When it is given without what is not known yet, on the boot clock.
    pub(super) due: Duration,
    grants: BTreeSet<GrantId>,
    answer: Answer,
    token: Token,
    left_running: Vec<LeftRunning>,
    more: u64,
}

impl Waiting {
    /// What was found under a grant.
    pub(super) fn learn(&mut self, looked: &Looked, grants: &Grants) {
        let Some(grant) = grants.get(&looked.id).filter(|grant| self.grants.contains(&grant.id)) else { return };
        let before = self.left_running.len();
        let views = looked.goes_on.iter().map(|process| LeftRunning {
            person: grant.person.clone(),
            account: grant.account.clone(),
            pid: process.pid.unsigned_abs(),
            program: process.program.clone(),
            by: process.by.to_owned(),
        });
        self.left_running.extend(views.take(MAX_NAMED - before));
        self.more += looked.all_going_on - (self.left_running.len() - before) as u64;
    }

    fn give(self, whole: bool) -> (Token, Answer) {
        let mut answer = self.answer;
        let unknown = "what was left running is still being looked for: see the records of type grant.ended";
        match &mut answer {
            Answer::Lockdown(answer) => {
                (answer.left_running, answer.more_left_running) = (self.left_running, self.more);
                answer.notes.extend((!whole).then(|| unknown.to_owned()));
            }
            Answer::Revoke(answer) => answer.notes.extend((!whole).then(|| unknown.to_owned())),
            _ => {}
        }
        (self.token, answer)
    }
}

impl Behind {
    fn is_wanted(&self, id: &GrantId) -> bool {
        self.waiting.contains_key(id) || self.under_way.as_ref().is_some_and(|under_way| under_way.contains_key(id))
    }
}

impl Core {
    /// Answers once it is known what was left behind under the grants that are looked at now, and that is on record.
    pub(in crate::machine) fn answer_when_looked(&mut self, token: Token, answer: Answer, now: Now) {
        let under_way = self.behind.under_way.iter().flatten().map(|(id, _)| id);
        let grants = self.behind.waiting.keys().chain(under_way).cloned().collect();
        let due = now.boot + PATIENCE;
        self.behind.answers.push(Waiting { due, grants, answer, token, left_running: Vec::new(), more: 0 });
        self.answer_who_waited(now);
    }

    /// Gives the answers for which all is known, or which have waited for long enough.
    pub(super) fn answer_who_waited(&mut self, now: Now) {
        for mut waiting in std::mem::take(&mut self.behind.answers) {
            waiting.grants.retain(|id| self.behind.is_wanted(id));
            match waiting.grants.is_empty() {
                false if now.boot < waiting.due => self.behind.answers.push(waiting),
                whole => {
                    let (token, answer) = waiting.give(whole);
                    self.answer_on_record(on_disk::Waiting::Operator(token, Ok(answer)), now);
                }
            }
        }
    }
}
