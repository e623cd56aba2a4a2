//! Work beside whoever drives the core: what runs programs, looks through `/proc` or reads homes.
//!
//! Each job has a limit. One that panics, cannot begin or is not back by then is given up: that is said, whoever asked is
//! answered, and the same work may begin anew. What it brings later is not used, since it may be old.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::{Refusal, RefusalCode, Response};
use record::{Account, ArtifactType, Draft};

use super::{
    Core, Effect, Event, Granted, Severity, Token, checks::Check, documents::Signers, found::OpenedBefore,
    left_behind::LookBehind, schedule::ATTEST_WITHIN,
};
use crate::{
    config::Accounts,
    policy::{time::Now, ways_in::Question},
};

/// How many jobs of one kind that were given up may still be there. Past it no new one of that kind is begun.
pub const MAX_GIVEN_UP: usize = 3;

/// Which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looks at accounts and at sshd's and PAM's configuration.
    World,
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
    /// Reads the inbox of documents.
    Inbox,
    /// Sweeps homes; on the homes threads.
    Homes,
}

impl Kind {
    /// What it does, to follow "the job that".
    fn does(self) -> &'static str {
        match self {
            Self::World => "looks at accounts and configuration",
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
            Self::Inbox => "reads the inbox of documents",
            Self::Homes => "sweeps homes",
        }
    }

    /// How long it may take; several times what it takes on a slow machine.
    #[must_use]
    pub fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Client => 10,
            Self::Restore | Self::Records | Self::Quarantine | Self::Reload | Self::Admission | Self::Inbox => 30,
            Self::World | Self::LeftBehind => 60,
            Self::Obstacles | Self::Rescue | Self::UsersSshds | Self::ReadBack | Self::Plan => 60,
            Self::Ways | Self::WaysIn | Self::Closing => 120,
            Self::Homes => ATTEST_WITHIN.as_secs().unsigned_abs(),
        })
    }
}

/// What a job is to do, as far as the core decides it.
#[derive(Debug)]
pub enum Job {
    /// Looks for what was left behind. Brings [`Event::LookedBehind`].
    LookBehind(Box<LookBehind>),
    /// Looks at the host; the name service is asked for these accounts. Brings [`Event::Looked`].
    Look(BTreeSet<Account>),
    /// Ends users' own SSH servers, but those of these user ids. Brings [`Event::UsersSshdsEnded`].
    EndUsersSshds(BTreeSet<u32>),
    /// Looks at every way in. Brings [`Event::WaysSeen`] or [`Event::WaysUnseen`].
    LookAtWays(Question),
    /// Asks sshd about an account that was granted. Brings [`Event::Admitted`].
    AskSshd(Token, Box<Granted>),
    /// Reads back what sshd has logged of these. Each is told of by [`Event::OpenedBefore`].
    ReadBack(Vec<OpenedBefore>),
    /// Looks at what stands in the way of enforce, or changes sshd's drop-in. Brings [`Event::Checked`].
    Check(Box<Check>),
    /// Reads the configuration, and where these exempt accounts were in force, whether nobody could come to the rescue with the
    /// new ones. Brings [`Event::Loaded`].
    ReadConfig(Box<Accounts>),
    /// Reads the inbox, but for these documents. Brings [`Event::InboxRead`].
    ReadInbox {
        /// What need not be read.
        settled: BTreeSet<document::Id>,
        /// By whom it is known what comes first.
        signers: Signers,
    },
}

/// What became of a job.
#[derive(Debug)]
pub enum Came {
    /// It is back: with nothing more, or nothing that the core acts on.
    Back,
    /// It brings this.
    With(Box<Event>),
    /// It brings the answer to whoever asked.
    Answer(Response),
    /// It panicked.
    Panicked,
    /// It could not begin.
    NotBegun(String),
}

/// Jobs that are under way.
#[derive(Debug, Default)]
pub struct Jobs {
    under_way: BTreeMap<JobId, UnderWay>,
    last: u64,
    /// Why the last job of each kind was given up, until one of that kind comes back.
    failed: BTreeMap<Kind, String>,
}

#[derive(Debug)]
struct UnderWay {
    kind: Kind,
    /// When it is given up, on the boot clock; `None` once it was.
    due: Option<Duration>,
    /// Who waits for it.
    asked: Option<Token>,
}

