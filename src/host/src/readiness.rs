//! Whether enforcement may begin, and whether what it stands on still stands.
//!
//! Every running sshd is asked, for a login that fits each of its `Match` blocks. It must never find nothing in the way
//! because something could not be read: what cannot be told is an [`Obstacle`].
//!
//! An sshd that an unprivileged user runs is none: nobody may keep a host from enforcing by starting a program.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use control::Cidr;
use record::Account;

use super::{
    pam::{self, Step},
    sshd::{
        blocks,
        drop_in::{self, DropInError, STORE_PATTERN},
        effective::{Effective, Spec, effective},
        key_files::{self, ExemptKeyFiles},
        listener::{self, Invocation, Listener},
        probe::Probe,
        scan::{self, Disk, Scan},
        stays::check_stays,
    },
    ways_in,
};

mod exempt;
mod kept_out;
mod key_file;
pub mod probes;
mod reached;
mod rescue;

pub use self::{
    exempt::{Rescue, WayIn},
    kept_out::kept_out,
    rescue::{RescueWatch, Seen},
};

/// The most logins that one sshd is asked about, 10 ms each. That there would be more is an [`Obstacle`].
pub const MAX_PROBES: usize = 256;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Whether enforcement may begin: the drop-in is taken as put in place.
    Before,
    /// Whether it still holds: the drop-in must be there.
    InForce,
}

/// What the answer depends on besides the host itself.
#[derive(Debug, Clone)]
pub struct ReadinessInput<'a> {
    /// The accounts that are never locked down.
    pub exempt: &'a [Account],
    /// Addresses that refusals do not lock out (`sshd.penalty_exempt`).
    pub penalty_exempt: &'a [Cidr],
    /// Whether `accounts.no_exempt` says that none is wanted.
    pub no_exempt: bool,
    /// Every sshd there is ([`super::sshd::listener::sshd_listeners`]).
    pub listeners: &'a [Listener],
    /// What is asked about.
    pub when: When,
}

/// One thing in the way, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// No sshd is installed or runs: there is nothing to enforce on.
    NoSshd,
    /// How an sshd was started cannot be told.
    Uncertain {
        /// Which.
        listener: String,
    },
    /// The configuration of an sshd cannot be read, or sshd refuses it.
    Unreadable {
        /// Which.
        listener: String,
        /// What is wrong.
        what: String,
    },
    /// An sshd does not run PAM, or not for this login.
    NoPam {
        /// Which.
        listener: String,
        /// The line that says so, if one does.
        place: Option<String>,
    },
    /// The gate does not stand in a PAM service that an sshd uses.
    Gate {
        /// Which sshd.
        listener: String,
        /// Why not.
        why: String,
    },
    /// The drop-in is not read, or not first.
    DropIn {
        /// Which sshd.
        listener: String,
        /// Why not, and what to do.
        why: String,
    },
    /// More logins would have to be asked about than are.
    Unasked {
        /// Which sshd.
        listener: String,
        /// How many are not.
        left_out: usize,
    },
    /// The drop-in is missing or was edited while enforcement is on.
    DropInGone,
    /// An sshd reads keys from elsewhere than the store.
    OtherKeys {
        /// Which sshd.
        listener: String,
        /// For whom.
        login: String,
        /// Where it reads them.
        files: Vec<String>,
    },
    /// Nobody but exempt accounts can log in, whatever is granted.
    KeptOut {
        /// Why, and what to do.
        why: String,
    },
    /// It could not be looked at.
    Unknown {
        /// Why.
        why: String,
    },
    /// No account is exempt.
    NobodyExempt,
    /// None of the exempt accounts could log in; each with the reason.
    NoUsableExempt {
        /// A sentence for each.
        why: Vec<String>,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSshd => f.write_str("no sshd runs or is installed: install openssh-server"),
            Self::Uncertain { listener } => write!(
                f,
                "{listener}: its command line cannot be read for certain: start it with an absolute -f and put other options \
                 into that file"
            ),
            Self::Unreadable { listener, what } => write!(f, "{listener}: {what}"),
            Self::NoPam { listener, place: Some(place) } => {
                write!(f, "{listener}: UsePAM is off: change {place} to `UsePAM yes` and reload sshd")
            }
            Self::NoPam { listener, place: None } => {
                write!(f, "{listener}: UsePAM is off: add `UsePAM yes` to its configuration, take any such option off its command line, and \
                     start it again")
            }
            Self::Gate { listener, why } => write!(f, "{listener}: {why}"),
            Self::DropIn { listener, why } => write!(f, "{listener}: {why}"),
            Self::Unasked { listener, left_out } => write!(
                f,
                "{listener}: its Match blocks stand for {left_out} kinds of logins more than the {MAX_PROBES} that are looked \
                 at: name fewer accounts and addresses one by one"
            ),
            Self::DropInGone => write!(
                f,
                "{} is missing or was changed: it is put back as long as nothing else is in the way",
                drop_in::PATH
            ),
            Self::OtherKeys { listener, login, files } => write!(
                f,
                "{listener}: reads the keys of {login} from {}, not from {STORE_PATTERN} alone: take that AuthorizedKeysFile \
                 setting out of its configuration or command line",
                files.join(" ")
            ),
            Self::KeptOut { why } => write!(f, "nobody but exempt accounts can log in: {why}"),
            Self::Unknown { why } => f.write_str(why),
            Self::NobodyExempt => f.write_str(
                "no account is exempt: name a break-glass account in accounts.exempt, or set accounts.no_exempt = true if none is \
                 wanted",
            ),
            Self::NoUsableExempt { why } => write!(
                f,
                "no exempt account could log in ({}); mend one, or set accounts.no_exempt = true if none is wanted",
                why.join("; ")
            ),
        }
    }
}

