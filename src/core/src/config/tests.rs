//! What a configuration may say, and how it is refused.

use super::*;

mod documents;
mod round_trip;

/// Public keys that are nobody's: their private halves were never kept.
const KEYS: [&str; 4] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOSMj0flNLsBRqm/TWR0oMgA7IxPCF7CHG/HovyGZ/ha",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILvjFx4tE/257NBCqen5tbtejcKoKIN6A3ZbL144YWYm",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFUhAGgqLuedsjHnz1XBb2tHvukak7t3ufufAby4ECRR",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDB0G99IDmsl3QVOxQADeR0X9//XTO7ehnIt0eosrAVPBIWym/jjHvepSCvqsM60wI5pqMBK/WhHv2smZE3tI2g=",
];

const FRANK: &str =
    "mode = \"enforce\"\n[[person]]\nname = \"frank\"\nkeys = []\naccounts = [\"ubuntu\", \"deploy\"]\n";

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(&[("c.toml", text)])
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| unreachable!("{text}\n{error}"))
}

/// The refusal of a text, which must have exactly one problem.
fn refusal(text: &str) -> String {
    let error = parse(text).expect_err(text);
    assert_eq!(error.count(), 1, "{text}\n{error}");
    error.to_string()
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let text = text.replace("KEY0", KEYS[0]).replace("KEY1", KEYS[1]);
    let error = refusal(&text);
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in:\n{error}");
    }
    assert!(!error.contains(char::is_control), "one problem is one line: {error:?}");
}

#[test]
fn a_mode_is_all_that_a_config_needs() {
    let config = good("mode = \"observe\"\n");
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.sessions.warn_before, Some(Duration::from_secs(300)));
    assert!(config.people.is_empty() && config.rendered.is_empty() && config.accounts.exempt.is_empty());
    assert!(config.grants.require_reason && !config.grants.self_grants && !config.accounts.no_exempt);
    assert_eq!(config.digest.len(), 64);
    refused("", &["mode is missing", "add mode = \"observe\""]);
    refused("mode = \"Enforce\"", &["c.toml:1:8: \"Enforce\" is no mode", "\"observe\" or \"enforce\""]);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_valid_one() {
    refused("mode = \"observe\"\nmods = 1", &["c.toml:2:1: unknown key \"mods\"", "did you mean mode?"]);
    refused(
        "mode = \"observe\"\n[accounts]\n  exemt = []",
        &["c.toml:3:3: unknown key \"exemt\" in [accounts]", "did you mean exempt?", "valid here: exempt, no_exempt"],
    );
    refused("mode = \"observe\"\n[ship.splunk]\nurl = 1", &["unknown key \"splunk\" in [ship]", "syslog, api"]);
    refused(&format!("{FRANK}shell = 1"), &["\"shell\" in [[person]]", "valid here: name, keys, accounts, operator"]);
    refused(
        "mode = \"observe\"\n[sessions]\nkill = true",
        &["valid here: end_with_grant, warn_before, before_enforce, left_behind"],
    );
    refused("mode = \"observe\"\n\"a\\nb\\u0000\" = 1", &["unknown key \"a\\nb\\0\""]);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_the_right_one() {
    for (text, wanted) in [
        ("mode = 1", "c.toml:1:8: mode is of type integer"),
        ("mode = \"observe\"\n[grants]\nself = \"no\"", "true or false, without quotes"),
        ("mode = \"observe\"\n[accounts]\nexempt = \"root\"", "a list of strings"),
        ("mode = \"observe\"\n[accounts]\nexempt = [1]", "c.toml:3:11: exempt is of type integer"),
        ("mode = \"observe\"\nhost = \"web\"", "a table headed [host]"),
        ("mode = \"observe\"\nperson = 1", "tables, each headed [[person]]"),
        ("mode = \"observe\"\n[person]\nname = \"frank\"", "tables, each headed [[person]]"),
        ("mode = \"observe\"\nperson = [1]", "tables, each headed [[person]]"),
        (
            &format!(
                "{FRANK}[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nreason = \"x\"\nexpires_at = 2026-12-01T18:00:00Z"
            ),
            "expires_at is of type datetime; write a string",
        ),
    ] {
        refused(text, &[wanted]);
    }
}

#[test]
fn what_is_no_toml_is_refused_at_its_place() {
    refused("mode = \"observe\"\nmode = \"enforce\"", &["c.toml:2:1: no valid TOML", "duplicate key"]);
    let error = parse("mode = observe\n[[person]]\n").expect_err("no string").to_string();
    assert!(error.starts_with("c.toml:1:8: no valid TOML"), "{error}");
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&format!("x = {}{}", "[".repeat(50_000), "]".repeat(50_000))).is_err());
    assert!(parse("mode = \"obs\0erve\"").is_err());
}

