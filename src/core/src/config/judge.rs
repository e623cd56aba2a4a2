//! Settings → a checked configuration: defaults, bounds, and what the files say about each other. This never reads a file.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use control::format_duration;
use record::{Account, Fingerprint, Person};
use sha2::{Digest, Sha256};

use super::{
    Accounts, BeforeEnforce, Config, Cron, GrantRules, HostConfig, HostName, LedgerConfig, LeftBehind, Mode,
    PersonEntry, PersonKey, RenderedGrant, Require, Schedule, Sessions, Ship, ShipApi, SshdConfig, WhenFull,
    error::Problems,
    merge::{GrantTable, PersonTable, Settings},
    place::{Located, Place},
    requirement::EVERY_ACCOUNT,
    shipping::{MAX_RECEIPT_KEYS, written_size},
};

/// The most people.
pub const MAX_PEOPLE: usize = 10_000;
/// The most keys that one person may have.
pub const MAX_KEYS: usize = 64;
/// The most accounts that may be exempt.
pub const MAX_EXEMPT: usize = 64;
/// The most entries of `[accounts.require]`.
pub const MAX_REQUIRE: usize = 1_000;
/// The most entries of `sshd.penalty_exempt`.
pub const MAX_PENALTY_EXEMPT: usize = 64;
/// The shortest `default_duration` and `max_duration`.
pub const MIN_GRANT: Duration = Duration::from_secs(1);
/// The longest `default_duration` and `max_duration`: a year.
pub const MAX_GRANT: Duration = Duration::from_secs(366 * 86_400);
/// The longest `warn_before`.
pub const MAX_WARNING: Duration = Duration::from_secs(86_400);
/// The shortest time that the ledger keeps records.
pub const MIN_RETAIN: Duration = Duration::from_secs(86_400);
/// The longest time that the ledger keeps records: ten years.
pub const MAX_RETAIN: Duration = Duration::from_secs(3_660 * 86_400);

/// The smallest `max_size` of the ledger.
pub const MIN_SIZE: u64 = 1 << 20;
/// The largest `max_size` of the ledger.
pub const MAX_SIZE: u64 = 16 << 40;

/// When the sweep runs unless the config says otherwise.
const DEFAULT_SWEEP: &str = "0 */15 * * * *";
/// The stack's name unless the config says otherwise.
const DEFAULT_STACK: &str = "default";
const DEFAULT_DURATION: Duration = Duration::from_secs(3_600);
const DEFAULT_MAX_DURATION: Duration = Duration::from_secs(12 * 3_600);
const DEFAULT_WARNING: Duration = Duration::from_secs(300);
const DEFAULT_RETAIN: Duration = Duration::from_secs(400 * 86_400);
const DEFAULT_SIZE: u64 = 4 << 30;

/// How much of the configuration the settings are.
pub(super) enum Scope<'c> {
    /// All of it.
    Whole,
    /// One file, for Chef's `verify`: people whom it does not know, and whether a
    /// grant needs a reason, are looked up in what is installed, if that can be read.
    OneFile(Option<&'c Config>),
}

/// Judges the settings. Problems that the files had already are reported along with what is found here.
pub(super) fn judge(settings: Settings, scope: &Scope<'_>, mut problems: Problems) -> Result<Config, super::Error> {
    let p = &mut problems;
    if !settings.mode_is_said && matches!(scope, Scope::Whole) && !p.some_file_is_missing() {
        p.add(&Place::whole("configuration"), "mode is missing", "add mode = \"observe\" or mode = \"enforce\"");
    }
    let grants = grant_rules(&settings, scope, p);
    let accounts = accounts(&settings, p);
    let sshd = sshd(&settings, p);
    let warn_before = within("warn_before", &settings.warn_before, DEFAULT_WARNING, Duration::ZERO, MAX_WARNING, p);
    let ledger = ledger(&settings, p);
    let api = ship_api(&settings, scope, p);
    let stack = settings.documents.judge(matches!(scope, Scope::Whole) && !p.some_file_is_missing(), api.as_ref(), p);
    let people = people(settings.people, &accounts, p);
    let rendered = rendered(settings.grants, &people, &accounts, &grants, scope, p);
    let mut config = Config {
        mode: settings.mode.map_or(Mode::Observe, |m| m.value),
        host: HostConfig {
            name: settings.host_name.map_or(HostName::Auto, |n| n.value),
            stack: settings.stack.map_or_else(|| DEFAULT_STACK.parse().expect("a stack's name"), |s| s.value),
        },
        schedule: Schedule {
            sweep: settings.sweep.map_or_else(|| DEFAULT_SWEEP.parse::<Cron>().expect("a pattern"), |s| s.value),
            lockdown: settings.lockdown.map(|l| l.value),
        },
        grants,
        accounts,
        sshd,
        sessions: Sessions {
            end_with_grant: settings.end_with_grant.is_none_or(|e| e.value),
            warn_before: Some(warn_before).filter(|w| !w.is_zero()),
            left_behind: settings.left_behind.map_or(LeftBehind::Record, |choice| choice.value),
            before_enforce: settings.before_enforce.map_or(BeforeEnforce::Keep, |choice| choice.value),
        },
        people,
        rendered,
        ledger,
        ship: Ship { syslog: settings.syslog.map(|s| s.value), api },
        stack,
        digest: String::new(),
    };
    config.digest = Sha256::digest(config.to_toml()).iter().map(|byte| format!("{byte:02x}")).collect();
    problems.or(config)
}

