//! What is kept of documents: on disk, as a copy in memory that outlives the daemon, and for a `[stack]` that is not there now.

use std::sync::Arc;

use document::{
    Checked, Envelope, Judge, Moment, Place, State,
    judge::{Dropped, Kept as Rosters, Mark},
};
use jiff::Timestamp;
use record::{ArtifactType, Draft, Host};
use serde::{Deserialize, Serialize};

use super::{Core, Documents, Feeds};
use crate::policy::time::Now;

/// The version of both files.
const VERSION: u32 = 1;
/// Of how many other organizations it is kept what they closed, and which roster was in force.
const MAX_OTHERS: usize = 2;

/// What is known of documents and not gone by at present: should the configuration have it again, what was closed stays closed.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// What was known last, while there is no `[stack]`.
    last: Option<(State, Rosters)>,
    /// What other organizations closed, and which roster was in force, the last one first.
    others: Vec<State>,
    /// The roster on record, where nothing else is known: none comes before it.
    missing: Option<Mark>,
}

impl Parked {
    /// Puts a judge aside, where there was one.
    pub(super) fn park(&mut self, judge: Option<Judge>) {
        if let Some(judge) = judge {
            self.last = Some((judge.state().clone(), judge.rosters().clone()));
        }
    }

    /// The judge of this organization. What was of another is put aside.
    pub(super) fn take_up(&mut self, settings: Checked, place: Place, now: Moment) -> (Judge, Vec<Dropped>) {
        let mut dropped = Vec::new();
        match self.last.take() {
            Some((state, rosters)) if state.organization() == &settings.organization => {
                return Judge::load(settings, place, state, rosters, now);
            }
            Some((state, _)) => {
                dropped.push(Dropped::Organization(state.organization().clone()));
                if state.has_closed() || state.roster().is_some() {
                    self.others.insert(0, state);
                }
            }
            None => {}
        }
        let of_this = self.others.iter().position(|state| state.organization() == &settings.organization);
        let of_this = of_this.map(|at| self.others.remove(at));
        self.others.truncate(MAX_OTHERS);
        let Some(mut state) = of_this else {
            let mut judge = Judge::begin(settings, place, now);
            if let Some(mark) = self.missing.take() {
                judge.miss_roster(mark);
            }
            return (judge, dropped);
        };
        // What came meanwhile is not known.
        state.begin_again(now);
        let (judge, more) = Judge::load(settings, place, state, Rosters::default(), now);
        dropped.extend(more);
        (judge, dropped)
    }

    /// This host was locked down by itself: nothing from before opens, whichever organization comes back.
    pub(super) fn lock_down_locally(&mut self, now: Moment) {
        let last = self.last.iter_mut().map(|(state, _)| state);
        last.chain(&mut self.others).for_each(|state| state.lock_down_locally(now));
    }
}

/// What the last records say of documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentsOnRecord {
    /// How many were accepted.
    pub number: u64,
    /// The last roster that was.
    pub roster: Option<Mark>,
    /// When this host was locked down by its operator or schedule.
    pub locked_down: Option<Timestamp>,
}

