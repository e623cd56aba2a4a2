use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::sshd::scan::{Disk, Overlay, scan};

fn scanned(text: &str) -> Scan {
    let main = Path::new("/nonexistent/sshd_config");
    scan(&Overlay { base: Disk, path: main.into(), content: Some(text.into()) }, main)
}

fn anybody() -> Values {
    [("trustedusercakeys", "none"), ("pamservicename", "sshd"), ("loglevel", "INFO"), ("permitrootlogin", "no")]
        .map(|(keyword, value)| (keyword.to_owned(), vec![value.to_owned()]))
        .into()
}

/// Each block's line, number of its line in the file, and what it sets other than what holds for anybody.
fn told(text: &str) -> Vec<(String, usize, String)> {
    let differs = |block: &Block| {
        let differs = block.values.iter().filter(|(keyword, value)| anybody().get(*keyword) != Some(*value));
        differs.map(|(keyword, value)| format!("{keyword} {}", value[0])).collect::<Vec<_>>().join(", ")
    };
    let (blocks, more) = blocks(&scanned(text), &anybody(), &["breakglass"], |_| false);
    assert_eq!(more, 0);
    blocks.iter().map(|block| (block.line.clone(), block.place.line, differs(block))).collect()
}

#[test]
fn what_a_block_sets_counts_though_an_earlier_one_takes_every_login_that_comes_to_mind() {
    let text = "Match User u\nPAMServiceName sshd\nTrustedUserCAKeys none\nMatch User u*\nPAMServiceName vpn\n\
        TrustedUserCAKeys /ca\nLogLevel quiet\nMatch Address 127.0.0.0\nTrustedUserCAKeys none\nMatch address=127.0.0.0/8\n\
        permitrootlogin=prohibit-password\nMatch User a\nX11Forwarding no\n";
    let found = told(text);
    let (line, opens) = ("Match user u*".to_owned(), "loglevel QUIET, pamservicename vpn, trustedusercakeys /ca");
    assert!(found.contains(&(line, 4, opens.to_owned())), "{found:?}");
    let address = ("Match address 127.0.0.0/8".to_owned(), 10, "permitrootlogin without-password".to_owned());
    assert!(found.contains(&address), "{found:?}");
    assert!(!found.iter().any(|(line, ..)| line == "Match user a"), "it opens nothing: {found:?}");
}

#[test]
fn what_was_decided_before_for_everybody_does_not_count_but_a_pam_service_does() {
    for everybody in ["Match all", "Match User *", "Match User *,!breakglass"] {
        let block = "Match Group g\nTrustedUserCAKeys /ca\nPAMServiceName vpn\n";
        let early = told(&format!("{everybody}\nTrustedUserCAKeys none\nPAMServiceName sshd\n{block}"));
        assert_eq!(early.last().map(|(.., sets)| sets.as_str()), Some("pamservicename vpn"), "{everybody}");
        let late = told(&format!("{block}{everybody}\nTrustedUserCAKeys none\n"));
        assert!(late.iter().any(|(.., sets)| sets.contains("trustedusercakeys /ca")), "{everybody}");
    }
    for some in ["Match User *,!frank", "Match User *,!breakglass Address 10.0.0.1", "Match Host *", "Match User u*"] {
        let found = told(&format!("{some}\nTrustedUserCAKeys none\nMatch Group g\nTrustedUserCAKeys /ca\n"));
        assert!(found.iter().any(|(.., sets)| sets == "trustedusercakeys /ca"), "{some}: {found:?}");
    }
}

#[test]
fn exempt_accounts_keep_their_own_blocks_and_older_names_of_keywords_count() {
    assert!(told("Match User breakglass\nPasswordAuthentication yes\n").is_empty());
    assert_eq!(told("Match User breakglass,frank\nPasswordAuthentication yes\n").len(), 1);
    let found = told("Match User frank\nChallengeResponseAuthentication YES\n");
    assert_eq!(found[0].2, "kbdinteractiveauthentication yes");
}

#[test]
fn every_pam_service_named_anywhere_is_told() {
    let scan = scanned("PAMServiceName one\nMatch all\nPAMServiceName two\nMatch User x\npamservicename=three\n");
    assert_eq!(services(&scan).collect::<Vec<_>>(), ["one", "two", "three"]);
}

#[test]
fn blocks_past_the_bound_are_counted() {
    let text: String =
        (0..MAX_BLOCKS + 7).map(|n| format!("Match User u{n}\nAuthorizedKeysCommand /bin/k {n}\n")).collect();
    let (found, more) = blocks(&scanned(&text), &anybody(), &[], |_| false);
    assert_eq!((found.len(), more), (MAX_BLOCKS, 7));
}

/// A block to be made: whom it is about, and what it sets.
type Made = (Vec<&'static str>, Vec<(&'static str, &'static str)>);

const USERS: [&str; 7] = ["u", "u*", "ubuntu", "*", "?", "!ubuntu", "breakglass"];
const LOGINS: [&str; 5] = ["u", "ubuntu", "ux", "frank", "x"];
const SETS: [(&str, &str); 7] = [
    ("trustedusercakeys", "/ca"),
    ("trustedusercakeys", "none"),
    ("pamservicename", "vpn"),
    ("pamservicename", "sshd"),
    ("loglevel", "QUIET"),
    ("permitrootlogin", "yes"),
    ("passwordauthentication", "yes"),
];

/// sshd's own rules, told once more: a list holds where no negated pattern does and another one does.
fn holds(users: &[&str], login: &str) -> bool {
    let fits = |pattern: &str| match pattern {
        "*" => true,
        "?" => login.len() == 1,
        "u*" => login.starts_with('u'),
        name => name == login,
    };
    let denied = users.iter().any(|pattern| pattern.strip_prefix('!').is_some_and(fits));
    !denied && users.iter().any(|pattern| !pattern.starts_with('!') && fits(pattern))
}

proptest! {
    /// Whatever sshd would come to for a login, some block (or what holds for anybody) is told that comes to it.
    #[test]
    fn whatever_holds_for_a_login_is_told(
        made in prop::collection::vec(
            (prop::sample::subsequence(&USERS[..], 1..4), prop::sample::subsequence(&SETS[..], 0..4)),
            0..8,
        )
    ) {
        let made: Vec<Made> = made;
        let text: String = made
            .iter()
            .map(|(users, sets)| {
                let lines: String = sets.iter().map(|(keyword, value)| format!("    {keyword} {value}\n")).collect();
                format!("Match User {}\n{lines}", users.join(","))
            })
            .collect();
        let (told, more) = blocks(&scanned(&text), &anybody(), &["breakglass"], |_| false);
        prop_assert_eq!(more, 0);
        for login in LOGINS {
            let in_force = made.iter().filter(|(users, _)| holds(users, login)).flat_map(|(_, sets)| sets);
            let mut first = BTreeMap::new();
            in_force.for_each(|(keyword, value)| { first.entry(*keyword).or_insert(*value); });
            for (keyword, value) in first {
                let is = |values: &Values| values.get(keyword).is_some_and(|values| values == &[value]);
                prop_assert!(
                    is(&anybody()) || told.iter().any(|block| is(&block.values)),
                    "{} has {} {}, told {:?} of\n{}", login, keyword, value, told, text
                );
            }
        }
    }
}
