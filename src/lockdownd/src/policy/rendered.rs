//! Grants that the configuration renders: which are to be made, and which end because it no longer backs them.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use record::{Account, GrantId};
use sha2::{Digest, Sha256};

use super::grant::{EndCause, Grant, Origin};
use crate::config::{self, Config, RenderedGrant};

/// What a configuration, or a change of the accounts, asks of the grants.
#[derive(Debug, Default)]
#[must_use]
pub struct Changes<'a> {
    /// Rendered grants to make, each with the moment from which `max_duration` counts where an earlier grant of the
    /// same content says so.
    pub make: Vec<(&'a RenderedGrant, Option<Timestamp>)>,
    /// Grants to end, each with its reason.
    pub end: Vec<(GrantId, String)>,
}

/// Judges every grant against the configuration and the accounts there are (name and user id).
pub fn judge<'a>(
    config: &'a Config,
    accounts: &BTreeMap<Account, u32>,
    grants: &[Grant],
    now: Timestamp,
) -> Changes<'a> {
    let mut changes = Changes::default();
    let rendered: BTreeMap<String, &RenderedGrant> = config.rendered.iter().map(|r| (content(r), r)).collect();
    for grant in grants.iter().filter(|grant| grant.is_open()) {
        if let Some(reason) = no_longer_backed(config, accounts, &rendered, grant) {
            changes.end.push((grant.id.clone(), reason));
        }
    }
    for (content, wanted) in rendered {
        let same: Vec<&Grant> = grants.iter().filter(|g| g.origin.content() == Some(&content)).collect();
        // Ended by a person, a lockdown or its own time: neither restart nor reload brings it back.
        let stays_ended = |grant: &&Grant| grant.end.as_ref().is_none_or(|end| end.cause != EndCause::Config);
        let cannot_be = config.accounts.exempt.contains(&wanted.account) || !accounts.contains_key(&wanted.account);
        if wanted.expires_at > now && !cannot_be && !same.iter().any(stays_ended) {
            changes.make.push((wanted, same.iter().map(|grant| grant.created_at).min()));
        }
    }
    changes
}

fn no_longer_backed(
    config: &Config,
    accounts: &BTreeMap<Account, u32>,
    rendered: &BTreeMap<String, &RenderedGrant>,
    grant: &Grant,
) -> Option<String> {
    let (person, account) = (&grant.person, &grant.account);
    if let Origin::Config { content, place } = &grant.origin
        && !rendered.contains_key(content)
    {
        return Some(format!("the configuration no longer holds the grant that stood at {place}"));
    }
    let Some(entry) = config.people.get(person) else {
        return Some(format!("the configuration no longer names {person}"));
    };
    if config.accounts.exempt.contains(account) {
        return Some(format!("the account {account} is now exempt, and exempt accounts take no grants"));
    }
    if !entry.accounts.contains(account) {
        return Some(format!("the configuration no longer lets {person} be given the account {account}"));
    }
    match accounts.get(account) {
        None => Some(format!("the account {account} was deleted")),
        Some(uid) if *uid != grant.uid => Some(format!("the account {account} was made anew, with another user id")),
        Some(_) => None,
    }
}

/// The SHA-256, in hex, of a rendered grant's terms as the configuration writes them: equal terms, equal digest.
#[must_use]
pub fn content(grant: &RenderedGrant) -> String {
    let digest = Sha256::digest(config::written_grant(grant));
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}
