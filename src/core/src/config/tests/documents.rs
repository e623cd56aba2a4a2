//! The example that documents every key, and the configuration that the package ships.

use super::*;

const EXAMPLE: &str = include_str!("../../../../../config.example.toml");
const SHIPPED: &str = include_str!("../../../../../packaging/config.toml");

/// What the code accepts, as `heading key`; a section's own name is not a key.
fn accepted() -> BTreeSet<String> {
    let mut settings = Settings::default();
    let mut problems = Problems::default();
    settings.add(&Source::new("config.example.toml", EXAMPLE), &mut problems);
    problems.or(()).expect("the example is good");
    let sections = [
        "host", "schedule", "grants", "accounts", "require", "sshd", "sessions", "person", "grant", "ledger", "ship",
        "syslog", "api", "stack", "roster", "key",
    ];
    let keys = settings.known.into_iter().flat_map(|(heading, keys)| keys.into_iter().map(move |key| (heading, key)));
    let keys = keys.filter(|(heading, key)| {
        !(["", "[ship]", "[accounts]", "[stack]", "[stack.roster]"].contains(heading) && sections.contains(key))
    });
    // Its keys are accounts.
    let require = "[accounts.require] \"*\"".to_owned();
    keys.map(|(heading, key)| format!("{heading} {key}")).chain([require]).collect()
}

/// What the example sets: `heading key`, and the comment right above it.
fn documented() -> BTreeMap<String, String> {
    let (mut heading, mut comment, mut keys) = ("", String::new(), BTreeMap::new());
    for line in EXAMPLE.lines() {
        if let Some(words) = line.strip_prefix('#') {
            comment.push_str(words.trim_start());
            comment.push('\n');
        } else if line.starts_with('[') {
            heading = line;
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{heading} {key}"), std::mem::take(&mut comment));
        } else {
            comment.clear();
        }
    }
    keys
}

#[test]
fn the_example_has_every_key_that_is_accepted_and_no_other() {
    let documented: BTreeSet<String> = documented().into_keys().collect();
    assert_eq!(documented, accepted());
}

#[test]
fn the_example_loads_and_says_what_the_plan_says() {
    let config = Config::parse(&[("config.example.toml", EXAMPLE)]).expect("good");
    assert_eq!((config.people.len(), config.rendered.len()), (1, 1));
    assert_eq!(config.accounts.exempt.first().map(Account::as_str), Some("breakglass"));
    assert_eq!(config.schedule.lockdown.expect("set").as_str(), "0 0 * * * *");
}

#[test]
fn every_default_that_the_example_names_is_the_one_in_force() {
    // What has to be set.
    let least = format!(
        "mode = \"observe\"\nstack.organization = \"acme\"\nstack.roster.key = [{{ person = \"ceo\", key = \"{}\" }}]\n",
        crate::keys::test_keys::ED25519
    );
    let mut text = least.clone();
    for (key, comment) in documented() {
        let default = comment.lines().find_map(|line| line.strip_prefix("Default: "));
        let default = default.unwrap_or_else(|| unreachable!("{key} does not name its default"));
        let (heading, key) = key.split_once(' ').expect("heading and key");
        if !default.starts_with("none, ") && !heading.starts_with("[[") {
            text.push_str(&format!("{}.{key} = {default}\n", heading.trim_matches(['[', ']'])));
        }
    }
    let defaults = Config::parse(&[("defaults.toml", &text)]).expect("good");
    let nothing_set = Config::parse(&[("config.toml", &least)]).expect("good");
    assert_eq!(defaults, nothing_set);
    assert!(text.lines().count() > 10, "{text}");
}

#[test]
fn the_package_starts_in_observe_and_knows_nobody() {
    let config = Config::parse(&[("config.toml", SHIPPED)]).expect("good");
    let nothing_set = Config::parse(&[("config.toml", "mode = \"observe\"\n")]).expect("good");
    assert_eq!(config, nothing_set);
    // What it shows commented out would load with a real key in it.
    let shown = SHIPPED.lines().map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line));
    let shown = shown.collect::<Vec<_>>().join("\n").replace("ssh-ed25519 AAAA...", KEYS[0]);
    assert_eq!(Config::parse(&[("config.toml", &shown)]).expect("good").people.len(), 1);
}
