//! A configuration, written and read again, is the same.

use proptest::{collection::btree_map, collection::btree_set, collection::vec, option, prelude::*, sample::select};

use super::*;

/// Places say where something was read, not what it is.
fn without_places(mut config: Config) -> Config {
    let nowhere = Place::whole("");
    config.people.values_mut().for_each(|person| person.place = nowhere.clone());
    config.rendered.iter_mut().for_each(|grant| grant.place = nowhere.clone());
    config
}

fn account() -> impl Strategy<Value = Account> {
    // Exempt ones begin with `x`: nobody may be given those.
    "[a-wé\"'\\\\]([^\\s\\p{Cc}/:]{0,20})".prop_filter_map("no account", |name| name.parse().ok())
}

fn seconds(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    (least..=most).prop_map(Duration::from_secs)
}

fn cron() -> impl Strategy<Value = Cron> {
    select(vec!["0 */15 * * * *", "* * * * * *", "5 4 3 * 1-6 MON", "0 0 0 L * *"])
        .prop_map(|text| text.parse().expect("valid"))
}

fn people() -> impl Strategy<Value = BTreeMap<Person, PersonEntry>> {
    let person = "[a-zA-Z0-9][A-Za-z0-9._@+-]{0,63}".prop_map(|name| name.parse().expect("valid"));
    let entry = (0..3_usize, btree_set(account(), 1..4), any::<bool>());
    btree_map(person, entry, 0..4).prop_map(|people| {
        let mut keys = KEYS.iter().map(|key| PersonKey::parse(key).expect("valid"));
        let with_keys = |(name, (count, accounts, operator))| {
            let keys = keys.by_ref().take(count).collect();
            (name, PersonEntry { keys, accounts, operator, place: Place::whole("") })
        };
        people.into_iter().map(with_keys).collect()
    })
}

fn grant(people: Vec<(Person, Account)>) -> impl Strategy<Value = RenderedGrant> {
    let cidr =
        select(vec!["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]).prop_map(|text: &str| text.parse().expect("valid"));
    let reason = "[^\\p{Cc}]{0,100}x".prop_filter("too long", |reason| reason.len() <= control::MAX_REASON);
    (select(people), 1..4_000_000_000_000_000_i64, option::of(1..1_000_000_i64), vec(cidr, 0..4), reason).prop_map(
        |((person, account), end, before, from, reason)| RenderedGrant {
            person,
            account,
            expires_at: Timestamp::from_microsecond(end).expect("in range"),
            starts_at: before.map(|before| Timestamp::from_microsecond(end - before).expect("in range")),
            from,
            reason: Some(reason),
            place: Place::whole(""),
        },
    )
}

fn api() -> impl Strategy<Value = ShipApi> {
    let keys = select(vec![0, 1]).prop_map(|count| {
        let keys = KEYS.iter().filter(|key| key.starts_with("ssh-ed25519"));
        keys.take(count).map(|key| shipping::receipt_key(key).expect("valid")).collect()
    });
    let file = || option::of("(/[a-zA-Z0-9_\"'-]{1,9}){1,4}\\.pem");
    ("https?://(localhost|127\\.0\\.0\\.1)(:[1-9]{2})?/[!-?A-~]{0,80}", file(), file(), keys).prop_map(
        |(url, ca_file, client_certificate, receipt_keys)| ShipApi { url, ca_file, client_certificate, receipt_keys },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let rest = (
        (select(vec![Mode::Observe, Mode::Enforce]), option::of("[A-Za-z0-9.-]{1,64}"), "[A-Za-z0-9._-]{1,64}"),
        (cron(), option::of(cron()), seconds(1, 3600), seconds(3600, 366 * 86_400), any::<[bool; 3]>()),
        (btree_set("x[^\\s\\p{Cc}/:]{0,20}", 0..3), option::of(seconds(1, 86_400)), seconds(86_400, 3660 * 86_400)),
        (option::of("unix:/[!-~]{0,80}"), option::of(api()), 1_u64 << 10..1 << 34, any::<bool>()),
    );
    let requirement = || select(vec!["key", "second_method", "hardware", "hardware_pin"]);
    let word = |text: &str| requirement::requirement(text).expect("a word");
    let require = (option::of(requirement().prop_map(word)), btree_map(account(), requirement().prop_map(word), 0..3))
        .prop_map(|(everywhere, of)| Require { everywhere, of });
    let penalty_exempt = btree_set(
        select(vec!["10.0.0.5", "192.0.2.0/24", "2001:db8::/32"]).prop_map(|text| text.parse().expect("valid")),
        0..3,
    );
    let grants = people().prop_flat_map(|people| {
        let pairs: Vec<_> =
            people.iter().flat_map(|(name, entry)| entry.accounts.iter().map(|a| (name.clone(), a.clone()))).collect();
        let grants = if pairs.is_empty() { Just(Vec::new()).boxed() } else { vec(grant(pairs), 0..4).boxed() };
        (Just(people), grants)
    });
    (rest, grants, require, penalty_exempt).prop_map(
        |((host, rules, keep, ship), (people, mut rendered), require, penalty_exempt)| {
            rendered.dedup_by_key(|grant| grant.expires_at);
            let exempt: BTreeSet<Account> = keep.0.iter().filter_map(|name| name.parse().ok()).collect();
            Config {
                mode: host.0,
                host: HostConfig {
                    name: host.1.map_or(HostName::Auto, |name| name.parse().expect("valid")),
                    stack: host.2.parse().expect("valid"),
                },
                schedule: Schedule { sweep: rules.0, lockdown: rules.1 },
                grants: GrantRules {
                    default_duration: rules.2,
                    max_duration: rules.3,
                    require_reason: rules.4[0],
                    self_grants: rules.4[1],
                },
                accounts: Accounts {
                    no_exempt: exempt.is_empty() && rules.4[2],
                    exempt,
                    agent_forwarding: if rules.4[2] { AgentForwarding::Own } else { AgentForwarding::No },
                    require,
                },
                sshd: SshdConfig { penalty_exempt },
                sessions: Sessions {
                    end_with_grant: rules.4[2],
                    warn_before: keep.1,
                    before_enforce: if rules.4[2] { BeforeEnforce::Keep } else { BeforeEnforce::End },
                    left_behind: if rules.4[2] { LeftBehind::End } else { LeftBehind::Record },
                },
                people,
                rendered,
                stack: None,
                ledger: LedgerConfig {
                    retain: keep.2,
                    max_size: ship.2 << 10,
                    when_full: if ship.3 { WhenFull::DropOldest } else { WhenFull::RefuseGrants },
                },
                ship: Ship { syslog: ship.0, api: ship.1 },
                digest: String::new(),
            }
        },
    )
}

proptest! {
    #[test]
    fn writing_and_reading_gives_the_same_configuration(config in config()) {
        let text = config.to_toml();
        let read = Config::parse(&[("last-good.toml", &text)]).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let again = Config::parse(&[("last-good.toml", &read.to_toml())]).expect("its own form");
        prop_assert_eq!(&again.digest, &read.digest);
        let digest = read.digest.clone();
        prop_assert_eq!(without_places(read), Config { digest, ..config });
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-a-z0-9_.\\[\\]={}\"'\n #,]{0,200}") {
        let _ = parse(&text);
    }
}
