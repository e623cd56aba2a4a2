//! One ed25519 key made ready for checking the signatures of a great many records read [`InPlace`].
//!
//! It says what [`Record::is_signed_by`](crate::Record::is_signed_by) says. A signature that is not laid out as
//! `ssh-keygen` and this library lay it out is left to that.

use std::{fmt, sync::Arc};

use base64ct::{Base64, Encoding};
use curve25519_dalek::{
    Scalar, constants::ED25519_BASEPOINT_TABLE, edwards::EdwardsBasepointTable, traits::BasepointTable as _,
};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha512};
use ssh_key::PublicKey;

use crate::{InPlace, line::NAMESPACE};

/// The armour as it stands in a record: each newline is `\n` in JSON, two characters.
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\\n";
const END: &str = "\\n-----END SSH SIGNATURE-----\\n";
/// Base64 characters of a line of armour.
const WIDTH: usize = 70;
/// Bytes of an ed25519 signature in an SSHSIG over SHA-512 with our namespace, and as base64.
const BLOB: usize = 187;
const BLOB_BASE64: usize = 252;
/// Bytes of the signature proper.
const SIGNATURE: usize = 64;

/// All that is signed before the digest, with the length of each part: the namespace, nothing, the hash's name.
const BEFORE_DIGEST: &[u8; 45] = b"SSHSIG\0\0\0\x11ssh-access-record\0\0\0\0\0\0\0\x06sha512\0\0\0\x40";
const SIGNED_DATA: usize = BEFORE_DIGEST.len() + 64;

/// A key that signs records.
#[derive(Clone)]
pub struct Signatory {
    public: PublicKey,
    key: VerifyingKey,
    /// Multiples of the key's point with its sign changed: 30 KiB.
    table: Option<Arc<EdwardsBasepointTable>>,
    /// All of the SSHSIG before the signature proper: the same for each signature by this key.
    before: [u8; BLOB - SIGNATURE],
}

impl fmt::Debug for Signatory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signatory").field(&self.public).finish()
    }
}

impl Signatory {
    /// Makes an ed25519 key ready; none for any other key.
    #[must_use]
    pub fn new(public: &PublicKey) -> Option<Self> {
        let bytes = public.key_data().ed25519()?.0;
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        let mut blob = Vec::with_capacity(BLOB);
        blob.extend_from_slice(b"SSHSIG");
        blob.extend_from_slice(&1u32.to_be_bytes());
        let mut public_blob = Vec::new();
        string(&mut public_blob, b"ssh-ed25519");
        string(&mut public_blob, &bytes);
        string(&mut blob, &public_blob);
        string(&mut blob, NAMESPACE.as_bytes());
        string(&mut blob, b"");
        string(&mut blob, b"sha512");
        // The length of what follows: the algorithm's name and 64 bytes, each with its own length.
        blob.extend_from_slice(&83u32.to_be_bytes());
        string(&mut blob, b"ssh-ed25519");
        blob.extend_from_slice(&64u32.to_be_bytes());
        let public = PublicKey::from(public.key_data().clone());
        Some(Self { public, key, table: None, before: blob.try_into().ok()? })
    }

    /// Makes it ready for some hundred records and more. That takes as long as checking a hundred, of which each then takes two
    /// thirds of the time.
    #[must_use]
    pub fn with_table(self) -> Self {
        let table = EdwardsBasepointTable::create(&-self.key.to_edwards());
        Self { table: Some(Arc::new(table)), ..self }
    }

    /// The key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Whether this record's signature is this key's, over exactly its bytes.
    #[must_use]
    pub fn signed(&self, record: &InPlace<'_>) -> bool {
        match self.laid_out(record.armored()) {
            Some(signature) => self.holds(&signed_data(&record.message_digest()), &signature),
            None => record.to_record().is_signed_by(&self.public),
        }
    }

    /// What `VerifyingKey::verify` says, of any key and signature: with the table it computes the same point, R = sB - kA, and
    /// compares the same bytes. So a signature is this key's here exactly where it is there and in `ssh-keygen`. (Checking many
    /// in one equation is not the same: it takes some that differ by a point of small order.)
    fn holds(&self, message: &[u8], signature: &Signature) -> bool {
        let Some(table) = &self.table else { return self.key.verify(message, signature).is_ok() };
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(*signature.s_bytes())) else { return false };
        let hash = Sha512::new().chain_update(signature.r_bytes()).chain_update(self.key.as_bytes());
        let k = Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into());
        let r = ED25519_BASEPOINT_TABLE.mul_base(&s) + table.mul_base(&k);
        r.compress().as_bytes() == signature.r_bytes()
    }

    /// The signature proper, from armour laid out as usual, in an SSHSIG that names this key.
    fn laid_out(&self, armored: &str) -> Option<Signature> {
        let lines = armored.strip_prefix(BEGIN)?.strip_suffix(END)?.as_bytes();
        let mut base64 = [0; BLOB_BASE64];
        let mut rest = lines;
        for (n, line) in base64.chunks_mut(WIDTH).enumerate() {
            if n > 0 {
                rest = rest.strip_prefix(b"\\n")?;
            }
            line.copy_from_slice(rest.get(..line.len())?);
            rest = &rest[line.len()..];
        }
        if !rest.is_empty() {
            return None;
        }
        // A little longer than the blob: the decoder wants room for the padding.
        let mut blob = [0; BLOB + 2];
        let blob = Base64::decode(base64, &mut blob).ok()?;
        let signature = blob.strip_prefix(&self.before)?;
        Some(Signature::from_bytes(signature.try_into().ok()?))
    }
}

