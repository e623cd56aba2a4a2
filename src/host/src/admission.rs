//! What sshd, PAM, libwrap, passwd, group and shadow say of an account that is to log in by a key: the facts that
//! [`lockdown_core::policy::admission`] judges. sshd and PAM are asked; only what they cannot tell without a login is read.
//!
//! Everything is read anew for each look, never taken from what the daemon knew before. It runs sshd: never on the main
//! thread.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use jiff::Timestamp;
use lockdown_core::{
    config::Demand,
    keys::{key::Key, person::PersonKey},
    policy::admission::{Aging, Bar, Login, Offered, Rules, confinement, is_pattern, judge, no_rescue},
};
use record::Account;

use super::{
    accounts::{self, Accounts, PasswdEntry},
    name_service,
    pam::{self, Step},
    readiness::probes,
    sshd::{
        effective::{ANY_CLIENT, Effective, EffectiveError, Spec, effective, openssh_version},
        listener::{DEFAULT_BINARY, Invocation},
        scan::{Disk, Scan, Setting, scan},
    },
};

mod limits;
mod revoked;
mod rules;
mod shell;
mod step;

pub(crate) use rules::hosts_for;

/// Where passwords and their ages are (shadow(5)).
const SHADOW: &str = "/etc/shadow";
/// While one of them is there, only root may log in (nologin(5)).
const NOLOGIN: [&str; 2] = ["/run/nologin", "/etc/nologin"];
/// What a program is linked with that drops connections by hosts_access(5).
const LIBWRAP: &[u8] = b"libwrap.so.0";
/// The programs that sshd starts for each connection (OpenSSH 9.8 and 10), by the keywords that name them.
const SESSION: &str = "sshdsessionpath";
const PROGRAMS: [&str; 2] = [SESSION, "sshdauthpath"];
/// The first OpenSSH whose `AuthorizedKeysFile` may be a pattern (release notes of 10.0).
const GLOBS: (u32, u32) = (10, 0);
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
    nologin: Option<&'static str>,
    globs: bool,
    today: i64,
    revocations: revoked::Revocations,
    /// What PAM said, by service, account and address: it is asked once.
    said: RefCell<HashMap<[String; 3], step::Said>>,
    /// Whether libwrap drops who comes from an address.
    dropped: RefCell<HashMap<String, bool>>,
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
pub(crate) enum Wanted {
    /// Whatever sshd has it do, by a login that the gate asks this of.
    Login(Demand),
    /// A shell on the whole host, or a program that may give one.
    Shell,
}

/// One way in: what an sshd has configured for a login that begins like this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) effective: &'a Effective,
    pub(crate) spec: &'a Spec,
    /// The PAM service where sshd's configuration names none.
    pub(crate) service: &'a str,
}

