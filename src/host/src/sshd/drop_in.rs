//! Our drop-in in sshd's configuration: the one file under `/etc/ssh` that lockdownd writes.
//!
//! It names the key store as the only place of keys, exempt accounts aside, and must be read before anything else that
//! could say where keys are: sshd takes a keyword's first value. It must never leave a configuration behind that sshd
//! does not start with, and never change where an exempt account's keys are.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use control::Cidr;
use record::Account;
use rustix::process::Signal;

use super::{
    effective::{ANYBODY, Effective, EffectiveError, Spec, effective, sshd_t},
    key_files::{ExemptKeyFiles, check_carried, exempt_key_files},
    listener::{Invocation, Listener, heeds_sighup, is_started_on_demand, listening_sockets},
    probe::Probe,
    scan::{Disk, Overlay, Place, Scan, scan, text_of},
    stays::check_stays,
    syntax,
};
use crate::processes::{Handle as _, ProcessError, ProcessId};

/// The drop-in. Its name sorts first.
pub const PATH: &str = control::gate::DROP_IN;
/// What it gives as `AuthorizedKeysFile`.
pub const STORE_PATTERN: &str = "/run/lockdownd/keys/%u";
/// The line that a main configuration file must begin with for the drop-in to be read first: Debian's own.
pub const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf";
/// Its name while it is being written: no pattern of Debian's matches it.
const TEMPORARY: &str = "/etc/ssh/sshd_config.d/.00-lockdownd.new";
/// How long a listener may take to be listening again after a reload: it needs some 20 ms, and more on a busy machine.
const RELOAD_TIME: Duration = Duration::from_secs(5);
/// After which time a listener that still has its old sockets counts as one that keeps them.
const SAME_SOCKETS_TIME: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const RELOAD_STEP: Duration = Duration::from_millis(5);

/// The drop-in could not be put in, or taken out.
#[derive(Debug, thiserror::Error)]
pub enum DropInError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// sshd could not be asked, or refuses the configuration.
    #[error(transparent)]
    Sshd(#[from] EffectiveError),
    /// A listener could not be reached.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Part of the configuration cannot be read.
    #[error("sshd's configuration cannot be read whole: {0}")]
    Unreadable(String),
    /// The main file does not include the drop-in.
    #[error("{config} does not include {PATH}: add the line `{INCLUDE}` at its top", config = config.display())]
    NotIncluded {
        /// The main file.
        config: PathBuf,
    },
    /// The drop-in would be read after something that decides first.
    #[error("{place} comes before {PATH} is read: put the line `{INCLUDE}` at the top of {config}, ahead of it", config = config.display())]
    NotFirst {
        /// What decides first.
        place: Place,
        /// The main file.
        config: PathBuf,
    },
    /// Another drop-in sorts before ours and names key files.
    #[error("{place} is read before {PATH}: rename {file} so that its name sorts after 00-lockdownd.conf", file = place.file.display())]
    OvertakenBy {
        /// The line that decides first.
        place: Place,
    },
    /// A file other than the main one includes the drop-in.
    #[error("{place} includes {PATH}: only sshd's main configuration file may")]
    IncludedElsewhere {
        /// Where.
        place: Place,
    },
    /// An exempt account's name means more than itself in a `Match User` line.
    #[error("exempt account {0:?}: sshd's Match takes no name with other characters than A-Z a-z 0-9 . _ - +")]
    OddAccount(String),
    /// An exempt account's own key files cannot be written down.
    #[error("exempt account {account}: its AuthorizedKeysFile {pattern:?} cannot be carried over into {PATH}")]
    OddKeyFile {
        /// Whose.
        account: Account,
        /// What sshd gives.
        pattern: String,
    },
    /// A block gives an exempt account key files for some of its logins that cannot be carried over.
    #[error(
        "{place} has sshd read an exempt account's keys elsewhere for some logins, and that cannot be carried over into {PATH}: name \
             the account's files in one block `Match User ACCOUNT` ahead of it"
    )]
    Block {
        /// The line.
        place: Place,
    },
    /// A listener would stop listening somewhere.
    #[error(
        "{listener} would no longer listen at {at} once it reads its configuration again, since that was changed and is not loaded: \
             load it (systemctl reload ssh), or take the change out"
    )]
    Moves {
        /// Which.
        listener: String,
        /// Where.
        at: String,
    },
    /// The addresses that sshd's configuration spares cannot be written down.
    #[error("PerSourcePenaltyExemptList {0:?} cannot be carried over into {PATH}")]
    OddPenalties(String),
    /// sshd does not do what the drop-in says.
    #[error("with {PATH} in place, {sshd} reads keys of {user} from {found:?} instead of {expected:?}")]
    NoEffect {
        /// The program and configuration.
        sshd: String,
        /// Whose keys.
        user: String,
        /// Where it reads them.
        found: Vec<String>,
        /// Where it should.
        expected: Vec<String>,
    },
}

