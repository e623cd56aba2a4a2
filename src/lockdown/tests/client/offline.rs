//! No server at all: what `--out` writes, hosts take.

use document::{Envelope, Refusal, Verdict};

use crate::laptop::Laptop;

fn laptop(approvals: u8) -> Laptop {
    let laptop = Laptop::new(None);
    laptop.sign_roster(&laptop.draft(approvals), "1");
    laptop
}

#[test]
fn the_first_roster_is_made_signed_and_shown_and_a_host_takes_it() {
    let laptop = Laptop::new(None);
    laptop.run(&["roster", "init", "roster.toml"]).with(0).says("lockdown roster sign roster.toml");
    laptop.run(&["roster", "init", "roster.toml"]).with(1).says("is there already");
    let signed = laptop.run(&["roster", "sign", "roster.toml", "--key", "ceo"]).with(0);
    assert!(signed.err.contains("+ approver ceo: stacks *; accounts *"), "{}", signed.err);
    signed.says("lockdown roster publish roster.json");
    laptop.host("i-1").accepts(&laptop.envelope("roster.json"));
    laptop.run(&["roster", "show", "roster.json"]).with(0).says("rule for * on *: approvals 1");
    laptop.run(&["roster", "diff", "roster.json"]).with(0).says("+ rule for * on *");
    let shown = laptop.run(&["roster", "show", "roster.json", "--json"]).with(0).json();
    assert_eq!((&shown["type"], &shown["version"]), (&"roster".into(), &1.into()));
}

#[test]
fn a_roster_that_needs_two_people_is_signed_by_one_after_the_other() {
    let laptop = Laptop::new(None);
    let two = laptop.read("config.toml").replace("threshold = 1", "threshold = 2");
    laptop.write(
        "config.toml",
        &format!("{two}[[stack.roster.key]]\nperson = \"cto\"\nkey = \"{}\"\n", laptop.key("bob")),
    );
    laptop.write(
        "roster.toml",
        &laptop
            .draft(1)
            .replace(&format!("person = \"bob\"\nkeys = [\"{}", laptop.key("bob")), "person = \"bob\"\nkeys = [\""),
    );
    laptop.write("roster.toml", &laptop.draft(1));
    laptop.run(&["roster", "sign", "roster.toml", "--key", "ceo"]).with(0).says("1 of 2 people have signed it");
    laptop.run(&["roster", "publish", "roster.json"]).with(1).says("1 of 2 different people");
    laptop
        .run(&["roster", "sign", "roster.json", "--yes", "--key", "bob"])
        .with(0)
        .says("lockdown roster publish roster.json");
    assert_eq!(laptop.envelope("roster.json").signatures().len(), 2);
    laptop.run(&["roster", "sign", "roster.json", "--key", "frank"]).with(1).says("is no [[stack.roster.key]]");
}

#[test]
fn a_roster_that_a_program_proposes_is_signed_once_somebody_has_seen_it() {
    let laptop = laptop(1);
    laptop.sign_roster(&laptop.draft(1).replace("[\"ubuntu\", \"deploy\"]", "[\"ubuntu\"]"), "5");
    // As lockdown-iam writes it: a document of any version, and no signature.
    let mut proposed: serde_json::Value = serde_json::from_str(&laptop.read("roster.json")).unwrap();
    proposed["signatures"] = serde_json::json!([]);
    laptop.write("roster.proposed", &proposed.to_string());
    laptop
        .run(&["roster", "diff", "roster.proposed"])
        .with(0)
        .says("this would be roster 1")
        .says("+ person frank: on web ubuntu");
    laptop.run(&["roster", "publish", "roster.proposed"]).with(1).says("nobody has signed");
    let sign = ["roster", "sign", "roster.proposed", "--key", "ceo"];
    laptop.run(&sign).with(2).says("--yes");
    laptop.run(&[&sign[..], &["--yes"]].concat()).with(0).says("+ person frank: on web ubuntu");
    let signed = laptop.envelope("roster.json");
    laptop.host("i-1").accepts(&signed);
    assert!(signed.document().line().contains("\"version\":1"));
    let others = proposed.to_string().replace("acme", "other");
    laptop.write("others.proposed", &others);
    laptop.run(&["roster", "sign", "others.proposed", "--key", "ceo", "--yes"]).with(1).says("a roster of other");
}

