//! Which ways in there are, whether each is open, and the one line that closes it.
//!
//! Judges what was observed of every SSH server on the host. On doubt a way counts as open: what could not be read is
//! one. Accounts that are exempt stand open on purpose and say so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use control::WayState;
use record::Account;
use serde::{Deserialize, Serialize};

mod bounded;
mod closing;
mod heard;
mod methods;

pub use bounded::servers;
pub use closing::{CLOSING, OddAccount, closing};
pub use heard::has_ungated;
use methods::METHODS;

/// What lets people in without SSH. It is listed so that nobody takes the list above it for the whole.
pub const NOT_COVERED: [&str; 6] = [
    "the console and serial console (getty, EC2 serial console)",
    "the SSM agent and its Session Manager",
    "su and sudo, from an account that somebody is in already",
    "programs that run commands for others: cron, at, a web server, a database, configuration management",
    "containers and virtual machines on this host, and whatever of SSH runs inside them",
    "whoever can write this host's disk or memory: the cloud account, its snapshots and images",
];
/// What the store pattern of the daemon's own drop-in says.
pub const STORE: &str = "/run/lockdownd/keys/%u";
/// The line of the configuration that keeps refusals from locking an address out.
pub const PENALTY_EXEMPT: &str = "sshd.penalty_exempt = [\"ADDRESS-OF-THE-BASTION\"]";
/// The line of the configuration that puts the gate and the key store in force.
const ENFORCE: &str = "mode = \"enforce\" in /etc/lockdownd/config.toml";

/// An sshd's settings for one login, as `sshd -T -C` prints them: keywords in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, Vec<String>>);

impl Settings {
    /// These settings.
    #[must_use]
    pub fn new(settings: BTreeMap<String, Vec<String>>) -> Self {
        Self(settings)
    }

    /// The first value of a keyword; `None` where it is not set, or `none`.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        let value = self.0.get(keyword)?.first()?.as_str();
        (!value.is_empty() && !value.eq_ignore_ascii_case("none")).then_some(value)
    }

    /// Whether a keyword is `yes`.
    #[must_use]
    pub fn is_yes(&self, keyword: &str) -> bool {
        self.get(keyword) == Some("yes")
    }

    /// The methods that some list of `AuthenticationMethods` has beside a key.
    fn beside_a_key(&self) -> Vec<String> {
        let lists = self.get("authenticationmethods").unwrap_or("any").split_ascii_whitespace();
        let lists: Vec<Vec<&str>> = lists
            .map(|list| list.split(',').map(|name| name.split(':').next().unwrap_or_default()).collect())
            .collect();
        let by_key = lists.iter().filter(|names| names.contains(&"publickey"));
        let others = by_key.flatten().filter(|name| **name != "publickey");
        others.map(|name| (*name).to_owned()).collect()
    }

    /// Whether a login by key needs what this keyword turns on.
    fn wants_beside_a_key(&self, keyword: &str) -> bool {
        let method = match keyword {
            "KbdInteractiveAuthentication" => "keyboard-interactive",
            "PasswordAuthentication" => "password",
            "HostbasedAuthentication" => "hostbased",
            "GSSAPIAuthentication" => "gssapi-with-mic",
            _ => return false,
        };
        self.beside_a_key().iter().any(|name| name == method)
    }

    /// Whether this method alone can make up a login (`AuthenticationMethods` in sshd_config(5)).
    fn is_enough(&self, method: &str) -> bool {
        let lists = self.get("authenticationmethods").unwrap_or("any");
        let names = |list: &str| -> Vec<String> {
            list.split(',').map(|name| name.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        let mut lists = lists.split_ascii_whitespace().map(names);
        lists.any(|names| {
            names == ["any"] || (names.iter().any(|n| n == method) && !names.iter().any(|n| n == "publickey"))
        })
    }
}

/// One login that a server was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// How a person would name it: `any account`, or what a `Match` block is about.
    pub whom: String,
    /// Whether it is root's.
    pub root: bool,
    /// Whether its account is exempt.
    pub exempt: bool,
    /// What holds for it.
    pub settings: Settings,
    /// Whether the gate stands in the PAM stack of this login, else why not.
    pub gate: Result<(), String>,
}

