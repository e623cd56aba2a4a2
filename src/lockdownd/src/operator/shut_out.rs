//! Which addresses sshd shuts out now: who knocks there waits, whatever was granted, and break-glass too.

use control::{Problem, Severity};
use jiff::Timestamp;
use lockdown_core::penalties::{Knocks, ShutOut};
use lockdown_host::penalties::penalties;

/// Those addresses, and how many more there are. Runs sshd, where anything has failed lately.
pub(super) fn shut_out(knocks: &Knocks, now: Timestamp) -> (Vec<ShutOut>, usize) {
    if knocks.is_empty() {
        return (Vec::new(), 0);
    }
    match penalties() {
        Ok(Some(penalties)) => knocks.shut_out(penalties.rules, |address| penalties.spares(address), now),
        // What sshd does not tell is told as an obstacle.
        Ok(None) | Err(_) => (Vec::new(), 0),
    }
}

/// A sentence for each, with what ends it.
pub(super) fn problems(knocks: &Knocks, now: Timestamp) -> Vec<Problem> {
    let (found, more) = shut_out(knocks, now);
    let mut problems: Vec<Problem> = found.iter().map(|one| problem(one, now)).collect();
    if more > 0 {
        let what = format!("sshd shuts out {more} more addresses for logins that failed");
        problems.push(Problem { severity: Severity::Warning, what, remedy: None });
    }
    problems
}

fn problem(shut_out: &ShutOut, now: Timestamp) -> Problem {
    let ShutOut { from, until, dropped } = shut_out;
    let address = if from.is_single() { from.address().to_string() } else { from.to_string() };
    let left = control::format_duration(std::time::Duration::from_secs(
        u64::try_from(until.duration_since(now).as_secs().max(1)).unwrap_or(1),
    ));
    let dropped = match dropped {
        0 => String::new(),
        1 => ", and has dropped a connection since".to_owned(),
        more => format!(", and has dropped {more} connections since"),
    };
    Problem {
        severity: Severity::Warning,
        what: format!(
            "sshd shuts out {address} for logins that failed, for {left} at most{dropped}: who comes from there waits, people with \
             grants and break-glass too"
        ),
        remedy: Some(format!(
            "sshd.penalty_exempt = [\"{address}\"] in /etc/lockdownd/config.toml, and a reload, spares it while enforce is on"
        )),
    }
}
