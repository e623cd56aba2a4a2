//! A process of this host, for as long as a boot lasts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many clock ticks the kernel counts a second (`USER_HZ`): 100 on every architecture that OpenSSH is packaged for.
pub const TICKS_PER_SECOND: u64 = 100;

/// One process: the pid alone may be used again, the pair is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in this pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc(5), `stat` field 22).
    pub start_time: u64,
}

impl ProcessId {
    /// When it began, on the boot clock, to the clock tick.
    #[must_use]
    pub fn began(self) -> Duration {
        Duration::from_millis(self.start_time.saturating_mul(1_000 / TICKS_PER_SECOND))
    }
}
