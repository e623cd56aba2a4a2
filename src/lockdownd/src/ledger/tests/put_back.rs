//! The open segment's file under the daemon's hands: replaced, moved, removed, cut.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// A ledger with records 1 to 5, and its open segment's file.
fn written() -> (Host1, Ledger, PathBuf) {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    (1..=3).for_each(|n| append(&mut ledger, sweep(n), host.now));
    let path = host.files()[0].clone();
    (host, ledger, path)
}

/// As `sed -i`, and whatever else writes beside it and renames.
fn replace_by(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, bytes).unwrap();
    fs::rename(beside, path).unwrap();
}

/// The statements that a file was put back.
fn told(host: &Host1) -> Vec<Record> {
    let text = String::from_utf8(host.bytes()).unwrap();
    let records = text.lines().map(|line| Record::parse(line.as_bytes()).unwrap());
    records.filter(|record| record.detail("break").is_some_and(|word| *word == "replaced")).collect()
}

/// What is kept aside.
fn kept(host: &Host1) -> Vec<PathBuf> {
    let all = fs::read_dir(host.paths().ledger()).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<PathBuf> = all.filter(|path| path.extension().unwrap() != "jsonl").collect();
    kept.sort();
    kept
}

/// Somebody does this to the file; then nothing that was written is missing, it is told once, and a restart goes on.
fn nothing_is_lost_by(deed: impl Fn(&Path)) -> (Host1, PathBuf, Record) {
    let (host, mut ledger, path) = written();
    deed(&path);
    (4..=6).for_each(|n| append(&mut ledger, sweep(n), host.now));
    assert_eq!(assert_clean(&host), (1, 9, ledger.head().hash));
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
    let mut told = told(&host);
    assert_eq!(told.len(), 1);
    drop(ledger);
    assert_eq!(host.open().broke, None);
    (host, path, told.remove(0))
}

#[test]
fn a_segment_that_is_replaced_by_its_copy_is_written_on_under_its_name() {
    let (host, _, told) = nothing_is_lost_by(|path| replace_by(path, &fs::read(path).unwrap()));
    assert_eq!(
        told.text("reason"),
        Some(
            "the ledger's file of record 1 and on was replaced by another while it was written: records 1 to 5 were put back"
        )
    );
    assert_eq!((told.detail("kept_in"), told.detail("lost")), (None, None));
    assert_eq!(record::Severity::of_record(&told), record::Severity::Critical);
    assert!(kept(&host).is_empty(), "a copy holds nothing to keep");
}

#[test]
fn a_segment_that_is_moved_away_removed_or_gone_with_its_directory_is_put_back() {
    nothing_is_lost_by(|path| fs::rename(path, path.parent().unwrap().with_file_name("away")).unwrap());
    nothing_is_lost_by(|path| fs::remove_file(path).unwrap());
    nothing_is_lost_by(|path| fs::remove_dir_all(path.parent().unwrap()).unwrap());
    // As logrotate(8) with `create`.
    let (host, ..) = nothing_is_lost_by(|path| {
        fs::rename(path, path.with_extension("jsonl.1")).unwrap();
        fs::write(path, "").unwrap();
    });
    assert_eq!(kept(&host), [host.paths().segment(1).with_extension("jsonl.1")]);
}

#[test]
fn whatever_stands_in_a_segments_place_is_kept_aside() {
    let edited = |path: &Path| fs::read_to_string(path).unwrap().replace("sweep 2", "sweep 7");
    let (host, path, told) = nothing_is_lost_by(|path| replace_by(path, edited(path).as_bytes()));
    let aside = path.with_extension("replaced");
    assert_eq!(kept(&host), std::slice::from_ref(&aside));
    assert!(fs::read_to_string(&aside).unwrap().contains("sweep 7"));
    assert_eq!(told.detail("kept_in").unwrap()[0], *aside.to_str().unwrap());

    let (_host, path, _) = nothing_is_lost_by(|path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, b"a word of somebody's\n").unwrap();
    });
    assert!(fs::read_to_string(path.with_extension("replaced")).unwrap().ends_with("a word of somebody's\n"));

    let (_host, path, _) = nothing_is_lost_by(|path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
    assert!(path.with_extension("replaced").is_dir());

    let (_host, path, _) = nothing_is_lost_by(|path| {
        fs::rename(path, path.with_extension("old")).unwrap();
        symlink(path.with_extension("old"), path).unwrap();
    });
    assert!(path.with_extension("replaced").is_symlink());
}

#[test]
fn a_segment_that_is_replaced_again_and_again_loses_nothing_and_each_is_told() {
    let (host, mut ledger, path) = written();
    for n in 4..=6 {
        replace_by(&path, b"not a ledger\n");
        append(&mut ledger, sweep(n), host.now);
    }
    assert_eq!(assert_clean(&host).1, 11);
    let names: Vec<_> = kept(&host).into_iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["000000000001.replaced", "000000000001.replaced.1", "000000000001.replaced.2"]);
    assert_eq!(told(&host).len(), 3);
}

