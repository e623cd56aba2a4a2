//! The two clocks that bound a grant, and a timer over both.
//!
//! A grant ends when the wall clock reaches its end *or* the boot clock its boot deadline, whichever comes first: so
//! setting the wall clock back lengthens nothing. This module must never round a deadline up, never poll, and never
//! lose a change of the wall clock that happens while nobody waits.

use std::{io, os::fd::OwnedFd, path::Path, time::Duration};

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use lockdown_core::policy::time::Now;
use rustix::{
    io::Errno,
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::unix::AsyncFd;

use super::async_fd;

/// The host's time zone (localtime(5)).
const LOCALTIME: &str = "/etc/localtime";

/// Where the kernel shows the id of this boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A timer or the boot id could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The boot id could not be read.
    #[error("{BOOT_ID}: {0}")]
    BootId(#[source] io::Error),
    /// The boot id is not a UUID.
    #[error("{BOOT_ID} holds {0:?}, not a UUID")]
    NotAUuid(String),
    /// A timer descriptor could not be made, armed or read.
    #[error("timerfd: {0}")]
    Timer(#[source] io::Error),
}

/// Reads both clocks, one after the other.
#[must_use]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let boot = Duration::new(boot.tv_sec.unsigned_abs(), u32::try_from(boot.tv_nsec).unwrap_or(0));
    let wall = clock_gettime(ClockId::Realtime);
    let wall = Timestamp::new(wall.tv_sec, i32::try_from(wall.tv_nsec).unwrap_or(0)).unwrap_or(Timestamp::MAX);
    Now { wall, boot }
}

/// The kernel's id of this boot: a lower-case UUID with hyphens, as records carry it.
///
/// # Errors
/// When `/proc` is not mounted or holds something else.
pub fn boot_id() -> Result<String, ClockError> {
    let text = std::fs::read_to_string(Path::new(BOOT_ID)).map_err(ClockError::BootId)?;
    let id = text.trim_end();
    let uuid = id.len() == 36 && id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if uuid { Ok(id.to_owned()) } else { Err(ClockError::NotAUuid(id.chars().take(64).collect())) }
}

/// The time zone that programs on this host run in (localtime(5)), for an sshd that reads an end as local time.
///
/// No `/etc/localtime` is UTC, as for glibc. One that cannot be read is taken for the zone that is furthest behind: a
/// key that ends by it then ends early, and never late.
#[must_use]
pub fn local_zone() -> TimeZone {
    const FURTHEST_BEHIND: Offset = Offset::constant(-12);
    match std::fs::read(LOCALTIME) {
        Ok(bytes) => TimeZone::tzif("local", &bytes).unwrap_or_else(|_| TimeZone::fixed(FURTHEST_BEHIND)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => TimeZone::UTC,
        Err(_) => TimeZone::fixed(FURTHEST_BEHIND),
    }
}

/// Why [`DeadlineTimer::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Woke {
    /// One of the two deadlines has been reached.
    Deadline,
    /// The wall clock was set: whoever waits must look at every deadline again.
    ClockSet,
}

/// Two timers, one on each clock (timerfd_create(2)).
#[derive(Debug)]
pub struct DeadlineTimer {
    wall: AsyncFd<OwnedFd>,
    boot: AsyncFd<OwnedFd>,
}

impl DeadlineTimer {
    /// Makes the two timers, not armed. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> Result<Self, ClockError> {
        Ok(Self { wall: timer(TimerfdClockId::Realtime)?, boot: timer(TimerfdClockId::Boottime)? })
    }

    /// Sleeps until the wall clock reaches `wall`, the boot clock reaches `boot`, or the wall clock is set; without
    /// deadlines, until the wall clock is set. A deadline that has passed returns at once.
    ///
    /// Safe to drop at any point and call again: the deadlines are absolute, and a clock that was set in between is
    /// reported by the next call.
    ///
    /// # Errors
    /// When a timer cannot be armed or read; never for a deadline in the past.
    pub async fn wait(&mut self, wall: Option<Timestamp>, boot: Option<Duration>) -> Result<Woke, ClockError> {
        // Without a wall deadline the timer still stands, at the end of time, to hear of the clock being set.
        let at = wall.unwrap_or(Timestamp::MAX).as_duration();
        let at = Duration::try_from(at).unwrap_or_default();
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match arm(self.wall.get_ref(), Some(at), flags) {
            // The kernel has armed the timer and tells of a change that nobody has read yet.
            Err(Errno::CANCELED) => return Ok(Woke::ClockSet),
            other => other.map_err(failed)?,
        }
        arm(self.boot.get_ref(), boot, TimerfdTimerFlags::ABSTIME).map_err(failed)?;
        // Arming anew takes back what has fired and was not read: a deadline that has passed must not wait for the kernel to
        // say so, or whoever calls often would never hear of it.
        let now = now();
        if wall.is_some_and(|wall| now.wall >= wall) || boot.is_some_and(|boot| now.boot >= boot) {
            return Ok(Woke::Deadline);
        }
        tokio::select! {
            biased;
            woke = fired(&self.wall) => woke,
            woke = fired(&self.boot) => woke,
        }
    }
}

