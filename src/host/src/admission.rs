//! What sshd, passwd, group and shadow say of an account that is to log in by a key: the facts that
//! [`lockdown_core::policy::admission`] judges.
//!
//! Everything is read anew for each look, never taken from what the daemon knew before. It runs sshd: never on the main
//! thread.

use std::{
    cell::OnceCell,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use jiff::Timestamp;
use lockdown_core::{
    config::Demand,
    keys::{key::Key, person::PersonKey},
    policy::admission::{
        Aging, BadShell, Bar, ForceCommand, Login, Offered, RevokedKeys, Rules, confinement, is_pattern, judge,
        no_rescue,
    },
};
use record::Account;

use super::{
    accounts::{self, Accounts, PasswdEntry},
    name_service,
    pam::{self, Step},
    readiness::probes,
    sshd::{
        effective::{Effective, EffectiveError, effective, openssh_version},
        listener::Invocation,
        scan::{Disk, Scan, Setting, scan},
    },
};

mod revoked;

/// Where passwords and their ages are (shadow(5)).
const SHADOW: &str = "/etc/shadow";
/// While it is there, only root may log in (nologin(5)).
const NOLOGIN: &str = "/etc/nologin";
/// The first OpenSSH whose `AuthorizedKeysFile` may be a pattern (release notes of 10.0).
const GLOBS: (u32, u32) = (10, 0);
/// What an empty shell in passwd(5) means.
const DEFAULT_SHELL: &str = "/bin/sh";
/// Programs that end at once when they are somebody's shell.
const REFUSING_SHELLS: [&str; 2] = ["nologin", "false"];
/// Modules that ask for nothing but the password, or for nothing at all.
const PASSWORD_ONLY: [&str; 12] = [
    "pam_cap.so",
    "pam_deny.so",
    "pam_env.so",
    "pam_exec.so",
    "pam_faildelay.so",
    "pam_faillock.so",
    "pam_group.so",
    "pam_nologin.so",
    "pam_permit.so",
    "pam_succeed_if.so",
    "pam_unix.so",
    "pam_warn.so",
];

/// The host as it is now, to judge accounts by.
#[derive(Debug)]
pub struct Admission {
    accounts: Accounts,
    groups: Vec<(String, u32, Vec<String>)>,
    shadow: Vec<u8>,
    sshd: Invocation,
    scan: Scan,
    nologin: bool,
    globs: bool,
    today: i64,
    revocations: revoked::Revocations,
    /// Why the name service did not answer: it is not asked again.
    silent: OnceCell<String>,
}

/// A key by which an account is to get in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The key.
    pub key: Key,
    /// Whether it signs certificates that get in instead.
    pub authority: bool,
}

impl From<&PersonKey> for Candidate {
    fn from(key: &PersonKey) -> Self {
        Self { key: key.key().clone(), authority: false }
    }
}

/// What an account is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever sshd has it do, by a login that the gate asks this of.
    Login(Demand),
    /// A shell on the whole host, or a program that may give one.
    Shell,
}

/// What came of asking whether an account gets in.
#[derive(Debug, thiserror::Error)]
pub enum NoAdmission {
    /// Neither passwd(5) nor another source of the name service has it.
    #[error("there is no such account")]
    NoAccount,
    /// passwd(5) does not list it, and the name service does not answer.
    #[error("whether there is such an account cannot be told: {0}")]
    NameService(String),
    /// sshd cannot be asked.
    #[error(transparent)]
    Sshd(#[from] EffectiveError),
    /// Each thing that keeps it out, and what to do about it.
    #[error("{}", .0.join("; "))]
    Barred(Vec<String>),
}

impl Admission {
    /// Reads accounts, groups, shadow and the standard sshd's configuration.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub fn read() -> Result<Self, String> {
        let bytes = |path: &str| match accounts::read_bounded(Path::new(path)) {
            Err(accounts::AccountsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            read => read.map_err(|error| error.to_string()),
        };
        let sshd = Invocation::standard();
        Ok(Self {
            accounts: Accounts::read().map_err(|error| error.to_string())?,
            groups: accounts::groups(&String::from_utf8_lossy(&bytes(accounts::GROUP)?)),
            shadow: bytes(SHADOW)?,
            scan: scan(&Disk, &sshd.config_file),
            // What is not known is taken as it does harm.
            globs: openssh_version(&sshd.binary).map_or(true, |version| version >= GLOBS),
            sshd,
            nologin: Path::new(NOLOGIN).exists(),
            today: Timestamp::now().as_second().div_euclid(86_400),
            revocations: revoked::Revocations::default(),
            silent: OnceCell::new(),
        })
    }

