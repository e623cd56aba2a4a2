mod others;

use std::{collections::BTreeSet, fs};

use super::*;

fn built_in() -> Catalog {
    Catalog::load(None).unwrap()
}

fn with(files: &[(&str, &str)]) -> Result<Catalog, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    Catalog::load(Some(dir.path())).map_err(|e| e.to_string())
}

/// What a type is mapped to in one framework by one relation.
fn mapped<'a>(catalog: &'a Catalog, framework: &str, kind: &str, relation: Relation) -> BTreeSet<&'a str> {
    let of = |r: &&Requirement| {
        let row = |row: &&Row| row.relation == relation && row.types.iter().any(|t| t.matches(kind));
        catalog.framework_of(r).id == framework && catalog.rows_for(r).iter().any(row)
    };
    catalog.requirements().iter().filter(of).map(|r| r.id.as_str()).collect()
}

#[test]
fn an_applications_authentication_log_satisfies_exactly_what_the_seed_says() {
    assert_eq!(
        mapped(&built_in(), "hipaa", "app.authentication", Relation::Satisfies),
        BTreeSet::from(["164.312(a)(1)", "164.312(a)(2)(i)", "164.312(d)"])
    );
}

/// The table of types and the Security Rule, written a second time: type, satisfies, supports.
const HIPAA: [(&str, &[&str], &[&str]); 27] = [
    ("app.authentication", &["312(a)(1)", "312(a)(2)(i)", "312(d)"], &["308(a)(5)(ii)(C)", "312(b)"]),
    ("session.opened", &["312(a)(2)(i)", "312(d)"], &["312(a)(1)", "312(b)"]),
    ("session.closed", &[], &["312(b)", "308(a)(3)(ii)(C)"]),
    ("session.terminated", &[], &["312(b)", "308(a)(3)(ii)(C)"]),
    ("session.refused", &[], &["308(a)(5)(ii)(C)", "312(a)(1)", "312(b)"]),
    ("login.failed", &[], &["308(a)(5)(ii)(C)", "312(a)(1)", "312(b)"]),
    ("grant.created", &[], GRANTS),
    ("grant.ended", &[], GRANTS),
    ("lockdown", &[], &["308(a)(3)(ii)(C)", "312(a)(1)"]),
    ("key.removed", &[], &["308(a)(6)(ii)", "312(a)(1)"]),
    ("sweep.attested", &[], &["312(a)(1)", "308(a)(8)", "308(a)(1)(ii)(B)", "312(e)(2)(ii)"]),
    ("emergency.login", &[], &["312(a)(2)(ii)", "308(a)(7)(ii)(C)"]),
    ("document.accepted", &[], &["308(a)(4)(ii)(B)", "308(a)(4)(ii)(C)", "312(b)"]),
    ("document.refused", &[], &["308(a)(1)(ii)(D)", "312(a)(1)", "312(b)"]),
    ("config.loaded", &[], WORKINGS),
    ("config.refused", &[], WORKINGS),
    ("mode.changed", &[], WORKINGS),
    ("daemon.started", &[], WORKINGS),
    ("daemon.stopped", &[], WORKINGS),
    ("clock.stepped", &[], WORKINGS),
    ("ledger.opened", &[], WORKINGS),
    ("ledger.segment", &[], WORKINGS),
    ("ledger.pruned", &[], WORKINGS),
    ("sshd.changed", &[], WORKINGS),
    ("review.completed", &["308(a)(1)(ii)(D)"], &["312(b)", "308(a)(4)(ii)(C)"]),
    ("ledger", &[], &[]),
    ("ledgers.opened", &[], &[]),
];
const GRANTS: &[&str] = &["308(a)(3)(ii)(A)", "308(a)(3)(ii)(C)", "308(a)(4)(ii)(B)", "308(a)(4)(ii)(C)", "312(a)(1)"];
const WORKINGS: &[&str] = &["312(b)", "316(b)(1)"];

