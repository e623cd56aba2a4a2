//! One line of an `authorized_keys` file, as sshd takes it apart.
//!
//! sshd first looks for a key at the line's start; failing that, it skips what could be options and looks again. It reads
//! C strings, so nothing past a NUL counts. The line's own bytes are always kept; none is ever changed.

use super::{
    key::Key,
    options::{self, OptionError, Options},
    wire::{self, BlobError, KeyType},
};

/// One line, with its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// White space, or nothing.
    Blank(&'a [u8]),
    /// A comment: its first character other than blank and tab is `#`.
    Comment(&'a [u8]),
    /// A line that lets somebody in: whoever holds the key or, behind `cert-authority`, a certificate signed by it.
    Entry(Entry<'a>),
    /// A line that, as far as this program can tell, lets nobody in. Another version of sshd may think otherwise.
    Unreadable(Unreadable<'a>),
}

/// A line that sshd takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The whole line, line end included.
    pub raw: &'a [u8],
    /// The options before the key.
    pub options: Options<'a>,
    /// The key.
    pub key: Key,
    /// What follows the key and its blanks, up to a NUL or the line's end.
    pub comment: &'a [u8],
}

/// A line that sshd takes nothing from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable<'a> {
    /// The whole line, line end included.
    pub raw: &'a [u8],
    /// What is wrong with it.
    pub why: Why,
    /// The key, where there is one and only the options before it are wrong.
    pub key: Option<Key>,
}

/// What keeps a line from letting anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A NUL comes before anything else.
    #[error("the line starts with a NUL")]
    Nul,
    /// No word in it names a type of key where one should stand.
    #[error("no key is in it, or one of an unknown type")]
    NoKey,
    /// A certificate: sshd looks for keys only.
    #[error("a certificate is in it, and sshd takes only keys")]
    Certificate,
    /// The base64 does not hold the type of key that the word before it names.
    #[error("the key is of another type than the line says")]
    OtherType,
    /// The key's data cannot be read.
    #[error(transparent)]
    Blob(BlobError),
    /// The options are refused.
    #[error(transparent)]
    Options(OptionError),
}

impl<'a> Line<'a> {
    /// Reads one line. `raw` is the line with its `\n`, where it has one; a `\n` before the end counts as white space.
    #[must_use]
    pub fn parse(raw: &'a [u8]) -> Self {
        let body = raw.strip_suffix(b"\n").unwrap_or(raw);
        let text = &body[..body.iter().position(|byte| *byte == 0).unwrap_or(body.len())];
        let text = skip_blanks(text);
        if text.iter().all(|byte| wire::is_space(*byte)) {
            return if body.contains(&0) {
                Self::Unreadable(Unreadable { raw, why: Why::Nul, key: None })
            } else {
                Self::Blank(raw)
            };
        }
        if text.starts_with(b"#") {
            return Self::Comment(raw);
        }
        match read(text) {
            Ok((before, key, comment)) => match options::parse(before) {
                Ok(options) => Self::Entry(Entry { raw, options, key, comment }),
                Err(error) => Self::Unreadable(Unreadable { raw, why: Why::Options(error), key: Some(key) }),
            },
            Err(why) => Self::Unreadable(Unreadable { raw, why, key: None }),
        }
    }

    /// The line's own bytes, line end included: put together again, a file's lines are the file.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        match self {
            Self::Blank(raw) | Self::Comment(raw) => raw,
            Self::Entry(entry) => entry.raw,
            Self::Unreadable(unreadable) => unreadable.raw,
        }
    }
}

/// What stands before the key (nothing, or what should be options), the key, and what comes after it.
fn read(text: &[u8]) -> Result<(&[u8], Key, &[u8]), Why> {
    let first = match read_key(text) {
        Ok((key, after)) => return Ok((b"", key, after)),
        Err(why) => why,
    };
    let (before, rest) = text.split_at(options::length(text).map_err(Why::Options)?);
    match read_key(skip_blanks(rest)) {
        Ok((key, after)) => Ok((before, key, after)),
        // Of the two attempts, the one that got further says what is wrong.
        Err(Why::NoKey) => Err(first),
        Err(second) => Err(second),
    }
}

/// The type, the base64 and the blanks after it, at the start of `text`.
fn read_key(text: &[u8]) -> Result<(Key, &[u8]), Why> {
    let (word, rest) = split_word(text);
    let named = KeyType::from_word(word).ok_or(Why::NoKey)?;
    if named == KeyType::Certificate {
        return Err(Why::Certificate);
    }
    let (base64, rest) = split_word(skip_blanks(rest));
    let (found, data) = wire::read_base64(base64).map_err(Why::Blob)?;
    if found == named { Ok((Key::new(data), skip_blanks(rest))) } else { Err(Why::OtherType) }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| is_blank(**byte)).count()..]
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len()))
}

