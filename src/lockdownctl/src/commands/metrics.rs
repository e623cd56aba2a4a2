//! `metrics`: how things stand, in Prometheus' text format, for node_exporter's textfile collector.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use control::{Answer, Mode, Request, Severity, StackView, Status};
use jiff::Timestamp;

use super::Context;
use crate::{ask::Failure, cli, output::Done};

/// Prints them, or puts them into a file in one go. A daemon that does not answer is a metric too.
pub(crate) fn run(args: &cli::Metrics, context: &Context<'_>) -> Result<Done, Failure> {
    let (text, asked) = match context.ask(&Request::Status) {
        Ok(Answer::Status(status)) => (metrics(&status), Ok(())),
        Ok(_) => (down(), Err(Failure::mismatch())),
        Err(failure) => (down(), Err(failure)),
    };
    let Some(path) = &args.output else { return asked.map(|()| Done::new(text)) };
    replace(path, &text).map_err(|error| Failure::here(format!("{}: {error}", path.display())))?;
    asked.map(|()| Done::new(String::new()))
}

/// Writes a file beside `path` and puts it there, so that nobody reads half of it. The directory may be another user's: what they
/// planted under the temporary name is removed, never followed.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    // node_exporter reads what ends in .prom alone.
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    });
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// One metric after another, each under its help.
#[derive(Debug, Default)]
struct Metrics(String);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], u64)]) {
        if samples.is_empty() {
            return;
        }
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP lockdownd_{name} {help}\n# TYPE lockdownd_{name} gauge\n");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "lockdownd_{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(name, help, &[(&[], value)]);
    }

    /// A moment; none where there is none.
    fn moment(&mut self, name: &str, help: &str, at: Option<Timestamp>) {
        if let Some(seconds) = at.and_then(|at| u64::try_from(at.as_second()).ok()) {
            self.one(&format!("{name}_timestamp_seconds"), help, seconds);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn down() -> String {
    let mut all = Metrics::default();
    all.one("up", UP, 0);
    all.0
}

const UP: &str = "Whether the daemon answers.";

fn metrics(status: &Status) -> String {
    let mut all = Metrics::default();
    all.one("up", UP, 1);
    let stack = status.stack.as_ref().map_or("", |stack| stack.as_str());
    let labels = [("version", status.version.as_str()), ("host", status.host.as_str()), ("stack", stack)];
    all.gauge("info", "What runs, and where.", &[(&labels, 1)]);
    all.one("enforcing", "Whether enforce is in force.", u64::from(status.mode == Mode::Enforce));
    let wanted = u64::from(status.configured_mode == Mode::Enforce);
    all.one("enforce_configured", "Whether the configuration says enforce.", wanted);
    all.moment("trial_end", "When a trial of enforce ends.", status.trial_until);
    let grants: [(&[(&str, &str)], u64); 2] =
        [(&[("state", "active")], status.active_grants), (&[("state", "waiting")], status.waiting_grants)];
    all.gauge("grants", "Grants that have not ended.", &grants);
    let other = status.sessions.saturating_sub(status.unattributed_sessions + status.emergency_sessions);
    let sessions: [(&[(&str, &str)], u64); 3] = [
        (&[("kind", "granted")], other),
        (&[("kind", "emergency")], status.emergency_sessions),
        (&[("kind", "not_granted")], status.unattributed_sessions),
    ];
    all.gauge("sessions", "Live SSH sessions.", &sessions);
    all.one("people", "People in the configuration.", status.people);
    all.one("accounts", "Accounts that are watched.", status.accounts);
    if let Some(open) = status.ways_open {
        all.one("ways_in_open", "Ways in that are open to logins without a grant.", open);
    }
    all.one("quarantined", "Key files that were removed and are kept.", status.quarantined);
    let of = |severity| status.problems.iter().filter(|problem| problem.severity == severity).count() as u64;
    let problems: [(&[(&str, &str)], u64); 3] = [
        (&[("severity", "crit")], of(Severity::Crit)),
        (&[("severity", "err")], of(Severity::Err)),
        (&[("severity", "warning")], of(Severity::Warning)),
    ];
    all.gauge("problems", "Problems that lockdownctl status lists.", &problems);
    all.one("enforce_obstacles", "What stands in the way of enforce, or weakens it.", status.obstacles.len() as u64);
    all.moment("start", "When the daemon started.", Some(status.started_at));
    all.moment("config_loaded", "When the configuration in force was loaded.", Some(status.config.loaded_at));
    all.one("config_refused", "Whether a newer configuration was refused.", u64::from(status.config.refused.is_some()));
    all.moment("last_sweep", "When the last sweep ended.", status.last_sweep);
    all.moment("next_sweep", "When the next sweep is due.", status.next_sweep);
    all.moment("next_lockdown", "When the next scheduled lockdown is due.", status.next_lockdown);
    if let Some(ledger) = &status.ledger {
        all.one("ledger_records", "The number of the last record that is on disk.", ledger.durable);
    }
    let failing = status.ledger.as_ref().is_none_or(|ledger| ledger.failing.is_some());
    all.one("ledger_failing", "Whether the ledger is not open, or cannot be written.", u64::from(failing));
    if let Some(stack) = &status.documents {
        documents(&mut all, stack);
    }
    shipping(&mut all, status);
    all.0
}

/// By which roster signed documents are judged, and when feeds were heard.
fn documents(all: &mut Metrics, stack: &StackView) {
    all.one(
        "roster_version",
        "The version of the roster in force; 0 for none.",
        stack.roster.as_ref().map_or(0, |r| r.version),
    );
    all.moment(
        "roster_end",
        "When the roster in force expires.",
        stack.roster.as_ref().map(|roster| roster.expires_at),
    );
    all.one("holds", "Lockdowns that hold.", stack.holds.len() as u64);
    all.one("documents_waiting", "Signed documents that may be taken later.", stack.waiting.len() as u64);
    all.moment(
        "feed_heard",
        "When a feed of documents was heard last.",
        stack.feeds.iter().filter_map(|f| f.heard_at).max(),
    );
    let broken = stack.feeds.iter().filter(|feed| feed.problem.is_some()).count() as u64;
    all.one("feeds_broken", "Feeds of documents that are not whole.", broken);
}

/// How far each sink is.
fn shipping(all: &mut Metrics, status: &Status) {
    let labels: Vec<[(&str, &str); 1]> = status.shipping.iter().map(|sink| [("sink", sink.name.as_str())]).collect();
    let sinks = || labels.iter().zip(&status.shipping);
    let waiting: Vec<(&[(&str, &str)], u64)> = sinks().map(|(label, sink)| (&label[..], sink.waiting)).collect();
    all.gauge("ship_waiting_records", "Records that wait to be shipped.", &waiting);
    let acknowledged: Vec<(&[(&str, &str)], u64)> =
        sinks().filter_map(|(label, sink)| Some((&label[..], sink.acknowledged?))).collect();
    all.gauge("ship_acknowledged_record", "The last record that a server has acknowledged.", &acknowledged);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{status::tests::status, testing::*};

    fn into(output: Option<&Path>) -> cli::Metrics {
        cli::Metrics { output: output.map(Path::to_owned) }
    }

    #[test]
    fn every_sample_stands_under_its_help_and_type_and_no_label_ends_early() {
        let mut status = status();
        status.version = "0.1 \"odd\\\n".to_owned();
        let answer = Answer::Status(Box::new(status.clone()));
        let (_, done) = against(vec![Ok(answer)], |context| run(&into(None), context));
        let text = done.unwrap().text;
        assert!(text.contains("lockdownd_up 1\n") && text.contains("lockdownd_grants{state=\"active\"} 2\n"), "{text}");
        assert!(text.contains(r#"lockdownd_info{version="0.1 \"odd\\\n",host="i-0abc",stack="web"} 1"#), "{text}");
        assert!(text.contains("lockdownd_next_sweep_timestamp_seconds 1795457700\n"), "{text}");
        status.ledger = None;
        let unopened = metrics(&status);
        assert!(
            unopened.contains("lockdownd_ledger_failing 1\n") && !unopened.contains("ledger_records"),
            "{unopened}"
        );
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(family.as_str()), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_daemon_that_is_down_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lockdownd.prom");
        fs::write(&file, "old").unwrap();
        // What somebody planted under the name that is used meanwhile is not written through.
        let planted = dir.path().join(format!(".lockdownd.prom.{}", std::process::id()));
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &planted).unwrap();
        let context =
            Context { socket: "/nonexistent".as_ref(), now: at(NOW), json: false, paint: crate::paint::Paint::NONE };
        assert_eq!(run(&into(Some(&file)), &context).unwrap_err().exit(), control::Exit::Unavailable);
        assert!(fs::read_to_string(&file).unwrap().ends_with("lockdownd_up 0\n"));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lockdownd.prom"]);
    }
}
