use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn host(name: &str) -> Source {
    Source {
        kind: SourceKind::Host,
        name: name.to_owned(),
        stack: Some("web".to_owned()),
        begun: at("2026-01-01T00:00:00Z"),
        stopped: None,
        expected: true,
    }
}

fn other(kind: SourceKind, name: &str) -> Source {
    Source { kind, stack: None, ..host(name) }
}

fn tally(kind: &str, source: usize, last: &str) -> Tally {
    Tally {
        kind: kind.to_owned(),
        source,
        count: 3,
        clock_off: false,
        first: at("2026-02-01T00:00:00Z"),
        last: at(last),
    }
}

fn judged(id: &str, sources: &[Source], tallies: &[Tally]) -> RequirementDetail {
    let facts = Facts { sources, tallies, reviews: &[], window: Window::default(), now: at("2026-03-01T00:00:00Z") };
    let catalog = Catalog::load(None).unwrap();
    judge(&catalog, catalog.find(id).unwrap(), &facts)
}

#[test]
fn evidence_is_direct_supporting_none_or_of_no_type() {
    let all = [host("i-1"), other(SourceKind::Client, "portal")];
    let login = tally("app.authentication", 1, "2026-02-28T00:00:00Z");
    let refused = tally("session.refused", 0, "2026-02-28T00:00:00Z");
    for (id, tallies, status) in [
        ("164.312(d)", vec![login.clone()], Status::Direct),
        ("164.312(d)", vec![refused.clone()], Status::None),
        ("164.312(a)(1)", vec![refused.clone()], Status::Supporting),
        ("164.312(a)(1)", vec![refused, login.clone()], Status::Direct),
        ("164.312(c)(2)", vec![login], Status::NoType),
        ("164.312(a)(1)", vec![], Status::None),
    ] {
        assert_eq!(judged(id, &all, &tallies).summary.status, status, "{id} {tallies:?}");
    }
}

#[test]
fn the_proof_of_a_clients_artifacts_is_the_receipt_alone() {
    let all = [host("i-1"), other(SourceKind::Client, "portal")];
    let tallies =
        [tally("app.authentication", 1, "2026-02-28T00:00:00Z"), tally("session.opened", 0, "2026-02-28T00:00:00Z")];
    let detail = judged("164.312(d)", &all, &tallies);
    let proof = |kind: &str| &detail.evidence.iter().find(|e| e.types.contains(&kind.to_owned())).unwrap().proof;
    assert!(proof("app.authentication")[0].proof.contains("receipt alone"));
    assert!(proof("session.opened")[0].proof.contains("signed with the host's own key"));
    assert_eq!((detail.summary.hosts, detail.summary.clients, detail.summary.artifacts), (1, 1, 6));
}

#[test]
fn what_is_dated_in_2099_counts_and_keeps_nothing_fresh() {
    let all = [host("i-1")];
    let before = tally("sweep.attested", 0, "2026-02-03T00:00:00Z");
    let future = Tally { clock_off: true, count: 1, ..tally("sweep.attested", 0, "2099-01-01T00:00:00Z") };
    let detail = judged("164.312(a)(1)", &all, &[before, future]);
    let row = detail.evidence.iter().find(|e| e.expected.is_some()).unwrap();
    assert!(row.stale && row.sources[0].stale, "{row:?}");
    assert_eq!((row.artifacts, row.clockoff), (4, 1));
    assert_eq!(row.last, Some(Moment(at("2026-02-03T00:00:00Z"))));
    let elsewhere = [Source { expected: false, ..host("i-1") }];
    let detail = judged("164.312(a)(1)", &elsewhere, &[]);
    assert!(detail.evidence.iter().all(|e| e.sources.is_empty()), "nothing is expected from another stack's host");
}

#[test]
fn only_people_can_review_and_only_hosts_can_state_what_hosts_state() {
    for (kind, source, counted) in [
        ("review.completed", SourceKind::Host, false),
        ("review.completed", SourceKind::Client, false),
        ("review.completed", SourceKind::Person, true),
        ("session.opened", SourceKind::Host, true),
        ("session.opened", SourceKind::Client, false),
        ("session.opened", SourceKind::Person, false),
        ("app.authentication", SourceKind::Client, true),
        ("app.authentication", SourceKind::Host, true),
        ("ledger.opened", SourceKind::Server, false),
    ] {
        assert_eq!(counts(kind, source), counted, "{kind} by {source:?}");
    }
    let detail =
        judged("164.312(d)", &[other(SourceKind::Client, "x")], &[tally("session.opened", 0, "2026-02-28T00:00:00Z")]);
    assert_eq!((detail.summary.status, detail.summary.artifacts), (Status::None, 0));
}

