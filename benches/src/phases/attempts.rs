//! What one failed login in sshd's log costs: our reading of it beside that of two well-known readers, on the same lines in
//! the same run; and the whole way from the journal to the record.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use instance_tests::eventually;
use lockdown_core::{
    attempts::{Book, Gate, Names, Place},
    sshd_log,
};
use nix::sys::resource::{UsageWho, getrusage};

use crate::{
    Bench, PROBE, note,
    table::{Bound, Row},
};

/// Where sshd of root's may stand, and so a program of ours that writes as sshd does.
const AS_SSHD: &str = "/usr/local/sbin/sshd";
/// How long the flood may take to be written, and to be on record.
const LIMIT: Duration = Duration::from_secs(300);
/// How often each reader reads.
const RUNS: usize = 5;
/// Lines that fail2ban is given: it takes a hundred times as long.
const FOR_FAIL2BAN: u32 = 20_000;

/// Nobody was refused by the gate.
struct NoGate;

impl Gate for NoGate {
    fn refused(&self, _: i32, _: jiff::Timestamp) -> bool {
        false
    }
}

/// All rows. `peers` has the two packages unpacked.
pub(crate) fn measure(bench: &Bench, peers: &Path) -> Vec<Row> {
    let attempts = bench.effort.attempts;
    note(&format!("{attempts} failed logins in sshd's log, read by three"));
    let dir = bench.house.scratch();
    let (all, few) = (dir.join("attempts"), dir.join("attempts-few"));
    write_lines(&all, attempts);
    write_lines(&few, FOR_FAIL2BAN);

    let myself = std::env::current_exe().expect("our own path");
    let (mut ours, mut sshguard, mut fail2ban) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(per_line(attempts, Command::new(&myself).arg("attempts").arg(&all), None));
        sshguard.push(per_line(
            attempts,
            &mut Command::new(peers.join("usr/libexec/sshguard/sshg-parser")),
            Some(&all),
        ));
        fail2ban.push(per_line(FOR_FAIL2BAN, &mut fail2ban_regex(peers, &few), None));
    }
    let [ours, sshguard, fail2ban] = [ours, sshguard, fail2ban].map(median);

    let whole = from_journal_to_record(bench, attempts);
    vec![
        Row::times("failed login read (CPU), beside sshguard", sshguard, ours, Bound::Times(2.0)),
        Row::times("failed login read (CPU), beside fail2ban", fail2ban, ours, Bound::Times(1.0)),
        Row::times("failed login, journal to record (CPU), beside fail2ban", fail2ban, whole, Bound::None),
    ]
}

fn fail2ban_regex(peers: &Path, lines: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(peers.join("usr/bin/fail2ban-regex")).arg("-c").arg(peers.join("etc/fail2ban")).arg(lines).arg("sshd");
    command.env("PYTHONPATH", peers.join("usr/lib/python3/dist-packages"));
    command
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What `benches attempts FILE` does: reads the lines as the daemon would, and prints how many failed.
///
/// # Panics
/// When the file cannot be read.
pub(crate) fn read(file: &Path) {
    let names = Names::new([7; 32]);
    let mut book = Book::default();
    let start = jiff::Timestamp::now();
    let mut count = 0_u64;
    for (n, line) in (0_i64..).zip(BufReader::new(File::open(file).expect("the lines")).lines()) {
        let line = line.expect("text");
        let Some(message) = line.split_once("]: ").and_then(|(_, message)| sshd_log::parse(message)) else { continue };
        let pid = i32::try_from(n % 30_000).expect("small") + 2;
        let time = start + Duration::from_millis(n.unsigned_abs());
        book.take(message, Place { time, boot: "b", pid }, &names, &NoGate);
        book.out.clear();
        count += 1;
    }
    println!("{count}");
}

/// Processor time of a reader, by line.
fn per_line(lines: u32, command: &mut Command, input: Option<&Path>) -> Duration {
    let shown = format!("{command:?}");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.stdin(input.map_or_else(Stdio::null, |file| File::open(file).expect("the lines").into()));
    let before = children();
    let status = command.status().unwrap_or_else(|e| panic!("{shown}: {e}"));
    assert!(status.success(), "{shown}: {status}");
    (children() - before) / lines
}

/// Processor time of all children that have ended.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own children");
    let time = |t: nix::sys::time::TimeVal| {
        Duration::new(t.tv_sec().unsigned_abs(), u32::try_from(t.tv_usec()).expect("micros") * 1_000)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Processor time of the daemon and its reader, by failed login that journald took.
fn from_journal_to_record(bench: &Bench, attempts: u32) -> Duration {
    bench.house.sh(&format!("cp {PROBE} {AS_SSHD}"));
    let used = || -> u64 {
        let text = bench.house.sh("systemctl show -p CPUUsageNSec --value lockdownd");
        text.parse().unwrap_or_else(|e| panic!("CPUUsageNSec is {text}: {e}"))
    };
    let counted = || -> u64 {
        let of = |record: &serde_json::Value| record["detail"]["count"].as_u64().unwrap_or(1);
        bench.house.records_of("login.failed").iter().map(of).sum()
    };
    let (before, already) = (used(), counted());
    let unit = "systemd-run -q --wait --unit flood -p LogRateLimitIntervalSec=1s -p LogRateLimitBurst=1000000";
    bench.house.run_for(LIMIT, &format!("{unit} {AS_SSHD} flood {attempts}"), b"").expect_ok();
    let start = Instant::now();
    eventually("the flood is on record", LIMIT, || {
        std::thread::sleep(Duration::from_secs(1));
        counted() >= already + u64::from(attempts) || start.elapsed() > LIMIT
    });
    Duration::from_nanos((used() - before) / u64::from(attempts))
}

fn write_lines(path: &Path, count: u32) {
    let mut file = std::io::BufWriter::new(File::create(path).expect("own directory"));
    for n in 0..count {
        let (pid, user, address, port) = (n % 30_000 + 2, n % 5_000, n % 200, 1 + n % 60_000);
        writeln!(
            file,
            "Nov 23 22:35:{:02} web1 sshd[{pid}]: Failed password for invalid user u{user} from 10.0.{address}.1 port {port} ssh2",
            n % 60
        )
        .expect("room for the lines");
    }
    file.flush().expect("room for the lines");
}
