//! TOML → a checked [`Config`]: `/etc/lockdownd/config.toml` and `conf.d/*.toml`, merged in name order.
//!
//! Duty: refuse what is unknown, unclear or contradictory, naming file, line, column and what would work, and as many
//! mistakes at once as can be told. A `Config` that exists has been checked whole: the inside never re-checks it.
//! This never changes anything, never reads a clock, and never puts a configuration in force: that is for its caller.

mod check;
mod cron;
mod error;
mod files;
mod judge;
mod merge;
mod place;
mod session_rules;
mod shipping;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use record::{Account, Host, NameError, Person, Stack};

pub use check::{Checked, Proposed, check, check_as};
pub use control::Mode;
pub use cron::{Cron, CronError, MAX_CRON_TEXT};
pub use error::{Error, MAX_PROBLEMS, Problem};
pub use files::{MAX_FILE, MAX_FILES, MAX_LAST_GOOD, MAX_TOTAL};
pub use judge::{
    MAX_EXEMPT, MAX_GRANT, MAX_KEYS, MAX_PEOPLE, MAX_RETAIN, MAX_SIZE, MAX_WARNING, MIN_GRANT, MIN_RETAIN, MIN_SIZE,
};
pub use place::Place;
pub use session_rules::{BeforeEnforce, LeftBehind};
pub use shipping::{MAX_ADDRESS, MAX_RECEIPT_KEYS, Ship, ShipApi, WhenFull};
pub use sources::Holds;
pub use table::MAX_LIST;
pub(crate) use write::grant as written_grant;

use control::Cidr;

use crate::keys::person::PersonKey;
use error::Problems;
use files::Owner;
use judge::{Scope, judge};
use merge::Settings;
use place::Source;

/// Where the configuration in force stands.
pub const CONFIG_DIR: &str = "/etc/lockdownd";

/// The user whose configuration files are believed.
const ROOT: u32 = 0;

/// A checked configuration, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether to act on what is seen.
    pub mode: Mode,
    /// What this host calls itself in records.
    pub host: HostConfig,
    /// When sweeps and lockdowns come by themselves.
    pub schedule: Schedule,
    /// What holds for every grant.
    pub grants: GrantRules,
    /// Which accounts are never locked down.
    pub accounts: Accounts,
    /// What happens to live sessions.
    pub sessions: Sessions,
    /// Everybody who may be given a grant. No key belongs to two of them.
    pub people: BTreeMap<Person, PersonEntry>,
    /// Grants that the config renders, in the order of the files; no two are the same. Their times are not judged: one
    /// that is over, or longer than `max_duration`, is for whoever knows the time.
    pub rendered: Vec<RenderedGrant>,
    /// How long, and how many, records are kept.
    pub ledger: LedgerConfig,
    /// Where records are shipped to. Kept as data: the shipper reads it.
    pub ship: Ship,
    /// SHA-256 of the canonical merged form ([`Config::to_toml`]), in lower-case hex: equal for equal settings, however
    /// they were spread over files.
    pub digest: String,
}

/// `[host]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The host's name in records.
    pub name: HostName,
    /// The stack that this host belongs to.
    pub stack: Stack,
}

/// Where the host's name comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// The EC2 instance id from DMI, else the machine id.
    Auto,
    /// This name.
    Fixed(Host),
}

/// `[schedule]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When every account is looked at again.
    pub sweep: Cron,
    /// When every grant and granted session ends; `None`: only when somebody asks for it.
    pub lockdown: Option<Cron>,
}

/// `[grants]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRules {
    /// How long a grant lasts that names no length.
    pub default_duration: Duration,
    /// The longest life of a grant, from its creation. At least `default_duration`.
    pub max_duration: Duration,
    /// Whether a grant needs a reason.
    pub require_reason: bool,
    /// Whether people may grant themselves.
    pub self_grants: bool,
}

/// `[accounts]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The break-glass accounts.
    pub exempt: BTreeSet<Account>,
    /// Whether none is wanted: without it, enforce needs an exempt account that works.
    pub no_exempt: bool,
    /// Who may forward their agent.
    pub agent_forwarding: AgentForwarding,
}

/// Who may forward their SSH agent, with which whoever has the account then can log in as them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentForwarding {
    /// Whoever logs in to an account that nobody else may be given.
    #[default]
    Own,
    /// Everybody.
    Yes,
    /// Nobody.
    No,
}

impl AgentForwarding {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

/// `[sessions]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    /// Whether a connection ends with its grant.
    pub end_with_grant: bool,
    /// How long before its end a session is warned; `None`: not at all.
    pub warn_before: Option<Duration>,
    /// What becomes of connections that began before enforce and stand on no grant.
    pub before_enforce: BeforeEnforce,
    /// What becomes of what a person leaves running when their grant ends.
    pub left_behind: LeftBehind,
}

/// One `[[person]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonEntry {
    /// Their public keys. Empty: they cannot get in.
    pub keys: Vec<PersonKey>,
    /// The accounts that they may be given. Empty: none.
    pub accounts: BTreeSet<Account>,
    /// Whether they may ask the daemon, in a live granted session of their own.
    pub operator: bool,
    /// Where they stand in the config.
    pub place: Place,
}

/// One `[[grant]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedGrant {
    /// Who may log in: one of [`Config::people`].
    pub person: Person,
    /// To which account: one that the person may be given.
    pub account: Account,
    /// Until when.
    pub expires_at: Timestamp,
    /// From when; `None`: at once. Before `expires_at`.
    pub starts_at: Option<Timestamp>,
    /// From where; empty here: from anywhere (an empty list in the file is refused).
    pub from: Vec<Cidr>,
    /// Why; `None` only where `require_reason` is off.
    pub reason: Option<String>,
    /// Where it stands in the config.
    pub place: Place,
}