impl Obstacle {
    /// Whether nobody but exempt accounts can log in because of it.
    #[must_use]
    pub fn keeps_all_out(&self) -> bool {
        matches!(self, Self::KeptOut { .. })
    }

    /// The same text as long as the same thing is in the way: an sshd that is started again has another process number, and
    /// none for a moment.
    #[must_use]
    pub fn identity(&self) -> String {
        let text = self.to_string();
        match text.split_once(" (process ").or_else(|| text.split_once(" (started on demand")) {
            Some((before, rest)) => format!("{before} ({}", rest.split_once(", ").map_or(rest, |(_, rest)| rest)),
            None => text,
        }
    }
}

/// Everything in the way of enforcing; empty when nothing is. Takes some 10 ms for each login that is asked about.
#[must_use]
pub fn check(input: &ReadinessInput<'_>) -> Vec<Obstacle> {
    let mut found: Vec<Obstacle> = kept_out().into_iter().map(|why| Obstacle::KeptOut { why }).collect();
    let of_root: Vec<&Listener> = input.listeners.iter().filter(|listener| listener.uid == 0).collect();
    if of_root.is_empty() {
        found.push(Obstacle::NoSshd);
    }
    let plan = drop_in::plan(&Invocation::standard(), input.exempt, input.penalty_exempt)
        .and_then(|plan| drop_in::content(&plan).map(|content| (plan.files, content)))
        .and_then(|(files, content)| {
            key_files::check_carried(&Invocation::standard(), &files, &content).map(|()| (files, content))
        });
    let (files, content) = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let listener = Invocation::standard().config_file.display().to_string();
            found.push(Obstacle::DropIn { listener, why: error.to_string() });
            return found;
        }
    };
    let mut when = input.when;
    let stands = matches!(drop_in::current(), Ok(Some(text)) if text == content);
    if !stands {
        // To put it in has each of them read its configuration again.
        let moves = of_root.iter().filter_map(|listener| check_stays(listener).err());
        let moves = moves.filter(|error| matches!(error, DropInError::Moves { .. }));
        found.extend(moves.map(|error| Obstacle::Unknown { why: error.to_string() }));
    }
    if when == When::InForce && !stands {
        found.push(Obstacle::DropInGone);
        // What else is in the way is what would be in the way of putting it back.
        when = When::Before;
    }
    let mut seen = HashSet::new();
    for listener in of_root {
        // Two of the same kind have the same answers.
        if seen.insert(&listener.invocation) || !listener.certain {
            Asking { listener, files: &files, content: &content, when }.ask(&mut found);
        }
    }
    if !input.no_exempt {
        found.extend(exempt::obstacle(input.exempt));
    }
    found
}

/// Before OpenSSH 9.8, the name that sshd was called by is that of its PAM service.
pub(super) fn service(listener: &Listener) -> String {
    listener.invocation.service_name.clone()
}

/// What is in the way if none of the exempt accounts could log in with a key of their own.
///
/// # Errors
/// When sshd or the disk cannot be asked.
pub fn without_rescue(exempt: &[Account], no_exempt: bool) -> Result<Option<Obstacle>, DropInError> {
    if no_exempt {
        return Ok(None);
    }
    key_files::exempt_key_files(&Invocation::standard(), exempt)?;
    Ok(exempt::obstacle(exempt))
}

/// What those exempt accounts that could log in get instead of a shell, a sentence each.
#[must_use]
pub fn confined(exempt: &[Account]) -> Vec<String> {
    exempt::confined(exempt)
}

/// Whether each of these accounts could log in now. Runs sshd.
///
/// # Errors
/// When that cannot be told of any of them.
pub fn rescue(exempt: &[Account], enforces: bool) -> Result<Vec<Rescue>, String> {
    exempt::rescue(exempt, enforces)
}

