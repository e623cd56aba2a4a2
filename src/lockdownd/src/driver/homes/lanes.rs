//! Keeps a home that does not answer from holding up the others.
//!
//! Homes are looked after in lanes. One is for file systems of this host. The other is for those that another host or a program
//! answers for (NFS, FUSE, autofs), and is only there while a home is on one. Each lane is a thread; the second one has a process
//! of its own. What a lane waits for in a home cannot be interrupted, so the keeper watches how long each has been in the same
//! home. A lane that is there for too long is left to it: another takes its place, without that home, until the home answers.

mod post;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lockdown_host::{
    accounts::AccountName, home_watch::HomeWatch, mounts::Mounts, paths::Root, quarantine::Intake, writers::Writers,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use self::post::Visit;
pub(super) use self::post::{Keeper, Post, Reach, lock};
use super::{
    Command, Finding, HomesError, Orders, Plot, SweepReport, TELL_AGAIN_AFTER, Waiting, remote,
    report::{Job, Outbox},
    worker::Worker,
};
use crate::run::let_go;

/// The most lanes that are left to homes which do not answer. Past it a lane that hangs is not replaced.
pub const MAX_HANGING: usize = 16;
/// How often lanes that are at work are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A home that does not answer, or several accounts' files that do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hanging {
    /// Whose; `None` for files that several accounts share.
    pub whose: Option<AccountName>,
    /// Where.
    #[serde(with = "remote::raw_path")]
    pub path: PathBuf,
}

impl fmt::Display for Hanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        record::escape(self.path.as_os_str().as_encoded_bytes()).fmt(f)
    }
}

/// What each lane is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) root: PathBuf,
    pub(super) mounts: PathBuf,
    pub(super) quarantine: PathBuf,
    pub(super) intake: Intake,
    pub(super) writers: Arc<Writers>,
    pub(super) outbox: Outbox,
}

impl Parts {
    fn lane(&self, post: Arc<Post>) -> Result<Lane, HomesError> {
        if post.reach == Reach::Remote {
            let thread = remote::start([&self.root, &self.mounts, &self.quarantine], self.outbox.clone(), &post)?;
            return Ok(Lane { post, thread });
        }
        let watch = HomeWatch::open(Arc::clone(&self.writers))?;
        let mounts = Mounts::open(&self.mounts)?;
        let intake = self.intake.try_clone()?;
        let worker =
            Worker::new(Root::open(&self.root)?, watch, intake, mounts, self.outbox.clone(), Arc::clone(&post));
        let thread = thread::Builder::new().name("homes".to_owned()).spawn(move || worker.run())?;
        Ok(Lane { post, thread })
    }
}

#[derive(Debug)]
struct Lane {
    post: Arc<Post>,
    thread: JoinHandle<()>,
}

impl Lane {
    fn visit(&self) -> Option<Visit> {
        lock(&self.post.visit).clone()
    }
}

/// A lane that was left to a home.
#[derive(Debug)]
struct Left {
    lane: Lane,
    visit: Visit,
    /// Where the remote file system of the home is mounted.
    point: Option<PathBuf>,
}

/// A sweep: first what is local, then the rest.
#[derive(Debug)]
struct Round {
    ids: BTreeSet<u64>,
    at: Reach,
    sum: SweepReport,
    began: Instant,
}

/// All lanes, and the thread that keeps them.
#[derive(Debug)]
pub(super) struct Lanes {
    keeper: Arc<Keeper>,
    parts: Parts,
    plot: Option<Plot>,
    lanes: Vec<Lane>,
    left: Vec<Left>,
    /// Where remote file systems are mounted of which several homes do not answer: none of the others is tried.
    shunned: BTreeSet<PathBuf>,
    /// Which homes were told of lately.
    told: BTreeMap<Hanging, Instant>,
    /// Who has files on remote file systems.
    beyond: BTreeSet<Option<AccountName>>,
    /// What [`super::Homes::hanging`] answers.
    hanging: Arc<Mutex<Vec<Hanging>>>,
    sweeps_asked: BTreeSet<u64>,
    round: Option<Round>,
}

impl Lanes {
    /// Starts the local lane.
    ///
    /// # Errors
    /// [`HomesError`].
    pub(super) fn start(
        keeper: Arc<Keeper>,
        parts: Parts,
        hanging: Arc<Mutex<Vec<Hanging>>>,
    ) -> Result<Self, HomesError> {
        let local = parts.lane(Post::new(Reach::Local, Arc::clone(&keeper))?)?;
        Ok(Self {
            keeper,
            parts,
            plot: None,
            lanes: vec![local],
            left: Vec::new(),
            shunned: BTreeSet::new(),
            told: BTreeMap::new(),
            beyond: BTreeSet::new(),
            hanging,
            sweeps_asked: BTreeSet::new(),
            round: None,
        })
    }

