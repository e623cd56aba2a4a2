//! Whether an exempt account could log in with a key: what sshd, PAM and its shell say of it ([`Admission`]), from wherever
//! sshd's configuration or PAM's makes a difference, and sshd's own rules for key files (`StrictModes`).
//!
//! One function answers it ([`usable`]), for whoever asks. What cannot be known is told as a note.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use lockdown_core::keys::file::survey;
use record::{Account, Fingerprint};

use super::{
    ExemptKeys, Obstacle,
    key_file::{Login, file_is_usable},
    probes,
    reached::{Reach, Reached},
};
use crate::{
    accounts::{Accounts, PasswdEntry},
    admission::{Admission, Wanted, Way, hosts_for},
    name_service,
    paths::{Root, Sight},
    quarantine::{self, Content, Item, ItemId, ItemKind, QUARANTINE},
    sshd::{
        effective::{Effective, Spec, effective},
        key_files::{KeyFiles, exempt_key_files},
        listener::Invocation,
        scan::expand,
    },
};

/// Where else it shows that something changes on which a login depends: nologin(5), hosts_access(5), limits.conf(5).
const BESIDES: [&str; 3] = ["/etc", "/etc/security", "/etc/security/limits.d"];
/// From how many places besides anywhere it is tried for one account at one sshd.
const MAX_PLACES: usize = 24;
/// How many of them, and how many reasons, are named.
const MAX_NAMED: usize = 6;

/// What is in the way if none of them could log in.
pub(super) fn obstacle(exempt: &[Account]) -> Option<Obstacle> {
    if exempt.is_empty() {
        return Some(Obstacle::NobodyExempt);
    }
    let found = match all(exempt) {
        Ok(found) => found,
        Err(error) => return Some(Obstacle::NoUsableExempt { why: vec![error] }),
    };
    let mut why = Vec::new();
    for Rescue { account, found } in found {
        match found {
            Ok(_) => return None,
            Err(reason) => why.push(format!("{account}: {reason}")),
        }
    }
    Some(Obstacle::NoUsableExempt { why })
}

/// What those of them that could log in get instead of a shell, or from where alone, a sentence each.
pub(super) fn confined(exempt: &[Account]) -> Vec<String> {
    // What cannot be read is an obstacle, and told as that.
    let found = all(exempt).unwrap_or_default();
    let ways = found.into_iter().filter_map(|rescue| Some((rescue.account, rescue.found.ok()?)));
    ways.flat_map(|(account, way)| {
        let plain = |what| format!("the exempt account {account} gets in, and gets no plain shell: {what}");
        let confined: Vec<String> = way.confined.into_iter().map(plain).collect();
        confined.into_iter().chain(way.only.map(|only| format!("the exempt account {account} gets in {only}")))
    })
    .collect()
}

/// Whether one exempt account could log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescue {
    /// Which.
    pub account: Account,
    /// By what, else why not.
    pub found: Result<WayIn, String>,
}

/// By what an exempt account could log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WayIn {
    /// The keys in its files that are plain ones.
    pub keys: Vec<Fingerprint>,
    /// What it gets instead of a shell, a sentence each.
    pub confined: Vec<String>,
    /// From where alone, as the end of a sentence, where it is not from anywhere.
    pub only: Option<String>,
    /// That an sshd has not read its configuration, and what it goes by is not known.
    pub unread: Option<String>,
    /// What else is worth knowing, a sentence each.
    pub notes: Vec<String>,
}

impl Rescue {
    /// That an sshd has not read what would let it in, and what it goes by is not known.
    #[must_use]
    pub fn unread(&self) -> Option<String> {
        self.found.as_ref().ok()?.unread.clone()
    }
}

