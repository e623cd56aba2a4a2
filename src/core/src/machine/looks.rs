//! When the host is looked at, and what follows from what was seen.
//!
//! A look reads files, looks through `/proc` and runs programs, and anybody can be the cause of it (chfn(1)). So it is done
//! in a job: one at a time, and one more for all that is touched meanwhile. What it did not see whole changes nothing, is
//! told, and is looked at again soon.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use control::{Allow, Mode};
use jiff::Timestamp;
use record::{Account, ArtifactType, Draft};

use super::{
    Asker, Core, Effect, Severity, Token,
    jobs::{Job, Kind},
    ways,
};
use crate::{
    config::Config,
    keys::store::ExpiryStyle,
    policy::{
        grant::Grant,
        observation::{Known, repeat_after},
        time::Now,
    },
    sessions::Sessions,
    writers::Change,
};

/// A look is followed by a pause so many times as long as it took.
const SHARE: u32 = 2;
/// How many operators may wait for a look; one more is answered from the last look.
const MAX_WAITING: usize = 64;
/// How long an operator waits for a look before the last one has to do; then less time is left for the disk.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long something has to be seen in part only before status tells it as a problem.
const LASTS: Duration = Duration::from_secs(10);
/// How long until it is told as one at crit.
const LASTS_LONG: Duration = Duration::from_secs(60);

/// What is done once a look is over, besides acting on what it has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Then {
    /// Brings the mode in line with what was seen.
    pub(super) settle: bool,
    /// Goes on with a sweep.
    pub(super) sweep: bool,
}

impl Then {
    fn and(self, other: Self) -> Self {
        Self { settle: self.settle || other.settle, sweep: self.sweep || other.sweep }
    }
}

/// What is known of the host around it.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Which accounts there are, and whether that is certain.
    pub known: Arc<Known>,
    /// How an end is written so that this host's sshd reads it right; in UTC where nothing else is known.
    pub style: Option<ExpiryStyle>,
    /// Whether sshd takes the name of an account for a pattern of key files.
    pub globs: bool,
    /// Sources of accounts of which only named accounts are known.
    pub not_enumerated: Vec<String>,
    /// What could not be seen whole, a sentence each.
    pub not_seen_whole: Vec<String>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// The host as it counts from now on: what was not seen whole is as it was before.
    pub around: Around,
    /// Which parts have changed, by their words in a record.
    pub changed: Vec<&'static str>,
    /// Who changed them, as far as that is known.
    pub changes: Vec<Change>,
    /// Accounts that have another name now, each with that.
    pub renamed: Vec<(Account, Account)>,
    /// Whether other directories are watched from now on: what changed in them before is seen by one more look.
    pub watches_others: bool,
    /// In how long to look again in any case, on the boot clock.
    pub again: Option<Duration>,
}

/// Who listens for connections now, and did not when that was last looked at. A new sshd writes no file that is watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// There is a socket that was not there.
    pub new_socket: bool,
    /// Root has started another sshd, or the last one is gone.
    pub new_sshd: bool,
    /// sshd's program is another one.
    pub new_program: bool,
}

/// An operator's question that waits for a look.
#[derive(Debug)]
struct Waiting {
    allow: Box<Allow>,
    asker: Asker,
    token: Token,
    /// Since when, on the boot clock.
    since: Duration,
}

/// Looks that are under way or due.
#[derive(Debug, Default)]
pub(super) struct Looks {
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
}

impl Looks {
    fn want(&mut self, then: Then) {
        self.wanted = Some(self.wanted.unwrap_or_default().and(then));
    }

