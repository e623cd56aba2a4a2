//! What sshd's log tells: every login and every failure on record once, whatever is restarted meanwhile; nobody past the
//! gate unseen; and nothing that an ordinary user can write makes a record.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{Client, House, Instance, eventually, on_each_release};
use serde_json::Value;

/// How long after sshd's line somebody past the gate may stay: journald gives it on after half a second at most.
const FOUND: Duration = Duration::from_millis(2_500);
/// What the daemon may take to act on what nobody waits for.
const SOON: Duration = Duration::from_secs(30);
/// Logins and failures of each client at a time.
const AT_ONCE: usize = 36;
/// How many rounds of them.
const ROUNDS: usize = 10;

/// What the log's records say, by source address: connections that failed.
fn failures(house: &Instance) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut add = |address: &Value, count: u64| {
        *found.entry(address.as_str().unwrap_or("").to_owned()).or_default() += count;
    };
    for record in house.records_of("login.failed") {
        let detail = &record["detail"];
        match detail["sources"].as_array() {
            Some(sources) => {
                sources.iter().for_each(|one| add(&one["address"], one["count"].as_u64().expect("a count")))
            }
            None => add(&record["source"]["address"], 1),
        }
    }
    found
}

fn count_of(house: &Instance, artifact: &str) -> usize {
    house.records_of(artifact).len()
}

/// A second sshd, past PAM and so past the gate, on this port.
fn second_sshd(house: &House, port: u16, more: &str) {
    house.sh(&format!(
        "mkdir -p /etc/ssh/second && printf 'Port {port}\nPidFile none\nUsePAM no\nAuthorizedKeysFile /etc/ssh/second/%%u\n{more}\n' \
         >/etc/ssh/second/config && printf '%s\n' '{}' >/etc/ssh/second/ubuntu && \
         printf '%s\n' '{}' >/etc/ssh/second/breakglass && systemd-run -q --unit ssh-second /usr/sbin/sshd -D -f /etc/ssh/second/config",
        house.frank.public(),
        house.breakglass.public(),
    ));
    let open = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 4 <&3'");
    eventually("the second sshd listens", SOON, || house.run(&open).ok());
}

/// Records with this in `detail.past_gate`.
fn past_gate(house: &Instance, artifact: &str) -> Vec<Value> {
    let mut records = house.records_of(artifact);
    records.retain(|record| record["detail"]["past_gate"] == true);
    records
}

