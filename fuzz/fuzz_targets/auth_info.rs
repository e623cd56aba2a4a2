//! Any text is read as `SSH_AUTH_INFO_0`, without a panic, and a key comes out only of one line that holds it.
//!
//! `cargo +nightly fuzz run auth_info`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockdown_core::keys::auth_info;

fuzz_target!(|text: &str| {
    let info = auth_info::parse(text);
    assert!(info.methods().len() <= auth_info::MAX_METHODS);
    if info.single_plain_key().is_ok() {
        assert_eq!(text.lines().filter(|line| line.starts_with("publickey ")).count(), 1);
    }
});
