//! The schedule's ticks: one UTC job each for sweep and lockdown, which only send into the channel.
//!
//! Whether anything is due is the core's to say, with or without a tick.

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::Reason;

/// The running schedule.
pub struct Cron {
    reasons: mpsc::Sender<Reason>,
    running: Option<JobScheduler>,
    texts: (String, Option<String>),
}

impl Cron {
    /// A schedule with nothing in it yet.
    #[must_use]
    pub fn new(reasons: mpsc::Sender<Reason>) -> Self {
        Self { reasons, running: None, texts: (String::new(), None) }
    }

    /// Replaces the schedule where it is another one: six-field cron expressions, UTC, that the configuration has checked.
    pub async fn set(&mut self, sweep: &str, lockdown: Option<&str>) {
        let texts = (sweep.to_owned(), lockdown.map(str::to_owned));
        if self.running.is_some() && self.texts == texts {
            return;
        }
        if let Some(mut old) = self.running.take()
            && let Err(error) = old.shutdown().await
        {
            tracing::warn!(%error, "the old schedule could not be stopped; a tick of it changes nothing");
        }
        match start(&self.reasons, sweep, lockdown).await {
            Ok(scheduler) => self.running = Some(scheduler),
            Err(error) => {
                tracing::error!(%error, "the schedule could not be started; the daemon's own timer does without it")
            }
        }
        self.texts = texts;
    }
}

async fn start(
    reasons: &mpsc::Sender<Reason>,
    sweep: &str,
    lockdown: Option<&str>,
) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    scheduler.add(job(reasons, sweep)?).await?;
    if let Some(lockdown) = lockdown {
        scheduler.add(job(reasons, lockdown)?).await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}

fn job(reasons: &mpsc::Sender<Reason>, cron: &str) -> Result<Job, JobSchedulerError> {
    let reasons = reasons.clone();
    Job::new_async(cron, move |_, _| {
        let reasons = reasons.clone();
        Box::pin(async move {
            // Nobody receives once the daemon stops.
            let _ = reasons.send(Reason::Tick).await;
        })
    })
}
