//! What an operator can look at: status, grants, sessions, people, plan, records, quarantine. Changes nothing.

use std::{collections::BTreeMap, path::Path, time::Duration};

use control::{
    Answer, GrantsAnswer, KeyView, LedgerState, MAX_RECORDS_BYTES, PeopleAnswer, PersonView, Problem, Records,
    RecordsAnswer, Refusal, RefusalCode, RequiredView, Response, SessionsAnswer, Severity, StackView, Status,
};
use jiff::SignedDuration;
use lockdown_core::machine::Token;
use lockdown_core::{
    config::PersonEntry,
    machine::{MAX_LISTED, QUICK_TRIES, grant_view, session_view},
    policy::{grant::Standing, time::Now},
    sessions::{Session, Standing as S},
};
use lockdown_host::quarantine::{self, QUARANTINE};
use record::{Account, GrantId, Record};

use crate::{
    driver::{
        Driver, NEARLY_FULL_REMEDY,
        jobs::{Brought, Kind},
        renamed, shipping_problems,
    },
    ledger::View,
};

/// How many bytes of the ledger one request looks through.
const MAX_STRETCH: usize = 4 << 20;

/// From so long before its end it is said that a roster expires.
const ROSTER_ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What an operator should know of signed documents.
fn stack_problems(stack: &StackView, now: Now) -> Vec<(Severity, String, &'static str)> {
    let mut problems = Vec::new();
    if let Some(roster) = &stack.roster {
        let (version, ends) = (roster.version, roster.expires_at);
        let remedy = "lockdown roster edit, sign and publish make the next one";
        if ends <= now.wall {
            problems.push((Severity::Err, format!("roster {version} expired at {ends:.0}: no document opens"), remedy));
        } else if ends.duration_since(now.wall) <= ROSTER_ENDS_SOON {
            problems.push((
                Severity::Warning,
                format!("roster {version} expires at {ends:.0}, and opens nothing then"),
                remedy,
            ));
        }
    }
    for feed in &stack.feeds {
        if let Some(why) = &feed.problem {
            let remedy = "see journalctl -u lockdownd-shipper, and the server; what was withheld comes by another feed or lockdownctl apply";
            problems.push((Severity::Err, format!("the feed {} is not whole: {why}", feed.feed), remedy));
        }
    }
    if let Some(why) = &stack.inbox {
        let remedy = "see /var/lib/lockdownd-shipper/inbox and its file system; until then lockdownctl apply FILE brings what closes";
        problems.push((Severity::Err, format!("the inbox of documents is not read: {why}"), remedy));
    }
    if let Some(why) = &stack.silent {
        let remedy = "see why the feed does not answer (lockdownctl status, journalctl -u lockdownd-shipper)";
        problems.push((Severity::Err, format!("no grant from a document opens: {why}"), remedy));
    }
    for waiting in &stack.waiting {
        let short = waiting.document.get(..12).unwrap_or(&waiting.document);
        let remedy = "it is judged again by itself; lockdown status says who has which roster";
        problems.push((Severity::Warning, format!("document {short} waits: {}", waiting.why), remedy));
    }
    problems
}

impl Driver {
    pub(super) fn list_grants(&self, asked: &control::Grants, now: Now) -> GrantsAnswer {
        let shown = self.core.grants.all().iter().filter(|grant| asked.all || grant.standing(now) != Standing::Over);
        let grants = shown.map(|grant| grant_view(grant, now)).collect();
        GrantsAnswer { grants, next_lockdown: self.core.next_lockdown(), left_off: 0 }
    }

    pub(super) fn list_sessions(&self) -> SessionsAnswer {
        let views = self
            .core
            .sessions
            .live()
            .iter()
            .map(|session| session_view(session, session.grant().and_then(|id| self.core.grants.get(id))));
        SessionsAnswer { sessions: views.collect(), next_lockdown: self.core.next_lockdown(), left_off: 0 }
    }

    pub(super) fn list_people(&self, now: Now) -> PeopleAnswer {
        let people = self.core.config.people.iter().map(|(name, entry)| PersonView {
            name: name.clone(),
            keys: entry
                .keys
                .iter()
                .map(|key| KeyView { fingerprint: key.fingerprint(), algorithm: key.algorithm() })
                .collect(),
            accounts: entry.accounts.iter().cloned().collect(),
            missing_accounts: entry
                .accounts
                .iter()
                .filter(|account| self.core.uid_of(account).is_none())
                .cloned()
                .collect(),
            required: self.required_of(name, entry),
            operator: entry.operator,
            grants: self.live_grants_of(name, now),
            file: entry.place.file.to_string(),
            line: u64::from(entry.place.line),
        });
        PeopleAnswer { people: people.collect(), left_off: 0 }
    }