#[test]
fn a_host_that_runs_and_attests_nothing_makes_the_evidence_stale_and_one_that_stopped_does_not() {
    let mut stopped = host("i-3");
    stopped.stopped = Some(at("2026-02-20T00:00:00Z"));
    let mut new = host("i-4");
    new.begun = at("2026-02-28T23:00:00Z");
    let all = [host("i-1"), host("i-2"), stopped, new];
    let fresh = tally("sweep.attested", 0, "2026-02-28T23:45:00Z");
    let before = tally("sweep.attested", 2, "2026-02-20T00:00:00Z");
    let detail = judged("164.308(a)(8)", &all, &[fresh, before]);
    let row = &detail.evidence[0];
    let state: Vec<(&str, bool)> = row.sources.iter().map(|s| (s.name.as_str(), s.stale)).collect();
    assert_eq!(state, [("i-2", true), ("i-1", false), ("i-3", false), ("i-4", false)]);
    assert!(row.stale && detail.summary.stale && detail.summary.status == Status::Supporting);
}

#[test]
fn what_comes_as_things_happen_is_never_stale() {
    let detail = judged("164.308(a)(6)(ii)", &[host("i-1")], &[tally("key.removed", 0, "2026-02-01T00:00:00Z")]);
    assert!(!detail.summary.stale);
}

fn review(from: &str, to: &str, signed: &str) -> ReviewSpan {
    ReviewSpan { person: "alice".to_owned(), from: at(from), to: at(to), signed: at(signed), stack: None }
}

#[test]
fn a_review_is_evidence_for_the_window_it_names_whenever_it_was_signed() {
    let reviews = [review("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z")];
    let people = [other(SourceKind::Person, "alice")];
    let catalog = Catalog::load(None).unwrap();
    let requirement = catalog.find("164.308(a)(1)(ii)(D)").unwrap();
    let judge_month = |from: &str, to: &str, tallies: &[Tally]| {
        let window = Window { from: Some(at(from)), to: Some(at(to)) };
        let facts = Facts { sources: &people, tallies, reviews: &reviews, window, now: at("2026-03-10T00:00:00Z") };
        judge(&catalog, requirement, &facts)
    };
    let january = judge_month("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", &[]);
    assert_eq!(january.summary.status, Status::Direct);
    assert!(january.evidence[0].reviewed.as_ref().unwrap().not_reviewed.is_empty());
    // In February it was posted, but it is about January.
    let posted = [tally("review.completed", 0, "2026-02-03T00:00:00Z")];
    let february = judge_month("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", &posted);
    assert_eq!(february.summary.status, Status::None);
    assert_eq!(february.evidence[0].reviewed.as_ref().unwrap().not_reviewed.len(), 1);
}

#[test]
fn an_overlap_of_patterns_counts_an_artifact_once() {
    let all = [host("i-1")];
    let detail = judged("AU-12", &all, &[tally("session.closed", 0, "2026-02-28T00:00:00Z")]);
    assert_eq!(detail.summary.artifacts, 3);
}

proptest! {
    /// Every moment of the window is either in a review or in a gap, and never in both.
    #[test]
    fn reviews_and_gaps_part_the_window(
        spans in proptest::collection::vec((0i64..100, 1i64..30), 0..12),
        from in 0i64..50,
        length in 1i64..60,
    ) {
        let second = |n: i64| Timestamp::from_second(1_700_000_000 + n).unwrap();
        let reviews: Vec<ReviewSpan> = spans
            .iter()
            .map(|(start, len)| ReviewSpan {
                person: "p".to_owned(), from: second(*start), to: second(start + len), signed: second(0), stack: None,
            })
            .collect();
        let window = Window { from: Some(second(from)), to: Some(second(from + length)) };
        let coverage = coverage::of(&reviews, window, second(from + length));
        for n in from..from + length {
            let moment = second(n);
            let reviewed = reviews.iter().any(|r| r.from <= moment && moment < r.to);
            let gap = coverage.not_reviewed.iter().filter(|g| g.from.0 <= moment && moment < g.to.0).count();
            prop_assert_eq!(gap, usize::from(!reviewed), "at {}", n);
        }
    }

    /// Counts only ever grow with more artifacts, and sources add up to the whole.
    #[test]
    fn what_sources_state_adds_up(counts in proptest::collection::vec((0usize..4, 1u64..1000), 0..40)) {
        let sources = [host("a"), host("b"), host("c"), host("d")];
        let tallies: Vec<Tally> = counts
            .iter()
            .map(|(source, count)| Tally { count: *count, ..tally("session.opened", *source, "2026-02-28T00:00:00Z") })
            .collect();
        let detail = judged("164.312(d)", &sources, &tallies);
        let row = detail.evidence.iter().find(|e| e.types == ["session.opened"]).unwrap();
        let total: u64 = counts.iter().map(|(_, c)| c).sum();
        prop_assert_eq!(row.artifacts, total);
        prop_assert_eq!(row.sources.iter().map(|s| s.artifacts).sum::<u64>(), total);
        prop_assert_eq!(row.by_type.iter().map(|t| t.artifacts).sum::<u64>(), total);
        prop_assert_eq!(detail.summary.artifacts, total);
        prop_assert!(!detail.summary.stale);
    }
}
