//! The floor of a removal: a loop that does nothing but hear of a file and unlink it.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::{fs, io::BufRead, io::BufReader};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::{Failure, accounts::floor_directory};

/// What the loop says once it watches.
const READY: &str = "ready";

/// Watches the floor's directories 0 to `count` and unlinks each file that is written or moved there.
pub(crate) fn run(count: u32) -> Result<(), Failure> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let mut directories = HashMap::new();
    for index in 0..count {
        let directory = floor_directory(index);
        let heard = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
        directories.insert(inotify.add_watch(directory.as_str(), heard)?, directory);
    }
    println!("{READY}");
    loop {
        for event in inotify.read_events()? {
            let (Some(directory), Some(name)) = (directories.get(&event.wd), event.name) else { continue };
            // Gone already: one write is more than one event.
            let _ = fs::remove_file(format!("{directory}/{}", name.display()));
        }
    }
}

/// The loop as a process of its own. Dropping it ends it.
pub(crate) struct UnlinkLoop(pub(crate) Child);

impl UnlinkLoop {
    /// Starts it, and waits until it watches.
    pub(crate) fn start(count: u32) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["unlink-loop", &count.to_string()]).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().ok_or("its output is a pipe")?;
        let this = Self(child);
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        if line.trim_end() == READY { Ok(this) } else { Err("the unlink loop did not start".into()) }
    }
}

impl Drop for UnlinkLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
