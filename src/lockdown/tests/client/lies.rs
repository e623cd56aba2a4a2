//! What a server that lies can do: nothing is signed that was not shown, nothing of it reaches the terminal as it is, and
//! every answer is bounded.

use std::time::{Duration, Instant};

use document::{Envelope, Kind};
use serde_json::json;

use crate::{
    laptop::Laptop,
    liar::{Liar, Reply},
};

const ALLOW: &[&str] = &["allow", "frank", "--stack", "web", "--account", "ubuntu", "--key", "alice"];
/// What clears a screen, and what turns a line around.
const EVIL: &str = "\u{1b}[2J\u{9b}\u{202e}evil";

fn allow(laptop: &Laptop, more: &[&str]) -> crate::laptop::Said {
    laptop.run(&[ALLOW, more].concat())
}

fn hosts(states: &[(&str, &str)]) -> serde_json::Value {
    let hosts: Vec<_> = states
        .iter()
        .map(|(host, state)| json!({ "host": host, "stack": "web", "state": state, "last_heard": "2026-01-01T00:00:00Z", "silent": false }))
        .collect();
    json!({ "id": "x", "version": 1, "hosts": hosts })
}

/// What was sent to be published, by kind.
fn sent(liar: &Liar, kind: Kind) -> usize {
    let sent = liar.asked().into_iter().filter(|asked| asked.method == "POST" && asked.path == "/v1/documents");
    sent.filter(|asked| Envelope::parse(asked.body.as_bytes()).unwrap().document().kind() == kind).count()
}

#[test]
fn an_allow_shows_each_host_and_ends_with_what_they_did() {
    let (liar, laptop) = Liar::start(1);
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "accepted"), ("i-2", "accepted")]));
    let said = allow(&laptop, &[]).with(0).says("i-1  granted").says("2 of 2 hosts: granted");
    assert!(said.err.contains("sign in") && said.err.contains("frank may log in as ubuntu"), "{}", said.err);
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "accepted"), ("i-2", "waiting")]));
    allow(&laptop, &["--wait", "1s", "--reason", "b"])
        .with(3)
        .says("1 of 2 hosts: granted")
        .says("i-2  has not answered yet");
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "refused")]));
    let json = allow(&laptop, &["--json", "--reason", "c"]).with(1).json();
    assert_eq!((&json["done"], &json["of"], &json["hosts"][0]["state"]), (&json!(0), &json!(1), &json!("refused")));
    assert_eq!(liar.count("POST /v1/sessions/challenge"), 1, "the token is kept");
}

#[test]
fn check_says_whose_keys_are_here() {
    let (_liar, laptop) = Liar::start(1);
    laptop
        .write("config.toml", &format!("key = \"{}\"\n{}", laptop.path("alice").display(), laptop.read("config.toml")));
    let said = laptop.run(&["check"]).with(0).says("version 1, 1 people, 2 approvers").says("approves as alice");
    said.says("it answers");
    laptop.run(&["check", "--key", "frank"]).with(0).says("logs in as frank");
}

#[test]
fn a_lockdown_is_sent_before_anything_is_asked() {
    let (liar, laptop) = Liar::start(1);
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "accepted")]));
    laptop
        .run(&["lockdown", "--stack", "web", "--reason", "x", "--key", "alice"])
        .with(0)
        .says("1 of 1 host: locked down");
    assert_eq!(liar.asked()[0].path, "/v1/documents");
}

