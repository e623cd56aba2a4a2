//! The main thread: follows the daemon's two files, keeps the sinks' threads, tells systemd, and stops in good order.

use std::{
    io::Read,
    os::fd::AsFd,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use sd_notify::NotifyState;

use crate::{
    api::ApiSink,
    cursor,
    feeds::Feeds,
    files::{self, FileError},
    log,
    paths::Paths,
    settings::{self, Settings},
    shared::{Ending, SINKS, Shared},
    status::Status,
    syslog::SyslogSink,
};

/// How long what is durable may take to be shipped when only the shipper is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The same when the instance goes down, `daemon.stopped` included.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// How often the daemon's files are looked at where inotify cannot tell of them.
const POLL: Duration = Duration::from_secs(2);
/// The same where it can: as good as never.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// A sink that has not been heard of for so long hangs. Longer than any request may take.
const SINK_ALIVE: Duration = Duration::from_secs(150);
/// How long systemd may take to say whether the instance is going down.
const ASK_SYSTEMD: Duration = Duration::from_secs(2);
/// There while logins are not allowed: at boot, and from when the instance goes down.
const NOLOGIN: &str = "/run/nologin";

/// Why the shipper cannot run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] std::io::Error),
}

fn system<T, E: Into<std::io::Error>>(doing: &'static str, result: Result<T, E>) -> Result<T, StartError> {
    result.map_err(|error| StartError::System(doing, error.into()))
}

