//! Whether sshd and PAM would let an account in by a key, whatever the gate says: sshd_config(5), shadow(5), and the
//! tests that sshd makes before a session begins, and what PAM said when it was asked.
//!
//! It judges exempt accounts, of which one has to work, and granted ones, which nothing here may silently hold back. It
//! follows OpenSSH's `allowed_user`; shadow(5) decides only where PAM was not asked, and else explains what PAM said. What
//! cannot be known is no reason.

use std::collections::BTreeSet;

use jiff::{ToSpan, civil::Date};

/// The characters that glob(3) takes for more than themselves.
const PATTERN_CHARACTERS: [char; 4] = ['*', '?', '[', '\\'];

/// What an sshd has configured for one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `UsePAM`.
    pub pam: bool,
    /// `RefuseConnection` (OpenSSH 9.9 and later).
    pub refuses: bool,
    /// Whether `MaxAuthTries` is 0.
    pub no_tries: bool,
    /// `PubkeyAuthentication`.
    pub public_key: bool,
    /// `PasswordAuthentication`.
    pub password: bool,
    /// `KbdInteractiveAuthentication`.
    pub keyboard_interactive: bool,
    /// `PermitRootLogin`, as `sshd -T` prints it.
    pub root: String,
    /// Whether `DenyUsers` names the account.
    pub denied: bool,
    /// Whether `AllowUsers` names the account; `None`: there is no `AllowUsers`.
    pub allowed: Option<bool>,
    /// Whether `DenyGroups` names one of its groups.
    pub group_denied: bool,
    /// Whether `AllowGroups` names one of its groups; `None`: there is no `AllowGroups`.
    pub group_allowed: Option<bool>,
    /// The lists of `AuthenticationMethods`; `any`, or none, where every method will do.
    pub methods: Vec<String>,
    /// `PubkeyAcceptedAlgorithms`; empty where sshd does not tell.
    pub algorithms: Vec<String>,
    /// Whether sshd takes `AuthorizedKeysFile` for a pattern of glob(7): OpenSSH 10 and later.
    pub globs: bool,
    /// `RevokedKeys`; `None`: there is no such list.
    pub revoked: Option<RevokedKeys>,
    /// The fewest bits of an RSA key (`RequiredRSASize`); 0 where sshd does not tell.
    pub rsa_bits: usize,
    /// Whether `MaxSessions` is 0: forwarding alone.
    pub no_sessions: bool,
    /// `ForceCommand`, where one is set.
    pub force_command: Option<ForceCommand>,
    /// `ChrootDirectory`, where one is set: sshd does not look at the shell then.
    pub chroot: Option<String>,
}

/// What runs instead of a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForceCommand {
    /// The command.
    pub command: String,
    /// Whether it begins with the path of a program that the account may run, and that does not just end: one that records
    /// sessions, say. It may give a shell.
    pub is_program: bool,
}

/// The file of `RevokedKeys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedKeys {
    /// Its path.
    pub file: String,
    /// What is wrong with it, if anything.
    pub broken: Option<Broken>,
}

/// Why it is not known which keys a file lists: then it counts as listing every one. To be read behind the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// sshd cannot read it, and refuses every key.
    Unread(String),
    /// It is not judged here, or not believed; sshd may read it.
    Unjudged(String),
}

/// A key that somebody would log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its type; `None` for a certificate, of whichever type.
    pub algorithm: Option<String>,
    /// Whether `RevokedKeys` lists it, or the authority that signed it.
    pub revoked: bool,
    /// The bits of an RSA key; `None` for all others.
    pub rsa_bits: Option<usize>,
}

/// What the host says of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its user id.
    pub uid: u32,
    /// [`is_pattern`] of its name.
    pub name_is_pattern: bool,
    /// What is wrong with its shell, if anything.
    pub shell: Option<BadShell>,
    /// What shadow(5) says of it; `None` where it has no entry there.
    pub aging: Option<Aging>,
    /// Whether it could answer keyboard-interactive: it has a password, or PAM asks for something else.
    pub can_answer: bool,
    /// Whether the gate asks for keyboard-interactive beside the key (`accounts.require`).
    pub second_method: bool,
    /// The file of nologin(5) that is there, if one is.
    pub nologin: Option<String>,
    /// What PAM's account step says of it.
    pub pam: Pam,
    /// What else of this host keeps it out, a sentence each.
    pub barred: Vec<String>,
}

