//! Reading what the last run left on the disk of `/var/lib/lockdownd`, and opening the ledger there.
//!
//! It is done on the disk thread, again and again until it succeeds: a disk that is missing, read-only or does not answer
//! keeps the daemon from giving access and from nothing else.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use lockdown_core::{
    config::{Config, HostName, WhenFull},
    grants::{Grants, Woken},
    machine::documents::DocumentsRead,
    policy::{grant::Grant, time::Now},
};
use lockdown_host::{
    identity::{self, Identity},
    mounts::{self, FSTAB, HOST_MOUNTINFO, MOUNTINFO},
    quarantine::{Intake, QUARANTINE, QuarantineError},
};
use nix::fcntl::{Flock, FlockArg, OFlag};
use record::Stack;

use super::{
    Store,
    owed::{self, OWED},
};
use crate::{
    attempts::{NAME_KEY, names},
    grants::{self, GrantsFile},
    journal::Journal,
    ledger::{self, Keeping, Ledger, Opened, Opening, Paths, Recorded},
};

/// The store of grants.
pub(crate) const GRANTS: &str = "/var/lib/lockdownd/grants.json";
/// The same, as it was last given to the disk, in memory that outlives the daemon.
pub(crate) const GRANTS_COPY: &str = "/run/lockdownd/grants.json";
/// Which grants have ended while the disk has not taken it.
pub(crate) const ENDED: &str = "/run/lockdownd/ended";

/// In the state directory: who has it open.
const LOCK: &str = "lock";
/// The state directory's mode: the shipper's user walks it to the ledger.
const STATE_MODE: u32 = 0o711;

/// What the last run left.
#[derive(Debug)]
pub struct Left {
    /// The grants.
    pub grants: Grants,
    /// What was known of signed documents.
    pub documents: DocumentsRead,
    /// What is to be done about the rest.
    pub found: Found,
}

/// What reading the state brought to light.
#[derive(Debug, Default)]
pub struct Found {
    /// What the last records say.
    pub recorded: Recorded,
    /// What taking them up has found out.
    pub woken: Woken,
    /// Whether the state was another host's and is set aside; these grants of that host are void.
    pub of_another_host: Option<Vec<Grant>>,
    /// Records that were on disk are missing, or do not verify: what has been revoked is not known.
    pub broke: Option<String>,
}

/// Why the state cannot be taken up now.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// fstab(5) has a file system there, and it is not mounted.
    #[error("{} is not mounted: mount {}, or take it out of {FSTAB} if nothing is to be there", .0.display(), .0.display())]
    NotMounted(PathBuf),
    /// It is mounted read-only for this process alone: another one would have it as it is.
    #[error("{} was made writable after the daemon started, which is not seen here", .0.display())]
    Remounted(PathBuf),
    /// The state directory.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another daemon has it: one that was killed, and that the disk does not let go.
    #[error("another lockdownd still has {0} open")]
    InUse(PathBuf),
    /// Which machine this is.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The thread that tells journald.
    #[error("the thread that tells journald cannot be started: {0}")]
    Journal(#[source] io::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The quarantine.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
}

/// What it takes to open it.
#[derive(Debug)]
pub struct Opener {
    paths: Paths,
    name: HostName,
    stack: Stack,
    keeping: Keeping,
    boot_id: String,
}

impl Opener {
    /// As this configuration says.
    #[must_use]
    pub fn new(config: &Config, boot_id: &str) -> Self {
        Self {
            paths: Paths::default(),
            name: config.host.name.clone(),
            stack: config.host.stack.clone(),
            keeping: keeping(config),
            boot_id: boot_id.to_owned(),
        }
    }

    /// Reads the state and opens the ledger.
    ///
    /// # Errors
    /// Nothing was opened, and nothing was begun in its place.
    pub fn open(&self, now: Now) -> Result<(Store, Left), NotOpened> {
        let state = &self.paths.state;
        if let Some(point) = mounts::not_mounted(state, Path::new(FSTAB), Path::new(MOUNTINFO)) {
            return Err(NotOpened::NotMounted(point));
        }
        if mounts::is_read_only_here_alone(state, Path::new(MOUNTINFO), Path::new(HOST_MOUNTINFO)) {
            return Err(NotOpened::Remounted(state.clone()));
        }
        let lock = lock(state)?;
        let identity = identity_by(&self.name)?;
        let mut opened = self.open_ledger(&identity, now)?;
        let (set_aside, broke) = (opened.set_aside.take(), opened.broke.take());
        if owed::record(Path::new(OWED), &mut opened.ledger, now.wall)? {
            // What the last records say is read with these.
            drop(opened);
            opened = self.open_ledger(&identity, now)?;
        }
        let Opened { ledger, recorded, .. } = opened;
        Intake::open(Path::new(QUARANTINE))?;
        names::prepare().map_err(|source| NotOpened::Directory { path: NAME_KEY.into(), source })?;
        let of_another_host = set_aside.map(|directory| self.grants_in(&directory, now));
        let (grants, file, woken) = open_grants(&self.boot_id, now);
        let documents = grants::documents_beside(Path::new(GRANTS));
        let left = Left { grants, documents, found: Found { recorded, woken, of_another_host, broke } };
        Ok((Store::new(ledger, file).with_lock(lock), left))
    }