impl DropInError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// What the drop-in is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where each exempt account's keys are.
    pub files: ExemptKeyFiles,
    /// Addresses that refusals do not lock out: those of sshd's own configuration, and ours; `None`: nothing is said of them.
    penalty_exempt: Option<String>,
}

/// The keyword of [`Plan::penalty_exempt`] as `sshd -T` prints it, from OpenSSH 9.8 on.
const PENALTY_EXEMPT: &str = "persourcepenaltyexemptlist";

/// What the drop-in has to say on this host.
///
/// # Errors
/// When sshd cannot be asked.
pub fn plan(sshd: &Invocation, exempt: &[Account], penalty_exempt: &[Cidr]) -> Result<Plan, DropInError> {
    let files = exempt_key_files(sshd, exempt)?;
    if penalty_exempt.is_empty() {
        return Ok(Plan { files, penalty_exempt: None });
    }
    // The first setting of a keyword wins, and ours is the first: what sshd's own configuration spares it goes on sparing.
    let effective = Probe::without_drop_in(sshd)?.effective(&Spec::of_anybody())?;
    Ok(Plan { files, penalty_exempt: effective.get(PENALTY_EXEMPT).map(|theirs| united(theirs, penalty_exempt)) })
}

fn united(theirs: &str, ours: &[Cidr]) -> String {
    let theirs = Some(theirs).filter(|list| !list.is_empty() && !list.eq_ignore_ascii_case("none"));
    theirs.map(str::to_owned).into_iter().chain(ours.iter().map(Cidr::to_string)).collect::<Vec<_>>().join(",")
}

/// What became of one listener that was told to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Which, as a person would name it.
    pub listener: String,
    /// Its process.
    pub process: ProcessId,
    /// Whether it is listening again, or systemd is for it.
    pub well: bool,
}

/// What [`install`] or [`remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Done {
    /// Whether the file was changed.
    pub changed: bool,
    /// The listeners that were told.
    pub reloads: Vec<Reload>,
}

/// The drop-in's text.
///
/// # Errors
/// When a name or pattern cannot be written so that sshd reads it as meant.
pub fn content(plan: &Plan) -> Result<String, DropInError> {
    let mut text = String::from(
        "# Written by lockdownd while it enforces; it takes this file away itself. Changes here are undone.\n\
         # See `lockdownctl status`.\n",
    );
    text.push_str(&format!("AuthorizedKeysFile {STORE_PATTERN}\n"));
    if let Some(addresses) = &plan.penalty_exempt {
        let quoted = syntax::quote(addresses).ok_or_else(|| DropInError::OddPenalties(addresses.clone()))?;
        text.push_str(&format!("PerSourcePenaltyExemptList {quoted}\n"));
    }
    for (account, files) in &plan.files {
        check_name(account)?;
        text.push_str(&files.lines(account)?);
    }
    // The first `Match` block that holds decides, and this one holds for everybody: no later block can name other files.
    text.push_str(&format!("Match all\n    AuthorizedKeysFile {STORE_PATTERN}\n"));
    Ok(text)
}

/// In `Match User`, `* ? ! ,` make patterns, `@` splits off a host and `=` and `#` split lines.
pub(super) fn check_name(account: &Account) -> Result<(), DropInError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    match account.as_str().bytes().all(plain) {
        true => Ok(()),
        false => Err(DropInError::OddAccount(account.as_str().to_owned())),
    }
}

/// What is there now; `None` when nothing is.
///
/// # Errors
/// When it cannot be read.
pub fn current() -> Result<Option<String>, DropInError> {
    text_of(Path::new(PATH)).map_err(|error| DropInError::io(Path::new(PATH), error))
}

/// Whether [`install`] would change the file: it is missing, was edited, or the exempt accounts' own files changed.
///
/// # Errors
/// When sshd or the disk cannot be asked.
pub fn needs_update(exempt: &[Account], penalty_exempt: &[Cidr]) -> Result<bool, DropInError> {
    let wanted = content(&plan(&Invocation::standard(), exempt, penalty_exempt)?)?;
    Ok(current()?.as_deref() != Some(&wanted))
}

/// Whether the drop-in, there or not yet, is the first to say where this sshd's keys are, by the order in which it reads.
///
/// # Errors
/// Which line decides before it, and what to do.
pub fn check_first(sshd: &Invocation) -> Result<(), DropInError> {
    // A stand-in shows at which point the drop-in is read.
    let marker = format!("AuthorizedKeysFile {STORE_PATTERN}\n");
    let overlay = Overlay { base: Disk, path: PATH.into(), content: Some(marker.into_bytes()) };
    judge_order(&scan(&overlay, &sshd.config_file), &sshd.config_file)
}

