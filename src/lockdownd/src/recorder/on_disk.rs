//! The recorder with a real ledger behind it: what comes in floods is summed up and no count is lost.

use std::path::PathBuf;

use lockdown_core::policy::test_grants::{later, now};
use proptest::prelude::*;
use record::{Record, Source};

use super::*;
use crate::{
    host::identity::Identity,
    ledger::{Opening, Paths},
};

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

    /// The refusals on disk: how many each stands for, and how many keys it names and counts.
    fn refusals(&self) -> Vec<(u64, usize, u64)> {
        let lines = self.recorder.ledger().lines_after(0, usize::MAX).expect("readable");
        let records = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
        let refusals = records.filter(|record| record["type"] == "session.refused");
        refusals
            .map(|record| {
                let detail = &record["detail"];
                let named = detail["fingerprints"].as_array().map_or(0, Vec::len);
                (detail["count"].as_u64().unwrap_or(1), named, detail["more_fingerprints"].as_u64().unwrap_or(0))
            })
            .collect()
    }

    fn segment(&self) -> PathBuf {
        self.dir.path().join("lib/ledger")
    }
}

fn refusal(account: usize, address: Option<u8>) -> Draft {
    let mut draft = Draft::new(ArtifactType::SessionRefused, "login refused");
    draft.account = Some(format!("account{account}").parse().expect("an account"));
    draft.source = address.map(|last| Source { address: Some([10, 0, 0, last].into()), port: Some(1_000) });
    draft
}

fn fingerprint(number: usize) -> Fingerprint {
    format!("SHA256:{number:043}").parse().expect("43 digits of base64")
}

#[test]
fn the_first_of_a_window_goes_out_at_once_and_the_others_are_summed_up_when_it_closes() {
    let mut desk = Desk::new();
    for _ in 0..5 {
        desk.recorder.note_often(refusal(1, Some(1)), 1, now());
    }
    desk.recorder.note_often(refusal(1, Some(2)), 1, now());
    desk.recorder.note_often(refusal(2, Some(1)), 1, now());
    desk.recorder.commit(now());
    assert_eq!(desk.refusals().len(), 3, "one for each account and source");
    assert_eq!(desk.recorder.next_close(), Some(now().boot + WINDOW));
    desk.recorder.close_windows(later(59), false);
    desk.recorder.commit(now());
    assert_eq!(desk.refusals().len(), 3);
    desk.recorder.close_windows(later(60), false);
    desk.recorder.commit(now());
    assert_eq!(desk.refusals()[3..], [(4, 0, 0)], "a window in which nothing followed says nothing more");
    assert_eq!(desk.recorder.next_close(), None);
}

#[test]
fn a_sum_names_so_many_keys_and_counts_the_others() {
    let mut desk = Desk::new();
    for number in 0..=MAX_NAMED + 3 {
        let mut draft = refusal(1, None);
        draft.fingerprint = Some(fingerprint(number));
        desk.recorder.note_often(draft, 1, now());
    }
    desk.recorder.close_windows(now(), true);
    desk.recorder.commit(now());
    let times = MAX_NAMED as u64 + 3;
    assert_eq!(desk.refusals(), [(1, 0, 0), (times, MAX_NAMED, 3)]);
}

#[test]
fn past_the_bound_on_windows_one_sum_takes_the_rest_and_no_count_is_lost() {
    let mut desk = Desk::new();
    let accounts = MAX_WINDOWS + 10;
    for account in 0..accounts {
        desk.recorder.note_often(refusal(account, None), 2, now());
    }
    assert!(desk.recorder.windows.len() <= MAX_WINDOWS + 1);
    desk.recorder.close_windows(now(), true);
    desk.recorder.commit(now());
    let sum: u64 = desk.refusals().iter().map(|(count, ..)| count).sum();
    assert_eq!(sum, 2 * accounts as u64);
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_and_what_was_noted_follows_when_it_can() {
    let mut desk = Desk::new();
    let (segment, away) = (desk.segment(), desk.dir.path().join("away"));
    // A new day needs a new segment, and there is no directory for it.
    std::fs::rename(&segment, &away).expect("own directory");
    let tomorrow = later(86_400);
    desk.recorder.note(refusal(1, None));
    assert!(!desk.recorder.commit(tomorrow));
    assert!(desk.recorder.failing().is_some());
    assert!(desk.recorder.record_first(refusal(2, None), tomorrow).is_err(), "this one must not happen");
    std::fs::rename(&away, &segment).expect("own directory");
    assert!(desk.recorder.commit(tomorrow) && desk.recorder.failing().is_none());
    assert_eq!(desk.refusals().len(), 1, "what must not happen is not recorded");
    let text = desk.recorder.ledger().lines_after(0, usize::MAX).expect("readable").concat();
    assert!(text.lines().all(|line| Record::parse(format!("{line}\n").as_bytes()).is_ok()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_comes_whenever_the_counts_are_exact(
        events in prop::collection::vec((0usize..4, 0u8..3, 1u64..50, 0u64..40), 1..60),
    ) {
        let mut desk = Desk::new();
        let mut time = 0;
        for (account, address, times, wait) in &events {
            time += wait;
            desk.recorder.close_windows(later(time), false);
            desk.recorder.note_often(refusal(*account, Some(*address)), *times, later(time));
        }
        desk.recorder.close_windows(later(time), true);
        desk.recorder.commit(later(time));
        let sum: u64 = desk.refusals().iter().map(|(count, ..)| count).sum();
        prop_assert_eq!(sum, events.iter().map(|(_, _, times, _)| times).sum::<u64>());
    }
}