#[test]
fn durations_and_cron_patterns_are_refused_with_an_example() {
    let o = "mode = \"observe\"\n";
    refused(
        &format!("{o}[grants]\nmax_duration = \"2 hours\""),
        &["c.toml:3:16", "\"2 hours\" is not a duration", "1h30m"],
    );
    refused(&format!("{o}[grants]\nmax_duration = \"0s\""), &["max_duration is 0s", "1s to 366d works"]);
    refused(&format!("{o}[grants]\nmax_duration = \"367d\""), &["1s to 366d works"]);
    refused(
        &format!("{o}[grants]\nmax_duration = \"2h\"\ndefault_duration = \"3h\""),
        &["c.toml:4:20: default_duration 3h is longer than max_duration 2h", "at most 2h works"],
    );
    refused(&format!("{o}[sessions]\nwarn_before = \"25h\""), &["0s to 1d works"]);
    refused(&format!("{o}[sessions]\nbefore_enforce = \"kill\""), &["write \"keep\" or \"end\""]);
    refused(&format!("{o}[sessions]\nleft_behind = \"keep\""), &["write \"record\" or \"end\""]);
    refused(&format!("{o}[ledger]\nretain = \"1h\""), &["1d to 3660d works"]);
    refused(
        &format!("{o}[schedule]\nsweep = \"*/15 * * * *\""),
        &["c.toml:3:9", "it has 5 fields", "every quarter of an hour is \"0 */15 * * * *\""],
    );
    assert_eq!(
        good(&format!("{o}[grants]\nmax_duration = \"20m\"")).grants.default_duration,
        Duration::from_secs(1200)
    );
    assert_eq!(good(&format!("{o}[sessions]\nwarn_before = \"0s\"")).sessions.warn_before, None);
}

#[test]
fn names_that_could_forge_anything_are_refused_in_one_line() {
    for name in ["a\\nb", "a\\u0000", "a b", "\\\"", "-x", "", "/", "../x", "frank\\u202e"] {
        refused(
            &format!("mode = \"observe\"\n[[person]]\nname = \"{name}\""),
            &["c.toml:3:8", "is not a valid person"],
        );
    }
    for account in ["a:b", "a\\nb", "../x", "-a", ""] {
        refused(
            &format!("mode = \"observe\"\n[accounts]\nexempt = [\"{account}\"]"),
            &["c.toml:3:11", "valid account"],
        );
    }
    refused("mode = \"observe\"\n[host]\nname = \"a/b\"", &["is not a valid host"]);
    refused("mode = \"observe\"\n[host]\nstack = \"a b\"", &["is not a valid stack"]);
}

#[test]
fn a_person_stands_once_and_a_key_has_one_owner() {
    refused(&format!("{FRANK}[[person]]\nname = \"frank\""), &["c.toml:7:8: frank is a person already at c.toml:3:8"]);
    refused(
        "mode = \"observe\"\n[[person]]\nname = \"a\"\nkeys = [\"KEY0 home\"]\n[[person]]\nname = \"b\"\nkeys = [\"KEY1\", \"KEY0 work\"]",
        &["of b is claimed by a at c.toml:4:9", "SHA256:", "one person"],
    );
    refused(
        "mode = \"observe\"\n[[person]]\nname = \"a\"\nkeys = [\"KEY0\", \"KEY0 x\"]",
        &["stands here and at c.toml:4:9 for a"],
    );
    refused(
        "mode = \"observe\"\n[[person]]\nname = \"a\"\nkeys = [\"command=\\\"x\\\" KEY0\"]",
        &["c.toml:4:9", "options"],
    );
    refused("mode = \"observe\"\n[[person]]\nkeys = []", &["c.toml:2:1: name is missing", "add name = \"frank\""]);
}

