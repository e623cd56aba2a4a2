//! What the program does when it is started: serve, or check a configuration.
//!
//! Start order: log, watches and sockets, then the engine, which fills the key store; only then READY=1.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use crate::{
    config,
    enforce::{Engine, Next, homes::Command},
    host::{
        clock::{DeadlineTimer, Now},
        writers::{self, Writers},
    },
    journal, ledger,
    trigger::{self, Cron, MAX_QUEUED, MAX_REPORTS, Reason, Triggers, Watch},
};

/// Exit status for a bad configuration (`EX_CONFIG`, sysexits.h(3head)).
const BAD_CONFIG: u8 = 78;

/// How long the homes threads may take to settle and tell what they have removed when the daemon stops; well below the
/// unit's `TimeoutStopSec`.
const LAST_FINDINGS: Duration = Duration::from_secs(5);

/// Anything that ends the daemon before or while it serves.
type Failure = Box<dyn std::error::Error>;

/// `lockdownd --check [FILE]`: says whether a configuration checks out. 0 or 78.
#[must_use]
pub fn check(file: Option<&Path>) -> ExitCode {
    say(config::check(file))
}

/// `lockdownd --check --as DESTINATION FILE`: says whether the configuration would check out with these files. 0 or 78.
#[must_use]
pub fn check_as(proposed: &[config::Proposed]) -> ExitCode {
    say(config::check_as(proposed))
}

fn say(checked: Result<config::Checked, config::Error>) -> ExitCode {
    match checked {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_CONFIG)
        }
    }
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

/// Serves until it is told to stop.
#[must_use]
pub fn daemon() -> ExitCode {
    if let Err(error) = journal::start_log() {
        eprintln!("lockdownd goes on without its own log: {error}");
    }
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("lockdownd cannot go on: {}", ledger::describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Failure> {
    let (send, reasons) = mpsc::channel(MAX_QUEUED);
    let (found, findings) = mpsc::channel(MAX_QUEUED);
    let (tell, reports) = mpsc::channel(MAX_REPORTS);
    let mut triggers = Triggers::new(reasons, reports, findings, DeadlineTimer::new()?);
    trigger::listen_for_signals(&send)?;
    let writers = Writers::open();
    writers.listen()?;
    let mut watch = Watch::new(send.clone(), Arc::clone(&writers)).map_err(|error| {
        format!("no inotify instance can be had (raise the sysctl fs.inotify.max_user_instances): {error}")
    })?;
    let mut cron = Cron::new(send.clone());
    let mut engine = Engine::start(send.clone(), tell, found, writers, Now::read())?;
    watch.renew(&engine.watched_directories());
    keep_schedule(&mut cron, &engine).await;
    trigger::serve(&send)?;
    keep_watchdog();
    sd_notify::notify(&[NotifyState::Ready])?;
    loop {
        let (wall, boot) = engine.next_deadline(Now::read());
        let reason = triggers.next(wall, boot).await;
        let reloads = matches!(reason, Reason::Reload);
        let moved = reloads || matches!(reason, Reason::Touched(_));
        if let Reason::Touched(place) = reason {
            watch.seen(place);
        }
        if reloads {
            sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])?;
        }
        if !engine.homes.is_alive() {
            return Err("the threads that look after homes have ended".into());
        }
        if !engine.follower.is_alive() {
            return Err("the thread that follows sshd's log has ended".into());
        }
        if matches!(reason, Reason::Stop) {
            hear_out(&mut engine, &mut triggers).await;
        }
        if engine.act(reason, Now::read()) == Next::Stop {
            break;
        }
        if moved {
            watch.renew(&engine.watched_directories());
            keep_schedule(&mut cron, &engine).await;
        }
        if reloads {
            sd_notify::notify(&[NotifyState::Ready])?;
        }
    }
    sd_notify::notify(&[NotifyState::Stopping])?;
    // The homes threads end with the engine; they must not wait for somebody to receive what they still find.
    drop(triggers);
    Ok(())
}

/// What has been removed goes on record before the daemon stops.
async fn hear_out(engine: &mut Engine, triggers: &mut Triggers) {
    engine.homes.send(Command::Stop);
    let all = async {
        while let Some(finding) = triggers.last_finding().await {
            // Whether to go on is decided already.
            let _ = engine.act(Reason::Found(finding), Now::read());
        }
    };
    if tokio::time::timeout(LAST_FINDINGS, all).await.is_err() {
        tracing::error!("what was removed last is in quarantine and not on record: it took too long to settle");
    }
}

async fn keep_schedule(cron: &mut Cron, engine: &Engine) {
    let schedule = &engine.config.schedule;
    cron.set(schedule.sweep.as_str(), schedule.lockdown.as_ref().map(config::Cron::as_str)).await;
}

/// Tells systemd that the main thread still turns, twice as often as it asks for.
fn keep_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval((period / 2).max(Duration::from_secs(1)));
        loop {
            ticks.tick().await;
            if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                tracing::warn!(%error, "systemd's watchdog could not be told");
            }
        }
    });
}