/// By whom an sshd is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunBy {
    /// By root.
    #[default]
    Root,
    /// By somebody else, as whom alone it can let people in.
    User {
        /// Their user id.
        uid: u32,
        /// Its process.
        pid: i32,
    },
}

/// What an sshd has not read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// What of its configuration changed since it last read that.
    pub path: String,
    /// Its process.
    pub pid: i32,
    /// Whether it writes a pid file, which tells when it has read its configuration again.
    pub tells: bool,
}

/// One sshd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sshd {
    /// How a person would name it.
    pub name: String,
    /// Its configuration file.
    pub config: String,
    /// Where it listens, as far as known.
    pub listens: Vec<String>,
    /// By whom it is run.
    pub run_by: RunBy,
    /// The unit of systemd's that listens for it on a local socket which anybody on the host may connect to.
    pub local_socket: Option<String>,
    /// What it has not read yet: it still goes by what was there before.
    pub unread_since: Option<Unread>,
    /// Whether it reads `/etc/ssh/sshd_config.d`, where the closing drop-in goes.
    pub reads_drop_ins: bool,
    /// Whether the closing drop-in is there and read.
    pub has_closing: bool,
    /// What about the way it was started keeps its log from the daemon, whatever its configuration says.
    pub unlogged: Option<String>,
    /// Why its configuration is not known, where it is not.
    pub unreadable: Option<String>,
    /// What holds for each login that it was asked about; the first is anybody's.
    pub logins: Vec<Login>,
}

impl Sshd {
    /// Whether somebody who takes grants logs in by key and what this keyword turns on.
    fn wants_beside_a_key(&self, keyword: &str) -> bool {
        self.logins.iter().any(|login| !login.exempt && login.settings.wants_beside_a_key(keyword))
    }
}

/// A program that listens and is, or may be, another SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherServer {
    /// Its program.
    pub program: String,
    /// Its process; `None` for one that systemd would start.
    pub pid: Option<i32>,
    /// Whose it is.
    pub uid: u32,
    /// Where it listens.
    pub listens: Vec<String>,
    /// The unit of systemd's that it runs in.
    pub unit: Option<String>,
}

/// An exempt account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemptAccount {
    /// Its name.
    pub account: String,
    /// Each key file of its own, with the fingerprints of the keys in it.
    pub keys: Vec<(String, Vec<String>)>,
}

/// What the answer depends on besides the host itself.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whether enforce is on.
    pub enforces: bool,
    /// Whether `accounts.no_exempt` says that no exempt account is wanted.
    pub no_exempt: bool,
    /// Whether somebody may be given root, or root is exempt.
    pub root_is_wanted: bool,
    /// The accounts that are never locked down.
    pub exempt: Vec<Account>,
}

/// What the survey of servers is asked: `/usr/lib/lockdownd/ways-in` reads it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyOrder {
    /// The accounts that are never locked down.
    pub exempt: Vec<Account>,
    /// Whether sshds are to be asked as if the closing drop-in were not there.
    pub unclosed: bool,
    /// Configurations without it, by the main files that they stand for.
    pub stand_ins: BTreeMap<PathBuf, PathBuf>,
}

/// What the survey of servers found, as it prints it in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// Every sshd of root's, and some of each user.
    pub sshds: Vec<Sshd>,
    /// Every other server of root's, and some of each user.
    pub others: Vec<OtherServer>,
    /// How many more each user runs.
    pub more_of_users: BTreeMap<u32, u64>,
    /// What could not be looked at, a sentence each.
    pub unseen: Vec<String>,
    /// What the survey was to be kept from and was not, a sentence each.
    pub unconfined: Vec<String>,
}

/// What was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether enforce is on: in observe the gate lets everybody by.
    pub enforces: bool,
    /// Whether somebody may be given root, or root is exempt.
    pub root_is_wanted: bool,
    /// The servers.
    pub servers: Surveyed,
    /// The exempt accounts.
    pub exempt: Vec<ExemptAccount>,
    /// What is missing in sshd's log, one sentence.
    pub missing_in_log: Option<String>,
}

/// One way in, judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// What kind of way, one word.
    pub kind: &'static str,
    /// Through which server.
    pub server: String,
    /// For whom.
    pub whom: String,
    /// Whether it lets anybody in who has no grant.
    pub state: WayState,
    /// Whether it stands open on purpose.
    pub wanted: bool,
    /// What was found.
    pub why: String,
    /// The one line that closes it.
    pub closes: Option<String>,
}