    fn open_ledger(&self, identity: &Identity, now: Now) -> Result<Opened, NotOpened> {
        Ok(Ledger::open(Opening {
            paths: self.paths.clone(),
            host: identity.name.clone(),
            stack: self.stack.clone(),
            identity,
            boot: self.boot_id.clone(),
            keeping: self.keeping,
            now: now.wall,
            journal: Some(Journal::start().map_err(NotOpened::Journal)?),
        })?)
    }

    /// The open grants in state that was set aside.
    fn grants_in(&self, directory: &Path, now: Now) -> Vec<Grant> {
        match grants::open(&directory.join("grants.json"), &directory.join("ended"), &self.boot_id, now) {
            Ok((grants, ..)) => grants.open_ones().cloned().collect(),
            Err(error) => {
                tracing::warn!(%error, "the grants of the host that this one was cannot be read");
                Vec::new()
            }
        }
    }
}

/// Which machine this is, by the name that the configuration gives it.
pub(crate) fn identity_by(name: &HostName) -> Result<Identity, identity::Error> {
    Identity::read(match name {
        HostName::Auto => None,
        HostName::Fixed(name) => Some(name),
    })
}

/// How long, and how many, records are kept.
pub(crate) fn keeping(config: &Config) -> Keeping {
    Keeping {
        retain: config.ledger.retain,
        max_size: config.ledger.max_size,
        drop_oldest: config.ledger.when_full == WhenFull::DropOldest,
        acknowledged_first: config.ship.api.is_some(),
    }
}

/// Locks the state, as long as the file is open: two daemons must not write one ledger. One that was killed in a write that the
/// disk has not finished keeps the lock until it is gone. The directory is made if it is not there.
fn lock(state: &Path) -> Result<Flock<File>, NotOpened> {
    let failed = |source: io::Error| NotOpened::Directory { path: state.to_owned(), source };
    match DirBuilder::new().mode(STATE_MODE).create(state) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    close_to_others(state);
    // Root's alone: whoever may open it may lock it.
    let path = state.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.append(true).create(true).open(&path),
        opened => opened,
    };
    Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => NotOpened::InUse(state.to_owned()),
        errno => failed(errno.into()),
    })
}

/// Nobody else needs to list the state. A file system that was just made and mounted there lets them.
fn close_to_others(state: &Path) {
    let is_open = fs::metadata(state).is_ok_and(|meta| meta.permissions().mode() & 0o066 != 0);
    if !is_open {
        return;
    }
    match fs::set_permissions(state, Permissions::from_mode(STATE_MODE)) {
        Ok(()) => tracing::warn!("{} could be read by others and has mode {STATE_MODE:o} now", state.display()),
        Err(error) => tracing::error!(%error, "{} can be read by others: chmod {STATE_MODE:o} it", state.display()),
    }
}

/// The store of grants; one that cannot be understood is set aside, and nobody has a grant.
fn open_grants(boot_id: &str, now: Now) -> (Grants, GrantsFile, Woken) {
    let (path, meanwhile) = (PathBuf::from(GRANTS), Path::new(ENDED));
    let (grants, file, woken) = match grants::open(&path, meanwhile, boot_id, now) {
        Ok(opened) => opened,
        Err(error) => {
            let aside = path.with_extension(format!("broken-{}", now.wall.as_second()));
            tracing::error!(%error, aside = %aside.display(), "the grants cannot be read: every one is void, and the file is kept aside");
            if let Err(error) = fs::rename(&path, &aside) {
                tracing::error!(%error, "it could not be set aside");
            }
            (Grants::default(), GrantsFile::new(&path), Woken::default())
        }
    };
    (grants, file.copied_to(PathBuf::from(GRANTS_COPY)), woken)
}

/// The grants as they were last given to the disk in this boot: for as long as the disk cannot be read. `None` where that is
/// not known.
pub(crate) fn copied_grants(boot_id: &str, now: Now) -> Option<Grants> {
    let path = Path::new(GRANTS_COPY);
    if !path.exists() {
        return None;
    }
    match grants::open(path, Path::new(ENDED), boot_id, now) {
        Ok((grants, ..)) => Some(grants),
        Err(error) => {
            tracing::error!(%error, "the copy of the grants cannot be read: until the disk can be, none is known");
            None
        }
    }
}
