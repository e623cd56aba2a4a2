//! `break-glass`: whether whoever comes to the rescue gets in.

use control::{Answer, BreakGlassAnswer, Exit, Request};

use super::Context;
use crate::{
    ask::Failure,
    cli::{self, BreakGlassCommand},
    output::{Done, bullets, plain, show},
    paint::Paint,
};

/// Tries it; exit status 1 if somebody would not get in.
pub(crate) fn run(args: &cli::BreakGlass, context: &Context<'_>) -> Result<Done, Failure> {
    let BreakGlassCommand::Test = args.command;
    match context.ask(&Request::BreakGlassTest)? {
        Answer::BreakGlass(answer) => {
            let exit = if answer.is_good() { Exit::Done } else { Exit::Refused };
            Ok(show(context.json, &answer, |answer| words(answer, context.paint)).exiting(exit))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &BreakGlassAnswer, paint: Paint) -> String {
    let mut text = String::new();
    if answer.accounts.is_empty() {
        text.push_str("no account is exempt: name one in accounts.exempt\n");
    }
    for one in &answer.accounts {
        let said = match &one.why {
            None => format!("{} could log in", one.account),
            Some(why) => format!("{} could not log in: {why}", one.account),
        };
        text.push_str(&format!("{}\n", paint.wrap(&plain(&said), 2)));
        text.extend(one.keys.iter().map(|key| format!("  by {key}\n")));
        text.push_str(&bullets(&one.notes, paint));
    }
    if !answer.problems.is_empty() {
        text.push_str("In the way:\n");
        text.push_str(&bullets(&answer.problems, paint));
    }
    if !answer.notes.is_empty() {
        text.push_str("Worth knowing:\n");
        text.push_str(&bullets(&answer.notes, paint));
    }
    text
}

#[cfg(test)]
mod tests {
    use control::BreakGlassView;

    use super::*;
    use crate::commands::testing::*;

    fn view(account: &str, why: Option<&str>) -> BreakGlassView {
        let key = format!("SHA256:{}", "A".repeat(43)).parse().unwrap();
        BreakGlassView {
            account: account.parse().unwrap(),
            keys: if why.is_none() { vec![key] } else { Vec::new() },
            why: why.map(str::to_owned),
            notes: Vec::new(),
        }
    }

    fn tried(answer: BreakGlassAnswer) -> Done {
        let args = cli::BreakGlass { command: BreakGlassCommand::Test };
        let (asked, done) = against(vec![Ok(Answer::BreakGlass(answer))], |context| run(&args, context));
        assert_eq!(asked, [Request::BreakGlassTest]);
        done.unwrap()
    }

    #[test]
    fn the_status_is_0_only_where_every_one_could_log_in() {
        let good = BreakGlassAnswer { accounts: vec![view("breakglass", None)], problems: vec![], notes: vec![] };
        let done = tried(good.clone());
        assert_eq!(done.text, format!("breakglass could log in\n  by SHA256:{}\n", "A".repeat(43)));
        assert_eq!(done.exit, Exit::Done);
        let one_out = vec![view("breakglass", None), view("rescue", Some("its shell is gone"))];
        let done = tried(BreakGlassAnswer { accounts: one_out, ..good.clone() });
        assert!(done.text.contains("rescue could not log in: its shell is gone\n"), "{}", done.text);
        assert_eq!(done.exit, Exit::Refused);
        assert_eq!(tried(BreakGlassAnswer { problems: vec!["x".into()], ..good.clone() }).exit, Exit::Refused);
        assert_eq!(tried(BreakGlassAnswer { accounts: vec![], ..good }).exit, Exit::Refused);
    }
}
