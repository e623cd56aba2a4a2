//! Any bytes are read as a key file, without a panic, and none is lost.
//!
//! `mkdir -p fuzz/corpus/authorized_keys && cargo +nightly fuzz run authorized_keys fuzz/corpus/authorized_keys
//! tests/data/authorized_keys_lines`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockdown_core::keys::{
    file::{self, MAX_FINGERPRINTS},
    line::Line,
    person::PersonKey,
};

fuzz_target!(|content: &[u8]| {
    let mut together = Vec::with_capacity(content.len());
    for line in file::lines(content) {
        together.extend_from_slice(line.raw());
        if let Line::Entry(entry) = &line {
            // The key in its plain spelling is the same key, and without options it is an entry whatever they were.
            let plain = format!("{} {}", entry.key.algorithm(), entry.key.base64());
            let Line::Entry(again) = Line::parse(plain.as_bytes()) else { panic!("{plain} is no entry") };
            assert_eq!(again.key, entry.key);
            assert!(again.options.raw.is_empty());
            // A person's key, where it is fit for one, is spelt like that and no other way.
            if let Ok(key) = PersonKey::parse(&plain) {
                assert_eq!(key.fingerprint(), entry.key.fingerprint());
            }
        }
    }
    assert_eq!(together, content);
    let survey = file::survey(content);
    assert!(survey.fingerprints.len() <= MAX_FINGERPRINTS);
    assert_eq!(survey.holds_anything(), survey.entries + survey.unreadable > 0);
});
