//! The sink of the compliance API: in order, at least once, and the cursor moves only past what a receipt covers that has
//! been checked and is on disk.

mod answer;
mod batch;
mod client;
mod feed;
mod history;
mod receipts;
mod trust;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use record::{LedgerId, SignedReceipt};

use self::{
    answer::{Answer, Asked, Blame, Step},
    batch::{Batch, MAX_RECORDS},
    client::Client,
    feed::Feed,
    history::Standing,
};
use crate::{
    backoff::{self, Backoff},
    cursor::{Cursor, Kept},
    files::FileError,
    ledger, log,
    paths::Paths,
    settings,
    shared::{Ending, Shared, World},
    status::{SinkStatus, State, Status},
};

/// How long the first record waits for others. The plan allows 200 ms: what is not acknowledged yet, root can forge.
const LINGER: Duration = Duration::from_millis(50);
/// How long nothing is done while nothing changes; and the longest that one wait lasts.
const IDLE: Duration = Duration::from_secs(60);
/// How many batches in a row of a ledger that has ended may be refused as a fork before the rest of it is left.
const MAX_FORKED: u32 = 20;
const NAME: &str = "api";
const NUMBER: usize = 1;

/// The sink.
#[derive(Debug)]
pub(crate) struct ApiSink {
    paths: Paths,
    shared: Arc<Shared>,
    status: Arc<Status>,
    cursor: Kept,
    feed: Feed,
    settings: Option<Result<settings::Api, String>>,
    client: Option<Client>,
    backoff: Backoff,
    /// Smaller than a whole batch while the server asks for that.
    at_most: usize,
    /// The server does not know this ledger yet.
    enrolling: bool,
    enrolment: Option<String>,
    /// The ledger that `hint.json` is about.
    hinted: Option<LedgerId>,
    /// Batches of a ledger that has ended, refused in a row as a fork.
    forked: u32,
    /// Ledgers that have ended of which the rest is not shipped, the latest ones, and why.
    left: Vec<String>,
    acknowledged: Option<u64>,
}

/// What a turn came to.
enum Turn {
    /// There is more to do.
    Again,
    /// Nothing waits.
    Done,
    /// Not now, and why.
    Later { state: State, wait: Duration, why: String },
}

impl ApiSink {
    /// Reads its cursor.
    pub(crate) fn open(paths: Paths, shared: Arc<Shared>, status: Arc<Status>) -> Result<Self, FileError> {
        let cursor = Kept::open(paths.cursor(NAME))?;
        Ok(Self {
            acknowledged: cursor.at().map(|at| at.seq),
            cursor,
            feed: Feed::new(paths.clone()),
            settings: None,
            client: None,
            backoff: Backoff::default(),
            at_most: MAX_RECORDS,
            enrolling: false,
            enrolment: None,
            hinted: receipts::hinted(&paths)?,
            forked: 0,
            left: Vec::new(),
            paths,
            shared,
            status,
        })
    }

    /// Ships until the shipper ends.
    pub(crate) fn run(mut self) {
        let mut world = self.shared.look();
        loop {
            self.shared.beat(NUMBER);
            if self.settings != world.settings.api {
                self.settings = world.settings.api.clone();
                (self.client, self.enrolling, self.enrolment) = (None, false, None);
                self.backoff.reset();
            }
            let turn = self.turn(&world);
            self.tell(&world, &turn);
            if world.ending.is_some_and(|ending| self.may_end(&turn, &world, ending)) {
                return;
            }
            world = match turn {
                Turn::Again => self.shared.look(),
                Turn::Done => self.shared.wait(world.version, IDLE),
                Turn::Later { wait, .. } => self.pause(&world, wait),
            };
        }
    }

    /// Waits, saying now and then that it is alive. A change of settings, or the end, cuts it short.
    fn pause(&self, world: &World, wait: Duration) -> World {
        let until = Instant::now() + wait;
        let mut seen = self.shared.pause(world, wait.min(IDLE));
        while Instant::now() < until && seen.is_still(world) {
            self.shared.beat(NUMBER);
            seen = self.shared.pause(world, until.saturating_duration_since(Instant::now()).min(IDLE));
        }
        seen
    }

    fn may_end(&self, turn: &Turn, world: &World, ending: Ending) -> bool {
        let done = match turn {
            Turn::Again => false,
            Turn::Done => !ending.instance || self.feed.at_stop() || self.settings.is_none() || world.mark.is_none(),
            // Whoever refuses now refuses in 20 seconds too.
            Turn::Later { state, .. } => *state != State::Waiting,
        };
        done || Instant::now() >= ending.until
    }

