//! SOC 2 and PCI DSS: each type's rows, written a second time, and every number that has to be there.

use super::*;

/// Type, satisfies, supports.
type Table = [(&'static str, &'static [&'static str], &'static [&'static str]); 30];

const SOC_2: Table = [
    ("ledger.opened", &[], &["CC7.2"]),
    ("ledger.segment", &[], &["CC7.2"]),
    ("ledger.pruned", &[], &["CC7.2"]),
    ("key.rotated", &[], &[]),
    ("daemon.started", &[], &["CC7.2"]),
    ("daemon.stopped", &[], &["CC7.2"]),
    ("config.loaded", &[], &["CC7.1", "CC8.1"]),
    ("config.refused", &[], &["CC7.1", "CC8.1"]),
    ("mode.changed", &[], &["CC7.1", "CC8.1"]),
    ("clock.stepped", &[], &["CC7.2"]),
    ("grant.created", &[], &["CC6.2", "CC6.3"]),
    ("grant.ended", &[], &["CC6.2", "CC6.3"]),
    ("lockdown", &[], &["CC6.3", "CC7.4"]),
    ("key.removed", &[], &["CC6.1", "CC6.6", "CC7.2"]),
    ("removal.failed", &[], &["CC7.2", "CC7.3"]),
    ("quarantine.restored", &[], &[]),
    ("session.opened", &[], &["CC6.1", "CC6.6", "CC7.2"]),
    ("session.closed", &[], &["CC7.2"]),
    ("session.terminated", &[], &["CC6.2", "CC6.3"]),
    ("session.refused", &[], &["CC6.1", "CC6.6", "CC7.2"]),
    ("login.failed", &[], &["CC6.1", "CC6.6", "CC7.2"]),
    ("journal.gap", &[], &["CC7.2", "CC7.3"]),
    ("ship.dropped", &[], &["CC7.2", "CC7.3"]),
    ("sshd.changed", &[], &["CC7.1", "CC8.1"]),
    ("sweep.attested", &[], &["CC6.1", "CC6.6", "CC6.7", "CC7.1"]),
    ("emergency.login", &[], &["CC6.3", "CC7.2"]),
    ("document.accepted", &[], &["CC6.2", "CC6.3"]),
    ("document.refused", &[], &["CC6.3", "CC7.2"]),
    ("app.authentication", &[], &["CC6.1", "CC7.2"]),
    ("review.completed", &[], &["CC6.3", "CC7.2", "CC7.3"]),
];

const PCI: Table = [
    ("ledger.opened", &["10.3.4"], &["10.2.1", "10.2.1.6", "10.3.2", "10.3.3"]),
    ("ledger.segment", &["10.3.4"], &["10.2.1", "10.2.1.6", "10.3.2", "10.3.3"]),
    ("ledger.pruned", &["10.3.4"], &["10.2.1", "10.2.1.6", "10.3.2", "10.3.3"]),
    ("key.rotated", &[], &[]),
    ("daemon.started", &[], &["10.2.1", "10.2.1.6"]),
    ("daemon.stopped", &[], &["10.2.1", "10.2.1.6"]),
    ("config.loaded", &[], &["7.3.3", "10.2.1"]),
    ("config.refused", &[], &["7.3.3", "10.2.1"]),
    ("mode.changed", &[], &["7.3.3", "10.2.1"]),
    ("clock.stepped", &[], &["10.6.1", "10.6.3"]),
    ("grant.created", &[], &["7.2.2", "7.2.3", "8.2.2", "8.2.4", "8.2.7", "8.6.1", "10.2.1.5"]),
    ("grant.ended", &[], &["8.2.4", "8.2.5", "8.2.7", "10.2.1.5"]),
    ("lockdown", &[], &["8.2.5"]),
    ("key.removed", &[], &["7.3.2", "7.3.3", "10.2.1.5"]),
    ("removal.failed", &[], &["10.7.1", "10.7.2"]),
    ("quarantine.restored", &[], &["10.2.1.5"]),
    (
        "session.opened",
        &["8.2.1", "8.3.1", "10.2.2"],
        &["7.3.1", "7.3.2", "8.2.2", "8.2.7", "8.3.11", "8.6.1", "10.2.1.2"],
    ),
    ("session.closed", &["10.2.2"], &["8.2.7", "10.2.1"]),
    ("session.terminated", &["10.2.2"], &["7.3.2", "8.2.5", "8.2.7"]),
    ("session.refused", &["10.2.1.4", "10.2.2"], &["7.3.1", "7.3.3", "8.3.4"]),
    ("login.failed", &["10.2.1.4"], &["7.3.1", "7.3.3", "8.3.4"]),
    ("journal.gap", &[], &["10.7.1", "10.7.2"]),
    ("ship.dropped", &[], &["10.7.1", "10.7.2"]),
    ("sshd.changed", &[], &["10.2.1", "10.2.1.5"]),
    ("sweep.attested", &[], &["7.2.4", "7.3.1", "7.3.3", "8.3.2", "10.2.1"]),
    ("emergency.login", &[], &["8.2.2", "10.2.1.2"]),
    ("document.accepted", &[], &["7.2.3", "8.2.4", "10.2.1.5"]),
    ("document.refused", &[], &["7.3.2", "10.2.1"]),
    ("app.authentication", &["8.2.1", "8.3.1"], &["8.3.4", "10.2.1", "10.2.1.4"]),
    ("review.completed", &["10.4.1"], &["7.2.4", "10.4.2"]),
];

fn is_mapped_as(framework: &str, table: Table) {
    let catalog = built_in();
    for (kind, satisfies, supports) in table {
        for (relation, ids) in [(Relation::Satisfies, satisfies), (Relation::Supports, supports)] {
            let wanted: BTreeSet<&str> = ids.iter().copied().collect();
            assert_eq!(mapped(&catalog, framework, kind, relation), wanted, "{framework} {kind} {relation:?}");
        }
    }
    let known: BTreeSet<&str> = table.iter().map(|(kind, ..)| *kind).collect();
    let hosts = record::ArtifactType::ALL.iter().map(|kind| kind.as_str());
    assert_eq!(hosts.filter(|kind| !known.contains(kind)).collect::<Vec<_>>(), [""; 0], "each has a row in the table");
}

#[test]
fn every_type_is_mapped_to_soc_2_as_the_table_says_and_satisfies_nothing_there() {
    is_mapped_as("soc-2", SOC_2);
    assert!(
        SOC_2.iter().all(|(_, satisfies, _)| satisfies.is_empty()),
        "a criterion is met by controls, not by a record"
    );
}

#[test]
fn every_type_is_mapped_to_pci_dss_as_the_table_says_and_to_nothing_else() {
    is_mapped_as("pci-dss-4", PCI);
}

#[test]
fn every_criterion_and_requirement_that_is_named_is_there() {
    let catalog = built_in();
    let count = |framework: &str, start: &str| {
        let of = |r: &&Requirement| catalog.framework_of(r).id == framework && r.id.starts_with(start);
        catalog.requirements().iter().filter(of).count()
    };
    // Counted by hand in the standards.
    assert_eq!((count("soc-2", "CC6."), count("soc-2", "CC7."), count("soc-2", "CC8.")), (8, 5, 1));
    assert_eq!((count("pci-dss-4", "7."), count("pci-dss-4", "8."), count("pci-dss-4", "10.")), (12, 29, 27));
    let of = |kind: Kind| catalog.requirements().iter().filter(|r| r.kind == kind).count();
    assert_eq!((of(Kind::Criterion), of(Kind::Requirement)), (14, 68));
    assert_eq!(catalog.find("soc-2-cc6.1").unwrap().id, "CC6.1");
    assert_eq!(catalog.find("PCI-DSS-4-8.3.10.1").unwrap().part_of.as_deref(), Some("8.3.10"));
}

/// As second factors, passwords, and which data was read.
#[test]
fn what_no_artifact_speaks_to_has_no_row_and_says_why() {
    let catalog = built_in();
    for framework in ["soc-2", "pci-dss-4"] {
        for requirement in catalog.requirements().iter().filter(|r| catalog.framework_of(r).id == framework) {
            let silent = catalog.rows_for(requirement).is_empty();
            if silent && requirement.id != "CC7.5" {
                assert!(requirement.note.is_some(), "{} has neither row nor note", requirement.id);
            }
        }
    }
    for id in ["8.4.1", "8.4.2", "8.4.3", "8.3.6", "10.2.1.1", "10.5.1", "CC6.4"] {
        assert!(catalog.rows_for(catalog.find(id).unwrap()).is_empty(), "{id}");
    }
}
