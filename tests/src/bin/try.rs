//! The main job of lockdownd, and what becomes of its records, before a reader's eyes, on a throwaway instance: what `packaging/try` runs.
//!
//! Every command shown is run, and what it prints is what it printed. Each outcome is checked: if one is not as promised,
//! this says so and ends with status 1. With `--clean` it only removes what an interrupted run left behind.

#[path = "try/stack.rs"]
mod stack;

use std::io::{self, BufRead, IsTerminal, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use instance_tests::{House, Key, Output, Release, built_compliance_api, remove_leftovers};

/// How long the short grant lasts that is watched to its end.
const SHORT: u64 = 12;
/// A connection is over within a second of its grant; this allows for a busy machine.
const CUT_LIMIT: Duration = Duration::from_secs(5);
/// An unauthorised key is gone in milliseconds; this allows for a busy machine.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// Records reach the server within a fraction of a second; this allows for a busy machine.
const SHIPPED_LIMIT: Duration = Duration::from_secs(30);

/// Verifies the newest record that the ledger holds, with stock tools alone.
const STOCK_VERIFY: &str = r#"cd "$(mktemp -d)"
ledger=$(ls /var/lib/lockdownd/ledger/*.jsonl | tail -n 1); host=$(tail -n 1 "$ledger" | jq -r .host)
echo "$host $(cat /var/lib/lockdownd/signing_key.pub)" >allowed_signers
tail -n 1 "$ledger" | jq -r .signature >record.sig
tail -n 1 "$ledger" | jq -cjS 'del(.signature)' |
    ssh-keygen -Y verify -n ssh-access-record -I "$host" -f allowed_signers -s record.sig"#;

/// The same for all records, in a copy: with the script of `docs/RECORDS.md`.
const STOCK_VERIFY_ALL: &str = r#"mkdir copy && cd copy && cp -r /var/lib/lockdownd/ledger .
export HOST=$(head -qn 1 ledger/*.jsonl | head -n 1 | jq -r .host)
echo "$HOST $(cat /var/lib/lockdownd/signing_key.pub)" >allowed_signers
sh ../verify.sh"#;

/// Changes one word in that copy and verifies it.
const FORGE: &str = r"sed -i '/grant.created/s/grace/frank/' copy/ledger/*.jsonl
lockdownctl verify --ledger copy/ledger";

/// What the newest removal says.
const KEY_REMOVED: &str = r"lockdownctl --json records --type key.removed | tail -n 1 |
    jq '{time, account, fingerprint, reason, stood_milliseconds: .detail.stood_milliseconds}'";

/// Lets this stack's instances bind their keys, by a token that root alone can read.
const ENROL: &str = "install -d -m 700 /etc/lockdownd/credentials
compliance-api token create --role enrol --stack web --uses 1 >/etc/lockdownd/credentials/enrolment-token";

/// Where records go from now on.
const SHIP: &str = "[host]\nstack = \"web\"\n[ship.syslog]\naddress = \"unix:/run/systemd/journal/syslog\"\n\
                    [ship.api]\nurl = \"http://127.0.0.1:8448\"\n";

/// What the server holds for one requirement, as an auditor reads it.
const EVIDENCE: &str = r#"compliance-api token create --role auditor --name ann >auditor
ask() { curl -fsS -H "Authorization: Bearer $(cat auditor)" "http://127.0.0.1:8448$1"; }
ask '/v1/requirements/164.312(a)(2)(i)' | jq '{reference, name, status, says,
    evidence: [.evidence[] | select(.artifacts > 0) | {types, relation, artifacts, last, does_not_show}]}'
ask '/v1/artifacts?requirement=164.312(d)&person=frank' | jq -r '.artifacts[-1].data | "\(.time) \(.reason)"'"#;

/// The server's receipts beside the ledger; then the same without the ledger's last three records.
const RECEIPTS: &str = r#"ask() { curl -fsS -H "Authorization: Bearer $(cat auditor)" "http://127.0.0.1:8448$1"; }
ask "/v1/receipts?host=$(tail -qn 1 /var/lib/lockdownd/ledger/*.jsonl | tail -n 1 | jq -r .host)" >receipts
curl -fsS http://127.0.0.1:8448/v1/server | jq -r .public_key >server.pub
lockdownctl verify --receipts receipts --server-key server.pub"#;
const CUT: &str = r#"rm -rf cut && cp -r /var/lib/lockdownd/ledger cut
last=$(ls cut/*.jsonl | tail -n 1) && head -n -3 "$last" >shorter && mv shorter "$last"
lockdownctl verify --ledger cut && lockdownctl verify --ledger cut --receipts receipts --server-key server.pub"#;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--clean") {
        remove_leftovers();
        return;
    }
    say("A throwaway Debian 13 boots (its root is made once and kept), with the package installed.");
    say("frank and grace have laptops and ssh keys; breakglass is the account for emergencies. Every command below is");
    say("run, what it prints is what it printed, and the walk ends with an error where a promise does not hold.");
    let house = House::observing(Release::Trixie);
    the_start(&house);
    refused(&house);
    allowed(&house);
    tampered(&house);
    expired(&house);
    recorded(&house);
    shipped(&house);
    stack::walk();
    offer_a_shell(&house);
    say("The instances are gone; nothing outside them was touched.");
}

fn the_start(house: &House) {
    step("As installed: it sees and records, and changes nothing");
    house.authorize("ubuntu", &house.frank);
    let key = house.frank.public();
    note(&format!("frank's key lies in ubuntu's home, as it always has: {}...", &key[..key.len().min(40)]));
    ssh(house, "frank", &house.frank, "ubuntu", true);
    inside(house, "lockdownctl plan");
    note("Now the configuration says enforce:");
    house.write("/etc/lockdownd/config.toml", house.config("enforce", ""));
    inside(house, "cut -c1-100 /etc/lockdownd/config.toml");
    demand("the configuration checks out", inside(house, "lockdownctl check").ok());
    inside(house, "systemctl reload lockdownd");
    house.await_mode("enforce");
    inside(house, "lockdownctl status");
}

fn refused(house: &House) {
    step("Refused: nobody has a grant");
    ssh(house, "frank", &house.frank, "ubuntu", false);
    note("The key is not in his home any more; it is kept in quarantine:");
    inside(house, "ls -lA /home/ubuntu/.ssh");
    note("A password that sshd accepts does not help either: the login gate asks for a grant.");
    inside(house, "echo ubuntu:correct-horse | chpasswd");
    let output = house.ssh("ubuntu").password("correct-horse").run("id -un");
    show_login("frank", "ubuntu", "web1", "id -un", &output);
    demand(
        "the right password is refused",
        !output.ok() && output.stderr.contains("lockdownd: login to ubuntu refused"),
    );
    note("But the break-glass account, whose every login is recorded as an emergency:");
    ssh(house, "breakglass", &house.breakglass, "breakglass", true);
}

fn allowed(house: &House) {
    step("Allowed, and in");
    let allow = "lockdownctl allow frank --account ubuntu --for 2h --reason INC-42";
    demand("the grant is given", inside(house, allow).ok());
    ssh(house, "frank", &house.frank, "ubuntu", true);
    note("grace has no grant: the account is open to frank's keys, and to nobody else's.");
    ssh(house, "grace", &house.grace, "ubuntu", false);
}

fn tampered(house: &House) {
    step("Tampered: a key is written where nobody granted one");
    let plant = format!("cd; mkdir -p .ssh; echo '{}' >.ssh/authorized_keys", house.grace.public());
    note(
        "grace, by some hole in a program, writes her key into frank's home, where sshd would look for it by default:",
    );
    println!("  frank@web1:~$ echo 'ssh-ed25519 AAAA... grace@laptop' >>.ssh/authorized_keys");
    demand("she can write there", house.run_as("frank", &plant).ok());
    let start = Instant::now();
    while house.exists("/home/frank/.ssh/authorized_keys") {
        demand("the key is gone soon", start.elapsed() < GONE_LIMIT);
        sleep(Duration::from_millis(1));
    }
    while !house.records_of("key.removed").iter().any(|record| record["account"] == "frank") {
        demand("it is on record soon", start.elapsed() < GONE_LIMIT);
        sleep(Duration::from_millis(50));
    }
    inside(house, "ls -lA /home/frank/.ssh");
    inside(house, "lockdownctl quarantine list");
    note("On record, with the key's fingerprint and how long it stood there:");
    let removed = inside(house, KEY_REMOVED);
    demand("the record names her key", removed.stdout.contains(&house.grace.fingerprint()));
    ssh(house, "grace", &house.grace, "frank", false);
}

fn expired(house: &House) {
    step("Expired: the key stops working and the connection is cut off");
    let allow = format!("lockdownctl allow grace --account ubuntu --for {SHORT}s --reason 'a short look'");
    let start = Instant::now();
    demand("the grant is given", inside(house, &allow).ok());
    let mut client = house.ssh("ubuntu").key(&house.grace).stay();
    note("grace is logged in, and so is frank by his own grant:");
    let mut bystander = house.ssh("ubuntu").key(&house.frank).stay();
    inside(house, "lockdownctl sessions");
    let left = Duration::from_secs(SHORT).saturating_sub(start.elapsed());
    note(&format!("{:.0} s until her grant ends ...", left.as_secs_f32()));
    client.ended_within(left + CUT_LIMIT);
    println!("  cut off after {:.1} s:\n{}", start.elapsed().as_secs_f32(), indented(&quiet(&client.stderr())));
    demand("frank's connection lives on", bystander.is_alive());
    note("frank's connection lives on. Hers is refused from now on:");
    ssh(house, "grace", &house.grace, "ubuntu", false);
}

fn recorded(house: &House) {
    step("Recorded: signed, chained, and verified with stock tools");
    inside(house, "journalctl -u lockdownd SYSLOG_FACILITY=10 -o cat --no-pager | tail -n 12");
    inside(house, "lockdownctl records --person grace");
    demand("the ledger verifies", inside(house, "lockdownctl verify").ok());
    note("The newest record, with nothing but jq and ssh-keygen:");
    let verified = inside(house, STOCK_VERIFY);
    demand("ssh-keygen finds the signature good", verified.stdout.contains("Good \"ssh-access-record\" signature"));
    note("All of them and their order, by the script in docs/RECORDS.md (jq, cmp, sha256sum, ssh-keygen):");
    let script =
        include_str!("../../../docs/RECORDS.md").split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    house.write("/root/verify.sh", script.expect("docs/RECORDS.md has the script"));
    demand("stock tools verify the ledger", inside(house, STOCK_VERIFY_ALL).ok());
    note("And if somebody puts frank's name in the place of hers, in one record?");
    demand("the forgery is found", !inside(house, FORGE).ok());
}

fn shipped(house: &House) {
    step("Shipped: the records leave the host, and are kept as evidence");
    note(
        "In earnest the compliance API runs on a machine of its own, behind TLS; here it comes up on the same instance:",
    );
    println!("  root@web1:~# apt install ./compliance-api_*.deb");
    let installed = house.install(&built_compliance_api());
    print!("{}", indented(&installed.stdout));
    demand("the compliance API is installed", installed.ok());
    inside(house, ENROL);
    house.write("/etc/lockdownd/config.toml", house.config("enforce", SHIP));
    inside(house, "tail -n 7 /etc/lockdownd/config.toml");
    inside(house, "systemctl restart lockdownd-shipper && systemctl reload lockdownd");
    let start = Instant::now();
    let all_sent = || house.ctl("status").stdout.lines().any(|l| l.contains(" api ") && l.contains("all sent"));
    while !all_sent() {
        demand("the server acknowledges the records soon", start.elapsed() < SHIPPED_LIMIT);
        sleep(Duration::from_millis(100));
    }
    inside(house, "lockdownctl status");
    note(
        "An auditor asks who is behind each login (HIPAA, unique user identification), and reads one record of frank's:",
    );
    let evidence = inside(house, EVIDENCE);
    demand("the requirement is served by what just happened", evidence.stdout.contains("session.opened"));
    note("The server's signed receipts, held against the ledger on the host:");
    demand("the ledger is what the server has", inside(house, RECEIPTS).ok());
    note("And if root cut the last three records off? The ledger alone does not show it; the receipts do:");
    let cut = inside(house, CUT);
    demand("the cut is found", !cut.ok() && cut.stdout.contains("good: ") && cut.stdout.contains("WRONG: "));
}

fn offer_a_shell(house: &House) {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return;
    }
    step("Your turn");
    let ssh = |account: &str, key: &Key| {
        note(&format!("  sudo nsenter -n -t {} ssh -i {} {account}@127.0.0.1", house.leader(), key.path().display()));
    };
    note("In another terminal you are frank and grace:");
    ssh("ubuntu", &house.frank);
    ssh("ubuntu", &house.grace);
    print!("A root shell inside the instance? [Y/n] ");
    // Without a terminal to write to there is nobody to ask.
    let _ = io::stdout().flush();
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).is_ok_and(|read| read > 0) && !answer.trim().eq_ignore_ascii_case("n")
    {
        note("Try: lockdownctl status, plan, allow, revoke, lockdown, records. `exit` ends it all.");
        house.shell();
    }
}

/// Logs in as `who` with their key and shows it; `welcome` says how it has to end.
fn ssh(house: &House, who: &str, key: &Key, account: &str, welcome: bool) {
    let command = "id -un; date -u +%T";
    let output = house.ssh(account).key(key).run(command);
    show_login(who, account, "web1", command, &output);
    demand(if welcome { "this login succeeds" } else { "this login is refused" }, output.ok() == welcome);
}

/// Shows a login as its terminal would.
fn show_login(who: &str, account: &str, host: &str, command: &str, output: &Output) {
    println!("  {who}@laptop:~$ ssh {account}@{host} '{command}'");
    print!("{}{}", indented(&output.stdout), indented(&quiet(&output.stderr)));
    println!("    (status {})", output.status);
}

/// Runs a command inside as root and shows it.
fn inside(house: &House, command: &str) -> Output {
    println!("  root@web1:~# {}", command.replace('\n', "\n    "));
    let output = house.run(command);
    print!("{}{}", indented(&output.stdout), indented(&output.stderr));
    output
}

/// What ssh says, less what it says to everybody who keeps no known_hosts.
fn quiet(said: &str) -> String {
    said.lines()
        .filter(|line| !line.starts_with("Warning: Permanently added") && !line.trim().is_empty())
        .map(|line| format!("{line}\n"))
        .collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn say(text: &str) {
    println!("{text}");
}

fn step(title: &str) {
    println!("\n== {title}");
}

fn note(text: &str) {
    println!("  {text}");
}

/// Ends the walk, unsuccessfully and with the instance removed, unless what was promised holds.
fn demand(promise: &str, holds: bool) {
    assert!(holds, "not as promised: {promise}");
}