#[test]
fn every_type_is_mapped_to_the_security_rule_as_the_table_says_and_to_nothing_else() {
    let catalog = built_in();
    for (kind, satisfies, supports) in HIPAA {
        for (relation, ids) in [(Relation::Satisfies, satisfies), (Relation::Supports, supports)] {
            let wanted: BTreeSet<String> = ids.iter().map(|id| format!("164.{id}")).collect();
            let got: BTreeSet<String> =
                mapped(&catalog, "hipaa", kind, relation).into_iter().map(String::from).collect();
            assert_eq!(got, wanted, "{kind} {relation:?}");
        }
    }
}

#[test]
fn every_standard_and_specification_of_the_rule_is_there_with_its_need() {
    let catalog = built_in();
    let hipaa = |kind, need| {
        let of = |r: &&Requirement| catalog.framework_of(r).id == "hipaa" && r.kind == kind && r.need == need;
        catalog.requirements().iter().filter(of).count()
    };
    // Counted by hand in 164.308 to 164.316.
    assert_eq!(hipaa(Kind::Standard, Some(Need::Required)), 7);
    assert_eq!(hipaa(Kind::Standard, None), 16);
    assert_eq!(hipaa(Kind::Specification, Some(Need::Required)), 24);
    assert_eq!(hipaa(Kind::Specification, Some(Need::Addressable)), 22);
    assert_eq!(hipaa(Kind::Specification, None), 0);
}

#[test]
fn a_logs_signature_is_never_mapped_to_the_authentication_of_health_data() {
    let catalog = built_in();
    for id in ["164.312(c)(1)", "164.312(c)(2)", "164.312(a)(2)(iii)"] {
        assert!(catalog.rows_for(catalog.find(id).unwrap()).is_empty(), "{id}");
    }
}

#[test]
fn every_framework_says_its_edition_and_the_proposed_rule_is_not_in_force() {
    let catalog = built_in();
    assert!(catalog.frameworks().iter().all(|f| !f.edition.is_empty()));
    assert!(catalog.frameworks()[0].note.as_ref().unwrap().contains("not in force"));
}

#[test]
fn every_type_that_a_host_can_state_bears_on_something() {
    let catalog = built_in();
    for kind in record::ArtifactType::ALL.iter().map(|t| t.as_str()) {
        if !["key.rotated", "quarantine.restored"].contains(&kind) {
            assert!(catalog.requirements().iter().any(|r| catalog.bears_on(r, kind)), "{kind}");
        }
    }
}

#[test]
fn a_requirement_is_found_by_id_and_by_full_reference_in_either_case() {
    let catalog = built_in();
    for (given, id) in [
        ("164.312(a)(2)(i)", "164.312(a)(2)(i)"),
        ("45-cfr-164.312(a)(2)(i)", "164.312(a)(2)(i)"),
        ("45-CFR-164.308(a)(1)(ii)(d)", "164.308(a)(1)(ii)(D)"),
        ("ac-2(1)", "AC-2(1)"),
        ("nist-800-53-r5-AU-9(3)", "AU-9(3)"),
    ] {
        assert_eq!(catalog.find(given).unwrap().id, id);
    }
    assert_eq!(catalog.find("164.312"), Err(LookupError::Unknown("164.312".to_owned())));
}

const OWN: &str = r#"
[framework]
id = "house"
name = "House rules"
prefix = "house-"
edition = "2026"

[[requirement]]
id = "AC-2"
name = "Doors"
kind = "control"
text = "Doors are locked at night."

[[evidence]]
types = ["door.*"]
relation = "supports"
requirements = ["house-AC-2", "164.310(a)(1)"]
scope = "the front door"
does_not_show = "the back door"
"#;

