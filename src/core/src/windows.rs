//! Statements of which there may be a flood: the first goes out at once, the others are summed up by the minute.
//!
//! Others can cause these at will, so what is kept of them is bounded, and every bound keeps the counts exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use record::{Account, Actor, ArtifactType, Draft, Fingerprint};
use serde_json::Value;

use crate::policy::time::Now;

/// The window in which repeated statements are summed up.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How many different things are summed up at a time; past it, one sum per type takes the rest.
pub const MAX_WINDOWS: usize = 1_024;
/// How many different fingerprints one sum names; the others are counted.
pub const MAX_NAMED: usize = 64;

/// What is summed up together: a type, by account and by where it came from, or by what was put right.
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

/// The windows that are open.
#[derive(Debug, Default)]
pub struct Windows(BTreeMap<Subject, Window>);

impl Windows {
    /// Takes a draft that states so many: the first of a window is given back, to be recorded at once. The others are summed
    /// up when the window closes, with their exact count and up to [`MAX_NAMED`] fingerprints.
    pub fn take(&mut self, draft: Draft, times: u64, now: Now) -> Option<Draft> {
        let origin = draft.source.as_ref().and_then(|source| source.address).map(|address| address.to_string());
        // Where it is known who did it, one's doing must not go under in another's.
        let origin = origin.or_else(|| draft.actor.as_ref().map(who));
        // What was put right goes under in nothing else either.
        let mended = || draft.detail.get("mended").and_then(Value::as_str).map(str::to_owned);
        let origin = origin.or_else(mended).unwrap_or_default();
        let mut subject = (draft.kind, draft.account.clone(), origin);
        if !self.0.contains_key(&subject) && self.0.len() >= MAX_WINDOWS {
            subject = (draft.kind, None, String::new());
        }
        if let Some(window) = self.0.get_mut(&subject) {
            window.times = window.times.saturating_add(times);
            window.learn(&draft);
            return None;
        }
        let like = draft.clone();
        let window = Window { opened: now, like, alike: true, times: 0, named: BTreeSet::new(), unnamed: 0 };
        self.0.insert(subject, window);
        Some(if times > 1 { draft.with("count", times) } else { draft })
    }

    /// The sums of every window that has closed by now, or of all of them.
    pub fn close(&mut self, now: Now, all: bool) -> Vec<Draft> {
        let closed = |window: &Window| all || now.boot.saturating_sub(window.opened.boot) >= WINDOW;
        let subjects: Vec<Subject> =
            self.0.iter().filter(|(_, window)| closed(window)).map(|(subject, _)| subject.clone()).collect();
        let windows = subjects.into_iter().filter_map(|subject| Some((self.0.remove(&subject)?, subject)));
        windows.filter(|(window, _)| window.times > 0).map(|(window, subject)| window.sum(subject)).collect()
    }

    /// When the next window closes, on the boot clock.
    #[must_use]
    pub fn next_close(&self) -> Option<Duration> {
        self.0.values().map(|window| window.opened.boot + WINDOW).min()
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
mod tests;