/// `[ledger]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// How long records are kept on this host.
    pub retain: Duration,
    /// How many bytes of records are kept at most, the reserve for what cannot be withheld aside.
    pub max_size: u64,
    /// What happens then.
    pub when_full: WhenFull,
}

/// How far two readings of the configuration are apart: a file is rewritten in less.
pub const APART: Duration = Duration::from_millis(50);
/// How many readings in a row may differ.
pub const READINGS: u32 = 20;

/// Loads what stands in a configuration directory (`/etc/lockdownd`): `config.toml`, which must be there, then
/// `conf.d/*.toml` in name order. Settings of a later file replace earlier ones, lists included; `[[person]]` and
/// `[[grant]]` add up. Names that begin with a dot or end otherwise are left alone.
///
/// Files and both directories must belong to root and be writable by root alone; files are regular, not links, at most
/// [`MAX_FILE`] bytes each, [`MAX_TOTAL`] together and [`MAX_FILES`] in number.
///
/// A file that is being written is seen empty or cut, and that may well be a configuration too. So everything is read
/// twice, a moment apart, until both readings agree: this takes [`APART`], and up to [`READINGS`] times that.
///
/// # Errors
/// Everything that is wrong, up to [`MAX_PROBLEMS`]; or that somebody goes on writing.
pub fn load(dir: &Path) -> Result<Config, Error> {
    load_steady(dir, Owner::Only(ROOT))
}

fn load_steady(dir: &Path, owner: Owner) -> Result<Config, Error> {
    let read = || (files::states(dir, owner), load_of(dir, owner));
    let mut before = read();
    for _ in 0..READINGS {
        std::thread::sleep(APART);
        let now = read();
        let agree = match (&before.1, &now.1) {
            (Ok(before), Ok(now)) => before == now,
            (Err(before), Err(now)) => before.to_string() == now.to_string(),
            _ => false,
        };
        if agree && before.0 == now.0 {
            return now.1;
        }
        before = now;
    }
    let mut problems = Problems::default();
    let place = place::Place::whole(&dir.to_string_lossy());
    problems.add_unread(&place, "files in it are being written", "reload again when they are whole");
    judge(Settings::default(), &Scope::Whole, problems)
}

fn load_of(dir: &Path, owner: Owner) -> Result<Config, Error> {
    load_with(dir, owner, &[], Problems::default())
}

/// As [`load_of`], with the proposed files in the place of those that stand at their destinations, if any do.
fn load_with(dir: &Path, owner: Owner, proposed: &[Proposed], mut problems: Problems) -> Result<Config, Error> {
    let mut settings = Settings::default();
    let mut left = MAX_TOTAL;
    let also: Vec<&Path> = proposed.iter().map(|proposed| proposed.destination.as_path()).collect();
    for path in files::list(dir, owner, &also, &mut problems) {
        // What is only proposed may be anybody's.
        let (content, owner) = match proposed.iter().find(|proposed| proposed.destination == path) {
            Some(proposed) => (&proposed.file, Owner::Any),
            None => (&path, owner),
        };
        let Some(text) = files::read(content, owner, MAX_FILE, &mut problems) else { continue };
        let source = Source::new(&path.to_string_lossy(), &text);
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if length > left {
            let what = format!("with this file the configuration has more than {MAX_TOTAL} bytes");
            problems.add_unread(&source.whole(), what, "make it smaller: it and all after it are not read");
            break;
        }
        left -= length;
        settings.add(&source, &mut problems);
    }
    judge(settings, &Scope::Whole, problems)
}

/// Loads one file that holds a whole configuration, as [`Config::to_toml`] wrote it: the last good one. It must belong to
/// root as those of [`load`], and have at most [`MAX_LAST_GOOD`] bytes.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path) -> Result<Config, Error> {
    load_file_of(path, Owner::Only(ROOT))
}

fn load_file_of(path: &Path, owner: Owner) -> Result<Config, Error> {
    let mut problems = Problems::default();
    let mut settings = Settings::default();
    if let Some(text) = files::read(path, owner, MAX_LAST_GOOD, &mut problems) {
        settings.add(&Source::new(&path.to_string_lossy(), &text), &mut problems);
    }
    judge(settings, &Scope::Whole, problems)
}

impl Config {
    /// Reads configuration texts, each with a name for complaints, as if they were the files of [`load`] in this order.
    ///
    /// # Errors
    /// As [`load`].
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, Error> {
        let mut problems = Problems::default();
        let mut settings = Settings::default();
        for (name, text) in files {
            settings.add(&Source::new(name, text), &mut problems);
        }
        judge(settings, &Scope::Whole, problems)
    }

    /// Whether whoever logs in to this account may forward their agent to it.
    #[must_use]
    pub fn may_forward_agents(&self, account: &Account) -> bool {
        let holders = self.people.values().filter(|entry| entry.accounts.contains(account));
        match self.accounts.agent_forwarding {
            AgentForwarding::Own => holders.count() < 2,
            AgentForwarding::Yes => true,
            AgentForwarding::No => false,
        }
    }

    /// The canonical merged form: every setting with its value in force, without comments or places. Reading it gives
    /// this configuration again, places aside.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write::config(self)
    }
}

impl HostName {
    /// The word that stands for [`HostName::Auto`].
    pub const AUTO: &'static str = "auto";
}

impl FromStr for HostName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == Self::AUTO { Ok(Self::Auto) } else { text.parse().map(Self::Fixed) }
    }
}
