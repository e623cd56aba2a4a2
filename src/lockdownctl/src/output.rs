//! What goes to standard output and error, made safe for a terminal. A reader who has left (a closed pipe) is no error.

use control::Exit;
use serde::Serialize;
pub(crate) use terminal::{bullets, complain, plain, pretty, print};

use crate::ask::Failure;

/// What a command has to say, and its exit status.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Done {
    /// Text with its newlines, ready to be written.
    pub(crate) text: String,
    pub(crate) exit: Exit,
}

impl Done {
    pub(crate) fn new(text: String) -> Self {
        Self { text, exit: Exit::Done }
    }

    pub(crate) fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// `value` as JSON for programs or, if not `json`, in words.
pub(crate) fn show<T: Serialize>(json: bool, value: &T, words: impl FnOnce(&T) -> String) -> Done {
    Done::new(if json { pretty(value) } else { words(value) })
}

/// Tells how it went, and returns the exit status.
pub(crate) fn finish(json: bool, result: Result<Done, Failure>) -> Exit {
    let (text, exit) = match result {
        Ok(done) => (done.text, done.exit),
        Err(failure) => {
            complain(&failure.words());
            (if json { failure.json() } else { String::new() }, failure.exit())
        }
    };
    match print(&text) {
        Ok(_) => exit,
        Err(error) => {
            complain(&format!("lockdownctl: standard output: {error}\n"));
            if exit == Exit::Done { Exit::Refused } else { exit }
        }
    }
}