/// What PAM's account step says of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pam {
    /// It was not asked, or could not tell.
    #[default]
    Unknown,
    /// It lets the account by.
    Lets,
    /// It does not: in which service, and its words.
    Refuses(String),
}

/// A shell that gives no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadShell {
    /// It is not there, or cannot be executed: sshd refuses the account.
    Missing(String),
    /// It is there, and ends at once: nologin(8), false(1), sync(1).
    Refuses(String),
    /// It is there, and running it as the account failed: which, and why.
    Fails(String, String),
}

/// The ageing fields of a shadow(5) entry, in days since 1970; `None` for an empty field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aging {
    /// When the password was changed last; 0 means that it has to be changed.
    pub changed: Option<i64>,
    /// After how many days it has to be changed.
    pub maximum: Option<i64>,
    /// The first day on which the account is expired.
    pub expires: Option<i64>,
    /// Whether the password begins with `!`, which sshd takes for locked where it does not use PAM.
    pub locked: bool,
    /// Whether there is a password that somebody could type.
    pub password: bool,
}

/// One thing that keeps an account out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// Its name is a pattern: sshd would look for its keys in another file.
    Name,
    /// The account expired on this day.
    Expired(Date),
    /// The password has to be changed at the next login.
    MustChange,
    /// The password is older than it may be.
    AgedOut {
        /// Since this day.
        since: Date,
    },
    /// The account is locked, and sshd does not use PAM.
    Locked,
    /// Its shell.
    Shell(BadShell),
    /// A file of nologin(5) is there.
    Nologin(String),
    /// PAM's account step refuses it, in these words.
    Pam(String),
    /// `RefuseConnection yes`.
    Refused,
    /// `MaxAuthTries 0`.
    NoTries,
    /// Something else of this host, a sentence.
    Host(String),
    /// `DenyUsers`.
    DenyUsers,
    /// `AllowUsers`.
    AllowUsers,
    /// `DenyGroups`.
    DenyGroups,
    /// `AllowGroups`.
    AllowGroups,
    /// `PermitRootLogin`, and what it says.
    Root(String),
    /// `PubkeyAuthentication no`.
    PublicKey,
    /// `AuthenticationMethods`, and what it says.
    Methods(String),
    /// The gate asks for a second method, and by `AuthenticationMethods`, if there is one, sshd does not.
    SecondMethod(Option<String>),
    /// `PubkeyAcceptedAlgorithms` takes none of these types of keys.
    Algorithms(Vec<String>),
    /// Every key is an RSA key below so many bits (`RequiredRSASize`).
    ShortRsa(usize),
    /// `RevokedKeys` lists every key, or cannot be read.
    Revoked(RevokedKeys),
    /// `MaxSessions 0`: no shell.
    NoSessions,
    /// `ForceCommand`: no shell, but what it runs.
    ForceCommand(ForceCommand),
    /// `ChrootDirectory`, and what it confines to.
    Chroot(String),
}

