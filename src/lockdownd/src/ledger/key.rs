//! The signing key: made at first start, read at each; ed25519 in OpenSSH's format, and nothing else.

use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

use super::{
    Error,
    files::{self, Paths, Readers},
};

/// Reads the key that is there. Nothing where there is none.
///
/// # Errors
/// A key that is not ed25519, is encrypted or cannot be read is refused, never replaced: somebody put it there.
pub(super) fn load(paths: &Paths) -> Result<Option<PrivateKey>, Error> {
    let path = paths.key();
    let Some(text) = files::read_small(&path)? else { return Ok(None) };
    let refused = |why: String| Error::Key { path: path.clone(), why };
    let key =
        PrivateKey::from_openssh(text.as_bytes()).map_err(|e| refused(format!("it cannot be read as one ({e})")))?;
    if key.algorithm() != Algorithm::Ed25519 {
        return Err(refused(format!("it is of type {}", key.algorithm())));
    }
    if key.is_encrypted() {
        return Err(refused("it is encrypted".to_owned()));
    }
    publish(paths, &key)?;
    Ok(Some(key))
}

/// Makes a new key, private part first: a public part alone would be a promise that nobody can keep.
pub(super) fn make(paths: &Paths, comment: &str) -> Result<PrivateKey, Error> {
    let path = paths.key();
    let failed = |e: ssh_key::Error| Error::Key { path: path.clone(), why: format!("making it failed: {e}") };
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(failed)?;
    key.set_comment(comment);
    files::replace(&path, key.to_openssh(LineEnding::LF).map_err(failed)?.as_bytes(), Readers::Root)?;
    publish(paths, &key)?;
    Ok(key)
}

/// Puts the public part beside it, where it does not say the same already.
fn publish(paths: &Paths, key: &PrivateKey) -> Result<(), Error> {
    let path = paths.public_key();
    let line = public_line(key, true) + "\n";
    if files::read_small(&path)?.as_deref() == Some(line.as_str()) {
        return Ok(());
    }
    files::replace(&path, line.as_bytes(), Readers::All)
}

/// The public key as a line of OpenSSH's format.
pub(super) fn public_line(key: &PrivateKey, comment: bool) -> String {
    let mut public = key.public_key().clone();
    if !comment {
        public.set_comment("");
    }
    public.to_openssh().expect("an ed25519 key can always be written")
}