    /// Works until told to stop, or until a lane has ended by itself.
    pub(super) fn run(mut self, orders: &Orders) {
        loop {
            self.sleep();
            let Waiting { territory, mut sweeps, stop } = orders.take();
            if stop {
                return self.stop();
            }
            self.sweeps_asked.append(&mut sweeps);
            if let Some(plot) = territory {
                self.plot = Some(plot);
                self.deal(&[Reach::Local, Reach::Remote]);
            }
            if self.lanes.iter().any(|lane| lane.post.reach == Reach::Local && lane.thread.is_finished()) {
                return tracing::error!("a thread that looks after homes has ended");
            }
            // Its process has said why; another takes its place.
            self.lanes.retain(|lane| !lane.thread.is_finished());
            self.take_back();
            self.leave_what_hangs();
            self.follow_mounts();
            self.sweep_on();
            self.show();
        }
    }

    /// Waits until something is to be done: a while, where a lane is at work.
    fn sleep(&self) {
        let bell = || [PollFd::new(self.keeper.bell.as_fd(), PollFlags::POLLIN)];
        // Whatever begins now wakes the keeper, and is looked at once more later.
        self.keeper.looks.store(false, Ordering::SeqCst);
        let is_ending = self.left.iter().any(|left| left.lane.visit().is_none());
        let lacks = self.lanes.len() < 1 + usize::from(!self.beyond.is_empty());
        let is_busy = is_ending || lacks || self.lanes.iter().any(|lane| lane.visit().is_some());
        if !is_busy {
            // Interrupted or not, what there is to do is found out.
            let _ = poll(&mut bell(), PollTimeout::NONE);
        } else {
            self.keeper.looks.store(true, Ordering::SeqCst);
            let _ = poll(&mut bell(), PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX));
        }
        let _ = self.keeper.bell.read();
    }

    /// Gives these lanes what they are to look after.
    fn deal(&self, reaches: &[Reach]) {
        for lane in self.lanes.iter().filter(|lane| reaches.contains(&lane.post.reach)) {
            if let Some(share) = self.share(lane.post.reach) {
                lane.post.order(Command::Territory(share));
            }
        }
    }

    fn share(&self, reach: Reach) -> Option<Plot> {
        let plot = self.plot.clone()?;
        let left = self.left.iter().filter(|left| left.lane.post.reach == reach);
        let left: BTreeSet<Option<AccountName>> = left.map(|left| left.visit.whose.clone()).collect();
        let shunned = if reach == Reach::Remote { self.shunned.clone() } else { BTreeSet::new() };
        let beyond = (reach == Reach::Remote).then(|| self.beyond.clone());
        if left.is_empty() && beyond.is_none() {
            return Some(plot);
        }
        Some(Plot::new(move || {
            let mut territory = plot.territory();
            let is_in = |whose: &Option<AccountName>| {
                !left.contains(whose) && beyond.as_ref().is_none_or(|beyond| beyond.contains(whose))
            };
            let is_shunned = |home: &Path| shunned.iter().any(|point| home.starts_with(point));
            territory.homes.retain(|home| is_in(&Some(home.account.clone())) && !is_shunned(&home.home));
            if !is_in(&None) {
                territory.shared.clear();
            }
            territory
        }))
    }

    fn begin(&mut self, reach: Reach) {
        let post = Post::new(reach, Arc::clone(&self.keeper)).map_err(HomesError::from);
        match post.and_then(|post| self.parts.lane(post)) {
            Ok(lane) => {
                // It knows no better yet.
                *lock(&lane.post.beyond) = self.beyond.clone();
                self.lanes.push(lane);
                self.deal(&[reach]);
                if self.round.as_ref().is_some_and(|round| round.at == reach) {
                    self.order_sweep(reach);
                }
            }
            // It is tried again at the next look.
            Err(error) => self.tell_failed(None, Path::new("/"), format!("no thread looks after homes: {error}")),
        }
    }

    fn tell_failed(&self, whose: Option<AccountName>, path: &Path, error: String) {
        self.parts.outbox.send(Job::Tell(Finding::Failed { whose, path: path.to_owned(), error, times: 1 }));
    }

    /// Homes that answer again are looked after again.
    fn take_back(&mut self) {
        let (back, left) = std::mem::take(&mut self.left).into_iter().partition(|left| left.lane.thread.is_finished());
        self.left = left;
        let back: Vec<Left> = back;
        for Left { lane, visit, point } in back {
            let path = record::escape(visit.path.as_os_str().as_encoded_bytes());
            tracing::warn!("{path} answers again, after {} s", visit.since.elapsed().as_secs());
            if let Some(point) = point {
                self.shunned.remove(&point);
            }
            self.deal(&[lane.post.reach]);
        }
    }

    /// Leaves each lane that is in one home for too long to that home, and has another one take its place.
    fn leave_what_hangs(&mut self) {
        for reach in [Reach::Local, Reach::Remote] {
            let hangs = |lane: &Lane| {
                lane.post.reach == reach && lane.visit().is_some_and(|visit| visit.since.elapsed() >= reach.patience())
            };
            let Some(index) = self.lanes.iter().position(hangs) else { continue };
            if self.left.len() >= MAX_HANGING {
                continue;
            }
            let lane = self.lanes.remove(index);
            lane.post.replaced.store(true, Ordering::SeqCst);
            lane.post.order(Command::Stop);
            // It may have come out just now: then it ends.
            let Some(visit) = lane.visit() else { continue };
            self.tell_hanging(visit.whose.clone(), &visit.path, reach);
            let point = if reach == Reach::Remote { self.mount_point(&visit.path) } else { None };
            if let Some(point) =
                point.as_ref().filter(|point| self.left.iter().any(|l| l.point.as_ref() == Some(point)))
                && self.shunned.insert(point.clone())
            {
                self.tell_hanging(None, point, reach);
            }
            self.left.push(Left { lane, visit, point });
            self.begin(reach);
        }
    }

    fn mount_point(&self, path: &Path) -> Option<PathBuf> {
        let mounts = Mounts::open(&self.parts.mounts).ok()?;
        mounts.of(path).filter(|mount| mount.is_remote()).map(|mount| mount.point.clone())
    }

    fn tell_hanging(&mut self, whose: Option<AccountName>, path: &Path, reach: Reach) {
        let hanging = Hanging { whose, path: path.to_owned() };
        // One that answers and hangs in turn is told of once in a while.
        self.told.retain(|_, told| told.elapsed() < TELL_AGAIN_AFTER);
        if self.told.contains_key(&hanging) {
            return;
        }
        self.told.insert(hanging.clone(), Instant::now());
        self.parts.outbox.send(Job::Tell(Finding::Hanging { hanging, since: reach.patience() }));
    }

    /// Has a lane for remote file systems while somebody has files there.
    fn follow_mounts(&mut self) {
        let local = self.lanes.iter().find(|lane| lane.post.reach == Reach::Local);
        let Some(beyond) = local.map(|lane| lock(&lane.post.beyond).clone()) else { return self.begin(Reach::Local) };
        let is_new = beyond != self.beyond;
        self.beyond = beyond;
        let remote = self.lanes.iter().position(|lane| lane.post.reach == Reach::Remote);
        match (remote, self.beyond.is_empty()) {
            (Some(index), true) => self.lanes.remove(index).post.order(Command::Stop),
            (Some(_), false) if is_new => self.deal(&[Reach::Remote]),
            (None, false) => self.begin(Reach::Remote),
            _ => {}
        }
    }

    fn order_sweep(&self, reach: Reach) {
        for lane in self.lanes.iter().filter(|lane| lane.post.reach == reach) {
            let _ = lane.post.take_swept();
            lane.post.order(Command::Sweep { id: 0 });
        }
    }

    /// Begins a sweep that was asked for, and goes on with one that runs.
    fn sweep_on(&mut self) {
        if self.round.is_none() && !self.sweeps_asked.is_empty() {
            let ids = std::mem::take(&mut self.sweeps_asked);
            self.round = Some(Round { ids, at: Reach::Local, sum: SweepReport::default(), began: Instant::now() });
            self.order_sweep(Reach::Local);
        }
        let Some(mut round) = self.round.take() else { return };
        let at = self.lanes.iter().find(|lane| lane.post.reach == round.at);
        let report = at.map(|lane| lane.post.take_swept());
        match (report, round.at) {
            (Some(None), _) => return self.round = Some(round),
            (Some(Some(report)), Reach::Local) => {
                round.sum.add(&report);
                round.at = Reach::Remote;
                // It has said by now who has files elsewhere.
                self.follow_mounts();
                self.round = Some(round);
                self.order_sweep(Reach::Remote);
                return self.sweep_on();
            }
            (Some(Some(report)), Reach::Remote) => round.sum.add(&report),
            (None, Reach::Local) => return self.round = Some(round),
            (None, Reach::Remote) => {}
        }
        round.sum.failed += self.left.len() as u64;
        for id in round.ids {
            let report = SweepReport { id, took: round.began.elapsed(), ..round.sum };
            self.parts.outbox.send(Job::Tell(Finding::Swept(report)));
        }
        // Somebody may have asked meanwhile.
        if !self.sweeps_asked.is_empty() {
            self.keeper.ring();
        }
    }

    /// Says which homes do not answer.
    fn show(&self) {
        let hanging = |visit: Visit| Hanging { whose: visit.whose, path: visit.path.to_path_buf() };
        let mut all: Vec<Hanging> = self.left.iter().map(|left| hanging(left.visit.clone())).collect();
        all.extend(self.shunned.iter().map(|point| Hanging { whose: None, path: point.clone() }));
        // Past the bound nobody takes the place of one that hangs.
        let visits = self.lanes.iter().filter_map(|lane| Some((lane.post.reach, lane.visit()?)));
        let visits = visits.filter(|(reach, visit)| visit.since.elapsed() >= reach.patience());
        all.extend(visits.map(|(_, visit)| hanging(visit)));
        *lock(&self.hanging) = all;
    }

    /// What a lane that hangs has taken is in the quarantine, and settled by the next start.
    fn stop(self) {
        self.lanes.iter().for_each(|lane| lane.post.order(Command::Stop));
        self.lanes.iter().filter(|lane| lane.visit().is_none_or(|v| v.since.elapsed() < LOOK)).for_each(|lane| {
            let _ = let_go(&lane.thread);
        });
        self.parts.outbox.send(Job::End);
    }
}
