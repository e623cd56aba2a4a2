//! Signed documents on this host: what becomes of each, and which grants they give and end.
//!
//! A document is judged by [`document::Judge`], whichever way it came. What closes takes effect at once. A grant takes effect
//! once the disk has it, and that it was accepted. Whoever delivered a document is told that it is needed no more once the
//! disk has what came of it: so nothing is lost by a crash, and the same document may come again at any time.

mod closing;
mod feeds;
mod given;
mod inbox;
mod kept;
mod stated;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::{Answer, ApplyAnswer, ApplyOutcome, Refusal, RefusalCode};
use document::{Accepted, Body, Envelope, Id, Judge, LocalPerson, Place, Verdict, WhenSilent, judge::Dropped};
use record::{Account, Host, Person};

pub(super) use self::closing::LockedDown;
pub use self::{
    feeds::{FeedSaid, Feeds, MAX_FEED_IDS},
    given::PendingDocument,
    inbox::{InboxRead, MAX_A_PASS, Signers},
    kept::{DocumentsOnRecord, DocumentsRead, KeptDocuments},
};
use self::{inbox::Offered, kept::Parked};
use super::{Core, Effect, Token, Waiting};
use crate::{
    config::{Config, PersonEntry},
    policy::time::Now,
};

/// The most accounts of a roster that the name service is asked for.
const MAX_NAMED: usize = 1_000;

/// What this host knows of signed documents.
#[derive(Debug, Default)]
pub struct Documents {
    /// What the host calls itself; nothing until the state is read.
    host: Option<Host>,
    /// Nothing without `[stack]`, and until the state is read.
    judge: Option<Judge>,
    parked: Parked,
    feeds: Feeds,
    offered: Offered,
    /// Whether it was taken up from a copy that an earlier run of this boot left.
    has_copy: bool,
    /// How many documents were accepted here. Records say it too: state that is older than they are is known by it.
    number: u64,
    /// Whether it is not on disk, or on its way there.
    unsaved: bool,
    rosters_unsaved: bool,
    /// Whom the roster lets be given which account here: two people of each at most, in lower case. Those whom a key in
    /// `stack.roster.automatic` alone named are not among them: they count once they hold a grant.
    holders: BTreeMap<Account, BTreeSet<String>>,
    /// Every account that the roster names here.
    named: BTreeSet<Account>,
    /// Documents whose grants a crash kept from being in force, until it is known that there is a judge.
    never_given: Vec<Id>,
}

/// What became of a document for whoever brought it.
#[derive(Debug)]
pub(super) enum Became {
    /// It is needed no more once what is noted is on disk. How it was taken, in words.
    Done(ApplyOutcome, String),
    /// It may be taken later: why not now.
    Waits(String),
    /// A grant is on its way to the disk; whoever waits for it is told then.
    Pending,
}

impl Documents {
    /// The judge, where documents are taken.
    #[must_use]
    pub fn judge(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// How many people may be given an account by the roster, other than this one; two at most are told apart.
    pub(super) fn others(&self, account: &Account, person: &Person) -> bool {
        let name = person.as_str().to_ascii_lowercase();
        self.holders.get(account).is_some_and(|holders| holders.iter().any(|holder| *holder != name))
    }

    /// Who may be given an account by the roster, in lower case: two at most.
    pub(super) fn holders(&self) -> impl Iterator<Item = (&Account, &BTreeSet<String>)> {
        self.holders.iter()
    }

    /// Whether the roster lets somebody be given an account.
    pub(super) fn gives(&self, account: &Account) -> bool {
        self.holders.contains_key(account)
    }

    /// Accounts that the roster names here: the name service may have them.
    pub(super) fn named(&self) -> impl Iterator<Item = &Account> {
        self.named.iter().take(MAX_NAMED)
    }

    fn learn_holders(&mut self) {
        self.holders.clear();
        self.named.clear();
        let Some((judge, roster)) = self.judge.as_ref().and_then(|judge| Some((judge, judge.roster()?))) else {
            return;
        };
        let (stack, rosters) = (&judge.place().stack, judge.rosters());
        let by_threshold = match rosters.signed.as_ref().map(|signed| signed.document().body()) {
            Some(Body::Roster(signed)) if rosters.automatic.is_some() => Some(signed),
            _ => None,
        };
        for member in &roster.people {
            let signed = by_threshold.map(|signed| signed.people.iter().find(|one| one.name == member.name));
            for name in member.accounts.iter().filter(|(stacks, _)| stacks.fits(stack)).flat_map(|(_, names)| names) {
                let Ok(account) = name.as_str().parse::<Account>() else { continue };
                self.named.insert(account.clone());
                if signed.is_some_and(|signed| signed.is_none_or(|signed| !signed.may_have(name, stack))) {
                    continue;
                }
                let holders = self.holders.entry(account).or_default();
                if holders.len() < 2 {
                    holders.insert(member.name.as_str().to_ascii_lowercase());
                }
            }
        }
    }
}

impl Core {
    /// Documents are judged by the configuration that is in force now; grants that it does not bear out end.
    pub(super) fn renew_documents(&mut self, now: Now) {
        let Some(host) = self.documents.host.clone() else { return };
        let moment = document::Moment::of(now.wall);
        let place = place(&self.config, host);
        let had_judge = self.documents.judge.is_some();
        let (mut judge, dropped) = match (self.config.stack.clone(), self.documents.judge.take()) {
            (Some(settings), Some(judge)) if judge.state().organization() == &settings.organization => {
                let (judge, dropped) = judge.reload(settings, place, moment);
                (Some(judge), dropped)
            }
            (Some(settings), judge) => {
                self.documents.parked.park(judge);
                let (judge, dropped) = self.documents.parked.take_up(settings, place, moment);
                (Some(judge), dropped)
            }
            (None, judge) => {
                self.documents.parked.park(judge);
                (None, Vec::new())
            }
        };
        for id in std::mem::take(&mut self.documents.never_given) {
            judge.iter_mut().for_each(|judge| judge.take_back(id));
            self.documents.unsaved = true;
        }
        let is_new = judge.is_some() != had_judge;
        self.documents.judge = judge;
        if is_new || !dropped.is_empty() {
            self.documents.not_saved();
        }
        if dropped
            .iter()
            .any(|why| matches!(why, Dropped::Organization(_) | Dropped::Stack(_) | Dropped::RosterMissing(_)))
        {
            self.documents.feeds = Feeds::default();
        }
        for why in dropped {
            self.recorder.note(stated::dropped(&why));
        }
        self.documents.feeds.keep_only(self.config.stack.iter().flat_map(|stack| &stack.feeds));
        self.documents.offered.begin_round();
        self.roster_changed(now);
        self.commit(now);
        self.look_into_inbox(now);
    }