#[test]
fn an_empty_list_means_nobody() {
    let config = good("mode = \"observe\"\n[[person]]\nname = \"frank\"\n[accounts]\nexempt = []");
    let frank = config.people.values().next().expect("frank");
    assert!(frank.keys.is_empty() && frank.accounts.is_empty() && config.accounts.exempt.is_empty());
    let grant =
        "[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nreason = \"x\"\n";
    refused(&format!("mode = \"observe\"\n{grant}"), &["there is no person frank", "add a [[person]]"]);
    refused(&format!("mode = \"observe\"\n[[person]]\nname = \"frank\"\n{grant}"), &["frank may be given no account"]);
    refused(&format!("{FRANK}{grant}from = []"), &["from is empty: nobody could come in"]);
}

#[test]
fn an_exempt_account_takes_no_grants() {
    let exempt = "[accounts]\nexempt = [\"ubuntu\"]\n";
    refused(&format!("{FRANK}{exempt}"), &["c.toml:5:13: frank may be given ubuntu, which is exempt"]);
    let grant =
        "[[grant]]\nperson = \"eve\"\naccount = \"ubuntu\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nreason = \"x\"\n";
    refused(&format!("mode = \"observe\"\n{exempt}{grant}"), &["ubuntu is exempt and takes no grants"]);
    refused("mode = \"observe\"\n[accounts]\nexempt = [\"a\"]\nno_exempt = true", &["c.toml:4:13", "drop no_exempt"]);
}

#[test]
fn what_is_required_is_said_for_accounts_or_every_one_and_the_later_file_counts() {
    let o = "mode = \"observe\"\n[accounts.require]\n";
    let config = Config::parse(&[
        ("a.toml", &format!("{o}\"*\" = \"key\"\nroot = \"hardware\"\ndeploy = \"second_method\"")),
        ("b.toml", "[accounts.require]\nroot = \"hardware_pin\""),
    ]);
    let require = config.expect("good").accounts.require;
    let words = |account: &str| require.on(&account.parse().expect("a name")).words();
    assert_eq!((words("root"), words("deploy")), (vec!["hardware_pin"], vec!["second_method"]));
    assert!(words("ubuntu").is_empty());
    refused(
        &format!("{o}root = \"fido\""),
        &["c.toml:3:1: \"fido\" is nothing that can be required", "\"hardware_pin\""],
    );
    refused(&format!("{o}root = 1"), &["c.toml:3:1: \"root\" is of type integer"]);
    refused(&format!("{o}\"a:b\" = \"key\""), &["c.toml:3:1", "valid account", "\"*\" for every one"]);
    refused(
        "mode = \"observe\"\n[accounts]\nexempt = [\"bg\"]\nrequire = { bg = \"hardware\" }",
        &["bg is exempt", "nothing is required of it"],
    );
    let many: String = (0..=MAX_REQUIRE).map(|n| format!("a{n} = \"key\"\n")).collect();
    refused(&format!("{o}{many}"), &["has 1001 entries; at most 1000"]);
}

#[test]
fn addresses_that_refusals_do_not_lock_out_are_networks_without_host_bits() {
    let with = |list: &str| format!("mode = \"observe\"\n[sshd]\npenalty_exempt = [{list}]");
    let config = good(&with("\"10.0.0.5\", \"2001:db8::/32\", \"10.0.0.5/32\""));
    let written: Vec<String> = config.sshd.penalty_exempt.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["10.0.0.5/32", "2001:db8::/32"]);
    refused(&with("\"10.0.0.5/8\""), &["c.toml:3:19", "10.0.0.0/8"]);
    refused(&with("\"*\""), &["is not an address range"]);
    let many: Vec<String> = (0..=MAX_PENALTY_EXEMPT).map(|n| format!("\"10.0.0.{n}\"")).collect();
    refused(&with(&many.join(",")), &["penalty_exempt has 65 addresses; at most 64"]);
}

