//! Whether sshd lets in whom a grant lets in: `allow` says it beside the grant, and does not wait for it for long.
//!
//! sshd runs in a job. The grant is in force whatever comes of it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use control::{AllowedAnswer, Answer, Response};
use lockdown_core::{config::Demand, machine::Token, policy::time::Now};
use lockdown_host::{
    admission::{Admission, Candidate, NoAdmission, Wanted},
    readiness,
};
use record::{Account, Person};

use crate::{
    enforce::{Engine, jobs::Kind},
    trigger::Reason,
};

/// How long an answer waits for what sshd says.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many pairs of account and keys one look asks sshd about; each takes some 10 ms.
const MAX_ASKED: usize = 64;
/// How many grants that sshd does not honour are named; the rest is counted.
const MAX_NAMED: usize = 8;

/// Answers that wait for what sshd says.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    answer: Box<AllowedAnswer>,
    token: Token,
    /// On the boot clock.
    until: Duration,
}

impl Asked {
    /// When the next is answered without, on the boot clock.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }
}

impl Waiting {
    fn answer(mut self, note: Option<String>) -> (Token, Response) {
        self.answer.notes.extend(note);
        (self.token, Ok(Answer::Allow(self.answer)))
    }
}

/// A grant, as sshd is asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    title: String,
    account: Account,
    keys: Vec<Candidate>,
    demand: Demand,
    /// That none of the person's keys is of a type that the account requires.
    unfit: Option<String>,
}

impl Engine {
    /// Answers `allow` with what sshd says of the account.
    pub(crate) fn answer_allowed(&mut self, answer: Box<AllowedAnswer>, token: Token, now: Now) {
        let account = answer.grant.account.clone();
        let demand = self.core.required_of(&account);
        let keys = self.candidates(&answer.grant.person, demand);
        self.asked.last += 1;
        let id = self.asked.last;
        self.asked.waiting.insert(id, Waiting { answer, token, until: now.boot + PATIENCE });
        self.begin_job(Kind::Admission, None, now, move || {
            let note = match Admission::read() {
                Ok(host) => judged(&host, &account, &keys, demand),
                Err(error) => Some(format!("whether sshd lets it in cannot be told: {error}")),
            };
            // Nobody can use any grant then.
            let kept_out = readiness::kept_out().into_iter().next();
            let note = kept_out.map(|why| format!("nobody but exempt accounts can log in: {why}")).or(note);
            Reason::Admitted { id, note }.into()
        });
    }

    /// sshd has said what it makes of an account.
    pub(crate) fn admitted(&mut self, id: u64, note: Option<String>) {
        if let Some(waiting) = self.asked.waiting.remove(&id) {
            let (token, answer) = waiting.answer(note);
            self.answer(token, answer);
        }
    }

    /// Whoever has waited long enough is answered without.
    pub(crate) fn answer_unasked(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.asked.waiting);
        let (over, waiting) = waiting.into_iter().partition(|(_, waiting)| now.boot >= waiting.until);
        self.asked.waiting = waiting;
        for waiting in BTreeMap::into_values(over) {
            let note = format!("whether sshd lets it in was not checked: there was no answer within {PATIENCE:?}");
            let (token, answer) = waiting.answer(Some(note));
            self.answer(token, answer);
        }
    }

    /// The active grants, as sshd is asked about them.
    pub(crate) fn granted(&self, now: Now) -> Vec<Granted> {
        let active = self.core.grants.open_ones().filter(|grant| grant.is_active(now));
        let granted = active.map(|grant| {
            let demand = self.core.required_of(&grant.account);
            Granted {
                title: format!("{}'s grant {} on {}", grant.person, grant.id, grant.account),
                account: grant.account.clone(),
                keys: self.candidates(&grant.person, demand),
                demand,
                unfit: self.core.unfit(&grant.person, &grant.account),
            }
        });
        granted.collect()
    }

    fn candidates(&self, person: &Person, demand: Demand) -> Vec<Candidate> {
        let keys = self.core.config.people.get(person).map(|entry| &entry.keys);
        keys.into_iter().flatten().filter(|key| demand.takes(key)).map(Candidate::from).collect()
    }
}

/// What has to be said of a grant beside that it is in force.
fn judged(host: &Admission, account: &Account, keys: &[Candidate], demand: Demand) -> Option<String> {
    let look = || {
        let entry = host.entry(account)?;
        let effective = host.check(&entry, keys, Wanted::Login(demand))?;
        Ok(host.confinement(&effective, &entry))
    };
    match look() {
        Ok(confined) if confined.is_empty() => None,
        Ok(confined) => Some(format!("sshd lets it in to {account}, but {}", confined.join("; "))),
        Err(why) => Some(held_back(account, &why)),
    }
}

fn held_back(account: &Account, why: &NoAdmission) -> String {
    match why {
        why @ (NoAdmission::Sshd(_) | NoAdmission::NameService(_)) => {
            format!("whether sshd lets it in to {account} cannot be told: {why}")
        }
        why => format!("sshd will not let it in to {account}: {why}"),
    }
}

/// The grants that sshd does not honour, a sentence each. Runs sshd.
pub(crate) fn not_honoured(granted: &[Granted]) -> Vec<String> {
    if granted.is_empty() {
        return Vec::new();
    }
    let host = match Admission::read() {
        Ok(host) => host,
        Err(error) => return vec![format!("whether sshd honours the grants cannot be told: {error}")],
    };
    let mut known: HashMap<(&Account, &[Candidate]), Option<String>> = HashMap::new();
    let (mut found, mut unasked) = (Vec::new(), 0);
    for Granted { title, account, keys, demand, unfit } in granted {
        if let Some(unfit) = unfit {
            found.push(format!("nothing opens with {title}: {unfit}"));
            continue;
        }
        let key = (account, keys.as_slice());
        if !known.contains_key(&key) && known.len() >= MAX_ASKED {
            unasked += 1;
            continue;
        }
        let check = || host.check(&host.entry(account)?, keys, Wanted::Login(*demand));
        let why = known.entry(key).or_insert_with(|| check().err().map(|why| why.to_string()));
        found.extend(why.as_ref().map(|why| format!("sshd does not honour {title}: {why}")));
    }
    let more = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    if more > 0 {
        found.push(format!("sshd does not honour {more} more of the grants"));
    }
    if unasked > 0 {
        found.push(format!("of {unasked} more of the grants it was not looked at whether sshd honours them"));
    }
    found
}
