//! When keys leave the store, and the floor of an end on time: a timer that wakes a thread, which unlinks a file.

use std::fs;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::Failure;

/// The key store.
const STORE: &str = "/run/lockdownd/keys";
/// Where the floor's files stand: the same file system.
const FLOOR: &str = "/run/bench-deadlines";

/// How long is watched at most, beyond the wait and the floor's ends.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two ends of the floor's.
const SPACING: Duration = Duration::from_millis(50);

/// Prints `gone NAME NANOSECONDS` (since the epoch) for each of `count` files that leave the store, and from `wait`
/// seconds on has the floor end as many files of its own, printing how late each was seen gone.
pub(crate) fn run(wait: u64, count: u32) -> Result<(), Failure> {
    fs::create_dir_all(FLOOR)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let leaves = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
    let store = inotify.add_watch(STORE, leaves)?;
    inotify.add_watch(FLOOR, leaves)?;

    let first = since_epoch() + Duration::from_secs(wait);
    let ends: Vec<Duration> = (0..count).map(|index| first + SPACING * index).collect();
    let last = first + SPACING * count;
    for end in &ends {
        fs::write(format!("{FLOOR}/{}", end.as_nanos()), "")?;
    }
    let ending = thread::spawn(move || end_on_time(&ends).map_err(|error| error.to_string()));
    observe(&inotify, store, 2 * count, last + LIMIT)?;
    ending.join().expect("it does not panic")?;
    fs::remove_dir_all(FLOOR)?;
    Ok(())
}

/// Tells of `left` files that go, until then at most.
fn observe(inotify: &Inotify, store: WatchDescriptor, mut left: u32, until: Duration) -> Result<(), Failure> {
    while left > 0 {
        let remaining = until.saturating_sub(since_epoch());
        if remaining.is_zero() {
            return Err(format!("{left} files still stand").into());
        }
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(remaining + Duration::from_millis(1))?)? == 0 {
            continue;
        }
        let now = since_epoch();
        for event in inotify.read_events()? {
            let name = event.name.map(|name| name.display().to_string()).unwrap_or_default();
            // A file that is being put into the store has a name with a dot before.
            if name.is_empty() || name.starts_with('.') {
                continue;
            }
            left = left.saturating_sub(1);
            if event.wd == store {
                println!("gone {name} {}", now.as_nanos());
            } else {
                let end: u128 = name.parse()?;
                println!("floor {}", now.as_nanos().saturating_sub(end));
            }
        }
    }
    Ok(())
}

fn end_on_time(ends: &[Duration]) -> Result<(), Failure> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC)?;
    for end in ends {
        timer.set(Expiration::OneShot(TimeSpec::from(*end)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        timer.wait()?;
        fs::remove_file(format!("{FLOOR}/{}", end.as_nanos()))?;
    }
    Ok(())
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
