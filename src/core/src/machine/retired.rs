//! Accounts that are not exempt, and whose key files are left alone all the same: nobody gets in by them.
//!
//! What was exempt until lately keeps them for a day: a name that was mistyped must not cost the only break-glass key. A new
//! account keeps them for a moment, and one that a refused configuration names for as long as it stays refused: so that an
//! account can be made, get its key, and become exempt in one go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::{Answer, Refusal, RefusalCode, RetiredAnswer};
use jiff::{SignedDuration, Timestamp};
use record::{Account, ArtifactType, Draft};

use super::{Asker, Core, Effect, Severity, Token, Waiting, ways::ROOTS_PAUSE};
use crate::policy::time::Now;

/// For how long the keys of an account that was exempt are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// For how long the keys of a new account are: it may be about to become exempt.
const NEW: Duration = Duration::from_secs(5);

/// These accounts.
#[derive(Debug, Default)]
pub struct Retired {
    /// Those that were exempt, each with when its keys go.
    until: BTreeMap<Account, Timestamp>,
    /// Those that have just been made, each with when its keys go, on the boot clock.
    new: BTreeMap<Account, Duration>,
    /// Those that a refused configuration names.
    named: BTreeSet<Account>,
}

impl Retired {
    /// Takes up those that the last run left.
    pub fn take_up(&mut self, left: BTreeMap<Account, Timestamp>) {
        for (account, until) in left {
            self.until.entry(account).or_insert(until);
        }
    }

    /// All whose key files are left alone.
    pub fn spared(&self) -> impl Iterator<Item = &Account> {
        self.until.keys().chain(self.new.keys()).chain(&self.named)
    }

    /// Whether nothing removes this account's key files.
    #[must_use]
    pub fn spares(&self, account: &Account) -> bool {
        self.spared().any(|spared| spared == account)
    }

    /// When the next new account is one like any other, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.new.values().min().copied()
    }

    /// Each account that was exempt, and until when its keys are kept.
    pub fn kept(&self) -> impl Iterator<Item = (&Account, Timestamp)> {
        self.until.iter().map(|(account, until)| (account, *until))
    }

    /// Those that are exempt again or whose time is over are dropped; whether there were any.
    fn drop_over(&mut self, exempt: &BTreeSet<Account>, now: Timestamp) -> bool {
        let before = self.until.len();
        self.until.retain(|account, until| *until > now && !exempt.contains(account));
        self.until.len() != before
    }
}

impl Core {
    /// Has them kept for the next start.
    fn keep_retired(&mut self) {
        let bytes = serde_json::to_vec(&self.retired.until).expect("a map of strings to moments");
        self.push(Effect::KeepRetired(bytes));
    }

    /// Another configuration is in force: what stopped being exempt by it keeps its keys for a while.
    pub fn retire(&mut self, before: &BTreeSet<Account>, now: Now) {
        self.spare_nobody_given();
        let until = now.wall.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let exempt = self.exempt().clone();
        let gone: Vec<Account> =
            before.difference(&exempt).filter(|account| self.uid_of(account).is_some()).cloned().collect();
        let mut changed = self.retired.drop_over(&exempt, now.wall);
        for account in gone {
            let what =
                format!("{account} is not exempt any more; its keys let nobody in, and are kept until {until:.0}");
            self.say(Severity::Warning, what);
            changed |= self.retired.until.insert(account, until).is_none();
        }
        self.retired.named.clear();
        if changed || !self.retired.until.is_empty() {
            self.keep_retired();
        }
    }

    /// Accounts that are exempt, or were until lately, and have another name now (`usermod -l`): what stands under it is kept
    /// for a while. `renamed` are all accounts that have one, old and new.
    pub(super) fn keep_renamed(&mut self, renamed: Vec<(Account, Account)>, now: Now) {
        let until = now.wall.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        for (old, new) in renamed {
            let was_exempt = self.exempt().contains(&old) || self.retired.until.contains_key(&old);
            if !was_exempt || self.exempt().contains(&new) {
                continue;
            }
            let sentence =
                format!("the account {old}, which is exempt or was lately, is now named {new}, which is not");
            self.say(Severity::Err, format!("{sentence}: its keys let nobody in, and are kept until {until:.0}"));
            let mut draft = Draft::new(ArtifactType::SshdChanged, sentence)
                .with("renamed_from", old.as_str())
                .with("keys_kept_until", until.to_string());
            draft.account = Some(new.clone());
            self.recorder.note(draft);
            self.retired.until.insert(new, until);
            self.keep_retired();
        }
    }

