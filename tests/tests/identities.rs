//! Identities from IAM: who leaves IAM is out of every host within 70 s, and who joins it is in once somebody has signed that.
//! On real instances of both releases, with a real server, and with moto for AWS.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use document::{Feeder, Roster};
use instance_tests::{Client, House, Iam, Key, Stack, built_client, eventually, past_the_next_minute, step};
use serde_json::Value;

/// From a user's deletion to the end of their last session: a run a minute, and what one takes.
const CUT_LIMIT: Duration = Duration::from_secs(70);
/// What a run and its consequences may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// For how many runs a user is new, and one answer of IAM's about them is not enough.
const NEW_RUNS: usize = 5;
const GROUP: &str = "developers";
const SERVICE: &str = "lockdown-iam.service";
const PROPOSED: &str = "/var/lib/lockdown-iam/roster.proposed";

/// The key of the reader, made on its instance as the manual says.
fn feeder(host: &House) -> document::Key {
    host.sh("install -d /etc/lockdown && ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/lockdown/iam-key");
    host.sh("cut -d ' ' -f 1-2 /etc/lockdown/iam-key.pub").parse().expect("a good key")
}

/// Its package is installed: nothing runs yet, and there is little to lose.
fn install(host: &House) {
    host.install(&built_client()).expect_ok();
    assert_eq!(host.run("systemctl is-enabled lockdown-iam.timer").stdout.trim(), "disabled");
    assert_eq!(host.sh("id -nG _lockdown-iam"), "_lockdown-iam");
    assert_eq!(host.sh("dpkg -V lockdown-client"), "", "what lies on disk is what was packed");
    let report = host.sh("systemd-analyze security lockdown-iam --no-pager | tail -n 1");
    let exposure: f64 = report.split_whitespace().find_map(|word| word.parse().ok()).expect("a number");
    assert!(exposure <= 2.0, "{report}");
    // Nobody has configured it: it is passed over, and has not failed.
    host.sh(&format!("systemctl start {SERVICE}"));
    assert_eq!(host.sh(&format!("systemctl show -P ConditionResult {SERVICE}")), "no");
}

/// Configures it, beside the key that is there.
fn configure(stack: &Stack, iam: &Iam<'_>, number: usize, token: &str, profiles: &str) {
    let host = &stack.hosts[number];
    let endpoint = iam.reached_from(number);
    host.write("/etc/lockdown/ca.pem", stack.authority());
    host.write("/etc/lockdown/iam-token", token);
    host.write("/etc/lockdown/aws-credentials", profiles);
    host.write(
        "/etc/lockdown/iam.toml",
        format!(
            "server = \"{}\"\nca_file = \"/etc/lockdown/ca.pem\"\n[aws]\nendpoint = \"{endpoint}\"\n\
             sts_endpoint = \"{endpoint}\"\ncredentials = \"profile\"\ncredentials_file = \"/etc/lockdown/aws-credentials\"\n\
             [[account]]\nid = \"{}\"\n[[account.group]]\nname = \"{GROUP}\"\naccounts = {{ web = [\"ubuntu\"] }}\n{}",
            stack.url(),
            iam.account(),
            stack.company.table("")
        ),
    );
    host.sh(
        "cd /etc/lockdown && chmod 600 iam-token && chgrp _lockdown-iam aws-credentials && chmod 640 aws-credentials",
    );
}

/// One run, as the timer starts it, to its end.
#[track_caller]
fn run(host: &House) {
    // However many runs there were within 10 s.
    let started = host.run(&format!("systemctl reset-failed {SERVICE}; systemctl start {SERVICE}"));
    assert!(started.ok(), "{started}\n{}", host.journal("-u lockdown-iam"));
}

/// What is proposed, as a file on a laptop; none where nothing is.
fn proposed(host: &House) -> Option<PathBuf> {
    let file = host.scratch().join("roster.proposed");
    let text = std::fs::read(host.outside(PROPOSED)).ok()?;
    std::fs::write(&file, text).expect("own directory");
    Some(file)
}

