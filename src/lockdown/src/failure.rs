//! What went wrong, in words that help, and the exit status.

use std::process::ExitCode;

use serde_json::json;
use terminal::{bullets, paint::Paint, plain, pretty};

/// The exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All hosts did it; or it was done here.
    Done = 0,
    /// Refused, or found wrong.
    Refused = 1,
    /// Wrong usage.
    Usage = 2,
    /// Some hosts have not done it yet.
    NotAll = 3,
    /// The server does not answer.
    Unavailable = 69,
    /// The configuration is bad.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One fixed word, for programs.
    pub(crate) code: String,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    pub(crate) exit: Exit,
}

impl Failure {
    /// Refused, or found wrong.
    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), details: Vec::new(), hint: None, exit: Exit::Refused }
    }

    /// What was typed cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::refused("usage", message) }
    }

    /// The server does not answer, or not as it should.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, ..Self::refused("unavailable", message) }
    }

    /// The configuration is bad.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self { exit: Exit::Config, ..Self::refused("config", message) }
    }

    /// The same with another exit status.
    pub(crate) fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Adds what would have worked.
    pub(crate) fn but(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds one more line on what is wrong.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// For people: what is wrong, one thing a line, then what would have worked.
    pub(crate) fn words(&self) -> String {
        let details = bullets(&self.details, Paint::NONE);
        let hint = self.hint.as_ref().map(|hint| format!("  {}\n", plain(hint))).unwrap_or_default();
        format!("lockdown: {}\n{details}{hint}", plain(&self.message))
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let Self { code, message, details, hint, .. } = self;
        pretty(&json!({ "refusal": { "code": code, "message": message, "details": details, "hint": hint } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_every_detail_and_what_would_have_worked() {
        let failure = Failure::refused("unknown_person", "there is no franc\x1b[2J")
            .detail("frank\nis")
            .but("lockdown roster show lists them");
        assert_eq!(
            failure.words(),
            "lockdown: there is no franc\\x1b[2J\n  - frank\\x0ais\n  lockdown roster show lists them\n"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(json["refusal"]["code"], "unknown_person");
        assert!(!failure.json().contains('\x1b'));
    }
}
