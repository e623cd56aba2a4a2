//! Armored SSHSIG: read strictly, so that a signature has one form that holds, and stock tools say the same as we do.

use base64ct::{Base64, Encoding as _};
use ssh_key::{Algorithm, PublicKey, SshSig};

/// Base64 characters in a line of armour.
const WIDTH: usize = 70;
/// What follows a security device's signature proper: one byte of flags and four of its counter.
const DEVICE_TRAILER: usize = 5;

/// Reads an armored SSHSIG as `ssh-keygen -Y sign` writes it, and in no other way.
///
/// # Errors
/// What is no SSHSIG, or is one written otherwise: the library alone takes any version up to 1, a reserved field with
/// anything in it, and wrong lengths of inner fields, which ssh-keygen refuses or never writes.
pub fn read_armored(armored: &str) -> Result<SshSig, ssh_key::Error> {
    let signature = SshSig::from_pem(armored)?;
    let strict = signature.version() == SshSig::VERSION
        && signature.reserved().is_empty()
        && write_armored(&signature)? == armored;
    if strict { Ok(signature) } else { Err(ssh_key::Error::FormatEncoding) }
}

/// Writes an SSHSIG as `ssh-keygen -Y sign` does. [`SshSig::to_pem`] of ssh-key 0.6 writes the signature of a security
/// device with an ECDSA key as nobody can read it: it counts flags and counter into the signature proper.
///
/// # Errors
/// A key that cannot be written, or parts longer than 4 GiB.
pub fn write_armored(signature: &SshSig) -> Result<String, ssh_key::Error> {
    let inner = signature.signature();
    let device = matches!(inner.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let bytes = signature.signature_bytes();
    let trailer = if device { DEVICE_TRAILER } else { 0 };
    let end = bytes.len().checked_sub(trailer).ok_or(ssh_key::Error::FormatEncoding)?;
    let mut proper = Vec::new();
    string(&mut proper, inner.algorithm().as_str().as_bytes())?;
    string(&mut proper, &bytes[..end])?;
    proper.extend_from_slice(&bytes[end..]);

    let mut blob = b"SSHSIG".to_vec();
    blob.extend_from_slice(&signature.version().to_be_bytes());
    string(&mut blob, &PublicKey::from(signature.public_key().clone()).to_bytes()?)?;
    string(&mut blob, signature.namespace().as_bytes())?;
    string(&mut blob, signature.reserved())?;
    string(&mut blob, signature.hash_alg().as_str().as_bytes())?;
    string(&mut blob, &proper)?;

    let base64 = Base64::encode_string(&blob);
    let mut armored = String::with_capacity(base64.len() + base64.len() / WIDTH + 64);
    armored.push_str("-----BEGIN SSH SIGNATURE-----\n");
    for line in base64.as_bytes().chunks(WIDTH) {
        armored.extend(line.iter().copied().map(char::from));
        armored.push('\n');
    }
    armored.push_str("-----END SSH SIGNATURE-----\n");
    Ok(armored)
}

/// A string as SSH writes one: its length, then its bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ssh_key::Error> {
    let length = u32::try_from(bytes.len()).map_err(|_| ssh_key::Error::FormatEncoding)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Whether an armored SSHSIG is this key's, in this namespace, over exactly this message. Only ed25519 keys sign what is
/// asked about here: records, receipts, reviews. What other keys ssh-key can verify depends on the features that other
/// crates turn on.
///
/// # Errors
/// It is not, or it is not written as [`read_armored`] asks, or the key is of another kind.
pub fn verify_armored(key: &PublicKey, namespace: &str, armored: &str, message: &[u8]) -> Result<(), ssh_key::Error> {
    match key.algorithm() {
        Algorithm::Ed25519 => key.verify(namespace, message, &read_armored(armored)?),
        algorithm => Err(ssh_key::Error::AlgorithmUnsupported { algorithm }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

    use super::*;

    #[test]
    fn no_flipped_bit_leaves_a_signature_that_holds() {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
        let armored = key.sign("test", HashAlg::Sha512, b"message").unwrap().to_pem(LineEnding::LF).unwrap();
        let holds = |text: &str| verify_armored(key.public_key(), "test", text, b"message").is_ok();
        assert!(holds(&armored));
        for (at, bit) in (0..armored.len()).flat_map(|at| (0..7).map(move |bit| (at, bit))) {
            let mut bytes = armored.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let text = String::from_utf8(bytes).unwrap();
            assert!(!holds(&text), "bit {bit} of byte {at}: {text}");
        }
        for other in [armored.replace('\n', "\r\n"), armored.trim_end().to_owned(), format!("{armored}\n")] {
            assert!(!holds(&other), "{other:?}");
        }
    }

    #[test]
    fn only_ed25519_keys_sign_whatever_ssh_key_could_verify() {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            assert!(Command::new("ssh-keygen").args(args).current_dir(dir.path()).status().unwrap().success());
        };
        fs::write(dir.path().join("message"), "message").unwrap();
        for (kind, holds) in [("ed25519", true), ("ecdsa", false), ("rsa", false)] {
            run(&["-q", "-t", kind, "-N", "", "-f", kind]);
            run(&["-q", "-Y", "sign", "-n", "test", "-f", kind, "message"]);
            let armored = fs::read_to_string(dir.path().join("message.sig")).unwrap();
            fs::remove_file(dir.path().join("message.sig")).unwrap();
            let key = PublicKey::read_openssh_file(&dir.path().join(kind).with_extension("pub")).unwrap();
            assert!(read_armored(&armored).is_ok());
            assert_eq!(verify_armored(&key, "test", &armored, b"message").is_ok(), holds, "{kind}");
        }
    }
}