/// Somebody looks at what is proposed, the ceo signs it, and every host has it. Returns what was shown.
#[track_caller]
fn sign_what_is_proposed(stack: &Stack, host: &House, version: u64) -> String {
    let company = &stack.company;
    let file = proposed(host).unwrap_or_else(|| panic!("nothing is proposed:\n{}", host.journal("-u lockdown-iam")));
    let file = file.display();
    let shown = stack.lockdown(&company.alice, &format!("roster diff {file}")).expect_ok();
    let signed = format!("roster sign {file} --offline --version {version} --yes --out {file}.json");
    stack.lockdown(&company.ceo, &signed).expect_ok();
    let published = stack.lockdown(&company.alice, &format!("roster publish {file}.json --wait 60s"));
    assert_eq!(published.status, 0, "{published}");
    shown
}

fn gets_in(host: &House, key: &Key) -> bool {
    host.ssh("ubuntu").key(key).login()
}

/// Allows somebody `ubuntu` on every host, which waits until they have it.
#[track_caller]
fn allow(stack: &Stack, person: &str) {
    let command = format!("allow {person} --stack web --account ubuntu --for 2h --reason INC-42");
    let allowed = stack.lockdown(&stack.company.alice, &command);
    assert_eq!(allowed.status, 0, "{allowed}");
}