impl Bar {
    /// The keyword of sshd_config(5), in lower case, whose line says so.
    #[must_use]
    pub fn keyword(&self) -> Option<&'static str> {
        match self {
            Self::Refused => Some("refuseconnection"),
            Self::NoTries => Some("maxauthtries"),
            Self::DenyUsers => Some("denyusers"),
            Self::AllowUsers => Some("allowusers"),
            Self::DenyGroups => Some("denygroups"),
            Self::AllowGroups => Some("allowgroups"),
            Self::Root(_) => Some("permitrootlogin"),
            Self::PublicKey => Some("pubkeyauthentication"),
            Self::Methods(_) | Self::SecondMethod(Some(_)) => Some("authenticationmethods"),
            Self::Algorithms(_) => Some("pubkeyacceptedalgorithms"),
            Self::ShortRsa(_) => Some("requiredrsasize"),
            Self::Revoked(_) => Some("revokedkeys"),
            Self::NoSessions => Some("maxsessions"),
            Self::ForceCommand(_) => Some("forcecommand"),
            Self::Chroot(_) => Some("chrootdirectory"),
            _ => None,
        }
    }

    /// What keeps this account out and what to do about it; `place` is where the keyword stands.
    #[must_use]
    pub fn sentence(&self, account: &str, place: Option<&str>) -> String {
        let at = place.map(|place| format!(" at {place}")).unwrap_or_default();
        match self {
            Self::Name => format!(
                "OpenSSH 10 and later take the characters {PATTERN_CHARACTERS:?} in its name for a pattern and look for its keys in \
                 another file: give the person an account of another name, usermod -l NAME '{account}'"
            ),
            Self::Expired(day) => format!("the account expired on {day}: chage -E -1 {account}"),
            Self::MustChange => {
                format!("its password has to be changed at the next login: chage -d $(date +%F) {account}")
            }
            Self::AgedOut { since } => {
                format!("its password has to be changed since {since}: chage -M -1 {account}")
            }
            Self::Locked => {
                format!("its password is locked and UsePAM is off: set UsePAM yes, or usermod -p '*' {account}")
            }
            Self::Shell(BadShell::Missing(shell)) => {
                format!("its shell {shell} is missing or cannot be executed: usermod -s /bin/bash {account}")
            }
            Self::Shell(BadShell::Refuses(shell)) => {
                format!("its shell {shell} lets nobody work: usermod -s /bin/bash {account}")
            }
            Self::Shell(BadShell::Fails(shell, why)) => {
                format!("its shell {shell} cannot be run as {account} ({why}): usermod -s /bin/bash {account}")
            }
            Self::Nologin(file) => format!("{file} is there, so that only root may log in: rm {file}"),
            Self::Pam(words) => format!("PAM's account step refuses {account} {words}"),
            Self::Refused => format!("RefuseConnection{at} is yes for {account}: take it out"),
            Self::NoTries => format!("MaxAuthTries{at} is 0, so that no key is ever looked at: set it to 6"),
            Self::Host(what) => what.clone(),
            Self::DenyUsers => format!("DenyUsers{at} names {account}: take it out"),
            Self::AllowUsers => format!("AllowUsers{at} does not name {account}: add it"),
            Self::DenyGroups => format!("DenyGroups{at} names a group of {account}: take one out of the other"),
            Self::AllowGroups => {
                format!("AllowGroups{at} names no group of {account}: add one, or {account} to a group that it names")
            }
            Self::Root(value) => format!("PermitRootLogin{at} is {value}: set it to prohibit-password"),
            Self::PublicKey => format!("PubkeyAuthentication{at} is no for {account}: set it to yes"),
            Self::Methods(value) => format!(
                "AuthenticationMethods{at} is {value}, which {account} cannot meet: have it include publickey alone, for \
                 instance in a block `Match User {account}`"
            ),
            Self::SecondMethod(value) => {
                let what = match value {
                    Some(value) => format!("AuthenticationMethods{at} is {value}"),
                    None => "sshd has no AuthenticationMethods".to_owned(),
                };
                format!(
                    "accounts.require asks for a second method, and {what}, so that sshd asks for none: set \
                     AuthenticationMethods publickey,keyboard-interactive, for instance in a block `Match User {account}`"
                )
            }
            Self::Algorithms(types) => {
                format!(
                    "PubkeyAcceptedAlgorithms{at} takes no key of the type {}: add it, or use another key",
                    types.join(", ")
                )
            }
            Self::Revoked(RevokedKeys { file, broken: Some(Broken::Unjudged(why)) }) => format!(
                "RevokedKeys{at} names {file}, which {why}: whether it lists the key cannot be told, and it counts as if it did; \
                 mend it, or make it a key revocation list (ssh-keygen -k)"
            ),
            Self::Revoked(RevokedKeys { file, broken: Some(Broken::Unread(why)) }) => format!(
                "RevokedKeys{at} names {file}, which {why}, and sshd refuses every key where it cannot read that file: mend \
                 it (an empty one will do), or take the line out"
            ),
            Self::Revoked(RevokedKeys { file, broken: None }) => {
                format!("RevokedKeys{at} names {file}, which lists the key: use another key, or take it off that list")
            }
            Self::ShortRsa(bits) => {
                format!("RequiredRSASize{at} takes no RSA key below {bits} bits: use a longer one, or another type")
            }
            Self::NoSessions => format!("MaxSessions{at} is 0, so that {account} gets no shell: set it to 10"),
            Self::ForceCommand(ForceCommand { command, .. }) => format!(
                "ForceCommand{at} runs {command} instead of a shell: a block `Match User {account}` before any other Match may set \
                 it to none"
            ),
            Self::Chroot(directory) => format!(
                "ChrootDirectory{at} confines {account} to {directory}: a block `Match User {account}` before any other Match may \
                 set it to none"
            ),
        }
    }
}