/// Why nobody reaches an sshd that would let an exempt account in, a sentence each.
#[must_use]
pub fn no_way_to_sshd() -> Vec<String> {
    let listeners = match listener::sshd_listeners() {
        Ok(listeners) => listeners,
        Err(error) => return vec![format!("which sshds run cannot be told: {error}")],
    };
    let of_root: Vec<&Listener> = listeners.iter().filter(|listener| listener.uid == 0).collect();
    if of_root.is_empty() {
        return vec![Obstacle::NoSshd.to_string()];
    }
    // Whom the daemon has told has read it: when, to the moment, an sshd that had just started does not show.
    let is_told = |listener: &&Listener| listener.process.is_some_and(drop_in::was_told);
    let untold = of_root.into_iter().filter(|listener| !is_told(listener));
    let missed = untold.filter(|listener| ways_in::missed_drop_in(listener));
    missed.map(|listener| format!("{} has not read {} yet: reload it", listener.title(), drop_in::PATH)).collect()
}

/// Key files by their paths, escaped, each with the fingerprints of the keys in it.
pub type ExemptKeys = BTreeMap<String, BTreeSet<String>>;

/// Each key file that sshd reads for an exempt account by its own configuration, and whether all of them could be read; `None`
/// where it cannot be told which there are.
#[must_use]
pub fn exempt_keys(account: &Account) -> Option<(ExemptKeys, bool)> {
    exempt::keys(account)
}

/// One sshd being asked.
struct Asking<'a> {
    listener: &'a Listener,
    files: &'a ExemptKeyFiles,
    content: &'a str,
    when: When,
}

impl Asking<'_> {
    fn ask(&self, found: &mut Vec<Obstacle>) {
        let title = self.listener.title();
        if !self.listener.certain {
            found.push(Obstacle::Uncertain { listener: title });
            return;
        }
        let invocation = &self.listener.invocation;
        if let Err(error) = drop_in::check_first(invocation) {
            found.push(Obstacle::DropIn { listener: title, why: error.to_string() });
            return;
        }
        let scan = scan::scan(&Disk, &invocation.config_file);
        if let Err(error) = self.ask_sshd(&scan, found) {
            found.push(Obstacle::Unreadable { listener: title, what: error.to_string() });
        }
    }

    fn ask_sshd(&self, scan: &Scan, found: &mut Vec<Obstacle>) -> Result<(), DropInError> {
        let invocation = &self.listener.invocation;
        let probe = match self.when {
            When::Before => Some(Probe::with_drop_in(invocation, self.content)?),
            When::InForce => None,
        };
        let without = Probe::without_drop_in(invocation)?;
        // Whether or not a login can be made up for the block that names it.
        let mut services: BTreeSet<String> = blocks::services(scan).map(str::to_owned).collect();
        let mut obstacles = Vec::new();
        let specs = probes::specs(scan, self.files.keys().map(Account::as_str));
        if specs.left_out > 0 {
            obstacles.push(Obstacle::Unasked { listener: self.listener.title(), left_out: specs.left_out });
        }
        for spec in specs.asked {
            let effective = match &probe {
                Some(probe) => probe.effective(&spec)?,
                None => effective(invocation, &spec)?,
            };
            let expected = match self.files.keys().any(|account| account.as_str() == spec.user) {
                true => without.effective(&spec)?.key_files(),
                false => vec![STORE_PATTERN.to_owned()],
            };
            self.judge(&effective, &spec, (scan, &expected), &mut obstacles);
            services.insert(effective.get("pamservicename").map_or_else(|| service(self.listener), str::to_owned));
        }
        for service in services {
            for step in [Step::Account, Step::Session] {
                let why = pam::gate_stands_for(&service, step).err();
                let listener = self.listener.title();
                obstacles.extend(why.map(|why| Obstacle::Gate { listener, why: why.to_string() }));
            }
        }
        let mut told = HashSet::new();
        found.extend(obstacles.into_iter().filter(|obstacle| told.insert(obstacle.clone())));
        Ok(())
    }

    /// What one login's configuration has against it.
    fn judge(
        &self,
        effective: &Effective,
        spec: &Spec,
        (scan, expected): (&Scan, &[String]),
        obstacles: &mut Vec<Obstacle>,
    ) {
        if !effective.is_yes("usepam") {
            let place = scan.of("usepam").next().filter(|setting| setting.args == ["no"]);
            let place = place.map(|setting| setting.place.to_string());
            obstacles.push(Obstacle::NoPam { listener: self.listener.title(), place });
        }
        let files = effective.key_files();
        if files != expected {
            let (listener, login) = (self.listener.title(), probes::describe(spec));
            obstacles.push(Obstacle::OtherKeys { listener, login, files });
        }
    }
}

#[cfg(test)]
mod tests;
