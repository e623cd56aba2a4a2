//! Whether sshd lets in whom a grant lets in: `allow` says it beside the grant, and does not wait for it for long.
//!
//! sshd runs in a job. The grant is in force whatever comes of it.

use std::{collections::BTreeMap, time::Duration};

use control::{AllowedAnswer, Answer};
use record::Account;

use super::{
    Core, Effect, Token,
    jobs::{Job, Kind},
};
use crate::{
    config::Demand,
    keys::person::PersonKey,
    policy::{grant::Grant, time::Now},
};

/// How long an answer waits for what sshd says.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after it was asked for a grant is answered at the latest, whatever took how long.
const IN_ALL: Duration = Duration::from_millis(4_800);

/// A grant, as sshd is asked about it.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What a sentence calls it.
    pub title: String,
    /// The account.
    pub account: Account,
    /// The person's keys that may open it.
    pub keys: Vec<PersonKey>,
    /// What a login needs.
    pub demand: Demand,
    /// That none of the person's keys is of a type that the account requires.
    pub unfit: Option<String>,
}

#[derive(Debug)]
struct Waiting {
    answer: AllowedAnswer,
    /// On the boot clock.
    until: Duration,
}

/// Answers that wait for what sshd says.
#[derive(Debug, Default)]
pub(super) struct Admissions(BTreeMap<Token, Waiting>);

impl Admissions {
    /// When the next is answered without, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.0.values().map(|waiting| waiting.until).min()
    }
}

impl Core {
    /// Answers `allow`, which was asked for at that moment of the boot clock, with what sshd says of the account.
    pub(super) fn answer_allowed(&mut self, answer: AllowedAnswer, token: Token, at: Duration, now: Now) {
        let Some(grant) = self.grants.get(&answer.grant.id) else {
            return self.push(Effect::Answer(token, Ok(Answer::Allow(Box::new(answer)))));
        };
        let granted = self.granted_to(grant, String::new());
        let until = (now.boot + PATIENCE).min((at + IN_ALL).max(now.boot));
        self.admissions.0.insert(token, Waiting { answer, until });
        self.start_job(Kind::Admission, Job::AskSshd(token, Box::new(granted)), now);
    }

    /// sshd has said what it makes of an account: what keeps people out of it, if anything.
    pub(super) fn admitted(&mut self, token: Token, note: Option<String>) {
        let Some(Waiting { mut answer, .. }) = self.admissions.0.remove(&token) else { return };
        answer.notes.extend(self.not_in_place_yet(&answer.grant.id));
        answer.notes.extend(note);
        self.push(Effect::Answer(token, Ok(Answer::Allow(Box::new(answer)))));
    }

    /// Whoever has waited long enough is answered without.
    pub(super) fn answer_unasked(&mut self, now: Now) {
        let over = self.admissions.0.iter().filter(|(_, waiting)| now.boot >= waiting.until);
        let over: Vec<Token> = over.map(|(token, _)| *token).collect();
        for token in over {
            let note = "whether sshd lets it in was not checked: there was no answer in time";
            self.admitted(token, Some(note.to_owned()));
        }
    }

    /// The active grants, as sshd is asked about them.
    pub(super) fn granted(&self, now: Now) -> Vec<Granted> {
        let active = self.grants.open_ones().filter(|grant| grant.is_active(now));
        let granted = active.map(|grant| {
            let title = format!("{}'s grant {} on {}", grant.person, grant.id, grant.account);
            self.granted_to(grant, title)
        });
        granted.collect()
    }

    fn granted_to(&self, grant: &Grant, title: String) -> Granted {
        let demand = self.required_of(&grant.account).and(grant.demand());
        let keys: Vec<PersonKey> = self.keys_of(grant).iter().filter(|key| demand.takes(key)).cloned().collect();
        let unfit = keys
            .is_empty()
            .then(|| format!("{} has no key that opens {}, which requires {demand}", grant.person, grant.account));
        Granted { title, account: grant.account.clone(), keys, demand, unfit }
    }
}
