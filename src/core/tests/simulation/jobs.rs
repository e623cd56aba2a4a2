//! Jobs beside the core: they come back soon, late or never, and what people left behind.

use std::{collections::BTreeMap, time::Duration};

use control::{Answer, RefusalCode};
use lockdown_core::machine::{
    Event, Token,
    jobs::{Came, Job, JobId, Kind, MAX_GIVEN_UP},
    left_behind::{self, GoesOn, LookBehind, LookedBehind},
    looks::Looked,
    users_sshds::UsersSshds,
};
use lockdown_core::policy::ways_in::Observed;
use record::{ArtifactType, GrantId};

use super::world::{Later, World};

/// How many looks it takes to end what one person left at most.
const MOST_LEFT: u64 = 3;

/// The jobs of one run of the daemon, and what they find.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Those that have not come back; where they never will, they are there until the daemon is gone.
    there: BTreeMap<JobId, Kind>,
    /// Operators who wait for one, since when, and for how long at most.
    asked: BTreeMap<Token, (Duration, Duration)>,
    /// How many layers of what was left behind under each grant there still are.
    left: BTreeMap<GrantId, u64>,
}

impl Jobs {
    /// An operator waits from now on, for so long at most.
    pub(crate) fn asks(&mut self, token: Token, now: Duration, most: Duration) {
        self.asked.insert(token, (now, most));
    }

    /// Whether an operator waits for one.
    pub(crate) fn anybody_waits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The daemon is gone, and its threads with it. Long after an end, the next one looks for what connections left alone.
    pub(crate) fn crashed(&mut self) {
        *self = Self::default();
    }
}

fn kind_of(job: &Job) -> Kind {
    match job {
        Job::LookBehind(_) => Kind::LeftBehind,
        Job::Check(_) => Kind::Obstacles,
        Job::ReadConfig(_) => Kind::Reload,
        Job::Look(_) => Kind::World,
        Job::EndUsersSshds(_) => Kind::UsersSshds,
        Job::LookAtWays(_) => Kind::Ways,
        Job::AskSshd(..) => Kind::Admission,
        Job::ReadBack(_) => Kind::ReadBack,
        Job::ReadInbox { .. } => Kind::Inbox,
    }
}

impl World {
    /// A job begins: it comes back soon, or late, or never, or panics.
    pub(crate) fn begin(&mut self, id: JobId, job: Job) -> Option<Event> {
        if !self.is_at_rest && self.random.percent(2) {
            return Some(Event::Job(id, Came::NotBegun("no thread".to_owned())));
        }
        let kind = kind_of(&job);
        let came = match job {
            Job::LookBehind(look) => {
                self.log(format!("job {}: looks behind {} grants", id.0, look.cases.len()));
                self.may_be_looked_behind(&look);
                let looked = self.look_behind(*look);
                Came::With(Box::new(Event::LookedBehind(Box::new(looked))))
            }
            Job::Check(check) => {
                self.log(format!("job {}: {:?}", id.0, check.step));
                Came::With(Box::new(self.check(&check)))
            }
            Job::ReadConfig(before) => {
                let came = Came::With(Box::new(self.read_config(&before)));
                if self.random.percent(30) {
                    return Some(Event::Job(id, came));
                }
                came
            }
            Job::Look(_) => {
                let looked = Looked { around: self.etc.around(), ..Looked::default() };
                Came::With(Box::new(Event::Looked(Box::new(looked))))
            }
            Job::EndUsersSshds(_) => Came::With(Box::new(Event::UsersSshdsEnded(UsersSshds::default()))),
            Job::LookAtWays(_) if !self.is_at_rest && self.random.percent(10) => {
                Came::With(Box::new(Event::WaysUnseen("it was killed".to_owned())))
            }
            Job::LookAtWays(_) => Came::With(Box::new(Event::WaysSeen(Box::new(Observed::default().into())))),
            Job::AskSshd(token, _) => Came::With(Box::new(Event::Admitted(token, None))),
            Job::ReadBack(_) => Came::Back,
            Job::ReadInbox { settled, .. } => {
                Came::With(Box::new(Event::InboxRead(Box::new(self.read_inbox(&settled)))))
            }
        };
        self.let_run(id, kind, came);
        None
    }

    fn let_run(&mut self, id: JobId, kind: Kind, came: Came) {
        self.jobs.there.insert(id, kind);
        let is_stuck = |(id, its): &(&JobId, &Kind)| **its == kind && !self.core.jobs.awaits(**id);
        let stuck = self.jobs.there.iter().filter(is_stuck).count();
        assert!(stuck < MAX_GIVEN_UP, "{stuck} jobs {kind:?} never came back, and another one begins");
        let (never, late) = if self.is_slow { (50, 60) } else { (2, 4) };
        if self.is_at_rest {
            return self.in_a_moment(500, Later::Job(id, came));
        }
        match self.random.below(100) {
            kind if kind < never => {}
            kind if kind < late => self.in_a_moment(200_000, Later::Job(id, came)),
            97..100 => self.in_a_moment(500, Later::Job(id, Came::Panicked)),
            _ => self.in_a_moment(500, Later::Job(id, came)),
        }
    }

