//! What a command has to say: the answer to standard output, what is going on meanwhile to standard error.

use serde::Serialize;
use terminal::{complain, paint::Paint, pretty, print};

use crate::failure::{Exit, Failure};

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
}

impl Voice {
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
