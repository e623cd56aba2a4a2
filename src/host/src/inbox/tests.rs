use std::{fs, os::unix::fs::symlink};

use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

fn revoke(reason: &str) -> Envelope {
    let line = format!(
        "{{\"grant\":\"{}\",\"issued_at\":\"2026-11-30T18:00:00Z\",\"organization\":\"acme\",\"reason\":\"{reason}\",\"type\":\"revoke\",\"v\":1}}",
        "a".repeat(64)
    );
    Envelope::new(document::Document::parse(&line).expect("a document"), Vec::new()).expect("an envelope")
}

fn put(directory: &Path, envelope: &Envelope) {
    let name = format!("{}.json", envelope.document().id());
    fs::write(directory.join(name), envelope.to_json()).expect("written");
}

#[test]
fn what_is_there_is_read_some_at_a_time_and_what_is_settled_is_not() {
    let inbox = tempfile::tempdir().expect("a directory");
    assert_eq!(read_at(inbox.path(), "none", &BTreeSet::new(), &Signers::default()).present.len(), 0);
    let all: Vec<Envelope> = (0..MAX_A_PASS + 3).map(|n| revoke(&n.to_string())).collect();
    all.iter().for_each(|envelope| put(inbox.path(), envelope));
    let first = read_at(inbox.path(), ".", &BTreeSet::new(), &Signers::default());
    assert_eq!((first.present.len(), first.offered.len(), first.more), (all.len(), MAX_A_PASS, true));
    let settled = first.offered.iter().map(|envelope| envelope.document().id()).collect();
    let rest = read_at(inbox.path(), ".", &settled, &Signers::default());
    assert_eq!((rest.present.len(), rest.offered.len(), rest.more), (all.len(), 3, false));
}

#[test]
fn what_closes_is_judged_before_a_roster_that_its_signer_may_have_left_with_and_nothing_opens_before_both() {
    let rank_of = |class: u8, number: u64| ((class, number), revoke(&format!("{class} {number}")));
    let mut inbox = Inbox { read: InboxRead::default(), chosen: Vec::new(), left: MAX_PASS };
    let all = [(OPENS, 0), (ROSTER, 3), (CLOSES, 0), (ROSTER, 2), (OPENS, 0), (CLOSES, 0)];
    for (class, number) in all {
        inbox.choose(rank_of(class, number));
    }
    let ranks: Vec<Rank> = inbox.chosen.iter().map(|(rank, _)| *rank).collect();
    assert_eq!(ranks, [(CLOSES, 0), (CLOSES, 0), (ROSTER, 2)]);
    assert!(inbox.read.more);
    inbox.leave_rosters_unless_all(|_| true);
    assert_eq!(inbox.chosen.len(), 3);
    inbox.leave_rosters_unless_all(|_| false);
    assert_eq!(inbox.chosen.len(), 2, "what came meanwhile may close");
}

#[test]
fn nothing_but_a_document_under_its_own_name_is_taken() {
    let inbox = tempfile::tempdir().expect("a directory");
    let (good, other) = (revoke("a"), revoke("b"));
    let named = |id: &str| inbox.path().join(format!("{id}.json"));
    fs::write(named(&"0".repeat(64)), good.to_json()).expect("written");
    fs::write(named(&"1".repeat(64)), "{").expect("written");
    fs::write(inbox.path().join("elsewhere"), other.to_json()).expect("written");
    symlink(inbox.path().join("elsewhere"), named(&other.document().id().to_string())).expect("a link");
    nix::unistd::mkfifo(&named(&"2".repeat(64)), Mode::S_IRWXU).expect("a FIFO");
    fs::write(named("notes"), "{}").expect("written");
    let roster = document::Document::parse(
        "{\"approvers\":[],\"expires_at\":\"2027-11-30T18:00:00Z\",\"feeders\":[],\"holds\":[],\"issued_at\":\"2026-11-30T18:00:00Z\",\"organization\":\"acme\",\"people\":[],\"rules\":[],\"type\":\"roster\",\"v\":1,\"version\":1}",
    );
    put(inbox.path(), &Envelope::new(roster.expect("a roster"), Vec::new()).expect("an envelope"));
    let rosters = vec![KEY.parse().expect("a key")];
    let read = read_at(inbox.path(), ".", &BTreeSet::new(), &Signers { rosters, closers: Vec::new() });
    assert!(read.offered.is_empty() && !read.more, "{read:?}");
    assert_eq!((read.present.len(), read.bad.len()), (5, 5), "{read:?}");
    assert!(read.bad.iter().any(|(_, why)| why.contains("no key in [stack.roster] has signed")), "{read:?}");
}