pub(super) fn rescue(exempt: &[Account], enforces: bool) -> Result<Vec<Rescue>, String> {
    let mut found = all(exempt)?;
    for Rescue { account, found } in &mut found {
        let Ok(way) = found else { continue };
        way.notes.splice(
            0..0,
            way.confined.clone().into_iter().chain(way.only.clone().map(|only| format!("it gets in {only}"))),
        );
        if enforces && !is_listed(account) {
            let list = control::gate::EXEMPT;
            way.notes.push(format!(
                "{list} does not name it, so that it depends on the daemon: systemctl restart lockdownd"
            ));
        }
        if let Err(why) = reads_its_own(account) {
            *found = Err(why);
        }
    }
    Ok(found)
}

/// Whether the drop-in, where it is in place, has sshd read the account's own files.
fn reads_its_own(account: &Account) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let files =
        exempt_key_files(&Invocation::standard(), std::slice::from_ref(account)).map_err(|error| told(&error))?;
    let effective = effective(&Invocation::standard(), &Spec::of(account.as_str())).map_err(|error| told(&error))?;
    let (reads, own): (Vec<String>, Vec<&String>) =
        (effective.key_files(), files.values().flat_map(KeyFiles::all).collect());
    match reads.iter().find(|file| !own.contains(file)) {
        Some(other) => Err(format!("sshd reads its keys from {other}, not from its own files")),
        None => Ok(()),
    }
}

/// Whether each of them could log in now.
fn all(exempt: &[Account]) -> Result<Vec<Rescue>, String> {
    if exempt.is_empty() {
        return Ok(Vec::new());
    }
    let host = Admission::read()?;
    let reach = Reach::now();
    let of = |account: &Account| {
        let found = reach.as_ref().map_err(Clone::clone).and_then(|reach| usable(&host, reach, account));
        Rescue { account: account.clone(), found }
    };
    let found = exempt.iter().map(of).collect();
    if let Ok(reach) = &reach {
        reach.remember();
    }
    Ok(found)
}

/// One try: from where, whether that is nowhere in particular, and what came of it.
struct Tried {
    from: String,
    nowhere: bool,
    found: Result<WayIn, String>,
}

/// Whether the account could log in by a key in one of its files, and what restricts that.
fn usable(host: &Admission, reach: &Reach, account: &Account) -> Result<WayIn, String> {
    let entry = host.entry(account).map_err(|error| error.to_string())?;
    let mut at: Vec<(&Reached, Vec<Tried>)> = Vec::new();
    for sshd in &reach.sshds {
        at.push((sshd, tries(host, sshd, &entry, account)?));
    }
    // From nowhere in particular it gets in where it does from two of the three addresses that nobody has.
    let is_general = |tries: &[Tried]| tries.iter().filter(|tried| tried.nowhere && tried.found.is_ok()).count() > 1;
    let general = at.iter().find(|(_, tries)| is_general(tries));
    let chosen = general.or_else(|| at.iter().find(|(_, tries)| tries.iter().any(|tried| tried.found.is_ok())));
    let Some((sshd, tries)) = chosen else {
        let mut reasons = at.iter().flat_map(|(_, tries)| tries).filter_map(|tried| tried.found.as_ref().err());
        return Err(reasons.next().cloned().unwrap_or_else(|| "no sshd was asked".to_owned()));
    };
    let first =
        tries.iter().filter(|tried| general.is_none() || tried.nowhere).find_map(|tried| tried.found.clone().ok());
    let mut way = first.unwrap_or_default();
    way.notes.extend(host.try_shell(&entry)?);
    way.notes.extend(reach.notes.iter().cloned());
    match general {
        Some(_) => way.notes.extend(refusals(tries).iter().map(|(why, from)| format!("not from {from}: {why}"))),
        None => {
            let open: Vec<&str> =
                tries.iter().filter(|tried| tried.found.is_ok()).map(|tried| tried.from.as_str()).collect();
            let why = tries.iter().find_map(|tried| tried.found.as_ref().err()).map_or("", String::as_str);
            way.only = Some(format!("only from {}: from elsewhere, {why}", listed(&open)));
        }
    }
    for (other, tries) in at.iter().filter(|(other, tries)| !std::ptr::eq(*other, *sshd) && !is_general(tries)) {
        let why = tries.iter().find_map(|tried| tried.found.as_ref().err()).map_or("", String::as_str);
        way.notes.push(format!("not at {}: {why}", other.listener.title()));
    }
    Ok(way)
}

