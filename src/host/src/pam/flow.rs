//! Every way through a stack: which of them end well without having come to a given line.

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
