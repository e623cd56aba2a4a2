//! What the key store has to hold: exactly the keys of active grants, each with its end.

use std::collections::{BTreeMap, BTreeSet};

use record::{Account, GrantId};

use super::{grant::Grant, time::Now};
use crate::config::Demand;
use crate::keys::{
    person::PersonKey,
    store::{ExpiryStyle, store_line},
};

/// The most bytes that one account's file in the key store may have (4 MiB). What would pass it is refused when it is
/// granted, so that everything written here can also be read back.
pub const MAX_STORE_FILE: usize = 4 << 20;
/// The most bytes of a line besides its key, its grant's addresses, its person and its grant: options and blanks.
const AROUND_KEY: usize = 128;
/// The most bytes of one address in a line.
const ADDRESS: usize = 44;

/// The option that keeps sshd from forwarding an agent.
const NO_AGENT: &str = ",no-agent-forwarding";

/// The option that has sshd ask for a PIN or fingerprint (OpenSSH 8.4). That a device is touched it asks for by itself.
const WITH_PIN: &str = ",verify-required";

/// What an account's lines depend on besides its grants.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether whoever logs in may forward their agent.
    pub may_forward_agents: bool,
    /// What a login needs.
    pub demand: Demand,
}

impl Rules {
    fn options(self) -> String {
        let no_agent = if self.may_forward_agents { "" } else { NO_AGENT };
        let with_pin = if self.demand.pin { WITH_PIN } else { "" };
        format!("{no_agent}{with_pin}")
    }
}

/// How many bytes a grant takes in its account's file, at most.
#[must_use]
pub fn most_bytes(grant: &Grant, keys: &[PersonKey]) -> usize {
    let around = AROUND_KEY + grant.from.len() * ADDRESS + grant.person.as_str().len() + grant.id.as_str().len();
    keys.iter().map(|key| around + key.algorithm().len() + key.base64().len()).sum()
}

/// The key store as it has to be.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The bytes of each account's file. No grant: no file.
    pub files: BTreeMap<Account, Vec<u8>>,
    /// Grants with a key that no longer fits into its account's file.
    pub left_out: BTreeSet<GrantId>,
}

