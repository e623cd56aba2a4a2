//! One look at the host: everything is read twice, a moment apart, since a file that is being written is seen empty or cut
//! in between. What differs, cannot be read or cannot be whole stays as the look before had it. A passwd that was renamed
//! into place is whole at once: tools that replace it again and again hold nothing up. One that lost its last account while
//! it stayed the same file is cut: the tools that delete accounts put another file there.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use lockdown_core::policy::observation::{Absence, GONE_AFTER, Known, SERVICE_GONE_AFTER, Seen, hold, passwd_is_whole};
use lockdown_host::{
    accounts::{self, AccountName, Accounts, PasswdEntry},
    clock,
    file_state::FileState,
    name_service, pam,
    sshd::{
        effective, listener,
        scan::{self, Scan},
    },
};
use record::Account;

use super::World;

/// How far the two readings of one look are apart: a file is rewritten in less.
const APART: Duration = Duration::from_millis(50);
/// How often passwd is read for one reading.
const PASSWD_READS: u32 = 5;
/// How often the first look is repeated where it did not see passwd whole.
const FIRST_LOOKS: u32 = 20;
/// How long the first look may take before the start goes on with accounts alone.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// The most partial observations that are named.
const MAX_NAMED: usize = 16;

/// What one look came to.
#[derive(Debug)]
pub struct Looked {
    /// The host as it counts from now on.
    pub(crate) world: World,
    /// What differs from before, a word each.
    pub(crate) changed: Vec<&'static str>,
    /// When it is to be looked again at the latest, on the boot clock, even if nothing is touched.
    pub(crate) again: Option<Duration>,
}

/// What was read of the host at one moment.
struct Reading {
    passwd: Result<(FileState, Vec<u8>), String>,
    sshd: Vec<Scan>,
    pam: Result<[u8; 32], String>,
}

impl Reading {
    fn now(config_files: &BTreeSet<PathBuf>) -> Self {
        Self {
            passwd: read_passwd(),
            sshd: config_files.iter().map(|file| scan::scan(&scan::Disk, file)).collect(),
            pam: pam::digest().map_err(|error| format!("PAM's configuration: {error}")),
        }
    }
}

/// Reads passwd, a few times where it is replaced or written meanwhile.
fn read_passwd() -> Result<(FileState, Vec<u8>), String> {
    for _ in 0..PASSWD_READS {
        if let Some(read) = accounts::read_passwd_of().map_err(|error| error.to_string())? {
            return Ok(read);
        }
    }
    Err(being_written())
}

fn being_written() -> String {
    format!("{} is being written", accounts::PASSWD)
}

impl World {
    /// The first look, which the start waits for. A name service may not answer, nor a file system on which something lies that
    /// sshd's or PAM's configuration names: then passwd alone is looked at, and the rest by the next look.
    pub(crate) fn first(named: &BTreeSet<Account>) -> Self {
        let (tell, told) = mpsc::channel();
        let names = named.clone();
        let look = move || {
            // Whoever waited may have gone on without.
            let _ = tell.send(Self::first_whole(&names));
        };
        let look = thread::Builder::new().name("first-look".to_owned()).spawn(look);
        let world = look.ok().and_then(|_| told.recv_timeout(FIRST_WITHIN).ok());
        let world = world.unwrap_or_else(Self::of_passwd);
        for what in &world.partial {
            tracing::error!("not seen whole at the start: {what}");
        }
        world
    }

    /// What passwd lists, which root alone writes, and nothing else.
    fn of_passwd() -> Self {
        let mut next = Self::default();
        let first = read_passwd();
        thread::sleep(APART);
        let at = clock::now().boot;
        match listed(first, read_passwd()) {
            Ok((file, accounts)) => next.list(file, accounts, at),
            Err(why) => next.partial.push(why),
        }
        next.know();
        let others = "sshd's and PAM's configuration, and what a name service knows";
        next.partial.push(format!("{others}: not read within {FIRST_WITHIN:?}"));
        next
    }

