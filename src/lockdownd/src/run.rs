//! What the program does when it is started: serve, or check a configuration.
//!
//! Start order: log, watches and sockets, then the driver, which fills the key store; only then READY=1.

mod starts;

use std::{
    path::Path,
    process::ExitCode,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lockdown_core::config;
use lockdown_host::{
    clock::{self, DeadlineTimer},
    config_files,
    writers::{self, Writers},
};
use sd_notify::NotifyState;
use tokio::sync::mpsc;

use crate::{
    driver::{Driver, Next, homes::Command},
    journal, ledger, supervisor,
    trigger::{self, Cron, Reason, Senders, Triggers, Watch},
};

/// Exit status for a bad configuration (`EX_CONFIG`, sysexits.h(3head)).
const BAD_CONFIG: u8 = 78;

/// How long the homes threads may take to settle and tell what they have removed when the daemon stops; well below the
/// unit's `TimeoutStopSec`.
const LAST_FINDINGS: Duration = Duration::from_secs(3);
/// How long a start waits for the disk before it counts as ready: what was rendered is in force then.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long a thread of the driver may take to end once it is told to: one that hangs is left to the end of the process.
const LET_GO: Duration = Duration::from_secs(1);

/// Anything that ends the daemon before or while it serves.
type Failure = Box<dyn std::error::Error>;

/// `lockdownd --check [FILE]`: says whether a configuration checks out. 0 or 78.
#[must_use]
pub fn check(file: Option<&Path>) -> ExitCode {
    say(config_files::check(file))
}

/// `lockdownd --check --as DESTINATION FILE`: says whether the configuration would check out with these files. 0 or 78.
#[must_use]
pub fn check_as(proposed: &[config_files::Proposed]) -> ExitCode {
    say(config_files::check_as(proposed))
}

fn say(checked: Result<config_files::Checked, config::Error>) -> ExitCode {
    match checked {
        Ok(checked) => {
            println!("{checked}");
            checked.warnings().iter().for_each(|warning| println!("{warning}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

/// `lockdownd --reload`: has the running daemon read its configuration again, and says what came of it. 0, 78 for a
/// configuration that is refused, 69 where no daemon answers.
#[must_use]
pub fn reload() -> ExitCode {
    let answer = control::Client::connect(control::SOCKET).and_then(|client| client.ask(&control::Request::Reload));
    let refusal = match answer {
        Ok(Ok(answer)) => {
            if let control::Answer::Reload(control::ReloadAnswer { notes }) = answer {
                notes.iter().for_each(|note| eprintln!("{note}"));
            }
            return ExitCode::SUCCESS;
        }
        Ok(Err(refusal)) => refusal,
        Err(error) => {
            eprintln!("lockdownd does not answer: {error}");
            return control::Exit::Unavailable.into();
        }
    };
    eprintln!("{refusal}");
    refusal.hint.iter().chain(&refusal.details).for_each(|line| eprintln!("{line}"));
    refusal.exit().into()
}

/// `lockdownd --keep-writers`: leaves with systemd what tells the daemon who writes files. 0, or 1 where that cannot be had.
#[must_use]
pub fn keep_writers() -> ExitCode {
    match writers::keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("who writes a file will not be known: fanotify: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is told to stop, or its supervisor ends.
#[must_use]
pub fn daemon(supervisor: &str) -> ExitCode {
    if !supervisor::bind_to(supervisor) {
        eprintln!("{}", supervisor::STARTED_BY_SYSTEMD);
        return ExitCode::FAILURE;
    }
    if let Err(error) = journal::start_log() {
        eprintln!("lockdownd goes on without its own log: {error}");
    }
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| {
        let served = runtime.block_on(serve_or_wait());
        // Nothing is waited for that may still run.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("lockdownd cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_or_wait() -> Result<(), Failure> {
    let served = serve().await;
    if let Err(error) = &served {
        tracing::error!("lockdownd cannot go on: {}", ledger::describe(error.as_ref()));
        starts::wait().await;
    }
    served
}

async fn serve() -> Result<(), Failure> {
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new()?);
    let Senders { logins, operators, touched, own, log, homes } = senders;
    trigger::listen_for_signals(&operators)?;
    let writers = Writers::open();
    writers.listen()?;
    let watch = Watch::new(&touched, &writers).map_err(|error| {
        format!("no inotify instance can be had (raise the sysctl fs.inotify.max_user_instances): {error}")
    })?;
    let cron = Cron::new(own.clone());
    let mut driver = Driver::start(own, log, homes, writers, clock::now())?;
    let asking = Asking { logins, operators };
    let served = take_turns(&mut driver, &mut triggers, Schedules { watch, cron }, asking).await;
    shut_down(triggers, driver);
    served
}

/// The queues of those who ask on sockets.
struct Asking {
    logins: mpsc::Sender<Reason>,
    operators: mpsc::Sender<Reason>,
}

/// What follows the configuration.
struct Schedules {
    watch: Watch,
    cron: Cron,
}

impl Schedules {
    fn follow(&mut self, driver: &Driver) {
        self.watch.renew(driver.watched_directories());
        let schedule = &driver.core.config.schedule;
        self.cron.set(&schedule.sweep, schedule.lockdown.as_ref());
    }
}

/// Acts on one reason after the other, until one says to stop.
async fn take_turns(
    driver: &mut Driver,
    triggers: &mut Triggers,
    mut schedules: Schedules,
    asking: Asking,
) -> Result<(), Failure> {
    schedules.follow(driver);
    let mut sockets = trigger::serve(asking.logins, asking.operators)?;
    driver.reached_again(sockets.keep(), clock::now());
    keep_watchdog();
    let ready_by = Instant::now() + READY_WITHIN;
    let (mut ready, mut reloading) = (false, false);
    loop {
        if !ready && (driver.core.recorder.is_idle() || Instant::now() >= ready_by) {
            ready = true;
            supervisor::tell(&[NotifyState::Ready])?;
            starts::succeeded();
        }
        let (wall, boot) = driver.next_deadline(clock::now());
        let next = triggers.next(wall, boot);
        let reason = match ready {
            true => next.await,
            false => tokio::time::timeout_at(ready_by.into(), next).await.unwrap_or(Reason::Deadline),
        };
        let moved = matches!(reason, Reason::Touched(_) | Reason::Job { .. });
        if let Reason::Touched(place) = reason {
            schedules.watch.seen(place);
        }
        if matches!(reason, Reason::Reload) {
            reloading = true;
            supervisor::tell(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])?;
        }
        if driver.homes.as_ref().is_some_and(|homes| !homes.is_alive()) {
            return Err("the threads that look after homes have ended".into());
        }
        if !driver.disk.is_alive() {
            return Err("the thread that writes to the disk has ended".into());
        }
        if !driver.listeners.is_alive() {
            return Err("the thread that watches who listens has ended".into());
        }
        if driver.follower.as_ref().is_some_and(|follower| !follower.is_alive()) {
            return Err("the thread that follows sshd's log has ended".into());
        }
        if matches!(reason, Reason::Stop) {
            hear_out(driver, triggers).await;
        }
        if moved {
            driver.reached_again(sockets.keep(), clock::now());
            driver.keep_run_files();
        }
        if driver.act(reason, clock::now()) == Next::Stop {
            return Ok(());
        }
        let reloaded = reloading && !driver.is_reloading();
        reloading = driver.is_reloading();
        if moved || reloaded || driver.take_directories_moved() {
            schedules.follow(driver);
        }
        if reloaded {
            supervisor::tell(&[NotifyState::Ready])?;
        }
    }
}

/// The one way down, in good order or after an error. The receivers go first, so that no thread waits to hand over what
/// nobody takes any more; then the driver, which waits for its threads no longer than they have [`LET_GO`].
fn shut_down(triggers: Triggers, driver: Driver) {
    if let Err(error) = supervisor::tell(&[NotifyState::Stopping]) {
        tracing::warn!(%error, "systemd could not be told of the stop");
    }
    drop(triggers);
    drop(driver);
}

/// What has been removed goes on record before the daemon stops.
async fn hear_out(driver: &mut Driver, triggers: &mut Triggers) {
    let Some(homes) = &driver.homes else { return };
    homes.send(Command::Stop);
    let all = async {
        while let Some(finding) = triggers.last_finding().await {
            // Whether to go on is decided already.
            let _ = driver.act(Reason::Found(finding), clock::now());
        }
    };
    if tokio::time::timeout(LAST_FINDINGS, all).await.is_err() {
        tracing::error!("what was removed last is in quarantine and not on record: it took too long to settle");
    }
}

/// Tells systemd that the main thread still turns, twice as often as it asks for.
fn keep_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval((period / 2).max(Duration::from_secs(1)));
        loop {
            ticks.tick().await;
            if let Err(error) = supervisor::tell(&[NotifyState::Watchdog]) {
                tracing::warn!(%error, "systemd's watchdog could not be told");
            }
        }
    });
}

/// Waits until a thread has ended, [`LET_GO`] at most; whether it has. One that panicked has said so itself.
pub(crate) fn let_go(thread: &JoinHandle<()>) -> bool {
    let until = Instant::now() + LET_GO;
    while !thread.is_finished() {
        if Instant::now() >= until {
            let name = thread.thread().name().unwrap_or("one").to_owned();
            tracing::warn!(thread = name, "a thread has not ended in time; the daemon ends without it");
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{JOURNAL_LIMIT, LAST_ANSWERS, LAST_COMMITS};

    #[test]
    fn a_thread_that_hangs_is_waited_for_no_longer_than_its_time() {
        let (keep, hang) = std::sync::mpsc::channel::<()>();
        let hangs = thread::spawn(move || hang.recv().unwrap_or_default());
        let began = Instant::now();
        assert!(!let_go(&hangs) && began.elapsed() >= LET_GO);
        drop(keep);
        assert!(let_go(&hangs));
    }

    #[test]
    fn all_that_a_stop_waits_for_takes_less_than_half_of_what_systemd_allows() {
        let unit = include_str!("../../../systemd/lockdownd.service");
        let allowed =
            unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.trim_end_matches('s').parse().ok());
        let allowed = Duration::from_secs(allowed.expect("the unit says it in seconds"));
        // The homes' two threads and the one that follows sshd's log.
        assert!(LAST_FINDINGS + LAST_COMMITS + JOURNAL_LIMIT + LAST_ANSWERS + 3 * LET_GO <= allowed / 2);
    }
}
