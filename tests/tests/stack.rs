//! A stack in one command: documents that approvers sign on a laptop open and close every host of a stack, through a server
//! or by hand, and nothing else does. On real instances of both releases, on one network, with a real server.

use std::thread;
use std::time::{Duration, Instant};

use document::{Document, Envelope, Grant};
use instance_tests::{Client, Device, House, Output, Release, Stack, eventually, step};
use serde_json::Value;

/// What a document may take to be in force on a busy machine; it takes well under a second.
const SOON: Duration = Duration::from_secs(40);
/// From the start of `lockdown lockdown` to the end of the last session: promised within a second, on a quiet machine.
const CUT_LIMIT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
/// How much later than `accept_until` a host still takes a grant, for clocks that differ.
const SKEW: Duration = Duration::from_secs(120);

/// Whether frank gets in.
fn gets_in(stack: &Stack, host: &House) -> bool {
    host.ssh("ubuntu").key(&stack.company.frank).login()
}

/// Waits until frank gets in.
#[track_caller]
fn comes_in(stack: &Stack, host: &House) {
    eventually("frank gets in", SOON, || gets_in(stack, host));
}

/// A document's record of this type.
fn record_of(host: &House, artifact: &str, envelope: &Envelope) -> Option<Value> {
    let id = envelope.document().id().to_string();
    host.records_of(artifact).into_iter().find(|record| record["detail"]["document"] == id)
}

/// Waits until a host has refused a document, on record, and says why.
#[track_caller]
fn refuses(host: &House, envelope: &Envelope) -> Value {
    eventually("it is refused", SOON, || record_of(host, "document.refused", envelope).is_some());
    record_of(host, "document.refused", envelope).expect("just seen")
}

/// Lays a file beside `lockdownctl apply` on a host, as root, and applies it.
fn apply(host: &House, envelope: &str) -> Output {
    host.write("/root/document.json", envelope);
    host.ctl("apply /root/document.json")
}