#[test]
fn a_segment_that_is_replaced_is_put_back_before_the_next_begins_and_before_it_is_set_aside() {
    let (mut host, mut ledger, path) = written();
    fs::remove_file(&path).unwrap();
    host.now += jiff::SignedDuration::from_hours(24);
    append(&mut ledger, sweep(4), host.now);
    assert_eq!((assert_clean(&host).1, host.files().len(), told(&host).len()), (8, 2, 1));

    let open = host.files()[1].clone();
    let text = fs::read(&open).unwrap();
    replace_by(&open, b"");
    ledger.succeed(&host.identity, "a test".to_owned(), host.now).unwrap();
    append(&mut ledger, sweep(5), host.now);
    assert_eq!((assert_clean(&host).1, told(&host).len()), (4, 1));
    let aside = fs::read_dir(host.paths().set_aside()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(aside.join("ledger").join(open.file_name().unwrap())).unwrap(), text);
}

#[test]
fn what_is_replaced_while_a_record_is_written_is_put_back_before_the_record_counts() {
    let (host, mut ledger, path) = written();
    let copy = fs::read(&path).unwrap();
    // As if it came between the look before the write and the one after it.
    replace_by(&path, &copy);
    let bodies = sweep(4)[0].bodies().unwrap().into_iter().map(|body| (host.now, body)).collect::<Vec<_>>();
    let (lines, _) = ledger.signer.seal(ledger.head, &bodies).unwrap();
    ledger.segment.append(&text_of(&lines)).unwrap();
    ledger.advance(&lines);
    ledger.owe_put_back(host.now);
    assert_eq!(assert_clean(&host).1, 6);
    assert_eq!(ledger.owed(), 1, "it is stated with the next");
    append(&mut ledger, sweep(5), host.now);
    assert_eq!((assert_clean(&host).1, told(&host).len()), (8, 1));
}

#[test]
fn of_a_segment_that_is_cut_what_is_left_stays_and_what_is_lost_is_told() {
    for (left, lost) in [(5, 0), (3, 2), (1, 4), (0, 5)] {
        for torn in [0, 20] {
            let (host, mut ledger, path) = written();
            let text = fs::read_to_string(&path).unwrap();
            let end: usize = text.split_inclusive('\n').take(left).map(str::len).sum();
            if lost == 0 && torn > 0 {
                continue;
            }
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len((end + torn) as u64).unwrap();
            (4..=6).for_each(|n| append(&mut ledger, sweep(n), host.now));
            if lost == 0 {
                assert_eq!((assert_clean(&host).1, told(&host).len()), (8, 0));
                continue;
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text[..end], "no gap within a segment");
            assert_eq!(kept(&host).len(), usize::from(torn > 0));
            let all = host.files();
            assert_eq!(all, [path, host.paths().segment(6)]);
            let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey).partial();
            let since = fs::read(&all[1]).unwrap();
            assert!(since.split_inclusive(|b| *b == b'\n').all(|line| verifier.line(line).1));
            assert_eq!(verifier.finish().last, 10);
            let told = told(&host);
            assert_eq!(told.len(), 1);
            let reason = told[0].text("reason").unwrap();
            assert!(reason.contains(&format!("records {} to 5 are lost", left + 1)), "{reason}");
            assert_eq!(*told[0].detail("lost").unwrap(), lost);
            assert_eq!(
                ledger.view().lines_after(5, 1 << 20).unwrap().concat().as_bytes(),
                since,
                "each under its number"
            );
            assert!(!verify(&host.bytes()).is_clean(), "what is lost shows");
            let head = ledger.head();
            drop(ledger);
            assert!(host.open().broke.unwrap().contains("did not verify"));
            let begun = String::from_utf8(host.bytes()).unwrap();
            assert!(left > 0 || begun.contains(&format!("\"hash\":\"{}\"", head.hash)), "the last is named: {begun}");
        }
    }
}

#[test]
fn while_a_segment_cannot_be_put_back_nothing_counts_as_written_and_it_follows() {
    let (host, mut ledger, path) = written();
    let before = ledger.head();
    replace_by(&path, b"not a ledger\n");
    // No room for it: a directory that is in use stands where it is prepared.
    let in_the_way = path.with_extension("new");
    fs::create_dir_all(in_the_way.join("x")).unwrap();
    assert!(ledger.append_or_owe(at_once(sweep(4), host.now), host.now).is_err());
    assert!(ledger.append_or_owe(at_once(sweep(5), host.now), host.now).is_err());
    assert_eq!((ledger.head(), super::durable(&host.paths().durable()).unwrap().1), (before, before.seq));
    assert!(!path.with_extension("replaced").exists());
    fs::remove_dir_all(in_the_way).unwrap();
    append(&mut ledger, sweep(6), host.now);
    // Besides the three: that it was put back, and that writing had failed.
    assert_eq!((assert_clean(&host).1, told(&host).len(), kept(&host).len()), (10, 1, 1));
}
