//! What a person leaves running on an account when their grant ends: found, on record, and ended where config says so.
//!
//! Never touched: what other people's live grants or connections may have started, what was there before the grant, and
//! services that no login started.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use record::{ArtifactType, Draft, GrantId};
use serde_json::{Value, json};

use super::Engine;
use crate::{
    config::LeftBehind,
    host::{
        clock::Now,
        jobs::{self, Job, Kind},
        left_behind::{self, Found},
        processes::{self, ProcessId},
    },
    policy::{
        grant::Grant,
        left_behind::{Left, Over, Seen, judge},
    },
    trigger::Reason,
};

/// How long after a grant's end it is looked again for what its person left: for what was just being forked, for what
/// waited a moment, and for what cron and timers start each minute.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(45)];
/// How many things one record names; the others are counted.
pub(crate) const MAX_NAMED: usize = 64;

/// What was found, and what of it was ended.
#[derive(Debug, Default)]
pub(super) struct Findings {
    items: Vec<Value>,
    ended: u64,
}

impl Engine {
    /// Whether what is left behind is ended, and not only told of.
    fn ends_left_behind(&self) -> bool {
        let sessions = &self.config.sessions;
        self.enforces() && sessions.end_with_grant && sessions.left_behind == LeftBehind::End
    }

    /// Adds what its person left behind to the record of a grant's end, and ends it where config says so.
    pub(super) fn with_left_behind(&mut self, draft: Draft, id: &GrantId, now: Now) -> Draft {
        let findings = self.settle_left_behind(id, true, now);
        if self.ends_left_behind() {
            for wait in LOOKS {
                let (reasons, id) = (self.reasons.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    // Nobody receives once the daemon stops; a sweep of the next looks again.
                    let _ = reasons.send(Reason::LookBehind(id)).await;
                });
            }
        }
        with_items(draft, findings.items)
    }

    /// Looks again for what was left behind under a grant that has ended; what is ended now is on record.
    pub(super) fn look_behind(&mut self, id: &GrantId, whole: bool, now: Now) {
        if !self.ends_left_behind() {
            return;
        }
        let findings = self.settle_left_behind(id, whole, now);
        let Some(grant) = self.grants.get(id).filter(|_| findings.ended > 0) else { return };
        let sentence = format!("what {} left running on {} was ended: the grant is over", grant.person, grant.account);
        let mut draft = Draft::new(ArtifactType::SessionTerminated, sentence)
            .with("ended", "left_behind")
            .with("killed", findings.ended);
        draft.person = Some(grant.person.clone());
        draft.account = Some(grant.account.clone());
        draft.grant = Some(id.clone());
        self.recorder.note(with_items(draft, findings.items));
        self.commit(now);
    }

    /// Each sweep: forgets traces that lead nowhere, and looks after those of grants that have ended.
    pub(super) fn look_behind_all(&mut self, now: Now) {
        match left_behind::still_in_use(&self.traces.audits()) {
            Ok(used) => self.traces.keep(&used),
            Err(error) => return tracing::error!(%error, "what was left behind cannot be looked for"),
        }
        for id in self.traces.grants() {
            if self.grants.get(&id).is_some_and(|grant| grant.end.is_some()) {
                self.look_behind(&id, false, now);
            }
        }
    }

    /// Finds what was left behind under a grant that has ended, and ends it where config says so. `whole`: with what the
    /// account runs by itself, not the person's connections alone.
    fn settle_left_behind(&mut self, id: &GrantId, whole: bool, now: Now) -> Findings {
        let mut findings = Findings::default();
        let Some(grant) = self.grants.get(id).cloned() else { return findings };
        let waiting = if whole { jobs::of(&grant.account, grant.uid) } else { Vec::new() };
        let over = self.over(&grant, &waiting, now);
        if over.audits.is_empty() && waiting.is_empty() {
            return findings;
        }
        let ends = self.ends_left_behind();
        // First what would start things anew.
        for job in &waiting {
            let is_new = job.changed_at >= grant.starts_at.min(grant.created_at);
            findings.job(job, ends && is_new && !over.shared, now);
        }
        let (spared, live) = (self.spared_processes(), self.live_audits(id));
        match left_behind::survey(&spared) {
            Ok(found) => {
                let judged = found.into_iter().map(|found| (judged(&found, &over, &live), found));
                let judged: Vec<(Left, Found)> = judged.filter(|(left, _)| *left != Left::Nothing).collect();
                let killed = match ends && judged.iter().any(|(left, _)| matches!(left, Left::Theirs(_))) {
                    true => end(&spared, &over, &live),
                    false => Vec::new(),
                };
                findings.processes(judged, killed);
            }
            Err(error) => tracing::error!(%error, "what was left behind cannot be looked for"),
        }
        findings
    }

    fn over(&self, grant: &Grant, waiting: &[Job], now: Now) -> Over {
        let elsewhere = |session: &crate::sessions::Session| {
            session.account == grant.account && session.ending.is_none() && session.grant() != Some(&grant.id)
        };
        let others = self.grants.open_ones().any(|open| open.account == grant.account && open.is_active(now));
        let age = now.wall.duration_since(grant.starts_at.min(grant.created_at));
        Over {
            uid: grant.uid,
            audits: self.traces.of(&grant.id),
            since: now.boot.saturating_sub(Duration::try_from(age).unwrap_or_default()),
            shared: others || self.sessions.live().iter().any(elsewhere),
            lingers: waiting.iter().any(|job| job.kind == Kind::Linger),
        }
    }

    /// Listeners of root's sshds and every connection's own processes: connections end by themselves.
    fn spared_processes(&self) -> HashSet<ProcessId> {
        let crate::host::connection::Spared { mut listeners, monitors } = self.spared();
        listeners.extend(monitors);
        listeners
    }

    /// The audit sessions of this grant's connections that go on (`end_with_grant = false`, observe).
    fn live_audits(&self, id: &GrantId) -> BTreeSet<u32> {
        let live = self.sessions.live().iter().filter(|s| s.ending.is_none() && s.grant() == Some(id));
        live.filter_map(|session| left_behind::own_audit_session(session.monitor)).collect()
    }

    /// Remembers the audit session of a granted connection.
    pub(super) fn trace(&mut self, id: &record::SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        if let (Some(grant), Some(audit)) = (session.grant(), left_behind::own_audit_session(session.monitor)) {
            self.traces.add(grant, audit);
        }
    }
}

