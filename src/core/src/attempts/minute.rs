//! One failure, and the sum of a minute's: what stands in their records.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use record::{Account, ArtifactType, Draft, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{Named, Names};
use crate::sshd_log::Why;

/// How long failures are summed up.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Addresses that a sum names; what comes from others is counted together.
pub const MAX_SOURCES: usize = 24;
/// Accounts that a sum names; what goes to others is counted together.
pub const MAX_ACCOUNTS: usize = 16;

/// What was learned of one connection.
pub(super) struct Facts {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) user: Option<(String, bool)>,
    pub(super) source: Option<Source>,
    pub(super) why: Why,
    pub(super) tries: u32,
    pub(super) method: Option<String>,
}

/// One connection that did not get in, or failed before it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    first: Timestamp,
    last: Timestamp,
    pub(super) source: Option<Source>,
    account: Option<Account>,
    name_hash: Option<String>,
    why: Why,
    tries: u32,
    method: Option<String>,
    pid: i32,
    got_in: bool,
}

impl Failure {
    pub(super) fn new(facts: Facts, pid: i32, got_in: bool, names: &Names) -> Self {
        let Facts { first, last, user, source, why, tries, method } = facts;
        let (account, name_hash) = match user.map(|(name, valid)| names.look_up(&name, valid)) {
            Some(Named::Account(account)) => (Some(account), None),
            Some(Named::Unknown { hash }) => (None, Some(hash)),
            None => (None, None),
        };
        Self { first, last, source, account, name_hash, why, tries, method, pid, got_in }
    }

    /// The record of it, as part of a batch.
    pub(super) fn draft(&self, batch: u64) -> Draft {
        let to = match (&self.account, &self.name_hash) {
            (Some(account), _) => format!(" to {account}"),
            (None, Some(_)) => " to an account that there is not".to_owned(),
            (None, None) => String::new(),
        };
        let from = self.source.as_ref().and_then(|source| source.address).map(|address| format!(" from {address}"));
        let why = if self.got_in { "it failed first and then got in" } else { self.why.sentence() };
        let sentence = format!("a login{to}{} failed: {why}", from.unwrap_or_default());
        let mut draft = Draft::new(ArtifactType::LoginFailed, sentence)
            .with("why", self.why.word())
            .with("tries", self.tries)
            .with("at", self.first.to_string())
            .with("pid", self.pid)
            .with("batch", batch);
        if let Some(method) = &self.method {
            draft = draft.with("method", method.as_str());
        }
        if let Some(hash) = &self.name_hash {
            draft = draft.with("user_hash", hash.as_str());
        }
        if self.got_in {
            draft = draft.with("then_got_in", true);
        }
        draft.account.clone_from(&self.account);
        draft.source.clone_from(&self.source);
        draft
    }
}

/// All failures of a minute that were not stated alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    /// When it began, by the journal's time.
    pub since: Timestamp,
    until: Timestamp,
    /// How many connections.
    pub count: u64,
    tries: u64,
    seen: Vec<String>,
    sources: BTreeMap<String, u64>,
    other_sources: u64,
    accounts: BTreeMap<Account, u64>,
    other_accounts: u64,
    unknown_names: u64,
    why: BTreeMap<Why, u64>,
}

impl Minute {
    pub(super) fn begin(since: Timestamp) -> Self {
        Self {
            since,
            until: since,
            count: 0,
            tries: 0,
            seen: Vec::new(),
            sources: BTreeMap::new(),
            other_sources: 0,
            accounts: BTreeMap::new(),
            other_accounts: 0,
            unknown_names: 0,
            why: BTreeMap::new(),
        }
    }

    /// Whether nothing has come from there in this minute, as far as that is kept.
    pub(super) fn is_first_from(&self, source: Option<&Source>) -> bool {
        let address = address_of(source);
        !self.seen.contains(&address) && !self.sources.contains_key(&address)
    }

    /// Notes that one failure from there was stated alone.
    pub(super) fn seen(&mut self, source: Option<&Source>) {
        if self.seen.len() < MAX_SOURCES {
            self.seen.push(address_of(source));
        }
    }

    pub(super) fn add(&mut self, failure: &Failure) {
        self.count += 1;
        self.tries += u64::from(failure.tries);
        self.until = self.until.max(failure.last);
        *self.why.entry(failure.why).or_default() += 1;
        let address = address_of(failure.source.as_ref());
        if let Some(count) = bounded(&mut self.sources, address, MAX_SOURCES) {
            *count += 1;
        } else {
            self.other_sources += 1;
        }
        match &failure.account {
            Some(account) => match bounded(&mut self.accounts, account.clone(), MAX_ACCOUNTS) {
                Some(count) => *count += 1,
                None => self.other_accounts += 1,
            },
            None => self.unknown_names += u64::from(failure.name_hash.is_some()),
        }
    }

    /// The record of it, as part of a batch.
    pub(super) fn draft(&self, batch: u64) -> Draft {
        let only = (self.sources.len() == 1 && self.other_sources == 0).then(|| self.sources.keys().next()).flatten();
        let from = match only {
            Some(address) if !address.is_empty() => format!(" from {address}"),
            _ => format!(
                " from {} addresses{}",
                self.sources.len(),
                if self.other_sources > 0 { " and more" } else { "" }
            ),
        };
        let sentence = format!("{} logins{from} failed within a minute", self.count);
        let sources: Vec<Value> =
            self.sources.iter().map(|(address, count)| json!({ "address": address, "count": count })).collect();
        let accounts: Vec<Value> =
            self.accounts.iter().map(|(account, count)| json!({ "account": account, "count": count })).collect();
        let why: serde_json::Map<String, Value> =
            self.why.iter().map(|(why, count)| (why.word().to_owned(), (*count).into())).collect();
        let mut draft = Draft::new(ArtifactType::LoginFailed, sentence)
            .with("count", self.count)
            .with("tries", self.tries)
            .with("since", self.since.to_string())
            .with("until", self.until.to_string())
            .with("sources", sources)
            .with("other_sources", self.other_sources)
            .with("accounts", accounts)
            .with("other_accounts", self.other_accounts)
            .with("unknown_names", self.unknown_names)
            .with("whys", why)
            .with("batch", batch);
        let address = only.and_then(|address| address.parse().ok());
        draft.source = address.map(|address| Source { address: Some(address), port: None });
        if let (1, 0, 0) = (self.accounts.len(), self.other_accounts, self.unknown_names) {
            draft.account = self.accounts.keys().next().cloned();
        }
        draft
    }
}

fn address_of(source: Option<&Source>) -> String {
    source.and_then(|source| source.address).map(|address| address.to_string()).unwrap_or_default()
}

fn bounded<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, most: usize) -> Option<&mut u64> {
    let room = map.len() < most || map.contains_key(&key);
    room.then(|| map.entry(key).or_default())
}
