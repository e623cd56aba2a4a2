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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ssh_key::public::{Ed25519PublicKey, KeyData};

    use super::*;
    use crate::keys::{
        key::Key,
        test_keys::{CERTIFICATE, ED25519, ED25519_FINGERPRINT, P256, P256_FINGERPRINT, almost_lines},
    };

    #[test]
    fn a_survey_counts_each_kind_and_names_each_key_once() {
        let file = format!(
            "# keys\n\n{ED25519} a\n \t\r\nrestrict {ED25519} b\ncert-authority {P256}\nunknown {P256}\n{CERTIFICATE}\n\0\n{ED25519}"
        );
        let survey = survey(file.as_bytes());
        let counts =
            (survey.entries, survey.authorities, survey.unreadable, survey.blank, survey.comments, survey.more);
        assert_eq!(counts, (4, 1, 3, 2, 1, 0));
        let named: Vec<&str> = survey.fingerprints.iter().map(Fingerprint::as_str).collect();
        assert_eq!(named, [ED25519_FINGERPRINT, P256_FINGERPRINT]);
        assert!(survey.holds_anything());
    }

    #[test]
    fn comments_and_blank_lines_alone_hold_nothing() {
        assert!(!survey(b"").holds_anything());
        assert!(!survey(b"\n# put there by the image\n\r\n\t\n").holds_anything());
        assert!(survey(b"# then this\nhello\n").holds_anything());
        assert!(survey(b"\0").holds_anything());
    }

    #[test]
    fn past_its_bound_a_survey_only_counts() {
        let mut file = String::new();
        for number in 0..=u16::try_from(MAX_FINGERPRINTS).expect("small") {
            let mut point = [0; 32];
            point[..2].copy_from_slice(&number.to_be_bytes());
            let key = Key::new(KeyData::Ed25519(Ed25519PublicKey(point)));
            file.push_str(&format!("ssh-ed25519 {}\n", key.base64()));
        }
        let survey = survey(file.as_bytes());
        assert_eq!((survey.entries, survey.fingerprints.len(), survey.more), (257, 256, 1));
    }

    proptest! {
        #[test]
        fn the_lines_put_together_are_the_file(content in almost_lines()) {
            let together: Vec<u8> = lines(&content).flat_map(|line| line.raw().to_vec()).collect();
            prop_assert_eq!(&together, &content);
            let survey = survey(&content);
            let counted = survey.entries + survey.unreadable + survey.blank + survey.comments;
            prop_assert_eq!(counted, lines(&content).count() as u64);
        }
    }
}
