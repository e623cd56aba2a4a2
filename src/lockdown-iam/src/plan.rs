//! What follows from what IAM says and the roster in force: who is held, and which people a next roster would have. No I/O.
//!
//! Who is who is decided by `UserId` alone: a name can be given again.

mod people;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use document::{Checked, Id, Member, Moment, Reason, Roster, Source};
use record::Person;

use crate::{
    memory::{Absent, Memory},
    people::{Candidate, Candidates},
};

pub(crate) use people::Mode;

/// In how many complete runs somebody has to be in no list before that counts.
const ABSENT_RUNS: u64 = 2;
/// How far apart those have to be: IAM's answers may be some seconds old.
const ABSENT_APART: Duration = Duration::from_secs(20);

/// For how many runs a user is new: some of IAM's servers may not have heard of them, and say that there is no such user.
const NEW_RUNS: u64 = 5;

/// What is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The roster in force.
    pub(crate) roster: &'a Roster,
    /// Whom the configuration trusts.
    pub(crate) trust: &'a Checked,
    /// Whose people these are.
    pub(crate) source: &'a Source,
    /// Everybody in a mapped group.
    pub(crate) candidates: &'a Candidates,
    /// Of whom IAM says that there is no such user.
    pub(crate) gone: &'a BTreeSet<String>,
    pub(crate) memory: &'a Memory,
    /// The holds that stand, by whom they hold, in lower case.
    pub(crate) standing: &'a BTreeMap<String, Id>,
    pub(crate) now: Moment,
}

/// What follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who is to be held.
    pub(crate) holds: Vec<ToHold>,
    /// Who was in no list, and how often.
    pub(crate) absent: BTreeMap<String, Absent>,
    /// Users who are as they should be: what was remembered of a hold on them is over.
    pub(crate) fine: BTreeSet<String>,
    /// What somebody should know.
    pub(crate) notes: Vec<String>,
}

/// A hold that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToHold {
    /// `UserId`
    pub(crate) id: String,
    pub(crate) person: Person,
    /// Why, as it stands in the document.
    pub(crate) reason: String,
}

/// How somebody of the roster stands in IAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing<'a> {
    /// They may log in.
    Fine(&'a Candidate),
    /// They may not.
    Leaving(Cause),
    /// They are in no list, and that does not count yet.
    Unsure,
    /// The roster does not say who they are in IAM.
    Unlinked,
}

/// Why somebody may not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Deleted,
    Replaced,
    Disabled,
    Absent,
}

impl Cause {
    fn words(self) -> &'static str {
        match self {
            Self::Deleted => "is deleted: NoSuchEntity",
            Self::Replaced => "is deleted: another user has the name now",
            Self::Disabled => "is disabled by a tag",
            Self::Absent => "is in none of the groups",
        }
    }
}

/// Who is to be held.
pub(crate) fn plan(facts: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    for member in facts.mine() {
        let Some(user) = &member.iam else {
            plan.notes.push(format!(
                "{} is of {} and without IAM's user id in the roster: whether they left is not known; sign what is proposed",
                member.name, facts.source
            ));
            continue;
        };
        let id = user.id.as_str();
        let held = facts.standing.get(&lower(&member.name));
        let standing = facts.standing_of(member);
        if standing == Standing::Unsure || standing == Standing::Leaving(Cause::Absent) {
            plan.absent.insert(id.to_owned(), facts.counted(id));
        }
        match (standing, held) {
            (Standing::Fine(_), None) => drop(plan.fine.insert(id.to_owned())),
            (Standing::Fine(_), Some(hold)) => plan.notes.push(format!(
                "{} is in IAM's groups, and held: if that is right again, an approver lifts it: lockdown lift {hold}",
                member.name
            )),
            (Standing::Leaving(_), None) if facts.memory.holds.get(id).is_some_and(|held| held.lifted) => {
                plan.notes.push(format!("{} is to be held by IAM, and an approver lifted that hold", member.name));
            }
            (Standing::Leaving(cause), None) => plan.holds.push(ToHold {
                id: id.to_owned(),
                person: member.name.clone(),
                reason: facts.reason(member, cause),
            }),
            (Standing::Leaving(_), Some(_)) | (Standing::Unsure | Standing::Unlinked, _) => {}
        }
    }
    plan
}

/// The people of a next roster.
pub(crate) fn next_people(facts: &Facts<'_>, mode: Mode, notes: &mut Vec<String>) -> Vec<Member> {
    people::next(facts, mode, notes)
}

fn lower(person: &Person) -> String {
    person.as_str().to_ascii_lowercase()
}

impl<'a> Facts<'a> {
    fn mine(&self) -> impl Iterator<Item = &'a Member> {
        let source = self.source;
        self.roster.people.iter().filter(move |member| member.source == *source)
    }

    fn standing_of(&self, member: &Member) -> Standing<'a> {
        let Some(user) = &member.iam else { return Standing::Unlinked };
        let id = user.id.as_str();
        match self.candidates.get(id) {
            Some(candidate) if candidate.disabled => Standing::Leaving(Cause::Disabled),
            Some(candidate) => Standing::Fine(candidate),
            None if self.gone.contains(id) && !self.is_new(id) => Standing::Leaving(Cause::Deleted),
            None if self.is_replaced(id) && !self.is_new(id) => Standing::Leaving(Cause::Replaced),
            // What was found once is not found anew.
            None if self.memory.holds.contains_key(id) => Standing::Leaving(Cause::Absent),
            None if self.counted(id).runs >= ABSENT_RUNS => Standing::Leaving(Cause::Absent),
            None => Standing::Unsure,
        }
    }

    /// Whether somebody was listed for the first time not long ago: then one answer about them is not enough.
    fn is_new(&self, id: &str) -> bool {
        let known = self.memory.users.get(id);
        known.is_some_and(|known| self.memory.runs < known.seen_in.saturating_add(NEW_RUNS))
    }

    /// Whether another user of the same account has the name: two never have it at a time.
    fn is_replaced(&self, id: &str) -> bool {
        let Some(known) = self.memory.users.get(id) else { return false };
        self.candidates
            .values()
            .any(|other| other.account == known.account && other.name.as_str().eq_ignore_ascii_case(&known.name))
    }

    /// In how many complete runs somebody was in no list, this one counted.
    fn counted(&self, id: &str) -> Absent {
        match self.memory.absent.get(id) {
            None => Absent { runs: 1, at: self.now },
            Some(before) if self.now >= before.at.after(ABSENT_APART) => {
                Absent { runs: before.runs.saturating_add(1), at: self.now }
            }
            // The clock was set back: it is counted from now on.
            Some(before) => Absent { runs: before.runs, at: before.at.min(self.now) },
        }
    }

    fn reason(&self, member: &Member, cause: Cause) -> String {
        let user = member.iam.as_ref();
        let (name, id) = user.map_or(("", ""), |user| (user.name.as_str(), user.id.as_str()));
        let arn = user.and_then(|user| user.arn.as_ref()).map(|arn| arn.as_str());
        let arn = self.memory.users.get(id).map(|known| known.arn.as_str()).or(arn);
        let arn = self.candidates.get(id).map(|candidate| candidate.arn.as_str()).or(arn);
        let words = |who: &str| format!("the IAM user {name} ({who}) {}", cause.words());
        // A path may be longer than a reason, and have what no document has: nobody stays in because of it.
        let with_arn = arn.map(|arn| words(&format!("{id}, {arn}")));
        with_arn.filter(|reason| reason.parse::<Reason>().is_ok()).unwrap_or_else(|| words(id))
    }
}
