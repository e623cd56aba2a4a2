//! The process that systemd starts and waits for. It starts the daemon, passes signals to it and notifications from it, and
//! ends with it.
//!
//! A process is gone only once all of its threads are, and a thread that waits for a disk or a file system which does not
//! answer (state D of proc(5)) cannot be killed. systemd would wait for such a process for minutes before it started the
//! next one. The supervisor has one thread and waits for nobody, so a restart, and the start after a crash, never depend on a
//! disk: what cannot be killed is left behind, and does nothing more once its wait is over.

use std::{
    env, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use lockdown_host::{
    connection,
    processes::{self, Handle},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        socket::{self, MsgFlags},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getppid},
};
use sd_notify::NotifyState;

/// The first argument of the daemon proper; the second is the supervisor's process id.
pub const SERVE: &str = "--serve";

/// How often the supervisor looks whether the daemon has died with a thread left: the kernel does not tell.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks while the daemon is on its way out.
const LOOK_CLOSELY: Duration = Duration::from_millis(50);
/// How long the daemon's other threads may take to follow its main thread. Without a disk to wait for it is microseconds.
const THREADS_FOLLOW: Duration = Duration::from_millis(500);
/// How long the daemon may take to stop before it is killed; below the unit's `TimeoutStopSec=`.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// For whoever starts it by hand.
pub(crate) const STARTED_BY_SYSTEMD: &str = "lockdownd is started by systemd: systemctl start lockdownd";
/// The longest notification.
const LONGEST_NOTIFICATION: usize = 4_096;

/// How far the daemon is on its way out, each with how long ago it was first seen.
#[derive(Debug, Clone, Copy, Default)]
struct WayOut {
    told_to_stop: Option<Duration>,
    killed: Option<Duration>,
    /// Its main thread has ended, and it is not gone.
    hollow: Option<Duration>,
}

/// What the supervisor does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait(Duration),
    Kill,
    Leave,
}

impl WayOut {
    fn next(self) -> Next {
        let is_over = |since: Option<Duration>, limit| since.is_some_and(|since| since >= limit);
        if is_over(self.hollow, THREADS_FOLLOW) || is_over(self.killed, 2 * THREADS_FOLLOW) {
            return Next::Leave;
        }
        if self.killed.is_none() && is_over(self.told_to_stop, STOP_WITHIN) {
            return Next::Kill;
        }
        let on_its_way = self.told_to_stop.or(self.killed).or(self.hollow).is_some();
        Next::Wait(if on_its_way { LOOK_CLOSELY } else { LOOK })
    }
}

/// Starts the daemon and ends with it: its exit status, or 128 and the signal that ended it.
#[must_use]
pub fn supervise() -> ExitCode {
    // What is in the same control group ends with the daemon: it must be the service's.
    if env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        eprintln!("{STARTED_BY_SYSTEMD}");
        return ExitCode::FAILURE;
    }
    let ended = Supervisor::start().and_then(Supervisor::run);
    ended.unwrap_or_else(|error| {
        eprintln!("lockdownd cannot be supervised: {error}");
        ExitCode::FAILURE
    })
}

#[derive(Debug)]
struct Supervisor {
    signals: SignalFd,
    notifications: UnixDatagram,
    daemon: Pid,
    told_to_stop: Option<Instant>,
    killed: Option<Instant>,
    hollow: Option<Instant>,
}

impl Supervisor {
    fn start() -> io::Result<Self> {
        // Blocked before there is a daemon, so that none is lost.
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // What a supervisor that was killed could not end.
        end_what_is_left();
        let (notifications, theirs) = UnixDatagram::pair()?;
        notifications.set_nonblocking(true)?;
        // systemd's own variables name this process. Sockets and the daemon's watchdog are for whoever is started now.
        let daemon = Command::new(env::current_exe()?)
            .args([SERVE, &std::process::id().to_string()])
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_PID")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let daemon = Pid::from_raw(i32::try_from(daemon.id()).map_err(io::Error::other)?);
        Ok(Self { signals, notifications, daemon, told_to_stop: None, killed: None, hollow: None })
    }

    fn run(mut self) -> io::Result<ExitCode> {
        let ended = loop {
            self.pass_notifications_on();
            self.pass_signals_on()?;
            if let Some(ended) = self.reap()? {
                break ended;
            }
            if processes::main_thread_has_ended(self.daemon.as_raw()) {
                self.hollow.get_or_insert_with(Instant::now);
            }
            match self.way_out().next() {
                Next::Wait(wait) => self.wait(wait)?,
                Next::Kill => {
                    eprintln!("the daemon has not stopped within {STOP_WITHIN:?} and is killed");
                    self.signal(Signal::SIGKILL);
                    self.killed = Some(Instant::now());
                }
                Next::Leave => {
                    eprintln!(
                        "the daemon has ended, but a thread of it (process {}) waits for a disk or file system that does \
                         not answer; it is left behind, and ends once that answers",
                        self.daemon
                    );
                    break if self.told_to_stop.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
                }
            }
        };
        // It said last that it stops.
        self.pass_notifications_on();
        end_what_is_left();
        Ok(ended)
    }

