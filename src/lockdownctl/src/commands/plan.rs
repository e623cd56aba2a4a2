//! `plan`: what enforce would change now, and why.

use control::{Answer, Change, ChangeKind, Exit, Mode, PlanAnswer, Request};

use super::{Context, count, left_off};
use crate::{
    ask::Failure,
    output::{Done, bullets, plain, show},
    paint::Paint,
};

/// Shows it; exit status 1 if something stands in the way.
pub(crate) fn run(context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Plan)? {
        Answer::Plan(answer) => {
            let exit = if answer.obstacles.is_empty() { Exit::Done } else { Exit::Refused };
            Ok(show(context.json, &answer, |answer| words(answer, context.paint)).exiting(exit))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &PlanAnswer, paint: Paint) -> String {
    let mut text = match answer.mode {
        Mode::Observe => "mode observe: nothing is changed. Enforce would\n",
        Mode::Enforce => "mode enforce: the next sweep would\n",
    }
    .to_owned();
    for change in &answer.changes {
        text.push_str(&line(change, paint));
    }
    if answer.changes.is_empty() && answer.left_off == 0 {
        text.push_str("  change nothing\n");
    }
    text.push_str(&left_off(answer.left_off));
    if !answer.notes.is_empty() {
        text.push_str(&format!(
            "Worth knowing: {}\n{}",
            count(answer.notes.len(), "thing"),
            bullets(&answer.notes, paint)
        ));
    }
    let things = count(answer.obstacles.len(), "thing");
    match (answer.mode, answer.obstacles.is_empty()) {
        (Mode::Observe, true) => {
            text.push_str("Nothing stands in the way of enforce. To try it: lockdownctl enforce --for 10m\n")
        }
        (Mode::Enforce, true) => {}
        (Mode::Observe, false) => text.push_str(&format!("In the way of enforce: {things}\n")),
        (Mode::Enforce, false) => text.push_str(&format!("Broken since enforce began: {things}\n")),
    }
    text + &bullets(&answer.obstacles, paint)
}

fn line(change: &Change, paint: Paint) -> String {
    let mut text = verb(change.kind).to_owned();
    for part in [
        change.account.as_ref().map(|account| format!(" of {account}")),
        change.path.as_ref().map(|path| format!(" {path}")),
        change.session.as_ref().map(|session| format!(" {session}")),
    ]
    .into_iter()
    .flatten()
    {
        text.push_str(&part);
    }
    text = format!("  {}\n", paint.wrap(&plain(&format!("{text}: {}", change.why)), 6));
    for fingerprint in &change.fingerprints {
        text.push_str(&format!("      {fingerprint}\n"));
    }
    text
}

fn verb(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::RemoveKeyFile => "remove key file",
        ChangeKind::WriteStore => "write the stored keys",
        ChangeKind::ClearStore => "clear the stored keys",
        ChangeKind::WriteDropIn => "write sshd's drop-in",
        ChangeKind::EndSession => "end session",
        ChangeKind::RefuseLogins => "refuse logins",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::*;

    fn plan(mode: Mode) -> PlanAnswer {
        PlanAnswer { mode, obstacles: Vec::new(), changes: Vec::new(), left_off: 0, notes: Vec::new() }
    }

    #[test]
    fn changes_and_obstacles_each_say_why_and_the_status_is_1() {
        let change = Change {
            kind: ChangeKind::RemoveKeyFile,
            account: Some("ubuntu".parse().unwrap()),
            path: Some("/home/ubuntu/.ssh/authorized_keys".to_owned()),
            fingerprints: vec![format!("SHA256:{}", "A".repeat(43)).parse().unwrap()],
            session: None,
            why: "no grant backs its keys".to_owned(),
        };
        let obstacle = "UsePAM is off: set UsePAM yes".to_owned();
        let answer = PlanAnswer { obstacles: vec![obstacle], changes: vec![change], ..plan(Mode::Observe) };
        let (_, done) = against(vec![Ok(Answer::Plan(answer))], run);
        let done = done.unwrap();
        assert_eq!(
            done.text,
            format!(
                "mode observe: nothing is changed. Enforce would\n  \
                 remove key file of ubuntu /home/ubuntu/.ssh/authorized_keys: no grant backs its keys\n      \
                 SHA256:{}\nIn the way of enforce: 1 thing\n  - UsePAM is off: set UsePAM yes\n",
                "A".repeat(43)
            )
        );
        assert_eq!(done.exit, Exit::Refused);
    }

    #[test]
    fn a_host_in_order_has_nothing_to_change() {
        assert_eq!(words(&plan(Mode::Enforce), Paint::NONE), "mode enforce: the next sweep would\n  change nothing\n");
        assert!(words(&plan(Mode::Observe), Paint::NONE).contains("Nothing stands in the way of enforce"));
    }
}
