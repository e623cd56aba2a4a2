//! What is kept and for how long: receipts, the bound on size, the policies, and the reserve.

use super::*;

/// A day's records, then the next day.
fn days(host: &mut Host1, ledger: &mut Ledger, count: u64) {
    for day in 0..count {
        append(ledger, sweep(day), host.now);
        host.now += jiff::SignedDuration::from_hours(24);
    }
}

fn asked(keeping: Keeping) -> Keeping {
    Keeping { acknowledged_first: true, ..keeping }
}

fn set(ledger: &mut Ledger, keeping: Keeping) {
    ledger.set("web".parse().unwrap(), keeping);
}

/// Small enough for a test: eight segments of 2 KiB, whatever the configuration's own least is.
fn small(drop_oldest: bool) -> Keeping {
    Keeping { retain: 10 * DAY, max_size: 16 << 10, drop_oldest, acknowledged_first: true }
}

fn last_reason(host: &Host1, kind: &str) -> Option<record::Record> {
    let text = String::from_utf8(host.bytes()).unwrap();
    let mut records = text.lines().map(|l| record::Record::parse(l.as_bytes()).unwrap());
    records.rfind(|r| r.type_word() == kind)
}

#[test]
fn an_outage_of_a_week_beyond_the_retention_prunes_nothing_and_holds_nothing_up() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    let keeping = asked(ledger.keeping);
    set(&mut ledger, keeping);
    days(&mut host, &mut ledger, 17);
    assert_eq!((ledger.prune(host.now).unwrap(), ledger.make_room(host.now).unwrap()), (0, 0));
    assert_eq!((assert_clean(&host).0, ledger.room_for_grants()), (1, Ok(())));
    // The server is back and has it all.
    ledger.acknowledge(ledger.head().seq);
    assert!(ledger.prune(host.now).unwrap() > 0);
    assert!(assert_clean(&host).0 > 1);
}

#[test]
fn before_the_ledger_is_full_that_is_said_and_what_is_acknowledged_does_not_count() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    set(&mut ledger, small(false));
    while ledger.view().nearly_full().unwrap().is_none() {
        assert!(ledger.size() < small(false).max_size, "it is full, and nobody was told before");
        days(&mut host, &mut ledger, 1);
    }
    assert!(ledger.full().is_none() && ledger.view().nearly_full().unwrap().unwrap().contains("no new grant is given"));
    set(&mut ledger, small(true));
    assert!(ledger.view().nearly_full().unwrap().unwrap().contains("the oldest are dropped"));
    set(&mut ledger, Keeping { acknowledged_first: false, ..small(true) });
    assert_eq!(
        ledger.view().nearly_full().unwrap(),
        None,
        "nobody is asked to acknowledge: the oldest go as they are to"
    );
    set(&mut ledger, small(false));
    ledger.acknowledge(ledger.head().seq);
    assert_eq!(ledger.view().nearly_full().unwrap(), None);
}

#[test]
fn only_segments_that_are_old_and_acknowledged_whole_go() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    let keeping = asked(ledger.keeping);
    set(&mut ledger, keeping);
    days(&mut host, &mut ledger, 30);
    let segments = files::segments(&host.paths()).unwrap();
    // The third segment but for its last record.
    ledger.acknowledge(segments[3] - 2);
    assert_eq!(ledger.acknowledged(), segments[3] - 2);
    assert_eq!(ledger.prune(host.now).unwrap(), 2);
    assert_eq!(files::segments(&host.paths()).unwrap()[0], segments[2]);
    assert_eq!(ledger.prune(host.now).unwrap(), 0);
    ledger.acknowledge(1);
    assert_eq!(ledger.acknowledged(), segments[3] - 2, "never less than before");
    ledger.acknowledge(u64::MAX);
    assert_eq!(ledger.acknowledged(), ledger.head().seq, "never more than there is");
    assert_clean(&host);
}

#[test]
fn each_ledger_pruned_accounts_for_all_that_ever_went_so_one_is_enough() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    for _ in 0..3 {
        days(&mut host, &mut ledger, 13);
        assert!(ledger.prune(host.now).unwrap() > 0);
        let kept = files::segments(&host.paths()).unwrap()[0];
        let pruned = last_reason(&host, "ledger.pruned").unwrap();
        let number = |name: &str| pruned.detail(name).unwrap().as_u64().unwrap();
        assert_eq!((number("first"), number("last")), (1, kept - 1));
        // What went earlier, and said so, is gone by now; the newest alone still accounts for it.
        assert_eq!(assert_clean(&host).0, kept);
    }
}

