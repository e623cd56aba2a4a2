//! The shipper, catching up on a ledger that nothing was shipped of, to a server beside it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use benches::{
    ledger::Writer,
    table::{Row, mebibytes},
};
use shipper::paths::Paths;

use crate::{
    Effort, STACK,
    server::{Server, memory},
};

/// Bytes of a segment, as the daemon cuts them.
const SEGMENT: usize = 16 << 20;
/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(1800);

/// Where the shipper finds everything below `directory`.
pub(crate) fn paths(directory: &Path) -> Paths {
    Paths {
        daemon_state: directory.join("daemon"),
        daemon_run: directory.join("run"),
        state: directory.join("shipper"),
        run: directory.join("status"),
        credentials: Some(directory.join("credentials")),
        ..Paths::default()
    }
}

/// Rate, processor time and memory of the shipper.
pub(crate) fn measure(scratch: &Path, effort: &Effort) -> Vec<Row> {
    let directory = scratch.join("ship");
    let at = paths(&directory);
    let credentials = directory.join("credentials");
    for made in [&at.daemon_state.join("ledger"), &at.daemon_run, &at.state, &at.run, &credentials] {
        fs::create_dir_all(made).expect("a directory");
    }
    write_ledger(&at, effort.shipped);
    let server = Server::start(&scratch.join("receiver"));
    fs::write(credentials.join("enrolment-token"), server.token(&["enrol", "--stack", STACK])).expect("the token");
    let settings = serde_json::json!({"v": 1, "api": {"url": server.url, "receipt_keys": []}, "retain": 86_400});
    fs::write(at.daemon_run.join("ship.json"), settings.to_string()).expect("ship.json");
    let program = std::env::current_exe().expect("a running program has a path");
    let start = Instant::now();
    let mut child = Command::new(program).arg("ship").arg(&directory).spawn().expect("the shipper starts");
    while shipped(&at) < effort.shipped {
        assert!(start.elapsed() < LIMIT, "the shipper stands at {}", shipped(&at));
        assert!(child.try_wait().expect("a child").is_none(), "the shipper ended");
        sleep(Duration::from_millis(20));
    }
    let took = start.elapsed();
    let (processor, most) = (processor_time(child.id()), memory(child.id(), "VmHWM"));
    child.kill().and_then(|()| child.wait()).expect("the shipper ends");
    let each = processor.as_secs_f64() * 1e6 / effort.shipped as f64;
    let rate = format!("{:.0}/s", effort.shipped as f64 / took.as_secs_f64());
    vec![
        Row::words(&format!("catching up on {}: records per second", effort.shipped), String::new(), rate, None),
        Row::words("  processor time of the shipper, each", String::new(), format!("{each:.1} µs"), None),
        Row::words("  memory of the shipper, most", String::new(), mebibytes(most), None),
    ]
}

/// How far the cursor says that the API has it.
fn shipped(at: &Paths) -> u64 {
    let cursor = fs::read(at.state.join("api.cursor")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&cursor).ok().and_then(|cursor| cursor["seq"].as_u64()).unwrap_or(0)
}

fn write_ledger(at: &Paths, records: u64) {
    let mut writer = Writer::new("catching-up", STACK);
    let mut last = writer.another();
    let mut file = segment(at, 1);
    let mut size = 0;
    for _ in 1..records {
        file.write_all(last.as_str().as_bytes()).expect("a record");
        size += last.as_str().len();
        last = if size > SEGMENT { writer.next_segment() } else { writer.another() };
        if size > SEGMENT {
            file.flush().expect("a segment");
            file = segment(at, last.seq());
            size = 0;
        }
    }
    file.write_all(last.as_str().as_bytes()).and_then(|()| file.flush()).expect("the last record");
    let durable = serde_json::json!({"hash": last.hash().to_string(), "ledger": writer.ledger(), "seq": last.seq()});
    fs::write(at.daemon_run.join("durable"), durable.to_string()).expect("durable");
}

fn segment(at: &Paths, first: u64) -> BufWriter<File> {
    let path = at.daemon_state.join("ledger").join(format!("{first:012}.jsonl"));
    BufWriter::new(File::create(path).expect("a segment"))
}

/// User and system time of a process, from `/proc/PID/stat` (proc_pid_stat(5)).
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().expect("ticks a second");
    Duration::from_secs_f64(ticks as f64 / hertz as f64)
}
