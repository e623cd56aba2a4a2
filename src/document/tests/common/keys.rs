//! Keys that sign: plain ones, and security devices that can be told what is done to them.

use document::{Key, Namespace};
use p256::ecdsa::signature::Signer as _;
use record::Fingerprint;
use ssh_key::{
    Algorithm, HashAlg, PrivateKey, Signature, SshSig,
    private::Ed25519Keypair,
    public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, SkEcdsaSha2NistP256, SkEd25519},
};

pub const TOUCHED: u8 = 1;
pub const UNLOCKED: u8 = 4;

/// Something that signs.
#[derive(Debug, Clone)]
pub struct Signing {
    secret: Secret,
    application: String,
    pub flags: u8,
    pub counter: u32,
}

#[derive(Debug, Clone)]
enum Secret {
    Plain(Ed25519Keypair),
    Device(Ed25519Keypair),
    P256(Box<p256::ecdsa::SigningKey>),
}

impl Signing {
    fn new(secret: Secret) -> Self {
        Self { secret, application: "ssh:".to_owned(), flags: TOUCHED | UNLOCKED, counter: 7 }
    }

    /// A plain ed25519 key.
    pub fn plain(seed: u8) -> Self {
        Self::new(Secret::Plain(Ed25519Keypair::from_seed(&[seed; 32])))
    }

    /// An ed25519 key in a device.
    pub fn device(seed: u8) -> Self {
        Self::new(Secret::Device(Ed25519Keypair::from_seed(&[seed; 32])))
    }

    /// A P-256 key in a device.
    pub fn p256_device(seed: u8) -> Self {
        Self::new(Secret::P256(Box::new(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap())))
    }

    /// The same key while this and no more is done to its device.
    pub fn with_flags(&self, flags: u8) -> Self {
        Self { flags, ..self.clone() }
    }

    /// The same numbers as a key for another application.
    pub fn with_application(&self, application: &str) -> Self {
        Self { application: application.to_owned(), ..self.clone() }
    }

    pub fn data(&self) -> KeyData {
        match &self.secret {
            Secret::Plain(pair) => KeyData::Ed25519(pair.public),
            Secret::Device(pair) => {
                KeyData::SkEd25519(SkEd25519::new(Ed25519PublicKey(pair.public.0), &self.application))
            }
            Secret::P256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let EcdsaPublicKey::NistP256(point) = EcdsaPublicKey::from_sec1_bytes(point.as_bytes()).unwrap() else {
                    unreachable!("a point of P-256")
                };
                KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(point, &self.application))
            }
        }
    }

    pub fn key(&self) -> Key {
        Key::from_data(&self.data()).unwrap()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.key().fingerprint().clone()
    }

    /// An armored SSHSIG as ssh-keygen would make it.
    pub fn sign(&self, namespace: Namespace, line: &str) -> String {
        self.sign_in(namespace.as_str(), HashAlg::Sha512, line)
    }

    /// The same with a free choice of what ssh-keygen lets one choose.
    pub fn sign_in(&self, namespace: &str, hash: HashAlg, line: &str) -> String {
        let data = SshSig::signed_data(namespace, hash, line.as_bytes()).unwrap();
        let signature = self.sign_data(&data);
        record::write_armored(&SshSig::new(self.data(), namespace, hash, signature).unwrap()).unwrap()
    }

    fn sign_data(&self, data: &[u8]) -> Signature {
        let trailer = [&[self.flags][..], &self.counter.to_be_bytes()].concat();
        let digest = |bytes: &[u8]| HashAlg::Sha256.digest(bytes);
        let asked = [digest(self.application.as_bytes()), trailer.clone(), digest(data)].concat();
        match &self.secret {
            Secret::Plain(pair) => PrivateKey::from(pair.clone()).try_sign(data).unwrap(),
            Secret::Device(pair) => {
                let signature: Signature = PrivateKey::from(pair.clone()).try_sign(&asked).unwrap();
                Signature::new(Algorithm::SkEd25519, [signature.as_bytes(), &trailer].concat()).unwrap()
            }
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(&asked).unwrap();
                let signature = Signature::try_from(signature).unwrap();
                Signature::new(Algorithm::SkEcdsaSha2NistP256, [signature.as_bytes(), &trailer].concat()).unwrap()
            }
        }
    }
}
