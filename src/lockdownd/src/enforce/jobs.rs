//! Work beside the main thread: what runs programs, looks through `/proc` or reads homes.
//!
//! Each job is a plain thread that nobody joins, so that stopping the daemon waits for none of them. Each has a limit. A
//! job that panics or is not back by then is given up: that is said, whoever asked is answered, and the same work may
//! begin anew. What it brings later is not used, since it may be old.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    thread,
    time::Duration,
};

use control::{Refusal, RefusalCode};
use lockdown_core::policy::time::Now;
use record::{ArtifactType, Draft};

use super::{Engine, Next, homes::Command, sweep::ATTEST_WITHIN};
use crate::trigger::{Reason, Reply};

/// How many jobs that were given up may still be there. Past it no new one is begun.
const MAX_GIVEN_UP: usize = 16;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Looks at accounts and at sshd's and PAM's configuration.
    World,
    /// Looks who listens for connections.
    Listening,
    /// Reads the quarantine.
    Quarantine,
    /// Whether exempt accounts could log in, for an operator.
    Rescue,
    /// Looks at what stands in the way of enforce.
    Obstacles,
    /// Asks sshd about an account that was granted.
    Admission,
    /// Reads the configuration again.
    Reload,
    /// Looks at every way in.
    Ways,
    /// Looks for who made the connection of a login from this host.
    Client,
    /// Looks for users' own SSH servers and ends them.
    UsersSshds,
    /// Looks for what was left behind under grants that have ended, and ends it.
    LeftBehind,
    /// Reads sshd's log back.
    ReadBack,
    /// Reads homes for `lockdownctl plan`.
    Plan,
    /// Gives a file back from quarantine.
    Restore,
    /// Answers `lockdownctl ways-in`.
    WaysIn,
    /// Reads records for `lockdownctl records`.
    Records,
    /// Keeps the drop-in that closes ways in in line with the configuration.
    Closing,
    /// Sweeps homes; on the homes threads.
    Homes,
}

impl Kind {
    /// What it does, to follow "the job that".
    fn does(self) -> &'static str {
        match self {
            Self::World => "looks at accounts and configuration",
            Self::Listening => "looks who listens for connections",
            Self::Quarantine => "reads the quarantine",
            Self::Rescue => "tries exempt accounts for an operator",
            Self::Obstacles => "looks at what stands in the way of enforce",
            Self::Admission => "asks sshd about an account that was granted",
            Self::Reload => "reads the configuration again",
            Self::Ways => "looks at every way in",
            Self::Client => "looks for who logs in from this host",
            Self::UsersSshds => "looks for users' own SSH servers",
            Self::LeftBehind => "looks for what was left behind",
            Self::ReadBack => "reads sshd's log back",
            Self::Plan => "reads homes for a plan",
            Self::Restore => "gives a file back from quarantine",
            Self::WaysIn => "looks at ways in for an operator",
            Self::Records => "reads records",
            Self::Closing => "keeps ways in closed",
            Self::Homes => "sweeps homes",
        }
    }

    /// How long it may take; several times what it takes on a slow machine.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Client => 10,
            Self::Restore | Self::Records | Self::Quarantine | Self::Reload | Self::Admission => 30,
            Self::World | Self::Listening | Self::LeftBehind => 60,
            Self::Obstacles | Self::Rescue | Self::UsersSshds | Self::ReadBack | Self::Plan => 60,
            Self::Ways | Self::WaysIn | Self::Closing => 120,
            Self::Homes => ATTEST_WITHIN.as_secs().unsigned_abs(),
        })
    }
}

/// What became of a job: what it brings, if anything, or that it panicked.
pub type Came = thread::Result<Option<Box<Reason>>>;

/// Jobs that are under way.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    under_way: BTreeMap<u64, Job>,
    last: u64,
    /// Why the last job of each kind was given up, until one of that kind comes back.
    failed: BTreeMap<Kind, String>,
}

#[derive(Debug)]
struct Job {
    kind: Kind,
    /// When it is given up, on the boot clock; `None` once it was.
    due: Option<Duration>,
    /// Who waits for it.
    reply: Option<Reply>,
}