fn within(
    key: &str,
    given: &Option<Located<Duration>>,
    default: Duration,
    least: Duration,
    most: Duration,
    p: &mut Problems,
) -> Duration {
    let Some(Located { value, place }) = given else { return default };
    if !(least..=most).contains(value) {
        let (least, most) = (format_duration(least), format_duration(most));
        p.add(place, format!("{key} is {}", format_duration(*value)), format!("{least} to {most} works"));
    }
    *value
}

fn ledger(settings: &Settings, p: &mut Problems) -> LedgerConfig {
    let retain = within("retain", &settings.retain, DEFAULT_RETAIN, MIN_RETAIN, MAX_RETAIN, p);
    let max_size = settings.max_size.as_ref().map_or(DEFAULT_SIZE, |size| size.value);
    if let Some(Located { value, place }) = &settings.max_size
        && !(MIN_SIZE..=MAX_SIZE).contains(value)
    {
        let (least, most) = (written_size(MIN_SIZE), written_size(MAX_SIZE));
        p.add(place, format!("max_size is {}", written_size(*value)), format!("{least} to {most} works"));
    }
    let when_full = settings.when_full.as_ref().map_or(WhenFull::RefuseGrants, |policy| policy.value);
    LedgerConfig { retain, max_size, when_full }
}

fn ship_api(settings: &Settings, scope: &Scope<'_>, p: &mut Problems) -> Option<ShipApi> {
    let keys = settings.receipt_keys.as_ref();
    if let Some(Located { value, place }) = keys.filter(|keys| keys.value.len() > MAX_RECEIPT_KEYS) {
        p.add(
            place,
            format!("there are {} receipt_keys", value.len()),
            format!("at most {MAX_RECEIPT_KEYS} are taken"),
        );
    }
    let Some(url) = &settings.api else {
        let files = [&settings.ca_file, &settings.client_certificate];
        let first = files.into_iter().flatten().map(|file| &file.place).chain(keys.map(|keys| &keys.place)).next();
        // In a file alone the others may have it.
        if let Some(place) = first.filter(|_| matches!(scope, Scope::Whole) && !p.some_file_is_missing()) {
            let remedy = "add url = \"https://compliance.example.com\", or drop the rest of [ship.api]";
            p.add(place, "[ship.api] has no url, so nothing is sent", remedy);
        }
        return None;
    };
    let text = |found: &Option<Located<String>>| found.as_ref().map(|found| found.value.clone());
    Some(ShipApi {
        url: url.value.clone(),
        ca_file: text(&settings.ca_file),
        client_certificate: text(&settings.client_certificate),
        receipt_keys: keys.map_or_else(Vec::new, |keys| keys.value.iter().map(|key| key.value.clone()).collect()),
    })
}

fn grant_rules(settings: &Settings, scope: &Scope<'_>, p: &mut Problems) -> GrantRules {
    let max_duration = within("max_duration", &settings.max_duration, DEFAULT_MAX_DURATION, MIN_GRANT, MAX_GRANT, p);
    // Without a default of one's own, the shorter of ours and the maximum: a config that only lowers the maximum is no mistake.
    let fallback = DEFAULT_DURATION.min(max_duration);
    let default_duration = within("default_duration", &settings.default_duration, fallback, MIN_GRANT, MAX_GRANT, p);
    if let Some(Located { place, .. }) = &settings.default_duration
        && default_duration > max_duration
    {
        let (default, most) = (format_duration(default_duration), format_duration(max_duration));
        p.add(
            place,
            format!("default_duration {default} is longer than max_duration {most}"),
            format!("at most {most} works"),
        );
    }
    let unless_said = match scope {
        Scope::OneFile(Some(installed)) => installed.grants.require_reason,
        _ => true,
    };
    GrantRules {
        default_duration,
        max_duration,
        require_reason: settings.require_reason.as_ref().map_or(unless_said, |r| r.value),
        self_grants: settings.self_grants.as_ref().is_some_and(|s| s.value),
    }
}

