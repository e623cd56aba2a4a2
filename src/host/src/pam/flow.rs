//! Every way through a stack: which of them end well, and which of those without having come to a given line.

use std::collections::BTreeSet;

use super::{
    Step,
    parse::{Action, Line, Stack, VALUES},
};

/// The first line before `gate` from which some result leads past it: to the end of the stack, or beyond the gate's
/// first line. Every module may return anything, but for those whose whole purpose is to return one thing.
pub(super) fn first_bypass<'s>(stack: &'s Stack, gate: usize, service: &str, step: Step) -> Option<&'s Line> {
    let mut to_visit = BTreeSet::from([0]);
    while let Some(index) = to_visit.pop_first() {
        if index == gate {
            continue;
        }
        let line = &stack.lines[index];
        for action in outcomes(line, service, step) {
            let next = match action {
                Action::Die => end_of_substack(stack, index).filter(|_| line.depth > 0),
                Action::Done if line.depth == 0 => return Some(line),
                Action::Done => end_of_substack(stack, index),
                Action::Jump(count) => jump(stack, index, count),
                Action::Ignore | Action::Ok | Action::Bad | Action::Reset => Some(index + 1),
            };
            match next {
                Some(next) if next > gate => return Some(line),
                Some(next) => {
                    to_visit.insert(next);
                }
                None => {}
            }
        }
    }
    None
}

/// The line because of which no way through the stack ends well, if none does. `is_there` tells whether a line's module is.
pub(super) fn must_fail<'s>(stack: &'s Stack, is_there: &impl Fn(&Line) -> bool) -> Option<&'s Line> {
    if stack.lines.is_empty() {
        return None;
    }
    let mut culprit: Option<usize> = None;
    let mut seen = BTreeSet::new();
    // Whether something has counted as well so far.
    let mut to_visit = vec![(0, false)];
    while let Some((index, counted)) = to_visit.pop() {
        if !seen.insert((index, counted)) {
            continue;
        }
        let Some(line) = stack.lines.get(index) else {
            if counted {
                return None;
            }
            continue;
        };
        let mut goes_on = false;
        for action in possible(line, is_there) {
            let next = match action {
                Action::Bad | Action::Die => continue,
                Action::Done if line.depth == 0 => return None,
                Action::Done => end_of_substack(stack, index).map(|next| (next, true)),
                Action::Jump(count) => jump(stack, index, count).map(|next| (next, counted)),
                Action::Ok => Some((index + 1, true)),
                Action::Reset => Some((index + 1, false)),
                Action::Ignore => Some((index + 1, counted)),
            };
            goes_on |= next.is_some();
            to_visit.extend(next);
        }
        if !goes_on {
            culprit = Some(culprit.map_or(index, |other| other.min(index)));
        }
    }
    stack.lines.get(culprit.unwrap_or(stack.lines.len() - 1))
}

/// What a line may lead to, in any service.
fn possible(line: &Line, is_there: &impl Fn(&Line) -> bool) -> Vec<Action> {
    if line.module.is_empty() || is_there(line) {
        return outcomes(line, "", Step::Session);
    }
    let unknown = VALUES.iter().position(|value| *value == "module_unknown");
    unknown.map(|index| line.control.0[index]).into_iter().collect()
}

/// A test for at's daemon, under which no program that PAM runs can be waited for (Debian 12's ignores SIGCHLD): the gate
/// would not let a job of anybody's run.
const IS_AT: [&str; 4] = ["quiet", "service", "=", AT];
/// The PAM service of at's daemon.
const AT: &str = "atd";

/// What a line may lead to.
fn outcomes(line: &Line, service: &str, step: Step) -> Vec<Action> {
    let returns = |value: &str| match line.module.as_str() {
        "pam_permit.so" => value == "success",
        "pam_deny.so" => matches!(value, "auth_err" | "acct_expired" | "session_err" | "cred_err"),
        // An sshd that is told to take that service's stack does pass the gate.
        "pam_succeed_if.so" if line.args == IS_AT && service != AT => value != "success",
        _ => true,
    };
    // An expired password, told by Debian's own `new_authtok_reqd=done`, does end the account step before the gate; then
    // sshd goes on to the session step, where the gate alone decides.
    let expired = |value: &str| step == Step::Account && value == "new_authtok_reqd";
    let possible = VALUES.iter().zip(&line.control.0).filter(|(value, _)| returns(value));
    possible
        .filter(|(value, action)| !(expired(value) && **action == Action::Done))
        .map(|(_, action)| *action)
        .collect()
}

/// The line after the substack that this one is in. The stack's end is none: then the substack was all there is.
fn end_of_substack(stack: &Stack, index: usize) -> Option<usize> {
    let depth = stack.lines[index].depth;
    let after = stack.lines[index..].iter().position(|line| line.depth < depth);
    Some(after.map_or(stack.lines.len(), |offset| index + offset))
}

/// Where leaving out `count` modules leads; a substack counts as one. `None` where libpam fails for want of modules.
fn jump(stack: &Stack, index: usize, count: usize) -> Option<usize> {
    let depth = stack.lines[index].depth;
    let mut at = index + 1;
    for _ in 0..count {
        if stack.lines.get(at).is_none_or(|line| line.depth < depth) {
            return None;
        }
        at += 1;
        at += stack.lines[at..].iter().take_while(|line| line.depth > depth).count();
    }
    Some(at)
}
