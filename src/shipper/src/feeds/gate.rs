//! What the main thread tells the feeds' threads: that there is news of the daemon's, that they are to end. Their own, so
//! that shipping never waits for it.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ureq::Agent;

#[derive(Debug, Default)]
struct State {
    /// Threads of another one are to end.
    generation: u64,
    /// Grows with each news.
    news: u64,
    /// Grows each time that what was on its way was cut short.
    cuts: u64,
    /// What may be on its way, by the feed's number.
    agents: BTreeMap<usize, Agent>,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain values behind, each whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all threads that there are, whatever they wait for. The next ones are of what this returns.
    pub(super) fn end(&self) -> u64 {
        let (agents, generation) = {
            let mut state = self.lock();
            state.generation += 1;
            (std::mem::take(&mut state.agents), state.generation)
        };
        self.changed.notify_all();
        agents.into_values().for_each(Agent::shutdown);
        generation
    }

    /// The daemon has begun anew: what is on its way was asked for another one.
    pub(super) fn cut(&self) {
        let agents = {
            let mut state = self.lock();
            (state.news, state.cuts) = (state.news + 1, state.cuts + 1);
            std::mem::take(&mut state.agents)
        };
        self.changed.notify_all();
        agents.into_values().for_each(Agent::shutdown);
    }

    /// How often that was.
    pub(super) fn cuts(&self) -> u64 {
        self.lock().cuts
    }

    /// The daemon has said something.
    pub(super) fn tell(&self) {
        self.lock().news += 1;
        self.changed.notify_all();
    }

    /// The news so far; nothing when the thread is to end.
    pub(super) fn news(&self, generation: u64) -> Option<u64> {
        let state = self.lock();
        (state.generation == generation).then_some(state.news)
    }

    /// Lets others cut short what this agent of feed `number` does. How often that was before; nothing when the thread is
    /// to end.
    pub(super) fn enter(&self, generation: u64, number: usize, agent: Agent) -> Option<u64> {
        let mut state = self.lock();
        if state.generation != generation {
            return None;
        }
        state.agents.insert(number, agent);
        Some(state.cuts)
    }

    /// Waits this long, or until the end; where `seen` is given, also until there is news beyond it.
    pub(super) fn wait(&self, generation: u64, seen: Option<u64>, most: Duration) {
        let until = Instant::now() + most;
        let waits = |state: &mut State| state.generation == generation && seen.is_none_or(|seen| seen == state.news);
        let left = until.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(self.lock(), left, waits));
    }
}
