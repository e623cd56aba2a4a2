//! What sshd's log tells: every login and every failure on record once, whatever is restarted meanwhile; nobody past the
//! gate unseen; and nothing that an ordinary user can write makes a record.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use instance_tests::{Client, DAEMON, House, Instance, Key, Release, eventually, on_each_release};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// How long after sshd's line somebody past the gate may stay: half a second as a rule, more where the machine is busy.
const FOUND: SignedDuration = SignedDuration::from_millis(2_500);
/// What the daemon may take to act on what nobody waits for.
const SOON: Duration = Duration::from_secs(30);
/// Kinds of clients: see [`Attempt::begin`].
const KINDS: usize = 12;
/// Clients that come at a time, while most of the ones before wait for PAM.
const AT_ONCE: usize = 2 * KINDS;
/// From how many addresses they come: no more than a sum names.
const ADDRESSES: usize = 20;
/// What is done while clients come and go.
const DISTURBANCES: [&str; 7] = [
    "systemctl restart lockdownd",
    "journalctl --rotate",
    "systemctl restart systemd-journald",
    "systemctl kill -s KILL lockdownd",
    "systemctl restart lockdownd",
    "journalctl --rotate",
    "systemctl kill -s KILL lockdownd",
];
const DOWN: &str = "systemctl stop lockdownd-gate.socket lockdownd-control.socket lockdownd.service";
const UP: &str = "systemctl start lockdownd.service";
/// Failed logins in the flood.
const FLOOD_SIZE: u64 = 200_000;
/// What the flood may add to the daemon's memory at its peak, in KiB.
const FLOOD_MEMORY: u64 = 16 * 1024;

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

/// How many connections failed for this reason.
fn why(house: &Instance, word: &str) -> u64 {
    let of = |detail: &Value| match &detail["whys"] {
        Value::Null => u64::from(detail["why"] == word),
        whys => whys[word].as_u64().unwrap_or(0),
    };
    house.records_of("login.failed").iter().map(|record| of(&record["detail"])).sum()
}

/// How many rounds of clients there are for each of [`DISTURBANCES`]: a thousand clients in all on one release, and a third of
/// that on the other.
fn rounds_for_each(release: Release) -> usize {
    match release {
        Release::Bookworm => 6,
        Release::Trixie => 2,
    }
}

/// One of them.
struct Attempt {
    client: Client,
    source: String,
    gets_in: bool,
    is_unknown: bool,
    /// The client is killed once it has said this.
    killed_at: Option<&'static str>,
}

impl Attempt {
    fn begin(house: &House, n: usize) -> Self {
        let source = format!("127.77.0.{}", n % ADDRESSES + 1);
        let from = |account: &str| house.ssh(account).from(&source);
        let (client, killed_at) = match n % KINDS {
            0 | 1 => (from("ubuntu").key(&house.frank).spawn("true"), None),
            2..=4 => (from("ubuntu").key(&house.grace).spawn("true"), None),
            5..=7 => (from("nobody-knows port 7 ssh2").key(&house.grace).spawn("true"), None),
            8 | 9 => (from("ubuntu").password("wrong").spawn("true"), None),
            10 => (from("ubuntu").key(&house.grace).arg("-v").spawn("true"), Some("Remote protocol version")),
            // While PAM waits two seconds with its answer.
            _ => {
                (from("ubuntu").password("wrong").arg("-v").spawn("true"), Some("Next authentication method: password"))
            }
        };
        let (gets_in, is_unknown) = (n % KINDS < 2, (5..=7).contains(&(n % KINDS)));
        Self { client, source, gets_in, is_unknown, killed_at }
    }

    fn end(&mut self, house: &House) {
        if let Some(word) = self.killed_at {
            eventually("the client has got so far", SOON, || self.client.stderr().contains(word));
            return self.client.kill();
        }
        self.client.ended_within(SOON);
        let got_in = self.client.output().status == 0;
        let why = || ["session.refused", "session.terminated"].map(|artifact| house.records_of(artifact));
        assert_eq!(got_in, self.gets_in, "from {}: {}\n{:?}", self.source, self.client.output(), why());
    }
}

fn count_of(house: &Instance, artifact: &str) -> usize {
    house.records_of(artifact).len()
}

