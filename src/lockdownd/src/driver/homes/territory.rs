//! Which files are to be kept free of keys.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use control::Mode;

use lockdown_host::accounts::AccountName;

use serde::{Deserialize, Serialize};

use super::{Hanging, remote::raw_path};

/// Everything that the homes thread looks after. Exempt accounts are simply not in it, and neither is a file that an
/// exempt account's patterns name too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Territory {
    /// Whether what has to go goes, or is only told.
    pub mode: Mode,
    /// Every account that is not exempt.
    pub homes: Vec<HomeSpec>,
    /// Key files that are not one account's own, because the pattern has neither `%u`, `%U` nor `%h`.
    pub shared: Vec<KeyFilePath>,
}

impl Territory {
    /// Without these homes.
    pub fn leave_out(&mut self, hanging: &[Hanging]) {
        let is_out = |whose: Option<&AccountName>, home: &Path| {
            hanging.iter().any(|out| match &out.whose {
                Some(_) => out.whose.as_ref() == whose,
                None => home.starts_with(&out.path),
            })
        };
        self.homes.retain(|home| !is_out(Some(&home.account), &home.home));
        self.shared.retain(|file| !is_out(None, file.path()));
    }
}

/// How a [`Territory`] is worked out, which takes a while where there are many accounts.
#[derive(Clone)]
pub struct Plot(Arc<dyn Fn() -> Territory + Send + Sync>);

impl Plot {
    /// By this function.
    pub fn new(territory: impl Fn() -> Territory + Send + Sync + 'static) -> Self {
        Self(Arc::new(territory))
    }

    /// Works it out.
    #[must_use]
    pub fn territory(&self) -> Territory {
        (self.0)()
    }
}

impl fmt::Debug for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plot").finish_non_exhaustive()
    }
}

/// One account's part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HomeSpec {
    /// The account.
    pub account: AccountName,
    /// Its uid.
    pub uid: u32,
    /// Its home as passwd has it, absolute. Links on the way to it are followed where root alone can change them;
    /// below it no link is, each is removed.
    #[serde(with = "raw_path")]
    pub home: PathBuf,
    /// Every file from which sshd reads, or could read, its keys.
    pub key_files: Vec<KeyFilePath>,
}

/// The absolute path of a key file, `%`-tokens already expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyFilePath {
    #[serde(with = "raw_path")]
    path: PathBuf,
    is_pattern: bool,
}

impl KeyFilePath {
    /// One file.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self { path, is_pattern: false }
    }

    /// Every file that matches, by glob(7) as OpenSSH 10 does, if the path holds one of `* ? [`; else one file.
    #[must_use]
    pub fn pattern(path: PathBuf) -> Self {
        let is_pattern = is_glob(&path);
        Self { path, is_pattern }
    }

    /// The path or pattern.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it may match several files.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.is_pattern
    }
}

/// Whether a path has a character that means something to glob(7).
pub(super) fn is_glob(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}
