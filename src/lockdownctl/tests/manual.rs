//! The man pages against what they describe.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).expect("the file is in the work tree")
}

/// `[table]` and `key =` lines of the example, each key under its table.
fn keys(toml: &str) -> BTreeSet<(String, String)> {
    let mut table = String::from("AT THE TOP");
    let mut keys = BTreeSet::new();
    for line in toml.lines() {
        if line.starts_with('[') {
            table = line.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with('#')) {
            keys.insert((table.clone(), key.to_owned()));
        }
    }
    keys
}

/// What the page has under each heading.
fn documented(page: &str) -> BTreeSet<(String, String)> {
    let mut heading = String::new();
    let mut keys = BTreeSet::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".SH ") {
            heading = title.trim_matches('"').to_owned();
        } else if let Some((key, _)) = line.strip_prefix(".BR ").and_then(|rest| rest.split_once(r#" " = "#)) {
            keys.insert((heading.clone(), key.to_owned()));
        }
    }
    keys
}

#[test]
fn the_configuration_page_documents_exactly_the_keys_of_the_example() {
    let example = keys(&read("config.example.toml"));
    assert!(example.len() > 20, "{example:?}");
    assert_eq!(documented(&read("docs/man/lockdownd.toml.5")), example);
}