    fn required_of(&self, name: &record::Person, entry: &PersonEntry) -> Vec<RequiredView> {
        let of = |account: &Account| {
            let required = self.core.required_of(account).for_record()?;
            let required = required.into_iter().map(str::to_owned).collect();
            Some(RequiredView { account: account.clone(), required, fits: self.core.unfit(name, account).is_none() })
        };
        entry.accounts.iter().filter_map(of).collect()
    }

    fn live_grants_of(&self, person: &record::Person, now: Now) -> Vec<GrantId> {
        let theirs = self.core.grants.open_ones().filter(|grant| grant.person == *person);
        theirs.filter(|grant| grant.standing(now) != Standing::Over).map(|grant| grant.id.clone()).collect()
    }

    /// Answers `status`; what is in quarantine is counted, and a silent shipper looked at, beside the main thread.
    /// `stale` says how old the look is, where there is no fresh one.
    pub(crate) fn answer_status(&mut self, token: Token, stale: Option<Problem>, now: Now) {
        let mut status = Box::new(self.status(now));
        status.problems.extend(stale);
        let ledger = self.ledger.as_ref().cloned();
        let knocks = self.knocks.clone();
        self.begin_job(Kind::Quarantine, Some(token), now, move || {
            let nearly_full = ledger.map_or(Ok(None), |ledger| ledger.nearly_full());
            let nearly_full = nearly_full.unwrap_or_else(|error| Some(format!("the ledger cannot be read: {error}")));
            status.problems.extend(nearly_full.map(|what| Problem {
                severity: Severity::Warning,
                what,
                remedy: Some(NEARLY_FULL_REMEDY.to_owned()),
            }));
            status.problems.extend(super::shut_out::problems(&knocks, now.wall));
            status.problems.extend(shipping_problems(&status.shipping, now.wall));
            match quarantine::count(Path::new(QUARANTINE)) {
                Ok(count) => status.quarantined = count,
                Err(error) => status.problems.push(Problem {
                    severity: Severity::Err,
                    what: format!("the quarantine cannot be read: {error}"),
                    remedy: None,
                }),
            }
            Brought::Answer(Ok(Answer::Status(status)))
        });
    }

