//! Ledgers that root on the host has touched, and signed again with the host's own key: only the receipts tell.

use super::*;
use crate::{Receipt, SignedReceipt};

/// The server's receipt for this line of a ledger.
fn receipt(line: &str) -> SignedReceipt {
    let record = Record::parse(line.as_bytes()).unwrap();
    let receipt = Receipt {
        ledger: record.ledger().clone(),
        seq: record.seq(),
        hash: record.hash(),
        received: "2026-05-26T12:00:00Z".parse().unwrap(),
        signer: None,
    };
    receipt.seal(&key(9)).unwrap()
}

/// Receipts for these records of a ledger, by number from 1.
fn receipts(writer: &Writer, seqs: &[usize]) -> Receipts {
    let mut receipts = Receipts::by(vec![key(8).public_key().clone(), key(9).public_key().clone()]);
    for seq in seqs {
        receipts.add(receipt(&writer.lines[seq - 1]).as_str().as_bytes()).unwrap();
    }
    receipts
}

fn held(lines: &[String], receipts: Receipts) -> Verdict {
    let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey).against(receipts);
    lines.iter().for_each(|line| {
        let _ = verifier.line(line.as_bytes());
    });
    verifier.finish()
}

/// A ledger of a segment and these sweeps, by the host's one key.
fn ledger(sweeps: impl IntoIterator<Item = u64>) -> Writer {
    let mut writer = Writer::new(1);
    for n in sweeps {
        writer.sweep(n);
    }
    writer
}

#[test]
fn an_untouched_ledger_is_complete_and_says_how_far_it_is_acknowledged() {
    let writer = ledger(0..9);
    let verdict = held(&writer.lines, receipts(&writer, &[1, 4, 7]));
    assert!(verdict.is_clean(), "{:?}", verdict.findings);
    assert_eq!((verdict.last, verdict.acknowledged), (10, 7));
    let verdict = held(&writer.lines, receipts(&writer, &[]));
    assert_eq!((verdict.is_clean(), verdict.acknowledged), (true, 0));
}

#[test]
fn what_root_signs_anew_is_found_and_where_is_told() {
    let old = ledger(0..9);
    let seen = |lines: &[String]| {
        let verdict = held(lines, receipts(&old, &[3, 6, 9]));
        (faults(&verdict), verdict.acknowledged)
    };
    let not_as = |seq, after| (Some(seq), Fault::NotAsAcknowledged { after });
    // Record 5 edited, dropped, doubled, swapped with the next; each time all after it signed and chained anew.
    for touched in [vec![0, 1, 2, 33, 4, 5, 6, 7, 8], vec![0, 1, 2, 4, 5, 6, 7, 8, 9], vec![0, 1, 2, 4, 3, 5, 6, 7, 8]]
    {
        assert_eq!(seen(&ledger(touched).lines), (vec![not_as(6, 3)], 3));
    }
    assert_eq!(seen(&ledger([7, 7, 7, 7, 7, 7, 7, 7, 7]).lines), (vec![not_as(3, 0)], 0), "from the start");
    assert_eq!(seen(&old.lines[..7]), (vec![(Some(7), Fault::CutOff { acknowledged: 9 })], 6), "truncated");
    let cut = (Some(4), Fault::CutOff { acknowledged: 9 });
    assert_eq!(seen(&ledger([0, 7, 7]).lines), (vec![not_as(3, 0), cut], 0), "both");
    // What nobody has acknowledged, root can write anew unseen.
    assert_eq!(seen(&ledger([0, 1, 2, 3, 4, 5, 6, 7, 99, 100]).lines), (vec![], 9));
}

#[test]
fn another_key_or_another_ledger_does_not_get_by() {
    let old = ledger(0..9);
    let mut other = Writer::new(2);
    (0..9).for_each(|n| {
        other.sweep(n);
    });
    let verdict = held(&other.lines, receipts(&old, &[3, 9]));
    assert_eq!(faults(&verdict), [(Some(10), Fault::OtherLedgersOnly { ledgers: 1 })]);
    let mut same_id = Writer { ledger: old.ledger.clone(), seq: 0, prev: Hash::ZERO, lines: Vec::new(), key: key(2) };
    same_id.segment();
    (0..9).for_each(|n| {
        same_id.sweep(n);
    });
    let verdict = held(&same_id.lines, receipts(&old, &[3, 9]));
    assert_eq!(faults(&verdict), [(Some(3), Fault::NotAsAcknowledged { after: 0 })]);
}