fn judge_order(scan: &Scan, config: &Path) -> Result<(), DropInError> {
    if let Some(problem) = scan.problems.first() {
        return Err(DropInError::Unreadable(problem.to_string()));
    }
    let config = config.to_owned();
    let Some(ours) = scan.of("authorizedkeysfile").find(|setting| setting.place.file == Path::new(PATH)) else {
        return Err(DropInError::NotIncluded { config });
    };
    if let Some(block) = ours.blocks.first() {
        return Err(DropInError::NotFirst { place: scan.blocks[*block].place.clone(), config });
    }
    match scan.of("authorizedkeysfile").next() {
        Some(first) if first.place == ours.place => Ok(()),
        Some(first) if first.place.file == config => Err(DropInError::NotFirst { place: first.place.clone(), config }),
        Some(first) => Err(DropInError::OvertakenBy { place: first.place.clone() }),
        None => Err(DropInError::NotIncluded { config }),
    }
}

/// Puts the drop-in in place and has every one of root's listeners that includes it read its configuration again.
///
/// Asked again with nothing changed, it writes nothing and tells nobody. Takes some 10 ms for each listener and exempt
/// account, and at most a second more for listeners that do not come back.
///
/// # Errors
/// What is in the way, and what to do. Then everything is as it was.
pub fn install(exempt: &[Account], penalty_exempt: &[Cidr], listeners: &[Listener]) -> Result<Done, DropInError> {
    let standard = Invocation::standard();
    let including = including(listeners)?;
    let plan = plan(&standard, exempt, penalty_exempt)?;
    let wanted = content(&plan)?;
    let before = current()?;
    if before.as_deref() == Some(&wanted) {
        return Ok(Done { changed: false, reloads: Vec::new() });
    }
    including.iter().try_for_each(|listener| check_stays(listener))?;
    let probe = Probe::with_drop_in(&standard, &wanted)?;
    probe.test()?;
    check_carried(&standard, &plan.files, &wanted)?;
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).clear();
    write(&wanted)?;
    let checked = including.iter().try_for_each(|listener| check_effect(&listener.invocation, &plan.files));
    if let Err(error) = checked {
        match before {
            Some(before) => write(&before)?,
            None => unlink()?,
        }
        return Err(error);
    }
    Ok(Done { changed: true, reloads: reload(&including)? })
}

/// Whom this daemon has told to read their configuration since the drop-in was last written. Bounded by the listeners that
/// there are then.
static TOLD: Mutex<BTreeSet<ProcessId>> = Mutex::new(BTreeSet::new());

/// Whether a process was told since the drop-in was last written.
pub(crate) fn was_told(process: ProcessId) -> bool {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).contains(&process)
}

/// Has those of root's listeners read their configuration again that the drop-in came too late for: they were starting while
/// it was written.
///
/// # Errors
/// When a listener's configuration is refused by sshd; nobody is told then.
pub fn catch_up(listeners: &[Listener], missed: impl Fn(&Listener) -> bool) -> Result<Vec<Reload>, DropInError> {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let untold = |l: &&Listener| l.process.is_some_and(|process| !told.contains(&process));
    let of_root = listeners.iter().filter(|l| l.uid == 0 && reads_drop_in(&l.invocation)).filter(untold);
    let late: Vec<&Listener> = of_root.filter(|listener| missed(listener)).collect();
    for listener in &late {
        sshd_t(&listener.invocation)?;
    }
    reload(&late)
}

/// Takes the drop-in away and has the listeners read their configuration again.
///
/// # Errors
/// When it cannot be removed. When sshd refuses what is left, that is told after the removal, and nobody is reloaded.
pub fn remove(listeners: &[Listener]) -> Result<Done, DropInError> {
    if current()?.is_none() {
        return Ok(Done { changed: false, reloads: Vec::new() });
    }
    let including: Vec<&Listener> =
        listeners.iter().filter(|listener| listener.uid == 0 && reads_drop_in(&listener.invocation)).collect();
    unlink()?;
    for listener in &including {
        sshd_t(&listener.invocation)?;
    }
    Ok(Done { changed: true, reloads: reload(&including)? })
}

/// Root's listeners, if each of them includes the drop-in first.
fn including(listeners: &[Listener]) -> Result<Vec<&Listener>, DropInError> {
    let of_root: Vec<&Listener> = listeners.iter().filter(|listener| listener.uid == 0).collect();
    check_first(&Invocation::standard())?;
    of_root.iter().try_for_each(|listener| check_first(&listener.invocation))?;
    Ok(of_root)
}