    /// A configuration was refused because none of these could log in: once they can, it will not be.
    pub(super) fn spare_named(&mut self, exempt: BTreeSet<Account>) {
        self.retired.named = exempt;
        self.push(Effect::TellHomes);
    }

    /// These accounts have just been made.
    pub(super) fn spare_new(&mut self, made: Vec<Account>, now: Now) {
        self.retired.new.extend(made.into_iter().map(|account| (account, now.boot + NEW)));
        self.spare_nobody_given();
    }

    /// A new account that a person may be given, or that is exempt already, is not about to become exempt.
    fn spare_nobody_given(&mut self) {
        let (people, exempt) = (&self.config.people, &self.config.accounts.exempt);
        let is_given = |account: &Account| people.values().any(|person| person.accounts.contains(account));
        self.retired.new.retain(|account, _| !is_given(account) && !exempt.contains(account));
    }

    /// What was new a moment ago is an account like any other.
    pub(super) fn end_newness(&mut self, now: Now) {
        let before = self.retired.new.len();
        self.retired.new.retain(|_, until| now.boot < *until);
        if self.retired.new.len() != before {
            self.push(Effect::TellHomes);
            // The attestation that their appearance brought about was without them. Only root makes accounts.
            self.ways.changed(ROOTS_PAUSE, now);
        }
    }

    /// A sweep begins: keys whose time is over go like others. What is kept for the next start is put right where somebody
    /// removed it.
    pub(super) fn end_retirement(&mut self, now: Now) {
        let are_over = self.retired.drop_over(&self.config.accounts.exempt, now.wall);
        if are_over || !self.retired.until.is_empty() {
            self.keep_retired();
        }
        if are_over {
            self.push(Effect::TellHomes);
        }
    }

    /// `lockdownctl quarantine now`: the keys of an account that was exempt are kept no longer.
    pub(super) fn quarantine_now(&mut self, token: Token, account: Account, asker: Asker, now: Now) {
        if self.retired.until.remove(&account).is_none() {
            let kept: Vec<&str> = self.retired.until.keys().map(Account::as_str).collect();
            let refusal = Refusal::new(RefusalCode::NothingToDo, format!("no keys of {account} are kept"));
            let refusal = match kept.is_empty() {
                true => refusal.hint("only those of an account that was exempt until lately are"),
                false => refusal.hint(format!("those of {} are", kept.join(", "))),
            };
            return self.push(Effect::Answer(token, Err(refusal)));
        }
        let sentence = format!("{account} was exempt, and its keys are kept no longer");
        let mut draft = Draft::new(ArtifactType::SshdChanged, sentence).with("keys_kept", false);
        draft.account = Some(account.clone());
        draft.actor = Some(asker.actor);
        self.recorder.note(draft);
        self.keep_retired();
        self.commit(now);
        self.push(Effect::TellHomes);
        let mut notes = Vec::new();
        if !self.enforces() {
            notes.push("this host only observes: key files stay until mode is \"enforce\"".to_owned());
        }
        let answer = Answer::Retired(RetiredAnswer { account, notes });
        self.answer_on_record(Waiting::Operator(token, Ok(answer)), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_until_the_day_is_over_or_the_account_is_exempt_again() {
        let account = |name: &str| name.parse::<Account>().expect("a name");
        let end = Timestamp::UNIX_EPOCH + KEPT;
        let until = [(account("a"), end), (account("b"), end)].into();
        let mut retired = Retired { until, ..Retired::default() };
        assert!(!retired.drop_over(&BTreeSet::new(), end - SignedDuration::from_secs(1)));
        assert!(retired.drop_over(&[account("b")].into(), end - SignedDuration::from_secs(1)));
        assert_eq!(retired.kept().count(), 1);
        assert!(retired.drop_over(&BTreeSet::new(), end) && retired.kept().count() == 0);
    }
}
