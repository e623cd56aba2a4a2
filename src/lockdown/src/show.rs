//! Documents in words, every member of them: what is signed has been shown. No I/O.

use document::{
    Body, Document, Feed, Grant, Hosts, Lift, Lockdown, Member, Revoke, Roster, Rule, Run, Session, Signer, Who,
    roster::{Approver, Feeder},
};
use jiff::Timestamp;
use record::format_duration;
use terminal::{
    moment::{absolute, both},
    paint::{Paint, Tone},
    plain,
};

use crate::known::{Closing, Known};

/// A label and what stands beside it.
pub(crate) type Row = (&'static str, String);

/// What a document says, member by member; but for a roster, which has [`lines`].
pub(crate) fn rows(document: &Document, known: Option<&Known>, now: Timestamp) -> Vec<Row> {
    match document.body() {
        Body::Grant(grant) => of_grant(grant, known, now),
        Body::Revoke(Revoke { grant, issued_at, organization, reason, kind: _, v: _ }) => vec![
            ("revoke", format!("of grant {grant}")),
            ("reason", reason.to_string()),
            ("issued", issued(*issued_at, organization)),
        ],
        Body::Lockdown(lockdown) => of_lockdown(lockdown, now),
        Body::Lift(Lift { issued_at, lockdown, organization, reason, kind: _, v: _ }) => {
            let what = known.and_then(|known| known.lockdown(*lockdown));
            let what = what.map(|closing| format!(" ({})", in_short(closing, now))).unwrap_or_default();
            vec![
                ("lift", format!("of lockdown {lockdown}{what}")),
                ("reason", reason.to_string()),
                ("issued", issued(*issued_at, organization)),
            ]
        }
        Body::Session(Session { issued_at, nonce, organization, origin, kind: _, v: _ }) => vec![
            ("sign in", format!("to {origin}, to read for an hour")),
            ("nonce", nonce.to_string()),
            ("issued", issued(*issued_at, organization)),
        ],
        Body::Feed(Feed { count, head, issued_at, organization, stack, kind: _, v: _ }) => vec![
            ("feed", format!("of the stack {stack}: {count} documents, {head}")),
            ("issued", issued(*issued_at, organization)),
        ],
        Body::Run(Run {
            automatic,
            failed,
            holds,
            issued_at,
            organization,
            proposed,
            source,
            kind: _,
            users,
            v: _,
        }) => {
            let mut lines =
                vec![("run", format!("of {source}: {users} people, {} holds, {proposed} proposed", holds.len()))];
            lines.extend(automatic.map(|version| ("automatic", format!("roster {version}"))));
            lines.extend(failed.as_ref().map(|why| ("failed", why.to_string())));
            lines.push(("issued", issued(*issued_at, organization)));
            lines
        }
        Body::Roster(roster) => {
            vec![
                ("roster", format!("version {}", roster.version)),
                ("issued", issued(roster.issued_at, &roster.organization)),
            ]
        }
    }
}

fn issued(at: document::Moment, organization: &document::Organization) -> String {
    format!("{}, for {organization}", absolute(at.timestamp()))
}

fn of_grant(grant: &Grant, known: Option<&Known>, now: Timestamp) -> Vec<Row> {
    let Grant {
        accept_until,
        account,
        after,
        approvals,
        expires_at,
        fingerprints,
        from,
        hosts,
        issued_at,
        organization,
        person,
        reason,
        roster,
        stack,
        starts_at,
        kind: _,
        v: _,
    } = grant;
    let mut rows = vec![
        ("grant", format!("{person} may log in as {account}")),
        ("stack", stack.to_string()),
        ("hosts", hosts_in_words(Some(hosts))),
        ("begins", both(starts_at.timestamp(), now)),
        ("ends", format!("{}, after {}", both(expires_at.timestamp(), now), format_duration(grant.duration()))),
        ("from", if from.is_empty() { "anywhere".to_owned() } else { joined(from) }),
        ("keys", joined(fingerprints)),
        ("reason", reason.to_string()),
        ("approvals", format!("{}, by roster {roster}", approvals.number())),
        ("taken up", format!("until {}", both(accept_until.timestamp(), now))),
    ];
    for id in after {
        let what = known.and_then(|known| known.lockdown(*id));
        let what = what.map(|closing| format!(" ({})", in_short(closing, now))).unwrap_or_default();
        rows.push(("in spite of", format!("lockdown {id}{what}")));
    }
    rows.push(("issued", issued(*issued_at, organization)));
    rows
}

fn of_lockdown(lockdown: &Lockdown, now: Timestamp) -> Vec<Row> {
    let Lockdown { fingerprint, hold, hosts, issued_at, organization, person, reason, stack, kind: _, v: _ } = lockdown;
    let _ = now;
    let whose = match (person, fingerprint) {
        (None, None) => "every grant and every granted session".to_owned(),
        (Some(person), None) => format!("what {person} has, and what uses a key of theirs"),
        (None, Some(key)) => format!("what uses the key {key}"),
        (Some(person), Some(key)) => {
            format!("what {person} has, what uses a key of theirs, and what uses the key {key}")
        }
    };
    let then = if *hold { "nobody in scope gets in by any grant until a lift" } else { "new grants open again" };
    vec![
        ("lockdown", format!("ends {whose}")),
        ("stack", if stack.is_any() { "every stack".to_owned() } else { stack.to_string() }),
        ("hosts", hosts_in_words(hosts.as_ref())),
        ("after it", then.to_owned()),
        ("reason", reason.to_string()),
        ("issued", issued(*issued_at, organization)),
    ]
}

fn hosts_in_words(hosts: Option<&Hosts>) -> String {
    match hosts {
        None | Some(Hosts::All) => "all".to_owned(),
        Some(Hosts::Named(hosts)) => joined(hosts),
    }
}

fn joined<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

/// A lockdown in a line.
pub(crate) fn in_short(closing: &Closing, now: Timestamp) -> String {
    let Closing { lockdown, signers } = closing;
    let whose = match (&lockdown.person, &lockdown.fingerprint) {
        (None, None) => "everybody".to_owned(),
        (person, key) => {
            let person = person.iter().map(ToString::to_string);
            person.chain(key.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" and ")
        }
    };
    let hosts = match &lockdown.hosts {
        Some(Hosts::Named(hosts)) => format!(" on {}", joined(hosts)),
        _ => String::new(),
    };
    let by = by_whom(signers);
    let hold = if lockdown.hold { ", holds" } else { "" };
    let when = terminal::moment::relative(lockdown.issued_at.timestamp(), now);
    format!("{whose} of {}{hosts}{hold}, by {by}, {when}: {}", lockdown.stack, lockdown.reason)
}

/// Who signed, in words.
pub(crate) fn by_whom(signers: &[Signer]) -> String {
    let name = |signer: &Signer| match &signer.who {
        Who::Feeder(source) => format!("the feeder of {source}"),
        Who::Automatic => "an automatic key".to_owned(),
        who => who.person().map_or_else(String::new, ToString::to_string),
    };
    let mut names: Vec<String> = signers.iter().map(name).collect();
    names.dedup();
    if names.is_empty() { "nobody known".to_owned() } else { names.join(", ") }
}

/// Rows as lines, each value behind the longest label.
pub(crate) fn render(rows: &[Row], paint: Paint) -> String {
    let indent = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 4;
    let line = |(label, value): &Row| {
        let label = paint.tone(Tone::Quiet, &format!("  {label:width$}", width = indent - 2));
        format!("{label}{}\n", paint.wrap(&plain(value), indent))
    };
    rows.iter().map(line).collect()
}

/// A roster as one line for each thing that it says: what two rosters differ in are the lines that only one has.
pub(crate) fn lines(roster: &Roster) -> Vec<String> {
    let Roster {
        approvers,
        expires_at,
        feeders,
        holds,
        issued_at: _,
        organization,
        people,
        rules,
        kind: _,
        v: _,
        version: _,
    } = roster;
    let mut lines = vec![format!("organization {organization}"), format!("expires {expires_at}")];
    people.iter().for_each(|member| of_member(member, &mut lines));
    for Approver { accounts, keys, person, stacks } in approvers {
        lines.push(format!("approver {person}: stacks {}; accounts {}", joined(stacks), joined(accounts)));
        lines.extend(keys.iter().map(|key| format!("approver {person}: key {} {key}", key.fingerprint())));
    }
    for rule in rules {
        let Rule { account, approvals, approve_with, login_with, max_seconds: _, stack } = rule;
        let login_with = serde_json::to_value(login_with).ok().and_then(|word| word.as_str().map(str::to_owned));
        lines.push(format!(
            "rule for {account} on {stack}: approvals {}, with {approve_with}; logs in with {}; at most {}",
            approvals.number(),
            login_with.unwrap_or_default(),
            format_duration(rule.longest()),
        ));
    }
    lines.extend(
        feeders.iter().map(|Feeder { key, source }| format!("feeder of {source}: key {} {key}", key.fingerprint())),
    );
    lines.extend(holds.iter().map(|id| format!("holds {id}")));
    lines
}

fn of_member(member: &Member, lines: &mut Vec<String>) {
    let Member { accounts, iam, keys, name, source } = member;
    lines.push(format!("person {name}: from {source}"));
    if let Some(user) = iam {
        let place = user.arn.as_ref().map(|arn| format!(", account {}, {arn}", arn.account())).unwrap_or_default();
        lines.push(format!("person {name}: in IAM {} ({}{place})", user.name, user.id));
    }
    lines.extend(keys.iter().map(|key| format!("person {name}: key {} {key}", key.fingerprint())));
    for (stack, accounts) in accounts {
        lines.push(format!("person {name}: on {stack} {}", joined(accounts)));
    }
}

/// What one roster has and another one has not, both ways.
pub(crate) fn difference(held: Option<&Roster>, new: &Roster) -> Vec<(Change, String)> {
    let (before, after) = (held.map(lines).unwrap_or_default(), lines(new));
    let old: std::collections::BTreeSet<&String> = before.iter().collect();
    let now: std::collections::BTreeSet<&String> = after.iter().collect();
    let gone = before.iter().filter(|line| !now.contains(line)).map(|line| (Change::Gone, line.clone()));
    let come = after.iter().filter(|line| !old.contains(line)).map(|line| (Change::New, line.clone()));
    gone.chain(come).collect()
}

/// Whether a line is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was there.
    Gone,
    /// It was not.
    New,
}

