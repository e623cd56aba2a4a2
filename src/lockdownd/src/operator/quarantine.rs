//! `lockdownctl quarantine` and `plan`: what was removed, giving it back, and what would be removed.
//!
//! Whatever reads or writes homes does so on a thread of its own: a home can be slow, and logins do not wait for it.

use std::path::{Path, PathBuf};

use control::{
    Answer, Change, ChangeKind, PlanAnswer, Problem, QuarantineAnswer, QuarantineDetail, QuarantineItem, Quarantined,
    Refusal, RefusalCode, Response, RestoreAnswer,
};
use lockdown_core::machine::Token;
use lockdown_core::{
    config::BeforeEnforce,
    policy::time::Now,
    sessions::{self, Session},
};
use lockdown_host::quarantine::{self, Content, Item, ItemId, ItemKind, QUARANTINE, RestoreError, RestoreTo};
use record::{Account, ArtifactType, Draft};

use super::Asker;
use crate::{
    driver::{
        Driver,
        homes::{self, Hanging, Standing},
        jobs::{Brought, Kind},
    },
    trigger::Reason,
};

/// The daemon's own program, which gives a file back as the account.
const PROGRAM: &str = "/usr/sbin/lockdownd";
/// The most lines of an item that are shown, and the most bytes of each.
const MAX_SHOWN: usize = 200;
const MAX_SHOWN_LINE: usize = 1_024;

/// What came of giving an item back.
#[derive(Debug)]
pub struct RestoreOutcome {
    id: ItemId,
    account: Account,
    view: QuarantineItem,
    under_old_name: bool,
    done: Result<PathBuf, RestoreError>,
}

impl Driver {
    pub(super) fn list_quarantine(&mut self, token: Token, now: Now) {
        self.answer_from_quarantine(token, now, || {
            let items = quarantine::list(Path::new(QUARANTINE)).map_err(failed)?;
            Ok(Answer::Quarantine(QuarantineAnswer {
                items: items.iter().filter_map(item_view).collect(),
                left_off: 0,
            }))
        });
    }

    pub(super) fn show_quarantined(&mut self, asked: Quarantined, token: Token, now: Now) {
        self.answer_from_quarantine(token, now, move || show(&asked));
    }

    /// Reads the quarantine for an answer, which takes the longer the more is in it.
    fn answer_from_quarantine(&mut self, token: Token, now: Now, read: impl FnOnce() -> Response + Send + 'static) {
        self.begin_job(Kind::Quarantine, Some(token), now, move || Brought::Answer(read()));
    }

    /// Gives an item back to its account, by a process that has become the account.
    pub(super) fn restore(&mut self, asked: Quarantined, asker: Asker, token: Token, now: Now) {
        let prepared = item_id(&asked.id).and_then(|id| {
            let item = quarantine::show(Path::new(QUARANTINE), &id).map_err(|error| unknown(&id, &error))?;
            let account: Account = item.account.parse().map_err(|_| unknown(&id, &"it is not one account's"))?;
            // One that was renamed is found by its user id; that the home is the same is checked with the path.
            let entry = self.world.entry(&account).or_else(|| self.world.entry_by_uid(item.owner));
            let entry = entry.ok_or_else(|| {
                Refusal::new(RefusalCode::CannotRestore, format!("the account {account} is gone"))
                    .hint("what was kept stays in /var/lib/lockdownd/quarantine")
            })?;
            let view = item_view(&item).ok_or_else(|| unknown(&id, &"it is not one account's"))?;
            let account = entry.name.account().cloned().unwrap_or(account);
            Ok((id, account, view, entry.clone()))
        });
        let (id, account, view, entry) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return self.answer(token, Err(refusal)),
        };
        let stays = self.core.config.accounts.exempt.contains(&account) || self.core.retired.spares(&account);
        let under_old_name = !self.core.enforces() || stays;
        self.begin_job(Kind::Restore, Some(token), now, move || {
            let to = RestoreTo { uid: entry.uid, gid: entry.gid, home: &entry.home, under_old_name };
            let done = quarantine::restore(Path::new(QUARANTINE), &id, to, Path::new(PROGRAM));
            let outcome = Box::new(RestoreOutcome { id, account, view, under_old_name, done });
            Reason::Restored { outcome, asker, token }.into()
        });
    }

    /// Records what was given back, and answers.
    pub(crate) fn restored(&mut self, outcome: RestoreOutcome, asker: Asker, token: Token, now: Now) {
        let RestoreOutcome { id, account, view, under_old_name, done } = outcome;
        let place = match done {
            Ok(place) => place,
            Err(error) => return self.answer(token, Err(Refusal::new(RefusalCode::CannotRestore, error.to_string()))),
        };
        let path = record::outside(place.as_os_str().as_encoded_bytes());
        let mut draft =
            Draft::new(ArtifactType::QuarantineRestored, format!("{id} was given back to {account} as {path}"))
                .with("quarantine", id.as_str())
                .with("path", path);
        draft.account = Some(account);
        draft.actor = Some(asker.actor);
        self.core.recorder.note(draft);
        self.core.commit(now);
        let mut notes = Vec::new();
        if !under_old_name {
            notes.push(
                "under enforce a key file of that name would be removed again: it came back beside it".to_owned(),
            );
        }
        let answer = Answer::Restore(RestoreAnswer { item: view, path: escaped(&place), notes });
        self.answer_on_record(token, Ok(answer), now);
    }

    /// What a sweep in enforce would change now.
    pub(crate) fn plan(&mut self, token: Token, stale: Option<Problem>, now: Now) {
        let mut answer = PlanAnswer {
            mode: if self.core.enforces() { control::Mode::Enforce } else { control::Mode::Observe },
            obstacles: self.core.obstacle_views(),
            changes: self.planned(now),
            left_off: 0,
            notes: self.core.checks.not_honoured.clone(),
        };
        // What is not known stands in the way.
        answer.obstacles.extend(stale.map(|problem| problem.what));
        let hanging = self.hanging_homes();
        let unknown = |home: &Hanging| format!("{home} does not answer: what stands there is not known");
        answer.notes.extend(hanging.iter().map(unknown));
        let plot = self.plot();
        self.begin_job(Kind::Plan, Some(token), now, move || {
            let mut territory = plot.territory();
            territory.leave_out(&hanging);
            Brought::Answer(match homes::plan_here(&territory) {
                Ok(standing) => {
                    answer.changes.extend(standing.into_iter().map(removal));
                    Ok(Answer::Plan(answer))
                }
                Err(error) => Err(Refusal::new(RefusalCode::Failed, error.to_string())),
            })
        });
    }

    /// What would change besides key files.
    fn planned(&self, now: Now) -> Vec<Change> {
        if self.core.enforces() {
            return Vec::new();
        }
        let change = |kind, why: String| Change {
            kind,
            account: None,
            path: None,
            fingerprints: Vec::new(),
            session: None,
            why,
        };
        let mut changes = vec![
            Change {
                path: Some(lockdown_host::sshd::drop_in::PATH.to_owned()),
                ..change(ChangeKind::WriteDropIn, "sshd reads keys from the key store alone".to_owned())
            },
            change(ChangeKind::RefuseLogins, "the gate refuses whoever has no grant, exempt accounts aside".to_owned()),
        ];
        for grant in self.core.grants.open_ones().filter(|grant| grant.is_active(now)) {
            changes.push(Change {
                account: Some(grant.account.clone()),
                ..change(ChangeKind::WriteStore, format!("{}'s keys, for grant {}", grant.person, grant.id))
            });
        }
        let unbacked = |session: &&Session| {
            matches!(session.standing, sessions::Standing::Unbacked { .. } | sessions::Standing::Unattributed)
        };
        let (kind, why) = match self.core.config.sessions.before_enforce {
            BeforeEnforce::Keep => {
                (ChangeKind::RefuseLogins, "this login would be refused; it is kept until a lockdown")
            }
            BeforeEnforce::End => {
                (ChangeKind::EndSession, "no grant backs it, and sessions.before_enforce says that such sessions end")
            }
        };
        for session in self.core.sessions.live().iter().filter(unbacked) {
            changes.push(Change {
                account: Some(session.account.clone()),
                session: Some(session.id.clone()),
                ..change(kind, why.to_owned())
            });
        }
        changes
    }
}

