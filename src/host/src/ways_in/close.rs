//! Puts the closing drop-in into sshd's configuration, and takes it away.
//!
//! It must never leave sshd unable to start, never change anything for an exempt account, and never change more than it
//! says: every sshd that reads it is asked before and after, and on the first difference everything is as it was.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use lockdown_core::policy::ways_in::{CLOSING, OddAccount, closing};

use super::{As, LookError, Question, loaded, observe};
use crate::{
    paths::{self, Durability, PathError},
    readiness::{self, probes},
    sshd::{
        drop_in::{self, DropInError},
        effective::{Effective, EffectiveError, Spec, sshd_t},
        listener::{self, Invocation, Listener},
        probe::Probe,
        scan::{self, Disk, text_of},
        stays::check_stays,
    },
};

/// The drop-in was not put in, or not taken out; everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// sshd could not be asked, or refuses.
    #[error(transparent)]
    DropIn(#[from] DropInError),
    /// An exempt account that could not be left out.
    #[error(transparent)]
    Odd(#[from] OddAccount),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] PathError),
    /// The file could not be read or removed.
    #[error("{CLOSING}: {0}")]
    Io(#[from] io::Error),
    /// What is open could not be told.
    #[error("it is not known what is open: {0}")]
    Unknown(String),
    /// Nobody could come to the rescue.
    #[error("{0}")]
    NoRescue(String),
    /// It would do more or less than it says.
    #[error("with it, {sshd} has {keyword} {after:?} instead of {before:?} for {whom}")]
    OtherEffect {
        /// Which sshd.
        sshd: String,
        /// For whom.
        whom: String,
        /// Which setting.
        keyword: String,
        /// What it was.
        before: Vec<String>,
        /// What it would be.
        after: Vec<String>,
    },
    /// A listener did not come back.
    #[error("{0} did not come back after it read its configuration again")]
    Lost(String),
    /// What was there before could not be put back.
    #[error("{error}; and {CLOSING} could not be made what it was: {undoing}. Look at it, then run sshd -t")]
    Stuck {
        /// What was in the way at first.
        error: Box<CloseError>,
        /// What then.
        undoing: Box<CloseError>,
    },
}

/// Held by whoever changes the file: of two operators, one is after the other.
static CHANGING: Mutex<()> = Mutex::new(());

impl From<EffectiveError> for CloseError {
    fn from(error: EffectiveError) -> Self {
        Self::DropIn(error.into())
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Whether the file was changed.
    pub changed: bool,
    /// What stands there now; `None`: nothing.
    pub text: Option<String>,
}

/// The drop-in that would close what is open; `None` where there is nothing that it could close.
///
/// # Errors
/// When what is open cannot be told.
pub fn proposal(question: &Question) -> Result<Option<String>, CloseError> {
    let observed =
        observe(question, As::Unclosed).map_err(|error: LookError| CloseError::Unknown(error.to_string()))?;
    let servers = &observed.servers;
    let unread = servers.sshds.iter().find_map(|sshd| Some(format!("{}: {}", sshd.name, sshd.unreadable.as_ref()?)));
    match unread.or(servers.unseen.first().cloned()) {
        Some(why) => Err(CloseError::Unknown(why)),
        None => Ok(closing(&observed)?),
    }
}

/// Puts it in place and has every sshd of root's that reads it do so now. With nothing to close, one that is there goes.
///
/// # Errors
/// What is in the way. Then everything is as it was.
pub fn close(question: &Question) -> Result<Closed, CloseError> {
    let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(obstacle) = readiness::without_rescue(&question.exempt, question.no_exempt)? {
        return Err(CloseError::NoRescue(obstacle.to_string()));
    }
    let Some(wanted) = proposal(question)? else { return take_away() };
    let before = current()?;
    let listeners = reading()?;
    if before.as_deref() == Some(&wanted) {
        // Whoever put it there may have died before telling anybody.
        let unaware: Vec<Listener> =
            listeners.into_iter().filter(|listener| loaded::since(listener).is_some()).collect();
        tell(&unaware)?;
        return Ok(Closed { changed: !unaware.is_empty(), text: before });
    }
    listeners.iter().try_for_each(check_stays)?;
    for invocation in invocations(&listeners) {
        check_before(&invocation, &wanted, question)?;
    }
    put(&wanted)?;
    let done =
        invocations(&listeners).iter().try_for_each(sshd_t).map_err(CloseError::from).and_then(|()| tell(&listeners));
    match done {
        Ok(()) => Ok(Closed { changed: true, text: Some(wanted) }),
        Err(error) => Err(back(before.as_deref(), &listeners, error)),
    }
}

/// Takes it away and has every sshd that read it do without.
///
/// # Errors
/// What is in the way. Then everything is as it was.
pub fn undo() -> Result<Closed, CloseError> {
    let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    take_away()
}

fn take_away() -> Result<Closed, CloseError> {
    let Some(before) = current()? else { return Ok(Closed { changed: false, text: None }) };
    let listeners = reading()?;
    for invocation in invocations(&listeners) {
        Probe::of_file(&invocation, Path::new(CLOSING), None)?.test()?;
    }
    remove()?;
    let done =
        invocations(&listeners).iter().try_for_each(sshd_t).map_err(CloseError::from).and_then(|()| tell(&listeners));
    match done {
        Ok(()) => Ok(Closed { changed: true, text: None }),
        Err(error) => Err(back(Some(&before), &listeners, error)),
    }
}

/// Makes everything what it was, after an error.
fn back(before: Option<&str>, listeners: &[Listener], error: CloseError) -> CloseError {
    let done = match before {
        Some(before) => put(before),
        None => remove().map_err(CloseError::from),
    };
    // Whoever did not come back may do so with what they had.
    let _ = tell(listeners);
    match done {
        Ok(()) => error,
        Err(undoing) => CloseError::Stuck { error: Box::new(error), undoing: Box::new(undoing) },
    }
}

/// What is there now; `None` when nothing is.
///
/// # Errors
/// When it cannot be read.
pub fn current() -> io::Result<Option<String>> {
    text_of(Path::new(CLOSING))
}

fn put(text: &str) -> Result<(), CloseError> {
    Ok(paths::replace_path(Path::new(CLOSING), text.as_bytes(), 0o644, Durability::Flushed)?)
}

fn remove() -> io::Result<()> {
    fs::remove_file(CLOSING)?;
    match Path::new(CLOSING).parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Root's listeners whose configuration the file is, or would be, part of.
fn reading() -> Result<Vec<Listener>, CloseError> {
    let all = listener::sshd_listeners().map_err(DropInError::from)?;
    let dir = Path::new(CLOSING).parent().unwrap_or(Path::new("/"));
    let reads = |listener: &Listener| {
        listener.uid == 0 && listener.certain && scan::scan(&Disk, &listener.invocation.config_file).dirs.contains(dir)
    };
    Ok(all.into_iter().filter(reads).collect())
}

/// How each of them is started, once each, and Debian's own.
fn invocations(listeners: &[Listener]) -> Vec<Invocation> {
    let mut all = vec![Invocation::standard()];
    for listener in listeners {
        if !all.contains(&listener.invocation) {
            all.push(listener.invocation.clone());
        }
    }
    all
}

/// Whether one sshd would start with the file in place, and would differ by what the file says, for those it is about.
fn check_before(sshd: &Invocation, wanted: &str, question: &Question) -> Result<(), CloseError> {
    let probe = Probe::of_file(sshd, Path::new(CLOSING), Some(wanted))?;
    probe.test()?;
    // Not what is in force: an older form of the file may be in place, about accounts that have become exempt since.
    let without = Probe::of_file(sshd, Path::new(CLOSING), None)?;
    let named: BTreeSet<String> =
        wanted.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_ascii_lowercase).collect();
    let exempt = &question.exempt;
    let scan = scan::scan(&Disk, &sshd.config_file);
    for spec in probes::specs(&scan, exempt.iter().map(|account| account.as_str()).chain(["root"])).asked {
        let (before, after) = (without.effective(&spec)?, probe.effective(&spec)?);
        let spared = exempt.iter().any(|account| account.as_str() == spec.user);
        // UsePAM holds for everybody or nobody; the gate lets exempt accounts by.
        let may_differ = |keyword: &str| if spared { keyword == "usepam" } else { named.contains(keyword) };
        compare(sshd, &spec, &before, &after, may_differ)?;
    }
    Ok(())
}

fn compare(
    sshd: &Invocation,
    spec: &Spec,
    before: &Effective,
    after: &Effective,
    may_differ: impl Fn(&str) -> bool,
) -> Result<(), CloseError> {
    let (before, after) = (before.settings(), after.settings());
    let keywords: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |keyword: &&String| before.get(*keyword) != after.get(*keyword) && !may_differ(keyword.as_str());
    match keywords.into_iter().find(differs) {
        None => Ok(()),
        Some(keyword) => {
            let of = |settings: &std::collections::BTreeMap<String, Vec<String>>| {
                settings.get(keyword).cloned().unwrap_or_default()
            };
            Err(CloseError::OtherEffect {
                sshd: sshd.config_file.display().to_string(),
                whom: probes::describe(spec),
                keyword: keyword.clone(),
                before: of(before),
                after: of(after),
            })
        }
    }
}

/// Has them read their configuration again, and waits until they listen.
fn tell(listeners: &[Listener]) -> Result<(), CloseError> {
    let reloads = drop_in::reload(&listeners.iter().collect::<Vec<_>>())?;
    match reloads.into_iter().find(|reload| !reload.well) {
        Some(reload) => Err(CloseError::Lost(reload.listener)),
        None => Ok(()),
    }
}