/// How long it is since a moment until the last of these sessions is over.
#[track_caller]
fn all_cut_since(begun: Instant, sessions: &mut [Client], reader: &House) -> Duration {
    while sessions.iter_mut().any(Client::is_alive) {
        let late = begun.elapsed() > CUT_LIMIT;
        assert!(!late, "a session goes on after {CUT_LIMIT:?}:\n{}", reader.journal("-u lockdown-iam -n 60"));
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// The documents of this kind that a host has accepted, as its ledger has them.
fn accepted(host: &House, kind: &str) -> Vec<String> {
    let records = host.records_of("document.accepted");
    let of_kind = records.iter().filter(|record| record["detail"]["kind"] == kind);
    let line = |record: &Value| {
        let pieces = record["detail"]["line"].as_array().unwrap_or_else(|| panic!("not in one record: {record}"));
        pieces.iter().filter_map(Value::as_str).collect()
    };
    of_kind.map(line).collect()
}

/// Whether a host has accepted one with these words in it.
fn has_on_record(host: &House, kind: &str, words: &[&str]) -> bool {
    accepted(host, kind).iter().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn who_joins_iam_is_in_once_it_is_signed_and_who_leaves_is_out_of_every_host_within_70_s() {
    let stack = Stack::boot_without_roster(5);
    let (company, reader) = (&stack.company, &stack.hosts[0]);
    step("the package, on both releases");
    stack.hosts[..2].iter().for_each(install);
    let key = feeder(reader);
    let feeders = vec![Feeder { key: key.clone(), source: "iam".parse().expect("a source") }];
    stack.begin(Roster { feeders, people: vec![], ..company.roster(1) });
    let iam = Iam::start(&stack);
    iam.admin("CreateGroup", &[("GroupName", GROUP)]);
    let frank = iam.user("frank", GROUP, &company.frank);
    let (token, profiles) = (stack.token("--role auditor --stack web --name lockdown-iam"), iam.reader());
    configure(&stack, &iam, 0, &token, &profiles);
    let checked = reader.run("lockdown-iam check");
    assert!(checked.ok() && !checked.stdout.contains("WRONG"), "{checked}");

    step("frank joins");
    reader.sh("systemctl enable --now lockdown-iam.timer");
    eventually("it is proposed", 2 * SOON, || proposed(reader).is_some());
    assert!(!stack.lockdown(&company.alice, "allow frank --stack web --account ubuntu --reason x").ok());
    let shown = sign_what_is_proposed(&stack, reader, 2);
    let arn = format!("arn:aws:iam::{}:user/frank", iam.account());
    for words in ["+ person frank: from iam", &frank, &arn, &company.frank.fingerprint(), "on web ubuntu"] {
        assert!(shown.contains(words), "no {words} in {shown}");
    }
    for host in &stack.hosts {
        assert!(has_on_record(host, "roster", &[&frank, &arn]), "no {frank} in {:?}", accepted(host, "roster"));
    }
    allow(&stack, "frank");
    for host in &stack.hosts {
        assert!(gets_in(host, &company.frank));
        let created = host.records_of("grant.created").pop().expect("one");
        let iam = serde_json::json!({ "id": frank, "name": "frank", "arn": arn });
        assert_eq!(created["detail"]["iam"], iam, "{created}");
    }

    step("grace joins, and has another key then");
    let grace = iam.user("grace", GROUP, &company.mallory);
    run(reader);
    let shown = sign_what_is_proposed(&stack, reader, 3);
    assert!(shown.contains("+ person grace: from iam") && shown.contains(&grace), "{shown}");
    assert!(!shown.contains("frank"), "{shown}");
    allow(&stack, "grace");
    let (host, other) = (&stack.hosts[1], &stack.hosts[2]);
    assert!(gets_in(host, &company.mallory));
    iam.has_key("grace", &company.grace);
    run(reader);
    assert!(gets_in(host, &company.mallory), "nothing changes until somebody has signed it");
    let shown = sign_what_is_proposed(&stack, reader, 4);
    for (mark, key) in [('-', &company.mallory), ('+', &company.grace)] {
        assert!(shown.contains(&format!("{mark} person grace: key {}", key.fingerprint())), "{shown}");
    }
    assert!([host, other].iter().all(|host| !gets_in(host, &company.mallory)), "the key before is worth nothing");
    allow(&stack, "grace");
    assert!([host, other].iter().all(|host| gets_in(host, &company.grace)));

    step("frank leaves");
    (0..NEW_RUNS).for_each(|_| run(reader));
    let mut sessions: Vec<Client> =
        stack.hosts.iter().map(|host| host.ssh("ubuntu").key(&company.frank).stay()).collect();
    // Just after a run, so that it takes as long as it can.
    past_the_next_minute();
    eventually("the run is over", SOON, || !reader.run(&format!("systemctl is-active {SERVICE}")).ok());
    assert!(sessions.iter_mut().all(Client::is_alive));
    iam.delete("frank", GROUP);
    let cut = all_cut_since(Instant::now(), &mut sessions, reader);
    println!("the last session was cut {cut:?} after the user was deleted");
    for host in &stack.hosts {
        assert!(!gets_in(host, &company.frank) && gets_in(host, &company.grace));
        let holds = accepted(host, "lockdown");
        assert!(has_on_record(host, "lockdown", &[&frank, &arn, "is deleted"]), "no {frank} in {holds:?}");
        let ended = |host: &House| host.records_of("grant.ended").iter().any(|record| record["person"] == "frank");
        eventually("it is on record", SOON, || ended(host));
        let operator = host.ctl("allow frank --account ubuntu --for 1h --reason test");
        assert!(!operator.ok(), "{operator}");
        host.ctl("verify").expect_ok();
    }

    let status = stack.lockdown(&company.alice, "status").expect_ok();
    assert!(status.contains("iam: looked at ") && status.contains(", 1 people"), "{status}");

    step("the reader moves to a host of the other release, and holds nobody twice");
    reader.sh("systemctl disable --now lockdown-iam.timer");
    host.copy_in(&reader.outside("/etc/lockdown/iam-key"), "/etc/lockdown/iam-key");
    host.sh("chmod 600 /etc/lockdown/iam-key");
    configure(&stack, &iam, 1, &token, &profiles);
    run(host);
    assert_eq!(accepted(host, "lockdown").len(), 1, "{}", host.journal("-u lockdown-iam"));
    assert!(proposed(host).is_some(), "who left is not in the next roster");

    step("removal and purge leave the key, which a roster names");
    host.sh("dpkg --purge lockdown-client");
    assert!(host.exists("/etc/lockdown/iam-key") && !host.exists("/var/lib/lockdown-iam"));
    assert!(!host.run(&format!("systemctl cat {SERVICE}")).ok());
}
