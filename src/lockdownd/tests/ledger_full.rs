//! A disk that is full at any byte of a write: nothing half-written stays, no number is used twice, nothing is lost that
//! cannot be withheld. One test, in a process of its own: the limit that plays the full disk holds for all of it.

use std::{fs, path::Path, time::Duration};

use jiff::Timestamp;
use lockdown_host::identity::Identity;
use lockdownd::ledger::{Error, Keeping, Ledger, Opening, Paths};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal},
};
use record::{ArtifactType, Depth, Draft, Record, Trust, Verifier};

fn sweep(n: u64) -> Draft {
    Draft::new(ArtifactType::SweepAttested, format!("sweep {n}")).with("accounts", n)
}

fn open(dir: &Path, identity: &Identity, now: Timestamp) -> Ledger {
    let opening = Opening {
        paths: Paths { state: dir.join("lib"), run: dir.join("run") },
        host: identity.name.clone(),
        stack: "web".parse().expect("a stack"),
        identity,
        boot: "b".to_owned(),
        keeping: Keeping {
            retain: Duration::from_secs(86_400),
            max_size: 1 << 30,
            drop_oldest: false,
            acknowledged_first: false,
        },
        now,
        journal: None,
    };
    let opened = Ledger::open(opening).expect("opens");
    assert_eq!((opened.broke, opened.set_aside), (None, None));
    opened.ledger
}

#[test]
fn a_disk_full_at_any_byte_leaves_the_ledger_whole_and_what_is_owed_follows_late() {
    // Blocked, the signal of an exceeded limit leaves the error to write(2), as a full disk would.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().expect("a signal can be blocked");
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let identity = Identity { instance: None, product: None, machine: None, name: "web-1".parse().expect("a name") };
    let now: Timestamp = "2026-05-26T12:00:00Z".parse().expect("a time");
    let mut ledger = open(dir.path(), &identity, now);
    let file = dir.path().join("lib/ledger/000000000001.jsonl");
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("limits can be read");
    for room in (0..1200).step_by(97) {
        let (head, length) = (ledger.head(), fs::metadata(&file).expect("the segment").len());
        setrlimit(Resource::RLIMIT_FSIZE, length + room, hard).expect("limits can be set");
        let refused = ledger.append(vec![sweep(1), sweep(2)], now);
        let owed = ledger.append_or_owe(vec![(now, sweep(3)), (now, sweep(room))], now);
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("limits can be set");
        assert!(matches!(refused, Err(Error::Io { .. })) && owed.is_err(), "with room for {room} bytes");
        assert_eq!((ledger.head(), ledger.owed()), (head, 2));
        assert_eq!(fs::metadata(&file).expect("the segment").len(), length);
        ledger.append(vec![sweep(4)], now).expect("there is room again");
        assert_eq!((ledger.head().seq, ledger.owed()), (head.seq + 4, 0));
    }
    let bytes = fs::read(&file).expect("the segment");
    let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    assert!(lines.iter().all(|line| verifier.line(line).1));
    assert!(verifier.finish().is_clean());
    let reasons: Vec<String> = lines
        .iter()
        .map(|l| Record::parse(l).expect("a record").text("reason").expect("a reason").to_owned())
        .collect();
    assert!(reasons[2].contains("2 statements follow late, 0 are lost"), "{}", reasons[2]);
    assert_eq!(reasons[3..6], ["sweep 3", "sweep 0", "sweep 4"]);
    drop(ledger);
    let _ = open(dir.path(), &identity, now);
}
