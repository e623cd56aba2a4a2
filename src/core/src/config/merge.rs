//! Files → one set of settings: each value parsed, the later file's setting in force, people and grants appended.
//! This never judges one value against another.

use std::{str::FromStr, time::Duration};

use control::{MAX_FROM, MAX_REASON, parse_duration};
use jiff::Timestamp;
use record::{Account, Person};
use ssh_key::PublicKey;

use super::{
    AgentForwarding, BeforeEnforce, Cron, HostName, LeftBehind, Mode, Requirement, WhenFull,
    error::{Problems, quoted},
    place::{Located, Place, Source},
    requirement::requirement,
    session_rules, shipping,
    stack::StackTable,
    table::{Table, parse},
};
use control::Cidr;

use crate::keys::person::PersonKey;

/// Everything that the files say, each setting from the last file that has it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) mode: Option<Located<Mode>>,
    /// Whether any file has `mode`, be it readable or not.
    pub(super) mode_is_said: bool,
    pub(super) host_name: Option<Located<HostName>>,
    pub(super) stack: Option<Located<record::Stack>>,
    pub(super) sweep: Option<Located<Cron>>,
    pub(super) lockdown: Option<Located<Cron>>,
    pub(super) default_duration: Option<Located<Duration>>,
    pub(super) max_duration: Option<Located<Duration>>,
    pub(super) require_reason: Option<Located<bool>>,
    pub(super) self_grants: Option<Located<bool>>,
    pub(super) exempt: Option<Located<Vec<Located<Account>>>>,
    pub(super) no_exempt: Option<Located<bool>>,
    pub(super) end_with_grant: Option<Located<bool>>,
    pub(super) warn_before: Option<Located<Duration>>,
    pub(super) agent_forwarding: Option<Located<AgentForwarding>>,
    pub(super) require: Vec<Located<(String, Requirement)>>,
    pub(super) penalty_exempt: Option<Located<Vec<Located<Cidr>>>>,
    pub(super) before_enforce: Option<Located<BeforeEnforce>>,
    pub(super) left_behind: Option<Located<LeftBehind>>,
    pub(super) retain: Option<Located<Duration>>,
    pub(super) syslog: Option<Located<String>>,
    pub(super) max_size: Option<Located<u64>>,
    pub(super) when_full: Option<Located<WhenFull>>,
    pub(super) api: Option<Located<String>>,
    pub(super) ca_file: Option<Located<String>>,
    pub(super) client_certificate: Option<Located<String>>,
    pub(super) receipt_keys: Option<Located<Vec<Located<PublicKey>>>>,
    pub(super) documents: StackTable,
    pub(super) people: Vec<PersonTable>,
    pub(super) grants: Vec<GrantTable>,
    /// Every key that was asked for, with its heading: what this code accepts.
    pub(super) known: Vec<(&'static str, Vec<&'static str>)>,
}

/// One `[[person]]`.
#[derive(Debug)]
pub(super) struct PersonTable {
    pub(super) name: Located<Person>,
    pub(super) keys: Vec<Located<PersonKey>>,
    pub(super) accounts: Vec<Located<Account>>,
    pub(super) operator: bool,
}

/// One `[[grant]]`.
#[derive(Debug)]
pub(super) struct GrantTable {
    pub(super) place: Place,
    pub(super) person: Located<Person>,
    pub(super) account: Located<Account>,
    pub(super) expires_at: Located<Timestamp>,
    pub(super) starts_at: Option<Located<Timestamp>>,
    pub(super) from: Vec<Located<Cidr>>,
    pub(super) reason: Option<Located<String>>,
}

impl Settings {
    /// Takes over what one more file says.
    pub(super) fn add(&mut self, source: &Source<'_>, problems: &mut Problems) {
        let Some(document) = parse(source, problems) else { return };
        let mut top = Table::top(source, document.get_ref());
        self.mode_is_said |= top.has("mode");
        put(&mut self.mode, word(top.string("mode", problems), mode, problems));
        self.host(top.table("host", "[host]", problems), problems);
        self.schedule(top.table("schedule", "[schedule]", problems), problems);
        self.grants(top.table("grants", "[grants]", problems), problems);
        self.accounts(top.table("accounts", "[accounts]", problems), problems);
        self.sshd(top.table("sshd", "[sshd]", problems), problems);
        self.sessions(top.table("sessions", "[sessions]", problems), problems);
        for table in top.tables("person", "[[person]]", problems) {
            self.person(table, problems);
        }
        for table in top.tables("grant", "[[grant]]", problems) {
            self.grant(table, problems);
        }
        self.ledger(top.table("ledger", "[ledger]", problems), problems);
        self.ship(top.table("ship", "[ship]", problems), problems);
        if let Some(table) = top.table("stack", "[stack]", problems) {
            let known = self.documents.add(table, problems);
            known.into_iter().for_each(|known| self.knows(known));
        }
        self.end(top, problems);
    }