    /// A look at everything, repeated a few times where passwd is just being written.
    fn first_whole(named: &BTreeSet<Account>) -> Self {
        let nothing = Self::default();
        let mut world = nothing.look(named).world;
        for _ in 0..FIRST_LOOKS {
            if world.first_whole.is_some() {
                break;
            }
            thread::sleep(APART);
            world = nothing.look(named).world;
        }
        world
    }

    /// Looks at everything: reads files, looks through `/proc`, runs programs. Accounts that are `named` and not listed
    /// are asked of the name service. Never on the main thread but at the start.
    pub(crate) fn look(&self, named: &BTreeSet<Account>) -> Looked {
        let mut next = Self { partial: Vec::new(), ..self.clone() };
        next.see_config_files();
        let first = Reading::now(&next.config_files);
        thread::sleep(APART);
        let Reading { passwd, sshd, pam } = Reading::now(&next.config_files);
        let at = clock::now().boot;
        match listed(first.passwd, passwd) {
            Ok((file, accounts)) => next.list(file, accounts, at),
            Err(why) => next.partial.push(why),
        }
        next.ask_names(named, at);
        next.know();
        next.see_sshd(&first.sshd, sshd, at);
        match (first.pam, pam) {
            (Ok(first), Ok(pam)) if first == pam => next.pam = Some(pam),
            (Ok(_), Ok(_)) => next.partial.push("PAM's configuration is being written".to_owned()),
            (Err(why), _) | (_, Err(why)) => next.partial.push(why),
        }
        next.see_program();
        next.partial.truncate(MAX_NAMED);
        let again = next.again(at);
        Looked { changed: next.differs_from(self), again, world: next }
    }

    fn see_config_files(&mut self) {
        let standard = PathBuf::from(listener::DEFAULT_CONFIG);
        match listener::sshd_listeners() {
            Ok(listeners) => {
                let of_root = listeners.into_iter().filter(|listener| listener.uid == 0);
                self.config_files = of_root.map(|listener| listener.invocation.config_file).chain([standard]).collect();
            }
            Err(error) => {
                self.partial.push(format!("running sshds cannot be found: {error}"));
                self.config_files.insert(standard);
            }
        }
    }

    /// passwd was read: what it lists counts, and what it lacks is held for as long as that is not certain.
    fn list(&mut self, file: FileState, mut shown: Accounts, at: Duration) {
        if self.is_cut(&file, &shown) {
            let names: HashSet<&AccountName> = shown.entries.iter().map(|entry| &entry.name).collect();
            let lost = self.listed.entries.iter().filter(|entry| !names.contains(&entry.name)).cloned();
            let lost: Vec<PasswdEntry> = lost.collect();
            self.partial.push(cut(&lost));
            shown.entries.extend(lost);
            // What it lacks is missing only once it is seen whole.
            self.missing.clear();
            return self.count(shown);
        }
        let last = shown.entries.last().map(|entry| entry.name.clone());
        let before = self.passwd.replace((file, last));
        let seen = Seen { at, same: before.is_some_and(|(before, _)| before == file) };
        let key = |entry: &PasswdEntry| entry.name.clone();
        let (entries, missing) = hold(&self.listed.entries, shown.entries, key, &self.missing, GONE_AFTER, seen);
        self.missing = missing;
        self.count(Accounts { entries, ..shown });
        let first = *self.first_whole.get_or_insert(at);
        if !self.known.settled && self.names_asked && at.saturating_sub(first) >= GONE_AFTER {
            self.known = Arc::new(Known { settled: true, ..(*self.known).clone() });
        }
    }

    /// Whether this is what a writer in place leaves behind half-way: the very file of before, without what was its last
    /// account, whatever else was changed in it.
    fn is_cut(&self, file: &FileState, shown: &Accounts) -> bool {
        let Some((before, Some(last))) = &self.passwd else { return false };
        file.is_file_of(before) && shown.entries.iter().all(|entry| entry.name != *last)
    }

    fn count(&mut self, listed: Accounts) {
        if *self.listed != listed {
            self.listed = Arc::new(listed);
        }
    }

