//! What sshd has configured for one login, as [`lockdown_core::policy::admission`] judges it.

use std::net::IpAddr;

use control::Cidr;
use lockdown_core::policy::admission::{ForceCommand, RevokedKeys, Rules};

use super::{Admission, Way};
use crate::{accounts::PasswdEntry, readiness::probes};

impl Admission {
    pub(super) fn rules(&self, way: &Way<'_>, entry: &PasswdEntry, name: &str) -> Rules {
        let Way { effective, spec, .. } = way;
        let list = |keyword: &str, separator: char| -> Vec<String> {
            let words = effective.all(keyword).flat_map(move |line| line.split(separator));
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let listed = |keyword: &str, of: &dyn Fn(&str) -> bool| {
            let patterns = list(keyword, ' ');
            (!patterns.is_empty()).then(|| patterns.iter().any(|pattern| of(pattern)))
        };
        let groups_listed = |keyword: &str| {
            let patterns = list(keyword, ' ');
            if patterns.is_empty() {
                return None;
            }
            let groups = self.group_names(entry)?;
            Some(groups.iter().any(|group| patterns.iter().any(|pattern| probes::matches(pattern, group))))
        };
        let host = if effective.is_yes("usedns") { &spec.host } else { &spec.addr };
        let user = |pattern: &str| names(pattern, name, host, &spec.addr);
        let is_on = |keyword: &str| effective.get(keyword).is_none_or(|value| value == "yes");
        let root = effective.get("permitrootlogin").unwrap_or_default().to_owned();
        let set = |keyword: &str| effective.get(keyword).filter(|value| !value.is_empty() && !is_none(value));
        let shown = |keyword: &str| set(keyword).map(|value| record::escape(value.as_bytes()));
        Rules {
            pam: effective.is_yes("usepam"),
            refuses: effective.is_yes("refuseconnection"),
            no_tries: effective.get("maxauthtries") == Some("0"),
            public_key: effective.is_yes("pubkeyauthentication"),
            password: is_on("passwordauthentication"),
            keyboard_interactive: is_on("kbdinteractiveauthentication"),
            root,
            denied: listed("denyusers", &user) == Some(true),
            allowed: listed("allowusers", &user),
            group_denied: groups_listed("denygroups") == Some(true),
            group_allowed: groups_listed("allowgroups"),
            methods: list("authenticationmethods", ' '),
            algorithms: list("pubkeyacceptedalgorithms", ','),
            globs: self.globs,
            revoked: set("revokedkeys").map(|file| RevokedKeys { file: file.to_owned(), broken: None }),
            rsa_bits: effective.get("requiredrsasize").and_then(|bits| bits.parse().ok()).unwrap_or_default(),
            no_sessions: effective.get("maxsessions") == Some("0"),
            force_command: set("forcecommand").map(|command| ForceCommand {
                command: record::escape(command.as_bytes()),
                is_program: self.is_program(command, entry),
            }),
            chroot: shown("chrootdirectory"),
        }
    }
}

/// What sshd takes for no value.
pub(super) fn is_none(value: &str) -> bool {
    value.eq_ignore_ascii_case("none")
}

/// Whether a pattern of `AllowUsers` or `DenyUsers` is about this account: `USER`, or `USER@HOST` from there.
fn names(pattern: &str, account: &str, host: &str, address: &str) -> bool {
    match pattern.rsplit_once('@') {
        None => probes::matches(pattern, account),
        Some((user, hosts)) => probes::matches(user, account) && is_from(hosts, host, address),
    }
}

/// Whether a pattern may be about this account, from somewhere.
pub(super) fn may_name(pattern: &str, account: &str) -> bool {
    probes::matches(pattern.rsplit_once('@').map_or(pattern, |(user, _)| user), account)
}

/// As sshd's `match_host_and_ip`: one of the patterns is about the address or the name, and none of the negated ones.
fn is_from(patterns: &str, host: &str, address: &str) -> bool {
    let is = |pattern: &str| match (pattern.parse::<Cidr>(), address.parse::<IpAddr>()) {
        (Ok(range), Ok(address)) => range.contains(address),
        _ => probes::matches(pattern, address) || probes::matches(&pattern.to_lowercase(), &host.to_lowercase()),
    };
    let (not, these): (Vec<&str>, Vec<&str>) = patterns.split(',').partition(|pattern| pattern.starts_with('!'));
    these.into_iter().any(is) && !not.into_iter().any(|pattern| is(&pattern[1..]))
}

/// The hosts in a list of `AllowUsers` or `DenyUsers` that is about this account from some hosts only.
pub(crate) fn hosts_for<'a>(list: impl Iterator<Item = &'a str>, account: &str) -> Vec<String> {
    let patterns = list.flat_map(str::split_ascii_whitespace).filter(|pattern| may_name(pattern, account));
    let hosts = patterns.filter_map(|pattern| Some(pattern.rsplit_once('@')?.1)).flat_map(|hosts| hosts.split(','));
    hosts.map(|host| host.trim_start_matches('!').to_owned()).filter(|host| !host.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_with_a_host_is_about_the_account_from_there_alone() {
        for (pattern, from_there, from_elsewhere) in [
            ("root", true, true),
            ("r*", true, true),
            ("ro", false, false),
            ("[r]oot", false, false),
            ("root@10.0.0.0/8", true, false),
            ("root@10.1.*", true, false),
            ("*@OFFICE.example", true, false),
            ("root@!10.1.2.0/24,10.0.0.0/8", false, false),
            ("frank@10.0.0.0/8", false, false),
        ] {
            let from = |host, address| names(pattern, "root", host, address);
            let found = (from("office.example", "10.1.2.3"), from("x.example", "192.0.2.1"));
            assert_eq!(found, (from_there, from_elsewhere), "{pattern}");
        }
        let hosts = hosts_for(["root@10.0.0.0/8,!10.9.*", "frank@x root"].into_iter(), "root");
        assert_eq!(hosts, ["10.0.0.0/8", "10.9.*"]);
    }
}