#[test]
fn a_grant_in_config_must_be_one_that_could_be_given() {
    let grant = |lines: &str| format!("{FRANK}[[grant]]\n{lines}\n");
    let full = "person = \"frank\"\naccount = \"ubuntu\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nreason = \"INC-42\"";
    let config = good(&grant(full));
    assert_eq!(config.rendered[0].expires_at.to_string(), "2026-12-01T18:00:00Z");
    assert_eq!(config.rendered[0].place.to_string(), "c.toml:6:1");
    refused(&grant(&full.replace("frank", "eve")), &["c.toml:7:10: there is no person eve", "known are: frank"]);
    refused(&grant(&full.replace("ubuntu", "root")), &["frank may not be given root", "may be given: deploy, ubuntu"]);
    refused(&grant(&full.replace("reason = \"INC-42\"", "")), &["c.toml:6:1: reason is missing", "INC-42"]);
    refused(&grant(&full.replace("INC-42", " ")), &["reason is empty"]);
    refused(&grant(&full.replace("INC-42", "a\\nb")), &["control characters"]);
    refused(&grant(&full.replace("INC-42", &"x".repeat(1001))), &["at most 1000"]);
    refused(&grant(&full.replace("account = \"ubuntu\"", "")), &["account is missing"]);
    refused(&grant(&format!("{full}\nfrom = [\"10.0.0.1/8\"]")), &["c.toml:11:9", "10.0.0.0/8"]);
    refused(&grant(&format!("{full}\nstarts_at = \"2026-12-01T18:00:00Z\"")), &["starts_at is not before expires_at"]);
    refused(
        &format!("{}[[grant]]\n{full}", grant(full)),
        &["c.toml:11:1: this very grant stands at c.toml:6:1 already"],
    );
}

#[test]
fn a_time_is_rfc_3339_in_utc_and_nothing_else() {
    for time in [
        "2026-12-01",
        "2026-12-01T18:00:00",
        "2026-12-01T18:00:00+01:00",
        "2026-12-01 18:00:00Z",
        "tomorrow",
        "2026-12-01T18:00:00z",
        "2026-13-01T18:00:00Z",
        "2026-12-01T18:00:00.Z",
        "2026-12-01T18:00:00.1234567Z",
        "2026-12-01T18:00:00Z[UTC]",
        "",
    ] {
        let text = format!(
            "{FRANK}[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nreason = \"x\"\nexpires_at = \"{time}\""
        );
        refused(&text, &["c.toml:10:14", "is no RFC 3339 time in UTC", "2026-12-01T18:00:00Z"]);
    }
}

#[test]
fn shipping_addresses_name_a_socket_and_an_https_url() {
    for bad in ["/dev/log", "unix:dev/log", "udp:1.2.3.4:514", "unix:/a b", "unix:/a\\n"] {
        refused(&format!("mode = \"observe\"\n[ship.syslog]\naddress = \"{bad}\""), &["is no socket", "unix:/run/"]);
    }
    for bad in ["http://a", "https://", "https:///x", "https://u:p@a", "ftp://a", "https://a b"] {
        refused(
            &format!("mode = \"observe\"\n[ship.api]\nurl = \"{bad}\""),
            &["is no https URL", if bad == "http://a" { "http://127.0.0.1" } else { "https://compliance" }],
        );
    }
}

