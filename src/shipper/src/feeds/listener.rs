//! The thread of one feed: asks, lays down what is answered, waits for the daemon to hear it, and asks for what follows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    answer::Answer,
    client::{Client, Got, Whole, With},
    gate::Gate,
    inbox::{Heard, Inbox, Laying, Lease},
    pace::Pace,
    slot::{Permit, Slot},
};
use crate::{
    backoff::{self, Backoff},
    files, log,
    paths::Paths,
    settings::{Feed, Feeds},
    status::{FeedState, FeedStatus, Status},
};

/// How long the server is asked to wait for news. Balancers close what is silent for a minute; and where a connection is
/// lost without a word, a lockdown comes only after this.
const WAIT: Duration = Duration::from_secs(50);
/// The same where something on the way does not let a request wait so long; halved down to this.
const MIN_WAIT: Duration = Duration::from_secs(20);
/// How often a place for files is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long the daemon may take to hear what was laid down before it is asked for again; doubled each time.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest of those.
const MAX_PATIENCE: Duration = Duration::from_secs(60);
/// How long there may be no room before it is looked for again without news.
const ROOM: Duration = Duration::from_secs(30);
/// The longest wait before another try, unless the server asks for more: a lockdown may be behind it.
const MAX_LATER: Duration = Duration::from_secs(20);
/// How often in a row the server may not know the daemon's new token before that is said.
const USUAL: u32 = 4;
/// How often it is said how many documents were none.
const SAY: Duration = Duration::from_secs(60);
/// The daemon's token for feeds: so many hex digits.
const TOKEN: usize = 64;

/// What a turn came to.
enum Turn {
    /// There is more to do.
    Again,
    /// Nothing before this is over.
    Pause(Duration),
    /// Nothing before this is over or the daemon has said something.
    News(Duration),
    /// Not now, and why. News of the daemon's cut it short where they may be what it waits for.
    Later { state: FeedState, wait: Duration, why: String, news: bool },
}

/// What was laid down whole.
#[derive(Debug)]
struct Given {
    /// Where the daemon is once it has heard it.
    next: u64,
    /// When it is asked for again.
    until: Instant,
}

/// An answer, and how much of it lies in the inbox.
#[derive(Debug)]
struct Taken {
    answer: Answer,
    laid: usize,
    /// Of a long answer.
    _room: Option<Permit>,
}

/// What a feed's thread has of others.
#[derive(Debug, Clone)]
pub(super) struct Around {
    pub(super) paths: Paths,
    pub(super) inbox: Arc<Inbox>,
    pub(super) gate: Arc<Gate>,
    pub(super) slot: Arc<Slot>,
    pub(super) status: Arc<Status>,
    pub(super) feeds: Arc<Feeds>,
    pub(super) lease: Lease,
}

/// One feed.
#[derive(Debug)]
pub(super) struct Listener {
    number: usize,
    feed: Feed,
    around: Around,
    client: Option<Client>,
    backoff: Backoff,
    pace: Pace,
    wait: Duration,
    /// When a place for files is looked at again.
    not_before: Instant,
    patience: Duration,
    given: Option<Given>,
    taken: Option<Taken>,
    /// The feed holds fewer documents than were heard of it: begin anew.
    shorter: bool,
    /// Of a place for files: what its last answer was tagged with, and how many documents the feed had.
    tag: Option<(String, u64)>,
    /// How often in a row the server did not know the token.
    unknown: u32,
    /// The last question came to nothing, or there was none.
    failed: bool,
    heard: Option<Timestamp>,
    position: Option<u64>,
    /// What was told last.
    state: (FeedState, Option<String>),
    dropped: u64,
    /// How many of those were not said yet, and when that was last done.
    unsaid: (u64, Option<Instant>),
}

impl Listener {
    pub(super) fn new(number: usize, feed: Feed, around: Around) -> Self {
        Self {
            number,
            feed,
            around,
            client: None,
            backoff: Backoff::default(),
            pace: Pace::new(Instant::now()),
            wait: WAIT,
            not_before: Instant::now(),
            patience: PATIENCE,
            given: None,
            taken: None,
            shorter: false,
            tag: None,
            unknown: 0,
            failed: true,
            heard: None,
            position: None,
            state: (FeedState::Listening, None),
            dropped: 0,
            unsaid: (0, None),
        }
    }

