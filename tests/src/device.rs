//! Security devices (FIDO) of the tests' own: an ssh-agent for each, with one key whose signatures say what the test wants,
//! touched or not, unlocked or not.
//!
//! A real device decides that by itself; sshd believes the flags that the key has signed (PROTOCOL.u2f of OpenSSH). The
//! agent speaks draft-miller-ssh-agent as far as ssh(1) asks it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    thread,
};

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};

use crate::client::Key;

/// Somebody has touched the device.
const TOUCHED: u8 = 0x01;
/// The device was unlocked by PIN or fingerprint.
const UNLOCKED: u8 = 0x04;
/// What ssh(1) names the key for.
const APPLICATION: &[u8] = b"ssh:";
/// The longest message that an agent takes; ssh's own bound is 256 KiB.
const MAX_MESSAGE: usize = 256 * 1024;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;

/// The private half of a device's key.
#[derive(Debug)]
enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

/// A security device with one key. Its agent ends with the process.
#[derive(Debug)]
pub struct Device {
    key: Key,
    socket: PathBuf,
    flags: Arc<AtomicU8>,
}

impl Device {
    /// A device with a key of the type `ed25519-sk` or `ecdsa-sk` for NAME, plugged in: whoever uses it touches it and types
    /// their PIN.
    ///
    /// # Panics
    /// For another type, and when its agent cannot be started in `dir`.
    #[must_use]
    pub fn plug_in(dir: &Path, name: &str, kind: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = dir.join(format!("device-{}-{name}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut seed = [0; 32];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed)).expect("random bytes");
        let secret = match kind {
            "ed25519-sk" => Secret::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed))),
            "ecdsa-sk" => Secret::P256(Box::new(p256::ecdsa::SigningKey::from_slice(&seed).expect("a number below n"))),
            other => panic!("{other} is no type of key of a security device"),
        };
        let blob = secret.public();
        let public = format!("{} {} {name}@laptop", secret.name(), Base64::encode_string(&blob));
        let (file, socket) = (path.with_extension("pub"), path.with_extension("agent"));
        fs::write(&file, format!("{public}\n")).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let flags = Arc::new(AtomicU8::new(TOUCHED | UNLOCKED));
        let listener = UnixListener::bind(&socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        let agent = Arc::new(Agent { secret, blob, flags: Arc::clone(&flags), counter: AtomicU32::new(1) });
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let agent = Arc::clone(&agent);
                // A client that hangs up ends its own connection.
                thread::spawn(move || agent.serve(connection));
            }
        });
        Self { key: Key::of_device(file, public), socket, flags }
    }

    /// Its key. There is no private half outside of the device.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where its agent listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What is done to it from now on, whenever it is used.
    pub fn is(&self, touched: bool, unlocked: bool) -> &Self {
        let flags = (u8::from(touched) * TOUCHED) | (u8::from(unlocked) * UNLOCKED);
        self.flags.store(flags, Ordering::SeqCst);
        self
    }
}

struct Agent {
    secret: Secret,
    blob: Vec<u8>,
    flags: Arc<AtomicU8>,
    counter: AtomicU32,
}

impl Agent {
    fn serve(&self, mut connection: UnixStream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            connection.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if !(1..=MAX_MESSAGE).contains(&length) {
                return Ok(());
            }
            let mut message = vec![0; length];
            connection.read_exact(&mut message)?;
            connection.write_all(&string(&self.answer(&message)))?;
        }
    }

    fn answer(&self, message: &[u8]) -> Vec<u8> {
        match message.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => {
                [&[IDENTITIES_ANSWER][..], &1_u32.to_be_bytes(), &string(&self.blob), &string(b"device")].concat()
            }
            Some((&SIGN_REQUEST, rest)) => match read_string(rest) {
                Some((blob, rest)) if blob == self.blob => match read_string(rest) {
                    Some((data, _)) => [&[SIGN_RESPONSE][..], &string(&self.sign(data))].concat(),
                    None => vec![FAILURE],
                },
                _ => vec![FAILURE],
            },
            _ => vec![FAILURE],
        }
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        let flags = [self.flags.load(Ordering::SeqCst)];
        let counter = self.counter.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let (application, message) = (Sha256::digest(APPLICATION), Sha256::digest(data));
        let signed = [application.as_slice(), &flags, &counter, message.as_slice()].concat();
        [&string(self.secret.name().as_bytes()), &string(&self.secret.sign(&signed)), &flags[..], &counter].concat()
    }
}

impl Secret {
    fn name(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Self::P256(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    fn public(&self) -> Vec<u8> {
        let key = match self {
            Self::Ed25519(key) => string(key.verifying_key().as_bytes()),
            Self::P256(key) => {
                [string(b"nistp256"), string(key.verifying_key().to_encoded_point(false).as_bytes())].concat()
            }
        };
        [string(self.name().as_bytes()), key, string(APPLICATION)].concat()
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.sign(data).to_bytes().to_vec(),
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(data);
                let (r, s) = signature.split_bytes();
                [number(&r), number(&s)].concat()
            }
        }
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short message");
    [&length.to_be_bytes(), bytes].concat()
}

/// A positive number as SSH writes it: without leading zeros, but for the one that keeps it positive.
fn number(bytes: &[u8]) -> Vec<u8> {
    let digits = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..];
    match digits.first() {
        Some(first) if *first >= 0x80 => string(&[&[0], digits].concat()),
        _ => string(digits),
    }
}

fn read_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}
