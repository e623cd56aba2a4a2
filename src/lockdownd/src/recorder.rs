//! Between what happens and the ledger: batches, and the coalescing of what others can cause at will.
//!
//! Removals and endings never wait for the ledger: what cannot be written is owed by it, and follows. What must be on
//! disk before it takes effect (a grant, a login) asks [`Recorder::record_first`] and does not happen if that fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use record::{Account, Actor, ArtifactType, Draft, Fingerprint};
use serde_json::Value;

use crate::{
    host::clock::Now,
    ledger::{self, Ledger},
};

/// The window in which repeated statements are summed up.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How many different things are summed up at a time; past it, one sum per type takes the rest.
pub const MAX_WINDOWS: usize = 1_024;
/// How many different fingerprints one sum names; the others are counted.
pub const MAX_NAMED: usize = 64;

/// What is summed up together: a type, by account and by where it came from.
type Subject = (ArtifactType, Option<Account>, String);

#[derive(Debug)]
struct Window {
    opened: Now,
    /// The first statement, and what of it holds for all the others.
    like: Draft,
    /// Whether all say the same sentence.
    alike: bool,
    times: u64,
    named: BTreeSet<Fingerprint>,
    unnamed: u64,
}

/// Takes drafts, gives them to the ledger.
#[derive(Debug)]
pub struct Recorder {
    ledger: Ledger,
    noted: Vec<Draft>,
    windows: BTreeMap<Subject, Window>,
    failing: Option<String>,
}

impl Recorder {
    /// A recorder for this ledger, with nothing noted.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, noted: Vec::new(), windows: BTreeMap::new(), failing: None }
    }

    /// The ledger, to be read.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger, for what is not a record: its stack and its pruning.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Why the ledger cannot be written, while it cannot.
    #[must_use]
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// Notes a draft for the next [`Recorder::commit`], which every reason to act ends with.
    pub fn note(&mut self, draft: Draft) {
        self.noted.push(draft);
    }

    /// Notes a draft of which there may be a flood, which states so many: the first of a window goes out at once, the others
    /// are summed up when the window closes, with their exact count and up to [`MAX_NAMED`] fingerprints.
    pub fn note_often(&mut self, draft: Draft, times: u64, now: Now) {
        let origin = draft.source.as_ref().and_then(|source| source.address).map(|address| address.to_string());
        // Where it is known who did it, one's doing must not go under in another's.
        let origin = origin.or_else(|| draft.actor.as_ref().map(who)).unwrap_or_default();
        let mut subject = (draft.kind, draft.account.clone(), origin);
        if !self.windows.contains_key(&subject) && self.windows.len() >= MAX_WINDOWS {
            subject = (draft.kind, None, String::new());
        }
        if let Some(window) = self.windows.get_mut(&subject) {
            window.times = window.times.saturating_add(times);
            window.learn(&draft);
            return;
        }
        let like = draft.clone();
        let window = Window { opened: now, like, alike: true, times: 0, named: BTreeSet::new(), unnamed: 0 };
        self.windows.insert(subject, window);
        self.note(if times > 1 { draft.with("count", times) } else { draft });
    }

    /// Notes the sums of every window that has closed by now, or of all of them.
    pub fn close_windows(&mut self, now: Now, all: bool) {
        let closed = |window: &Window| all || now.boot.saturating_sub(window.opened.boot) >= WINDOW;
        let subjects: Vec<Subject> =
            self.windows.iter().filter(|(_, window)| closed(window)).map(|(subject, _)| subject.clone()).collect();
        for subject in subjects {
            let window = self.windows.remove(&subject).expect("it was just listed");
            if window.times > 0 {
                self.note(window.sum(subject));
            }
        }
    }

    /// How long until the next window closes.
    #[must_use]
    pub fn next_close(&self) -> Option<Duration> {
        self.windows.values().map(|window| window.opened.boot + WINDOW).min()
    }

    /// Writes everything that was noted, in order, and waits until it is on disk; whether it is. What is not is owed.
    pub fn commit(&mut self, now: Now) -> bool {
        if self.noted.is_empty() && self.ledger.owed() == 0 {
            return true;
        }
        let noted = std::mem::take(&mut self.noted);
        let written = self.ledger.append_or_owe(noted, now.wall).map(drop);
        self.tell(written).is_ok()
    }

    /// Writes one statement of new access, behind everything that was noted, and waits until it is on disk. A ledger
    /// that is full takes none: what is reserved in it is for what cannot be withheld.
    ///
    /// # Errors
    /// It is not on disk, and never will be: what it states must not happen.
    pub fn record_first(&mut self, draft: Draft, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append(vec![draft], now.wall).map(drop);
        match written {
            // What is reserved works: the ledger does not fail, it is full, which is told elsewhere.
            Err(full @ ledger::Error::Full(_)) => Err(full),
            written => self.tell(written),
        }
    }

    /// The same for a login that a grant of before backs: it may use what is reserved.
    ///
    /// # Errors
    /// As [`Recorder::record_first`].
    pub fn record_login(&mut self, draft: Draft, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append_needed(vec![draft], now.wall).map(drop);
        self.tell(written)
    }

    /// Writes these statements, behind everything that was noted, all or none, and waits until they are on disk.
    ///
    /// # Errors
    /// None of them is: whoever states them keeps them and tries again.
    pub fn record_all(&mut self, drafts: Vec<Draft>, now: Now) -> Result<(), ledger::Error> {
        self.commit(now);
        let written = self.ledger.append(drafts, now.wall).map(drop);
        self.tell(written)
    }

    /// Says when the ledger begins to fail, and when it works again.
    fn tell(&mut self, written: Result<(), ledger::Error>) -> Result<(), ledger::Error> {
        match &written {
            Ok(()) if self.failing.take().is_some() => tracing::info!("the ledger can be written again"),
            Ok(()) => {}
            Err(error) => {
                if self.failing.replace(error.to_string()).is_none() {
                    tracing::error!(%error, "the ledger cannot be written: no new grant and no login until it can; removals and endings go on");
                }
            }
        }
        written
    }
}

