//! Reading ledgers as the daemon writes, rotates, prunes, breaks and replaces them.

use super::*;
use crate::{
    cursor::Cursor,
    testing::{self, Ledger},
};

fn read_all(reader: &mut Reader, upto: u64) -> Vec<u64> {
    std::iter::from_fn(|| reader.next(upto).unwrap()).map(|entry| entry.seq).collect()
}

#[test]
fn reading_crosses_segments_and_stops_at_the_mark() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    for _ in 0..3 {
        ledger.append(5);
        ledger.rotate();
    }
    let mut reader = Reader::after(&paths.ledger(), &ledger.id, 0, None).unwrap();
    assert_eq!(read_all(&mut reader, 9), (1..=9).collect::<Vec<_>>());
    assert_eq!(read_all(&mut reader, ledger.seq), (10..=ledger.seq).collect::<Vec<_>>());
    ledger.append(1);
    assert_eq!(read_all(&mut reader, ledger.seq), [ledger.seq]);
}

#[test]
fn every_hash_and_field_is_as_the_record_has_it() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let mut reader = Reader::after(&paths.ledger(), &ledger.id, 0, None).unwrap();
    while let Some(entry) = reader.next(ledger.seq).unwrap() {
        let record = record::Record::parse(entry.line.as_bytes()).unwrap();
        assert_eq!((entry.seq, entry.hash, entry.kind.as_str()), (record.seq(), record.hash(), record.type_word()));
        assert_eq!((entry.host.as_str(), entry.stack.as_str(), entry.chained), ("i-0123", "web", true));
        assert_eq!(Some(entry.time.as_str()), record.text("time"));
    }
}

#[test]
fn what_is_not_durable_is_read_anew_once_it_is() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    let mut reader = Reader::after(&paths.ledger(), &ledger.id, 0, None).unwrap();
    let good = std::fs::read(ledger.path(1)).unwrap();
    // A write that the daemon takes back again: it lies behind the mark when the buffer is filled.
    std::fs::write(ledger.path(1), [good.as_slice(), b"{\"never\":\"durable\"}\n"].concat()).unwrap();
    assert_eq!(read_all(&mut reader, 1), [1]);
    std::fs::write(ledger.path(1), &good).unwrap();
    ledger.append(2);
    assert_eq!(read_all(&mut reader, 4), [2, 3, 4]);
}

#[test]
fn a_record_that_is_not_the_cursors_is_a_rollback_and_so_is_an_end_before_it() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let dir = paths.ledger();
    assert!(Reader::after(&dir, &ledger.id, 5, Some(ledger.hash)).is_ok());
    for (seq, hash) in [(4, ledger.hash), (6, ledger.hash), (600, ledger.hash)] {
        assert!(matches!(Reader::after(&dir, &ledger.id, seq, Some(hash)), Err(ReadError::RolledBack { .. })), "{seq}");
    }
}

#[test]
fn a_pruned_beginning_is_told_and_a_cursor_just_before_what_is_left_goes_on() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    let before = ledger.hash;
    ledger.rotate();
    ledger.append(3);
    let (fork, id) = (ledger.hash, ledger.id.clone());
    ledger.prune_before(6);
    let dir = paths.ledger();
    assert!(matches!(Reader::after(&dir, &id, 2, None), Err(ReadError::Pruned { first: 6 })));
    let mut reader = Reader::after(&dir, &id, 5, Some(before)).unwrap();
    assert!(reader.next(ledger.seq).unwrap().unwrap().chained);
    let mut reader = Reader::after(&dir, &id, 5, Some(fork)).unwrap();
    assert!(!reader.next(ledger.seq).unwrap().unwrap().chained);
    assert_eq!(first_left(&dir).unwrap(), 6);
}

#[test]
fn pruning_while_a_segment_is_read_takes_nothing_of_it_away() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(3);
    ledger.rotate();
    ledger.append(3);
    ledger.rotate();
    ledger.append(3);
    let mut reader = Reader::after(&paths.ledger(), &ledger.id, 0, None).unwrap();
    assert_eq!(reader.next(ledger.seq).unwrap().unwrap().seq, 1);
    ledger.prune_before(10);
    for seq in 2..=5 {
        assert_eq!(reader.next(ledger.seq).unwrap().unwrap().seq, seq);
    }
    assert!(matches!(reader.next(ledger.seq), Err(ReadError::Pruned { first: 10 })));
}