/// The key store as it has to be now.
#[must_use]
pub fn wanted<'a>(
    grants: impl IntoIterator<Item = &'a Grant>,
    keys_of: impl Fn(&'a Grant) -> &'a [PersonKey],
    rules_of: impl Fn(&Account) -> Rules,
    style: &ExpiryStyle,
    now: Now,
) -> Wanted {
    let mut wanted = Wanted::default();
    for grant in grants.into_iter().filter(|grant| grant.is_active(now)) {
        let rules = rules_of(&grant.account);
        let rules = Rules { demand: rules.demand.and(grant.demand()), ..rules };
        let more = rules.options();
        for key in keys_of(grant).iter().filter(|key| rules.demand.takes(key)) {
            let line = store_line(key, grant.ends.wall, &more, &grant.from, &grant.person, &grant.id, style);
            let file = wanted.files.entry(grant.account.clone()).or_default();
            if file.len() + line.len() < MAX_STORE_FILE {
                file.extend_from_slice(line.as_bytes());
                file.push(b'\n');
            } else {
                wanted.left_out.insert(grant.id.clone());
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        keys::test_keys::{ED25519, P256, RSA, SK_ED25519, SK_P256},
        policy::{
            grant::EndCause,
            test_grants::{ended, grant, lasts, later, now},
        },
    };

    /// The account that several people may be given.
    const SHARED: &str = "ubuntu";

    fn keys(texts: &[&str]) -> Vec<PersonKey> {
        texts.iter().map(|text| PersonKey::parse(text).expect("a key")).collect()
    }

    fn stored<'a>(
        grants: &'a [Grant],
        frank: &'a [PersonKey],
        grace: &'a [PersonKey],
        now: Now,
    ) -> BTreeMap<String, String> {
        let keys_of = |grant: &Grant| if grant.person.as_str() == "frank" { frank } else { grace };
        stored_by(Demand::default(), grants, keys_of, now)
    }

    fn stored_by<'a>(
        demand: Demand,
        grants: &'a [Grant],
        keys_of: impl Fn(&'a Grant) -> &'a [PersonKey],
        now: Now,
    ) -> BTreeMap<String, String> {
        let rules = |account: &Account| Rules { may_forward_agents: account.as_str() != SHARED, demand };
        let store = wanted(grants, keys_of, rules, &ExpiryStyle::Utc, now);
        store
            .files
            .into_iter()
            .map(|(name, bytes)| (name.as_str().to_owned(), String::from_utf8(bytes).expect("text")))
            .collect()
    }

    #[test]
    fn the_store_holds_each_key_of_each_active_grant_and_no_file_for_anybody_else() {
        let (frank, grace) = (keys(&[ED25519, P256]), keys(&[RSA]));
        let grants = [
            grant(1, "frank", "ubuntu"),
            grant(2, "grace", "ubuntu"),
            Grant { starts_at: later(1).wall, ..grant(3, "grace", "grace") },
            ended(grant(4, "frank", "root"), EndCause::Revoked, false),
            Grant { recorded: false, ..grant(5, "frank", "frank") },
        ];
        let store = stored(&grants, &frank, &grace, now());
        assert_eq!(store.keys().collect::<Vec<_>>(), ["ubuntu"]);
        let lines: Vec<&str> = store["ubuntu"].lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.starts_with("expiry-time=\"20270115085959Z\"")), "{lines:?}");
        assert!(lines[0].contains(ED25519) && lines[1].contains(P256) && lines[2].contains(RSA));
        assert!(lines.iter().all(|line| line.contains(",no-agent-forwarding ")), "{lines:?}");
        assert!(!stored(&grants, &frank, &grace, later(1))["grace"].contains("no-agent-forwarding"));
        assert_eq!(stored(&grants, &frank, &grace, later(1)).keys().collect::<Vec<_>>(), ["grace", "ubuntu"]);
        assert_eq!(stored(&grants, &frank, &[], later(1)).keys().collect::<Vec<_>>(), ["ubuntu"], "no key, no file");
        assert!(stored(&grants, &frank, &grace, later(3_600)).is_empty());
    }

    #[test]
    fn where_hardware_is_required_only_keys_of_devices_stand_in_the_store_and_a_pin_is_asked_for_by_their_line() {
        let (all, plain) = (keys(&[ED25519, SK_ED25519, P256, SK_P256, RSA]), keys(&[ED25519]));
        let grants = [grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu")];
        let of = |demand: Demand| {
            let keys_of =
                |grant: &Grant| if grant.person.as_str() == "frank" { all.as_slice() } else { plain.as_slice() };
            stored_by(demand, &grants, keys_of, now()).remove("ubuntu").unwrap_or_default()
        };
        let (none, touched) = (Demand::default(), Demand { hardware: true, ..Demand::default() });
        let unlocked = Demand { pin: true, ..touched };
        assert_eq!(of(none).lines().count(), 6);
        assert_eq!(of(Demand { second_method: true, ..none }), of(none), "that is the gate's");
        for (demand, option) in [(touched, false), (unlocked, true)] {
            let text = of(demand);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert!(lines[0].contains(SK_ED25519) && lines[1].contains(SK_P256), "{text}");
            assert!(lines.iter().all(|line| line.contains(",verify-required ") == option && !line.contains("touch")));
        }
    }

    #[test]
    fn no_file_is_longer_than_what_is_read_back_and_the_estimate_is_never_too_low() {
        let keys = keys(&[RSA]);
        let from = vec!["2001:db8:1:2:3:4:5:6".parse().expect("a range"); 2];
        let numbered = |number| Grant { from: from.clone(), ..grant(number, "frank", "ubuntu") };
        let one = stored(&[numbered(1)], &keys, &[], now())["ubuntu"].len();
        assert!(one <= most_bytes(&numbered(1), &keys), "{one}");
        let many: Vec<Grant> = (0..MAX_STORE_FILE / one + 7).map(|number| numbered(number as u64)).collect();
        let sk = self::keys(&[SK_P256]);
        let pin = Demand { pin: true, ..Demand::default() };
        let with_pin = stored_by(pin, &[numbered(1)], |_| sk.as_slice(), now())["ubuntu"].len();
        assert!(with_pin <= most_bytes(&numbered(1), &sk), "{with_pin}");
        let rules = |_: &Account| Rules { may_forward_agents: false, demand: Demand::default() };
        let wanted = wanted(&many, |_| keys.as_slice(), rules, &ExpiryStyle::Utc, now());
        let all = &wanted.files[&many[0].account];
        assert!(all.len() <= MAX_STORE_FILE && all.len() > MAX_STORE_FILE - one && all.ends_with(b"\n"));
        assert_eq!(wanted.left_out.len(), many.len() - all.len() / one);
    }

    proptest! {
        #[test]
        fn no_line_is_there_before_its_grant_begins_or_after_it_ends(
            spans in prop::collection::vec((0u64..200, 1u64..200), 0..8), at in 0u64..400,
        ) {
            let grants: Vec<Grant> = spans.iter().zip(1..).map(|((begin, length), number)| {
                let ends = lasts(begin + length);
                Grant { starts_at: later(*begin).wall, ends, ..grant(number, "frank", "ubuntu") }
            }).collect();
            let key = keys(&[ED25519]);
            let store = stored(&grants, &key, &[], later(at));
            let text = store.get("ubuntu").cloned().unwrap_or_default();
            for (grant, (begin, length)) in grants.iter().zip(&spans) {
                let there = text.contains(&format!("frank/{}\n", grant.id));
                prop_assert_eq!(there, (*begin..begin + length).contains(&at));
            }
        }
    }
}