    /// When something is due about them, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.since + PATIENCE).chain(self.next()).min()
    }

    /// When the next look begins, on the boot clock; while one is under way, that is not known.
    fn next(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        let wanted = self.wanted.map(|_| Duration::ZERO);
        wanted.into_iter().chain(self.due).min().map(|due| due.max(self.earliest))
    }

    /// Whether a look is to begin now: then it is for all that wanted one.
    fn begins(&mut self, now: Now) -> bool {
        let begins = self.next().is_some_and(|due| now.boot >= due);
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

impl Core {
    /// A place outside of homes was touched, or `anything` may have been: what really changed is looked at, recorded and
    /// acted on.
    pub(super) fn touched(&mut self, anything: bool, now: Now) {
        let settle = anything || self.enforces() || self.config.mode == Mode::Enforce;
        self.look_for(Then { settle, sweep: false }, now);
    }

    pub(super) fn look_for(&mut self, then: Then, now: Now) {
        self.looks.want(then);
        self.look_if_due(now);
    }

    /// For a new socket users' own servers are looked for, and where root has started another sshd, every way in: it may have
    /// another configuration. A new program of sshd's may be another version.
    pub(super) fn heard_who_listens(&mut self, heard: Heard, now: Now) {
        if heard.new_socket {
            self.look_for_users_sshds(now);
        }
        if heard.new_sshd {
            self.ways.changed(ways::ROOTS_PAUSE, now);
        }
        if heard.new_sshd || heard.new_program {
            self.look_for(Then::default(), now);
        }
    }

    /// Begins a look, if one is due.
    pub(super) fn look_if_due(&mut self, now: Now) {
        if self.looks.begins(now) {
            let mut named = named_accounts(&self.config, self.grants.open_ones(), &self.sessions);
            named.extend(self.documents.named().cloned());
            self.start_job(Kind::World, Job::Look(named), now);
        }
    }

    /// A look is over: what changed is recorded and acted on.
    pub(super) fn looked(&mut self, looked: Looked, now: Now) {
        let Looked { around, changed, changes, renamed, watches_others, again } = looked;
        let mut then = self.looks.ended(around.not_seen_whole.is_empty(), again, now);
        self.looks.lost = None;
        // Judged now: the mode that is wanted may be another since the look began.
        then.settle |= !changed.is_empty() && (self.enforces() || self.config.mode == Mode::Enforce);
        let before = mem::replace(&mut self.around, around);
        let partial = self.around.not_seen_whole.iter().filter(|what| !before.not_seen_whole.contains(what));
        let partial: Vec<String> = partial.map(|what| told_partial(what)).collect();
        partial.into_iter().for_each(|what| self.say(Severity::Warning, what));
        if watches_others {
            self.looks.want(Then::default());
        }
        // Where nothing was known before, nothing is new.
        let known = &before.known.uids;
        let is_new = |account: &&Account| !known.is_empty() && !known.contains_key(*account);
        self.spare_new(self.around.known.uids.keys().filter(is_new).cloned().collect(), now);
        self.keep_renamed(renamed, now);
        if !changed.is_empty() {
            self.note_changed(&changed, &changes, now);
        }
        self.see_to_room();
        self.back_grants(now);
        self.pass(now);
        self.after_look(then, now);
    }

    /// A look never came back: everything stays as it was, and it is looked again.
    pub(super) fn look_lost(&mut self, why: &str, now: Now) {
        let then = self.looks.ended(false, None, now);
        self.looks.lost = Some(why.to_owned());
        self.after_look(then, now);
    }

    fn after_look(&mut self, then: Then, now: Now) {
        if then.settle {
            self.settle_mode(now);
        }
        self.pass(now);
        let waiting = mem::take(&mut self.looks.waiting);
        self.allow_all(waiting, now);
        if then.sweep {
            self.sweep_on(now);
        }
    }

    fn note_changed(&mut self, changed: &[&'static str], changes: &[Change], now: Now) {
        let words: Vec<&str> = changed.iter().map(|part| named(part)).collect();
        let sentence = format!("changed on this host: {}", words.join(", "));
        let only_accounts = changed == ["accounts"];
        let draft = Draft::new(ArtifactType::SshdChanged, sentence);
        let draft = self.by_changes(draft, changes).with("changed", changed.to_vec());
        if only_accounts {
            // Anybody can change their own entry as often as they like (chfn(1), chsh(1)).
            self.recorder.note_often(draft, 1, now);
        } else {
            self.recorder.note(draft);
        }
        self.push(Effect::TellHomes);
        self.ways.changed(if only_accounts { ways::PAUSE } else { ways::ROOTS_PAUSE }, now);
    }

    /// Answers `allow`, after a look where it may name an account that was made just now.
    pub(super) fn allow_after_look(&mut self, allow: Box<Allow>, asker: Asker, token: Token, now: Now) {
        self.see_to_room();
        let theirs = self.config.people.get(&allow.person).map(|entry| &entry.accounts);
        let unknown = theirs.into_iter().flatten().any(|account| self.uid_of(account).is_none());
        if !unknown || self.looks.waiting.len() >= MAX_WAITING {
            return self.allow(*allow, &asker, token, now.boot, now);
        }
        self.looks.waiting.push(Waiting { allow, asker, token, since: now.boot });
        self.look_for(Then::default(), now);
    }

    /// Answers those who have waited long enough by what was seen last.
    pub(super) fn answer_who_waited_for_look(&mut self, now: Now) {
        let over: Vec<Waiting> =
            self.looks.waiting.extract_if(.., |waiting| now.boot >= waiting.since + PATIENCE).collect();
        self.allow_all(over, now);
    }

    fn allow_all(&mut self, waiting: Vec<Waiting>, now: Now) {
        for Waiting { allow, asker, token, since } in waiting {
            self.allow(*allow, &asker, token, since, now);
        }
    }

    /// What could not be seen whole at the last look, a sentence each.
    pub fn not_seen_whole(&self) -> impl Iterator<Item = &str> {
        self.around.not_seen_whole.iter().chain(&self.looks.lost).map(String::as_str)
    }

    /// Since when something has not been seen whole, once that has lasted; and whether it has for long.
    #[must_use]
    pub fn not_whole_since(&self, now: Now) -> Option<(Timestamp, bool)> {
        self.looks.not_whole_since(now)
    }
}

fn told_partial(what: &str) -> String {
    format!("not seen whole, and left as it was: {what}; it is looked at again")
}

/// The accounts that something of ours names: the name service is asked for those which passwd does not list.
#[must_use]
pub fn named_accounts<'a>(
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
    use super::*;
    use crate::policy::test_grants::{later, now};

    #[test]
    fn what_is_touched_while_a_look_is_under_way_has_one_more_follow_it() {
        let mut looks = Looks::default();
        assert!(looks.next().is_none() && !looks.begins(now()));
        looks.want(Then::default());
        assert!(looks.begins(now()) && !looks.begins(now()), "one at a time");
        for _ in 0..1_000 {
            looks.want(Then { settle: true, sweep: false });
            looks.want(Then { settle: false, sweep: true });
            assert!(looks.next().is_none() && !looks.begins(later(1)));
        }
        looks.ended(true, None, later(1));
        assert!(!looks.begins(later(1)), "a look of a second is followed by a pause of two");
        assert!(looks.begins(later(3)));
        let then = looks.ended(true, None, later(3));
        assert!(then.settle && then.sweep && looks.next().is_none());
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
            let wait = looks.next().expect("a repeat") - at.boot;
            assert!(wait >= last && wait <= Duration::from_secs(30), "{wait:?}");
            last = wait;
        }
        assert!(looks.partial_since == Some(now().boot) && looks.begins(later(2_000)));
        let since = |second| looks.not_whole_since(later(second));
        assert_eq!((since(9), since(10)), (None, Some((now().wall, false))));
        assert_eq!(since(60), Some((now().wall, true)), "at crit");
        looks.ended(true, None, later(2_000));
        assert!(looks.next().is_none() && looks.partial_since.is_none());
    }
}
