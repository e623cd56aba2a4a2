//! What feeds say that they hold, signed by the server: so that it is known whether a document was withheld, and for how long
//! nothing was heard.
//!
//! Ids of documents form a chain. A statement that is about exactly those that were brought here vouches for them.

use std::{collections::BTreeMap, time::Duration};

use document::{Envelope, Id, Key, Moment, chain, judge::judge_feed};
use record::{ArtifactType, Draft, Fingerprint, Hash};
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
    /// By which key of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Fingerprint>,
    /// It is not the feed that was vouched for: what it holds now is brought, and nothing vouches until that is on record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_other: bool,
    /// It did not fit once already since it was vouched for, and was brought again from there.
    #[serde(skip)]
    was_retried: bool,
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

impl Feed {
    /// Up to where the server vouches for all that was brought, with the head there and its key; nothing while that is not so.
    pub(super) fn is_vouched(&self) -> Option<(u64, Hash, &Fingerprint)> {
        let (position, head) = self.vouched.filter(|_| self.at == self.vouched && self.problem.is_none())?;
        Some((position, head, self.by.as_ref()?))
    }
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
    /// Feeds said this; every document that was in the inbox then is judged.
    pub(super) fn feeds_said(&mut self, said: Vec<FeedSaid>, now: Now) {
        for said in said {
            let Some(before) = self.documents.feeds.0.get(&said.feed).cloned() else { continue };
            let mut after = self.heard(&said, before.clone(), now);
            // Until it is vouched for: a page that fits says nothing of those to come.
            if before.problem.is_none() && after.problem.is_some() {
                after.untold = after.untold.or(Some(now.boot));
            }
            let lasts = after.untold.is_some_and(|since| now.boot.saturating_sub(since) >= LASTING);
            let told = after.problem.clone().filter(|_| lasts);
            if told.is_some() {
                after.untold = None;
                if std::mem::take(&mut after.is_other) {
                    after.vouched = None;
                }
            }
            let kept = |feed: &Feed| (feed.at, feed.vouched, feed.is_other);
            self.documents.unsaved |= kept(&after) != kept(&before);
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
            (feed.at, feed.problem, feed.untold) = (Some((position, head.unwrap_or(Hash::ZERO))), None, None);
            feed.by = None;
            feed.heard_at = Some(Moment::of(now.wall));
            return feed;
        }
        let by = |key: &&Key| judge_feed(&said.statement, organization, stack, std::slice::from_ref(*key)).is_ok();
        let by = keys.iter().find(by).map(|key| key.fingerprint().clone());
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
        let (is_beginning, head) = (head.is_none(), head.unwrap_or(statement.head));
        let vouched = feed.vouched.map_or(0, |(count, _)| count);
        if statement.count < position || (statement.count < vouched && !feed.is_other) {
            feed.is_other |= statement.count < vouched;
            feed.problem =
                Some(format!("it held more before: {}, and holds {} now", vouched.max(position), statement.count));
            feed.at = is_beginning.then_some((position, head));
            return feed;
        }
        if statement.count == position && statement.head != head {
            feed.problem = Some("it holds other documents than were brought here, or in another order".to_owned());
            // Once more from where it was vouched for, however many pages that takes. Then it is another one there, too, and from
            // the beginning: what it holds is to come.
            feed.is_other |= feed.at == feed.vouched || feed.was_retried;
            feed.was_retried = true;
            feed.at = feed.vouched.filter(|_| !feed.is_other);
            return feed;
        }
        feed.at = Some((position, head));
        feed.problem = feed
            .is_other
            .then(|| "it is not the one that was heard here before: its server was set back, or is another".to_owned());
        if statement.count == position && !feed.is_other {
            (feed.vouched, feed.was_retried, feed.untold) = (Some((position, head)), false, None);
            (feed.heard, feed.heard_at, feed.by) = (Some(now.boot), Some(moment), by);
        }
        feed
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::{HashAlg, PrivateKey, SshSig, private::Ed25519Keypair};

    use super::*;
    use crate::{
        config::Config,
        machine::{Around, Moment as CoreMoment, documents::DocumentsRead},
        policy::{
            grant::{FromDocument, Grant, Origin},
            test_grants::{grant, later, now},
        },
        sessions::Sessions,
    };

    const FEED: &str = "https://compliance.example.com";

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn public(key: &PrivateKey) -> String {
        key.public_key().to_openssh().expect("it can be written").trim().to_owned()
    }

    fn envelope(line: &str, namespace: &str, by: &PrivateKey) -> Envelope {
        let signature = SshSig::sign(by, namespace, HashAlg::Sha512, line.as_bytes()).expect("signed");
        let signature = record::write_armored(&signature).expect("written");
        Envelope::new(document::Document::parse(line).expect("a document"), vec![signature]).expect("few")
    }

    fn statement(count: u64, head: Hash, at: Now, by: &PrivateKey) -> Envelope {
        let line = json!({
            "v": 1, "type": "feed", "organization": "acme", "stack": "default", "count": count, "head": head.to_string(),
            "issued_at": Moment::of(at.wall).to_string(),
        });
        envelope(&line.to_string(), "ssh-access-feed", by)
    }

    fn core(when_silent: &str, receipt_keys: &str) -> Core {
        let text = format!(
            "mode = \"enforce\"\n[accounts]\nno_exempt = true\n[ship.api]\nurl = \"{FEED}\"\nreceipt_keys = [{receipt_keys}]\n[stack]\n\
             organization = \"acme\"\nfeeds = [\"{FEED}\"]\nmax_silence = \"5m\"\nwhen_silent = \"{when_silent}\"\n\
             [[stack.roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
            public(&key(2))
        );
        let config = Config::parse(&[("c.toml", &text)]).expect("good");
        let moment = CoreMoment { now: now(), random: 1 };
        let mut core = Core::new(config, Around::default(), "boot".to_owned(), Sessions::default(), moment);
        core.take_up_documents(DocumentsRead::default(), &Default::default(), "web-1".parse().expect("a name"), now());
        core
    }

    fn vouched() -> Core {
        core("end", &format!("\"{}\"", public(&key(1))))
    }

    fn says(core: &mut Core, after: Option<u64>, ids: &[Id], statement: Envelope, at: Now) -> Option<String> {
        let next = after.unwrap_or_default() + ids.len() as u64;
        core.feeds_said(vec![FeedSaid { feed: FEED.to_owned(), after, next, ids: ids.to_vec(), statement }], at);
        core.documents.feeds.0[FEED].problem.clone()
    }

    fn head(ids: &[Id]) -> Hash {
        ids.iter().fold(Hash::ZERO, |head, id| chain(head, *id))
    }

    /// How many gaps were noted.
    fn gaps(core: &mut Core) -> usize {
        let noted = core.recorder.take_unopened(now());
        noted.iter().filter(|(_, draft)| draft.kind == ArtifactType::JournalGap).count()
    }

    #[test]
    fn a_feed_is_heard_where_the_servers_statement_is_about_exactly_what_was_brought() {
        let (mut core, server) = (vouched(), key(1));
        let ids: Vec<Id> = ["a", "b", "c"].map(Id::of).to_vec();
        ids.iter().for_each(|id| core.documents.offered.see(*id));
        let empty = statement(0, Hash::ZERO, now(), &server);
        assert_eq!(says(&mut core, None, &[], empty, now()), None);
        assert_eq!(core.documents.feeds.last_heard(), Some(now().boot));
        // A page, and then the rest: only the rest is vouched for.
        let all = statement(3, head(&ids), later(10), &server);
        assert_eq!(says(&mut core, Some(0), &ids[..2], all.clone(), later(10)), None);
        assert_eq!(core.documents.feeds.last_heard(), Some(now().boot));
        let vouched = |core: &Core| {
            let view = core.stack_view(now()).expect("there is a stack").feeds.remove(0);
            let attested = core.attested_documents().remove(0).1;
            assert_eq!(attested["vouched"], view.vouched, "{attested}");
            assert_eq!(attested["feeds"][0]["head"].as_str(), view.head.as_deref(), "{attested}");
            (view.vouched, view.position, view.head)
        };
        assert_eq!(vouched(&core), (false, None, None), "not for what was brought since");
        assert_eq!(says(&mut core, Some(2), &ids[2..], all.clone(), later(11)), None);
        assert_eq!(vouched(&core), (true, Some(3), Some(head(&ids).to_string())));
        assert_eq!(core.documents.feeds.last_heard(), Some(later(11).boot));
        assert_eq!(core.documents.feeds.positions(), [json!({ "feed": FEED, "position": 3 })]);
        // What is about another stretch is old news; a statement that is old is no news either.
        assert_eq!(says(&mut core, Some(0), &ids, all.clone(), later(12)), None);
        let why = says(&mut core, Some(3), &[], all, later(300)).expect("it is refused");
        assert!(why.contains("its statement is of"), "{why}");
        assert_eq!(vouched(&core), (false, None, None), "nor by a statement of long ago");
        assert_eq!(core.documents.feeds.last_heard(), Some(later(11).boot));
    }

    #[test]
    fn what_a_bad_carrier_withholds_swaps_or_makes_up_is_noticed_and_on_record_once_it_lasts() {
        let server = key(1);
        let ids: Vec<Id> = ["a", "b"].map(Id::of).to_vec();
        let good = |count: u64, head: Hash| statement(count, head, now(), &server);
        let begun = || {
            let mut core = vouched();
            ids.iter().for_each(|id| core.documents.offered.see(*id));
            assert_eq!(says(&mut core, None, &[], good(0, Hash::ZERO), now()), None);
            core
        };
        let swapped = [ids[1], ids[0]];
        for (brought, statement, why) in [
            (&ids[..1], good(1, head(&ids[1..])), "in another order"),
            (&swapped[..], good(2, head(&ids)), "in another order"),
            (&[Id::of("unseen")][..], good(1, head(&[Id::of("unseen")])), "was not brought here"),
            (&ids[..], statement(2, head(&ids), now(), &key(9)), "ship.api.receipt_keys"),
            (&ids[..], good(1, head(&ids[..1])), "it held more before"),
        ] {
            let mut core = begun();
            let said = says(&mut core, Some(0), brought, statement.clone(), later(1)).expect(why);
            assert!(said.contains(why), "{why}: {said}");
            assert_eq!(core.documents.feeds.last_heard(), Some(now().boot), "{why}");
            assert_eq!(gaps(&mut core), 0, "{why}: it may be fetched once more");
            let _ = says(&mut core, Some(0), brought, statement.clone(), later(62));
            assert_eq!(gaps(&mut core), 1, "{why}");
            let _ = says(&mut core, Some(0), brought, statement, later(200));
            assert_eq!(gaps(&mut core), 0, "{why}: once");
        }
    }

    #[test]
    fn without_the_servers_keys_the_shippers_word_counts_for_nothing_but_where_to_go_on() {
        let mut core = core("keep", "");
        let ids = [Id::of("a")];
        core.documents.offered.see(ids[0]);
        assert_eq!(says(&mut core, None, &ids, statement(1, head(&ids), now(), &key(7)), now()), None);
        assert_eq!(core.documents.feeds.last_heard(), None);
        assert_eq!(core.documents.feeds.positions().len(), 1);
        let view = core.stack_view(now()).expect("there is a stack");
        assert!(view.feeds.iter().all(|feed| !feed.vouched && feed.heard_at.is_some()));
    }

    #[test]
    fn grants_from_documents_end_when_nothing_was_heard_for_too_long_and_no_others() {
        for when_silent in ["end", "keep"] {
            let mut core = core(when_silent, &format!("\"{}\"", public(&key(1))));
            let empty = statement(0, Hash::ZERO, now(), &key(1));
            assert_eq!(says(&mut core, None, &[], empty, now()), None);
            let from = FromDocument {
                document: Id::of("a"),
                approvers: Vec::new(),
                keys: Vec::new(),
                login_with: [].into(),
                after: [].into(),
                issued_at: Moment::of(now().wall),
            };
            let (own, other) = (grant(1, "frank", "ubuntu"), grant(2, "grace", "ubuntu"));
            let ids = [own.id.clone(), other.id.clone()];
            core.grants.add(Grant { origin: Origin::Document(Box::new(from)), ..own }).expect("there is room");
            core.grants.add(other).expect("there is room");
            let open = |core: &Core| ids.each_ref().map(|id| core.grants.get(id).is_some_and(Grant::is_open));
            core.meet_deadlines(later(299));
            assert_eq!(open(&core), [true, true]);
            core.meet_deadlines(later(301));
            assert_eq!(open(&core), [when_silent == "keep", true]);
            // And nothing is due for it any more.
            assert!(core.documents_due().is_none_or(|due| due > later(301).boot));
        }
    }

    #[test]
    fn no_grant_is_taken_while_nothing_is_heard_where_that_is_what_is_wanted() {
        let mut core = vouched();
        assert!(core.is_silent(now()).is_some_and(|why| why.contains("5m")), "it was never heard");
        let empty = |at| statement(0, Hash::ZERO, at, &key(1));
        assert_eq!(says(&mut core, None, &[], empty(now()), now()), None);
        assert_eq!(core.is_silent(later(299)), None);
        assert!(core.is_silent(later(300)).is_some());
        assert_eq!(says(&mut core, Some(0), &[], empty(later(301)), later(301)), None);
        assert_eq!(core.is_silent(later(302)), None);
        // Over a restart the time goes on.
        let feeds: Feeds =
            serde_json::from_value(serde_json::to_value(&core.documents.feeds).expect("JSON")).expect("the same");
        let boot = Duration::from_secs(10_000);
        let resumed = feeds.clone().resumed(Now { wall: later(400).wall, boot });
        assert_eq!(resumed.last_heard(), Some(boot - Duration::from_secs(99)));
        let set_back = feeds.resumed(Now { wall: now().wall, boot });
        assert_eq!(set_back.last_heard(), None, "a clock that was set back says nothing");
    }

    #[test]
    fn a_server_that_was_set_back_and_grew_by_more_than_a_page_brings_all_that_it_holds() {
        let (mut core, server) = (vouched(), key(1));
        let ids: Vec<Id> = ["a", "b"].map(Id::of).to_vec();
        let others: Vec<Id> = ["a", "x", "y", "z"].map(Id::of).to_vec();
        ids.iter().chain(&others).for_each(|id| core.documents.offered.see(*id));
        assert_eq!(says(&mut core, None, &ids, statement(2, head(&ids), now(), &server), now()), None);
        let at = |seconds| statement(4, head(&others), later(seconds), &server);
        // A page, which says nothing of the whole, and the rest, which does not fit. Twice: the first time it may have been the carrier.
        for round in 0..2 {
            assert_eq!(says(&mut core, Some(2), &others[2..3], at(round * 40 + 1), later(round * 40 + 1)), None);
            let why = says(&mut core, Some(3), &others[3..], at(round * 40 + 2), later(round * 40 + 2));
            assert!(why.is_some_and(|why| why.contains("other documents")));
        }
        assert_eq!(core.documents.feeds.positions(), Vec::<Value>::new(), "it is brought from its beginning");
        assert_eq!(gaps(&mut core), 0);
        let said = FeedSaid { feed: FEED.to_owned(), after: None, next: 4, ids: others.clone(), statement: at(63) };
        core.feeds_said(vec![said], later(63));
        assert_eq!(gaps(&mut core), 1, "since a minute it is not whole");
        assert_eq!(says(&mut core, Some(4), &[], at(64), later(64)), None);
        assert_eq!(core.documents.feeds.last_heard(), Some(later(64).boot));
    }

    #[test]
    fn a_server_that_was_set_back_brings_all_that_it_holds_and_is_heard_again_once_that_is_on_record() {
        let (mut core, server) = (vouched(), key(1));
        let ids: Vec<Id> = ["a", "b", "c"].map(Id::of).to_vec();
        let others: Vec<Id> = ["a", "x", "y", "z"].map(Id::of).to_vec();
        ids.iter().chain(&others).for_each(|id| core.documents.offered.see(*id));
        assert_eq!(says(&mut core, None, &ids, statement(3, head(&ids), now(), &server), now()), None);
        // Nobody asked before it held as many as before: what it has after that is another feed's.
        let more = |at| statement(4, head(&others), at, &server);
        let why = says(&mut core, Some(3), &others[3..], more(later(10)), later(10)).expect("a problem");
        assert!(why.contains("other documents"), "{why}");
        assert_eq!(core.documents.feeds.positions(), Vec::<Value>::new(), "it is brought from its beginning");
        let ask = |core: &mut Core, seconds| {
            let said = FeedSaid {
                feed: FEED.to_owned(),
                after: None,
                next: 4,
                ids: others.clone(),
                statement: more(later(seconds)),
            };
            core.feeds_said(vec![said], later(seconds));
        };
        ask(&mut core, 20);
        assert_eq!(core.documents.feeds.positions(), [json!({ "feed": FEED, "position": 4 })]);
        assert_eq!(core.documents.feeds.last_heard(), Some(now().boot), "nothing vouches for it yet");
        assert_eq!(gaps(&mut core), 0);
        let last = |core: &mut Core, seconds| says(core, Some(4), &[], more(later(seconds)), later(seconds));
        assert!(last(&mut core, 75).is_some());
        assert_eq!(gaps(&mut core), 1);
        assert_eq!(last(&mut core, 80), None);
        assert_eq!(core.documents.feeds.last_heard(), Some(later(80).boot));
        assert_eq!(gaps(&mut core), 0);
    }
}