    /// Another roster is in force, or none: whose each key is has changed, and grants may not stand any more.
    fn roster_changed(&mut self, now: Now) {
        self.documents.learn_holders();
        self.end_by_documents(now);
    }

    /// Judges a document, and puts it in force where it is accepted. `reply`: who waits for a grant to be in force.
    pub(super) fn judge_document(&mut self, envelope: &Envelope, reply: Option<Token>, now: Now) -> Became {
        if matches!(envelope.document().body(), Body::Grant(_)) && self.is_unread() {
            return Became::Waits(
                "the state in /var/lib/lockdownd is not read: nothing is granted until it is".to_owned(),
            );
        }
        if let (Body::Grant(_), Some(why)) = (envelope.document().body(), self.is_silent(now)) {
            return Became::Waits(why);
        }
        let moment = document::Moment::of(now.wall);
        let Some(judge) = &mut self.documents.judge else {
            return Became::Waits("there is no [stack] in the configuration: no document is accepted".to_owned());
        };
        let judged = judge.judge(envelope, moment);
        let is_open = matches!(judged.verdict, Verdict::Accepted(Accepted::Grant(_)));
        let became = match &judged.verdict {
            Verdict::Known => {
                Became::Done(ApplyOutcome::Known, "it was accepted before, and nothing changes".to_owned())
            }
            Verdict::Waits(wait) => Became::Waits(wait.to_string()),
            Verdict::Refused(refusal) => {
                self.note_refused(envelope, &judged.signers, refusal.word(), &refusal.to_string(), now);
                Became::Done(ApplyOutcome::Refused, refusal.to_string())
            }
            Verdict::Accepted(accepted) => {
                self.documents.unsaved = true;
                self.documents.offered.begin_round();
                match accepted {
                    Accepted::Grant(terms) => self.give_document(envelope, terms, &judged.signers, reply, now),
                    other => self.put_document_in_force(envelope, other, &judged.signers, now),
                }
            }
        };
        if !is_open {
            self.commit(now);
        }
        became
    }

    fn put_document_in_force(
        &mut self,
        envelope: &Envelope,
        accepted: &Accepted,
        signers: &[document::Signer],
        now: Now,
    ) -> Became {
        let sentence = stated::sentence(envelope, accepted, signers);
        let number = self.documents.next_number();
        let mut draft = stated::accepted(envelope, signers, sentence.clone(), number);
        match accepted {
            Accepted::Roster(taken) => {
                if !taken.lost.is_empty() {
                    draft = draft.with("lost_keys", stated::lost(&taken.lost));
                }
                self.recorder.note(draft);
                self.documents.rosters_unsaved = true;
                self.roster_changed(now);
            }
            Accepted::Lockdown { here, .. } => {
                self.recorder.note(draft);
                self.lock_down_by_document(envelope, *here, signers, now);
            }
            Accepted::Revoke { .. } | Accepted::Lift { .. } | Accepted::Grant(_) => {
                self.recorder.note(draft);
                self.end_by_documents(now);
            }
        }
        // A rendered grant may be held no more.
        self.back_grants(now);
        self.set_store_right(now);
        Became::Done(ApplyOutcome::Accepted, sentence)
    }

