//! What an operator sees of documents.

use control::{FeedView, RosterView, StackView, WaitingDocument};
use record::{Fingerprint, Hash};
use serde_json::{Value, json};

use super::Core;
use crate::policy::time::Now;

/// The most documents that wait and are named.
const MAX_WAITING_NAMED: usize = 32;

impl Core {
    /// How this host stands with its stack; nothing without `[stack]`.
    #[must_use]
    pub fn stack_view(&self, now: Now) -> Option<StackView> {
        let judge = self.documents.judge()?;
        let roster = judge.roster().map(|roster| RosterView {
            version: roster.version.number(),
            id: judge.state().roster().map(|mark| mark.id.to_string()).unwrap_or_default(),
            expires_at: roster.expires_at.timestamp(),
            people: roster.people.len() as u64,
        });
        let feeds = self.documents.feeds.iter().map(|(name, feed)| {
            let vouched = feed.is_vouched();
            FeedView {
                feed: name.clone(),
                heard_at: feed.heard_at.map(document::Moment::timestamp),
                vouched: vouched.is_some(),
                position: vouched.map(|(position, ..)| position),
                head: vouched.map(|(_, head, _)| head.to_string()),
                problem: feed.problem.clone(),
            }
        });
        let waiting = self.documents.offered.waiting().iter().take(MAX_WAITING_NAMED);
        Some(StackView {
            organization: judge.settings().organization.to_string(),
            roster,
            holds: judge.state().holds().map(|(id, _)| id.to_string()).collect(),
            feeds: feeds.collect(),
            waiting: waiting.map(|(id, why)| WaitingDocument { document: id.to_string(), why: why.clone() }).collect(),
            silent: self.is_silent(now),
            inbox: self.documents.offered.problem().cloned(),
        })
    }

    /// What an attestation says of documents.
    pub(in crate::machine) fn attested_documents(&self) -> Vec<(&'static str, Value)> {
        let Some(judge) = self.documents.judge() else { return Vec::new() };
        let vouched = self.documents.feeds.iter().filter_map(|(name, feed)| Some((name, feed.is_vouched()?)));
        let one = |(name, (position, head, key)): (&String, (u64, Hash, &Fingerprint))| json!({ "feed": name, "position": position, "head": head.to_string(), "key": key.as_str() });
        let feeds: Vec<Value> = vouched.map(one).collect();
        let mut feed = json!({ "vouched": !feeds.is_empty() });
        if !feeds.is_empty() {
            feed["feeds"] = feeds.into();
        }
        if let Some(at) = self.documents.feeds.last_heard_at() {
            feed["heard_at"] = at.to_string().into();
        }
        let roster = judge.state().roster().zip(judge.roster()).map(|(mark, roster)| {
            let expires_at = roster.expires_at.to_string();
            ("roster", json!({ "version": mark.version.number(), "id": mark.id.to_string(), "expires_at": expires_at }))
        });
        let holds = ("holds", judge.state().holds().count().into());
        let waiting = ("documents_waiting", self.documents.offered.waiting().len().into());
        let accepted = ("documents", self.documents.number().into());
        let locked_down = judge.state().local_lockdown().map(|at| ("locked_down_at", at.to_string().into()));
        [("feed", feed), holds, waiting, accepted].into_iter().chain(roster).chain(locked_down).collect()
    }
}
