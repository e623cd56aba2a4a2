//! What is kept between commands: tokens until they end, and the rosters that were seen, which are verified each time.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use document::{Envelope, Id, MAX_ROSTER_ENVELOPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    files::{self, Others},
    hosts::KnownHost,
};

/// The longest token's file, in bytes.
const MAX_TOKEN_FILE: usize = 16 << 10;
/// The longest file of hosts, in bytes: 20,000 of them with long names.
const MAX_HOSTS_FILE: usize = 8 << 20;
/// For how long what hosts are called is gone by: a name goes from one instance to the next.
const HOSTS_AGE: Duration = Duration::from_secs(15 * 60);
/// How much longer a token has to be good to be used.
const LEAST_LEFT: i64 = 10;

/// Where things are kept, for one configuration's organization and server.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    tokens: Option<PathBuf>,
    rosters: Option<PathBuf>,
    name: String,
}

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The token.
    pub(crate) token: String,
    /// Until when it is good.
    pub(crate) expires_at: Timestamp,
}

/// Hosts, as they are kept.
#[derive(Debug, Serialize, Deserialize)]
struct Hosts {
    at: Timestamp,
    hosts: Vec<KnownHost>,
}

impl Cache {
    /// The cache of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let own = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = own("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
        let cache = cache.map(|path| path.join("lockdown"));
        let tokens = own("XDG_RUNTIME_DIR").map(|path| path.join("lockdown")).or_else(|| cache.clone());
        Self { tokens, rosters: cache, name: name(config) }
    }

    /// A cache in one directory.
    #[cfg(test)]
    pub(crate) fn within(directory: &Path, config: &Config) -> Self {
        let directory = Some(directory.to_owned());
        Self { tokens: directory.clone(), rosters: directory, name: name(config) }
    }

    fn token_file(&self) -> Option<PathBuf> {
        Some(self.tokens.as_ref()?.join(format!("token-{}.json", self.name)))
    }

    fn roster_file(&self, which: &str) -> Option<PathBuf> {
        Some(self.rosters.as_ref()?.join(format!("{which}-{}.json", self.name)))
    }

    /// The token, while it is good.
    pub(crate) fn token(&self, now: Timestamp) -> Option<Token> {
        let bytes = files::read(&self.token_file()?, MAX_TOKEN_FILE).ok()?;
        let token: Token = serde_json::from_slice(&bytes).ok()?;
        (token.expires_at.duration_since(now).as_secs() > LEAST_LEFT && is_token(&token.token)).then_some(token)
    }

    /// Keeps a token; where that cannot be, the next command asks for another one.
    pub(crate) fn keep_token(&self, token: &Token) {
        if let (Some(path), Ok(json)) = (self.token_file(), serde_json::to_vec(token)) {
            keep(&path, &json);
        }
    }

    /// Drops the token.
    pub(crate) fn drop_token(&self) {
        if let Some(path) = self.token_file() {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The hosts that the server named last, where that is not too long ago.
    pub(crate) fn hosts(&self, now: Timestamp) -> Vec<KnownHost> {
        let read = || {
            let bytes = files::read(&self.roster_file("hosts")?, MAX_HOSTS_FILE).ok()?;
            let kept: Hosts = serde_json::from_slice(&bytes).ok()?;
            let age = now.duration_since(kept.at);
            (!age.is_negative() && age.unsigned_abs() <= HOSTS_AGE).then_some(kept.hosts)
        };
        read().unwrap_or_default()
    }

    /// Keeps them, so that a lockdown of some need not ask for their names first.
    pub(crate) fn keep_hosts(&self, hosts: Vec<KnownHost>, at: Timestamp) {
        if let (Some(path), Ok(json)) = (self.roster_file("hosts"), serde_json::to_vec(&Hosts { at, hosts })) {
            keep(&path, &json);
        }
    }

    /// The rosters that were in force when they were last seen: the one that the threshold signed, then an automatic one. Nothing
    /// is taken on their word: they are verified again.
    pub(crate) fn rosters(&self) -> Vec<Envelope> {
        let read = |which| {
            let bytes = files::read(&self.roster_file(which)?, MAX_ROSTER_ENVELOPE).ok()?;
            Envelope::parse(&bytes).ok()
        };
        ["roster", "automatic"].into_iter().filter_map(read).collect()
    }

    /// Keeps them.
    pub(crate) fn keep_rosters(&self, signed: Option<&Envelope>, automatic: Option<&Envelope>) {
        for (which, envelope) in [("roster", signed), ("automatic", automatic)] {
            match (self.roster_file(which), envelope) {
                (Some(path), Some(envelope)) => keep(&path, envelope.to_json().as_bytes()),
                (Some(path), None) => {
                    let _ = std::fs::remove_file(path);
                }
                (None, _) => {}
            }
        }
    }
}

/// One name for each organization and server, and for each set of keys that make a roster.
fn name(config: &Config) -> String {
    let server = config.server().map(ToString::to_string).unwrap_or_default();
    let whole = Id::of(&format!("{} {server}", config.trust.organization)).to_string();
    whole.chars().take(16).collect()
}

/// Whether this is a token that can stand in a header.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What is not kept is asked for again.
fn keep(path: &Path, bytes: &[u8]) {
    let kept = path.parent().map_or(Ok(()), files::make_private);
    let _ = kept.and_then(|()| files::replace(path, bytes, Others::MayNot));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{EXAMPLE, parse};

    #[test]
    fn a_token_is_kept_until_it_ends_and_only_for_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let config = parse(EXAMPLE).unwrap();
        let cache = Cache::within(dir.path(), &config);
        let end: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let token = Token { token: "ca_session_x".to_owned(), expires_at: end };
        cache.keep_token(&token);
        assert_eq!(cache.token("2026-11-30T11:59:00Z".parse().unwrap()), Some(token));
        assert_eq!(cache.token("2026-11-30T11:59:55Z".parse().unwrap()), None);
        let other = parse(&EXAMPLE.replacen("compliance.example.com", "other.example.com", 1)).unwrap();
        assert_eq!(Cache::within(dir.path(), &other).token("2026-11-30T11:59:00Z".parse().unwrap()), None);
        cache.drop_token();
        assert_eq!(cache.token("2026-11-30T11:59:00Z".parse().unwrap()), None);
    }

    #[test]
    fn what_hosts_are_called_is_gone_by_for_a_quarter_of_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::within(dir.path(), &parse(EXAMPLE).unwrap());
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(cache.hosts(at("2026-11-30T12:00:00Z")), []);
        let web1 =
            KnownHost { host: "i-1".parse().unwrap(), name: Some("web-1".to_owned()), stack: "web".parse().unwrap() };
        cache.keep_hosts(vec![web1.clone()], at("2026-11-30T12:00:00Z"));
        assert_eq!(cache.hosts(at("2026-11-30T12:15:00Z")), [web1]);
        for other in ["2026-11-30T12:15:01Z", "2026-11-30T11:59:59Z"] {
            assert_eq!(cache.hosts(at(other)), [], "{other}");
        }
    }
}
