//! Checks a configuration without putting it in force, for `lockdownd --check`. This never changes anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use lockdown_core::config::{Config, Error, Place, Unjudged};
use record::{Account, Person};

use super::{
    CONFIG_DIR, ROOT, files,
    files::{MAX_FILE, Owner},
    load, load_of, load_with,
};
use crate::{accounts::Accounts, name_service};

/// The most accounts that are warned of.
const MAX_WARNINGS: usize = 20;

/// A file that is judged as if it stood at its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Where it would stand: `/etc/lockdownd/config.toml` or `/etc/lockdownd/conf.d/NAME.toml`, there yet or not.
    pub destination: PathBuf,
    /// Where it is now, whoever owns it.
    pub file: PathBuf,
}

/// What a good configuration amounts to, in one line, and what of it this host may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    line: String,
    /// Each account, with what names it first.
    accounts: BTreeMap<Account, NamedBy>,
    /// Grants that nobody can use, a sentence each.
    unfit: Vec<String>,
}

/// What names an account.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NamedBy {
    Exempt,
    /// Who may be given it, and where that is said.
    Person(Person, Place),
    Require,
}

/// Checks the configuration, for `lockdownd --check [FILE]`. The result prints as one line.
///
/// Without `path`: all of [`CONFIG_DIR`], as [`load`] does. With it: that one file, which may be `config.toml` or one of
/// `conf.d`, wherever it lies and whoever owns it. People whom the file's grants name and whom the file does not know,
/// and whether a grant needs a reason, are looked up in what is installed. What only shows in the whole (a key that
/// another file's person claims, say) is found by [`check_as`], or when the whole is checked.
///
/// # Errors
/// As [`load`].
pub fn check(path: Option<&Path>) -> Result<Checked, Error> {
    let installed = Path::new(CONFIG_DIR);
    match path {
        None => load(installed).map(|config| Checked::of(installed, &config)),
        Some(path) => check_file(path, load_of(installed, Owner::Any).ok().as_ref()).map(|c| Checked::of(path, &c)),
    }
}

/// Checks the whole configuration as it would be with these files at their destinations, for
/// `lockdownd --check --as DESTINATION FILE`: what [`load`] would say then. Places in the answer are destinations.
///
/// # Errors
/// As [`load`]; also for a destination that is no file of the configuration, or is named twice.
pub fn check_as(proposed: &[Proposed]) -> Result<Checked, Error> {
    check_as_in(Path::new(CONFIG_DIR), Owner::Only(ROOT), proposed)
}

pub(super) fn check_as_in(dir: &Path, owner: Owner, proposed: &[Proposed]) -> Result<Checked, Error> {
    let mut unjudged = Unjudged::default();
    for (i, Proposed { destination, .. }) in proposed.iter().enumerate() {
        let place = Place::whole(&destination.to_string_lossy());
        if !is_destination(dir, destination) {
            let dir = dir.display();
            unjudged.add_unread(
                &place,
                "this is no file of the configuration",
                format!("{dir}/config.toml works, and {dir}/conf.d/NAME.toml where NAME begins with no dot"),
            );
        } else if proposed[..i].iter().any(|earlier| earlier.destination == *destination) {
            unjudged.add_unread(&place, "two files are to stand here", "name each destination once");
        }
    }
    let main = dir.join("config.toml");
    if !main.exists() && !proposed.iter().any(|proposed| proposed.destination == main) {
        let name = main.display();
        unjudged.add_unread(
            &Place::whole(&main.to_string_lossy()),
            "it is not there yet",
            format!("write it first, or check both together: --as {name} FILE --as DESTINATION FILE"),
        );
    }
    load_with(dir, owner, proposed, unjudged).map(|config| Checked::of(dir, &config))
}

fn is_destination(dir: &Path, path: &Path) -> bool {
    let in_conf_d = || path.parent() == Some(&dir.join("conf.d")) && path.file_name().is_some_and(files::is_read);
    path == dir.join("config.toml") || in_conf_d()
}

pub(super) fn check_file(path: &Path, installed: Option<&Config>) -> Result<Config, Error> {
    let mut unjudged = Unjudged::default();
    if let Some(text) = files::read(path, Owner::Any, MAX_FILE, &mut unjudged) {
        unjudged.add(&path.to_string_lossy(), &text);
    }
    unjudged.judge_as_one_file(installed)
}

impl Checked {
    fn of(path: &Path, config: &Config) -> Self {
        let place = Place::whole(&path.to_string_lossy());
        let (people, grants) = (config.people.len(), config.rendered.len());
        let mode = config.mode.as_str();
        let line = format!("{place}: good; mode {mode}, people: {people}, grants: {grants}, sha256 {}", config.digest);
        let mut accounts: BTreeMap<_, _> =
            config.accounts.exempt.iter().map(|exempt| (exempt.clone(), NamedBy::Exempt)).collect();
        for (person, entry) in &config.people {
            for account in &entry.accounts {
                accounts.entry(account.clone()).or_insert_with(|| NamedBy::Person(person.clone(), entry.place.clone()));
            }
        }
        for account in config.accounts.require.of.keys() {
            accounts.entry(account.clone()).or_insert(NamedBy::Require);
        }
        let unfit = config.rendered.iter().filter_map(|grant| {
            let why = config.unfit(&grant.person, &grant.account, config.accounts.require.on(&grant.account))?;
            Some(format!("{}: warning: {why}", grant.place))
        });
        Self { line, accounts, unfit: unfit.take(MAX_WARNINGS).collect() }
    }

    /// A warning for each grant that nobody can use, and for each account that this host does not have, the name service asked.
    /// Nothing is wrong with that: somebody may make it later. None of those where the host's accounts cannot be found out.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.unfit.iter().cloned().chain(self.missing()).collect()
    }

    fn missing(&self) -> Vec<String> {
        let Ok(listed) = Accounts::read() else { return Vec::new() };
        let unlisted: BTreeSet<&Account> = self.accounts.keys().filter(|name| listed.by_name(name).is_none()).collect();
        let Ok(known) = name_service::ask(&unlisted) else { return Vec::new() };
        let is_known = |account: &Account| known.iter().any(|entry| entry.name.account() == Some(account));
        let missing = unlisted.into_iter().filter(|account| !is_known(account)).take(MAX_WARNINGS);
        missing
            .map(|account| match &self.accounts[account] {
                NamedBy::Person(person, place) => {
                    format!("{place}: warning: {person} may be given {account}, which this host does not have")
                }
                NamedBy::Exempt => format!("warning: accounts.exempt names {account}, which this host does not have"),
                NamedBy::Require => format!("warning: accounts.require names {account}, which this host does not have"),
            })
            .collect()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
