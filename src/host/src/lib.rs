//! The only callers of privileged system calls, and the only openers of paths that a user can influence.

pub mod accounts;
pub mod admission;
pub mod async_fd;
mod child;
pub mod client;
pub mod clock;
pub mod config_files;
pub mod connection;
pub mod doors;
pub mod file_state;
pub mod held;
pub mod home_watch;
pub mod identity;
pub mod inbox;
pub mod jobs;
pub mod journal_reader;
pub mod key_store;
pub mod left_behind;
pub mod listening;
pub mod logins;
pub mod mounts;
pub mod name_service;
pub mod pam;
pub mod paths;
pub mod peer;
pub mod penalties;
pub mod processes;
pub mod programs;
pub mod quarantine;
pub mod readiness;
pub mod shipper;
pub mod sockets;
pub mod sshd;
pub mod terminal;
pub mod users_sshd;
pub mod ways_in;
pub mod writers;

/// A random number from the kernel (getrandom(2)), for ids that nobody has used before.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    loop {
        // Once the kernel's generator has been seeded, eight bytes are never cut short; before, and on a signal, ask again.
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) == Ok(bytes.len()) {
            return u64::from_ne_bytes(bytes);
        }
    }
}
