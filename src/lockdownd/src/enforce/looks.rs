//! When the host is looked at, and what follows from what was seen.
//!
//! A look reads files, looks through `/proc` and runs programs, and anybody can be the cause of it (chfn(1)). So it is done
//! beside the main thread: one at a time, and one more for all that is touched meanwhile. What it did not see whole
//! changes nothing, is told, and is looked at again soon.

use std::{collections::BTreeSet, mem, path::PathBuf, sync::Arc, time::Duration};

use control::Allow;
use jiff::Timestamp;
use lockdown_core::machine::Token;
use lockdown_core::{
    config::Config,
    machine::{Around, Event},
    policy::{grant::Grant, observation::repeat_after, time::Now},
    sessions::Sessions,
};
use record::{Account, ArtifactType, Draft};

use super::{
    Engine,
    homes::{Command, Hanging, Homes, Plot},
    jobs::Kind,
    world::{Looked, World},
};
use crate::{
    operator::Asker,
    trigger::{Place, Reason},
};

/// A look is followed by a pause so many times as long as it took.
const SHARE: u32 = 2;
/// How many operators may wait for a look; one more is answered from the last look.
const MAX_WAITING: usize = 64;
/// How long something has to be seen in part only before status tells it as a problem.
const LASTS: Duration = Duration::from_secs(10);
/// How long until it is told as one at crit.
const LASTS_LONG: Duration = Duration::from_secs(60);

/// What is done once a look is over, besides acting on what it has changed.
#[derive(Debug, Clone, Copy, Default)]
struct Then {
    /// Brings the mode in line with what was seen.
    settle: bool,
    /// Goes on with a sweep.
    sweep: bool,
}

impl Then {
    fn and(self, other: Self) -> Self {
        Self { settle: self.settle || other.settle, sweep: self.sweep || other.sweep }
    }
}

/// An operator's question that waits for a look.
#[derive(Debug)]
struct Waiting {
    allow: Allow,
    asker: Asker,
    token: Token,
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    under_way: Option<Then>,
    wanted: Option<Then>,
    /// When it is to be looked again by itself, on the boot clock.
    due: Option<Duration>,
    /// Not before then is another look begun.
    earliest: Duration,
    began: Duration,
    /// How many looks in a row did not see everything whole.
    partial: u32,
    /// Since when, on the boot clock.
    partial_since: Option<Duration>,
    /// Why the last look never came back.
    lost: Option<String>,
    waiting: Vec<Waiting>,
    /// Whether other directories may have to be watched than before.
    moved: bool,
}

impl Looks {
    fn want(&mut self, then: Then) {
        self.wanted = Some(self.wanted.unwrap_or_default().and(then));
    }

    /// When the next look is due, on the boot clock; while one is under way, none.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        let wanted = self.wanted.map(|_| Duration::ZERO);
        wanted.into_iter().chain(self.due).min().map(|due| due.max(self.earliest))
    }

    /// Whether a look is to begin now: then it is for all that wanted one.
    fn begins(&mut self, now: Now) -> bool {
        let begins = self.due().is_some_and(|due| now.boot >= due);
        if begins {
            self.under_way = Some(self.wanted.take().unwrap_or_default());
            (self.due, self.began) = (None, now.boot);
        }
        begins
    }

    fn not_whole_since(&self, now: Now) -> Option<(Timestamp, bool)> {
        let lasts = now.boot.saturating_sub(self.partial_since?);
        let since = now.wall.checked_sub(lasts).unwrap_or(Timestamp::MIN);
        (lasts >= LASTS).then_some((since, lasts >= LASTS_LONG))
    }

    /// A look is over: whether all was seen whole, and when to look again in any case. Answers with what it was for.
    fn ended(&mut self, whole: bool, again: Option<Duration>, now: Now) -> Then {
        let took = now.boot.saturating_sub(self.began);
        self.earliest = now.boot + took * SHARE;
        self.partial = if whole { 0 } else { self.partial.saturating_add(1) };
        self.partial_since = if whole { None } else { self.partial_since.or(Some(now.boot)) };
        let repeat = (!whole).then(|| now.boot + repeat_after(self.partial));
        self.due = again.into_iter().chain(repeat).min();
        self.under_way.take().unwrap_or_default()
    }
}

impl Engine {
    /// A place outside homes was touched: what really changed is looked at, recorded and acted on.
    pub(super) fn world_touched(&mut self, place: Place, now: Now) {
        let settle =
            place == Place::Anywhere || self.core.enforces() || self.core.config.mode == control::Mode::Enforce;
        self.look_for(Then { settle, sweep: false }, now);
    }