fn accounts(settings: &Settings, p: &mut Problems) -> Accounts {
    let list = settings.exempt.as_ref().map_or(&[][..], |exempt| &exempt.value);
    if let Some(exempt) = &settings.exempt
        && list.len() > MAX_EXEMPT
    {
        p.add(&exempt.place, format!("{} accounts are exempt", list.len()), format!("at most {MAX_EXEMPT} are taken"));
    }
    let no_exempt = settings.no_exempt.as_ref().is_some_and(|n| n.value);
    if let Some(Located { place, .. }) = settings.no_exempt.as_ref().filter(|_| no_exempt && !list.is_empty()) {
        p.add(place, "no_exempt = true, and yet accounts are exempt", "drop no_exempt, or write exempt = []");
    }
    let agent_forwarding = settings.agent_forwarding.as_ref().map(|rule| rule.value).unwrap_or_default();
    let require = require(settings, list, p);
    Accounts {
        exempt: list.iter().map(|account| account.value.clone()).collect(),
        no_exempt,
        agent_forwarding,
        require,
    }
}

fn require(settings: &Settings, exempt: &[Located<Account>], p: &mut Problems) -> Require {
    let mut require = Require::default();
    if let Some(Located { place, .. }) = settings.require.get(MAX_REQUIRE) {
        let what = format!("[accounts.require] has {} entries", settings.require.len());
        p.add(place, what, format!("at most {MAX_REQUIRE} are taken"));
    }
    for Located { value: (name, requirement), place } in settings.require.iter().take(MAX_REQUIRE) {
        if name == EVERY_ACCOUNT {
            require.everywhere = Some(*requirement);
            continue;
        }
        match name.parse::<Account>() {
            Ok(account) if exempt.iter().any(|exempt| exempt.value == account) => {
                let what = format!("{account} is exempt: it keeps its own keys, and nothing is required of it");
                p.add(place, what, format!("drop {account} here or from accounts.exempt"));
            }
            Ok(account) => drop(require.of.insert(account, *requirement)),
            Err(error) => p.add(place, error.to_string(), "name an account, or \"*\" for every one"),
        }
    }
    require
}

fn sshd(settings: &Settings, p: &mut Problems) -> SshdConfig {
    let list = settings.penalty_exempt.as_ref().map_or(&[][..], |list| &list.value);
    if let Some(Located { place, .. }) = settings.penalty_exempt.as_ref().filter(|_| list.len() > MAX_PENALTY_EXEMPT) {
        let what = format!("penalty_exempt has {} addresses", list.len());
        p.add(place, what, format!("at most {MAX_PENALTY_EXEMPT} are taken: name networks, as 10.0.0.0/24"));
    }
    SshdConfig { penalty_exempt: list.iter().map(|range| range.value).collect() }
}

fn people(tables: Vec<PersonTable>, accounts: &Accounts, p: &mut Problems) -> BTreeMap<Person, PersonEntry> {
    if let Some(first_too_many) = tables.get(MAX_PEOPLE) {
        p.add(
            &first_too_many.name.place,
            format!("there are {} people", tables.len()),
            format!("at most {MAX_PEOPLE} are taken"),
        );
    }
    let mut people = BTreeMap::new();
    let mut claimed: BTreeMap<Fingerprint, (Person, Place)> = BTreeMap::new();
    for table in tables.into_iter().take(MAX_PEOPLE) {
        let Located { value: name, place } = table.name;
        if table.keys.len() > MAX_KEYS {
            p.add(&place, format!("{name} has {} keys", table.keys.len()), format!("at most {MAX_KEYS} are taken"));
        }
        for key in table.keys.iter().take(MAX_KEYS) {
            claim(&name, key, &mut claimed, p);
        }
        for account in table.accounts.iter().filter(|a| accounts.exempt.contains(&a.value)) {
            let what = format!("{name} may be given {}, which is exempt and takes no grants", account.value);
            p.add(&account.place, what, format!("drop {0} here or from accounts.exempt", account.value));
        }
        match people.entry(name) {
            Entry::Vacant(slot) => {
                slot.insert(PersonEntry {
                    keys: table.keys.into_iter().map(|key| key.value).collect(),
                    accounts: table.accounts.into_iter().map(|account| account.value).collect(),
                    operator: table.operator,
                    place,
                });
            }
            Entry::Occupied(slot) => {
                let other = slot.get();
                p.add(
                    &place,
                    format!("{} is a person already at {}", slot.key(), other.place),
                    "keep one [[person]] each",
                );
            }
        }
    }
    people
}