    fn note_refused(&mut self, envelope: &Envelope, signers: &[document::Signer], code: &str, why: &str, now: Now) {
        let draft = stated::refused(envelope, signers, code, why);
        // Whoever carries documents can bring the same one for ever.
        match signers.is_empty() || self.documents.offered.was_refused(envelope.document().id()) {
            true => self.recorder.note_often(draft, 1, now),
            false => self.recorder.note(draft),
        }
    }

    /// Root brings a document itself. It is answered once what comes of it is on disk.
    pub(super) fn apply(&mut self, envelope: &Envelope, token: Token, now: Now) {
        if let Err(refusal) = self.state_is_read() {
            return self.push(Effect::Answer(token, Err(refusal)));
        }
        let (outcome, why) = match self.judge_document(envelope, Some(token), now) {
            Became::Pending => return,
            Became::Waits(why) => (ApplyOutcome::Waits, why),
            Became::Done(outcome, why) => (outcome, why),
        };
        self.write_inbox_answer();
        if self.documents.offered.wants_another_look() {
            self.look_into_inbox(now);
        }
        let document = envelope.document();
        let answer = ApplyAnswer {
            document: document.id().to_string(),
            kind: document.kind().as_str().to_owned(),
            outcome,
            why,
            grant: None,
            notes: Vec::new(),
        };
        self.answer_on_record(Waiting::Operator(token, Ok(Answer::Apply(Box::new(answer)))), now);
    }

    /// Why no grant from a document opens at present: nothing was heard of any feed for too long, and the configuration has
    /// them end then.
    fn is_silent(&self, now: Now) -> Option<String> {
        let judge = self.documents.judge.as_ref()?;
        let most = judge.settings().max_silence;
        let over = judge.settings().when_silent == WhenSilent::End && self.silent_at(most) <= now.boot;
        over.then(|| {
            let most = control::format_duration(most);
            format!("no feed was heard for {most} (stack.max_silence), and a lockdown may be withheld")
        })
    }

    /// Whether the configuration or the roster has somebody of this name.
    pub(super) fn knows(&self, person: &Person) -> bool {
        let roster = self.documents.judge.as_ref().and_then(Judge::roster);
        self.config.people.contains_key(person)
            || roster.is_some_and(|roster| roster.people.iter().any(|member| member.name == *person))
    }

    fn silent_at(&self, most: Duration) -> Duration {
        self.documents.feeds.last_heard().map_or(Duration::ZERO, |heard| heard.saturating_add(most))
    }

    /// When grants from documents end since nothing is heard, on the boot clock.
    pub(super) fn documents_due(&self) -> Option<Duration> {
        let settings = self.documents.judge.as_ref()?.settings();
        let has_grants = || self.grants.open_ones().any(|grant| grant.origin.document().is_some());
        let silent =
            (settings.when_silent == WhenSilent::End && has_grants()).then(|| self.silent_at(settings.max_silence));
        silent.into_iter().chain(self.documents.offered.due()).min()
    }

    /// Nothing was heard for so long that grants from documents end.
    pub(super) fn end_if_silent(&mut self, now: Now) {
        if self.is_silent(now).is_some() {
            self.end_by_documents(now);
            self.commit(now);
        }
    }

    /// A refusal of what `lockdownctl` or the configuration would give, where a lockdown holds it.
    pub(super) fn held_back(&self, person: &Person, entry: &PersonEntry) -> Result<(), Refusal> {
        let keys = entry.keys.iter().map(crate::keys::person::PersonKey::fingerprint).collect();
        let subject = document::Subject { person, fingerprints: &keys };
        match self.documents.judge.as_ref().and_then(|judge| judge.holds_back(subject)) {
            None => Ok(()),
            Some(held) => {
                Err(Refusal::new(RefusalCode::NotPermitted, format!("nothing can be given to {person}: {held}"))
                    .hint("lockdown lift ID ends a hold, with the approvals that its roster asks for"))
            }
        }
    }
}

/// What the host knows of itself, for the judge.
fn place(config: &Config, host: Host) -> Place {
    let local = |entry: &PersonEntry| LocalPerson {
        keys: entry.keys.iter().filter_map(|key| String::from(key.clone()).parse().ok()).collect(),
        accounts: entry.accounts.iter().filter_map(|account| account.as_str().parse().ok()).collect(),
    };
    let people = config.people.iter().map(|(name, entry)| (name.clone(), local(entry))).collect();
    Place { host: Some(host), stack: config.host.stack.clone(), people }
}

#[cfg(test)]
mod tests;
