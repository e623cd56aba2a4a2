//! From a document that is laid into the inbox until its key stands in the store, and the floor of what is on record: one line
//! that the same disk has taken.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::Failure;

/// The key store.
const STORE: &str = "/run/lockdownd/keys";
/// Where documents come in.
const INBOX: &str = "/var/lib/lockdownd-shipper/inbox";
/// Where the floor's file stands: the same file system as the ledger's.
const FLOOR: &str = "/var/lib/lockdownd-bench";
/// What a record takes, in bytes.
const LINE: usize = 1_024;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two.
const SPACING: Duration = Duration::from_millis(50);

/// Lays the documents that `list` names into the inbox, one by one, in turn with the floor. Each line of it: the account that the
/// grant opens, and the file, which is named after the document.
pub(crate) fn run(list: &str) -> Result<(), Failure> {
    let mut floor = File::create(FLOOR)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(STORE, AddWatchFlags::IN_MOVED_TO)?;
    for line in fs::read_to_string(list)?.lines() {
        let (account, file) = line.split_once(' ').ok_or("no account and file")?;
        let name = file.rsplit('/').next().unwrap_or(file);
        let (hidden, laid) = (format!("{INBOX}/.{name}.new"), format!("{INBOX}/{name}"));
        fs::copy(file, &hidden)?;
        std::thread::sleep(SPACING);
        let began = Instant::now();
        fs::rename(&hidden, &laid)?;
        await_key(&inotify, account)?;
        println!("ours {}", began.elapsed().as_nanos());
        let began = Instant::now();
        floor.write_all(&[b'.'; LINE])?;
        floor.sync_data()?;
        println!("floor {}", began.elapsed().as_nanos());
    }
    fs::remove_file(FLOOR)?;
    Ok(())
}

/// Waits until this account's key file stands in the store.
fn await_key(inotify: &Inotify, account: &str) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let left = LIMIT.checked_sub(began.elapsed()).ok_or_else(|| format!("{account} is not granted"))?;
        if poll(&mut fds, PollTimeout::try_from(left)?)? == 0 {
            continue;
        }
        if inotify.read_events()?.into_iter().any(|event| event.name.is_some_and(|name| name == account)) {
            return Ok(());
        }
    }
}
