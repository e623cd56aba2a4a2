//! How long a key stands that nobody granted: in turn in a home, where the daemon removes it, and in a directory of the
//! unlink loop.
//!
//! It is looked for without a pause, so that no wake-up of this program is part of either time.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::{
    Failure,
    accounts::{KEY_FILES, floor_directory, home},
    unlink_loop::UnlinkLoop,
};

/// A key of nobody's that would open the account to its holder.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOSMj0flNLsBRqm/TWR0oMgA7IxPCF7CHG/HovyGZ/ha intruder@elsewhere\n";
/// Where a key is made ready to be moved into place; nobody watches it.
const STAGED: &str = "/home/.floor/staged";
/// How long a key may stand before something is wrong.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two keys: long enough for both sides to fall asleep, and for the daemon to have put away and recorded what it
/// took, several flushes to the disk that would slow down whoever comes next.
const REST: Duration = Duration::from_millis(30);

/// Writes `rounds` keys in each of the two ways, for both sides, over accounts 0 to `count`.
pub(crate) fn run(count: u32, rounds: u32) -> Result<(), Failure> {
    for index in 0..count {
        // The watch is on the directory; what stands there now would only be in the way.
        for name in KEY_FILES {
            let _ = fs::remove_file(format!("{}/.ssh/{name}", home(index)));
        }
    }
    let _loop = UnlinkLoop::start(count)?;
    for round in 0..rounds {
        // Stepping by a prime visits accounts all over the place.
        let index = round * 7919 % count;
        let ours = format!("{}/.ssh/authorized_keys", home(index));
        let floor = format!("{}/authorized_keys", floor_directory(index));
        // Whoever comes second may find the machine warm, or busy with the first: they take turns.
        let mut sides = [("ours", &ours), ("floor", &floor)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (side, file) in sides {
            println!("written-{side} {}", written(Path::new(file))?.as_nanos());
            thread::sleep(REST);
        }
        for (side, file) in sides {
            println!("moved-{side} {}", moved(Path::new(file))?.as_nanos());
            thread::sleep(REST);
        }
    }
    Ok(())
}

/// From before a key is written in place until it is gone.
fn written(file: &Path) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut opened = File::options().create_new(true).write(true).open(file)?;
    opened.write_all(KEY.as_bytes())?;
    drop(opened);
    gone(file, start)
}

/// From before a finished file is moved into place until it is gone.
fn moved(file: &Path) -> Result<Duration, Failure> {
    fs::write(STAGED, KEY)?;
    let start = Instant::now();
    fs::rename(STAGED, file)?;
    gone(file, start)
}

fn gone(file: &Path, start: Instant) -> Result<Duration, Failure> {
    loop {
        let there = nix::unistd::access(file, nix::unistd::AccessFlags::F_OK).is_ok();
        let stood = start.elapsed();
        if !there {
            return Ok(stood);
        }
        if stood > LIMIT {
            return Err(format!("{} still stands after {LIMIT:?}", file.display()).into());
        }
    }
}
