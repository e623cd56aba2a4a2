//! What is durable in the world: the disk with its thread, and `/run`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use document::judge::Mark;
use jiff::Timestamp;
use lockdown_core::{
    grants::{Grants, Kept},
    machine::{
        OnRecord,
        documents::{DocumentsOnRecord, KeptDocuments},
        recorder::{Commit, Done, Known, NotOpened, NotWritten, Stated, Task, Written},
    },
    policy::grant::End,
};
use record::{Account, Actor, ArtifactType, Draft, GrantId, SessionId};

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Works,
    /// It takes nothing and gives no answer.
    StandsStill,
    /// It gives what is there, and takes nothing.
    ReadOnly,
}

/// The disk of the state, and the thread that writes to it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) condition: Condition,
    /// Every record, with when it was written.
    pub(crate) ledger: Vec<(Timestamp, Draft)>,
    pub(crate) grants: Option<Vec<u8>>,
    pub(crate) documents: Option<Arc<[u8]>>,
    pub(crate) rosters: Option<Arc<[u8]>>,
    /// What the ledger could not take, in the thread's memory.
    owed: Vec<Stated>,
    under_way: Option<Task>,
    pub(crate) is_open: bool,
    /// Whether it ever did not work.
    pub(crate) has_failed: bool,
}