impl Jobs {
    /// When the next job is to be given up, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.under_way.values().filter_map(|job| job.due).min()
    }

    /// How many jobs of this kind are under way, given up or not.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.under_way.values().filter(|job| job.kind == kind).count()
    }

    /// Whether this job has not been given up.
    #[must_use]
    pub fn awaits(&self, id: JobId) -> bool {
        self.under_way.get(&id).is_some_and(|job| job.due.is_some())
    }

    /// What was given up and has not come back since, a sentence each.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.values().map(String::as_str)
    }

    /// Whether a job of this kind may begin.
    #[must_use]
    pub fn may_begin(&self, kind: Kind) -> bool {
        self.under_way.values().filter(|job| job.kind == kind && job.due.is_none()).count() < MAX_GIVEN_UP
    }

    fn begin(&mut self, kind: Kind, asked: Option<Token>, now: Now) -> Option<JobId> {
        self.may_begin(kind).then(|| self.expect(kind, asked, now))
    }

    fn expect(&mut self, kind: Kind, asked: Option<Token>, now: Now) -> JobId {
        self.last += 1;
        self.under_way.insert(JobId(self.last), UnderWay { kind, due: Some(now.boot + kind.limit()), asked });
        JobId(self.last)
    }

    /// A sweep of homes is under way. One at a time, since whoever asks meanwhile is answered by it or right after it.
    pub fn expect_sweep(&mut self, now: Now) {
        if self.count(Kind::Homes) == 0 {
            self.expect(Kind::Homes, None, now);
        }
    }

    /// A sweep of homes is back, however late: the homes threads work.
    pub fn swept(&mut self) {
        self.under_way.retain(|_, job| job.kind != Kind::Homes);
        self.failed.remove(&Kind::Homes);
    }

    /// A job is back: what it was, unless it had been given up.
    fn back(&mut self, id: JobId) -> Option<UnderWay> {
        self.under_way.remove(&id).filter(|job| job.due.is_some())
    }

    /// The jobs whose limit has passed; each is named once.
    fn overdue(&mut self, now: Now) -> Vec<(Kind, Option<Token>)> {
        let over = self.under_way.values_mut().filter(|job| job.due.is_some_and(|due| now.boot >= due));
        let give_up = |job: &mut UnderWay| {
            job.due = None;
            (job.kind, job.asked.take())
        };
        over.map(give_up).collect()
    }
}

impl Core {
    /// A job begins, unless too many never came back: then it is given up, which whoever asked is told.
    pub fn begin_job(&mut self, kind: Kind, asked: Option<Token>, now: Now) -> Option<JobId> {
        let begun = self.jobs.begin(kind, asked, now);
        if begun.is_none() {
            self.give_up_job(kind, asked, "was not begun: too many others never came back", now);
        }
        begun
    }

    /// Has whoever drives the core begin a job, for nobody who asked.
    pub(super) fn start_job(&mut self, kind: Kind, job: Job, now: Now) {
        if let Some(id) = self.begin_job(kind, None, now) {
            self.push(Effect::Begin(id, job));
        }
    }

    /// A job is over: what it brings is acted on, unless it was given up before.
    pub(super) fn job_came(&mut self, id: JobId, came: Came, now: Now) {
        let Some(UnderWay { kind, asked, .. }) = self.jobs.back(id) else { return self.came_late(came, now) };
        if !matches!(came, Came::Panicked | Came::NotBegun(_)) {
            self.jobs.failed.remove(&kind);
        }
        match came {
            Came::Panicked => self.give_up_job(kind, asked, "panicked", now),
            Came::NotBegun(why) => self.give_up_job(kind, asked, &format!("could not begin: {why}"), now),
            Came::Back => {}
            Came::With(event) => self.act(*event, now),
            Came::Answer(response) => self.effects.extend(asked.map(|token| Effect::Answer(token, response))),
        }
    }

    /// What a job has changed on the host is on record, however late it comes.
    fn came_late(&mut self, came: Came, now: Now) {
        let Came::With(event) = came else { return };
        match *event {
            Event::LookedBehind(looked) => self.looked_behind_late(*looked, now),
            Event::UsersSshdsEnded(found) => self.record_ended_sshds(found, now),
            _ => {}
        }
    }