/// What is kept of documents, in two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDocuments {
    /// What is remembered.
    pub state: Arc<[u8]>,
    /// The rosters' envelopes, where they are others than before.
    pub rosters: Option<Arc<[u8]>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptState {
    version: u32,
    state: State,
    feeds: Feeds,
    #[serde(default)]
    number: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<State>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRosters {
    version: u32,
    signed: Option<String>,
    automatic: Option<String>,
}

impl KeptRosters {
    fn open(self) -> Rosters {
        let envelope = |text: Option<String>| Envelope::parse(text?.as_bytes()).ok();
        Rosters { signed: envelope(self.signed), automatic: envelope(self.automatic) }
    }
}

/// What was read of these files at a start; why it cannot be used, where it cannot.
#[derive(Debug, Default)]
pub struct DocumentsRead {
    left: Option<(KeptState, Rosters)>,
    /// Why what is there cannot be used: then it begins anew, and nothing from before opens.
    pub broken: Option<String>,
}

impl DocumentsRead {
    /// What is there cannot be read.
    #[must_use]
    pub fn broken(why: String) -> Self {
        Self { left: None, broken: Some(why) }
    }

    /// Reads what was kept. Of the rosters, those that the state names: the daemon may have ended between two of its writes.
    #[must_use]
    pub fn parse(state: Option<&[u8]>, rosters: &[&[u8]]) -> Self {
        let Some(state) = state else { return Self::default() };
        let mut kept: KeptState = match serde_json::from_slice(state) {
            Ok(kept) => kept,
            Err(error) => return Self::broken(error.to_string()),
        };
        let read = rosters.iter().map(|rosters| serde_json::from_slice::<KeptRosters>(rosters).map(KeptRosters::open));
        let (mut whole, mut torn) = (Vec::new(), None);
        read.for_each(|one| one.map_or_else(|error| torn = Some(error), |rosters| whole.push(rosters)));
        let mark = kept.state.roster();
        let named = whole.iter().position(|rosters| rosters.in_force() == mark.map(|mark| mark.id));
        let rosters = match (named, torn) {
            (Some(at), _) => whole.swap_remove(at),
            (None, Some(error)) => return Self::broken(format!("its rosters: {error}")),
            // What is missed is known by its mark in the state.
            (None, None) => whole.into_iter().next().unwrap_or_default(),
        };
        if kept.version != VERSION {
            return Self::broken(format!("version {} is not one that this daemon knows", kept.version));
        }
        kept.others.retain(State::is_bounded);
        kept.others.truncate(MAX_OTHERS);
        Self { left: Some((kept, rosters)), broken: None }
    }
}

impl Documents {
    /// What is to be kept, where that has changed.
    pub(in crate::machine) fn take_unsaved(&mut self) -> Option<KeptDocuments> {
        let (state, rosters) = match (&self.judge, &self.parked.last) {
            (Some(judge), _) => (judge.state(), judge.rosters()),
            (None, Some((state, rosters))) => (state, rosters),
            (None, None) => return None,
        };
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        let (feeds, others) = (self.feeds.clone(), self.parked.others.clone());
        let kept = KeptState { version: VERSION, state: state.clone(), feeds, number: self.number, others };
        let json = |envelope: &Option<Envelope>| envelope.as_ref().map(Envelope::to_json);
        let rosters = std::mem::take(&mut self.rosters_unsaved).then(|| KeptRosters {
            version: VERSION,
            signed: json(&rosters.signed),
            automatic: json(&rosters.automatic),
        });
        Some(KeptDocuments {
            state: serde_json::to_vec(&kept).expect("the state has string keys only").into(),
            rosters: rosters.map(|rosters| serde_json::to_vec(&rosters).expect("two strings").into()),
        })
    }

    /// The number of a document that is accepted now.
    pub(super) fn next_number(&mut self) -> u64 {
        self.unsaved = true;
        self.number += 1;
        self.number
    }

    /// How many were accepted.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether something is to be kept.
    pub(in crate::machine) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// What was to be kept is not on disk.
    pub(in crate::machine) fn not_saved(&mut self) {
        (self.unsaved, self.rosters_unsaved) = (true, true);
    }

    /// Notes a lockdown by this host's operator or schedule.
    pub(super) fn lock_down_locally(&mut self, now: Moment) {
        self.judge.iter_mut().for_each(|judge| judge.lock_down_locally(now));
        self.parked.lock_down_locally(now);
        self.unsaved |= self.judge.is_some() || self.parked.last.is_some();
    }

    fn recall(&mut self, (kept, rosters): (KeptState, Rosters), now: Now) {
        self.feeds = kept.feeds.resumed(now);
        self.number = self.number.max(kept.number);
        self.parked = Parked { last: Some((kept.state, rosters)), others: kept.others, missing: None };
    }
}

impl Core {
    /// Takes up the copy that an earlier run of this boot left. It is as new as the disk or newer: the disk may not have taken
    /// what was in force. To be called before [`Core::take_up_documents`].
    pub fn recall_documents(&mut self, copy: DocumentsRead, now: Now) {
        // One that cannot be read is as none.
        if let Some(left) = copy.left {
            self.documents.recall(left, now);
            self.documents.has_copy = true;
        }
    }

    /// Judges by the copy while the disk cannot be read: what closes is taken.
    pub fn judge_unread(&mut self, host: Host, now: Now) {
        self.documents.host = Some(host);
        self.renew_documents(now);
    }

    /// Takes up what was kept of documents, and holds it against the records. Before anything else of the state that gives access.
    pub fn take_up_documents(&mut self, read: DocumentsRead, on_record: &DocumentsOnRecord, host: Host, now: Now) {
        let DocumentsRead { left, broken } = read;
        if let Some(why) = broken {
            let sentence = format!("what was known of signed documents cannot be read, and begins anew: {why}");
            self.recorder.note(Draft::new(ArtifactType::DocumentRefused, sentence).with("code", "state"));
        }
        let documents = &mut self.documents;
        documents.host = Some(host);
        let judge = documents.judge.take();
        documents.parked.park(judge);
        // What came since is in the inbox, and comes again.
        documents.offered.begin_anew();
        let Parked { last: known, others, .. } = std::mem::take(&mut documents.parked);
        let has_copy = std::mem::take(&mut documents.has_copy);
        let mut known = known.filter(|_| has_copy);
        // By the disk's own word: the copy may be of this boot, and the disk put back since.
        let on_disk = left.as_ref().map_or(0, |left| left.0.number);
        match left {
            Some(left) => {
                documents.recall(left, now);
                if let (Some((state, rosters)), Some((copy, its))) = (&mut documents.parked.last, known)
                    && state.learn_closed(&copy)
                {
                    *rosters = its;
                }
            }
            None => {
                // The disk is another one, or was emptied.
                let moment = Moment::of(now.wall);
                known.iter_mut().for_each(|(state, _)| state.begin_again(moment));
                documents.parked = Parked { last: known, others, missing: None };
            }
        }
        self.hold_against_records(on_disk, on_record, now);
        self.renew_documents(now);
    }

    /// State of an earlier day does not know what was closed since, nor what was used, nor the roster in force.
    fn hold_against_records(&mut self, on_disk: u64, on_record: &DocumentsOnRecord, now: Now) {
        let documents = &mut self.documents;
        if let Some(at) = on_record.locked_down {
            documents.parked.lock_down_locally(Moment::of(at));
        }
        if on_disk >= on_record.number {
            return;
        }
        let sentence = format!(
            "what is kept of signed documents is older than the records: it knows of {on_disk} that were accepted here, and the records of \
             {}; none from before now opens anything",
            on_record.number
        );
        (documents.number, documents.feeds) = (documents.number.max(on_record.number), Feeds::default());
        match &mut documents.parked.last {
            Some((state, rosters)) => {
                state.begin_again(Moment::of(now.wall));
                if let Some(mark) = on_record.roster
                    && state.roster().is_none_or(|known| known.version < mark.version)
                {
                    state.miss_roster(mark);
                    *rosters = Rosters::default();
                }
            }
            None => documents.parked.missing = on_record.roster,
        }
        self.recorder.note(Draft::new(ArtifactType::DocumentRefused, sentence).with("code", "state"));
    }
}

#[cfg(test)]
mod tests;