/// Starts a lockdown, and says after how long the last of these sessions was over.
fn cut_by(stack: &Stack, args: &str, sessions: &mut [Client]) -> (Output, Duration) {
    let begun = Instant::now();
    thread::scope(|scope| {
        let command = scope.spawn(|| stack.lockdown(&stack.company.bob, args));
        while sessions.iter_mut().any(Client::is_alive) {
            assert!(begun.elapsed() < CUT_LIMIT, "a session goes on after {:?}", begun.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        let cut = begun.elapsed();
        (command.join().expect("it ends"), cut)
    })
}

#[test]
fn a_stack_is_allowed_host_by_host_and_locked_down_with_one_command() {
    let stack = Stack::boot(5);
    let company = &stack.company;
    step("nobody gets in");
    assert!(stack.hosts.iter().all(|host| !gets_in(&stack, host)));

    step("one command, and frank is in everywhere");
    let allowed = stack.lockdown(&company.alice, "allow frank --stack web --account ubuntu --for 2h --reason INC-42");
    assert_eq!(allowed.status, 0, "{allowed}");
    for (number, host) in stack.hosts.iter().enumerate() {
        let name = format!("web{}", number + 1);
        assert!(allowed.stdout.lines().any(|line| line.contains(&name) && line.contains("granted")), "{allowed}");
        // The command has waited for each host: no more waiting here.
        assert!(gets_in(&stack, host), "{name}");
        let created = host.records_of("grant.created").pop().expect("one");
        assert_eq!(created["person"], "frank", "{created}");
        assert_eq!(created["detail"]["approvers"], serde_json::json!(["alice"]), "{created}");
        assert_eq!(created["detail"]["why"], "INC-42", "{created}");
        assert!(!host.ssh("ubuntu").key(&company.grace).login(), "grace has no grant");
    }

    step("one command, and he is out everywhere");
    let mut sessions: Vec<Client> =
        stack.hosts.iter().map(|host| host.ssh("ubuntu").key(&company.frank).stay()).collect();
    let (output, cut) = cut_by(&stack, "lockdown --stack web --reason incident", &mut sessions);
    println!("the last session was cut {cut:?} after the command began");
    assert_eq!(output.status, 0, "{output}");
    for host in &stack.hosts {
        assert!(!gets_in(&stack, host));
        let ended = host.records_of("grant.ended").pop().expect("one");
        assert_eq!(ended["person"], "frank", "{ended}");
        host.ctl("verify").expect_ok();
    }

    step("and by another command in again");
    let again = stack.lockdown(&company.alice, "allow frank --stack web --account ubuntu --for 1h --reason INC-43");
    assert_eq!(again.status, 0, "{again}");
    assert!(stack.hosts.iter().all(|host| gets_in(&stack, host)));
}

#[test]
fn a_host_that_is_down_is_named_and_takes_the_grant_when_it_is_back_in_time_and_no_later() {
    let stack = Stack::boot(2);
    let company = &stack.company;
    step("one host is down");
    stack.connect(1, false);
    let late = company.signed(company.grant("ubuntu", Duration::from_secs(5)), &[&company.alice]);
    let issued = Instant::now();
    stack.publish(&late);
    Stack::accepts(&stack.hosts[0], &late);
    let allowed =
        stack.lockdown(&company.alice, "allow frank --stack web --account ubuntu --for 2h --reason INC-42 --wait 5s");
    assert_eq!(allowed.status, 3, "{allowed}");
    assert!(allowed.stdout.contains("web2"), "{allowed}");
    assert!(gets_in(&stack, &stack.hosts[0]) && !gets_in(&stack, &stack.hosts[1]));

    step("it comes back: too late for the one grant, in time for the other");
    thread::sleep((SKEW + Duration::from_secs(10)).saturating_sub(issued.elapsed()));
    stack.connect(1, true);
    let refused = refuses_within(&stack.hosts[1], &late, 3 * SOON);
    assert_eq!(refused["detail"]["code"], "too_late", "{refused}");
    comes_in(&stack, &stack.hosts[1]);
}

/// As [`refuses`], for a host that has to find the network again.
#[track_caller]
fn refuses_within(host: &House, envelope: &Envelope, limit: Duration) -> Value {
    eventually("it is refused", limit, || record_of(host, "document.refused", envelope).is_some());
    refuses(host, envelope)
}

#[test]
fn a_hold_outlives_reboots_and_only_a_lift_ends_it() {
    let mut stack = Stack::boot(2);
    let grant = stack.company.signed(stack.company.grant("ubuntu", HOUR), &[&stack.company.alice]);
    stack.publish(&grant);
    stack.hosts.iter().for_each(|host| comes_in(&stack, host));

    step("a laptop is stolen");
    let hold = stack.company.signed(stack.company.lockdown(Some("frank"), true), &[&stack.company.bob]);
    stack.publish(&hold);
    for host in &stack.hosts {
        Stack::accepts(host, &hold);
        assert!(!gets_in(&stack, host));
    }
    stack.reboot(0);
    stack.power_cut(1);
    for host in &stack.hosts {
        assert!(!gets_in(&stack, host));
        // Neither a document nor an operator on the host opens to who is held.
        let operator = host.ctl("allow frank --account ubuntu --for 1h --reason test");
        assert!(!operator.ok(), "{operator}");
    }
    let held = stack.company.signed(stack.company.grant("ubuntu", HOUR), &[&stack.company.alice]);
    for host in &stack.hosts {
        let answer = apply(host, &held.to_json());
        assert!(!answer.ok() && answer.to_string().contains("held") || answer.to_string().contains("hold"), "{answer}");
        assert!(!gets_in(&stack, host));
    }

    step("the lift");
    // As many as the strictest rule in its scope asks for.
    let alone = stack.company.signed(stack.company.lift(hold.document().id()), &[&stack.company.alice]);
    assert!(!stack.post(&alone).ok());
    let lift =
        stack.company.signed(stack.company.lift(hold.document().id()), &[&stack.company.alice, &stack.company.bob]);
    stack.publish(&lift);
    stack.hosts.iter().for_each(|host| Stack::accepts(host, &lift));
    assert!(stack.hosts.iter().all(|host| !gets_in(&stack, host)), "what it had ended stays ended");
    let allowed =
        stack.lockdown(&stack.company.alice, "allow frank --stack web --account ubuntu --for 1h --reason back");
    assert_eq!(allowed.status, 0, "{allowed}");
    assert!(stack.hosts.iter().all(|host| gets_in(&stack, host)));
}

#[test]
fn without_a_server_a_file_and_lockdownctl_apply_do_the_same() {
    let mut stack = Stack::boot_without_roster(2);
    stack.stop_server();
    let company = &stack.company;
    let roster = company.signed(company.roster(1), &[&company.ceo]);
    let grant = company.signed(company.grant("ubuntu", HOUR), &[&company.alice]);
    stack.hosts.iter().for_each(Stack::age);
    for host in &stack.hosts {
        step("a grant without a roster waits, and opens nothing");
        let answer = apply(host, &grant.to_json());
        assert!(!answer.ok() && answer.to_string().contains("roster"), "{answer}");
        assert!(!gets_in(&stack, host));
        apply(host, &roster.to_json()).expect_ok();
    }
    step("what `lockdown allow --out` wrote opens, and what `lockdown lockdown --out` wrote closes");
    let (roster_file, dir) = (company.file(&roster), stack.hosts[0].scratch());
    let (allow, close) = (dir.join("allow.json"), dir.join("close.json"));
    let written = stack.lockdown(
        &company.alice,
        &format!(
            "allow frank --stack web --account ubuntu --for 2h --reason INC-42 --roster {} --out {}",
            roster_file.display(),
            allow.display()
        ),
    );
    assert_eq!(written.status, 0, "{written}");
    let allow = std::fs::read_to_string(&allow).expect("it was written");
    for host in &stack.hosts {
        apply(host, &allow).expect_ok();
        assert!(gets_in(&stack, host));
        // Twice is once.
        let again = apply(host, &allow);
        assert!(again.to_string().contains("known") || again.to_string().contains("already"), "{again}");
    }
    let written =
        stack.lockdown(&company.bob, &format!("lockdown --stack web --reason incident --out {}", close.display()));
    assert_eq!(written.status, 0, "{written}");
    let close = std::fs::read_to_string(&close).expect("it was written");
    for host in &stack.hosts {
        let mut session = host.ssh("ubuntu").key(&company.frank).stay();
        apply(host, &close).expect_ok();
        session.ended_within(CUT_LIMIT);
        assert!(!gets_in(&stack, host));
        // What was allowed before is worth nothing after it.
        assert!(!apply(host, &allow).ok() || !gets_in(&stack, host));
        assert!(!gets_in(&stack, host));
    }
}

#[test]
fn without_a_stack_no_document_is_accepted() {
    for release in Release::ALL {
        let host = House::enforcing_with(release, "[host]\nname = \"web1\"\nstack = \"web\"\n");
        let company = instance_tests::Company::found(&host.scratch());
        let documents = [
            company.signed(company.roster(1), &[&company.ceo]),
            company.signed(company.grant("ubuntu", HOUR), &[&company.alice]),
            company.signed(company.lockdown(None, false), &[&company.alice]),
        ];
        for document in &documents {
            let answer = apply(&host, &document.to_json());
            assert!(!answer.ok() && answer.to_string().contains("[stack]"), "{answer}");
        }
        assert!(host.records_of("document.accepted").is_empty());
        assert!(!host.ssh("ubuntu").key(&company.frank).login());
        assert!(!host.exists("/run/lockdownd/inbox.json"));
        let ship = host.sh("cat /run/lockdownd/ship.json");
        assert!(!ship.contains("stack"), "{ship}");
    }
}

#[test]
fn forged_and_replayed_documents_are_refused_on_record_whoever_brings_them() {
    let mut stack = Stack::boot(2);
    let grant = stack.company.signed(stack.company.grant("ubuntu", HOUR), &[&stack.company.alice]);
    stack.publish(&grant);
    stack.hosts.iter().for_each(|host| comes_in(&stack, host));
    let lockdown = stack.company.signed(stack.company.lockdown(None, false), &[&stack.company.bob]);
    stack.publish(&lockdown);
    stack.hosts.iter().for_each(|host| Stack::accepts(host, &lockdown));
    stack.stop_server();
    let company = &stack.company;

    step("what nobody may sign, signed for another document, or for themselves");
    // Each knows of the lockdown, which is no reason to refuse it.
    let fresh = |account: &str| Grant { after: [lockdown.document().id()].into(), ..company.grant(account, HOUR) };
    let forged = |name: &str| match name {
        "by nobody" => company.signed(fresh("ubuntu"), &[&company.mallory]),
        "by frank himself" => company.signed(fresh("ubuntu"), &[&company.frank]),
        "by one where two are asked for" => company.signed(fresh("deploy"), &[&company.alice]),
        "by one twice" => company.signed(fresh("deploy"), &[&company.alice, &company.alice]),
        _ => {
            // The signatures of the grant before, over another line.
            let document = Document::new(fresh("ubuntu")).expect("a good document");
            Envelope::new(document, grant.signatures().to_vec()).expect("a good envelope")
        }
    };
    let kinds = ["by nobody", "by frank himself", "by one where two are asked for", "by one twice", "signed otherwise"];
    for host in &stack.hosts {
        for kind in kinds {
            let document = forged(kind);
            // As if the server had brought it: what lies in the inbox is the shipper's.
            let file = format!("/var/lib/lockdownd-shipper/inbox/{}.json", document.document().id());
            host.write("/root/forged", document.to_json());
            host.sh(&format!(
                "install -o _lockdownd -g _lockdownd -m 640 /root/forged {file}.new && mv {file}.new {file}"
            ));
            let said =
                |host: &House| host.sh("cat /run/lockdownd/inbox.json").contains(&document.document().id().to_string());
            eventually("the daemon has looked at it", SOON, || said(host));
            let answer = apply(host, &document.to_json());
            assert!(!answer.ok(), "{kind}: {answer}");
            assert!(!gets_in(&stack, host), "{kind}");
        }
        // Who is not known is summed up by the minute, so that nobody floods the ledger.
        let codes = |host: &House| {
            host.records_of("document.refused").iter().any(|record| record["detail"]["code"] == "approvals")
        };
        eventually("it is on record", 2 * SOON, || codes(host));
    }

    step("what was good before the lockdown");
    for host in &stack.hosts {
        for document in [&grant, &lockdown] {
            let _ = apply(host, &document.to_json());
        }
        host.sh("systemctl restart lockdownd");
        host.await_mode("enforce");
        let _ = apply(host, &grant.to_json());
        assert!(!gets_in(&stack, host));
        host.ctl("verify").expect_ok();
    }
}

/// What `lockdown --json requests` lists.
fn requests(stack: &Stack) -> Vec<Value> {
    let listed = stack.lockdown(&stack.company.alice, "--json requests --stack web").expect_ok();
    serde_json::from_str(&listed).unwrap_or_else(|e| panic!("not JSON ({e}): {listed}"))
}

#[test]
fn what_takes_two_takes_two_different_people_and_never_the_one_it_is_for() {
    let stack = Stack::boot(2);
    let company = &stack.company;
    let deploys = |host: &House| host.ssh("deploy").key(&company.frank).login();
    stack.hosts.iter().for_each(|host| host.useradd("deploy"));
    step("frank asks");
    let asked = stack.lockdown(&company.frank, "request --stack web --account deploy --for 2h --reason INC-7");
    assert_eq!(asked.status, 0, "{asked}");
    let waiting = requests(&stack);
    assert_eq!((waiting.len(), &waiting[0]["person"]), (1, &Value::from("frank")), "{waiting:?}");
    let id = waiting[0]["id"].as_str().expect("an id").to_owned();
    let approve = |by| stack.lockdown(by, &format!("approve {id} --wait 10s"));

    step("nobody approves for themselves, and one person is one, however often");
    let own = approve(&company.frank);
    assert!(!own.ok(), "{own}");
    let first = approve(&company.alice);
    assert_eq!(first.status, 3, "{first}");
    assert!(!approve(&company.alice).ok());
    assert!(stack.hosts.iter().all(|host| !deploys(host) && host.records_of("grant.created").is_empty()));

    step("two are two");
    let second = approve(&company.bob);
    assert_eq!(second.status, 0, "{second}");
    for host in &stack.hosts {
        assert!(deploys(host));
        let created = host.records_of("grant.created").pop().expect("one");
        assert_eq!(created["detail"]["approvers"], serde_json::json!(["alice", "bob"]), "{created}");
    }
    assert!(requests(&stack).is_empty());

    step("and no is no");
    stack.lockdown(&company.frank, "request --stack web --account deploy --for 1h --reason INC-8").expect_ok();
    let id = requests(&stack)[0]["id"].as_str().expect("an id").to_owned();
    let denied = stack.lockdown(&company.bob, &format!("deny {id} --reason no"));
    assert_eq!(denied.status, 0, "{denied}");
    assert!(requests(&stack).is_empty() && !stack.lockdown(&company.alice, &format!("approve {id}")).ok());
}

#[test]
fn a_signature_by_a_security_device_opens_nothing_unless_it_was_touched() {
    let stack = Stack::boot_without_roster(1);
    let (company, host) = (&stack.company, &stack.hosts[0]);
    let device = Device::plug_in(&host.scratch(), "alice", "ed25519-sk");
    let roster = company.signed(company.roster_with(1, &device), &[&company.ceo]);
    stack.publish(&roster);
    Stack::accepts(host, &roster);
    Stack::age(host);
    step("not touched: neither by file nor by the server");
    let untouched = company.signed_with(company.grant("ubuntu", HOUR), device.is(false, false));
    assert!(!stack.post(&untouched).ok());
    let answer = apply(host, &untouched.to_json());
    assert!(!answer.ok() && !gets_in(&stack, host), "{answer}");
    let client = stack.lockdown_with(&device, "allow frank --stack web --account ubuntu --for 1h --reason x");
    assert!(!client.ok() && !gets_in(&stack, host), "{client}");
    step("a plain key, where the rule asks for a device");
    let plain = company.signed(company.grant("ubuntu", HOUR), &[&company.bob]);
    assert!(!apply(host, &plain.to_json()).ok() && !gets_in(&stack, host));
    step("touched");
    device.is(true, false);
    let client = stack.lockdown_with(&device, "allow frank --stack web --account ubuntu --for 1h --reason INC-9");
    assert_eq!(client.status, 0, "{client}");
    assert!(gets_in(&stack, host));
}

#[test]
fn a_host_that_was_away_takes_what_closes_before_it_lets_anybody_in() {
    let mut stack = Stack::boot(2);
    step("web2 is away while frank leaves and grace joins in");
    stack.connect(1, false);
    let hold = stack.company.signed(stack.company.lockdown(Some("frank"), true), &[&stack.company.bob]);
    stack.publish(&hold);
    // Signed by somebody who does not know of the hold, and by somebody who does.
    let unaware = stack.company.signed(stack.company.grant("ubuntu", HOUR), &[&stack.company.alice]);
    let for_grace = stack.company.signed(stack.company.grant_to_grace("ubuntu", HOUR), &[&stack.company.alice]);
    assert!(!stack.post(&unaware).ok());
    stack.publish(&for_grace);
    stack.power_cut(1);
    let host = &stack.hosts[1];
    eventually("grace gets in", 2 * SOON, || host.ssh("ubuntu").key(&stack.company.grace).login());
    assert!(record_of(host, "document.accepted", &hold).is_some(), "what closes came first");
    let answer = apply(host, &unaware.to_json());
    assert!(!answer.ok() && !gets_in(&stack, host), "{answer}");
    let operator = host.ctl("allow frank --account ubuntu --for 1h --reason test");
    assert!(!operator.ok(), "{operator}");
}
