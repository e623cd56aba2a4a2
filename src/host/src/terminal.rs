//! The terminals of SSH connections: which are whose, and one bounded message onto one of them.
//!
//! Which terminals a connection has is asked of sshd's own process, which holds their masters: nobody can make it name
//! another's. Writing never waits: not for a terminal that was stopped, not for a reader. Nothing is opened by a name
//! that a user chose, and nothing but a terminal of that very user is written to.

use std::{io, path::Path};

use lockdown_core::sessions::MAX_TERMINALS;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use super::processes::{ProcDir, ProcessId};

/// Where terminals are (devpts, pts(4)).
const DEVPTS: &str = "/dev/pts";
/// The first and last major number of the far sides of pseudo-terminals (the kernel's `devices.txt`).
const MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
/// The longest message, in bytes; the rest is left off. A terminal takes 4 KiB at a time without a reader.
pub const MAX_MESSAGE: usize = 1024;

/// The numbers N of the terminals `/dev/pts/N` whose masters this process holds, in order; none when it is gone.
#[must_use]
pub fn held_by(monitor: ProcessId) -> Vec<u32> {
    let Some(dir) = ProcDir::open(monitor.pid).filter(|dir| dir.is(monitor)) else { return Vec::new() };
    let masters = dir.descriptors_to(|target| target.ends_with(b"/ptmx")).unwrap_or_default();
    let index = |number: &String| {
        let info = dir.read_below("fdinfo", number)?;
        let line = info.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"tty-index:"))?;
        std::str::from_utf8(line).ok()?.trim().parse::<u32>().ok()
    };
    // sshd holds the same master several times over.
    let mut numbers: Vec<u32> = masters.iter().filter_map(index).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.truncate(MAX_TERMINALS);
    numbers
}

/// Writes `text`, to [`MAX_MESSAGE`], to the terminal `/dev/pts/NUMBER` if it is `owner`'s. Each line begins at the left
/// edge, whatever a program has made of the terminal. What does not fit in at once is lost.
///
/// # Errors
/// There is no such terminal of theirs, or it takes nothing now: somebody stopped it, or nobody reads it.
pub fn write(number: u32, owner: u32, text: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let devpts = rustix::fs::open(Path::new(DEVPTS), flags, Mode::empty())?;
    let name = number.to_string();
    let is_theirs = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && MAJORS.contains(&rustix::fs::major(stat.st_rdev))
            && stat.st_uid == owner
    };
    // Looked at before it is opened: opening another kind of device could do something.
    if !is_theirs(&statat(&devpts, &name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Err(Errno::NOTTY.into());
    }
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let terminal = openat(&devpts, &name, flags, Mode::empty())?;
    if !is_theirs(&rustix::fs::fstat(&terminal)?) {
        return Err(Errno::NOTTY.into());
    }
    let bytes = as_shown(text);
    let taken = rustix::io::write(&terminal, &bytes[..bytes.len().min(MAX_MESSAGE)])?;
    if taken == 0 { Err(Errno::AGAIN.into()) } else { Ok(()) }
}

/// The text with a line of its own and nothing in it that a terminal would act on but the ends of lines.
fn as_shown(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| format!("\r\n{}", record::escape(line.as_bytes())));
    let mut shown: String = lines.collect();
    shown.push_str("\r\n");
    shown.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::fd::{AsFd, OwnedFd},
        time::{Duration, Instant},
    };

    use rustix::{
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
        termios::{Action, tcflow},
    };

    use super::*;
    use crate::processes::identity;

    fn pty() -> (OwnedFd, u32) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("text");
        (master, name.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number"))
    }

    fn open(number: u32) -> OwnedFd {
        rustix::fs::open(format!("{DEVPTS}/{number}"), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opens")
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn the_holder_of_a_master_has_that_terminal() {
        let own = identity(i32::try_from(std::process::id()).expect("a pid")).expect("myself");
        let (master, number) = pty();
        let again = master.try_clone().expect("a descriptor");
        assert_eq!(held_by(own).iter().filter(|held| **held == number).count(), 1);
        drop((master, again));
        assert!(!held_by(own).contains(&number));
    }

    #[test]
    fn a_message_arrives_on_lines_of_its_own_and_acts_on_nothing() {
        let (master, number) = pty();
        let _user = open(number);
        write(number, own_uid(), "two\nlines\x1b]0;x\x07").expect("written");
        let mut text = [0; 256];
        let read = std::fs::File::from(master).read(&mut text).expect("readable");
        let text = String::from_utf8_lossy(&text[..read]).replace("\r\r\n", "\r\n");
        assert_eq!(text, "\r\ntwo\r\nlines\\x1b]0;x\\x07\r\n");
    }

    #[test]
    fn only_its_owners_terminal_is_written_to() {
        let (_master, number) = pty();
        let _user = open(number);
        assert!(write(number, own_uid() + 1, "x").is_err());
        assert!(write(u32::MAX, own_uid(), "x").is_err());
    }

    #[test]
    fn a_stopped_or_full_terminal_keeps_nobody_waiting() {
        let (_master, number) = pty();
        let user = open(number);
        tcflow(user.as_fd(), Action::OOff).expect("stopped");
        let began = Instant::now();
        assert!(write(number, own_uid(), "x").is_err());
        tcflow(user.as_fd(), Action::OOn).expect("goes on");
        // Nobody reads: at some point it takes no more.
        let filled = (0..1000).any(|_| write(number, own_uid(), &"x".repeat(900)).is_err());
        assert!(filled && began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