/// Who caused it, whatever their process.
fn who(actor: &Actor) -> String {
    match (&actor.person, actor.login_uid.or(actor.uid)) {
        (Some(person), _) => person.to_string(),
        (None, Some(uid)) => uid.to_string(),
        (None, None) => String::new(),
    }
}

impl Window {
    fn learn(&mut self, draft: &Draft) {
        // A sum names only what holds for each statement in it: two people may share an address, all share the last window.
        self.alike &= self.like.reason == draft.reason;
        if self.like.person != draft.person {
            self.like.person = None;
        }
        let address = |draft: &Draft| draft.source.as_ref().and_then(|source| source.address);
        if address(&self.like) != address(draft) {
            self.like.source = None;
        }
        let listed = draft.detail.get("fingerprints").and_then(Value::as_array).into_iter().flatten();
        let listed = listed.filter_map(|value| value.as_str()?.parse().ok());
        for fingerprint in draft.fingerprint.iter().cloned().chain(listed) {
            if self.named.len() < MAX_NAMED || self.named.contains(&fingerprint) {
                self.named.insert(fingerprint);
            } else {
                self.unnamed += 1;
            }
        }
    }

    /// The statement that sums the window up: the like of its first draft, how many more there were, and which keys.
    fn sum(self, (kind, account, _): Subject) -> Draft {
        let (times, first) = (self.times, &self.like.reason);
        let sentence = match self.alike {
            true => format!("{times} more like record before, within a minute: {first}"),
            false => format!("{times} more for various reasons, within a minute of this one: {first}"),
        };
        let mut sum = Draft::new(kind, sentence)
            .with("count", times)
            .with("since", self.opened.wall.to_string())
            .with("fingerprints", self.named.iter().map(|f| Value::from(f.as_str())).collect::<Vec<_>>())
            .with("more_fingerprints", self.unnamed);
        sum.source = self.like.source.map(|mut source| {
            source.port = None;
            source
        });
        sum.account = account;
        sum.person = self.like.person;
        sum
    }
}

#[cfg(test)]
mod on_disk;
#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use record::Source;

    use super::*;

    fn refused(person: &str, address: &str, port: u16) -> Draft {
        let mut draft = Draft::new(ArtifactType::SessionRefused, format!("login refused: {person} has no grant"));
        draft.person = Some(person.parse().expect("a name"));
        draft.source = Some(Source { address: Some(address.parse().expect("an address")), port: Some(port) });
        draft
    }

    /// The sum of a window that `drafts` fell into, the first of which was recorded by itself.
    fn sum_of(drafts: &[Draft]) -> Draft {
        let opened = Now { wall: Timestamp::UNIX_EPOCH, boot: Duration::ZERO };
        let like = drafts[0].clone();
        let mut window = Window { opened, like, alike: true, times: 0, named: BTreeSet::new(), unnamed: 0 };
        for draft in &drafts[1..] {
            window.times += 1;
            window.learn(draft);
        }
        window.sum((ArtifactType::SessionRefused, None, String::new()))
    }

    #[test]
    fn a_sum_names_the_person_and_the_address_that_all_have_but_no_port() {
        let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("frank", "192.0.2.1", 2)]);
        assert_eq!(sum.person, Some("frank".parse().expect("a name")));
        assert_eq!(sum.source, Some(Source { address: "192.0.2.1".parse().ok(), port: None }));
        assert!(sum.reason.starts_with("1 more like record before"), "{}", sum.reason);
    }

    #[test]
    fn a_sum_blames_nobody_for_what_another_did() {
        let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("grace", "192.0.2.1", 2)]);
        assert_eq!((sum.person, sum.detail["count"].as_u64()), (None, Some(1)));
        assert!(sum.source.is_some() && sum.reason.contains("for various reasons"), "{}", sum.reason);
        let sum = sum_of(&[refused("frank", "192.0.2.1", 1), refused("frank", "192.0.2.2", 2)]);
        assert!(sum.source.is_none() && sum.person.is_some());
    }
}
