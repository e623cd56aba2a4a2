use std::{
    io::Write,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use proptest::prelude::*;
use ssh_key::{PrivateKey, PublicKey, private::Ed25519Keypair};

use super::*;
use crate::Hash;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(seed: u8) -> Vec<PublicKey> {
    vec![key(seed).public_key().clone()]
}

fn heads(count: usize) -> Vec<LedgerHead> {
    (0..count)
        .map(|n| LedgerHead {
            ledger: format!("{n:032x}").parse().unwrap(),
            seq: n as u64 + 1,
            hash: Hash::of(n.to_string().as_bytes()),
        })
        .collect()
}

fn proof(number: u64, heads: &[LedgerHead], index: usize, by: &PrivateKey) -> HeadProof {
    let leaves: Vec<Hash> = heads.iter().map(LedgerHead::leaf).collect();
    let checkpoint = Checkpoint {
        origin: "server/checkpoints".to_owned(),
        size: leaves.len() as u64,
        root: root(&leaves),
        number,
        time: Timestamp::from_second(1_780_000_000).unwrap(),
    };
    HeadProof {
        checkpoint: checkpoint.sign(by).unwrap(),
        head: heads[index].clone(),
        index: index as u64,
        path: path(&leaves, index).unwrap(),
    }
}

/// The tree again, in Python's own words, over leaves that come one a line.
const PYTHON: &str = "
import base64, hashlib, sys
def tree(leaves):
    if not leaves: return hashlib.sha256(b'').digest()
    if len(leaves) == 1: return hashlib.sha256(b'\\0' + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves): k *= 2
    return hashlib.sha256(b'\\1' + tree(leaves[:k]) + tree(leaves[k:])).digest()
print(base64.b64encode(tree(sys.stdin.buffer.read().split(b'\\n')[:-1])).decode())
";

fn python(stdin: &str) -> String {
    let mut child =
        Command::new("python3").args(["-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn pythons_own_hashlib_has_the_same_root_for_trees_of_every_shape() {
    use base64ct::Encoding as _;
    for count in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 100] {
        let heads = heads(count);
        let leaves: Vec<Hash> = heads.iter().map(LedgerHead::leaf).collect();
        let text: String = heads.iter().map(|head| head.text() + "\n").collect();
        let ours = base64ct::Base64::encode_string(root(&leaves).as_bytes());
        assert_eq!(python(&text), ours, "{count}");
    }
}

#[test]
fn the_trees_published_for_certificate_transparency_have_the_roots_that_are_published_with_them() {
    // The leaves and roots that implementations of RFC 6962 test with.
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let all: Vec<Hash> = leaves.iter().map(|bytes| leaf(bytes)).collect();
    for (count, wanted) in [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ] {
        assert_eq!(root(&all[..count]).to_string(), wanted, "{count}");
    }
}

#[test]
fn openssl_verifies_the_signature_below_a_note() {
    use base64ct::Encoding as _;
    let signed = proof(1, &heads(3), 0, &key(1)).checkpoint;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    // What comes before the 32 bytes of an Ed25519 key in DER.
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(&key(1).public_key().key_data().ed25519().unwrap().0);
    write("key.der", &der);
    let (text, below) = signed.as_str().split_once("\n\n").unwrap();
    write("text", format!("{text}\n").as_bytes());
    let signature = base64ct::Base64::decode_vec(below.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    write("signature", &signature[4..]);
    let verified = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-rawin", "-in", "text"])
        .args(["-sigfile", "signature"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn a_note_that_is_changed_by_a_byte_is_no_checkpoint_of_the_server_any_more() {
    let signed = proof(7, &heads(5), 2, &key(1)).checkpoint;
    assert!(signed.is_signed_by(&public(1)[0]) && !signed.is_signed_by(&public(2)[0]));
    assert!(signed.as_str().starts_with("server/checkpoints\n5\n"), "{}", signed.as_str());
    for at in 0..signed.as_str().len() {
        for bit in 0..8 {
            let mut bytes = signed.as_str().as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let read = SignedCheckpoint::parse(&bytes);
            assert!(!read.is_ok_and(|read| read.is_signed_by(&public(1)[0])), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_witness_may_sign_below_and_changes_nothing() {
    use base64ct::Encoding as _;
    let signed = proof(7, &heads(5), 2, &key(1)).checkpoint;
    let witnessed =
        format!("{}\u{2014} witness.example {}\n", signed.as_str(), base64ct::Base64::encode_string(&[9; 76]));
    assert!(SignedCheckpoint::parse(witnessed.as_bytes()).unwrap().is_signed_by(&public(1)[0]));
}

proptest! {
    #[test]
    fn every_leaf_of_every_tree_is_proven_in_its_place_and_in_no_other(count in 1_usize..70, at in any::<prop::sample::Index>(), other in 0_u64..80) {
        let heads = heads(count);
        let index = at.index(count);
        let one = proof(1, &heads, index, &key(1));
        prop_assert_eq!(one.holds(&public(1)), Ok(()));
        prop_assert_eq!(&HeadProof::parse(one.text().as_bytes()).unwrap(), &one);
        if other != index as u64 {
            let elsewhere = HeadProof { index: other, ..one.clone() };
            prop_assert_eq!(elsewhere.holds(&public(1)), Err(ProofError::Path));
        }
        let mut longer = one.clone();
        longer.path.push(Hash::ZERO);
        prop_assert_eq!(longer.holds(&public(1)), Err(ProofError::Path));
        if !one.path.is_empty() {
            let shorter = HeadProof { path: one.path[1..].to_vec(), ..one.clone() };
            prop_assert_eq!(shorter.holds(&public(1)), Err(ProofError::Path));
        }
        let another = HeadProof { head: LedgerHead { seq: 4711, ..one.head.clone() }, ..one };
        prop_assert_eq!(another.holds(&public(1)), Err(ProofError::Path));
    }

    #[test]
    fn whatever_comes_as_a_note_or_a_proof_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = SignedCheckpoint::parse(&bytes);
        let _ = HeadProof::parse(&bytes);
    }
}

#[test]
fn between_checkpoints_no_ledger_goes_back_or_becomes_another() {
    let before = heads(4);
    let with = |change: fn(&mut LedgerHead)| {
        let mut after = before.clone();
        change(&mut after[2]);
        let mut kept = Kept::by(public(1));
        kept.add(&proof(5, &before, 2, &key(1))).unwrap();
        kept.add(&proof(6, &after, 2, &key(1))).map_err(|bad| bad.to_string())
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|head| (head.seq, head.hash) = (9, Hash::ZERO)), Ok(()));
    assert!(with(|head| head.seq = 2).unwrap_err().contains("stood at record 3 in checkpoint 5, and at record 2"));
    assert!(with(|head| head.hash = Hash::ZERO).unwrap_err().contains("record 3 of ledger"));
}

#[test]
fn two_checkpoints_of_one_number_are_told_of_and_a_kept_note_counts_by_a_proof_alone() {
    let mut kept = Kept::by(public(1));
    let all = heads(4);
    kept.add_note(&proof(5, &all, 0, &key(1)).checkpoint).unwrap();
    assert_eq!(kept.unproven(&all[2].ledger), [5]);
    let other = proof(5, &all[..3], 0, &key(1));
    assert!(matches!(kept.add(&other), Err(BadProof::TwoCheckpoints(5))));
    assert!(matches!(kept.add(&proof(5, &all, 2, &key(2))), Err(BadProof::Proof(ProofError::Signature))));
    kept.add(&proof(5, &all, 2, &key(1))).unwrap();
    assert_eq!((kept.unproven(&all[2].ledger), kept.count()), (vec![], (1, 1)));
    assert_eq!(kept.heads().collect::<Vec<_>>(), [all[2].clone()]);
}