/// Every way in, server by server.
#[must_use]
pub fn judge(observed: &Observed) -> Vec<Way> {
    let by_root = |sshd: &&Sshd| sshd.run_by == RunBy::Root;
    let mut ways: Vec<Way> =
        observed.servers.sshds.iter().filter(by_root).flat_map(|sshd| of_sshd(observed, sshd)).collect();
    ways.extend(observed.exempt.iter().map(|exempt| exempt_account(observed, exempt)));
    let unseen = |what: &String| open("unknown", "this host", "any account", what.clone(), None);
    ways.extend(observed.servers.unseen.iter().map(unseen));
    ways.extend(bounded::of_users(observed));
    ways
}

/// What could lock an operator out, and what the daemon is not told, a sentence each with what to do about it.
#[must_use]
pub fn warnings(observed: &Observed) -> Vec<String> {
    let penalties = |sshd: &Sshd| {
        let settings = &sshd.logins.first()?.settings;
        let is_set = settings.get("persourcepenalties").is_some_and(|value| !value.starts_with("no"));
        if !is_set || settings.get("persourcepenaltyexemptlist").is_some() {
            return None;
        }
        Some(format!(
            "{}: PerSourcePenalties shuts an address out after a few refused logins, for up to ten minutes, the bastion's and \
             with it every exempt account's too: {PENALTY_EXEMPT} in /etc/lockdownd/config.toml spares it, while enforce is on",
            sshd.name
        ))
    };
    let of_root = || observed.servers.sshds.iter().filter(|sshd| sshd.run_by == RunBy::Root);
    let found: BTreeSet<String> = of_root()
        .filter_map(penalties)
        .chain(of_root().filter_map(closing::out_of_reach))
        .chain(of_root().filter_map(heard::unheard))
        .chain(observed.missing_in_log.clone())
        .chain(observed.servers.unconfined.iter().cloned())
        .collect();
    found.into_iter().collect()
}

fn open(kind: &'static str, server: &str, whom: &str, why: String, closes: Option<String>) -> Way {
    let (server, whom) = (server.to_owned(), whom.to_owned());
    Way { kind, server, whom, state: WayState::Open, wanted: false, why, closes }
}

fn of_sshd(observed: &Observed, sshd: &Sshd) -> Vec<Way> {
    if let Some(what) = &sshd.unreadable {
        let why = format!("what it lets in cannot be told: {what}");
        return vec![open("unknown", &sshd.name, "any account", why, None)];
    }
    let mut ways = vec![gate_of(observed, sshd)];
    ways.extend(sshd.unread_since.as_ref().map(|unread| unread_config(sshd, unread)));
    ways.extend(socket_of(observed, sshd));
    for method in &METHODS {
        ways.extend(by_method(observed, sshd, method));
    }
    ways
}

/// An sshd that goes by what it has read before.
fn unread_config(sshd: &Sshd, unread: &Unread) -> Way {
    let Unread { path, pid, tells } = unread;
    let why =
        format!("{path} changed since it has read its configuration: what is told of it holds once it has read that");
    let closes = match tells {
        true => format!("kill -HUP {pid}"),
        false => format!("restart process {pid}: it writes no pid file, which would tell of a reload"),
    };
    open("unread_config", &sshd.name, "any account", why, Some(closes))
}

/// Why the gate closes nothing for a login; `None` where it does.
fn ungated(observed: &Observed, login: &Login) -> Option<String> {
    if !login.settings.is_yes("usepam") {
        return Some("UsePAM is off, so that nobody asks the gate".to_owned());
    }
    match &login.gate {
        Err(why) => Some(why.clone()),
        Ok(()) if !observed.enforces => Some("in observe the gate lets everybody by".to_owned()),
        Ok(()) => None,
    }
}

