//! Work beside the main thread, in plain threads that nobody joins, so that stopping the daemon waits for none of them. The
//! core has a deadline for each, and says what follows where one does not come back.

use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
    time::Instant,
};

use control::Response;
use lockdown_core::{
    machine::{
        Event, Token,
        found::OpenedBefore,
        jobs::{Came, Job, JobId},
        users_sshds::{EndedSshd, UsersSshds},
        ways::Seen,
    },
    policy::{
        time::Now,
        ways_in::{Observed, Question},
    },
};
use lockdown_host::{
    inbox,
    users_sshd::{self, Ended},
    ways_in::{self, As, LookError},
};
use tokio::sync::mpsc;

pub(crate) use lockdown_core::machine::jobs::Kind;

use super::{Driver, Next, admission, left_behind, reload, world::World};
use crate::{
    attempts::{self, LogReport},
    trigger::Reason,
};

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

impl Driver {
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
    pub(super) fn run(&self, id: JobId, job: Job) -> Option<Event> {
        match job {
            Job::LookBehind(look) => {
                let question = self.question_behind(*look);
                self.run_job(id, move || Event::LookedBehind(Box::new(left_behind::look(question))).into())
            }
            Job::Check(check) => {
                let check = self.check(*check);
                self.run_job(id, move || check().into())
            }
            Job::ReadConfig(before) => self.run_job(id, move || Event::Loaded(Box::new(reload::read(&before))).into()),
            Job::Look(named) => {
                let before = Arc::clone(&self.world);
                self.run_job(id, move || Reason::Looked(Box::new(before.look(&named))).into())
            }
            Job::EndUsersSshds(spared) => {
                let world = Arc::clone(&self.world);
                self.run_job(id, move || Event::UsersSshdsEnded(end_users_sshds(&spared, &world)).into())
            }
            Job::LookAtWays(question) => {
                let missing = self.log_is_not_whole();
                self.run_job(id, move || {
                    let seen = look_at_ways(&question, missing);
                    seen.map_or_else(|why| Event::WaysUnseen(why.to_string()), |seen| Event::WaysSeen(Box::new(seen)))
                        .into()
                })
            }
            Job::AskSshd(token, granted) => {
                self.run_job(id, move || Event::Admitted(token, admission::asked_of_sshd(&granted)).into())
            }
            Job::ReadInbox { settled, signers } => {
                self.run_job(id, move || Event::InboxRead(Box::new(inbox::read(&settled, &signers))).into())
            }
            Job::ReadBack(opened) => {
                let reports = self.reports.clone();
                self.run_job(id, move || read_back(opened, &reports))
            }
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
            self.step(Event::Deadline, now);
        }
        self.step(Event::Job(id, came), now);
        match reason {
            Some(reason) if !is_late || is_done(&reason) => self.act(*reason, now),
            _ => Next::GoOn,
        }
    }
}

/// Whether it says what was changed on the host: that is on record, however late it comes.
fn is_done(reason: &Reason) -> bool {
    matches!(reason, Reason::Restored { .. } | Reason::WaysClosed { .. })
}

/// Ends users' own SSH servers.
fn end_users_sshds(spared: &BTreeSet<u32>, world: &World) -> UsersSshds {
    let began = Instant::now();
    let (ended, incomplete) = users_sshd::end_all(spared).unwrap_or_else(|error| {
        tracing::error!(%error, "users' own SSH servers cannot be looked for");
        (Vec::new(), false)
    });
    let ended = ended.into_iter().map(|Ended { server, killed, failed }| EndedSshd {
        uid: server.uid,
        account: world.account_by_uid(server.uid),
        pid: server.id.pid,
        program: record::outside(server.program.as_os_str().as_encoded_bytes()),
        killed: killed as u64,
        failed,
    });
    UsersSshds { ended: ended.collect(), incomplete, took: began.elapsed() }
}

/// Looks at every way in, by a child process. `missing` is what is missing in sshd's log.
pub(crate) fn look_at_ways(question: &Question, missing: Option<String>) -> Result<Seen, LookError> {
    Ok(Seen::from(Observed { missing_in_log: missing, ..ways_in::observe(question, As::InForce)? }))
}

/// Reads sshd's log back for connections that were found.
fn read_back(opened: Vec<OpenedBefore>, reports: &mpsc::Sender<LogReport>) -> Brought {
    for OpenedBefore { session, pid, began } in opened {
        if let Some(login) = attempts::read_back(pid, began) {
            // Nobody receives once the daemon stops; the session then stays unattributed.
            let _ = reports.blocking_send(LogReport::Behind(session, Box::new(login)));
        }
    }
    Brought::Nothing
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
