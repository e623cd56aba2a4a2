//! What people are told of at once: a grant that waits for them, and a lockdown.

use document::{Body, Grant, Lockdown};

use super::{
    deciding::{Decision, Facts},
    judging::parse,
};
use crate::webhook::{Hook, about};

/// Tells of what was just taken.
pub(super) fn tell(hook: &Hook, decision: &Decision) {
    let Ok(envelope) = parse(&decision.document.envelope) else { return };
    let id = decision.document.id.to_string();
    match envelope.document().body() {
        Body::Grant(grant) if decision.document.pending && decision.is_new => {
            let more = [
                ("stack", grant.stack.as_str()),
                ("person", grant.person.as_str()),
                ("account", grant.account.as_str()),
                ("reason", grant.reason.as_str()),
            ];
            hook.tell("request", &request(grant, &decision.facts, &id), about(&id, &more));
        }
        Body::Lockdown(lockdown) if decision.changes => {
            let more = [("stack", lockdown.stack.as_str()), ("reason", lockdown.reason.as_str())];
            hook.tell("lockdown", &locked(lockdown, &decision.facts), about(&id, &more));
        }
        _ => {}
    }
}

fn request(grant: &Grant, facts: &Facts, id: &str) -> String {
    let Grant { person, account, stack, reason, .. } = grant;
    let hours = grant.duration().as_secs().div_ceil(60);
    let for_how_long = format!("for {} h {:02} min", hours / 60, hours % 60);
    let begins = match facts.approvers.as_slice() {
        _ if facts.asked => format!("{person} asks for {account} on {stack} {for_how_long}"),
        by => format!("{} approved {account} on {stack} for {person}, {for_how_long}", by.join(" and ")),
    };
    let missing = facts.needs.saturating_sub(facts.has);
    let takes = if missing == 1 { "1 more approval".to_owned() } else { format!("{missing} more approvals") };
    format!("{begins}: {reason}. It takes {takes}: `lockdown approve {id}`, or `lockdown deny {id}`")
}

fn locked(lockdown: &Lockdown, facts: &Facts) -> String {
    let by = if facts.approvers.is_empty() { "A feeder".to_owned() } else { facts.approvers.join(" and ") };
    let stack = if lockdown.stack.is_any() { "every stack".to_owned() } else { lockdown.stack.to_string() };
    let whom = match (&lockdown.person, &lockdown.fingerprint) {
        (Some(person), _) => format!(" for {person}"),
        (None, Some(key)) => format!(" for the key {key}"),
        (None, None) => String::new(),
    };
    let hold = if lockdown.hold { ", until it is lifted" } else { "" };
    format!("{by} locked {stack} down{whom}{hold}: {}", lockdown.reason)
}
