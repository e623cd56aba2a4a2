//! When the ways in are looked at, and what is attested of them.
//!
//! Looking runs sshd many times, so it is done in a job. A sweep is attested once its ways are known. What changes on the
//! host has it all looked at again at once, but no more often than every [`PAUSE`], or every [`ROOTS_PAUSE`] where only root
//! can have caused it: the last state is always attested.

use std::{collections::BTreeMap, time::Duration};

use control::WayState;
use record::Draft;
use serde_json::{Map, Value};

use super::{
    Core,
    found::Then,
    jobs::{Job, Kind},
    sweep::Swept,
};
use crate::policy::{
    time::Now,
    ways_in::{NOT_COVERED, Observed, Question, Way, has_ungated, judge, servers as told, warnings},
};

/// The least time between two attestations that changes of accounts bring about. Anybody can cause one (chfn(1)).
pub(super) const PAUSE: Duration = Duration::from_secs(30);
/// The same for changes of sshd's and PAM's configuration, which only root can cause, and which nobody may delay by others.
pub(super) const ROOTS_PAUSE: Duration = Duration::from_secs(3);
/// How long a change is left to settle: a file that is being written is seen empty first.
const SETTLE: Duration = Duration::from_secs(1);
/// How soon it is looked again after a look that failed: each is attested.
const RETRY: Duration = Duration::from_secs(5 * 60);
/// How many sweeps may wait for one look; a look takes at most half a minute.
const MAX_WAITING: usize = 64;
/// How often connections are looked for while some sshd may let people in without the gate's being asked: its log may
/// say nothing, or too late.
const WHILE_UNGATED: Duration = Duration::from_secs(1);
/// How soon it is looked again where one was so new that it was left to sshd's log.
const SOON: Duration = Duration::from_millis(300);
/// A look for connections that took long is followed by a pause so many times as long: it holds up the main thread.
const SHARE: u32 = 20;

/// What was seen of the ways in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As it was found.
    pub observed: Observed,
    /// As it was judged.
    pub ways: Vec<Way>,
}

impl From<Observed> for Seen {
    fn from(observed: Observed) -> Self {
        let ways = judge(&observed);
        Self { observed, ways }
    }
}

impl Seen {
    /// How many ways are open that nobody wants open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.ways.iter().filter(|way| way.state == WayState::Open && !way.wanted).count() as u64
    }
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub struct Ways {
    /// Sweeps that wait to be attested; while there are any, a look is under way.
    waiting: Vec<Swept>,
    /// When everything is to be looked at again because something changed, on the boot clock.
    due: Option<Duration>,
    /// When that last happened; sweeps do not count, or a change right after one would wait.
    again_at: Option<Duration>,
    /// When connections are looked for, where some sshd may let people in without the gate's being asked.
    ungated: Option<Duration>,
    /// How many ways were open at the last look; `None` once something has changed since.
    open: Option<u64>,
}

impl Ways {
    /// When something is due about them, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.into_iter().chain(self.ungated).min()
    }

    /// How many ways were open when last looked at.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        self.open
    }

    /// Whether some sshd may let people in without the gate's being asked.
    pub(super) fn are_ungated(&self) -> bool {
        self.ungated.is_some()
    }

    /// Something changed: plans a look, no sooner than this pause after the last one.
    pub(super) fn changed(&mut self, pause: Duration, now: Now) {
        self.open = None;
        let settled = now.boot + SETTLE;
        let due = self.again_at.map_or(settled, |last| (last + pause).max(settled));
        self.due = Some(self.due.map_or(due, |planned| planned.min(due)));
    }

    /// Whether the planned look is due: then it counts as done.
    fn is_due(&mut self, now: Now) -> bool {
        let is_due = self.due.take_if(|due| now.boot >= *due).is_some();
        if is_due {
            self.again_at = Some(now.boot);
        }
        is_due
    }

    /// A sweep begins: what changed until now is looked at by it.
    pub(super) fn are_swept(&mut self) {
        self.due = None;
    }
}

impl Core {
    /// Has everything looked at again, and connections that came past the gate, if that is due.
    pub(super) fn attest_if_due(&mut self, now: Now) {
        if self.ways.is_due(now) {
            self.sweep_homes(now);
        }
        if self.ways.ungated.is_some_and(|due| now.boot >= due) {
            self.ways.ungated = Some(now.boot + WHILE_UNGATED);
            self.find_logins(Then::EndUngated);
        }
    }

    /// They were looked for, which took so long: in enforce they end. Some are looked for again `soon`.
    pub(super) fn end_ungated(&mut self, took: Duration, soon: bool, now: Now) {
        self.end_unbacked_sessions(now);
        self.commit(now);
        if let Some(due) = &mut self.ways.ungated {
            let pause = if soon { SOON } else { WHILE_UNGATED };
            *due = now.boot + pause.max(took * SHARE);
        }
    }

    /// What a look depends on besides the host.
    #[must_use]
    pub fn ways_question(&self) -> Question {
        let root = "root".parse().expect("root is an account's name");
        let may_be_given = self.config.people.values().any(|person| person.accounts.contains(&root))
            || self.documents.gives(&root)
            || self.grants.open_ones().any(|grant| grant.account == root);
        Question {
            enforces: self.enforces(),
            no_exempt: self.config.accounts.no_exempt,
            root_is_wanted: self.exempt().contains(&root) || may_be_given,
            exempt: self.exempt().iter().cloned().collect(),
        }
    }

