//! For tests: documents that nobody has signed, feeds that hold them, and what a daemon answers.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use document::{Document, Envelope, Id};
use serde_json::{Value, json};

use crate::{
    feeds::Feeds,
    paths::Paths,
    settings,
    status::Status,
    testing::{Reply, Request, ship_to},
};

pub(crate) const TIME: &str = "2026-11-30T18:00:00Z";

/// A document and its envelope.
#[derive(Debug, Clone)]
pub(crate) struct Doc {
    pub(crate) id: Id,
    pub(crate) envelope: Value,
}

pub(crate) fn doc(line: &Value) -> Doc {
    let document = Document::parse(&line.to_string()).unwrap();
    let id = document.id();
    let envelope = Envelope::new(document, vec!["-----BEGIN SSH SIGNATURE-----".to_owned()]).unwrap();
    Doc { id, envelope: serde_json::from_str(&envelope.to_json()).unwrap() }
}

pub(crate) fn lockdown(n: u64) -> Doc {
    doc(&json!({ "v": 1, "type": "lockdown", "organization": "acme", "issued_at": TIME, "stack": "web",
        "hold": false, "reason": format!("{n}") }))
}

pub(crate) fn grant(n: u64) -> Doc {
    doc(&json!({ "v": 1, "type": "grant", "organization": "acme", "issued_at": TIME, "stack": "web", "hosts": ["*"],
        "person": "frank", "account": "ubuntu", "reason": format!("{n}"), "from": [], "after": [], "approvals": 1,
        "fingerprints": [format!("SHA256:{}", "A".repeat(43))], "roster": 1,
        "accept_until": "2026-11-30T19:00:00Z", "starts_at": TIME, "expires_at": "2026-11-30T20:00:00Z" }))
}

pub(crate) fn roster(version: u64) -> Doc {
    doc(&json!({ "v": 1, "type": "roster", "organization": "acme", "issued_at": TIME, "version": version,
        "expires_at": "2027-11-30T20:00:00Z", "people": [], "approvers": [], "rules": [], "feeders": [], "holds": [] }))
}

pub(crate) fn statement() -> Doc {
    doc(&json!({ "v": 1, "type": "feed", "organization": "acme", "issued_at": TIME, "stack": "web", "count": 1,
        "head": "a".repeat(64) }))
}

/// An answer with these, from a position or from the beginning.
pub(crate) fn answer(after: Option<u64>, documents: &[Doc]) -> Value {
    let listed = documents.iter().zip(1..).map(|(document, n)| {
        let mut entry = json!({ "id": document.id, "envelope": document.envelope });
        if let Some(after) = after {
            entry["position"] = json!(after.wrapping_add(n));
        }
        entry
    });
    json!({ "organization": "acme", "stack": "web", "after": after, "documents": listed.collect::<Vec<_>>(),
        "next": after.unwrap_or(0).wrapping_add(documents.len() as u64), "statement": statement().envelope })
}

pub(crate) fn say(answer: &Value) -> Reply {
    Reply::Say(200, Vec::new(), answer.to_string().into_bytes())
}

