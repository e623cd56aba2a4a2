//! Where in the configuration something stands, so that every complaint can name it. This never reads a file.

use std::{fmt, sync::Arc};

/// A place in a configuration file. Line and column count from 1, columns in characters; line 0 means the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named when it was read; control characters escaped.
    pub file: Arc<str>,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// The column in characters, from 1; 0 for the whole file.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn whole(file: &str) -> Self {
        Self { file: file.escape_debug().to_string().into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One file's text, able to say where an offset is.
#[derive(Debug)]
pub(super) struct Source<'t> {
    whole: Place,
    pub(super) text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(name: &str, text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { whole: Place::whole(name), text, line_starts }
    }

    /// The place of a byte offset; offsets past the end are the end.
    pub(super) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let before = String::from_utf8_lossy(&self.text.as_bytes()[start..offset]);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: self.whole.file.clone(), line: count(line), column: count(before.chars().count() + 1) }
    }

    pub(super) fn whole(&self) -> Place {
        self.whole.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_becomes_a_line_and_a_column_in_characters() {
        let source = Source::new("a.toml", "one\ntwö three\n\nlast");
        let at = |needle: &str| source.place(source.text.find(needle).expect("it is there")).to_string();
        assert_eq!(at("one"), "a.toml:1:1");
        assert_eq!(at("three"), "a.toml:2:5");
        assert_eq!(at("last"), "a.toml:4:1");
        assert_eq!(source.place(usize::MAX).to_string(), "a.toml:4:5");
        assert_eq!(source.whole().to_string(), "a.toml");
    }

    #[test]
    fn a_file_name_with_a_newline_cannot_forge_a_second_line() {
        assert_eq!(Place::whole("a\nb.toml").to_string(), "a\\nb.toml");
    }
}
