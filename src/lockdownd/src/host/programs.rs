//! Looking through programs for what tells a server: bounded in number, bytes and time, so that nobody can hold it up.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Take},
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use super::processes::ProcDir;

/// How much is looked through in one go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most bytes of a program.
    pub(super) program: u64,
    /// The most different programs.
    pub(super) programs: usize,
    /// The most bytes of one user's programs; root's are not counted.
    pub(super) user: u64,
    /// How long it may take.
    pub(super) time: Duration,
}

/// What has been found in which program, by device and inode.
pub(super) struct Programs {
    bounds: Bounds,
    until: Instant,
    seen: HashMap<(u64, u64), bool>,
    /// How much of each user's programs has been looked through: one user's must not hide another's.
    bytes: HashMap<u32, u64>,
    left_out: usize,
}

impl Programs {
    /// Begins a look.
    pub(super) fn new(bounds: Bounds) -> Self {
        let until = Instant::now() + bounds.time;
        Self { bounds, until, seen: HashMap::new(), bytes: HashMap::new(), left_out: 0 }
    }

    /// Whether the very file that this user's process runs, whatever stands at its path now, is such a program.
    pub(super) fn is(&mut self, pid: i32, uid: u32, look: impl FnOnce(&mut Take<File>) -> bool) -> bool {
        let Some(file) = ProcDir::open_living(pid).and_then(|dir| dir.program()) else { return false };
        let Ok(meta) = file.metadata() else { return false };
        let key = (meta.dev(), meta.ino());
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let size = meta.len().min(self.bounds.program);
        let bytes = self.bytes.entry(uid).or_default();
        let is_too_much = uid != 0 && *bytes + size > self.bounds.user;
        if self.seen.len() >= self.bounds.programs || is_too_much || Instant::now() >= self.until {
            self.left_out += 1;
            return false;
        }
        *bytes += size;
        let is_it = look(&mut file.take(self.bounds.program));
        self.seen.insert(key, is_it);
        is_it
    }

    /// How many processes' programs were not looked through: too many, or too large.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_users_large_programs_use_up_that_users_share_and_no_more() {
        let me = std::process::id().cast_signed();
        let bounds = Bounds { program: 1 << 20, programs: 8, user: 2 << 20, time: Duration::from_secs(60) };
        let mut programs = Programs::new(bounds);
        programs.bytes.insert(1_000, bounds.user);
        assert!(!programs.is(me, 1_000, |_| panic!("not looked through")) && programs.left_out() == 1);
        assert!(programs.is(me, 1_001, |file| file.limit() == bounds.program) && programs.left_out() == 1);
        assert!(programs.is(me, 1_000, |_| panic!("known by now")));
        let mut late = Programs::new(Bounds { time: Duration::ZERO, ..bounds });
        assert!(!late.is(me, 0, |_| panic!("its time is over")) && late.left_out() == 1);
        let mut none = Programs::new(Bounds { programs: 0, ..bounds });
        assert!(!none.is(me, 0, |_| panic!("one too many")) && none.left_out() == 1);
    }
}
