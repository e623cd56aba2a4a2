//! A stack in one command: the program, the real server, and hosts that speak the real protocol.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{laptop::Laptop, real::Real};

const ALLOW: &[&str] = &["allow", "frank", "--stack", "web", "--account", "ubuntu", "--for", "2h", "--key", "alice"];

/// A server with two hosts of web, and a roster by which so many approve.
fn stack(approvals: u8) -> (Real, Laptop) {
    let (mut real, laptop) = Real::start();
    for host in ["i-1", "i-2"] {
        real.host(host, &laptop);
    }
    laptop.write("roster.toml", &laptop.draft(approvals));
    laptop.run(&["roster", "sign", "roster.toml", "--key", "ceo"]).with(0).says("taken for the first roster");
    laptop
        .write("config.toml", &format!("key = \"{}\"\n{}", laptop.path("alice").display(), laptop.read("config.toml")));
    laptop.run(&["roster", "publish", "roster.json"]).with(0).says("2 of 2 hosts: taken");
    (real, laptop)
}

#[test]
fn one_command_opens_a_stack_and_one_closes_it_host_by_host() {
    let (real, laptop) = stack(1);
    laptop.run(ALLOW).with(0).says("i-1  granted").says("i-2  granted").says("2 of 2 hosts: granted");
    let who = laptop.run(&["who", "frank", "--json"]).with(0).json();
    assert_eq!((&who[0]["hosts"], &who[0]["approvers"]), (&json!(["i-1", "i-2"]), &json!(["alice"])), "{who}");
    laptop.run(&["who", "--stack", "web"]).with(0).says("frank").says("2 hosts").says("alice");
    laptop.run(&["who", "franc"]).with(1).says("did you mean frank?");
    laptop.run(&["status"]).with(0).says("web: 2 hosts, 0 silent").says("enforce");
    let begin = Instant::now();
    laptop.run(&["lockdown", "--stack", "web", "--reason", "incident"]).with(0).says("2 of 2 hosts: locked down");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // A grant after a lockdown names it, so that hosts take it.
    let again = laptop.run(&[ALLOW, &["--reason", "again"]].concat()).with(0).says("2 of 2 hosts: granted");
    assert!(again.err.contains("in spite of") && again.err.contains("incident"), "{}", again.err);
    real.silent_host("i-3", &laptop);
    laptop
        .run(&[ALLOW, &["--reason", "third", "--wait", "2s"]].concat())
        .with(3)
        .says("2 of 3 hosts: granted")
        .says("i-3");
    laptop.run(&["allow", "frank", "--stack", "wbe", "--account", "ubuntu"]).with(1).says("did you mean web?");
}

#[test]
fn a_lockdown_of_some_hosts_takes_what_allow_takes_and_one_that_meets_nobody_says_so_loudly() {
    let (_real, laptop) = stack(1);
    let lockdown = |more: &[&str]| laptop.run(&[&["lockdown", "--reason", "incident"], more].concat());
    lockdown(&["--stack", "web", "--host", "i-1"]).with(0).says("1 of 1 host: locked down");
    // Of a beginning that means several nothing is sent.
    lockdown(&["--stack", "web", "--host", "i-"]).with(1).says("NOTHING IS LOCKED DOWN").says("i-2");
    for (typed, said) in [
        (&["--stack", "wbe"][..], "NOTHING IS LOCKED DOWN: no host is known in wbe; did you mean web?"),
        (
            &["--stack", "web", "--host", "x-1"],
            "NOTHING IS LOCKED DOWN: no host of web is called x-1; did you mean i-1",
        ),
    ] {
        let begin = Instant::now();
        let said = lockdown(typed).with(3).says(said);
        assert!(said.out.contains("no host is known that it is for"), "{}", said.out);
        assert!(begin.elapsed() < Duration::from_secs(15), "nobody waits for nobody");
    }
    lockdown(&["--stack", "w-b", "--json"]).with(3).says("NOTHING IS LOCKED DOWN").json();
}