/// Each reason for which it is kept out from particular places, with these.
fn refusals(tries: &[Tried]) -> Vec<(&str, String)> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tried in tries {
        if let Err(why) = &tried.found {
            by_reason.entry(why).or_default().push(&tried.from);
        }
    }
    let told = by_reason.into_iter().map(|(why, from)| (why, listed(&from)));
    told.take(MAX_NAMED).collect()
}

fn listed(places: &[&str]) -> String {
    let named = places.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    match places.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Tries an account at one sshd: from nowhere in particular, and from wherever it could make a difference.
fn tries(host: &Admission, sshd: &Reached, entry: &PasswdEntry, account: &Account) -> Result<Vec<Tried>, String> {
    let name = account.as_str();
    let nowhere = Spec::from_nowhere(name).map(|spec| sshd.at(spec));
    let usual = sshd.answers(&nowhere[0])?.on_disk;
    let lists = ["allowusers", "denyusers"].into_iter().flat_map(|keyword| usual.all(keyword));
    let of_lists = hosts_for(lists, name).into_iter().flat_map(|host| probes::from_host(name, &host));
    let service = Way { effective: &usual, spec: &nowhere[0], service: &sshd.listener.invocation.service_name };
    let named = Admission::addresses_for(service.service()).into_iter();
    let of_pam = named.map(|addr| Spec { addr, ..Spec::of(name) });
    let others = probes::around(&sshd.scan, name).into_iter().chain(of_lists).chain(of_pam).map(|spec| sshd.at(spec));
    let mut places: Vec<Spec> = Vec::new();
    for spec in others.filter(probes::askable) {
        if !nowhere.contains(&spec) && !places.contains(&spec) {
            places.push(spec);
        }
    }
    places.truncate(MAX_PLACES);
    let from = |spec: &Spec| place(spec, &nowhere[0]);
    let of = |spec: &Spec, nowhere| Tried { from: from(spec), nowhere, found: tried(host, sshd, spec, entry, account) };
    Ok(nowhere.iter().map(|spec| of(spec, true)).chain(places.iter().map(|spec| of(spec, false))).collect())
}

/// Where a login comes from and goes to, as far as that is not nowhere in particular.
fn place(spec: &Spec, nowhere: &Spec) -> String {
    let mut parts = Vec::new();
    if spec.host != nowhere.host {
        parts.push(spec.host.clone());
    }
    if spec.addr != nowhere.addr || parts.is_empty() {
        parts.push(spec.addr.clone());
    }
    if spec.laddr != nowhere.laddr {
        parts.push(format!("to {}", spec.laddr));
    }
    if spec.lport != nowhere.lport {
        parts.push(format!("to port {}", spec.lport));
    }
    parts.extend(spec.rdomain.iter().map(|rdomain| format!("in {rdomain}")));
    record::escape(parts.join(" ").as_bytes())
}

/// Whether one login would get in, by what the sshd goes by, and by what it will go by once it has read that.
fn tried(
    host: &Admission,
    sshd: &Reached,
    spec: &Spec,
    entry: &PasswdEntry,
    account: &Account,
) -> Result<WayIn, String> {
    let answers = sshd.answers(spec)?;
    let service = &sshd.listener.invocation.service_name;
    let by = |effective: &Effective| by_key(host, Way { effective, spec, service }, entry, account);
    let title = || sshd.listener.title();
    if let Some(running) = &answers.running {
        by(running).map_err(|why| {
            format!(
                "{} has not read {}, and goes by what it read before: {why} (systemctl reload ssh)",
                title(),
                sshd.unread()
            )
        })?;
    }
    let mut way = by(&answers.on_disk)?;
    way.unread = answers.unknown.map(|path| {
        let title = title();
        format!(
            "{title} has not read {path} since that changed, and what it goes by is not known: systemctl reload ssh"
        )
    });
    Ok(way)
}

/// Whether a key in one of the files that sshd reads for this login gets the account in.
fn by_key(host: &Admission, way: Way<'_>, entry: &PasswdEntry, account: &Account) -> Result<WayIn, String> {
    let Way { effective, .. } = way;
    // Before its keys: what has to be mended first is told first.
    let (bars, mut notes) = host.bars(entry, &way, &[], Wanted::Shell);
    if !bars.is_empty() {
        return Err(bars.join("; "));
    }
    let root = Root::open(Path::new("/")).map_err(|error| error.to_string())?;
    let (mut reasons, mut keys, mut commands, mut from) = (Vec::new(), Vec::new(), 0, 0);
    let patterns = effective.key_files();
    for pattern in patterns.iter().filter(|pattern| !pattern.eq_ignore_ascii_case("none")) {
        let Some(key_path) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
        // OpenSSH 10 takes it for a pattern, which matches its own name unless it has one of these.
        if host.globs() && key_path.path.as_os_str().as_encoded_bytes().iter().any(|byte| b"[\\".contains(byte)) {
            let path = key_path.path.display();
            reasons.push(format!(
                "{path} is taken for a pattern by OpenSSH 10 and later, for its [ or \\ (usermod -d moves the home)"
            ));
            continue;
        }
        let is_own_group = |group, owner| host.is_own_group(group, entry.uid, owner);
        let login =
            Login { uid: entry.uid, groups: host.groups_of(entry), home: &entry.home, is_own_group: &is_own_group };
        match file_is_usable(&root, &key_path.path, &login, effective.is_yes("strictmodes")) {
            Ok(found) => {
                commands += found.commands;
                from += found.from;
                keys.extend(found.keys);
            }
            Err(reason) => reasons.push(format!("{} {reason}", key_path.path.display())),
        }
    }
    if keys.is_empty() {
        return Err(match reasons.is_empty() {
            true => "sshd reads keys for it from no file".to_owned(),
            false => {
                let lost = removed_from(account).map(|id| format!(", or `lockdownctl quarantine restore {id}`"));
                format!("{}: put a key into its authorized_keys{}", reasons.join(", "), lost.unwrap_or_default())
            }
        });
    }
    let (bars, _) = host.bars(entry, &way, &keys, Wanted::Shell);
    if !bars.is_empty() {
        return Err(bars.join("; "));
    }
    let mut confined = host.confinement(&way, entry);
    if commands == keys.len() {
        confined.push("each of its keys runs a command of its own (command=)".to_owned());
    }
    notes.extend((from == keys.len()).then(|| "each of its keys counts from some addresses only (from=)".to_owned()));
    notes.extend(asked_besides(effective.get("authenticationmethods").unwrap_or_default()));
    if keys.iter().all(|key| key.authority) {
        notes.push("its keys only sign certificates (cert-authority): whether anybody has one is not known".to_owned());
    }
    let plain = keys.iter().filter(|key| !key.authority);
    Ok(WayIn { keys: plain.map(|key| key.key.fingerprint()).collect(), confined, only: None, unread: None, notes })
}

/// What sshd asks for beside a key, where no key alone will do.
fn asked_besides(methods: &str) -> Option<String> {
    let mut lists = methods.split_ascii_whitespace();
    let by_key_alone = |list: &str| list == "any" || list == "publickey";
    (!methods.is_empty() && !lists.any(by_key_alone)).then(|| {
        format!("sshd asks for {methods} (AuthenticationMethods): what is asked for beside a key was not tried")
    })
}
/// Whether PAM itself lets the account by.
fn is_listed(account: &Account) -> bool {
    let list = std::fs::read_to_string(control::gate::EXEMPT).unwrap_or_default();
    list.lines().any(|line| line == account.as_str())
}

/// Each key file that sshd would read for an exempt account by its own configuration, with the keys' fingerprints, and
/// whether all of them could be read; `None` where it cannot be told which there are.
pub(super) fn keys(account: &Account) -> Option<(ExemptKeys, bool)> {
    let accounts = Accounts::read().ok()?;
    let files = exempt_key_files(&Invocation::standard(), std::slice::from_ref(account)).ok()?;
    let root = Root::open(Path::new("/")).ok()?;
    let entry = name_service::entry(&accounts, account).ok()??;
    let (mut found, mut whole) = (ExemptKeys::new(), true);
    for pattern in files.values().flat_map(KeyFiles::all) {
        let Some(expanded) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
        let mut content = Vec::new();
        // sshd reads none that is behind a user's link, is no file or is not there.
        let Ok(real) = root.resolve(&expanded.path) else { continue };
        match root.look(&real, &mut content) {
            Sight::File(_) => {}
            // Its keys are not known; that it is there is.
            Sight::Long(_) => content.clear(),
            Sight::Unreadable(_) => {
                whole = false;
                continue;
            }
            Sight::Absent | Sight::Link | Sight::Inert => continue,
        }
        found.insert(shown(&expanded.path), fingerprints(&content));
    }
    Some((found, whole))
}

/// Where it shows that something changes on which it depends whether these accounts can log in.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The directories of their key files, what they are in up to the home, and that of a list of revoked keys.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Each key file by its real path: whose it is, and the path as it is told.
    pub(super) files: BTreeMap<PathBuf, (Account, String)>,
}

