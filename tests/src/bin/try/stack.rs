//! A stack in one command: three instances and a server.

use std::time::{Duration, Instant};

use document::{Envelope, Grant};
use instance_tests::{Client, Company, House, Key, Output, Stack};

use crate::{CUT_LIMIT, demand, indented, note, quiet, show_login, step};

/// What is recorded of refused documents is summed up by the minute.
const ON_RECORD: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);
/// The grant that was accepted, put together from its record.
const RECORDED: &str = r#"cat /var/lib/lockdownd/ledger/*.jsonl | jq -c 'select(.type == "document.accepted" and .detail.kind == "grant").detail |
    {document: (.line | add), signatures: [.signatures[] | "-----BEGIN SSH SIGNATURE-----\n" + ([add | match(".{1,70}"; "g").string] | join("\n")) +
    "\n-----END SSH SIGNATURE-----\n"]}'"#;

/// The walk.
pub(crate) fn walk() {
    step("A stack in one command: three instances, a server, and a laptop");
    note(
        "web1 to web3, Debian 12 and 13, boot on a network of their own with a compliance API. The ceo signs who there is;",
    );
    note("alice and bob approve. The instances are told that they joined an hour ago: in its first two minutes a host");
    note("takes no grant, since it cannot know what was revoked before.");
    let stack = Stack::boot(3);
    let company = &stack.company;
    note("frank is in the roster, and nobody has approved anything:");
    frank_at_each(&stack, false);

    step("Allowed everywhere, by one command on a laptop");
    let allow = "allow frank --stack web --account ubuntu --for 2h --reason INC-42";
    demand("every host grants it", lockdown(&stack, "alice", &company.alice, allow).ok());
    frank_at_each(&stack, true);
    lockdown(&stack, "alice", &company.alice, "who frank");

    step("Cut off everywhere, by one command");
    let mut sessions: Vec<Client> =
        stack.hosts.iter().map(|host| host.ssh("ubuntu").key(&company.frank).stay()).collect();
    note("frank is logged in on all three.");
    let withheld = company.signed(company.grant("ubuntu", HOUR), &[&company.alice]);
    let cut = cut_off(&stack, &mut sessions);
    note(&format!("The last session was over {:.2} s after the command began.", cut.as_secs_f32()));
    demand("that is soon", cut < CUT_LIMIT);
    frank_at_each(&stack, false);

    step("Forged and replayed: refused, on record");
    refused(&stack, &withheld);
}

/// Logs frank in to each host, and shows it.
fn frank_at_each(stack: &Stack, welcome: bool) {
    for (number, host) in stack.hosts.iter().enumerate() {
        let output = host.ssh("ubuntu").key(&stack.company.frank).run("id -un");
        show_login("frank", "ubuntu", &format!("web{}", number + 1), "id -un", &output);
        demand(if welcome { "this login succeeds" } else { "this login is refused" }, output.ok() == welcome);
    }
}

/// Runs the client on somebody's laptop, and shows it.
fn lockdown(stack: &Stack, who: &str, key: &Key, args: &str) -> Output {
    println!("  {who}@laptop:~$ lockdown {args}");
    let output = stack.lockdown(key, args);
    print!("{}{}", indented(&quiet(&output.stderr)), indented(&output.stdout));
    output
}

/// Locks the stack down, and says after how long the last session was over.
fn cut_off(stack: &Stack, sessions: &mut [Client]) -> Duration {
    let begun = Instant::now();
    let (output, cut) = std::thread::scope(|scope| {
        let args = "lockdown --stack web --reason incident";
        let command = scope.spawn(|| lockdown(stack, "bob", &stack.company.bob, args));
        while sessions.iter_mut().any(Client::is_alive) {
            demand("every session ends", begun.elapsed() < CUT_LIMIT);
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = begun.elapsed();
        (command.join().expect("it ends"), cut)
    });
    demand("every host is locked down", output.ok());
    cut
}

fn refused(stack: &Stack, withheld: &Envelope) {
    let (company, host) = (&stack.company, &stack.hosts[0]);
    note("A grant that mallory has signed, as any carrier could bring it, and one that frank has signed for himself:");
    let lockdown: Option<document::Id> = host
        .records_of("document.accepted")
        .pop()
        .and_then(|record| record["detail"]["document"].as_str()?.parse().ok());
    let forged = |by: &Key| {
        company.signed(Grant { after: lockdown.into_iter().collect(), ..company.grant("ubuntu", HOUR) }, &[by])
    };
    for by in [&company.mallory, &company.frank] {
        demand("it is refused", !apply(company, host, &forged(by)).ok());
    }
    note("One that alice has signed before the lockdown, and that somebody has held back until now:");
    demand("it is refused", !apply(company, host, withheld).ok());
    note("And the very document that let him in before, once more:");
    let replayed = Envelope::parse(host.sh(RECORDED).as_bytes()).expect("the record has the whole document");
    apply(company, host, &replayed);
    frank_at_each(stack, false);
    let begun = Instant::now();
    while host.records_of("document.refused").len() < 2 {
        demand("it is on record", begun.elapsed() < ON_RECORD);
        std::thread::sleep(Duration::from_millis(200));
    }
    let show = "lockdownctl records --type document.refused --type document.accepted";
    println!("  root@web1:~# {show}");
    print!("{}", indented(&host.sh(show)));
}

/// Applies a document as root, and shows it.
fn apply(company: &Company, host: &House, envelope: &Envelope) -> Output {
    host.copy_in(&company.file(envelope), "/root/document.json");
    println!("  root@web1:~# lockdownctl apply document.json");
    let output = host.ctl("apply /root/document.json");
    print!("{}{}", indented(&output.stdout), indented(&output.stderr));
    output
}
