//! The verifier against ledgers made whole and then touched in every way we can think of.

use std::sync::LazyLock;

use jiff::Timestamp;
use proptest::prelude::*;
use ssh_key::{PrivateKey, private::Ed25519Keypair};

use super::*;

mod acknowledged;
use crate::{Draft, Position, seal};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

/// Writes lines as a ledger would, so that each test only says what is special about its own.
#[derive(Clone)]
struct Writer {
    key: PrivateKey,
    ledger: LedgerId,
    seq: u64,
    prev: Hash,
    lines: Vec<String>,
}

impl Writer {
    fn new(seed: u8) -> Self {
        let mut new = Self {
            key: key(seed),
            ledger: format!("{seed:032x}").parse().unwrap(),
            seq: 0,
            prev: Hash::ZERO,
            lines: Vec::new(),
        };
        new.segment();
        new
    }

    fn write(&mut self, draft: &Draft) -> &mut Self {
        for body in draft.bodies().unwrap() {
            let at = Position {
                ledger: &self.ledger,
                seq: self.seq + 1,
                host: &"host-1".parse().unwrap(),
                stack: &"web".parse().unwrap(),
                boot: "00000000-0000-0000-0000-000000000001",
                time: Timestamp::from_microsecond(1_700_000_000_000_000 + i64::try_from(self.seq).unwrap()).unwrap(),
                prev: self.prev,
            };
            let line = seal(&body, &at, &self.key).unwrap();
            (self.seq, self.prev) = (line.seq(), line.hash());
            self.lines.push(line.as_str().to_owned());
        }
        self
    }

    fn segment(&mut self) -> &mut Self {
        let public = public(&self.key);
        self.write(&Draft::new(ArtifactType::LedgerSegment, "a segment begins").with("public_key", public))
    }

    fn sweep(&mut self, n: u64) -> &mut Self {
        self.write(&Draft::new(ArtifactType::SweepAttested, format!("sweep {n}")).with("accounts", n))
    }
}

fn verdict(lines: &[impl AsRef<[u8]>], depth: Depth, trust: Trust) -> Verdict {
    let mut verifier = Verifier::new(depth, trust);
    lines.iter().for_each(|line| {
        let _ = verifier.line(line.as_ref());
    });
    verifier.finish()
}

fn faults(verdict: &Verdict) -> Vec<(Option<u64>, Fault)> {
    verdict.findings.iter().map(|f| (f.seq, f.fault.clone())).collect()
}

fn ten() -> Writer {
    static TEN: LazyLock<Writer> = LazyLock::new(|| {
        let mut writer = Writer::new(1);
        (0..9).for_each(|n| {
            writer.sweep(n);
        });
        writer
    });
    TEN.clone()
}

#[test]
fn an_untouched_ledger_is_clean_at_both_depths() {
    let writer = ten();
    for depth in [Depth::Chain, Depth::Full] {
        let verdict = verdict(&writer.lines, depth, Trust::FirstKey);
        assert!(verdict.is_clean(), "{:?}", verdict.findings);
        assert_eq!((verdict.first, verdict.last, verdict.last_hash), (1, 10, writer.prev));
    }
}

#[test]
fn an_edited_record_is_named() {
    let mut lines = ten().lines;
    lines[4] = lines[4].replace("sweep 3", "sweep 8");
    assert_eq!(
        faults(&verdict(&lines, Depth::Full, Trust::FirstKey)),
        [(Some(5), Fault::Signature), (Some(6), Fault::Chain)]
    );
    assert_eq!(faults(&verdict(&lines, Depth::Chain, Trust::FirstKey)), [(Some(6), Fault::Chain)]);
}

#[test]
fn an_edited_last_record_is_found_by_the_last_signature() {
    let mut lines = ten().lines;
    lines[9] = lines[9].replace("sweep 8", "sweep 9");
    assert_eq!(faults(&verdict(&lines, Depth::Chain, Trust::FirstKey)), [(Some(10), Fault::Signature)]);
}

#[test]
fn a_chain_computed_anew_by_somebody_else_is_not_signed() {
    let (mut ours, mut theirs) = (Writer::new(1), Writer::new(1));
    ours.sweep(1);
    theirs.key = key(2);
    theirs.sweep(2).sweep(3);
    let lines = [&ours.lines[..1], &theirs.lines[1..]].concat();
    assert_eq!(faults(&verdict(&lines, Depth::Chain, Trust::FirstKey)), [(Some(3), Fault::Signature)]);
}

#[test]
fn a_missing_start_needs_a_pruned_record_that_covers_it() {
    let mut writer = ten();
    let (last, hash) = (writer.seq, writer.prev.to_string());
    writer.segment().sweep(1);
    let without = verdict(&writer.lines[10..], Depth::Full, Trust::FirstKey);
    assert_eq!(faults(&without), [(Some(11), Fault::Unaccounted(10))]);
    let pruned = |hash: String| {
        Draft::new(ArtifactType::LedgerPruned, "pruned").with("first", 1).with("last", last).with("last_hash", hash)
    };
    writer.write(&pruned(hash));
    assert!(verdict(&writer.lines[10..], Depth::Full, Trust::FirstKey).is_clean());
    assert!(verdict(&writer.lines, Depth::Full, Trust::FirstKey).is_clean(), "pruned, but not yet removed");
    writer.write(&pruned("ab".repeat(32)));
    assert_eq!(faults(&verdict(&writer.lines, Depth::Chain, Trust::FirstKey)), [(Some(14), Fault::Pruned)]);
    let mut partial = Verifier::new(Depth::Chain, Trust::FirstKey).partial();
    assert!(partial.line(writer.lines[10].as_bytes()).1);
    assert!(partial.finish().is_clean());
}