    fn way_out(&self) -> WayOut {
        let since = |moment: Option<Instant>| moment.map(|moment| moment.elapsed());
        WayOut { told_to_stop: since(self.told_to_stop), killed: since(self.killed), hollow: since(self.hollow) }
    }

    fn wait(&self, wait: Duration) -> io::Result<()> {
        let mut fds = [self.signals.as_fd(), self.notifications.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// systemd takes them from this process alone (`NotifyAccess=exec`).
    fn pass_notifications_on(&self) {
        let mut buffer = [0; LONGEST_NOTIFICATION];
        while let Ok(length) = self.notifications.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&text)]) {
                eprintln!("systemd could not be told {text:?}: {error}");
            }
        }
    }

    fn pass_signals_on(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGHUP) => self.signal(Signal::SIGHUP),
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => {
                    self.told_to_stop.get_or_insert_with(Instant::now);
                    self.signal(signal);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// It is not reaped before [`Self::reap`] has seen its end, so its process id is nobody else's.
    fn signal(&self, signal: Signal) {
        if let Err(error) = kill(self.daemon, signal) {
            eprintln!("the daemon could not be sent {signal}: {error}");
        }
    }

    /// How the daemon ended, once it has.
    fn reap(&self) -> io::Result<Option<ExitCode>> {
        loop {
            match waitpid(self.daemon, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => {
                    return Ok(Some(u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from)));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    eprintln!("the daemon was ended by {signal}");
                    return Ok(Some(u8::try_from(128 + signal as i32).map_or(ExitCode::FAILURE, ExitCode::from)));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Kills whatever else is in the service's control group: what the daemon started and did not wait for, and the daemon itself
/// where it is left behind.
fn end_what_is_left() {
    for process in connection::beside_us() {
        let killed =
            process.open().and_then(|open| open.map_or(Ok(false), |open| open.signal(rustix::process::Signal::KILL)));
        if let Err(error) = killed {
            eprintln!("process {} of the daemon could not be killed: {error}", process.pid);
        }
    }
}

/// Makes this process the daemon of the supervisor with this process id: it is killed when that one ends, however it does. False
/// where that has happened already.
#[must_use]
pub fn bind_to(supervisor: &str) -> bool {
    // The supervisor's own are blocked, and a child inherits that.
    if let Err(error) = SigSet::empty().thread_set_mask() {
        eprintln!("signals stay blocked: {error}");
        return false;
    }
    // Set before the look: whoever ends in between leaves another parent.
    let set = prctl::set_pdeathsig(Signal::SIGKILL);
    set.is_ok() && supervisor.parse() == Ok(getppid().as_raw())
}

/// Tells systemd, by way of the supervisor.
///
/// # Errors
/// The supervisor does not take it.
pub fn tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let text: Vec<String> = states.iter().map(ToString::to_string).collect();
    socket::send(io::stdin().as_raw_fd(), text.join("\n").as_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: Option<Duration> = None;
    const fn ms(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_daemon_that_dies_with_a_thread_left_is_left_behind_and_one_that_does_not_stop_is_killed_first() {
        for (told_to_stop, killed, hollow, next) in [
            (NO, NO, NO, Next::Wait(LOOK)),
            (ms(0), NO, NO, Next::Wait(LOOK_CLOSELY)),
            (ms(14_999), NO, NO, Next::Wait(LOOK_CLOSELY)),
            (ms(15_000), NO, NO, Next::Kill),
            (ms(15_100), ms(100), NO, Next::Wait(LOOK_CLOSELY)),
            (ms(15_100), ms(100), ms(50), Next::Wait(LOOK_CLOSELY)),
            (ms(16_000), ms(1_000), NO, Next::Leave),
            (NO, NO, ms(499), Next::Wait(LOOK_CLOSELY)),
            (NO, NO, ms(500), Next::Leave),
            (ms(600), NO, ms(500), Next::Leave),
        ] {
            let way_out = WayOut { told_to_stop, killed, hollow };
            assert_eq!(way_out.next(), next, "{way_out:?}");
        }
    }

    #[test]
    fn all_that_a_stop_may_take_is_below_what_systemd_allows() {
        let unit = include_str!("../../../systemd/lockdownd.service");
        let allowed =
            unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.trim_end_matches('s').parse().ok());
        let allowed = Duration::from_secs(allowed.expect("the unit says it in seconds"));
        assert!(STOP_WITHIN + 2 * THREADS_FOLLOW + 2 * LOOK < allowed);
    }
}