    /// Listens until it is told to end.
    pub(super) fn run(mut self) {
        let (gate, generation) = (self.around.gate.clone(), self.around.lease.generation);
        // Looked at before the files: what comes meanwhile is seen.
        while let Some(news) = gate.news(generation) {
            let turn = self.turn();
            if gate.news(generation).is_none() {
                return;
            }
            self.tell(&turn);
            match turn {
                Turn::Again => {}
                Turn::Pause(wait) => gate.wait(generation, None, wait),
                Turn::News(wait) => gate.wait(generation, Some(news), wait),
                Turn::Later { wait, news: cut, .. } => gate.wait(generation, cut.then_some(news), wait),
            }
        }
    }

    fn turn(&mut self) -> Turn {
        let heard = match self.around.inbox.settle(&self.around.lease) {
            Ok(heard) => heard,
            Err(error) => return self.later(None, error.to_string()),
        };
        self.position = heard.position(&self.feed.name);
        if let Some(taken) = self.taken.take() {
            return self.lay(taken, &heard);
        }
        if self.given.as_ref().is_some_and(|given| self.position == Some(given.next)) {
            (self.given, self.patience) = (None, PATIENCE);
        }
        let now = Instant::now();
        match &self.given {
            Some(given) if now < given.until => {
                let wait = given.until - now;
                // The first time is as usual.
                return if self.patience <= 2 * PATIENCE { Turn::News(wait) } else { self.unheard(wait) };
            }
            _ => {}
        }
        if self.feed.is_static() && now < self.not_before {
            return Turn::News(self.not_before - now);
        }
        match self.pace.due(now) {
            Duration::ZERO => {
                // An answer may be long in coming.
                self.show();
                self.ask(&heard)
            }
            wait => Turn::Pause(wait),
        }
    }

    fn unheard(&self, wait: Duration) -> Turn {
        let why = "lockdownd has not taken up what this feed has answered: see lockdownctl status".to_owned();
        Turn::Later { state: FeedState::Waiting, wait, why, news: true }
    }

    fn ask(&mut self, heard: &Heard) -> Turn {
        let client = match self.client.take() {
            Some(client) => client,
            None => match Client::new(&self.feed, &self.around.feeds, &self.around.paths, &self.around.slot) {
                Ok(client) => client,
                Err(why) => return self.refuse(why),
            },
        };
        let gate = self.around.gate.clone();
        let Some(cuts) = gate.enter(self.around.lease.generation, self.number, client.agent()) else {
            return Turn::Again;
        };
        let token = match (!self.feed.is_static()).then(|| token(&self.around.paths)).transpose() {
            Ok(token) => token,
            Err(why) => {
                let wait = self.backoff.next(None, backoff::chance());
                return Turn::Later { state: FeedState::Waiting, wait, why, news: true };
            }
        };
        let after = self.position.filter(|_| !self.shorter && !self.feed.is_static());
        let tag = self.tag.as_ref().filter(|(_, next)| self.position == Some(*next)).map(|(tag, _)| tag.clone());
        let with = match (&token, &tag) {
            (Some(token), _) => With::Token(token),
            (None, Some(tag)) => With::Tag(tag),
            (None, None) => With::Nothing,
        };
        // What was asked for again is there already; and after a failure or a start
        // somebody wants to know that it is heard.
        let waits = after.is_some() && self.given.is_none() && !self.failed;
        let wait = if waits { self.wait } else { Duration::ZERO };
        self.failed = true;
        self.pace.asked();
        let begun = Instant::now();
        self.not_before = begun + LOOK;
        let got = client.ask(&self.around.feeds, after, wait, with);
        if gate.news(self.around.lease.generation).is_none() || got.is_err() && gate.cuts() != cuts {
            return Turn::Again;
        }
        if !matches!(got, Ok(Got::Body(..) | Got::Same)) && begun.elapsed() >= MIN_WAIT {
            self.wait = (self.wait / 2).max(MIN_WAIT);
        }
        match got {
            // Certificates are read anew after a failure: they may have been the reason.
            Err(why) => self.later(None, why),
            Ok(got) => {
                self.client = Some(client);
                self.act(got, after, heard)
            }
        }
    }