    pub(crate) fn job_came(&mut self, id: JobId, came: Came) {
        self.log(format!("job {} is back", id.0));
        self.jobs.there.remove(&id);
        self.act(Event::Job(id, came));
    }

    /// An operator asks for what takes a job.
    pub(crate) fn ask_for_a_job(&mut self) {
        let (token, kind) = (Token(self.number()), Kind::Quarantine);
        self.log(format!("{} asks for a job", token.0));
        self.jobs.asked.insert(token, (self.elapsed, kind.limit()));
        if let Some(id) = self.core.begin_job(kind, Some(token), self.now) {
            let answer = Answer::Quarantine(control::QuarantineAnswer { items: Vec::new(), left_off: 0 });
            self.let_run(id, kind, Came::Answer(Ok(answer)));
        }
        let effects = self.core.take_effects(self.now);
        self.carry_out(effects);
    }

    /// Operators ask for jobs that hang, until no more are begun.
    pub(crate) fn jobs_hang(&mut self) {
        let limit = Kind::Quarantine.limit();
        for _ in 0..2 {
            for _ in 0..MAX_GIVEN_UP {
                self.ask_for_a_job();
            }
            self.pass_time(limit);
        }
    }

    /// Whether an answer is that of an operator who asked for a job.
    pub(crate) fn job_answered(&mut self, token: Token, refused: Option<RefusalCode>) -> bool {
        self.jobs.asked.remove(&token).is_some_and(|_| {
            let may_be = [RefusalCode::Failed, RefusalCode::NotReady, RefusalCode::BadConfig];
            assert!(refused.is_none_or(|code| may_be.contains(&code)), "{refused:?}");
            true
        })
    }

    /// What is looked for is what was left behind under grants that have ended, and ends where enforce is on alone.
    fn may_be_looked_behind(&self, look: &LookBehind) {
        assert!(!look.ends || self.core.enforces(), "nothing ends in observe");
        for case in &look.cases {
            let Some(grant) = self.core.grants.get(&case.id) else { continue };
            assert!(grant.end.is_some(), "{} goes on", case.id);
        }
    }

    /// Each look that ends things takes away one layer of what was left.
    fn look_behind(&mut self, look: LookBehind) -> LookedBehind {
        let mut cases = Vec::new();
        for case in look.cases {
            let created = self.disk.grants_of(ArtifactType::GrantCreated).contains(&case.id);
            let most = if created { self.random.below(MOST_LEFT + 1) } else { 0 };
            let left = self.jobs.left.entry(case.id.clone()).or_insert(most);
            let alive = *left > 0;
            if alive && look.ends {
                *left -= 1;
            }
            let goes_on = GoesOn { pid: 1, program: None, by: "session" };
            let goes_on = if alive && !look.ends { vec![goes_on] } else { Vec::new() };
            let ended = u64::from(alive && look.ends);
            cases.push(left_behind::Looked {
                id: case.id,
                alive,
                ended,
                told: Vec::new(),
                all_going_on: goes_on.len() as u64,
                goes_on,
            });
        }
        LookedBehind { ends: look.ends, cases, used: look.forget.then(|| look.audits.clone()), asked: look.audits }
    }

    /// Whether so many that read the inbox never came back that no other begins.
    pub(crate) fn inbox_is_stuck(&self) -> bool {
        !self.core.jobs.may_begin(Kind::Inbox)
    }

    /// What holds of jobs after each step.
    pub(crate) fn jobs_hold(&self) {
        for (token, (since, limit)) in &self.jobs.asked {
            let waits = self.elapsed.saturating_sub(*since);
            assert!(waits <= *limit, "{token:?} waits for a job for {waits:?}");
        }
    }

    /// What holds of jobs once everything has come to rest.
    pub(crate) fn jobs_rest(&self) {
        assert!(self.jobs.asked.is_empty(), "whoever asked for a job is answered: {:?}", self.jobs.asked);
        // One that never comes back keeps none of its kind from being done anew, as long as there are few.
        let looks = self.jobs.there.values().filter(|kind| **kind == Kind::LeftBehind);
        if looks.count() < MAX_GIVEN_UP && !self.is_moody {
            let left: Vec<&GrantId> = self.jobs.left.iter().filter(|(_, left)| **left > 0).map(|(id, _)| id).collect();
            assert!(left.is_empty(), "what was left behind under {left:?} goes on");
        }
    }
}
