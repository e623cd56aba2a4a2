//! When the ways in are looked at, and what is attested of them.
//!
//! Looking runs sshd many times, so it is done on a thread beside the main one; what it found comes back as a reason to
//! act. A sweep is attested once its ways are known. What changes on the host has it all looked at again at once, but no
//! more often than every [`PAUSE`], or every [`ROOTS_PAUSE`] where only root can have caused it: the last state is always
//! attested.

use std::{collections::BTreeMap, time::Duration};

use control::WayState;
use lockdown_core::policy::time::Now;
use lockdown_core::policy::ways_in::{NOT_COVERED, Observed, Way, has_ungated, judge, servers as told, warnings};
use lockdown_host::ways_in::{self, As, Question};
use record::Draft;
use serde_json::{Map, Value};

use super::{Engine, homes::SweepReport, jobs::Kind};
use crate::trigger::Reason;

/// The least time between two attestations that changes of accounts bring about. Anybody can cause one (chfn(1)).
pub(super) const PAUSE: Duration = Duration::from_secs(30);
/// The same for changes of sshd's and PAM's configuration, which only root can cause, and which nobody may delay by others.
pub(super) const ROOTS_PAUSE: Duration = Duration::from_secs(3);
/// How long a change is left to settle: a file that is being written is seen empty first.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
/// How many sweeps may wait for one look; a look takes at most half a minute.
const MAX_WAITING: usize = 64;

/// What was seen of the ways in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As it was found.
    pub observed: Observed,
    /// As it was judged.
    pub ways: Vec<Way>,
}

impl Seen {
    /// Looks at everything: runs sshd, reads `/proc`. Never on the main thread.
    #[must_use]
    pub fn look(question: &Question) -> Self {
        let observed = ways_in::observe(question, As::InForce);
        let ways = judge(&observed);
        Self { observed, ways }
    }

    /// How many ways are open that nobody wants open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.ways.iter().filter(|way| way.state == WayState::Open && !way.wanted).count() as u64
    }
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub(crate) struct WaysState {
    /// Sweeps that wait to be attested; while there are any, a look is under way.
    waiting: Vec<SweepReport>,
    /// When everything is to be looked at again because something changed, on the boot clock.
    due: Option<Duration>,
    /// When that last happened; sweeps do not count, or a change right after one would wait.
    again_at: Option<Duration>,
    /// When connections are looked for, where some sshd may let people in without the gate's being asked.
    pub(super) ungated: Option<Duration>,
    /// How many ways were open at the last look; `None` once something has changed since.
    open: Option<u64>,
}

impl WaysState {
    /// When the next look is due, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// How many ways were open when last looked at.
    pub(crate) fn open(&self) -> Option<u64> {
        self.open
    }

    /// Something changed: plans a look, no sooner than this pause after the last one.
    fn changed(&mut self, pause: Duration, now: Now) {
        self.open = None;
        let settled = now.boot + SETTLE;
        let due = self.again_at.map_or(settled, |last| (last + pause).max(settled));
        self.due = Some(self.due.map_or(due, |planned| planned.min(due)));
    }

    /// Whether the planned look is due: then it counts as done.
    fn is_due(&mut self, now: Now) -> bool {
        let is_due = self.due.is_some_and(|due| now.boot >= due);
        if is_due {
            self.due = None;
            self.again_at = Some(now.boot);
        }
        is_due
    }
}

impl Engine {
    /// Something on the host changed: everything is looked at again and attested, soon.
    pub(super) fn attest_soon(&mut self, only_accounts: bool, now: Now) {
        self.ways.changed(if only_accounts { PAUSE } else { ROOTS_PAUSE }, now);
    }

    /// A sweep begins: what changed until now is looked at by it.
    pub(super) fn attests_now(&mut self) {
        self.ways.due = None;
    }

    /// Has everything looked at again, if that is due.
    pub(super) fn attest_if_due(&mut self, now: Now) {
        if self.ways.is_due(now) {
            self.sweep_homes(now);
        }
    }

    /// What the look depends on besides the host.
    pub(crate) fn ways_question(&self) -> Question {
        let root = "root".parse().expect("root is an account's name");
        let is_wanted =
            self.core.exempt().contains(&root) || self.core.config.people.values().any(|p| p.accounts.contains(&root));
        Question {
            enforces: self.core.enforces(),
            no_exempt: self.core.config.accounts.no_exempt,
            root_is_wanted: is_wanted,
            exempt: self.core.exempt().iter().cloned().collect(),
            missing_in_log: self.log_is_not_whole(),
        }
    }

    /// A sweep of the homes is done: it is attested with the ways in, once they are known.
    pub(super) fn look_at_ways(&mut self, report: SweepReport, now: Now) {
        self.ways.waiting.push(report);
        if self.ways.waiting.len() > 1 {
            // A look is under way; one that would never end must not make this list grow for ever.
            let excess = self.ways.waiting.len().saturating_sub(MAX_WAITING);
            self.ways.waiting.drain(..excess);
            return;
        }
        let question = self.ways_question();
        self.begin_job(Kind::Ways, None, now, move || Reason::WaysSeen(Box::new(Seen::look(&question))).into());
    }

    /// The ways in could not be looked at: the sweeps that waited for them are attested without.
    pub(super) fn ways_unseen(&mut self, why: &str, now: Now) {
        self.ways.open = None;
        for report in std::mem::take(&mut self.ways.waiting) {
            self.attest(&report, Err(why), now);
        }
    }

    /// The ways in are known: the sweeps that waited for them are attested.
    pub(super) fn ways_seen(&mut self, seen: &Seen, now: Now) {
        // What was seen before a change that is still to be looked at says nothing about now.
        self.look_for_users_sshds(now);
        self.look_past_the_gate(has_ungated(&seen.observed), now);
        self.ways.open = self.ways.due.is_none().then(|| seen.open());
        for report in std::mem::take(&mut self.ways.waiting) {
            self.attest(&report, Ok(seen), now);
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
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

    #[test]
    fn a_change_is_looked_at_at_once_and_the_next_ones_after_a_pause() {
        let mut ways = WaysState::default();
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
        let mut ways = WaysState::default();
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
        let mut ways = WaysState::default();
        ways.changed(PAUSE, now());
        ways.due = None;
        ways.changed(PAUSE, later(2));
        assert_eq!(ways.due(), Some(later(2).boot + SETTLE));
    }
}
