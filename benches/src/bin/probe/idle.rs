//! What a process costs while nothing happens, for the daemon and for the unlink loop at the same time.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::{Failure, unlink_loop::UnlinkLoop};

/// What a process had used at one moment.
struct Used {
    wakeups: u64,
    /// Microseconds.
    cpu: u64,
}

/// Watches process `pid` and an unlink loop over `count` directories do nothing for `seconds`.
pub(crate) fn run(pid: u32, count: u32, seconds: u64) -> Result<(), Failure> {
    let floor = UnlinkLoop::start(count)?;
    let sides = [("ours", pid), ("floor", floor.0.id())];
    let before = sides.map(|(_, pid)| used(pid));
    thread::sleep(Duration::from_secs(seconds));
    for ((side, pid), before) in sides.into_iter().zip(before) {
        let (before, after) = (before?, used(pid)?);
        println!("rss-{side} {}", resident(pid)?);
        println!("wakeups-{side} {}", after.wakeups - before.wakeups);
        println!("cpu-{side} {}", after.cpu - before.cpu);
    }
    Ok(())
}

/// Voluntary context switches of all threads, each of which is followed by a wake-up, and CPU time as the scheduler
/// counts it.
fn used(pid: u32) -> Result<Used, Failure> {
    let mut used = Used { wakeups: 0, cpu: 0 };
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.path();
        used.wakeups += number_after(&fs::read_to_string(thread.join("status"))?, "voluntary_ctxt_switches:")?;
        let nanoseconds = fs::read_to_string(thread.join("schedstat"))?;
        let nanoseconds: u64 = nanoseconds.split_whitespace().next().ok_or("an empty schedstat")?.parse()?;
        used.cpu += nanoseconds / 1000;
    }
    Ok(used)
}

/// Resident memory, bytes.
fn resident(pid: u32) -> Result<u64, Failure> {
    Ok(number_after(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")? * 1024)
}

fn number_after(text: &str, label: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("no {label}"))?.parse()?)
}