#[test]
fn an_allow_in_a_file_is_shown_whole_and_taken_by_a_host() {
    let laptop = laptop(1);
    let allow = [
        "allow",
        "frank",
        "--stack",
        "web",
        "--account",
        "ubuntu",
        "--for",
        "2h",
        "--reason",
        "INC-42",
        "--host",
        "i-1",
        "--from",
        "10.0.0.0/8",
    ];
    let with = ["--out", "grant.json", "--roster", "roster.json", "--key", "alice"];
    let said = laptop.run(&[&allow[..], &with[..]].concat()).with(0);
    for shown in [
        "frank may log in as ubuntu",
        "i-1",
        "after 2h",
        "10.0.0.0/8",
        "INC-42",
        laptop.key("frank").fingerprint().as_str(),
    ] {
        assert!(said.err.contains(shown), "{shown}: {}", said.err);
    }
    let grant = laptop.envelope("grant.json");
    for (host, taken) in [("i-1", true), ("i-2", false)] {
        let mut host = laptop.host(host);
        host.accepts(&laptop.envelope("roster.json"));
        let verdict = host.take(&grant).verdict;
        assert_eq!(matches!(verdict, Verdict::Accepted(_)), taken, "{verdict:?}");
    }
}

#[test]
fn where_two_have_to_approve_the_second_signs_the_file_of_the_first() {
    let laptop = laptop(2);
    let allow = [
        "allow",
        "frank",
        "--stack",
        "web",
        "--account",
        "ubuntu",
        "--out",
        "grant.json",
        "--roster",
        "roster.json",
        "--key",
        "alice",
    ];
    laptop.run(&allow).with(3).says("1 of 2 approvals: nothing is open yet").says("lockdown approve grant.json");
    let mut host = laptop.host("i-1");
    host.accepts(&laptop.envelope("roster.json"));
    assert!(matches!(host.take(&laptop.envelope("grant.json")).verdict, Verdict::Refused(Refusal::Approvals { .. })));
    let approve = |key, more: &[&str]| {
        let approve = ["approve", "grant.json", "--out", "grant.json", "--roster", "roster.json", "--key", key];
        laptop.run(&[&approve[..], more].concat())
    };
    approve("bob", &[]).with(2).says("frank may log in").says("--yes");
    approve("alice", &["--yes"]).with(1).says("this signature adds nothing: 1 of 2 different people").says("alice");
    approve("frank", &["--yes"]).with(1).says("is no approver's key");
    approve("bob", &["--yes"]).with(0);
    host.accepts(&laptop.envelope("grant.json"));
}

