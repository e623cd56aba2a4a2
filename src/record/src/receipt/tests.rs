//! Receipts made whole, and then touched in every way we can think of.

use std::process::Command;

use proptest::prelude::*;
use ssh_key::private::Ed25519Keypair;

use super::*;
use crate::NAMESPACE;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn receipt() -> Receipt {
    Receipt {
        ledger: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        seq: 42,
        hash: Hash::of(b"a line\n"),
        received: "2026-05-26T12:00:00.5Z".parse().unwrap(),
        signer: Some(format!("SHA256:{}", "s".repeat(43)).parse().unwrap()),
    }
}

fn sealed() -> SignedReceipt {
    receipt().seal(&key(1)).unwrap()
}

#[test]
fn a_receipt_reads_back_as_it_was_sealed_and_is_its_keys_alone() {
    let sealed = sealed();
    assert_eq!(sealed.receipt(), &receipt());
    assert!(sealed.is_signed_by(key(1).public_key()));
    assert!(!sealed.is_signed_by(key(2).public_key()));
    assert_eq!(sealed.signer().unwrap().key_data(), key(1).public_key().key_data());
    assert!(!sealed.as_str().ends_with('\n'));
    for line in [sealed.as_str().to_owned(), format!("{}\n", sealed.as_str())] {
        assert_eq!(SignedReceipt::parse(line.as_bytes()).unwrap(), sealed);
    }
}

#[test]
fn what_says_something_else_is_not_signed() {
    let good = sealed();
    for (from, to) in [
        ("\"seq\":42", "\"seq\":43"),
        ("0001020304", "0001020305"),
        ("12:00:00.500000", "12:00:00.500001"),
        ("SHA256:s", "SHA256:S"),
        (&receipt().hash.to_string()[..8], "00000000"),
    ] {
        let touched = good.as_str().replacen(from, to, 1);
        assert_ne!(touched, good.as_str(), "{from}");
        let touched = SignedReceipt::parse(touched.as_bytes()).unwrap();
        assert!(!touched.is_signed_by(key(1).public_key()), "{from}");
    }
}

#[test]
fn a_receipt_over_a_chain_of_the_servers_own_names_no_signer() {
    let receipt = Receipt { signer: None, ..receipt() };
    let sealed = receipt.seal(&key(1)).unwrap();
    assert!(!sealed.as_str().contains("signer") && sealed.is_signed_by(key(1).public_key()));
    assert_eq!(SignedReceipt::parse(sealed.as_str().as_bytes()).unwrap().receipt(), &receipt);
    let named = sealed.as_str().replacen(",\"v\":1", &format!(",\"signer\":\"SHA256:{}\",\"v\":1", "s".repeat(43)), 1);
    let named = SignedReceipt::parse(named.as_bytes()).unwrap();
    assert!(!named.is_signed_by(key(1).public_key()), "nobody adds one unseen");
}

#[test]
fn a_records_signature_is_no_receipts() {
    let key = key(1);
    let mut fields = receipt().fields();
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, canonical(&fields).as_bytes()).unwrap();
    fields.insert("signature".to_owned(), signature.to_pem(LineEnding::LF).unwrap().into());
    let line = canonical(&fields);
    assert!(!SignedReceipt::parse(line.as_bytes()).unwrap().is_signed_by(key.public_key()));
}

#[test]
fn there_is_one_way_to_write_a_receipt() {
    let good = sealed().as_str().to_owned();
    let signature = format!("\"signature\":{}", Value::from(sealed().signature));
    for (from, to, want) in [
        (":", ": ", "canonical"),
        ("{", "{\"v\":1,", "canonical"),
        ("\"seq\":42", "\"seq\":42.0", "canonical"),
        ("\"v\":1", "\"v\":1,\"w\":1", "a field that no receipt has"),
        ("\"v\":1", "\"v\":2", "\"v\""),
        ("\"seq\":42", "\"seq\":0", "\"seq\""),
        ("\"seq\":42", "\"seq\":9007199254740992", "\"seq\""),
        ("\"seq\":42", "\"seq\":-1", "\"seq\""),
        ("\"seq\":42", "\"seq\":\"42\"", "\"seq\""),
        ("00.500000Z", "00.5Z", "\"received\""),
        ("00.500000Z", "00.500000+00:00", "\"received\""),
        ("0001020304", "000102030A", "\"ledger\""),
        (&receipt().hash.to_string()[..2], "G0", "\"hash\""),
        ("\"SHA256:s", "\"SHA256:", "\"signer\""),
        ("\"SHA256:", "\"MD5:", "\"signer\""),
        (&signature, "\"signature\":null", "\"signature\""),
        ("}", "", "not a JSON object"),
        ("}", "}{}", "not a JSON object"),
    ] {
        let line = good.replacen(from, to, 1);
        assert_ne!(line, good, "{from}");
        let why = SignedReceipt::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(why.contains(want), "{from} to {to}: {why}");
    }
    let long = good.replacen("\"v\":1", &format!("\"v\":\"{}\"", "1".repeat(MAX_RECEIPT)), 1);
    assert!(matches!(SignedReceipt::parse(long.as_bytes()), Err(ReceiptError::TooLong(_))));
}

#[test]
fn only_ed25519_signs_and_only_records_are_receipted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    let other = PrivateKey::read_openssh_file(&path).unwrap();
    assert!(matches!(receipt().seal(&other), Err(ReceiptError::Algorithm(_))));
    for seq in [0, MAX_INTEGER + 1] {
        assert!(matches!(Receipt { seq, ..receipt() }.seal(&key(1)), Err(ReceiptError::Seq(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_reads_back_and_fits(
        ledger in "[0-9a-f]{32}", seq in 1..=MAX_INTEGER, line: Vec<u8>, micros in 0_i64..4_000_000_000_000_000,
        signed: bool
    ) {
        let receipt = Receipt {
            ledger: ledger.parse().unwrap(),
            seq,
            hash: Hash::of(&line),
            received: Timestamp::from_microsecond(micros).unwrap(),
            signer: signed.then(|| super::tests::receipt().signer).flatten(),
        };
        let sealed = receipt.seal(&key(3)).unwrap();
        prop_assert!(sealed.as_str().len() <= MAX_RECEIPT);
        prop_assert_eq!(sealed.receipt(), &receipt);
        prop_assert!(sealed.is_signed_by(key(3).public_key()));
    }

    #[test]
    fn no_bytes_and_no_flipped_bit_are_ever_taken_for_a_receipt(bytes: Vec<u8>, at: usize, bit in 0..8_u32) {
        prop_assert!(SignedReceipt::parse(&bytes).is_err());
        let mut touched = sealed().as_str().as_bytes().to_vec();
        let at = at % touched.len();
        touched[at] ^= 1_u8 << bit;
        let believed = SignedReceipt::parse(&touched).is_ok_and(|r| r.is_signed_by(key(1).public_key()));
        prop_assert!(!believed, "bit {bit} of byte {at}");
    }
}
