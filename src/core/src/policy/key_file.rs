//! Why a key file goes or stays: the one answer to "why was this key removed?".
//!
//! The store under `/run/lockdownd/keys` is the only place for keys of an account that is not exempt. Every other file
//! that sshd's configuration names, or could name, must therefore let nobody in: it holds no line but blanks and
//! comments, and it is no link to a file that might.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys::{file, line::Line};

/// What stands at the path of a key file of an account that is not exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed<'a> {
    /// Nothing.
    Nothing,
    /// A regular file.
    File {
        /// Its bytes.
        content: &'a [u8],
        /// How many names lead to it (hard links).
        names: u64,
    },
    /// A regular file too long to be read.
    LongFile,
    /// Something that could not be read: sshd may yet read it.
    Unreadable,
    /// A symbolic link, there or on the way there below the home.
    Link,
    /// A directory, FIFO, socket or device.
    Inert,
}

/// What has to happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It lets nobody in.
    Keep(WhyKept),
    /// It lets somebody in, or may.
    Remove(WhyRemoved),
}

/// Why a path is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyKept {
    /// There is nothing.
    Nothing,
    /// Only blank lines and comments.
    HoldsNoKey,
    /// sshd reads keys from regular files only (auth2-pubkeyfile.c).
    NotAFile,
}

/// Why a key file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhyRemoved {
    /// At least one line is a key to sshd, and no grant puts keys here.
    HoldsKeys,
    /// No line is a key by our reading, but one is neither blank nor a comment: some sshd may read it as a key.
    HoldsUnreadableLines,
    /// Longer than what is read: keys may stand anywhere in it.
    TooLong,
    /// It could not be read, but may be readable later.
    CannotBeRead,
    /// A link: what it leads to can become a key file at any time.
    IsLink,
    /// It holds nothing, but has another name, by which keys could be written into it without anybody being told.
    HasOtherNames,
}

impl WhyRemoved {
    /// The reason as one sentence a person can read.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::HoldsKeys => "it held keys that no grant puts there",
            Self::HoldsUnreadableLines => {
                "it held a line that is neither blank nor a comment, which sshd may read as a key"
            }
            Self::TooLong => "it was too long to be read, and keys may have stood anywhere in it",
            Self::CannotBeRead => "it could not be read, and may have held keys",
            Self::IsLink => "a symbolic link stood there, and may have led to keys at any time",
            Self::HasOtherNames => "it had another name, by which keys could have been written into it unseen",
        }
    }

    /// The reason as the word that a record holds.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::HoldsKeys => "holds_keys",
            Self::HoldsUnreadableLines => "holds_unreadable_lines",
            Self::TooLong => "too_long",
            Self::CannotBeRead => "cannot_be_read",
            Self::IsLink => "is_link",
            Self::HasOtherNames => "has_other_names",
        }
    }
}

impl fmt::Display for WhyRemoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// Judges what stands at the path of a key file.
pub fn judge_key_file(observed: Observed<'_>) -> Verdict {
    match observed {
        Observed::Nothing => Verdict::Keep(WhyKept::Nothing),
        Observed::Inert => Verdict::Keep(WhyKept::NotAFile),
        Observed::Link => Verdict::Remove(WhyRemoved::IsLink),
        Observed::LongFile => Verdict::Remove(WhyRemoved::TooLong),
        Observed::Unreadable => Verdict::Remove(WhyRemoved::CannotBeRead),
        Observed::File { content, names } => match judge_lines(content) {
            Verdict::Keep(_) if names > 1 => Verdict::Remove(WhyRemoved::HasOtherNames),
            verdict => verdict,
        },
    }
}

/// Stops at the first key: the time it takes is what a key lives.
fn judge_lines(content: &[u8]) -> Verdict {
    let mut unreadable = false;
    for line in file::lines(content) {
        match line {
            Line::Blank(_) | Line::Comment(_) => {}
            Line::Entry(_) => return Verdict::Remove(WhyRemoved::HoldsKeys),
            Line::Unreadable(_) => unreadable = true,
        }
    }
    if unreadable { Verdict::Remove(WhyRemoved::HoldsUnreadableLines) } else { Verdict::Keep(WhyKept::HoldsNoKey) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHMzbIKLxIz9G0FfFEIfFWxnh5nYVWWSF6WBRk4N7hJ frank";

    fn of(content: &[u8]) -> Verdict {
        judge_key_file(Observed::File { content, names: 1 })
    }

    #[test]
    fn a_file_of_blanks_and_comments_stays() {
        for content in ["", "\n", "# nothing here\n\n \t\n#", "#", "\n\n"] {
            assert_eq!(of(content.as_bytes()), Verdict::Keep(WhyKept::HoldsNoKey), "{content:?}");
        }
    }

    #[test]
    fn a_file_with_one_key_anywhere_goes() {
        for content in [KEY.to_owned(), format!("# me\n\n  {KEY}"), format!("junk\n{KEY}\n"), format!("\0\n{KEY}\r\n")]
        {
            assert_eq!(of(content.as_bytes()), Verdict::Remove(WhyRemoved::HoldsKeys), "{content:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_goes_too() {
        for content in ["ssh-new AAAA", "\0", "\u{feff}", "command=\"x ssh-ed25519"] {
            assert_eq!(of(content.as_bytes()), Verdict::Remove(WhyRemoved::HoldsUnreadableLines), "{content:?}");
        }
    }

    #[test]
    fn an_empty_file_with_another_name_goes_and_its_keys_are_the_better_reason() {
        let twice = |content: &'static [u8]| judge_key_file(Observed::File { content, names: 2 });
        assert_eq!(twice(b"# nothing"), Verdict::Remove(WhyRemoved::HasOtherNames));
        assert_eq!(twice(KEY.as_bytes()), Verdict::Remove(WhyRemoved::HoldsKeys));
    }

    #[test]
    fn what_cannot_be_looked_into_goes_and_what_sshd_never_reads_stays() {
        assert_eq!(judge_key_file(Observed::Link), Verdict::Remove(WhyRemoved::IsLink));
        assert_eq!(judge_key_file(Observed::LongFile), Verdict::Remove(WhyRemoved::TooLong));
        assert_eq!(judge_key_file(Observed::Unreadable), Verdict::Remove(WhyRemoved::CannotBeRead));
        assert_eq!(judge_key_file(Observed::Inert), Verdict::Keep(WhyKept::NotAFile));
        assert_eq!(judge_key_file(Observed::Nothing), Verdict::Keep(WhyKept::Nothing));
    }

    proptest! {
        #[test]
        fn a_file_stays_exactly_if_the_survey_finds_nothing_in_it(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let stays = matches!(of(&content), Verdict::Keep(_));
            prop_assert_eq!(stays, !file::survey(&content).holds_anything());
        }

        #[test]
        fn a_key_is_found_whatever_stands_around_it(before in "[^\n]{0,40}\n", after in "\n[^\n]{0,40}") {
            let verdict = of(format!("{before}{KEY}{after}").as_bytes());
            prop_assert!(matches!(verdict, Verdict::Remove(_)));
        }
    }
}
