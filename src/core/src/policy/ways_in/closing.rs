//! The drop-in that closes in sshd itself what a grant does not need.
//!
//! It says nothing about exempt accounts: one `Match` block holds for everybody else, and being read early it wins over
//! later blocks and over sshd's command line. Public keys, and where they are read from, are not its business.

use std::collections::BTreeSet;

use super::{Login, METHODS, Observed, RunBy, Sshd};

/// Where it goes: right behind the daemon's own, before what anybody else puts there.
pub const CLOSING: &str = "/etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf";

/// An exempt account's name means more than itself in a `Match User` line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exempt account {0:?}: sshd's Match takes no name with other characters than A-Z a-z 0-9 . _ - +")]
pub struct OddAccount(pub String);

/// The drop-in's text, given what was observed as if it were not there; `None` where there is nothing that it could close.
///
/// # Errors
/// [`OddAccount`], for an exempt account that could not be left out of it.
pub fn closing(observed: &Observed) -> Result<Option<String>, OddAccount> {
    let of_root = observed.servers.sshds.iter().filter(|sshd| sshd.run_by == RunBy::Root && sshd.reads_drop_ins);
    let logins: Vec<&Login> = of_root.flat_map(|sshd| &sshd.logins).filter(|login| !login.exempt).collect();
    let mut lines: Vec<String> = Vec::new();
    let (mut seen, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for method in &METHODS {
        let is_on = logins.iter().any(|login| (!method.root_only || login.root) && (method.on)(&login.settings));
        let Some((keyword, value)) = (method.closes)(observed.root_is_wanted).filter(|_| is_on) else { continue };
        if let Some(login) = logins.iter().find(|login| login.settings.wants_beside_a_key(keyword)) {
            let whom = &login.whom;
            kept.insert(format!(
                "# {keyword} is left as it is: {whom} needs it beside a key (AuthenticationMethods).\n"
            ));
            continue;
        }
        if seen.insert(keyword) {
            lines.push(format!("    {keyword} {value}\n"));
        }
    }
    let without_pam = logins.iter().any(|login| !login.settings.is_yes("usepam"));
    if lines.is_empty() && !without_pam {
        return Ok(None);
    }
    let mut text = String::from(
        "# Written by `lockdownctl ways-in --close --apply`; `lockdownctl ways-in --undo` takes it away.\n\
         # It closes every way in that a grant does not need. Exempt accounts keep theirs.\n",
    );
    text.extend(kept);
    if without_pam {
        text.push_str("UsePAM yes\n");
    }
    if !lines.is_empty() {
        text.push_str(&format!("{}\n{}", match_line(observed)?, lines.concat()));
    }
    Ok(Some(text))
}

/// What of one sshd's the drop-in cannot close, or does not although it is in place: a sentence with what to do.
pub(super) fn out_of_reach(sshd: &Sshd) -> Option<String> {
    if sshd.reads_drop_ins && !sshd.has_closing {
        return None;
    }
    let on = |login: &&Login| {
        let is_on = METHODS.iter().any(|method| {
            let closes = (method.closes)(true).is_some_and(|(keyword, _)| !sshd.wants_beside_a_key(keyword));
            (!method.root_only || login.root) && closes && (method.on)(&login.settings)
        });
        !login.exempt && (is_on || !login.settings.is_yes("usepam"))
    };
    let login = sshd.logins.iter().find(on)?;
    let (name, config, whom) = (&sshd.name, &sshd.config, &login.whom);
    let why = match sshd.reads_drop_ins {
        true => format!("{CLOSING} does not close everything for {whom}: something is read before it"),
        false => format!("{CLOSING} is not read, so that it closes nothing"),
    };
    Some(format!("{name}: {why}; put the line `Include /etc/ssh/sshd_config.d/*.conf` at the top of {config}"))
}

/// A `Match` that holds for everybody but the exempt accounts.
fn match_line(observed: &Observed) -> Result<String, OddAccount> {
    let mut line = "Match all".to_owned();
    for (n, exempt) in observed.exempt.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
        if !exempt.account.bytes().all(plain) {
            return Err(OddAccount(exempt.account.clone()));
        }
        if n == 0 {
            "Match User *".clone_into(&mut line);
        }
        line.push_str(&format!(",!{}", exempt.account));
    }
    Ok(line)
}