    /// The account's entry, from passwd(5) or else from another source of the name service.
    ///
    /// # Errors
    /// There is none, or that cannot be told.
    pub fn entry(&self, account: &Account) -> Result<PasswdEntry, NoAdmission> {
        let found = self.ask(|| name_service::entry(&self.accounts, account)).map_err(NoAdmission::NameService)?;
        found.ok_or(NoAdmission::NoAccount)
    }

    /// Asks the name service, but not again once it did not answer: each question may take its limit.
    fn ask<T>(&self, question: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
        match self.silent.get() {
            Some(why) => Err(why.clone()),
            None => question().map_err(|error| self.silent.get_or_init(|| error.to_string()).clone()),
        }
    }

    /// Whether this sshd takes the path of a key file for a pattern.
    #[must_use]
    pub fn globs(&self) -> bool {
        self.globs
    }

    /// The ids of the groups that an account is in, its primary one included.
    #[must_use]
    pub fn groups_of(&self, entry: &PasswdEntry) -> Vec<u32> {
        let name = entry.name.as_str();
        let listed = self.groups.iter().filter(|(_, _, members)| members.iter().any(|member| member == name));
        listed.map(|(_, gid, _)| *gid).chain([entry.gid]).collect()
    }

    /// Whether this user alone is in a group, by Debian's rule for files that the group may write (user-group-modes.patch,
    /// `secure_permissions`): as everybody's primary one, and in /etc/group besides only the file's owner.
    pub(crate) fn is_own_group(&self, gid: u32, uid: u32, owner: u32) -> bool {
        let Some((_, _, listed)) = self.groups.iter().find(|(_, of, _)| *of == gid) else { return false };
        let mut primary = self.accounts.entries.iter().filter(|entry| entry.gid == gid).peekable();
        let is_anybodys = primary.peek().is_some();
        let is_owner = |name: &String| {
            let owner = self.accounts.entries.iter().find(|entry| entry.uid == owner);
            owner.is_some_and(|owner| owner.name.as_str() == name)
        };
        let is_alone = match listed.as_slice() {
            [] => is_anybodys,
            [one] => is_owner(one),
            _ => false,
        };
        primary.all(|entry| entry.uid == uid) && is_alone
    }

    /// Whether sshd and PAM would let the account in by these keys, from anywhere that can be asked about. With no keys, they
    /// are not judged. Answers with sshd's configuration for it.
    ///
    /// # Errors
    /// What keeps it out.
    pub fn check(&self, entry: &PasswdEntry, keys: &[Candidate], wanted: Wanted) -> Result<Effective, NoAdmission> {
        let account = entry.name.as_str();
        let second_method = matches!(wanted, Wanted::Login(demand) if demand.second_method);
        let login = Login { second_method, ..self.login(entry, account) };
        let mut first = None;
        // A block may hold for some addresses only: an account is kept out where it is from everywhere.
        for spec in probes::around(&self.scan, account) {
            let effective = effective(&self.sshd, &spec)?;
            let mut rules = self.rules(&effective, entry, account);
            let offered = self.offered(&mut rules, keys);
            let mut bars = judge(&rules, &login, &offered, self.today);
            if wanted == Wanted::Shell {
                bars.extend(no_rescue(&rules));
            }
            if bars.is_empty() {
                return Ok(effective);
            }
            first.get_or_insert(bars);
        }
        let bars = first.unwrap_or_default();
        Err(NoAdmission::Barred(bars.iter().map(|bar| self.sentence(bar, account)).collect()))
    }

    /// What leaves an account that gets in by this configuration without a shell on the whole host, a sentence each.
    #[must_use]
    pub fn confinement(&self, effective: &Effective, entry: &PasswdEntry) -> Vec<String> {
        let account = entry.name.as_str();
        let bars = confinement(&self.rules(effective, entry, account));
        bars.iter().map(|bar| self.sentence(bar, account)).collect()
    }

    /// The keys as sshd would judge them; what is wrong with the list of revoked ones goes into `rules`.
    fn offered(&self, rules: &mut Rules, keys: &[Candidate]) -> Vec<Offered> {
        let bare: Vec<&Key> = keys.iter().map(|candidate| &candidate.key).collect();
        let mut revoked = vec![false; keys.len()];
        if let Some(list) = &mut rules.revoked {
            match self.revocations.of(&list.file, &bare, !self.globs) {
                Ok(found) => revoked = found,
                Err(why) => list.broken = Some(why),
            }
        }
        let algorithm = |candidate: &Candidate| (!candidate.authority).then(|| candidate.key.algorithm());
        let both = keys.iter().zip(revoked);
        let rsa_bits = |candidate: &Candidate| candidate.key.rsa_bits().filter(|_| !candidate.authority);
        both.map(|(candidate, revoked)| Offered {
            algorithm: algorithm(candidate),
            revoked,
            rsa_bits: rsa_bits(candidate),
        })
        .collect()
    }