/// Runs until SIGTERM.
#[must_use]
pub fn daemon(paths: Paths) -> ExitCode {
    match run(paths) {
        Ok(code) => code,
        Err(error) => {
            log::error(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(paths: Paths) -> Result<ExitCode, StartError> {
    // Before any thread: all of them inherit it, and only the descriptor below hears of these.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    system("block signals", signals.thread_block())?;
    let signals =
        system("make a signalfd", SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))?;
    let receipts = paths.receipts();
    files::at("make the directory", &receipts, std::fs::create_dir_all(&receipts))?;
    let shared = Arc::new(Shared::new());
    let status = Arc::new(Status::new(paths.clone()));
    let syslog = SyslogSink::open(paths.clone(), shared.clone(), status.clone())?;
    let api = ApiSink::open(paths.clone(), shared.clone(), status.clone())?;
    let feeds = Feeds::new(paths.clone(), status.clone());
    let mut follower = Follower { paths, shared, feeds, known: None, watch: None };
    follower.look();
    let threads = [start(SINKS[0], move || syslog.run())?, start(SINKS[1], move || api.run())?];
    // It ends with the process.
    let writer = status.clone();
    drop(start("status", move || writer.keep_writing())?);
    tell(&[NotifyState::Ready]);
    // systemd's watchdog hears of us twice as often as it asks for.
    let watchdog = sd_notify::watchdog_enabled().map_or(LOOK_ANYWAY, |period| period / 2);
    loop {
        let woken = wait(&signals, follower.watch.as_ref(), watchdog.min(follower.patience()));
        follower.look();
        if woken && matches!(signals.read_signal(), Ok(Some(_))) {
            return Ok(end(&mut follower, &status, threads));
        }
        if threads.iter().any(JoinHandle::is_finished) {
            log::error(format_args!("a sink's thread has ended; starting over"));
            return Ok(ExitCode::FAILURE);
        }
        if follower.shared.alive(SINK_ALIVE) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    system("start a thread", thread::Builder::new().name(name.to_owned()).spawn(body))
}

/// Without systemd there is nobody to tell.
fn tell(state: &[NotifyState<'_>]) {
    drop(sd_notify::notify(state));
}

/// Waits for a signal or news from the daemon. Whether a signal came.
fn wait(signals: &SignalFd, watch: Option<&Inotify>, most: Duration) -> bool {
    let mut all = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    all.extend(watch.map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)));
    let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    // Interrupted or failed: everything is looked at then too.
    let _ = poll(&mut all, most);
    all[0].any().unwrap_or(false)
}

/// Stops: the sinks get their time, and then it is over whether they are done or not. What is not shipped is shipped
/// when the shipper is started again: the cursors say where.
fn end(follower: &mut Follower, status: &Status, threads: [JoinHandle<()>; SINKS.len()]) -> ExitCode {
    tell(&[NotifyState::Stopping]);
    follower.feeds.end();
    let instance = instance_goes_down();
    let until = Instant::now() + if instance { DRAIN_WITHIN } else { STOP_WITHIN };
    follower.shared.tell(|world| world.ending = Some(Ending { until, instance }));
    while Instant::now() < until && !threads.iter().all(JoinHandle::is_finished) {
        let tick = Duration::from_millis(20).min(until.saturating_duration_since(Instant::now()));
        match &follower.watch {
            Some(watch) => {
                let most = PollTimeout::try_from(tick).unwrap_or(PollTimeout::MAX);
                let _ = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], most);
            }
            None => thread::sleep(tick),
        }
        follower.refresh();
    }
    if !threads.iter().all(JoinHandle::is_finished) {
        log::warn(format_args!("stopping with records not shipped yet; they are when it starts again"));
    }
    status.flush();
    ExitCode::SUCCESS
}

/// Whether the instance itself is going down: then the daemon stops too, and says so. systemd knows; where it cannot be
/// asked, nobody being allowed to log in any more says the same.
fn instance_goes_down() -> bool {
    let asked = Command::new("/usr/bin/systemctl")
        .arg("is-system-running")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = asked else { return nobody_may_log_in() };
    let until = Instant::now() + ASK_SYSTEMD;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    // Ends one that hangs; one that has ended is reaped.
    drop(child.kill());
    drop(child.wait());
    let mut answer = String::new();
    if let Some(output) = child.stdout.take() {
        drop(output.take(64).read_to_string(&mut answer));
    }
    match answer.trim() {
        "stopping" => true,
        "" | "unknown" | "offline" => nobody_may_log_in(),
        _ => false,
    }
}

fn nobody_may_log_in() -> bool {
    std::path::Path::new(NOLOGIN).exists()
}

/// Follows `durable` and `ship.json`, and passes on what is said to the feeds.
struct Follower {
    paths: Paths,
    shared: Arc<Shared>,
    feeds: Feeds,
    /// Where to ship to and which feeds to hear, once the daemon has said so.
    known: Option<Arc<Settings>>,
    /// On the directory that both are renamed into.
    watch: Option<Inotify>,
}

impl Follower {
    fn patience(&self) -> Duration {
        if self.watch.is_some() { LOOK_ANYWAY } else { POLL }
    }

    /// Takes what inotify has to tell, makes the watch anew where it is gone, and reads both files.
    fn look(&mut self) {
        let gone = self.watch.as_ref().is_some_and(|watch| {
            let lost = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            watch.read_events().is_ok_and(|events| events.iter().any(|event| event.mask.intersects(lost)))
        });
        if gone || self.watch.is_none() {
            self.watch = self.watch_anew();
        }
        self.refresh();
        if let Some(settings) = self.known.clone() {
            self.feeds.look(&settings);
        }
    }

    fn watch_anew(&self) -> Option<Inotify> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        let news = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        watch.add_watch(&self.paths.daemon_run, news).ok()?;
        Some(watch)
    }

    fn refresh(&mut self) {
        if let Some(watch) = &self.watch {
            // Only that there is something counts.
            drop(watch.read_events());
        }
        let mark = cursor::read(&self.paths.durable()).unwrap_or_else(|error| {
            log::error(format_args!("{error}"));
            None
        });
        // The daemon writes both whole: nothing there, or nothing legible, is no news.
        if let Some(settings) = settings::read(&self.paths).filter(|new| self.known.as_deref() != Some(new)) {
            self.known = Some(Arc::new(settings));
        }
        let settings = self.known.clone();
        self.shared.tell(|world| {
            world.mark = mark.or(world.mark.take());
            if let Some(settings) = settings {
                world.settings = settings;
            }
        });
    }
}
