//! Logins that fit each `Match` block, to ask sshd about.

use std::collections::BTreeSet;

use super::{MAX_PROBES, someone_in};
use crate::host::sshd::{
    effective::{ANYBODY, Spec},
    scan::{Criterion, Scan},
};

/// The most patterns of one list that are tried.
const MAX_ALTERNATIVES: usize = 8;

/// A login of anybody, of each exempt account, and for each block some that fit it: each once, at most [`MAX_PROBES`].
pub(in crate::host) fn specs<'a>(scan: &Scan, exempt: impl Iterator<Item = &'a str>) -> Vec<Spec> {
    let mut specs = vec![Spec::of_anybody()];
    specs.extend(exempt.map(Spec::of));
    for index in 0..scan.blocks.len() {
        let around = |index: &usize| scan.blocks[*index].within;
        let criteria: Vec<_> =
            std::iter::successors(Some(index), around).flat_map(|index| &scan.blocks[index].criteria).collect();
        specs.extend(fitting(&criteria));
    }
    let mut seen = BTreeSet::new();
    specs.retain(|spec| seen.insert(describe(spec)) && askable(spec));
    specs.truncate(MAX_PROBES);
    specs
}

/// A sentence's part that tells a login.
pub(in crate::host) fn describe(spec: &Spec) -> String {
    let Spec { user, host, addr, laddr, lport, rdomain } = spec;
    let who = if user == ANYBODY { "any account" } else { user.as_str() };
    let plain = Spec { user: user.clone(), ..Spec::of(user) };
    match *spec == plain {
        true => who.to_owned(),
        false => {
            let rdomain = rdomain.as_ref().map(|rdomain| format!(" in {rdomain}")).unwrap_or_default();
            format!("{who} from {host} ({addr}) at {laddr} port {lport}{rdomain}")
        }
    }
}

fn askable(spec: &Spec) -> bool {
    let Spec { user, host, addr, laddr, rdomain, .. } = spec;
    [user, host, addr, laddr].into_iter().chain(rdomain).all(|text| !text.is_empty() && !text.contains([',', '\n']))
}

/// Logins that fit all of these conditions, one for each alternative of each.
fn fitting(criteria: &[&Criterion]) -> Vec<Spec> {
    let mut specs = vec![Spec::of_anybody()];
    for criterion in criteria {
        let values = alternatives(&criterion.value);
        let values: Vec<String> = match criterion.name.as_str() {
            "group" => values.iter().filter_map(|group| someone_in(group)).collect(),
            "address" | "localaddress" => values.iter().map(|value| address(value)).collect(),
            _ => values.iter().map(|value| concrete(value)).collect(),
        };
        if values.is_empty() {
            continue;
        }
        let fill = |spec: &Spec, value: &str| {
            let mut spec = spec.clone();
            match criterion.name.as_str() {
                "user" | "group" => spec.user = value.to_owned(),
                "host" => spec.host = value.to_owned(),
                "address" => spec.addr = value.to_owned(),
                "localaddress" => spec.laddr = value.to_owned(),
                "localport" => spec.lport = value.parse().unwrap_or(spec.lport),
                "rdomain" => spec.rdomain = Some(value.to_owned()),
                _ => {}
            }
            spec
        };
        specs = specs.iter().flat_map(|spec| values.iter().map(|value| fill(spec, value))).take(MAX_PROBES).collect();
    }
    specs
}

/// The patterns of a list that are not negated.
fn alternatives(list: &str) -> Vec<String> {
    let patterns = list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty() && !pattern.starts_with('!'));
    patterns.take(MAX_ALTERNATIVES).map(str::to_owned).collect()
}

/// Text that fits a pattern of sshd's (ssh_config(5), PATTERNS).
fn concrete(pattern: &str) -> String {
    let text: String = pattern.chars().filter(|c| *c != '*').map(|c| if c == '?' { 'x' } else { c }).collect();
    if text.is_empty() { "x".to_owned() } else { text }
}

/// An address that fits an address pattern: the first of a network, or one with the wildcards filled in.
fn address(pattern: &str) -> String {
    let base = pattern.split('/').next().unwrap_or_default();
    if !base.contains(['*', '?']) {
        return base.to_owned();
    }
    let base = base.replace('?', "1");
    match base.contains(':') {
        true => base.replace('*', "1"),
        false => {
            let mut parts: Vec<String> = base.split('.').map(|part| part.replace('*', "1")).collect();
            parts.resize(4, "1".to_owned());
            parts.join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criterion(name: &str, value: &str) -> Criterion {
        Criterion { name: name.into(), value: value.into() }
    }

    #[test]
    fn a_login_is_made_up_for_every_alternative_of_a_block() {
        let (users, address) = (criterion("user", "frank,dev*,!anna"), criterion("address", "10.0.0.0/8,192.168.*"));
        let specs = fitting(&[&users, &address]);
        let found: Vec<_> = specs.iter().map(|spec| (spec.user.as_str(), spec.addr.as_str())).collect();
        let expected = [("frank", "10.0.0.0"), ("frank", "192.168.1.1"), ("dev", "10.0.0.0"), ("dev", "192.168.1.1")];
        assert_eq!(found, expected);
        let (port, all) = (criterion("localport", "2222"), criterion("all", ""));
        assert_eq!(fitting(&[&port, &all])[0].lport, 2222);
        let root = fitting(&[&criterion("group", "root")]);
        assert_eq!(root[0].user, "root");
    }

    #[test]
    fn patterns_are_filled_in() {
        for (pattern, text) in [("*", "x"), ("a?c*", "axc"), ("*.example.com", ".example.com")] {
            assert_eq!(concrete(pattern), text);
        }
        for (pattern, text) in [
            ("10.*", "10.1.1.1"),
            ("10.0.0.?", "10.0.0.1"),
            ("fe80::/10", "fe80::"),
            ("*", "1.1.1.1"),
            ("fe80:*", "fe80:1"),
        ] {
            assert_eq!(address(pattern), text);
        }
    }
}
