//! What the homes threads have found, as the core takes it.

use jiff::Timestamp;
use lockdown_core::{
    machine::{Event, sweep::Swept},
    policy::time::Now,
};
use lockdown_host::{accounts::AccountName, quarantine};
use record::{ArtifactType, Draft, Fingerprint};
use serde_json::Value;

use super::{
    Driver,
    homes::{Finding, Removed, Standing, SweepReport},
};

impl Driver {
    /// Notes one finding. A flood of them is summed up per account and minute.
    pub(super) fn found(&mut self, finding: Finding, now: Now) {
        match finding {
            Finding::Removed(removed) => {
                let draft = self.with_logins(key_removed(&removed), &removed, now);
                let draft = self.core.by_writers(draft, &removed.written);
                self.step(Event::Note(draft, Some(1)), now);
            }
            Finding::RemovedUnkept { whose, times, path, fingerprints, more } => {
                let sentence = format!(
                    "{times} key files were removed faster than they could be kept, the last {}",
                    path.display()
                );
                let draft = about(Draft::new(ArtifactType::KeyRemoved, sentence), whose.as_ref(), &path);
                let draft = named(draft, &fingerprints, more).with("kept", "none");
                self.step(Event::Note(draft, Some(times)), now);
            }
            Finding::WouldRemove { standing, times } => would_remove(&standing, times),
            Finding::Failed { whose, path, error, times } => {
                let sentence = format!("{} could not be removed or looked at: {error}", path.display());
                tracing::error!("{sentence}");
                let draft = about(Draft::new(ArtifactType::RemovalFailed, sentence), whose.as_ref(), &path);
                self.step(Event::Note(draft.with("error", error), Some(times)), now);
            }
            Finding::Hanging { hanging, since } => {
                let error = format!("it does not answer within {}", control::format_duration(since));
                let sentence = format!(
                    "{hanging} does not answer within {}: nothing is looked at or removed there until it does",
                    control::format_duration(since)
                );
                let draft =
                    about(Draft::new(ArtifactType::RemovalFailed, sentence), hanging.whose.as_ref(), &hanging.path);
                self.step(Event::Note(draft.with("error", error).with("hanging", true), None), now);
            }
            Finding::Unkept { standing, why } => {
                self.homes_unkept = Some((standing, why)).filter(|(standing, _)| *standing > 0);
            }
            Finding::Overflow { times } => {
                tracing::warn!(times, "the kernel dropped events of homes; everything is looked at again");
            }
            Finding::Swept(report) => {
                let swept = self.swept(&report);
                self.step(Event::Swept(swept), now);
            }
        }
    }

    fn swept(&self, report: &SweepReport) -> Swept {
        Swept {
            accounts: report.accounts,
            files: report.files,
            keys: report.keys,
            removed: report.removed,
            failed: report.failed,
            unreadable: report.unreadable,
            not_mounted: report.not_mounted,
            took: report.took,
            hanging: self.hanging_homes().iter().map(ToString::to_string).collect(),
        }
    }

    /// States which logins came by the keys of a removed file while it stood.
    fn with_logins(&self, draft: Draft, removed: &Removed, now: Now) -> Draft {
        let item = &removed.item;
        let since = item.removed_at.checked_sub(removed.stood).unwrap_or(Timestamp::MIN).min(now.wall);
        let account = removed.whose.as_ref().and_then(AccountName::account);
        self.core.with_logins(draft, &item.fingerprints, item.more == 0, account, since)
    }
}

fn key_removed(removed: &Removed) -> Draft {
    let item = &removed.item;
    let why = removed.why.map_or("it stood in the quarantine's way in after a crash", |why| why.sentence());
    let sentence = format!("{} was removed: {why}", removed.path.display());
    let mut draft = about(Draft::new(ArtifactType::KeyRemoved, sentence), removed.whose.as_ref(), &removed.path);
    draft = named(draft, &item.fingerprints, item.more)
        .with("quarantine", item.id.as_str())
        .with("owner_uid", item.owner)
        .with("size", item.size)
        .with("sha256", item.sha256.as_str())
        .with("kept", kept(item.content))
        .with("unreadable_lines", item.unreadable_lines)
        .with("stood_milliseconds", u64::try_from(removed.stood.as_millis()).unwrap_or(u64::MAX));
    if let quarantine::ItemKind::Symlink { target } = &item.kind {
        draft = draft.with("link_target", target.as_str());
    }
    if let Some(error) = &removed.not_settled {
        draft = draft.with("not_settled", error.as_str());
    }
    if let ([only], 0) = (item.fingerprints.as_slice(), item.more) {
        draft.fingerprint = Some(only.clone());
    }
    draft
}

fn kept(content: quarantine::Content) -> &'static str {
    match content {
        quarantine::Content::Kept => "whole",
        quarantine::Content::Truncated => "start",
        quarantine::Content::OverQuota => "hash",
        quarantine::Content::None => "none",
    }
}

fn named(draft: Draft, fingerprints: &[Fingerprint], more: u64) -> Draft {
    let list: Vec<Value> = fingerprints.iter().map(|fingerprint| fingerprint.as_str().into()).collect();
    draft.with("fingerprints", list).with("more_fingerprints", more)
}

fn about(mut draft: Draft, whose: Option<&AccountName>, path: &std::path::Path) -> Draft {
    draft.account = whose.and_then(AccountName::account).cloned();
    draft.with("path", record::outside(path.as_os_str().as_encoded_bytes()))
}

/// Observe changes nothing and says what enforce would do.
fn would_remove(standing: &Standing, times: u64) {
    let path = record::escape(standing.path.as_os_str().as_encoded_bytes());
    let whose = standing.whose.as_ref().map_or("several accounts", AccountName::as_str);
    tracing::warn!(account = whose, changes = times, "enforce would remove {path}: {}", standing.why);
}