    fn sentence(&self, bar: &Bar, account: &str) -> String {
        let place = bar.keyword().and_then(|keyword| self.place(keyword, bar, account));
        bar.sentence(account, place.as_deref())
    }

    /// Where a keyword stands that decides about this account.
    fn place(&self, keyword: &str, bar: &Bar, account: &str) -> Option<String> {
        let says = |setting: &&Setting| match bar {
            Bar::PublicKey => setting.args.first().is_some_and(|value| value == "no"),
            Bar::Root(value) => setting.args.first().is_some_and(|found| found == value),
            Bar::DenyUsers => setting.args.iter().any(|pattern| names(pattern, account)),
            Bar::NoSessions => setting.args.first().is_some_and(|value| value == "0"),
            Bar::Revoked(_) | Bar::ForceCommand(_) | Bar::Chroot(_) => {
                setting.args.first().is_some_and(|value| !is_none(value))
            }
            _ => true,
        };
        let fits = |setting: &&Setting| probes::may_hold_for(&self.scan, &setting.blocks, account);
        let last = self.scan.of(keyword).filter(says).filter(fits).last()?;
        Some(last.place.to_string())
    }

    fn login(&self, entry: &PasswdEntry, name: &str) -> Login {
        let aging = aging(&self.shadow, name);
        let typed = aging.is_some_and(|aging| aging.password);
        Login {
            uid: entry.uid,
            name_is_pattern: is_pattern(name),
            shell: bad_shell(&entry.shell),
            aging,
            can_answer: typed || asks_for_more("sshd"),
            second_method: false,
            nologin: self.nologin,
        }
    }

    /// Whether a command begins with a program that the account may run, by owner, group and mode of its file.
    fn is_program(&self, command: &str, entry: &PasswdEntry) -> bool {
        let program = Path::new(command.split_ascii_whitespace().next().unwrap_or_default());
        let Ok(meta) = fs::metadata(program) else { return false };
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bits = match () {
            () if entry.uid == 0 => 0o111,
            () if meta.uid() == entry.uid => 0o100,
            () if self.groups_of(entry).contains(&meta.gid()) => 0o010,
            () => 0o001,
        };
        program.is_absolute() && meta.is_file() && meta.mode() & bits != 0 && !REFUSING_SHELLS.contains(&name)
    }

    /// The names of an account's groups; `None` where the name service does not tell.
    fn group_names(&self, entry: &PasswdEntry) -> Option<Vec<String>> {
        let name = entry.name.as_str();
        let listed = || {
            let is_in =
                |gid: &u32, members: &[String]| *gid == entry.gid || members.iter().any(|member| member == name);
            let groups = self.groups.iter().filter(|(_, gid, members)| is_in(gid, members));
            groups.map(|(group, ..)| group.clone()).collect()
        };
        self.ask(|| name_service::groups(name)).ok().map(|asked| asked.unwrap_or_else(listed))
    }