/// What outlives the daemon and not the boot.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) ended: Vec<(GrantId, End)>,
    pub(crate) sessions: Vec<u8>,
    pub(crate) owed: Vec<Stated>,
    pub(crate) copy: Option<Vec<u8>>,
    pub(crate) documents: Option<Arc<[u8]>>,
    pub(crate) rosters: Option<Arc<[u8]>>,
    pub(crate) locked_down: Option<(String, Option<Actor>)>,
    pub(crate) traces: Option<Vec<u8>>,
    pub(crate) store: BTreeMap<Account, Vec<u8>>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            condition: Condition::Works,
            ledger: Vec::new(),
            grants: None,
            documents: None,
            rosters: None,
            owed: Vec::new(),
            under_way: None,
            is_open: false,
            has_failed: false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    pub(crate) fn give(&mut self, task: Task) {
        assert!(self.is_open && self.under_way.is_none(), "one piece of work at a time, and none before it is open");
        self.under_way = Some(task);
    }

    pub(crate) fn known(&self) -> Known {
        let failing = (!self.owed.is_empty()).then(|| "read-only".to_owned());
        Known { owed: self.owed.len(), failing, ..Known::default() }
    }

    /// Opens the store, where that can be done.
    pub(crate) fn open(&mut self, run: &mut Run) -> Result<(), NotOpened> {
        if self.condition != Condition::Works {
            return Err(NotOpened { why: format!("{:?}", self.condition), starts_again: false });
        }
        self.is_open = true;
        // What came onto the disk all the same is not recorded a second time.
        let kept = std::mem::take(&mut run.owed);
        let new = kept.into_iter().filter(|stated| !self.ledger.contains(stated)).collect::<Vec<_>>();
        self.ledger.extend(new);
        Ok(())
    }

    /// What the thread has done, if it is done with something.
    pub(crate) fn done(&mut self, run: &mut Run) -> Option<Done> {
        if self.condition == Condition::StandsStill {
            return None;
        }
        Some(match self.under_way.take()? {
            Task::Work(..) => Done::Worked,
            Task::Commit(commit, now) => Done::Written(self.write(*commit, now, run)),
        })
    }

    fn write(&mut self, commit: Commit, now: Timestamp, run: &mut Run) -> Written {
        let Commit { state, noted, lost, first } = commit;
        assert!(lost.is_none(), "there is room for all that is owed in this world");
        let mut ended = Some(Vec::new());
        if let Some(snapshot) = state {
            let bytes = serde_json::to_vec(&snapshot.kept).expect("grants have string keys only");
            run.copy = Some(bytes.clone());
            match self.condition {
                Condition::Works => {
                    self.grants = Some(bytes);
                    if let Some(KeptDocuments { state, rosters }) = snapshot.documents {
                        self.documents = Some(state);
                        self.rosters = rosters.or(self.rosters.take());
                    }
                    ended = Some(snapshot.ended);
                }
                _ => ended = None,
            }
        }
        self.owed.extend(noted);
        if self.condition != Condition::Works {
            let first = first.map_or(Ok(()), |_| Err(NotWritten::Failed("read-only".to_owned())));
            return Written { ended, noted: self.owed.is_empty(), first };
        }
        self.ledger.append(&mut self.owed);
        self.ledger.extend(first.into_iter().flat_map(|(drafts, _)| drafts).map(|draft| (now, draft)));
        Written { ended, noted: true, first: Ok(()) }
    }

    /// The daemon is killed: what the thread was at is on disk or not, the grants before the records; what it owed is lost.
    pub(crate) fn crash(&mut self, how_far: u64, run: &mut Run) {
        self.is_open = false;
        let owed = std::mem::take(&mut self.owed);
        let Some(Task::Commit(mut commit, now)) = self.under_way.take() else { return };
        if self.condition == Condition::ReadOnly || how_far == 0 {
            return;
        }
        match how_far {
            1 => (commit.noted, commit.first) = (Vec::new(), None),
            _ => self.owed = owed,
        }
        let condition = std::mem::replace(&mut self.condition, Condition::Works);
        self.write(*commit, now, run);
        self.condition = condition;
    }

    pub(crate) fn read(bytes: Option<&Vec<u8>>) -> Option<Kept> {
        bytes.map(|bytes| serde_json::from_slice(bytes).expect("what was written is read"))
    }

    /// The grants as they are read at a start.
    pub(crate) fn wake(
        bytes: Option<&Vec<u8>>,
        ended: &[(GrantId, End)],
        boot: &str,
        now: lockdown_core::policy::time::Now,
    ) -> Grants {
        let ended = ended.iter().map(|(id, end)| (id.clone(), Some(end.clone())));
        Self::read(bytes).map_or_else(Grants::default, |kept| Grants::wake(kept, ended, boot, now).0)
    }

    pub(crate) fn records(&self, kind: ArtifactType) -> impl Iterator<Item = &Draft> {
        self.ledger.iter().map(|(_, draft)| draft).filter(move |draft| draft.kind == kind)
    }

    pub(crate) fn grants_of(&self, kind: ArtifactType) -> BTreeSet<GrantId> {
        self.records(kind).filter_map(|draft| draft.grant.clone()).collect()
    }

    /// The grants whose end is on disk.
    pub(crate) fn ended(&self) -> BTreeSet<GrantId> {
        let mut ended = self.grants_of(ArtifactType::GrantEnded);
        let kept: serde_json::Value =
            self.grants.as_ref().map(|bytes| serde_json::from_slice(bytes).expect("JSON")).unwrap_or_default();
        let grants = kept["grants"].as_array().into_iter().flatten().filter(|grant| !grant["end"].is_null());
        ended.extend(grants.filter_map(|grant| grant["id"].as_str()?.parse().ok()));
        ended
    }

    /// What the last records say.
    pub(crate) fn on_record(&self) -> OnRecord {
        let sessions = |kinds: &[ArtifactType]| {
            let drafts = self.ledger.iter().map(|(_, draft)| draft).filter(|draft| kinds.contains(&draft.kind));
            drafts.filter_map(|draft| draft.session.clone()).collect()
        };
        let number = |draft: &Draft| draft.detail.get("number").and_then(serde_json::Value::as_u64);
        let roster = |draft: &Draft| {
            let version = draft.detail.get("version")?.as_u64()?.try_into().ok()?;
            Some(Mark { version, id: draft.detail.get("document")?.as_str()?.parse().ok()? })
        };
        let is_local = |draft: &Draft| draft.kind == ArtifactType::Lockdown && !draft.detail.contains_key("document");
        let due = |draft: &Draft| draft.detail.get("due").and_then(|due| due.as_str()?.parse().ok());
        OnRecord {
            created: self.grants_of(ArtifactType::GrantCreated),
            ended: self.grants_of(ArtifactType::GrantEnded),
            opened: sessions(&[ArtifactType::SessionOpened, ArtifactType::EmergencyLogin]),
            closed: sessions(&[ArtifactType::SessionClosed, ArtifactType::SessionTerminated]),
            lockdown: self.records(ArtifactType::Lockdown).filter_map(due).last(),
            documents: DocumentsOnRecord {
                number: self.records(ArtifactType::DocumentAccepted).filter_map(number).max().unwrap_or(0),
                roster: self.records(ArtifactType::DocumentAccepted).filter_map(roster).last(),
                locked_down: self.ledger.iter().rfind(|(_, draft)| is_local(draft)).map(|(time, _)| *time),
            },
        }
    }
}

/// A piece of work, for the trace.
pub(crate) fn told(task: &Task) -> String {
    let Task::Commit(commit, _) = task else { return "the disk thread: other work".to_owned() };
    let told = |draft: &Draft| {
        let ids = [draft.grant.as_ref().map(GrantId::as_str), draft.session.as_ref().map(SessionId::as_str)];
        ids.into_iter().flatten().fold(draft.kind.to_string(), |told, id| format!("{told} {id}"))
    };
    let noted: Vec<String> = commit.noted.iter().map(|(_, draft)| told(draft)).collect();
    format!(
        "the disk thread: {noted:?}, first {:?}",
        commit.first.iter().flat_map(|(drafts, _)| drafts).map(told).collect::<Vec<_>>()
    )
}
