//! The Chef cookbook on real instances: converges by the stand-in for Chef (`tests/chef`), with the real templates, the real
//! check, and the daemon that runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use instance_tests::{House, Release, eventually, on_each_release};
use serde_json::{Value, json};

/// What the daemon may take to act on a reload, which Debian 12 does not wait for.
const SOON: Duration = Duration::from_secs(30);
/// What one converge of ten thousand people may take; it takes a few seconds.
const CROWD_LIMIT: Duration = Duration::from_secs(60);
const PEOPLE: &str = "/etc/lockdownd/conf.d/chef.toml";
const CONFIG: &str = "/etc/lockdownd/config.toml";
const ALL: &[&str] = &["lockdownd::default"];

/// Whose rosters count.
const CEO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

/// A moment so many hours from now, as a recipe would write it.
fn in_hours(hours: i64) -> String {
    let now = jiff::Timestamp::now();
    format!("{:.0}", now + jiff::SignedDuration::from_hours(hours))
}

/// What a node says that wants frank on ubuntu: enforce, a break-glass account, one grant.
fn attributes(house: &House) -> Value {
    json!({
        "stack": "web",
        "config": {
            "mode": "enforce",
            "accounts": { "exempt": ["breakglass"], "agent_forwarding": "no", "require": { "*": "key", "root": "hardware_pin" } },
            "sshd": { "penalty_exempt": ["10.0.0.5"] },
            "stack": { "organization": "acme", "roster": { "key": { "ceo": CEO, "cfo": false } } },
        },
        "people": { "frank": { "keys": [house.frank.public()], "accounts": ["ubuntu", "frank"] } },
        "grants": { "INC-42": { "person": "frank", "account": "ubuntu", "expires_at": in_hours(2), "reason": "INC-42" } },
    })
}

/// A recipe of another cookbook that adds grace.
fn with_grace(house: &House) -> String {
    format!("lockdownd_person 'grace' do\n  keys '{}'\n  accounts %w(ubuntu grace)\nend", house.grace.public())
}

/// An instance that a first converge has set up.
fn converged(release: Release) -> (House, Value) {
    let house = House::observing(release);
    let attributes = attributes(&house);
    house.converge(&attributes, ALL).expect_done();
    house.await_mode("enforce");
    eventually("the grant is in force", SOON, || house.ctl("grants").stdout.contains("INC-42"));
    (house, attributes)
}

/// What must not change when a converge fails.
fn standing(house: &House) -> (String, Value, usize) {
    let refused = house.records_of("config.refused").len();
    (house.sh(&format!("sha256sum {CONFIG} {PEOPLE}")), house.ctl_json("status")["config"].clone(), refused)
}

