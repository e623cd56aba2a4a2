//! Which hosts somebody means: full names, beginnings, or what people call them. No I/O.

use std::collections::BTreeSet;

use document::Hosts;
use record::{Host, Stack};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The most hosts that a failure lists.
const LISTED: usize = 10;

/// What the failure is called where no host is meant.
pub(crate) const UNKNOWN: &str = "unknown_host";

/// A host that the server knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownHost {
    pub(crate) host: Host,
    /// Its `Name`, where it has one.
    pub(crate) name: Option<String>,
    pub(crate) stack: Stack,
}

/// The hosts that were typed, by their full names; all of the stack where none was.
pub(crate) fn resolve(typed: &[String], known: &[KnownHost]) -> Result<Hosts, Failure> {
    if typed.is_empty() {
        return Ok(Hosts::All);
    }
    let hosts: BTreeSet<Host> = typed.iter().map(|text| one(text, known)).collect::<Result<_, _>>()?;
    Ok(Hosts::Named(hosts))
}

/// The host that one word means.
pub(crate) fn one(text: &str, known: &[KnownHost]) -> Result<Host, Failure> {
    if let Some(exact) = known.iter().find(|one| one.host.as_str() == text) {
        return Ok(exact.host.clone());
    }
    let called = |one: &&KnownHost| one.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(text));
    let begins = |one: &&KnownHost| !text.is_empty() && one.host.as_str().starts_with(text);
    let named: Vec<&KnownHost> = known.iter().filter(called).collect();
    let found = if named.is_empty() { known.iter().filter(begins).collect() } else { named };
    match found[..] {
        [only] => Ok(only.host.clone()),
        [] => {
            let failure = Failure::refused(UNKNOWN, format!("the stack has no host {text:?}"));
            Err(listed(failure, &known.iter().collect::<Vec<_>>())
                .but("give a host's name, the beginning of it, or its Name tag"))
        }
        _ => {
            let failure = Failure::refused("ambiguous_host", format!("{text:?} means several hosts of the stack"));
            Err(listed(failure, &found).but("type more of its name, or name each with a --host of its own"))
        }
    }
}

fn listed(failure: Failure, hosts: &[&KnownHost]) -> Failure {
    let line = |one: &KnownHost| {
        one.name.as_ref().map_or_else(|| one.host.to_string(), |name| format!("{} ({name})", one.host))
    };
    let failure = hosts.iter().take(LISTED).fold(failure, |failure, one| failure.detail(line(one)));
    match hosts.len().saturating_sub(LISTED) {
        0 => failure,
        more => failure.detail(format!("and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<KnownHost> {
        [("i-0abc", Some("web-1")), ("i-0abd", Some("web-2")), ("i-0f", None), ("i-0f0", Some("i-0f"))]
            .map(|(host, name)| KnownHost {
                host: host.parse().unwrap(),
                name: name.map(str::to_owned),
                stack: "web".parse().unwrap(),
            })
            .into()
    }

    fn resolved(typed: &[&str]) -> Result<Vec<String>, String> {
        let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
        match resolve(&typed, &known()) {
            Ok(Hosts::All) => Ok(vec!["*".to_owned()]),
            Ok(Hosts::Named(hosts)) => Ok(hosts.iter().map(ToString::to_string).collect()),
            Err(failure) => Err(failure.words()),
        }
    }

    #[test]
    fn hosts_are_found_by_name_by_its_beginning_and_by_what_people_call_them() {
        for (typed, hosts) in [
            (&[][..], &["*"][..]),
            (&["i-0abc"], &["i-0abc"]),
            (&["i-0abd", "web-1"], &["i-0abc", "i-0abd"]),
            (&["WEB-2"], &["i-0abd"]),
            // A full name is meant as such, whatever else begins so or is called so.
            (&["i-0f"], &["i-0f"]),
            (&["i-0f0"], &["i-0f0"]),
        ] {
            assert_eq!(resolved(typed).unwrap(), hosts, "{typed:?}");
        }
    }

    #[test]
    fn what_means_none_or_several_is_refused_with_those_there_are() {
        for (typed, said) in [
            ("i-0a", "several hosts"),
            ("i-0a", "i-0abd (web-2)"),
            ("db", "no host \"db\""),
            ("", "no host"),
            ("*", "no host"),
        ] {
            let failure = resolved(&[typed]).unwrap_err();
            assert!(failure.contains(said), "{typed}: {failure}");
        }
    }
}
