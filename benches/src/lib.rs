//! What both benches share: samples and the table.

pub mod ledger;
pub mod samples;
pub mod table;

/// Processors and load: what the numbers were measured on and beside.
#[must_use]
pub fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{processors} processors, load of the last minute {}", load.split(' ').next().unwrap_or("unknown"))
}
