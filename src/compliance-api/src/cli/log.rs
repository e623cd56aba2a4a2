//! The log: standard error, one line an event. Under systemd each line begins with its priority, sd-daemon(3).

use std::{env, io};

use tracing::{Level, Metadata};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::config::LogFormat;

/// Starts it.
pub(super) fn start(format: LogFormat) {
    let journal = env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(Stderr { journal })
        .with_ansi(false)
        .with_target(false);
    match format {
        // Whoever collects them may take them from elsewhere than the journal: each says its moment and level itself.
        LogFormat::Json => log.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
        LogFormat::Text if journal => log.without_time().with_level(false).init(),
        LogFormat::Text => log.without_time().init(),
    }
}

/// Standard error, for the journal or for people.
struct Stderr {
    journal: bool,
}

/// One line's way there.
struct Line {
    priority: Option<&'static str>,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { priority: None }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let priority = match *meta.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            _ => "<7>",
        };
        Line { priority: self.journal.then_some(priority) }
    }
}

impl io::Write for Line {
    /// An event comes as one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut whole = self.priority.take().unwrap_or_default().as_bytes().to_vec();
        whole.extend_from_slice(bytes);
        io::stderr().write_all(&whole)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
