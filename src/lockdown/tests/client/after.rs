//! Lockdowns that a grant is given in spite of: it names those that would refuse it, and no others.

use document::{Body, Envelope, Id, Verdict};
use serde_json::json;

use crate::{laptop::Laptop, liar::Liar};

/// Locks down with these words, into a file.
fn lockdown(laptop: &Laptop, file: &str, words: &[&str]) -> Id {
    laptop.run(&[&["lockdown", "--key", "alice", "--reason", file, "--out", file][..], words].concat()).with(0);
    laptop.envelope(file).document().id()
}

/// The grant that is sent, with what is named in its `after`.
fn allow(liar: &Liar, laptop: &Laptop, words: &[&str]) -> (Envelope, Vec<Id>) {
    let allow = ["allow", "frank", "--stack", "web", "--account", "ubuntu", "--key", "alice", "--wait", "0s"];
    laptop.run(&[&allow[..], words].concat()).with(0);
    let sent = liar.asked().into_iter().rfind(|asked| asked.path == "/v1/documents").unwrap();
    let envelope = Envelope::parse(sent.body.as_bytes()).unwrap();
    let Body::Grant(grant) = envelope.document().body().clone() else { panic!("{envelope:?}") };
    (envelope, grant.after.into_iter().collect())
}

#[test]
fn a_grant_names_the_lockdowns_that_would_refuse_it_and_hosts_take_it() {
    let (liar, laptop) = Liar::start(1);
    let fingerprint = laptop.key("frank").fingerprint().to_string();
    let named = [
        lockdown(&laptop, "all.json", &["--stack", "*"]),
        lockdown(&laptop, "web.json", &["--stack", "web"]),
        lockdown(&laptop, "frank.json", &["--stack", "web", "--person", "frank"]),
        lockdown(&laptop, "key.json", &["--stack", "web", "--fingerprint", &fingerprint]),
        lockdown(&laptop, "host.json", &["--stack", "web", "--host", "i-1"]),
    ];
    lockdown(&laptop, "db.json", &["--stack", "db"]);
    lockdown(&laptop, "grace.json", &["--stack", "web", "--person", "grace"]);
    let files = ["roster.json", "all.json", "web.json", "frank.json", "key.json", "host.json", "db.json", "grace.json"];
    liar.has(&laptop, &files);
    let (envelope, after) = allow(&liar, &laptop, &[]);
    let mut named = named.to_vec();
    named.sort();
    assert_eq!(after, named);
    for name in ["i-1", "i-2"] {
        let mut host = laptop.host(name);
        files.iter().for_each(|file| host.accepts(&laptop.envelope(file)));
        host.accepts(&envelope);
    }
    let hosts = ["i-1", "i-2"].map(|host| json!({ "host": host }));
    liar.reply("GET /v1/status", json!({ "stacks": [{ "stack": "web", "hosts": hosts }] }));
    let (_, after) = allow(&liar, &laptop, &["--reason", "elsewhere", "--host", "i-2"]);
    assert_eq!(after.len(), 4, "that host was not locked down");
}

#[test]
fn what_is_held_is_not_given_and_a_lift_ends_that() {
    let (liar, laptop) = Liar::start(1);
    let hold = lockdown(&laptop, "hold.json", &["--stack", "*", "--person", "frank", "--hold"]);
    liar.has(&laptop, &["roster.json", "hold.json"]);
    let refused = laptop.run(&["allow", "frank", "--stack", "web", "--account", "ubuntu", "--key", "alice"]).with(1);
    refused.says(&format!("lockdown lift {hold}")).says("hold.json");
    laptop
        .run(&["lift", &hold.to_string()[..6], "--key", "alice", "--yes", "--out", "lift.json"])
        .with(0)
        .says("frank of *, holds, by alice");
    // What closes is found whatever order it comes in.
    liar.has(&laptop, &["roster.json", "lift.json", "hold.json"]);
    let (envelope, _) = allow(&liar, &laptop, &[]);
    let mut host = laptop.host("i-1");
    ["roster.json", "hold.json", "lift.json"].iter().for_each(|file| host.accepts(&laptop.envelope(file)));
    host.accepts(&envelope);
}

#[test]
fn a_lockdown_that_nobody_known_has_signed_changes_nothing() {
    let (liar, laptop) = Liar::start(1);
    let other = Laptop::new(None);
    lockdown(&other, "forged.json", &["--stack", "*", "--hold"]);
    laptop.write("forged.json", &other.read("forged.json"));
    liar.has(&laptop, &["roster.json", "forged.json"]);
    let (_, after) = allow(&liar, &laptop, &[]);
    assert!(after.is_empty());
    let verdict = laptop.host("i-1").take(&laptop.envelope("forged.json")).verdict;
    assert!(!matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
}

#[test]
fn where_a_lift_takes_two_the_second_signs_the_file_of_the_first() {
    let (liar, laptop) = Liar::start(2);
    let hold = lockdown(&laptop, "hold.json", &["--stack", "web", "--hold"]).to_string();
    liar.has(&laptop, &["roster.json", "hold.json"]);
    laptop
        .run(&["lift", &hold, "--key", "alice"])
        .with(1)
        .says("2 people have to sign this lift, and 0 have so far")
        .says("--add-to");
    laptop.run(&["lift", &hold, "--key", "alice", "--out", "lift.json"]).with(0);
    let mut host = laptop.host("i-1");
    ["roster.json", "hold.json"].iter().for_each(|file| host.accepts(&laptop.envelope(file)));
    assert!(!matches!(host.take(&laptop.envelope("lift.json")).verdict, Verdict::Accepted(_)));
    laptop.run(&["lift", &hold, "--key", "alice", "--add-to", "lift.json", "--out", "same.json"]).with(0);
    assert!(
        !matches!(host.take(&laptop.envelope("same.json")).verdict, Verdict::Accepted(_)),
        "one person twice is one"
    );
    laptop.run(&["lift", &hold, "--key", "bob", "--add-to", "lift.json", "--wait", "0s"]).with(0);
    let sent = liar.asked().into_iter().rfind(|asked| asked.path == "/v1/documents").unwrap();
    host.accepts(&Envelope::parse(sent.body.as_bytes()).unwrap());
}