    /// A sweep of the homes is done: it is attested with the ways in, once they are known.
    pub(super) fn look_at_ways(&mut self, swept: Swept, now: Now) {
        self.ways.waiting.push(swept);
        if self.ways.waiting.len() > 1 {
            // A look is under way; one that would never end must not make this list grow for ever.
            let excess = self.ways.waiting.len().saturating_sub(MAX_WAITING);
            self.ways.waiting.drain(..excess);
            return;
        }
        self.start_job(Kind::Ways, Job::LookAtWays(self.ways_question()), now);
    }

    /// A look at the ways in failed: that is said, and nothing follows from it.
    pub(super) fn ways_look_failed(&mut self, why: &str, now: Now) {
        let what = self.job_failed(Kind::Ways, why);
        self.ways_unseen(&what, now);
    }

    /// The ways in could not be looked at: the sweeps that waited for them are attested without. Whether connections are looked
    /// for stays as it was.
    pub(super) fn ways_unseen(&mut self, why: &str, now: Now) {
        self.ways.open = None;
        self.ways.due.get_or_insert(now.boot + RETRY);
        for swept in std::mem::take(&mut self.ways.waiting) {
            self.attest(&swept, Err(why), now);
        }
    }

    /// The ways in are known: the sweeps that waited for them are attested.
    pub(super) fn ways_seen(&mut self, seen: &Seen, now: Now) {
        self.look_for_users_sshds(now);
        let due = self.ways.ungated.unwrap_or(now.boot + WHILE_UNGATED);
        self.ways.ungated = has_ungated(&seen.observed).then_some(due);
        // What was seen before a change that is still to be looked at says nothing about now.
        self.ways.open = self.ways.due.is_none().then(|| seen.open());
        for swept in std::mem::take(&mut self.ways.waiting) {
            self.attest(&swept, Ok(seen), now);
        }
    }
}

/// Adds to an attestation every way in, the servers they lead through, and what is not looked at.
pub(super) fn attested(draft: Draft, seen: &Seen) -> Draft {
    let of = |state| -> Vec<&Way> { seen.ways.iter().filter(|way| way.state == state).collect() };
    let (open, by_gate, closed) = (of(WayState::Open), of(WayState::ClosedByGate), of(WayState::Closed));
    let views = |ways: &[&Way]| -> Vec<Value> { ways.iter().map(|way| Value::Object(view(way))).collect() };
    let mut closed_at: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for way in &closed {
        closed_at.entry(way.server.as_str()).or_default().push(way.kind.into());
    }
    let closed: Vec<Value> = closed_at
        .into_iter()
        .map(|(server, kinds)| {
            let mut entry = Map::new();
            entry.insert("server".to_owned(), server.into());
            entry.insert("kinds".to_owned(), kinds.into());
            entry.into()
        })
        .collect();
    draft
        .with("ways_open", views(&open))
        .with("ways_closed_by_gate", views(&by_gate))
        .with("ways_closed", closed)
        .with("servers", servers(&seen.observed))
        .with("warnings", warnings(&seen.observed))
        .with("not_covered", NOT_COVERED.map(Value::from).to_vec())
}

fn view(way: &Way) -> Map<String, Value> {
    let mut view = Map::new();
    let mut put = |key: &str, value: Value| view.insert(key.to_owned(), value);
    put("kind", way.kind.into());
    put("server", way.server.as_str().into());
    put("whom", way.whom.as_str().into());
    put("why", way.why.as_str().into());
    if way.wanted {
        put("wanted", true.into());
    }
    if let Some(closes) = &way.closes {
        put("closes", closes.as_str().into());
    }
    view
}

fn servers(observed: &Observed) -> Vec<Value> {
    let entry = |(name, listens): (&str, &[String])| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), name.into());
        entry.insert("listens".to_owned(), listens.to_vec().into());
        Value::Object(entry)
    };
    told(observed).into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn a_change_is_looked_at_at_once_and_the_next_ones_after_a_pause() {
        let mut ways = Ways::default();
        assert!(!ways.is_due(now()));
        ways.changed(PAUSE, now());
        assert_eq!(ways.due(), Some(now().boot + SETTLE));
        assert!(!ways.is_due(now()) && ways.is_due(later(1)) && !ways.is_due(later(1)), "once");
        for second in 2..31 {
            ways.changed(PAUSE, later(second));
            assert!(!ways.is_due(later(second)), "{second}");
        }
        assert!(ways.is_due(later(31)), "what changed meanwhile is looked at in the end");
        assert!(!ways.is_due(later(90)));
    }

    #[test]
    fn what_anybody_can_change_does_not_delay_the_look_at_what_root_did() {
        let mut ways = Ways::default();
        ways.changed(PAUSE, now());
        assert!(ways.is_due(later(1)));
        ways.changed(PAUSE, later(2));
        ways.changed(ROOTS_PAUSE, later(10));
        assert_eq!(ways.due(), Some(later(10).boot + SETTLE));
        // The other way round, too: it stays as soon as it was.
        ways.changed(PAUSE, later(10));
        assert!(ways.is_due(later(11)));
        ways.changed(ROOTS_PAUSE, later(11));
        assert_eq!(ways.due(), Some(later(11).boot + ROOTS_PAUSE), "root's own flood is bounded as well");
    }

    #[test]
    fn a_sweep_takes_the_place_of_a_look_that_is_due_and_delays_none() {
        let mut ways = Ways::default();
        ways.changed(PAUSE, now());
        ways.are_swept();
        ways.changed(PAUSE, later(2));
        assert_eq!(ways.due(), Some(later(2).boot + SETTLE));
    }
}
