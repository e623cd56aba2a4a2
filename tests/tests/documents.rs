//! What the documents name is there: a test that somebody renames or removes is noticed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Everything in backticks in the last column of a table's rows, and the row it stands in.
fn named_tests(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    let cells = rows.filter_map(|row| Some((row.trim_end_matches(" |").rsplit_once(" | ")?.1, row)));
    cells.flat_map(|(cell, row)| cell.split('`').skip(1).step_by(2).map(move |name| (name, row))).collect()
}

/// The names of all functions that are tests: `fn`s after `#[test]`, and the scenarios of `on_each_release!`.
fn tests_below(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let name =
                    line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                if let Some(name) = name.filter(|_| is_test || line.ends_with("(release) {")) {
                    found.insert(name.to_owned());
                }
                is_test = ["#[test]", "#[tokio::test]"].contains(&line) || (is_test && line.starts_with('#'));
            }
        }
    }
}

fn work_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn every_test_that_threats_names_exists() {
    let mut tests = BTreeSet::new();
    for dir in ["src", "tests/tests"] {
        tests_below(&work_tree().join(dir), &mut tests);
    }
    assert!(tests.contains("every_test_that_threats_names_exists"), "the search finds itself");
    let page = fs::read_to_string(work_tree().join("docs/THREATS.md")).unwrap();
    let named = named_tests(&page);
    assert!(named.len() > 10, "the tables are read: {named:?}");
    for (name, row) in named {
        let function = name.rsplit("::").next().unwrap();
        assert!(tests.contains(function), "there is no test {name}, named in\n{row}");
    }
}