impl Jobs {
    /// When the next job is to be given up, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.under_way.values().filter_map(|job| job.due).min()
    }

    /// How many jobs of this kind are under way, given up or not.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.under_way.values().filter(|job| job.kind == kind).count()
    }

    /// What was given up and has not come back since, a sentence each.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.values().map(String::as_str)
    }

    fn begin(&mut self, kind: Kind, reply: Option<Reply>, now: Now) -> Result<u64, Option<Reply>> {
        if self.under_way.values().filter(|job| job.due.is_none()).count() >= MAX_GIVEN_UP {
            return Err(reply);
        }
        self.last += 1;
        self.under_way.insert(self.last, Job { kind, due: Some(now.boot + kind.limit()), reply });
        Ok(self.last)
    }

    /// A sweep of homes is under way. One at a time, since whoever asks meanwhile is answered by it or right after it.
    fn expect_sweep(&mut self, now: Now) {
        if !self.under_way.values().any(|job| job.kind == Kind::Homes) {
            self.last += 1;
            self.under_way
                .insert(self.last, Job { kind: Kind::Homes, due: Some(now.boot + Kind::Homes.limit()), reply: None });
        }
    }

    /// A sweep of homes is back, however late: the homes threads work.
    pub(super) fn swept(&mut self) {
        self.under_way.retain(|_, job| job.kind != Kind::Homes);
        self.failed.remove(&Kind::Homes);
    }

    /// A job is back: its kind, unless it had been given up.
    fn back(&mut self, id: u64) -> Option<Job> {
        self.under_way.remove(&id).filter(|job| job.due.is_some())
    }

    /// The jobs whose limit has passed; each is named once.
    fn overdue(&mut self, now: Now) -> Vec<(Kind, Option<Reply>)> {
        let over = self.under_way.values_mut().filter(|job| job.due.is_some_and(|due| now.boot >= due));
        let give_up = |job: &mut Job| {
            job.due = None;
            (job.kind, job.reply.take())
        };
        over.map(give_up).collect()
    }
}

impl Engine {
    /// Begins a job. What it brings is acted on when it is back; `reply` is answered if it never is.
    pub(crate) fn begin_job<F>(&mut self, kind: Kind, reply: Option<Reply>, now: Now, work: F)
    where
        F: FnOnce() -> Option<Reason> + Send + 'static,
    {
        let id = match self.jobs.begin(kind, reply, now) {
            Ok(id) => id,
            Err(reply) => {
                return self.give_up(kind, reply, "was not begun: too many others never came back", now);
            }
        };
        let reasons = self.reasons.clone();
        let run = move || {
            // Nobody receives once the daemon stops.
            let _ = reasons.blocking_send(carried_out(id, work));
        };
        if let Err(error) = thread::Builder::new().name("job".to_owned()).spawn(run) {
            let reply = self.jobs.back(id).and_then(|job| job.reply);
            self.give_up(kind, reply, &format!("could not begin: {error}"), now);
        }
    }

    /// Has the homes threads sweep; what they find is attested.
    pub(super) fn sweep_homes(&mut self, now: Now) {
        let Some(homes) = &self.homes else { return };
        self.jobs.expect_sweep(now);
        homes.send(Command::Sweep { id: 0 });
    }

    /// Homes have not been swept in time: that is on record, since the attestation that was promised does not come.
    fn sweep_lost(&mut self, what: &str, now: Now) {
        let sentence =
            format!("{what}: what stands in homes is not known, and nothing is attested until it comes back");
        self.core.recorder.note(Draft::new(ArtifactType::RemovalFailed, sentence).with("error", what));
        self.core.commit(now);
    }

    /// A job is back: what it brings is acted on.
    pub(super) fn job_came(&mut self, id: u64, came: Came, now: Now) -> Next {
        let Some(job) = self.jobs.back(id) else { return Next::GoOn };
        match came {
            Ok(brought) => {
                self.jobs.failed.remove(&job.kind);
                brought.map_or(Next::GoOn, |reason| self.act(*reason, now))
            }
            Err(_) => {
                self.give_up(job.kind, job.reply, "panicked", now);
                Next::GoOn
            }
        }
    }

    /// Gives up the jobs whose limit has passed.
    pub(super) fn give_up_overdue_jobs(&mut self, now: Now) {
        for (kind, reply) in self.jobs.overdue(now) {
            let limit = control::format_duration(kind.limit());
            self.give_up(kind, reply, &format!("did not come back within {limit}"), now);
        }
    }

