//! Accounts that are not exempt, and whose key files are left alone all the same: nobody gets in by them.
//!
//! What was exempt until lately keeps them for a day: a name that was mistyped must not cost the only break-glass key. A new
//! account keeps them for a moment, and one that a refused configuration names for as long as it stays refused: so that an
//! account can be made, get its key, and become exempt in one go.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::Duration,
};

use control::{Answer, Refusal, RefusalCode, Response, RetiredAnswer};
use jiff::{SignedDuration, Timestamp};
use lockdown_core::policy::time::Now;
use lockdown_host::paths;
use record::{Account, ArtifactType, Draft};

use super::{Engine, world::World};
use crate::operator::Asker;

/// Where they are kept across restarts.
const RETIRED: &str = "/var/lib/lockdownd/formerly_exempt.json";
/// The most bytes of that file that are read.
const MAX_RETIRED: u64 = 1 << 20;
/// For how long their keys are kept.
pub(super) const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// For how long the keys of a new account are: it may be about to become exempt.
const NEW: Duration = Duration::from_secs(5);

/// These accounts.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    /// Those that were exempt, each with when its keys go.
    until: BTreeMap<Account, Timestamp>,
    /// Those that have just been made, each with when its keys go, on the boot clock.
    new: BTreeMap<Account, Duration>,
    /// Those that a refused configuration names.
    named: BTreeSet<Account>,
}

impl Retired {
    /// Takes up those that the last run left. A file that cannot be read is said, and as if there were none.
    pub(super) fn take_up(&mut self) {
        let read = paths::read_path(Path::new(RETIRED), MAX_RETIRED)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        let left: BTreeMap<Account, Timestamp> = read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(%error, "{RETIRED} cannot be read: keys of accounts that were exempt are not kept any longer");
            }
            BTreeMap::new()
        });
        for (account, until) in left {
            self.until.entry(account).or_insert(until);
        }
    }

    /// All whose key files are left alone.
    pub(super) fn spared(&self) -> impl Iterator<Item = &Account> {
        self.until.keys().chain(self.new.keys()).chain(&self.named)
    }

    /// When the next new account is one like any other, on the boot clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.new.values().min().copied()
    }

    /// Each account, and until when its keys are kept.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&Account, Timestamp)> {
        self.until.iter().map(|(account, until)| (account, *until))
    }

    /// Those that are exempt again or whose time is over are dropped; whether there were any.
    fn drop_over(&mut self, exempt: &BTreeSet<Account>, now: Timestamp) -> bool {
        let before = self.until.len();
        self.until.retain(|account, until| *until > now && !exempt.contains(account));
        self.until.len() != before
    }

    /// Whether a restart would know of none, because somebody removed the file.
    fn is_lost(&self) -> bool {
        !self.until.is_empty() && !Path::new(RETIRED).exists()
    }
}

impl Engine {
    fn save_retired(&mut self) {
        let bytes = serde_json::to_vec(&self.retired.until).expect("a map of strings to moments");
        self.write_state(RETIRED, bytes, 0o600);
    }

    /// Another configuration is about to be in force: what stops being exempt by it keeps its keys for a while.
    pub(super) fn retire(&mut self, before: &BTreeSet<Account>, now: Now) {
        self.spare_nobody_given();
        let until = now.wall.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let exempt = self.core.config.accounts.exempt.clone();
        let gone: Vec<Account> =
            before.difference(&exempt).filter(|account| self.core.uid_of(account).is_some()).cloned().collect();
        let mut changed = self.retired.drop_over(&exempt, now.wall) || self.retired.is_lost();
        for account in gone {
            tracing::warn!("{account} is not exempt any more; its keys let nobody in, and are kept until {until:.0}");
            changed |= self.retired.until.insert(account, until).is_none();
        }
        self.retired.named.clear();
        if changed {
            self.save_retired();
        }
    }

