//! A checked configuration as TOML again: the canonical form, of which the digest is taken and which is kept as the last
//! good one. This never touches a file.

use std::{fmt::Display, fmt::Write, time::Duration};

use control::format_duration;

use ssh_key::PublicKey;

use super::{
    Config, HostName, PersonEntry, RenderedGrant, Require, ShipApi, requirement::EVERY_ACCOUNT, shipping::written_size,
    stack::when_silent_word,
};

/// Every setting with its value in force, people by name, grants in the order of the files; no comments, no places.
pub(super) fn config(config: &Config) -> String {
    let mut out = format!("mode = {}\n", text(config.mode.as_str()));
    section(&mut out, "[host]");
    let name = match &config.host.name {
        HostName::Auto => HostName::AUTO,
        HostName::Fixed(host) => host.as_str(),
    };
    key(&mut out, "name", text(name));
    key(&mut out, "stack", text(config.host.stack.as_str()));
    section(&mut out, "[schedule]");
    key(&mut out, "sweep", text(config.schedule.sweep.as_str()));
    if let Some(lockdown) = &config.schedule.lockdown {
        key(&mut out, "lockdown", text(lockdown.as_str()));
    }
    section(&mut out, "[grants]");
    key(&mut out, "default_duration", length(config.grants.default_duration));
    key(&mut out, "max_duration", length(config.grants.max_duration));
    key(&mut out, "require_reason", config.grants.require_reason);
    key(&mut out, "self", config.grants.self_grants);
    section(&mut out, "[accounts]");
    key(&mut out, "exempt", list(config.accounts.exempt.iter()));
    key(&mut out, "no_exempt", config.accounts.no_exempt);
    key(&mut out, "agent_forwarding", text(config.accounts.agent_forwarding.as_str()));
    let require = &config.accounts.require;
    if *require != Require::default() {
        section(&mut out, "[accounts.require]");
        if let Some(everywhere) = require.everywhere {
            key(&mut out, &quoted_key(EVERY_ACCOUNT), text(everywhere.as_str()));
        }
        for (account, requirement) in &require.of {
            key(&mut out, &quoted_key(account.as_str()), text(requirement.as_str()));
        }
    }
    section(&mut out, "[sshd]");
    key(&mut out, "penalty_exempt", list(config.sshd.penalty_exempt.iter()));
    section(&mut out, "[sessions]");
    key(&mut out, "end_with_grant", config.sessions.end_with_grant);
    key(&mut out, "warn_before", length(config.sessions.warn_before.unwrap_or_default()));
    key(&mut out, "before_enforce", text(config.sessions.before_enforce.as_str()));
    key(&mut out, "left_behind", text(config.sessions.left_behind.as_str()));
    section(&mut out, "[ledger]");
    key(&mut out, "retain", length(config.ledger.retain));
    key(&mut out, "max_size", text(&written_size(config.ledger.max_size)));
    key(&mut out, "when_full", text(config.ledger.when_full.as_str()));
    if let Some(address) = &config.ship.syslog {
        section(&mut out, "[ship.syslog]");
        key(&mut out, "address", text(address));
    }
    if let Some(api) = &config.ship.api {
        ship_api(&mut out, api);
    }
    if let Some(settings) = &config.stack {
        stack(&mut out, settings);
    }
    for (name, entry) in &config.people {
        person(&mut out, name.as_str(), entry);
    }
    for rendered in &config.rendered {
        out.push('\n');
        out.push_str(&grant(rendered));
    }
    out
}

fn ship_api(out: &mut String, api: &ShipApi) {
    section(out, "[ship.api]");
    key(out, "url", text(&api.url));
    for (name, file) in [("ca_file", &api.ca_file), ("client_certificate", &api.client_certificate)] {
        if let Some(file) = file {
            key(out, name, text(file));
        }
    }
    if !api.receipt_keys.is_empty() {
        let written = |key: &PublicKey| key.to_openssh().expect("a key that was read can be written");
        key(out, "receipt_keys", list(api.receipt_keys.iter().map(written)));
    }
}

fn stack(out: &mut String, settings: &document::Settings) {
    section(out, "[stack]");
    key(out, "organization", text(settings.organization.as_ref()));
    key(out, "feeds", list(settings.feeds.iter()));
    key(out, "deny_keys", list(settings.deny_keys.iter()));
    key(out, "plain_approvers", settings.plain_approvers);
    key(out, "max_silence", length(settings.max_silence));
    key(out, "when_silent", text(when_silent_word(settings.when_silent)));
    section(out, "[stack.roster]");
    let roster = &settings.roster;
    key(out, "threshold", roster.threshold);
    key(out, "min_version", roster.min_version);
    key(out, "automatic", list(roster.automatic.iter()));
    for entry in &roster.keys {
        section(out, "[[stack.roster.key]]");
        key(out, "person", text(entry.person.as_str()));
        key(out, "key", text(entry.key.as_str()));
    }
}

fn person(out: &mut String, name: &str, entry: &PersonEntry) {
    section(out, "[[person]]");
    key(out, "name", text(name));
    key(out, "keys", list(entry.keys.iter().map(|key| format!("{} {}", key.algorithm(), key.base64()))));
    key(out, "accounts", list(entry.accounts.iter()));
    key(out, "operator", entry.operator);
}

/// One `[[grant]]`: two that read the same here are the same grant.
pub(crate) fn grant(grant: &RenderedGrant) -> String {
    let mut out = "[[grant]]\n".to_owned();
    key(&mut out, "person", text(grant.person.as_str()));
    key(&mut out, "account", text(grant.account.as_str()));
    key(&mut out, "expires_at", text(&grant.expires_at.to_string()));
    if let Some(starts_at) = grant.starts_at {
        key(&mut out, "starts_at", text(&starts_at.to_string()));
    }
    if !grant.from.is_empty() {
        key(&mut out, "from", list(grant.from.iter()));
    }
    if let Some(reason) = &grant.reason {
        key(&mut out, "reason", text(reason));
    }
    out
}

fn section(out: &mut String, heading: &str) {
    write!(out, "\n{heading}\n").expect("a string takes everything");
}

fn key(out: &mut String, name: &str, value: impl Display) {
    writeln!(out, "{name} = {value}").expect("a string takes everything");
}

/// A key that may hold any character: a basic string, the only quoted form of a key that takes all of them.
fn quoted_key(name: &str) -> String {
    let escaped = name.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn length(value: Duration) -> String {
    text(&format_duration(value))
}

fn list<T: ToString>(values: impl Iterator<Item = T>) -> String {
    toml::Value::Array(values.map(|value| toml::Value::String(value.to_string())).collect()).to_string()
}