    fn rules(&self, effective: &Effective, entry: &PasswdEntry, name: &str) -> Rules {
        let list = |keyword: &str, separator: char| -> Vec<String> {
            let words = effective.all(keyword).flat_map(move |line| line.split(separator));
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let listed = |keyword: &str, of: &dyn Fn(&str) -> bool| {
            let patterns = list(keyword, ' ');
            (!patterns.is_empty()).then(|| patterns.iter().any(|pattern| of(pattern)))
        };
        let groups_listed = |keyword: &str| {
            let patterns = list(keyword, ' ');
            if patterns.is_empty() {
                return None;
            }
            let groups = self.group_names(entry)?;
            Some(groups.iter().any(|group| patterns.iter().any(|pattern| probes::matches(pattern, group))))
        };
        let user = |pattern: &str| names(pattern, name);
        let is_on = |keyword: &str| effective.get(keyword).is_none_or(|value| value == "yes");
        let root = effective.get("permitrootlogin").unwrap_or_default().to_owned();
        let set = |keyword: &str| effective.get(keyword).filter(|value| !value.is_empty() && !is_none(value));
        let shown = |keyword: &str| set(keyword).map(|value| record::escape(value.as_bytes()));
        Rules {
            pam: effective.is_yes("usepam"),
            public_key: effective.is_yes("pubkeyauthentication"),
            password: is_on("passwordauthentication"),
            keyboard_interactive: is_on("kbdinteractiveauthentication"),
            root,
            denied: listed("denyusers", &user) == Some(true),
            allowed: listed("allowusers", &user),
            group_denied: groups_listed("denygroups") == Some(true),
            group_allowed: groups_listed("allowgroups"),
            methods: list("authenticationmethods", ' '),
            algorithms: list("pubkeyacceptedalgorithms", ','),
            globs: self.globs,
            revoked: set("revokedkeys").map(|file| RevokedKeys { file: file.to_owned(), broken: None }),
            rsa_bits: effective.get("requiredrsasize").and_then(|bits| bits.parse().ok()).unwrap_or_default(),
            no_sessions: effective.get("maxsessions") == Some("0"),
            force_command: set("forcecommand").map(|command| ForceCommand {
                command: record::escape(command.as_bytes()),
                is_program: self.is_program(command, entry),
            }),
            chroot: shown("chrootdirectory"),
        }
    }
}

/// What sshd takes for no value.
fn is_none(value: &str) -> bool {
    value.eq_ignore_ascii_case("none")
}

/// Whether a pattern of `AllowUsers` or `DenyUsers` may be about this account: `USER`, or `USER@HOST` from some host.
fn names(pattern: &str, account: &str) -> bool {
    probes::matches(pattern.split('@').next().unwrap_or_default(), account)
}

/// What shadow(5) says of an account: the first line with its name.
fn aging(shadow: &[u8], name: &str) -> Option<Aging> {
    let text = String::from_utf8_lossy(shadow);
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    let days = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    let password = fields.get(1).copied().unwrap_or_default();
    Some(Aging {
        changed: days(2),
        maximum: days(4),
        expires: days(7),
        locked: password.starts_with('!'),
        password: !password.is_empty() && !password.starts_with(['!', '*']),
    })
}

/// What is wrong with a shell, if anything, as sshd's `allowed_user` looks at it.
fn bad_shell(shell: &Path) -> Option<BadShell> {
    let shell = if shell.as_os_str().is_empty() { Path::new(DEFAULT_SHELL) } else { shell };
    let shown = record::escape(shell.as_os_str().as_encoded_bytes());
    match fs::metadata(shell) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
            let name = shell.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            REFUSING_SHELLS.contains(&name).then_some(BadShell::Refuses(shown))
        }
        _ => Some(BadShell::Missing(shown)),
    }
}

/// Whether PAM asks for something besides the password: a code, say. What cannot be told counts as yes.
fn asks_for_more(service: &str) -> bool {
    let is_other = |module: &str| {
        let name = module.rsplit('/').next().unwrap_or(module);
        !PASSWORD_ONLY.contains(&name)
    };
    pam::resolve(&Disk, service, Step::Auth).map_or(true, |stack| stack.lines.iter().any(|line| is_other(&line.module)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_is_read_as_getspnam_reads_it() {
        let shadow = b"root:*:19000:0:99999:7:::\nfrank:$y$j9T$x:20000:0:90:7:30:20700:\nfrank:!:0::::::\nodd\nnew:!:0:0:99999:7:::\n";
        let frank = aging(shadow, "frank").expect("the first line");
        let expected =
            Aging { changed: Some(20_000), maximum: Some(90), expires: Some(20_700), locked: false, password: true };
        assert_eq!(frank, expected);
        let new = aging(shadow, "new").expect("a line");
        assert_eq!((new.changed, new.locked, new.password, new.expires), (Some(0), true, false, None));
        assert!(!aging(shadow, "root").expect("a line").locked);
        assert_eq!(aging(shadow, "odd").map(|aging| aging.changed), Some(None));
        assert_eq!(aging(shadow, "nobody"), None);
    }

    #[test]
    fn a_shell_that_is_missing_or_lets_nobody_work_is_told() {
        assert_eq!(bad_shell(Path::new("/bin/sh")), None);
        assert_eq!(bad_shell(Path::new("")), None);
        assert!(matches!(bad_shell(Path::new("/nonexistent/sh")), Some(BadShell::Missing(_))));
        assert!(matches!(bad_shell(Path::new("/etc/passwd")), Some(BadShell::Missing(_))));
        assert!(matches!(bad_shell(Path::new("/bin/false")), Some(BadShell::Refuses(_))));
    }

    #[test]
    fn a_pattern_with_a_host_may_be_about_the_account() {
        assert!(names("root@10.0.0.0/8", "root") && names("r*", "root"));
        assert!(!names("ro", "root") && !names("[r]oot", "root"));
    }
}