#[test]
fn a_hold_stands_until_a_lift() {
    let (_real, laptop) = stack(1);
    let hold = ["lockdown", "--stack", "web", "--person", "frank", "--hold", "--reason", "laptop stolen", "--json"];
    let id = laptop.run(&hold).with(0).json()["id"].as_str().unwrap().to_owned();
    laptop.run(ALLOW).with(1).says("laptop stolen").says(&format!("lockdown lift {id}"));
    laptop.run(&["status"]).with(0).says("lockdowns that hold").says(&id);
    assert_eq!(laptop.run(&["status", "--json"]).with(0).json()["holds"][0]["id"], json!(id));
    laptop.run(&["lift", &id[..8], "--yes", "--reason", "found"]).with(0).says("2 of 2 hosts: lifted");
    laptop.run(ALLOW).with(0).says("2 of 2 hosts: granted");
}

#[test]
fn what_one_asks_for_two_approve() {
    let (_real, laptop) = stack(2);
    let request =
        ["request", "--stack", "web", "--account", "ubuntu", "--reason", "INC-42", "--key", "frank", "--json"];
    let id = laptop.run(&request).with(0).json()["id"].as_str().unwrap().to_owned();
    laptop.run(&["requests"]).with(0).says("frank").says("INC-42").says("0 of 2");
    laptop
        .run(&["approve", &id[..8], "--yes", "--key", "alice"])
        .with(3)
        .says("asked for by the person themselves")
        .says("1 of 2 approvals");
    laptop.run(&["approve", &id, "--key", "frank"]).with(1).says("is no approver's key");
    laptop.run(&["approve", &id, "--key", "bob"]).with(0).says("approved by alice").says("2 of 2 hosts: granted");
    laptop.run(&["revoke", &id]).with(0).says("2 of 2 hosts: revoked");
    let second =
        laptop.run(&[&request[..], &["--for", "30m"]].concat()).with(0).json()["id"].as_str().unwrap().to_owned();
    laptop.run(&["deny", &second[..8]]).with(0).says("denied");
    assert_eq!(laptop.run(&["requests", "--json"]).with(0).json(), json!([]));
}

#[test]
fn a_case_is_fetched_whole_and_verified_without_the_server_and_one_that_was_changed_is_not() {
    let (real, laptop) = stack(1);
    laptop.run(ALLOW).with(0).says("2 of 2 hosts: granted");
    laptop.write("auditor.token", &format!("{}\n", real.auditor));
    laptop.write("server.pub", &format!("{}\n", real.key()));
    let case = ["case", "--host", "i-1", "--from", "2024-01-01", "-o", "case.tar"];
    laptop.run(&case).with(2).says("no auditor's token was given").says("--token-file");
    let case = [&case[..], &["--token-file", "auditor.token"]].concat();
    laptop.run(&case).with(0).says("case.tar").says("lockdown verify case.tar");
    laptop.run(&case).with(1).says("is there already");
    drop(real);
    let verify = ["verify", "case.tar", "--server-key", "server.pub"];
    laptop.run(&verify).with(0).says("which you named").says("good: ").says("host i-1").says("nobody can know");
    laptop.run(&["verify", "case.tar"]).with(0).says("whose it is you know once you compare that key");
    let report = laptop.run(&[&verify[..], &["--json"]].concat()).with(0).json();
    assert!(report["documents"].as_u64().unwrap() >= 1, "{report}");
    let mut bytes = std::fs::read(laptop.path("case.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(laptop.path("changed.tar"), &bytes).unwrap();
    laptop.run(&["verify", "changed.tar", "--server-key", "server.pub"]).with(1).says("WRONG: ");
    std::fs::write(laptop.path("cut.tar"), &bytes[..middle]).unwrap();
    laptop.run(&["verify", "cut.tar", "--server-key", "server.pub"]).with(1).says("cut off");
    laptop.run(&["verify", "none.tar"]).with(1).says("none.tar: ");
}

#[test]
fn a_case_that_breaks_off_or_is_refused_leaves_no_file() {
    let (_real, laptop) = stack(1);
    laptop.write("auditor.token", "ca_auditor_0000000000000000000000000000000000000000000");
    let case = ["case", "frank", "--from", "2024-01-01", "--token-file", "auditor.token"];
    laptop.run(&case).with(1).says("token");
    let left = std::fs::read_dir(laptop.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.filter(|name| name.to_string_lossy().contains("case.tar")).count() == 0);
    laptop.run(&["case", "--from", "2024-01-01", "--token-file", "auditor.token"]).with(2);
}