    fn status(&self, now: Now) -> Status {
        let (sources, sources_left_off) = super::sources::views(&self.core.config);
        let standing = |which| self.core.grants.open_ones().filter(|grant| grant.standing(now) == which).count() as u64;
        let live = self.core.sessions.live();
        let sessions = |which: fn(&S) -> bool| live.iter().filter(|session| which(&session.standing)).count() as u64;
        Status {
            mode: if self.core.enforces() { control::Mode::Enforce } else { control::Mode::Observe },
            // One that the configuration has caught up with ends nothing.
            trial_until: self
                .core
                .mode
                .trial
                .filter(|_| self.core.config.mode != control::Mode::Enforce)
                .map(|end| end.wall),
            configured_mode: self.core.config.mode,
            host: self.host_name(),
            stack: Some(self.core.config.host.stack.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            openssh: self.world.version(),
            started_at: self.core.started_at,
            config: control::ConfigState {
                loaded_at: self.core.config_state.loaded_at,
                hash: self.core.config.digest.clone(),
                last_good: self.core.config_state.last_good,
                refused: self.core.config_state.refused.clone(),
            },
            accounts: self.world.accounts_count(),
            not_enumerated: self.world.not_enumerated().to_vec(),
            exempt: self.core.config.accounts.exempt.iter().cloned().collect(),
            people: self.core.config.people.len() as u64,
            sources,
            sources_left_off,
            active_grants: standing(Standing::Active),
            next_end: self
                .core
                .grants
                .open_ones()
                .filter(|grant| grant.is_active(now))
                .map(|grant| grant.ends.wall)
                .min(),
            waiting_grants: standing(Standing::Waiting),
            sessions: self.core.sessions.live().len() as u64,
            unattributed_sessions: sessions(|s| matches!(s, S::Unattributed | S::Unbacked { .. })),
            emergency_sessions: sessions(|s| *s == S::Emergency),
            ways_open: self.core.ways.open(),
            quarantined: 0,
            obstacles: self.core.obstacle_views(),
            ledger: self.ledger.as_ref().map(|ledger| LedgerState {
                id: ledger.id.clone(),
                seq: ledger.head.seq,
                hash: ledger.head.hash.to_string(),
                durable: ledger.head.seq,
                failing: self.core.recorder.failing().map(str::to_owned),
            }),
            problems: self.problems(now),
            last_sweep: self.core.last_sweep,
            next_sweep: self.core.schedule.next_sweep(),
            next_lockdown: self.core.next_lockdown(),
            shipping: self.sinks(),
            documents: self.core.stack_view(now),
        }
    }

    fn problems(&self, now: Now) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut say = |severity, what: String, remedy: Option<&str>| {
            problems.push(Problem { severity, what, remedy: remedy.map(str::to_owned) });
        };
        if let Some(what) = self.core.state_not_read() {
            let remedy = "see what keeps the disk that holds /var/lib/lockdownd (findmnt, journalctl -k); it is tried again every two seconds";
            say(Severity::Crit, what, Some(remedy));
        } else if let Some(stalled) = self.core.recorder.stalled_for(now) {
            let what = format!(
                "the disk that holds /var/lib/lockdownd has not answered for {}: nobody new is let in, and what ends is recorded later",
                control::format_duration(Duration::from_secs(stalled.as_secs()))
            );
            say(Severity::Crit, what, Some("see what keeps it: fsfreeze, a snapshot, EBS (journalctl -k)"));
        }
        if let Some(why) = self.core.recorder.failing().filter(|_| !self.core.is_unread()) {
            let remedy = "make room on the disk that holds /var/lib/lockdownd, or see what the file system says";
            say(Severity::Crit, format!("the ledger cannot be written, so nobody is let in: {why}"), Some(remedy));
        }
        if let Some(what) = self.log_is_not_whole() {
            let remedy =
                "systemctl show -p LogLevelMax -p LogNamespace ssh; Storage= and MaxLevelStore= in journald.conf(5)";
            say(Severity::Err, what, Some(remedy));
        }
        if let Some((standing, why)) = &self.homes_unkept {
            let what =
                format!("key files that no grant backs stand, since their bytes cannot be kept: {standing}: {why}");
            let remedy = "make room on the disk that holds /var/lib/lockdownd; they are tried again by themselves";
            say(Severity::Crit, what, Some(remedy));
        }
        for hanging in self.hanging_homes() {
            let what = format!("{hanging} does not answer: keys there are neither looked for nor removed");
            let remedy = "see what keeps it: findmnt, the file server, journalctl -k; it is looked at once it answers";
            say(Severity::Crit, what, Some(remedy));
        }
        for what in self.core.store_problems() {
            let remedy =
                "make room in /run (df -h /run), or end what nobody needs; it is tried again every few seconds";
            say(Severity::Crit, what, Some(remedy));
        }
        for kept_out in self.core.obstacles().iter().filter(|obstacle| obstacle.keeps_all_out) {
            say(Severity::Crit, kept_out.told.clone(), None);
        }
        if self.core.enforces() {
            for obstacle in self.core.obstacles().iter().filter(|obstacle| !obstacle.keeps_all_out) {
                say(Severity::Crit, format!("enforce is weakened: {}", obstacle.told), None);
            }
        } else if self.core.config.mode == control::Mode::Enforce {
            let what = "the configuration says enforce, and this host only observes";
            let remedy = match self.core.obstacles().is_empty() {
                true => "nothing that is known stands in its way any more: it is being put in force",
                false => "lockdownctl plan lists what stands in the way",
            };
            say(Severity::Crit, what.to_owned(), Some(remedy));
        }
        let stays = |session: &&Session| session.ending.as_ref().is_some_and(|end| end.tries >= QUICK_TRIES);
        for session in self.core.sessions.live().iter().filter(stays).take(MAX_LISTED) {
            let what = format!(
                "the connection of process {} to {} is to end, and cannot be ended; it is tried every second",
                session.monitor.pid, session.account
            );
            say(Severity::Err, what, Some("journalctl -u lockdownd says why; a process in state D waits for its disk"));
        }
        for given_up in self.core.jobs.failed() {
            say(Severity::Err, given_up.to_owned(), Some("journalctl -u lockdownd says more; it is tried again"));
        }
        if let Some((since, long)) = self.core.not_whole_since(now) {
            for what in self.core.not_seen_whole() {
                let what = format!("not seen whole since {since:.0}, and taken to be as it was before: {what}");
                let severity = if long { Severity::Crit } else { Severity::Err };
                say(severity, what, Some("mend it; it is looked at again by itself"));
            }
        }
        for (account, other) in self.kept_out_by_user_id() {
            let remedy = format!("give {account} a user id of its own (usermod -u)");
            let what =
                format!("nobody is let in to {account}, which people have grants on: it has the user id of {other}");
            say(Severity::Err, what, Some(&remedy));
        }
        for grant in &self.core.checks.not_honoured {
            say(Severity::Warning, grant.clone(), None);
        }
        for (account, until) in self.core.retired.kept() {
            let remedy = format!("name it in accounts.exempt again, or: lockdownctl quarantine now {account}");
            let what =
                format!("{account} is not exempt any more: its keys let nobody in, and are kept until {until:.0}");
            say(Severity::Warning, what, Some(&remedy));
        }
        for session in self.core.no_longer_exempt().take(MAX_LISTED) {
            let remedy = format!("lockdownctl revoke {}, or a lockdown, ends it", session.id);
            let what = format!(
                "the connection of process {} to {} goes on without a grant: the account was exempt when it began, and is no more",
                session.monitor.pid, session.account
            );
            say(Severity::Warning, what, Some(&remedy));
        }
        if let Some(full) = self.core.recorder.known().and_then(|known| known.full) {
            say(Severity::Crit, format!("no new grant is given: {full}"), Some(full.remedy()));
        }
        for key in self.core.receipts.other_keys() {
            let remedy = "if the server has a new key: put it into ship.api.receipt_keys and reload; else find out who signs in its name";
            let what =
                format!("a receipt is signed by {key}, which is not the server's key as {}", self.core.trusted_by());
            say(Severity::Err, what, Some(remedy));
        }
        if let Some(open) = self.core.ways.open().filter(|open| self.core.enforces() && *open > 0) {
            let remedy = "lockdownctl ways-in lists them, each with the line that closes it";
            say(Severity::Warning, format!("ways in are open to logins without a grant: {open}"), Some(remedy));
        }
        for (severity, what, remedy) in self.core.stack_view(now).iter().flat_map(|stack| stack_problems(stack, now)) {
            say(severity, what, Some(remedy));
        }
        for Problem { severity, what, remedy } in self.feeds_out_of_reach(now.wall) {
            say(severity, what, remedy.as_deref());
        }
        if let Some(name) = self.next_name() {
            let remedy = "systemctl restart lockdownd, when that may happen; or put the old name back and reload";
            say(Severity::Warning, format!("host.name has changed: {}", renamed(&name)), Some(remedy));
        }
        if let Some(why) = &self.core.config_state.refused {
            let remedy = "mend it, then systemctl reload lockdownd";
            say(Severity::Err, format!("the configuration was refused: {why}"), Some(remedy));
        }
        problems
    }

