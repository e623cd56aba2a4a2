//! The only callers of privileged system calls, and the only openers of paths that a user can influence.

pub mod accounts;
pub mod async_fd;
pub mod clock;
pub mod connection;
pub mod home_watch;
pub mod identity;
pub mod key_store;
pub mod pam;
pub mod paths;
pub mod processes;
pub mod quarantine;
pub mod readiness;
pub mod sshd;