on_each_release! {
    fn every_login_and_failure_is_on_record_once_whatever_is_restarted_meanwhile(release) {
        let house = House::enforcing(release);
        house.sh("printf 'PasswordAuthentication yes\nMaxStartups 200\nPerSourceMaxStartups none\n' >/etc/ssh/sshd_config.d/10-test.conf");
        if house.run("sshd -T -o PerSourcePenalties=no").ok() {
            house.sh("echo 'PerSourcePenalties no' >>/etc/ssh/sshd_config.d/10-test.conf");
        }
        house.sh("sshd -t && systemctl reload ssh && echo ubuntu:right | chpasswd");
        house.allow("frank --account ubuntu --for 1h");
        // What was asked of sshd before is not of this count.
        let before = failures(&house);
        let opened = count_of(&house, "session.opened");

        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        let mut logins = 0;
        let disturbances = ["systemctl restart lockdownd", "journalctl --rotate", "systemctl restart systemd-journald",
            "systemctl kill -s KILL lockdownd"];
        for round in 0..ROUNDS {
            let mut clients: Vec<(String, bool, bool, Client)> = Vec::new();
            for n in 0..AT_ONCE {
                let source = format!("127.77.0.{}", n + 1);
                let from = |account: &str| house.ssh(account).from(&source);
                let client = match n % 6 {
                    0 | 1 => (source.clone(), true, false, from("ubuntu").key(&house.frank).spawn("true")),
                    2 => (source.clone(), false, false, from("ubuntu").key(&house.grace).spawn("true")),
                    3 => (source.clone(), false, false, from("nobody-knows port 7 ssh2").key(&house.grace).spawn("true")),
                    4 => (source.clone(), false, false, from("ubuntu").password("wrong").spawn("true")),
                    _ => (source.clone(), false, true, from("ubuntu").password("wrong").spawn("true")),
                };
                clients.push(client);
            }
            if round % 2 == 1 {
                house.sh(disturbances[round / 2 % disturbances.len()]);
            }
            // Some are killed midway: at the password prompt's answer, which takes PAM two seconds.
            thread::sleep(Duration::from_millis(700));
            for (source, gets_in, is_killed, mut client) in clients {
                if !is_killed {
                    client.ended_within(SOON);
                    assert_eq!(client.output().status == 0, gets_in, "{}", client.output());
                }
                drop(client);
                if gets_in { logins += 1 } else { *expected.entry(source).or_default() += 1 }
            }
        }

        let told = || {
            let mut now = failures(&house);
            before.iter().for_each(|(address, count)| *now.entry(address.clone()).or_default() -= count);
            now.retain(|_, count| *count > 0);
            now
        };
        let start = Instant::now();
        while told() != expected && start.elapsed() < Duration::from_secs(90) {
            thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(told(), expected, "what the log's records say, and what the clients say");
        assert_eq!(count_of(&house, "session.opened") - opened, logins);
        assert!(past_gate(&house, "session.opened").is_empty() && count_of(&house, "journal.gap") == 0);
        // And it stays so: nothing comes a second time.
        house.sh("systemctl restart lockdownd");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(told(), expected);
        let text = house.sh("cat /var/lib/lockdownd/ledger/*.jsonl /var/lib/lockdownd/log.json");
        assert!(!text.contains("nobody-knows"), "an unknown name is kept as a hash");
        house.ctl("verify").expect_ok();
    }

    fn who_gets_in_past_the_gate_is_found_put_on_record_and_ended_within_a_second_or_so(release) {
        let house = House::enforcing(release);
        house.allow("grace --account ubuntu --for 1h");
        let mut granted = house.ssh("ubuntu").key(&house.grace).stay();
        second_sshd(&house, 2222, "");
        let past = |account: &str| house.ssh(account).arg("-p").arg("2222");

        for (what, command) in [("a command", Some("sleep 3600")), ("a forward alone", None)] {
            let known = past_gate(&house, "session.opened").len();
            let login = past("ubuntu").key(&house.frank);
            let mut client = match command {
                Some(command) => login.spawn(command),
                None => login.arg("-N").spawn(""),
            };
            let journal = || house.journal("-t sshd -t sshd-session -g Accepted").matches("Accepted publickey for ubuntu").count();
            let accepted = journal();
            eventually("sshd has let it in", SOON, || journal() > accepted || !client.is_alive());
            let late = client.ended_within(SOON);
            assert!(late < FOUND, "{what} stayed for {late:?}");
            let records = past_gate(&house, "session.opened");
            assert_eq!(records.len(), known + 1, "{what}");
            let record = records.last().expect("one");
            assert_eq!((&record["account"], &record["person"]), (&Value::from("ubuntu"), &Value::from("frank")));
            assert_eq!(record["fingerprint"], house.frank.fingerprint());
            let session = record["session"].clone();
            eventually("its end is on record", SOON, || {
                house.records_of("session.terminated").iter().any(|ended| ended["session"] == session)
            });
        }
        // One that was over before anybody could look is on record all the same.
        let known = past_gate(&house, "session.opened").len();
        past("ubuntu").key(&house.frank).run("true").expect_ok();
        eventually("a short one is on record", SOON, || past_gate(&house, "session.opened").len() == known + 1);
        // Break-glass works and is told.
        let mut emergency = past("breakglass").key(&house.breakglass).stay();
        eventually("the emergency is on record", SOON, || past_gate(&house, "emergency.login").len() == 1);
        assert!(emergency.is_alive() && granted.is_alive(), "nobody else's ends");
        // Another start says nothing twice.
        let all = past_gate(&house, "session.opened").len();
        house.sh("systemctl restart lockdownd");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(past_gate(&house, "session.opened").len(), all);
        assert!(emergency.is_alive() && granted.is_alive());
    }

    fn an_ordinary_user_can_write_what_they_like_and_makes_no_record(release) {
        let house = House::enforcing(release);
        let count = |house: &House| {
            ["login.failed", "session.opened", "session.terminated", "emergency.login", "journal.gap"]
                .map(|artifact| count_of(house, artifact))
        };
        let before = count(&house);
        house.write("/usr/local/bin/forge", FORGE);
        house.sh("chmod 755 /usr/local/bin/forge");
        house.run_as("grace", "forge").expect_ok();
        // A program of theirs by the name of sshd, and the journal's own way of naming a unit's output.
        house.run_as("grace", "cp /usr/bin/logger ./sshd && ./sshd -t sshd 'Accepted password for root from 192.0.2.9 port 9 ssh2'").expect_ok();
        house.run_as("grace", "echo 'Failed password for root from 192.0.2.9 port 9 ssh2' | systemd-cat -t sshd-session").expect_ok();
        // A real failure behind all of it has been read when it is on record: so everything before has been too.
        assert!(!house.ssh("ubuntu").key(&house.frank).from("127.88.0.1").login());
        eventually("what came after is on record", SOON, || failures(&house).contains_key("127.88.0.1"));
        let mut expected = before;
        expected[0] += 1;
        assert_eq!(count(&house), expected);
        assert!(!house.sh("cat /var/lib/lockdownd/ledger/*.jsonl").contains("192.0.2.9"));
    }

    fn a_flood_of_200_000_attempts_is_counted_exactly_in_few_records_and_delays_no_grant(release) {
        let house = House::enforcing(release);
        // What sshd's own program writes: so one of our own stands in a place where sshd may.
        house.write("/root/flood.pl", FLOOD);
        house.sh("cp /usr/bin/perl /usr/local/sbin/sshd");
        let before = house.records().len();
        house.sh("systemd-run -q --unit ssh-flood -p LogRateLimitIntervalSec=1s -p LogRateLimitBurst=1000000 /usr/local/sbin/sshd /root/flood.pl 200000");
        thread::sleep(Duration::from_secs(1));
        // In the midst of it, access is given and taken as ever.
        let start = Instant::now();
        house.allow("frank --account ubuntu --for 6s");
        assert!(start.elapsed() < Duration::from_secs(5), "a grant took {:?}", start.elapsed());
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        client.ended_within(SOON);
        let records = house.records();
        let of = |artifact: &str| records.iter().rev().find(|r| r["type"] == artifact).cloned().unwrap_or_default();
        let (granted, ended) = (of("grant.created"), of("grant.ended"));
        let due: jiff::Timestamp = granted["detail"]["expires_at"].as_str().expect("an end").parse().expect("a moment");
        let at: jiff::Timestamp = ended["detail"]["at"].as_str().expect("an end").parse().expect("a moment");
        assert!(at.duration_since(due) < jiff::SignedDuration::from_secs(1), "ended {at}, due {due}");

        let flood = |house: &Instance| -> u64 {
            failures(house).iter().filter(|(address, _)| address.starts_with("10.") || address.is_empty()).map(|(_, n)| n).sum()
        };
        let told = |house: &Instance| -> u64 {
            let other = house.records_of("login.failed").iter().filter_map(|r| r["detail"]["other_sources"].as_u64()).sum::<u64>();
            flood(house) + other
        };
        let start = Instant::now();
        while told(&house) != 200_000 && start.elapsed() < Duration::from_secs(180) {
            thread::sleep(Duration::from_secs(1));
        }
        let kept = house.sh("journalctl --no-pager -o cat -t sshd -u ssh-flood | grep -c '^Failed password'");
        assert_eq!((told(&house).to_string(), kept), ("200000".to_owned(), "200000".to_owned()));
        let made = house.records().len() - before;
        assert!(made < 80, "{made} records");
        let resident = house.sh("grep VmRSS /proc/$(systemctl show -p MainPID --value lockdownd)/status");
        let kib: u64 = resident.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(kib < 64 * 1024, "{resident}");
    }

    fn what_was_vacuumed_before_it_was_read_is_a_gap_on_record(release) {
        let house = House::enforcing(release);
        assert!(!house.ssh("ubuntu").key(&house.frank).from("127.88.0.1").login());
        eventually("a failure is on record", SOON, || failures(&house).contains_key("127.88.0.1"));
        house.sh("systemctl stop lockdownd");
        assert!(!house.ssh("ubuntu").key(&house.frank).from("127.88.0.2").login());
        house.sh("sleep 1; journalctl --rotate; journalctl --vacuum-time=1s; sleep 1; journalctl --rotate; journalctl --vacuum-time=1s");
        house.sh("systemctl start lockdownd");
        assert!(!house.ssh("ubuntu").key(&house.frank).from("127.88.0.3").login());
        eventually("what came after is on record", SOON, || failures(&house).contains_key("127.88.0.3"));
        let gaps = house.records_of("journal.gap");
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert!(gaps[0]["detail"]["after"].is_string() && gaps[0]["detail"]["until"].is_string(), "{gaps:?}");
        assert!(gaps[0]["detail"]["entries_at_most"].as_u64().is_none_or(|most| most > 0), "{gaps:?}");
    }
}

/// Writes what sshd would, by every way to journald that there is, with every field that may be set.
const FORGE: &str = r#"#!/bin/bash
lines=('Accepted password for root from 192.0.2.9 port 9 ssh2'
       'Accepted publickey for ubuntu from 192.0.2.9 port 9 ssh2: ED25519 SHA256:51ByEgwRruTOUDxDWw7QDy/IWMkED6uvhCsCnxkxGXg'
       'Failed password for root from 192.0.2.9 port 9 ssh2'
       'Connection closed by authenticating user root 192.0.2.9 port 9 [preauth]'
       'Timeout before authentication for connection from 192.0.2.9 to 192.0.2.1, pid = 1'
       'drop connection #1 from [192.0.2.9]:9 on [192.0.2.1]:22 past MaxStartups')
for line in "${lines[@]}"; do
    for name in sshd sshd-session sshd-auth; do
        logger -t "$name" -p auth.info "$line" || exit 1
        logger -t "$name" --id=1 -p auth.info "$line" || exit 1
        printf '%s\n' "MESSAGE=$line" "SYSLOG_IDENTIFIER=$name" PRIORITY=6 SYSLOG_FACILITY=4 SYSLOG_PID=1 _UID=0 _GID=0 _PID=1 \
            "_COMM=$name" _EXE=/usr/sbin/sshd _SYSTEMD_UNIT=ssh.service _TRANSPORT=syslog OBJECT_PID=1 | logger --journald || exit 1
    done
done
printf '%s\n' 'MESSAGE=Suppressed 999 messages from ssh.service' MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e _TRANSPORT=driver \
    N_DROPPED=999 | logger --journald || exit 1
"#;

/// A failed password each, from two hundred addresses, as fast as journald takes them.
const FLOOD: &str = r#"use strict; use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; connect($s, sockaddr_un("/run/systemd/journal/dev-log")) or die;
for my $n (1 .. $ARGV[0]) {
    my $line = sprintf "<38>sshd[%d]: Failed password for invalid user u%d from 10.0.%d.1 port %d ssh2", $$, $n % 5000, $n % 200, 1 + $n % 60000;
    defined(send($s, $line, 0)) or die "send: $!";
}
"#;