/// What parts one word from the next: blank and tab, and no other white space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::test_keys::{CERTIFICATE, ED25519, ED25519_FINGERPRINT, RSA, almost_lines};

    fn why(line: &str) -> Why {
        match Line::parse(line.as_bytes()) {
            Line::Unreadable(unreadable) => unreadable.why,
            other => panic!("{line:?} was read as {other:?}"),
        }
    }

    fn entry(line: &[u8]) -> Entry<'_> {
        match Line::parse(line) {
            Line::Entry(entry) => entry,
            other => panic!("{line:?} was read as {other:?}"),
        }
    }

    #[test]
    fn options_key_and_comment_are_told_apart() {
        let line = format!("\t restrict,command=\"a b # \\\"c\\\"\" \t{ED25519}  frank@laptop here\r\n");
        let entry = entry(line.as_bytes());
        assert_eq!(entry.raw, line.as_bytes());
        assert_eq!(entry.options.raw, b"restrict,command=\"a b # \\\"c\\\"\"");
        assert_eq!(entry.key.fingerprint().as_str(), ED25519_FINGERPRINT);
        assert_eq!(entry.comment, b"frank@laptop here\r");
    }

    #[test]
    fn nothing_past_a_nul_is_read() {
        assert_eq!(entry(format!("{ED25519} frank\0{RSA}\n").as_bytes()).comment, b"frank");
        assert_eq!(why("\0# a comment to nobody\n"), Why::Nul);
        assert_eq!(why("restrict\0 ssh-ed25519\n"), Why::NoKey);
    }

    #[test]
    fn white_space_is_blank_and_a_number_sign_begins_a_comment() {
        for blank in ["", "\n", " \t\n", "\r\n", " \r \u{b}\n"] {
            assert_eq!(Line::parse(blank.as_bytes()), Line::Blank(blank.as_bytes()), "{blank:?}");
        }
        for comment in ["#", "# ssh\n", " \t#\0\n"] {
            assert_eq!(Line::parse(comment.as_bytes()), Line::Comment(comment.as_bytes()), "{comment:?}");
        }
    }

    #[test]
    fn a_line_that_lets_nobody_in_says_why() {
        assert_eq!(why("hello world\n"), Why::NoKey);
        assert_eq!(why("ssh-ed25519"), Why::Blob(BlobError::Damaged));
        assert_eq!(why("ssh-ed25519 A!\n"), Why::Blob(BlobError::Base64));
        assert_eq!(why("command=\"x ssh-ed25519 AAAA\n"), Why::Options(OptionError::OpenQuote));
        assert_eq!(why(&format!("unknown {ED25519}\n")), Why::Options(OptionError::Unknown));
        assert_eq!(why(CERTIFICATE), Why::Certificate);
        assert_eq!(why(&ED25519.replace("ssh-ed25519 ", "ssh-rsa ")), Why::OtherType);
    }

    #[test]
    fn a_key_behind_refused_options_is_still_named() {
        let line = format!("unknown {ED25519}\n");
        let Line::Unreadable(Unreadable { key: Some(key), .. }) = Line::parse(line.as_bytes()) else {
            panic!("{:?}", Line::parse(line.as_bytes()));
        };
        assert_eq!(key.fingerprint().as_str(), ED25519_FINGERPRINT);
    }

    #[test]
    fn white_space_inside_base64_does_not_hide_a_key() {
        let line = ED25519.replace("AAAA", "\rAA\u{b}\u{c}AA");
        assert_eq!(entry(line.as_bytes()).key.fingerprint().as_str(), ED25519_FINGERPRINT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_kept(raw in almost_lines()) {
            prop_assert_eq!(Line::parse(&raw).raw(), raw.as_slice());
        }

        #[test]
        fn the_same_key_is_found_behind_any_command(command in "[ -~]{0,40}", comment in "[ -~]{0,20}") {
            // A backslash at the end would take the closing quote with it.
            let quoted = command.trim_end_matches('\\').replace('"', "\\\"");
            let line = format!("command=\"{quoted}\" {ED25519} {comment}");
            prop_assert_eq!(entry(line.as_bytes()).key.fingerprint().to_string(), ED25519_FINGERPRINT);
        }
    }
}
