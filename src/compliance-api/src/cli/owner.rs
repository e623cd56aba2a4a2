//! Root who makes a token becomes the user whose database it is: what root leaves there, the server could not open.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

/// Why it did not come to that.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The state directory.
    #[error("cannot look at {path}")]
    Look {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The change of user.
    #[error("cannot become the owner of {path} (uid {uid})")]
    Become {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// What the kernel said.
        source: nix::Error,
    },
}

/// As root: becomes the owner of the directory, groups included. As anybody else, or where there is none: nothing.
pub(super) fn become_owner_of(state: &Path) -> Result<(), Error> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let meta = match fs::metadata(state) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Look { path: state.to_owned(), source }),
    };
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    if uid.is_root() {
        return Ok(());
    }
    setgroups(&[gid]).and_then(|()| setgid(gid)).and_then(|()| setuid(uid)).map_err(|source| Error::Become {
        path: state.to_owned(),
        uid: uid.as_raw(),
        source,
    })
}
