//! Who waits for what is new in a feed, and answers that many get alike.
//!
//! A host that waits costs its connection and a place in a list. It is woken when a document was published here, or, by another
//! process, within [`LOOK`]; however many are woken at a time, the store is asked once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use document::StackPattern;
use hyper::body::Bytes;
use record::Stack;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{App, describe::describe, store::feeds::FeedHost, watch::stopped};

/// How often the store is looked at for what other processes published.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer is given again, statement included.
const ANSWER_AGE: Duration = Duration::from_secs(30);
/// Answers that are kept to be given again.
const MAX_ANSWERS: usize = 256;
/// Bytes of them.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long the list of all tokens is gone by when many ask at a time.
const HOSTS_AGE: Duration = Duration::from_secs(1);

/// By the hash of a token, the hosts that name it.
pub(super) type Hosts = HashMap<[u8; 32], Vec<FeedHost>>;

/// Every feed, as far as those who wait are concerned.
#[derive(Debug)]
pub(super) struct Feeds {
    counts: Mutex<HashMap<Stack, watch::Sender<u64>>>,
    answers: Mutex<HashMap<(Stack, Option<u64>), Answer>>,
    hosts: tokio::sync::Mutex<Option<(Instant, Arc<Hosts>)>>,
    places: Arc<Semaphore>,
    most: usize,
}

/// An answer to the same question by many.
#[derive(Debug, Clone)]
struct Answer {
    count: u64,
    since: Instant,
    bytes: Arc<OnceCell<Bytes>>,
}

impl Feeds {
    pub(super) fn new(places: usize) -> Self {
        Self {
            counts: Mutex::default(),
            answers: Mutex::default(),
            hosts: tokio::sync::Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            most: places,
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Stack, watch::Sender<u64>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many documents a feed holds, as far as was looked.
    pub(super) fn count(&self, stack: &Stack) -> Option<u64> {
        self.counts().get(stack).map(|count| *count.borrow())
    }

    /// Notes how many documents a feed holds, and wakes who waits for more. What was looked up earlier and comes later changes
    /// nothing.
    pub(super) fn heard(&self, stack: &Stack, count: u64) {
        let mut counts = self.counts();
        let Some(known) = counts.get(stack) else {
            counts.insert(stack.clone(), watch::Sender::new(count));
            return;
        };
        known.send_if_modified(|known| *known < count && std::mem::replace(known, count) < count);
    }

    /// A place to wait in; none where as many wait as may.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// Waits until a feed holds another number of documents than this, for so long at most, or until the server stops.
    pub(super) async fn wait(&self, stack: &Stack, count: u64, most: Duration) {
        let Some(mut heard) = self.counts().get(stack).map(watch::Sender::subscribe) else { return };
        // An error means that nobody will say more: the server stops. Whether it was worth it, the answer says.
        let _ = timeout(most, heard.wait_for(|known| *known != count)).await;
    }

    /// Wakes everybody: the server stops.
    fn stop(&self) {
        self.counts().clear();
    }

    /// The answer to this question: given again, or empty, to be made by the first who gets it.
    pub(super) fn answer(&self, stack: &Stack, after: Option<u64>) -> Arc<OnceCell<Bytes>> {
        let count = self.count(stack).unwrap_or_default();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let good = |answer: &Answer| now.duration_since(answer.since) < ANSWER_AGE;
        let key = (stack.clone(), after);
        if let Some(answer) = answers.get(&key).filter(|answer| answer.count == count && good(answer)) {
            return Arc::clone(&answer.bytes);
        }
        answers.retain(|_, answer| good(answer));
        let bytes: usize = answers.values().filter_map(|answer| answer.bytes.get()).map(Bytes::len).sum();
        if answers.len() >= MAX_ANSWERS || bytes > MAX_ANSWER_BYTES {
            answers.clear();
        }
        let answer = Answer { count, since: now, bytes: Arc::default() };
        answers.insert(key, answer.clone());
        answer.bytes
    }

    /// Every host's token, read once for all who ask within [`HOSTS_AGE`].
    pub(super) async fn hosts(&self, app: &App) -> Result<Arc<Hosts>, crate::store::Error> {
        let mut known = self.hosts.lock().await;
        if let Some((_, hosts)) = known.as_ref().filter(|(since, _)| since.elapsed() < HOSTS_AGE) {
            return Ok(Arc::clone(hosts));
        }
        let all = app.store.feeds().run(|tx| tx.feed_hosts(None)).await?;
        let mut hosts = Hosts::new();
        for (token, host) in all {
            hosts.entry(token).or_default().push(host);
        }
        let hosts = Arc::new(hosts);
        *known = Some((Instant::now(), Arc::clone(&hosts)));
        Ok(hosts)
    }
}

/// Looks at the store for what is new in the feeds until `stop` turns true.
pub async fn listen(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let Some(documents) = &app.documents else { return };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outcomes = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => return documents.feeds.stop(),
        }
        match app.store.feeds().run(|tx| Ok((tx.feed_counts()?, tx.last_outcome()?))).await {
            Ok((counts, last)) => {
                for (stack, count) in counts {
                    if let Some(stack) = name(&stack) {
                        documents.feeds.heard(&stack, count);
                    }
                }
                if std::mem::replace(&mut outcomes, last) != last {
                    documents.outcomes_came();
                }
            }
            Err(error) => tracing::warn!(error = %describe(&error), "the feeds were not looked at"),
        }
    }
}

/// The one stack that is meant.
fn name(stack: &StackPattern) -> Option<Stack> {
    stack.as_str().parse().ok()
}