/// A second sshd, past PAM and so past the gate, on this port. A command gives it its keys: a file that it named would go.
fn second_sshd(house: &House, port: u16, more: &str) {
    house.sh(&format!(
        "mkdir -p /etc/ssh/second && printf 'Port {port}\nPidFile none\nUsePAM no\nAuthorizedKeysFile none\n\
         AuthorizedKeysCommand /bin/cat /etc/ssh/second/%%u\nAuthorizedKeysCommandUser nobody\n{more}\n' \
         >/etc/ssh/second/config && printf '%s\n' '{}' >/etc/ssh/second/ubuntu && \
         printf '%s\n' '{}' >/etc/ssh/second/breakglass && systemd-run -q --unit ssh-second /usr/sbin/sshd -D -f /etc/ssh/second/config",
        house.frank.public(),
        house.breakglass.public(),
    ));
    listens(house, port);
}

fn listens(house: &House, port: u16) {
    let open = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 4 <&3'");
    eventually("an sshd listens", SOON, || house.run(&open).ok());
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} should be a moment"))
}

/// Waits until the session of this record was ended; how long after sshd had let it in that was on record.
fn ended(house: &Instance, opened: &Value) -> SignedDuration {
    let end = || house.records_of("session.terminated").into_iter().find(|end| end["session"] == opened["session"]);
    eventually("its end is on record", SOON, || end().is_some());
    moment(&end().expect("just seen")["time"]).duration_since(moment(&opened["detail"]["began_at"]))
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

        let (mut expected, mut unknown, mut logins) = (BTreeMap::new(), 0, 0);
        let mut end = |clients: Vec<Attempt>| {
            for mut attempt in clients {
                attempt.end(&house);
                match attempt.gets_in {
                    true => logins += 1,
                    false => *expected.entry(attempt.source.clone()).or_default() += 1,
                }
                unknown += u64::from(attempt.is_unknown);
            }
        };
        let mut before_that = Vec::new();
        let rounds = rounds_for_each(release);
        for round in 0..rounds * DISTURBANCES.len() {
            let clients = (0..AT_ONCE).map(|n| Attempt::begin(&house, n));
            let (killed, others): (Vec<Attempt>, Vec<Attempt>) = clients.partition(|attempt| attempt.killed_at.is_some());
            if round % rounds == 1 {
                house.sh(DISTURBANCES[round / rounds]);
            }
            end(killed);
            // Nobody waits for PAM's answers to a wrong password: the next ones come meanwhile.
            end(std::mem::replace(&mut before_that, others));
        }
        end(before_that);
        let all = (rounds * DISTURBANCES.len() * AT_ONCE) as u64;
        assert_eq!((logins as u64, unknown), (all / 6, all / 4));
        assert_eq!(expected.values().sum::<u64>() + logins as u64, all);

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
        assert_eq!(why(&house, "unknown_user"), unknown);
        let (past, gaps) = (past_gate(&house, "session.opened"), house.records_of("journal.gap"));
        assert!(past.is_empty(), "nobody came past the gate: {past:?}");
        assert!(gaps.is_empty(), "all of the log was read: {gaps:?}");
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
            client.ended_within(SOON);
            eventually("it is on record", SOON, || past_gate(&house, "session.opened").len() > known);
            let records = past_gate(&house, "session.opened");
            assert_eq!(records.len(), known + 1, "{what}");
            let record = records.last().expect("one");
            assert_eq!(record["account"], "ubuntu");
            // Where its process was found before sshd's line was read, its end says who it was.
            let names = |record: &Value| record["person"] == "frank" && record["fingerprint"] == house.frank.fingerprint();
            eventually("it is frank's", SOON, || {
                let ends = house.records_of("session.terminated");
                names(record) || ends.iter().any(|end| end["session"] == record["session"] && names(end))
            });
            let late = ended(&house, record);
            assert!(late < FOUND, "{what} stayed for {late:?}");
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

    fn who_came_while_the_daemon_was_away_is_on_record_once_and_attributed(release) {
        let house = House::observing(release);
        house.sh("echo ubuntu:right | chpasswd");
        second_sshd(&house, 2222, "");
        house.sh(&format!("echo '{}' >>/etc/ssh/second/ubuntu", house.grace.public()));
        let stay = |key: &Key| house.ssh("ubuntu").arg("-p").arg("2222").key(key).stay();
        let listed = |person: &str| {
            house.ctl_json("sessions")["sessions"].as_array().is_some_and(|all| all.iter().any(|one| one["person"] == person))
        };
        house.sh(DOWN);
        let frank = stay(&house.frank);
        // In observe the gate lets everybody by while the daemon is away; this one is over when it is back.
        house.ssh("ubuntu").password("right").run("true").expect_ok();
        house.sh(UP);
        eventually("the line in sshd's log says whose it is", SOON, || listed("frank"));
        eventually("the short one is on record", SOON, || count_of(&house, "session.opened") == 2);
        let opened = house.records_of("session.opened");
        assert_eq!(opened.iter().filter(|record| record["detail"]["found"] == true).count(), 1, "{opened:?}");
        assert!(opened.iter().any(|record| record["detail"]["over"] == true && record["detail"]["past_gate"] == false));
        // As at the very first start: nothing is known of the log, and the journal is read back.
        house.sh(&format!("{DOWN} && rm /var/lib/lockdownd/log.json /var/lib/lockdownd/answered"));
        let grace = stay(&house.grace);
        house.sh(UP);
        eventually("sshd's log is read back", SOON, || listed("grace"));
        let gaps = house.records_of("journal.gap");
        assert!(gaps.len() == 1 && gaps[0]["reason"].as_str().is_some_and(|why| why.contains("not known any more")), "{gaps:?}");
        for disturbance in ["systemctl restart lockdownd", "systemctl kill -s KILL lockdownd"] {
            house.sh(disturbance);
            eventually("the daemon is back", SOON, || house.ctl("status").ok() && listed("frank") && listed("grace"));
            thread::sleep(Duration::from_secs(2));
            assert_eq!(count_of(&house, "session.opened"), 3);
        }
        drop((frank, grace));
        eventually("their ends name them", SOON, || {
            let closed = house.records_of("session.closed");
            ["frank", "grace"].iter().all(|person| closed.iter().any(|record| record["person"] == *person))
        });
        assert_eq!(count_of(&house, "session.opened"), 3);
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
        let memory = |name: &str| -> u64 {
            let line = house.sh(&format!("grep {name} /proc/{DAEMON}/status"));
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        let resident = memory("VmRSS");
        // From now on VmHWM is the peak since now.
        house.sh(&format!("echo 5 >/proc/{DAEMON}/clear_refs"));
        house.sh(&format!("systemd-run -q --unit ssh-flood -p LogRateLimitIntervalSec=1s -p LogRateLimitBurst=1000000 \
            /usr/local/sbin/sshd /root/flood.pl {FLOOD_SIZE}"));
        // In the midst of it, access is given and taken as ever.
        let start = Instant::now();
        house.allow("frank --account ubuntu --for 12s");
        let mut client = house.ssh("ubuntu").key(&house.frank).stay();
        assert!(start.elapsed() < Duration::from_secs(10), "a grant and a login took {:?}", start.elapsed());
        client.ended_within(SOON);
        assert!(house.run("systemctl is-active ssh-flood").ok(), "the flood goes on all the while");
        eventually("the end is on record", SOON, || count_of(&house, "grant.ended") == 1);
        let (granted, ended) = (&house.records_of("grant.created")[0], &house.records_of("grant.ended")[0]);
        let late = moment(&ended["detail"]["at"]).duration_since(moment(&granted["detail"]["expires_at"]));
        assert!(late < SignedDuration::from_secs(3), "ended {late} late");

        let told = || -> u64 {
            let of = |record: &Value| record["detail"]["count"].as_u64().unwrap_or(1);
            house.records_of("login.failed").iter().map(of).sum()
        };
        let start = Instant::now();
        while told() < FLOOD_SIZE && start.elapsed() < Duration::from_secs(180) {
            thread::sleep(Duration::from_secs(1));
        }
        let kept: u64 = house.sh("journalctl --no-pager -o cat -u ssh-flood | grep -c '^Failed password'").parse().expect("a number");
        assert_eq!((told(), kept), (FLOOD_SIZE, FLOOD_SIZE));
        assert_eq!(count_of(&house, "journal.gap"), 0);
        let made = house.records().len() - before;
        assert!(made < 80, "{made} records");
        let grown = memory("VmHWM").saturating_sub(resident);
        assert!(grown < FLOOD_MEMORY, "{grown} KiB more than the {resident} before");
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

/// A failed password each, from two hundred addresses, over some twelve seconds.
const FLOOD: &str = r#"use strict; use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; connect($s, sockaddr_un("/run/systemd/journal/dev-log")) or die;
for my $n (1 .. $ARGV[0]) {
    my $line = sprintf "<38>sshd[%d]: Failed password for invalid user u%d from 10.0.%d.1 port %d ssh2", $$, $n % 5000, $n % 200, 1 + $n % 60000;
    defined(send($s, $line, 0)) or die "send: $!";
    select(undef, undef, undef, 0.006) unless $n % 100;
}
"#;
