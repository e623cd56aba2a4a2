//! Looking through programs for what tells a server: bounded in number, bytes and time, so that nobody can hold it up.
//!
//! A program may be on a file system that a user answers for (FUSE, NFS). So it is opened and read by a thread of its own
//! that is not waited for long. A user who makes such threads hang makes their own programs be left out, and nobody
//! else's.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Take},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::processes::ProcDir;

/// How long one program may take to be opened and looked through: also while a user's threads leave little time for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many threads may be under way for one user: two looks may run at a time.
const MAX_THREADS_OF_USER: usize = 2;
/// How many may be under way in all, those that never come back included.
const MAX_THREADS: usize = 32;

/// How many threads read programs for whom; what hangs stays here until it comes back.
static THREADS: Mutex<BTreeMap<u32, usize>> = Mutex::new(BTreeMap::new());

/// How much is looked through in one go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most bytes of a program.
    pub program: u64,
    /// The most different programs.
    pub programs: usize,
    /// The most bytes of one user's programs; root's are not counted.
    pub user: u64,
    /// How long programs may be read for, without what is waited for those that do not answer.
    pub time: Duration,
}

/// What has been found in which program, by device and inode.
pub struct Programs {
    bounds: Bounds,
    /// How long programs have been read for.
    spent: Duration,
    seen: HashMap<(u64, u64), bool>,
    /// How much of each user's programs has been looked through: one user's must not hide another's.
    bytes: HashMap<u32, u64>,
    left_out: usize,
}

impl Programs {
    /// Begins a look.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, spent: Duration::ZERO, seen: HashMap::new(), bytes: HashMap::new(), left_out: 0 }
    }

    /// Whether the very file that this user's process runs, whatever stands at its path now, is such a program.
    pub fn is<F>(&mut self, pid: i32, uid: u32, look: F) -> bool
    where
        F: FnOnce(&mut Take<File>) -> bool + Send + 'static,
    {
        let Some(dir) = ProcDir::open_living(pid) else { return false };
        let (Some(key), Some(size)) = (dir.node("exe"), dir.program_size()) else { return false };
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let size = size.min(self.bounds.program);
        let bytes = self.bytes.entry(uid).or_default();
        let is_too_much = uid != 0 && *bytes + size > self.bounds.user;
        if self.seen.len() >= self.bounds.programs || is_too_much || self.spent >= self.bounds.time {
            self.left_out += 1;
            return false;
        }
        *bytes += size;
        let most = self.bounds.program;
        let began = Instant::now();
        let Some(is_it) = beside(uid, move || dir.program().is_some_and(|file| look(&mut file.take(most)))) else {
            // What one user's file system costs is not taken from the time for others.
            self.left_out += 1;
            return false;
        };
        self.spent += began.elapsed();
        self.seen.insert(key, is_it);
        is_it
    }

    /// How many processes' programs were not looked through: too many, too large, or not to be read in time.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

/// Looks in a thread of its own; `None` where it does not come back in time, or where too many have not.
fn beside(uid: u32, look: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
    let under_way = UnderWay::of(uid)?;
    let (tell, told) = mpsc::sync_channel(1);
    let run = move || {
        let is_it = look();
        drop(under_way);
        // Nobody receives what comes too late.
        let _ = tell.send(is_it);
    };
    thread::Builder::new().name("program".to_owned()).spawn(run).ok()?;
    told.recv_timeout(PATIENCE).ok()
}

/// A place among the threads; given up when this is dropped.
struct UnderWay(u32);

impl UnderWay {
    fn of(uid: u32) -> Option<Self> {
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = threads.values().sum();
        let theirs = threads.entry(uid).or_default();
        let has_room = *theirs < MAX_THREADS_OF_USER && all < MAX_THREADS;
        *theirs += usize::from(has_room);
        has_room.then(|| Self(uid))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = threads.get_mut(&self.0) {
            *theirs -= 1;
        }
        threads.retain(|_, number| *number > 0);
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
        assert!(programs.is(me, 1_001, |file| file.limit() == 1 << 20) && programs.left_out() == 1);
        assert!(programs.is(me, 1_000, |_| panic!("known by now")));
        let mut late = Programs::new(Bounds { time: Duration::ZERO, ..bounds });
        assert!(!late.is(me, 0, |_| panic!("its time is over")) && late.left_out() == 1);
        let mut none = Programs::new(Bounds { programs: 0, ..bounds });
        assert!(!none.is(me, 0, |_| panic!("one too many")) && none.left_out() == 1);
    }

    #[test]
    fn programs_that_do_not_answer_are_left_out_and_the_others_are_still_found() {
        let me = std::process::id().cast_signed();
        let bounds = Bounds { program: 1 << 20, programs: 8, user: 64 << 20, time: Duration::from_millis(400) };
        let mut programs = Programs::new(bounds);
        let hang = |_: &mut Take<File>| {
            thread::sleep(Duration::from_secs(20));
            true
        };
        let began = Instant::now();
        assert!((0..50).all(|_| !programs.is(me, 2_000, hang)), "nobody waits for them");
        assert!(began.elapsed() < Duration::from_secs(10), "and they are not tried one by one: {:?}", began.elapsed());
        assert_eq!(programs.left_out(), 50);
        // That took longer than the look may, and is not taken from it.
        assert!(programs.is(me, 2_001, |file| file.limit() == 1 << 20));
        assert!(THREADS.lock().expect("no panic").get(&2_000) == Some(&MAX_THREADS_OF_USER));
    }
}
