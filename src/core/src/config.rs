//! TOML → a checked [`Config`]: the texts of `/etc/lockdownd/config.toml` and `conf.d/*.toml`, in the order in which they
//! are merged.
//!
//! Duty: refuse what is unknown, unclear or contradictory, naming file, line, column and what would work, and as many
//! mistakes at once as can be told. A `Config` that exists has been checked whole: the inside never re-checks it.
//! This never reads a file or a clock, and never puts a configuration in force: that is for its caller.

mod cron;
mod error;
mod judge;
mod merge;
mod place;
mod requirement;
mod session_rules;
mod shipping;
mod sources;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use record::{Account, Host, NameError, Person, Stack};

pub use control::Mode;
pub use cron::{Cron, CronError, MAX_CRON_TEXT};
pub use error::{Error, MAX_PROBLEMS, Problem};
pub use judge::{
    MAX_EXEMPT, MAX_GRANT, MAX_KEYS, MAX_PENALTY_EXEMPT, MAX_PEOPLE, MAX_REQUIRE, MAX_RETAIN, MAX_SIZE, MAX_WARNING,
    MIN_GRANT, MIN_RETAIN, MIN_SIZE,
};
pub use place::Place;
pub use requirement::{Demand, Require, Requirement};
pub use session_rules::{BeforeEnforce, LeftBehind};
pub use shipping::{MAX_ADDRESS, MAX_RECEIPT_KEYS, Ship, ShipApi, WhenFull};
pub use sources::Holds;
pub use stack::MAX_FEEDS;
pub use table::MAX_LIST;
pub(crate) use write::grant as written_grant;

use control::Cidr;

use crate::keys::person::PersonKey;
use error::Problems;
use judge::{Scope, judge};
use merge::Settings;
use place::Source;

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
    /// What sshd is told besides where the keys are.
    pub sshd: SshdConfig,
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
    /// Whose signed documents are taken; nobody's where it is absent.
    pub stack: Option<document::Checked>,
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
    /// What a login needs beside a grant.
    pub require: Require,
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

/// `[sshd]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshdConfig {
    /// Addresses that refusals do not lock out (`PerSourcePenaltyExemptList`).
    pub penalty_exempt: BTreeSet<Cidr>,
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

/// What the files of a configuration say, and what is wrong with them, before all of it is judged together.
#[derive(Debug, Default)]
pub struct Unjudged {
    settings: Settings,
    problems: Problems,
}

impl Unjudged {
    /// Takes over what one more file says. Its settings replace earlier ones, lists included; `[[person]]` and `[[grant]]`
    /// add up. The name is for complaints.
    pub fn add(&mut self, name: &str, text: &str) {
        self.settings.add(&Source::new(name, text), &mut self.problems);
    }

    /// A file, or a directory of them, that could not be read: what is wrong with it, and what would work.
    pub fn add_unread(&mut self, place: &Place, what: impl Into<String>, instead: impl Into<String>) {
        self.problems.add_unread(place, what, instead);
    }

    /// Judges it as a whole configuration.
    ///
    /// # Errors
    /// Everything that is wrong, up to [`MAX_PROBLEMS`].
    pub fn judge(self) -> Result<Config, Error> {
        judge(self.settings, &Scope::Whole, self.problems)
    }

    /// Judges it as one file of a configuration. People whom its grants name and whom it does not know, and whether a grant
    /// needs a reason, are looked up in what is installed, if that can be read.
    ///
    /// # Errors
    /// As [`Unjudged::judge`].
    pub fn judge_as_one_file(self, installed: Option<&Config>) -> Result<Config, Error> {
        judge(self.settings, &Scope::OneFile(installed), self.problems)
    }
}

impl Config {
    /// Reads configuration texts, each with a name for complaints, in the order in which they are merged.
    ///
    /// # Errors
    /// As [`Unjudged::judge`].
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, Error> {
        let mut unjudged = Unjudged::default();
        for (name, text) in files {
            unjudged.add(name, text);
        }
        unjudged.judge()
    }

    /// That none of a person's keys is of a type that the account requires, in words.
    #[must_use]
    pub fn unfit(&self, person: &Person, account: &Account, demand: Demand) -> Option<String> {
        let keys = self.people.get(person).map_or(&[][..], |entry| entry.keys.as_slice());
        let fits = keys.iter().any(|key| demand.takes(key));
        (demand.hardware && !fits)
            .then(|| format!("{person} has no key that opens {account}, which requires {demand} (accounts.require)"))
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