fn failed(errno: Errno) -> ClockError {
    ClockError::Timer(errno.into())
}

fn timer(clock: TimerfdClockId) -> Result<AsyncFd<OwnedFd>, ClockError> {
    let timer = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).map_err(failed)?;
    async_fd::readable(timer).map_err(ClockError::Timer)
}

/// Arms one timer for a moment on its clock, or disarms it.
fn arm(timer: &OwnedFd, at: Option<Duration>, flags: TimerfdTimerFlags) -> Result<(), Errno> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A moment of zero would disarm the timer.
    let at = at.map_or(Ok(never), |at| Timespec::try_from(at.max(Duration::from_nanos(1))));
    let at = at.map_err(|_| Errno::INVAL)?;
    timerfd_settime(timer, flags, &Itimerspec { it_interval: never, it_value: at }).map(|_| ())
}

async fn fired(timer: &AsyncFd<OwnedFd>) -> Result<Woke, ClockError> {
    loop {
        let mut ready = timer.readable().await.map_err(ClockError::Timer)?;
        let mut count = [0_u8; 8];
        let read = ready.try_io(|timer| rustix::io::read(timer.get_ref(), &mut count).map_err(io::Error::from));
        match read {
            Ok(Ok(_)) => return Ok(Woke::Deadline),
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                return Ok(Woke::ClockSet);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(ClockError::Timer(error)),
            // Not ready after all; wait again.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn the_boot_id_is_a_uuid() {
        assert_eq!(boot_id().expect("a boot id").len(), 36);
    }

    #[test]
    fn both_clocks_go_forward() {
        let (first, second) = (now(), now());
        assert!(second.boot >= first.boot && first.boot > Duration::ZERO);
        assert!(first.wall > Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn each_of_the_two_deadlines_wakes_alone_and_not_early() {
        run(async {
            let mut timer = DeadlineTimer::new().expect("timers");
            let start = now();
            let wall = start.wall + Duration::from_millis(30);
            assert_eq!(timer.wait(Some(wall), None).await.expect("a wait"), Woke::Deadline);
            assert!(now().wall >= wall);
            let boot = now().boot + Duration::from_millis(30);
            let far = start.wall + Duration::from_secs(3600);
            assert_eq!(timer.wait(Some(far), Some(boot)).await.expect("a wait"), Woke::Deadline);
            assert!(now().boot >= boot);
        });
    }

    #[test]
    fn a_deadline_in_the_past_wakes_at_once() {
        run(async {
            let mut timer = DeadlineTimer::new().expect("timers");
            for wall in [Timestamp::MIN, Timestamp::UNIX_EPOCH, now().wall] {
                assert_eq!(timer.wait(Some(wall), None).await.expect("a wait"), Woke::Deadline);
            }
            assert_eq!(timer.wait(None, Some(Duration::ZERO)).await.expect("a wait"), Woke::Deadline);
        });
    }

    #[test]
    fn a_dropped_wait_loses_nothing() {
        run(async {
            let mut timer = DeadlineTimer::new().expect("timers");
            let soon = now().boot + Duration::from_millis(20);
            let dropped = tokio::time::timeout(Duration::from_millis(1), timer.wait(None, Some(soon))).await;
            assert!(dropped.is_err());
            tokio::time::sleep(Duration::from_millis(40)).await;
            assert_eq!(timer.wait(None, Some(soon)).await.expect("a wait"), Woke::Deadline);
            // Disarmed again: the old deadline does not come back.
            let again = tokio::time::timeout(Duration::from_millis(20), timer.wait(None, None)).await;
            assert!(again.is_err());
        });
    }
}
