//! Work beside the main thread, in plain threads that nobody joins, so that stopping the daemon waits for none of them. The
//! core has a deadline for each, and says what follows where one does not come back.

use std::{
    panic::{self, AssertUnwindSafe},
    thread,
};

use control::Response;
use lockdown_core::{
    machine::{
        Event, Token,
        jobs::{Came, Job, JobId},
    },
    policy::time::Now,
};

pub(crate) use lockdown_core::machine::jobs::Kind;

use super::{Engine, Next, homes::Command, left_behind, reload};
use crate::trigger::Reason;

/// What a job brings.
#[derive(Debug)]
pub enum Brought {
    /// Nothing.
    Nothing,
    /// What the core acts on.
    Event(Box<Event>),
    /// The answer to whoever asked.
    Answer(Response),
    /// A reason to act that the core does not know yet.
    Reason(Box<Reason>),
}

impl From<Event> for Brought {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

impl From<Reason> for Brought {
    fn from(reason: Reason) -> Self {
        Self::Reason(Box::new(reason))
    }
}

impl Engine {
    /// Begins a job. What it brings is acted on when it is back; whoever `asked` is answered if it never is.
    pub(crate) fn begin_job<F>(&mut self, kind: Kind, asked: Option<Token>, now: Now, work: F)
    where
        F: FnOnce() -> Brought + Send + 'static,
    {
        if let Some(id) = self.core.begin_job(kind, asked, now)
            && let Some(event) = self.run_job(id, work)
        {
            self.step(event, now);
        }
    }

    /// Begins what the core wants done. What comes of that at once.
    pub(super) fn run(&mut self, id: JobId, job: Job, now: Now) -> Option<Event> {
        match job {
            Job::LookBehind(look) => {
                let question = self.question_behind(*look);
                self.run_job(id, move || Event::LookedBehind(Box::new(left_behind::look(question))).into())
            }
            Job::Check(check) => {
                let check = self.check(*check, now);
                self.run_job(id, move || check().into())
            }
            Job::ReadConfig(before) => self.run_job(id, move || Event::Loaded(Box::new(reload::read(&before))).into()),
        }
    }

    fn run_job<F>(&self, id: JobId, work: F) -> Option<Event>
    where
        F: FnOnce() -> Brought + Send + 'static,
    {
        let reasons = self.reasons.clone();
        let run = move || {
            // Nobody receives once the daemon stops.
            let _ = reasons.blocking_send(carried_out(id, work));
        };
        let error = thread::Builder::new().name("job".to_owned()).spawn(run).err()?;
        Some(Event::Job(id, Came::NotBegun(error.to_string())))
    }

    /// Has the homes threads sweep; what they find is attested.
    pub(super) fn sweep_homes(&mut self, now: Now) {
        let Some(homes) = &self.homes else { return };
        self.core.jobs.expect_sweep(now);
        homes.send(Command::Sweep { id: 0 });
    }

    /// A job is back: what it brings is acted on.
    pub(super) fn job_came(&mut self, id: JobId, brought: thread::Result<Brought>, now: Now) -> Next {
        let is_late = !self.core.jobs.awaits(id);
        let (came, reason) = match brought {
            Ok(Brought::Nothing) => (Came::Back, None),
            Ok(Brought::Event(event)) => (Came::With(event), None),
            Ok(Brought::Answer(response)) => (Came::Answer(response), None),
            Ok(Brought::Reason(reason)) => (Came::Back, Some(reason)),
            Err(_) => (Came::Panicked, None),
        };
        if matches!(&came, Came::With(event) if matches!(**event, Event::Loaded(_))) {
            // What is due is due by the configuration in force until now.
            self.meet_schedule(now);
        }
        self.step(Event::Job(id, came), now);
        match reason {
            Some(reason) if !is_late || is_done(&reason) => self.act(*reason, now),
            _ => Next::GoOn,
        }
    }

    /// A job was given up that the core does not follow itself.
    pub(super) fn given_up(&mut self, kind: Kind, what: &str, now: Now) {
        match kind {
            Kind::World => self.look_lost(what, now),
            Kind::Listening => self.listening.ended(now.boot, now.boot),
            Kind::Ways => self.ways_unseen(what, now),
            Kind::UsersSshds => self.users_sshds.ended(kind.limit(), now),
            Kind::Client | Kind::Quarantine | Kind::Rescue | Kind::Records | Kind::Admission | Kind::ReadBack => {}
            Kind::Plan | Kind::Restore | Kind::WaysIn | Kind::Closing => {}
            Kind::LeftBehind | Kind::Homes | Kind::Obstacles | Kind::Reload => {}
        }
    }
}

/// Whether it says what was changed on the host: that is on record, however late it comes.
fn is_done(reason: &Reason) -> bool {
    matches!(reason, Reason::Restored { .. } | Reason::WaysClosed { .. })
}

/// Carries a job out: what it brings, or that it panicked.
fn carried_out(id: JobId, work: impl FnOnce() -> Brought) -> Reason {
    Reason::Job { id, brought: panic::catch_unwind(AssertUnwindSafe(work)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_is_back_with_nothing_and_one_that_brings_something_with_that() {
        let panics = carried_out(JobId(1), || unreachable!("a job's own mistake"));
        assert!(matches!(panics, Reason::Job { id: JobId(1), brought: Err(_) }), "{panics:?}");
        let brings = carried_out(JobId(2), || Reason::Tick.into());
        assert!(matches!(brings, Reason::Job { id: JobId(2), brought: Ok(Brought::Reason(_)) }), "{brings:?}");
    }
}
