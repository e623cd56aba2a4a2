//! The recorder with a real ledger behind it: what cannot be written is told, and follows.

use std::path::PathBuf;

use lockdown_core::policy::test_grants::{later, now};
use lockdown_host::identity::Identity;
use record::{ArtifactType, Record};

use super::*;
use crate::ledger::{Opening, Paths};

struct Desk {
    dir: tempfile::TempDir,
    recorder: Recorder,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let identity =
            Identity { instance: None, product: None, machine: None, name: "web-1".parse().expect("a name") };
        let opening = Opening {
            paths: Paths { state: dir.path().join("lib"), run: dir.path().join("run") },
            host: identity.name.clone(),
            stack: "web".parse().expect("a stack"),
            identity: &identity,
            boot: "b".to_owned(),
            keeping: crate::ledger::Keeping {
                retain: Duration::from_secs(86_400),
                max_size: 1 << 30,
                drop_oldest: false,
                acknowledged_first: false,
            },
            now: now().wall,
            journal: None,
        };
        let recorder = Recorder::new(Ledger::open(opening).expect("opens").ledger);
        Self { dir, recorder }
    }

    /// How many refusals are on disk.
    fn refusals(&self) -> usize {
        let lines = self.recorder.ledger().lines_after(0, usize::MAX).expect("readable");
        let records = lines.iter().map(|line| Record::parse(line.as_bytes()).expect("a record"));
        records.filter(|record| record.kind() == Some(ArtifactType::SessionRefused)).count()
    }

    fn segment(&self) -> PathBuf {
        self.dir.path().join("lib/ledger")
    }
}

fn refusal() -> Draft {
    Draft::new(ArtifactType::SessionRefused, "login refused")
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_and_what_was_noted_follows_when_it_can() {
    let mut desk = Desk::new();
    let (segment, away) = (desk.segment(), desk.dir.path().join("away"));
    // A file stands in the place of its directory.
    std::fs::rename(&segment, &away).expect("own directory");
    std::fs::write(&segment, "").expect("own directory");
    let tomorrow = later(86_400);
    desk.recorder.note(refusal());
    assert!(!desk.recorder.commit(tomorrow));
    assert!(desk.recorder.failing().is_some());
    assert!(desk.recorder.record_first(refusal(), tomorrow).is_err(), "this one must not happen");
    std::fs::remove_file(&segment).and_then(|()| std::fs::rename(&away, &segment)).expect("own directory");
    assert!(desk.recorder.commit(tomorrow) && desk.recorder.failing().is_none());
    assert_eq!(desk.refusals(), 1, "what must not happen is not recorded");
}
