//! What is wrong with a configuration: every problem with its place and with what would have worked. This never decides anything.

use std::fmt;

use super::place::Place;

/// The most problems that one refusal spells out; the rest is counted.
pub const MAX_PROBLEMS: usize = 20;

/// The most characters of a value that a complaint repeats.
pub(super) const MAX_QUOTED: usize = 64;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What would work.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if self.instead.is_empty() { Ok(()) } else { write!(f, "; {}", self.instead) }
    }
}

/// A configuration that does not check out. Printed, it takes one line per problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
    unlisted: usize,
}

impl Error {
    /// The problems, in the order of the files: at least one, at most [`MAX_PROBLEMS`].
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len() + self.unlisted
    }

    /// The first problem, and how many more there are: for a record's one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.problems.first(), self.count()) {
            (Some(first), 1) => first.to_string(),
            (Some(first), n) => format!("{first} (and {} more)", n - 1),
            (None, _) => "no problem".to_owned(),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        if self.unlisted > 0 { write!(f, "\nand {} more", self.unlisted) } else { Ok(()) }
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    unlisted: usize,
    unread: bool,
}

impl Problems {
    pub(super) fn add(&mut self, place: &Place, what: impl Into<String>, instead: impl Into<String>) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(Problem { place: place.clone(), what: what.into(), instead: instead.into() });
        } else {
            self.unlisted += 1;
        }
    }

    /// A file that could not be read or is no TOML: what it would have said is missing from then on, so that
    /// judging one file against another would only find things that are not so.
    pub(super) fn add_unread(&mut self, place: &Place, what: impl Into<String>, instead: impl Into<String>) {
        self.unread = true;
        self.add(place, what, instead);
    }

    pub(super) fn some_file_is_missing(&self) -> bool {
        self.unread
    }

    /// Nothing found: `value`; else the refusal.
    pub(super) fn or<T>(self, value: T) -> Result<T, Error> {
        if self.list.is_empty() { Ok(value) } else { Err(Error { problems: self.list, unlisted: self.unlisted }) }
    }
}

/// A value as a complaint may repeat it: quoted, escaped, cut.
pub(super) fn quoted(value: &str) -> String {
    if value.chars().count() <= MAX_QUOTED {
        format!("{value:?}")
    } else {
        format!("{:?}…", value.chars().take(MAX_QUOTED).collect::<String>())
    }
}