fn reads_drop_in(sshd: &Invocation) -> bool {
    scan(&Disk, &sshd.config_file).files.contains(Path::new(PATH))
}

/// Asks the sshd that serves logins whether it does what the drop-in on the disk says.
fn check_effect(sshd: &Invocation, exempt: &ExemptKeyFiles) -> Result<(), DropInError> {
    sshd_t(sshd)?;
    expect_key_files(&effective(sshd, &Spec::of_anybody())?, sshd, ANYBODY, &store())?;
    let without = Probe::without_drop_in(sshd)?;
    for account in exempt.keys() {
        let spec = Spec::of(account.as_str());
        let expected = without.effective(&spec)?.key_files();
        expect_key_files(&effective(sshd, &spec)?, sshd, account.as_str(), &expected)?;
    }
    Ok(())
}

fn expect_key_files(found: &Effective, sshd: &Invocation, user: &str, expected: &[String]) -> Result<(), DropInError> {
    let found = found.key_files();
    if found == expected {
        return Ok(());
    }
    let sshd = format!("{} -f {}", sshd.binary.display(), sshd.config_file.display());
    Err(DropInError::NoEffect { sshd, user: user.to_owned(), found, expected: expected.to_vec() })
}

fn store() -> Vec<String> {
    vec![STORE_PATTERN.to_owned()]
}

/// Puts the whole text there at once, durably, root's and readable by all.
fn write(text: &str) -> Result<(), DropInError> {
    let temporary = Path::new(TEMPORARY);
    write_file(temporary, text).map_err(|e| DropInError::io(temporary, e))?;
    fs::rename(temporary, PATH).and_then(|()| sync_dir()).map_err(|e| DropInError::io(Path::new(PATH), e))
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    use std::{
        io::Write,
        os::unix::fs::{OpenOptionsExt, PermissionsExt},
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // Whatever our umask is.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unlink() -> Result<(), DropInError> {
    fs::remove_file(PATH).and_then(|()| sync_dir()).map_err(|e| DropInError::io(Path::new(PATH), e))
}

fn sync_dir() -> io::Result<()> {
    let dir = Path::new(PATH).parent().expect("PATH has a directory");
    fs::File::open(dir)?.sync_all()
}

/// Has root's listeners read their configuration again (`SIGHUP`) and waits until each is listening again. Connections
/// live on. Also to be done at the daemon's start: it may have died between writing the drop-in and telling anybody.
///
/// # Errors
/// When a listener cannot be signalled. One that does not come back is told in its [`Reload`].
pub fn reload(listeners: &[&Listener]) -> Result<Vec<Reload>, DropInError> {
    let mut told = Vec::new();
    let ready_by = Instant::now() + RELOAD_TIME;
    for listener in listeners.iter().filter(|listener| listener.uid == 0) {
        let Some(process) = listener.process else { continue };
        let Some(handle) = process.open()? else { continue };
        // From a SIGHUP until it listens again, it ignores the next one.
        while !heeds_sighup(process) && process.is_alive() && Instant::now() < ready_by {
            sleep(RELOAD_STEP);
        }
        let before = listening_sockets(process);
        let well = handle.signal(Signal::HUP)?;
        TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(process);
        told.push((before, Reload { listener: listener.title(), process, well }));
    }
    let deadline = Instant::now() + RELOAD_TIME;
    for (before, reload) in &mut told {
        // One that systemd gave its socket ends at SIGHUP (seen with OpenSSH 9.2 and 10.0); the next connection starts it.
        let restarts = || !reload.process.is_alive() && is_started_on_demand();
        reload.well = reload.well && (listens_again(reload.process, before.as_ref(), deadline) || restarts());
    }
    Ok(told.into_iter().map(|(_, reload)| reload).collect())
}

/// Waits until a listener has other sockets than before; one that systemd gave its sockets keeps them.
fn listens_again(process: ProcessId, before: Option<&BTreeSet<Vec<u8>>>, deadline: Instant) -> bool {
    let keeps = Instant::now() + SAME_SOCKETS_TIME;
    while process.is_alive() && Instant::now() < deadline {
        let now = listening_sockets(process);
        match (now.as_ref(), before) {
            // Where we may not look, being alive has to do.
            (None, _) | (_, None) if Instant::now() > keeps => return true,
            (Some(now), Some(before))
                if !now.is_empty() && (now != before || Instant::now() > keeps) && heeds_sighup(process) =>
            {
                return true;
            }
            _ => sleep(RELOAD_STEP),
        }
    }
    false
}

#[cfg(test)]
mod tests;