#[test]
fn a_full_ledger_refuses_grants_and_goes_on_recording_the_rest_into_its_reserve() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    set(&mut ledger, small(false));
    while ledger.room_for_grants().is_ok() {
        append(&mut ledger, sweep(1), host.now);
    }
    assert_eq!(ledger.room_for_grants(), Err(Full::MaxSize));
    assert!(matches!(ledger.append(sweep(2), host.now), Err(Error::Full(Full::MaxSize))));
    assert_eq!(ledger.make_room(host.now).unwrap(), 0, "nobody has any of it");
    let mut taken = 0;
    while ledger.append_or_owe(at_once(sweep(3), host.now), host.now).is_ok() {
        taken += 1;
    }
    assert!(taken > 500, "{taken} records of a mebibyte's reserve");
    assert!(ledger.size() <= ledger.keeping.max_size + MIN_RESERVE && ledger.owed() == 1);
    // It can always be said what goes, and what was owed follows.
    ledger.acknowledge(ledger.head().seq);
    assert!(ledger.make_room(host.now).unwrap() > 0);
    assert_eq!(ledger.room_for_grants(), Ok(()));
    append(&mut ledger, sweep(4), host.now);
    assert_eq!(ledger.owed(), 0);
    assert!(last_reason(&host, "ledger.pruned").unwrap().text("reason").unwrap().contains("are acknowledged"));
    assert!(last_reason(&host, "ship.dropped").is_none());
    assert_clean(&host);
    let (size, head) = (ledger.size(), ledger.head());
    drop(ledger);
    let again = host.open().ledger;
    assert_eq!((again.size(), again.head()), (size, head), "the size is known again after a start");
}

#[test]
fn the_oldest_are_dropped_where_that_is_wanted_with_their_exact_range_and_count() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    set(&mut ledger, small(true));
    ledger.acknowledge(2);
    for n in 0..100 {
        append(&mut ledger, sweep(n), host.now);
        if ledger.full().is_some() {
            let first = files::segments(&host.paths()).unwrap()[0];
            assert!(ledger.make_room(host.now).unwrap() > 0);
            let kept = files::segments(&host.paths()).unwrap()[0];
            let dropped = last_reason(&host, "ship.dropped").unwrap();
            let number = |name: &str| dropped.detail(name).unwrap().as_u64().unwrap();
            assert_eq!(number("first"), first.max(3), "what is acknowledged is not among them");
            assert_eq!((number("last"), number("count")), (kept - 1, kept - first.max(3)));
        }
    }
    assert!(ledger.size() <= ledger.keeping.max_size + 4 * 2048);
    assert!(assert_clean(&host).0 > 50);
}

#[test]
fn what_is_acknowledged_goes_before_anything_is_dropped() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    set(&mut ledger, small(true));
    for n in 0..100 {
        append(&mut ledger, sweep(n), host.now);
        ledger.acknowledge(ledger.head().seq - 2);
        ledger.make_room(host.now).unwrap();
    }
    assert!(last_reason(&host, "ship.dropped").is_none() && assert_clean(&host).0 > 50);
}

#[test]
fn the_hash_of_every_record_is_found_and_of_no_other() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    ledger.segment_bytes = 2500;
    (0..10).for_each(|n| append(&mut ledger, sweep(n), host.now));
    for (n, line) in host.bytes().split_inclusive(|b| *b == b'\n').enumerate() {
        assert_eq!(ledger.view().hash_at(n as u64 + 1).unwrap(), Some(Hash::of(line)));
    }
    assert_eq!(
        (ledger.view().hash_at(0).unwrap(), ledger.view().hash_at(ledger.head().seq + 1).unwrap()),
        (None, None)
    );
}

#[test]
fn a_ledger_that_is_succeeded_is_put_away_and_named_and_what_is_owed_follows() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    append(&mut ledger, sweep(1), host.now);
    let (old, head) = (ledger.id().clone(), ledger.head());
    fs::write(host.paths().state.join("grants.json"), "{}").unwrap();
    ledger.owed.drafts.push_back((host.now, sweep(2).remove(0)));
    ledger.succeed(&host.identity, "the disk went back".to_owned(), host.now).unwrap();
    assert_ne!(ledger.id(), &old);
    append(&mut ledger, sweep(3), host.now);
    assert_clean(&host);
    let opened = last_reason(&host, "ledger.opened").unwrap();
    assert_eq!(opened.detail("grants_void").unwrap(), true);
    assert_eq!(opened.detail("break").unwrap(), "the disk went back");
    let ancestor = opened.detail("ancestor").unwrap();
    assert_eq!((ancestor["ledger"].as_str(), ancestor["seq"].as_u64()), (Some(old.as_str()), Some(head.seq)));
    assert!(host.paths().state.join("grants.json").exists(), "with every grant in it ended by the caller");
    assert_eq!(types(&host)[2..], ["sweep.attested", "sweep.attested"]);
    drop(ledger);
    let again = host.open();
    assert_eq!((again.broke, again.ledger.head().seq), (None, 4));
}
