//! The inbox: documents that the shipper has fetched, some at a time, each answered for until it is gone.
//!
//! It is read by a job, since it is another user's. What is done there goes by [`Effect::AnswerInbox`]: the shipper then deletes
//! it. What waits is left there, and judged again after every document that was accepted, and in a while.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use control::ApplyOutcome;
use document::{Envelope, Id, Key};
use record::{ArtifactType, Draft};
use serde_json::json;

use super::{Became, Core, feeds::FeedSaid};
use crate::{
    machine::{
        Effect, Severity,
        jobs::{Job, Kind},
    },
    policy::time::Now,
};

/// The most documents that are judged at a time: each has up to 16 signatures.
pub const MAX_A_PASS: usize = 8;
/// How long what waits is left alone, unless another document is accepted.
const WAIT_AGAIN: Duration = Duration::from_secs(30);
/// How many documents that were judged are remembered, to know whether a feed withheld one; and how many that were refused.
const MAX_SEEN: usize = 1_024;

/// By whom it is known what of the inbox is read, and what comes first.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    /// A roster is read only if one of these has signed it.
    pub rosters: Vec<Key>,
    /// What these close comes before what others do.
    pub closers: Vec<Key>,
}

/// What a job has found in the inbox.
#[derive(Debug, Default)]
pub struct InboxRead {
    /// Every document there, by its name.
    pub present: BTreeSet<Id>,
    /// Those to be judged, in order: what closes, then a roster, or where there is none, what opens. At most [`MAX_A_PASS`].
    pub offered: Vec<Envelope>,
    /// What is no document, and why.
    pub bad: Vec<(Id, String)>,
    /// Whether there are more.
    pub more: bool,
    /// What the feeds said last.
    pub feeds: Vec<FeedSaid>,
    /// Why it could not be read whole.
    pub unread: Option<String>,
}

/// What is in the inbox, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Offered {
    under_way: bool,
    again: bool,
    /// When it is looked at again, on the boot clock.
    due: Option<Duration>,
    /// What is needed no more.
    done: BTreeSet<Id>,
    /// What may be taken later, each with why not now.
    waiting: BTreeMap<Id, String>,
    /// Done once this commit is on disk.
    settling: Vec<(u64, Id)>,
    /// Grants that are on their way to the disk.
    pending: BTreeSet<Id>,
    /// What was judged since something changed on which it depends.
    tried: BTreeSet<Id>,
    seen: VecDeque<Id>,
    refused: VecDeque<Id>,
    answered: Vec<u8>,
    problem: Option<String>,
}

impl Offered {
    /// Something has changed on which what waits depends.
    pub(super) fn begin_round(&mut self) {
        self.tried.clear();
        self.again |= !self.waiting.is_empty();
    }

    /// Another state is known: what was judged by the one before is judged again.
    pub(super) fn begin_anew(&mut self) {
        (self.done, self.settling, self.waiting) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        self.begin_round();
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.due.filter(|_| !self.under_way)
    }

    pub(super) fn waiting(&self) -> &BTreeMap<Id, String> {
        &self.waiting
    }

    /// Whether this document was brought here at all, lately.
    pub(super) fn knows(&self, id: Id) -> bool {
        self.seen.contains(&id)
    }

    /// Whether a document was refused on record lately; from now on it was.
    pub(super) fn was_refused(&mut self, id: Id) -> bool {
        let was = self.refused.contains(&id);
        if !was {
            self.refused.push_back(id);
        }
        let excess = self.refused.len().saturating_sub(MAX_SEEN);
        self.refused.drain(..excess);
        was
    }

    pub(super) fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }

    /// Whether it is to be looked at again, and nobody is about to.
    pub(super) fn wants_another_look(&self) -> bool {
        self.again && !self.under_way
    }

    pub(super) fn see(&mut self, id: Id) {
        if !self.seen.contains(&id) {
            self.seen.push_back(id);
        }
        let excess = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..excess);
    }

    /// What need not be read now.
    fn settled(&self) -> BTreeSet<Id> {
        let settling = self.settling.iter().map(|(_, id)| id);
        self.done.iter().chain(settling).chain(&self.pending).chain(&self.tried).copied().collect()
    }
}

impl Core {
    /// Something in the inbox was touched, or is to be judged again.
    pub(in crate::machine) fn look_into_inbox(&mut self, now: Now) {
        let Some(judge) = self.documents.judge() else { return };
        let rosters = judge.settings().roster_signers().into_iter().cloned().collect();
        let signers = Signers { rosters, closers: judge.closers() };
        let offered = &mut self.documents.offered;
        if std::mem::replace(&mut offered.under_way, true) {
            offered.again = true;
            return;
        }
        (offered.again, offered.due) = (false, None);
        let settled = offered.settled();
        self.start_job(Kind::Inbox, Job::ReadInbox { settled, signers }, now);
    }