#[test]
fn files_of_ones_own_add_frameworks_and_rows_without_rebuilding() {
    let catalog = with(&[("house.toml", OWN), ("notes.txt", "not read")]).unwrap();
    let facility = catalog.find("164.310(a)(1)").unwrap();
    assert!(catalog.bears_on(facility, "door.opened") && !catalog.bears_on(facility, "door"));
    let several = LookupError::Ambiguous {
        given: "AC-2".to_owned(),
        full: vec!["nist-800-53-r5-AC-2".to_owned(), "house-AC-2".to_owned()],
    };
    assert_eq!(catalog.find("AC-2"), Err(several));
    assert_eq!(catalog.find("house-ac-2").unwrap().name, "Doors");
}

#[test]
fn a_file_of_the_same_name_takes_the_place_of_a_built_in_one() {
    let catalog = with(&[("nist-800-53-r5.toml", OWN)]).unwrap();
    assert_eq!(catalog.find("AC-2").unwrap().name, "Doors");
    assert!(catalog.find("AU-2").is_err());
}

#[test]
fn a_directory_that_is_not_there_adds_nothing() {
    assert_eq!(Catalog::load(Some(Path::new("/nonexistent/requirements.d"))).unwrap(), built_in());
}

#[test]
fn what_is_wrong_is_refused_with_file_and_line() {
    let row = |types: &str, requirements: &str| {
        format!(
            "\n[[evidence]]\ntypes = {types}\nrelation = \"supports\"\nrequirements = {requirements}\nscope = \"s\"\n\
             does_not_show = \"d\"\n"
        )
    };
    let requirement = "[[requirement]]\nid = \"X-1\"\nname = \"X\"\nkind = \"control\"\ntext = \"T\"\n";
    for (text, wanted) in [
        (row("[\"a.b\"]", "[\"164.999\"]"), "x.toml:5: there is no requirement \"164.999\""),
        (row("[\"A.b\"]", "[\"AC-2\"]"), "x.toml:3: \"A.b\" is no artifact type"),
        (row("[\"*\"]", "[\"AC-2\"]"), "x.toml:3: \"*\" is no artifact type"),
        (row("[]", "[\"AC-2\"]"), "x.toml:3: types and requirements"),
        (
            row("[\"lockdown\"]", "[\"164.312(a)(1)\"]"),
            "x.toml:3: \"lockdown\" is mapped to 164.312(a)(1) at hipaa.toml:",
        ),
        (row("[\"a.b\", \"a.b\"]", "[\"AC-3\"]"), "x.toml:3: \"a.b\" is mapped to AC-3 at x.toml:3 already"),
        (row("[\"a.b\"]", "[\"AC-3\"]") + "expected_every = \"1h\"\n", "x.toml:8: expected_every and expected_from"),
        (
            row("[\"a.b\"]", "[\"AC-3\"]") + "expected_every = \"1w\"\nexpected_from = \"anyone\"\n",
            "x.toml:8: \"1w\" is no interval",
        ),
        (row("[\"a.b\"]", "[\"AC-3\"]") + "colour = 1\n", "x.toml:8: unknown field `colour`"),
        (requirement.to_owned(), "x.toml:2: a file with [[requirement]] needs a [framework]"),
        (format!("[framework]\nid = \"nobody\"\n{requirement}"), "x.toml:2: no file describes framework \"nobody\""),
        (format!("[framework]\nid = \"hipaa\"\n{requirement}part_of = \"Y\"\n"), "x.toml:8: part_of names \"Y\""),
        (
            format!("[framework]\nid = \"hipaa\"\n{requirement}{requirement}"),
            "x.toml:9: requirement \"X-1\" stands at x.toml:4 already",
        ),
        (
            "[framework]\nid = \"hipaa\"\nname = \"H\"\nprefix = \"h-\"\nedition = \"1\"\n".to_owned(),
            "x.toml:2: framework \"hipaa\" is described twice",
        ),
        ("[framework\n".to_owned(), "x.toml:1: "),
    ] {
        let error = with(&[("x.toml", &text)]).unwrap_err();
        assert!(error.starts_with(wanted), "{text}\n{error}");
    }
}
