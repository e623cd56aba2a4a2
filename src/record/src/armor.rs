//! Armored SSHSIG: read strictly, so that a signature has one form that holds, and stock tools say the same as we do.

use ssh_key::{LineEnding, PublicKey, SshSig};

/// Reads an armored SSHSIG as `ssh-keygen -Y sign` writes it, and in no other way.
///
/// # Errors
/// What is no SSHSIG, or is one written otherwise: the library alone takes any version up to 1 and wrong lengths of
/// inner fields, which ssh-keygen refuses.
pub fn read_armored(armored: &str) -> Result<SshSig, ssh_key::Error> {
    let signature = SshSig::from_pem(armored)?;
    let strict = signature.version() == SshSig::VERSION && signature.to_pem(LineEnding::LF)? == armored;
    if strict { Ok(signature) } else { Err(ssh_key::Error::FormatEncoding) }
}

/// Whether an armored SSHSIG is this key's, in this namespace, over exactly this message.
///
/// # Errors
/// It is not, or it is not written as [`read_armored`] asks.
pub fn verify_armored(key: &PublicKey, namespace: &str, armored: &str, message: &[u8]) -> Result<(), ssh_key::Error> {
    key.verify(namespace, message, &read_armored(armored)?)
}

#[cfg(test)]
mod tests {
    use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};

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
}