/// Everything that keeps an account with these keys out; empty when nothing does. With no keys, they are not judged. `today`
/// is in days since 1970.
#[must_use]
pub fn judge(rules: &Rules, login: &Login, keys: &[Offered], today: i64) -> Vec<Bar> {
    let mut bars = Vec::new();
    if rules.globs && login.name_is_pattern {
        bars.push(Bar::Name);
    }
    bars.extend(by_pam(rules, login, today));
    bars.extend(login.barred.iter().cloned().map(Bar::Host));
    let shell = login.shell.clone().filter(|shell| rules.chroot.is_none() || matches!(shell, BadShell::Refuses(_)));
    bars.extend(shell.map(Bar::Shell));
    let says = [
        (rules.refuses, Bar::Refused),
        (rules.no_tries, Bar::NoTries),
        (rules.denied, Bar::DenyUsers),
        (rules.allowed == Some(false), Bar::AllowUsers),
        (rules.group_denied, Bar::DenyGroups),
        (rules.group_allowed == Some(false), Bar::AllowGroups),
        (!rules.public_key, Bar::PublicKey),
    ];
    bars.extend(says.into_iter().filter(|(holds, _)| *holds).map(|(_, bar)| bar));
    let by_key = ["yes", "prohibit-password", "without-password"].contains(&rules.root.as_str());
    if login.uid == 0 && !by_key && !rules.root.is_empty() {
        bars.push(Bar::Root(rules.root.clone()));
    }
    let (usable, bar) = by_keys(rules, keys);
    bars.extend(bar);
    bars.extend(by_methods(rules, login, usable.max(1)));
    bars
}

/// What the lists of methods have against it.
fn by_methods(rules: &Rules, login: &Login, keys: usize) -> Option<Bar> {
    let said = || rules.methods.join(" ");
    let met: Vec<&String> = rules.methods.iter().filter(|list| can_meet(list, rules, login, keys)).collect();
    let has_second = |list: &&&String| methods_of(list).any(|method| method == "keyboard-interactive");
    match (rules.methods.is_empty(), met.is_empty()) {
        (false, true) => Some(Bar::Methods(said())),
        _ if !login.second_method || met.iter().any(|list| has_second(&list)) => None,
        _ => Some(Bar::SecondMethod(rules.methods.iter().any(|list| list != "any").then(said))),
    }
}

fn methods_of(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|method| method.split(':').next().unwrap_or(method))
}

/// What leaves somebody who gets in without a shell on the whole host: wanted for some accounts, and no rescue.
#[must_use]
pub fn confinement(rules: &Rules) -> Vec<Bar> {
    let no_sessions = rules.no_sessions.then_some(Bar::NoSessions);
    let command = rules.force_command.clone().map(Bar::ForceCommand);
    no_sessions.into_iter().chain(command).chain(rules.chroot.clone().map(Bar::Chroot)).collect()
}

/// What of [`confinement`] makes an account no rescue. A program that runs instead of a shell may give one.
#[must_use]
pub fn no_rescue(rules: &Rules) -> Vec<Bar> {
    let mut bars = confinement(rules);
    bars.retain(|bar| !matches!(bar, Bar::ForceCommand(forced) if forced.is_program));
    bars
}