#[test]
fn a_pruned_record_must_name_the_hash_that_the_rest_begins_with() {
    let mut writer = ten();
    writer.segment();
    writer.write(
        &Draft::new(ArtifactType::LedgerPruned, "pruned")
            .with("first", 1)
            .with("last", 10)
            .with("last_hash", "ab".repeat(32)),
    );
    assert!(!verdict(&writer.lines[10..], Depth::Chain, Trust::FirstKey).is_clean());
}

#[test]
fn a_new_key_counts_only_when_the_old_one_signed_it() {
    let mut writer = ten();
    let rotated = Draft::new(ArtifactType::KeyRotated, "a new key").with("public_key", public(&key(9)));
    writer.write(&rotated);
    writer.key = key(9);
    writer.sweep(10).segment();
    for depth in [Depth::Chain, Depth::Full] {
        assert!(verdict(&writer.lines, depth, Trust::FirstKey).is_clean());
    }
    let mut forged = ten();
    forged.key = key(9);
    forged.write(&rotated).sweep(10);
    let found = faults(&verdict(&forged.lines, Depth::Chain, Trust::FirstKey));
    assert_eq!(found, [(Some(11), Fault::Signature), (Some(12), Fault::Signature)]);
}

#[test]
fn trust_is_checked_against_the_first_key() {
    let writer = ten();
    let untrusted = Fault::Untrusted("host-1".parse().unwrap());
    let signers = |host: &str, seed: u8| {
        Trust::Signers(AllowedSigner::parse_file(&format!("{host} {}", public(&key(seed)))).unwrap())
    };
    assert!(verdict(&writer.lines, Depth::Full, signers("host-1", 1)).is_clean());
    assert!(verdict(&writer.lines, Depth::Full, Trust::Key(Box::new(key(1).public_key().clone()))).is_clean());
    for trust in [
        signers("host-1", 2),
        signers("host-2", 1),
        Trust::Signers(Vec::new()),
        Trust::Key(Box::new(key(2).public_key().clone())),
    ] {
        assert_eq!(faults(&verdict(&writer.lines, Depth::Chain, trust)), [(Some(1), untrusted.clone())]);
    }
}

#[test]
fn other_ledgers_and_odd_starts_are_found() {
    let (one, mut two) = (ten(), Writer::new(1));
    two.ledger = "ff".repeat(16).parse().unwrap();
    (0..9).for_each(|n| {
        two.sweep(n);
    });
    let mixed = [&one.lines[..5], &two.lines[5..6]].concat();
    let found = faults(&verdict(&mixed, Depth::Full, Trust::FirstKey));
    assert!(matches!(found[0].1, Fault::Ledger { .. }) && found[1].1 == Fault::Chain, "{found:?}");
    assert_eq!(faults(&verdict(&one.lines[1..2], Depth::Full, Trust::FirstKey))[1].1, Fault::Start);
    assert_eq!(faults(&verdict(&[""; 0], Depth::Full, Trust::FirstKey)), [(None, Fault::Empty)]);
}

#[test]
fn a_torn_tail_is_told_from_an_edit() {
    let mut lines = ten().lines;
    let torn = lines[9].trim_end().to_owned();
    lines[9] = torn;
    assert_eq!(faults(&verdict(&lines, Depth::Full, Trust::FirstKey)), [(None, Fault::Torn)]);
}

#[test]
fn the_same_object_written_otherwise_is_refused() {
    let line = ten().lines[3].clone();
    let doubled = line.replacen('{', "{\"v\":1,", 1);
    for bad in [
        line.replace("\":", "\": "),
        doubled,
        line.replace("sweep", "s\\u0077eep"),
        line.replacen("web", "w\\u0065b", 1),
    ] {
        assert_eq!(Record::parse(bad.as_bytes()), Err(Malformed::NotCanonical), "{bad}");
    }
    let cases = [
        (line.replace("\"accounts\":2", "\"accounts\":2.5"), "float"),
        (line.replace("\"accounts\":2", "\"accounts\":9007199254740992"), "beyond 2^53-1"),
        (line.replace("\"accounts\":2", "\"accounts\":null"), "null"),
        (line.replace("\"accounts\":2", "\"Accounts\":2"), "key"),
        (line.replace("sweep 2", "sweep\u{202e}2"), "unescaped"),
    ];
    for (bad, what) in cases {
        assert!(matches!(Record::parse(bad.as_bytes()), Err(Malformed::Value(_))), "{what}: {bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_changed_byte_is_found(line in 0usize..10, at: prop::sample::Index, byte: u8) {
        let mut lines: Vec<Vec<u8>> = ten().lines.into_iter().map(String::into_bytes).collect();
        let at = at.index(lines[line].len());
        prop_assume!(lines[line][at] != byte);
        lines[line][at] = byte;
        let joined = lines.concat();
        let fed: Vec<&[u8]> = joined.split_inclusive(|b| *b == b'\n').collect();
        for depth in [Depth::Chain, Depth::Full] {
            prop_assert!(!verdict(&fed, depth, Trust::FirstKey).is_clean());
        }
    }

    #[test]
    fn any_drop_copy_or_swap_of_lines_is_found(a in 0usize..10, b in 0usize..10, what in 0..3) {
        let mut lines = ten().lines;
        match what {
            0 => { prop_assume!(a < 9); lines.remove(a); }
            1 => { let copy = lines[a].clone(); lines.insert(b, copy); }
            _ => { prop_assume!(a != b); lines.swap(a, b); }
        }
        for depth in [Depth::Chain, Depth::Full] {
            prop_assert!(!verdict(&lines, depth, Trust::FirstKey).is_clean());
        }
    }
}