#[test]
fn permits_cover_the_gap_in_order_whatever_order_they_stand_in() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    let mut starts = Vec::new();
    for _ in 0..4 {
        ledger.append(4);
        ledger.rotate();
        starts.push(ledger.seq);
    }
    ledger.append(1);
    ledger.prune_before(starts[0]);
    ledger.prune_before(starts[1]);
    ledger.append(3);
    ledger.prune_before(starts[2]);
    let cover = |from| {
        let found = permits(&paths.ledger(), &ledger.id, from, ledger.seq).unwrap();
        found.iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    assert_eq!(cover(1).len(), 3);
    assert_eq!(cover(starts[0] + 1).len(), 2);
    assert_eq!(cover(starts[2] - 1).len(), 1);
    assert!(cover(1).is_sorted());
}

#[test]
fn a_statement_over_all_that_was_ever_pruned_is_permit_enough() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    ledger.append(4);
    ledger.rotate();
    let start = ledger.seq;
    for last in [2, 4, start - 1] {
        let draft = record::Draft::new(record::ArtifactType::LedgerPruned, "removed");
        ledger.write(&draft.with("first", 1).with("last", last).with("last_hash", Hash::ZERO.to_string()));
    }
    let newest = ledger.seq;
    ledger.publish();
    std::fs::remove_file(ledger.path(1)).unwrap();
    for from in 1..start {
        let found = permits(&paths.ledger(), &ledger.id, from, ledger.seq).unwrap();
        assert_eq!(found.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [newest], "{from}");
    }
}

#[test]
fn bytes_that_are_no_record_stop_reading_and_name_the_place() {
    let (_dir, paths) = testing::paths();
    let ledger = Ledger::begin(&paths, 1);
    let good = std::fs::read_to_string(ledger.path(1)).unwrap();
    for bad in [
        "not json\n".to_owned(),
        format!("{}\n", "x".repeat(9000)),
        "\u{fffd}\n".to_owned(),
        good.replace("\"seq\":1,\"sig", "\"seq\":4,\"sig"),
    ] {
        std::fs::write(ledger.path(1), format!("{good}{bad}")).unwrap();
        let mut reader = Reader::after(&paths.ledger(), &ledger.id, 2, None).unwrap();
        for _ in 0..2 {
            let error = reader.next(9).unwrap_err();
            assert!(matches!(&error, ReadError::NotARecord { seq: 3, .. }), "{error}");
            assert!(error.to_string().contains("000000000001.jsonl"));
        }
    }
}

#[test]
fn another_ledger_in_its_place_and_a_missing_file_are_told_apart() {
    let (_dir, paths) = testing::paths();
    let mut ledger = Ledger::begin(&paths, 1);
    let id = ledger.id.clone();
    assert!(matches!(hash_at(&paths.ledger(), &testing::ledger_id(), 1), Err(ReadError::Replaced)));
    let mut reader = Reader::after(&paths.ledger(), &id, 2, None).unwrap();
    assert!(matches!(reader.next(3), Err(ReadError::Missing { seq: 3, .. })));
    ledger.append(1);
    assert_eq!(reader.next(3).unwrap().unwrap().seq, 3);
}

#[test]
fn ledgers_set_aside_are_found_in_order_and_read_to_their_end() {
    let (_dir, paths) = testing::paths();
    let mut ids = Vec::new();
    for (seed, time) in [(1, "20260101T000000.000000000Z"), (2, "20260102T000000.000000000Z")] {
        let mut ledger = Ledger::begin(&paths, seed);
        ledger.append(2);
        ids.push(ledger.id.clone());
        ledger.set_aside(time);
    }
    std::fs::create_dir_all(paths.set_aside().join("20260103T000000.000000000Z-unknown")).unwrap();
    let present = Ledger::begin(&paths, 3);
    let first = past_of(&paths, &ids[0]).unwrap().unwrap();
    let second = next_past(&paths, &first).unwrap().unwrap();
    assert_eq!(second.ledger, ids[1]);
    assert_eq!(next_past(&paths, &second).unwrap(), None);
    assert_eq!(past_of(&paths, &present.id).unwrap(), None);
    let mut reader = Reader::after(&first.dir, &first.ledger, 0, None).unwrap();
    assert_eq!(read_all(&mut reader, u64::MAX), [1, 2, 3, 4]);
    assert_eq!(Cursor::start(ids[0].clone()).seq, 0);
}
