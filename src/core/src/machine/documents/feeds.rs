//! What feeds say that they hold, signed by the server: so that it is known whether a document was withheld, and for how long
//! nothing was heard.
//!
//! Ids of documents form a chain. A statement that is about exactly those that were brought here vouches for them.

use std::{collections::BTreeMap, time::Duration};

use document::{Envelope, Id, Key, Moment, chain, judge::judge_feed};
use record::{ArtifactType, Draft, Hash};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Core;
use crate::policy::time::Now;

/// The most ids that one answer of a feed has.
pub const MAX_FEED_IDS: usize = 256;
/// How old a statement may be: a minute until the next, and the clocks of both.
const FRESH: Duration = Duration::from_secs(60 + 120);

/// What a feed said last, as the shipper leaves it.
#[derive(Debug, Clone)]
pub struct FeedSaid {
    /// Which, as in the configuration.
    pub feed: String,
    /// After which document; nothing: from the beginning.
    pub after: Option<u64>,
    /// Up to which.
    pub next: u64,
    /// The documents between, in order.
    pub ids: Vec<Id>,
    /// The server's statement.
    pub statement: Envelope,
}

/// Each feed of the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Feeds(BTreeMap<String, Feed>);

/// What is known of one feed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    /// Up to which document all were brought, and the head of the chain there.
    at: Option<(u64, Hash)>,
    /// Up to where a statement vouched for it.
    vouched: Option<(u64, Hash)>,
    /// When it was heard last, by this host's clock.
    pub(super) heard_at: Option<Moment>,
    /// The same on the boot clock; nothing before it was heard in this run.
    #[serde(skip)]
    heard: Option<Duration>,
    /// What is wrong with it.
    #[serde(skip)]
    pub(super) problem: Option<String>,
    /// Since when, on the boot clock; nothing once it is on record.
    #[serde(skip)]
    untold: Option<Duration>,
}

/// How long something is wrong with a feed before it is on record: what was brought is fetched once more meanwhile.
const LASTING: Duration = Duration::from_secs(60);

impl Feeds {
    /// After a start: the time since each was heard has gone on.
    pub(super) fn resumed(mut self, now: Now) -> Self {
        for feed in self.0.values_mut() {
            // A clock that was set back says nothing of how long it is.
            let since = feed.heard_at.filter(|at| *at <= Moment::of(now.wall)).map(|at| Moment::of(now.wall).since(at));
            feed.heard = since.and_then(|since| now.boot.checked_sub(since));
        }
        self
    }

    /// Forgets feeds that the configuration does not name any more.
    pub(super) fn keep_only<'a>(&mut self, named: impl Iterator<Item = &'a String>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = named.map(|name| (name.clone(), before.remove(name).unwrap_or_default())).collect();
    }

    /// When any of them was heard last, vouched for, on the boot clock.
    pub(super) fn last_heard(&self) -> Option<Duration> {
        self.0.values().filter_map(|feed| feed.heard).max()
    }

    /// When any of them was heard last, by this host's clock.
    pub(super) fn last_heard_at(&self) -> Option<Moment> {
        self.0.values().filter_map(|feed| feed.heard_at).max()
    }

    /// From where the shipper is to go on with each.
    pub(super) fn positions(&self) -> Vec<Value> {
        let one = |(name, feed): (&String, &Feed)| Some(json!({ "feed": name, "position": feed.at?.0 }));
        self.0.iter().filter_map(one).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Feed)> {
        self.0.iter()
    }
}

impl Core {
    /// Whether feeds' statements can be vouched for at all.
    pub(super) fn feeds_are_vouched(&self) -> bool {
        self.config.ship.api.as_ref().is_some_and(|api| !api.receipt_keys.is_empty())
    }

    /// Feeds said this; every document that was in the inbox then is judged.
    pub(super) fn feeds_said(&mut self, said: Vec<FeedSaid>, now: Now) {
        for said in said {
            let Some(before) = self.documents.feeds.0.get(&said.feed).cloned() else { continue };
            let mut after = self.heard(&said, before.clone(), now);
            self.documents.unsaved |= (after.at, after.vouched) != (before.at, before.vouched);
            after.untold = match (&after.problem, &before.problem) {
                (None, _) => None,
                (Some(_), None) => Some(now.boot),
                (Some(_), Some(_)) => before.untold,
            };
            let lasts = after.untold.is_some_and(|since| now.boot.saturating_sub(since) >= LASTING);
            let told = after.problem.clone().filter(|_| lasts);
            if told.is_some() {
                after.untold = None;
            }
            self.documents.feeds.0.insert(said.feed.clone(), after);
            if let Some(why) = told {
                let draft = Draft::new(ArtifactType::JournalGap, format!("the feed {} is not whole: {why}", said.feed))
                    .with("what", "documents of a feed")
                    .with("feed", said.feed.as_str())
                    .with("why", why);
                self.recorder.note_often(draft, 1, now);
            }
        }
    }

    /// A feed as it is known after this.
    fn heard(&self, said: &FeedSaid, mut feed: Feed, now: Now) -> Feed {
        let Some(judge) = self.documents.judge() else { return feed };
        if said.after.is_some() && said.after != feed.at.map(|(position, _)| position) {
            // It is about a stretch that is not asked for any more.
            return feed;
        }
        if let Some(missing) = said.ids.iter().find(|id| !self.documents.offered.knows(**id)) {
            feed.problem = Some(format!("it says that it holds document {missing}, which was not brought here"));
            return feed;
        }
        let (position, head) = match feed.at.filter(|_| said.after.is_some()) {
            Some((after, head)) => {
                let head = said.ids.iter().fold(head, |head, id| chain(head, *id));
                (after + said.ids.len() as u64, Some(head))
            }
            None => (said.next, None),
        };
        if position != said.next {
            feed.problem = Some("the documents that it names are more or fewer than it says".to_owned());
            return feed;
        }
        let (organization, stack) = (&judge.settings().organization, &judge.place().stack);
        let keys = self.config.ship.api.iter().flat_map(|api| &api.receipt_keys);
        let keys: Vec<Key> = keys.filter_map(|key| key.to_openssh().ok()?.parse().ok()).collect();
        if keys.is_empty() {
            // Nobody can tell: it goes on by the shipper's word.
            (feed.at, feed.problem) = (Some((position, head.unwrap_or(Hash::ZERO))), None);
            feed.heard_at = Some(Moment::of(now.wall));
            return feed;
        }
        let statement = match judge_feed(&said.statement, organization, stack, &keys) {
            Ok(statement) => statement,
            Err(why) => {
                feed.problem = Some(why.to_string());
                return feed;
            }
        };
        let moment = Moment::of(now.wall);
        let age = moment.since(statement.issued_at).max(statement.issued_at.since(moment));
        if age > FRESH {
            feed.problem = Some(format!("its statement is of {}, and it is {moment} here", statement.issued_at));
            return feed;
        }
        if statement.count < feed.vouched.map_or(0, |(count, _)| count) || statement.count < position {
            feed.problem = Some(format!("it held more before: {} now", statement.count));
            return feed;
        }
        let head = head.unwrap_or(statement.head);
        if statement.count == position && statement.head != head {
            feed.problem = Some("it holds other documents than were brought here, or in another order".to_owned());
            // From where it was vouched for, or from the beginning.
            feed.at = feed.vouched;
            return feed;
        }
        (feed.at, feed.problem) = (Some((position, head)), None);
        if statement.count == position {
            feed.vouched = Some((position, head));
            (feed.heard, feed.heard_at) = (Some(now.boot), Some(moment));
        }
        feed
    }
}
