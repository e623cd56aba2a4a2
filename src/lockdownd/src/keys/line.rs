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
