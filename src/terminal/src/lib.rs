//! What programs show people at a terminal, and read from them: safe text, colour, tables, moments.
//!
//! What is piped, or asked for as JSON, is the bare text.

pub mod moment;
pub mod paint;
pub mod table;

use std::io::{self, Write};

use serde::Serialize;

use crate::paint::Paint;

/// JSON on several lines, ending in a newline. Characters that could act on a terminal are written as `\uNNNN`, which
/// means the same: outside of strings JSON has none of them but the newlines that we put there.
///
/// # Panics
/// Where a value's own `Serialize` fails.
#[must_use]
pub fn pretty<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string_pretty(value).expect("answers hold nothing that JSON cannot");
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if c == '\n' || !acts(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out.push('\n');
    out
}

/// Text on one line, with nothing in it that could act on a terminal. What the daemon sends is escaped already: a
/// backslash stays as it is.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { out.push_str(&record::escape(c.encode_utf8(&mut [0; 4]).as_bytes())) } else { out.push(c) }
    }
    out
}

/// Whether a terminal could do anything but show this character: what a record escapes, the backslash aside.
fn acts(c: char) -> bool {
    !matches!(c, ' '..='~') && record::escape(c.encode_utf8(&mut [0; 4]).as_bytes()) != c.to_string()
}

/// Sentences with a mark before each, for notes and the like, broken where a terminal ends.
#[must_use]
pub fn bullets(lines: &[String], paint: Paint) -> String {
    lines.iter().map(|line| format!("  - {}\n", paint.wrap(&plain(line), 4))).collect()
}

/// Writes text to standard output; whether its reader is still there.
///
/// # Errors
/// A full disk and the like, but not a reader who has left.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Writes what went wrong to standard error. Where even that fails there is nobody left to tell.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_printed_and_nothing_is_escaped_twice() {
        assert_eq!(plain("a\\x1b b\\\\c é 漢"), "a\\x1b b\\\\c é 漢");
        assert_eq!(plain("a\x1b]0;x\x07\u{202e}\u{9b}"), "a\\x1b]0;x\\x07\\xe2\\x80\\xae\\xc2\\x9b");
    }

    #[test]
    fn json_keeps_its_meaning_with_such_characters_in_it() {
        let value = vec!["a\u{7f}\u{9b}\u{202e}\u{e0001}\n\\"];
        let json = pretty(&value);
        assert_eq!(json, "[\n  \"a\\u007f\\u009b\\u202e\\udb40\\udc01\\n\\\\\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), value);
    }
}