    fn turn(&mut self, world: &World) -> Turn {
        let api = match (&self.settings, &world.mark) {
            (None, _) | (_, None) => return Turn::Done,
            (Some(Err(why)), _) => {
                let why = why.clone();
                return self.refuse(why);
            }
            (Some(Ok(api)), Some(_)) => api.clone(),
        };
        let client = match self.client.take() {
            Some(client) => client,
            None => match Client::new(&api, &self.paths) {
                Ok(client) => client,
                Err(why) => return self.refuse(why),
            },
        };
        match self.ship(world, &api, &client) {
            // Certificates are read anew after a failure: they may have been the reason.
            turn @ Turn::Later { .. } => turn,
            turn => {
                self.client = Some(client);
                turn
            }
        }
    }

    /// One batch, from reading it to its receipt on disk.
    fn ship(&mut self, world: &World, api: &settings::Api, client: &Client) -> Turn {
        let (mut mark, cursor) = match world.mark.as_ref().map(|mark| (mark.clone(), self.place(mark))) {
            Some((mark, Ok(cursor))) => (mark, cursor),
            Some((_, Err(error))) => return self.wait(world, None, error.to_string()),
            None => return Turn::Done,
        };
        if self.hinted.as_ref().is_some_and(|hinted| *hinted != mark.ledger) {
            self.drop_hint();
        }
        let mut filled = self.feed.fill(&cursor, &mark);
        if filled.is_ok() && self.feed.first().is_some() && !self.feed.is_full() && world.ending.is_none() {
            thread::sleep(LINGER);
            mark = self.shared.look().mark.unwrap_or(mark);
            filled = self.feed.fill(&cursor, &mark);
        }
        if let Err(error) = filled
            && self.feed.first().is_none()
        {
            return self.on_read_error(world, &error, &cursor, &mark);
        }
        let Some(batch) = self.feed.batch(&cursor.ledger, self.at_most) else {
            return if cursor.ledger == mark.ledger {
                Turn::Done
            } else {
                self.go_on_after(world, &cursor.ledger, &mark)
            };
        };
        let token = match self.enrolling.then(|| client::enrolment_token(&self.paths)).transpose() {
            Ok(token) => token,
            Err(why) => {
                // The next try asks the server again first: it may know this host by then.
                self.enrolling = false;
                return self.refuse(why);
            }
        };
        self.shared.beat(NUMBER);
        let within = world.ending.map_or(client::WHOLE, |e| e.until.saturating_duration_since(Instant::now()));
        match client.send(&batch.body, token.as_deref(), within.max(Duration::from_millis(1))) {
            Ok(answer) => self.act(world, api, &answer, &batch, &cursor, &mark),
            Err(why) => self.wait(world, None, why),
        }
    }

    /// Where to go on: after the cursor. Without one, at the beginning of the oldest ledger there is: one that was set
    /// aside before anything was acknowledged has not been shipped either.
    fn place(&mut self, mark: &Cursor) -> Result<Cursor, FileError> {
        let at = match self.cursor.at() {
            Some(at) => at.clone(),
            None => Cursor::start(ledger::oldest(&self.paths)?.unwrap_or_else(|| mark.ledger.clone())),
        };
        self.cursor.set(at.clone());
        Ok(at)
    }

    /// Takes the step that the answer calls for.
    fn act(
        &mut self,
        world: &World,
        api: &settings::Api,
        answer: &Answer,
        batch: &Batch,
        cursor: &Cursor,
        mark: &Cursor,
    ) -> Turn {
        let asked = Asked { ledger: &cursor.ledger, events: batch.events, with_token: self.enrolling };
        let past = cursor.ledger != mark.ledger;
        match answer::step(answer, asked, Timestamp::now()) {
            Step::Acknowledged { receipt, enrolment } => {
                let turn = self.acknowledged(world, api, &receipt, cursor, mark);
                if matches!(turn, Turn::Again) {
                    self.enrolment = enrolment;
                }
                turn
            }
            Step::Enrol => {
                self.enrolling = true;
                self.go_to(Cursor::start(cursor.ledger.clone()))
            }
            Step::Back { head } => self.go_back(world, head, cursor, mark),
            Step::Fork { why, .. } if past => self.skip_forked(world, batch, cursor, mark, &why),
            Step::Fork { receipt, why } => self.fork(world, api, receipt.as_ref(), why),
            Step::Shorter { at_most, why } if at_most <= self.feed.permits() => self.refuse(why),
            Step::Shorter { at_most, .. } => {
                self.at_most = at_most;
                Turn::Again
            }
            Step::Later { after, why } => self.wait(world, after, why),
            Step::Refused { blame: Blame::Records, why } if past => self.leave(world, cursor, mark, &why),
            Step::Refused { why, .. } => self.refuse(why),
        }
    }