#[test]
fn what_belongs_to_a_url_needs_one_and_the_ledgers_bounds_hold() {
    for key in ["ca_file = \"/a\"", "client_certificate = \"/a\"", "receipt_keys = []"] {
        refused(&format!("mode = \"observe\"\n[ship.api]\n{key}"), &["c.toml:3:", "has no url", "https://compliance"]);
    }
    for (key, what) in [
        ("max_size = \"1KiB\"", "max_size is 1KiB; 1MiB to 16TiB works"),
        ("max_size = \"17TiB\"", "max_size is 17TiB"),
        ("max_size = \"4GB\"", "whole number of KiB, MiB, GiB or TiB"),
        ("when_full = \"stop\"", "write \\\"refuse_grants\\\" or"),
    ] {
        refused(&format!("mode = \"observe\"\n[ledger]\n{key}"), &[&what.replace("\\\"", "\"")]);
    }
    let keys: Vec<String> = (0..=MAX_RECEIPT_KEYS).map(|_| format!("{:?}", KEYS[0])).collect();
    refused(
        &format!("mode = \"observe\"\n[ship.api]\nurl = \"https://a\"\nreceipt_keys = [{}]", keys.join(",")),
        &["there are 17 receipt_keys; at most 16"],
    );
}

#[test]
fn all_mistakes_are_told_at_once_but_no_more_than_a_screenful() {
    let error =
        parse("mod = 1\n[grants]\nself = 1\nmax_duration = \"x\"\n[schedule]\nsweep = \"x\"").expect_err("many");
    let places: Vec<_> = error.problems().iter().map(|p| p.place.line).collect();
    assert_eq!(error.count(), 5, "{error}");
    assert!([1, 3, 4, 6].iter().all(|line| places.contains(line)), "{error}");
    assert!(error.summary().ends_with("(and 4 more)"), "{}", error.summary());
    let many: String = (0..1000).map(|i| format!("k{i} = 1\n")).collect();
    let error = parse(&format!("mode = \"observe\"\n{many}")).expect_err("many");
    assert_eq!((error.problems().len(), error.count()), (MAX_PROBLEMS, 1000));
    assert!(error.to_string().ends_with("\nand 980 more"));
}

#[test]
fn every_bound_holds() {
    let keys: Vec<String> = (0..=MAX_KEYS).map(|_| format!("{:?}", KEYS[0])).collect();
    let error =
        parse(&format!("mode = \"observe\"\n[[person]]\nname = \"a\"\nkeys = [{}]", keys.join(","))).expect_err("keys");
    assert!(error.to_string().contains("a has 65 keys; at most 64"), "{error}");
    let people: String = (0..=MAX_PEOPLE).map(|i| format!("[[person]]\nname = \"p{i}\"\n")).collect();
    refused(&format!("mode = \"observe\"\n{people}"), &["there are 10001 people; at most 10000"]);
    let exempt: Vec<String> = (0..=MAX_EXEMPT).map(|i| format!("\"a{i}\"")).collect();
    refused(
        &format!("mode = \"observe\"\n[accounts]\nexempt = [{}]", exempt.join(",")),
        &["65 accounts are exempt; at most 64"],
    );
    let from: Vec<String> = (0..=16).map(|i| format!("\"10.0.0.{i}\"")).collect();
    refused(
        &format!(
            "{FRANK}[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nreason = \"x\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nfrom = [{}]",
            from.join(",")
        ),
        &["from has 17 networks; at most 16"],
    );
    let list: Vec<&str> = std::iter::repeat_n("\"u\"", MAX_LIST + 1).collect();
    refused(
        &format!("mode = \"observe\"\n[[person]]\nname = \"a\"\naccounts = [{}]", list.join(",")),
        &["at most 20000"],
    );
    refused(
        &format!("mode = \"observe\"\n[ship.api]\nurl = \"https://{}\"", "x".repeat(MAX_ADDRESS)),
        &["is no https URL"],
    );
    refused(&format!("mode = \"observe\"\n[schedule]\nsweep = \"{}\"", "0 ".repeat(MAX_CRON_TEXT)), &["128 bytes"]);
}

#[test]
fn a_complaint_names_a_few_people_and_counts_the_rest() {
    let people: String = (10..30).map(|i| format!("[[person]]\nname = \"p{i}\"\n")).collect();
    let grant = "[[grant]]\nperson = \"eve\"\naccount = \"a\"\nexpires_at = \"2026-12-01T18:00:00Z\"\nreason = \"x\"\n";
    refused(&format!("mode = \"observe\"\n{people}{grant}"), &["known are: p10, p11,", "p17 and 12 more"]);
}