    /// The accounts with grants into which nobody is let, since they have the user id of the other one.
    fn kept_out_by_user_id(&self) -> BTreeMap<&Account, &Account> {
        let given = self.core.grants.open_ones().map(|grant| &grant.account);
        let rendered = self.core.config.rendered.iter().map(|grant| &grant.account);
        given.chain(rendered).filter_map(|account| Some((account, self.core.kept_for(account)?))).collect()
    }

    /// Looks through the ledger for matching records beside the main thread, a bounded stretch at a time: `after` says how far
    /// it got.
    pub(crate) fn read_records(&mut self, asked: Records, token: Token, now: Now) {
        let Some(ledger) = self.ledger.as_ref().cloned() else {
            return self.answer(token, Err(self.core.records_not_read()));
        };
        self.begin_job(Kind::Records, Some(token), now, move || Brought::Answer(records_in(&ledger, &asked)));
    }
}

fn records_in(ledger: &View, asked: &Records) -> Response {
    let stretch = ledger
        .lines_after(asked.after, MAX_STRETCH)
        .map_err(|error| Refusal::new(RefusalCode::Failed, format!("the ledger cannot be read: {error}")))?;
    let (mut lines, mut bytes, mut after) = (Vec::new(), 0, asked.after);
    for line in stretch {
        let Ok(record) = Record::parse(line.as_bytes()) else { continue };
        if wanted(&record, asked) {
            if lines.len() >= asked.limit as usize || bytes + line.len() > MAX_RECORDS_BYTES {
                break;
            }
            bytes += line.len();
            lines.push(line.trim_end().to_owned());
        }
        after = record.seq();
    }
    let more = after < ledger.head.seq;
    Ok(Answer::Records(RecordsAnswer { lines, after, more, ledger: ledger.id.clone() }))
}

fn wanted(record: &Record, asked: &Records) -> bool {
    asked.since.is_none_or(|since| record.time() >= since)
        && asked.until.is_none_or(|until| record.time() < until)
        && (asked.kinds.is_empty() || record.kind().is_some_and(|kind| asked.kinds.contains(&kind)))
        && asked.grant.as_ref().is_none_or(|grant| record.text("grant") == Some(grant.as_str()))
        && asked.person.as_ref().is_none_or(|person| record.text("person") == Some(person.as_str()))
        && asked.account.as_ref().is_none_or(|account| {
            // A backslash is doubled in records: CORP\\jane.
            record.text("account") == Some(record::escape(account.as_str().as_bytes()).as_str())
        })
}