    fn host(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        put(&mut self.host_name, word(table.string("name", problems), HostName::from_str, problems));
        put(&mut self.stack, word(table.string("stack", problems), str::parse, problems));
        self.end(table, problems);
    }

    fn schedule(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        put(&mut self.sweep, cron(table.string("sweep", problems), problems));
        put(&mut self.lockdown, cron(table.string("lockdown", problems), problems));
        self.end(table, problems);
    }

    fn grants(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        put(&mut self.default_duration, word(table.string("default_duration", problems), parse_duration, problems));
        put(&mut self.max_duration, word(table.string("max_duration", problems), parse_duration, problems));
        put(&mut self.require_reason, table.boolean("require_reason", problems));
        put(&mut self.self_grants, table.boolean("self", problems));
        self.end(table, problems);
    }

    fn accounts(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        if let Some(Located { value, place }) = table.strings("exempt", problems) {
            self.exempt = Some(Located { value: words(value, str::parse, problems), place });
        }
        put(&mut self.no_exempt, table.boolean("no_exempt", problems));
        put(&mut self.agent_forwarding, word(table.string("agent_forwarding", problems), agent_forwarding, problems));
        if let Some(mut require) = table.table("require", "[accounts.require]", problems) {
            for (account, word) in require.named_strings(problems) {
                let Some(Located { value, place }) = self::word(Some(word), requirement, problems) else { continue };
                // As every other setting: the later file's word for an account.
                self.require.retain(|known| known.value.0 != account);
                self.require.push(Located { value: (account, value), place });
            }
        }
        self.end(table, problems);
    }

    fn sshd(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        if let Some(Located { value, place }) = table.strings("penalty_exempt", problems) {
            self.penalty_exempt = Some(Located { value: words(value, str::parse, problems), place });
        }
        self.end(table, problems);
    }

    fn sessions(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        put(&mut self.end_with_grant, table.boolean("end_with_grant", problems));
        put(&mut self.warn_before, word(table.string("warn_before", problems), parse_duration, problems));
        let before = table.string("before_enforce", problems);
        put(&mut self.before_enforce, word(before, session_rules::before_enforce, problems));
        let left_behind = table.string("left_behind", problems);
        put(&mut self.left_behind, word(left_behind, session_rules::left_behind, problems));
        self.end(table, problems);
    }

    fn ledger(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        put(&mut self.retain, word(table.string("retain", problems), parse_duration, problems));
        put(&mut self.max_size, word(table.string("max_size", problems), shipping::size, problems));
        put(&mut self.when_full, word(table.string("when_full", problems), shipping::when_full, problems));
        self.end(table, problems);
    }

    fn ship(&mut self, table: Option<Table<'_>>, problems: &mut Problems) {
        let Some(mut table) = table else { return };
        if let Some(mut syslog) = table.table("syslog", "[ship.syslog]", problems) {
            put(&mut self.syslog, word(syslog.string("address", problems), shipping::syslog_address, problems));
            self.end(syslog, problems);
        }
        if let Some(mut api) = table.table("api", "[ship.api]", problems) {
            put(&mut self.api, word(api.string("url", problems), shipping::api_url, problems));
            put(&mut self.ca_file, word(api.string("ca_file", problems), shipping::pem_file, problems));
            let certificate = api.string("client_certificate", problems);
            put(&mut self.client_certificate, word(certificate, shipping::pem_file, problems));
            if let Some(Located { value, place }) = api.strings("receipt_keys", problems) {
                self.receipt_keys = Some(Located { value: words(value, shipping::receipt_key, problems), place });
            }
            self.end(api, problems);
        }
        self.end(table, problems);
    }

    fn person(&mut self, mut table: Table<'_>, problems: &mut Problems) {
        let name = required(&mut table, "name", "name = \"frank\"", problems);
        let keys = table.strings("keys", problems).map(|list| list.value).unwrap_or_default();
        let accounts = table.strings("accounts", problems).map(|list| list.value).unwrap_or_default();
        let operator = table.boolean("operator", problems).is_some_and(|operator| operator.value);
        self.end(table, problems);
        let keys = words(keys, PersonKey::parse, problems);
        let accounts = words(accounts, str::parse, problems);
        if let Some(name) = word(name, str::parse, problems) {
            self.people.push(PersonTable { name, keys, accounts, operator });
        }
    }