#[test]
fn a_lockdown_of_a_host_waits_for_nobody_where_what_it_is_called_was_seen_lately() {
    let (liar, laptop) = Liar::start(1);
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "accepted")]));
    laptop.run(&["status", "--key", "alice"]).with(0);
    for typed in ["i-", "WEB-1", "i-1"] {
        let before = liar.asked().len();
        laptop.run(&["lockdown", "--stack", "web", "--host", typed, "--reason", typed, "--key", "alice"]).with(0);
        let asked = liar.asked();
        assert_eq!(asked[before].path, "/v1/documents", "{typed}");
        assert!(asked[before].body.contains(r#"\"hosts\":[\"i-1\"]"#), "{}", asked[before].body);
    }
}

#[test]
fn a_host_may_be_given_by_its_beginning_or_by_what_it_is_called_and_its_full_name_is_signed() {
    let (liar, laptop) = Liar::start(1);
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "accepted")]));
    for typed in ["i-", "WEB-1"] {
        allow(&laptop, &["--host", typed, "--reason", typed]).with(0);
    }
    for asked in liar.asked().iter().filter(|asked| asked.path == "/v1/documents") {
        assert!(asked.body.contains(r#"\"hosts\":[\"i-1\"]"#), "{}", asked.body);
    }
    allow(&laptop, &["--host", "db"]).with(1).says("i-1 (web-1)");
}

#[test]
fn nothing_is_signed_for_another_server() {
    let (liar, laptop) = Liar::start(1);
    liar.reply(
        "POST /v1/sessions/challenge",
        json!({ "nonce": "n".repeat(43), "origin": "https://other.example.com" }),
    );
    let said = allow(&laptop, &[]).with(1).says("nothing is signed for that");
    assert!(!said.err.contains("sign in"), "{}", said.err);
    assert_eq!((liar.count("POST /v1/sessions "), liar.asked().len()), (0, 1));
}

#[test]
fn a_roster_by_others_a_lower_version_and_two_of_one_version_are_found_out() {
    let (liar, laptop) = Liar::start(1);
    let other = Laptop::new(None);
    other.sign_roster(&other.draft(1), "9");
    laptop.write("other.json", &other.read("roster.json"));
    liar.has(&laptop, &["other.json"]);
    allow(&laptop, &[]).with(1).says("there is no roster yet");
    liar.has(&laptop, &["roster.json"]);
    laptop.write("first.json", &laptop.read("roster.json"));
    laptop.sign_roster(&laptop.draft(1).replace("\"8h\"", "\"7h\""), "2");
    laptop.write("second.json", &laptop.read("roster.json"));
    liar.has(&laptop, &["second.json"]);
    laptop.run(&["roster", "show", "--key", "alice"]).with(0).says("roster 2");
    liar.has(&laptop, &["first.json"]);
    allow(&laptop, &[]).with(1).says("versions never go back");
    laptop.sign_roster(&laptop.draft(1).replace("\"8h\"", "\"6h\""), "2");
    // An automatic key may have taken the version: then one's own is signed anew.
    laptop
        .run(&["roster", "publish", "roster.json"])
        .with(1)
        .says("lockdown roster show roster.json --draft > anew.toml");
    liar.has(&laptop, &["roster.json"]);
    allow(&laptop, &[]).with(1).says("an incident");
    assert_eq!(sent(&liar, Kind::Grant), 0);
}

#[test]
fn a_roster_that_too_few_have_signed_hides_no_going_back() {
    let (liar, laptop) = Liar::start(1);
    let two = laptop.read("config.toml").replace("threshold = 1", "threshold = 2");
    laptop.write(
        "config.toml",
        &format!("{two}[[stack.roster.key]]\nperson = \"cto\"\nkey = \"{}\"\n", laptop.key("bob")),
    );
    for (version, file, by_both) in [("1", "first.json", true), ("2", "second.json", true), ("9", "alone.json", false)]
    {
        laptop.sign_roster(&laptop.draft(1).replace("\"8h\"", &format!("\"{version}h\"")), version);
        if by_both {
            laptop
                .run(&["roster", "sign", "roster.json", "--yes", "--key", "bob", "--offline", "--version", version])
                .with(0);
        }
        laptop.write(file, &laptop.read("roster.json"));
    }
    liar.has(&laptop, &["second.json"]);
    laptop.run(&["roster", "show", "--key", "alice"]).with(0).says("roster 2");
    liar.has(&laptop, &["first.json", "alone.json"]);
    allow(&laptop, &[]).with(1).says("versions never go back");
    liar.has(&laptop, &["second.json", "alone.json"]);
    allow(&laptop, &["--wait", "0s"]).with(0).says("by roster 2");
}

#[test]
fn another_document_under_an_id_is_not_signed() {
    let (liar, laptop) = Liar::start(2);
    let grant = |reason| [ALLOW, &["--roster", "roster.json", "--out", "grant.json", "--reason", reason]].concat();
    laptop.run(&grant("what was asked for")).with(3);
    let id = laptop.envelope("grant.json").document().id();
    laptop.run(&grant("another")).with(3);
    let other: serde_json::Value = serde_json::from_str(&laptop.read("grant.json")).unwrap();
    liar.reply("GET /v1/documents/", json!({ "id": id, "envelope": other }));
    let said = laptop.run(&["approve", &id.to_string(), "--key", "bob"]).with(1).says("the server gives document");
    assert!(!said.err.contains("another"), "{}", said.err);
    assert_eq!(sent(&liar, Kind::Grant), 0);
}

#[test]
fn nothing_from_outside_reaches_the_terminal_as_it_is() {
    let (liar, laptop) = Liar::start(1);
    let check = |said: crate::laptop::Said| {
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("evil"), "{all}");
        assert!(!all.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{all:?}");
    };
    let host = json!({ "host": "i-1", "name": EVIL, "mode": EVIL, "grants": [{ "grant": EVIL, "account": EVIL, "reason": EVIL, "approvers": [EVIL] }],
        "sessions": [{ "session": EVIL, "account": EVIL, "source": EVIL }], "ways_in_open": [EVIL] });
    liar.reply("GET /v1/status", json!({ "stacks": [{ "stack": "web", "hosts": [host] }] }));
    for command in [&["status"][..], &["status", "--json"], &["who"], &["who", "--json"]] {
        check(laptop.run(&[command, &["--key", "alice"]].concat()).with(0));
    }
    check(allow(&laptop, &["--host", "x"]).with(1));
    let answer = json!({ "host": "i-1", "stack": "web", "state": "refused", "code": EVIL, "detail": EVIL });
    liar.reply("GET /v1/documents/", json!({ "version": 1, "hosts": [answer] }));
    check(allow(&laptop, &[]).with(1));
    for status in [401, 409, 422, 500] {
        liar.reply_with("POST /v1/documents", Reply::Json(status, json!({ "code": EVIL, "detail": EVIL }).to_string()));
        let said = allow(&laptop, &[]);
        assert!(said.status == 1 || said.status == 69, "{said:?}");
        check(said);
    }
    // A person's name that is none is no answer at all.
    liar.reply("GET /v1/status", json!({ "stacks": [{ "stack": EVIL, "hosts": [] }] }));
    check(laptop.run(&["status", "--key", "alice"]).with(69));
}

#[test]
fn an_answer_without_an_end_is_not_read_to_its_end_and_a_redirect_not_followed() {
    let (liar, laptop) = Liar::start(1);
    liar.reply_with("GET /v1/feed", Reply::Endless);
    allow(&laptop, &[]).with(69).says("at more length than 33554432 bytes");
    liar.reply_with("GET /v1/feed", Reply::Redirect(format!("{}/elsewhere", liar.origin)));
    allow(&laptop, &[]).with(1).says("HTTP status 307");
    assert_eq!(liar.count("GET /elsewhere"), 0);
}

#[test]
fn hosts_that_never_answer_are_waited_for_no_longer_than_was_asked() {
    let (liar, laptop) = Liar::start(1);
    // At once, and always the same.
    liar.reply("GET /v1/documents/", hosts(&[("i-1", "unheard")]));
    let begin = Instant::now();
    allow(&laptop, &["--wait", "2s"]).with(3);
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    let polls = liar.count("GET /v1/documents/");
    assert!((1..=25).contains(&polls), "{polls}");
    // And not at all.
    liar.reply_with("GET /v1/documents/", Reply::Silence);
    let begin = Instant::now();
    allow(&laptop, &["--wait", "1s", "--reason", "b"])
        .with(3)
        .says("it was published, and what the hosts make of it cannot be seen");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn a_server_that_says_that_it_has_something_else_is_not_believed() {
    let (liar, laptop) = Liar::start(1);
    liar.reply("POST /v1/documents", json!({ "id": "0".repeat(64), "state": "published" }));
    allow(&laptop, &[]).with(69).says("it may not have it");
    liar.reply("POST /v1/sessions", json!({ "token": "x\r\nEvil: yes", "expires_at": "2099-01-01T00:00:00Z" }));
    std::fs::remove_dir_all(laptop.path(".cache/lockdown")).unwrap();
    allow(&laptop, &[]).with(69).says("a token that is none");
}

#[test]
fn where_two_have_to_approve_it_says_who_else_can_and_how() {
    let (liar, laptop) = Liar::start(2);
    liar.reply_with("POST /v1/documents", Reply::Pending);
    let said = allow(&laptop, &[]).with(3);
    let id = Envelope::parse(liar.asked().last().unwrap().body.as_bytes()).unwrap().document().id();
    for shown in [
        "1 of 2 approvals: nothing is open yet",
        "approved by: alice",
        "who can approve: bob",
        &format!("lockdown approve {id}"),
    ] {
        assert!(said.err.contains(shown), "{shown}: {}", said.err);
    }
    let request = ["request", "--stack", "web", "--account", "ubuntu", "--key", "frank"];
    laptop.run(&request).with(0).says("0 of 2 approvals").says("who can approve: alice, bob");
}
