//! `check`: what is missing here, and what would mend it.

use std::process::{Command, Stdio};

use document::{Key, Roster};
use jiff::Timestamp;
use serde::Serialize;
use terminal::{
    moment::both,
    paint::{Paint, Tone},
    plain,
};

use crate::{
    cache::Cache,
    client::Client,
    config::Config,
    failure::{Exit, Failure},
    known::Known,
    output::{Done, Voice},
    sign,
};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    good: bool,
    said: String,
}

/// Looks at everything that the other commands need.
pub(crate) fn run(key: Option<String>, voice: Voice) -> Result<Done, Failure> {
    let mut findings = vec![ssh_keygen()];
    match Config::load() {
        Ok(config) => {
            findings.push(good("configuration", config.path.display().to_string()));
            let cache = Cache::of(&config);
            let client = Client::new(config, cache, key, voice, Timestamp::now());
            findings.extend(with(&client));
        }
        Err(failure) => findings.push(bad("configuration", &failure)),
    }
    let all_good = findings.iter().all(|finding| finding.good);
    let done = voice.show(&findings, |findings| findings.iter().map(|finding| line(finding, voice.paint)).collect());
    Ok(if all_good { done } else { done.exiting(Exit::Refused) })
}

fn with(client: &Client) -> Vec<Finding> {
    let agent = sign::agent_keys();
    let mut findings = vec![match agent.len() {
        0 => Finding {
            what: "ssh-agent",
            good: client.config.key.is_some(),
            said: "has no key that signs documents: ssh-add one, or name a file in the configuration (key)".to_owned(),
        },
        _ => good("ssh-agent", agent.iter().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>().join(", ")),
    }];
    if !client.config.has_server() {
        findings.push(good("server", "none: documents are written to files (--out)".to_owned()));
        return findings;
    }
    match client.known_roster() {
        Ok(known) => {
            findings.push(good("server", "it answers".to_owned()));
            findings.push(roster(&known, client));
            findings
                .extend(known.any_roster().and_then(|roster| client.keys().ok().map(|keys| of_keys(&keys, roster))));
        }
        Err(failure) => findings.push(bad("server", &failure)),
    }
    findings
}

fn roster(known: &Known, client: &Client) -> Finding {
    match known.roster() {
        Ok(roster) => {
            let expired = roster.expires_at <= client.moment();
            let when = both(roster.expires_at.timestamp(), client.now);
            let said = format!(
                "version {}, {} people, {} approvers, expires {when}",
                roster.version,
                roster.people.len(),
                roster.approvers.len()
            );
            Finding { what: "roster", good: !expired, said }
        }
        Err(failure) => bad("roster", &failure),
    }
}

/// Whose the keys are that are here, by the roster.
fn of_keys(keys: &[Key], roster: &Roster) -> Finding {
    let whose = |key: &Key| {
        let approver = roster.approvers.iter().find(|one| one.keys.contains(key));
        let member = roster.people.iter().find(|member| member.keys.contains(key));
        match (approver, member) {
            (Some(one), _) => format!("{} approves as {}", key.fingerprint(), one.person),
            (None, Some(member)) => format!("{} logs in as {}", key.fingerprint(), member.name),
            (None, None) => format!("{} is nobody's", key.fingerprint()),
        }
    };
    let known = |key: &&Key| {
        roster.approvers.iter().any(|one| one.keys.contains(*key))
            || roster.people.iter().any(|one| one.keys.contains(*key))
    };
    let all: Vec<String> = keys.iter().map(whose).collect();
    Finding { what: "keys", good: keys.iter().any(|key| known(&key)), said: all.join(", ") }
}

fn ssh_keygen() -> Finding {
    // Without arguments to sign with it only says how it is used; that it can be started is what counts.
    let started =
        Command::new("ssh-keygen").arg("-?").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match started {
        Ok(_) => good("ssh-keygen", "it is there".to_owned()),
        Err(error) => Finding { what: "ssh-keygen", good: false, said: format!("{error}: install openssh-client") },
    }
}

fn good(what: &'static str, said: String) -> Finding {
    Finding { what, good: true, said }
}

fn bad(what: &'static str, failure: &Failure) -> Finding {
    let said = failure.words();
    let said = said.strip_prefix("lockdown: ").unwrap_or(&said);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    Finding { what, good: false, said: lines.join("; ") }
}

fn line(finding: &Finding, paint: Paint) -> String {
    let (tone, mark) = if finding.good { (Tone::Good, "ok") } else { (Tone::Bad, "no") };
    format!("{}  {:15}{}\n", paint.tone(tone, mark), finding.what, paint.wrap(&plain(&finding.said), 19))
}