    fn grant(&mut self, mut table: Table<'_>, problems: &mut Problems) {
        let place = table.place.clone();
        let person = required(&mut table, "person", "person = \"frank\"", problems);
        let account = required(&mut table, "account", "account = \"ubuntu\"", problems);
        let expires_at = required(&mut table, "expires_at", "expires_at = \"2026-12-01T18:00:00Z\"", problems);
        let starts_at = table.string("starts_at", problems);
        let from = table.strings("from", problems);
        let reason_is_said = table.has("reason");
        let reason = word(table.string("reason", problems), sentence, problems);
        self.end(table, problems);
        let person = word(person, str::parse, problems);
        let account = word(account, str::parse, problems);
        let expires_at = word(expires_at, moment, problems);
        let starts_at = word(starts_at, moment, problems);
        if let Some(Located { value, place }) = &from
            && value.is_empty()
        {
            // An empty list means nobody, and a grant for nobody is a mistake.
            problems.add(
                place,
                "from is empty: nobody could come in",
                "name networks, as [\"10.0.0.0/8\"], or leave it out",
            );
        }
        if let Some(Located { value, place }) = &from
            && value.len() > MAX_FROM
        {
            problems.add(place, format!("from has {} networks", value.len()), format!("at most {MAX_FROM} are taken"));
        }
        let from = words(from.map(|list| list.value).unwrap_or_default(), str::parse, problems);
        if reason_is_said && reason.is_none() {
            return;
        }
        if let (Some(person), Some(account), Some(expires_at)) = (person, account, expires_at) {
            self.grants.push(GrantTable { place, person, account, expires_at, starts_at, from, reason });
        }
    }

    fn end(&mut self, table: Table<'_>, problems: &mut Problems) {
        self.knows(table.end(problems));
    }

    fn knows(&mut self, known: (&'static str, Vec<&'static str>)) {
        if !self.known.contains(&known) {
            self.known.push(known);
        }
    }
}

/// A later file's setting replaces an earlier one's.
pub(super) fn put<T>(slot: &mut Option<Located<T>>, found: Option<Located<T>>) {
    if found.is_some() {
        *slot = found;
    }
}

pub(super) fn required<'t>(
    table: &mut Table<'t>,
    key: &'static str,
    example: &str,
    problems: &mut Problems,
) -> Option<Located<&'t str>> {
    if !table.has(key) {
        problems.add(&table.place, format!("{key} is missing"), format!("add {example}"));
    }
    table.string(key, problems)
}

/// One text through its parser; a refusal becomes a problem at its place.
pub(super) fn word<'t, T, E: std::fmt::Display>(
    found: Option<Located<&'t str>>,
    read: impl FnOnce(&'t str) -> Result<T, E>,
    problems: &mut Problems,
) -> Option<Located<T>> {
    let Located { value, place } = found?;
    match read(value) {
        Ok(value) => Some(Located { value, place }),
        Err(error) => {
            problems.add(&place, error.to_string(), "");
            None
        }
    }
}

pub(super) fn words<'t, T, E: std::fmt::Display>(
    found: Vec<Located<&'t str>>,
    read: impl Fn(&'t str) -> Result<T, E>,
    problems: &mut Problems,
) -> Vec<Located<T>> {
    found.into_iter().filter_map(|text| word(Some(text), &read, problems)).collect()
}

fn agent_forwarding(text: &str) -> Result<AgentForwarding, String> {
    [AgentForwarding::Own, AgentForwarding::Yes, AgentForwarding::No]
        .into_iter()
        .find(|word| word.as_str() == text)
        .ok_or_else(|| format!("{} is no rule for agents; write \"own\", \"yes\" or \"no\"", quoted(text)))
}

fn mode(text: &str) -> Result<Mode, String> {
    [Mode::Observe, Mode::Enforce]
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or_else(|| format!("{} is no mode; write \"observe\" or \"enforce\"", quoted(text)))
}

fn cron(found: Option<Located<&str>>, problems: &mut Problems) -> Option<Located<Cron>> {
    let Located { value, place } = found?;
    match value.parse() {
        Ok(value) => Some(Located { value, place }),
        Err(error) => {
            let error: super::CronError = error;
            problems.add(&place, error.to_string(), "every quarter of an hour is \"0 */15 * * * *\" (UTC)");
            None
        }
    }
}

/// RFC 3339 with `Z`, to the microsecond at most: a moment that reads the same everywhere.
fn moment(text: &str) -> Result<Timestamp, String> {
    let refuse = || format!("{} is no RFC 3339 time in UTC; write it like 2026-12-01T18:00:00Z", quoted(text));
    let shape: String = text.chars().take(32).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let fraction =
        shape.strip_prefix("0000-00-00T00:00:00").and_then(|rest| rest.strip_suffix('Z')).ok_or_else(refuse)?;
    let good = match fraction.strip_prefix('.') {
        Some(digits) => (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b == b'0'),
        None => fraction.is_empty(),
    };
    if good { text.parse().map_err(|_| refuse()) } else { Err(refuse()) }
}

fn sentence(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("reason is empty; say why, as \"INC-42\"".to_owned());
    }
    if text.len() > MAX_REASON {
        return Err(format!("reason is {} bytes long; at most {MAX_REASON} are taken", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("reason {} has control characters; write it in one line", quoted(text)));
    }
    Ok(text.to_owned())
}