fn claim(
    name: &Person,
    key: &Located<PersonKey>,
    claimed: &mut BTreeMap<Fingerprint, (Person, Place)>,
    p: &mut Problems,
) {
    match claimed.entry(key.value.fingerprint()) {
        Entry::Vacant(slot) => {
            slot.insert((name.clone(), key.place.clone()));
        }
        Entry::Occupied(slot) => {
            let (fingerprint, (owner, place)) = (slot.key(), slot.get());
            let what = match owner == name {
                true => format!("key {fingerprint} stands here and at {place} for {name}"),
                false => format!("key {fingerprint} of {name} is claimed by {owner} at {place}"),
            };
            p.add(&key.place, what, "a key belongs to one person, once");
        }
    }
}

fn rendered(
    tables: Vec<GrantTable>,
    people: &BTreeMap<Person, PersonEntry>,
    accounts: &Accounts,
    rules: &GrantRules,
    scope: &Scope<'_>,
    p: &mut Problems,
) -> Vec<RenderedGrant> {
    let mut grants: Vec<RenderedGrant> = Vec::new();
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for table in tables {
        let person = people.get(&table.person.value).or_else(|| match scope {
            Scope::OneFile(Some(installed)) => installed.people.get(&table.person.value),
            _ => None,
        });
        may_be_given(&table, person, people, accounts, p);
        if let Some(starts_at) = table.starts_at.as_ref().filter(|starts| starts.value >= table.expires_at.value) {
            p.add(&starts_at.place, "starts_at is not before expires_at", "start earlier or expire later");
        }
        if table.reason.is_none() && rules.require_reason {
            p.add(&table.place, "reason is missing", "add reason = \"INC-42\", or set grants.require_reason = false");
        }
        let grant = RenderedGrant {
            person: table.person.value,
            account: table.account.value,
            expires_at: table.expires_at.value,
            starts_at: table.starts_at.map(|starts| starts.value),
            from: table.from.into_iter().map(|cidr| cidr.value).collect(),
            reason: table.reason.map(|reason| reason.value),
            place: table.place,
        };
        match places.entry(super::write::grant(&grant)) {
            Entry::Vacant(slot) => {
                slot.insert(grant.place.clone());
                grants.push(grant);
            }
            Entry::Occupied(slot) => {
                p.add(&grant.place, format!("this very grant stands at {} already", slot.get()), "keep one of them");
            }
        }
    }
    grants
}

/// A grant in config is one that `lockdownctl allow` would have taken too.
fn may_be_given(
    grant: &GrantTable,
    person: Option<&PersonEntry>,
    people: &BTreeMap<Person, PersonEntry>,
    accounts: &Accounts,
    p: &mut Problems,
) {
    let (name, account) = (&grant.person.value, &grant.account.value);
    if accounts.exempt.contains(account) {
        p.add(&grant.account.place, format!("{account} is exempt and takes no grants"), "name another account");
        return;
    }
    match person {
        None if p.some_file_is_missing() => {}
        None => {
            let known = some_of(people.keys().map(Person::as_str), "known are: ", "nobody is known: add a [[person]]");
            p.add(&grant.person.place, format!("there is no person {name}"), known);
        }
        Some(person) if !person.accounts.contains(account) => {
            let may = some_of(
                person.accounts.iter().map(Account::as_str),
                &format!("{name} may be given: "),
                &format!("{name} may be given no account: add it to their accounts"),
            );
            p.add(&grant.account.place, format!("{name} may not be given {account}"), may);
        }
        Some(_) => {}
    }
}

/// The first few names, for a complaint.
fn some_of<'n>(mut names: impl ExactSizeIterator<Item = &'n str>, before: &str, none: &str) -> String {
    const SHOWN: usize = 8;
    let count = names.len();
    let shown = names.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    match count {
        0 => none.to_owned(),
        _ if count <= SHOWN => format!("{before}{shown}"),
        _ => format!("{before}{shown} and {} more", count - SHOWN),
    }
}