pub(crate) fn query(request: &Request, name: &str) -> Option<u64> {
    let query = request.path.split_once('?')?.1;
    query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// What a feed holds, and how it answers: at most so many at once, as soon as there is something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(pub(crate) Arc<Mutex<Vec<Doc>>>);

impl Shelf {
    pub(crate) fn of(documents: Vec<Doc>) -> Self {
        Self(Arc::new(Mutex::new(documents)))
    }

    pub(crate) fn publish(&self, document: Doc) {
        self.0.lock().unwrap().push(document);
    }

    /// What a good server says.
    pub(crate) fn reply(&self, request: &Request) -> Reply {
        let after = query(request, "after");
        let until = Instant::now() + Duration::from_secs(query(request, "wait").unwrap_or(0));
        loop {
            let all = self.0.lock().unwrap().clone();
            let from = after.unwrap_or(0) as usize;
            if from > all.len() {
                return Reply::problem(409, json!({ "code": "feed_shorter" }));
            }
            let page = &all[from..(from + 64).min(all.len())];
            match after {
                None => return say(&answer(None, &all)),
                Some(_) if !page.is_empty() || Instant::now() >= until => return say(&answer(after, page)),
                Some(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// What the daemon makes of a document that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Waiting,
    /// It has not looked at it.
    Unseen,
}

type Judge = Box<dyn Fn(&Value) -> Fate + Send + Sync>;

/// The feeds' threads, told what there is every few milliseconds, and a daemon's answers.
pub(crate) struct FeedRig {
    pub(crate) paths: Paths,
    /// Every document that the daemon has seen: how often.
    pub(crate) seen: Arc<Mutex<BTreeMap<String, usize>>>,
    stop: Arc<AtomicBool>,
    daemon: Option<thread::JoinHandle<()>>,
    follower: Option<thread::JoinHandle<Feeds>>,
}

impl FeedRig {
    pub(crate) fn start(paths: &Paths, judge: impl Fn(&Value) -> Fate + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        if !paths.feed_token().exists() {
            new_token(paths, 'a');
        }
        let status = Arc::new(Status::new(paths.clone()));
        let (over, files) = (stop.clone(), paths.clone());
        let follower = thread::spawn(move || {
            let mut feeds = Feeds::new(files.clone(), status.clone());
            while !over.load(Ordering::Relaxed) {
                feeds.look(&settings::read(&files).unwrap_or_default());
                status.flush();
                thread::sleep(Duration::from_millis(5));
            }
            feeds.end();
            feeds
        });
        let (over, files, kept, judge) = (stop.clone(), paths.clone(), seen.clone(), Box::new(judge) as Judge);
        let daemon = thread::spawn(move || {
            let mut positions = BTreeMap::new();
            let mut heard = BTreeMap::<String, Fate>::new();
            while !over.load(Ordering::Relaxed) {
                daemon(&files, &judge, &mut positions, &mut heard, &kept);
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { paths: paths.clone(), seen, stop, daemon: Some(daemon), follower: Some(follower) }
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come: {}", self.status());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn has_seen(&self, document: &Doc) -> bool {
        self.seen.lock().unwrap().contains_key(&document.id.to_string())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&fs::read(self.paths.status()).unwrap_or_default()).unwrap_or_default()
    }

    /// How the feed of this number stands.
    pub(crate) fn feed(&self, number: usize) -> Value {
        self.status()["feeds"][number].clone()
    }

    /// Ends the daemon and the threads, and says how long the latter took.
    pub(crate) fn stop(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.daemon.take().unwrap().join().unwrap();
        let feeds = self.follower.take().unwrap().join().unwrap();
        let begun = Instant::now();
        while feeds.ending.iter().any(|thread| !thread.is_finished()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "a thread does not end");
            thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed()
    }
}

impl Drop for FeedRig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What lies in the inbox: names, and the bytes of all.
pub(crate) fn inbox(paths: &Paths) -> (Vec<String>, u64) {
    let (mut names, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(paths.inbox()).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("feed") {
            bytes += entry.metadata().map_or(0, |meta| meta.len());
            names.push(name);
        }
    }
    names.sort();
    (names, bytes)
}

pub(crate) fn new_token(paths: &Paths, digit: char) {
    let new = paths.feed_token().with_extension("new");
    fs::write(&new, digit.to_string().repeat(64)).unwrap();
    fs::rename(new, paths.feed_token()).unwrap();
}

/// The daemon says that these are its feeds.
pub(crate) fn listen_to(paths: &Paths, feeds: &[&str]) {
    let stack = json!({ "organization": "acme", "stack": "web", "feeds": feeds });
    ship_to(paths, &json!({ "v": 1, "stack": stack }));
}

fn daemon(
    paths: &Paths,
    judge: &Judge,
    positions: &mut BTreeMap<String, u64>,
    heard: &mut BTreeMap<String, Fate>,
    seen: &Mutex<BTreeMap<String, usize>>,
) {
    for name in inbox(paths).0 {
        let Some(id) = name.strip_suffix(".json") else { continue };
        let Ok(bytes) = fs::read(paths.inbox().join(&name)) else { continue };
        let fate = judge(&serde_json::from_slice(&bytes).unwrap());
        if fate != Fate::Unseen && heard.insert(id.to_owned(), fate).is_none() {
            *seen.lock().unwrap().entry(id.to_owned()).or_default() += 1;
        }
    }
    for number in 1..=3 {
        let name = if number == 1 { "feed.json".to_owned() } else { format!("feed-{number}.json") };
        let Ok(bytes) = fs::read(paths.inbox().join(name)) else { continue };
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        let feed = said["feed"].as_str().unwrap();
        let all = said["ids"].as_array().unwrap().iter().all(|id| heard.contains_key(id.as_str().unwrap()));
        let follows = said["after"].is_null() || said["after"].as_u64() == positions.get(feed).copied();
        if all && follows {
            positions.insert(feed.to_owned(), said["next"].as_u64().unwrap());
        }
    }
    let of = |fate| heard.iter().filter(|(_, f)| **f == fate).map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let feeds: Vec<_> = positions.iter().map(|(feed, at)| json!({ "feed": feed, "position": at })).collect();
    let said = json!({ "v": 1, "done": of(Fate::Done), "waiting": of(Fate::Waiting), "feeds": feeds }).to_string();
    if fs::read_to_string(paths.heard()).ok().as_ref() != Some(&said) {
        let new = paths.heard().with_extension("new");
        fs::write(&new, said).unwrap();
        fs::rename(new, paths.heard()).unwrap();
    }
}
