//! Documents come from feeds: each has a thread of its own, which lays what it gets into the daemon's inbox. Nothing is
//! believed and nothing judged here. Shipping shares nothing with it but the status.

mod answer;
mod client;
mod gate;
mod inbox;
mod listener;
mod pace;
mod slot;

use std::{
    os::unix::fs::MetadataExt,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{
    gate::Gate,
    inbox::{Inbox, InboxError, Lease},
    listener::{Around, Listener},
    slot::Slot,
};
use crate::{
    log,
    paths::Paths,
    settings::{self, MAX_FEEDS, Settings},
    status::Status,
};

/// The most threads, those included that still have to end.
const MAX_THREADS: usize = 2 * MAX_FEEDS;
/// A thread that has ended by itself is not started again before this.
const AGAIN: Duration = Duration::from_secs(30);

/// All feeds; the main thread's.
#[derive(Debug)]
pub(crate) struct Feeds {
    paths: Paths,
    status: Arc<Status>,
    gate: Arc<Gate>,
    inbox: Arc<Inbox>,
    slot: Arc<Slot>,
    /// What the daemon wants; nothing before it has said so.
    wanted: Option<Option<Arc<settings::Feeds>>>,
    /// Whether that is being done.
    begun: bool,
    threads: Vec<JoinHandle<()>>,
    /// Those that are to end.
    ending: Vec<JoinHandle<()>>,
    started: Option<Instant>,
    seen: Stamps,
}

/// Which files of the daemon's are there.
type Stamps = [Option<(u64, i64, i64)>; 2];

impl Feeds {
    pub(crate) fn new(paths: Paths, status: Arc<Status>) -> Self {
        Self {
            inbox: Arc::new(Inbox::new(paths.clone())),
            gate: Arc::default(),
            slot: Arc::default(),
            paths,
            status,
            wanted: None,
            begun: false,
            threads: Vec::new(),
            ending: Vec::new(),
            started: None,
            seen: Stamps::default(),
        }
    }

    /// Listens to what the daemon wants listened to, and passes on that it has said something. Never waits.
    pub(crate) fn look(&mut self, settings: &Settings) {
        let stamps = [self.paths.heard(), self.paths.feed_token()].map(|path| {
            let meta = std::fs::symlink_metadata(path).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
        });
        let before = std::mem::replace(&mut self.seen, stamps);
        if before[1] != stamps[1] {
            self.gate.cut();
        } else if before != stamps {
            self.gate.tell();
        }
        if self.wanted.as_ref().is_none_or(|wanted| wanted.as_deref() != settings.feeds.as_ref()) {
            self.wanted = Some(settings.feeds.clone().map(Arc::new));
            self.started = None;
            self.end();
        }
        let rested = self.started.is_none_or(|then| then.elapsed() >= AGAIN);
        if self.begun && rested && self.threads.iter().any(JoinHandle::is_finished) {
            log::error(format_args!("a feed's thread has ended; all begin anew"));
            self.end();
        }
        self.ending.retain(|thread| !thread.is_finished());
        if !self.begun {
            self.begin();
        }
    }

    /// Ends all, and waits for none: what is on its way is cut short, and a thread that still connects ends after that.
    pub(crate) fn end(&mut self) {
        self.gate.end();
        self.ending.append(&mut self.threads);
        self.begun = false;
    }

    fn begin(&mut self) {
        let feeds = match &self.wanted {
            Some(Some(feeds)) if self.ending.len() + feeds.feeds.len() <= MAX_THREADS => feeds.clone(),
            Some(Some(_)) | None => return,
            Some(None) => return self.forget(),
        };
        if feeds.left_out > 0 {
            log::warn(format_args!("{MAX_FEEDS} feeds are listened to, and the {} after them are not", feeds.left_out));
        }
        (self.begun, self.started) = (true, Some(Instant::now()));
        (feeds.feeds.len()..MAX_FEEDS).for_each(|number| self.status.set_feed(number, None));
        let generation = self.gate.end();
        let lease = Lease { generation, feeds: feeds.feeds.iter().map(|feed| feed.name.clone()).collect() };
        let around = Around {
            paths: self.paths.clone(),
            inbox: self.inbox.clone(),
            gate: self.gate.clone(),
            slot: self.slot.clone(),
            status: self.status.clone(),
            feeds: feeds.clone(),
            lease,
        };
        for (number, feed) in feeds.feeds.iter().enumerate() {
            let listener = Listener::new(number, feed.clone(), around.clone());
            self.start(format!("feed-{}", number + 1), move || listener.run());
        }
    }

    fn start(&mut self, name: String, body: impl FnOnce() + Send + 'static) {
        match thread::Builder::new().name(name).spawn(body) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                log::error(format_args!("cannot start a feed's thread: {error}"));
                self.end();
            }
        }
    }

    /// There is no stack: nothing is listened to, and nothing lies there.
    fn forget(&mut self) {
        (0..MAX_FEEDS).for_each(|number| self.status.set_feed(number, None));
        self.begun = true;
        let (inbox, lease) = (self.inbox.clone(), Lease { generation: self.gate.end(), feeds: Vec::new() });
        // The disk may take its time, and the main thread has none to wait.
        let clear = move || match inbox.clear(&lease) {
            Ok(()) | Err(InboxError::Over) => {}
            Err(error) => log::warn(format_args!("{error}")),
        };
        match thread::Builder::new().name("feeds".to_owned()).spawn(clear) {
            Ok(thread) => self.ending.push(thread),
            Err(error) => log::error(format_args!("cannot start a thread: {error}")),
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