    /// The server says that it has records: once its receipt is checked and kept, the cursor moves.
    fn acknowledged(
        &mut self,
        world: &World,
        api: &settings::Api,
        signed: &SignedReceipt,
        cursor: &Cursor,
        mark: &Cursor,
    ) -> Turn {
        if let Err(why) = trust::check(&self.paths, &api.receipt_keys, signed) {
            return self.wait(world, None, why.to_string());
        }
        let receipt = signed.receipt();
        if receipt.seq <= cursor.seq {
            return self.wait(
                world,
                None,
                format!("the server's receipt reaches record {} only, and it had {} before", receipt.seq, cursor.seq),
            );
        }
        let to = Cursor { ledger: receipt.ledger.clone(), seq: receipt.seq, hash: receipt.hash };
        match self.feed.hash_of(receipt.seq) {
            Some(hash) if hash == receipt.hash => {}
            Some(_) => {
                return self.wait(
                    world,
                    None,
                    format!("the server's receipt is over another record {} than was sent", receipt.seq),
                );
            }
            None => match self.standing(&to, mark) {
                Standing::Ours => {}
                Standing::Unknown(why) => return self.wait(world, None, why),
                _ if cursor.ledger != mark.ledger => {
                    return self.leave(world, cursor, mark, "the server has another history of it");
                }
                _ => {
                    let why = format!(
                        "the server has a record {} of this ledger, and this host has not, or another",
                        receipt.seq
                    );
                    return self.fork(world, api, Some(signed), why);
                }
            },
        }
        self.cursor.set(to);
        if let Err(error) = receipts::keep(&self.paths, signed).and_then(|()| self.cursor.save()) {
            self.cursor.set(cursor.clone());
            return self.wait(world, None, error.to_string());
        }
        self.feed.pass(receipt.seq);
        self.acknowledged = Some(receipt.seq);
        self.at_most = (self.at_most * 2).min(MAX_RECORDS);
        (self.enrolling, self.forked) = (false, 0);
        self.backoff.reset();
        if self.hinted.is_some() {
            self.drop_hint();
        }
        Turn::Again
    }

    fn drop_hint(&mut self) {
        match receipts::remove_hint(&self.paths) {
            Ok(()) => self.hinted = None,
            Err(error) => log::warn(format_args!("api: {error}")),
        }
    }

    /// It goes on by itself, a little later.
    fn wait(&mut self, world: &World, asked: Option<Duration>, why: String) -> Turn {
        let wait = self.backoff.next(asked, backoff::chance());
        let most = if world.ending.is_some() { backoff::ENDING_MAX } else { Duration::MAX };
        Turn::Later { state: State::Waiting, wait: wait.min(most), why }
    }

    /// Somebody has to change something.
    fn refuse(&mut self, why: String) -> Turn {
        self.stuck(State::Refused, why)
    }

    fn stuck(&mut self, state: State, why: String) -> Turn {
        Turn::Later { state, wait: self.backoff.next_slow(backoff::chance()), why }
    }

    fn tell(&self, world: &World, turn: &Turn) {
        let status = self.settings.is_some().then(|| {
            let at = self.cursor.at();
            let waiting = match (&world.mark, at) {
                (Some(mark), Some(at)) if mark.ledger == at.ledger => mark.seq.saturating_sub(at.seq),
                (Some(mark), _) => mark.seq,
                (None, _) => 0,
            };
            let (state, why) = match turn {
                // Somebody should know for as long as we do.
                Turn::Again => (State::Shipping, self.left.last().cloned()),
                Turn::Done => (State::Idle, self.left.last().cloned()),
                Turn::Later { state, why, .. } => (*state, Some(why.clone())),
            };
            SinkStatus {
                state,
                ledger: at.map(|at| at.ledger.to_string()),
                seq: at.map_or(0, |at| at.seq),
                waiting,
                waiting_since: self.feed.first().map(|entry| entry.time.clone()),
                why,
                acknowledged_seq: self.acknowledged,
                enrolment: self.enrolment.clone(),
                left: self.left.clone(),
            }
        });
        self.status.set(NAME, status);
    }
}

#[cfg(test)]
mod tests;