    /// Asks the name service for accounts that passwd does not list, where it has other sources.
    fn ask_names(&mut self, named: &BTreeSet<Account>, at: Duration) {
        match name_service::sources() {
            Ok(sources) => self.sources = sources,
            Err(error) => self.partial.push(format!("{}: {error}", name_service::NSSWITCH)),
        }
        let listed: BTreeSet<&Account> = self.listed.entries.iter().filter_map(|entry| entry.name.account()).collect();
        let unlisted: BTreeSet<&Account> = match self.sources.is_empty() {
            true => BTreeSet::new(),
            false => named.iter().filter(|name| !listed.contains(name)).collect(),
        };
        match name_service::ask(&unlisted) {
            Ok(answer) => {
                let answer =
                    answer.into_iter().filter(|e| e.name.account().is_some_and(|name| unlisted.contains(name)));
                self.names_asked = true;
                let key = |entry: &PasswdEntry| entry.name.clone();
                let missing = &self.named_missing;
                (self.named, self.named_missing) =
                    hold(&self.named, answer.collect(), key, missing, SERVICE_GONE_AFTER, Seen { at, same: true });
            }
            Err(error) => self.partial.push(format!("accounts that only the name service knows: {error}")),
        }
        self.named.retain(|entry| entry.name.account().is_some_and(|name| !listed.contains(name)));
    }

    /// Whose user id is whose. Of two lines with one name the first counts, as for getpwnam(3) and so for sshd.
    fn know(&mut self) {
        let mut uids = BTreeMap::new();
        for entry in self.entries() {
            if let Some(account) = entry.name.account() {
                uids.entry(account.clone()).or_insert(entry.uid);
            }
        }
        if self.known.uids != uids {
            self.known = Arc::new(Known { uids, ..*self.known });
        }
    }

    fn see_sshd(&mut self, first: &[Scan], seen: Vec<Scan>, at: Duration) {
        let digests = |scans: &[Scan]| scans.iter().map(|scan| scan.digest).collect::<Vec<_>>();
        let is_steady = digests(first) == digests(&seen);
        let same = is_steady && digests(&seen) == digests(&self.sshd);
        if !is_steady {
            self.partial.push("sshd's configuration is being written".to_owned());
        }
        let unread = seen.iter().flat_map(|scan| &scan.problems).filter(|problem| problem.unread);
        let unread: Vec<String> = unread.map(|problem| format!("sshd's configuration: {problem}")).collect();
        let is_whole = is_steady && unread.is_empty();
        self.partial.extend(unread);
        let named = seen.iter().flat_map(Scan::key_file_patterns);
        // What could not be read may name as much as before.
        let before = (!is_whole).then(|| self.patterns.clone());
        let patterns: BTreeSet<String> = named.chain(before.into_iter().flatten()).collect();
        let patterns = patterns.into_iter().collect();
        let (mut patterns, missing) =
            hold(&self.patterns, patterns, String::clone, &self.patterns_missing, GONE_AFTER, Seen { at, same });
        patterns.sort();
        (self.patterns, self.patterns_missing) = (patterns, missing);
        if is_steady || self.sshd.is_empty() {
            self.sshd = Arc::new(seen);
        }
    }

    /// The version of sshd, which is asked for when its program was replaced.
    fn see_program(&mut self) {
        let binary = Path::new(listener::DEFAULT_BINARY);
        let program = FileState::at(binary).ok();
        if program.is_some() && program == self.program && self.version.is_some() {
            return;
        }
        match effective::openssh_version(binary) {
            Ok(version) => (self.program, self.version) = (program, Some(version)),
            // Where no sshd is installed there is nothing to know.
            Err(_) if program.is_none() => {}
            Err(error) => self.partial.push(format!("sshd's version: {error}")),
        }
    }

    /// What is missing is looked for again when it may count as gone, and the first time whether anything is missing.
    fn again(&self, at: Duration) -> Option<Duration> {
        let gone_at = |gone_after| move |absence: &Absence| absence.gone_at(gone_after);
        let listed = self.missing.values().chain(self.patterns_missing.values()).map(gone_at(GONE_AFTER));
        let named = self.named_missing.values().map(gone_at(SERVICE_GONE_AFTER));
        let first = (!self.known.settled).then(|| self.first_whole.map_or(at, |first| first) + GONE_AFTER);
        listed.chain(named).chain(first).min()
    }
}