#[test]
fn a_receipt_over_a_ledger_of_another_key_under_the_same_id_is_told_of_and_says_nothing_about_this_one() {
    let own = ledger(0..3);
    let by = |seed: u8, seq: u64, hash: Hash| {
        let signer = key(seed).public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string().parse().ok();
        let received = "2026-05-26T12:00:00Z".parse().unwrap();
        let ledger = own.ledger.clone();
        Receipt { ledger, seq, hash, received, signer }.seal(&key(9)).unwrap().as_str().to_owned()
    };
    let seen = |receipts: &[String]| {
        let mut all = Receipts::by(vec![key(9).public_key().clone()]);
        receipts.iter().for_each(|receipt| all.add(receipt.as_bytes()).unwrap());
        faults(&held(&own.lines, all))
    };
    let third = Record::parse(own.lines[2].as_bytes()).unwrap().hash();
    let other = |acknowledged| {
        let signer = key(2).public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string().parse().unwrap();
        Fault::OtherSigner { acknowledged, signer }
    };
    assert_eq!(seen(&[by(1, 3, third)]), []);
    assert_eq!(seen(&[by(2, 3, Hash::ZERO), by(2, 9, Hash::ZERO)]), [(Some(3), other(3))]);
    assert_eq!(seen(&[by(2, 9, Hash::ZERO)]), [(Some(4), other(9))]);
    assert_eq!(seen(&[by(1, 9, Hash::ZERO)]), [(Some(4), Fault::CutOff { acknowledged: 9 })]);
}

#[test]
fn a_successor_must_not_say_that_its_ancestor_ended_early() {
    let old = ledger(0..9);
    let successor = |seq: usize| {
        let mut new = Writer::new(2);
        let hash = Record::parse(old.lines[seq - 1].as_bytes()).unwrap().hash().to_string();
        let ancestor = serde_json::json!({ "ledger": old.ledger, "seq": seq, "hash": hash });
        let public = public(&new.key);
        new.write(
            &Draft::new(ArtifactType::LedgerOpened, "a new ledger began")
                .with("public_key", public)
                .with("ancestor", ancestor),
        );
        new
    };
    assert_eq!(faults(&held(&successor(9).lines, receipts(&old, &[3, 9]))), []);
    assert_eq!(faults(&held(&successor(10).lines, receipts(&old, &[3, 9]))), [], "the rest nobody had acknowledged");
    let cut = Fault::AncestorCut { ledger: old.ledger.clone(), acknowledged: 9, said: 8 };
    assert_eq!(faults(&held(&successor(8).lines, receipts(&old, &[3, 9]))), [(Some(2), cut)]);
}

#[test]
fn a_pruned_start_is_held_against_the_receipt_for_what_was_pruned() {
    let mut writer = ledger(0..3);
    writer.segment().sweep(5);
    let pruned = Draft::new(ArtifactType::LedgerPruned, "pruned")
        .with("first", 1)
        .with("last", 4)
        .with("last_hash", Record::parse(writer.lines[3].as_bytes()).unwrap().hash().to_string());
    writer.write(&pruned);
    let verdict = held(&writer.lines[4..], receipts(&writer, &[2, 4]));
    assert_eq!((faults(&verdict), verdict.acknowledged), (vec![], 4));
    let mut forged = ledger([0, 1, 9]);
    forged.segment().sweep(5);
    let pruned = Draft::new(ArtifactType::LedgerPruned, "pruned")
        .with("first", 1)
        .with("last", 4)
        .with("last_hash", Record::parse(forged.lines[3].as_bytes()).unwrap().hash().to_string());
    forged.write(&pruned);
    let verdict = held(&forged.lines[4..], receipts(&writer, &[2, 4]));
    assert_eq!(faults(&verdict), [(Some(5), Fault::NotAsAcknowledged { after: 0 })]);
}

#[test]
fn a_dropped_line_that_was_acknowledged_is_missed() {
    let writer = ledger(0..9);
    let mut lines = writer.lines.clone();
    lines.remove(5);
    let faults = faults(&held(&lines, receipts(&writer, &[6, 9])));
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[1], (Some(10), Fault::AcknowledgedMissing { seq: 6 }));
}

#[test]
fn only_the_servers_own_receipts_count_and_it_must_not_contradict_itself() {
    let (writer, other) = (ledger(0..9), ledger([7; 9]));
    let mut receipts = receipts(&writer, &[3, 9]);
    assert!(receipts.add(receipt(&writer.lines[2]).as_str().as_bytes()).is_ok(), "the same again");
    assert_eq!(receipts.count(), 2);
    let contradicting = receipts.add(receipt(&other.lines[2]).as_str().as_bytes());
    assert!(matches!(contradicting, Err(BadReceipt::Contradiction { seq: 3, .. })));
    assert!(matches!(receipts.add(b"{}"), Err(BadReceipt::Malformed(_))));
    let mut by_others = Receipts::by(vec![key(8).public_key().clone()]);
    assert!(matches!(by_others.add(receipt(&writer.lines[2]).as_str().as_bytes()), Err(BadReceipt::Signature)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_root_rewrites_before_the_last_receipt_is_found(
        sweeps in prop::collection::vec(0u64..3, 6..10), acknowledged in prop::collection::btree_set(1usize..7, 1..4)
    ) {
        let old = ledger([0, 1, 2, 0, 1, 2, 0, 1]);
        let new = ledger(sweeps);
        let acknowledged: Vec<usize> = acknowledged.into_iter().collect();
        let to = *acknowledged.last().expect("at least one");
        let verdict = held(&new.lines, receipts(&old, &acknowledged));
        prop_assert_eq!(verdict.is_clean(), new.lines[..to] == old.lines[..to]);
    }
}
