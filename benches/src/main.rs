//! Measures lockdownd on a real instance, side by side with the floor that the machine sets, and prints one table:
//! what `benches/run` runs. See benches/README.md.
//!
//! It measures and judges nothing but the bounds: a missed one is printed, and the exit status stays 0.

mod phases;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use instance_tests::{DAEMON, House, Release};

use benches::{samples, table, table::Row};

/// Where the probe stands inside the instance.
const PROBE: &str = "/usr/local/bin/probe";
/// Accounts that are watched in every phase but the sweep.
const WATCHED: u32 = 1_000;
/// Accounts that are swept.
const SWEPT: u32 = 10_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Keys written in each way.
    removals: u32,
    /// Grants that end; the floor has as many ends.
    ends: u32,
    /// Grants by documents: at most as many as one person may be given accounts.
    documents: u32,
    /// Logins of each kind.
    logins: u32,
    /// Seconds of doing nothing.
    idle: u64,
    /// Sweeps, and walks.
    sweeps: u32,
    /// Failed logins in sshd's log.
    attempts: u32,
}

/// The whole run.
const FULL: Effort =
    Effort { removals: 500, ends: 200, documents: 200, logins: 60, idle: 60, sweeps: 12, attempts: 200_000 };
/// With `--quick`.
const QUICK: Effort =
    Effort { removals: 150, ends: 50, documents: 50, logins: 20, idle: 20, sweeps: 5, attempts: 50_000 };

/// What every phase works with.
struct Bench {
    house: House,
    effort: Effort,
}

impl Bench {
    /// Boots the instance, with the package and the probe.
    fn boot(probe: &Path, effort: Effort, release: Release) -> Self {
        note(&format!("booting Debian {release} with the package"));
        let house = House::enforcing(release);
        house.copy_in(probe, PROBE);
        house.sh(&format!("chmod 755 {PROBE}"));
        Self { house, effort }
    }

    /// Runs the probe inside, for at most `seconds`, and gives what it printed.
    fn probe(&self, seconds: u64, words: &str) -> String {
        self.house.run_for(std::time::Duration::from_secs(seconds), &format!("{PROBE} {words}"), b"").expect_ok()
    }

    /// Process id of the daemon, inside.
    fn daemon(&self) -> String {
        self.house.sh(&format!("echo {DAEMON}"))
    }

    /// Puts a configuration in force: enforce, with frank and `accounts` that he may be given, and `more`.
    fn configure(&self, accounts: &[String], more: &str) {
        let config = self.house.config("enforce", more);
        let own = "accounts = [\"ubuntu\", \"frank\"]";
        let named: Vec<String> = accounts.iter().map(|account| format!(", \"{account}\"")).collect();
        let config = config.replacen(own, &format!("accounts = [\"ubuntu\", \"frank\"{}]", named.concat()), 1);
        self.house.configure(&config);
        self.house.await_mode("enforce");
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(probe) = arguments.next().map(PathBuf::from) else { return usage() };
    let Some(peers) = arguments.next().map(PathBuf::from) else { return usage() };
    if probe == Path::new("attempts") {
        // Ourselves again, to be measured.
        phases::attempts::read(&peers);
        return ExitCode::SUCCESS;
    }
    let (mut effort, mut release, mut only_attempts) = (FULL, Release::Trixie, false);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            "--bookworm" => release = Release::Bookworm,
            "--attempts" => only_attempts = true,
            _ => return usage(),
        }
    }
    let start = Instant::now();
    let bench = Bench::boot(&probe, effort, release);
    let rows = if only_attempts { phases::attempts::measure(&bench, &peers) } else { measure(&bench, &peers) };
    println!(
        "
Debian {release}, {} s, {}",
        start.elapsed().as_secs(),
        benches::machine()
    );
    println!("{}", table::render(&rows));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: sudo benches/run [--quick] [--bookworm] [--attempts]");
    ExitCode::from(2)
}

fn measure(bench: &Bench, peers: &Path) -> Vec<Row> {
    note(&format!("{WATCHED} accounts"));
    bench.probe(60, &format!("accounts {WATCHED}"));
    phases::removals::await_watches(bench);

    let mut rows = Vec::new();
    let mut have = |more: Vec<table::Row>| {
        // What is measured is printed, even if a later phase fails.
        note(&format!("\n{}", table::render(&more)));
        rows.extend(more);
    };
    have(phases::removals::measure(bench));
    have(phases::deadlines::measure(bench));
    have(phases::documents::measure(bench));
    have(phases::logins::measure(bench));
    have(phases::attempts::measure(bench, peers));
    // After all that work, so that what it left in memory counts.
    have(phases::idle::measure(bench));
    have(phases::sweeps::measure(bench));
    rows
}

/// Says on standard error what is being done.
fn note(what: &str) {
    eprintln!("-- {what}");
}