    /// Whoever waits for it goes on without it.
    fn give_up(&mut self, kind: Kind, reply: Option<Reply>, why: &str, now: Now) {
        let what = format!("the job that {} {why}", kind.does());
        tracing::error!("{what}");
        if let Some(reply) = reply {
            reply.send(Err(Refusal::new(RefusalCode::Failed, what.clone()).hint("journalctl -u lockdownd says more")));
        }
        self.jobs.failed.insert(kind, what.clone());
        match kind {
            Kind::Obstacles => self.check_lost(&what, now),
            Kind::Reload => self.reload_lost(&what, now),
            Kind::World => self.look_lost(&what, now),
            Kind::Listening => self.listening.ended(now.boot, now.boot),
            Kind::Ways => self.ways_unseen(&what, now),
            Kind::UsersSshds => self.users_sshds.ended(kind.limit(), now),
            Kind::LeftBehind => self.not_looked_behind(&what, now),
            Kind::Client | Kind::Quarantine | Kind::Rescue => {}
            Kind::Homes => self.sweep_lost(&what, now),
            Kind::Records
            | Kind::Admission
            | Kind::ReadBack
            | Kind::Plan
            | Kind::Restore
            | Kind::WaysIn
            | Kind::Closing => {}
        }
    }
}

/// Carries a job out: what it brings, or that it panicked.
fn carried_out(id: u64, work: impl FnOnce() -> Option<Reason>) -> Reason {
    let came = panic::catch_unwind(AssertUnwindSafe(work)).map(|brought| brought.map(Box::new));
    Reason::Job { id, came }
}

#[cfg(test)]
mod tests {
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

    #[test]
    fn a_job_is_given_up_once_when_its_limit_passes_and_what_it_brings_later_is_not_used() {
        let mut jobs = Jobs::default();
        let id = jobs.begin(Kind::Plan, None, now()).expect("begun");
        assert_eq!(jobs.due(), Some(now().boot + Kind::Plan.limit()));
        assert!(jobs.overdue(later(59)).is_empty());
        assert_eq!(jobs.overdue(later(60)).len(), 1);
        assert!(jobs.overdue(later(61)).is_empty() && jobs.due().is_none());
        assert!(jobs.back(id).is_none(), "late");
        let id = jobs.begin(Kind::Plan, None, later(62)).expect("it may begin anew");
        assert!(jobs.back(id).is_some_and(|job| job.kind == Kind::Plan) && jobs.back(id).is_none());
    }

    #[test]
    fn jobs_that_never_come_back_are_bounded() {
        let mut jobs = Jobs::default();
        let mut ids = Vec::new();
        for _ in 0..MAX_GIVEN_UP {
            ids.push(jobs.begin(Kind::Restore, None, now()).expect("begun"));
        }
        assert_eq!(jobs.overdue(later(30)).len(), MAX_GIVEN_UP);
        assert!(jobs.begin(Kind::Ways, None, later(31)).is_err());
        assert!(jobs.back(ids[0]).is_none(), "late");
        assert!(jobs.begin(Kind::Ways, None, later(31)).is_ok(), "there is room again");
    }

    #[test]
    fn a_job_that_panics_is_back_with_nothing_and_one_that_brings_something_with_that() {
        let panics = carried_out(1, || unreachable!("a job's own mistake"));
        assert!(matches!(panics, Reason::Job { id: 1, came: Err(_) }), "{panics:?}");
        let brings = carried_out(2, || Some(Reason::Tick));
        assert!(matches!(brings, Reason::Job { id: 2, came: Ok(Some(_)) }), "{brings:?}");
    }

    #[test]
    fn homes_that_hang_are_told_once_take_no_other_jobs_place_and_are_well_when_they_come_back() {
        let mut jobs = Jobs::default();
        jobs.expect_sweep(now());
        let minutes = |minutes: u64| later(minutes * 60);
        assert!(jobs.overdue(minutes(4)).is_empty());
        assert_eq!(jobs.overdue(minutes(5)).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kind::Homes]);
        for sweep in 1..100 {
            jobs.expect_sweep(minutes(15 * sweep));
            assert!(jobs.overdue(minutes(15 * sweep + 10)).is_empty(), "once");
        }
        assert!(jobs.begin(Kind::Ways, None, minutes(15)).is_ok());
        jobs.failed.insert(Kind::Homes, "late".to_owned());
        jobs.swept();
        assert!(jobs.failed().next().is_none() && jobs.under_way.len() == 1);
        jobs.expect_sweep(minutes(2_000));
        assert_eq!(jobs.overdue(minutes(2_005)).len(), 2, "watched anew");
    }
}