#[test]
fn what_cannot_be_is_refused_at_once_with_what_would_have_worked() {
    let laptop = laptop(1);
    for (typed, status, said) in [
        (&["allow", "franc", "--stack", "web"][..], 1, "did you mean frank?"),
        (&["allow", "Frank", "--stack", "web"], 1, "did you mean frank?"),
        (&["allow", "frank", "--stack", "db"], 1, "they may be given accounts on: web"),
        (&["allow", "frank", "--stack", "web"], 2, "--account deploy, or --account ubuntu"),
        (&["allow", "frank", "--stack", "web", "--account", "root"], 1, "they may be given deploy, ubuntu"),
        (&["allow", "frank", "--stack", "web", "--account", "deploy"], 1, "no rule in roster 1 fits deploy"),
        (&["allow", "frank", "--stack", "web", "--account", "ubuntu", "--for", "9h"], 1, "the longest is --for 8h"),
        (&["allow", "frank", "--stack", "web", "--account", "ubuntu", "--at", "2020-01-01T00:00:00Z"], 2, "is over"),
        (&["allow", "frank", "--stack", "web", "--account", "ubuntu", "--at", "2098-01-01T00:00:00Z"], 2, "ahead"),
        (
            &["allow", "frank", "--stack", "web", "--account", "ubuntu", "--key", "frank"],
            1,
            "is no approver's key in roster 1",
        ),
        (&["allow", "frank", "--stack", "web", "--account", "ubuntu", "--key", "nobody"], 1, "nobody"),
    ] {
        let with = ["--out", "x.json", "--roster", "roster.json"];
        let key: &[&str] = if typed.contains(&"--key") { &[] } else { &["--key", "alice"] };
        laptop.run(&[typed, &with, key].concat()).with(status).says(said);
        assert!(!laptop.path("x.json").exists(), "{typed:?}");
    }
}

#[test]
fn a_lockdown_and_a_revoke_in_files_close_on_a_host() {
    let laptop = laptop(1);
    let mut host = laptop.host("i-1");
    host.accepts(&laptop.envelope("roster.json"));
    let allow = [
        "allow",
        "frank",
        "--stack",
        "web",
        "--account",
        "ubuntu",
        "--out",
        "grant.json",
        "--roster",
        "roster.json",
        "--key",
        "alice",
    ];
    let id = laptop.run(&[&allow[..], &["--json"]].concat()).with(0).json()["id"].as_str().unwrap().to_owned();
    host.accepts(&laptop.envelope("grant.json"));
    laptop.run(&["revoke", &id, "--out", "revoke.json", "--key", "alice"]).with(0);
    host.accepts(&laptop.envelope("revoke.json"));
    let hold = [
        "lockdown",
        "--stack",
        "*",
        "--person",
        "frank",
        "--hold",
        "--reason",
        "laptop stolen",
        "--out",
        "hold.json",
        "--key",
        "ceo",
    ];
    laptop.run(&hold).with(0).says("nobody in scope gets in by any grant until a lift");
    let printed = laptop.run(&[&hold[..hold.len() - 4], &["--out", "-", "--key", "ceo"]].concat()).with(0);
    assert!(Envelope::parse(printed.out.as_bytes()).is_ok(), "{printed:?}");
    host.accepts(&laptop.envelope("hold.json"));
    laptop.run(&[&allow[..], &["--reason", "again"]].concat()).with(0);
    assert!(matches!(host.take(&laptop.envelope("grant.json")).verdict, Verdict::Refused(Refusal::Held(_))));
    let ambiguous =
        ["lockdown", "--stack", "web", "--key", laptop.key("alice").fingerprint().as_str(), "--out", "x.json"]
            .map(str::to_owned);
    laptop
        .run(&ambiguous.iter().map(String::as_str).collect::<Vec<_>>())
        .with(2)
        .says("the key to close, or the key to sign with?");
}

#[test]
fn a_roster_by_others_is_not_gone_by() {
    let laptop = laptop(1);
    let other = Laptop::new(None);
    other.sign_roster(&other.draft(1), "7");
    laptop.write("other.json", &other.read("roster.json"));
    let allow = [
        "allow",
        "frank",
        "--stack",
        "web",
        "--account",
        "ubuntu",
        "--out",
        "grant.json",
        "--roster",
        "other.json",
        "--key",
        "alice",
    ];
    laptop.run(&allow).with(1).says("0 of 1 different people");
}

#[test]
fn check_says_what_is_missing() {
    let laptop = Laptop::new(None);
    laptop.run(&["check"]).with(1).says("ssh-add one");
    std::fs::remove_file(laptop.path("config.toml")).unwrap();
    laptop.run(&["check"]).with(1).says("there is no configuration");
    laptop.run(&["status"]).with(78).says("there is no configuration");
}