on_each_release! {
    fn a_converge_puts_people_and_grants_in_force_and_the_next_one_changes_nothing(release) {
        let house = House::observing(release);
        let (attributes, grace) = (attributes(&house), with_grace(&house));
        let recipes = ["lockdownd::default", &grace];
        let first = house.converge(&attributes, &recipes);
        assert!(first.noted.iter().any(|noted| noted["type"] == "apt_package" && noted["name"] == "lockdownd"), "{first:?}");
        let updated = first.expect_done();
        for resource in [format!("template[{PEOPLE}]"), format!("template[{CONFIG}]"), "service[lockdownd]".to_owned()] {
            assert_eq!(updated.iter().filter(|one| **one == resource).count(), 1, "{resource}: {updated:?}");
        }
        house.await_mode("enforce");
        // Settings in tables of their own, and with a name in quotes, are what the daemon reads.
        let config = house.sh(&format!("cat {CONFIG}"));
        let roster = format!("[stack.roster]\nkey = [{{ person = \"ceo\", key = \"{CEO}\" }}]");
        for line in ["[accounts.require]\n\"*\" = \"key\"\nroot = \"hardware_pin\"", "[sshd]\npenalty_exempt = [\"10.0.0.5\"]", &roster] {
            assert!(config.contains(line), "{config}");
        }
        let status = house.ctl("status").stdout;
        assert!(status.contains("no roster yet"), "documents are taken: {status}");
        eventually("frank gets in", SOON, || house.ssh("ubuntu").key(&house.frank).login());
        assert!(!house.ssh("ubuntu").key(&house.grace).login(), "she has no grant");
        assert!(house.sh("cat /run/lockdownd/keys/ubuntu").contains(",no-agent-forwarding "));

        // Where each came from, in the record and in status, is where it stands.
        let loaded = house.records_of("config.loaded").pop().expect("one at least");
        let status = house.ctl_json("status");
        let source = &status["sources"][0];
        assert_eq!((source["file"].as_str(), status["sources"].as_array().map(Vec::len)), (Some(PEOPLE), Some(1)));
        let line = |of: &Value| house.sh(&format!("sed -n '{}p;{}q' {PEOPLE}", of["line"], of["line"]));
        assert_eq!((line(&source["people"][0]), line(&source["people"][1])), ("name = \"frank\"".into(), "name = \"grace\"".into()));
        assert_eq!(line(&source["grants"][0]), "[[grant]]");
        let (frank, grant) = (&source["people"][0]["line"], &source["grants"][0]["line"]);
        assert_eq!(loaded["detail"]["sources"][0]["file"], PEOPLE);
        assert_eq!(loaded["detail"]["sources"][0]["people"][0], format!("frank:{frank}"));
        assert_eq!(loaded["detail"]["sources"][0]["grants"][0], format!("frank:ubuntu:{grant}"));
        assert!(house.ctl("people").stdout.contains(&format!("{PEOPLE}:{frank}")));
        let comment = house.sh(&format!("sed -n {}p {PEOPLE}", grant.as_u64().expect("a line") - 1));
        assert_eq!(comment, "# node['lockdownd']['grants']['INC-42']", "the template to mend");
        assert!(house.sh(&format!("cat {PEOPLE}")).contains("# lockdownd_person[grace] in site::default"));

        // Again: nothing.
        let records = house.records_of("config.loaded").len();
        let second = house.converge(&attributes, &recipes);
        assert!(second.changed_nothing(), "{second:?}");
        assert_eq!(house.records_of("config.loaded").len(), records);

        // Another order of the same changes lines at most, and no grant.
        let before = house.ctl_json("grants")["grants"][0]["id"].clone();
        let renamed = format!("{grace}\nlockdownd_person('aaron') {{ accounts 'ubuntu' }}");
        house.converge(&attributes, &["lockdownd::default", &renamed]).expect_done();
        eventually("aaron exists", SOON, || house.ctl("people").stdout.contains("aaron"));
        let grants = house.ctl_json("grants");
        assert_eq!((&grants["grants"][0]["id"], grants["grants"].as_array().map(Vec::len)), (&before, Some(1)));
        assert_ne!(grants["grants"][0]["origin"]["config"]["line"], *grant, "its place is told anew");

        // A grant that nobody asks for any more is over, and so is what it opened.
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        let mut without = attributes.clone();
        without["grants"] = json!({});
        house.converge(&without, &recipes).expect_done();
        eventually("the connection is cut", SOON, || !client.is_alive());
        let ended = house.records_of("grant.ended").pop().expect("one");
        assert!(ended["detail"]["ended"] == "config" && ended["reason"].as_str().is_some_and(|why| why.contains(PEOPLE)), "{ended}");
        // Nobody left in any recipe: the file is emptied, not forgotten.
        house.converge(&json!({ "config": attributes["config"] }), ALL).expect_done();
        eventually("nobody is left", SOON, || house.ctl_json("status")["people"] == 0);
        house.ctl("verify").expect_ok();
    }

    fn a_lockdown_waits_to_be_notified_and_a_revoked_grant_stays_ended(release) {
        let (house, node) = converged(release);
        let lockdown = "lockdownd_lockdown('now') { reason '--\"laptop\"; stolen' }";
        let quiet = house.converge(&node, &["lockdownd::default", lockdown]);
        assert!(quiet.changed_nothing() && house.records_of("lockdown").is_empty(), "{quiet:?}");

        // Revoked: at once, over a restart and the next converge, and it is said where to end it for good.
        let said = house.ctl("revoke frank --reason done");
        let line = house.ctl_json("status")["sources"][0]["grants"][0]["line"].clone();
        assert!(said.stdout.contains(&format!("rendered by {PEOPLE}:{line}:")) && said.stdout.contains("remove it there for good"), "{said}");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
        house.sh("systemctl restart lockdownd");
        let again = house.converge(&node, ALL);
        assert!(again.changed_nothing(), "{again:?}");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());

        // New content is a new grant; a notified lockdown ends it.
        let mut renewed = node.clone();
        renewed["grants"]["INC-42"]["reason"] = json!("INC-43");
        house.converge(&renewed, ALL).expect_done();
        eventually("frank gets in", SOON, || house.ssh("ubuntu").key(&house.frank).login());
        let notified = format!("{lockdown}\nchanging('x') {{ notifies :run, 'lockdownd_lockdown[now]', :delayed }}");
        house.converge(&renewed, &["lockdownd::default", &notified]).expect_done();
        let record = house.records_of("lockdown").pop().expect("one");
        assert!(record["reason"].as_str().is_some_and(|why| why.contains("--\"laptop\"; stolen")), "{record}");
        assert!(!house.ssh("ubuntu").key(&house.frank).login());
    }
}

