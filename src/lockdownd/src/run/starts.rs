//! Pauses between starts that fail one after another.
//!
//! systemd tries again for ever. `RestartSteps=`, which would make it do so more slowly, came with systemd 254, and Debian 12
//! has 252. So the daemon waits before it exits: the try itself is never put off, and systemd can end the wait.

use std::{fs, io, path::Path, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use lockdown_host::paths::{self, Durability};

/// How many starts have failed since the last that did not. It outlives the daemon, not a boot.
const FAILED_STARTS: &str = "/run/lockdownd/failed-starts";
/// The pause after the second failure in a row; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: as long `systemctl start` waits in vain.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The daemon serves.
pub(super) fn succeeded() {
    match fs::remove_file(FAILED_STARTS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "{FAILED_STARTS} cannot be removed: the next start that fails is followed by a longer pause");
        }
        _ => {}
    }
}

/// The daemon could not start or go on: waits, unless it is the first time, and no longer than until it is told to stop.
pub(super) async fn wait() {
    let path = Path::new(FAILED_STARTS);
    let before = paths::read_path(path, 16).ok().and_then(|bytes| str::from_utf8(&bytes).ok()?.trim().parse().ok());
    let failed: u32 = before.unwrap_or(0);
    // What cannot be counted is waited for as if it had gone on for long.
    let counted =
        paths::replace_path(path, failed.saturating_add(1).to_string().as_bytes(), 0o600, Durability::Volatile);
    let pause = pause(if counted.is_ok() { failed } else { u32::MAX });
    let Ok(mut told_to_stop) = signal(SignalKind::terminate()) else { return };
    // Either ends it.
    let _ = tokio::time::timeout(pause, told_to_stop.recv()).await;
}

fn pause(failed_before: u32) -> Duration {
    match failed_before.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_not_waited_for_and_the_pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = (0..8).map(|failed| pause(failed).as_millis()).collect();
        assert_eq!(pauses, [0, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