/// A difference as lines.
pub(crate) fn render_difference(changes: &[(Change, String)], paint: Paint) -> String {
    let line = |(change, text): &(Change, String)| {
        let (mark, tone) = match change {
            Change::Gone => ('-', Tone::Bad),
            Change::New => ('+', Tone::Good),
        };
        format!("  {}\n", paint.tone(tone, &format!("{mark} {}", plain(text))))
    };
    changes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use document::Document;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    /// The rows of a line as text.
    fn shown(line: &str) -> String {
        render(&rows(&Document::parse(line).unwrap(), None, now()), Paint::NONE)
    }

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const KEY: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn every_member_of_a_grant_is_shown() {
        let line = format!(
            r#"{{"accept_until":"2026-11-30T13:01:00Z","account":"ubuntu","after":["{ID}"],"approvals":3,"expires_at":"2026-11-30T14:02:00Z","fingerprints":["{KEY}"],"from":["10.0.0.0/8"],"hosts":["i-1","i-2"],"issued_at":"2026-11-30T12:00:00Z","organization":"acme","person":"frank","reason":"Zoë's \"INC-42\"","roster":17,"stack":"web","starts_at":"2026-11-30T12:30:00Z","type":"grant","v":1}}"#
        );
        let text = shown(&line);
        for said in [
            "13:01:00",
            "ubuntu",
            ID,
            "3, by roster 17",
            "14:02:00",
            "after 1h32m",
            KEY,
            "10.0.0.0/8",
            "i-1, i-2",
            "12:00:00",
            "acme",
            "frank",
            "Zoë's \"INC-42\"",
            "web",
            "12:30:00 UTC (in 30 min)",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn every_member_of_what_closes_is_shown() {
        let lockdown = format!(
            r#"{{"fingerprint":"{KEY}","hold":true,"hosts":["i-1"],"issued_at":"2026-11-30T12:00:00Z","organization":"acme","person":"frank","reason":"stolen","stack":"*","type":"lockdown","v":1}}"#
        );
        let revoke = format!(
            r#"{{"grant":"{ID}","issued_at":"2026-11-30T12:00:00Z","organization":"acme","reason":"done","type":"revoke","v":1}}"#
        );
        let lift = format!(
            r#"{{"issued_at":"2026-11-30T12:00:00Z","lockdown":"{ID}","organization":"acme","reason":"over","type":"lift","v":1}}"#
        );
        for (line, all) in [
            (lockdown, &[KEY, "until a lift", "i-1", "12:00:00", "acme", "frank", "stolen", "every stack"][..]),
            (revoke, &[ID, "12:00:00", "acme", "done"]),
            (lift, &[ID, "12:00:00", "acme", "over"]),
        ] {
            let text = shown(&line);
            all.iter().for_each(|said| assert!(text.contains(said), "{said}: {text}"));
        }
    }

    #[test]
    fn rosters_differ_in_the_lines_that_only_one_has() {
        let line = |reason: &str, change: Change| (change, reason.to_owned());
        let text = render_difference(&[line("person a\x1b", Change::New), line("person b", Change::Gone)], Paint::NONE);
        assert_eq!(text, "  + person a\\x1b\n  - person b\n");
    }
}