    /// It is due to be looked at again.
    pub(in crate::machine) fn look_into_inbox_if_due(&mut self, now: Now) {
        if self.documents.offered.due().is_some_and(|due| now.boot >= due) {
            self.documents.offered.tried.clear();
            self.look_into_inbox(now);
        }
    }

    /// The job that reads it was given up.
    pub(in crate::machine) fn inbox_lost(&mut self, now: Now) {
        self.documents.offered.under_way = false;
        self.documents.offered.due = Some(now.boot + WAIT_AGAIN);
        self.inbox_problem(Some("reading it does not come back: its file system hangs".to_owned()));
    }

    /// Why it is not read whole: said once, and shown for as long as it is so.
    fn inbox_problem(&mut self, why: Option<String>) {
        let before = std::mem::replace(&mut self.documents.offered.problem, why.clone());
        if let Some(why) = why.filter(|why| before.as_ref() != Some(why)) {
            self.say(Severity::Err, format!("the inbox of documents cannot be read: {why}"));
        }
    }

    /// The inbox was read.
    pub(in crate::machine) fn inbox_read(&mut self, read: InboxRead, now: Now) {
        let InboxRead { present, offered, bad, more, feeds, unread } = read;
        let state = &mut self.documents.offered;
        state.under_way = false;
        state.done.retain(|id| present.contains(id));
        state.waiting.retain(|id, _| present.contains(id));
        self.inbox_problem(unread);
        for (id, why) in bad {
            let sentence = format!("what the shipper brought as a document is none: {why}");
            let draft = Draft::new(ArtifactType::DocumentRefused, sentence)
                .with("document", id.to_string())
                .with("code", "malformed")
                .with("why", why.clone());
            self.recorder.note_often(draft, 1, now);
            self.document_became(id, Became::Done(ApplyOutcome::Refused, why), now);
        }
        for envelope in &offered {
            let id = envelope.document().id();
            let became = self.judge_document(envelope, None, now);
            self.documents.offered.tried.insert(id);
            self.document_became(id, became, now);
        }
        if !more {
            self.feeds_said(feeds, now);
        }
        let state = &mut self.documents.offered;
        if !state.waiting.is_empty() {
            state.due = Some(now.boot + WAIT_AGAIN);
        }
        let again = more || std::mem::take(&mut state.again);
        self.commit(now);
        self.write_inbox_answer();
        if again {
            self.look_into_inbox(now);
        }
    }

    /// What became of a document of the inbox.
    pub(super) fn document_became(&mut self, id: Id, became: Became, now: Now) {
        self.commit(now);
        let commit = self.recorder.newest();
        let offered = &mut self.documents.offered;
        offered.see(id);
        offered.pending.remove(&id);
        match became {
            Became::Pending => drop(offered.pending.insert(id)),
            Became::Waits(why) => drop(offered.waiting.insert(id, why)),
            Became::Done(..) => {
                offered.waiting.remove(&id);
                offered.settling.push((commit, id));
            }
        }
        self.settle_inbox();
    }

    /// What is on disk now is needed no more in the inbox.
    pub(in crate::machine) fn settle_inbox(&mut self) {
        if self.documents.is_unsaved() || self.documents.offered.settling.is_empty() {
            return self.write_inbox_answer();
        }
        let recorder = &self.recorder;
        let offered = &mut self.documents.offered;
        let (on_disk, left) =
            std::mem::take(&mut offered.settling).into_iter().partition(|(commit, _)| recorder.was_tried(*commit));
        offered.settling = left;
        let on_disk: Vec<(u64, Id)> = on_disk;
        offered.done.extend(on_disk.into_iter().map(|(_, id)| id));
        self.write_inbox_answer();
    }

    /// Tells the shipper what is needed no more, where that has changed.
    pub(super) fn write_inbox_answer(&mut self) {
        if self.documents.judge.is_none() && self.documents.offered.answered.is_empty() {
            return;
        }
        let ids = |ids: &mut dyn Iterator<Item = &Id>| ids.map(ToString::to_string).collect::<Vec<_>>();
        let offered = &self.documents.offered;
        let answer = json!({
            "v": 1,
            "done": ids(&mut offered.done.iter()),
            "waiting": ids(&mut offered.waiting.keys()),
            "feeds": self.documents.feeds.positions(),
        });
        let bytes = format!("{answer}\n").into_bytes();
        if bytes != offered.answered {
            self.documents.offered.answered.clone_from(&bytes);
            self.push(Effect::AnswerInbox(bytes));
        }
    }
}