/// A closing for `person`, or the whole stack, made at this second, by the key of this seed.
fn closing(kind: &str, person: Option<&str>, second: u64, by: u8) -> Envelope {
    let (issued_at, id) = (format!("2026-11-30T18:{:02}:{:02}Z", second / 60, second % 60), "a".repeat(64));
    let own = match (kind, person) {
        ("lockdown", None) => serde_json::json!({ "stack": "default", "hold": false }),
        ("lockdown", Some(person)) => serde_json::json!({ "stack": "default", "hold": true, "person": person }),
        ("lift", _) => serde_json::json!({ "lockdown": id }),
        _ => serde_json::json!({ "grant": id }),
    };
    let mut all =
        serde_json::json!({ "issued_at": issued_at, "organization": "acme", "reason": "x", "type": kind, "v": 1 });
    all.as_object_mut().expect("members").extend(own.as_object().expect("members").clone());
    let line = all.to_string();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[by; 32]));
    let namespace = format!("ssh-access-{kind}");
    let signature = SshSig::sign(&key, &namespace, HashAlg::Sha512, line.as_bytes()).expect("signed");
    let signature = record::write_armored(&signature).expect("written");
    Envelope::new(document::Document::parse(&line).expect("a document"), vec![signature]).expect("an envelope")
}

#[test]
fn no_flood_of_what_others_close_keeps_a_lockdown_waiting() {
    const APPROVER: u8 = 1;
    const FEEDER: u8 = 2;
    let inbox = tempfile::tempdir().expect("a directory");
    let approver = PrivateKey::from(Ed25519Keypair::from_seed(&[APPROVER; 32]));
    let closers = vec![approver.public_key().to_openssh().expect("written").trim().parse().expect("a key")];
    let signers = Signers { rosters: Vec::new(), closers };
    for second in 0..40 {
        put(inbox.path(), &closing("revoke", None, second, APPROVER));
        put(inbox.path(), &closing("lockdown", Some("heidi"), second, FEEDER));
        // It says that it locks all of the stack down; nobody believes it.
        put(inbox.path(), &closing("lockdown", None, second, FEEDER));
    }
    let wanted = [
        closing("lockdown", None, 900, APPROVER),
        closing("lockdown", Some("frank"), 700, APPROVER),
        closing("lift", None, 800, APPROVER),
        closing("lockdown", Some("grace"), 850, APPROVER),
    ];
    wanted.iter().for_each(|envelope| put(inbox.path(), envelope));
    let read = read_at(inbox.path(), ".", &BTreeSet::new(), &signers);
    assert_eq!((read.present.len(), read.offered.len(), read.more), (124, MAX_A_PASS, true));
    assert_eq!(read.offered[..4], wanted, "a lift before the lockdown that was made after it");
    let next: Vec<Kind> = read.offered[4..].iter().map(|envelope| envelope.document().kind()).collect();
    assert!(next.iter().all(|kind| *kind == Kind::Lockdown), "revokes come last: {next:?}");
    // A signature that somebody put before it makes no junk urgent.
    let junk = closing("lockdown", None, 1, FEEDER);
    let borrowed = vec![wanted[0].signatures()[0].clone(), junk.signatures()[0].clone()];
    let junk = Envelope::new(junk.document().clone(), borrowed).expect("an envelope");
    assert_eq!(rank(&junk, &signers.closers).0, CLOSES);
}

#[test]
fn a_document_behind_any_number_of_other_files_is_seen_and_where_too_many_are_that_is_said() {
    let inbox = tempfile::tempdir().expect("a directory");
    for n in 0..5_000 {
        fs::write(inbox.path().join(format!("junk{n}")), "").expect("written");
    }
    let closes = revoke("over");
    put(inbox.path(), &closes);
    let read = read_at(inbox.path(), ".", &BTreeSet::new(), &Signers::default());
    assert_eq!((read.offered, read.unread), (vec![closes], None));
    let directory = open(inbox.path(), ".").expect("opened").expect("there");
    let unseen = names(&directory, 1_000).expect("read").unseen;
    assert!(unseen.is_some_and(|why| why.contains("more than 1000 files")));
}
