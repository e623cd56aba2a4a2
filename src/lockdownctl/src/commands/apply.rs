//! `apply`: a signed document from root's hand.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use control::{Answer, ApplyAnswer, ApplyOutcome, Exit, Request, frame::MAX_FRAME};

use super::Context;
use crate::{
    ask::Failure,
    cli,
    output::{Done, bullets, plain, show},
};

/// The most that a document may have here, in bytes: inside a request each quote is escaped, and some are twice.
const MAX_FILE: u64 = MAX_FRAME as u64;

/// Brings it.
pub(crate) fn run(args: &cli::Apply, context: &Context<'_>) -> Result<Done, Failure> {
    let envelope = read(&args.file)?;
    match context.ask(&Request::Apply(control::Apply { envelope }))? {
        Answer::Apply(answer) => {
            let exit = match answer.outcome {
                ApplyOutcome::Accepted | ApplyOutcome::Known => Exit::Done,
                ApplyOutcome::Waits | ApplyOutcome::Refused => Exit::Refused,
            };
            Ok(show(context.json, &answer, |answer| words(answer, context)).exiting(exit))
        }
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &ApplyAnswer, context: &Context<'_>) -> String {
    let ApplyAnswer { document, kind, outcome, why, notes, .. } = answer;
    let became = match outcome {
        ApplyOutcome::Accepted => "in force",
        ApplyOutcome::Known => "known",
        ApplyOutcome::Waits => "not taken now",
        ApplyOutcome::Refused => "refused",
    };
    let short = document.get(..12).unwrap_or(document);
    let line = format!("{kind} {short}: {became}: {}", plain(why));
    format!("{}\n{}", context.paint.wrap(&line, 2), bullets(notes, context.paint))
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::here(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().take(MAX_FILE + 1).read_to_string(&mut text),
        _ => File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)),
    };
    read.map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        let failure = Failure::here(format!("{} has more than {MAX_FILE} bytes", path.display()));
        return Err(failure.but("a roster of that size comes by a feed: [stack] feeds in config.toml"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::*;

    #[test]
    fn what_became_of_a_document_is_said_and_decides_the_exit_status() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        for (outcome, exit, said) in [
            (ApplyOutcome::Accepted, Exit::Done, "revoke aaaaaaaaaaaa: in force: ana revoked it\n  - a note\n"),
            (ApplyOutcome::Refused, Exit::Refused, "revoke aaaaaaaaaaaa: refused: ana revoked it\n  - a note\n"),
        ] {
            let answer = ApplyAnswer {
                document: "a".repeat(64),
                kind: "revoke".to_owned(),
                outcome,
                why: "ana revoked it".to_owned(),
                grant: None,
                notes: vec!["a note".to_owned()],
            };
            let args = cli::Apply { file: file.path().to_owned() };
            let (asked, done) = against(vec![Ok(Answer::Apply(Box::new(answer)))], |context| run(&args, context));
            assert_eq!(asked, [Request::Apply(control::Apply { envelope: "{}".to_owned() })]);
            let done = done.unwrap();
            assert_eq!((done.exit, done.text.as_str()), (exit, said));
        }
    }
}