    fn act(&mut self, got: Got, after: Option<u64>, heard: &Heard) -> Turn {
        match got {
            Got::Body(Whole { body, tag, room }) => {
                let bytes = body.len();
                let parsed = Answer::parse(body, &self.around.feeds, after);
                self.pace.took(parsed.as_ref().map_or(0, |answer| answer.count), bytes);
                match parsed {
                    Ok(answer) => self.took(Taken { answer, laid: 0, _room: room }, tag, heard),
                    Err(why) => self.later(None, format!("its answer is not one of a feed: {why}")),
                }
            }
            Got::Same => {
                (self.heard, self.failed) = (Some(Timestamp::now()), false);
                self.backoff.reset();
                Turn::Again
            }
            Got::Shorter => {
                self.shorter = true;
                self.later(
                    None,
                    "it holds fewer documents than were heard of it; it is heard from the beginning".into(),
                )
            }
            Got::NotYet(_) if self.unknown < USUAL => {
                self.unknown += 1;
                Turn::Pause(self.backoff.next(None, backoff::chance()))
            }
            Got::NotYet(why) => self.later(None, why),
            Got::Later(asked, why) => self.later(asked, why),
            Got::Refused(why) => self.refuse(why),
        }
    }

    fn took(&mut self, taken: Taken, tag: Option<String>, heard: &Heard) -> Turn {
        let answer = &taken.answer;
        (self.heard, self.failed) = (Some(Timestamp::now()), false);
        self.backoff.reset();
        (self.shorter, self.given, self.unknown) = (false, None, 0);
        self.tag = tag.filter(|_| self.feed.is_static()).map(|tag| (tag, answer.next));
        if let Some((count, why)) = &answer.dropped {
            self.dropped += count;
            self.unsaid.0 += count;
            self.say_dropped(why);
        }
        self.lay(taken, heard)
    }

    /// Lays down what was taken and, once all of it lies there, says so to the daemon.
    fn lay(&mut self, taken: Taken, heard: &Heard) -> Turn {
        let (inbox, lease, name) = (&self.around.inbox, &self.around.lease, &self.feed.name);
        let laying = Laying { feed: name, answer: &taken.answer, from: taken.laid };
        let laid = match inbox.put(lease, &laying, heard) {
            Ok(laid) => laid,
            // It is asked for again.
            Err(error) => return self.later(None, error.to_string()),
        };
        if laid < taken.answer.documents.len() {
            self.taken = Some(Taken { laid, ..taken });
            let why = "the inbox is full until lockdownd has taken up what lies there".to_owned();
            return Turn::Later { state: FeedState::Waiting, wait: ROOM, why, news: true };
        }
        if let Err(error) = inbox.conclude(lease, name, &self.around.feeds.stack, &taken.answer) {
            return self.later(None, error.to_string());
        }
        let next = taken.answer.next;
        if self.position != Some(next) {
            self.given = Some(Given { next, until: Instant::now() + self.patience });
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        Turn::Again
    }

    fn say_dropped(&mut self, why: &str) {
        if self.unsaid.1.is_none_or(|then| then.elapsed() >= SAY) {
            let count = std::mem::take(&mut self.unsaid.0);
            self.unsaid.1 = Some(Instant::now());
            log::warn(format_args!("feed {}: left out {count} that are no documents; the last: {why}", self.feed.name));
        }
    }

    /// It goes on by itself, a little later.
    fn later(&mut self, asked: Option<Duration>, why: String) -> Turn {
        let most = asked.map_or(MAX_LATER, |asked| asked.max(MAX_LATER));
        let wait = self.backoff.next(asked, backoff::chance()).min(most);
        Turn::Later { state: FeedState::Waiting, wait, why, news: false }
    }

    /// Somebody has to change something.
    fn refuse(&mut self, why: String) -> Turn {
        let wait = self.backoff.next(Some(backoff::SLOW_MIN), backoff::chance());
        Turn::Later { state: FeedState::Refused, wait, why, news: false }
    }

    fn tell(&mut self, turn: &Turn) {
        self.state = match turn {
            Turn::Later { state, why, .. } => (*state, Some(why.clone())),
            _ => (FeedState::Listening, None),
        };
        self.show();
    }

    fn show(&self) {
        let (state, why) = self.state.clone();
        let heard = self.heard.map(|heard| format!("{heard:.6}"));
        let (feed, position, dropped) = (self.feed.name.clone(), self.position, self.dropped);
        let status = FeedStatus { feed, state, position, heard, why, dropped };
        self.around.status.set_feed(self.number, Some(status));
    }
}

/// The token that the daemon has made for this host.
fn token(paths: &Paths) -> Result<String, String> {
    let path = paths.feed_token();
    let missing = || format!("lockdownd has not written {}: see lockdownctl status", path.display());
    let bytes = files::read(&path, 4 * TOKEN as u64).map_err(|error| error.to_string())?.ok_or_else(missing)?;
    let token = String::from_utf8(bytes).unwrap_or_default().trim().to_owned();
    let good = token.len() == TOKEN && token.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(token) } else { Err(format!("{} holds no token", path.display())) }
}