/// How many of the keys sshd takes, and why it takes none.
fn by_keys(rules: &Rules, keys: &[Offered]) -> (usize, Option<Bar>) {
    let unrevoked: Vec<&Offered> = keys.iter().filter(|key| !key.revoked).collect();
    let is_long = |key: &&&Offered| key.rsa_bits.is_none_or(|bits| bits >= rules.rsa_bits);
    let left: Vec<Option<&str>> = unrevoked.iter().filter(is_long).map(|key| key.algorithm.as_deref()).collect();
    let usable = left.iter().filter(|algorithm| algorithm.is_none_or(|algorithm| rules.takes(algorithm))).count();
    let all_are_revoked = unrevoked.is_empty() && !keys.is_empty();
    let bar = match &rules.revoked {
        Some(list) if list.broken.is_some() || all_are_revoked => Some(Bar::Revoked(list.clone())),
        _ if left.is_empty() && !keys.is_empty() => Some(Bar::ShortRsa(rules.rsa_bits)),
        _ if usable == 0 && !left.is_empty() => {
            let types: BTreeSet<&str> = left.into_iter().flatten().collect();
            Some(Bar::Algorithms(types.into_iter().map(str::to_owned).collect()))
        }
        _ => None,
    };
    (usable, bar)
}

/// Whether a name in a path would be taken for a pattern, by one of glob(7)'s characters or its backslash.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains(PATTERN_CHARACTERS)
}

/// What PAM has against it, with what explains that, if anything here does. Where PAM was not asked, what shadow(5) and
/// nologin(5) have against it.
fn by_pam(rules: &Rules, login: &Login, today: i64) -> Vec<Bar> {
    let nologin = login.nologin.clone().filter(|_| login.uid != 0).map(Bar::Nologin);
    let explained = by_age(rules, login, today).into_iter().chain(nologin);
    match &login.pam {
        Pam::Lets if rules.pam => Vec::new(),
        Pam::Refuses(words) if rules.pam => explained.chain([Bar::Pam(words.clone())]).collect(),
        _ => explained.collect(),
    }
}

/// What shadow(5) has against it.
fn by_age(rules: &Rules, login: &Login, today: i64) -> Option<Bar> {
    let aging = login.aging?;
    if !rules.pam && aging.locked {
        return Some(Bar::Locked);
    }
    if let Some(expires) = aging.expires.filter(|expires| *expires >= 0 && today >= *expires) {
        return Some(Bar::Expired(day(expires)));
    }
    match (aging.changed, aging.maximum) {
        (Some(0), _) => Some(Bar::MustChange),
        (Some(changed), Some(maximum)) if changed > 0 && maximum >= 0 && today - changed > maximum => {
            Some(Bar::AgedOut { since: day(changed.saturating_add(maximum).saturating_add(1)) })
        }
        _ => None,
    }
}

/// Whether a list of methods can be gone through with as many keys, and names a key at all.
fn can_meet(list: &str, rules: &Rules, login: &Login, keys: usize) -> bool {
    if list == "any" {
        return true;
    }
    let methods: Vec<&str> = methods_of(list).collect();
    let with_keys = methods.iter().filter(|method| **method == "publickey").count();
    let typed = login.aging.is_none_or(|aging| aging.password);
    let others_are_met = methods.iter().all(|method| match *method {
        "publickey" => true,
        "password" => rules.password && typed,
        "keyboard-interactive" => rules.keyboard_interactive && login.can_answer,
        _ => false,
    });
    (1..=keys).contains(&with_keys) && others_are_met
}

impl Rules {
    /// Whether a key of this type may be used to log in.
    fn takes(&self, key: &str) -> bool {
        let signs_as: &[&str] = match key {
            "ssh-rsa" => &["ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"],
            "sk-ecdsa-sha2-nistp256@openssh.com" => {
                &["sk-ecdsa-sha2-nistp256@openssh.com", "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"]
            }
            _ => &[],
        };
        self.algorithms.is_empty() || self.algorithms.iter().any(|a| a == key || signs_as.contains(&a.as_str()))
    }
}

fn day(days: i64) -> Date {
    jiff::civil::date(1970, 1, 1).saturating_add(days.clamp(0, 2_900_000).days())
}

#[cfg(test)]
mod tests;
