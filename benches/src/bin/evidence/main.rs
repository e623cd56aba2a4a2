//! Measures the compliance API and the shipper, side by side with the floor that the machine sets, and prints one table:
//! what `benches/evidence` runs. See benches/README.md.
//!
//! It measures and judges nothing but the bounds: a missed one is printed, and the exit status stays 0.

mod fill;
mod floor;
mod ingest;
mod reading;
mod server;
mod shipping;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use benches::table::{self, Row};

/// The stack of all hosts here.
pub(crate) const STACK: &str = "bench";

/// How much is measured.
struct Effort {
    /// Records that the store holds when ingest is measured, one after the other.
    stored: [u64; 3],
    /// Records of one round of ingest.
    round: u64,
    /// Rounds of ingest, in turn with the floor.
    rounds: u32,
    /// Months that are read.
    months: u32,
    /// Records that the shipper catches up on.
    shipped: u64,
}

const FULL: Effort =
    Effort { stored: [10_000, 1_000_000, 10_000_000], round: 20_000, rounds: 3, months: 5, shipped: 1_000_000 };
const QUICK: Effort =
    Effort { stored: [10_000, 100_000, 1_000_000], round: 8_000, rounds: 3, months: 3, shipped: 100_000 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let effort = match words.as_slice() {
        // The shipper in a process of its own, with its directories elsewhere.
        ["ship", directory] => return shipper::run::daemon(shipping::paths(directory.as_ref())),
        [] => FULL,
        ["--quick"] => QUICK,
        _ => {
            eprintln!("usage: benches/evidence [--quick]");
            return ExitCode::from(2);
        }
    };
    // On disk, beside what was built: a store in memory would show nothing.
    let scratch = tempfile::Builder::new().prefix("evidence-").tempdir_in(target_directory()).expect("a directory");
    let start = Instant::now();
    let rows = measure(&effort, scratch.path());
    println!("\n{} s, {}", start.elapsed().as_secs(), benches::machine());
    println!("{}", table::render(&rows));
    ExitCode::SUCCESS
}

fn measure(effort: &Effort, scratch: &std::path::Path) -> Vec<Row> {
    let state = scratch.join("server");
    let mut rows = Vec::new();
    for stored in effort.stored {
        note(&format!("{} rounds of {} records on {stored} stored", effort.rounds, effort.round));
        fill::up_to(&state, stored);
        rows.extend(ingest::measure(&state, effort, stored));
    }
    note(&format!("{} months of one requirement", effort.months));
    rows.extend(reading::measure(&state, effort));
    note(&format!("the shipper catches up on {} records", effort.shipped));
    rows.extend(shipping::measure(scratch, effort));
    rows
}

/// Where this program was built into.
fn target_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().expect("it lies in a directory").to_owned()
}

/// Says on standard error what is being done.
fn note(what: &str) {
    eprintln!("-- {what}");
}