/// What is said of a passwd that lost its last accounts in place.
fn cut(lost: &[PasswdEntry]) -> String {
    let names = lost.iter().take(MAX_NAMED).map(|entry| entry.name.as_str());
    let (file, names) = (accounts::PASSWD, names.collect::<Vec<_>>().join(", "));
    let more = if lost.len() > MAX_NAMED { ", …" } else { "" };
    format!(
        "{file} lost its last accounts while it was written in place ({} in all: {names}{more}); they count until it is \
         replaced: write it whole again, or, if they are to go, cp -p {file} {file}+ && mv {file}+ {file}",
        lost.len()
    )
}

/// The accounts of two readings of passwd, if both saw the same, or the last one a file that came there by a rename, and it
/// can be the whole of it.
fn listed(
    first: Result<(FileState, Vec<u8>), String>,
    second: Result<(FileState, Vec<u8>), String>,
) -> Result<(FileState, Accounts), String> {
    let second = second?;
    if !second.0.was_renamed() && first? != second {
        return Err(being_written());
    }
    passwd_is_whole(&second.1)
        .map_err(|why| format!("{} is not taken for the accounts there are: {why}", accounts::PASSWD))?;
    Ok((second.0, Accounts::parse(&second.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passwd_that_changes_between_two_readings_or_lacks_root_is_not_taken() {
        let state = FileState::at(Path::new("/")).expect("the root");
        let other = FileState::at(Path::new("/proc/self")).expect("proc");
        let read = |text: &str| Ok((state, text.as_bytes().to_vec()));
        let passwd = "root:x:0:0:root:/root:/bin/bash\nfrank:x:1000:1000::/home/frank:/bin/sh\n";
        assert_eq!(listed(read(passwd), read(passwd)).expect("whole").1.entries.len(), 2);
        let elsewhere = Ok((other, passwd.as_bytes().to_vec()));
        for (first, second) in [
            (read(""), read(passwd)),
            (read(passwd), read("")),
            (read(passwd), elsewhere),
            (read(""), read("")),
            (read("frank:x:1000:1000::/home/frank:/bin/sh\n"), read("frank:x:1000:1000::/home/frank:/bin/sh\n")),
            (Err("gone".to_owned()), read(passwd)),
            (read(passwd), Err("gone".to_owned())),
        ] {
            assert!(listed(first, second).is_err());
        }
    }

    /// A file that stands for a passwd with so many lines: the tools that delete an account put another one there.
    fn file(lines: usize) -> FileState {
        FileState::at(Path::new(["/proc/version", "/", "/proc", "/proc/self"][lines])).expect("it is there")
    }

    fn lines(names: &[&str]) -> Accounts {
        let line = |name: &&str| format!("{name}:x:1000:1000::/home/{name}:/bin/sh\n");
        Accounts::parse(names.iter().map(line).collect::<String>().as_bytes())
    }

    /// A world with these accounts listed, seen at this second.
    fn world(names: &[&str], at: u64) -> World {
        let mut world = World { names_asked: true, ..World::default() };
        see(&mut world, names, at);
        world
    }

    fn see(world: &mut World, names: &[&str], at: u64) {
        world.list(file(names.len()), lines(names), Duration::from_secs(at));
        world.know();
    }

    #[test]
    fn an_account_is_known_until_two_whole_looks_a_second_apart_lack_it_and_its_home_is_looked_after_until_then() {
        let frank: Account = "frank".parse().expect("an account");
        let mut world = world(&["root", "frank"], 10);
        assert!(!world.known.settled, "one look does not tell that an account is missing");
        see(&mut world, &["root"], 11);
        assert!(world.known.settled && world.known.uids.get(&frank) == Some(&1000) && world.entry(&frank).is_some());
        assert_eq!(world.again(Duration::from_secs(11)), Some(Duration::from_secs(12)));
        see(&mut world, &["root"], 12);
        assert!(!world.known.uids.contains_key(&frank) && world.entry(&frank).is_none());
        assert_eq!(world.again(Duration::from_secs(12)), None);
    }

    #[test]
    fn an_account_with_another_user_id_is_another_at_once() {
        let frank: Account = "frank".parse().expect("an account");
        let mut world = world(&["root", "frank"], 10);
        world.list(file(2), Accounts::parse(b"frank:x:1001:1001::/home/frank:/bin/sh\n"), Duration::from_secs(11));
        world.know();
        assert_eq!(world.known.uids.get(&frank), Some(&1001));
    }

    #[test]
    fn what_passwd_lost_at_its_end_in_place_counts_until_another_file_stands_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwd");
        let listed = |world: &World| -> Vec<String> {
            let mut names: Vec<_> = world.listed.entries.iter().map(|entry| entry.name.as_str().to_owned()).collect();
            names.sort();
            names
        };
        let look = |world: &mut World, names: &[&str], at: u64| {
            world.partial.clear();
            world.list(FileState::at(&path).expect("it is there"), lines(names), Duration::from_secs(at));
        };
        std::fs::write(&path, "").expect("own file");
        let all = ["root", "sshd", "grace", "frank"];
        let mut world = World::default();
        look(&mut world, &all, 10);
        for (at, cut) in
            [(20, &["root", "sshd"][..]), (90, &["root", "sshd"]), (200, &["root"]), (300, &["root", "grace"])]
        {
            look(&mut world, cut, at);
            assert_eq!(listed(&world), ["frank", "grace", "root", "sshd"], "{cut:?}");
            assert!(world.partial[0].contains("frank"), "{:?}", world.partial);
            assert!(
                world.again(Duration::from_secs(at)).is_none_or(|again| again < Duration::from_secs(20)),
                "no haste"
            );
        }
        look(&mut world, &["root", "late"], 400);
        assert_eq!(listed(&world), ["frank", "grace", "late", "root", "sshd"], "what it shows counts all the same");
        for at in [500, 502] {
            look(&mut world, &["root", "sshd", "frank"], at);
        }
        assert!(world.partial.is_empty());
        assert_eq!(
            listed(&world),
            ["frank", "root", "sshd"],
            "with its last account it is whole, and the others were deleted"
        );
        std::fs::rename(&path, directory.path().join("passwd-")).expect("moved");
        std::fs::write(&path, "").expect("own file");
        for at in [600, 602] {
            look(&mut world, &["root", "sshd"], at);
            assert!(world.partial.is_empty());
        }
        assert_eq!(listed(&world), ["root", "sshd"], "userdel(8) put another file there");
    }

    fn scanned_in(directory: &Path, config: &str) -> Vec<Scan> {
        let file = directory.join("sshd_config");
        std::fs::write(&file, config).expect("own file");
        vec![scan::scan(&scan::Disk, &file)]
    }

    #[test]
    fn patterns_of_key_files_stay_until_a_whole_look_at_sshds_configuration_lacks_them_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let scanned = |config: &str| scanned_in(directory.path(), config);
        // A directory cannot be read as a file.
        let unread = format!("Include {}\n", directory.path().display());
        let mut world = World::default();
        let named = |world: &World| world.patterns.iter().any(|pattern| pattern == "/etc/keys/%u");
        let see =
            |world: &mut World, scans: Vec<Scan>, at| world.see_sshd(&scans.clone(), scans, Duration::from_secs(at));
        see(&mut world, scanned("AuthorizedKeysFile /etc/keys/%u\n"), 10);
        for second in 11..60 {
            see(&mut world, scanned(&unread), second);
            assert!(named(&world) && !world.partial.is_empty(), "an Include that cannot be read may still name it");
        }
        world.see_sshd(&scanned("Port 22\n"), scanned(""), Duration::from_secs(60));
        assert!(named(&world), "it is being written");
        for (second, stays) in [(61, true), (62, false)] {
            see(&mut world, scanned(""), second);
            assert_eq!(named(&world), stays, "at {second}");
        }
    }
}