    /// Looks at the host as if nothing had been watched; the sweep goes on when that is done.
    pub(super) fn look_and_sweep(&mut self, now: Now) {
        self.core.checks.want();
        self.look_for(Then { settle: true, sweep: true }, now);
    }

    /// Looks at the host: something that no watch tells may have changed.
    pub(super) fn look_at_world(&mut self, now: Now) {
        self.look_for(Then::default(), now);
    }

    fn look_for(&mut self, then: Then, now: Now) {
        self.looks.want(then);
        self.look_if_due(now);
    }

    /// Begins a look, if one is due.
    pub(super) fn look_if_due(&mut self, now: Now) {
        if !self.looks.begins(now) {
            return;
        }
        let (before, named) = (
            Arc::clone(&self.world),
            named_accounts(&self.core.config, self.core.grants.open_ones(), &self.core.sessions),
        );
        self.begin_job(Kind::World, None, now, move || Reason::Looked(Box::new(before.look(&named))).into());
    }

    /// A look is over: what changed is recorded and acted on.
    pub(super) fn looked(&mut self, looked: Looked, now: Now) {
        let Looked { world, changed, again } = looked;
        let mut then = self.looks.ended(world.partial().is_empty(), again, now);
        self.looks.lost = None;
        // Judged now: the mode that is wanted may be another since the look began.
        let enforce = self.core.enforces() || self.core.config.mode == control::Mode::Enforce;
        then.settle |= enforce && !changed.is_empty();
        for what in world.partial().iter().filter(|what| !self.world.partial().contains(what)) {
            tracing::warn!("not seen whole, and left as it was: {what}; it is looked at again");
        }
        if world.directories() != self.world.directories() {
            // What changed before they are watched is seen by one more look.
            self.looks.moved = true;
            self.looks.want(Then::default());
        }
        // Where nothing was known before, nothing is new.
        let before = Arc::clone(&self.world);
        let is_new =
            |account: &&Account| !before.known().uids.is_empty() && !before.known().uids.contains_key(*account);
        self.spare_new(world.known().uids.keys().filter(is_new).cloned().collect(), now);
        self.world = Arc::new(world);
        self.keep_renamed(&before, now);
        if !changed.is_empty() {
            self.note_changed(&changed, now);
        }
        self.see_to_room(now);
        self.step(Event::Seen(self.around()), now);
        self.after_look(then, now);
    }

    /// A look never came back: everything stays as it was, and it is looked again.
    pub(super) fn look_lost(&mut self, why: &str, now: Now) {
        let then = self.looks.ended(false, None, now);
        self.looks.lost = Some(why.to_owned());
        self.core.around.not_seen_whole = self.not_seen_whole().map(str::to_owned).collect();
        self.after_look(then, now);
    }

    fn after_look(&mut self, then: Then, now: Now) {
        if then.settle {
            self.core.settle_mode(now);
        }
        self.step(Event::Pass, now);
        for Waiting { allow, asker, token } in mem::take(&mut self.looks.waiting) {
            self.allow(allow, asker, token, now);
        }
        if then.sweep {
            self.sweep_on(now);
        }
    }

