//! A whole `authorized_keys` file: its lines, and what there is to say of it in a record.
//!
//! It must never hold a file against its bounds: whoever reads one bounds it first.

use std::collections::HashSet;

use record::Fingerprint;

use super::line::{Line, Unreadable};

/// The most fingerprints that one [`Survey`] names; the others are counted.
pub const MAX_FINGERPRINTS: usize = 256;

/// The lines of a file. As in getline(3), only `\n` ends one, and the last may lack it. Their bytes, one after the other,
/// are the file.
pub fn lines(content: &[u8]) -> impl Iterator<Item = Line<'_>> {
    content.split_inclusive(|byte| *byte == b'\n').map(Line::parse)
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Lines that let somebody in.
    pub entries: u64,
    /// Of these, lines that let in every certificate that their key has signed.
    pub authorities: u64,
    /// Lines that, as far as this program can tell, let nobody in, and yet are neither blank nor a comment.
    pub unreadable: u64,
    /// Lines with nothing but white space.
    pub blank: u64,
    /// Comments.
    pub comments: u64,
    /// The keys, each once, in the file's order, those of lines with refused options included; at most
    /// [`MAX_FINGERPRINTS`].
    pub fingerprints: Vec<Fingerprint>,
    /// Lines with a key that is not among `fingerprints`, because these were too many.
    pub more: u64,
}

impl Survey {
    /// Whether any line is neither blank nor a comment: where a line cannot be read, it may still be a key to some sshd.
    #[must_use]
    pub fn holds_anything(&self) -> bool {
        self.entries > 0 || self.unreadable > 0
    }
}

/// Counts a file's lines and names its keys. The time it takes grows with the file's size alone.
#[must_use]
pub fn survey(content: &[u8]) -> Survey {
    let mut survey = Survey::default();
    let mut named = HashSet::new();
    for line in lines(content) {
        let key = match line {
            Line::Blank(_) => {
                survey.blank += 1;
                continue;
            }
            Line::Comment(_) => {
                survey.comments += 1;
                continue;
            }
            Line::Entry(entry) => {
                survey.entries += 1;
                survey.authorities += u64::from(entry.options.cert_authority);
                entry.key
            }
            Line::Unreadable(Unreadable { key, .. }) => {
                survey.unreadable += 1;
                let Some(key) = key else { continue };
                key
            }
        };
        let fingerprint = key.fingerprint();
        if named.contains(&fingerprint) {
            continue;
        }
        if named.len() < MAX_FINGERPRINTS {
            survey.fingerprints.push(fingerprint.clone());
            named.insert(fingerprint);
        } else {
            survey.more += 1;
        }
    }
    survey
}