    /// Gives up the jobs whose limit has passed.
    pub(super) fn give_up_overdue_jobs(&mut self, now: Now) {
        for (kind, asked) in self.jobs.overdue(now) {
            let limit = control::format_duration(kind.limit());
            self.give_up_job(kind, asked, &format!("did not come back within {limit}"), now);
        }
    }

    /// Whoever waits for it goes on without it.
    fn give_up_job(&mut self, kind: Kind, asked: Option<Token>, why: &str, now: Now) {
        let what = format!("the job that {} {why}", kind.does());
        self.say(Severity::Err, what.clone());
        if let Some(token) = asked {
            let refusal = Refusal::new(RefusalCode::Failed, what.clone()).hint("journalctl -u lockdownd says more");
            self.push(Effect::Answer(token, Err(refusal)));
        }
        self.jobs.failed.insert(kind, what.clone());
        match kind {
            Kind::Obstacles => self.check_lost(&what, now),
            Kind::Reload => self.reload_lost(&what, now),
            Kind::LeftBehind => self.not_looked_behind(&what, now),
            Kind::Homes => self.sweep_lost(&what, now),
            Kind::World => self.look_lost(&what, now),
            Kind::Ways => self.ways_unseen(&what, now),
            Kind::UsersSshds => self.users_sshds_lost(now),
            Kind::Inbox => self.inbox_lost(now),
            Kind::Client | Kind::Quarantine | Kind::Rescue | Kind::Records | Kind::Admission | Kind::ReadBack => {}
            Kind::Plan | Kind::Restore | Kind::WaysIn | Kind::Closing => {}
        }
    }

    /// A job is back without what it was to find out: that is said, and stands in `status` until one of its kind succeeds.
    pub(super) fn job_failed(&mut self, kind: Kind, why: &str) -> String {
        let what = format!("the job that {} failed: {why}", kind.does());
        self.say(Severity::Err, what.clone());
        self.jobs.failed.insert(kind, what.clone());
        what
    }

    /// Homes have not been swept in time: that is on record, since the attestation that was promised does not come.
    fn sweep_lost(&mut self, what: &str, now: Now) {
        let sentence =
            format!("{what}: what stands in homes is not known, and nothing is attested until it comes back");
        self.recorder.note(Draft::new(ArtifactType::RemovalFailed, sentence).with("error", what));
        self.commit(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn a_job_is_given_up_once_when_its_limit_passes_and_what_it_brings_later_is_not_used() {
        let mut jobs = Jobs::default();
        let id = jobs.begin(Kind::Plan, None, now()).expect("begun");
        assert_eq!(jobs.due(), Some(now().boot + Kind::Plan.limit()));
        assert!(jobs.overdue(later(59)).is_empty() && jobs.awaits(id));
        assert_eq!(jobs.overdue(later(60)).len(), 1);
        assert!(jobs.overdue(later(61)).is_empty() && jobs.due().is_none() && !jobs.awaits(id));
        assert!(jobs.back(id).is_none(), "late");
        let id = jobs.begin(Kind::Plan, None, later(62)).expect("it may begin anew");
        assert!(jobs.back(id).is_some_and(|job| job.kind == Kind::Plan) && jobs.back(id).is_none());
    }

    #[test]
    fn jobs_that_never_come_back_are_bounded() {
        let mut jobs = Jobs::default();
        let begun = (0..MAX_GIVEN_UP).map(|_| jobs.begin(Kind::Restore, None, now()).expect("begun"));
        let ids: Vec<JobId> = begun.collect();
        assert_eq!(jobs.overdue(later(30)).len(), MAX_GIVEN_UP);
        assert!(jobs.begin(Kind::Restore, None, later(31)).is_none());
        assert!(jobs.begin(Kind::Ways, None, later(31)).is_some(), "another kind is not concerned");
        assert!(jobs.back(ids[0]).is_none(), "late");
        assert!(jobs.begin(Kind::Restore, None, later(31)).is_some(), "there is room again");
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
        assert!(jobs.begin(Kind::Ways, None, minutes(15)).is_some());
        jobs.failed.insert(Kind::Homes, "late".to_owned());
        jobs.swept();
        assert!(jobs.failed().next().is_none() && jobs.under_way.len() == 1);
        jobs.expect_sweep(minutes(2_000));
        assert_eq!(jobs.overdue(minutes(2_005)).len(), 2, "watched anew");
    }
}
