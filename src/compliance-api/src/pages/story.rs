//! From records to what happened: grants, the sessions on them, and what was refused. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::read::seen::Seen;

/// Which record says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct By {
    pub(super) ledger: String,
    pub(super) seq: i64,
}

/// A grant on one host. What began before the window has no beginning here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) person: Option<String>,
    pub(super) account: Option<String>,
    pub(super) starts: Option<Timestamp>,
    pub(super) expires: Option<Timestamp>,
    /// When it ended, and how: `expired`, `revoked`, `lockdown`, `config`, `identity`.
    pub(super) ended: Option<(Timestamp, String)>,
    pub(super) why: Option<String>,
    pub(super) approvers: Vec<String>,
    pub(super) record: Option<By>,
}

impl Grant {
    /// Whether it was cut off: it ended by somebody's hand, not by its clock.
    pub(super) fn is_cut(&self) -> bool {
        self.ended.as_ref().is_some_and(|(_, how)| how != "expired")
    }

    /// Its end, as far as it is known.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.ended.as_ref().map(|(at, _)| *at).or(self.expires)
    }
}

/// A session. What was opened before the window has no beginning here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) grant: Option<String>,
    pub(super) person: Option<String>,
    pub(super) account: Option<String>,
    pub(super) address: Option<String>,
    pub(super) opened: Option<Timestamp>,
    /// When it ended, and whether this was by the daemon.
    pub(super) ended: Option<(Timestamp, bool)>,
    pub(super) record: Option<By>,
}

/// What happened at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Refused,
    Emergency,
    KeyRemoved,
    Lockdown,
}

/// Something of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) what: What,
    pub(super) at: Timestamp,
    pub(super) host: String,
    pub(super) person: Option<String>,
    pub(super) account: Option<String>,
    pub(super) says: String,
    pub(super) count: u64,
    pub(super) by: By,
}

/// All that happened, each list in order of time.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) grants: Vec<Grant>,
    pub(super) sessions: Vec<Session>,
    pub(super) events: Vec<Event>,
}

/// Types that a story is made of.
pub(super) const KINDS: &[&str] =
    &["grant.*", "session.*", "emergency.login", "key.removed", "login.failed", "lockdown"];

impl Story {
    /// What these records say, which are in order of time.
    pub(super) fn of(records: &[Seen]) -> Self {
        let mut story = Self::default();
        let (mut grants, mut sessions) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            match record.kind.as_str() {
                "grant.created" | "grant.ended" => story.grant(record, &mut grants),
                "session.opened" | "session.closed" | "session.terminated" => story.session(record, &mut sessions),
                "session.refused" | "login.failed" => story.event(record, What::Refused),
                "emergency.login" => story.event(record, What::Emergency),
                "key.removed" => story.event(record, What::KeyRemoved),
                "lockdown" => story.event(record, What::Lockdown),
                _ => {}
            }
        }
        story
    }

    /// Whether nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.sessions.is_empty() && self.events.is_empty()
    }

    /// The grants on which nobody logged in, as far as the records go.
    pub(super) fn unused(&self) -> impl Iterator<Item = &Grant> {
        let is_used =
            |grant: &Grant| self.sessions.iter().any(|s| s.host == grant.host && s.grant.as_ref() == Some(&grant.id));
        self.grants.iter().filter(move |grant| grant.starts.is_some() && !is_used(grant))
    }

    fn grant(&mut self, record: &Seen, known: &mut BTreeMap<(String, String), usize>) {
        let Some(id) = record.text("grant") else { return };
        let at = *known.entry((record.ledger.clone(), id.to_owned())).or_insert_with(|| {
            let host = record.name.clone();
            self.grants.push(Grant { id: id.to_owned(), host, ..Grant::default() });
            self.grants.len() - 1
        });
        let grant = &mut self.grants[at];
        fill(&mut grant.person, record.text("person"));
        fill(&mut grant.account, record.text("account"));
        grant.expires = record.said_at("expires_at").or(grant.expires);
        if record.kind == "grant.ended" {
            let how = record.said("ended").unwrap_or("ended").to_owned();
            grant.ended = Some((record.said_at("at").unwrap_or(record.time), how));
        } else {
            grant.starts = grant.starts.or(record.said_at("starts_at").or(Some(record.time)));
            fill(&mut grant.why, record.said("why"));
            let approvers = record.detail("approvers").and_then(|all| all.as_array()).into_iter().flatten();
            grant.approvers.extend(approvers.filter_map(|name| name.as_str().map(str::to_owned)));
            grant.approvers.dedup();
        }
        grant.record.get_or_insert_with(|| by(record));
    }

    fn session(&mut self, record: &Seen, known: &mut BTreeMap<(String, String), usize>) {
        // What was stated without an id is one by itself.
        let id = record.text("session").map_or_else(|| format!("record {}", record.seq), str::to_owned);
        let at = *known.entry((record.ledger.clone(), id.clone())).or_insert_with(|| {
            self.sessions.push(Session { id, host: record.name.clone(), ..Session::default() });
            self.sessions.len() - 1
        });
        let session = &mut self.sessions[at];
        fill(&mut session.grant, record.text("grant"));
        fill(&mut session.person, record.text("person"));
        fill(&mut session.account, record.text("account"));
        fill(&mut session.address, record.address());
        if record.kind == "session.opened" {
            session.opened = record.said_at("began_at").or(Some(record.time));
        } else {
            session.ended = Some((record.time, record.kind == "session.terminated"));
        }
        session.record.get_or_insert_with(|| by(record));
    }

    fn event(&mut self, record: &Seen, what: What) {
        self.events.push(Event {
            what,
            at: record.time,
            host: record.name.clone(),
            person: record.text("person").map(str::to_owned),
            account: record.text("account").map(str::to_owned),
            says: record.text("reason").unwrap_or_default().to_owned(),
            count: record.count(),
            by: by(record),
        });
    }
}

fn by(record: &Seen) -> By {
    By { ledger: record.ledger.clone(), seq: record.seq }
}

fn fill(place: &mut Option<String>, text: Option<&str>) {
    if place.is_none() {
        *place = text.map(str::to_owned);
    }
}