    /// Accounts that are exempt, or were until lately, and have another name now (`usermod -l`): what stands under it is kept
    /// for a while.
    pub(super) fn keep_renamed(&mut self, before: &World, now: Now) {
        let until = now.wall.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let named = self.core.exempt().iter().chain(self.retired.until.keys());
        let renamed = named.filter_map(|old| Some((old.clone(), self.world.renamed_to(before, old)?.clone())));
        let renamed: Vec<(Account, Account)> = renamed.filter(|(_, new)| !self.core.exempt().contains(new)).collect();
        for (old, new) in renamed {
            let sentence =
                format!("the account {old}, which is exempt or was lately, is now named {new}, which is not");
            tracing::error!("{sentence}: its keys let nobody in, and are kept until {until:.0}");
            let mut draft = Draft::new(ArtifactType::SshdChanged, sentence)
                .with("renamed_from", old.as_str())
                .with("keys_kept_until", until.to_string());
            draft.account = Some(new.clone());
            self.core.recorder.note(draft);
            self.retired.until.insert(new, until);
            self.save_retired();
        }
    }

    /// Whether nothing removes this account's key files, though it is not exempt.
    pub(crate) fn is_spared(&self, account: &Account) -> bool {
        self.retired.spared().any(|spared| spared == account)
    }

    /// A configuration was refused because none of these could log in: once they can, it will not be.
    pub(super) fn spare_named(&mut self, exempt: BTreeSet<Account>) {
        self.retired.named = exempt;
        self.tell_homes();
    }

    /// These accounts have just been made.
    pub(super) fn spare_new(&mut self, made: Vec<Account>, now: Now) {
        self.retired.new.extend(made.into_iter().map(|account| (account, now.boot + NEW)));
        self.spare_nobody_given();
    }

    /// A new account that a person may be given, or that is exempt already, is not about to become exempt.
    fn spare_nobody_given(&mut self) {
        let (people, exempt) = (&self.core.config.people, &self.core.config.accounts.exempt);
        let is_given = |account: &Account| people.values().any(|person| person.accounts.contains(account));
        self.retired.new.retain(|account, _| !is_given(account) && !exempt.contains(account));
    }

    /// What was new a moment ago is an account like any other.
    pub(super) fn end_newness(&mut self, now: Now) {
        let before = self.retired.new.len();
        self.retired.new.retain(|_, until| now.boot < *until);
        if self.retired.new.len() != before {
            self.tell_homes();
            // The attestation that their appearance brought about was without them. Only root makes accounts.
            self.attest_soon(false, now);
        }
    }

    /// A sweep begins: keys whose time is over go like others.
    pub(super) fn end_retirement(&mut self, now: Now) {
        let are_over = self.retired.drop_over(&self.core.config.accounts.exempt, now.wall);
        if are_over || self.retired.is_lost() {
            self.save_retired();
        }
        if are_over {
            self.tell_homes();
        }
    }

    /// `lockdownctl quarantine now`: the keys of an account that was exempt are kept no longer.
    pub(crate) fn quarantine_now(&mut self, account: Account, asker: Asker, now: Now) -> Response {
        if self.retired.until.remove(&account).is_none() {
            let kept: Vec<&str> = self.retired.until.keys().map(Account::as_str).collect();
            let refusal = Refusal::new(RefusalCode::NothingToDo, format!("no keys of {account} are kept"));
            return Err(match kept.is_empty() {
                true => refusal.hint("only those of an account that was exempt until lately are"),
                false => refusal.hint(format!("those of {} are", kept.join(", "))),
            });
        }
        let sentence = format!("{account} was exempt, and its keys are kept no longer");
        let mut draft = Draft::new(ArtifactType::SshdChanged, sentence).with("keys_kept", false);
        draft.account = Some(account.clone());
        draft.actor = Some(asker.actor);
        self.core.recorder.note(draft);
        self.save_retired();
        self.core.commit(now);
        self.tell_homes();
        let mut notes = Vec::new();
        if !self.core.enforces() {
            notes.push("this host only observes: key files stay until mode is \"enforce\"".to_owned());
        }
        Ok(Answer::Retired(RetiredAnswer { account, notes }))
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
