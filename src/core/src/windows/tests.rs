//! What comes in floods is summed up, and no count is lost.

use jiff::Timestamp;
use proptest::prelude::*;
use record::Source;

use super::*;
use crate::policy::test_grants::{later, now};

/// Everything that goes out, in order.
#[derive(Default)]
struct Desk {
    windows: Windows,
    out: Vec<Draft>,
}

impl Desk {
    fn take(&mut self, draft: Draft, times: u64, now: Now) {
        self.out.extend(self.windows.take(draft, times, now));
    }

    fn close(&mut self, now: Now, all: bool) {
        self.out.extend(self.windows.close(now, all));
    }

    /// How many each stands for, and how many keys it names and counts.
    fn refusals(&self) -> Vec<(u64, usize, u64)> {
        let number = |draft: &Draft, name: &str| draft.detail.get(name).and_then(Value::as_u64);
        let named = |draft: &Draft| draft.detail.get("fingerprints").and_then(Value::as_array).map_or(0, Vec::len);
        let all = self.out.iter();
        all.map(|draft| {
            (number(draft, "count").unwrap_or(1), named(draft), number(draft, "more_fingerprints").unwrap_or(0))
        })
        .collect()
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

fn refused(person: &str, address: &str, port: u16) -> Draft {
    let mut draft = Draft::new(ArtifactType::SessionRefused, format!("login refused: {person} has no grant"));
    draft.person = Some(person.parse().expect("a name"));
    draft.source = Some(Source { address: Some(address.parse().expect("an address")), port: Some(port) });
    draft
}

/// The sum of a window that `drafts` fell into, the first of which was recorded by itself.
fn sum_of(drafts: &[Draft]) -> Draft {
    let opened = Now { wall: Timestamp::UNIX_EPOCH, boot: Duration::ZERO };
    let like = drafts[0].clone();
    let mut window = Window { opened, like, alike: true, times: 0, named: BTreeSet::new(), unnamed: 0 };
    for draft in &drafts[1..] {
        window.times += 1;
        window.learn(draft);
    }
    window.sum((ArtifactType::SessionRefused, None, String::new()))
}

#[test]
fn a_sum_names_the_person_and_the_address_that_all_have_but_no_port() {
    let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("frank", "192.0.2.1", 2)]);
    assert_eq!(sum.person, Some("frank".parse().expect("a name")));
    assert_eq!(sum.source, Some(Source { address: "192.0.2.1".parse().ok(), port: None }));
    assert!(sum.reason.starts_with("1 more like record before"), "{}", sum.reason);
}

#[test]
fn a_sum_blames_nobody_for_what_another_did() {
    let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("grace", "192.0.2.1", 2)]);
    assert_eq!((sum.person, sum.detail["count"].as_u64()), (None, Some(1)));
    assert!(sum.source.is_some() && sum.reason.contains("for various reasons"), "{}", sum.reason);
    let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("frank", "192.0.2.2", 2)]);
    assert!(sum.source.is_none() && sum.person.is_some());
}

#[test]
fn the_first_of_a_window_goes_out_at_once_and_the_others_are_summed_up_when_it_closes() {
    let mut desk = Desk::default();
    for _ in 0..5 {
        desk.take(refusal(1, Some(1)), 1, now());
    }
    desk.take(refusal(1, Some(2)), 1, now());
    desk.take(refusal(2, Some(1)), 1, now());
    assert_eq!(desk.refusals().len(), 3, "one for each account and source");
    assert_eq!(desk.windows.next_close(), Some(now().boot + WINDOW));
    desk.close(later(59), false);
    assert_eq!(desk.refusals().len(), 3);
    desk.close(later(60), false);
    assert_eq!(desk.refusals()[3..], [(4, 0, 0)], "a window in which nothing followed says nothing more");
    assert_eq!(desk.windows.next_close(), None);
}

#[test]
fn a_sum_names_so_many_keys_and_counts_the_others() {
    let mut desk = Desk::default();
    for number in 0..=MAX_NAMED + 3 {
        let mut draft = refusal(1, None);
        draft.fingerprint = Some(fingerprint(number));
        desk.take(draft, 1, now());
    }
    desk.close(now(), true);
    let times = MAX_NAMED as u64 + 3;
    assert_eq!(desk.refusals(), [(1, 0, 0), (times, MAX_NAMED, 3)]);
}

#[test]
fn past_the_bound_on_windows_one_sum_takes_the_rest_and_no_count_is_lost() {
    let mut desk = Desk::default();
    let accounts = MAX_WINDOWS + 10;
    for account in 0..accounts {
        desk.take(refusal(account, None), 2, now());
    }
    assert!(desk.windows.0.len() <= MAX_WINDOWS + 1);
    desk.close(now(), true);
    let sum: u64 = desk.refusals().iter().map(|(count, ..)| count).sum();
    assert_eq!(sum, 2 * accounts as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_comes_whenever_the_counts_are_exact(
        events in prop::collection::vec((0usize..4, 0u8..3, 1u64..50, 0u64..40), 1..60),
    ) {
        let mut desk = Desk::default();
        let mut time = 0;
        for (account, address, times, wait) in &events {
            time += wait;
            desk.close(later(time), false);
            desk.take(refusal(*account, Some(*address)), *times, later(time));
        }
        desk.close(later(time), true);
        let sum: u64 = desk.refusals().iter().map(|(count, ..)| count).sum();
        prop_assert_eq!(sum, events.iter().map(|(_, _, times, _)| times).sum::<u64>());
    }
}

#[test]
fn what_is_put_right_over_and_over_goes_out_once_and_as_a_sum_and_hides_nothing_else() {
    let mended = |what: &str| Draft::new(ArtifactType::SshdChanged, what).with("mended", what);
    let mut desk = Desk::default();
    for _ in 0..5 {
        desk.take(mended("one socket"), 1, now());
    }
    desk.take(mended("another socket"), 1, now());
    desk.take(Draft::new(ArtifactType::SshdChanged, "the accounts"), 1, now());
    assert_eq!(desk.out.len(), 3);
    desk.close(later(60), false);
    assert_eq!(
        desk.out.iter().map(|draft| draft.detail.get("count").and_then(Value::as_u64)).collect::<Vec<_>>(),
        [None, None, None, Some(4)]
    );
}
