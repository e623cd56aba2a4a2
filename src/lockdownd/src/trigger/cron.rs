//! The schedule's ticks: one UTC job each for sweep and lockdown, which only send into the channel.
//!
//! Whether anything is due is the core's to say, with or without a tick. The cron library looks at the clock twice a second,
//! so it runs only around the moments at which something is due.

use std::time::Duration;

use jiff::Timestamp;
use lockdown_core::config;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::Reason;

/// How long before a moment the library is started, and how long after it it is stopped.
const AROUND: Duration = Duration::from_secs(2);
/// How long nothing is looked at, at most: the clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The running schedule.
pub struct Cron {
    reasons: mpsc::Sender<Reason>,
    /// Dropped, it ends what runs.
    running: Option<oneshot::Sender<()>>,
    texts: Vec<String>,
}

impl Cron {
    /// A schedule with nothing in it yet.
    #[must_use]
    pub fn new(reasons: mpsc::Sender<Reason>) -> Self {
        Self { reasons, running: None, texts: Vec::new() }
    }

    /// Replaces the schedule where it is another one.
    pub fn set(&mut self, sweep: &config::Cron, lockdown: Option<&config::Cron>) {
        let patterns: Vec<config::Cron> = lockdown.into_iter().chain([sweep]).cloned().collect();
        let texts: Vec<String> = patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        if self.running.is_some() && self.texts == texts {
            return;
        }
        let (running, stop) = oneshot::channel();
        tokio::spawn(tick(self.reasons.clone(), patterns, stop));
        (self.running, self.texts) = (Some(running), texts);
    }
}

/// Has the library tick at each moment that comes, until there is another schedule.
async fn tick(reasons: mpsc::Sender<Reason>, patterns: Vec<config::Cron>, mut stop: oneshot::Receiver<()>) {
    loop {
        let now = Timestamp::now();
        let next = patterns.iter().filter_map(|pattern| pattern.next_after(now)).min();
        let left = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok()).unwrap_or(LOOK_AGAIN);
        if left > AROUND {
            if time::timeout((left - AROUND).min(LOOK_AGAIN), &mut stop).await.is_ok() {
                return;
            }
            continue;
        }
        let (span, running) = match ticking(&reasons, &patterns).await {
            Ok(scheduler) => (left + AROUND, Some(scheduler)),
            Err(error) => {
                tracing::error!(%error, "the schedule could not be started; the daemon's own timer does without it");
                (LOOK_AGAIN, None)
            }
        };
        let stopped = time::timeout(span, &mut stop).await.is_ok();
        if let Some(mut scheduler) = running
            && let Err(error) = scheduler.shutdown().await
        {
            tracing::warn!(%error, "the schedule could not be stopped; a tick of it changes nothing");
        }
        if stopped {
            return;
        }
    }
}

/// Starts the library.
async fn ticking(reasons: &mpsc::Sender<Reason>, patterns: &[config::Cron]) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    for pattern in patterns {
        scheduler.add(job(reasons, pattern.as_str())?).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_library_ticks_at_each_moment_and_a_new_pattern_takes_the_place_of_the_old_one() {
        let (reasons, mut ticks) = mpsc::channel(64);
        let mut cron = Cron::new(reasons);
        let every_second: config::Cron = "* * * * * *".parse().expect("a pattern");
        cron.set(&every_second, None);
        let within = |most| Duration::from_secs(most);
        for _ in 0..2 {
            let tick = time::timeout(within(20), ticks.recv()).await.expect("in time");
            assert!(matches!(tick, Some(Reason::Tick)));
        }
        let yearly: config::Cron = "0 0 0 1 1 *".parse().expect("a pattern");
        cron.set(&yearly, None);
        // What the old one had begun may come once more.
        time::sleep(AROUND * 2).await;
        while ticks.try_recv().is_ok() {}
        assert!(time::timeout(within(3), ticks.recv()).await.is_err(), "nothing is due");
    }
}