pub(super) fn places(exempt: &[Account]) -> Places {
    let mut places = Places::default();
    let found = &mut places.directories;
    found.extend(BESIDES.map(PathBuf::from));
    let (Ok(accounts), Ok(root)) = (Accounts::read(), Root::open(Path::new("/"))) else { return places };
    let files = exempt_key_files(&Invocation::standard(), exempt).unwrap_or_default();
    for (account, patterns) in &files {
        let Ok(Some(entry)) = name_service::entry(&accounts, account) else { continue };
        let rules = effective(&Invocation::standard(), &Spec::of(account.as_str())).ok();
        let revoked = rules.as_ref().and_then(|rules| Path::new(rules.get("revokedkeys")?).parent());
        found.extend(revoked.filter(|dir| dir.is_absolute()).and_then(|dir| root.resolve(dir).ok()));
        for pattern in patterns.all() {
            let Some(key) = expand(pattern, account.as_str(), &entry.home, entry.uid) else { continue };
            // A link is followed only where no user can change it, as for the keys themselves.
            let within = |dir: &&Path| dir.starts_with(&entry.home) && **dir != entry.home;
            let dirs = key.path.ancestors().skip(1).take_while(within).chain([entry.home.as_path()]);
            let outside = (!key.path.starts_with(&entry.home)).then(|| key.path.parent()).flatten();
            found.extend(dirs.chain(outside).filter_map(|dir| root.resolve(dir).ok()));
            if let Ok(real) = root.resolve(&key.path) {
                places.files.insert(real, (account.clone(), shown(&key.path)));
            }
        }
    }
    places
}

/// A key file's path, as it is told.
fn shown(path: &Path) -> String {
    record::outside(path.as_os_str().as_encoded_bytes())
}

/// The fingerprints of the keys in what was read of a key file.
pub(super) fn fingerprints(content: &[u8]) -> BTreeSet<String> {
    survey(content).fingerprints.iter().map(ToString::to_string).collect()
}

/// What was removed last of this account's key files and can be given back.
fn removed_from(account: &Account) -> Option<ItemId> {
    let items = quarantine::list(Path::new(QUARANTINE)).ok()?;
    let whole = |item: &Item| item.kind == ItemKind::File && item.content == Content::Kept;
    let name = record::escape(account.as_str().as_bytes());
    let theirs = |item: &Item| item.account == name && whole(item) && !item.fingerprints.is_empty();
    items.into_iter().rfind(theirs).map(|item| item.id)
}
