//! The only callers of privileged system calls, and the only openers of paths that a user can influence.

pub mod async_fd;
pub mod clock;
pub mod connection;
pub mod pam;
pub mod processes;
pub mod sshd;
