//! `enforce --for`: a trial that ends by itself.

use control::{Answer, Request};

use super::Context;
use crate::{
    ask::Failure,
    cli,
    moment::both,
    output::{Done, bullets, show},
};

/// Begins the trial, or prolongs it.
pub(crate) fn run(args: &cli::Enforce, context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::Enforce(control::Enforce { seconds: args.duration.as_secs() }))? {
        Answer::Enforce(answer) => Ok(show(context.json, &answer, |answer| {
            let until = both(answer.until, context.now);
            format!(
                "{}\n{}{}",
                context.paint.wrap(&format!("enforce until {until}, then back to what the configuration says"), 2),
                bullets(&answer.changed, context.paint),
                bullets(&answer.notes, context.paint)
            )
        })),
        _ => Err(Failure::mismatch()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control::EnforceAnswer;

    use super::*;
    use crate::commands::testing::*;

    #[test]
    fn a_trial_says_when_it_ends_and_what_it_changed() {
        let changed = vec!["wrote /etc/ssh/sshd_config.d/00-lockdownd.conf".to_owned()];
        let answer = EnforceAnswer { until: at("2026-11-23T18:10:00Z"), changed, notes: Vec::new() };
        let args = cli::Enforce { duration: Duration::from_secs(600) };
        let (asked, done) = against(vec![Ok(Answer::Enforce(answer))], |context| run(&args, context));
        assert_eq!(asked, [Request::Enforce(control::Enforce { seconds: 600 })]);
        assert_eq!(
            done.unwrap().text,
            "enforce until 2026-11-23 18:10:00 UTC (in 10 min), then back to what the configuration says\n  \
             - wrote /etc/ssh/sshd_config.d/00-lockdownd.conf\n"
        );
    }
}