impl Way<'_> {
    /// The PAM service.
    pub(crate) fn service(&self) -> &str {
        self.effective.get("pamservicename").unwrap_or(self.service)
    }

    /// Whether sshd is linked with libwrap.
    fn asks_libwrap(&self) -> bool {
        let program = self.effective.get(SESSION).unwrap_or(DEFAULT_BINARY);
        fs::read(program).is_ok_and(|program| memchr::memmem::find(&program, LIBWRAP).is_some())
    }

    /// That a program is missing which sshd starts for each connection.
    fn program_gone(&self) -> Option<String> {
        let is_there = |path: &&str| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
        let named = PROGRAMS.iter().filter_map(|keyword| self.effective.get(keyword));
        let gone = named.into_iter().find(|path| !is_there(path))?;
        Some(format!(
            "{gone} is missing or cannot be run, and sshd starts it for each login: apt-get install --reinstall openssh-server"
        ))
    }
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
            nologin: NOLOGIN.into_iter().find(|file| Path::new(file).exists()),
            today: Timestamp::now().as_second().div_euclid(86_400),
            revocations: revoked::Revocations::default(),
            said: RefCell::default(),
            dropped: RefCell::default(),
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

    /// Whether sshd and PAM would let the account in by these keys, from anywhere that can be asked about; answers with what
    /// leaves it without a shell on the whole host then, a sentence each.
    ///
    /// # Errors
    /// What keeps it out.
    pub fn check(&self, entry: &PasswdEntry, keys: &[Candidate], demand: Demand) -> Result<Vec<String>, NoAdmission> {
        let account = entry.name.as_str();
        let mut first = None;
        // A block may hold for some addresses only: an account is kept out where it is from everywhere.
        for spec in probes::around(&self.scan, account) {
            let effective = effective(&self.sshd, &spec)?;
            let way = Way { effective: &effective, spec: &spec, service: &self.sshd.service_name };
            let bars = self.bars(entry, &way, keys, Wanted::Login(demand)).0;
            if bars.is_empty() {
                return Ok(self.confinement(&way, entry));
            }
            first.get_or_insert(bars);
        }
        Err(NoAdmission::Barred(first.unwrap_or_default()))
    }

    /// What keeps the account out on this way, a sentence each, and what cannot be told. With no keys, they are not judged.
    pub(crate) fn bars(
        &self,
        entry: &PasswdEntry,
        way: &Way<'_>,
        keys: &[Candidate],
        wanted: Wanted,
    ) -> (Vec<String>, Vec<String>) {
        let account = entry.name.as_str();
        let mut rules = self.rules(way, entry, account);
        let (mut login, notes) = self.login(entry, way, rules.pam);
        login.second_method = matches!(wanted, Wanted::Login(demand) if demand.second_method);
        let offered = self.offered(&mut rules, keys);
        let mut bars = judge(&rules, &login, &offered, self.today);
        if wanted == Wanted::Shell {
            bars.extend(no_rescue(&rules));
        }
        (bars.iter().map(|bar| self.sentence(bar, account)).collect(), notes)
    }

    /// Runs the account's shell as the account: what cannot be told of it.
    ///
    /// # Errors
    /// What keeps it from running.
    pub(crate) fn try_shell(&self, entry: &PasswdEntry) -> Result<Option<String>, String> {
        shell::run(entry).map_err(|bad| self.sentence(&Bar::Shell(bad), entry.name.as_str()))
    }

    /// Addresses that rules of PAM's for a service, or of libwrap's, name.
    pub(crate) fn addresses_for(service: &str) -> Vec<String> {
        step::addresses(service)
    }

    /// What leaves an account that gets in by this configuration without a shell on the whole host, a sentence each.
    #[must_use]
    pub(crate) fn confinement(&self, way: &Way<'_>, entry: &PasswdEntry) -> Vec<String> {
        let account = entry.name.as_str();
        let bars = confinement(&self.rules(way, entry, account));
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
            Bar::DenyUsers => setting.args.iter().any(|pattern| rules::may_name(pattern, account)),
            Bar::Refused => setting.args.first().is_some_and(|value| value == "yes"),
            Bar::NoSessions | Bar::NoTries => setting.args.first().is_some_and(|value| value == "0"),
            Bar::Revoked(_) | Bar::ForceCommand(_) | Bar::Chroot(_) => {
                setting.args.first().is_some_and(|value| !rules::is_none(value))
            }
            _ => true,
        };
        let fits = |setting: &&Setting| probes::may_hold_for(&self.scan, &setting.blocks, account);
        let last = self.scan.of(keyword).filter(says).filter(fits).last()?;
        Some(last.place.to_string())
    }

    /// What the host says of the account for this way in, and what cannot be told.
    fn login(&self, entry: &PasswdEntry, way: &Way<'_>, pam: bool) -> (Login, Vec<String>) {
        let name = entry.name.as_str();
        let aging = aging(&self.shadow, name);
        let typed = aging.is_some_and(|aging| aging.password);
        let service = way.service();
        let said = if pam { self.said(service, name, &way.spec.addr) } else { step::Said::default() };
        let (mut barred, mut notes) = (Vec::new(), Vec::new());
        if pam {
            let step::Session { bar, limits, notes: of_session } = step::session(service);
            barred.extend(bar);
            if limits {
                let groups = self.group_names(entry).unwrap_or_default();
                barred.extend(limits::of(limits::Whom { name, uid: entry.uid, groups: &groups }));
            }
            notes.extend(said.notes.into_iter().chain(of_session));
        }
        barred.extend(self.dropped(way));
        barred.extend(way.program_gone());
        let login = Login {
            uid: entry.uid,
            name_is_pattern: is_pattern(name),
            shell: shell::bad(entry),
            aging,
            can_answer: typed || asks_for_more(service),
            second_method: false,
            nologin: self.nologin.map(str::to_owned),
            pam: said.pam,
            barred,
        };
        (login, notes)
    }

    /// What PAM's account step says of the account, for a login from there.
    fn said(&self, service: &str, account: &str, address: &str) -> step::Said {
        let address = if step::goes_by_address(service) { address } else { ANY_CLIENT.0 };
        let question = [service, account, address].map(str::to_owned);
        let mut said = self.said.borrow_mut();
        said.entry(question).or_insert_with(|| step::account(service, account, address)).clone()
    }

    /// That libwrap drops who comes on this way, where sshd asks it.
    fn dropped(&self, way: &Way<'_>) -> Option<String> {
        let from = &way.spec.addr;
        let drops = || *self.dropped.borrow_mut().entry(from.clone()).or_insert_with(|| step::drops(from));
        (way.asks_libwrap() && drops()).then(|| {
            format!(
                "/etc/hosts.deny and /etc/hosts.allow (hosts_access(5)) have sshd drop who comes from {from}: write `sshd: ALL` \
                 into /etc/hosts.allow"
            )
        })
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
        program.is_absolute() && meta.is_file() && meta.mode() & bits != 0 && !shell::REFUSING.contains(&name)
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
}
