//! Keys that ssh-agent has: the roster says which of them signs what.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    laptop::{Laptop, Said},
    liar::Liar,
};

/// An agent with these keys; it ends with the test.
struct Agent(Child);

impl Agent {
    fn start(laptop: &Laptop, keys: &[&str]) -> Self {
        let socket = laptop.path("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self(child);
        let begin = Instant::now();
        while !socket.exists() {
            assert!(begin.elapsed() < Duration::from_secs(10), "ssh-agent does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        for key in keys {
            let added = Command::new("ssh-add").arg("-q").arg(laptop.path(key)).env("SSH_AUTH_SOCK", &socket).status();
            assert!(added.unwrap().success());
        }
        // From now on the agent alone has them.
        keys.iter().for_each(|key| std::fs::remove_file(laptop.path(key)).unwrap());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(laptop: &Laptop, arguments: &[&str]) -> Said {
    Said::of(laptop.command(arguments).env("SSH_AUTH_SOCK", laptop.path("agent")).output().unwrap())
}

#[test]
fn of_several_keys_the_one_signs_that_the_roster_names_for_it() {
    let laptop = Laptop::new(None);
    laptop.sign_roster(&laptop.draft(1), "1");
    let _agent = Agent::start(&laptop, &["frank", "ceo", "alice"]);
    let terms = ["--stack", "web", "--account", "ubuntu", "--roster", "roster.json", "--out"];
    run(&laptop, &[&["allow", "frank"][..], &terms, &["grant.json"]].concat()).with(0);
    let mut host = laptop.host("i-1");
    host.accepts(&laptop.envelope("roster.json"));
    host.accepts(&laptop.envelope("grant.json"));
    run(&laptop, &[&["request", "--reason", "INC-42"][..], &terms, &["request.json"]].concat())
        .with(0)
        .says("frank may log in as ubuntu");
    run(&laptop, &["approve", "request.json", "--yes", "--out", "approved.json"])
        .with(0)
        .says("asked for by the person themselves");
    host.accepts(&laptop.envelope("approved.json"));
    run(&laptop, &["lockdown", "--stack", "web", "--out", "lockdown.json"]).with(0);
    host.accepts(&laptop.envelope("lockdown.json"));
}

#[test]
fn a_key_of_the_agent_may_be_named_by_its_fingerprint_and_one_that_will_not_do_is_named() {
    let laptop = Laptop::new(None);
    laptop.sign_roster(&laptop.draft(1), "1");
    let fingerprint = |name: &str| laptop.key(name).fingerprint().to_string();
    let _agent = Agent::start(&laptop, &["frank", "bob"]);
    let allow =
        ["allow", "frank", "--stack", "web", "--account", "ubuntu", "--roster", "roster.json", "--out", "grant.json"];
    run(&laptop, &[&allow[..], &["--key", &fingerprint("bob")]].concat()).with(0);
    run(&laptop, &[&allow[..], &["--key", &fingerprint("frank")]].concat()).with(1).says("is no approver's key");
    run(&laptop, &[&allow[..], &["--key", &fingerprint("alice")]].concat()).with(1).says("ssh-agent has no key");
}

#[test]
fn where_no_roster_is_known_yet_and_several_keys_are_there_somebody_has_to_say_which() {
    let (liar, laptop) = Liar::start(1);
    let _agent = Agent::start(&laptop, &["frank", "alice"]);
    run(&laptop, &["status"]).with(1).says(laptop.key("alice").fingerprint().as_str()).says("name one with --key");
    assert_eq!(liar.count("POST /v1/sessions "), 0);
    let fingerprint = laptop.key("alice").fingerprint().to_string();
    run(&laptop, &["roster", "show", "--key", &fingerprint]).with(0);
    // Now the roster is known, and says whose these are.
    run(&laptop, &["allow", "frank", "--stack", "web", "--account", "ubuntu", "--wait", "0s"]).with(0);
}