    fn note_changed(&mut self, changed: &[&'static str], now: Now) {
        let words: Vec<&str> = changed.iter().map(|part| named(part)).collect();
        let sentence = format!("changed on this host: {}", words.join(", "));
        let only_accounts = changed == ["accounts"];
        let draft = Draft::new(ArtifactType::SshdChanged, sentence);
        let draft = self.by_changers(draft, changed).with("changed", changed.to_vec());
        if only_accounts {
            // Anybody can change their own entry as often as they like (chfn(1), chsh(1)).
            self.core.recorder.note_often(draft, 1, now);
        } else {
            self.core.recorder.note(draft);
        }
        self.tell_homes();
        self.attest_soon(only_accounts, now);
    }

    /// Answers `allow` after a look where it may name an account that was made just now; else gives it back.
    pub(crate) fn allow_after_look(
        &mut self,
        allow: Allow,
        asker: Asker,
        token: Token,
        now: Now,
    ) -> Option<(Allow, Asker, Token)> {
        let theirs = self.core.config.people.get(&allow.person).map(|entry| &entry.accounts);
        let unknown = theirs.into_iter().flatten().any(|account| self.core.uid_of(account).is_none());
        if !unknown || self.looks.waiting.len() >= MAX_WAITING {
            return Some((allow, asker, token));
        }
        self.looks.waiting.push(Waiting { allow, asker, token });
        self.look_at_world(now);
        None
    }

    /// What could not be seen whole at the last look, a sentence each.
    pub(crate) fn not_seen_whole(&self) -> impl Iterator<Item = &str> {
        self.world.partial().iter().chain(&self.looks.lost).map(String::as_str)
    }

    /// What the core knows of the host.
    fn around(&self) -> Around {
        self.world.around(self.looks.lost.as_deref())
    }

    /// Since when something has not been seen whole, once that has lasted; and whether it has for long.
    pub(crate) fn not_whole_since(&self, now: Now) -> Option<(Timestamp, bool)> {
        self.looks.not_whole_since(now)
    }

    /// Tells the homes thread which key files there are and whether to act on them.
    pub(crate) fn tell_homes(&self) {
        if let Some(homes) = &self.homes {
            homes.send(Command::Territory(self.plot()));
        }
    }

    /// The homes that do not answer.
    pub(crate) fn hanging_homes(&self) -> Vec<Hanging> {
        self.homes.as_ref().map_or_else(Vec::new, Homes::hanging)
    }

    /// What is to be kept free of keys, worked out where it is needed: with many accounts that takes a while.
    pub(crate) fn plot(&self) -> Plot {
        let mode = if self.core.mode.removes_keys() { control::Mode::Enforce } else { control::Mode::Observe };
        let spared: BTreeSet<Account> = self.core.exempt().iter().chain(self.retired.spared()).cloned().collect();
        let world: Arc<World> = Arc::clone(&self.world);
        Plot::new(move || world.territory(&spared, mode))
    }

    /// The directories to watch besides the fixed ones: wherever sshd's configuration was read from.
    #[must_use]
    pub fn watched_directories(&self) -> Vec<PathBuf> {
        self.world.directories().into_iter().cloned().collect()
    }

    /// Whether these may be others than when it was last asked.
    pub fn directories_moved(&mut self) -> bool {
        mem::take(&mut self.looks.moved)
    }
}

/// The accounts that something of ours names: the name service is asked for those which passwd does not list.
pub(super) fn named_accounts<'a>(
    config: &Config,
    open: impl Iterator<Item = &'a Grant>,
    sessions: &Sessions,
) -> BTreeSet<Account> {
    let people = config.people.values().flat_map(|entry| &entry.accounts);
    let granted = open.map(|grant| &grant.account);
    let live = sessions.live().iter().map(|session| &session.account);
    people.chain(&config.accounts.exempt).chain(granted).chain(live).cloned().collect()
}

/// What a word of what has changed stands for.
fn named(part: &str) -> &str {
    match part {
        "accounts" => "the accounts in passwd",
        "sshd" => "sshd's configuration",
        "pam" => "PAM's configuration",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use lockdown_core::policy::test_grants::{later, now};

    use super::*;

    #[test]
    fn what_is_touched_while_a_look_is_under_way_has_one_more_follow_it() {
        let mut looks = Looks::default();
        assert!(looks.due().is_none() && !looks.begins(now()));
        looks.want(Then::default());
        assert!(looks.begins(now()) && !looks.begins(now()), "one at a time");
        for _ in 0..1_000 {
            looks.want(Then { settle: true, sweep: false });
            looks.want(Then { settle: false, sweep: true });
            assert!(looks.due().is_none() && !looks.begins(later(1)));
        }
        looks.ended(true, None, later(1));
        assert!(!looks.begins(later(1)), "a look of a second is followed by a pause of two");
        assert!(looks.begins(later(3)));
        let then = looks.ended(true, None, later(3));
        assert!(then.settle && then.sweep && looks.due().is_none());
    }

    #[test]
    fn a_partial_look_is_repeated_later_and_later_until_one_is_whole() {
        let mut looks = Looks::default();
        let mut last = Duration::ZERO;
        looks.want(Then::default());
        for second in 0..20 {
            let at = later(second * 60);
            assert!(looks.begins(at));
            looks.ended(false, None, at);
            let wait = looks.due().expect("a repeat") - at.boot;
            assert!(wait >= last && wait <= Duration::from_secs(30), "{wait:?}");
            last = wait;
        }
        assert!(looks.partial_since == Some(now().boot) && looks.begins(later(2_000)));
        let since = |second| looks.not_whole_since(later(second));
        assert_eq!((since(9), since(10)), (None, Some((now().wall, false))));
        assert_eq!(since(60), Some((now().wall, true)), "at crit");
        looks.ended(true, None, later(2_000));
        assert!(looks.due().is_none() && looks.partial_since.is_none());
    }
}
