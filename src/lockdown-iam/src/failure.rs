//! What went wrong, in words that help, and the exit status.

use std::process::ExitCode;

use terminal::{bullets, paint::Paint, plain};

/// The exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Refused, or found wrong: nothing was changed.
    Refused = 1,
    /// IAM or the server does not answer: nothing was changed.
    Unavailable = 69,
    /// The configuration is bad.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    pub(crate) exit: Exit,
}

impl Failure {
    /// Refused, or found wrong.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), details: Vec::new(), hint: None, exit: Exit::Refused }
    }

    /// Somebody else does not answer, or not as they should.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, ..Self::refused(message) }
    }

    /// The configuration is bad.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self { exit: Exit::Config, ..Self::refused(message) }
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

    /// What is wrong, in a line.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// For people: what is wrong, one thing a line, then what would have worked.
    pub(crate) fn words(&self) -> String {
        let details = bullets(&self.details, Paint::NONE);
        let hint = self.hint.as_ref().map(|hint| format!("  {}\n", plain(hint))).unwrap_or_default();
        format!("lockdown-iam: {}\n{details}{hint}", plain(&self.message))
    }
}