fn show(asked: &Quarantined) -> Response {
    let id = item_id(&asked.id)?;
    let item = quarantine::show(Path::new(QUARANTINE), &id).map_err(|error| unknown(&id, &error))?;
    let content = quarantine::content(Path::new(QUARANTINE), &id).unwrap_or_default();
    let mut lines = content.split(|byte| *byte == b'\n').map(|line| &line[..line.len().min(MAX_SHOWN_LINE)]);
    let shown: Vec<String> = lines.by_ref().take(MAX_SHOWN).map(record::escape).collect();
    let view = item_view(&item).ok_or_else(|| unknown(&id, &"it is not one account's"))?;
    Ok(Answer::QuarantineItem(Box::new(QuarantineDetail {
        file_type: match item.kind {
            ItemKind::File => "file".to_owned(),
            ItemKind::Symlink { .. } => "symbolic link".to_owned(),
            ItemKind::Other => "other".to_owned(),
        },
        link_target: match item.kind {
            ItemKind::Symlink { target } => Some(target),
            _ => None,
        },
        uid: item.owner,
        mode: item.mode,
        sha256: Some(item.sha256).filter(|hash| !hash.is_empty()),
        lines: shown,
        cut: lines.next().is_some() || item.content == Content::Truncated,
        item: view,
    })))
}

fn removal(standing: Standing) -> Change {
    Change {
        kind: ChangeKind::RemoveKeyFile,
        account: standing.whose.as_ref().and_then(|whose| whose.account()).cloned(),
        path: Some(escaped(&standing.path)),
        fingerprints: standing.fingerprints,
        session: None,
        why: standing.why.to_string(),
    }
}

fn item_view(item: &Item) -> Option<QuarantineItem> {
    Some(QuarantineItem {
        id: item.id.to_string(),
        account: item.account.parse().ok()?,
        path: item.path.clone(),
        removed_at: item.removed_at,
        size: item.size,
        why: item.why.clone().unwrap_or_default(),
        restorable: item.kind == ItemKind::File && item.content == Content::Kept,
        fingerprints: item.fingerprints.clone(),
    })
}

fn item_id(text: &str) -> Result<ItemId, Refusal> {
    text.parse().map_err(|_| unknown(&text, &"ids look like q-0123456789abcdef"))
}

fn unknown(id: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::UnknownItem, format!("{id} is not kept in quarantine: {why}"))
        .hint("lockdownctl quarantine list shows what is")
}

fn failed(error: quarantine::QuarantineError) -> Refusal {
    Refusal::new(RefusalCode::Failed, error.to_string())
}

fn escaped(path: &Path) -> String {
    record::escape(path.as_os_str().as_encoded_bytes())
}
