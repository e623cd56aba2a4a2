//! What a command has to say: the answer to standard output, what is going on meanwhile to standard error.

use std::io::{self, BufRead, IsTerminal, Read};

use serde::Serialize;
use terminal::{complain, paint::Paint, pretty, print};

use crate::failure::{Exit, Failure};

/// How much of an answer at the terminal is read, in bytes.
const MAX_ANSWER: u64 = 64;

/// What a command has to say, and its exit status.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Done {
    /// Text with its newlines, ready to be written.
    pub(crate) text: String,
    pub(crate) exit: Exit,
}

impl Done {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: Exit::Done }
    }

    pub(crate) fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// For whom text is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    /// Whether a program reads the answer.
    pub(crate) json: bool,
    /// Whether standard output shows colour.
    pub(crate) paint: Paint,
    /// Whether standard error does.
    pub(crate) aside: Paint,
}

impl Voice {
    /// By what standard output and standard error are.
    pub(crate) fn of(json: bool) -> Self {
        let paint = Paint::of_stdout(json);
        let aside = if io::stderr().is_terminal() { paint } else { Paint::NONE };
        Self { json, paint, aside }
    }

    /// Without colour.
    pub(crate) fn plain(json: bool) -> Self {
        Self { json, paint: Paint::NONE, aside: Paint::NONE }
    }

    /// Asks somebody at the terminal whether to sign what was shown.
    ///
    /// # Errors
    /// They say no; or nobody is there, and `otherwise` would have worked.
    pub(crate) fn confirm(self, otherwise: &str) -> Result<(), Failure> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::usage("nobody is at a terminal who could say yes to what is shown").but(otherwise));
        }
        complain("sign this? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer);
        match read {
            Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            _ => Err(Failure::refused("not_signed", "nothing was signed")),
        }
    }

    /// `value` as JSON for programs, or in words.
    pub(crate) fn show<T: Serialize>(self, value: &T, words: impl FnOnce(&T) -> String) -> Done {
        Done::new(if self.json { pretty(value) } else { words(value) })
    }

    /// Says what is going on, to whoever watches. Its text is safe for a terminal already.
    pub(crate) fn say(self, text: &str) {
        complain(text);
    }
}

/// Tells how it went, and returns the exit status.
pub(crate) fn finish(json: bool, result: Result<Done, Failure>) -> Exit {
    let (text, exit) = match result {
        Ok(done) => (done.text, done.exit),
        Err(failure) => {
            complain(&failure.words());
            (if json { failure.json() } else { String::new() }, failure.exit)
        }
    };
    match print(&text) {
        Ok(_) => exit,
        Err(error) => {
            complain(&format!("lockdown: standard output: {error}\n"));
            if exit == Exit::Done { Exit::Refused } else { exit }
        }
    }
}
