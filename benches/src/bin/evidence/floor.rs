//! The floor of ingest: the bare signature checks of the same records, by the fastest well-kept ed25519 library that was
//! measured here, on all processors. Nothing is read, hashed or stored.

use std::{
    thread,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use record::Line;
use ssh_key::{HashAlg, SshSig};

/// One check, ready to be made.
#[derive(Clone)]
pub(crate) struct Check {
    key: VerifyingKey,
    message: Vec<u8>,
    signature: Signature,
}

/// The checks that these lines need, all by `key`.
pub(crate) fn checks(key: &ssh_key::PublicKey, lines: &[Line]) -> Vec<Check> {
    let key = key.key_data().ed25519().expect("an ed25519 key");
    let key = VerifyingKey::from_bytes(&key.0).expect("a key on the curve");
    lines.iter().map(|line| check(key, line)).collect()
}

fn check(key: VerifyingKey, line: &Line) -> Check {
    let mut record: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line.as_str()).expect("a record is JSON");
    let armored = record.remove("signature").expect("a record has a signature");
    let signature = SshSig::from_pem(armored.as_str().expect("a string")).expect("an SSHSIG");
    let canonical = serde_json_canonicalizer::to_vec(&record).expect("a record has a canonical form");
    let message = SshSig::signed_data(record::NAMESPACE, HashAlg::Sha512, &canonical).expect("what was signed");
    let signature = Signature::from_slice(signature.signature_bytes()).expect("64 bytes");
    Check { key, message, signature }
}

/// Makes all checks, shared among all processors.
pub(crate) fn run(checks: &[Check]) -> Duration {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    thread::scope(|scope| {
        for part in checks.chunks(checks.len().div_ceil(workers)) {
            scope.spawn(move || {
                for check in part {
                    check.key.verify(&check.message, &check.signature).expect("a signature that holds");
                }
            });
        }
    });
    start.elapsed()
}
