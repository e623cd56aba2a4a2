//! `authorized_keys`, read by sshd's own rules, and the keys that this host's people may log in with.
//!
//! Duty: say which keys a file would let in, byte for byte as sshd reads it; hold people's keys; write the lines of our
//! own key store; read what sshd tells PAM about the key it verified. Where sshd's answer is in doubt, the reading errs
//! towards "this line lets somebody in".
//!
//! May never: do I/O, read a clock, panic on any input, or paste input into what it writes.

pub mod auth_info;
pub mod file;
pub mod key;
pub mod line;
pub mod options;
pub mod person;
pub mod revoked;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod test_keys;
pub mod wire;