/// The gate's place in the PAM stacks of one sshd.
fn gate_of(observed: &Observed, sshd: &Sshd) -> Way {
    let missing =
        sshd.logins.iter().filter(|login| !login.exempt).find_map(|login| Some((login, ungated(observed, login)?)));
    match missing {
        Some((login, why)) => {
            let closes = if !login.settings.is_yes("usepam") {
                format!("UsePAM yes in {}", sshd.config)
            } else if login.gate.is_err() {
                "pam-auth-update --enable lockdownd".to_owned()
            } else {
                ENFORCE.to_owned()
            };
            open("gate", &sshd.name, &login.whom, why, Some(closes))
        }
        None => Way {
            kind: "gate",
            server: sshd.name.clone(),
            whom: "any account".to_owned(),
            state: WayState::Closed,
            wanted: false,
            why: "the login gate stands in the account and session steps of its PAM stacks".to_owned(),
            closes: None,
        },
    }
}

/// The local socket that leads to an sshd, from any account on the host.
fn socket_of(observed: &Observed, sshd: &Sshd) -> Option<Way> {
    let unit = sshd.local_socket.as_ref()?;
    let ungated = sshd.logins.iter().filter(|login| !login.exempt).find_map(|login| ungated(observed, login));
    let why = format!("anybody on the host may connect to {}", sshd.listens.join(", "));
    let mut way = open("local_socket", &sshd.name, "any account", why, Some(format!("systemctl mask --now {unit}")));
    match ungated {
        Some(why) => way.why.push_str(&format!("; {why}")),
        None => way.state = WayState::ClosedByGate,
    }
    Some(way)
}

/// One method at one sshd: for anybody, and for each login that differs from that, as far as [`bounded::MAX_TOLD`].
fn by_method(observed: &Observed, sshd: &Sshd, method: &methods::Method) -> Vec<Way> {
    let mut ways: Vec<(Way, usize)> = Vec::new();
    for login in sshd.logins.iter().filter(|login| !login.exempt && (!method.root_only || login.root)) {
        let mut way = one(observed, sshd, method, login);
        if let Some((_, logins)) = ways.iter_mut().find(|(other, _)| (other.state, &other.why) == (way.state, &way.why))
        {
            *logins += 1;
            continue;
        }
        if !method.root_only && ways.is_empty() {
            "any account".clone_into(&mut way.whom);
        }
        ways.push((way, 1));
    }
    bounded::logins(ways)
}

fn one(observed: &Observed, sshd: &Sshd, method: &methods::Method, login: &Login) -> Way {
    let (state, why) = match (method.found)(&login.settings) {
        Err(off) => (WayState::Closed, off),
        Ok(found) => match ungated(observed, login) {
            None => (WayState::ClosedByGate, found),
            Some(ungated) => (WayState::Open, format!("{found}; {ungated}")),
        },
    };
    let closes = (state != WayState::Closed).then(|| match (method.closes)(observed.root_is_wanted) {
        // Its line would take the second method from those who need one.
        Some((keyword, _)) if sshd.wants_beside_a_key(keyword) => {
            format!("AuthenticationMethods publickey in {}, outside of Match blocks", sshd.config)
        }
        Some((keyword, value)) => format!("{keyword} {value} in {}", sshd.config),
        None => ENFORCE.to_owned(),
    });
    let (server, whom) = (sshd.name.clone(), login.whom.clone());
    Way { kind: method.kind, server, whom, state, wanted: false, why, closes }
}

fn exempt_account(observed: &Observed, exempt: &ExemptAccount) -> Way {
    let count: usize = exempt.keys.iter().map(|(_, keys)| keys.len()).sum();
    let files: Vec<String> = exempt.keys.iter().map(|(file, keys)| format!("{file} ({})", keys.join(" "))).collect();
    let mut why = match count {
        0 => "exempt, with no key in its own files".to_owned(),
        _ => format!("exempt, with {count} {} in {}", if count == 1 { "key" } else { "keys" }, files.join(", ")),
    };
    let login =
        observed.servers.sshds.iter().flat_map(|sshd| &sshd.logins).filter(|l| l.exempt && l.whom == exempt.account);
    let also: BTreeSet<&str> = login
        .flat_map(|login| {
            METHODS
                .iter()
                .filter(|m| m.kind != "key_files" && (!m.root_only || login.root) && (m.found)(&login.settings).is_ok())
        })
        .map(|method| method.kind)
        .collect();
    if !also.is_empty() {
        why.push_str(&format!("; also by {}", also.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let closes = format!("take {} out of accounts.exempt in /etc/lockdownd/config.toml", exempt.account);
    Way { wanted: true, ..open("exempt", "every sshd", &exempt.account, why, Some(closes)) }
}

#[cfg(test)]
mod tests;
