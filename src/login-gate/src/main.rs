//! `login-gate`: PAM's question to lockdownd about one SSH login. It reads PAM's environment, asks, prints, and exits:
//! status 0 lets the login go on, anything else ends it.
//!
//! pam_exec(8) runs it as root in the account step and at the opening of a session, never at its close. It never parses
//! configuration, never allows on doubt, and believes no variable that stands twice in its environment, since pam_exec appends
//! its own behind what a user's file may have set.

mod alone;
mod ask;
mod connection;
mod environment;

use std::{
    ffi::OsString,
    io::{self, Write},
    panic,
    process::ExitCode,
};

use control::gate::{Answer, PROBE, PROBED, Step};
use environment::Login;

/// What becomes of the login.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
enum Verdict {
    /// It goes on.
    Pass,
    /// It goes on, and sshd shows this where the person gets a terminal.
    Greet(String),
    /// It ends, and the person is told why.
    Refuse { step: Step, text: String },
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments == [PROBE] {
        let _ = writeln!(io::stdout(), "{PROBED} {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::FAILURE;
    }
    if alone::is_to_leave_note(&arguments) {
        return alone::leave_given_note();
    }
    if let Some(sshd) = connection::to_be_ended(&arguments) {
        return connection::end(sshd);
    }
    let verdict = panic::catch_unwind(decide).unwrap_or_else(|_| Verdict::Refuse {
        step: Step::Session,
        text: "lockdownd's login gate failed, so this login is refused.".to_owned(),
    });
    match verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Greet(text) => {
            // A person who cannot be told gets in all the same.
            let _ = writeln!(io::stdout(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Verdict::Refuse { step, text } => {
            // A person who cannot be told is refused all the same.
            let _ = writeln!(io::stdout(), "{}", text.trim_end());
            if step == Step::Session {
                // sshd keeps a connection whose session PAM refused, with nothing allowed on it. It is to be gone.
                connection::end_soon();
            }
            ExitCode::FAILURE
        }
    }
}

fn decide() -> Verdict {
    match environment::read(std::env::vars_os()) {
        Login::NotOurs => Verdict::Pass,
        Login::Doubtful { step, why } if alone::enforcing() => {
            Verdict::Refuse { step, text: format!("This login is refused: {why}.") }
        }
        Login::Doubtful { .. } => Verdict::Pass,
        Login::Ssh(question) => {
            let exempt = alone::exempt(&question.account);
            match ask::daemon(&question, exempt) {
                Ok(Answer::Allow { text: Some(text) }) if question.step == Step::Session => Verdict::Greet(text),
                Ok(Answer::Allow { .. }) => Verdict::Pass,
                // PAM lets exempt accounts by whatever we say, so their connection must not be ended either.
                Ok(Answer::Refuse { .. }) if exempt => Verdict::Pass,
                Ok(Answer::Refuse { text }) => Verdict::Refuse { step: question.step, text },
                Err(_no_answer) => alone::decide(question),
            }
        }
    }
}