#[test]
fn a_mistake_fails_the_converge_in_the_daemons_words_and_the_old_stays() {
    let (house, good) = converged(Release::Bookworm);
    let before = standing(&house);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut attributes = good.clone();
        change(&mut attributes);
        attributes
    };
    let frank = house.frank.public();
    let [kind, body, _] = frank.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{frank}") };
    let mallory = |key: String| changed(&|node| node["people"]["mallory"] = json!({ "keys": [key], "accounts": [] }));
    let expiring = |when: &str| changed(&|node| node["grants"]["INC-42"]["expires_at"] = json!(when));
    let table = [
        (
            changed(&|node| node["config"]["grants"] = json!({ "max_duration": "2 hours" })),
            "config.toml:",
            "\"2 hours\" is not a duration",
        ),
        (changed(&|node| node["config"]["mode"] = json!("enforc")), "config.toml:", "\"enforc\" is no mode"),
        (
            changed(&|node| node["config"]["acounts"] = json!({ "exempt": [] })),
            "config.toml:",
            "did you mean accounts?",
        ),
        (
            changed(&|node| node["config"]["mode"] = json!("observe\"\n[grants]\nself = true\n#")),
            "config.toml:",
            "is no mode",
        ),
        (mallory(frank.to_owned()), "chef.toml:", "is claimed by frank at"),
        (mallory(format!("{kind} {body} somebody@else")), "chef.toml:", "is claimed by frank at"),
        (mallory(format!("{kind} {body}")), "chef.toml:", "is claimed by frank at"),
        (mallory(format!("from=\"10.0.0.1\" {kind} {body} x")), "chef.toml:", "option"),
        (mallory(format!("{}\n{frank}", house.grace.public())), "chef.toml:", ""),
        (
            changed(&|node| node["people"]["frank"]["keys"] = json!([frank, format!("{kind} {body} twice")])),
            "chef.toml:",
            "stands here and at",
        ),
        (
            changed(&|node| node["grants"]["INC-42"]["account"] = json!("root")),
            "chef.toml:",
            "frank may not be given root",
        ),
        (
            changed(&|node| node["grants"]["INC-42"]["person"] = json!("nobody")),
            "chef.toml:",
            "there is no person nobody",
        ),
        (changed(&|node| node["grants"]["INC-42"]["from"] = json!([])), "chef.toml:", "from is empty"),
        (expiring("2h"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring("2099-01-01"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring("2099-01-01T00:00:00+02:00"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring("2099-01-01 00:00:00 UTC"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring("4070908800"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring("2099-02-30T00:00:00Z"), "chef.toml:", "2026-12-01T18:00:00Z"),
        (expiring(""), "chef.toml:", "2026-12-01T18:00:00Z"),
    ];
    for (attributes, file, told) in &table {
        let error = house.converge(attributes, ALL).expect_failed();
        assert!(
            error.contains("failed verification lockdownctl check --as") && error.contains(told),
            "{told}: {error}"
        );
        let place = format!("/etc/lockdownd/{}{file}", if *file == "chef.toml:" { "conf.d/" } else { "" });
        assert!(error.lines().any(|line| line.trim_start_matches("STDOUT: ").starts_with(&place)), "{place}: {error}");
    }
    // Somebody in two recipes, not the same.
    let error = house
        .converge(&good, &["lockdownd::default", "lockdownd_person('frank') { accounts 'ubuntu' }"])
        .expect_failed();
    assert!(error.contains("frank is a person already at"), "{error}");
    // What Chef itself, or the cookbook, refuses.
    for (recipe, told) in [
        ("lockdownd_grant('x') { person 'frank'; account 'ubuntu' }", "expires_at"),
        (
            "lockdownd_grant('x') { person 'frank'; account 'ubuntu'; expires_at Time.now + 3600 }",
            "expires_at must be one of: String",
        ),
        ("lockdownd_person('x') { keys [\"k\\0\"] }", "lockdownd_person[x] keys[0] has a NUL in it"),
        ("lockdownd_person('x') { keys [\"k\\xff\"] }", "lockdownd_person[x] keys[0] is not UTF-8"),
        ("lockdownd_config('x') { mode 'observe' }", "contradicts another lockdownd_config"),
        ("lockdownd_install('x') { source 'https://example.com/l.deb' }", "checksum is missing"),
    ] {
        let error = house.converge(&good, &["lockdownd::default", recipe]).expect_failed();
        assert!(error.contains(told), "{recipe}: {error}");
    }
    // In why-run nothing is judged and nothing is written; and what only waits to be heard is not held back.
    let dry = house.why_run(&changed(&|node| node["config"]["mode"] = json!("enforc")), ALL);
    assert!(dry.error.is_none() && dry.updated.contains(&format!("template[{CONFIG}]")), "{dry:?}");
    // Somebody else's recipe fails before everybody was heard: nobody loses what they have.
    let stopped = house.converge(&changed(&|node| node["grants"] = json!({})), &["lockdownd::default", "failing 'x'"]);
    assert!(stopped.log.iter().any(|line| line.contains("nobody's access changes")), "{stopped:?}");
    assert!(stopped.expect_failed().contains("somebody else failed"));

    assert_eq!(standing(&house), before, "nothing has changed, on disk, in force or on record");
    assert!(house.ssh("ubuntu").key(&house.frank).login());
    let leftovers = house.sh("find /etc/lockdownd -name '.chef-*'");
    assert_eq!(leftovers, "");
}

#[test]
fn who_and_what_is_removed_is_out_whoever_asks_for_it_and_the_configuration_goes_back_to_observe() {
    let (house, node) = converged(Release::Bookworm);
    let out = "lockdownd_person('grace') { action :remove }\nlockdownd_grant('INC-42') { action :remove }";
    let (grace, grants) = (with_grace(&house), || house.ctl_json("grants")["grants"].as_array().map(Vec::len));
    // Before or after those who ask for them.
    for recipes in [[out, "lockdownd::default", &grace], ["lockdownd::default", &grace, out]] {
        house.converge(&node, &["lockdownd::default", &grace]).expect_done();
        eventually("she is known, and the grant in force", SOON, || {
            house.ctl("people").stdout.contains("grace") && grants() == Some(1)
        });
        house.converge(&node, &recipes).expect_done();
        eventually("the grant is over", SOON, || grants() == Some(0));
        let people = house.ctl("people").stdout;
        assert!(people.contains("frank") && !people.contains("grace"), "{people}");
        assert!(house.converge(&node, &recipes).changed_nothing());
    }
    // A person goes with their grants, or the check would refuse what is left.
    house.converge(&node, &["lockdownd::default", "lockdownd_person('frank') { action :remove }"]).expect_done();
    eventually("nobody is left", SOON, || house.ctl_json("status")["people"] == 0);

    let people = json!({ "people": node["people"] });
    house.converge(&people, &["lockdownd_config('x') { action :remove }"]).expect_done();
    house.await_mode("observe");
    assert_eq!(house.sh(&format!("grep -v '^#' {CONFIG} | grep .")), "mode = \"observe\"");
    let error =
        house.converge(&node, &["lockdownd::default", "lockdownd_config('x') { action :remove }"]).expect_failed();
    assert!(error.contains("contradicts another lockdownd_config"), "{error}");
}

#[test]
fn what_only_holds_together_changes_together_and_a_link_is_replaced() {
    let house = House::observing(Release::Trixie);
    // Enforce that does not come fails the converge, with what stands in its way, and again while it stands.
    let mut node = attributes(&house);
    node["config"]["accounts"]["exempt"] = json!(["brakeglass"]);
    for _ in 0..2 {
        let error = house.converge(&node, ALL).expect_failed();
        assert!(error.contains("lockdownd is in observe, not in enforce") && error.contains("\n- "), "{error}");
    }
    node["config"]["accounts"]["exempt"] = json!(["breakglass"]);
    house.converge(&node, ALL).expect_done();
    assert_eq!(house.ctl_json("status")["mode"], "enforce");
    assert!(house.converge(&node, ALL).changed_nothing());
    // grace is taken from frank's accounts and becomes exempt, in one converge, whichever comes first.
    node["people"]["frank"]["accounts"] = json!(["ubuntu", "grace"]);
    house.converge(&node, ALL).expect_done();
    node["people"]["frank"]["accounts"] = json!(["ubuntu"]);
    node["config"]["accounts"]["exempt"] = json!(["breakglass", "grace"]);
    house.converge(&node, ALL).expect_done();
    eventually("grace is exempt", SOON, || house.ctl_json("status")["exempt"] == json!(["breakglass", "grace"]));
    node["people"]["frank"]["accounts"] = json!(["ubuntu", "grace"]);
    node["config"]["accounts"]["exempt"] = json!(["breakglass"]);
    house.converge(&node, ALL).expect_done();
    eventually("grace is not", SOON, || house.ctl_json("status")["exempt"] == json!(["breakglass"]));
    assert_eq!(house.ctl("check").status, 0);

    // Somebody put a link where the file is: it goes, and what it led to is left alone.
    let (link, target) = (house.outside(PEOPLE), house.outside("/root/elsewhere.toml"));
    fs::rename(&link, &target).expect("moved");
    symlink("/root/elsewhere.toml", &link).expect("a link");
    let content = fs::read(&target).expect("there");
    house.converge(&node, ALL).expect_done();
    assert!(fs::symlink_metadata(&link).is_ok_and(|meta| meta.is_file()));
    assert_eq!(fs::read(&target).expect("there"), content);
    assert_eq!(house.ctl("check").status, 0);
    // Drafts, Chef's and ours, are no part of the configuration.
    house.write("/etc/lockdownd/conf.d/.chef-people1.toml", "no TOML");
    house.write("/etc/lockdownd/.config.toml", "no TOML");
    assert_eq!(house.ctl("check").status, 0);
    assert_eq!(
        house.converge(&node, ALL).expect_done(),
        ["template[/etc/lockdownd/.config.toml]", "lockdownd_files[chef]"]
    );
}

#[test]
fn ten_thousand_people_and_reasons_of_any_kind_are_judged_by_the_real_check() {
    let (house, mut node) = converged(Release::Trixie);
    let people = (0..9_999).map(|n| (format!("p{n}"), json!({ "accounts": ["ubuntu"] })));
    let people: serde_json::Map<String, Value> =
        people.chain([("frank".to_owned(), node["people"]["frank"].clone())]).collect();
    node["people"] = people.into();
    let start = Instant::now();
    house.converge(&node, ALL).expect_done();
    assert!(start.elapsed() < CROWD_LIMIT, "{:?}", start.elapsed());
    eventually("all are there", SOON, || house.ctl_json("status")["people"] == 10_000);
    assert!(house.ssh("ubuntu").key(&house.frank).login());
    assert!(house.ctl("status").stdout.contains("and more: lockdownctl people"));
    node["people"]["one-more"] = json!({});
    let error = house.converge(&node, ALL).expect_failed();
    assert!(error.contains("there are 10001 people; at most 10000 are taken"), "{error}");

    // One grant for each reason: it is good where it is one line with something in it, and nothing else is.
    let reasons = [
        "INC-42",
        "\"",
        "\\",
        "'''",
        "\"\"\"",
        "#{x}",
        "<%= x %>",
        "]\n[grants]",
        "a\tb",
        "",
        " ",
        "\u{7f}",
        "é😀",
        "\u{202e}x",
        "# x",
        "\\u0041",
        "%{path}",
        "x\r",
    ];
    let cases = reasons.map(|reason| {
        json!({ "attributes": { "grants": { "x": { "person": "frank", "account": "ubuntu", "expires_at": in_hours(1), "reason": reason } } } })
    });
    let frank = format!(
        "mode = \"observe\"\n[[person]]\nname = \"frank\"\nkeys = [\"{}\"]\naccounts = [\"ubuntu\"]\n",
        house.frank.public()
    );
    house.write("/root/config.toml", frank);
    for (reason, rendered) in reasons.iter().zip(instance_tests::chef::render("erubis", &cases)) {
        house.write("/root/people.toml", rendered["people"].as_str().expect("rendered"));
        let check = house.ctl(&format!("check --as {CONFIG} /root/config.toml --as {PEOPLE} /root/people.toml"));
        let good = !reason.trim().is_empty() && !reason.chars().any(char::is_control);
        assert_eq!(check.status, if good { 0 } else { 78 }, "{reason:?}: {check}");
        assert!(
            good || check.stdout.lines().all(|line| line.starts_with(&format!("{PEOPLE}:")) && line.contains("reason")),
            "{reason:?}: {check}"
        );
    }
}