/// A string as SSH writes one: its length, then its bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("a few dozen bytes").to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What is signed, PROTOCOL.sshsig of OpenSSH: the namespace, the hash's name, and the hash of the message.
fn signed_data(digest: &[u8; 64]) -> [u8; SIGNED_DATA] {
    let mut out = [0; SIGNED_DATA];
    let (before, place) = out.split_at_mut(SIGNED_DATA - digest.len());
    before.copy_from_slice(BEFORE_DIGEST);
    place.copy_from_slice(digest);
    out
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;
    use ssh_key::{
        PrivateKey,
        private::{Ed25519Keypair, KeypairData},
        public::{Ed25519PublicKey, KeyData},
    };

    use super::*;
    use crate::{ArtifactType, Draft, Hash, Position, Record, seal};

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    fn line() -> String {
        let at = Position {
            ledger: &"0123456789abcdef0123456789abcdef".parse().unwrap(),
            seq: 7,
            host: &"i-0123".parse().unwrap(),
            stack: &"web".parse().unwrap(),
            boot: "b",
            time: jiff::Timestamp::UNIX_EPOCH,
            prev: Hash::ZERO,
        };
        let draft = Draft::new(ArtifactType::SessionOpened, "frank logged in");
        seal(&draft.bodies().unwrap()[0], &at, &key(7)).unwrap().as_str().trim_end().to_owned()
    }

    #[test]
    fn a_record_is_signed_by_its_key_alone_and_the_fast_way_is_taken() {
        let line = line();
        let record = InPlace::parse(line.as_bytes()).unwrap();
        let (own, other) = (Signatory::new(key(7).public_key()).unwrap(), Signatory::new(key(8).public_key()).unwrap());
        assert!(own.laid_out(record.armored()).is_some());
        assert!(own.signed(&record) && own.with_table().signed(&record));
        assert!(!other.signed(&record) && !other.with_table().signed(&record));
    }

    #[test]
    fn armour_laid_out_otherwise_is_judged_by_the_careful_reader() {
        let line = line();
        let at = line.find("U1NI").unwrap() + 10;
        for put in ["\\n", "\\n\\n", " ", "\\r\\n"] {
            let other = format!("{}{put}{}", &line[..at], &line[at..]);
            let Ok(record) = InPlace::parse(other.as_bytes()) else { continue };
            let signatory = Signatory::new(key(7).public_key()).unwrap();
            assert!(signatory.laid_out(record.armored()).is_none());
            assert_eq!(signatory.signed(&record), record.to_record().is_signed_by(key(7).public_key()), "{put}");
        }
    }

    /// Encodings of the points of small order, those that no signer would write included: y of 1 + p, p, and a sign where x is 0.
    fn small_order() -> Vec<[u8; 32]> {
        let mut all: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        for first in [0xed, 0xee] {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (first, 0x7f);
            all.push(y);
        }
        let with_sign: Vec<_> = all
            .iter()
            .map(|y| {
                let mut y = *y;
                y[31] ^= 0x80;
                y
            })
            .collect();
        all.extend(with_sign);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// This scalar times the base point, and that plus each point of small order.
    fn shifted(scalar: Scalar) -> impl Iterator<Item = [u8; 32]> {
        EIGHT_TORSION.iter().map(move |point| (ED25519_BASEPOINT_TABLE.mul_base(&scalar) + point).compress().to_bytes())
    }

    /// The same number, not reduced.
    fn plus_order(s: [u8; 32]) -> [u8; 32] {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0;
        std::array::from_fn(|n| {
            let sum = u16::from(s[n]) + u16::from(ORDER[n]) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        })
    }

    #[test]
    fn odd_keys_and_signatures_are_judged_with_the_table_as_without() {
        let (secret, nonce) = (Scalar::from(0xdead_beef_u64), Scalar::from(0xcafe_f00d_u64));
        let with = |scalar, points: Vec<[u8; 32]>| points.into_iter().map(move |point| (scalar, point));
        let all = |scalar| with(scalar, shifted(scalar).collect()).chain(with(Scalar::ZERO, small_order()));
        let mut said = [[0; 2]; 2];
        for (a, key) in all(secret) {
            let public = PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(key)));
            // Some have no point.
            let Some(plain) = Signatory::new(&public) else { continue };
            let fast = plain.clone().with_table();
            for ((r, point), message) in all(nonce).flat_map(|of| (0..9u8).map(move |n| (of, [n; 20]))) {
                let hash = Sha512::new().chain_update(point).chain_update(key).chain_update(message).finalize();
                let s = (r + Scalar::from_bytes_mod_order_wide(&hash.into()) * a).to_bytes();
                for (n, s) in [s, plus_order(s)].into_iter().enumerate() {
                    let signature = Signature::from_components(point, s);
                    let holds = plain.holds(&message, &signature);
                    assert_eq!(fast.holds(&message, &signature), holds, "{key:x?} {point:x?} {message:?} {s:x?}");
                    said[n][usize::from(holds)] += 1;
                }
            }
        }
        assert!(said[0][0] > 1000 && said[0][1] > 300, "of both there are many: {said:?}");
        assert_eq!(said[1][1], 0, "what is not reduced never holds");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_judged_as_the_careful_reader_does(at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f) {
            let mut bytes = line().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let (Ok(fast), Ok(careful)) = (InPlace::parse(&bytes), Record::parse(&bytes)) {
                let key = key(7);
                let signatory = Signatory::new(key.public_key()).unwrap();
                prop_assert_eq!(signatory.signed(&fast), careful.is_signed_by(key.public_key()));
                prop_assert_eq!(signatory.with_table().signed(&fast), careful.is_signed_by(key.public_key()));
            }
        }
    }
}