fn judged(found: &Found, over: &Over, live: &BTreeSet<u32>) -> Left {
    let began = processes::began(found.id);
    judge(Seen { audit: found.audit, login_uid: found.login_uid, cgroup: &found.cgroup, began }, over, live)
}

fn end(spared: &HashSet<ProcessId>, over: &Over, live: &BTreeSet<u32>) -> Vec<Found> {
    left_behind::end(spared, |found| matches!(judged(found, over, live), Left::Theirs(_))).unwrap_or_else(|error| {
        tracing::error!(%error, "what was left behind could not be ended whole; it is tried again");
        Vec::new()
    })
}

impl Findings {
    fn job(&mut self, job: &Job, ends: bool, now: Now) {
        let mut item = json!({
            "what": job.kind.word(),
            "path": record::outside(job.path.as_os_str().as_encoded_bytes()),
            "changed_at": job.changed_at.to_string(),
            "ended": false,
        });
        if job.kind != Kind::Linger {
            item["sha256"] = job.sha256.as_str().into();
            item["size"] = job.size.into();
        }
        if ends {
            match jobs::set_aside(job, now.wall) {
                Ok(kept) => {
                    self.ended += 1;
                    item["ended"] = true.into();
                    if let Some(kept) = kept {
                        item["kept_in"] = record::outside(kept.as_os_str().as_encoded_bytes()).into();
                    }
                }
                Err(error) => item["failed"] = error.to_string().into(),
            }
        }
        self.items.push(item);
    }

    /// What was found at the first look, and what was killed: that may be more.
    fn processes(&mut self, judged: Vec<(Left, Found)>, killed: Vec<Found>) {
        self.ended += killed.len() as u64;
        let ended: HashSet<ProcessId> = killed.iter().map(|found| found.id).collect();
        let seen: HashSet<ProcessId> = judged.iter().map(|(_, found)| found.id).collect();
        for (left, found) in &judged {
            let by = match left {
                Left::Theirs(by) | Left::Accounts(by) => by.word(),
                Left::Nothing => continue,
            };
            self.items.push(process(found, by, ended.contains(&found.id)));
        }
        let later = killed.iter().filter(|found| !seen.contains(&found.id));
        self.items.extend(later.map(|found| process(found, "session", true)));
    }
}

fn process(found: &Found, by: &str, ended: bool) -> Value {
    let mut item = json!({ "what": "process", "by": by, "pid": found.id.pid, "uid": found.uid, "ended": ended });
    if let Some(exe) = &found.exe {
        item["exe"] = record::outside(exe.as_os_str().as_encoded_bytes()).into();
    }
    item
}

fn with_items(draft: Draft, mut items: Vec<Value>) -> Draft {
    if items.is_empty() {
        return draft;
    }
    let more = items.len().saturating_sub(MAX_NAMED);
    items.truncate(MAX_NAMED);
    let draft = draft.with("left_behind", items);
    if more > 0 { draft.with("more_left_behind", more as u64) } else { draft }
}
