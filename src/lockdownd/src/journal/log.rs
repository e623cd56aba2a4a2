//! The daemon's own log: `tracing` to journald through a bounded queue and a thread, or to stderr without a journal.
//!
//! tracing-journald sends from whoever logs, and stands still when journald has stopped. So an event is kept, and played
//! back to it from a thread of its own.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Value, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::Context,
    prelude::*,
    util::TryInitError,
};

use super::entry::IDENTIFIER;

/// How many events may wait for journald.
const LOG_QUEUE: usize = 1024;
/// The most fields of an event that are kept: what tracing can play back.
const MAX_FIELDS: usize = 32;
/// What is logged unless `RUST_LOG` says otherwise (`TARGET=LEVEL`, comma-separated).
const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;
/// It tells of its own insides at `info`.
const TALKATIVE: &str = "tokio_cron_scheduler";

/// A log that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread to journald could not be started.
    #[error("cannot start the log's thread")]
    Thread(#[source] io::Error),
    /// Somebody has started one already.
    #[error("a log has been started already")]
    Already(#[source] TryInitError),
}

/// Starts the log: to the journal when systemd started us and journald is there, else to stderr.
///
/// # Errors
/// No thread to be had; a second start.
pub fn start_log() -> Result<(), LogError> {
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter =
        asked.unwrap_or_else(|| Targets::new().with_default(DEFAULT_LEVEL).with_target(TALKATIVE, LevelFilter::WARN));
    let registry = tracing_subscriber::registry().with(filter);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    match tracing_journald::layer() {
        Ok(journald) if under_systemd => {
            let journald = journald.with_syslog_identifier(IDENTIFIER.to_owned());
            registry.with(Queued::to(journald, LOG_QUEUE).map_err(LogError::Thread)?).try_init()
        }
        _ => registry.with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false)).try_init(),
    }
    .map_err(LogError::Already)
}

/// A layer that keeps events for another one, which runs in a thread.
struct Queued {
    queue: SyncSender<Kept>,
    dropped: Arc<AtomicU64>,
}

impl Queued {
    fn to<L>(inner: L, bound: usize) -> io::Result<Self>
    where
        L: Layer<tracing_subscriber::Registry> + Send + Sync + 'static,
    {
        let (queue, waiting) = sync_channel(bound);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(inner), || play(&waiting, &count));
        })?;
        Ok(Self { queue, dropped })
    }
}

impl<S: Subscriber> Layer<S> for Queued {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut kept = Kept { metadata: event.metadata(), values: Vec::new() };
        event.record(&mut kept);
        if self.queue.try_send(kept).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn play(waiting: &Receiver<Kept>, dropped: &AtomicU64) {
    while let Ok(kept) = waiting.recv() {
        kept.play();
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "log entries did not reach the journal");
        }
    }
}

/// An event with its values as text.
struct Kept {
    metadata: &'static Metadata<'static>,
    values: Vec<(Field, String)>,
}

impl Kept {
    /// Sends the event to this thread's subscriber, under its own metadata.
    fn play(&self) {
        let fields = self.metadata.fields();
        let Some(spare) = fields.iter().next() else { return };
        let texts: Vec<&str> = self.values.iter().map(|(_, text)| text.as_str()).collect();
        let values: [(&Field, Option<&dyn Value>); MAX_FIELDS] = std::array::from_fn(|n| match self.values.get(n) {
            Some((field, _)) => (field, Some(&texts[n] as &dyn Value)),
            None => (&spare, None),
        });
        Event::dispatch(self.metadata, &fields.value_set(&values));
    }
}

impl Visit for Kept {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if self.values.len() < MAX_FIELDS {
            self.values.push((field.clone(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.values.len() < MAX_FIELDS {
            self.values.push((field.clone(), value.to_owned()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Tell(Sender<(String, Vec<String>)>, Arc<AtomicU64>);

    impl<S: Subscriber> Layer<S> for Tell {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            while self.1.load(Ordering::Acquire) == 1 {
                thread::yield_now();
            }
            let mut kept = Kept { metadata: event.metadata(), values: Vec::new() };
            event.record(&mut kept);
            let said = kept.values.iter().map(|(f, v)| format!("{f}={v}")).collect();
            self.0.send((event.metadata().level().to_string(), said)).unwrap();
        }
    }

    #[test]
    fn events_arrive_with_their_level_and_fields() {
        let (tell, told) = channel();
        let queued = Queued::to(Tell(tell, Arc::default()), 8).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(queued), || {
            tracing::warn!(account = "ubuntu", keys = 3, "a key\nwas removed");
        });
        let (level, fields) = told.recv().unwrap();
        assert_eq!(level, "WARN");
        assert_eq!(fields, ["message=a key\nwas removed", "account=ubuntu", "keys=3"]);
    }

    #[test]
    fn a_log_that_stands_still_holds_nobody_up_and_says_what_it_lost() {
        let (tell, told) = channel();
        let stop = Arc::new(AtomicU64::new(1));
        let queued = Queued::to(Tell(tell, stop.clone()), 4).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(queued), || {
            (0..100).for_each(|n| tracing::info!(n, "busy"));
        });
        stop.store(0, Ordering::Release);
        let all: Vec<_> = told.iter().collect();
        let lost = all.iter().find(|(level, _)| level == "WARN").expect("the loss is told");
        let count: usize = lost.1.iter().find_map(|f| f.strip_prefix("lost=")).unwrap().parse().unwrap();
        assert_eq!(all.len() - 1 + count, 100);
    }
}
